/* Channels: checks arguments, takes the URL apart, and hands over to the kind of lane (channel_internal.h). */
#include "ask.h"
#include "poll.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A deadline that is over, of a wait, unlike 0. */
#define LONG_PAST 1
#define CHANNEL_BYTES_MAX (UINT64_C(1) << 40)

static pthread_mutex_t renewing = PTHREAD_MUTEX_INITIALIZER;

/* ---- a channel in a forked child ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&renewing);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&renewing);
}

__attribute__((constructor)) static void fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

static __attribute__((noinline)) int renew(cue_channel *ch)
{
    int status = 0;
    pthread_mutex_lock(&renewing);
    if (ch->forks != fork_epoch) {
        status = ch->ops->forked ? ch->ops->forked(ch) : trail(CUE_EFORK, "this channel is the parent process's");
        if (!status) {
            pollable_forked(ch);
            ask_forked(ch);
            ch->forks = fork_epoch;
        }
    }
    pthread_mutex_unlock(&renewing);
    return status;
}

static inline int enter(cue_channel *ch)
{
    if (__builtin_expect(!ch, 0))
        return trail(CUE_EINVAL, "no channel given");
    int status = pool_enter(ch->pool);
    if (__builtin_expect(!status && ch->forks != fork_epoch, 0))
        status = renew(ch);
    return status;
}

int channel_enter(cue_channel *ch)
{
    return enter(ch);
}

/* ---- open, close ---- */

/* As for the same options in a URL (url.c). */
static int check_for_scheme(const cue_channel_opts *o, enum scheme scheme)
{
    if (scheme != SCHEME_SHM)
        return 0;
    if (o->role || o->flush.ns || o->linger.ns)
        return trail(CUE_EINVAL, "%s is for sockets, not for shm://", o->role ? "role" : o->flush.ns ? "flush" : "linger");
    return 0;
}

static int check_opts(const cue_channel_opts *o)
{
    for (unsigned i = 0; i < sizeof o->spare / sizeof *o->spare; i++)
        if (o->spare[i] || o->spare0)
            return trail(CUE_EVERSION, "an option of cue_channel_open that this version does not know (spare words must be zero)");
    if (o->kind > CUE_TOPIC)
        return trail(CUE_EINVAL, "kind %u: there are CUE_MAILBOX, CUE_QUEUE, CUE_STREAM, CUE_TOPIC", o->kind);
    if (o->full > CUE_DROP_OLD)
        return trail(CUE_EINVAL, "full %u: there are CUE_FAIL, CUE_DROP_NEW, CUE_DROP_OLD", o->full);
    if (o->depth > 1 << 24)
        return trail(CUE_EINVAL, "a depth of %u messages: at most 16 M", o->depth);
    if (o->type >= CUE_TYPE_SYSTEM)
        return trail(CUE_EINVAL, "type %#x is the library's own: use types below %#x", o->type, CUE_TYPE_SYSTEM);
    if (o->role > 2)
        return trail(CUE_EINVAL, "role %u: 1 listens, 2 dials", o->role);
    if (o->bytes > CHANNEL_BYTES_MAX || o->max > CHANNEL_BYTES_MAX)
        return trail(CUE_EINVAL, "%s of %llu: at most 1 T", o->bytes > CHANNEL_BYTES_MAX ? "bytes" : "max",
                     (unsigned long long)(o->bytes > CHANNEL_BYTES_MAX ? o->bytes : o->max));
    return 0;
}

int cue_channel_open(const char *url, unsigned how, const cue_channel_opts *opts, cue_channel **out)
{
    struct channel_url parts;
    cue_channel_opts with = opts ? *opts : (cue_channel_opts){ 0 };
    if (!out)
        return trail(CUE_EINVAL, "cue_channel_open: no place for the result");
    *out = NULL;
    if (how != CUE_TAP && (how == 0 || how & ~(unsigned)(CUE_RECV | CUE_SEND)))
        return trail(CUE_EINVAL, "cue_channel_open: how %#x is not CUE_RECV, CUE_SEND or both, nor CUE_TAP alone", how);
    int saved = errno, status = check_opts(&with);
    if (!status)
        status = url_parse(url, &parts, &with);
    if (!status)
        status = check_for_scheme(&with, parts.scheme);
    if (!status && how == CUE_TAP && parts.scheme != SCHEME_SHM)
        status = trail(CUE_ENOSYS, "only lanes of shm:// can be tapped: of a socket, tap the lane that its messages come from or go on to");
    if (!status)
        status = (parts.scheme == SCHEME_SHM ? lane_channel_open : nng_channel_open)(&parts, how, &with, out);
    errno = saved;
    if (status)
        return *cue_trail() ? trail_in(status, "cue_channel_open(\"%.200s\")", url ? url : "(null)") : status;
    (*out)->how = how == CUE_TAP ? CUE_RECV : how;
    (*out)->forks = fork_epoch;
    (*out)->incarnation = (*out)->pool->incarnation;
    return 0;
}

