/* Socket lanes: what goes through, how it is batched, what happens when an end is missing, full, closed, forked or destroyed.
 * budget: 90 s */
#include "tests/harness.h"
#include "tests/stat_of.h"

#include "channels/channel_internal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight.h>
#include <pthread.h>
#include <sys/stat.h>

static const char *name;
static char folder[TEST_PATH], url[120], path[100];
static cue_pool *pool;

static void set_up(void)
{
    cr_assert(test_folder(folder));
    setenv("CUE_DIR", folder, 1);
    name = test_name("nng");
    snprintf(path, sizeof path, "%s/lane", folder);
    snprintf(url, sizeof url, "ipc://%s", path);
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 8 << 20, .flags = CUE_CREATE }, &pool));
}

static void tear_down(void)
{
    cue_pool_info info;
    if (cue_pool_stat(pool, &info) == 0) {
        cr_assert(eq(u64, info.blocks, 0));
        cr_assert(eq(u64, info.in_flight, 0));
    }
    cue_pool_close(pool);
    cr_assert(eq(int, rmdir(folder), 0), "%s is not empty", folder);
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(nng_lane, .init = set_up, .fini = tear_down);

static cue_channel *open_with(const char *where, unsigned how, cue_channel_opts opts)
{
    cue_channel *ch;
    opts.pool = pool;
    if (!opts.linger.ns)
        opts.linger = CUE_MS(test_ms(10000)); /* a slow machine is not what is tested */
    CUE_MUST(cue_channel_open(where, how, &opts, &ch));
    return ch;
}

static cue_channel *open_lane(unsigned how)
{
    return open_with(url, how, (cue_channel_opts){ 0 });
}

static cue_block block_of(uint64_t value)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, 64, &(cue_block_opts){ .type = 5 }, &b));
    memcpy(b.data, &value, sizeof value);
    return b;
}

/* Sends one of bytes alone, receives one. */
static void send_number(cue_channel *ch, uint64_t value)
{
    CUE_MUST(cue_channel_send(ch, &(cue_msg){ .type = 1, .data = &value, .size = sizeof value }, CUE_SEC(10)));
}

static uint64_t receive_number(cue_channel *ch)
{
    cue_msg m;
    uint64_t value;
    CUE_MUST(cue_channel_recv(ch, &m, CUE_SEC(10)));
    memcpy(&value, m.data, sizeof value);
    cue_msg_release(&m);
    return value;
}

Test(nng_lane, bytes_arrive_in_order_with_all_their_words)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    for (uint64_t i = 0; i < 300; i++)
        CUE_MUST(cue_channel_send(
            s, &(cue_msg){ .type = 7, .status = -3, .tag = i, .key = ~i, .from = { 1, 2, 3, (uint32_t)i }, .data = &i, .size = sizeof i },
            CUE_SEC(10)));
    for (uint64_t i = 0; i < 300; i++) {
        cue_msg m;
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
        cr_assert(eq(u32, m.type, 7));
        cr_assert(eq(int, m.status, -3));
        cr_assert(eq(u64, m.tag, i));
        cr_assert(eq(u64, m.key, ~i));
        cr_assert(eq(int, cue_ref_same(m.from, (cue_ref){ 1, 2, 3, (uint32_t)i }), true));
        cr_assert(eq(sz, m.size, sizeof i));
        cr_assert(eq(int, memcmp(m.data, &i, sizeof i), 0));
        cr_assert(eq(u64, (uintptr_t)m.data % 16, 0));
        cr_assert(eq(ptr, m.block.data, NULL));
        cue_msg_release(&m);
    }
    cue_channel_info info = stat_of(r);
    cr_assert(eq(u64, info.copied, 300 * sizeof(uint64_t)));
    cr_assert(eq(u64, info.gaps + info.dropped + info.refused, 0));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_lane, a_moved_block_arrives_as_it_was_and_nothing_is_copied)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    cue_block b = block_of(42);
    void *place = b.data;
    cue_pool_info info;
    cue_msg m;
    cr_assert(eq(ptr, cue_channel_pool(s), pool));
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .move = &b }, CUE_NOW));
    cr_assert(eq(ptr, b.data, NULL));
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cr_assert(eq(ptr, m.block.data, place));
    cr_assert(eq(ptr, (void *)(uintptr_t)m.data, place));
    cr_assert(eq(sz, m.size, 64));
    cr_assert(eq(u32, m.type, 5)); /* the block's */
    cue_block mine = cue_move(&m.block);
    cue_msg_release(&m);
    cr_assert(eq(int, cue_block_publish(&mine, 0), 0), "an owner arrived: %s", cue_trail());
    cr_assert(eq(int, cue_block_free(&mine), 0));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.copied, 0));
    send_number(s, 1);
    receive_number(r);
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(gt(u64, info.copied, 0));
    cue_channel_close(s);
    cue_channel_close(r);
}

