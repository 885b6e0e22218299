/* The tool `cuelight` and where pools lie, whose they are, what it says when it cannot: files, memfds, other users, every exit code. */
#include "tests/run_tool.h"

#include "base/clock.h"
#include "base/process.h"
#include "pool/pool_internal.h"

#include <cuelight/channel.h>
#include <cuelight/pool.h>

#include <math.h>
#include <sys/stat.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { MIB = 1 << 20, NOBODY = 65534 };

static cue_pool *make(const char *name, cue_pool_opts opts)
{
    cue_pool *pool;
    opts.size = 4 * MIB;
    CUE_MUST(cue_pool_open(name, &opts, &pool));
    return pool;
}

/* The number behind "KEY": in what was said; NAN: null, or not there. */
static double number(const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    const char *at = strstr(said, quoted);
    return at && at[strlen(quoted)] != 'n' ? strtod(at + strlen(quoted), NULL) : (double)NAN;
}

static bool lies_between(double low, double value, double high)
{
    if (low <= value && value <= high)
        return true;
    fprintf(stderr, "%f <= %f <= %f does not hold in:\n%s\n", low, value, high, said);
    return false;
}

static double unix_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* A pool in a file (or in /dev/shm, by its path) whose maker is killed: it has a published block of 70,000 bytes, type 3, id 4. */
static pid_t killed_maker(const char *path)
{
    struct cast maker = cast_start("pool_in_file", path);
    pid_t pid = maker.pid;
    cr_assert(eq(int, cast_hear(&maker, 10000), 'r'));
    cast_kill(&maker);
    return pid;
}

/* ---- whose ---- */

