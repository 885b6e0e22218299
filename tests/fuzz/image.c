/* Fuzzes whole pool images: a pool that held everything (blocks of all kinds, keys, names, leases, places, a lane with messages, a
 * party that is dead) is copied, words of it are changed as the input says, and then it is opened, iterated, looked up in, allocated
 * from, freed in, resized, sent through, recovered, checked, trimmed and left. Any status may come; every block that is handed out lies
 * within the pool; nothing hangs.
 *
 * An input is a row of changes, of 14 bytes each: what region, how (set, add, or, and not), where in it, the value. */
#include "tests/fuzz/image.h"

#include <cuelight/channel.h>

enum { SIZE = 256 << 10, TYPE = 7, KEYS = 12, KEPT = 24, CHANGES = 40, CHANGE = 14 };

static struct range regions[8];
static uint64_t ids[KEPT];

static void fill_pool(cue_pool *pool)
{
    cue_block b, view, message;
    cue_block_info info;
    static cue_channel *out, *in; /* they stay open */
    char name[20];
    for (uint32_t i = 0; i < KEPT; i++) {
        snprintf(name, sizeof name, "name%u", i);
        cue_block_opts opts = { .type = TYPE + i % 3, .flags = CUE_KEEP };
        if (i < KEYS)
            opts.id = i + 1;
        else if (i < KEYS + 6)
            opts.name = name;
        CUE_MUST(cue_block_alloc(pool, i * i * 12 + i, &opts, &b));
        CUE_MUST(cue_block_stat(&b, &info));
        ids[i] = info.id;
        if (i % 2)
            cue_block_release(&b); /* the others stay leased */
    }
    for (size_t i = 0; i < 12; i++)
        CUE_MUST(cue_block_alloc(pool, i * 500, i % 4 ? NULL : &(cue_block_opts){ .type = 90, .id = i + 1, .flags = CUE_MINE }, &b));
    CUE_MUST(cue_block_alloc(pool, 20000, NULL, &b)); /* longer than an extent */
    CUE_MUST(cue_block_alloc(pool, 300, &(cue_block_opts){ .type = 91, .flags = CUE_KEEP }, &b));
    CUE_MUST(cue_block_view(&b, 0, SIZE_MAX, &view));
    CUE_MUST(cue_block_free(&b)); /* doomed */
    CUE_MUST(cue_channel_open("shm:///lane", CUE_SEND, &(cue_channel_opts){ .pool = pool, .depth = 16 }, &out));
    CUE_MUST(cue_channel_open("shm:///lane", CUE_RECV, &(cue_channel_opts){ .pool = pool, .depth = 16 }, &in));
    for (int i = 0; i < 6; i++) {
        CUE_MUST(cue_block_alloc(pool, 1000, NULL, &message));
        CUE_MUST(cue_channel_send(out, &(cue_msg){ .data = "text", .size = i % 2 ? 4 : 0, .move = &message }, CUE_NOW));
        cue_block_release(&message);
    }
    cue_msg m;
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW)); /* and it stays in hand */
}

static void find_regions(const cue_pool *pool)
{
    const struct pool_header *h = pool->header;
    const struct range all[] = {
        { 0, h->parties_at },
        { h->parties_at, 4 * sizeof(struct party) },
        { h->extents_at, h->directory_at - h->extents_at },
        { h->directory_at, 8192 },
        { h->places_at, 4096 },
        { h->meta_at, h->slab_records_at - h->meta_at },
        { h->slab_records_at, SIZE },
        { h->data_at, SIZE },
    };
    memcpy(regions, all, sizeof regions);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    cue_pool *pool;
    (void)argc, (void)argv;
    setenv("CUE_SPIN", "0", 1);
    CUE_MUST(cue_pool_open(NULL, &(cue_pool_opts){ .size = SIZE, .flags = CUE_MEMFD, .max_allocations = 200 }, &pool));
    fill_pool(pool);
    take_image(pool);
    find_regions(pool);
    return 0; /* it stays open: what else would give its lane's receiver back */
}

static void change(char *base, const uint8_t *how)
{
    uint32_t where;
    uint64_t value;
    memcpy(&where, how + 2, 4);
    memcpy(&value, how + 6, 8);
    change_word(base, &regions[how[0] % 8], where, how[1], value);
}