Test(nng_lane, bytes_and_a_block_go_together)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    cue_block b = block_of(42);
    cue_msg m;
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .type = 3, .data = "with", .size = 4, .move = &b }, CUE_NOW));
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cr_assert(eq(int, memcmp(m.data, "with", 4), 0));
    cr_assert(eq(sz, m.size, 4));
    cr_assert(eq(sz, m.block.size, 64));
    cue_msg_release(&m);
    cue_channel_close(s);
    cue_channel_close(r);
}

Test(nng_lane, a_view_arrives_as_a_view_of_that_part_or_says_that_it_is_gone)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    cue_block b = block_of(1), view;
    cue_msg m;
    CUE_MUST(cue_block_view(&b, 8, 16, &view));
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .move = &view }, CUE_NOW));
    cr_assert(eq(ptr, view.data, NULL));
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cr_assert(eq(ptr, m.block.data, (char *)b.data + 8));
    cr_assert(eq(sz, m.block.size, 16));
    cr_assert(eq(int, cue_block_publish(&m.block, 0), CUE_ENOTOWNER));
    cue_msg_release(&m);
    CUE_MUST(cue_block_view(&b, 0, SIZE_MAX, &view));
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = 9, .move = &view }, CUE_NOW));
    cr_assert(eq(int, cue_block_release(&b), 0));
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cr_assert(eq(int, m.status, CUE_ESTALE));
    cr_assert(eq(u64, m.tag, 9));
    cr_assert(eq(ptr, m.block.data, NULL));
    cue_msg_release(&m);
    cr_assert(eq(u64, stat_of(r).dropped, 1));
    cue_channel_close(s);
    cue_channel_close(r);
}

Test(nng_lane, many_messages_go_in_few_packets_and_single_ones_in_their_own)
{
    enum { MANY = 1000 };
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND),
                *single = open_with(url, CUE_SEND, (cue_channel_opts){ .flush = CUE_NS(-1) });
    static cue_msg m[MANY], got[MANY];
    static uint64_t numbers[MANY];
    for (uint64_t i = 0; i < MANY; i++)
        m[i] = (cue_msg){ .tag = i, .data = &numbers[i], .size = 8 };
    cr_assert(eq(int, cue_channel_send_many(s, m, MANY, CUE_SEC(10)), MANY));
    for (int have = 0; have < MANY;) {
        int n = cue_channel_recv_many(r, got, MANY, CUE_SEC(10));
        cr_assert(gt(int, n, 0));
        for (int i = 0; i < n; i++, have++) {
            cr_assert(eq(u64, got[i].tag, (uint64_t)have));
            cue_msg_release(&got[i]);
        }
    }
    cr_assert(eq(int, cue_channel_close(s), 0));
    uint64_t packets = stat_of(r).batches;
    cr_assert(le(u64, packets, 4));
    for (uint64_t i = 0; i < 100; i++)
        send_number(single, i);
    for (uint64_t i = 0; i < 100; i++)
        cr_assert(eq(u64, receive_number(r), i));
    cr_assert(eq(u64, stat_of(r).batches, packets + 100));
    cr_assert(eq(u64, stat_of(single).batches, 100));
    cue_channel_close(single);
    cue_channel_close(r);
}

Test(nng_lane, what_is_not_a_full_batch_goes_when_its_time_has_come)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_with(url, CUE_SEND, (cue_channel_opts){ .flush = CUE_MS(test_ms(300)) });
    send_number(s, 0);
    cr_assert(eq(u64, receive_number(r), 0)); /* connected, nothing under way */
    for (int i = 0; i < 20000 && stat_of(s).queued; i++)
        poll(NULL, 0, 1);
    send_number(s, 1); /* at once; from here on nobody receives, so nothing is acknowledged */
    send_number(s, 2);
    send_number(s, 3);
    for (int i = 0; i < 20000 && stat_of(s).batches < 3; i++)
        poll(NULL, 0, 1);
    cr_assert(eq(u64, stat_of(s).batches, 3));
    for (uint64_t i = 1; i < 4; i++)
        cr_assert(eq(u64, receive_number(r), i));
    cue_channel_close(s);
    cue_channel_close(r);
}

