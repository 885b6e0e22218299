/* Two processes at the ends of a wire, for what takes microseconds: calls through pointers, whatever the wire is. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include "bench/bench.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WIRE_BYTES = 64, WIRE_MORE = 1, WIRE_LAST = 2 }; /* a message, and what its bytes may be */

struct wire {
    void *end;
    void (*put)(void *end, int what); /* sends WIRE_BYTES bytes, each of them `what` */
    int (*take)(void *end);           /* waits for a message: its first byte */
};

/* Half round trips; the helper answers with wire_pong. Each end is open before it is called. */
void wire_ping(struct bench *b, const struct wire *wire);
void wire_pong(struct bench *b, const struct wire *wire);
/* Messages a second that arrive; the helpers run wire_send. */
void wire_receive(struct bench *b, const struct wire *wire, unsigned senders);
void wire_send(struct bench *b, const struct wire *wire);

#ifdef __cplusplus
}
#endif

#endif
