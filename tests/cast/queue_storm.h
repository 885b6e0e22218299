/* What the processes of the queue storm share besides the pool: a file with a bit for each message, mapped by all. For checking only.
 *
 * A sender life numbers its messages from 1 on and says after each send what it has sent. A receiver sets the bit of each message
 * that it gets before it releases it; one whose bit was set must be marked as redelivered.
 */
#ifndef TESTS_CAST_QUEUE_STORM_H
#define TESTS_CAST_QUEUE_STORM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { QUEUE_SENDERS = 3, QUEUE_LIVES = 512, QUEUE_NUMBERS = 4096 };

struct queue_storm {
    _Atomic uint32_t committed[QUEUE_SENDERS][QUEUE_LIVES];
    _Atomic uint64_t seen[QUEUE_SENDERS][QUEUE_LIVES][QUEUE_NUMBERS / 64];
    _Atomic uint64_t got, again, blocks, drained;  /* messages; of them redelivered; with a block. Shut by a receiver, and emptied */
    _Atomic uint64_t doubled, damaged, disordered; /* must stay 0 */
};

struct queue_bytes {
    uint32_t sender, life, number, check;
};

static inline uint32_t queue_check(const struct queue_bytes *b)
{
    return (b->sender * 31 + b->life) * 2654435761u ^ b->number * 40503u;
}

static inline bool queue_whole(const struct queue_bytes *b)
{
    return b->sender < QUEUE_SENDERS && b->life < QUEUE_LIVES && b->number > 0 && b->number < QUEUE_NUMBERS && b->check == queue_check(b);
}

/* It came, `again`: marked. */
static inline void queue_note(struct queue_storm *storm, const struct queue_bytes *b, bool again)
{
    uint64_t bit = UINT64_C(1) << (b->number % 64);
    bool before = atomic_fetch_or(&storm->seen[b->sender][b->life][b->number / 64], bit) & bit;
    atomic_fetch_add(&storm->got, 1);
    atomic_fetch_add(&storm->again, again);
    atomic_fetch_add(&storm->doubled, before && !again);
}

#endif
