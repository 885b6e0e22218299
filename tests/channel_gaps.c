/* What a receiver sees of messages that were dropped: `gap` of each message, `gaps` of the lane. */
#include "tests/one_lane.h"

static void setup(void)
{
    open_pool("gaps");
}

TestSuite(gaps, .init = setup, .fini = teardown, .timeout = 60);

/* The next message is this one, with so many dropped before it. */
static void comes(cue_channel *ch, int value, uint32_t gap)
{
    cue_msg m;
    int got;
    CUE_MUST(cue_channel_recv(ch, &m, CUE_NOW));
    memcpy(&got, m.data, sizeof got);
    cr_assert(eq(int, got, value));
    cr_assert(eq(u32, m.gap, gap), "before %d", value);
    cue_msg_release(&m);
}

static void send_numbers(int from, int to)
{
    for (int i = from; i < to; i++)
        cr_assert(eq(int, send_int(out, i), 0));
}

Test(gaps, none_where_nothing_is_dropped)
{
    static const char *const lanes[] = { "a?depth=4", "b?kind=queue&depth=4", "c?kind=stream&depth=4", "d?kind=topic&depth=4" };
    for (int k = 0; k < 4; k++) {
        open_both(lanes[k]);
        for (int round = 0; round < 5; round++) {
            send_numbers(0, 4);
            cr_assert(eq(int, send_int(out, 9), CUE_EFULL));
            for (int i = 0; i < 4; i++)
                comes(in, i, 0);
        }
        cr_assert(eq(u64, stat_of(in).gaps, 0));
        CUE_MUST(cue_channel_close(in));
        CUE_MUST(cue_channel_close(out));
    }
    in = out = NULL;
}

Test(gaps, mailbox_that_drops_the_oldest_says_before_which)
{
    open_both("a?depth=4&full=drop-old");
    send_numbers(0, 7); /* up to twice as many are kept, the receiver trims */
    comes(in, 3, 3);
    comes(in, 4, 0);
    send_numbers(7, 10);
    comes(in, 5, 0);
    for (int i = 6; i < 10; i++)
        comes(in, i, 0);
    send_numbers(10, 15);
    comes(in, 11, 1);
    cr_assert(eq(u64, stat_of(in).gaps, 4));
    cr_assert(eq(u64, stat_of(out).dropped, 4));
}

Test(gaps, mailbox_that_drops_the_newest_says_when_it_is_noticed)
{
    open_both("a?depth=2&full=drop-new");
    send_numbers(0, 5);
    comes(in, 0, 3);
    comes(in, 1, 0);
    send_numbers(5, 6);
    comes(in, 5, 0);
    cr_assert(eq(u64, stat_of(in).gaps, 3));
}

Test(gaps, next_receiver_is_not_told_of_those_before_its_time)
{
    open_both("a?depth=2&full=drop-new");
    send_numbers(0, 5);
    comes(in, 0, 3);
    CUE_MUST(cue_channel_close(in));
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &in));
    comes(in, 1, 0);
}

static void stream_drops_old(const char *rest, bool taken_over)
{
    open_both(rest);
    send_numbers(0, 3);
    comes(in, 0, 0);
    if (taken_over) {
        CUE_MUST(cue_channel_close(in));
        CUE_MUST(cue_channel_open(lane(rest), CUE_RECV, NULL, &in));
    }
    send_numbers(3, 9); /* 1 to 4 are dropped */
    comes(in, 5, 4);
    comes(in, 6, 0);
    send_numbers(9, 12); /* 7 as well */
    comes(in, 8, 1);
    cr_assert(eq(u64, stat_of(in).gaps, 5));
}

Test(gaps, stream_that_drops_the_oldest_says_before_which)
{
    stream_drops_old("a?kind=stream&depth=4&full=drop-old", false);
}

Test(gaps, stream_that_drops_the_oldest_tells_the_next_receiver_the_same)
{
    stream_drops_old("a?kind=stream&depth=4&full=drop-old", true);
}

Test(gaps, stream_that_drops_the_newest_says_when_it_is_noticed)
{
    open_both("a?kind=stream&depth=2&full=drop-new");
    send_numbers(0, 2);
    comes(in, 0, 0);
    send_numbers(2, 6);
    comes(in, 1, 3);
    comes(in, 2, 0);
    cr_assert(eq(u64, stat_of(in).gaps, 3));
}

Test(gaps, queue_counts_them_for_all_its_receivers)
{
    cue_channel *second;
    open_both("a?kind=queue&depth=4&full=drop-old");
    CUE_MUST(cue_channel_open(lane("a"), CUE_RECV, NULL, &second));
    send_numbers(0, 9);
    comes(in, 5, 0);
    comes(second, 6, 0);
    cr_assert(eq(u64, stat_of(in).gaps, 5));
    cr_assert(eq(u64, stat_of(second).gaps, 5));
    CUE_MUST(cue_channel_close(second));
}

Test(gaps, each_subscriber_sees_its_own)
{
    cue_channel *newest, *oldest;
    open_both("a?kind=topic&depth=64");
    CUE_MUST(cue_channel_open(lane("a?depth=4&full=drop-old"), CUE_RECV, NULL, &newest));
    CUE_MUST(cue_channel_open(lane("a?depth=4&full=drop-new"), CUE_RECV, NULL, &oldest));
    send_numbers(0, 10);
    comes(in, 0, 0);
    comes(newest, 6, 6);
    comes(newest, 7, 0);
    comes(oldest, 0, 6);
    comes(oldest, 1, 0);
    send_numbers(10, 15);
    comes(newest, 11, 3);
    cr_assert(eq(u64, stat_of(in).gaps, 0));
    cr_assert(eq(u64, stat_of(newest).gaps, 9));
    for (cue_msg m; cue_channel_recv(in, &m, CUE_NOW) == 0;) {
        cr_assert(eq(u32, m.gap, 0));
        cue_msg_release(&m);
    }
    CUE_MUST(cue_channel_close(newest));
    CUE_MUST(cue_channel_close(oldest));
}
