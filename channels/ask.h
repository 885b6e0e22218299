/* Requests and answers between channels; see ask.c. */
#ifndef CHANNELS_ASK_H
#define CHANNELS_ASK_H

#include "channel_internal.h"

/* cue_ref.node of those who wait in cue_channel_ask: no machine has that number. The rest of the address is then the low half of
 * their pool's uid and the box in it. */
#define ASK_NODE UINT32_MAX

static inline bool is_question(const cue_msg *m)
{
    return m->from.node == ASK_NODE;
}

/* A question that nobody will answer, as its asker is told: `status`. For others nothing. The caller still has the message. */
void ask_refuse(cue_pool *pool, const cue_msg *m, int status);

/* Recovery: a record that a dead party had taken, and that goes with it. */
void ask_settle(cue_pool *pool, struct record *rec, uint32_t index);

/* What a thread has packed last for cue_channel_ask: message.c writes it. */
struct ask_note {
    uint32_t index;
    uint64_t generation;
    uint64_t number; /* sockets: of the message on its channel; there is no record */
};
extern _Thread_local struct ask_note ask_packed;

/* An answer that came through a socket from who cannot reach the asker's pool; its bytes, then the block's. */
struct ask_far {
    uint32_t type, block_type;
    int32_t status;
    bool has_bytes, has_block;
    uint64_t key;
    size_t nbytes, size;
    char bytes[];
};
/* Gives it to who asks on this channel with that box and tag: true, and it is his, to free. False: nobody, which is counted. Never
 * waits; by any thread. */
bool ask_deliver(cue_channel *ch, cue_ref from, uint64_t tag, struct ask_far *answer);
/* The same with nothing but a status, if it is a question at all. */
void ask_deliver_status(cue_channel *ch, cue_ref from, uint64_t tag, int status);

/* channel.c: those who ask on this channel come out with CUE_EINTR (async-signal-safe), with CUE_ECLOSED; what they used is freed. */
void ask_wake(cue_channel *ch);
void ask_close(cue_channel *ch);
void ask_forked(cue_channel *ch);

/* Answers to addresses of actors; set by the runtime. 1: this process has no system. */
extern int (*ask_reply_to_actor)(const cue_msg *request, const cue_msg *answer);

#endif
