/* What the fuzzers of pool images share: an image of a pool as its processes left it, copies of it to be changed, and how.
 *
 * The parties in an image are dead for whoever opens a copy, which nobody has locked. */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include "pool/pool_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct range {
    uint64_t at, size; /* in the object */
};

static struct {
    char *bytes;
    uint64_t size;
    struct range part[64];
    unsigned parts;
} image;

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s; trail: %s\n", what, cue_trail());
        abort();
    }
}

/* Copies what is present. */
static void take_image(cue_pool *pool)
{
    int fd = cue_pool_fd(pool);
    image.size = pool->object_bytes;
    image.bytes = calloc(1, image.size);
    must(image.bytes != NULL, "no memory");
    for (off_t at = 0; image.parts < 64;) {
        off_t from = lseek(fd, at, SEEK_DATA), to = from < 0 ? -1 : lseek(fd, from, SEEK_HOLE);
        if (to < 0)
            break;
        image.part[image.parts++] = (struct range){ (uint64_t)from, (uint64_t)(to - from) };
        must(pread(fd, image.bytes + from, (size_t)(to - from), from) == to - from, "a copy");
        at = to;
    }
}

/* A copy, mapped at `base`; its descriptor. */
static int copy_image(char **base)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    must(fd >= 0 && ftruncate(fd, (off_t)image.size) == 0, "a memfd");
    for (unsigned i = 0; i < image.parts; i++)
        must(pwrite(fd, image.bytes + image.part[i].at, image.part[i].size, (off_t)image.part[i].at) == (ssize_t)image.part[i].size,
             "a copy");
    *base = mmap(NULL, image.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    must(*base != MAP_FAILED, "a mapping");
    return fd;
}

/* A word of the region: set, add, or, and not; where nothing is present a page comes to be, as it would for a hostile writer. */
static void change_word(char *base, const struct range *region, uint32_t where, unsigned how, uint64_t value)
{
    char *at = base + region->at + where % region->size / 8 * 8;
    uint64_t word;
    memcpy(&word, at, 8);
    word = how % 4 == 0 ? value : how % 4 == 1 ? word + value : how % 4 == 2 ? word | value : word & ~value;
    memcpy(at, &word, 8);
}

static volatile unsigned char sink;

static void within(cue_pool *pool, const cue_block *b, bool write)
{
    char *data = b->data;
    must(data >= pool->data && b->size <= pool->data_bytes && data + b->size <= pool->data + pool->data_bytes, "bytes outside the pool");
    for (size_t i = 0; i < b->size; i += 512) {
        sink = (unsigned char)data[i];
        if (write)
            data[i] = 1;
    }
}

static void say_nothing(void *arg, const char *fault)
{
    (void)arg;
    must(strlen(fault) < 400, "a long line");
}

#endif
