/* Storms of SIGKILL and SIGSTOP over a queue and a stream: senders, receivers and a reaper, each killed or held at random moments and
 * replaced.
 *
 * The queue has `redeliver`: every message that was reported as sent is received, whole, and a second time only if it is marked.
 * The stream: what was reported as sent is received in order, once, whole; only what a killed receiver had in hand may be missing.
 * Afterwards the pool has no fault, no block is left, and nothing is left in /dev/shm.
 *
 * STORM_KILLS and STORM_SEED in the environment ask for a longer or another storm.
 *
 * budget: 120 s
 */
#include "tests/storm.h"

#include "tests/cast/mailbox_storm.h"
#include "tests/cast/queue_storm.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { KILLS_MOST = 400 };

/* ---- the queue ---- */

static struct cast start_queue(const struct crew *crew, unsigned who, unsigned life)
{
    char number[16], count[16];
    snprintf(count, sizeof count, "%u", life);
    snprintf(number, sizeof number, "%u", who < QUEUE_SENDERS ? who : life);
    if (who < QUEUE_SENDERS)
        return cast_start("queue_storm_sender", crew->url, crew->file, number, count);
    if (who < QUEUE_SENDERS + 2)
        return cast_start("queue_storm_receiver", crew->url, crew->file, number, count);
    return cast_start("storm_reaper", crew->pool);
}

/* Takes what is left, as a last receiver. */
static int queue_drain(struct queue_storm *storm, cue_channel *ch)
{
    cue_msg m;
    int status;
    while ((status = cue_channel_recv(ch, &m, CUE_NOW)) == 0) {
        struct queue_bytes bytes = { 0 };
        if (m.size >= sizeof bytes)
            memcpy(&bytes, m.data, sizeof bytes);
        if (queue_whole(&bytes))
            queue_note(storm, &bytes, m.redelivered > 0);
        else
            atomic_fetch_add(&storm->damaged, 1);
        cue_msg_release(&m);
    }
    return status;
}

static bool queue_enough(const void *counts)
{
    const struct queue_storm *storm = counts;
    return storm->blocks && storm->again && storm->drained;
}

static uint64_t queue_lost(const struct queue_storm *storm)
{
    uint64_t lost = 0;
    for (unsigned s = 0; s < QUEUE_SENDERS; s++)
        for (unsigned life = 0; life < QUEUE_LIVES; life++)
            for (uint32_t n = 1; n <= atomic_load(&storm->committed[s][life]); n++)
                lost += !(atomic_load(&storm->seen[s][life][n / 64]) >> (n % 64) & 1);
    return lost;
}

static int queue_run(struct crew *crew, struct queue_storm *storm, unsigned kills)
{
    cue_channel *ch, *in;
    cue_pool_info info;
    cue_channel_info lane;
    snprintf(crew->url, sizeof crew->url, "shm://%s/storm?kind=queue&depth=32&redeliver=1000", crew->pool);
    if (cue_channel_open(crew->url, CUE_SEND, NULL, &ch))
        return 1;
    cue_pool *pool = cue_channel_pool(ch);
    crew_rage(crew, kills);
    cue_pool_check(pool, true, NULL, NULL);
    if (cue_channel_open(crew->url, CUE_RECV, NULL, &in) || queue_drain(storm, in) != CUE_EEMPTY || cue_channel_stat(in, &lane))
        return 2;
    cue_channel_close(in);
    int faults = cue_pool_check(pool, true, say_fault, NULL);
    if (cue_pool_stat(pool, &info))
        return 3;
    uint64_t lost = queue_lost(storm);
    printf("queue storm: %u kills, %u held, %llu messages (%llu with a block), %llu given back, %llu redeliveries, %llu times drained, "
           "%llu repairs; "
           "%llu lost\n",
           crew->killed, crew->stopped, (unsigned long long)storm->got, (unsigned long long)storm->blocks,
           (unsigned long long)lane.returned, (unsigned long long)storm->again, (unsigned long long)storm->drained,
           (unsigned long long)info.reaped, (unsigned long long)lost);
    fflush(stdout);
    bool ran = crew->killed >= kills && crew->stopped && storm->got > crew->killed && storm->blocks && storm->again && storm->drained &&
               lane.returned && info.reaped;
    cue_channel_close(ch);
    return !ran                ? 4
           : storm->disordered ? 5
           : storm->damaged    ? 6
           : storm->doubled    ? 7
           : lost              ? 8
           : faults            ? 9
           : info.blocks != 1  ? 10
           : crew->broken      ? 11
                               : 0;
}

