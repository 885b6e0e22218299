/* What comes through a socket may be garbage, may lie, may be too much, may vanish: no crash, no loss for others, and it is
 * counted. The hostile side speaks through NNG itself; for bare connections see nng_strangers.c.
 * budget: 90 s */
#include "tests/harness.h"
#include "tests/stat_of.h"

#include "channels/nng/nng_internal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight.h>
#include <nng/nng.h>
#include <nng/protocol/pair1/pair.h>
#include <sys/un.h>

static const char *name;
static char folder[TEST_PATH], url[120], path[100];
static cue_pool *pool;
static cue_channel *receiver;
static nng_socket hostile;
static uint64_t seed = 77;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

static void set_up(void)
{
    cr_assert(test_folder(folder));
    name = test_name("hostile");
    snprintf(path, sizeof path, "%s/lane", folder);
    snprintf(url, sizeof url, "ipc://%s", path);
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 8 << 20, .flags = CUE_CREATE }, &pool));
    CUE_MUST(cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool, .max = 100000 }, &receiver));
    cr_assert(eq(int, nng_pair1_open(&hostile), 0));
    cr_assert(eq(int, nng_dial(hostile, url, NULL, 0), 0));
}

static void tear_down(void)
{
    cue_pool_info info;
    nng_close(hostile);
    cr_assert(eq(int, cue_channel_close(receiver), 0));
    cr_assert(eq(int, cue_pool_check(pool, false, NULL, NULL), 0));
    cr_assert(eq(int, cue_pool_stat(pool, &info), 0));
    cr_assert(eq(u64, info.blocks, 0));
    cue_pool_close(pool);
    cr_assert(eq(int, rmdir(folder), 0));
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(nng_hostile, .init = set_up, .fini = tear_down);

static void throw_bytes(const void *bytes, size_t size)
{
    nng_msg *m;
    cr_assert(eq(int, nng_msg_alloc(&m, size), 0));
    memcpy(nng_msg_body(m), bytes, size);
    cr_assert(eq(int, nng_sendmsg(hostile, m, 0), 0));
}

/* Takes what there is until nothing comes for a moment; how many messages. */
static int drain(void)
{
    cue_msg m;
    int count = 0, status;
    while ((status = cue_channel_recv(receiver, &m, CUE_MS(60))) != CUE_EEMPTY) {
        count += status == 0;
        cue_msg_release(&m);
    }
    return count;
}

/* The same without waiting. */
static void drain_now(void)
{
    cue_msg m;
    while (cue_channel_recv(receiver, &m, CUE_NOW) != CUE_EEMPTY)
        cue_msg_release(&m);
}

/* Drains until a count of the receiver has come to `value`, or for long enough. */
#define counted(field, value)                                                                                                              \
    do {                                                                                                                                   \
        for (int tries_ = 0; tries_ < 500 && stat_of(receiver).field < (value); tries_++)                                                  \
            cr_assert(eq(int, drain(), 0));                                                                                                \
        cr_assert(eq(u64, stat_of(receiver).field, (value)));                                                                              \
    } while (0)

/* An honest sender still gets through. */
static void others_are_served(void)
{
    cue_channel *s;
    CUE_MUST(cue_channel_open(url, CUE_SEND, &(cue_channel_opts){ .pool = pool, .linger = CUE_SEC(20) }, &s));
    for (uint64_t i = 0; i < 50; i++) {
        cue_msg m;
        cue_block b;
        CUE_MUST(cue_block_alloc(pool, 8, NULL, &b));
        CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = 1000 + i, .move = &b }, CUE_SEC(20)));
        CUE_MUST(cue_channel_recv(receiver, &m, CUE_SEC(20)));
        cr_assert(eq(u64, m.tag, 1000 + i));
        cue_msg_release(&m);
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
}

/* A hostile peer that knows the protocol: a party of the pool with a cell. */
struct liar {
    cue_block cell_block;
    struct cell *cell;
    struct wire_head head;
    uint8_t pool[CUE_DESC_MAX];
};

