/* cuelight/actor.h: actors: behaviours behind addresses.
 *
 * An ACTOR has an address (cue_ref), a mailbox, and a behaviour that is called with one message at a time. It runs on the
 * scheduler of this process (CUE_HERE) or alone in an OS process of its own (CUE_PROCESS). Any thread becomes one by
 * cue_adopt. An address is 16 bytes by value, valid in every process that has the same pool; it never comes to mean another
 * actor: one that has ended is CUE_EDEAD for ever.
 *
 * A MAILBOX is a lane in the pool: every process sends to it at the same speed, and a program without actors reaches a named
 * actor by its URL, shm://POOL/NAME. It is bounded (spec.depth, CUE_EFULL for the teller). The library's own messages (watch,
 * CUE_DOWN, CUE_EXIT) are never refused for want of room in it. Messages from one sender to one receiver arrive in order.
 * Names of actors, lanes and blocks share one name space in a pool.
 *
 * A BEHAVIOUR runs to its end before its actor's next message. On the scheduler it must not wait: calls that would wait say
 * CUE_ECONTEXT (cue_receive, cue_whereis with a wait), others (a channel, a lock, a sleep) hold up the actors beside it. An
 * actor in a process of its own has a scheduler of its own. The message and its block are the behaviour's until it returns,
 * then they are released; `cue_block mine = cue_move(&m->block)` keeps the block.
 *
 * AN ACTOR ENDS when its behaviour returns CUE_STOP (reason 0) or a negative code (it failed: that is the reason), by cue_exit,
 * by cue_system_stop, or with its process. What still waits in its mailbox is then freed and counted as dead letters. Its name
 * is free as soon as it has ended. Whoever watches it gets exactly one CUE_DOWN.
 *
 * THE DEATH OF A PROCESS, also by SIGKILL at any instruction, ends its actors: watchers get CUE_DOWN with CUE_EKILLED within
 * milliseconds (a pidfd tells); one that leaves in order ends its actors first. Who tells to them gets CUE_EDEAD; blocks that it
 * owned, and what waits in its mailboxes, is freed. What it had already taken out of a mailbox is gone with it. Processes started
 * by cue_spawn do not outlive the process that started them: when that one dies they get a CUE_EXIT with CUE_EDEAD.
 *
 * A process has one SYSTEM at a time. Calls on addresses need a running system in this process, else they are CUE_EINVAL.
 *
 *   static int count(void *state, cue_msg *m) { ++*(long *)state; return m->type == LAST ? CUE_STOP : 0; }
 *
 *   static const cue_actor_spec kinds[] = { { .kind = "counter", .run = count, .state_size = sizeof(long) } };
 *   int main(void)
 *   {
 *       cue_system *sys; cue_ref me, who; cue_msg m; uint64_t tag;
 *       if (CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = "shop", .kinds = kinds, .nkinds = 1 }, &sys)) == CUE_CHILD)
 *           return cue_system_wait(sys, CUE_FOREVER);                    // this process was started for an actor
 *       CUE_MUST(cue_adopt(sys, "main", &me));                           // this thread may watch and receive
 *       CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .kind = "counter", .where = CUE_PROCESS }, &who));
 *       CUE_MUST(cue_watch(who, &tag));
 *       CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
 *       CUE_MUST(cue_receive(&m, CUE_SEC(10)));                          // m.type is CUE_DOWN, m.tag is tag
 *       printf("%s\n", cue_status_name(((const struct cue_down *)m.data)->reason));
 *       cue_msg_release(&m);
 *       return cue_system_stop(sys, CUE_SEC(1));
 *   }
 */
#ifndef CUELIGHT_ACTOR_H
#define CUELIGHT_ACTOR_H

#include <cuelight/channel.h>
#include <cuelight/error.h>
#include <cuelight/pool.h>
#include <cuelight/serial.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cue_system cue_system;

/* 0: go on. CUE_STOP: done. Negative (a CUE_E… or below -1000 one of the application's): failed, which is the exit reason. */
typedef int cue_behaviour(void *state, cue_msg *m);

enum { CUE_CHILD = 1, CUE_STOP = 1 };
enum { CUE_HERE = 0, CUE_PROCESS = 2 }; /* where */
enum { CUE_EXIT = 0x7fff0002 };         /* a type of the library, see cue_exit; CUE_DOWN is in channel.h */

