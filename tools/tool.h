/* What the commands of the tool `cuelight` share: options, exit codes, rows, and looking at a pool without touching it.
 *
 * Looking never changes anything, but for tap.c: pools are opened as an observer (CUE_ATTACH | CUE_READ_ONLY: no party, no lease, nothing is
 * created or cleaned up), and what a damaged pool does to its reader ends in an error row, not in a signal.
 */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <cuelight/pool.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum exit_code {
    EXIT_FINE = 0,
    EXIT_FOUND = 1, /* something wrong found, or nothing matched */
    EXIT_USAGE = 2,
    EXIT_NO_SUCH = 3,
    EXIT_NOT_ALLOWED = 4,
    EXIT_TIME_OUT = 5,
    EXIT_CORRUPT = 6,
    EXIT_BUG = 70
};

enum option_bit {
    OPT_TYPE = 1 << 0,
    OPT_BY = 1 << 1,
    OPT_LEAKS = 1 << 2,
    OPT_NAME = 1 << 3,
    OPT_ID = 1 << 4,
    OPT_FIX = 1 << 5,
    OPT_FORCE = 1 << 6,
    OPT_TIMEOUT = 1 << 7,
    OPT_COUNT = 1 << 8
};

/* A pool as people give it: a name in /dev/shm, or the path of its object. */
struct place {
    const char *shown; /* as it was given */
    bool file;         /* it was a path */
    bool nameless;     /* … that leads to what has no name: a memfd, by /proc/PID/fd/N */
    char path[512];    /* of its object */
};

struct options {
    unsigned given; /* OPT_… */
    bool json, quiet, fix, force, leaks;
    const char *pool, *by, *name;
    uint32_t type;
    uint64_t id, count;
    cue_time timeout;
    struct place at;     /* the first argument; "" without one */
    const char *args[4]; /* after the command, the pool first */
    int nargs;
};
extern struct options options;

struct command {
    const char *name, *synopsis, *summary, *help;
    unsigned takes;  /* OPT_… */
    int least, most; /* arguments, with the pool */
    int (*run)(void);
    bool url; /* its first argument is no pool but a URL */
};
extern const struct command commands[];

int run_ls(void);
int run_rm(void);
int run_blocks(void);
int run_cat(void);
int run_doctor(void);
int run_tap(void);

/* ---- what is said ---- */

/* A remark or an error on stderr, with "cuelight: " before it; not with -q. Returns the exit code given. */
int say(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The exit code of a status, after saying what failed and the trail. */
int say_status(int status, const char *what);
/* The same for a pool that cannot be opened, and what may be done about it. */
int say_unopened(int status, const struct place *place);
/* Why, without its name: for tables. */
void unopened_text(int status, const struct place *place, char *text, size_t room);
int code_of(int status);
/* The worse of two results. */
int worse(int a, int b);

/* Rows: a table for people, or an object a line with --json; nothing with -q. A field is a key for JSON and a heading for the
 * table (NULL: only in JSON). All rows of a table have the same fields. */
struct rows;
struct rows *rows_begin(void);
void row_text(struct rows *rows, const char *key, const char *heading, const char *text); /* NULL: null, "-" */
void row_count(struct rows *rows, const char *key, const char *heading, uint64_t count);
void row_bytes(struct rows *rows, const char *key, const char *heading, uint64_t bytes);
void row_flag(struct rows *rows, const char *key, bool flag);                                /* JSON only */
void row_age(struct rows *rows, const char *key, const char *heading, double seconds);       /* < 0: null, "-" */
void row_time(struct rows *rows, const char *key, const char *heading, double unix_seconds); /* < 0: null, "-" */
void row_both(struct rows *rows, const char *key, const char *heading, uint64_t count, const char *shown);
void row_end(struct rows *rows);
/* Prints what is left and frees. How many rows there were. */
unsigned rows_end(struct rows *rows);

void show_bytes(char text[16], uint64_t bytes);
void show_age(char text[16], double seconds);
void show_user(char text[40], uid_t uid);

/* ---- pools ---- */

/* What `given` means; an exit code, said, if it means nothing. */
int place_of(const char *given, struct place *place);
/* cue_pool_open of what is there. */
int open_place(const struct place *place, const cue_pool_opts *opts, cue_pool **pool);
/* Calls `with` with the pool open for reading, and closes it. Its result, or an exit code when the pool cannot be read: then
 * *status says why, or 0. A pool that is cut off while it is looked at gives CUE_ECORRUPT. */
int look_at(const struct place *place, int (*with)(cue_pool *pool, void *arg), void *arg, int *status);
/* look_at what is on the command line, and says what went wrong. */
int look(int (*with)(cue_pool *pool, void *arg), void *arg);
/* Calls `each` with all objects in /dev/shm that have our prefix, sorted; the worst result. */
int each_pool(int (*each)(const struct place *place, void *arg), void *arg, unsigned *count);
/* Parties that have the pool open, and how many of those are dead. */
void count_parties(cue_pool *pool, unsigned *parties, unsigned *dead);
/* Whether any process holds a life lock of the object, also if it is no pool that we understand. */
bool anybody_holds(const struct place *place);

/* Times in the pool are of the boot in which somebody last opened it: < 0 in a later one, or if `ns` is 0. */
double age_of(const cue_pool *pool, uint64_t ns);
/* When a process started, as seconds of UNIX time, from the clock ticks that the pool notes; < 0: unknown. */
double started_at(const cue_pool *pool, uint64_t ticks);

#endif
