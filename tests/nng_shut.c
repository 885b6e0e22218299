/* cue_channel_shut of a socket's receiver: what had arrived is handed out or discarded, the rest goes to the next receiver, each
 * message once and in order; near and far senders, ipc and tcp. */
#include "tests/questions.h"
#include "tests/two_hosts.h"

#include "channels/channel_internal.h"

#include <pthread.h>

TestSuite(nng_shut, .init = set_up, .fini = tear_down);

enum { TOTAL = 400, LARGE = 300 * 1024 };

static const char *const schemes[] = { "ipc", "tcp" };
static char url[120];
static cue_channel *in;

static cue_channel *open_end(cue_pool *of, unsigned how, cue_time flush)
{
    cue_channel *ch;
    cue_channel_opts opts = { .pool = of, .linger = CUE_MS(test_ms(20000)), .flush = flush };
    cr_assert(eq(int, cue_channel_open(url, how, &opts, &ch), 0), "%s: %s", url, cue_trail());
    return ch;
}

static void send_some(cue_channel *ch, uint64_t first, unsigned count)
{
    uint64_t values[16];
    cue_msg m[16];
    for (unsigned i = 0; i < count; i++) {
        values[i] = first + i;
        m[i] = (cue_msg){ .tag = first + i, .data = &values[i], .size = sizeof *values };
    }
    cr_assert(eq(int, cue_channel_send_many(ch, m, count, CUE_SEC(20)), (int)count));
}

static int receive_tag(uint64_t tag, cue_time wait)
{
    cue_msg m;
    int status = cue_channel_recv(in, &m, wait);
    if (!status)
        cr_assert(eq(u64, m.tag, tag));
    cue_msg_release(&m);
    return status;
}

/* ---- while they send ---- */

struct speaker {
    pthread_t thread;
    cue_pool *pool;
    uint32_t key;
    int status;
};

/* Bytes, small blocks and some that go in chunks to a far one. */
static int speak_one(const struct speaker *s, cue_channel *ch, uint64_t i)
{
    cue_block b = { 0 };
    cue_msg m = { .tag = i, .key = s->key, .data = &i, .size = sizeof i };
    if (i % 3) {
        int status = cue_block_alloc(s->pool, i % 50 == 1 ? LARGE : 64, &(cue_block_opts){ .wait = CUE_SEC(20) }, &b);
        if (status)
            return status;
        memcpy(b.data, &i, sizeof i);
        m.move = &b;
    }
    return cue_channel_send(ch, &m, CUE_SEC(20));
}

static void *speak(void *arg)
{
    struct speaker *s = arg;
    cue_channel *ch = open_end(s->pool, CUE_SEND, CUE_NOW);
    for (uint64_t i = 0; i < TOTAL && !s->status; i++)
        s->status = speak_one(s, ch, i);
    int closed = cue_channel_close(ch);
    s->status = s->status ? s->status : closed;
    return NULL;
}

static uint64_t seen[2], discarded;

/* One message, after all that came before it from its sender; without discards the very next. */
static int take_one(cue_time wait)
{
    cue_msg m;
    int status = cue_channel_recv(in, &m, wait);
    if (status)
        return status;
    uint64_t value;
    memcpy(&value, m.data, sizeof value);
    cr_assert(eq(u64, value, m.tag));
    cr_assert(lt(u64, m.key, 2));
    cr_assert(ge(u64, m.tag, seen[m.key]), "once and in order");
    if (!discarded)
        cr_assert(eq(u64, m.tag, seen[m.key]));
    if (m.tag % 3) {
        cr_assert(eq(sz, m.block.size, m.tag % 50 == 1 ? LARGE : 64));
        cr_assert(eq(int, memcmp(m.block.data, &value, sizeof value), 0));
    }
    seen[m.key] = m.tag + 1;
    cue_msg_release(&m);
    return 0;
}

