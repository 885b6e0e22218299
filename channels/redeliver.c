/* A queue with `redeliver`: what a receiver that dies has in hand goes to another one.
 *
 * Every message of such a queue is an envelope (queue.c) that says where it is at home: name_hash is the index of the lane, the
 * header has its generation. A claim moves it to OWNED with the flag LENT, in the same CAS; the note counts how often it was handed
 * out. Releasing the message frees the envelope: that acknowledges it. So the truth about a message that is being worked on is one
 * state word.
 *
 *   the receiver dies   returned |= 1;  a block that came along and is still the dead one's: OWNED -> SENT, the envelope's again;
 *                       envelope OWNED, LENT -> KEPT  !!;  returned |= 1 again; the bell
 *                       The block is somewhere else by now, moved on, published or freed: the work was done, that acknowledges it, too
 *   a receiver          sees `returned`: looks through the pool's records for KEPT ones of this lane, oldest first, and takes them before
 *                       what is in the ring: KEPT -> OWNED, LENT  !!. Finds none: CAS returned -> without the bit, if it has not changed
 *
 * `returned` is set before the record is KEPT, so that receivers look at once, and after it, as one may have looked in between. Who dies
 * between the two is swept up after, and a sweep reminds again. The lane is not retired meanwhile, though the dead one may have closed it
 * before and nobody else have it open: whoever brings something back has a lease, and has raised the gate. (Model: redeliver.pml.) The
 * search costs a look at every record in use, but only after a death.
 *
 * It was handed out 1 + redeliver times, and nobody survived it: it goes to the lane `dead`, linked there as it is; else it is freed.
 * Killed on the way: it is LENT still, or SENT and in no slot but with a count, which says that it is no message whose sender died
 * before it was sent: it goes home again.
 *
 * The order: what is given out again goes before what waits in the ring, and among such the oldest first, as far as one search sees.
 */
#include "redeliver.h"

#include "ask.h"
#include "ring.h"

#include <stdlib.h>
#include <string.h>

enum { FOUND = 32 };

struct returned {
    struct found {
        uint32_t index, seq;
        uint64_t state;
    } found[FOUND];
    unsigned count, at;
};

static uint32_t home_of(const struct record *rec)
{
    return atomic_load_explicit(&rec->name_hash, relaxed); /* pairs with: the state word */
}

static uint32_t times(const struct record *rec)
{
    return atomic_load_explicit(&rec->note, relaxed) >> MESSAGE_TIMES_SHIFT; /* the same */
}

/* Its header; the caller owns the record, or its owner is dead. */
static bool header_of(struct cue_pool *pool, uint32_t index, struct message_header *out)
{
    char *data;
    uint64_t capacity;
    if (!pool_bytes(pool, index, &data, &capacity) || capacity < sizeof *out)
        return false;
    memcpy(out, data, sizeof *out);
    return true;
}

static void remind(struct ring *ring)
{
    uint32_t value = atomic_load_explicit(&ring->returned, relaxed);
    while (!atomic_compare_exchange_weak_explicit(&ring->returned, &value, (value + RING_RETURNED_ONE) | RING_RETURNED, seq_cst, relaxed))
        ;
}

/* ---- recovery ---- */

bool returned_waits(const struct record *rec, uint64_t state)
{
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* pairs with: the state word */
    return rec_state(state) == REC_KEPT && note & NOTE_MESSAGE && note & MESSAGE_LENT;
}

/* Its queue, under a lease, and counted at its gate as one that opens it: who is about to retire it, having found it empty, fails. */
static struct ring *home_enter(struct cue_pool *pool, const struct record *rec, struct lane *lane)
{
    if (!lane_enter(pool, home_of(rec), lane))
        return NULL;
    if (lane->kind == &queue_kind && lane->head->redeliver &&
        !(atomic_fetch_add_explicit(&lane->head->gate, GATE_ONE, seq_cst) & GATE_RETIRED)) /* pairs with: try_retire */
        return (struct ring *)(void *)lane->head;
    lane_leave(lane);
    return NULL;
}

