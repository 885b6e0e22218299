/* Statuses, the trail, time: what every call of the library relies on. */
#include "tests/harness.h"

#include "base/clock.h"
#include "base/trail.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight/error.h>
#include <limits.h>
#include <pthread.h>

Test(status, every_code_has_its_own_number_name_and_text)
{
#define ROW(name, code, text) { code, "CUE_" #name, text },
    static const struct {
        int code;
        const char *name, *text;
    } rows[] = { CUE_STATUS(ROW) };
    size_t count = sizeof rows / sizeof *rows;
    cr_assert(gt(sz, count, 20));
    for (size_t i = 0; i < count; i++) {
        cr_expect(lt(int, rows[i].code, 0));
        cr_expect(gt(int, rows[i].code, -1000), "%s: codes below -1000 are the application's", rows[i].name);
        cr_expect(eq(str, (char *)cue_status_name(rows[i].code), (char *)rows[i].name));
        cr_expect(eq(str, (char *)cue_status_text(rows[i].code), (char *)rows[i].text));
        for (size_t j = 0; j < i; j++) {
            cr_expect(ne(int, rows[i].code, rows[j].code), "%s and %s", rows[i].name, rows[j].name);
            cr_expect(ne(str, (char *)rows[i].text, (char *)rows[j].text), "%s and %s", rows[i].name, rows[j].name);
        }
    }
    cr_expect(eq(int, CUE_EINVAL, -1));
    cr_expect(eq(int, CUE_ESYS, -29));
}

Test(status, any_number_has_a_name_and_a_text)
{
    static const int odd[] = { 0, 1, INT_MAX, -30, -999, -1000, -1001, INT_MIN };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        cr_assert(ne(ptr, (void *)cue_status_name(odd[i]), NULL));
        cr_assert(gt(sz, strlen(cue_status_text(odd[i])), 0));
    }
    cr_expect(eq(str, (char *)cue_status_name(0), "CUE_OK"));
    cr_expect(eq(str, (char *)cue_status_name(12), "CUE_OK"));
    cr_expect(eq(str, (char *)cue_status_name(-500), "CUE_E?"));
    cr_expect(eq(str, (char *)cue_status_text(-1001), "the application's own reason"));
}

Test(trail, says_what_was_tried_and_hands_the_status_through)
{
    cr_assert(eq(str, (char *)cue_trail(), ""));
    cr_assert(eq(int, trail(CUE_ENOENT, "pool %s of %d", "shop", 3), CUE_ENOENT));
    cr_assert(eq(str, (char *)cue_trail(), "pool shop of 3"));
    cr_assert(eq(int, trail_in(CUE_ENOENT, "open(%s)", "shop"), CUE_ENOENT));
    cr_assert(eq(str, (char *)cue_trail(), "pool shop of 3; in open(shop)"));
    trail(CUE_EINVAL, "anew");
    cr_assert(eq(str, (char *)cue_trail(), "anew"));
}

Test(trail, leaves_errno_alone)
{
    errno = EXDEV;
    trail(CUE_EINVAL, "%s", "x");
    trail_in(CUE_EINVAL, "%s", "y");
    cr_assert(eq(int, errno, EXDEV));
    trail_errno("tried");
    cr_assert(eq(int, errno, EXDEV));
}

Test(trail, chooses_the_status_by_errno_and_adds_its_text)
{
    static const struct {
        int error, status;
    } rows[] = {
        { ENOSPC, CUE_ENOMEM }, { ENOMEM, CUE_ENOMEM }, { EMFILE, CUE_ELIMIT }, { EACCES, CUE_EPERM },          { EPERM, CUE_EPERM },
        { ENOENT, CUE_ENOENT }, { EEXIST, CUE_EEXIST }, { ENOSYS, CUE_ENOSYS }, { ECONNREFUSED, CUE_EUNREACH }, { EIO, CUE_ESYS },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        errno = rows[i].error;
        cr_expect(eq(int, trail_errno("step %zu", i), rows[i].status), "%s", strerror(rows[i].error));
        cr_expect(ne(ptr, strstr(cue_trail(), strerror(rows[i].error)), NULL), "%s", cue_trail());
    }
}

