/* Pools: opened, made, left, destroyed, vanished; damaged, foreign and full ones. */
#include "tests/harness.h"

#include "base/shm.h"
#include "pool/pool_internal.h"

#include <cuelight/pool.h>

#include <sys/stat.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { MIB = 1 << 20 };

static cue_pool_opts sized(uint32_t flags)
{
    return (cue_pool_opts){ .size = 4 * MIB, .flags = flags };
}

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static bool exists(const char *name)
{
    char path[SHM_PATH_MAX];
    shm_path(name, path);
    return access(path, F_OK) == 0;
}

static int open_fails(const char *name, cue_pool_opts opts)
{
    cue_pool *pool = (cue_pool *)1;
    int status = cue_pool_open(name, &opts, &pool);
    cr_assert(eq(ptr, pool, NULL));
    return status;
}

Test(pool, is_made_by_the_first_and_gone_with_the_last)
{
    cue_pool *a, *b;
    const char *name = test_name("first");
    cr_assert(eq(int, open_fails(name, sized(CUE_ATTACH)), CUE_ENOENT));
    cue_pool_opts opts = sized(0);
    CUE_MUST(cue_pool_open(name, &opts, &a));
    cr_assert(exists(name));
    CUE_MUST(cue_pool_open(name, NULL, &b));
    cr_assert(eq(ptr, a, b), "one mapping a process");
    cr_assert(eq(int, open_fails(name, sized(CUE_CREATE)), CUE_EEXIST));
    cue_pool_close(a);
    cr_assert(exists(name), "opens are counted");
    cue_pool_close(b);
    cr_assert(not(exists(name)));
    cue_pool_close(NULL);
}

Test(pool, stays_while_something_is_kept_in_it)
{
    cue_pool *pool;
    cue_block b;
    const char *name = test_name("kept");
    cue_pool_opts opts = sized(0);
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    CUE_MUST(cue_block_alloc(pool, 10, &(cue_block_opts){ .type = 1, .id = 1, .flags = CUE_KEEP }, &b));
    memcpy(b.data, "still", 6);
    cue_block_release(&b);
    cue_pool_close(pool);
    cr_assert(exists(name));
    CUE_MUST(cue_pool_open(name, NULL, &pool));
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = 1, .id = 1 }, CUE_NOW, &b));
    cr_assert(eq(str, (char *)b.data, "still"));
    CUE_MUST(cue_block_free(&b));
    cue_pool_close(pool);
    cr_assert(not(exists(name)));
}

Test(pool, stays_when_asked_to)
{
    cue_pool *pool;
    const char *name = test_name("persist");
    cue_pool_opts opts = sized(CUE_PERSIST);
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    cue_pool_close(pool);
    cr_assert(exists(name));
    CUE_MUST(cue_pool_open(name, NULL, &pool));
    CUE_MUST(cue_pool_destroy(pool));
    cr_assert(not(exists(name)));
}

Test(pool, views_outlive_its_close)
{
    cue_pool *pool;
    cue_block made, view;
    const char *name = test_name("view");
    cue_pool_opts opts = sized(0);
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    CUE_MUST(cue_block_alloc(pool, 5000, NULL, &made));
    memset(made.data, 8, 5000);
    CUE_MUST(cue_block_view(&made, 0, SIZE_MAX, &view));
    cue_pool_close(pool);
    for (size_t i = 0; i < view.size; i++)
        cr_assert(eq(int, ((char *)view.data)[i], 8));
    cr_assert(eq(int, cue_block_free(&made), CUE_ESTALE), "the close freed what was owned");
    cr_assert(exists(name), "its party lives while its view does");
    CUE_MUST(cue_block_release(&view));
    cr_assert(not(exists(name)));
    cr_assert(eq(int, cue_block_release(&view), 0));
}

