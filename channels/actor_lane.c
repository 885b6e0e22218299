/* See actor_lane.h. */
#include "channels/actor_lane.h"

#include "channels/ask.h"

#include <string.h>

static uint64_t receiver_word(const struct cue_pool *pool)
{
    return (uint64_t)(pool->self + 1) | (uint64_t)(pool->epoch & 0x3fffffff) << 12;
}

/* A process's end of the lane, to send and to take. */
static void end_init(struct mailbox_channel *ch, const struct lane *lane)
{
    memset(ch, 0, sizeof *ch);
    ch->base.pool = lane->pool;
    ch->lane = *lane;
    ch->box = (struct mailbox *)(void *)lane->head;
    ch->capacity = (int32_t)lane->head->depth;
    atomic_store_explicit(&ch->consumed, atomic_load_explicit(&ch->box->consumed, acquire), relaxed); /* private */
}

/* ---- the receiving end ---- */

int lane_end_make(cue_pool *pool, const char *name, uint32_t depth, const cue_block *bell, uint32_t bell_bit, struct lane_end *end)
{
    struct lane lane;
    struct block_ref ref;
    memset(end, 0, sizeof *end);
    if (depth > LANE_DEPTH_MAX)
        return trail(CUE_EINVAL, "a mailbox of %u messages: at most %d", depth, LANE_DEPTH_MAX);
    int status = bell ? handle_open(bell, &ref) : 0;
    if (!status)
        status = lane_take(pool, name, &(cue_channel_opts){ .depth = depth }, &end->block, &lane);
    if (status)
        return status;
    struct mailbox *box = (struct mailbox *)(void *)lane.head;
    box->lane.mortal = 1;
    if (bell) {
        box->lane.bell = ref.index;
        box->lane.bell_generation = ref.generation + 1;
        box->lane.bell_bit = bell_bit;
        /* relaxed: nobody knows it yet. It dozes from the start: the first push rings */
        atomic_store_explicit(&box->head, head_word(INDEX_NONE, 0, HEAD_SLEEP), relaxed);
    }
    end_init(&end->ch, &lane);
    end->ch.mine = receiver_word(pool);
    end->ch.near = bell != NULL;
    atomic_store_explicit(&box->lane.receiver, end->ch.mine, relaxed); /* as above */
    if (!bell)
        spin_init(&end->ch.spin, CUE_NS(0));
    if (name && (status = directory_reserve(pool, lane.rec, lane.index, lane.generation)))
        cue_block_release(&end->block);
    return status;
}

int lane_end_publish(struct lane_end *end)
{
    const struct lane *lane = &end->ch.lane;
    int status = cue_block_publish(&end->block, 0);                              /* !! */
    if (!status && atomic_load_explicit(&lane->rec->note, relaxed) & NOTE_NAMED) /* ours */
        directory_announce(lane->pool, lane->rec, lane->index);
    return status;
}

void lane_end_rouse(struct lane_end *end)
{
    _Atomic uint64_t *head = &end->ch.box->head;
    if (atomic_load_explicit(head, relaxed) & HEAD_SLEEP) /* only we set it */
        atomic_fetch_and_explicit(head, ~(uint64_t)HEAD_SLEEP, acq_rel);
}

void lane_end_close(struct lane_end *end)
{
    mailbox_end(end->ch.box);
}

void lane_end_free(struct lane_end *end)
{
    struct block_ref ref;
    if (handle_open(&end->block, &ref) == 0 && !ref.owner)
        cue_block_free(&end->block); /* the name at once, the bytes when no sender has them leased */
    else
        cue_block_release(&end->block);
}

/* ---- addresses ---- */

int lane_address_open(cue_pool *pool, uint32_t index, uint32_t generation, struct lane_address *out)
{
    struct block_ref ref;
    memset(out, 0, sizeof *out);
    int status = pool_attach(pool, index, generation, 32, &out->view);
    if (!status)
        status = handle_open(&out->view, &ref);
    if (status)
        return status == CUE_ESTALE ? CUE_EDEAD : status;
    struct mailbox *box = mailbox_box(pool, ref.rec, index);
    if (!box || !box->lane.mortal || atomic_load_explicit(&box->head, acquire) & HEAD_CLOSED) {
        cue_block_release(&out->view);
        return CUE_EDEAD;
    }
    end_init(&out->ch, &(struct lane){ pool, &box->lane, ref.rec, index, ref.generation, &mailbox_kind });
    return 0;
}

void lane_address_close(struct lane_address *address)
{
    cue_block_release(&address->view);
}

/* ---- recovery ---- */

#define BURYING (UINT64_C(1) << 42) /* in lane_head.receiver: the party is not the receiver but sweeps up after it */

bool actor_lane_over(cue_pool *pool, const struct mailbox *box)
{
    uint64_t receiver = atomic_load_explicit(&box->lane.receiver, acquire);
    return receiver & BURYING || atomic_load_explicit(&box->head, acquire) & HEAD_CLOSED || !receiver_lives(pool, receiver);
}

static void drain(const struct lane *lane)
{
    struct mailbox_channel ch;
    struct link links[256];
    struct near_slabs near_slabs = { 0 };
    cue_msg m;
    end_init(&ch, lane);
    ch.links = links;
    ch.near_slabs = &near_slabs;
    ch.mask = 255;
    ch.fresh = true;
    ch.at = position(atomic_load_explicit(&ch.box->consumed, acquire));
    ch.passed = mailbox_passed(ch.box);
    while (mailbox_take(&ch, &m, 1) == 1) {
        ask_refuse(lane->pool, &m, CUE_EDEAD);
        cue_msg_release(&m);
    }
}

void actor_lane_bury(const struct lane *lane, unsigned slot, uint32_t epoch)
{
    struct cue_pool *pool = lane->pool;
    struct mailbox *box = (struct mailbox *)(void *)lane->head;
    uint64_t receiver = atomic_load_explicit(&box->lane.receiver, acquire);
    bool vacant = receiver_party(receiver) == 0;
    if (!vacant && (receiver_party(receiver) != slot + 1 || receiver_epoch(receiver) != (epoch & 0x3fffffff)))
        return;
    if (!cas(&box->lane.receiver, &receiver, receiver_word(pool) | BURYING)) /* !! ours to bury */
        return;
    mailbox_end(box);
    drain(lane);
    uint64_t state = atomic_load_explicit(&lane->rec->state, acquire);
    if (rec_state(state) == REC_KEPT && rec_generation(state) == lane->generation)
        block_drop(pool, lane->rec, lane->index, state);
}
