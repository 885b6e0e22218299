/* The queue through its public calls: order, limits, competing receivers, what a dead receiver had in hand. */
#include "channels/ring.h"

#include "tests/one_lane.h"

#include <pthread.h>

static void setup(void)
{
    open_pool("queue");
}

TestSuite(queue, .init = setup, .fini = teardown);

/* ---- order and limits ---- */

Test(queue, keeps_one_order_over_senders_and_receivers)
{
    cue_channel *second_out, *second_in;
    open_both("a?kind=queue");
    CUE_MUST(cue_channel_open(lane("a?kind=queue"), CUE_SEND, NULL, &second_out));
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &second_in)); /* what it is already */
    for (int i = 0; i < 300; i++)
        cr_assert(eq(int, send_int(i % 3 ? out : second_out, i), 0));
    for (int i = 0; i < 300; i++)
        cr_assert(eq(int, recv_int(i % 2 ? in : second_in), i));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    cr_assert(eq(int, recv_int(second_in), CUE_EEMPTY - 1000));
    cue_channel_close(second_in);
    cue_channel_close(second_out);
}

static void depth_is(const char *rest, int depth)
{
    open_both(rest);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < depth; i++)
            cr_assert(eq(int, send_int(out, i), 0));
        cr_assert(eq(int, send_int(out, -1), CUE_EFULL));
        cr_assert(eq(int, recv_int(in), 0));
        cr_assert(eq(int, send_int(out, depth), 0));
        cr_assert(eq(int, send_int(out, -1), CUE_EFULL));
        for (int i = 1; i <= depth; i++)
            cr_assert(eq(int, recv_int(in), i));
        cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    }
    cr_assert(eq(u64, stat_of(out).refused, 40));
}

Test(queue, depth_is_exact_where_it_is_a_power_of_two)
{
    depth_is("a?kind=queue&depth=4", 4);
}

Test(queue, depth_is_exact_where_it_is_none)
{
    depth_is("a?kind=queue&depth=5", 5);
}

Test(queue, depth_of_one)
{
    depth_is("a?kind=queue&depth=1", 1);
}

Test(queue, laps_wrap)
{
    open_both("a?kind=queue&depth=4");
    struct ring *ring = ((struct ring_channel *)(void *)in)->ring;
    uint64_t lap = UINT32_MAX;
    for (int i = 0; i < 4; i++)
        atomic_store(&ring->slot[i], slot_word(lap, 0));
    atomic_store(&ring->head, lap << 2);
    atomic_store(&ring->tail, lap << 2);
    for (int i = 0; i < 50; i++) {
        for (int k = 0; k < 3; k++)
            cr_assert(eq(int, send_int(out, 10 * i + k), 0));
        for (int k = 0; k < 3; k++)
            cr_assert(eq(int, recv_int(in), 10 * i + k));
    }
}

Test(queue, hints_that_are_behind_are_helped_on)
{
    open_both("a?kind=queue&depth=4");
    struct ring *ring = ((struct ring_channel *)(void *)in)->ring;
    for (int i = 0; i < 30; i++) {
        cr_assert(eq(int, send_int(out, i), 0));
        cr_assert(eq(int, send_int(out, -i), 0));
        atomic_fetch_sub(&ring->tail, 2); /* as two senders that were killed before they moved it */
        cr_assert(eq(int, recv_int(in), i));
        cr_assert(eq(int, recv_int(in), -i));
        atomic_fetch_sub(&ring->head, 2);
    }
}

Test(queue, drop_new_counts_and_takes_the_block)
{
    open_both("a?kind=queue&depth=2&full=drop-new");
    for (int i = 0; i < 5; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cue_block block;
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &block));
    uint64_t before = blocks();
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW), 0));
    cr_assert(eq(ptr, block.data, NULL));
    cr_assert(eq(u64, blocks(), before - 1));
    cr_assert(eq(u64, stat_of(out).dropped, 4));
    cr_assert(eq(int, recv_int(in), 0));
    cr_assert(eq(int, recv_int(in), 1));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
}

