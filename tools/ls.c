/* cuelight ls: the pools of this machine; what is in one. */
#include "tool.h"

#include "base/clock.h"
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
    row->age = age_of(pool->header->made_ns);
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
    struct rows *rows = rows_begin();
    for (unsigned slot = 0; slot < pool->max_parties; slot++) {
        struct party *party = &pool->parties[slot];
        uint64_t word = atomic_load_explicit(&party->word, memory_order_acquire);
        char label[POOL_NAME_BYTES];
        if (party_state(word) != PARTY_LIVE)
            continue;
        bool dead = party_dead(pool, slot, UINT32_MAX);
        snprintf(label, sizeof label, "%.63s", party->label);
        row_text(rows, "kind", NULL, "party");
        row_count(rows, "party", "PARTY", slot + 1);
        row_count(rows, "pid", "PID", (uint32_t)party_pid(word));
        row_text(rows, "label", "PROGRAM", label);
        row_count(rows, "uid", "UID", atomic_load_explicit(&party->uid, memory_order_relaxed)); /* made readable by the word */
        row_age(rows, "age", "AGE", age_of(atomic_load_explicit(&party->since_ns, memory_order_relaxed)));
        row_count(rows, "failed", "REFUSED", atomic_load_explicit(&party->failed, memory_order_relaxed)); /* a count for people */
        row_text(rows, "state", "STATE", dead ? "dead" : "live");
        row_end(rows);
    }
    rows_end(rows);
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
    list_parties(pool);
    list_lanes(pool);
    return EXIT_FINE;
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
