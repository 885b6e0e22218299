/* Somebody who waits behind the victim for the same: a thread of the driver. It must be served whatever becomes of the victim. */
#ifndef CRASH_BEHIND_H
#define CRASH_BEHIND_H

#include "crash.h"

/* Waits, and says how that ended. */
typedef int behind_wait(struct stage *stage, cue_block *out);

/* Once a stage; when it returns that thread sleeps, or has ended. Kept in stage->other[0]. */
void queue_behind(struct stage *stage, behind_wait *wait);
/* Waits for its end, which must be good. Once a stage: what it got, to be given back; then NULL. */
cue_block *behind_is_served(struct stage *stage, const char *what);
void behind_forget(struct stage *stage);

#endif
