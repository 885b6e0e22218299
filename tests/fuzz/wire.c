/* Fuzzes the packets of socket lanes: what is read stays within its bytes, and reads the same after it was written again. */
#include "channels/nng/wire.h"

#include <cuelight/serial.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void head_again(const struct wire_head *head)
{
    struct wire_head back;
    static char buf[1 << 20];
    size_t size = wire_write_head(head, buf, sizeof buf);
    memset(buf + size, 0,
           head->count < sizeof buf - size ? head->count : sizeof buf - size); /* it claims no more items than bytes follow */
    struct cursor c = cursor_over(buf, size + head->count);
    must(size && wire_read_head(&c, &back), "a head does not read again");
    must(back.kind == head->kind && back.channel == head->channel && back.incarnation == head->incarnation && back.number == head->number &&
             back.count == head->count && back.cell == head->cell && back.cell_generation == head->cell_generation &&
             back.pool_bytes == head->pool_bytes && back.bye == head->bye && back.max == head->max && back.total == head->total &&
             back.session == head->session && back.offset == head->offset && back.payload_bytes == head->payload_bytes,
         "a head reads differently");
}

static void item_again(const struct wire_item *item)
{
    struct wire_item back;
    static char buf[1 << 20];
    size_t size = wire_write_item(item, buf, sizeof buf);
    struct cursor c = cursor_over(buf, size);
    must(size && wire_read_item(&c, &back) && cursor_left(&c) == 0, "an item does not read again");
    must(back.what == item->what && back.index == item->index && back.generation == item->generation && back.offset == item->offset &&
             back.size == item->size && back.type == item->type && back.status == item->status && back.tag == item->tag &&
             back.key == item->key && cue_ref_same(back.from, item->from) && back.has_bytes == item->has_bytes &&
             back.nbytes == item->nbytes && back.block_type == item->block_type && !back.payload == !item->payload,
         "an item reads differently");
    must(!item->payload || memcmp(back.payload, item->payload, item->size) == 0, "its payload differs");
    must(!back.nbytes || memcmp(back.bytes, item->bytes, back.nbytes) == 0, "its bytes differ");
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct cursor c = cursor_over(bytes, size);
    struct wire_head head;
    struct wire_item item;
    if (!wire_read_head(&c, &head))
        return 0;
    must(!head.pool_bytes || (head.pool >= bytes && head.pool + head.pool_bytes <= bytes + size), "a pool outside the packet");
    must(!head.payload_bytes || (head.payload >= bytes && head.payload + head.payload_bytes <= bytes + size),
         "a payload outside the packet");
    if (head.count < 1 << 16)
        head_again(&head);
    for (uint32_t i = 0; i < head.count && wire_read_item(&c, &item); i++) {
        must(c.at <= c.end, "the cursor ran over");
        must(!item.nbytes || ((const uint8_t *)item.bytes >= bytes && (const uint8_t *)item.bytes + item.nbytes <= bytes + size),
             "bytes outside the packet");
        must(!item.payload || !item.size ||
                 ((const uint8_t *)item.payload >= bytes && (const uint8_t *)item.payload + item.size <= bytes + size),
             "a payload outside the packet");
        item_again(&item);
    }
    return 0;
}