void returned_remind(struct cue_pool *pool, const struct record *rec)
{
    struct lane lane;
    struct ring *ring = home_enter(pool, rec, &lane);
    if (!ring)
        return;
    remind(ring);
    event_call(&ring->bell, 1);
    lane_leave(&lane);
}

/* Whether a record is SENT as what goes along with the envelope. */
static bool goes_along(const struct record *rec, uint64_t state, uint32_t envelope, uint64_t envelope_state)
{
    return rec_state(state) == REC_SENT && atomic_load_explicit(&rec->lane, relaxed) == LANE_ENVELOPE &&
           atomic_load_explicit(&rec->next, relaxed) == envelope &&
           atomic_load_explicit(&rec->seq, relaxed) == (uint32_t)rec_generation(envelope_state); /* pairs with: the state word */
}

/* The block that came along with an envelope of a dead party becomes the envelope's again. false: it is somewhere else. */
static bool attached_back(struct cue_pool *pool, const struct message_header *header, uint32_t envelope, uint64_t envelope_state)
{
    struct record *rec = pool_record(pool, header->index);
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
    uint32_t low = (uint32_t)rec_generation(envelope_state);
    if (!rec || rec_generation(state) != header->generation)
        return false;
    if (goes_along(rec, state, envelope, envelope_state)) /* never taken, or put back already */
        return true;
    if (rec_state(state) != REC_OWNED || rec_party(state) != rec_party(envelope_state))
        return false;
    /* relaxed: made readable by SENT */
    atomic_store_explicit(&rec->lane, LANE_ENVELOPE, relaxed);
    atomic_store_explicit(&rec->next, envelope, relaxed);
    atomic_store_explicit(&rec->seq, low, relaxed);
    return block_move(rec, state & ~REC_SHARED, rec_word(REC_SENT, pool->self + 1, header->generation));
}

/* The envelope will be freed: so is what was to go along with it. */
static void attached_drop(struct cue_pool *pool, const struct message_header *header, uint32_t envelope, uint64_t envelope_state)
{
    struct record *rec = pool_record(pool, header->index);
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
    if (rec && rec_generation(state) == header->generation && goes_along(rec, state, envelope, envelope_state))
        block_drop(pool, rec, header->index, state);
}

bool returned_put(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state)
{
    struct lane lane;
    struct message_header header;
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* of the dead */
    bool lent = note & NOTE_MESSAGE && note & MESSAGE_LENT && (rec_state(state) == REC_OWNED ? (state & REC_LENT) != 0 : times(rec) > 0);
    if (!lent || !header_of(pool, index, &header))
        return false;
    struct ring *ring = home_enter(pool, rec, &lane);
    bool back = ring && header.home == lane.generation && (!(note & MESSAGE_ATTACHED) || attached_back(pool, &header, index, state));
    if (back) {
        if (times(rec) == 0) /* killed between its claim and handing it out: to all others it was in its hand */
            message_handed_out(rec);
        remind(ring);
        back = block_move(rec, state & ~REC_SHARED, rec_word(REC_KEPT, 0, rec_generation(state))); /* !! */
    }
    if (back) {
        remind(ring);
        atomic_fetch_add_explicit(&ring->returns, 1, relaxed); /* a count for people */
        event_call(&ring->bell, 1);
    } else if (note & MESSAGE_ATTACHED) {
        attached_drop(pool, &header, index, state);
    }
    if (ring)
        lane_leave(&lane);
    return back;
}

/* ---- giving out again ---- */

