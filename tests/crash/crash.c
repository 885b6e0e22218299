/* Crash points: kills a process after each of its instructions that others could notice, and looks whether anything is stuck,
 * lost, doubled or leaked.
 *
 *   crash --list                          the operations
 *   crash [--sample N] [--stop] OP...     cuts them at every N-th point (default 1)
 *   crash storm SECONDS [FILE]            see storm.c
 *   crash victim OP POOL SIZE             (itself, traced)
 *   crash peer ROLE LANE POOL             (itself, see ops_nng.c)
 *
 * FINDING POINTS. The victim runs once from mark to mark in single steps. The driver has the same pool mapped and compares all of
 * its present pages after each step: an instruction that changed them is a point, and so is one that enters the kernel. What
 * is between two points touches only private memory: to be killed there is the same as to be killed at the point before.
 *
 * CUTTING. For each point in turn: a fresh pool, a fresh victim (no address randomization, so its instructions lie where they
 * lay), a breakpoint (a debug register) on the point's instruction; at the same occurrence of it one step more, then SIGKILL. With --stop
 * it is held there instead, goes on after the others have worked, and must come to its end.
 *
 * LOOKING. The driver, a party of the pool, works on in it at once; reaps; checks all invariants; asks the operation's `verify`;
 * then nothing may be left in the pool, and all of its memory must be there to be allocated. An operation that takes effect
 * takes effect at one point: at all later ones it has, at all earlier ones it has not.
 *
 * SLEEPING. An operation that waits has a callback that makes, step by step, what it waits for. The driver calls it each time the victim
 * is seen asleep. Asleep is a point of its own: there it is killed, or held, before anything has come; the point after it, the end of that
 * system call, is that it was woken and has not looked yet.
 *
 * THREADS. Only the thread that calls is stepped. Those that the library and NNG have besides run on meanwhile: stopped, they would
 * hold locks that it needs. So a victim with such threads does not take quite the same way each time; it waits oftener or less
 * often, and a point that it does not come by is counted as missed. What its threads write is found as a point, too, and cut there.
 *
 * A watchdog ends the whole if one point takes longer than a minute (three with threads and another process): a wedge.
 */
#include "crash.h"

#include "pool/pool_private.h"

#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VICTIM_FD = 200 }; /* a memfd */
enum { POINTS_MAX = 2000, STEPS_MAX = 300000, SECONDS_A_POINT = 60, SECONDS_WITH_PEER = 180, PAGE = 4096 };

struct point {
    uint64_t rip;
    uint32_t occurrence;      /* of that instruction since the first mark, from 1 on */
    bool system_call, asleep; /* in it: asleep there; else: it has returned */
};

static struct point *points;
static unsigned npoints, faults, missed;
static const struct op *present;
static const char *doing = "";
static unsigned present_point;

/* ---- the operations ---- */

static const struct op *op_find(const char *name)
{
    for (const struct op *const *table = op_tables; *table; table++)
        for (const struct op *op = *table; op->name; op++)
            if (strcmp(op->name, name) == 0)
                return op;
    return NULL;
}

void wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("    %s, point %u of %u (rip %llx, %u.), %s: ", present->name, present_point, npoints,
           present_point ? (unsigned long long)points[present_point - 1].rip : 0, present_point ? points[present_point - 1].occurrence : 0,
           doing);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    faults++;
}

void must_be(int status, int wanted, const char *what)
{
    if (status != wanted)
        wrong("%s: %s instead of %s: %s", what, cue_status_name(status), cue_status_name(wanted), cue_trail());
}

void fill(cue_block *b, unsigned seed)
{
    for (size_t i = 0; i < b->size; i++)
        ((unsigned char *)b->data)[i] = (unsigned char)(i * 7 + seed);
}

bool filled(const cue_block *b, unsigned seed)
{
    for (size_t i = 0; i < b->size; i++)
        if (((const unsigned char *)b->data)[i] != (unsigned char)(i * 7 + seed))
            return false;
    return true;
}

/* ---- where the pool lies ---- */

