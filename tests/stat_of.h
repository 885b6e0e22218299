/* What a channel says of itself, for the suites that look at one count after the other. */
#ifndef TESTS_STAT_OF_H
#define TESTS_STAT_OF_H

#include <cuelight/channel.h>

static inline cue_channel_info stat_of(cue_channel *ch)
{
    cue_channel_info info;
    CUE_MUST(cue_channel_stat(ch, &info));
    return info;
}

#endif
