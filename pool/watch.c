/* Watches: deaths of parties, told at once.
 *
 * One thread a process, started by the first watch, sleeps in epoll on the pidfds of the parties that somebody wants to know
 * of, and looks at all of them once a watch period besides: an exec makes a party dead without its pidfd firing, and a party in
 * another pid namespace has no pidfd for us. A pidfd is the right one only if the party still lives when it has been opened:
 * else its pid may be somebody else's by now. What is told is what the party's slot says: dead, or gone to another epoch.
 *
 * The thread calls back first and cleans up after the dead then. It holds the lock except while it calls back, so an ended
 * watch is not called again; watch_end() waits for a call that is under way, unless it is made from within that call.
 */
#include "pool_private.h"

#include "base/process.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct watch {
    struct cue_pool *pool;
    uint32_t incarnation, epoch;
    unsigned slot;
    int pidfd; /* -1: only looked at once a period */
    bool told, ended;
    void (*died)(void *arg, struct cue_pool *pool, unsigned slot, uint32_t epoch);
    void *arg;
    struct watch *next;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t idle; /* no call back is under way */
    pthread_t thread;
    struct watch *list, *calling;
    int epoll, bell;
    uint32_t forks;
    bool running;
} watcher = { .lock = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER, .epoll = -1, .bell = -1 };

static bool party_gone(const struct watch *watch)
{
    struct cue_pool *pool = watch->pool;
    uint64_t word = atomic_load_explicit(&pool->parties[watch->slot].word, acquire);
    return party_state(word) != PARTY_LIVE || party_epoch(word) != watch->epoch || party_dead(pool, watch->slot, watch->epoch);
}

static bool pool_still_open(const struct watch *watch)
{
    return atomic_load_explicit(&watch->pool->open, acquire) == 1 && watch->pool->incarnation == watch->incarnation;
}

static void unlink_watch(struct watch *watch)
{
    for (struct watch **link = &watcher.list; *link; link = &(*link)->next)
        if (*link == watch) {
            *link = watch->next;
            break;
        }
    if (watch->pidfd >= 0)
        close(watch->pidfd); /* leaves epoll with it */
    watch->pidfd = -1;
}

/* The next watch whose party has gone and that was not told yet. */
static struct watch *next_gone(void)
{
    for (struct watch *watch = watcher.list; watch; watch = watch->next)
        if (!watch->told && pool_still_open(watch) && party_gone(watch))
            return watch;
    return NULL;
}

static void tell_all(void)
{
    struct watch *watch;
    pthread_mutex_lock(&watcher.lock);
    while ((watch = next_gone())) {
        struct cue_pool *pool = watch->pool;
        watch->told = true;
        watcher.calling = watch;
        if (watch->pidfd >= 0)
            close(watch->pidfd); /* stays readable for ever */
        watch->pidfd = -1;
        pthread_mutex_unlock(&watcher.lock);
        watch->died(watch->arg, pool, watch->slot, watch->epoch);
        pthread_mutex_lock(&watcher.lock);
        bool ended = watch->ended; /* from within the call: its pool may be closed by now */
        pthread_mutex_unlock(&watcher.lock);
        if (!ended)
            pool_reap(pool); /* who ends the watch meanwhile waits for us */
        pthread_mutex_lock(&watcher.lock);
        watcher.calling = NULL;
        if (watch->ended)
            free(watch);
        pthread_cond_broadcast(&watcher.idle);
    }
    pthread_mutex_unlock(&watcher.lock);
}

static void *watch_loop(void *arg)
{
    (void)arg;
    int epoll = watcher.epoll, bell = watcher.bell;
    for (;;) {
        struct epoll_event events[8];
        int got = epoll_wait(epoll, events, 8, WATCH_PERIOD_NS / 1000000);
        for (int i = 0; i < got; i++)
            if (events[i].data.fd == bell) {
                eventfd_t count;
                eventfd_read(bell, &count);
            }
        tell_all();
    }
    return NULL;
}

static int watcher_start(void)
{
    if (watcher.running && watcher.forks == fork_epoch)
        return 0;
    if (watcher.running) { /* a forked child: the thread and the watches are the parent's */
        close(watcher.epoll);
        close(watcher.bell);
        watcher.list = watcher.calling = NULL;
        watcher.running = false;
    }
    watcher.epoll = epoll_create1(EPOLL_CLOEXEC);
    watcher.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = { .events = EPOLLIN, .data.fd = watcher.bell };
    if (watcher.epoll < 0 || watcher.bell < 0 || epoll_ctl(watcher.epoll, EPOLL_CTL_ADD, watcher.bell, &event))
        return trail_errno("cannot start watching for deaths");
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the application runs on our threads */
    int error = pthread_create(&watcher.thread, NULL, watch_loop, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        errno = error;
        return trail_errno("cannot start the thread that watches for deaths");
    }
    pthread_detach(watcher.thread);
    watcher.running = true;
    watcher.forks = fork_epoch;
    return 0;
}

static void watch_pidfd(struct watch *watch)
{
    struct party *party = &watch->pool->parties[watch->slot];
    uint64_t word = atomic_load_explicit(&party->word, acquire);
    if (atomic_load_explicit(&party->pidns, relaxed) != process_pid_namespace()) /* pairs with: LIVE in slot_take */
        return;
    watch->pidfd = process_pidfd(party_pid(word));
    if (watch->pidfd < 0)
        return;
    struct epoll_event event = { .events = EPOLLIN, .data.fd = watch->pidfd };
    if (party_gone(watch) || epoll_ctl(watcher.epoll, EPOLL_CTL_ADD, watch->pidfd, &event)) {
        close(watch->pidfd);
        watch->pidfd = -1;
    }
}

int watch_party(struct cue_pool *pool, unsigned slot, uint32_t epoch,
                void (*died)(void *arg, struct cue_pool *pool, unsigned slot, uint32_t epoch), void *arg, struct watch **out)
{
    *out = NULL;
    if (slot >= pool->max_parties)
        return trail(CUE_EINVAL, "party slot %u: pool %s has %u", slot, pool->name, pool->max_parties);
    struct watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return trail(CUE_ENOMEM, "no process memory for a watch");
    *watch = (struct watch){
        .pool = pool, .incarnation = pool->incarnation, .slot = slot, .epoch = epoch, .pidfd = -1, .died = died, .arg = arg
    };
    pthread_mutex_lock(&watcher.lock);
    int status = watcher_start();
    if (status) {
        pthread_mutex_unlock(&watcher.lock);
        free(watch);
        return status;
    }
    watch_pidfd(watch);
    watch->next = watcher.list;
    watcher.list = watch;
    *out = watch;
    eventfd_write(watcher.bell, 1); /* it may be gone already */
    pthread_mutex_unlock(&watcher.lock);
    return 0;
}

void watch_end(struct watch *watch)
{
    if (!watch)
        return;
    pthread_mutex_lock(&watcher.lock);
    if (!watcher.running || watcher.forks != fork_epoch) { /* the parent's */
        pthread_mutex_unlock(&watcher.lock);
        free(watch);
        return;
    }
    unlink_watch(watch);
    bool within = watcher.calling == watch && pthread_equal(pthread_self(), watcher.thread);
    watch->ended = within; /* then tell_all() frees it */
    while (watcher.calling == watch && !within)
        pthread_cond_wait(&watcher.idle, &watcher.lock);
    pthread_mutex_unlock(&watcher.lock);
    if (!within)
        free(watch);
}
