/* The sending end of a socket lane.
 *
 * THE WINDOW. A ring of `depth` messages, numbered without end: base <= encoded <= next. Those below `encoded` are under way and
 * not acknowledged, the rest waits for its batch. A message leaves the window with its acknowledgement; after a broken connection
 * `encoded` goes back to `base`, and all are sent again but those whose block was taken over meanwhile. The window is what bounds
 * a sender: a receiver that does not receive fills it, then sends end with CUE_EFULL, or drop the message; what drops older ones is
 * before the window, in backlog.c.
 *
 * BATCHES. A message goes at once if nothing is under way. Otherwise it waits: for the acknowledgement of what is, for a full
 * batch, for the end of a send_many, or for the time `flush`, whichever comes first. So a lone message is fast, a stream makes
 * batches as large as the receiver is slow, and no clock is read to send one.
 *
 * THE THREAD. One a sending channel: flushes by time, says hello on a new connection, sends again, and takes acknowledgements when
 * nobody sends (whoever sends takes them on the way). It sleeps on the bell of the channel's cell. `lock` guards all below it in the
 * struct; NNG's callbacks only store the pipe and ring. A connection is used once the receiver has answered the hello: what it
 * has already is not sent again.
 */
#include "channels/ask.h"
#include "sender.h"

#include "base/process.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { FLUSH_DEFAULT_NS = 50 * 1000, STUCK_MS = 1, ASK_MS = 2000, PART_LOOK_NS = 10 * 1000 * 1000 };

#define PARTED_MOST_NS (10 * INT64_C(1000000000)) /* more than part.c takes */

const size_t sender_bytes = sizeof(struct sender);

void sender_poke(struct sender *s)
{
    atomic_fetch_add_explicit(&s->cell->bell, BELL_ONE, seq_cst); /* pairs with: sender_thread */
    futex_wake(&s->cell->bell, 1);
}

/* ---- the window; `lock` is held ---- */

bool message_forget(struct sender *s, struct message *m, bool pinned)
{
    bool back = m->what == WIRE_MOVED && pinned && ledger_take_back(s->lane.base.pool, &m->block);
    if (m->what == WIRE_VIEWED)
        cue_block_release(&m->view); /* looks itself whether the pool is there */
    free((void *)(uintptr_t)m->item.bytes);
    return back;
}

/* A message whose number was acknowledged, or that is given up. A block that nobody has taken over comes back, and is freed: either
 * its bytes have arrived at a far receiver, or nobody wants it. False: it was taken over. */
static bool settle_one(struct sender *s, struct message *m, bool pinned, bool acknowledged)
{
    if (m->what == WIRE_DROPPED) {
        s->holes--;
        return false;
    }
    bool arrived = acknowledged && s->far && !message_too_big(s, m);
    bool back = message_forget(s, m, pinned);
    s->count.returned += back && !arrived;
    s->count.dropped += (back && !arrived) || (!back && message_too_big(s, m));
    if (message_too_big(s, m))
        ask_deliver_status(&s->lane.base, m->item.from, m->item.tag, CUE_ETOOBIG);
    return m->what != WIRE_MOVED || back;
}

/* The messages before `upto` need us no more. How many of them were not taken over, as far as can be seen here. */
static uint64_t settle(struct sender *s, uint64_t upto, bool acknowledged)
{
    uint64_t left = 0;
    bool pinned = pool_pin(s);
    for (; s->base < upto; s->base++) {
        struct message *m = message_at(s, s->base);
        s->waiting_bytes -= m->item.nbytes;
        left += settle_one(s, m, pinned, acknowledged);
    }
    if (pinned)
        pool_unpin();
    return left;
}

/* At the end: all that is left, as settle. */
static uint64_t give_up(struct sender *s)
{
    uint64_t left = settle(s, s->next, false);
    bool pinned = pool_pin(s);
    for (struct message *m; (m = backlog_take(s));)
        left += settle_one(s, m, pinned, false);
    if (pinned)
        pool_unpin();
    return left;
}

void tell_of_room(struct sender *s)
{
    if (s->awaited)
        event_ring(s->room_fd);
    s->awaited = false;
    if (!s->sleepers)
        return;
    atomic_fetch_add_explicit(&s->room, 1, release); /* pairs with: wait_for_room */
    futex_wake(&s->room, INT32_MAX);
}

