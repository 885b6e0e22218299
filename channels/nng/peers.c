/* The senders that a receiver knows, and what it tells them.
 *
 * A PEER is a sending channel, known by the random id of its hello; it stays known after its connection has gone, so that what it
 * sends again is told from what it has not sent yet. `expected` is the number of its next message. A peer beyond the table pushes
 * out the one that was silent longest; if that lives, it hears nothing, says hello again and goes on.
 *
 * A near one is told through its cell. A hello whose pool cannot be attached, for whatever reason, makes a far one: it is told by
 * ACK packets on the back connection that it opens for that. NNG's polyamorous pair1 keeps two packets a connection and drops
 * the third without a word when its threads do not get to run, and the last one may be the one that the sender's close waits for
 * while nobody receives here. So an ACK is said again, AGAIN times at growing distances, by a timer of NNG's; the sender takes each
 * for what it says, the second changes nothing. A sender that still hears nothing says hello again. The timer is stopped before
 * the socket is closed: NNG before 1.7 may hang in a close while somebody sends.
 *
 * A peer that was told to begin again is not listened to until its hello has another incarnation: what it had under way would
 * leave a gap. One that was told BYE is told nothing else on that connection; how connections are taken down is in part.c.
 */
#include "receiver.h"

#include "base/process.h"

#include <cuelight/serial.h>
#include <string.h>

enum { AGAIN = 3, AGAIN_MIN_MS = 50, AGAIN_MAX_MS = 200 };

#define TRANSFER_IDLE_NS (INT64_C(10) * 1000 * 1000 * 1000)

/* ---- what a peer is told ---- */

/* A lease on its cell. The type and the id keep a hello that lies from making us write into somebody's block. */
static struct cell *cell_attach(const struct peer *peer, cue_block *view)
{
    struct block_ref ref;
    if (pool_attach(peer->pool, peer->cell, peer->cell_generation, 64 - REC_GENERATION_SHIFT, view))
        return NULL;
    struct cell *cell = view->data;
    if (view->size == sizeof *cell && handle_open(view, &ref) == 0 &&
        atomic_load_explicit(&ref.rec->type, acquire) == POOL_TYPE_CELL && /* pairs with: cell_make */
        cell->channel == peer->channel)
        return cell;
    cue_block_release(view);
    return NULL;
}

static void answer_near(const struct receiver *r, const struct peer *peer, struct cell *cell)
{
    atomic_store_explicit(&cell->max, r->lane.max, relaxed);                                            /* before the word */
    atomic_store_explicit(&cell->session, r->lane.id, relaxed);                                         /* the same */
    atomic_store_explicit(&cell->word, cell_word(peer->incarnation, peer->said, peer->acked), seq_cst); /* pairs with: take_word */
    uint32_t bell = atomic_fetch_add_explicit(&cell->bell, BELL_ONE, seq_cst);                          /* pairs with: sender_thread */
    if (bell & BELL_ASLEEP || peer->said) /* an order is for one who does not wait for acknowledgements, too */
        futex_wake(&cell->bell, 1);
}

static void answer_far(const struct receiver *r, const struct peer *peer)
{
    struct wire_head head = { .kind = WIRE_ACK,
                              .channel = peer->channel,
                              .incarnation = peer->incarnation,
                              .number = peer->acked,
                              .bye = peer->said,
                              .max = r->lane.max,
                              .session = r->lane.id };
    char bytes[WIRE_HEAD_MAX];
    size_t size = wire_write_head(&head, bytes, sizeof bytes);
    nng_msg *packet;
    if (!peer_listens(r, peer) || nng_msg_alloc(&packet, size))
        return;
    memcpy(nng_msg_body(packet), bytes, size);
    nng_msg_set_pipe(packet, (nng_pipe){ .id = peer->back });
    if (nng_sendmsg(r->sock, packet, NNG_FLAG_NONBLOCK))
        nng_msg_free(packet);
}

static bool answer(const struct receiver *r, const struct peer *peer)
{
    cue_block view;
    if (!peer->pool) {
        answer_far(r, peer);
        return true;
    }
    struct cell *cell = cell_attach(peer, &view);
    if (!cell)
        return false;
    answer_near(r, peer, cell);
    cue_block_release(&view);
    return true;
}

static void say_again(void *arg)
{
    struct receiver *r = arg;
    bool more = false;
    if (nng_aio_result(r->again)) /* stopped */
        return;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        if (r->peers[i].again) {
            answer_far(r, &r->peers[i]);
            more = --r->peers[i].again || more;
        }
        more = answers_again(r, &r->peers[i]) || more;
    }
    r->again_ms = !more ? 0 : r->again_ms < AGAIN_MAX_MS / 2 ? r->again_ms * 2 : AGAIN_MAX_MS;
    if (more)
        nng_sleep_aio(r->again_ms, r->again);
    pthread_mutex_unlock(&r->lock);
}