Test(places, a_pool_tells_who_made_it_and_who_has_it)
{
    const char *name = test_name("whose");
    double before = unix_now();
    cue_pool *pool = make(name, (cue_pool_opts){ .label = "the \"maker\"\\" });
    struct cast other = cast_start("pool_owner", name, "2");
    cr_assert(eq(int, cast_hear(&other, 10000), 'r'));
    char other_pid[16];
    snprintf(other_pid, sizeof other_pid, "%d cast", other.pid);
    cr_assert(eq(int, tool("ls --json | grep -w %s", name), 0));
    cr_assert(eq(dbl, number("maker_pid"), getpid()));
    cr_assert(eq(dbl, number("uid"), geteuid()));
    cr_assert(says("\"maker\": \"the \\\"maker\\\"\\\\\""));
    cr_assert(says("\"maker_is\": \"attached\""));
    cr_assert(says("\"parties\": 2, \"dead\": 0, \"orphaned\": false"));
    double started = number("maker_started");
    cr_assert(lies_between(0, number("age"), unix_now() - before + 1));
    cr_assert(lies_between(before - 3600, started, before + 1), "this test's own process");
    cr_assert(eq(int, tool("ls | grep -w %s", name), 0));
    cr_assert(says(other_pid));
    /* parties and the owners of blocks: which process it is, and since when */
    cr_assert(eq(int, tool("ls %s --json | grep '\"party\": 1,'", name), 0));
    cr_assert(eq(dbl, number("start"), (double)process_start_time(getpid())));
    cr_assert(lt(dbl, fabs(number("started") - started), 5.0), "%s", said);
    cr_assert(eq(int, tool("blocks %s --json | head -1", name), 0));
    cr_assert(eq(dbl, number("pid"), other.pid));
    cr_assert(says("\"label\": \"cast\""));
    cr_assert(eq(dbl, number("start"), (double)process_start_time(other.pid)));
    cr_assert(lies_between(started - 5, number("started"), unix_now() + 1));
    cr_assert(eq(int, tool("blocks %s --by owner --json", name), 0));
    cr_assert(eq(dbl, number("start"), (double)process_start_time(other.pid)));
    cast_kill(&other);
    cue_pool_close(pool);
    CUE_MUST(tool("doctor %s --fix", name));
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(places, an_orphan_tells_its_age_and_its_dead_maker)
{
    char path[SHM_PATH_MAX];
    const char *name = test_name("orphan");
    shm_path(name, path);
    int64_t before = clock_ns();
    pid_t maker = killed_maker(path);
    cr_assert(eq(int, tool("ls --json | grep -w %s", name), 0));
    cr_assert(says("\"kept\": 1, \"parties\": 1, \"dead\": 1, \"orphaned\": true"));
    cr_assert(says("\"maker\": \"cast\""));
    cr_assert(says("\"maker_is\": \"dead\""));
    cr_assert(eq(dbl, number("maker_pid"), maker));
    cr_assert(lies_between(0, number("age"), (double)(clock_ns() - before) / 1e9));
    cr_assert(eq(int, tool("doctor %s --fix", name), 0));
    cr_assert(eq(int, tool("ls --json | grep -w %s", name), 0), "what was published keeps it");
    cr_assert(says("\"parties\": 0, \"dead\": 0, \"orphaned\": true"));
    cr_assert(says("\"maker_is\": \"left\""));
    cr_assert(lies_between(0, number("age"), (double)(clock_ns() - before) / 1e9));
    /* after a reboot the clock of before says nothing: ages are by the calendar, what only that clock knew is not told */
    cr_assert(eq(int, tool("rm %s", name), 0));
    double day = unix_now();
    setenv("CUE_BOOT_ID", "before", 1);
    killed_maker(path);
    setenv("CUE_BOOT_ID", "after", 1);
    cr_assert(eq(int, tool("ls --json | grep -w %s", name), 0));
    cr_assert(lies_between(-1, number("age"), unix_now() - day + 1));
    cr_assert(isnan(number("maker_started")));
    cr_assert(eq(int, tool("blocks %s --json", name), 0));
    cr_assert(isnan(number("started")));
    cr_assert(isnan(number("age")));
    cr_assert(eq(int, tool("rm %s", name), 0));
    cr_assert(eq(int, test_leftovers(name), 0));
}

/* ---- files ---- */

/* Every command, on the pool of killed_maker. */
static void everything_by(const char *given)
{
    cr_assert(eq(int, tool("ls %s --json", given), 0));
    cr_assert(says("\"state\": \"dead\""));
    cr_assert(eq(int, tool("blocks %s --type 3 --json", given), 0));
    cr_assert(says("\"size\": 70000"));
    cr_assert(eq(int, tool("blocks %s --leaks", given), 1));
    cr_assert(eq(int, tool("cat %s --type 3 --id 4 | tr -d M | wc -c", given), 0));
    cr_assert(eq(int, atoi(said), 0), "77 is M");
    cr_assert(eq(int, tool("cat %s --type 3 --id 4 | wc -c", given), 0));
    cr_assert(eq(int, atoi(said), 70000));
    cr_assert(eq(int, tool("doctor --pool %s", given), 1));
    cr_assert(says("is dead and not cleaned up after"));
    cr_assert(eq(int, tool("doctor %s --fix", given), 0));
    cr_assert(eq(int, tool("doctor %s", given), 0));
    cr_assert(eq(int, tool("rm %s name", given), 3));
    cr_assert(eq(int, tool("rm %s", given), 0));
    cr_assert(eq(int, tool("ls %s", given), 3));
}

Test(places, a_pool_in_a_file_by_its_path)
{
    char folder[TEST_PATH], path[TEST_PATH + 20], link_path[TEST_PATH + 20];
    cr_assert(test_folder(folder));
    snprintf(path, sizeof path, "%s/archive.pool", folder);
    snprintf(link_path, sizeof link_path, "%s/link", folder);
    tool("--version"); /* knows its way from here on */
    cr_assert(eq(int, chdir(folder), 0));
    static const char *const given[] = { "./archive.pool", "archive.pool", "./link" };
    for (size_t i = 0; i < 3; i++) {
        killed_maker(path);
        if (i == 2)
            cr_assert(eq(int, symlink("archive.pool", link_path), 0));
        everything_by(given[i]);
        cr_assert(lt(int, access(path, F_OK), 0));
    }
    unlink(link_path);
    cr_assert(eq(int, rmdir(folder), 0), "nothing else was made here");
}

Test(places, a_name_in_dev_shm_comes_before_a_file_of_that_name)
{
    char folder[TEST_PATH];
    const char *name = test_name("both");
    cr_assert(test_folder(folder));
    tool("--version");
    cr_assert(eq(int, chdir(folder), 0));
    killed_maker(name);
    cue_pool *pool = make(name, (cue_pool_opts){ 0 });
    cr_assert(eq(int, tool("ls %s --json", name), 0));
    cr_assert(says("\"blocks\": 0"));
    cr_assert(eq(int, tool("ls ./%s --json", name), 0));
    cr_assert(says("\"state\": \"dead\""));
    cue_pool_close(pool);
    cr_assert(eq(int, tool("rm %s", name), 0));
    cr_assert(eq(int, rmdir(folder), 0));
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(places, a_memfd_by_its_descriptor_in_proc)
{
    cue_block b;
    cue_pool *pool = make("nameless", (cue_pool_opts){ .flags = CUE_MEMFD });
    CUE_MUST(cue_block_alloc(pool, 5, &(cue_block_opts){ .name = "text", .flags = CUE_KEEP }, &b));
    memcpy(b.data, "hello", 5);
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), cue_pool_fd(pool));
    cr_assert(eq(int, tool("cat %s --name text", path), 0));
    cr_assert(eq(str, said, (char *)"hello"));
    cr_assert(eq(int, tool("ls %s --json", path), 0));
    cr_assert(eq(int, tool("doctor %s --fix", path), 0));
    cr_assert(eq(int, tool("rm %s text", path), 0));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .name = "text" }, CUE_NOW, NULL), CUE_ENOENT));
    cr_assert(eq(int, tool("rm %s", path), 4));
    cue_block_release(&b);
    cue_pool_close(pool);
}

