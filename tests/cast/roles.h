/* The roles of the helper program `cast`: each line here is a function `int role_NAME(int argc, char **argv)` in a file of
 * this folder, run as `cast NAME ARG...` with argv[0] the role. Its result is the exit code: 0, or the number of the step that
 * failed. See tests/harness.h for how a test starts one. */
#ifndef TESTS_CAST_ROLES_H
#define TESTS_CAST_ROLES_H

#define ROLES(X)                                                                                                                           \
    X(hold_lock, "PATH BYTE: holds a life lock, says r, waits to be told")                                                                 \
    X(shut_lock, "PATH BYTE: holds a life lock, closes every descriptor, says r, waits")                                                   \
    X(fork_lock, "PATH BYTE: holds a life lock, forks a child that stays; it says c, and d when told")                                     \
    X(set_word, "PATH: maps the object, says r, is told; sets its first word to 7 and wakes")                                              \
    X(pool_owner, "POOL N: owns N blocks, says r, waits, exits without close")                                                             \
    X(pool_viewer, "POOL TYPE ID: views the block, says r; told, checks its bytes, says k; told, releases")                                \
    X(pool_publisher, "POOL TYPE ID: allocates, says a; told, publishes, says p; waits")                                                   \
    X(pool_waiter, "POOL BYTES: says r, waits for room, says g when it has it; waits")                                                     \
    X(pool_worker, "POOL SEED: works in the pool until it is killed; a number when a block was not whole")                                 \
    X(pool_churner, "POOL BYTES WAIT_US: fills the pool with blocks, says r, frees the oldest and allocates anew, until it is killed")     \
    X(pool_daemon, "POOL: closes all its descriptors as daemons do, says r; told, works on and reaps the dead, says w; waits")             \
    X(pool_execer, "POOL: owns blocks and becomes another program, which says r and waits")                                                \
    X(say_and_wait, "says r, waits")                                                                                                       \
    X(pool_in_namespace, "POOL: owns blocks in a pid namespace of its own, says r; waits; n: it may not make one")                         \
    X(pool_later, "POOL PARTIES: an hour later (a time namespace): looks for the dead among so many, works, says r; n: it may not")        \
    X(pool_by_fd, "gets a pool's descriptor over the socket, finds (1, 1) in it, frees it")                                                \
    X(pool_forker, "POOL: forks; the child uses inherited handles")                                                                        \
    X(budget_worker, "POOL SEED: allocates and frees under the budget `b` until it is killed")                                             \
    X(budget_filler, "POOL BYTES: says r; told, allocates until the budget `b` is full, says k; waits")                                    \
    X(budget_waiter, "POOL BYTES: says r, waits for room under the budget `b`, says g when it has it; waits")                              \
    X(pool_taker, "takes a pool from the socket, publishes (\"taken\") in it, says r, waits")                                              \
    X(pool_in_file, "PATH: publishes and owns blocks in a pool in that file, says r, waits")                                               \
    X(pool_as_user,                                                                                                                        \
      "POOL UID GID MODE: adds 1 to the block \"shared\" as that user, says r; told, cleans up after the dead, says k; waits")             \
    X(own_published, "POOL TYPE ID: publishes a block that stays its own, says r, waits")                                                  \
    X(attach_desc, "HEX TEXT: attaches the block of a descriptor, says v; told, compares its text, releases")                              \
    X(nng_recv, "URL POOL [EVERY]: receives numbered blocks, marks them in the table, until told; shuts after EVERY")                      \
    X(nng_send, "URL POOL SENDER FIRST COUNT [DEPTH]: sends numbered blocks, COUNT or until told")                                         \
    X(nng_far, "URL POOL COUNT SIZE: plays another host, sends COUNT blocks of SIZE bytes from a pool of its own")                         \
    X(nng_quit, "URL POOL: sends 300 blocks and ends without closing anything")                                                            \
    X(nng_user, "URL POOL USERS COUNT: as another user: receives COUNT blocks, says r; 0: waits until somebody was refused")               \
    X(nng_hung, "ROLE ARG...: stops NNG's reaper for good and plays one of the roles above")                                               \
    X(nng_closes, "POOL URL SENDER_URL...: closes lanes while NNG hangs")                                                                  \
    X(nng_away, "POOL URL SENDER_URL: loses its receiver while NNG hangs")                                                                 \
    X(nng_names, "POOL URL LOOK-UPS [h]: closes a sender while its name is looked up")                                                     \
    X(nng_listen, "URL POOL: listens, says r, waits to be killed")                                                                         \
    X(mailbox_sender, "URL: opens to send, says r; sends a number for each byte it is told, says k")                                       \
    X(mailbox_receiver,                                                                                                                    \
      "URL: opens to receive, says r, or b if it is busy; takes a message for each byte it is told, says its first byte")                  \
    X(mailbox_sleeper, "URL: opens to receive, says s, waits for a message, says its first byte")                                          \
    X(mailbox_forker, "URL: forks; the child sends through what it inherited")                                                             \
    X(answerer, "URL: receives questions, and answers, keeps, drops them or dies with them, as it is told")                                \
    X(asker, "URL: asks whenever it is told; says how it ended")                                                                           \
    X(topic_maker, "URL COUNT: publishes COUNT numbers, says r, waits")                                                                    \
    X(topic_reader, "URL COUNT: subscribes, says r; takes COUNT numbers, says t; told, gives them back")                                   \
    X(tapper, "URL: taps it, says r; takes a message for each byte it is told, says its first byte; c: closes, says k")                    \
    X(tap_observer, "POOL: opens it read-only, and cannot tap a in it")                                                                    \
    X(tap_storm, "URL SEED: taps it, looks at some copies, leaves, and comes again, until it is killed")                                   \
    X(topic_storm_publisher, "URL: publishes numbered messages until it is killed")                                                        \
    X(topic_storm_reader, "URL SEED: subscribes, takes some, leaves, until it is killed")                                                  \
    X(storm_sender, "URL FILE SENDER LIFE WAIT: sends numbered messages until it is killed")                                               \
    X(storm_receiver, "URL FILE HANDS SEED: receives them and looks at each until it is killed")                                           \
    X(queue_storm_sender, "URL FILE SENDER LIFE: sends numbered messages until it is killed")                                              \
    X(queue_storm_receiver, "URL FILE HANDS SEED: receives them and marks each until it is killed")                                        \
    X(storm_reaper, "POOL: cleans up after the dead until it is killed")                                                                   \
    X(actor, "started by cue_spawn: an actor of a kind in role_actor.c")                                                                   \
    X(actor_watcher, "POOL NAME: waits for the actor, watches it, says w; says the letter of what it hears; told, ends")                   \
    X(actor_boss, "POOL NAME: spawns an echo in a process of its own, says r, waits")                                                      \
    X(actor_here, "POOL NAME: runs an echo, says r; told, exits without a stop")                                                           \
    X(actor_thread, "POOL NAME: adopts its thread, says r, then the type of each message")                                                 \
    X(must, "[NAME]: calls CUE_MUST with 0, or with CUE_ENOENT and a trail about NAME")

/* The helper's end of the socket pair to its test. */
enum { CAST_FD = 3 };

/* For roles: say a byte; wait for one (-1: the test has ended). */
int role_say(char byte);
int role_hear(void);
/* Nothing, for so many microseconds: a storm's own pace, no wait for anything. */
void role_rest(unsigned us);

#endif
