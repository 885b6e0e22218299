/* Cells: where the bytes of a small message lie once it was received.
 *
 * A stream carries small messages in its own places (stream_layout.h), which must be free again before anybody has released the message.
 * So the bytes are copied out, into a cell of the process's own memory, which cue_msg_release gives back. Each thread keeps a few hundred
 * that it was given back, so in the usual case taking one and giving it back is a few instructions on lines that are warm.
 */
#ifndef CHANNELS_CELL_H
#define CHANNELS_CELL_H

#include <stdbool.h>
#include <stdint.h>

enum { CELL_BYTES = 64 };

struct cell {
    unsigned char bytes[CELL_BYTES];
    uint64_t life; /* grows when it is given back: of two that give it back, the second one is noticed */
    struct cell *next;
};

/* The thread's own. */
extern _Thread_local struct cells {
    struct cell *free;
    unsigned room; /* for so many more; 0 until the thread has given one back */
} cells __attribute__((tls_model("initial-exec")));

struct cell *cell_make(void);
void cell_give_anyway(struct cell *cell);

/* NULL: the process has no memory. */
static inline struct cell *cell_take(void)
{
    struct cell *cell = cells.free;
    if (__builtin_expect(!cell, 0))
        return cell_make();
    cells.free = cell->next;
    cells.room++;
    return cell;
}

/* In the life in which it was taken; by any thread. */
static inline void cell_give(struct cell *cell, uint64_t life)
{
    if (__builtin_expect(cell->life != life, 0))
        return;
    cell->life++;
    if (__builtin_expect(cells.room == 0, 0)) {
        cell_give_anyway(cell);
        return;
    }
    cell->next = cells.free;
    cells.free = cell;
    cells.room--;
}

#endif
