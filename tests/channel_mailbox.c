/* The mailbox through its public calls: order, limits, what moves and what is copied, waiting and waking, who may receive. */
#include "channels/mailbox.h"

#include "tests/one_lane.h"

#include <pthread.h>

static void setup(void)
{
    open_pool("mailbox");
}

TestSuite(mailbox, .init = setup, .fini = teardown);

/* ---- order and limits ---- */

Test(mailbox, keeps_one_order_over_all_senders)
{
    cue_channel *other;
    open_both("a");
    CUE_MUST(cue_channel_open(lane("a"), CUE_SEND, NULL, &other));
    for (int i = 0; i < 300; i++)
        cr_assert(eq(int, send_int(i % 3 ? out : other, i), 0));
    cue_channel_close(other);
    for (int i = 0; i < 300; i++)
        cr_assert(eq(int, recv_int(in), i));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
}

Test(mailbox, depth_is_exact)
{
    open_both("a?depth=4");
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++)
            cr_assert(eq(int, send_int(out, i), 0));
        cr_assert(eq(int, send_int(out, 4), CUE_EFULL));
        cr_assert(eq(int, recv_int(in), 0));
        cr_assert(eq(int, send_int(out, 4), 0));
        cr_assert(eq(int, send_int(out, 5), CUE_EFULL));
        for (int i = 1; i < 5; i++)
            cr_assert(eq(int, recv_int(in), i));
    }
    cr_assert(eq(u64, stat_of(out).refused, 6));
}

Test(mailbox, positions_wrap)
{
    open_both("a?depth=8");
    struct mailbox_channel *ch = (struct mailbox_channel *)(void *)in, *sender = (struct mailbox_channel *)(void *)out;
    atomic_store(&ch->box->head, head_word(INDEX_NONE, 0xffffffe0, 0));
    atomic_store(&ch->box->consumed, 0xffffffe0);
    atomic_store(&sender->consumed, 0xffffffe0);
    ch->at = 0xffffffe0;
    for (int i = 0; i < 100; i++) {
        cr_assert(eq(int, send_int(out, i), 0));
        cr_assert(eq(int, send_int(out, -i), 0));
        cr_assert(eq(int, recv_int(in), i));
        cr_assert(eq(int, recv_int(in), -i));
    }
    for (int i = 0; i < 8; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, send_int(out, 8), CUE_EFULL));
}

Test(mailbox, a_sender_that_was_idle_for_long_still_sees_full)
{
    /* a stale copy of `consumed` must not read as room: half the positions later the difference is negative */
    open_both("a?depth=4");
    struct mailbox_channel *ch = (struct mailbox_channel *)(void *)in, *sender = (struct mailbox_channel *)(void *)out;
    atomic_store(&ch->box->head, head_word(INDEX_NONE, 0x80000010, 0));
    atomic_store(&ch->box->consumed, 0x80000010);
    ch->at = 0x80000010;
    atomic_store(&sender->consumed, 0);
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, send_int(out, 4), CUE_EFULL));
}

Test(mailbox, drop_new_counts_and_takes_the_block)
{
    open_both("a?depth=2&full=drop-new");
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

Test(mailbox, drop_old_keeps_the_newest)
{
    open_both("a?depth=4&full=drop-old");
    for (int i = 0; i < 8; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    for (int i = 4; i < 8; i++)
        cr_assert(eq(int, recv_int(in), i));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    cue_channel_info info = stat_of(in);
    cr_assert(eq(u64, info.dropped, 4));
    cr_assert(eq(u64, info.sent, 8));
    cr_assert(eq(u64, info.received, 4));
}

Test(mailbox, bytes_are_bounded_but_an_empty_lane_takes_any)
{
    static char big[60000];
    cue_msg m;
    open_both("a?bytes=100k");
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .data = big, .size = sizeof big }, CUE_NOW), 0));
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .data = big, .size = sizeof big }, CUE_NOW), CUE_EFULL));
    cr_assert(eq(int, send_int(out, 1), 0)); /* small ones still pass */
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .data = big, .size = sizeof big }, CUE_NOW), 0));
    while (cue_channel_recv(in, &m, CUE_NOW) == 0)
        cue_msg_release(&m);
    cue_block huge;
    CUE_MUST(cue_block_alloc(pool, 1 << 20, NULL, &huge));
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &huge }, CUE_NOW), 0));
}