Test(pool, calls_on_a_destroyed_one_say_so_and_its_name_is_free)
{
    cue_pool *pool, *next;
    cue_block made, view;
    const char *name = test_name("gone");
    cue_pool_opts opts = sized(0);
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    CUE_MUST(cue_pool_open(name, &opts, &pool)); /* twice: destroy ends all of them */
    CUE_MUST(cue_block_alloc(pool, 5000, NULL, &made));
    memset(made.data, 8, 5000);
    CUE_MUST(cue_block_view(&made, 0, SIZE_MAX, &view));
    CUE_MUST(cue_pool_destroy(pool));
    cr_assert(not(exists(name)));
    cr_assert(eq(int, ((char *)view.data)[4999], 8));
    CUE_MUST(cue_pool_open(name, &opts, &next));
    cr_assert(eq(int, ((char *)view.data)[4999], 8));
    cue_block_release(&view);
    cue_pool_close(next);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(pool, others_learn_of_its_destruction)
{
    cue_pool *pool;
    const char *name = test_name("away");
    cue_pool_opts opts = sized(0);
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    cue_block held;
    CUE_MUST(cue_block_alloc(pool, 5000, NULL, &held));
    struct cast waiter = cast_start("pool_waiter", name, "4194304");
    cr_assert(eq(int, cast_hear(&waiter, 5000), 'r'));
    cr_assert(eq(int, cast_hear(&waiter, 100), -1), "it waits for the whole pool");
    CUE_MUST(cue_pool_destroy(pool));
    cast_say(&waiter, 'x'); /* it may just have got the block that went with us */
    int code = cast_wait(&waiter, 5000);
    cr_assert(code == 2 || code == 0, "%d: its alloc ended", code);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(pool, works_from_32_KiB_on)
{
    cue_pool *pool;
    cue_block b[3];
    const char *name = test_name("small");
    cr_assert(eq(int, open_fails(name, (cue_pool_opts){ .size = 32767 }), CUE_EINVAL));
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 32768 }, &pool));
    for (int i = 0; i < 3; i++) {
        CUE_MUST(cue_block_alloc(pool, i == 2 ? 20000 : 100, NULL, &b[i]));
        memset(b[i].data, 1, b[i].size);
    }
    for (int i = 0; i < 3; i++)
        cue_block_release(&b[i]);
    CUE_MUST(cue_block_alloc(pool, 32768, NULL, &b[0]));
    cue_block_release(&b[0]);
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    cue_pool_close(pool);
    cr_assert(not(exists(name)));
}

Test(pool, an_empty_one_of_a_gibibyte_takes_less_than_a_mebibyte)
{
    cue_pool *pool;
    cue_pool_info info;
    struct stat object;
    CUE_MUST(cue_pool_open(test_name("giga"), &(cue_pool_opts){ .size = (uint64_t)1 << 30 }, &pool));
    cr_assert(eq(int, fstat(cue_pool_fd(pool), &object), 0));
    cr_assert(lt(i64, object.st_blocks * 512, MIB));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.peak, (uint64_t)object.st_blocks * 512));
    cr_assert(eq(u64, info.size, (uint64_t)1 << 30));
    cue_pool_close(pool);
}

/* Flips bytes of a pool that nobody has open. */
static void damage(const char *name, off_t at, uint32_t value)
{
    char path[SHM_PATH_MAX];
    shm_path(name, path);
    int fd = open(path, O_RDWR);
    cr_assert(eq(i64, pwrite(fd, &value, sizeof value, at), 4));
    close(fd);
}

static void make_and_leave(const char *name)
{
    cue_pool *pool;
    cue_pool_opts opts = sized(CUE_PERSIST);
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    cue_pool_close(pool);
}

static void remove_object(const char *name)
{
    char path[SHM_PATH_MAX];
    shm_path(name, path);
    unlink(path);
}

Test(pool, a_damaged_header_is_an_error_in_every_word)
{
    const char *name = test_name("damage");
    for (off_t at = 0; at < (off_t)offsetof(struct pool_header, checksum) + 8; at += 4) {
        make_and_leave(name);
        damage(name, at, 0x5a5a5a5a);
        int status = open_fails(name, sized(0));
        cr_assert(status == CUE_ECORRUPT || status == CUE_EVERSION, "word at %d: %s", (int)at, cue_status_name(status));
        cr_assert(ne(str, (char *)cue_trail(), ""));
        remove_object(name);
    }
}

