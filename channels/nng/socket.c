/* Opening a socket lane, and what both ends do with NNG.
 *
 * NNG is asked for little, the part that 1.5 to 1.12 share, since much of it has traps: messages are built front to back, no send
 * is cancelled, every limit is set (messages, reconnect times, permissions), callbacks only store a word and ring. Its threads are started
 * with all signals blocked, once: two first calls of NNG's at the same time would race. After a fork nothing here calls NNG, which
 * would abort: the dispatcher says CUE_EFORK first.
 */
#include "nng_internal.h"

#include "base/process.h"

#include <errno.h>
#include <nng/protocol/pair1/pair.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int nng_trail(int nng_error, const char *format, ...)
{
    static const struct {
        int nng, ours;
    } codes[] = { { NNG_ENOMEM, CUE_ENOMEM },         { NNG_EADDRINUSE, CUE_EBUSY },      { NNG_EADDRINVAL, CUE_EINVAL },
                  { NNG_EINVAL, CUE_EINVAL },         { NNG_EPERM, CUE_EPERM },           { NNG_ENOENT, CUE_ENOENT },
                  { NNG_ECONNREFUSED, CUE_EUNREACH }, { NNG_EUNREACHABLE, CUE_EUNREACH }, { NNG_ENOTSUP, CUE_ENOSYS },
                  { NNG_ENOFILES, CUE_ELIMIT },       { NNG_EPEERAUTH, CUE_EPERM },       { NNG_ECRYPTO, CUE_EPERM } };
    char text[URL_WHERE_MAX + 200];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    int status = CUE_ESYS;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (codes[i].nng == nng_error)
            status = codes[i].ours;
    if ((nng_error & NNG_ESYSERR) && ((nng_error & ~NNG_ESYSERR) == ENOENT || (nng_error & ~NNG_ESYSERR) == ENOTDIR))
        status = CUE_ENOENT;
    return trail(status, "%s: %s", text, nng_strerror(nng_error));
}

void event_ring(int fd)
{
    int before = errno;
    ssize_t done = write(fd, &(uint64_t){ 1 }, sizeof(uint64_t));
    (void)done; /* full: it is rung already */
    errno = before;
}

bool event_take(int fd)
{
    uint64_t count;
    return read(fd, &count, sizeof count) == sizeof count;
}

bool nng_stops(void)
{
    unsigned major = 0, minor = 0;
    return sscanf(nng_version(), "%u.%u", &major, &minor) == 2 && major == 1 && minor < 6;
}

void socket_shut(struct socket_lane *lane)
{
    atomic_store_explicit(&lane->closing, 1, memory_order_seq_cst);             /* pairs with: socket_enter */
    while (atomic_load_explicit(&lane->inside, memory_order_seq_cst) ||         /* pairs with: socket_leave */
           atomic_load_explicit(&lane->base.receiving, memory_order_acquire)) { /* pairs with: the dispatcher's end of recv */
        lane->base.ops->wake(&lane->base);
        poll(NULL, 0, 1);
    }
}

/* ---- exit() ---- */

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static struct socket_lane *open_lanes;
static pid_t opener; /* of the last one: a forked child has none of these threads, and maybe not the lock */

/* After the pool's own handler was registered, so before it is called. */
static void at_exit(void)
{
    if (opener != getpid())
        return;
    pthread_mutex_lock(&open_lock);
    for (struct socket_lane *lane = open_lanes; lane; lane = lane->next_open)
        if (lane->pid == opener)
            lane->halt(lane);
    pthread_mutex_unlock(&open_lock);
}

static void register_at_exit(void)
{
    atexit(at_exit);
}

void socket_opened(struct socket_lane *lane)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_at_exit);
    pthread_mutex_lock(&open_lock);
    lane->pid = opener = getpid();
    lane->next_open = open_lanes;
    open_lanes = lane;
    pthread_mutex_unlock(&open_lock);
}

void socket_closed(struct socket_lane *lane)
{
    pthread_mutex_lock(&open_lock);
    struct socket_lane **at = &open_lanes;
    while (*at && *at != lane)
        at = &(*at)->next_open;
    if (*at)
        *at = lane->next_open;
    pthread_mutex_unlock(&open_lock);
}

struct socket_lane *socket_find(uint64_t id)
{
    pthread_mutex_lock(&open_lock);
    struct socket_lane *lane = open_lanes;
    while (lane && (lane->id != id || lane->pid != getpid()))
        lane = lane->next_open;
    if (lane && socket_enter(lane)) {
        socket_leave(lane);
        lane = NULL;
    }
    pthread_mutex_unlock(&open_lock);
    return lane;
}

int socket_forked(struct socket_lane *lane)
{
    socket_closed(lane);
    return trail(CUE_EFORK, "%s: the channel is the parent process's", lane->url);
}

