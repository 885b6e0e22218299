/* Fuzzes lanes in shared memory: a pool that held one of each kind, with messages of every sort queued, in hand, and on their way to
 * another receiver, is copied; words of the lanes, of the subscriptions, of the messages and their records are changed as the input
 * says, half of them before the lanes are opened and half while they are open, as a hostile process would. Three lanes, as the last byte
 * says, are opened, tapped, sent to, received from, asked, counted, shut, drained and closed, and the pool is cleaned up. Any status may
 * come; what is received lies within the pool; nothing hangs.
 *
 * An input is a row of changes, of 14 bytes each: what region, how (set, add, or, and not), where in it, the value. */
#include "tests/fuzz/image.h"

#include "channels/message.h"

#include <cuelight/channel.h>

enum { SIZE = 1 << 20, CHANGES = 40, CHANGE = 14, HELD = 40, REGIONS = 256 };

static const char *const lanes[] = {
    "mailbox?depth=16",
    "old?depth=8&full=drop-old",
    "new?depth=8&full=drop-new",
    "queue?kind=queue&depth=16",
    "again?kind=queue&depth=16&redeliver=1&dead=letters",
    "oldqueue?kind=queue&depth=8&full=drop-old",
    "stream?kind=stream&depth=16",
    "oldstream?kind=stream&depth=8&full=drop-old",
    "topic?kind=topic&depth=16&history=8",
    "oldtopic?kind=topic&depth=8&full=drop-old",
};
enum { LANES = sizeof lanes / sizeof *lanes, AT_A_TIME = 3 };

/* What may be changed: lanes, subscriptions, records of messages, the beginnings of their blocks. */
enum { OF_LANES, OF_FEEDS, OF_RECORDS, OF_BLOCKS, SORTS };
static struct {
    struct range range[REGIONS];
    unsigned count;
} regions[SORTS];

static cue_channel *open_lane(cue_pool *pool, unsigned lane, unsigned how)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm:///%s", lanes[lane]);
    return cue_channel_open(url, how, &(cue_channel_opts){ .pool = pool, .spin = { -1 } }, &ch) ? NULL : ch;
}

static cue_channel *open_tap(cue_pool *pool, unsigned lane)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm:///%.*s", (int)strcspn(lanes[lane], "?"), lanes[lane]);
    return cue_channel_open(url, CUE_TAP, &(cue_channel_opts){ .pool = pool, .depth = 8, .spin = { -1 } }, &ch) ? NULL : ch;
}

/* Bytes that fit into a stream's place, more of them, a block, both, both with a key. */
static int send_one(cue_channel *ch, unsigned kind)
{
    static const char bytes[200] = "text";
    cue_block block = { 0 };
    cue_msg m = { .type = 1, .tag = kind, .data = bytes, .size = kind % 5 == 0 ? 5 : sizeof bytes };
    if (kind % 5 >= 2 && cue_block_alloc(cue_channel_pool(ch), kind % 2 ? 300 : 5000, NULL, &block))
        return CUE_ENOMEM;
    if (kind % 5 >= 2)
        m.move = &block;
    if (kind % 5 == 2)
        m.data = NULL, m.size = 0;
    if (kind % 5 == 4)
        m.key = 9;
    int status = cue_channel_send(ch, &m, CUE_NOW);
    cue_block_release(&block);
    return status;
}

/* ---- the image ---- */

static void add_region(unsigned sort, const cue_pool *pool, const void *at, uint64_t size)
{
    if (regions[sort].count < REGIONS)
        regions[sort].range[regions[sort].count++] = (struct range){ (uint64_t)((const char *)at - (const char *)pool->header), size };
}

static int note_record(cue_pool *pool, struct record *rec, uint32_t index, void *arg)
{
    char *data;
    uint64_t capacity;
    uint32_t type = atomic_load(&rec->type);
    unsigned state = rec_state(atomic_load(&rec->state));
    (void)arg;
    if (state == REC_FREE || state == REC_SLAB || !pool_bytes(pool, index, &data, &capacity))
        return 0;
    if (type == POOL_TYPE_LANE || type == POOL_TYPE_SUBSCRIPTION) {
        add_region(type == POOL_TYPE_LANE ? OF_LANES : OF_FEEDS, pool, data, capacity);
    } else {
        add_region(OF_RECORDS, pool, rec, sizeof *rec);
        add_region(OF_BLOCKS, pool, data, capacity < 64 ? capacity : 64);
    }
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    cue_pool *pool;
    static cue_channel *in[LANES], *out[LANES], *tap[LANES]; /* all stay open */
    static cue_msg held[LANES][2];
    (void)argc, (void)argv;
    setenv("CUE_SPIN", "0", 1);
    CUE_MUST(cue_pool_open(NULL, &(cue_pool_opts){ .size = SIZE, .flags = CUE_MEMFD }, &pool));
    for (unsigned lane = 0; lane < LANES; lane++) {
        must((in[lane] = open_lane(pool, lane, CUE_RECV)) && (out[lane] = open_lane(pool, lane, CUE_SEND)), "a lane");
        must(lane % 3 || (tap[lane] = open_tap(pool, lane)), "a tap");
        for (unsigned kind = 0; kind < 12; kind++)
            (void)!send_one(out[lane], kind);
        for (unsigned i = 0; i < 2; i++)
            (void)!cue_channel_recv(in[lane], &held[lane][i], CUE_NOW); /* and they stay in hand */
    }
    take_image(pool);
    pool_each_record(pool, note_record, NULL);
    for (unsigned sort = 0; sort < SORTS; sort++)
        must(regions[sort].count > 0, "nothing to change");
    return 0;
}

