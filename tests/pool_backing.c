/* What a pool lies on, and who may have it: huge pages, NUMA nodes, files over a reboot, sockets between processes, observers. */
#include "tests/harness.h"

#include "pool/pool_internal.h"

#include <cuelight/pool.h>

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { MIB = 1 << 20, HUGE_PAGES = 16 };

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

/* Blocks of all sizes are made, filled, kept apart, freed; then all of the pool is there. */
static void work_in(cue_pool *pool, size_t size)
{
    cue_block b[60];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < 60; i++) {
            CUE_MUST(cue_block_alloc(pool, 1 + i * i * 20, NULL, &b[i]));
            memset(b[i].data, (int)i, b[i].size);
        }
        for (size_t i = 0; i < 60; i++) {
            for (size_t k = 0; k < b[i].size; k++)
                cr_assert(eq(int, ((unsigned char *)b[i].data)[k], (int)i));
            CUE_MUST(cue_block_release(&b[i]));
        }
        CUE_MUST(cue_pool_trim(pool) < 0);
    }
    CUE_MUST(cue_block_alloc(pool, size, NULL, &b[0]));
    memset(b[0].data, 1, size);
    CUE_MUST(cue_block_release(&b[0]));
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
}

/* Root lets the kernel find huge pages while a test needs them: only a bound moves, so nothing is taken from others. Tests run side by
 * side, so each adds what it takes off again. */
static void huge_pages_may_be(long more)
{
    char text[32] = "";
    int fd = open("/proc/sys/vm/nr_overcommit_hugepages", O_RDWR | O_CLOEXEC);
    if (fd < 0 || flock(fd, LOCK_EX) || pread(fd, text, sizeof text - 1, 0) <= 0) {
        close(fd);
        return; /* then there are as many as there are */
    }
    int length = snprintf(text, sizeof text, "%ld\n", strtol(text, NULL, 10) + more);
    if (pwrite(fd, text, (size_t)length, 0) != length)
        fprintf(stderr, "huge pages: %s\n", strerror(errno));
    close(fd);
}

static void want_huge_pages(void)
{
    huge_pages_may_be(HUGE_PAGES);
}

static void huge_pages_back(void)
{
    huge_pages_may_be(-HUGE_PAGES);
}

Test(backing, huge_pages_or_a_word_why_not, .init = want_huge_pages, .fini = huge_pages_back)
{
    cue_pool *pool, *plain;
    int status = cue_pool_open(NULL, &(cue_pool_opts){ .size = 4 * MIB, .flags = CUE_MEMFD | CUE_HUGE }, &pool);
    if (status) {
        cr_assert(status == CUE_ENOMEM || status == CUE_ENOSYS, "%s", cue_status_name(status));
        cr_assert(ne(str, (char *)cue_trail(), ""));
        cr_skip_test("no free huge pages (vm.nr_hugepages): %s", cue_trail());
    }
    struct stat info;
    cr_assert(eq(int, fstat(cue_pool_fd(pool), &info), 0));
    cr_assert(eq(i64, info.st_blksize, 2 * MIB));
    work_in(pool, 4 * MIB);
    struct cast owner = cast_start("pool_taker");
    CUE_MUST(cue_pool_hand(pool, owner.talk));
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'), "another party lives in it");
    cue_pool_info counts;
    CUE_MUST(cue_pool_stat(pool, &counts));
    cr_assert(eq(u64, counts.parties, 2));
    cast_kill(&owner);
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    /* as many as there are: then it is ENOMEM, never a signal */
    status = cue_pool_open(NULL, &(cue_pool_opts){ .size = (uint64_t)64 << 30, .flags = CUE_MEMFD | CUE_HUGE }, &plain);
    if (!status) {
        cue_block b;
        status = cue_block_alloc(plain, (size_t)60 << 30, NULL, &b);
        cr_assert(eq(int, status, CUE_ENOMEM));
        cue_pool_close(plain);
    }
    cue_pool_close(pool);
}

