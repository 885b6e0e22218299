/* Inside the receiving end: recv.c hands messages out, peers.c knows the senders. */
#ifndef NNG_RECEIVER_H
#define NNG_RECEIVER_H

#include "transfer.h"

enum { PEERS_MAX = 256, PIPES_SEEN = 64 };

/* What a far asker has not heard yet; changes only under `lock`, by any thread that answers. */
struct answers {
    struct answer *first, *last;
    uint64_t told;      /* the number of the last that is under way */
    uint64_t max;       /* the largest that it takes */
    int64_t tell_at;    /* when to send again what is under way */
    int64_t away_since; /* 0: it is connected */
};

struct peer {
    uint64_t channel;  /* 0: free */
    uint64_t expected; /* read and written only by the thread that receives */
    uint64_t acked;
    uint64_t gap;         /* numbers that it has skipped since its last message, as its hellos said */
    uint32_t incarnation; /* 0: has not said hello, only where its back connection is */
    uint32_t cell;
    uint64_t cell_generation;
    cue_pool *pool; /* near: where its blocks and its cell are; NULL: it is far */
    uint64_t used;  /* when, in packets */
    uint32_t pipe;  /* its data connection */
    uint32_t back;  /* its back connection, 0: none */
    uint64_t who;   /* for cue_msg_peer */
    struct transfer *transfer;
    bool restarts;          /* it was told to begin again, and has not yet */
    bool parted;            /* it was told BYE, and has said its last on `pipe` */
    uint32_t said;          /* in the last ACK: 0, WIRE_BYE, WIRE_RESTART */
    uint32_t again;         /* far: so often still it is said again */
    struct answers answers; /* far: to it */
};

struct receiver {
    struct socket_lane lane;
    struct tie *tie;
    nng_socket sock;
    int recv_fd;         /* NNG's, to poll; never read */
    int wake_fd;         /* an eventfd: cue_channel_wake, and closing */
    int gone_fd;         /* an eventfd: a connection has ended */
    _Atomic int poll_fd; /* cue_channel_fd: an epoll of recv_fd, wake_fd and left_fd; -1: nobody has asked for it */
    int left_fd;         /* with it, an eventfd: the packet at hand is not used up */
    struct guard *guard;
    pthread_t thread; /* if there is a guard */
    int stop_fd;
    _Atomic bool parting;                 /* part.c: nobody new is let in … */
    _Atomic bool admits;                  /* … unless somebody's back connection is missing */
    struct accepted accepted;             /* the guard's */
    _Atomic int32_t pipes;                /* connections; counted by NNG's callbacks */
    _Atomic uint64_t unwelcome;           /* connections that were refused; the same */
    _Atomic uint32_t gone[PIPES_SEEN];    /* connections that ended, at id % PIPES_SEEN; the same */
    pthread_mutex_t lock;                 /* for the peers: they change only under it, but for `expected`, `used` and `transfer` */
    nng_aio *again;                       /* the timer of ACKs that are said again; started under `lock` */
    int32_t again_ms;                     /* under `lock`: 0: it does not run */
    uint64_t answer_bytes, answer_number; /* of all answers, of the last one; under `lock` */
    int64_t linger_ns;                    /* what close waits for them */
    pthread_mutex_t fetching;             /* shut.c: for what comes out of NNG, and … */
    nng_msg **arrived;                    /* … under it: once shut, all that had come: */
    uint32_t arrived_at, arrived_end;     /* … those from `at` on are left */
    _Atomic bool shut, at_hand;           /* changed under it; there is a `packet`. The second goes with the packet */
    _Atomic uint64_t waiting;             /* messages in `arrived`; changed under it */

    /* by the thread that receives */
    struct peer peers[PEERS_MAX];
    nng_msg *packet; /* being handed out, NULL: none */
    uint32_t pipe;   /* from which it came */
    struct wire_head head;
    struct peer *from;
    struct cursor at;
    uint64_t number; /* of the message at `at` */
    uint32_t left;   /* messages in it */
    uint32_t unacknowledged;
    struct transfers transfers;
    bool dropping; /* by receiver_discard */

    struct {
        _Atomic uint64_t packets, received, bytes, copied, dropped, gaps, corrupt, left; /* written by that thread, read by stat */
    } count;
};

