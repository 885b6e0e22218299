/* Counts what goes wrong in a test's .fini, for every suite under Criterion.
 *
 * Criterion counts a test as passed or failed when its body is over and runs the .fini afterwards: an assertion that fails
 * there is printed, and then forgotten. Our ends look at what a test has left behind (blocks, objects in /dev/shm, folders), so
 * their findings must count. These hooks run in Criterion's own process. tests/tsan/main.c asks after the end by itself. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>

#include <stdio.h>

static size_t bad_ends;

ReportHook(POST_FINI)(struct criterion_test_stats *stats)
{
    if (stats->test_status != CR_STATUS_PASSED || stats->failed_asserts == 0)
        return;
    stats->test_status = CR_STATUS_FAILED;
    bad_ends++;
    fprintf(stderr, "[FAIL] %s::%s: at its end\n", stats->test->category, stats->test->name);
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    stats->tests_passed -= bad_ends;
    stats->tests_failed += bad_ends;
}
