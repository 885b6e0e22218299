/* What this machine can do at all: the bare probe beside which each figure of ours stands.
 *
 * Each is the least that any implementation of the same thing must do: a word that changes hands, a sleeper that is woken, a
 * slot that is filled and emptied, bytes that are copied. Nothing checks, names, counts or survives anything here.
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { LAST = 1 << 30, MESSAGE = 64, MIB = 1 << 20, SLOTS = 1024 };
enum { LOOKS = 4096 }; /* many times what an answer takes; where both are on one CPU, none comes before that */

/* A word of each direction on lines of their own. */
struct words {
    _Alignas(128) _Atomic uint32_t word[2][32];
    _Alignas(128) unsigned char bytes[];
};

/* ---- one hand-over: a pair of send and wait for each kind of wire ---- */
struct wire {
    struct words *shared;
    int in, out;
    mqd_t mq_in, mq_out;
    unsigned side; /* sends in direction `side` */
    unsigned char buffer[MESSAGE];
};

static void line_send(struct wire *w, uint32_t i)
{
    atomic_store_explicit(w->shared->word[w->side], i, memory_order_release); /* pairs with: line_wait */
}
static uint32_t line_wait(struct wire *w, uint32_t former)
{
    uint32_t seen;
    for (unsigned looks = 1; (seen = atomic_load_explicit(w->shared->word[!w->side], memory_order_acquire)) == former; looks++)
        if (looks % LOOKS == 0) /* pairs with: line_send */
            sched_yield();
    return seen;
}

static void futex_send(struct wire *w, uint32_t i)
{
    line_send(w, i);
    syscall(SYS_futex, w->shared->word[w->side], FUTEX_WAKE, 1, NULL, NULL, 0);
}
static uint32_t futex_wait(struct wire *w, uint32_t former)
{
    uint32_t seen;
    while ((seen = atomic_load_explicit(w->shared->word[!w->side], memory_order_acquire)) == former) /* pairs with: futex_send */
        syscall(SYS_futex, w->shared->word[!w->side], FUTEX_WAIT, former, NULL, NULL, 0);
    return seen;
}

static void fd_send(struct wire *w, uint32_t i)
{
    memcpy(w->buffer, &i, sizeof i);
    if (write(w->out, w->buffer, MESSAGE) != MESSAGE)
        bench_fail("short write: %s", strerror(errno));
}
static uint32_t fd_wait(struct wire *w, uint32_t former)
{
    uint32_t seen = former;
    if (read(w->in, w->buffer, MESSAGE) != MESSAGE)
        bench_fail("short read: %s", strerror(errno));
    memcpy(&seen, w->buffer, sizeof seen);
    return seen;
}

static void mq_put(struct wire *w, uint32_t i)
{
    memcpy(w->buffer, &i, sizeof i);
    if (mq_send(w->mq_out, (char *)w->buffer, MESSAGE, 0))
        bench_fail("mq_send: %s", strerror(errno));
}
static uint32_t mq_wait(struct wire *w, uint32_t former)
{
    uint32_t seen = former;
    if (mq_receive(w->mq_in, (char *)w->buffer, MESSAGE, NULL) != MESSAGE)
        bench_fail("mq_receive: %s", strerror(errno));
    memcpy(&seen, w->buffer, sizeof seen);
    return seen;
}

/* Copies 1 MiB into shared memory and out again, as a transport that copies must at the least. */
static unsigned char private_bytes[MIB];
static void copy_send(struct wire *w, uint32_t i)
{
    memcpy(w->shared->bytes, private_bytes, MIB);
    line_send(w, i);
}
static uint32_t copy_wait(struct wire *w, uint32_t former)
{
    uint32_t seen = line_wait(w, former);
    memcpy(private_bytes, w->shared->bytes, MIB);
    bench_touch(private_bytes);
    return seen;
}

