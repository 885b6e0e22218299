/* msgpack from outside: what the scan lets through, and what the cursor reads, judged by msgpack-c itself. */
#include "harness.h"

#include "serial/cursor.h"
#include "serial/pack.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight/serial.h>
#include <msgpack.h>

static uint64_t seed = 20240601;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

/* A random object into `to`, at most `depth` levels. */
static void make_object(msgpack_packer *to, unsigned depth)
{
    char bytes[300] = { 0 };
    switch (draw(depth ? 9 : 7)) {
    case 0:
        msgpack_pack_nil(to);
        break;
    case 1:
        msgpack_pack_uint64(to, (uint64_t)draw(UINT32_MAX) << draw(32) >> draw(32));
        break;
    case 2:
        msgpack_pack_int64(to, -(int64_t)draw(UINT32_MAX) << draw(16));
        break;
    case 3:
        msgpack_pack_double(to, draw(1000) / 7.0);
        break;
    case 4:
        msgpack_pack_bin_with_body(to, bytes, draw(sizeof bytes));
        break;
    case 5:
        msgpack_pack_str_with_body(to, bytes, draw(sizeof bytes));
        break;
    case 6:
        msgpack_pack_ext_with_body(to, bytes, draw(sizeof bytes), 7);
        break;
    case 7: {
        uint32_t count = draw(20);
        msgpack_pack_array(to, count);
        while (count--)
            make_object(to, depth - 1);
        break;
    }
    default: {
        uint32_t count = draw(20);
        msgpack_pack_map(to, count);
        for (count *= 2; count--;)
            make_object(to, depth - 1);
    }
    }
}

static bool oracle_takes(const char *bytes, size_t size)
{
    msgpack_unpacked result;
    msgpack_unpacked_init(&result);
    size_t at = 0;
    bool taken = msgpack_unpack_next(&result, bytes, size, &at) == MSGPACK_UNPACK_SUCCESS && at == size;
    msgpack_unpacked_destroy(&result);
    return taken;
}

Test(serial_scan, takes_whatever_msgpack_c_packs_and_refuses_every_cut)
{
    for (int round = 0; round < 300; round++) {
        msgpack_sbuffer buffer;
        msgpack_packer packer;
        msgpack_sbuffer_init(&buffer);
        msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
        make_object(&packer, 3);
        cr_assert(eq(int, cue_msgpack_scan(buffer.data, buffer.size), 0), "%s", cue_trail());
        for (size_t cut = 0; cut < buffer.size; cut += 1 + buffer.size / 200)
            cr_assert(eq(int, cue_msgpack_scan(buffer.data, cut), CUE_ECORRUPT));
        msgpack_sbuffer_destroy(&buffer);
    }
}

Test(serial_scan, whatever_it_takes_msgpack_c_takes_too)
{
    int taken = 0, refused = 0;
    for (int round = 0; round < 200000; round++) {
        char bytes[24];
        size_t size = 1 + draw(sizeof bytes - 1);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (char)(draw(3) ? draw(256) : 0x90 + draw(4));
        if (cue_msgpack_scan(bytes, size) == 0) {
            taken++;
            cr_assert(oracle_takes(bytes, size));
        } else {
            refused++;
        }
    }
    cr_assert(gt(int, taken, 1000));
    cr_assert(gt(int, refused, 1000));
}

