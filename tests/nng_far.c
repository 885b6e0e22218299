/* Payload to receivers that cannot map the sender's pool, over every transport that reaches another host: it arrives whole, once, in
 * order; what is copied is counted; whoever is killed in the middle leaves nothing; kills of either side lose what they may.
 * budget: 90 s */
#include "tests/stat_of.h"
#include "tests/two_hosts.h"

TestSuite(nng_far, .init = set_up, .fini = tear_down);

static const char *const schemes[] = { "ipc", "tcp", "ws" };

static cue_channel *open_in(cue_pool *of, const char *url, unsigned how, cue_channel_opts opts)
{
    cue_channel *ch;
    opts.pool = of;
    if (!opts.linger.ns)
        opts.linger = CUE_MS(test_ms(10000)); /* a slow machine is not what is tested */
    CUE_MUST(cue_channel_open(url, how, &opts, &ch));
    return ch;
}

static unsigned char byte_at(uint64_t number, size_t i)
{
    return (unsigned char)(number * 31 + i + (i >> 8));
}

static void fill(cue_block *b, uint64_t number)
{
    for (size_t i = 0; i < b->size; i++)
        ((unsigned char *)b->data)[i] = byte_at(number, i);
}

static bool is_filled(const void *data, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i++)
        if (((const unsigned char *)data)[i] != byte_at(number, i))
            return false;
    return true;
}

static const size_t sizes[] = {
    0, 1, 64, CARRY_WHOLE, CARRY_WHOLE + 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES + 7, 100, 5 << 20
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static void send_block(cue_channel *s, uint64_t number, size_t size, const char *bytes)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(far_pool, size, &(cue_block_opts){ .type = 40, .wait = CUE_SEC(10) }, &b));
    fill(&b, number);
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = number, .data = bytes, .size = bytes ? strlen(bytes) : 0, .move = &b }, CUE_SEC(20)));
    cr_assert(eq(ptr, b.data, NULL));
}

static void blocks_arrive(const char *scheme)
{
    char url[120];
    uint64_t sum = 0;
    url_of(scheme, url, sizeof url);
    cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ 0 }), *s = open_in(far_pool, url, CUE_SEND, (cue_channel_opts){ 0 });
    for (uint64_t i = 0; i < SIZES; i++, sum += sizes[i - 1])
        send_block(s, i, sizes[i], NULL);
    for (uint64_t i = 0; i < SIZES; i++) {
        cue_msg m;
        struct block_ref ref;
        cr_assert(eq(int, cue_channel_recv(r, &m, CUE_SEC(20)), 0), "%s: %s", url, cue_trail());
        cr_assert(eq(u64, m.tag, i));
        cr_assert(eq(int, m.status, 0));
        cr_assert(eq(u32, m.type, 40)); /* the block's */
        cr_assert(eq(sz, m.block.size, sizes[i]));
        cr_assert(eq(ptr, (void *)(uintptr_t)m.data, m.block.data));
        cr_assert(is_filled(m.data, m.size, i), "block %lu", i);
        cr_assert(eq(int, handle_open(&m.block, &ref), 0));
        cr_assert(eq(ptr, ref.pool, pool));
        cr_assert(ref.owner);
        cue_msg_release(&m);
    }
    for (int i = 0; i < 30000 && stat_of(s).queued; i++)
        poll(NULL, 0, 1);
    cue_channel_info out = stat_of(s), in = stat_of(r);
    cr_assert(eq(u64, in.received, SIZES));
    cr_assert(eq(u64, in.copied, sum));
    cr_assert(eq(u64, in.bytes, sum));
    cr_assert(eq(u64, in.dropped + in.gaps + in.refused, 0));
    cr_assert(eq(u64, out.copied, sum));
    cr_assert(eq(u64, out.dropped + out.returned + out.resent, 0));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    nothing_is_left(far_pool);
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_far, blocks_arrive_whole_over_ipc)
{
    blocks_arrive("ipc");
}

Test(nng_far, blocks_arrive_whole_over_tcp)
{
    blocks_arrive("tcp");
}

Test(nng_far, blocks_arrive_whole_over_ws)
{
    blocks_arrive("ws");
}

