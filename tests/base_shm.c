/* Shared memory objects and sleeping on a word of them. */
#include "tests/harness.h"

#include "base/clock.h"
#include "base/futex.h"
#include "base/process.h"
#include "base/shm.h"
#include "base/trail.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <sys/stat.h>

enum { PAGE = 4096, MIB = 1 << 20 };

static const char *make(const char *what, uint64_t bytes, int *fd)
{
    static char path[SHM_PATH_MAX];
    shm_path(test_name(what), path);
    cr_assert(eq(int, shm_make(bytes, 0600, fd), 0), "%s", cue_trail());
    cr_assert(eq(int, shm_link(*fd, path), 0), "%s", cue_trail());
    return path;
}

static uint64_t taken(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 ? (uint64_t)info.st_blocks * 512 : UINT64_MAX;
}

Test(shm, names_are_1_to_63_plain_characters)
{
    char longest[65];
    memset(longest, 'n', sizeof longest);
    longest[63] = 0;
    static const char *const good[] = { "a", "shop", "A-Z_0.9", "...", ".a", "-" };
    static const char *const bad[] = { "",         ".",   "..",   "a/b", "/a", "../x", "a b", "a\n",
                                       "\xc3\xa4", "a%s", "a\tb", "a:b", "@a", "a[",   "a`",  "a{" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_expect(shm_name_valid(good[i]), "'%s'", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect(not(shm_name_valid(bad[i])), "'%s'", bad[i]);
    cr_expect(not(shm_name_valid(NULL)));
    cr_expect(shm_name_valid(longest));
    longest[63] = 'n';
    longest[64] = 0;
    cr_expect(not(shm_name_valid(longest)));
}

Test(shm, paths_begin_with_the_prefix_and_a_bad_prefix_is_ignored)
{
    char path[SHM_PATH_MAX];
    setenv("CUE_PREFIX", "other", 1);
    shm_path("shop", path);
    cr_assert(eq(str, path, "/dev/shm/other.shop"));
    setenv("CUE_PREFIX", "../../etc", 1);
    shm_path("shop", path);
    cr_assert(eq(str, path, "/dev/shm/cuelight.shop"));
    unsetenv("CUE_PREFIX");
    cr_assert(eq(str, (char *)shm_prefix(), "cuelight."));
}

Test(shm, an_object_is_seen_only_once_it_is_linked_and_a_name_is_taken_once)
{
    char path[SHM_PATH_MAX];
    int fd, other, again;
    shm_path(test_name("link"), path);
    cr_assert(eq(int, shm_make(PAGE, 0600, &fd), 0));
    cr_assert(eq(int, shm_open_path(path, true, &other), CUE_ENOENT));
    cr_assert(eq(int, other, -1));
    cr_assert(eq(int, shm_link(fd, path), 0));
    cr_assert(shm_same(fd, path));
    cr_assert(eq(int, shm_make(PAGE, 0600, &again), 0));
    cr_assert(eq(int, shm_link(again, path), CUE_EEXIST));
    cr_assert(not(shm_same(again, path)));
    cr_assert(eq(int, shm_open_path(path, true, &other), 0));
    cr_assert(eq(int, fcntl(other, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC));
    cr_assert(eq(int, unlink(path), 0));
    cr_assert(not(shm_same(fd, path)));
}

Test(shm, permissions_are_as_asked_whatever_the_umask)
{
    struct stat info;
    int fd;
    umask(0777);
    cr_assert(eq(int, shm_make(PAGE, 0640, &fd), 0));
    cr_assert(eq(int, fstat(fd, &info), 0));
    cr_assert(eq(int, (int)(info.st_mode & 07777), 0640));
    cr_assert(eq(i64, (int64_t)info.st_size, PAGE));
}

Test(shm, a_symbolic_link_is_not_followed)
{
    char path[SHM_PATH_MAX];
    int fd;
    shm_path(test_name("symlink"), path);
    cr_assert(eq(int, symlink("/etc/hostname", path), 0));
    int status = shm_open_path(path, false, &fd);
    unlink(path);
    cr_assert(lt(int, status, 0));
    cr_assert(ne(str, (char *)cue_trail(), ""));
}

/* Whoever may make names in /dev/shm could make others wait for ever. */
Test(shm, a_fifo_is_not_waited_for)
{
    char path[SHM_PATH_MAX];
    int fd;
    shm_path(test_name("fifo"), path);
    cr_assert(eq(int, mkfifo(path, 0600), 0));
    int status = shm_open_path(path, false, &fd); /* nobody has it open for writing */
    unlink(path);
    cr_assert(eq(int, status, 0));
    close(fd);
}

Test(shm, a_mapping_is_aligned_shared_and_readable_once_present)
{
    int fd;
    void *base, *second;
    const char *path = make("map", 3 * MIB, &fd);
    cr_assert(eq(int, shm_map(fd, 3 * MIB, true, &base), 0));
    cr_assert(eq(int, shm_map(fd, 3 * MIB, false, &second), 0));
    cr_assert(eq(u64, (uint64_t)(uintptr_t)base % (2 * MIB), 0));
    cr_assert(eq(u64, taken(fd), 0));
    cr_assert(eq(int, shm_populate(fd, base, MIB + 100, 5000), 0));
    cr_assert(eq(u64, taken(fd), 2 * PAGE));
    ((char *)base)[MIB + 200] = 42;
    cr_assert(eq(int, ((char *)second)[MIB + 200], 42));
    cr_assert(eq(int, shm_punch(base, MIB, 2 * PAGE), 0));
    cr_assert(eq(u64, taken(fd), 0));
    cr_assert(eq(int, shm_populate(fd, base, MIB, PAGE), 0));
    cr_assert(eq(int, ((char *)second)[MIB + 200], 0));
    shm_unmap(base, 3 * MIB);
    shm_unmap(second, 3 * MIB);
    unlink(path);
}

Test(shm, a_punch_takes_whole_pages_only)
{
    int fd;
    void *base;
    cr_assert(eq(int, shm_make(4 * PAGE, 0600, &fd), 0));
    cr_assert(eq(int, shm_map(fd, 4 * PAGE, true, &base), 0));
    cr_assert(eq(int, shm_populate(fd, base, 0, 4 * PAGE), 0));
    memset(base, 1, 4 * PAGE);
    cr_assert(eq(int, shm_punch(base, 100, 2 * PAGE), 0));
    cr_assert(eq(int, ((char *)base)[PAGE - 1], 1));
    cr_assert(eq(int, ((char *)base)[PAGE], 0));
    cr_assert(eq(int, ((char *)base)[2 * PAGE], 1));
    cr_assert(eq(int, shm_punch(base, 0, 100), 0));
    cr_assert(eq(int, ((char *)base)[0], 1));
}

Test(shm, a_full_file_system_is_an_error_and_keeps_what_was_there)
{
    int fd;
    void *base;
    if (!test_small_shm(MIB))
        cr_skip_test("no mount namespace to be had");
    cr_assert(eq(int, shm_make(8 * MIB, 0600, &fd), 0), "%s", cue_trail());
    cr_assert(eq(int, shm_map(fd, 8 * MIB, true, &base), 0), "%s", cue_trail());
    cr_assert(eq(int, shm_populate(fd, base, 0, MIB / 2), 0), "%s", cue_trail());
    memset(base, 7, MIB / 2);
    uint64_t before = taken(fd);
    errno = EXDEV;
    cr_assert(eq(int, shm_populate(fd, base, 0, 4 * MIB), CUE_ENOMEM));
    cr_assert(ne(ptr, strstr(cue_trail(), "/dev/shm"), NULL), "%s", cue_trail());
    cr_assert(eq(int, errno, EXDEV));
    cr_assert(eq(int, shm_punch(base, MIB / 2, 8 * MIB - MIB / 2), 0), "%s", cue_trail());
    cr_assert(eq(u64, taken(fd), before), "the caller cannot give back what did come");
    for (int i = 0; i < MIB / 2; i += PAGE)
        cr_assert(eq(int, ((char *)base)[i], 7), "at %d", i);
    cr_assert(eq(int, shm_populate(fd, base, MIB, MIB / 4), 0), "%s", cue_trail());
}

Test(shm, private_memory_is_zero_again_in_a_forked_child)
{
    char *memory = private_zero(8 * PAGE);
    cr_assert(ne(ptr, memory, NULL));
    cr_assert(eq(int, memory[5000], 0));
    memory[5000] = 9;
    pid_t child = fork();
    if (child == 0)
        _exit(memory[5000]);
    int status = -1;
    waitpid(child, &status, 0);
    cr_assert(eq(int, status, 0), "the child found something else");
    cr_assert(eq(int, memory[5000], 9));
    private_release(memory, 8 * PAGE);
}

Test(futex, does_not_sleep_when_the_word_differs)
{
    _Atomic uint32_t word = 5;
    int64_t before = clock_ns();
    cr_assert(eq(int, futex_wait(&word, 4, INT64_C(60000000000)), 0));
    cr_assert(lt(i64, clock_ns() - before, INT64_C(50000000000)));
}

Test(futex, ends_in_time_and_never_early)
{
    _Atomic uint32_t word = 5;
    int64_t before = clock_ns();
    errno = EXDEV;
    cr_assert(eq(int, futex_wait(&word, 5, 30000000), CUE_ETIMEDOUT));
    cr_assert(ge(i64, clock_ns() - before, 30000000));
    cr_assert(eq(int, futex_wait(&word, 5, 0), CUE_ETIMEDOUT));
    cr_assert(eq(int, futex_wait(&word, 5, -1), CUE_ETIMEDOUT));
    cr_assert(eq(int, errno, EXDEV));
    cr_assert(eq(int, futex_wake(&word, 1), 0));
}

Test(futex, is_woken_through_shared_memory_by_another_process)
{
    int fd;
    void *base;
    const char *path = make("futex", PAGE, &fd);
    cr_assert(eq(int, shm_map(fd, PAGE, true, &base), 0));
    cr_assert(eq(int, shm_populate(fd, base, 0, PAGE), 0));
    _Atomic uint32_t *word = base;
    struct cast other = cast_start("set_word", path);
    cr_assert(eq(int, cast_hear(&other, 10000), 'r'));
    cr_assert(cast_say(&other, 'g'));
    int64_t end = clock_ns() + INT64_C(20000000000);
    while (atomic_load_explicit(word, memory_order_acquire) != 7) { /* pairs with: role_set_word */
        cr_assert(lt(i64, clock_ns(), end));
        int status = futex_wait(word, 0, end - clock_ns());
        cr_assert(ne(int, status, CUE_ETIMEDOUT));
    }
    cr_assert(eq(int, cast_wait(&other, 10000), 0));
    unlink(path);
}

static void nothing(int number)
{
    (void)number;
}

Test(futex, a_signal_handler_ends_the_wait)
{
    _Atomic uint32_t word = 0;
    struct sigaction action = { .sa_handler = nothing, .sa_flags = SA_RESTART };
    sigaction(SIGALRM, &action, NULL);
    struct itimerspec soon = { .it_value.tv_nsec = 20000000, .it_interval.tv_nsec = 20000000 };
    timer_t timer;
    cr_assert(eq(int, timer_create(CLOCK_MONOTONIC, NULL, &timer), 0));
    cr_assert(eq(int, timer_settime(timer, 0, &soon, NULL), 0));
    int status = futex_wait(&word, 0, INT64_C(20000000000));
    timer_delete(timer);
    cr_assert(eq(int, status, CUE_EINTR));
}

Test(futex, the_low_half_of_a_word_holds_its_low_bits)
{
    _Atomic uint64_t word = UINT64_C(0x1122334455667788);
    cr_assert(eq(u32, atomic_load(futex_low_half(&word)), 0x55667788));
}

Test(process, a_host_id_can_be_chosen_and_is_never_zero)
{
    unsetenv("CUE_HOST_ID");
    uint64_t real = process_host();
    cr_assert(ne(u64, real, 0));
    cr_assert(eq(u64, process_host(), real));
    setenv("CUE_HOST_ID", "77", 1);
    cr_assert(eq(u64, process_host(), 77));
    setenv("CUE_HOST_ID", "0", 1);
    cr_assert(ne(u64, process_host(), 0));
    setenv("CUE_HOST_ID", "north", 1);
    uint64_t north = process_host();
    setenv("CUE_HOST_ID", "south", 1);
    cr_assert(ne(u64, process_host(), north));
}

Test(process, start_times_tell_processes_apart_and_a_pidfd_tells_the_end)
{
    struct cast other = cast_start("must");
    pid_t pid = other.pid;
    int fd = process_pidfd(pid);
    cr_assert(ge(int, fd, 0));
    cr_assert(ge(u64, process_start_time(pid), process_start_time(getpid())));
    struct pollfd p = { .fd = fd, .events = POLLIN };
    cr_assert(eq(int, poll(&p, 1, test_ms(10000)), 1));
    cr_assert(eq(int, cast_wait(&other, 10000), 5));
    cr_assert(eq(u64, process_start_time(pid), 0));
    cr_assert(eq(int, process_pidfd(pid), -1));
    close(fd);
}

Test(process, hashes_differ_in_every_bit_of_their_input)
{
    unsigned char bytes[33] = { 0 };
    for (size_t size = 0; size <= sizeof bytes; size++) {
        uint64_t plain = hash_bytes(bytes, size, 1);
        cr_assert(ne(u64, plain, hash_bytes(bytes, size, 2)));
        for (size_t bit = 0; bit < size * 8; bit++) {
            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
            uint64_t other = hash_bytes(bytes, size, 1);
            cr_assert(ne(u64, plain, other), "size %zu bit %zu", size, bit);
            bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        }
    }
    cr_assert(ne(u64, random_u64(), random_u64()));
}
