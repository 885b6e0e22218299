/* See futex.h. */
#include "futex.h"

#include "uring.h"

#include <cuelight/error.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { NR_FUTEX_WAITV = 449, WAITV_U32 = 2 }; /* the headers of Linux before 5.16 do not know them */

int futex_wait(_Atomic uint32_t *word, uint32_t expected, int64_t ns)
{
    int saved = errno, status = 0;
    struct timespec left = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    if (ns <= 0)
        return CUE_ETIMEDOUT;
    if (syscall(SYS_futex, word, FUTEX_WAIT, expected, &left, NULL, 0) < 0)
        status = errno == ETIMEDOUT ? CUE_ETIMEDOUT : errno == EINTR ? CUE_EINTR : 0;
    errno = saved;
    return status;
}

int futex_wake(_Atomic uint32_t *word, int count)
{
    int saved = errno;
    long woken = syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
    errno = saved;
    return woken < 0 ? 0 : (int)woken;
}

/* ---- one of several ---- */

static enum futex_way way;

static void way_find(void)
{
    int saved = errno;
    const char *asked = secure_getenv("CUE_WAIT");
    enum futex_way most = FUTEX_URING;
    if (asked && strcmp(asked, "nap") == 0)
        most = FUTEX_NAP;
    else if (asked && strcmp(asked, "waitv") == 0)
        most = FUTEX_WAITV;
    if (most == FUTEX_URING && uring_works())
        way = FUTEX_URING;
    else if (most >= FUTEX_WAITV && syscall(NR_FUTEX_WAITV, NULL, 0, 0, NULL, 0) < 0 && errno == EINVAL) /* no words, but it is there */
        way = FUTEX_WAITV;
    else
        way = FUTEX_NAP;
    errno = saved;
}

enum futex_way futex_way(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, way_find);
    return way;
}

struct waitv { /* struct futex_waitv */
    uint64_t value, word;
    uint32_t flags, spare;
};

static int waitv(const struct futex_word *words, unsigned n, int64_t ns)
{
    struct waitv list[FUTEX_WORDS_MAX];
    struct timespec end;
    int saved = errno, status = 0;
    for (unsigned i = 0; i < n; i++)
        list[i] = (struct waitv){ .value = words[i].expected, .word = (uintptr_t)words[i].word, .flags = WAITV_U32 };
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += ns / 1000000000;
    end.tv_nsec += ns % 1000000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }
    if (syscall(NR_FUTEX_WAITV, list, n, 0, &end, CLOCK_MONOTONIC) < 0)
        status = errno == ETIMEDOUT ? CUE_ETIMEDOUT : errno == EINTR ? CUE_EINTR : 0;
    errno = saved;
    return status;
}

/* Sleeps on one of the words at a time, in turn, longer and longer. */
static int naps(const struct futex_word *words, unsigned n, int64_t ns)
{
    int64_t nap = 50000, slept = 0;
    for (unsigned turn = 0;; turn++) {
        for (unsigned i = 0; i < n; i++)
            if (atomic_load_explicit(words[i].word, memory_order_acquire) != words[i].expected) /* as the kernel would */
                return 0;
        if (slept >= ns)
            return CUE_ETIMEDOUT;
        if (nap > ns - slept)
            nap = ns - slept;
        int status = futex_wait(words[turn % n].word, words[turn % n].expected, nap);
        if (status != CUE_ETIMEDOUT)
            return status;
        slept += nap;
        nap = nap < FUTEX_NAP_NS / 2 ? 2 * nap : FUTEX_NAP_NS;
    }
}

int futex_wait_any(const struct futex_word *words, unsigned n, int64_t ns)
{
    if (n == 1)
        return futex_wait(words[0].word, words[0].expected, ns);
    if (ns <= 0 || n == 0)
        return CUE_ETIMEDOUT;
    return futex_way() == FUTEX_NAP ? naps(words, n, ns) : waitv(words, n, ns);
}
