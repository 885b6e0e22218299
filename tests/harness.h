/* What the C suites share: helper processes, names, and a look at what was left behind.
 *
 * Another process is the program `cast` in a role: cast_start("holder", pool, "7") runs `cast holder POOL 7`, by fork and
 * exec, with SIGKILL when its parent dies, so that nothing outlives a test. What it found comes back as its exit code. In
 * between the two sides talk in single bytes over a socket pair (the helper's end is descriptor CAST_FD): a test waits for an
 * event, it does not sleep. Every wait is bounded, times TEST_SLOW (the sanitizer builds set it).
 *
 * Nothing here asserts, so it may be used anywhere; a test asserts what comes back:
 *
 *     struct cast holder = cast_start("holder", pool, "7");
 *     cr_assert(eq(int, cast_hear(&holder, 5000), 'r'));
 *     cast_kill(&holder);
 *     cr_assert(eq(int, test_leftovers(pool), 0));
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include "cast/roles.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CAST_ARGS_MAX = 16, CAST_SIGNALLED = 256, CAST_TIMED_OUT = -1 };
enum { TEST_PATH = 90 }; /* of temporary files and folders: short enough for sockets in them */

struct cast {
    pid_t pid; /* 0: ended and waited for */
    int talk;  /* our end of the socket pair */
};

static inline int64_t test_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* A wait of `ms` on this machine and build. */
static inline int test_ms(int ms)
{
    const char *slow = getenv("TEST_SLOW");
    int factor = slow ? atoi(slow) : 1;
    return ms * (factor > 0 ? factor : 1);
}

/* The same where something must come: from a second on it is a guard against hanging, and a starved machine needs long. */
static inline int test_guard_ms(int ms)
{
    return test_ms(ms >= 1000 && ms < 30000 ? 30000 : ms);
}

/* A name that no other test has: WHAT-PID-COUNT, in a buffer that stays. */
static inline const char *test_name(const char *what)
{
    static char names[8][64];
    static unsigned count;
    char *name = names[count++ % 8];
    snprintf(name, sizeof names[0], "%.40s-%d-%u", what, (int)getpid(), count);
    return name;
}

/* Starts the role with arguments (strings, ended by NULL: use the macro). pid -1: it could not be started. */
static inline struct cast cast_start_list(const char *role, ...)
{
    char *argv[CAST_ARGS_MAX + 3] = { (char *)"cast", (char *)(uintptr_t)role };
    int argc = 2, pair[2];
    va_list list;
    va_start(list, role);
    while (argc < CAST_ARGS_MAX + 2 && (argv[argc] = va_arg(list, char *)))
        argc++;
    va_end(list);
    argv[argc] = NULL;
    const char *program = getenv("CAST_PROGRAM");
#ifdef CAST_PROGRAM
    program = program ? program : CAST_PROGRAM;
#endif
    if (!program || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return (struct cast){ -1, -1 };
    pid_t parent = getpid(), pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(127);
        if (pair[1] == CAST_FD)
            fcntl(CAST_FD, F_SETFD, 0);
        else
            dup2(pair[1], CAST_FD);
        execv(program, argv);
        _exit(127);
    }
    close(pair[1]);
    return (struct cast){ pid, pair[0] };
}
#define cast_start(...) cast_start_list(__VA_ARGS__, (char *)NULL)

/* The next byte that the helper says; -1: none in `ms`, -2: it has ended. */
static inline int cast_hear(struct cast *c, int ms)
{
    unsigned char byte;
    struct pollfd p = { .fd = c->talk, .events = POLLIN };
    int64_t end = test_now_ms() + test_guard_ms(ms);
    for (;;) {
        int64_t left = end - test_now_ms();
        int ready = poll(&p, 1, left > 0 ? (int)left : 0);
        if (ready > 0)
            return recv(c->talk, &byte, 1, 0) == 1 ? byte : -2;
        if (ready == 0)
            return -1;
        if (errno != EINTR)
            return -2;
    }
}

static inline bool cast_say(struct cast *c, char byte)
{
    return send(c->talk, &byte, 1, MSG_NOSIGNAL) == 1;
}

