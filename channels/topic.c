/* A topic: each message to all who subscribe, from any number of publishers. (Publishing: topic_publish.c; receiving:
 * topic_subscribe.c; rings: topic_feed.c; deaths: topic_recovery.c; model: topic.pml)
 *
 * Each subscriber, an open channel, has a ring of its own with its own depth and policy; the table in the lane says which there are. A
 * message is one record, put into all rings; nobody copies its payload, and it is freed with its last reader.
 *
 *   subscribe    a ring of ours; table: 0 -> it  !!; changes += 1
 *   publish      grants of the record := all who subscribe now; OWNED -> POSTED  !!
 *                into each ring; where it did not get in, that grant down;  POSTED -> DOOMED: no more links; the last bit frees it
 *   receive      lease; out of the ring  !!; grant down; released: lease down, and freed if nothing else holds it
 *   shut         table: it -> CLOSING  !!; empty slots frozen, and each that is emptied; what is in is still received
 *   unsubscribe  table: it -> CLOSING  !!; all slots frozen, what was in them given back; table: -> 0; the ring freed
 *
 * From DOOMED on the message is a block that was freed while leased, whose viewers are its subscribers: there is no count that the
 * killed could leave wrong. A publisher that is killed before DOOMED has reported nothing; who got the message has it.
 *
 * SLEEPING is on two events of each ring (event.h): its bell for messages, its room for places. A publisher links (seq_cst) and looks
 * whether the subscriber waits for the bell; it calls once for each sleep, however many messages it publishes before the subscriber runs.
 */
#include "topic_channel.h"

#include <limits.h>
#include <stdlib.h>

int topic_nap(struct topic_channel *ch, _Atomic uint32_t *room, uint32_t seen, int64_t nap)
{
    atomic_store_explicit(&ch->napping, room, seq_cst); /* pairs with: topic_waits_end */
    int status = lane_nap(ch->lane.pool, &ch->halt, room, seen, nap);
    atomic_store_explicit(&ch->napping, NULL, seq_cst);
    return status;
}

/* ---- wake, close ---- */

/* Ends futex waits of this channel; those for room are woken where they are, and look at `halt.woken` at the latest after a watch period. */
void topic_waits_end(struct topic_channel *ch)
{
    if (ch->base.how & CUE_RECV)
        feed_wake(&ch->ring);                                                /* pairs with: nap_for_message */
    _Atomic uint32_t *napping = atomic_load_explicit(&ch->napping, seq_cst); /* pairs with: topic_nap */
    if (napping)
        futex_wake(napping, INT_MAX);
}

static void topic_wake(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    atomic_store_explicit(&ch->halt.woken, 1, seq_cst); /* pairs with: interrupted */
    topic_waits_end(ch);
}

static int topic_drain(cue_channel *base, int64_t deadline)
{
    struct topic_channel *ch = topic_channel_of(base);
    atomic_fetch_add_explicit(&ch->waiting, 1, seq_cst); /* pairs with: topic_waits_end, topic_close */
    int status = base->how & CUE_RECV ? subscriber_drain(ch, deadline) : publisher_drain(ch, deadline);
    wake_noticed(base, status);
    atomic_fetch_sub_explicit(&ch->waiting, 1, seq_cst);
    return status;
}

static int topic_close(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    if (base->forks == fork_epoch) {                          /* else it is the parent's */
        atomic_store_explicit(&ch->halt.closing, 1, seq_cst); /* pairs with: interrupted */
        while (atomic_load_explicit(&base->receiving, acquire) || atomic_load_explicit(&ch->waiting, acquire)) {
            topic_waits_end(ch);
            nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
        }
        if (base->how & CUE_RECV)
            unsubscribe(ch);
        publisher_close(ch);
        lane_close(&ch->lane);
    }
    free(ch->outlets);
    free(ch->past);
    free(ch->twice);
    return 0;
}

static int topic_forked(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    if (base->how & CUE_RECV)
        return trail(CUE_EFORK, "this channel receives for the parent process");
    ch->lock = (struct lock){ 0 };
    publisher_forked(ch);
    atomic_store_explicit(&ch->waiting, 0, relaxed); /* private: those threads are not here */
    halt_forget(&ch->halt);
    return lane_renew(&ch->lane);
}

/* ---- sleeping on several channels ---- */

static bool topic_doze(cue_channel *base, unsigned how, struct channel_sleep *on)
{
    return how & CUE_RECV ? subscriber_doze(topic_channel_of(base), on) : publisher_doze(topic_channel_of(base), on);
}

static void topic_rouse(cue_channel *base, unsigned how)
{
    (void)base, (void)how; /* the bit goes by itself, see event.h */
}

/* ---- counts ---- */