Test(nng_lane, a_sender_may_come_first_and_is_bounded)
{
    cue_channel *s = open_with(url, CUE_SEND, (cue_channel_opts){ .depth = 8 }),
                *drops = open_with(url, CUE_SEND, (cue_channel_opts){ .depth = 2, .full = CUE_DROP_NEW });
    for (uint64_t i = 0; i < 8; i++)
        send_number(s, i);
    cue_block b = block_of(8);
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .move = &b }, CUE_NOW), CUE_EFULL));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .move = &b }, CUE_MS(20)), CUE_EFULL));
    cr_assert(eq(u64, stat_of(s).refused, 2));
    cr_assert(ne(ptr, b.data, NULL), "still the caller's");
    for (int i = 0; i < 4; i++) {
        cue_block more = block_of(8);
        cr_assert(eq(int, cue_channel_send(drops, &(cue_msg){ .move = &more }, CUE_NOW), 0));
    }
    cr_assert(eq(u64, stat_of(drops).dropped, 2));
    cue_channel *r = open_lane(CUE_RECV);
    int numbers = 0, blocks = 0;
    while (numbers + blocks < 10) {
        cue_msg m;
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
        if (m.block.data)
            blocks++;
        else
            cr_assert(eq(u64, *(const uint64_t *)m.data, (uint64_t)numbers++));
        cue_msg_release(&m);
    }
    cr_assert(eq(int, blocks, 2));
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .move = &b }, CUE_SEC(10)));
    cue_msg m;
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cue_msg_release(&m);
    cue_channel_close(s);
    cue_channel_close(drops);
    cue_channel_close(r);
}

static void comes(cue_channel *r, uint64_t number, uint32_t gap)
{
    cue_msg m;
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cr_assert(eq(u64, *(const uint64_t *)m.data, number));
    cr_assert(eq(u32, m.gap, gap), "before %lu", number);
    cue_msg_release(&m);
}

static void send_now(cue_channel *s, uint64_t number)
{
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .data = &number, .size = sizeof number }, CUE_NOW), 0), "%s", cue_trail());
}

Test(nng_lane, a_receiver_sees_what_a_sender_dropped)
{
    cue_channel *s = open_with(url, CUE_SEND, (cue_channel_opts){ .depth = 2, .full = CUE_DROP_NEW });
    for (uint64_t i = 0; i < 5; i++)
        send_now(s, i);
    cr_assert(eq(u64, stat_of(s).dropped, 3));
    cue_channel *r = open_lane(CUE_RECV);
    comes(r, 0, 0);
    comes(r, 1, 0);
    for (int round = 1; round < 20; round++) { /* the window goes round */
        for (int i = 0; i < 20000 && stat_of(s).queued; i++)
            poll(NULL, 0, 1);
        cr_assert(eq(u64, stat_of(s).queued, 0));
        for (uint64_t i = 0; i < 4; i++)
            send_now(s, i);
        comes(r, 0, round == 1 ? 3 : 2);
        comes(r, 1, 0);
        cr_assert(eq(u64, stat_of(r).gaps, 3 + 2 * (uint64_t)(round - 1)));
    }
    cr_assert(eq(u64, stat_of(s).sent, 2 * 20));
    cr_assert(eq(u64, stat_of(r).received, 2 * 20));
    for (int i = 0; i < 20000 && stat_of(s).queued; i++)
        poll(NULL, 0, 1);
    cr_assert(eq(int, cue_channel_close(s), 0));
    cue_channel_close(r);
}

Test(nng_lane, closing_without_a_receiver_frees_and_says_so)
{
    cue_channel *s = open_with(url, CUE_SEND, (cue_channel_opts){ .linger = CUE_MS(50) });
    cue_block b = block_of(1), kept = block_of(2), view;
    CUE_MUST(cue_block_view(&kept, 0, SIZE_MAX, &view));
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .move = &b }, CUE_NOW));
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .move = &view }, CUE_NOW));
    send_number(s, 1);
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
    cr_assert(ne(int, strstr(cue_trail(), "3 messages") != NULL, 0), "%s", cue_trail());
    cr_assert(eq(int, cue_block_release(&kept), 0));
}

