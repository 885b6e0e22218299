/* What the suites of questions and answers look at. */
#ifndef TESTS_QUESTIONS_H
#define TESTS_QUESTIONS_H

#include "tests/harness.h"

#include <cuelight/channel.h>

static inline uint64_t late(cue_channel *ch)
{
    cue_channel_info info;
    CUE_MUST(cue_channel_stat(ch, &info));
    return info.late;
}

static inline int number_of(const cue_msg *m)
{
    int number = -1;
    if (m->size == sizeof number)
        memcpy(&number, m->data, sizeof number);
    return number;
}

#endif
