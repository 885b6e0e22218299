/* The receiving end of a socket lane.
 *
 * The thread that receives does all the work: it takes a packet from NNG, hands out its messages one by one, and acknowledges
 * when the packet is used up. A moved block is claimed when its message is handed out, not before, so that what a killed
 * receiver had not yet come to is still its sender's.
 *
 * A PEER is a sending channel, known by the random id of its hello; it stays known after its connection has gone, so that what it
 * sends again is told from what it has not sent yet. `expected` is the number of its next message. A peer beyond the table pushes
 * out the one that was silent longest; if that lives, it hears nothing, says hello again and goes on.
 *
 * BEFORE A CONNECTION IS CLOSED while it may carry something (at close, and when the guard makes the listener anew), its sender
 * is told to stop, see cell_layout.h for why. For the same reason nobody is thrown out here: what makes no sense is counted and
 * forgotten.
 *
 * What comes through a socket is checked: form (wire.c), pool and cell, record, generation, owner (ledger.c).
 */
#include "nng_internal.h"

#include "base/process.h"
#include "serial/serial_internal.h"

#include <cuelight/serial.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define relaxed memory_order_relaxed

enum { PEERS_MAX = 256, BYE_NS = 50 * 1000 * 1000 };

struct peer {
    uint64_t channel;  /* 0: free */
    uint64_t expected; /* read and written only by the thread that receives */
    uint64_t acked;
    uint32_t incarnation;
    uint32_t cell;
    uint64_t cell_generation;
    cue_pool *pool; /* where its blocks and its cell are */
    uint64_t used;  /* when, in packets */
};

struct receiver {
    struct socket_lane lane;
    int recv_fd; /* NNG's, to poll; never read */
    int wake_fd; /* an eventfd: cue_channel_wake, and closing */
    struct guard *guard;
    pthread_t thread; /* if there is a guard */
    int stop_fd;
    _Atomic int32_t pipes; /* connections; counted by NNG's callbacks */
    pthread_mutex_t lock;  /* for the peers: they change only under it, but for `expected` and `used` */

    /* by the thread that receives */
    struct peer peers[PEERS_MAX];
    nng_msg *packet; /* being handed out, NULL: none */
    struct peer *from;
    struct cursor at;
    uint64_t number; /* of the message at `at` */
    uint32_t left;   /* messages in it */
    uint32_t unacknowledged;
    uint64_t stranger; /* a channel whose pool we cannot look into, as was said already */

    struct {
        _Atomic uint64_t packets, received, bytes, copied, dropped, gaps, corrupt, left; /* written by that thread, read by stat */
    } count;
};

const size_t receiver_bytes = sizeof(struct receiver);

static void add(_Atomic uint64_t *count, uint64_t n)
{
    atomic_store_explicit(count, atomic_load_explicit(count, relaxed) + n, relaxed); /* one writer, for people */
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct receiver *r = arg;
    if (event == NNG_PIPE_EV_ADD_PRE && !socket_admits(&r->lane, pipe))
        nng_pipe_close(pipe);
    else if (event == NNG_PIPE_EV_ADD_POST)
        atomic_fetch_add_explicit(&r->pipes, 1, relaxed); /* looked at by the guard, who is in no hurry */
    else if (event == NNG_PIPE_EV_REM_POST)
        atomic_fetch_sub_explicit(&r->pipes, 1, relaxed);
}

/* ---- the cell of a peer ---- */

/* A lease on it. The type and the id keep a hello that lies from making us write into somebody's block. */
static struct cell *cell_attach(const struct peer *peer, cue_block *view)
{
    struct block_ref ref;
    if (pool_attach(peer->pool, peer->cell, peer->cell_generation, 64 - REC_GENERATION_SHIFT, view))
        return NULL;
    struct cell *cell = view->data;
    if (view->size == sizeof *cell && handle_open(view, &ref) == 0 &&
        atomic_load_explicit(&ref.rec->type, memory_order_acquire) == POOL_TYPE_CELL && /* pairs with: cell_make */
        cell->channel == peer->channel)
        return cell;
    cue_block_release(view);
    return NULL;
}

static void answer(const struct receiver *r, const struct peer *peer, struct cell *cell, bool bye)
{
    atomic_store_explicit(&cell->max, r->lane.max, relaxed);                                                  /* before the word */
    atomic_store_explicit(&cell->word, cell_word(peer->incarnation, bye, peer->acked), memory_order_seq_cst); /* pairs with: take_word */
    uint32_t bell = atomic_fetch_add_explicit(&cell->bell, BELL_ONE, memory_order_seq_cst); /* pairs with: sender_thread */
    if (bell & BELL_ASLEEP)
        futex_wake(&cell->bell, 1);
}

