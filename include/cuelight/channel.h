/* cuelight/channel.h: lanes by URL, and the messages that go through them.
 *
 * A LANE is a way for messages from senders to a receiver. A CHANNEL is this process's end of one, opened by its URL:
 *
 *   shm://POOL/NAME     a mailbox in a pool's shared memory: many senders, one receiver, any number of processes. Pool and lane
 *                       are made by whoever comes first. With opts->pool the part POOL may be empty: shm:///NAME
 *   shm://POOL/@blocks  what is published and freed in the pool from now on, with ?type=N only blocks of that type; receiving only
 *   shm://POOL/@parties who joins and leaves it, and who dies
 *   ipc://PATH, ipc://NAME, ipc://@ABSTRACT, tcp://HOST:PORT, tls+tcp://HOST:PORT, ws://HOST:PORT/PATH, inproc://NAME
 *                       sockets, by NNG: receivers listen, senders dial
 *
 * Options follow a ?, joined by &; they are the fields of cue_channel_opts and win over the struct. Sizes may end in k, M, G
 * (1024 each), times in us, ms, s:   shm://shop/jobs?depth=4k&full=drop-old&spin=50us
 * CUE_EINVAL: the URL makes no sense, or an option is unknown or not for this scheme; the trail says which and what may stand
 * there. CUE_ENOSYS: a kind that is named in the specification and not built in.
 *
 * A MESSAGE is small bytes, which are copied once, into shared memory, and at most one block, which is not copied. What is
 * moved arrives as it was held: an owner makes the receiver the owner; a view makes it a viewer, or arrives with status
 * CUE_ESTALE if the block was freed meanwhile. A message is received exactly once, and all messages of a lane in one order,
 * that in which they were sent.
 *
 * QUEUES. With ?kind=queue any number may receive, also threads on one channel; each message goes to one of them, oldest first. With
 *   ?redeliver=N what a receiver had in hand when it died, or closed its pool, goes to another one: before all others, with m.redelivered
 *   set. cue_msg_release acknowledges, and so does sending, publishing or freeing the block that came along; moving it into a variable
 *   does not. After N times it goes to the lane ?dead=NAME, a mailbox or queue of the same pool, else it is freed. With full=drop-old
 *   the sender drops, so `depth` holds also while nobody receives.
 *
 * STREAMS. With ?kind=stream one channel sends and one receives, each by one thread at a time (CUE_EBUSY). An end is free when its
 *   channel is closed or its process dead; who opens it next goes on where it was. Messages of up to 64 bytes, without block and `from`,
 *   travel in the ring itself and need no room in the pool; the ring takes 128 bytes for each message of `depth`, 8 with full=drop-old.
 *
 * TOPICS. With ?kind=topic each message goes to all who subscribe at that moment, that is, who have the topic open to receive (at most
 *   127 channels); any number may publish. Nothing is copied for it: subscribers get views of one payload, which is freed with the last of
 *   them. A publisher moves only blocks that it owns (a view is CUE_ENOTOWNER); the block that comes along may be kept by cue_move(), is
 *   not to be written to, and cannot be sent on (cue_block_copy makes one that can). `depth` and `full` are each subscriber's own, and
 *   without them those of the topic. CUE_FAIL: publishers wait for this subscriber, then fail, having reached nobody; publishers that see
 *   the last free place at the same time all use it. CUE_DROP_NEW, CUE_DROP_OLD: exact; what this subscriber did not get is counted in its
 *   `gaps` and `dropped`. `bytes` does not bind a topic. With `history=N`, asked for by whoever opens it first, it keeps the last N
 *   messages, also when nobody has it open, as long as its pool lives; a subscriber that says history=N begins with the last N of them. The
 *   messages of one publisher arrive in order; those of several may arrive differently at different subscribers. A publisher that is killed
 *   may have reached some subscribers with its last message, which it was not told had been sent. A slow, stopped or dead subscriber holds
 *   up nobody longer than its `full` asks.
 *   @blocks and @parties are read from a log of the last 512 events that all channels of a pool share: whoever falls further behind has
 *   missed some. There `key` counts those missed right before this message, `tag` numbers the events. Nobody pays for the log while
 *   nobody reads it.
 *
 * GAPS. Where nothing is dropped nothing is missing: an shm lane with full=fail (the default) has no gaps by construction, since a message
 *   is sent by taking the next place in it, and places are taken in order; only what a killed receiver had in hand may lack, and
 *   `redeliver` gives that out again. With drop-old and drop-new a receiver sees what it missed: `gap` of a message says how many were
 *   dropped before it since the last one (with drop-new: as far as noticed when it is handed out), cue_channel_stat's `gaps` how many in
 *   all: of the lane, of a topic for this subscriber, of a socket what its senders have dropped, which goes with their next message, and
 *   what is missing in their numbers. The receivers of a queue share what is sent, so there only the lane's number makes sense.
 *
 * DEATH. Whoever is killed, at any instruction, blocks nobody. What was reported as sent through shm:// is received, except
 * what a killed receiver had already taken out; what was not sent is freed. The receiver's place is free the moment its
 * process is dead: the next one opens the channel and goes on with the oldest message that was not taken.
 *
 * SOCKETS. ipc://NAME, without a slash, lies in $CUE_DIR, else $XDG_RUNTIME_DIR/cuelight, else /tmp/cuelight-UID, which only we may
 *   write to; an ipc peer of another user is refused, unless `users` names that. tls+tcp:// wants `ca`, `cert` and `key` at both ends,
 *   and refuses who has no certificate that `ca` vouches for; a sender also checks the receiver's name. tcp:// and ws:// ask nobody
 *   who they are: use them where all who can connect may.
 *   Messages go in batches: at once if nothing is under way, else with the next acknowledgement, a full batch, or after `flush`.
 *   A sender may come before its receiver; it holds up to `depth` messages, then sends wait, and it owns one block of 64 bytes of
 *   the pool while it is open. With full=drop-old it holds up to `depth` that wait, of which the oldest goes, and as many that are under
 *   way: what was once put into a packet is not dropped. Who asked a question that is dropped hears CUE_EFULL.
 *   A receiver that can map the sender's pool gets blocks as they are, without a copy. One that cannot (another host, another
 *   /dev/shm, no permission) gets a copy of a block, or of what a view shows, in a pool of its own, and becomes its owner; the
 *   copied bytes are counted, and `max` bounds bytes and block together. Both come through the same call.
 *   A connection that breaks is made again, and what was not taken over is sent again, in order. A moved block arrives exactly once,
 *   or is freed: with its sender's death or exit, or when its sender closes and `linger` is over. Bytes, of a message or of a copied block,
 *   are kept until they are acknowledged; only if a receiver is killed its successor may get some again that it had taken; they are lost
 *   with a sender that is killed. cue_channel_stat counts what was resent, returned, dropped, and gaps in the numbers of a sender.
 *
 * TAPS. CUE_TAP opens a lane of shm:// to look on: the channel receives a copy of each message that is sent into the lane from then on, by
 *   anybody, of any kind, also the library's own to an actor, whose URL can be tapped as any mailbox. Nobody waits for a tap, and it takes
 *   nothing from the receivers; a lane without taps costs its senders nothing. Up to 127 at a time. A tap drops the oldest when `depth`
 *   (256 unless said) of its own are not taken; what it missed is counted as on a topic, in `gap` and `gaps`. type, tag, key, status, from
 *   are the message's; `data` the first `max` (4 KiB unless said) of its bytes, or else of its block's, which does not come along; what
 *   they were and who sent them, cue_msg_tapped says. All copies that wait for one tap take an eighth of the pool at most, so with a
 *   great `depth`, or in a small pool, `max` is less; CUE_ETOOBIG: less than 64.
 *   Shown is only what was sent: not what was refused, or dropped as new; what is dropped as old, or discarded, was sent. A copy is made
 *   just before and shown just after, so a thread's messages come in its order, those of several not always in the lane's, and a sender
 *   that is killed in between has sent one that no tap shows. A question is shown (CUE_TAPPED_ASK), its answer goes to the asker and not
 *   through the lane. What goes back to a queue, or from one to its lane `dead`, is not shown again. A tap stays with the lane that it
 *   found: once an actor has ended nothing more comes. CUE_ENOENT: there is no such pool or
 *   lane, a tap makes none. CUE_ENOSYS: of a socket; CUE_EINVAL: of @blocks and the like, which are logs for everybody.
 *
 * WAITING. `wait` <= 0 asks once. A receiver spins for a moment (option `spin`) before it sleeps. A wait ends with what was
 * missing (CUE_EEMPTY, CUE_EFULL), with CUE_EINTR after a signal handler ran or cue_channel_wake was called, and with
 * CUE_ECLOSED when another thread closes the channel. For several channels at once: cue_channel_recv_any; in an event loop:
 * cue_channel_fd. To wait for a channel or the death of a peer, receive from it and from shm://POOL/@parties.
 *
 * ASKING. cue_channel_ask sends a request and waits for the answer, which the receiver gives by cue_reply; through mailboxes, queues,
 * streams, sockets, and to actors by their URL.
 *
 * THREADS. Any number may send on a channel, one at a time may receive (else CUE_EBUSY); on queues any number, on streams one for each.
 *
 * FORK. A forked child may go on sending to shm:// lanes that its parent opened. Receiving, streams, and sockets: CUE_EFORK.
 */
