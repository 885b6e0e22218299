/* Taking connections down.
 *
 * NNG before 1.7 receives a packet in two steps, its size and then the rest. If a connection is closed when the first step is done and
 * its callback has not run yet, the second is refused without a word, the receive never ends, and the one thread of NNG's that takes
 * down connections waits for it for ever, and with it every nng_close of the process (nanomsg/nng#1543; ipc, tcp, tls). A close
 * that comes out of the receive itself, because the other end is gone or says too much, is safe. So: WHO RECEIVES ON A CONNECTION
 * DOES NOT CLOSE IT AS LONG AS SOMETHING MAY COME IN.
 *
 *   data connection, the receiver goes, or makes its listener anew (guard.c): it lets nobody new in, and tells each sender BYE, through
 *     its cell or on its back connection, again and again, since NNG may drop that. (While a far one has said hello and has no back
 *     connection yet, new ones are let in: it would hear nothing, and say hello again and again.) A sender that hears it says hello
 *     once, with its next incarnation, as the last packet on that connection. When all have, the connections are closed.
 *   data connection, the sender goes: nothing comes in, it just closes.
 *   back connection, the sender goes: it has closed its data connection. The receiver, which alone speaks on the back connection, sees
 *     that end, and hangs up. The sender waits for it; also one that gives up a deaf receiver (link.c), and does so some time after its
 *     last hello, which may be going out in steps.
 *   back connection, the receiver goes: nothing comes in after the BACK that it has heard.
 *
 * Nobody waits longer than PART_NS for nothing to come, and PART_MAX_NS in all: who is stopped, or behind a broken network, sends
 * nothing either. What remains is a stranger who floods a receiver with packets while it is being closed: then the fault comes, and is
 * lived with as closer.c says. For the same reason who sends nothing but nonsense is not thrown out.
 */
#include "receiver.h"

#define BYE_EVERY_NS (20 * INT64_C(1000000))
#define PART_MAX_NS (5000 * INT64_C(1000000))

void part_hang_up(struct receiver *r, uint32_t pipe)
{
    uint32_t back = 0;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < PEERS_MAX; i++)
        if (r->peers[i].pipe == pipe)
            back = r->peers[i].back;
    pthread_mutex_unlock(&r->lock);
    if (back)
        nng_pipe_close((nng_pipe){ .id = back });
}

/* Whether something may still come in: there are connections of which nobody has said that they are done. Also sees whether somebody
 * has yet to make the connection on which it can be told. */
static bool speaking(struct receiver *r)
{
    int32_t done = 0, pipes = atomic_load_explicit(&r->pipes, acquire); /* first: who is not counted is in `gone`; pairs with: on_pipe */
    bool deaf = false;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < PEERS_MAX; i++) {
        const struct peer *peer = &r->peers[i];
        done += peer->parted && !pipe_ended(r, peer->pipe);
        done += peer_listens(r, peer);
        deaf = deaf || (peer->incarnation && !peer->pool && !peer->parted && !peer_listens(r, peer) && !pipe_ended(r, peer->pipe));
    }
    pthread_mutex_unlock(&r->lock);
    atomic_store_explicit(&r->admits, deaf, relaxed); /* pairs with nothing: who comes too early comes again */
    return pipes > done;
}

void part(struct receiver *r, bool (*step)(struct receiver *r))
{
    atomic_store_explicit(&r->admits, false, relaxed);
    atomic_store_explicit(&r->parting, true, relaxed); /* who comes in nevertheless is told BYE when it says hello */
    int64_t now = clock_ns(), end = now + PART_MAX_NS, silent = now + PART_NS, bye = now;
    while (now < end && now < silent && speaking(r)) {
        if (now >= bye) {
            peers_bye(r);
            bye = now + BYE_EVERY_NS;
        }
        bool came = step(r);
        now = clock_ns();
        if (came)
            silent = now + PART_NS;
    }
}
