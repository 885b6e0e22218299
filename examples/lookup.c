/* `lookup make` publishes weights; `lookup` finds them by type and id, also long after the maker has gone. They belong to the
 * pool `model` until somebody frees them: `lookup free`, or `cuelight rm model`. */
#include <cuelight.h>
#include <stdio.h>
#include <string.h>

enum { WEIGHTS = 7 };

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "find";
    cue_pool *pool;
    cue_block b;
    CUE_MUST(cue_pool_open("model", NULL, &pool));
    if (strcmp(what, "make") == 0) {
        CUE_MUST(cue_block_alloc(pool, 1 << 20, &(cue_block_opts){ .type = WEIGHTS, .id = 42 }, &b));
        for (size_t i = 0; i < b.size / sizeof(float); i++)
            ((float *)b.data)[i] = 0.5f;
        CUE_MUST(cue_block_publish(&b, 0)); /* before this line nobody finds half-written weights */
    } else {
        CUE_MUST(cue_block_find(pool, (cue_key){ .type = WEIGHTS, .id = 42 }, CUE_SEC(10), &b));
        printf("%zu weights, the first is %g\n", b.size / sizeof(float), (double)*(float *)b.data);
    }
    if (strcmp(what, "free") == 0)
        CUE_MUST(cue_block_free(&b));
    cue_block_release(&b);
    cue_pool_close(pool);
}
