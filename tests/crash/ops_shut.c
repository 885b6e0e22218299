/* What is cut in cue_channel_shut: receivers that drain or discard, a sender that finds its lane shut when its message is in. */
#include "channels/message.h"
#include "channels/redeliver.h"
#include "channels/ring.h"
#include "numbers.h"

#include <stdio.h>
#include <stdlib.h>

enum { MEDIUM = 4 << 20 };

#define MAILBOX "lane?depth=16"
#define QUEUE "lane?kind=queue&depth=16"
#define LETTERS "lane?kind=queue&depth=16&redeliver=1&dead=letters"
#define STREAM "lane?kind=stream&depth=16"
#define TOPIC "lane?kind=topic&depth=4&full=drop-old"

static int channel_open(const char *pool, const char *lane, unsigned how, void **out)
{
    char url[160];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/%s", pool, lane);
    int status = cue_channel_open(url, how, NULL, &ch);
    *out = ch;
    return status;
}

static cue_channel *open_on_stage(struct stage *stage, int which, const char *lane, unsigned how)
{
    int status = channel_open(stage->pool_name, lane, how, &stage->other[which]);
    must_be(status, 0, "cue_channel_open");
    if (status)
        exit(1);
    return stage->other[which];
}

static void close_on_stage(struct stage *stage, int which)
{
    MUST(cue_channel_close(stage->other[which]));
    stage->other[which] = NULL;
}

/* ---- a receiver shuts a lane with four messages ---- */

static void four_wait(struct stage *stage, const char *lane)
{
    send_four(open_on_stage(stage, 0, lane, CUE_SEND), BOTH, BYTES);
}
static void mailbox_four(struct stage *stage)
{
    four_wait(stage, MAILBOX);
}
static void queue_four(struct stage *stage)
{
    four_wait(stage, QUEUE);
}
static void letters_four(struct stage *stage)
{
    four_wait(stage, LETTERS);
}
static void stream_four(struct stage *stage)
{
    four_wait(stage, STREAM);
}
static void receiver(struct victim *me)
{
    CUE_MUST(channel_open(me->pool_name, "lane", CUE_RECV, &me->other[0]));
}
static void shut_to_drain(struct victim *me)
{
    if (cue_channel_shut(me->other[0], CUE_DRAIN, CUE_NOW) != CUE_ETIMEDOUT)
        abort();
}
static void shut_to_discard(struct victim *me)
{
    if (cue_channel_shut(me->other[0], CUE_DISCARD, CUE_NOW) != 4)
        abort();
}

/* Whether the lane was shut; if not, a fifth message is in. */
static bool was_shut(struct stage *stage)
{
    int status = send_number(stage->other[0], 5, BYTES);
    if (status && status != CUE_ECLOSED)
        wrong("a send on the lane said %s", cue_status_name(status));
    close_on_stage(stage, 0);
    return status == CUE_ECLOSED;
}

/* What is left of 1 to `last` to the next receiver, who opens the lane again: in order, without a gap. How many. */
static uint64_t rest_of(cue_channel *ch, uint64_t last)
{
    uint64_t got, next = 0, count = 0;
    for (; (got = take_number(ch, ANY)); next = got, count++)
        if (next && got != next + 1)
            wrong("message %llu came after %llu", (unsigned long long)got, (unsigned long long)next);
    if (count && next != last)
        wrong("message %llu was the last", (unsigned long long)next);
    MUST(send_number(ch, LAST, BYTES));
    if (take_number(ch, BYTES) != LAST)
        wrong("the lane does not work any more");
    return count;
}

static int all_are_left(struct stage *stage)
{
    bool shut = was_shut(stage);
    cue_channel *ch = open_on_stage(stage, 1, "lane", CUE_RECV | CUE_SEND);
    uint64_t want = shut ? 4 : 5, got = rest_of(ch, want);
    if (got != want)
        wrong("%llu messages of %llu came", (unsigned long long)got, (unsigned long long)want);
    close_on_stage(stage, 1);
    return shut;
}
/* It is shut before the first message is freed. */
static int some_are_left(struct stage *stage)
{
    bool shut = was_shut(stage);
    cue_channel *ch = open_on_stage(stage, 1, "lane", CUE_RECV | CUE_SEND);
    uint64_t got = rest_of(ch, shut ? 4 : 5);
    if (!shut && got != 5)
        wrong("%llu messages of 5 came, though the lane was not shut", (unsigned long long)got);
    close_on_stage(stage, 1);
    return -1;
}
/* Each of them is a letter, or still there: in the hand of the dead, then it comes again. */
static int none_is_lost(struct stage *stage)
{
    unsigned seen = 0;
    uint64_t number;
    bool shut = was_shut(stage);
    cue_channel *ch = open_on_stage(stage, 1, "lane", CUE_RECV), *letters = open_on_stage(stage, 2, "letters", CUE_RECV);
    for (int from = 0; from < 2; from++)
        while ((number = take_number(from ? letters : ch, ANY))) {
            if (number > 5 || seen & 1U << number)
                wrong("message %llu came twice", (unsigned long long)number);
            seen |= 1U << number;
        }
    if (seen != (shut ? 0x1e : 0x3e))
        wrong("of 1 to 4 came %x", seen);
    close_on_stage(stage, 2);
    close_on_stage(stage, 1);
    return -1;
}