/* ---- what travels ---- */

Test(mailbox, a_moved_block_is_not_copied)
{
    cue_block block;
    cue_msg m;
    open_both("a");
    CUE_MUST(cue_block_alloc(cue_channel_pool(out), 100000, &(cue_block_opts){ .type = 9 }, &block));
    memset(block.data, 7, block.size);
    void *data = block.data;
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW), 0));
    cr_assert(eq(ptr, block.data, NULL));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(ptr, (void *)(uintptr_t)m.data, data));
    cr_assert(eq(ptr, m.block.data, data));
    cr_assert(eq(sz, m.size, 100000));
    cr_assert(eq(u32, m.type, 9));
    cue_block mine = cue_move(&m.block);
    cue_msg_release(&m);
    cr_assert(eq(int, ((char *)mine.data)[99999], 7));
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.copied, 0));
    cr_assert(eq(u64, stat_of(in).copied, 0));
    cr_assert(eq(u64, stat_of(in).bytes, 100000));
    cr_assert(eq(int, cue_block_release(&mine), 0)); /* we are its owner */
}

Test(mailbox, bytes_are_copied_and_counted)
{
    cue_msg m;
    cue_pool_info info;
    open_both("a");
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .type = 3, .tag = 77, .data = "hello", .size = 5 }, CUE_NOW), 0));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.copied, 5));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(int, memcmp(m.data, "hello", 5), 0));
    cr_assert(eq(u64, m.tag, 77));
    cr_assert(eq(u64, (uintptr_t)m.data % 16, 0));
    cr_assert(eq(ptr, m.block.data, NULL));
    cue_msg_release(&m);
    cue_msg_release(&m); /* empty by now */
    cr_assert(eq(u64, stat_of(in).copied, 5));
}

Test(mailbox, everything_a_message_has_arrives)
{
    cue_block block;
    cue_msg m;
    open_both("a");
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
    cr_assert(eq(sz, m.block.size, 5000));
    cr_assert(eq(u64, (uintptr_t)m.data % 16, 0));
    cue_msg_release(&m);
}

Test(mailbox, a_block_with_a_tag_arrives_as_data)
{
    cue_block block;
    cue_msg m;
    open_both("a");
    CUE_MUST(cue_block_alloc(pool, 64, &(cue_block_opts){ .type = 2 }, &block));
    strcpy(block.data, "block");
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .type = 5, .tag = 9, .move = &block }, CUE_NOW), 0));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(u32, m.type, 5));
    cr_assert(eq(u64, m.tag, 9));
    cr_assert(eq(sz, m.size, 64));
    cr_assert(eq(str, (char *)(uintptr_t)m.data, "block"));
    cue_msg_release(&m);
}

Test(mailbox, release_gives_back_the_block_that_is_there)
{
    cue_block came, put;
    cue_msg m;
    open_both("a");
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &came));
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &put));
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &came }, CUE_NOW), 0));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    came = cue_move(&m.block);
    m.block = cue_move(&put);
    cue_msg_release(&m);
    cr_assert(eq(int, cue_block_release(&came), 0)); /* still ours, and freed once */
    cr_assert(eq(u64, blocks(), 1));                 /* the lane */
}

