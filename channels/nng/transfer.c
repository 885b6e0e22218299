/* Blocks that arrive in chunks, from senders whose pool this process cannot map.
 *
 * A sender sends the chunks of one block in order, then the batch that has its message, then the next; so it has one transfer at a
 * time, and a chunk must begin where the one before it ended. Whatever does not fit is a lie, and ends the transfer. The block
 * is ours from the first chunk on: if this process dies, recovery frees it.
 *
 * What senders can make a receiver hold is bounded: one transfer each, TRANSFERS_MAX in all, bytes_max bytes in all (a single one
 * may be larger). Who comes when it is full is told to begin again later. One whose connection has ended is dropped, and
 * one that does not go on for long while nothing waits to be read.
 *
 * Only the thread that receives calls this.
 */
#include "transfer.h"

#include "base/clock.h"

#include <string.h>

static struct transfer *transfer_slot(struct transfers *all, uint64_t total)
{
    if (all->open && (all->open == TRANSFERS_MAX || total > all->bytes_max || all->bytes > all->bytes_max - total))
        return NULL;
    for (unsigned i = 0; i < TRANSFERS_MAX; i++)
        if (!all->at[i].used)
            return &all->at[i];
    return NULL;
}

static int transfer_begin(struct transfers *all, cue_pool *pool, const struct wire_head *chunk, struct transfer **mine)
{
    cue_block block = { 0 };
    struct transfer *t = transfer_slot(all, chunk->total);
    int status = t ? cue_block_alloc(pool, chunk->total, NULL, &block) : CUE_ELIMIT;
    if (status == CUE_ENOMEM && all->open)
        return CUE_ELIMIT; /* what the others hold will be free again */
    if (status && status != CUE_ETOOBIG)
        return status;
    *t = (struct transfer){ .used = true, .number = chunk->number, .total = chunk->total, .block = block };
    all->open++;
    all->bytes += t->total;
    *mine = t;
    return 0;
}

int transfer_chunk(struct transfers *all, cue_pool *pool, const struct wire_head *chunk, struct transfer **mine)
{
    struct transfer *t = *mine;
    if (chunk->payload_bytes == 0 || chunk->payload_bytes > CHUNK_BYTES || chunk->offset > chunk->total ||
        chunk->payload_bytes > chunk->total - chunk->offset)
        return CUE_ECORRUPT;
    if (t ? t->number != chunk->number || t->total != chunk->total || t->have != chunk->offset : chunk->offset != 0)
        return CUE_ECORRUPT;
    int status = t ? 0 : transfer_begin(all, pool, chunk, mine);
    if (status)
        return status;
    t = *mine;
    if (t->block.data)
        memcpy((char *)t->block.data + t->have, chunk->payload, chunk->payload_bytes);
    t->have += chunk->payload_bytes;
    t->touched = clock_ns();
    return 0;
}

bool transfer_finish(struct transfers *all, struct transfer **mine, uint64_t number, uint64_t total, cue_block *out)
{
    struct transfer *t = *mine;
    if (!t || t->number != number || t->total != total || t->have != total)
        return false;
    *out = cue_move(&t->block);
    transfer_drop(all, mine);
    return true;
}

void transfer_drop(struct transfers *all, struct transfer **mine)
{
    struct transfer *t = *mine;
    if (!t)
        return;
    cue_block_release(&t->block);
    all->open--;
    all->bytes -= t->total;
    t->used = false;
    *mine = NULL;
}
