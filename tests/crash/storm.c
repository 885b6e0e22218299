/* A storm: processes that do everything at once in one pool, and are killed or stopped at random moments.
 *
 *   crash storm SECONDS [FILE]  in /dev/shm, or in that file
 *   crash worker POOL SEED FILE (itself; FILE may be empty)
 *
 * Each worker allocates, also waiting for room, frees, publishes under a key or a name, finds, also waiting for it, frees what others
 * published, sends and receives, trims, forks a child that works on with what it inherited, leaves and comes back, some with a quota;
 * it knows what its blocks hold and looks. Every few milliseconds one is killed, or stopped for a while. Now and then all are
 * killed: then the pool is reaped and checked, what was published is freed, and nothing may be left.
 *
 * A receiver sees each sender's messages in order and none twice. Ends with the counts; all of them must be above zero.
 */
#include "channels/mailbox_layout.h"
#include "crash.h"

#include <cuelight/channel.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORKERS = 5, HELD = 24, KEYS = 40, NAMES = 10, TYPE = 9, SIZE = 16 << 20, QUOTA = 5 << 20, SENDERS = 4096, ROUND = 150 };
#define PATTERN UINT64_C(0x5ca1ab1e0ddba11)

struct shared { /* counts of all workers, in a block of the pool's parent: none of the invariants depends on it */
    _Atomic uint64_t messages, operations, waits, children;
};

struct worker {
    cue_pool *pool;
    cue_channel *in, *out;
    cue_block held[HELD];
    uint64_t seed, me, sent;
    uint32_t last[SENDERS]; /* per sender: the last number that came */
    struct shared *counts;
    const char *name, *file;
};

static uint64_t dice(struct worker *w, uint64_t sides)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed % sides;
}

/* Anything that is not an ordinary answer ends the worker, and with it the storm. */
static int allowed(int status, const char *what)
{
    switch (status < 0 ? status : 0) {
    case 0:
    case CUE_ENOMEM:
    case CUE_EEXIST:
    case CUE_ENOENT:
    case CUE_ESTALE:
    case CUE_ENOTOWNER:
    case CUE_EFULL:
    case CUE_EEMPTY:
    case CUE_EBUSY:
    case CUE_ELIMIT:
        return status;
    default:
        printf("    storm: %s: %s: %s\n", what, cue_status_name(status), cue_trail());
        fflush(stdout);
        _exit(3);
    }
}

static void broken(const char *what)
{
    printf("    storm: %s\n", what);
    fflush(stdout);
    _exit(3);
}

static void sign(cue_block *b, uint64_t with)
{
    uint64_t word = PATTERN ^ with;
    if (b->size >= 16) {
        memcpy(b->data, &word, 8);
        memcpy((char *)b->data + b->size - 8, &word, 8);
    }
}

static bool is_signed(const cue_block *b, uint64_t with)
{
    uint64_t word = PATTERN ^ with;
    return b->size < 16 || (memcmp(b->data, &word, 8) == 0 && memcmp((const char *)b->data + b->size - 8, &word, 8) == 0);
}

static size_t some_size(struct worker *w)
{
    static const size_t steps[] = { 64, 300, 3000, 9000, 60000, 400000 };
    return dice(w, steps[dice(w, sizeof steps / sizeof *steps)]) + 16;
}

static void do_held(struct worker *w)
{
    cue_block *b = &w->held[dice(w, HELD)];
    uint64_t with = (uint64_t)(uintptr_t)b;
    if (b->data) {
        if (!is_signed(b, with))
            broken("a block of ours holds somebody else's bytes");
        if (allowed(cue_block_release(b), "release") != 0)
            broken("a block of ours was gone");
    } else if (allowed(cue_block_alloc(w->pool, some_size(w), NULL, b), "alloc") == 0) {
        sign(b, with);
    }
}

/* In the line of those who wait, now and then for much. */
static void do_wait(struct worker *w)
{
    cue_block b;
    size_t size = dice(w, 3) ? some_size(w) : SIZE / 4;
    if (allowed(cue_block_alloc(w->pool, size, &(cue_block_opts){ .wait = CUE_NS(100000 + dice(w, 3000000)) }, &b), "alloc with a wait") ==
        0)
        cue_block_release(&b);
    atomic_fetch_add(&w->counts->waits, 1);
}

struct name {
    char text[16];
};
static struct name name_of(uint64_t number)
{
    struct name name;
    snprintf(name.text, sizeof name.text, "named-%u", (unsigned)number);
    return name;
}

