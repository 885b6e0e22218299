/* How a program of the bench is driven by bench/run.
 *
 * A program measures one CASE of its table, in ROUNDS. It sets up, says who it is in a line of JSON, and then answers each
 * line "SECONDS" on its standard input with a line of JSON, the round's figure. In between it sleeps in read(), so all
 * contestants of a row can be alive at a time and take turns: A B C A B C …
 *
 *     PROGRAM CASE [--cpus 0,1]        without --cpus nothing is pinned
 *
 * A case that needs more processes starts HELPERS: the same program again, running the case's `help`; a helper hears the same
 * lines from the process that started it. Figures are in ns, 1/s, bytes, percent or MB/s; bench/rows.py names the unit.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#if defined __x86_64__
#include <x86intrin.h>
#endif

struct bench;
struct helper;

struct bench_case {
    const char *name;
    void (*run)(struct bench *b, long arg);  /* set up; while (bench_next(b)) measure; give everything back */
    void (*help)(struct bench *b, long arg); /* the same in a helper; NULL: has none */
    long arg;
};

struct bench_program {
    const char *name, *version; /* of what is measured: "cuelight", "mimalloc" */
    const struct bench_case *cases;
    size_t ncases;
};

#ifdef __cplusplus
extern "C" {
#endif

int bench_main(int argc, char **argv, const struct bench_program *program);

/* Waits for the next round. false: no more of them. The first call tells the other side that we are ready. */
bool bench_next(struct bench *b);
/* Ends the round: a figure, or the half round trips of the samples. */
void bench_figure(struct bench *b, double value);
void bench_half_trips(struct bench *b);
void bench_sample(struct bench *b, uint64_t ticks);

double bench_seconds(const struct bench *b);           /* how long this round shall be */
uint64_t bench_end(const struct bench *b);             /* ticks at which a round that begins now ends */
const char *bench_tag(const struct bench *b);          /* names what this contestant's processes share: letters, digits and '-' */
unsigned bench_index(const struct bench *b);           /* which helper we are, from 0 */
void bench_pin(const struct bench *b, unsigned which); /* to the first (0) or second (1) CPU given; nothing without --cpus */
bool bench_is_pinned(const struct bench *b);
void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Starts helper `index` and waits until it is ready. It dies with us. */
struct helper *bench_helper(struct bench *b, unsigned index);
void helper_go(struct helper *h, double seconds); /* its bench_next() returns */
double helper_figure(struct helper *h);           /* waits for what it gave to bench_figure() */
void helper_end(struct helper *h);                /* its bench_next() says false; waits until it has ended */
void helper_kill(struct helper *h);               /* SIGKILL, and waits for it */
int helper_pid(const struct helper *h);

/* Time stamps: the TSC where it is constant (two reads of the clock would be a quarter of a hand-over), else nanoseconds. */
static inline uint64_t ticks_now(void)
{
#if defined __x86_64__
    return __rdtsc();
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
#endif
}
double ticks_ns(uint64_t ticks);

/* The compiler may neither drop what lies behind `p` nor guess it. */
static inline void bench_touch(void *p)
{
    __asm__ __volatile__("" : : "r"(p) : "memory");
}

static inline void bench_relax(void)
{
#if defined __x86_64__
    _mm_pause();
#elif defined __aarch64__
    __asm__ __volatile__("yield");
#endif
}

/* Memory that all processes of a case share, zero at first. Call it once, before the first helper is started, and in each. */
void *bench_shared(struct bench *b, size_t bytes);

#ifdef __cplusplus
}
#endif

#endif
