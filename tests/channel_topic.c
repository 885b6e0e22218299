/* Topics through their public calls: each message to all, each subscriber's own depth and policy, history, what moves, who leaves. */
#include "tests/harness.h"
#include "tests/ints.h"

#include "channels/topic_channel.h"

#include <pthread.h>

static char url[160];
static const char *pool_name;
static cue_pool *pool;

static const char *topic(const char *rest)
{
    snprintf(url, sizeof url, "shm://%s/news?kind=topic%s", pool_name, rest);
    return url;
}

static void setup(void)
{
    pool_name = test_name("topic");
    CUE_MUST(cue_pool_open(pool_name, &(cue_pool_opts){ .size = 16 << 20 }, &pool));
}

static void say_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static uint64_t blocks(void)
{
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    return info.blocks;
}

/* Nothing may be left: no block, no lane, no fault, no object. */
static void teardown(void)
{
    cr_expect(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    cr_expect(eq(u64, blocks(), 0));
    cue_pool_close(pool);
    cr_expect(eq(int, test_leftovers(pool_name), 0));
}

TestSuite(topic, .init = setup, .fini = teardown);

static cue_channel *open_topic(const char *rest, unsigned how)
{
    cue_channel *ch;
    char mine[160]; /* several threads come here */
    snprintf(mine, sizeof mine, "shm://%s/news?kind=topic%s", pool_name, rest);
    CUE_MUST(cue_channel_open(mine, how, NULL, &ch));
    return ch;
}

enum { NOTHING = CUE_EEMPTY - 1000 };

static uint64_t gaps(cue_channel *ch)
{
    cue_channel_info info;
    CUE_MUST(cue_channel_stat(ch, &info));
    return info.gaps;
}

Test(topic, each_message_goes_to_all_in_order)
{
    cue_channel *out = open_topic("", CUE_SEND), *in[3];
    for (int i = 0; i < 3; i++)
        in[i] = open_topic("", CUE_RECV);
    for (int value = 0; value < 100; value++)
        CUE_MUST(send_int(out, value));
    for (int i = 0; i < 3; i++) {
        for (int value = 0; value < 100; value++)
            cr_assert(eq(int, recv_int(in[i]), value));
        cr_expect(eq(int, recv_int(in[i]), NOTHING));
        cue_channel_close(in[i]);
    }
    cue_channel_close(out);
}

Test(topic, message_nobody_subscribes_to_is_freed)
{
    cue_channel *out = open_topic("", CUE_SEND);
    cue_block block;
    uint64_t before = blocks();
    CUE_MUST(send_int(out, 1));
    CUE_MUST(cue_block_alloc(pool, 10000, NULL, &block));
    CUE_MUST(cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW));
    cr_expect(block.data == NULL, "it was moved");
    cr_expect(eq(u64, blocks(), before));
    cue_channel_close(out);
}

Test(topic, late_subscriber_gets_what_comes_after)
{
    cue_channel *out = open_topic("", CUE_SEND), *early = open_topic("", CUE_RECV);
    CUE_MUST(send_int(out, 1));
    cue_channel *late = open_topic("", CUE_RECV);
    CUE_MUST(send_int(out, 2));
    cr_expect(eq(int, recv_int(early), 1));
    cr_expect(eq(int, recv_int(early), 2));
    cr_expect(eq(int, recv_int(late), 2));
    cr_expect(eq(int, recv_int(late), NOTHING));
    cue_channel_close(early);
    CUE_MUST(send_int(out, 3));
    cr_expect(eq(int, recv_int(late), 3));
    cue_channel_close(late);
    CUE_MUST(send_int(out, 4));
    cue_channel_close(out);
}

Test(topic, block_is_shared_and_freed_with_its_last_reader)
{
    cue_channel *out = open_topic("", CUE_SEND), *a = open_topic("", CUE_RECV), *b = open_topic("", CUE_RECV);
    uint64_t before = blocks();
    cue_block block;
    cue_msg one, two;
    CUE_MUST(cue_block_alloc(pool, 100000, &(cue_block_opts){ .type = 9 }, &block));
    memset(block.data, 7, block.size);
    CUE_MUST(cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW));
    CUE_MUST(cue_channel_recv(a, &one, CUE_NOW));
    CUE_MUST(cue_channel_recv(b, &two, CUE_NOW));
    cr_expect(one.data == two.data, "one payload for all");
    cr_expect(eq(u32, one.type, 9));
    cr_expect(eq(sz, two.size, 100000));
    cr_expect(eq(int, ((const char *)two.data)[99999], 7));
    cue_block mine = cue_move(&one.block);
    cue_msg_release(&one);
    cue_msg_release(&two);
    cr_expect(eq(u64, blocks(), before + 1), "it is still looked at");
    cr_expect(eq(int, ((const char *)mine.data)[0], 7));
    CUE_MUST(cue_block_release(&mine));
    cr_expect(eq(u64, blocks(), before));
    cue_channel_close(a);
    cue_channel_close(b);
    cue_channel_close(out);
}

