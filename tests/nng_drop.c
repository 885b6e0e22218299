/* Socket lanes that drop the oldest: what arrives is in order and whole, each message arrives or is counted as dropped, the receiver is
 * told of each gap, and no block is left; over every transport, near and far, with receivers that are slow, close, or are killed.
 * budget: 90 s */
#include "tests/certificates.h"
#include "tests/questions.h"
#include "tests/two_hosts.h"

#include "tests/cast/nng_storm.h"

#include <pthread.h>

enum { DEPTH = 8, MANY = 3000, LARGE = 2 * CHUNK_BYTES + 11 };

static char url[4 * TEST_PATH + 100], sender_url[4 * TEST_PATH + 120];

TestSuite(nng_drop, .init = set_up, .fini = tear_down, .timeout = 80);

static void over(const char *scheme)
{
    if (strcmp(scheme, "inproc") == 0)
        snprintf(url, sizeof url, "inproc://%s?depth=%d", name, DEPTH);
    else
        url_of(scheme, url, sizeof url);
    strcpy(sender_url, url);
}

static cue_channel *open_in(cue_pool *of, unsigned how, cue_channel_opts opts)
{
    cue_channel *ch;
    opts.pool = of;
    opts.full = how == CUE_SEND ? CUE_DROP_OLD : 0;
    opts.depth = opts.depth ? opts.depth : DEPTH;
    if (!opts.linger.ns)
        opts.linger = CUE_MS(test_ms(20000)); /* a slow machine is not what is tested */
    cr_assert(eq(int, cue_channel_open(how == CUE_SEND ? sender_url : url, how, &opts, &ch), 0), "%s", cue_trail());
    return ch;
}

static void send_number(cue_channel *s, int number)
{
    cr_assert(eq(int, cue_channel_send(s, CUE_MSG(1, number), CUE_NOW), 0), "%s", cue_trail());
}

static void comes(cue_channel *r, int number, uint32_t gap)
{
    cue_msg m;
    cr_assert(eq(int, cue_channel_recv(r, &m, CUE_SEC(20)), 0), "%s", cue_trail());
    cr_assert(eq(int, number_of(&m), number));
    cr_assert(eq(u32, m.gap, gap), "before %d", number);
    cue_msg_release(&m);
}

static void until_settled(cue_channel *s)
{
    cr_assert(eq(int, cue_channel_shut(s, CUE_DRAIN, CUE_MS(test_guard_ms(20000))), 0), "%s", cue_trail());
    cr_assert(eq(u64, stat_of(s).queued, 0));
}

