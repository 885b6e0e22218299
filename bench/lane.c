/* What lanes in shared memory cost: the rows lane.mailbox.*, lane.stream.*, lane.queue.*, lane.topic.*, and the C side of py.recv.numpy.
 *
 * Two processes (fan-in: more), each opens the lanes by their URLs. A message is a block of the lane's pool: allocated, filled
 * with 64 bytes (of 1 MiB only the first is touched), sent by moving it, received, looked at, freed. All of that is timed.
 */
#include "bench/bench.h"

#include <cuelight/channel.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGE = 64, BATCH = 32, SENDERS_MAX = 8, DRAIN = 512, DOUBLES = 1000 };
enum { MORE = 1, LAST = 2 }; /* first byte of a message */

/* The default of who may use more than one CPU. Pinned to one the library would not spin, as nobody could answer meanwhile. */
#define RATE_SPIN CUE_US(20)
#define PATIENCE CUE_SEC(20) /* whoever waits longer has lost a message */

static cue_channel *open_lane(const struct bench *b, const char *name, unsigned how, cue_time spin)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/%s", bench_tag(b), name);
    CUE_MUST(cue_channel_open(url, how, &(cue_channel_opts){ .spin = spin }, &ch));
    return ch;
}

static void check(int status, const char *what)
{
    if (__builtin_expect(status < 0, 0))
        bench_fail("%s: %s: %s", what, cue_status_name(status), cue_trail());
}

static inline void make(cue_channel *ch, size_t bytes, int what, cue_block *block)
{
    check(cue_block_alloc(cue_channel_pool(ch), bytes, NULL, block), "alloc");
    memset(block->data, what, bytes > MESSAGE ? 1 : MESSAGE);
}
static inline void put(cue_channel *ch, size_t bytes, int what)
{
    static cue_block block; /* empty after each send; the message that moves it stays as it is */
    static const cue_msg message = { .move = &block };
    make(ch, bytes, what, &block);
    check(cue_channel_send(ch, &message, PATIENCE), "send");
}
static inline int take(cue_channel *ch)
{
    cue_msg m;
    check(cue_channel_recv(ch, &m, PATIENCE), "receive");
    int what = *(const unsigned char *)m.data;
    cue_msg_release(&m);
    return what;
}

/* The same of 64 bytes of our own, which are copied. */
static inline void put_bytes(cue_channel *ch, int what)
{
    static unsigned char bytes[MESSAGE];
    static const cue_msg message = { .data = bytes, .size = sizeof bytes };
    memset(bytes, what, sizeof bytes);
    check(cue_channel_send(ch, &message, PATIENCE), "send");
}

/* ---- one way: there and back, halved ---- */
struct trip {
    size_t bytes; /* 0: 64, copied */
    cue_time spin;
    const char *out, *back;
};
static const struct trip trips[] = {
    { MESSAGE, { 100000000 }, "out", "back" }, /* longer than any answer takes: it never sleeps */
    { MESSAGE, { -1 }, "out", "back" },        /* never spins */
    { 1 << 20, { 100000000 }, "out", "back" },
    { 64 << 20, { 100000000 }, "out", "back" },
    { MESSAGE, { 100000000 }, "out?kind=stream", "back?kind=stream" },
    { MESSAGE, { 100000000 }, "out?kind=topic", "back?kind=topic" },
    { 0, { 100000000 }, "out?kind=stream", "back?kind=stream" },
    { 0, { 100000000 }, "out", "back" },
    { MESSAGE, { 100000000 }, "out?kind=queue", "back?kind=queue" },
};
enum { SPINNING, ASLEEP, ONE_MIB, MANY_MIB, STREAM, TOPIC, STREAM_BYTES, BYTES, QUEUE };

/* Where both may be on one CPU, no longer than by default: an answer comes only when we let go. */
static cue_channel *open_end(const struct bench *b, const struct trip *trip, const char *name, unsigned how)
{
    return open_lane(b, name, how, trip->spin.ns > RATE_SPIN.ns && !bench_is_pinned(b) ? RATE_SPIN : trip->spin);
}

static inline void go_out(const struct trip *trip, cue_channel *ch, int what)
{
    if (trip->bytes)
        put(ch, trip->bytes, what);
    else
        put_bytes(ch, what);
}

