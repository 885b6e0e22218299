/* A topic: each message to all who subscribe, from any number of publishers. (Rings: topic_feed.c; deaths: topic_recovery.c; model:
 * topic.pml)
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
 * PUBLISHERS keep what the table says, with a lease on each ring, and look again when `changes` has changed. So a ring's memory stays
 * a ring for as long as anybody may write to it (rule T), and a message costs its publisher one load beyond the rings.
 *
 * FULL. DROP_NEW and DROP_OLD are exact. Where a subscriber wants publishers to wait, they wait before the message is put anywhere, so a
 * send that fails has reached nobody. Publishers that see the last free place at the same time all use it: `depth` is exceeded by as
 * many as there are of them, rather than that a message reached some and not others.
 *
 * HISTORY is one more ring, of nobody, that is full for ever and drops the oldest. A publisher puts its message there first and then looks
 * at `changes` again; a subscriber adds to `changes` first and then reads the history. So of the two at least one sees the other:
 * nothing is left out between what the newcomer finds and what it is sent. What it finds and is also sent has its grant up, or is still
 * POSTED and may get one: the first it leaves to the ring, the second it remembers, to leave it out when it comes again.
 *
 * SLEEPING. A subscriber sets SLEEP in its bell (seq_cst), looks at its slot, sleeps; a publisher links (seq_cst) and looks at the bell.
 * Publishers leave SLEEP set: one that is stopped before its wake does not keep the others from waking. Waiting for room is the same
 * the other way round, on `room`.
 */
#include "message.h"
#include "spin.h"
#include "topic.h"

#include "base/lock.h"

#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

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
    _Atomic uint32_t woken, closing;     /* cue_channel_wake, cue_channel_close: looked at by whoever is about to wait */
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
    cue_block block;                                     /* of the ring: an owner */
    uint64_t word;                                       /* in the table */
    uint64_t at, skipped, received, bytes, copied, peak; /* skipped: it stood in the ring and was taken out as old */
    uint64_t gaps;                                       /* what we have told of */
    struct feed_taken *past;                             /* from the history, leased: to be handed out first */
    struct remembered *twice;
    size_t npast, ntwice;
    _Atomic size_t pastat; /* by the thread that receives; others look at it */
    struct spin spin;
};

static const struct channel_ops topic_ops;

static struct topic_channel *topic_channel_of(cue_channel *ch)
{
    return (struct topic_channel *)(void *)ch;
}

static uint64_t place_bit(unsigned place)
{
    return UINT64_C(1) << (place % 64);
}

/* ---- waiting, both sides ---- */

static int interrupted(struct topic_channel *ch)
{
    if (__builtin_expect(atomic_load_explicit(&ch->closing, seq_cst), 0)) /* pairs with: topic_close */
        return CUE_ECLOSED;
    if (__builtin_expect(atomic_load_explicit(&ch->woken, seq_cst), 0) &&
        atomic_exchange_explicit(&ch->woken, 0, acq_rel)) /* pairs with: topic_wake */
        return CUE_EINTR;
    return 0;
}

/* Who died unnoticed is cleaned up after: it may be the subscriber that everybody waits for. */
static int after_nap(struct cue_pool *pool, int status)
{
    if (status == CUE_EINTR)
        return status;
    if (status == CUE_ETIMEDOUT)
        pool_reap(pool);
    return pool_enter(pool);
}

/* ---- publish: who subscribes ---- */

static void outlet_close(struct topic_channel *ch, unsigned place)
{
    struct outlet *outlet = &ch->outlets[place];
    if (outlet->word)
        feed_leave(&outlet->ring);
    outlet->word = 0;
    ch->open[place / 64] &= ~place_bit(place);
}

static __attribute__((noinline)) void outlets_read(struct topic_channel *ch, uint32_t changes)
{
    for (unsigned place = 0; place < TOPIC_PLACES; place++) {
        struct outlet *outlet = &ch->outlets[place];
        uint64_t word = atomic_load_explicit(&ch->topic->place[place], acquire);
        if (word & PLACE_CLOSING)
            word = 0;
        if (outlet->word == word)
            continue;
        outlet_close(ch, place);
        if (!word || !feed_enter(&ch->lane, place, word, &outlet->ring))
            continue;
        outlet->word = word;
        outlet->head = atomic_load_explicit(&outlet->ring.shared->head, acquire);
        ch->open[place / 64] |= place_bit(place);
    }
    ch->changes = changes;
    ch->looked = true;
}

/* Under the lock. Whether anything was new. */
static inline bool outlets_look(struct topic_channel *ch)
{
    uint32_t changes = atomic_load_explicit(&ch->topic->changes, seq_cst); /* pairs with: subscribe */
    if (__builtin_expect(ch->looked && changes == ch->changes, 1))
        return false;
    outlets_read(ch, changes);
    return true;
}

/* The next place >= from that is open, or TOPIC_PLACES. */
static inline unsigned next_open(const uint64_t open[2], unsigned from)
{
    for (unsigned word = from / 64; word < 2; word++, from = word * 64) {
        uint64_t bits = open[word] >> (from % 64);
        if (bits)
            return from + (unsigned)__builtin_ctzll(bits);
    }
    return TOPIC_PLACES;
}