/* False: the sender is gone, or was none. */
static bool acknowledge(struct receiver *r, struct peer *peer)
{
    cue_block view;
    r->unacknowledged = 0;
    pthread_mutex_lock(&r->lock);
    peer->acked = peer->expected - 1;
    struct cell *cell = cell_attach(peer, &view);
    if (cell) {
        answer(r, peer, cell, false);
        cue_block_release(&view);
    }
    pthread_mutex_unlock(&r->lock);
    return cell;
}

/* Tells all senders to stop; waits until the living have. */
static void quiesce(struct receiver *r)
{
    int64_t end = clock_ns() + BYE_NS;
    pthread_mutex_lock(&r->lock);
    for (int wait = 0; wait < 2; wait++)
        for (unsigned i = 0; i < PEERS_MAX; i++) {
            const struct peer *peer = &r->peers[i];
            cue_block view;
            struct cell *cell = peer->channel ? cell_attach(peer, &view) : NULL;
            if (!cell)
                continue;
            uint32_t seen;
            if (!wait)
                answer(r, peer, cell, true);
            else
                while (
                    (seen = atomic_load_explicit(&cell->seen, memory_order_acquire)) != peer->incarnation + 1 && /* pairs with: hear_bye */
                    cell_incarnation(atomic_load_explicit(&cell->word, relaxed)) == peer->incarnation && clock_ns() < end)
                    futex_wait(&cell->seen, seen, BYE_NS / 10);
            cue_block_release(&view);
        }
    pthread_mutex_unlock(&r->lock);
}

/* ---- peers ---- */

static void peer_forget(struct receiver *r, struct peer *peer)
{
    if (peer->pool && peer->pool != r->lane.base.pool)
        cue_pool_close(peer->pool);
    memset(peer, 0, sizeof *peer);
}

/* The peer; with `make` one is made if it is not known. */
static struct peer *peer_find(struct receiver *r, uint64_t channel, bool make)
{
    if (r->from && r->from->channel == channel)
        return r->from;
    struct peer *oldest = &r->peers[0];
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (r->peers[i].channel == channel)
            return &r->peers[i];
        if (r->peers[i].used < oldest->used)
            oldest = &r->peers[i];
    }
    if (!make)
        return NULL;
    peer_forget(r, oldest);
    return oldest;
}

static int peer_pool(struct receiver *r, const struct wire_head *head, cue_pool **out)
{
    cue_pool *own = r->lane.base.pool;
    cue_desc desc;
    int status = cue_desc_decode(head->pool, head->pool_bytes, &desc);
    if (status < 0)
        return status;
    *out = own;
    if (desc.pool_uid == own->uid && desc.host == own->host)
        return 0;
    return cue_pool_attach(head->pool, head->pool_bytes, out);
}

/* A hello makes or renews a peer. An error of ours, once, if its pool cannot be looked into. */
static int take_hello(struct receiver *r, const struct wire_head *head)
{
    if (!head->channel || !head->number || head->number >> CELL_NUMBER_BITS || head->incarnation >> CELL_INCARNATION_BITS)
        return CUE_ECORRUPT;
    struct peer fresh = { .channel = head->channel, .expected = head->number };
    struct peer *peer = peer_find(r, head->channel, false);
    if (peer)
        fresh = *peer;
    int status = fresh.pool ? 0 : peer_pool(r, head, &fresh.pool);
    if (status) {
        bool said = r->stranger == head->channel;
        r->stranger = head->channel;
        return said ? CUE_ECORRUPT
                    : trail_in(status, "%s: a sender (process %u of its pool) whose messages cannot be taken", r->lane.url, head->party);
    }
    if (fresh.expected < head->number) {
        add(&r->count.gaps, head->number - fresh.expected);
        fresh.expected = head->number;
    }
    fresh.incarnation = head->incarnation;
    fresh.cell = head->cell;
    fresh.cell_generation = head->cell_generation;
    fresh.used = atomic_load_explicit(&r->count.packets, relaxed) + 1; /* ours */
    if (!acknowledge(r, &fresh)) {
        if (!peer && fresh.pool != r->lane.base.pool)
            cue_pool_close(fresh.pool);
        return CUE_ECORRUPT;
    }
    pthread_mutex_lock(&r->lock);
    *(peer ? peer : peer_find(r, head->channel, true)) = fresh;
    pthread_mutex_unlock(&r->lock);
    return 0;
}

/* ---- packets ---- */

static void packet_done(struct receiver *r)
{
    nng_msg_free(r->packet);
    r->packet = NULL;
    r->left = 0;
    atomic_store_explicit(&r->count.left, 0, relaxed);
}