Test(places, what_is_no_pool_is_left_alone_when_it_is_a_file)
{
    char path[TEST_PATH], fifo[TEST_PATH + 8], longer[700];
    int fd = test_file(path);
    cr_assert(eq(int, (int)write(fd, "dear diary", 10), 10));
    static const char *const looks[] = { "ls %s", "blocks %s", "doctor %s", "doctor %s --fix", "rm %s", "rm %s --force", "cat %s 5" };
    for (size_t i = 0; i < 7; i++) {
        char args[200];
        snprintf(args, sizeof args, looks[i], path);
        cr_assert(eq(int, tool("%s", args), 6), "%s", args);
        cr_assert(says("is no"));
    }
    cr_assert(eq(int, access(path, F_OK), 0));
    cr_assert(eq(int, ftruncate(fd, 100000), 0));
    cr_assert(eq(int, tool("rm %s --force", path), 6));
    cr_assert(eq(int, tool("ls %s/more", path), 3), "not a directory");
    unlink(path);
    cr_assert(eq(int, tool("ls %s", path), 3));
    cr_assert(says("no such file"));
    cr_assert(eq(int, tool("ls %s", test_tmp()), 6), "a folder");
    snprintf(fifo, sizeof fifo, "%s-fifo", path);
    cr_assert(eq(int, mkfifo(fifo, 0600), 0));
    cr_assert(eq(int, tool("ls %s", fifo), 6), "and nobody waits for its other end");
    unlink(fifo);
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    cr_assert(eq(int, tool("ls /%s", longer), 2));
}

/* ---- pools that are not whole ---- */

/* All bytes of a file. */
static char *bytes_of(const char *path, size_t *size)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    cr_assert(eq(int, fstat(fd, &info), 0));
    char *bytes = malloc((size_t)info.st_size + 1);
    *size = (size_t)info.st_size;
    cr_assert(eq(i64, pread(fd, bytes, *size, 0), info.st_size));
    close(fd);
    return bytes;
}

static void put_back(const char *path, const char *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    cr_assert(eq(i64, pwrite(fd, bytes, size, 0), (int64_t)size));
    close(fd);
}

