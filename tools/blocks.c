/* cuelight blocks and cat: the blocks of a pool, and the bytes of one. */
#include "tool.h"

#include "pool/pool_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const state_names[] = { "?", "owned", "kept", "sent", "doomed" };

static const char *state_name(uint32_t state)
{
    return state < sizeof state_names / sizeof *state_names ? state_names[state] : "?";
}

static void type_name(char text[24], uint32_t type)
{
    if (type == POOL_TYPE_LANE)
        snprintf(text, 24, "lane");
    else if (type == POOL_TYPE_ACTOR)
        snprintf(text, 24, "actor");
    else if (type >= POOL_TYPE_SYSTEM)
        snprintf(text, 24, "system %#x", type);
    else
        snprintf(text, 24, "%u", type);
}

static struct record *record_of(cue_pool *pool, uint64_t id)
{
    return pool_record(pool, id_index(id));
}

/* Who looks at it: "2 (411 viewer, 502 python)". How many of them live. */
static unsigned viewers(cue_pool *pool, uint64_t id, uint32_t leases, char *text, size_t room)
{
    struct record *rec = record_of(pool, id);
    unsigned live = 0, shown = 0;
    size_t used = (size_t)snprintf(text, room, "%u", leases);
    for (unsigned slot = 0; rec && slot < pool->max_parties; slot++) {
        if (!(atomic_load_explicit(&rec->lease[slot / 64], memory_order_acquire) >> (slot % 64) & 1))
            continue;
        bool dead = party_dead(pool, slot, UINT32_MAX);
        live += !dead;
        if (shown < 3 && used < room)
            used += (size_t)snprintf(text + used, room - used, "%s%d %.20s%s", shown ? ", " : " (",
                                     party_pid(atomic_load_explicit(&pool->parties[slot].word, memory_order_relaxed)),
                                     pool->parties[slot].label, dead ? " dead" : "");
        shown++;
    }
    if (shown && used < room)
        snprintf(text + used, room - used, shown > 3 ? ", ...)" : ")");
    return live;
}

static bool owner_dead(cue_pool *pool, const cue_block_info *info)
{
    return info->owner && (info->owner > pool->max_parties || party_dead(pool, info->owner - 1, UINT32_MAX) ||
                           party_state(atomic_load_explicit(&pool->parties[info->owner - 1].word, memory_order_acquire)) != PARTY_LIVE);
}

static void block_row(cue_pool *pool, struct rows *rows, const cue_block_info *info, bool leaked)
{
    char id[32], type[24], key[80] = "", owner[96], label[POOL_NAME_BYTES] = "", viewing[160];
    snprintf(id, sizeof id, "%x:%06x", id_generation(info->id), id_index(info->id));
    type_name(type, info->type);
    if (info->name[0])
        snprintf(key, sizeof key, "%s", info->name);
    else if (info->key_id)
        snprintf(key, sizeof key, "%" PRIu64, info->key_id);
    if (info->owner && info->owner <= pool->max_parties)
        snprintf(label, sizeof label, "%.63s", pool->parties[info->owner - 1].label);
    if (info->owner)
        snprintf(owner, sizeof owner, "%d %s%s", info->owner_pid, label, owner_dead(pool, info) ? " (dead)" : "");
    else
        snprintf(owner, sizeof owner, "pool");
    viewers(pool, info->id, info->leases, viewing, sizeof viewing);
    row_text(rows, "id", "ID", id);
    row_count(rows, "number", NULL, info->id);
    row_both(rows, "type", "TYPE", info->type, type);
    row_text(rows, NULL, "KEY", key);
    row_count(rows, "key", NULL, info->key_id);
    row_text(rows, "name", NULL, info->name[0] ? info->name : NULL);
    row_bytes(rows, "size", "SIZE", info->size);
    row_count(rows, "capacity", NULL, info->capacity);
    row_text(rows, "state", "STATE", state_name(info->state));
    row_text(rows, NULL, "OWNER", owner);
    row_count(rows, "owner", NULL, info->owner);
    row_count(rows, "pid", NULL, info->owner ? (uint32_t)info->owner_pid : 0);
    row_text(rows, "label", NULL, info->owner ? label : NULL);
    row_count(rows, "start", NULL, info->owner_start);
    row_time(rows, "started", "STARTED", started_at(pool, info->owner_start));
    row_age(rows, "age", "AGE", age_of(pool, info->made_ns));
    row_count(rows, "leases", NULL, info->leases);
    row_text(rows, NULL, "LEASES", viewing);
    row_flag(rows, "leaked", leaked);
    row_end(rows);
}

