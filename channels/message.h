/* Messages: from a cue_msg to a record that a lane can link, and back (message.c). For all kinds of lanes. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "lane.h"

struct parcel {
    const cue_msg *small; /* rec NULL: a stream carries it in a place of its own */
    struct record *rec;   /* what goes into the lane: an envelope, or the block itself; OWNED by us */
    uint32_t index;
    bool envelope;       /* rec was made by us: undone, it is freed */
    bool sent;           /* its state is SENT */
    uint64_t state;      /* the state word to go back to */
    struct record *with; /* the block that goes along as the envelope's, or NULL */
    uint32_t with_index;
    uint64_t with_state;
    uint64_t weight;  /* bytes, if the message is weighty, else 0 */
    uint64_t made_ns; /* of a block that goes itself: the word that next and seq overwrite */
};

/* The block behind `move`, as it was found by message_check. */
struct opened {
    struct block_ref ref;
    uint64_t state;
    bool pure;     /* the block is the message */
    bool enclose;  /* but goes in an envelope all the same, and */
    uint32_t home; /* the lane's index, if it is one with redeliver, else INDEX_NONE */
    uint64_t home_generation;
    bool tag_in_header; /* set by the caller between message_check and message_pack */
};

/* Bytes that count for the lane's `bytes`: 0 below LANE_WEIGHTY. */
static inline uint64_t weight_of(const cue_msg *m)
{
    uint64_t bytes = m->size + (m->move ? m->move->size : 0);
    return bytes >= LANE_WEIGHTY ? bytes : 0;
}

/* In cue_msg.priv[3] of a tap's copy, with the address of what it says of itself (tap.c): no record's address ends in it, and no socket's
 * number (cue_msg_peer). */
enum { PRIV_TAPPED = 2, PRIV_BITS = 3 };

static inline bool message_is_tapped(const cue_msg *m)
{
    return (m->priv[3] & PRIV_BITS) == PRIV_TAPPED;
}

/* Word by word: a `rep stos`, which compilers make of a memset of this size, costs as much as the rest of a message. */
static inline void message_clear(cue_msg *m)
{
    m->type = 0;
    m->status = 0;
    m->tag = m->key = 0;
    m->from = (cue_ref){ 0 };
    m->data = NULL;
    m->size = 0;
    m->move = NULL;
    m->block.data = NULL;
    m->block.size = 0;
    m->block.priv[0] = m->block.priv[1] = m->block.priv[2] = 0;
    m->redelivered = m->gap = 0;
    m->priv[0] = m->priv[1] = m->priv[2] = m->priv[3] = 0;
}

/* ---- what every message goes through, in place ---- */
int message_refused(struct cue_pool *pool, const struct lane_head *lane, const cue_msg *m, bool system, const struct opened *opened);
int message_not_ours(struct cue_pool *pool, const struct block_ref *ref, uint64_t state);

static inline bool message_is_pure(const cue_msg *m, const struct block_ref *ref)
{
    return ref->owner && (m->size | m->tag | m->key) == 0 && m->status == 0 && cue_ref_same(m->from, (cue_ref){ 0 }) &&
           (m->type == 0 || m->type == atomic_load_explicit(&ref->rec->type, relaxed)); /* ours */
}

/* The block behind `move`; an owner must be ours to give away. */
static inline __attribute__((always_inline)) int message_open(struct cue_pool *pool, const cue_msg *m, struct block_ref *ref,
                                                              uint64_t *state)
{
    int status = handle_open(m->move, ref);
    if (__builtin_expect(status, 0))
        return status;
    *state = __builtin_expect(ref->pool == pool, 1) ? atomic_load_explicit(&ref->rec->state, acquire) : 0;
    if (__builtin_expect(rec_generation(*state) != ref->generation || rec_state(*state) == REC_FREE ||
                             (ref->owner && (rec_state(*state) != REC_OWNED || rec_party(*state) != pool->self + 1)),
                         0))
        return message_not_ours(pool, ref, *state);
    return 0;
}

/* What a message of this size may not be: CUE_EINVAL, ETYPE, ETOOBIG, EMOVED, ESTALE, ENOTOWNER. `lane` says what may pass.
 * MESSAGE_TAPPED: it may, and the lane is tapped: see tap.h. */
enum { MESSAGE_TAPPED = 1 };
static inline __attribute__((always_inline)) int message_check(struct cue_pool *pool, const struct lane_head *lane, const cue_msg *m,
                                                               bool system, struct opened *opened)
{
    uint32_t type = m->type;
    uint64_t bytes = m->size;
    bool good = (!m->size || m->data) && (type < CUE_TYPE_SYSTEM || system) && m->size <= pool->data_bytes;
    opened->state = 0;
    opened->enclose = false;
    opened->home = INDEX_NONE;
    opened->tag_in_header = false;
    if (good && m->move) {
        int status = message_open(pool, m, &opened->ref, &opened->state);
        if (__builtin_expect(status, 0))
            return status;
        opened->pure = message_is_pure(m, &opened->ref) && !system;
        if (opened->pure)
            type = atomic_load_explicit(&opened->ref.rec->type, relaxed); /* ours */
        bytes += m->move->size;
    }
    if (!system)
        good = good && (!lane->type || type == lane->type) && (!lane->max || bytes <= lane->max);
    if (__builtin_expect(!good, 0))
        return message_refused(pool, lane, m, system, opened);
    uint64_t gate = atomic_load_explicit(&lane->gate, seq_cst); /* pairs with: ring_shut, tap_announce */
    if (__builtin_expect((gate & (GATE_SHUT | GATE_TAPPED)) != 0, 0))
        return gate & GATE_SHUT ? lane_shut_trail(pool, lane) : MESSAGE_TAPPED;
    return 0;
}

