/* Answers to far askers: the receiver's side. back.c has the asker's.
 *
 * Who asks through a socket gets its answer in the pool if the replier can map that; cue_reply needs nothing of this then. A far
 * asker's answer goes back as an item in an ANSWER packet, on the back connection that it has opened for acknowledgements; so no
 * connection carries messages both ways (back.c says why that must not be).
 *
 * NOTHING IS LOST ON THE WAY. NNG drops what it has no room for, and a connection may break. So answers are numbered, and kept, as the
 * bytes that will be sent, until it has HEARD them, which it says on its data connection. One packet is under way at a time; what is
 * answered meanwhile goes in the next. It is sent again by the timer of peers.c until it was heard, and on each new back connection. The
 * asker knows the numbers, and takes each once. A receiver hears HEARD when somebody receives, or when it is closed, which waits for it for
 * `linger`.
 *
 * WHAT IS BOUNDED. An answer is never larger than its asker said it takes, else NNG would break the connection. All answers that wait are
 * at most as many bytes as a receiver may hold of chunks (option bytes); beyond that cue_reply says CUE_EFULL. Answers to who is away for
 * AWAY_NS are dropped, and counted as late, and so are those to who is pushed out of the table.
 *
 * WHERE TO is remembered by this process: which of its channels received the question, and from whom (peer_route). What the
 * question says itself, the address of a box in the asker's pool, only goes back with the answer. So a question that lies about it
 * makes nobody here write anywhere.
 */
#include "channels/ask.h"
#include "receiver.h"

#include <stdlib.h>
#include <string.h>

#define AWAY_NS (INT64_C(10) * 1000 * 1000 * 1000)
enum { TELL_AGAIN_NS = 100 * 1000 * 1000, TELL_BYTE_NS = 100 }; /* a slow connection has 10 MB/s */

struct answer {
    struct answer *next;
    uint64_t number;
    size_t bytes;
    char item[];
};

static void drop_first(struct receiver *r, struct peer *peer)
{
    struct answer *a = peer->answers.first;
    peer->answers.first = a->next;
    r->answer_bytes -= a->bytes;
    free(a);
}

void answers_drop(struct receiver *r, struct peer *peer)
{
    while (peer->answers.first) {
        atomic_fetch_add_explicit(&r->lane.base.late, 1, relaxed); /* a count for people */
        drop_first(r, peer);
    }
}

/* The oldest answers, as many as make a batch, as one packet. */
static void tell(struct receiver *r, struct peer *peer)
{
    struct answers *all = &peer->answers;
    size_t bytes = 0;
    uint32_t count = 0;
    nng_msg *packet;
    for (const struct answer *a = all->first; a && (!count || bytes + a->bytes <= BATCH_BYTES); a = a->next, count++)
        bytes += a->bytes;
    if (!count || !peer->incarnation || !peer_listens(r, peer) || nng_msg_alloc(&packet, WIRE_HEAD_MAX + bytes))
        return;
    struct wire_head head = {
        .kind = WIRE_ANSWER, .channel = peer->channel, .number = all->first->number, .session = r->lane.id, .count = count
    };
    char *body = nng_msg_body(packet);
    size_t used = wire_write_head(&head, body, WIRE_HEAD_MAX);
    const struct answer *a = all->first;
    for (uint32_t i = 0; i < count; i++, a = a->next) {
        memcpy(body + used, a->item, a->bytes);
        used += a->bytes;
        all->told = a->number;
    }
    nng_msg_chop(packet, WIRE_HEAD_MAX + bytes - used);
    nng_msg_set_pipe(packet, (nng_pipe){ .id = peer->back });
    if (nng_sendmsg(r->sock, packet, NNG_FLAG_NONBLOCK))
        nng_msg_free(packet);
    all->tell_at = clock_ns() + TELL_AGAIN_NS + (int64_t)bytes * TELL_BYTE_NS;
    peers_again(r);
}

bool answers_again(struct receiver *r, struct peer *peer)
{
    struct answers *all = &peer->answers;
    if (!all->first)
        return false;
    int64_t now = clock_ns();
    if (peer_listens(r, peer)) {
        all->away_since = 0;
        if (now >= all->tell_at)
            tell(r, peer);
        return true;
    }
    if (!all->away_since)
        all->away_since = now;
    else if (now - all->away_since > AWAY_NS)
        answers_drop(r, peer);
    return all->first != NULL;
}

