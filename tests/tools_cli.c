/* The tool `cuelight`, run as people run it: what it prints and its exit codes. */
#include "tests/run_tool.h"

#include "pool/pool_internal.h"

#include <cuelight/channel.h>
#include <cuelight/pool.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { MIB = 1 << 20 };

static cue_pool *make(const char *name, uint32_t flags)
{
    cue_pool *pool;
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 4 * MIB, .flags = flags }, &pool));
    return pool;
}

static void object_path(const char *name, char path[SHM_PATH_MAX])
{
    shm_path(name, path);
}

static bool exists(const char *name)
{
    char path[SHM_PATH_MAX];
    object_path(name, path);
    return access(path, F_OK) == 0;
}

/* A party of the pool was killed; it owned `blocks` blocks. */
static void killed_owner(const char *name, const char *blocks)
{
    cue_pool *pool = make(name, 0);
    struct cast owner = cast_start("pool_owner", name, blocks);
    cr_assert(eq(int, cast_hear(&owner, 10000), 'r'));
    cue_pool_close(pool);
    cast_kill(&owner);
}

Test(tools, tap_shows_what_passes)
{
    const char *name = test_name("tooltap");
    char url[128];
    cue_channel *lane;
    cue_msg m;
    cue_pool *pool = make(name, 0);
    snprintf(url, sizeof url, "shm://%s/lane", name);
    cr_assert(eq(int, tool("tap %s", url), 3));
    cr_assert(says("no lane lane"));
    CUE_MUST(cue_channel_open(url, CUE_SEND | CUE_RECV, NULL, &lane));
    cr_assert(eq(int, tool("tap %s --timeout 20ms", url), 5));
    cr_assert(says("0 messages, 0 missed"));
    for (int json = 0; json < 2; json++) {
        char args[256];
        snprintf(args, sizeof args, "tap %s --count 2 %s", url, json ? "--json" : "");
        FILE *out = tool_start(args);
        struct pollfd ended = { .fd = fileno(out), .events = POLLIN };
        do { /* what is sent before it looks on is not shown: until it has ended */
            CUE_MUST(cue_channel_send(lane, &(cue_msg){ .type = 7, .tag = 71, .data = "hello", .size = 5 }, CUE_SEC(10)));
            CUE_MUST(cue_channel_recv(lane, &m, CUE_NOW));
            cue_msg_release(&m);
        } while (poll(&ended, 1, 1) >= 0 && !(ended.revents & POLLHUP));
        cr_assert(eq(int, tool_end(out), 0));
        cr_assert(says(json ? "\"type\": 7" : "type 0x7"));
        cr_assert(says(json ? "\"tag\": 71" : "tag 71"));
        cr_assert(says(json ? "\"bytes\": \"68656c6c6f\"" : "68656c6c6f  |hello|"));
    }
    cr_assert(eq(int, tool("tap ipc://nobody"), 1));
    cr_assert(eq(int, tool("tap"), 2));
    cue_channel_close(lane);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(tools, help_and_usage)
{
    cr_assert(eq(int, tool("--help"), 0));
    cr_assert(says("doctor"));
    cr_assert(eq(int, tool("--version"), 0));
    cr_assert(says("cuelight "));
    cr_assert(eq(int, tool("blocks --help"), 0));
    cr_assert(says("--leaks"));
    cr_assert(eq(int, tool(" "), 2));
    cr_assert(eq(int, tool("dance"), 2));
    cr_assert(eq(int, tool("ls --nonsense"), 2));
    cr_assert(eq(int, tool("ls --fix"), 2), "an option of another command");
    cr_assert(eq(int, tool("ls a b"), 2));
    cr_assert(eq(int, tool("blocks"), 2));
    cr_assert(eq(int, tool("blocks x --type seven"), 2));
    cr_assert(eq(int, tool("cat x"), 2));
    cr_assert(eq(int, tool("cat x 12monkeys"), 2));
}

Test(tools, ls_shows_pools_and_their_counts)
{
    const char *name = test_name("tool-ls");
    cue_pool *pool = make(name, 0);
    cue_block kept, owned;
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .name = "weights", .flags = CUE_KEEP }, &kept));
    CUE_MUST(cue_block_alloc(pool, 5000, NULL, &owned));
    cr_assert(eq(int, tool("ls | grep -w %s", name), 0));
    cr_assert(eq(int, tool("ls --json | grep -w %s", name), 0));
    cr_assert(says("\"size\": 4194304, \"used\": 8320, "));
    cr_assert(says("\"blocks\": 2, \"kept\": 1, \"parties\": 1, \"dead\": 0, \"orphaned\": false, "));
    cr_assert(says("\"error\": null"));
    cr_assert(eq(int, tool("ls -q >/dev/null; test -z \"$(CUE_PREFIX=%s true)\"", getenv("CUE_PREFIX")), 0));
    cue_block_release(&owned);
    cue_block_free(&kept);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(tools, ls_of_a_pool_shows_parties_and_lanes)
{
    const char *name = test_name("tool-lanes");
    cue_pool *pool = make(name, 0);
    cue_channel *ch;
    char url[128];
    uint64_t number = 7;
    snprintf(url, sizeof url, "shm://%s/jobs?depth=32", name);
    CUE_MUST(cue_channel_open(url, CUE_RECV | CUE_SEND, NULL, &ch));
    for (int i = 0; i < 3; i++)
        CUE_MUST(cue_channel_send(ch, CUE_MSG(1, number), CUE_NOW));
    cr_assert(eq(int, tool("ls %s --json", name), 0));
    cr_assert(says("{\"kind\": \"party\", \"party\": 1, "));
    cr_assert(says("\"state\": \"live\"}"));
    cr_assert(says("{\"kind\": \"lane\", \"lane\": \"jobs\", \"lane_kind\": \"mailbox\", \"queued\": 3, \"depth\": 32, "));
    cr_assert(eq(int, tool("ls %s", name), 0));
    cr_assert(says("jobs"));
    cue_msg m;
    for (int i = 0; i < 3; i++) {
        CUE_MUST(cue_channel_recv(ch, &m, CUE_NOW));
        cue_msg_release(&m);
    }
    cue_channel_close(ch);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(tools, ls_of_a_pool_shows_its_limits_and_who_uses_how_much)
{
    const char *name = test_name("tool-limits");
    cue_pool *pool;
    cue_block b;
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 4 << 20, .quota = 1 << 20, .max_allocations = 50 }, &pool));
    CUE_MUST(cue_block_alloc(pool, 5000, NULL, &b));
    cr_assert(eq(int, tool("ls %s --json", name), 0));
    cr_assert(says("{\"kind\": \"use\", \"size\": 4194304, \"used\": 8192, "));
    cr_assert(says("\"blocks\": 1, \"max_allocations\": 50, \"quota\": 1048576}"));
    cr_assert(says("\"blocks\": 1, \"bytes\": 8192, \"quota\": 1048576, \"leases\": 0, \"failed\": 0, "));
    cr_assert(eq(int, tool("ls %s", name), 0));
    cr_assert(says("QUOTA"));
    cue_block_release(&b);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(tools, looking_makes_and_changes_nothing)
{
    const char *name = test_name("tool-none");
    static const char *const looks[] = { "ls %s", "blocks %s", "doctor %s", "rm %s", "cat %s 5", "rm %s block" };
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
        char args[128];
        snprintf(args, sizeof args, looks[i], name);
        cr_assert(eq(int, tool("%s", args), 3), "%s", args);
        cr_assert(not(exists(name)));
    }
    cr_assert(eq(int, tool("ls no/such/file"), 3));
    cr_assert(eq(int, tool("ls no:name"), 2));
    /* an orphaned pool is shown as it is, and stays */
    killed_owner(name, "3");
    for (int i = 0; i < 2; i++) {
        tool("ls --json | grep -w %s", name);
        cr_assert(says("\"blocks\": 3, \"kept\": 0, \"parties\": 1, \"dead\": 1, \"orphaned\": true"));
    }
    cr_assert(eq(int, tool("doctor %s", name), 1));
    cr_assert(exists(name));
    cr_assert(eq(int, tool("doctor %s --fix", name), 0));
    cr_assert(not(exists(name)), "nothing was kept in it");
}