static void look_up_all(cue_pool *pool)
{
    cue_block b;
    char name[20];
    for (uint32_t i = 0; i < KEPT; i++) {
        snprintf(name, sizeof name, "name%u", i);
        cue_key keys[3] = { { .id = ids[i] }, { .type = TYPE + i % 3, .id = i + 1 }, { .name = name } };
        for (int k = 0; k < 3; k++) {
            if (cue_block_find(pool, keys[k], CUE_NOW, &b))
                continue;
            within(pool, &b, false);
            if (i % 4 == (unsigned)k)
                cue_block_free(&b);
            cue_block_release(&b);
        }
    }
}

static void allocate_all(cue_pool *pool)
{
    static const size_t sizes[] = { 0, 1, 64, 200, 700, 3000, 4096, 9000, 20000, 70000 };
    cue_block b[60] = { 0 };
    for (unsigned i = 0; i < 60; i++) {
        size_t size = sizes[i % (sizeof sizes / sizeof *sizes)];
        cue_block_opts opts = {
            .type = 50, .id = i % 3 == 0 ? i + 1 : 0, .flags = i % 5 == 0 ? CUE_ZERO : 0, .align = i % 7 == 0 ? 8192 : 0
        };
        if (cue_block_alloc(pool, size, i % 2 ? NULL : &opts, &b[i]))
            continue;
        within(pool, &b[i], true);
        if (i % 4 == 0)
            cue_block_resize(&b[i], size / 2);
        if (i % 6 == 0 && cue_block_publish(&b[i], i % 12 ? 0 : CUE_MINE) == 0 && i % 18 == 0)
            cue_block_free(&b[i]);
    }
    for (unsigned i = 0; i < 60; i++)
        cue_block_release(&b[i]);
}

static void send_and_receive(cue_pool *pool)
{
    cue_channel *out, *in;
    cue_block b;
    cue_msg m;
    if (cue_channel_open("shm:///lane", CUE_RECV, &(cue_channel_opts){ .pool = pool }, &in))
        in = NULL;
    if (cue_channel_open("shm:///lane", CUE_SEND, &(cue_channel_opts){ .pool = pool }, &out))
        out = NULL;
    if (out && cue_block_alloc(pool, 500, NULL, &b) == 0 && cue_channel_send(out, &(cue_msg){ .move = &b }, CUE_NOW) < 0)
        cue_block_release(&b);
    for (int i = 0; in && i < 20; i++) {
        if (cue_channel_recv(in, &m, CUE_NOW) < 0)
            continue;
        if (m.size)
            sink = *(const unsigned char *)m.data;
        if (m.block.data)
            within(pool, &m.block, false);
        cue_msg_release(&m);
    }
    cue_channel_close(out);
    cue_channel_close(in);
}

static void look_at_all(cue_pool *pool)
{
    cue_block_info row;
    cue_pool_info info;
    cue_party_info parties[4];
    cue_type_info types[4];
    char bytes[300];
    unsigned rows = 0;
    for (uint64_t cursor = 0; cue_block_next(pool, 0, &cursor, &row) > 0; rows++) {
        must(memchr(row.name, 0, sizeof row.name) != NULL, "a name without an end");
        if (rows < 50)
            cue_block_read(pool, row.id, 0, bytes, sizeof bytes);
    }
    must(rows <= SIZE / 64 + SIZE / 4096, "more blocks than there can be");
    cue_pool_stat(pool, &info);
    cue_pool_parties(pool, parties, 4);
    cue_pool_types(pool, types, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    cue_pool *pool;
    char *base;
    int fd = copy_image(&base);
    for (size_t at = 0, n = 0; at + CHANGE <= size && n < CHANGES; at += CHANGE, n++)
        change(base, bytes + at);
    munmap(base, image.size);
    if (size && bytes[size - 1] % 4 == 0 && cue_pool_open(NULL, &(cue_pool_opts){ .fd = fd, .flags = CUE_READ_ONLY }, &pool) == 0) {
        look_at_all(pool);
        cue_pool_check(pool, false, say_nothing, NULL);
        cue_pool_close(pool);
    }
    if (cue_pool_open(NULL, &(cue_pool_opts){ .fd = fd }, &pool) == 0) { /* also cleans up after the dead */
        look_at_all(pool);
        cue_pool_check(pool, false, say_nothing, NULL);
        look_up_all(pool);
        allocate_all(pool);
        send_and_receive(pool);
        cue_pool_check(pool, true, say_nothing, NULL);
        cue_pool_trim(pool);
        allocate_all(pool);
        look_at_all(pool);
        cue_pool_close(pool);
    }
    close(fd);
    return 0;
}