Test(nng_far, bytes_and_views_go_with_their_block_and_keep_their_order)
{
    char url[120];
    url_of("tcp", url, sizeof url);
    cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ 0 }), *s = open_in(far_pool, url, CUE_SEND, (cue_channel_opts){ 0 });
    cue_block kept, view;
    CUE_MUST(cue_block_alloc(far_pool, 1 << 20, &(cue_block_opts){ .type = 41 }, &kept));
    fill(&kept, 7);
    for (uint64_t i = 0; i < 60; i++) {
        if (i % 3 == 0) {
            send_block(s, i, i % 2 ? 100 : 400000, "with");
        } else if (i % 3 == 1) {
            CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = i, .data = "alone", .size = 5 }, CUE_SEC(20)));
        } else {
            CUE_MUST(cue_block_view(&kept, 256 * 4, i % 2 ? 300000 : 50, &view));
            CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = i, .move = &view }, CUE_SEC(20)));
        }
    }
    cue_block_free(&kept); /* what a view showed is still sent: the sender's lease keeps it */
    for (uint64_t i = 0; i < 60; i++) {
        cue_msg m;
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        cr_assert(eq(u64, m.tag, i));
        if (i % 3 == 0) {
            cr_assert(eq(int, memcmp(m.data, "with", 4), 0));
            cr_assert(eq(sz, m.block.size, i % 2 ? 100 : 400000));
            cr_assert(is_filled(m.block.data, m.block.size, i));
        } else if (i % 3 == 1) {
            cr_assert(eq(int, memcmp(m.data, "alone", 5), 0));
            cr_assert(eq(ptr, m.block.data, NULL));
        } else {
            cr_assert(eq(sz, m.size, i % 2 ? 300000 : 50));
            cr_assert(eq(int, ((const unsigned char *)m.data)[0], byte_at(7, 1024)));
            cr_assert(eq(int, cue_block_publish(&m.block, 0), 0), "a copy is the receiver's own: %s", cue_trail());
            cr_assert(eq(int, cue_block_free(&m.block), 0));
        }
        cue_msg_release(&m);
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_far, a_message_larger_than_the_lane_is_refused_or_counted)
{
    char url[120];
    cue_msg m;
    cue_block big;
    url_of("tcp", url, sizeof url);
    cue_channel *s = open_in(far_pool, url, CUE_SEND, (cue_channel_opts){ 0 });
    send_block(s, 1, 300000, NULL); /* before it is known what the receiver takes */
    send_block(s, 2, 1000, NULL);
    cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ .max = 100000 });
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
    cr_assert(eq(u64, m.tag, 2));
    cue_msg_release(&m);
    for (int i = 0; i < 30000 && stat_of(s).queued; i++)
        poll(NULL, 0, 1);
    cr_assert(eq(u64, stat_of(s).dropped, 1));
    cr_assert(eq(u64, stat_of(s).returned, 1));
    CUE_MUST(cue_block_alloc(far_pool, 100001, NULL, &big));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .move = &big }, CUE_NOW), CUE_ETOOBIG));
    cr_assert(ne(ptr, big.data, NULL));
    cue_block_release(&big);
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_far, a_full_pool_loses_nothing)
{
    char url[120];
    cue_msg m;
    const char *small_name = test_name("small");
    cue_pool *small;
    url_of("tcp", url, sizeof url);
    CUE_MUST(cue_pool_open(small_name, &(cue_pool_opts){ .size = 4 << 20, .flags = CUE_CREATE }, &small));
    cue_channel *r = open_in(small, url, CUE_RECV, (cue_channel_opts){ 0 }), *s = open_in(far_pool, url, CUE_SEND, (cue_channel_opts){ 0 });
    cue_block held[64];
    unsigned n = 0;
    for (uint64_t i = 0; i < 20; i++)
        send_block(s, i, 1 << 20, NULL);
    while (n < 64 && cue_block_alloc(small, 128 << 10, NULL, &held[n]) == 0)
        n++;
    int status;
    for (int i = 0; (status = cue_channel_recv(r, &m, CUE_MS(100))) == CUE_EEMPTY && i < 100; i++)
        ;
    cr_assert(eq(int, status, CUE_ENOMEM));
    while (n)
        cue_block_release(&held[--n]);
    for (uint64_t i = 0; i < 20; i++) {
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        cr_assert(eq(u64, m.tag, i));
        cr_assert(is_filled(m.data, m.size, i));
        cue_msg_release(&m);
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
    nothing_is_left(small);
    cue_pool_close(small);
}

Test(nng_far, a_near_receiver_follows_a_far_one_and_the_reverse)
{
    char url[120];
    cue_msg m;
    url_of("tcp", url, sizeof url);
    cue_channel *s = open_in(far_pool, url, CUE_SEND, (cue_channel_opts){ .linger = CUE_SEC(10) });
    for (uint64_t i = 0; i < 40; i++)
        send_block(s, i, i % 4 ? 100 : 300000, NULL);
    uint64_t next = 0, copied = 0;
    for (int round = 0; round < 6; round++) {
        if (round % 2)
            far_pool->host = pool->host; /* from now on it says that it is here */
        else
            far_pool->host = pool->host + 1;
        cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ 0 });
        for (int i = 0; i < 6; i++, next++) {
            struct block_ref ref;
            cr_assert(eq(int, cue_channel_recv(r, &m, CUE_SEC(20)), 0), "%s", cue_trail());
            cr_assert(eq(u64, m.tag, next));
            cr_assert(is_filled(m.data, m.size, next));
            CUE_MUST(handle_open(&m.block, &ref));
            cr_assert(eq(ptr, ref.pool, round % 2 ? far_pool : pool));
            cue_msg_release(&m);
        }
        copied += stat_of(r).copied;
        cr_assert(eq(int, cue_channel_close(r), 0));
    }
    cr_assert(gt(u64, copied, 300000));
    cr_assert(gt(u64, stat_of(s).resent, 0));
    cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ 0 });
    for (; next < 40; next++) {
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        cr_assert(eq(u64, m.tag, next));
        cue_msg_release(&m);
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_far, what_nobody_took_returns_when_the_sender_closes)
{
    char url[120];
    url_of("tcp", url, sizeof url);
    cue_channel *s = open_in(far_pool, url, CUE_SEND, (cue_channel_opts){ .linger = CUE_NS(-1) });
    cue_pool_info info;
    for (uint64_t i = 0; i < 10; i++)
        send_block(s, i, 50000, NULL);
    CUE_MUST(cue_pool_stat(far_pool, &info));
    cr_assert(eq(u64, info.in_flight, 10)); /* the ledger */
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
    nothing_is_left(far_pool);
}