Test(tools, blocks_lists_what_is_there)
{
    const char *name = test_name("tool-blocks");
    cue_pool *pool = make(name, 0);
    cue_block b[3];
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .name = "weights", .flags = CUE_KEEP }, &b[0]));
    CUE_MUST(cue_block_alloc(pool, 5000, &(cue_block_opts){ .type = 7, .id = 42 }, &b[1]));
    CUE_MUST(cue_block_alloc(pool, 0, NULL, &b[2]));
    cr_assert(eq(int, tool("blocks %s --json", name), 0));
    cr_assert(says("\"name\": \"weights\", \"size\": 100, \"capacity\": 128, \"state\": \"kept\", \"owner\": 0, "));
    cr_assert(says("\"type\": 7, \"key\": 42, \"name\": null, \"size\": 5000, \"capacity\": 8192, \"state\": \"owned\", \"owner\": 1, "));
    cr_assert(eq(int, tool("blocks %s --type 7 --json | wc -l", name), 0));
    cr_assert(eq(int, atoi(said), 1));
    cr_assert(eq(int, tool("blocks %s --type 8", name), 1), "nothing matched");
    cr_assert(eq(int, tool("blocks %s --by owner --json", name), 0));
    cr_assert(says("\"label\": \"pool\", \"start\": 0, \"started\": null, \"blocks\": 1, \"bytes\": 100, \"leaked\": 0}"));
    cr_assert(says("\"blocks\": 2, \"bytes\": 5000, \"leaked\": 0}"));
    cr_assert(eq(int, tool("blocks %s --by type --json", name), 0));
    cr_assert(says("{\"type\": 7, \"blocks\": 1, \"kept\": 0, \"bytes\": 8192}"));
    cr_assert(eq(int, tool("blocks %s --by type --type 8", name), 1), "nothing matched");
    cr_assert(eq(int, tool("blocks %s --by type --leaks", name), 2));
    cr_assert(eq(int, tool("blocks %s --by size", name), 2));
    cr_assert(eq(int, tool("blocks %s --leaks", name), 0));
    cr_assert(eq(int, tool("blocks %s -q", name), 0));
    cr_assert(eq(int, (int)strlen(said), 0));
    cue_block_free(&b[0]);
    cue_block_release(&b[1]);
    cue_block_release(&b[2]);
    cue_pool_close(pool);
}

