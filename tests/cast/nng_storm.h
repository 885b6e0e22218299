/* What a block of the role nng_send holds. */
#ifndef TESTS_CAST_NNG_STORM_H
#define TESTS_CAST_NNG_STORM_H

#include <stdbool.h>
#include <stdint.h>

struct numbered {
    uint64_t sender, number, check;
};

static inline uint64_t numbered_check(uint64_t sender, uint64_t number)
{
    uint64_t mixed = (number + (sender << 40)) * 0x9e3779b97f4a7c15u;
    return mixed ^ mixed >> 29;
}

static inline struct numbered numbered_make(uint64_t sender, uint64_t number)
{
    return (struct numbered){ sender, number, numbered_check(sender, number) };
}

static inline bool numbered_good(const struct numbered *n)
{
    return n->check == numbered_check(n->sender, n->number);
}

#endif
