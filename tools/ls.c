/* cuelight ls: the pools of this machine; what is in one. */
#include "tool.h"

#include "base/process.h"
#include "base/shm.h"
#include "channels/lane.h"
#include "pool/pool_internal.h"

#include <string.h>
#include <sys/stat.h>

/* ---- ls ---- */

struct pool_row {
    cue_pool_info info;
    unsigned parties, dead;
    double age;
    char users[240]; /* "2: 411 viewer, 502 python" */
    struct {
        int32_t pid;
        uint64_t start;
        double started;
        const char *is; /* "attached", "dead", or "left" */
        char label[POOL_NAME_BYTES];
    } maker;
};

static void who_has_it(cue_pool *pool, struct pool_row *row)
{
    unsigned shown = 0;
    size_t used = (size_t)snprintf(row->users, sizeof row->users, "%u", row->parties);
    for (unsigned slot = 0; slot < pool->max_parties; slot++) {
        const struct party *party = &pool->parties[slot];
        uint64_t word = atomic_load_explicit(&party->word, memory_order_acquire);
        if (party_state(word) != PARTY_LIVE)
            continue;
        bool dead = party_dead(pool, slot, party_epoch(word));
        if (party_pid(word) == row->maker.pid && atomic_load_explicit(&party->start, memory_order_relaxed) == row->maker.start)
            row->maker.is = dead ? "dead" : "attached";
        if (shown < 4)
            used += (size_t)snprintf(row->users + used, sizeof row->users - used, "%s%d %.20s%s", shown ? ", " : ": ", party_pid(word),
                                     party->label, dead ? " dead" : "");
        shown++;
    }
    if (shown > 4)
        used += (size_t)snprintf(row->users + used, sizeof row->users - used, ", ...");
    if (row->dead)
        snprintf(row->users + used, sizeof row->users - used, " (%u dead: cuelight doctor)", row->dead);
}

static int pool_row(cue_pool *pool, void *arg)
{
    struct pool_row *row = arg;
    const struct pool_header *header = pool->header;
    int status = cue_pool_stat(pool, &row->info);
    if (status)
        return say_status(status, pool->name);
    count_parties(pool, &row->parties, &row->dead);
    row->age = header->made_boot == process_boot() ? age_of(pool, header->made_ns) : -1;
    if (row->age < 0 && header->made_unix_ns)
        row->age = (double)time(NULL) - (double)header->made_unix_ns / 1e9;
    row->maker.pid = header->maker_pid;
    row->maker.start = header->maker_start;
    row->maker.started = header->made_boot == process_boot() ? started_at(pool, header->maker_start) : -1;
    row->maker.is = "left";
    snprintf(row->maker.label, sizeof row->maker.label, "%.63s", header->maker);
    who_has_it(pool, row);
    return EXIT_FINE;
}

static int list_one(const struct place *place, void *arg)
{
    struct rows *rows = arg;
    struct pool_row row = { .age = -1, .maker = { .started = -1 } };
    struct stat object = { 0 };
    char said[400] = "", user[40] = "", maker[120] = "";
    int status, code = look_at(place, pool_row, &row, &status);
    bool there = lstat(place->path, &object) == 0;
    if (status == CUE_ENOENT)
        return EXIT_FINE; /* gone meanwhile */
    if (there && row.age < 0)
        row.age = (double)(time(NULL) - object.st_ctime);
    if (there)
        show_user(user, object.st_uid);
    if (row.maker.pid) {
        int used = snprintf(maker, sizeof maker, "%d %.63s", row.maker.pid, row.maker.label);
        if (strcmp(row.maker.is, "attached") != 0)
            snprintf(maker + used, sizeof maker - (size_t)used, " (%s)", row.maker.is);
    }
    if (status) {
        snprintf(said, sizeof said, "%s: ", cue_status_name(status));
        unopened_text(status, place, said + strlen(said), sizeof said - strlen(said));
    }
    row_text(rows, "pool", "POOL", place->shown);
    row_bytes(rows, "size", "SIZE", row.info.size);
    row_bytes(rows, "used", "USED", row.info.used);
    row_bytes(rows, "taken", "TAKEN", (uint64_t)object.st_blocks * 512);
    row_count(rows, "blocks", "BLOCKS", row.info.blocks);
    row_count(rows, "kept", "KEPT", row.info.kept);
    row_count(rows, "parties", NULL, row.parties);
    row_count(rows, "dead", NULL, row.dead);
    row_flag(rows, "orphaned", !status && row.parties == row.dead);
    row_age(rows, "age", "AGE", row.age);
    row_text(rows, "user", "USER", user);
    row_count(rows, "uid", NULL, object.st_uid);
    row_count(rows, "maker_pid", NULL, (uint32_t)row.maker.pid);
    row_text(rows, "maker", NULL, row.maker.pid ? row.maker.label : NULL);
    row_time(rows, "maker_started", NULL, row.maker.started);
    row_text(rows, "maker_is", NULL, row.maker.pid ? row.maker.is : NULL);
    row_text(rows, NULL, "MADE BY", maker);
    row_text(rows, "error", NULL, status ? cue_status_name(status) : NULL);
    row_text(rows, "trail", NULL, status ? strstr(said, ": ") + 2 : NULL);
    row_text(rows, NULL, "PARTIES", status ? said : row.users);
    row_end(rows);
    return status == CUE_EPERM ? EXIT_FINE : status ? EXIT_FOUND : code; /* other users' pools are their business */
}

/* ---- ls POOL ---- */

static void list_parties(cue_pool *pool)
{
    static cue_party_info parties[POOL_MAX_PARTIES];
    struct rows *rows = rows_begin();
    int found = cue_pool_parties(pool, parties, POOL_MAX_PARTIES);
    for (int i = 0; i < found; i++) {
        const cue_party_info *party = &parties[i];
        char quota[16] = "-", user[40];
        show_user(user, party->uid);
        if (party->quota)
            show_bytes(quota, party->quota);
        row_text(rows, "kind", NULL, "party");
        row_count(rows, "party", "PARTY", party->party);
        row_count(rows, "pid", "PID", (uint32_t)party->pid);
        row_text(rows, "label", "PROGRAM", party->label);
        row_text(rows, "user", "USER", user);
        row_count(rows, "uid", NULL, party->uid);
        row_count(rows, "start", NULL, party->start);
        row_time(rows, "started", "STARTED", started_at(pool, party->start));
        row_age(rows, "age", "AGE", age_of(pool, party->since_ns));
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
    struct lane found;
    cue_channel_info lane = { 0 };
    char receiver[24] = "-";
    if (!rec || !lane_of(pool, rec, index, &found))
        return; /* gone meanwhile, or no lane of this version */
    lane_stat(&found, &lane);
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
        return look(list_pool, NULL);
    unsigned count;
    struct rows *rows = rows_begin();
    int code = each_pool(list_one, rows, &count);
    if (rows_end(rows) == 0)
        return say(EXIT_FOUND, "no pools (%s/%s*)", shm_directory(), shm_prefix());
    return code;
}
