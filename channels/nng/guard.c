/* Listening, and the guard of NNG's listeners.
 *
 * Before 1.6 a listener of NNG stops for good when a client goes away while it shakes hands and the kernel says EPIPE of it
 * (nanomsg/nng#1518; ipc, tcp, tls+tcp): connections are still accepted and greeted, so clients believe that they are connected, but no
 * pipe is ever made of them. Existing pipes go on, and nothing tells of it. (NNG's statistics count such errors, but to read them is not
 * safe while connections end: nanomsg/nng#2335.) The cure is to close the listener and make it anew; that closes its pipes, and their
 * senders connect again and send what was not acknowledged.
 *
 * The guard looks at this process's own descriptors, three times a second, and ten times while it has a suspicion. The listener is
 * stuck when NNG makes no pipe any more, though more of the connections that were accepted at its address are done with shaking hands
 * than it has pipes. Every client of ours sends a hello at once, and so:
 *
 *   ipc, tcp    there are more connections than pipes at all, and one of them that never was a pipe's has bytes to read at LOOKS looks
 *               running. NNG reads the greeting and no more before it makes a pipe; one that is still shaking hands has nothing to read.
 *   tls+tcp     NNG reads ahead, so nothing is left to read. Those count that are open and have sent as much as a client with a
 *               certificate sends at least, and they are more than the pipes at TLS_LOOKS looks running: a handshake that goes well is
 *               over by then.
 *
 * Whose connection is whose NNG does not say. While there are as many connections as pipes, each is one: those are KNOWN. NNG does not give
 * all the stuck connections back, so those that are there when it was healed are LOST, and not counted again; pipes of a former listener,
 * of which NNG may never tell the end, are not counted either. A stranger can make it heal for nothing, at the price for which he can
 * stop the listener.
 */
#include "nng_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    REST_MS = 300,
    SUSPICIOUS_MS = 100,
    INODES_MAX = CONNECTIONS_MAX,
    LOOKS = 2,
    TLS_LOOKS = 10,
    ESTABLISHED = 1,       /* as the kernel counts a connection's states */
    TLS_CLIENT_BYTES = 500 /* for a hello, a certificate, a signature and what ends them */
};

/* Told to the sanitizers: the guard looks at descriptors that NNG's threads make and close meanwhile, and knows it; and what NNG
 * has forgotten it has lost. */
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:guard_stuck\nrace:guard_heal\n";
}
const char *__lsan_default_suppressions(void)
{
    return "leak:libnng\n";
}
#endif

struct inodes {
    ino_t at[INODES_MAX];
    unsigned n;
};

struct guard {
    struct socket_lane *lane;
    struct tie *tie;
    struct accepted *accepted;
    bool listening;
    int port;             /* tcp, tls+tcp; 0: ipc */
    nng_sockaddr address; /* the same; of no family: any */
    ino_t suspect;        /* ipc, tcp: a connection that had bytes to read at the last look, 0: none */
    int looks;            /* that saw more connections than pipes, running, and of ipc and tcp the same suspect */
    uint32_t made;        /* accepted->made at the last look */
    struct inodes known;  /* connections that NNG has pipes of */
    struct inodes lost;   /* connections that NNG has forgotten */
};

int socket_listen(struct socket_lane *lane, struct tie *tie, struct accepted *accepted)
{
    nng_listener *out = &tie->listener;
    int failed = nng_listener_create(out, tie->sock, lane->url);
    if (failed)
        return nng_trail(failed, "%s: listen", lane->url);
    atomic_store_explicit(&accepted->pipes, 0, relaxed);
    atomic_store_explicit(&accepted->by, (uint32_t)out->id, relaxed); /* its callbacks come later; those of the last one count no more */
    if (lane->scheme == SCHEME_IPC && lane->path[0] &&
        (failed = nng_listener_set_int(*out, NNG_OPT_IPC_PERMISSIONS, lane->nusers || lane->any_user ? 0666 : 0600))) {
        nng_listener_close(*out);
        return nng_trail(failed, "%s: permissions", lane->url);
    }
    if (lane->tls && (failed = tls_listener(lane, *out))) {
        nng_listener_close(*out);
        return nng_trail(failed, "%s: TLS", lane->url);
    }
    if ((failed = nng_listener_start(*out, 0))) {
        nng_listener_close(*out);
        return nng_trail(failed, failed == NNG_EADDRINUSE ? "%s: somebody who lives listens there" : "%s: listen", lane->url);
    }
    return 0;
}

static bool is_among(const struct inodes *inodes, ino_t inode)
{
    for (unsigned i = 0; i < inodes->n; i++)
        if (inodes->at[i] == inode)
            return true;
    return false;
}

static bool is_there(const struct guard *g, const struct sockaddr_storage *at)
{
    const struct sockaddr_in *in = (const struct sockaddr_in *)at;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)at;
    switch (at->ss_family) {
    case AF_UNIX:
        return !g->port && memcmp(((const struct sockaddr_un *)at)->sun_path, g->lane->path, sizeof g->lane->path) == 0;
    case AF_INET:
        return ntohs(in->sin_port) == g->port && (g->address.s_family != NNG_AF_INET || in->sin_addr.s_addr == g->address.s_in.sa_addr);
    case AF_INET6:
        return ntohs(in6->sin6_port) == g->port &&
               (g->address.s_family != NNG_AF_INET6 || memcmp(&in6->sin6_addr, g->address.s_in6.sa_addr, sizeof in6->sin6_addr) == 0);
    default:
        return false;
    }
}

