/* The receiving end of a socket lane.
 *
 * The thread that receives does all the work: it takes a packet from NNG, hands out its messages one by one, and acknowledges
 * when the packet is used up. A moved block is claimed when its message is handed out, not before, so that what a killed
 * receiver had not yet come to is still its sender's. Who the senders are and what they are told is in peers.c, blocks that come
 * in chunks are put together in transfer.c.
 *
 * What comes through a socket is checked: form (wire.c), pool and cell (peers.c), record, generation, owner (ledger.c), sizes and
 * offsets (transfer.c). What makes no sense is counted and forgotten.
 */
#include "channels/ask.h"
#include "receiver.h"

#include "base/process.h"
#include "serial/serial_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { IDLE_LOOK_NS = 1000 * 1000 * 1000 };

const size_t receiver_bytes = sizeof(struct receiver);

static void pipe_changed(struct receiver *r, nng_pipe pipe, nng_pipe_ev event)
{
    uint32_t id = (uint32_t)nng_pipe_id(pipe);
    switch (event) {
    case NNG_PIPE_EV_ADD_PRE: /* which the end of each follows, be it let in or not */
        guard_count(&r->accepted, pipe, 1);
        if (atomic_fetch_add_explicit(&r->pipes, 1, relaxed) >= CONNECTIONS_MAX || !peer_admitted(&r->lane, pipe)) /* only counts */
            atomic_fetch_add_explicit(&r->unwelcome, 1, relaxed);                                                  /* for people */
        else if (!atomic_load_explicit(&r->parting, relaxed) || atomic_load_explicit(&r->admits, relaxed)) /* who slips in is told BYE */
            return;
        nng_pipe_close(pipe);
        return;
    case NNG_PIPE_EV_ADD_POST:
        return;
    default:
        guard_count(&r->accepted, pipe, -1);
        atomic_store_explicit(&r->gone[id % PIPES_SEEN], id, release); /* pairs with: pipe_ended */
        atomic_fetch_sub_explicit(&r->pipes, 1, release);              /* then: pairs with: speaking */
        part_hang_up(r, id);
        event_ring(r->gone_fd);
        pulse();
    }
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct tie *tie = arg;
    struct receiver *r = tie_hold(tie);
    if (!r)
        return;
    pipe_changed(r, pipe, event);
    tie_release(tie);
}

/* ---- packets ---- */

static void packet_done(struct receiver *r)
{
    nng_msg_free(r->packet);
    r->packet = NULL;
    r->left = 0;
    atomic_store_explicit(&r->count.left, 0, relaxed);
    atomic_store_explicit(&r->at_hand, false, release); /* pairs with: receiver_drain */
}

/* What came makes no sense. */
static void packet_refuse(struct receiver *r)
{
    count_add(&r->count.corrupt, 1);
    packet_done(r);
}

/* A sender that is known, of the connection that it said hello on. 0 and NULL: from a connection that is gone, or before it began
 * again as it was told. Within one incarnation numbers follow each other, but NNG keeps what it had not sent when a connection breaks
 * and gives it to the next receiver: a hello that was said again, then what came behind a packet that went to the one before.
 * What that one had not taken is missing then, and comes when the sender begins again. */
static int packet_from(struct receiver *r, const struct wire_head *head, struct peer **out)
{
    struct peer *peer = peers_find(r, head->channel);
    *out = NULL;
    if (!peer || !peer->incarnation || !head->number || head->number >> CELL_NUMBER_BITS)
        return CUE_ECORRUPT; /* or pushed out: it will say hello again */
    if (head->incarnation != peer->incarnation)
        return 0;
    if (peer->pipe != r->pipe)
        return CUE_ECORRUPT;
    if (!peer->restarts && head->number > peer->expected)
        peer_restart(r, peer);
    if (!peer->restarts)
        *out = peer;
    return 0;
}

static int take_batch(struct receiver *r, const struct wire_head *head)
{
    struct peer *peer;
    int status = packet_from(r, head, &peer);
    if (!peer)
        return status;
    r->from = peer;
    r->number = head->number;
    r->left = head->count;
    count_add(&r->count.packets, 1);
    peer->used = atomic_load_explicit(&r->count.packets, relaxed); /* ours */
    return 0;
}

