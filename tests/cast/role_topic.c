/* Roles of the topic's tests. */
#include "tests/cast/roles.h"

#include <cuelight/channel.h>

#include <stdlib.h>
#include <string.h>

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