/* A subscriber for whom a publisher has to wait; TOPIC_PLACES: none. Under the lock. */
static inline unsigned first_full(struct topic_channel *ch)
{
    for (unsigned place = next_open(ch->open, 0); place < TOPIC_PLACES; place = next_open(ch->open, place + 1)) {
        struct outlet *outlet = &ch->outlets[place];
        if (outlet->ring.full == CUE_FAIL && !feed_has_room(&outlet->ring, &outlet->head))
            return place;
    }
    return TOPIC_PLACES;
}

/* ---- publish: waiting for room ---- */

/* What a publisher waits for: room in a ring, or that everything before `until` was taken out of it. */
static bool ring_ready(const struct feed *ring, uint64_t *head, const uint64_t *until)
{
    return until ? feed_passed(ring, *until) : feed_has_room(ring, head);
}

/* One nap on a ring's word. */
static int nap_on(struct topic_channel *ch, _Atomic uint32_t *room, uint32_t seen, int64_t nap)
{
    atomic_store_explicit(&ch->napping, room, seq_cst); /* pairs with: waits_end */
    int status = interrupted(ch);
    pool_before_sleep(ch->lane.pool);
    if (!status)
        status = after_nap(ch->lane.pool, futex_wait(room, seen, nap));
    atomic_store_explicit(&ch->napping, NULL, seq_cst);
    return status;
}

/* One nap until that ring is ready, or gone. It is ours by a lease. */
static int nap_for_room(struct topic_channel *ch, const struct feed *ring, unsigned place, uint64_t word, int64_t nap,
                        const uint64_t *until)
{
    _Atomic uint32_t *room = &ring->shared->room;
    uint32_t seen = atomic_fetch_or_explicit(room, FEED_WAITED, seq_cst) | FEED_WAITED; /* pairs with: feed_advance */
    uint64_t head = 0;
    if (atomic_load_explicit(&ch->topic->place[place], seq_cst) != word ||
        ring_ready(ring, &head, until)) /* pairs with: topic_place_close */
        return 0;
    return nap_on(ch, room, seen, nap);
}

/* 0: every subscriber that wants to be waited for has room. */
static int wait_for_room(struct topic_channel *ch, int64_t *until)
{
    for (bool first = true;; first = false) {
        lock_take(&ch->lock);
        outlets_look(ch);
        unsigned place = first_full(ch);
        if (place == TOPIC_PLACES) {
            lock_release(&ch->lock);
            return 0;
        }
        struct outlet outlet = ch->outlets[place];
        bool held = *until && lease_take(ch->lane.pool, outlet.ring.rec, outlet.ring.index, outlet.ring.generation) == 0;
        lock_release(&ch->lock);
        if (*until == 0)
            return CUE_EFULL;
        *until = deadline_made(*until);
        if (first)
            sched_yield(); /* the subscriber may share our CPU */
        int64_t nap = deadline_nap(*until);
        int status = nap <= 0 ? CUE_EFULL
                     : held   ? nap_for_room(ch, &outlet.ring, place, outlet.word, nap, NULL)
                              : pool_enter(ch->lane.pool);
        if (held)
            feed_leave(&outlet.ring);
        if (status)
            return status;
    }
}

/* ---- publish ---- */

struct posting {
    struct record *rec;
    uint32_t index;
    uint64_t generation, posted; /* its state word while it is POSTED */
    uint64_t grants[2], linked[2];
};

/* Into one ring; false: that subscriber does not get it. */
static inline bool put(struct topic_channel *ch, const struct posting *post, unsigned place)
{
    struct outlet *outlet = &ch->outlets[place];
    enum feed_link link = feed_link(&outlet->ring, post->index, &outlet->head, &outlet->at);
    for (int tries = 0; __builtin_expect(link == FEED_FULL && outlet->ring.full == CUE_DROP_OLD, 0) && tries < 1000; tries++) {
        if (feed_evict(&outlet->ring)) {
            atomic_fetch_add_explicit(&outlet->ring.shared->evicted, 1, relaxed); /* counts for people */
            atomic_fetch_add_explicit(&ch->topic->dropped, 1, relaxed);
        }
        link = feed_link(&outlet->ring, post->index, &outlet->head, &outlet->at);
    }
    if (__builtin_expect(link == FEED_FULL, 0)) {
        atomic_fetch_add_explicit(&outlet->ring.shared->missed, 1, relaxed);
        atomic_fetch_add_explicit(&ch->topic->dropped, 1, relaxed);
    }
    return link == FEED_LINKED;
}

static inline void put_counted(struct topic_channel *ch, struct posting *post, unsigned place)
{
    if (put(ch, post, place))
        post->linked[place / 64] |= place_bit(place);
}

/* The history comes first. Who has subscribed since we looked at the table gets it, too: it may have come too late for the history. */
static __attribute__((noinline)) void put_into_history(struct topic_channel *ch, struct posting *post)
{
    put_counted(ch, post, TOPIC_HISTORY);
    if (!outlets_look(ch)) /* after the link, in the order of seq_cst; pairs with: history_read */
        return;
    for (unsigned word = 0; word < 2; word++) {
        uint64_t more = ch->open[word] & ~post->grants[word];
        if (word == TOPIC_HISTORY / 64)
            more &= ~place_bit(TOPIC_HISTORY);
        atomic_fetch_or_explicit(rec_grants(post->rec, word * 64), more, seq_cst); /* POSTED is ours */
        post->grants[word] |= more;
    }
}

