/* Routes: how a message gets to an address.
 *
 * A cue_ref names a mailbox's record by index and generation. To touch the mailbox one must hold a lease on it, so each process
 * keeps those that it sends to open, ROUTE_SETS * ROUTE_WAYS at most, the least recently opened of a set making room; a lane that
 * is CLOSED, and all those of a process that has died, are let go at once. Under route_lock, which no wait happens under.
 *
 * The scheduler's own actors need none of that: their mailboxes are freed by the very thread that sends. A small table says
 * which actor an address is (`near`), and an actor that dozes is put in line without a bell.
 */
#include "runtime_internal.h"

#include <stdlib.h>
#include <string.h>

enum { NEAR = 1024 };

struct route {
    cue_ref to; /* all zero: unused */
    struct lane_address address;
};

static pthread_mutex_t route_lock = PTHREAD_MUTEX_INITIALIZER;
static struct route routes[ROUTE_SETS][ROUTE_WAYS];
static unsigned char oldest[ROUTE_SETS];

/* The scheduler's thread only. */
static struct near {
    cue_ref to;
    struct actor *actor;
} near[NEAR];

static inline unsigned mix(cue_ref to)
{
    uint32_t h = (to.index ^ to.generation * UINT32_C(0x9e3779b1)) * UINT32_C(0x85ebca6b);
    return h >> 12;
}

/* ---- actors of this process, from the scheduler's thread ---- */

static struct actor *near_find_slowly(struct cue_system *sys, cue_ref to)
{
    struct record *rec = pool_record(sys->pool, to.index);
    uint64_t state = rec ? atomic_load_explicit(&rec->state, acquire) : 0;
    if (rec_state(state) != REC_KEPT || (uint32_t)rec_generation(state) != to.generation)
        return NULL;
    struct mailbox *box = mailbox_box(sys->pool, rec, to.index); /* if it is ours it stays: we free it on this thread */
    struct actor *a = box && box->lane.bell_bit < sys->bits ? atomic_load_explicit(&sys->actors[box->lane.bell_bit], acquire)
                                                            : NULL; /* pairs with: actor_known */
    return a && cue_ref_same(a->self, to) ? a : NULL;
}

static struct actor *near_find(struct cue_system *sys, cue_ref to)
{
    struct near *entry = &near[mix(to) % NEAR];
    if (__builtin_expect(cue_ref_same(entry->to, to), 1))
        return entry->actor;
    struct actor *a = near_find_slowly(sys, to);
    if (a)
        *entry = (struct near){ to, a };
    return a;
}

/* ---- all others ---- */

static void route_close(struct route *route)
{
    if (ref_nobody(route->to))
        return;
    lane_address_close(&route->address);
    memset(route, 0, sizeof *route);
}

static struct route *route_find(cue_ref to)
{
    struct route *set = routes[mix(to) % ROUTE_SETS];
    for (unsigned way = 0; way < ROUTE_WAYS; way++)
        if (cue_ref_same(set[way].to, to))
            return &set[way];
    return NULL;
}

static int route_open(struct cue_system *sys, cue_ref to, struct route **out)
{
    unsigned set = mix(to) % ROUTE_SETS;
    struct lane_address address;
    int status = lane_address_open(sys->pool, to.index, to.generation, &address);
    if (status)
        return status;
    struct route *route = &routes[set][oldest[set]++ % ROUTE_WAYS];
    for (unsigned way = 0; way < ROUTE_WAYS; way++)
        if (ref_nobody(routes[set][way].to))
            route = &routes[set][way];
    route_close(route);
    *route = (struct route){ to, address };
    *out = route;
    return 0;
}

static int nobody_there(cue_ref to)
{
    char text[64];
    cue_ref_text(to, text, sizeof text);
    return trail(CUE_EDEAD, "actor %s has ended", text);
}

static int far_send(struct cue_system *sys, cue_ref to, const cue_msg *m, bool system)
{
    pthread_mutex_lock(&route_lock);
    struct route *route = route_find(to);
    int status = 0;
    if (__builtin_expect(!route, 0)) {
        pthread_mutex_unlock(&route_lock);
        if (to.process != sys->process) { /* its death shall be told before anything is sent there */
            struct peer *peer;
            pthread_mutex_lock(&sys->lock);
            status = peer_find(sys, to.process, &peer);
            pthread_mutex_unlock(&sys->lock);
            if (status)
                return status == CUE_EDEAD ? nobody_there(to) : status;
        }
        pthread_mutex_lock(&route_lock);
        route = route_find(to);
        status = route ? 0 : route_open(sys, to, &route);
    }
    if (!status) {
        status = lane_address_push(&route->address, m, system);
        if (__builtin_expect(status == CUE_EDEAD, 0))
            route_close(route);
    }
    pthread_mutex_unlock(&route_lock);
    return status == CUE_EDEAD ? nobody_there(to) : status;
}

