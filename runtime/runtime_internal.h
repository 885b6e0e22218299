/* Inside the runtime: the system of this process, its actors, and what the files of this layer tell each other.
 *
 * WHO TOUCHES WHAT. An actor has one runner: the scheduler's thread, or for an adopted thread that thread. Only the runner takes
 * from the mailbox, calls the behaviour and ends the actor. Everybody else, also in this process, reaches an actor through its
 * mailbox only, as other processes do: watching, ending and telling of a death are messages. So actors need no locks.
 *
 *   system.lock   the table of actors, the list of all, watches, children, peers, names. Never held while a behaviour runs,
 *                 while anything waits, or while watch_end() waits
 *   route_lock    the addresses of others that this process has open (route.c). May be taken with system.lock held, not the
 *                 other way round
 */
#ifndef RUNTIME_INTERNAL_H
#define RUNTIME_INTERNAL_H

#include "base/clock.h"
#include "base/trail.h"
#include "channels/bell.h"
#include "channels/actor_lane.h"
#include "pool/pool_internal.h"

#include <cuelight/actor.h>
#include <pthread.h>
#include <signal.h>

#define relaxed memory_order_relaxed
#define acquire memory_order_acquire
#define release memory_order_release
#define seq_cst memory_order_seq_cst

/* ---- types of messages that only runtimes send to each other; with CUE_DOWN and CUE_EXIT they pass ahead of the limits ---- */
enum {
    RUNTIME_WATCH = CUE_TYPE_SYSTEM + 0x100, /* struct watch_request: tell `by` when you end */
    RUNTIME_UNWATCH                          /* the same: no more */
};
struct watch_request {
    cue_ref by;
    uint64_t tag;
};

/* ---- addresses: cue_ref.process is the party: slot + 1 in 8 bits, the low 24 bits of its epoch ---- */
enum { REF_EPOCH_MASK = 0xffffff };
static inline uint32_t ref_process(unsigned slot, uint32_t epoch)
{
    return (slot + 1) | (epoch & REF_EPOCH_MASK) << 8;
}
static inline unsigned ref_slot(cue_ref ref) /* UINT_MAX: names nobody */
{
    return (ref.process & 0xff) - 1;
}
static inline bool ref_nobody(cue_ref ref)
{
    return !(ref.node | ref.process | ref.index | ref.generation);
}

/* ---- actors ---- */
struct watcher { /* somebody who wants to know when we end */
    cue_ref by;
    uint64_t tag;
};

struct actor {
    cue_ref self;
    uint32_t slot;      /* in system.actors; its bit of the bell */
    struct lane_end in; /* the receiving end of its mailbox */
    cue_behaviour *run; /* NULL: an adopted thread */
    void (*done)(void *state, int reason);
    char *name;   /* behind the state; "" without one */
    bool queued;  /* is in the scheduler's line */
    bool running; /* its behaviour is being called */
    bool ending;  /* cue_exit(cue_self(), reason) was called */
    int ending_reason;
    uint32_t nwatchers, watchers_room;
    struct watcher *watchers;
    struct down_watch *watches;    /* whom it watches; under system.lock */
    struct actor *next;            /* in line */
    struct actor *older, *younger; /* all actors, for stopping in order */
    _Alignas(16) unsigned char state[];
};

/* ---- watches and other processes ---- */
struct down_watch { /* one cue_watch of an actor here; gone when its CUE_DOWN has been taken */
    uint64_t tag;
    cue_ref who;
    struct actor *by;
    char name[POOL_NAME_BYTES];
    struct down_watch *next_of_tag, **of_tag; /* in system.watches */
    struct down_watch *next_of_actor, **of_actor;
    struct down_watch *next_of_peer, **of_peer; /* NULL: of this process */
};

struct peer {                /* another process that this one talks to or watches */
    uint32_t process, epoch; /* as in a cue_ref; the whole epoch */
    int32_t pid;
    bool ending; /* peers_end has it */
    struct watch *death;
    struct down_watch *watches;
    struct peer *next;
};

struct child { /* a process that this one started */
    pid_t pid;
    cue_ref actor; /* all zero until it is up */
    bool busy;     /* not up yet: only its starter looks after it */
    bool ended;    /* and waited for */
    bool told;     /* its peer's death has been told: nobody will ask how it ended */
    int32_t signal, code;
    struct child *next;
};

/* A message of the library for which there was no room in the pool yet. */
struct unsent {
    cue_ref to;
    uint64_t tag;
    struct cue_down down;
    struct unsent *next;
};

struct alias { /* a name registered by this process */
    cue_block block;
    cue_ref who;
    struct alias *next;
    char name[POOL_NAME_BYTES];
};

enum { WATCH_BUCKETS = 1024, ROUTE_WAYS = 4, ROUTE_SETS = 256, RUN_BUDGET = 64, SHARED_LINKS = 1024 };

struct cue_system {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* an actor or a child has ended */
    _Atomic bool up;
    _Atomic bool stopping;
    uint32_t forks;          /* fork_epoch when it was started */
    _Atomic uint32_t number; /* of the system among those that this process has had; grows again when it is stopped */
    cue_pool *pool;
    uint32_t process; /* ours, as in a cue_ref */
    sigset_t signals; /* blocked when the system was started: what children start with */
    const cue_actor_spec *kinds;
    size_t nkinds;

    cue_block bell_block;
    struct bell *bell;
    uint32_t bits;                   /* of the bell, actors at a time */
    _Atomic(struct actor *) *actors; /* by slot: set by spawn (release), NULL when it has ended */
    uint32_t *free_slots, nfree, used_slots;
    struct link *links; /* the scheduler's, see lane_end_use, as the next */
    struct near_slabs near_slabs;
    struct actor *youngest;
    uint32_t nactors, nadopted, nchildren;
    int last_reason;

