/* What the files of a process's end of a topic share: the channel (topic.c), its publisher (topic_publish.c), its subscriber
 * (topic_subscribe.c). A channel may be both. */
#ifndef TOPIC_CHANNEL_H
#define TOPIC_CHANNEL_H

#include "await.h"
#include "message.h"
#include "topic.h"

#include "base/lock.h"

/* A ring as a publisher knows it. */
struct outlet {
    uint64_t word; /* of the table; 0: none */
    uint64_t head; /* where its subscriber was when we last looked */
    uint64_t at;   /* where the present message stands */
    struct feed ring;
};

struct remembered {
    uint32_t index;
    uint64_t generation;
};

struct topic_channel {
    struct cue_channel base;
    struct lane lane;
    struct topic *topic;
    struct halt halt;
    _Atomic uint32_t waiting;            /* threads in a send or a drain that may wait */
    _Atomic uint32_t shut;               /* subscriber: its ring was ended */
    _Atomic(_Atomic uint32_t *) napping; /* where one of them sleeps; only woken there, never written to */

    /* publisher; under the lock */
    struct lock lock;
    struct outlet *outlets; /* TOPIC_PLACES */
    uint64_t open[2];       /* places with an outlet */
    uint32_t changes;       /* of the table, when we last looked */
    bool looked;

    /* subscriber */
    struct feed ring;
    struct near_slabs near_slabs;
    cue_block block;                                     /* of the ring: an owner */
    uint64_t word;                                       /* in the table */
    uint64_t at, skipped, received, bytes, copied, peak; /* skipped: it stood in the ring and was taken out as old */
    uint64_t gaps;                                       /* what we have told of */
    struct feed_taken *past;                             /* from the history, leased: to be handed out first */
    struct remembered *twice;
    size_t npast, ntwice;
    _Atomic size_t pastat; /* by the thread that receives; others look at it */
    struct spin spin;

    /* a tap, see tap.c */
    struct lane tapped;
    uint64_t tap_bytes; /* of each message, at most */
};

extern const struct channel_ops topic_ops; /* topic.c */

static inline struct topic_channel *topic_channel_of(cue_channel *ch)
{
    return (struct topic_channel *)(void *)ch;
}

/* ---- topic.c ---- */
/* One nap on a ring's word for room. */
int topic_nap(struct topic_channel *ch, _Atomic uint32_t *room, uint32_t seen, int64_t nap);
void topic_waits_end(struct topic_channel *ch);
/* A place of the table has changed: publishers look at it again. */
static inline void topic_changed(struct topic *topic)
{
    atomic_fetch_add_explicit(&topic->changes, 1, seq_cst); /* pairs with: outlets_look */
}

/* ---- topic_publish.c ---- */
int topic_send_many(cue_channel *base, const cue_msg *m, size_t n, int64_t deadline);
int publisher_drain(struct topic_channel *ch, int64_t deadline);
bool publisher_doze(struct topic_channel *ch, struct channel_sleep *on);
/* One message to all who subscribe now, by who keeps no end of the topic; never waits. true: it is theirs. `parcel` NULL: they all miss
 * one. */
bool topic_publish_once(const struct lane *lane, const struct parcel *parcel);
/* Gives its leases on the subscribers' rings back. */
void publisher_close(struct topic_channel *ch);
/* In a forked child: the leases were the parent's. */
void publisher_forked(struct topic_channel *ch);

/* ---- topic_subscribe.c ---- */
/* The first who wants a history makes it. */
int history_make(const struct lane *lane, uint32_t depth);
int subscribe(struct topic_channel *ch, const cue_channel_opts *with);
void unsubscribe(struct topic_channel *ch);
int topic_recv_many(cue_channel *base, cue_msg *out, size_t n, int64_t deadline);
int topic_shut(cue_channel *base);
int topic_discard(cue_channel *base);
int subscriber_drain(struct topic_channel *ch, int64_t deadline);
bool subscriber_doze(struct topic_channel *ch, struct channel_sleep *on);

#endif
