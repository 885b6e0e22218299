/* Roles of the topic's tests. */
#include "tests/cast/numbered.h"
#include "tests/cast/roles.h"

#include <cuelight/channel.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* URL COUNT: publishes 0 … COUNT - 1, says r, waits. */
int role_topic_maker(int argc, char **argv)
{
    static cue_channel *ch; /* not closed: that is no leak */
    if (argc < 3 || cue_channel_open(argv[1], CUE_SEND, NULL, &ch))
        return 1;
    for (int i = 0; i < atoi(argv[2]); i++)
        if (cue_channel_send(ch, CUE_MSG(1, i), CUE_SEC(10)))
            return 2;
    role_say('r');
    role_hear();
    return 0;
}

/* URL COUNT: subscribes, says r; takes COUNT messages and wants them to be 0, 1, …; says t; told, gives them back. */
int role_topic_reader(int argc, char **argv)
{
    static cue_channel *ch; /* as above */
    static cue_msg held[64];
    int value;
    if (argc < 3 || cue_channel_open(argv[1], CUE_RECV, NULL, &ch))
        return 1;
    role_say('r');
    for (int i = 0; i < atoi(argv[2]); i++) {
        cue_msg *m = &held[i % 64];
        cue_msg_release(m);
        if (cue_channel_recv(ch, m, CUE_SEC(30)) || m->size != sizeof value)
            return 2;
        memcpy(&value, m->data, sizeof value);
        if (value != i)
            return 3;
    }
    role_say('t');
    role_hear();
    for (int i = 0; i < 64; i++)
        cue_msg_release(&held[i]);
    return cue_channel_close(ch);
}

/* ---- the storm: numbered messages with a sum, some with a block ---- */

/* URL: publishes until it is killed. */
int role_topic_storm_publisher(int argc, char **argv)
{
    static cue_channel *ch;
    struct counted m = { .publisher = (int32_t)getpid() };
    if (argc < 2 || cue_channel_open(argv[1], CUE_SEND, NULL, &ch))
        return 1;
    for (;; m.number++) {
        cue_block b = { 0 };
        m.sum = counted_sum(&m);
        if (m.number % 8 == 7 && cue_block_alloc(cue_channel_pool(ch), 3000, NULL, &b) == 0)
            memset(b.data, (int)m.number & 0xff, b.size);
        int status;
        do
            status = cue_channel_send(ch, &(cue_msg){ .type = 1, .data = &m, .size = sizeof m, .move = b.data ? &b : NULL }, CUE_SEC(10));
        while (status == CUE_EFULL || status == CUE_ENOMEM || status == CUE_EINTR);
        if (status)
            return 2;
    }
}

/* URL SEED: subscribes, takes some, holds a few, leaves, and comes again, until it is killed. */
int role_topic_storm_reader(int argc, char **argv)
{
    unsigned seed = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    cue_msg held[8];
    memset(held, 0, sizeof held);
    while (argc > 1) {
        cue_channel *ch;
        if (cue_channel_open(argv[1], CUE_RECV, NULL, &ch))
            return 1;
        for (int left = rand_r(&seed) % 400; left > 0; left--) {
            cue_msg *m = &held[rand_r(&seed) % 8];
            struct counted said;
            cue_msg_release(m);
            if (cue_channel_recv(ch, m, CUE_MS(5)))
                continue;
            memcpy(&said, m->data, sizeof said);
            if (m->size != sizeof said || said.sum != counted_sum(&said))
                return 2;
            if (m->block.data && (m->block.size != 3000 || ((unsigned char *)m->block.data)[2999] != (said.number & 0xff)))
                return 3;
        }
        cue_channel_close(ch);
    }
    return 4;
}