static void liar_make(struct liar *liar, uint64_t channel)
{
    struct block_ref ref;
    CUE_MUST(cue_block_alloc(pool, sizeof(struct cell), &(cue_block_opts){ .flags = CUE_ZERO }, &liar->cell_block));
    CUE_MUST(handle_open(&liar->cell_block, &ref));
    atomic_store(&ref.rec->type, POOL_TYPE_CELL);
    liar->cell = liar->cell_block.data;
    liar->cell->channel = channel;
    liar->head = (struct wire_head){ .kind = WIRE_HELLO,
                                     .channel = channel,
                                     .incarnation = 1,
                                     .number = 1,
                                     .cell = ref.index,
                                     .cell_generation = ref.generation,
                                     .pool = liar->pool };
    liar->head.pool_bytes = (size_t)CUE_MUST(cue_pool_encode(pool, liar->pool, sizeof liar->pool));
}

static void throw_head(const struct wire_head *head)
{
    char bytes[WIRE_HEAD_MAX];
    throw_bytes(bytes, wire_write_head(head, bytes, sizeof bytes));
}

static void throw_item(struct liar *liar, const struct wire_item *item)
{
    static char bytes[4096];
    struct wire_head head = liar->head;
    head.kind = WIRE_BATCH;
    head.count = 1;
    size_t used = wire_write_head(&head, bytes, sizeof bytes);
    used += wire_write_item(item, bytes + used, sizeof bytes - used);
    throw_bytes(bytes, used);
    liar->head.number++;
}

/* A new connection for the hostile side. */
static void hostile_again(void)
{
    nng_close(hostile);
    cr_assert(eq(int, nng_pair1_open(&hostile), 0));
    cr_assert(eq(int, nng_dial(hostile, url, NULL, 0), 0));
}

Test(nng_hostile, garbage_is_counted_and_harms_nobody)
{
    enum { ENOUGH = 100, ROUNDS = 3 };
    unsigned char bytes[200];
    for (int round = 1; round <= ROUNDS; round++) {
        for (int i = 0; i < ENOUGH; i++) {
            size_t size = draw(sizeof bytes);
            for (size_t j = 0; j < size; j++)
                bytes[j] = (unsigned char)(draw(4) ? draw(256) : 0x90 + draw(12));
            throw_bytes(bytes, size);
        }
        counted(refused, (uint64_t)(round * ENOUGH));
        hostile_again();
    }
    others_are_served();
}

Test(nng_hostile, every_flip_of_an_honest_packet)
{
    struct liar liar;
    static char bytes[600];
    liar_make(&liar, 4711);
    throw_head(&liar.head);
    for (int i = 0; i < 100 && !atomic_load(&liar.cell->word); i++)
        drain();
    cr_assert(eq(u32, cell_incarnation(atomic_load(&liar.cell->word)), 1));
    struct wire_head head = liar.head;
    head.kind = WIRE_BATCH;
    head.count = 3;
    size_t used = wire_write_head(&head, bytes, sizeof bytes);
    used += wire_write_item(&(struct wire_item){ .what = WIRE_BYTES, .type = 1, .has_bytes = true, .bytes = "hello", .nbytes = 5 },
                            bytes + used, sizeof bytes - used);
    used += wire_write_item(&(struct wire_item){ .what = WIRE_MOVED, .index = 77, .generation = 5, .tag = 9 }, bytes + used,
                            sizeof bytes - used);
    used += wire_write_item(&(struct wire_item){ .what = WIRE_VIEWED, .index = 77, .generation = 5, .size = 10, .from = { 1, 2, 3, 4 } },
                            bytes + used, sizeof bytes - used);
    for (size_t at = 0; at < used; at++) {
        for (int bit = 0; bit < 8; bit++) {
            bytes[at] ^= (char)(1 << bit);
            throw_bytes(bytes, used);
            bytes[at] ^= (char)(1 << bit);
        }
        drain();
        if (at % 10 == 9) {
            hostile_again();
            throw_head(&liar.head);
        }
    }
    hostile_again();
    for (size_t cut = 0; cut < used && cut < 100; cut++)
        throw_bytes(bytes, cut);
    drain();
    cr_assert(gt(u64, stat_of(receiver).refused, used));
    cue_block_release(&liar.cell_block);
    others_are_served();
}