static const char *file_of(const char *pool, char path[SHM_PATH_MAX])
{
    const char *folder = getenv("TMPDIR");
    snprintf(path, SHM_PATH_MAX, "%.80s/%.63s.pool", folder && *folder ? folder : "/tmp", pool);
    return path;
}

static void path_of(const struct stage *stage, char path[SHM_PATH_MAX])
{
    if (stage->backing == IN_FILE)
        file_of(stage->pool_name, path);
    else if (stage->backing == IN_MEMFD)
        snprintf(path, SHM_PATH_MAX, "/proc/self/fd/%d", cue_pool_fd(stage->pool));
    else
        shm_path(stage->pool_name, path);
}

static int stage_try_open(const struct stage *stage, cue_pool **pool)
{
    char path[SHM_PATH_MAX];
    cue_pool_opts opts = { .size = stage->size, .max_allocations = stage->max_allocations };
    if (stage->backing == IN_FILE)
        opts.file = file_of(stage->pool_name, path);
    if (stage->backing == IN_MEMFD)
        opts.flags = CUE_MEMFD;
    return cue_pool_open(stage->backing == IN_MEMFD ? NULL : stage->pool_name, &opts, pool);
}

int victim_open(struct victim *me, unsigned flags, uint64_t quota)
{
    char path[SHM_PATH_MAX];
    cue_pool_opts opts = { .size = flags ? 0 : me->size, .flags = flags, .quota = quota };
    if (me->backing == IN_FILE)
        opts.file = file_of(me->pool_name, path);
    if (me->backing == IN_MEMFD)
        opts = (cue_pool_opts){ .fd = VICTIM_FD, .quota = quota };
    return cue_pool_open(me->backing == IN_MEMFD ? NULL : me->pool_name, &opts, &me->pool);
}

/* ---- the victim's side ---- */

/* Never inlined, so that its instruction has one address. */
static __attribute__((noinline)) void mark(void)
{
#ifdef __x86_64__
    __asm__ __volatile__("int3");
#endif
}

static int victim_main(const char *name, const char *pool, const char *size, const char *backing)
{
    const struct op *op = op_find(name);
    struct victim me = { .pool_name = pool, .backing = (enum backing)atoi(backing), .size = strtoull(size, NULL, 10) };
    if (!op)
        return 2;
    if (!op->alone)
        CUE_MUST(victim_open(&me, CUE_ATTACH, 0));
    if (op->prepare)
        op->prepare(&me);
    mark();
    op->act(&me);
    mark();
    return 0;
}

/* ---- tracing ---- */

static pid_t victim_start(const char *op, const struct stage *stage)
{
    char bytes[24], backing[8];
    snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)stage->size);
    snprintf(backing, sizeof backing, "%d", stage->backing);
    fflush(NULL);
    pid_t pid = fork();
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    personality(ADDR_NO_RANDOMIZE);
    if (stage->backing == IN_MEMFD && dup2(cue_pool_fd(stage->pool), VICTIM_FD) < 0)
        _exit(125);
    setenv("LD_BIND_NOW", "1", 1);
    setenv("CUE_SPIN", "0", 1);
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
        _exit(126);
    execl("/proc/self/exe", "crash", "victim", op, stage->pool_name, bytes, backing, (char *)NULL);
    _exit(127);
}

bool sleeps(pid_t pid, pid_t thread)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size > 0 ? size : 0] = 0;
    const char *state = strrchr(text, ')'); /* the name before it may hold anything */
    return state && strncmp(state, ") S", 3) == 0;
}

/* Waits for its next stop: the signal it stopped with, or -1 with *ended its exit status. */
static int victim_wait(pid_t pid, int *ended)
{
    int status;
    *ended = 0;
    while (waitpid(pid, &status, __WALL) < 0)
        if (errno != EINTR)
            return -1;
    if (WIFSTOPPED(status))
        return WSTOPSIG(status);
    *ended = status;
    return -1;
}

