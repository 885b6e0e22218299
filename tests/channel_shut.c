/* cue_channel_shut through its public calls: what a receiver ends, what a sender waits for, on every kind of lane. */
#include "tests/one_lane.h"

#include <pthread.h>

static void setup(void)
{
    open_pool("shut");
}

TestSuite(shut, .init = setup, .fini = teardown);

static const char *const kinds[] = { "mailbox", "queue", "stream", "topic" };
enum { KINDS = 4, TOPIC = 3 };

static const char *of_kind(unsigned kind, const char *more)
{
    static char rest[128];
    snprintf(rest, sizeof rest, "%s?kind=%s%s", kinds[kind], kinds[kind], more);
    return rest;
}

static void open_kind(unsigned kind, const char *more)
{
    open_both(of_kind(kind, more));
}

static void close_both(void)
{
    cr_assert(eq(int, cue_channel_close(in), 0));
    cr_assert(eq(int, cue_channel_close(out), 0));
    in = out = NULL;
}

static cue_time generous(void)
{
    return CUE_MS(test_ms(20000));
}

/* ---- a receiver drains ---- */

Test(shut, drained_lane_hands_out_what_is_there_and_takes_nothing_more)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        open_kind(kind, "");
        for (int i = 0; i < 3; i++)
            cr_assert(eq(int, send_int(out, i), 0));
        cr_assert(eq(int, recv_int(in), 0));
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT), "%s", kinds[kind]);
        cr_assert(eq(int, stat_of(in).shut, 1));
        cr_assert(eq(int, send_int(out, 9), kind == TOPIC ? 0 : CUE_ECLOSED), "%s", kinds[kind]); /* a topic has other subscribers */
        cr_assert(eq(int, recv_int(in), 1));
        cr_assert(eq(int, recv_int(in), 2));
        cr_assert(eq(int, recv_int(in), CUE_ECLOSED - 1000), "%s", kinds[kind]);
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), 0));
        cue_msg m;
        cr_assert(eq(int, cue_channel_recv(in, &m, CUE_FOREVER), CUE_ECLOSED), "%s", kinds[kind]);
        close_both();
        cr_assert(eq(u64, blocks(), 0), "%s", kinds[kind]);
    }
}

Test(shut, batch_of_a_sender_is_refused_whole)
{
    for (unsigned kind = 0; kind < TOPIC; kind++) {
        int value = 7;
        cue_msg two[2] = { { .data = &value, .size = sizeof value }, { .data = &value, .size = sizeof value } };
        cue_block block;
        open_kind(kind, "");
        CUE_MUST(cue_channel_shut(in, CUE_DRAIN, CUE_NOW));
        CUE_MUST(cue_block_alloc(pool, 5000, NULL, &block));
        two[1].move = &block;
        cr_assert(eq(int, cue_channel_send_many(out, two, 2, CUE_NOW), CUE_ECLOSED));
        cr_assert(eq(int, cue_channel_send(out, &two[1], CUE_FOREVER), CUE_ECLOSED)); /* nor waits */
        cr_assert(ne(ptr, block.data, NULL));
        cr_assert(eq(int, cue_block_release(&block), 0));
        close_both();
    }
}

Test(shut, next_receiver_opens_the_lane_again)
{
    for (unsigned kind = 0; kind < TOPIC; kind++) {
        open_kind(kind, "");
        cr_assert(eq(int, send_int(out, 1), 0));
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT));
        CUE_MUST(cue_channel_close(in));
        cr_assert(eq(int, send_int(out, 2), CUE_ECLOSED), "%s", kinds[kind]);
        CUE_MUST(cue_channel_open(lane(of_kind(kind, "")), CUE_RECV, NULL, &in));
        cr_assert(eq(int, stat_of(in).shut, 0));
        cr_assert(eq(int, send_int(out, 2), 0), "%s", kinds[kind]);
        cr_assert(eq(int, recv_int(in), 1)); /* what the former one left */
        cr_assert(eq(int, recv_int(in), 2));
        cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
        close_both();
    }
}

static pthread_t waiter_start(struct waiting *w, cue_channel *ch, bool sends)
{
    *w = (struct waiting){ .ch = ch, .wait = generous(), .sends = sends, .all = true };
    return wait_begin(w);
}

static void waiter_ends_with(pthread_t thread, const struct waiting *w, int status)
{
    cr_assert(eq(int, pthread_join(thread, NULL), 0));
    cr_assert(eq(int, w->result, status), "%s", cue_status_name(w->result));
}

