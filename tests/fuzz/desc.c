/* Fuzzes descriptors: the bytes as they are, with msgpack-c as the oracle of their form; and the words in them, put into a
 * descriptor of a live pool with a right checksum, against the pool. */
#include "serial/serial_internal.h"

#include <cuelight/serial.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static cue_pool *pool;
static cue_block blocks[32];

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s; trail: %s\n", what, cue_trail());
        abort();
    }
}

static void drop_pool(void)
{
    cue_pool_destroy(pool);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char name[40];
    (void)argc, (void)argv;
    snprintf(name, sizeof name, "fuzz-%d", (int)getpid());
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 1 << 20, .flags = CUE_CREATE }, &pool));
    atexit(drop_pool);
    for (int i = 0; i < 32; i++)
        CUE_MUST(cue_block_alloc(pool, (size_t)i * i * 30, NULL, &blocks[i]));
    return 0;
}

static void as_it_is(const uint8_t *bytes, size_t size)
{
    cue_desc desc;
    cue_block view;
    int read = cue_desc_decode(bytes, size, &desc);
    must(read > 0 || read == CUE_ECORRUPT || read == CUE_EVERSION, "an unexpected code");
    if (read < 0)
        return;
    must((size_t)read <= size && read <= CUE_DESC_MAX, "more read than there is");
    must(cue_msgpack_scan(bytes, (size_t)read) == 0, "the scan refuses what the cursor takes");
    msgpack_unpacked result;
    msgpack_unpacked_init(&result);
    size_t at = 0;
    must(msgpack_unpack_next(&result, (const char *)bytes, (size_t)read, &at) == MSGPACK_UNPACK_SUCCESS && at == (size_t)read,
         "msgpack-c refuses it");
    must(result.data.type == MSGPACK_OBJECT_EXT && result.data.via.ext.size == (uint32_t)read - 3, "msgpack-c reads something else");
    msgpack_unpacked_destroy(&result);
    if (cue_block_attach(bytes, (size_t)read, CUE_NOW, &view) == 0)
        cue_block_release(&view);
}

static void in_the_pool(const uint8_t *bytes, size_t size)
{
    struct desc desc;
    uint8_t right[CUE_DESC_MAX];
    uint64_t words[4] = { 0 };
    cue_block view;
    int made = cue_block_encode(&blocks[size % 32], right, sizeof right);
    must(made > 0 && desc_read(right, (size_t)made, &desc) == made, "a good descriptor");
    memcpy(words, bytes, size < sizeof words ? size : sizeof words);
    desc.index ^= (uint32_t)words[0];
    desc.generation = (desc.generation ^ words[1]) & ((UINT64_C(1) << 44) - 1);
    desc.shown.offset ^= words[2];
    desc.shown.size ^= words[3];
    made = desc_write(&desc, right, sizeof right);
    must(made > 0, "written");
    int status = cue_block_attach(right, (size_t)made, CUE_NOW, &view);
    must(status == 0 || status == CUE_ESTALE || status == CUE_ECORRUPT, "an unexpected code");
    if (status)
        return;
    must((char *)view.data >= pool->data && (char *)view.data + view.size <= pool->data + pool->data_bytes, "bytes outside the pool");
    must(view.size == desc.shown.size, "other bytes than asked");
    cue_block_release(&view);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    as_it_is(bytes, size);
    in_the_pool(bytes, size);
    return 0;
}
