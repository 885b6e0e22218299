/* The back connection of a sender: on which a far receiver acknowledges.
 *
 * A near receiver acknowledges in the pool. A far one needs NNG, and not on the data connection: in NNG before 1.7 a connection that
 * fails while messages go both ways can stop the thread that takes down connections, and with it every socket of the process
 * (nanomsg/nng#1543). With traffic both ways over tcp:// that happened within a thousand kills of the peer; with two
 * connections, each of which carries messages one way, it has not been seen. So the sender dials a second time, says there which channel it
 * is, once, and from then on only listens.
 *
 * It is opened where a far receiver is likely, and elsewhere when a hello was not answered. What arrives is put where a near
 * receiver would have put it into the cell, in words of our own, by NNG's thread; the sender's thread looks there as it
 * looks into the cell.
 */
#include "sender.h"

#include <nng/protocol/pair1/pair.h>
#include <string.h>

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct sender *s = arg;
    link_changed(s, &s->back, pipe, event);
}

static void take_ack(struct sender *s, nng_msg *packet)
{
    struct wire_head head;
    struct cursor at = cursor_over(nng_msg_body(packet), nng_msg_len(packet));
    if (!wire_read_head(&at, &head) || head.kind != WIRE_ACK || head.channel != s->channel || head.number >> CELL_NUMBER_BITS ||
        head.incarnation >> CELL_INCARNATION_BITS)
        return;
    pthread_mutex_lock(&s->pipe_lock);
    atomic_store_explicit(&s->back_max, head.max, relaxed); /* before the word */
    atomic_store_explicit(&s->greet, head.bye == WIRE_BYE, relaxed);
    atomic_store_explicit(&s->back_word, cell_word(head.incarnation, head.bye != 0, head.number), release); /* pairs with: take_word */
    if (!s->ended)
        sender_poke(s);
    pthread_mutex_unlock(&s->pipe_lock);
}

static void on_packet(void *arg)
{
    struct sender *s = arg;
    int failed = nng_aio_result(s->back_aio);
    if (!failed) {
        nng_msg *packet = nng_aio_get_msg(s->back_aio);
        take_ack(s, packet);
        nng_msg_free(packet);
    }
    if (failed != NNG_ECLOSED && failed != NNG_ECANCELED)
        nng_recv_aio(s->back.sock, s->back_aio);
}

void back_open(struct sender *s)
{
    if (nng_pair1_open(&s->back.sock))
        return;
    socket_limits(s->back.sock, WIRE_HEAD_MAX);
    int failed = nng_aio_alloc(&s->back_aio, on_packet, s);
    for (int event = NNG_PIPE_EV_ADD_PRE; !failed && event < NNG_PIPE_EV_NUM; event++)
        failed = nng_pipe_notify(s->back.sock, (nng_pipe_ev)event, on_pipe, s);
    if (!failed)
        failed = link_dial(s, &s->back);
    if (!failed) {
        nng_recv_aio(s->back.sock, s->back_aio);
        return;
    }
    nng_close(s->back.sock);
    if (s->back_aio)
        nng_aio_free(s->back_aio);
    s->back_aio = NULL;
}

void back_announce(struct sender *s)
{
    uint32_t pipe = atomic_load_explicit(&s->back.pipe, acquire); /* pairs with: link_changed */
    struct wire_head head = { .kind = WIRE_BACK, .channel = s->channel };
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

void back_close(struct sender *s)
{
    if (!s->back_aio)
        return;
    nng_close(s->back.sock);
    nng_aio_stop(s->back_aio);
    nng_aio_free(s->back_aio);
}
