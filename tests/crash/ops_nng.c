/* What is cut in socket lanes: sending a moved block, a batch, to a far receiver; dropping the oldest for a new one; receiving with its
 * acknowledgements; taking back at close. Only the thread that calls is stepped; NNG's threads and the sender's own run meanwhile, as they do in life.
 *
 * The other end is a process of its own, the PEER (`crash peer …`), which nobody traces and which outlives the victim: it says
 * what it received, must get the rest from whoever comes next, and must come to its end in order. It speaks with the driver in
 * bytes over a socket pair, and does nothing while the victim is cut, so that what changes in the pool is the victim's doing.
 * A far one has another host id and a pool of its own, where nothing may be left either.
 *
 * A killed sender's messages may be lost, so that a cut at its end says nothing about its effect; one that was held and went on
 * must have delivered all (`at_end`). */
#include "crash.h"

#include <cuelight/channel.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEDIUM = 4 << 20, NOTE = 5, SMALL = 5000, LARGE = 40000, GREETING = 1, NUMBERS = 8, PEER_FD = 3, QUIET_MS = 3 };

static size_t size_of(uint64_t number)
{
    return number == NUMBERS - 1 ? LARGE : SMALL; /* the last goes in a chunk, if it goes to a far one */
}

static cue_channel *lane_open(cue_pool *pool, const char *lane, unsigned how)
{
    char url[128];
    cue_channel *ch;
    snprintf(url, sizeof url, "ipc://@%s", lane);
    CUE_MUST(cue_channel_open(url, how, &(cue_channel_opts){ .pool = pool, .linger = how == CUE_SEND ? CUE_SEC(40) : CUE_NS(0) }, &ch));
    return ch;
}

static void make_block(cue_pool *pool, uint64_t number, cue_block *b)
{
    CUE_MUST(cue_block_alloc(pool, size_of(number), &(cue_block_opts){ .type = NOTE }, b));
    fill(b, (unsigned)number);
}

/* Blocks `first` to `last` as one batch. */
static void send_blocks(cue_channel *ch, cue_block *b, uint64_t first, uint64_t last)
{
    cue_msg m[NUMBERS];
    uint64_t n = last - first + 1;
    for (uint64_t i = 0; i < n; i++)
        m[i] = (cue_msg){ .tag = first + i, .move = &b[i] };
    if (cue_channel_send_many(ch, m, n, CUE_NOW) != (int)n)
        abort();
}

static uint64_t waiting(cue_channel *ch)
{
    cue_channel_info info;
    CUE_MUST(cue_channel_stat(ch, &info));
    return info.queued;
}

/* ---- the peer ---- */

static void say(const void *bytes, size_t size)
{
    if (send(PEER_FD, bytes, size, MSG_NOSIGNAL) != (ssize_t)size)
        _exit(10);
}

static void await_order(void)
{
    char byte;
    if (recv(PEER_FD, &byte, 1, 0) != 1)
        _exit(11);
}

/* One message, whole: its number is counted. False: there is none. */
static bool peer_take(cue_channel *ch, unsigned char *counts, cue_time wait)
{
    cue_msg m;
    int status = cue_channel_recv(ch, &m, wait);
    if (status == CUE_EEMPTY)
        return false;
    if (status || m.status || m.tag >= NUMBERS || m.block.size != size_of(m.tag) || !filled(&m.block, (unsigned)m.tag))
        _exit(12);
    counts[m.tag]++;
    cue_msg_release(&m);
    return true;
}

static bool told(void)
{
    struct pollfd order = { .fd = PEER_FD, .events = POLLIN };
    if (poll(&order, 1, 0) <= 0)
        return false;
    await_order(); /* what is unread at our end takes our last words with it */
    return true;
}

/* All that still comes: until nobody is connected and nothing is left, or `wanted` was received. */
static void peer_take_all(cue_channel *ch, unsigned char *counts, uint64_t wanted)
{
    cue_channel_info info;
    do {
        CUE_MUST(cue_channel_stat(ch, &info));
        while (peer_take(ch, counts, CUE_MS(QUIET_MS)))
            ;
    } while (info.users > 1 && !(wanted && counts[wanted]));
}

