/* What the publishers of the topic's and the taps' storms send: numbered, with a sum. */
#ifndef TESTS_CAST_NUMBERED_H
#define TESTS_CAST_NUMBERED_H

#include <stdint.h>

struct counted {
    int32_t publisher; /* its pid */
    uint32_t number, sum;
};

static inline uint32_t counted_sum(const struct counted *m)
{
    return ((uint32_t)m->publisher * 2654435761u ^ m->number) * 2246822519u + 1;
}

#endif