/* Payload of CUE_DOWN and CUE_EXIT. */
struct cue_down {
    cue_ref who; /* CUE_DOWN: who ended. CUE_EXIT: who asked for it, all zero: the system */
    /* 0: done. CUE_EDEAD: it had ended before it was watched, or its process left. CUE_EKILLED: its process was killed. Else as it
     * ended */
    int32_t reason;
    int32_t signal; /* that ended its process, where this process started it; else 0 */
    int32_t pid;    /* of its process */
    char name[64];  /* its first name, "" if it had none or it is not known any more */
};

typedef struct cue_actor_spec {
    const char *kind;   /* CUE_PROCESS: which of the program's kinds (cue_system_opts); otherwise a label for tools */
    const char *name;   /* registered under it; NULL: anonymous */
    cue_behaviour *run; /* CUE_PROCESS: the kind's, ignored here; the same for init, done, state_size */
    int (*init)(void *state, const void *arg, size_t size); /* before the first message; negative: failed, which cue_spawn returns */
    void (*done)(void *state, int reason);                  /* after its last message; not when the process is killed */
    const void *arg;                                        /* for init: copied to another process, borrowed here */
    size_t arg_size;
    size_t state_size;       /* bytes of state, zero before init, aligned to 16 */
    uint32_t where;          /* CUE_HERE, or CUE_PROCESS: a new OS process */
    uint32_t depth;          /* messages that may wait; 0: 1024 */
    const char *const *argv; /* CUE_PROCESS: the program and its arguments, ended by NULL. NULL: this program, as it was started */
    uint64_t spare[12];      /* zero */
} cue_actor_spec;

typedef struct cue_system_opts {
    const char *pool;            /* NULL: $CUE_POOL, else "cue" */
    const cue_actor_spec *kinds; /* what CUE_PROCESS may start in this program: stays valid while the system runs */
    size_t nkinds;
    uint32_t actors; /* the most actors here at a time, adopted threads included; 0: 65,536 */
    uint32_t spare0;
    const cue_pool_opts *pool_opts; /* how the pool is opened or made; NULL: the defaults */
    uint64_t spare[8];              /* zero */
} cue_system_opts;

typedef struct cue_system_info {
    uint64_t actors;       /* here, now; adopted threads included */
    uint64_t processes;    /* started by this one and alive */
    uint64_t spawned;      /* since the start */
    uint64_t handled;      /* messages that behaviours here were called with */
    uint64_t dead_letters; /* messages to actors here that nobody will handle */
    uint64_t spare[8];
} cue_system_info;

/* ==== the system ==== */

/* Opens the pool and makes this process ready for actors: starts the scheduler's thread.
 * Returns 0, or CUE_CHILD in a process that cue_spawn started: its actor runs already, the main thread now calls
 * cue_system_wait and returns from main (what the program opened stays its own business). Such a process uses its parent's
 * pool, whatever opts->pool says. Reads and removes CUE_SPAWN from the environment: call it before threads are started.
 * CUE_EBUSY: this process has a system. CUE_ENOENT: the kind that this process was started for is not among opts->kinds.
 * Otherwise as cue_pool_open. */
CUE_API CUE_CHECKED int cue_system_start(const cue_system_opts *opts, cue_system **out);

/* Until the last actor here has ended, adopted threads not counted: its reason. 0 at once if there is none. May wait.
 * CUE_ETIMEDOUT. CUE_ECONTEXT in a behaviour. */
CUE_API int cue_system_wait(cue_system *sys, cue_time wait);

/* Ends everything: processes and actors that were started here get CUE_EXIT with reason 0, the youngest first, and handle what
 * was sent to them before; after `wait` what has not ended is cut off (processes by SIGKILL). Then closes the pool and frees
 * `sys`. Adopted threads stop being actors; none may be inside cue_receive. May wait. A process that returns from main or calls
 * exit() without this is stopped with a wait of 0.
 * CUE_ETIMEDOUT: something was cut off; it is all gone nevertheless. CUE_ECONTEXT in a behaviour. */
CUE_API int cue_system_stop(cue_system *sys, cue_time wait);

/* The pool of its mailboxes: allocate here what a message shall move. sys NULL: the one of this process, for behaviours. NULL if
 * there is none. */
CUE_API cue_pool *cue_system_pool(cue_system *sys);

CUE_API int cue_system_stat(cue_system *sys, cue_system_info *out);

/* ==== actors ==== */