Test(nng_drop, the_newest_wait_for_a_receiver_that_is_not_there_yet)
{
    over("ipc");
    cue_channel *s = open_in(pool, CUE_SEND, (cue_channel_opts){ .depth = 4 });
    for (int i = 0; i < 20; i++)
        send_number(s, i);
    cue_channel_info info = stat_of(s);
    cr_assert(eq(u64, info.dropped, 16));
    cr_assert(eq(u64, info.queued, 4));
    cr_assert(eq(u64, info.sent, 20));
    cr_assert(eq(u64, info.refused, 0));
    cr_assert(eq(int, cue_channel_shut(s, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT));
    cue_channel *r = open_in(pool, CUE_RECV, (cue_channel_opts){ 0 });
    comes(r, 16, 16);
    for (int i = 17; i < 20; i++)
        comes(r, i, 0);
    until_settled(s);
    send_number(s, 20);
    comes(r, 20, 0);
    cr_assert(eq(u64, stat_of(r).gaps, 16));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

/* What was put into a packet is not dropped: `depth` are under way, `depth` wait, those between are gone. */
Test(nng_drop, what_is_under_way_arrives_and_so_do_the_newest)
{
    over("tcp");
    cue_channel *r = open_in(pool, CUE_RECV, (cue_channel_opts){ 0 }), *s = open_in(pool, CUE_SEND, (cue_channel_opts){ .depth = 4 });
    send_number(s, 0);
    comes(r, 0, 0);
    for (int round = 0; round < 20; round++) {
        until_settled(s);
        uint64_t packets = stat_of(s).batches, gaps = stat_of(r).gaps;
        send_number(s, 1);
        for (int i = 0; i < 30000 && stat_of(s).batches == packets; i++)
            poll(NULL, 0, 1);
        for (int i = 2; i < 40; i++) /* nobody receives */
            send_number(s, i);
        uint64_t dropped = stat_of(s).dropped - gaps, came = 0;
        cr_assert(ge(u64, dropped, 39 - 8));
        cue_msg m;
        for (int last = 0; last < 39; came++) {
            cr_assert(eq(int, cue_channel_recv(r, &m, CUE_SEC(20)), 0), "after %d", last);
            cr_assert(eq(int, number_of(&m), last + 1 + (int)m.gap));
            last = number_of(&m);
            cue_msg_release(&m);
        }
        cr_assert(eq(u64, came + dropped, 39));
        cr_assert(eq(u64, stat_of(r).gaps, gaps + dropped));
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

/* NULL: all of them, without gaps. */
static void *receive_200(void *arg)
{
    cue_msg m;
    for (int i = 0; i < 200; i++) {
        if (cue_channel_recv(arg, &m, CUE_SEC(60)) || number_of(&m) != i || m.gap)
            return arg;
        cue_msg_release(&m);
    }
    return NULL;
}

Test(nng_drop, a_send_that_may_wait_drops_nothing_while_there_will_be_room)
{
    over("ipc");
    cue_channel *r = open_in(pool, CUE_RECV, (cue_channel_opts){ 0 }), *s = open_in(pool, CUE_SEND, (cue_channel_opts){ .depth = 2 });
    pthread_t thread;
    void *wrong;
    cr_assert(eq(int, pthread_create(&thread, NULL, receive_200, r), 0));
    for (int i = 0; i < 200; i++)
        CUE_MUST(cue_channel_send(s, CUE_MSG(1, i), CUE_SEC(60)));
    pthread_join(thread, &wrong);
    cr_assert(eq(ptr, wrong, NULL));
    cr_assert(eq(u64, stat_of(s).dropped, 0));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_drop, bytes_bound_what_waits)
{
    static char bytes[100000];
    over("ipc");
    cue_channel *s = open_in(pool, CUE_SEND, (cue_channel_opts){ .depth = 100, .bytes = 250000, .linger = CUE_NS(-1) });
    for (int i = 0; i < 10; i++)
        CUE_MUST(cue_channel_send(s, &(cue_msg){ .data = bytes, .size = sizeof bytes }, CUE_NOW));
    cr_assert(eq(u64, stat_of(s).queued, 2));
    cr_assert(eq(u64, stat_of(s).dropped, 8));
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
}

Test(nng_drop, a_message_that_is_refused_drops_nothing)
{
    over("ipc");
    cue_channel *s = open_in(pool, CUE_SEND, (cue_channel_opts){ .depth = 1, .linger = CUE_NS(-1) });
    cue_block foreign;
    send_number(s, 1);
    CUE_MUST(cue_block_alloc(far_pool, 10, NULL, &foreign));
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .move = &foreign }, CUE_NOW), CUE_ENOTOWNER));
    cr_assert(eq(int, cue_block_release(&foreign), 0), "still the caller's");
    cr_assert(eq(u64, stat_of(s).dropped, 0));
    cr_assert(eq(u64, stat_of(s).queued, 1));
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
}

/* ---- with a receiver that is slow ---- */

struct story {
    cue_channel *r;
    uint64_t gaps;
    _Atomic uint64_t received;
    int last, wrong;
    _Atomic int closings; /* to do */
};

static size_t size_of(int number)
{
    return number % 500 == 499 ? LARGE : 64 + (size_t)number % 200;
}

/* Message `number` is bytes, an owned block, or a view of one that counts, with bytes. */
static bool as_sent(const cue_msg *m)
{
    int number = (int)m->tag;
    const unsigned char *data = number % 3 ? m->block.data : m->data;
    size_t size = number % 3 ? m->block.size : m->size, last = number % 3 == 2 ? size - 1 : 0;
    return !m->status && size == size_of(number) && data[0] == (unsigned char)number &&
           data[size - 1] == (unsigned char)((size_t)number + last) &&
           (number % 3 != 2 || (m->size == 4 && memcmp(m->data, "with", 4) == 0));
}

/* Receives slowly until the last number, and now and then gives its place to another. */
static void *receive_slowly(void *arg)
{
    struct story *t = arg;
    for (int count = 0; t->last < MANY - 1 && !t->wrong; count++) {
        cue_msg m;
        if (t->closings && count % 100 == 99) {
            cue_channel_info info;
            t->wrong = cue_channel_stat(t->r, &info) || cue_channel_close(t->r) ||
                       cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool }, &t->r);
            t->gaps += info.gaps;
            t->closings--;
            if (t->wrong)
                break;
        }
        if (cue_channel_recv(t->r, &m, CUE_SEC(60))) {
            t->wrong = 1;
            break;
        }
        if (!as_sent(&m))
            t->wrong = 2;
        if ((int)m.tag != t->last + 1 + (int)m.gap)
            t->wrong = 3;
        t->last = (int)m.tag;
        t->received++;
        cue_msg_release(&m);
        if (count % 8 == 7)
            usleep(500);
    }
    return NULL;
}

