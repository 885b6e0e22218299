/* What is cut in lanes: sending, receiving, taking over, a lane's making and retiring, and recovery of messages on their way. */
#include "channels/mailbox_layout.h"
#include "numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEDIUM = 4 << 20 };

static cue_channel *lane_channel(const char *pool, unsigned how, int *status)
{
    char url[128];
    cue_channel *ch = NULL;
    snprintf(url, sizeof url, "shm://%s/lane?depth=16", pool);
    *status = cue_channel_open(url, how, NULL, &ch);
    return ch;
}

static cue_channel *open_in_victim(struct victim *me, unsigned how)
{
    int status;
    me->other[0] = lane_channel(me->pool_name, how, &status);
    CUE_MUST(status);
    return me->other[0];
}

static cue_channel *open_on_stage(struct stage *stage, unsigned how)
{
    int status;
    stage->other[0] = lane_channel(stage->pool_name, how, &status);
    must_be(status, 0, "cue_channel_open");
    if (status)
        exit(1);
    return stage->other[0];
}

static void close_on_stage(struct stage *stage)
{
    MUST(cue_channel_close(stage->other[0]));
    stage->other[0] = NULL;
}

/* ---- send ---- */

static void receiver_here(struct stage *stage)
{
    open_on_stage(stage, CUE_RECV | CUE_SEND);
}
static void sender_there(struct victim *me)
{
    open_in_victim(me, CUE_SEND);
}
static void sender_with_block(struct victim *me)
{
    open_in_victim(me, CUE_SEND);
    CUE_MUST(number_block(me->pool, 7, &me->block[0]));
}
static void sender_there_warm(struct victim *me)
{
    sender_there(me);
    CUE_MUST(send_number(me->other[0], 1, BYTES));
}

/* 7 came, or it did not; and the lane works on. */
static int came(struct stage *stage, uint64_t before, enum carried what)
{
    cue_channel *ch = stage->other[0];
    if (before && take_number(ch, BYTES) != before)
        wrong("a message that was sent before did not come");
    uint64_t got = take_number(ch, what);
    if (got && got != 7)
        wrong("message %llu came that nobody sent", (unsigned long long)got);
    if (take_number(ch, what))
        wrong("a message came twice");
    MUST(send_number(ch, LAST, BYTES));
    if (take_number(ch, BYTES) != LAST)
        wrong("the lane does not work any more");
    close_on_stage(stage);
    return got == 7;
}
static int bytes_came(struct stage *stage)
{
    return came(stage, 0, BYTES);
}
static int second_came(struct stage *stage)
{
    return came(stage, 1, BYTES);
}
static int block_came(struct stage *stage)
{
    return came(stage, 0, MOVED);
}
static int both_came(struct stage *stage)
{
    return came(stage, 0, BOTH);
}
/* One push: all or none. */
static int three_came(struct stage *stage)
{
    uint64_t got = take_number(stage->other[0], BYTES);
    if (got && (got != 7 || take_number(stage->other[0], BYTES) != 8 || take_number(stage->other[0], BYTES) != 9))
        wrong("a part of a batch came");
    close_on_stage(stage);
    return got == 7;
}

/* ---- send to a sleeper: a thread of the driver ---- */