static void feed_counts(const struct feed *ring, cue_channel_info *out)
{
    /* relaxed: counts for people */
    uint64_t evicted = atomic_load_explicit(&ring->shared->evicted, relaxed), missed = atomic_load_explicit(&ring->shared->missed, relaxed);
    out->queued += feed_queued(ring);
    out->received += atomic_load_explicit(&ring->shared->received, relaxed);
    out->bytes += atomic_load_explicit(&ring->shared->bytes, relaxed);
    out->copied += atomic_load_explicit(&ring->shared->copied, relaxed);
    out->gaps += evicted + missed;
    out->sleeping |= event_waited(&ring->shared->bell);
}

static void topic_counts(struct cue_pool *pool, struct lane_head *head, cue_channel_info *out)
{
    (void)pool;
    struct topic *topic = (struct topic *)(void *)head;
    out->sent = atomic_load_explicit(&topic->sent, relaxed); /* counts for people */
    out->dropped = atomic_load_explicit(&topic->dropped, relaxed);
    out->refused = atomic_load_explicit(&topic->refused, relaxed);
    out->wakes = atomic_load_explicit(&topic->wakes, relaxed);
}

/* A subscriber's: of its subscription; what it was not given is `gaps` and `dropped`. */
static int topic_stat(cue_channel *base, cue_channel_info *out)
{
    struct topic_channel *ch = topic_channel_of(base);
    lane_stat(&ch->lane, out);
    if (base->how & CUE_RECV) {
        out->depth = ch->ring.depth;
        out->queued = out->gaps = 0;
        feed_counts(&ch->ring, out);
        out->queued += ch->npast - atomic_load_explicit(&ch->pastat, relaxed);
        out->shut = atomic_load_explicit(&ch->shut, relaxed) != 0;
        out->dropped = out->gaps;
        return 0;
    }
    for (unsigned place = 0; place < TOPIC_HISTORY; place++) {
        struct feed ring;
        uint64_t word = atomic_load_explicit(&ch->topic->place[place], acquire);
        if (word && !(word & PLACE_CLOSING) && feed_enter(&ch->lane, place, word, &ring)) {
            feed_counts(&ring, out);
            feed_leave(&ring);
        }
    }
    return 0;
}

const struct channel_ops topic_ops = {
    .send_many = topic_send_many,
    .recv_many = topic_recv_many,
    .wake = topic_wake,
    .stat = topic_stat,
    .forked = topic_forked,
    .close = topic_close,
    .shut = topic_shut,
    .drain = topic_drain,
    .discard = topic_discard,
    .later = true,
    .doze = topic_doze,
    .rouse = topic_rouse,
};

/* ---- open ---- */

static int topic_open(const struct lane *lane, unsigned how, const cue_channel_opts *with, cue_channel **out)
{
    struct topic_channel *ch = calloc(1, sizeof *ch);
    if (!ch)
        return trail(CUE_ENOMEM, "no process memory for a channel");
    ch->base.ops = &topic_ops;
    ch->base.pool = lane->pool;
    ch->base.how = how;
    ch->lane = *lane;
    ch->topic = topic_of(lane);
    int status = 0;
    if (how & CUE_SEND && !(ch->outlets = calloc(TOPIC_PLACES, sizeof *ch->outlets)))
        status = trail(CUE_ENOMEM, "no process memory for a publisher");
    if (!status && with->history)
        status = history_make(lane, with->history);
    if (!status && how & CUE_RECV && (status = subscribe(ch, with)))
        unsubscribe(ch);
    if (status) {
        free(ch->outlets);
        free(ch->past);
        free(ch->twice);
        free(ch);
        return status;
    }
    *out = &ch->base;
    return 0;
}

/* ---- the lane ---- */

static int topic_bytes(const cue_channel_opts *with, uint64_t *bytes)
{
    (void)with;
    *bytes = sizeof(struct topic);
    return 0;
}

static void topic_init(struct lane_head *head, const cue_channel_opts *with)
{
    (void)head, (void)with; /* all zero: nobody subscribes */
}

static bool topic_sound(const struct lane_head *head, uint64_t capacity)
{
    return capacity >= sizeof(struct topic) && head->depth >= 1 && head->depth <= LANE_DEPTH_MAX && head->full >= CUE_FAIL &&
           head->full <= CUE_DROP_OLD;
}

/* What a subscriber has not taken goes with it; a history stays as long as the pool does. */
static bool topic_empty(const struct lane *lane)
{
    return atomic_load_explicit(&topic_of(lane)->place[TOPIC_HISTORY], seq_cst) == 0;
}

/* Nothing is ever SENT into a topic. */
static bool topic_linked(const struct lane *lane, const struct record *rec, uint32_t index)
{
    (void)lane, (void)rec, (void)index;
    return false;
}

const struct lane_kind topic_kind = {
    .name = "topic",
    .number = CUE_TOPIC,
    .bytes = topic_bytes,
    .init = topic_init,
    .sound = topic_sound,
    .open = topic_open,
    .empty = topic_empty,
    .stat = topic_counts,
    .died = topic_died,
    .linked = topic_linked,
};