Test(mailbox, sizes_from_none_to_a_megabyte)
{
    static char bytes[1 << 20];
    cue_msg m;
    open_both("a");
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (char)(i * 31);
    for (size_t size = 0; size <= sizeof bytes; size = size < 130 ? size + 1 : size * 2 - size % 2) {
        cr_assert(eq(
            int, cue_channel_send(out, &(cue_msg){ .type = 1, .key = size % 2, .data = size ? bytes : NULL, .size = size }, CUE_NOW), 0));
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cr_assert(eq(sz, m.size, size));
        cr_assert(ne(ptr, (void *)(uintptr_t)m.data, NULL));
        cr_assert(eq(int, memcmp(m.data, bytes, size), 0));
        cue_msg_release(&m);
    }
}

Test(mailbox, a_view_arrives_as_a_view_or_says_that_it_is_stale)
{
    cue_block block, part;
    cue_msg m;
    open_both("a");
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &block));
    strcpy(block.data, "0123456789");
    CUE_MUST(cue_block_publish(&block, 0));
    for (int alive = 1; alive >= 0; alive--) {
        CUE_MUST(cue_block_view(&block, 3, 4, &part));
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &part }, CUE_NOW), 0));
        cr_assert(eq(ptr, part.data, NULL));
        if (!alive)
            CUE_MUST(cue_block_free(&block));
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cr_assert(eq(int, m.status, alive ? 0 : CUE_ESTALE));
        cr_assert(eq(sz, m.block.size, alive ? 4 : 0));
        if (alive)
            cr_assert(eq(int, memcmp(m.data, "3456", 4), 0));
        cue_msg_release(&m);
    }
}

Test(mailbox, a_failed_send_leaves_everything_with_the_caller)
{
    cue_block block, other;
    cue_msg m;
    open_both("a?depth=1");
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 3, .id = 5 }, &block));
    CUE_MUST(cue_block_publish(&block, CUE_MINE));
    cr_assert(eq(int, send_int(out, 1), 0));
    uint64_t before = blocks();
    for (int with_bytes = 0; with_bytes < 2; with_bytes++) {
        cue_msg full = { .move = &block, .data = "x", .size = with_bytes ? 1 : 0 };
        cr_assert(eq(int, cue_channel_send(out, &full, CUE_MS(1)), CUE_EFULL));
        cr_assert(ne(ptr, block.data, NULL));
        cr_assert(eq(u64, blocks(), before));
    }
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = 3, .id = 5 }, CUE_NOW, &other)); /* still published */
    CUE_MUST(cue_block_release(&other));
    cr_assert(eq(int, recv_int(in), 1));
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW), 0));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cue_msg_release(&m);
}

Test(mailbox, a_block_is_sent_once)
{
    cue_block block, alias;
    cue_msg m;
    open_both("a");
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &block));
    alias = block;
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW), 0));
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &alias }, CUE_NOW), CUE_ENOTOWNER));
    cr_assert(eq(int, cue_block_release(&alias), CUE_ENOTOWNER));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cue_msg_release(&m);
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
}

Test(mailbox, many_at_once_in_order_as_far_as_there_is_room)
{
    int values[100];
    cue_msg messages[100], got[100];
    open_both("a?depth=70");
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
    messages[2].type = CUE_TYPE_SYSTEM; /* the first two go */
    cr_assert(eq(int, cue_channel_send_many(out, messages, 5, CUE_NOW), 2));
    cr_assert(eq(int, cue_channel_send_many(out, messages + 2, 5, CUE_NOW), CUE_ETYPE));
    cr_assert(eq(u64, stat_of(in).peak, 70));
}

Test(mailbox, messages_of_the_library_pass_a_full_lane)
{
    cue_msg m;
    open_both("a?depth=2&full=drop-old");
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, channel_send_system(out, &(cue_msg){ .type = CUE_DOWN, .data = "d", .size = 1 }), 0));
    cr_assert(eq(int, recv_int(in), 3));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(u32, m.type, CUE_DOWN));
    cue_msg_release(&m);
}

