/* A send that waits for room in the pool, on each kind of lane: its place in the line, and what ends its wait. */
#include "tests/one_lane.h"

#include <signal.h>

enum { MIB = 1 << 20, MOST = 64, GRANULES = 1024, GRANULE = 4096 };

static char bytes[MIB];
static cue_block most[MOST], rest[GRANULES];
static unsigned nmost, nrest;

enum { KINDS = 4, SHUT_KINDS = 3 }; /* a topic knows no receiver that shuts it */
static const char *const lanes[KINDS] = { "a", "a?kind=queue", "a?kind=stream", "a?kind=topic" };

/* A test of each kind of lane, in a pool of its own. */
#define EACH(name, kinds)                                                                                                                  \
    static void name(const char *kind);                                                                                                    \
    Test(send_room, name)                                                                                                                  \
    {                                                                                                                                      \
        for (int i = 0; i < (kinds); i++)                                                                                                  \
            name(lanes[i]);                                                                                                                \
    }                                                                                                                                      \
    static void name(const char *kind)

/* Nothing is left. */
static void fill_up(void)
{
    nmost = nrest = 0;
    while (nmost < MOST && cue_block_alloc(pool, MIB, NULL, &most[nmost]) == 0)
        nmost++;
    while (nrest < GRANULES && cue_block_alloc(pool, GRANULE, NULL, &rest[nrest]) == 0)
        nrest++;
    cr_assert(lt(u32, nmost, MOST));
    cr_assert(lt(u32, nrest, GRANULES));
}

static void begin_full(const char *kind)
{
    open_pool("room");
    open_both(kind);
    fill_up();
}

static void end_full(void)
{
    while (nmost > 0)
        cue_block_release(&most[--nmost]);
    while (nrest > 0)
        cue_block_release(&rest[--nrest]);
    teardown();
}

struct sender {
    pthread_t thread;
    size_t size;
    int result;
};

static void *send_in_thread(void *arg)
{
    struct sender *s = arg;
    s->result = cue_channel_send(out, &(cue_msg){ .data = bytes, .size = s->size }, CUE_SEC(120));
    return NULL;
}

static void until_waiting(uint64_t parties)
{
    cue_pool_info info = { 0 };
    for (int64_t end = test_now_ms() + test_ms(30000); info.waiters != parties && test_now_ms() < end; poll(NULL, 0, 1))
        CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.waiters, parties));
}

static void sender_begin(struct sender *s, size_t size)
{
    *s = (struct sender){ .size = size, .result = 1 };
    cr_assert(eq(int, pthread_create(&s->thread, NULL, send_in_thread, s), 0));
    until_waiting(1);
}

static int sender_end(struct sender *s)
{
    pthread_join(s->thread, NULL);
    return s->result;
}

static void must_receive(size_t size)
{
    cue_msg m;
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_MS(test_ms(30000))), 0));
    cr_assert(eq(sz, m.size, size));
    cue_msg_release(&m);
}

/* A place that was taken anew at every nap would be behind the one who came later. */
EACH(it_keeps_its_place, KINDS)
{
    struct sender s;
    begin_full(kind);
    sender_begin(&s, MIB);
    struct cast later = cast_start("pool_waiter", pool_name, "1048576");
    cr_assert(eq(int, cast_hear(&later, 30000), 'r'));
    until_waiting(2);
    poll(NULL, 0, 500); /* five watch periods */
    cue_block_release(&most[--nmost]);
    must_receive(MIB);
    cr_assert(eq(int, cast_hear(&later, 30000), 'g'), "then the next one is served, with what was received");
    cr_assert(eq(int, sender_end(&s), 0));
    cast_kill(&later);
    end_full();
}

/* Somebody waits for a block that is to be sent, and the sender for the little that the message takes. */
EACH(what_others_wait_for_may_be_in_its_hand, KINDS)
{
    struct sender s;
    begin_full(kind);
    struct cast first = cast_start("pool_waiter", pool_name, "1048576");
    cr_assert(eq(int, cast_hear(&first, 30000), 'r'));
    until_waiting(1);
    s = (struct sender){ .size = 500, .result = 1 };
    cr_assert(eq(int, pthread_create(&s.thread, NULL, send_in_thread, &s), 0));
    until_waiting(2);
    while (nrest > 0) /* no MiB in a row, or there would have been one */
        cue_block_release(&rest[--nrest]);
    must_receive(500);
    cr_assert(eq(int, sender_end(&s), 0));
    cue_block_release(&most[--nmost]); /* as the receiver would have */
    cr_assert(eq(int, cast_hear(&first, 30000), 'g'));
    cast_kill(&first);
    end_full();
}

EACH(a_wake_ends_it, KINDS)
{
    struct sender s;
    begin_full(kind);
    sender_begin(&s, MIB);
    cue_channel_wake(out);
    cr_assert(eq(int, sender_end(&s), CUE_EINTR));
    until_waiting(0);
    end_full();
}

static void nothing(int sig)
{
    (void)sig;
}

EACH(a_signal_ends_it, KINDS)
{
    struct sender s;
    struct sigaction action = { .sa_handler = nothing };
    begin_full(kind);
    sigaction(SIGUSR1, &action, NULL);
    sender_begin(&s, MIB);
    while (pthread_tryjoin_np(s.thread, NULL) != 0) { /* one may come while it looks */
        pthread_kill(s.thread, SIGUSR1);
        poll(NULL, 0, 5);
    }
    cr_assert(eq(int, s.result, CUE_EINTR));
    end_full();
}

EACH(a_close_ends_it, KINDS)
{
    struct sender s;
    begin_full(kind);
    sender_begin(&s, MIB);
    cue_channel_close(out);
    cr_assert(eq(int, sender_end(&s), CUE_ECLOSED));
    out = NULL;
    end_full();
}

EACH(the_receivers_shut_ends_it, SHUT_KINDS)
{
    struct sender s;
    begin_full(kind);
    sender_begin(&s, MIB);
    cr_assert(eq(int, cue_channel_shut(in, CUE_DISCARD, CUE_NOW), 0));
    cr_assert(eq(int, sender_end(&s), CUE_ECLOSED));
    end_full();
}

EACH(the_end_of_the_pool_ends_it, KINDS)
{
    struct sender s;
    begin_full(kind);
    sender_begin(&s, MIB);
    cr_assert(eq(int, cue_pool_destroy(pool), 0));
    cr_assert(eq(int, sender_end(&s), CUE_EGONE));
    cue_channel_close(out);
    cue_channel_close(in);
    cr_assert(eq(int, test_leftovers(pool_name), 0));
}