Test(pool, what_is_no_pool_is_an_error)
{
    const char *name = test_name("none");
    char path[SHM_PATH_MAX];
    shm_path(name, path);
    int fd = open(path, O_CREAT | O_RDWR, 0600);
    cr_assert(eq(int, open_fails(name, sized(0)), CUE_ECORRUPT));
    cr_assert(eq(int, ftruncate(fd, 100000), 0));
    cr_assert(eq(int, open_fails(name, sized(0)), CUE_ECORRUPT));
    close(fd);
    unlink(path);
    make_and_leave(name);
    cr_assert(eq(int, truncate(path, 8192), 0));
    cr_assert(eq(int, open_fails(name, sized(0)), CUE_ECORRUPT));
    unlink(path);
    cr_assert(eq(int, mkdir(path, 0700), 0));
    cr_assert(lt(int, open_fails(name, sized(0)), 0));
    rmdir(path);
}

Test(pool, another_version_is_refused_before_it_is_touched)
{
    const char *name = test_name("version");
    make_and_leave(name);
    damage(name, offsetof(struct pool_header, version), 99);
    cr_assert(eq(int, open_fails(name, sized(0)), CUE_EVERSION));
    cr_assert(ne(ptr, strstr(cue_trail(), "99"), NULL));
    remove_object(name);
}

Test(pool, names_and_options_that_make_no_sense_are_refused)
{
    static const struct {
        const char *name;
        cue_pool_opts opts;
        int status;
    } rows[] = {
        { NULL, { 0 }, CUE_EINVAL },
        { "", { 0 }, CUE_EINVAL },
        { "a/b", { 0 }, CUE_EINVAL },
        { "..", { 0 }, CUE_EINVAL },
        { "1234567890123456789012345678901234567890123456789012345678901234", { 0 }, CUE_EINVAL },
        { "ok", { .flags = CUE_CREATE | CUE_ATTACH }, CUE_EINVAL },
        { "ok", { .flags = 1u << 20 }, CUE_EINVAL },
        { "ok", { .max_parties = 128 }, CUE_EINVAL },
        { "ok", { .mode = 04755 }, CUE_EINVAL },
        { "ok", { .size = 1 }, CUE_EINVAL },
        { "ok", { .size = (uint64_t)1 << 50 }, CUE_ETOOBIG },
        { "ok", { .spare = { 0, 7 } }, CUE_EVERSION },
        { "ok", { .flags = CUE_HUGE }, CUE_ENOSYS },
        { "ok", { .numa = 2000 }, CUE_EINVAL },
        { "ok", { .numa = 1, .file = "/tmp/x" }, CUE_EINVAL },
        { "ok", { .max_allocations = (uint64_t)1 << 40 }, CUE_EINVAL },
        { "ok", { .flags = CUE_MEMFD | CUE_ATTACH }, CUE_EINVAL },
        { "ok", { .flags = CUE_MEMFD, .file = "x" }, CUE_EINVAL },
        { "ok", { .fd = 5, .flags = CUE_CREATE }, CUE_EINVAL },
        { "ok", { .fd = -1 }, CUE_EINVAL },
        { "ok", { .fd = 999 }, CUE_ESYS },
        { "ok", { .file = "/no/such/folder/pool" }, CUE_ENOENT },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert(eq(int, open_fails(rows[i].name, rows[i].opts), rows[i].status), "row %zu", i);
        cr_assert(ne(str, (char *)cue_trail(), ""), "row %zu", i);
    }
    cr_assert(eq(int, cue_pool_open("ok", NULL, NULL), CUE_EINVAL));
    cr_assert(eq(int, test_leftovers("ok"), 0));
}

Test(pool, its_mode_is_its_own_and_not_the_umasks)
{
    cue_pool *pool;
    struct stat info;
    mode_t before = umask(0777);
    CUE_MUST(cue_pool_open(test_name("mode"), &(cue_pool_opts){ .size = MIB, .mode = 0640 }, &pool));
    umask(before);
    cr_assert(eq(int, fstat(cue_pool_fd(pool), &info), 0));
    cr_assert(eq(int, (int)(info.st_mode & 07777), 0640));
    cue_pool_close(pool);
}