int cue_channel_close(cue_channel *ch)
{
    if (!ch)
        return 0;
    if (fork_mark && !atomic_load_explicit(fork_mark, memory_order_relaxed)) /* private word */
        pool_forked();
    struct cue_pool *pool = ch->pool;
    struct pollable *pollable = atomic_load_explicit(&ch->pollable, memory_order_acquire);
    atomic_store_explicit(&ch->closing, 1, memory_order_seq_cst); /* pairs with: ask, recv_any */
    ask_close(ch);
    pollable_leave(pollable);
    int status = ch->ops->close(ch);
    pollable_free(pollable);
    if (pool->incarnation == ch->incarnation) /* else it was destroyed, and its slot is another pool's by now */
        cue_pool_close(pool);
    free(ch);
    return status;
}

/* ---- shut ---- */

/* The place of a receiver. Who has it comes out by itself: nothing more goes in, and it has been told so. */
static int receiving_await(cue_channel *ch)
{
    int status;
    while ((status = channel_recv_begin(ch)) == CUE_EBUSY)
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    return status;
}

static int discard(cue_channel *ch)
{
    if (!(ch->how & CUE_RECV))
        return ch->ops->discard(ch);
    int status = receiving_await(ch);
    if (status)
        return status;
    status = ch->ops->discard(ch);
    channel_recv_end(ch);
    return status;
}

int cue_channel_shut(cue_channel *ch, unsigned how, cue_time wait)
{
    int status = channel_enter(ch);
    if (status)
        return status;
    if (how != CUE_DRAIN && how != CUE_DISCARD)
        return trail(CUE_EINVAL, "cue_channel_shut: how %#x is neither CUE_DRAIN nor CUE_DISCARD", how);
    bool receives = ch->how & CUE_RECV;
    if (how == CUE_DISCARD ? !ch->ops->discard : !ch->ops->drain)
        return trail(CUE_ENOSYS, "a channel of this kind knows no cue_channel_shut: cue_channel_close gives what it has back");
    if (how == CUE_DISCARD && ch->ops->shut && !receives)
        return trail(CUE_EPERM, "what was sent into a lane is its receivers': only they discard it");
    if (receives && (status = ch->ops->shut(ch)))
        return status;
    return how == CUE_DRAIN ? ch->ops->drain(ch, deadline_of(wait)) : discard(ch);
}

cue_pool *cue_channel_pool(cue_channel *ch)
{
    return ch ? ch->pool : NULL;
}

/* ---- send, receive ---- */

static int not_for(const char *what)
{
    return trail(CUE_EINVAL, "the channel was not opened to %s", what);
}

static inline struct pollable *pollable_of(cue_channel *ch)
{
    return atomic_load_explicit(&ch->pollable, memory_order_acquire); /* pairs with: pollable_fd */
}

/* Around what the kind does, for the channel's descriptor. When a receive is over that may be a new one; after a send the channel may be
 * gone, but not the descriptor that was seen before: close waits. */
static inline struct pollable *before(cue_channel *ch, unsigned how)
{
    struct pollable *pollable = pollable_of(ch);
    if (__builtin_expect(pollable != NULL, 0))
        pollable_before(pollable, how);
    return pollable;
}

static inline void after(struct pollable *pollable, unsigned how, int status)
{
    if (__builtin_expect(pollable != NULL, 0))
        pollable_after(pollable, how, status);
}

int channel_send(cue_channel *ch, const cue_msg *m, int64_t deadline)
{
    struct pollable *pollable = before(ch, CUE_SEND);
    int sent = ch->ops->send_many(ch, m, 1, deadline);
    after(pollable, CUE_SEND, sent);
    return sent;
}

static inline int64_t ops_deadline(const cue_channel *ch, cue_time wait)
{
    return ch->ops->later ? deadline_later(wait) : deadline_of(wait);
}

static inline int send_many(cue_channel *ch, const cue_msg *m, size_t n, cue_time wait)
{
    int status = enter(ch);
    if (__builtin_expect(status, 0))
        return status;
    if (__builtin_expect(!(ch->how & CUE_SEND), 0))
        return not_for("send: CUE_SEND");
    if (__builtin_expect(!m || n == 0, 0))
        return n ? trail(CUE_EINVAL, "no message given") : 0;
    struct pollable *pollable = before(ch, CUE_SEND);
    int sent = ch->ops->send_many(ch, m, n, ops_deadline(ch, wait));
    after(pollable, CUE_SEND, sent);
    return sent;
}