static void send_mixed(cue_channel *s, cue_pool *of, const cue_block *counts, int number)
{
    cue_block b = { 0 };
    cue_msg m = { .tag = (uint64_t)number, .move = &b };
    if (number % 3 == 2) {
        CUE_MUST(cue_block_view(counts, (size_t)number & 255, size_of(number), &b));
        m.data = "with";
        m.size = 4;
    } else {
        CUE_MUST(cue_block_alloc(of, size_of(number), &(cue_block_opts){ .wait = CUE_SEC(30) }, &b));
        memset(b.data, number & 255, b.size);
    }
    if (number % 3 == 0)
        m = (cue_msg){ .tag = (uint64_t)number, .data = b.data, .size = b.size };
    cr_assert(eq(int, cue_channel_send(s, &m, CUE_NOW), 0), "%s", cue_trail());
    if (number % 3 == 0)
        cue_block_release(&b);
}

static void all_is_told(cue_pool *senders, int closings)
{
    struct story t = { .r = open_in(pool, CUE_RECV, (cue_channel_opts){ 0 }), .last = -1, .closings = closings };
    cue_channel *s = open_in(senders, CUE_SEND, (cue_channel_opts){ 0 });
    pthread_t thread;
    cue_block counts;
    CUE_MUST(cue_block_alloc(senders, LARGE + 256, NULL, &counts));
    for (size_t i = 0; i < counts.size; i++)
        ((unsigned char *)counts.data)[i] = (unsigned char)i;
    cr_assert(eq(int, pthread_create(&thread, NULL, receive_slowly, &t), 0));
    for (int i = 0; i < MANY; i++) {
        send_mixed(s, senders, &counts, i);
        for (int64_t end = test_now_ms() + test_ms(60000); !t.received && test_now_ms() < end;) /* connected */
            poll(NULL, 0, 1);
        if (i % 50 == 49)
            usleep(1000);
    }
    pthread_join(thread, NULL);
    cr_assert(eq(int, t.wrong, 0), "after %d", t.last);
    until_settled(s);
    cue_channel_info out = stat_of(s);
    t.gaps += stat_of(t.r).gaps;
    printf("%s: %lu received, %lu dropped\n", url, t.received, out.dropped);
    cr_assert(eq(u64, out.sent, MANY));
    cr_assert(eq(u64, t.received + out.dropped, MANY));
    cr_assert(eq(u64, t.gaps, out.dropped));
    cr_assert(gt(u64, out.dropped, 0), "the test shows nothing");
    cr_assert(gt(u64, t.received, DEPTH), "the test shows nothing");
    cr_assert(eq(u64, stat_of(t.r).dropped, 0));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(t.r), 0));
    cr_assert(eq(int, cue_block_release(&counts), 0));
}

Test(nng_drop, each_arrives_or_is_told_of_over_ipc)
{
    over("ipc");
    all_is_told(pool, 0);
}
Test(nng_drop, each_arrives_or_is_told_of_over_inproc)
{
    over("inproc");
    all_is_told(pool, 0);
}
Test(nng_drop, each_arrives_or_is_told_of_over_tcp_from_another_host)
{
    over("tcp");
    all_is_told(far_pool, 0);
}
Test(nng_drop, each_arrives_or_is_told_of_over_ws_from_another_host)
{
    over("ws");
    all_is_told(far_pool, 0);
}
Test(nng_drop, each_arrives_or_is_told_of_while_receivers_come_and_go)
{
    over("tcp");
    all_is_told(pool, 6);
}
Test(nng_drop, each_arrives_or_is_told_of_by_another_host_while_receivers_come_and_go)
{
    over("tcp");
    all_is_told(far_pool, 6);
}

/* ---- with receivers that are killed ---- */

enum { NUMBERS = 1 << 20, KILLS = 6 };

static void send_numbered(cue_channel *s, uint64_t number)
{
    cue_block b;
    const struct numbered n = numbered_make(1, number);
    CUE_MUST(cue_block_alloc(pool, sizeof n, &(cue_block_opts){ .wait = CUE_SEC(30) }, &b));
    memcpy(b.data, &n, sizeof n);
    cr_assert(eq(int, cue_channel_send(s, &(cue_msg){ .tag = 1, .move = &b }, CUE_NOW), 0), "%s", cue_trail());
}

static uint64_t came(const unsigned char *counts, uint64_t end)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < end; i++) {
        cr_assert(le(int, counts[i], 1), "block %lu was delivered %d times", i, counts[i]);
        sum += counts[i];
    }
    return sum;
}