Test(pool, another_users_is_refused_unless_asked)
{
    if (geteuid() != 0)
        cr_skip_test("needs root to be two users");
    const char *name = test_name("user");
    char path[SHM_PATH_MAX];
    shm_path(name, path);
    make_and_leave(name);
    cr_assert(eq(int, chmod(path, 0666), 0));
    cr_assert(eq(int, seteuid(65534), 0));
    cr_assert(eq(int, open_fails(name, sized(CUE_ATTACH)), CUE_EPERM));
    cue_pool *pool;
    cue_pool_opts opts = sized(CUE_ATTACH);
    opts.mode = 0666;
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    cue_pool_close(pool);
    cr_assert(eq(int, seteuid(0), 0));
    cr_assert(eq(int, chmod(path, 0600), 0));
    cr_assert(eq(int, seteuid(65534), 0));
    cr_assert(eq(int, open_fails(name, opts), CUE_EPERM), "no permission");
    cr_assert(eq(int, seteuid(0), 0));
    remove_object(name);
}

Test(pool, a_full_dev_shm_is_ENOMEM_and_work_goes_on_when_there_is_room_again)
{
    if (!test_small_shm(6 * MIB))
        cr_skip_test("needs a mount of its own");
    cue_pool *pool, *other;
    cue_block blocks[64], b;
    size_t count = 0;
    CUE_MUST(cue_pool_open(test_name("full"), &(cue_pool_opts){ .size = 64 * MIB }, &pool));
    while (count < 64 && cue_block_alloc(pool, 300000, NULL, &blocks[count]) == 0) {
        memset(blocks[count].data, 1, 300000);
        count++;
    }
    cr_assert(lt(sz, count, 20));
    cr_assert(ne(ptr, strstr(cue_trail(), "shared memory"), NULL), "%s", cue_trail());
    for (int i = 0; i < 5000; i++) /* whatever small ones say, nothing dies */
        if (cue_block_alloc(pool, 64u << (i % 6), &(cue_block_opts){ .type = 1, .id = (uint64_t)i + 1 }, &b) == 0)
            memset(b.data, 1, b.size);
    cr_assert(eq(int, cue_pool_open(test_name("full2"), &(cue_pool_opts){ .size = (uint64_t)1 << 30 }, &other), CUE_ENOMEM));
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    for (size_t i = 0; i < count; i++)
        cue_block_release(&blocks[i]);
    CUE_MUST(cue_block_alloc(pool, 300000, NULL, &b));
    memset(b.data, 1, b.size);
    cue_block_release(&b);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers("full"), 0));
}

/* Takes all that is left of /dev/shm. */
static void fill_shm(const char *path)
{
    static const char zeros[65536];
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    while (write(fd, zeros, sizeof zeros) > 0 || (errno == ENOSPC && write(fd, zeros, 4096) > 0))
        ;
    cr_assert(eq(int, errno, ENOSPC));
    close(fd);
}

static size_t take_blocks(cue_pool *pool, cue_block *blocks, size_t most)
{
    size_t count = 0;
    while (count < most && cue_block_alloc(pool, 300000, NULL, &blocks[count]) == 0)
        memset(blocks[count++].data, 1, 300000);
    return count;
}