Test(queue, drop_old_keeps_the_newest_also_while_nobody_receives)
{
    open_both("a?kind=queue&depth=4&full=drop-old");
    for (int i = 0; i < 30; i++) {
        cue_block block;
        CUE_MUST(cue_block_alloc(pool, 100, NULL, &block));
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .type = 1, .data = &i, .size = sizeof i, .move = &block }, CUE_NOW), 0));
    }
    cr_assert(eq(u64, blocks(), 1 + 2 * 4)); /* what was dropped is freed, and what went along */
    for (int i = 26; i < 30; i++)
        cr_assert(eq(int, recv_int(in), i));
    cue_channel_info info = stat_of(in);
    cr_assert(eq(u64, info.dropped, 26));
    cr_assert(eq(u64, info.sent, 30));
    cr_assert(eq(u64, info.received, 4));
}

Test(queue, bytes_are_bounded_but_an_empty_lane_takes_any)
{
    static char big[60000];
    cue_msg m;
    open_both("a?kind=queue&bytes=100k");
    for (int round = 0; round < 3; round++) {
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .data = big, .size = sizeof big }, CUE_NOW), 0));
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .data = big, .size = sizeof big }, CUE_NOW), CUE_EFULL));
        cr_assert(eq(int, send_int(out, 1), 0)); /* small ones still pass */
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cue_msg_release(&m);
        cr_assert(eq(int, recv_int(in), 1));
    }
}

/* ---- what travels ---- */

Test(queue, everything_a_message_has_arrives)
{
    cue_block block;
    cue_msg m;
    open_both("a?kind=queue");
    CUE_MUST(cue_block_alloc(pool, 5000, NULL, &block));
    strcpy(block.data, "block");
    cue_msg full = { .type = 4, .status = -5, .tag = 1, .key = 2, .from = { 1, 2, 3, 4 }, .data = "bytes", .size = 6, .move = &block };
    cr_assert(eq(int, cue_channel_send(out, &full, CUE_NOW), 0));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(u32, m.type, 4));
    cr_assert(eq(int, m.status, -5));
    cr_assert(eq(u64, m.tag, 1));
    cr_assert(eq(u64, m.key, 2));
    cr_assert(cue_ref_same(m.from, full.from));
    cr_assert(eq(str, (char *)(uintptr_t)m.data, "bytes"));
    cr_assert(eq(str, (char *)m.block.data, "block"));
    cr_assert(eq(u32, m.redelivered, 0));
    cue_msg_release(&m);
}

Test(queue, a_moved_block_is_not_copied_and_is_its_own_message)
{
    cue_block block;
    cue_msg m;
    open_both("a?kind=queue&type=9");
    CUE_MUST(cue_block_alloc(cue_channel_pool(out), 100000, &(cue_block_opts){ .type = 9 }, &block));
    memset(block.data, 7, block.size);
    void *data = block.data;
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW), 0));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(ptr, (void *)(uintptr_t)m.data, data));
    cr_assert(eq(sz, m.size, 100000));
    cr_assert(eq(u32, m.type, 9));
    cue_block mine = cue_move(&m.block);
    cue_msg_release(&m);
    cr_assert(eq(u64, stat_of(in).copied, 0));
    cr_assert(eq(u64, stat_of(in).bytes, 100000));
    cr_assert(eq(int, cue_block_release(&mine), 0)); /* we are its owner */
}

Test(queue, a_loan_is_written_in_place)
{
    cue_block loan;
    cue_msg m;
    open_both("a?kind=queue");
    CUE_MUST(cue_channel_reserve(out, 1000, 3, CUE_NOW, &loan));
    strcpy(loan.data, "in place");
    void *data = loan.data;
    CUE_MUST(cue_channel_commit(out, &loan, 9, CUE_NOW));
    cr_assert(eq(ptr, loan.data, NULL));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(ptr, (void *)(uintptr_t)m.data, data));
    cr_assert(eq(sz, m.size, 9));
    cr_assert(eq(u32, m.type, 3));
    cue_msg_release(&m);
}