int route_send(struct cue_system *sys, cue_ref to, const cue_msg *m, bool system)
{
    if (__builtin_expect(to.process == sys->process && current.scheduler, 1)) {
        struct actor *a = near_find(sys, to);
        if (__builtin_expect(a != NULL, 1)) {
            bool slept = false;
            int status = lane_end_push(&a->in, m, system, &slept);
            if (slept)
                scheduler_queue(sys, a);
            return status;
        }
    }
    if (to.node)
        return trail(CUE_EREMOTE, "node %u is another machine", to.node);
    if (ref_slot(to) >= sys->pool->max_parties || !(to.index | to.generation))
        return ref_nobody(to) ? trail(CUE_EDEAD, "a message to nobody: the address is all zero")
                              : trail(CUE_EINVAL, "not an actor's address");
    return far_send(sys, to, m, system);
}

int cue_tell(cue_ref to, const cue_msg *m)
{
    struct cue_system *sys = &the_system;
    int status = system_enter(sys);
    if (status)
        return status;
    if (!m)
        return trail(CUE_EINVAL, "no message given");
    struct actor *self = current_actor();
    if (!self || cue_ref_same(m->from, self->self))
        return route_send(sys, to, m, false);
    cue_msg signed_by_us = *m;
    signed_by_us.from = self->self;
    return route_send(sys, to, &signed_by_us, false);
}

void route_forget(struct cue_system *sys, cue_ref to)
{
    (void)sys;
    struct near *entry = &near[mix(to) % NEAR];
    if (current.scheduler && cue_ref_same(entry->to, to))
        *entry = (struct near){ 0 };
    pthread_mutex_lock(&route_lock);
    struct route *route = route_find(to);
    if (route)
        route_close(route);
    pthread_mutex_unlock(&route_lock);
}

void routes_drop(uint32_t process)
{
    pthread_mutex_lock(&route_lock);
    for (unsigned set = 0; set < ROUTE_SETS; set++)
        for (unsigned way = 0; way < ROUTE_WAYS; way++)
            if (!process || routes[set][way].to.process == process)
                route_close(&routes[set][way]);
    pthread_mutex_unlock(&route_lock);
    if (!process)
        memset(near, 0, sizeof near); /* the scheduler has stopped */
}

void routes_forget(void)
{
    pthread_mutex_init(&route_lock, NULL); /* a thread that is not here may have held it */
    memset(routes, 0, sizeof routes);
    memset(near, 0, sizeof near);
}

void route_name(struct cue_system *sys, cue_ref to, char name[POOL_NAME_BYTES])
{
    cue_block view;
    cue_block_info info;
    name[0] = 0;
    if (pool_attach(sys->pool, to.index, to.generation, 32, &view))
        return;
    if (cue_block_stat(&view, &info) == 0)
        memcpy(name, info.name, POOL_NAME_BYTES);
    cue_block_release(&view);
}

/* ---- what must arrive ---- */

static int down_send(struct cue_system *sys, cue_ref to, uint64_t tag, const struct cue_down *down)
{
    cue_msg m = { .type = CUE_DOWN, .tag = tag, .data = down, .size = sizeof *down };
    return route_send(sys, to, &m, true);
}

void route_tell_down(struct cue_system *sys, cue_ref to, uint64_t tag, const struct cue_down *down)
{
    if (down_send(sys, to, tag, down) != CUE_ENOMEM)
        return; /* told, or gone */
    struct unsent *later = malloc(sizeof *later);
    if (!later)
        return;
    *later = (struct unsent){ .to = to, .tag = tag, .down = *down };
    pthread_mutex_lock(&sys->lock);
    later->next = sys->unsent;
    sys->unsent = later;
    atomic_store_explicit(&sys->have_unsent, true, relaxed); /* a hint */
    pthread_mutex_unlock(&sys->lock);
}

void route_retry(struct cue_system *sys)
{
    pthread_mutex_lock(&sys->lock);
    struct unsent *list = sys->unsent, *next;
    sys->unsent = NULL;
    atomic_store_explicit(&sys->have_unsent, false, relaxed); /* set again by who finds no room again */
    pthread_mutex_unlock(&sys->lock);
    for (; list; list = next) {
        next = list->next;
        route_tell_down(sys, list->to, list->tag, &list->down);
        free(list);
    }
}