/* Where it did not get in, nobody will take it out. */
static inline void grants_settle(const struct posting *post)
{
    for (unsigned word = 0; word < 2; word++) {
        uint64_t lost = post->grants[word] & ~post->linked[word];
        if (__builtin_expect(lost != 0, 0))
            atomic_fetch_and_explicit(rec_grants(post->rec, word * 64), ~lost, seq_cst); /* POSTED is ours */
    }
}

/* OWNED -> POSTED; false: another thread used the caller's block. */
static inline bool post_begin(struct topic_channel *ch, const struct parcel *parcel, struct posting *post)
{
    struct record *rec = parcel->rec;
    uint64_t made = atomic_load_explicit(&rec->made_ns, relaxed), id = atomic_load_explicit(&rec->id, relaxed); /* ours */
    post->rec = rec;
    post->index = parcel->index;
    post->generation = rec_generation(parcel->state);
    post->posted = rec_word(REC_POSTED, ch->lane.pool->self + 1, post->generation) | REC_SHARED | REC_TOPIC;
    post->grants[0] = ch->open[0];
    post->grants[1] = ch->open[1];
    post->linked[0] = post->linked[1] = 0;
    /* relaxed: made readable by POSTED */
    atomic_store_explicit(&rec->lane, ch->lane.index, relaxed);
    atomic_store_explicit(rec_grants(rec, 0), post->grants[0], relaxed);
    atomic_store_explicit(rec_grants(rec, 64), post->grants[1], relaxed);
    if (__builtin_expect(record_move(rec, parcel->state, post->posted), 1)) /* !! */
        return true;
    atomic_store_explicit(&rec->made_ns, made, relaxed);
    atomic_store_explicit(&rec->id, id, relaxed);
    return false;
}

static inline uint64_t post_doomed(const struct posting *post)
{
    return rec_word(REC_DOOMED, rec_party(post->posted), post->generation) | REC_SHARED | REC_TOPIC;
}

/* While we posted it somebody died who had it in hand, and may have taken it out without clearing the grant (topic_recovery.c). */
static __attribute__((noinline)) void doom_unsettled(struct topic_channel *ch, const struct posting *post)
{
    struct cue_pool *pool = ch->lane.pool;
    uint64_t state = post->posted | REC_UNSETTLED;
    bool pinned = lease_pin(pool, post->rec, post->index, post->generation); /* POSTED is ours: it is good */
    if (cas(&post->rec->state, &state, post_doomed(post)) && pinned)         /* !! */
        topic_grants_settle(pool, post->rec, post->index);
    if (pinned)
        lease_drop(pool, post->rec, post->index, post->generation);
}

/* Under the lock; `sleepers`: subscribers to be woken. */
static int publish(struct topic_channel *ch, const struct parcel *parcel, uint64_t sleepers[2])
{
    struct posting post;
    outlets_look(ch);
    if (__builtin_expect(!post_begin(ch, parcel, &post), 0))
        return trail(CUE_ESTALE, "block %x of pool %s was used by another thread meanwhile", parcel->index, ch->lane.pool->name);
    if (ch->outlets[TOPIC_HISTORY].word)
        put_into_history(ch, &post);
    for (unsigned place = next_open(post.grants, 0); place < TOPIC_HISTORY; place = next_open(post.grants, place + 1))
        if (ch->outlets[place].word)
            put_counted(ch, &post, place);
    grants_settle(&post);
    uint64_t state = post.posted; /* before anything else: a subscriber is just about to fetch this line */
    if (__builtin_expect(!atomic_compare_exchange_strong_explicit(&post.rec->state, &state, post_doomed(&post), seq_cst, acquire),
                         0)) /* !! no more links */
        doom_unsettled(ch, &post);
    for (unsigned place = next_open(post.linked, 0); place < TOPIC_PLACES; place = next_open(post.linked, place + 1))
        if (feed_linked(&ch->outlets[place].ring, ch->outlets[place].at))
            sleepers[place / 64] |= place_bit(place);
    block_finish(ch->lane.pool, post.rec, post.index, post.generation); /* all may have had and released it */
    return 0;
}

/* Under the lock. A ring that closed since is not there to be woken. */
static void wake_all(struct topic_channel *ch, const uint64_t sleepers[2])
{
    for (unsigned place = next_open(sleepers, 0); place < TOPIC_PLACES; place = next_open(sleepers, place + 1))
        if (ch->outlets[place].word && place != TOPIC_HISTORY) {
            feed_wake(&ch->outlets[place].ring);
            atomic_fetch_add_explicit(&ch->topic->wakes, 1, relaxed); /* a count for people */
        }
}

/* The message went, or would have gone if anybody had been there. */
static inline int went(struct topic_channel *ch, const cue_msg *m, const struct opened *opened, bool posted)
{
    atomic_fetch_add_explicit(&ch->topic->sent, 1, relaxed); /* a count for people */
    if (m->move && posted)
        message_gone(m, opened);
    else if (m->move)
        cue_block_release(m->move);
    return 1;
}

/* What the wait ended with; 1: dropped, which counts as sent. */
static int refuse(struct topic_channel *ch, int status)
{
    if (status == CUE_EFULL)
        atomic_fetch_add_explicit(&ch->topic->refused, 1, relaxed); /* a count for people */
    return status;
}

