/* Descriptors: round trip, cut, flipped, forged, stale, from elsewhere; msgpack-c judges the form. */
#include "tests/harness.h"

#include "base/process.h"
#include "pool/pool_internal.h"
#include "serial/serial_internal.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight/serial.h>
#include <msgpack.h>

static const char *name;
static cue_pool *pool;

static void make_pool(void)
{
    name = test_name("desc");
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 1 << 20, .flags = CUE_CREATE }, &pool));
}

static void drop_pool(void)
{
    cue_pool_close(pool);
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(serial_desc, .init = make_pool, .fini = drop_pool);

static cue_block make_block(const char *text, uint64_t id)
{
    cue_block b;
    CUE_MUST(cue_block_alloc(pool, strlen(text) + 1, &(cue_block_opts){ .type = 7, .id = id, .flags = id ? CUE_KEEP : 0 }, &b));
    strcpy(b.data, text);
    return b;
}

Test(serial_desc, a_block_is_found_again_with_all_its_words)
{
    uint8_t bytes[CUE_DESC_MAX];
    cue_block b = make_block("the props stay on the stage", 99), view;
    cue_block_info info;
    cue_desc desc;
    int size = cue_block_encode(&b, bytes, sizeof bytes);
    cr_assert(gt(int, size, 64), "%s", cue_trail());
    cr_assert(eq(int, size, 64 + (int)strlen(name)));
    cr_assert(eq(int, cue_desc_decode(bytes, (size_t)size, &desc), size), "%s", cue_trail());
    cr_assert(eq(int, cue_block_stat(&b, &info), 0));
    cr_assert(eq(u64, desc.pool_uid, pool->uid));
    cr_assert(eq(u64, desc.host, process_host()));
    cr_assert(eq(u64, desc.id, info.id));
    cr_assert(eq(u64, desc.key_id, 99));
    cr_assert(eq(u64, desc.size, b.size));
    cr_assert(eq(u64, desc.offset, 0));
    cr_assert(eq(u32, desc.type, 7));
    cr_assert(eq(u32, desc.kind, CUE_DESC_BLOCK));
    cr_assert(eq(str, desc.pool, (char *)name));
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), 0), "%s", cue_trail());
    cr_assert(eq(ptr, view.data, b.data));
    cr_assert(eq(sz, view.size, b.size));
    cr_assert(eq(int, cue_block_release(&view), 0));
    cr_assert(eq(int, cue_block_find(pool, (cue_key){ .id = desc.id }, CUE_NOW, &view), 0));
    cr_assert(eq(int, cue_block_release(&view), 0));
    cr_assert(eq(int, cue_block_free(&b), 0));
}

Test(serial_desc, uid_and_host_stand_where_callers_look_for_them)
{
    uint8_t bytes[CUE_DESC_MAX];
    uint64_t uid, host;
    cue_block b = make_block("x", 0), view;
    int size = cue_block_encode(&b, bytes, sizeof bytes);
    memcpy(&uid, bytes + 8, 8);
    memcpy(&host, bytes + 16, 8);
    cr_assert(eq(u64, uid, pool->uid));
    cr_assert(eq(u64, host, process_host()));
    host++;
    memcpy(bytes + 16, &host, 8); /* "made elsewhere" */
    cr_assert(eq(int, cue_desc_decode(bytes, (size_t)size, &(cue_desc){ 0 }), size));
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_EREMOTE));
    cr_assert(ne(int, strstr(cue_trail(), "host") != NULL, 0));
    host--;
    uid++;
    memcpy(bytes + 16, &host, 8);
    memcpy(bytes + 8, &uid, 8);
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_ENOENT));
    cr_assert(eq(ptr, view.data, NULL));
    cr_assert(eq(int, cue_block_release(&b), 0));
}

Test(serial_desc, a_part_of_a_block_travels_as_that_part)
{
    uint8_t bytes[CUE_DESC_MAX];
    cue_block b = make_block("0123456789", 0), part, there;
    CUE_MUST(cue_block_view(&b, 3, 4, &part));
    int size = cue_block_encode(&part, bytes, sizeof bytes);
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &there), 0), "%s", cue_trail());
    cr_assert(eq(sz, there.size, 4));
    cr_assert(eq(int, memcmp(there.data, "3456", 4), 0));
    cue_block_release(&there);
    cue_block_release(&part);
    cue_block_release(&b);
}

