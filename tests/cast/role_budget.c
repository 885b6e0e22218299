/* Roles for tests/pool_budget.c: parties that allocate under the budget `b` of a pool. */
#include "tests/cast/roles.h"

#include <cuelight/pool.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

static bool open_budget(const char *name, cue_block *budget)
{
    cue_pool *pool;
    return cue_pool_open(name, &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool) == 0 &&
           cue_block_find(pool, (cue_key){ .name = "b" }, CUE_NOW, budget) == 0;
}

int role_budget_worker(int argc, char **argv)
{
    enum { HELD = 8 };
    cue_block budget, held[HELD] = { 0 };
    if (argc != 3 || !open_budget(argv[1], &budget))
        return 1;
    role_say('r');
    for (uint64_t random = strtoull(argv[2], NULL, 10) * 2 + 1;;) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
        cue_block *b = &held[random >> 40 & (HELD - 1)];
        int status = b->data ? cue_budget_free(&budget, b) : cue_budget_alloc(&budget, random >> 50 & 1023, &(cue_budget_want){ 0 }, b);
        if (status && status != CUE_ENOMEM && status != CUE_ELIMIT)
            return 2;
    }
}

int role_budget_filler(int argc, char **argv)
{
    cue_block budget, b;
    if (argc != 3 || !open_budget(argv[1], &budget))
        return 1;
    role_say('r');
    role_hear();
    int status;
    while ((status = cue_budget_alloc(&budget, strtoull(argv[2], NULL, 10), &(cue_budget_want){ 0 }, &b)) == 0)
        cue_block_release(&b);
    role_say(status == CUE_ENOMEM ? 'k' : 'x');
    role_hear();
    return 0;
}

int role_budget_waiter(int argc, char **argv)
{
    cue_block budget, b;
    if (argc != 3 || !open_budget(argv[1], &budget))
        return 1;
    role_say('r');
    if (cue_budget_alloc(&budget, strtoull(argv[2], NULL, 10), &(cue_budget_want){ .wait = CUE_SEC(100) }, &b))
        return 2;
    role_say('g');
    role_hear();
    return 0;
}
