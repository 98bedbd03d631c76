#include <errno.h>

#include "vote.h"

void sp_vote_open(struct sp_vote *vote, uint64_t generation) {
    memset(vote, 0, sizeof *vote);
    vote->open = true;
    vote->generation = generation;
}

void sp_vote_close(struct sp_vote *vote) { memset(vote, 0, sizeof *vote); }

void sp_vote_ask(struct sp_vote *vote, size_t participant) {
    if (participant < SP_COUNT(vote->ballot))
        vote->ballot[participant] = SP_BALLOT_ASKED;
}

int sp_vote_cast(struct sp_vote *vote, size_t participant, uint64_t generation, bool accepted, struct sp_span sentence) {
    if (!vote->open || generation != vote->generation || participant >= SP_COUNT(vote->ballot) ||
        vote->ballot[participant] != SP_BALLOT_ASKED)
        return -EBADMSG;
    vote->ballot[participant] = accepted ? SP_BALLOT_ACCEPTED : SP_BALLOT_REFUSED;
    if (!accepted && vote->sentence[0] == '\0' && sentence.len > 0) {
        size_t len = sp_min(sentence.len, (size_t)SP_SENTENCE_MAX);
        memcpy(vote->sentence, sentence.at, len);
        vote->sentence[len] = '\0';
    }
    return 0;
}

void sp_vote_leave(struct sp_vote *vote, size_t participant) {
    if (participant < SP_COUNT(vote->ballot))
        vote->ballot[participant] = SP_BALLOT_NONE;
}

enum sp_vote_result sp_vote_result(const struct sp_vote *vote) {
    bool refused = false, worker_accepted = false;
    for (size_t i = 0; i < SP_COUNT(vote->ballot); i++) {
        if (vote->ballot[i] == SP_BALLOT_ASKED)
            return SP_VOTE_PENDING;
        refused |= vote->ballot[i] == SP_BALLOT_REFUSED;
        worker_accepted |= i > 0 && vote->ballot[i] == SP_BALLOT_ACCEPTED;
    }
    if (refused)
        return SP_VOTE_REFUSED;
    return worker_accepted ? SP_VOTE_ACCEPTED : SP_VOTE_DESERTED;
}
