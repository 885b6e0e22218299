/* Messages: a cue_msg becomes a record in a lane, and a record becomes a cue_msg.
 *
 * A message of bytes alone, the usual case, is one record and its block: three lines of memory go from sender to receiver (head,
 * record, bytes). Key, sender, status or a block that goes along put a header of one line before the bytes. A block that is
 * moved and nothing else is its own message.
 *
 * An ATTACHED block is SENT before its envelope is, and taken after it. While it is SENT for an envelope, that envelope's record
 * exists with that generation: the sender gives up in the reverse order, the receiver frees the envelope later. So recovery
 * can tell from the envelope's state alone whose the block is (lane_recovery.c). Model: envelope.pml.
 *
 * A view that is sent becomes a reference: the receiver attaches, and gets CUE_ESTALE in `status` if the block went meanwhile.
 */
#include "message.h"

#include "ask.h"
#include "cell.h"

#include <string.h>

/* ---- what may be sent ---- */

int message_refused(struct cue_pool *pool, const struct lane_head *lane, const cue_msg *m, bool system, const struct opened *opened)
{
    uint32_t type = m->type;
    uint64_t bytes = m->size + (m->move ? m->move->size : 0);
    if (m->size && !m->data)
        return trail(CUE_EINVAL, "a message of %zu bytes at NULL", m->size);
    if (type >= CUE_TYPE_SYSTEM && !system)
        return trail(CUE_ETYPE, "type %#x is the library's own: use types below %#x", type, CUE_TYPE_SYSTEM);
    if (m->size > pool->data_bytes)
        return trail(CUE_ETOOBIG, "a message of %zu bytes will never fit into pool %s of %llu", m->size, pool->name,
                     (unsigned long long)pool->data_bytes);
    if (m->move && opened->pure)
        type = atomic_load_explicit(&opened->ref.rec->type, relaxed); /* ours */
    if (lane->type && type != lane->type)
        return trail(CUE_ETYPE, "a message of type %u on a lane for type %u", type, lane->type);
    return trail(CUE_ETOOBIG, "a message of %llu bytes on a lane for at most %llu", (unsigned long long)bytes,
                 (unsigned long long)lane->max);
}

int message_not_ours(struct cue_pool *pool, const struct block_ref *ref, uint64_t state)
{
    if (ref->pool != pool)
        return trail(CUE_ENOTOWNER, "the block is of pool %s, the channel carries blocks of pool %s: see cue_block_copy", ref->pool->name,
                     pool->name);
    if (rec_generation(state) != ref->generation || rec_state(state) == REC_FREE)
        return trail(CUE_ESTALE, "block %x of pool %s is gone", ref->index, pool->name);
    return trail(CUE_ENOTOWNER, "block %x of pool %s is not ours any more: it was sent, freed or published through another handle",
                 ref->index, pool->name);
}

/* ---- pack ---- */

struct envelope_try {
    uint64_t room;
    const struct fresh *fresh;
    struct taken *out;
};

static int envelope_try(struct cue_pool *pool, void *arg)
{
    const struct envelope_try *want = arg;
    return block_take(pool, want->room, 0, want->fresh, want->out);
}

static __attribute__((noinline)) int envelope_await(struct cue_pool *pool, uint64_t room, const struct fresh *fresh,
                                                    const struct room_until *until, struct taken *out)
{
    struct room_until patience = *until;
    int status = pool_wait_begin(pool);
    if (status)
        return status;
    patience.any_turn = room <= pool->slab_most;
    status = room_wait(pool, 0, &patience, envelope_try, &(struct envelope_try){ room, fresh, out });
    if (!status)
        status = pool_wait_look(pool); /* closed meanwhile: it goes with the rest */
    pool_wait_end(pool);
    return status;
}

/* The header, and for an owner the block becomes the envelope's. */
static int pack_header(struct cue_pool *pool, const cue_msg *m, const struct opened *opened, char *data, struct parcel *out)
{
    const struct block_ref *ref = m->move ? &opened->ref : NULL;
    uint64_t state = opened->state;
    struct message_header header = { .key = m->key, .from = m->from, .status = m->status, .index = INDEX_NONE };
    if (opened->home != INDEX_NONE)
        header.home = opened->home_generation;
    else if (opened->tag_in_header)
        header.home = m->tag;
    if (ref) {
        char *base;
        uint64_t capacity;
        if (!pool_bytes(pool, ref->index, &base, &capacity))
            return trail(CUE_ECORRUPT, "the slab of block %x makes no sense", ref->index);
        header.index = ref->index;
        header.generation = ref->generation;
        header.offset = (uint64_t)((char *)m->move->data - base);
        header.size = m->move->size;
    }
    memcpy(data, &header, sizeof header);
    if (is_question(m))
        ask_packed = (struct ask_note){ .index = out->index, .generation = rec_generation(out->state) };
    if (!ref || !ref->owner)
        return 0;
    /* relaxed: made readable by SENT */
    atomic_store_explicit(&ref->rec->lane, LANE_ENVELOPE, relaxed);
    atomic_store_explicit(&ref->rec->next, out->index, relaxed);
    atomic_store_explicit(&ref->rec->seq, (uint32_t)rec_generation(out->state), relaxed);
    if (!block_move(ref->rec, state & ~REC_SHARED, rec_word(REC_SENT, pool->self + 1, ref->generation))) /* !! it is the envelope's */
        return trail(CUE_ESTALE, "block %x of pool %s was used by another thread meanwhile", ref->index, pool->name);
    out->with = ref->rec;
    out->with_index = ref->index;
    out->with_state = state & ~REC_SHARED;
    return 0;
}

