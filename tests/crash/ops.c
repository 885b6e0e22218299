/* All that is cut. */
#include "crash.h"

extern const struct op ops_pool[], ops_room[], ops_hand[], ops_budget[], ops_channel[], ops_actor[], ops_ask[], ops_ring[], ops_topic[],
    ops_tap[], ops_shut[], ops_nng[];

const struct op *const op_tables[] = { ops_pool, ops_room,  ops_hand, ops_budget, ops_channel, ops_actor, ops_ask,
                                       ops_ring, ops_topic, ops_tap,  ops_shut,   ops_nng,     NULL };
