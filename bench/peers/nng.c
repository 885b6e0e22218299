/* NNG's pair1 alone over ipc, 64 bytes a message: what our ipc lane stands on. Buffers of 128 messages on both sides. */
#include "bench/bench.h"

#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>
#include <string.h>

enum { MESSAGE = 64, LAST = 2 };

static void check(int status, const char *what)
{
    if (status)
        bench_fail("nng: %s: %s", what, nng_strerror(status));
}

static nng_socket open_socket(const struct bench *b, bool listen)
{
    nng_socket s;
    char url[96];
    snprintf(url, sizeof url, "abstract://%s", bench_tag(b));
    check(nng_pair1_open(&s), "open");
    check(nng_socket_set_int(s, NNG_OPT_SENDBUF, 128), "send buffer");
    check(nng_socket_set_int(s, NNG_OPT_RECVBUF, 128), "receive buffer");
    check(listen ? nng_listen(s, url, NULL, 0) : nng_dial(s, url, NULL, 0), url);
    return s;
}

static void put(nng_socket s, int what)
{
    nng_msg *m;
    check(nng_msg_alloc(&m, MESSAGE), "alloc");
    memset(nng_msg_body(m), what, MESSAGE);
    check(nng_sendmsg(s, m, 0), "send");
}
static int take(nng_socket s)
{
    nng_msg *m;
    check(nng_recvmsg(s, &m, 0), "receive");
    int what = *(unsigned char *)nng_msg_body(m);
    nng_msg_free(m);
    return what;
}

static void oneway_ping(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 0);
    nng_socket s = open_socket(b, true);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t end = bench_end(b), last = ticks_now();
        for (bool more = true; more;) {
            more = last < end;
            put(s, more ? 1 : LAST);
            take(s);
            uint64_t now = ticks_now();
            bench_sample(b, now - last);
            last = now;
        }
        helper_figure(h);
        bench_half_trips(b);
    }
    helper_end(h);
    nng_close(s);
}
static void oneway_pong(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 1);
    nng_socket s = open_socket(b, false);
    while (bench_next(b)) {
        int what;
        do {
            what = take(s);
            put(s, 1);
        } while (what != LAST);
        bench_figure(b, 0);
    }
    nng_close(s);
}

static void rate_receive(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 0);
    nng_socket s = open_socket(b, true);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t begin = ticks_now(), got = 1;
        while (take(s) != LAST)
            got++;
        double ns = ticks_ns(ticks_now() - begin);
        helper_figure(h);
        bench_figure(b, (double)got / ns * 1e9);
    }
    helper_end(h);
    nng_close(s);
}
static void rate_send(struct bench *b, long arg)
{
    (void)arg;
    bench_pin(b, 1);
    nng_socket s = open_socket(b, false);
    while (bench_next(b)) {
        uint64_t end = bench_end(b);
        while (ticks_now() < end)
            put(s, 1);
        put(s, LAST);
        bench_figure(b, 0);
    }
    nng_close(s);
}

static const struct bench_case cases[] = {
    { "oneway", oneway_ping, oneway_pong, 0 },
    { "rate", rate_receive, rate_send, 0 },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, &(struct bench_program){ "nng", nng_version(), cases, sizeof cases / sizeof *cases });
}
