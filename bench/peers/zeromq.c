/* ZeroMQ's PAIR over ipc, 64 bytes a message, with its defaults (it batches by itself). */
#include "bench/wire.h"

#include <errno.h>
#include <string.h>
#include <zmq.h>

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

static void put(void *end, int what)
{
    struct side *s = end;
    unsigned char bytes[WIRE_BYTES];
    memset(bytes, what, WIRE_BYTES);
    check(zmq_send(s->socket, bytes, WIRE_BYTES, 0), "send");
}
static int take(void *end)
{
    struct side *s = end;
    unsigned char bytes[WIRE_BYTES];
    check(zmq_recv(s->socket, bytes, WIRE_BYTES, 0), "receive");
    return bytes[0];
}

static void run(struct bench *b, long senders)
{
    bench_pin(b, 0);
    struct side s = open_side(b, true);
    const struct wire wire = { &s, put, take };
    if (senders)
        wire_receive(b, &wire, (unsigned)senders);
    else
        wire_ping(b, &wire);
    close_side(&s);
}
static void help(struct bench *b, long senders)
{
    bench_pin(b, 1);
    struct side s = open_side(b, false);
    const struct wire wire = { &s, put, take };
    (senders ? wire_send : wire_pong)(b, &wire);
    close_side(&s);
}

static const struct bench_case cases[] = {
    { "oneway", run, help, 0 },
    { "rate", run, help, 1 },
};

int main(int argc, char **argv)
{
    char version[32];
    int major, minor, patch;
    zmq_version(&major, &minor, &patch);
    snprintf(version, sizeof version, "%d.%d.%d", major, minor, patch);
    return bench_main(argc, argv, &(struct bench_program){ "zeromq", version, cases, sizeof cases / sizeof *cases });
}
