/* `hello &` waits for greetings, `hello world` sends one: two processes, whichever comes first. */
#include <cuelight.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    cue_channel *ch;
    cue_msg m;
    CUE_MUST(cue_channel_open("shm://demo/hello", argc > 1 ? CUE_SEND : CUE_RECV, NULL, &ch));
    if (argc > 1)
        return CUE_MUST(cue_channel_send(ch, &(cue_msg){ .data = argv[1], .size = strlen(argv[1]) }, CUE_FOREVER));
    while (cue_channel_recv(ch, &m, CUE_FOREVER) == 0) {
        printf("hello, %.*s\n", (int)m.size, (const char *)m.data);
        cue_msg_release(&m);
    }
}