/* How many of the two speakers' messages were received, by one receiver after another, of which each takes a few. */
static unsigned receivers_in_turn(const char *scheme, bool discards)
{
    struct speaker speakers[] = { { .pool = pool, .key = 0 }, { .pool = far_pool, .key = 1 } };
    unsigned received = 0;
    seen[0] = seen[1] = discarded = 0;
    url_of(scheme, url, sizeof url);
    for (unsigned i = 0; i < 2; i++)
        cr_assert(eq(int, pthread_create(&speakers[i].thread, NULL, speak, &speakers[i]), 0));
    for (unsigned turn = 0; received + discarded < 2 * TOTAL; turn++) {
        int status = 0;
        in = open_end(pool, CUE_RECV, CUE_NOW);
        for (unsigned i = 0; i < 10 + 37 * turn && received + discarded < 2 * TOTAL; i++, received++)
            cr_assert(eq(int, take_one(CUE_MS(test_ms(20000))), 0), "%u and %lu: %s", received, discarded, cue_trail());
        if (discards && turn % 2) {
            status = cue_channel_shut(in, CUE_DISCARD, CUE_NOW);
            cr_assert(ge(int, status, 0), "%s", cue_trail());
            discarded += (unsigned)status;
            cr_assert(eq(u64, stat_of(in).dropped, (uint64_t)status));
        } else {
            status = cue_channel_shut(in, CUE_DRAIN, CUE_NOW);
            cr_assert(status == 0 || status == CUE_ETIMEDOUT, "%s", cue_trail());
        }
        for (; (status = take_one(CUE_FOREVER)) == 0; received++)
            ;
        cr_assert(eq(int, status, CUE_ECLOSED));
        cr_assert(eq(u64, stat_of(in).queued, 0));
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), 0));
        cr_assert(eq(int, cue_channel_close(in), 0));
    }
    in = open_end(pool, CUE_RECV, CUE_NOW); /* for acknowledgements that went with the last one */
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(speakers[i].thread, NULL);
        cr_assert(eq(int, speakers[i].status, 0), "%s", cue_status_name(speakers[i].status));
    }
    cr_assert(eq(int, take_one(CUE_NOW), CUE_EEMPTY));
    cr_assert(eq(int, cue_channel_close(in), 0));
    return received;
}

Test(nng_shut, what_had_not_arrived_goes_to_the_next_receiver)
{
    for (unsigned i = 0; i < 2; i++)
        cr_assert(eq(u32, receivers_in_turn(schemes[i], false), 2 * TOTAL), "%s", schemes[i]);
}

Test(nng_shut, what_is_discarded_is_counted_and_the_rest_goes_to_the_next_receiver)
{
    for (unsigned i = 0; i < 2; i++)
        cr_assert(eq(u64, receivers_in_turn(schemes[i], true) + discarded, 2 * TOTAL), "%s", schemes[i]);
}

/* ---- one at a time ---- */

static void drain_what_is_there(cue_pool *of, const char *scheme)
{
    url_of(scheme, url, sizeof url);
    in = open_end(pool, CUE_RECV, CUE_NOW);
    cue_channel *s = open_end(of, CUE_SEND, CUE_NOW);
    send_some(s, 0, 10);
    cr_assert(eq(int, receive_tag(0, CUE_SEC(20)), 0)); /* so they are all here: one batch */
    cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT));
    cr_assert(eq(u32, stat_of(in).shut, 1));
    cr_assert(eq(u64, stat_of(in).queued, 9));
    send_some(s, 10, 5);
    for (uint64_t i = 1; i < 5; i++)
        cr_assert(eq(int, receive_tag(i, CUE_NOW), 0));
    cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_MS(5)), CUE_ETIMEDOUT)); /* once more changes nothing */
    for (uint64_t i = 5; i < 10; i++)
        cr_assert(eq(int, receive_tag(i, CUE_FOREVER), 0));
    cr_assert(eq(int, receive_tag(0, CUE_FOREVER), CUE_ECLOSED));
    cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_FOREVER), 0));
    cr_assert(eq(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 0));
    cr_assert(eq(int, receive_tag(0, CUE_NOW), CUE_ECLOSED));
    cr_assert(eq(int, cue_channel_close(in), 0));
    in = open_end(pool, CUE_RECV, CUE_NOW);
    for (uint64_t i = 10; i < 15; i++)
        cr_assert(eq(int, receive_tag(i, CUE_SEC(20)), 0));
    cr_assert(eq(int, cue_channel_shut(s, CUE_DRAIN, CUE_MS(test_ms(20000))), 0));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(in), 0));
}

