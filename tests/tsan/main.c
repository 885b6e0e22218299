/* Runs the tests of one suite under the thread sanitizer: each in a forked child with a time-out, as Criterion does, with its
 * options --timeout and --json and the same report. */
#include <criterion/criterion.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SKIPPED = 77, FAILED = 1 };

static struct tsan_test *tests, **last = &tests;
static struct tsan_test *running;
static _Atomic int expectations_failed;

void tsan_add(struct tsan_test *test)
{
    *last = test;
    last = &test->next;
}

static const struct tsan_test *suite_of(const struct tsan_test *test)
{
    for (const struct tsan_test *other = tests; other; other = other->next)
        if (!other->name && strcmp(other->suite, test->suite) == 0)
            return other;
    return NULL;
}

static void finish(void)
{
    static bool begun; /* by a failing assertion in a .fini */
    const struct tsan_test *suite = suite_of(running);
    if (begun)
        return;
    begun = true;
    if (running->fini)
        running->fini();
    if (suite && suite->fini)
        suite->fini();
}

bool tsan_check(bool good, bool fatal, const char *file, int line, const char *expression, const char *format, ...)
{
    if (good)
        return true;
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: %s: ", file, line, expression);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    expectations_failed++;
    if (fatal) {
        finish();
        exit(FAILED);
    }
    return false;
}

void tsan_skip(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s::%s: skipped: ", running->suite, running->name);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    finish();
    exit(SKIPPED);
}

static void child(struct tsan_test *test)
{
    const struct tsan_test *suite = suite_of(test);
    running = test;
    if (suite && suite->init)
        suite->init();
    if (test->init)
        test->init();
    test->run();
    finish();
    exit(expectations_failed ? FAILED : test->exit_code);
}

/* The wait status, or -1 after the time-out. */
static int run(struct tsan_test *test, double timeout)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0)
        child(test);
    struct pollfd end = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
    bool ended = poll(&end, 1, (int)(timeout * 1000)) == 1;
    if (!ended)
        kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    close(end.fd);
    return ended ? status : -1;
}

static bool as_expected(const struct tsan_test *test, int status)
{
    if (test->signal)
        return status >= 0 && WIFSIGNALED(status) && WTERMSIG(status) == test->signal;
    return status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == test->exit_code;
}

int main(int argc, char **argv)
{
    const char *report = NULL, *filter = "";
    double timeout = 60;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--timeout") == 0 && i + 1 < argc)
            timeout = atof(argv[++i]);
        else if (strncmp(argv[i], "--json=", 7) == 0)
            report = argv[i] + 7;
        else if (argv[i][0] != '-')
            filter = argv[i]; /* a part of SUITE::TEST */
    }
    int passed = 0, failed = 0, skipped = 0;
    for (struct tsan_test *test = tests; test; test = test->next) {
        char name[300];
        snprintf(name, sizeof name, "%s::%s", test->suite, test->name ? test->name : "");
        if (!test->name || !strstr(name, filter))
            continue;
        int status = test->disabled ? SKIPPED << 8 : run(test, test->timeout > 0 ? test->timeout : timeout);
        if (as_expected(test, status))
            passed++;
        else if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
            skipped++;
        else {
            failed++;
            fprintf(stderr, "FAIL %s: %s %d\n", name,
                    status < 0            ? "time-out"
                    : WIFSIGNALED(status) ? "signal"
                                          : "exit",
                    status < 0            ? 0
                    : WIFSIGNALED(status) ? WTERMSIG(status)
                                          : WEXITSTATUS(status));
        }
    }
    FILE *out = report ? fopen(report, "w") : NULL;
    if (out) {
        fprintf(out, "{\n  \"passed\": %d,\n  \"failed\": %d,\n  \"errored\": 0,\n  \"skipped\": %d\n}\n", passed, failed, skipped);
        fclose(out);
    }
    printf("tested %d, passing %d, failing %d, skipped %d\n", passed + failed + skipped, passed, failed, skipped);
    return failed || passed + skipped == 0;
}