    pthread_t thread; /* the scheduler */
    bool thread_runs;
    _Atomic bool quit;
    _Atomic bool exiting; /* a behaviour called exit() */
    _Atomic bool cut;     /* end everybody, whatever waits */
    _Atomic bool have_unsent;
    struct actor *line, **line_end; /* who has messages; the scheduler's own */

    struct down_watch *watches[WATCH_BUCKETS];
    uint64_t next_tag;
    struct peer *peers;
    unsigned telling; /* deaths that are being told of just now, by peers no longer in the list */
    struct child *children;
    struct unsent *unsent;
    struct alias *aliases;
    struct watch *parent_death;

    _Atomic uint64_t spawned, handled, dead_letters;
};
extern struct cue_system the_system;

/* The running actor of this thread, NULL outside one. */
struct current {
    struct actor *actor;
    uint32_t number; /* of the system */
    bool scheduler;  /* this is the scheduler's thread */
};
extern _Thread_local struct current current;
struct actor *current_actor(void);

/* At the top of every public call: the running system, or why not. */
int system_enter(cue_system *sys);
/* Asks everybody who was started here to end, the youngest first. */
void system_end_all(struct cue_system *sys, int reason);

/* ---- actor.c ---- */
/* `ref` may be NULL. A behaviour may have ended already when this returns; `adopted` (not NULL: makes an adopted thread) has not. */
int actor_make(struct cue_system *sys, const cue_actor_spec *spec, bool adopted, cue_ref *ref, struct actor **out);
/* By its runner: tells the watchers, frees what waits, gives slot and name back. The struct is freed. */
void actor_end(struct cue_system *sys, struct actor *a, int reason);
/* By its runner: takes the next message that is the application's business. 1: `m` is one; 0: empty; negative: `a` has to
 * end with *reason. */
int actor_next(struct cue_system *sys, struct actor *a, cue_msg *m, int *reason);

/* ---- scheduler.c ---- */
int scheduler_start(struct cue_system *sys);
void scheduler_stop(struct cue_system *sys);
void scheduler_cut_off(struct cue_system *sys);                /* on its own thread */
void scheduler_queue(struct cue_system *sys, struct actor *a); /* on its own thread */

/* ---- route.c: sending to an address ---- */
/* Never waits. `system`: one of the library's types, see lane_address_push. Not with system.lock held. */
int route_send(struct cue_system *sys, cue_ref to, const cue_msg *m, bool system);
/* What finds no room in the pool is kept and sent later; who has ended is not told. */
void route_tell_down(struct cue_system *sys, cue_ref to, uint64_t tag, const struct cue_down *down);
void route_retry(struct cue_system *sys);
void route_name(struct cue_system *sys, cue_ref to, char name[POOL_NAME_BYTES]); /* "" if it is not known */
void route_forget(struct cue_system *sys, cue_ref to);                           /* an actor of ours that ends */
void routes_drop(uint32_t process);                                              /* of a process that is gone; 0: all */
void routes_forget(void);                                                        /* in a forked child: they are the parent's */

/* ---- watch.c ---- */
/* Under system.lock: the process behind an address, watched from now on. CUE_EDEAD, CUE_ENOMEM … */
int peer_find(struct cue_system *sys, uint32_t process, struct peer **out);
bool process_gone(struct cue_system *sys, uint32_t process);
void peers_end(struct cue_system *sys);
/* `self`, an actor of this process whose runner calls this, gets a CUE_DOWN with this tag when `who` ends, also if it has already. */
int watch_start(struct cue_system *sys, struct actor *self, cue_ref who, uint64_t *tag);
/* Whether a CUE_DOWN with this tag is due to this actor; it is not any more afterwards. */
bool watch_due(struct cue_system *sys, struct actor *a, uint64_t tag);
/* `a` ends: it hears no more. By its runner. */
void watches_end(struct cue_system *sys, struct actor *a);

/* ---- spawn.c ---- */
int spawn_process(struct cue_system *sys, const cue_actor_spec *spec, cue_ref *out);
/* In the process that was started: what its parent wants (also the pool's name); then the actor, and the answer. */
struct spawn_order;
int spawn_order_read(struct spawn_order **out); /* *out NULL: nobody started us */
const char *spawn_order_pool(const struct spawn_order *order);
int spawn_order_follow(struct cue_system *sys, struct spawn_order *order); /* frees it */
void spawn_order_refuse(struct spawn_order *order, int status);            /* the same */
/* Under system.lock: takes note of children that have ended. */
void children_look(struct cue_system *sys);
/* Under system.lock: the child that this process started, told now that its party is gone: how it ended. False: no child of ours. */
bool child_told(struct cue_system *sys, int32_t pid, int32_t *signal, int32_t *code);
bool child_kill(struct cue_system *sys, cue_ref who); /* SIGKILL to the process of this actor, if it is a child; takes the lock */
void children_end(struct cue_system *sys);            /* SIGKILL to all, and waits for them */

/* ---- thread.c ---- */
/* The next message of an adopted thread's mailbox. CUE_EEMPTY, CUE_EINTR. */
int thread_receive(struct cue_system *sys, struct actor *self, cue_msg *out, int64_t deadline);

/* ---- names.c ---- */
/* A name is taken: whether to try again, since its holder was killed. Waits a moment; `tries`: how often it was tried before. */
bool name_comes_free(struct cue_system *sys, const char *name, unsigned tries);
void names_forget(struct cue_system *sys, cue_ref who); /* all zero: everybody */

#endif
