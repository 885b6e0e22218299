/* Actors in processes of their own.
 *
 * The parent starts a program with one end of a socket pair, whose number is in CUE_SPAWN. The child's cue_system_start finds it,
 * reads the order (pool, kind, name, depth, argument), starts the actor and answers with its address, or with why there is none.
 * A child that ends before it has answered closes the socket by that: the parent sees the end of it, not a time-out.
 *
 *   parent  -> order, argument        child  -> answer
 *
 * Afterwards the two are processes like any others: messages go through the pool. The child watches the parent's party and ends
 * when that one has died; the parent waits for its children (children_look), so no zombies are left.
 */
#include "runtime_internal.h"

#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { ORDER_MAGIC = 0x64726f63, ORDER_VERSION = 1, UP_WITHIN_NS = 30, CMDLINE_MAX = 1 << 16, KIND_BYTES = 64, TRAIL_BYTES = 512 };

/* What goes through the socket: both ends are of the same machine. */
struct order_layout {
    uint32_t magic, version;
    uint32_t parent, depth;
    uint64_t arg_size;
    char pool[POOL_NAME_BYTES], kind[KIND_BYTES], name[POOL_NAME_BYTES];
};
struct answer_layout {
    uint32_t magic;
    int32_t status;
    cue_ref ref;
    char trail[TRAIL_BYTES];
};

struct spawn_order {
    int fd;
    struct order_layout said;
    void *arg;
};

/* ---- bytes through the socket ---- */

static bool put(int fd, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size) {
        ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        at += n;
        size -= (size_t)n;
    }
    return true;
}

