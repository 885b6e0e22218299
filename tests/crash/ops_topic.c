/* What is cut in topics: publishing, subscribing, leaving, receiving, taking out what is old, the history; recovery of all of them. */
#include "channels/topic.h"
#include "numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEDIUM = 4 << 20 };

/* drop-old: no room beyond the depth, so few slots */
static cue_channel *topic_channel(const char *pool, unsigned how, const char *rest, int *status)
{
    char url[160];
    cue_channel *ch = NULL;
    snprintf(url, sizeof url, "shm://%s/topic?kind=topic&depth=8&full=drop-old%s", pool, rest);
    *status = cue_channel_open(url, how, NULL, &ch);
    return ch;
}

static void open_in_victim(struct victim *me, unsigned how, const char *rest)
{
    int status;
    me->other[0] = topic_channel(me->pool_name, how, rest, &status);
    CUE_MUST(status);
}

static cue_channel *open_on_stage(struct stage *stage, int which, unsigned how, const char *rest)
{
    int status;
    stage->other[which] = topic_channel(stage->pool_name, how, rest, &status);
    must_be(status, 0, "cue_channel_open");
    if (status)
        exit(1);
    return stage->other[which];
}

static void close_all(struct stage *stage)
{
    for (int i = 0; i < 4; i++) {
        if (stage->other[i])
            MUST(cue_channel_close(stage->other[i]));
        stage->other[i] = NULL;
    }
}

static void still_works(cue_channel *in, cue_channel *out)
{
    MUST(send_number(out, LAST, BYTES));
    uint64_t got = take_number(in, BYTES);
    if (got != LAST)
        wrong("the topic does not work any more: %llu came", (unsigned long long)got);
}

/* ---- publish ---- */

static void two_subscribers(struct stage *stage)
{
    open_on_stage(stage, 0, CUE_RECV | CUE_SEND, "");
    open_on_stage(stage, 1, CUE_RECV, "");
}
static void publisher_there(struct victim *me)
{
    open_in_victim(me, CUE_SEND, "");
}
static void publisher_with_block(struct victim *me)
{
    publisher_there(me);
    CUE_MUST(number_block(me->pool, 7, &me->block[0]));
}

/* A publisher that was killed may have reached the first and not the second; nobody gets anything twice, or what nobody sent. */
static int both_got(struct stage *stage, enum carried what)
{
    uint64_t first = take_number(stage->other[0], what), second = take_number(stage->other[1], what);
    if ((first && first != 7) || (second && second != 7) || (second && !first))
        wrong("%llu and %llu came", (unsigned long long)first, (unsigned long long)second);
    if (take_number(stage->other[0], what) || take_number(stage->other[1], what))
        wrong("a message came twice");
    still_works(stage->other[0], stage->other[0]);
    if (take_number(stage->other[1], BYTES) != LAST)
        wrong("the second subscriber is not served any more");
    close_all(stage);
    return second ? 1 : first ? -1 : 0;
}
static int both_got_bytes(struct stage *stage)
{
    return both_got(stage, BYTES);
}
static int both_got_block(struct stage *stage)
{
    return both_got(stage, MOVED);
}
static int both_got_both(struct stage *stage)
{
    return both_got(stage, BOTH);
}

/* ---- the oldest is taken out ---- */

static void full_subscriber(struct stage *stage)
{
    cue_channel *ch = open_on_stage(stage, 0, CUE_RECV | CUE_SEND, "&depth=2");
    for (uint64_t n = 1; n <= 2; n++)
        MUST(send_number(ch, n, BYTES));
}
static int newest_came(struct stage *stage)
{
    uint64_t got[4];
    int n = 0;
    while (n < 4 && (got[n] = take_number(stage->other[0], BYTES)))
        n++;
    bool before = n == 2 && got[0] == 1 && got[1] == 2, between = n == 1 && got[0] == 2, after = n == 2 && got[0] == 2 && got[1] == 7;
    if (!before && !between && !after)
        wrong("%d messages came, %llu first", n, (unsigned long long)got[0]);
    still_works(stage->other[0], stage->other[0]);
    close_all(stage);
    return after;
}

/* ---- receive ---- */

static void publisher_here(struct stage *stage)
{
    open_on_stage(stage, 0, CUE_RECV | CUE_SEND, "");
}
static void subscriber_there(struct victim *me)
{
    open_in_victim(me, CUE_RECV, "");
}
static void publish_four(struct stage *stage)
{
    send_four(stage->other[0], BYTES, BYTES);
}
static void publish_four_both(struct stage *stage)
{
    send_four(stage->other[0], BOTH, BOTH);
}
static void receive_and_keep(struct victim *me)
{
    cue_msg m[3];
    if (cue_channel_recv_many(me->other[0], m, 3, CUE_NOW) != 3)
        abort();
    cue_msg_release(&m[1]);
}
/* Whatever became of the other subscriber. */
static int all_four_of(struct stage *stage, enum carried what)
{
    for (uint64_t n = 1; n <= 4; n++)
        if (take_number(stage->other[0], what) != n)
            wrong("message %llu did not come", (unsigned long long)n);
    still_works(stage->other[0], stage->other[0]);
    close_all(stage);
    return -1;
}
static int all_four(struct stage *stage)
{
    return all_four_of(stage, BYTES);
}
static int all_four_both(struct stage *stage)
{
    return all_four_of(stage, BOTH);
}