Test(tools, leaks_are_the_blocks_of_the_dead)
{
    const char *name = test_name("tool-leaks");
    cue_pool *pool = make(name, 0);
    killed_owner(name, "5");
    cr_assert(eq(int, tool("blocks %s --leaks --json | grep -c '\"leaked\": true'", name), 0));
    cr_assert(eq(int, atoi(said), 5));
    cr_assert(eq(int, tool("blocks %s --leaks", name), 1));
    cr_assert(eq(int, tool("doctor %s", name), 1));
    cr_assert(says("is dead and not cleaned up after"));
    cr_assert(eq(int, tool("doctor %s --fix", name), 0));
    cr_assert(eq(int, tool("blocks %s --leaks", name), 0));
    cr_assert(eq(int, tool("doctor %s", name), 0));
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

Test(tools, cat_writes_the_bytes_of_a_block)
{
    const char *name = test_name("tool-cat");
    cue_pool *pool = make(name, 0);
    cue_block named, keyed, large;
    cue_block_info info;
    CUE_MUST(cue_block_alloc(pool, 6, &(cue_block_opts){ .name = "text" }, &named));
    memcpy(named.data, "hello\n", 6);
    CUE_MUST(cue_block_publish(&named, 0));
    CUE_MUST(cue_block_alloc(pool, 4, &(cue_block_opts){ .type = 7, .id = 42 }, &keyed));
    memcpy(keyed.data, "four", 4);
    CUE_MUST(cue_block_alloc(pool, 300000, NULL, &large));
    memset(large.data, 'x', 300000);
    CUE_MUST(cue_block_stat(&large, &info));
    cr_assert(eq(int, tool("cat %s --name text", name), 0));
    cr_assert(eq(str, said, "hello\n"));
    cr_assert(eq(int, tool("cat %s --type 7 --id 42", name), 0));
    cr_assert(eq(str, said, "four"));
    cr_assert(eq(int, tool("cat %s %llu | tr -d '\\n' | md5sum", name, (unsigned long long)info.id), 0));
    char sum[64];
    snprintf(sum, sizeof sum, "%.32s", said);
    cr_assert(eq(int, tool("--version >/dev/null; head -c 300000 /dev/zero | tr '\\0' x | md5sum"), 0));
    cr_assert(eq(int, strncmp(sum, said, 32), 0));
    cr_assert(eq(int, tool("blocks %s --json | grep 300000 | sed 's/.*\"id\": \"\\([^\"]*\\)\".*/\\1/'", name), 0));
    said[strcspn(said, "\n")] = 0;
    char id[64];
    snprintf(id, sizeof id, "%.40s", said);
    cr_assert(eq(int, tool("cat %s %s | wc -c", name, id), 0));
    cr_assert(eq(int, atoi(said), 300000));
    cr_assert(eq(int, tool("cat %s --name nothing", name), 3));
    cr_assert(eq(int, tool("cat %s 5:1", name), 3));
    cue_block_free(&named);
    cue_block_release(&keyed);
    cue_block_release(&large);
    cue_pool_close(pool);
}

Test(tools, rm_needs_force_while_somebody_lives)
{
    const char *name = test_name("tool-rm");
    cue_pool *pool = make(name, CUE_PERSIST);
    cue_block b;
    cr_assert(eq(int, tool("rm %s", name), 4));
    cr_assert(exists(name));
    cr_assert(eq(int, tool("rm %s --force", name), 0));
    cr_assert(not(exists(name)));
    cr_assert(eq(int, cue_block_alloc(pool, 1, NULL, &b), CUE_EGONE));
    cue_pool_close(pool);
    cr_assert(eq(int, tool("rm %s", name), 3));
    cue_pool_close(make(name, CUE_PERSIST));
    cr_assert(exists(name), "it was asked to stay");
    cr_assert(eq(int, tool("rm %s", name), 0));
    cr_assert(not(exists(name)));
}

Test(tools, rm_of_a_name_ends_that_block)
{
    const char *name = test_name("tool-rmname");
    cue_pool *pool = make(name, 0);
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, 100, &(cue_block_opts){ .name = "weights", .flags = CUE_KEEP }, &b));
    cr_assert(eq(int, tool("rm %s biases", name), 3));
    cr_assert(eq(int, tool("rm %s weights", name), 0));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .name = "weights" }, CUE_NOW, NULL), CUE_ENOENT));
    memset(b.data, 1, b.size); /* our view stays */
    cue_block_release(&b);
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

