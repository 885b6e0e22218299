/* The reader's job: see job.h.
 *
 * A file is WAITING until it is handed to a worker, IN_FLIGHT until the report acknowledges its number, and then DONE; what
 * cannot be counted is SKIPPED. When a worker dies, its files in flight wait again: the table of one may be published already
 * and its number lost with the worker, so nothing but an acknowledgement counts. The other worker reads and counts it once
 * more, finds the table published or publishes it, and the report counts every number once.
 */
#include "job.h"
#include "files.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ALONE_NS INT64_C(2000000000) /* so long no room with nothing in flight: it never comes */

enum file_state { WAITING, IN_FLIGHT, DONE, SKIPPED };

struct job {
    const struct options *options;
    const struct transport *transport;
    struct file_list list;
    struct progress {
        uint64_t bytes; /* as read */
        uint8_t state, worker;
    } * files;           /* by number - 1 */
    size_t *again;       /* files of a dead worker, to be sent once more */
    size_t agains, next; /* how many; the first that was never sent */
    size_t open;         /* neither done nor skipped */
    struct load {
        bool dead;
        unsigned files;
        uint64_t bytes; /* in flight */
    } worker[WC_WORKERS];
    uint64_t kill_after; /* acknowledgements; 0: no */
    unsigned victim;
    int64_t killed_ns, last_ns; /* when a worker was killed, when something last went on */
    struct wc_summary sum;
};