/* ---- subscribe, leave ---- */

static void subscribe(struct victim *me)
{
    open_in_victim(me, CUE_RECV, "&depth=2");
}
static void leave(struct victim *me)
{
    CUE_MUST(cue_channel_close(me->other[0]));
}
static int topic_works(struct stage *stage)
{
    still_works(stage->other[0], stage->other[0]);
    close_all(stage);
    return -1;
}
static int topic_anew(struct stage *stage)
{
    open_on_stage(stage, 0, CUE_RECV | CUE_SEND, "");
    return topic_works(stage);
}

/* ---- history ---- */

/* The topic ends, and its history with it, though whoever made that lives. */
static void end_topic(struct stage *stage)
{
    cue_block lane;
    must_be(cue_block_find(stage->pool, (cue_key){ .name = "topic" }, CUE_NOW, &lane), 0, "find the topic");
    uint64_t word = atomic_load(&((struct topic *)lane.data)->place[TOPIC_HISTORY]);
    MUST(cue_block_free(&lane));
    if (word)
        topic_history_settle(stage->pool, pool_record(stage->pool, (uint32_t)(word >> 32)), (uint32_t)(word >> 32));
}
static void history_here(struct stage *stage)
{
    cue_channel *ch = open_on_stage(stage, 0, CUE_SEND, "&history=2");
    for (uint64_t n = 1; n <= 3; n++)
        MUST(send_number(ch, n, BYTES));
}
static void make_history(struct victim *me)
{
    open_in_victim(me, CUE_SEND, "&history=2");
}
static void join_late(struct victim *me)
{
    open_in_victim(me, CUE_RECV, "&depth=2&history=2");
}
static void join_late_and_take(struct victim *me)
{
    join_late(me);
    receive_two(me);
}
static int history_whole(struct stage *stage)
{
    cue_channel *late = open_on_stage(stage, 1, CUE_RECV, "&history=2");
    uint64_t first = take_number(late, BYTES), second = take_number(late, BYTES), more = take_number(late, BYTES);
    bool before = first == 2 && second == 3, between = first == 3 && second == 0, after = first == 3 && second == 7;
    if ((!before && !after && !between) || more)
        wrong("the history is %llu, %llu, %llu", (unsigned long long)first, (unsigned long long)second, (unsigned long long)more);
    still_works(late, stage->other[0]);
    close_all(stage);
    end_topic(stage);
    return after;
}
static int history_untouched(struct stage *stage)
{
    if (history_whole(stage))
        wrong("the history has what nobody sent");
    return -1;
}
static int history_made(struct stage *stage)
{
    cue_channel *out = open_on_stage(stage, 0, CUE_SEND, "&history=2");
    MUST(send_number(out, 4, BYTES));
    cue_channel *late = open_on_stage(stage, 1, CUE_RECV, "&history=2");
    if (take_number(late, BYTES) != 4)
        wrong("the history does not work");
    close_all(stage);
    end_topic(stage);
    return -1;
}

/* ---- recovery: the victim cleans up after a subscriber with messages in hand and waiting, that was publishing ---- */

static void busy_party(struct victim *me)
{
    cue_msg m;
    open_in_victim(me, CUE_RECV | CUE_SEND, "&depth=2");
    for (uint64_t n = 1; n <= 2; n++)
        CUE_MUST(send_number(me->other[0], n, BYTES));
    if (cue_channel_recv(me->other[0], &m, CUE_NOW)) /* held */
        abort();
    CUE_MUST(number_block(me->pool, 3, &me->block[0]));
    CUE_MUST(send_with(me->other[0], 3, BOTH, &me->block[0]));
    /* what a publisher has done when it has reached nobody */
    cue_block b;
    CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &b));
    struct record *rec = pool_record(me->pool, (uint32_t)b.priv[0]), *held = pool_record(me->pool, (uint32_t)m.priv[0]);
    uint64_t state = atomic_load(&rec->state);
    atomic_store(&rec->lane, atomic_load(&held->lane));
    atomic_store(rec_grants(rec, 0), 3);
    atomic_store(rec_grants(rec, 64), 0);
    if (!block_move(rec, state, rec_word(REC_POSTED, me->pool->self + 1, rec_generation(state)) | REC_SHARED | REC_TOPIC))
        abort();
    atomic_fetch_or(rec_grants(held, 0), 1); /* what whoever evicts, or receives, has not done when it is killed */
}
static void dead_party(struct stage *stage)
{
    leave_dead(stage, "_busy_in_topic");
}
static int three_came(struct stage *stage)
{
    take_to(stage->other[0], 2);
    if (take_number(stage->other[0], BOTH) != 3)
        wrong("message 3 of a dead publisher did not come");
    return topic_works(stage);
}