/* ---- taking a connection down ---- */

struct talk {
    char url[120];
    _Atomic bool end;
};

/* Sends, each message in a packet of its own, until it is told to stop. */
static void *speak(void *arg)
{
    struct talk *t = arg;
    cue_channel *s = open_in(far_pool, t->url, CUE_SEND, (cue_channel_opts){ .flush = CUE_NS(-1), .linger = CUE_NS(-1) });
    while (!atomic_load(&t->end))
        if (cue_channel_send(s, &(cue_msg){ .data = "speak", .size = 5 }, CUE_MS(5)))
            sched_yield(); /* full */
    cue_channel_close(s);
    return NULL;
}

/* Receives until it is told to stop; each packet is acknowledged. */
static void *listen_on(void *arg)
{
    struct talk *t = arg;
    cue_channel *r = open_in(pool, t->url, CUE_RECV, (cue_channel_opts){ 0 });
    cue_msg m;
    while (!atomic_load(&t->end))
        if (cue_channel_recv(r, &m, CUE_MS(5)) == 0)
            cue_msg_release(&m);
    cue_channel_close(r);
    return NULL;
}

/* NNG before 1.7 never finishes to close a connection on which a message is just coming in. */
static void one_end_closes(const char *scheme, unsigned rounds, void *(*other)(void *))
{
    struct talk t = { 0 };
    pthread_t thread;
    cue_msg m;
    url_of(scheme, t.url, sizeof t.url);
    cr_assert(eq(int, pthread_create(&thread, NULL, other, &t), 0));
    for (unsigned round = 0; round < rounds; round++) {
        if (other == speak) {
            cue_channel *r = open_in(pool, t.url, CUE_RECV, (cue_channel_opts){ 0 });
            for (unsigned i = 0; i < 20 + round; i++) {
                cr_assert(eq(int, cue_channel_recv(r, &m, CUE_SEC(20)), 0), "%s: %s", scheme, cue_trail());
                cue_msg_release(&m);
            }
            cr_assert(eq(int, cue_channel_close(r), 0));
        } else {
            cue_channel *s = open_in(far_pool, t.url, CUE_SEND, (cue_channel_opts){ .flush = CUE_NS(-1), .linger = CUE_NS(-1) });
            CUE_MUST(cue_channel_send(s, &(cue_msg){ .data = "first", .size = 5 }, CUE_SEC(20)));
            for (int64_t end = test_now_ms() + test_ms(20000); stat_of(s).queued && test_now_ms() < end;)
                poll(NULL, 0, 1);
            for (unsigned i = 0; i < 20 + round; i++)
                CUE_MUST(cue_channel_send(s, &(cue_msg){ .data = "more", .size = 4 }, CUE_SEC(20)));
            cue_channel_close(s); /* what is under way is given up */
        }
    }
    atomic_store(&t.end, true);
    pthread_join(thread, NULL);
}

