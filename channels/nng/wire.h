/* What goes through a socket: packets of msgpack, each one NNG message. See docs/wire-format.md.
 *
 * From the sender, on its data connection:
 *   HELLO  first on each connection, and again while nothing is acknowledged: who sends, from which pool, where its cell is
 *          (cell_layout.h), and the first message it still has
 *   BATCH  messages with consecutive numbers
 *   CHUNK  a part of the block of a message that follows, for a receiver that cannot map the sender's pool
 *   HEARD  which answers it has
 * and on its back connection, which such a receiver needs:
 *   BACK   first: whose it is
 *   ACK    the other way: what the receiver says in the cell where it can
 *   ANSWER the other way: answers to questions, with consecutive numbers, see answer.c
 *
 * A packet is a head, which is an array, and after the head of a batch its items, an array each. Written by serial/pack.h, read
 * by serial/cursor.h; what is read here may be hostile, and is only checked for its form.
 */
#ifndef NNG_WIRE_H
#define NNG_WIRE_H

#include "serial/cursor.h"

#include <cuelight/channel.h>

enum { WIRE_VERSION = 1 };
enum wire_kind { WIRE_HELLO = 1, WIRE_BATCH = 2, WIRE_BACK = 3, WIRE_ACK = 4, WIRE_CHUNK = 5, WIRE_ANSWER = 6, WIRE_HEARD = 7 };

/* What an item has of a block: none; one that is SENT and waits to be claimed; one to be looked at. GONE: a message that keeps
 * its number but need not be delivered any more. CARRIED: a block whose bytes travel, in the item or in chunks before it. DROPPED: no
 * message; its number stands for those that the sender dropped there. */
enum wire_what { WIRE_BYTES = 0, WIRE_MOVED = 1, WIRE_VIEWED = 2, WIRE_GONE = 3, WIRE_CARRIED = 4, WIRE_DROPPED = 5 };

/* An ACK that says stop. BYE: the receiver is about to close the connection; it wants one hello, at once and as the last packet on it
 * (part.c). RESTART: the sender shall begin again from what was acknowledged, when it would say hello by itself. */
enum { WIRE_BYE = 1, WIRE_RESTART = 2 };

enum {
    WIRE_HEAD_MAX = 256 /* no head is longer, nor is an item without its bytes */
};

struct wire_head {
    enum wire_kind kind;
    uint64_t channel;     /* random, of the sending channel */
    uint32_t incarnation; /* of its connection */
    uint64_t number; /* of the first message; CHUNK: of its message; ACK: of the last one taken; ANSWER: of the first; HEARD: of the last */
    uint32_t count;  /* BATCH, ANSWER: items */
    uint32_t party, epoch; /* HELLO: the sender in its pool */
    uint32_t cell;         /* HELLO: record of the cell, and its generation */
    uint64_t cell_generation;
    const uint8_t *pool; /* HELLO: the pool's descriptor */
    size_t pool_bytes;
    uint32_t bye;           /* ACK: 0, or WIRE_BYE, WIRE_RESTART */
    uint64_t max;           /* ACK, BACK: the largest message, or answer, that its writer takes */
    uint64_t session;       /* ACK, ANSWER, HEARD: random, of the receiving channel */
    uint64_t total, offset; /* CHUNK: of the block */
    const uint8_t *payload; /* CHUNK: at `offset` */
    size_t payload_bytes;
};

struct wire_item {
    enum wire_what what;
    uint32_t index; /* MOVED, VIEWED */
    uint64_t generation;
    uint64_t offset, size; /* VIEWED: the part; CARRIED: size alone; DROPPED: how many, less than 2^32 */
    uint32_t block_type;   /* CARRIED */
    const void *payload;   /* CARRIED: NULL: it came in chunks */
    uint32_t type;
    int32_t status;
    uint64_t tag, key;
    cue_ref from;
    bool has_bytes;
    const void *bytes;
    size_t nbytes;
};

/* Bytes written; 0: it did not fit. */
size_t wire_write_head(const struct wire_head *head, void *buf, size_t room);
size_t wire_write_item(const struct wire_item *item, void *buf, size_t room);

/* False: malformed. */
bool wire_read_head(struct cursor *from, struct wire_head *out);
bool wire_read_item(struct cursor *from, struct wire_item *out);

#endif
