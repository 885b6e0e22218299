/* What lies in a budget's block, word by word, and who may write each word. The protocol is in budget.c. */
#ifndef BUDGET_LAYOUT_H
#define BUDGET_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define BUDGET_MAGIC UINT64_C(0x7465676475627563) /* "cubudget" */

enum { BUDGET_SEATS = 128, BUDGET_TYPES = 256 };

/* A count and how often it was settled: bits 0-47 | 48-63. Changed by CAS. */
#define BUDGET_COUNT_BITS 48
#define BUDGET_COUNT_MAX ((UINT64_C(1) << BUDGET_COUNT_BITS) - 1)

/* A seat: bit 0 busy | 1-7 slot of the party | 8-25 low bits of its epoch | 26-31 weight | 32-63 grows with each operation.
 * weight: 1 + the logarithm of the units that the operation moves, 0: none. Idle -> busy by CAS of the one who sits down, busy ->
 * idle by a release store of the same, or by CAS of anybody once that party is dead. */
#define SEAT_BUSY UINT64_C(1)
#define SEAT_EPOCH_MASK UINT64_C(0x3ffff)

struct budget_seat {
    _Atomic uint64_t word;
    uint64_t spare[7];
};

struct budget {
    /* written by the maker before the block is published, never changed */
    uint64_t magic;
    uint64_t bytes, least, max_blocks;
    uint32_t type, spare0;
    uint64_t spare1[3];
    /* shared words */
    _Alignas(64) _Atomic uint64_t used; /* units of `least` bytes that are taken; a count as above */
    _Atomic uint64_t blocks;            /* the same of blocks */
    _Atomic uint64_t peak;              /* the most of `blocks`: grows by CAS */
    _Atomic uint64_t hold_until;        /* CLOCK_MONOTONIC until which new operations hold back for one who settles; 0: none */
    uint64_t spare2[4];
    struct budget_seat seats[BUDGET_SEATS];
};
static_assert(offsetof(struct budget, used) == 64 && offsetof(struct budget, seats) == 128 && sizeof(struct budget_seat) == 64, "layout");

#endif
