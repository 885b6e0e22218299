/* The word count over cuelight.
 *
 *   reader    this thread, adopted as an actor named "reader": hears DOWN of its workers, and the acknowledgements
 *   workers   actors in processes of their own; a file is a block that moves into a worker's mailbox
 *   report    no actor: the workers send it numbers over an ipc:// channel, it answers to shm://POOL/reader
 *
 * A worker that finds the table of its file reserved or published, because one that was killed had been that far, waits until
 * it is clear which: published means done, and its number is sent on; else the dead one's reservation has gone and it publishes
 * its own.
 */
#include "lane.h"
#include "job.h"
#include "worker.h"

#include <cuelight.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { END_S = 30, TABLE_WAIT_S = 5, SUMMARY_ID = 1, COPIED_EVERY = 1024, FLUSH_US = 2000 };

static int complain(int status, const char *what)
{
    fprintf(stderr, "wordcount: %s: %s (%s) %s\n", what, cue_status_text(status), cue_status_name(status), cue_trail());
    return -1;
}

/* ---- the worker's process ---- */

struct worker_arg {
    cue_ref reader;
    bool count;
    char ids[128]; /* URL of the report's channel */
};

struct worker_state {
    struct worker work;
    cue_ref reader;
    cue_channel *ids;
    uint64_t tables, copied;
};

/* What this process has copied; asking walks all records, so not at each table. */
static uint64_t copied_here(void)
{
    cue_pool_info info = { 0 };
    return cue_pool_stat(cue_system_pool(NULL), &info) == 0 ? info.copied : 0;
}

static int worker_start(void *state, const void *arg, size_t size)
{
    struct worker_state *w = state;
    const struct worker_arg *given = arg;
    if (size != sizeof *given || worker_init(&w->work) != 0)
        return CUE_ENOMEM;
    w->reader = given->reader;
    if (given->count) {
        int status = cue_channel_open(given->ids, CUE_SEND, &(cue_channel_opts){ .pool = cue_system_pool(NULL), .flush = CUE_US(FLUSH_US) },
                                      &w->ids);
        if (status != 0)
            return status;
    }
    return cue_tell(w->reader, &(cue_msg){ .type = WC_READY, .tag = (uint64_t)getpid() });
}

static void worker_end(void *state, int reason)
{
    struct worker_state *w = state;
    (void)reason;
    int status = cue_channel_close(w->ids);
    if (status == 0)
        status = cue_tell(w->reader, &(cue_msg){ .type = WC_COPIED, .key = (uint64_t)getpid(), .tag = copied_here() });
    if (status != 0)
        complain(status, "a worker's end");
    worker_free(&w->work);
}

/* Whether tables wait for the report, which will give their room back. */
static bool tables_wait(cue_pool *pool)
{
    uint64_t cursor = 0;
    cue_block_info info;
    while (cue_block_next(pool, WC_TABLE, &cursor, &info) == 1)
        if (info.state == CUE_BLOCK_KEPT)
            return true;
    return false;
}

/* 0: the table of this file is published, by us or by one before us. CUE_ENOMEM: with all tables merged there still is no room. */
static int publish_table(struct worker_state *w, const struct wc_file *file, size_t size)
{
    cue_pool *pool = cue_system_pool(NULL);
    int64_t limit = now_ns() + (int64_t)TABLE_WAIT_S * 1000000000;
    cue_block table;
    int status;
    do {
        status = cue_block_alloc(pool, size, &(cue_block_opts){ .type = WC_TABLE, .id = file->number, .wait = CUE_MS(200) }, &table);
        if (status == 0) {
            if (w->tables++ % COPIED_EVERY == 0)
                w->copied = copied_here();
            worker_write(&w->work, file, table.data);
            ((struct wc_table *)table.data)->copied = w->copied;
            status = cue_block_publish(&table, 0);
            cue_block_release(&table);
        }
        if (status == CUE_EEXIST && cue_block_find(pool, (cue_key){ .type = WC_TABLE, .id = file->number }, CUE_MS(50), NULL) == 0)
            status = 0;
        if (status == CUE_ENOMEM && tables_wait(pool))
            limit = now_ns() + (int64_t)TABLE_WAIT_S * 1000000000;
    } while ((status == CUE_EEXIST || status == CUE_ENOMEM) && now_ns() < limit);
    return status;
}