/* Nobody living will give it back. */
static bool is_leaked(cue_pool *pool, const cue_block_info *info)
{
    char text[160];
    if (info->state == CUE_BLOCK_DOOMED)
        return viewers(pool, info->id, info->leases, text, sizeof text) == 0;
    return owner_dead(pool, info);
}

struct sum {
    uint64_t blocks, bytes, leaked;
};

static void owner_rows(cue_pool *pool, const struct sum sums[POOL_MAX_PARTIES + 1])
{
    struct rows *rows = rows_begin();
    for (unsigned owner = 0; owner <= POOL_MAX_PARTIES; owner++) {
        char label[POOL_NAME_BYTES] = "pool";
        uint64_t start = 0;
        uint32_t pid = 0;
        if (!sums[owner].blocks)
            continue;
        if (owner && owner <= pool->max_parties) {
            pid = (uint32_t)party_pid(atomic_load_explicit(&pool->parties[owner - 1].word, memory_order_acquire));
            start = atomic_load_explicit(&pool->parties[owner - 1].start, memory_order_relaxed);
            snprintf(label, sizeof label, "%.63s", pool->parties[owner - 1].label);
        }
        row_count(rows, "owner", "PARTY", owner);
        row_count(rows, "pid", "PID", pid);
        row_text(rows, "label", "PROGRAM", label);
        row_count(rows, "start", NULL, start);
        row_time(rows, "started", "STARTED", started_at(pool, start));
        row_count(rows, "blocks", "BLOCKS", sums[owner].blocks);
        row_bytes(rows, "bytes", "BYTES", sums[owner].bytes);
        row_count(rows, "leaked", "LEAKED", sums[owner].leaked);
        row_end(rows);
    }
    rows_end(rows);
}

static int type_rows(cue_pool *pool)
{
    int found = cue_pool_types(pool, NULL, 0);
    size_t room = found > 0 ? (size_t)found + 16 : 0; /* others work on */
    cue_type_info *types = calloc(room ? room : 1, sizeof *types);
    if (found > 0 && types)
        found = cue_pool_types(pool, types, room);
    if (found < 0 || !types) {
        free(types);
        return say_status(found < 0 ? found : CUE_ENOMEM, pool->name);
    }
    struct rows *rows = rows_begin();
    unsigned matched = 0;
    for (int i = 0; i < found && (size_t)i < room; i++) {
        char name[24];
        if ((options.given & OPT_TYPE) && types[i].type != options.type)
            continue;
        matched++;
        type_name(name, types[i].type);
        row_both(rows, "type", "TYPE", types[i].type, name);
        row_count(rows, "blocks", "BLOCKS", types[i].blocks);
        row_count(rows, "kept", "KEPT", types[i].kept);
        row_bytes(rows, "bytes", "BYTES", types[i].bytes);
        row_end(rows);
    }
    rows_end(rows);
    free(types);
    return matched ? EXIT_FINE : EXIT_FOUND;
}

