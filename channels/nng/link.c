/* The connections of a sender: dialling, and dialling again when NNG does not.
 *
 * NNG dials again by itself, every RECONNECT_MAX_MS at most. There are three faults of its in which it does not:
 *
 * Its TLS may miss that a connection was reset in its first moments; what is sent goes nowhere then. So when a receiver does not answer
 * hellos the kernel is asked whether the connection has ended (peer_gone), and one that answers none of DEAF_HELLOS is dialled anew, at
 * growing distances: it may just not receive. It is given up as part.c says: the data connection, then, when the receiver has hung up or
 * nothing can come in any more, the back connection, and only then is dialled anew.
 *
 * Before 1.6 a dialer stops for good once a receiver has gone away while they were shaking hands, the same fault as its listeners'
 * (guard.c). So a dialer that has not connected for REDIAL_NS is made anew, on the same socket; then for twice as long, up to some
 * seconds: it may be shaking hands over a long way.
 *
 * Before 1.7 its reaper may hang (closer.c). Then the ends of connections are not told, dialers do not dial again, and what a dial or a
 * connection had open stays open for good. So, as long as it hangs: whether a connection has ended is asked of the kernel, and of what
 * the receiver said last (BYE); who has lost its connection leaves its socket behind and gets another; and it dials only when somebody
 * listens there, else a receiver that is away for a night would cost some descriptors a second. If somebody listens and no answer comes
 * of it, what is tried anew costs one or two descriptors, so it is tried at growing distances.
 */
#include "sender.h"

#include <poll.h>
#include <stdlib.h>

#define LOOK_NS (200 * INT64_C(1000000)) /* does NNG hang? while there is no connection */
#define LOOK_CONNECTED_NS (1000 * INT64_C(1000000))
#define PATIENCE_NS (2000 * INT64_C(1000000)) /* with a dial, when NNG hangs, doubled from time to time … */
#define PATIENCE_MOST_NS (64 * PATIENCE_NS)
#define BYE_NS (1000 * INT64_C(1000000))
#define SETTLE_NS (150 * INT64_C(1000000))

enum { NEVER_MS = 3600 * 1000, REDIAL_NS = 500 * 1000 * 1000, REDIAL_DOUBLINGS = 3, ASK_MS = 2000, DEAF_HELLOS = 10 };

static void link_changed(struct sender *s, struct link *link, nng_pipe pipe, nng_pipe_ev event)
{
    uint32_t id = (uint32_t)nng_pipe_id(pipe), gone = id;
    switch (event) {
    case NNG_PIPE_EV_ADD_PRE:
        if (!peer_admitted(&s->lane, pipe))
            nng_pipe_close(pipe);
        return;
    case NNG_PIPE_EV_ADD_POST:
        atomic_store_explicit(&link->pipe, id, release); /* pairs with: see_connection, back_announce */
        break;
    default:
        atomic_compare_exchange_strong_explicit(&link->pipe, &gone, 0, release, relaxed); /* the same */
        pulse();
    }
    pthread_mutex_lock(&s->pipe_lock);
    if (!s->ended)
        sender_poke(s);
    pthread_mutex_unlock(&s->pipe_lock);
}

static void on_data_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct tie *tie = arg;
    struct sender *s = tie_hold(tie);
    uint64_t pid = 0;
    if (!s)
        return;
    if (event == NNG_PIPE_EV_ADD_POST && s->lane.scheme == SCHEME_IPC && nng_pipe_get_uint64(pipe, NNG_OPT_IPC_PEER_PID, &pid) == 0)
        atomic_store_explicit(&s->peer_pid, (int32_t)pid, relaxed); /* for people */
    link_changed(s, &s->data, pipe, event);
    tie_release(tie);
}

static void on_back_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct tie *tie = arg;
    struct sender *s = tie_hold(tie);
    if (!s)
        return;
    link_changed(s, &s->back, pipe, event);
    tie_release(tie);
}

