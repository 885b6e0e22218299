/* Listening, and the guard of NNG's ipc listener.
 *
 * Before 1.6 a listener of NNG stops for good when a client goes away while it shakes hands (nanomsg/nng#1518): connections are
 * still accepted and greeted, so clients believe that they are connected, but no pipe is ever made of them. Existing pipes go
 * on, and nothing tells of it. The cure is to close the listener and make it anew; that closes its pipes, and their senders
 * connect again and send what was not acknowledged.
 *
 * The guard looks at this process's own descriptors, ten times a second: sockets with the listener's address that are connected are
 * more than NNG has pipes, and one of them has had bytes to read since the last look (every client of ours sends a hello at
 * once; one that is still shaking hands has none). Then the listener is stuck. NNG does not give the stuck connections back, so they are
 * remembered by their inode and not counted again.
 */
#include "nng_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { LOST_MAX = 1024 };

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

struct guard {
    struct socket_lane *lane;
    const _Atomic int32_t *pipes;
    struct tie *tie;
    bool listening;
    ino_t suspect;        /* a connection that had bytes to read at the last look, 0: none */
    ino_t lost[LOST_MAX]; /* connections that NNG has forgotten */
    unsigned nlost;
};

int socket_listen(struct socket_lane *lane, struct tie *tie)
{
    nng_listener *out = &tie->listener;
    int failed = nng_listener_create(out, tie->sock, lane->url);
    if (failed)
        return nng_trail(failed, "%s: listen", lane->url);
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

static bool is_lost(const struct guard *g, ino_t inode)
{
    for (unsigned i = 0; i < g->nlost; i++)
        if (g->lost[i] == inode)
            return true;
    return false;
}

/* Whether `fd` is a connection that was accepted at the lane's address. */
static bool is_accepted(const struct socket_lane *lane, int fd)
{
    struct sockaddr_un address;
    socklen_t size = sizeof address, flag_size = sizeof(int);
    int listens = 1;
    memset(&address, 0, sizeof address);
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0 || address.sun_family != AF_UNIX ||
        memcmp(address.sun_path, lane->path, sizeof address.sun_path))
        return false;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_size) == 0 && !listens;
}

/* Calls back with each such connection that is not lost; how many. (fstat() would be the same, but the thread sanitizer fails in
 * its own report when NNG closes a descriptor that was given to it.) */
static int connections(struct guard *g, void (*visit)(struct guard *g, int fd, ino_t inode, void *arg), void *arg)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        int fd = atoi(entry->d_name);
        struct stat st;
        if (entry->d_name[0] == '.' || !is_accepted(g->lane, fd) || fstatat(fd, "", &st, AT_EMPTY_PATH) < 0 || is_lost(g, st.st_ino))
            continue;
        count++;
        visit(g, fd, st.st_ino, arg);
    }
    if (folder)
        closedir(folder);
    return count;
}

struct look {
    ino_t unread; /* one that has bytes to read */
    bool same;    /* the suspect of the last look is still there with bytes to read */
};

static void look_at(struct guard *g, int fd, ino_t inode, void *arg)
{
    struct look *look = arg;
    int waiting = 0;
    if (ioctl(fd, FIONREAD, &waiting) < 0 || waiting <= 0)
        return;
    look->unread = inode;
    look->same = look->same || inode == g->suspect;
}

static void remember(struct guard *g, int fd, ino_t inode, void *arg)
{
    (void)fd;
    (void)arg;
    if (g->nlost < LOST_MAX)
        g->lost[g->nlost++] = inode;
}

bool guard_stuck(struct guard *g)
{
    if (!g->listening)
        return true;
    struct look look = { 0 };
    int sockets = connections(g, look_at, &look);
    bool more = sockets > atomic_load_explicit(g->pipes, memory_order_relaxed); /* two looks agree before anything is done */
    bool stuck = more && look.same;
    g->suspect = more ? look.unread : 0;
    return stuck;
}

void guard_heal(struct guard *g)
{
    g->suspect = 0;
    if (g->listening) {
        nng_listener_close(g->tie->listener);
        g->listening = false;
    }
    for (int i = 0; i < 50 && atomic_load_explicit(g->pipes, memory_order_relaxed); i++) /* it closes its pipes behind our back */
        poll(NULL, 0, 2);
    connections(g, remember, NULL);
    g->listening = socket_listen(g->lane, g->tie) == 0; /* else at the next look */
}

int guard_make(struct socket_lane *lane, const _Atomic int32_t *pipes, struct tie *tie, struct guard **out)
{
    struct guard *g = calloc(1, sizeof *g);
    if (!g)
        return trail(CUE_ENOMEM, "%s: no memory", lane->url);
    g->lane = lane;
    g->pipes = pipes;
    g->tie = tie;
    g->listening = true;
    *out = g;
    return 0;
}