Test(queue, many_at_once_in_order_as_far_as_there_is_room)
{
    int values[100];
    cue_msg messages[100], got[100];
    open_both("a?kind=queue&depth=70");
    for (int i = 0; i < 100; i++) {
        values[i] = i;
        messages[i] = (cue_msg){ .type = 1, .data = &values[i], .size = sizeof(int) };
    }
    cr_assert(eq(int, cue_channel_send_many(out, messages, 100, CUE_NOW), 70));
    cr_assert(eq(int, cue_channel_send_many(out, messages + 70, 30, CUE_MS(1)), CUE_EFULL));
    cr_assert(eq(u64, stat_of(in).queued, 70));
    cr_assert(eq(int, cue_channel_recv_many(in, got, 50, CUE_NOW), 50));
    cr_assert(eq(int, cue_channel_send_many(out, messages + 70, 30, CUE_NOW), 30));
    cr_assert(eq(int, cue_channel_recv_many(in, got + 50, 50, CUE_NOW), 50));
    for (int i = 0; i < 100; i++) {
        cr_assert(eq(int, *(const int *)got[i].data, i));
        cue_msg_release(&got[i]);
    }
    messages[2].type = CUE_TYPE_SYSTEM; /* the first two go */
    cr_assert(eq(int, cue_channel_send_many(out, messages, 5, CUE_NOW), 2));
    cr_assert(eq(int, cue_channel_send_many(out, messages + 2, 5, CUE_NOW), CUE_ETYPE));
    cr_assert(eq(u64, stat_of(in).peak, 70));
}

Test(queue, counts_add_up)
{
    open_both("a?kind=queue");
    for (int i = 0; i < 10; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, recv_int(in), i));
    cue_channel_info info = stat_of(out);
    cr_assert(eq(u32, info.kind, CUE_QUEUE));
    cr_assert(eq(u32, info.depth, 1024));
    cr_assert(eq(u64, info.queued, 6));
    cr_assert(eq(u64, info.sent, 10));
    cr_assert(eq(u64, info.received, 4));
    cr_assert(eq(u64, info.bytes, 4 * sizeof(int)));
    cr_assert(eq(u64, info.copied, 4 * sizeof(int)));
}

Test(queue, is_of_its_kind_and_stays_while_it_holds_messages)
{
    CUE_MUST(cue_channel_open(lane("a?kind=queue"), CUE_SEND, NULL, &out));
    cr_assert(eq(int, cue_channel_open(lane("a?kind=mailbox"), CUE_RECV, NULL, &in), CUE_ETYPE));
    cr_assert(eq(int, send_int(out, 1), 0));
    cue_channel_close(out);
    out = NULL;
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
    cr_assert(eq(int, recv_int(in), 1));
}

Test(queue, a_damaged_place_is_an_error)
{
    cue_msg m;
    open_both("a?kind=queue&depth=4");
    struct ring *ring = ((struct ring_channel *)(void *)in)->ring;
    atomic_store(&ring->slot[0], slot_word(77, 5));
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_NOW), CUE_ECORRUPT));
    cr_assert(eq(int, send_int(out, 1), CUE_ECORRUPT));
    cr_assert(ne(str, (char *)(uintptr_t)cue_trail(), ""));
    atomic_store(&ring->slot[0], slot_word(0, 0x7fffffff)); /* a record that is not there: passed over */
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_NOW), CUE_EEMPTY));
    cr_assert(eq(int, send_int(out, 1), 0));
    cr_assert(eq(int, recv_int(in), 1));
}

