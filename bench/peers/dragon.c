/* Dragon's managed memory, for the rows pool.pair.*.dragon: its C interface, in one process and in two on one pool.
 *
 * Built by bench/run against the package from PyPI, which brings header and library. A second process attaches by the pool's
 * serialized descriptor, which lies in the memory that the helpers share.
 */
#include "bench/bench.h"
#include "bench/pairs.h"

#include <dragon/managed_memory.h>
#include <string.h>
#include <unistd.h>

enum { SERIAL_MOST = 1024 };
struct shared {
    size_t size;
    unsigned char serial[SERIAL_MOST];
};

static void must(dragonError_t status, const char *what)
{
    if (status != DRAGON_SUCCESS)
        bench_fail("%s: %s", what, dragon_get_rc_string(status));
}

#define PAIR(pool, bytes)                                                                                                                  \
    {                                                                                                                                      \
        dragonMemoryDescr_t memory;                                                                                                        \
        void *data;                                                                                                                        \
        must(dragon_memory_alloc(&memory, pool, (size_t)(bytes)), "alloc");                                                                \
        must(dragon_memory_get_pointer(&memory, &data), "pointer");                                                                        \
        *(unsigned char *)data = 1;                                                                                                        \
        bench_touch(data);                                                                                                                 \
        must(dragon_memory_free(&memory), "free");                                                                                         \
    }

static void make(const struct bench *b, dragonMemoryPoolDescr_t *pool)
{
    dragonM_UID_t uid = (dragonM_UID_t)getpid();
    must(dragon_memory_pool_create(pool, (size_t)64 << 20, bench_tag(b), uid, NULL), "pool");
}

static void pair(struct bench *b, long bytes)
{
    dragonMemoryPoolDescr_t pool;
    bench_pin(b, 0);
    make(b, &pool);
    while (bench_next(b))
        PAIRS(b, PAIR(&pool, bytes));
    must(dragon_memory_pool_destroy(&pool), "destroy");
}

static void two(struct bench *b, long bytes)
{
    dragonMemoryPoolDescr_t pool;
    dragonMemoryPoolSerial_t serial;
    struct shared *shared = bench_shared(b, sizeof *shared);
    make(b, &pool);
    must(dragon_memory_pool_serialize(&serial, &pool), "serialize");
    if (serial.len > SERIAL_MOST)
        bench_fail("a descriptor of %zu bytes", (size_t)serial.len);
    memcpy(shared->serial, serial.data, serial.len);
    shared->size = serial.len;
    pairs_of_two(b, bytes);
    must(dragon_memory_pool_destroy(&pool), "destroy");
}

static void pair_helper(struct bench *b, long bytes)
{
    dragonMemoryPoolDescr_t pool;
    struct shared *shared = bench_shared(b, sizeof *shared);
    dragonMemoryPoolSerial_t serial = { .len = shared->size, .data = shared->serial };
    bench_pin(b, bench_index(b));
    must(dragon_memory_pool_attach(&pool, &serial), "attach");
    while (bench_next(b))
        PAIRS_RATE(b, PAIR(&pool, bytes));
    must(dragon_memory_pool_detach(&pool), "detach");
}

static const struct bench_case cases[] = {
    { "pair.64", pair, NULL, 64 },
    { "pair.4k", pair, NULL, 4096 },
    { "pair.64.2procs", two, pair_helper, 64 },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, &(struct bench_program){ "dragonhpc", DRAGON_VERSION, cases, sizeof cases / sizeof *cases });
}