/* Cut off at each of these, it is told so, and not a byte of what is left changes; put back, it is whole. */
static void cut_off(const char *path, const char *called)
{
    size_t size, left;
    char args[200];
    killed_maker(path);
    char *whole = bytes_of(path, &size);
    const size_t cuts[] = { size - 1, size / 2, 100000, 4096, 100, 0 };
    static const char *const looks[] = { "doctor %s", "doctor %s --fix", "doctor %s --fix --json", "ls %s", "blocks %s" };
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        cr_assert(eq(int, truncate(path, (off_t)cuts[i]), 0));
        for (size_t k = 0; k < sizeof looks / sizeof *looks; k++) {
            snprintf(args, sizeof args, looks[k], called);
            cr_assert(eq(int, tool("%s", args), 6), "%s at %zu: %s", args, cuts[i], said);
            cr_assert(says(cuts[i] < 4096 ? "is not a pool: it has" : "was cut off:"), "%s at %zu: %s", args, cuts[i], said);
        }
        char *rest = bytes_of(path, &left);
        cr_assert(eq(sz, left, cuts[i]));
        cr_assert(memcmp(rest, whole, left) == 0, "cut off at %zu, and changed", cuts[i]);
        free(rest);
    }
    put_back(path, whole, size);
    free(whole);
    cr_assert(eq(int, tool("doctor %s --fix", called), 0), "%s", said);
    cr_assert(eq(int, tool("cat %s --type 3 --id 4 | wc -c | grep -w 70000", called), 0));
}

Test(places, the_doctor_leaves_a_pool_alone_that_was_cut_off)
{
    char path[TEST_PATH], shared[SHM_PATH_MAX];
    const char *name = test_name("short");
    close(test_file(path));
    unlink(path);
    cut_off(path, path);
    unlink(path);
    shm_path(name, shared);
    cut_off(shared, name);
    cr_assert(eq(int, tool("rm %s --force", name), 0), "%s", said);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(places, what_was_never_written_is_no_pool)
{
    char path[SHM_PATH_MAX];
    const char *name = test_name("zeros");
    shm_path(name, path);
    int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    cr_assert(eq(int, ftruncate(fd, 8 * MIB), 0));
    close(fd);
    cr_assert(eq(int, tool("doctor %s --fix", name), 6));
    cr_assert(says("nothing was written there"), "%s", said);
    cr_assert(eq(int, tool("rm %s", name), 0));
    cr_assert(eq(int, test_leftovers(name), 0));
}

/* It has a name when it is whole, so it is there or not, and who died can be cleaned up after. */
Test(places, a_maker_that_is_killed_leaves_a_pool_or_nothing)
{
    const char *name = test_name("half");
    for (int round = 0; round < 20; round++) {
        pid_t maker = fork();
        if (maker == 0) {
            cue_pool *pool;
            CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 64 * MIB }, &pool));
            for (;;)
                pause();
        }
        nanosleep(&(struct timespec){ .tv_nsec = round * 100000 }, NULL);
        kill(maker, SIGKILL);
        waitpid(maker, NULL, 0);
        int status = tool("doctor %s --fix", name);
        cr_assert(status == 0 || (status == 3 && says("there is no")), "%d: %s", status, said);
        cr_assert(eq(int, test_leftovers(name), 0));
    }
}

/* ---- exit codes and words ---- */

Test(places, a_wrong_command_line_is_told_what_there_is)
{
    cr_assert(eq(int, tool("dance -q"), 2));
    cr_assert(says("no command `dance`, but there are: ls blocks cat rm doctor tap;"));
    cr_assert(eq(int, tool("help dance"), 2));
    cr_assert(eq(int, tool("help rm"), 0));
    cr_assert(says("--force"));
    cr_assert(eq(int, tool("ls 'not a name'"), 2));
    cr_assert(says("cannot be a pool's name"));
    cr_assert(eq(int, tool("cat shop --name n --timeout soon"), 2));
    cr_assert(says("5s"));
    cr_assert(eq(int, tool("cat shop 5 --timeout 1s"), 2));
    cr_assert(eq(int, tool("cat shop 5 --name x"), 2));
    cr_assert(eq(int, tool("rm"), 2));
    cr_assert(eq(int, tool("ls --type"), 2));
}

