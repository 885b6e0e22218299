/* Descriptors to poll, for programs that wait in epoll, libuv, asyncio.
 *
 * A channel's descriptor is an eventfd, readable while messages wait (or, of a channel that only sends, while there may be
 * room). A lane wakes a futex, which epoll cannot wait for: so a thread, the RINGER, waits for the futexes of all channels of
 * this process that have a descriptor, and writes. With an io_uring it waits for any number of them; with futex_waitv for 127, then
 * there is one ringer for each 127 channels.
 *
 *   receiver   took something                         the descriptor stays, or becomes, readable
 *              found nothing                          clear it; arm the lane (SLEEP); armed := the word's value, seq_cst;
 *                                                     look at the word again: changed? take `armed` back and ring
 *   ringer     after each wake, before each wait      armed, seq_cst, and the word differs: take `armed`, ring
 *   ring       rung := 1; write.     clear: read; rung := 0. So `rung` never says more than the descriptor does
 *
 * The ringer is in the kernel's queue of each word all the time but for the moment between a wake and its next wait; before
 * that it loads the word for which it then waits, and looks at `armed` after it. A change of the word that comes with a wake
 * is either seen there, or it finds the ringer in the queue, or the word differs when the kernel compares it. So who arms
 * need not tell the ringer, and each time that it was armed ends with one ring.
 *
 * A wake that the ringer takes may be meant for somebody else who sleeps on the same word: a thread in a receive, another
 * party of a queue. It passes each on. Rule S: once a watch period the first ringer cleans up after the dead in the pools
 * of these channels, and looks at 128 of the channels, in turn.
 *
 * Sockets have descriptors of their own (channel_ops.poll_fd).
 */
#include "poll.h"

#include "base/atomic.h"
#include "base/uring.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ARMED (UINT64_C(1) << 32)
#define A_LONG_TIME_NS INT64_C(3600000000000)

enum { CONTROL = 1 /* a tag that is no address */, LOOKS_A_PERIOD = 128 };

struct pollable {
    cue_channel *ch;
    unsigned how; /* CUE_RECV, or CUE_SEND where the channel only sends */
    int fd;
    bool native; /* the kind's own: nothing else here is used */
    bool closing;
    uint32_t forks;
    pthread_mutex_t lock;    /* for who arms and clears: senders may be several */
    _Atomic uint32_t inside; /* threads in a send: close waits until they are out of here. Those in a receive it awaits anyway */
    _Atomic bool asleep;     /* the lane dozes: to be roused; changes under the lock */
    _Atomic uint32_t rung;
    _Atomic uint64_t armed; /* ARMED | the word's value; 0: not, or taken to ring */

    /* the ringer's; who joins or leaves it changes them under ringers.lock */
    struct ringer *ringer;
    struct pollable *next;
    _Atomic(_Atomic uint32_t *) word; /* NULL: not yet in its list */
    _Atomic uint32_t *waits_on;       /* io_uring: the word of the request that is under way */
    uint32_t expected;                /* what it waits for */
    bool queued;                      /* io_uring: a request is under way */
    bool leaving, left;
};

struct ringer {
    pthread_t thread;
    bool first; /* it looks around for all */
    unsigned count;
    struct pollable *list;
    _Atomic uint32_t control; /* grows when somebody joins or leaves; a futex */
    struct uring *uring;      /* NULL: without */
    bool control_queued;
    struct ringer *next;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;     /* somebody has left */
    struct ringer *list, *turn; /* turn, resume: where the looks around go on */
    struct pollable *resume;
    int channels[POOLS_MAX]; /* with descriptors, by pool */
    bool stopped;
} ringers = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* ---- the descriptor ---- */

static void ring(struct pollable *p)
{
    atomic_store_explicit(&p->rung, 1, seq_cst); /* pairs with: clear */
    eventfd_write(p->fd, 1);
}

static void clear(struct pollable *p)
{
    eventfd_t count;
    int saved = errno;
    eventfd_read(p->fd, &count);
    errno = saved;
    atomic_store_explicit(&p->rung, 0, seq_cst); /* pairs with: ring */
}

/* Whether it was armed until now. */
static bool armed_take(struct pollable *p)
{
    return atomic_exchange_explicit(&p->armed, 0, seq_cst) != 0;
}

static uint32_t value_of(struct pollable *p)
{
    return atomic_load_explicit(atomic_load_explicit(&p->word, acquire), seq_cst); /* pairs with: join; whoever changes it */
}