static uint64_t step(uint64_t *seed) /* splitmix64 */
{
    uint64_t x = *seed += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* A moment in the middle half of the job, and a victim, from the seed. */
static void choose_kill(struct job *job)
{
    uint64_t seed = job->options->kill;
    if (seed == 0 || job->list.count < 4)
        return;
    job->kill_after = 1 + job->list.count / 4 + step(&seed) % (job->list.count / 2);
    job->victim = (unsigned)(step(&seed) % WC_WORKERS);
}

static void skip(struct job *job, size_t file, uint64_t *reason)
{
    job->files[file].state = SKIPPED;
    job->open--;
    ++*reason;
}

/* The file that a worker or the report speaks of, no longer in flight; NULL: there is none with this number. */
static struct progress *landed(struct job *job, uint64_t number)
{
    job->last_ns = now_ns();
    if (number == 0 || number > job->list.count)
        return NULL;
    struct progress *file = &job->files[number - 1];
    if (file->state == IN_FLIGHT) {
        job->worker[file->worker].files--;
        job->worker[file->worker].bytes -= file->bytes;
        file->state = WAITING;
    }
    return file;
}

static void on_given_up(struct job *job, uint64_t number)
{
    struct progress *file = landed(job, number);
    if (file && file->state == WAITING) {
        fprintf(stderr, "wordcount: %s: its words do not fit into the pool, skipped\n", job->list.paths[number - 1]);
        skip(job, number - 1, &job->sum.too_large);
    }
}

static void on_done(struct job *job, uint64_t number)
{
    struct progress *file = landed(job, number);
    job->sum.acknowledged++;
    if (!file)
        return;
    if (file->state != DONE) { /* also one that waits to be sent again: the dead worker had finished it after all */
        if (file->state == SKIPPED)
            job->sum.unreadable--; /* it was gone when it should have been read once more */
        else
            job->open--;
        file->state = DONE;
        job->sum.files++;
        job->sum.bytes += file->bytes;
    }
    if (job->kill_after && job->sum.files == job->kill_after) {
        job->kill_after = 0;
        job->killed_ns = now_ns();
        kill(job->transport->pid(job->victim), SIGKILL);
    }
}

static int on_down(struct job *job, unsigned dead)
{
    if (job->worker[dead].dead)
        return 0;
    if (job->killed_ns && job->sum.down_ns < 0 && dead == job->victim)
        job->sum.down_ns = now_ns() - job->killed_ns;
    job->worker[dead].dead = true;
    job->worker[dead].files = 0;
    job->worker[dead].bytes = 0;
    size_t sent_again = job->agains;
    for (size_t i = 0; i < job->next; i++)
        if (job->files[i].state == IN_FLIGHT && job->files[i].worker == dead) {
            job->files[i].state = WAITING;
            job->again[job->agains++] = i;
        }
    fprintf(stderr, "wordcount: worker %u is down; %zu of its files are not acknowledged and go to another\n", dead,
            job->agains - sent_again);
    for (unsigned w = 0; w < WC_WORKERS; w++)
        if (!job->worker[w].dead)
            return 0;
    fprintf(stderr, "wordcount: no worker is left\n");
    return -1;
}

/* Takes what events there are; waits for the first at most so long. */
static int events(struct job *job, int wait_ms)
{
    for (;;) {
        struct event event;
        int status = job->transport->event(wait_ms, &event);
        if (status < 0 || event.kind == EVENT_FAILED)
            return -1;
        if (event.kind == EVENT_NONE)
            return 0;
        if (event.kind == EVENT_DONE)
            on_done(job, event.number);
        else if (event.kind == EVENT_GIVEN_UP)
            on_given_up(job, event.number);
        else if (on_down(job, event.worker) != 0)
            return -1;
        wait_ms = 0;
    }
}

static struct load in_flight(const struct job *job)
{
    struct load all = { 0 };
    for (unsigned w = 0; w < WC_WORKERS; w++) {
        all.files += job->worker[w].files;
        all.bytes += job->worker[w].bytes;
    }
    return all;
}

/* The worker with the least to do, or -1: none may have one more file. The texts in flight take a quarter of the pool at most,
 * so that the tables always find room; a larger one goes alone. */
static int free_worker(const struct job *job, uint64_t bytes)
{
    int best = -1;
    uint64_t before = in_flight(job).bytes;
    if (before > 0 && before + bytes > job->options->pool_bytes / 4)
        return -1;
    for (int w = 0; w < WC_WORKERS; w++)
        if (!job->worker[w].dead && job->worker[w].files < job->options->window &&
            (best < 0 || job->worker[w].bytes < job->worker[best].bytes))
            best = w;
    return best;
}

static bool stalled(const struct job *job)
{
    if (now_ns() - job->last_ns < (int64_t)job->options->stall_s * 1000000000)
        return false;
    fprintf(stderr, "wordcount: nothing was acknowledged for %d s, %zu files are open\n", job->options->stall_s, job->open);
    return true;
}

/* Room for it, or 0 with none if the file was skipped; handles events while it waits, since room comes from those who end. */
static int make_room(struct job *job, size_t file, uint64_t bytes, struct wc_file **out)
{
    int64_t alone_ns = 0; /* since when nobody holds room that could come back */
    *out = NULL;
    for (;;) {
        bool may = free_worker(job, bytes) >= 0;
        int status = may ? job->transport->room(sizeof **out + bytes, out) : ROOM_LATER;
        if (status <= 0)
            return status;
        if (in_flight(job).files > 0)
            alone_ns = 0;
        else if (alone_ns == 0)
            alone_ns = now_ns();
        if (status == ROOM_NEVER || (alone_ns != 0 && now_ns() - alone_ns > ALONE_NS)) {
            fprintf(stderr, "wordcount: %s: larger than the pool, skipped\n", job->list.paths[file]);
            skip(job, file, &job->sum.too_large);
            return 0;
        }
        if (events(job, may ? 0 : 20) != 0 || interrupted() || stalled(job))
            return -1;
    }
}

/* Reads the file straight into the transport's room; false: there was nothing to hand over. */
static int read_file(struct job *job, size_t file, bool *ready)
{
    struct wc_file *room;
    uint64_t bytes;
    *ready = false;
    int fd = file_open(job->list.paths[file], &bytes);
    if (fd < 0) {
        skip(job, file, &job->sum.unreadable);
        return 0;
    }
    int status = make_room(job, file, bytes, &room);
    if (status != 0 || !room) {
        close(fd);
        return status;
    }
    int64_t got = file_read(fd, room->text, bytes);
    close(fd);
    if (got < 0 || file_is_compressed_text(room->text, (uint64_t)got)) {
        job->transport->drop();
        job->sum.compressed_bytes += got > 0 ? (uint64_t)got : 0;
        skip(job, file, got < 0 ? &job->sum.unreadable : &job->sum.compressed);
        return 0;
    }
    *room = (struct wc_file){
        .head = { .type = WC_FILE, .version = 1, .size = sizeof *room + (uint64_t)got },
        .number = file + 1,
        .bytes = (uint64_t)got,
        .count = job->options->count,
    };
    job->files[file].bytes = (uint64_t)got;
    *ready = true;
    return 0;
}

/* Reads a file and hands it to a worker, whichever is free by then. */
static int send_file(struct job *job, size_t file, bool again)
{
    struct progress *progress = &job->files[file];
    bool ready;
    int status = read_file(job, file, &ready);
    while (status == 0 && ready) {
        int worker = free_worker(job, progress->bytes);
        status = worker < 0 ? SEND_LATER : job->transport->send((unsigned)worker);
        if (status == SEND_LATER) /* a worker that is dead: its DOWN is on its way, and may be the last one's */
            status = interrupted() || stalled(job) ? -1 : events(job, 20);
        else if (status == 0) {
            progress->state = IN_FLIGHT;
            progress->worker = (uint8_t)worker;
            job->worker[worker].files++;
            job->worker[worker].bytes += progress->bytes;
            job->sum.sent++;
            job->sum.resent += again;
            return 0;
        }
    }
    if (ready)
        job->transport->drop();
    return status;
}

/* The file to send next, or -1: there is none, or no worker may have it now. */
static int64_t next_file(struct job *job, bool *again)
{
    while (job->agains > 0 && job->files[job->again[job->agains - 1]].state != WAITING)
        job->agains--; /* acknowledged meanwhile */
    *again = job->agains > 0;
    if (!*again && job->next == job->list.count)
        return -1;
    if (free_worker(job, 0) < 0)
        return -1;
    return (int64_t)(*again ? job->again[--job->agains] : job->next++);
}

/* Until every file is done or skipped. */
static int hand_over(struct job *job)
{
    job->last_ns = now_ns();
    while (job->open > 0) {
        bool again;
        int64_t file = next_file(job, &again);
        if (file >= 0 && send_file(job, (size_t)file, again) != 0)
            return -1;
        if (file >= 0 && again && job->agains == 0)
            fprintf(stderr, "wordcount: they are sent again\n");
        if (events(job, file < 0 ? 100 : 0) != 0 || interrupted() || (file < 0 && stalled(job)))
            return -1;
    }
    return 0;
}

static int prepare(struct job *job)
{
    if (files_walk(&job->list, job->options->roots) != 0) {
        fprintf(stderr, "wordcount: cannot walk the input: %s\n", strerror(errno));
        return -1;
    }
    job->files = calloc(job->list.count + 1, sizeof *job->files);
    job->again = calloc(job->list.count + 1, sizeof *job->again);
    if (!job->files || !job->again) {
        fprintf(stderr, "wordcount: no memory for %zu files\n", job->list.count);
        return -1;
    }
    fprintf(stderr, "wordcount: %zu files to count\n", job->list.count);
    job->open = job->list.count;
    job->sum = (struct wc_summary){
        .head = { .type = WC_SUMMARY, .version = 1, .size = sizeof job->sum },
        .compressed = job->list.compressed,
        .compressed_bytes = job->list.compressed_bytes,
        .unreadable = job->list.unreadable,
        .down_ns = -1,
    };
    choose_kill(job);
    return 0;
}

static void print_json(const struct job *job)
{
    const struct wc_summary *s = &job->sum;
    printf("{\"files\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"sent\": %llu, \"resent\": %llu, \"compressed\": %llu, "
           "\"unreadable\": %llu, \"too_large\": %llu, \"down_ms\": %.3f, \"copied\": %llu, \"piped\": %llu}\n",
           (unsigned long long)s->files, (unsigned long long)s->bytes, (double)s->elapsed_ns / 1e9, (unsigned long long)s->sent,
           (unsigned long long)s->resent, (unsigned long long)s->compressed, (unsigned long long)s->unreadable,
           (unsigned long long)s->too_large, s->down_ns < 0 ? -1.0 : (double)s->down_ns / 1e6, (unsigned long long)s->copied,
           (unsigned long long)s->piped);
}

int job_run(const struct options *options, const struct transport *transport)
{
    struct job job = { .options = options, .transport = transport };
    int status = transport->start(options);
    if (status == 0) {
        int64_t start = now_ns();
        status = prepare(&job);
        if (status == 0)
            status = hand_over(&job);
        job.sum.elapsed_ns = now_ns() - start;
    }
    if (status == 0)
        status = transport->end_workers();
    if (status == 0) {
        transport->counters(&job.sum);
        status = transport->end_report(&job.sum);
    }
    int left = transport->close(status != 0);
    if (status == 0 && options->json)
        print_json(&job);
    files_free(&job.list);
    free(job.files);
    free(job.again);
    if (interrupted())
        return 130;
    return status == 0 && left == 0 ? 0 : 1;
}
