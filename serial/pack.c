#include "pack.h"

#include <msgpack.h>
#include <string.h>

static int pack_write(void *arg, const char *bytes, size_t size)
{
    struct pack *to = arg;
    if (to->full || size > to->room - to->used) {
        to->full = true;
        return -1;
    }
    memcpy(to->bytes + to->used, bytes, size);
    to->used += size;
    return 0;
}

static msgpack_packer packer_for(struct pack *to)
{
    msgpack_packer packer;
    msgpack_packer_init(&packer, to, pack_write);
    return packer;
}

void pack_array(struct pack *to, uint32_t count)
{
    msgpack_packer packer = packer_for(to);
    msgpack_pack_array(&packer, count);
}

void pack_uint(struct pack *to, uint64_t value)
{
    msgpack_packer packer = packer_for(to);
    msgpack_pack_uint64(&packer, value);
}

void pack_bin(struct pack *to, const void *bytes, uint32_t size)
{
    msgpack_packer packer = packer_for(to);
    msgpack_pack_bin(&packer, size);
    if (size)
        msgpack_pack_bin_body(&packer, bytes, size);
}

void pack_ext(struct pack *to, int8_t type, const void *bytes, uint32_t size)
{
    msgpack_packer packer = packer_for(to);
    msgpack_pack_ext(&packer, size, type);
    if (size)
        msgpack_pack_ext_body(&packer, bytes, size);
}

void pack_nil(struct pack *to)
{
    msgpack_packer packer = packer_for(to);
    msgpack_pack_nil(&packer);
}