/* Always inlined, with constants for `send` and `wait`: no call stands between the two words. */
static inline __attribute__((always_inline)) void ping(struct bench *b, struct wire *w, struct helper *h,
                                                       void (*send)(struct wire *, uint32_t), uint32_t (*wait)(struct wire *, uint32_t))
{
    uint32_t i = 0, former = 0;
    w->side = 0;
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t end = bench_end(b), last = ticks_now();
        for (bool more = true; more;) {
            more = last < end;
            i = (i + 1) % LAST;
            send(w, more ? i : i | LAST);
            former = wait(w, former);
            uint64_t now = ticks_now();
            bench_sample(b, now - last);
            last = now;
        }
        helper_figure(h);
        bench_half_trips(b);
    }
    helper_end(h);
}

static inline __attribute__((always_inline)) void pong(struct bench *b, struct wire *w, void (*send)(struct wire *, uint32_t),
                                                       uint32_t (*wait)(struct wire *, uint32_t))
{
    uint32_t former = 0;
    w->side = 1;
    while (bench_next(b)) {
        do {
            former = wait(w, former);
            send(w, former);
        } while (!(former & LAST));
        bench_figure(b, 0);
    }
}

#define PINGPONG(kind, send, wait)                                                                                                         \
    static void kind##_ping(struct bench *b, long bytes)                                                                                   \
    {                                                                                                                                      \
        struct wire w = { .shared = bench_shared(b, (size_t)bytes) };                                                                      \
        bench_pin(b, 0);                                                                                                                   \
        ping(b, &w, bench_helper(b, 0), send, wait);                                                                                       \
    }                                                                                                                                      \
    static void kind##_pong(struct bench *b, long bytes)                                                                                   \
    {                                                                                                                                      \
        struct wire w = { .shared = bench_shared(b, (size_t)bytes) };                                                                      \
        bench_pin(b, 1);                                                                                                                   \
        pong(b, &w, send, wait);                                                                                                           \
    }
PINGPONG(line, line_send, line_wait)
PINGPONG(futex, futex_send, futex_wait)
PINGPONG(copy, copy_send, copy_wait)

/* Descriptors that a helper inherits: the reading and the writing end of each direction, at fixed places. */
enum { FD_AT = 10 };
enum { UNIX_SOCKET, PIPE };
static void place(const int from[4])
{
    for (int i = 0; i < 4; i++)
        if (dup2(from[i], FD_AT + i) < 0)
            bench_fail("dup2: %s", strerror(errno));
}
static void make_wires(long kind)
{
    int a[2], c[2];
    if (kind == PIPE ? pipe(a) || pipe(c) : socketpair(AF_UNIX, SOCK_STREAM, 0, a))
        bench_fail("no wire: %s", strerror(errno));
    if (kind == PIPE)
        place((int[]){ c[0], a[1], a[0], c[1] });
    else
        place((int[]){ a[0], a[0], a[1], a[1] });
}
static void fd_ping(struct bench *b, long kind)
{
    make_wires(kind);
    bench_pin(b, 0);
    struct wire w = { .in = FD_AT, .out = FD_AT + 1 };
    ping(b, &w, bench_helper(b, 0), fd_send, fd_wait);
}
static void fd_pong(struct bench *b, long kind)
{
    (void)kind;
    bench_pin(b, 1);
    struct wire w = { .in = FD_AT + 2, .out = FD_AT + 3 };
    pong(b, &w, fd_send, fd_wait);
}

