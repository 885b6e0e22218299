/* Inside the channels layer: what a kind of lane gives the dispatcher, and what the kinds share.
 *
 * channel.c checks arguments, parses the URL (url.c) and calls through `ops`. A kind's own struct begins with a struct
 * cue_channel. What the layers above may use besides the public calls is at the end.
 */
#ifndef CHANNEL_INTERNAL_H
#define CHANNEL_INTERNAL_H

#include "base/clock.h"
#include "base/trail.h"
#include "pool/pool_internal.h"

#include <cuelight/channel.h>

/* ---- the URL, taken apart ---- */
enum scheme { SCHEME_SHM = 0, SCHEME_IPC, SCHEME_TCP, SCHEME_TLS_TCP, SCHEME_WS, SCHEME_INPROC };

enum { URL_WHERE_MAX = 256, URL_TEXTS = 5, URL_TEXT_MAX = 256 };

struct channel_url {
    enum scheme scheme;
    char pool[POOL_NAME_BYTES];         /* shm: may be "" */
    char name[POOL_NAME_BYTES];         /* shm: the lane's */
    char dead[POOL_NAME_BYTES];         /* shm: of option dead */
    char where[URL_WHERE_MAX];          /* others: all between :// and ?, checked for length only */
    char plain[URL_WHERE_MAX];          /* others: scheme://where, for trails and for the socket library */
    char text[URL_TEXTS][URL_TEXT_MAX]; /* options that are texts: cue_channel_opts then points here */
};

/* Parses `url`; its options are written over `opts`, which the caller has filled from the struct. CUE_EINVAL, CUE_ENOSYS. */
int url_parse(const char *url, struct channel_url *out, cue_channel_opts *opts);

/* ---- a kind of lane ---- */
/* `deadline` is of CLOCK_MONOTONIC (base/clock.h): 0 does not wait, INT64_MAX is for ever. The dispatcher has checked that
 * the channel was opened for this, that n > 0, and that the channel is not a forked parent's. */
struct channel_sleep {
    _Atomic uint32_t *word;
    uint32_t value;
};

struct parcel;                                            /* message.h */
enum whereabouts { TAKER_THERE, TAKER_AWAY, TAKER_GONE }; /* or it was not sent yet; it is not connected now; another has the lane now */

struct channel_ops {
    int (*send_many)(cue_channel *ch, const cue_msg *m, size_t n, int64_t deadline); /* how many; empties *m[i].move of those */
    int (*recv_many)(cue_channel *ch, cue_msg *out, size_t n, int64_t deadline);     /* how many, > 0 */
    /* Links a message that is packed already, beyond the lane's limits; 1, or 0: no place, or negative. NULL: not for this kind. */
    int (*put)(cue_channel *ch, struct parcel *parcel);
    void (*wake)(cue_channel *ch);                       /* async-signal-safe */
    int (*stat)(cue_channel *ch, cue_channel_info *out); /* `out` is zero */
    int (*forked)(cue_channel *ch); /* first use in a forked child: renews what it needs, or CUE_EFORK; NULL: CUE_EFORK */
    int (*close)(cue_channel *ch);  /* lets go of everything but what the dispatcher holds: pool, memory of the struct */
    /* cue_channel_shut. Either may be NULL: not for this kind. Of a receiving end: nothing more goes in, and who waits looks again. */
    int (*shut)(cue_channel *ch);
    /* Until what is there now was taken: 0, CUE_ETIMEDOUT, or as waits end. */
    int (*drain)(cue_channel *ch, int64_t deadline);
    /* Frees what is there, as dropped or dead letters, and says how many; at a receiving end, with that place (channel_recv_begin). */
    int (*discard)(cue_channel *ch);
    bool later;  /* a deadline may come as a duration, negative: deadline_made() when one must wait */
    bool shared; /* any number of threads may receive at a time */
    /* For who sleeps on more than this channel; NULL: not for this kind. doze: is there nothing to receive (`how` CUE_RECV), or no
     * room to send (CUE_SEND)? true: whoever changes that wakes the futex `on->word`, and the word is `on->value` no more. false:
     * look again. Each doze that said true is followed by a rouse, by a thread that might receive (or send) at that time. */
    bool (*doze)(cue_channel *ch, unsigned how, struct channel_sleep *on);
    void (*rouse)(cue_channel *ch, unsigned how);
    /* Sockets. poll_fd: readable as cue_channel_fd says, or a status. whereabouts: of who took message `number`, see ask_note.
     * Both may be NULL. */
    int (*poll_fd)(cue_channel *ch, unsigned how);
    enum whereabouts (*whereabouts)(cue_channel *ch, uint64_t number);
    /* The word that says who has the receiving end, see lane_layout.h: who is asked through this channel. NULL: many or nobody has. */
    uint64_t (*receiver)(cue_channel *ch);
    bool asks; /* what goes through it can be answered */
};