/* Starts an actor. sys NULL: the one of this process. `out` may be NULL. init has returned when this returns; here it runs on
 * the calling thread. CUE_PROCESS starts a program, waits until its actor is up (at most 30 s), and is then as fast as any other.
 * CUE_EEXIST: the name is taken. CUE_ENOENT: the program has no such kind, or there is no such program. CUE_EDEAD: the process
 * ended before its actor was up. CUE_ETIMEDOUT: it never came up, and was killed. CUE_ELIMIT, CUE_ENOMEM, or what init said. */
CUE_API CUE_CHECKED int cue_spawn(cue_system *sys, const cue_actor_spec *spec, cue_ref *out);

/* Makes the calling thread an actor until cue_exit(cue_self(), 0) or its end. `name` and `out` may be NULL. It gets messages
 * by cue_receive. CUE_EBUSY: it is one. CUE_ECONTEXT: in a behaviour. CUE_EEXIST: the name is taken. */
CUE_API CUE_CHECKED int cue_adopt(cue_system *sys, const char *name, cue_ref *out);

/* The next message of an adopted thread; give it back with cue_msg_release. A CUE_EXIT arrives as a message: what to do about it
 * is the thread's business. May wait. CUE_EEMPTY, CUE_EINTR; CUE_ECONTEXT: this thread is not adopted. */
CUE_API CUE_CHECKED int cue_receive(cue_msg *out, cue_time wait);

/* The actor that runs on this thread; all zero outside one. */
CUE_API cue_ref cue_self(void);

/* Sends, never waits; from any thread. m->from is filled in by the running actor; elsewhere it goes as it is given. On failure the
 * caller still holds m->move.
 * CUE_EFULL: no room in the mailbox: tell again later, or open the actor's URL and wait there. CUE_EDEAD: it has ended.
 * CUE_ENOMEM: no room in the pool. CUE_ETYPE: a type of the library. CUE_EREMOTE: an actor of another machine. */
CUE_API CUE_CHECKED int cue_tell(cue_ref to, const cue_msg *m);

/* Sends a request and waits for the answer, on any thread that runs no behaviours; an adopted thread's own mailbox is left alone.
 * Give the answer back with cue_msg_release. Returns its status if that is negative. May wait.
 * CUE_ETIMEDOUT: no answer in time; a later one is dropped. CUE_EDEAD: it had ended, or ended without an answer. CUE_EFAILED: it
 * failed. CUE_ECONTEXT: in a behaviour. Otherwise as cue_tell. */
CUE_API CUE_CHECKED int cue_call(cue_ref to, const cue_msg *m, cue_time wait, cue_msg *answer);

/* From now on the calling actor gets one CUE_DOWN with this tag (tag may be NULL) when `who` ends, after everything that `who`
 * had told it; at once if it has ended already. index 0 in `who`: its whole process. Each call is a watch of its own.
 * CUE_ECONTEXT: the caller is no actor. CUE_ENOMEM, CUE_ELIMIT. */
CUE_API int cue_watch(cue_ref who, uint64_t *tag);

/* Takes a watch back: no CUE_DOWN of it is received after this. CUE_ENOENT: it has come already, or never was. */
CUE_API int cue_cancel(uint64_t tag);

/* Ends an actor with this reason, once it has handled what was sent to it before; oneself: after the present message (for an
 * adopted thread: at once). CUE_EKILLED: if this process started a process for it, that gets SIGKILL. An adopted thread gets a
 * message CUE_EXIT. The answer does not mean that it has ended: watch it. CUE_EDEAD: it has already. */
CUE_API int cue_exit(cue_ref who, int reason);

/* ==== names ==== */

/* One more name for `who`; it goes when the calling process ends, or by cue_register(name, (cue_ref){0}) there.
 * CUE_EEXIST: the name is taken. CUE_ENOENT: taken back what this process never registered. */
CUE_API int cue_register(const char *name, cue_ref who);

/* Whom the name belongs to; waits until it belongs to somebody who lives. CUE_ENOENT. CUE_ETYPE: the name of a block or of a
 * lane without an actor. CUE_ECONTEXT: a behaviour may ask only with CUE_NOW. */
CUE_API CUE_CHECKED int cue_whereis(cue_system *sys, const char *name, cue_time wait, cue_ref *out);

/* "node/process/index.generation" into buf, cut to `cap`; the length without a cut. 48 bytes always suffice. */
CUE_API int cue_ref_text(cue_ref ref, char *buf, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
