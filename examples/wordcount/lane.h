/* The word count over cuelight: what of lane.c the program needs beside the transport itself. */
#ifndef WORDCOUNT_LANE_H
#define WORDCOUNT_LANE_H

/* A worker's process, started by cue_spawn; its exit status. */
int lane_worker(void);

#endif
