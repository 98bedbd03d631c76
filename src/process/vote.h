/* A vote on one configuration generation: who was asked, what each answered, what that makes together. Pure: no clock, no descriptors. */
#ifndef SALLYPORT_PROCESS_VOTE_H
#define SALLYPORT_PROCESS_VOTE_H

#include <sallyport/base.h>
#include <sallyport/ipc.h>

enum sp_vote_result {
    SP_VOTE_PENDING,  /* somebody has not answered */
    SP_VOTE_ACCEPTED, /* everybody who is still there accepted, a worker among them */
    SP_VOTE_REFUSED,  /* all have answered, at least one refused; the first sentence is kept */
    SP_VOTE_DESERTED, /* no worker is left that could accept: they ended over it */
};
enum sp_ballot { SP_BALLOT_NONE, SP_BALLOT_ASKED, SP_BALLOT_ACCEPTED, SP_BALLOT_REFUSED };

struct sp_vote {
    bool open;
    uint64_t generation;
    enum sp_ballot ballot[SP_PROCESSES_MAX];
    char sentence[SP_SENTENCE_MAX + 1]; /* of the first refusal */
};

void sp_vote_open(struct sp_vote *vote, uint64_t generation);
void sp_vote_close(struct sp_vote *vote);
/* Participant 0 is control, the others are workers. Asking again forgets an earlier answer: the process was replaced. */
void sp_vote_ask(struct sp_vote *vote, size_t participant);
/* What a process says is shown to operators: cut to what a sentence may be, with a ? for what a terminal would obey, newlines apart. */
void sp_vote_sentence(struct sp_span said, char ret[SP_SENTENCE_MAX + 1]);
/* -EBADMSG: it was not asked about that generation, or has answered already. */
int sp_vote_cast(struct sp_vote *vote, size_t participant, uint64_t generation, bool accepted, struct sp_span sentence) SP_MUST_USE;
/* It died: whatever it said counts no more. Harmless for one that was not asked. */
void sp_vote_leave(struct sp_vote *vote, size_t participant);
enum sp_vote_result sp_vote_result(const struct sp_vote *vote);

#endif