Test(places, exit_3_says_where_it_looked)
{
    const char *name = test_name("nothing");
    cr_assert(eq(int, tool("ls %s", name), 3));
    cr_assert(says("CUE_ENOENT: there is no such pool (no /dev/shm/"));
    cr_assert(says("`cuelight ls`"));
    cue_pool *pool = make(name, (cue_pool_opts){ 0 });
    cr_assert(eq(int, tool("cat %s --name weights", name), 3));
    cr_assert(says("`cuelight blocks"));
    cr_assert(eq(int, tool("rm %s weights", name), 3));
    cr_assert(says("`cuelight blocks"));
    cue_pool_close(pool);
}

/* Runs the tool as a user who is not the owner of anything here; false: there is no way to. A copy of it where that user gets at it. */
static bool as_nobody(char folder[TEST_PATH])
{
    if (geteuid() != 0 || system("setpriv --version >/dev/null 2>&1") != 0)
        return false;
    cr_assert(test_folder(folder));
    cr_assert(eq(int, chmod(folder, 0755), 0));
    cr_assert(eq(int, tool("--version"), 0)); /* tells where it is */
    cr_assert(eq(int, tool("--version >/dev/null && cp %s %s/cuelight", tool_path, folder), 0));
    snprintf(tool_path, sizeof tool_path, "%s/cuelight", folder);
    snprintf(tool_before, sizeof tool_before, "setpriv --reuid=%d --regid=%d --clear-groups", NOBODY, NOBODY);
    cr_assert(eq(int, tool("--version"), 0), "%s", said);
    return true;
}

Test(places, exit_4_says_who_may)
{
    char folder[TEST_PATH], path[SHM_PATH_MAX];
    const char *name = test_name("theirs");
    shm_path(name, path);
    if (!as_nobody(folder))
        cr_skip_test("cannot become another user");
    cue_block b;
    cue_pool *pool = make(name, (cue_pool_opts){ 0 });
    CUE_MUST(cue_block_alloc(pool, 5, &(cue_block_opts){ .name = "text", .flags = CUE_KEEP }, &b));
    memcpy(b.data, "hello", 5);
    static const char *const all[] = { "ls %s",           "blocks %s",     "cat %s --name text", "doctor %s",
                                       "doctor %s --fix", "rm %s --force", "rm %s text" };
    for (size_t i = 0; i < 7; i++) {
        char args[128];
        snprintf(args, sizeof args, all[i], name);
        cr_assert(eq(int, tool("%s", args), 4), "%s: %s", args, said);
        cr_assert(says("Permission denied; it belongs to root, mode 0600: run this as root"));
    }
    cr_assert(eq(int, tool("ls --json | grep -w %s", name), 0), "in a list it is no fault that others have pools");
    cr_assert(says("\"user\": \"root\", \"uid\": 0, "));
    cr_assert(says("\"error\": \"CUE_EPERM\""));
    cr_assert(eq(int, tool("doctor --json | grep -w %s", name), 0));
    cr_assert(says("\"severity\": \"warning\""));
    /* who may read may look, and no more */
    cr_assert(eq(int, chmod(path, 0644), 0));
    cr_assert(eq(int, tool("cat %s --name text", name), 0));
    cr_assert(eq(str, said, (char *)"hello"));
    cr_assert(eq(int, tool("doctor %s", name), 0));
    cr_assert(eq(int, tool("rm %s text", name), 4));
    cr_assert(eq(int, tool("rm %s --force", name), 4));
    cr_assert(says("only root may remove it"));
    /* who may write may end blocks and clean up, but take no name away */
    cr_assert(eq(int, chmod(path, 0666), 0));
    cr_assert(eq(int, tool("rm %s --force", name), 4));
    cr_assert(eq(int, access(path, F_OK), 0));
    cr_assert(eq(int, tool("rm %s text", name), 0));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .name = "text" }, CUE_NOW, NULL), CUE_ENOENT));
    cue_block_release(&b);
    struct cast owner = cast_start("pool_owner", name, "2");
    cr_assert(eq(int, cast_hear(&owner, 10000), 'r'));
    cast_kill(&owner);
    cr_assert(eq(int, tool("doctor %s --fix", name), 0));
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
    unlink(tool_path);
    rmdir(folder);
}

