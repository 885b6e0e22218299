/* Socket lanes, by NNG: what the two ends share.
 *
 * A receiver listens, senders dial. Both use NNG's pair1; the receiver's is polyamorous: any number of senders, each message says
 * from which connection it came. The sending end (send.c, encode.c, back.c) batches messages, the receiving end (recv.c,
 * transfer.c) hands them out; packets are wire.h's. There are two kinds of receivers:
 *
 * NEAR: it can map the sender's pool. It gets descriptors, and acknowledges through a cell in that pool (cell_layout.h).
 * FAR: it cannot (another host, another /dev/shm, no permission, another pool of that name). It gets the bytes of the blocks, in
 * pieces of at most CHUNK_BYTES, into its own pool, and acknowledges through NNG: on a second connection, the sender's back
 * connection, see back.c for why. The sender does not know beforehand which it is: it says hello, and who answers how decides.
 *
 * THE LEDGER. A block that is moved is not in the message to a near receiver: the message names it. On its way its record is SENT
 * by the sender with
 *   lane  LANE_SOCKET
 *   next  the low half of the sending channel's random id
 *   seq   the low half of the message's number
 * and the receiver takes it over with one CAS SENT(sender) -> OWNED(receiver). That CAS is the delivery: whatever a connection
 * does, it happens at most once, and the sender can see in the record whether it has happened. next and seq tell this sending
 * from an earlier one of the same block. Before its bytes go to a far receiver, the record gets another `next` (ledger_carry), so
 * that no near one that is late can take it: what is delivered then is the copy, and the block is freed when it was acknowledged.
 *
 * WHAT IS PROMISED, whoever is killed or disconnected:
 *   - a moved block is delivered to a near receiver exactly once; or is freed, and counted as `dropped` by a receiver that found it
 *     gone, as `returned` by a sender that took it back when it closed. With a sender that dies its blocks in flight go at once.
 *   - messages are handed out in the order in which they were sent, by each receiver.
 *   - bytes, of a message or of a block to a far receiver, are kept by the sender until they are acknowledged, and sent again on
 *     the next connection. One receiver hands them out once; a receiver that was killed before it acknowledged may have handed
 *     them out, and then its successor does so again. With a sender that is killed what it had not got acknowledged is gone.
 *   - what a sender says it has dropped, and what is missing in its sequence, is counted as `gaps`.
 */
#ifndef NNG_INTERNAL_H
#define NNG_INTERNAL_H

#include "base/atomic.h"
#include "cell_layout.h"
#include "channels/channel_internal.h"
#include "wire.h"

#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <sys/types.h>

enum {
    SOCKET_PATH_MAX = 108,          /* with its zero, as the kernel has it */
    BATCH_MESSAGES = 512,           /* a batch is sent when it has so many … */
    BATCH_BYTES = 32 * 1024,        /* … or about so many bytes */
    PACKET_SLACK = 2 * BATCH_BYTES, /* what a packet has beside its largest message */
    SOCKET_MAX_DEFAULT = 64 << 20,  /* the largest message */
    SOCKET_MAX_EVER = 1 << 30,
    SOCKET_DEPTH_DEFAULT = 1024,
    LINGER_DEFAULT_NS = 1000 * 1000 * 1000,
    ACK_EVERY = 128,                    /* messages handed out from one batch */
    HELLO_AGAIN_NS = 200 * 1000 * 1000, /* a sender that hears nothing says hello again */
    PACKETS_BUFFERED = 16,              /* in NNG, on either side */
    RECONNECT_MIN_MS = 10,
    RECONNECT_MAX_MS = 50,
    CHUNK_BYTES = 256 * 1024,      /* of a block, in a packet */
    CARRY_WHOLE = BATCH_BYTES / 2, /* a block of at most so many bytes goes in its item */
    CONNECTIONS_MAX = 4096,        /* to one receiver; more are refused */
    PART_NS = 250 * 1000 * 1000,   /* an end waits so long for the other's silence before it takes a connection down */
    USERS_MAX = 16
};

