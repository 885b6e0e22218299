/* What sending on a lane has in common, whatever its kind: several messages with one call, and patience where the pool is full. */
#ifndef SEND_H
#define SEND_H

#include "message.h"

/* A mailbox packs so many before the first of them goes; a stream writes down so many before it says that they went. */
enum { SEND_BATCH = 32 };

struct sending {
    bool (*room)(void *ch, uint64_t weight);                  /* does it make sense to try? */
    int (*one)(void *ch, const cue_msg *m, int64_t deadline); /* 1: it went, or was dropped as the lane says */
    int (*batch)(void *ch, const cue_msg *m, int n);          /* as many of the n <= SEND_BATCH as can go at once; else a status */
};
/* As channel_ops.send_many. */
int send_several(void *ch, const struct lane_head *lane, const struct sending *how, const cue_msg *m, size_t n, int64_t deadline);

/* Packs what has found no room in the pool: waits for it until *deadline, which is made, as channel_ops.later has it. `over` as in
 * room_until. */
int send_pack(struct cue_pool *pool, const cue_msg *m, bool system, int64_t *deadline, int (*over)(void *ch, bool signalled), void *ch,
              const struct opened *opened, struct parcel *out);

#endif