/* The same of one that may sleep: woken by what the driver does then, or with `wake` false 0, and it sleeps. */
static int sleeper_wait(pid_t pid, int *ended, struct stage *stage, bool wake, bool *slept)
{
    siginfo_t info;
    while (present->asleep) {
        info.si_pid = 0;
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT | __WALL) || info.si_pid)
            break;
        if (!sleeps(pid, pid)) {
            usleep(50);
            continue;
        }
        if (slept)
            *slept = true;
        if (!wake)
            return 0;
        present->asleep(stage);
        usleep(50);
    }
    return victim_wait(pid, ended);
}

static uint64_t rip_of(pid_t pid)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user_regs_struct, rip), 0);
}

static uint64_t text_at(pid_t pid, uint64_t at)
{
    return (uint64_t)ptrace(PTRACE_PEEKTEXT, pid, at, 0);
}

/* Lets it run to the mark; false: it ended before (said). */
static bool run_to_mark(pid_t pid)
{
    int ended, sig = victim_wait(pid, &ended); /* the exec */
    if (sig == SIGTRAP) {
        ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL);
        ptrace(PTRACE_CONT, pid, 0, 0);
        sig = victim_wait(pid, &ended);
    }
    if (sig == SIGTRAP)
        return true;
    wrong("the victim did not come to its mark: signal %d, status %#x", sig, ended);
    if (sig >= 0) {
        kill(pid, SIGKILL);
        victim_wait(pid, &ended);
    }
    return false;
}

static void victim_kill(pid_t pid)
{
    int ended;
    kill(pid, SIGKILL);
    while (victim_wait(pid, &ended) >= 0)
        ptrace(PTRACE_CONT, pid, 0, 0);
}

void leave_dead(struct stage *stage, const char *op_name)
{
    pid_t pid = victim_start(op_name, stage);
    if (run_to_mark(pid))
        victim_kill(pid);
}

/* ---- finding points: what of the pool is present, and whether it has changed ---- */

struct sight {
    int fd;
    char *base, *copy;
    uint64_t bytes;
    struct {
        uint64_t at, bytes;
    } part[256];
    unsigned nparts;
};

/* The parts of the object that are present; read as they are now. */
static void sight_look(struct sight *sight, const struct stage *stage)
{
    struct stat info;
    char path[SHM_PATH_MAX];
    if (sight->fd < 0) {
        path_of(stage, path);
        sight->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (sight->fd < 0 || fstat(sight->fd, &info))
            return;
        sight->bytes = (uint64_t)info.st_size;
        sight->base = mmap(NULL, sight->bytes, PROT_READ, MAP_SHARED, sight->fd, 0);
        sight->copy = malloc(sight->bytes);
    }
    sight->nparts = 0;
    for (off_t at = 0; sight->nparts < 256;) {
        off_t from = lseek(sight->fd, at, SEEK_DATA), to = from < 0 ? -1 : lseek(sight->fd, from, SEEK_HOLE);
        if (to < 0)
            break;
        sight->part[sight->nparts].at = (uint64_t)from;
        sight->part[sight->nparts++].bytes = (uint64_t)(to - from);
        memcpy(sight->copy + from, sight->base + from, (size_t)(to - from));
        at = to;
    }
}

static bool sight_changed(struct sight *sight)
{
    bool changed = false;
    for (unsigned i = 0; i < sight->nparts; i++) {
        uint64_t at = sight->part[i].at, bytes = sight->part[i].bytes;
        if (memcmp(sight->base + at, sight->copy + at, bytes) == 0)
            continue;
        memcpy(sight->copy + at, sight->base + at, bytes);
        changed = true;
    }
    return changed;
}

static void sight_end(struct sight *sight)
{
    if (sight->fd < 0)
        return;
    munmap(sight->base, sight->bytes);
    free(sight->copy);
    close(sight->fd);
}

/* How often each instruction was executed: open addressing, by address. */
struct count {
    uint64_t rip;
    uint32_t count;
};
enum { COUNTS = 1 << 16 };

