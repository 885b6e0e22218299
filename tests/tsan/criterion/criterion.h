/* Criterion's macros, as far as our suites use them, for builds with the thread sanitizer: Criterion itself cannot run under
 * it (its arena wants addresses that the sanitizer keeps for itself). Same sources, same options, same report; see main.c. */
#ifndef TESTS_TSAN_CRITERION_H
#define TESTS_TSAN_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct tsan_test {
    const char *suite, *name;
    void (*run)(void);
    void (*init)(void), (*fini)(void);
    double timeout;        /* seconds, 0: the runner's */
    int signal, exit_code; /* how it shall end */
    bool disabled;
    const char *description;
    struct tsan_test *next;
};

void tsan_add(struct tsan_test *test);
bool tsan_check(bool good, bool fatal, const char *file, int line, const char *expression, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
void tsan_skip(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#define TSAN_ADD(id)                                                                                                                       \
    __attribute__((constructor)) static void id##_add(void)                                                                                \
    {                                                                                                                                      \
        tsan_add(&id);                                                                                                                     \
    }
#define Test(suite_, name_, ...)                                                                                                           \
    static void suite_##_##name_##_run(void);                                                                                              \
    static struct tsan_test suite_##_##name_ = { .suite = #suite_, .name = #name_, .run = suite_##_##name_##_run, ##__VA_ARGS__ };         \
    TSAN_ADD(suite_##_##name_)                                                                                                             \
    static void suite_##_##name_##_run(void)
#define TestSuite(suite_, ...)                                                                                                             \
    static struct tsan_test suite_##_all = { .suite = #suite_, .name = NULL, ##__VA_ARGS__ };                                              \
    TSAN_ADD(suite_##_all)

#define cr_assert(expression, ...) TSAN_CHECK(true, expression, ##__VA_ARGS__, "%s", "")
#define cr_expect(expression, ...) TSAN_CHECK(false, expression, ##__VA_ARGS__, "%s", "")
/* The last two arguments stand in for a message that is not there. */
#define TSAN_CHECK(fatal, expression, format, ...) tsan_check((expression), fatal, __FILE__, __LINE__, #expression, format, ##__VA_ARGS__)
#define cr_fatal(...) TSAN_CHECK(true, false, ##__VA_ARGS__, "%s", "")
#define cr_fail(...) TSAN_CHECK(false, false, ##__VA_ARGS__, "%s", "")
#define cr_skip_test(...) tsan_skip("" __VA_ARGS__)
#define cr_skip(...) tsan_skip("" __VA_ARGS__)
#define cr_log_info(...) ((void)0)

#endif