/* It would go on dropping for ever. */
Test(queue, a_full_ring_that_nothing_can_be_dropped_from_is_an_error)
{
    open_both("a?kind=queue&depth=4&full=drop-old");
    struct ring *ring = ((struct ring_channel *)(void *)in)->ring;
    for (int i = 1; i <= 4; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    atomic_store(&ring->head, 5); /* a lap ahead */
    cr_assert(eq(int, send_int(out, 5), CUE_ECORRUPT));
    uint64_t second = atomic_exchange(&ring->slot[1], slot_word(0, 0)); /* empty, where receivers look */
    atomic_store(&ring->head, 1);
    cr_assert(eq(int, send_int(out, 5), CUE_ECORRUPT));
    atomic_store(&ring->slot[1], second);
    atomic_store(&ring->head, 0);
    cr_assert(eq(int, send_int(out, 5), 0));
    cr_assert(eq(int, recv_int(in), 2));
}

/* ---- waiting, threads ---- */

Test(queue, a_wait_that_ends_says_what_was_missing)
{
    cue_msg m;
    open_both("a?kind=queue&depth=1");
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_MS(5)), CUE_EEMPTY));
    cr_assert(eq(int, send_int(out, 1), 0));
    int value = 2;
    cr_assert(eq(int, cue_channel_send(out, CUE_MSG(1, value), CUE_MS(5)), CUE_EFULL));
}

Test(queue, a_push_wakes_one_of_several_sleepers)
{
    struct waiting w[3];
    pthread_t threads[3];
    open_both("a?kind=queue&spin=0");
    for (int i = 0; i < 3; i++) {
        w[i] = (struct waiting){ .ch = in, .wait = CUE_SEC(20) };
        threads[i] = wait_begin(&w[i]);
    }
    until_sleeping(out);
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        cr_assert(eq(int, w[i].result, 0));
    }
}

Test(queue, room_wakes_the_waiting_sender)
{
    open_both("a?kind=queue&depth=1");
    for (int i = 0; i < 50; i++) {
        cr_assert(eq(int, send_int(out, 1), 0));
        struct waiting w = { .ch = out, .wait = CUE_SEC(20), .sends = true };
        pthread_t thread = wait_begin(&w);
        cr_assert(eq(int, recv_int(in), 1));
        pthread_join(thread, NULL);
        cr_assert(eq(int, w.result, 0));
        cr_assert(eq(int, recv_int(in), 5));
    }
}

Test(queue, wake_and_close_end_waits)
{
    open_both("a?kind=queue&depth=1&spin=0");
    struct waiting receiver = { .ch = in, .wait = CUE_FOREVER };
    pthread_t thread = wait_begin(&receiver);
    until_sleeping(out);
    cue_channel_wake(in);
    pthread_join(thread, NULL);
    cr_assert(eq(int, receiver.result, CUE_EINTR));
    receiver = (struct waiting){ .ch = in, .wait = CUE_FOREVER };
    thread = wait_begin(&receiver);
    while (!atomic_load(&in->receiving))
        sched_yield();
    cue_channel_close(in);
    in = NULL;
    pthread_join(thread, NULL);
    cr_assert(eq(int, receiver.result, CUE_ECLOSED));
    cr_assert(eq(int, send_int(out, 1), 0));
    struct waiting sender = { .ch = out, .wait = CUE_FOREVER, .sends = true };
    thread = wait_begin(&sender);
    while (!atomic_load(&((struct ring_channel *)(void *)out)->waiting))
        sched_yield();
    cue_channel_close(out);
    out = NULL;
    pthread_join(thread, NULL);
    cr_assert(eq(int, sender.result, CUE_ECLOSED));
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
}

enum { RUN = 20000, RUNNERS = 2 };

struct runner {
    cue_channel *ch;
    int from, wrong;
    _Atomic unsigned char *seen;
    _Atomic int *left;
};

static void *run_sender(void *arg)
{
    struct runner *r = arg;
    for (int i = 0; i < RUN; i++) {
        int value = r->from + i;
        if (cue_channel_send(r->ch, CUE_MSG(1, value), CUE_SEC(30)))
            r->wrong++;
    }
    return NULL;
}

static void *run_receiver(void *arg)
{
    struct runner *r = arg;
    int last[RUNNERS] = { -1, -1 };
    cue_msg m[5];
    while (atomic_load(r->left) > 0) {
        int got = cue_channel_recv_many(r->ch, m, 5, CUE_MS(20));
        for (int i = 0; i < got; i++) {
            int value = *(const int *)m[i].data, of = value / RUN;
            r->wrong += value <= last[of] || atomic_fetch_add(&r->seen[value], 1); /* in order of each sender, and once */
            last[of] = value;
            cue_msg_release(&m[i]);
            atomic_fetch_sub(r->left, 1);
        }
    }
    return NULL;
}