Test(nng_far, a_receiver_closes_while_its_sender_speaks)
{
    one_end_closes("ipc", 30, speak);
    one_end_closes("tcp", 30, speak);
}

Test(nng_far, a_sender_closes_while_its_receiver_speaks)
{
    one_end_closes("ipc", 6, listen_on); /* it takes a while there to find out that the receiver is far */
    ;
    one_end_closes("tcp", 30, listen_on);
}

/* ---- another process that says it is another host ---- */

static char theirs[64]; /* the pool of the sender that was started last */

static struct cast start_far(const char *url, unsigned count, size_t size)
{
    char many[24], bytes[24];
    strcpy(theirs, test_name("theirs"));
    snprintf(many, sizeof many, "%u", count);
    snprintf(bytes, sizeof bytes, "%zu", size);
    return cast_start("nng_far", url, theirs, many, bytes);
}

static bool cast_ended(const struct cast *c)
{
    siginfo_t info = { 0 };
    return waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == c->pid;
}

static void receive_far(cue_channel *r, uint64_t from, uint64_t count, size_t size)
{
    for (uint64_t i = from; i < from + count; i++) {
        cue_msg m;
        cr_assert(eq(int, cue_channel_recv(r, &m, CUE_SEC(20)), 0), "%lu: %s", i, cue_trail());
        cr_assert(eq(u64, m.tag, i));
        cr_assert(eq(u32, m.type, 9));
        cr_assert(eq(sz, m.size, size));
        cr_assert(is_filled(m.data, size, i));
        cue_msg_release(&m);
    }
}

Test(nng_far, a_process_on_another_host_is_received_from)
{
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        char url[120];
        cue_peer who;
        cue_msg m;
        url_of(schemes[i], url, sizeof url);
        cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ 0 });
        struct cast sender = start_far(url, 300, 20000);
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        cr_assert(eq(int, cue_msg_peer(&m, &who), 0), "%s", cue_trail());
        cr_assert(ne(u64, who.host, pool->host));
        if (strcmp(schemes[i], "ipc") == 0) {
            cr_assert(eq(int, who.pid, sender.pid));
            cr_assert(eq(u32, who.uid, geteuid()));
            cr_assert(who.verified);
        } else {
            cr_assert(not(who.verified));
            cr_assert(eq(int, strncmp(who.label, "127.0.0.1:", 10), 0), "%s: %s", schemes[i], who.label);
        }
        cue_msg_release(&m);
        receive_far(r, 1, 299, 20000);
        /* its last acknowledgements may have to be asked for: it hears only when we receive */
        while (cue_channel_recv(r, &m, CUE_MS(50)) == CUE_EEMPTY && !cast_ended(&sender))
            ;
        cr_assert(eq(int, cast_wait(&sender, 20000), 0), "%s", schemes[i]);
        cr_assert(eq(u64, stat_of(r).copied, 300 * 20000));
        cr_assert(eq(int, cue_channel_close(r), 0));
    }
}