Test(nng_hostile, lies_about_blocks_never_give_or_take_a_foreign_one)
{
    struct liar liar;
    struct block_ref ref;
    cue_block victim;
    cue_msg m;
    liar_make(&liar, 4712);
    throw_head(&liar.head);
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &victim));
    memset(victim.data, 'v', 100);
    CUE_MUST(handle_open(&victim, &ref));
    for (uint32_t i = 0; i < 300; i++) { /* the victim's index, the cell's own, and anything else, as if it were on its way */
        uint32_t index = i % 3 == 0 ? ref.index : i % 3 == 1 ? liar.head.cell : draw(UINT32_MAX);
        throw_item(&liar, &(struct wire_item){ .what = WIRE_MOVED, .index = index, .generation = i < 200 ? ref.generation : draw(1000) });
        if (i % 50 == 49)
            cr_assert(eq(int, drain(), 0));
    }
    counted(dropped, 300);
    for (uint32_t i = 0; i < 50; i++) { /* parts that the block does not have; a view of a live block is not a lie */
        throw_item(&liar, &(struct wire_item){ .what = WIRE_VIEWED,
                                               .index = ref.index,
                                               .generation = ref.generation,
                                               .offset = draw(2) ? UINT64_MAX - draw(200) : 101 + draw(1000),
                                               .size = draw(2) ? UINT64_MAX : 1 });
        CUE_MUST(cue_channel_recv(receiver, &m, CUE_SEC(20)));
        cr_assert(eq(int, m.status, CUE_ESTALE));
        cr_assert(eq(ptr, m.block.data, NULL));
        cue_msg_release(&m);
    }
    throw_item(&liar, &(struct wire_item){ .what = WIRE_VIEWED, .index = ref.index, .generation = ref.generation + 1, .size = 1 });
    CUE_MUST(cue_channel_recv(receiver, &m, CUE_SEC(20)));
    cr_assert(eq(int, m.status, CUE_ESTALE));
    cue_msg_release(&m);
    cue_block_info info;
    cr_assert(eq(int, cue_block_stat(&victim, &info), 0));
    cr_assert(eq(u32, info.state, CUE_BLOCK_OWNED));
    cr_assert(eq(int, ((char *)victim.data)[99], 'v'));
    cue_block_release(&victim);
    cue_block_release(&liar.cell_block);
    others_are_served();
}

Test(nng_hostile, a_hello_that_lies_makes_nobody_write_into_a_foreign_block)
{
    struct liar liar;
    struct block_ref ref;
    cue_block victim;
    liar_make(&liar, 4713);
    CUE_MUST(cue_block_alloc(pool, sizeof(struct cell), NULL, &victim));
    memset(victim.data, 0x55, sizeof(struct cell));
    CUE_MUST(handle_open(&victim, &ref));
    struct wire_head head = liar.head;
    head.cell = ref.index;
    head.cell_generation = ref.generation;
    throw_head(&head); /* no cell */
    atomic_store(&ref.rec->type, POOL_TYPE_CELL);
    throw_head(&head); /* another channel's */
    head = liar.head;
    head.cell_generation++;
    throw_head(&head);
    head = liar.head;
    head.pool_bytes -= 3;
    throw_head(&head);
    head = liar.head;
    head.number = UINT64_MAX;
    throw_head(&head);
    head = liar.head;
    head.incarnation = UINT32_MAX;
    throw_head(&head);
    counted(refused, 6);
    for (size_t i = 0; i < sizeof(struct cell); i++)
        cr_assert(eq(int, ((char *)victim.data)[i], 0x55));
    cr_assert(eq(u64, atomic_load(&liar.cell->word), 0));
    cue_block_release(&victim);
    cue_block_release(&liar.cell_block);
    others_are_served();
}

