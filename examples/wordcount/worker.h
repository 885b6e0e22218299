/* A worker's part that is the same over any transport: what is measured and written for one file. */
#ifndef WORDCOUNT_WORKER_H
#define WORDCOUNT_WORKER_H

#include "count.h"

struct worker {
    struct counter counter;
    int64_t idle_ns; /* since when it has nothing to do */
    /* of the file at hand */
    int64_t seen_ns, counted_ns;
};

int worker_init(struct worker *w); /* 0, or -1: no memory */
void worker_free(struct worker *w);

/* Whether `bytes` bytes are a whole file message, as the reader makes it. */
int worker_file_valid(const struct wc_file *file, size_t bytes);

/* First look at the file, and the counting; the size of its table, or 0: no memory. */
size_t worker_count(struct worker *w, const struct wc_file *file, int64_t seen_ns);

/* Writes the whole table into room of that size. */
void worker_write(struct worker *w, const struct wc_file *file, struct wc_table *table);

/* The worker in a process of its own at the end of two pipes; its exit status. */
int pipes_worker(const char *fds);

#endif