static int take_chunk(struct receiver *r, const struct wire_head *head)
{
    struct peer *peer;
    int status = packet_from(r, head, &peer);
    if (!peer || head->number < peer->expected || r->dropping)
        return status;
    status =
        peer->pool || head->total > r->lane.max ? CUE_ECORRUPT : transfer_chunk(&r->transfers, r->lane.base.pool, head, &peer->transfer);
    if (status == CUE_ECORRUPT || status == CUE_ELIMIT)
        peer_restart(r, peer);
    return status == CUE_ELIMIT ? 0 : status;
}

static int fetch_packet(struct receiver *r)
{
    int failed = shut_fetch(r, &r->packet);
    r->left = 0;
    if (!failed) {
        r->pipe = (uint32_t)nng_pipe_id(nng_msg_get_pipe(r->packet));
        return 0;
    }
    r->packet = NULL;
    return failed == NNG_EAGAIN || failed == NNG_ETIMEDOUT ? CUE_EEMPTY
           : failed == NNG_ECLOSED                         ? CUE_ECLOSED
                                                           : nng_trail(failed, "%s: receive", r->lane.url);
}

static int take_by_kind(struct receiver *r)
{
    switch (r->head.kind) {
    case WIRE_HELLO:
        return peer_hello(r, &r->head);
    case WIRE_BATCH:
        return take_batch(r, &r->head);
    case WIRE_BACK:
        return peer_back(r, &r->head);
    case WIRE_CHUNK:
        return take_chunk(r, &r->head);
    case WIRE_HEARD:
        return answers_heard(r, &r->head);
    default:
        return CUE_ECORRUPT;
    }
}

/* The next packet, as far as there is one. CUE_ENOMEM: it stays, and is taken by the next call. */
static int take_packet(struct receiver *r)
{
    int status = 0;
    if (!r->packet) {
        if ((status = fetch_packet(r)))
            return status;
        r->at = cursor_over(nng_msg_body(r->packet), nng_msg_len(r->packet));
        if (!wire_read_head(&r->at, &r->head)) {
            packet_refuse(r);
            return 0;
        }
    }
    status = take_by_kind(r);
    if (status == CUE_ECORRUPT) {
        packet_refuse(r);
        return 0;
    }
    if (!status && !r->left)
        packet_done(r);
    return status;
}

/* ---- messages ---- */

/* A block of our pool with these bytes. What can never fit is said in the message's status. */
static int copy_in(struct receiver *r, const void *bytes, size_t size, cue_msg *out, cue_block *copy)
{
    int status = cue_block_alloc(r->lane.base.pool, size, NULL, copy);
    if (status == CUE_ETOOBIG) {
        out->status = CUE_ETOOBIG;
        count_add(&r->count.dropped, 1);
        return 0;
    }
    if (status)
        return status;
    if (size)
        memcpy(copy->data, bytes, size);
    atomic_fetch_add_explicit(&r->lane.base.pool->copied, size, relaxed); /* a count for people */
    return 0;
}

/* Its bytes, in a block that cue_msg_release gives back. */
static int take_bytes(struct receiver *r, const struct wire_item *item, cue_msg *out)
{
    cue_block copy = { 0 };
    int status = copy_in(r, item->bytes, item->nbytes, out, &copy);
    if (status || !copy.data)
        return status;
    memcpy(out->priv, copy.priv, sizeof copy.priv);
    out->data = copy.data;
    out->size = item->nbytes;
    return 0;
}

/* A block whose bytes travelled: as its owner. */
static int take_carried(struct receiver *r, const struct wire_item *item, cue_msg *out)
{
    struct block_ref ref;
    int status = 0;
    if (item->block_type >= POOL_TYPE_SYSTEM)
        return CUE_ECORRUPT;
    if (item->payload)
        status = copy_in(r, item->payload, item->size, out, &out->block);
    else if (!transfer_finish(&r->transfers, &r->from->transfer, r->number, item->size, &out->block))
        return CUE_ECORRUPT;
    if (status)
        return status;
    if (!out->block.data) {
        if (!item->payload)
            count_add(&r->count.dropped, 1);
        out->status = CUE_ETOOBIG;
    } else if (handle_open(&out->block, &ref) == 0) {
        atomic_store_explicit(&ref.rec->type, item->block_type, relaxed); /* ours */
    }
    count_add(&r->count.copied, out->block.size);
    return 0;
}

