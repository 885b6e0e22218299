/* What is cut in taps: looking on and leaving, sends that are shown, recovery of who looked on. */
#include "channels/lane.h"
#include "numbers.h"

#include <stdio.h>
#include <stdlib.h>

static cue_channel *tapped_channel(const char *pool, unsigned how, const char *rest)
{
    char url[160];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/lane%s", pool, rest);
    CUE_MUST(cue_channel_open(url, how, NULL, &ch));
    return ch;
}

/* other[0] receives, and but for streams sends as well; other[1] looks on. */
static void lane_of_kind(struct stage *stage, const char *rest, unsigned how)
{
    stage->other[0] = tapped_channel(stage->pool_name, how, rest);
}
static void mailbox_here(struct stage *stage)
{
    lane_of_kind(stage, "", CUE_RECV | CUE_SEND);
}
static void tapped_mailbox(struct stage *stage)
{
    mailbox_here(stage);
    stage->other[1] = tapped_channel(stage->pool_name, CUE_TAP, "");
}
static void tapped_stream(struct stage *stage)
{
    lane_of_kind(stage, "?kind=stream", CUE_RECV);
    stage->other[1] = tapped_channel(stage->pool_name, CUE_TAP, "");
}
static void tapped_topic(struct stage *stage)
{
    lane_of_kind(stage, "?kind=topic", CUE_RECV | CUE_SEND);
    stage->other[1] = tapped_channel(stage->pool_name, CUE_TAP, "");
}
/* A tap that does not read: the oldest copy goes. */
static void full_tap(struct stage *stage)
{
    mailbox_here(stage);
    stage->other[1] = tapped_channel(stage->pool_name, CUE_TAP, "?depth=1");
    MUST(send_number(stage->other[0], 6, BYTES));
    if (take_number(stage->other[0], BYTES) != 6)
        wrong("it did not come");
}

static void sender_there(struct victim *me)
{
    me->other[0] = tapped_channel(me->pool_name, CUE_SEND, "");
}
static void sender_with_block(struct victim *me)
{
    sender_there(me);
    CUE_MUST(number_block(me->pool, 7, &me->block[0]));
}
static void look_on(struct victim *me)
{
    me->other[1] = tapped_channel(me->pool_name, CUE_TAP, "?depth=4");
}
static void leave(struct victim *me)
{
    CUE_MUST(cue_channel_close(me->other[1]));
}

/* How many copies wait, which are given back. */
static unsigned copies(struct stage *stage)
{
    cue_msg m;
    unsigned n = 0;
    while (cue_channel_recv(stage->other[1], &m, CUE_NOW) == 0) {
        cue_tapped about;
        MUST(cue_msg_tapped(&m, &about));
        cue_msg_release(&m);
        n++;
    }
    return n;
}

static bool is_tapped(struct stage *stage)
{
    cue_block lane;
    must_be(cue_block_find(stage->pool, (cue_key){ .name = "lane" }, CUE_NOW, &lane), 0, "find the lane");
    bool tapped = atomic_load(&((struct lane_head *)lane.data)->gate) & GATE_TAPPED;
    MUST(cue_block_release(&lane));
    return tapped;
}

/* The lane works; who still looks on sees it, and if nobody does the lane says so. */
static void lane_works(struct stage *stage)
{
    if (is_tapped(stage) != (stage->other[1] != NULL))
        wrong("the lane is %s tapped", is_tapped(stage) ? "still" : "not");
    cue_channel *out = stage->other[0];
    cue_channel_info info;
    MUST(cue_channel_stat(out, &info));
    if (info.kind == CUE_STREAM)
        out = stage->other[2] = tapped_channel(stage->pool_name, CUE_SEND, "");
    MUST(send_number(out, LAST, BYTES));
    if (take_number(stage->other[0], BYTES) != LAST)
        wrong("the lane does not work any more");
    if (stage->other[1] && copies(stage) != 1)
        wrong("the tap does not work any more");
    for (int i = 0; i < 4; i++) {
        if (stage->other[i])
            MUST(cue_channel_close(stage->other[i]));
        stage->other[i] = NULL;
    }
}

/* Shown is what was sent, once; a killed sender may have sent what was not shown. */
static int sent_and_shown(struct stage *stage, enum carried what, unsigned before)
{
    uint64_t got = take_number(stage->other[0], what);
    unsigned shown = copies(stage);
    cue_channel_info info;
    MUST(cue_channel_stat(stage->other[1], &info));
    if ((got && got != 7) || take_number(stage->other[0], what))
        wrong("%llu came", (unsigned long long)got);
    if (shown > before + (got != 0) || (!stage->killed && shown + info.gaps != before + 1))
        wrong("%u copies and %llu gaps of %d messages", shown, (unsigned long long)info.gaps, got != 0);
    lane_works(stage);
    return got != 0;
}
static int bytes_shown(struct stage *stage)
{
    return sent_and_shown(stage, BYTES, 0);
}
static int block_shown(struct stage *stage)
{
    return sent_and_shown(stage, MOVED, 0);
}
static int newest_shown(struct stage *stage)
{
    return sent_and_shown(stage, BYTES, 1);
}
static int works(struct stage *stage)
{
    lane_works(stage);
    return -1;
}

/* ---- recovery ---- */

static void onlooker(struct victim *me)
{
    cue_msg m;
    look_on(me);
    sender_there(me);
    for (uint64_t n = 1; n <= 2; n++)
        CUE_MUST(send_number(me->other[0], n, BYTES));
    if (cue_channel_recv(me->other[1], &m, CUE_NOW)) /* held */
        abort();
}
static void dead_onlooker(struct stage *stage)
{
    leave_dead(stage, "_looking_on");
}
static int two_came(struct stage *stage)
{
    take_to(stage->other[0], 2);
    if (stage->other[1] && copies(stage) != 2)
        wrong("the other tap has missed something");
    return works(stage);
}

#define ON_LANE .size = 4 << 20
const struct op ops_tap[] = {
    { .name = "tap_make", ON_LANE, .setup = mailbox_here, .act = look_on, .verify = works },
    { .name = "tap_join", ON_LANE, .setup = tapped_mailbox, .act = look_on, .verify = works },
    { .name = "tap_leave", ON_LANE, .setup = tapped_mailbox, .prepare = look_on, .act = leave, .verify = works },
    { .name = "tap_leave_last", ON_LANE, .setup = mailbox_here, .prepare = look_on, .act = leave, .verify = works },
    { .name = "tapped_send", ON_LANE, .setup = tapped_mailbox, .prepare = sender_there, .act = send_bytes, .verify = bytes_shown },
    { .name = "tapped_block", ON_LANE, .setup = tapped_mailbox, .prepare = sender_with_block, .act = send_block, .verify = block_shown },
    { .name = "tapped_stream", ON_LANE, .setup = tapped_stream, .prepare = sender_there, .act = send_bytes, .verify = bytes_shown },
    { .name = "tapped_topic", ON_LANE, .setup = tapped_topic, .prepare = sender_there, .act = send_bytes, .verify = bytes_shown },
    { .name = "tap_evict", ON_LANE, .setup = full_tap, .prepare = sender_there, .act = send_bytes, .verify = newest_shown },
    { .name = "tap_reap", ON_LANE, .setup = tapped_mailbox, .between = dead_onlooker, .act = reap_it, .verify = two_came },
    { .name = "tap_reap_last", ON_LANE, .setup = mailbox_here, .between = dead_onlooker, .act = reap_it, .verify = two_came },
    { .name = "_looking_on", ON_LANE, .prepare = onlooker, .act = reap_it },
    { 0 },
};