/* A liar whose pool nobody here can map; it hears on a back connection. */
static nng_socket back_sock;

static void far_liar_make(struct liar *liar, uint64_t channel)
{
    uint64_t host;
    liar_make(liar, channel);
    memcpy(&host, liar->pool + 16, 8);
    host++;
    memcpy(liar->pool + 16, &host, 8);
    if (back_sock.id == 0) {
        cr_assert(eq(int, nng_pair1_open(&back_sock), 0));
        cr_assert(eq(int, nng_dial(back_sock, url, NULL, 0), 0));
        nng_socket_set_ms(back_sock, NNG_OPT_RECVTIMEO, test_ms(5000));
    }
    char bytes[WIRE_HEAD_MAX];
    size_t size = wire_write_head(&(struct wire_head){ .kind = WIRE_BACK, .channel = channel }, bytes, sizeof bytes);
    cr_assert(eq(int, nng_send(back_sock, bytes, size, 0), 0));
    drain_now();
    throw_head(&liar->head);
    drain_now();
}

/* The next that the receiver says on the back connection; it works meanwhile. */
static struct wire_head hear_back(void)
{
    nng_msg *m = NULL;
    struct wire_head head;
    for (int64_t end = test_now_ms() + test_ms(30000); nng_recvmsg(back_sock, &m, NNG_FLAG_NONBLOCK) && test_now_ms() < end;) {
        drain_now();
        poll(NULL, 0, 1);
    }
    cr_assert(m != NULL, "nothing was said");
    struct cursor at = cursor_over(nng_msg_body(m), nng_msg_len(m));
    cr_assert(wire_read_head(&at, &head));
    cr_assert(eq(int, (int)head.kind, WIRE_ACK));
    nng_msg_free(m);
    return head;
}

/* Until an ACK of this incarnation says this; others, and what is said again, come between. */
static void hear(const struct liar *liar, uint32_t bye)
{
    for (struct wire_head head = hear_back(); head.incarnation != liar->head.incarnation || head.bye != bye;)
        head = hear_back();
}

static void begin_again(struct liar *liar)
{
    hear(liar, WIRE_RESTART);
    liar->head.incarnation++;
    throw_head(&liar->head);
    hear(liar, 0);
    drain();
}

static void throw_chunk(const struct liar *liar, uint64_t number, uint64_t total, uint64_t offset, size_t size)
{
    static char bytes[CHUNK_BYTES + 1000], payload[CHUNK_BYTES + 500];
    struct wire_head head = { .kind = WIRE_CHUNK,
                              .channel = liar->head.channel,
                              .incarnation = liar->head.incarnation,
                              .number = number,
                              .total = total,
                              .offset = offset,
                              .payload = (const uint8_t *)payload,
                              .payload_bytes = size };
    throw_bytes(bytes, wire_write_head(&head, bytes, sizeof bytes));
}

static uint64_t blocks_now(void)
{
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    return info.blocks;
}