Test(mailbox, counts_add_up)
{
    open_both("a");
    for (int i = 0; i < 10; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, recv_int(in), i));
    cue_channel_info info = stat_of(out);
    cr_assert(eq(u32, info.kind, CUE_MAILBOX));
    cr_assert(eq(u32, info.depth, 1024));
    cr_assert(eq(u64, info.queued, 6));
    cr_assert(eq(u64, info.sent, 10));
    cr_assert(eq(u64, info.received, 4));
    cr_assert(eq(u64, info.peak, 10));
    cr_assert(eq(u64, info.bytes, 4 * sizeof(int)));
    cr_assert(eq(u32, info.users, 1)); /* parties */
    cr_assert(eq(int, info.receiver, getpid()));
}

/* ---- waiting ---- */

Test(mailbox, a_wait_that_ends_says_what_was_missing)
{
    cue_msg m;
    open_both("a?depth=1");
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_MS(5)), CUE_EEMPTY));
    cr_assert(eq(ptr, (void *)(uintptr_t)m.data, NULL));
    cr_assert(eq(int, send_int(out, 1), 0));
    int value = 2;
    cr_assert(eq(int, cue_channel_send(out, CUE_MSG(1, value), CUE_MS(5)), CUE_EFULL));
}

Test(mailbox, a_push_wakes_the_sleeping_receiver)
{
    open_both("a?spin=0");
    struct waiting w = { .ch = in, .wait = CUE_SEC(20) };
    pthread_t thread = wait_begin(&w);
    until_sleeping(out);
    cr_assert(eq(int, send_int(out, 1), 0));
    pthread_join(thread, NULL);
    cr_assert(eq(int, w.result, 0));
    cr_assert(ge(u64, stat_of(out).wakes, 1));
}

Test(mailbox, room_wakes_the_waiting_sender)
{
    open_both("a?depth=1");
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

Test(mailbox, a_send_waits_for_room_in_the_pool)
{
    cue_block most[64];
    unsigned count = 0;
    static char bytes[1 << 20];
    open_both("a");
    while (count < 64 && cue_block_alloc(pool, 1 << 20, NULL, &most[count]) == 0)
        count++;
    cr_assert(lt(u32, count, 64));
    cue_msg m = { .data = bytes, .size = sizeof bytes };
    cr_assert(eq(int, cue_channel_send(out, &m, CUE_NOW), CUE_ENOMEM));
    cr_assert(eq(int, cue_channel_send(out, &m, CUE_MS(150)), CUE_ENOMEM));
    cue_channel_wake(out);
    cr_assert(eq(int, cue_channel_send(out, &m, CUE_SEC(20)), CUE_EINTR));
    CUE_MUST(cue_block_release(&most[0]));
    cr_assert(eq(int, cue_channel_send(out, &m, CUE_SEC(20)), 0));
    for (unsigned i = 1; i < count; i++)
        CUE_MUST(cue_block_release(&most[i]));
}

Test(mailbox, wake_is_sticky_and_ends_a_wait)
{
    cue_msg m;
    open_both("a?spin=0&depth=1");
    cue_channel_wake(in);
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_NOW), CUE_EEMPTY)); /* no wait, so not used up */
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_SEC(20)), CUE_EINTR));
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_MS(1)), CUE_EEMPTY));
    struct waiting receiver = { .ch = in, .wait = CUE_SEC(20) };
    pthread_t thread = wait_begin(&receiver);
    until_sleeping(out);
    cue_channel_wake(in);
    pthread_join(thread, NULL);
    cr_assert(eq(int, receiver.result, CUE_EINTR));
    cr_assert(eq(int, send_int(out, 1), 0));
    struct waiting sender = { .ch = out, .wait = CUE_SEC(20), .sends = true };
    thread = wait_begin(&sender);
    cue_channel_wake(out);
    pthread_join(thread, NULL);
    cr_assert(eq(int, sender.result, CUE_EINTR));
}

