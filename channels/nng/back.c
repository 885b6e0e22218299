/* The back connection of a sender: on which a far receiver acknowledges, and answers.
 *
 * A near receiver acknowledges in the pool. A far one needs NNG, and not on the data connection: NNG before 1.7 cannot take down a
 * connection that fails while it is written as long as something comes in on it (part.c). With traffic both ways over tcp:// that
 * happened within a thousand kills of the peer. So the sender dials a second time, says there which channel it is, once, and from
 * then on only listens.
 *
 * Answers to questions that were asked through the channel come on it, too (answer.c). NNG's thread keeps a packet of them for the
 * sender's, which gives them to who asks: by the tag and the box of a question of this very channel that still waits, so that a receiver
 * can answer only what it was asked, once. Then it says on the data connection up to which number they were heard.
 *
 * It is opened where a far receiver is likely, and elsewhere when a hello was not answered. What arrives is put where a near
 * receiver would have put it into the cell, in words of our own, by NNG's thread; the sender's thread looks there as it
 * looks into the cell.
 */
#include "channels/ask.h"
#include "sender.h"

#include <nng/protocol/pair1/pair.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

static void take_ack(struct sender *s, const struct wire_head *head)
{
    if (head->number >> CELL_NUMBER_BITS || head->incarnation >> CELL_INCARNATION_BITS)
        return;
    pthread_mutex_lock(&s->pipe_lock);
    atomic_store_explicit(&s->back_max, head->max, relaxed);                                              /* before the word */
    atomic_store_explicit(&s->back_session, head->session, relaxed);                                      /* the same */
    atomic_store_explicit(&s->back_word, cell_word(head->incarnation, head->bye, head->number), release); /* pairs with: take_word */
    if (!s->ended)
        sender_poke(s);
    pthread_mutex_unlock(&s->pipe_lock);
}

/* One at a time: what comes before it was looked at is sent again, since it was not heard. */
static bool keep_answers(struct sender *s, nng_msg *packet)
{
    pthread_mutex_lock(&s->pipe_lock);
    bool kept = !s->answers && !s->ended;
    if (kept) {
        s->answers = packet;
        sender_poke(s);
    }
    pthread_mutex_unlock(&s->pipe_lock);
    return kept;
}

/* Whether the packet is still needed. */
static bool take_packet(struct sender *s, nng_msg *packet)
{
    struct wire_head head;
    struct cursor at = cursor_over(nng_msg_body(packet), nng_msg_len(packet));
    if (!wire_read_head(&at, &head) || head.channel != s->channel)
        return false;
    if (head.kind == WIRE_ANSWER)
        return keep_answers(s, packet);
    if (head.kind == WIRE_ACK)
        take_ack(s, &head);
    return false;
}

static void on_packet(void *arg)
{
    struct sender *s = arg;
    int failed = nng_aio_result(s->back_aio);
    if (!failed) {
        nng_msg *packet = nng_aio_get_msg(s->back_aio);
        if (!take_packet(s, packet))
            nng_msg_free(packet);
    }
    if (failed != NNG_ECLOSED && failed != NNG_ECANCELED)
        nng_recv_aio(s->back_sock, s->back_aio);
}

/* The answer as who asked will have it; NULL: it makes no sense, or there is no memory. */
static struct ask_far *answer_of(const struct wire_item *item)
{
    bool block = item->what == WIRE_CARRIED;
    if ((!block && item->what != WIRE_BYTES) || (block && !item->payload) || item->type >= CUE_TYPE_SYSTEM ||
        (block && item->block_type >= POOL_TYPE_SYSTEM))
        return NULL;
    size_t size = block ? item->size : 0;
    struct ask_far *a = malloc(sizeof *a + item->nbytes + size);
    if (!a)
        return NULL;
    *a = (struct ask_far){ .type = item->type,
                           .status = item->status,
                           .key = item->key,
                           .has_bytes = item->has_bytes,
                           .nbytes = item->nbytes,
                           .has_block = block,
                           .block_type = item->block_type,
                           .size = size };
    if (item->nbytes)
        memcpy(a->bytes, item->bytes, item->nbytes);
    if (size)
        memcpy(a->bytes + item->nbytes, item->payload, size);
    return a;
}

static void give_answers(struct sender *s, struct cursor *at, const struct wire_head *head)
{
    struct wire_item item;
    if (s->heard_of != head->session)
        s->heard = 0;
    s->heard_of = head->session;
    for (uint64_t number = head->number; number < head->number + head->count && wire_read_item(at, &item); number++) {
        if (number <= s->heard)
            continue;
        s->heard = number;
        struct ask_far *a = answer_of(&item);
        if (!a || !ask_deliver(&s->lane.base, item.from, item.tag, a))
            free(a);
    }
    s->hear = true;
}

void back_answers(struct sender *s)
{
    struct wire_head head;
    pthread_mutex_lock(&s->pipe_lock);
    nng_msg *packet = s->answers;
    s->answers = NULL;
    pthread_mutex_unlock(&s->pipe_lock);
    if (packet) {
        struct cursor at = cursor_over(nng_msg_body(packet), nng_msg_len(packet));
        if (wire_read_head(&at, &head))
            give_answers(s, &at, &head);
        nng_msg_free(packet);
    }
    if (!s->hear)
        return;
    pthread_mutex_lock(&s->lock);
    s->hear = !sender_heard(s);
    pthread_mutex_unlock(&s->lock);
}

int back_listen(struct sender *s, nng_socket sock)
{
    int failed = nng_aio_alloc(&s->back_aio, on_packet, s);
    if (failed) {
        s->back_aio = NULL;
        return failed;
    }
    s->back_sock = sock;
    nng_recv_aio(sock, s->back_aio);
    return 0;
}

void back_deafen(struct sender *s)
{
    if (!s->back_aio)
        return;
    nng_aio_stop(s->back_aio); /* from here on on_packet is not called */
    nng_aio_free(s->back_aio);
    s->back_aio = NULL;
}

void back_announce(struct sender *s)
{
    uint32_t pipe = atomic_load_explicit(&s->back.pipe, acquire); /* pairs with: link_changed */
    struct wire_head head = { .kind = WIRE_BACK, .channel = s->channel, .max = s->lane.max };
    char bytes[WIRE_HEAD_MAX];
    nng_msg *packet;
    if (!pipe || pipe == s->announced)
        return;
    size_t size = wire_write_head(&head, bytes, sizeof bytes);
    if (nng_msg_alloc(&packet, size))
        return;
    memcpy(nng_msg_body(packet), bytes, size);
    if (nng_sendmsg(s->back.sock, packet, NNG_FLAG_NONBLOCK))
        nng_msg_free(packet);
    else
        s->announced = pipe;
}

/* The receiver takes it down when it sees the end of the data connection, see part.c; unless it is a near one, which says nothing
 * here. */
static void wait_for_end(const struct sender *s)
{
    bool near = s->session && !s->far;
    int64_t end = clock_ns() + PART_NS;
    while (s->announced && !near && clock_ns() < end && atomic_load_explicit(&s->back.pipe, acquire)) /* pairs with: link_changed */
        poll(NULL, 0, 1);
}

void back_close(struct sender *s)
{
    if (s->back.tie)
        wait_for_end(s);
    link_close(s, &s->back);
    if (s->answers)
        nng_msg_free(s->answers);
}
