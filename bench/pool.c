/* What the pool costs: the rows pool.*. Through the public interface only, linked as users link it.
 *
 * Blocks that a row looks at are made before its first round. Handles are kept in private arrays where their user would keep
 * them too, and are not looked at by the timed part if it would not.
 */
#include "bench/bench.h"
#include "bench/pairs.h"

#include <cuelight/channel.h>
#include <cuelight/pool.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)

enum { TYPE = 7, MANY = 100000, MILLION = 1000000 };

static cue_pool *open_pool(const struct bench *b, uint64_t bytes, uint64_t keys)
{
    cue_pool *pool;
    CUE_MUST(cue_pool_open(bench_tag(b), &(cue_pool_opts){ .size = bytes, .max_blocks = keys }, &pool));
    return pool;
}

/* ---- pairs of alloc and free ---- */
#define PAIR(pool, bytes)                                                                                                                  \
    {                                                                                                                                      \
        cue_block block;                                                                                                                   \
        if (cue_block_alloc(pool, bytes, NULL, &block))                                                                                    \
            bench_fail("alloc: %s", cue_trail());                                                                                          \
        *(unsigned char *)block.data = 1;                                                                                                  \
        bench_touch(block.data);                                                                                                           \
        cue_block_free(&block);                                                                                                            \
    }

static void pair(struct bench *b, long bytes)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(64), 0);
    while (bench_next(b))
        PAIRS(b, PAIR(pool, (size_t)bytes));
    cue_pool_close(pool);
}

static void pair_helper(struct bench *b, long bytes)
{
    bench_pin(b, bench_index(b));
    cue_pool *pool = open_pool(b, MIB(64), 0);
    while (bench_next(b))
        PAIRS_RATE(b, PAIR(pool, (size_t)bytes));
    cue_pool_close(pool);
}

/* Handles on their way from the thread that allocates to the thread that frees. */
static struct pairs_ring ring;
static cue_block handles[PAIRS_RING + 2]; /* as many as can be in the ring, in the giver's and in the taker's hand */

static void *freer(void *b)
{
    bench_pin(b, 1);
    for (void *p; (p = pairs_take(&ring)) != PAIRS_END;)
        cue_block_free(p);
    return NULL;
}
static void remote(struct bench *b, long bytes)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(64), 0);
    while (bench_next(b)) {
        pthread_t thread;
        pthread_create(&thread, NULL, freer, b);
        uint64_t begin = ticks_now(), end = bench_end(b), n = 0;
        for (; n % PAIRS_BATCH || ticks_now() < end; n++) {
            cue_block *h = &handles[n % (PAIRS_RING + 2)];
            if (cue_block_alloc(pool, (size_t)bytes, NULL, h))
                bench_fail("alloc: %s", cue_trail());
            *(unsigned char *)h->data = 1;
            pairs_give(&ring, h);
        }
        pairs_give(&ring, PAIRS_END);
        pthread_join(thread, NULL);
        bench_figure(b, ticks_ns(ticks_now() - begin) / (double)n);
    }
    cue_pool_close(pool);
}

/* What a free costs by itself: of a batch that this thread allocated, or that another one did on another CPU. The handles are
 * copied before the clock starts: how they came is their sender's business. */
enum { FREES = 512, TRIPS = 64 };
struct frees {
    cue_block blocks[FREES];
    uint64_t ticks;                     /* that the last batch took */
    _Alignas(64) _Atomic uint32_t turn; /* odd: the other thread's; FREES_END: it ends */
    struct bench *b;
    bool echo; /* the other thread frees nothing: the turn comes back at once */
};
#define FREES_END UINT32_MAX

static void free_batch(struct frees *f)
{
    static cue_block mine[FREES];
    memcpy(mine, f->blocks, sizeof mine);
    uint64_t begin = ticks_now();
    for (int i = 0; i < FREES; i++)
        cue_block_free(&mine[i]);
    f->ticks = ticks_now() - begin;
}