/* ---- a run ---- */

static void change(char *base, const uint8_t *how)
{
    uint32_t where;
    uint64_t value;
    unsigned sort = how[0] % SORTS;
    memcpy(&where, how + 2, 4);
    memcpy(&value, how + 6, 8);
    change_word(base, &regions[sort].range[(how[0] / SORTS + (where >> 16)) % regions[sort].count], where & 0xffff, how[1], value);
}

/* Every second change, beginning with `from`. */
static void change_half(char *base, const uint8_t *bytes, size_t size, size_t from)
{
    for (size_t n = from; (n + 1) * CHANGE <= size && n < CHANGES; n += 2)
        change(base, bytes + n * CHANGE);
}

static void look_at(cue_pool *pool, cue_msg *m)
{
    const unsigned char *data = m->data;
    cue_tapped about;
    (void)!cue_msg_tapped(m, &about);
    for (size_t i = 0; i < m->size; i += 64)
        sink = data[i];
    if (m->size)
        sink = data[m->size - 1];
    if (m->block.data)
        within(pool, &m->block, false);
}

/* Some are held for a while, some answered. */
static void receive_some(cue_pool *pool, cue_channel *in, cue_msg *held, unsigned n)
{
    for (unsigned i = 0; in && i < n; i++) {
        cue_msg *m = &held[i % HELD];
        cue_msg_release(m);
        memset(m, 0, sizeof *m);
        if (cue_channel_recv(in, m, i % 8 == 7 ? CUE_NS(1) : CUE_NOW))
            continue;
        look_at(pool, m);
        if (i % 3 == 0)
            cue_reply(m, &(cue_msg){ .status = CUE_EBUSY });
    }
}

static void use_lane(cue_pool *pool, unsigned lane, char *base, const uint8_t *bytes, size_t size)
{
    static cue_msg held[HELD];
    cue_channel_info info;
    cue_msg answer;
    cue_channel *in = open_lane(pool, lane, CUE_RECV), *out = open_lane(pool, lane, CUE_SEND), *tap = open_tap(pool, lane);
    for (unsigned kind = 0; out && kind < 6; kind++)
        (void)!send_one(out, kind);
    receive_some(pool, in, held, 6);
    receive_some(pool, tap, held, 4);
    change_half(base, bytes, size, 1);
    for (unsigned kind = 0; out && kind < 24; kind++)
        (void)!send_one(out, kind);
    if (out && cue_channel_ask(out, &(cue_msg){ .data = "?", .size = 1 }, CUE_NS(1), &answer) == 0)
        cue_msg_release(&answer);
    if (out)
        cue_channel_stat(out, &info);
    receive_some(pool, in, held, 50);
    receive_some(pool, tap, held, 10);
    if (in) {
        cue_channel_stat(in, &info);
        cue_msg_release(&held[0]);
        if (cue_channel_recv_any(&in, 1, &held[0], CUE_NS(1)) == 0)
            look_at(pool, &held[0]);
        cue_channel_shut(in, lane % 2 ? CUE_DRAIN : CUE_DISCARD, CUE_NOW);
    }
    for (unsigned i = 0; i < HELD; i++)
        cue_msg_release(&held[i]);
    cue_channel_close(tap);
    cue_channel_close(out);
    cue_channel_close(in);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    cue_pool *pool;
    char *base;
    int fd = copy_image(&base);
    change_half(base, bytes, size, 0);
    if (cue_pool_open(NULL, &(cue_pool_opts){ .fd = fd }, &pool) == 0) { /* also cleans up after the dead */
        unsigned first = size ? bytes[size - 1] : 0;
        for (unsigned i = 0; i < AT_A_TIME; i++)
            use_lane(pool, (first + i) % LANES, base, bytes, size);
        cue_pool_check(pool, true, say_nothing, NULL);
        for (unsigned i = 0; i < AT_A_TIME; i++)
            use_lane(pool, (first + i) % LANES, base, bytes, 0);
        cue_pool_check(pool, true, say_nothing, NULL);
        cue_pool_close(pool);
    }
    munmap(base, image.size);
    close(fd);
    return 0;
}
