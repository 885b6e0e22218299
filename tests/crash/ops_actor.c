/* What is cut in actors: their making and their names. The scheduler's thread goes on meanwhile, as it does in life. */
#include "crash.h"

#include <cuelight/actor.h>

enum { MEDIUM = 4 << 20 };

static int idle(void *state, cue_msg *m)
{
    (void)state, (void)m;
    return 0;
}

static void start_system(struct victim *me)
{
    cue_system *sys;
    CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = me->pool_name, .actors = 64 }, &sys));
    me->other[0] = sys;
}
static void start_warm(struct victim *me)
{
    start_system(me);
    CUE_MUST(cue_spawn(me->other[0], &(cue_actor_spec){ .run = idle, .state_size = 64 }, NULL));
}
static void system_only(struct victim *me)
{
    start_system(me);
}
static void spawn(struct victim *me)
{
    CUE_MUST(cue_spawn(me->other[0], &(cue_actor_spec){ .run = idle, .state_size = 64 }, NULL));
}
static void spawn_named(struct victim *me)
{
    CUE_MUST(cue_spawn(me->other[0], &(cue_actor_spec){ .name = "clerk", .run = idle, .state_size = 64 }, NULL));
}
static void adopt(struct victim *me)
{
    CUE_MUST(cue_adopt(me->other[0], "main", NULL));
}
static void start_adopted(struct victim *me)
{
    start_system(me);
    adopt(me);
}
static void exit_adopted(struct victim *me)
{
    (void)me;
    CUE_MUST(cue_exit(cue_self(), 0));
}
static void register_name(struct victim *me)
{
    (void)me;
    CUE_MUST(cue_register("front", cue_self()));
}
/* What a dead process was named after is free for others. */
static int names_free(struct stage *stage)
{
    static const char *const names[] = { "clerk", "main", "front" };
    cue_block b;
    for (int i = 0; i < 3; i++) {
        MUST(cue_block_alloc(stage->pool, 64, &(cue_block_opts){ .name = names[i] }, &b));
        if (b.data)
            MUST(cue_block_release(&b));
    }
    return -1;
}

const struct op ops_actor[] = {
    { .name = "system_start", .size = MEDIUM, .act = system_only, .verify = names_free },
    { .name = "spawn", .size = MEDIUM, .prepare = start_system, .act = spawn, .verify = names_free },
    { .name = "spawn_warm", .size = MEDIUM, .prepare = start_warm, .act = spawn, .verify = names_free },
    { .name = "spawn_named", .size = MEDIUM, .prepare = start_warm, .act = spawn_named, .verify = names_free },
    { .name = "adopt", .size = MEDIUM, .prepare = start_system, .act = adopt, .verify = names_free },
    { .name = "adopt_exit", .size = MEDIUM, .prepare = start_adopted, .act = exit_adopted, .verify = names_free },
    { .name = "register", .size = MEDIUM, .prepare = start_adopted, .act = register_name, .verify = names_free },
    { 0 },
};
