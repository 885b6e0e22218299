/* cuelight tap: what passes through a lane, a line a message, until Ctrl-C. It looks on by CUE_TAP, as a party of the pool. */
#include "tool.h"

#include <cuelight/channel.h>

#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SHOWN = 24, CAUGHT = 64 /* bytes of a message: shown to people; asked for, and shown with --json */ };

static cue_channel *tap;
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
    cue_channel_wake(tap);
}

/* What is added to a time of CLOCK_MONOTONIC for one of the day. */
static int64_t since_1970(void)
{
    struct timespec real;
    clock_gettime(CLOCK_REALTIME, &real);
    return (int64_t)real.tv_sec * 1000000000 + real.tv_nsec - cue_now().ns;
}

static void show_moment(char text[32], int64_t ns)
{
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm day;
    localtime_r(&seconds, &day);
    size_t used = strftime(text, 32, "%H:%M:%S", &day);
    snprintf(text + used, 32 - used, ".%06lld", (long long)(ns % 1000000000 / 1000));
}

static void print_json(const cue_msg *m, const cue_tapped *about, int64_t offset)
{
    const unsigned char *bytes = m->data;
    char hex[2 * CAUGHT + 1] = "";
    struct rows *rows = rows_begin();
    for (size_t i = 0; i < m->size && i < CAUGHT; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    row_count(rows, "sent_ns", NULL, (uint64_t)(about->sent.ns + offset));
    row_count(rows, "pid", NULL, (uint32_t)about->pid);
    row_count(rows, "party", NULL, about->party);
    row_count(rows, "type", NULL, m->type);
    row_count(rows, "size", NULL, about->size);
    row_count(rows, "block", NULL, about->block);
    row_count(rows, "tag", NULL, m->tag);
    row_count(rows, "key", NULL, m->key);
    row_text(rows, "status", NULL, m->status ? cue_status_name(m->status) : NULL);
    row_flag(rows, "moved", about->flags & CUE_TAPPED_BLOCK);
    row_flag(rows, "view", about->flags & CUE_TAPPED_VIEW);
    row_flag(rows, "asked", about->flags & CUE_TAPPED_ASK);
    row_flag(rows, "system", about->flags & CUE_TAPPED_SYSTEM);
    row_count(rows, "missed", NULL, m->gap);
    row_text(rows, "bytes", NULL, hex);
    row_end(rows);
    rows_end(rows);
}

static void print_line(const cue_msg *m, const cue_tapped *about, int64_t offset)
{
    const unsigned char *bytes = m->data;
    char moment[32], size[16];
    size_t shown = m->size < SHOWN ? m->size : SHOWN;
    show_moment(moment, about->sent.ns + offset);
    show_bytes(size, about->size + about->block);
    if (m->gap)
        printf("... %u missed\n", m->gap);
    printf("%s  %d  type %#x  %s%s%s%s%s", moment, about->pid, m->type, size, about->flags & CUE_TAPPED_BLOCK ? " moved" : "",
           about->flags & CUE_TAPPED_VIEW ? " view" : "", about->flags & CUE_TAPPED_ASK ? " asked" : "",
           about->flags & CUE_TAPPED_SYSTEM ? " system" : "");
    if (m->tag)
        printf("  tag %llu", (unsigned long long)m->tag);
    if (m->status)
        printf("  %s", cue_status_name(m->status));
    printf("  ");
    for (size_t i = 0; i < shown; i++)
        printf("%02x", bytes[i]);
    printf("  |");
    for (size_t i = 0; i < shown; i++)
        putchar(isprint(bytes[i]) ? bytes[i] : '.');
    puts("|");
}

static int print(const cue_msg *m, int64_t offset)
{
    cue_tapped about;
    int status = cue_msg_tapped(m, &about);
    if (status || options.quiet)
        return status;
    (options.json ? print_json : print_line)(m, &about, offset);
    return fflush(stdout) ? CUE_EINTR : 0; /* nobody reads it any more */
}

static int look_on(int64_t offset, uint64_t *seen)
{
    cue_time wait = options.given & OPT_TIMEOUT ? options.timeout : CUE_FOREVER;
    int status = 0;
    while (!interrupted && !status && (!(options.given & OPT_COUNT) || *seen < options.count)) {
        cue_msg m;
        status = cue_channel_recv(tap, &m, wait);
        if (status)
            break;
        status = print(&m, offset);
        cue_msg_release(&m);
        ++*seen;
    }
    return interrupted && status == CUE_EINTR ? 0 : status == CUE_EEMPTY ? CUE_ETIMEDOUT : status;
}

int run_tap(void)
{
    const char *url = options.args[0];
    cue_channel_info info = { 0 };
    uint64_t seen = 0;
    int status = cue_channel_open(url, CUE_TAP, &(cue_channel_opts){ .max = CAUGHT }, &tap);
    if (status)
        return say(code_of(status), "%s", *cue_trail() ? cue_trail() : cue_status_text(status));
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    status = look_on(since_1970(), &seen);
    int code = status == CUE_ETIMEDOUT ? EXIT_TIME_OUT : status ? say_status(status, url) : EXIT_FINE;
    cue_channel_stat(tap, &info);
    if (!options.json)
        say(code, "%llu messages, %llu missed", (unsigned long long)seen, (unsigned long long)info.gaps);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    cue_channel_close(tap);
    return code;
}
