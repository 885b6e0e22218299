/* What is cut in questions and answers: asking, answering, and the recovery that answers for the dead. */
#include "channels/actor_lane.h"
#include "channels/ask.h"
#include "numbers.h"

#include <cuelight/channel.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MEDIUM = 4 << 20, TAG = 77 };

static cue_channel *lane_channel(const char *pool, unsigned how)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/lane?depth=16", pool);
    CUE_MUST(cue_channel_open(url, how, NULL, &ch));
    return ch;
}

/* ---- asking: with a wait of nothing, so that the question goes and the box with it ---- */

static void receiver_here(struct stage *stage)
{
    stage->other[0] = lane_channel(stage->pool_name, CUE_RECV);
}
static void asker_there(struct victim *me)
{
    me->other[0] = lane_channel(me->pool_name, CUE_SEND);
}
static void ask(struct victim *me)
{
    cue_msg answer;
    uint64_t number = 7;
    if (cue_channel_ask(me->other[0], CUE_MSG(NOTE, number), CUE_NOW, &answer) != CUE_ETIMEDOUT)
        abort();
}
/* The question came once or not at all; who answers it finds nobody, which is no error. */
static int question_came(struct stage *stage)
{
    cue_msg m;
    int came = 0;
    while (cue_channel_recv(stage->other[0], &m, CUE_NOW) == 0) {
        uint64_t number = 0;
        if (m.size == sizeof number)
            memcpy(&number, m.data, sizeof number);
        if (number != 7 || came++)
            wrong("question %llu came", (unsigned long long)number);
        MUST(cue_reply(&m, CUE_MSG(NOTE, number)));
        cue_msg_release(&m);
    }
    MUST(cue_channel_close(stage->other[0]));
    return came;
}

/* ---- answering: the driver's box is looked into without a thread ---- */

struct asker {
    struct lane_end end;
    struct link links[16];
    struct near_slabs near_slabs;
    cue_channel *ch;
};

static void question_asked(struct stage *stage)
{
    struct asker *asker = aligned_alloc(64, sizeof *asker);
    uint64_t number = 7;
    if (!asker)
        abort();
    memset(asker, 0, sizeof *asker);
    CUE_MUST(lane_end_make(stage->pool, NULL, 16, NULL, 0, &asker->end));
    CUE_MUST(lane_end_publish(&asker->end));
    lane_end_use(&asker->end, asker->links, 16, &asker->near_slabs);
    asker->ch = lane_channel(stage->pool_name, CUE_SEND);
    const struct lane *lane = &asker->end.ch.lane;
    cue_msg m = { .type = NOTE,
                  .tag = TAG,
                  .from = { ASK_NODE, (uint32_t)stage->pool->uid, lane->index, (uint32_t)lane->generation },
                  .data = &number,
                  .size = sizeof number };
    CUE_MUST(cue_channel_send(asker->ch, &m, CUE_NOW));
    stage->other[0] = asker;
}
static void question_taken(struct victim *me)
{
    cue_msg *m = calloc(1, sizeof *m);
    me->other[0] = lane_channel(me->pool_name, CUE_RECV);
    me->other[1] = m;
    if (!m || cue_channel_recv(me->other[0], m, CUE_NOW))
        abort();
}
static void answer(struct victim *me)
{
    uint64_t number = 8;
    CUE_MUST(cue_reply(me->other[1], CUE_MSG(NOTE, number)));
    cue_msg_release(me->other[1]);
}
/* The asker hears one or the other: the answer, or that nobody will answer. Never nothing. */
static int heard(struct stage *stage)
{
    struct asker *asker = stage->other[0];
    cue_msg m;
    int answered = -1;
    for (unsigned i = 0; lane_end_take(&asker->end, &m) == 1; i++) {
        bool right =
            m.tag == TAG && (m.status == CUE_EDEAD || (m.status == 0 && m.size == sizeof(uint64_t) && *(const uint64_t *)m.data == 8));
        if (!right || (i && m.status == 0))
            wrong("answer %u came with tag %llu, status %d and %zu bytes", i, (unsigned long long)m.tag, m.status, m.size);
        if (i == 0)
            answered = m.status == 0;
        cue_msg_release(&m);
    }
    if (answered < 0)
        wrong("the asker never hears of it");
    lane_end_close(&asker->end);
    lane_end_free(&asker->end);
    MUST(cue_channel_close(asker->ch));
    free(asker);
    return answered > 0;
}
static void dead_answerer(struct stage *stage)
{
    leave_dead(stage, "_answerer");
}
static int heard_of_it(struct stage *stage)
{
    if (heard(stage))
        wrong("somebody answered");
    return -1;
}

const struct op ops_ask[] = {
    { .name = "ask", .size = MEDIUM, .setup = receiver_here, .prepare = asker_there, .act = ask, .verify = question_came },
    { .name = "reply", .size = MEDIUM, .setup = question_asked, .prepare = question_taken, .act = answer, .verify = heard },
    { .name = "reap_asked", .size = MEDIUM, .setup = question_asked, .between = dead_answerer, .act = reap_it, .verify = heard_of_it },
    { .name = "_answerer", .size = MEDIUM, .prepare = question_taken, .act = reap_it },
    { 0 },
};
