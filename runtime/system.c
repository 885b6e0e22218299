/* The system: this process's part in the world of actors. There is one at a time; its memory is never freed, so an address that
 * is used after it was stopped finds out. */
#include "runtime_internal.h"

#include "base/process.h"
#include "base/shm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ACTORS_DEFAULT = 1 << 16 };

struct cue_system the_system = { .lock = PTHREAD_MUTEX_INITIALIZER };

static pthread_mutex_t start_lock = PTHREAD_MUTEX_INITIALIZER; /* start and stop, one at a time */

int system_enter(cue_system *sys)
{
    if (__builtin_expect(sys != &the_system || !atomic_load_explicit(&the_system.up, acquire), 0)) /* pairs with: cue_system_start */
        return trail(CUE_EINVAL,
                     sys && sys != &the_system ? "this is no system" : "no system is running in this process: cue_system_start");
    if (__builtin_expect(!fork_mark || !atomic_load_explicit(fork_mark, relaxed) || sys->forks != fork_epoch, 0)) /* private words */
        return trail(CUE_EFORK, "the system belongs to the parent process");
    if (__builtin_expect(atomic_load_explicit(&sys->pool->header->life, relaxed) == LIFE_GONE, 0)) /* a hint: waits look again */
        return trail(CUE_EGONE, "pool %s was destroyed", sys->pool->name);
    return 0;
}

/* ---- start ---- */

static int check_opts(const cue_system_opts *opts)
{
    uint64_t spare = opts->spare0;
    for (size_t i = 0; i < sizeof opts->spare / sizeof *opts->spare; i++)
        spare |= opts->spare[i];
    if (spare)
        return trail(CUE_EVERSION, "an option of cue_system_start that this version does not know (spare words must be zero)");
    if (opts->actors > BELL_BITS_MAX)
        return trail(CUE_EINVAL, "%u actors: at most %d", opts->actors, BELL_BITS_MAX);
    if (opts->nkinds && !opts->kinds)
        return trail(CUE_EINVAL, "%zu kinds at NULL", opts->nkinds);
    for (size_t i = 0; i < opts->nkinds; i++)
        if (!opts->kinds[i].kind || !opts->kinds[i].run)
            return trail(CUE_EINVAL, "kinds[%zu] has no %s", i, opts->kinds[i].kind ? "behaviour" : "kind");
    return 0;
}

static int system_tables(struct cue_system *sys)
{
    sys->actors = private_zero(sys->bits * sizeof *sys->actors);
    sys->free_slots = private_zero(sys->bits * sizeof *sys->free_slots);
    sys->links = private_zero(SHARED_LINKS * sizeof *sys->links);
    sys->near_slabs = (struct near_slabs){ 0 };
    if (!sys->actors || !sys->free_slots || !sys->links)
        return trail(CUE_ENOMEM, "no process memory for the tables of %u actors", sys->bits);
    int status = cue_block_alloc(sys->pool, bell_bytes(sys->bits), NULL, &sys->bell_block);
    if (status)
        return status;
    sys->bell = sys->bell_block.data;
    bell_init(sys->bell, sys->bits);
    return 0;
}

static void system_undo(struct cue_system *sys)
{
    cue_block_release(&sys->bell_block);
    private_release(sys->actors, sys->bits * sizeof *sys->actors);
    private_release(sys->free_slots, sys->bits * sizeof *sys->free_slots);
    private_release(sys->links, SHARED_LINKS * sizeof *sys->links);
    sys->actors = NULL;
    sys->free_slots = NULL;
    sys->links = NULL;
    cue_pool_close(sys->pool);
    sys->pool = NULL;
}

static void system_reset(struct cue_system *sys, const cue_system_opts *opts)
{
    uint32_t number = atomic_load_explicit(&sys->number, relaxed) + 1; /* under start_lock */
    if (sys->forks != fork_epoch)
        routes_forget();
    memset(sys, 0, sizeof *sys);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sys->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_mutex_init(&sys->lock, NULL);
    atomic_store_explicit(&sys->number, number, relaxed); /* as above */
    sys->kinds = opts->kinds;
    sys->nkinds = opts->nkinds;
    sys->bits = opts->actors ? opts->actors : ACTORS_DEFAULT;
    sys->next_tag = random_u64();
    sys->line_end = &sys->line;
}

static void stop_at_exit(void);

