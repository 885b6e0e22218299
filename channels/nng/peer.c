/* Who is at the other end of a socket: what the kernel says of an ipc peer, TLS of its certificate, and TCP of its address.
 *
 * By default an ipc peer must be of our user, whichever end it is. `users` names others ("1000,1001", or "any"); then the socket's
 * file may be written to by all, and who connects is asked. Whoever a lane lets in, and is not of our user, cannot map a pool of
 * mode 0600 and gets payloads in chunks.
 *
 * A message says from which connection it came by a word in priv[3]: an entry in a ring of the last SEEN connections that this
 * process noted. Bit 0 is set: on shm lanes that word is an address.
 */
#include "nng_internal.h"

#include "base/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEEN = 4096 };

static struct {
    uint64_t number; /* of the note; 0: none */
    uint64_t lane, far;
    cue_peer who;
} seen[SEEN];
static uint64_t notes;
static pthread_mutex_t seen_lock = PTHREAD_MUTEX_INITIALIZER;

static int read_users(struct socket_lane *lane, const char *url, const char *text)
{
    if (strcmp(text, "any") == 0) {
        lane->any_user = true;
        return 0;
    }
    for (const char *at = text; *at;) {
        char *end;
        unsigned long uid = strtoul(at, &end, 10);
        if (end == at || (*end && *end != ',') || uid >= UINT32_MAX || *at < '0' || *at > '9')
            return trail(CUE_EINVAL, "%s: users=%s is neither any nor user ids with commas between", url, text);
        if (lane->nusers == USERS_MAX)
            return trail(CUE_ELIMIT, "%s: users=%s: at most %d users", url, text, USERS_MAX);
        lane->users[lane->nusers++] = (uid_t)uid;
        at = *end ? end + 1 : end;
    }
    return 0;
}

int peer_options(struct socket_lane *lane, const struct channel_url *url, const cue_channel_opts *opts)
{
    lane->admit = opts->admit;
    lane->admit_arg = opts->arg;
    if (!opts->users || !*opts->users)
        return 0;
    if (lane->scheme != SCHEME_IPC)
        return trail(CUE_EINVAL, "%s: users is for ipc://, where the kernel says who connects", url->plain);
    return read_users(lane, url->plain, opts->users);
}

static void address_text(const nng_sockaddr *address, char *text, size_t room)
{
    const uint8_t *in = (const uint8_t *)&address->s_in.sa_addr;
    unsigned port = (unsigned)((address->s_in.sa_port & 0xff) << 8 | address->s_in.sa_port >> 8); /* it is big-endian */
    if (address->s_family == NNG_AF_INET)
        snprintf(text, room, "%u.%u.%u.%u:%u", in[0], in[1], in[2], in[3], port);
    else if (address->s_family == NNG_AF_INET6)
        snprintf(text, room, "IPv6");
}

static void peer_look(const struct socket_lane *lane, nng_pipe pipe, cue_peer *out)
{
    uint64_t word;
    nng_sockaddr address;
    memset(out, 0, sizeof *out);
    out->uid = out->gid = UINT32_MAX;
    switch (lane->scheme) {
    case SCHEME_IPC:
        if (nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_UID, &word) == 0) {
            out->uid = (uint32_t)word;
            out->verified = true;
        }
        if (nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_GID, &word) == 0)
            out->gid = (uint32_t)word;
        if (nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &word) == 0)
            out->pid = (int32_t)word;
        break;
    case SCHEME_INPROC:
        out->pid = (int32_t)getpid();
        out->uid = geteuid();
        out->gid = getegid();
        out->verified = true;
        break;
    default:
        if (lane->tls)
            nng_pipe_get_bool(pipe, NNG_OPT_TLS_VERIFIED, &out->verified);
        if (nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &address) == 0)
            address_text(&address, out->label, sizeof out->label);
    }
}

static bool user_admitted(const struct socket_lane *lane, uint32_t uid)
{
    if (lane->any_user || uid == UINT32_MAX || uid == geteuid()) /* UINT32_MAX: the kernel does not say */
        return true;
    for (unsigned i = 0; i < lane->nusers; i++)
        if (lane->users[i] == uid)
            return true;
    return false;
}

bool peer_admitted(const struct socket_lane *lane, nng_pipe pipe)
{
    cue_peer who;
    peer_look(lane, pipe, &who);
    if (lane->scheme == SCHEME_IPC && !user_admitted(lane, who.uid))
        return false;
    if (lane->tls && !who.verified)
        return false;
    return !lane->admit || lane->admit(lane->admit_arg, &who) >= 0;
}

/* A process that has ended; not one that nobody can see from here. */
static bool process_gone(int32_t pid)
{
    int fd = pid > 0 ? process_pidfd(pid) : -1;
    bool gone = fd < 0 ? pid > 0 && kill(pid, 0) < 0 && errno == ESRCH : poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) > 0;
    if (fd >= 0)
        close(fd);
    return gone;
}

bool peer_gone(const struct socket_lane *lane, nng_pipe pipe)
{
    nng_sockaddr address;
    uint64_t pid = 0;
    int failed = 0;
    if (nng_socket_id(nng_pipe_socket(pipe)) <= 0)
        return true;
    if (lane->scheme == SCHEME_IPC)
        return nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &pid) == 0 && process_gone((int32_t)pid);
    if (lane->scheme != SCHEME_INPROC)
        failed = nng_pipe_get_addr(pipe, NNG_OPT_REMADDR, &address); /* the kernel has none once the connection has ended */
    return failed && failed != NNG_ENOTSUP;
}

uint64_t peer_note(const struct socket_lane *lane, nng_pipe pipe, uint64_t host, uint32_t party, uint64_t far)
{
    cue_peer who;
    peer_look(lane, pipe, &who);
    who.host = host;
    who.party = party;
    pthread_mutex_lock(&seen_lock);
    uint64_t number = ++notes;
    seen[number % SEEN].number = number;
    seen[number % SEEN].who = who;
    seen[number % SEEN].lane = lane->id;
    seen[number % SEEN].far = far;
    pthread_mutex_unlock(&seen_lock);
    return number << 1 | 1;
}

bool peer_route(uint64_t word, uint64_t *lane, uint64_t *far)
{
    uint64_t number = word >> 1;
    pthread_mutex_lock(&seen_lock);
    bool known = seen[number % SEEN].number == number;
    *lane = seen[number % SEEN].lane;
    *far = seen[number % SEEN].far;
    pthread_mutex_unlock(&seen_lock);
    return known;
}

int cue_msg_peer(const cue_msg *m, cue_peer *out)
{
    if (!m || !out)
        return trail(CUE_EINVAL, "cue_msg_peer: %s is NULL", m ? "the result's place" : "the message");
    memset(out, 0, sizeof *out);
    if (!(m->priv[3] & 1))
        return trail(CUE_ENOSYS, "cue_msg_peer: only messages from sockets say who sent them");
    uint64_t number = m->priv[3] >> 1;
    pthread_mutex_lock(&seen_lock);
    bool known = seen[number % SEEN].number == number;
    if (known)
        *out = seen[number % SEEN].who;
    pthread_mutex_unlock(&seen_lock);
    return known ? 0 : trail(CUE_ESTALE, "cue_msg_peer: %d other connections came since", SEEN);
}
