/* The reader's job, whatever carries it: walk, read each file into room that the transport gives, hand it over, until every file
 * is acknowledged. A transport is a set of functions; the program has two, over cuelight (lane.c) and over pipes (pipes.c), so
 * that a bench can change nothing but that. */
#ifndef WORDCOUNT_JOB_H
#define WORDCOUNT_JOB_H

#include "format.h"

#include <stdbool.h>
#include <sys/types.h>

struct options {
    char *const *roots;
    char *const *report; /* the report's command line, NULL: no report, and nothing is counted */
    const char *pool;    /* its name */
    uint64_t pool_bytes;
    unsigned window; /* files in flight to a worker */
    bool pipes;      /* over pipes instead of cuelight */
    bool bytes;      /* over cuelight, but each file as a message's bytes: the library copies it, and counts that */
    bool count;      /* false: hand over only */
    uint64_t kill;   /* seed of the moment at which a worker is killed; 0: none is */
    int stall_s;     /* give up after so long without an acknowledgement */
    bool json;       /* end with a line for programs */
};

enum event_kind { EVENT_NONE, EVENT_DONE, EVENT_GIVEN_UP, EVENT_DOWN, EVENT_FAILED };
struct event {
    enum event_kind kind;
    uint64_t number; /* DONE: of the file. GIVEN_UP: its table has no room in the pool */
    unsigned worker; /* DOWN: which; it will acknowledge nothing more */
};

/* What `room` and `send` answer, beside 0. */
enum { ROOM_LATER = 1, ROOM_NEVER = 2, SEND_LATER = 1 };

struct transport {
    /* Report and workers run and are ready. Every function here: negative: failed, and has said why. */
    int (*start)(const struct options *options);
    /* Room for a file of so many bytes, header included; there is one at a time. ROOM_LATER after a wait of some ms. */
    int (*room)(uint64_t bytes, struct wc_file **out);
    int (*send)(unsigned worker); /* hands over what lies in the room; SEND_LATER: it is dead or full, the room is ours */
    void (*drop)(void);           /* gives the room back */
    /* The next event; waits at most so long for one. */
    int (*event)(int wait_ms, struct event *out);
    pid_t (*pid)(unsigned worker);
    int (*end_workers)(void);                            /* all is acknowledged: they end by themselves */
    int (*end_report)(const struct wc_summary *summary); /* the last word; it prints, and ends */
    void (*counters)(struct wc_summary *summary);        /* fills in what the transport counts */
    /* Takes everything down, after success or failure; how much was left over that should not be there. */
    int (*close)(bool failed);
};
extern const struct transport lane_transport, pipes_transport;

/* Whether a signal has asked this process to end. */
bool interrupted(void);

/* Runs it; 0, or an exit status after having said why on stderr. */
int job_run(const struct options *options, const struct transport *transport);

int64_t now_ns(void); /* CLOCK_MONOTONIC */

/* Starts a program: argv with `extra` behind it (both end with NULL). It inherits only the descriptors that are not
 * close-on-exec, and gets `death_signal` when this process dies. */
pid_t program_start(char *const *argv, char *const *extra, int death_signal);
/* Waits for its end at most so long, then kills it. Its exit status, or 128 + signal. */
int program_end(pid_t pid, int wait_ms);

#endif