static int tell_reader(const struct worker_state *w, uint32_t type, uint64_t number)
{
    return cue_tell(w->reader, &(cue_msg){ .type = type, .tag = number });
}

static int worker_run(void *state, cue_msg *m)
{
    struct worker_state *w = state;
    int64_t seen = now_ns();
    const struct wc_file *file = m->data;
    if (m->type != WC_FILE || !worker_file_valid(file, m->size))
        return CUE_ETYPE;
    int status;
    if (!file->count) {
        status = tell_reader(w, WC_DONE, file->number);
    } else {
        size_t size = worker_count(&w->work, file, seen);
        status = size ? publish_table(w, file, size) : CUE_ENOMEM;
        if (status == 0)
            status = cue_channel_send(w->ids, &(cue_msg){ .type = WC_TABLE, .tag = file->number }, CUE_SEC(END_S));
        else if (status == CUE_ENOMEM || status == CUE_ETOOBIG)
            status = tell_reader(w, WC_GIVEN_UP, file->number);
    }
    w->work.idle_ns = now_ns();
    if (status != 0)
        complain(status, "a worker gives up");
    return status;
}

static const cue_actor_spec worker_kind = {
    .kind = "worker", .run = worker_run, .init = worker_start, .done = worker_end, .state_size = sizeof(struct worker_state)
};

int lane_worker(void)
{
    signal(SIGINT, SIG_IGN); /* Ctrl-C reaches everybody; the reader ends us, and its death does */
    cue_system *system;
    int status = cue_system_start(&(cue_system_opts){ .kinds = &worker_kind, .nkinds = 1 }, &system);
    if (status != CUE_CHILD)
        return 2; /* nobody started us for a worker */
    return cue_system_wait(system, CUE_FOREVER) == 0 ? 0 : 1;
}

/* ---- the reader's end ---- */

static struct {
    const struct options *options;
    cue_pool *pool;
    cue_system *system;
    cue_ref me;
    struct {
        cue_ref ref;
        uint64_t tag; /* of its DOWN */
        pid_t pid;
        uint64_t copied;
        bool dead;
    } worker[WC_WORKERS];
    pid_t report;
    char dir[128], ids[128]; /* of the socket; its URL */
    cue_msg acks;            /* the report's last message, as long as not all of its numbers were given out */
    size_t acks_out;         /* how many were */
    cue_block room;
    struct wc_file *private_room; /* where files are sent as bytes */
    uint64_t private_bytes;
} self;

/* A new pool. One of this name that nobody uses is what a run left that was killed as a whole: it goes. */
static int make_pool(const struct options *options)
{
    cue_pool_opts opts = { .size = options->pool_bytes, .flags = CUE_CREATE, .label = "reader" };
    int status = cue_pool_open(options->pool, &opts, &self.pool);
    if (status != CUE_EEXIST)
        return status == 0 ? 0 : complain(status, "no pool");
    cue_pool *old;
    cue_pool_info info = { .parties = 2 };
    status = cue_pool_open(options->pool, &(cue_pool_opts){ .flags = CUE_ATTACH }, &old);
    if (status == 0) {
        for (int tries = 0; info.parties > 1 && tries < 20 && !interrupted(); tries++) {
            if (tries > 0)
                poll(NULL, 0, 50);                 /* who was killed a moment ago may still be ending */
            cue_pool_check(old, true, NULL, NULL); /* the dead are no parties any more */
            if (cue_pool_stat(old, &info) != 0)
                break;
        }
        if (info.parties > 1) {
            cue_pool_close(old);
            fprintf(stderr, "wordcount: the pool %s is in use by others; take another with --pool\n", options->pool);
            return -1;
        }
        fprintf(stderr, "wordcount: cleaning up after a run that was killed: %llu blocks\n", (unsigned long long)info.blocks);
        status = cue_pool_destroy(old);
    }
    if (status != 0 && status != CUE_ENOENT)
        return complain(status, "what is left of a former run");
    status = cue_pool_open(options->pool, &opts, &self.pool);
    return status == 0 ? 0 : complain(status, "no pool");
}

