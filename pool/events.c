/* Events: what was published and freed, who came and went, for those who watch.
 *
 * A log of POOL_EVENTS entries in the pool itself, present from the first watch on. Writers take the next position; each reader
 * has a place of its own and takes nothing away: whoever is more than a log behind has missed some, and is told how many.
 *
 * NOBODY PAYS WHO DOES NOT WATCH. `watchers` has a bit for each party with a reader; where none is set a publication, and the free of
 * a published block, is two loads of a line that hardly ever changes, and all other allocs and frees do not even that.
 *
 *   write   place = tail++; the entry: being written by us.  THE COMMIT of what is logged.  words, sum; the entry is complete
 *   watch   our bit up, seq_cst; the place is the tail
 *
 * A place is taken before the commit, so whoever is killed between its commit and its event leaves an entry that is never completed:
 * readers count it as missed. A writer that did not commit after all says that nothing happened. Who saw no watcher before its commit
 * looks again after it: so of what a reader that has just begun finds in the manifest, and of what it reads here, nothing is left out;
 * only in that moment a block may come twice, or come after it went.
 *
 * A reader that finds an entry incomplete waits for it as long as its writer lives, but no longer than a watch period; then it counts
 * it as missed and goes on. A writer that was stopped for a whole lap may write into an entry of another one: then the sum is wrong,
 * or the position another, and it counts as missed. Nothing is ever waited for in shared memory but by sleeping readers.
 *
 * Sleeping: a reader sets bit 0 of `events_bell` (seq_cst), looks at the tail and the entry, sleeps. A writer completes its entry, then
 * looks at the bell (seq_cst), and changes and wakes it if the bit is up.
 */
#include "pool_private.h"

#include "base/process.h"
#include "base/shm.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { EVENT_WORDS = 14 };
static_assert(sizeof(struct event) == EVENT_WORDS * sizeof(uint64_t), "an event fills its entry");

static uint64_t event_sum(uint64_t at, const uint64_t words[EVENT_WORDS])
{
    return hash_bytes(words, EVENT_WORDS * sizeof *words, at);
}

/* ---- writing ---- */

static void place_take(struct cue_pool *pool, struct event_ticket *ticket)
{
    struct pool_header *header = pool->header;
    if (!atomic_load_explicit(&header->events_present, acquire)) { /* pairs with: events_watch; a bit without a log: damage */
        ticket->place = 0;
        return;
    }
    ticket->place = atomic_fetch_add_explicit(&header->events_tail, 1, acq_rel) + 1;
    struct pool_event *entry = &pool->events[(ticket->place - 1) % POOL_EVENTS];
    atomic_store_explicit(&entry->seq, ticket->place << 8 | (pool->self + 1), release); /* pairs with: events_next */
}

void event_begin(struct cue_pool *pool, struct event_ticket *ticket)
{
    ticket->place = 0;
    if (events_watched(pool))
        place_take(pool, ticket);
}

static __attribute__((noinline)) void event_write(struct cue_pool *pool, struct event_ticket *ticket, bool happened)
{
    uint64_t words[EVENT_WORDS], at = ticket->place - 1;
    struct pool_event *entry = &pool->events[at % POOL_EVENTS];
    if (!happened)
        ticket->event = (struct event){ .kind = EVENT_NONE };
    memcpy(words, &ticket->event, sizeof words);
    /* relaxed: made readable by the store of seq */
    for (unsigned i = 0; i < EVENT_WORDS; i++)
        atomic_store_explicit(&entry->word[i], words[i], relaxed);
    atomic_store_explicit(&entry->sum, event_sum(at, words), relaxed);
    atomic_store_explicit(&entry->seq, ticket->place << 8, seq_cst); /* !! pairs with: events_next, events_doze */
    _Atomic uint32_t *bell = &pool->header->events_bell;
    if (!(atomic_load_explicit(bell, seq_cst) & 1)) /* pairs with: events_doze */
        return;
    atomic_fetch_add_explicit(bell, 2, acq_rel);
    atomic_fetch_and_explicit(bell, ~UINT32_C(1), acq_rel); /* those who still wait set it again */
    futex_wake(bell, INT_MAX);
}