Test(mailbox, closing_ends_waits)
{
    open_both("a?spin=0&depth=1");
    struct waiting receiver = { .ch = in, .wait = CUE_FOREVER };
    pthread_t thread = wait_begin(&receiver);
    until_sleeping(out);
    cue_channel_close(in);
    in = NULL;
    pthread_join(thread, NULL);
    cr_assert(eq(int, receiver.result, CUE_ECLOSED));
    cr_assert(eq(int, send_int(out, 1), 0));
    struct waiting sender = { .ch = out, .wait = CUE_FOREVER, .sends = true };
    thread = wait_begin(&sender);
    struct mailbox_channel *ch = (struct mailbox_channel *)(void *)out;
    while (!atomic_load(&ch->waiting))
        sched_yield();
    CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &in));
    cue_channel_close(out);
    out = NULL;
    pthread_join(thread, NULL);
    cr_assert(eq(int, sender.result, CUE_ECLOSED));
}

Test(mailbox, one_thread_receives_at_a_time)
{
    cue_msg m;
    open_both("a?spin=0");
    struct waiting receiver = { .ch = in, .wait = CUE_SEC(20) };
    pthread_t thread = wait_begin(&receiver);
    until_sleeping(out);
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_NOW), CUE_EBUSY));
    cr_assert(eq(int, send_int(out, 1), 0));
    pthread_join(thread, NULL);
    cr_assert(eq(int, receiver.result, 0));
}

static void nothing(int signal)
{
    (void)signal;
}

Test(mailbox, a_signal_ends_a_wait)
{
    open_both("a?spin=0");
    sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = nothing }, NULL);
    struct waiting receiver = { .ch = in, .wait = CUE_SEC(20) };
    pthread_t thread = wait_begin(&receiver);
    until_sleeping(out);
    while (!atomic_load(&receiver.ended) && pthread_kill(thread, SIGUSR1) == 0)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    pthread_join(thread, NULL);
    cr_assert(eq(int, receiver.result, CUE_EINTR));
}

Test(mailbox, a_destroyed_pool_ends_waits)
{
    cue_pool *other;
    cue_channel *ch;
    char where[128];
    const char *name = test_name("destroyed");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 1 << 20 }, &other));
    snprintf(where, sizeof where, "shm://%s/a?spin=0", name);
    CUE_MUST(cue_channel_open(where, CUE_RECV, NULL, &ch));
    struct waiting receiver = { .ch = ch, .wait = CUE_SEC(20) };
    pthread_t thread = wait_begin(&receiver);
    until_sleeping(ch);
    cue_pool_destroy(other);
    pthread_join(thread, NULL);
    cr_assert(receiver.result == CUE_EGONE || receiver.result == CUE_EINVAL);
    cue_channel_close(ch);
    cr_assert(eq(int, test_leftovers(name), 0));
}

/* ---- lanes ---- */

static uint64_t lanes(void)
{
    uint64_t cursor = 0, count = 0;
    cue_block_info info;
    while (cue_block_next(pool, POOL_TYPE_LANE, &cursor, &info) == 1)
        count++;
    return count;
}

Test(mailbox, a_lane_stays_while_it_holds_messages)
{
    CUE_MUST(cue_channel_open(lane("a"), CUE_SEND, NULL, &out));
    cr_assert(eq(int, send_int(out, 1), 0));
    cue_channel_close(out);
    cr_assert(eq(u64, lanes(), 1));
    CUE_MUST(cue_channel_open(lane("a?depth=7"), CUE_RECV, NULL, &in));
    cr_assert(eq(u32, stat_of(in).depth, 1024)); /* it is as it was made */
    cr_assert(eq(int, recv_int(in), 1));
    cue_channel_close(in);
    cr_assert(eq(u64, lanes(), 0));
    CUE_MUST(cue_channel_open(lane("a?depth=7"), CUE_RECV, NULL, &in));
    cr_assert(eq(u32, stat_of(in).depth, 7));
    out = NULL;
}

