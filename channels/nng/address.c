/* Where a socket is: from ipc://PATH, ipc://NAME, ipc://@NAME, tcp://HOST:PORT, tls+tcp://HOST:PORT, ws://HOST:PORT/PATH,
 * inproc://NAME to what NNG takes.
 *
 * A name without a slash lies in the folder for sockets: $CUE_DIR, else $XDG_RUNTIME_DIR/cuelight, else /tmp/cuelight-UID. It is
 * made with mode 0700, and refused if it belongs to another user or others may write to it: who may replace a socket's file may
 * listen in the service's place.
 */
#include "nng_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    lane->scheme = url->scheme;
    switch (url->scheme) {
    case SCHEME_IPC:
        return ipc_address(lane, url->where);
    case SCHEME_TCP:
    case SCHEME_TLS_TCP:
    case SCHEME_WS:
        if (!strrchr(url->where, ':'))
            return trail(CUE_EINVAL, "%s: HOST:PORT must follow ://", url->plain);
        break;
    default:
        break;
    }
    snprintf(lane->url, sizeof lane->url, "%s", url->plain);
    return 0;
}