/* What came makes no sense. */
static void packet_refuse(struct receiver *r)
{
    add(&r->count.corrupt, 1);
    packet_done(r);
}

static int take_batch(struct receiver *r, const struct wire_head *head)
{
    struct peer *peer = peer_find(r, head->channel, false);
    if (!peer || !head->number || head->number >> CELL_NUMBER_BITS)
        return CUE_ECORRUPT; /* or pushed out: it will say hello again */
    if (head->incarnation != peer->incarnation)
        return 0; /* from a connection that is gone */
    if (head->number > peer->expected) {
        add(&r->count.gaps, head->number - peer->expected);
        peer->expected = head->number;
    }
    r->from = peer;
    r->number = head->number;
    r->left = head->count;
    add(&r->count.packets, 1);
    peer->used = atomic_load_explicit(&r->count.packets, relaxed); /* ours */
    return 0;
}

/* The next packet, as far as there is one. */
static int take_packet(struct receiver *r)
{
    int failed = nng_recvmsg(r->lane.sock, &r->packet, NNG_FLAG_NONBLOCK);
    if (failed) {
        r->packet = NULL;
        return failed == NNG_EAGAIN || failed == NNG_ETIMEDOUT ? CUE_EEMPTY
               : failed == NNG_ECLOSED                         ? CUE_ECLOSED
                                                               : nng_trail(failed, "%s: receive", r->lane.url);
    }
    struct wire_head head;
    int status = CUE_ECORRUPT;
    r->at = cursor_over(nng_msg_body(r->packet), nng_msg_len(r->packet));
    r->left = 0;
    if (wire_read_head(&r->at, &head))
        status = head.kind == WIRE_HELLO ? take_hello(r, &head) : take_batch(r, &head);
    if (status)
        packet_refuse(r);
    else if (!r->left)
        packet_done(r);
    return status == CUE_ECORRUPT ? 0 : status;
}

/* ---- messages ---- */

/* Its bytes, in a block of our pool that cue_msg_release gives back. */
static int take_bytes(struct receiver *r, const struct wire_item *item, cue_msg *out)
{
    cue_block copy;
    int status = cue_block_alloc(r->lane.base.pool, item->nbytes, NULL, &copy);
    if (status)
        return status;
    memcpy(copy.data, item->bytes, item->nbytes);
    memcpy(out->priv, copy.priv, sizeof copy.priv);
    out->data = copy.data;
    out->size = item->nbytes;
    atomic_fetch_add_explicit(&r->lane.base.pool->copied, item->nbytes, relaxed); /* a count for people */
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
        add(&r->count.dropped, 1);
        return true;
    }
    if (!item->has_bytes) {
        out->data = out->block.data;
        out->size = out->block.size;
    }
    if (!out->type && !item->has_bytes) {
        struct record *rec = pool_record(peer->pool, item->index);
        out->type = rec ? atomic_load_explicit(&rec->type, relaxed) : 0; /* ours or leased */
    }
    return true;
}

/* One message that has not been handed out yet. 1: a message; 0: nothing to hand out; or an error, and nothing has moved. */
static int take_item(struct receiver *r, const struct wire_item *item, cue_msg *out)
{
    memset(out, 0, sizeof *out);
    if (item->what == WIRE_GONE)
        return 0;
    out->type = item->type;
    out->status = item->status;
    out->tag = item->tag;
    out->key = item->key;
    out->from = item->from;
    int status = item->nbytes ? take_bytes(r, item, out) : 0;
    if (status)
        return status;
    if (item->what != WIRE_BYTES && !take_block(r, item, out)) {
        add(&r->count.dropped, 1);
        cue_msg_release(out);
        return 0;
    }
    if ((r->lane.type && out->type != r->lane.type) || out->type >= CUE_TYPE_SYSTEM) {
        add(&r->count.dropped, 1);
        cue_msg_release(out);
        return 0;
    }
    add(&r->count.received, 1);
    add(&r->count.copied, item->nbytes);
    add(&r->count.bytes, item->nbytes + out->block.size);
    return 1;
}

/* The next message of the packet at hand: 1, or 0 if it has no more, or an error. */
static int take_message(struct receiver *r, cue_msg *out)
{
    int taken = 0;
    while (r->packet && taken == 0) {
        struct cursor at = r->at;
        struct wire_item item;
        if (!wire_read_item(&at, &item)) {
            packet_refuse(r);
            return 0;
        }
        if (r->number >= r->from->expected) { /* else: handed out before the connection broke */
            taken = take_item(r, &item, out);
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
            acknowledge(r, r->from);
            packet_done(r);
        } else if (r->unacknowledged >= ACK_EVERY) {
            acknowledge(r, r->from);
        }
    }
    return taken;
}

