/* What becomes of a topic when one of its parties dies.
 *
 * SUBSCRIBER. Its place of the table becomes CLOSING, its slots are frozen and what was in them is given back, the place is free. The
 * ring's block was its own and goes with the sweep.
 *
 * PUBLISHER. What it was about to post (POSTED) is DOOMED now: nobody puts it anywhere any more. Where it got, it stays.
 *
 * GRANTS. Of a DOOMED record each grant whose subscription does not hold the record is nobody's: it was never put in, or whoever took
 * it out has not cleared the grant yet, and that one has a lease on the record (topic_feed.c). So to clear it is right, for anybody
 * who has a lease, however late. Whom it matters for is found by what the dead left on the record: POSTED by it, or its lease.
 *
 * What is still POSTED by somebody who lives cannot be settled: it may yet be put in. The reaper marks it UNSETTLED, and its publisher
 * settles it when it has doomed it, or its publisher's reaper does.
 *
 * A grant for a place whose subscription has changed since is no different: the new one does not hold the record.
 *
 * A history is the pool's before its topic names it. One that its topic does not name and whose maker is dead goes, and one whose topic
 * is gone.
 */
#include "message.h"
#include "topic.h"

#include <string.h>

static struct topic *topic_if(const struct lane *lane)
{
    return lane->kind == &topic_kind ? topic_of(lane) : NULL;
}

/* ---- subscriptions ---- */

void topic_place_close(const struct lane *lane, unsigned place, uint64_t word)
{
    struct topic *topic = topic_of(lane);
    struct feed ring;
    uint64_t closing = word | PLACE_CLOSING;
    if (word != closing && !cas(&topic->place[place], &word, closing)) /* !! */
        return;
    atomic_fetch_add_explicit(&topic->changes, 1, seq_cst);
    if (feed_enter(lane, place, closing, &ring)) {
        feed_freeze(&ring);
        feed_leave(&ring);
    }
    cas(&topic->place[place], &closing, 0);
}

void topic_died(const struct lane *lane, unsigned slot, uint32_t epoch)
{
    struct topic *topic = topic_of(lane);
    (void)epoch; /* the slot is not taken again before this is done */
    for (unsigned place = 0; place < TOPIC_HISTORY; place++) {
        uint64_t word = atomic_load_explicit(&topic->place[place], acquire);
        struct feed ring;
        if (word && place_party(word) == slot + 1) {
            topic_place_close(lane, place, word);
        } else if (word && !(word & PLACE_CLOSING) && feed_enter(lane, place, word, &ring)) {
            if (event_waited(&ring.shared->bell))
                feed_wake(&ring); /* the dead one may have been about to; how many wait it may not have said */
            feed_leave(&ring);
        }
    }
}

/* ---- messages ---- */

/* Is it in the subscription for which the grant is? */
static bool place_holds(const struct lane *lane, unsigned place, uint32_t index)
{
    struct feed ring;
    if (!feed_enter(lane, place, atomic_load_explicit(&topic_of(lane)->place[place], acquire), &ring))
        return false;
    bool holds = feed_holds(&ring, index);
    feed_leave(&ring);
    return holds;
}

void topic_grants_settle(struct cue_pool *pool, struct record *rec, uint32_t index)
{
    struct lane lane;
    bool there = lane_enter(pool, atomic_load_explicit(&rec->lane, relaxed), &lane); /* unchanged since POSTED */
    for (unsigned place = 0; place < TOPIC_PLACES; place++) {
        bool granted = atomic_load_explicit(rec_grants(rec, place), seq_cst) >> (place % 64) & 1;
        if (granted && !(there && topic_if(&lane) && place_holds(&lane, place, index)))
            grant_clear(rec, place);
    }
    if (there)
        lane_leave(&lane);
}