static void *frees_elsewhere(void *arg)
{
    struct frees *f = arg;
    bench_pin(f->b, 1);
    for (uint32_t turn = 1;; turn += 2) {
        uint32_t now;
        while ((now = atomic_load_explicit(&f->turn, memory_order_acquire)) != turn && now != FREES_END) /* pairs with: frees */
            bench_relax();
        if (now == FREES_END)
            return NULL;
        if (!f->echo)
            free_batch(f);
        atomic_store_explicit(&f->turn, turn + 1, memory_order_release); /* pairs with: frees */
    }
}

static void elsewhere_turn(struct frees *f)
{
    uint32_t turn = atomic_load_explicit(&f->turn, memory_order_relaxed) + 1; /* only we raise it now */
    atomic_store_explicit(&f->turn, turn, memory_order_release);              /* pairs with: frees_elsewhere */
    while (atomic_load_explicit(&f->turn, memory_order_acquire) == turn)
        bench_relax();
}

/* Nanoseconds a free, in the quickest batch: one in which a thread loses its CPU says nothing. */
static double frees_round(struct frees *f, cue_pool *pool, bool elsewhere, double seconds)
{
    uint64_t least = UINT64_MAX, begin = ticks_now();
    while (ticks_ns(ticks_now() - begin) < seconds * 1e9) {
        for (int i = 0; i < FREES; i++)
            if (cue_block_alloc(pool, 64, NULL, &f->blocks[i]))
                bench_fail("alloc: %s", cue_trail());
        if (elsewhere)
            elsewhere_turn(f);
        else
            free_batch(f);
        if (f->ticks < least)
            least = f->ticks;
    }
    return ticks_ns(least) / FREES;
}

/* Half of the way there and back of the line that `turn` is in, in the quickest batch. */
static double line_exchange(struct frees *f, double seconds)
{
    uint64_t least = UINT64_MAX, begin = ticks_now();
    while (ticks_ns(ticks_now() - begin) < seconds * 1e9) {
        uint64_t first = ticks_now();
        for (int i = 0; i < TRIPS; i++)
            elsewhere_turn(f);
        if (ticks_now() - first < least)
            least = ticks_now() - first;
    }
    return ticks_ns(least) / TRIPS / 2;
}

enum { FREE_OWN, FREE_REMOTE, FREE_BOUND }; /* bound: what a remote free may cost: two own ones and the exchange of a line */

static void frees(struct bench *b, long kind)
{
    static struct frees f;
    pthread_t thread;
    bool elsewhere = kind != FREE_OWN;
    f.b = b;
    f.echo = kind == FREE_BOUND;
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(64), 0);
    while (bench_next(b)) { /* a thread for each round: it spins, and others have their rounds in between */
        double seconds = bench_seconds(b), ns;
        atomic_store_explicit(&f.turn, 0, memory_order_relaxed);
        if (elsewhere)
            pthread_create(&thread, NULL, frees_elsewhere, &f);
        if (kind == FREE_BOUND)
            ns = 2 * frees_round(&f, pool, false, seconds / 2) + line_exchange(&f, seconds / 2);
        else
            ns = frees_round(&f, pool, elsewhere, seconds);
        if (elsewhere) {
            atomic_store_explicit(&f.turn, FREES_END, memory_order_release); /* pairs with: frees_elsewhere */
            pthread_join(thread, NULL);
        }
        bench_figure(b, ns);
    }
    cue_pool_close(pool);
}

/* The same between two processes. The blocks go over by a lane, which brings their records along; so their owner looks at all of
 * them again before they are freed. Turns: SENDS, TAKES, LOOKS, FREES, and again; STOPS instead of TAKES ends the round. */
enum { SENDS, TAKES, LOOKS, FREES_THEM, STOPS };
struct turns {
    _Alignas(128) _Atomic uint32_t turn;
    _Alignas(128) uint64_t ticks; /* that the last batch took */
};

