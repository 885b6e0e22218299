/* Handing a pool over: its descriptor over a Unix socket, with a look at who is at the other end.
 *
 * A pool without a name is known to whoever has its descriptor; SCM_RIGHTS carries it. Whoever gets it can read and write all of the
 * pool, and whoever takes one believes its bytes. So both sides ask the kernel who the other is (SO_PEERCRED: who connected, or made
 * the socket pair): the same user or root, or else the caller must have said that others are meant, as when a pool of another user is
 * opened. A descriptor that is no pool, or of another pool than the message says, is refused, as a pool is at open.
 */
#include "pool_private.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define HANDOVER_MAGIC UINT64_C(0x31726576646e6168) /* "handver1" */

struct handover {
    uint64_t magic, uid;
};

static int peer_check(int socket, bool others)
{
    struct ucred who;
    socklen_t size = sizeof who;
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    if (getsockname(socket, (struct sockaddr *)&name, &length) || name.sun_family != AF_UNIX)
        return trail(CUE_EINVAL, "descriptor %d is no Unix socket: a pool is handed over through one", socket);
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) || who.pid == 0)
        return trail(CUE_EINVAL, "Unix socket %d is not connected: nobody can say who is at its other end", socket);
    if (who.uid == geteuid() || who.uid == 0 || geteuid() == 0 || others)
        return 0;
    return trail(CUE_EPERM, "at the other end of socket %d is user %u (pid %d), not user %u", socket, (unsigned)who.uid, (int)who.pid,
                 (unsigned)geteuid());
}

int cue_pool_hand(cue_pool *pool, int socket)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct stat info;
    int status = pool_enter(pool);
    if (status)
        return status;
    if (!pool_descriptor_good(pool)) /* the other side must not get another file of ours */
        return pool_descriptor_lost(pool);
    if (fstat(pool->fd, &info))
        return trail_errno("cannot look at the object of pool %s", pool->name);
    status = peer_check(socket, info.st_mode & 066);
    if (status)
        return status;
    struct handover what = { HANDOVER_MAGIC, pool->uid };
    struct iovec part = { &what, sizeof what };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    memset(&control, 0, sizeof control);
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
    memcpy(CMSG_DATA(rights), &pool->fd, sizeof pool->fd);
    ssize_t sent;
    do
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == sizeof what ? 0 : trail_errno("cannot hand pool %s over through socket %d", pool->name, socket);
}

/* All descriptors of a message: ours is the first, others are closed. */
static int descriptor_of(struct msghdr *message)
{
    int first = -1;
    for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
        if (at->cmsg_level != SOL_SOCKET || at->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t n = 0; n < (at->cmsg_len - CMSG_LEN(0)) / sizeof(int); n++) {
            int fd;
            memcpy(&fd, CMSG_DATA(at) + n * sizeof fd, sizeof fd);
            if (first < 0)
                first = fd;
            else
                close(fd);
        }
    }
    return first;
}

static int handover_read(int socket, struct handover *what, int *fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct iovec part = { what, sizeof *what };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0)
        return errno == EINTR ? CUE_EINTR : errno == EAGAIN ? CUE_EEMPTY : trail_errno("cannot take a pool from socket %d", socket);
    *fd = descriptor_of(&message);
    if (got == 0)
        return trail(CUE_ECLOSED, "socket %d was closed at its other end", socket);
    if (got == sizeof *what && what->magic == HANDOVER_MAGIC && *fd >= 0)
        return 0;
    return trail(CUE_ECORRUPT, "what came through socket %d is no pool%s", socket, *fd < 0 ? ": there is no descriptor with it" : "");
}

static int handover_wait(int socket, int64_t deadline)
{
    for (;;) {
        int64_t left = deadline == INT64_MAX ? -1 : deadline ? deadline - clock_ns() : 0;
        if (deadline != INT64_MAX && left < 0)
            left = 0;
        struct pollfd wanted = { .fd = socket, .events = POLLIN };
        int ready = poll(&wanted, 1, left < 0 ? -1 : left / 1000000 > 1000000 ? 1000000 : (int)((left + 999999) / 1000000));
        if (ready > 0)
            return 0;
        if (ready < 0)
            return errno == EINTR ? CUE_EINTR : trail_errno("cannot wait on socket %d", socket);
        if (deadline != INT64_MAX && deadline <= clock_ns())
            return CUE_EEMPTY;
    }
}

int cue_pool_take(int socket, const cue_pool_opts *opts, cue_time wait, cue_pool **out)
{
    struct handover what = { 0 };
    int fd = -1, saved = errno;
    if (!out)
        return trail(CUE_EINVAL, "cue_pool_take: no place for the result");
    *out = NULL;
    if (opts && (opts->fd || opts->file || opts->flags & ~(unsigned)CUE_READ_ONLY))
        return trail(CUE_EINVAL, "cue_pool_take: of the options only CUE_READ_ONLY, mode, quota and label make sense");
    cue_pool_opts with = opts ? *opts : (cue_pool_opts){ 0 };
    int status = peer_check(socket, with.mode & 066);
    if (!status)
        status = handover_wait(socket, deadline_of(wait));
    if (!status)
        status = handover_read(socket, &what, &fd);
    if (!status) {
        with.fd = fd; /* never 0 to 2 unless the caller has closed those: then it is moved up */
        if (fd == 0)
            with.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        status = cue_pool_open(NULL, &with, out);
        if (with.fd != fd)
            close(with.fd);
    }
    if (!status && (*out)->uid != what.uid) {
        status = trail(CUE_ECORRUPT, "the descriptor that came through socket %d is of another pool than was said", socket);
        cue_pool_close(*out);
        *out = NULL;
    }
    if (fd >= 0)
        close(fd);
    errno = saved;
    return status;
}