struct cue_channel {
    const struct channel_ops *ops;
    cue_pool *pool;                      /* opened by the kind with cue_pool_open; closed by the dispatcher after ops->close */
    unsigned how;                        /* CUE_RECV | CUE_SEND */
    uint32_t forks;                      /* fork_epoch in which it was opened or renewed */
    uint32_t incarnation;                /* of the pool's slot */
    _Atomic uint32_t receiving;          /* threads in recv_many; ops->close of a kind that waits must see to it that they come out */
    _Atomic uint32_t woken;              /* cue_channel_wake was called: for waits that are not in ops */
    _Atomic uint32_t closing;            /* the same for cue_channel_close */
    _Atomic uint32_t turn;               /* wait.c: grows; when it was served last */
    _Atomic(struct pollable *) pollable; /* poll.c: once cue_channel_fd was called */
    _Atomic(struct ask_box *) ask_boxes; /* ask.c, as the rest */
    _Atomic uint32_t asking;             /* threads in cue_channel_ask */
    _Atomic uint64_t late;               /* answers that nobody waited for any more */
};

/* A wait has ended with `status`: its wake was this one, and no later wait's. Before the last touch of the channel, which another thread
 * may be about to close. */
static inline void wake_noticed(cue_channel *ch, int status)
{
    if (__builtin_expect(status == CUE_EINTR, 0))
        atomic_store_explicit(&ch->woken, 0, memory_order_seq_cst);
}

/* The openers: a struct that begins with a struct cue_channel and can be given to free(), with ops and pool set and the rest
 * zero; the other members are set by the dispatcher. lane.c opens the lane and calls the opener of its kind (lane.h). */
int lane_channel_open(const struct channel_url *url, unsigned how, const cue_channel_opts *opts, cue_channel **out);
/* A name that begins with @: what happens in the pool (pool_topics.c). */
int pool_topic_open(cue_pool *pool, const char *name, unsigned how, const cue_channel_opts *with, cue_channel **out);
/* Answers a question that came through a socket from who cannot be reached in a pool. 1: it is another kind of question. */
int nng_reply(const cue_msg *request, const cue_msg *answer);
int nng_channel_open(const struct channel_url *url, unsigned how, const cue_channel_opts *opts, cue_channel **out); /* channels/nng/ */

/* ---- what a record says while it is on its way: record.lane ----
 * The index of the lane's record, or one of these, which are no index. */
#define LANE_ENVELOPE                                                                                                                      \
    UINT32_C(0xfffffffe)                 /* it goes along with another message: record.next is that envelope's index, record.seq
                                              the low half of its generation */
#define LANE_SOCKET UINT32_C(0xfffffffd) /* it is in flight through a socket: when its sender dies it is freed */

/* ---- channel.c: for waits on several channels, and for questions ---- */
/* The place of a receiver, after all that cue_channel_recv checks. CUE_EBUSY … */
int channel_recv_begin(cue_channel *ch);
void channel_recv_end(cue_channel *ch); /* the channel may be gone after this */
/* With that place: around what is done there, for its descriptor (poll.h); and one message if there is one, CUE_EINTR if it was
 * woken, or CUE_EEMPTY. */
void channel_recv_before(cue_channel *ch);
void channel_recv_after(cue_channel *ch, int got);
int channel_take_now(cue_channel *ch, cue_msg *out);
/* As cue_channel_send_many of one message, which is checked already. */
int channel_send(cue_channel *ch, const cue_msg *m, int64_t deadline);

/* ---- for the layers above ---- */
/* Checks that the channel may be used here and now, as each public call does. */
int channel_enter(cue_channel *ch);
/* A message of the library's own, of a type from CUE_TYPE_SYSTEM on: never refused for want of room in the lane, never
 * dropped, never waits. CUE_ENOMEM. */
int channel_send_system(cue_channel *ch, const cue_msg *m);

#endif
