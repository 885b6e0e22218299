/* Lanes: a mailbox's life in the pool.
 *
 * A lane is a KEPT block of type POOL_TYPE_LANE under a name. Whoever opens it holds a lease on it, so its bytes stay a mailbox
 * as long as anybody can touch them, also one who is stopped in the middle of a send (rule T for lanes).
 *
 * MAKING. The block is filled, KEPT, and then gets its name: the directory's LIVE slot is the commit. Who loses that race frees
 * its block and opens the winner's. Killed in between: a lane without a name that nobody has open, retired by recovery.
 *
 * RETIRING. The last one out frees an empty lane, so that names do not pile up. Openers may come at any moment, so:
 *
 *   open     lease bit up (lease_take); gate += ONE, seq_cst; RETIRED in what it was: the lane is going, open anew by name
 *   retire   g = gate; nobody's lease bit is up but ours; empty; CAS gate g -> RETIRED  !!; free the block
 *
 * If an opener's bit went up before our look, we see it and leave the lane alone. If it went up after it, then so did the
 * opener's addition come after our load of the gate: either before our CAS, which then fails, or after it, and then the opener
 * sees RETIRED. A sender that came and went between our load and our look has changed the gate, too; one that went before our
 * load has left its message where the look for emptiness, after the look at the bits, finds it. So a lane that somebody has
 * open is never retired, and one with messages neither: senders and receivers need not ask again. Who finds RETIRED helps with
 * freeing: a retirer that was killed or stopped leaves nothing behind and stops nobody.
 *
 * Who retires? To look one must hold a lease, and two who look at the same time would each take the other for a user. So each
 * first lets go and looks at the bits of the record (which stays a record for ever); only if nobody is left it takes a lease
 * again and tries. Bits are cleared and then looked at, both seq_cst, so the last one to let go sees none. If two try at once
 * and each sees the other's new bit, both let go and look again. So does who finds a message while its own bit is up: somebody
 * may take that message and close meanwhile, and take the bit for a user's. (Model: lane.pml.)
 */
#include "bell.h"
#include "mailbox.h"

#include <sched.h>
#include <string.h>

enum { OPEN_TRIES = 2000, RETIRE_TRIES = 1000 };

struct mailbox *lane_box(struct cue_pool *pool, struct record *rec, uint32_t index)
{
    char *data;
    uint64_t capacity;
    if (atomic_load_explicit(&rec->type, relaxed) != POOL_TYPE_LANE ||
        !pool_bytes(pool, index, &data, &capacity) || /* pairs with: the state word */
        capacity < sizeof(struct mailbox))
        return NULL;
    struct mailbox *box = (struct mailbox *)(void *)data;
    return box->magic == MAILBOX_MAGIC && box->depth >= 1 && box->depth <= MAILBOX_DEPTH_MAX ? box : NULL;
}

static bool lane_empty(struct mailbox *box)
{
    uint32_t consumed = position(atomic_load_explicit(&box->consumed, seq_cst)); /* before head: it follows it */
    return position(atomic_load_explicit(&box->head, seq_cst)) == consumed;
}

/* RETIRED lanes: the block goes, for whoever is last to look at it. Idempotent. */
static void lane_free(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) == REC_KEPT && rec_generation(state) == generation)
        block_drop(pool, rec, index, state);
}

/* ---- retire ---- */

/* Whether a party has it open; `gone` and, with `not_us`, we do not count. */
static bool lane_in_use(const struct cue_pool *pool, const struct record *rec, unsigned gone, bool not_us)
{
    for (unsigned w = 0; w < 2; w++) {
        uint64_t bits = atomic_load_explicit(&rec->lease[w], seq_cst); /* pairs with: lease_take, lease_drop */
        if (gone < POOL_MAX_PARTIES && gone / 64 == w)
            bits &= ~(UINT64_C(1) << gone % 64);
        if (not_us && pool->lease_word == w)
            bits &= ~pool->lease_bit;
        if (bits)
            return true;
    }
    return false;
}

/* Whether there is anything to retire, without a lease: the state word is the same before and after, so it was the lane's bytes
 * that we read. */
static bool lane_idle(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    uint64_t state = atomic_load_explicit(&rec->state, acquire);
    if (rec_state(state) != REC_KEPT || rec_generation(state) != generation)
        return false;
    struct mailbox *box = lane_box(pool, rec, index);
    bool idle = box && !box->mortal && lane_empty(box);
    atomic_thread_fence(acquire); /* the bytes before the second look at the state */
    return idle && ((atomic_load_explicit(&rec->state, relaxed) ^ state) & ~REC_SHARED) == 0;
}

