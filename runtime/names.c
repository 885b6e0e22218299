/* Names: who is meant by one.
 *
 * An actor's first name is that of its mailbox: it comes and goes with it. A further one (cue_register) is a small block of this
 * process, found under the name, that holds the address; it goes with the process, or with the actor if that is one of ours.
 */
#include "runtime_internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In shared memory: a block of type POOL_TYPE_ALIAS. */
enum { POOL_TYPE_ALIAS = 0x7fff1004, ALIAS_MAGIC = 0x73616c61 };
enum { FREE_TRIES = 2000, GONE_TRIES = 250 }; /* a millisecond each: for the name of somebody dead; one that is just given or taken back */

struct alias_layout {
    uint32_t magic, spare;
    cue_ref who;
};
static_assert(sizeof(struct alias_layout) == 24, "layout");

static void alias_release(struct alias *alias)
{
    cue_block_release(&alias->block);
    free(alias);
}

void names_forget(struct cue_system *sys, cue_ref who)
{
    for (struct alias **link = &sys->aliases, *alias; (alias = *link);)
        if (ref_nobody(who) || cue_ref_same(alias->who, who)) {
            *link = alias->next;
            alias_release(alias);
        } else {
            link = &alias->next;
        }
}

static int take_back(struct cue_system *sys, const char *name)
{
    int status = CUE_ENOENT;
    pthread_mutex_lock(&sys->lock);
    for (struct alias **link = &sys->aliases, *alias; (alias = *link); link = &alias->next)
        if (strcmp(alias->name, name) == 0) {
            *link = alias->next;
            alias_release(alias);
            status = 0;
            break;
        }
    pthread_mutex_unlock(&sys->lock);
    return status;
}

/* How often to try for a name that is taken: not at all if its holder lives; patiently if its process was killed, and is or will
 * be cleaned up after. */
static unsigned tries_for(struct cue_system *sys, const char *name)
{
    cue_block view;
    struct block_ref ref;
    bool died = false;
    if (cue_block_find(sys->pool, (cue_key){ .name = name }, CUE_NOW, &view))
        return GONE_TRIES;
    if (handle_open(&view, &ref) == 0) {
        const struct mailbox *box = mailbox_box(sys->pool, ref.rec, ref.index);
        uint64_t state = atomic_load_explicit(&ref.rec->state, acquire);
        if (box && box->lane.mortal)
            died = actor_lane_over(sys->pool, box);
        else if (rec_party(state))
            died = rec_party(state) != sys->pool->self + 1 && party_dead(sys->pool, rec_party(state) - 1, UINT32_MAX);
    }
    cue_block_release(&view);
    return died ? FREE_TRIES : 0;
}

bool name_comes_free(struct cue_system *sys, const char *name, unsigned tries)
{
    if (pool_reap(sys->pool))
        return true;
    struct timespec moment = { .tv_nsec = 1000000 }; /* somebody else is cleaning up, or has just done so */
    if (tries >= tries_for(sys, name))
        return false;
    nanosleep(&moment, NULL);
    return true;
}

/* The block under its name, seen by everybody. */
static int alias_publish(struct cue_system *sys, const char *name, cue_ref who, struct alias *alias)
{
    cue_block_opts opts = { .name = name };
    struct alias_layout layout = { .magic = ALIAS_MAGIC, .who = who };
    struct block_ref ref;
    int status;
    unsigned tries = 0;
    do
        status = cue_block_alloc(sys->pool, sizeof layout, &opts, &alias->block);
    while (status == CUE_EEXIST && name_comes_free(sys, name, tries++));
    if (status)
        return status;
    memcpy(alias->block.data, &layout, sizeof layout);
    status = handle_open(&alias->block, &ref);
    if (!status) {
        atomic_store_explicit(&ref.rec->type, POOL_TYPE_ALIAS, relaxed); /* ours; made readable by the publish */
        status = cue_block_publish(&alias->block, CUE_MINE);             /* !! */
    }
    if (status)
        cue_block_release(&alias->block);
    return status;
}