static void look(struct pollable *p)
{
    uint64_t armed = atomic_load_explicit(&p->armed, seq_cst); /* pairs with: arm */
    if (armed && (uint32_t)armed != value_of(p) && armed_take(p))
        ring(p);
}

static void poke(struct ringer *r)
{
    atomic_fetch_add_explicit(&r->control, 1, seq_cst); /* pairs with: its look before it waits */
    futex_wake(&r->control, 1);
}

/* From now on the ringer waits for `word`, too, or instead of the one before: a topic with room for all but one waits for that
 * one. Under p->lock, not armed. */
static void join(struct pollable *p, _Atomic uint32_t *word)
{
    pthread_mutex_lock(&ringers.lock);
    bool listed = atomic_load_explicit(&p->word, relaxed); /* under the lock */
    atomic_store_explicit(&p->word, word, release);        /* pairs with: value_of */
    if (!listed) {
        p->next = p->ringer->list;
        p->ringer->list = p;
    }
    poke(p->ringer);
    pthread_mutex_unlock(&ringers.lock);
}

/* Nothing is there, or no room. Under p->lock. */
static void arm(struct pollable *p)
{
    struct channel_sleep on;
    clear(p);
    if (p->closing || !p->ch->ops->doze(p->ch, p->how, &on)) {
        ring(p);
        return;
    }
    if (atomic_load_explicit(&p->word, relaxed) != on.word) /* under the lock */
        join(p, on.word);
    atomic_store_explicit(&p->asleep, true, relaxed);                    /* under the lock */
    atomic_store_explicit(&p->armed, ARMED | on.value, seq_cst);         /* pairs with: look */
    bool changed = atomic_load_explicit(on.word, seq_cst) != on.value || /* pairs with: whoever changes it */
                   atomic_load_explicit(&p->ch->woken, seq_cst);         /* pairs with: cue_channel_wake */
    if (changed && armed_take(p))
        ring(p);
}

static void disarm(struct pollable *p)
{
    if (!atomic_load_explicit(&p->asleep, relaxed)) /* under the lock */
        return;
    armed_take(p);
    p->ch->ops->rouse(p->ch, p->how);
    atomic_store_explicit(&p->asleep, false, relaxed);
}

void pollable_before(struct pollable *p, unsigned how)
{
    if (how == CUE_SEND)
        atomic_fetch_add_explicit(&p->inside, 1, relaxed);                        /* the channel is there, so no close waits yet */
    if (p->native || p->how != how || !atomic_load_explicit(&p->asleep, relaxed)) /* a hint: `after` looks again */
        return;
    pthread_mutex_lock(&p->lock);
    disarm(p);
    pthread_mutex_unlock(&p->lock);
}

static void find_out(struct pollable *p, unsigned how, int got)
{
    if (p->native || p->how != how)
        return;
    if (got != CUE_EEMPTY && got != CUE_EFULL) { /* there may be more */
        if (!atomic_load_explicit(&p->rung, seq_cst))
            ring(p);
        return;
    }
    pthread_mutex_lock(&p->lock);
    disarm(p); /* another thread may have armed it meanwhile */
    arm(p);
    pthread_mutex_unlock(&p->lock);
}

void pollable_after(struct pollable *p, unsigned how, int got)
{
    find_out(p, how, got);
    if (how == CUE_SEND)
        atomic_fetch_sub_explicit(&p->inside, 1, release); /* pairs with: pollable_free */
}

/* ---- the ringer ---- */

/* Those who leave are let go. Under ringers.lock. */
static void let_go(struct ringer *r)
{
    for (struct pollable **link = &r->list; *link;) {
        struct pollable *p = *link;
        if (p->leaving && !p->queued) {
            *link = p->next;
            r->count--;
            if (ringers.resume == p)
                ringers.resume = p->next;
            p->left = true;
            pthread_cond_broadcast(&ringers.changed);
        } else {
            link = &p->next;
        }
    }
}

/* A pool that channels here are of, or no longer. Under ringers.lock. */
static void pool_counted(const cue_pool *pool, int by)
{
    ringers.channels[pool->slot] += by;
}

/* Once a watch period: cleans up after the dead, which wakes those that they did not; and looks at some of the channels, in turn,
 * for messages of senders that were stopped before their wake. Under ringers.lock. */