static int list_blocks(cue_pool *pool, void *arg)
{
    (void)arg;
    if (options.by && strcmp(options.by, "type") == 0)
        return options.leaks ? say(EXIT_USAGE, "--leaks goes with --by owner, not with --by type") : type_rows(pool);
    static struct sum sums[POOL_MAX_PARTIES + 1];
    struct rows *rows = rows_begin();
    cue_block_info info;
    unsigned matched = 0, leaks = 0;
    for (uint64_t cursor = 0; cue_block_next(pool, options.type, &cursor, &info) > 0;) {
        if ((options.given & OPT_TYPE) && info.type != options.type) /* --type 0 is a type too */
            continue;
        bool leaked = is_leaked(pool, &info);
        leaks += leaked;
        if (options.leaks && !leaked)
            continue;
        matched++;
        struct sum *sum = &sums[info.owner <= POOL_MAX_PARTIES ? info.owner : 0];
        sum->blocks++;
        sum->bytes += info.size;
        sum->leaked += leaked;
        if (!options.by)
            block_row(pool, rows, &info, leaked);
    }
    rows_end(rows);
    if (options.by)
        owner_rows(pool, sums);
    if (options.leaks)
        return leaks ? EXIT_FOUND : EXIT_FINE;
    return matched ? EXIT_FINE : EXIT_FOUND;
}

int run_blocks(void)
{
    return look(list_blocks, NULL);
}

/* ---- cat ---- */

/* "2:000041" as `blocks` shows it, or the same as one number. */
static bool parse_id(const char *text, uint64_t *id)
{
    char *end;
    errno = 0;
    uint64_t first = strtoull(text, &end, strchr(text, ':') ? 16 : 0);
    if (errno || end == text || *text == '-')
        return false;
    *id = first;
    if (!*end)
        return true;
    if (*end != ':' || !end[1] || end[1] == '-')
        return false;
    uint64_t index = strtoull(end + 1, &end, 16);
    *id = automatic_id((uint32_t)index, first);
    return errno == 0 && !*end && index <= UINT32_MAX && first <= UINT32_MAX;
}

static bool wanted(const cue_block_info *info)
{
    if (options.name)
        return strcmp(info->name, options.name) == 0;
    if (options.given & OPT_TYPE)
        return info->type == options.type && info->key_id == options.id && info->key_id;
    return info->id == options.id;
}

/* Where the bytes go: as they are, or in base64 with --json. */
struct output {
    unsigned char part[1 << 16]; /* at its begin what was left of the last one, less than 3 bytes */
    size_t kept;
};

static bool put_base64(struct output *out, size_t size, bool last)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *at = out->part;
    for (; size >= 3 || (last && size); at += 3) {
        uint32_t bits = (uint32_t)at[0] << 16 | (size > 1 ? (uint32_t)at[1] << 8 : 0) | (size > 2 ? at[2] : 0);
        char four[4] = { digits[bits >> 18], digits[bits >> 12 & 63], size > 1 ? digits[bits >> 6 & 63] : '=',
                         size > 2 ? digits[bits & 63] : '=' };
        if (fwrite(four, 1, 4, stdout) != 4)
            return false;
        size -= size < 3 ? size : 3;
    }
    memmove(out->part, at, size);
    out->kept = size;
    return true;
}

static bool put_part(struct output *out, size_t size, bool last)
{
    if (options.quiet)
        return true;
    if (options.json)
        return put_base64(out, size, last);
    return fwrite(out->part, 1, size, stdout) == size;
}

/* An observer has no lease: it copies a part, looks whether the block is still the same one, and only then hands the part out.
 * pread() of the object, not the mapping: what is given back to the system meanwhile reads as zero and takes no memory. */