int cue_register(const char *name, cue_ref who)
{
    struct cue_system *sys = &the_system;
    int status = system_enter(sys);
    if (status)
        return status;
    if ((status = name_check(name)))
        return status;
    if (ref_nobody(who))
        return take_back(sys, name);
    struct alias *alias = calloc(1, sizeof *alias);
    if (!alias)
        return trail(CUE_ENOMEM, "no process memory for a name");
    snprintf(alias->name, sizeof alias->name, "%s", name);
    alias->who = who;
    status = alias_publish(sys, name, who, alias);
    if (status) {
        free(alias);
        return status;
    }
    pthread_mutex_lock(&sys->lock);
    alias->next = sys->aliases;
    sys->aliases = alias;
    pthread_mutex_unlock(&sys->lock);
    return 0;
}

/* ---- looking up ---- */

/* The address that a named block stands for. CUE_ETYPE; CUE_EDEAD: nobody is behind it any more. */
static int meaning(struct cue_system *sys, const char *name, const cue_block *view, cue_ref *out)
{
    struct block_ref ref;
    int status = handle_open(view, &ref);
    if (status)
        return status;
    uint32_t type = atomic_load_explicit(&ref.rec->type, relaxed); /* leased */
    const struct mailbox *box = mailbox_box(sys->pool, ref.rec, ref.index);
    if (box && box->lane.mortal) {
        uint64_t receiver = atomic_load_explicit(&box->lane.receiver, acquire);
        if (actor_lane_over(sys->pool, box)) /* else `receiver` was that of the actor: who sweeps up comes after its death */
            return CUE_EDEAD;
        *out = (cue_ref){ 0, ref_process(receiver_party(receiver) - 1, receiver_epoch(receiver)), ref.index, (uint32_t)ref.generation };
    } else if (type == POOL_TYPE_ALIAS && view->size >= sizeof(struct alias_layout)) {
        struct alias_layout layout;
        memcpy(&layout, view->data, sizeof layout);
        if (layout.magic != ALIAS_MAGIC)
            return trail(CUE_ECORRUPT, "the name \"%s\" makes no sense", name);
        *out = layout.who;
    } else {
        return trail(CUE_ETYPE, "\"%s\" in pool %s is a %s, not an actor", name, sys->pool->name,
                     type == POOL_TYPE_LANE ? "lane" : "block");
    }
    return out->process != sys->process && process_gone(sys, out->process) ? CUE_EDEAD : 0;
}

static int look_once(struct cue_system *sys, const char *name, cue_time nap, cue_ref *out)
{
    cue_block view;
    int status = cue_block_find(sys->pool, (cue_key){ .name = name }, nap, &view);
    if (status)
        return status;
    status = meaning(sys, name, &view, out);
    cue_block_release(&view);
    if (status == CUE_EDEAD) {
        pool_reap(sys->pool); /* frees the name */
        memset(out, 0, sizeof *out);
    }
    return status;
}

int cue_whereis(cue_system *given, const char *name, cue_time wait, cue_ref *out)
{
    struct cue_system *sys = given ? given : &the_system;
    int status = system_enter(sys);
    if (out)
        memset(out, 0, sizeof *out);
    if (status)
        return status;
    if (!out)
        return trail(CUE_EINVAL, "cue_whereis: nowhere to put the address");
    if (wait.ns > 0 && current.scheduler)
        return trail(CUE_ECONTEXT, "cue_whereis(\"%s\"): a behaviour may not wait", name ? name : "");
    int64_t deadline = deadline_of(wait);
    for (bool again = false;; again = true) {
        int64_t nap = deadline_nap(deadline);
        if (again && nap <= 0)
            return CUE_ENOENT;
        status = look_once(sys, name, CUE_NS(nap), out);
        if (status == CUE_EDEAD && deadline != 0) {
            struct timespec moment = { .tv_nsec = 1000000 }; /* its process is being swept up after */
            nanosleep(&moment, NULL);
        }
        if (status != CUE_ENOENT && status != CUE_EDEAD)
            return status;
    }
}

int cue_ref_text(cue_ref ref, char *buf, size_t cap)
{
    return snprintf(buf, cap, "%u/%u/%x.%u", ref.node, ref.process, ref.index, ref.generation);
}
