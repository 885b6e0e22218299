/* Writing msgpack into a buffer of fixed size. msgpack-c does the packing; this is its only door, so that no other folder
 * knows it. What does not fit sets `full` and changes nothing else: pack everything, then look once.
 */
#ifndef SERIAL_PACK_H
#define SERIAL_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pack {
    char *bytes;
    size_t used, room;
    bool full;
};

static inline struct pack pack_into(void *bytes, size_t room)
{
    return (struct pack){ .bytes = bytes, .room = room };
}

void pack_array(struct pack *to, uint32_t count);
void pack_uint(struct pack *to, uint64_t value);
void pack_bin(struct pack *to, const void *bytes, uint32_t size);
void pack_ext(struct pack *to, int8_t type, const void *bytes, uint32_t size);
void pack_nil(struct pack *to);

#endif