Test(pool, when_dev_shm_was_filled_by_others_work_goes_on_as_soon_as_they_are_gone)
{
    if (!test_small_shm(16 * MIB))
        cr_skip_test("needs a mount of its own");
    cue_pool *pool, *other;
    cue_block few[64], more[64], b, kept;
    const char *name = test_name("filled");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 64 * MIB }, &pool));
    CUE_MUST(cue_block_alloc(pool, 5000, &(cue_block_opts){ .name = "kept", .flags = CUE_KEEP | CUE_ZERO }, &kept));
    for (int round = 0; round < 2; round++) {
        fill_shm("/dev/shm/ballast");
        size_t before = take_blocks(pool, few, 64); /* what was present already */
        cr_assert(lt(sz, before, 64));
        cr_assert(ne(ptr, strstr(cue_trail(), "shared memory"), NULL), "%s", cue_trail());
        cr_assert(eq(int, cue_pool_open(test_name("filled2"), &(cue_pool_opts){ .size = MIB }, &other), CUE_ENOMEM));
        for (uint64_t i = 0; i < 3000; i++) /* new slabs, new parts of the directory: each works or says so */
            if (cue_block_alloc(pool, 64u << (i % 6), &(cue_block_opts){ .type = 1, .id = i + 1 }, &b) == 0) {
                memset(b.data, 1, b.size);
                cue_block_release(&b);
            }
        struct cast late = cast_start("pool_owner", name, "0"); /* a newcomer needs nothing */
        cr_assert(eq(int, cast_hear(&late, 5000), 'r'));
        cr_assert(eq(int, unlink("/dev/shm/ballast"), 0));
        size_t after = take_blocks(pool, more, 64);
        cr_assert(gt(sz, after, 10), "%zu blocks, and %zu after there was space again", before, after);
        CUE_MUST(cue_pool_open(test_name("filled3"), &(cue_pool_opts){ .size = MIB }, &other));
        cue_pool_close(other);
        for (size_t i = 0; i < before; i++)
            CUE_MUST(cue_block_release(&few[i]));
        for (size_t i = 0; i < after; i++)
            CUE_MUST(cue_block_release(&more[i]));
        CUE_MUST(cast_kill(&late) == CAST_SIGNALLED + SIGKILL ? 0 : -1);
        cr_assert(gt(i64, cue_pool_trim(pool), 3 * MIB), "so that the next round fills it anew");
        cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    }
    CUE_MUST(cue_block_free(&kept));
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers("filled"), 0));
}

Test(pool, an_observer_looks_and_takes_nothing)
{
    cue_pool *pool, *observer;
    cue_block b, view;
    const char *name = test_name("observer");
    cue_pool_opts opts = sized(0), look = sized(CUE_READ_ONLY);
    cr_assert(eq(int, open_fails(name, look), CUE_ENOENT));
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .name = "n", .flags = CUE_KEEP }, &b));
    CUE_MUST(cue_pool_open(name, &look, &observer));
    cr_assert(ne(ptr, pool, observer));
    cue_pool_info info;
    cue_block_info row;
    uint64_t cursor = 0;
    CUE_MUST(cue_pool_stat(observer, &info));
    cr_assert(eq(u64, info.parties, 1), "an observer is no party");
    cr_assert(eq(u64, info.blocks, 1));
    cr_assert(eq(int, cue_block_next(observer, 0, &cursor, &row), 1));
    cr_assert(eq(str, row.name, "n"));
    cr_assert(eq(int, cue_block_find(observer, (cue_key){ .name = "n" }, CUE_NOW, NULL), 0));
    cr_assert(eq(int, cue_block_find(observer, (cue_key){ .name = "m" }, CUE_MS(1), NULL), CUE_ENOENT));
    cr_assert(eq(int, cue_block_find(observer, (cue_key){ .name = "n" }, CUE_NOW, &view), CUE_EPERM));
    uint64_t id;
    cr_assert(eq(i64, cue_block_find_many(observer, &(cue_key){ .name = "n" }, 1, NULL, &id), 1));
    cr_assert(eq(u64, id, row.id));
    cr_assert(eq(i64, cue_block_find_many(observer, &(cue_key){ .name = "n" }, 1, &view, &id), CUE_EPERM));
    cr_assert(eq(int, cue_block_alloc(observer, 1, NULL, &view), CUE_EPERM));
    cr_assert(eq(int, cue_pool_check(observer, false, print_fault, NULL), 0));
    cr_assert(eq(int, cue_pool_check(observer, true, print_fault, NULL), CUE_EPERM));
    cr_assert(eq(int, cue_pool_destroy(observer), CUE_EPERM));
    cr_assert(eq(i64, cue_pool_trim(observer), CUE_EPERM));
    cue_pool_close(observer);
    cue_block_free(&b);
    cue_pool_close(pool);
    cr_assert(not(exists(name)));
}