#ifndef CUELIGHT_CHANNEL_H
#define CUELIGHT_CHANNEL_H

#include <cuelight/error.h>
#include <cuelight/pool.h>
#include <cuelight/serial.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cue_channel cue_channel;

enum { CUE_RECV = 1, CUE_SEND = 2, CUE_TAP = 4 };                       /* how; CUE_TAP alone, see TAPS */
enum { CUE_MAILBOX = 1, CUE_QUEUE = 2, CUE_STREAM = 3, CUE_TOPIC = 4 }; /* kinds: `mailbox` on shm://, `stream` on sockets */
enum { CUE_FAIL = 1, CUE_DROP_NEW = 2, CUE_DROP_OLD = 3 };              /* full */
enum { CUE_DRAIN = 1, CUE_DISCARD = 2 };                                /* how to shut */

/* Types of messages from here on are the library's; an application's are below. */
enum {
    CUE_TYPE_SYSTEM = 0x7fff0000,
    CUE_DOWN = 0x7fff0001,
    CUE_BLOCK_UP = 0x7fff0003,   /* @blocks: published; the payload is a cue_block_info (capacity and leases are 0) */
    CUE_BLOCK_GONE = 0x7fff0004, /* @blocks: one that was published was freed, or went with its owner; the same payload */
    CUE_PARTY_UP = 0x7fff0007,   /* @parties: joined; a cue_party_info: party, pid, uid, gid, since_ns, label */
    CUE_PARTY_DOWN = 0x7fff0008  /* @parties: left, or died (`dead` is 1) and was cleaned up after; the same payload */
};