static uint64_t held(const struct sender *s)
{
    return window_held(s) + backlog_length(s);
}

static void acknowledge(struct sender *s, uint64_t upto)
{
    if (upto >= s->encoded || upto < s->base)
        return;
    settle(s, upto + 1, true);
    /* not for each message that is acknowledged: a quarter of the window makes a batch */
    bool closing = atomic_load_explicit(&s->lane.closing, relaxed);
    if ((!s->sleepers && !s->awaited) ||
        (!closing && !s->backlog && (held(s) > s->depth * UINT64_C(3) / 4 || s->waiting_bytes > s->bytes_max - s->bytes_max / 4)))
        return;
    tell_of_room(s);
}

/* The receiver wants no more of this incarnation. What is not acknowledged waits for the next hello, after BYE for the next
 * connection: the hello that follows is the last packet on this one, see part.c; unless it stays although it was to be closed. */
static void stop_sending(struct sender *s, bool bye)
{
    s->welcome = false;
    s->incarnation = next_incarnation(s->incarnation);
    packet_forget(s);
    if (bye && s->known_pipe)
        sender_hello(s);
    if (bye) {
        s->bye_at = clock_ns();
        s->hello_due = s->bye_at + PARTED_MOST_NS;
    }
}

/* What a receiver has said, in the cell or through NNG. */
static void take_answer(struct sender *s, uint64_t word, uint64_t max, uint64_t session, bool far)
{
    if (cell_incarnation(word) != s->incarnation || (s->welcome && s->far != far))
        return;
    if (session != s->session) { /* it has had nothing of us yet */
        s->session = session;
        s->session_base = backlog_ticket(s, s->base);
    }
    s->peer_max = max;
    s->far = far;
    s->was_far = s->was_far || far;
    s->hellos = 0;
    s->hello_due = 0;
    acknowledge(s, cell_number(word));
    if (cell_order(word)) {
        stop_sending(s, cell_order(word) == WIRE_BYE);
    } else if (!s->welcome) { /* now we know what it has: the rest again */
        s->welcome = true;
        s->bye_at = 0;
        s->encoded = s->base;
        s->count.resent += s->chunk_at != 0; /* the one whose chunks had begun */
        s->chunk_at = 0;
    }
}

static void take_word(struct sender *s)
{
    uint64_t word = atomic_load_explicit(&s->cell->word, acquire); /* pairs with: the receiver's answer_near */
    if (word != s->word) {
        s->word = word;
        take_answer(s, word, atomic_load_explicit(&s->cell->max, relaxed), atomic_load_explicit(&s->cell->session, relaxed),
                    false); /* before the word */
    }
    word = atomic_load_explicit(&s->back_word, acquire); /* pairs with: take_ack */
    if (word != s->far_word) {
        s->far_word = word;
        take_answer(s, word, atomic_load_explicit(&s->back_max, relaxed), atomic_load_explicit(&s->back_session, relaxed),
                    true); /* before the word */
    }
}

static bool has_room(const struct sender *s, size_t bytes)
{
    return s->backlog ? backlog_room(s, bytes) : window_room(s, bytes);
}

/* The block of a message becomes the window's. */
static int append_block(struct sender *s, const cue_msg *m, struct message *to)
{
    struct block_ref ref;
    char *data;
    uint64_t capacity;
    cue_pool *pool = s->lane.base.pool;
    int status = handle_open(m->move, &ref);
    if (status)
        return status;
    if (ref.pool != pool)
        return trail(CUE_ENOTOWNER, "the block is of pool %s, the channel carries blocks of pool %s: see cue_block_copy", ref.pool->name,
                     pool->name);
    to->type = atomic_load_explicit(&ref.rec->type, relaxed); /* ours or leased */
    uint32_t type = m->type || m->size ? m->type : to->type;
    if (s->lane.type && type != s->lane.type)
        return trail(CUE_ETYPE, "a message of type %u on a lane for type %u", type, s->lane.type);
    to->item.index = ref.index;
    to->item.generation = ref.generation;
    if (ref.owner) {
        to->what = to->item.what = WIRE_MOVED;
        to->payload = rec_size(ref.rec); /* ours */
        return ledger_send(pool, &ref, s->channel, s->next, s->backlog != NULL, &to->block);
    }
    if (!pool_bytes(pool, ref.index, &data, &capacity))
        return trail(CUE_ECORRUPT, "the slab of block %x makes no sense", ref.index);
    to->what = to->item.what = WIRE_VIEWED;
    to->item.offset = (uint64_t)((char *)m->move->data - data);
    to->item.size = to->payload = m->move->size;
    to->view = *m->move;
    return 0;
}

