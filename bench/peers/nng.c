/* NNG's pair1 alone over ipc, 64 bytes a message: what our ipc lane stands on. Buffers of 128 messages on both sides. */
#include "bench/wire.h"

#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>
#include <string.h>

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

static void put(void *end, int what)
{
    nng_msg *m;
    check(nng_msg_alloc(&m, WIRE_BYTES), "alloc");
    memset(nng_msg_body(m), what, WIRE_BYTES);
    check(nng_sendmsg(*(nng_socket *)end, m, 0), "send");
}
static int take(void *end)
{
    nng_msg *m;
    check(nng_recvmsg(*(nng_socket *)end, &m, 0), "receive");
    int what = *(unsigned char *)nng_msg_body(m);
    nng_msg_free(m);
    return what;
}

static void run(struct bench *b, long senders)
{
    bench_pin(b, 0);
    nng_socket s = open_socket(b, true);
    const struct wire wire = { &s, put, take };
    if (senders)
        wire_receive(b, &wire, (unsigned)senders);
    else
        wire_ping(b, &wire);
    nng_close(s);
}
static void help(struct bench *b, long senders)
{
    bench_pin(b, 1);
    nng_socket s = open_socket(b, false);
    const struct wire wire = { &s, put, take };
    (senders ? wire_send : wire_pong)(b, &wire);
    nng_close(s);
}

static const struct bench_case cases[] = {
    { "oneway", run, help, 0 },
    { "rate", run, help, 1 },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, &(struct bench_program){ "nng", nng_version(), cases, sizeof cases / sizeof *cases });
}
