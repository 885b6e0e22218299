/* What questions cost, and what it costs to wait: the rows lane.request.* and lane.idle.*. */
#include "bench/bench.h"

#include <cuelight/channel.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MORE = 1, LAST = 2, MANY = 1000 };
#define PATIENCE CUE_SEC(20)

static cue_channel *open_lane(const struct bench *b, unsigned number, unsigned how)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/lane%u", bench_tag(b), number);
    bool spins = how & CUE_RECV && bench_is_pinned(b); /* longer than a question takes to come; else both may be on one CPU */
    CUE_MUST(cue_channel_open(url, how, &(cue_channel_opts){ .spin = { spins ? 100000000 : 0 } }, &ch));
    return ch;
}

static void check(int status, const char *what)
{
    if (status < 0)
        bench_fail("%s: %s: %s", what, cue_status_name(status), cue_trail());
}

/* ---- a question of 64 bytes and its answer of 64 bytes, two processes ---- */

static void ask(struct bench *b, long arg)
{
    char bytes[64] = { 0 };
    (void)arg;
    bench_pin(b, 0);
    cue_channel *out = open_lane(b, 0, CUE_SEND);
    struct helper *h = bench_helper(b, 0);
    while (bench_next(b)) {
        helper_go(h, bench_seconds(b));
        uint64_t end = bench_end(b), last = ticks_now();
        for (bool more = true; more;) {
            cue_msg answer;
            more = last < end;
            bytes[0] = more ? MORE : LAST;
            check(cue_channel_ask(out, &(cue_msg){ .data = bytes, .size = sizeof bytes }, PATIENCE, &answer), "ask");
            bench_touch((void *)(uintptr_t)answer.data);
            cue_msg_release(&answer);
            uint64_t now = ticks_now();
            bench_sample(b, now - last);
            last = now;
        }
        helper_figure(h);
        bench_half_trips(b);
    }
    helper_end(h);
    cue_channel_close(out);
}
static void answer(struct bench *b, long arg)
{
    char bytes[64] = { 0 };
    (void)arg;
    bench_pin(b, 1);
    cue_channel *in = open_lane(b, 0, CUE_RECV);
    while (bench_next(b)) {
        int what;
        do {
            cue_msg m;
            check(cue_channel_recv(in, &m, PATIENCE), "receive");
            what = *(const char *)m.data;
            check(cue_reply(&m, &(cue_msg){ .data = bytes, .size = sizeof bytes }), "reply");
            cue_msg_release(&m);
        } while (what != LAST);
        bench_figure(b, 0);
    }
    cue_channel_close(in);
}

/* ---- a thousand open channels: what they take of a CPU while nothing happens, and of the pool ---- */

static cue_channel *channels[MANY];

/* Seconds: some of the periods after which each sleeper looks around; asking for the time is a good part of less. */
#define LEAST_REST 0.5

static uint64_t used(cue_channel *ch)
{
    cue_pool_info info;
    check(cue_pool_stat(cue_channel_pool(ch), &info), "stat");
    return info.used;
}

static void idle(struct bench *b, long memory)
{
    struct rlimit files;
    cue_msg m;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    channels[0] = open_lane(b, 0, CUE_RECV);
    uint64_t before = used(channels[0]);
    for (unsigned i = 1; i < MANY; i++)
        channels[i] = open_lane(b, i, CUE_RECV);
    uint64_t taken = used(channels[0]) - before;
    for (unsigned i = 0; !memory && i < MANY; i++) {
        check(cue_channel_fd(channels[i]), "descriptor");
        while (cue_channel_recv(channels[i], &m, CUE_NOW) == 0)
            cue_msg_release(&m);
    }
    while (bench_next(b)) {
        double seconds = bench_seconds(b) < LEAST_REST ? LEAST_REST : bench_seconds(b);
        struct timespec spent, rest = { .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
        double cpu = (double)spent.tv_sec + (double)spent.tv_nsec / 1e9;
        nanosleep(&rest, NULL);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
        cpu = (double)spent.tv_sec + (double)spent.tv_nsec / 1e9 - cpu;
        bench_figure(b, memory ? (double)taken / (MANY - 1) : 100 * cpu / seconds);
    }
    for (unsigned i = 0; i < MANY; i++)
        cue_channel_close(channels[i]);
}

static const struct bench_case cases[] = {
    { "ask", ask, answer, 0 },
    { "idle.cpu", idle, NULL, 0 },
    { "idle.memory", idle, NULL, 1 },
};

int main(int argc, char **argv)
{
    return bench_main(argc, argv, &(struct bench_program){ "cuelight", CUE_VERSION, cases, sizeof cases / sizeof *cases });
}