/* We hold a lease. 1: it is retired, or not to be retired; 0: others hold one, too, or there is a message: let go and look again. */
static int try_retire(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation, unsigned gone)
{
    struct mailbox *box = lane_box(pool, rec, index);
    if (!box || box->mortal)
        return 1;
    uint64_t gate = atomic_load_explicit(&box->gate, seq_cst); /* first, see above */
    if (!(gate & GATE_RETIRED)) {
        if (lane_in_use(pool, rec, gone, true))
            return 0;
        if (!lane_empty(box))
            return 0;
        if (!atomic_compare_exchange_strong_explicit(&box->gate, &gate, gate | GATE_RETIRED, seq_cst, seq_cst)) /* !! */
            return 0;
    }
    lane_free(pool, rec, index, generation);
    return 1;
}

void lane_retire(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation, unsigned gone)
{
    for (int tries = 0; tries < RETIRE_TRIES && !lane_in_use(pool, rec, gone, false); tries++) {
        if (!lane_idle(pool, rec, index, generation) || lease_take(pool, rec, index, generation))
            return;
        int done = try_retire(pool, rec, index, generation, gone);
        if (lease_drop(pool, rec, index, generation))
            pool_view_ended(pool);
        if (done)
            return;
        if (tries % 8 == 7)
            sched_yield(); /* two at once: the other one gets ahead */
    }
}

void lane_close(const struct lane *lane)
{
    struct cue_pool *pool = lane->pool;
    bool last = lease_drop(pool, lane->rec, lane->index, lane->generation);
    if (atomic_load_explicit(&pool->open, acquire) == 1) { /* a channel holds its pool open, so else it was destroyed */
        if (last)
            lane_retire(pool, lane->rec, lane->index, lane->generation, NOBODY_GONE);
    } else if (last) {
        pool_view_ended(pool);
    }
}

/* ---- make and open ---- */

static void mailbox_init(struct cue_pool *pool, struct mailbox *box, const cue_channel_opts *opts)
{
    memset(box, 0, sizeof *box);
    box->magic = MAILBOX_MAGIC;
    box->kind = CUE_MAILBOX;
    box->full = opts->full ? opts->full : CUE_FAIL;
    box->depth = opts->depth ? opts->depth : 1024;
    box->type = opts->type;
    box->bytes = opts->bytes ? opts->bytes : pool->data_bytes / 4;
    box->max = opts->max;
    /* relaxed: the lane is not published yet */
    atomic_store_explicit(&box->head, head_word(INDEX_NONE, 0, 0), relaxed);
}

int lane_take(struct cue_pool *pool, const char *name, const cue_channel_opts *opts, cue_block *block, struct lane *out)
{
    struct fresh fresh = { .size = sizeof(struct mailbox), .type = POOL_TYPE_LANE };
    struct taken taken;
    char *data;
    uint64_t capacity;
    if (name) {
        fresh.note = NOTE_KEYED | NOTE_NAMED;
        fresh.name_hash = (uint32_t)directory_name_hash(name);
    }
    int status = block_take(pool, sizeof(struct mailbox) + (name ? POOL_NAME_BYTES : 0), 0, &fresh, &taken);
    if (status)
        return status;
    handle_owner(pool, taken.index, taken.generation, taken.data, sizeof(struct mailbox), block);
    if (!pool_bytes(pool, taken.index, &data, &capacity)) {
        cue_block_release(block);
        return trail(CUE_ECORRUPT, "the slab of block %x makes no sense", taken.index);
    }
    if (name) {
        memset(data + capacity, 0, POOL_NAME_BYTES);
        memcpy(data + capacity, name, strlen(name));
    }
    mailbox_init(pool, (struct mailbox *)(void *)data, opts);
    *out = (struct lane){ pool, (struct mailbox *)(void *)data, taken.rec, taken.index, taken.generation };
    return 0;
}

/* CUE_EEXIST: somebody else was first. The lease that comes with it is ours. */
static int lane_make(struct cue_pool *pool, const char *name, const cue_channel_opts *opts, struct lane *out)
{
    cue_block block;
    int status = lane_take(pool, name, opts, &block, out);
    if (status)
        return status;
    status = cue_block_publish(&block, 0); /* KEPT, and we hold a lease */
    if (status) {
        cue_block_release(&block);
        return status;
    }
    status = directory_reserve(pool, out->rec, out->index, out->generation); /* !! it has a name */
    if (status) {
        cue_block_free(&block);
        return status;
    }
    directory_announce(pool, out->rec, out->index);
    return 0;
}

/* The lane behind a view. 1: it is going, look again. */
static int lane_enter(struct cue_pool *pool, const char *name, cue_block *view, struct lane *out)
{
    struct block_ref ref;
    int status = handle_open(view, &ref);
    if (status)
        return status;
    struct mailbox *box = lane_box(pool, ref.rec, ref.index);
    if (!box) {
        uint32_t type = atomic_load_explicit(&ref.rec->type, relaxed); /* leased */
        cue_block_release(view);
        return type == POOL_TYPE_LANE ? trail(CUE_ECORRUPT, "lane %s of pool %s makes no sense", name, pool->name)
                                      : trail(CUE_EEXIST, "\"%s\" in pool %s is a block, not a lane", name, pool->name);
    }
    if (atomic_fetch_add_explicit(&box->gate, GATE_ONE, seq_cst) & GATE_RETIRED) { /* pairs with: try_retire */
        lane_free(pool, ref.rec, ref.index, ref.generation);
        cue_block_release(view);
        return 1;
    }
    *out = (struct lane){ pool, box, ref.rec, ref.index, ref.generation };
    return 0;
}

