/* The log of events: what is published and freed, who comes and goes, as the channels layer reads it. */
#include "tests/harness.h"

#include "pool/pool_internal.h"

#include <cuelight/channel.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>

static const char *pool_name;
static cue_pool *pool;
static struct event_cursor cursor;

static void setup(void)
{
    pool_name = test_name("events");
    CUE_MUST(cue_pool_open(pool_name, &(cue_pool_opts){ .size = 4 << 20 }, &pool));
    CUE_MUST(events_watch(pool, &cursor));
}

static void teardown(void)
{
    events_unwatch(pool);
    cr_expect(eq(int, cue_pool_check(pool, true, NULL, NULL), 0));
    cue_pool_close(pool);
    cr_expect(eq(int, test_leftovers(pool_name), 0));
}

TestSuite(events, .init = setup, .fini = teardown);

static cue_block publish(const cue_block_opts *opts, unsigned flags)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, 100, opts, &b));
    CUE_MUST(cue_block_publish(&b, flags));
    return b;
}

/* The next event, or one of kind 0. */
static struct event next(void)
{
    struct event event;
    memset(&event, 0, sizeof event);
    return events_next(pool, &cursor, &event) ? event : (struct event){ 0 };
}

Test(events, publication_and_free_come_in_order)
{
    cue_block b = publish(&(cue_block_opts){ .type = 7, .id = 42 }, 0);
    cue_block_info info;
    CUE_MUST(cue_block_stat(&b, &info));
    struct event up = next();
    cr_expect(eq(u32, up.kind, EVENT_BLOCK_UP));
    cr_expect(eq(u32, up.type, 7));
    cr_expect(eq(u64, up.key_id, 42));
    cr_expect(eq(u64, up.id, info.id));
    cr_expect(eq(u64, up.size, 100));
    cr_expect(eq(u64, up.at_ns, info.made_ns));
    cr_expect(eq(u32, up.party, 0), "it belongs to the pool");
    CUE_MUST(cue_block_free(&b));
    struct event gone = next();
    cr_expect(eq(u32, gone.kind, EVENT_BLOCK_GONE));
    cr_expect(eq(u64, gone.id, up.id));
    cr_expect(eq(u32, gone.type, 7));
    cr_expect(eq(u32, next().kind, EVENT_NONE));
    cr_expect(eq(u64, cursor.missed, 0));
}

Test(events, name_and_owner_are_told)
{
    cue_block b = publish(&(cue_block_opts){ .name = "weights" }, CUE_MINE);
    struct event up = next();
    cr_expect(eq(str, up.name, "weights"));
    cr_expect(eq(int, up.pid, getpid()));
    cr_expect(ne(u32, up.party, 0));
    CUE_MUST(cue_block_publish(&b, 0)); /* it was found before: nothing new */
    CUE_MUST(cue_block_free(&b));
    struct event gone = next();
    cr_expect(eq(u32, gone.kind, EVENT_BLOCK_GONE));
    cr_expect(eq(str, gone.name, "weights"));
}

Test(events, what_is_not_published_is_not_told)
{
    cue_block b;
    for (int i = 0; i < 100; i++) {
        CUE_MUST(cue_block_alloc(pool, 5000, NULL, &b));
        CUE_MUST(cue_block_release(&b));
    }
    cr_expect(eq(u32, next().kind, EVENT_NONE));
}

Test(events, replaced_block_goes_and_its_successor_comes)
{
    cue_block first = publish(&(cue_block_opts){ .type = 7, .id = 1 }, 0);
    struct event up = next();
    cue_block second = publish(&(cue_block_opts){ .type = 7, .id = 1, .flags = CUE_REPLACE }, 0);
    int ups = 0, gones = 0;
    for (struct event event; (event = next()).kind;) {
        ups += event.kind == EVENT_BLOCK_UP && event.id != up.id;
        gones += event.kind == EVENT_BLOCK_GONE && event.id == up.id;
    }
    cr_expect(eq(int, ups, 1));
    cr_expect(eq(int, gones, 1));
    CUE_MUST(cue_block_release(&first));
    CUE_MUST(cue_block_free(&second));
}

Test(events, publication_that_fails_is_none)
{
    cue_block first = publish(&(cue_block_opts){ .type = 7, .id = 1 }, 0), second, alias;
    CUE_MUST(cue_block_alloc(pool, 10, NULL, &second));
    alias = second;
    CUE_MUST(cue_block_release(&second));
    cr_expect(lt(int, cue_block_publish(&alias, 0), 0));
    cr_expect(eq(u32, next().kind, EVENT_BLOCK_UP));
    cr_expect(eq(u32, next().kind, EVENT_NONE));
    CUE_MUST(cue_block_free(&first));
}

