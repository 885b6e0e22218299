/* Watches: who ends is told of, once.
 *
 * A watch is an entry in the watching process's table and a RUNTIME_WATCH message to the one who is watched, who answers with
 * CUE_DOWN when it ends. Where that cannot be, somebody here answers in its place:
 *
 *   the message is refused (it has ended)     the watcher's thread, at once, with CUE_EDEAD
 *   its process dies                          the pool's watching thread, with CUE_EKILLED, to every entry of that process
 *
 * All answers come through the watcher's mailbox and carry the tag; the first one finds the entry and removes it, any other
 * one finds none and is dropped (watch_due). The entry is there before the question is sent, and before the look whether the
 * process lives; so there is an answer, and only one is heard.
 *
 * A peer is a process that this one talks to or watches: it has one watch of the pool's (pidfd), which ends with the first call.
 */
#include "runtime_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- the table, under system.lock ---- */

static void watch_remove(struct down_watch *watch)
{
    *watch->of_tag = watch->next_of_tag;
    if (watch->next_of_tag)
        watch->next_of_tag->of_tag = watch->of_tag;
    *watch->of_actor = watch->next_of_actor;
    if (watch->next_of_actor)
        watch->next_of_actor->of_actor = watch->of_actor;
    if (watch->of_peer) {
        *watch->of_peer = watch->next_of_peer;
        if (watch->next_of_peer)
            watch->next_of_peer->of_peer = watch->of_peer;
    }
    free(watch);
}

static void link_tag(struct cue_system *sys, struct down_watch *watch)
{
    watch->of_tag = &sys->watches[watch->tag % WATCH_BUCKETS];
    watch->next_of_tag = *watch->of_tag;
    if (watch->next_of_tag)
        watch->next_of_tag->of_tag = &watch->next_of_tag;
    *watch->of_tag = watch;
}

static void link_actor(struct actor *a, struct down_watch *watch)
{
    watch->of_actor = &a->watches;
    watch->next_of_actor = a->watches;
    if (watch->next_of_actor)
        watch->next_of_actor->of_actor = &watch->next_of_actor;
    a->watches = watch;
}

static void link_peer(struct peer *peer, struct down_watch *watch)
{
    watch->of_peer = &peer->watches;
    watch->next_of_peer = peer->watches;
    if (watch->next_of_peer)
        watch->next_of_peer->of_peer = &watch->next_of_peer;
    peer->watches = watch;
}

static struct down_watch *watch_find(struct cue_system *sys, uint64_t tag)
{
    struct down_watch *watch = sys->watches[tag % WATCH_BUCKETS];
    while (watch && watch->tag != tag)
        watch = watch->next_of_tag;
    return watch;
}

bool watch_due(struct cue_system *sys, struct actor *a, uint64_t tag)
{
    pthread_mutex_lock(&sys->lock);
    struct down_watch *watch = watch_find(sys, tag);
    bool due = watch && watch->by == a;
    if (due)
        watch_remove(watch);
    pthread_mutex_unlock(&sys->lock);
    return due;
}

/* The one who was watched need not answer any more: that saves it an entry. If this is lost, its answer finds none here. */
static void unwatch(struct cue_system *sys, const struct actor *self, cue_ref who, uint64_t tag)
{
    struct watch_request request = { self->self, tag };
    if (who.index | who.generation)
        (void)!route_send(sys, who, &(cue_msg){ .type = RUNTIME_UNWATCH, .data = &request, .size = sizeof request }, true);
}

/* The first watch of the actor, or the one with this tag, is no more. False: there is none. */
static bool watch_end_one(struct cue_system *sys, struct actor *a, uint64_t tag)
{
    pthread_mutex_lock(&sys->lock);
    struct down_watch *watch = tag ? watch_find(sys, tag) : a->watches;
    bool found = watch && watch->by == a;
    cue_ref who = found ? watch->who : (cue_ref){ 0 };
    uint64_t its = found ? watch->tag : 0;
    if (found)
        watch_remove(watch);
    pthread_mutex_unlock(&sys->lock);
    if (found)
        unwatch(sys, a, who, its);
    return found;
}

