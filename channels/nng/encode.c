/* What a sender's packets are made of. `lock` is held in all of it.
 *
 * To a near receiver a batch is descriptors and small copies. To a far one it has the bytes of blocks, too: those of up to
 * CARRY_WHOLE in their item; the rest go before it, in chunks, each copied once from its block into NNG's message. `encoded` and
 * `chunk_at` say how far that has come; a connection that breaks sets both back.
 */
#include "sender.h"

#include <cuelight/serial.h>
#include <string.h>

bool pool_pin(const struct sender *s)
{
    const cue_pool *pool = s->lane.base.pool;
    pthread_mutex_lock(&registry_lock);
    if (atomic_load_explicit(&pool->open, relaxed) == 1 && pool->incarnation == s->pool_incarnation) /* both change under registry_lock */
        return true;
    pthread_mutex_unlock(&registry_lock);
    return false;
}

void pool_unpin(void)
{
    pthread_mutex_unlock(&registry_lock);
}

/* ---- NNG's messages ---- */

bool packet_put(struct sender *s, nng_msg *packet)
{
    int failed = nng_sendmsg(s->data.sock, packet, NNG_FLAG_NONBLOCK);
    if (!failed)
        return true;
    if (failed == NNG_EAGAIN)
        s->stuck = packet;
    else
        nng_msg_free(packet);
    return false;
}

void packet_forget(struct sender *s)
{
    if (s->stuck)
        nng_msg_free(s->stuck);
    s->stuck = NULL;
}

static nng_msg *packet_of(const void *bytes, size_t size)
{
    nng_msg *packet;
    if (nng_msg_alloc(&packet, size))
        return NULL;
    memcpy(nng_msg_body(packet), bytes, size);
    return packet;
}

void sender_hello(struct sender *s)
{
    uint8_t pool[CUE_DESC_MAX];
    char bytes[WIRE_HEAD_MAX];
    int pool_bytes = cue_pool_encode(s->lane.base.pool, pool, sizeof pool);
    struct wire_head head = { .kind = WIRE_HELLO,
                              .channel = s->channel,
                              .incarnation = s->incarnation,
                              .number = s->base,
                              .party = s->lane.base.pool->self + 1,
                              .epoch = s->lane.base.pool->epoch,
                              .cell = s->cell_index,
                              .cell_generation = s->cell_generation,
                              .pool = pool,
                              .pool_bytes = pool_bytes > 0 ? (size_t)pool_bytes : 0 };
    nng_msg *packet = packet_of(bytes, wire_write_head(&head, bytes, sizeof bytes));
    if (packet)
        packet_put(s, packet);
    s->hellos++;
}

bool sender_heard(struct sender *s)
{
    char bytes[WIRE_HEAD_MAX];
    struct wire_head head = {
        .kind = WIRE_HEARD, .channel = s->channel, .incarnation = s->incarnation, .number = s->heard, .session = s->heard_of
    };
    if (!s->welcome || s->stuck)
        return false;
    nng_msg *packet = packet_of(bytes, wire_write_head(&head, bytes, sizeof bytes));
    if (packet)
        packet_put(s, packet);
    return packet != NULL;
}

/* ---- items ---- */

static bool has_payload(const struct message *m)
{
    return m->what == WIRE_MOVED || m->what == WIRE_VIEWED;
}

bool message_too_big(const struct sender *s, const struct message *m)
{
    uint64_t payload = s->far && has_payload(m) ? m->payload : 0;
    return m->item.nbytes > s->peer_max || payload > s->peer_max - m->item.nbytes;
}

/* Does its block go in chunks, before it? */
static bool needs_chunks(const struct sender *s, const struct message *m)
{
    return s->far && has_payload(m) && m->payload > CARRY_WHOLE && !message_too_big(s, m);
}

/* Is a moved block still there to be sent? Afterwards its record is as this kind of receiver needs it. */
static bool block_ready(struct sender *s, uint64_t number, bool pinned)
{
    struct message *m = message_at(s, number);
    cue_pool *pool = s->lane.base.pool;
    if (m->what != WIRE_MOVED)
        return true;
    return pinned && (m->block.far == s->far ? ledger_pending(pool, &m->block) : ledger_carry(pool, &m->block, s->far, number));
}

/* The bytes of a block that is ready. */
static const char *block_bytes(const struct sender *s, const struct message *m)
{
    const char *data = m->view.data;
    uint64_t size = m->view.size;
    if (m->what == WIRE_MOVED && !ledger_bytes(s->lane.base.pool, &m->block, &data, &size))
        return NULL;
    return size < m->payload ? NULL : data;
}

static void count_copied(struct sender *s, uint64_t bytes)
{
    s->count.copied += bytes;
    atomic_fetch_add_explicit(&s->lane.base.pool->copied, bytes, relaxed); /* a count for people */
}

