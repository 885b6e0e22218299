/* shm://POOL/@blocks and shm://POOL/@parties: what happens in a pool, as messages.
 *
 * These are no lanes: nobody sends into them. Each channel reads the pool's log of events (pool/events.c) from a place of its own, so it
 * takes nothing from others, costs those who write nothing more, and bounds itself: who is a log behind has missed the oldest, and the
 * next message says how many in `key`. A message's payload is a small block of ours, as any received message's.
 *
 * A death is in the log once somebody has cleaned up after it. So that it is not left to chance who does that and when, a channel of
 * @parties watches all who are there, which makes this process clean up (pool/watch.c) as soon as the kernel says so.
 */
#include "await.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct events_channel {
    struct cue_channel base;
    struct event_cursor cursor;
    struct event held;       /* read, not handed out for want of room in the pool; kind EVENT_NONE: none */
    uint64_t told, received; /* of cursor.missed: told in a message */
    uint32_t type;           /* @blocks: only this; 0: all */
    bool parties;
    struct halt halt;
    struct watch *watches[POOL_MAX_PARTIES];
};

static struct events_channel *events_of(cue_channel *ch)
{
    return (struct events_channel *)(void *)ch;
}

/* ---- deaths ---- */

static void nothing(void *arg, struct cue_pool *pool, unsigned slot, uint32_t epoch)
{
    (void)arg, (void)pool, (void)slot, (void)epoch; /* the watcher cleans up after each death, and that is the event */
}

/* If there is none to be had, a death is found out by looking, once a watch period. */
static void watch_slot(struct events_channel *ch, unsigned slot)
{
    struct cue_pool *pool = ch->base.pool;
    uint64_t word = slot < pool->max_parties ? atomic_load_explicit(&pool->parties[slot].word, acquire) : 0;
    if (slot >= POOL_MAX_PARTIES || slot == pool->self)
        return;
    watch_end(ch->watches[slot]);
    ch->watches[slot] = NULL;
    if (party_state(word) == PARTY_LIVE)
        watch_party(pool, slot, party_epoch(word), nothing, NULL, &ch->watches[slot]);
}

/* ---- messages ---- */

static bool wanted(const struct events_channel *ch, const struct event *event)
{
    bool party = event->kind == EVENT_PARTY_UP || event->kind == EVENT_PARTY_DOWN;
    return party == ch->parties && (party || !ch->type || event->type == ch->type);
}

/* The next event that this channel is for, in `held`. */
static bool event_fetch(struct events_channel *ch)
{
    while (!ch->held.kind) {
        if (events_next(ch->base.pool, &ch->cursor, &ch->held) == 0)
            return false;
        if (!wanted(ch, &ch->held))
            ch->held.kind = EVENT_NONE;
    }
    return true;
}

static void fill_block(const struct event *event, cue_block_info *out)
{
    *out = (cue_block_info){ .id = event->id, .key_id = event->key_id, .size = event->size, .made_ns = event->at_ns, .type = event->type };
    out->state = event->party ? CUE_BLOCK_OWNED : CUE_BLOCK_KEPT;
    out->owner = event->party;
    out->owner_pid = event->pid;
    memcpy(out->name, event->name, sizeof out->name);
}

static void fill_party(const struct event *event, cue_party_info *out)
{
    *out = (cue_party_info){ .party = event->party, .pid = event->pid, .since_ns = event->at_ns };
    out->uid = (uint32_t)event->key_id;
    out->gid = (uint32_t)(event->key_id >> 32);
    out->dead = event->kind == EVENT_PARTY_DOWN && event->size;
    memcpy(out->label, event->name, sizeof out->label);
}

/* The held event as a message. CUE_ENOMEM: it stays held. */
static int message_of(struct events_channel *ch, cue_msg *out)
{
    static const uint32_t types[] = { [EVENT_BLOCK_UP] = CUE_BLOCK_UP,
                                      [EVENT_BLOCK_GONE] = CUE_BLOCK_GONE,
                                      [EVENT_PARTY_UP] = CUE_PARTY_UP,
                                      [EVENT_PARTY_DOWN] = CUE_PARTY_DOWN };
    struct cue_pool *pool = ch->base.pool;
    struct taken taken;
    uint64_t size = ch->parties ? sizeof(cue_party_info) : sizeof(cue_block_info);
    int status = block_take(pool, size, 0, &(struct fresh){ .size = size }, &taken);
    memset(out, 0, sizeof *out);
    if (status)
        return status;
    if (ch->parties)
        fill_party(&ch->held, (cue_party_info *)(void *)taken.data);
    else
        fill_block(&ch->held, (cue_block_info *)(void *)taken.data);
    cue_block payload;
    handle_owner(pool, taken.index, taken.generation, taken.data, size, &payload);
    memcpy(out->priv, payload.priv, sizeof payload.priv); /* cue_msg_release gives it back */
    out->type = types[ch->held.kind];
    out->tag = ch->cursor.at;
    out->key = ch->cursor.missed - ch->told;
    out->gap = out->key < UINT32_MAX ? (uint32_t)out->key : UINT32_MAX;
    out->data = taken.data;
    out->size = size;
    ch->told = ch->cursor.missed;
    if (ch->held.kind == EVENT_PARTY_UP)
        watch_slot(ch, ch->held.party - 1);
    ch->held.kind = EVENT_NONE;
    ch->received++;
    return 0;
}

/* ---- receive ---- */