/* Whether `fd` is a connection that was accepted at the lane's address. */
static bool is_accepted(const struct guard *g, int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address, flag_size = sizeof(int);
    int listens = 1, type = 0;
    memset(&address, 0, sizeof address);
    return getsockname(fd, (struct sockaddr *)&address, &size) == 0 && is_there(g, &address) &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &flag_size) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_size) == 0 && !listens;
}

/* Calls back with each such connection that is not lost. (fstat() would be the same, but the thread sanitizer fails in its own report
 * when NNG closes a descriptor that was given to it.) */
static void connections(struct guard *g, void (*visit)(struct guard *g, int fd, ino_t inode, void *arg), void *arg)
{
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        int fd = atoi(entry->d_name);
        struct stat st;
        if (entry->d_name[0] != '.' && is_accepted(g, fd) && fstatat(fd, "", &st, AT_EMPTY_PATH) == 0 && !is_among(&g->lost, st.st_ino))
            visit(g, fd, st.st_ino, arg);
    }
    if (folder)
        closedir(folder);
}

struct look {
    int connections; /* as far as they count */
    ino_t unread;    /* one that has bytes to read, the suspect if it has */
};

static void look_at(struct guard *g, int fd, ino_t inode, void *arg)
{
    struct look *look = arg;
    int waiting = 0;
    look->connections++;
    if (!is_among(&g->known, inode) && ioctl(fd, FIONREAD, &waiting) == 0 && waiting > 0 && (!look->unread || look->unread != g->suspect))
        look->unread = inode;
}

static void look_at_tls(struct guard *g, int fd, ino_t inode, void *arg)
{
    struct look *look = arg;
    struct tcp_info info = { 0 };
    socklen_t size = sizeof info;
    (void)g;
    (void)inode;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == ESTABLISHED &&
        info.tcpi_bytes_received >= TLS_CLIENT_BYTES)
        look->connections++;
}

static void remember(struct guard *g, int fd, ino_t inode, void *arg)
{
    struct inodes *inodes = arg;
    (void)g;
    (void)fd;
    if (inodes->n < INODES_MAX)
        inodes->at[inodes->n++] = inode;
}

bool guard_stuck(struct guard *g)
{
    if (!g->listening)
        return true;
    struct look look = { 0 };
    bool tls = g->lane->scheme == SCHEME_TLS_TCP;
    uint32_t made = atomic_load_explicit(&g->accepted->made, relaxed);
    int32_t pipes = atomic_load_explicit(&g->accepted->pipes, relaxed); /* several looks agree before anything is done */
    connections(g, tls ? look_at_tls : look_at, &look);
    if (!tls && look.connections == pipes && made != g->made) {
        g->known.n = 0;
        connections(g, remember, &g->known);
    }
    bool same = made == g->made && look.connections > pipes && (tls || (look.unread && (look.unread == g->suspect || !g->looks)));
    g->looks = same ? g->looks + 1 : 0;
    g->suspect = same ? look.unread : 0;
    g->made = made;
    return g->looks >= (tls ? TLS_LOOKS : LOOKS);
}

int guard_rest_ms(const struct guard *g)
{
    return !g->listening || g->looks ? SUSPICIOUS_MS : REST_MS;
}

void guard_heal(struct guard *g)
{
    g->suspect = 0;
    g->looks = 0;
    if (g->listening) {
        nng_listener_close(g->tie->listener);
        g->listening = false;
    }
    for (int i = 0; i < 50 && atomic_load_explicit(&g->accepted->pipes, relaxed); i++) /* it closes its pipes behind our back */
        poll(NULL, 0, 2);
    g->known.n = g->lost.n = 0; /* who was lost and is still there is again; an inode that is not may be another's by now */
    connections(g, remember, &g->lost);
    g->listening = socket_listen(g->lane, g->tie, g->accepted) == 0; /* else at the next look */
}

void guard_count(struct accepted *accepted, nng_pipe pipe, int32_t change)
{
    if ((uint32_t)nng_pipe_listener(pipe).id != atomic_load_explicit(&accepted->by, relaxed)) /* before it, there are no pipes of it */
        return;
    atomic_fetch_add_explicit(&accepted->pipes, change, relaxed); /* only counts */
    if (change > 0)
        atomic_fetch_add_explicit(&accepted->made, 1, relaxed);
}

bool guard_needed(enum scheme scheme)
{
    return nng_stops() && (scheme == SCHEME_IPC || scheme == SCHEME_TCP || scheme == SCHEME_TLS_TCP);
}

static bool is_wildcard(const nng_sockaddr *address)
{
    static const uint8_t any[16];
    return address->s_family == NNG_AF_INET ? address->s_in.sa_addr == INADDR_ANY : memcmp(address->s_in6.sa_addr, any, sizeof any) == 0;
}

int guard_make(struct socket_lane *lane, struct tie *tie, struct accepted *accepted, struct guard **out)
{
    struct guard *g = calloc(1, sizeof *g);
    if (!g)
        return trail(CUE_ENOMEM, "%s: no memory", lane->url);
    g->lane = lane;
    g->tie = tie;
    g->accepted = accepted;
    g->listening = true;
    int failed = lane->scheme == SCHEME_IPC ? 0 : nng_listener_get_int(tie->listener, NNG_OPT_TCP_BOUND_PORT, &g->port);
    if (failed) {
        free(g);
        return nng_trail(failed, "%s: the port", lane->url);
    }
    if (!g->port || nng_listener_get_addr(tie->listener, NNG_OPT_LOCADDR, &g->address) || is_wildcard(&g->address))
        g->address = (nng_sockaddr){ .s_family = NNG_AF_UNSPEC };
    *out = g;
    return 0;
}