int cue_channel_send_many(cue_channel *ch, const cue_msg *m, size_t n, cue_time wait)
{
    return send_many(ch, m, n, wait);
}

int cue_channel_send(cue_channel *ch, const cue_msg *m, cue_time wait)
{
    int status = send_many(ch, m, 1, wait);
    return status > 0 ? 0 : status;
}

/* Private words. Where one thread may receive at a time the end is a plain store. */
static inline bool receiving_begin(cue_channel *ch)
{
    if (ch->ops->shared)
        atomic_fetch_add_explicit(&ch->receiving, 1, memory_order_acquire);
    return ch->ops->shared || !atomic_exchange_explicit(&ch->receiving, 1, memory_order_acquire);
}

static inline void receiving_end(cue_channel *ch)
{
    bool shared = ch->ops->shared; /* what follows is the last touch of the channel: ops->close waits for it */
    if (shared)
        atomic_fetch_sub_explicit(&ch->receiving, 1, memory_order_release);
    else
        atomic_store_explicit(&ch->receiving, 0, memory_order_release);
}

static inline int recv_begin(cue_channel *ch)
{
    int status = enter(ch);
    if (__builtin_expect(status, 0))
        return status;
    if (__builtin_expect(!(ch->how & CUE_RECV), 0))
        return not_for("receive: CUE_RECV");
    if (__builtin_expect(!receiving_begin(ch), 0))
        return trail(CUE_EBUSY, "another thread is receiving from this channel");
    return 0;
}

int channel_recv_begin(cue_channel *ch)
{
    return recv_begin(ch);
}

void channel_recv_end(cue_channel *ch)
{
    receiving_end(ch);
}

void channel_recv_before(cue_channel *ch)
{
    before(ch, CUE_RECV);
}

void channel_recv_after(cue_channel *ch, int got)
{
    after(pollable_of(ch), CUE_RECV, got);
}

int channel_take_now(cue_channel *ch, cue_msg *out)
{
    bool woken = atomic_load_explicit(&ch->woken, memory_order_seq_cst);     /* pairs with: cue_channel_wake */
    bool closing = atomic_load_explicit(&ch->closing, memory_order_seq_cst); /* pairs with: cue_channel_close */
    int got = ch->ops->recv_many(ch, out, 1, woken || closing ? LONG_PAST : 0);
    if (woken && got < 0)
        atomic_store_explicit(&ch->woken, 0, memory_order_seq_cst);
    return got;
}

static inline int recv_many(cue_channel *ch, cue_msg *out, size_t n, cue_time wait)
{
    int status = out && n ? recv_begin(ch) : n ? trail(CUE_EINVAL, "no place for a message") : channel_enter(ch);
    if (__builtin_expect(status || n == 0, 0)) {
        if (out && n)
            memset(out, 0, sizeof *out);
        return status;
    }
    int64_t deadline = ops_deadline(ch, wait);
    if (before(ch, CUE_RECV) && deadline == 0 && atomic_load_explicit(&ch->woken, memory_order_seq_cst))
        deadline = LONG_PAST; /* who polls waits there, and is woken here */
    int got = ch->ops->recv_many(ch, out, n, deadline);
    after(pollable_of(ch), CUE_RECV, got);
    wake_noticed(ch, got);
    receiving_end(ch);
    if (__builtin_expect(got < 0, 0))
        memset(out, 0, sizeof *out);
    return got;
}

int cue_channel_recv_many(cue_channel *ch, cue_msg *out, size_t n, cue_time wait)
{
    return recv_many(ch, out, n, wait);
}

int cue_channel_recv(cue_channel *ch, cue_msg *out, cue_time wait)
{
    int status = recv_many(ch, out, 1, wait);
    return status > 0 ? 0 : status;
}

void cue_channel_wake(cue_channel *ch)
{
    if (!ch || ch->forks != fork_epoch)
        return;
    atomic_store_explicit(&ch->woken, 1, memory_order_seq_cst); /* pairs with: ask, recv_any, poll.c, before they sleep */
    ch->ops->wake(ch);
    ask_wake(ch);
    atomic_store_explicit(&ch->woken, 1, memory_order_seq_cst); /* a wait that took it for an earlier wake */
}

int cue_channel_fd(cue_channel *ch)
{
    int status = channel_enter(ch);
    return status ? status : pollable_fd(ch);
}

int cue_channel_stat(cue_channel *ch, cue_channel_info *out)
{
    if (!out)
        return trail(CUE_EINVAL, "cue_channel_stat: no place for the result");
    memset(out, 0, sizeof *out);
    int status = channel_enter(ch);
    if (!status)
        status = ch->ops->stat(ch, out);
    if (!status)
        out->late += atomic_load_explicit(&ch->late, memory_order_relaxed); /* a count for people */
    return status;
}