/* A folder that only we may enter, for the socket of the report; the same for each run with this pool, so that none stays. */
static int make_dir(const struct options *options)
{
    const char *base = getenv("CUE_DIR"), *prefix = getenv("CUE_PREFIX");
    if (!base || !*base)
        base = getenv("XDG_RUNTIME_DIR");
    struct stat stat;
    int n = snprintf(self.dir, sizeof self.dir, "%s/%s.%s.%u", base && *base ? base : "/tmp", prefix ? prefix : "cuelight", options->pool,
                     (unsigned)geteuid());
    if (n < 0 || n >= 96) { /* the path of a socket is at most 107 bytes long */
        fprintf(stderr, "wordcount: %s: too long for a socket\n", self.dir);
        self.dir[0] = 0;
        return -1;
    }
    if ((mkdir(self.dir, 0700) != 0 && errno != EEXIST) || lstat(self.dir, &stat) != 0 || !S_ISDIR(stat.st_mode) ||
        stat.st_uid != geteuid() || (stat.st_mode & 077) != 0) {
        fprintf(stderr, "wordcount: %s: no folder of our own: %s\n", self.dir, strerror(errno));
        self.dir[0] = 0;
        return -1;
    }
    snprintf(self.ids, sizeof self.ids, "ipc://%.100s/ids", self.dir);
    return 0;
}

/* Waits for the WC_READY of a process that was started: its pid. */
static int await_ready(pid_t report, pid_t *pid)
{
    for (int64_t limit = now_ns() + (int64_t)END_S * 1000000000; now_ns() < limit && !interrupted();) {
        cue_msg m;
        int status = cue_receive(&m, CUE_MS(50));
        if (status == 0) {
            bool ready = m.type == WC_READY;
            if (ready && pid)
                *pid = (pid_t)m.tag;
            cue_msg_release(&m);
            if (ready)
                return 0;
        } else if (status != CUE_EEMPTY && status != CUE_EINTR)
            return complain(status, "receiving");
        if (report > 0 && waitpid(report, NULL, WNOHANG) == report) {
            self.report = 0;
            fprintf(stderr, "wordcount: the report did not start\n");
            return -1;
        }
    }
    if (!interrupted())
        fprintf(stderr, "wordcount: nobody is ready after %d s\n", END_S);
    return -1;
}

static int start_report(void)
{
    char pool[96], ids[160], done[128];
    snprintf(pool, sizeof pool, "--pool=%s", self.options->pool);
    snprintf(ids, sizeof ids, "--ids=%s", self.ids);
    snprintf(done, sizeof done, "--done=shm://%s/reader", self.options->pool);
    self.report = program_start(self.options->report, (char *[]){ pool, ids, done, NULL }, SIGTERM);
    return self.report > 0 ? await_ready(self.report, NULL) : -1;
}

static int start_worker(unsigned w)
{
    static const char *const argv[] = { "/proc/self/exe", "--worker", NULL };
    struct worker_arg arg = { .reader = self.me, .count = self.options->count };
    memcpy(arg.ids, self.ids, sizeof arg.ids);
    cue_actor_spec spec = { .kind = "worker", .where = CUE_PROCESS, .argv = argv, .arg = &arg, .arg_size = sizeof arg };
    int status = cue_spawn(self.system, &spec, &self.worker[w].ref);
    if (status == 0)
        status = cue_watch(self.worker[w].ref, &self.worker[w].tag);
    return status == 0 ? await_ready(0, &self.worker[w].pid) : complain(status, "no worker");
}

static int lane_start(const struct options *options)
{
    self.options = options;
    if (make_pool(options) != 0 || make_dir(options) != 0)
        return -1;
    cue_system_opts opts = { .pool = options->pool, .pool_opts = &(cue_pool_opts){ .flags = CUE_ATTACH, .label = "reader" } };
    int status = cue_system_start(&opts, &self.system);
    if (status == 0)
        status = cue_adopt(self.system, "reader", &self.me);
    if (status != 0)
        return complain(status, "no actors");
    if (options->report && start_report() != 0)
        return -1;
    for (unsigned w = 0; w < WC_WORKERS; w++)
        if (start_worker(w) != 0)
            return -1;
    return 0;
}

