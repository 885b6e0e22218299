/* Adopted threads: a thread that is an actor until it says otherwise or ends. It is its own runner; its mailbox has no bell, it
 * sleeps on the mailbox itself. */
#include "runtime_internal.h"

#include <string.h>

static pthread_key_t thread_key;
static pthread_once_t thread_once = PTHREAD_ONCE_INIT;
static int thread_key_status;

/* An adopted thread ends without cue_exit. */
static void thread_ended(void *arg)
{
    (void)arg;
    struct actor *self = current_actor();
    if (self && !self->run && system_enter(&the_system) == 0)
        actor_end(&the_system, self, 0);
    current.actor = NULL;
}

static void thread_prepare(void)
{
    thread_key_status = pthread_key_create(&thread_key, thread_ended);
}

struct actor *current_actor(void)
{
    if (current.actor &&
        current.number != atomic_load_explicit(&the_system.number, relaxed)) /* who stops a system sees to it that nobody is in it */
        current.actor = NULL;                                                /* of a system that was stopped */
    return current.actor;
}

cue_ref cue_self(void)
{
    struct actor *self = current_actor();
    return self ? self->self : (cue_ref){ 0 };
}

int cue_adopt(cue_system *given, const char *name, cue_ref *out)
{
    struct cue_system *sys = given ? given : &the_system;
    int status = system_enter(sys);
    if (out)
        memset(out, 0, sizeof *out);
    if (status)
        return status;
    if (current.scheduler)
        return trail(CUE_ECONTEXT, "cue_adopt: this thread runs behaviours");
    if (current_actor())
        return trail(CUE_EBUSY, "cue_adopt: this thread is an actor already");
    if (name && (status = name_check(name)))
        return status;
    pthread_once(&thread_once, thread_prepare);
    cue_actor_spec spec = { .name = name };
    struct actor *self;
    status =
        thread_key_status ? trail(CUE_ELIMIT, "this process has no thread-specific key left") : actor_make(sys, &spec, true, out, &self);
    if (status)
        return status;
    current.actor = self;
    current.number = atomic_load_explicit(&sys->number, relaxed); /* it is running */
    pthread_setspecific(thread_key, self);                        /* so that thread_ended is called */
    return 0;
}

int thread_receive(struct cue_system *sys, struct actor *self, cue_msg *out, int64_t deadline)
{
    for (;;) {
        int reason = 0, got = actor_next(sys, self, out, &reason);
        if (got > 0)
            return 0;
        if (got < 0)
            return reason;
        if (deadline == 0)
            return CUE_EEMPTY;
        int status = lane_end_wait(&self->in, deadline);
        if (status)
            return status;
    }
}

int cue_receive(cue_msg *out, cue_time wait)
{
    struct cue_system *sys = &the_system;
    struct actor *self = current_actor();
    int status = system_enter(sys);
    if (out)
        memset(out, 0, sizeof *out);
    if (status)
        return status;
    if (!out)
        return trail(CUE_EINVAL, "cue_receive: nowhere to put the message");
    if (!self || self->run)
        return trail(CUE_ECONTEXT, self ? "cue_receive: a behaviour is given its messages"
                                        : "cue_receive: this thread is no actor; cue_adopt makes it one");
    return thread_receive(sys, self, out, deadline_of(wait));
}

int cue_exit(cue_ref who, int reason)
{
    struct cue_system *sys = &the_system;
    struct actor *self = current_actor();
    int status = system_enter(sys);
    if (status)
        return status;
    if (self && cue_ref_same(who, self->self)) {
        if (self->run) {
            self->ending = true;
            self->ending_reason = reason;
        } else {
            current.actor = NULL;
            actor_end(sys, self, reason);
        }
        return 0;
    }
    if (reason == CUE_EKILLED && child_kill(sys, who))
        return 0;
    struct cue_down down = { .who = cue_self(), .reason = reason, .pid = (int32_t)sys->pool->pid };
    return route_send(sys, who, &(cue_msg){ .type = CUE_EXIT, .data = &down, .size = sizeof down }, true);
}