Test(nng_hostile, chunks_that_lie_are_dropped_and_leave_nothing)
{
    static const struct {
        uint64_t total, first, offset, size; /* a first chunk of `first` bytes, then another */
        uint64_t other_total;
    } lies[] = {
        { 90000, 1000, 999, 1000, 90000 },             /* overlaps */
        { 90000, 1000, 1001, 1000, 90000 },            /* leaves a gap */
        { 90000, 1000, 0, 1000, 90000 },               /* the same again */
        { 90000, 1000, 1000, 89001, 90000 },           /* more than it said */
        { 90000, 1000, UINT64_MAX - 10, 1000, 90000 }, /* wraps */
        { 90000, 1000, 1000, 0, 90000 },               /* nothing */
        { 90000, 1000, 1000, 1000, 80000 },            /* another size */
        { 100001, 1000, 1000, 1000, 100001 },          /* more than the lane takes */
        { UINT64_MAX, 1000, 1000, 1000, UINT64_MAX },
        { 0, 0, 0, 0, 0 },
    };
    struct liar liar;
    far_liar_make(&liar, 5001);
    drain();
    cr_assert(eq(u64, hear_back().max, 100000));
    uint64_t blocks = blocks_now();
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        uint64_t refused = stat_of(receiver).refused;
        throw_chunk(&liar, 1, lies[i].total, 0, lies[i].first);
        throw_chunk(&liar, 1, lies[i].other_total, lies[i].offset, lies[i].size);
        begin_again(&liar);
        cr_assert(gt(u64, stat_of(receiver).refused, refused), "lie %zu", i);
        cr_assert(eq(u64, blocks_now(), blocks), "lie %zu", i);
    }
    /* a block that was never sent in chunks, or not to its end, or is of a type of the library */
    struct wire_item item = { .what = WIRE_CARRIED, .size = 5000 };
    throw_item(&liar, &item);
    begin_again(&liar);
    throw_chunk(&liar, liar.head.number, 5000, 0, 4000);
    throw_item(&liar, &item);
    begin_again(&liar);
    item = (struct wire_item){ .what = WIRE_CARRIED, .size = 4, .block_type = POOL_TYPE_CELL, .payload = "fake" };
    throw_item(&liar, &item);
    begin_again(&liar);
    /* and one from the pool that we cannot map */
    throw_item(&liar, &(struct wire_item){ .what = WIRE_MOVED, .index = liar.head.cell, .generation = liar.head.cell_generation });
    begin_again(&liar);
    throw_item(&liar,
               &(struct wire_item){ .what = WIRE_VIEWED, .index = liar.head.cell, .generation = liar.head.cell_generation, .size = 1 });
    begin_again(&liar);
    /* who was told so, and goes on, is not heard */
    throw_item(&liar, &item);
    hear(&liar, WIRE_RESTART);
    throw_item(&liar, &(struct wire_item){ .what = WIRE_BYTES, .bytes = "x", .nbytes = 1 });
    cr_assert(eq(int, drain(), 0));
    cr_assert(eq(u64, blocks_now(), blocks));
    cue_block_release(&liar.cell_block);
    nng_close(back_sock);
    others_are_served();
}

Test(nng_hostile, transfers_that_never_end_are_bounded_and_end_with_their_connection)
{
    enum { LIARS = 50, AT_ONCE = 32 };
    static struct liar liars[LIARS];
    uint64_t before = blocks_now() + LIARS; /* each has a cell */
    for (unsigned i = 0; i < LIARS; i++)
        far_liar_make(&liars[i], 6000 + i);
    for (unsigned i = 0; i < LIARS; i++)
        throw_chunk(&liars[i], 1, 50000, 0, 100);
    for (int i = 0; i < 100 && blocks_now() < before + AT_ONCE; i++)
        drain();
    drain();
    cr_assert(eq(u64, blocks_now(), before + AT_ONCE));
    others_are_served();
    hostile_again();
    for (int i = 0; i < 100 && blocks_now() > before; i++)
        drain();
    cr_assert(eq(u64, blocks_now(), before));
    for (unsigned i = 0; i < LIARS; i++)
        cue_block_release(&liars[i].cell_block);
    nng_close(back_sock);
}

/* NNG may drop one without a word, and who sends may be in close, waiting for just that one. */
Test(nng_hostile, an_acknowledgement_is_said_again_while_nobody_receives)
{
    struct liar liar;
    far_liar_make(&liar, 5003);
    uint64_t number = liar.head.number;
    throw_item(&liar, &(struct wire_item){ .what = WIRE_BYTES, .has_bytes = true, .bytes = "once", .nbytes = 4 });
    while (hear_back().number != number)
        ;
    for (int i = 0; i < 2; i++) {
        nng_msg *m;
        struct wire_head head;
        cr_assert(eq(int, nng_recvmsg(back_sock, &m, 0), 0));
        struct cursor at = cursor_over(nng_msg_body(m), nng_msg_len(m));
        cr_assert(wire_read_head(&at, &head));
        cr_assert(eq(int, (int)head.kind, WIRE_ACK));
        cr_assert(eq(u64, head.number, number));
        nng_msg_free(m);
    }
    cue_block_release(&liar.cell_block);
    nng_close(back_sock);
    others_are_served();
}

