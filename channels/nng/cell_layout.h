/* The cell of a sending channel: how its receiver acknowledges, in the pool's shared memory.
 *
 * A block of 64 bytes, OWNED by the sender as long as the channel is open, named in its hello. Acknowledgements do not go
 * through NNG, for two reasons: they cost less here (one store, and a wake-up if the sender sleeps); and a connection that only
 * carries messages one way is easier to take down (part.c).
 *
 * `word` is written by the receiver that was greeted last; one that was stopped and comes late writes an incarnation that is
 * gone, which the sender ignores. `bell` is the futex on which the sender's thread sleeps: the receiver and the sender's own
 * threads ring it.
 */
#ifndef NNG_CELL_LAYOUT_H
#define NNG_CELL_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

enum {
    POOL_TYPE_CELL = 0x7fff1002,
    CELL_NUMBER_BITS = 42, /* 4 * 10^12 messages a channel */
    CELL_ORDER_BITS = 2,
    CELL_INCARNATION_BITS = 20,
    BELL_ASLEEP = 1, /* set and cleared by the sender's thread */
    BELL_ONE = 2
};

struct cell {
    uint64_t channel;      /* the channel's id; written before the block is named anywhere */
    _Atomic uint64_t word; /* receiver: number of the last message taken | order | incarnation of the connection */
    _Atomic uint64_t max;  /* receiver: the largest message it takes; before `word` */
    _Atomic uint32_t bell; /* futex: see above */
    uint32_t spare0;
    _Atomic uint64_t session; /* receiver: its channel's random id; before `word` */
    uint64_t spare[3];
};
static_assert(sizeof(struct cell) == 64, "a line");

/* `order`: 0: go on; WIRE_BYE, WIRE_RESTART (wire.h). */
static inline uint64_t cell_word(uint32_t incarnation, uint32_t order, uint64_t number)
{
    return (number & ((UINT64_C(1) << CELL_NUMBER_BITS) - 1)) | (uint64_t)order << CELL_NUMBER_BITS |
           (uint64_t)incarnation << (CELL_NUMBER_BITS + CELL_ORDER_BITS);
}
static inline uint64_t cell_number(uint64_t word)
{
    return word & ((UINT64_C(1) << CELL_NUMBER_BITS) - 1);
}
static inline uint32_t cell_order(uint64_t word)
{
    return word >> CELL_NUMBER_BITS & ((1u << CELL_ORDER_BITS) - 1);
}
static inline uint32_t cell_incarnation(uint64_t word)
{
    return (uint32_t)(word >> (CELL_NUMBER_BITS + CELL_ORDER_BITS));
}
static inline uint32_t next_incarnation(uint32_t incarnation) /* never 0: a fresh cell says 0 */
{
    incarnation = (incarnation + 1) & ((1u << CELL_INCARNATION_BITS) - 1);
    return incarnation ? incarnation : 1;
}

#endif
