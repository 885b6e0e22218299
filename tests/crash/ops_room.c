/* What is cut in waits for room: the victim sleeps, what it waits for comes by and by, and somebody waits behind it. */
#include "behind.h"
#include "numbers.h"

#include <stdio.h>
#include <stdlib.h>

enum { SMALL = 256 << 10, TINY = 64 << 10, MOST = 16, FULL = 4096 };

/* ---- to allocate ---- */

static int wait_for_some(struct stage *stage, cue_block *out)
{
    return cue_block_alloc(stage->pool, 8192, &(cue_block_opts){ .wait = CUE_SEC(40) }, out);
}
static void take_in_halves(struct stage *stage)
{
    for (int i = 0; i < 2; i++)
        MUST(cue_block_alloc(stage->pool, stage->size / 2, NULL, &stage->block[i]));
}
static void alloc_most(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 48 << 10, &(cue_block_opts){ .wait = CUE_SEC(50) }, &me->block[0]));
}
/* The first half is enough for who waits behind, and not for the victim; it tries, and sleeps again. */
static void half_comes_free(struct stage *stage)
{
    queue_behind(stage, wait_for_some);
    for (int i = 0; i < 2; i++)
        if (stage->block[i].data) {
            MUST(cue_block_release(&stage->block[i]));
            return;
        }
}
static void next_one_is_served(struct stage *stage)
{
    queue_behind(stage, wait_for_some);
    for (int i = 0; i < 2; i++)
        if (stage->block[i].data)
            MUST(cue_block_release(&stage->block[i]));
    cue_block *got = behind_is_served(stage, "waiting for room behind the victim");
    if (got)
        MUST(cue_block_release(got));
}
/* Whether it took effect is not asked: how often it naps is a matter of time, so the points do not come in the same order each time. */
static int forgotten(struct stage *stage)
{
    behind_forget(stage);
    return -1;
}
static void own_quota(struct victim *me)
{
    cue_pool_close(me->pool);
    CUE_MUST(victim_open(me, CUE_ATTACH, 52 << 10));
}

/* ---- for a place in a pool that may hold so many ---- */

static int wait_for_place(struct stage *stage, cue_block *out)
{
    return cue_block_alloc(stage->pool, 64, &(cue_block_opts){ .wait = CUE_SEC(40) }, out);
}
static void take_all_places(struct stage *stage)
{
    cue_block *b = calloc(MOST, sizeof *b);
    for (int i = 0; b && i < MOST; i++)
        MUST(cue_block_alloc(stage->pool, 64, NULL, &b[i]));
    stage->other[1] = b;
    stage->number[1] = MOST;
}
static void one_place_less(struct stage *stage)
{
    cue_block *b = stage->other[1];
    if (stage->number[1] > 0)
        MUST(cue_block_release(&b[--stage->number[1]]));
}
static void alloc_patiently(struct victim *me)
{
    CUE_MUST(cue_block_alloc(me->pool, 64, &(cue_block_opts){ .wait = CUE_SEC(50) }, &me->block[0]));
}
static void place_comes_free(struct stage *stage)
{
    queue_behind(stage, wait_for_place);
    one_place_less(stage);
}
/* Two: the victim may have one by now. */
static void next_one_has_a_place(struct stage *stage)
{
    place_comes_free(stage);
    one_place_less(stage);
    cue_block *got = behind_is_served(stage, "waiting for a place behind the victim");
    if (got)
        MUST(cue_block_release(got));
}
static int places_given_back(struct stage *stage)
{
    while (stage->number[1] > 0)
        one_place_less(stage);
    free(stage->other[1]);
    return forgotten(stage);
}

/* ---- to send ---- */

static cue_channel *lane_of_kind(const char *pool, const char *kind, unsigned how)
{
    char url[128];
    cue_channel *ch = NULL;
    snprintf(url, sizeof url, "shm://%s/lane?depth=16&kind=%s", pool, kind);
    CUE_MUST(cue_channel_open(url, how, NULL, &ch));
    return ch;
}

