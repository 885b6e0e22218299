/* Options given in the struct are judged as those in the URL are: none is silently ignored. And what a send says to a block of
 * another pool, and the text of an address. */
#include "tests/harness.h"

#include <cuelight/actor.h>
#include <cuelight/channel.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static const char *pool_name;
static cue_pool *pool;

static void setup(void)
{
    pool_name = test_name("opts");
    CUE_MUST(cue_pool_open(pool_name, &(cue_pool_opts){ .size = 4 << 20 }, &pool));
}

static void teardown(void)
{
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_expect(eq(u64, info.blocks, 0));
    cue_pool_close(pool);
    cr_expect(eq(int, test_leftovers(pool_name), 0));
}

TestSuite(channel_opts, .init = setup, .fini = teardown);

/* The status, and whether the trail says `word`. */
static void refused(const cue_channel_opts *opts, int status, const char *word)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "shm://%s/lane", pool_name);
    cr_expect(eq(int, cue_channel_open(url, CUE_RECV, opts, &ch), status), "%s", word);
    cr_expect(ch == NULL);
    cr_expect(strstr(cue_trail(), word) != NULL, "%s is not in: %s", word, cue_trail());
    cue_channel_close(ch);
}

Test(channel_opts, of_sockets_are_refused_on_shm)
{
    refused(&(cue_channel_opts){ .role = 1 }, CUE_EINVAL, "role");
    refused(&(cue_channel_opts){ .flush = CUE_US(5) }, CUE_EINVAL, "flush");
    refused(&(cue_channel_opts){ .flush = CUE_NS(-1) }, CUE_EINVAL, "flush");
    refused(&(cue_channel_opts){ .linger = CUE_SEC(1) }, CUE_EINVAL, "linger");
}

Test(channel_opts, beyond_their_limits_are_refused)
{
    refused(&(cue_channel_opts){ .role = 3 }, CUE_EINVAL, "role");
    refused(&(cue_channel_opts){ .kind = 9 }, CUE_EINVAL, "kind");
    refused(&(cue_channel_opts){ .full = 9 }, CUE_EINVAL, "full");
    refused(&(cue_channel_opts){ .depth = (1 << 24) + 1 }, CUE_EINVAL, "depth");
    refused(&(cue_channel_opts){ .type = CUE_TYPE_SYSTEM }, CUE_EINVAL, "type");
    refused(&(cue_channel_opts){ .bytes = (UINT64_C(1) << 40) + 1 }, CUE_EINVAL, "bytes");
    refused(&(cue_channel_opts){ .max = (UINT64_C(1) << 40) + 1 }, CUE_EINVAL, "max");
    refused(&(cue_channel_opts){ .spare = { 1 } }, CUE_EVERSION, "spare");
    refused(&(cue_channel_opts){ .spare = { [sizeof((cue_channel_opts){ 0 }.spare) / sizeof(uint64_t) - 1] = 1 } }, CUE_EVERSION, "spare");
}

Test(channel_opts, a_block_of_another_pool_stays_the_callers)
{
    static const char *const kinds[] = { "lane", "queue?kind=queue", "stream?kind=stream", "topic?kind=topic" };
    const char *other_name = test_name("opts-other");
    cue_pool *other;
    CUE_MUST(cue_pool_open(other_name, &(cue_pool_opts){ .size = 4 << 20 }, &other));
    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char url[128];
        cue_channel *ch;
        cue_block b;
        snprintf(url, sizeof url, "shm://%s/%s", pool_name, kinds[i]);
        CUE_MUST(cue_channel_open(url, CUE_SEND, NULL, &ch));
        CUE_MUST(cue_block_alloc(other, 100, NULL, &b));
        cr_expect(eq(int, cue_channel_send(ch, &(cue_msg){ .move = &b }, CUE_NOW), CUE_ENOTOWNER), "%s", kinds[i]);
        cr_expect(b.data != NULL);
        cr_expect(eq(int, cue_block_release(&b), 0));
        cue_channel_close(ch);
    }
    cue_pool_close(other);
    cr_expect(eq(int, test_leftovers(other_name), 0));
}

Test(channel_opts, the_text_of_an_address_is_cut_to_its_room)
{
    char text[64];
    cue_ref ref = { 1, 2, 0xabc, 4294967295u };
    cr_expect(eq(int, cue_ref_text(ref, text, sizeof text), 18));
    cr_expect(eq(str, text, "1/2/abc.4294967295"));
    memset(text, 'x', sizeof text);
    cr_expect(eq(int, cue_ref_text(ref, text, 5), 18));
    cr_expect(eq(str, text, "1/2/"));
    cr_expect(eq(chr, text[5], 'x'));
    cr_expect(eq(int, cue_ref_text(ref, NULL, 0), 18));
    cue_ref most = { UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX };
    cr_expect(lt(int, cue_ref_text(most, text, 48), 48)); /* always enough, the header says */
}