/* False: its block is gone, or somebody else's already; there is no message then. */
static bool take_block(struct receiver *r, const struct wire_item *item, cue_msg *out)
{
    struct peer *peer = r->from;
    if (item->what == WIRE_MOVED) {
        if (!ledger_claim(peer->pool, item->index, item->generation, peer->channel, r->number, &out->block))
            return false;
    } else if (pool_attach(peer->pool, item->index, item->generation, 64 - REC_GENERATION_SHIFT, &out->block) ||
               block_narrow(&out->block, item->offset, item->size)) {
        out->status = CUE_ESTALE;
        count_add(&r->count.dropped, 1);
        return true;
    }
    return true;
}

/* A message that has nothing but a block shows that. */
static void show_block(const struct wire_item *item, cue_msg *out)
{
    struct block_ref ref;
    if (item->has_bytes)
        return;
    out->data = out->block.data;
    out->size = out->block.size;
    if (!out->type && out->block.data && handle_open(&out->block, &ref) == 0)
        out->type = atomic_load_explicit(&ref.rec->type, relaxed); /* ours or leased */
}

/* One message that has not been handed out yet. 1: a message; 0: nothing to hand out; or an error, and nothing has moved. */
static int take_item(struct receiver *r, const struct wire_item *item, cue_msg *out)
{
    memset(out, 0, sizeof *out);
    if (item->what != WIRE_CARRIED)
        transfer_drop(&r->transfers, &r->from->transfer); /* of a message that its sender thought better of */
    if (item->what == WIRE_DROPPED) {
        r->from->gap += item->size;
        count_add(&r->count.gaps, item->size);
    }
    if (item->what == WIRE_GONE || item->what == WIRE_DROPPED)
        return 0;
    if ((item->what == WIRE_MOVED || item->what == WIRE_VIEWED) && !r->from->pool)
        return CUE_ECORRUPT; /* a far one has no pool to look into */
    out->type = item->type;
    out->status = item->status;
    out->tag = item->tag;
    out->key = item->key;
    out->from = item->from;
    out->priv[3] = r->from->who;
    int status = item->nbytes ? take_bytes(r, item, out) : 0;
    if (!status && item->what == WIRE_CARRIED)
        status = take_carried(r, item, out);
    if (status) {
        cue_msg_release(out);
        return status;
    }
    if (((item->what == WIRE_MOVED || item->what == WIRE_VIEWED) && !take_block(r, item, out)) || out->type >= CUE_TYPE_SYSTEM) {
        count_add(&r->count.dropped, 1);
        cue_msg_release(out);
        return 0;
    }
    show_block(item, out);
    if (r->lane.type && out->type != r->lane.type) {
        count_add(&r->count.dropped, 1);
        cue_msg_release(out);
        return 0;
    }
    out->gap = r->from->gap < UINT32_MAX ? (uint32_t)r->from->gap : UINT32_MAX;
    r->from->gap = 0;
    count_add(&r->count.received, 1);
    count_add(&r->count.copied, item->nbytes);
    count_add(&r->count.bytes, item->nbytes + out->block.size);
    return 1;
}

/* One message that nobody wants any more, without room for its copy. As take_item. */
static int drop_item(struct receiver *r, const struct wire_item *item)
{
    struct peer *from = r->from;
    cue_block block = { 0 };
    transfer_drop(&r->transfers, &from->transfer);
    if (item->what == WIRE_DROPPED)
        count_add(&r->count.gaps, item->size);
    if (item->what == WIRE_GONE || item->what == WIRE_DROPPED)
        return 0;
    if ((item->what == WIRE_MOVED || item->what == WIRE_VIEWED) && !from->pool)
        return CUE_ECORRUPT;
    count_add(&r->count.dropped, 1);
    if (item->what == WIRE_MOVED && !ledger_claim(from->pool, item->index, item->generation, from->channel, r->number, &block))
        return 0;
    cue_block_release(&block);
    cue_msg m = { .from = item->from, .tag = item->tag, .priv[3] = from->who };
    if (from->pool)
        ask_refuse(from->pool, &m, CUE_ECLOSED);
    else if (is_question(&m))
        nng_reply(&m, &(cue_msg){ .status = CUE_ECLOSED }); /* fails: the asker finds out by itself */
    return 1;
}