Test(queue, threads_compete_and_each_message_comes_once)
{
    static _Atomic unsigned char seen[RUN * RUNNERS];
    _Atomic int left = RUN * RUNNERS;
    struct runner runners[2 * RUNNERS];
    pthread_t threads[2 * RUNNERS];
    open_both("a?kind=queue&depth=50");
    for (int i = 0; i < 2 * RUNNERS; i++) {
        runners[i] = (struct runner){ .ch = i < RUNNERS ? out : in, .from = i * RUN, .seen = seen, .left = &left };
        pthread_create(&threads[i], NULL, i < RUNNERS ? run_sender : run_receiver, &runners[i]);
    }
    for (int i = 0; i < 2 * RUNNERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2 * RUNNERS; i++)
        cr_assert(eq(int, runners[i].wrong, 0));
    for (int i = 0; i < RUN * RUNNERS; i++)
        cr_assert(eq(int, seen[i], 1));
}

/* ---- death ---- */

/* A helper that receives as it is told and holds what it has. */
static struct cast holder(const char *rest, int count)
{
    struct cast c = cast_start("mailbox_receiver", lane(rest));
    cr_assert(eq(int, cast_hear(&c, 5000), 'r'));
    for (int i = 0; i < count; i++) {
        cast_say(&c, 'n');
        cr_assert(ge(int, cast_hear(&c, 5000), 0));
    }
    return c;
}

static void reap(void)
{
    cr_assert(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
}

Test(queue, what_a_dead_receiver_had_in_hand_goes_without_redeliver)
{
    CUE_MUST(cue_channel_open(lane("a?kind=queue"), CUE_SEND, NULL, &out));
    for (int i = 0; i < 5; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    struct cast c = holder("a", 2);
    cast_kill(&c);
    reap();
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
    for (int i = 2; i < 5; i++)
        cr_assert(eq(int, recv_int(in), i));
    cr_assert(eq(u64, blocks(), 1));
}

Test(queue, what_a_dead_receiver_had_in_hand_comes_again_first_and_marked)
{
    cue_msg m;
    open_both("a?kind=queue&redeliver=2");
    for (int i = 0; i < 6; i++) {
        cue_block block;
        CUE_MUST(cue_block_alloc(pool, 100, NULL, &block));
        memset(block.data, i, 100);
        cr_assert(eq(
            int, cue_channel_send(out, &(cue_msg){ .type = 1, .data = &i, .size = sizeof i, .move = i % 2 ? &block : NULL }, CUE_NOW), 0));
        cue_block_release(&block);
    }
    struct cast c = holder("a", 4);
    cast_kill(&c);
    reap();
    cr_assert(eq(u64, stat_of(in).returned, 4));
    for (int i = 0; i < 6; i++) {
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cr_assert(eq(int, *(const int *)m.data, i));
        cr_assert(eq(u32, m.redelivered, i < 4));
        cr_assert(eq(sz, m.block.size, i % 2 ? 100 : 0));
        cr_assert(m.block.data == NULL || ((char *)m.block.data)[99] == i);
        cue_msg_release(&m);
    }
    cue_channel_info info = stat_of(in);
    cr_assert(eq(u64, info.redelivered, 4));
    cr_assert(eq(u64, info.dead, 0));
    cr_assert(eq(u64, blocks(), 1));
}

Test(queue, a_receiver_that_sleeps_is_woken_for_what_a_dead_one_had)
{
    open_both("a?kind=queue&redeliver=1&spin=0");
    cr_assert(eq(int, send_int(out, 5), 0));
    struct cast c = holder("a", 1);
    struct waiting w = { .ch = in, .wait = CUE_SEC(20) };
    pthread_t thread = wait_begin(&w);
    until_sleeping(out);
    cast_kill(&c); /* somebody finds out by itself */
    pthread_join(thread, NULL);
    cr_assert(eq(int, w.result, 0));
    cr_assert(eq(u64, stat_of(in).redelivered, 1));
}

Test(queue, what_was_released_does_not_come_again)
{
    cue_msg m;
    open_both("a?kind=queue&redeliver=5");
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cue_msg_release(&m);
    struct cast c = holder("a", 1);
    cast_say(&c, 'e'); /* exits and leaves in order, with a message in hand: that comes again, too */
    cr_assert(eq(int, cast_wait(&c, 10000), 0));
    cr_assert(eq(int, recv_int(in), 1));
    cr_assert(eq(int, recv_int(in), 2));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
}

Test(queue, a_lane_stays_for_what_waits_to_be_given_out_again)
{
    CUE_MUST(cue_channel_open(lane("a?kind=queue&redeliver=1"), CUE_SEND, NULL, &out));
    cr_assert(eq(int, send_int(out, 7), 0));
    struct cast c = holder("a", 1);
    cue_channel_close(out);
    out = NULL;
    cast_kill(&c);
    reap();
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
    cr_assert(eq(u32, stat_of(in).kind, CUE_QUEUE));
    cr_assert(eq(int, recv_int(in), 7));
}

static void kill_with_it(const char *rest, int times)
{
    for (int i = 0; i < times; i++) {
        struct cast c = holder(rest, 1);
        cast_kill(&c);
        reap();
    }
}

Test(queue, what_nobody_survives_goes_to_the_dead_letters)
{
    cue_channel *letters;
    cue_msg m;
    open_both("a?kind=queue&redeliver=2&dead=letters");
    CUE_MUST(cue_channel_open(lane("letters"), CUE_RECV, NULL, &letters));
    cr_assert(eq(int, send_int(out, 1), 0));
    kill_with_it("a", 3);
    cr_assert(eq(int, send_int(out, 2), 0));
    cr_assert(eq(int, recv_int(in), 2)); /* 1 is passed over */
    CUE_MUST(cue_channel_recv(letters, &m, CUE_NOW));
    cr_assert(eq(int, *(const int *)m.data, 1));
    cr_assert(eq(u32, m.redelivered, 3)); /* so many died of it */
    cue_msg_release(&m);
    cr_assert(eq(u64, stat_of(in).dead, 1));
    cue_channel_close(letters);
}

Test(queue, without_a_lane_for_them_dead_letters_are_freed_and_counted)
{
    open_both("a?kind=queue&redeliver=1");
    cue_block block;
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &block));
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .tag = 1, .move = &block }, CUE_NOW), 0));
    kill_with_it("a", 2);
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    cr_assert(eq(u64, stat_of(in).dead, 1));
    cr_assert(eq(u64, blocks(), 1));
}