Test(pool, many_can_be_open_and_slots_are_used_again)
{
    cue_pool *pools[POOLS_MAX];
    const char *name = test_name("many");
    char one[100];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < POOLS_MAX; i++) {
            snprintf(one, sizeof one, "%s.%d", name, i);
            CUE_MUST(cue_pool_open(one, &(cue_pool_opts){ .size = 65536 }, &pools[i]));
        }
        snprintf(one, sizeof one, "%s.%d", name, POOLS_MAX);
        cr_assert(eq(int, open_fails(one, (cue_pool_opts){ .size = 65536 }), CUE_ELIMIT));
        for (int i = 0; i < POOLS_MAX; i++)
            cue_pool_close(pools[i]);
    }
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(pool, a_party_more_than_it_has_slots_for_is_refused)
{
    cue_pool *pool;
    const char *name = test_name("parties");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = MIB, .max_parties = 2 }, &pool));
    struct cast first = cast_start("pool_owner", name, "1");
    cr_assert(eq(int, cast_hear(&first, 5000), 'r'));
    struct cast second = cast_start("pool_owner", name, "1");
    cr_assert(eq(int, cast_wait(&second, 5000), 1));
    cast_kill(&first);
    second = cast_start("pool_owner", name, "1"); /* takes the dead one's place */
    cr_assert(eq(int, cast_hear(&second, 5000), 'r'));
    cast_say(&second, 'x');
    cr_assert(eq(int, cast_wait(&second, 5000), 0));
    cue_pool_close(pool);
    cr_assert(not(exists(name)));
}

static void hand_over(int socket, int fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec part = { (char[]){ 'f' }, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    cr_assert(eq(i64, sendmsg(socket, &message, 0), 1));
}

Test(pool, without_a_name_is_handed_over_by_its_descriptor)
{
    cue_pool *pool;
    cue_block b;
    cue_pool_info info;
    CUE_MUST(cue_pool_open(NULL, &(cue_pool_opts){ .size = 4 * MIB, .flags = CUE_MEMFD }, &pool));
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .type = 1, .id = 1 }, &b));
    strcpy(b.data, "handed over");
    CUE_MUST(cue_block_publish(&b, 0));
    cue_block_release(&b);
    struct cast other = cast_start("pool_by_fd");
    hand_over(other.talk, cue_pool_fd(pool));
    cr_assert(eq(int, cast_wait(&other, 5000), 0));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.blocks, 0));
    cr_assert(eq(u64, info.parties, 1));
    struct cast killed = cast_start("pool_by_fd");
    cast_kill(&killed);
    cr_assert(eq(int, cue_pool_check(pool, true, print_fault, NULL), 0));
    cue_pool_close(pool);
    cr_assert(eq(int, open_fails("none", (cue_pool_opts){ .fd = STDERR_FILENO }) < 0, 1));
}

Test(pool, in_a_file_is_there_again_when_all_have_left)
{
    cue_pool *pool;
    cue_block b;
    char path[200];
    snprintf(path, sizeof path, "%s/%s.pool", test_tmp(), test_name("file"));
    cue_pool_opts opts = { .size = 4 * MIB, .file = path };
    CUE_MUST(cue_pool_open("archive", &opts, &pool));
    CUE_MUST(cue_block_alloc(pool, 70000, &(cue_block_opts){ .name = "weights", .flags = CUE_ZERO }, &b));
    memset(b.data, 6, 70000);
    CUE_MUST(cue_block_publish(&b, 0));
    cue_block_release(&b);
    cue_pool_close(pool);
    cr_assert(eq(int, access(path, F_OK), 0));
    cr_assert(eq(int, open_fails("archive", (cue_pool_opts){ .file = path, .flags = CUE_CREATE }), CUE_EEXIST));
    CUE_MUST(cue_pool_open("archive", &(cue_pool_opts){ .file = path, .flags = CUE_ATTACH }, &pool));
    CUE_MUST(cue_block_find(pool, (cue_key){ .name = "weights" }, CUE_NOW, &b));
    cr_assert(eq(sz, b.size, 70000));
    cr_assert(eq(int, ((char *)b.data)[69999], 6));
    cue_block_release(&b);
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    CUE_MUST(cue_pool_destroy(pool));
    cr_assert(lt(int, access(path, F_OK), 0));
}