Test(events, reader_that_sleeps_through_a_lap_is_told_how_much_it_missed)
{
    enum { ROUNDS = POOL_EVENTS };
    for (int i = 0; i < ROUNDS; i++) {
        cue_block b = publish(&(cue_block_opts){ .type = 7 }, 0);
        CUE_MUST(cue_block_free(&b));
    }
    uint64_t got = 0;
    while (next().kind)
        got++;
    cr_expect(eq(u64, got, POOL_EVENTS));
    cr_expect(eq(u64, got + cursor.missed, 2 * ROUNDS));
}

Test(events, party_that_comes_and_goes_is_told)
{
    struct cast holder = cast_start("pool_owner", pool_name, "3");
    cr_assert(eq(int, cast_hear(&holder, 10000), 'r'));
    struct event up = next();
    while (up.kind && up.kind != EVENT_PARTY_UP)
        up = next();
    cr_assert(eq(u32, up.kind, EVENT_PARTY_UP));
    cr_expect(eq(int, up.pid, holder.pid));
    cr_expect(eq(str, up.name, "cast"));
    cast_kill(&holder);
    cr_expect(eq(u32, pool_reap(pool), 1));
    struct event down = next();
    while (down.kind && down.kind != EVENT_PARTY_DOWN)
        down = next();
    cr_assert(eq(u32, down.kind, EVENT_PARTY_DOWN));
    cr_expect(eq(u32, down.party, up.party));
    cr_expect(eq(u64, down.id, up.id));
    cr_expect(eq(u64, down.size, 1), "it died");
}

Test(events, writer_that_was_killed_half_way_is_a_gap)
{
    atomic_fetch_add(&pool->header->events_tail, 1); /* a place that nobody completes */
    cue_block b = publish(&(cue_block_opts){ .type = 7 }, 0);
    struct event event;
    int64_t end = test_now_ms() + test_ms(30000);
    int got;
    while ((got = events_next(pool, &cursor, &event)) == 0 && test_now_ms() < end)
        sched_yield();
    cr_assert(eq(int, got, 1));
    cr_expect(eq(u32, event.kind, EVENT_BLOCK_UP));
    cr_expect(eq(u64, cursor.missed, 1));
    CUE_MUST(cue_block_free(&b));
}

Test(events, torn_entry_is_a_gap)
{
    cue_block b = publish(&(cue_block_opts){ .type = 7 }, 0);
    atomic_fetch_xor(&pool->events[cursor.at % POOL_EVENTS].word[3], 1); /* a writer that came a lap late */
    cr_expect(eq(u32, next().kind, EVENT_NONE));
    cr_expect(eq(u64, cursor.missed, 1));
    CUE_MUST(cue_block_free(&b));
}

Test(events, nobody_writes_when_nobody_watches)
{
    events_unwatch(pool);
    uint64_t tail = atomic_load(&pool->header->events_tail);
    cue_block b = publish(&(cue_block_opts){ .type = 7 }, 0);
    CUE_MUST(cue_block_free(&b));
    cr_expect(eq(u64, atomic_load(&pool->header->events_tail), tail));
    CUE_MUST(events_watch(pool, &cursor));
}

/* Four threads publish and free as fast as they can; the reader counts all or is told what it missed. */
enum { WRITERS = 4, EACH = 3000 };
static void *writer(void *arg)
{
    for (int i = 0; i < EACH; i++) {
        cue_block b = publish(&(cue_block_opts){ .type = 1 + (uint32_t)(uintptr_t)arg }, 0);
        CUE_MUST(cue_block_free(&b));
    }
    return NULL;
}

Test(events, many_writers_lose_nothing_silently)
{
    pthread_t threads[WRITERS];
    uint64_t got = 0, up = 0;
    for (uintptr_t i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, writer, (void *)i);
    int64_t end = test_now_ms() + test_ms(60000);
    while (got + cursor.missed < 2 * WRITERS * EACH && test_now_ms() < end) {
        struct event event = next();
        got += event.kind != EVENT_NONE;
        up += event.kind == EVENT_BLOCK_UP;
        cr_assert(event.kind == EVENT_NONE || (event.type >= 1 && event.type <= WRITERS && event.size == 100));
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    cr_expect(gt(u64, up, 0));
    cr_expect(eq(u64, got + cursor.missed, 2 * WRITERS * EACH));
}

/* ---- as messages ---- */

static cue_channel *open_topic(const char *rest)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/%s", pool_name, rest);
    CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &ch));
    return ch;
}

static cue_block_info next_block(cue_channel *ch, uint32_t type, cue_time wait)
{
    cue_msg m;
    cue_block_info info = { 0 };
    if (cue_channel_recv(ch, &m, wait) == 0) {
        cr_expect(eq(u32, m.type, type));
        cr_expect(eq(sz, m.size, sizeof info));
        cr_expect(eq(u64, m.key, 0), "nothing was missed");
        memcpy(&info, m.data, sizeof info);
        cue_msg_release(&m);
    }
    return info;
}