Test(topic, bytes_tag_key_and_block_come_together)
{
    cue_channel *out = open_topic("", CUE_SEND), *a = open_topic("", CUE_RECV), *b = open_topic("", CUE_RECV);
    uint64_t before = blocks();
    cue_block block;
    cue_msg m;
    CUE_MUST(cue_block_alloc(pool, 5000, &(cue_block_opts){ .type = 9, .id = 77 }, &block));
    memset(block.data, 3, block.size);
    CUE_MUST(cue_channel_send(out, &(cue_msg){ .type = 4, .tag = 5, .key = 6, .data = "abc", .size = 3, .move = &block }, CUE_NOW));
    cue_channel *both[] = { a, b };
    for (int i = 0; i < 2; i++) {
        CUE_MUST(cue_channel_recv(both[i], &m, CUE_NOW));
        cr_expect(eq(u32, m.type, 4));
        cr_expect(eq(u64, m.tag, 5));
        cr_expect(eq(u64, m.key, 6));
        cr_expect(eq(int, memcmp(m.data, "abc", 3), 0));
        cr_expect(eq(sz, m.block.size, 5000));
        cr_expect(eq(int, ((const char *)m.block.data)[4999], 3));
        cue_msg_release(&m);
    }
    cr_expect(eq(u64, blocks(), before));
    cue_channel_close(a);
    CUE_MUST(cue_channel_send(out, &(cue_msg){ .tag = 9 }, CUE_NOW));
    CUE_MUST(cue_channel_recv(b, &m, CUE_NOW));
    cr_expect(eq(u64, m.tag, 9));
    cr_expect(eq(sz, m.size, 0));
    cue_msg_release(&m);
    cue_channel_close(b);
    cue_channel_close(out);
}

Test(topic, block_that_goes_along_outlives_its_envelope_in_who_moved_it_out)
{
    cue_channel *out = open_topic("", CUE_SEND), *in = open_topic("", CUE_RECV);
    uint64_t before = blocks();
    cue_block block;
    cue_msg m;
    CUE_MUST(cue_block_alloc(pool, 5000, NULL, &block));
    memset(block.data, 3, block.size);
    CUE_MUST(cue_channel_send(out, &(cue_msg){ .data = "abc", .size = 3, .move = &block }, CUE_NOW));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cue_block mine = cue_move(&m.block);
    cue_msg_release(&m);
    cr_expect(eq(int, ((const char *)mine.data)[4999], 3));
    cr_expect(eq(u64, blocks(), before + 1));
    CUE_MUST(cue_block_release(&mine));
    cr_expect(eq(u64, blocks(), before));
    cue_channel_close(in);
    cue_channel_close(out);
}

Test(topic, view_is_refused)
{
    cue_channel *out = open_topic("", CUE_SEND);
    cue_block block, view;
    CUE_MUST(cue_block_alloc(pool, 10, NULL, &block));
    CUE_MUST(cue_block_view(&block, 0, SIZE_MAX, &view));
    cr_expect(eq(int, cue_channel_send(out, &(cue_msg){ .move = &view }, CUE_NOW), CUE_ENOTOWNER));
    cr_expect(view.data != NULL, "the caller still has it");
    cue_block_release(&view);
    cue_block_release(&block);
    cue_channel_close(out);
}