static int pack(struct topic_channel *ch, const cue_msg *m, int64_t *until, const struct opened *opened, struct parcel *out)
{
    int status = message_pack(ch->lane.pool, m, false, 0, opened, out);
    while (__builtin_expect(status == CUE_ENOMEM && *until, 0)) {
        int64_t nap = deadline_nap(*until = deadline_made(*until));
        int over = nap <= 0 ? CUE_ENOMEM : interrupted(ch);
        if (over)
            return over;
        status = message_pack(ch->lane.pool, m, false, clock_ns() + nap, opened, out);
    }
    return status;
}

static int check(struct topic_channel *ch, const cue_msg *m, struct opened *opened)
{
    int status = message_check(ch->lane.pool, &ch->topic->head, m, false, opened);
    if (!status && m->move && !opened->ref.owner)
        return trail(CUE_ENOTOWNER, "block %x is a view: a topic carries blocks that their sender owns, see cue_block_copy",
                     opened->ref.index);
    opened->tag_in_header = true;
    return status;
}

/* One message; `sleepers` are told by the caller. 1: it went. */
static int send_one(struct topic_channel *ch, const cue_msg *m, int64_t deadline, uint64_t sleepers[2])
{
    struct parcel parcel;
    struct opened opened;
    int status = check(ch, m, &opened);
    if (__builtin_expect(status, 0))
        return status;
    lock_take(&ch->lock);
    outlets_look(ch);
    bool nobody = !(ch->open[0] | ch->open[1]), full = first_full(ch) < TOPIC_PLACES;
    lock_release(&ch->lock);
    if (__builtin_expect(nobody, 0))
        return went(ch, m, &opened, false);
    if (__builtin_expect(full, 0) && (status = wait_for_room(ch, &deadline))) /* before anything is copied */
        return refuse(ch, status);
    status = pack(ch, m, &deadline, &opened, &parcel);
    if (__builtin_expect(status, 0))
        return status;
    lock_take(&ch->lock);
    status = publish(ch, &parcel, sleepers);
    lock_release(&ch->lock);
    if (__builtin_expect(status, 0)) {
        message_undo(ch->lane.pool, &parcel);
        return status;
    }
    return went(ch, m, &opened, true);
}

static int topic_send_many(cue_channel *base, const cue_msg *m, size_t n, int64_t deadline)
{
    struct topic_channel *ch = topic_channel_of(base);
    uint64_t sleepers[2] = { 0, 0 };
    size_t sent = 0;
    int status = 1;
    if (deadline)
        atomic_fetch_add_explicit(&ch->waiting, 1, seq_cst); /* pairs with: waits_end, topic_close */
    while (sent < n && sent < INT32_MAX && (status = send_one(ch, m + sent, sent ? 0 : deadline, sleepers)) > 0)
        sent++;
    if (sleepers[0] | sleepers[1]) {
        lock_take(&ch->lock);
        wake_all(ch, sleepers);
        lock_release(&ch->lock);
    }
    if (deadline)
        atomic_fetch_sub_explicit(&ch->waiting, 1, seq_cst);
    return sent ? (int)sent : status;
}

/* ---- receive ---- */

static void view_block(struct cue_pool *pool, const struct message_header *header, cue_msg *out)
{
    struct record *rec = pool_record(pool, header->index);
    char *data;
    uint64_t capacity, size;
    if (!rec || lease_take(pool, rec, header->index, header->generation)) { /* SENT, and stays while its envelope does */
        out->status = CUE_ESTALE;
        return;
    }
    size = rec_size(rec);
    if (!pool_bytes(pool, header->index, &data, &capacity) || size > capacity) {
        lease_drop(pool, rec, header->index, header->generation);
        out->status = CUE_ECORRUPT;
        return;
    }
    handle_view(pool, header->index, header->generation, data, size, &out->block);
}

/* A message of a record on which we have a lease, which goes to the caller with it. */
static int view_message(struct topic_channel *ch, const struct feed_taken *taken, cue_msg *out)
{
    struct cue_pool *pool = ch->lane.pool;
    struct record *rec = taken->rec;
    char *data;
    uint64_t capacity, size = rec_size(rec);
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* leased, as all of the record */
    bool bytes = note & NOTE_MESSAGE, header = bytes && note & MESSAGE_HEADER;
    uint64_t before = header ? sizeof(struct message_header) : 0;
    memset(out, 0, sizeof *out);
    if (__builtin_expect(!pool_bytes(pool, taken->index, &data, &capacity) || before + size > capacity, 0)) {
        lease_drop(pool, rec, taken->index, taken->generation);
        return trail(CUE_ECORRUPT, "message %x of pool %s makes no sense", taken->index, pool->name);
    }
    out->type = atomic_load_explicit(&rec->type, relaxed);
    out->data = data + before;
    out->size = size;
    cue_block view;
    handle_view(pool, taken->index, taken->generation, data, size, &view);
    if (bytes)
        memcpy(out->priv, view.priv, sizeof view.priv); /* cue_msg_release gives it back */
    else
        out->block = view;
    if (header) {
        struct message_header said;
        memcpy(&said, data, sizeof said);
        out->key = said.key;
        out->from = said.from;
        out->status = said.status;
        out->tag = said.home;
        if (note & MESSAGE_ATTACHED)
            view_block(pool, &said, out);
        if (!(note & MESSAGE_BYTES)) {
            out->data = out->block.data;
            out->size = out->block.size;
        }
    }
    ch->received++;
    ch->bytes += bytes ? size + out->block.size : size;
    ch->copied += bytes ? size : 0;
    return 0;
}

