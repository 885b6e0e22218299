/* Actors: how one begins, what it takes from its mailbox, how it ends.
 *
 *   make   a slot and a mailbox of its own, which nobody can know yet; init() on the caller's thread; then the mailbox is
 *          published !!, for everybody who looks for its name; then the table of actors, for the scheduler
 *   next   the library's messages are dealt with here; the rest goes to the behaviour or to cue_receive
 *   end    CLOSED !!; what was pushed before is drained: a watch is noted, the rest are dead letters; the block, and with it the
 *          name, is freed; the watchers are told
 *
 * So by the time that a watcher hears, no message to the actor succeeds and its name can be used again. A watch that comes after
 * CLOSED is refused, and its sender answers itself. Each watch is answered; that nobody hears twice is up to watch.c.
 */
#include "runtime_internal.h"

#include "channels/ask.h"

#include <stdlib.h>
#include <string.h>

enum { ADOPTED_LINKS = 256 };
struct adopted { /* an adopted thread has no state; what lane_end_use needs is there */
    struct near_slabs near_slabs;
    struct link links[ADOPTED_LINKS];
};

/* ---- slots ---- */

static int slot_take(struct cue_system *sys, uint32_t *slot)
{
    if (sys->nfree)
        *slot = sys->free_slots[--sys->nfree];
    else if (sys->used_slots < sys->bits)
        *slot = sys->used_slots++;
    else
        return trail(CUE_ELIMIT, "this process has all of its %u actors (cue_system_opts.actors)", sys->bits);
    return 0;
}

static void slot_give(struct cue_system *sys, uint32_t slot)
{
    if (slot != UINT32_MAX)
        sys->free_slots[sys->nfree++] = slot;
}

/* ---- beginning ---- */

static struct actor *actor_new(const cue_actor_spec *spec, bool adopted)
{
    const char *name = spec->name ? spec->name : "";
    size_t size = adopted ? sizeof(struct adopted) : spec->state_size;
    size_t state = (size + 15) & ~(size_t)15, length = strlen(name) + 1;
    if (spec->state_size > SIZE_MAX / 2)
        return NULL;
    struct actor *a = NULL;
    if (posix_memalign((void **)&a, 64, (sizeof *a + state + length + 63) & ~(size_t)63))
        return NULL;
    memset(a, 0, sizeof *a + state);
    a->run = adopted ? NULL : spec->run;
    a->done = spec->done;
    a->slot = UINT32_MAX;
    a->name = memcpy(a->state + state, name, length);
    return a;
}

static void actor_list(struct cue_system *sys, struct actor *a)
{
    a->older = sys->youngest;
    if (a->older)
        a->older->younger = a;
    sys->youngest = a;
    sys->nactors++;
    sys->nadopted += !a->run;
}

static void actor_unlist(struct cue_system *sys, struct actor *a)
{
    if (a->younger)
        a->younger->older = a->older;
    else
        sys->youngest = a->older;
    if (a->older)
        a->older->younger = a->younger;
    sys->nactors--;
    sys->nadopted -= !a->run;
}

static int actor_mailbox(struct cue_system *sys, struct actor *a, uint32_t depth)
{
    const char *name = a->name[0] ? a->name : NULL;
    const cue_block *bell = a->run ? &sys->bell_block : NULL;
    int status;
    unsigned tries = 0;
    do
        status = lane_end_make(sys->pool, name, depth, bell, a->slot, &a->in);
    while (status == CUE_EEXIST && name_comes_free(sys, name, tries++));
    if (!status && !a->run) {
        struct adopted *notes = (struct adopted *)(void *)a->state;
        lane_end_use(&a->in, notes->links, ADOPTED_LINKS, &notes->near_slabs);
    }
    if (!status)
        a->self = (cue_ref){ 0, sys->process, a->in.ch.lane.index, (uint32_t)a->in.ch.lane.generation };
    return status;
}

static int actor_init(struct actor *a, const cue_actor_spec *spec)
{
    struct current outer = current;
    current.actor = a;
    current.number = atomic_load_explicit(&the_system.number, relaxed); /* a system is running */
    a->running = true;
    int status = spec->init ? spec->init(a->state, spec->arg, spec->arg_size) : 0;
    a->running = false;
    current = outer;
    return status < 0 ? trail(status, "init of actor \"%s\" failed", a->name) : 0;
}

/* The scheduler may run it. A message may have come as soon as it was published, and its ring been dropped because nobody was
 * there: we look at the mailbox after the table, the scheduler at the table after the bell, which is after the mailbox. */
static void actor_known(struct cue_system *sys, struct actor *a)
{
    atomic_store_explicit(&sys->actors[a->slot], a, seq_cst); /* pairs with: rung */
    if (lane_end_waiting(&a->in))
        bell_ring(sys->bell, bell_bytes(sys->bits), a->slot);
}