Test(backing, huge_pages_by_a_file_want_a_hugetlbfs, .init = want_huge_pages, .fini = huge_pages_back)
{
    cue_pool *pool;
    char path[200];
    snprintf(path, sizeof path, "%s/%s.pool", test_tmp(), test_name("huge"));
    cr_assert(eq(int, cue_pool_open("h", &(cue_pool_opts){ .size = MIB, .flags = CUE_HUGE, .file = path }, &pool), CUE_ENOSYS));
    cr_assert(ne(ptr, strstr(cue_trail(), "hugetlbfs"), NULL));
    cr_assert(lt(int, access(path, F_OK), 0));
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("none", "/mnt", "hugetlbfs", 0, "pagesize=2M"))
        cr_skip_test("may not mount a hugetlbfs");
    int status = cue_pool_open("h", &(cue_pool_opts){ .size = 4 * MIB, .flags = CUE_HUGE, .file = "/mnt/pool" }, &pool);
    if (status == CUE_ENOMEM || status == CUE_ENOSYS || status == CUE_ESYS)
        cr_skip_test("no free huge pages (vm.nr_hugepages), or none without a name: %s", cue_trail());
    CUE_MUST(status);
    work_in(pool, 4 * MIB);
    cue_pool_close(pool);
    CUE_MUST(cue_pool_open("h", &(cue_pool_opts){ .flags = CUE_ATTACH, .file = "/mnt/pool" }, &pool));
    work_in(pool, 4 * MIB);
    CUE_MUST(cue_pool_destroy(pool));
    cr_assert(lt(int, access("/mnt/pool", F_OK), 0));
}

Test(backing, node_0_is_there_and_others_say_so_if_not)
{
    cue_pool *pool;
    const char *name = test_name("numa");
    int status = cue_pool_open(name, &(cue_pool_opts){ .size = 4 * MIB, .numa = 1 }, &pool);
    if (status == CUE_ENOSYS || status == CUE_EPERM)
        cr_skip_test("no NUMA calls here: %s", cue_trail());
    CUE_MUST(status);
    work_in(pool, 4 * MIB);
    cue_pool_close(pool);
    if (access("/sys/devices/system/node/node1", F_OK) == 0)
        return;
    cr_assert(eq(int, cue_pool_open(name, &(cue_pool_opts){ .size = MIB, .numa = 2 }, &pool), CUE_EINVAL));
    cr_assert(ne(ptr, strstr(cue_trail(), "NUMA node 1"), NULL), "%s", cue_trail());
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(backing, a_file_is_there_after_a_reboot_and_its_parties_are_dead)
{
    cue_pool *pool;
    cue_block b, gone;
    cue_block_info row;
    char path[200];
    snprintf(path, sizeof path, "%s/%s.pool", test_tmp(), test_name("reboot"));
    setenv("CUE_BOOT_ID", "before", 1);
    struct cast owner = cast_start("pool_in_file", path); /* publishes, owns, dies: the machine goes down */
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'));
    cast_kill(&owner);
    setenv("CUE_BOOT_ID", "after", 1);
    CUE_MUST(cue_pool_open("archive", &(cue_pool_opts){ .file = path, .flags = CUE_ATTACH }, &pool));
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.parties, 1), "the old ones are gone");
    cr_assert(eq(u64, info.blocks, 1), "and what they owned");
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = 3, .id = 4 }, CUE_NOW, &b));
    for (size_t i = 0; i < b.size; i++)
        cr_assert(eq(int, ((unsigned char *)b.data)[i], 77));
    CUE_MUST(cue_block_stat(&b, &row));
    cr_assert(eq(u64, row.made_ns, 0), "its time was another clock's");
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .type = 3, .id = 5 }, CUE_NOW, &gone), CUE_ENOENT));
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 3, .id = 5, .flags = CUE_KEEP }, &gone));
    CUE_MUST(cue_block_stat(&gone, &row));
    cr_assert(ne(u64, row.made_ns, 0));
    cue_block_release(&gone);
    cue_block_release(&b);
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    cue_pool_close(pool);
    CUE_MUST(cue_pool_open("archive", &(cue_pool_opts){ .file = path, .flags = CUE_ATTACH }, &pool));
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = 3, .id = 5 }, CUE_NOW, &b));
    CUE_MUST(cue_block_stat(&b, &row));
    cr_assert(ne(u64, row.made_ns, 0), "times of this boot stay");
    cue_block_release(&b);
    CUE_MUST(cue_pool_destroy(pool));
}

/* ---- sockets ---- */

Test(handover, a_pool_goes_through_a_socket_and_back)
{
    cue_pool *pool;
    cue_block b;
    cue_pool_info info;
    CUE_MUST(cue_pool_open(NULL, &(cue_pool_opts){ .size = 4 * MIB, .flags = CUE_MEMFD }, &pool));
    struct cast other = cast_start("pool_taker");
    CUE_MUST(cue_pool_hand(pool, other.talk));
    cr_assert(eq(int, cast_hear(&other, 5000), 'r'));
    CUE_MUST(cue_block_find(pool, (cue_key){ .name = "taken" }, CUE_NOW, &b));
    CUE_MUST(cue_block_free(&b));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.parties, 2));
    cast_say(&other, 'x');
    cr_assert(eq(int, cast_wait(&other, 5000), 0));
    cue_pool_close(pool);
}