/* Who is at the other end of a socket. */
typedef struct cue_peer {
    int32_t pid;       /* ipc, inproc; 0: not known. As the kernel of the asking process numbers it */
    uint32_t uid, gid; /* the same; UINT32_MAX: not known */
    uint32_t party;    /* as it says: its slot in its pool, from 1 */
    uint64_t host;     /* as it says: its host id */
    bool verified;     /* by the kernel (ipc, inproc) or by its certificate (tls+tcp); false: it may be anybody */
    char label[32];    /* tcp, tls+tcp, ws: its address and port */
    char subject[64];  /* of its certificate, where NNG tells it (from 1.6 on) */
    uint64_t spare[4];
} cue_peer;

typedef struct cue_channel_opts {
    uint32_t kind;  /* CUE_MAILBOX …; 0: what the lane is already, else what the scheme has first */
    uint32_t full;  /* when a send's wait is over: CUE_FAIL (so 0), CUE_DROP_NEW, CUE_DROP_OLD; fail drop-new drop-old */
    uint32_t depth; /* messages that may wait; 0: 1024. Exact; with CUE_DROP_OLD up to twice as many */
    uint32_t type;  /* only messages of this type may pass, others are CUE_ETYPE; 0: any */
    uint32_t role;  /* sockets: 1 listen, 2 dial; 0: receivers listen */
    uint32_t redeliver; /* queues: so often a message goes to another receiver when one dies before it has released it */
    uint32_t history;   /* topics: the last messages, for subscribers that come late */
    uint32_t spare0;    /* zero */
    const char *dead;   /* queues with redeliver: the lane of the same pool where what nobody survived goes; NULL: it is freed */
    uint64_t bytes;     /* payload that may wait, in messages of 4 KiB and more; about. 0: a quarter of the pool */
    uint64_t max;       /* the largest message, CUE_ETOOBIG above it; 0: any on shm://, 64 MiB on sockets */
    cue_time spin;      /* before sleeping; 0: 20 us ($CUE_SPIN), none where the process may use one CPU only; < 0: never */
    cue_time flush;     /* sockets: the most that a batch waits for more; 0: 50 us, < 0: none */
    cue_time linger;    /* sockets: what close waits for what is not sent yet; 0: 1 s, < 0: none */
    cue_pool *pool;     /* shm:///NAME: the pool. Sockets: where received bytes go and sent blocks are; NULL: $CUE_POOL, else "cue" */
    const char *ca, *cert, *key; /* tls+tcp, both ends, all three: files of PEM: who is trusted; our certificate; its key */
    const char *server;          /* tls+tcp, senders: the name in the receiver's certificate; NULL: the URL's host */
    const char *users;           /* ipc: whose processes may be the other end: "1000,1001", "any"; NULL: our own user's */
    int (*admit)(void *arg, const struct cue_peer *who); /* sockets: < 0 refuses a connection. Runs on another thread, at any
                                                            time until close; must not wait and not use the channel */
    void *arg;                                           /* for admit */
    uint64_t spare[6];                                   /* zero */
} cue_channel_opts;

