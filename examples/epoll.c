/* One thread, one epoll: `epoll` waits for questions on a lane, for notes on another and for lines on its standard input, and ends
 * with that. `epoll 20 22` asks it for a sum, `epoll note TEXT` leaves a note. */
#include <cuelight.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { SUM = 1 };

static void answer(const cue_msg *m)
{
    long terms[2], sum;
    if (m->type != SUM || m->size != sizeof terms) {
        CUE_MUST(cue_reply(m, &(cue_msg){ .status = CUE_EINVAL }));
        return;
    }
    memcpy(terms, m->data, sizeof terms);
    sum = terms[0] + terms[1];
    CUE_MUST(cue_reply(m, CUE_MSG(SUM, sum))); /* also if who asked has gone meanwhile */
    printf("%ld + %ld\n", terms[0], terms[1]);
}

static void note(const cue_msg *m)
{
    printf("noted: %.*s\n", (int)m->size, (const char *)m->data);
}

static int serve(void)
{
    struct source {
        cue_channel *ch;
        void (*take)(const cue_msg *m);
    } sources[] = { { NULL, answer }, { NULL, note } };
    struct epoll_event events[8], event = { .events = EPOLLIN };
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    CUE_MUST(cue_channel_open("shm://sums/questions", CUE_RECV, NULL, &sources[0].ch));
    CUE_MUST(cue_channel_open("shm://sums/notes", CUE_RECV, NULL, &sources[1].ch));
    for (int i = 0; i < 2; i++) {
        event.data.ptr = &sources[i];
        epoll_ctl(epoll, EPOLL_CTL_ADD, CUE_MUST(cue_channel_fd(sources[i].ch)), &event);
    }
    event.data.ptr = NULL;
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    printf("ready\n");
    for (;;) {
        int n = epoll_wait(epoll, events, 8, -1);
        for (int i = 0; i < n; i++) {
            struct source *source = events[i].data.ptr;
            char text[256];
            cue_msg m;
            if (!source) {
                ssize_t bytes = read(STDIN_FILENO, text, sizeof text);
                if (bytes <= 0)
                    goto end;
                printf("typed: %.*s", (int)bytes, text);
            } else {
                while (cue_channel_recv(source->ch, &m, CUE_NOW) == 0) { /* until CUE_EEMPTY: only then is it unreadable again */
                    source->take(&m);
                    cue_msg_release(&m);
                }
            }
        }
    }
end:
    for (int i = 0; i < 2; i++)
        cue_channel_close(sources[i].ch);
    close(epoll);
    return 0;
}

int main(int argc, char **argv)
{
    cue_channel *ch;
    cue_msg sum;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3)
        return serve();
    if (strcmp(argv[1], "note") == 0) {
        CUE_MUST(cue_channel_open("shm://sums/notes", CUE_SEND, NULL, &ch));
        CUE_MUST(cue_channel_send(ch, &(cue_msg){ .data = argv[2], .size = strlen(argv[2]) }, CUE_SEC(10)));
    } else {
        long terms[2] = { atol(argv[1]), atol(argv[2]) };
        CUE_MUST(cue_channel_open("shm://sums/questions", CUE_SEND, NULL, &ch));
        CUE_MUST(cue_channel_ask(ch, CUE_MSG(SUM, terms), CUE_SEC(10), &sum));
        printf("%ld\n", *(const long *)sum.data);
        cue_msg_release(&sum);
    }
    return cue_channel_close(ch);
}