Test(nng_far, a_sender_killed_in_mid_chunk_leaves_nothing)
{
    char url[120];
    cue_msg m;
    cue_pool_info info;
    unsigned cut = 0;
    url_of("tcp", url, sizeof url);
    cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ 0 });
    for (int i = 0; i < 30; i++) {
        struct cast sender = start_far(url, 1000, 8 << 20);
        cr_assert(eq(int, cast_hear(&sender, 20000), 'r'));
        for (int64_t end = test_now_ms() + test_ms(20000); test_now_ms() < end;) { /* until it is in the middle of a block */
            if (cue_channel_recv(r, &m, CUE_MS(2)) == 0) {
                cr_assert(is_filled(m.data, m.size, m.tag));
                cue_msg_release(&m);
            }
            CUE_MUST(cue_pool_stat(pool, &info));
            if (info.blocks)
                break;
        }
        cut += info.blocks > 0;
        cr_assert(eq(int, cast_kill(&sender), CAST_SIGNALLED + SIGKILL));
        for (int64_t end = test_now_ms() + test_ms(20000); info.blocks && test_now_ms() < end;) {
            if (cue_channel_recv(r, &m, CUE_MS(5)) == 0)
                cue_msg_release(&m);
            CUE_MUST(cue_pool_stat(pool, &info));
        }
        cr_assert(eq(u64, info.blocks, 0));
        cue_pool *orphan; /* who opens it finds that only a dead one had it, and makes it anew */
        CUE_MUST(cue_pool_open(theirs, NULL, &orphan));
        nothing_is_left(orphan);
        cue_pool_close(orphan);
    }
    printf("%u senders were killed in the middle of a block\n", cut);
    cr_assert(gt(u32, cut, 0));
    cr_assert(eq(int, cue_channel_close(r), 0));
}

/* A receiver of another user, that cannot map our pool of mode 0600. */
static struct cast start_user(const char *url, const char *users, const char *count)
{
    strcpy(theirs, test_name("theirs"));
    struct cast user = cast_start("nng_user", url, theirs, users, count);
    cr_assert(eq(int, cast_hear(&user, 20000), 'r'));
    return user;
}

Test(nng_far, another_user_is_served_where_both_ends_say_so)
{
    char url[120];
    cue_block b;
    if (geteuid() != 0)
        cr_skip_test("needs root: a process of another user");
    snprintf(url, sizeof url, "ipc://@%s", test_name("users"));
    struct cast user = start_user(url, "0", "40");
    cue_channel *s = open_in(pool, url, CUE_SEND, (cue_channel_opts){ .users = "65534" });
    for (int i = 0; i < 40; i++) {
        CUE_MUST(cue_block_alloc(pool, i % 2 ? 100 : 400000, NULL, &b));
        memset(b.data, i, b.size);
        CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = (uint64_t)i, .move = &b }, CUE_SEC(20)));
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cast_wait(&user, 20000), 0));
}

Test(nng_far, another_user_is_refused_where_one_end_does_not_say_so)
{
    char url[120];
    if (geteuid() != 0)
        cr_skip_test("needs root: a process of another user");
    snprintf(url, sizeof url, "ipc://@%s", test_name("users"));
    struct cast user = start_user(url, "", "0");
    cue_channel *s = open_in(far_pool, url, CUE_SEND, (cue_channel_opts){ .users = "65534", .linger = CUE_NS(-1) });
    send_block(s, 1, 100, NULL);
    cr_assert(eq(int, cast_wait(&user, 20000), 0)); /* it has refused us */
    cr_assert(eq(u64, stat_of(s).queued, 1));
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));

    user = start_user(url, "any", "1");
    s = open_in(far_pool, url, CUE_SEND, (cue_channel_opts){ .linger = CUE_NS(-1) }); /* we do not want it */
    send_block(s, 1, 100, NULL);
    for (int i = 0; i < 300; i++)
        poll(NULL, 0, 1);
    cr_assert(eq(u64, stat_of(s).queued, 1));
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
    cr_assert(eq(int, cast_kill(&user), CAST_SIGNALLED + SIGKILL));
    cue_pool *orphan;
    CUE_MUST(cue_pool_open(theirs, NULL, &orphan));
    nothing_is_left(orphan);
    cue_pool_close(orphan);
}

