/* What the suites of questions and answers look at. */
#ifndef TESTS_QUESTIONS_H
#define TESTS_QUESTIONS_H

#include "tests/harness.h"
#include "tests/stat_of.h"

static inline uint64_t late(cue_channel *ch)
{
    return stat_of(ch).late;
}

static inline int number_of(const cue_msg *m)
{
    int number = -1;
    if (m->size == sizeof number)
        memcpy(&number, m->data, sizeof number);
    return number;
}

#endif
