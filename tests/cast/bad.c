/* Roles for tests/bad_input.c. */
#include "tests/cast/roles.h"

#include <cuelight/pool.h>

#include <stdlib.h>

int role_own_published(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    if (argc != 4 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    if (cue_block_alloc(pool, 64, &(cue_block_opts){ .type = (uint32_t)atoi(argv[2]), .id = strtoull(argv[3], NULL, 10) }, &b))
        return 2;
    if (cue_block_publish(&b, CUE_MINE))
        return 3;
    role_say('r');
    role_hear();
    cue_block_release(&b);
    cue_pool_close(pool);
    return 0;
}
