/* Socket lanes under SIGKILL and SIGSTOP: every block is delivered at most once, and at least once but for what the killed had in
 * hand; each has a number and a checksum. Of the ends some are also held for a while, before they go on or are killed.
 * budget: 120 s */
#include "tests/certificates.h"
#include "tests/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>

enum {
    NUMBERS = 1 << 21,
    KILLS = 25,
    KILLS_TLS = 8,
    KILLS_HUNG = 6,
    DEPTH = 200,
    SPAN = NUMBERS / (2 * KILLS + 4) /* numbers of one sender */
};

static char url[4 * TEST_PATH + 60], sender_url[4 * TEST_PATH + 80], folder[TEST_PATH], name[64];
static int kills, stops;
static bool shuts; /* receivers do now and then */
static bool hung;  /* NNG's reaper hangs in the process that is not killed */
static cue_pool *pool;
static cue_block table;
static uint64_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

static void set_up(void)
{
    cr_assert(test_folder(folder));
    strcpy(name, test_name("storm"));
    snprintf(url, sizeof url, "ipc://%s/lane", folder);
    strcpy(sender_url, url);
    kills = KILLS;
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 16 << 20, .flags = CUE_CREATE }, &pool));
    CUE_MUST(cue_block_alloc(pool, NUMBERS, &(cue_block_opts){ .type = 900, .id = 1, .flags = CUE_KEEP | CUE_ZERO }, &table));
}

