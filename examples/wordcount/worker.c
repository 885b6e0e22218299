/* A worker's part that is the same over any transport: see worker.h. */
#include "worker.h"
#include "job.h"

#include <string.h>
#include <unistd.h>

int worker_init(struct worker *w)
{
    memset(w, 0, sizeof *w);
    w->idle_ns = now_ns();
    return counter_init(&w->counter);
}

void worker_free(struct worker *w)
{
    counter_free(&w->counter);
}

int worker_file_valid(const struct wc_file *file, size_t bytes)
{
    return bytes >= sizeof *file && file->head.type == WC_FILE && file->head.version == 1 && file->head.size <= bytes &&
           file->head.size == sizeof *file + file->bytes;
}

size_t worker_count(struct worker *w, const struct wc_file *file, int64_t seen_ns)
{
    w->seen_ns = seen_ns;
    if (counter_count(&w->counter, file->text, file->bytes) != 0)
        return 0;
    w->counted_ns = now_ns();
    return counter_table_size(&w->counter);
}

void worker_write(struct worker *w, const struct wc_file *file, struct wc_table *table)
{
    memset(table, 0, sizeof *table);
    counter_write(&w->counter, file->text, table);
    table->number = file->number;
    table->bytes = file->bytes;
    table->handed_ns = w->seen_ns - file->sent_ns;
    table->counted_ns = w->counted_ns - w->seen_ns;
    table->pid = (uint32_t)getpid();
    table->idle = file->sent_ns > w->idle_ns;
    table->sent_ns = now_ns();
}