/* ---- damage ---- */

static void write_object(const char *name, const void *bytes, size_t size)
{
    char path[SHM_PATH_MAX], whole[SHM_PATH_MAX + 8];
    object_path(name, path);
    snprintf(whole, sizeof whole, "%s~", path); /* no name of a pool: another test's `ls` never sees half of it */
    FILE *file = fopen(whole, "w");
    fwrite(bytes, 1, size, file);
    fclose(file);
    rename(whole, path);
}

Test(tools, what_is_no_pool_is_shown_and_can_be_removed)
{
    const char *name = test_name("tool-junk");
    static char junk[8192] = "this is no pool";
    write_object(name, junk, sizeof junk);
    cr_assert(eq(int, tool("ls | grep -w %s", name), 0));
    cr_assert(says("CUE_ECORRUPT"));
    cr_assert(eq(int, tool("ls >/dev/null"), 1));
    cr_assert(eq(int, tool("ls %s", name), 6));
    cr_assert(eq(int, tool("blocks %s", name), 6));
    cr_assert(eq(int, tool("doctor %s", name), 6));
    cr_assert(eq(int, tool("rm %s", name), 0));
    cr_assert(not(exists(name)));
    write_object(name, junk, 10);
    cr_assert(eq(int, tool("ls %s", name), 6));
    cr_assert(eq(int, tool("rm %s", name), 0));
}

