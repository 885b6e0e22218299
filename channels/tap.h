/* Taps: copies of what passes through a lane, for whoever looks on (tap.c). */
#ifndef TAP_H
#define TAP_H

#include "message.h"
#include "tap_layout.h"

/* ---- senders, off their usual path: message_check has said MESSAGE_TAPPED ---- */

/* A copy of a message that is about to be sent; all zero: none. */
struct tap_copy {
    struct lane taps; /* where it goes; its lease is ours */
    struct parcel parcel;
    bool made; /* else there was no room for it, and those who tap miss one */
};

/* After message_pack, so that it takes no room from the message. */
void tap_copy(const struct lane *lane, const cue_msg *m, bool system, const struct opened *opened, struct tap_copy *out);
/* The message was sent, and others may have it: so the copy is shown. Or it was not, and the copy is freed. Never waits. */
void tap_end(struct tap_copy *copy, bool sent);

static inline bool lane_is_tapped(const struct lane_head *head)
{
    return __builtin_expect((atomic_load_explicit(&head->gate, seq_cst) & GATE_TAPPED) != 0, 0); /* pairs with: tap_announce */
}

/* ---- who taps ---- */
int tap_channel_open(struct cue_pool *pool, const char *name, const cue_channel_opts *opts, cue_channel **out);
/* The lane is not tapped any more if nobody is left who does. The caller holds it. */
void tap_settle(const struct lane *lane);

#endif