static uint32_t turn_wait(struct turns *t, uint32_t mine, uint32_t or_this)
{
    uint32_t now;
    while ((now = atomic_load_explicit(&t->turn, memory_order_acquire)) != mine && now != or_this) /* pairs with: turn_pass */
        bench_relax();
    return now;
}
static void turn_pass(struct turns *t, uint32_t to)
{
    atomic_store_explicit(&t->turn, to, memory_order_release); /* pairs with: turn_wait */
}
static cue_channel *open_frees(const struct bench *b, unsigned how)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/frees", bench_tag(b));
    CUE_MUST(cue_channel_open(url, how, NULL, &ch));
    return ch;
}

static void look_at_all(cue_pool *pool)
{
    cue_block_info info;
    for (uint64_t cursor = 0; cue_block_next(pool, 0, &cursor, &info) == 1;) {}
}

static void frees_of_another(struct bench *b, long arg)
{
    struct turns *t = bench_shared(b, sizeof *t);
    (void)arg;
    bench_pin(b, 0);
    cue_channel *ch = open_frees(b, CUE_SEND);
    cue_pool *pool = cue_channel_pool(ch);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        uint64_t least = UINT64_MAX, end = bench_end(b);
        helper_go(h, bench_seconds(b));
        while (ticks_now() < end) {
            for (int i = 0; i < FREES; i++) {
                cue_block block;
                CUE_MUST(cue_block_alloc(pool, 64, NULL, &block));
                CUE_MUST(cue_channel_send(ch, &(cue_msg){ .move = &block }, CUE_SEC(20)));
            }
            turn_pass(t, TAKES);
            turn_wait(t, LOOKS, LOOKS);
            look_at_all(pool);
            turn_pass(t, FREES_THEM);
            turn_wait(t, SENDS, SENDS);
            if (t->ticks < least)
                least = t->ticks;
        }
        turn_pass(t, STOPS);
        helper_figure(h);
        bench_figure(b, ticks_ns(least) / FREES);
    }
    helper_end(h);
    cue_channel_close(ch);
}
static void frees_for_another(struct bench *b, long arg)
{
    static cue_block blocks[FREES];
    struct turns *t = bench_shared(b, sizeof *t);
    (void)arg;
    bench_pin(b, 1);
    cue_channel *ch = open_frees(b, CUE_RECV);
    while (bench_next(b)) {
        while (turn_wait(t, TAKES, STOPS) == TAKES) {
            for (int i = 0; i < FREES; i++) {
                cue_msg m;
                CUE_MUST(cue_channel_recv(ch, &m, CUE_SEC(20)));
                blocks[i] = cue_move(&m.block);
                cue_msg_release(&m);
            }
            turn_pass(t, LOOKS);
            turn_wait(t, FREES_THEM, FREES_THEM);
            uint64_t begin = ticks_now();
            for (int i = 0; i < FREES; i++)
                cue_block_free(&blocks[i]);
            t->ticks = ticks_now() - begin;
            turn_pass(t, SENDS);
        }
        turn_pass(t, SENDS);
        bench_figure(b, 0);
    }
    cue_channel_close(ch);
}

