/* What the processes of the mailbox storm share besides the pool: a file of counts, mapped by all.
 *
 * A sender numbers its messages LIFE << 32 | N, N from 1 on, and says after each send what it has sent. A receiver says of each
 * sender the last number that it took, by one store, and writes down what was missing before it. All this is for checking only.
 */
#ifndef TESTS_CAST_MAILBOX_STORM_H
#define TESTS_CAST_MAILBOX_STORM_H

#include <stdatomic.h>
#include <stdint.h>

enum { STORM_SENDERS = 3, STORM_LIVES = 2048, STORM_HANDS = 8 };

struct storm {
    _Atomic uint64_t committed[STORM_SENDERS][STORM_LIVES]; /* the highest N of that life that was reported as sent */
    _Atomic uint64_t last[STORM_SENDERS];                   /* LIFE << 32 | N that a receiver took last */
    _Atomic uint64_t got, missing, drained;                 /* drained: a receiver shut the lane, and emptied it */
    _Atomic uint64_t disordered, damaged;                   /* must stay 0 */
    _Atomic uint64_t kinds[4];                              /* messages of bytes, of a block, of both, with a header */
};

/* The first words of a payload; the rest follows from `number`. */
struct storm_bytes {
    uint64_t number, sender, check[6];
};

static inline void storm_fill(struct storm_bytes *bytes, uint64_t number, uint64_t sender)
{
    bytes->number = number;
    bytes->sender = sender;
    for (unsigned i = 0; i < 6; i++)
        bytes->check[i] = number * 0x9e3779b97f4a7c15 + sender + i;
}

static inline int storm_whole(const struct storm_bytes *bytes)
{
    uint64_t wrong = bytes->sender >= STORM_SENDERS;
    for (unsigned i = 0; i < 6; i++)
        wrong |= bytes->check[i] ^ (bytes->number * 0x9e3779b97f4a7c15 + bytes->sender + i);
    return !wrong;
}

/* Numbers (from, to) of one life, both ends left out, never came. */
static inline void storm_take(struct storm *storm, const struct storm_bytes *bytes)
{
    uint64_t sender = bytes->sender, now = bytes->number, last = atomic_load(&storm->last[sender]), missing = 0;
    if (now <= last)
        atomic_fetch_add(&storm->disordered, 1);
    if (now >> 32 == last >> 32) {
        missing = now > last ? now - last - 1 : 0;
    } else if (now > last) {
        for (uint64_t life = last >> 32; life < now >> 32; life++) {
            uint64_t sent = atomic_load(&storm->committed[sender][life]), from = life == last >> 32 ? last & UINT32_MAX : 0;
            missing += sent > from ? sent - from : 0;
        }
        missing += (now & UINT32_MAX) - 1;
    }
    atomic_store(&storm->last[sender], now); /* first: killed in between, the next receiver does not count them again */
    atomic_fetch_add(&storm->missing, missing);
    atomic_fetch_add(&storm->got, 1);
}

#endif
