/* See uring.h. The requests are written out here: the headers of Debian 12 are older than they. */
#include "uring.h"

#include "trail.h"

#include <cuelight/error.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ENTRIES = 64, OP_FUTEX_WAIT = 51, WORD_U32 = 2, SINGLE_ISSUER = 1 << 12, DEFER_TASKRUN = 1 << 13, CANCELS = 0 };

struct request { /* struct io_uring_sqe, as OP_FUTEX_WAIT and IORING_OP_ASYNC_CANCEL use it */
    uint8_t opcode, flags;
    uint16_t priority;
    int32_t futex_flags;
    uint64_t expected;
    uint64_t word; /* or the tag to cancel */
    uint32_t length, op_flags;
    uint64_t tag;
    uint16_t spare[2];
    uint32_t spare2;
    uint64_t mask, spare3;
};
_Static_assert(sizeof(struct request) == 64, "a request has 64 bytes");

struct uring {
    int fd;
    char *rings;
    size_t bytes;
    struct request *requests;
    _Atomic uint32_t *sq_tail, *cq_head, *cq_tail;
    uint32_t *sq_array, sq_mask, cq_mask;
    struct io_uring_cqe *done;
    uint32_t unsubmitted;
};

static int setup(unsigned entries, struct io_uring_params *params)
{
    return (int)syscall(SYS_io_uring_setup, entries, params);
}

bool uring_works(void)
{
    enum { OPS = 128 };
    int saved = errno;
    struct io_uring_params params = { .flags = SINGLE_ISSUER | DEFER_TASKRUN };
    struct io_uring_probe *probe = calloc(1, sizeof *probe + OPS * sizeof probe->ops[0]);
    int fd = probe ? setup(4, &params) : -1;
    bool works = fd >= 0 && (params.features & IORING_FEAT_EXT_ARG) && (params.features & IORING_FEAT_SINGLE_MMAP) &&
                 syscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, probe, OPS) == 0 && probe->last_op >= OP_FUTEX_WAIT &&
                 (probe->ops[OP_FUTEX_WAIT].flags & IO_URING_OP_SUPPORTED);
    if (fd >= 0)
        close(fd);
    free(probe);
    errno = saved;
    return works;
}

int uring_open(struct uring **out)
{
    struct io_uring_params params = { .flags = SINGLE_ISSUER | DEFER_TASKRUN };
    struct uring *ring = calloc(1, sizeof *ring);
    *out = NULL;
    if (!ring)
        return trail(CUE_ENOMEM, "no process memory for an io_uring");
    ring->fd = setup(ENTRIES, &params);
    if (ring->fd < 0) {
        free(ring);
        return trail(CUE_ENOSYS, "the kernel gives us no io_uring");
    }
    size_t sq = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    size_t cq = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    ring->bytes = sq > cq ? sq : cq;
    ring->rings = mmap(NULL, ring->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
    ring->requests = mmap(NULL, params.sq_entries * sizeof(struct request), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
                          IORING_OFF_SQES);
    if (ring->rings == MAP_FAILED || ring->requests == MAP_FAILED) {
        int status = trail_errno("mapping an io_uring");
        uring_close(ring);
        return status;
    }
    madvise(ring->rings, ring->bytes, MADV_DONTFORK);
    madvise(ring->requests, ENTRIES * sizeof(struct request), MADV_DONTFORK);
    ring->sq_tail = (_Atomic uint32_t *)(void *)(ring->rings + params.sq_off.tail);
    ring->sq_array = (uint32_t *)(void *)(ring->rings + params.sq_off.array);
    ring->cq_head = (_Atomic uint32_t *)(void *)(ring->rings + params.cq_off.head);
    ring->cq_tail = (_Atomic uint32_t *)(void *)(ring->rings + params.cq_off.tail);
    ring->done = (struct io_uring_cqe *)(void *)(ring->rings + params.cq_off.cqes);
    ring->sq_mask = params.sq_entries - 1;
    ring->cq_mask = params.cq_entries - 1;
    *out = ring;
    return 0;
}

void uring_close(struct uring *ring)
{
    if (!ring)
        return;
    if (ring->rings && ring->rings != MAP_FAILED)
        munmap(ring->rings, ring->bytes);
    if (ring->requests && ring->requests != MAP_FAILED)
        munmap(ring->requests, ENTRIES * sizeof(struct request));
    close(ring->fd);
    free(ring);
}

static int submit(struct uring *ring)
{
    while (ring->unsubmitted) {
        long taken = syscall(SYS_io_uring_enter, ring->fd, ring->unsubmitted, 0, 0, NULL, 0);
        if (taken < 0 && errno != EINTR)
            return trail_errno("io_uring_enter");
        ring->unsubmitted -= taken > 0 ? (uint32_t)taken : 0;
    }
    return 0;
}

static int ask(struct uring *ring, const struct request *request)
{
    int status = ring->unsubmitted > ring->sq_mask ? submit(ring) : 0;
    if (status)
        return status;
    uint32_t tail = atomic_load_explicit(ring->sq_tail, memory_order_relaxed); /* ours */
    ring->requests[tail & ring->sq_mask] = *request;
    ring->sq_array[tail & ring->sq_mask] = tail & ring->sq_mask;
    atomic_store_explicit(ring->sq_tail, tail + 1, memory_order_release); /* pairs with: the kernel */
    ring->unsubmitted++;
    return 0;
}

int uring_wait(struct uring *ring, _Atomic uint32_t *word, uint32_t expected, uint64_t tag)
{
    return ask(ring, &(struct request){ .opcode = OP_FUTEX_WAIT,
                                        .futex_flags = WORD_U32,
                                        .expected = expected,
                                        .word = (uintptr_t)word,
                                        .tag = tag,
                                        .mask = UINT32_MAX });
}

int uring_cancel(struct uring *ring, uint64_t tag)
{
    return ask(ring, &(struct request){ .opcode = IORING_OP_ASYNC_CANCEL, .futex_flags = -1, .word = tag, .tag = CANCELS });
}

/* One that the kernel has put there. */
static bool take(struct uring *ring, uint64_t *tag, bool *woken)
{
    uint32_t head = atomic_load_explicit(ring->cq_head, memory_order_relaxed);  /* ours */
    while (head != atomic_load_explicit(ring->cq_tail, memory_order_acquire)) { /* pairs with: the kernel */
        struct io_uring_cqe *done = &ring->done[head & ring->cq_mask];
        *tag = done->user_data;
        *woken = done->res == 0;
        atomic_store_explicit(ring->cq_head, ++head, memory_order_release); /* pairs with: the kernel */
        if (*tag != CANCELS)
            return true;
    }
    return false;
}

bool uring_next(struct uring *ring, int64_t ns, uint64_t *tag, bool *woken)
{
    if (take(ring, tag, woken))
        return true;
    int saved = errno;
    struct __kernel_timespec left = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };
    struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&left };
    long taken =
        syscall(SYS_io_uring_enter, ring->fd, ring->unsubmitted, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg, sizeof arg);
    ring->unsubmitted -= taken > 0 ? (uint32_t)taken : 0;
    errno = saved;
    return take(ring, tag, woken);
}
