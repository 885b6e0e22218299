/* Waiting elsewhere than in a receive: descriptors for poll and epoll, and several channels at once; each by every way that the
 * library knows to wait for several words (CUE_WAIT, see base/futex.h). */
#include "tests/harness.h"

#include "base/futex.h"
#include "channels/spin.h"

#include <cuelight/channel.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { NOTE = 1, LANES = 10, MANY = 1000 };

static char url[128];
static const char *pool_name;
static cue_pool *pool;
static cue_channel *in[MANY], *out[MANY];

static const char *lane(const char *rest)
{
    snprintf(url, sizeof url, "shm://%s/%s", pool_name, rest);
    return url;
}

static void setup(void)
{
    pool_name = test_name("wait");
    CUE_MUST(cue_pool_open(pool_name, &(cue_pool_opts){ .size = 64 << 20 }, &pool));
}

static void open_lane(unsigned i, const char *options)
{
    char rest[64];
    snprintf(rest, sizeof rest, "lane%u%s", i, options);
    CUE_MUST(cue_channel_open(lane(rest), CUE_RECV, NULL, &in[i]));
    CUE_MUST(cue_channel_open(lane(rest), CUE_SEND, NULL, &out[i]));
}
static void open_lanes(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        open_lane(i, "");
}

static void say_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static void teardown(void)
{
    cue_pool_info info;
    cue_msg m;
    for (unsigned i = 0; i < MANY; i++) {
        while (in[i] && cue_channel_recv(in[i], &m, CUE_NOW) == 0)
            cue_msg_release(&m);
        cue_channel_close(out[i]);
        cue_channel_close(in[i]);
    }
    cr_expect(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_expect(eq(u64, info.blocks, 0));
    cue_pool_close(pool);
    cr_expect(eq(int, test_leftovers(pool_name), 0));
}

/* One way to wait; skips the test where the kernel does not have it. Before the library is asked for it. */
static void wait_by(const char *way)
{
    setenv("CUE_WAIT", way, 1);
    enum futex_way is = futex_way(), wanted = strcmp(way, "nap") == 0 ? FUTEX_NAP : strcmp(way, "waitv") == 0 ? FUTEX_WAITV : FUTEX_URING;
    if (is != wanted)
        cr_skip_test("this kernel cannot wait by %s: %s", way,
                     wanted == FUTEX_URING ? "io_uring has no futexes (before Linux 6.7) or is not allowed"
                                           : "no futex_waitv (before Linux 5.16)");
}

static void send_number(unsigned i, int number)
{
    CUE_MUST(cue_channel_send(out[i], CUE_MSG(NOTE, number), CUE_NOW));
}

/* The next number, or the status. */
static int take(unsigned i)
{
    cue_msg m;
    int status = cue_channel_recv(in[i], &m, CUE_NOW), number = status ? status : *(const int *)m.data;
    cue_msg_release(&m);
    return number;
}

static bool readable(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return poll(&p, 1, test_ms(ms)) == 1;
}
enum { SOON = 10000 };

/* As epoll_wait; one that was stopped and goes on is told EINTR by the kernel. */
static int ready(int epoll, struct epoll_event *events, int most, int ms)
{
    int n;
    while ((n = epoll_wait(epoll, events, most, test_ms(ms))) < 0 && errno == EINTR)
        ;
    return n;
}

/* ---- descriptors ---- */

static void rings_and_is_silent(const char *way, const char *options)
{
    wait_by(way);
    open_lane(0, options);
    int fd = cue_channel_fd(in[0]);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(int, cue_channel_fd(in[0]), fd));
    cr_assert(eq(int, take(0), CUE_EEMPTY));
    cr_assert(not(readable(fd, 0)));
    for (int i = 1; i <= 50; i++) {
        send_number(0, 2 * i);
        cr_assert(readable(fd, SOON));
        send_number(0, 2 * i + 1);
        cr_assert(eq(int, take(0), 2 * i));
        cr_assert(readable(fd, 0)); /* one waits still */
        cr_assert(eq(int, take(0), 2 * i + 1));
        cr_assert(eq(int, take(0), CUE_EEMPTY));
        cr_assert(not(readable(fd, 0)));
    }
}

TestSuite(channel_fd, .init = setup, .fini = teardown);

