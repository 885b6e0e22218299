/* What tests/bad_*.c share: a table of input x call -> status. Each row is a test of its own, so that one that crashes hides no
 * other, and each also checks what holds for every failing call: errno is left alone, a result is untouched or all zero, and
 * there is a trail, except where error.h says that there is none. */
#ifndef TESTS_BAD_INPUT_H
#define TESTS_BAD_INPUT_H

#include "tests/harness.h"

#include "base/shm.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight.h>

enum { POOL_BYTES = 1 << 20 };
__attribute__((unused)) static const char too_long[] = "a234567890123456789012345678901234567890123456789012345678901234"; /* 64 */

static const char *name; /* of the pool of the test */
static char path[SHM_PATH_MAX];
static cue_pool *pool;
static cue_block block; /* an owner of 100 bytes, type 7, id 42, not published */

/* Results, and what they are before the call. */
static cue_pool *out_pool;
static cue_block out;
static cue_desc out_desc;
static cue_channel *out_channel;
static cue_ref out_ref;
static const unsigned char junk[sizeof(cue_desc)] = { [0 ... sizeof(cue_desc) - 1] = 0xa5 };
static const unsigned char zeros[sizeof(cue_desc)];

static void fill_results(void)
{
    memcpy(&out, junk, sizeof out);
    memcpy(&out_desc, junk, sizeof out_desc);
    memcpy(&out_pool, junk, sizeof out_pool);
    memcpy(&out_channel, junk, sizeof out_channel);
    memcpy(&out_ref, junk, sizeof out_ref);
}

__attribute__((unused)) static void set_up(void)
{
    name = test_name("bad");
    shm_path(name, path);
    cr_assert(eq(int, cue_pool_open(name, &(cue_pool_opts){ .size = POOL_BYTES }, &pool), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 7, .id = 42 }, &block), 0), "%s", cue_trail());
    fill_results();
}

__attribute__((unused)) static void tear_down(void)
{
    if (cue_pool_destroy(pool))
        unlink(path);
}

static bool untouched_or_zero(const void *result, size_t size)
{
    return memcmp(result, junk, size) == 0 || memcmp(result, zeros, size) == 0;
}

static void expect(int64_t status, int code, const char *call)
{
    int error = errno;
    bool ordinary =
        code == CUE_EEMPTY || code == CUE_EFULL || code == CUE_ENOENT || code == CUE_EEXIST || code == CUE_ETIMEDOUT || code == CUE_EINTR;
    cr_expect(eq(str, (char *)cue_status_name((int)status), (char *)cue_status_name(code)), "%s: %s", call, cue_trail());
    cr_expect(eq(int, error, EXDEV), "%s changes errno", call);
    if (code < 0 && !ordinary)
        cr_expect(gt(sz, strlen(cue_trail()), 8), "%s: the trail says nothing", call);
    if (code < 0) {
        cr_expect(untouched_or_zero(&out, sizeof out), "%s leaves half a block", call);
        cr_expect(untouched_or_zero(&out_pool, sizeof out_pool), "%s leaves half a pool", call);
        cr_expect(untouched_or_zero(&out_desc, sizeof out_desc), "%s leaves half a descriptor", call);
        cr_expect(untouched_or_zero(&out_channel, sizeof out_channel), "%s leaves half a channel", call);
        cr_expect(untouched_or_zero(&out_ref, sizeof out_ref), "%s leaves half an address", call);
    }
}

/* BAD(call, input, status, expression): the table's row. */
#define BAD(call, input, code, ...)                                                                                                        \
    Test(bad_##call, input, .init = set_up, .fini = tear_down)                                                                             \
    {                                                                                                                                      \
        errno = EXDEV;                                                                                                                     \
        expect((__VA_ARGS__), code, #call);                                                                                                \
    }

#endif
