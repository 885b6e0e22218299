/* Descriptors to poll: cue_channel_fd. What channel.c calls around sends and receives; see poll.c. */
#ifndef CHANNELS_POLL_H
#define CHANNELS_POLL_H

#include "channel_internal.h"

struct pollable;

/* Around a receive (`how` CUE_RECV, by a thread that may receive now) or a send (CUE_SEND): `before` it, and `after` it with
 * what it returned. */
void pollable_before(struct pollable *p, unsigned how);
void pollable_after(struct pollable *p, unsigned how, int got);

/* Before ops->close: nobody looks at the lane's words any more; and after it. In a forked child: the descriptor is the parent's. */
void pollable_leave(struct pollable *p);
void pollable_free(struct pollable *p);

void pollable_forked(cue_channel *ch);

/* The descriptor of a channel, made at the first call. CUE_ENOSYS, CUE_ELIMIT … */
int pollable_fd(cue_channel *ch);

#endif
