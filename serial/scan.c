/* A walk over msgpack from outside before anything is allocated for it.
 *
 * msgpack-c's unpacker takes memory for an array when it sees its head: 24 bytes an element that is merely claimed. The walk
 * keeps how many elements are still owed on each open level; every claim must be covered by the bytes that are left, since an
 * element has at least one.
 */
#include <cuelight/serial.h>

#include "base/trail.h"
#include "cursor.h"

enum { SCAN_DEPTH = 16 };

/* What an element's first byte says: how many bytes of length follow, how many bytes more than that, and whether the length
 * counts elements. */
struct element {
    unsigned length_bytes;
    uint64_t bytes, elements;
    bool counts, bad;
    unsigned elements_each; /* of a map entry: 2 */
};

static struct element element_of(uint8_t head)
{
    struct element e = { .elements_each = 1 };
    if (head < 0x80 || head >= 0xe0 || head == 0xc0 || head == 0xc2 || head == 0xc3)
        return e; /* small numbers, nil, false, true */
    if (head < 0x90) {
        e.elements = 2u * (head & 0xf);
    } else if (head < 0xa0) {
        e.elements = head & 0xf;
    } else if (head < 0xc0) {
        e.bytes = head & 0x1f;
    } else if (head >= 0xc4 && head <= 0xc6) {
        e.length_bytes = 1u << (head - 0xc4);
    } else if (head >= 0xc7 && head <= 0xc9) {
        e.length_bytes = 1u << (head - 0xc7);
        e.bytes = 1;
    } else if (head == 0xca || head == 0xcb) {
        e.bytes = head == 0xca ? 4 : 8;
    } else if (head >= 0xcc && head <= 0xcf) {
        e.bytes = UINT64_C(1) << (head - 0xcc);
    } else if (head >= 0xd0 && head <= 0xd3) {
        e.bytes = UINT64_C(1) << (head - 0xd0);
    } else if (head >= 0xd4 && head <= 0xd8) {
        e.bytes = 1 + (UINT64_C(1) << (head - 0xd4));
    } else if (head >= 0xd9 && head <= 0xdb) {
        e.length_bytes = 1u << (head - 0xd9);
    } else if (head >= 0xdc) {
        e.length_bytes = (head & 1) ? 4 : 2;
        e.counts = true;
        e.elements_each = head >= 0xde ? 2 : 1;
    } else {
        e.bad = true; /* 0xc1 */
    }
    return e;
}

int cue_msgpack_scan(const void *bytes, size_t size)
{
    if (!bytes && size)
        return trail(CUE_EINVAL, "cue_msgpack_scan: bytes is NULL");
    struct cursor c = cursor_over(bytes, size);
    uint64_t owed[SCAN_DEPTH + 1] = { 1 }; /* elements still to come, by level */
    unsigned level = 0;
    for (;;) {
        while (level && !owed[level])
            level--;
        if (!owed[level])
            break;
        size_t at = size - cursor_left(&c);
        if (c.at == c.end)
            return trail(CUE_ECORRUPT, "msgpack: ends at byte %zu where an element is due", at);
        owed[level]--;
        struct element e = element_of(*c.at++);
        uint64_t length = 0;
        const uint8_t *skipped;
        if (e.bad || (e.length_bytes && !cursor_number(&c, e.length_bytes, &length)))
            return trail(CUE_ECORRUPT, "msgpack: no element at byte %zu", at);
        if (e.counts)
            e.elements = length * e.elements_each;
        else
            e.bytes += length;
        if (!cursor_bytes(&c, e.bytes, &skipped) || e.elements > cursor_left(&c))
            return trail(CUE_ECORRUPT, "msgpack: the element at byte %zu claims more than the %zu bytes behind it", at, cursor_left(&c));
        if (e.elements) {
            if (++level > SCAN_DEPTH)
                return trail(CUE_ECORRUPT, "msgpack: more than %d levels deep at byte %zu", SCAN_DEPTH, at);
            owed[level] = e.elements;
        }
    }
    if (c.at != c.end)
        return trail(CUE_ECORRUPT, "msgpack: %zu bytes behind the object", cursor_left(&c));
    return 0;
}
