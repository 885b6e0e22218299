/* The side of a bench program that talks to bench/run (bench.h), its helpers, and its histogram of samples.
 *
 * Samples go into buckets of 1/256 of their size, so each of millions counts and nothing is allocated while a round runs.
 */
#include "bench/bench.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SUB_BITS = 8, SUB = 1 << SUB_BITS, BUCKETS = SUB * 40, CPUS = 16, SHARED_FD = 3 };

struct histogram {
    uint64_t samples;
    uint64_t bucket[BUCKETS]; /* by nanoseconds */
};

struct bench {
    const struct bench_program *program;
    const struct bench_case *which;
    char tag[64];
    bool helping, started;
    int shared; /* descriptor of bench_shared(), 0: none */
    unsigned index;
    unsigned cpus[CPUS], ncpus;
    double seconds;
    struct histogram round, all;
};

struct helper {
    pid_t pid;
    FILE *to, *from;
};

#if defined __clang__
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static double ns_per_tick = 1;

void bench_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

double ticks_ns(uint64_t ticks)
{
    return (double)ticks * ns_per_tick;
}

static double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void calibrate(void)
{
#if defined __x86_64__
    double begin = clock_seconds();
    uint64_t first = ticks_now();
    usleep(20000);
    uint64_t last = ticks_now();
    ns_per_tick = (clock_seconds() - begin) * 1e9 / (double)(last - first);
#endif
}

/* ---- samples ---- */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < SUB)
        return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    unsigned bucket = (shift + 1) * SUB + (unsigned)(ns >> shift) - SUB;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double bucket_value(unsigned bucket)
{
    if (bucket < SUB)
        return bucket;
    unsigned shift = bucket / SUB - 1;
    return (double)(UINT64_C(1) << shift) * ((double)(bucket % SUB + SUB) + 0.5);
}

/* Interpolated between the middles of the buckets that are in use: the clock may step by 10 ns, which would be a tenth of a
 * hand-over. */
static double percentile(const struct histogram *h, double p)
{
    double rank = p * (double)h->samples, before = 0, former = -1;
    unsigned i = 0;
    while (i < BUCKETS && before + (double)h->bucket[i] <= rank) {
        if (h->bucket[i])
            former = bucket_value(i);
        before += (double)h->bucket[i++];
    }
    if (i == BUCKETS)
        return former;
    unsigned next = i + 1;
    while (next < BUCKETS && !h->bucket[next])
        next++;
    double value = bucket_value(i);
    double low = former < 0 ? value : (former + value) / 2, high = next < BUCKETS ? (value + bucket_value(next)) / 2 : value;
    return low + (high - low) * (rank - before) / (double)h->bucket[i];
}

void bench_sample(struct bench *b, uint64_t ticks)
{
    b->round.bucket[bucket_of((uint64_t)ticks_ns(ticks))]++;
    b->round.samples++;
}

/* ---- rounds ---- */
bool bench_next(struct bench *b)
{
    if (!b->started && b->helping)
        printf("0\n");
    else if (!b->started)
        printf("{\"name\":\"%s\",\"version\":\"%s\",\"compiler\":\"%s\"}\n", b->program->name, b->program->version, COMPILER);
    fflush(stdout);
    b->started = true;

    char line[64];
    if (!fgets(line, sizeof line, stdin))
        return false;
    b->seconds = strtod(line, NULL);
    memset(&b->round, 0, sizeof b->round);
    return true;
}

void bench_figure(struct bench *b, double value)
{
    printf(b->helping ? "%.6f\n" : "{\"value\":%.6f}\n", value);
    fflush(stdout);
}

void bench_half_trips(struct bench *b)
{
    b->all.samples += b->round.samples;
    for (unsigned i = 0; i < BUCKETS; i++)
        b->all.bucket[i] += b->round.bucket[i];
    printf("{\"value\":%.2f,\"p50\":%.2f,\"p99\":%.2f,\"p999\":%.2f,\"samples\":%llu}\n", percentile(&b->round, 0.5) / 2,
           percentile(&b->all, 0.5) / 2, percentile(&b->all, 0.99) / 2, percentile(&b->all, 0.999) / 2, (unsigned long long)b->all.samples);
    fflush(stdout);
}

double bench_seconds(const struct bench *b)
{
    return b->seconds;
}

uint64_t bench_end(const struct bench *b)
{
    return ticks_now() + (uint64_t)(b->seconds * 1e9 / ns_per_tick);
}