Test(channel_fd, is_readable_while_messages_wait_by_uring)
{
    rings_and_is_silent("uring", "");
}
Test(channel_fd, is_readable_while_messages_wait_by_waitv)
{
    rings_and_is_silent("waitv", "");
}
Test(channel_fd, is_readable_while_messages_wait_by_naps)
{
    rings_and_is_silent("nap", "");
}

Test(channel_fd, of_a_queue_by_uring)
{
    rings_and_is_silent("uring", "?kind=queue");
}
Test(channel_fd, of_a_queue_by_waitv)
{
    rings_and_is_silent("waitv", "?kind=queue");
}
Test(channel_fd, of_a_stream_by_uring)
{
    rings_and_is_silent("uring", "?kind=stream");
}
Test(channel_fd, of_a_subscription_by_uring)
{
    rings_and_is_silent("uring", "?kind=topic");
}
Test(channel_fd, of_a_subscription_by_waitv)
{
    rings_and_is_silent("waitv", "?kind=topic");
}

Test(channel_fd, what_waited_before_it_was_made_makes_it_readable)
{
    open_lane(0, "");
    send_number(0, 7);
    int fd = cue_channel_fd(in[0]);
    cr_assert(readable(fd, 0));
    cr_assert(eq(int, take(0), 7));
}

Test(channel_fd, edges_come_one_for_each_time_that_it_was_emptied)
{
    struct epoll_event event = { .events = EPOLLIN | EPOLLET };
    open_lane(0, "");
    int epoll = epoll_create1(EPOLL_CLOEXEC), fd = cue_channel_fd(in[0]);
    cr_assert(eq(int, take(0), CUE_EEMPTY));
    cr_assert(eq(int, epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0));
    for (int i = 0; i < 20; i++) {
        send_number(0, i);
        cr_assert(eq(int, ready(epoll, &event, 1, SOON), 1));
        cr_assert(eq(int, take(0), i));
        cr_assert(eq(int, take(0), CUE_EEMPTY));
        cr_assert(eq(int, ready(epoll, &event, 1, 0), 0));
    }
    close(epoll);
}

static void many_channels(const char *way)
{
    struct rlimit files;
    wait_by(way);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    if (files.rlim_max < MANY + 100 || setrlimit(RLIMIT_NOFILE, &files))
        cr_skip_test("only %llu descriptors", (unsigned long long)files.rlim_max);
    open_lanes(MANY);
    struct epoll_event event = { .events = EPOLLIN }, events[16];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < MANY; i++) {
        int fd = cue_channel_fd(in[i]);
        event.data.u32 = i;
        cr_assert(eq(int, take(i), CUE_EEMPTY));
        cr_assert(eq(int, epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0));
    }
    cr_assert(eq(int, ready(epoll, events, 16, 0), 0));
    for (unsigned i = 0; i < MANY; i += 97) {
        send_number(i, (int)i);
        cr_assert(eq(int, ready(epoll, events, 16, SOON), 1));
        cr_assert(eq(u32, events[0].data.u32, i));
        cr_assert(eq(int, take(i), (int)i));
        cr_assert(eq(int, take(i), CUE_EEMPTY));
    }
    struct rusage before, after; /* what it costs to wait: the bench has the exact figure */
    getrusage(RUSAGE_SELF, &before);
    ready(epoll, events, 16, 1000);
    getrusage(RUSAGE_SELF, &after);
    long us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
              after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec;
    cr_expect(lt(long, us, 100000)); /* a tenth of a CPU would be a spin */
    close(epoll);
}

Test(channel_fd, a_thousand_of_them_each_ring_and_cost_nothing_by_uring)
{
    many_channels("uring");
}
Test(channel_fd, a_thousand_of_them_each_ring_and_cost_nothing_by_waitv)
{
    many_channels("waitv");
}

static void sender_of(const char *options)
{
    open_lane(0, options);
    int fd = cue_channel_fd(out[0]), number = 0;
    for (int round = 0; round < 10; round++) {
        cr_assert(readable(fd, SOON));
        while (cue_channel_send(out[0], CUE_MSG(NOTE, number), CUE_NOW) == 0)
            number++;
        cr_assert(not(readable(fd, 0)));
        for (int i = 0; i < 4; i++)
            cr_assert(ge(int, take(0), 0));
    }
}