static void *sleeper(void *arg)
{
    struct stage *stage = arg;
    cue_msg m;
    int status = cue_channel_recv(stage->other[0], &m, CUE_SEC(30));
    stage->number[0] = status < 0 ? 0 : *(const uint64_t *)m.data;
    if (status >= 0)
        cue_msg_release(&m);
    return NULL;
}
static void fall_asleep(struct stage *stage)
{
    pthread_t *thread = malloc(sizeof *thread);
    cue_channel_info info = { 0 };
    stage->other[1] = thread;
    if (!thread || pthread_create(thread, NULL, sleeper, stage))
        abort();
    while (cue_channel_stat(stage->other[0], &info) == 0 && !info.sleeping)
        usleep(200);
}
/* It wakes for what was sent, also if its sender was killed before the wake: within a watch period. */
static int sleeper_woke(struct stage *stage)
{
    pthread_t *thread = stage->other[1];
    cue_channel_info info;
    MUST(cue_channel_stat(stage->other[0], &info));
    bool sent = info.sent > 0;
    if (!sent)
        MUST(send_number(stage->other[0], LAST, BYTES));
    int64_t begin = clock_ns();
    pthread_join(*thread, NULL);
    if (stage->number[0] != (sent ? 7 : LAST))
        wrong("the sleeper got %llu", (unsigned long long)stage->number[0]);
    if (clock_ns() - begin > CUE_SEC(5).ns) /* a watch period is a fiftieth of that */
        wrong("the sleeper slept on for %lld ms", (long long)(clock_ns() - begin) / 1000000);
    free(thread);
    close_on_stage(stage);
    return sent;
}

/* ---- receive, and take over from a dead receiver ---- */

static void four_wait(struct stage *stage, enum carried what)
{
    send_four(open_on_stage(stage, CUE_SEND), what, what);
    close_on_stage(stage);
}
static void four_bytes(struct stage *stage)
{
    four_wait(stage, BYTES);
}
static void four_blocks(struct stage *stage)
{
    four_wait(stage, MOVED);
}
static void four_both(struct stage *stage)
{
    four_wait(stage, BOTH);
}
static void receiver_there(struct victim *me)
{
    open_in_victim(me, CUE_RECV);
}
static void open_and_receive(struct victim *me)
{
    receiver_there(me);
    receive_two(me);
}
static int rest_came(struct stage *stage, enum carried what)
{
    int took_effect = rest_of_four(open_on_stage(stage, CUE_RECV | CUE_SEND), what);
    close_on_stage(stage);
    return took_effect;
}
static int rest_bytes(struct stage *stage)
{
    return rest_came(stage, BYTES);
}
static int rest_blocks(struct stage *stage)
{
    return rest_came(stage, MOVED);
}
static int rest_both(struct stage *stage)
{
    return rest_came(stage, BOTH);
}

/* A receiver that has taken one and was killed before it counted it. */
static void take_one_and_die(struct victim *me)
{
    cue_channel *ch = open_in_victim(me, CUE_RECV);
    cue_msg m;
    if (cue_channel_recv(ch, &m, CUE_NOW) < 0)
        abort();
    cue_block_info info;
    for (uint64_t cursor = 0; cue_block_next(me->pool, POOL_TYPE_LANE, &cursor, &info) > 0;) {
        char *data;
        uint64_t capacity;
        if (!pool_bytes(me->pool, id_index(info.id), &data, &capacity))
            abort();
        struct mailbox *box = (struct mailbox *)(void *)data;
        atomic_fetch_sub(&box->consumed, POSITION_ONE); /* as if it had not come to that */
    }
}
static void dead_receiver(struct stage *stage)
{
    leave_dead(stage, "_taker");
}

/* ---- a lane's life ---- */

static void open_lane(struct victim *me)
{
    open_in_victim(me, CUE_RECV);
}
static void close_lane(struct victim *me)
{
    CUE_MUST(cue_channel_close(me->other[0]));
}
/* It can be opened, works, and is retired with us. */
static int lane_works(struct stage *stage)
{
    cue_channel *ch = stage->other[0] ? stage->other[0] : open_on_stage(stage, CUE_RECV | CUE_SEND);
    MUST(send_number(ch, LAST, BYTES));
    if (take_number(ch, BYTES) != LAST)
        wrong("the lane does not work");
    close_on_stage(stage);
    return -1;
}
static void sender_here(struct stage *stage)
{
    open_on_stage(stage, CUE_SEND);
}
static int receiver_left(struct stage *stage)
{
    close_on_stage(stage);
    return lane_works(stage);
}

