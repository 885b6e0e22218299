/* Messages of one int each, for the suites of lanes. */
#ifndef TESTS_INTS_H
#define TESTS_INTS_H

#include <cuelight/channel.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static inline int send_int(cue_channel *ch, int value)
{
    return cue_channel_send(ch, CUE_MSG(1, value), CUE_NOW);
}

/* The next message, an int; negative statuses below -1000 to tell them apart. */
static inline int recv_int_within(cue_channel *ch, cue_time wait)
{
    cue_msg m;
    int status = cue_channel_recv(ch, &m, wait), value;
    if (status)
        return status - 1000;
    cr_expect(eq(sz, m.size, sizeof value));
    memcpy(&value, m.data, sizeof value);
    cue_msg_release(&m);
    return value;
}

static inline int recv_int(cue_channel *ch)
{
    return recv_int_within(ch, CUE_NOW);
}

#endif
