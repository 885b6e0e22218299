/* cuelight ls: the pools of this machine; what is in one. */
#include "tool.h"

#include "base/clock.h"
#include "base/process.h"
#include "base/shm.h"
#include "channels/lane.h"
#include "pool/pool_internal.h"

#include <string.h>
#include <sys/stat.h>

static double age_of(uint64_t since_ns)
{
    int64_t now = clock_ns();
    return since_ns && since_ns <= (uint64_t)now ? (double)((uint64_t)now - since_ns) / 1e9 : -1;
}

/* ---- ls ---- */

struct pool_row {
    cue_pool_info info;
    unsigned parties, dead;
    double age;
};

static int pool_row(cue_pool *pool, void *arg)
{
    struct pool_row *row = arg;
    int status = cue_pool_stat(pool, &row->info);
    if (status)
        return say_status(status, pool->name);
    count_parties(pool, &row->parties, &row->dead);
    row->age = pool->header->made_boot == process_boot() ? age_of(pool->header->made_ns) : -1;
    return EXIT_FINE;
}

static int list_one(const char *name, void *arg)
{
    struct rows *rows = arg;
    struct pool_row row = { .age = -1 };
    struct stat object = { 0 };
    char path[SHM_PATH_MAX], said[160] = "", parties[80] = "-";
    int status, code = look_at(name, pool_row, &row, &status);
    if (status == CUE_ENOENT)
        return EXIT_FINE; /* gone meanwhile */
    shm_path(name, path);
    if (stat(path, &object) == 0 && row.age < 0)
        row.age = (double)(time(NULL) - object.st_ctime);
    if (status)
        snprintf(said, sizeof said, "%s: %s", cue_status_name(status), *cue_trail() ? cue_trail() : cue_status_text(status));
    else if (row.dead)
        snprintf(parties, sizeof parties, "%u (%u dead: cuelight doctor)", row.parties, row.dead);
    else
        snprintf(parties, sizeof parties, "%u", row.parties);
    row_text(rows, "pool", "POOL", name);
    row_bytes(rows, "size", "SIZE", row.info.size);
    row_bytes(rows, "used", "USED", row.info.used);
    row_bytes(rows, "taken", "TAKEN", (uint64_t)object.st_blocks * 512);
    row_count(rows, "blocks", "BLOCKS", row.info.blocks);
    row_count(rows, "kept", "KEPT", row.info.kept);
    row_count(rows, "parties", NULL, row.parties);
    row_count(rows, "dead", NULL, row.dead);
    row_flag(rows, "orphaned", !status && row.parties == row.dead);
    row_age(rows, "age", "AGE", row.age);
    row_text(rows, "error", NULL, status ? cue_status_name(status) : NULL);
    row_text(rows, "trail", NULL, status ? cue_trail() : NULL);
    row_text(rows, NULL, "PARTIES", status ? said : parties);
    row_end(rows);
    return status ? EXIT_FOUND : code;
}

/* ---- ls POOL ---- */

static void list_parties(cue_pool *pool)
{
    static cue_party_info parties[POOL_MAX_PARTIES];
    struct rows *rows = rows_begin();
    int found = cue_pool_parties(pool, parties, POOL_MAX_PARTIES);
    for (int i = 0; i < found; i++) {
        const cue_party_info *party = &parties[i];
        char quota[16] = "-";
        if (party->quota)
            show_bytes(quota, party->quota);
        row_text(rows, "kind", NULL, "party");
        row_count(rows, "party", "PARTY", party->party);
        row_count(rows, "pid", "PID", (uint32_t)party->pid);
        row_text(rows, "label", "PROGRAM", party->label);
        row_count(rows, "uid", "UID", party->uid);
        row_age(rows, "age", "AGE", age_of(party->since_ns));
        row_count(rows, "blocks", "BLOCKS", party->blocks);
        row_bytes(rows, "bytes", "BYTES", party->bytes);
        row_both(rows, "quota", "QUOTA", party->quota, quota);
        row_count(rows, "leases", "LEASES", party->leases);
        row_count(rows, "failed", "REFUSED", party->failed);
        row_text(rows, "state", "STATE", party->dead ? "dead" : "live");
        row_end(rows);
    }
    rows_end(rows);
}