static void ping(struct bench *b, long kind)
{
    const struct trip *trip = &trips[kind];
    bench_pin(b, 0);
    cue_channel *back = open_end(b, trip, trip->back, CUE_RECV), *out = open_end(b, trip, trip->out, CUE_SEND);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t end = bench_end(b), last = ticks_now();
        for (bool more = true; more;) {
            more = last < end;
            go_out(trip, out, more ? MORE : LAST);
            take(back);
            uint64_t now = ticks_now();
            bench_sample(b, now - last);
            last = now;
        }
        helper_figure(h);
        bench_half_trips(b);
    }
    helper_end(h);
    cue_channel_close(out);
    cue_channel_close(back);
}
static void pong(struct bench *b, long kind)
{
    const struct trip *trip = &trips[kind];
    bench_pin(b, 1);
    cue_channel *out = open_end(b, trip, trip->out, CUE_RECV), *back = open_end(b, trip, trip->back, CUE_SEND);
    while (bench_next(b)) {
        int what;
        do {
            what = take(out);
            go_out(trip, back, MORE);
        } while (what != LAST);
        bench_figure(b, 0);
    }
    cue_channel_close(out);
    cue_channel_close(back);
}

/* ---- rate: as many as arrive, from `senders` processes ---- */
static void receive_all(struct bench *b, struct helper **h, long senders, unsigned (*next)(cue_channel *ch, unsigned *ended),
                        cue_channel *ch)
{
    while (bench_next(b)) {
        for (long i = 0; i < senders; i++)
            helper_go(h[i], bench_seconds(b));
        uint64_t begin = ticks_now(), got = 0;
        for (unsigned ended = 0; ended < senders;)
            got += next(ch, &ended);
        double ns = ticks_ns(ticks_now() - begin);
        for (long i = 0; i < senders; i++)
            helper_figure(h[i]);
        bench_figure(b, (double)got / ns * 1e9);
    }
}
static void receive(struct bench *b, long senders, unsigned (*next)(cue_channel *ch, unsigned *ended))
{
    struct helper *h[SENDERS_MAX];
    bench_pin(b, 0);
    cue_channel *ch = open_lane(b, "many", CUE_RECV, RATE_SPIN);
    for (long i = 0; i < senders; i++)
        h[i] = bench_helper(b, (unsigned)i);
    receive_all(b, h, senders, next, ch);
    for (long i = 0; i < senders; i++)
        helper_end(h[i]);
    cue_channel_close(ch);
}

static unsigned next_one(cue_channel *ch, unsigned *ended)
{
    *ended += take(ch) == LAST;
    return 1;
}
static void rate_receive(struct bench *b, long senders)
{
    receive(b, senders, next_one);
}
/* The same while somebody looks on who reads nothing: each copy drops the oldest. */
static void tapped_receive(struct bench *b, long senders)
{
    cue_channel *lane = open_lane(b, "many", CUE_SEND, RATE_SPIN), *tap = open_lane(b, "many", CUE_TAP, RATE_SPIN);
    receive(b, senders, next_one);
    cue_channel_close(tap);
    cue_channel_close(lane);
}
static void rate_send(struct bench *b, long senders)
{
    (void)senders;
    bench_pin(b, 1);
    cue_channel *ch = open_lane(b, "many", CUE_SEND, RATE_SPIN);
    while (bench_next(b)) {
        uint64_t end = bench_end(b);
        for (uint64_t n = 1; n % 64 || ticks_now() < end; n++)
            put(ch, MESSAGE, MORE);
        put(ch, MESSAGE, LAST);
        bench_figure(b, 0);
    }
    cue_channel_close(ch);
}

static unsigned next_batch(cue_channel *ch, unsigned *ended)
{
    cue_msg m[BATCH];
    int n = cue_channel_recv_many(ch, m, BATCH, PATIENCE);
    check(n, "receive");
    for (int i = 0; i < n; i++) {
        *ended += *(const unsigned char *)m[i].data == LAST;
        cue_msg_release(&m[i]);
    }
    return (unsigned)n;
}
static void batch_receive(struct bench *b, long senders)
{
    receive(b, senders, next_batch);
}
static void send_batches(struct bench *b, cue_channel *ch)
{
    while (bench_next(b)) {
        uint64_t end = bench_end(b);
        for (bool more = true; more;) {
            cue_block block[BATCH];
            cue_msg m[BATCH];
            more = ticks_now() < end;
            for (int i = 0; i < BATCH; i++) {
                make(ch, MESSAGE, more || i < BATCH - 1 ? MORE : LAST, &block[i]);
                m[i] = (cue_msg){ .move = &block[i] };
            }
            for (int sent = 0; sent < BATCH;) {
                int n = cue_channel_send_many(ch, m + sent, (size_t)(BATCH - sent), PATIENCE);
                check(n, "send");
                sent += n;
            }
        }
        bench_figure(b, 0);
    }
}
static void batch_send(struct bench *b, long senders)
{
    (void)senders;
    bench_pin(b, 1);
    cue_channel *ch = open_lane(b, "many", CUE_SEND, RATE_SPIN);
    send_batches(b, ch);
    cue_channel_close(ch);
}