/* ---- a subscriber ---- */

static void publisher(struct stage *stage)
{
    open_on_stage(stage, 0, TOPIC, CUE_SEND);
    open_on_stage(stage, 1, TOPIC, CUE_RECV);
}
static void publish_four(struct stage *stage)
{
    send_four(stage->other[0], BOTH, BYTES);
}
/* It costs others nothing. */
static int others_have_all(struct stage *stage)
{
    cue_channel *out = stage->other[0], *in = stage->other[1];
    for (uint64_t n = 1; n <= 4; n++)
        if (take_number(in, ANY) != n)
            wrong("message %llu did not come", (unsigned long long)n);
    for (uint64_t n = 1; n <= 10; n++) {
        MUST(send_number(out, LAST, BOTH));
        if (take_number(in, BOTH) != LAST)
            wrong("the topic does not work any more");
    }
    close_on_stage(stage, 1);
    close_on_stage(stage, 0);
    return -1;
}

/* ---- a sender whose lane is shut while it sends: it takes its message out again ---- */

static struct parcel parcel;

static void lane_here(struct stage *stage)
{
    open_on_stage(stage, 0, LETTERS, CUE_RECV | CUE_SEND);
}
static void sender_about_to_send(struct victim *me)
{
    static struct opened opened;
    uint64_t number = 7;
    CUE_MUST(channel_open(me->pool_name, "lane", CUE_SEND, &me->other[0]));
    CUE_MUST(number_block(me->pool, number, &me->block[0]));
    struct ring_channel *ch = ring_of(me->other[0]);
    cue_msg m = { .type = NOTE, .data = &number, .size = sizeof number, .move = &me->block[0] };
    CUE_MUST(message_check(me->pool, &ch->ring->lane, &m, false, &opened));
    opened.enclose = true;
    opened.home = ch->lane.index;
    opened.home_generation = ch->lane.generation;
    CUE_MUST(message_pack(me->pool, &m, false, 0, &opened, &parcel));
}
static void shut_it(struct stage *stage)
{
    MUST(cue_channel_shut(stage->other[0], CUE_DRAIN, CUE_NOW));
}
static void send_too_late(struct victim *me)
{
    struct ring_channel *ch = ring_of(me->other[0]);
    if (queue_push(ch, &parcel, false) != CUE_ECLOSED)
        abort();
    message_undo(me->pool, &parcel);
}
/* If the sender was killed between the two, it is there; nobody was told that it was sent. */
static int there_or_not(struct stage *stage)
{
    cue_channel *next = open_on_stage(stage, 1, LETTERS, CUE_RECV);
    uint64_t got = take_number(next, BOTH);
    if (got && (got != 7 || !stage->killed))
        wrong("message %llu came", (unsigned long long)got);
    close_on_stage(stage, 1);
    MUST(send_number(stage->other[0], LAST, BYTES));
    if (take_number(stage->other[0], BYTES) != LAST)
        wrong("the lane does not work any more");
    close_on_stage(stage, 0);
    return -1;
}

const struct op ops_shut[] = {
    { .name = "mailbox_drain", .size = MEDIUM, .setup = mailbox_four, .prepare = receiver, .act = shut_to_drain, .verify = all_are_left },
    { .name = "mailbox_discard",
      .size = MEDIUM,
      .setup = mailbox_four,
      .prepare = receiver,
      .act = shut_to_discard,
      .verify = some_are_left },
    { .name = "queue_drain", .size = MEDIUM, .setup = queue_four, .prepare = receiver, .act = shut_to_drain, .verify = all_are_left },
    { .name = "queue_discard", .size = MEDIUM, .setup = queue_four, .prepare = receiver, .act = shut_to_discard, .verify = some_are_left },
    { .name = "queue_discard_letters",
      .size = MEDIUM,
      .setup = letters_four,
      .prepare = receiver,
      .act = shut_to_discard,
      .verify = none_is_lost },
    { .name = "queue_withdraw",
      .size = MEDIUM,
      .setup = lane_here,
      .prepare = sender_about_to_send,
      .between = shut_it,
      .act = send_too_late,
      .verify = there_or_not },
    { .name = "stream_drain", .size = MEDIUM, .setup = stream_four, .prepare = receiver, .act = shut_to_drain, .verify = all_are_left },
    { .name = "stream_discard",
      .size = MEDIUM,
      .setup = stream_four,
      .prepare = receiver,
      .act = shut_to_discard,
      .verify = some_are_left },
    { .name = "topic_drain",
      .size = MEDIUM,
      .setup = publisher,
      .prepare = receiver,
      .between = publish_four,
      .act = shut_to_drain,
      .verify = others_have_all },
    { .name = "topic_discard",
      .size = MEDIUM,
      .setup = publisher,
      .prepare = receiver,
      .between = publish_four,
      .act = shut_to_discard,
      .verify = others_have_all },
    { 0 },
};