/* A socket, and what NNG's callbacks get; see closer.c. */
struct tie {
    pthread_rwlock_t lock;
    void *owner; /* under `lock` */
    nng_socket sock;
    nng_dialer dialer; /* or `listener`: what is closed when the socket cannot be; 0: none. By who closes the tie */
    nng_listener listener;
    struct tie *next;  /* the closer's, and … */
    bool closed, left; /* … under its lock */
};

/* What both ends begin with. */
struct socket_lane {
    struct cue_channel base;
    enum scheme scheme;
    char url[URL_WHERE_MAX + SOCKET_PATH_MAX]; /* as NNG wants it */
    char path[SOCKET_PATH_MAX];                /* of the socket's file; abstract ones begin with a zero byte; "": no ipc */
    uint64_t max;
    uint32_t type;          /* 0: any */
    uid_t users[USERS_MAX]; /* ipc: whose processes may be the other end */
    unsigned nusers;
    bool any_user;
    int (*admit)(void *arg, const cue_peer *who);
    void *admit_arg;
    nng_tls_config *tls;   /* tls+tcp */
    nng_tls_config *blind; /* senders: the same without a look at the receiver's certificate, only to ask; see tls.c */
    _Atomic uint32_t closing;
    _Atomic uint32_t inside; /* threads in a call */
    /* exit() without close: ends the threads of ours that touch the pool, which leaves next */
    void (*halt)(struct socket_lane *lane);
    struct socket_lane *next_open; /* socket.c */
    pid_t pid;
    uint64_t id; /* random */
};

/* ---- socket.c: what both ends do ---- */
/* Says what NNG said. */
int nng_trail(int nng_error, const char *format, ...) __attribute__((format(printf, 2, 3), cold));
/* Waits until nobody is inside, having told them. */
void socket_shut(struct socket_lane *lane);
/* From here on, until close, `halt` is called at exit. */
void socket_opened(struct socket_lane *lane);
void socket_closed(struct socket_lane *lane);
/* The open lane of this process with that id, inside as after socket_enter; NULL: none. */
struct socket_lane *socket_find(uint64_t id);
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
/* A socket, with limits and callbacks for its connections, which get the tie. An error of NNG's. */
int socket_make(void *owner, bool receiver, size_t largest, nng_pipe_cb on_pipe, struct tie **out);
/* The largest packet with such messages. */
static inline size_t packet_max(uint64_t message_max)
{
    return (size_t)(message_max > CHUNK_BYTES ? message_max : CHUNK_BYTES) + PACKET_SLACK;
}

/* ---- closer.c ---- */
/* NULL: no memory, or no thread. */
struct tie *tie_make(nng_socket sock, void *owner);
/* Its owner, who stays until tie_release; NULL: it has none any more. */
void *tie_hold(struct tie *tie);
void tie_release(struct tie *tie);
/* Closes its socket, or leaves it behind after some seconds: false, and its connections may be open. The tie is gone then, and no
 * callback has the owner any more. */
bool tie_close(struct tie *tie);
/* The same, without waiting for anything: when NNG hangs. */
void tie_leave(struct tie *tie);
/* A connection has ended: does NNG's reaper go on? */
void pulse(void);
/* It does not, or the machine is slow. */
bool nng_hangs(void);
/* Detached, and no signal is handled on it. */
bool thread_start(void *(*run)(void *), void *arg);
/* Sockets of this process that were left behind. */
uint64_t nng_left(void);

/* ---- peer.c: who the other end is ---- */
/* When NNG does not tell any more: has that connection ended? False if nobody knows. */
bool peer_gone(const struct socket_lane *lane, nng_pipe pipe);
/* From the options: users, admit. CUE_EINVAL. */
int peer_options(struct socket_lane *lane, const struct channel_url *url, const cue_channel_opts *opts);
/* Refuses connections of other users where the kernel says who they are, of the unverified where TLS does, and whom the
 * application does not admit. NNG calls it before a pipe is used, on a thread of its own. */