Test(nng_lane, what_a_closed_receiver_had_not_handed_out_goes_to_the_next)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    for (uint64_t i = 0; i < 100; i++) {
        cue_block b = block_of(i);
        CUE_MUST(
            cue_channel_send(s, i % 2 ? &(cue_msg){ .tag = i, .move = &b } : &(cue_msg){ .tag = i, .data = &i, .size = 8 }, CUE_SEC(20)));
        if (!(i % 2))
            cue_block_release(&b);
    }
    for (uint64_t i = 0; i < 100; i++) {
        cue_msg m;
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
        cr_assert(eq(u64, m.tag, i));
        cue_msg_release(&m);
        if (i % 10 == 7) {
            cr_assert(eq(int, cue_channel_close(r), 0));
            r = open_lane(CUE_RECV);
        }
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cue_channel_close(r);
}

struct stream {
    uint64_t id;
    int failed;
};

static void *send_stream(void *arg)
{
    struct stream *stream = arg;
    cue_channel *s = open_lane(CUE_SEND);
    for (uint64_t i = 0; i < 5000; i++) {
        cue_block b = block_of(i);
        if (cue_channel_send(s, &(cue_msg){ .tag = stream->id, .move = &b }, CUE_SEC(20)))
            stream->failed = 1;
    }
    stream->failed |= cue_channel_close(s) != 0;
    return NULL;
}

/* A receiver that does something else for some seconds is slow and not gone: its sender keeps the connection. */
Test(nng_lane, a_receiver_that_pauses_keeps_its_senders_connection)
{
    char where[60];
    snprintf(where, sizeof where, "tcp://127.0.0.1:%d", test_port());
    cue_channel *in = open_with(where, CUE_RECV, (cue_channel_opts){ 0 }), *out = open_with(where, CUE_SEND, (cue_channel_opts){ 0 });
    send_number(out, 0);
    cr_assert(eq(u64, receive_number(in), 0));
    int before = test_descriptors();
    for (uint64_t i = 1; i <= 3; i++)
        send_number(out, i);
    for (int64_t end = test_now_ms() + 4000; test_now_ms() < end;)
        poll(NULL, 0, 100);
    cr_expect(le(int, test_descriptors(), before + 4), "each connection anew keeps two");
    cr_expect(eq(u64, stat_of(out).resent, 0));
    for (uint64_t i = 1; i <= 3; i++)
        cr_assert(eq(u64, receive_number(in), i));
    cr_expect(eq(u64, stat_of(in).gaps, 0));
    cr_assert(eq(int, cue_channel_close(out), 0));
    cr_assert(eq(int, cue_channel_close(in), 0));
}

Test(nng_lane, several_senders_each_keep_their_order)
{
    enum { SENDERS = 3 };
    cue_channel *r = open_lane(CUE_RECV);
    struct stream streams[SENDERS] = { { 0, 0 }, { 1, 0 }, { 2, 0 } };
    pthread_t threads[SENDERS];
    uint64_t next[SENDERS] = { 0 };
    for (int i = 0; i < SENDERS; i++)
        cr_assert(eq(int, pthread_create(&threads[i], NULL, send_stream, &streams[i]), 0));
    for (int i = 0; i < SENDERS * 5000; i++) {
        cue_msg m;
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        cr_assert(eq(u64, *(const uint64_t *)m.data, next[m.tag]++));
        cue_msg_release(&m);
    }
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert(eq(int, streams[i].failed, 0));
    }
    cue_channel_close(r);
}

struct waiter {
    cue_channel *ch;
    int status;
    _Atomic pid_t thread;
};

static void *wait_to_receive(void *arg)
{
    struct waiter *w = arg;
    cue_msg m;
    atomic_store(&w->thread, gettid());
    w->status = cue_channel_recv(w->ch, &m, CUE_SEC(20));
    return NULL;
}

static void *wait_to_send(void *arg)
{
    struct waiter *w = arg;
    atomic_store(&w->thread, gettid());
    w->status = cue_channel_send(w->ch, &(cue_msg){ .data = "x", .size = 1 }, CUE_SEC(20));
    return NULL;
}

static pthread_t wait_begin(struct waiter *w, void *(*wait)(void *))
{
    pthread_t thread;
    atomic_store(&w->thread, 0);
    pthread_create(&thread, NULL, wait, w);
    while (!atomic_load(&w->thread))
        sched_yield();
    cr_assert(test_until_asleep(w->thread));
    return thread;
}

