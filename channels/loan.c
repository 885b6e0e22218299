/* Loans: a message that is written where it will be read. cue_channel_reserve gives a block of the channel's pool, an owner like any
 * other, so that what was reserved and never committed goes with its process; cue_channel_commit is the send that moves it. */
#include "channel_internal.h"

#include <string.h>

int cue_channel_reserve(cue_channel *ch, size_t size, uint32_t type, cue_time wait, cue_block *out)
{
    if (!out)
        return trail(CUE_EINVAL, "cue_channel_reserve: no place for the block");
    memset(out, 0, sizeof *out);
    int status = channel_enter(ch);
    if (status)
        return status;
    if (!(ch->how & CUE_SEND))
        return trail(CUE_EINVAL, "the channel was not opened to send: CUE_SEND");
    status = cue_block_alloc(ch->pool, size, &(cue_block_opts){ .type = type, .wait = wait }, out);
    return status ? trail_in(status, "cue_channel_reserve") : 0;
}

int cue_channel_commit(cue_channel *ch, cue_block *b, size_t size, cue_time wait)
{
    if (!b)
        return trail(CUE_EINVAL, "cue_channel_commit: no block given");
    int status = size == b->size ? 0 : cue_block_resize(b, size);
    return status ? status : cue_channel_send(ch, &(cue_msg){ .move = b }, wait);
}
