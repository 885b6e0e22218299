/* Taps: who opens a lane with CUE_TAP gets copies of what is sent into it.
 *
 * Those who tap a lane subscribe to a topic of its own (tap_layout.h), with full=drop-old and a bounded depth, so they hold up nobody, and
 * what they missed is counted as any subscriber's. The topic is made by the first, and goes with the last.
 *
 *   tap     hold the lane; subscribe; tap_bytes up; gate := (gate | TAPPED) + ONE  !!
 *   untap   unsubscribe; g = gate; nobody subscribes; CAS gate g -> without TAPPED  !!
 *   send    TAPPED in gate: the message is packed, then copied; sent  !!; the copy is published, or freed if it was not sent
 *
 * The bit is in a word that every send reads anyway, beside SHUT, so a lane that is not tapped costs its senders nothing. Nobody is left
 * with the bit down: an opener changes the gate after it has subscribed, so a closer that did not see the subscription has loaded the
 * gate before that change, and its CAS fails; or the change comes after the CAS and sets the bit. Who is killed before the CAS leaves the
 * bit up: recovery does the same in its place (lane_recovery.c), and a sender that finds the bit and no topic, too.
 *
 * The copy is made before the message is sent, since its receiver may free or change a moved block at once, and published after that: so
 * what is shown was sent, and the copies of one sending thread come in its order. Those of several may come in another order than in the
 * lane, also after the receiver's answer. A sender that is killed in between has sent what no tap shows. The copy never waits for room,
 * comes after the message when there is room for one only, and takes none while anybody waits for some; a thread that found none looks
 * again after some milliseconds. What is not copied is counted as missed.
 *
 * A sender keeps nothing: it looks the topic up for each message, and holds it no longer than that. So a lane can be tapped for a moment
 * and no trace is left in processes that do not send any more.
 */
#include "tap.h"

#include "ask.h"
#include "topic_channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TAP_DEPTH = 256,
    TAP_DEPTH_LEAST = 16,
    TAP_BYTES = 4096,
    TAP_BYTES_LEAST = 64,
    TAP_SHARE = 8,
    TAP_COSTS = 256, /* of a copy, besides its bytes: record, header, note, rounding, its place in the ring */
    TAP_DRY_NS = 10000000,
    SETTLE_TRIES = 1000
};

/* ---- the topic ---- */

static void topic_name(const struct lane *lane, char name[POOL_NAME_BYTES])
{
    snprintf(name, POOL_NAME_BYTES, "@tap-%x-%llx", lane->index, (unsigned long long)lane->generation);
}

/* Under a lease, which lane_close gives back. false: nobody taps. */
static bool taps_enter(const struct lane *lane, struct lane *out)
{
    char name[POOL_NAME_BYTES];
    struct block_ref ref;
    cue_block view;
    topic_name(lane, name);
    if (directory_find_name(lane->pool, name, &view))
        return false;
    if (handle_open(&view, &ref) || !lane_of(lane->pool, ref.rec, ref.index, out) || out->kind != &topic_kind) {
        cue_block_release(&view);
        return false;
    }
    out->generation = ref.generation;
    return true;
}

static bool somebody_subscribes(const struct lane *taps)
{
    for (unsigned place = 0; place < TOPIC_HISTORY; place++) {
        uint64_t word = atomic_load_explicit(&topic_of(taps)->place[place], seq_cst); /* pairs with: subscribe */
        if (word && !(word & PLACE_CLOSING))
            return true;
    }
    return false;
}

void tap_settle(const struct lane *lane)
{
    for (int tries = 0; tries < SETTLE_TRIES; tries++) {
        uint64_t gate = atomic_load_explicit(&lane->head->gate, seq_cst); /* first, see above */
        struct lane taps;
        if (!(gate & GATE_TAPPED))
            return;
        if (taps_enter(lane, &taps)) {
            bool listened = somebody_subscribes(&taps);
            lane_close(&taps);
            if (listened)
                return;
        }
        if (atomic_compare_exchange_strong_explicit(&lane->head->gate, &gate, gate & ~GATE_TAPPED, seq_cst, seq_cst)) /* !! */
            return;
    }
}

