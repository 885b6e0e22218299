/* Socket lanes, by NNG: what the two ends share.
 *
 * A receiver listens (NNG's pull), senders dial (push). The sending end (send.c) batches messages, the receiving end (recv.c)
 * hands them out; packets are wire.h's. Acknowledgements go back through a cell in the sender's pool (cell_layout.h): both ends
 * must be able to map it. A receiver that cannot takes nothing, and says why.
 *
 * THE LEDGER. A block that is moved is not in the message: the message names it. On its way its record is SENT by the sender with
 *   lane  LANE_SOCKET
 *   next  the low half of the sending channel's random id
 *   seq   the low half of the message's number
 * and the receiver takes it over with one CAS SENT(sender) -> OWNED(receiver). That CAS is the delivery: whatever a connection
 * does, it happens at most once, and the sender can see in the record whether it has happened. next and seq tell this sending
 * from an earlier one of the same block.
 *
 * WHAT IS PROMISED, whoever is killed or disconnected:
 *   - a moved block is delivered exactly once; or is freed, and counted as `dropped` by a receiver that found it gone, as
 *     `returned` by a sender that took it back when it closed. With a sender that dies its blocks in flight go at once.
 *   - messages are handed out in the order in which they were sent, by each receiver.
 *   - a message of bytes alone is kept by the sender until it is acknowledged, and sent again on the next connection. One
 *     receiver hands it out once; a receiver that was killed before it acknowledged may have handed it out, and then its
 *     successor does so again. With a sender that is killed its unacknowledged bytes are gone.
 *   - what is missing in the sequence of a sender is counted as `gaps`.
 */
#ifndef NNG_INTERNAL_H
#define NNG_INTERNAL_H

#include "cell_layout.h"
#include "channels/channel_internal.h"
#include "wire.h"

#include <nng/nng.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    SOCKET_PATH_MAX = 108,          /* with its zero, as the kernel has it */
    BATCH_MESSAGES = 512,           /* a batch is sent when it has so many … */
    BATCH_BYTES = 32 * 1024,        /* … or about so many bytes */
    PACKET_SLACK = 2 * BATCH_BYTES, /* what a packet has beside its largest message */
    SOCKET_MAX_DEFAULT = 64 << 20,  /* the largest message */
    SOCKET_MAX_EVER = 1 << 30,
    SOCKET_DEPTH_DEFAULT = 1024,
    ACK_EVERY = 128,                    /* messages handed out from one batch */
    HELLO_AGAIN_NS = 200 * 1000 * 1000, /* a sender that hears nothing says hello again */
    PACKETS_BUFFERED = 16,              /* in NNG, on either side */
    RECONNECT_MIN_MS = 10,
    RECONNECT_MAX_MS = 50
};

/* What both ends begin with. */
struct socket_lane {
    struct cue_channel base;
    nng_socket sock;
    enum scheme scheme;
    char url[URL_WHERE_MAX + SOCKET_PATH_MAX]; /* as NNG wants it */
    char path[SOCKET_PATH_MAX];                /* of the socket's file; abstract ones begin with a zero byte; "": no ipc */
    uint64_t max;
    uint32_t type; /* 0: any */
    _Atomic uint32_t closing;
    _Atomic uint32_t inside; /* threads in a call */
    /* exit() without close: ends the threads of ours that touch the pool, which leaves next */
    void (*halt)(struct socket_lane *lane);
    struct socket_lane *next_open; /* socket.c */
    pid_t pid;
};

/* ---- socket.c: what both ends do ---- */
/* Says what NNG said. */
int nng_trail(int nng_error, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
/* Waits until nobody is inside, having told them. */
void socket_shut(struct socket_lane *lane);
/* From here on, until close, `halt` is called at exit. */
void socket_opened(struct socket_lane *lane);
void socket_closed(struct socket_lane *lane);
/* What close does in a forked child: it must not touch NNG. */
int socket_forked(struct socket_lane *lane);
static inline int socket_enter(struct socket_lane *lane)
{
    atomic_fetch_add_explicit(&lane->inside, 1, memory_order_seq_cst); /* pairs with: socket_shut (my write, then your word) */
    return atomic_load_explicit(&lane->closing, memory_order_seq_cst) ? CUE_ECLOSED : 0;
}
static inline void socket_leave(struct socket_lane *lane)
{
    atomic_fetch_sub_explicit(&lane->inside, 1, memory_order_release); /* pairs with: socket_shut */
}
/* Rings an eventfd; empties it, true if it was rung. Async-signal-safe. */
void event_ring(int fd);
bool event_take(int fd);
/* Refuses peers of other users where the kernel says who they are; NNG calls it before a pipe is used. */
bool socket_admits(const struct socket_lane *lane, nng_pipe pipe);
/* Whether this NNG's listeners need guard.c: 1.6 has the fix. */
bool nng_needs_guard(void);

/* ---- address.c ---- */
/* From the URL's where-part to what NNG and the kernel want; makes the default folder. */
int socket_address(struct socket_lane *lane, const struct channel_url *url);

/* ---- ledger.c: a block on its way ---- */
struct in_flight {
    struct record *rec;
    uint32_t index;
    uint64_t generation;
    uint32_t channel, number; /* low halves */
};
/* OWNED(me) -> SENT(me). CUE_ESTALE, CUE_ENOTOWNER. */
int ledger_send(cue_pool *pool, const struct block_ref *ref, uint64_t channel, uint64_t number, struct in_flight *out);
/* Has nobody taken it over yet? */
bool ledger_pending(cue_pool *pool, const struct in_flight *block);
/* SENT(me) -> freed; false if it was taken over meanwhile. */
bool ledger_take_back(cue_pool *pool, const struct in_flight *block);
/* SENT(sender) -> OWNED(me), as a handle; false if it is gone, another's, or was never on this way. */
bool ledger_claim(cue_pool *pool, uint32_t index, uint64_t generation, uint64_t channel, uint64_t number, cue_block *out);

/* ---- the two ends ---- */
int sender_open(struct socket_lane *lane, const cue_channel_opts *opts);
int receiver_open(struct socket_lane *lane, const cue_channel_opts *opts);
extern const size_t sender_bytes, receiver_bytes; /* of their structs */
extern const struct channel_ops sender_ops, receiver_ops;

/* ---- guard.c: the listener of NNG before 1.6 ---- */
struct guard;
/* `pipes` counts the connections that NNG has told of. */
int guard_make(struct socket_lane *lane, const _Atomic int32_t *pipes, nng_listener listener, struct guard **out);
enum { GUARD_LOOK_MS = 100 };
/* Whether the listener is stuck; to be asked every GUARD_LOOK_MS. Then: makes it anew; senders must not be sending. Both by one
 * thread. */
bool guard_stuck(struct guard *guard);
void guard_heal(struct guard *guard);
/* Makes and starts a listener with all that a listener of ours needs. */
int socket_listen(struct socket_lane *lane, nng_listener *out);

#endif