/* Waits until it ends: its exit code, CAST_SIGNALLED + the signal, or CAST_TIMED_OUT after `ms` (and then kills it). */
static inline int cast_wait(struct cast *c, int ms)
{
    int status = 0;
    if (c->pid <= 0)
        return CAST_TIMED_OUT;
    int fd = (int)syscall(SYS_pidfd_open, c->pid, 0); /* valgrind has none: then a look every few milliseconds */
    struct pollfd p = { .fd = fd, .events = POLLIN };
    siginfo_t ended = { 0 };
    int64_t end = test_now_ms() + test_guard_ms(ms), left = 1;
    int ready = 0;
    while (ready <= 0 && left > 0) {
        left = end - test_now_ms();
        ready = poll(&p, 1, fd < 0 ? 5 : left > 0 ? (int)left : 0);
        if (fd < 0 && waitid(P_PID, (id_t)c->pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0)
            ready = ended.si_pid != 0;
    }
    if (fd >= 0)
        close(fd);
    if (ready <= 0)
        kill(c->pid, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        ;
    c->pid = 0;
    if (c->talk >= 0)
        close(c->talk);
    c->talk = -1;
    if (ready <= 0)
        return CAST_TIMED_OUT;
    return WIFSIGNALED(status) ? CAST_SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

/* SIGKILL, then waits until it is gone. */
static inline int cast_kill(struct cast *c)
{
    if (c->pid > 0)
        kill(c->pid, SIGKILL);
    return cast_wait(c, 10000);
}

/* SIGSTOP, and waits until it stands still. Says it again after a while: in some ten thousand times one was seen that did nothing. */
static inline bool cast_stop(struct cast *c)
{
    int status = 0;
    pid_t got = 0;
    for (int64_t end = test_now_ms() + test_guard_ms(10000); got == 0 && test_now_ms() < end;) {
        if (kill(c->pid, SIGSTOP) != 0)
            return false;
        for (int i = 0; i < 1000 && (got = waitpid(c->pid, &status, WUNTRACED | WNOHANG)) == 0; i++)
            nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
    }
    return got == c->pid && WIFSTOPPED(status);
}

static inline bool cast_continue(struct cast *c)
{
    return kill(c->pid, SIGCONT) == 0;
}

/* Waits until a thread of this process (gettid()) sleeps in the kernel. False: it does not. */
static inline bool test_until_asleep(pid_t thread)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    for (int64_t end = test_now_ms() + test_ms(30000); test_now_ms() < end; nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL)) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = read(fd, text, sizeof text - 1);
        close(fd);
        text[size > 0 ? size : 0] = 0;
        const char *state = strrchr(text, ')'); /* the name before it may hold anything */
        if (state && strncmp(state, ") S", 3) == 0)
            return true;
    }
    return false;
}

/* How many objects of our prefix in /dev/shm have `part` in their name ("": any); each is printed. */
static inline int test_leftovers(const char *part)
{
    const char *prefix = getenv("CUE_PREFIX");
    char begin[80];
    int count = 0;
    snprintf(begin, sizeof begin, "%s.", prefix && *prefix ? prefix : "cuelight");
    DIR *folder = opendir("/dev/shm");
    for (struct dirent *entry; folder && (entry = readdir(folder));)
        if (strncmp(entry->d_name, begin, strlen(begin)) == 0 && strstr(entry->d_name + strlen(begin), part)) {
            fprintf(stderr, "left in /dev/shm: %s\n", entry->d_name);
            count++;
        }
    if (folder)
        closedir(folder);
    return count;
}

/* Where temporary files go: $TMPDIR, or /tmp if there is none or its path is too long for sockets. */
static inline const char *test_tmp(void)
{
    const char *where = getenv("TMPDIR");
    return where && *where && strlen(where) <= TEST_PATH - sizeof "/cuetest-XXXXXX" ? where : "/tmp";
}

static inline void test_template(char path[TEST_PATH])
{
    snprintf(path, TEST_PATH, "%.*s/cuetest-XXXXXX", (int)(TEST_PATH - sizeof "/cuetest-XXXXXX"), test_tmp());
}

/* A new, empty folder, that the test removes. False: it cannot be made. */
static inline bool test_folder(char path[TEST_PATH])
{
    test_template(path);
    return mkdtemp(path) != NULL;
}

/* A new, empty file, that the test removes: its descriptor, or -1. */
static inline int test_file(char path[TEST_PATH])
{
    test_template(path);
    return mkostemp(path, O_CLOEXEC);
}

/* A TCP port of the loopback that is this process's until it ends; -1: none. Below those that the kernel gives to whoever
 * connects; a name among the abstract sockets tells the tests that run at the same time that it is taken. */
static inline int test_port(void)
{
    static unsigned next;
    struct sockaddr_un claim = { .sun_family = AF_UNIX };
    for (unsigned tries = 0; tries < 10000; tries++) {
        unsigned port = 20000 + ((unsigned)getpid() * 7 + next++) % 10000;
        struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port) };
        int length = snprintf(claim.sun_path + 1, sizeof claim.sun_path - 1, "cuetest-port-%u", port);
        int mine = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1) + (socklen_t)length;
        bool ours = bind(mine, (struct sockaddr *)&claim, size) == 0 && bind(probe, (struct sockaddr *)&at, sizeof at) == 0;
        close(probe);
        if (ours)
            return (int)port;
        close(mine);
    }
    return -1;
}

/* How many descriptors this process has open. */
static inline int test_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder && readdir(folder))
        count++;
    if (folder)
        closedir(folder);
    return count - 3; /* ".", ".." and the folder's own */
}

/* Gives this process a /dev/shm of its own of so many bytes, in a mount namespace of its own. False: not allowed to (the test
 * is then skipped). Before the first call to the library. */
static inline bool test_small_shm(size_t bytes)
{
    char options[40];
    snprintf(options, sizeof options, "size=%zu,mode=1777", bytes);
    if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
        return false;
    return mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 && mount("tmpfs", "/dev/shm", "tmpfs", 0, options) == 0;
}

/* Tests that are run by hand share no names with programs that are at work. */
__attribute__((constructor)) static void test_set_prefix(void)
{
    setenv("CUE_PREFIX", "cuetest", 0);
}

#endif
