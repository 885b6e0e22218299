/* A sender to a name whose look-up does not end, as where a name server does not answer. */
#include "tests/cast/roles.h"
#include "tests/harness.h"
#include "tests/nng_reaper.h"

#include <cuelight.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>

static _Atomic int asked;

/* In the C library's place, also for NNG: silent.test is looked up for ever. */
__attribute__((visibility("default"))) int getaddrinfo(const char *restrict node, const char *restrict service,
                                                       const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
    if (node && strcmp(node, "silent.test") == 0) {
        if (hints->ai_flags & AI_NUMERICHOST)
            return EAI_NONAME;
        for (asked++;;)
            poll(NULL, 0, -1);
    }
    int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
    return next(node, service, hints, found);
}

/* POOL URL LOOK-UPS [h]: opens a lane to URL, sends a block, and closes it when the name is being looked up so often; h: in a process in
 * which NNG takes no connection down. */
int role_nng_names(int argc, char **argv)
{
    cue_pool *pool;
    cue_channel *ch;
    cue_block b;
    if (argc < 4 || cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool) || (argc > 4 && !reaper_stop()))
        return 1;
    if (cue_channel_open(argv[2], CUE_SEND, &(cue_channel_opts){ .pool = pool, .linger = CUE_MS(20) }, &ch) ||
        cue_block_alloc(pool, 64, NULL, &b) || cue_channel_send(ch, &(cue_msg){ .move = &b }, CUE_NOW))
        return 2;
    while (asked < atoi(argv[3]))
        poll(NULL, 0, 1);
    role_say('a');
    if (cue_channel_close(ch) != CUE_ETIMEDOUT)
        return 3;
    cue_pool_close(pool);
    return 0;
}
