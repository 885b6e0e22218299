/* Storms of SIGKILL and SIGSTOP over lanes with one receiver: three senders, a receiver and a reaper, each killed or held at random
 * moments and replaced. A mailbox with each way to be full, and a queue.
 *
 * What must hold: what was reported as sent is received, whole, once, in the order of its sender and after all that anybody was told to
 * have been sent before; only what the lane dropped and says so, and what a killed receiver had in hand, may be missing. The counts add up.
 * Afterwards the pool has no fault, no block is left, and nothing is left in /dev/shm.
 *
 * STORM_KILLS and STORM_SEED in the environment ask for a longer or another storm. The positions of the mailboxes wrap during it.
 *
 * budget: 120 s
 */
#include "tests/storm.h"

#include "channels/mailbox.h"
#include "tests/cast/mailbox_storm.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

enum { RECEIVER = STORM_SENDERS, REAPER, SLOTS, DEPTH = 32 };
#define BEFORE_WRAP UINT32_C(0xfffff000) /* a position */

/* What a receiver takes at a time in this life. */
static unsigned hands_in(unsigned life)
{
    return life % 2 ? 1 : STORM_HANDS;
}

static struct cast start_one(const struct crew *crew, unsigned who, unsigned life)
{
    char number[16], count[16];
    snprintf(count, sizeof count, "%u", life);
    snprintf(number, sizeof number, "%u", who == RECEIVER ? hands_in(life) : who);
    if (who < STORM_SENDERS)
        return cast_start("storm_sender", crew->url, crew->file, number, count, crew->wait);
    if (who == RECEIVER)
        return cast_start("storm_receiver", crew->url, crew->file, number, count);
    return cast_start("storm_reaper", crew->pool);
}

/* Takes what is left, as a last receiver. */
static int storm_drain(struct storm *storm, cue_channel *ch)
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

/* What was reported as sent, all in all; and of that what never came after the last message of its sender. */
static uint64_t storm_sent(const struct crew *crew, const struct storm *storm, uint64_t *tail)
{
    uint64_t all = 0;
    *tail = 0;
    for (unsigned s = 0; s < STORM_SENDERS; s++) {
        uint64_t last = atomic_load(&storm->last[s]);
        for (uint64_t life = 1; life <= crew->lives[s]; life++) {
            uint64_t sent = atomic_load(&storm->committed[s][life]), from = life == last >> 32 ? last & UINT32_MAX : 0;
            all += sent;
            *tail += life >= last >> 32 && sent > from ? sent - from : 0;
        }
    }
    return all;
}

/* Its positions wrap soon; nobody else has it open yet. How many messages it says to have passed. */
static uint64_t begin_before_wrap(cue_channel *ch)
{
    struct mailbox *box = ((struct mailbox_channel *)(void *)ch)->box;
    atomic_store(&box->head, head_word(INDEX_NONE, BEFORE_WRAP, 0));
    atomic_store(&box->consumed, BEFORE_WRAP);
    atomic_store(&box->passed, BEFORE_WRAP / POSITION_ONE);
    return BEFORE_WRAP / POSITION_ONE;
}

/* What receivers may have taken and not said: in hand when they were killed. */
static uint64_t in_hands(const struct crew *crew)
{
    uint64_t hands = 0;
    for (unsigned life = 1; life <= crew->lives[RECEIVER]; life++)
        hands += hands_in(life);
    return hands;
}

/* What a lane may have dropped and not counted: who dropped it was killed over it. */
static uint64_t uncounted(const struct crew *crew, const cue_channel_info *lane, uint32_t full)
{
    uint64_t by_senders = crew->lives[0] + crew->lives[1] + crew->lives[2], by_receivers = 2 * DEPTH * (uint64_t)crew->lives[RECEIVER];
    return full == CUE_FAIL ? 0 : full == CUE_DROP_OLD && lane->kind == CUE_MAILBOX ? by_receivers : by_senders;
}

/* sent = received + dropped, but for what the killed did not say: a sender what it sent last, a receiver what it took last. */
static bool adds_up(const struct crew *crew, uint64_t got, const cue_channel_info *lane, uint64_t sent, uint32_t full)
{
    uint64_t senders = crew->lives[0] + crew->lives[1] + crew->lives[2], unsaid = STORM_BATCH * senders;
    uint64_t accounted = got + lane->dropped, lost = in_hands(crew) + uncounted(crew, lane, full);
    bool all = sent <= accounted + lost && accounted <= sent + unsaid && got <= lane->received && lane->received <= got + lost &&
               lane->queued == 0 && (full != CUE_FAIL || (sent <= lane->sent && lane->sent <= sent + unsaid));
    printf("  %llu reported as sent, %llu linked; %llu received, of which the lane says %llu; %llu dropped: %s\n", (unsigned long long)sent,
           (unsigned long long)lane->sent, (unsigned long long)got, (unsigned long long)lane->received, (unsigned long long)lane->dropped,
           all ? "adds up" : "DOES NOT ADD UP");
    return all;
}

