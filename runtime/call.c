/* Requests and answers.
 *
 * A call has a mailbox of its own, that of an anonymous actor that lives as long as the call: whatever comes there is the answer,
 * or the end of the one who was asked. So a late answer finds nobody, and the caller's own mailbox is left alone.
 */
#include "runtime_internal.h"

#include "channels/ask.h"

#include <string.h>

/* The part of cue_reply that concerns actors, see channels/ask.h. */
static int reply(const cue_msg *request, const cue_msg *answer)
{
    if (!atomic_load_explicit(&the_system.up, acquire))
        return 1;
    cue_msg m = *answer;
    m.tag = request->tag;
    int status = cue_tell(request->from, &m);
    if (status == CUE_EDEAD) {
        atomic_fetch_add_explicit(&the_system.dead_letters, 1, relaxed); /* a count for people */
        if (m.move)
            cue_block_release(m.move);
        return 0;
    }
    return status;
}

__attribute__((constructor)) static void register_reply(void)
{
    ask_reply_to_actor = reply;
}

/* What it means to the caller that the one who was asked has ended. */
static int end_means(const cue_msg *m)
{
    const struct cue_down *down = m->data;
    bool failed = down->reason < 0 && down->reason != CUE_EDEAD && down->reason != CUE_EKILLED;
    return failed ? trail(CUE_EFAILED, "it failed with %d (%s) before it answered", down->reason, cue_status_name(down->reason))
                  : trail(CUE_EDEAD, "it ended before it answered");
}

static int exchange(struct cue_system *sys, struct actor *caller, cue_ref to, const cue_msg *m, int64_t deadline, cue_msg *answer)
{
    uint64_t tag;
    cue_msg request = *m;
    request.from = caller->self;
    int status = watch_start(sys, caller, to, &tag);
    if (!status)
        status = route_send(sys, to, &request, false);
    if (!status)
        status = thread_receive(sys, caller, answer, deadline);
    if (status)
        return status == CUE_EEMPTY ? CUE_ETIMEDOUT : status;
    if (answer->type < CUE_TYPE_SYSTEM)
        return answer->status < 0 ? answer->status : 0;
    status = end_means(answer);
    cue_msg_release(answer);
    return status;
}

int cue_call(cue_ref to, const cue_msg *m, cue_time wait, cue_msg *answer)
{
    struct cue_system *sys = &the_system;
    struct actor *caller;
    int status = system_enter(sys);
    if (answer)
        memset(answer, 0, sizeof *answer);
    if (status)
        return status;
    if (!m || !answer)
        return trail(CUE_EINVAL, "cue_call: no %s given", m ? "place for the answer" : "message");
    if (current.scheduler || (current_actor() && current_actor()->running))
        return trail(CUE_ECONTEXT, "cue_call: a behaviour may not wait");
    int64_t deadline = deadline_of(wait);
    status = actor_make(sys, &(cue_actor_spec){ .depth = 4 }, true, NULL, &caller);
    if (status)
        return status;
    status = exchange(sys, caller, to, m, deadline, answer);
    actor_end(sys, caller, 0);
    return status;
}