static int copy_out(cue_pool *pool, const cue_block_info *info)
{
    static struct output out;
    struct record *rec = record_of(pool, info->id);
    uint64_t capacity, done = 0;
    char *data;
    if (!rec || !pool_bytes(pool, id_index(info->id), &data, &capacity) || info->size > capacity)
        return say(EXIT_CORRUPT, "block %x:%06x makes no sense", id_generation(info->id), id_index(info->id));
    uint64_t start = (uint64_t)(data - (char *)pool->header);
    while (done < info->size) {
        size_t room = sizeof out.part - out.kept, want = info->size - done < room ? (size_t)(info->size - done) : room;
        ssize_t got = pread(cue_pool_fd(pool), out.part + out.kept, want, (off_t)(start + done));
        if (got <= 0)
            return say(EXIT_CORRUPT, "pool %s ends within the block", pool->name);
        atomic_thread_fence(memory_order_acquire); /* the copy before the look */
        uint64_t state = atomic_load_explicit(&rec->state, memory_order_acquire);
        if ((uint32_t)rec_generation(state) != id_generation(info->id) || rec_state(state) == REC_FREE)
            return say(EXIT_NO_SUCH, "the block went while it was read: %" PRIu64 " bytes are out", done);
        done += (uint64_t)got;
        if (!put_part(&out, out.kept + (size_t)got, done == info->size))
            return say(EXIT_BUG, "cannot write: %s", strerror(errno));
    }
    return EXIT_FINE;
}

/* The published one, or else one that has the key reserved. */
static bool find_wanted(cue_pool *pool, cue_block_info *found)
{
    cue_block_info info;
    bool any = false;
    for (uint64_t cursor = 0; cue_block_next(pool, 0, &cursor, &info) > 0;) {
        if (!wanted(&info))
            continue;
        bool published = info.made_ns || info.state == CUE_BLOCK_KEPT;
        if (!any || published)
            *found = info;
        any = true;
        if (published)
            break;
    }
    return any;
}

/* An object for the block, its bytes last; cut off (no JSON) if it goes meanwhile, and the exit code says so. */
static int copy_json(cue_pool *pool, const cue_block_info *info)
{
    char id[32];
    snprintf(id, sizeof id, "%x:%06x", id_generation(info->id), id_index(info->id));
    struct rows *rows = rows_begin();
    row_text(rows, "id", NULL, id);
    row_count(rows, "number", NULL, info->id);
    row_count(rows, "type", NULL, info->type);
    row_count(rows, "key", NULL, info->key_id);
    row_text(rows, "name", NULL, info->name[0] ? info->name : NULL);
    row_count(rows, "size", NULL, info->size);
    row_text(rows, "state", NULL, state_name(info->state));
    int code = EXIT_FINE;
    if (!options.quiet) {
        fputs(", \"base64\": \"", stdout);
        code = copy_out(pool, info);
        fputs(code ? "" : "\"", stdout);
    }
    row_end(rows);
    rows_end(rows);
    return code;
}

static int cat(cue_pool *pool, void *arg)
{
    (void)arg;
    cue_block_info info;
    if (options.given & OPT_TIMEOUT) {
        cue_key key = { .type = options.type, .id = options.id, .name = options.name };
        int status = cue_block_find(pool, key, options.timeout, NULL);
        if (status == CUE_ENOENT)
            return say(EXIT_TIME_OUT, "pool %s: no such block was published in time", options.at.shown);
        if (status < 0)
            return say_status(status, options.at.shown);
    }
    if (!find_wanted(pool, &info))
        return say(EXIT_NO_SUCH, "pool %s has no such block: `cuelight blocks %s` shows those that there are", options.at.shown,
                   options.at.shown);
    return options.json ? copy_json(pool, &info) : copy_out(pool, &info);
}

int run_cat(void)
{
    bool by_key = (options.given & (OPT_TYPE | OPT_ID)) == (OPT_TYPE | OPT_ID), by_name = options.name != NULL;
    bool by_number = options.nargs == 2 && !(options.given & (OPT_TYPE | OPT_ID));
    if (by_key + by_name + by_number != 1 || (options.nargs == 2 && !by_number))
        return say(EXIT_USAGE, "which block? usage: cuelight cat POOL ID, or --type T --id N, or --name NAME");
    if (by_number && !parse_id(options.args[1], &options.id))
        return say(EXIT_USAGE, "%s is no id of a block: `cuelight blocks` shows them", options.args[1]);
    if (by_number && options.given & OPT_TIMEOUT)
        return say(EXIT_USAGE, "--timeout waits for what will be published under --name, or --type and --id");
    return look(cat, NULL);
}
