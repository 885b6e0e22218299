/* The stream through its public calls: order, limits, who may have an end, loans, taking over from the dead. */
#include "channels/ring.h"

#include "tests/one_lane.h"

#include <pthread.h>

static void setup(void)
{
    open_pool("stream");
}

TestSuite(stream, .init = setup, .fini = teardown);

/* ---- order and limits ---- */

Test(stream, keeps_the_order)
{
    open_both("a?kind=stream");
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 300; i++)
            cr_assert(eq(int, send_int(out, i), 0));
        for (int i = 0; i < 300; i++)
            cr_assert(eq(int, recv_int(in), i));
        cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    }
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

Test(stream, depth_is_exact_where_it_is_a_power_of_two)
{
    depth_is("a?kind=stream&depth=4", 4);
}

Test(stream, depth_is_exact_where_it_is_none)
{
    depth_is("a?kind=stream&depth=5", 5);
}

Test(stream, depth_of_one)
{
    depth_is("a?kind=stream&depth=1", 1);
}

Test(stream, drop_new_and_drop_old)
{
    open_both("a?kind=stream&depth=2&full=drop-new");
    for (int i = 0; i < 5; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(u64, stat_of(out).dropped, 3));
    cr_assert(eq(int, recv_int(in), 0));
    cr_assert(eq(int, recv_int(in), 1));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    cue_channel *old_in, *old_out;
    CUE_MUST(cue_channel_open(lane("b?kind=stream&depth=4&full=drop-old"), CUE_RECV, NULL, &old_in));
    CUE_MUST(cue_channel_open(lane("b"), CUE_SEND, NULL, &old_out));
    for (int i = 0; i < 30; i++)
        cr_assert(eq(int, send_int(old_out, i), 0));
    for (int i = 26; i < 30; i++)
        cr_assert(eq(int, recv_int(old_in), i));
    cr_assert(eq(u64, stat_of(old_in).dropped, 26));
    cue_channel_close(old_out);
    cue_channel_close(old_in);
}

Test(stream, counts_add_up)
{
    open_both("a?kind=stream");
    for (int i = 0; i < 10; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, recv_int(in), i));
    cue_channel_info info = stat_of(out);
    cr_assert(eq(u32, info.kind, CUE_STREAM));
    cr_assert(eq(u64, info.queued, 6));
    cr_assert(eq(u64, info.sent, 10));
    cr_assert(eq(u64, info.received, 4));
    cr_assert(eq(u64, info.peak, 10));
    cr_assert(eq(u64, info.bytes, 4 * sizeof(int)));
    cr_assert(eq(int, info.receiver, getpid()));
}

Test(stream, a_loan_is_written_in_place)
{
    cue_block loan;
    cue_msg m;
    open_both("a?kind=stream&depth=1");
    CUE_MUST(cue_channel_reserve(out, 1000, 3, CUE_NOW, &loan));
    strcpy(loan.data, "in place");
    void *data = loan.data;
    cr_assert(eq(int, cue_channel_commit(out, &loan, 5000, CUE_NOW), CUE_ETOOBIG));
    CUE_MUST(cue_channel_commit(out, &loan, 9, CUE_NOW));
    cr_assert(eq(ptr, loan.data, NULL));
    CUE_MUST(cue_channel_reserve(out, 8, 3, CUE_NOW, &loan));
    cr_assert(eq(int, cue_channel_commit(out, &loan, 8, CUE_NOW), CUE_EFULL));
    cr_assert(ne(ptr, loan.data, NULL)); /* still ours */
    CUE_MUST(cue_block_release(&loan));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(ptr, (void *)(uintptr_t)m.data, data)); /* the very bytes */
    cr_assert(eq(sz, m.size, 9));
    cr_assert(eq(u32, m.type, 3));
    cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_reserve(in, 8, 0, CUE_NOW, &loan), CUE_EINVAL)); /* not opened to send */
    cr_assert(eq(int, cue_channel_reserve(out, SIZE_MAX / 4, 0, CUE_NOW, &loan), CUE_ETOOBIG));
}

