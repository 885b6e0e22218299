/* Roles for descriptors. */
#include "tests/cast/roles.h"

#include <cuelight/serial.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int role_attach_desc(int argc, char **argv)
{
    unsigned char bytes[CUE_DESC_MAX];
    cue_block view;
    if (argc < 3)
        return 1;
    size_t size = strlen(argv[1]) / 2;
    for (size_t i = 0; i < size && i < sizeof bytes; i++) {
        char digits[3] = { argv[1][2 * i], argv[1][2 * i + 1], 0 };
        bytes[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    if (cue_block_attach(bytes, size, CUE_NOW, &view) < 0) {
        fprintf(stderr, "attach_desc: %s\n", cue_trail());
        return 2;
    }
    if (role_say('v') || role_hear() != 'g')
        return 3;
    if (strcmp(view.data, argv[2]) != 0)
        return 4;
    return cue_block_release(&view) ? 5 : 0;
}