static inline void count_add(_Atomic uint64_t *count, uint64_t n)
{
    atomic_store_explicit(count, atomic_load_explicit(count, relaxed) + n, relaxed); /* one writer, for people */
}

static inline bool pipe_ended(const struct receiver *r, uint32_t pipe)
{
    return atomic_load_explicit(&r->gone[pipe % PIPES_SEEN], acquire) == pipe || /* pairs with: on_pipe */
           nng_socket_id(nng_pipe_socket((nng_pipe){ .id = pipe })) <= 0 ||      /* long ago */
           (nng_hangs() && peer_gone(&r->lane, (nng_pipe){ .id = pipe }));
}

/* Whether it can be told something through NNG. */
static inline bool peer_listens(const struct receiver *r, const struct peer *peer)
{
    return peer->back && !pipe_ended(r, peer->back);
}

/* ---- peers.c; by the thread that receives ---- */
/* Once, before the first hello. An error of NNG's. */
int peers_prepare(struct receiver *r);
/* Nothing is said again from now on; to be called before the socket is closed. */
void peers_halt(struct receiver *r);
/* The peer of that channel, NULL if it is not known. */
struct peer *peers_find(struct receiver *r, uint64_t channel);
/* A hello makes or renews a peer; so does what it says on its back connection. CUE_ECORRUPT. */
int peer_hello(struct receiver *r, const struct wire_head *head);
int peer_back(struct receiver *r, const struct wire_head *head);
/* Tells the sender how far we have come. False: it is gone, or was none. */
bool peer_acknowledge(struct receiver *r, struct peer *peer);
/* Tells it to begin again with what was not acknowledged; its transfer is dropped. */
void peer_restart(struct receiver *r, struct peer *peer);
/* Drops transfers whose connection has ended; with `idle` also those that do not go on. */
void peers_sweep(struct receiver *r, bool idle);
/* Starts the timer, `lock` is held. */
void peers_again(struct receiver *r);
/* After the socket was closed, or was not opened. */
void peers_forget(struct receiver *r);
/* Tells BYE to all that have not parted. Also by the guard's thread. */
void peers_bye(struct receiver *r);
/* Ends their connections, when NNG does not. */
void peers_cut(struct receiver *r);

/* ---- recv.c; by the thread that receives ---- */
/* Frees the next message that is here, which is 1; or CUE_ECLOSED, or another error. */
int receiver_drop(struct receiver *r);

/* ---- shut.c ---- */
/* The next packet, not yet looked at: from NNG, or, once shut, of what had arrived. An error of NNG's: NNG_EAGAIN; NNG_ECLOSED: no more
 * comes. By the thread that receives. */
int shut_fetch(struct receiver *r, nng_msg **out);
/* Is there something left that had arrived? By the thread that receives. */
bool shut_left(struct receiver *r);
/* Takes what a wake or a shut rang. Which it was: CUE_EINTR, or 0. */
int shut_woken(struct receiver *r);
/* What is left goes, with the mutex. */
void shut_forget(struct receiver *r);
/* Of ops. */
int receiver_shut(cue_channel *ch);
int receiver_drain(cue_channel *ch, int64_t deadline);
int receiver_discard(cue_channel *ch);

/* ---- part.c ---- */
/* Connection `pipe` has ended: so does the back connection that belongs to it. By NNG's callback. */
void part_hang_up(struct receiver *r, uint32_t pipe);
/* Until no sender sends any more. `step` takes in what comes, and says whether something came; it may sleep for a millisecond. From now
 * on nobody new is let in, until `parting` is false again. By the thread that receives, or the guard's. */
void part(struct receiver *r, bool (*step)(struct receiver *r));

/* ---- answer.c: answers to far ones ---- */
/* By the timer, `lock` is held: whether the peer has answers left. */
bool answers_again(struct receiver *r, struct peer *peer);
/* What it says: that it has heard some; that its back connection is new. CUE_ECORRUPT. */
int answers_heard(struct receiver *r, const struct wire_head *head);
void answers_begin(struct receiver *r, struct peer *peer);
/* They go with their asker, as late. `lock` is held. */
void answers_drop(struct receiver *r, struct peer *peer);
/* Whether somebody who is connected has not heard all yet. */
bool answers_left(struct receiver *r);

#endif