static int lane_room(uint64_t bytes, struct wc_file **out)
{
    *out = NULL;
    if (self.options->bytes) {
        if (bytes > self.private_bytes) {
            free(self.private_room);
            self.private_room = malloc(bytes);
            self.private_bytes = self.private_room ? bytes : 0;
        }
        *out = self.private_room;
        return *out ? 0 : ROOM_NEVER;
    }
    int status = cue_block_alloc(self.pool, bytes, &(cue_block_opts){ .type = WC_FILE, .wait = CUE_MS(20) }, &self.room);
    *out = self.room.data;
    if (status == CUE_ENOMEM || status == CUE_EINTR)
        return ROOM_LATER;
    if (status == CUE_ETOOBIG)
        return ROOM_NEVER;
    return status == 0 ? 0 : complain(status, "no room for a file");
}

static int lane_send(unsigned worker)
{
    cue_msg m = { .type = WC_FILE };
    int status = 0;
    if (self.options->bytes) {
        self.private_room->sent_ns = now_ns();
        m.data = self.private_room;
        m.size = self.private_room->head.size;
    } else {
        struct wc_file *file = self.room.data;
        if (file->head.size != self.room.size) /* it has become shorter since it was opened */
            status = cue_block_resize(&self.room, file->head.size);
        file->sent_ns = now_ns();
        m.move = &self.room;
    }
    if (status == 0)
        status = cue_tell(self.worker[worker].ref, &m);
    if (status == CUE_EDEAD || status == CUE_EFULL || status == CUE_ENOMEM)
        return SEND_LATER;
    return status == 0 ? 0 : complain(status, "a file could not be sent");
}

static void lane_drop(void)
{
    cue_block_release(&self.room);
}

static bool report_gone(void)
{
    if (self.report <= 0 || waitpid(self.report, NULL, WNOHANG) != self.report)
        return false;
    self.report = 0;
    fprintf(stderr, "wordcount: the report has ended before its time\n");
    return true;
}

/* The next number of an acknowledgement; false: there is none. */
static bool next_acknowledged(struct event *out)
{
    uint64_t number;
    if (self.acks.size - self.acks_out * sizeof number < sizeof number) {
        cue_msg_release(&self.acks);
        self.acks = (cue_msg){ 0 };
        self.acks_out = 0;
        return false;
    }
    memcpy(&number, (const char *)self.acks.data + self.acks_out++ * sizeof number, sizeof number);
    *out = (struct event){ .kind = EVENT_DONE, .number = number };
    return true;
}

static int lane_event(int wait_ms, struct event *out)
{
    cue_msg m;
    *out = (struct event){ 0 };
    if (next_acknowledged(out))
        return 0;
    int status = cue_receive(&m, CUE_MS(wait_ms));
    if (status == CUE_EEMPTY || status == CUE_EINTR) {
        if (wait_ms > 0 && report_gone())
            out->kind = EVENT_FAILED;
        return 0;
    }
    if (status != 0)
        return complain(status, "receiving");
    if (m.type == WC_ACKS) {
        self.acks = m;
        next_acknowledged(out);
        return 0;
    }
    if (m.type == WC_DONE || m.type == WC_GIVEN_UP)
        *out = (struct event){ .kind = m.type == WC_DONE ? EVENT_DONE : EVENT_GIVEN_UP, .number = m.tag };
    for (unsigned w = 0; w < WC_WORKERS && m.type == WC_COPIED; w++)
        if (m.key == (uint64_t)self.worker[w].pid)
            self.worker[w].copied = m.tag;
    for (unsigned w = 0; w < WC_WORKERS && m.type == CUE_DOWN; w++)
        if (m.tag == self.worker[w].tag) {
            const struct cue_down *down = m.data;
            if (down->reason != 0)
                fprintf(stderr, "wordcount: worker %u, process %d: %s\n", w, down->pid, cue_status_text(down->reason));
            self.worker[w].dead = true;
            *out = (struct event){ .kind = EVENT_DOWN, .worker = w };
        }
    cue_msg_release(&m);
    return out->kind == EVENT_NONE ? lane_event(0, out) : 0; /* not ours: the next one */
}

static pid_t lane_pid(unsigned worker)
{
    return self.worker[worker].pid;
}

/* What a killed worker and its substitute both made: acknowledged once, so nobody asks for the second. */
static void free_doubles(void)
{
    uint64_t cursor = 0;
    cue_block_info info;
    while (cue_block_next(self.pool, WC_TABLE, &cursor, &info) == 1) {
        cue_block table;
        if (cue_block_find(self.pool, (cue_key){ .type = WC_TABLE, .id = info.key_id }, CUE_NOW, &table) == 0 &&
            cue_block_free(&table) != 0)
            cue_block_release(&table); /* the report was faster */
    }
}