Test(topic, each_subscriber_has_its_own_policy)
{
    cue_channel *out = open_topic("", CUE_SEND), *all = open_topic("&depth=100", CUE_RECV),
                *newest = open_topic("&depth=4&full=drop-old", CUE_RECV), *oldest = open_topic("&depth=4&full=drop-new", CUE_RECV);
    for (int value = 0; value < 50; value++)
        CUE_MUST(send_int(out, value));
    for (int value = 0; value < 50; value++)
        cr_assert(eq(int, recv_int(all), value));
    for (int value = 46; value < 50; value++)
        cr_expect(eq(int, recv_int(newest), value));
    cr_expect(eq(int, recv_int(newest), NOTHING));
    for (int value = 0; value < 4; value++)
        cr_expect(eq(int, recv_int(oldest), value));
    cr_expect(eq(int, recv_int(oldest), NOTHING));
    cr_expect(eq(u64, gaps(all), 0));
    cr_expect(eq(u64, gaps(newest), 46));
    cr_expect(eq(u64, gaps(oldest), 46));
    cue_channel_info info;
    CUE_MUST(cue_channel_stat(out, &info));
    cr_expect(eq(u64, info.sent, 50));
    cr_expect(eq(u64, info.dropped, 92));
    cue_channel_close(all);
    cue_channel_close(newest);
    cue_channel_close(oldest);
    cue_channel_close(out);
}

Test(topic, publisher_waits_for_who_wants_it_and_fails_having_reached_nobody)
{
    cue_channel *out = open_topic("", CUE_SEND), *strict = open_topic("&depth=2", CUE_RECV),
                *loose = open_topic("&depth=8&full=drop-old", CUE_RECV);
    CUE_MUST(send_int(out, 1));
    CUE_MUST(send_int(out, 2));
    cr_expect(eq(int, send_int(out, 3), CUE_EFULL));
    int four = 4;
    cr_expect(eq(int, cue_channel_send(out, CUE_MSG(1, four), CUE_MS(20)), CUE_EFULL));
    cr_expect(eq(int, recv_int(loose), 1));
    cr_expect(eq(int, recv_int(loose), 2));
    cr_expect(eq(int, recv_int(loose), NOTHING));
    cr_expect(eq(int, recv_int(strict), 1));
    CUE_MUST(send_int(out, 5));
    cr_expect(eq(int, recv_int(strict), 2));
    cr_expect(eq(int, recv_int(strict), 5));
    cr_expect(eq(int, recv_int(loose), 5));
    cue_channel_close(strict);
    cue_channel_close(loose);
    cue_channel_close(out);
}

struct slow {
    cue_channel *in;
    int count, wrong;
};

static void *slow_reader(void *arg)
{
    struct slow *slow = arg;
    for (int i = 0; i < slow->count; i++)
        slow->wrong += recv_int_within(slow->in, CUE_SEC(30)) != i;
    return NULL;
}

Test(topic, publisher_goes_on_when_there_is_room)
{
    pthread_t thread;
    cue_channel *out = open_topic("", CUE_SEND);
    struct slow slow = { open_topic("&depth=3", CUE_RECV), 5000, 0 };
    pthread_create(&thread, NULL, slow_reader, &slow);
    for (int value = 0; value < slow.count; value++)
        CUE_MUST(cue_channel_send(out, CUE_MSG(1, value), CUE_SEC(30)));
    pthread_join(thread, NULL);
    cr_expect(eq(int, slow.wrong, 0));
    cue_channel_close(slow.in);
    cue_channel_close(out);
}

/* What a second thread does once the first one sleeps. */
struct later {
    pid_t sleeper;
    cue_channel *ch;
};

static void *close_later(void *arg)
{
    struct later *later = arg;
    test_until_asleep(later->sleeper);
    cue_channel_close(later->ch);
    return NULL;
}

Test(topic, publisher_goes_on_when_who_it_waits_for_leaves)
{
    pthread_t thread;
    cue_channel *out = open_topic("", CUE_SEND), *in = open_topic("&depth=1", CUE_RECV);
    CUE_MUST(send_int(out, 1));
    pthread_create(&thread, NULL, close_later, &(struct later){ gettid(), in });
    int two = 2;
    cr_expect(eq(int, cue_channel_send(out, CUE_MSG(1, two), CUE_SEC(30)), 0));
    pthread_join(thread, NULL);
    cue_channel_close(out);
}

Test(topic, wake_ends_a_wait_for_a_message)
{
    cue_channel *in = open_topic("", CUE_RECV);
    cue_channel_wake(in);
    cr_expect(eq(int, recv_int_within(in, CUE_SEC(30)), CUE_EINTR - 1000));
    cr_expect(eq(int, recv_int_within(in, CUE_MS(1)), NOTHING));
    cue_channel_close(in);
}