Test(nng_hostile, an_acknowledgement_that_lies_moves_nothing)
{
    char where[120];
    snprintf(where, sizeof where, "ipc://%s/far", folder);
    nng_socket fake;
    cr_assert(eq(int, nng_pair1_open_poly(&fake), 0));
    cr_assert(eq(int, nng_listen(fake, where, NULL, 0), 0));
    nng_socket_set_ms(fake, NNG_OPT_RECVTIMEO, test_ms(10000));
    cue_channel *s;
    CUE_MUST(cue_channel_open(where, CUE_SEND, &(cue_channel_opts){ .pool = pool, .linger = CUE_NS(-1) }, &s));
    for (int i = 0; i < 5; i++) {
        cue_block b;
        CUE_MUST(cue_block_alloc(pool, 100, NULL, &b));
        CUE_MUST(cue_channel_send(s, &(cue_msg){ .move = &b }, CUE_NOW));
    }
    struct wire_head hello = { 0 };
    nng_pipe answer = NNG_PIPE_INITIALIZER;
    for (int i = 0; i < 100 && !(hello.channel && answer.id > 0); i++) {
        nng_msg *m;
        struct wire_head head;
        cr_assert(eq(int, nng_recvmsg(fake, &m, 0), 0));
        struct cursor at = cursor_over(nng_msg_body(m), nng_msg_len(m));
        cr_assert(wire_read_head(&at, &head));
        if (head.kind == WIRE_HELLO)
            hello = head;
        else if (head.kind == WIRE_BACK)
            answer = nng_msg_get_pipe(m);
        nng_msg_free(m);
    }
    const struct wire_head lies[] = {
        { .kind = WIRE_ACK, .channel = hello.channel + 1, .incarnation = hello.incarnation, .number = 3, .max = 1000 },
        { .kind = WIRE_ACK, .channel = hello.channel, .incarnation = hello.incarnation + 1, .number = 3, .max = 1000 },
        { .kind = WIRE_ACK, .channel = hello.channel, .incarnation = UINT32_MAX, .number = 3, .max = 1000 },
        { .kind = WIRE_ACK, .channel = hello.channel, .incarnation = hello.incarnation, .number = UINT64_MAX, .max = 1000 },
        { .kind = WIRE_ACK, .channel = hello.channel, .incarnation = hello.incarnation, .number = 1000, .max = 1000 },
        { .kind = WIRE_BATCH, .channel = hello.channel, .incarnation = hello.incarnation, .number = 5 },
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies + 50; i++) {
        char bytes[WIRE_HEAD_MAX];
        size_t size = draw(sizeof bytes);
        nng_msg *m;
        for (size_t j = 0; j < size; j++)
            bytes[j] = (char)draw(256);
        if (i < sizeof lies / sizeof *lies)
            size = wire_write_head(&lies[i], bytes, sizeof bytes);
        cr_assert(eq(int, nng_msg_alloc(&m, size), 0));
        memcpy(nng_msg_body(m), bytes, size);
        nng_msg_set_pipe(m, answer);
        cr_assert(eq(int, nng_sendmsg(fake, m, 0), 0));
    }
    for (int i = 0; i < 20; i++) {
        poll(NULL, 0, 5); /* whatever it makes of that */
        cr_assert(eq(u64, stat_of(s).queued, 5));
    }
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
    nng_close(fake);
    others_are_served();
}

