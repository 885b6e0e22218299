/* Finding pools and looking at them.
 *
 * A pool is whatever lies in /dev/shm under our prefix. It is opened as an observer; its tables were checked by then, but its
 * object can be cut off at any time by whoever may write to it, and to read behind its new end is a SIGBUS. The handler puts a
 * page of zeros there and notes it: every function ends as usual and gives back its locks, and the look is reported as failed.
 */
#include "tool.h"

#include "base/life.h"
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
#include <unistd.h>

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

int look_at(const char *name, int (*with)(cue_pool *pool, void *arg), void *arg, int *status)
{
    struct sigaction guard = { .sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO };
    cue_pool *pool;
    int code = EXIT_FINE;
    cut_off = 0;
    sigaction(SIGBUS, &guard, NULL);
    *status = cue_pool_open(name, &(cue_pool_opts){ .flags = CUE_ATTACH | CUE_READ_ONLY }, &pool);
    if (!*status) {
        code = with(pool, arg);
        cue_pool_close(pool);
    }
    if (cut_off)
        *status = trail(CUE_ECORRUPT, "pool %s ends before its tables do: it was cut off, or %s is full", name, shm_directory());
    return *status ? code_of(*status) : code;
}

int look(const char *name, int (*with)(cue_pool *pool, void *arg), void *arg)
{
    int status, code = look_at(name, with, arg, &status);
    return status ? say_status(status, name) : code;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int each_pool(int (*each)(const char *name, void *arg), void *arg, unsigned *count)
{
    DIR *folder = opendir(shm_directory());
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
        code = worse(code, each(names[i], arg));
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

bool anybody_holds(const char *name)
{
    char path[SHM_PATH_MAX];
    int fd;
    shm_path(name, path);
    if (shm_open_path(path, false, &fd))
        return false;
    bool held = false;
    for (unsigned slot = 0; slot < POOL_MAX_PARTIES && !held; slot++)
        held = life_held(fd, LOCK_LIFE(slot));
    close(fd);
    return held;
}