void watches_end(struct cue_system *sys, struct actor *a)
{
    while (a->watches && watch_end_one(sys, a, 0))
        ;
}

/* ---- processes ---- */

static bool party_is(struct cue_system *sys, uint32_t process, uint64_t *word)
{
    unsigned slot = (process & 0xff) - 1;
    if (slot >= sys->pool->max_parties)
        return false;
    *word = atomic_load_explicit(&sys->pool->parties[slot].word, acquire);
    return party_state(*word) == PARTY_LIVE && ref_process(slot, party_epoch(*word)) == process;
}

bool process_gone(struct cue_system *sys, uint32_t process)
{
    uint64_t word;
    return !party_is(sys, process, &word) || party_dead(sys->pool, (process & 0xff) - 1, party_epoch(word));
}

/* A death that was told: what each watch of that process is answered. */
struct answer {
    cue_ref to;
    uint64_t tag;
    struct cue_down down;
    struct answer *next;
};

static struct answer *answers_of(struct peer *peer, const struct cue_down *how)
{
    struct answer *list = NULL;
    for (struct down_watch *watch = peer->watches; watch; watch = watch->next_of_peer) {
        struct answer *answer = malloc(sizeof *answer);
        if (!answer)
            break;
        *answer = (struct answer){ .to = watch->by->self, .tag = watch->tag, .down = *how, .next = list };
        answer->down.who = watch->who;
        memcpy(answer->down.name, watch->name, sizeof answer->down.name);
        list = answer;
    }
    return list;
}

static void answers_send(struct cue_system *sys, struct answer *list)
{
    for (struct answer *next; list; list = next) {
        next = list->next;
        route_tell_down(sys, list->to, list->tag, &list->down);
        free(list);
    }
}

static void peer_unlink(struct cue_system *sys, struct peer *peer)
{
    for (struct peer **link = &sys->peers; *link; link = &(*link)->next)
        if (*link == peer) {
            *link = peer->next;
            return;
        }
}

static void peer_forget_watches(struct peer *peer)
{
    for (struct down_watch *watch = peer->watches, *next; watch; watch = next) {
        next = watch->next_of_peer; /* they wait for their answers to be taken */
        watch->of_peer = NULL;
    }
    peer->watches = NULL;
}

/* On the pool's watching thread. */
static void peer_died(void *arg, struct cue_pool *pool, unsigned slot, uint32_t epoch)
{
    struct cue_system *sys = &the_system;
    struct peer *peer = arg;
    uint64_t word = atomic_load_explicit(&pool->parties[slot].word, acquire);
    bool killed = party_state(word) == PARTY_LIVE && party_epoch(word) == epoch; /* or reaped by somebody who was faster */
    pthread_mutex_lock(&sys->lock);
    if (peer->ending) {
        pthread_mutex_unlock(&sys->lock);
        return;
    }
    int32_t signal = 0, code = 0;
    bool child = child_told(sys, peer->pid, &signal, &code);
    struct cue_down how = { .reason = CUE_EKILLED, .signal = signal, .pid = peer->pid };
    if (child ? signal == 0 && code == 0 : !killed && peer->watches && !peer->watches->who.index)
        how.reason = CUE_EDEAD;
    struct answer *answers = answers_of(peer, &how);
    peer_unlink(sys, peer);
    peer_forget_watches(peer);
    sys->telling++; /* peers_end() does not find it any more, but must not take the system down under it */
    pthread_mutex_unlock(&sys->lock);
    routes_drop(peer->process);
    answers_send(sys, answers);
    watch_end(peer->death);
    free(peer);
    pthread_mutex_lock(&sys->lock);
    sys->telling--;
    pthread_cond_broadcast(&sys->changed);
    pthread_mutex_unlock(&sys->lock);
}

int peer_find(struct cue_system *sys, uint32_t process, struct peer **out)
{
    uint64_t word;
    for (struct peer *peer = sys->peers; peer; peer = peer->next)
        if (peer->process == process) {
            *out = peer;
            return 0;
        }
    *out = NULL;
    if (process_gone(sys, process) || !party_is(sys, process, &word))
        return CUE_EDEAD;
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return trail(CUE_ENOMEM, "no process memory for another process");
    peer->process = process;
    peer->epoch = party_epoch(word);
    peer->pid = party_pid(word);
    int status = watch_party(sys->pool, (process & 0xff) - 1, peer->epoch, peer_died, peer, &peer->death);
    if (status) {
        free(peer);
        return status;
    }
    peer->next = sys->peers;
    sys->peers = peer;
    *out = peer;
    return 0;
}