Test(nng_shut, receives_give_out_what_is_there_then_say_closed)
{
    for (unsigned i = 0; i < 2; i++) {
        drain_what_is_there(pool, schemes[i]);
        drain_what_is_there(far_pool, schemes[i]);
    }
}

Test(nng_shut, packets_that_had_arrived_are_handed_out_or_discarded)
{
    for (unsigned i = 0; i < 4; i++) {
        uint64_t at = 0;
        url_of(schemes[i % 2], url, sizeof url);
        in = open_end(pool, CUE_RECV, CUE_NOW);
        cue_channel *s = open_end(far_pool, CUE_SEND, (cue_time){ -1 }); /* each a packet */
        send_some(s, at, 1);
        cr_assert(eq(int, receive_tag(at++, CUE_SEC(20)), 0));
        struct pollfd readable = { .fd = cue_channel_fd(in), .events = POLLIN };
        while (receive_tag(at, CUE_NOW) != CUE_EEMPTY)
            ;
        send_some(s, at, 8);
        cr_assert(eq(int, poll(&readable, 1, test_ms(20000)), 1)); /* some of them are here */
        int here = cue_channel_shut(in, i < 2 ? CUE_DRAIN : CUE_DISCARD, CUE_NOW);
        if (i < 2) {
            uint64_t before = at;
            while (receive_tag(at, CUE_NOW) == 0)
                at++;
            cr_assert(here == (at > before ? CUE_ETIMEDOUT : 0));
        } else {
            cr_assert(ge(int, here, 0));
            cr_assert(le(int, here, 8));
            at += (unsigned)here;
            cr_assert(eq(u64, stat_of(in).dropped, (uint64_t)here));
        }
        cr_assert(eq(int, receive_tag(0, CUE_FOREVER), CUE_ECLOSED));
        cr_assert(eq(int, poll(&readable, 1, 0), 1)); /* and says so */
        cr_assert(eq(int, cue_channel_close(in), 0));
        in = open_end(pool, CUE_RECV, CUE_NOW);
        while (at < 9)
            cr_assert(eq(int, receive_tag(at++, CUE_SEC(20)), 0));
        cr_assert(eq(int, cue_channel_shut(s, CUE_DRAIN, CUE_MS(test_ms(20000))), 0));
        cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
        cr_assert(eq(int, cue_channel_close(in), 0));
    }
}

/* ---- two threads ---- */

static void *receive_until_closed(void *got)
{
    int status;
    while ((status = receive_tag(*(uint64_t *)got, CUE_FOREVER)) == 0) {
        ++*(uint64_t *)got;
        poll(NULL, 0, 1); /* it works on it */
    }
    return (void *)(intptr_t)status;
}

Test(nng_shut, shut_waits_until_another_thread_has_received_it_all)
{
    for (unsigned i = 0; i < 2; i++) {
        pthread_t thread;
        void *ended;
        uint64_t got = 1;
        url_of(schemes[i], url, sizeof url);
        in = open_end(pool, CUE_RECV, CUE_NOW);
        cue_channel *s = open_end(i ? pool : far_pool, CUE_SEND, CUE_NOW);
        send_some(s, 0, 16);
        cr_assert(eq(int, receive_tag(0, CUE_SEC(20)), 0));
        cr_assert(eq(int, pthread_create(&thread, NULL, receive_until_closed, &got), 0));
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_MS(test_ms(20000))), 0), "%s", cue_trail());
        pthread_join(thread, &ended);
        cr_assert(eq(int, (int)(intptr_t)ended, CUE_ECLOSED));
        cr_assert(eq(u64, got, 16));
        cr_assert(eq(int, cue_channel_close(in), 0));
        cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    }
}

static void *receive_once(void *status)
{
    cue_msg m;
    *(_Atomic int *)status = cue_channel_recv(in, &m, CUE_FOREVER);
    return NULL;
}

