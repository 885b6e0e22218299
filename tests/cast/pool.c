/* Roles for tests/pool_*.c: parties that own, view, wait, and are killed. */
#include "tests/cast/roles.h"

#include <cuelight/pool.h>

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

int role_pool_owner(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    if (argc != 3 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    for (int i = 0; i < atoi(argv[2]); i++) {
        size_t size = i % 5 == 0 ? 300000 : i % 3 ? 100 : 5000;
        if (cue_block_alloc(pool, size, NULL, &b))
            return 2;
        memset(b.data, 1, b.size);
    }
    role_say('r');
    role_hear();
    return 0; /* without close: exit is one */
}

int role_pool_viewer(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    if (argc != 4 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    cue_key key = { .type = (uint32_t)atoi(argv[2]), .id = strtoull(argv[3], NULL, 10) };
    int status = cue_block_find(pool, key, CUE_SEC(20), &b);
    if (status)
        return 2;
    unsigned char value = *(unsigned char *)b.data;
    role_say('r');
    role_hear();
    for (size_t i = 0; i < b.size; i++)
        if (((unsigned char *)b.data)[i] != value)
            return 3;
    role_say('k');
    role_hear();
    cue_block_release(&b);
    cue_pool_close(pool);
    return 0;
}

int role_pool_publisher(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    if (argc != 4 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    cue_block_opts opts = { .type = (uint32_t)atoi(argv[2]), .id = strtoull(argv[3], NULL, 10) };
    if (cue_block_alloc(pool, 10000, &opts, &b))
        return 2;
    memset(b.data, 9, b.size);
    role_say('a');
    role_hear();
    if (cue_block_publish(&b, 0))
        return 3;
    role_say('p');
    role_hear();
    return 0;
}

int role_pool_waiter(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    if (argc != 3 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    role_say('r');
    if (cue_block_alloc(pool, strtoull(argv[2], NULL, 10), &(cue_block_opts){ .wait = CUE_SEC(20) }, &b))
        return 2;
    role_say('g');
    role_hear();
    return 0;
}

int role_pool_churner(int argc, char **argv)
{
    enum { HELD = 4096 };
    static cue_block held[HELD];
    cue_pool *pool;
    if (argc != 4 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    size_t size = strtoull(argv[2], NULL, 10);
    cue_block_opts opts = { .wait = { strtoll(argv[3], NULL, 10) * 1000 } };
    for (unsigned i = 0; i < HELD && cue_block_alloc(pool, size, NULL, &held[i]) == 0; i++)
        ; /* full, so that others wait from their beginning on */
    role_say('r');
    for (unsigned oldest = 0;; oldest = (oldest + 1) % HELD) {
        cue_block_release(&held[oldest]);
        int status = cue_block_alloc(pool, size, opts.wait.ns ? &opts : NULL, &held[oldest]);
        if (status && status != CUE_ENOMEM)
            return 2;
    }
}

/* Works until it is killed: allocates, fills, publishes, finds, views, frees; everything it finds must be whole. */
int role_pool_worker(int argc, char **argv)
{
    enum { HELD = 40, TYPE = 3, KEYS = 50 };
    cue_pool *pool;
    cue_block held[HELD] = { 0 };
    if (argc != 3 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    unsigned seed = (unsigned)atoi(argv[2]) * 2654435761u + 1;
    role_say('r');
    for (;;) {
        seed = seed * 1664525 + 1013904223;
        unsigned what = seed >> 24, which = (seed >> 8) % HELD;
        cue_block *b = &held[which];
        cue_block found;
        if (b->data && what % 4) {
            unsigned char *bytes = b->data;
            if (b->size && bytes[0] != bytes[b->size - 1])
                return 3;
            cue_block_release(b);
        } else if (b->data) {
            cue_block_free(b); /* published or not */
        } else if (what < 160) {
            size_t size = what < 100 ? 1 + (seed >> 4) % 3000 : 1 + (seed >> 4) % 200000;
            cue_block_opts opts = { .type = TYPE, .id = what % 8 ? 0 : 1 + (seed >> 12) % KEYS };
            if (opts.id && what & 8)
                opts.flags = CUE_REPLACE;
            int status = cue_block_alloc(pool, size, &opts, b);
            if (status && status != CUE_ENOMEM && status != CUE_EEXIST && status != CUE_EBUSY)
                return 4;
            if (status == 0) {
                memset(b->data, (int)(seed >> 16 & 0xff), size);
                status = opts.id ? cue_block_publish(b, 0) : 0;
                if (status && status != CUE_EBUSY)
                    return 6;
            }
        } else if (cue_block_find(pool, (cue_key){ .type = TYPE, .id = 1 + (seed >> 12) % KEYS }, CUE_NOW, &found) == 0) {
            unsigned char *bytes = found.data, first = bytes[0];
            for (size_t i = 0; i < found.size; i += 97)
                if (bytes[i] != first)
                    return 5;
            if (what & 1)
                cue_block_free(&found);
            else
                cue_block_release(&found);
        }
    }
}

int role_pool_daemon(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b, view;
    cue_pool_info info;
    if (argc != 2 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    if (cue_block_alloc(pool, 5000, NULL, &b) || cue_block_view(&b, 0, SIZE_MAX, &view))
        return 2;
    memset(b.data, 'b', b.size);
    cue_block_info row;
    int files[10];
    closefrom(CAST_FD + 1);
    for (int i = 0; i < 10; i++)
        if ((files[i] = dup(CAST_FD)) < 0) /* their numbers are other files now */
            return 3;
    char byte = 0;
    if (cue_block_stat(&b, &row) || cue_block_read(pool, row.id, 4999, &byte, 1) != 1 || byte != 'b')
        return 6;
    role_say('r');
    role_hear();
    for (int i = 0; i < 200; i++) {
        cue_block more;
        if (cue_block_alloc(pool, (size_t)i * 900, NULL, &more))
            return 4;
        memset(more.data, 1, more.size);
        cue_block_release(&more);
    }
    if (cue_pool_check(pool, true, NULL, NULL) || cue_pool_stat(pool, &info) || info.parties != 2 || info.blocks != 1)
        return 5;
    cue_block_release(&view);
    cue_block_release(&b);
    role_say('w');
    role_hear();
    cue_pool_close(pool);
    for (int i = 0; i < 10; i++)
        if (fcntl(files[i], F_GETFD) < 0) /* they are not ours to close */
            return 7;
    return 0;
}

int role_pool_execer(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    if (argc != 2 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    for (int i = 0; i < 10; i++)
        if (cue_block_alloc(pool, 5000, NULL, &b))
            return 2;
    execl("/proc/self/exe", "cast", "say_and_wait", (char *)NULL);
    return 3;
}

int role_say_and_wait(int argc, char **argv)
{
    (void)argc, (void)argv;
    role_say('r');
    role_hear();
    return 0;
}

int role_pool_in_namespace(int argc, char **argv)
{
    if (argc != 2)
        return 1;
    if (unshare(CLONE_NEWPID) && unshare(CLONE_NEWUSER | CLONE_NEWPID)) {
        role_say('n');
        return 0;
    }
    pid_t child = fork(); /* the first one in there: pid 1 */
    if (child == 0) {
        cue_pool *pool;
        cue_block b;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool) || cue_block_alloc(pool, 5000, NULL, &b))
            _exit(2);
        role_say('r');
        role_hear();
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

static int look_and_work(const char *name, uint64_t parties)
{
    cue_pool *pool;
    cue_pool_info info;
    cue_block b;
    if (cue_pool_open(name, &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 11;
    for (int i = 0; i < 20; i++) {
        if (cue_pool_check(pool, true, NULL, NULL) < 0) /* for its repairs: one is stopped in the middle of something */
            return 12;
        if (cue_block_alloc(pool, (size_t)i * 5000, &(cue_block_opts){ .wait = CUE_SEC(20) }, &b) || cue_block_release(&b))
            return 13;
    }
    if (cue_pool_stat(pool, &info) || info.parties != parties || info.reaped)
        return 14;
    cue_pool_close(pool);
    role_say('r');
    return 0;
}

int role_pool_later(int argc, char **argv)
{
    static const char offset[] = "monotonic 3600 0";
    if (argc != 3)
        return 1;
    int fd = unshare(CLONE_NEWTIME) == 0 ? open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC) : -1;
    if (fd < 0 || write(fd, offset, sizeof offset - 1) < 0) {
        role_say('n');
        return 0;
    }
    close(fd);
    pid_t child = fork(); /* the first one in there */
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(look_and_work(argv[1], strtoull(argv[2], NULL, 10)));
    }
    int status;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}

/* The descriptor comes over the socket pair, as between any two processes. */
int role_pool_by_fd(int argc, char **argv)
{
    (void)argc, (void)argv;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    cue_pool *pool, *again;
    cue_block b;
    int fd;
    if (recvmsg(CAST_FD, &message, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&message))
        return 1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    if (cue_pool_open(NULL, &(cue_pool_opts){ .fd = fd }, &pool) || cue_pool_open(NULL, &(cue_pool_opts){ .fd = fd }, &again))
        return 2;
    close(fd); /* the pool has its own */
    if (again != pool || cue_block_find(pool, (cue_key){ .type = 1, .id = 1 }, CUE_NOW, &b))
        return 3;
    if (strcmp(b.data, "handed over") != 0 || cue_block_free(&b))
        return 4;
    cue_pool_close(again);
    cue_pool_close(pool);
    return 0;
}

/* A forked child has a handle of its parent's: renewed as a view, or stale. It says what it got. */
int role_pool_forker(int argc, char **argv)
{
    cue_pool *pool;
    cue_block kept, gone;
    if (argc != 2 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool))
        return 1;
    if (cue_block_alloc(pool, 1000, NULL, &kept) || cue_block_alloc(pool, 1000, NULL, &gone))
        return 2;
    memset(kept.data, 4, 1000);
    pid_t child = fork();
    if (child == 0) {
        cue_block_info info;
        cue_block own;
        role_hear();
        if (cue_block_stat(&kept, &info) || *(char *)kept.data != 4)
            _exit(10);
        if (cue_block_resize(&kept, 5) != CUE_ENOTOWNER)
            _exit(11);
        if (cue_block_stat(&gone, &info) != CUE_ESTALE)
            _exit(12);
        if (cue_block_alloc(pool, 5000, NULL, &own) || cue_block_release(&own))
            _exit(13);
        cue_pool_info pools;
        if (cue_pool_stat(pool, &pools) || pools.parties != 3)
            _exit(15);
        cue_block_release(&kept);
        cue_pool_close(pool);
        _exit(0);
    }
    cue_block_free(&gone);
    role_say('f');
    int status;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
    if (*(char *)kept.data != 4 || cue_block_release(&kept))
        return 4;
    return 0;
}

int role_pool_taker(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    (void)argc, (void)argv;
    if (cue_pool_take(CAST_FD, NULL, CUE_SEC(20), &pool))
        return 1;
    if (cue_block_alloc(pool, 5000, &(cue_block_opts){ .name = "taken", .flags = CUE_KEEP }, &b))
        return 2;
    cue_block_release(&b);
    role_say('r');
    role_hear();
    cue_pool_close(pool);
    return 0;
}

int role_pool_in_file(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    if (argc != 2 || cue_pool_open("archive", &(cue_pool_opts){ .size = 4 << 20, .file = argv[1] }, &pool))
        return 1;
    for (int i = 0; i < 20; i++)
        if (cue_block_alloc(pool, (size_t)i * 3000, NULL, &b))
            return 2;
    if (cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 3, .id = 5, .flags = CUE_MINE }, &b))
        return 3;
    if (cue_block_alloc(pool, 70000, &(cue_block_opts){ .type = 3, .id = 4 }, &b))
        return 4;
    memset(b.data, 77, b.size);
    if (cue_block_publish(&b, 0))
        return 5;
    role_say('r');
    role_hear();
    return 0;
}

int role_pool_as_user(int argc, char **argv)
{
    cue_pool *pool;
    cue_block b;
    if (argc != 5 || setgroups(0, NULL) || setgid((gid_t)atoi(argv[3])) || setuid((uid_t)atoi(argv[2])))
        return 1;
    int status = cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH, .mode = (uint32_t)strtoul(argv[4], NULL, 8) }, &pool);
    if (status)
        return -status;
    if (cue_block_alloc(pool, 5000, NULL, &b) || cue_block_find(pool, (cue_key){ .name = "shared" }, CUE_NOW, &b))
        return 2;
    __atomic_fetch_add((char *)b.data, 1, __ATOMIC_SEQ_CST);
    role_say('r');
    role_hear();
    if (cue_pool_check(pool, true, NULL, NULL))
        return 3;
    role_say('k');
    role_hear();
    return 0;
}