Test(handover, nobody_can_cut_off_a_pool_without_a_name)
{
    cue_pool *pool;
    CUE_MUST(cue_pool_open(NULL, &(cue_pool_opts){ .size = 4 * MIB, .flags = CUE_MEMFD }, &pool));
    cr_assert(lt(int, ftruncate(cue_pool_fd(pool), 4096), 0));
    cue_pool_close(pool);
}

static int take_fails(int socket, const cue_pool_opts *opts)
{
    cue_pool *pool = (cue_pool *)1;
    int descriptors = test_descriptors(), status = cue_pool_take(socket, opts, CUE_MS(1), &pool);
    cr_assert(eq(ptr, pool, NULL));
    cr_assert(le(int, test_descriptors(), descriptors), "no descriptor stays");
    return status;
}

static void send_fd(int socket, const void *bytes, size_t size, int fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec part = { (void *)(uintptr_t)bytes, size };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = fd < 0 ? NULL : &control, .msg_controllen = fd < 0 ? 0 : sizeof control
    };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (rights) {
        *rights = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd) };
        memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    }
    cr_assert(eq(i64, sendmsg(socket, &message, 0), (ssize_t)size));
}

Test(handover, what_is_no_pool_is_refused_and_closed)
{
    cue_pool *pool, *other;
    int pair[2], pipe_ends[2];
    CUE_MUST(cue_pool_open(NULL, &(cue_pool_opts){ .size = MIB, .flags = CUE_MEMFD }, &pool));
    CUE_MUST(cue_pool_open(NULL, &(cue_pool_opts){ .size = MIB, .flags = CUE_MEMFD }, &other));
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0));
    cr_assert(eq(int, pipe(pipe_ends), 0));
    uint64_t right[2] = { 0x31726576646e6168, pool->uid }, wrong[2] = { 1, 2 };
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_EEMPTY));
    send_fd(pair[0], right, sizeof right, -1); /* no descriptor */
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_ECORRUPT));
    send_fd(pair[0], wrong, sizeof wrong, cue_pool_fd(pool));
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_ECORRUPT));
    send_fd(pair[0], right, 3, cue_pool_fd(pool));
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_ECORRUPT));
    send_fd(pair[0], right, sizeof right, cue_pool_fd(other)); /* another one than it says */
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_ECORRUPT));
    send_fd(pair[0], right, sizeof right, pipe_ends[0]);
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_ECORRUPT));
    cr_assert(eq(int, take_fails(pipe_ends[0], NULL), CUE_EINVAL));
    cr_assert(eq(int, take_fails(-1, NULL), CUE_EINVAL));
    cr_assert(eq(int, cue_pool_hand(pool, pipe_ends[1]), CUE_EINVAL));
    cr_assert(eq(int, cue_pool_take(pair[1], NULL, CUE_NOW, NULL), CUE_EINVAL));
    cr_assert(eq(int, take_fails(pair[1], &(cue_pool_opts){ .file = "x" }), CUE_EINVAL));
    close(pair[0]);
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_ECLOSED));
    int lonely = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert(eq(int, take_fails(lonely, NULL), CUE_EINVAL), "nobody is at its other end");
    close(lonely);
    cue_pool_close(pool);
    cue_pool_close(other);
}

Test(handover, another_user_gets_none_unless_the_mode_says_so)
{
    if (geteuid() != 0)
        cr_skip_test("needs root to be two users");
    cue_pool *pool, *taken;
    int pair[2];
    CUE_MUST(cue_pool_open(NULL, &(cue_pool_opts){ .size = MIB, .flags = CUE_MEMFD }, &pool));
    cr_assert(eq(int, seteuid(1234), 0));
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0)); /* its ends are user 1234's */
    cr_assert(eq(int, seteuid(0), 0));
    cr_assert(eq(int, seteuid(4321), 0));
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_EPERM));
    cr_assert(ne(ptr, strstr(cue_trail(), "1234"), NULL), "%s", cue_trail());
    cr_assert(eq(int, cue_pool_hand(pool, pair[0]), CUE_EPERM), "its mode gives others nothing");
    cr_assert(eq(int, seteuid(0), 0));
    CUE_MUST(fchmod(cue_pool_fd(pool), 0666));
    cr_assert(eq(int, seteuid(4321), 0));
    CUE_MUST(cue_pool_hand(pool, pair[0]));
    cr_assert(eq(int, take_fails(pair[1], NULL), CUE_EPERM));
    CUE_MUST(cue_pool_take(pair[1], &(cue_pool_opts){ .mode = 0666 }, CUE_NOW, &taken));
    cr_assert(eq(int, seteuid(0), 0));
    cr_assert(eq(u64, taken->uid, pool->uid));
    cue_pool_close(taken);
    cue_pool_close(pool);
    close(pair[0]);
    close(pair[1]);
}