Test(serial_desc, the_generation_travels_whole)
{
    uint8_t bytes[CUE_DESC_MAX];
    struct desc desc;
    cue_block b = make_block("x", 0), view;
    cr_assert(gt(int, cue_block_encode(&b, bytes, sizeof bytes), 0));
    cr_assert(gt(int, desc_read(bytes, sizeof bytes, &desc), 0));
    desc.generation += UINT64_C(1) << 32; /* the low 32 bits are the same */
    int size = desc_write(&desc, bytes, sizeof bytes);
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_ESTALE));
    cr_assert(eq(int, desc_read(bytes, sizeof bytes, &desc), size));
    cr_assert(ge(u64, desc.generation, UINT64_C(1) << 32));
    cue_block_release(&b);
}

Test(serial_desc, what_was_freed_is_stale_even_if_the_place_is_used_again)
{
    uint8_t bytes[CUE_DESC_MAX];
    cue_block b = make_block("first", 0), view;
    void *place = b.data;
    int size = cue_block_encode(&b, bytes, sizeof bytes), again = 0;
    cr_assert(eq(int, cue_block_release(&b), 0));
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_ESTALE));
    for (int i = 0; i < 200 && !again; i++) {
        b = make_block("other", 0);
        again = b.data == place;
        cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_ESTALE));
        cue_block_release(&b);
    }
    cr_assert(again, "the place was never used again: the test shows nothing");
    cr_assert(eq(int, cue_block_encode(&b, bytes, sizeof bytes), CUE_EMOVED));
}

Test(serial_desc, every_cut_is_refused)
{
    uint8_t bytes[CUE_DESC_MAX];
    cue_block b = make_block("x", 0), view;
    cue_pool *other;
    cue_desc desc;
    int size = cue_block_encode(&b, bytes, sizeof bytes);
    for (int cut = 0; cut < size; cut++) {
        uint8_t *exact = malloc((size_t)cut); /* so that a sanitizer sees one byte too many */
        memcpy(exact, bytes, (size_t)cut);
        cr_assert(eq(int, cue_desc_decode(exact, (size_t)cut, &desc), CUE_ECORRUPT));
        cr_assert(eq(int, cue_block_attach(exact, (size_t)cut, CUE_NOW, &view), CUE_ECORRUPT));
        cr_assert(eq(int, cue_pool_attach(exact, (size_t)cut, &other), CUE_ECORRUPT));
        cr_assert(eq(ptr, other, NULL));
        free(exact);
    }
    for (int length = 0; length < size - 3; length++) /* its own length says that it ends earlier */
        for (int cut = 4; cut < 3 + length; cut++) {
            uint8_t *exact = malloc((size_t)cut);
            memcpy(exact, bytes, (size_t)cut);
            exact[1] = (uint8_t)(length < cut ? cut - 3 : length);
            cr_assert(eq(int, cue_desc_decode(exact, (size_t)cut, &desc), CUE_ECORRUPT));
            free(exact);
        }
    for (int cap = 0; cap < size; cap++)
        cr_assert(eq(int, cue_block_encode(&b, bytes, (size_t)cap), CUE_ETOOBIG));
    cue_block_release(&b);
}

Test(serial_desc, every_flipped_byte_gives_a_code_and_never_another_blocks_bytes)
{
    uint8_t bytes[CUE_DESC_MAX];
    cue_block blocks[64], view;
    for (int i = 0; i < 64; i++) { /* neighbours of the same generation */
        blocks[i] = make_block("a block of somebody else", 0);
        ((char *)blocks[i].data)[0] = (char)i;
    }
    int size = cue_block_encode(&blocks[20], bytes, sizeof bytes), refused = 0;
    for (int at = 0; at < size; at++)
        for (int flip = 1; flip < 256; flip++) {
            bytes[at] ^= (uint8_t)flip;
            int status = cue_block_attach(bytes, (size_t)size, CUE_NOW, &view);
            if (status == 0) {
                cr_assert(eq(ptr, view.data, blocks[20].data), "byte %d flipped by %#x", at, flip);
                cue_block_release(&view);
            } else {
                refused++;
                cr_assert(status == CUE_ECORRUPT || status == CUE_EVERSION || status == CUE_ENOENT || status == CUE_EREMOTE, "byte %d: %s",
                          at, cue_status_name(status));
            }
            bytes[at] ^= (uint8_t)flip;
        }
    cr_assert(eq(int, refused, size * 255));
    for (int i = 0; i < 64; i++)
        cue_block_release(&blocks[i]);
}

