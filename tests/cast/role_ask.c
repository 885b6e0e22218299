/* Roles of the tests of questions and answers. */
#include "tests/cast/roles.h"

#include <cuelight/channel.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* URL: receives a question for each byte that it is told, and does with it what that says:
 *   a  answers its number plus one     h  keeps it             k  is killed with it in hand
 *   d  lets it go and is killed        l  lets it go           f  lets the kept one go unanswered: says what cue_reply said to it
 * Says the byte when it is done, r at first. */
int role_answerer(int argc, char **argv)
{
    static cue_channel *ch; /* not closed: that is no leak */
    static cue_msg kept;
    if (argc < 2 || cue_channel_open(argv[1], CUE_RECV, NULL, &ch))
        return 1;
    role_say('r');
    for (int byte; (byte = role_hear()) > 0 && byte != 'e';) {
        cue_msg m = { 0 };
        int number = 0;
        if (byte == 'f') {
            role_say(cue_reply(&kept, CUE_MSG(1, number)) ? 'x' : 'f');
            cue_msg_release(&kept);
            continue;
        }
        if (cue_channel_recv(ch, &m, CUE_SEC(20)))
            return 2;
        memcpy(&number, m.data, m.size < sizeof number ? m.size : sizeof number);
        number++;
        if (byte == 'k')
            raise(SIGKILL);
        if (byte == 'a' && cue_reply(&m, CUE_MSG(1, number)))
            return 3;
        if (byte == 'h')
            kept = m;
        else
            cue_msg_release(&m);
        if (byte == 'd')
            raise(SIGKILL);
        role_say((char)byte);
    }
    return 0;
}

/* URL: says r; asks for each byte that it is told, and says: a answered rightly, d CUE_EDEAD, t CUE_ETIMEDOUT, x anything else. */
int role_asker(int argc, char **argv)
{
    static cue_channel *ch; /* not closed: that is no leak */
    int number = 0;
    if (argc < 2 || cue_channel_open(argv[1], CUE_SEND, NULL, &ch))
        return 1;
    role_say('r');
    for (int byte; (byte = role_hear()) > 0 && byte != 'e';) {
        cue_msg answer;
        number++;
        int status = cue_channel_ask(ch, CUE_MSG(1, number), CUE_SEC(30), &answer);
        bool right = status == 0 && answer.size == sizeof number && *(const int *)answer.data == number + 1;
        role_say(right ? 'a' : status == CUE_EDEAD ? 'd' : status == CUE_ETIMEDOUT ? 't' : 'x');
        cue_msg_release(&answer);
    }
    return 0;
}