/* Dials, without waiting. */
static int dial(const struct sender *s, struct tie *tie)
{
    int failed = nng_dialer_create(&tie->dialer, tie->sock, s->lane.url);
    if (!failed && ((failed = tls_dialer(&s->lane, tie->dialer)) || (failed = nng_dialer_start(tie->dialer, NNG_FLAG_NONBLOCK))))
        nng_dialer_close(tie->dialer);
    return failed;
}

int link_open(struct sender *s, struct link *link)
{
    bool data = link == &s->data;
    struct tie *tie;
    int fd = -1, failed = socket_make(s, false, data ? WIRE_HEAD_MAX : packet_max(s->lane.max), data ? on_data_pipe : on_back_pipe, &tie);
    if (failed)
        return failed;
    if ((data && (failed = nng_socket_get_int(tie->sock, NNG_OPT_SENDFD, &fd))) || (!data && (failed = back_listen(s, tie->sock))) ||
        (failed = dial(s, tie))) {
        if (!data)
            back_deafen(s);
        tie_close(tie);
        return failed;
    }
    pthread_mutex_lock(&s->lock);
    link->tie = tie;
    link->sock = tie->sock;
    link->send_fd = fd;
    pthread_mutex_unlock(&s->lock);
    link->opened_at = clock_ns();
    link->hung = nng_hangs();
    return 0;
}

/* NNG's ws guards a dial by two locks: if it is given up when the answer to its request comes, it ends twice, and NNG the process. So
 * nothing new is dialled, and what is under way gets time to end; over a long way that may not do. True: it has connected. */
static bool dial_settles(struct sender *s, struct link *link)
{
    if (s->lane.scheme != SCHEME_WS || !link->tie)
        return false;
    nng_dialer_set_ms(link->tie->dialer, NNG_OPT_RECONNMINT, NEVER_MS); /* after the present rest, of RECONNECT_MAX_MS at most */
    for (int64_t end = clock_ns() + SETTLE_NS; !atomic_load_explicit(&link->pipe, relaxed) && clock_ns() < end;) /* a hint */
        poll(NULL, 0, 2);
    return atomic_load_explicit(&link->pipe, relaxed) != 0; /* the same */
}

/* Takes what a link has of NNG; NULL: nothing. */
static struct tie *link_take(struct sender *s, struct link *link)
{
    if (link == &s->back)
        back_deafen(s);
    pthread_mutex_lock(&s->lock);
    struct tie *tie = link->tie;
    link->tie = NULL;
    link->sock = (nng_socket)NNG_SOCKET_INITIALIZER; /* sending there is refused */
    link->send_fd = -1;
    if (link == &s->data)
        packet_forget(s);
    pthread_mutex_unlock(&s->lock);
    return tie;
}

void link_close(struct sender *s, struct link *link)
{
    dial_settles(s, link);
    struct tie *tie = link_take(s, link);
    if (tie)
        tie_close(tie);
}

static void link_leave(struct sender *s, struct link *link)
{
    dial_settles(s, link);
    struct tie *tie = link_take(s, link);
    if (tie)
        tie_leave(tie);
    atomic_store_explicit(&link->pipe, 0, release); /* no callback stores another; pairs with: see_connection */
}

/* A receiver that refuses our certificate, or we its: who sends is told. */
static void ask_why(struct sender *s)
{
    int refused = tls_ask(&s->lane, ASK_MS);
    pthread_mutex_lock(&s->lock);
    s->refused = refused;
    if (refused)
        tell_of_room(s);
    pthread_mutex_unlock(&s->lock);
}

/* NNG is well. */
static void redial(struct sender *s, struct link *link)
{
    if (link->tie && nng_stops()) {
        if (dial_settles(s, link)) {
            nng_dialer_set_ms(link->tie->dialer, NNG_OPT_RECONNMINT, RECONNECT_MIN_MS);
            return;
        }
        nng_dialer_close(link->tie->dialer);
        dial(s, link->tie); /* if it fails: at the next look, closing it again is refused */
    }
    if (!link->tie)
        link_open(s, link);
    if (s->lane.tls && link == &s->data)
        ask_why(s);
}