int peers_prepare(struct receiver *r)
{
    return nng_aio_alloc(&r->again, say_again, r);
}

void peers_halt(struct receiver *r)
{
    nng_aio_stop(r->again);
}

void peers_again(struct receiver *r)
{
    if (r->again_ms)
        return;
    r->again_ms = AGAIN_MIN_MS;
    nng_sleep_aio(r->again_ms, r->again);
}

/* `lock` is held. False: it is gone. */
static bool say(struct receiver *r, struct peer *peer)
{
    peer->said = atomic_load_explicit(&r->parting, relaxed) ? WIRE_BYE : peer->restarts ? WIRE_RESTART : 0; /* BYE is said again */
    peer->again = peer->back && !peer->pool && peer->said != WIRE_BYE ? AGAIN : 0;
    if (peer->again)
        peers_again(r);
    return answer(r, peer);
}

static bool tell(struct receiver *r, struct peer *peer)
{
    pthread_mutex_lock(&r->lock);
    peer->acked = peer->expected - 1;
    bool lives = say(r, peer);
    pthread_mutex_unlock(&r->lock);
    return lives;
}

bool peer_acknowledge(struct receiver *r, struct peer *peer)
{
    r->unacknowledged = 0;
    return tell(r, peer);
}

void peer_restart(struct receiver *r, struct peer *peer)
{
    transfer_drop(&r->transfers, &peer->transfer);
    peer->restarts = true;
    tell(r, peer);
}

void peers_bye(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < PEERS_MAX; i++)
        if (r->peers[i].incarnation && !r->peers[i].parted)
            say(r, &r->peers[i]);
    pthread_mutex_unlock(&r->lock);
}

void peers_cut(struct receiver *r)
{
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        const struct peer *peer = &r->peers[i];
        if (peer->incarnation && !pipe_ended(r, peer->pipe))
            nng_pipe_close((nng_pipe){ .id = peer->pipe });
        if (peer->back && !pipe_ended(r, peer->back))
            nng_pipe_close((nng_pipe){ .id = peer->back });
    }
    pthread_mutex_unlock(&r->lock);
}

/* ---- the table ---- */

static void peer_forget(struct receiver *r, struct peer *peer)
{
    transfer_drop(&r->transfers, &peer->transfer);
    answers_drop(r, peer);
    if (peer->pool && peer->pool != r->lane.base.pool)
        cue_pool_close(peer->pool);
    memset(peer, 0, sizeof *peer);
}

void peers_forget(struct receiver *r)
{
    if (r->again)
        nng_aio_free(r->again); /* waits for it */
    for (unsigned i = 0; i < PEERS_MAX; i++)
        peer_forget(r, &r->peers[i]);
}

struct peer *peers_find(struct receiver *r, uint64_t channel)
{
    if (r->from && r->from->channel == channel)
        return r->from;
    for (unsigned i = 0; i < PEERS_MAX; i++)
        if (r->peers[i].channel == channel)
            return &r->peers[i];
    return NULL;
}

/* What is known of a peer, if anything, to be changed and stored. Under the lock: the timer counts in it. */
static struct peer peer_copy(struct receiver *r, const struct peer *known, uint64_t channel)
{
    struct peer copy = { .channel = channel };
    pthread_mutex_lock(&r->lock);
    if (known)
        copy = *known;
    pthread_mutex_unlock(&r->lock);
    return copy;
}

/* Writes a peer into the table, over `known` or over the oldest. */
static void peer_store(struct receiver *r, struct peer *known, const struct peer *fresh)
{
    struct peer *oldest = &r->peers[0];
    for (unsigned i = 1; i < PEERS_MAX; i++)
        if (r->peers[i].used < oldest->used)
            oldest = &r->peers[i];
    pthread_mutex_lock(&r->lock);
    if (!known)
        peer_forget(r, oldest);
    struct peer *to = known ? known : oldest;
    struct answers answers = to->answers; /* another thread may have added to them */
    answers.max = fresh->answers.max;
    *to = *fresh;
    to->answers = answers;
    pthread_mutex_unlock(&r->lock);
}

/* ---- hello ---- */

