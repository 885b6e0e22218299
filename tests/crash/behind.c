#include "behind.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct behind {
    pthread_t thread;
    struct stage *stage;
    behind_wait *wait;
    cue_block b;
    int status;
    bool ended;
    _Atomic pid_t id;
};

static void *run_behind(void *arg)
{
    struct behind *me = arg;
    atomic_store(&me->id, gettid());
    me->status = me->wait(me->stage, &me->b);
    return NULL;
}

void queue_behind(struct stage *stage, behind_wait *wait)
{
    if (stage->other[0])
        return;
    struct behind *behind = calloc(1, sizeof *behind);
    if (!behind)
        abort();
    behind->stage = stage;
    behind->wait = wait;
    stage->other[0] = behind;
    if (pthread_create(&behind->thread, NULL, run_behind, behind))
        abort();
    while (!atomic_load(&behind->id) || (!sleeps(getpid(), atomic_load(&behind->id)) && !behind->ended))
        if (pthread_tryjoin_np(behind->thread, NULL) == 0)
            behind->ended = true;
        else
            usleep(50);
}

cue_block *behind_is_served(struct stage *stage, const char *what)
{
    struct behind *behind = stage->other[0];
    if (!behind->stage)
        return NULL;
    if (!behind->ended)
        pthread_join(behind->thread, NULL);
    behind->stage = NULL;
    must_be(behind->status, 0, what);
    return behind->status ? NULL : &behind->b;
}

void behind_forget(struct stage *stage)
{
    free(stage->other[0]);
    stage->other[0] = NULL;
}