void event_end(struct cue_pool *pool, struct event_ticket *ticket, bool happened)
{
    if (__builtin_expect(!ticket->place && happened && ticket->event.kind && events_watched(pool), 0))
        place_take(pool, ticket); /* somebody began to watch meanwhile */
    if (__builtin_expect(ticket->place != 0, 0))
        event_write(pool, ticket, happened);
}

static __attribute__((noinline)) void block_name(struct cue_pool *pool, uint32_t index, char name[POOL_NAME_BYTES])
{
    char *data;
    uint64_t capacity;
    if (pool_bytes(pool, index, &data, &capacity))
        name_copy(pool, data, capacity, name);
}

void event_block_begin(struct cue_pool *pool, struct event_ticket *ticket, enum event_kind kind, const struct record *rec, uint32_t index,
                       uint64_t state)
{
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* as all below: ours, or what we read is given up with the commit */
    struct event *event = &ticket->event;
    memset(event, 0, sizeof *event);
    ticket->place = 0;
    event->type = atomic_load_explicit(&rec->type, relaxed);
    if (event->type >= POOL_TYPE_SYSTEM)
        return;
    event->kind = kind;
    event->id = automatic_id(index, rec_generation(state));
    event->key_id = note & NOTE_KEYED && !(note & NOTE_NAMED) ? atomic_load_explicit(&rec->id, relaxed) : 0;
    event->size = rec_size(rec);
    event->at_ns = atomic_load_explicit(&rec->made_ns, relaxed);
    event->party = state & REC_PUBLISHED ? rec_party(state) : 0;
    if (event->party && event->party <= pool->max_parties)
        event->pid = party_pid(atomic_load_explicit(&pool->parties[event->party - 1].word, relaxed));
    if (!events_watched(pool))
        return;
    if (note & NOTE_NAMED)
        block_name(pool, index, event->name);
    place_take(pool, ticket);
}

void event_party_begin(struct cue_pool *pool, struct event_ticket *ticket, enum event_kind kind, unsigned slot, bool died)
{
    const struct party *party = &pool->parties[slot];
    struct event *event = &ticket->event;
    memset(event, 0, sizeof *event);
    event->kind = kind;
    /* relaxed: it is us, or it can change nothing any more */
    event->id = party_epoch(atomic_load_explicit(&party->word, relaxed));
    event->key_id = atomic_load_explicit(&party->uid, relaxed) | (uint64_t)atomic_load_explicit(&party->gid, relaxed) << 32;
    event->size = died;
    event->at_ns = atomic_load_explicit(&party->since_ns, relaxed);
    event->party = slot + 1;
    event->pid = kind == EVENT_PARTY_UP ? pool->pid : party_pid(atomic_load_explicit(&party->word, relaxed));
    snprintf(event->name, sizeof event->name, "%.63s", party->label);
    event_begin(pool, ticket);
}

/* ---- reading ---- */

static _Atomic uint64_t *watch_word(struct cue_pool *pool, unsigned slot)
{
    return &pool->header->watchers[slot / 64];
}

int events_watch(struct cue_pool *pool, struct event_cursor *cursor)
{
    struct pool_header *header = pool->header;
    if (pool->flags & CUE_READ_ONLY)
        return trail(CUE_EPERM, "pool %s is open read-only: to watch it is to write that one does", pool->name);
    if (!atomic_load_explicit(&header->events_present, acquire)) {
        uint64_t at = (uint64_t)((char *)pool->events - (char *)header), bytes = POOL_EVENTS * sizeof(struct pool_event);
        uint32_t expected = 0;
        int status = shm_populate(pool->fd, header, at, bytes);
        if (status)
            return trail_in(status, "making room for the events of a pool");
        if (atomic_compare_exchange_strong_explicit(&header->events_present, &expected, 1, release, relaxed)) /* pairs with: place_take */
            pool_count_present(pool, (int64_t)bytes);
    }
    atomic_fetch_add_explicit(&pool->watches, 1, acq_rel); /* private; first: see events_unwatch */
    atomic_fetch_or_explicit(watch_word(pool, pool->self), UINT64_C(1) << (pool->self % 64), seq_cst); /* pairs with: events_watched */
    *cursor = (struct event_cursor){ .at = atomic_load_explicit(&header->events_tail, acquire) };
    return 0;
}