Test(events, watching_a_type_works)
{
    cue_channel *all = open_topic("@blocks"), *some = open_topic("@blocks?type=7");
    cue_block other = publish(&(cue_block_opts){ .type = 6, .name = "other" }, 0),
              b = publish(&(cue_block_opts){ .type = 7, .id = 42 }, CUE_MINE);
    cr_expect(eq(str, next_block(all, CUE_BLOCK_UP, CUE_NOW).name, "other"));
    cr_expect(eq(u64, next_block(all, CUE_BLOCK_UP, CUE_NOW).key_id, 42));
    cue_block_info info = next_block(some, CUE_BLOCK_UP, CUE_NOW);
    cr_expect(eq(u64, info.key_id, 42));
    cr_expect(eq(u32, info.type, 7));
    cr_expect(eq(u32, info.state, CUE_BLOCK_OWNED));
    cr_expect(eq(int, info.owner_pid, getpid()));
    cue_block view;
    CUE_MUST(cue_block_find(pool, (cue_key){ .id = info.id }, CUE_NOW, &view));
    cue_block_release(&view);
    CUE_MUST(cue_block_free(&b));
    CUE_MUST(cue_block_free(&other));
    cr_expect(eq(u64, next_block(some, CUE_BLOCK_GONE, CUE_NOW).id, info.id));
    cue_msg m;
    cr_expect(eq(int, cue_channel_recv(some, &m, CUE_MS(1)), CUE_EEMPTY));
    cue_channel_close(all);
    cue_channel_close(some);
}

static void *publish_later(void *arg)
{
    test_until_asleep(*(pid_t *)arg);
    cue_block b = publish(&(cue_block_opts){ .type = 7 }, 0);
    CUE_MUST(cue_block_free(&b));
    return NULL;
}

Test(events, sleeper_is_woken_by_what_it_watches)
{
    pthread_t thread;
    cue_channel *ch = open_topic("@blocks?type=7");
    pthread_create(&thread, NULL, publish_later, &(pid_t){ gettid() });
    cr_expect(eq(u32, next_block(ch, CUE_BLOCK_UP, CUE_SEC(20)).type, 7));
    cr_expect(eq(u32, next_block(ch, CUE_BLOCK_GONE, CUE_SEC(20)).type, 7));
    pthread_join(thread, NULL);
    cue_channel_wake(ch);
    cue_msg m;
    cr_expect(eq(int, cue_channel_recv(ch, &m, CUE_SEC(20)), CUE_EINTR));
    cue_channel_close(ch);
}

Test(events, what_was_missed_is_told_with_the_next_message)
{
    cue_channel *ch = open_topic("@blocks?type=7");
    for (int i = 0; i < POOL_EVENTS; i++) {
        cue_block b = publish(&(cue_block_opts){ .type = 7 }, 0);
        CUE_MUST(cue_block_free(&b));
    }
    cue_msg m;
    CUE_MUST(cue_channel_recv(ch, &m, CUE_NOW));
    cr_expect(eq(u64, m.key, POOL_EVENTS));
    cue_msg_release(&m);
    cue_channel_info info;
    CUE_MUST(cue_channel_stat(ch, &info));
    cr_expect(eq(u64, info.gaps, POOL_EVENTS));
    cr_expect(eq(u64, info.queued, POOL_EVENTS - 1));
    cue_channel_close(ch);
}

Test(events, death_of_a_party_is_told_to_who_only_waits)
{
    struct cast early = cast_start("pool_owner", pool_name, "3");
    cr_assert(eq(int, cast_hear(&early, 10000), 'r'));
    cue_channel *ch = open_topic("@parties");
    struct cast late = cast_start("pool_owner", pool_name, "3");
    cr_assert(eq(int, cast_hear(&late, 10000), 'r'));
    cue_msg m;
    cue_party_info info;
    CUE_MUST(cue_channel_recv(ch, &m, CUE_SEC(20)));
    cr_expect(eq(u32, m.type, CUE_PARTY_UP));
    memcpy(&info, m.data, sizeof info);
    cr_expect(eq(int, info.pid, late.pid));
    cue_msg_release(&m);
    pid_t pids[] = { early.pid, late.pid };
    struct cast *both[] = { &early, &late };
    for (int i = 0; i < 2; i++) {
        cast_kill(both[i]);
        CUE_MUST(cue_channel_recv(ch, &m, CUE_SEC(20)));
        cr_expect(eq(u32, m.type, CUE_PARTY_DOWN));
        memcpy(&info, m.data, sizeof info);
        cr_expect(eq(int, info.pid, pids[i]));
        cr_expect(eq(u32, info.dead, 1));
        cue_msg_release(&m);
    }
    cue_channel_close(ch);
}