/* A copy of a pool's first `bytes` bytes, for damaging. */
static size_t image_of(const char *name, char **image)
{
    char path[SHM_PATH_MAX];
    struct stat info;
    object_path(name, path);
    FILE *file = fopen(path, "r");
    fstat(fileno(file), &info);
    *image = malloc((size_t)info.st_size);
    size_t got = fread(*image, 1, (size_t)info.st_size, file);
    fclose(file);
    return got;
}

Test(tools, a_pool_of_another_version_is_left_alone)
{
    const char *name = test_name("tool-version");
    cue_pool *pool = make(name, 0);
    char *image;
    size_t bytes = image_of(name, &image);
    cue_pool_close(pool);
    ((struct pool_header *)(void *)image)->version = POOL_VERSION + 1;
    write_object(name, image, bytes);
    free(image);
    cr_assert(eq(int, tool("ls %s", name), 6));
    cr_assert(says("CUE_EVERSION"));
    cr_assert(eq(int, tool("rm %s", name), 0));
    cr_assert(not(exists(name)));
}

/* Reading what is cut off at that moment is a SIGBUS; the tool says so and goes on to the next pool. */
Test(tools, a_pool_that_is_cut_off_meanwhile)
{
    const char *name = test_name("tool-cut");
    cue_pool *pool = make(name, CUE_PERSIST);
    struct stat info;
    char path[SHM_PATH_MAX];
    object_path(name, path);
    stat(path, &info);
    cue_pool_close(pool);
    pid_t cutter = fork();
    while (cutter == 0)
        if (truncate(path, 4096) || truncate(path, info.st_size))
            _exit(0);
    for (int i = 0; i < 40; i++)
        cr_assert(lt(int, i % 2 ? tool("ls") : tool("doctor %s", name), 64), "%s", said);
    unlink(path);
    waitpid(cutter, NULL, 0);
}

Test(tools, damage_gives_words_and_never_a_signal)
{
    const char *name = test_name("tool-damage");
    static const char *const looks[] = { "ls %s", "ls", "blocks %s", "blocks %s --by owner", "doctor %s", "cat %s --type 7 --id 42" };
    cue_pool *pool = make(name, CUE_PERSIST);
    cue_block b[40];
    char *image, url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/jobs", name);
    CUE_MUST(cue_channel_open(url, CUE_RECV | CUE_SEND, NULL, &ch));
    for (unsigned i = 0; i < 40; i++)
        CUE_MUST(cue_block_alloc(pool, i * 200, &(cue_block_opts){ .type = 7, .id = 40 + i }, &b[i]));
    size_t bytes = image_of(name, &image), tables = (size_t)pool->header->meta_at + 8192, records = (size_t)pool->header->slab_records_at;
    cr_assert(gt(sz, bytes, records + 65536));
    for (unsigned i = 0; i < 40; i++)
        cue_block_release(&b[i]);
    cue_channel_close(ch);
    cue_pool_destroy(pool);
    char *bent = malloc(bytes);
    uint64_t seed = 42;
    for (int round = 0; round < 40; round++) {
        memcpy(bent, image, bytes);
        for (int hit = 0; hit < 200; hit++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            size_t at = (size_t)(seed >> 20) % (tables / 8 - 64) * 8 + 512; /* behind the geometry, which a sum covers */
            if (hit % 4 == 0)
                at = records + (size_t)(seed >> 20) % 8192 * 8; /* of the slabs' blocks */
            uint64_t word = hit % 3 ? seed : hit % 2 ? UINT64_MAX : UINT64_C(1) << (seed >> 58);
            memcpy(bent + at, &word, 8);
        }
        write_object(name, bent, bytes);
        for (size_t i = 0; i < sizeof looks / sizeof *looks; i++) {
            char args[128];
            snprintf(args, sizeof args, looks[i], name);
            int code = tool("%s", args);
            bool undefined = strstr(said, "Sanitizer") || strstr(said, "runtime error");
            cr_assert(code < 64 && !undefined, "round %d, cuelight %s: %d\n%s", round, args, code, said);
        }
    }
    cr_assert(lt(int, tool("rm %s --force", name), 64));
    char path[SHM_PATH_MAX];
    object_path(name, path);
    unlink(path);
    free(image);
    free(bent);
}