/* What a killed receiver had in hand, a message each, is neither received nor dropped. */
static void killed_receivers(void)
{
    cue_block counts;
    uint64_t sent = 1;
    CUE_MUST(cue_block_alloc(pool, NUMBERS, &(cue_block_opts){ .type = 900, .id = 1, .flags = CUE_KEEP | CUE_ZERO }, &counts));
    cue_channel *s = open_in(pool, CUE_SEND, (cue_channel_opts){ 0 });
    struct cast receiver = { 0 };
    for (int kill = 0; kill <= KILLS; kill++) {
        receiver = cast_start("nng_recv", url, name);
        cr_assert(eq(int, cast_hear(&receiver, 20000), 'r'));
        uint64_t before = came(counts.data, sent);
        for (int64_t end = test_now_ms() + test_ms(60000); came(counts.data, sent) < before + 200 && test_now_ms() < end; usleep(200))
            for (int i = 0; i < 50; i++, sent++)
                send_numbered(s, sent);
        cr_assert(ge(u64, came(counts.data, sent), before + 200));
        if (kill < KILLS)
            cr_assert(eq(int, cast_kill(&receiver), CAST_SIGNALLED + SIGKILL));
    }
    until_settled(s);
    cue_channel_info out = stat_of(s);
    cast_say(&receiver, 'q');
    cr_assert(eq(int, cast_wait(&receiver, 20000), 0));
    uint64_t received = came(counts.data, sent);
    printf("%s: %lu received, %lu dropped of %lu\n", url, received, out.dropped, sent - 1);
    cr_assert(eq(u64, out.sent, sent - 1));
    cr_assert(le(u64, received + out.dropped, sent - 1));
    cr_assert(ge(u64, received + out.dropped + KILLS, sent - 1));
    cr_assert(gt(u64, out.dropped, 0), "the test shows nothing");
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_block_free(&counts), 0));
    unlink(url + strlen("ipc://"));
}

Test(nng_drop, killed_receivers_lose_what_they_had_in_hand_over_ipc)
{
    over("ipc");
    killed_receivers();
}

Test(nng_drop, killed_receivers_lose_what_they_had_in_hand_over_tls)
{
    static const char form[] = "tls+tcp://127.0.0.1:%d?ca=%s/ca.pem&cert=%s/%s.pem&key=%s/%s.key%s";
    char command[TEST_PATH + 40];
    int port = test_port();
    need_tls(folder);
    snprintf(url, sizeof url, form, port, folder, folder, "server", folder, "server", "");
    snprintf(sender_url, sizeof sender_url, form, port, folder, folder, "client", folder, "client", "&server=localhost");
    killed_receivers();
    snprintf(command, sizeof command, "find %s -mindepth 1 -delete", folder);
    cr_assert(eq(int, system(command), 0));
}

/* ---- questions ---- */

static cue_channel *asks;
static int asked_status;

static void *ask_for_ever(void *arg)
{
    cue_msg answer;
    int one = 1;
    (void)arg;
    asked_status = cue_channel_ask(asks, CUE_MSG(7, one), CUE_FOREVER, &answer);
    cue_msg_release(&answer);
    return NULL;
}

static pthread_t asking(void)
{
    pthread_t thread;
    uint64_t before = stat_of(asks).sent;
    cr_assert(eq(int, pthread_create(&thread, NULL, ask_for_ever, NULL), 0));
    for (int i = 0; i < 30000 && stat_of(asks).sent == before; i++)
        poll(NULL, 0, 1);
    return thread;
}

Test(nng_drop, who_asked_is_told_that_the_question_was_dropped)
{
    over("tcp");
    asks = open_in(far_pool, CUE_SEND, (cue_channel_opts){ .depth = 2 });
    pthread_t thread = asking();
    for (int i = 0; i < 2; i++)
        send_number(asks, i);
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, CUE_EFULL), "%s", cue_status_name(asked_status));
    cr_assert(eq(u64, stat_of(asks).dropped, 1));
    cue_channel *r = open_in(pool, CUE_RECV, (cue_channel_opts){ 0 });
    comes(r, 0, 1);
    comes(r, 1, 0);
    cue_msg m;
    int two = 2;
    thread = asking();
    cr_assert(eq(int, cue_channel_recv(r, &m, CUE_SEC(20)), 0));
    cr_assert(eq(int, cue_reply(&m, CUE_MSG(7, two)), 0), "%s", cue_trail());
    cue_msg_release(&m);
    until_settled(asks);
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, 0), "%s", cue_status_name(asked_status));
    cr_assert(eq(int, cue_channel_close(r), 0)); /* waits until the answer was heard */
    cr_assert(eq(int, cue_channel_close(asks), 0), "%s", cue_trail());
}