/* ---- looking up ---- */
/* Published blocks of 64 bytes with type TYPE and ids from 1 on, or with names; their automatic ids. */
static uint64_t *publish_many(cue_pool *pool, uint64_t n, bool named)
{
    uint64_t *ids = malloc(n * sizeof *ids);
    char name[32];
    for (uint64_t i = 0; i < n; i++) {
        cue_block block;
        cue_block_info info;
        snprintf(name, sizeof name, "block-%llu", (unsigned long long)i);
        cue_block_opts opts = { .type = TYPE, .flags = CUE_KEEP, .id = named ? 0 : i + 1, .name = named ? name : NULL };
        CUE_MUST(cue_block_alloc(pool, 64, &opts, &block));
        CUE_MUST(cue_block_stat(&block, &info));
        ids[i] = info.id;
        CUE_MUST(cue_block_release(&block));
    }
    return ids;
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* The order in which they are looked up. What the caller keeps of a block is read in turn, so only the pool's own lines are cold. */
static void shuffle(uint64_t *ids, uint64_t n)
{
    uint64_t random = 1;
    for (uint64_t i = n; i > 1; i--) {
        uint64_t j = next_random(&random) % i, id = ids[i - 1];
        ids[i - 1] = ids[j];
        ids[j] = id;
    }
}

#define MUST_FIND(call)                                                                                                                    \
    do {                                                                                                                                   \
        if (call)                                                                                                                          \
            bench_fail("find: %s", cue_trail());                                                                                           \
    } while (0)

static void lease(struct bench *b, long n)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(64), 0);
    uint64_t *ids = publish_many(pool, (uint64_t)n, false), next = 0;
    while (bench_next(b))
        PAIRS(b, {
            cue_block view;
            MUST_FIND(cue_block_find(pool, (cue_key){ .id = ids[next++ % (uint64_t)n] }, CUE_NOW, &view));
            bench_touch(view.data);
            cue_block_release(&view);
        });
    free(ids);
    cue_pool_destroy(pool);
}

static void find_id(struct bench *b, long n)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(1024), (uint64_t)n);
    uint64_t *ids = publish_many(pool, (uint64_t)n, false), next = 0;
    shuffle(ids, (uint64_t)n);
    while (bench_next(b))
        PAIRS(b, {
            MUST_FIND(cue_block_find(pool, (cue_key){ .id = ids[next] }, CUE_NOW, NULL));
            next = next + 1 == (uint64_t)n ? 0 : next + 1;
        });
    free(ids);
    cue_pool_destroy(pool);
}

/* With so many live blocks beside it. */
static void pair_among(struct bench *b, long n)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(1024), (uint64_t)n);
    free(publish_many(pool, (uint64_t)n, false));
    while (bench_next(b))
        PAIRS(b, PAIR(pool, 64));
    cue_pool_destroy(pool);
}

/* The blocks' ids in no order: where one is says nothing about where the next one is. */
static void publish_mixed(cue_pool *pool, uint64_t n)
{
    uint64_t *order = malloc(n * sizeof *order);
    for (uint64_t i = 0; i < n; i++)
        order[i] = i + 1;
    shuffle(order, n);
    for (uint64_t i = 0; i < n; i++) {
        cue_block block;
        CUE_MUST(cue_block_alloc(pool, 64, &(cue_block_opts){ .type = TYPE, .id = order[i], .flags = CUE_KEEP }, &block));
        CUE_MUST(cue_block_release(&block));
    }
    free(order);
}

enum { AT_A_TIME = 64 };

static void find_many(struct bench *b, long n)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(1024), (uint64_t)n);
    publish_mixed(pool, (uint64_t)n);
    cue_key keys[AT_A_TIME];
    uint64_t random = 1;
    while (bench_next(b)) {
        uint64_t begin = ticks_now(), end = bench_end(b), found = 0, now;
        do {
            for (int i = 0; i < AT_A_TIME; i++)
                keys[i] = (cue_key){ .type = TYPE, .id = next_random(&random) % (uint64_t)n + 1 };
            if (cue_block_find_many(pool, keys, AT_A_TIME, NULL, NULL) != AT_A_TIME)
                bench_fail("find_many: %s", cue_trail());
            found += AT_A_TIME;
        } while ((now = ticks_now()) < end);
        bench_figure(b, ticks_ns(now - begin) / (double)found);
    }
    cue_pool_destroy(pool);
}

static void find_mixed(struct bench *b, long n)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(1024), (uint64_t)n);
    publish_mixed(pool, (uint64_t)n);
    uint64_t random = 1;
    while (bench_next(b))
        PAIRS(b,
              { MUST_FIND(cue_block_find(pool, (cue_key){ .type = TYPE, .id = next_random(&random) % (uint64_t)n + 1 }, CUE_NOW, NULL)); });
    cue_pool_destroy(pool);
}

