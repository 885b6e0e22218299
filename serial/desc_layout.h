/* A descriptor byte by byte. Offsets count from its first byte, so that callers find the uid at 8 and the host at 16; all
 * numbers are little-endian. See docs/wire-format.md.
 */
#ifndef SERIAL_DESC_LAYOUT_H
#define SERIAL_DESC_LAYOUT_H

#include <cuelight/serial.h>

enum {
    DESC_EXT_8 = 0xc7,   /* msgpack: ext with a length of one byte */
    DESC_EXT_TYPE = 'C', /* the application type of our ext */
    DESC_VERSION = 1,

    DESC_AT_EXT = 0,             /* u8 DESC_EXT_8 */
    DESC_AT_LENGTH = 1,          /* u8: bytes from DESC_AT_VERSION on */
    DESC_AT_TYPE = 2,            /* u8 DESC_EXT_TYPE */
    DESC_AT_VERSION = 3,         /* u8 */
    DESC_AT_KIND = 4,            /* u8 CUE_DESC_… */
    DESC_AT_NAME_BYTES = 5,      /* u8: 0–63 */
    DESC_AT_SUM = 6,             /* u16, see desc_sum() */
    DESC_AT_UID = 8,             /* u64 */
    DESC_AT_HOST = 16,           /* u64 */
    DESC_AT_INDEX = 24,          /* u32: the block's record */
    DESC_AT_BLOCK_TYPE = 28,     /* u32 */
    DESC_AT_GENERATION = 32,     /* u64, 44 bits of it */
    DESC_AT_OFFSET = 40,         /* u64 */
    DESC_AT_SIZE = 48,           /* u64 */
    DESC_AT_KEY_ID = 56,         /* u64 */
    DESC_AT_NAME = 64,           /* the pool's name, no zero behind it */
    DESC_HEAD = DESC_AT_VERSION, /* bytes of msgpack's ext header */
    DESC_NAME_MAX = 63
};
_Static_assert(DESC_AT_NAME + DESC_NAME_MAX <= CUE_DESC_MAX, "the longest descriptor");
_Static_assert(DESC_AT_NAME - DESC_HEAD > 16 && CUE_DESC_MAX - DESC_HEAD < 256, "always msgpack's ext 8");

#endif