/* ---- the same through a stream ---- */
static void send_batches_of_bytes(struct bench *b, cue_channel *ch)
{
    static unsigned char bytes[BATCH][MESSAGE];
    cue_msg m[BATCH];
    for (int i = 0; i < BATCH; i++)
        m[i] = (cue_msg){ .data = bytes[i], .size = MESSAGE };
    while (bench_next(b)) {
        uint64_t end = bench_end(b);
        for (bool more = true; more;) {
            more = ticks_now() < end;
            for (int i = 0; i < BATCH; i++)
                memset(bytes[i], more || i < BATCH - 1 ? MORE : LAST, MESSAGE);
            for (int sent = 0; sent < BATCH;) {
                int n = cue_channel_send_many(ch, m + sent, (size_t)(BATCH - sent), PATIENCE);
                check(n, "send");
                sent += n;
            }
        }
        bench_figure(b, 0);
    }
}
static void stream_receive(struct bench *b, long blocks)
{
    struct helper *h;
    (void)blocks;
    bench_pin(b, 0);
    cue_channel *ch = open_lane(b, "many?kind=stream", CUE_RECV, RATE_SPIN);
    h = bench_helper(b, 0);
    receive_all(b, &h, 1, next_batch, ch);
    helper_end(h);
    cue_channel_close(ch);
}
static void stream_send(struct bench *b, long blocks)
{
    bench_pin(b, 1);
    cue_channel *ch = open_lane(b, "many?kind=stream", CUE_SEND, RATE_SPIN);
    if (blocks)
        send_batches(b, ch);
    else
        send_batches_of_bytes(b, ch);
    cue_channel_close(ch);
}

/* ---- a topic: one publishes, each of `readers` processes gets all, and is waited for ---- */
static void fanout_publish(struct bench *b, long readers)
{
    struct helper *h[SENDERS_MAX];
    bench_pin(b, 0);
    cue_channel *ch = open_lane(b, "many?kind=topic", CUE_SEND, RATE_SPIN);
    for (long i = 0; i < readers; i++)
        h[i] = bench_helper(b, (unsigned)i);
    while (bench_next(b)) {
        for (long i = 0; i < readers; i++)
            helper_go(h[i], bench_seconds(b));
        uint64_t begin = ticks_now(), end = bench_end(b), sent = 0;
        for (uint64_t n = 1; n % 64 || ticks_now() < end; n++, sent++)
            put(ch, MESSAGE, MORE);
        put(ch, MESSAGE, LAST);
        for (long i = 0; i < readers; i++)
            helper_figure(h[i]);
        bench_figure(b, (double)(sent + 1) / ticks_ns(ticks_now() - begin) * 1e9);
    }
    for (long i = 0; i < readers; i++)
        helper_end(h[i]);
    cue_channel_close(ch);
}
static void fanout_read(struct bench *b, long readers)
{
    (void)readers;
    bench_pin(b, 1);
    cue_channel *ch = open_lane(b, "many?kind=topic", CUE_RECV, RATE_SPIN);
    while (bench_next(b)) {
        while (take(ch) != LAST)
            ;
        bench_figure(b, 0);
    }
    cue_channel_close(ch);
}

/* ---- a queue: two processes send, two receive ---- */
enum { QUEUE_ENDS = 2 };

/* The last message goes to one of the receivers, each round. Both stop when all that was sent has arrived. */
struct tally {
    _Atomic uint64_t sent, got;
    _Atomic unsigned ended; /* senders */
};

static uint64_t queue_drain(cue_channel *ch, struct tally *tally)
{
    uint64_t got = 0;
    cue_msg m[BATCH];
    for (;;) {
        int n = cue_channel_recv_many(ch, m, BATCH, CUE_MS(2));
        for (int i = 0; i < n; i++)
            cue_msg_release(&m[i]);
        if (n > 0) {
            got += (uint64_t)n;
            atomic_fetch_add(&tally->got, (uint64_t)n);
        } else if (n != CUE_EEMPTY) {
            check(n, "receive");
        } else if (atomic_load(&tally->ended) == QUEUE_ENDS && atomic_load(&tally->got) == atomic_load(&tally->sent)) {
            return got;
        }
    }
}