Test(nng_lane, a_wait_ends_when_it_is_woken_or_the_channel_closes)
{
    cue_msg m;
    struct waiter w = { .ch = open_lane(CUE_RECV) };
    cue_channel_wake(w.ch); /* before: the next one */
    cr_assert(eq(int, cue_channel_recv(w.ch, &m, CUE_SEC(20)), CUE_EINTR));
    cr_assert(eq(int, cue_channel_recv(w.ch, &m, CUE_NOW), CUE_EEMPTY));
    pthread_t thread = wait_begin(&w, wait_to_receive);
    cue_channel_wake(w.ch); /* during it */
    pthread_join(thread, NULL);
    cr_assert(eq(int, w.status, CUE_EINTR));
    thread = wait_begin(&w, wait_to_receive);
    cr_assert(eq(int, cue_channel_close(w.ch), 0));
    pthread_join(thread, NULL);
    cr_assert(eq(int, w.status, CUE_ECLOSED));

    w.ch = open_with("ipc://nobody", CUE_SEND, (cue_channel_opts){ .depth = 1, .linger = CUE_NS(-1) });
    CUE_MUST(cue_channel_send(w.ch, &(cue_msg){ .data = "x", .size = 1 }, CUE_NOW));
    cue_channel_wake(w.ch);
    cr_assert(eq(int, cue_channel_send(w.ch, &(cue_msg){ .data = "x", .size = 1 }, CUE_SEC(20)), CUE_EINTR));
    thread = wait_begin(&w, wait_to_send);
    cr_assert(eq(int, cue_channel_close(w.ch), CUE_ETIMEDOUT));
    pthread_join(thread, NULL);
    cr_assert(eq(int, w.status, CUE_ECLOSED));
}

Test(nng_lane, a_forked_child_is_told_and_nng_is_not_touched)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    send_number(s, 1);
    cr_assert(eq(u64, receive_number(r), 1));
    pid_t child = fork();
    if (child == 0) {
        cue_msg m;
        cue_channel_info info;
        int wrong = 0;
        wrong |= cue_channel_send(s, &(cue_msg){ .data = "x", .size = 1 }, CUE_NOW) != CUE_EFORK;
        wrong |= (cue_channel_recv(r, &m, CUE_NOW) != CUE_EFORK) << 1;
        wrong |= (cue_channel_stat(s, &info) != CUE_EFORK) << 2;
        cue_channel_wake(r);
        wrong |= (cue_channel_close(s) != CUE_EFORK) << 3;
        wrong |= (cue_channel_close(r) != CUE_EFORK) << 4;
        _exit(wrong);
    }
    int status = 0;
    waitpid(child, &status, 0);
    cr_assert(eq(int, !!WIFEXITED(status), 1));
    cr_assert(eq(int, WEXITSTATUS(status), 0));
    send_number(s, 2);
    cr_assert(eq(u64, receive_number(r), 2), "the parent goes on");
    cue_channel_close(s);
    cue_channel_close(r);
}

Test(nng_lane, the_sockets_file_is_ours_alone_and_goes_with_the_receiver)
{
    struct stat st;
    cue_channel *r = open_lane(CUE_RECV), *other = NULL;
    cr_assert(eq(int, stat(path, &st), 0));
    cr_assert(eq(u32, st.st_mode & 0777, 0600));
    cr_assert(eq(int, cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool }, &other), CUE_EBUSY));
    cr_assert(eq(ptr, other, NULL));
    cue_channel_close(r);
    cr_assert(ne(int, stat(path, &st), 0));
    setenv("CUE_DIR", "", 1);
    setenv("XDG_RUNTIME_DIR", folder, 1);
    r = open_with("ipc://by-name", CUE_RECV, (cue_channel_opts){ 0 });
    char made[100];
    snprintf(made, sizeof made, "%s/cuelight", folder);
    cr_assert(eq(int, stat(made, &st), 0));
    cr_assert(eq(u32, st.st_mode & 0777, 0700));
    cue_channel_close(r);
    chmod(made, 0777);
    cr_assert(eq(int, cue_channel_open("ipc://by-name", CUE_RECV, &(cue_channel_opts){ .pool = pool }, &r), CUE_EPERM));
    rmdir(made);
}

Test(nng_lane, the_file_of_a_killed_receiver_is_replaced)
{
    struct cast dead = cast_start("nng_listen", url, name);
    cr_assert(eq(int, cast_hear(&dead, 10000), 'r'));
    cast_kill(&dead);
    cr_assert(eq(int, access(path, F_OK), 0), "the test shows nothing");
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    send_number(s, 3);
    cr_assert(eq(u64, receive_number(r), 3));
    cue_channel_close(s);
    cue_channel_close(r);
}

