/* Lanes: their life in the pool, whatever their kind.
 *
 * A lane is a KEPT block of type POOL_TYPE_LANE under a name. Whoever opens it holds a lease on it, so its bytes stay a lane as
 * long as anybody can touch them, also one who is stopped in the middle of a send (rule T for lanes).
 *
 * MAKING. The block is filled, KEPT, and then gets its name: the directory's LIVE slot is the commit. Who loses that race frees
 * its block and opens the winner's. Killed in between: a lane without a name that nobody has open, retired by recovery.
 *
 * RETIRING. The last one out frees an empty lane, so that names do not pile up. Openers may come at any moment, so:
 *
 *   open     lease bit up (lease_take); gate += ONE, seq_cst; RETIRED in what it was: the lane is going, open anew by name
 *   retire   g = gate; nobody's lease bit is up but ours, nor does another thread of ours hold a lease; empty;
 *            CAS gate g -> RETIRED  !!; free the block
 *
 * All threads of a process share its bit, so its private count of leases is looked at as well; what follows holds for either.
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
 * and each sees the other's new bit, both let go and look again.
 *
 * Who finds a message while its own bit is up may leave the lane alone, unless somebody took that message meanwhile and closed,
 * and took the bit for a user's. So whoever closes counts that in `lane` of the lane's record (which a KEPT record has no use
 * for) before it lets go, and who found a message looks whether that count has changed since it had taken its lease, after it
 * has let go: then it tries again. If the closer saw the bit, its count came before the bit was cleared, so it is seen. Without a
 * lease only the record is looked at, never the lane's bytes: the record may be another block's by now, then the count says
 * nothing, which costs one more try. (Model: lane.pml.)
 */
#include "tap.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { OPEN_TRIES = 2000, RETIRE_TRIES = 1000 };

static const struct lane_kind *const kinds[] = {
    [CUE_MAILBOX] = &mailbox_kind, [CUE_QUEUE] = &queue_kind, [CUE_STREAM] = &stream_kind, [CUE_TOPIC] = &topic_kind
};

/* Whoever takes lanes from the static library takes their recovery along, which registers itself. */
static const struct recovery_hooks *const recovery __attribute__((used)) = &lane_recovery_hooks;

const struct lane_kind *lane_kind_of(uint32_t kind)
{
    return kind < sizeof kinds / sizeof *kinds ? kinds[kind] : NULL;
}

bool lane_of(struct cue_pool *pool, struct record *rec, uint32_t index, struct lane *out)
{
    char *data;
    uint64_t capacity, generation = rec_generation(atomic_load_explicit(&rec->state, acquire));
    if (atomic_load_explicit(&rec->type, relaxed) != POOL_TYPE_LANE ||
        !pool_bytes(pool, index, &data, &capacity) || /* pairs with: the state word */
        capacity < sizeof(struct lane_head))
        return false;
    struct lane_head *head = (struct lane_head *)(void *)data;
    *out = (struct lane){ pool, head, rec, index, generation, lane_kind_of(head->kind) };
    return head->magic == LANE_MAGIC && out->kind && out->kind->sound(head, capacity);
}

bool lane_enter(struct cue_pool *pool, uint32_t index, struct lane *out)
{
    struct record *rec = pool_record(pool, index);
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
    if (rec_state(state) != REC_KEPT || atomic_load_explicit(&rec->type, relaxed) != POOL_TYPE_LANE ||
        lease_take(pool, rec, index, rec_generation(state)))
        return false;
    bool good = lane_of(pool, rec, index, out);
    if (good)
        out->generation = rec_generation(state);
    else
        lease_drop(pool, rec, index, rec_generation(state));
    return good;
}

