/* What is cut while a pool is handed over: the driver has the other end of the socket. */
#include "crash.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MEDIUM = 4 << 20, HERE = 210, THERE = 211 }; /* descriptors of both ends; the victim inherits the second one */

static void connect_ends(struct stage *stage)
{
    int pair[2];
    (void)stage;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) || dup2(pair[0], HERE) < 0 || dup2(pair[1], THERE) < 0)
        abort();
    close(pair[0]);
    close(pair[1]);
}
static void close_ends(void)
{
    close(HERE);
    close(THERE);
}
static void only_there(struct victim *me)
{
    (void)me;
    close(HERE);
}

static void hand(struct victim *me)
{
    CUE_MUST(cue_pool_hand(me->pool, THERE));
}
/* It came whole, or nothing did. */
static int came_over(struct stage *stage)
{
    cue_pool *pool;
    cue_block b;
    int status = cue_pool_take(HERE, NULL, CUE_NOW, &pool);
    if (status) {
        must_be(status, CUE_EEMPTY, "cue_pool_take");
    } else {
        if (pool != stage->pool)
            wrong("another pool came");
        MUST(cue_block_alloc(pool, 5000, NULL, &b));
        MUST(cue_block_release(&b));
        cue_pool_close(pool);
        must_be(cue_pool_take(HERE, NULL, CUE_NOW, &pool), CUE_EEMPTY, "cue_pool_take once more");
    }
    close_ends();
    return status == 0;
}

static void hand_it_over(struct stage *stage)
{
    connect_ends(stage);
    MUST(cue_pool_hand(stage->pool, HERE));
}
static void not_yet_in(struct victim *me)
{
    only_there(me);
    cue_pool_close(me->pool);
}
static void take(struct victim *me)
{
    CUE_MUST(cue_pool_take(THERE, NULL, CUE_SEC(5), &me->pool));
}
static int ends_closed(struct stage *stage)
{
    cue_pool_info info;
    MUST(cue_pool_stat(stage->pool, &info));
    if (info.parties != 1)
        wrong("%llu parties are attached, and only one lives", (unsigned long long)info.parties);
    close_ends();
    return -1;
}

const struct op ops_hand[] = {
    { .name = "hand", .size = MEDIUM, .backing = IN_MEMFD, .setup = connect_ends, .prepare = only_there, .act = hand, .verify = came_over },
    { .name = "take",
      .size = MEDIUM,
      .backing = IN_MEMFD,
      .setup = hand_it_over,
      .prepare = not_yet_in,
      .act = take,
      .verify = ends_closed },
    { .name = "take_file",
      .size = MEDIUM,
      .again = true,
      .backing = IN_FILE,
      .setup = hand_it_over,
      .prepare = not_yet_in,
      .act = take,
      .verify = ends_closed },
    { 0 },
};
