/* A storm of SIGKILLs over one mailbox: three senders, a receiver and a reaper, each killed at random moments and replaced.
 *
 * What must hold: what was reported as sent is received, in order, once, whole; only what a killed receiver had in hand may be
 * missing. Afterwards the pool has no fault, no block is left, and nothing is left in /dev/shm.
 *
 * STORM_KILLS and STORM_SEED in the environment ask for a longer or another storm. The positions wrap during it.
 *
 * budget: 120 s
 */
#include "tests/harness.h"

#include "channels/mailbox.h"
#include "tests/cast/mailbox_storm.h"

#include <cuelight/channel.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <sys/mman.h>

enum { RECEIVER = STORM_SENDERS, REAPER, SLOTS };

struct crew {
    const char *pool, *file;
    char url[128];
    struct storm *storm;
    struct cast cast[SLOTS];
    unsigned lives[SLOTS], killed[SLOTS];
    uint64_t in_hands; /* the most that killed receivers can have had in hand */
    unsigned hands;    /* of the present receiver */
    int broken;        /* somebody ended by itself */
};

static unsigned number_from(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);
    return text && atoi(text) > 0 ? (unsigned)atoi(text) : otherwise;
}

static struct storm *storm_make(char path[TEST_PATH])
{
    int fd = test_file(path);
    if (fd < 0 || ftruncate(fd, sizeof(struct storm)) < 0)
        return NULL;
    void *map = mmap(NULL, sizeof(struct storm), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return map == MAP_FAILED ? NULL : map;
}

static void crew_start(struct crew *crew, unsigned who)
{
    char number[16], life[16];
    crew->lives[who]++;
    snprintf(number, sizeof number, "%u", who);
    snprintf(life, sizeof life, "%u", crew->lives[who]);
    if (who < STORM_SENDERS) {
        crew->cast[who] = cast_start("storm_sender", crew->url, crew->file, number, life);
    } else if (who == RECEIVER) {
        crew->hands = crew->lives[who] % 2 ? 1 : STORM_HANDS;
        snprintf(number, sizeof number, "%u", crew->hands);
        crew->cast[who] = cast_start("storm_receiver", crew->url, crew->file, number, life);
    } else {
        crew->cast[who] = cast_start("storm_reaper", crew->pool);
    }
}

static void crew_kill(struct crew *crew, unsigned who)
{
    int end = cast_kill(&crew->cast[who]);
    if (end != CAST_SIGNALLED + SIGKILL) {
        fprintf(stderr, "storm: %u (life %u) ended by itself with %d\n", who, crew->lives[who], end);
        crew->broken++;
        return;
    }
    crew->killed[who]++;
    if (who == RECEIVER)
        crew->in_hands += crew->hands;
}

/* Kills one after the other until there were `kills`; stops if nothing arrives any more. */
static void storm_rage(struct crew *crew, unsigned kills)
{
    uint64_t got = 0;
    int64_t since = test_now_ms();
    for (unsigned done = 0; done < kills && !crew->broken;) {
        struct timespec nap = { .tv_nsec = rand() % 12000000 };
        nanosleep(&nap, NULL);
        unsigned who = (unsigned)(rand() >> 4) % SLOTS;
        crew_kill(crew, who);
        done++;
        if (rand() % 3 == 0) { /* two at once */
            unsigned other = (who + 1 + (unsigned)(rand() >> 4) % (SLOTS - 1)) % SLOTS;
            crew_kill(crew, other);
            crew_start(crew, other);
            done++;
        }
        crew_start(crew, who);
        uint64_t now = atomic_load(&crew->storm->got);
        if (now != got) {
            got = now;
            since = test_now_ms();
        } else if (test_now_ms() - since > test_ms(30000)) {
            fprintf(stderr, "storm: nothing arrives any more after %u kills\n", done);
            crew->broken++;
        }
    }
}

/* Takes what is left, as a last receiver. */
static int storm_drain(struct storm *storm, cue_channel *ch)
{
    cue_msg m;
    int status;
    while ((status = cue_channel_recv(ch, &m, CUE_NOW)) == 0) {
        struct storm_bytes bytes = { .sender = UINT64_MAX };
        if (m.size >= sizeof bytes)
            memcpy(&bytes, m.data, sizeof bytes);
        if (storm_whole(&bytes))
            storm_take(storm, &bytes);
        else
            atomic_fetch_add(&storm->damaged, 1);
        cue_msg_release(&m);
    }
    return status;
}

/* What was reported as sent and never came, at the very end. */
static uint64_t storm_tail(const struct crew *crew)
{
    uint64_t missing = 0;
    for (unsigned s = 0; s < STORM_SENDERS; s++) {
        uint64_t last = atomic_load(&crew->storm->last[s]);
        for (uint64_t life = last >> 32; life <= crew->lives[s]; life++) {
            uint64_t sent = atomic_load(&crew->storm->committed[s][life]), from = life == last >> 32 ? last & UINT32_MAX : 0;
            missing += sent > from ? sent - from : 0;
        }
    }
    return missing;
}

static void say_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static int storm_run(struct crew *crew, unsigned kills)
{
    cue_channel *ch;
    cue_pool_info info;
    snprintf(crew->url, sizeof crew->url, "shm://%s/storm?depth=32", crew->pool);
    if (cue_channel_open(crew->url, CUE_SEND, NULL, &ch))
        return 1;
    cue_pool *pool = cue_channel_pool(ch);
    struct mailbox *box = ((struct mailbox_channel *)(void *)ch)->box; /* nobody else has it open yet */
    atomic_store(&box->head, head_word(INDEX_NONE, 0xfffff000, 0));
    atomic_store(&box->consumed, 0xfffff000);
    for (unsigned who = 0; who < SLOTS; who++)
        crew_start(crew, who);
    storm_rage(crew, kills);
    for (unsigned who = 0; who < SLOTS; who++)
        crew_kill(crew, who);
    cue_pool_check(pool, true, NULL, NULL);
    cue_channel *in;
    int status = cue_channel_open(crew->url, CUE_RECV, NULL, &in);
    if (status || storm_drain(crew->storm, in) != CUE_EEMPTY)
        return 2;
    cue_channel_close(in);
    int faults = cue_pool_check(pool, true, say_fault, NULL);
    if (cue_pool_stat(pool, &info))
        return 3;
    const struct storm *s = crew->storm;
    uint64_t missing = atomic_load(&s->missing) + storm_tail(crew);
    unsigned killed = 0;
    for (unsigned who = 0; who < SLOTS; who++)
        killed += crew->killed[who];
    printf("mailbox storm: %u kills (senders %u, receivers %u, reapers %u), %llu messages (bytes %llu, blocks %llu, both %llu, header "
           "%llu), %llu times drained, %llu repairs; missing %llu of at most %llu in killed hands\n",
           killed, crew->killed[0] + crew->killed[1] + crew->killed[2], crew->killed[RECEIVER], crew->killed[REAPER],
           (unsigned long long)s->got, (unsigned long long)s->kinds[0], (unsigned long long)s->kinds[1], (unsigned long long)s->kinds[2],
           (unsigned long long)s->kinds[3], (unsigned long long)s->drained, (unsigned long long)info.reaped, (unsigned long long)missing,
           (unsigned long long)crew->in_hands);
    fflush(stdout);
    bool ran =
        killed >= kills && s->got > killed && s->drained > 0 && info.reaped > 0 && crew->killed[RECEIVER] > 0 && crew->killed[REAPER] > 0;
    for (unsigned k = 0; k < 4; k++)
        ran = ran && s->kinds[k] > 0;
    cue_channel_close(ch);
    return !ran                       ? 4
           : s->disordered            ? 5
           : s->damaged               ? 6
           : missing > crew->in_hands ? 7
           : faults                   ? 8
           : info.blocks != 1         ? 9
           : crew->broken             ? 10
                                      : 0;
}

Test(mailbox_storm, kills_lose_double_and_leave_nothing)
{
    char path[TEST_PATH];
    unsigned seed = number_from("STORM_SEED", (unsigned)getpid()), kills = number_from("STORM_KILLS", test_ms(1) > 1 ? 150 : 400);
    struct crew crew = { .pool = test_name("storm"), .file = path };
    printf("mailbox storm: seed %u\n", seed);
    srand(seed);
    crew.storm = storm_make(path);
    cr_assert(crew.storm != NULL);
    int step = storm_run(&crew, kills < STORM_LIVES ? kills : STORM_LIVES);
    munmap(crew.storm, sizeof *crew.storm);
    unlink(path);
    cr_assert(eq(int, step, 0));
    cr_assert(eq(int, test_leftovers(crew.pool), 0));
}