/* Helpers 0 and 1 send, helper 2 receives as we do. */
static void queue_run(struct bench *b, long arg)
{
    struct tally *tally = bench_shared(b, sizeof *tally);
    struct helper *h[QUEUE_ENDS + 1];
    (void)arg;
    bench_pin(b, 0);
    cue_channel *ch = open_lane(b, "many?kind=queue", CUE_RECV, RATE_SPIN);
    for (unsigned i = 0; i < QUEUE_ENDS + 1; i++)
        h[i] = bench_helper(b, i);
    while (bench_next(b)) {
        atomic_store(&tally->sent, 0);
        atomic_store(&tally->got, 0);
        atomic_store(&tally->ended, 0);
        for (unsigned i = 0; i < QUEUE_ENDS + 1; i++)
            helper_go(h[i], bench_seconds(b));
        uint64_t begin = ticks_now();
        queue_drain(ch, tally);
        double ns = ticks_ns(ticks_now() - begin);
        for (unsigned i = 0; i < QUEUE_ENDS + 1; i++)
            helper_figure(h[i]);
        bench_figure(b, (double)atomic_load(&tally->got) / ns * 1e9);
    }
    for (unsigned i = 0; i < QUEUE_ENDS + 1; i++)
        helper_end(h[i]);
    cue_channel_close(ch);
}

static void queue_help(struct bench *b, long arg)
{
    struct tally *tally = bench_shared(b, sizeof *tally);
    bool sends = bench_index(b) < QUEUE_ENDS;
    (void)arg;
    bench_pin(b, bench_index(b) == 0 ? 0 : 1);
    cue_channel *ch = open_lane(b, "many?kind=queue", sends ? CUE_SEND : CUE_RECV, RATE_SPIN);
    while (bench_next(b)) {
        if (sends) {
            uint64_t end = bench_end(b), n = 0;
            while (n % 64 || ticks_now() < end) {
                put(ch, MESSAGE, MORE);
                n++;
            }
            atomic_fetch_add(&tally->sent, n);
            atomic_fetch_add(&tally->ended, 1);
        } else {
            queue_drain(ch, tally);
        }
        bench_figure(b, 0);
    }
    cue_channel_close(ch);
}

/* ---- what a receive costs when the message is there: what bench/recv.py does, in C ---- */
static void recv_view(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 0);
    cue_channel *ch = open_lane(b, "view", CUE_RECV | CUE_SEND, RATE_SPIN);
    double sum = 0;
    while (bench_next(b)) {
        uint64_t end = bench_end(b), spent = 0, received = 0;
        while (ticks_now() < end) {
            for (int i = 0; i < DRAIN; i++) {
                cue_block block;
                check(cue_block_alloc(cue_channel_pool(ch), DOUBLES * sizeof(double), NULL, &block), "alloc");
                ((double *)block.data)[0] = ((double *)block.data)[DOUBLES - 1] = i;
                check(cue_channel_send(ch, &(cue_msg){ .move = &block }, PATIENCE), "send");
            }
            uint64_t begin = ticks_now();
            for (int i = 0; i < DRAIN; i++) {
                cue_msg m;
                check(cue_channel_recv(ch, &m, PATIENCE), "receive");
                const double *view = m.data;
                sum += view[0] + view[DOUBLES - 1];
                cue_msg_release(&m);
            }
            spent += ticks_now() - begin;
            received += DRAIN;
        }
        bench_touch(&sum);
        bench_figure(b, ticks_ns(spent) / (double)received);
    }
    cue_channel_close(ch);
}

static const struct bench_case cases[] = {
    { "oneway.spin", ping, pong, SPINNING },
    { "oneway.asleep", ping, pong, ASLEEP },
    { "oneway.1m", ping, pong, ONE_MIB },
    { "oneway.64m", ping, pong, MANY_MIB },
    { "rate", rate_receive, rate_send, 1 },
    { "rate.tapped", tapped_receive, rate_send, 1 },
    { "rate.batch32", batch_receive, batch_send, 1 },
    { "fanin.2", rate_receive, rate_send, 2 },
    { "fanin.4", rate_receive, rate_send, 4 },
    { "fanin.8", rate_receive, rate_send, 8 },
    { "oneway.bytes", ping, pong, BYTES },
    { "stream.oneway", ping, pong, STREAM_BYTES },
    { "stream.oneway.block", ping, pong, STREAM },
    { "stream.rate", stream_receive, stream_send, false },
    { "stream.rate.blocks", stream_receive, stream_send, true },
    { "topic.oneway", ping, pong, TOPIC },
    { "fanout.1", fanout_publish, fanout_read, 1 },
    { "fanout.2", fanout_publish, fanout_read, 2 },
    { "fanout.4", fanout_publish, fanout_read, 4 },
    { "fanout.8", fanout_publish, fanout_read, 8 },
    { "queue.oneway", ping, pong, QUEUE },
    { "queue.2x2", queue_run, queue_help, 0 },
    { "recv.view", recv_view, NULL, 0 },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, &(struct bench_program){ "cuelight", CUE_VERSION, cases, sizeof cases / sizeof *cases });
}
