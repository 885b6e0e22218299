/* What the processes of the storms with one receiver share besides the pool: a file of counts, mapped by all.
 *
 * A sender numbers its messages LIFE << 32 | N, N from 1 on, and says after each send what it has sent. A receiver says of each
 * sender the last number that it took, by one store, and writes down what was missing before it. All this is for checking only.
 *
 * ORDER OVER ALL SENDERS. Before a send a sender looks at what each other one has said so far, and writes that into its message: all
 * that was sent before it. So what comes later than a message that names it was overtaken.
 */
#ifndef TESTS_CAST_MAILBOX_STORM_H
#define TESTS_CAST_MAILBOX_STORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { STORM_SENDERS = 3, STORM_LIVES = 2048, STORM_HANDS = 8, STORM_BATCH = 8 };

struct storm {
    _Atomic uint64_t committed[STORM_SENDERS][STORM_LIVES]; /* the highest N of that life that was reported as sent */
    _Atomic uint64_t said[STORM_SENDERS];                   /* LIFE << 32 | N, the same: of the last life */
    _Atomic uint64_t last[STORM_SENDERS];                   /* LIFE << 32 | N that a receiver took last */
    _Atomic uint64_t floor[STORM_SENDERS];                  /* what a message that was taken said to have been sent before it */
    _Atomic uint64_t got, missing, drained;                 /* drained: a receiver shut the lane, and emptied it */
    _Atomic uint64_t gaps, related;                         /* sum of m.gap; messages that raised a floor of another sender */
    _Atomic uint64_t disordered, overtaken, damaged;        /* must stay 0 */
    _Atomic uint64_t kinds[4];                              /* messages of bytes, of a block, of both, with a header */
};

/* The first words of a payload; `filler` bytes follow, which its sum vouches for. */
struct storm_bytes {
    uint64_t number, sender, before[STORM_SENDERS], filler, filler_sum, sum;
};

static inline uint64_t storm_sum(const void *bytes, size_t size)
{
    const unsigned char *b = bytes;
    uint64_t sum = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ b[i]) * 0x100000001b3;
    return sum;
}

/* Fills `payload`, of storm_bytes and so many bytes more. `before` is what the others have said. */
static inline void storm_fill(void *payload, size_t filler, uint64_t number, uint64_t sender, const uint64_t before[STORM_SENDERS])
{
    unsigned char *rest = (unsigned char *)payload + sizeof(struct storm_bytes);
    struct storm_bytes bytes = { .number = number, .sender = sender, .filler = filler };
    memcpy(bytes.before, before, sizeof bytes.before);
    for (size_t i = 0; i < filler; i++)
        rest[i] = (unsigned char)(number * 31 + sender + i * 7 + (i >> 8));
    bytes.filler_sum = storm_sum(rest, filler);
    bytes.sum = storm_sum(&bytes, offsetof(struct storm_bytes, sum));
    memcpy(payload, &bytes, sizeof bytes);
}

/* Whether these bytes are a message as it was sent; its first words. */
static inline bool storm_read(const void *payload, size_t size, struct storm_bytes *out)
{
    if (size < sizeof *out)
        return false;
    memcpy(out, payload, sizeof *out);
    return out->sum == storm_sum(out, offsetof(struct storm_bytes, sum)) && out->sender < STORM_SENDERS &&
           out->filler <= size - sizeof *out &&
           out->filler_sum == storm_sum((const unsigned char *)payload + sizeof *out, (size_t)out->filler);
}

/* Numbers (from, to) of one life, both ends left out, never came. */
static inline void storm_take(struct storm *storm, const struct storm_bytes *bytes)
{
    uint64_t sender = bytes->sender, now = bytes->number, last = atomic_load(&storm->last[sender]), missing = 0;
    if (now <= last)
        atomic_fetch_add(&storm->disordered, 1);
    if (now <= atomic_load(&storm->floor[sender]))
        atomic_fetch_add(&storm->overtaken, 1);
    for (unsigned other = 0; other < STORM_SENDERS; other++)
        if (other != sender && bytes->before[other] > atomic_load(&storm->floor[other])) {
            atomic_store(&storm->floor[other], bytes->before[other]); /* one receives at a time */
            atomic_fetch_add(&storm->related, 1);
        }
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