/* ---- what is published while somebody watches ---- */

static void watch_here(struct stage *stage)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/@blocks?type=%d", stage->pool_name, NOTE);
    MUST(cue_channel_open(url, CUE_RECV, NULL, &ch));
    stage->other[0] = ch;
}
static void block_there(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 64, &(cue_block_opts){ .type = NOTE, .id = 3 }, &me->block[0]));
}
static void publish_and_free(struct victim *me)
{
    CUE_MUST(cue_block_publish(&me->block[0], 0));
    CUE_MUST(cue_block_free(&me->block[0]));
}
/* What happened was told, or that something is missing was: of a block that is there, and of one that is gone. */
static int told(struct stage *stage)
{
    cue_block view;
    cue_msg m;
    uint64_t ups = 0, gones = 0;
    bool there = cue_block_find(stage->pool, (cue_key){ .type = NOTE, .id = 3 }, CUE_NOW, &view) == 0;
    if (there)
        MUST(cue_block_release(&view));
    while (cue_channel_recv(stage->other[0], &m, CUE_MS(150)) == 0) { /* an entry that is not complete is waited for: a watch period */
        ups += m.type == CUE_BLOCK_UP;
        gones += m.type == CUE_BLOCK_GONE;
        cue_msg_release(&m);
    }
    cue_channel_info info;
    MUST(cue_channel_stat(stage->other[0], &info));
    if (there && ups + info.gaps == 0)
        wrong("a publication was not told, nor that it is missing");
    if ((ups > gones + info.gaps) != there && info.gaps == 0)
        wrong("%llu publications and %llu frees were told of a block that is %s", (unsigned long long)ups, (unsigned long long)gones,
              there ? "there" : "gone");
    if (there) {
        MUST(cue_block_find(stage->pool, (cue_key){ .type = NOTE, .id = 3 }, CUE_NOW, &view));
        MUST(cue_block_free(&view));
    }
    close_all(stage);
    return -1;
}

#define ON_TOPIC .size = MEDIUM
const struct op ops_topic[] = {
    { .name = "topic_publish",
      ON_TOPIC,
      .setup = two_subscribers,
      .prepare = publisher_there,
      .act = send_bytes,
      .verify = both_got_bytes },
    { .name = "topic_publish_block",
      ON_TOPIC,
      .setup = two_subscribers,
      .prepare = publisher_with_block,
      .act = send_block,
      .verify = both_got_block },
    { .name = "topic_publish_both",
      ON_TOPIC,
      .setup = two_subscribers,
      .prepare = publisher_with_block,
      .act = send_both,
      .verify = both_got_both },
    { .name = "topic_evict", ON_TOPIC, .setup = full_subscriber, .prepare = publisher_there, .act = send_bytes, .verify = newest_came },
    { .name = "topic_receive",
      ON_TOPIC,
      .setup = publisher_here,
      .prepare = subscriber_there,
      .between = publish_four,
      .act = receive_two,
      .verify = all_four },
    { .name = "topic_receive_both",
      ON_TOPIC,
      .setup = publisher_here,
      .prepare = subscriber_there,
      .between = publish_four_both,
      .act = receive_and_keep,
      .verify = all_four_both },
    { .name = "topic_make", ON_TOPIC, .act = subscribe, .verify = topic_anew },
    { .name = "topic_subscribe", ON_TOPIC, .setup = publisher_here, .act = subscribe, .verify = topic_works },
    { .name = "topic_unsubscribe",
      ON_TOPIC,
      .setup = publisher_here,
      .prepare = subscribe,
      .between = publish_four,
      .act = leave,
      .verify = all_four },
    { .name = "topic_history_make", ON_TOPIC, .act = make_history, .verify = history_made },
    { .name = "topic_history_publish",
      ON_TOPIC,
      .setup = history_here,
      .prepare = publisher_there,
      .act = send_bytes,
      .verify = history_whole },
    { .name = "topic_history_join", ON_TOPIC, .setup = history_here, .act = join_late_and_take, .verify = history_untouched },
    { .name = "topic_reap", ON_TOPIC, .setup = publisher_here, .between = dead_party, .act = reap_it, .verify = three_came },
    { .name = "events_publish", ON_TOPIC, .setup = watch_here, .prepare = block_there, .act = publish_and_free, .verify = told },
    { .name = "_busy_in_topic", ON_TOPIC, .prepare = busy_party, .act = reap_it },
    { 0 },
};