/* Who opens an shm:// lane first decides kind, full, depth, type, bytes and max; later openers get it as it is, and a kind that
 * they ask for must be the same. */

typedef struct cue_msg {
    uint32_t type;    /* the application's, below CUE_TYPE_SYSTEM; 0: bytes */
    int32_t status;   /* in an answer: 0, or why there is none. Received: CUE_ESTALE if the block that came along is gone */
    uint64_t tag;     /* yours; requests and answers are matched by it */
    uint64_t key;     /* yours */
    cue_ref from;     /* whom an answer goes to */
    const void *data; /* sending: bytes to be copied. Received: those, or else the block's; aligned to 16 */
    size_t size;
    cue_block *move;      /* sending: goes along, and is empty after success; untouched on failure. Received: NULL */
    cue_block block;      /* received: what came along, or empty. cue_move() keeps it beyond cue_msg_release. Sending: ignored */
    uint32_t redelivered; /* received, of a queue with `redeliver`: how many receivers have died with it in hand */
    uint32_t gap;         /* received: so many messages right before this one were dropped, see GAPS. On queues 0 */
    uint64_t priv[4];     /* the library's; zero or ignored when sending */
} cue_msg;

/* A message of the bytes of a variable: cue_channel_send(ch, CUE_MSG(MY_TYPE, value), CUE_NOW) */
#ifndef __cplusplus
#define CUE_MSG(t, value) (&(cue_msg){ .type = (t), .data = &(value), .size = sizeof(value) })
#endif

/* Counts since the lane was made. On sockets: of this end. */
typedef struct cue_channel_info {
    uint32_t kind, depth;
    uint32_t users;    /* parties that have it open */
    uint32_t sleeping; /* 1: its receiver sleeps, or did when it was last called (all but mailboxes) */
    int32_t receiver;  /* pid of its receiver, 0: none */
    uint32_t shut;     /* 1: by cue_channel_shut, nobody sends; of a subscriber: its subscription */
    uint64_t queued;   /* messages waiting now */
    uint64_t peak;     /* the most that its receiver has found waiting */
    uint64_t sent, received;
    uint64_t bytes;       /* payload of what was received … */
    uint64_t copied;      /* … of which were copied on their way (sent as bytes) */
    uint64_t dropped;     /* by CUE_DROP_NEW and CUE_DROP_OLD; on sockets also those whose block was gone or could not be used */
    uint64_t refused;     /* sends that ended with CUE_EFULL */
    uint64_t wakes;       /* wake-up calls made for a sleeping receiver */
    uint64_t batches;     /* sockets: packets with messages that went out or came in */
    uint64_t resent;      /* sockets: messages that were sent again on a new connection */
    uint64_t returned;    /* sockets: blocks that were taken back from a connection, and freed. Queues with redeliver: messages that a dead
                          receiver had in hand and that wait to be given out again, or have been */
    uint64_t gaps;        /* messages that were reported as sent and did not come, see GAPS */
    uint64_t redelivered; /* queues: messages that were given out again … */
    uint64_t dead;        /* … and those that were given out so often that they went to the lane `dead`, or were freed */
    uint64_t late;        /* answers to questions (cue_channel_ask) that came when nobody waited any more: freed */
    uint64_t stuck;       /* sockets: those of this process, of any channel, that NNG could not take down and that were left behind */
    uint64_t spare[2];
} cue_channel_info;