static uint32_t count_up(struct count *counts, uint64_t rip)
{
    for (uint32_t i = (uint32_t)(rip * 0x9e3779b97f4a7c15 >> 48);; i = (i + 1) % COUNTS)
        if (counts[i].rip == rip || counts[i].rip == 0) {
            counts[i].rip = rip;
            return ++counts[i].count;
        }
}

static bool point_note(struct point point)
{
    if (npoints == POINTS_MAX) {
        wrong("more than %d points: does it write payload?", POINTS_MAX);
        return false;
    }
    points[npoints++] = point;
    return true;
}

/* Steps from the first mark to the second and notes the points. How many steps; 0: it did not get there. */
static unsigned step_through(pid_t pid, struct stage *stage)
{
    static struct count counts[COUNTS];
    struct sight sight = { .fd = -1 };
    unsigned steps = 0;
    int ended;
    memset(counts, 0, sizeof counts);
    npoints = 0;
    sight_look(&sight, stage);
    while (steps < STEPS_MAX) {
        uint64_t rip = rip_of(pid), text = text_at(pid, rip);
        if ((text & 0xff) == 0xcc)
            break;
        bool call = (text & 0xffff) == 0x050f, slept = false;
        uint32_t occurrence = count_up(counts, rip);
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        int sig = call ? sleeper_wait(pid, &ended, stage, true, &slept) : victim_wait(pid, &ended);
        steps++;
        if (sig != SIGTRAP) {
            wrong("the victim ended in step %u: signal %d, status %#x", steps, sig, ended);
            sight_end(&sight);
            return 0;
        }
        bool changed = sight_changed(&sight);
        if (call)
            sight_look(&sight, stage);
        if (slept && !point_note((struct point){ rip, occurrence, true, true }))
            break;
        if ((call || changed) && !point_note((struct point){ rip, occurrence, call, false }))
            break;
    }
    sight_end(&sight);
    return steps;
}

/* A breakpoint on an instruction: a debug register, since other threads of the victim may execute it, too. */
static bool breakpoint(pid_t pid, uint64_t at)
{
    return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]), at) == 0 &&
           ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]), at ? 1 : 0) == 0;
}

/* Runs on until it is about to execute `at`, or has executed a mark: the signal it stopped with, or -1. */
static int approach(pid_t pid, uint64_t at, int *ended, struct stage *stage)
{
    int sig;
    if (breakpoint(pid, at)) {
        ptrace(PTRACE_CONT, pid, 0, 0);
        sig = sleeper_wait(pid, ended, stage, true, NULL);
        if (sig >= 0)
            breakpoint(pid, 0);
        return sig;
    }
    do { /* no debug registers here: step by step */
        bool at_mark = (text_at(pid, rip_of(pid)) & 0xff) == 0xcc;
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        sig = sleeper_wait(pid, ended, stage, true, NULL);
        if (at_mark)
            return sig;
    } while (sig == SIGTRAP && rip_of(pid) != at);
    return sig;
}

/* Runs on until it has executed the point's instruction. Names hash differently each time, so now and then it takes another way
 * and comes to its end instead: 0. 1: it is there; 2: there, and asleep; -1: it ended (said). */
static int run_to_point(pid_t pid, const struct point *point, struct stage *stage)
{
    int ended, sig;
    for (uint32_t n = 1;; n++) {
        if (rip_of(pid) != point->rip) { /* a repeated string instruction stays where it is */
            sig = approach(pid, point->rip, &ended, stage);
            if (sig == SIGTRAP && rip_of(pid) != point->rip)
                return 0;
            if (sig != SIGTRAP) {
                wrong("the victim ended before the point: signal %d, status %#x", sig, ended);
                if (sig >= 0)
                    victim_kill(pid);
                return -1;
            }
        }
        bool here = n == point->occurrence;
        ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
        sig = sleeper_wait(pid, &ended, stage, !(here && point->asleep), NULL);
        if (sig == 0)
            return 2;
        if (sig != SIGTRAP) {
            wrong("the victim ended at the point: status %#x", ended);
            return -1;
        }
        if (here)
            return 1;
    }
}

