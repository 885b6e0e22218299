/* Roles for socket lanes. Both sides of a storm mark each numbered block in a table that the test made in the pool, type 900,
 * id 1: one byte a number, counted up when it is received. */
#include "tests/cast/nng_storm.h"
#include "tests/cast/roles.h"
#include "tests/harness.h"
#include "tests/nng_reaper.h"

#include <cuelight.h>
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { NOBODY = 65534 };

static bool told(void)
{
    struct pollfd p = { .fd = CAST_FD, .events = POLLIN };
    return poll(&p, 1, 0) > 0 && role_hear() != 0; /* read it: what is unread when we end takes our last words with it */
}

static int open_lane(char **argv, unsigned how, const char *depth, cue_pool **pool, cue_channel **ch)
{
    cue_channel_opts opts = { .linger = CUE_SEC(20), .depth = depth ? (uint32_t)atoi(depth) : 0 };
    int status = cue_pool_open(argv[2], &(cue_pool_opts){ .flags = CUE_ATTACH }, pool);
    opts.pool = *pool;
    for (int i = 0; !status && i < 2000; i++) { /* the one before us may just be dying */
        status = cue_channel_open(argv[1], how, &opts, ch);
        if (status != CUE_EBUSY)
            break;
        status = 0;
        poll(NULL, 0, 10);
    }
    if (status || !*ch)
        fprintf(stderr, "%s: %s\n", argv[0], cue_trail());
    return status || !*ch;
}

/* URL POOL [EVERY]: receives blocks of struct numbered until told and nothing more comes; after EVERY so many it shuts its lane, drains
 * it, closes and opens it again. */
int role_nng_recv(int argc, char **argv)
{
    cue_pool *pool = NULL;
    cue_channel *ch = NULL;
    cue_block table;
    cue_msg m;
    uint64_t last[256] = { 0 }, taken = 0, every = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    if (argc < 3 || open_lane(argv, CUE_RECV, NULL, &pool, &ch))
        return 1;
    if (cue_block_find(pool, (cue_key){ .type = 900, .id = 1 }, CUE_SEC(30), &table))
        return 2;
    role_say('r');
    for (bool stop = false;;) {
        int status = cue_channel_recv(ch, &m, CUE_MS(50));
        if (status == CUE_EEMPTY && (stop = stop || told()))
            break;
        if (status == CUE_EEMPTY)
            continue;
        if (status == CUE_ECLOSED && every) {
            if (cue_channel_shut(ch, CUE_DRAIN, CUE_NOW) || cue_channel_close(ch))
                return 8;
            cue_pool_close(pool);
            if (open_lane(argv, CUE_RECV, NULL, &pool, &ch))
                return 9;
            continue;
        }
        if (status) {
            fprintf(stderr, "nng_recv: %s\n", cue_trail());
            return 3;
        }
        struct numbered n;
        if (m.status || m.block.size != sizeof n || m.tag >= sizeof last / sizeof *last)
            return 4;
        memcpy(&n, m.block.data, sizeof n);
        if (n.sender != m.tag || n.number >= table.size || !numbered_good(&n))
            return 5;
        if (n.number <= last[m.tag])
            return 6; /* out of order, or twice */
        last[m.tag] = n.number;
        atomic_fetch_add_explicit((_Atomic unsigned char *)table.data + n.number, 1, memory_order_relaxed);
        cue_msg_release(&m);
        if (every && ++taken % every == 0 && (status = cue_channel_shut(ch, CUE_DRAIN, CUE_NOW)) && status != CUE_ETIMEDOUT)
            return 10;
    }
    cue_block_release(&table);
    if (cue_channel_close(ch))
        return 7;
    cue_pool_close(pool);
    return 0;
}

/* URL POOL SENDER FIRST COUNT [DEPTH]: sends blocks numbered from FIRST on, COUNT or until told; says d before it closes. */
int role_nng_send(int argc, char **argv)
{
    cue_pool *pool = NULL;
    cue_channel *ch = NULL;
    if (argc < 6 || open_lane(argv, CUE_SEND, argc > 6 ? argv[6] : NULL, &pool, &ch))
        return 1;
    uint64_t sender = strtoull(argv[3], NULL, 10), first = strtoull(argv[4], NULL, 10), count = strtoull(argv[5], NULL, 10);
    role_say('r');
    for (uint64_t i = 0; i < count && !(i % 64 == 0 && told()); i++) {
        cue_block b;
        const struct numbered n = numbered_make(sender, first + i);
        if (cue_block_alloc(pool, sizeof n, &(cue_block_opts){ .wait = CUE_SEC(20) }, &b))
            return 2;
        memcpy(b.data, &n, sizeof n);
        int status = cue_channel_send(ch, &(cue_msg){ .tag = sender, .move = &b }, CUE_SEC(20));
        if (status) {
            fprintf(stderr, "nng_send: %s %s\n", cue_status_name(status), cue_trail());
            return 3;
        }
    }
    role_say('d');
    int status = cue_channel_close(ch);
    if (status)
        fprintf(stderr, "nng_send: close: %s\n", cue_trail());
    cue_pool_close(pool);
    return status ? 4 : 0;
}