void events_unwatch(struct cue_pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->watches, 1, acq_rel) != 1) /* private */
        return;
    events_forget(pool, pool->self);
    if (atomic_load_explicit(&pool->watches, seq_cst)) /* another thread began meanwhile */
        atomic_fetch_or_explicit(watch_word(pool, pool->self), UINT64_C(1) << (pool->self % 64), seq_cst);
}

void events_forget(struct cue_pool *pool, unsigned slot)
{
    uint64_t bit = UINT64_C(1) << (slot % 64);
    if (atomic_load_explicit(watch_word(pool, slot), relaxed) & bit) /* only its party sets it */
        atomic_fetch_and_explicit(watch_word(pool, slot), ~bit, seq_cst);
}

/* The entry at the cursor as it was read; false: it is not complete, or torn. */
static bool entry_read(const struct pool_event *entry, uint64_t at, struct event *out)
{
    uint64_t words[EVENT_WORDS];
    for (unsigned i = 0; i < EVENT_WORDS; i++)
        words[i] = atomic_load_explicit(&entry->word[i], relaxed); /* between two looks at seq, and under the sum */
    uint64_t sum = atomic_load_explicit(&entry->sum, relaxed);
    atomic_thread_fence(acquire); /* the words before the second look */
    if (atomic_load_explicit(&entry->seq, relaxed) != (at + 1) << 8 || sum != event_sum(at, words))
        return false;
    memcpy(out, words, sizeof *out);
    out->name[POOL_NAME_BYTES - 1] = 0;
    return true;
}

/* Whoever writes the entry at the cursor: is it worth waiting for it? */
static bool worth_waiting(struct cue_pool *pool, struct event_cursor *cursor, uint64_t seq)
{
    unsigned writer = seq >> 8 == cursor->at + 1 ? (unsigned)seq & 0xff : 0;
    int64_t now = clock_ns();
    if (cursor->stuck_at != cursor->at + 1) {
        cursor->stuck_at = cursor->at + 1;
        cursor->stuck_since = now;
    }
    bool gone = writer && writer <= pool->max_parties &&
                (party_state(atomic_load_explicit(&pool->parties[writer - 1].word, acquire)) != PARTY_LIVE ||
                 party_dead(pool, writer - 1, UINT32_MAX));
    return !gone && now - cursor->stuck_since < WATCH_PERIOD_NS;
}

int events_next(struct cue_pool *pool, struct event_cursor *cursor, struct event *out)
{
    for (;;) {
        uint64_t tail = atomic_load_explicit(&pool->header->events_tail, acquire), behind = tail - cursor->at;
        if (behind == 0 || behind > UINT64_MAX / 2) /* a tail that went back: damage */
            return 0;
        if (behind > POOL_EVENTS) {
            cursor->missed += behind - POOL_EVENTS;
            cursor->at += behind - POOL_EVENTS;
        }
        const struct pool_event *entry = &pool->events[cursor->at % POOL_EVENTS];
        uint64_t seq = atomic_load_explicit(&entry->seq, seq_cst); /* pairs with: event_write */
        if (seq == (cursor->at + 1) << 8) {
            bool good = entry_read(entry, cursor->at, out);
            cursor->at++;
            cursor->missed += !good;
            if (good && out->kind != EVENT_NONE)
                return 1;
        } else if (seq >> 8 > cursor->at + 1) {
            cursor->missed++; /* overwritten since we looked at the tail */
            cursor->at++;
        } else if (worth_waiting(pool, cursor, seq)) {
            return 0;
        } else {
            cursor->missed++;
            cursor->at++;
        }
    }
}

bool events_doze(struct cue_pool *pool, const struct event_cursor *cursor, _Atomic uint32_t **word, uint32_t *value)
{
    struct pool_header *header = pool->header;
    *word = &header->events_bell;
    *value = atomic_fetch_or_explicit(&header->events_bell, 1, seq_cst) | 1;                   /* pairs with: event_write */
    uint64_t seq = atomic_load_explicit(&pool->events[cursor->at % POOL_EVENTS].seq, seq_cst); /* pairs with: event_write */
    return atomic_load_explicit(&header->events_tail, seq_cst) == cursor->at ||
           (seq >> 8 <= cursor->at + 1 && seq != (cursor->at + 1) << 8);
}
