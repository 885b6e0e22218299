/* Two ends of socket lanes in this process, the second with a pool that says it is another host's; for the suites of what goes
 * to who cannot map a pool. */
#ifndef TESTS_TWO_HOSTS_H
#define TESTS_TWO_HOSTS_H

#include "tests/harness.h"

#include "channels/nng/nng_internal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight.h>

static char name[64], far_name[64], folder[TEST_PATH];
static cue_pool *pool, *far_pool;

static inline void set_up(void)
{
    cr_assert(test_folder(folder));
    strcpy(name, test_name("near"));
    strcpy(far_name, test_name("far"));
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 64 << 20, .flags = CUE_CREATE }, &pool));
    CUE_MUST(cue_pool_open(far_name, &(cue_pool_opts){ .size = 64 << 20, .flags = CUE_CREATE }, &far_pool));
    far_pool->host++; /* what its descriptors say: nobody here can map it */
}

static inline void nothing_is_left(cue_pool *of)
{
    cue_pool_info info;
    cr_assert(eq(int, cue_pool_check(of, true, NULL, NULL), 0));
    CUE_MUST(cue_pool_stat(of, &info));
    cr_assert(eq(u64, info.blocks, 0), "%lu blocks in %s", info.blocks, info.name);
    cr_assert(eq(u64, info.in_flight, 0));
}

static inline void tear_down(void)
{
    nothing_is_left(pool);
    nothing_is_left(far_pool);
    cue_pool_close(pool);
    cue_pool_close(far_pool);
    cr_assert(eq(int, rmdir(folder), 0), "%s is not empty", folder);
    char mine[32];
    snprintf(mine, sizeof mine, "-%d-", (int)getpid());
    cr_assert(eq(int, test_leftovers(mine), 0));
}

static inline void url_of(const char *scheme, char *url, size_t room)
{
    if (strcmp(scheme, "ipc") == 0)
        snprintf(url, room, "ipc://%s/lane", folder);
    else
        snprintf(url, room, "%s://127.0.0.1:%d%s", scheme, test_port(), strcmp(scheme, "ws") == 0 ? "/lane" : "");
}

#endif
