/* A subscriber of a topic: its ring, what it receives, the history it begins with, and its end. (See topic.c.)
 *
 * HISTORY is one more ring, of nobody, that is full for ever and drops the oldest. A publisher puts its message there first and then looks
 * at `changes` again; a subscriber adds to `changes` first and then reads the history. So of the two at least one sees the other:
 * nothing is left out between what the newcomer finds and what it is sent. What it finds and is also sent has its grant up, or is still
 * POSTED and may get one: the first it leaves to the ring, the second it remembers, to leave it out when it comes again.
 */
#include "topic_channel.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

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
    message_clear(out);
    if (__builtin_expect(!bytes_near(pool, &ch->near_slabs, taken->index, &data, &capacity) || before + size > capacity, 0)) {
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
        else if (!feed_take(&ch->ring, &ch->near_slabs, &ch->at, &ch->skipped, &taken))
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

/* Nothing is there: true, and the next publisher wakes `bell`, which is not `*value` any more. */
static bool announce_sleep(struct topic_channel *ch, uint32_t *value)
{
    *value = event_prepare(&ch->ring.shared->bell); /* pairs with: feed_linked */
    return !past_left(ch) && !feed_waiting(&ch->ring, ch->at);
}

/* Nothing waits, and nothing more will come. */
static inline bool drained(struct topic_channel *ch)
{
    return __builtin_expect(atomic_load_explicit(&ch->shut, seq_cst) != 0, 0) && !past_left(ch) && !feed_waiting(&ch->ring, ch->at);
}

bool subscriber_doze(struct topic_channel *ch, struct channel_sleep *on)
{
    on->word = &ch->ring.shared->bell;
    return announce_sleep(ch, &on->value) && !drained(ch);
}

static int ended(struct topic_channel *ch)
{
    return trail(CUE_ECLOSED, "topic %x of pool %s: this subscription was shut", ch->lane.index, ch->lane.pool->name);
}

/* One nap for want of messages; 0: look again. */
static int nap_for_message(void *arg, int64_t deadline)
{
    struct topic_channel *ch = arg;
    uint32_t value;
    int64_t nap = deadline_nap(deadline);
    if (nap <= 0)
        return drained(ch) ? ended(ch) : CUE_EEMPTY;
    if (!announce_sleep(ch, &value))
        return 0;
    return drained(ch) ? ended(ch) : lane_nap(ch->lane.pool, &ch->halt, &ch->ring.shared->bell, value, nap);
}

static bool is_there(void *arg)
{
    const struct topic_channel *ch = arg;
    return feed_waiting(&ch->ring, ch->at);
}

int topic_recv_many(cue_channel *base, cue_msg *out, size_t n, int64_t deadline)
{
    struct topic_channel *ch = topic_channel_of(base);
    for (;;) {
        int got = take(ch, out, n < INT32_MAX ? n : INT32_MAX);
        if (__builtin_expect(got != 0, 1))
            return got;
        if (deadline == 0)
            return drained(ch) ? ended(ch) : CUE_EEMPTY;
        deadline = deadline_made(deadline);
        int status = await_message(&ch->spin, &ch->halt, deadline, is_there, nap_for_message, ch);
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

/* The first who wants a history makes it. KEPT before the table names it; see topic_history_settle for who is killed in between. */
int history_make(const struct lane *lane, uint32_t depth)
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
        topic_changed(topic);
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

int subscribe(struct topic_channel *ch, const cue_channel_opts *with)
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
        topic_changed(ch->topic);
        spin_init(&ch->spin, with->spin);
        return with->history ? history_read(ch, with->history) : 0;
    }
    ch->word = 0;
    return trail(CUE_ELIMIT, "topic %x of pool %s has all of its %d subscribers", ch->lane.index, pool->name, TOPIC_HISTORY);
}

void unsubscribe(struct topic_channel *ch)
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

/* ---- shut ---- */

/* Our place says that we are going, which is what publishers look at; those who are just publishing find frozen slots. A slot that is
 * emptied is frozen by who receives, who looks at `shut` after that; so of the two, one freezes it. */
int topic_shut(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    lock_take(&ch->lock);
    uint64_t word = ch->word;
    ch->word |= PLACE_CLOSING;
    if (cas(&ch->topic->place[ch->ring.which], &word, ch->word)) /* !! */
        topic_changed(ch->topic);
    lock_release(&ch->lock);
    atomic_store_explicit(&ch->shut, 1, seq_cst); /* pairs with: take, drained */
    feed_end(&ch->ring);
    topic_waits_end(ch);
    return 0;
}

/* One nap until the subscriber has taken something. */
static int nap_for_taking(struct topic_channel *ch, uint64_t until, int64_t deadline)
{
    _Atomic uint32_t *room = &ch->ring.shared->room;
    uint32_t seen = event_prepare(room); /* pairs with: feed_advance */
    int64_t nap = deadline_nap(deadline);
    if (!past_left(ch) && feed_passed(&ch->ring, until))
        return 0;
    if (nap <= 0)
        return CUE_ETIMEDOUT;
    return topic_nap(ch, room, seen, nap);
}

int subscriber_drain(struct topic_channel *ch, int64_t deadline)
{
    uint64_t until = atomic_load_explicit(&ch->ring.shared->tail, acquire);
    int status = 0;
    while (!status && (past_left(ch) || !feed_passed(&ch->ring, until)))
        status = nap_for_taking(ch, until, deadline);
    return status;
}

int topic_discard(cue_channel *base)
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
