/* Closing what NNG may never be done with.
 *
 * THE FAULT. NNG before 1.7 sends and receives a packet in several steps (over tls and ws always, else when the kernel takes it in
 * parts). If a connection is closed when a step is done and its callback has not run, the next step is refused without a word, what
 * was sent or received never ends, and the one thread of NNG's that takes down connections, its reaper, waits for that for ever.
 * From then on, in this process, no end of a connection is told, dialers whose connection has ended do not dial again, descriptors of
 * ended connections and failed dials stay open, and nng_close does not return. New sockets, dialers, listeners and connections work. On
 * the receiving side part.c avoids the fault. Where it comes out of a send, because the receiver was killed, nothing can avoid it; so
 * it is noticed, and everything here does without the reaper then. A second way there is to close a listener of ws while somebody's
 * request is taken: it waits, with its lock held, for the reaper, which waits for the request, which waits for the lock.
 *
 * THE CLOSER is one thread of the process that closes all sockets of ours, one after the other. Who closes waits for it; if it hangs,
 * the socket's dialer or listener is closed, which cuts its connections and needs no reaper, and the socket is left to the closer.
 * Should NNG have been slow only, it closes what was left. One more thread hangs with each ws listener that is closed then.
 *
 * THE PULSE. Whenever a connection of ours has ended, which is when a reaper may hang, the closer makes a socket and closes it again:
 * that ends when the reaper has come by. A closer that has not come back for HANG_NS says: it hangs. That may be wrong, on a
 * machine that stood still; so whoever looks does nothing on this word that would harm a process whose reaper is well.
 *
 * A TIE is what NNG's callbacks get instead of their owner, who may be gone when they come: they find it through the tie, or not.
 * `owner` is cleared when the socket was closed, or left behind; the tie lives until the socket is closed.
 *
 * exit() takes no notice of the closer: it holds no lock of ours when it hangs, and NNG does nothing at exit.
 */
#include "nng_internal.h"

#include <nng/protocol/pair1/pair.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define HANG_NS (500 * INT64_C(1000000))
#define LEAVE_NS (1000 * INT64_C(1000000))
#define PULSE_EVERY_NS (100 * INT64_C(1000000))
#define CUT_NS (500 * INT64_C(1000000))

static pthread_mutex_t closer_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_came, work_done; /* made with the thread, for they go by the monotonic clock */
static struct tie *to_close, **to_close_end = &to_close;
static bool pulse_wanted;
static int64_t pulse_at;
static _Atomic int64_t busy_since; /* the closer is in NNG, 0: it is not; changes under the lock */
static _Atomic uint64_t left;      /* sockets that were left behind and are not closed yet */

static int64_t busy_for(void)
{
    int64_t since = atomic_load_explicit(&busy_since, relaxed); /* a time; nothing is read after it */
    return since ? clock_ns() - since : 0;
}

bool nng_hangs(void)
{
    return busy_for() > HANG_NS;
}

uint64_t nng_left(void)
{
    return atomic_load_explicit(&left, relaxed); /* for people */
}

static void take_pulse(void)
{
    nng_socket sock;
    nng_dialer dialer;
    if (nng_pair1_open(&sock))
        return;
    (void)!nng_dialer_create(&dialer, sock, "inproc://cuelight-pulse"); /* never started; only the reaper frees it */
    nng_close(sock);
}

/* The lock is held, and is let go meanwhile. */
static void in_nng(struct tie *tie)
{
    atomic_store_explicit(&busy_since, clock_ns(), relaxed); /* as above */
    pthread_mutex_unlock(&closer_lock);
    if (tie)
        nng_close(tie->sock);
    else
        take_pulse();
    pthread_mutex_lock(&closer_lock);
    atomic_store_explicit(&busy_since, 0, relaxed); /* the same */
}

static void tie_free(struct tie *tie)
{
    pthread_rwlock_destroy(&tie->lock);
    free(tie);
}

static void close_next(void)
{
    struct tie *tie = to_close;
    to_close = tie->next;
    if (!to_close)
        to_close_end = &to_close;
    in_nng(tie);
    tie->closed = true;
    pthread_cond_broadcast(&work_done);
    if (!tie->left)
        return; /* who waits for it frees it */
    atomic_fetch_sub_explicit(&left, 1, relaxed);
    tie_free(tie);
}

static void *closer(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&closer_lock);
    for (;;) {
        int64_t now = clock_ns(), due = pulse_at + PULSE_EVERY_NS;
        if (to_close) {
            close_next();
        } else if (!pulse_wanted) {
            pthread_cond_wait(&work_came, &closer_lock);
        } else if (now < due) {
            pthread_cond_timedwait(&work_came, &closer_lock, &(struct timespec){ due / 1000000000, due % 1000000000 });
        } else {
            pulse_wanted = false;
            pulse_at = now;
            in_nng(NULL);
        }
    }
    return NULL;
}