Test(channel_fd, of_a_sender_is_readable_while_there_is_room)
{
    sender_of("?depth=4");
}
Test(channel_fd, of_a_sender_to_a_queue)
{
    sender_of("?depth=4&kind=queue");
}
Test(channel_fd, of_a_sender_to_a_stream)
{
    sender_of("?depth=4&kind=stream");
}
Test(channel_fd, of_a_publisher)
{
    sender_of("?depth=4&kind=topic&full=fail");
}

static void publisher_by(const char *way)
{
    cue_channel *second, *slow;
    cue_msg m;
    wait_by(way);
    open_lane(0, "?kind=topic&depth=4&full=fail");
    CUE_MUST(cue_channel_open(lane("lane0"), CUE_RECV, NULL, &second));
    int fd = cue_channel_fd(out[0]), number = 0;
    for (int round = 0; round < 20; round++) { /* full is now the one, now the other */
        while (cue_channel_send(out[0], CUE_MSG(NOTE, number), CUE_NOW) == 0)
            number++;
        cr_assert(not(readable(fd, 0)));
        cue_channel *ends[] = { in[0], second };
        for (int end = 0; end < 2; end++) {
            slow = ends[(round + end) % 2];
            for (int i = 0; i < 4; i++) {
                CUE_MUST(cue_channel_recv(slow, &m, CUE_NOW));
                cue_msg_release(&m);
            }
            if (end == 0) /* there is no room for all yet */
                cr_assert(eq(int, cue_channel_send(out[0], CUE_MSG(NOTE, number), CUE_NOW), CUE_EFULL));
        }
        cr_assert(readable(fd, SOON));
    }
    cue_channel_close(second);
}

Test(channel_fd, of_a_publisher_to_several_by_uring)
{
    publisher_by("uring");
}
Test(channel_fd, of_a_publisher_to_several_by_waitv)
{
    publisher_by("waitv");
}

static void heavy_sender(const char *options)
{
    static char heavy[100000];
    cue_msg m;
    open_lane(0, options);
    int fd = cue_channel_fd(out[0]), sent = 0;
    while (cue_channel_send(out[0], &(cue_msg){ .data = heavy, .size = sizeof heavy }, CUE_NOW) == 0)
        sent++;
    cr_assert(eq(int, sent, 3));
    cr_assert(not(readable(fd, 0))); /* by count there would be room */
    CUE_MUST(cue_channel_recv(in[0], &m, CUE_NOW));
    cue_msg_release(&m);
    cr_assert(readable(fd, SOON));
}

Test(channel_fd, of_a_sender_to_a_lane_that_is_full_of_bytes)
{
    heavy_sender("?bytes=300k");
}
Test(channel_fd, of_a_sender_to_a_queue_that_is_full_of_bytes)
{
    heavy_sender("?bytes=300k&kind=queue");
}

Test(channel_fd, wake_makes_it_readable_and_the_receive_says_so_once)
{
    open_lane(0, "");
    int fd = cue_channel_fd(in[0]);
    cr_assert(eq(int, take(0), CUE_EEMPTY));
    cue_channel_wake(in[0]);
    cr_assert(readable(fd, SOON));
    cr_assert(eq(int, take(0), CUE_EINTR));
    cr_assert(eq(int, take(0), CUE_EEMPTY));
    cr_assert(not(readable(fd, 0)));
}

static void *receive_one(void *arg)
{
    cue_msg m;
    CUE_MUST(cue_channel_recv(arg, &m, CUE_FOREVER));
    cue_msg_release(&m);
    return NULL;
}

/* The thread that rings sleeps on the same word as a receive: it must not keep its wakes. */
static void receives_beside_it(const char *way)
{
    wait_by(way);
    open_lane(0, "?spin=0");
    int fd = cue_channel_fd(in[0]);
    cr_assert(eq(int, take(0), CUE_EEMPTY));
    for (int i = 0; i < 30; i++) {
        pthread_t thread;
        cue_channel_info info = { 0 };
        cr_assert(eq(int, pthread_create(&thread, NULL, receive_one, in[0]), 0));
        while (!info.sleeping)
            CUE_MUST(cue_channel_stat(in[0], &info));
        send_number(0, i);
        pthread_join(thread, NULL);
    }
    cr_assert(readable(fd, 0)); /* nobody has found it empty since */
    cr_assert(eq(int, take(0), CUE_EEMPTY));
    send_number(0, 7);
    cr_assert(readable(fd, SOON));
}