/* Sleeps until there may be a packet. */
static int wait_for_packet(struct receiver *r, int64_t deadline)
{
    int64_t nap = deadline_nap(deadline);
    if (nap <= 0)
        return CUE_EEMPTY;
    struct pollfd fds[] = { { .fd = r->recv_fd, .events = POLLIN }, { .fd = r->wake_fd, .events = POLLIN } };
    int ready = ppoll(fds, 2, &(struct timespec){ nap / 1000000000, nap % 1000000000 }, NULL);
    if (ready < 0)
        return errno == EINTR ? CUE_EINTR : trail_errno("%s: poll", r->lane.url);
    if (atomic_load_explicit(&r->lane.closing, memory_order_acquire)) /* pairs with: socket_shut */
        return CUE_ECLOSED;
    if (fds[1].revents && event_take(r->wake_fd))
        return CUE_EINTR;
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
            if (status == CUE_EEMPTY && !got)
                status = wait_for_packet(r, deadline);
        }
    }
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
    out->queued = atomic_load_explicit(&r->count.left, relaxed);
    out->received = atomic_load_explicit(&r->count.received, relaxed);
    out->bytes = atomic_load_explicit(&r->count.bytes, relaxed);
    out->copied = atomic_load_explicit(&r->count.copied, relaxed);
    out->dropped = atomic_load_explicit(&r->count.dropped, relaxed);
    out->refused = atomic_load_explicit(&r->count.corrupt, relaxed);
    out->batches = atomic_load_explicit(&r->count.packets, relaxed);
    out->gaps = atomic_load_explicit(&r->count.gaps, relaxed);
    return 0;
}

static void *guard_thread(void *arg)
{
    struct receiver *r = arg;
    struct pollfd stop = { .fd = r->stop_fd, .events = POLLIN };
    while (poll(&stop, 1, GUARD_LOOK_MS) <= 0)
        if (guard_stuck(r->guard)) {
            quiesce(r);
            guard_heal(r->guard);
        }
    return NULL;
}

static int guard_start(struct receiver *r, nng_listener listener)
{
    int status = guard_make(&r->lane, &r->pipes, listener, &r->guard);
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

static int receiver_prepare(struct receiver *r)
{
    struct socket_lane *lane = &r->lane;
    nng_listener listener;
    int failed;
    for (int event = NNG_PIPE_EV_ADD_PRE; event < NNG_PIPE_EV_NUM; event++)
        if ((failed = nng_pipe_notify(lane->sock, (nng_pipe_ev)event, on_pipe, r)))
            return nng_trail(failed, "%s: nng_pipe_notify", lane->url);
    if ((failed = nng_socket_get_int(lane->sock, NNG_OPT_RECVFD, &r->recv_fd)))
        return nng_trail(failed, "%s: a descriptor to poll", lane->url);
    int status = socket_listen(lane, &listener);
    return !status && lane->scheme == SCHEME_IPC && nng_needs_guard() ? guard_start(r, listener) : status;
}

int receiver_open(struct socket_lane *lane, const cue_channel_opts *opts)
{
    struct receiver *r = (struct receiver *)lane;
    (void)opts;
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->wake_fd < 0)
        return trail_errno("eventfd");
    pthread_mutex_init(&r->lock, NULL);
    lane->halt = receiver_halt;
    int status = receiver_prepare(r);
    if (status) {
        pthread_mutex_destroy(&r->lock);
        close(r->wake_fd);
    }
    return status;
}

/* Takes what was still under way when the senders stopped; it stays theirs. Until nothing comes for a moment. */
static void drain(struct receiver *r)
{
    struct pollfd readable = { .fd = r->recv_fd, .events = POLLIN };
    for (int i = 0; i < 100 && poll(&readable, 1, 1) > 0; i++)
        while (nng_recvmsg(r->lane.sock, &r->packet, NNG_FLAG_NONBLOCK) == 0)
            packet_done(r);
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
    for (unsigned i = 0; i < PEERS_MAX; i++)
        r->peers[i].acked = r->peers[i].expected - 1;
    if (pool_enter(ch->pool) == 0)
        quiesce(r);
    drain(r);
    nng_close(r->lane.sock);
    for (unsigned i = 0; i < PEERS_MAX; i++)
        peer_forget(r, &r->peers[i]);
    pthread_mutex_destroy(&r->lock);
    close(r->wake_fd);
    return 0;
}

const struct channel_ops receiver_ops = {
    .recv_many = receiver_recv_many, .wake = receiver_wake, .stat = receiver_stat, .close = receiver_close
};