Test(stream, everything_a_message_has_arrives)
{
    cue_block block;
    cue_msg m;
    open_both("a?kind=stream");
    CUE_MUST(cue_block_alloc(pool, 5000, NULL, &block));
    strcpy(block.data, "block");
    cue_msg full = { .type = 4, .status = -5, .tag = 1, .key = 2, .from = { 1, 2, 3, 4 }, .data = "bytes", .size = 6, .move = &block };
    cr_assert(eq(int, cue_channel_send(out, &full, CUE_NOW), 0));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(u64, m.tag, 1));
    cr_assert(eq(str, (char *)(uintptr_t)m.data, "bytes"));
    cr_assert(eq(str, (char *)m.block.data, "block"));
    cue_msg_release(&m);
}

Test(stream, many_at_once_in_order_as_far_as_there_is_room)
{
    int values[100];
    cue_msg messages[100], got[100];
    open_both("a?kind=stream&depth=70");
    for (int i = 0; i < 100; i++) {
        values[i] = i;
        messages[i] = (cue_msg){ .type = 1, .data = &values[i], .size = sizeof(int) };
    }
    cr_assert(eq(int, cue_channel_send_many(out, messages, 100, CUE_NOW), 70));
    cr_assert(eq(int, cue_channel_send_many(out, messages + 70, 30, CUE_MS(1)), CUE_EFULL));
    cr_assert(eq(int, cue_channel_recv_many(in, got, 50, CUE_NOW), 50));
    cr_assert(eq(int, cue_channel_send_many(out, messages + 70, 30, CUE_NOW), 30));
    cr_assert(eq(int, cue_channel_recv_many(in, got + 50, 50, CUE_NOW), 50));
    for (int i = 0; i < 100; i++) {
        cr_assert(eq(int, *(const int *)got[i].data, i));
        cue_msg_release(&got[i]);
    }
}

/* ---- small messages, which lie in the ring itself ---- */

static struct ring *ring_of_lane(void)
{
    return ((struct ring_channel *)(void *)in)->ring;
}

Test(stream, a_small_message_needs_no_block)
{
    unsigned char bytes[PLACE_ROOM + 1];
    cue_msg m;
    open_both("a?kind=stream");
    uint64_t before = blocks();
    for (size_t size = 0; size <= sizeof bytes; size++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (unsigned char)(i < size ? size + i : 0xee);
        cue_msg sent = { .type = (uint32_t)size, .status = -(int)size, .tag = size << 40, .key = ~size, .data = bytes, .size = size };
        CUE_MUST(cue_channel_send(out, &sent, CUE_NOW));
        cr_assert(eq(u64, blocks(), before + (size > PLACE_ROOM)));
        memset(bytes, 0, sizeof bytes); /* they were copied */
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cr_assert(eq(u32, m.type, (uint32_t)size));
        cr_assert(eq(int, m.status, -(int)size));
        cr_assert(eq(u64, m.tag, size << 40));
        cr_assert(eq(u64, m.key, ~size));
        cr_assert(eq(sz, m.size, size));
        cr_assert(ne(ptr, (void *)(uintptr_t)m.data, NULL));
        cr_assert(eq(ptr, m.block.data, NULL));
        for (size_t i = 0; i < size; i++)
            cr_assert(eq(int, ((const unsigned char *)m.data)[i], (unsigned char)(size + i)));
        cue_msg_release(&m);
        cr_assert(eq(ptr, (void *)(uintptr_t)m.data, NULL));
    }
    cr_assert(eq(u64, stat_of(in).copied, (uint64_t)PLACE_ROOM * (PLACE_ROOM + 1) / 2 + PLACE_ROOM + 1));
}