static void *wake_later(void *arg)
{
    struct later *later = arg;
    test_until_asleep(later->sleeper);
    cue_channel_wake(later->ch);
    return NULL;
}

Test(topic, wake_ends_a_wait_for_room)
{
    pthread_t thread;
    cue_channel *out = open_topic("", CUE_SEND), *in = open_topic("&depth=1", CUE_RECV);
    CUE_MUST(send_int(out, 1));
    pthread_create(&thread, NULL, wake_later, &(struct later){ gettid(), out });
    int two = 2;
    cr_expect(eq(int, cue_channel_send(out, CUE_MSG(1, two), CUE_SEC(30)), CUE_EINTR));
    pthread_join(thread, NULL);
    cue_channel_close(in);
    cue_channel_close(out);
}

Test(topic, batch_goes_and_comes)
{
    cue_channel *out = open_topic("", CUE_SEND), *in = open_topic("&depth=64", CUE_RECV);
    cue_msg batch[100], got[100];
    int values[100];
    memset(batch, 0, sizeof batch);
    for (int i = 0; i < 100; i++) {
        values[i] = i;
        batch[i] = (cue_msg){ .type = 1, .data = &values[i], .size = sizeof values[i] };
    }
    cr_assert(eq(int, cue_channel_send_many(out, batch, 100, CUE_NOW), 64));
    cr_assert(eq(int, cue_channel_recv_many(in, got, 40, CUE_NOW), 40));
    for (int i = 0; i < 40; i++) {
        cr_expect(eq(int, *(const int *)got[i].data, i));
        cue_msg_release(&got[i]);
    }
    cr_assert(eq(int, cue_channel_recv_many(in, got, 100, CUE_NOW), 24));
    for (int i = 0; i < 24; i++)
        cue_msg_release(&got[i]);
    cue_channel_close(in);
    cue_channel_close(out);
}

Test(topic, type_and_size_are_checked)
{
    cue_channel *out = open_topic("&type=7&max=100", CUE_SEND);
    char bytes[200] = { 0 };
    cr_expect(eq(int, cue_channel_send(out, &(cue_msg){ .type = 8, .data = bytes, .size = 10 }, CUE_NOW), CUE_ETYPE));
    cr_expect(eq(int, cue_channel_send(out, &(cue_msg){ .type = 7, .data = bytes, .size = 200 }, CUE_NOW), CUE_ETOOBIG));
    cr_expect(eq(int, cue_channel_send(out, &(cue_msg){ .type = 7, .data = bytes, .size = 100 }, CUE_NOW), 0));
    cue_channel_close(out);
}

Test(topic, kind_must_agree)
{
    cue_channel *out = open_topic("", CUE_SEND), *other;
    char box[128];
    snprintf(box, sizeof box, "shm://%s/news?kind=mailbox", pool_name);
    cr_expect(eq(int, cue_channel_open(box, CUE_RECV, NULL, &other), CUE_ETYPE));
    snprintf(box, sizeof box, "shm://%s/news", pool_name);
    CUE_MUST(cue_channel_open(box, CUE_RECV, NULL, &other));
    CUE_MUST(send_int(out, 3));
    cr_expect(eq(int, recv_int(other), 3));
    cue_channel_close(other);
    cr_expect(eq(int, cue_channel_open(topic("&redeliver=3"), CUE_RECV, NULL, &other), 0), "it is as it was made");
    cue_channel_close(other);
    cue_channel_close(out);
}

/* A topic with a history stays: its owner ends it. */
static void end_topic(void)
{
    cue_block lane;
    CUE_MUST(cue_block_find(pool, (cue_key){ .name = "news" }, CUE_NOW, &lane));
    struct topic *shared = lane.data;
    uint64_t word = atomic_load(&shared->place[TOPIC_HISTORY]);
    CUE_MUST(cue_block_free(&lane));
    topic_history_settle(pool, pool_record(pool, (uint32_t)(word >> 32)), (uint32_t)(word >> 32)); /* its maker lives */
}

