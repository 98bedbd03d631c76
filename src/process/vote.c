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

/* C0, DEL, and C1 in UTF-8 (0xc2, then 0x80 to 0x9f). */
void sp_vote_sentence(struct sp_span said, char ret[SP_SENTENCE_MAX + 1]) {
    size_t len = 0;
    for (size_t i = 0; i < said.len && len < SP_SENTENCE_MAX; i++) {
        unsigned char c = (unsigned char)said.at[i], next = i + 1 < said.len ? (unsigned char)said.at[i + 1] : 0;
        bool c0 = (c < 0x20 && c != '\n') || c == 0x7f, c1 = c == 0xc2 && next >= 0x80 && next < 0xa0;
        ret[len++] = c0 || c1 ? '?' : (char)c;
        i += c1;
    }
    ret[len] = '\0';
}

int sp_vote_cast(struct sp_vote *vote, size_t participant, uint64_t generation, bool accepted, struct sp_span sentence) {
    if (!vote->open || generation != vote->generation || participant >= SP_COUNT(vote->ballot) ||
        vote->ballot[participant] != SP_BALLOT_ASKED)
        return -EBADMSG;
    vote->ballot[participant] = accepted ? SP_BALLOT_ACCEPTED : SP_BALLOT_REFUSED;
    if (!accepted && vote->sentence[0] == '\0')
        sp_vote_sentence(sentence, vote->sentence);
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