/* Opens the lane behind the URL to receive, to send, or both. `opts` may be NULL. Makes system calls, takes process memory.
 * CUE_EINVAL: see above. CUE_ETYPE: the lane is of another kind. CUE_EBUSY: somebody who lives receives from it.
 * CUE_EPERM: tls+tcp, the receiver refused our certificate or we its. CUE_ENOSYS: TLS, and NNG was built without.
 * CUE_EEXIST: the name belongs to a block. CUE_EUNREACH, CUE_EPERM, CUE_ENOMEM, CUE_ELIMIT. */
CUE_API CUE_CHECKED int cue_channel_open(const char *url, unsigned how, const cue_channel_opts *opts, cue_channel **out);

/* Gives this end back; threads that wait on it get CUE_ECLOSED. An shm lane stays while it holds messages or others have it
 * open. Messages that were received stay valid as long as their pool is open. NULL is fine. CUE_ETIMEDOUT (sockets): not all was
 * sent within `linger`. */
CUE_API int cue_channel_close(cue_channel *ch);

/* Ends what goes through a channel, before cue_channel_close, which alone leaves what is queued in an shm lane to the next receiver (and
 * gives a subscription's messages, and what a socket had not handed out, back).
 *
 * A RECEIVER (opened with CUE_RECV) ends the lane for all its senders, those that wait for room, too: they get CUE_ECLOSED, until somebody
 *   opens it to receive again. Topics: publishers go on, but nothing more comes to this subscriber.
 *   CUE_DRAIN: cue_channel_recv gives out what is there and then says CUE_ECLOSED. So: shut with CUE_NOW, receive until CUE_ECLOSED, close.
 *   Waits until other threads, or the other receivers of a queue, have taken everything. 0: nothing waits any more; CUE_ETIMEDOUT:
 *   something does.
 *   CUE_DISCARD: what is there is freed, counted as `dropped`, or goes to the lane `dead` if the queue has one; whoever asked a question
 *   that is there gets CUE_ECLOSED. Returns how many. Another thread that waits in a receive comes out with CUE_ECLOSED first. A send under
 *   way meanwhile ends with CUE_ECLOSED or its message is among what is there; only a stream's sender may be a moment late: what it put in
 *   after the last look waits for who receives next, as all that is left when a receiver dies in here.
 *   Sockets: the lane ends here, at what has arrived in this process when the first shut is called. That alone is handed out, or
 *   discarded, and each message of it is acknowledged as ever: when it was, not before. All else stays its sender's, who is told by
 *   close and may go on sending until its `depth` is reached: it is sent to the next receiver, and so is what was handed out
 *   neither here nor discarded when this channel is closed. A moved block arrives here or there, once; bytes, also those of a copied
 *   block, too, unless this process is killed before their sender has heard that they were taken. Who asks a question that has not arrived waits on for the next receiver.
 * A SENDER
 *   CUE_DRAIN: waits until what was sent before, through this channel or another one of the lane, has been taken by receivers (all
 *   subscribers of a topic; sockets: acknowledged). It ends nothing: one may go on sending. CUE_ETIMEDOUT: not yet, and nothing has
 *   changed.
 *   CUE_DISCARD: sockets: close will not wait for what is not sent yet, whatever `linger` says. On shm:// CUE_EPERM: what was sent is the
 *   receiver's.
 * Waits as said in WAITING; a forked child may drain as it may send. CUE_EINVAL: no such `how`. @blocks, @parties: CUE_ENOSYS. */
