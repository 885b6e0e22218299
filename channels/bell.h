/* A bell: how a sender wakes a process that receives from many mailboxes with one thread.
 *
 * A receiver of one mailbox sleeps on that mailbox's head word. A scheduler has thousands of mailboxes and sleeps on one word
 * for all of them: its bell, a block of its own that lives as long as its process. A mailbox names the bell's block and a bit.
 * A sender whose push sees SLEEP sets the bit and, if the owner is asleep, rings. Every sender that sees SLEEP may do it again:
 * nothing is half linked, and a sender that is killed or stopped in the middle hides only its own message, until the next sender
 * to that mailbox, or the reaper of the dead one, rings.
 *
 * Two levels of bits, so that the owner finds those that are set with a few loads: leaf word i has bits 64 i .. 64 i + 63,
 * summary bit i says that leaf word i may have one.
 *
 *   ring:   leaf |= bit;  summary |= bit, unless it is set;  word ASLEEP? word += 2, FUTEX_WAKE
 *   take:   summary word := 0;  each leaf word that it named := 0
 *   sleep:  word |= ASLEEP;  any summary bit? then awake;  FUTEX_WAIT(word, that value);  word &= ~ASLEEP
 *
 * Sets are seq_cst and so are the looks after them (leaf then summary against summary then leaf; summary then word against word
 * then summary), so of the two sides one sees the other: no ring is lost.
 *
 * The owner of the block takes; others only ring, and hold a lease on the block while they do.
 */
#ifndef CHANNELS_BELL_H
#define CHANNELS_BELL_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BELL_BITS_MAX = 1 << 18, BELL_SUMMARY = BELL_BITS_MAX / 64 / 64 };

struct bell {
    _Atomic uint32_t word; /* futex: bit 0 ASLEEP, set and cleared by the owner; the rest counts rings of senders that saw it */
    uint32_t spare0;
    uint64_t spare[7];
    _Atomic uint64_t summary[BELL_SUMMARY]; /* or'ed by anybody, emptied by the owner */
    _Atomic uint64_t leaf[];                /* the same */
};
static_assert(offsetof(struct bell, summary) == 64 && offsetof(struct bell, leaf) == 576, "layout");

static inline size_t bell_bytes(uint32_t bits)
{
    return sizeof(struct bell) + (bits + 63) / 64 * sizeof(uint64_t);
}

/* By any party that has the bell's bytes leased; `bit` may come from shared memory. Whether it made a wake-up call. */
bool bell_ring(struct bell *bell, size_t bytes, uint32_t bit);

/* ---- by the owner, who keeps `bits` to itself ---- */
void bell_init(struct bell *bell, uint32_t bits);
/* Takes all bits that are set and calls `visit` with each; how many. */
unsigned bell_take(struct bell *bell, uint32_t bits, void (*visit)(void *arg, uint32_t bit), void *arg);
bool bell_any(const struct bell *bell, uint32_t bits);
/* Sleeps until somebody rings, at most `ns`. `awake` (may be NULL) is asked between the announcement and the sleep: true if
 * there is something to do that is not on the bell. Its partner sets that and then calls bell_nudge. */
void bell_sleep(struct bell *bell, uint32_t bits, int64_t ns, bool (*awake)(void *arg), void *arg);
void bell_nudge(struct bell *bell);

#endif
