/* What is cut in queues and streams: sending, receiving, loans, ends that change hands, what a dead receiver had in hand on its way to
 * another one, and to the dead letters. */
#include "numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEDIUM = 4 << 20 };

#define QUEUE "lane?kind=queue&depth=16"
#define AGAIN "lane?kind=queue&depth=16&redeliver=9"
#define ONCE "lane?kind=queue&depth=16&redeliver=1&dead=letters"
#define DROPS "lane?kind=queue&depth=2&full=drop-old"
#define STREAM "lane?kind=stream&depth=16"

static int channel_open(const char *pool, const char *lane, unsigned how, cue_channel **out)
{
    char url[160];
    snprintf(url, sizeof url, "shm://%s/%s", pool, lane);
    return cue_channel_open(url, how, NULL, out);
}

static cue_channel *open_in_victim(struct victim *me, const char *lane, unsigned how)
{
    cue_channel *ch;
    CUE_MUST(channel_open(me->pool_name, lane, how, &ch));
    me->other[0] = ch;
    return ch;
}

static cue_channel *open_on_stage(struct stage *stage, int which, const char *lane, unsigned how)
{
    cue_channel *ch = NULL;
    int status = channel_open(stage->pool_name, lane, how, &ch);
    must_be(status, 0, "cue_channel_open");
    if (status)
        exit(1);
    stage->other[which] = ch;
    return ch;
}

static void close_on_stage(struct stage *stage, int which)
{
    MUST(cue_channel_close(stage->other[which]));
    stage->other[which] = NULL;
}

/* ---- send ---- */

static void queue_here(struct stage *stage)
{
    open_on_stage(stage, 0, QUEUE, CUE_RECV | CUE_SEND);
}
static void again_here(struct stage *stage)
{
    open_on_stage(stage, 0, AGAIN, CUE_RECV | CUE_SEND);
}
static void stream_here(struct stage *stage)
{
    open_on_stage(stage, 0, STREAM, CUE_RECV);
}
static void sender_with_block(struct victim *me)
{
    open_in_victim(me, "lane", CUE_SEND);
    CUE_MUST(number_block(me->pool, 7, &me->block[0]));
}
static void sender(struct victim *me)
{
    open_in_victim(me, "lane", CUE_SEND);
}
static void send_loan(struct victim *me)
{
    cue_block loan;
    uint64_t number = 7;
    CUE_MUST(cue_channel_reserve(me->other[0], 100, NOTE, CUE_NOW, &loan));
    for (size_t i = sizeof number; i < 64; i++)
        ((unsigned char *)loan.data)[i] = (unsigned char)(i * 7 + (unsigned)number);
    memcpy(loan.data, &number, sizeof number);
    CUE_MUST(cue_channel_commit(me->other[0], &loan, 64, CUE_NOW));
}
static void open_and_send(struct victim *me)
{
    sender(me);
    send_bytes(me);
}

/* 7 came, or it did not. */
static int came(struct stage *stage)
{
    uint64_t got = take_number(stage->other[0], ANY);
    if (got && got != 7)
        wrong("message %llu came that nobody sent", (unsigned long long)got);
    if (take_number(stage->other[0], ANY))
        wrong("a message came twice");
    return got == 7;
}
static int queue_came(struct stage *stage)
{
    int took_effect = came(stage);
    MUST(send_number(stage->other[0], LAST, BYTES));
    if (take_number(stage->other[0], ANY) != LAST)
        wrong("the lane does not work any more");
    close_on_stage(stage, 0);
    return took_effect;
}
/* Each message of a batch is a push of its own: as many as went, in order, and no more. */
static void of_three_came(struct stage *stage)
{
    uint64_t number = 7, got;
    while ((got = take_number(stage->other[0], ANY)) == number)
        number++;
    if (got || number > 10)
        wrong("message %llu came instead of %llu", (unsigned long long)got, (unsigned long long)number);
}
static int some_came(struct stage *stage)
{
    of_three_came(stage);
    close_on_stage(stage, 0);
    return -1;
}
/* The victim's end is free after its death, and another sender goes on. */
static int stream_goes_on(struct stage *stage)
{
    if (stage->killed) {
        cue_channel *out = open_on_stage(stage, 1, STREAM, CUE_SEND);
        for (uint64_t n = 1; n <= 20; n++) {
            MUST(send_number(out, LAST, BYTES));
            if (take_number(stage->other[0], ANY) != LAST)
                wrong("the stream does not work any more");
        }
        close_on_stage(stage, 1);
    }
    close_on_stage(stage, 0);
    return -1;
}
static int stream_came(struct stage *stage)
{
    int took_effect = came(stage);
    stream_goes_on(stage);
    return took_effect;
}
static int stream_some_came(struct stage *stage)
{
    of_three_came(stage);
    return stream_goes_on(stage);
}