/* It came out of the history before. */
static __attribute__((noinline)) bool came_before(struct topic_channel *ch, const struct feed_taken *taken)
{
    for (size_t i = 0; i < ch->ntwice; i++)
        if (ch->twice[i].index == taken->index && ch->twice[i].generation == taken->generation) {
            ch->twice[i] = ch->twice[--ch->ntwice];
            lease_drop(ch->lane.pool, taken->rec, taken->index, taken->generation);
            return true;
        }
    return false;
}

static void counts_show(struct topic_channel *ch)
{
    struct topic_feed *shared = ch->ring.shared;
    /* relaxed: counts for people; only we write them */
    atomic_store_explicit(&shared->received, ch->received, relaxed);
    atomic_store_explicit(&shared->bytes, ch->bytes, relaxed);
    atomic_store_explicit(&shared->copied, ch->copied, relaxed);
}

/* The message says how many it did not get since the one before. */
static __attribute__((noinline)) void gap_say(struct topic_channel *ch, cue_msg *m)
{
    uint64_t now = ch->skipped + atomic_load_explicit(&ch->ring.shared->missed, relaxed), gap = now - ch->gaps; /* a count */
    m->gap = gap < UINT32_MAX ? (uint32_t)gap : UINT32_MAX;
    ch->gaps = now;
}

static inline bool past_left(struct topic_channel *ch)
{
    return __builtin_expect(atomic_load_explicit(&ch->pastat, relaxed) < ch->npast, 0); /* only who receives moves it */
}

static const struct feed_taken *past_next(struct topic_channel *ch)
{
    size_t at = atomic_load_explicit(&ch->pastat, relaxed);
    atomic_store_explicit(&ch->pastat, at + 1, relaxed);
    return &ch->past[at];
}

/* Up to n that are there; how many. */
static int take(struct topic_channel *ch, cue_msg *out, size_t n)
{
    struct feed_taken taken;
    size_t got = 0;
    int status = 0;
    uint64_t began = ch->at;
    uint32_t step = ch->ring.depth / 8;
    while (got < n && !status) {
        if (past_left(ch))
            taken = *past_next(ch);
        else if (!feed_take(&ch->ring, &ch->at, &ch->skipped, &taken))
            break;
        else if (__builtin_expect(ch->ntwice != 0, 0) && came_before(ch, &taken))
            continue;
        if (__builtin_expect(atomic_load_explicit(&ch->shut, seq_cst), 0)) /* pairs with: topic_shut */
            feed_end_slot(&ch->ring, ch->at - 1);
        if ((status = view_message(ch, &taken, &out[got])) == 0) {
            if (__builtin_expect(ch->ring.full != CUE_FAIL, 0))
                gap_say(ch, &out[got]);
            got++;
        }
        if (ch->at - began > step && got < n) {
            feed_advance(&ch->ring, ch->at, false);
            began = ch->at;
        }
    }
    if (ch->at != began)
        feed_advance(&ch->ring, ch->at, !feed_waiting(&ch->ring, ch->at));
    counts_show(ch);
    return got ? (int)got : status;
}

static bool spin_for_message(struct topic_channel *ch, int64_t began, int64_t deadline)
{
    int64_t most = deadline - began < ch->spin.now ? deadline - began : ch->spin.now;
    for (unsigned rounds = 0;; rounds++) {
        if (feed_waiting(&ch->ring, ch->at))
            return true;
        if (rounds < 200)
            continue;
        cpu_relax();
        if (rounds % 32 == 0 &&
            (clock_ns() - began >= most || atomic_load_explicit(&ch->woken, relaxed) || atomic_load_explicit(&ch->closing, relaxed)))
            return false;
    }
}

/* Nothing is there: true, and the next publisher wakes `bell`, which is not `*value` any more. */
static bool subscriber_doze(struct topic_channel *ch, uint32_t *value)
{
    *value = atomic_fetch_or_explicit(&ch->ring.shared->bell, FEED_SLEEP, seq_cst) | FEED_SLEEP; /* pairs with: feed_linked */
    return !past_left(ch) && !feed_waiting(&ch->ring, ch->at);
}

static void subscriber_rouse(struct topic_channel *ch)
{
    atomic_fetch_and_explicit(&ch->ring.shared->bell, ~(uint32_t)FEED_SLEEP, acq_rel);
}

/* Nothing waits, and nothing more will come. */
static inline bool drained(struct topic_channel *ch)
{
    return __builtin_expect(atomic_load_explicit(&ch->shut, seq_cst) != 0, 0) && !past_left(ch) && !feed_waiting(&ch->ring, ch->at);
}

static int ended(struct topic_channel *ch)
{
    return trail(CUE_ECLOSED, "topic %x of pool %s: this subscription was shut", ch->lane.index, ch->lane.pool->name);
}

/* One nap for want of messages; 0: look again. */
static int nap_for_message(struct topic_channel *ch, int64_t deadline)
{
    uint32_t value;
    int64_t nap = deadline_nap(deadline);
    int status = 0;
    if (nap <= 0)
        return drained(ch) ? ended(ch) : CUE_EEMPTY;
    if (subscriber_doze(ch, &value)) {
        status = drained(ch) ? ended(ch) : interrupted(ch);
        pool_before_sleep(ch->lane.pool);
        if (!status)
            status = after_nap(ch->lane.pool, futex_wait(&ch->ring.shared->bell, value, nap));
    }
    subscriber_rouse(ch);
    return status;
}