Test(channel_fd, receives_may_wait_beside_it_by_uring)
{
    receives_beside_it("uring");
}
Test(channel_fd, receives_may_wait_beside_it_by_waitv)
{
    receives_beside_it("waitv");
}

Test(channel_fd, message_of_another_process_rings)
{
    open_lane(0, "");
    int fd = cue_channel_fd(in[0]);
    cr_assert(eq(int, take(0), CUE_EEMPTY));
    struct cast sender = cast_start("mailbox_sender", lane("lane0"));
    cr_assert(eq(int, cast_hear(&sender, 10000), 'r'));
    for (int i = 1; i < 20; i++) {
        cast_say(&sender, 's');
        cr_assert(readable(fd, SOON));
        cr_assert(eq(int, take(0), i));
        cr_assert(eq(int, take(0), CUE_EEMPTY));
    }
    cr_assert(eq(int, cast_kill(&sender), CAST_SIGNALLED + SIGKILL));
}

Test(channel_fd, destroyed_pool_makes_it_readable)
{
    cue_pool *other;
    cue_channel *ch;
    cue_msg m;
    const char *name = test_name("wait-gone");
    char text[128];
    CUE_MUST(cue_pool_open(name, NULL, &other));
    snprintf(text, sizeof text, "shm://%s/lane", name);
    CUE_MUST(cue_channel_open(text, CUE_RECV, NULL, &ch));
    int fd = cue_channel_fd(ch);
    cr_assert(eq(int, cue_channel_recv(ch, &m, CUE_NOW), CUE_EEMPTY));
    struct cast helper = cast_start("mailbox_sender", text);
    cr_assert(eq(int, cast_hear(&helper, 10000), 'r'));
    CUE_MUST(cue_pool_destroy(other));
    cr_assert(readable(fd, SOON));
    cr_assert(lt(int, cue_channel_recv(ch, &m, CUE_NOW), 0));
    cue_channel_close(ch);
    cast_kill(&helper);
    cr_expect(eq(int, test_leftovers(name), 0));
}

static int child_sends(void)
{
    int number = 5, fd = cue_channel_fd(out[0]);
    if (fd < 0 || !readable(fd, 0))
        return 1;
    while (cue_channel_send(out[0], CUE_MSG(NOTE, number), CUE_NOW) == 0)
        ;
    return readable(fd, 0) ? 2 : 0;
}

Test(channel_fd, a_forked_child_gets_its_own)
{
    int status = 0;
    open_lane(0, "?depth=4");
    int fd = cue_channel_fd(out[0]);
    cr_assert(ge(int, fd, 0));
    pid_t child = fork();
    if (child == 0)
        _exit(child_sends());
    cr_assert(eq(int, (int)waitpid(child, &status, 0), (int)child));
    cr_assert(eq(int, status, 0));
    cr_assert(readable(fd, 0)); /* the parent has not looked */
    cr_assert(eq(int, take(0), 5));
}

Test(channel_fd, closing_while_it_is_armed_and_rung)
{
    for (int round = 0; round < 50; round++) {
        open_lanes(3);
        for (unsigned i = 0; i < 3; i++) {
            cr_assert(ge(int, cue_channel_fd(in[i]), 0));
            cr_assert(eq(int, take(i), CUE_EEMPTY));
        }
        send_number(1, 1);
        for (unsigned i = 0; i < 3; i++) {
            if (i == 1 && round % 2)
                cr_assert(eq(int, take(1), 1));
            cue_channel_close(in[i]);
            cue_channel_close(out[i]);
            in[i] = out[i] = NULL;
        }
        if (round % 2 == 0) {
            open_lane(1, "");
            cr_assert(eq(int, take(1), 1));
            cue_channel_close(in[1]);
            cue_channel_close(out[1]);
            in[1] = out[1] = NULL;
        }
    }
}

/* ---- several at once ---- */

TestSuite(channel_any, .init = setup, .fini = teardown);

static int any(size_t n, cue_time wait)
{
    cue_msg m;
    int which = cue_channel_recv_any(in, n, &m, wait);
    if (which >= 0)
        cue_msg_release(&m);
    return which;
}