/* So that it is told once, in its place, whatever connections do. */
void window_missed(struct sender *s)
{
    if (!s->missed || s->next - s->base + 1 >= s->ring) /* leave a place for a message */
        return;
    *message_at(s, s->next) =
        (struct message){ .what = WIRE_DROPPED, .item = { .what = WIRE_DROPPED, .size = s->missed }, .ticket = s->backlog_first };
    s->missed = 0;
    s->holes++;
    s->all_holes++;
    s->next++;
}

/* One message into the window, which has room, or into the backlog, which makes room. */
static int append(struct sender *s, const cue_msg *m)
{
    void *bytes = NULL;
    if (m->size && !(bytes = malloc(m->size)))
        return trail(CUE_ENOMEM, "no memory for a message of %zu bytes", m->size);
    if (!s->backlog)
        window_missed(s);
    struct message *to = s->backlog ? backlog_end(s) : message_at(s, s->next);
    *to = (struct message){ .what = WIRE_BYTES,
                            .item = { .type = m->type,
                                      .status = m->status,
                                      .tag = m->tag,
                                      .key = m->key,
                                      .from = m->from,
                                      .has_bytes = m->size || !m->move,
                                      .bytes = bytes,
                                      .nbytes = m->size } };
    int status = m->move ? append_block(s, m, to) : 0;
    if (status) {
        free(bytes);
        return status;
    }
    if (m->move)
        memset(m->move, 0, sizeof *m->move);
    if (m->size) {
        memcpy(bytes, m->data, m->size);
        atomic_fetch_add_explicit(&s->lane.base.pool->copied, m->size, relaxed); /* a count for people */
        s->count.copied += m->size;
    }
    ask_packed.number = s->backlog ? s->backlog_next : s->next;
    if (s->backlog) { /* sent, as far as the caller is concerned */
        backlog_added(s);
    } else {
        s->waiting_bytes += m->size;
        s->next++;
    }
    s->unsent_bytes += WIRE_HEAD_MAX / 8 + m->size;
    s->count.bytes += m->size;
    if (held(s) > s->count.peak)
        s->count.peak = held(s);
    return 0;
}

static int check(const struct sender *s, const cue_msg *m)
{
    uint64_t max = s->peer_max < s->lane.max ? s->peer_max : s->lane.max;
    if (m->size && !m->data)
        return trail(CUE_EINVAL, "a message of %zu bytes at NULL", m->size);
    if (m->type >= CUE_TYPE_SYSTEM)
        return trail(CUE_ETYPE, "type %#x is the library's own: use types below %#x", m->type, CUE_TYPE_SYSTEM);
    if (s->lane.type && !m->move && m->type != s->lane.type)
        return trail(CUE_ETYPE, "a message of type %u on a lane for type %u", m->type, s->lane.type);
    size_t whole = m->size + (s->far && m->move ? m->move->size : 0); /* what travels */
    if (whole > max)
        return trail(CUE_ETOOBIG, "a message of %zu bytes on a lane for at most %llu", whole, (unsigned long long)max);
    if (s->refused)
        return tls_refused(&s->lane, s->refused);
    return 0;
}

/* Who was refused may poll for room now. */
static void await_room(struct sender *s)
{
    if (s->room_fd < 0 || s->awaited)
        return;
    event_take(s->room_fd);
    s->awaited = true;
    sender_poke(s); /* the thread shall listen for us */
}