static void find_type_id(struct bench *b, long n)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(1024), (uint64_t)n);
    free(publish_many(pool, (uint64_t)n, false));
    uint64_t random = 1;
    while (bench_next(b))
        PAIRS(b,
              { MUST_FIND(cue_block_find(pool, (cue_key){ .type = TYPE, .id = next_random(&random) % (uint64_t)n + 1 }, CUE_NOW, NULL)); });
    cue_pool_destroy(pool);
}

static void find_name(struct bench *b, long n)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(256), (uint64_t)n);
    free(publish_many(pool, (uint64_t)n, true));
    char(*names)[32] = malloc((size_t)n * sizeof *names);
    for (long i = 0; i < n; i++)
        snprintf(names[i], sizeof names[i], "block-%ld", i);
    uint64_t random = 1;
    while (bench_next(b))
        PAIRS(b, { MUST_FIND(cue_block_find(pool, (cue_key){ .name = names[next_random(&random) % (uint64_t)n] }, CUE_NOW, NULL)); });
    free(names);
    cue_pool_destroy(pool);
}

static void iterate(struct bench *b, long n)
{
    bench_pin(b, 0);
    cue_pool *pool = open_pool(b, MIB(n > MANY ? 1024 : 64), (uint64_t)n);
    free(publish_many(pool, (uint64_t)n, false));
    while (bench_next(b)) {
        uint64_t begin = ticks_now(), end = bench_end(b), walks = 0, now;
        do {
            cue_block_info info;
            long seen = 0;
            for (uint64_t cursor = 0; cue_block_next(pool, TYPE, &cursor, &info) == 1;)
                seen++;
            if (seen != n)
                bench_fail("%ld of %ld blocks seen", seen, n);
            walks++;
        } while ((now = ticks_now()) < end);
        bench_figure(b, ticks_ns(now - begin) / (double)walks);
    }
    cue_pool_destroy(pool);
}