/* What goes out for a message that may have been sent before. */
static struct wire_item item_now(struct sender *s, uint64_t number, bool pinned)
{
    const struct wire_item gone = { .what = WIRE_GONE };
    struct message *m = message_at(s, number);
    struct wire_item item = m->item;
    if (m->what == WIRE_DROPPED)
        return item;
    bool again = number <= s->highest, carried = s->far && has_payload(m);
    if (message_too_big(s, m) || ((again || carried || m->block.far) && !block_ready(s, number, pinned)))
        return gone;
    if (carried) {
        item.what = WIRE_CARRIED;
        item.index = 0;
        item.generation = item.offset = 0;
        item.size = m->payload;
        item.block_type = m->type;
        if (m->payload <= CARRY_WHOLE) {
            if (!(item.payload = block_bytes(s, m)))
                return gone;
            count_copied(s, m->payload);
        }
    }
    s->count.resent += again;
    return item;
}

/* ---- packets with messages ---- */

static struct wire_head batch_head(const struct sender *s, uint32_t count)
{
    return (
        struct wire_head){ .kind = WIRE_BATCH, .channel = s->channel, .incarnation = s->incarnation, .number = s->encoded, .count = count };
}

/* One message that is too large for the scratch space, as a packet of its own. */
static nng_msg *encode_large(struct sender *s, const struct wire_item *item)
{
    struct wire_head head = batch_head(s, 1);
    size_t room = 2 * WIRE_HEAD_MAX + item->nbytes + (item->payload ? item->size : 0);
    nng_msg *packet;
    if (nng_msg_alloc(&packet, room))
        return NULL;
    char *body = nng_msg_body(packet);
    size_t used = wire_write_head(&head, body, room);
    used += wire_write_item(item, body + used, room - used);
    nng_msg_chop(packet, room - used);
    s->encoded++;
    return packet;
}

/* The next batch, from `encoded` on. The items are written behind the room for a head, which needs their count. */
static nng_msg *encode_batch(struct sender *s, bool pinned)
{
    size_t used = WIRE_HEAD_MAX;
    uint32_t count = 0, most = s->flush_ns < 0 ? 1 : BATCH_MESSAGES;
    uint64_t number = s->encoded;
    for (; number != s->next && count < most && used < BATCH_BYTES; number++, count++) {
        if (count && needs_chunks(s, message_at(s, number)))
            break;
        struct wire_item item = item_now(s, number, pinned);
        if (item.nbytes + (item.payload ? item.size : 0) + WIRE_HEAD_MAX > SCRATCH - used) {
            if (count)
                break;
            return encode_large(s, &item);
        }
        used += wire_write_item(&item, s->scratch + used, SCRATCH - used);
    }
    char bytes[WIRE_HEAD_MAX];
    struct wire_head head = batch_head(s, count);
    size_t head_bytes = wire_write_head(&head, bytes, sizeof bytes);
    char *first = s->scratch + WIRE_HEAD_MAX - head_bytes;
    memcpy(first, bytes, head_bytes);
    nng_msg *packet = packet_of(first, used - WIRE_HEAD_MAX + head_bytes);
    if (packet)
        s->encoded = number;
    return packet;
}

/* The next chunk of message `encoded`. *done: there is none, its batch comes now. */
static nng_msg *encode_chunk(struct sender *s, bool pinned, bool *done)
{
    struct message *m = message_at(s, s->encoded);
    nng_msg *packet;
    const char *data = needs_chunks(s, m) && s->chunk_at < m->payload && block_ready(s, s->encoded, pinned) ? block_bytes(s, m) : NULL;
    if ((*done = !data))
        return NULL;
    uint64_t left = m->payload - s->chunk_at, bytes = left < CHUNK_BYTES ? left : CHUNK_BYTES;
    struct wire_head head = { .kind = WIRE_CHUNK,
                              .channel = s->channel,
                              .incarnation = s->incarnation,
                              .number = s->encoded,
                              .total = m->payload,
                              .offset = s->chunk_at,
                              .payload = (const uint8_t *)data + s->chunk_at,
                              .payload_bytes = bytes };
    size_t room = WIRE_HEAD_MAX + bytes;
    if (nng_msg_alloc(&packet, room))
        return NULL;
    nng_msg_chop(packet, room - wire_write_head(&head, nng_msg_body(packet), room));
    count_copied(s, bytes);
    s->chunk_at += bytes;
    return packet;
}

static nng_msg *encode(struct sender *s)
{
    /* else nothing is looked at that belongs to the pool */
    bool pinned = (s->far || s->was_far || s->backlog || s->encoded <= s->highest) && pool_pin(s), done;
    nng_msg *packet = encode_chunk(s, pinned, &done);
    if (done && (packet = encode_batch(s, pinned))) {
        s->chunk_at = 0;
        s->count.batches++;
    }
    if (pinned)
        pool_unpin();
    return packet;
}

void sender_flush(struct sender *s)
{
    while (s->welcome && (s->stuck || s->encoded != s->next || backlog_admit(s))) {
        nng_msg *packet = s->stuck ? s->stuck : encode(s);
        s->stuck = NULL;
        if (!packet)
            return; /* no memory now: the thread tries again */
        if (s->encoded - 1 > s->highest)
            s->highest = s->encoded - 1;
        if (!packet_put(s, packet))
            return;
    }
    if (s->encoded == s->next && !backlog_length(s))
        s->unsent_bytes = 0;
}