/* ---- recovery: the victim reaps a sender that died with one message linked and one half sent ---- */

static void half_sent(struct victim *me)
{
    cue_channel *ch = open_in_victim(me, CUE_SEND);
    cue_block_info info;
    cue_block b;
    uint64_t cursor = 0;
    CUE_MUST(send_number(ch, 1, BYTES));
    CUE_MUST(send_number(ch, 2, BYTES));
    if (cue_block_next(me->pool, POOL_TYPE_LANE, &cursor, &info) <= 0)
        abort();
    uint32_t lane = id_index(info.id);
    CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &b));
    struct record *rec = pool_record(me->pool, (uint32_t)b.priv[0]);
    uint64_t state = atomic_load(&rec->state);
    /* what a sender has done before its push, with a position that others have taken since */
    atomic_store(&rec->lane, lane);
    atomic_store(&rec->next, INDEX_NONE);
    atomic_store(&rec->seq, POSITION_ONE);
    if (!block_move(rec, state, rec_word(REC_SENT, me->pool->self + 1, rec_generation(state))))
        abort();
}
static void dead_sender(struct stage *stage)
{
    leave_dead(stage, "_half");
}
static int two_came(struct stage *stage)
{
    take_to(stage->other[0], 2);
    return lane_works(stage);
}

const struct op ops_channel[] = {
    { .name = "send_bytes", .size = MEDIUM, .setup = receiver_here, .prepare = sender_there, .act = send_bytes, .verify = bytes_came },
    { .name = "send_warm", .size = MEDIUM, .setup = receiver_here, .prepare = sender_there_warm, .act = send_bytes, .verify = second_came },
    { .name = "send_block", .size = MEDIUM, .setup = receiver_here, .prepare = sender_with_block, .act = send_block, .verify = block_came },
    { .name = "send_both", .size = MEDIUM, .setup = receiver_here, .prepare = sender_with_block, .act = send_both, .verify = both_came },
    { .name = "send_many", .size = MEDIUM, .setup = receiver_here, .prepare = sender_there, .act = send_three, .verify = three_came },
    { .name = "send_wake",
      .size = MEDIUM,
      .setup = receiver_here,
      .prepare = sender_there,
      .between = fall_asleep,
      .act = send_bytes,
      .verify = sleeper_woke },
    { .name = "receive", .size = MEDIUM, .setup = four_bytes, .prepare = receiver_there, .act = receive_two, .verify = rest_bytes },
    { .name = "receive_block", .size = MEDIUM, .setup = four_blocks, .prepare = receiver_there, .act = receive_two, .verify = rest_blocks },
    { .name = "receive_both", .size = MEDIUM, .setup = four_both, .prepare = receiver_there, .act = receive_two, .verify = rest_both },
    { .name = "receive_many", .size = MEDIUM, .setup = four_both, .prepare = receiver_there, .act = receive_batch, .verify = rest_both },
    { .name = "take_over", .size = MEDIUM, .setup = four_both, .between = dead_receiver, .act = open_and_receive, .verify = rest_both },
    { .name = "lane_make", .size = MEDIUM, .act = open_lane, .verify = lane_works },
    { .name = "lane_join", .size = MEDIUM, .setup = sender_here, .act = open_lane, .verify = receiver_left },
    { .name = "lane_retire", .size = MEDIUM, .prepare = receiver_there, .act = close_lane, .verify = lane_works },
    { .name = "lane_leave", .size = MEDIUM, .setup = sender_here, .prepare = receiver_there, .act = close_lane, .verify = receiver_left },
    { .name = "reap_sender", .size = MEDIUM, .setup = receiver_here, .between = dead_sender, .act = reap_it, .verify = two_came },
    { .name = "_taker", .size = MEDIUM, .prepare = take_one_and_die, .act = reap_it },
    { .name = "_half", .size = MEDIUM, .prepare = half_sent, .act = reap_it },
    { 0 },
};