static int system_up(struct cue_system *sys, const cue_system_opts *opts, const char *pool)
{
    static bool exit_prepared;
    system_reset(sys, opts);
    int status = cue_pool_open(pool, opts->pool_opts, &sys->pool);
    if (status)
        return status;
    if (!exit_prepared)
        exit_prepared = atexit(stop_at_exit) == 0; /* after the pool's own, so it runs before it */
    sys->forks = fork_epoch;
    pthread_sigmask(SIG_SETMASK, NULL, &sys->signals);
    sys->process = ref_process(sys->pool->self, sys->pool->epoch);
    status = system_tables(sys);
    if (!status)
        status = scheduler_start(sys);
    if (status) {
        system_undo(sys);
        return status;
    }
    atomic_store_explicit(&sys->up, true, release); /* pairs with: system_enter */
    return 0;
}

static bool running_here(void)
{
    return atomic_load_explicit(&the_system.up, acquire) && the_system.forks == fork_epoch;
}

int cue_system_start(const cue_system_opts *given, cue_system **out)
{
    static const cue_system_opts defaults;
    const cue_system_opts *opts = given ? given : &defaults;
    struct spawn_order *order = NULL;
    if (!out)
        return trail(CUE_EINVAL, "cue_system_start: nowhere to put the system");
    *out = NULL;
    int status = check_opts(opts);
    if (!status)
        status = spawn_order_read(&order);
    if (status)
        return status;
    pthread_mutex_lock(&start_lock);
    const char *pool = order ? spawn_order_pool(order) : opts->pool ? opts->pool : secure_getenv("CUE_POOL");
    status =
        running_here() ? trail(CUE_EBUSY, "this process has a system already") : system_up(&the_system, opts, pool && *pool ? pool : "cue");
    pthread_mutex_unlock(&start_lock);
    if (status) {
        if (order)
            spawn_order_refuse(order, status);
        return status;
    }
    if (order && (status = spawn_order_follow(&the_system, order))) {
        cue_system_stop(&the_system, CUE_NOW);
        return status;
    }
    *out = &the_system;
    return order ? CUE_CHILD : 0;
}

/* ---- wait and stop ---- */

static bool may_not_wait(void)
{
    struct actor *self = current_actor();
    return current.scheduler || (self && self->running);
}

static bool all_ended(const struct cue_system *sys)
{
    return sys->nactors == sys->nadopted && sys->nchildren == 0;
}

/* Under the lock: until all have ended, or the deadline. Children leave the pool before they end, and nobody tells of that: they
 * are looked at. */
static bool wait_all_ended(struct cue_system *sys, int64_t deadline)
{
    for (;;) {
        children_look(sys);
        if (all_ended(sys))
            return true;
        int64_t nap = deadline_nap(deadline);
        if (nap <= 0)
            return false;
        if (sys->nchildren && nap > 2000000)
            nap = 2000000;
        int64_t at = clock_ns() + nap;
        struct timespec until = { .tv_sec = at / 1000000000, .tv_nsec = at % 1000000000 };
        pthread_cond_timedwait(&sys->changed, &sys->lock, &until);
    }
}

int cue_system_wait(cue_system *sys, cue_time wait)
{
    int status = system_enter(sys);
    if (status)
        return status;
    if (may_not_wait())
        return trail(CUE_ECONTEXT, "cue_system_wait: a behaviour may not wait");
    int64_t deadline = deadline_of(wait);
    pthread_mutex_lock(&sys->lock);
    status = wait_all_ended(sys, deadline) ? sys->last_reason : CUE_ETIMEDOUT;
    pthread_mutex_unlock(&sys->lock);
    while (atomic_load_explicit(&sys->exiting, seq_cst)) /* pairs with: stop_at_exit. The caller would call exit() as well */
        nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL);
    return status;
}

void system_end_all(struct cue_system *sys, int reason)
{
    pthread_mutex_lock(&sys->lock);
    size_t n = 0, room = sys->nactors + sys->nchildren;
    cue_ref *all = calloc(room + 1, sizeof *all);
    for (struct child *child = sys->children; all && child && n < room; child = child->next)
        if (!child->ended && !child->busy)
            all[n++] = child->actor;
    for (struct actor *a = sys->youngest; all && a && n < room; a = a->older)
        if (a->run)
            all[n++] = a->self;
    pthread_mutex_unlock(&sys->lock);
    struct cue_down down = { .reason = reason, .pid = (int32_t)sys->pool->pid };
    for (size_t i = 0; i < n; i++) /* who has ended meanwhile need not be told; who cannot be told is cut off */
        (void)!route_send(sys, all[i], &(cue_msg){ .type = CUE_EXIT, .data = &down, .size = sizeof down }, true);
    free(all);
}

static void end_adopted(struct cue_system *sys)
{
    for (;;) {
        pthread_mutex_lock(&sys->lock);
        struct actor *a = sys->youngest;
        pthread_mutex_unlock(&sys->lock);
        if (!a)
            return;
        actor_end(sys, a, 0);
    }
}

