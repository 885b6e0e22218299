/* cuelight doctor: what is wrong, with this machine and in the pools.
 *
 * Without --fix it only looks. With --fix it becomes a party of each pool, cleans up after the dead, and leaves: a pool that
 * nobody uses and that holds nothing then goes with it, as after any last close.
 */
#include "tool.h"

#include "base/life.h"
#include "base/process.h"
#include "base/shm.h"
#include "pool/pool_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum severity { NOTE, WARNING, FAULT };

struct examination {
    struct rows *rows;
    const char *pool; /* NULL: the machine */
    int code;
};

/* One finding. A fault makes the exit code 1. */
static __attribute__((format(printf, 3, 4))) void finding(struct examination *exam, enum severity severity, const char *format, ...)
{
    static const char *const names[] = { "ok", "warning", "fault" };
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    row_text(exam->rows, "pool", "WHERE", exam->pool ? exam->pool : options.json ? NULL : "this machine");
    row_text(exam->rows, "severity", "WHAT", names[severity]);
    row_text(exam->rows, "text", "FINDING", text);
    row_end(exam->rows);
    if (severity == FAULT)
        exam->code = worse(exam->code, EXIT_FOUND);
}

/* ---- the machine ---- */

static void examine_memory(struct examination *exam)
{
    struct statvfs fs;
    char total[16], used[16];
    if (statvfs(shm_directory(), &fs)) {
        finding(exam, FAULT, "%s: %s: no pool can be made", shm_directory(), strerror(errno));
        return;
    }
    uint64_t bytes = (uint64_t)fs.f_blocks * fs.f_frsize, left = (uint64_t)fs.f_bavail * fs.f_frsize;
    show_bytes(total, bytes);
    show_bytes(used, bytes - left);
    if (bytes && left < bytes / 10)
        finding(
            exam, FAULT,
            "%s has %s, %s used: allocations will fail soon; remove what is not needed, or start the container with a larger --shm-size",
            shm_directory(), total, used);
    else if (bytes && bytes < UINT64_C(128) << 20)
        finding(exam, WARNING, "%s has only %s: larger pools will run out of room; a container's --shm-size sets it", shm_directory(),
                total);
    else
        finding(exam, NOTE, "%s has %s, %s used", shm_directory(), total, used);
}

static void examine_kernel(struct examination *exam)
{
    struct life_lock lock;
    int fd, status = shm_make(4096, 0600, &fd);
    if (status) {
        finding(exam, FAULT, "cannot make a shared memory object: %s", cue_trail());
        return;
    }
    status = life_hold(fd, 0, &lock);
    if (status)
        finding(exam, FAULT, "the locks that tell who lives do not work here: %s", cue_trail());
    else
        finding(exam, NOTE, "locks tell who lives");
    life_release(&lock);
    close(fd);
    int pidfd = process_pidfd(getpid());
    if (pidfd < 0)
        finding(exam, WARNING, "no pidfd (%s): deaths are noticed within 100 ms instead of at once", strerror(errno));
    else
        close(pidfd);
}

/* ---- pools ---- */

static void fault_line(void *arg, const char *fault)
{
    finding(arg, FAULT, "%s", fault);
}

static int examine(cue_pool *pool, void *arg)
{
    struct examination *exam = arg;
    unsigned parties, dead;
    cue_pool_info info;
    count_parties(pool, &parties, &dead);
    int faults = cue_pool_check(pool, false, fault_line, exam);
    if (faults < 0) {
        finding(exam, FAULT, "%s: %s", cue_status_name(faults), cue_trail());
        return code_of(faults);
    }
    if (cue_pool_stat(pool, &info) == 0 && info.failed)
        finding(exam, WARNING, "%llu allocations were refused for want of room", (unsigned long long)info.failed);
    if (parties == dead && !(pool->persists)) {
        if (info.kept || info.in_flight)
            finding(exam, WARNING, "nobody is attached; it stays for its %llu kept and %llu undelivered blocks (cuelight rm removes it)",
                    (unsigned long long)info.kept, (unsigned long long)info.in_flight);
        else
            finding(exam, FAULT, "nobody living is attached and nothing is kept: its last party was killed (--fix removes it)");
    } else if (!faults) {
        finding(exam, NOTE, "%u part%s, %llu blocks, every invariant holds", parties, parties == 1 ? "y" : "ies",
                (unsigned long long)info.blocks);
    }
    return EXIT_FINE;
}

/* It is no fault that other users' pools are theirs, unless one was asked for. */
static int unopened(const struct place *place, int status, struct examination *exam)
{
    char text[350];
    bool theirs = status == CUE_EPERM && !options.nargs;
    unopened_text(status, place, text, sizeof text);
    finding(exam, theirs ? WARNING : FAULT, "%s: %s", cue_status_name(status), text);
    return theirs ? EXIT_FINE : code_of(status);
}

/* Cleans up as a party. What it did is a note; what is still wrong afterwards is a fault. */
static int fix(const struct place *place, struct examination *exam)
{
    cue_pool *pool;
    cue_pool_opts opts = { .flags = CUE_ATTACH, .label = "cuelight doctor", .mode = options.nargs ? 0777 : 0 };
    int status = open_place(place, &opts, &pool);
    if (status == CUE_ENOENT) {
        finding(exam, NOTE, "nobody used it and it held nothing: removed");
        return EXIT_FINE;
    }
    if (status)
        return unopened(place, status, exam);
    int faults = cue_pool_check(pool, true, fault_line, exam);
    cue_pool_close(pool);
    if (faults < 0) {
        finding(exam, FAULT, "%s: %s", cue_status_name(faults), cue_trail());
        return code_of(faults);
    }
    if (faults == 0)
        finding(exam, NOTE,
                access(place->path, F_OK) == 0 ? "cleaned up after the dead; every invariant holds"
                                               : "nobody used it and it held nothing: removed");
    return faults ? EXIT_FOUND : EXIT_FINE;
}

/* Is there anything to clean up? What is wrong before the fix is only told, it does not count. */
static int needs_fix(cue_pool *pool, void *arg)
{
    unsigned parties, dead;
    count_parties(pool, &parties, &dead);
    *(bool *)arg = dead || (parties == 0 && !pool->persists); /* also one that nobody uses is worth a visit */
    return EXIT_FINE;
}

static int examine_one(const struct place *place, void *arg)
{
    struct examination *exam = arg;
    int status, code;
    exam->pool = place->shown;
    if (options.fix) {
        bool needed = false;
        look_at(place, needs_fix, &needed, &status);
        if (status == CUE_EBUSY || (!status && needed))
            return exam->code = worse(exam->code, fix(place, exam));
    }
    code = look_at(place, examine, exam, &status);
    if (status == CUE_ENOENT && !options.nargs)
        return exam->code; /* gone meanwhile */
    return exam->code = worse(exam->code, status ? unopened(place, status, exam) : code);
}

int run_doctor(void)
{
    struct examination exam = { .rows = rows_begin() };
    unsigned count = 0;
    if (options.nargs) {
        examine_one(&options.at, &exam);
    } else {
        examine_memory(&exam);
        examine_kernel(&exam);
        each_pool(examine_one, &exam, &count);
    }
    rows_end(exam.rows);
    return exam.code;
}
