/* recover die NAME [lane]: opens a pool, owns a block in it, with `lane` has a lane open, too, and is killed.
 * recover look NAME: opens that pool, and says how many dead it has cleaned up after. Of the pool's calls only, but for LANES. */
#include <cuelight.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void line(void *arg, const char *fault)
{
    (void)arg;
    printf("%s\n", fault);
}

int main(int argc, char **argv)
{
    cue_pool *pool;
    cue_block block;
    cue_pool_info info;
    if (argc < 3)
        return 2;
    CUE_MUST(cue_pool_open(argv[2], &(cue_pool_opts){ .size = 1 << 20, .flags = CUE_PERSIST }, &pool));
    if (strcmp(argv[1], "die") == 0) {
        CUE_MUST(cue_block_alloc(pool, 100, NULL, &block));
#ifdef LANES
        char url[96];
        cue_channel *ch;
        snprintf(url, sizeof url, "shm://%s/lane", argv[2]);
        if (argc > 3)
            CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &ch));
#endif
        raise(SIGKILL);
    }
    cue_pool_check(pool, true, line, NULL);
    CUE_MUST(cue_pool_stat(pool, &info));
    printf("reaped %d\n", (int)info.reaped);
    if (strcmp(argv[1], "end") == 0)
        CUE_MUST(cue_pool_destroy(pool));
    return 0;
}