/* ---- senders ---- */

/* The first bytes of a message, and how many there are: its own, or else its block's, whatever the caller's handle says of them. */
static uint64_t first_bytes(const cue_msg *m, const struct opened *opened, const char **data)
{
    const struct block_ref *ref = &opened->ref;
    char *base;
    uint64_t capacity, size, offset;
    *data = m->data;
    if (m->size || !m->move)
        return m->size;
    if (!pool_bytes(ref->pool, ref->index, &base, &capacity))
        return 0;
    offset = ref->owner ? 0 : (uint64_t)((uintptr_t)m->move->data - (uintptr_t)base);
    size = ref->owner ? rec_size(ref->rec) : m->move->size;
    *data = base + offset;
    return offset <= capacity && size <= capacity - offset ? size : 0;
}

/* A copy costs its note and header, too, and a record. */
static uint64_t share_of(const struct cue_pool *pool, uint32_t depth)
{
    uint64_t each = pool->data_bytes / TAP_SHARE / (depth ? depth : 1);
    return each > TAP_COSTS ? (each - TAP_COSTS) & ~UINT64_C(15) : 0;
}

/* So many bytes of each message: for who wants most, and such that the copies in the deepest ring stay within the share. */
static uint64_t bytes_shown(const struct lane *taps)
{
    uint64_t word = atomic_load_explicit(&taps->head->tap_bytes, acquire), share = share_of(taps->pool, tap_depth(word));
    return tap_bytes(word) < share ? tap_bytes(word) : share;
}

/* Where no room was found. Looking for it again with each message would slow the sender, and take from everybody what they hold. */
static _Thread_local struct {
    const struct cue_pool *pool;
    int64_t until;
} dry;

static bool is_dry(const struct cue_pool *pool)
{
    return dry.pool == pool && clock_ns() < dry.until;
}

static struct tap_note note_of(const struct cue_pool *pool, const cue_msg *m, bool system, const struct opened *opened)
{
    uint64_t word = atomic_load_explicit(&pool->parties[pool->self].word, relaxed); /* ours */
    return (struct tap_note){
        .magic = TAP_MAGIC,
        .flags = (m->move ? opened->ref.owner ? CUE_TAPPED_BLOCK : CUE_TAPPED_VIEW : 0) | (is_question(m) ? CUE_TAPPED_ASK : 0) |
                 (system ? CUE_TAPPED_SYSTEM : 0),
        .size = m->size,
        .block = m->move ? m->move->size : 0,
        .sent_ns = clock_ns(),
        .pid = party_pid(word),
        .party = pool->self + 1,
    };
}

void tap_copy(const struct lane *lane, const cue_msg *m, bool system, const struct opened *opened, struct tap_copy *out)
{
    struct cue_pool *pool = lane->pool;
    const char *data;
    struct taken taken;
    bool entered = taps_enter(lane, &out->taps);
    if (!entered || !somebody_subscribes(&out->taps)) {
        if (entered)
            lane_close(&out->taps);
        memset(out, 0, sizeof *out);
        tap_settle(lane);
        return;
    }
    out->made = false;
    uint64_t bytes = first_bytes(m, opened, &data), most = bytes_shown(&out->taps);
    bytes = bytes < most ? bytes : most;
    bool pure = m->move && opened->pure;
    struct fresh fresh = {
        .size = sizeof(struct tap_note) + bytes,
        .type = pure ? atomic_load_explicit(&opened->ref.rec->type, relaxed) : m->type, /* ours */
        .note = NOTE_MESSAGE | MESSAGE_BYTES | MESSAGE_HEADER,
    };
    struct message_header header = { .key = m->key, .from = m->from, .status = m->status, .index = INDEX_NONE, .home = m->tag };
    struct tap_note note = note_of(pool, m, system, opened);
    if (is_dry(pool) || room_awaited(pool, 0))
        return;
    if (block_take(pool, sizeof header + fresh.size, 0, &fresh, &taken)) {
        dry.pool = pool;
        dry.until = clock_ns() + TAP_DRY_NS;
        return;
    }
    memcpy(taken.data, &header, sizeof header);
    memcpy(taken.data + sizeof header, &note, sizeof note);
    if (bytes)
        memcpy(taken.data + sizeof header + sizeof note, data, bytes);
    out->parcel = (struct parcel){
        .rec = taken.rec, .index = taken.index, .envelope = true, .state = rec_word(REC_OWNED, pool->self + 1, taken.generation)
    };
    out->made = true;
}