static int wait_for_message(struct topic_channel *ch, int64_t deadline)
{
    int status = interrupted(ch);
    int64_t began = 0;
    if (!status && ch->spin.most > 0) {
        for (unsigned looks = 0; looks < 500; looks++) /* sooner than a clock is read */
            if (feed_waiting(&ch->ring, ch->at))
                return 0;
        began = clock_ns();
        if (spin_for_message(ch, began, deadline))
            return 0;
    }
    while (!status && !feed_waiting(&ch->ring, ch->at))
        status = nap_for_message(ch, deadline);
    if (began)
        spin_learn(&ch->spin, clock_ns() - began);
    return status;
}

static int topic_recv_many(cue_channel *base, cue_msg *out, size_t n, int64_t deadline)
{
    struct topic_channel *ch = topic_channel_of(base);
    for (;;) {
        int got = take(ch, out, n < INT32_MAX ? n : INT32_MAX);
        if (__builtin_expect(got != 0, 1))
            return got;
        if (deadline == 0)
            return drained(ch) ? ended(ch) : CUE_EEMPTY;
        deadline = deadline_made(deadline);
        int status = wait_for_message(ch, deadline);
        if (status)
            return status;
    }
}

/* ---- subscribe ---- */

static void feed_init(const struct lane *lane, struct topic_feed *shared, uint64_t bytes, uint32_t depth, uint32_t full, uint32_t shift)
{
    memset(shared, 0, sizeof *shared);
    shared->magic = FEED_MAGIC;
    shared->topic = lane->index;
    shared->topic_generation = lane->generation;
    shared->party = lane->pool->self + 1;
    shared->epoch = lane->pool->epoch;
    shared->full = full;
    shared->depth = depth;
    shared->shift = shift;
    for (uint64_t i = 0; i < (bytes - sizeof *shared) / sizeof shared->slot[0]; i++)
        atomic_store_explicit(&shared->slot[i], feed_slot_word(0, FEED_SLOT_EMPTY), relaxed); /* nobody knows it yet */
}

/* A ring of ours that is in no table: an owner of its block, and a lease, so that it stays a ring also if somebody destroys the pool. */
static int feed_make(const struct lane *lane, unsigned place, uint32_t depth, uint32_t full, cue_block *block, struct feed *out)
{
    struct taken taken;
    uint32_t shift;
    uint64_t bytes = feed_bytes(depth, full, &shift);
    int status = block_take(lane->pool, bytes, 0, &(struct fresh){ .size = bytes, .type = POOL_TYPE_SUBSCRIPTION }, &taken);
    if (status)
        return trail_in(status, "making a subscription of depth %u", depth);
    handle_owner(lane->pool, taken.index, taken.generation, taken.data, bytes, block);
    struct topic_feed *shared = (struct topic_feed *)(void *)taken.data;
    feed_init(lane, shared, bytes, depth, full, shift);
    shared->which = place;
    status = lease_take(lane->pool, taken.rec, taken.index, taken.generation);
    if (!status && !feed_read(lane->pool, lane, place, taken.rec, taken.index, out))
        status = trail(CUE_ECORRUPT, "the slab of block %x makes no sense", taken.index);
    out->generation = taken.generation;
    if (status)
        cue_block_release(block);
    return status;
}

static void changed(struct topic *topic)
{
    atomic_fetch_add_explicit(&topic->changes, 1, seq_cst); /* pairs with: outlets_look */
}

/* The first who wants a history makes it. KEPT before the table names it; see topic_history_settle for who is killed in between. */
static int history_make(const struct lane *lane, uint32_t depth)
{
    struct topic *topic = topic_of(lane);
    cue_block block;
    struct feed ring;
    uint64_t none = 0;
    if (atomic_load_explicit(&topic->place[TOPIC_HISTORY], acquire))
        return 0;
    int status = feed_make(lane, TOPIC_HISTORY, depth, CUE_DROP_OLD, &block, &ring);
    if (status)
        return status;
    status = cue_block_publish(&block, 0); /* a view from here on */
    if (status) {
        cue_block_release(&block);
    } else if (cas(&topic->place[TOPIC_HISTORY], &none, place_word(ring.index, ring.generation, PLACE_PARTY_HISTORY))) { /* !! */
        changed(topic);
        cue_block_release(&block);
    } else {
        cue_block_free(&block);
    }
    feed_leave(&ring);
    return status;
}

/* One message of the history, leased. It may be on its way to us as well. */
static void history_note(struct topic_channel *ch, const struct feed_taken *taken)
{
    uint64_t state = atomic_load_explicit(&taken->rec->state, seq_cst); /* before the grant: DOOMED gets no new one */
    bool granted = atomic_load_explicit(rec_grants(taken->rec, ch->ring.which), seq_cst) >> (ch->ring.which % 64) & 1;
    if (granted) {
        lease_drop(ch->lane.pool, taken->rec, taken->index, taken->generation);
        return;
    }
    if (rec_state(state) == REC_POSTED)
        ch->twice[ch->ntwice++] = (struct remembered){ taken->index, taken->generation };
    ch->past[ch->npast++] = *taken;
}

