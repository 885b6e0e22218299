/* Where a socket is: from ipc://PATH, ipc://NAME, ipc://@NAME, tcp://HOST:PORT, tls+tcp://HOST:PORT, ws://HOST:PORT/PATH,
 * inproc://NAME to what NNG takes.
 *
 * A name without a slash lies in the folder for sockets: $CUE_DIR, else $XDG_RUNTIME_DIR/cuelight, else /tmp/cuelight-UID. It is
 * made with mode 0700, and refused if it belongs to another user or others may write to it: who may replace a socket's file may
 * listen in the service's place.
 */
#include "nng_internal.h"

#include "base/futex.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { LOOK_MS = 500, LOOK_NS = LOOK_MS * 1000000 };

static int socket_folder(char *folder, size_t room)
{
    const char *given = secure_getenv("CUE_DIR"), *runtime = secure_getenv("XDG_RUNTIME_DIR");
    int length = given && *given       ? snprintf(folder, room, "%s", given)
                 : runtime && *runtime ? snprintf(folder, room, "%s/cuelight", runtime)
                                       : snprintf(folder, room, "/tmp/cuelight-%u", (unsigned)geteuid());
    if (length < 0 || (size_t)length >= room)
        return trail(CUE_EINVAL, "the folder for sockets has too long a path: %s", folder);
    if (mkdir(folder, 0700) < 0 && errno != EEXIST)
        return trail_errno("mkdir %s, the folder for sockets", folder);
    struct stat st;
    if (lstat(folder, &st) < 0)
        return trail_errno("lstat %s, the folder for sockets", folder);
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || st.st_mode & 022)
        return trail(CUE_EPERM, "%s, the folder for sockets, must be a folder of ours that only we may write to", folder);
    return 0;
}

static int ipc_address(struct socket_lane *lane, const char *where)
{
    char folder[SOCKET_PATH_MAX] = "";
    int length, status = 0;
    if (*where == '@') {
        if (!where[1] || strpbrk(where, "%/"))
            return trail(CUE_EINVAL, "ipc://%s: an abstract name has at least one character and no %% and no /", where);
        length = snprintf(lane->path + 1, sizeof lane->path - 1, "%s", where + 1);
        snprintf(lane->url, sizeof lane->url, "abstract://%s", where + 1);
        return length < (int)sizeof lane->path - 1 ? 0 : trail(CUE_EINVAL, "ipc://%s: longer than the kernel's 107 bytes", where);
    }
    if (*where == '/') {
        length = snprintf(lane->path, sizeof lane->path, "%s", where);
    } else {
        if (strchr(where, '/') || !*where)
            return trail(CUE_EINVAL, "ipc://%s: give a path from / on, a name without /, or @ABSTRACT", where);
        status = socket_folder(folder, sizeof folder);
        length = status ? 0 : snprintf(lane->path, sizeof lane->path, "%s/%s", folder, where);
    }
    if (!status && length >= (int)sizeof lane->path)
        return trail(CUE_EINVAL, "ipc://%s: the socket's path is longer than the kernel's %d bytes", where, SOCKET_PATH_MAX - 1);
    if (!status)
        snprintf(lane->url, sizeof lane->url, "ipc://%s", lane->path);
    return status;
}

int socket_address(struct socket_lane *lane, const struct channel_url *url)
{
    const char *port;
    lane->scheme = url->scheme;
    switch (url->scheme) {
    case SCHEME_IPC:
        return ipc_address(lane, url->where);
    case SCHEME_TCP:
    case SCHEME_TLS_TCP:
    case SCHEME_WS:
        if (!(port = memrchr(url->where, ':', strcspn(url->where, "/"))))
            return trail(CUE_EINVAL, "%s: HOST:PORT must follow ://", url->plain);
        if (port[1] == '0' && (!port[2] || port[2] == '/'))
            return trail(CUE_EINVAL, "%s: say which port; nobody would know what 0 has become", url->plain);
        break;
    default:
        break;
    }
    snprintf(lane->url, sizeof lane->url, "%s", url->plain);
    return 0;
}

