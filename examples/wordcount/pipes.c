/* The word count over pipes: what the job is without shared memory. The file is copied into a pipe and out of it, the table too;
 * everything else is the same code. Each worker has a pipe from the reader and one to the report, which has a third from the
 * reader for the summary; one pipe carries the numbers of finished files back, eight bytes each.
 */
#include "job.h"
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READER_END_MS = 30000 };

static struct {
    const struct options *options;
    struct {
        pid_t pid;
        int to, pidfd;
    } worker[WC_WORKERS];
    pid_t report;
    int summary, done; /* to the report; from it, or from the workers where there is none */
    struct wc_file *room;
    size_t room_bytes;
    uint64_t piped;
    uint64_t numbers[512]; /* read from `done`, not yet given out */
    size_t number, numbers_end;
} self;

static int write_all(int fd, const void *data, size_t bytes)
{
    for (const char *p = data; bytes > 0;) {
        ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            p += n;
            bytes -= (size_t)n;
        }
    }
    return 0;
}

/* 1: whole, 0: the other end was closed, -1: an error. */
static int read_all(int fd, void *data, size_t bytes)
{
    for (char *p = data; bytes > 0;) {
        ssize_t n = read(fd, p, bytes);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            p += n;
            bytes -= (size_t)n;
        }
    }
    return 1;
}

/* ---- the worker's process ---- */

static void *at_least(void **buffer, size_t *room, size_t bytes)
{
    if (bytes > *room) {
        void *bigger = realloc(*buffer, bytes);
        if (!bigger)
            return NULL;
        *buffer = bigger;
        *room = bytes;
    }
    return *buffer;
}

int pipes_worker(const char *fds)
{
    int in, out;
    struct worker w;
    if (sscanf(fds, "%d,%d", &in, &out) != 2 || worker_init(&w) != 0)
        return 1;
    signal(SIGINT, SIG_IGN); /* the reader ends us by closing the pipe */
    void *text = NULL, *result = NULL;
    size_t text_room = 0, result_room = 0;
    int status = 0;
    struct wc_head head;
    while ((status = read_all(in, &head, sizeof head)) > 0) {
        struct wc_file *file = head.size < sizeof *file ? NULL : at_least(&text, &text_room, head.size);
        if (!file)
            break;
        file->head = head;
        if (read_all(in, &file->head + 1, head.size - sizeof head) <= 0 || !worker_file_valid(file, head.size))
            break;
        int64_t seen = now_ns();
        int sent;
        if (!file->count) {
            sent = write_all(out, &file->number, sizeof file->number);
        } else {
            size_t size = worker_count(&w, file, seen);
            struct wc_table *table = size ? at_least(&result, &result_room, size) : NULL;
            if (!table)
                break;
            worker_write(&w, file, table);
            sent = write_all(out, table, size);
        }
        if (sent != 0)
            break;
        w.idle_ns = now_ns();
    }
    free(text);
    free(result);
    worker_free(&w);
    return status == 0 ? 0 : 1;
}

/* ---- the reader's end ---- */

static int pipe_make(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) == 0)
        return 0;
    fprintf(stderr, "wordcount: no pipe: %s\n", strerror(errno));
    return -1;
}

static void keep_over_exec(int fd, bool keep)
{
    fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC);
}

static int start_worker(unsigned w, int out)
{
    int in[2];
    if (pipe_make(in) != 0)
        return -1;
    char fds[32];
    snprintf(fds, sizeof fds, "%d,%d", in[0], out);
    char program[] = "/proc/self/exe", role[] = "--pipes-worker";
    keep_over_exec(in[0], true);
    keep_over_exec(out, true);
    self.worker[w].pid = program_start((char *[]){ program, role, NULL }, (char *[]){ fds, NULL }, SIGKILL);
    keep_over_exec(out, false);
    close(in[0]);
    self.worker[w].to = in[1];
    self.worker[w].pidfd = self.worker[w].pid > 0 ? (int)syscall(SYS_pidfd_open, self.worker[w].pid, 0) : -1;
    return self.worker[w].pidfd < 0 ? -1 : 0;
}

static int start_report(const int frames[WC_WORKERS + 1], int done)
{
    char list[16 * (WC_WORKERS + 1)] = "", finished[32];
    for (unsigned i = 0; i <= WC_WORKERS; i++) {
        keep_over_exec(frames[i], true);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%d", i ? "," : "--frames=", frames[i]);
    }
    keep_over_exec(done, true);
    snprintf(finished, sizeof finished, "--done-fd=%d", done);
    self.report = program_start(self.options->report, (char *[]){ list, finished, NULL }, SIGTERM);
    keep_over_exec(done, false);
    return self.report > 0 ? 0 : -1;
}

/* The report says that it is ready by the number 0. */
static int await_report(void)
{
    uint64_t ready;
    struct pollfd end = { .fd = self.done, .events = POLLIN };
    for (int64_t limit = now_ns() + INT64_C(60000000000); now_ns() < limit && !interrupted();)
        if (poll(&end, 1, 100) > 0)
            return read_all(self.done, &ready, sizeof ready) == 1 && ready == 0 ? 0 : -1;
    return -1;
}