Test(channel_any, serves_each_in_turn)
{
    open_lanes(4);
    for (int i = 0; i < 12; i++) {
        send_number(1, i);
        send_number(3, i);
    }
    for (int i = 0; i < 12; i++) {
        int first = any(4, CUE_NOW), second = any(4, CUE_NOW);
        cr_expect(ne(int, first, second));
        cr_expect(eq(int, first + second, 4));
    }
    cr_expect(eq(int, any(4, CUE_NOW), CUE_EEMPTY));
    cr_expect(eq(int, any(4, CUE_MS(20)), CUE_EEMPTY));
}

static _Atomic int served_so_far;

static void *send_to_each(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < LANES; i++) {
        cue_channel_info info = { 0 };
        while (!info.sleeping) /* the other one waits: the first lane is a mailbox, which says so */
            CUE_MUST(cue_channel_stat(in[0], &info));
        send_number(i, (int)i);
        while (atomic_load(&served_so_far) == (int)i)
            sched_yield();
    }
    return NULL;
}

static void wakes_from_each(const char *way)
{
    static const char *const kinds[] = { "", "?kind=queue", "?kind=stream", "?kind=topic" };
    pthread_t thread;
    wait_by(way);
    for (unsigned i = 0; i < LANES; i++)
        open_lane(i, strcmp(way, "waitv") == 0 ? kinds[i % 4] : "");
    cr_assert(eq(int, pthread_create(&thread, NULL, send_to_each, NULL), 0));
    for (int i = 0; i < LANES; i++) {
        cr_assert(eq(int, any(LANES, CUE_SEC(60)), i));
        atomic_store(&served_so_far, i + 1);
    }
    pthread_join(thread, NULL);
}

Test(channel_any, wakes_for_any_of_them_by_waitv)
{
    wakes_from_each("waitv");
}
Test(channel_any, wakes_for_any_of_them_by_naps)
{
    wakes_from_each("nap");
}

static void *wake_or_close(void *arg)
{
    cue_channel_info info = { 0 };
    while (!info.sleeping)
        CUE_MUST(cue_channel_stat(in[2], &info));
    if (arg)
        cue_channel_wake(in[1]);
    else
        cue_channel_close(in[1]);
    return NULL;
}

Test(channel_any, wake_of_one_ends_it)
{
    pthread_t thread;
    open_lanes(3);
    cr_assert(eq(int, pthread_create(&thread, NULL, wake_or_close, in[1]), 0));
    cr_assert(eq(int, any(3, CUE_SEC(60)), CUE_EINTR));
    pthread_join(thread, NULL);
    cue_channel_wake(in[0]); /* sticky: the next one */
    cr_assert(eq(int, any(3, CUE_SEC(60)), CUE_EINTR));
    cr_assert(eq(int, any(3, CUE_NOW), CUE_EEMPTY));
}

Test(channel_any, close_of_one_ends_it)
{
    pthread_t thread;
    open_lanes(3);
    cr_assert(eq(int, pthread_create(&thread, NULL, wake_or_close, NULL), 0));
    cr_assert(eq(int, any(3, CUE_SEC(60)), CUE_ECLOSED));
    pthread_join(thread, NULL);
    in[1] = NULL;
}

Test(channel_any, takes_over_from_a_sender_that_was_killed_with_its_message_sent)
{
    open_lanes(2);
    struct cast sender = cast_start("mailbox_sender", lane("lane1"));
    cr_assert(eq(int, cast_hear(&sender, 10000), 'r'));
    cast_say(&sender, 's');
    cr_assert(eq(int, any(2, CUE_SEC(60)), 1));
    cr_assert(eq(int, cast_kill(&sender), CAST_SIGNALLED + SIGKILL));
    cr_assert(eq(int, any(2, CUE_MS(10)), CUE_EEMPTY));
}

/* A message or the death of the peer, whichever comes. */
Test(channel_any, tells_of_the_death_of_a_peer)
{
    cue_msg m;
    open_lane(0, "");
    CUE_MUST(cue_channel_open(lane("@parties"), CUE_RECV, NULL, &in[1]));
    struct cast sender = cast_start("mailbox_sender", lane("lane0"));
    cr_assert(eq(int, cast_hear(&sender, 10000), 'r'));
    cast_say(&sender, 's');
    bool came = false, up = false;
    while (!came || !up) {
        int which = cue_channel_recv_any(in, 2, &m, CUE_SEC(60));
        cr_assert(ge(int, which, 0));
        came |= which == 0;
        up |= which == 1 && m.type == CUE_PARTY_UP;
        cue_msg_release(&m);
    }
    cr_assert(eq(int, cast_kill(&sender), CAST_SIGNALLED + SIGKILL));
    cr_assert(eq(int, cue_channel_recv_any(in, 2, &m, CUE_SEC(60)), 1));
    cr_assert(eq(u32, m.type, CUE_PARTY_DOWN));
    cue_msg_release(&m);
}