static void tear_down(void)
{
    cr_assert(eq(int, cue_block_free(&table), 0));
    cue_pool_close(pool);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert(eq(int, system(command), 0));
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(nng_storm, .init = set_up, .fini = tear_down);

static void over_tcp(void)
{
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", test_port());
    strcpy(sender_url, url);
}

static void over_ws(void)
{
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/lane", test_port());
    strcpy(sender_url, url);
}

static void over_tls(void)
{
    static const char form[] = "tls+tcp://127.0.0.1:%d?ca=%s/ca.pem&cert=%s/%s.pem&key=%s/%s.key%s";
    int port = test_port();
    need_tls(folder);
    snprintf(url, sizeof url, form, port, folder, folder, "server", folder, "server", "");
    snprintf(sender_url, sizeof sender_url, form, port, folder, folder, "client", folder, "client", "&server=localhost");
    kills = KILLS_TLS;
}

/* Holds it for a moment, once in a while for longer than anybody waits for a sign of life. It may have ended by itself. */
static void hold(const struct cast *c)
{
    cr_assert(eq(int, kill(c->pid, SIGSTOP), 0));
    poll(NULL, 0, stops % 8 == 7 ? 700 : (int)draw(40));
    cr_assert(eq(int, kill(c->pid, SIGCONT), 0));
    stops++;
}

static struct cast start_sender(uint64_t sender, uint64_t first, unsigned most)
{
    char id[24], from[24], depth[24], count[24];
    snprintf(id, sizeof id, "%lu", sender);
    snprintf(from, sizeof from, "%lu", first);
    snprintf(depth, sizeof depth, "%d", DEPTH);
    snprintf(count, sizeof count, "%u", most);
    return hung ? cast_start("nng_hung", "nng_send", sender_url, name, id, from, count, depth)
                : cast_start("nng_send", sender_url, name, id, from, count, depth);
}

static unsigned char at(uint64_t number)
{
    return ((unsigned char *)table.data)[number];
}

/* Of the numbers from `first` on: the highest that came; how many below it did not; and fails if one came twice. */
static uint64_t missing(uint64_t first, uint64_t end, uint64_t *highest)
{
    uint64_t gone = 0;
    *highest = first;
    for (uint64_t i = first; i < end; i++) {
        cr_assert(le(int, at(i), 1), "block %lu was delivered %d times", i, at(i));
        if (at(i))
            *highest = i;
    }
    for (uint64_t i = first; i < *highest; i++)
        gone += !at(i);
    return gone;
}

/* How many of the numbers from `first` on came. */
static uint64_t came(uint64_t first, uint64_t end)
{
    uint64_t count = 0;
    for (uint64_t i = first; i < end; i++)
        count += at(i);
    return count;
}

/* Waits until that many came, however slow the machine is. */
static void until_came(uint64_t first, uint64_t end, uint64_t count)
{
    for (int64_t limit = test_now_ms() + test_ms(60000); came(first, end) < count && test_now_ms() < limit;)
        poll(NULL, 0, 1);
    cr_assert(ge(u64, came(first, end), count));
}

static void nothing_is_left(void)
{
    cue_pool_info info;
    cr_assert(eq(int, cue_pool_check(pool, true, NULL, NULL), 0));
    cr_assert(eq(int, cue_pool_stat(pool, &info), 0));
    cr_assert(eq(u64, info.blocks, 1), "%lu blocks", info.blocks);
    cr_assert(eq(u64, info.in_flight, 0));
}

static struct cast start_receiver(void)
{
    return shuts ? cast_start("nng_recv", url, name, "300") : cast_start("nng_recv", url, name);
}

static void kill_receivers(void)
{
    struct cast sender = start_sender(1, 1, NUMBERS - 1), receiver = start_receiver();
    cr_assert(eq(int, cast_hear(&sender, 20000), 'r'));
    for (int kill = 0; kill < kills; kill++) {
        cr_assert(eq(int, cast_hear(&receiver, 20000), 'r'));
        poll(NULL, 0, (int)draw(40)); /* a random moment, not a wait for something */
        if (draw(2))
            hold(draw(2) ? &receiver : &sender);
        cr_assert(eq(int, cast_kill(&receiver), CAST_SIGNALLED + SIGKILL));
        receiver = start_receiver();
    }
    until_came(1, NUMBERS, 1000);
    cast_say(&sender, 'q');
    cr_assert(eq(int, cast_hear(&sender, 30000), 'd'));
    cr_assert(eq(int, cast_wait(&sender, 30000), 0));
    cast_say(&receiver, 'q');
    cr_assert(eq(int, cast_hear(&receiver, 20000), 'r'));
    cr_assert(eq(int, cast_wait(&receiver, 20000), 0));
    uint64_t highest, gone = missing(1, NUMBERS, &highest);
    printf("receivers: %d kills, %d stops, %lu messages, %lu were in the hand of a killed one\n", kills, stops, highest, gone);
    cr_assert(le(u64, gone, kills));
    cr_assert(stops > 0);
    nothing_is_left();
}

Test(nng_storm, killed_receivers_lose_only_what_they_had_in_hand)
{
    seed = 1001;
    kill_receivers();
}

Test(nng_storm, killed_receivers_over_tcp)
{
    seed = 1002;
    over_tcp();
    kill_receivers();
}

Test(nng_storm, killed_receivers_over_tls)
{
    seed = 1003;
    over_tls();
    kills = KILLS;
    kill_receivers();
}

Test(nng_storm, killed_receivers_over_ws)
{
    seed = 1004;
    over_ws();
    kill_receivers();
}

Test(nng_storm, killed_receivers_that_shut_and_drain)
{
    seed = 1006;
    shuts = true;
    kill_receivers();
}

Test(nng_storm, killed_receivers_that_shut_and_drain_over_tcp)
{
    seed = 1007;
    shuts = true;
    over_tcp();
    kill_receivers();
}

/* All that is sent comes, although NNG tells of no connection's end: a sender finds its next receiver each time. */
static void find_the_next(void (*over)(void))
{
    seed = 1005;
    hung = true;
    if (over)
        over();
    kills = KILLS_HUNG;
    uint64_t before = 0;
    struct cast sender = start_sender(1, 1, NUMBERS - 1), receiver = cast_start("nng_recv", url, name);
    cr_assert(eq(int, cast_hear(&sender, 20000), 'r'));
    for (int kill = 0; kill < kills; kill++) {
        cr_assert(eq(int, cast_hear(&receiver, 20000), 'r'));
        until_came(1, NUMBERS, before + 1 + draw(2000));
        cr_assert(eq(int, cast_kill(&receiver), CAST_SIGNALLED + SIGKILL));
        before = came(1, NUMBERS);
        receiver = cast_start("nng_recv", url, name);
    }
    until_came(1, NUMBERS, before + 1000);
    cast_say(&sender, 'q');
    cr_assert(eq(int, cast_hear(&sender, 30000), 'd'));
    cr_assert(eq(int, cast_wait(&sender, 30000), 0));
    cast_say(&receiver, 'q');
    cr_assert(eq(int, cast_hear(&receiver, 20000), 'r'));
    cr_assert(eq(int, cast_wait(&receiver, 20000), 0));
    uint64_t highest, gone = missing(1, NUMBERS, &highest);
    printf("hung: %d kills, %lu messages, %lu were in the hand of a killed one\n", kills, highest, gone);
    cr_assert(le(u64, gone, kills));
    nothing_is_left();
}

Test(nng_storm, a_sender_whose_nng_hangs_finds_the_next_receiver_over_ipc)
{
    find_the_next(NULL);
}

Test(nng_storm, a_sender_whose_nng_hangs_finds_the_next_receiver_over_tcp)
{
    find_the_next(over_tcp);
}

Test(nng_storm, a_sender_whose_nng_hangs_finds_the_next_receiver_over_tls)
{
    find_the_next(over_tls);
}

Test(nng_storm, a_sender_whose_nng_hangs_finds_the_next_receiver_over_ws)
{
    find_the_next(over_ws);
}

static void kill_senders(void)
{
    uint64_t sum = 0, first = 1;
    struct cast receiver = hung ? cast_start("nng_hung", "nng_recv", url, name) : cast_start("nng_recv", url, name);
    hung = false;
    cr_assert(eq(int, cast_hear(&receiver, 20000), 'r'));
    for (int kill = 0; kill < kills; kill++, first += SPAN) {
        struct cast sender = start_sender((uint64_t)kill + 1, first, SPAN);
        uint64_t highest;
        cr_assert(eq(int, cast_hear(&sender, 20000), 'r'));
        if (draw(4))
            until_came(first, first + SPAN, 100);
        poll(NULL, 0, 5 + (int)draw(40));
        if (draw(2))
            hold(draw(2) ? &receiver : &sender);
        int end = cast_kill(&sender);
        cr_assert(end == CAST_SIGNALLED + SIGKILL || end == 0, "%d", end); /* it may have been through already */
        cr_assert(le(u64, missing(first, first + SPAN, &highest), DEPTH)); /* at most its window went with it */
        sum += highest - first;
    }
    cast_say(&receiver, 'q');
    cr_assert(eq(int, cast_wait(&receiver, 20000), 0));
    printf("senders: %d kills, %d stops, %lu messages\n", kills, stops, sum);
    cr_assert(sum > 40 * (uint64_t)kills);
    cr_assert(stops > 0);
    nothing_is_left();
}

Test(nng_storm, killed_senders_leave_no_block_and_no_double)
{
    seed = 2002;
    kill_senders();
}

Test(nng_storm, killed_senders_over_tcp)
{
    seed = 2003;
    over_tcp();
    kill_senders();
}

Test(nng_storm, killed_senders_over_tls)
{
    seed = 2004;
    over_tls();
    kill_senders();
}

Test(nng_storm, a_receiver_whose_nng_hangs_serves_who_comes_over_tls)
{
    seed = 2005;
    hung = true;
    over_tls();
    kill_senders();
}

Test(nng_storm, both_sides_killed_at_random)
{
    seed = 3003;
    enum { LANES = 2 };
    uint64_t first = 1, id = 1;
    struct cast receiver = cast_start("nng_recv", url, name), senders[LANES];
    for (int i = 0; i < LANES; i++)
        senders[i] = start_sender(id++, first, SPAN), first += SPAN;
    cr_assert(eq(int, cast_hear(&receiver, 20000), 'r'));
    for (int kill = 0; kill < 2 * kills; kill++) {
        poll(NULL, 0, (int)draw(40));
        unsigned who = draw(LANES + 1);
        if (draw(3) == 0)
            hold(draw(2) ? &receiver : &senders[draw(LANES)]);
        if (who == LANES) {
            cr_assert(eq(int, cast_kill(&receiver), CAST_SIGNALLED + SIGKILL));
            receiver = cast_start("nng_recv", url, name);
            cr_assert(eq(int, cast_hear(&receiver, 20000), 'r'));
        } else {
            int end = cast_kill(&senders[who]);
            cr_assert(end == CAST_SIGNALLED + SIGKILL || end == 0, "%d", end); /* it may have been through already */
            senders[who] = start_sender(id++, first, SPAN);
            first += SPAN;
        }
    }
    until_came(1, first, 1000);
    for (int i = 0; i < LANES; i++) {
        cast_say(&senders[i], 'q');
        cr_assert(eq(int, cast_wait(&senders[i], 30000), 0));
    }
    cast_say(&receiver, 'q');
    cr_assert(eq(int, cast_wait(&receiver, 20000), 0));
    printf("both: %d kills, %d stops, %lu messages\n", 2 * kills, stops, came(1, first));
    cr_assert(stops > 0);
    nothing_is_left();
}

Test(nng_storm, senders_that_exit_without_closing_leave_nothing)
{
    cue_channel *r;
    cue_msg m;
    int received = 0;
    CUE_MUST(cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool }, &r));
    for (int i = 0; i < 30; i++) {
        struct cast quitter = cast_start("nng_quit", url, name);
        while (cue_channel_recv(r, &m, CUE_MS(20)) == 0) {
            received++;
            cue_msg_release(&m);
        }
        cr_assert(eq(int, cast_wait(&quitter, 20000), 0));
    }
    while (cue_channel_recv(r, &m, CUE_MS(20)) == 0)
        cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_close(r), 0));
    nothing_is_left();
}
