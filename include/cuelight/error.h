/* cuelight/error.h: statuses, the trail, time. What this page says holds for every call of the library.
 *
 * STATUS. Calls return an int: 0 or a count, or a negative CUE_E… code from the table below. A wait that ends without
 *   what it waited for names what was missing: CUE_EEMPTY (nothing to receive), CUE_EFULL (no room to send), CUE_ENOMEM
 *   (no room to allocate), CUE_ENOENT (nothing to find), CUE_ETIMEDOUT (no answer). Each page lists the codes that need a
 *   decision from the caller; EINVAL, EMOVED, ESTALE, EGONE, ECORRUPT and EFORK may come from any call that takes a handle.
 *   On failure a result is NULL or all zero, so clean-up may always release it. errno is left as it was.
 *
 * TRAIL. A failing call leaves a text in a buffer of its thread: what was tried, with which values, and errno's text if a
 *   system call failed. EEMPTY, EFULL, ENOENT, EEXIST, ETIMEDOUT and EINTR are ordinary answers: they leave none.
 *
 * WAITING. A call that may wait takes a cue_time, always a duration. Zero or less does not wait; CUE_FOREVER waits until
 *   it is done. Sleeping calls wake at least every 100 ms to look whether somebody that they depend on has died.
 *
 * THREADS. Any thread may use a pool. Any number of threads may send on a channel, one at a time may receive from it.
 *   A cue_block or cue_msg variable is as safe as any other C variable.
 *
 * FORK. A forked child becomes a party of its own at its first call; handles that it inherited become views at their first
 *   use (CUE_ESTALE if the block went meanwhile). Receiving channels and actor systems stay the parent's: CUE_EFORK.
 */
#ifndef CUELIGHT_ERROR_H
#define CUELIGHT_ERROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, code, text): the one table from which the enum, the names, the texts and Python's exceptions are made. */
#define CUE_STATUS(X)                                                                                                                      \
    X(EINVAL, -1, "an argument makes no sense")                                                                                            \
    X(EMOVED, -2, "the handle is empty: moved, released or never filled")                                                                  \
    X(ESTALE, -3, "what was meant is gone")                                                                                                \
    X(EGONE, -4, "the pool was destroyed")                                                                                                 \
    X(ECLOSED, -5, "the channel is closed and drained")                                                                                    \
    X(EDEAD, -6, "the peer, actor or process is dead")                                                                                     \
    X(EEMPTY, -7, "nothing to receive")                                                                                                    \
    X(EFULL, -8, "the lane or mailbox is full")                                                                                            \
    X(ETIMEDOUT, -9, "no answer in time")                                                                                                  \
    X(EINTR, -10, "woken by cue_channel_wake or a signal")                                                                                 \
    X(ENOENT, -11, "no such pool, block, name or actor")                                                                                   \
    X(EEXIST, -12, "the name or (type, id) is taken")                                                                                      \
    X(ENOMEM, -13, "no room now: pool, shared memory, heap")                                                                               \
    X(ETOOBIG, -14, "larger than pool, lane or format can ever hold")                                                                      \
    X(ELIMIT, -15, "a table is full: parties, lanes, names")                                                                               \
    X(EPERM, -16, "not allowed: mode, credentials or read-only")                                                                           \
    X(ENOTOWNER, -17, "only the owner may do that")                                                                                        \
    X(EBUSY, -18, "someone else is receiving or using it")                                                                                 \
    X(ETYPE, -19, "not the declared type, size or kind")                                                                                   \
    X(EREMOTE, -20, "on another machine, and no gateway runs")                                                                             \
    X(EUNREACH, -21, "no connection to the peer or node")                                                                                  \
    X(EVERSION, -22, "made by an incompatible version")                                                                                    \
    X(ECORRUPT, -23, "bytes make no sense: damaged or hostile")                                                                            \
    X(EFORK, -24, "the handle belongs to the parent process")                                                                              \
    X(ECONTEXT, -25, "an actor or callback may not wait here")                                                                             \
    X(EFAILED, -26, "the behaviour failed")                                                                                                \
    X(EKILLED, -27, "ended by a signal or by force")                                                                                       \
    X(ENOSYS, -28, "not built in, or the kernel lacks it")                                                                                 \
    X(ESYS, -29, "a system call failed, see the trail")

/* Codes below -1000 are the application's own (an actor's exit reason, say). */
#define CUE_STATUS_ENUM(name, code, text) CUE_##name = code,
enum cue_status { CUE_OK = 0, CUE_STATUS(CUE_STATUS_ENUM) };

#if defined __GNUC__
#define CUE_CHECKED __attribute__((warn_unused_result))
#define CUE_API __attribute__((visibility("default")))
#else
#define CUE_CHECKED
#define CUE_API
#endif

/* A duration, or a moment of CLOCK_MONOTONIC, in nanoseconds. A struct, so that a bare number does not compile: nobody
 * waits for 100 ns who meant 100 ms. */
typedef struct cue_time {
    int64_t ns;
} cue_time;

#ifdef __cplusplus
#define CUE_NS(n) (cue_time{ (int64_t)(n) })
#else
#define CUE_NS(n) ((cue_time){ (int64_t)(n) })
#endif
#define CUE_US(n) CUE_NS((n)*1e3)
#define CUE_MS(n) CUE_NS((n)*1e6)
#define CUE_SEC(n) CUE_NS((n)*1e9)
#define CUE_NOW CUE_NS(0)             /* do not wait */
#define CUE_FOREVER CUE_NS(INT64_MAX) /* wait until it is done */

/* "CUE_ENOMEM" and "no room now …". Constant strings, also for unknown numbers; async-signal-safe. */
CUE_API const char *cue_status_name(int status);
CUE_API const char *cue_status_text(int status);

/* What went wrong in this thread's last failing call: "" if nothing did. Valid until the thread's next call. */
CUE_API const char *cue_trail(void);

/* The monotonic clock. Async-signal-safe. */
CUE_API cue_time cue_now(void);

/* For tests, examples and main(): a status >= 0 comes back; a negative one prints the call and the trail and aborts. */
CUE_API int cue_must(int status, const char *call, const char *file, int line);
#define CUE_MUST(call) cue_must((call), #call, __FILE__, __LINE__)

#ifdef __cplusplus
}
#endif
#endif
