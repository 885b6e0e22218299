/* Inside the sending end: send.c has the window and the thread, backlog.c what drop-old may drop, link.c dials, encode.c makes packets,
 * back.c hears a far receiver. */
#ifndef NNG_SENDER_H
#define NNG_SENDER_H

#include "nng_internal.h"

enum { SCRATCH = 2 * BATCH_BYTES };

/* A connection that is dialled: the data connection, and the back connection; see link.c. */
struct link {
    struct tie *tie; /* the thread's, once it runs; NULL: none */
    nng_socket sock; /* its socket, and … */
    int send_fd;     /* … the data connection's descriptor to poll, never read, -1: none; written under `lock` */
    int64_t redial_at, opened_at, patience, deaf; /* the thread's: when to look after it; 0: connected */
    int64_t part_by;                              /* the thread's: back: until then its receiver may hang up … */
    uint32_t parts;                               /* … this connection; 0: it shall not */
    unsigned redials;                             /* the thread's: in vain, since it was connected */
    bool hung;                                    /* the thread's: made when NNG hung */
    _Atomic uint32_t pipe;                        /* 0: none; stored by NNG's callbacks */
};

struct message {
    enum wire_what what;
    struct in_flight block; /* MOVED */
    uint64_t payload;       /* MOVED, VIEWED: bytes, and the block's type */
    uint32_t type;
    cue_block view;        /* VIEWED: its lease, until the receiver has its own */
    struct wire_item item; /* `bytes` is our copy */
    uint64_t ticket;       /* drop-old: its number in the backlog; DROPPED: of the message after it */
};

struct sender {
    struct socket_lane lane;
    uint64_t channel;
    uint32_t pool_incarnation;
    int64_t flush_ns, linger_ns; /* flush < 0: every message is a batch */
    uint32_t depth, ring;        /* places for messages; in the window, where each may have one with DROPPED before it */
    bool drop_new;
    struct message *backlog; /* drop-old; NULL: another policy */
    struct link data, back;
    nng_aio *back_aio;               /* NULL: nobody listens on a back connection */
    nng_socket back_sock;            /* on which it does */
    uint32_t announced;              /* the back connection that was told whose it is */
    cue_block cell_block, cell_view; /* the second keeps it mapped whatever becomes of the pool */
    struct cell *cell;
    uint32_t cell_index;
    uint64_t cell_generation;
    pthread_t thread;
    _Atomic uint32_t stop;
    pthread_mutex_t pipe_lock; /* for `ended`, which keeps NNG's callbacks from the cell */
    bool ended;
    nng_msg *answers;                                   /* a packet of them; under pipe_lock */
    uint64_t heard, heard_of;                           /* the thread's: the last answer, and by which receiver */
    bool hear;                                          /* the thread's: to say so */
    bool back_wanted;                                   /* the thread's: there is a back connection, or should be */
    _Atomic uint64_t back_word, back_max, back_session; /* as the cell's, from a far receiver; written by NNG's callback */
    _Atomic int32_t peer_pid;
    _Atomic uint32_t room; /* futex: grows when the window moves, and with wake and close */
    _Atomic uint32_t woken;

    pthread_mutex_t lock;
    struct message *window;
    uint64_t base, encoded, next;                        /* numbers; the first message is 1 */
    uint64_t highest;                                    /* of all that were ever encoded */
    uint64_t waiting_bytes;                              /* of the window's own copies */
    uint64_t unsent_bytes;                               /* about, of those not encoded */
    uint64_t missed;                                     /* dropped since the last message; the receiver is told before the next */
    uint64_t holes, all_holes;                           /* DROPPED in the window, and that ever were */
    uint64_t backlog_first, backlog_next, backlog_bytes; /* tickets; of its own copies */
    uint64_t bytes_max;
    uint32_t sleepers; /* senders that wait for room */
    int room_fd;       /* cue_channel_fd: an eventfd that is readable while there may be room; -1: nobody asked for it */
    bool awaited;      /* it is empty: somebody was refused, and may poll it */
    uint32_t known_pipe, incarnation;
    uint64_t word, far_word; /* of the cell, and from a far receiver, as they were last looked at */
    uint64_t peer_max;       /* the receiver's largest message */
    uint64_t session;        /* which receiver has answered last */
    uint64_t session_base;   /* messages before this one were another's */
    uint64_t chunk_at;       /* of the block of message `encoded`: so many bytes are in packets */
    int64_t hello_due;       /* when to say hello again; 0: there is no need, or something was heard since */
    unsigned hellos;         /* since we were last welcome */
    int64_t bye_at;          /* when the receiver of the connection said BYE; 0: it did not */
    bool welcome, far, was_far, armed;
    int refused;    /* tls: why there is no connection: NNG's error, 0: not known */
    nng_msg *stuck; /* a packet that NNG had no room for */
    char scratch[SCRATCH];
    struct {
        uint64_t batches, resent, returned, dropped, refused, bytes, copied, peak;
    } count;
};