/* One nap for want of events; 0: look again. */
static int nap_for_event(struct events_channel *ch, int64_t deadline)
{
    struct cue_pool *pool = ch->base.pool;
    _Atomic uint32_t *word;
    uint32_t value;
    int64_t nap = deadline_nap(deadline);
    if (nap <= 0)
        return CUE_EEMPTY;
    if (!events_doze(pool, &ch->cursor, &word, &value))
        return 0;
    int status = interrupted(&ch->halt);
    if (status)
        return status;
    pool_before_sleep(pool);
    status = futex_wait(word, value, nap);
    if (status == CUE_EINTR)
        return status;
    if (status == CUE_ETIMEDOUT)
        pool_reap(pool);
    return pool_wait_look(pool);
}

static int take(struct events_channel *ch, cue_msg *out, size_t n)
{
    size_t got = 0;
    int status = 0;
    while (got < n && event_fetch(ch) && (status = message_of(ch, &out[got])) == 0)
        got++;
    return got ? (int)got : status;
}

static int events_recv_many(cue_channel *base, cue_msg *out, size_t n, int64_t deadline)
{
    struct events_channel *ch = events_of(base);
    struct cue_pool *pool = base->pool;
    int got, status = pool_wait_begin(pool);
    if (status)
        return status;
    while ((got = take(ch, out, n < INT32_MAX ? n : INT32_MAX)) == 0 && !status)
        status = deadline == 0 ? CUE_EEMPTY : (status = interrupted(&ch->halt)) ? status : nap_for_event(ch, deadline);
    pool_wait_end(pool);
    return got ? got : status;
}

static bool events_doze_on(cue_channel *base, unsigned how, struct channel_sleep *on)
{
    struct events_channel *ch = events_of(base);
    (void)how;
    return events_doze(base->pool, &ch->cursor, &on->word, &on->value) && !ch->held.kind;
}

static void events_rouse(cue_channel *base, unsigned how)
{
    (void)base, (void)how; /* the bell's bit is cleared by who rings it */
}

/* ---- wake, close ---- */

static void waits_end(struct cue_pool *pool)
{
    atomic_fetch_add_explicit(&pool->header->events_bell, 2, seq_cst); /* pairs with: nap_for_event; others look once more */
    futex_wake(&pool->header->events_bell, INT_MAX);
}

static void events_wake(cue_channel *base)
{
    atomic_store_explicit(&events_of(base)->halt.woken, 1, seq_cst); /* pairs with: interrupted */
    waits_end(base->pool);
}

static int events_close(cue_channel *base)
{
    struct events_channel *ch = events_of(base);
    struct cue_pool *pool = base->pool;
    if (base->forks != fork_epoch)
        return 0;                                         /* the parent's */
    atomic_store_explicit(&ch->halt.closing, 1, seq_cst); /* pairs with: interrupted */
    while (atomic_load_explicit(&base->receiving, acquire)) {
        waits_end(pool);
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
    }
    for (unsigned slot = 0; slot < POOL_MAX_PARTIES; slot++)
        watch_end(ch->watches[slot]);
    if (pool->incarnation == base->incarnation && pool_wait_begin(pool) == 0) { /* else it was destroyed */
        events_unwatch(pool);
        pool_wait_end(pool);
    }
    return 0;
}

static int events_stat(cue_channel *base, cue_channel_info *out)
{
    struct events_channel *ch = events_of(base);
    uint64_t tail = atomic_load_explicit(&base->pool->header->events_tail, acquire), behind = tail - ch->cursor.at;
    out->kind = CUE_TOPIC;
    out->depth = POOL_EVENTS;
    out->queued = behind < POOL_EVENTS ? behind : POOL_EVENTS;
    out->received = ch->received;
    out->gaps = out->dropped = ch->cursor.missed;
    return 0;
}

static const struct channel_ops events_ops = {
    .send_many = NULL, /* nobody may */
    .recv_many = events_recv_many,
    .wake = events_wake,
    .stat = events_stat,
    .close = events_close,
    .doze = events_doze_on,
    .rouse = events_rouse,
};

/* ---- open ---- */

static int check(const char *name, unsigned how, const cue_channel_opts *with)
{
    bool blocks = strcmp(name, "@blocks") == 0;
    if (!blocks && strcmp(name, "@parties") != 0)
        return trail(CUE_ENOSYS, "%s: of the topics that the library itself publishes there are @blocks and @parties", name);
    if (how != CUE_RECV)
        return trail(CUE_EPERM, "%s is published by the library: it can only be received", name);
    if (with->kind && with->kind != CUE_TOPIC)
        return trail(CUE_ETYPE, "%s is a topic", name);
    if (with->depth || with->history || with->redeliver || with->bytes || with->max || with->dead ||
        (with->full && with->full != CUE_DROP_OLD))
        return trail(CUE_EINVAL, "%s is read from the log of its pool, which keeps the last %d events: it has no other bounds", name,
                     POOL_EVENTS);
    if (with->type && !blocks)
        return trail(CUE_EINVAL, "%s: `type` is for @blocks", name);
    return 0;
}

int pool_topic_open(cue_pool *pool, const char *name, unsigned how, const cue_channel_opts *with, cue_channel **out)
{
    int status = check(name, how, with);
    struct events_channel *ch = status ? NULL : calloc(1, sizeof *ch);
    if (!status && !ch)
        status = trail(CUE_ENOMEM, "no process memory for a channel");
    if (!status && (status = events_watch(pool, &ch->cursor)))
        free(ch);
    if (status)
        return status;
    ch->base.ops = &events_ops;
    ch->base.pool = pool;
    ch->type = with->type;
    ch->parties = strcmp(name, "@parties") == 0;
    for (unsigned slot = 0; ch->parties && slot < POOL_MAX_PARTIES; slot++)
        watch_slot(ch, slot);
    *out = &ch->base;
    return 0;
}