Test(places, exit_5_when_nothing_was_published_in_time)
{
    const char *name = test_name("await");
    cue_block named, keyed, old;
    cue_pool *pool = make(name, (cue_pool_opts){ 0 });
    CUE_MUST(cue_block_alloc(pool, 5, &(cue_block_opts){ .name = "text" }, &named));
    CUE_MUST(cue_block_alloc(pool, 4, &(cue_block_opts){ .type = 7, .id = 42 }, &keyed));
    memcpy(named.data, "hello", 5);
    memcpy(keyed.data, "four", 4);
    cr_assert(eq(int, tool("cat %s --name text --timeout 50ms", name), 5));
    cr_assert(says("in time"));
    cr_assert(eq(int, tool("cat %s --type 7 --id 42 --timeout 0.05", name), 5));
    char args[128];
    snprintf(args, sizeof args, "cat %s --name text --timeout 10s", name);
    FILE *waiting = tool_start(args);
    CUE_MUST(cue_block_publish(&named, 0));
    cr_assert(eq(int, tool_end(waiting), 0));
    cr_assert(eq(str, said, (char *)"hello"));
    CUE_MUST(cue_block_publish(&keyed, CUE_MINE));
    cr_assert(eq(int, tool("cat %s --type 7 --id 42 --timeout 10s", name), 0));
    cr_assert(eq(str, said, (char *)"four"));
    /* the published one is meant, not one that will take its key over */
    old = named;
    CUE_MUST(cue_block_alloc(pool, 5, &(cue_block_opts){ .name = "text", .flags = CUE_REPLACE }, &named));
    memcpy(named.data, "later", 5);
    cr_assert(eq(int, tool("cat %s --name text", name), 0));
    cr_assert(eq(str, said, (char *)"hello"));
    CUE_MUST(cue_block_publish(&named, 0));
    cr_assert(eq(int, tool("cat %s --name text", name), 0));
    cr_assert(eq(str, said, (char *)"later"));
    cue_block_release(&old);
    cue_block_free(&named);
    /* a pool that goes meanwhile is no time-out */
    waiting = tool_start(args);
    cue_block_release(&keyed);
    CUE_MUST(cue_pool_destroy(pool));
    cr_assert(eq(int, tool_end(waiting), 3));
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(places, exit_6_says_what_to_do)
{
    const char *name = test_name("version");
    char path[SHM_PATH_MAX], file[TEST_PATH];
    shm_path(name, path);
    cue_pool_close(make(name, (cue_pool_opts){ .flags = CUE_PERSIST }));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint32_t version = POOL_VERSION + 1;
    cr_assert(eq(int, (int)pwrite(fd, &version, 4, offsetof(struct pool_header, version)), 4));
    static const char *const all[] = { "ls %s", "blocks %s", "cat %s --name text", "doctor %s", "doctor %s --fix", "rm %s text" };
    for (size_t i = 0; i < 6; i++) {
        char args[128];
        snprintf(args, sizeof args, all[i], name);
        cr_assert(eq(int, tool("%s", args), 6), "%s: %s", args, said);
        cr_assert(says("CUE_EVERSION"));
        cr_assert(says("layout version"));
        cr_assert(says("use the cuelight of that version, or remove it with `cuelight rm`"));
    }
    version = POOL_VERSION;
    uint64_t sum = 1;
    cr_assert(eq(int, (int)pwrite(fd, &version, 4, offsetof(struct pool_header, version)), 4));
    cr_assert(eq(int, (int)pwrite(fd, &sum, 8, offsetof(struct pool_header, checksum)), 8));
    close(fd);
    for (size_t i = 0; i < 6; i++) {
        char args[128];
        snprintf(args, sizeof args, all[i], name);
        cr_assert(eq(int, tool("%s", args), 6), "%s: %s", args, said);
        cr_assert(says("CUE_ECORRUPT"));
        cr_assert(says("has a damaged header; `cuelight rm` removes it"));
    }
    cr_assert(eq(int, tool("rm %s", name), 0));
    /* the same in a file: what says of itself that it is a pool may be removed */
    close(test_file(file));
    unlink(file);
    killed_maker(file);
    fd = open(file, O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, (int)pwrite(fd, &sum, 8, offsetof(struct pool_header, checksum)), 8));
    cr_assert(eq(int, ftruncate(fd, 8192), 0));
    close(fd);
    cr_assert(eq(int, tool("doctor %s", file), 6));
    cr_assert(eq(int, tool("rm %s", file), 0));
    cr_assert(lt(int, access(file, F_OK), 0));
}