/* The last `count` messages; after our subscription was announced. */
static int history_read(struct topic_channel *ch, uint32_t count)
{
    struct feed history;
    struct feed_taken taken;
    uint64_t word = atomic_load_explicit(&ch->topic->place[TOPIC_HISTORY], acquire);
    if (!feed_enter(&ch->lane, TOPIC_HISTORY, word, &history))
        return 0;
    if (count > history.depth)
        count = history.depth;
    ch->past = malloc(count * sizeof *ch->past);
    ch->twice = malloc(count * sizeof *ch->twice);
    if (!ch->past || !ch->twice) {
        feed_leave(&history);
        return trail(CUE_ENOMEM, "no process memory for a history of %u messages", count);
    }
    uint64_t end = atomic_load_explicit(&history.shared->tail, acquire), head = atomic_load_explicit(&history.shared->head, acquire);
    for (uint64_t looks = 0; looks < history.size && feed_waiting(&history, end) &&
                             feed_slot_ahead(&history, atomic_load_explicit(feed_slot(&history, end), acquire), end) == 0;
         looks++)
        end++; /* the tail is a hint */
    if (end - head > count)
        head = end - count;
    for (uint64_t at = head; at < end && ch->npast < count; at++)
        if (feed_peek(&history, at, &taken))
            history_note(ch, &taken);
    feed_leave(&history);
    return 0;
}

static int subscribe(struct topic_channel *ch, const cue_channel_opts *with)
{
    const struct lane_head *head = &ch->topic->head;
    uint32_t depth = with->depth ? with->depth : head->depth, full = with->full ? with->full : head->full;
    struct cue_pool *pool = ch->lane.pool;
    int status = feed_make(&ch->lane, 0, depth, full, &ch->block, &ch->ring);
    if (status)
        return status;
    ch->word = place_word(ch->ring.index, ch->ring.generation, pool->self + 1);
    for (unsigned place = 0; place < TOPIC_HISTORY; place++) {
        uint64_t none = 0;
        ch->ring.which = ch->ring.shared->which = place;
        if (!cas(&ch->topic->place[place], &none, ch->word)) /* !! */
            continue;
        changed(ch->topic);
        spin_init(&ch->spin, with->spin);
        return with->history ? history_read(ch, with->history) : 0;
    }
    ch->word = 0;
    return trail(CUE_ELIMIT, "topic %x of pool %s has all of its %d subscribers", ch->lane.index, pool->name, TOPIC_HISTORY);
}

static void unsubscribe(struct topic_channel *ch)
{
    struct cue_pool *pool = ch->lane.pool;
    if (ch->word)
        topic_place_close(&ch->lane, ch->ring.which, ch->word);
    while (past_left(ch)) {
        const struct feed_taken *left = past_next(ch);
        lease_drop(pool, left->rec, left->index, left->generation);
    }
    if (ch->block.priv[0]) {
        feed_leave(&ch->ring);
        cue_block_release(&ch->block);
    }
}

/* ---- wake, close ---- */

/* Ends futex waits of this channel; those for room are woken where they are, and look at `woken` at the latest after a watch period. */
static void waits_end(struct topic_channel *ch)
{
    if (ch->base.how & CUE_RECV) {
        atomic_fetch_and_explicit(&ch->ring.shared->bell, ~(uint32_t)FEED_SLEEP, seq_cst); /* pairs with: nap_for_message */
        futex_wake(&ch->ring.shared->bell, INT_MAX);
    }
    _Atomic uint32_t *napping = atomic_load_explicit(&ch->napping, seq_cst); /* pairs with: nap_for_room */
    if (napping)
        futex_wake(napping, INT_MAX);
}

static void topic_wake(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    atomic_store_explicit(&ch->woken, 1, seq_cst); /* pairs with: interrupted */
    waits_end(ch);
}

/* ---- shut ---- */

/* Our place says that we are going, which is what publishers look at; those who are just publishing find frozen slots. A slot that is
 * emptied is frozen by who receives, who looks at `shut` after that; so of the two, one freezes it. */
static int topic_shut(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    lock_take(&ch->lock);
    uint64_t word = ch->word;
    ch->word |= PLACE_CLOSING;
    if (cas(&ch->topic->place[ch->ring.which], &word, ch->word)) /* !! */
        changed(ch->topic);
    lock_release(&ch->lock);
    atomic_store_explicit(&ch->shut, 1, seq_cst); /* pairs with: take, drained */
    feed_end(&ch->ring);
    waits_end(ch);
    return 0;
}

/* One nap until the subscriber has taken something. */
static int nap_for_taking(struct topic_channel *ch, uint64_t until, int64_t deadline)
{
    _Atomic uint32_t *room = &ch->ring.shared->room;
    uint32_t seen = atomic_fetch_or_explicit(room, FEED_WAITED, seq_cst) | FEED_WAITED; /* pairs with: feed_advance */
    int64_t nap = deadline_nap(deadline);
    if (!past_left(ch) && feed_passed(&ch->ring, until))
        return 0;
    if (nap <= 0)
        return CUE_ETIMEDOUT;
    return nap_on(ch, room, seen, nap);
}

struct target {
    uint64_t word, until;
};

