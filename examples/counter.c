/* `counter`: an actor in a process of its own adds up what it is told. It is asked, killed, heard of, and started again. */
#include <cuelight.h>
#include <stdio.h>

enum { ADD = 1 };

static int add(void *state, cue_msg *m)
{
    long *total = state;
    if (m->type != ADD || m->size != sizeof(long))
        return CUE_ETYPE; /* it fails: who watches it hears why */
    *total += *(const long *)m->data;
    return cue_reply(m, CUE_MSG(ADD, *total));
}

static const cue_actor_spec kinds[] = { { .kind = "counter", .run = add, .state_size = sizeof(long) } };

int main(void)
{
    cue_system *sys;
    cue_ref counter;
    cue_msg m;
    if (CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = "counter", .kinds = kinds, .nkinds = 1 }, &sys)) == CUE_CHILD)
        return cue_system_wait(sys, CUE_FOREVER); /* this process was started for the counter */
    CUE_MUST(cue_adopt(sys, NULL, NULL));         /* this thread watches and receives */
    for (int life = 1; life <= 2; life++) {
        CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .kind = "counter", .name = "counter", .where = CUE_PROCESS }, &counter));
        CUE_MUST(cue_watch(counter, NULL));
        for (long n = 1; n <= 3; n++) {
            CUE_MUST(cue_call(counter, CUE_MSG(ADD, n), CUE_SEC(5), &m));
            printf("life %d: added %ld, the total is %ld\n", life, n, *(const long *)m.data);
            cue_msg_release(&m);
        }
        CUE_MUST(cue_exit(counter, life == 1 ? CUE_EKILLED : 0)); /* first by SIGKILL, then in order */
        CUE_MUST(cue_receive(&m, CUE_SEC(5)));
        const struct cue_down *down = m.data;
        printf("%s ended: %s, signal %d\n", down->name, cue_status_name(down->reason), (int)down->signal);
        cue_msg_release(&m);
    }
    return cue_system_stop(sys, CUE_SEC(5));
}