Test(queue, options_that_make_no_sense_are_refused)
{
    cr_assert(eq(int, cue_channel_open(lane("a?kind=queue&dead=x"), CUE_SEND, NULL, &out), CUE_EINVAL));
    cr_assert(eq(int, cue_channel_open(lane("a?redeliver=2"), CUE_SEND, NULL, &out), CUE_EINVAL));
    cr_assert(eq(int, cue_channel_open(lane("a?kind=stream&redeliver=2"), CUE_SEND, NULL, &out), CUE_EINVAL));
    cr_assert(eq(int, cue_channel_open(lane("a?kind=queue&redeliver=2&dead=@x"), CUE_SEND, NULL, &out), CUE_EINVAL));
    out = NULL;
}

Test(queue, messages_outlive_their_sender)
{
    open_both("a?kind=queue");
    struct cast sender = cast_start("mailbox_sender", url);
    cr_assert(eq(int, cast_hear(&sender, 5000), 'r'));
    for (int i = 0; i < 5; i++) {
        cast_say(&sender, 'n');
        cr_assert(eq(int, cast_hear(&sender, 5000), 'k'));
    }
    cast_kill(&sender);
    reap();
    for (int i = 1; i <= 5; i++)
        cr_assert(eq(int, recv_int(in), i));
}

Test(queue, a_forked_child_sends_but_does_not_receive)
{
    struct cast forker = cast_start("mailbox_forker", lane("a?kind=queue"));
    cr_assert(eq(int, cast_wait(&forker, 10000), 0));
}