Test(places, exit_70_when_nothing_can_be_written)
{
    const char *name = test_name("full");
    cue_block b;
    cue_pool *pool = make(name, (cue_pool_opts){ 0 });
    CUE_MUST(cue_block_alloc(pool, 100000, &(cue_block_opts){ .name = "big", .flags = CUE_KEEP }, &b));
    cr_assert(eq(int, tool("ls %s >/dev/full", name), 70));
    cr_assert(eq(int, tool("blocks %s --json >/dev/full", name), 70));
    cr_assert(eq(int, tool("cat %s --name big >/dev/full", name), 70));
    cr_assert(eq(int, tool("cat %s --name big --json >/dev/full", name), 70));
    cr_assert(eq(int, tool("cat %s --name big -q >/dev/full", name), 0));
    cue_block_free(&b);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

/* ---- JSON ---- */

Test(places, every_line_of_json_is_an_object)
{
    char file[TEST_PATH], url[128];
    const char *name = test_name("json");
    close(test_file(file));
    cue_pool *pool = make(name, (cue_pool_opts){ .flags = CUE_PERSIST, .label = "a \"label\"\\ \t\x01\xc3\xa4\xff" });
    cue_block b, c;
    cue_channel *ch;
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .name = "weights", .flags = CUE_KEEP }, &b));
    CUE_MUST(cue_block_alloc(pool, 5000, &(cue_block_opts){ .type = 7, .id = UINT64_MAX }, &c));
    snprintf(url, sizeof url, "shm://%s/jobs", name);
    CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &ch));
    static const char *const all[] = { "ls",
                                       "ls %s",
                                       "blocks %s",
                                       "blocks %s --by owner",
                                       "blocks %s --by type",
                                       "blocks %s --leaks",
                                       "doctor",
                                       "doctor %s",
                                       "rm %s weights",
                                       "cat %s --type 7 --id 0xffffffffffffffff",
                                       "doctor --fix %s" };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char args[128];
        snprintf(args, sizeof args, all[i], name);
        cr_assert(lt(int, tool("%s --json >>%s", args, file), 7), "%s", args); /* other tests damage pools meanwhile */
    }
    cue_channel_close(ch);
    cue_block_release(&b);
    cue_block_release(&c);
    cue_pool_close(pool);
    cr_assert(eq(int, tool("rm %s --json >>%s", name, file), 0));
    cr_assert(eq(int, tool("--version >/dev/null; python3 -m json.tool --json-lines %s >/dev/null", file), 0), "%s", said);
    cr_assert(ne(int, tool("--version >/dev/null; grep -v '^{.*}$' %s", file), 0), "%s", said);
    cr_assert(eq(int, tool("--version >/dev/null; wc -l <%s", file), 0));
    cr_assert(ge(int, atoi(said), 18));
    unlink(file);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(places, bytes_come_in_base64)
{
    static const size_t sizes[] = { 0, 1, 2, 3, 65535, 65536, 131077 };
    const char *name = test_name("base64");
    char path[TEST_PATH];
    int fd = test_file(path);
    cue_pool *pool = make(name, (cue_pool_opts){ 0 });
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cue_block b;
        CUE_MUST(cue_block_alloc(pool, sizes[i], &(cue_block_opts){ .type = 9, .id = 5, .flags = CUE_KEEP }, &b));
        for (size_t k = 0; k < sizes[i]; k++)
            ((unsigned char *)b.data)[k] = (unsigned char)(k * k >> 3);
        cr_assert(eq(int, ftruncate(fd, 0), 0));
        cr_assert(eq(i64, pwrite(fd, b.data, sizes[i], 0), (int64_t)sizes[i]));
        cr_assert(
            eq(int, tool("cat %s --type 9 --id 5 --json | sed 's/.*\"base64\": \"//; s/\"}$//' | base64 -d | cmp - %s", name, path), 0),
            "%zu bytes: %s", sizes[i], said);
        cue_block_free(&b);
    }
    close(fd);
    unlink(path);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

