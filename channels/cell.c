/* See cell.h. */
#include "cell.h"

#include <pthread.h>
#include <stdlib.h>

enum { KEPT_MOST = 512 };

_Thread_local struct cells cells __attribute__((tls_model("initial-exec")));

static _Thread_local bool noted; /* the thread's end gives them back */
static pthread_key_t thread_end;
static pthread_once_t thread_end_once = PTHREAD_ONCE_INIT;

static void thread_ended(void *arg)
{
    (void)arg;
    while (cells.free) {
        struct cell *cell = cells.free;
        cells.free = cell->next;
        free(cell);
    }
    cells.room = 0;
    noted = false;
}

static void thread_end_make(void)
{
    pthread_key_create(&thread_end, thread_ended);
}

struct cell *cell_make(void)
{
    return calloc(1, sizeof(struct cell));
}

void cell_give_anyway(struct cell *cell)
{
    pthread_once(&thread_end_once, thread_end_make);
    if (noted || pthread_setspecific(thread_end, &cells)) {
        free(cell);
        return;
    }
    noted = true;
    cells.room = KEPT_MOST - 1;
    cell->next = cells.free;
    cells.free = cell;
}
