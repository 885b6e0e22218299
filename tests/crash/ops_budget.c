/* What is cut in budgets: taking, giving back, settling. Afterwards the counts are what the records say, and all of it can be had. */
#include "behind.h"

#include <string.h>

enum { POOL = 4 << 20, TINY = 64 << 10, BUDGET = 4096, LITTLE = 64, TYPE = 0x20000 };

static const cue_budget_want now = { .subtype = 0 };

static void make_budget(struct stage *stage)
{
    cue_budget_opts opts = { .bytes = BUDGET, .least = 32, .type = TYPE };
    MUST(cue_budget_make(stage->pool, "b", &opts, &stage->block[0]));
}

static void make_and_take(struct stage *stage)
{
    make_budget(stage);
    MUST(cue_budget_alloc(&stage->block[0], 64, &now, &stage->block[1]));
    stage->number[0] = 1;
}

/* Full by its counts, empty in truth. */
static void make_drift(struct stage *stage)
{
    make_budget(stage);
    MUST(cue_budget_alloc(&stage->block[0], BUDGET, &now, &stage->block[1]));
    MUST(cue_block_free(&stage->block[1]));
}

static void find_budget(struct victim *me)
{
    cue_block warm;
    CUE_MUST(cue_block_find(me->pool, (cue_key){ .name = "b" }, CUE_NOW, &me->block[0]));
    CUE_MUST(cue_block_alloc(me->pool, 64, NULL, &warm));
}

static void find_both(struct victim *me)
{
    uint64_t cursor = 0;
    cue_block_info row;
    find_budget(me);
    if (CUE_MUST(cue_block_next(me->pool, TYPE, &cursor, &row)) == 1)
        CUE_MUST(cue_block_find(me->pool, (cue_key){ .id = row.id }, CUE_NOW, &me->block[1]));
}

static void take(struct victim *me)
{
    CUE_MUST(cue_budget_alloc(&me->block[0], 64, &now, &me->block[1]));
}

static void give_back(struct victim *me)
{
    CUE_MUST(cue_budget_free(&me->block[0], &me->block[1]));
}

static void others_go_on(struct stage *stage)
{
    cue_block b;
    MUST(cue_budget_alloc(&stage->block[0], 1024, &now, &b));
    MUST(cue_budget_free(&stage->block[0], &b));
}

/* Frees the budget's blocks; how many they were. */
static uint64_t free_all(struct stage *stage)
{
    uint64_t cursor = 0, blocks = 0;
    cue_block_info row;
    cue_block b;
    while (cue_block_next(stage->pool, TYPE, &cursor, &row) == 1)
        if (row.state == CUE_BLOCK_KEPT && cue_block_find(stage->pool, (cue_key){ .id = row.id }, CUE_NOW, &b) == 0) {
            MUST(cue_budget_free(&stage->block[0], &b));
            blocks++;
        }
    return blocks;
}

static int counts_right(struct stage *stage)
{
    cue_budget_info info;
    cue_block all;
    if (cue_budget_settle(&stage->block[0]) < 0)
        wrong("the budget cannot be settled");
    MUST(cue_budget_stat(&stage->block[0], &info));
    if (stage->number[0])
        cue_block_release(&stage->block[1]);
    uint64_t blocks = free_all(stage);
    uint64_t size = stage->number[1] ? stage->number[1] : 64;
    if (info.blocks != blocks || info.used != size * blocks)
        wrong("%llu blocks of %llu bytes live, the budget counts %llu and %llu bytes", (unsigned long long)blocks, (unsigned long long)size,
              (unsigned long long)info.blocks, (unsigned long long)info.used);
    MUST(cue_budget_stat(&stage->block[0], &info));
    if (info.used || info.blocks)
        wrong("all is freed, and the budget counts %llu bytes", (unsigned long long)info.used);
    MUST(cue_budget_alloc(&stage->block[0], BUDGET, &now, &all));
    MUST(cue_budget_free(&stage->block[0], &all));
    MUST(cue_block_free(&stage->block[0]));
    return blocks != stage->number[0];
}

/* ---- asleep: the victim waits for a place under the budget, and somebody behind it ---- */

static const cue_budget_want patient = { .wait = { INT64_C(40000000000) } };

static int wait_under_budget(struct stage *stage, cue_block *out)
{
    return cue_budget_alloc(&stage->block[0], LITTLE, &patient, out);
}
/* Of a budget that has a little more: there is always room for who waits behind, and it is the victim's turn. */
static void take_halves(struct stage *stage)
{
    cue_budget_opts opts = { .bytes = BUDGET + LITTLE, .least = 32, .type = TYPE };
    MUST(cue_budget_make(stage->pool, "b", &opts, &stage->block[0]));
    for (int i = 1; i <= 2; i++)
        MUST(cue_budget_alloc(&stage->block[0], BUDGET / 2, &now, &stage->block[i]));
}
static void take_both_halves(struct victim *me)
{
    CUE_MUST(cue_budget_alloc(&me->block[0], BUDGET, &patient, &me->block[1]));
}
static void half_comes_free(struct stage *stage)
{
    queue_behind(stage, wait_under_budget);
    for (int i = 1; i <= 2; i++)
        if (stage->block[i].data) {
            MUST(cue_budget_free(&stage->block[0], &stage->block[i]));
            return;
        }
}
static void next_one_is_served(struct stage *stage)
{
    queue_behind(stage, wait_under_budget);
    for (int i = 1; i <= 2; i++)
        if (stage->block[i].data)
            MUST(cue_budget_free(&stage->block[0], &stage->block[i]));
    cue_block *got = behind_is_served(stage, "waiting under the budget behind the victim");
    if (got)
        MUST(cue_budget_free(&stage->block[0], got));
}
static int halves_counted(struct stage *stage)
{
    stage->number[1] = BUDGET;
    behind_forget(stage);
    counts_right(stage);
    return -1; /* how often it naps is a matter of time, so the points do not come in the same order each time */
}

const struct op ops_budget[] = {
    { .name = "budget_alloc",
      .size = POOL,
      .setup = make_budget,
      .prepare = find_budget,
      .act = take,
      .meanwhile = others_go_on,
      .verify = counts_right },
    { .name = "budget_free",
      .size = POOL,
      .setup = make_and_take,
      .prepare = find_both,
      .act = give_back,
      .meanwhile = others_go_on,
      .verify = counts_right },
    { .name = "budget_settle",
      .size = POOL,
      .setup = make_drift,
      .prepare = find_budget,
      .act = take,
      .meanwhile = others_go_on,
      .verify = counts_right },
    { .name = "budget_asleep",
      .size = TINY,
      .full = true,
      .setup = take_halves,
      .prepare = find_budget,
      .asleep = half_comes_free,
      .act = take_both_halves,
      .meanwhile = next_one_is_served,
      .verify = halves_counted },
    { 0 },
};