bool peer_admitted(const struct socket_lane *lane, nng_pipe pipe);
/* Remembers who is at the other end, for cue_msg_peer: a word for cue_msg.priv[3]. `far`: its channel, if its answers go through
 * the socket; else 0. */
uint64_t peer_note(const struct socket_lane *lane, nng_pipe pipe, uint64_t host, uint32_t party, uint64_t far);
/* The way back to who sent a message: the id of the lane that it came through, and `far`. False: not remembered any more. */
bool peer_route(uint64_t word, uint64_t *lane, uint64_t *far);

/* ---- tls.c ---- */
/* Loads the certificates of a tls+tcp lane. CUE_ENOSYS, CUE_EINVAL, CUE_ENOENT, CUE_EPERM. */
int tls_load(struct socket_lane *lane, const struct channel_url *url, const cue_channel_opts *opts, bool receiver);
void tls_unload(struct socket_lane *lane);
/* Connects once, to hear what the other end says of our certificate and what we say of its: an error of NNG's if one is refused,
 * else 0, also if nobody is there. At most `ms`. */
int tls_ask(const struct socket_lane *lane, int ms);
/* Says so: CUE_EPERM. */
int tls_refused(const struct socket_lane *lane, int nng_error);
/* TLS for a dialer (or a listener) that was created and not started. An error of NNG's. */
int tls_dialer(const struct socket_lane *lane, nng_dialer dialer);
int tls_listener(const struct socket_lane *lane, nng_listener listener);
/* Whether this NNG's listeners and dialers stop where they should go on: 1.6 has the fix. */
bool nng_stops(void);

/* ---- address.c ---- */
/* From the URL's where-part to what NNG and the kernel want; makes the default folder. */
int socket_address(struct socket_lane *lane, const struct channel_url *url);
/* Whether somebody listens there, as the kernel says. Waits at most half a second for its name, and for each address of it. */
bool socket_listened(const struct socket_lane *lane);

/* ---- ledger.c: a block on its way ---- */
struct in_flight {
    struct record *rec;
    uint32_t index;
    uint64_t generation;
    uint32_t channel, number; /* low halves */
    bool far;                 /* for nobody to claim: `next` is ~channel */
};
/* OWNED(me) -> SENT(me), for its receiver or for nobody to claim (`far`). CUE_ESTALE, CUE_ENOTOWNER. */
int ledger_send(cue_pool *pool, const struct block_ref *ref, uint64_t channel, uint64_t number, bool far, struct in_flight *out);
/* SENT(me) -> SENT(me) for nobody to claim (`far`), or for its receiver, with that number. false: it was taken over. */
bool ledger_carry(cue_pool *pool, struct in_flight *block, bool far, uint64_t number);
/* Its bytes, while it is pending. */
bool ledger_bytes(cue_pool *pool, const struct in_flight *block, const char **data, uint64_t *size);
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
/* The connections that NNG has told of and that are not over, of the present listener. */
struct accepted {
    _Atomic uint32_t by; /* its id */
    _Atomic int32_t pipes;
    _Atomic uint32_t made; /* that ever were, by any listener */
};
bool guard_needed(enum scheme scheme);
int guard_make(struct socket_lane *lane, struct tie *tie, struct accepted *accepted, struct guard **out);
/* By NNG's callbacks: it tells of a pipe (1), or of its end (-1). */
void guard_count(struct accepted *accepted, nng_pipe pipe, int32_t change);
/* Whether the listener is stuck; to be asked again and again, with such rests. Then: makes it anew; senders must not be sending. All by
 * one thread. */
bool guard_stuck(struct guard *guard);
int guard_rest_ms(const struct guard *guard);
void guard_heal(struct guard *guard);
/* Makes and starts a listener with all that a listener of ours needs. */
int socket_listen(struct socket_lane *lane, struct tie *tie, struct accepted *accepted);

#endif