static void forget_unsent(struct cue_system *sys)
{
    for (struct unsent *next; sys->unsent; sys->unsent = next) {
        next = sys->unsent->next;
        free(sys->unsent);
    }
}

/* Everybody has ended, or is cut off now. */
static void system_down(struct cue_system *sys)
{
    atomic_store_explicit(&sys->cut, true, seq_cst); /* pairs with: told_to_look in bell_sleep */
    children_end(sys);
    scheduler_stop(sys);
    end_adopted(sys);
    route_retry(sys);
    atomic_store_explicit(&sys->up, false, release); /* pairs with: system_enter */
    watch_end(sys->parent_death);
    peers_end(sys);
    routes_drop(0);
    names_forget(sys, (cue_ref){ 0 });
    forget_unsent(sys);
    atomic_fetch_add_explicit(&sys->number, 1, relaxed); /* its adopted threads are no actors any more */
    system_undo(sys);
}

int cue_system_stop(cue_system *sys, cue_time wait)
{
    int64_t deadline = deadline_of(wait);
    if (sys && sys == &the_system && atomic_load_explicit(&sys->up, acquire) && sys->forks == fork_epoch && may_not_wait())
        return trail(CUE_ECONTEXT, "cue_system_stop: a behaviour may not wait");
    pthread_mutex_lock(&start_lock);
    int status = system_enter(sys);
    if (status && status != CUE_EGONE) {
        pthread_mutex_unlock(&start_lock);
        return status;
    }
    pthread_mutex_lock(&sys->lock);
    atomic_store_explicit(&sys->stopping, true, relaxed); /* under the lock */
    pthread_mutex_unlock(&sys->lock);
    if (!status)
        system_end_all(sys, 0);
    pthread_mutex_lock(&sys->lock);
    bool ended = wait_all_ended(sys, status ? 0 : deadline);
    pthread_mutex_unlock(&sys->lock);
    system_down(sys);
    pthread_mutex_unlock(&start_lock);
    return ended ? 0 : trail(CUE_ETIMEDOUT, "not everybody ended in time: they were cut off");
}

/* exit() without cue_system_stop. */
static void stop_at_exit(void)
{
    if (!running_here())
        return;
    if (current.scheduler) {                                       /* a behaviour called exit(): nobody else will end its like */
        atomic_store_explicit(&the_system.exiting, true, seq_cst); /* pairs with: cue_system_wait */
        scheduler_cut_off(&the_system);
        children_end(&the_system);
    } else {
        (void)!cue_system_stop(&the_system, CUE_NOW);
    }
}

cue_pool *cue_system_pool(cue_system *sys)
{
    if (!sys)
        sys = &the_system;
    return system_enter(sys) ? NULL : sys->pool;
}

int cue_system_stat(cue_system *sys, cue_system_info *out)
{
    if (!out)
        return trail(CUE_EINVAL, "cue_system_stat: nowhere to put the counts");
    memset(out, 0, sizeof *out);
    int status = system_enter(sys);
    if (status)
        return status;
    pthread_mutex_lock(&sys->lock);
    out->actors = sys->nactors;
    out->processes = sys->nchildren;
    pthread_mutex_unlock(&sys->lock);
    /* relaxed: counts for people */
    out->spawned = atomic_load_explicit(&sys->spawned, relaxed);
    out->handled = atomic_load_explicit(&sys->handled, relaxed);
    out->dead_letters = atomic_load_explicit(&sys->dead_letters, relaxed);
    return 0;
}

int cue_spawn(cue_system *given, const cue_actor_spec *spec, cue_ref *out)
{
    struct cue_system *sys = given ? given : &the_system;
    int status = system_enter(sys);
    if (out)
        memset(out, 0, sizeof *out);
    if (status)
        return status;
    if (!spec)
        return trail(CUE_EINVAL, "cue_spawn: no spec given");
    if (spec->name && (status = name_check(spec->name)))
        return status;
    uint64_t spare = 0;
    for (size_t i = 0; i < sizeof spec->spare / sizeof *spec->spare; i++)
        spare |= spec->spare[i];
    if (spare)
        return trail(CUE_EVERSION, "an option of cue_spawn that this version does not know (spare words must be zero)");
    if (spec->where == CUE_PROCESS) {
        int saved = errno;
        status = spawn_process(sys, spec, out);
        errno = saved;
        return status;
    }
    if (spec->where != CUE_HERE)
        return trail(CUE_EINVAL, "cue_spawn: where %u is neither CUE_HERE nor CUE_PROCESS", spec->where);
    if (!spec->run)
        return trail(CUE_EINVAL, "cue_spawn: no behaviour given");
    return actor_make(sys, spec, false, out, NULL);
}
