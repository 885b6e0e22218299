/* Inside the serial layer, and what the layers above may use of it. */
#ifndef SERIAL_INTERNAL_H
#define SERIAL_INTERNAL_H

#include "pool/pool_internal.h"

#include <cuelight/serial.h>

/* A descriptor as read: with what the public form does not show. */
struct desc {
    cue_desc shown;
    uint32_t index;
    uint64_t generation;
};

int desc_read(const void *bytes, size_t size, struct desc *out);
int desc_write(const struct desc *desc, void *buf, size_t cap);

/* The open pool that a descriptor means, held open until pool_close_held; attaches it if need be. */
int desc_pool(const struct desc *desc, cue_pool **out);

/* Narrows a fresh view of a whole block to a part that somebody else claims that it has; on failure the view is released. */
int block_narrow(cue_block *view, uint64_t offset, uint64_t size);

#endif
