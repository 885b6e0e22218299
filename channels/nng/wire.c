/* See wire.h. */
#include "wire.h"

#include "serial/pack.h"

#include <string.h>

enum { FIELDS_HEAD = 5, FIELDS_MOVED = 3, FIELDS_VIEWED = 5, FIELDS_CARRIED = 4, FIELDS_DROPPED = 2, FIELDS_MESSAGE = 5, FIELDS_FROM = 4 };

/* All that a head of this kind has; 0: no such kind. */
static uint32_t head_fields(uint32_t kind)
{
    static const uint8_t more[] = {
        [WIRE_HELLO] = 5, [WIRE_BATCH] = 1, [WIRE_BACK] = 1, [WIRE_ACK] = 3, [WIRE_CHUNK] = 3, [WIRE_ANSWER] = 2, [WIRE_HEARD] = 1
    };
    return kind >= WIRE_HELLO && kind <= WIRE_HEARD ? FIELDS_HEAD + more[kind] : 0;
}

size_t wire_write_head(const struct wire_head *head, void *buf, size_t room)
{
    struct pack to = pack_into(buf, room);
    pack_array(&to, head_fields(head->kind));
    pack_uint(&to, WIRE_VERSION);
    pack_uint(&to, head->kind);
    pack_uint(&to, head->channel);
    pack_uint(&to, head->incarnation);
    pack_uint(&to, head->number);
    switch (head->kind) {
    case WIRE_HELLO:
        pack_uint(&to, head->party);
        pack_uint(&to, head->epoch);
        pack_uint(&to, head->cell);
        pack_uint(&to, head->cell_generation);
        pack_bin(&to, head->pool, (uint32_t)head->pool_bytes);
        break;
    case WIRE_BATCH:
        pack_uint(&to, head->count);
        break;
    case WIRE_BACK:
        pack_uint(&to, head->max);
        break;
    case WIRE_ACK:
        pack_uint(&to, head->bye);
        pack_uint(&to, head->max);
        pack_uint(&to, head->session);
        break;
    case WIRE_ANSWER:
        pack_uint(&to, head->session);
        pack_uint(&to, head->count);
        break;
    case WIRE_HEARD:
        pack_uint(&to, head->session);
        break;
    case WIRE_CHUNK:
        pack_uint(&to, head->total);
        pack_uint(&to, head->offset);
        pack_bin(&to, head->payload, (uint32_t)head->payload_bytes);
        break;
    }
    return to.full ? 0 : to.used;
}

bool wire_read_head(struct cursor *from, struct wire_head *out)
{
    uint32_t fields, version, kind;
    memset(out, 0, sizeof *out);
    if (!cursor_array(from, &fields) || !cursor_uint32(from, &version) || version != WIRE_VERSION || !cursor_uint32(from, &kind) ||
        fields < FIELDS_HEAD || fields != head_fields(kind) || !cursor_uint(from, &out->channel) ||
        !cursor_uint32(from, &out->incarnation) || !cursor_uint(from, &out->number))
        return false;
    out->kind = (enum wire_kind)kind;
    switch (out->kind) {
    case WIRE_HELLO:
        return cursor_uint32(from, &out->party) && cursor_uint32(from, &out->epoch) && cursor_uint32(from, &out->cell) &&
               cursor_uint(from, &out->cell_generation) && cursor_bin(from, &out->pool, &out->pool_bytes);
    case WIRE_BATCH: /* an item is a byte at least */
        return cursor_uint32(from, &out->count) && out->count <= cursor_left(from);
    case WIRE_BACK:
        return cursor_uint(from, &out->max);
    case WIRE_ACK:
        return cursor_uint32(from, &out->bye) && out->bye <= WIRE_RESTART && cursor_uint(from, &out->max) &&
               cursor_uint(from, &out->session);
    case WIRE_ANSWER:
        return cursor_uint(from, &out->session) && cursor_uint32(from, &out->count) && out->count <= cursor_left(from);
    case WIRE_HEARD:
        return cursor_uint(from, &out->session);
    case WIRE_CHUNK:
        return cursor_uint(from, &out->total) && cursor_uint(from, &out->offset) && cursor_bin(from, &out->payload, &out->payload_bytes);
    }
    return false;
}

