/* What socket lanes cost: the rows lane.nng.*. Descriptors travel; the blocks of 64 bytes stay in the pool.
 *
 * `rate` flushes after each message, `rate.batch` lets the lane gather them as it does by default. `tcp.*` is the same over the
 * loopback. `far` moves blocks of 1 MiB to a receiver that cannot map the sender's pool: both ends have one of their own, and the
 * sender's says that it is on another host.
 */
#include "bench/bench.h"

#include <cuelight/channel.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE = 64, BATCH = 64, LARGE = 1 << 20 };
enum { SINGLE = 0, BATCHED = 1, TCP = 2, FAR = 4 }; /* a case's argument */
enum { MORE = 1, LAST = 2 };                        /* first byte of a message */

#define PATIENCE CUE_SEC(20) /* whoever waits longer has lost a message */

struct end {
    cue_pool *pool;
    cue_channel *ch;
    size_t size; /* of a message */
};

static uint32_t hash(const char *text)
{
    uint32_t h = 2166136261u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h;
}

/* A port of the loopback that both ends know and few others use. */
static void address(const struct bench *b, const char *name, long what, char *url, size_t room)
{
    char both[96];
    snprintf(both, sizeof both, "%s-%s", bench_tag(b), name);
    if (what & TCP)
        snprintf(url, room, "tcp://127.0.0.1:%u", 20000 + hash(both) % 12000);
    else
        snprintf(url, room, "ipc://@%s", both);
}

static struct end open_end(const struct bench *b, const char *name, unsigned how, cue_time flush, long what)
{
    struct end end = { .size = what & FAR ? LARGE : MESSAGE };
    char url[128], pool[100];
    bool elsewhere = (what & FAR) && how == CUE_SEND;
    address(b, name, what, url, sizeof url);
    snprintf(pool, sizeof pool, "%s%s", bench_tag(b), elsewhere ? "-far" : "");
    if (elsewhere)
        setenv("CUE_HOST_ID", "elsewhere", 1);
    CUE_MUST(cue_pool_open(pool, NULL, &end.pool));
    CUE_MUST(cue_channel_open(url, how, &(cue_channel_opts){ .pool = end.pool, .flush = flush, .depth = what & FAR ? 16 : 0 }, &end.ch));
    return end;
}
static void close_end(struct end *end)
{
    cue_channel_close(end->ch);
    cue_pool_close(end->pool);
}

static void check(int status, const char *what)
{
    if (__builtin_expect(status < 0, 0))
        bench_fail("%s: %s: %s", what, cue_status_name(status), cue_trail());
}
static void put(const struct end *end, int what)
{
    cue_block block;
    check(cue_block_alloc(end->pool, end->size, NULL, &block), "alloc");
    memset(block.data, what, end->size <= MESSAGE ? end->size : 1);
    check(cue_channel_send(end->ch, &(cue_msg){ .move = &block }, PATIENCE), "send");
}
static int take(const struct end *end)
{
    cue_msg m;
    check(cue_channel_recv(end->ch, &m, PATIENCE), "receive");
    int what = *(const unsigned char *)m.data;
    cue_msg_release(&m);
    return what;
}

static void ping(struct bench *b, long arg)
{
    bench_pin(b, 0);
    struct end back = open_end(b, "back", CUE_RECV, CUE_NS(-1), arg);
    struct helper *h = bench_helper(b, 0);
    struct end out = open_end(b, "out", CUE_SEND, CUE_NS(-1), arg);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t end = bench_end(b), last = ticks_now();
        for (bool more = true; more;) {
            more = last < end;
            put(&out, more ? MORE : LAST);
            take(&back);
            uint64_t now = ticks_now();
            bench_sample(b, now - last);
            last = now;
        }
        helper_figure(h);
        bench_half_trips(b);
    }
    helper_end(h);
    close_end(&out);
    close_end(&back);
}
static void pong(struct bench *b, long arg)
{
    bench_pin(b, 1);
    struct end out = open_end(b, "out", CUE_RECV, CUE_NS(-1), arg), back = open_end(b, "back", CUE_SEND, CUE_NS(-1), arg);
    while (bench_next(b)) {
        int what;
        do {
            what = take(&out);
            put(&back, MORE);
        } while (what != LAST);
        bench_figure(b, 0);
    }
    close_end(&out);
    close_end(&back);
}

static void receive(struct bench *b, long what)
{
    bench_pin(b, 0);
    struct end end = open_end(b, "many", CUE_RECV, CUE_NS(0), what);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t begin = ticks_now(), got = 0;
        for (bool more = true; more;) {
            cue_msg m[BATCH];
            int n = cue_channel_recv_many(end.ch, m, what & BATCHED ? BATCH : 1, PATIENCE);
            check(n, "receive");
            for (int i = 0; i < n; i++) {
                more = more && *(const unsigned char *)m[i].data != LAST;
                cue_msg_release(&m[i]);
            }
            got += (uint64_t)n;
        }
        double ns = ticks_ns(ticks_now() - begin);
        helper_figure(h);
        bench_figure(b, (double)got / ns * 1e9);
    }
    helper_end(h);
    close_end(&end);
}
static void send(struct bench *b, long what)
{
    bench_pin(b, 1);
    struct end end = open_end(b, "many", CUE_SEND, what & BATCHED ? CUE_NS(0) : CUE_NS(-1), what);
    while (bench_next(b)) {
        uint64_t stop = bench_end(b);
        while (ticks_now() < stop)
            put(&end, MORE);
        put(&end, LAST);
        bench_figure(b, 0);
    }
    close_end(&end);
}

static const struct bench_case cases[] = {
    { "oneway", ping, pong, SINGLE },
    { "rate", receive, send, SINGLE },
    { "rate.batch", receive, send, BATCHED },
    { "tcp.oneway", ping, pong, TCP },
    { "tcp.rate.batch", receive, send, TCP | BATCHED },
    { "tcp.far", receive, send, TCP | FAR | BATCHED },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, &(struct bench_program){ "cuelight", CUE_VERSION, cases, sizeof cases / sizeof *cases });
}