/* Holds it where it sleeps; told to continue, it sleeps on. */
static void hold_asleep(pid_t pid)
{
    int ended;
    kill(pid, SIGSTOP);
    while (victim_wait(pid, &ended) == SIGTRAP) /* its nap was over just then */
        ptrace(PTRACE_CONT, pid, 0, 0);
}

/* ---- what must hold afterwards ---- */

/* Others go on at once: whatever is held, half-done or dead. */
static void work_on(const struct op *op, struct stage *stage)
{
    static const size_t sizes[] = { 1, 64, 700, 3000, 4096, 9000, 70000 };
    cue_block b[sizeof sizes / sizeof *sizes];
    doing = "working on";
    if (op->meanwhile)
        op->meanwhile(stage);
    if (op->full)
        return;
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int status = cue_block_alloc(stage->pool, sizes[i] < stage->size / 8 ? sizes[i] : 1, NULL, &b[i]);
        must_be(status, 0, "alloc");
        if (!status)
            fill(&b[i], i);
    }
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (!b[i].data)
            continue;
        if (!filled(&b[i], i))
            wrong("a block of %zu bytes was written to by somebody else", b[i].size);
        MUST(cue_block_release(&b[i]));
    }
}

static void say_fault(void *arg, const char *fault)
{
    (void)arg;
    wrong("%s", fault);
}

/* Nothing may be left, no lane either. */
static void nothing_left(struct stage *stage)
{
    cue_block_info info;
    doing = "looking for what is left";
    for (uint64_t cursor = 0; cue_block_next(stage->pool, 0, &cursor, &info) > 0;)
        wrong("left: block %llx, type %u, %llu bytes, state %u, owner %u (pid %d, we are %d), %u leases", (unsigned long long)info.id,
              info.type, (unsigned long long)info.size, info.state, info.owner, info.owner_pid, (int)getpid(), info.leases);
}

/* All the memory is there: granule by granule, and in one piece. */
static void all_room(struct stage *stage)
{
    static cue_block b[4096];
    uint32_t got = 0, all = stage->pool->granules;
    doing = "taking all room";
    if (stage->max_allocations) { /* then as many as it may hold, and not one more */
        while (got < 4096 && cue_block_alloc(stage->pool, 64, NULL, &b[got]) == 0)
            got++;
        if (got != stage->max_allocations)
            wrong("%u of %llu allocations are possible", got, (unsigned long long)stage->max_allocations);
        while (got > 0)
            MUST(cue_block_release(&b[--got]));
        return;
    }
    slabs_give_up_thread(stage->pool);
    while (got < 4096 && cue_block_alloc(stage->pool, POOL_GRANULE, NULL, &b[got]) == 0)
        got++;
    if (got != all)
        wrong("only %u of %u granules can be allocated", got, all);
    for (uint32_t i = 0; i < got; i++)
        MUST(cue_block_release(&b[i]));
    MUST(cue_block_alloc(stage->pool, (size_t)all * POOL_GRANULE, NULL, &b[0]));
    if (b[0].data)
        MUST(cue_block_release(&b[0]));
    for (uint32_t i = 0; i < all && i < 4096; i++) /* slabs in every granule: a hint that was lost shows now */
        MUST(cue_block_alloc(stage->pool, 100, NULL, &b[i]));
    for (uint32_t i = 0; i < all && i < 4096; i++)
        if (b[i].data)
            MUST(cue_block_release(&b[i]));
}

static void stage_open(struct stage *stage)
{
    int status = stage_try_open(stage, &stage->pool);
    must_be(status, 0, "cue_pool_open");
    if (status)
        exit(1);
}

static bool name_exists(const struct stage *stage)
{
    char path[SHM_PATH_MAX];
    if (stage->backing == IN_MEMFD)
        return false;
    path_of(stage, path);
    return access(path, F_OK) == 0;
}