static int lane_end_workers(void)
{
    for (unsigned w = 0; w < WC_WORKERS; w++)
        if (!self.worker[w].dead)
            (void)cue_exit(self.worker[w].ref, 0); /* one that is dead has its DOWN on the way */
    for (int64_t limit = now_ns() + (int64_t)END_S * 1000000000; now_ns() < limit && !interrupted();) {
        bool all = true;
        for (unsigned w = 0; w < WC_WORKERS; w++)
            all = all && self.worker[w].dead;
        if (all) {
            free_doubles();
            return 0;
        }
        struct event event; /* late acknowledgements of doubles are of no interest any more */
        if (lane_event(100, &event) != 0 || event.kind == EVENT_FAILED)
            return -1;
    }
    if (!interrupted())
        fprintf(stderr, "wordcount: the workers do not end\n");
    return -1;
}

static int lane_end_report(const struct wc_summary *summary)
{
    if (!self.options->report)
        return 0;
    cue_block block;
    cue_channel *ids;
    int status = cue_block_alloc(self.pool, sizeof *summary, &(cue_block_opts){ .type = WC_SUMMARY, .id = SUMMARY_ID }, &block);
    if (status == 0) {
        memcpy(block.data, summary, sizeof *summary);
        status = cue_block_publish(&block, 0);
        if (status == 0)
            status = cue_channel_open(self.ids, CUE_SEND, &(cue_channel_opts){ .pool = self.pool }, &ids);
        if (status == 0) {
            status = cue_channel_send(ids, &(cue_msg){ .type = WC_SUMMARY, .tag = SUMMARY_ID }, CUE_SEC(END_S));
            int closed = cue_channel_close(ids);
            status = status == 0 ? closed : status;
        }
        if (status == 0) {
            status = program_end(self.report, END_S * 1000);
            self.report = 0;
            if (status != 0)
                fprintf(stderr, "wordcount: the report ended with %d\n", status);
        } else
            complain(status, "the summary");
        cue_block_free(&block);
    } else
        complain(status, "the summary");
    return status == 0 ? 0 : -1;
}

static void lane_counters(struct wc_summary *summary)
{
    cue_pool_info info;
    if (cue_pool_stat(self.pool, &info) == 0)
        summary->copied = info.copied;
    for (unsigned w = 0; w < WC_WORKERS; w++) {
        summary->worker[w].pid = (uint64_t)self.worker[w].pid;
        summary->worker[w].copied = self.worker[w].copied;
    }
}

static void say(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "wordcount: the pool: %s\n", fault);
}

/* Blocks of ours that are still in the pool, and faults that its check finds: 0, or something went wrong. */
static int left_over(void)
{
    int faults = cue_pool_check(self.pool, true, say, NULL), blocks = 0;
    uint64_t cursor = 0;
    cue_block_info info;
    while (cue_block_next(self.pool, 0, &cursor, &info) == 1)
        if (info.type < CUE_TYPE_SYSTEM) {
            blocks++;
            fprintf(stderr, "wordcount: left over: block %llu, type %u, %llu, state %u, owner %d\n", (unsigned long long)info.id, info.type,
                    (unsigned long long)info.key_id, info.state, info.owner_pid);
        }
    printf("left over         %d blocks, %d faults\n", blocks, faults);
    return blocks + (faults > 0 ? faults : 0);
}

static int lane_close(bool failed)
{
    int left = 0;
    if (self.report > 0) {
        kill(self.report, SIGTERM);
        program_end(self.report, 2000);
    }
    cue_block_release(&self.room);
    cue_msg_release(&self.acks);
    if (self.system)
        (void)cue_system_stop(self.system, CUE_SEC(failed ? 1 : END_S));
    if (self.pool) {
        if (!failed)
            left = left_over();
        cue_pool_destroy(self.pool);
    }
    if (self.dir[0]) {
        unlink(self.ids + strlen("ipc://"));
        rmdir(self.dir);
    }
    free(self.private_room);
    return left;
}

const struct transport lane_transport = {
    .start = lane_start,
    .room = lane_room,
    .send = lane_send,
    .drop = lane_drop,
    .event = lane_event,
    .pid = lane_pid,
    .end_workers = lane_end_workers,
    .end_report = lane_end_report,
    .counters = lane_counters,
    .close = lane_close,
};