/* It hangs. */
static void renew(struct sender *s, struct link *link)
{
    if (!socket_listened(&s->lane)) {
        link_leave(s, link); /* what dials costs descriptors */
        link->patience = 0;
        return;
    }
    int64_t since = clock_ns() - link->opened_at;
    if (link->tie && link->hung && since < link->patience)
        return; /* it dials */
    link->patience = link->patience < PATIENCE_NS ? PATIENCE_NS : link->patience < PATIENCE_MOST_NS ? 2 * link->patience : link->patience;
    link_leave(s, link);
    link_open(s, link);
}

/* And NNG does not tell. */
static bool ended(struct sender *s, struct link *link, uint32_t pipe, bool hangs)
{
    if (peer_gone(&s->lane, (nng_pipe){ .id = pipe }))
        return true;
    pthread_mutex_lock(&s->lock);
    bool bye = hangs && s->bye_at && clock_ns() - s->bye_at > BYE_NS && (link == &s->back || s->known_pipe == pipe);
    bool may_be_deaf = hangs || s->lane.tls || s->lane.scheme == SCHEME_WS;
    bool deaf = s->hellos > DEAF_HELLOS && !s->welcome && may_be_deaf; /* one that was welcome was heard: it may be slow */
    deaf = deaf && (hangs || link == &s->data);                        /* the back connection goes with it */
    deaf = deaf && clock_ns() > s->hello_due - HELLO_AGAIN_NS / 2;     /* what is just being sent may hang NNG, see closer.c */
    pthread_mutex_unlock(&s->lock);
    if (!deaf || clock_ns() - link->opened_at < link->deaf)
        return bye;
    link->deaf = link->deaf < PATIENCE_NS ? PATIENCE_NS : link->deaf < PATIENCE_MOST_NS ? 2 * link->deaf : link->deaf;
    return true;
}

static bool is_welcome(struct sender *s)
{
    pthread_mutex_lock(&s->lock);
    bool welcome = s->welcome;
    pthread_mutex_unlock(&s->lock);
    return welcome;
}

/* Of the back connection, when the data connection was given up. */
static void begin_to_part(struct sender *s)
{
    s->back.parts = atomic_load_explicit(&s->back.pipe, relaxed); /* a hint */
    s->back.part_by = s->back.parts ? clock_ns() + PART_NS : 0;
}

bool link_parts(struct sender *s)
{
    struct link *back = &s->back;
    if (!back->part_by)
        return false;
    bool connected = atomic_load_explicit(&back->pipe, acquire) == back->parts; /* pairs with: link_changed */
    if (connected && clock_ns() < back->part_by && !nng_hangs())
        return true;
    back->part_by = 0;
    if (connected) {
        link_leave(s, back);
        back->redial_at = clock_ns();
    }
    return false;
}

int64_t link_look_after(struct sender *s, struct link *link, bool unanswered)
{
    uint32_t pipe = atomic_load_explicit(&link->pipe, relaxed); /* a hint */
    bool hangs = nng_hangs();
    if (pipe && ((!hangs && !unanswered) || !ended(s, link, pipe, hangs))) {
        link->redial_at = link->patience = 0;
        link->redials = 0;
        link->deaf = is_welcome(s) ? 0 : link->deaf;
        return unanswered ? HELLO_AGAIN_NS / 2 : LOOK_CONNECTED_NS;
    }
    int64_t now = clock_ns();
    pulse();
    if (pipe) {
        link_leave(s, link);
        link->redial_at = now;
        if (link == &s->data && !hangs)
            begin_to_part(s);
        if (s->back.part_by)
            return 0;
    } else if (!link->redial_at) {
        link->redial_at = now + REDIAL_NS;
    }
    if (now >= link->redial_at || (hangs && link->tie && !link->hung)) {
        hangs ? renew(s, link) : redial(s, link);
        link->redial_at = clock_ns() + ((int64_t)REDIAL_NS << (hangs ? 0 : link->redials));
        link->redials += link->redials < REDIAL_DOUBLINGS;
    }
    int64_t left = link->redial_at - clock_ns();
    return left < LOOK_NS ? left : LOOK_NS;
}