Test(serial_desc, forged_words_with_a_right_checksum_get_codes)
{
    uint8_t bytes[CUE_DESC_MAX];
    struct desc good, d;
    cue_block b = make_block("0123456789", 0), view;
    cr_assert(gt(int, cue_block_encode(&b, bytes, sizeof bytes), 0));
    cr_assert(gt(int, desc_read(bytes, sizeof bytes, &good), 0));
    static const uint64_t odd[] = { 0, 1, 10, 11, 12, 4096, UINT32_MAX, INT64_MAX, UINT64_MAX };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
        for (size_t j = 0; j < sizeof odd / sizeof *odd; j++) {
            d = good;
            d.shown.offset = odd[i];
            d.shown.size = odd[j];
            int size = desc_write(&d, bytes, sizeof bytes), status = cue_block_attach(bytes, (size_t)size, CUE_NOW, &view);
            bool within = odd[i] <= b.size && odd[j] <= b.size - odd[i];
            cr_assert(eq(int, status, within ? 0 : CUE_ECORRUPT), "offset %lu size %lu: %s", odd[i], odd[j], cue_trail());
            cue_block_release(&view);
        }
    for (uint32_t i = 0; i < 4000; i++) { /* indexes that are none, or of blocks that are not there */
        d = good;
        d.index = i < 2000 ? i * 2654435761u : (good.index & 0x80000000u) + i;
        int size = desc_write(&d, bytes, sizeof bytes), status = cue_block_attach(bytes, (size_t)size, CUE_NOW, &view);
        if (d.index != good.index && status == 0) /* somebody who can forge this could read the pool anyway: it must be a live block */
            cr_assert(eq(int, cue_block_stat(&view, &(cue_block_info){ 0 }), 0));
        cr_assert(status == 0 || status == CUE_ESTALE || status == CUE_ECORRUPT);
        cue_block_release(&view);
    }
    for (uint64_t g = 0; g < 64; g++) {
        d = good;
        d.generation = UINT64_C(1) << g;
        int size = desc_write(&d, bytes, sizeof bytes), status = cue_block_attach(bytes, (size_t)size, CUE_NOW, &view);
        bool same = d.generation == good.generation;
        cr_assert(eq(int, status, same ? 0 : g >= 44 ? CUE_ECORRUPT : CUE_ESTALE));
        cue_block_release(&view);
    }
    d = good;
    strcpy(d.shown.pool, "no/name");
    int size = desc_write(&d, bytes, sizeof bytes);
    cr_assert(eq(int, cue_desc_decode(bytes, (size_t)size, &(cue_desc){ 0 }), CUE_ECORRUPT));
    d = good;
    d.shown.kind = 9;
    size = desc_write(&d, bytes, sizeof bytes);
    cr_assert(eq(int, cue_desc_decode(bytes, (size_t)size, &(cue_desc){ 0 }), CUE_EVERSION));
    size = desc_write(&good, bytes, sizeof bytes);
    bytes[3] = 2;
    cr_assert(eq(int, cue_desc_decode(bytes, (size_t)size, &(cue_desc){ 0 }), CUE_EVERSION));
    cue_block_release(&b);
}

Test(serial_desc, msgpack_c_unpacks_what_we_pack_to_the_same_ext)
{
    uint8_t bytes[CUE_DESC_MAX];
    cue_block b = make_block("x", 5);
    for (int of_pool = 0; of_pool < 2; of_pool++) {
        int size = of_pool ? cue_pool_encode(pool, bytes, sizeof bytes) : cue_block_encode(&b, bytes, sizeof bytes);
        cr_assert(gt(int, size, 0));
        cr_assert(eq(int, cue_msgpack_scan(bytes, (size_t)size), 0), "%s", cue_trail());
        msgpack_unpacked result;
        msgpack_unpacked_init(&result);
        size_t at = 0;
        cr_assert(eq(int, msgpack_unpack_next(&result, (char *)bytes, (size_t)size, &at), MSGPACK_UNPACK_SUCCESS));
        cr_assert(eq(sz, at, (size_t)size));
        cr_assert(eq(int, result.data.type, MSGPACK_OBJECT_EXT));
        cr_assert(eq(int, result.data.via.ext.type, 'C'));
        cr_assert(eq(u32, result.data.via.ext.size, (uint32_t)size - 3));
        cr_assert(eq(int, memcmp(result.data.via.ext.ptr, bytes + 3, (size_t)size - 3), 0));
        msgpack_unpacked_destroy(&result);
    }
    cue_block_free(&b);
}

Test(serial_desc, a_pools_descriptor_opens_it_once_more)
{
    uint8_t bytes[CUE_DESC_MAX];
    cue_pool *again;
    cue_block view;
    cue_desc desc;
    int size = cue_pool_encode(pool, bytes, sizeof bytes);
    cr_assert(eq(int, cue_desc_decode(bytes, (size_t)size, &desc), size));
    cr_assert(eq(u32, desc.kind, CUE_DESC_POOL));
    cr_assert(eq(u64, desc.id, 0));
    cr_assert(eq(int, cue_pool_attach(bytes, (size_t)size, &again), 0), "%s", cue_trail());
    cr_assert(eq(ptr, again, pool));
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_ETYPE));
    cue_pool_close(again);
    cue_block b = make_block("the pool is still open", 0);
    cr_assert(eq(int, cue_block_release(&b), 0));
}