static uint32_t block_fields(enum wire_what what)
{
    static const uint8_t fields[] = { [WIRE_BYTES] = 1, [WIRE_MOVED] = FIELDS_MOVED,     [WIRE_VIEWED] = FIELDS_VIEWED,
                                      [WIRE_GONE] = 1,  [WIRE_CARRIED] = FIELDS_CARRIED, [WIRE_DROPPED] = FIELDS_DROPPED };
    return fields[what];
}

size_t wire_write_item(const struct wire_item *item, void *buf, size_t room)
{
    bool from = item->from.node | item->from.process | item->from.index | item->from.generation;
    bool message = from || item->has_bytes || item->type || item->status || item->tag || item->key;
    struct pack to = pack_into(buf, room);
    pack_array(&to, block_fields(item->what) + (message ? FIELDS_MESSAGE : 0) + (from ? FIELDS_FROM : 0));
    pack_uint(&to, item->what);
    if (item->what == WIRE_MOVED || item->what == WIRE_VIEWED) {
        pack_uint(&to, item->index);
        pack_uint(&to, item->generation);
    }
    if (item->what == WIRE_VIEWED) {
        pack_uint(&to, item->offset);
        pack_uint(&to, item->size);
    }
    if (item->what == WIRE_CARRIED) {
        pack_uint(&to, item->block_type);
        pack_uint(&to, item->size);
        if (item->payload)
            pack_bin(&to, item->payload, (uint32_t)item->size);
        else
            pack_nil(&to);
    }
    if (item->what == WIRE_DROPPED)
        pack_uint(&to, item->size);
    if (message) {
        pack_uint(&to, item->type);
        pack_uint(&to, (uint32_t)item->status);
        pack_uint(&to, item->tag);
        pack_uint(&to, item->key);
        if (item->has_bytes)
            pack_bin(&to, item->bytes, (uint32_t)item->nbytes);
        else
            pack_nil(&to);
    }
    if (from) {
        pack_uint(&to, item->from.node);
        pack_uint(&to, item->from.process);
        pack_uint(&to, item->from.index);
        pack_uint(&to, item->from.generation);
    }
    return to.full ? 0 : to.used;
}

static bool read_message(struct cursor *from, struct wire_item *out)
{
    uint32_t status;
    const uint8_t *bytes;
    if (!cursor_uint32(from, &out->type) || !cursor_uint32(from, &status) || !cursor_uint(from, &out->tag) || !cursor_uint(from, &out->key))
        return false;
    out->status = (int32_t)status;
    if (cursor_nil(from))
        return true;
    out->has_bytes = true;
    if (!cursor_bin(from, &bytes, &out->nbytes))
        return false;
    out->bytes = bytes;
    return true;
}

static bool read_carried(struct cursor *from, struct wire_item *out)
{
    const uint8_t *payload;
    size_t bytes;
    if (!cursor_uint32(from, &out->block_type) || !cursor_uint(from, &out->size))
        return false;
    if (cursor_nil(from))
        return true;
    if (!cursor_bin(from, &payload, &bytes) || bytes != out->size)
        return false;
    out->payload = payload;
    return true;
}

bool wire_read_item(struct cursor *from, struct wire_item *out)
{
    uint32_t fields, what;
    memset(out, 0, sizeof *out);
    if (!cursor_array(from, &fields) || !cursor_uint32(from, &what) || what > WIRE_DROPPED)
        return false;
    out->what = (enum wire_what)what;
    uint32_t of_block = block_fields(out->what);
    if (fields < of_block)
        return false;
    fields -= of_block;
    if (fields != 0 && fields != FIELDS_MESSAGE && fields != FIELDS_MESSAGE + FIELDS_FROM)
        return false;
    if ((what == WIRE_MOVED || what == WIRE_VIEWED) && (!cursor_uint32(from, &out->index) || !cursor_uint(from, &out->generation)))
        return false;
    if (what == WIRE_VIEWED && (!cursor_uint(from, &out->offset) || !cursor_uint(from, &out->size)))
        return false;
    if (what == WIRE_CARRIED && !read_carried(from, out))
        return false;
    if (what == WIRE_DROPPED && (fields || !cursor_uint(from, &out->size) || out->size > UINT32_MAX))
        return false;
    if (fields && !read_message(from, out))
        return false;
    return fields <= FIELDS_MESSAGE || (cursor_uint32(from, &out->from.node) && cursor_uint32(from, &out->from.process) &&
                                        cursor_uint32(from, &out->from.index) && cursor_uint32(from, &out->from.generation));
}