Test(serial_scan, counts_are_bounded_by_the_bytes_that_are_there)
{
    static const unsigned char arrays[] = { 0xdd, 0x10, 0, 0, 0 }, maps[] = { 0xdf, 0xff, 0xff, 0xff, 0xff, 1, 2 }, half[] = { 0x92, 1 };
    static const unsigned char bin[] = { 0xc6, 0xff, 0xff, 0xff, 0xff, 1 }, never[] = { 0xc1 };
    cr_assert(eq(int, cue_msgpack_scan(arrays, sizeof arrays), CUE_ECORRUPT));
    cr_assert(ne(int, strstr(cue_trail(), "claims more") != NULL, 0));
    cr_assert(eq(int, cue_msgpack_scan(maps, sizeof maps), CUE_ECORRUPT));
    cr_assert(eq(int, cue_msgpack_scan(half, sizeof half), CUE_ECORRUPT));
    cr_assert(eq(int, cue_msgpack_scan(bin, sizeof bin), CUE_ECORRUPT));
    cr_assert(eq(int, cue_msgpack_scan(never, sizeof never), CUE_ECORRUPT));
    cr_assert(eq(int, cue_msgpack_scan("\1\2", 2), CUE_ECORRUPT)); /* two objects */
    cr_assert(eq(int, cue_msgpack_scan("", 0), CUE_ECORRUPT));
    cr_assert(eq(int, cue_msgpack_scan(NULL, 3), CUE_EINVAL));
}

Test(serial_scan, sixteen_levels_and_no_more)
{
    unsigned char bytes[18];
    memset(bytes, 0x91, sizeof bytes);
    bytes[16] = 0xc0;
    cr_assert(eq(int, cue_msgpack_scan(bytes, 17), 0), "%s", cue_trail());
    bytes[16] = 0x91;
    bytes[17] = 0xc0;
    cr_assert(eq(int, cue_msgpack_scan(bytes, 18), CUE_ECORRUPT));
}

Test(serial_scan, the_cursor_reads_what_the_packer_wrote)
{
    static const uint64_t numbers[] = { 0, 1, 127, 128, 255, 256, 65535, 65536, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX };
    static const uint32_t sizes[] = { 0, 1, 2, 3, 4, 5, 8, 15, 16, 17, 255, 256, 65535, 65536, 70000 };
    static char bytes[300000], body[70000];
    memset(body, 'b', sizeof body);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct pack to = pack_into(bytes, sizeof bytes);
        uint64_t value;
        uint32_t small;
        pack_uint(&to, numbers[i]);
        struct cursor c = cursor_over(bytes, to.used);
        cr_assert(cursor_uint(&c, &value));
        cr_assert(eq(u64, value, numbers[i]));
        cr_assert(eq(sz, cursor_left(&c), 0));
        c = cursor_over(bytes, to.used);
        cr_assert(eq(int, cursor_uint32(&c, &small), numbers[i] <= UINT32_MAX));
        for (size_t cut = 0; cut < to.used; cut++) {
            c = cursor_over(bytes, cut);
            cr_assert(not(cursor_uint(&c, &value)));
        }
    }
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct pack to = pack_into(bytes, sizeof bytes);
        uint32_t count;
        const uint8_t *at;
        size_t size;
        int8_t type;
        pack_array(&to, sizes[i] % 20);
        pack_bin(&to, body, sizes[i]);
        pack_nil(&to);
        pack_ext(&to, -3, body, sizes[i]);
        cr_assert(not(to.full));
        struct cursor c = cursor_over(bytes, to.used);
        cr_assert(cursor_array(&c, &count) || sizes[i] % 20 > to.used);
        cr_assert(cursor_bin(&c, &at, &size));
        cr_assert(eq(sz, size, sizes[i]));
        cr_assert(not(cursor_uint(&(struct cursor){ c.at, c.end }, &(uint64_t){ 0 })));
        cr_assert(cursor_nil(&c));
        cr_assert(cursor_ext(&c, &type, &at, &size));
        cr_assert(eq(int, type, -3));
        cr_assert(eq(sz, size, sizes[i]));
        cr_assert(eq(sz, cursor_left(&c), 0));
    }
}

Test(serial_scan, what_does_not_fit_is_not_half_written)
{
    char bytes[8];
    struct pack to = pack_into(bytes, sizeof bytes);
    pack_bin(&to, "123456789", 9);
    cr_assert(to.full);
    size_t used = to.used;
    pack_uint(&to, 1);
    cr_assert(eq(sz, to.used, used));
}
