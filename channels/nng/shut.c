/* cue_channel_shut of a receiver: a cut through what comes.
 *
 * All packets that NNG has for us at that moment are put aside, under a mutex that every fetch from NNG takes: they, and the one at
 * hand, are what had arrived. From then on only they are fetched, in their order, by the thread that receives, which hands out their
 * messages and acknowledges them as ever; after them it finds the channel closed. What NNG gets later waits there, unread and
 * unacknowledged, and so remains its sender's.
 *
 * SENDERS ARE TOLD BYE BY CLOSE, after the last message, not here. An acknowledgement belongs to an incarnation of its sender, and BYE ends
 * that: what is handed out after it cannot be acknowledged any more, and the next receiver would get it again. Until then a sender goes
 * on as with a receiver that is busy, as far as its window goes.
 *
 * How much can be put aside: NNG's queue, and one packet of each connection, which waits for a place in it.
 */
#include "receiver.h"

#include <limits.h>
#include <poll.h>
#include <stdlib.h>

static uint32_t messages_in(nng_msg *packet)
{
    struct cursor at = cursor_over(nng_msg_body(packet), nng_msg_len(packet));
    struct wire_head head;
    return wire_read_head(&at, &head) && head.kind == WIRE_BATCH ? head.count : 0;
}

int shut_fetch(struct receiver *r, nng_msg **out)
{
    int failed = 0;
    pthread_mutex_lock(&r->fetching);
    if (r->arrived_at < r->arrived_end) {
        *out = r->arrived[r->arrived_at++];
        atomic_fetch_sub_explicit(&r->waiting, messages_in(*out), relaxed); /* under the mutex, as the next */
    } else if (atomic_load_explicit(&r->shut, relaxed) && !atomic_load_explicit(&r->lane.closing, relaxed)) {
        failed = NNG_ECLOSED;
    } else {
        failed = nng_recvmsg(r->sock, out, NNG_FLAG_NONBLOCK);
    }
    if (!failed)
        atomic_store_explicit(&r->at_hand, true, relaxed); /* the same */
    pthread_mutex_unlock(&r->fetching);
    return failed;
}

bool shut_left(struct receiver *r)
{
    pthread_mutex_lock(&r->fetching);
    bool left = r->arrived_at < r->arrived_end;
    pthread_mutex_unlock(&r->fetching);
    return left;
}

int shut_woken(struct receiver *r)
{
    bool rung = event_take(r->wake_fd);
    if (!atomic_load_explicit(&r->shut, acquire)) /* pairs with: receiver_shut, which rings after it */
        return rung ? CUE_EINTR : 0;
    event_ring(r->wake_fd); /* who polls finds it so for good: a receive never says CUE_EEMPTY again */
    return 0;
}

void shut_forget(struct receiver *r)
{
    while (r->arrived_at < r->arrived_end)
        nng_msg_free(r->arrived[r->arrived_at++]);
    free(r->arrived);
    pthread_mutex_destroy(&r->fetching);
}

/* `fetching` is held. */
static int put_aside(struct receiver *r)
{
    int32_t pipes = atomic_load_explicit(&r->pipes, relaxed); /* who comes now has sent nothing yet */
    uint32_t room = PACKETS_BUFFERED + (uint32_t)(pipes > 0 ? pipes : 0);
    r->arrived = calloc(room, sizeof(nng_msg *));
    if (!r->arrived)
        return trail(CUE_ENOMEM, "%s: no memory for %u packets", r->lane.url, room);
    while (r->arrived_end < room && nng_recvmsg(r->sock, &r->arrived[r->arrived_end], NNG_FLAG_NONBLOCK) == 0)
        atomic_fetch_add_explicit(&r->waiting, messages_in(r->arrived[r->arrived_end++]), relaxed); /* under the mutex */
    atomic_store_explicit(&r->shut, true, release);                                                 /* pairs with: shut_woken */
    return 0;
}

int receiver_shut(cue_channel *ch)
{
    struct receiver *r = (struct receiver *)ch;
    int status = socket_enter(&r->lane);
    if (!status) {
        pthread_mutex_lock(&r->fetching);
        if (!atomic_load_explicit(&r->shut, relaxed)) /* under the mutex */
            status = put_aside(r);
        pthread_mutex_unlock(&r->fetching);
        event_ring(r->wake_fd);
    }
    socket_leave(&r->lane);
    return status;
}

static bool nothing_left(struct receiver *r)
{
    pthread_mutex_lock(&r->fetching);
    bool nothing = !atomic_load_explicit(&r->waiting, relaxed) && /* under the mutex */
                   !atomic_load_explicit(&r->at_hand, acquire);   /* pairs with: packet_done */
    pthread_mutex_unlock(&r->fetching);
    return nothing;
}

int receiver_drain(cue_channel *ch, int64_t deadline)
{
    struct receiver *r = (struct receiver *)ch;
    int status = socket_enter(&r->lane);
    while (!status && !nothing_left(r)) {
        if (deadline_nap(deadline) <= 0)
            status = CUE_ETIMEDOUT;
        else if (atomic_load_explicit(&r->lane.closing, acquire)) /* pairs with: socket_shut */
            status = CUE_ECLOSED;
        else if (atomic_load_explicit(&ch->woken, acquire) || poll(NULL, 0, 1) < 0) /* pairs with: cue_channel_wake */
            status = CUE_EINTR;
        else
            status = pool_enter(ch->pool);
    }
    wake_noticed(ch, status);
    socket_leave(&r->lane);
    return status;
}

int receiver_discard(cue_channel *ch)
{
    struct receiver *r = (struct receiver *)ch;
    int freed = 0, status = socket_enter(&r->lane);
    if (!status)
        status = pool_enter(ch->pool);
    if (!status) {
        r->dropping = true;
        while ((status = receiver_drop(r)) > 0)
            freed += freed < INT_MAX;
        r->dropping = false;
        status = status == CUE_ECLOSED ? 0 : status;
    }
    socket_leave(&r->lane);
    return freed ? freed : status;
}