/* Whether the operation took effect; then gives the pool up, which must go with us. */
static int look_after(const struct op *op, struct stage *stage)
{
    if (op->alone) {
        doing = "opening";
        stage_open(stage);
    }
    work_on(op, stage);
    doing = "reaping";
    pool_reap(stage->pool);
    cue_pool_check(stage->pool, false, say_fault, NULL);
    doing = "verifying";
    int effect = op->verify ? op->verify(stage) : -1;
    if (stage->pool) {
        nothing_left(stage);
        doing = "checking";
        cue_pool_check(stage->pool, false, say_fault, NULL);
        all_room(stage);
        doing = "closing";
        if (stage->backing == IN_FILE)
            MUST(cue_pool_destroy(stage->pool)); /* it stays until then */
        else
            cue_pool_close(stage->pool);
    }
    stage->pool = NULL;
    if (name_exists(stage))
        wrong("the pool's name is still there");
    return effect;
}

/* Somebody is stopped while he makes the pool, or takes it away: opening it works, or says that it is busy, and never hangs. */
static void open_beside(struct stage *stage)
{
    cue_pool *pool;
    cue_block b;
    doing = "opening beside it";
    int status = stage_try_open(stage, &pool);
    if (status != CUE_EBUSY)
        must_be(status, 0, "cue_pool_open");
    if (status)
        return;
    MUST(cue_block_alloc(pool, 5000, NULL, &b));
    MUST(cue_block_release(&b));
    cue_pool_close(pool);
}

/* ---- the driver ---- */

static void wedged(int sig)
{
    (void)sig;
    static const char text[] = "    wedged: a point took far too long; it is the one after the last that was told\n0 passed, 1 failed\n";
    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0)
        _exit(3);
    _exit(1);
}

static void stage_begin(const struct op *op, struct stage *stage)
{
    static char name[64];
    static unsigned count;
    snprintf(name, sizeof name, "crash-%d-%u", (int)getpid(), count++);
    *stage = (struct stage){ .pool_name = name, .backing = op->backing, .size = op->size, .max_allocations = op->max_allocations };
    alarm(op->threads ? SECONDS_WITH_PEER : SECONDS_A_POINT);
    doing = "setting up";
    stage_open(stage);
    if (op->setup)
        op->setup(stage);
    if (op->alone) {
        cue_pool_close(stage->pool);
        stage->pool = NULL;
    }
    doing = "running";
}

/* Cuts at point n (0: at the first mark). Its effect; -1: unknown. */
static int cut(const struct op *op, unsigned n, bool stop)
{
    struct stage stage;
    int ended, there = 1;
    present_point = n;
    stage_begin(op, &stage);
    pid_t pid = victim_start(op->name, &stage);
    if (run_to_mark(pid)) {
        if (op->between)
            op->between(&stage);
        if (n > 0)
            there = run_to_point(pid, &points[n - 1], &stage);
        missed += there == 0;
        stage.killed = !stop || there == 0;
        if (there >= 0 && stage.killed) {
            victim_kill(pid);
        } else if (there > 0) {
            if (there == 2)
                hold_asleep(pid);
            if (stop && stage.pool)
                work_on(op, &stage);
            else if (stop)
                open_beside(&stage);
            doing = "going on";
            ptrace(PTRACE_CONT, pid, 0, 0);
            if (sleeper_wait(pid, &ended, &stage, true, NULL) != SIGTRAP) {
                wrong("it did not come to its end: status %#x", ended);
            } else {
                if (op->at_end)
                    op->at_end(&stage);
                victim_kill(pid);
            }
        }
    }
    int effect = look_after(op, &stage);
    alarm(0);
    return there > 0 ? effect : -1;
}

static bool find_points(const struct op *op, unsigned *steps)
{
    struct stage stage;
    present_point = npoints = 0;
    stage_begin(op, &stage);
    alarm(600);
    pid_t pid = victim_start(op->name, &stage);
    *steps = 0;
    if (run_to_mark(pid)) {
        if (op->between)
            op->between(&stage);
        *steps = step_through(pid, &stage);
        if (*steps)
            victim_kill(pid);
    }
    unsigned n = npoints;
    npoints = 0; /* nothing was cut yet */
    look_after(op, &stage);
    npoints = n;
    alarm(0);
    return *steps != 0;
}