int answers_heard(struct receiver *r, const struct wire_head *head)
{
    struct peer *peer = peers_find(r, head->channel);
    int status = 0;
    if (!peer || head->session != r->lane.id) /* pushed out; or of a receiver before us */
        return 0;
    pthread_mutex_lock(&r->lock);
    if (peer->pipe != r->pipe || head->number > r->answer_number)
        status = CUE_ECORRUPT;
    while (!status && peer->answers.first && peer->answers.first->number <= head->number)
        drop_first(r, peer);
    if (!status && peer->answers.first && peer->answers.told <= head->number)
        tell(r, peer);
    pthread_mutex_unlock(&r->lock);
    return status;
}

void answers_begin(struct receiver *r, struct peer *peer)
{
    pthread_mutex_lock(&r->lock);
    tell(r, peer);
    pthread_mutex_unlock(&r->lock);
}

bool answers_left(struct receiver *r)
{
    bool left = false;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < PEERS_MAX && !left; i++)
        left = r->peers[i].answers.first && peer_listens(r, &r->peers[i]);
    pthread_mutex_unlock(&r->lock);
    return left;
}

/* ---- cue_reply ---- */

/* What is sent for it; the block's bytes are copied. */
static int answer_make(const cue_msg *request, const cue_msg *m, struct answer **out)
{
    size_t block = m->move ? m->move->size : 0, room = WIRE_HEAD_MAX + m->size + block;
    struct block_ref ref;
    struct wire_item item = { .type = m->type,
                              .status = m->status,
                              .tag = request->tag,
                              .key = m->key,
                              .from = request->from,
                              .has_bytes = m->size || !m->move,
                              .bytes = m->data,
                              .nbytes = m->size };
    if (m->move) {
        int status = handle_open(m->move, &ref);
        if (status)
            return status;
        item.what = WIRE_CARRIED;
        item.size = block;
        item.payload = m->move->data;
        item.block_type = atomic_load_explicit(&ref.rec->type, relaxed); /* ours or leased */
    }
    struct answer *a = malloc(sizeof *a + room);
    if (!a)
        return trail(CUE_ENOMEM, "no process memory for an answer of %zu bytes", m->size + block);
    a->bytes = wire_write_item(&item, a->item, room);
    *out = a;
    return 0;
}

static struct peer *peer_of(struct receiver *r, uint64_t channel)
{
    for (unsigned i = 0; i < PEERS_MAX; i++)
        if (r->peers[i].channel == channel && r->peers[i].incarnation && !r->peers[i].pool)
            return &r->peers[i];
    return NULL;
}

/* `lock` is held. The answer is the peer's then, or it is late. */
static int answer_give(struct receiver *r, uint64_t channel, size_t size, struct answer *a)
{
    struct peer *peer = peer_of(r, channel);
    if (!peer) {
        atomic_fetch_add_explicit(&r->lane.base.late, 1, relaxed); /* a count for people */
        free(a);
        return 0;
    }
    struct answers *all = &peer->answers;
    if (size > all->max)
        return trail(CUE_ETOOBIG, "cue_reply: an answer of %zu bytes to one who takes at most %llu", size, (unsigned long long)all->max);
    if (r->answer_bytes &&
        a->bytes > r->transfers.bytes_max - (r->answer_bytes < r->transfers.bytes_max ? r->answer_bytes : r->transfers.bytes_max))
        return trail(CUE_EFULL, "cue_reply: %llu bytes of answers wait to be heard: see option bytes", (unsigned long long)r->answer_bytes);
    bool idle = !all->first;
    a->number = ++r->answer_number;
    a->next = NULL;
    if (idle)
        all->first = a;
    else
        all->last->next = a;
    all->last = a;
    r->answer_bytes += a->bytes;
    if (idle)
        tell(r, peer);
    peers_again(r);
    return 0;
}

int nng_reply(const cue_msg *request, const cue_msg *m)
{
    uint64_t lane, channel;
    struct answer *a = NULL;
    if (!peer_route(request->priv[3], &lane, &channel))
        return trail(CUE_EREMOTE, "cue_reply: too many connections came since to know where the question is from");
    if (!channel)
        return 1;
    if (m->size && !m->data)
        return trail(CUE_EINVAL, "a message of %zu bytes at NULL", m->size);
    if (m->type >= CUE_TYPE_SYSTEM)
        return trail(CUE_ETYPE, "type %#x is the library's own: use types below %#x", m->type, CUE_TYPE_SYSTEM);
    struct receiver *r = (struct receiver *)socket_find(lane);
    if (!r)
        return trail(CUE_ECLOSED, "cue_reply: the channel that received the question is closed");
    int status = answer_make(request, m, &a);
    if (!status) {
        pthread_mutex_lock(&r->lock);
        status = answer_give(r, channel, m->size + (m->move ? m->move->size : 0), a);
        pthread_mutex_unlock(&r->lock);
        if (status)
            free(a);
        else if (m->move)
            cue_block_release(m->move);
    }
    socket_leave(&r->lane);
    return status;
}
