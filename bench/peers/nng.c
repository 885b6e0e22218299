/* NNG's pair1 alone over ipc, 64 bytes a message: what our ipc lane stands on. Buffers of 128 messages on both sides. And over
 * the loopback: 64 bytes, and messages of 1 MiB. */
#include "bench/wire.h"

#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>
#include <string.h>

static void check(int status, const char *what)
{
    if (status)
        bench_fail("nng: %s: %s", what, nng_strerror(status));
}

enum { TCP = 2, LARGE = 4, LARGE_BYTES = 1 << 20 }; /* a case's argument; bit 0: senders */

static unsigned hash(const char *text)
{
    unsigned h = 2166136261u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h;
}

static nng_socket open_socket(const struct bench *b, bool listen, long what)
{
    nng_socket s;
    char url[96];
    if (what & TCP)
        snprintf(url, sizeof url, "tcp://127.0.0.1:%u", 20000 + hash(bench_tag(b)) % 12000);
    else
        snprintf(url, sizeof url, "abstract://%s", bench_tag(b));
    check(nng_pair1_open(&s), "open");
    check(nng_socket_set_int(s, NNG_OPT_SENDBUF, what & LARGE ? 8 : 128), "send buffer");
    check(nng_socket_set_int(s, NNG_OPT_RECVBUF, what & LARGE ? 8 : 128), "receive buffer");
    check(listen ? nng_listen(s, url, NULL, 0) : nng_dial(s, url, NULL, 0), url);
    return s;
}

static void put_bytes(nng_socket s, int what, size_t size)
{
    nng_msg *m;
    check(nng_msg_alloc(&m, size), "alloc");
    memset(nng_msg_body(m), what, size <= WIRE_BYTES ? size : 1);
    check(nng_sendmsg(s, m, 0), "send");
}
static void put(void *end, int what)
{
    put_bytes(*(nng_socket *)end, what, WIRE_BYTES);
}
static void put_large(void *end, int what)
{
    put_bytes(*(nng_socket *)end, what, LARGE_BYTES);
}
static int take(void *end)
{
    nng_msg *m;
    check(nng_recvmsg(*(nng_socket *)end, &m, 0), "receive");
    int what = *(unsigned char *)nng_msg_body(m);
    nng_msg_free(m);
    return what;
}

static void run(struct bench *b, long what)
{
    bench_pin(b, 0);
    nng_socket s = open_socket(b, true, what);
    const struct wire wire = { &s, what & LARGE ? put_large : put, take };
    if (what & 1)
        wire_receive(b, &wire, 1);
    else
        wire_ping(b, &wire);
    nng_close(s);
}
static void help(struct bench *b, long what)
{
    bench_pin(b, 1);
    nng_socket s = open_socket(b, false, what);
    const struct wire wire = { &s, what & LARGE ? put_large : put, take };
    (what & 1 ? wire_send : wire_pong)(b, &wire);
    nng_close(s);
}

static const struct bench_case cases[] = {
    { "oneway", run, help, 0 },
    { "rate", run, help, 1 },
    { "tcp.oneway", run, help, TCP },
    { "tcp.rate", run, help, TCP | 1 },
    { "tcp.large", run, help, TCP | LARGE | 1 }, /* messages a second of 1 MiB */
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, &(struct bench_program){ "nng", nng_version(), cases, sizeof cases / sizeof *cases });
}
