/* Descriptors as bytes.
 *
 * One msgpack ext of fixed layout (desc_layout.h), so that it is read in one pass over one table of offsets, and that Dragon's
 * callers find the pool's uid and the host where they look for them. A checksum over all other bytes catches what was damaged
 * on the way: without it a flipped index would name another live block of the same generation. It is no signature: who can
 * forge descriptors for a pool could as well write to the pool.
 */
#include "serial_internal.h"

#include "base/shm.h"
#include "desc_layout.h"
#include "pack.h"

#include <string.h>

static uint64_t get_le(const uint8_t *at, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static void put_le(uint8_t *at, unsigned bytes, uint64_t value)
{
    for (unsigned i = 0; i < bytes; i++, value >>= 8)
        at[i] = (uint8_t)value;
}

/* Each byte times its place, modulo a prime: certain to change with any one byte and with any two bytes that trade places.
 * The uid, the host and the sum itself are left out. */
static uint16_t desc_sum(const uint8_t *bytes, size_t size)
{
    uint32_t sum = DESC_VERSION;
    for (uint32_t i = 0; i < DESC_AT_SUM; i++)
        sum += (i + 1) * bytes[i];
    for (uint32_t i = DESC_AT_INDEX; i < size; i++)
        sum += (i + 1) * bytes[i];
    return (uint16_t)(sum % 65521);
}

int desc_write(const struct desc *desc, void *buf, size_t cap)
{
    size_t name = strnlen(desc->shown.pool, DESC_NAME_MAX);
    size_t size = DESC_AT_NAME + name;
    if (!buf || cap < size)
        return trail(CUE_ETOOBIG, "a descriptor of %zu bytes into a buffer of %zu", size, buf ? cap : 0);
    uint8_t raw[CUE_DESC_MAX] = { 0 };
    raw[DESC_AT_EXT] = DESC_EXT_8;
    raw[DESC_AT_LENGTH] = (uint8_t)(size - DESC_HEAD);
    raw[DESC_AT_TYPE] = DESC_EXT_TYPE;
    raw[DESC_AT_VERSION] = DESC_VERSION;
    raw[DESC_AT_KIND] = (uint8_t)desc->shown.kind;
    raw[DESC_AT_NAME_BYTES] = (uint8_t)name;
    put_le(raw + DESC_AT_UID, 8, desc->shown.pool_uid);
    put_le(raw + DESC_AT_HOST, 8, desc->shown.host);
    put_le(raw + DESC_AT_INDEX, 4, desc->index);
    put_le(raw + DESC_AT_BLOCK_TYPE, 4, desc->shown.type);
    put_le(raw + DESC_AT_GENERATION, 8, desc->generation);
    put_le(raw + DESC_AT_OFFSET, 8, desc->shown.offset);
    put_le(raw + DESC_AT_SIZE, 8, desc->shown.size);
    put_le(raw + DESC_AT_KEY_ID, 8, desc->shown.key_id);
    memcpy(raw + DESC_AT_NAME, desc->shown.pool, name);
    put_le(raw + DESC_AT_SUM, 2, desc_sum(raw, size));

    struct pack out = pack_into(buf, cap);
    pack_ext(&out, DESC_EXT_TYPE, raw + DESC_HEAD, (uint32_t)(size - DESC_HEAD));
    return out.full ? trail(CUE_ETOOBIG, "a descriptor of %zu bytes into a buffer of %zu", size, cap) : (int)out.used;
}

int desc_read(const void *bytes, size_t size, struct desc *out)
{
    memset(out, 0, sizeof *out);
    const uint8_t *raw = bytes;
    if (!raw || size < DESC_AT_VERSION + 1 || raw[DESC_AT_EXT] != DESC_EXT_8 || raw[DESC_AT_TYPE] != DESC_EXT_TYPE)
        return trail(CUE_ECORRUPT, "the %zu bytes do not begin with a descriptor", size);
    if (raw[DESC_AT_VERSION] != DESC_VERSION)
        return trail(CUE_EVERSION, "a descriptor of format %u; this library knows %u", raw[DESC_AT_VERSION], DESC_VERSION);
    size_t whole = DESC_HEAD + (size_t)raw[DESC_AT_LENGTH];
    if (whole > size)
        return trail(CUE_ECORRUPT, "a descriptor of %zu bytes is cut after %zu", whole, size);
    if (whole < DESC_AT_NAME || raw[DESC_AT_NAME_BYTES] > DESC_NAME_MAX || whole != DESC_AT_NAME + (size_t)raw[DESC_AT_NAME_BYTES])
        return trail(CUE_ECORRUPT, "a descriptor of %zu bytes, of which not as many as it says are a name", whole);
    if (get_le(raw + DESC_AT_SUM, 2) != desc_sum(raw, whole))
        return trail(CUE_ECORRUPT, "a descriptor's checksum is wrong");

    struct desc d = { .shown = { .pool_uid = get_le(raw + DESC_AT_UID, 8),
                                 .host = get_le(raw + DESC_AT_HOST, 8),
                                 .key_id = get_le(raw + DESC_AT_KEY_ID, 8),
                                 .offset = get_le(raw + DESC_AT_OFFSET, 8),
                                 .size = get_le(raw + DESC_AT_SIZE, 8),
                                 .type = (uint32_t)get_le(raw + DESC_AT_BLOCK_TYPE, 4),
                                 .kind = raw[DESC_AT_KIND] },
                      .index = (uint32_t)get_le(raw + DESC_AT_INDEX, 4),
                      .generation = get_le(raw + DESC_AT_GENERATION, 8) };
    memcpy(d.shown.pool, raw + DESC_AT_NAME, raw[DESC_AT_NAME_BYTES]);
    if (d.shown.kind != CUE_DESC_POOL && d.shown.kind != CUE_DESC_BLOCK)
        return trail(CUE_EVERSION, "a descriptor of kind %u, which this library does not know", d.shown.kind);
    if (raw[DESC_AT_NAME_BYTES] && (strlen(d.shown.pool) != raw[DESC_AT_NAME_BYTES] || !shm_name_valid(d.shown.pool)))
        return trail(CUE_ECORRUPT, "a descriptor's pool has an impossible name");
    if (d.generation >> (64 - REC_GENERATION_SHIFT) || d.shown.offset > INT64_MAX || d.shown.size > INT64_MAX)
        return trail(CUE_ECORRUPT, "a descriptor's generation, offset or size cannot be");
    if (d.shown.kind == CUE_DESC_BLOCK)
        d.shown.id = automatic_id(d.index, d.generation);
    *out = d;
    return (int)whole;
}

int cue_desc_decode(const void *bytes, size_t size, cue_desc *out)
{
    if (!out)
        return trail(CUE_EINVAL, "cue_desc_decode: out is NULL");
    struct desc desc;
    int read = desc_read(bytes, size, &desc);
    *out = desc.shown;
    return read;
}

static void desc_of_pool(const cue_pool *pool, struct desc *out)
{
    *out = (struct desc){ .shown = { .pool_uid = pool->uid, .host = pool->host, .kind = CUE_DESC_POOL } };
    memcpy(out->shown.pool, pool->name, strnlen(pool->name, DESC_NAME_MAX));
}

int cue_pool_encode(const cue_pool *pool, void *buf, size_t cap)
{
    if (!pool || atomic_load_explicit(&pool->open, memory_order_relaxed) != 1) /* as pool_enter(): a private word */
        return trail(CUE_EINVAL, "cue_pool_encode: the pool is %s", pool ? "closed" : "NULL");
    struct desc desc;
    desc_of_pool(pool, &desc);
    return desc_write(&desc, buf, cap);
}

int cue_block_encode(const cue_block *b, void *buf, size_t cap)
{
    struct block_ref ref;
    int status = handle_open(b, &ref);
    if (status)
        return trail_in(status, "cue_block_encode");
    uint64_t state = atomic_load_explicit(&ref.rec->state, memory_order_acquire); /* a hint: it may go at any moment */
    if (rec_generation(state) != ref.generation || rec_state(state) == REC_FREE)
        return trail(CUE_ESTALE, "cue_block_encode: block %x of pool %s is gone", ref.index, ref.pool->name);
    char *data;
    uint64_t capacity;
    if (!pool_bytes(ref.pool, ref.index, &data, &capacity))
        return trail(CUE_ECORRUPT, "cue_block_encode: block %u has no bytes", ref.index);
    uint64_t offset = (uint64_t)((uintptr_t)b->data - (uintptr_t)data);
    if (offset > capacity || b->size > capacity - offset)
        return trail(CUE_EINVAL, "cue_block_encode: the handle shows bytes that are not its block's");
    struct desc desc;
    desc_of_pool(ref.pool, &desc);
    desc.shown.kind = CUE_DESC_BLOCK;
    desc.shown.offset = offset;
    desc.shown.size = b->size;
    desc.shown.type = atomic_load_explicit(&ref.rec->type, memory_order_relaxed); /* we own or lease it: it stays as it is */
    if (atomic_load_explicit(&ref.rec->note, memory_order_relaxed) & NOTE_KEYED)
        desc.shown.key_id = atomic_load_explicit(&ref.rec->id, memory_order_relaxed);
    desc.index = ref.index;
    desc.generation = ref.generation;
    return desc_write(&desc, buf, cap);
}