CUE_API int cue_channel_shut(cue_channel *ch, unsigned how, cue_time wait);

/* The pool of its payloads: allocate here what shall travel without a copy. It is the channel's: no need to close it. */
CUE_API cue_pool *cue_channel_pool(cue_channel *ch);

/* Sends one message; waits for room. On failure the caller still holds everything.
 * For room in the pool it waits in the line of cue_block_alloc and keeps its place until `wait` is over; one of up to some 3 KiB goes
 * as soon as there is room for it, also before its turn: what it carries or announces may be what others wait for.
 * CUE_EFULL: no room within `wait`. CUE_ENOMEM: no room in the pool. CUE_ETYPE: not the lane's type, or a type of the library.
 * CUE_ECLOSED: a receiver has shut the lane. CUE_ETOOBIG: larger than the lane's `max` or than the pool. CUE_ENOTOWNER: a block of another
 * pool (see cue_block_copy), or one that was sent or published through another handle; CUE_ESTALE: or freed. CUE_EDEAD: an actor's lane,
 * and it has ended.
 * CUE_EINTR. */
CUE_API CUE_CHECKED int cue_channel_send(cue_channel *ch, const cue_msg *m, cue_time wait);

/* Sends up to n messages, in order and with one wake-up; waits for room for one. Returns how many went; an error only if none
 * did. */
CUE_API CUE_CHECKED int cue_channel_send_many(cue_channel *ch, const cue_msg *m, size_t n, cue_time wait);

/* A loan: `size` bytes of the channel's pool to write a message into, of that type. An owner, see pool.h: cue_channel_commit sends it,
 * cue_block_release gives it back. Waits for room in the pool. CUE_ENOMEM, CUE_ETOOBIG. */
CUE_API CUE_CHECKED int cue_channel_reserve(cue_channel *ch, size_t size, uint32_t type, cue_time wait, cue_block *out);

/* Sends the first `size` bytes of what was reserved, without a copy; `b` is empty afterwards. Waits for room in the lane; on failure
 * the caller still holds it. As cue_channel_send; CUE_ETOOBIG: more than were reserved. */
CUE_API CUE_CHECKED int cue_channel_commit(cue_channel *ch, cue_block *b, size_t size, cue_time wait);

/* The oldest message. Give it back with cue_msg_release. CUE_EEMPTY, CUE_EINTR, CUE_EBUSY: another thread is in here. CUE_ECLOSED: it was
 * shut and is drained. */
CUE_API CUE_CHECKED int cue_channel_recv(cue_channel *ch, cue_msg *out, cue_time wait);

/* Waits for one message, takes up to n that are there; how many. Each is given back on its own. */
CUE_API CUE_CHECKED int cue_channel_recv_many(cue_channel *ch, cue_msg *out, size_t n, cue_time wait);

/* The first message that is in any of 1 to 128 channels: the index of its channel; it is in *out. They are served in turn: each
 * that has messages once before any a second time. No other thread may receive from one of them meanwhile (CUE_EBUSY; so is a
 * channel that is in the list twice). May wait. CUE_EEMPTY, CUE_EINTR; any other status is that of one channel, which the trail names. */
CUE_API CUE_CHECKED int cue_channel_recv_any(cue_channel *const *channels, size_t n, cue_msg *out, cue_time wait);

/* ==== requests and answers ==== */

/* Sends a request and waits for its answer; any number of threads may at a time. The library sets `from` and `tag` of the
 * request; the answer comes with the tag that `m` has. Give the answer back with cue_msg_release. Returns its status if that is
 * negative; there is something to give back then only if bytes or a block came with it.
 * CUE_ETIMEDOUT: no answer in time: one that comes later is freed, and counted as `late` where the request was received (here, if it
 * comes through a socket). CUE_ENOMEM: the answer came through a socket and finds no room in our pool.
 * CUE_EDEAD: who had received the request is dead, or left, without an answer. A request that nobody has received yet waits for
 * the next receiver as long as `wait` says. Through a socket also: nobody is connected for some tenths of a second. CUE_EINTR. CUE_ENOSYS:
 * a kind of lane that has no answers. Otherwise as cue_channel_send; CUE_EFULL also when the lane dropped the request. */
