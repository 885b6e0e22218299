/* Roles for tests/actor_*.c: a program with kinds of actors, and programs that watch, spawn and end in different ways. */
#include "tests/cast/roles.h"
#include "tests/cast/actor_kinds.h"

#include <cuelight/actor.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int echo(void *state, cue_msg *m)
{
    (void)state;
    switch (m->type) {
    case ACTOR_LAST:
        return CUE_STOP;
    case ACTOR_FAIL:
        return -2000;
    case ACTOR_EXIT:
        exit(3);
    case ACTOR_DIE:
        return raise(SIGKILL);
    case ACTOR_HANG:
        for (;;)
            pause();
    default:
        break;
    }
    cue_block kept = cue_move(&m->block);
    if (kept.size)
        ((unsigned char *)kept.data)[0]++;
    bool bytes = !kept.size || m->data != kept.data;
    cue_msg answer = {
        .type = m->type, .tag = m->tag, .data = bytes ? m->data : NULL, .size = bytes ? m->size : 0, .move = kept.size ? &kept : NULL
    };
    int status = cue_tell(m->from, &answer);
    cue_block_release(&kept);
    return status == CUE_EDEAD || status == CUE_EFULL || status == CUE_ENOMEM ? 0 : status; /* who asked too much gets no answer */
}

static int refuse(void *state, const void *arg, size_t size)
{
    (void)state;
    return size == 1 && *(const char *)arg == 'k' ? raise(SIGKILL) : -2001;
}

/* Tells its number to whoever it was made to tell, again and again. */
struct chatter {
    cue_ref to;
    uint64_t next;
};

static int chatter_init(void *state, const void *arg, size_t size)
{
    struct chatter *chatter = state;
    if (size != sizeof chatter->to)
        return CUE_EINVAL;
    memcpy(&chatter->to, arg, size);
    return cue_tell(cue_self(), &(cue_msg){ .type = ACTOR_NEXT });
}

static int chatter_run(void *state, cue_msg *m)
{
    struct chatter *chatter = state;
    cue_block b;
    (void)m;
    int status = cue_block_alloc(cue_system_pool(NULL), 4096, NULL, &b);
    if (!status) {
        *(uint64_t *)b.data = chatter->next;
        status =
            cue_tell(chatter->to, &(cue_msg){ .type = ACTOR_NEXT, .tag = chatter->next, .data = &chatter->next, .size = 8, .move = &b });
        chatter->next += status == 0;
        cue_block_release(&b);
    }
    if (status == CUE_EDEAD)
        return CUE_STOP;
    return cue_tell(cue_self(), &(cue_msg){ .type = ACTOR_NEXT });
}

static const cue_actor_spec kinds[] = {
    { .kind = "echo", .run = echo },
    { .kind = "refuse", .run = echo, .init = refuse },
    { .kind = "chatter", .run = chatter_run, .init = chatter_init, .state_size = sizeof(struct chatter) },
};
#define OPTS(name)                                                                                                                         \
    &(cue_system_opts)                                                                                                                     \
    {                                                                                                                                      \
        .pool = (name), .kinds = kinds, .nkinds = sizeof kinds / sizeof *kinds                                                             \
    }
static const char *const myself[] = { "/proc/self/exe", "actor", NULL };

int role_actor(int argc, char **argv)
{
    cue_system *sys;
    (void)argc, (void)argv;
    if (cue_system_start(OPTS("nobody"), &sys) != CUE_CHILD)
        return 1;
    return cue_system_wait(sys, CUE_FOREVER) & 0xff;
}

/* What a CUE_DOWN says, in a letter. */
static char letter(const cue_msg *m)
{
    const struct cue_down *down = m->data;
    if (m->type == CUE_EXIT)
        return 'x';
    if (m->type != CUE_DOWN)
        return '?';
    return down->reason == CUE_EKILLED ? 'k' : down->reason == CUE_EDEAD ? 'd' : down->reason ? 'f' : 'o';
}

int role_actor_watcher(int argc, char **argv)
{
    cue_system *sys;
    cue_ref who;
    cue_msg m;
    if (argc != 3 || cue_system_start(OPTS(argv[1]), &sys) || cue_adopt(sys, NULL, NULL))
        return 1;
    if (cue_whereis(sys, argv[2], CUE_SEC(20), &who) || cue_watch(who, NULL))
        return 2;
    role_say('w');
    if (cue_receive(&m, CUE_SEC(20)))
        return 3;
    role_say(letter(&m));
    cue_msg_release(&m);
    role_hear();
    int second = cue_receive(&m, CUE_NOW);
    return cue_system_stop(sys, CUE_SEC(30)) || second != CUE_EEMPTY ? 4 : 0;
}

int role_actor_boss(int argc, char **argv)
{
    cue_system *sys;
    if (argc != 3 || cue_system_start(OPTS(argv[1]), &sys) || cue_adopt(sys, NULL, NULL))
        return 1;
    if (cue_spawn(sys, &(cue_actor_spec){ .kind = "echo", .name = argv[2], .where = CUE_PROCESS, .argv = myself }, NULL))
        return 2;
    role_say('r');
    role_hear();
    return cue_system_stop(sys, CUE_SEC(30)) ? 3 : 0;
}

int role_actor_here(int argc, char **argv)
{
    cue_system *sys;
    if (argc != 3 || cue_system_start(OPTS(argv[1]), &sys))
        return 1;
    if (cue_spawn(sys, &(cue_actor_spec){ .name = argv[2], .run = echo }, NULL))
        return 2;
    role_say('r');
    role_hear();
    return 0; /* without a stop */
}

int role_actor_thread(int argc, char **argv)
{
    cue_system *sys;
    cue_msg m;
    if (argc != 3 || cue_system_start(OPTS(argv[1]), &sys) || cue_adopt(sys, argv[2], NULL))
        return 1;
    role_say('r');
    while (cue_receive(&m, CUE_FOREVER) == 0) {
        role_say((char)m.type);
        cue_msg_release(&m);
    }
    return 2;
}