Test(nng_far, a_sender_that_is_stopped_in_mid_chunk_stops_nobody_else)
{
    char url[120];
    cue_msg m;
    url_of("tcp", url, sizeof url);
    cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ 0 });
    struct cast stopped = start_far(url, 1000, 8 << 20);
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
    cue_msg_release(&m);
    cr_assert(cast_stop(&stopped)); /* its connection is half open from now on */
    char first[64];
    strcpy(first, theirs);
    struct cast other = start_far(url, 100, 300000);
    for (uint64_t i = 0; i < 100;) {
        cr_assert(eq(int, cue_channel_recv(r, &m, CUE_SEC(20)), 0), "%s", cue_trail());
        if (m.size == 300000) /* what the stopped one had sent before may come in between */
            cr_assert(eq(u64, m.tag, i++));
        cue_msg_release(&m);
    }
    while (!cast_ended(&other))
        if (cue_channel_recv(r, &m, CUE_MS(20)) == 0)
            cue_msg_release(&m);
    cr_assert(eq(int, cast_wait(&other, 20000), 0));
    cr_assert(eq(int, cast_kill(&stopped), CAST_SIGNALLED + SIGKILL));
    cr_assert(eq(int, cue_channel_close(r), 0));
    cue_pool *orphan;
    CUE_MUST(cue_pool_open(first, NULL, &orphan));
    nothing_is_left(orphan);
    cue_pool_close(orphan);
}

Test(nng_far, a_thousand_clients_that_connect_and_vanish_over_tcp)
{
    char url[120];
    cue_msg m;
    static const char greeting[] = "\0SP\0\0\x11\0\0\0\0\0\0\0\0\0\x20garbage";
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int port = test_port();
    to.sin_port = htons((uint16_t)port);
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", port);
    cue_channel *r = open_in(pool, url, CUE_RECV, (cue_channel_opts){ 0 }), *s = open_in(pool, url, CUE_SEND, (cue_channel_opts){ 0 });
    for (uint64_t i = 0; i < 1000; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
            send(fd, greeting, i % sizeof greeting, MSG_NOSIGNAL);
        if (i % 4 == 3)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){ 1, 0 }, sizeof(struct linger)); /* a reset */
        close(fd);
        if (i % 50)
            continue;
        CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = i, .data = "x", .size = 1 }, CUE_SEC(20)));
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        cr_assert(eq(u64, m.tag, i));
        cue_msg_release(&m);
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    s = open_in(pool, url, CUE_SEND, (cue_channel_opts){ 0 }); /* newcomers are served, too */
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = 5, .data = "x", .size = 1 }, CUE_SEC(20)));
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
    cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

/* Two network namespaces with a wire between: ours from now on, and that of a process that stays until `hold` is closed. */
static bool two_networks(char *inner, size_t room, int *hold)
{
    int pair[2];
    char byte, command[300];
    if (unshare(CLONE_NEWNET) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return false;
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        byte = unshare(CLONE_NEWNET) == 0;
        if (send(pair[1], &byte, 1, 0) == 1)
            (void)!recv(pair[1], &byte, 1, 0);
        _exit(0);
    }
    close(pair[1]);
    *hold = pair[0];
    snprintf(inner, room, "%d", (int)pid);
    if (recv(pair[0], &byte, 1, 0) != 1 || !byte)
        return false;
    snprintf(command, sizeof command,
             "{ ip link add cue0 type veth peer name cue1 netns %d && ip addr add 10.77.0.1/24 dev cue0 && ip link set cue0 up && "
             "nsenter -t %d -n sh -c 'ip addr add 10.77.0.2/24 dev cue1 && ip link set cue1 up'; } >/dev/null 2>&1",
             (int)pid, (int)pid);
    return system(command) == 0;
}

Test(nng_far, two_hosts_with_a_wire_between)
{
    char inner[20], command[600], *cast = getenv("CAST_PROGRAM");
    int hold = -1;
    if (!two_networks(inner, sizeof inner, &hold)) {
        close(hold);
        cr_skip_test("network namespaces are not permitted here");
    }
    strcpy(theirs, test_name("theirs"));
    snprintf(command, sizeof command, "nsenter -t %s -n %s nng_far tcp://10.77.0.1:7500 %s 40 700000", inner, cast ? cast : CAST_PROGRAM,
             theirs);
    cue_channel *r = open_in(pool, "tcp://10.77.0.1:7500", CUE_RECV, (cue_channel_opts){ 0 });
    FILE *sender = popen(command, "re");
    cr_assert(sender != NULL);
    receive_far(r, 0, 40, 700000);
    cue_msg m;
    struct pollfd end = { .fd = fileno(sender), .events = POLLIN };
    while (poll(&end, 1, 0) == 0) /* what it still asks, until it has ended */
        if (cue_channel_recv(r, &m, CUE_MS(30)) == 0)
            cue_msg_release(&m);
    cr_assert(eq(int, pclose(sender), 0));
    cr_assert(eq(int, cue_channel_close(r), 0));
    close(hold);
}
