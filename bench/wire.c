#include "bench/wire.h"

enum { SENDERS_MAX = 8 };

void wire_ping(struct bench *b, const struct wire *wire)
{
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t end = bench_end(b), last = ticks_now();
        for (bool more = true; more;) {
            more = last < end;
            wire->put(wire->end, more ? WIRE_MORE : WIRE_LAST);
            wire->take(wire->end);
            uint64_t now = ticks_now();
            bench_sample(b, now - last);
            last = now;
        }
        helper_figure(h);
        bench_half_trips(b);
    }
    helper_end(h);
}

void wire_pong(struct bench *b, const struct wire *wire)
{
    while (bench_next(b)) {
        int what;
        do {
            what = wire->take(wire->end);
            wire->put(wire->end, WIRE_MORE);
        } while (what != WIRE_LAST);
        bench_figure(b, 0);
    }
}

void wire_receive(struct bench *b, const struct wire *wire, unsigned senders)
{
    struct helper *h[SENDERS_MAX];
    for (unsigned i = 0; i < senders; i++)
        h[i] = bench_helper(b, i);
    while (bench_next(b)) {
        for (unsigned i = 0; i < senders; i++)
            helper_go(h[i], bench_seconds(b));
        uint64_t begin = ticks_now(), got = 0;
        for (unsigned ended = 0; ended < senders; got++)
            ended += wire->take(wire->end) == WIRE_LAST;
        double ns = ticks_ns(ticks_now() - begin);
        for (unsigned i = 0; i < senders; i++)
            helper_figure(h[i]);
        bench_figure(b, (double)got / ns * 1e9);
    }
    for (unsigned i = 0; i < senders; i++)
        helper_end(h[i]);
}

void wire_send(struct bench *b, const struct wire *wire)
{
    while (bench_next(b)) {
        uint64_t end = bench_end(b);
        for (uint64_t n = 1; n % 64 || ticks_now() < end; n++)
            wire->put(wire->end, WIRE_MORE);
        wire->put(wire->end, WIRE_LAST);
        bench_figure(b, 0);
    }
}