Test(shut, who_waits_in_a_receive_comes_out)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        struct waiting w;
        open_kind(kind, "&spin=0");
        pthread_t thread = waiter_start(&w, in, false);
        until_sleeping(in);
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, generous()), 0));
        waiter_ends_with(thread, &w, CUE_ECLOSED);
        close_both();
    }
}

Test(shut, who_waits_for_room_comes_out)
{
    for (unsigned kind = 0; kind < TOPIC; kind++) {
        struct waiting w;
        open_kind(kind, "&depth=2");
        cr_assert(eq(int, send_int(out, 0), 0));
        cr_assert(eq(int, send_int(out, 1), 0));
        pthread_t thread = waiter_start(&w, out, true);
        poll(NULL, 0, 20); /* it waits by now, or will not wait at all: both end alike */
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT));
        waiter_ends_with(thread, &w, CUE_ECLOSED);
        cr_assert(eq(int, recv_int(in), 0));
        cr_assert(eq(int, recv_int(in), 1));
        cr_assert(eq(int, recv_int(in), CUE_ECLOSED - 1000));
        close_both();
    }
}

Test(shut, publisher_that_waits_for_a_subscriber_goes_on_without_it)
{
    struct waiting w;
    open_kind(TOPIC, "&depth=2");
    cr_assert(eq(int, send_int(out, 0), 0));
    cr_assert(eq(int, send_int(out, 1), 0));
    cr_assert(eq(int, send_int(out, 2), CUE_EFULL));
    pthread_t thread = waiter_start(&w, out, true);
    poll(NULL, 0, 20); /* as above */
    cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT));
    waiter_ends_with(thread, &w, 0);
    cr_assert(eq(int, recv_int(in), 0));
    cr_assert(eq(int, recv_int(in), 1));
    cr_assert(eq(int, recv_int(in), CUE_ECLOSED - 1000));
}

Test(shut, full_subscription_that_drops_the_oldest_gets_nothing_more)
{
    open_kind(TOPIC, "&depth=4&full=drop-old");
    for (int i = 0; i < 6; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT));
    for (int i = 6; i < 12; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    for (int i = 2; i < 6; i++)
        cr_assert(eq(int, recv_int(in), i));
    cr_assert(eq(int, recv_int(in), CUE_ECLOSED - 1000));
    cr_assert(eq(u64, stat_of(in).dropped, 2));
}

/* ---- a receiver discards ---- */

Test(shut, discarded_messages_are_freed_with_their_blocks_and_counted)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        open_kind(kind, "");
        uint64_t before = blocks();
        for (int i = 0; i < 40; i++) {
            cue_block block;
            CUE_MUST(cue_block_alloc(pool, 5000, NULL, &block));
            cr_assert(eq(
                int, cue_channel_send(out, &(cue_msg){ .type = 1, .data = &i, .size = i % 2 ? sizeof i : 0, .move = &block }, CUE_NOW), 0));
        }
        cue_msg m;
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cue_msg_release(&m);
        cr_assert(eq(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 39), "%s", kinds[kind]);
        cr_assert(eq(u64, blocks(), before), "%s", kinds[kind]);
        cue_channel_info info = stat_of(in);
        cr_assert(eq(u64, info.dropped, 39), "%s", kinds[kind]);
        cr_assert(eq(u64, info.received, 1));
        cr_assert(eq(u64, info.queued, 0));
        cr_assert(eq(int, recv_int(in), CUE_ECLOSED - 1000));
        cr_assert(eq(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 0));
        close_both();
    }
}

Test(shut, mailbox_that_drops_the_oldest_discards_all_that_it_holds)
{
    open_both("a?depth=4&full=drop-old");
    for (int i = 0; i < 8; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 8));
    cr_assert(eq(u64, stat_of(in).dropped, 8));
}

Test(shut, who_waits_for_several_hears_of_one_that_has_ended)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        cue_channel *other, *both[2];
        cue_msg m;
        open_kind(kind, "");
        CUE_MUST(cue_channel_open(lane("other"), CUE_RECV, NULL, &other));
        both[0] = other;
        both[1] = in;
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), 0));
        cr_assert(eq(int, cue_channel_recv_any(both, 2, &m, generous()), CUE_ECLOSED), "%s", kinds[kind]);
        CUE_MUST(cue_channel_close(other));
        close_both();
    }
}

Test(shut, discard_ends_another_threads_wait)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        struct waiting w;
        open_kind(kind, "&spin=0");
        pthread_t thread = waiter_start(&w, in, false);
        until_sleeping(in);
        cr_assert(ge(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 0));
        waiter_ends_with(thread, &w, CUE_ECLOSED);
        close_both();
    }
}

