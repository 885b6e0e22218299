/* Messages that a receiver had in hand when it died: see redeliver.c. What recovery needs of them. */
#ifndef REDELIVER_H
#define REDELIVER_H

#include "lane.h"

/* The dead party's message, OWNED and LENT (or SENT to a lane in which it was never linked), goes back to its queue. false: it is
 * no such message, or its lane is gone, or it was acknowledged: then the caller frees it, as all that the dead owned. */
bool returned_put(struct cue_pool *pool, struct record *rec, uint32_t index, uint64_t state);
/* Whether a KEPT record is a message that waits in this way. */
bool returned_waits(const struct record *rec, uint64_t state);
/* The same record again, seen by a sweep: a receiver must be able to know of it. */
void returned_remind(struct cue_pool *pool, const struct record *rec);

#endif