/* A line for people above the tables, and its own object. */
static int list_use(cue_pool *pool)
{
    cue_pool_info info;
    int status = cue_pool_stat(pool, &info);
    if (status)
        return say_status(status, pool->name);
    struct rows *rows = rows_begin();
    char most[24] = "-", quota[16] = "-", scattered[16];
    if (info.max_allocations)
        snprintf(most, sizeof most, "%llu", (unsigned long long)info.max_allocations);
    if (pool->header->quota)
        show_bytes(quota, pool->header->quota);
    unsigned percent = info.free ? 100 - (unsigned)(info.largest * 100 / info.free) : 0;
    snprintf(scattered, sizeof scattered, "%u%%", percent);
    row_text(rows, "kind", NULL, "use");
    row_bytes(rows, "size", "SIZE", info.size);
    row_bytes(rows, "used", "USED", info.used);
    row_bytes(rows, "taken", "TAKEN", info.taken);
    row_bytes(rows, "peak", "PEAK", info.peak);
    row_bytes(rows, "free", "FREE", info.free);
    row_bytes(rows, "largest", "LARGEST", info.largest);
    row_both(rows, "fragmented", "SCATTERED", percent, scattered);
    row_count(rows, "blocks", "BLOCKS", info.blocks);
    row_both(rows, "max_allocations", "OF", info.max_allocations, most);
    row_both(rows, "quota", "QUOTA", pool->header->quota, quota);
    row_end(rows);
    rows_end(rows);
    return EXIT_FINE;
}

static void lane_row(cue_pool *pool, struct rows *rows, const cue_block_info *info)
{
    static const char *const kinds[] = { "?", "mailbox", "queue", "stream", "topic" };
    uint32_t index = id_index(info->id);
    struct record *rec = pool_record(pool, index);
    struct lane_head *head = rec ? lane_head_of(pool, rec, index) : NULL;
    cue_channel_info lane = { 0 };
    char receiver[24] = "-";
    if (!head)
        return; /* gone meanwhile, or no lane of this version */
    lane_stat(pool, head, rec, &lane);
    if (lane.receiver)
        snprintf(receiver, sizeof receiver, "%d%s", lane.receiver, lane.sleeping ? " asleep" : "");
    row_text(rows, "kind", NULL, "lane");
    row_text(rows, "lane", "LANE", info->name);
    row_text(rows, "lane_kind", "KIND", kinds[lane.kind < sizeof kinds / sizeof *kinds ? lane.kind : 0]);
    row_count(rows, "queued", "QUEUED", lane.queued);
    row_count(rows, "depth", "DEPTH", lane.depth);
    row_count(rows, "peak", "PEAK", lane.peak);
    row_count(rows, "sent", "SENT", lane.sent);
    row_count(rows, "received", "RECEIVED", lane.received);
    row_bytes(rows, "bytes", "BYTES", lane.bytes);
    row_bytes(rows, "copied", NULL, lane.copied);
    row_count(rows, "dropped", "DROPPED", lane.dropped);
    row_count(rows, "refused", "REFUSED", lane.refused);
    row_count(rows, "users", "USERS", lane.users);
    row_count(rows, "receiver", NULL, (uint32_t)lane.receiver);
    row_flag(rows, "sleeping", lane.sleeping);
    row_text(rows, NULL, "RECEIVER", receiver);
    row_end(rows);
}

static void list_lanes(cue_pool *pool)
{
    struct rows *rows = rows_begin();
    cue_block_info info;
    for (uint64_t cursor = 0; cue_block_next(pool, POOL_TYPE_LANE, &cursor, &info) > 0;)
        lane_row(pool, rows, &info);
    rows_end(rows);
}

static int list_pool(cue_pool *pool, void *arg)
{
    (void)arg;
    int code = list_use(pool);
    list_parties(pool);
    list_lanes(pool);
    return code;
}

int run_ls(void)
{
    if (options.nargs)
        return look(options.args[0], list_pool, NULL);
    unsigned count;
    struct rows *rows = rows_begin();
    int code = each_pool(list_one, rows, &count);
    if (rows_end(rows) == 0)
        return say(EXIT_FOUND, "no pools (%s/%s*)", shm_directory(), shm_prefix());
    return code;
}
