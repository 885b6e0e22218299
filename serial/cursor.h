/* Reading msgpack of a fixed schema from bytes that may be hostile.
 *
 * A cursor stands between two bytes. Each call reads one element of the expected kind, every length checked against what is
 * left, and moves on; or it says false and the cursor no longer counts. Nothing is allocated and nothing recurses. It takes
 * what msgpack-c writes (the shortest form) and the longer forms that the format allows too.
 */
#ifndef SERIAL_CURSOR_H
#define SERIAL_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
    const uint8_t *at, *end;
};

static inline struct cursor cursor_over(const void *bytes, size_t size)
{
    return (struct cursor){ .at = bytes, .end = (const uint8_t *)bytes + size };
}

static inline size_t cursor_left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

/* An unsigned number of `bytes` bytes, big-endian as msgpack has them. */
static inline bool cursor_number(struct cursor *c, unsigned bytes, uint64_t *out)
{
    if (cursor_left(c) < bytes)
        return false;
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value = value << 8 | c->at[i];
    c->at += bytes;
    *out = value;
    return true;
}

static inline bool cursor_uint(struct cursor *c, uint64_t *out)
{
    if (c->at == c->end)
        return false;
    uint8_t head = *c->at++;
    if (head < 0x80) {
        *out = head;
        return true;
    }
    return head >= 0xcc && head <= 0xcf && cursor_number(c, 1u << (head - 0xcc), out);
}

/* The same, for a number that must fit 32 bits. */
static inline bool cursor_uint32(struct cursor *c, uint32_t *out)
{
    uint64_t value;
    if (!cursor_uint(c, &value) || value > UINT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

/* The head of an array; each of its elements takes at least a byte of what is left. */
static inline bool cursor_array(struct cursor *c, uint32_t *count)
{
    if (c->at == c->end)
        return false;
    uint8_t head = *c->at++;
    uint64_t value = head & 0xf;
    if ((head & 0xf0) != 0x90 && !((head == 0xdc || head == 0xdd) && cursor_number(c, head == 0xdc ? 2 : 4, &value)))
        return false;
    if (value > cursor_left(c))
        return false;
    *count = (uint32_t)value;
    return true;
}

static inline bool cursor_bytes(struct cursor *c, uint64_t size, const uint8_t **bytes)
{
    if (size > cursor_left(c))
        return false;
    *bytes = c->at;
    c->at += size;
    return true;
}

static inline bool cursor_bin(struct cursor *c, const uint8_t **bytes, size_t *size)
{
    if (c->at == c->end)
        return false;
    uint8_t head = *c->at++;
    uint64_t length;
    if (head < 0xc4 || head > 0xc6 || !cursor_number(c, 1u << (head - 0xc4), &length) || !cursor_bytes(c, length, bytes))
        return false;
    *size = (size_t)length;
    return true;
}

/* An ext and its type. */
static inline bool cursor_ext(struct cursor *c, int8_t *type, const uint8_t **bytes, size_t *size)
{
    if (c->at == c->end)
        return false;
    uint8_t head = *c->at++;
    uint64_t length, kind;
    if (head >= 0xd4 && head <= 0xd8)
        length = UINT64_C(1) << (head - 0xd4);
    else if (head < 0xc7 || head > 0xc9 || !cursor_number(c, 1u << (head - 0xc7), &length))
        return false;
    if (!cursor_number(c, 1, &kind) || !cursor_bytes(c, length, bytes))
        return false;
    *type = (int8_t)kind;
    *size = (size_t)length;
    return true;
}

/* True and one on if the next element is nil. */
static inline bool cursor_nil(struct cursor *c)
{
    if (c->at == c->end || *c->at != 0xc0)
        return false;
    c->at++;
    return true;
}

#endif