void lane_leave(const struct lane *lane)
{
    lease_drop(lane->pool, lane->rec, lane->index, lane->generation);
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

enum tried { DONE, OTHERS, MESSAGES };

/* We hold a lease. DONE: it is retired, or nobody's to retire. */
static enum tried try_retire(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation, unsigned gone)
{
    struct lane lane;
    if (!lane_of(pool, rec, index, &lane) || lane.head->mortal)
        return DONE;
    struct lane_head *head = lane.head;
    lane.generation = generation;
    uint64_t gate = atomic_load_explicit(&head->gate, seq_cst); /* first, see above */
    if (!(gate & GATE_RETIRED)) {
        if (lane_in_use(pool, rec, gone, true) || !lease_alone(pool, index)) /* another process, or a thread of ours */
            return OTHERS;
        if (!lane.kind->empty(&lane))
            return MESSAGES;
        if (!atomic_compare_exchange_strong_explicit(&head->gate, &gate, gate | GATE_RETIRED, seq_cst, seq_cst)) /* !! */
            return OTHERS;
    }
    lane_free(pool, rec, index, generation);
    return DONE;
}

void lane_retire(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation, unsigned gone)
{
    for (int tries = 0; tries < RETIRE_TRIES && !lane_in_use(pool, rec, gone, false); tries++) {
        if (lease_take(pool, rec, index, generation))
            return;
        uint32_t closed = atomic_load_explicit(&rec->lane, seq_cst);
        enum tried tried = try_retire(pool, rec, index, generation, gone);
        lease_drop(pool, rec, index, generation);
        if (tried == DONE || (tried == MESSAGES && atomic_load_explicit(&rec->lane, seq_cst) == closed)) /* pairs with: lane_close */
            return;
        if (tries % 8 == 7)
            sched_yield(); /* two at once: the other one gets ahead */
    }
}

void lane_close(const struct lane *lane)
{
    struct cue_pool *pool = lane->pool;
    atomic_fetch_add_explicit(&lane->rec->lane, 1, seq_cst); /* pairs with: lane_retire */
    bool last = lease_drop(pool, lane->rec, lane->index, lane->generation);
    if (last && atomic_load_explicit(&pool->open, acquire) == 1) /* a channel holds its pool open, so else it was destroyed */
        lane_retire(pool, lane->rec, lane->index, lane->generation, NOBODY_GONE);
}

/* ---- make and open ---- */

static void head_init(struct cue_pool *pool, struct lane_head *head, uint32_t kind, const cue_channel_opts *with)
{
    head->magic = LANE_MAGIC;
    head->kind = kind;
    head->full = with->full ? with->full : CUE_FAIL;
    head->depth = with->depth ? with->depth : 1024;
    head->type = with->type;
    head->bytes = with->bytes ? with->bytes : pool->data_bytes / 4;
    head->max = with->max;
    head->redeliver = with->redeliver;
    head->history = with->history;
}

int lane_take(struct cue_pool *pool, const char *name, const cue_channel_opts *with, cue_block *block, struct lane *out)
{
    struct fresh fresh = { .type = POOL_TYPE_LANE };
    struct taken taken;
    char *data;
    uint64_t capacity, bytes = 0;
    uint32_t kind = with->kind ? with->kind : CUE_MAILBOX;
    const struct lane_kind *way = lane_kind_of(kind);
    if (!way)
        return trail(CUE_ENOSYS, "lanes of kind %u are not built in", kind);
    if ((with->redeliver || with->dead) && !way->redelivers)
        return trail(CUE_EINVAL, "redeliver and dead are for queues, where several may receive a message: not for a %s", way->name);
    int status = way->bytes(with, &bytes);
    if (status)
        return status;
    fresh.size = bytes;
    if (name) {
        fresh.note = NOTE_KEYED | NOTE_NAMED;
        fresh.name_hash = (uint32_t)directory_name_hash(name);
    }
    status = block_take(pool, bytes + (name ? POOL_NAME_BYTES : 0), 0, &fresh, &taken);
    if (status)
        return status;
    handle_owner(pool, taken.index, taken.generation, taken.data, bytes, block);
    if (!pool_bytes(pool, taken.index, &data, &capacity)) {
        cue_block_release(block);
        return trail(CUE_ECORRUPT, "the slab of block %x makes no sense", taken.index);
    }
    memset(data, 0, bytes);
    if (name) {
        memset(data + capacity, 0, POOL_NAME_BYTES);
        memcpy(data + capacity, name, strlen(name));
    }
    *out = (struct lane){ pool, (struct lane_head *)(void *)data, taken.rec, taken.index, taken.generation, way };
    head_init(pool, out->head, kind, with);
    way->init(out->head, with);
    return 0;
}

/* CUE_EEXIST: somebody else was first. The lease that comes with it is ours. */
static int lane_make(struct cue_pool *pool, const char *name, const cue_channel_opts *with, struct lane *out)
{
    cue_block block;
    int status = lane_take(pool, name, with, &block, out);
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
static int view_enter(struct cue_pool *pool, const char *name, cue_block *view, struct lane *out)
{
    struct block_ref ref;
    int status = handle_open(view, &ref);
    if (status)
        return status;
    if (!lane_of(pool, ref.rec, ref.index, out)) {
        uint32_t type = atomic_load_explicit(&ref.rec->type, relaxed); /* leased */
        cue_block_release(view);
        return type == POOL_TYPE_LANE ? trail(CUE_ECORRUPT, "lane %s of pool %s makes no sense", name, pool->name)
                                      : trail(CUE_EEXIST, "\"%s\" in pool %s is a block, not a lane", name, pool->name);
    }
    if (atomic_fetch_add_explicit(&out->head->gate, GATE_ONE, seq_cst) & GATE_RETIRED) { /* pairs with: try_retire */
        lane_free(pool, ref.rec, ref.index, ref.generation);
        cue_block_release(view);
        return 1;
    }
    out->generation = ref.generation;
    return 0;
}

int lane_find(struct cue_pool *pool, const char *name, struct lane *out)
{
    int status = 1;
    for (int tries = 0; status > 0 && tries < OPEN_TRIES; tries++) {
        cue_block view;
        status = directory_find_name(pool, name, &view);
        if (!status)
            status = view_enter(pool, name, &view, out);
    }
    return status > 0 ? CUE_ENOENT : status;
}

int lane_open(struct cue_pool *pool, const char *name, const cue_channel_opts *with, struct lane *out)
{
    for (int tries = 0; tries < OPEN_TRIES; tries++) {
        cue_block view;
        int status = directory_find_name(pool, name, &view);
        if (status == CUE_ENOENT) {
            status = lane_make(pool, name, with, out);
            if (status == CUE_EEXIST) { /* somebody makes it just now; or a block has reserved it */
                sched_yield();
                continue;
            }
            return status;
        }
        if (!status)
            status = view_enter(pool, name, &view, out);
        if (status > 0)
            continue;
        if (!status && with->kind && with->kind != out->kind->number) {
            status = trail(CUE_ETYPE, "lane %s of pool %s is of kind %u, not %u", name, pool->name, out->kind->number, with->kind);
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
    if (!(atomic_fetch_add_explicit(&lane->head->gate, GATE_ONE, seq_cst) & GATE_RETIRED)) /* pairs with: try_retire */
        return 0;
    lease_drop(lane->pool, lane->rec, lane->index, lane->generation);
    return trail(CUE_ESTALE, "the lane of a channel from before fork() is gone");
}

int lane_shut_trail(const struct cue_pool *pool, const struct lane_head *head)
{
    const struct lane_kind *kind = lane_kind_of(head->kind); /* it may have been changed since the lane was opened */
    return trail(CUE_ECLOSED, "a %s of pool %s: its receiver has shut it; who opens it next to receive opens it again",
                 kind ? kind->name : "lane", pool->name);
}

/* ---- ends that only one may have ---- */

bool receiver_lives(struct cue_pool *pool, uint64_t word)
{
    unsigned party = receiver_party(word);
    if (party == 0 || party > pool->max_parties)
        return false;
    uint64_t now = atomic_load_explicit(&pool->parties[party - 1].word, acquire);
    return party_state(now) == PARTY_LIVE && party_epoch(now) == receiver_epoch(word) && !party_dead(pool, party - 1, party_epoch(now));
}

int32_t receiver_pid(struct cue_pool *pool, uint64_t word)
{
    return receiver_lives(pool, word) ? party_pid(atomic_load_explicit(&pool->parties[receiver_party(word) - 1].word, relaxed)) : 0;
}

int lane_end_claim(const struct lane *lane, _Atomic uint64_t *end, const char *does, uint64_t *mine)
{
    static _Atomic uint32_t channels;
    struct cue_pool *pool = lane->pool;
    uint64_t which = (atomic_fetch_add_explicit(&channels, 1, relaxed) + 1) & 0x3fffff; /* private */
    uint64_t word = atomic_load_explicit(end, acquire);
    *mine = (uint64_t)(pool->self + 1) | (uint64_t)(pool->epoch & 0x3fffffff) << 12 | which << 42;
    do {
        if (receiver_lives(pool, word))
            return trail(CUE_EBUSY, "%s %x of pool %s: process %d %s", lane->kind->name, lane->index, pool->name, receiver_pid(pool, word),
                         does);
    } while (!cas(end, &word, *mine)); /* !! */
    return 0;
}

bool lane_end_vacate(_Atomic uint64_t *end, unsigned slot, uint32_t epoch)
{
    uint64_t word = atomic_load_explicit(end, acquire);
    return receiver_party(word) == slot + 1 && receiver_epoch(word) == (epoch & 0x3fffffff) && cas(end, &word, 0);
}

/* ---- counts ---- */

void lane_stat(const struct lane *lane, cue_channel_info *out)
{
    struct lane_head *head = lane->head;
    const struct record *rec = lane->rec;
    out->kind = lane->kind->number;
    out->depth = head->depth;
    out->users = (uint32_t)(__builtin_popcountll(atomic_load_explicit(&rec->lease[0], relaxed)) + /* a count for people */
                            __builtin_popcountll(atomic_load_explicit(&rec->lease[1], relaxed)));
    out->receiver = receiver_pid(lane->pool, atomic_load_explicit(&head->receiver, acquire));
    out->late = atomic_load_explicit(&head->late, relaxed); /* the same */
    lane->kind->stat(lane->pool, head, out);
}

/* ---- channels ---- */

/* `flags`: how it is opened by its name. */
static int pool_of(const struct channel_url *url, uint32_t flags, const cue_channel_opts *opts, cue_pool **out)
{
    const char *name = url->pool[0] ? url->pool : opts->pool ? opts->pool->name : secure_getenv("CUE_POOL");
    if (opts->pool && url->pool[0] && strcmp(url->pool, opts->pool->name) != 0)
        return trail(CUE_EINVAL, "the URL names pool %s, opts->pool is %s", url->pool, opts->pool->name);
    if (!opts->pool)
        return cue_pool_open(name && *name ? name : "cue", &(cue_pool_opts){ .flags = flags }, out);
    int fd = cue_pool_fd(opts->pool); /* it may have no name */
    return fd < 0 ? fd : cue_pool_open(NULL, &(cue_pool_opts){ .flags = CUE_ATTACH, .fd = fd }, out);
}

int lane_channel_open(const struct channel_url *url, unsigned how, const cue_channel_opts *opts, cue_channel **out)
{
    struct lane lane;
    cue_pool *pool;
    if (opts->kind && !lane_kind_of(opts->kind))
        return trail(CUE_ENOSYS, "lane %s: lanes of kind %u are not built in", url->name, opts->kind);
    int status = pool_of(url, how & CUE_TAP ? CUE_ATTACH : 0, opts, &pool);
    if (status)
        return status;
    if (how & CUE_TAP) {
        status = tap_channel_open(pool, url->name, opts, out);
        if (status)
            cue_pool_close(pool);
        return status;
    }
    status = url->name[0] == '@' ? pool_topic_open(pool, url->name, how, opts, out) : lane_open(pool, url->name, opts, &lane);
    if (!status && url->name[0] != '@') {
        status = lane.kind->open(&lane, how, opts, out);
        if (status)
            lane_close(&lane);
        else if (how & CUE_RECV && lane_is_shut(lane.head))
            atomic_fetch_and_explicit(&lane.head->gate, ~GATE_SHUT, seq_cst);
    }
    if (status)
        cue_pool_close(pool);
    return status;
}
