/* Publishers, subscribers that come and go, and who cleans up after them, killed and stopped at random. One subscriber stays and wants
 * to be waited for: it gets every message of every publisher, in order, whole, up to the one in which the publisher was killed. */
#include "tests/cast/numbered.h"
#include "tests/harness.h"

#include <cuelight/channel.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { PUBLISHERS = 3, READERS = 3, ALL = PUBLISHERS + READERS + 1, LIVES = 4096, STORM_MS = 3000 };

static const char *pool_name;
static char url[128], lossy[160];
static struct cast casts[ALL];
static struct {
    int32_t publisher;
    uint32_t next;
} lives[LIVES];
static int nlives;

static void start(int i)
{
    if (i < PUBLISHERS)
        casts[i] = cast_start("topic_storm_publisher", url);
    else if (i < PUBLISHERS + READERS)
        casts[i] = cast_start("topic_storm_reader", i % 2 ? url : lossy, "7");
    else
        casts[i] = cast_start("storm_reaper", pool_name);
}

/* Each life of a publisher begins with 0. */
static uint32_t *next_of(int32_t publisher)
{
    for (int i = nlives; i-- > 0;)
        if (lives[i].publisher == publisher)
            return &lives[i].next;
    cr_assert(lt(int, nlives, LIVES));
    lives[nlives].publisher = publisher;
    lives[nlives].next = 0;
    return &lives[nlives++].next;
}

static void look_at(cue_msg *m)
{
    struct counted said;
    cr_assert(eq(sz, m->size, sizeof said));
    memcpy(&said, m->data, sizeof said);
    cr_assert(eq(u32, said.sum, counted_sum(&said)));
    uint32_t *next = next_of(said.publisher);
    cr_assert(eq(u32, said.number, *next), "nothing is lost, doubled or out of order");
    ++*next;
    if (m->block.data) {
        cr_assert(eq(sz, m->block.size, 3000));
        cr_assert(eq(int, ((unsigned char *)m->block.data)[2999], (int)(said.number & 0xff)));
    }
    cue_msg_release(m);
}

static void say_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

Test(topic_storm, nothing_is_lost_leaked_or_stuck)
{
    cue_pool *pool;
    cue_channel *in;
    cue_pool_info info;
    cue_channel_info counts;
    cue_msg m;
    unsigned seed = 1;
    uint64_t messages = 0, kills = 0, stops = 0;
    pool_name = test_name("topicstorm");
    snprintf(url, sizeof url, "shm://%s/news?kind=topic&depth=32", pool_name);
    snprintf(lossy, sizeof lossy, "%s&full=drop-old", url);
    CUE_MUST(cue_pool_open(pool_name, &(cue_pool_opts){ .size = 16 << 20 }, &pool));
    CUE_MUST(cue_channel_open(url, CUE_RECV, NULL, &in));
    for (int i = 0; i < ALL; i++)
        start(i);
    int64_t now = test_now_ms(), end = now + STORM_MS, strike = now + 20, limit = now + test_ms(60000);
    while (((now = test_now_ms()) < end || messages < 200) && now < limit) {
        if (cue_channel_recv(in, &m, CUE_MS(10)) == 0) {
            look_at(&m);
            messages++;
        }
        if (now < strike)
            continue;
        strike = now + 5 + rand_r(&seed) % 30;
        int i = rand_r(&seed) % ALL;
        if (rand_r(&seed) % 4 == 0) {
            kill(casts[i].pid, SIGSTOP);
            stops++;
            i = rand_r(&seed) % ALL; /* somebody else dies meanwhile, or this very one */
        }
        int status = (kill(casts[i].pid, SIGKILL), cast_wait(&casts[i], 10000));
        cr_assert(eq(int, status, CAST_SIGNALLED + SIGKILL), "cast %d ended by itself", i);
        start(i);
        kills++;
        for (int j = 0; j < ALL; j++)
            kill(casts[j].pid, SIGCONT);
    }
    for (int i = 0; i < ALL; i++)
        cast_kill(&casts[i]);
    cr_expect(ge(int, cue_pool_check(pool, true, NULL, NULL), 0)); /* cleans up */
    while (cue_channel_recv(in, &m, CUE_NOW) == 0)
        look_at(&m);
    CUE_MUST(cue_channel_stat(in, &counts));
    cr_expect(eq(u64, counts.gaps, 0));
    cr_expect(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    cue_channel_close(in);
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_expect(eq(u64, info.blocks, 0), "nothing is left");
    printf("topic storm: %llu kills, %llu stops, %llu messages of %d publishers, %llu parties reaped\n", (unsigned long long)kills,
           (unsigned long long)stops, (unsigned long long)messages, nlives, (unsigned long long)info.reaped);
    cr_expect(gt(u64, kills, 0));
    cr_expect(gt(u64, stops, 0));
    cr_expect(gt(u64, messages, 0));
    cr_expect(gt(u64, info.reaped, 0));
    cue_pool_close(pool);
    cr_expect(eq(int, test_leftovers(pool_name), 0));
}