static mqd_t queue_open(const struct bench *b, unsigned direction)
{
    char name[80];
    struct mq_attr attr = { .mq_maxmsg = 10, .mq_msgsize = MESSAGE };
    snprintf(name, sizeof name, "/%s-%u", bench_tag(b), direction);
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT, 0600, &attr);
    if (queue == (mqd_t)-1)
        bench_fail("no POSIX message queue: %s", strerror(errno));
    return queue;
}
static void queue_ping(struct bench *b, long arg)
{
    (void)arg;
    struct wire w = { .mq_in = queue_open(b, 1), .mq_out = queue_open(b, 0) };
    bench_pin(b, 0);
    ping(b, &w, bench_helper(b, 0), mq_put, mq_wait);
}
static void queue_pong(struct bench *b, long arg)
{
    (void)arg;
    struct wire w = { .mq_in = queue_open(b, 0), .mq_out = queue_open(b, 1) };
    for (unsigned direction = 0; direction < 2; direction++) {
        char name[80];
        snprintf(name, sizeof name, "/%s-%u", bench_tag(b), direction);
        mq_unlink(name);
    }
    bench_pin(b, 1);
    pong(b, &w, mq_put, mq_wait);
}

/* ---- rate: a ring whose slots carry their own flag, 64 bytes written and read in each ---- */
struct slot {
    _Alignas(128) _Atomic uint64_t full; /* 1: a message, 2: the round's last */
    uint64_t bytes[MESSAGE / 8];
};

static void slots_receive(struct bench *b, long arg)
{
    (void)arg;
    struct slot *ring = bench_shared(b, sizeof *ring * SLOTS);
    bench_pin(b, 0);
    struct helper *h = bench_helper(b, 0);
    uint64_t at = 0, sum = 0;
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t begin = ticks_now(), got = 0;
        for (uint64_t state = 0; state != 2; got++) {
            struct slot *s = &ring[at++ % SLOTS];
            while (!(state = atomic_load_explicit(&s->full, memory_order_acquire))) /* pairs with: slots_send */
                bench_relax();
            for (int i = 0; i < MESSAGE / 8; i++)
                sum += s->bytes[i];
            bench_touch(&sum);
            atomic_store_explicit(&s->full, 0, memory_order_release); /* pairs with: slots_send */
        }
        double ns = ticks_ns(ticks_now() - begin);
        helper_figure(h);
        bench_figure(b, (double)got / ns * 1e9);
    }
    helper_end(h);
}
static void slots_send(struct bench *b, long arg)
{
    (void)arg;
    struct slot *ring = bench_shared(b, sizeof *ring * SLOTS);
    bench_pin(b, 1);
    uint64_t at = 0;
    while (bench_next(b)) {
        uint64_t end = bench_end(b);
        for (bool more = true; more; at++) {
            if (at % 64 == 0)
                more = ticks_now() < end;
            struct slot *s = &ring[at % SLOTS];
            while (atomic_load_explicit(&s->full, memory_order_acquire)) /* pairs with: slots_receive */
                bench_relax();
            memset(s->bytes, (int)at, MESSAGE);
            atomic_store_explicit(&s->full, more ? 1 : 2, memory_order_release); /* pairs with: slots_receive */
        }
        bench_figure(b, 0);
    }
}

/* The same through the kernel: 64 bytes a write, as much as there is a read. */
static void stream_receive(struct bench *b, long kind)
{
    static unsigned char buffer[65536];
    make_wires(kind);
    bench_pin(b, 0);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t begin = ticks_now(), bytes = 0;
        for (bool more = true; more;) {
            ssize_t n = read(FD_AT, buffer, sizeof buffer);
            if (n <= 0)
                bench_fail("read: %s", strerror(errno));
            bytes += (uint64_t)n;
            more = buffer[n - 1] != 2;
        }
        double ns = ticks_ns(ticks_now() - begin);
        helper_figure(h);
        bench_figure(b, (double)(bytes / MESSAGE) / ns * 1e9);
    }
    helper_end(h);
}
static void stream_send(struct bench *b, long kind)
{
    (void)kind;
    unsigned char buffer[MESSAGE];
    bench_pin(b, 1);
    while (bench_next(b)) {
        uint64_t end = bench_end(b);
        for (bool more = true; more;) {
            more = ticks_now() < end;
            memset(buffer, more ? 1 : 2, MESSAGE);
            if (write(FD_AT + 3, buffer, MESSAGE) != MESSAGE)
                bench_fail("write: %s", strerror(errno));
        }
        bench_figure(b, 0);
    }
}