/* Lets go of `lock` while it sleeps until something was acknowledged, or so. 0: look again. */
static int nap_for_answer(struct sender *s, int64_t nap)
{
    uint32_t seen = atomic_load_explicit(&s->room, acquire); /* pairs with: acknowledge */
    s->sleepers++;
    pthread_mutex_unlock(&s->lock);
    sender_poke(s);                                                                             /* it shall listen for us */
    int slept = atomic_load_explicit(&s->woken, acquire) ? 0 : futex_wait(&s->room, seen, nap); /* pairs with: sender_wake */
    pthread_mutex_lock(&s->lock);
    s->sleepers--;
    if (atomic_load_explicit(&s->lane.closing, acquire)) /* pairs with: socket_shut */
        return CUE_ECLOSED;
    if (atomic_exchange_explicit(&s->woken, 0, acquire) || slept == CUE_EINTR) /* pairs with: sender_wake */
        return CUE_EINTR;
    return s->refused ? tls_refused(&s->lane, s->refused) : pool_enter(s->lane.base.pool);
}

/* 0: there is room. */
static int wait_for_room(struct sender *s, size_t bytes, int64_t deadline)
{
    while (!has_room(s, bytes)) {
        int64_t nap = deadline_nap(deadline);
        if (nap <= 0) {
            s->count.refused++;
            await_room(s);
            return CUE_EFULL;
        }
        int status = nap_for_answer(s, nap);
        if (status)
            return status;
    }
    return 0;
}

/* ---- the calls ---- */

static int send_one(struct sender *s, const cue_msg *m, int64_t deadline)
{
    int status = check(s, m);
    if (!status && !has_room(s, m->size)) {
        sender_flush(s);
        status = wait_for_room(s, m->size, deadline);
        if (status == CUE_EFULL && s->drop_new && !is_question(m)) {
            s->count.refused--;
            s->count.dropped++;
            s->missed += s->missed < UINT32_MAX;
            if (m->move)
                cue_block_release(m->move);
            return 0;
        }
        if (status == CUE_EFULL && s->backlog) {
            s->count.refused--;
            status = 0;
        }
    }
    return status ? status : append(s, m);
}

/* Are there messages that are in no packet? */
static bool unsent(const struct sender *s)
{
    return s->encoded != s->next || backlog_length(s);
}

static int sender_send_many(cue_channel *ch, const cue_msg *m, size_t n, int64_t deadline)
{
    struct sender *s = (struct sender *)ch;
    size_t sent = 0;
    int status = socket_enter(&s->lane);
    if (!status)
        status = pool_enter(ch->pool);
    if (!status) {
        pthread_mutex_lock(&s->lock);
        take_word(s);
        while (sent < n && !(status = send_one(s, &m[sent], sent ? 0 : deadline))) {
            sent++;
            if (s->flush_ns < 0 || s->next - s->encoded + backlog_length(s) >= BATCH_MESSAGES || s->unsent_bytes >= BATCH_BYTES)
                sender_flush(s);
        }
        /* nothing under way: nobody would tell us when to send. And the end of a batch, unless so much is under way that the
         * next acknowledgement is near */
        if (s->base == s->encoded || (n > 1 && s->encoded - s->base < BATCH_MESSAGES / 4))
            sender_flush(s);
        bool arm = s->welcome && !s->armed && (unsent(s) || s->stuck);
        if (arm)
            s->armed = true;
        pthread_mutex_unlock(&s->lock);
        if (arm)
            sender_poke(s);
    }
    wake_noticed(ch, sent ? 0 : status);
    socket_leave(&s->lane);
    return sent ? (int)sent : status;
}

static void sender_wake(cue_channel *ch)
{
    struct sender *s = (struct sender *)ch;
    atomic_store_explicit(&s->woken, 1, release); /* pairs with: wait_for_room */
    atomic_fetch_add_explicit(&s->room, 1, release);
    futex_wake(&s->room, INT32_MAX);
}

