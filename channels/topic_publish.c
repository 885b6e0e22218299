/* A publisher of a topic: into whose ring a message goes, and how it waits for room. (See topic.c.)
 *
 * It keeps what the table says, with a lease on each ring (outlets), and looks again when `changes` has changed. So a ring's memory stays
 * a ring for as long as anybody may write to it (rule T), and a message costs its publisher one load beyond the rings.
 *
 * FULL. DROP_NEW and DROP_OLD are exact. Where a subscriber wants publishers to wait, they wait before the message is put anywhere, so a
 * send that fails has reached nobody. Publishers that see the last free place at the same time all use it: `depth` is exceeded by as
 * many as there are of them, rather than that a message reached some and not others.
 */
#include "send.h"
#include "tap.h"
#include "topic_channel.h"

#include <sched.h>
#include <string.h>

static uint64_t place_bit(unsigned place)
{
    return UINT64_C(1) << (place % 64);
}

/* ---- who subscribes ---- */

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

/* ---- waiting for room ---- */

/* What a publisher waits for: room in a ring, or that everything before `until` was taken out of it. */
static bool ring_ready(const struct feed *ring, uint64_t *head, const uint64_t *until)
{
    return until ? feed_passed(ring, *until) : feed_has_room(ring, head);
}

/* One nap until that ring is ready, or gone. It is ours by a lease. */
static int nap_for_room(struct topic_channel *ch, const struct feed *ring, unsigned place, uint64_t word, int64_t nap,
                        const uint64_t *until)
{
    _Atomic uint32_t *room = &ring->shared->room;
    uint32_t seen = event_prepare(room); /* pairs with: feed_advance */
    uint64_t head = 0;
    if (atomic_load_explicit(&ch->topic->place[place], seq_cst) != word ||
        ring_ready(ring, &head, until)) /* pairs with: topic_place_close */
        return 0;
    return topic_nap(ch, room, seen, nap);
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

/* With drop-old, into a full ring: in vain a few times in a row only if others are quicker, or there is damage. */
static __attribute__((noinline)) enum feed_link put_for_oldest(struct topic_channel *ch, const struct posting *post, struct outlet *outlet)
{
    enum feed_link link = FEED_FULL;
    for (unsigned tries = 0, in_vain = 0; link == FEED_FULL && tries < 1000 && in_vain < 10; tries++) {
        if (feed_evict(&outlet->ring)) {
            atomic_fetch_add_explicit(&outlet->ring.shared->evicted, 1, relaxed); /* counts for people */
            atomic_fetch_add_explicit(&ch->topic->dropped, 1, relaxed);
            in_vain = 0;
        } else {
            in_vain++;
        }
        link = feed_link(&outlet->ring, post->index, &outlet->head, &outlet->at);
    }
    return link;
}

/* Into one ring; false: that subscriber does not get it. */
static inline bool put(struct topic_channel *ch, const struct posting *post, unsigned place)
{
    struct outlet *outlet = &ch->outlets[place];
    enum feed_link link = feed_link(&outlet->ring, post->index, &outlet->head, &outlet->at);
    if (__builtin_expect(link == FEED_FULL && outlet->ring.full == CUE_DROP_OLD, 0))
        link = put_for_oldest(ch, post, outlet);
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
        if (ch->outlets[place].word && place != TOPIC_HISTORY && feed_wake(&ch->outlets[place].ring))
            atomic_fetch_add_explicit(&ch->topic->wakes, 1, relaxed); /* a count for people */
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

/* Whether a wait for room in the pool ends. */
static int send_over(void *arg, bool signalled)
{
    struct topic_channel *ch = arg;
    int status = interrupted(&ch->halt);
    return status ? status : signalled ? CUE_EINTR : 0;
}

static int check(struct topic_channel *ch, const cue_msg *m, struct opened *opened)
{
    int status = message_check(ch->lane.pool, &ch->topic->head, m, false, opened);
    if (status >= 0 && m->move && !opened->ref.owner)
        return trail(CUE_ENOTOWNER, "block %x is a view: a topic carries blocks that their sender owns, see cue_block_copy",
                     opened->ref.index);
    opened->tag_in_header = true;
    return status;
}

/* One that was checked; `shown`: where to make a copy for taps, or NULL. 1: it went. */
static inline int send_checked(struct topic_channel *ch, const cue_msg *m, int64_t deadline, const struct opened *opened,
                               struct tap_copy *shown, uint64_t sleepers[2])
{
    struct parcel parcel;
    int status;
    lock_take(&ch->lock);
    outlets_look(ch);
    bool nobody = !(ch->open[0] | ch->open[1]), full = first_full(ch) < TOPIC_PLACES;
    lock_release(&ch->lock);
    if (__builtin_expect(nobody && shown, 0))
        tap_copy(&ch->lane, m, false, opened, shown);
    if (__builtin_expect(nobody, 0))
        return went(ch, m, opened, false);
    if (__builtin_expect(full, 0) && (status = wait_for_room(ch, &deadline))) /* before anything is copied */
        return refuse(ch, status);
    status = message_pack(ch->lane.pool, m, false, NULL, opened, &parcel);
    if (__builtin_expect(status == CUE_ENOMEM && deadline, 0))
        status = send_pack(ch->lane.pool, m, false, &deadline, send_over, ch, opened, &parcel);
    if (__builtin_expect(status, 0))
        return status;
    if (__builtin_expect(shown != NULL, 0))
        tap_copy(&ch->lane, m, false, opened, shown);
    lock_take(&ch->lock);
    status = publish(ch, &parcel, sleepers);
    lock_release(&ch->lock);
    if (__builtin_expect(status, 0)) {
        message_undo(ch->lane.pool, &parcel);
        return status;
    }
    return went(ch, m, opened, true);
}

static __attribute__((noinline)) int send_tapped(struct topic_channel *ch, const cue_msg *m, int64_t deadline, const struct opened *opened,
                                                 uint64_t sleepers[2])
{
    struct tap_copy copy = { 0 };
    int status = send_checked(ch, m, deadline, opened, &copy, sleepers);
    tap_end(&copy, status > 0);
    return status;
}

/* One message; `sleepers` are told by the caller. 1: it went. */
static int send_one(struct topic_channel *ch, const cue_msg *m, int64_t deadline, uint64_t sleepers[2])
{
    struct opened opened;
    int status = check(ch, m, &opened);
    if (__builtin_expect(status, 0))
        return status == MESSAGE_TAPPED ? send_tapped(ch, m, deadline, &opened, sleepers) : status;
    return send_checked(ch, m, deadline, &opened, NULL, sleepers);
}

/* In one piece, which is worth 60 instructions a message. */
__attribute__((flatten)) int topic_send_many(cue_channel *base, const cue_msg *m, size_t n, int64_t deadline)
{
    struct topic_channel *ch = topic_channel_of(base);
    uint64_t sleepers[2] = { 0, 0 };
    size_t sent = 0;
    int status = 1;
    if (deadline)
        atomic_fetch_add_explicit(&ch->waiting, 1, seq_cst); /* pairs with: topic_waits_end, topic_close */
    while (sent < n && sent < INT32_MAX && (status = send_one(ch, m + sent, sent ? 0 : deadline, sleepers)) > 0)
        sent++;
    if (sleepers[0] | sleepers[1]) {
        lock_take(&ch->lock);
        wake_all(ch, sleepers);
        lock_release(&ch->lock);
    }
    if (deadline) {
        wake_noticed(base, sent ? 0 : status);
        atomic_fetch_sub_explicit(&ch->waiting, 1, seq_cst);
    }
    return sent ? (int)sent : status;
}

bool topic_publish_once(const struct lane *lane, const struct parcel *parcel)
{
    struct outlet outlets[TOPIC_PLACES];
    struct topic_channel ch = { .lane = *lane, .topic = topic_of(lane), .outlets = outlets };
    uint64_t sleepers[2] = { 0, 0 };
    bool posted = false;
    for (unsigned place = 0; place < TOPIC_PLACES; place++)
        outlets[place].word = 0;
    outlets_look(&ch);
    if (parcel && ch.open[0] | ch.open[1]) {
        posted = publish(&ch, parcel, sleepers) == 0;
        wake_all(&ch, sleepers);
        atomic_fetch_add_explicit(&ch.topic->sent, 1, relaxed); /* counts for people */
    }
    for (unsigned place = next_open(ch.open, 0); !parcel && place < TOPIC_PLACES; place = next_open(ch.open, place + 1))
        atomic_fetch_add_explicit(&outlets[place].ring.shared->missed, 1, relaxed);
    publisher_close(&ch);
    return posted;
}

/* ---- drain ---- */

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

int publisher_drain(struct topic_channel *ch, int64_t deadline)
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

/* ---- sleeping on several channels ---- */

bool publisher_doze(struct topic_channel *ch, struct channel_sleep *on)
{
    lock_take(&ch->lock);
    outlets_look(ch);
    unsigned place = first_full(ch);
    bool full = place < TOPIC_PLACES;
    if (full) { /* the outlet's lease holds it until this thread, or another one that sends, looks at the table again */
        struct outlet *outlet = &ch->outlets[place];
        on->word = &outlet->ring.shared->room;
        on->value = event_prepare(on->word); /* pairs with: feed_advance */
        full = atomic_load_explicit(&ch->topic->place[place], seq_cst) == outlet->word && !feed_has_room(&outlet->ring, &outlet->head);
    }
    lock_release(&ch->lock);
    return full;
}

/* ---- the end ---- */

void publisher_close(struct topic_channel *ch)
{
    for (unsigned place = 0; ch->outlets && place < TOPIC_PLACES; place++)
        outlet_close(ch, place);
}

void publisher_forked(struct topic_channel *ch)
{
    memset(ch->outlets, 0, TOPIC_PLACES * sizeof *ch->outlets);
    ch->open[0] = ch->open[1] = 0;
    ch->looked = false;
}