Test(stream, small_messages_stay_as_long_as_they_are_held)
{
    enum { HELD = 2000 };
    static cue_msg held[HELD];
    open_both("a?kind=stream&depth=8");
    for (int i = 0; i < HELD; i++) {
        cr_assert(eq(int, send_int(out, i), 0));
        CUE_MUST(cue_channel_recv(in, &held[i], CUE_NOW));
    }
    for (int i = 0; i < HELD; i++)
        cr_assert(eq(int, *(const int *)held[i].data, i));
    cue_msg copy = held[0];
    cue_msg_release(&held[0]);
    cue_msg_release(&copy); /* a second time: nothing happens */
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(int, send_int(out, -1 - i), 0));
        CUE_MUST(cue_channel_recv(in, i ? &copy : &held[0], CUE_NOW));
    }
    cr_assert(eq(int, *(const int *)held[0].data, -1)); /* two messages, not one */
    cr_assert(eq(int, *(const int *)copy.data, -2));
    cue_msg_release(&copy);
    for (int i = 0; i < HELD; i++)
        cue_msg_release(&held[i]);
}

static void *release_all(void *arg)
{
    for (cue_msg *m = arg; m->size; m++)
        cue_msg_release(m);
    return NULL;
}

Test(stream, small_messages_are_released_by_any_thread)
{
    open_both("a?kind=stream&depth=1k");
    for (int round = 0; round < 5; round++) {
        pthread_t thread;
        cue_msg got[1001] = { 0 };
        for (int i = 0; i < 1000; i++)
            cr_assert(eq(int, send_int(out, i), 0));
        cr_assert(eq(int, cue_channel_recv_many(in, got, 1000, CUE_NOW), 1000));
        for (int i = 0; i < 1000; i++)
            cr_assert(eq(int, *(const int *)got[i].data, i));
        pthread_create(&thread, NULL, release_all, got);
        pthread_join(thread, NULL);
    }
}

Test(stream, a_damaged_place_is_an_error)
{
    cue_msg m;
    open_both("a?kind=stream&depth=4");
    struct place *place = ring_places(ring_of_lane());
    cr_assert(eq(int, send_int(out, 1), 0));
    uint64_t word = atomic_load(&place->word);
    atomic_store(&place->word, slot_word(0, 0x7fffffff));
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_NOW), CUE_ECORRUPT));
    cr_assert(ne(str, (char *)(uintptr_t)cue_trail(), ""));
    atomic_store(&place->word, word);
    place->size = PLACE_ROOM + 1;
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_NOW), CUE_ECORRUPT));
    place->size = sizeof(int);
    atomic_store(&ring_of_lane()->head, 77); /* of a receiver that tells lies */
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, send_int(out, 2 + i), 0));
    cr_assert(eq(int, send_int(out, 9), CUE_EFULL));
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, recv_int(in), 1 + i));
}

/* ---- ends ---- */

Test(stream, a_second_end_is_refused_and_an_end_changes_hands)
{
    cue_channel *other;
    open_both("a?kind=stream&depth=5");
    cr_assert(eq(int, cue_channel_open(lane("a"), CUE_RECV, NULL, &other), CUE_EBUSY));
    cr_assert(ne(str, (char *)(uintptr_t)cue_trail(), ""));
    cr_assert(eq(int, cue_channel_open(lane("a"), CUE_SEND, NULL, &other), CUE_EBUSY));
    cr_assert(eq(int, cue_channel_open(lane("a"), CUE_SEND | CUE_RECV, NULL, &other), CUE_EBUSY));
    int sent = 0, got = 0;
    for (int round = 0; round < 40; round++) { /* at each fill and each place of the ring */
        for (int i = 0; i < 1 + round % 5 && send_int(out, sent) == 0; i++)
            sent++;
        cue_channel_close(out);
        CUE_MUST(cue_channel_open(lane("a"), CUE_SEND, NULL, &out));
        for (int i = 0; i < 1 + round % 3 && got < sent; i++)
            cr_assert(eq(int, recv_int(in), got++));
        cue_channel_close(in);
        CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
    }
    while (got < sent)
        cr_assert(eq(int, recv_int(in), got++));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    cr_assert(gt(int, sent, 40));
}