/* What a key is for a look-up, what stands in its block, and how it is asked for. */
struct some_key {
    struct name name;
    cue_key key;
    uint64_t with;
    cue_block_opts opts;
};
static void key_some(struct worker *w, struct some_key *out)
{
    uint64_t id = 1 + dice(w, KEYS + NAMES);
    out->with = id;
    out->name = name_of(id);
    out->key = id > KEYS ? (cue_key){ .name = out->name.text } : (cue_key){ .type = TYPE, .id = id };
    out->opts = (cue_block_opts){ .type = TYPE, .id = out->key.id, .name = out->key.name, .flags = dice(w, 2) ? CUE_REPLACE : 0 };
}

static void do_publish(struct worker *w)
{
    cue_block b;
    struct some_key key;
    key_some(w, &key);
    if (allowed(cue_block_alloc(w->pool, some_size(w), &key.opts, &b), "alloc with a key"))
        return;
    sign(&b, key.with);
    int status = allowed(cue_block_publish(&b, key.opts.flags || dice(w, 3) ? 0 : CUE_MINE), "publish");
    if (status || dice(w, 8)) /* now and then it stays with us until we are killed */
        cue_block_release(&b);
}

static void do_find(struct worker *w, cue_time wait)
{
    cue_block b;
    struct some_key key;
    key_some(w, &key);
    if (allowed(cue_block_find(w->pool, key.key, wait, &b), "find"))
        return;
    if (!is_signed(&b, key.with))
        broken("a block that was found under its key holds other bytes");
    if (dice(w, 2) == 0 && allowed(cue_block_free(&b), "free") == 0)
        return;
    if (b.data)
        cue_block_release(&b);
}

/* The child is a party of its own from its first call on; what it inherited it sees as long as it is there. It dies with us. */
static void do_fork(struct worker *w)
{
    cue_block b, *inherited = &w->held[dice(w, HELD)];
    cue_block_info info;
    int status;
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        return;
    if (child > 0) {
        waitpid(child, &status, 0);
        if (!WIFEXITED(status) || WEXITSTATUS(status))
            broken("a forked child found something wrong");
        atomic_fetch_add(&w->counts->children, 1);
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    if (inherited->data && allowed(cue_block_stat(inherited, &info), "stat of what was inherited") == 0 &&
        !is_signed(inherited, (uint64_t)(uintptr_t)inherited))
        broken("an inherited block holds other bytes");
    if (allowed(cue_block_alloc(w->pool, some_size(w), NULL, &b), "alloc in a forked child") == 0)
        cue_block_release(&b);
    do_find(w, CUE_NOW);
    _exit(0);
}

static void do_send(struct worker *w)
{
    uint64_t words[2] = { w->me, ++w->sent };
    cue_block b = { 0 };
    cue_msg m = { .type = 1, .data = words, .size = sizeof words };
    if (dice(w, 3) == 0 && allowed(cue_block_alloc(w->pool, some_size(w), NULL, &b), "alloc") == 0) {
        sign(&b, w->sent);
        m.move = &b;
    }
    allowed(cue_channel_send(w->out, &m, dice(w, 2) ? CUE_NOW : CUE_MS(1)), "send");
    if (b.data)
        cue_block_release(&b);
}

static void do_receive(struct worker *w)
{
    cue_msg m[4];
    char url[96];
    if (!w->in) {
        snprintf(url, sizeof url, "shm://%s/storm", w->name);
        if (allowed(cue_channel_open(url, CUE_RECV, NULL, &w->in), "open to receive"))
            return;
    }
    int got = allowed(cue_channel_recv_many(w->in, m, 4, dice(w, 2) ? CUE_NOW : CUE_MS(1)), "receive");
    for (int i = 0; i < got; i++) {
        uint64_t words[2];
        if (m[i].size != sizeof words || m[i].status)
            broken("a message came of another size than it was sent, or without its block");
        memcpy(words, m[i].data, sizeof words);
        uint32_t *last = &w->last[words[0] % SENDERS];
        if (words[1] <= *last)
            broken("a message came twice, or before an older one");
        *last = (uint32_t)words[1];
        if (m[i].block.data && !is_signed(&m[i].block, words[1]))
            broken("a block that came along holds other bytes");
        cue_msg_release(&m[i]);
    }
    if (got > 0)
        atomic_fetch_add(&w->counts->messages, (uint64_t)got);
    if (dice(w, 50) == 0) {
        cue_channel_close(w->in);
        w->in = NULL;
        memset(w->last, 0, sizeof w->last); /* another one received meanwhile, and we see its rest */
    }
}

static cue_pool_opts opts_of(const char *file)
{
    return (cue_pool_opts){ .size = SIZE, .flags = file ? 0 : CUE_PERSIST, .file = file };
}

static void go_in(struct worker *w)
{
    char url[96];
    int status;
    cue_pool_opts opts = opts_of(w->file);
    opts.quota = w->me % 3 ? 0 : QUOTA;
    do /* all slots may be the dead's for a moment */
        status = allowed(cue_pool_open(w->name, &opts, &w->pool), "open");
    while (status);
    snprintf(url, sizeof url, "shm://%s/storm?depth=64", w->name);
    do
        status = allowed(cue_channel_open(url, CUE_SEND, NULL, &w->out), "open to send");
    while (status);
}

static void go_out(struct worker *w)
{
    if (w->in)
        cue_channel_close(w->in);
    cue_channel_close(w->out);
    w->in = w->out = NULL;
    memset(w->last, 0, sizeof w->last);
    for (int i = 0; i < HELD; i++)
        if (w->held[i].data)
            cue_block_release(&w->held[i]);
    cue_pool_close(w->pool);
}

int storm_worker(const char *pool, const char *seed, const char *file)
{
    static struct worker w;
    cue_block counts;
    w.name = pool;
    w.file = *file ? file : NULL;
    w.me = strtoull(seed, NULL, 10);
    w.seed = w.me * 0x9e3779b97f4a7c15 + 1;
    go_in(&w);
    CUE_MUST(cue_block_find(w.pool, (cue_key){ .name = "counts" }, CUE_SEC(1), &counts));
    w.counts = counts.data; /* looked at as long as we live; a view that outlives every close */
    for (;;) {
        uint64_t what = dice(&w, 100), seldom = dice(&w, 400);
        if (seldom == 0)
            do_wait(&w);
        else if (seldom == 1)
            do_find(&w, CUE_NS(1000 + dice(&w, 2000000)));
        else if (seldom == 2 && dice(&w, 4) == 0)
            do_fork(&w);
        else if (what < 50)
            do_held(&w);
        else if (what < 62)
            do_publish(&w);
        else if (what < 75)
            do_find(&w, CUE_NOW);
        else if (what < 88)
            do_send(&w);
        else if (what < 99)
            do_receive(&w);
        else if (dice(&w, 10))
            allowed((int)(cue_pool_trim(w.pool) < 0), "trim");
        else {
            go_out(&w);
            go_in(&w);
        }
        atomic_fetch_add_explicit(&w.counts->operations, 1, memory_order_relaxed); /* a count for people */
    }
}

/* ---- the storm ---- */

static pid_t workers[WORKERS];
static uint64_t started;

static void start_worker(unsigned i, const char *pool, const char *file)
{
    char seed[24];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)++started);
    fflush(NULL);
    workers[i] = fork();
    if (workers[i] == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/proc/self/exe", "crash", "worker", pool, seed, file ? file : "", (char *)NULL);
        _exit(127);
    }
}

