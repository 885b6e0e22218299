/* Messages that carry a number, for the operations on every kind of lane: so that one sees which came, in what order, and whole. */
#ifndef CRASH_NUMBERS_H
#define CRASH_NUMBERS_H

#include "crash.h"

#include <cuelight/channel.h>

enum { NOTE = 5, LAST = 99, NUMBER_BLOCK = 5000 };

/* Where the number stands: in the message's bytes, in a block that is filled with it, or in both. */
enum carried { ANY = 0, BYTES = 1, MOVED = 2, BOTH = 3 };

int number_block(cue_pool *pool, uint64_t number, cue_block *b);
/* With a block of number_block(), if `what` has one. */
int send_with(cue_channel *ch, uint64_t number, enum carried what, cue_block *b);
int send_number(cue_channel *ch, uint64_t number, enum carried what);
/* The number of the next message, or 0: there is none. Says it if anything of it is wrong, or not as `what` says. */
uint64_t take_number(cue_channel *ch, enum carried what);
/* The same of a queue, and how often it was given out before. */
uint64_t take_again(cue_channel *ch, uint32_t *redelivered);

/* 1 to `last`, of bytes, which must come. */
void take_to(cue_channel *ch, uint64_t last);

/* 1 to 4; the even ones as `even` says. */
void send_four(cue_channel *ch, enum carried odd, enum carried even);
/* What a receiver that was killed has left of these four, to whoever takes over: in order, without a gap, and the lane works on.
 * 0: all of them; 1: not all; -1: nothing. */
int rest_of_four(cue_channel *ch, enum carried what);

/* The victim sends 7 through its first channel; send_block and send_both with its first block. send_three: 7, 8 and 9 with one call. */
void send_bytes(struct victim *me);
void send_block(struct victim *me);
void send_both(struct victim *me);
void send_three(struct victim *me);

/* It cleans up after the one who has died. */
void reap_it(struct victim *me);

/* The victim takes two messages one by one, or three at once, from its first channel, and gives them back. */
void receive_two(struct victim *me);
void receive_batch(struct victim *me);

#endif