/* ---- memory: what a look at a manifest of so many lines must load ---- */
struct line {
    _Alignas(64) uint64_t word;
    uint64_t rest[7];
};
static struct line *make_lines(long n)
{
    struct line *lines = mmap(NULL, (size_t)n * sizeof *lines, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (lines == MAP_FAILED)
        bench_fail("no memory for %ld lines", n);
    for (long i = 0; i < n; i++)
        lines[i].word = (uint64_t)i;
    return lines;
}
static void random_lines(struct bench *b, long n)
{
    struct line *lines = make_lines(n);
    bench_pin(b, 0);
    uint64_t random = 1, sum = 0;
    while (bench_next(b)) {
        uint64_t begin = ticks_now(), end = bench_end(b), count = 0, now;
        do {
            for (int i = 0; i < 64; i++) { /* each look waits for the one before it, as calls of a library do */
                random = random * UINT64_C(6364136223846793005) + 1442695040888963407u + (sum & 1);
                sum = lines[(random >> 33) % (uint64_t)n].word;
            }
            count += 64;
        } while ((now = ticks_now()) < end);
        bench_touch(&sum);
        bench_figure(b, ticks_ns(now - begin) / (double)count);
    }
}
static void walk_lines(struct bench *b, long n)
{
    struct line *lines = make_lines(n);
    bench_pin(b, 0);
    while (bench_next(b)) {
        uint64_t begin = ticks_now(), end = bench_end(b), count = 0, now, sum = 0;
        do {
            for (long i = 0; i < n; i++)
                sum += lines[i].word;
            bench_touch(&sum);
            count++;
        } while ((now = ticks_now()) < end);
        bench_figure(b, ticks_ns(now - begin) / (double)count);
    }
}

/* ---- an object that is there already: opened, mapped, its first page looked at, and given back ---- */
static void map_object(struct bench *b, long bytes)
{
    char name[80];
    snprintf(name, sizeof name, "/%s-map", bench_tag(b));
    int made = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (made < 0 || ftruncate(made, bytes) || posix_fallocate(made, 0, 4096))
        bench_fail("no shared memory object: %s", strerror(errno));
    bench_pin(b, 0);
    while (bench_next(b)) {
        uint64_t begin = ticks_now(), end = bench_end(b), count = 0, now;
        do {
            int fd = shm_open(name, O_RDWR, 0);
            unsigned char *base = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
            if (base == MAP_FAILED)
                bench_fail("mmap: %s", strerror(errno));
            bench_touch(base + base[0]);
            munmap(base, (size_t)bytes);
            close(fd);
            count++;
        } while ((now = ticks_now()) < end);
        bench_figure(b, ticks_ns(now - begin) / (double)count);
    }
    shm_unlink(name);
}

static const struct bench_case cases[] = {
    { "line", line_ping, line_pong, sizeof(struct words) },
    { "futex", futex_ping, futex_pong, sizeof(struct words) },
    { "memcpy.1m", copy_ping, copy_pong, sizeof(struct words) + MIB },
    { "unix", fd_ping, fd_pong, UNIX_SOCKET },
    { "pipe", fd_ping, fd_pong, PIPE },
    { "mq", queue_ping, queue_pong, 0 },
    { "slots.rate", slots_receive, slots_send, 0 },
    { "unix.rate", stream_receive, stream_send, UNIX_SOCKET },
    { "pipe.rate", stream_receive, stream_send, PIPE },
    { "random.1m", random_lines, NULL, 1000000 },
    { "walk.100k", walk_lines, NULL, 100000 },
    { "map", map_object, NULL, 1 << 30 },
};

int main(int argc, char **argv)
{
    struct utsname os;
    uname(&os);
    return bench_main(argc, argv, &(struct bench_program){ "linux", os.release, cases, sizeof cases / sizeof *cases });
}
