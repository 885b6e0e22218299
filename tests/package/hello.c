/* A program outside the tree: makes a pool, publishes a block, finds it again by its key. Also valid C++. */
#include <cuelight.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void)
{
    char name[40];
    cue_pool *pool;
    cue_block made, found;
    cue_pool_opts options;
    cue_block_opts key;
    memset(&options, 0, sizeof options);
    memset(&key, 0, sizeof key);
    options.size = 1 << 20;
    key.type = 7;
    key.id = 42;
    snprintf(name, sizeof name, "package-%d", (int)getpid());
    CUE_MUST(cue_pool_open(name, &options, &pool));
    CUE_MUST(cue_block_alloc(pool, 6, &key, &made));
    strcpy((char *)made.data, "hello");
    CUE_MUST(cue_block_publish(&made, 0));
    cue_key which = { 7, 42, NULL };
    CUE_MUST(cue_block_find(pool, which, CUE_NOW, &found));
    puts((const char *)found.data);
    CUE_MUST(cue_block_free(&found));
    CUE_MUST(cue_block_release(&made));
    cue_pool_close(pool);
    return 0;
}