/* The bytes that block `number` of a far sender has. */
static void fill_far(unsigned char *data, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)(number * 31 + i + (i >> 8));
}

/* URL POOL COUNT SIZE: plays another host: makes a pool of its own, sends COUNT blocks of SIZE bytes, says d, closes, and exits
 * with 0 if all were taken over, none was freed unsent, and all that was copied is counted. */
int role_nng_far(int argc, char **argv)
{
    cue_pool *pool;
    cue_channel *ch;
    cue_channel_info info;
    cue_pool_info left;
    setenv("CUE_HOST_ID", "another-host", 1);
    if (argc < 5 || cue_pool_open(argv[2], &(cue_pool_opts){ .size = 64 << 20, .flags = CUE_CREATE }, &pool))
        return 1;
    uint64_t count = strtoull(argv[3], NULL, 10);
    size_t size = strtoull(argv[4], NULL, 10);
    if (cue_channel_open(argv[1], CUE_SEND, &(cue_channel_opts){ .pool = pool, .linger = CUE_SEC(30) }, &ch)) {
        fprintf(stderr, "nng_far: %s\n", cue_trail());
        return 2;
    }
    role_say('r');
    for (uint64_t i = 0; i < count; i++) {
        cue_block b;
        if (cue_block_alloc(pool, size, &(cue_block_opts){ .type = 9, .wait = CUE_SEC(30) }, &b))
            return 3;
        fill_far(b.data, size, i);
        if (cue_channel_send(ch, &(cue_msg){ .tag = i, .move = &b }, CUE_SEC(30))) {
            fprintf(stderr, "nng_far: %s\n", cue_trail());
            return 4;
        }
    }
    role_say('d');
    for (int i = 0; i < 30000 && cue_channel_stat(ch, &info) == 0 && info.queued; i++)
        poll(NULL, 0, 1);
    if (cue_channel_close(ch))
        return 5;
    if (info.sent != count || info.dropped || info.returned || (info.resent == 0 && info.copied != count * size))
        return 6;
    if (cue_pool_stat(pool, &left) || left.blocks)
        return 7;
    cue_pool_close(pool);
    return 0;
}

/* URL POOL USERS COUNT: becomes the user NOBODY, makes a pool of its own, receives COUNT blocks of which block i is full of the byte i;
 * with 0 it waits until somebody was refused. */
int role_nng_user(int argc, char **argv)
{
    cue_pool *pool;
    cue_channel *ch;
    cue_msg m;
    cue_channel_info info = { 0 };
    if (argc < 5 || setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
        return 1;
    prctl(PR_SET_DUMPABLE, 1);        /* the sanitizer's search for leaks looks at us */
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* forgotten with the user */
    if (cue_pool_open(argv[2], &(cue_pool_opts){ .size = 16 << 20, .flags = CUE_CREATE }, &pool))
        return 2;
    if (cue_channel_open(argv[1], CUE_RECV, &(cue_channel_opts){ .pool = pool, .users = argv[3] }, &ch)) {
        fprintf(stderr, "nng_user: %s\n", cue_trail());
        return 3;
    }
    role_say('r');
    int count = atoi(argv[4]);
    for (int i = 0; i < count; i++) {
        if (cue_channel_recv(ch, &m, CUE_SEC(60)))
            return 4;
        const unsigned char *bytes = m.data;
        if (m.tag != (uint64_t)i || m.size == 0 || bytes[0] != i || bytes[m.size - 1] != i)
            return 5;
        cue_msg_release(&m);
    }
    while (count == 0 && cue_channel_stat(ch, &info) == 0 && info.refused == 0)
        if (cue_channel_recv(ch, &m, CUE_MS(10)) != CUE_EEMPTY)
            return 6;
    if (cue_channel_close(ch))
        return 7;
    cue_pool_close(pool);
    return 0;
}

/* URL POOL: listens, says r, waits to be killed. */
int role_nng_listen(int argc, char **argv)
{
    cue_pool *pool = NULL;
    cue_channel *ch = NULL;
    if (argc < 3 || open_lane(argv, CUE_RECV, NULL, &pool, &ch))
        return 1;
    role_say('r');
    role_hear();
    return 0;
}

/* URL POOL: sends 300 blocks and ends without closing anything. */
int role_nng_quit(int argc, char **argv)
{
    cue_pool *pool = NULL;
    cue_channel *ch = NULL, *also;
    if (argc < 3 || open_lane(argv, CUE_SEND, NULL, &pool, &ch))
        return 1;
    if (cue_channel_open("inproc://quit", CUE_RECV, &(cue_channel_opts){ .pool = pool }, &also))
        return 2;
    for (int i = 0; i < 300; i++) {
        cue_block b;
        if (cue_block_alloc(pool, 16, NULL, &b) || cue_channel_send(ch, &(cue_msg){ .move = &b }, CUE_NOW))
            return 3;
    }
    return 0;
}

/* ROLE ARG...: plays the role in a process in which NNG takes no connection down any more. */
int role_nng_hung(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*play)(int argc, char **argv);
    } plays[] = {
        { "nng_recv", role_nng_recv }, { "nng_send", role_nng_send }, { "nng_far", role_nng_far }, { "nng_quit", role_nng_quit }
    };
    if (argc < 2 || !reaper_stop())
        return 100;
    for (size_t i = 0; i < sizeof plays / sizeof *plays; i++)
        if (strcmp(plays[i].name, argv[1]) == 0)
            return plays[i].play(argc - 1, argv + 1);
    return 101;
}