int message_enclose(struct cue_pool *pool, const cue_msg *m, bool system, const struct room_until *until, const struct opened *opened,
                    struct parcel *out)
{
    const struct block_ref *ref = &opened->ref;
    uint64_t bytes = m->size, before = 0;
    uint32_t note = NOTE_MESSAGE | (m->size || !m->move ? MESSAGE_BYTES : 0) | (system ? MESSAGE_SYSTEM : 0);
    if (__builtin_expect(m->move != NULL, 0)) {
        if (ref->owner)
            bytes += m->move->size;
        note |= MESSAGE_HEADER | (ref->owner ? MESSAGE_ATTACHED : MESSAGE_REFERENCE);
    } else if (__builtin_expect(m->key || m->status || !cue_ref_same(m->from, (cue_ref){ 0 }) || (opened->tag_in_header && m->tag), 0)) {
        note |= MESSAGE_HEADER;
    }
    struct fresh fresh = { .size = m->size, .id = m->tag, .type = m->type };
    if (__builtin_expect(opened->enclose, 0)) {
        if (m->move && opened->pure)
            fresh.type = atomic_load_explicit(&ref->rec->type, relaxed); /* ours */
        if (opened->home != INDEX_NONE) {
            note |= MESSAGE_HEADER | MESSAGE_LENT;
            fresh.name_hash = opened->home;
        }
    }
    fresh.note = note;
    if (note & MESSAGE_HEADER)
        before = sizeof(struct message_header);
    struct taken taken;
    int status = __builtin_expect(until != NULL, 0) ? envelope_await(pool, before + m->size, &fresh, until, &taken)
                                                    : block_take(pool, before + m->size, 0, &fresh, &taken);
    if (__builtin_expect(status, 0))
        return status;
    out->rec = taken.rec;
    out->index = taken.index;
    out->envelope = true;
    out->sent = false;
    out->state = rec_word(REC_OWNED, pool->self + 1, taken.generation);
    out->with = NULL;
    out->weight = bytes >= LANE_WEIGHTY ? bytes : 0;
    if (note & MESSAGE_HEADER && (status = pack_header(pool, m, opened, taken.data, out))) {
        message_undo(pool, out);
        return status;
    }
    if (m->size) {
        memcpy(taken.data + before, m->data, m->size);
        if (!system)                                                    /* the runtime's own messages are no caller's payload */
            atomic_fetch_add_explicit(&pool->copied, m->size, relaxed); /* a count for people */
    }
    return 0;
}

void message_undo(struct cue_pool *pool, struct parcel *parcel)
{
    if (!parcel->rec)
        return;
    if (parcel->with) /* first: see above */
        block_move(parcel->with, rec_word(REC_SENT, pool->self + 1, rec_generation(parcel->with_state)), parcel->with_state);
    uint64_t now = parcel->sent ? rec_word(REC_SENT, pool->self + 1, rec_generation(parcel->state)) : parcel->state;
    if (parcel->envelope) {
        block_drop(pool, parcel->rec, parcel->index, now);
    } else if (parcel->sent) {
        if (parcel->state & REC_PUBLISHED)
            atomic_store_explicit(&parcel->rec->made_ns, parcel->made_ns, relaxed); /* made readable by the CAS */
        block_move(parcel->rec, now, parcel->state);
    }
    parcel->rec = NULL;
}

/* ---- unpack ---- */

bool attached_take(struct cue_pool *pool, struct record *rec, uint64_t generation, uint32_t envelope, uint64_t envelope_generation)
{
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) != REC_SENT || rec_generation(state) != generation || atomic_load_explicit(&rec->lane, relaxed) != LANE_ENVELOPE ||
        atomic_load_explicit(&rec->next, relaxed) != envelope ||
        atomic_load_explicit(&rec->seq, relaxed) != (uint32_t)envelope_generation) /* pairs with: the state word */
        return false;
    return block_move(rec, state & ~REC_SHARED, rec_word(REC_OWNED, pool->self + 1, generation)); /* !! */
}