bool thread_start(void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool started = pthread_create(&thread, NULL, run, arg) == 0 && pthread_detach(thread) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

static void conditions_make(void)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&work_came, &monotonic);
    pthread_cond_init(&work_done, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

/* Where no thread can be made now, the next one who opens tries again. */
static bool closer_runs(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static bool running;
    pthread_once(&once, conditions_make);
    pthread_mutex_lock(&closer_lock);
    if (!running)
        running = thread_start(closer, NULL);
    bool runs = running;
    pthread_mutex_unlock(&closer_lock);
    return runs;
}

struct tie *tie_make(nng_socket sock, void *owner)
{
    struct tie *tie = closer_runs() ? calloc(1, sizeof *tie) : NULL;
    if (!tie)
        return NULL;
    pthread_rwlock_init(&tie->lock, NULL);
    tie->sock = sock;
    tie->owner = owner;
    return tie;
}

void *tie_hold(struct tie *tie)
{
    pthread_rwlock_rdlock(&tie->lock);
    if (tie->owner)
        return tie->owner;
    pthread_rwlock_unlock(&tie->lock);
    return NULL;
}

void tie_release(struct tie *tie)
{
    pthread_rwlock_unlock(&tie->lock);
}

static void disown(struct tie *tie)
{
    pthread_rwlock_wrlock(&tie->lock);
    tie->owner = NULL;
    pthread_rwlock_unlock(&tie->lock);
}

struct cutting {
    nng_listener listener;
    bool done, left;
};

static void *cut_listener(void *arg)
{
    struct cutting *c = arg;
    nng_listener_close(c->listener);
    pthread_mutex_lock(&closer_lock);
    c->done = true;
    bool mine = c->left;
    pthread_cond_broadcast(&work_done);
    pthread_mutex_unlock(&closer_lock);
    if (mine)
        free(c);
    return NULL;
}

/* The lock is held, and let go meanwhile. */
static void doze(int64_t until)
{
    pthread_cond_timedwait(&work_done, &closer_lock, &(struct timespec){ until / 1000000000, until % 1000000000 });
}

/* Over ws it stops listening, and then waits for the reaper to take down its connections. */
static void cut_in_thread(nng_listener listener)
{
    struct cutting *c = calloc(1, sizeof *c);
    int64_t end = clock_ns() + CUT_NS;
    if (!c)
        return;
    c->listener = listener;
    if (!thread_start(cut_listener, c)) {
        free(c);
        return;
    }
    pthread_mutex_lock(&closer_lock);
    while (!c->done && clock_ns() < end)
        doze(end);
    bool done = c->done;
    c->left = !done;
    pthread_mutex_unlock(&closer_lock);
    if (done)
        free(c);
}

/* By the caller of close: nothing goes through the socket any more, whenever it is closed. */
static void cut(const struct tie *tie)
{
    if (tie->dialer.id)
        nng_dialer_close(tie->dialer);
    if (tie->listener.id)
        cut_in_thread(tie->listener);
}

/* The lock is held. */
static void enqueue(struct tie *tie)
{
    tie->next = NULL;
    *to_close_end = tie;
    to_close_end = &tie->next;
    pthread_cond_signal(&work_came);
}

/* The lock is held. false: the closer is at it, or was. */
static bool take_back(struct tie *tie)
{
    struct tie **at = &to_close;
    while (*at && *at != tie)
        at = &(*at)->next;
    if (!*at)
        return false;
    *at = tie->next;
    if (to_close_end == &tie->next)
        to_close_end = at;
    return true;
}

/* The lock is held. One whose listener was cut is not closed any more: NNG may not be done with the cutting, and would free it twice. */
static void leave_behind(struct tie *tie, bool cut)
{
    static struct tie *for_good;
    tie->left = true;
    atomic_fetch_add_explicit(&left, 1, relaxed); /* for people */
    if (!cut)
        return; /* the closer is at it */
    if (!tie->listener.id) {
        enqueue(tie);
        return;
    }
    tie->next = for_good;
    for_good = tie;
}

bool tie_close(struct tie *tie)
{
    pthread_mutex_lock(&closer_lock);
    enqueue(tie);
    while (!tie->closed && busy_for() < LEAVE_NS)
        doze(clock_ns() + LEAVE_NS / 4);
    bool ours = !tie->closed && take_back(tie); /* else nng_close cuts it first of all */
    pthread_mutex_unlock(&closer_lock);
    if (ours)
        cut(tie);
    disown(tie);
    pthread_mutex_lock(&closer_lock);
    bool closed = tie->closed;
    if (closed)
        tie_free(tie);
    else
        leave_behind(tie, ours);
    pthread_mutex_unlock(&closer_lock);
    return closed;
}

void tie_leave(struct tie *tie)
{
    cut(tie);
    disown(tie);
    pthread_mutex_lock(&closer_lock);
    leave_behind(tie, true);
    pthread_mutex_unlock(&closer_lock);
}

void pulse(void)
{
    pthread_mutex_lock(&closer_lock);
    if (!pulse_wanted) {
        pulse_wanted = true;
        pthread_cond_signal(&work_came);
    }
    pthread_mutex_unlock(&closer_lock);
}