static void *open_and_close(void *arg)
{
    int value = 1, *failed = arg;
    cue_channel *ch;
    for (int i = 0; i < 300; i++) {
        if (cue_channel_open(url, CUE_SEND, NULL, &ch) || cue_channel_send(ch, CUE_MSG(1, value), CUE_NOW))
            ++*failed;
        cue_channel_close(ch);
    }
    return NULL;
}

Test(mailbox, openers_and_last_closers_meet)
{
    pthread_t threads[3];
    int failed[3] = { 0 }, got = 0;
    lane("a?depth=10k");
    for (int i = 0; i < 3; i++)
        pthread_create(&threads[i], NULL, open_and_close, &failed[i]);
    for (int64_t end = test_now_ms() + test_ms(60000); got < 900 && test_now_ms() < end;) {
        cue_channel *ch;
        if (cue_channel_open(url, CUE_RECV, NULL, &ch))
            break;
        while (recv_int(ch) == 1)
            got++;
        cue_channel_close(ch); /* empty: now and then the last one out */
    }
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    cr_assert(eq(int, failed[0] + failed[1] + failed[2], 0));
    CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &in));
    while (recv_int(in) == 1)
        got++;
    cr_assert(eq(int, got, 900));
}

Test(mailbox, its_kind_is_not_asked_again)
{
    cue_channel *late;
    open_both("a");
    struct lane_head *head = &((struct mailbox_channel *)(void *)in)->box->lane;
    for (uint32_t kind = 0; kind < 100; kind += kind == CUE_TOPIC ? 90 : 1) {
        head->kind = kind;
        cr_assert(eq(u32, stat_of(in).kind, CUE_MAILBOX));
        cr_assert(eq(int, send_int(out, 1), 0));
        cr_assert(eq(int, recv_int(in), 1));
    }
    cr_assert(eq(int, cue_channel_open(lane("a"), CUE_SEND, NULL, &late), CUE_ECORRUPT));
    head->kind = CUE_MAILBOX;
}

Test(mailbox, a_damaged_chain_is_an_error)
{
    cue_msg m;
    open_both("a");
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, recv_int(in), 0));
    struct mailbox *box = ((struct mailbox_channel *)(void *)in)->box;
    uint64_t head = atomic_load(&box->head);
    cue_channel *other;
    ((struct mailbox_channel *)(void *)in)->count = 0; /* forget the walk */
    atomic_store(&box->head, head_word(0x7ffffff, position(head), 0));
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_NOW), CUE_ECORRUPT));
    cr_assert(ne(str, (char *)(uintptr_t)cue_trail(), ""));
    atomic_store(&box->head, head);
    cr_assert(eq(int, cue_channel_open(url, CUE_RECV, NULL, &other), CUE_EBUSY));
    cr_assert(eq(int, recv_int(in), 1));
    cr_assert(eq(int, recv_int(in), 2));
}

Test(mailbox, an_idle_lane_takes_little)
{
    open_both("a");
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(le(u64, info.used, 2048));
}

/* ---- several processes ---- */

Test(mailbox, goes_to_a_sleeping_process)
{
    lane("a?spin=0");
    struct cast sleeper = cast_start("mailbox_sleeper", url);
    cr_assert(eq(int, cast_hear(&sleeper, 5000), 's'));
    CUE_MUST(cue_channel_open(url, CUE_SEND, NULL, &out));
    until_sleeping(out);
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .data = "!", .size = 1 }, CUE_NOW), 0));
    cr_assert(eq(int, cast_hear(&sleeper, 5000), '!'));
    cr_assert(eq(int, cast_wait(&sleeper, 5000), 0));
}