/* ---- joining, and cleaning up after others ---- */
enum { HOLDER, VICTIM }; /* helpers: one keeps the pool, one is killed */
static void open_close(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 0);
    struct helper *keeper = bench_helper(b, HOLDER);
    while (bench_next(b)) {
        uint64_t begin = ticks_now(), end = bench_end(b), opens = 0, now;
        do {
            cue_pool *pool;
            if (cue_pool_open(bench_tag(b), &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
                bench_fail("open: %s", cue_trail());
            cue_pool_close(pool);
            opens++;
        } while ((now = ticks_now()) < end);
        bench_figure(b, ticks_ns(now - begin) / (double)opens);
    }
    helper_end(keeper);
}
/* A helper owns `n` blocks and is killed; a second one keeps the pool. We open it: how long until all is free again. */
static void recover(struct bench *b, long n)
{
    (void)n;
    bench_pin(b, 0);
    struct helper *keeper = bench_helper(b, HOLDER);
    while (bench_next(b)) {
        cue_pool *pool;
        cue_pool_info info;
        struct helper *victim = bench_helper(b, VICTIM);
        helper_kill(victim);
        uint64_t begin = ticks_now();
        CUE_MUST(cue_pool_open(bench_tag(b), &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool));
        double ns = ticks_ns(ticks_now() - begin);
        CUE_MUST(cue_pool_stat(pool, &info));
        if (info.blocks)
            bench_fail("%llu blocks are left after the death of their owner", (unsigned long long)info.blocks);
        cue_pool_close(pool);
        bench_figure(b, ns);
    }
    helper_end(keeper);
}
static void hold_or_die(struct bench *b, long n)
{
    bench_pin(b, 1);
    cue_pool *pool = open_pool(b, MIB(1024), 0);
    cue_block block;
    for (long i = 0; bench_index(b) == VICTIM && i < n; i++)
        CUE_MUST(cue_block_alloc(pool, 64, NULL, &block));
    while (bench_next(b)) {}
    cue_pool_close(pool);
}

/* ---- memory ---- */
static double memory_taken(cue_pool *pool)
{
    struct stat st;
    if (fstat(cue_pool_fd(pool), &st))
        bench_fail("cannot look at the pool's object");
    return (double)st.st_blocks * 512;
}

static void empty(struct bench *b, long bytes)
{
    while (bench_next(b)) {
        cue_pool *pool = open_pool(b, (uint64_t)bytes, 0);
        bench_figure(b, memory_taken(pool));
        cue_pool_destroy(pool);
    }
}

static void overhead(struct bench *b, long n)
{
    while (bench_next(b)) {
        cue_pool *pool = open_pool(b, MIB(256), 0);
        cue_block block;
        for (long i = 0; i < n; i++)
            CUE_MUST(cue_block_alloc(pool, KIB(4), NULL, &block));
        double payload = (double)n * KIB(4);
        bench_figure(b, (memory_taken(pool) - payload) / payload * 100);
        cue_pool_destroy(pool);
    }
}

/* What a small block takes beyond its own bytes. */
static void overhead_small(struct bench *b, long bytes)
{
    while (bench_next(b)) {
        cue_pool *pool = open_pool(b, MIB(256), 0);
        cue_block block;
        double before = memory_taken(pool);
        for (long i = 0; i < MANY; i++)
            CUE_MUST(cue_block_alloc(pool, (size_t)bytes, NULL, &block));
        bench_figure(b, (memory_taken(pool) - before) / MANY - (double)bytes);
        cue_pool_destroy(pool);
    }
}

/* The same with few, some and many live blocks: bench/growth.py. */
#define AMONG(n)                                                                                                                           \
    { "among.pair." #n, pair_among, NULL, n }, { "among.id." #n, find_id, NULL, n }, { "among.type_id." #n, find_type_id, NULL, n },       \
        { "among.iterate." #n, iterate, NULL, n },                                                                                         \
    {                                                                                                                                      \
        "among.recover." #n, recover, hold_or_die, n                                                                                       \
    }

static const struct bench_case cases[] = {
    { "pair.64", pair, NULL, 64 },
    { "pair.512", pair, NULL, 512 },
    { "pair.4k", pair, NULL, 4096 },
    { "pair.64k", pair, NULL, 65536 },
    { "pair.1m", pair, NULL, 1 << 20 },
    { "pair.64.1proc", pairs_of_one, pair_helper, 64 },
    { "pair.64.2procs", pairs_of_two, pair_helper, 64 },
    { "pair.64.4procs", pairs_of_four, pair_helper, 64 },
    { "pair.remote", remote, NULL, 64 },
    { "free.own", frees, NULL, FREE_OWN },
    { "free.remote", frees, NULL, FREE_REMOTE },
    { "free.bound", frees, NULL, FREE_BOUND },
    { "free.process", frees_of_another, frees_for_another, 0 },
    { "lease", lease, NULL, 1000 },
    { "find.id", find_id, NULL, MILLION },
    { "find.id.warm", find_id, NULL, 1000 },
    { "find.type_id", find_type_id, NULL, MILLION },
    { "find.type_id.warm", find_type_id, NULL, 1000 },
    { "find.type_id.mixed", find_mixed, NULL, MILLION },
    { "find.many", find_many, NULL, MILLION },
    { "find.name", find_name, NULL, MANY },
    { "iterate.100k", iterate, NULL, MANY },
    { "open", open_close, hold_or_die, 0 },
    { "recover.100k", recover, hold_or_die, MANY },
    { "empty.1g", empty, NULL, 1 << 30 },
    { "overhead.4k", overhead, NULL, 32768 },
    { "overhead.64", overhead_small, NULL, 64 },
    AMONG(100),
    AMONG(10000),
    AMONG(1000000),
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, &(struct bench_program){ "cuelight", CUE_VERSION, cases, sizeof cases / sizeof *cases });
}