/* false: it had ended by itself, which it never should. */
static bool kill_worker(unsigned i)
{
    int status;
    kill(workers[i], SIGKILL);
    waitpid(workers[i], &status, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    printf("    storm: a worker ended by itself: status %#x\n", status);
    return false;
}

/* The children of the killed are ours now; they end with their parents, but not in the same instant. */
static void bury_children(void)
{
    while (waitpid(-1, NULL, 0) > 0)
        ;
}

static unsigned storm_faults;
static void storm_fault(void *arg, const char *fault)
{
    (void)arg;
    printf("    storm: %s\n", fault);
    storm_faults++;
}

/* Everybody is dead: what is left belongs to the pool, and after it is freed nothing is left. */
static void take_stock(cue_pool *pool)
{
    cue_block_info info;
    cue_block b;
    cue_channel *ch;
    cue_msg m;
    char url[96];
    bury_children();
    pool_reap(pool);
    cue_pool_check(pool, false, storm_fault, NULL);
    snprintf(url, sizeof url, "shm://%s/storm?depth=64", pool->name);
    int status = cue_channel_open(url, CUE_RECV, NULL, &ch);
    if (status)
        storm_fault(NULL, "the lane cannot be taken over");
    while (!status && cue_channel_recv(ch, &m, CUE_NOW) >= 0)
        cue_msg_release(&m);
    if (!status)
        cue_channel_close(ch);
    for (uint64_t id = 1; id <= KEYS + NAMES; id++) {
        struct name name = name_of(id);
        cue_key key = id > KEYS ? (cue_key){ .name = name.text } : (cue_key){ .type = TYPE, .id = id };
        if (cue_block_find(pool, key, CUE_NOW, &b) == 0) {
            if (!is_signed(&b, id))
                storm_fault(NULL, "a published block holds other bytes");
            if (cue_block_free(&b))
                storm_fault(NULL, "a published block cannot be freed");
        }
    }
    for (uint64_t cursor = 0; cue_block_next(pool, 0, &cursor, &info) > 0;)
        if (strcmp(info.name, "counts") != 0) {
            char text[160];
            snprintf(text, sizeof text, "left: block %llx, type %u, %llu bytes, state %u, owner %u, %u leases", (unsigned long long)info.id,
                     info.type, (unsigned long long)info.size, info.state, info.owner, info.leases);
            storm_fault(NULL, text);
        }
    status = cue_block_alloc(pool, SIZE / 2, NULL, &b);
    if (status)
        storm_fault(NULL, "half of the pool cannot be allocated in one piece");
    else
        cue_block_release(&b);
    cue_pool_check(pool, false, storm_fault, NULL);
}

/* A line a minute: how many so far, and whether they go on coming. */
struct progress {
    int64_t begin, last;
    unsigned kills;
};

static void progress_tell(struct progress *progress, unsigned kills)
{
    int64_t now = clock_ns(), since = now - progress->last;
    if (since < 60 * INT64_C(1000000000))
        return;
    printf("    storm: %lld min, %u kills, %.0f a second in the last minute\n", (long long)((now - progress->begin) / 60000000000), kills,
           (kills - progress->kills) * 1e9 / (double)since);
    fflush(stdout);
    progress->last = now;
    progress->kills = kills;
}

/* Until its time is up; on a starved machine a minute longer, until there is something to show. */
static bool goes_on(struct cue_pool *pool, struct shared *shared, int64_t end)
{
    int64_t now = clock_ns();
    bool enough = atomic_load(&shared->messages) && atomic_load(&shared->operations) && atomic_load(&shared->waits) &&
                  atomic_load(&shared->children) && atomic_load(&pool->header->reaped);
    return now < end || (!enough && now < end + CUE_SEC(60).ns);
}

int storm(double seconds, const char *file)
{
    char name[48];
    cue_pool *pool;
    cue_block counts;
    struct worker w = { .seed = 88172645463325252 };
    unsigned kills = 0, stops = 0, rounds = 0;
    bool good = true;
    snprintf(name, sizeof name, "storm-%d", (int)getpid());
    cue_pool_opts opts = opts_of(file);
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    CUE_MUST(cue_block_alloc(pool, sizeof(struct shared), &(cue_block_opts){ .name = "counts", .flags = CUE_KEEP | CUE_ZERO }, &counts));
    struct shared *shared = counts.data;
    struct progress progress = { clock_ns(), clock_ns(), 0 };
    int64_t end = progress.begin + (int64_t)(seconds * 1e9);
    for (unsigned i = 0; i < WORKERS; i++)
        start_worker(i, name, file);
    while (good && goes_on(pool, shared, end)) {
        unsigned i = (unsigned)dice(&w, WORKERS);
        usleep((useconds_t)(500 + dice(&w, 8000)));
        if (dice(&w, 4) == 0) { /* stopped: the others go on */
            kill(workers[i], SIGSTOP);
            usleep((useconds_t)dice(&w, 20000));
            stops++;
            if (dice(&w, 2)) {
                kill(workers[i], SIGCONT);
                continue;
            }
        }
        good = kill_worker(i);
        kills++;
        progress_tell(&progress, kills);
        if (kills % ROUND == 0 || !good) {
            for (unsigned k = 0; k < WORKERS; k++)
                if (k != i)
                    good = kill_worker(k) && good;
            take_stock(pool);
            rounds++;
            good = good && storm_faults == 0;
            for (unsigned k = 0; k < WORKERS && good; k++)
                start_worker(k, name, file);
        } else {
            start_worker(i, name, file);
        }
    }
    if (good) {
        for (unsigned k = 0; k < WORKERS; k++)
            good = kill_worker(k) && good;
        take_stock(pool);
        rounds++;
    }
    uint64_t messages = atomic_load(&shared->messages), operations = atomic_load(&shared->operations);
    uint64_t waits = atomic_load(&shared->waits), children = atomic_load(&shared->children);
    uint64_t reaped = atomic_load(&pool->header->reaped);
    good = good && storm_faults == 0 && kills && stops && messages && reaped && operations && waits && children;
    printf("%s storm of %.0f s%s: %u kills (%.0f an hour), %u stops, %llu messages, %llu other operations, %llu waits, %llu forked "
           "children, %llu parties reaped, %u times taken stock\n",
           good ? "ok  " : "FAIL", seconds, file ? " in a file" : "", kills, kills * 3600.0 / seconds, stops, (unsigned long long)messages,
           (unsigned long long)operations, (unsigned long long)waits, (unsigned long long)children, (unsigned long long)reaped, rounds);
    cue_pool_destroy(pool);
    return good ? 0 : 1;
}