Test(nng_lane, what_makes_no_sense_is_refused_with_a_trail)
{
    static const struct {
        const char *url;
        unsigned how;
        int status;
    } rows[] = {
        { "ipc://", CUE_RECV, CUE_EINVAL },
        { "ipc://@", CUE_RECV, CUE_EINVAL },
        { "ipc://@a/b", CUE_RECV, CUE_EINVAL },
        { "ipc://a/b", CUE_RECV, CUE_EINVAL },
        { "ipc:///nowhere/at/all", CUE_RECV, CUE_ENOENT },
        { "ipc:///tmp/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012", CUE_SEND,
          CUE_EINVAL },
        { "ipc://x", CUE_RECV | CUE_SEND, CUE_EINVAL },
        { "ipc://x?kind=queue", CUE_SEND, CUE_ETYPE },
        { "ipc://x?role=1", CUE_SEND, CUE_ENOSYS },
        { "ipc://x?full=drop", CUE_SEND, CUE_EINVAL },
        { "ipc://x?depth=2M", CUE_SEND, CUE_EINVAL },
        { "ipc://x?max=2G", CUE_SEND, CUE_ETOOBIG },
        { "tls+tcp://127.0.0.1:1", CUE_SEND, CUE_EINVAL },
        { "tls+tcp://127.0.0.1:1?ca=/nowhere&cert=/nowhere&key=/nowhere", CUE_SEND, CUE_ENOENT },
        { "tls+tcp://127.0.0.1:1?ca=/dev/null&cert=/dev/null&key=/dev/null", CUE_SEND, CUE_EINVAL },
        { "ws://localhost", CUE_SEND, CUE_EINVAL },
        { "tcp://127.0.0.1:1?ca=x", CUE_SEND, CUE_EINVAL },
        { "tcp://127.0.0.1:1?users=any", CUE_SEND, CUE_EINVAL },
        { "ipc://x?users=root", CUE_SEND, CUE_EINVAL },
        { "ipc://x?users=", CUE_SEND, CUE_EINVAL },
        { "tcp://", CUE_SEND, CUE_EINVAL },
        { "tcp://127.0.0.1:0", CUE_RECV, CUE_EINVAL },
        { "ws://127.0.0.1:0/lane", CUE_RECV, CUE_EINVAL },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cue_channel *ch = (cue_channel *)1;
        cr_expect(eq(int, cue_channel_open(rows[i].url, rows[i].how, &(cue_channel_opts){ .pool = pool }, &ch), rows[i].status), "%s: %s",
                  rows[i].url, cue_trail());
        cr_expect(eq(ptr, ch, NULL));
        cr_expect(gt(sz, strlen(cue_trail()), 10), "%s: %s", rows[i].url, cue_trail());
    }
}

Test(nng_lane, what_may_not_be_sent_stays_with_its_caller)
{
    cue_channel *s = open_with(url, CUE_SEND, (cue_channel_opts){ .max = 100, .type = 5, .linger = CUE_NS(-1) });
    const char *second = test_name("other");
    char big[101] = "";
    cue_pool *other;
    cue_block b = block_of(1), foreign, moved = { 0 };
    CUE_MUST(cue_pool_open(second, &(cue_pool_opts){ .size = 1 << 20, .flags = CUE_CREATE }, &other));
    CUE_MUST(cue_block_alloc(other, 10, &(cue_block_opts){ .type = 5 }, &foreign));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = 5, .data = big, .size = sizeof big }, CUE_NOW), CUE_ETOOBIG));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = 6, .data = big, .size = 1 }, CUE_NOW), CUE_ETYPE));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = CUE_DOWN, .data = big, .size = 1 }, CUE_NOW), CUE_ETYPE));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = 6, .move = &b }, CUE_NOW), CUE_ETYPE));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = 5, .size = 1 }, CUE_NOW), CUE_EINVAL));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = 5, .move = &moved }, CUE_NOW), CUE_EMOVED));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = 5, .move = &foreign }, CUE_NOW), CUE_ENOTOWNER));
    cr_assert(ne(ptr, b.data, NULL));
    cr_assert(ne(ptr, foreign.data, NULL));
    cr_assert(eq(u64, stat_of(s).sent, 0));
    cue_block alias = b;
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = 5, .move = &b }, CUE_NOW), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .type = 5, .move = &alias }, CUE_NOW), CUE_ENOTOWNER));
    cue_block_release(&foreign);
    cue_pool_close(other);
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
}