Test(stream, a_new_end_finds_its_place_where_laps_wrap)
{
    open_both("a?kind=stream&depth=4");
    struct ring *ring = ring_of_lane();
    uint64_t at = ((uint64_t)UINT32_MAX << 2) - 5; /* the last laps that a word can say */
    for (uint64_t p = at - 4; p != at; p++)
        atomic_store(&ring_places(ring)[p & 3].word, slot_word(p >> 2, PLACE_SMALL));
    atomic_store(&ring->head, at);
    atomic_store(&ring->tail, at);
    for (int i = 0; i < 12; i++) {
        cue_channel_close(out);
        CUE_MUST(cue_channel_open(lane("a"), CUE_SEND, NULL, &out));
        cue_channel_close(in);
        CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
        for (int k = 0; k < 3; k++)
            cr_assert(eq(int, send_int(out, 10 * i + k), 0));
        for (int k = 0; k < 3; k++)
            cr_assert(eq(int, recv_int(in), 10 * i + k));
    }
}

/* What a receiver leaves that is killed between its claims and its word: the record of 0 and 2 claimed, 1 copied, none counted. */
Test(stream, a_new_receiver_goes_on_behind_what_a_dead_one_had_claimed)
{
    cue_msg m[3];
    char large[100] = "large";
    open_both("a?kind=stream&depth=8");
    for (int i = 0; i < 5; i++)
        CUE_MUST(cue_channel_send(out, &(cue_msg){ .type = 1, .data = i % 2 ? (void *)&i : large, .size = i % 2 ? sizeof i : sizeof large },
                                  CUE_NOW));
    cr_assert(eq(int, cue_channel_recv_many(in, m, 3, CUE_NOW), 3));
    for (int i = 0; i < 3; i++)
        cue_msg_release(&m[i]);
    atomic_store(&ring_of_lane()->head, 0);
    cue_channel_close(in);
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
    cr_assert(eq(u64, stat_of(in).queued, 2));
    cr_assert(eq(int, recv_int(in), 3));
    cr_assert(eq(int, cue_channel_recv(in, &m[0], CUE_NOW), 0));
    cr_assert(eq(sz, m[0].size, sizeof large));
    cue_msg_release(&m[0]);
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    /* small ones alone that were only copied come again */
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    uint64_t head = atomic_load(&ring_of_lane()->head);
    cr_assert(eq(int, recv_int(in), 0));
    atomic_store(&ring_of_lane()->head, head);
    cue_channel_close(in);
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, recv_int(in), i));
}

/* ---- waiting ---- */

Test(stream, sleepers_are_woken)
{
    open_both("a?kind=stream&depth=1&spin=0");
    for (int i = 0; i < 30; i++) {
        struct waiting receiver = { .ch = in, .wait = CUE_SEC(20) };
        pthread_t thread = wait_begin(&receiver);
        if (i % 2)
            until_sleeping(out);
        cr_assert(eq(int, send_int(out, 1), 0));
        pthread_join(thread, NULL);
        cr_assert(eq(int, receiver.result, 0));
        cr_assert(eq(int, send_int(out, 1), 0));
        struct waiting sender = { .ch = out, .wait = CUE_SEC(20), .sends = true };
        thread = wait_begin(&sender);
        cr_assert(eq(int, recv_int(in), 1));
        pthread_join(thread, NULL);
        cr_assert(eq(int, sender.result, 0));
        cr_assert(eq(int, recv_int(in), 5));
    }
}

Test(stream, one_thread_at_a_time_has_an_end_and_closing_ends_waits)
{
    cue_msg m;
    open_both("a?kind=stream&depth=1&spin=0");
    struct waiting receiver = { .ch = in, .wait = CUE_FOREVER };
    pthread_t thread = wait_begin(&receiver);
    until_sleeping(out);
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_NOW), CUE_EBUSY));
    cue_channel_close(in);
    in = NULL;
    pthread_join(thread, NULL);
    cr_assert(eq(int, receiver.result, CUE_ECLOSED));
    cr_assert(eq(int, send_int(out, 1), 0));
    struct waiting sender = { .ch = out, .wait = CUE_FOREVER, .sends = true };
    thread = wait_begin(&sender);
    while (!atomic_load(&((struct ring_channel *)(void *)out)->waiting))
        sched_yield();
    cr_assert(eq(int, send_int(out, 2), CUE_EBUSY));
    cue_channel_close(out);
    out = NULL;
    pthread_join(thread, NULL);
    cr_assert(eq(int, sender.result, CUE_ECLOSED));
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
}