CUE_API CUE_CHECKED int cue_channel_ask(cue_channel *ch, const cue_msg *m, cue_time wait, cue_msg *answer);

/* Answers a request that was asked (cue_channel_ask, cue_call, cue_ask) or told by an actor: sends to whom it came from, with its
 * tag; answer->tag does not count. answer->status < 0 says why there is no answer. Never waits. Answer before you release the
 * request. On failure the caller still holds answer->move.
 * 0 also if nobody waits for it any more: it is freed and counted. CUE_EINVAL: the request has no sender. CUE_EPERM: it is a tap's copy,
 * and who looks on does not answer. CUE_EREMOTE: it came
 * from a pool that is not open here. CUE_ENOMEM, CUE_ETYPE, CUE_ENOTOWNER: as cue_channel_send.
 * A request that came through a socket from a pool that cannot be mapped here is answered through that socket: 0 means that the answer is
 * kept, as a copy, and sent until it has arrived; close waits for that as long as `linger` says. CUE_ETOOBIG: the asker's channel
 * takes no message as large. CUE_EFULL: too many bytes of answers wait, see option `bytes`. CUE_ECLOSED: the channel that received it
 * is. */
CUE_API int cue_reply(const cue_msg *request, const cue_msg *answer);

/* ==== waiting elsewhere ==== */

/* A descriptor for poll, epoll, libuv, asyncio: readable while messages wait, or, where the channel only sends, while there may be
 * room. It may be readable when there is nothing: receive with CUE_NOW until CUE_EEMPTY (send until CUE_EFULL), which makes it
 * unreadable until something happens. So it serves level-triggered and edge-triggered. It is also readable when a receive
 * would say something else than CUE_EEMPTY: after cue_channel_wake (CUE_EINTR, once), when the pool is destroyed. Do not read or
 * close it: it is the channel's. Other calls may wait on the channel meanwhile. A forked child asks for one of its own. Makes
 * system calls, the first call of a process starts a thread. Negative: CUE_ENOSYS: this kind has none. CUE_ELIMIT, CUE_ENOMEM. */
CUE_API int cue_channel_fd(cue_channel *ch);

/* Gives a received message back: its bytes, and its block unless that was moved out. It is empty afterwards; all zero is fine. */
CUE_API void cue_msg_release(cue_msg *m);

/* Who sent a message that came through a socket, as the kernel or TLS says. CUE_ENOSYS: it came through shm://. CUE_ESTALE: thousands
 * of connections were made since. */
CUE_API int cue_msg_peer(const cue_msg *m, cue_peer *out);

/* What a message that a tap received is a copy of. */
enum {
    CUE_TAPPED_BLOCK = 1, /* flags: a block was moved along; the receiver owns it now */
    CUE_TAPPED_VIEW = 2,  /* a view was */
    CUE_TAPPED_ASK = 4,   /* it was asked (cue_channel_ask) */
    CUE_TAPPED_SYSTEM = 8 /* it is the library's own: of a type from CUE_TYPE_SYSTEM on */
};
typedef struct cue_tapped {
    uint64_t size;  /* bytes that were sent; of them `data` has the first ones … */
    uint64_t block; /* … or, if there were none, those of the block or view that went along, of so many bytes */
    cue_time sent;  /* of cue_now, just before it was sent */
    int32_t pid;    /* of the sending process */
    uint32_t party; /* its slot in the pool, from 1 */
    uint32_t flags; /* CUE_TAPPED_BLOCK … */
    uint32_t spare0;
    uint64_t spare[3];
} cue_tapped;

/* Before the message is released. CUE_ENOSYS: it did not come from a tap. CUE_ECORRUPT. */
CUE_API int cue_msg_tapped(const cue_msg *m, cue_tapped *out);

/* This process's present wait on the channel, or else its next one, ends with CUE_EINTR. Async-signal-safe. */
CUE_API void cue_channel_wake(cue_channel *ch);

/* Counts, see above. Stops nobody. */
CUE_API int cue_channel_stat(cue_channel *ch, cue_channel_info *out);

#ifdef __cplusplus
}
#endif
#endif