Test(nng_hostile, gaps_and_repetitions_in_the_sequence_are_seen)
{
    struct liar liar;
    liar_make(&liar, 4715);
    throw_head(&liar.head);
    struct wire_item item = { .what = WIRE_BYTES, .type = 1, .has_bytes = true, .bytes = "x", .nbytes = 1 };
    throw_item(&liar, &item); /* 1 */
    throw_item(&liar, &item); /* 2 */
    liar.head.number = 1;
    throw_item(&liar, &item); /* 1 again */
    liar.head.number = 10;
    throw_item(&liar, &item); /* skips: not heard */
    liar.head.number = 3;
    throw_item(&liar, &item); /* nor is this, before it has begun again */
    int got = 0;
    for (int i = 0; i < 100 && got < 2; i++)
        got += drain();
    cr_assert(eq(int, got + drain(), 2));
    uint64_t word = atomic_load(&liar.cell->word);
    cr_assert(eq(u32, cell_order(word), WIRE_RESTART));
    cr_assert(eq(u64, cell_number(word), 2));
    cr_assert(eq(u64, stat_of(receiver).gaps, 0));
    liar.head.incarnation++;
    throw_item(&liar, &item); /* never said hello */
    liar.head.number = 10;
    throw_head(&liar.head); /* has nothing before that any more */
    throw_item(&liar, &item);
    cue_msg m;
    CUE_MUST(cue_channel_recv(receiver, &m, CUE_SEC(20)));
    cr_assert(eq(u32, m.gap, 7));
    cue_msg_release(&m);
    cr_assert(eq(int, drain(), 0));
    cr_assert(eq(u64, stat_of(receiver).gaps, 7));
    cr_assert(eq(u64, cell_number(atomic_load(&liar.cell->word)), 10));
    cue_block_release(&liar.cell_block);
    others_are_served();
}

Test(nng_hostile, more_peers_than_the_table_has)
{
    static struct liar liars[400];
    for (unsigned i = 0; i < 400; i++) {
        liar_make(&liars[i], 10000 + i);
        throw_head(&liars[i].head);
        if (i % 50 == 49)
            drain();
    }
    others_are_served();
    for (unsigned i = 0; i < 400; i++)
        cue_block_release(&liars[i].cell_block);
}

Test(nng_hostile, a_message_above_the_limit_costs_only_its_connection)
{
    static char big[200000];
    nng_socket other;
    cr_assert(eq(int, nng_pair1_open(&other), 0));
    cr_assert(eq(int, nng_dial(other, url, NULL, 0), 0));
    nng_msg *m;
    cr_assert(eq(int, nng_msg_alloc(&m, sizeof big), 0));
    cr_assert(eq(int, nng_sendmsg(other, m, 0), 0)); /* above the receiver's limit */
    drain();
    nng_close(other);
    others_are_served();
}

Test(nng_hostile, a_sender_survives_receivers_that_vanish_in_the_handshake)
{
    char where[120], at[110];
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    snprintf(at, sizeof at, "%s/other", folder);
    snprintf(where, sizeof where, "ipc://%s", at);
    strcpy(to.sun_path, at);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    cr_assert(eq(int, bind(listener, (struct sockaddr *)&to, sizeof to), 0));
    cr_assert(eq(int, listen(listener, 5), 0));
    cue_channel *s, *r;
    CUE_MUST(cue_channel_open(where, CUE_SEND, &(cue_channel_opts){ .pool = pool, .linger = CUE_SEC(20) }, &s));
    CUE_MUST(cue_channel_send(s, &(cue_msg){ .tag = 5, .data = "x", .size = 1 }, CUE_NOW));
    for (int i = 0; i < 3; i++) { /* NNG dials no more after the first; the lane does */
        struct pollfd p = { .fd = listener, .events = POLLIN };
        cr_assert(eq(int, poll(&p, 1, test_ms(5000)), 1), "attempt %d", i);
        close(accept(listener, NULL, NULL));
    }
    close(listener);
    unlink(at);
    CUE_MUST(cue_channel_open(where, CUE_RECV, &(cue_channel_opts){ .pool = pool }, &r));
    cue_msg m;
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cr_assert(eq(u64, m.tag, 5));
    cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}
