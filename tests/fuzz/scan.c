/* Fuzzes the msgpack scan: what it lets through, msgpack-c unpacks whole and in bounded memory (run with -rss_limit_mb). */
#include <cuelight/serial.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    int status = cue_msgpack_scan(bytes, size);
    if (status)
        return status == CUE_ECORRUPT ? 0 : (abort(), 0);
    msgpack_unpacked result;
    msgpack_unpacked_init(&result);
    size_t at = 0;
    if (msgpack_unpack_next(&result, (const char *)bytes, size, &at) != MSGPACK_UNPACK_SUCCESS || at != size) {
        fprintf(stderr, "msgpack-c refuses what the scan takes\n");
        abort();
    }
    msgpack_unpacked_destroy(&result);
    return 0;
}