void tap_end(struct tap_copy *copy, bool sent)
{
    if (!copy->taps.pool)
        return;
    if (sent && topic_publish_once(&copy->taps, copy->made ? &copy->parcel : NULL))
        copy->made = false; /* it is theirs */
    if (copy->made)
        message_undo(copy->taps.pool, &copy->parcel);
    lane_close(&copy->taps);
}

/* ---- who taps: a subscriber, but for what follows ---- */

static void open_copy(const struct topic_channel *ch, cue_msg *m)
{
    struct tap_note note;
    if (m->size < sizeof note) {
        m->size = 0;
        m->status = CUE_ECORRUPT;
        return;
    }
    memcpy(&note, m->data, sizeof note);
    m->priv[3] = (uint64_t)(uintptr_t)m->data | PRIV_TAPPED;
    m->data = (const char *)m->data + sizeof note;
    m->size -= sizeof note;
    if (m->size > ch->tap_bytes) /* another one wanted more */
        m->size = ch->tap_bytes;
}

static int tap_recv_many(cue_channel *base, cue_msg *out, size_t n, int64_t deadline)
{
    int got = topic_recv_many(base, out, n, deadline);
    for (int i = 0; i < got; i++)
        open_copy((struct topic_channel *)(void *)base, &out[i]);
    return got;
}

static int tap_stat(cue_channel *base, cue_channel_info *out)
{
    const struct lane *tapped = &topic_channel_of(base)->tapped;
    cue_channel_info lane = { 0 };
    int status = topic_ops.stat(base, out);
    lane_stat(tapped, &lane);
    out->kind = lane.kind;
    out->users = lane.users;
    out->receiver = lane.receiver;
    return status;
}

static int tap_close(cue_channel *base)
{
    struct topic_channel *ch = topic_channel_of(base);
    int status = topic_ops.close(base);
    if (base->forks == fork_epoch) { /* else it is the parent's */
        tap_settle(&ch->tapped);
        lane_close(&ch->tapped);
    }
    return status;
}

static struct channel_ops tap_ops;

__attribute__((constructor)) static void tap_ops_fill(void)
{
    tap_ops = topic_ops;
    tap_ops.recv_many = tap_recv_many;
    tap_ops.stat = tap_stat;
    tap_ops.close = tap_close;
}

/* ---- open ---- */

static int options_check(const cue_channel_opts *o)
{
    if (o->full && o->full != CUE_DROP_OLD)
        return trail(CUE_EINVAL, "a tap holds nobody up: it drops the oldest, full=drop-old");
    if (o->type || o->bytes || o->redeliver || o->history || o->dead)
        return trail(CUE_EINVAL, "%s is not for a tap: it has kind depth max spin",
                     o->type        ? "type"
                     : o->bytes     ? "bytes"
                     : o->redeliver ? "redeliver"
                     : o->history   ? "history"
                                    : "dead");
    return 0;
}

/* How many copies, and what is copied of each message: such that a tap which nobody reads any more holds no more than a share of the
 * pool. */
static int copies_wanted(const struct cue_pool *pool, const cue_channel_opts *o, uint32_t *depth, uint64_t *bytes)
{
    uint64_t want = o->max ? o->max : TAP_BYTES;
    *depth = o->depth ? o->depth : TAP_DEPTH;
    while (!o->depth && *depth > TAP_DEPTH_LEAST && share_of(pool, *depth) < TAP_BYTES_LEAST)
        *depth /= 2;
    *bytes = share_of(pool, *depth);
    if (*bytes < TAP_BYTES_LEAST)
        return trail(CUE_ETOOBIG, "a tap of depth %u in pool %s of %llu bytes: %d bytes of each message would be more than a %dth of it",
                     *depth, pool->name, (unsigned long long)pool->data_bytes, TAP_BYTES_LEAST, TAP_SHARE);
    if (want < *bytes)
        *bytes = want;
    if (*bytes > UINT32_MAX)
        *bytes = UINT32_MAX;
    return 0;
}