Test(ring_storm, a_queue_loses_nothing_and_doubles_only_what_is_marked)
{
    unsigned kills = storm_begin("queue", 200, KILLS_MOST);
    struct crew crew = { .pool = test_name("queuestorm"), .slots = 6, .start = start_queue, .enough = queue_enough };
    struct queue_storm *storm = shared_file(crew.file, sizeof *storm);
    cr_assert(storm != NULL);
    crew.got = &storm->got;
    crew.counts = storm;
    int step = queue_run(&crew, storm, kills);
    munmap(storm, sizeof *storm);
    unlink(crew.file);
    cr_assert(eq(int, step, 0));
    cr_assert(eq(int, test_leftovers(crew.pool), 0));
}

/* ---- the stream ---- */

static struct cast start_stream(const struct crew *crew, unsigned who, unsigned life)
{
    char count[16];
    snprintf(count, sizeof count, "%u", life);
    if (who == 0)
        return cast_start("storm_sender", crew->url, crew->file, "0", count, "10000000");
    if (who == 1)
        return cast_start("storm_receiver", crew->url, crew->file, life % 2 ? "1" : "8", count);
    return cast_start("storm_reaper", crew->pool);
}

static int stream_drain(struct storm *storm, cue_channel *ch)
{
    cue_msg m;
    int status;
    while ((status = cue_channel_recv(ch, &m, CUE_NOW)) == 0) {
        struct storm_bytes bytes;
        if (storm_read(m.data, m.size, &bytes))
            storm_take(storm, &bytes);
        else
            atomic_fetch_add(&storm->damaged, 1);
        cue_msg_release(&m);
    }
    return status;
}

static bool stream_enough(const void *counts)
{
    const struct storm *storm = counts;
    return storm->drained > 0;
}

/* What was reported as sent and never came, at the very end. */
static uint64_t stream_tail(const struct crew *crew, const struct storm *storm)
{
    uint64_t missing = 0, last = atomic_load(&storm->last[0]);
    for (uint64_t life = last >> 32; life <= crew->lives[0]; life++) {
        uint64_t sent = atomic_load(&storm->committed[0][life]), from = life == last >> 32 ? last & UINT32_MAX : 0;
        missing += sent > from ? sent - from : 0;
    }
    return missing;
}

static int stream_run(struct crew *crew, struct storm *storm, unsigned kills)
{
    cue_pool *pool;
    cue_channel *in;
    cue_pool_info info;
    if (cue_pool_open(crew->pool, &(cue_pool_opts){ .size = 64 << 20 }, &pool))
        return 1;
    snprintf(crew->url, sizeof crew->url, "shm://%s/storm?kind=stream&depth=32", crew->pool);
    crew_rage(crew, kills);
    cue_pool_check(pool, true, NULL, NULL);
    if (cue_channel_open(crew->url, CUE_RECV, NULL, &in) || stream_drain(storm, in) != CUE_EEMPTY)
        return 2;
    cue_channel_close(in);
    int faults = cue_pool_check(pool, true, say_fault, NULL);
    if (cue_pool_stat(pool, &info))
        return 3;
    uint64_t missing = atomic_load(&storm->missing) + stream_tail(crew, storm), hands = 8 * (uint64_t)crew->lives[1];
    printf("stream storm: %u kills, %u held, %llu messages (bytes %llu, blocks %llu, both %llu, header %llu), %llu times drained, %llu "
           "repairs; "
           "missing %llu of at most %llu in killed hands\n",
           crew->killed, crew->stopped, (unsigned long long)storm->got, (unsigned long long)storm->kinds[0],
           (unsigned long long)storm->kinds[1], (unsigned long long)storm->kinds[2], (unsigned long long)storm->kinds[3],
           (unsigned long long)storm->drained, (unsigned long long)info.reaped, (unsigned long long)missing, (unsigned long long)hands);
    fflush(stdout);
    bool ran = crew->killed >= kills && crew->stopped && storm->got > crew->killed && storm->drained && info.reaped;
    cue_pool_close(pool);
    return !ran                ? 4
           : storm->disordered ? 5
           : storm->damaged    ? 6
           : missing > hands   ? 7
           : faults            ? 8
           : info.blocks != 0  ? 9
           : crew->broken      ? 10
                               : 0;
}

Test(ring_storm, a_stream_keeps_order_and_loses_only_what_was_in_hand)
{
    unsigned kills = storm_begin("stream", 200, KILLS_MOST);
    struct crew crew = { .pool = test_name("streamstorm"), .slots = 3, .start = start_stream, .enough = stream_enough };
    struct storm *storm = shared_file(crew.file, sizeof *storm);
    cr_assert(storm != NULL);
    crew.got = &storm->got;
    crew.counts = storm;
    int step = stream_run(&crew, storm, kills);
    munmap(storm, sizeof *storm);
    unlink(crew.file);
    cr_assert(eq(int, step, 0));
    cr_assert(eq(int, test_leftovers(crew.pool), 0));
}