/* ---- drop-old: the sender takes the oldest itself ---- */

static void full_of_two(struct stage *stage)
{
    cue_channel *ch = open_on_stage(stage, 0, DROPS, CUE_RECV | CUE_SEND);
    MUST(send_number(ch, 1, BOTH));
    MUST(send_number(ch, 2, BOTH));
}
static int two_of_three(struct stage *stage)
{
    uint64_t first = take_number(stage->other[0], ANY), second = take_number(stage->other[0], ANY),
             third = take_number(stage->other[0], ANY);
    bool before = first == 1 && second == 2, between = first == 2 && second == 0, after = first == 2 && second == 7;
    if (third || (!before && !between && !after))
        wrong("messages %llu, %llu, %llu came", (unsigned long long)first, (unsigned long long)second, (unsigned long long)third);
    close_on_stage(stage, 0);
    return after;
}

/* ---- receive ---- */

static void four_wait(struct stage *stage, const char *lane)
{
    send_four(open_on_stage(stage, 0, lane, CUE_SEND), BOTH, BYTES);
    close_on_stage(stage, 0);
}
static void queue_four(struct stage *stage)
{
    four_wait(stage, QUEUE);
}
static void again_four(struct stage *stage)
{
    four_wait(stage, AGAIN);
}
static void stream_four(struct stage *stage)
{
    four_wait(stage, STREAM);
}
static void queue_receiver(struct victim *me)
{
    open_in_victim(me, "lane", CUE_RECV);
}
static void open_and_receive(struct victim *me)
{
    queue_receiver(me);
    receive_two(me);
}
static int rest_came(struct stage *stage, const char *lane)
{
    int took_effect = rest_of_four(open_on_stage(stage, 0, lane, CUE_RECV | CUE_SEND), ANY);
    close_on_stage(stage, 0);
    return took_effect;
}
static int queue_rest(struct stage *stage)
{
    return rest_came(stage, QUEUE);
}
static int stream_rest(struct stage *stage)
{
    return rest_came(stage, STREAM);
}

/* With redeliver: all four come, but those that were released; what was in hand is marked. */
static int again_rest(struct stage *stage)
{
    cue_channel *ch = open_on_stage(stage, 0, AGAIN, CUE_RECV | CUE_SEND);
    uint64_t next = 0, got;
    uint32_t again;
    int released = 0;
    while ((got = take_again(ch, &again))) {
        if (next == 0)
            released = (int)got - 1;
        else if (got != next + 1)
            wrong("message %llu came after %llu", (unsigned long long)got, (unsigned long long)next);
        if (again > 1 || (again && !stage->killed))
            wrong("message %llu came for the %u. time", (unsigned long long)got, again + 1);
        next = got;
    }
    if (next != 4 || released > 2)
        wrong("message %llu is the last", (unsigned long long)next);
    close_on_stage(stage, 0);
    return -1;
}

/* ---- what a dead receiver had in hand ---- */

static void take_three_and_stay(struct victim *me)
{
    cue_msg m[3];
    open_in_victim(me, "lane", CUE_RECV);
    if (cue_channel_recv_many(me->other[0], m, 3, CUE_NOW) != 3)
        abort();
}
static void dead_with_three(struct stage *stage)
{
    leave_dead(stage, "_three");
}
/* All four, the first three marked. */
static int four_came(struct stage *stage)
{
    cue_channel *ch = open_on_stage(stage, 0, AGAIN, CUE_RECV | CUE_SEND);
    uint32_t again;
    for (uint64_t n = 1; n <= 4; n++) {
        uint64_t got = take_again(ch, &again);
        if (got != n || (n < 4 && again < 1) || (n == 4 && again))
            wrong("message %llu came instead of %llu, for the %u. time", (unsigned long long)got, (unsigned long long)n, again + 1);
    }
    if (take_number(ch, ANY))
        wrong("a message came twice");
    close_on_stage(stage, 0);
    return -1;
}
static void three_in_limbo(struct stage *stage)
{
    again_four(stage);
    dead_with_three(stage);
    if (pool_reap(stage->pool) != 1)
        wrong("nobody was reaped");
}
static void hold_two(struct victim *me)
{
    cue_msg m;
    for (int i = 0; i < 2; i++)
        if (cue_channel_recv(me->other[0], &m, CUE_NOW) < 0)
            abort();
}
static void again_receiver(struct victim *me)
{
    open_in_victim(me, AGAIN, CUE_RECV);
}

/* ---- dead letters: one message that has killed two receivers ---- */