/* ---- everything at once ---- */

/* In a /dev/shm of its own, so that the pools of other tests do not matter, or else under a prefix of its own. */
Test(places, the_doctor_makes_his_round)
{
    bool small = test_small_shm((size_t)16 * MIB);
    char prefix[40];
    snprintf(prefix, sizeof prefix, "%.20s-round", getenv("CUE_PREFIX"));
    setenv("CUE_PREFIX", prefix, 1);
    cr_assert(eq(int, tool("ls"), 1));
    cr_assert(says("no pools"));
    cue_pool *healthy = make("healthy", (cue_pool_opts){ 0 }), *struck = make("struck", (cue_pool_opts){ 0 });
    char orphan[SHM_PATH_MAX];
    shm_path("orphan", orphan);
    killed_maker(orphan);
    struct cast owner = cast_start("pool_owner", "struck", "3"), alone = { 0 };
    cr_assert(eq(int, cast_hear(&owner, 10000), 'r'));
    cue_pool *left = make("left", (cue_pool_opts){ 0 });
    alone = cast_start("pool_owner", "left", "3");
    cr_assert(eq(int, cast_hear(&alone, 10000), 'r'));
    cue_pool_close(left);
    cast_kill(&alone);
    cast_kill(&owner);
    cr_assert(eq(int, tool("ls --json | grep -c '\"dead\": 1'"), 0));
    cr_assert(eq(int, atoi(said), 3));
    cr_assert(eq(int, tool("doctor"), 1));
    cr_assert(says("struck        fault    party 2"));
    cr_assert(says("nobody living is attached and nothing is kept"));
    cr_assert(eq(int, tool("doctor --fix --json"), 0), "%s", said);
    cr_assert(says("{\"pool\": \"struck\", \"severity\": \"ok\", \"text\": \"cleaned up after the dead; every invariant holds\"}"));
    cr_assert(says("{\"pool\": \"left\", \"severity\": \"ok\", \"text\": \"nobody used it and it held nothing: removed\"}"));
    cr_assert(eq(int, tool("doctor -q"), 0));
    cr_assert(eq(str, said, (char *)""));
    cr_assert(eq(int, tool("ls --json | grep -c '\"dead\": 0'"), 0));
    cr_assert(eq(int, atoi(said), 3), "the orphan stays for what was published in it");
    if (small) {
        cr_assert(eq(int, tool("doctor"), 0));
        cr_assert(says("/dev/shm has only 16.0M"));
        int fd = open("/dev/shm/filler", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        static char zeros[MIB];
        while (write(fd, zeros, sizeof zeros) > 0) /* until it is full */
            ;
        cr_assert(eq(int, tool("doctor"), 1));
        cr_assert(says("allocations will fail soon"));
        unlink("/dev/shm/filler");
        close(fd);
        cr_assert(eq(int, tool("doctor"), 0));
    }
    int fd = open(orphan, O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, ftruncate(fd, 100), 0));
    close(fd);
    cr_assert(eq(int, tool("doctor"), 6), "and the others were looked at");
    cr_assert(says("healthy"));
    cr_assert(eq(int, tool("ls"), 1));
    cr_assert(eq(int, tool("rm orphan"), 0));
    cue_pool_close(struck);
    cue_pool_close(healthy);
    cr_assert(eq(int, tool("ls"), 1));
    cr_assert(eq(int, test_leftovers(""), 0));
}
