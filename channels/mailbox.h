/* The mailbox, a kind of lane (lane.h): a process's end of it (mailbox.c), its part of recovery (mailbox_recovery.c). */
#ifndef MAILBOX_H
#define MAILBOX_H

#include "await.h"
#include "mailbox_layout.h"
#include "message.h"

/* A push has seen SLEEP: wakes the receiver, or rings its bell. */
void mailbox_rouse(struct cue_pool *pool, struct mailbox *box);
/* From now on no push succeeds; those who wait for room find out. */
void mailbox_end(struct mailbox *box);
/* Messages handed out or dropped since the lane was made: `passed` brought up to `consumed`. */
uint64_t mailbox_passed(struct mailbox *box);
/* The mailbox in a lane's block that the caller holds; NULL: it makes no sense as one. */
struct mailbox *mailbox_box(struct cue_pool *pool, struct record *rec, uint32_t index);

/* ---- mailbox.c: a process's end of it ---- */
struct link {
    struct record *rec;
    uint32_t index;
};

struct mailbox_channel {
    struct cue_channel base;
    struct lane lane;
    struct mailbox *box;
    int32_t capacity; /* messages that senders let pile up */
    struct halt halt;

    _Alignas(64) _Atomic uint32_t consumed; /* senders: what it was when last looked at */
    _Atomic uint64_t weight_out;            /* the same of box->weight_out */
    _Atomic uint32_t woke_at;               /* the position of the last push for which we woke the receiver */
    _Atomic uint32_t waiting;               /* senders of ours that wait for room */
    _Atomic uint64_t refused_weight;        /* of the message that found none last */

    /* the receiver's own */
    _Alignas(64) uint32_t at; /* position of the last message taken */
    uint32_t owed;            /* taken, not yet added to box->consumed */
    uint32_t seen;            /* position of the head at the last walk */
    uint32_t top, count;      /* of `links`: a stack, oldest on top; when it overflows it keeps the oldest */
    uint32_t mask;
    bool fresh;        /* before the first walk */
    bool near, roused; /* an actor's mailbox, see actor_lane.c: who sends through this is the receiver's thread; a push found SLEEP
                                 and cleared it */
    struct link *links;
    struct near_slabs *near_slabs;  /* as `links`: who only sends has none */
    uint64_t mine;                  /* our word in box->lane.receiver */
    uint64_t passed, bytes, copied; /* as in box */
    uint64_t dropped;               /* what we have told of in gaps */
    struct spin spin;
};

/* Sends one; 1: it went, or was dropped as the lane says. `system`: a message of the library's, see channel_send_system. */
int mailbox_send_one(struct mailbox_channel *ch, const cue_msg *m, bool system, int64_t deadline);
/* Takes up to n that are there; how many. */
int mailbox_take(struct mailbox_channel *ch, cue_msg *out, size_t n);
/* Nothing is there: true, and the next push finds SLEEP. */
bool mailbox_doze(struct mailbox_channel *ch);
/* Until something is there, or why not. */
int mailbox_wait(struct mailbox_channel *ch, int64_t deadline);

/* ---- mailbox_recovery.c ---- */
void mailbox_died(const struct lane *lane, unsigned slot, uint32_t epoch);
bool mailbox_linked(const struct lane *lane, const struct record *rec, uint32_t index);
bool mailbox_walk(const struct lane *lane, lane_visitor *visit, void *arg);

#endif