void topic_record_settle(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state, unsigned slot)
{
    uint64_t generation = rec_generation(state);
    bool leased = atomic_load_explicit(&rec->lease[slot / 64], acquire) >> (slot % 64) & 1;
    while (leased && rec_state(state) == REC_POSTED && rec_generation(state) == generation && rec_party(state) != slot + 1)
        if (cas(&rec->state, &state, state | REC_UNSETTLED)) /* its publisher will see to it, or else that one's reaper */
            return;
    bool posted = rec_state(state) == REC_POSTED && rec_party(state) == slot + 1;
    if ((!posted && (rec_state(state) != REC_DOOMED || !leased)) || !lease_pin(pool, rec, index, generation))
        return;
    if (posted) /* under our lease: if we are killed now, our reaper finds it */
        cas(&rec->state, &state, rec_word(REC_DOOMED, slot + 1, generation) | REC_SHARED | REC_TOPIC); /* !! */
    uint64_t now = atomic_load_explicit(&rec->state, seq_cst);
    bool granted = (atomic_load_explicit(rec_grants(rec, 0), seq_cst) | atomic_load_explicit(rec_grants(rec, 64), seq_cst)) != 0;
    /* the grant last: who frees it reads the grants, and then finds our lease */
    if (rec_state(now) == REC_DOOMED && rec_generation(now) == generation && now & REC_TOPIC && granted &&
        atomic_load_explicit(&rec->state, seq_cst) == now)
        topic_grants_settle(pool, rec, index);
    lease_drop(pool, rec, index, generation);
}

bool topic_record_stuck(struct cue_pool *pool, struct record *rec, uint32_t index)
{
    struct lane lane;
    bool stuck = false;
    if (!lane_enter(pool, atomic_load_explicit(&rec->lane, relaxed), &lane))
        return true;
    for (unsigned place = 0; place < TOPIC_PLACES && !stuck; place++)
        stuck = atomic_load_explicit(rec_grants(rec, place), seq_cst) >> (place % 64) & 1 && topic_if(&lane) &&
                !place_holds(&lane, place, index);
    lane_leave(&lane);
    return stuck;
}

void topic_record_finishing(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t generation)
{
    struct message_header header;
    char *data;
    uint64_t capacity, state = atomic_load_explicit(&rec->state, acquire);
    uint32_t note = atomic_load_explicit(&rec->note, relaxed); /* before the second look at the state, as all that is read here */
    if (!(note & NOTE_MESSAGE) || !(note & MESSAGE_ATTACHED) || !pool_bytes(pool, index, &data, &capacity) || capacity < sizeof header)
        return;
    memcpy(&header, data, sizeof header);
    atomic_thread_fence(acquire);
    if (rec_state(state) != REC_DOOMED || rec_generation(state) != generation || atomic_load_explicit(&rec->state, relaxed) != state)
        return;
    struct record *with = pool_record(pool, header.index);
    uint64_t is = with ? atomic_load_explicit(&with->state, acquire) : 0;
    if (rec_state(is) == REC_SENT && rec_generation(is) == header.generation &&
        atomic_load_explicit(&with->lane, relaxed) == LANE_ENVELOPE && atomic_load_explicit(&with->next, relaxed) == index &&
        atomic_load_explicit(&with->seq, relaxed) == (uint32_t)generation)
        block_drop(pool, with, header.index, is); /* several may try: one does */
}

/* ---- histories ---- */

static bool maker_lives(struct cue_pool *pool, const struct topic_feed *ring)
{
    if (ring->party == 0 || ring->party > pool->max_parties)
        return false;
    uint64_t word = atomic_load_explicit(&pool->parties[ring->party - 1].word, acquire);
    return party_state(word) == PARTY_LIVE && party_epoch(word) == ring->epoch && !party_dead(pool, ring->party - 1, ring->epoch);
}

void topic_history_settle(struct cue_pool *pool, struct record *rec, uint32_t index)
{
    uint64_t generation = rec_generation(atomic_load_explicit(&rec->state, acquire)), capacity;
    char *data;
    if (lease_take(pool, rec, index, generation))
        return;
    if (pool_bytes(pool, index, &data, &capacity) && capacity >= sizeof(struct topic_feed)) {
        struct topic_feed *shared = (struct topic_feed *)(void *)data;
        struct lane lane;
        bool named = false, there = false;
        if (shared->magic == FEED_MAGIC && lane_enter(pool, shared->topic, &lane)) {
            there = topic_if(&lane) && lane.generation == shared->topic_generation;
            uint64_t word = topic_if(&lane) ? atomic_load_explicit(&topic_of(&lane)->place[TOPIC_HISTORY], acquire) : 0;
            named = there && word >> 32 == index && word << 32 >> 44 == (generation & 0xfffff);
            lane_leave(&lane);
        }
        if (!named && !(there && maker_lives(pool, shared))) {
            struct feed ring;
            struct lane gone = { .pool = pool, .index = shared->topic, .generation = shared->topic_generation };
            if (feed_read(pool, &gone, TOPIC_HISTORY, rec, index, &ring))
                feed_freeze(&ring);
            block_drop_kept(pool, rec, index, generation);
        }
    }
    lease_drop(pool, rec, index, generation);
}
