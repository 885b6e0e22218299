/* Stops the thread of NNG's that takes connections down, as a fault of NNG before 1.7 does (channels/nng/closer.c): a callback of ours
 * that it makes does not return. */
#ifndef TESTS_NNG_REAPER_H
#define TESTS_NNG_REAPER_H

#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>

static _Atomic bool reaper_stopped;

static void reaper_callback(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    (void)arg;
    if (event == NNG_PIPE_EV_ADD_POST) {
        nng_pipe_close(pipe);
        return;
    }
    atomic_store(&reaper_stopped, true);
    for (;;)
        poll(NULL, 0, -1);
}

/* False: it goes on. Once a process. */
static inline bool reaper_stop(void)
{
    nng_socket ends[2];
    if (nng_pair1_open(&ends[0]) || nng_pair1_open(&ends[1]) || nng_pipe_notify(ends[0], NNG_PIPE_EV_ADD_POST, reaper_callback, NULL) ||
        nng_pipe_notify(ends[0], NNG_PIPE_EV_REM_POST, reaper_callback, NULL) || nng_listen(ends[0], "inproc://reaper", NULL, 0) ||
        nng_dial(ends[1], "inproc://reaper", NULL, 0))
        return false;
    for (int i = 0; i < 60000 && !atomic_load(&reaper_stopped); i++)
        poll(NULL, 0, 1);
    return atomic_load(&reaper_stopped);
}

#endif