static inline struct message *message_at(struct sender *s, uint64_t number)
{
    return &s->window[number % s->ring];
}

/* Messages in the window, and before it. */
static inline uint64_t window_held(const struct sender *s)
{
    return s->next - s->base - s->holes;
}
static inline uint64_t backlog_length(const struct sender *s)
{
    return s->backlog_next - s->backlog_first;
}
static inline bool window_room(const struct sender *s, size_t bytes)
{
    return window_held(s) < s->depth && s->next - s->base < s->ring && (s->waiting_bytes + bytes <= s->bytes_max || s->waiting_bytes == 0);
}

/* ---- send.c ---- */
/* Wakes the thread, whatever it sleeps for. */
void sender_poke(struct sender *s);
/* To those who wait for room, in a send or by a descriptor. `lock` is held. */
void tell_of_room(struct sender *s);
/* What was dropped here gets a place of its own in the window. `lock` is held. */
void window_missed(struct sender *s);
/* What a message has goes; true: its block was still here, and is free. `lock` is held; `pinned`: as pool_pin says. */
bool message_forget(struct sender *s, struct message *m, bool pinned);

/* ---- backlog.c; `lock` is held; empty where nothing old is dropped ---- */
int backlog_make(struct sender *s);
bool backlog_room(const struct sender *s, size_t bytes);
/* Where the next message is written, and then: it is. Drops what there is no room for. */
struct message *backlog_end(const struct sender *s);
void backlog_added(struct sender *s);
/* The oldest, out of it; NULL: it is empty. */
struct message *backlog_take(struct sender *s);
/* May its oldest enter the window? */
bool backlog_ready(const struct sender *s);
/* About a packet of it goes into the window, as far as there is room; false: nothing. */
bool backlog_admit(struct sender *s);
/* Of message `number` of the window, or of the first behind it. Where there is no backlog: its number. */
uint64_t backlog_ticket(struct sender *s, uint64_t number);

/* ---- link.c; by the thread, or when it does not run ---- */
/* A socket, and dials, without waiting. An error of NNG's. */
int link_open(struct sender *s, struct link *link);
/* No callback runs any more. */
void link_close(struct sender *s, struct link *link);
/* Whether the back connection is on its way to its end, and nothing is to be looked after. */
bool link_parts(struct sender *s);
/* Sees to a connection that does not come or has gone; how long until the next look. `unanswered`: hellos are. */
int64_t link_look_after(struct sender *s, struct link *link, bool unanswered);

/* ---- encode.c; `lock` is held ---- */
/* Keeps the pool mapped while records are looked at here: the application may destroy it behind the thread's back. */
bool pool_pin(const struct sender *s);
void pool_unpin(void);
/* Hands a packet to NNG; keeps it if there is no room. */
bool packet_put(struct sender *s, nng_msg *packet);
void packet_forget(struct sender *s);
void sender_hello(struct sender *s);
/* Says up to which answer it has heard. False: not now. */
bool sender_heard(struct sender *s);
/* Sends all that can be sent now. */
void sender_flush(struct sender *s);
/* Is its payload more than the receiver takes? */
bool message_too_big(const struct sender *s, const struct message *m);

/* ---- back.c; by the thread ---- */
/* Listens on a new socket for the back connection; an error of NNG's. No more. */
int back_listen(struct sender *s, nng_socket sock);
void back_deafen(struct sender *s);
/* Gives the answers that came to who asked, and says that they were heard. */
void back_answers(struct sender *s);
/* Says on it whose it is, once a connection. */
void back_announce(struct sender *s);
/* After the data connection's end: no callback runs any more. Waits for the receiver, see part.c. */
void back_close(struct sender *s);

#endif