/* A subscriber who has not taken yet what had been sent to it, by a lease, in `out`. false: there is none. */
static bool behind(struct topic_channel *ch, const struct target *targets, unsigned *place, struct feed *out)
{
    bool found = false;
    lock_take(&ch->lock);
    outlets_look(ch);
    for (*place = next_open(ch->open, 0); *place < TOPIC_HISTORY; *place = next_open(ch->open, *place + 1)) {
        *out = ch->outlets[*place].ring;
        if (ch->outlets[*place].word == targets[*place].word && !feed_passed(out, targets[*place].until) &&
            (found = lease_take(ch->lane.pool, out->rec, out->index, out->generation) == 0))
            break;
    }
    lock_release(&ch->lock);
    return found;
}

static int publisher_drain(struct topic_channel *ch, int64_t deadline)
{
    struct target targets[TOPIC_HISTORY] = { 0 };
    struct feed ring;
    unsigned place;
    int status = 0;
    lock_take(&ch->lock);
    outlets_look(ch);
    for (place = next_open(ch->open, 0); place < TOPIC_HISTORY; place = next_open(ch->open, place + 1))
        targets[place] = (struct target){ ch->outlets[place].word, atomic_load_explicit(&ch->outlets[place].ring.shared->tail, acquire) };
    lock_release(&ch->lock);
    while (!status && behind(ch, targets, &place, &ring)) {
        int64_t nap = deadline_nap(deadline);
        status = nap <= 0 ? CUE_ETIMEDOUT : nap_for_room(ch, &ring, place, targets[place].word, nap, &targets[place].until);
        feed_leave(&ring);
    }
    return status;
}

static int topic_drain(cue_channel *base, int64_t deadline)
{
    struct topic_channel *ch = topic_channel_of(base);
    int status = 0;
    atomic_fetch_add_explicit(&ch->waiting, 1, seq_cst); /* pairs with: waits_end, topic_close */
    if (base->how & CUE_RECV) {
        uint64_t until = atomic_load_explicit(&ch->ring.shared->tail, acquire);
        while (!status && (past_left(ch) || !feed_passed(&ch->ring, until)))
            status = nap_for_taking(ch, until, deadline);
    } else {
        status = publisher_drain(ch, deadline);
    }
    atomic_fetch_sub_explicit(&ch->waiting, 1, seq_cst);
    return status;
}

static int topic_discard(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    uint64_t received = ch->received, bytes = ch->bytes, copied = ch->copied;
    int freed = 0, status;
    cue_msg m;
    for (; (status = take(ch, &m, 1)) > 0 && freed < INT_MAX; freed++)
        cue_msg_release(&m);
    ch->received = received; /* it was not */
    ch->bytes = bytes;
    ch->copied = copied;
    counts_show(ch);
    atomic_fetch_add_explicit(&ch->ring.shared->missed, (uint64_t)freed, relaxed); /* a count for people */
    return freed ? freed : status;
}

static int topic_close(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    if (base->forks == fork_epoch) {                     /* else it is the parent's */
        atomic_store_explicit(&ch->closing, 1, seq_cst); /* pairs with: interrupted */
        while (atomic_load_explicit(&base->receiving, acquire) || atomic_load_explicit(&ch->waiting, acquire)) {
            waits_end(ch);
            nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
        }
        if (base->how & CUE_RECV)
            unsubscribe(ch);
        for (unsigned place = 0; ch->outlets && place < TOPIC_PLACES; place++)
            outlet_close(ch, place);
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
    memset(ch->outlets, 0, TOPIC_PLACES * sizeof *ch->outlets); /* the leases were the parent's */
    ch->open[0] = ch->open[1] = 0;
    ch->looked = false;
    atomic_store_explicit(&ch->waiting, 0, relaxed); /* private */
    return lane_renew(&ch->lane);
}

/* ---- sleeping on several channels ---- */

static bool topic_doze(cue_channel *base, unsigned how, struct channel_sleep *on)
{
    struct topic_channel *ch = topic_channel_of(base);
    if (how & CUE_RECV) {
        on->word = &ch->ring.shared->bell;
        return subscriber_doze(ch, &on->value) && !drained(ch);
    }
    lock_take(&ch->lock);
    outlets_look(ch);
    unsigned place = first_full(ch);
    bool full = place < TOPIC_PLACES;
    if (full) { /* the outlet's lease holds it until this thread, or another one that sends, looks at the table again */
        struct outlet *outlet = &ch->outlets[place];
        on->word = &outlet->ring.shared->room;
        on->value = atomic_fetch_or_explicit(on->word, FEED_WAITED, seq_cst) | FEED_WAITED; /* pairs with: feed_advance */
        full = atomic_load_explicit(&ch->topic->place[place], seq_cst) == outlet->word && !feed_has_room(&outlet->ring, &outlet->head);
    }
    lock_release(&ch->lock);
    return full;
}

static void topic_rouse(cue_channel *base, unsigned how)
{
    if (how & CUE_RECV)
        subscriber_rouse(topic_channel_of(base));
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
    out->sleeping |= atomic_load_explicit(&ring->shared->bell, relaxed) & FEED_SLEEP;
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
    lane_stat(ch->lane.pool, ch->lane.head, ch->lane.rec, out);
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

static const struct channel_ops topic_ops = {
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
    .bytes = topic_bytes,
    .init = topic_init,
    .sound = topic_sound,
    .open = topic_open,
    .empty = topic_empty,
    .stat = topic_counts,
    .died = topic_died,
    .linked = topic_linked,
};
