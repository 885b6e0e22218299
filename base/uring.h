/* An io_uring that waits for futexes: any number of them, each asked for once, with one system call a change.
 *
 * One thread owns it and makes all calls. (Requests belong to the thread that made them: made by a thread of the application, each
 * completion would interrupt what that thread waits for, epoll_wait with EINTR; and they are cancelled when it ends.)
 */
#ifndef BASE_URING_H
#define BASE_URING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Whether this kernel has requests for futexes (Linux 6.7) and lets us use them. */
bool uring_works(void);

struct uring;
/* CUE_ENOSYS, CUE_ENOMEM, with a trail. */
int uring_open(struct uring **out);
void uring_close(struct uring *ring);

/* Asks for a wait while *word == expected. `tag` comes back from uring_next once: when it was woken, when the word differs, or
 * when it was cancelled. CUE_ESYS if the kernel takes no more. */
int uring_wait(struct uring *ring, _Atomic uint32_t *word, uint32_t expected, uint64_t tag);
int uring_cancel(struct uring *ring, uint64_t tag);

/* The next tag, and whether it was woken; false: none within `ns`, or a signal. */
bool uring_next(struct uring *ring, int64_t ns, uint64_t *tag, bool *woken);

#endif