/* Keeps the oldest, in order. */
static int note_found(struct cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    (void)pool;
    struct ring_channel *ch = arg;
    struct returned *r = ch->returned;
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (!returned_waits(rec, state) || home_of(rec) != ch->lane.index)
        return 0;
    struct found found = { index, atomic_load_explicit(&rec->seq, relaxed), state }; /* pairs with: the claim */
    unsigned at = r->count;
    while (at > 0 && (int32_t)(found.seq - r->found[at - 1].seq) < 0)
        at--;
    if (at == FOUND)
        return 0;
    unsigned behind = (r->count < FOUND ? r->count : FOUND - 1) - at;
    memmove(&r->found[at + 1], &r->found[at], behind * sizeof found);
    r->found[at] = found;
    r->count += r->count < FOUND;
    return 0;
}

/* Whether there may be one; then it is noted. */
static bool search(struct ring_channel *ch)
{
    uint32_t value = atomic_load_explicit(&ch->ring->returned, seq_cst);
    if (!(value & RING_RETURNED))
        return false;
    if (!ch->returned && !(ch->returned = malloc(sizeof *ch->returned)))
        return false;
    ch->returned->count = ch->returned->at = 0;
    pool_each_record(ch->lane.pool, note_found, ch);
    if (ch->returned->count == 0)
        atomic_compare_exchange_strong_explicit(&ch->ring->returned, &value, value & ~(uint32_t)RING_RETURNED, seq_cst, relaxed);
    return ch->returned->count > 0;
}

/* The next one becomes ours. false: there is none. */
static bool claim_next(struct ring_channel *ch, struct took *out)
{
    struct cue_pool *pool = ch->lane.pool;
    for (;;) {
        struct returned *r = ch->returned;
        if ((!r || r->at == r->count) && !search(ch))
            return false;
        r = ch->returned;
        const struct found *found = &r->found[r->at++];
        out->index = found->index;
        out->rec = pool_record(pool, found->index);
        out->state = rec_word(REC_OWNED, pool->self + 1, rec_generation(found->state)) | REC_LENT;
        if (out->rec && record_move(out->rec, found->state & ~REC_SHARED, out->state)) /* !! */
            return true;
    }
}

static void let_go(struct ring_channel *ch, const struct took *took)
{
    cue_msg m;
    if (ring_unpack(ch, took, &m) == 0) {
        ask_refuse(ch->lane.pool, &m, CUE_EDEAD);
        cue_msg_release(&m);
    }
}

void returned_bury(struct ring_channel *ch, const struct took *took)
{
    struct parcel parcel = { .rec = took->rec, .index = took->index, .envelope = true, .state = took->state };
    atomic_fetch_add_explicit(&ch->ring->dead_letters, 1, relaxed); /* a count for people */
    ask_settle(ch->lane.pool, took->rec, took->index);
    if (!ch->dead || ch->dead->ops->put(ch->dead, &parcel) <= 0) { /* !! */
        uint64_t state = atomic_load_explicit(&took->rec->state, acquire);
        let_go(ch, &(struct took){ .rec = took->rec, .index = took->index, .state = state & ~REC_SHARED });
    }
}

bool returned_claim(struct ring_channel *ch, struct took *out)
{
    lock_take(&ch->returned_lock);
    bool found = claim_next(ch, out);
    lock_release(&ch->returned_lock);
    return found;
}

int returned_take(struct ring_channel *ch, cue_msg *out)
{
    struct took took;
    struct message_header header;
    for (;;) {
        if (!returned_claim(ch, &took))
            return 0;
        if (!header_of(ch->lane.pool, took.index, &header) || header.home != ch->lane.generation) {
            let_go(ch, &took); /* of a lane that had this index before */
        } else if (times(took.rec) > ch->redeliver) {
            returned_bury(ch, &took); /* nobody survived it */
        } else {
            atomic_fetch_add_explicit(&ch->ring->redelivered, 1, relaxed); /* a count for people */
            return ring_unpack(ch, &took, out) == 0 ? 1 : CUE_ECORRUPT;
        }
    }
}

void returned_free(struct ring_channel *ch)
{
    free(ch->returned);
    ch->returned = NULL;
}
