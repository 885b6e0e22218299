/* ZeroMQ's PAIR over ipc, 64 bytes a message, with its defaults (it batches by itself). */
#include "bench/bench.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

enum { MESSAGE = 64, LAST = 2 };

static void check(int status, const char *what)
{
    if (status < 0)
        bench_fail("zeromq: %s: %s", what, zmq_strerror(errno));
}

struct side {
    void *context, *socket;
};

static struct side open_side(const struct bench *b, bool bind)
{
    char url[96];
    snprintf(url, sizeof url, "ipc://@%s", bench_tag(b));
    struct side s = { .context = zmq_ctx_new() };
    s.socket = zmq_socket(s.context, ZMQ_PAIR);
    check(bind ? zmq_bind(s.socket, url) : zmq_connect(s.socket, url), url);
    return s;
}
static void close_side(struct side *s)
{
    zmq_close(s->socket);
    zmq_ctx_term(s->context);
}

static void put(struct side *s, int what)
{
    unsigned char bytes[MESSAGE];
    memset(bytes, what, MESSAGE);
    check(zmq_send(s->socket, bytes, MESSAGE, 0), "send");
}
static int take(struct side *s)
{
    unsigned char bytes[MESSAGE];
    check(zmq_recv(s->socket, bytes, MESSAGE, 0), "receive");
    return bytes[0];
}

static void oneway_ping(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 0);
    struct side s = open_side(b, true);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t end = bench_end(b), last = ticks_now();
        for (bool more = true; more;) {
            more = last < end;
            put(&s, more ? 1 : LAST);
            take(&s);
            uint64_t now = ticks_now();
            bench_sample(b, now - last);
            last = now;
        }
        helper_figure(h);
        bench_half_trips(b);
    }
    helper_end(h);
    close_side(&s);
}
static void oneway_pong(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 1);
    struct side s = open_side(b, false);
    while (bench_next(b)) {
        int what;
        do {
            what = take(&s);
            put(&s, 1);
        } while (what != LAST);
        bench_figure(b, 0);
    }
    close_side(&s);
}

static void rate_receive(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 0);
    struct side s = open_side(b, true);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t begin = ticks_now(), got = 1;
        while (take(&s) != LAST)
            got++;
        double ns = ticks_ns(ticks_now() - begin);
        helper_figure(h);
        bench_figure(b, (double)got / ns * 1e9);
    }
    helper_end(h);
    close_side(&s);
}
static void rate_send(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 1);
    struct side s = open_side(b, false);
    while (bench_next(b)) {
        uint64_t end = bench_end(b);
        for (uint64_t n = 1; n % 64 || ticks_now() < end; n++)
            put(&s, 1);
        put(&s, LAST);
        bench_figure(b, 0);
    }
    close_side(&s);
}

static const struct bench_case cases[] = {
    { "oneway", oneway_ping, oneway_pong, 0 },
    { "rate", rate_receive, rate_send, 0 },
};

int main(int argc, char **argv)
{
    char version[32];
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    snprintf(version, sizeof version, "%d.%d.%d", major, minor, patch);
    return bench_main(argc, argv, &(struct bench_program){ "zeromq", version, cases, sizeof cases / sizeof *cases });
}
