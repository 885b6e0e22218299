/* Blocks that arrive in chunks; see transfer.c. */
#ifndef NNG_TRANSFER_H
#define NNG_TRANSFER_H

#include "nng_internal.h"

enum { TRANSFERS_MAX = 32 };

struct transfer {
    bool used;
    uint64_t number;      /* of its message */
    uint64_t have, total; /* bytes */
    cue_block block;      /* empty: it is larger than the pool, and what comes is thrown away */
    int64_t touched;      /* when its last chunk came */
};

struct transfers {
    struct transfer at[TRANSFERS_MAX];
    unsigned open;
    uint64_t bytes, bytes_max; /* of all that are open */
};

/* Takes a chunk of a sender's transfer, which `mine` points to (NULL: none yet). CUE_ECORRUPT: it does not continue what there is.
 * CUE_ELIMIT: too many or too much at once; it may come again later. CUE_ENOMEM: no room in the pool, and no transfer to wait for. */
int transfer_chunk(struct transfers *all, cue_pool *pool, const struct wire_head *chunk, struct transfer **mine);
/* The whole block of that message, or an empty one with `total` > 0 if the pool could never hold it. False: it is not there. */
bool transfer_finish(struct transfers *all, struct transfer **mine, uint64_t number, uint64_t total, cue_block *out);
void transfer_drop(struct transfers *all, struct transfer **mine);

#endif