Test(nng_shut, who_waits_in_a_receive_comes_out)
{
    for (unsigned how = CUE_DRAIN; how <= CUE_DISCARD; how++) {
        pthread_t thread;
        _Atomic int status = 1;
        url_of("ipc", url, sizeof url);
        in = open_end(pool, CUE_RECV, CUE_NOW);
        cr_assert(eq(int, pthread_create(&thread, NULL, receive_once, &status), 0));
        poll(NULL, 0, 20); /* it waits by now, or will not wait at all: both end alike */
        cr_assert(eq(int, cue_channel_shut(in, how, CUE_MS(test_ms(20000))), 0));
        pthread_join(thread, NULL);
        cr_assert(eq(int, status, CUE_ECLOSED));
        cr_assert(eq(int, cue_channel_close(in), 0));
    }
}

static void *shut_for_ever(void *status)
{
    *(_Atomic int *)status = cue_channel_shut(in, CUE_DRAIN, CUE_FOREVER);
    return NULL;
}

Test(nng_shut, a_shut_that_waits_ends_with_a_wake_and_with_close)
{
    for (unsigned i = 0; i < 2; i++) {
        pthread_t thread;
        _Atomic int status = 1;
        url_of("ipc", url, sizeof url);
        in = open_end(pool, CUE_RECV, CUE_NOW);
        cue_channel *s = open_end(pool, CUE_SEND, CUE_NOW);
        send_some(s, 0, 3);
        cr_assert(eq(int, receive_tag(0, CUE_SEC(20)), 0));
        cr_assert(eq(int, pthread_create(&thread, NULL, shut_for_ever, &status), 0));
        while (!stat_of(in).shut)
            poll(NULL, 0, 1);
        poll(NULL, 0, 20); /* it waits by now, in all likelihood */
        if (i == 0) {
            cue_channel_wake(in);
            pthread_join(thread, NULL);
            cr_assert(eq(int, status, CUE_EINTR));
        }
        cr_assert(eq(int, cue_channel_close(in), 0));
        if (i == 1) {
            pthread_join(thread, NULL);
            cr_assert(eq(int, status, CUE_ECLOSED));
        }
        in = open_end(pool, CUE_RECV, CUE_NOW);
        cr_assert(eq(int, receive_tag(1, CUE_SEC(20)), 0)); /* what was not handed out */
        cr_assert(eq(int, receive_tag(2, CUE_SEC(20)), 0));
        cr_assert(eq(int, cue_channel_close(in), 0));
        cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    }
}

/* ---- questions ---- */

struct asker {
    pthread_t thread;
    cue_channel *ch;
    int status;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    cue_msg answer;
    a->status = cue_channel_ask(a->ch, &(cue_msg){ .data = "?", .size = 1 }, CUE_SEC(60), &answer);
    cue_msg_release(&answer);
    return NULL;
}

Test(nng_shut, who_asked_hears_that_the_question_was_discarded)
{
    for (unsigned i = 0; i < 4; i++) {
        struct asker asker = { 0 };
        url_of(schemes[i % 2], url, sizeof url);
        in = open_end(pool, CUE_RECV, CUE_NOW);
        asker.ch = open_end(i < 2 ? pool : far_pool, CUE_SEND, CUE_SEC(30)); /* what waits goes together */
        send_some(asker.ch, 0, 1);
        CUE_MUST(cue_channel_send(asker.ch, &(cue_msg){ .tag = 1 }, CUE_SEC(20)));
        cr_assert(eq(int, pthread_create(&asker.thread, NULL, ask, &asker), 0));
        while (stat_of(asker.ch).queued < 3)
            poll(NULL, 0, 1);
        for (uint64_t tag = 0; tag < 2; tag++)
            cr_assert(eq(int, receive_tag(tag, CUE_SEC(20)), 0));
        cr_assert(eq(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 1)); /* it is in the same batch */
        pthread_join(asker.thread, NULL);
        cr_assert(eq(int, asker.status, CUE_ECLOSED), "%s", cue_status_name(asker.status));
        cr_assert(eq(int, cue_channel_close(in), 0));
        (void)cue_channel_close(asker.ch); /* its last acknowledgement may have gone with the receiver */
    }
}