int lane_open(struct cue_pool *pool, const char *name, const cue_channel_opts *opts, struct lane *out)
{
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        cue_block view;
        int status = directory_find_name(pool, name, &view);
        if (status == CUE_ENOENT) {
            status = lane_make(pool, name, opts, out);
            if (status == CUE_EEXIST) { /* somebody makes it just now; or a block has reserved it */
                sched_yield();
                continue;
            }
            return status;
        }
        if (!status)
            status = lane_enter(pool, name, &view, out);
        if (status > 0)
            continue;
        if (!status && opts->kind && opts->kind != out->box->kind) {
            status = trail(CUE_ETYPE, "lane %s of pool %s is of kind %u, not %u", name, pool->name, out->box->kind, opts->kind);
            lane_close(out);
        }
        return status;
    }
    return trail(CUE_EEXIST, "the name \"%s\" in pool %s is reserved by a block that is not published", name, pool->name);
}

int lane_renew(const struct lane *lane)
{
    int status = lease_take(lane->pool, lane->rec, lane->index, lane->generation);
    if (status)
        return trail_in(status, "a channel from before fork()");
    if (!(atomic_fetch_add_explicit(&lane->box->gate, GATE_ONE, seq_cst) & GATE_RETIRED)) /* pairs with: try_retire */
        return 0;
    if (lease_drop(lane->pool, lane->rec, lane->index, lane->generation))
        pool_view_ended(lane->pool);
    return trail(CUE_ESTALE, "the lane of a channel from before fork() is gone");
}

/* ---- receivers ---- */

void lane_wake(struct cue_pool *pool, struct mailbox *box)
{
    cue_block bell;
    bool woke = true;
    if (!box->bell_generation) {
        futex_wake(futex_low_half(&box->head), 1);
    } else if (pool_attach(pool, box->bell, box->bell_generation - 1, 44, &bell) == 0) { /* else its process has ended */
        woke = bell_ring(bell.data, bell.size, box->bell_bit);
        cue_block_release(&bell);
    }
    if (woke)
        atomic_fetch_add_explicit(&box->wakes, 1, relaxed); /* a count for people */
}

bool receiver_lives(struct cue_pool *pool, uint64_t word)
{
    unsigned party = receiver_party(word);
    if (party == 0 || party > pool->max_parties)
        return false;
    uint64_t now = atomic_load_explicit(&pool->parties[party - 1].word, acquire);
    return party_state(now) == PARTY_LIVE && party_epoch(now) == receiver_epoch(word) && !party_dead(pool, party - 1, party_epoch(now));
}

/* ---- counts ---- */

uint64_t lane_passed(struct mailbox *box)
{
    uint64_t passed = atomic_load_explicit(&box->passed, relaxed); /* a count for people */
    uint32_t low = (uint32_t)passed * POSITION_ONE;
    return passed + (uint64_t)(int64_t)lane_length(position(atomic_load_explicit(&box->consumed, acquire)), low);
}

void lane_stat(struct cue_pool *pool, struct mailbox *box, const struct record *rec, cue_channel_info *out)
{
    uint32_t consumed = atomic_load_explicit(&box->consumed, acquire);
    uint64_t head = atomic_load_explicit(&box->head, acquire), passed = lane_passed(box),
             receiver = atomic_load_explicit(&box->receiver, acquire);
    int32_t queued = lane_length((uint32_t)head, consumed);
    /* relaxed: counts for people */
    uint64_t old = atomic_load_explicit(&box->dropped_old, relaxed);
    out->kind = box->kind;
    out->depth = box->depth;
    out->users = (uint32_t)(__builtin_popcountll(atomic_load_explicit(&rec->lease[0], relaxed)) +
                            __builtin_popcountll(atomic_load_explicit(&rec->lease[1], relaxed)));
    out->sleeping = (head & HEAD_SLEEP) != 0;
    out->receiver =
        receiver_lives(pool, receiver) ? party_pid(atomic_load_explicit(&pool->parties[receiver_party(receiver) - 1].word, relaxed)) : 0;
    out->queued = queued > 0 ? (uint64_t)queued : 0;
    out->peak = atomic_load_explicit(&box->peak, relaxed);
    out->sent = passed + out->queued;
    out->received = passed > old ? passed - old : 0;
    out->bytes = atomic_load_explicit(&box->received_bytes, relaxed);
    out->copied = atomic_load_explicit(&box->received_copied, relaxed);
    out->dropped = old + atomic_load_explicit(&box->dropped_new, relaxed);
    out->refused = atomic_load_explicit(&box->refused, relaxed);
    out->wakes = atomic_load_explicit(&box->wakes, relaxed);
}