#define A_KIND(kind)                                                                                                                       \
    static void receiver_of_##kind(struct stage *stage)                                                                                    \
    {                                                                                                                                      \
        stage->other[2] = lane_of_kind(stage->pool_name, #kind, CUE_RECV);                                                                 \
    }                                                                                                                                      \
    static void sender_of_##kind(struct victim *me)                                                                                        \
    {                                                                                                                                      \
        me->other[0] = lane_of_kind(me->pool_name, #kind, CUE_SEND);                                                                       \
        CUE_MUST(number_block(me->pool, 7, &me->block[0]));                                                                                \
    }
A_KIND(mailbox)
A_KIND(queue)
A_KIND(topic)

static void fill_pool(struct stage *stage)
{
    cue_block *b = calloc(FULL, sizeof *b);
    uint64_t n = 0;
    for (size_t size = POOL_GRANULE; b && size >= 64; size /= 2)
        while (n < FULL && cue_block_alloc(stage->pool, size, NULL, &b[n]) == 0)
            n++;
    if (n == FULL)
        wrong("the pool cannot be filled");
    stage->other[1] = b;
    stage->number[1] = n;
}
static void empty_pool(struct stage *stage, uint64_t until)
{
    cue_block *b = stage->other[1];
    while (b && stage->number[1] > until)
        MUST(cue_block_release(&b[--stage->number[1]]));
}
static int wait_for_granule(struct stage *stage, cue_block *out)
{
    return cue_block_alloc(stage->pool, POOL_GRANULE, &(cue_block_opts){ .wait = CUE_SEC(40) }, out);
}
static void some_comes_free(struct stage *stage)
{
    queue_behind(stage, wait_for_granule);
    empty_pool(stage, stage->number[1] - stage->number[1] / 4);
}
static void next_one_has_room(struct stage *stage)
{
    queue_behind(stage, wait_for_granule);
    empty_pool(stage, 0);
    cue_block *got = behind_is_served(stage, "waiting for room behind a sender");
    if (got)
        MUST(cue_block_release(got));
}
static void send_patiently(struct victim *me)
{
    uint64_t number = 7;
    cue_msg m = { .type = NOTE, .data = &number, .size = sizeof number, .move = &me->block[0] };
    CUE_MUST(cue_channel_send(me->other[0], &m, CUE_SEC(50)));
}
static int message_came(struct stage *stage)
{
    uint64_t got = take_number(stage->other[2], BOTH);
    if ((got && got != 7) || take_number(stage->other[2], BOTH))
        wrong("message %llu came, or one came twice", (unsigned long long)got);
    MUST(cue_channel_close(stage->other[2]));
    free(stage->other[1]);
    return forgotten(stage);
}

#define SEND_ASLEEP(kind, is_again)                                                                                                        \
    {                                                                                                                                      \
        .name = #kind "_send_asleep", .size = SMALL, .again = is_again, .full = true, .setup = receiver_of_##kind,                         \
        .prepare = sender_of_##kind, .between = fill_pool, .asleep = some_comes_free, .act = send_patiently,                               \
        .meanwhile = next_one_has_room, .verify = message_came                                                                             \
    }

const struct op ops_room[] = {
    { .name = "alloc_asleep",
      .size = TINY,
      .full = true,
      .setup = take_in_halves,
      .asleep = half_comes_free,
      .act = alloc_most,
      .meanwhile = next_one_is_served,
      .verify = forgotten },
    { .name = "quota_asleep",
      .size = TINY,
      .again = true,
      .full = true,
      .setup = take_in_halves,
      .prepare = own_quota,
      .asleep = half_comes_free,
      .act = alloc_most,
      .meanwhile = next_one_is_served,
      .verify = forgotten },
    { .name = "place_asleep",
      .size = SMALL,
      .max_allocations = MOST,
      .full = true,
      .setup = take_all_places,
      .asleep = place_comes_free,
      .act = alloc_patiently,
      .meanwhile = next_one_has_a_place,
      .verify = places_given_back },
    SEND_ASLEEP(mailbox, false),
    SEND_ASLEEP(queue, true), /* a stream's is the same */
    SEND_ASLEEP(topic, true),
    { 0 },
};