static void peer_receive(cue_pool *pool, const char *lane)
{
    unsigned char counts[NUMBERS] = { 0 };
    cue_channel *ch = lane_open(pool, lane, CUE_RECV);
    say("r", 1);
    while (!counts[GREETING])
        peer_take(ch, counts, CUE_SEC(40));
    await_order();
    peer_take_all(ch, counts, NUMBERS - 1);
    say(counts, sizeof counts);
    await_order();
    peer_take_all(ch, counts, 0); /* and whatever comes twice */
    CUE_MUST(cue_channel_close(ch));
    say(counts, sizeof counts);
}

/* Does not wait for a greeting: who sends is there already. */
static void peer_take_over(cue_pool *pool, const char *lane)
{
    unsigned char counts[NUMBERS] = { 0 };
    cue_channel *ch = lane_open(pool, lane, CUE_RECV);
    say("r", 1);
    while (!told()) /* that the sender has closed */
        peer_take(ch, counts, CUE_MS(QUIET_MS));
    peer_take_all(ch, counts, 0);
    CUE_MUST(cue_channel_close(ch));
    say(counts, sizeof counts);
}

static void peer_send(cue_pool *pool, const char *lane)
{
    cue_block b[NUMBERS];
    cue_channel *ch = lane_open(pool, lane, CUE_SEND);
    for (uint64_t i = GREETING; i < NUMBERS; i++)
        make_block(pool, i, &b[i]);
    send_blocks(ch, b + GREETING, GREETING, NUMBERS - 1);
    say("r", 1);
    await_order();
    int status = cue_channel_close(ch);
    say(status ? "e" : "k", 1);
}

static void nothing_in(cue_pool *pool)
{
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    if (info.blocks || cue_pool_check(pool, false, NULL, NULL))
        _exit(13);
}

int nng_peer(const char *role, const char *name, const char *own)
{
    static const struct {
        const char *name;
        void (*play)(cue_pool *pool, const char *lane);
    } roles[] = { { "receive", peer_receive }, { "take_over", peer_take_over }, { "send", peer_send } };
    cue_pool *pool;
    bool far = strcmp(name, own) != 0;
    CUE_MUST(cue_pool_open(own, &(cue_pool_opts){ .size = MEDIUM, .flags = far ? CUE_CREATE : CUE_ATTACH }, &pool));
    for (unsigned i = 0; i < sizeof roles / sizeof *roles; i++)
        if (strcmp(roles[i].name, role) == 0)
            roles[i].play(pool, name);
    if (far)
        nothing_in(pool);
    cue_pool_close(pool);
    return 0;
}

/* ---- the driver's side of it ---- */

struct peer {
    pid_t pid;
    int talk;
};