Test(shut, discarded_messages_of_a_queue_go_to_its_dead_letters)
{
    cue_channel *letters;
    open_both("a?kind=queue&redeliver=2&dead=letters");
    CUE_MUST(cue_channel_open(lane("letters"), CUE_RECV, NULL, &letters));
    for (int i = 0; i < 5; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 5));
    for (int i = 0; i < 5; i++)
        cr_assert(eq(int, recv_int(letters), i));
    cr_assert(eq(int, recv_int(letters), CUE_EEMPTY - 1000));
    cr_assert(eq(u64, stat_of(in).dead, 5));
    CUE_MUST(cue_channel_close(letters));
}

static void *ask_there(void *arg)
{
    struct waiting *w = arg;
    int value = 5;
    cue_msg answer = { 0 };
    w->result = cue_channel_ask(w->ch, CUE_MSG(1, value), generous(), &answer);
    cue_msg_release(&answer);
    return NULL;
}

Test(shut, who_asked_hears_that_the_question_was_discarded)
{
    for (unsigned kind = 0; kind < TOPIC; kind++) {
        struct waiting w = { 0 };
        pthread_t thread;
        open_kind(kind, "");
        w.ch = out;
        cr_assert(eq(int, pthread_create(&thread, NULL, ask_there, &w), 0));
        for (int i = 0; i < test_ms(10000) && stat_of(in).queued == 0; i++)
            poll(NULL, 0, 1);
        cr_assert(eq(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 1));
        waiter_ends_with(thread, &w, CUE_ECLOSED);
        close_both();
    }
}

/* ---- a sender drains ---- */

Test(shut, sender_waits_until_what_it_sent_was_taken)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        struct waiting w;
        open_kind(kind, "");
        cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, CUE_NOW), 0));
        for (int i = 0; i < 100; i++)
            cr_assert(eq(int, send_int(out, i), 0));
        cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, CUE_MS(1)), CUE_ETIMEDOUT), "%s", kinds[kind]);
        pthread_t thread = waiter_start(&w, in, false);
        cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, generous()), 0), "%s", kinds[kind]);
        cr_assert(eq(int, send_int(out, 100), 0)); /* it ends nothing */
        cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, generous()), 0));
        cr_assert(eq(u64, stat_of(in).queued, 0));
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, generous()), 0));
        waiter_ends_with(thread, &w, CUE_ECLOSED);
        cr_assert(eq(int, w.got, 101));
        close_both();
    }
}

Test(shut, senders_wait_ends_with_a_wake)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        open_kind(kind, "");
        cr_assert(eq(int, send_int(out, 1), 0));
        cue_channel_wake(out);
        cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, generous()), CUE_EINTR), "%s", kinds[kind]);
        cr_assert(eq(int, recv_int(in), 1));
        close_both();
    }
}

Test(shut, sender_waits_for_no_subscriber_that_left)
{
    cue_channel *second;
    open_kind(TOPIC, "");
    CUE_MUST(cue_channel_open(lane(of_kind(TOPIC, "")), CUE_RECV, NULL, &second));
    cr_assert(eq(int, send_int(out, 1), 0));
    cr_assert(eq(int, recv_int(in), 1));
    cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, CUE_NOW), CUE_ETIMEDOUT));
    CUE_MUST(cue_channel_close(second));
    cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, CUE_NOW), 0));
}

Test(shut, what_makes_no_sense_is_refused)
{
    cue_channel *parties;
    open_both("a");
    cr_assert(eq(int, cue_channel_shut(NULL, CUE_DRAIN, CUE_NOW), CUE_EINVAL));
    cr_assert(eq(int, cue_channel_shut(in, 0, CUE_NOW), CUE_EINVAL));
    cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN | CUE_DISCARD, CUE_NOW), CUE_EINVAL));
    cr_assert(eq(int, cue_channel_shut(out, CUE_DISCARD, CUE_NOW), CUE_EPERM));
    CUE_MUST(cue_channel_open(lane("@parties"), CUE_RECV, NULL, &parties));
    cr_assert(eq(int, cue_channel_shut(parties, CUE_DRAIN, CUE_NOW), CUE_ENOSYS));
    cr_assert(eq(int, cue_channel_shut(parties, CUE_DISCARD, CUE_NOW), CUE_ENOSYS));
    CUE_MUST(cue_channel_close(parties));
}

/* ---- sockets ---- */

static cue_channel *open_socket(const char *name, unsigned how)
{
    cue_channel *ch;
    char address[100];
    snprintf(address, sizeof address, "ipc://@%s", name);
    CUE_MUST(cue_channel_open(address, how, &(cue_channel_opts){ .pool = pool }, &ch));
    return ch;
}