Test(serial_desc, a_nameless_pool_that_is_not_open_here_must_be_handed_over)
{
    uint8_t bytes[CUE_DESC_MAX];
    struct desc desc;
    cue_block b = make_block("x", 0), view;
    cr_assert(gt(int, cue_block_encode(&b, bytes, sizeof bytes), 0));
    cr_assert(gt(int, desc_read(bytes, sizeof bytes, &desc), 0));
    memset(desc.shown.pool, 0, sizeof desc.shown.pool);
    int size = desc_write(&desc, bytes, sizeof bytes);
    cr_assert(eq(int, size, 64));
    cr_assert(eq(int, cue_desc_decode(bytes, (size_t)size, &(cue_desc){ 0 }), size));
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_ENOENT));
    cr_assert(ne(int, strstr(cue_trail(), "cue_pool_fd") != NULL, 0), "%s", cue_trail());
    cue_block_release(&b);
}

Test(serial_desc, another_process_attaches_the_pool_for_as_long_as_it_looks)
{
    char hex[2 * CUE_DESC_MAX + 1] = "";
    uint8_t bytes[CUE_DESC_MAX];
    cue_block b = make_block("seen from elsewhere", 0);
    int size = cue_block_encode(&b, bytes, sizeof bytes);
    for (int i = 0; i < size; i++)
        snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    struct cast viewer = cast_start("attach_desc", hex, "seen from elsewhere");
    cr_assert(eq(int, cast_hear(&viewer, 10000), 'v'));
    cr_assert(eq(int, cue_block_release(&b), 0)); /* freed; the viewer's bytes stay */
    cast_say(&viewer, 'g');
    cr_assert(eq(int, cast_wait(&viewer, 10000), 0));
    cue_pool_info info;
    cr_assert(eq(int, cue_pool_stat(pool, &info), 0));
    cr_assert(eq(u64, info.parties, 1));
    cr_assert(eq(u64, info.blocks, 0));
}

Test(serial_desc, a_pool_that_took_the_name_over_is_not_mistaken)
{
    uint8_t bytes[CUE_DESC_MAX];
    const char *reused = test_name("descreuse");
    cue_pool *first, *second;
    cue_block b, view;
    CUE_MUST(cue_pool_open(reused, &(cue_pool_opts){ .size = 1 << 20, .flags = CUE_CREATE }, &first));
    CUE_MUST(cue_block_alloc(first, 10, NULL, &b));
    int size = cue_block_encode(&b, bytes, sizeof bytes);
    cue_block_release(&b);
    CUE_MUST(cue_pool_destroy(first));
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_ENOENT));
    CUE_MUST(cue_pool_open(reused, &(cue_pool_opts){ .size = 1 << 20, .flags = CUE_CREATE }, &second));
    cr_assert(eq(int, cue_block_attach(bytes, (size_t)size, CUE_NOW, &view), CUE_ENOENT));
    cr_assert(ne(int, strstr(cue_trail(), "another") != NULL, 0), "%s", cue_trail());
    cue_pool_close(second);
}

Test(serial_desc, missing_arguments_are_said)
{
    uint8_t bytes[CUE_DESC_MAX];
    cue_block view;
    cr_assert(eq(int, cue_desc_decode(NULL, 10, &(cue_desc){ 0 }), CUE_ECORRUPT));
    cr_assert(eq(int, cue_desc_decode(bytes, 0, NULL), CUE_EINVAL));
    cr_assert(eq(int, cue_block_attach(NULL, 0, CUE_NOW, &view), CUE_ECORRUPT));
    cr_assert(eq(int, cue_block_attach(bytes, 1, CUE_NOW, NULL), CUE_EINVAL));
    cr_assert(eq(int, cue_pool_attach(bytes, 1, NULL), CUE_EINVAL));
    cr_assert(eq(int, cue_pool_encode(NULL, bytes, sizeof bytes), CUE_EINVAL));
    cr_assert(eq(int, cue_block_encode(NULL, bytes, sizeof bytes), CUE_EINVAL));
    cr_assert(eq(int, cue_block_encode(&(cue_block){ 0 }, bytes, sizeof bytes), CUE_EMOVED));
    cue_block b = make_block("x", 0);
    cr_assert(eq(int, cue_block_encode(&b, NULL, 128), CUE_ETOOBIG));
    cue_block_release(&b);
}