static void look_around(void)
{
    for (unsigned i = 0; i < POOLS_MAX; i++)
        if (ringers.channels[i] && pool_enter(&pool_table[i]) == 0)
            pool_reap(&pool_table[i]);
    struct ringer *r = ringers.turn ? ringers.turn : ringers.list;
    struct pollable *p = ringers.resume ? ringers.resume : r->list;
    for (unsigned n = 0; p && n < LOOKS_A_PERIOD; n++, p = p->next) {
        if (p->leaving)
            continue;
        look(p);
        if (pool_enter(p->ch->pool) && armed_take(p)) /* destroyed: whoever receives shall find out */
            ring(p);
    }
    ringers.resume = p;
    if (!p)
        ringers.turn = r->next;
}

/* A wake that we have taken may have been meant for somebody else who sleeps on the word. Once for each change of it, or two
 * ringers would wake each other for ever. */
static void pass_on(struct pollable *p, uint32_t expected)
{
    look(p);
    if (value_of(p) != expected)
        futex_wake(atomic_load_explicit(&p->word, relaxed), 1); /* as just before */
}

static void with_waitv(struct ringer *r)
{
    struct futex_word words[FUTEX_WORDS_MAX];
    struct pollable *of[FUTEX_WORDS_MAX];
    unsigned n = 1;
    pthread_mutex_lock(&ringers.lock);
    words[0] = (struct futex_word){ &r->control, atomic_load_explicit(&r->control, acquire) }; /* pairs with: poke */
    let_go(r);
    for (struct pollable *p = r->list; p && n < FUTEX_WORDS_MAX; p = p->next, n++) {
        words[n] = (struct futex_word){ atomic_load_explicit(&p->word, relaxed), value_of(p) }; /* pairs with: the kernel's look */
        of[n] = p;
        look(p);
    }
    pthread_mutex_unlock(&ringers.lock); /* who leaves waits for us */
    int status = futex_wait_any(words, n, r->first ? WATCH_PERIOD_NS : A_LONG_TIME_NS);
    for (unsigned i = 1; !status && i < n; i++)
        pass_on(of[i], words[i].expected);
}

/* A request for each that has none. Under ringers.lock. */
static void ask_all(struct ringer *r)
{
    if (!r->control_queued)
        r->control_queued = /* pairs with: poke */
            uring_wait(r->uring, &r->control, atomic_load_explicit(&r->control, acquire), CONTROL) == 0;
    for (struct pollable *p = r->list; p; p = p->next) {
        _Atomic uint32_t *word = atomic_load_explicit(&p->word, relaxed); /* under the lock */
        if (p->queued && (p->leaving || p->waits_on != word))
            uring_cancel(r->uring, (uintptr_t)p); /* it comes back, and is asked for anew */
        if (p->leaving || p->queued)
            continue;
        p->waits_on = word;
        p->expected = value_of(p); /* pairs with: the kernel's look */
        look(p);
        p->queued = uring_wait(r->uring, word, p->expected, (uintptr_t)p) == 0;
    }
}

static void with_uring(struct ringer *r)
{
    uint64_t tag;
    bool woken;
    pthread_mutex_lock(&ringers.lock);
    let_go(r);
    ask_all(r);
    pthread_mutex_unlock(&ringers.lock);
    for (int64_t ns = WATCH_PERIOD_NS; uring_next(r->uring, ns, &tag, &woken); ns = 0) {
        if (tag == CONTROL) {
            r->control_queued = false;
            continue;
        }
        struct pollable *p = (struct pollable *)(uintptr_t)tag; /* it cannot leave while it is queued */
        p->queued = false;
        if (woken)
            pass_on(p, p->expected);
        else
            look(p);
    }
}

static void *ringer_loop(void *arg)
{
    struct ringer *r = arg;
    int64_t next = 0;
    if (futex_way() == FUTEX_URING && uring_open(&r->uring))
        r->uring = NULL; /* as without it; beyond 127 channels the looks around must do */
    for (;;) {
        if (r->uring)
            with_uring(r);
        else
            with_waitv(r);
        int64_t now = r->first ? clock_ns() : 0;
        if (!r->first || now < next)
            continue;
        next = now + WATCH_PERIOD_NS;
        pthread_mutex_lock(&ringers.lock);
        if (!ringers.stopped)
            look_around();
        pthread_mutex_unlock(&ringers.lock);
    }
    return NULL;
}

/* ---- joining and leaving ---- */

/* exit() without close: the pools are left next. */
static void at_exit(void)
{
    pthread_mutex_lock(&ringers.lock);
    ringers.stopped = true;
    pthread_mutex_unlock(&ringers.lock);
}