/* 0; CUE_EDEAD: the other end has closed; CUE_ETIMEDOUT. */
static int get(int fd, void *bytes, size_t size, int64_t deadline)
{
    char *at = bytes;
    while (size) {
        int64_t left = deadline - clock_ns();
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (left <= 0)
            return CUE_ETIMEDOUT;
        if (poll(&p, 1, (int)(left / 1000000) + 1) <= 0)
            continue;
        ssize_t n = recv(fd, at, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return CUE_EDEAD;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

/* ---- the parent's side ---- */

/* Our own command line, as a program that is started again gets it. NULL: it cannot be read. */
static char **own_arguments(char **buffer)
{
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    char *bytes = fd < 0 ? NULL : malloc(CMDLINE_MAX + 1);
    ssize_t size = 0, n;
    while (bytes && size < CMDLINE_MAX && (n = read(fd, bytes + size, (size_t)(CMDLINE_MAX - size))) > 0)
        size += n;
    if (fd >= 0)
        close(fd);
    size_t count = 0, i = 0;
    for (ssize_t at = 0; at < size; at++)
        count += !bytes[at];
    char **argv = count ? calloc(count + 1, sizeof *argv) : NULL;
    if (!argv) {
        free(bytes);
        return NULL;
    }
    for (char *at = bytes; i < count; at += strlen(at) + 1)
        argv[i++] = at;
    *buffer = bytes;
    return argv;
}

static char **environment_with(char *spawn)
{
    size_t count = 0, i = 0;
    while (environ[count])
        count++;
    char **copy = calloc(count + 2, sizeof *copy);
    if (!copy)
        return NULL;
    for (size_t from = 0; from < count; from++)
        if (strncmp(environ[from], "CUE_SPAWN=", 10) != 0)
            copy[i++] = environ[from];
    copy[i] = spawn;
    return copy;
}

/* Starts the program with `fd` open. The scheduler's thread blocks all signals: the child does not. */
static int program_start(struct cue_system *sys, const char *path, char *const *argv, char *const *env, int fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int error = posix_spawn_file_actions_init(&actions);
    if (error)
        return error;
    error = posix_spawnattr_init(&attributes);
    if (!error) {
        posix_spawnattr_setsigmask(&attributes, &sys->signals);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        error = posix_spawn_file_actions_adddup2(&actions, fd, fd); /* to itself: it stays open over exec */
        if (!error)
            error = posix_spawnp(pid, path, &actions, &attributes, argv, env);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

static int child_start(struct cue_system *sys, const cue_actor_spec *spec, int fd, pid_t *pid)
{
    char spawn[32], *buffer = NULL;
    char **own = spec->argv ? NULL : own_arguments(&buffer);
    snprintf(spawn, sizeof spawn, "CUE_SPAWN=%d", fd);
    char **env = environment_with(spawn);
    int error = ENOMEM;
    const char *path = spec->argv ? spec->argv[0] : "/proc/self/exe";
    if (env && (own || spec->argv)) {
        /* posix_spawn does not write to the strings */
        char *const *argv = spec->argv ? (char *const *)(uintptr_t)spec->argv : own;
        error = program_start(sys, path, argv, env, fd, pid);
    }
    free(env);
    free(own);
    free(buffer);
    if (!error)
        return 0;
    errno = error;
    return trail_errno("cannot start \"%s\" for an actor of kind %s", path, spec->kind);
}

static int order_write(struct cue_system *sys, const cue_actor_spec *spec, struct order_layout *order)
{
    *order = (struct order_layout){
        .magic = ORDER_MAGIC, .version = ORDER_VERSION, .parent = sys->process, .depth = spec->depth, .arg_size = spec->arg_size
    };
    if (!spec->kind || strlen(spec->kind) >= sizeof order->kind)
        return trail(CUE_EINVAL, "cue_spawn: CUE_PROCESS needs a kind of at most %zu characters", sizeof order->kind - 1);
    if (!sys->pool->name[0])
        return trail(CUE_ENOSYS, "cue_spawn: a pool without a name cannot be handed to another process");
    if ((spec->arg_size && !spec->arg) || (spec->argv && !spec->argv[0]))
        return trail(CUE_EINVAL, "cue_spawn: %s", spec->argv ? "argv is empty" : "an argument at NULL");
    snprintf(order->pool, sizeof order->pool, "%s", sys->pool->name);
    snprintf(order->kind, sizeof order->kind, "%s", spec->kind);
    snprintf(order->name, sizeof order->name, "%s", spec->name ? spec->name : "");
    return 0;
}

/* What became of a child that did not answer. */
static int no_answer(int status, pid_t pid, const cue_actor_spec *spec)
{
    siginfo_t info = { .si_pid = 0 };
    if (status == CUE_ETIMEDOUT)
        return trail(status, "process %d, started for an actor of kind %s, did not come up within %d s: it was killed", (int)pid,
                     spec->kind, UP_WITHIN_NS);
    for (int tries = 0; tries < 200 && waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0; tries++)
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL); /* its socket closes a moment before it has ended */
    if (info.si_pid && info.si_code != CLD_EXITED)
        return trail(CUE_EDEAD, "process %d, started for an actor of kind %s, was ended by signal %d before it was up", (int)pid,
                     spec->kind, info.si_status);
    if (info.si_pid)
        return trail(
            CUE_EDEAD,
            "process %d, started for an actor of kind %s, ended with exit code %d before it was up: does its main call cue_system_start?",
            (int)pid, spec->kind, info.si_status);
    return trail(CUE_EDEAD, "process %d, started for an actor of kind %s, closed its socket and was killed", (int)pid, spec->kind);
}

static int converse(int fd, const struct order_layout *order, const cue_actor_spec *spec, pid_t pid, cue_ref *ref)
{
    struct answer_layout answer;
    int64_t deadline = deadline_of(CUE_SEC(UP_WITHIN_NS));
    if (!put(fd, order, sizeof *order) || !put(fd, spec->arg, spec->arg_size))
        return no_answer(CUE_EDEAD, pid, spec);
    int status = get(fd, &answer, sizeof answer, deadline);
    if (status || answer.magic != ORDER_MAGIC)
        return no_answer(status ? status : CUE_EDEAD, pid, spec);
    answer.trail[sizeof answer.trail - 1] = 0;
    *ref = answer.ref;
    if (answer.status == CUE_EEXIST)
        return answer.status;
    return answer.status < 0 ? trail(answer.status, "%s (in process %d)", answer.trail, (int)pid) : 0;
}

static void child_unlink(struct cue_system *sys, struct child *child)
{
    for (struct child **link = &sys->children; *link; link = &(*link)->next)
        if (*link == child) {
            *link = child->next;
            break;
        }
    free(child);
}

/* Killed, waited for, forgotten. */
static void child_undo(struct cue_system *sys, struct child *child)
{
    siginfo_t info;
    kill(child->pid, SIGKILL); /* not waited for yet, so it is still ours */
    while (waitid(P_PID, (id_t)child->pid, &info, WEXITED) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&sys->lock);
    sys->nchildren -= !child->ended;
    child_unlink(sys, child);
    pthread_mutex_unlock(&sys->lock);
}

/* In the list from its first moment on, but `busy`: nobody else waits for it before we have talked. */
static struct child *child_new(struct cue_system *sys, pid_t pid)
{
    struct child *child = calloc(1, sizeof *child);
    if (!child)
        return NULL;
    child->pid = pid;
    child->busy = true;
    pthread_mutex_lock(&sys->lock);
    child->next = sys->children;
    sys->children = child;
    sys->nchildren++;
    pthread_mutex_unlock(&sys->lock);
    return child;
}

int spawn_process(struct cue_system *sys, const cue_actor_spec *spec, cue_ref *out)
{
    struct order_layout order;
    struct peer *peer;
    cue_ref ref = { 0 };
    int pair[2];
    pid_t pid = 0;
    int status = order_write(sys, spec, &order);
    if (status)
        return status;
    if (atomic_load_explicit(&sys->stopping, acquire))
        return trail(CUE_ECLOSED, "the system is being stopped");
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return trail_errno("no socket pair for a child");
    status = child_start(sys, spec, pair[1], &pid);
    close(pair[1]);
    struct child *child = status ? NULL : child_new(sys, pid);
    if (!status && !child) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        status = trail(CUE_ENOMEM, "no process memory for a child");
    }
    if (!status)
        status = converse(pair[0], &order, spec, pid, &ref);
    close(pair[0]);
    if (status) {
        if (child)
            child_undo(sys, child);
        return status;
    }
    pthread_mutex_lock(&sys->lock);
    child->actor = ref;
    child->busy = false;
    if (peer_find(sys, ref.process, &peer)) /* it has gone already: nobody will be told of it any more */
        child->told = true;
    pthread_mutex_unlock(&sys->lock);
    if (out)
        *out = ref;
    return 0;
}

/* ---- children that end ---- */

static void child_look(struct cue_system *sys, struct child *child)
{
    siginfo_t info = { .si_pid = 0 };
    if (child->ended || child->busy)
        return;
    if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0)
        return;
    child->ended = true; /* also if somebody else has waited for it: then nothing is known of how it ended */
    if (info.si_pid && info.si_code == CLD_EXITED)
        child->code = info.si_status;
    else if (info.si_pid)
        child->signal = info.si_status;
    sys->nchildren--;
    sys->last_reason = child->signal ? CUE_EKILLED : child->code ? CUE_EFAILED : 0;
}

void children_look(struct cue_system *sys)
{
    for (struct child *child = sys->children, *next; child; child = next) {
        next = child->next;
        child_look(sys, child);
        if (child->ended && child->told)
            child_unlink(sys, child);
    }
}

bool child_told(struct cue_system *sys, int32_t pid, int32_t *signal, int32_t *code)
{
    for (struct child *child = sys->children; child; child = child->next) {
        if (child->pid != pid || child->told)
            continue;
        child_look(sys, child);
        child->told = true;
        *signal = child->signal;
        *code = child->code;
        bool ended = child->ended;
        if (ended)
            child_unlink(sys, child);
        return ended;
    }
    return false;
}

bool child_kill(struct cue_system *sys, cue_ref who)
{
    bool found = false;
    pthread_mutex_lock(&sys->lock);
    for (struct child *child = sys->children; child && !found; child = child->next)
        if (!child->busy && !child->ended && cue_ref_same(child->actor, who)) {
            kill(child->pid, SIGKILL); /* not waited for yet, so the pid is still its own */
            found = true;
        }
    pthread_mutex_unlock(&sys->lock);
    return found;
}

void children_end(struct cue_system *sys)
{
    pthread_mutex_lock(&sys->lock);
    for (struct child *child = sys->children; child; child = child->next)
        if (!child->ended)
            kill(child->pid, SIGKILL); /* as above */
    for (struct child *child = sys->children, *next; child; child = next) {
        siginfo_t info;
        next = child->next;
        while (!child->ended && waitid(P_PID, (id_t)child->pid, &info, WEXITED) < 0 && errno == EINTR)
            ;
        free(child);
    }
    sys->children = NULL;
    sys->nchildren = 0;
    pthread_mutex_unlock(&sys->lock);
}

/* ---- the child's side ---- */

int spawn_order_read(struct spawn_order **out)
{
    const char *number = secure_getenv("CUE_SPAWN");
    char *end = NULL;
    *out = NULL;
    if (!number)
        return 0;
    long fd = strtol(number, &end, 10);
    int type = 0;
    socklen_t size = sizeof type;
    bool ours =
        *number && !*end && fd > 2 && fd < INT32_MAX && getsockopt((int)fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
    if (!ours)
        return trail(CUE_EINVAL, "CUE_SPAWN=%s: this is the library's own, and no socket of a parent", number);
    unsetenv("CUE_SPAWN");
    fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    struct spawn_order *order = calloc(1, sizeof *order);
    if (!order)
        return trail(CUE_ENOMEM, "no process memory for an order");
    order->fd = (int)fd;
    int64_t deadline = deadline_of(CUE_SEC(UP_WITHIN_NS));
    int status = get(order->fd, &order->said, sizeof order->said, deadline);
    if (!status && (order->said.magic != ORDER_MAGIC || order->said.version != ORDER_VERSION))
        status = trail(CUE_EVERSION, "the process that started this one speaks another version of the library");
    if (!status && order->said.arg_size && !(order->arg = malloc(order->said.arg_size)))
        status = trail(CUE_ENOMEM, "no process memory for an argument of %llu bytes", (unsigned long long)order->said.arg_size);
    if (!status)
        status = get(order->fd, order->arg, order->said.arg_size, deadline);
    if (status) {
        spawn_order_refuse(order, status);
        return status;
    }
    order->said.pool[POOL_NAME_BYTES - 1] = order->said.kind[KIND_BYTES - 1] = order->said.name[POOL_NAME_BYTES - 1] = 0;
    *out = order;
    return 0;
}

const char *spawn_order_pool(const struct spawn_order *order)
{
    return order->said.pool;
}

static void order_answer(struct spawn_order *order, int status, cue_ref ref)
{
    struct answer_layout answer = { .magic = ORDER_MAGIC, .status = status, .ref = ref };
    if (status)
        snprintf(answer.trail, sizeof answer.trail, "%s", cue_trail());
    put(order->fd, &answer, sizeof answer);
    close(order->fd);
    free(order->arg);
    free(order);
}

void spawn_order_refuse(struct spawn_order *order, int status)
{
    order_answer(order, status, (cue_ref){ 0 });
}

/* On the pool's watching thread: who started us is no more. */
static void parent_died(void *arg, struct cue_pool *pool, unsigned slot, uint32_t epoch)
{
    (void)pool, (void)slot, (void)epoch;
    system_end_all(arg, CUE_EDEAD);
}

int spawn_order_follow(struct cue_system *sys, struct spawn_order *order)
{
    const cue_actor_spec *kind = NULL;
    cue_ref ref = { 0 };
    int status = 0;
    for (size_t i = 0; i < sys->nkinds; i++)
        if (strcmp(sys->kinds[i].kind, order->said.kind) == 0)
            kind = &sys->kinds[i];
    if (!kind)
        status = trail(CUE_ENOENT, "this program has no actors of kind %s", order->said.kind);
    if (kind) {
        cue_actor_spec spec = *kind;
        spec.name = order->said.name[0] ? order->said.name : NULL;
        spec.arg = order->arg;
        spec.arg_size = order->said.arg_size;
        spec.where = CUE_HERE;
        spec.depth = order->said.depth ? order->said.depth : kind->depth;
        unsigned slot = (order->said.parent & 0xff) - 1;
        uint64_t word = slot < sys->pool->max_parties ? atomic_load_explicit(&sys->pool->parties[slot].word, acquire) : 0;
        status = watch_party(sys->pool, slot, party_epoch(word), parent_died, sys, &sys->parent_death);
        if (!status)
            status = cue_spawn(sys, &spec, &ref);
    }
    order_answer(order, status, ref);
    return status;
}
