/* cuelight/serial.h: what travels: addresses, descriptors, and a check of msgpack from outside.
 *
 * A DESCRIPTOR names a pool, or a block of it, or a part of a block, in at most CUE_DESC_MAX bytes. It is one msgpack ext of
 * fixed layout (docs/wire-format.md), the same for C and Python, and may go through a socket, a file or a pickle. In every
 * descriptor the bytes 8–15 are the pool's uid and 16–23 the host's id, little-endian; these two may be overwritten by a
 * caller, all others are guarded by a checksum.
 *
 * A descriptor holds nothing. The block lives as long as somebody owns, keeps or leases it; afterwards its descriptor gives
 * CUE_ESTALE, never the bytes of another block. To hand a block over, send it through a channel (`move`).
 *
 * Bytes from outside may be hostile: every call here checks each field against the bytes given and against the pool.
 */
#ifndef CUELIGHT_SERIAL_H
#define CUELIGHT_SERIAL_H

#include <cuelight/error.h>
#include <cuelight/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The address of an actor, by value. All zero: nobody. */
typedef struct cue_ref {
    uint32_t node, process, index, generation;
} cue_ref;

static inline bool cue_ref_same(cue_ref a, cue_ref b)
{
    return a.node == b.node && a.process == b.process && a.index == b.index && a.generation == b.generation;
}

enum { CUE_DESC_MAX = 128 };
enum { CUE_DESC_POOL = 0, CUE_DESC_BLOCK = 1 };

/* A descriptor, taken apart. */
typedef struct cue_desc {
    uint64_t pool_uid, host;
    uint64_t id;           /* the block's automatic id: cue_block_find(pool, (cue_key){.id = id}, …) */
    uint64_t key_id;       /* the id that its maker chose, 0: none */
    uint64_t offset, size; /* which of its bytes are meant */
    uint32_t type, kind;   /* the block's type · CUE_DESC_… */
    char pool[64];         /* the pool's name, "" without one */
    uint64_t spare[4];
} cue_desc;

/* Writes a descriptor of the block or part of a block that the handle shows; of the pool. Bytes written.
 * CUE_ETOOBIG: `cap` is less than it takes; CUE_DESC_MAX always suffices. */
CUE_API CUE_CHECKED int cue_block_encode(const cue_block *b, void *buf, size_t cap);
CUE_API CUE_CHECKED int cue_pool_encode(const cue_pool *pool, void *buf, size_t cap);

/* Takes the descriptor at the start of `bytes` apart; attaches nothing, needs no pool. Bytes read.
 * CUE_ECORRUPT: cut, damaged or no descriptor. CUE_EVERSION: of a format that this library does not know. */
CUE_API CUE_CHECKED int cue_desc_decode(const void *bytes, size_t size, cue_desc *out);

/* A view of what the descriptor names. Finds the pool among those that this process has open, else attaches it by its name
 * for as long as the view is held: whoever attaches often opens the pool first. `wait` is for bytes that come from
 * elsewhere; on one host nothing waits. Makes system calls only where it attaches the pool.
 * CUE_ESTALE: the block is gone. CUE_ENOENT: no such pool; one without a name must be handed over by its cue_pool_fd().
 * CUE_EREMOTE: made on another host. CUE_ETYPE: names a pool, or a block of another type. CUE_EPERM. CUE_ECORRUPT, also if it means bytes
 * that the block does not have. */
CUE_API CUE_CHECKED int cue_block_attach(const void *bytes, size_t size, cue_time wait, cue_block *out);

/* Opens the pool that the descriptor names (also the pool of a block); give it back with cue_pool_close.
 * CUE_ENOENT, CUE_EREMOTE, CUE_EPERM, CUE_ECORRUPT as above. */
CUE_API CUE_CHECKED int cue_pool_attach(const void *bytes, size_t size, cue_pool **out);

/* Whether the bytes are exactly one msgpack object, whole, with element counts that the bytes can hold and at most 16 levels
 * deep. Ask before msgpack-c's unpacker sees bytes from outside: five bytes can make it take 8 GB. At most 1 ns a byte or so.
 * CUE_ECORRUPT. */
CUE_API CUE_CHECKED int cue_msgpack_scan(const void *bytes, size_t size);

#ifdef __cplusplus
}
#endif
#endif