/* The threads and the channels are the parent's. */
static void forked(void)
{
    pthread_mutex_init(&ringers.lock, NULL);
    pthread_cond_init(&ringers.changed, NULL);
    ringers.list = ringers.turn = NULL;
    ringers.resume = NULL;
    memset(ringers.channels, 0, sizeof ringers.channels);
}

static void prepare(void)
{
    pthread_atfork(NULL, NULL, forked);
    atexit(at_exit);
}

/* One that has room, with one more to come. Under ringers.lock. */
static int ringer_find(struct ringer **out)
{
    unsigned most = futex_way() == FUTEX_URING ? UINT_MAX : FUTEX_WORDS_MAX - 1;
    for (struct ringer *r = ringers.list; r; r = r->next)
        if (r->count < most) {
            r->count++;
            *out = r;
            return 0;
        }
    struct ringer *r = calloc(1, sizeof *r);
    if (!r)
        return trail(CUE_ENOMEM, "no process memory for a thread");
    r->first = !ringers.list;
    r->count = 1;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* no handler of the application runs on our threads */
    int error = pthread_create(&r->thread, NULL, ringer_loop, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        free(r);
        errno = error;
        return trail_errno("cannot start the thread that rings descriptors");
    }
    pthread_detach(r->thread);
    r->next = ringers.list ? ringers.list->next : NULL;
    if (ringers.list)
        ringers.list->next = r;
    else
        ringers.list = r;
    *out = r;
    return 0;
}

void pollable_leave(struct pollable *p)
{
    if (!p || p->native || p->forks != fork_epoch)
        return;
    pthread_mutex_lock(&p->lock);
    bool joined = atomic_load_explicit(&p->word, relaxed); /* under the lock */
    p->closing = true;                                     /* who is still in a call arms no more */
    disarm(p);
    pthread_mutex_unlock(&p->lock);
    pthread_mutex_lock(&ringers.lock);
    p->leaving = true;
    pool_counted(p->ch->pool, -1);
    if (joined)
        poke(p->ringer);
    else
        p->ringer->count--;
    while (joined && !p->left)
        pthread_cond_wait(&ringers.changed, &ringers.lock);
    pthread_mutex_unlock(&ringers.lock);
}

void pollable_free(struct pollable *p)
{
    if (!p)
        return;
    while (atomic_load_explicit(&p->inside, acquire)) /* pairs with: pollable_after */
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    if (!p->native)
        close(p->fd);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- cue_channel_fd ---- */

static int pollable_make(cue_channel *ch, struct pollable **out)
{
    struct pollable *p = calloc(1, sizeof *p);
    if (!p)
        return trail(CUE_ENOMEM, "no process memory for a descriptor");
    p->ch = ch;
    p->how = ch->how & CUE_RECV ? CUE_RECV : CUE_SEND;
    p->forks = fork_epoch;
    p->native = ch->ops->poll_fd;
    pthread_mutex_init(&p->lock, NULL);
    p->fd = p->native ? ch->ops->poll_fd(ch, p->how) : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int status = p->fd >= 0 ? 0 : p->native ? p->fd : trail_errno("a descriptor to poll");
    if (!status && !p->native) {
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        pthread_once(&once, prepare);
        pthread_mutex_lock(&ringers.lock);
        status = ringer_find(&p->ringer);
        if (!status)
            pool_counted(ch->pool, 1);
        pthread_mutex_unlock(&ringers.lock);
        ring(p); /* the first receive finds out */
    }
    if (status) {
        pollable_free(p);
        return status;
    }
    *out = p;
    return 0;
}

int pollable_fd(cue_channel *ch)
{
    static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
    struct pollable *p = atomic_load_explicit(&ch->pollable, acquire); /* pairs with: the store below */
    if (p)
        return p->fd;
    if (!ch->ops->poll_fd && !ch->ops->doze)
        return trail(CUE_ENOSYS, "channels of this kind have no descriptor to poll");
    pthread_mutex_lock(&making);
    p = atomic_load_explicit(&ch->pollable, acquire);
    int status = p ? 0 : pollable_make(ch, &p);
    if (!status)
        atomic_store_explicit(&ch->pollable, p, memory_order_release); /* pairs with: the sends and receives */
    pthread_mutex_unlock(&making);
    return status ? status : p->fd;
}

void pollable_forked(cue_channel *ch)
{
    struct pollable *p = atomic_load_explicit(&ch->pollable, acquire);
    if (p && !p->native)
        close(p->fd); /* its eventfd is shared with the parent */
    free(p);
    atomic_store_explicit(&ch->pollable, NULL, memory_order_release); /* pairs with: as above */
}
