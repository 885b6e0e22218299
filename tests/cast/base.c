/* Roles for tests/base_*.c: processes that hold life locks and end in different ways. */
#include "tests/cast/roles.h"

#include "base/futex.h"
#include "base/life.h"
#include "base/shm.h"
#include "base/trail.h"

#include <stdlib.h>
#include <unistd.h>

static int hold(char **argv, struct life_lock *lock, int *fd)
{
    if (shm_open_path(argv[1], true, fd))
        return 2;
    return life_hold(*fd, (unsigned)atoi(argv[2]), lock) ? 3 : 0;
}

int role_hold_lock(int argc, char **argv)
{
    struct life_lock lock;
    int fd, failed = argc != 3 ? 1 : hold(argv, &lock, &fd);
    if (failed)
        return failed;
    role_say('r');
    role_hear();
    life_release(&lock);
    role_say('f');
    role_hear();
    return 0;
}

int role_shut_lock(int argc, char **argv)
{
    struct life_lock lock;
    int fd, failed = argc != 3 ? 1 : hold(argv, &lock, &fd);
    if (failed)
        return failed;
    closefrom(CAST_FD + 1);
    role_say('r');
    role_hear();
    return 0;
}

int role_fork_lock(int argc, char **argv)
{
    struct life_lock lock;
    int fd, failed = argc != 3 ? 1 : hold(argv, &lock, &fd);
    if (failed)
        return failed;
    pid_t child = fork();
    if (child == 0) {
        role_say('c');
        role_hear();
        role_say('d');
        _exit(0);
    }
    for (;;)
        pause();
}

int role_set_word(int argc, char **argv)
{
    int fd;
    void *base;
    if (argc != 2 || shm_open_path(argv[1], true, &fd) || shm_map(fd, 4096, true, &base))
        return 1;
    role_say('r');
    role_hear();
    _Atomic uint32_t *word = base;
    atomic_store_explicit(word, 7, memory_order_release); /* pairs with: the test's acquire load after futex_wait */
    futex_wake(word, 1);
    shm_unmap(base, 4096);
    return 0;
}

int role_must(int argc, char **argv)
{
    return CUE_MUST(argc > 1 ? trail(CUE_ENOENT, "no pool called %s", argv[1]) : 5);
}