/* The pool of a sender that is near; NULL: it is far. CUE_ECORRUPT: neither. */
static int peer_pool(struct receiver *r, const struct wire_head *head, uint64_t *host, cue_pool **out)
{
    cue_pool *own = r->lane.base.pool;
    cue_desc desc;
    *out = NULL;
    if (cue_desc_decode(head->pool, head->pool_bytes, &desc) < 0)
        return CUE_ECORRUPT;
    *host = desc.host;
    if (desc.host != own->host)
        return 0;
    if (desc.pool_uid == own->uid)
        *out = own;
    else if (desc.host != own->host || cue_pool_attach(head->pool, head->pool_bytes, out))
        *out = NULL;
    return 0;
}

static bool number_possible(const struct wire_head *head)
{
    return head->channel && head->number && !(head->number >> CELL_NUMBER_BITS) && head->incarnation &&
           !(head->incarnation >> CELL_INCARNATION_BITS);
}

/* The hello that answers BYE. */
static bool parts(struct receiver *r, struct peer *known, const struct wire_head *head)
{
    pthread_mutex_lock(&r->lock);
    bool last = atomic_load_explicit(&r->parting, relaxed) && known && known->said == WIRE_BYE && known->pipe == r->pipe &&
                known->incarnation != head->incarnation;
    if (last)
        known->parted = true;
    pthread_mutex_unlock(&r->lock);
    return last;
}

static bool incarnation_before(uint32_t a, uint32_t b)
{
    uint32_t back = (b - a) & ((1u << CELL_INCARNATION_BITS) - 1);
    return back && back < 1u << (CELL_INCARNATION_BITS - 1);
}

int peer_hello(struct receiver *r, const struct wire_head *head)
{
    if (!number_possible(head))
        return CUE_ECORRUPT;
    struct peer *known = peers_find(r, head->channel);
    if (parts(r, known, head))
        return 0;
    struct peer fresh = peer_copy(r, known, head->channel);
    bool first = !fresh.incarnation;
    if (!first && incarnation_before(head->incarnation, fresh.incarnation))
        return 0; /* from a connection that it has given up since */
    if (first) {
        uint64_t host;
        if (peer_pool(r, head, &host, &fresh.pool))
            return CUE_ECORRUPT;
        fresh.expected = head->number;
        fresh.who = peer_note(&r->lane, (nng_pipe){ .id = r->pipe }, host, head->party, fresh.pool ? 0 : head->channel);
    } else if (fresh.pipe != r->pipe) {
        fresh.who = peer_note(&r->lane, (nng_pipe){ .id = r->pipe }, 0, head->party, fresh.pool ? 0 : head->channel);
    }
    if (fresh.expected < head->number) {
        fresh.gap += head->number - fresh.expected;
        count_add(&r->count.gaps, head->number - fresh.expected);
        fresh.expected = head->number;
    }
    if (known && fresh.incarnation != head->incarnation)
        transfer_drop(&r->transfers, &known->transfer); /* it begins again */
    fresh.transfer = known ? known->transfer : NULL;
    fresh.restarts = fresh.restarts && fresh.incarnation == head->incarnation;
    fresh.parted = false;
    fresh.incarnation = head->incarnation;
    fresh.cell = head->cell;
    fresh.cell_generation = head->cell_generation;
    fresh.pipe = r->pipe;
    fresh.used = atomic_load_explicit(&r->count.packets, relaxed) + 1; /* ours */
    if (!peer_acknowledge(r, &fresh)) {
        if (first && fresh.pool && fresh.pool != r->lane.base.pool)
            cue_pool_close(fresh.pool);
        return CUE_ECORRUPT;
    }
    peer_store(r, known, &fresh);
    return 0;
}

int peer_back(struct receiver *r, const struct wire_head *head)
{
    if (!head->channel)
        return CUE_ECORRUPT;
    struct peer *known = peers_find(r, head->channel);
    struct peer fresh = peer_copy(r, known, head->channel);
    fresh.back = r->pipe;
    fresh.answers.max = head->max;
    fresh.used = atomic_load_explicit(&r->count.packets, relaxed) + 1; /* ours */
    peer_store(r, known, &fresh);
    if (known && known->incarnation && !known->pool) { /* it has waited for this */
        peer_acknowledge(r, known);
        answers_begin(r, known);
    }
    return 0;
}

/* ---- transfers that do not go on ---- */

void peers_sweep(struct receiver *r, bool idle)
{
    int64_t now = idle ? clock_ns() : 0;
    for (unsigned i = 0; r->transfers.open && i < PEERS_MAX; i++) {
        struct peer *peer = &r->peers[i];
        if (!peer->transfer)
            continue;
        if (pipe_ended(r, peer->pipe))
            transfer_drop(&r->transfers, &peer->transfer);
        else if (idle && now - peer->transfer->touched > TRANSFER_IDLE_NS)
            peer_restart(r, peer);
    }
}