/* The next message of the packet at hand: 1, or 0 if it has no more, or an error. */
static int take_message(struct receiver *r, cue_msg *out)
{
    int taken = 0;
    while (r->left && taken == 0) {
        struct cursor at = r->at;
        struct wire_item item;
        if (!wire_read_item(&at, &item)) {
            peer_acknowledge(r, r->from); /* what came before is good */
            packet_refuse(r);
            return 0;
        }
        if (r->number >= r->from->expected) { /* else: handed out before the connection broke */
            taken = r->dropping ? drop_item(r, &item) : take_item(r, &item, out);
            if (taken == CUE_ECORRUPT) {
                peer_restart(r, r->from);
                packet_refuse(r);
                return 0;
            }
            if (taken < 0)
                return taken;
            r->from->expected = r->number + 1;
            r->unacknowledged++;
        }
        r->at = at;
        r->number++;
        r->left--;
        atomic_store_explicit(&r->count.left, r->left, relaxed); /* for people */
        if (r->left == 0) {
            peer_acknowledge(r, r->from);
            packet_done(r);
        } else if (r->unacknowledged >= ACK_EVERY) {
            peer_acknowledge(r, r->from);
        }
    }
    return taken;
}

int receiver_drop(struct receiver *r)
{
    int status;
    while ((status = take_message(r, NULL)) == 0)
        if ((status = take_packet(r)))
            break;
    return status;
}

/* Sleeps until there may be a packet. */
static int wait_for_packet(struct receiver *r, int64_t deadline)
{
    int64_t nap = deadline_nap(deadline);
    if (nap <= 0 && deadline && atomic_load_explicit(&r->lane.closing, acquire)) /* as below, for a wait that is over at once */
        return CUE_ECLOSED;
    if (nap <= 0)
        return deadline && shut_woken(r) ? CUE_EINTR : CUE_EEMPTY;
    if (r->transfers.open && nap > IDLE_LOOK_NS)
        nap = IDLE_LOOK_NS;
    struct pollfd fds[] = { { .fd = r->recv_fd, .events = POLLIN },
                            { .fd = r->wake_fd, .events = POLLIN },
                            { .fd = r->gone_fd, .events = POLLIN } };
    int ready = ppoll(fds, r->transfers.open ? 3 : 2, &(struct timespec){ nap / 1000000000, nap % 1000000000 }, NULL);
    if (ready < 0)
        return errno == EINTR ? CUE_EINTR : trail_errno("%s: poll", r->lane.url);
    if (atomic_load_explicit(&r->lane.closing, acquire)) /* pairs with: socket_shut */
        return CUE_ECLOSED;
    int status = fds[1].revents ? shut_woken(r) : 0;
    if (status)
        return status;
    return pool_enter(r->lane.base.pool);
}

/* ---- the calls ---- */

static int receiver_recv_many(cue_channel *ch, cue_msg *out, size_t n, int64_t deadline)
{
    struct receiver *r = (struct receiver *)ch;
    size_t got = 0;
    int status = socket_enter(&r->lane);
    if (!status)
        status = pool_enter(ch->pool);
    while (!status && got < n) {
        int taken = take_message(r, &out[got]);
        if (taken > 0) {
            got++;
        } else if (taken < 0) {
            status = taken;
        } else {
            status = take_packet(r);
            if (r->transfers.open && event_take(r->gone_fd))
                peers_sweep(r, false);
            if (status != CUE_EEMPTY || got)
                continue;
            peers_sweep(r, true);
            status = wait_for_packet(r, deadline);
        }
    }
    if (atomic_load_explicit(&r->poll_fd, acquire) >= 0) /* pairs with: receiver_poll_fd */
        r->left ? event_ring(r->left_fd) : (void)event_take(r->left_fd);
    socket_leave(&r->lane);
    return got ? (int)got : status;
}

static void receiver_wake(cue_channel *ch)
{
    event_ring(((struct receiver *)ch)->wake_fd);
}