/* Of what was dropped a mailbox tells its receiver, as far as it is there. */
static bool gaps_told(uint64_t gaps, const cue_channel_info *lane, uint32_t full)
{
    return full == CUE_FAIL || lane->kind == CUE_QUEUE ? gaps == 0 : gaps > 0 && gaps <= lane->dropped;
}

static bool enough(const void *counts)
{
    const struct storm *s = counts;
    return s->related > 0 && s->drained > 0 && s->kinds[0] > 0 && s->kinds[1] > 0 && s->kinds[2] > 0 && s->kinds[3] > 0;
}

/* With drops, of which a mailbox tells. */
static bool enough_told(const void *counts)
{
    const struct storm *s = counts;
    return enough(counts) && s->gaps > 0;
}

static int storm_judge(const struct crew *crew, const struct storm *s, const cue_channel_info *lane, const cue_pool_info *info,
                       uint32_t full)
{
    uint64_t tail, sent = storm_sent(crew, s, &tail), missing = atomic_load(&s->missing) + tail;
    uint64_t hands = lane->dropped + in_hands(crew) + uncounted(crew, lane, full);
    printf(
        "  %u kills, %u held, messages of bytes %llu, blocks %llu, both %llu, with a header %llu; %llu told of others' before them, %llu "
        "times drained, %llu repairs; missing %llu of at most %llu dropped and in killed hands\n",
        crew->killed, crew->stopped, (unsigned long long)s->kinds[0], (unsigned long long)s->kinds[1], (unsigned long long)s->kinds[2],
        (unsigned long long)s->kinds[3], (unsigned long long)s->related, (unsigned long long)s->drained, (unsigned long long)info->reaped,
        (unsigned long long)missing, (unsigned long long)hands);
    bool ran = crew->stopped > 0 && s->got > crew->killed && enough(s) && info->reaped > 0 && (lane->dropped > 0) == (full != CUE_FAIL);
    bool counts = adds_up(crew, s->got, lane, sent, full) && gaps_told(s->gaps, lane, full);
    fflush(stdout);
    return !ran ? 4 : s->disordered ? 5 : s->overtaken ? 6 : s->damaged ? 7 : missing > hands ? 8 : !counts ? 9 : crew->broken ? 10 : 0;
}

static int storm_run(struct crew *crew, struct storm *storm, uint32_t full, unsigned kills)
{
    cue_channel *ch, *in;
    cue_pool_info info;
    cue_channel_info lane;
    if (cue_channel_open(crew->url, CUE_SEND, NULL, &ch) || cue_channel_stat(ch, &lane))
        return 1;
    cue_pool *pool = cue_channel_pool(ch);
    uint64_t passed_before = lane.kind == CUE_MAILBOX ? begin_before_wrap(ch) : 0;
    crew_rage(crew, kills);
    cue_pool_check(pool, true, NULL, NULL);
    if (cue_channel_open(crew->url, CUE_RECV, NULL, &in) || storm_drain(storm, in) != CUE_EEMPTY || cue_channel_stat(in, &lane))
        return 2;
    cue_channel_close(in);
    int faults = cue_pool_check(pool, true, say_fault, NULL);
    if (faults || cue_pool_stat(pool, &info) || info.blocks != 1)
        return 3;
    lane.sent -= passed_before;
    lane.received -= passed_before;
    int step = storm_judge(crew, storm, &lane, &info, full);
    cue_channel_close(ch);
    return step;
}

static void storm(const char *what, const char *options, uint32_t full, unsigned few)
{
    struct crew crew = { .pool = test_name(what), .slots = SLOTS, .start = start_one, .wait = full == CUE_FAIL ? "10000000" : "20" };
    unsigned kills = storm_begin(what, few, STORM_LIVES - 1);
    snprintf(crew.url, sizeof crew.url, "shm://%s/storm?depth=%d%s", crew.pool, DEPTH, options);
    struct storm *shared = shared_file(crew.file, sizeof *shared);
    cr_assert(shared != NULL);
    crew.got = &shared->got;
    crew.enough = full == CUE_FAIL || strstr(options, "queue") ? enough : enough_told;
    crew.counts = shared;
    int step = storm_run(&crew, shared, full, kills);
    munmap(shared, sizeof *shared);
    unlink(crew.file);
    cr_assert(eq(int, step, 0));
    cr_assert(eq(int, test_leftovers(crew.pool), 0));
}

Test(mailbox_storm, kills_lose_double_and_leave_nothing)
{
    storm("mailbox", "", CUE_FAIL, 200);
}

Test(mailbox_storm, what_a_full_mailbox_drops_is_counted)
{
    storm("drop-new", "&full=drop-new", CUE_DROP_NEW, 60);
}

Test(mailbox_storm, what_is_too_old_for_a_mailbox_is_counted)
{
    storm("drop-old", "&full=drop-old", CUE_DROP_OLD, 60);
}

Test(mailbox_storm, a_queue_keeps_the_order_of_all_its_senders)
{
    storm("queue", "&kind=queue", CUE_FAIL, 60);
}

Test(mailbox_storm, what_is_too_old_for_a_queue_is_counted)
{
    storm("old-queue", "&kind=queue&full=drop-old", CUE_DROP_OLD, 60);
}