Test(shut, socket_sender_waits_until_all_is_acknowledged)
{
    struct waiting w;
    const char *name = test_name("shut");
    out = open_socket(name, CUE_SEND);
    for (int i = 0; i < 10; i++)
        cr_assert(eq(int, send_int(out, i), 0));
    cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, CUE_MS(1)), CUE_ETIMEDOUT)); /* nobody is there */
    cue_channel *receiver = open_socket(name, CUE_RECV);
    pthread_t thread = waiter_start(&w, receiver, false);
    cr_assert(eq(int, cue_channel_shut(out, CUE_DRAIN, generous()), 0));
    cr_assert(eq(u64, stat_of(out).queued, 0));
    cue_channel_wake(receiver);
    waiter_ends_with(thread, &w, CUE_EINTR);
    cr_assert(eq(int, w.got, 10));
    CUE_MUST(cue_channel_close(receiver));
}

Test(shut, socket_sender_that_discards_does_not_linger)
{
    out = open_socket(test_name("shut"), CUE_SEND);
    cr_assert(eq(int, send_int(out, 1), 0));
    cr_assert(eq(int, cue_channel_shut(out, CUE_DISCARD, CUE_NOW), 0));
    cr_assert(eq(int, cue_channel_close(out), CUE_ETIMEDOUT)); /* it says that it was not sent */
    out = NULL;
}

/* ---- several processes and threads ---- */

enum { SENDERS = 3, ROUNDS = 60 };

struct racer {
    pthread_t thread;
    cue_channel *ch;
    int sent, status;
};

static void *race(void *arg)
{
    struct racer *r = arg;
    while ((r->status = cue_channel_send(r->ch, CUE_MSG(1, r->sent), generous())) == 0)
        r->sent++;
    return NULL;
}

/* Nothing that was reported as sent is lost, and nothing else comes. Senders end by themselves. */
static void race_on(const char *rest, unsigned senders)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct racer r[SENDERS] = { 0 };
        int got = 0, sent = 0, status;
        cue_msg m;
        CUE_MUST(cue_channel_open(lane(rest), CUE_RECV, NULL, &in));
        for (unsigned i = 0; i < senders; i++) {
            CUE_MUST(cue_channel_open(lane(rest), CUE_SEND, NULL, &r[i].ch));
            cr_assert(eq(int, pthread_create(&r[i].thread, NULL, race, &r[i]), 0));
        }
        for (; got < 50 + round && cue_channel_recv(in, &m, generous()) == 0; got++)
            cue_msg_release(&m);
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW) <= 0, 1));
        for (; (status = cue_channel_recv(in, &m, generous())) == 0; got++)
            cue_msg_release(&m);
        cr_assert(eq(int, status, CUE_ECLOSED));
        for (unsigned i = 0; i < senders; i++) {
            cr_assert(eq(int, pthread_join(r[i].thread, NULL), 0));
            cr_assert(eq(int, r[i].status, CUE_ECLOSED));
            sent += r[i].sent;
        }
        if (senders == 1) /* a stream's sender may have been a moment late */
            for (; cue_channel_recv(in, &m, CUE_NOW) == 0; got++)
                cue_msg_release(&m);
        cr_assert(eq(int, got, sent));
        for (unsigned i = 0; i < senders; i++)
            CUE_MUST(cue_channel_close(r[i].ch));
        CUE_MUST(cue_channel_close(in));
        in = NULL;
    }
}

Test(shut, mailbox_drains_exactly_while_senders_send)
{
    race_on("a?kind=mailbox&depth=16", SENDERS);
}

Test(shut, queue_drains_exactly_while_senders_send)
{
    race_on("a?kind=queue&depth=16", SENDERS);
}

Test(shut, stream_loses_nothing_while_its_sender_sends)
{
    race_on("a?kind=stream&depth=16", 1);
}

Test(shut, descriptor_is_readable_at_the_end)
{
    for (unsigned kind = 0; kind < KINDS; kind++) {
        open_kind(kind, "");
        int fd = cue_channel_fd(in);
        cr_assert(ge(int, fd, 0));
        cr_assert(eq(int, recv_int(in), CUE_EEMPTY - 1000));
        cr_assert(eq(int, cue_channel_shut(in, CUE_DRAIN, CUE_NOW), 0));
        struct pollfd readable = { .fd = fd, .events = POLLIN };
        cr_assert(eq(int, poll(&readable, 1, test_ms(20000)), 1), "%s", kinds[kind]);
        cr_assert(eq(int, recv_int(in), CUE_ECLOSED - 1000));
        close_both();
    }
}