static void *send_through_both(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        while (atomic_load(&served_so_far) < i)
            sched_yield();
        CUE_MUST(cue_channel_send(out[i % 2], CUE_MSG(NOTE, i), CUE_SEC(20)));
    }
    while (atomic_load(&served_so_far) < 20)
        sched_yield();
    cue_channel_wake(in[0]);
    while (atomic_load(&served_so_far) < 21)
        sched_yield();
    cue_channel_wake(in[1]);
    return NULL;
}

Test(channel_fd, of_a_socket_is_readable_while_messages_wait)
{
    snprintf(url, sizeof url, "ipc://@%s", pool_name);
    CUE_MUST(cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool }, &in[0]));
    CUE_MUST(cue_channel_open(url, CUE_SEND, &(cue_channel_opts){ .pool = pool }, &out[0]));
    int fd = cue_channel_fd(in[0]), number[3] = { 1, 2, 3 };
    cr_assert(ge(int, fd, 0));
    cue_msg m[3];
    for (int i = 0; i < 3; i++)
        m[i] = (cue_msg){ .type = NOTE, .data = &number[i], .size = sizeof number[i] };
    cr_assert(eq(int, cue_channel_send_many(out[0], m, 3, CUE_SEC(20)), 3));
    for (int i = 0; i < 3; i++) {
        int got = CUE_EEMPTY;
        while (got == CUE_EEMPTY) { /* a packet may be a hello */
            cr_assert(readable(fd, SOON));
            got = take(0);
        }
        cr_assert(eq(int, got, i + 1));
    }
    while (take(0) == CUE_EEMPTY && readable(fd, 0))
        ;
    cue_channel_wake(in[0]);
    cr_assert(readable(fd, SOON));
    cr_assert(eq(int, take(0), CUE_EINTR));
}

Test(channel_any, waits_for_sockets_and_lanes_together)
{
    pthread_t thread;
    open_lane(0, "");
    snprintf(url, sizeof url, "ipc://@%s", pool_name);
    CUE_MUST(cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool }, &in[1]));
    CUE_MUST(cue_channel_open(url, CUE_SEND, &(cue_channel_opts){ .pool = pool }, &out[1]));
    cr_assert(eq(int, any(2, CUE_MS(10)), CUE_EEMPTY));
    cr_assert(eq(int, pthread_create(&thread, NULL, send_through_both, NULL), 0));
    for (int i = 0; i < 20; i++) {
        cr_assert(eq(int, any(2, CUE_SEC(60)), i % 2));
        atomic_store(&served_so_far, i + 1);
    }
    cr_assert(eq(int, any(2, CUE_SEC(60)), CUE_EINTR)); /* by the lane */
    atomic_store(&served_so_far, 21);
    cr_assert(eq(int, any(2, CUE_SEC(60)), CUE_EINTR)); /* by the socket */
    pthread_join(thread, NULL);
    cr_assert(eq(int, any(2, CUE_MS(10)), CUE_EEMPTY));
}

Test(channel_any, keeps_their_descriptors_right)
{
    open_lanes(2);
    int fd[2] = { cue_channel_fd(in[0]), cue_channel_fd(in[1]) };
    cr_assert(eq(int, any(2, CUE_MS(1)), CUE_EEMPTY));
    cr_assert(not(readable(fd[0], 0)));
    cr_assert(not(readable(fd[1], 0)));
    send_number(1, 1);
    send_number(1, 2);
    cr_assert(readable(fd[1], SOON));
    cr_assert(eq(int, any(2, CUE_NOW), 1));
    cr_assert(readable(fd[1], 0));
    cr_assert(eq(int, any(2, CUE_NOW), 1));
    cr_assert(eq(int, any(2, CUE_NOW), CUE_EEMPTY));
    cr_assert(not(readable(fd[0], 0)));
    cr_assert(not(readable(fd[1], 0)));
    send_number(0, 1);
    cr_assert(readable(fd[0], SOON));
}