static int pipes_start(const struct options *options)
{
    self.options = options;
    self.summary = self.done = -1;
    for (unsigned w = 0; w < WC_WORKERS; w++)
        self.worker[w].to = self.worker[w].pidfd = -1;
    int done[2], frames[WC_WORKERS + 1][2], read_ends[WC_WORKERS + 1];
    if (pipe_make(done) != 0)
        return -1;
    self.done = done[0];
    int status = 0;
    for (unsigned i = 0; i <= WC_WORKERS && options->report; i++) {
        if (pipe_make(frames[i]) != 0)
            return -1;
        read_ends[i] = frames[i][0];
    }
    if (options->report) { /* before the workers, which must not hold each other's ends */
        status = start_report(read_ends, done[1]);
        for (unsigned i = 0; i <= WC_WORKERS; i++)
            close(read_ends[i]);
        self.summary = frames[WC_WORKERS][1];
    }
    for (unsigned w = 0; w < WC_WORKERS && status == 0; w++)
        status = start_worker(w, options->report ? frames[w][1] : done[1]);
    for (unsigned w = 0; w < WC_WORKERS && options->report; w++)
        close(frames[w][1]);
    close(done[1]);
    if (status == 0 && options->report)
        status = await_report();
    if (status != 0)
        fprintf(stderr, "wordcount: the other processes did not start\n");
    return status;
}

static int pipes_room(uint64_t bytes, struct wc_file **out)
{
    void *room = self.room;
    *out = at_least(&room, &self.room_bytes, bytes);
    self.room = room;
    return *out ? 0 : ROOM_NEVER;
}

static int pipes_send(unsigned worker)
{
    self.room->sent_ns = now_ns();
    if (write_all(self.worker[worker].to, self.room, self.room->head.size) != 0)
        return errno == EPIPE ? SEND_LATER : -1;
    self.piped += self.room->head.size;
    return 0;
}

static void pipes_drop(void)
{
}

static int pipes_event(int wait_ms, struct event *out)
{
    *out = (struct event){ 0 };
    if (self.number < self.numbers_end) {
        *out = (struct event){ .kind = EVENT_DONE, .number = self.numbers[self.number++] };
        return 0;
    }
    struct pollfd ends[1 + WC_WORKERS] = { { .fd = self.done, .events = POLLIN } };
    for (unsigned w = 0; w < WC_WORKERS; w++)
        ends[1 + w] = (struct pollfd){ .fd = self.worker[w].pidfd, .events = POLLIN };
    if (poll(ends, 1 + WC_WORKERS, wait_ms) <= 0)
        return 0;
    if (ends[0].revents & POLLIN) {
        ssize_t n = read(self.done, self.numbers, sizeof self.numbers); /* writes of 8 bytes are whole */
        self.number = 0;
        self.numbers_end = n > 0 ? (size_t)n / sizeof self.numbers[0] : 0;
        return self.numbers_end ? pipes_event(0, out) : 0;
    }
    for (unsigned w = 0; w < WC_WORKERS; w++)
        if (ends[1 + w].revents) {
            close(self.worker[w].pidfd);
            self.worker[w].pidfd = -1;
            *out = (struct event){ .kind = EVENT_DOWN, .worker = w };
            return 0;
        }
    if (ends[0].revents & POLLHUP) {
        fprintf(stderr, "wordcount: the report has ended before its time\n");
        out->kind = EVENT_FAILED;
    }
    return 0;
}

static pid_t pipes_pid(unsigned worker)
{
    return self.worker[worker].pid;
}

static void shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int pipes_end_workers(void)
{
    for (unsigned w = 0; w < WC_WORKERS; w++)
        shut(&self.worker[w].to);
    for (unsigned w = 0; w < WC_WORKERS; w++) {
        program_end(self.worker[w].pid, READER_END_MS);
        self.worker[w].pid = 0;
    }
    return 0;
}

static int pipes_end_report(const struct wc_summary *summary)
{
    if (!self.options->report)
        return 0;
    int status = write_all(self.summary, summary, sizeof *summary);
    shut(&self.summary);
    if (status == 0)
        status = program_end(self.report, READER_END_MS);
    else
        program_end(self.report, 0);
    self.report = 0;
    return status ? -1 : 0;
}

static void pipes_counters(struct wc_summary *summary)
{
    summary->piped = self.piped;
}

static int pipes_close(bool failed)
{
    (void)failed;
    pipes_end_workers();
    if (self.report > 0) {
        kill(self.report, SIGTERM);
        program_end(self.report, 2000);
    }
    for (unsigned w = 0; w < WC_WORKERS; w++)
        shut(&self.worker[w].pidfd);
    shut(&self.summary);
    shut(&self.done);
    free(self.room);
    return 0;
}

const struct transport pipes_transport = {
    .start = pipes_start,
    .room = pipes_room,
    .send = pipes_send,
    .drop = pipes_drop,
    .event = pipes_event,
    .pid = pipes_pid,
    .end_workers = pipes_end_workers,
    .end_report = pipes_end_report,
    .counters = pipes_counters,
    .close = pipes_close,
};