void peers_end(struct cue_system *sys)
{
    pthread_mutex_lock(&sys->lock);
    struct peer *list = sys->peers;
    sys->peers = NULL;
    for (struct peer *peer = list; peer; peer = peer->next) {
        peer->ending = true;
        peer_forget_watches(peer);
    }
    pthread_mutex_unlock(&sys->lock);
    for (struct peer *next; list; list = next) {
        next = list->next;
        watch_end(list->death); /* waits for a call that is under way */
        free(list);
    }
    pthread_mutex_lock(&sys->lock);
    while (sys->telling)
        pthread_cond_wait(&sys->changed, &sys->lock);
    pthread_mutex_unlock(&sys->lock);
}

/* ---- public ---- */

/* Puts the entry into the table; *dead: the process is gone, the caller answers. */
static int watch_enter(struct cue_system *sys, struct actor *self, cue_ref who, uint64_t *tag, bool *dead)
{
    struct down_watch *watch = calloc(1, sizeof *watch);
    struct peer *peer = NULL;
    int status = 0;
    if (!watch)
        return trail(CUE_ENOMEM, "no process memory for a watch");
    route_name(sys, who, watch->name);
    pthread_mutex_lock(&sys->lock);
    if (who.process != sys->process)
        status = peer_find(sys, who.process, &peer);
    *dead = status == CUE_EDEAD;
    if (status && !*dead) {
        pthread_mutex_unlock(&sys->lock);
        free(watch);
        return status;
    }
    if (++sys->next_tag == 0)
        sys->next_tag = 1;
    watch->tag = *tag = sys->next_tag;
    watch->who = who;
    watch->by = self;
    link_tag(sys, watch);
    link_actor(self, watch);
    if (peer)
        link_peer(peer, watch);
    pthread_mutex_unlock(&sys->lock);
    return 0;
}

int watch_start(struct cue_system *sys, struct actor *self, cue_ref who, uint64_t *tag)
{
    bool dead = false;
    int status = watch_enter(sys, self, who, tag, &dead);
    if (status)
        return status;
    if (!dead && who.index | who.generation) {
        struct watch_request request = { self->self, *tag };
        status = route_send(sys, who, &(cue_msg){ .type = RUNTIME_WATCH, .data = &request, .size = sizeof request }, true);
        dead = status == CUE_EDEAD;
        if (status && !dead) {
            watch_due(sys, self, *tag);
            return status;
        }
    }
    if (dead) {
        struct cue_down down = { .who = who, .reason = CUE_EDEAD };
        route_tell_down(sys, self->self, *tag, &down);
    }
    return 0;
}

int cue_watch(cue_ref who, uint64_t *tag)
{
    struct cue_system *sys = &the_system;
    struct actor *self = current_actor();
    uint64_t mine = 0;
    int status = system_enter(sys);
    if (status)
        return status;
    if (!self)
        return trail(CUE_ECONTEXT, "cue_watch: this thread is no actor; cue_adopt makes it one");
    if (who.node)
        return trail(CUE_EREMOTE, "node %u is another machine", who.node);
    if (!ref_nobody(who) && ref_slot(who) >= sys->pool->header->max_parties)
        return trail(CUE_EINVAL, "cue_watch: not an address");
    status = watch_start(sys, self, who, &mine);
    if (!status && tag)
        *tag = mine;
    return status;
}

int cue_cancel(uint64_t tag)
{
    struct cue_system *sys = &the_system;
    struct actor *self = current_actor();
    int status = system_enter(sys);
    if (status)
        return status;
    if (!self)
        return trail(CUE_ECONTEXT, "cue_cancel: this thread is no actor");
    return tag && watch_end_one(sys, self, tag) ? 0 : CUE_ENOENT;
}