/* ---- in a process whose NNG hangs; steps that fail are said ---- */

#define NEED(step, ok)                                                                                                                     \
    do {                                                                                                                                   \
        if (!(ok)) {                                                                                                                       \
            fprintf(stderr, "%s: step %d, line %d: %s\n", argv[0], (step), __LINE__, cue_trail());                                         \
            return (step);                                                                                                                 \
        }                                                                                                                                  \
    } while (0)

static bool pass_one(cue_channel *to, cue_channel *from, uint64_t tag)
{
    cue_msg m;
    if (cue_channel_send(to, &(cue_msg){ .tag = tag, .data = "x", .size = 1 }, CUE_SEC(30)) || cue_channel_recv(from, &m, CUE_SEC(30)))
        return false;
    bool same = m.tag == tag;
    cue_msg_release(&m);
    return same;
}

static uint64_t stuck_now(cue_channel *ch)
{
    cue_channel_info info = { 0 };
    return cue_channel_stat(ch, &info) ? UINT64_MAX : info.stuck;
}

static bool open_pair(cue_pool *pool, char **urls, cue_channel **r, cue_channel **s)
{
    return !cue_channel_open(urls[0], CUE_RECV, &(cue_channel_opts){ .pool = pool }, r) &&
           !cue_channel_open(urls[1], CUE_SEND, &(cue_channel_opts){ .pool = pool, .linger = CUE_SEC(20) }, s);
}

/* POOL URL SENDER_URL...: opens lanes, stops NNG's reaper, closes them all, and once more with lanes that were opened while it hangs; all
 * closes return, and say what is left behind. */
int role_nng_closes(int argc, char **argv)
{
    enum { LANES_MAX = 5 };
    cue_pool *pool = NULL;
    cue_channel *r[LANES_MAX], *s[LANES_MAX], *witness;
    int lanes = (argc - 2) / 2;
    NEED(1, lanes >= 1 && lanes <= LANES_MAX && !cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool));
    NEED(2, !cue_channel_open("inproc://witness", CUE_RECV, &(cue_channel_opts){ .pool = pool }, &witness));
    for (int round = 1; round <= 2; round++) {
        for (int i = 0; i < lanes; i++)
            NEED(10 * round, open_pair(pool, argv + 2 + 2 * i, &r[i], &s[i]) && pass_one(s[i], r[i], (uint64_t)i));
        NEED(10 * round + 1, round == 2 || reaper_stop());
        for (int i = 0; i < lanes; i++)
            NEED(10 * round + 2, !cue_channel_close(i % 2 ? r[i] : s[i]) && !cue_channel_close(i % 2 ? s[i] : r[i]));
        NEED(10 * round + 3, stuck_now(witness) >= 2 * (uint64_t)lanes * (uint64_t)round);
    }
    NEED(30, !cue_channel_close(witness));
    cue_pool_close(pool);
    return 0;
}

/* POOL URL SENDER_URL: its receiver goes while NNG's reaper hangs; the sender waits for the next, and opens nothing that stays open. */
int role_nng_away(int argc, char **argv)
{
    cue_pool *pool = NULL;
    cue_channel *r, *s;
    NEED(1, argc >= 4 && !cue_pool_open(argv[1], &(cue_pool_opts){ .flags = CUE_ATTACH }, &pool));
    NEED(2, open_pair(pool, argv + 2, &r, &s) && pass_one(s, r, 1) && reaper_stop());
    NEED(3, !cue_channel_close(r));
    NEED(4, !cue_channel_send(s, &(cue_msg){ .tag = 2 }, CUE_NOW));
    poll(NULL, 0, 1200); /* what it notices costs some */
    int before = test_descriptors();
    poll(NULL, 0, 300);
    NEED(5, test_descriptors() <= before + 3);
    NEED(6, !cue_channel_open(argv[2], CUE_RECV, &(cue_channel_opts){ .pool = pool }, &r));
    cue_msg m;
    NEED(7, !cue_channel_recv(r, &m, CUE_SEC(30)) && m.tag == 2);
    NEED(8, pass_one(s, r, 3) && !cue_channel_close(s) && !cue_channel_close(r));
    cue_pool_close(pool);
    return 0;
}