static int receiver_stat(cue_channel *ch, cue_channel_info *out)
{
    struct receiver *r = (struct receiver *)ch;
    out->kind = CUE_STREAM;
    out->users = (uint32_t)atomic_load_explicit(&r->pipes, relaxed) + 1; /* all for people */
    out->receiver = (int32_t)getpid();
    out->shut = atomic_load_explicit(&r->shut, relaxed);
    out->queued = atomic_load_explicit(&r->count.left, relaxed) + atomic_load_explicit(&r->waiting, relaxed);
    out->received = atomic_load_explicit(&r->count.received, relaxed);
    out->bytes = atomic_load_explicit(&r->count.bytes, relaxed);
    out->copied = atomic_load_explicit(&r->count.copied, relaxed);
    out->dropped = atomic_load_explicit(&r->count.dropped, relaxed);
    out->refused = atomic_load_explicit(&r->count.corrupt, relaxed) + atomic_load_explicit(&r->unwelcome, relaxed);
    out->batches = atomic_load_explicit(&r->count.packets, relaxed);
    out->gaps = atomic_load_explicit(&r->count.gaps, relaxed);
    out->stuck = nng_left();
    return 0;
}

/* While somebody else may receive. */
static bool wait_a_moment(struct receiver *r)
{
    (void)r;
    poll(NULL, 0, 1);
    return false;
}

static void *guard_thread(void *arg)
{
    struct receiver *r = arg;
    struct pollfd stop = { .fd = r->stop_fd, .events = POLLIN };
    while (poll(&stop, 1, guard_rest_ms(r->guard)) <= 0)
        if (!atomic_load_explicit(&r->shut, relaxed) && guard_stuck(r->guard)) { /* shut: nobody need come in any more */
            part(r, wait_a_moment);
            atomic_store_explicit(&r->admits, false, relaxed); /* nobody to the new listener before `parting` ends */
            guard_heal(r->guard);
            atomic_store_explicit(&r->parting, false, relaxed); /* whoever comes now is let in */
        }
    return NULL;
}

static int guard_start(struct receiver *r)
{
    int status = guard_make(&r->lane, r->tie, &r->accepted, &r->guard);
    if (status)
        return status;
    r->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    errno = r->stop_fd < 0 ? errno : pthread_create(&r->thread, NULL, guard_thread, r);
    if (r->stop_fd >= 0 && !errno)
        return 0;
    status = trail_errno("%s: a thread to guard the listener", r->lane.url);
    if (r->stop_fd >= 0)
        close(r->stop_fd);
    free(r->guard);
    return status;
}

static void receiver_halt(struct socket_lane *lane)
{
    struct receiver *r = (struct receiver *)lane;
    if (!r->guard)
        return;
    event_ring(r->stop_fd);
    pthread_join(r->thread, NULL);
}

static void receiver_end(struct receiver *r)
{
    pthread_mutex_destroy(&r->lock);
    shut_forget(r);
    if (r->wake_fd >= 0)
        close(r->wake_fd);
    if (r->gone_fd >= 0)
        close(r->gone_fd);
    if (atomic_load_explicit(&r->poll_fd, acquire) >= 0) {
        close(atomic_load_explicit(&r->poll_fd, relaxed)); /* as above */
        close(r->left_fd);
    }
}

static int receiver_prepare(struct receiver *r, size_t largest)
{
    struct socket_lane *lane = &r->lane;
    int failed = socket_make(r, true, largest, on_pipe, &r->tie);
    if (failed)
        return nng_trail(failed, "%s: a socket", lane->url);
    r->sock = r->tie->sock;
    if ((failed = nng_socket_get_int(r->sock, NNG_OPT_RECVFD, &r->recv_fd)))
        return nng_trail(failed, "%s: a descriptor to poll", lane->url);
    if ((failed = peers_prepare(r)))
        return nng_trail(failed, "%s: a timer", lane->url);
    int status = socket_listen(lane, r->tie, &r->accepted);
    return !status && guard_needed(lane->scheme) ? guard_start(r) : status;
}

int receiver_open(struct socket_lane *lane, const cue_channel_opts *opts)
{
    struct receiver *r = (struct receiver *)lane;
    uint64_t room = lane->base.pool->data_bytes;
    size_t largest = packet_max(lane->max);
    if (lane->max > room)
        lane->max = room; /* nothing larger could be taken in */
    r->transfers.bytes_max = opts->bytes ? opts->bytes : room / 4;
    r->linger_ns = opts->linger.ns ? opts->linger.ns : LINGER_DEFAULT_NS;
    atomic_store_explicit(&r->poll_fd, -1, relaxed); /* nobody knows it yet */
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r->gone_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->fetching, NULL);
    lane->halt = receiver_halt;
    int status = r->wake_fd < 0 || r->gone_fd < 0 ? trail_errno("eventfd") : receiver_prepare(r, largest);
    if (status) {
        if (r->tie)
            tie_close(r->tie); /* before what its callbacks use goes */
        peers_forget(r);
        receiver_end(r);
    }
    return status;
}