const char *bench_tag(const struct bench *b)
{
    return b->tag;
}

unsigned bench_index(const struct bench *b)
{
    return b->index;
}

void bench_pin(const struct bench *b, unsigned which)
{
    if (!b->ncpus)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(b->cpus[which % b->ncpus], &set);
    if (sched_setaffinity(0, sizeof set, &set))
        bench_fail("cannot pin to CPU %u: %s", b->cpus[which % b->ncpus], strerror(errno));
}

bool bench_is_pinned(const struct bench *b)
{
    return b->ncpus > 0;
}

void *bench_shared(struct bench *b, size_t bytes)
{
    int fd = b->helping ? SHARED_FD : memfd_create(b->tag, 0);
    if (fd < 0 || (!b->helping && ftruncate(fd, (off_t)bytes)))
        bench_fail("cannot make shared memory: %s", strerror(errno));
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED)
        bench_fail("cannot map shared memory: %s", strerror(errno));
    b->shared = fd;
    return base;
}

/* ---- helpers ---- */
struct helper *bench_helper(struct bench *b, unsigned index)
{
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
        bench_fail("no pipe for a helper: %s", strerror(errno));
    char number[16], cpus[CPUS * 12] = "";
    snprintf(number, sizeof number, "%u", index);
    for (unsigned i = 0; i < b->ncpus; i++)
        snprintf(cpus + strlen(cpus), sizeof cpus - strlen(cpus), "%s%u", i ? "," : "", b->cpus[i]);
    char *const argv[] = { "bench", (char *)b->which->name, "--cpus", cpus, "--helper", number, "--tag", b->tag, NULL };

    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        dup2(to[0], 0);
        dup2(from[1], 1);
        if (b->shared)
            dup2(b->shared, SHARED_FD);
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    if (pid < 0)
        bench_fail("no process for a helper: %s", strerror(errno));
    close(to[0]);
    close(from[1]);
    struct helper *h = calloc(1, sizeof *h);
    *h = (struct helper){ .pid = pid, .to = fdopen(to[1], "w"), .from = fdopen(from[0], "r") };
    helper_figure(h);
    return h;
}

void helper_go(struct helper *h, double seconds)
{
    fprintf(h->to, "%.6f\n", seconds);
    fflush(h->to);
}

double helper_figure(struct helper *h)
{
    char line[64];
    if (!fgets(line, sizeof line, h->from))
        bench_fail("a helper ended before its time");
    return strtod(line, NULL);
}

static void helper_gone(struct helper *h)
{
    fclose(h->from);
    waitpid(h->pid, NULL, 0);
    free(h);
}

void helper_end(struct helper *h)
{
    fclose(h->to);
    helper_gone(h);
}

void helper_kill(struct helper *h)
{
    kill(h->pid, SIGKILL);
    fclose(h->to);
    helper_gone(h);
}

int helper_pid(const struct helper *h)
{
    return h->pid;
}

/* ---- start ---- */
static void read_cpus(struct bench *b, const char *list)
{
    for (char *end; *list && b->ncpus < CPUS; list = *end ? end + 1 : end)
        b->cpus[b->ncpus++] = (unsigned)strtoul(list, &end, 10);
}

int bench_main(int argc, char **argv, const struct bench_program *program)
{
    struct bench *b = calloc(1, sizeof *b);
    b->program = program;
    snprintf(b->tag, sizeof b->tag, "bench-%d", (int)getpid());
    for (int i = 2; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--cpus"))
            read_cpus(b, argv[i + 1]);
        else if (!strcmp(argv[i], "--tag"))
            snprintf(b->tag, sizeof b->tag, "%s", argv[i + 1]);
        else if (!strcmp(argv[i], "--helper")) {
            b->helping = true;
            b->index = (unsigned)strtoul(argv[i + 1], NULL, 10);
        } else
            bench_fail("%s is no option", argv[i]);
    }
    for (size_t i = 0; argc > 1 && i < program->ncases; i++)
        if (!strcmp(argv[1], program->cases[i].name))
            b->which = &program->cases[i];
    if (!b->which || (b->helping && !b->which->help))
        bench_fail("usage: PROGRAM CASE [--cpus 0,1]; no such case: %s", argc > 1 ? argv[1] : "none given");

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* bench/run or the process that a helper helps */
    calibrate();
    (b->helping ? b->which->help : b->which->run)(b, b->which->arg);
    free(b);
    return 0;
}
