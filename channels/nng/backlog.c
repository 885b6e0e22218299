/* The backlog of a sender that drops the oldest.
 *
 * What was once put into a packet may have been received, whatever becomes of the connection, and bytes cannot be called back. So a sender
 * with full=drop-old drops only what never was in one. What is sent goes into the BACKLOG, a ring of `depth` in front of the window
 * (send.c), and from there into the window when a packet is made of it and not before: whoever waits for its receiver waits in the
 * backlog. The window stays what it is, numbers, repetitions and all, and holds up to `depth` more, which are under way. When the backlog
 * is full and the wait for room over, its oldest message goes; there is always one, and it is never the one that was just sent. A block
 * that goes so far is not begun twice: one whose first chunk is under way is in the window.
 *
 * THE GAP. Messages get their numbers when they enter the window. `missed` counts those dropped since the last that did; that is one
 * DROPPED in the window, before the next. So each dropped message is told once, in its place, to whoever receives then.
 *
 * THE LEDGER. A moved block in the backlog is SENT by us for nobody to claim, as one whose bytes travel (ledger.c); when it goes to a near
 * receiver, ledger_carry gives it its number. To be dropped it is taken back by one CAS, SENT -> FREE. With a sender that is killed the
 * backlog's blocks go as all that it has SENT. Who asked a question that is dropped is told: CUE_EFULL.
 *
 * All of it under `lock`.
 */
#include "channels/ask.h"
#include "sender.h"

#include <stdlib.h>

static struct message *backlog_at(const struct sender *s, uint64_t ticket)
{
    return &s->backlog[ticket % (s->depth + 1)];
}

int backlog_make(struct sender *s)
{
    s->backlog = calloc(s->depth + 1, sizeof *s->backlog); /* one more: that which is just sent */
    s->backlog_first = s->backlog_next = 1;
    return s->backlog ? 0 : trail(CUE_ENOMEM, "%s: no memory for a depth of %u", s->lane.url, s->depth);
}

struct message *backlog_end(const struct sender *s)
{
    return backlog_at(s, s->backlog_next);
}

struct message *backlog_take(struct sender *s)
{
    if (!backlog_length(s))
        return NULL;
    struct message *m = backlog_at(s, s->backlog_first++);
    s->backlog_bytes -= m->item.nbytes;
    return m;
}

bool backlog_room(const struct sender *s, size_t bytes)
{
    return backlog_length(s) < s->depth && (s->backlog_bytes + bytes <= s->bytes_max || !backlog_length(s));
}

static void drop_oldest(struct sender *s)
{
    struct message *m = backlog_take(s);
    bool pinned = pool_pin(s);
    message_forget(s, m, pinned);
    if (pinned)
        pool_unpin();
    ask_deliver_status(&s->lane.base, m->item.from, m->item.tag, CUE_EFULL);
    s->count.dropped++;
    s->missed += s->missed < UINT32_MAX;
}

void backlog_added(struct sender *s)
{
    struct message *m = backlog_end(s);
    m->ticket = s->backlog_next++;
    s->backlog_bytes += m->item.nbytes;
    while (backlog_length(s) > s->depth || (s->backlog_bytes > s->bytes_max && backlog_length(s) > 1))
        drop_oldest(s);
}

bool backlog_ready(const struct sender *s)
{
    return backlog_length(s) && window_room(s, backlog_at(s, s->backlog_first)->item.nbytes);
}

bool backlog_admit(struct sender *s)
{
    uint32_t count = 0, most = s->flush_ns < 0 ? 1 : BATCH_MESSAGES;
    uint64_t bytes = 0; /* about, in packets: what is not in the next one may still be dropped */
    for (; count < most && bytes < BATCH_BYTES && backlog_ready(s); count++) {
        window_missed(s);
        struct message *m = backlog_take(s);
        *message_at(s, s->next++) = *m;
        s->waiting_bytes += m->item.nbytes;
        bytes += WIRE_HEAD_MAX / 8 + m->item.nbytes + (s->far ? m->payload : 0);
    }
    if (count)
        tell_of_room(s);
    return count > 0;
}

uint64_t backlog_ticket(struct sender *s, uint64_t number)
{
    if (!s->backlog)
        return number;
    return number < s->next ? message_at(s, number)->ticket : s->backlog_first;
}
