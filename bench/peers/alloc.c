/* malloc and free as others do them, for the rows pool.pair.*: built twice, with mimalloc (the limit) and with the C library. */
#include "bench/bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#if defined PEER_MIMALLOC
#include <mimalloc.h>
#define NAME "mimalloc"
#define ALLOC mi_malloc
#define FREE mi_free
#else
#include <gnu/libc-version.h>
#define NAME "glibc malloc"
#define ALLOC malloc
#define FREE free
#endif

#include "bench/pairs.h"

static void pair(struct bench *b, long size)
{
    bench_pin(b, 0);
    while (bench_next(b))
        PAIRS(b, {
            unsigned char *p = ALLOC((size_t)size);
            p[0] = 1;
            bench_touch(p);
            FREE(p);
        });
}

static void pair_helper(struct bench *b, long size)
{
    bench_pin(b, bench_index(b));
    while (bench_next(b))
        PAIRS_RATE(b, {
            unsigned char *p = ALLOC((size_t)size);
            p[0] = 1;
            bench_touch(p);
            FREE(p);
        });
}

/* One thread allocates, another frees. */
static struct pairs_ring ring;
static void *freer(void *b)
{
    bench_pin(b, 1);
    for (void *p; (p = pairs_take(&ring)) != PAIRS_END;)
        FREE(p);
    return NULL;
}
static void remote(struct bench *b, long size)
{
    bench_pin(b, 0);
    while (bench_next(b)) {
        pthread_t thread;
        pthread_create(&thread, NULL, freer, b);
        uint64_t begin = ticks_now(), end = bench_end(b), n = 0;
        for (; n % 64 || ticks_now() < end; n++) {
            unsigned char *p = ALLOC((size_t)size);
            p[0] = 1;
            pairs_give(&ring, p);
        }
        pairs_give(&ring, PAIRS_END);
        pthread_join(thread, NULL);
        bench_figure(b, ticks_ns(ticks_now() - begin) / (double)n);
    }
}

static const struct bench_case cases[] = {
    { "pair.64", pair, NULL, 64 },
    { "pair.512", pair, NULL, 512 },
    { "pair.4k", pair, NULL, 4096 },
    { "pair.64k", pair, NULL, 65536 },
    { "pair.1m", pair, NULL, 1 << 20 },
    { "pair.64.2procs", pairs_of_two, pair_helper, 64 },
    { "pair.64.4procs", pairs_of_four, pair_helper, 64 },
    { "pair.remote", remote, NULL, 64 },
};

int main(int argc, char **argv)
{
    char version[32];
#if defined PEER_MIMALLOC
    snprintf(version, sizeof version, "%d.%d.%d", mi_version() / 100, mi_version() / 10 % 10, mi_version() % 10);
#else
    snprintf(version, sizeof version, "%s", gnu_get_libc_version());
#endif
    return bench_main(argc, argv, &(struct bench_program){ NAME, version, cases, sizeof cases / sizeof *cases });
}