/* What was still under way when the senders stopped stays theirs. */
static bool take_in(struct receiver *r)
{
    struct pollfd readable = { .fd = r->recv_fd, .events = POLLIN };
    if ((!shut_left(r) && poll(&readable, 1, 1) <= 0) || fetch_packet(r))
        return false;
    r->at = cursor_over(nng_msg_body(r->packet), nng_msg_len(r->packet));
    if (wire_read_head(&r->at, &r->head) && (r->head.kind == WIRE_HELLO || r->head.kind == WIRE_BACK))
        take_by_kind(r);
    packet_done(r);
    return true;
}

/* Until all answers were heard, at most the linger time. What comes besides stays its sender's. */
static void linger(struct receiver *r)
{
    struct pollfd readable = { .fd = r->recv_fd, .events = POLLIN };
    int64_t deadline = deadline_of(CUE_NS(r->linger_ns));
    while (answers_left(r) && deadline_nap(deadline) > 0) {
        if ((!shut_left(r) && poll(&readable, 1, 5) <= 0) || fetch_packet(r))
            continue;
        struct cursor at = cursor_over(nng_msg_body(r->packet), nng_msg_len(r->packet));
        if (wire_read_head(&at, &r->head) && (r->head.kind == WIRE_HEARD || r->head.kind == WIRE_BACK))
            take_by_kind(r);
        packet_done(r);
    }
}

static int receiver_close(cue_channel *ch)
{
    struct receiver *r = (struct receiver *)ch;
    if (ch->forks != fork_epoch)
        return socket_forked(&r->lane);
    socket_shut(&r->lane);
    socket_closed(&r->lane);
    receiver_halt(&r->lane);
    if (r->guard) {
        close(r->stop_fd);
        free(r->guard);
    }
    if (r->packet)
        packet_done(r);
    linger(r);
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < PEERS_MAX; i++)
        if (r->peers[i].incarnation)
            r->peers[i].acked = r->peers[i].expected - 1;
    pthread_mutex_unlock(&r->lock);
    peers_halt(r);
    if (pool_enter(ch->pool) == 0)
        part(r, take_in);
    if (!tie_close(r->tie))
        peers_cut(r);
    peers_forget(r);
    receiver_end(r);
    tls_unload(&r->lane);
    return 0;
}

/* What there may be to receive: a packet in NNG, the rest of the one at hand, a wake. */
static int receiver_poll_fd(cue_channel *ch, unsigned how)
{
    struct receiver *r = (struct receiver *)ch;
    struct epoll_event event = { .events = EPOLLIN };
    (void)how;
    r->left_fd = eventfd(atomic_load_explicit(&r->count.left, relaxed) > 0, EFD_CLOEXEC | EFD_NONBLOCK); /* the next receive looks again */
    int fd = r->left_fd < 0 ? -1 : epoll_create1(EPOLL_CLOEXEC);
    if (fd >= 0 && epoll_ctl(fd, EPOLL_CTL_ADD, r->recv_fd, &event) == 0 && epoll_ctl(fd, EPOLL_CTL_ADD, r->wake_fd, &event) == 0 &&
        epoll_ctl(fd, EPOLL_CTL_ADD, r->left_fd, &event) == 0) {
        atomic_store_explicit(&r->poll_fd, fd, release); /* pairs with: the end of a receive */
        return fd;
    }
    int status = trail_errno("%s: a descriptor to poll", r->lane.url);
    if (fd >= 0)
        close(fd);
    if (r->left_fd >= 0)
        close(r->left_fd);
    return status;
}

const struct channel_ops receiver_ops = { .recv_many = receiver_recv_many,
                                          .wake = receiver_wake,
                                          .stat = receiver_stat,
                                          .poll_fd = receiver_poll_fd,
                                          .shut = receiver_shut,
                                          .drain = receiver_drain,
                                          .discard = receiver_discard,
                                          .close = receiver_close };