Test(channel_any, a_hundred_and_twenty_eight_and_no_more)
{
    open_lanes(129);
    send_number(127, 1);
    cr_expect(eq(int, any(128, CUE_SEC(20)), 127));
    cr_expect(eq(int, any(128, CUE_MS(5)), CUE_EEMPTY));
    cr_expect(eq(int, any(129, CUE_NOW), CUE_EINVAL));
    cr_expect(eq(int, any(0, CUE_NOW), CUE_EINVAL));
}

Test(channel_any, bad_arguments)
{
    cue_msg m;
    open_lanes(2);
    cue_channel *twice[] = { in[0], in[1], in[0] }, *sender[] = { in[0], out[1] }, *none[] = { in[0], NULL };
    cr_expect(eq(int, cue_channel_recv_any(NULL, 1, &m, CUE_NOW), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_recv_any(in, 1, NULL, CUE_NOW), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_recv_any(twice, 3, &m, CUE_NOW), CUE_EBUSY));
    cr_expect(eq(int, cue_channel_recv_any(sender, 2, &m, CUE_NOW), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_recv_any(none, 2, &m, CUE_NOW), CUE_EINVAL));
    cr_expect(eq(int, any(2, CUE_NOW), CUE_EEMPTY)); /* nothing is left taken */
    cr_expect(eq(int, cue_channel_fd(NULL), CUE_EINVAL));
}

/* ---- how many CPUs: whether to spin at all ---- */

static void write_text(const char *folder, const char *file, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "w");
    cr_assert(f != NULL);
    fputs(text, f);
    fclose(f);
}

static void remove_text(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    unlink(path);
    rmdir(folder);
}

Test(channel_spin, quota_of_one_cpu_is_found_in_the_group_and_above_it)
{
    char root[TEST_PATH], a[160], b[192];
    cr_assert(test_folder(root));
    snprintf(a, sizeof a, "%s/a", root);
    snprintf(b, sizeof b, "%s/a/b", root);
    cr_assert(mkdir(a, 0700) == 0 && mkdir(b, 0700) == 0);
    cr_expect(not(spin_quota_of_one(root, "0::/a/b\n"))); /* nothing to read */
    write_text(b, "cpu.max", "max 100000\n");
    write_text(a, "cpu.max", "200000 100000\n");
    cr_expect(not(spin_quota_of_one(root, "0::/a/b\n")));
    write_text(a, "cpu.max", "100000 100000\n");
    cr_expect(spin_quota_of_one(root, "12:cpuset:/x\n0::/a/b\n"));
    cr_expect(not(spin_quota_of_one(root, "0::/\n")));
    cr_expect(not(spin_quota_of_one(root, "4:cpu:/a\n"))); /* no unified hierarchy */
    cr_expect(not(spin_quota_of_one(root, "")));
    write_text(a, "cpu.max", "50000 100000\n");
    cr_expect(spin_quota_of_one(root, "0::/a"));
    remove_text(b);
    remove_text(a);
    rmdir(root);
}

Test(channel_spin, one_cpu_means_no_spinning)
{
    cpu_set_t one, before;
    struct spin spin;
    unsetenv("CUE_SPIN");
    cr_assert(eq(int, sched_getaffinity(0, sizeof before, &before), 0));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &before)) {
            CPU_SET(cpu, &one);
            break;
        }
    cr_assert(eq(int, sched_setaffinity(0, sizeof one, &one), 0));
    spin_init(&spin, CUE_NS(0));
    cr_expect(eq(i64, (int64_t)spin.most, 0));
    cr_assert(eq(int, sched_setaffinity(0, sizeof before, &before), 0));
    if (CPU_COUNT(&before) == 1)
        cr_skip_test("one CPU only");
    for (int i = 0; i < 64; i++)
        spin_learn(&spin, 1000);               /* looks again now and then */
    cr_expect(ge(i64, (int64_t)spin.most, 0)); /* more than 0 unless a quota forbids it */
    spin_init(&spin, CUE_US(64));
    for (int i = 0; i < 20; i++)
        spin_learn(&spin, 1000000000); /* waits that no spin would have caught */
    cr_expect(eq(i64, (int64_t)spin.now, 4000));
    for (int i = 0; i < 20; i++)
        spin_learn(&spin, 1000);
    cr_expect(eq(i64, (int64_t)spin.now, 64000));
}