static bool run_op(const struct op *op, unsigned sample, bool stop)
{
    unsigned steps, before = faults, cuts = 0, calls = 0, shown = 0;
    int last = -1;
    missed = 0;
    present = op;
    if (!find_points(op, &steps)) {
        printf("FAIL %-24s no points were found\n", op->name);
        return false;
    }
    for (unsigned n = 0; n <= npoints && shown < 5; n++) {
        calls += n && points[n - 1].system_call;
        if (sample > 1 && n % sample != 0 && n != npoints)
            continue;
        unsigned had = faults;
        int effect = cut(op, n, stop);
        cuts++;
        if (!stop && effect >= 0 && last == 1 && effect == 0)
            wrong("it had taken effect at a point before, and here it has not");
        if (!stop && n == npoints && effect == 0)
            wrong("it was cut at its end, and has not taken effect");
        if (effect >= 0)
            last = effect;
        shown += faults > had;
    }
    if (missed > (op->threads || op->asleep ? 4 + cuts / 2 : 1 + cuts / 4))
        wrong("%u of %u points were not come by again", missed, cuts);
    bool good = faults == before;
    printf("%s %-24s %5u points (%u stores, %u system calls) in %u instructions, %u cut, %u missed%s\n", good ? "ok  " : "FAIL", op->name,
           npoints, npoints - calls, calls, steps, cuts, missed, stop ? ", stopped" : "");
    fflush(stdout);
    return good;
}

/* One CPU for both sides: a step is then a switch, not a wake-up elsewhere. */
static void stay_here(void)
{
    cpu_set_t set;
    int cpu = sched_getcpu();
    CPU_ZERO(&set);
    CPU_SET((size_t)(cpu < 0 ? 0 : cpu), &set);
    sched_setaffinity(0, sizeof set, &set);
}

/* Both: some containers forbid the second, and then no instruction is found again. */
static bool tracing_allowed(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 && personality(ADDR_NO_RANDOMIZE) >= 0 ? 0 : 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    unsigned sample = 1, passed = 0, failed = 0;
    bool stop = false, all = false;
    if (argc == 6 && strcmp(argv[1], "victim") == 0)
        return victim_main(argv[2], argv[3], argv[4], argv[5]);
    if (argc == 5 && strcmp(argv[1], "peer") == 0)
        return nng_peer(argv[2], argv[3], argv[4]);
    if (argc == 5 && strcmp(argv[1], "worker") == 0)
        return storm_worker(argv[2], argv[3], argv[4]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    setenv("CUE_PREFIX", "cuetest", 0);
    if ((argc == 3 || argc == 4) && strcmp(argv[1], "storm") == 0)
        return storm(atof(argv[2]), argv[3]);
#ifndef __x86_64__
    printf("skipped: crash points are only known how to find on x86-64\n0 passed, 0 failed, 1 skipped\n");
    return 0;
#endif
    if (!tracing_allowed()) {
        printf("skipped: ptrace, or fixed addresses (personality), are not allowed here\n0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    int first = 1;
    for (; first < argc && argv[first][0] == '-'; first++) {
        if (strcmp(argv[first], "--list") == 0) {
            for (const struct op *const *table = op_tables; *table; table++)
                for (const struct op *op = *table; op->name; op++)
                    if (op->name[0] != '_') /* those only leave something behind for others */
                        puts(op->name);
            return 0;
        }
        if (strcmp(argv[first], "--stop") == 0)
            stop = true;
        else if (strcmp(argv[first], "--all") == 0)
            all = true;
        else if (strcmp(argv[first], "--sample") == 0 && first + 1 < argc)
            sample = (unsigned)atoi(argv[++first]);
    }
    points = calloc(POINTS_MAX, sizeof *points);
    stay_here();
    signal(SIGALRM, wedged);
    for (int i = first; i < argc; i++) {
        const struct op *op = op_find(argv[i]);
        if (!op) {
            printf("FAIL %s: no such operation\n", argv[i]);
            failed++;
            continue;
        }
        if (run_op(op, op->again && !all ? 4 * sample : sample, stop))
            passed++;
        else
            failed++;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}