/* ---- open ---- */

static int check_opts(const struct channel_url *url, unsigned how, const cue_channel_opts *opts)
{
    unsigned role = how == CUE_RECV ? 1 : 2;
    if (how != CUE_RECV && how != CUE_SEND)
        return trail(CUE_EINVAL, "%s: a socket is opened either to receive or to send", url->plain);
    if (opts->kind && opts->kind != CUE_STREAM)
        return trail(CUE_ETYPE, "%s: sockets are streams", url->plain);
    if (opts->role && opts->role != role)
        return trail(CUE_ENOSYS, "%s: receivers listen (role 1) and senders dial (role 2), the reverse is not built in", url->plain);
    if (opts->depth > 1u << 20)
        return trail(CUE_EINVAL, "%s: a depth of %u; at most %u", url->plain, opts->depth, 1u << 20);
    if (opts->max > SOCKET_MAX_EVER)
        return trail(CUE_ETOOBIG, "%s: max=%llu; at most %d on sockets", url->plain, (unsigned long long)opts->max, SOCKET_MAX_EVER);
    return 0;
}

static int open_pool(const cue_channel_opts *opts, cue_pool **out)
{
    const char *name = opts->pool ? opts->pool->name : secure_getenv("CUE_POOL");
    if (opts->pool && !*name)
        return trail(CUE_ENOSYS, "a socket's pool must have a name");
    return cue_pool_open(name && *name ? name : "cue", &(cue_pool_opts){ .flags = opts->pool ? CUE_ATTACH : 0 }, out);
}

static void socket_limits(nng_socket sock, size_t largest)
{
    /* what a scheme does not know it refuses (inproc has no sizes): that is fine */
    nng_socket_set_ms(sock, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
    nng_socket_set_ms(sock, NNG_OPT_RECONNMAXT, RECONNECT_MAX_MS);
    nng_socket_set_int(sock, NNG_OPT_RECVBUF, PACKETS_BUFFERED);
    nng_socket_set_int(sock, NNG_OPT_SENDBUF, PACKETS_BUFFERED);
    nng_socket_set_size(sock, NNG_OPT_RECVMAXSZ, largest);
}

int socket_make(void *owner, bool receiver, size_t largest, nng_pipe_cb on_pipe, struct tie **out)
{
    nng_socket sock;
    int failed = receiver ? nng_pair1_open_poly(&sock) : nng_pair1_open(&sock);
    if (failed)
        return failed;
    struct tie *tie = tie_make(sock, owner);
    if (!tie) {
        nng_close(sock); /* it has nothing that might keep it */
        return NNG_ENOMEM;
    }
    socket_limits(sock, largest);
    for (int event = NNG_PIPE_EV_ADD_PRE; !failed && event < NNG_PIPE_EV_NUM; event++)
        failed = nng_pipe_notify(sock, (nng_pipe_ev)event, on_pipe, tie);
    if (failed)
        tie_close(tie);
    else
        *out = tie;
    return failed;
}

static pid_t begun_in;

static void nng_begin(void)
{
    begun_in = getpid();
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    nng_pipe_socket((nng_pipe)NNG_PIPE_INITIALIZER); /* of none: it only starts NNG */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

int nng_channel_open(const struct channel_url *url, unsigned how, const cue_channel_opts *opts, cue_channel **out)
{
    static pthread_once_t begun = PTHREAD_ONCE_INIT;
    *out = NULL;
    int status = check_opts(url, how, opts);
    if (status)
        return status;
    pthread_once(&begun, nng_begin);
    if (begun_in != getpid())
        return trail(CUE_EFORK, "%s: the process was forked when NNG had begun to work in it: exec, or open sockets after fork only",
                     url->plain);
    bool receiver = how == CUE_RECV;
    struct socket_lane *lane = calloc(1, receiver ? receiver_bytes : sender_bytes);
    if (!lane)
        return trail(CUE_ENOMEM, "%s: no memory", url->plain);
    lane->base.ops = receiver ? &receiver_ops : &sender_ops;
    lane->max = opts->max ? opts->max : SOCKET_MAX_DEFAULT;
    lane->id = random_u64();
    lane->type = opts->type;
    status = socket_address(lane, url);
    if (!status)
        status = peer_options(lane, url, opts);
    if (!status)
        status = tls_load(lane, url, opts, receiver);
    if (!status)
        status = open_pool(opts, &lane->base.pool);
    if (!status) {
        sigset_t all, before; /* a thread of ours starts below */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        status = receiver ? receiver_open(lane, opts) : sender_open(lane, opts);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (status) {
        if (lane->base.pool)
            cue_pool_close(lane->base.pool);
        tls_unload(lane);
        free(lane);
        return status;
    }
    socket_opened(lane);
    *out = &lane->base;
    return 0;
}