int actor_make(struct cue_system *sys, const cue_actor_spec *spec, bool adopted, cue_ref *ref, struct actor **out)
{
    struct actor *a = actor_new(spec, adopted);
    if (!a)
        return trail(CUE_ENOMEM, "no process memory for an actor with %zu bytes of state", spec->state_size);
    pthread_mutex_lock(&sys->lock);
    int status = atomic_load_explicit(&sys->stopping, relaxed) ? trail(CUE_ECLOSED, "the system is being stopped") : 0; /* under the lock */
    if (!status && a->run)
        status = slot_take(sys, &a->slot);
    pthread_mutex_unlock(&sys->lock);
    if (!status)
        status = actor_mailbox(sys, a, spec->depth);
    bool boxed = !status;
    if (!status)
        status = actor_init(a, spec);
    pthread_mutex_lock(&sys->lock);
    if (!status && atomic_load_explicit(&sys->stopping, relaxed)) /* under the lock */
        status = trail(CUE_ECLOSED, "the system is being stopped");
    if (!status) {
        if (ref)
            *ref = a->self;
        if (out)
            *out = a;
        actor_list(sys, a);
        status = lane_end_publish(&a->in); /* !! */
        if (status)
            actor_unlist(sys, a);
        else if (a->run)
            actor_known(sys, a);
    }
    if (status)
        slot_give(sys, a->slot);
    pthread_mutex_unlock(&sys->lock);
    if (status) {
        if (boxed) {
            lane_end_close(&a->in);
            lane_end_free(&a->in);
        }
        free(a);
        if (ref)
            memset(ref, 0, sizeof *ref);
        return status;
    }
    atomic_fetch_add_explicit(&sys->spawned, 1, relaxed); /* a count for people */
    return 0;
}

/* ---- the library's messages ---- */

/* Those in processes that were killed have not taken theirs back. */
static void watchers_prune(struct cue_system *sys, struct actor *a)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < a->nwatchers; i++)
        if (a->watchers[i].by.process == sys->process || !process_gone(sys, a->watchers[i].by.process))
            a->watchers[left++] = a->watchers[i];
    a->nwatchers = left;
}

static void watcher_add(struct cue_system *sys, struct actor *a, const struct watch_request *request)
{
    if (a->nwatchers == a->watchers_room)
        watchers_prune(sys, a);
    if (a->nwatchers == a->watchers_room) {
        uint32_t room = a->watchers_room ? 2 * a->watchers_room : 2;
        struct watcher *more = realloc(a->watchers, room * sizeof *more);
        if (!more) { /* better told too early than never: the watcher may watch again */
            struct cue_down down = { .who = a->self, .reason = CUE_ENOMEM, .pid = (int32_t)sys->pool->pid };
            route_tell_down(sys, request->by, request->tag, &down);
            return;
        }
        a->watchers = more;
        a->watchers_room = room;
    }
    a->watchers[a->nwatchers++] = (struct watcher){ request->by, request->tag };
}

static void watcher_remove(struct actor *a, const struct watch_request *request)
{
    for (uint32_t i = 0; i < a->nwatchers; i++)
        if (a->watchers[i].tag == request->tag && cue_ref_same(a->watchers[i].by, request->by)) {
            a->watchers[i] = a->watchers[--a->nwatchers];
            return;
        }
}

static bool watch_request_of(const cue_msg *m, struct watch_request *out)
{
    if (m->size != sizeof *out)
        return false; /* from nobody who speaks as we do */
    memcpy(out, m->data, sizeof *out);
    return true;
}

int actor_next(struct cue_system *sys, struct actor *a, cue_msg *m, int *reason)
{
    for (;;) {
        int got = lane_end_take(&a->in, m);
        if (got <= 0) {
            *reason = got;
            return got;
        }
        if (__builtin_expect(m->type < CUE_TYPE_SYSTEM, 1))
            return 1;
        struct watch_request request;
        const struct cue_down *down = m->data;
        if (m->type == RUNTIME_WATCH && watch_request_of(m, &request))
            watcher_add(sys, a, &request);
        else if (m->type == RUNTIME_UNWATCH && watch_request_of(m, &request))
            watcher_remove(a, &request);
        else if (m->type == CUE_DOWN && m->size == sizeof *down && watch_due(sys, a, m->tag))
            return 1;
        else if (m->type == CUE_EXIT && m->size == sizeof *down) {
            if (!a->run)
                return 1;
            *reason = down->reason;
            cue_msg_release(m);
            return -1;
        }
        cue_msg_release(m);
    }
}

/* ---- ending ---- */

/* CLOSED, and empty. */
static void drain(struct cue_system *sys, struct actor *a)
{
    cue_msg m;
    struct watch_request request;
    lane_end_close(&a->in); /* !! */
    while (lane_end_take(&a->in, &m) > 0) {
        if (m.type == RUNTIME_WATCH && watch_request_of(&m, &request))
            watcher_add(sys, a, &request);
        else if (m.type == RUNTIME_UNWATCH && watch_request_of(&m, &request))
            watcher_remove(a, &request);
        else if (m.type < CUE_TYPE_SYSTEM)
            atomic_fetch_add_explicit(&sys->dead_letters, 1, relaxed); /* a count for people */
        ask_refuse(sys->pool, &m, CUE_EDEAD);
        cue_msg_release(&m);
    }
}

void actor_end(struct cue_system *sys, struct actor *a, int reason)
{
    struct cue_down down = { .who = a->self, .reason = reason, .pid = (int32_t)sys->pool->pid };
    strncpy(down.name, a->name, sizeof down.name - 1);
    if (a->done) {
        a->running = true;
        a->done(a->state, reason);
        a->running = false;
    }
    drain(sys, a);
    watches_end(sys, a);
    route_forget(sys, a->self);
    lane_end_free(&a->in);
    pthread_mutex_lock(&sys->lock);
    names_forget(sys, a->self);
    if (a->run) {
        atomic_store_explicit(&sys->actors[a->slot], NULL, release); /* read by this thread only */
        sys->last_reason = reason;
    }
    slot_give(sys, a->slot);
    actor_unlist(sys, a);
    pthread_mutex_unlock(&sys->lock);
    for (uint32_t i = 0; i < a->nwatchers; i++)
        route_tell_down(sys, a->watchers[i].by, a->watchers[i].tag, &down);
    free(a->watchers);
    free(a);
    pthread_cond_broadcast(&sys->changed);
}
