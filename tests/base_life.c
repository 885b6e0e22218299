/* Life locks: held exactly as long as the process lives, whatever it does to its descriptors. */
#include "tests/harness.h"

#include "base/life.h"
#include "base/shm.h"
#include "base/trail.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static char path[SHM_PATH_MAX];
static int fd;

static void make_object(void)
{
    shm_path(test_name("life"), path);
    cr_assert(eq(int, shm_make(4096, 0600, &fd), 0), "%s", cue_trail());
    cr_assert(eq(int, shm_link(fd, path), 0), "%s", cue_trail());
}

static void drop_object(void)
{
    close(fd);
    unlink(path);
}

TestSuite(life, .init = make_object, .fini = drop_object);

Test(life, a_byte_is_held_by_one_and_bytes_do_not_touch)
{
    struct life_lock first, second, third;
    cr_assert(not(life_held(fd, 6)));
    cr_assert(eq(int, life_hold(fd, 6, &first), 0), "%s", cue_trail());
    cr_assert(life_held(fd, 6));
    cr_assert(not(life_held(fd, 5)));
    cr_assert(not(life_held(fd, 7)));
    cr_assert(eq(int, life_hold(fd, 6, &second), CUE_EBUSY));
    cr_assert(eq(ptr, second.page, NULL));
    cr_assert(eq(int, life_hold(fd, 7, &third), 0));
    life_release(&first);
    life_release(&first);
    cr_assert(not(life_held(fd, 6)));
    cr_assert(life_held(fd, 7));
    life_release(&third);
    cr_assert(not(life_held(fd, 7)));
}

Test(life, holding_takes_no_descriptor)
{
    struct life_lock locks[100];
    int before = test_descriptors();
    for (unsigned i = 0; i < 100; i++)
        cr_assert(eq(int, life_hold(fd, i, &locks[i]), 0));
    cr_assert(eq(int, test_descriptors(), before));
    for (unsigned i = 0; i < 100; i++)
        life_release(&locks[i]);
}

Test(life, is_seen_by_another_process_and_ends_when_released)
{
    struct cast other = cast_start("hold_lock", path, "3");
    cr_assert(eq(int, cast_hear(&other, 10000), 'r'));
    cr_assert(life_held(fd, 3));
    cr_assert(cast_say(&other, 'g'));
    cr_assert(eq(int, cast_hear(&other, 10000), 'f'));
    cr_assert(not(life_held(fd, 3)));
    cast_say(&other, 'q');
    cr_assert(eq(int, cast_wait(&other, 10000), 0));
}

Test(life, survives_the_closing_of_every_descriptor)
{
    struct cast other = cast_start("shut_lock", path, "3");
    cr_assert(eq(int, cast_hear(&other, 10000), 'r'));
    cr_assert(life_held(fd, 3));
    cast_say(&other, 'q');
    cr_assert(eq(int, cast_wait(&other, 10000), 0));
    cr_assert(not(life_held(fd, 3)));
}

Test(life, sigkill_ends_it_no_later_than_the_process)
{
    for (int i = 0; i < 20; i++) {
        struct cast other = cast_start("hold_lock", path, "3");
        cr_assert(eq(int, cast_hear(&other, 10000), 'r'));
        cr_assert(life_held(fd, 3));
        cr_assert(eq(int, cast_kill(&other), CAST_SIGNALLED + SIGKILL));
        cr_assert(not(life_held(fd, 3)), "round %d", i);
    }
}

Test(life, a_stopped_process_lives)
{
    struct cast other = cast_start("hold_lock", path, "3");
    cr_assert(eq(int, cast_hear(&other, 10000), 'r'));
    cr_assert(cast_stop(&other));
    cr_assert(life_held(fd, 3));
    struct life_lock lock;
    cr_assert(eq(int, life_hold(fd, 3, &lock), CUE_EBUSY));
    cast_kill(&other);
    cr_assert(not(life_held(fd, 3)));
}

Test(life, a_forked_child_does_not_keep_it)
{
    struct cast parent = cast_start("fork_lock", path, "3");
    cr_assert(eq(int, cast_hear(&parent, 10000), 'c'));
    cr_assert(life_held(fd, 3));
    kill(parent.pid, SIGKILL);
    cr_assert(eq(int, waitpid(parent.pid, NULL, 0), parent.pid));
    cr_assert(not(life_held(fd, 3)));
    cr_assert(cast_say(&parent, 'q'));
    cr_assert(eq(int, cast_hear(&parent, 10000), 'd'), "the child should have lived");
    cr_assert(eq(int, cast_hear(&parent, 10000), -2));
    close(parent.talk);
}

Test(life, our_own_forked_child_may_take_another_byte)
{
    struct life_lock lock, childs;
    cr_assert(eq(int, life_hold(fd, 1, &lock), 0));
    life_before_fork();
    pid_t child = fork();
    life_after_fork();
    if (child == 0)
        _exit(life_hold(fd, 1, &childs) == CUE_EBUSY && life_hold(fd, 2, &childs) == 0 && life_held(fd, 2) ? 0 : 1);
    int status = -1;
    waitpid(child, &status, 0);
    cr_assert(eq(int, status, 0), "the child found something else");
    cr_assert(life_held(fd, 1));
    cr_assert(not(life_held(fd, 2)));
    life_release(&lock);
}

Test(life, a_plain_file_system_works_too)
{
    char file[TEST_PATH];
    struct life_lock lock;
    int plain = test_file(file);
    cr_assert(ge(int, plain, 0));
    unlink(file);
    int status = life_hold(plain, 0, &lock);
    cr_assert(eq(int, status, 0), "%s", cue_trail());
    cr_assert(life_held(plain, 0));
    life_release(&lock);
    close(plain);
}