/* From here on senders show what they send. */
static void tap_announce(const struct lane *lane, const struct lane *taps, uint32_t depth, uint64_t bytes)
{
    uint64_t had = atomic_load_explicit(&taps->head->tap_bytes, acquire), gate = atomic_load_explicit(&lane->head->gate, seq_cst);
    while ((tap_depth(had) < depth || tap_bytes(had) < bytes) &&
           !cas(&taps->head->tap_bytes, &had,
                tap_word(tap_depth(had) < depth ? depth : tap_depth(had), tap_bytes(had) < bytes ? bytes : tap_bytes(had))))
        ;
    while (!atomic_compare_exchange_strong_explicit(&lane->head->gate, &gate, (gate | GATE_TAPPED) + GATE_ONE, seq_cst, seq_cst))
        ; /* !! above; pairs with: tap_settle, message_check */
}

static int taps_open(const struct lane *lane, const cue_channel_opts *opts, cue_channel **out)
{
    cue_channel_opts with = { .kind = CUE_TOPIC, .full = CUE_DROP_OLD, .spin = opts->spin };
    char name[POOL_NAME_BYTES];
    struct lane taps;
    uint64_t bytes;
    topic_name(lane, name);
    int status = copies_wanted(lane->pool, opts, &with.depth, &bytes);
    if (!status)
        status = lane_open(lane->pool, name, &with, &taps);
    if (status)
        return status;
    status = topic_kind.open(&taps, CUE_RECV, &with, out);
    if (status) {
        lane_close(&taps);
        return status;
    }
    struct topic_channel *ch = topic_channel_of(*out);
    ch->base.ops = &tap_ops;
    ch->tapped = *lane;
    ch->tap_bytes = bytes;
    tap_announce(lane, &taps, with.depth, bytes);
    return 0;
}

int tap_channel_open(struct cue_pool *pool, const char *name, const cue_channel_opts *opts, cue_channel **out)
{
    struct lane lane;
    int status = options_check(opts);
    if (status)
        return status;
    if (name[0] == '@')
        return trail(CUE_EINVAL, "%s is a log, which takes nothing from others: open it with CUE_RECV", name);
    status = lane_find(pool, name, &lane);
    if (status == CUE_ENOENT)
        return trail(CUE_ENOENT, "there is no lane %s in pool %s: a tap makes none, open it when its sender or receiver has", name,
                     pool->name);
    if (status)
        return status;
    if (opts->kind && opts->kind != lane.kind->number)
        status = trail(CUE_ETYPE, "lane %s of pool %s is of kind %u, not %u", name, pool->name, lane.kind->number, opts->kind);
    if (!status)
        status = taps_open(&lane, opts, out);
    if (status)
        lane_close(&lane);
    return status;
}

/* ---- what a copy is of ---- */

int cue_msg_tapped(const cue_msg *m, cue_tapped *out)
{
    struct tap_note note;
    if (!m || !out)
        return trail(CUE_EINVAL, "cue_msg_tapped: %s is NULL", m ? "the result's place" : "the message");
    memset(out, 0, sizeof *out);
    if (!message_is_tapped(m))
        return trail(CUE_ENOSYS, "cue_msg_tapped: only messages that a tap received (CUE_TAP) say so");
    memcpy(&note, (const void *)(uintptr_t)(m->priv[3] & ~(uint64_t)PRIV_BITS), sizeof note);
    if (note.magic != TAP_MAGIC)
        return trail(CUE_ECORRUPT, "cue_msg_tapped: what this copy says of itself makes no sense");
    *out = (cue_tapped){ note.size, note.block, { note.sent_ns }, note.pid, note.party, note.flags, 0, { 0 } };
    return 0;
}