static struct peer *peer_start(struct stage *stage, const char *role, bool far)
{
    char own[80];
    int pair[2];
    struct peer *peer = malloc(sizeof *peer);
    snprintf(own, sizeof own, "%s%s", stage->pool_name, far ? "-far" : "");
    if (!peer || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    fflush(NULL);
    peer->pid = fork();
    if (peer->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (far)
            setenv("CUE_HOST_ID", "another-host", 1);
        if (pair[1] == PEER_FD)
            fcntl(PEER_FD, F_SETFD, 0);
        else
            dup2(pair[1], PEER_FD);
        execl("/proc/self/exe", "crash", "peer", role, stage->pool_name, own, (char *)NULL);
        _exit(127);
    }
    close(pair[1]);
    peer->talk = pair[0];
    return peer;
}

/* What it says, which has `size` bytes. False: something else, or its end. */
static bool peer_hear(const struct peer *peer, void *bytes, size_t size)
{
    ssize_t got;
    do
        got = recv(peer->talk, bytes, size, 0);
    while (got < 0 && errno == EINTR);
    if (got == (ssize_t)size)
        return true;
    memset(bytes, 0, size);
    wrong("the other end says nothing");
    return false;
}

static void peer_tell(const struct peer *peer)
{
    if (send(peer->talk, "g", 1, MSG_NOSIGNAL) != 1)
        wrong("the other end hears nothing");
}

static void peer_end(struct peer *peer)
{
    int status;
    if (waitpid(peer->pid, &status, 0) != peer->pid || status)
        wrong("the other end ended with status %#x", status);
    close(peer->talk);
    free(peer);
}

static void peer_ready(struct stage *stage, const char *role, bool far)
{
    char byte;
    stage->other[0] = peer_start(stage, role, far);
    peer_hear(stage->other[0], &byte, 1);
}

/* ---- sending; the other end receives ---- */

static void receiver_near(struct stage *stage)
{
    peer_ready(stage, "receive", false);
}
static void receiver_far(struct stage *stage)
{
    peer_ready(stage, "receive", true);
}

/* Connected, known to the other end, and nothing under way. */
static void greeted_by(struct victim *me, cue_channel *ch)
{
    me->other[0] = ch;
    make_block(me->pool, GREETING, &me->block[0]);
    send_blocks(me->other[0], me->block, GREETING, GREETING);
    while (waiting(me->other[0]))
        poll(NULL, 0, 1);
}
static void greeted(struct victim *me)
{
    greeted_by(me, lane_open(me->pool, me->pool_name, CUE_SEND));
}
static void greeted_with_one(struct victim *me)
{
    greeted(me);
    make_block(me->pool, NUMBERS - 1, &me->block[0]);
}
static void greeted_with_batch(struct victim *me)
{
    greeted(me);
    for (unsigned i = 0; i < 4; i++)
        make_block(me->pool, NUMBERS - 4 + i, &me->block[i]);
}
static void send_one(struct victim *me)
{
    send_blocks(me->other[0], me->block, NUMBERS - 1, NUMBERS - 1);
}
static void send_batch(struct victim *me)
{
    send_blocks(me->other[0], me->block, NUMBERS - 4, NUMBERS - 1);
}

/* What is sent waits where it may be dropped, and then goes. */
static void greeted_to_drop(struct victim *me)
{
    char lane[100];
    snprintf(lane, sizeof lane, "%s?full=drop-old&depth=1", me->pool_name);
    greeted_by(me, lane_open(me->pool, lane, CUE_SEND));
    make_block(me->pool, NUMBERS - 1, &me->block[0]);
}
/* One under way, one that waits and goes when another comes. */
static void greeted_and_full(struct victim *me)
{
    greeted_to_drop(me);
    cue_block_release(&me->block[0]);
    for (uint64_t i = NUMBERS - 3; i < NUMBERS - 1; i++) {
        make_block(me->pool, i, &me->block[0]);
        send_blocks(me->other[0], me->block, i, i);
    }
    make_block(me->pool, NUMBERS - 1, &me->block[0]);
}

enum { TOLD, HEARD, TAKEN_BACK }; /* stage->number */

/* From now on the other end receives, while others clean up. */
static void go_on(struct stage *stage)
{
    if (!stage->number[TOLD]++)
        peer_tell(stage->other[0]);
}
/* It stands at its end, alive: all must come. */
static void all_comes(struct stage *stage)
{
    unsigned char counts[NUMBERS];
    go_on(stage);
    stage->number[HEARD] = 1;
    if (peer_hear(stage->other[0], counts, sizeof counts) && counts[NUMBERS - 1] != 1)
        wrong("the last message was delivered %u times", counts[NUMBERS - 1]);
}
/* Nothing came twice, and the other end gets along. */
static int came_once(struct stage *stage)
{
    unsigned char counts[NUMBERS];
    go_on(stage);
    if (!stage->number[HEARD])
        peer_hear(stage->other[0], counts, sizeof counts);
    peer_tell(stage->other[0]);
    if (peer_hear(stage->other[0], counts, sizeof counts))
        for (unsigned i = GREETING + 1; i < NUMBERS; i++)
            if (counts[i] > !stage->number[TAKEN_BACK])
                wrong("message %u was delivered %u times", i, counts[i]);
    peer_end(stage->other[0]);
    return -1;
}

/* ---- taking back: the other end does not receive ---- */

static void batch_under_way(struct victim *me)
{
    greeted_with_batch(me);
    cue_channel_close(me->other[0]); /* one that waits for nothing at its end, in its stead */
    char url[128];
    snprintf(url, sizeof url, "ipc://@%s", me->pool_name);
    cue_channel *ch;
    CUE_MUST(cue_channel_open(url, CUE_SEND, &(cue_channel_opts){ .pool = me->pool, .linger = CUE_NS(-1) }, &ch));
    me->other[0] = ch;
    send_batch(me);
}
static void close_now(struct victim *me)
{
    if (cue_channel_close(me->other[0]) != CUE_ETIMEDOUT)
        abort();
}
static int freed_or_came(struct stage *stage)
{
    cue_pool_info info;
    MUST(cue_pool_stat(stage->pool, &info));
    if (info.in_flight)
        wrong("%llu blocks are still in flight", (unsigned long long)info.in_flight);
    stage->number[TAKEN_BACK] = !stage->killed;
    return came_once(stage);
}

/* ---- receiving; the other end sends ---- */

static void sender_near(struct stage *stage)
{
    peer_ready(stage, "send", false);
}
static void first_received(struct victim *me)
{
    cue_msg m;
    me->other[0] = lane_open(me->pool, me->pool_name, CUE_RECV);
    CUE_MUST(cue_channel_recv(me->other[0], &m, CUE_SEC(40)));
    cue_msg_release(&m);
}
/* The rest of the packet, with its acknowledgement. */
static void receive_rest(struct victim *me)
{
    for (uint64_t i = GREETING + 1; i < NUMBERS; i++) {
        cue_msg m;
        if (cue_channel_recv(me->other[0], &m, CUE_NOW) || m.tag != i)
            abort();
        cue_msg_release(&m);
    }
}
/* Its successor gets what the victim has not come to: all from some message on, once. The sender is done then. */
static int rest_comes(struct stage *stage)
{
    unsigned char counts[NUMBERS];
    char byte;
    struct peer *sender = stage->other[0];
    peer_ready(stage, "take_over", false);
    peer_tell(sender);
    if (peer_hear(sender, &byte, 1) && byte != 'k')
        wrong("the sender could not deliver the rest");
    peer_end(sender);
    peer_tell(stage->other[0]);
    peer_hear(stage->other[0], counts, sizeof counts);
    peer_end(stage->other[0]);
    for (unsigned i = 1; i < NUMBERS; i++)
        if (counts[i] > 1 || counts[i] < counts[i - 1])
            wrong("message %u came %u times, the one before %u times", i, counts[i], counts[i - 1]);
    if (counts[GREETING])
        wrong("what was received before came again");
    return !counts[GREETING + 1];
}
const struct op ops_nng[] = {
    { .name = "nng_send",
      .size = MEDIUM,
      .threads = true,
      .setup = receiver_near,
      .prepare = greeted_with_one,
      .act = send_one,
      .meanwhile = go_on,
      .at_end = all_comes,
      .verify = came_once },
    { .name = "nng_flush",
      .size = MEDIUM,
      .threads = true,
      .setup = receiver_near,
      .prepare = greeted_with_batch,
      .act = send_batch,
      .meanwhile = go_on,
      .at_end = all_comes,
      .verify = came_once },
    { .name = "nng_carry",
      .size = MEDIUM,
      .threads = true,
      .setup = receiver_far,
      .prepare = greeted_with_batch,
      .act = send_batch,
      .meanwhile = go_on,
      .at_end = all_comes,
      .verify = came_once },
    { .name = "nng_send_old",
      .size = MEDIUM,
      .threads = true,
      .setup = receiver_near,
      .prepare = greeted_to_drop,
      .act = send_one,
      .meanwhile = go_on,
      .at_end = all_comes,
      .verify = came_once },
    { .name = "nng_drop_old",
      .size = MEDIUM,
      .threads = true,
      .setup = receiver_near,
      .prepare = greeted_and_full,
      .act = send_one,
      .meanwhile = go_on,
      .at_end = all_comes,
      .verify = came_once },
    { .name = "nng_receive",
      .size = MEDIUM,
      .threads = true,
      .setup = sender_near,
      .prepare = first_received,
      .act = receive_rest,
      .verify = rest_comes },
    { .name = "nng_take_back",
      .size = MEDIUM,
      .threads = true,
      .setup = receiver_near,
      .prepare = batch_under_way,
      .act = close_now,
      .verify = freed_or_came },
    { 0 },
};
