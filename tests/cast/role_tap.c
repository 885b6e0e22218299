/* Roles of the tests of taps. */
#include "tests/cast/numbered.h"
#include "tests/cast/roles.h"

#include <cuelight/channel.h>

#include <stdlib.h>
#include <string.h>

/* URL: taps it, says r; for each byte it is told takes a message and says its first byte, - if there is none; c: closes, says k. */
int role_tapper(int argc, char **argv)
{
    static cue_channel *ch; /* not closed: that is no leak */
    if (argc < 2 || cue_channel_open(argv[1], CUE_TAP, NULL, &ch))
        return 1;
    role_say('r');
    for (int told; (told = role_hear()) >= 0;) {
        cue_msg m;
        if (told == 'c') {
            cue_channel_close(ch);
            role_say('k');
            continue;
        }
        int status = cue_channel_recv(ch, &m, CUE_SEC(10));
        role_say(status || !m.size ? '-' : *(const char *)m.data);
        cue_msg_release(&m);
    }
    return 0;
}

/* POOL: reads only, and is told that this is not enough. */
int role_tap_observer(int argc, char **argv)
{
    cue_pool *pool;
    cue_channel *ch;
    if (argc < 2 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH | CUE_READ_ONLY }, &pool))
        return 1;
    if (cue_channel_open("shm:///a", CUE_TAP, &(cue_channel_opts){ .pool = pool }, &ch) != CUE_EPERM || !*cue_trail())
        return 2;
    cue_pool_close(pool);
    return 0;
}

/* URL SEED: until it is killed. Copies are whole and in their sender's order, and of no more than is said to be missing. */
int role_tap_storm(int argc, char **argv)
{
    unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    while (argc > 1) {
        cue_channel *ch;
        struct counted last[64] = { { 0 } };
        int status = cue_channel_open(argv[1], CUE_TAP, &(cue_channel_opts){ .depth = 16 }, &ch);
        if (status == CUE_ENOMEM)
            continue;
        if (status)
            return 1;
        for (int left = rand_r(&seed) % 200; left > 0; left--) {
            cue_msg m;
            cue_tapped about;
            struct counted said;
            if (cue_channel_recv(ch, &m, CUE_MS(2)))
                continue;
            if (cue_msg_tapped(&m, &about) || m.size != sizeof said || about.size != sizeof said)
                return 2;
            memcpy(&said, m.data, sizeof said);
            struct counted *before = &last[(unsigned)said.publisher % 64];
            if (said.sum != counted_sum(&said) || about.pid != said.publisher)
                return 3;
            if (before->publisher == said.publisher && said.number <= before->number)
                return 4;
            *before = said;
            cue_msg_release(&m);
        }
        cue_channel_close(ch);
    }
    return 5;
}