Test(mailbox, the_next_receiver_goes_on_where_a_killed_one_was)
{
    lane("a");
    struct cast receiver = cast_start("mailbox_receiver", url);
    cr_assert(eq(int, cast_hear(&receiver, 5000), 'r'));
    CUE_MUST(cue_channel_open(url, CUE_SEND, NULL, &out));
    for (int i = 0; i < 10; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    for (int i = 0; i < 3; i++) {
        cast_say(&receiver, 'n');
        cr_assert(eq(int, cast_hear(&receiver, 5000), i));
    }
    cr_assert(eq(int, cue_channel_open(url, CUE_RECV, NULL, &in), CUE_EBUSY));
    struct cast second = cast_start("mailbox_receiver", url);
    cr_assert(eq(int, cast_hear(&second, 5000), 'b'));
    cast_wait(&second, 5000);
    cast_kill(&receiver); /* with three messages in hand */
    CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &in));
    for (int i = 3; i < 10; i++)
        cr_assert(eq(int, recv_int(in), i));
    cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
    cr_assert(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    cr_assert(eq(u64, blocks(), 1)); /* the lane: what the dead one held is freed */
}

Test(mailbox, messages_outlive_their_sender)
{
    open_both("a");
    struct cast sender = cast_start("mailbox_sender", url);
    cr_assert(eq(int, cast_hear(&sender, 5000), 'r'));
    for (int i = 0; i < 5; i++) {
        cast_say(&sender, 'n');
        cr_assert(eq(int, cast_hear(&sender, 5000), 'k'));
    }
    cast_kill(&sender);
    cr_assert(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    struct cast leaver = cast_start("mailbox_sender", url);
    cr_assert(eq(int, cast_hear(&leaver, 5000), 'r'));
    cast_say(&leaver, 'n');
    cr_assert(eq(int, cast_hear(&leaver, 5000), 'k'));
    cast_say(&leaver, 'e');
    cr_assert(eq(int, cast_wait(&leaver, 5000), 0));
    for (int i = 1; i <= 5; i++)
        cr_assert(eq(int, recv_int(in), i));
    cr_assert(eq(int, recv_int(in), 1));
}

Test(mailbox, a_stopped_process_stops_nobody)
{
    lane("a?depth=4");
    struct cast receiver = cast_start("mailbox_receiver", url);
    cr_assert(eq(int, cast_hear(&receiver, 5000), 'r'));
    struct cast sender = cast_start("mailbox_sender", url);
    cr_assert(eq(int, cast_hear(&sender, 5000), 'r'));
    cr_assert(cast_stop(&receiver));
    cr_assert(cast_stop(&sender));
    CUE_MUST(cue_channel_open(url, CUE_SEND, NULL, &out));
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, send_int(out, 4), CUE_EFULL)); /* but nobody else receives: it lives */
    cr_assert(eq(int, cue_channel_open(url, CUE_RECV, NULL, &in), CUE_EBUSY));
    cast_kill(&receiver);
    CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &in));
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, recv_int(in), i));
    cr_assert(cast_continue(&sender));
    cast_say(&sender, 'n');
    cr_assert(eq(int, cast_hear(&sender, 5000), 'k'));
    cr_assert(eq(int, recv_int(in), 1));
    cast_say(&sender, 'e');
    cr_assert(eq(int, cast_wait(&sender, 5000), 0));
}

Test(mailbox, a_forked_child_sends_but_does_not_receive)
{
    struct cast forker = cast_start("mailbox_forker", lane("a"));
    cr_assert(eq(int, cast_wait(&forker, 10000), 0));
}

Test(mailbox, lanes_of_the_dead_go)
{
    struct cast receiver = cast_start("mailbox_receiver", lane("a"));
    cr_assert(eq(int, cast_hear(&receiver, 5000), 'r'));
    cr_assert(eq(u64, lanes(), 1));
    cast_kill(&receiver);
    cr_assert(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    cr_assert(eq(u64, lanes(), 0));
}