Test(backing, one_pool_serves_several_users_by_its_mode_and_group)
{
    if (geteuid() != 0)
        cr_skip_test("needs root to be several users");
    cue_pool *pool;
    cue_block b;
    const char *name = test_name("users");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 4 * MIB, .mode = 0660 }, &pool));
    CUE_MUST(fchown(cue_pool_fd(pool), 1234, 777));
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .name = "shared", .flags = CUE_KEEP | CUE_ZERO }, &b));
    struct cast owner = cast_start("pool_as_user", name, "1234", "888", "0"),
                member = cast_start("pool_as_user", name, "4321", "777", "0660"),
                unasked = cast_start("pool_as_user", name, "4321", "777", "0"),
                stranger = cast_start("pool_as_user", name, "4321", "888", "0660");
    cr_assert(eq(int, cast_hear(&owner, 5000), 'r'), "the owner");
    cr_assert(eq(int, cast_hear(&member, 5000), 'r'), "who is in the group and says that it means another's");
    cr_assert(eq(int, cast_wait(&unasked, 5000), -CUE_EPERM), "who does not say so");
    cr_assert(eq(int, cast_wait(&stranger, 5000), -CUE_EPERM), "who is in no group");
    cr_assert(eq(int, ((char *)b.data)[0], 2), "both wrote to the block");
    cast_kill(&owner);
    cast_say(&member, 'x'); /* cleans up after the dead one, whose user it is not */
    cr_assert(eq(int, cast_hear(&member, 5000), 'k'));
    cast_kill(&member);
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    CUE_MUST(cue_block_free(&b));
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

/* ---- observers ---- */

Test(backing, an_observer_copies_out_and_learns_whether_it_was_whole)
{
    cue_pool *pool, *observer;
    cue_block b, secret;
    cue_block_info row;
    char bytes[200];
    const char *name = test_name("read");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 4 * MIB }, &pool));
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 5, .flags = CUE_KEEP }, &b));
    memset(b.data, 8, 100);
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &secret));
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .flags = CUE_READ_ONLY }, &observer));
    uint64_t cursor = 0;
    cr_assert(eq(int, cue_block_next(observer, 5, &cursor, &row), 1));
    cr_assert(eq(i64, cue_block_read(observer, row.id, 0, bytes, sizeof bytes), 100));
    for (int i = 0; i < 100; i++)
        cr_assert(eq(int, bytes[i], 8));
    cr_assert(eq(i64, cue_block_read(observer, row.id, 90, bytes, sizeof bytes), 10));
    cr_assert(eq(i64, cue_block_read(observer, row.id, 100, bytes, sizeof bytes), 0));
    cr_assert(eq(i64, cue_block_read(observer, row.id, UINT64_MAX, bytes, sizeof bytes), 0));
    cr_assert(eq(i64, cue_block_read(observer, row.id, 0, NULL, 1), CUE_EINVAL));
    cr_assert(eq(i64, cue_block_read(observer, 0, 0, bytes, 1), CUE_ESTALE));
    cr_assert(eq(i64, cue_block_read(observer, 12345678, 0, bytes, 1), CUE_ESTALE));
    cue_block_info hidden;
    CUE_MUST(cue_block_stat(&secret, &hidden));
    cr_assert(eq(i64, cue_block_read(observer, hidden.id, 0, bytes, 1), CUE_EPERM));
    cr_assert(eq(i64, cue_block_read(pool, hidden.id, 0, bytes, 1), 1), "its owner may");
    CUE_MUST(cue_block_free(&b));
    cr_assert(eq(i64, cue_block_read(observer, row.id, 0, bytes, 100), CUE_ESTALE));
    cue_pool_close(observer);
    cue_block_release(&secret);
    cue_pool_close(pool);
}