Test(nng_lane, a_receivers_limit_does_not_break_the_connection)
{
    cue_channel *s = open_lane(CUE_SEND);
    static char big[300000];
    memset(big, 'b', sizeof big);
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .data = big, .size = sizeof big }, CUE_NOW)); /* nobody has said yet that it is too big */
    send_number(s, 7);
    cue_channel *r = open_with(url, CUE_RECV, (cue_channel_opts){ .max = 1000 });
    cr_assert(eq(u64, receive_number(r), 7));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .data = big, .size = 1001 }, CUE_NOW), CUE_ETOOBIG));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cue_channel_close(r);
    s = open_lane(CUE_SEND);
    r = open_lane(CUE_RECV);
    for (int i = 0; i < 10; i++) {
        cue_msg m;
        CUE_MUST(cue_channel_send(s, &(cue_msg){ .data = big, .size = sizeof big }, CUE_SEC(20)));
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        cr_assert(eq(sz, m.size, sizeof big));
        cr_assert(eq(int, memcmp(m.data, big, sizeof big), 0));
        cue_msg_release(&m);
    }
    cue_channel_close(s);
    cue_channel_close(r);
}

Test(nng_lane, a_full_pool_keeps_the_message_for_later)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    static char bytes[64 << 10];
    cue_block hog[2000], last;
    cue_msg m;
    int n = 0;
    while (n < 1000 && cue_block_alloc(pool, 64 << 10, NULL, &hog[n]) == 0)
        n++;
    while (n < 2000 && cue_block_alloc(pool, 4096, NULL, &hog[n]) == 0)
        n++;
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .data = bytes, .size = sizeof bytes }, CUE_NOW));
    int status;
    for (int i = 0; i < 500 && (status = cue_channel_recv(r, &m, CUE_MS(20))) == CUE_EEMPTY;)
        i++;
    cr_assert(eq(int, status, CUE_ENOMEM));
    last = hog[0];
    cr_assert(eq(int, cue_block_release(&last), 0));
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cr_assert(eq(sz, m.size, sizeof bytes));
    cue_msg_release(&m);
    for (int i = 1; i < n; i++)
        cue_block_release(&hog[i]);
    cue_channel_close(s);
    cue_channel_close(r);
}

Test(nng_lane, the_same_goes_through_abstract_inproc_and_tcp)
{
    char where[3][80];
    snprintf(where[0], sizeof where[0], "ipc://@cuetest-%d", (int)getpid());
    snprintf(where[1], sizeof where[1], "inproc://cuetest-%d", (int)getpid());
    snprintf(where[2], sizeof where[2], "tcp://127.0.0.1:%d", test_port());
    for (int i = 0; i < 3; i++) {
        cue_channel *r = open_with(where[i], CUE_RECV, (cue_channel_opts){ 0 }),
                    *s = open_with(where[i], CUE_SEND, (cue_channel_opts){ 0 });
        for (uint64_t n = 0; n < 100; n++) {
            cue_block b = block_of(n);
            cue_msg m;
            CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = n, .move = &b }, CUE_SEC(20)));
            CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
            cr_assert(eq(u64, *(const uint64_t *)m.data, n), "%s", where[i]);
            cue_msg_release(&m);
        }
        cr_assert(eq(int, cue_channel_close(s), 0), "%s: %s", where[i], cue_trail());
        cue_channel_close(r);
    }
}

Test(nng_lane, a_pool_that_is_destroyed_ends_it_with_a_code)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_with(url, CUE_SEND, (cue_channel_opts){ .linger = CUE_MS(20) });
    cue_block b = block_of(1);
    cue_msg m;
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .move = &b }, CUE_NOW));
    CUE_MUST(cue_pool_destroy(pool));
    int sent = cue_channel_send(s, &(cue_msg){ .data = "x", .size = 1 }, CUE_NOW), received = cue_channel_recv(r, &m, CUE_MS(50));
    cr_assert(sent == CUE_EGONE || sent == CUE_EINVAL, "%s", cue_status_name(sent));
    cr_assert(received == CUE_EGONE || received == CUE_EINVAL, "%s", cue_status_name(received));
    cue_channel_close(s);
    cue_channel_close(r);
}