/* Makes what goes into the lane. `until` NULL: does not wait for room in the pool; else it does so in line, which is for who has tried
 * without. CUE_ENOMEM, or what `until->over` says. */
int message_enclose(struct cue_pool *pool, const cue_msg *m, bool system, const struct room_until *until, const struct opened *opened,
                    struct parcel *out);
static inline __attribute__((always_inline)) int message_pack(struct cue_pool *pool, const cue_msg *m, bool system,
                                                              const struct room_until *until, const struct opened *opened,
                                                              struct parcel *out)
{
    const struct block_ref *ref = &opened->ref;
    if (!m->move || !opened->pure || opened->enclose)
        return message_enclose(pool, m, system, until, opened, out);
    *out = (struct parcel){ .rec = ref->rec, .index = ref->index, .state = opened->state & ~REC_SHARED, .weight = weight_of(m) };
    out->made_ns = atomic_load_explicit(&ref->rec->made_ns, relaxed); /* ours */
    return 0;
}
/* It was not sent: the caller has everything again. */
void message_undo(struct cue_pool *pool, struct parcel *parcel);

/* It was sent: the caller's handle is empty. */
static inline void message_gone(const cue_msg *m, const struct opened *opened)
{
    if (__builtin_expect(!opened->ref.owner, 0))
        cue_block_release(m->move); /* the lease: the receiver takes its own */
    m->move->data = NULL;
    m->move->size = 0;
    m->move->priv[0] = m->move->priv[1] = m->move->priv[2] = 0;
}

/* The message of a record that was just taken (OWNED by us, state word `taken`). CUE_ECORRUPT: it made no sense and was freed.
 * `payload`, `copied`: bytes, for the counts. */
struct unpacked {
    uint64_t payload, copied, weight;
};
void message_unpack_header(struct cue_pool *pool, uint32_t note, const char *data, uint32_t index, uint64_t generation, cue_msg *out);
int message_makes_no_sense(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t taken, cue_msg *out);

static inline __attribute__((always_inline)) int message_unpack_near(struct cue_pool *pool, const struct near_slabs *near,
                                                                     struct record *rec, uint32_t index, uint64_t taken, cue_msg *out,
                                                                     struct unpacked *about)
{
    char *data;
    uint64_t capacity, size = rec_size(rec), generation = rec_generation(taken), along = 0, owned = 0;
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* ours now, as all of the record */
    bool enclosed = note & NOTE_MESSAGE;
    uint64_t before = enclosed && note & MESSAGE_HEADER ? sizeof(struct message_header) : 0;
    if (__builtin_expect(!bytes_near(pool, near, index, &data, &capacity) || before + size > capacity, 0))
        return message_makes_no_sense(pool, rec, index, taken, out);
    message_clear(out);
    out->type = atomic_load_explicit(&rec->type, relaxed);
    out->priv[3] = (uint64_t)(uintptr_t)rec; /* good as long as the handle is, see cue_msg_release */
    out->data = data + before;
    out->size = size;
    if (!enclosed) { /* the block itself */
        handle_owner(pool, index, generation, data, size, &out->block);
        *about = (struct unpacked){ size, 0, size >= LANE_WEIGHTY ? size : 0 };
        return 0;
    }
    cue_block envelope;
    handle_owner(pool, index, generation, data, size, &envelope);
    out->priv[0] = envelope.priv[0];
    out->priv[1] = envelope.priv[1];
    out->priv[2] = envelope.priv[2];
    out->tag = atomic_load_explicit(&rec->id, relaxed);
    out->redelivered = note >> MESSAGE_TIMES_SHIFT;
    if (__builtin_expect(before != 0, 0)) {
        message_unpack_header(pool, note, data, index, generation, out);
        along = out->block.size;
        owned = note & MESSAGE_ATTACHED ? along : 0;
    }
    *about = (struct unpacked){ size + along, size, size + owned >= LANE_WEIGHTY ? size + owned : 0 };
    return 0;
}

int message_unpack(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t taken, cue_msg *out, struct unpacked *about);

/* Of a LENT message: it is handed out once more. */
static inline void message_handed_out(struct record *rec)
{
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* ours */
    if (note >> MESSAGE_TIMES_SHIFT < UINT16_MAX)
        atomic_store_explicit(&rec->note, note + (UINT32_C(1) << MESSAGE_TIMES_SHIFT), relaxed);
}

/* SENT by the envelope's sender -> OWNED by us, if it still is that envelope's. */
bool attached_take(struct cue_pool *pool, struct record *rec, uint64_t generation, uint32_t envelope, uint64_t envelope_generation);

#endif