/* ---- does somebody listen there? ---- */

/* A socket of another type is told whether one of NNG's is bound there, and never becomes a connection: that harms its listener, see
 * guard.c. */
static bool ipc_listened(const struct socket_lane *lane)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = lane->path[0] ? strlen(lane->path) + 1 : 1 + strlen(lane->path + 1);
    memcpy(address.sun_path, lane->path, sizeof lane->path);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    int refused = connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0 ? errno : 0;
    close(fd);
    return refused == EPROTOTYPE;
}

static bool connects(const struct addrinfo *to)
{
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), failed = 0;
    socklen_t size = sizeof failed;
    if (fd < 0)
        return false;
    bool answered = connect(fd, to->ai_addr, to->ai_addrlen) == 0 ||
                    (errno == EINPROGRESS && poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, LOOK_MS) > 0);
    answered = answered && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) == 0 && !failed;
    close(fd);
    return answered;
}

/* The system has no bound for it, and close waits for who waits here. So a thread of its own looks up a name, one at a time; the last who
 * has to do with a look-up frees it. */
struct lookup {
    char name[URL_WHERE_MAX + SOCKET_PATH_MAX], port[URL_WHERE_MAX + SOCKET_PATH_MAX];
    struct addrinfo *found;
    _Atomic uint32_t state; /* a futex: who waits makes it LEFT, the thread DONE; who finds the other's word is last */
};
enum { LOOKING, DONE, LEFT };
static _Atomic bool looking;

static void lookup_free(struct lookup *of)
{
    if (of->found)
        freeaddrinfo(of->found);
    free(of);
}

static void *look_up(void *arg)
{
    struct lookup *of = arg;
    if (getaddrinfo(of->name, of->port, &(struct addrinfo){ .ai_socktype = SOCK_STREAM }, &of->found))
        of->found = NULL;
    atomic_store_explicit(&looking, false, relaxed);                   /* only bounds how many there are */
    if (atomic_exchange_explicit(&of->state, DONE, acq_rel) == LEFT) { /* pairs with: name_listened */
        lookup_free(of);
        return NULL;
    }
    futex_wake(&of->state, 1); /* of an address: it may be freed already */
    return NULL;
}

static bool any_connects(const struct addrinfo *all)
{
    for (; all; all = all->ai_next)
        if (connects(all))
            return true;
    return false;
}

static bool name_listened(const char *name, const char *port)
{
    struct lookup *of = calloc(1, sizeof *of);
    if (!of || atomic_exchange_explicit(&looking, true, relaxed)) {
        free(of);
        return false; /* as far as is known; it is asked again */
    }
    snprintf(of->name, sizeof of->name, "%s", name);
    snprintf(of->port, sizeof of->port, "%s", port);
    if (!thread_start(look_up, of)) {
        atomic_store_explicit(&looking, false, relaxed);
        free(of);
        return false;
    }
    futex_wait(&of->state, LOOKING, LOOK_NS);
    if (atomic_exchange_explicit(&of->state, LEFT, acq_rel) == LOOKING) /* pairs with: look_up */
        return false;
    bool found = any_connects(of->found);
    lookup_free(of);
    return found;
}

static bool tcp_listened(const struct socket_lane *lane)
{
    char host[sizeof lane->url];
    struct addrinfo *all, hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM };
    const char *begin = strstr(lane->url, "://") + 3;
    snprintf(host, sizeof host, "%.*s", (int)strcspn(begin, "/"), begin);
    char *port = strrchr(host, ':'), *name = host;
    *port++ = 0;
    if (*name == '[') { /* IPv6 */
        name++;
        name[strcspn(name, "]")] = 0;
    }
    if (getaddrinfo(name, port, &hints, &all))
        return name_listened(name, port);
    bool found = any_connects(all);
    freeaddrinfo(all);
    return found;
}

bool socket_listened(const struct socket_lane *lane)
{
    return lane->scheme == SCHEME_INPROC || (lane->scheme == SCHEME_IPC ? ipc_listened(lane) : tcp_listened(lane));
}