static void take_one_and_stay(struct victim *me)
{
    cue_msg m;
    open_in_victim(me, ONCE, CUE_RECV);
    if (cue_channel_recv(me->other[0], &m, CUE_NOW) < 0)
        abort();
}
static void deadly(struct stage *stage)
{
    cue_channel *ch = open_on_stage(stage, 0, ONCE, CUE_SEND);
    MUST(send_number(ch, 7, BOTH));
    for (int i = 0; i < 2; i++) {
        leave_dead(stage, "_one");
        pool_reap(stage->pool);
    }
    MUST(send_number(ch, LAST, BYTES));
    close_on_stage(stage, 0);
}
static void once_receiver(struct victim *me)
{
    open_in_victim(me, ONCE, CUE_RECV);
}
static void receive_last(struct victim *me)
{
    cue_msg m;
    if (cue_channel_recv(me->other[0], &m, CUE_NOW) < 0 || *(const uint64_t *)m.data != LAST)
        abort();
    cue_msg_release(&m);
}
/* 7 is with the letters, now or after the next receive; LAST came, or comes. */
static int letter_came(struct stage *stage)
{
    cue_channel *ch = open_on_stage(stage, 0, ONCE, CUE_RECV), *letters = open_on_stage(stage, 1, "letters", CUE_RECV);
    uint64_t got = take_number(ch, ANY);
    uint32_t died = 0;
    if (got != LAST && got != 0)
        wrong("message %llu came", (unsigned long long)got);
    if (take_again(letters, &died) != 7 || died < 2)
        wrong("the letter did not come, or as one that %u died of", died);
    if (take_number(letters, ANY) || take_number(ch, ANY))
        wrong("a message came twice");
    close_on_stage(stage, 1);
    close_on_stage(stage, 0);
    return -1;
}

const struct op ops_ring[] = {
    { .name = "queue_send_bytes", .size = MEDIUM, .setup = queue_here, .prepare = sender, .act = send_bytes, .verify = queue_came },
    { .name = "queue_send_block",
      .size = MEDIUM,
      .setup = queue_here,
      .prepare = sender_with_block,
      .act = send_block,
      .verify = queue_came },
    { .name = "queue_send_many", .size = MEDIUM, .setup = queue_here, .prepare = sender, .act = send_three, .verify = some_came },
    { .name = "queue_send_lent",
      .size = MEDIUM,
      .setup = again_here,
      .prepare = sender_with_block,
      .act = send_both,
      .verify = queue_came },
    { .name = "queue_drop_old",
      .size = MEDIUM,
      .setup = full_of_two,
      .prepare = sender_with_block,
      .act = send_both,
      .verify = two_of_three },
    { .name = "queue_receive", .size = MEDIUM, .setup = queue_four, .prepare = queue_receiver, .act = receive_two, .verify = queue_rest },
    { .name = "queue_receive_many",
      .size = MEDIUM,
      .setup = queue_four,
      .prepare = queue_receiver,
      .act = receive_batch,
      .verify = queue_rest },
    { .name = "queue_receive_lent",
      .size = MEDIUM,
      .setup = again_four,
      .prepare = queue_receiver,
      .act = receive_two,
      .verify = again_rest },
    { .name = "queue_give_back", .size = MEDIUM, .setup = again_four, .between = dead_with_three, .act = reap_it, .verify = four_came },
    { .name = "queue_give_again",
      .size = MEDIUM,
      .setup = three_in_limbo,
      .prepare = again_receiver,
      .act = hold_two,
      .verify = four_came },
    { .name = "queue_bury", .size = MEDIUM, .setup = deadly, .prepare = once_receiver, .act = receive_last, .verify = letter_came },
    { .name = "stream_send_bytes", .size = MEDIUM, .setup = stream_here, .prepare = sender, .act = send_bytes, .verify = stream_came },
    { .name = "stream_send_block",
      .size = MEDIUM,
      .setup = stream_here,
      .prepare = sender_with_block,
      .act = send_block,
      .verify = stream_came },
    { .name = "stream_send_many", .size = MEDIUM, .setup = stream_here, .prepare = sender, .act = send_three, .verify = stream_some_came },
    { .name = "stream_loan", .size = MEDIUM, .setup = stream_here, .prepare = sender, .act = send_loan, .verify = stream_came },
    { .name = "stream_open_send", .size = MEDIUM, .setup = stream_here, .act = open_and_send, .verify = stream_came },
    { .name = "stream_receive",
      .size = MEDIUM,
      .setup = stream_four,
      .prepare = queue_receiver,
      .act = receive_two,
      .verify = stream_rest },
    { .name = "stream_receive_many",
      .size = MEDIUM,
      .setup = stream_four,
      .prepare = queue_receiver,
      .act = receive_batch,
      .verify = stream_rest },
    { .name = "stream_take_over", .size = MEDIUM, .setup = stream_four, .act = open_and_receive, .verify = stream_rest },
    { .name = "_three", .size = MEDIUM, .prepare = take_three_and_stay, .act = reap_it },
    { .name = "_one", .size = MEDIUM, .prepare = take_one_and_stay, .act = reap_it },
    { 0 },
};