enum { RUN = 50000 };

static void *run_sender(void *arg)
{
    cue_channel *ch = arg;
    for (int i = 0; i < RUN; i++)
        if (cue_channel_send(ch, CUE_MSG(1, i), CUE_SEC(30)))
            return ch;
    return NULL;
}

Test(stream, two_threads_and_every_message_in_order)
{
    pthread_t thread;
    cue_msg m[7];
    int next = 0;
    void *failed;
    open_both("a?kind=stream&depth=50");
    pthread_create(&thread, NULL, run_sender, out);
    while (next < RUN) {
        int got = cue_channel_recv_many(in, m, 7, CUE_SEC(30));
        cr_assert(gt(int, got, 0));
        for (int i = 0; i < got; i++) {
            cr_assert(eq(int, *(const int *)m[i].data, next++));
            cue_msg_release(&m[i]);
        }
    }
    pthread_join(thread, &failed);
    cr_assert(eq(ptr, failed, NULL));
}

/* ---- death ---- */

Test(stream, the_next_receiver_goes_on_where_a_killed_one_was)
{
    struct cast receiver = cast_start("mailbox_receiver", lane("a?kind=stream"));
    cr_assert(eq(int, cast_hear(&receiver, 5000), 'r'));
    CUE_MUST(cue_channel_open(lane("a"), CUE_SEND, NULL, &out));
    for (int i = 0; i < 10; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    for (int i = 0; i < 3; i++) {
        cast_say(&receiver, 'n');
        cr_assert(eq(int, cast_hear(&receiver, 5000), i));
    }
    cr_assert(eq(int, cue_channel_open(lane("a"), CUE_RECV, NULL, &in), CUE_EBUSY));
    cast_kill(&receiver); /* with three messages in hand */
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
    for (int i = 3; i < 10; i++)
        cr_assert(eq(int, recv_int(in), i));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    cr_assert(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    cr_assert(eq(u64, blocks(), 1)); /* the lane: what the dead one held is freed */
}

Test(stream, the_next_sender_goes_on_where_a_killed_one_was)
{
    CUE_MUST(cue_channel_open(lane("a?kind=stream"), CUE_RECV, NULL, &in));
    for (int round = 0; round < 3; round++) {
        struct cast sender = cast_start("mailbox_sender", lane("a"));
        cr_assert(eq(int, cast_hear(&sender, 5000), 'r'));
        for (int i = 0; i < 5; i++) {
            cast_say(&sender, 'n');
            cr_assert(eq(int, cast_hear(&sender, 5000), 'k'));
        }
        cr_assert(eq(int, cue_channel_open(lane("a"), CUE_SEND, NULL, &out), CUE_EBUSY));
        cast_kill(&sender);
    }
    CUE_MUST(cue_channel_open(lane("a"), CUE_SEND, NULL, &out));
    cr_assert(eq(int, send_int(out, 77), 0));
    for (int i = 0; i < 15; i++)
        cr_assert(eq(int, recv_int(in), 1 + i % 5));
    cr_assert(eq(int, recv_int(in), 77));
}

Test(stream, a_forked_child_may_not_use_it)
{
    open_both("a?kind=stream");
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(send_int(out, 1) == CUE_EFORK && recv_int(in) == CUE_EFORK - 1000 ? 0 : 1);
    waitpid(child, &status, 0);
    cr_assert(eq(int, status, 0));
    cr_assert(eq(int, send_int(out, 1), 0));
    cr_assert(eq(int, recv_int(in), 1));
}