static int sender_poll_fd(cue_channel *ch, unsigned how)
{
    struct sender *s = (struct sender *)ch;
    (void)how;
    pthread_mutex_lock(&s->lock);
    if (s->room_fd < 0 && (s->room_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        trail_errno("%s: a descriptor to poll", s->lane.url);
    int fd = s->room_fd; /* readable: the first send finds out */
    pthread_mutex_unlock(&s->lock);
    return fd < 0 ? CUE_ESYS : fd;
}

/* What was not acknowledged may have been taken or not: it is sent again to who connects next. */
static enum whereabouts sender_whereabouts(cue_channel *ch, uint64_t number)
{
    struct sender *s = (struct sender *)ch;
    pthread_mutex_lock(&s->lock);
    take_word(s);
    bool sent = number < backlog_ticket(s, s->highest + 1), other = number < s->session_base;
    pthread_mutex_unlock(&s->lock);
    if (other)
        return TAKER_GONE;
    return sent && !atomic_load_explicit(&s->data.pipe, relaxed) ? TAKER_AWAY : TAKER_THERE; /* a hint: it may break at any moment */
}

static int sender_stat(cue_channel *ch, cue_channel_info *out)
{
    struct sender *s = (struct sender *)ch;
    pthread_mutex_lock(&s->lock);
    take_word(s);
    out->kind = CUE_STREAM;
    out->depth = s->depth;
    out->users = 1;
    out->receiver = atomic_load_explicit(&s->data.pipe, relaxed) ? atomic_load_explicit(&s->peer_pid, relaxed) : 0; /* for people */
    out->queued = held(s);
    out->peak = s->count.peak;
    out->sent = s->backlog ? s->backlog_next - 1 : s->next - 1 - s->all_holes;
    out->bytes = s->count.bytes;
    out->copied = s->count.copied;
    out->dropped = s->count.dropped;
    out->refused = s->count.refused;
    out->batches = s->count.batches;
    out->resent = s->count.resent;
    out->returned = s->count.returned;
    out->stuck = nng_left();
    pthread_mutex_unlock(&s->lock);
    return 0;
}

/* ---- the thread ---- */

/* A new connection, or none any more. */
static void see_connection(struct sender *s)
{
    uint32_t pipe = atomic_load_explicit(&s->data.pipe, acquire); /* pairs with: link_changed */
    if (pipe == s->known_pipe)
        return;
    s->known_pipe = pipe;
    s->welcome = false;
    s->hellos = 0;
    s->hello_due = 0;
    s->bye_at = 0;
    packet_forget(s);
    s->incarnation = next_incarnation(s->incarnation);
    if (pipe) {
        s->refused = 0;
        sender_hello(s);
    }
}

/* All that is to be done now; how long the thread may sleep then. `waited`: the first message that was unsent at the last look. */
static int64_t work(struct sender *s, bool timed_out, uint64_t *waited)
{
    take_word(s); /* of the connection that was */
    see_connection(s);
    if (s->stuck && !s->welcome) { /* the hello */
        nng_msg *packet = s->stuck;
        s->stuck = NULL;
        packet_put(s, packet);
    }
    if (s->stuck || (s->welcome && unsent(s) && (s->base == s->encoded || (timed_out && *waited == s->encoded))))
        sender_flush(s); /* it was stuck; nothing is under way; or its time has come */
    *waited = s->encoded;
    s->armed = (s->welcome && unsent(s)) || s->stuck;
    if (s->welcome && (s->encoded != s->next || backlog_ready(s))) /* else: with the next acknowledgement */
        return s->flush_ns > 0 ? s->flush_ns : 0;
    bool waits = s->known_pipe && (!s->welcome || s->base != s->encoded);
    int64_t now = waits ? clock_ns() : 0; /* not the time-out of the sleep, which those who wait for room cut short */
    if (waits && s->hello_due && now >= s->hello_due)
        pulse(); /* is this connection one? */
    if (waits && s->hello_due && now >= s->hello_due && !s->stuck)
        sender_hello(s); /* is anybody there? */
    if (!waits || !s->hello_due || now >= s->hello_due)
        s->hello_due = waits ? now + HELLO_AGAIN_NS : 0;
    return waits ? HELLO_AGAIN_NS : 10 * (int64_t)WATCH_PERIOD_NS;
}

/* Both connections; how long until the next look. */
static int64_t look_after_links(struct sender *s, bool unanswered)
{
    bool likely = s->lane.scheme != SCHEME_IPC && s->lane.scheme != SCHEME_INPROC;
    if (link_parts(s))
        return PART_LOOK_NS;
    int64_t nap = link_look_after(s, &s->data, unanswered);
    if (!s->back_wanted && s->lane.scheme != SCHEME_INPROC && (likely || unanswered)) {
        s->back_wanted = true;
        link_open(s, &s->back); /* if it fails: looking after it tries again */
    }
    if (!s->back_wanted)
        return nap;
    back_announce(s);
    int64_t back = link_look_after(s, &s->back, unanswered);
    return back < nap ? back : nap;
}

static void *sender_thread(void *arg)
{
    struct sender *s = arg;
    _Atomic uint32_t *bell = &s->cell->bell;
    uint64_t waited = 0;
    bool timed_out = false, listen = true;
    while (!atomic_load_explicit(&s->stop, acquire)) { /* pairs with: sender_close */
        /* before the look around: what is rung after it ends the sleep. ASLEEP asks the receiver to ring, too */
        uint32_t seen = listen ? atomic_fetch_or_explicit(bell, BELL_ASLEEP, seq_cst) | BELL_ASLEEP /* pairs with: the receiver's ring */
                               : atomic_load_explicit(bell, seq_cst);                               /* pairs with: poke */
        pthread_mutex_lock(&s->lock);
        int64_t nap = work(s, timed_out, &waited);
        bool stuck = s->stuck, now = !s->welcome || unsent(s) || s->sleepers || s->awaited, unanswered = s->hellos > 1;
        pthread_mutex_unlock(&s->lock);
        back_answers(s);
        int64_t look = look_after_links(s, unanswered);
        nap = look < nap ? look : nap;
        if (stuck) {
            poll(&(struct pollfd){ .fd = s->data.send_fd, .events = POLLIN }, 1, STUCK_MS);
            timed_out = false;
        } else if (now && !listen) {
            timed_out = false; /* announce it first */
        } else {
            timed_out = futex_wait(bell, seen, nap) == CUE_ETIMEDOUT;
        }
        if (listen)
            atomic_fetch_and_explicit(bell, ~(uint32_t)BELL_ASLEEP, relaxed); /* late rings do no harm */
        listen = now;
    }
    return NULL;
}

/* ---- open, close ---- */

static void sender_halt(struct socket_lane *lane)
{
    struct sender *s = (struct sender *)lane;
    atomic_store_explicit(&s->stop, 1, release); /* pairs with: sender_thread */
    sender_poke(s);
    pthread_join(s->thread, NULL);
    pthread_mutex_lock(&s->pipe_lock);
    s->ended = true;
    pthread_mutex_unlock(&s->pipe_lock);
}

static int sender_prepare(struct sender *s)
{
    int failed;
    struct socket_lane *lane = &s->lane;
    if (lane->tls && (failed = tls_ask(lane, ASK_MS)))
        return tls_refused(lane, failed);
    if ((failed = link_open(s, &s->data)))
        return nng_trail(failed, "%s: dial", lane->url);
    failed = pthread_create(&s->thread, NULL, sender_thread, s);
    errno = failed;
    return failed ? trail_errno("%s: a thread", lane->url) : 0;
}

static int cell_make(struct sender *s)
{
    struct block_ref ref;
    int status =
        cue_block_alloc(s->lane.base.pool, sizeof *s->cell, &(cue_block_opts){ .flags = CUE_ZERO, .wait = CUE_MS(100) }, &s->cell_block);
    if (!status)
        status = cue_block_view(&s->cell_block, 0, SIZE_MAX, &s->cell_view);
    if (!status)
        status = handle_open(&s->cell_block, &ref);
    if (status)
        return trail_in(status, "the cell of %s", s->lane.url);
    s->cell = s->cell_block.data;
    s->cell->channel = s->channel;
    s->cell_index = ref.index;
    s->cell_generation = ref.generation;
    atomic_store_explicit(&ref.rec->type, POOL_TYPE_CELL, release); /* pairs with: the receiver's cell_attach */
    return 0;
}

static void cell_drop(struct sender *s)
{
    cue_block_release(&s->cell_view);
    cue_block_release(&s->cell_block);
}

int sender_open(struct socket_lane *lane, const cue_channel_opts *opts)
{
    struct sender *s = (struct sender *)lane;
    cue_pool_info info;
    int status = cue_pool_stat(lane->base.pool, &info);
    if (status)
        return status;
    s->channel = random_u64();
    s->pool_incarnation = lane->base.pool->incarnation;
    s->flush_ns = opts->flush.ns ? opts->flush.ns : FLUSH_DEFAULT_NS;
    s->linger_ns = opts->linger.ns ? opts->linger.ns : LINGER_DEFAULT_NS;
    s->depth = opts->depth ? opts->depth : SOCKET_DEPTH_DEFAULT;
    s->drop_new = opts->full == CUE_DROP_NEW;
    s->bytes_max = opts->bytes ? opts->bytes : info.size / 4;
    s->base = s->encoded = s->next = 1;
    s->peer_max = UINT64_MAX;
    s->room_fd = -1;
    s->incarnation = 1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->pipe_lock, NULL);
    lane->halt = sender_halt;
    s->ring = opts->full > CUE_FAIL ? 2 * s->depth + 2 : s->depth; /* more: what is dropped last */
    s->window = calloc(s->ring, sizeof *s->window);
    status = s->window ? 0 : trail(CUE_ENOMEM, "%s: no memory for a depth of %u", lane->url, s->depth);
    if (!status && opts->full == CUE_DROP_OLD)
        status = backlog_make(s);
    if (!status)
        status = cell_make(s);
    if (!status)
        status = sender_prepare(s);
    if (status) {
        link_close(s, &s->data); /* before what its callbacks use goes */
        cell_drop(s);
        free(s->window);
        free(s->backlog);
        pthread_mutex_destroy(&s->lock);
        pthread_mutex_destroy(&s->pipe_lock);
    }
    return status;
}

/* Waits until all is acknowledged, at most the linger time. */
static void linger(struct sender *s)
{
    int64_t deadline = deadline_of(CUE_NS(s->linger_ns));
    pthread_mutex_lock(&s->lock);
    if (s->welcome && !backlog_length(s))
        window_missed(s);
    sender_flush(s);
    while (held(s)) {
        int64_t nap = deadline_nap(deadline);
        if (nap <= 0)
            break;
        uint32_t seen = atomic_load_explicit(&s->room, acquire); /* pairs with: acknowledge */
        s->sleepers++;
        pthread_mutex_unlock(&s->lock);
        sender_poke(s);
        futex_wait(&s->room, seen, nap);
        pthread_mutex_lock(&s->lock);
        s->sleepers--;
    }
    pthread_mutex_unlock(&s->lock);
}

static int drain_nap(struct sender *s, int64_t deadline)
{
    int64_t nap = deadline_nap(deadline);
    int status = nap <= 0 ? CUE_ETIMEDOUT : nap_for_answer(s, nap);
    take_word(s);
    return status;
}

/* Until what was sent before is acknowledged. */
static int sender_drain(cue_channel *ch, int64_t deadline)
{
    struct sender *s = (struct sender *)ch;
    int status = socket_enter(&s->lane);
    pthread_mutex_lock(&s->lock);
    if (!status)
        sender_flush(s);
    take_word(s);
    for (uint64_t ticket = s->backlog_next; !status && s->backlog_first < ticket;)
        status = drain_nap(s, deadline);
    for (uint64_t until = s->next; !status && s->base < until;)
        status = drain_nap(s, deadline);
    pthread_mutex_unlock(&s->lock);
    wake_noticed(ch, status);
    socket_leave(&s->lane);
    return status;
}

static int sender_discard(cue_channel *ch)
{
    struct sender *s = (struct sender *)ch;
    pthread_mutex_lock(&s->lock);
    s->linger_ns = -1;
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int sender_close(cue_channel *ch)
{
    struct sender *s = (struct sender *)ch;
    if (ch->forks != fork_epoch) {
        free(s->window);
        free(s->backlog);
        return socket_forked(&s->lane);
    }
    socket_shut(&s->lane);
    linger(s);
    socket_closed(&s->lane);
    sender_halt(&s->lane);
    link_close(s, &s->data); /* nothing comes in on it */
    back_close(s);           /* from here on no callbacks */
    uint64_t lost = give_up(s);
    packet_forget(s);
    if (s->room_fd >= 0)
        close(s->room_fd);
    cell_drop(s);
    tls_unload(&s->lane);
    free(s->window);
    free(s->backlog);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->pipe_lock);
    return lost ? trail(CUE_ETIMEDOUT, "%s: %llu messages were not taken over in time; their blocks were freed", s->lane.url,
                        (unsigned long long)lost)
                : 0;
}

const struct channel_ops sender_ops = { .send_many = sender_send_many,
                                        .wake = sender_wake,
                                        .stat = sender_stat,
                                        .poll_fd = sender_poll_fd,
                                        .whereabouts = sender_whereabouts,
                                        .asks = true,
                                        .drain = sender_drain,
                                        .discard = sender_discard,
                                        .close = sender_close };