static void *answer_questions(void *arg)
{
    cue_channel *r = arg;
    cue_msg m;
    for (int i = 0; i < 50; i++) {
        uint64_t value;
        if (cue_channel_recv(r, &m, CUE_SEC(20)))
            return arg;
        memcpy(&value, m.data, sizeof value);
        value *= 3;
        if (cue_reply(&m, &(cue_msg){ .type = 9, .data = &value, .size = sizeof value }))
            return arg;
        cue_msg_release(&m);
    }
    return NULL;
}

Test(nng_lane, a_question_through_a_socket_is_answered)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_lane(CUE_SEND);
    pthread_t thread;
    void *failed;
    cue_msg m;
    pthread_create(&thread, NULL, answer_questions, r);
    for (uint64_t i = 0; i < 50; i++) {
        uint64_t value;
        cr_assert(eq(int, cue_channel_ask(s, CUE_MSG(1, i), CUE_SEC(20), &m), 0), "%s", cue_trail());
        memcpy(&value, m.data, sizeof value);
        cr_assert(eq(u64, value, 3 * i));
        cr_assert(eq(u32, m.type, 9));
        cue_msg_release(&m);
    }
    pthread_join(thread, &failed);
    cr_assert(eq(ptr, failed, NULL), "%s", cue_trail());
    uint64_t alone = 1;
    cr_assert(eq(int, cue_channel_ask(s, CUE_MSG(1, alone), CUE_MS(30), &m), CUE_ETIMEDOUT));
    for (int i = 0; i < 1000 && stat_of(s).queued; i++) /* it may still come */
        if (cue_channel_recv(r, &m, CUE_MS(20)) == 0)
            cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

static bool readable(cue_channel *ch, int ms)
{
    struct pollfd p = { .fd = cue_channel_fd(ch), .events = POLLIN };
    cr_assert(ge(int, p.fd, 0), "%s", cue_trail());
    return poll(&p, 1, ms) == 1;
}

Test(nng_lane, both_ends_can_be_polled)
{
    cue_channel *r = open_lane(CUE_RECV), *s = open_with(url, CUE_SEND, (cue_channel_opts){ .depth = 8 });
    cue_msg m;
    cr_assert(readable(s, 0));
    for (uint64_t sent = 0, got = 0; got < 200;) {
        int status = 0;
        while (sent < 200 && (status = cue_channel_send(s, CUE_MSG(1, sent), CUE_NOW)) == 0)
            sent++;
        cr_assert(sent == 200 || status == CUE_EFULL);
        cr_assert(readable(r, test_ms(5000)), "after %lu of %lu", got, sent);
        while (cue_channel_recv(r, &m, CUE_NOW) == 0) {
            cr_assert(eq(int, memcmp(m.data, &got, sizeof got), 0));
            cue_msg_release(&m);
            got++;
        }
        if (sent < 200 && got == sent)
            cr_assert(readable(s, test_ms(5000)), "after %lu of %lu", got, sent);
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_lane, who_connects_may_be_asked_for)
{
    cue_channel *r = open_with(url, CUE_RECV, (cue_channel_opts){ .users = "4294967294" }), *s = open_lane(CUE_SEND);
    cue_peer who;
    cue_msg m;
    send_number(s, 1); /* our own user always may */
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    CUE_MUST(cue_msg_peer(&m, &who));
    cr_assert(eq(int, who.pid, (int)getpid()));
    cr_assert(eq(u32, who.uid, (uint32_t)geteuid()));
    cr_assert(eq(u32, who.gid, (uint32_t)getegid()));
    cr_assert(who.verified);
    cr_assert(gt(u32, who.party, 0));
    cue_msg_release(&m);
    cr_assert(eq(int, cue_msg_peer(&m, &who), CUE_ENOSYS));
    cr_assert(eq(int, cue_channel_close(s), 0));
    cr_assert(eq(int, cue_channel_close(r), 0));
}

static _Atomic int asked;

static int nobody(void *arg, const cue_peer *who)
{
    cr_assert(eq(ptr, arg, &asked));
    cr_assert(eq(int, who->pid, (int)getpid()));
    asked++;
    return asked < 4 ? -1 : 0;
}

Test(nng_lane, the_application_may_refuse_connections)
{
    cue_channel *r = open_with(url, CUE_RECV, (cue_channel_opts){ .admit = nobody, .arg = &asked }), *s = open_lane(CUE_SEND);
    cue_msg m;
    send_number(s, 7);
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20))); /* it tries again until it is let in */
    cue_msg_release(&m);
    cr_assert(ge(u64, stat_of(r).refused, 3));
    cr_assert(ge(int, asked, 4));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}