Test(trail, is_cut_and_never_overrun)
{
    static char longer[4000];
    memset(longer, 'a', sizeof longer - 1);
    trail(CUE_EINVAL, "%s", longer);
    cr_assert(eq(sz, strlen(cue_trail()), 1023));
    trail_in(CUE_EINVAL, "more");
    cr_assert(eq(sz, strlen(cue_trail()), 1023));
    longer[1010] = 0;
    trail(CUE_EINVAL, "%s", longer);
    for (int i = 0; i < 100; i++)
        trail_in(CUE_EINVAL, "level %d", i);
    cr_assert(le(sz, strlen(cue_trail()), 1023));
}

static void *other_thread(void *arg)
{
    *(size_t *)arg = strlen(cue_trail());
    trail(CUE_EINVAL, "of the other thread");
    return NULL;
}

Test(trail, belongs_to_its_thread)
{
    pthread_t thread;
    size_t seen = 99;
    trail(CUE_EINVAL, "of the first thread");
    cr_assert(eq(int, pthread_create(&thread, NULL, other_thread, &seen), 0));
    pthread_join(thread, NULL);
    cr_assert(eq(sz, seen, 0));
    cr_assert(eq(str, (char *)cue_trail(), "of the first thread"));
}

Test(must, aborts_on_an_error_and_only_then)
{
    struct cast fine = cast_start("must"), bad = cast_start("must", "shop");
    cr_assert(eq(int, cast_wait(&fine, 10000), 5));
    cr_assert(eq(int, cast_wait(&bad, 10000), CAST_SIGNALLED + SIGABRT));
}

Test(time, units_are_nanoseconds)
{
    cr_assert(eq(i64, CUE_US(3).ns, 3000));
    cr_assert(eq(i64, CUE_MS(5).ns, 5000000));
    cr_assert(eq(i64, CUE_SEC(1.5).ns, 1500000000));
    cr_assert(eq(i64, CUE_NOW.ns, 0));
    cr_assert(eq(i64, CUE_FOREVER.ns, INT64_MAX));
    int64_t before = clock_ns(), now = cue_now().ns, after = clock_ns();
    cr_assert(le(i64, before, now));
    cr_assert(le(i64, now, after));
}

Test(time, a_deadline_never_overflows_and_zero_or_less_does_not_wait)
{
    cr_assert(eq(i64, deadline_of(CUE_NOW), 0));
    cr_assert(eq(i64, deadline_of(CUE_NS(-1)), 0));
    cr_assert(eq(i64, deadline_of(CUE_NS(INT64_MIN)), 0));
    cr_assert(eq(i64, deadline_of(CUE_FOREVER), INT64_MAX));
    cr_assert(eq(i64, deadline_of(CUE_NS(INT64_MAX - 1)), INT64_MAX));
    int64_t before = clock_ns(), deadline = deadline_of(CUE_SEC(10));
    cr_assert(ge(i64, deadline, before + CUE_SEC(10).ns));
    cr_assert(le(i64, deadline, clock_ns() + CUE_SEC(10).ns));
}

Test(time, a_nap_ends_with_the_deadline_and_at_the_latest_after_a_watch_period)
{
    cr_assert(eq(i64, deadline_nap(INT64_MAX), WATCH_PERIOD_NS));
    cr_assert(eq(i64, deadline_nap(0), 0));
    cr_assert(eq(i64, deadline_nap(deadline_of(CUE_SEC(10))), WATCH_PERIOD_NS));
    cr_assert(le(i64, deadline_nap(deadline_of(CUE_MS(20))), CUE_MS(20).ns));
    cr_assert(gt(i64, deadline_nap(deadline_of(CUE_MS(20))), 0));
    cr_assert(lt(i64, deadline_nap(clock_ns() - 5), 0));
}