/* What came along. `out->status` says if it is gone. */
static void unpack_block(struct cue_pool *pool, uint32_t note, const struct message_header *header, uint32_t index, uint64_t generation,
                         cue_msg *out)
{
    if (note & MESSAGE_REFERENCE) {
        if (pool_attach(pool, header->index, header->generation, 44, &out->block)) {
            out->status = CUE_ESTALE;
        } else if (header->offset > out->block.size || header->size > out->block.size - header->offset) {
            cue_block_release(&out->block);
            out->status = CUE_ECORRUPT;
        } else {
            out->block.data = (char *)out->block.data + header->offset;
            out->block.size = header->size;
        }
        return;
    }
    struct record *rec = pool_record(pool, header->index);
    char *data;
    uint64_t capacity;
    if (!rec || !attached_take(pool, rec, header->generation, index, generation)) {
        out->status = CUE_ESTALE;
        return;
    }
    if (!pool_bytes(pool, header->index, &data, &capacity) || rec_size(rec) > capacity) {
        block_drop(pool, rec, header->index, rec_word(REC_OWNED, pool->self + 1, header->generation));
        out->status = CUE_ECORRUPT;
        return;
    }
    handle_owner(pool, header->index, header->generation, data, rec_size(rec), &out->block);
}

void message_unpack_header(struct cue_pool *pool, uint32_t note, const char *data, uint32_t index, uint64_t generation, cue_msg *out)
{
    struct message_header header;
    memcpy(&header, data, sizeof header);
    out->key = header.key;
    out->from = header.from;
    out->status = header.status;
    if (note & (MESSAGE_ATTACHED | MESSAGE_REFERENCE))
        unpack_block(pool, note, &header, index, generation, out);
    if (!(note & MESSAGE_BYTES)) {
        out->data = out->block.data;
        out->size = out->block.size;
    }
}

int message_makes_no_sense(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t taken, cue_msg *out)
{
    memset(out, 0, sizeof *out);
    block_drop(pool, rec, index, taken);
    return trail(CUE_ECORRUPT, "message %x of pool %s makes no sense: it was freed", index, pool->name);
}

int message_unpack(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t taken, cue_msg *out, struct unpacked *about)
{
    static const struct near_slabs none;
    return message_unpack_near(pool, &none, rec, index, taken, out, about);
}

/* Gives what came by itself back, an envelope or a block, and says whether that was easy: its pool is open here and it is still
 * ours. */
static inline bool easy_drop(const uint64_t handle[3], uint64_t record)
{
    struct cue_pool *pool = &pool_table[handle[0] >> 32 & (POOLS_MAX - 1)];
    if (!handle_owns(handle[0]) || handle[2] != fork_epoch || atomic_load_explicit(&pool->open, acquire) != 1 ||
        pool->incarnation != handle[0] >> 44)
        return false;
    struct record *rec = (struct record *)(uintptr_t)record;
    uint64_t state = atomic_load_explicit(&rec->state, relaxed) & ~REC_SHARED; /* ours */
    if ((state & ~REC_LENT) != rec_word(REC_OWNED, pool->self + 1, handle[1]))
        return false;
    return block_drop(pool, rec, (uint32_t)handle[0], state);
}

/* `block` is the caller's variable: by now it may hold another block than the one that came. */
static inline bool is_record_of(const uint64_t handle[3], uint64_t record)
{
    struct cue_pool *pool = &pool_table[handle[0] >> 32 & (POOLS_MAX - 1)];
    return atomic_load_explicit(&pool->open, acquire) == 1 &&
           trusted_record(pool, (uint32_t)handle[0]) == (struct record *)(uintptr_t)record; /* only compared */
}

void cue_msg_release(cue_msg *m)
{
    if (!m)
        return;
    if (!m->priv[0] && m->priv[1])
        cell_give((struct cell *)(uintptr_t)m->priv[1], m->priv[2]); /* see stream_unpack */
    uint64_t record = m->priv[3] & PRIV_BITS ? 0 : m->priv[3];       /* else from a socket, see cue_msg_peer, or a tap's */
    if (m->block.priv[0] && (m->priv[0] || !record || !is_record_of(m->block.priv, record) || !easy_drop(m->block.priv, record)))
        cue_block_release(&m->block);
    if (m->priv[0] && (!record || !easy_drop(m->priv, record))) {
        cue_block envelope = { .priv = { m->priv[0], m->priv[1], m->priv[2] } };
        cue_block_release(&envelope);
    }
    message_clear(m);
}
