/* Mailboxes of actors: what the runtime needs of a mailbox beyond a channel.
 *
 * An actor's mailbox is a mailbox lane like any other: who knows its name opens it by URL and sends. It differs in two ways. It
 * is mortal: it ends with its receiver, be it in order or with its process, and never gets another one; its block and what
 * waits in it are freed then. And it may name a bell (bell.h) that a sender rings instead of waking the head word.
 *
 *   close   head |= CLOSED  !!                   from now on no push succeeds (each is a CAS of the whole head)
 *   drain   take and free what is there
 *   free    the lane's block
 *
 * Its receiver does all three, or, when its process has died, whoever sweeps up after it: actor_lane_bury, which first claims the
 * receiver's place, so that two sweepers do not take at the same time; one that dies there is swept up after in its turn. Each
 * step may be done again. A block that senders have leased stays until they let go; CLOSED tells them to.
 */
#ifndef CHANNELS_ACTOR_LANE_H
#define CHANNELS_ACTOR_LANE_H

#include "channels/bell.h"
#include "channels/mailbox.h"

/* ---- the receiving end, its runner's own ---- */
struct lane_end {
    struct mailbox_channel ch;
    cue_block block; /* an owner until it is published, then a view */
};

/* A new mailbox with us as its receiver; its name is reserved, but nobody finds it before lane_end_publish. `name` NULL: never
 * by name. `bell` NULL: it is slept on by lane_end_wait; else sends through `end` must be made by the thread that takes. CUE_EEXIST. */
int lane_end_make(cue_pool *pool, const char *name, uint32_t depth, const cue_block *bell, uint32_t bell_bit, struct lane_end *end);
int lane_end_publish(struct lane_end *end);

/* Room to note what waits, and zeroed room for where it lies, which all ends of a thread in a pool may share: to be given before taking,
 * and again after another end has used it. `count`: a power of two. */
static inline void lane_end_use(struct lane_end *end, struct link *links, uint32_t count, struct near_slabs *near_slabs)
{
    end->ch.links = links;
    end->ch.near_slabs = near_slabs;
    end->ch.mask = count - 1;
    end->ch.count = end->ch.top = 0;
}
/* The oldest message: 1, or 0: there is none, or a negative status: damage. */
static inline int lane_end_take(struct lane_end *end, cue_msg *out)
{
    return mailbox_take(&end->ch, out, 1);
}
/* Whether anything was pushed that was not taken; by anybody of this process, in the order of seq_cst. */
static inline bool lane_end_waiting(struct lane_end *end)
{
    const struct mailbox *box = end->ch.box;
    uint32_t consumed = position(atomic_load_explicit(&box->consumed, memory_order_seq_cst)); /* before head: it follows it */
    return position(atomic_load_explicit(&box->head, memory_order_seq_cst)) != consumed;
}
/* Nothing is there: true, and the next push rings the bell. */
static inline bool lane_end_doze(struct lane_end *end)
{
    return mailbox_doze(&end->ch);
}
void lane_end_rouse(struct lane_end *end); /* pushes need not ring any more */
/* Sleeps until something may be there. 0, CUE_EEMPTY after the deadline, CUE_EINTR. */
static inline int lane_end_wait(struct lane_end *end, int64_t deadline)
{
    return mailbox_wait(&end->ch, deadline);
}
/* A message to this mailbox from the thread that takes from it. Nothing is rung: *slept says whether it dozed; now it does not. */
static inline int lane_end_push(struct lane_end *end, const cue_msg *m, bool system, bool *slept)
{
    end->ch.roused = false;
    int status = mailbox_send_one(&end->ch, m, system, 0);
    *slept = end->ch.roused;
    return status > 0 ? 0 : status;
}
void lane_end_close(struct lane_end *end);
void lane_end_free(struct lane_end *end); /* closed and drained */

/* ---- another's mailbox, by its address ---- */
struct lane_address {
    struct mailbox_channel ch;
    cue_block view;
};
/* CUE_EDEAD: gone, or no actor's. */
int lane_address_open(cue_pool *pool, uint32_t index, uint32_t generation, struct lane_address *out);
void lane_address_close(struct lane_address *address);
/* Never waits. `system`: one of the library's types; the lane's limits do not hold for it. CUE_EFULL, CUE_EDEAD, CUE_ENOMEM … */
static inline int lane_address_push(struct lane_address *address, const cue_msg *m, bool system)
{
    int status = mailbox_send_one(&address->ch, m, system, 0);
    return status > 0 ? 0 : status;
}

/* Whether its actor has ended, or its process has died and somebody sees to what is left. */
bool actor_lane_over(cue_pool *pool, const struct mailbox *box);

/* ---- recovery ---- */
/* The caller holds the lane, which is mortal. Ends it if its receiver was (slot, epoch) or is nobody. */
void actor_lane_bury(const struct lane *lane, unsigned slot, uint32_t epoch);

#endif
