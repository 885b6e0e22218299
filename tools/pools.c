/* Finding pools and looking at them.
 *
 * A pool is whatever lies in /dev/shm under our prefix, or a file that is given by its path. It is opened as an observer; its tables
 * were checked by then, but its object can be cut off at any time by whoever may write to it, and to read behind its new end is a
 * SIGBUS. The handler puts a page of zeros there and notes it: every function ends as usual and gives back its locks, and the look is
 * reported as failed.
 *
 * To look at another user's pool is asked for by running this tool: whoever may read it may look. To become a party of one (rm, doctor
 * --fix) wants its name on the command line.
 */
#include "tool.h"

#include "base/life.h"
#include "base/process.h"
#include "base/shm.h"
#include "pool/pool_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- where ---- */

static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* Links are followed here, and not by the library. What /proc shows of a memfd looks like a link and leads to no path. */
static int file_place(const char *given, struct place *place)
{
    char *real = realpath(given, NULL);
    struct stat as_given, resolved;
    if (real && stat(given, &as_given) == 0 &&
        (stat(real, &resolved) || as_given.st_dev != resolved.st_dev || as_given.st_ino != resolved.st_ino)) {
        free(real); /* through /proc/PID/root: what such a link says is another's path */
        real = NULL;
    }
    int length = snprintf(place->path, sizeof place->path, "%s", real ? real : given);
    place->file = true;
    place->nameless = !real && is_file(given) && lstat(given, &as_given) == 0 && S_ISLNK(as_given.st_mode);
    free(real);
    return (size_t)length < sizeof place->path ? EXIT_FINE
                                               : say(EXIT_USAGE, "%s: a path of more than %zu bytes", given, sizeof place->path);
}

static void named_place(const char *name, struct place *place)
{
    char path[SHM_PATH_MAX];
    shm_path(name, path);
    *place = (struct place){ .shown = name };
    snprintf(place->path, sizeof place->path, "%s", path);
}

int place_of(const char *given, struct place *place)
{
    struct stat info;
    *place = (struct place){ .shown = given };
    if (strchr(given, '/'))
        return file_place(given, place);
    if (shm_name_valid(given))
        named_place(given, place);
    if ((!place->path[0] || lstat(place->path, &info)) && is_file(given))
        return file_place(given, place);
    return place->path[0]
               ? EXIT_FINE
               : say(EXIT_USAGE, "`%s` cannot be a pool's name: 1 to %d of A-Z a-z 0-9 . _ - are; and there is no file of that name here",
                     given, SHM_NAME_MAX);
}

/* ---- looking ---- */

static volatile sig_atomic_t cut_off;

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
    (void)context;
    uintptr_t page = (uintptr_t)info->si_addr & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    if (info->si_code == BUS_ADRERR && page &&
        mmap((void *)page, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) {
        cut_off = 1;
        return;
    }
    struct sigaction standard = { .sa_handler = SIG_DFL };
    sigaction(signal, &standard, NULL);
    raise(signal);
}

int open_place(const struct place *place, const cue_pool_opts *opts, cue_pool **pool)
{
    cue_pool_opts with = *opts;
    struct stat info;
    if (stat(place->path, &info) && (errno == ENOENT || errno == ENOTDIR)) /* also behind a link */
        return CUE_ENOENT;
    if (!place->nameless) {
        with.file = place->path;
        return cue_pool_open("pool", &with, pool); /* its own name is in it */
    }
    with.fd = open(place->path, (opts->flags & CUE_READ_ONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (with.fd < 0)
        return trail_errno("cannot open %s", place->path);
    int status = cue_pool_open(NULL, &with, pool);
    close(with.fd);
    return status;
}

int look_at(const struct place *place, int (*with)(cue_pool *pool, void *arg), void *arg, int *status)
{
    struct sigaction guard = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO }, before;
    cue_pool *pool;
    int code = EXIT_FINE;
    cut_off = 0;
    sigaction(SIGBUS, &guard, &before);
    *status = open_place(place, &(cue_pool_opts){ .flags = CUE_ATTACH | CUE_READ_ONLY, .mode = 0777 }, &pool);
    if (!*status) {
        code = with(pool, arg);
        cue_pool_close(pool);
    }
    sigaction(SIGBUS, &before, NULL);
    if (cut_off)
        *status = trail(CUE_ECORRUPT, "%s ends before its tables do: it was cut off, or its file system is full", place->path);
    return *status ? code_of(*status) : code;
}

int look(int (*with)(cue_pool *pool, void *arg), void *arg)
{
    int status, code = look_at(&options.at, with, arg, &status);
    return status ? say_unopened(status, &options.at) : code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int each_pool(int (*each)(const struct place *place, void *arg), void *arg, unsigned *count)
{
    DIR *folder = opendir(shm_directory());
    *count = 0;
    if (!folder)
        return say(EXIT_FOUND, "cannot look into %s: %s", shm_directory(), strerror(errno));
    const char *prefix = shm_prefix();
    char **names = NULL;
    size_t n = 0, room = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || !shm_name_valid(entry->d_name + strlen(prefix)))
            continue;
        if (n == room && !(names = realloc(names, (room = room ? 2 * room : 16) * sizeof *names)))
            abort();
        if (!(names[n++] = strdup(entry->d_name + strlen(prefix))))
            abort();
    }
    closedir(folder);
    if (n)
        qsort(names, n, sizeof *names, by_name);
    int code = EXIT_FINE;
    for (size_t i = 0; i < n; i++) {
        struct place place;
        named_place(names[i], &place);
        code = worse(code, each(&place, arg));
        free(names[i]);
    }
    free(names);
    *count = (unsigned)n;
    return code;
}

void count_parties(cue_pool *pool, unsigned *parties, unsigned *dead)
{
    *parties = *dead = 0;
    for (unsigned slot = 0; slot < pool->max_parties; slot++) {
        *parties += party_state(atomic_load_explicit(&pool->parties[slot].word, memory_order_acquire)) == PARTY_LIVE;
        *dead += party_dead(pool, slot, UINT32_MAX);
    }
}

bool anybody_holds(const struct place *place)
{
    int fd;
    if (shm_open_path(place->path, false, &fd))
        return false;
    bool held = false;
    for (unsigned slot = 0; slot < POOL_MAX_PARTIES && !held; slot++)
        held = life_held(fd, LOCK_LIFE(slot));
    close(fd);
    return held;
}

/* ---- times ---- */

static bool of_this_boot(const cue_pool *pool)
{
    return atomic_load_explicit(&pool->header->boot, memory_order_acquire) == process_boot();
}

double age_of(const cue_pool *pool, uint64_t ns)
{
    int64_t now = clock_ns();
    return ns && ns <= (uint64_t)now && of_this_boot(pool) ? (double)((uint64_t)now - ns) / 1e9 : -1;
}

double started_at(const cue_pool *pool, uint64_t ticks)
{
    struct timespec now, up;
    double since_boot = (double)ticks / (double)sysconf(_SC_CLK_TCK);
    if (!ticks || !of_this_boot(pool) || clock_gettime(CLOCK_REALTIME, &now) || clock_gettime(CLOCK_BOOTTIME, &up))
        return -1;
    double running = (double)up.tv_sec + (double)up.tv_nsec / 1e9;
    return since_boot <= running + 1 ? (double)now.tv_sec + (double)now.tv_nsec / 1e9 - running + since_boot : -1; /* else damaged */
}