Test(topic, history_is_handed_out_before_a_shut_subscription_ends)
{
    cue_channel *out = open_topic("&history=3", CUE_SEND);
    for (int i = 0; i < 5; i++)
        CUE_MUST(send_int(out, i));
    cue_channel *late = open_topic("&history=3", CUE_RECV);
    cr_expect(eq(int, cue_channel_shut(late, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT));
    for (int i = 2; i < 5; i++)
        cr_expect(eq(int, recv_int(late), i));
    cr_expect(eq(int, recv_int(late), CUE_ECLOSED - 1000));
    cr_expect(eq(int, cue_channel_shut(late, CUE_DRAIN, CUE_NOW), 0));
    cue_channel *again = open_topic("&history=3", CUE_RECV);
    cr_expect(eq(int, cue_channel_shut(again, CUE_DISCARD, CUE_NOW), 3));
    cr_expect(eq(int, recv_int(again), CUE_ECLOSED - 1000));
    cue_channel_close(again);
    cue_channel_close(late);
    cue_channel_close(out);
    end_topic();
}

Test(topic, history_serves_who_comes_late)
{
    struct cast maker = cast_start("topic_maker", topic("&history=3"), "10"); /* publishes 0 .. 9 and is killed */
    cr_assert(eq(int, cast_hear(&maker, 10000), 'r'));
    cast_kill(&maker);
    pool_reap(pool);
    cue_channel *all = open_topic("&history=8", CUE_RECV), *two = open_topic("&history=2", CUE_RECV), *none = open_topic("", CUE_RECV),
                *out = open_topic("", CUE_SEND);
    for (int value = 7; value < 10; value++)
        cr_expect(eq(int, recv_int(all), value));
    cr_expect(eq(int, recv_int(all), NOTHING));
    for (int value = 8; value < 10; value++)
        cr_expect(eq(int, recv_int(two), value));
    cr_expect(eq(int, recv_int(none), NOTHING));
    CUE_MUST(send_int(out, 10));
    cr_expect(eq(int, recv_int(all), 10));
    cr_expect(eq(int, recv_int(two), 10));
    cr_expect(eq(int, recv_int(none), 10));
    cue_channel *again = open_topic("&history=3", CUE_RECV);
    for (int value = 8; value < 11; value++)
        cr_expect(eq(int, recv_int(again), value));
    cue_channel_close(again);
    cue_channel_close(all);
    cue_channel_close(two);
    cue_channel_close(none);
    cue_channel_close(out);
    end_topic();
    pool_reap(pool);
    cr_expect(eq(u64, blocks(), 0), "and with it what it kept");
}

Test(topic, subscriber_that_dies_holds_nothing)
{
    cue_channel *out = open_topic("", CUE_SEND), *in = open_topic("", CUE_RECV);
    struct cast reader = cast_start("topic_reader", topic("&depth=4"), "3"); /* takes three, releases none */
    cr_assert(eq(int, cast_hear(&reader, 10000), 'r'));
    for (int value = 0; value < 3; value++)
        CUE_MUST(send_int(out, value));
    cr_assert(eq(int, cast_hear(&reader, 10000), 't'));
    for (int value = 3; value < 7; value++)
        CUE_MUST(send_int(out, value));
    cr_expect(eq(int, send_int(out, 7), CUE_EFULL));
    cast_kill(&reader);
    int seven = 7;
    cr_expect(eq(int, cue_channel_send(out, CUE_MSG(1, seven), CUE_SEC(30)), 0), "the dead are not waited for");
    for (int value = 0; value < 8; value++)
        cr_expect(eq(int, recv_int(in), value));
    cue_channel_close(in);
    cue_channel_close(out);
}

Test(topic, other_process_gets_all)
{
    cue_channel *out = open_topic("", CUE_SEND);
    struct cast reader = cast_start("topic_reader", topic("&depth=4"), "1000");
    cr_assert(eq(int, cast_hear(&reader, 10000), 'r'));
    for (int value = 0; value < 1000; value++)
        CUE_MUST(cue_channel_send(out, CUE_MSG(1, value), CUE_SEC(30)));
    cr_expect(eq(int, cast_hear(&reader, 30000), 't'));
    cast_say(&reader, 'x');
    cr_expect(eq(int, cast_wait(&reader, 10000), 0));
    cue_channel_close(out);
}

Test(topic, child_goes_on_publishing)
{
    cue_channel *out = open_topic("", CUE_SEND), *in = open_topic("", CUE_RECV);
    CUE_MUST(send_int(out, 1));
    pid_t pid = fork();
    if (pid == 0) {
        int two = 2;
        int status = cue_channel_send(out, CUE_MSG(1, two), CUE_NOW);
        if (!status && cue_channel_recv(in, &(cue_msg){ 0 }, CUE_NOW) != CUE_EFORK)
            status = 1;
        cue_channel_close(out);
        cue_channel_close(in);
        _exit(status ? 1 : 0);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    cr_expect(eq(int, status, 0));
    cr_expect(eq(int, recv_int(in), 1));
    cr_expect(eq(int, recv_int(in), 2));
    cue_channel_close(in);
    cue_channel_close(out);
    pool_reap(pool);
}

Test(topic, table_has_an_end)
{
    cue_channel *in[TOPIC_HISTORY], *more;
    for (int i = 0; i < TOPIC_HISTORY; i++)
        in[i] = open_topic("&depth=1&full=drop-old", CUE_RECV);
    cr_expect(eq(int, cue_channel_open(topic("&depth=1"), CUE_RECV, NULL, &more), CUE_ELIMIT));
    cue_channel *out = open_topic("", CUE_SEND);
    CUE_MUST(send_int(out, 1));
    CUE_MUST(send_int(out, 2));
    for (int i = 0; i < TOPIC_HISTORY; i++) {
        cr_expect(eq(int, recv_int(in[i]), 2));
        cue_channel_close(in[i]);
    }
    cue_channel_close(out);
}

/* Four publishers, three readers that come and go, all of one process: what each reader gets of a publisher is in order. */
enum { PUBLISHERS = 4, EACH = 4000 };
static _Atomic int publishing;

static void *publisher(void *arg)
{
    cue_channel *out = open_topic("", CUE_SEND);
    for (int i = 0; i < EACH; i++) {
        int value = (int)(uintptr_t)arg * EACH + i;
        CUE_MUST(cue_channel_send(out, CUE_MSG(1, value), CUE_SEC(60)));
    }
    cue_channel_close(out);
    atomic_fetch_sub(&publishing, 1);
    return NULL;
}

static void *comer_and_goer(void *arg)
{
    uintptr_t wrong = 0;
    while (atomic_load(&publishing)) {
        cue_channel *in = open_topic((uintptr_t)arg ? "&depth=16&full=drop-old" : "&depth=16&full=fail", CUE_RECV);
        int last[PUBLISHERS] = { -1, -1, -1, -1 }, value;
        for (int i = 0; i < 300 && (value = recv_int_within(in, CUE_MS(1))) >= 0; i++) {
            int *before = &last[value / EACH];
            wrong += value % EACH <= *before || (!(uintptr_t)arg && *before >= 0 && value % EACH != *before + 1);
            *before = value % EACH;
        }
        cue_channel_close(in);
    }
    return (void *)wrong;
}

Test(topic, crowd_keeps_order)
{
    pthread_t out[PUBLISHERS], in[3];
    atomic_store(&publishing, PUBLISHERS);
    for (uintptr_t i = 0; i < 3; i++)
        pthread_create(&in[i], NULL, comer_and_goer, (void *)i);
    for (uintptr_t i = 0; i < PUBLISHERS; i++)
        pthread_create(&out[i], NULL, publisher, (void *)i);
    for (int i = 0; i < PUBLISHERS; i++)
        pthread_join(out[i], NULL);
    for (int i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(in[i], &wrong);
        cr_expect(eq(ptr, wrong, NULL));
    }
}

/* ---- damage ---- */

/* A publisher would look for the oldest for as good as ever. */
Test(topic, a_damaged_hint_costs_a_message_and_no_more)
{
    cue_channel *out = open_topic("", CUE_SEND), *in = open_topic("&depth=4&full=drop-old", CUE_RECV);
    struct feed *ring = &topic_channel_of(in)->ring;
    for (int value = 1; value <= 4; value++)
        CUE_MUST(send_int(out, value));
    uint64_t head = atomic_exchange(&ring->shared->head, UINT64_C(0x80000001) << ring->shift);
    cr_expect(eq(int, send_int(out, 5), 0));
    cr_expect(eq(u64, gaps(in), 1));
    atomic_store(&ring->shared->head, head);
    for (int value = 1; value <= 4; value++)
        cr_expect(eq(int, recv_int(in), value));
    cr_expect(eq(int, recv_int(in), NOTHING));
    cue_channel_close(out);
    cue_channel_close(in);
}
