/* Actors in one process: messages, ends, watches, names. */
#include "tests/harness.h"

#include "pool/pool_internal.h"

#include <cuelight/actor.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <semaphore.h>

enum { ADD = 1, LAST, FAIL, TELL, GET };

static cue_system *sys;
static cue_ref me;
static const char *pool_name;

static void print_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

static void begin(void)
{
    pool_name = test_name("actors");
    CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = pool_name, .pool_opts = &(cue_pool_opts){ .size = 64 << 20 } }, &sys));
    CUE_MUST(cue_adopt(sys, "test", &me));
}

static void end(void)
{
    if (sys) {
        cr_assert(eq(int, cue_pool_check(cue_system_pool(sys), true, print_fault, NULL), 0));
        cr_assert(eq(int, cue_system_stop(sys, CUE_SEC(10)), 0));
    }
    cr_assert(eq(int, test_leftovers(pool_name), 0));
}

TestSuite(actors, .init = begin, .fini = end);

static cue_time soon(void)
{
    return CUE_MS(test_ms(10000));
}

static cue_msg receive(void)
{
    cue_msg m;
    int status = cue_receive(&m, soon());
    cr_assert(eq(int, status, 0));
    return m;
}

/* The next message is a CUE_DOWN with this tag: its reason. */
static int down_of(uint64_t tag, char name[64])
{
    cue_msg m = receive();
    cr_assert(eq(u32, m.type, CUE_DOWN));
    cr_assert(eq(u64, m.tag, tag));
    cr_assert(eq(sz, m.size, sizeof(struct cue_down)));
    const struct cue_down *down = m.data;
    int reason = down->reason;
    if (name)
        memcpy(name, down->name, 64);
    cue_msg_release(&m);
    return reason;
}

static void nothing_more(void)
{
    cue_msg m;
    cr_assert(eq(int, cue_receive(&m, CUE_NOW), CUE_EEMPTY));
}

/* ---- behaviours ---- */

struct counter {
    long total;
    int done_reason;
};

static int ended_with;
static _Atomic int ended_count;

static int counter(void *state, cue_msg *m)
{
    struct counter *c = state;
    switch (m->type) {
    case ADD:
        c->total += *(const long *)m->data;
        return 0;
    case GET:
        return cue_tell(m->from, CUE_MSG(GET, c->total));
    case FAIL:
        return CUE_EFAILED;
    default:
        return CUE_STOP;
    }
}

static void note_end(void *state, int reason)
{
    (void)state;
    ended_with = reason;
    atomic_fetch_add_explicit(&ended_count, 1, memory_order_seq_cst);
}

static const cue_actor_spec counting = { .run = counter, .done = note_end, .state_size = sizeof(struct counter) };

static cue_ref spawn_counter(const char *name)
{
    cue_actor_spec spec = counting;
    cue_ref who;
    spec.name = name;
    CUE_MUST(cue_spawn(sys, &spec, &who));
    return who;
}

static sem_t gate;

static int waits_at_gate(void *state, cue_msg *m)
{
    (void)state;
    sem_wait(&gate);
    return m->type == LAST ? CUE_STOP : 0;
}

/* ---- messages ---- */

static int in_order(void *state, cue_msg *m)
{
    long *next = state;
    if (m->type == LAST)
        return cue_tell(m->from, CUE_MSG(GET, *next)) ? CUE_EFAILED : CUE_STOP;
    if (*(const long *)m->data != *next)
        return CUE_EFAILED;
    ++*next;
    return 0;
}

/* Tells, and where the mailbox is full gives the other one time. */
static void tell_all(cue_ref who, const cue_msg *m)
{
    int status;
    while ((status = cue_tell(who, m)) == CUE_EFULL)
        sched_yield();
    cr_assert(eq(int, status, 0));
}

Test(actors, messages_arrive_in_order)
{
    cue_ref who;
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = in_order, .state_size = sizeof(long) }, &who));
    for (long i = 0; i < 20000; i++)
        tell_all(who, CUE_MSG(ADD, i));
    tell_all(who, &(cue_msg){ .type = LAST });
    cue_msg m = receive();
    cr_assert(eq(u32, m.type, GET));
    cr_assert(eq(long, *(const long *)m.data, 20000));
    cr_assert(cue_ref_same(m.from, who));
    cue_msg_release(&m);
}

static int pong(void *state, cue_msg *m)
{
    (void)state;
    return cue_tell(m->from, CUE_MSG(ADD, *(const long *)m->data));
}

static int ping(void *state, cue_msg *m)
{
    long left = *(const long *)m->data;
    cue_ref *other = state;
    if (m->type == TELL)
        return cue_tell(*other, CUE_MSG(ADD, left));
    left--;
    return left ? cue_tell(*other, CUE_MSG(ADD, left)) : CUE_STOP;
}

static int ping_init(void *state, const void *arg, size_t size)
{
    memcpy(state, arg, size);
    return 0;
}

Test(actors, two_of_them_play_ping_pong)
{
    cue_ref a, b;
    uint64_t tag;
    long rounds = 50000;
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = pong }, &b));
    CUE_MUST(
        cue_spawn(sys, &(cue_actor_spec){ .run = ping, .init = ping_init, .arg = &b, .arg_size = sizeof b, .state_size = sizeof b }, &a));
    CUE_MUST(cue_watch(a, &tag));
    CUE_MUST(cue_tell(a, CUE_MSG(TELL, rounds)));
    cr_assert(eq(int, down_of(tag, NULL), 0));
    cue_system_info info;
    CUE_MUST(cue_system_stat(sys, &info));
    cr_assert(ge(u64, info.handled, 2 * (uint64_t)rounds));
}

struct teller {
    cue_ref who;
    long first;
};

static void *tell_many(void *arg)
{
    struct teller *t = arg;
    for (long i = 0; i < 10000; i++) {
        int status;
        long number = t->first + i;
        while ((status = cue_tell(t->who, CUE_MSG(ADD, number))) == CUE_EFULL)
            sched_yield();
        if (status)
            return arg;
    }
    return NULL;
}

static int by_sender(void *state, cue_msg *m)
{
    long *next = state, number = m->size ? *(const long *)m->data : 0;
    if (m->type == LAST)
        return next[0] + next[1] + next[2] + next[3] == 40000 ? CUE_STOP : CUE_EFAILED;
    return number % 100000 == next[number / 100000]++ ? 0 : CUE_EFAILED;
}

Test(actors, many_threads_tell_one_actor)
{
    pthread_t threads[4];
    struct teller tellers[4];
    cue_ref who;
    uint64_t tag;
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = by_sender, .state_size = 4 * sizeof(long) }, &who));
    CUE_MUST(cue_watch(who, &tag));
    for (long i = 0; i < 4; i++) {
        tellers[i] = (struct teller){ who, i * 100000 };
        pthread_create(&threads[i], NULL, tell_many, &tellers[i]);
    }
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        cr_assert(failed == NULL);
    }
    tell_all(who, &(cue_msg){ .type = LAST });
    cr_assert(eq(int, down_of(tag, NULL), 0));
}

Test(actors, a_full_mailbox_refuses_and_the_teller_keeps_its_block)
{
    cue_ref who;
    cue_block b;
    long n = 1;
    sem_init(&gate, 0, 0);
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = waits_at_gate, .depth = 4 }, &who));
    CUE_MUST(cue_block_alloc(cue_system_pool(sys), 1000, NULL, &b));
    int told = 0;
    while (told < 6 && cue_tell(who, CUE_MSG(ADD, n)) == 0)
        told++;
    cr_assert(ge(int, told, 4));
    cr_assert(le(int, told, 5)); /* one may be in hand */
    cr_assert(eq(int, cue_tell(who, &(cue_msg){ .type = ADD, .move = &b }), CUE_EFULL));
    cr_assert(b.data != NULL);
    CUE_MUST(cue_watch(who, NULL)); /* not refused */
    CUE_MUST(cue_block_release(&b));
    for (int i = 0; i < told; i++)
        sem_post(&gate);
    tell_all(who, &(cue_msg){ .type = LAST });
    sem_post(&gate);
    cue_msg m = receive();
    cr_assert(eq(u32, m.type, CUE_DOWN));
    cue_msg_release(&m);
}

static int give_back(void *state, cue_msg *m)
{
    (void)state;
    cue_block mine = cue_move(&m->block);
    ((char *)mine.data)[0]++;
    return cue_tell(m->from, &(cue_msg){ .type = GET, .move = &mine });
}

Test(actors, a_block_goes_there_and_back_without_a_copy)
{
    cue_ref who;
    cue_block b;
    cue_pool_info before, after;
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = give_back }, &who));
    CUE_MUST(cue_block_alloc(cue_system_pool(sys), 1 << 20, NULL, &b));
    char *bytes = b.data;
    bytes[0] = 7;
    CUE_MUST(cue_pool_stat(cue_system_pool(sys), &before));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = TELL, .move = &b }));
    cr_assert(b.data == NULL);
    cue_msg m = receive();
    CUE_MUST(cue_pool_stat(cue_system_pool(sys), &after));
    cr_assert(m.block.data == bytes);
    cr_assert(eq(sz, m.size, 1 << 20));
    cr_assert(eq(int, bytes[0], 8));
    cr_assert(eq(u64, after.copied, before.copied));
    cue_msg_release(&m);
}

/* ---- ends ---- */

Test(actors, a_failure_is_told_with_its_reason_and_name)
{
    char name[64];
    uint64_t tag;
    cue_ref who = spawn_counter("fragile");
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = FAIL }));
    cr_assert(eq(int, down_of(tag, name), CUE_EFAILED));
    cr_assert(eq(str, name, "fragile"));
    cr_assert(eq(int, ended_with, CUE_EFAILED));
    nothing_more();
    cr_assert(eq(int, cue_tell(who, &(cue_msg){ .type = ADD }), CUE_EDEAD));
}

Test(actors, every_watch_is_answered_once)
{
    uint64_t tags[5], cancelled;
    cue_ref who = spawn_counter(NULL);
    for (int i = 0; i < 5; i++)
        CUE_MUST(cue_watch(who, &tags[i]));
    CUE_MUST(cue_watch(who, &cancelled));
    cr_assert(eq(int, cue_cancel(cancelled), 0));
    cr_assert(eq(int, cue_cancel(cancelled), CUE_ENOENT));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
    for (int i = 0; i < 5; i++)
        cr_assert(eq(int, down_of(tags[i], NULL), 0));
    nothing_more();
    CUE_MUST(cue_watch(who, &tags[0])); /* it has ended */
    cr_assert(eq(int, down_of(tags[0], NULL), CUE_EDEAD));
    CUE_MUST(cue_watch((cue_ref){ 0 }, &tags[0])); /* nobody */
    cr_assert(eq(int, down_of(tags[0], NULL), CUE_EDEAD));
    nothing_more();
}

Test(actors, a_watch_hears_after_what_was_told_before)
{
    uint64_t tag;
    cue_ref who = spawn_counter(NULL);
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = GET }));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
    cue_msg m = receive();
    cr_assert(eq(u32, m.type, GET));
    cue_msg_release(&m);
    cr_assert(eq(int, down_of(tag, NULL), 0));
}

Test(actors, an_exit_comes_after_what_was_sent_before)
{
    uint64_t tag;
    long one = 1;
    cue_ref who = spawn_counter(NULL);
    CUE_MUST(cue_watch(who, &tag));
    for (int i = 0; i < 100; i++)
        CUE_MUST(cue_tell(who, CUE_MSG(ADD, one)));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = GET }));
    CUE_MUST(cue_exit(who, -1234));
    cue_msg m = receive();
    cr_assert(eq(long, *(const long *)m.data, 100));
    cue_msg_release(&m);
    cr_assert(eq(int, down_of(tag, NULL), -1234));
    cr_assert(eq(int, cue_exit(who, 0), CUE_EDEAD));
}

static int exits_itself(void *state, cue_msg *m)
{
    (void)state, (void)m;
    return cue_exit(cue_self(), -77);
}

Test(actors, one_can_end_itself)
{
    uint64_t tag;
    cue_ref who;
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = exits_itself, .done = note_end }, &who));
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = ADD }));
    cr_assert(eq(int, down_of(tag, NULL), -77));
    cr_assert(eq(int, ended_with, -77));
}

static int init_fails(void *state, const void *arg, size_t size)
{
    (void)state, (void)arg, (void)size;
    return -1500;
}

Test(actors, an_init_that_fails_leaves_nothing)
{
    cue_ref who;
    cr_assert(eq(int, cue_spawn(sys, &(cue_actor_spec){ .name = "n", .run = counter, .init = init_fails, .done = note_end }, &who), -1500));
    cr_assert(cue_ref_same(who, (cue_ref){ 0 }));
    cr_assert(eq(int, atomic_load(&ended_count), 0));
    cr_assert(eq(int, cue_whereis(sys, "n", CUE_NOW, &who), CUE_ENOENT));
    spawn_counter("n");
}

Test(actors, an_address_never_means_another_actor)
{
    cue_ref old = spawn_counter(NULL);
    uint64_t tag;
    long one = 1;
    CUE_MUST(cue_watch(old, &tag));
    CUE_MUST(cue_tell(old, &(cue_msg){ .type = LAST }));
    down_of(tag, NULL);
    for (int i = 0; i < 200; i++) { /* one of them gets the block of the old one's mailbox */
        cue_ref now = spawn_counter(NULL);
        cr_assert(not(cue_ref_same(old, now)));
        cr_assert(eq(int, cue_tell(old, CUE_MSG(ADD, one)), CUE_EDEAD));
        CUE_MUST(cue_tell(now, &(cue_msg){ .type = LAST }));
    }
}

static int spawns_and_tells(void *state, cue_msg *m)
{
    (void)state;
    cue_msg out;
    cue_ref who, child;
    uint64_t tag;
    if (m->type == CUE_DOWN)
        return ((const struct cue_down *)m->data)->reason == CUE_EFAILED ? CUE_STOP : -1;
    if (cue_receive(&out, CUE_NOW) != CUE_ECONTEXT || cue_whereis(NULL, "test", CUE_MS(1), &who) != CUE_ECONTEXT ||
        cue_system_wait(sys, CUE_NOW) != CUE_ECONTEXT || cue_system_stop(sys, CUE_NOW) != CUE_ECONTEXT ||
        cue_adopt(NULL, NULL, &who) != CUE_ECONTEXT)
        return -2;
    if (cue_whereis(NULL, "test", CUE_NOW, &who) || cue_spawn(NULL, &counting, &child) || cue_watch(child, &tag))
        return -3;
    return cue_tell(child, &(cue_msg){ .type = FAIL });
}

Test(actors, a_behaviour_spawns_and_watches_and_may_not_wait)
{
    uint64_t tag;
    cue_ref who;
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = spawns_and_tells }, &who));
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = TELL }));
    cr_assert(eq(int, down_of(tag, NULL), 0));
}

/* ---- calls ---- */

static int answers(void *state, cue_msg *m)
{
    (void)state;
    switch (m->type) {
    case ADD:
        return cue_reply(m, CUE_MSG(ADD, *(const long *)m->data));
    case GET:
        return cue_reply(m, &(cue_msg){ .status = -1700 });
    case FAIL:
        return CUE_EFAILED;
    case LAST:
        return CUE_STOP;
    default:
        return 0; /* no answer */
    }
}

Test(actors, a_call_waits_for_the_answer_or_says_why_there_is_none)
{
    cue_ref who;
    cue_msg answer;
    long n = 42;
    cue_pool_info before, after;
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = answers }, &who));
    CUE_MUST(cue_pool_stat(cue_system_pool(sys), &before));
    for (n = 0; n < 100; n++) {
        cr_assert(eq(int, cue_call(who, &(cue_msg){ .type = ADD, .tag = 9, .data = &n, .size = sizeof n }, soon(), &answer), 0));
        cr_assert(eq(long, *(const long *)answer.data, n));
        cr_assert(eq(u64, answer.tag, 9));
        cue_msg_release(&answer);
    }
    cr_assert(eq(int, cue_call(who, &(cue_msg){ .type = GET }, soon(), &answer), -1700));
    cue_msg_release(&answer);
    cr_assert(eq(int, cue_call(who, &(cue_msg){ .type = TELL }, CUE_MS(20), &answer), CUE_ETIMEDOUT));
    cr_assert(eq(int, cue_call(who, &(cue_msg){ .type = FAIL }, soon(), &answer), CUE_EFAILED));
    cr_assert(eq(int, cue_call(who, &(cue_msg){ .type = ADD }, soon(), &answer), CUE_EDEAD));
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = answers }, &who));
    cr_assert(eq(int, cue_call(who, &(cue_msg){ .type = LAST }, soon(), &answer), CUE_EDEAD));
    nothing_more(); /* our own mailbox had no part in it */
    CUE_MUST(cue_pool_stat(cue_system_pool(sys), &after));
    cr_assert(eq(u64, after.blocks, before.blocks - 1));
}

static int calls(void *state, cue_msg *m)
{
    (void)state;
    cue_msg answer;
    return cue_call(m->from, m, CUE_MS(1), &answer) == CUE_ECONTEXT && cue_reply(&(cue_msg){ 0 }, m) == CUE_EINVAL ? CUE_STOP : -1;
}

Test(actors, a_behaviour_may_not_call)
{
    cue_ref who;
    uint64_t tag;
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = calls }, &who));
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = ADD }));
    cr_assert(eq(int, down_of(tag, NULL), 0));
}

/* ---- names ---- */

Test(actors, a_name_is_free_when_its_actor_is_known_to_have_ended)
{
    uint64_t tag;
    cue_ref who, found;
    for (int i = 0; i < 300; i++) {
        who = spawn_counter("phoenix");
        CUE_MUST(cue_whereis(sys, "phoenix", CUE_NOW, &found));
        cr_assert(cue_ref_same(who, found));
        CUE_MUST(cue_watch(who, &tag));
        CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
        cr_assert(eq(int, down_of(tag, NULL), 0));
        cr_assert(eq(int, cue_whereis(sys, "phoenix", CUE_NOW, &found), CUE_ENOENT));
    }
}

Test(actors, further_names_come_and_go)
{
    cue_ref who = spawn_counter("first"), found;
    uint64_t tag;
    CUE_MUST(cue_register("second", who));
    cr_assert(eq(int, cue_register("first", who), CUE_EEXIST));
    cr_assert(eq(int, cue_register("second", me), CUE_EEXIST));
    CUE_MUST(cue_whereis(sys, "second", CUE_NOW, &found));
    cr_assert(cue_ref_same(who, found));
    CUE_MUST(cue_register("second", (cue_ref){ 0 }));
    cr_assert(eq(int, cue_register("second", (cue_ref){ 0 }), CUE_ENOENT));
    cr_assert(eq(int, cue_whereis(sys, "second", CUE_NOW, &found), CUE_ENOENT));
    CUE_MUST(cue_register("third", who));
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
    down_of(tag, NULL);
    cr_assert(eq(int, cue_whereis(sys, "third", CUE_NOW, &found), CUE_ENOENT));
}

static void *registers_later(void *arg)
{
    (void)arg;
    sem_wait(&gate);
    spawn_counter("late");
    return NULL;
}

Test(actors, whereis_waits_until_there_is_somebody)
{
    pthread_t thread;
    cue_ref found;
    cue_block b;
    sem_init(&gate, 0, 0);
    cr_assert(eq(int, cue_whereis(sys, "late", CUE_MS(20), &found), CUE_ENOENT));
    pthread_create(&thread, NULL, registers_later, NULL);
    sem_post(&gate);
    cr_assert(eq(int, cue_whereis(sys, "late", soon(), &found), 0));
    pthread_join(thread, NULL);
    cr_assert(eq(int, cue_tell(found, &(cue_msg){ .type = LAST }), 0));
    CUE_MUST(cue_block_alloc(cue_system_pool(sys), 8, &(cue_block_opts){ .name = "block" }, &b));
    CUE_MUST(cue_block_publish(&b, CUE_MINE));
    cr_assert(eq(int, cue_whereis(sys, "block", CUE_NOW, &found), CUE_ETYPE));
    CUE_MUST(cue_block_release(&b));
}

/* ---- lanes ---- */

static void *sends_until_dead(void *arg)
{
    cue_channel *ch = arg;
    long one = 1;
    int status;
    while ((status = cue_channel_send(ch, CUE_MSG(ADD, one), CUE_SEC(20))) == 0)
        ;
    return (void *)(intptr_t)status;
}

Test(actors, who_knows_the_name_reaches_it_by_url)
{
    char url[128];
    cue_channel *ch, *other;
    uint64_t tag;
    long five = 5;
    cue_ref who = spawn_counter("box");
    snprintf(url, sizeof url, "shm://%s/box", pool_name);
    CUE_MUST(cue_channel_open(url, CUE_SEND, NULL, &ch));
    cr_assert(eq(int, cue_channel_open(url, CUE_RECV, NULL, &other), CUE_EBUSY));
    CUE_MUST(cue_channel_send(ch, CUE_MSG(ADD, five), CUE_NOW));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = GET }));
    cue_msg m = receive();
    cr_assert(eq(long, *(const long *)m.data, 5));
    cue_msg_release(&m);
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
    down_of(tag, NULL);
    cr_assert(eq(int, cue_channel_send(ch, CUE_MSG(ADD, five), CUE_SEC(1)), CUE_EDEAD));
    CUE_MUST(cue_channel_close(ch));
}

Test(actors, who_waits_for_room_hears_of_the_end)
{
    char url[128];
    cue_channel *ch;
    pthread_t thread;
    cue_ref who;
    void *status;
    sem_init(&gate, 0, 0);
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .name = "box", .run = waits_at_gate, .depth = 2 }, &who));
    snprintf(url, sizeof url, "shm://%s/box", pool_name);
    CUE_MUST(cue_channel_open(url, CUE_SEND, NULL, &ch));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
    pthread_create(&thread, NULL, sends_until_dead, ch);
    cue_channel_info info = { 0 };
    for (int64_t until = test_now_ms() + test_ms(30000); info.queued < 2 && test_now_ms() < until; sched_yield())
        CUE_MUST(cue_channel_stat(ch, &info));
    cr_assert(eq(u64, info.queued, 2));
    sem_post(&gate);
    pthread_join(thread, &status);
    cr_assert(eq(int, (int)(intptr_t)status, CUE_EDEAD));
    CUE_MUST(cue_channel_close(ch));
}

/* ---- adopted threads ---- */

static void *is_adopted(void *arg)
{
    cue_msg m;
    cue_ref *self = arg;
    if (cue_adopt(sys, "thread", self) || cue_adopt(sys, NULL, NULL) != CUE_EBUSY)
        return arg;
    if (cue_tell(me, &(cue_msg){ .type = TELL }) || cue_receive(&m, soon()) || m.type != GET)
        return arg;
    cue_msg_release(&m);
    return NULL; /* without cue_exit */
}

Test(actors, a_thread_is_one_until_it_ends)
{
    pthread_t thread;
    cue_ref who;
    uint64_t tag;
    char name[64];
    void *failed;
    pthread_create(&thread, NULL, is_adopted, &who);
    cue_msg m = receive();
    cr_assert(cue_ref_same(m.from, who));
    CUE_MUST(cue_watch(m.from, &tag));
    CUE_MUST(cue_tell(m.from, &(cue_msg){ .type = GET }));
    cue_msg_release(&m);
    pthread_join(thread, &failed);
    cr_assert(failed == NULL);
    cr_assert(eq(int, down_of(tag, name), 0));
    cr_assert(eq(str, name, "thread"));
    cr_assert(eq(int, cue_whereis(sys, "thread", CUE_NOW, &who), CUE_ENOENT));
}

Test(actors, an_exit_reaches_a_thread_as_a_message)
{
    cue_ref who = spawn_counter(NULL);
    CUE_MUST(cue_exit(me, -5)); /* oneself: at once */
    cr_assert(cue_ref_same(cue_self(), (cue_ref){ 0 }));
    cue_msg m;
    cr_assert(eq(int, cue_receive(&m, CUE_NOW), CUE_ECONTEXT));
    cr_assert(eq(int, cue_tell(me, &(cue_msg){ .type = GET }), CUE_EDEAD));
    CUE_MUST(cue_adopt(sys, "test", &me)); /* again, under the same name */
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = GET }));
    m = receive();
    cr_assert(eq(u32, m.type, GET));
    cue_msg_release(&m);
}

/* ---- many, and the end of all ---- */

Test(actors, ten_thousand_live_and_end)
{
    enum { MANY = 10000 };
    static cue_ref all[MANY];
    cue_system_info info;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < MANY; i++)
            CUE_MUST(cue_spawn(sys, &counting, &all[i]));
        CUE_MUST(cue_system_stat(sys, &info));
        cr_assert(eq(u64, info.actors, MANY + 1));
        for (int i = 0; i < MANY; i++)
            CUE_MUST(cue_tell(all[i], &(cue_msg){ .type = LAST }));
        cr_assert(eq(int, cue_system_wait(sys, soon()), 0));
        CUE_MUST(cue_system_stat(sys, &info));
        cr_assert(eq(u64, info.actors, 1));
    }
    cr_assert(eq(u64, info.spawned, 2 * MANY + 1));
    cr_assert(eq(int, atomic_load(&ended_count), 2 * MANY));
    cue_pool_info pool;
    CUE_MUST(cue_pool_stat(cue_system_pool(sys), &pool));
    cr_assert(le(u64, pool.blocks, 3)); /* the bell, our own mailbox */
}

Test(actors, stopping_handles_what_was_sent_and_frees_the_rest)
{
    cue_block b;
    long one = 1;
    cue_ref counts = spawn_counter(NULL), mute;
    sem_init(&gate, 0, 0);
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = waits_at_gate }, &mute));
    for (int i = 0; i < 50; i++) {
        CUE_MUST(cue_tell(counts, CUE_MSG(ADD, one)));
        CUE_MUST(cue_block_alloc(cue_system_pool(sys), 5000, NULL, &b));
        CUE_MUST(cue_tell(mute, &(cue_msg){ .type = i ? ADD : LAST, .move = &b }));
        CUE_MUST(cue_block_alloc(cue_system_pool(sys), 5000, NULL, &b));
        CUE_MUST(cue_tell(me, &(cue_msg){ .type = ADD, .move = &b })); /* never received */
    }
    cue_pool *pool;
    cue_pool_info info;
    CUE_MUST(cue_pool_open(pool_name, NULL, &pool));
    sem_post(&gate);
    CUE_MUST(cue_system_stop(sys, soon()));
    sys = NULL;
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.blocks, 0));
    cr_assert(eq(int, cue_pool_check(pool, false, print_fault, NULL), 0));
    cue_pool_close(pool);
}

Test(actors, dead_letters_are_counted)
{
    cue_ref who;
    uint64_t tag;
    cue_system_info info;
    sem_init(&gate, 0, 0);
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .run = waits_at_gate }, &who));
    CUE_MUST(cue_watch(who, &tag));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
    for (int i = 0; i < 10; i++)
        CUE_MUST(cue_tell(who, &(cue_msg){ .type = ADD, .data = &i, .size = sizeof i }));
    sem_post(&gate);
    down_of(tag, NULL);
    CUE_MUST(cue_system_stat(sys, &info));
    cr_assert(eq(u64, info.dead_letters, 10));
}

Test(actors, systems_come_and_go)
{
    CUE_MUST(cue_system_stop(sys, soon()));
    int before = test_descriptors();
    for (int i = 0; i < 30; i++) {
        cue_ref who;
        uint64_t tag;
        CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = pool_name, .actors = 100 }, &sys));
        cr_assert(eq(int, cue_tell(me, &(cue_msg){ .type = ADD }), CUE_EDEAD)); /* of a former one */
        CUE_MUST(cue_adopt(sys, "test", &me));
        who = spawn_counter("x");
        CUE_MUST(cue_watch(who, &tag));
        if (i % 2)
            CUE_MUST(cue_tell(who, &(cue_msg){ .type = LAST }));
        if (i % 2)
            cr_assert(eq(int, down_of(tag, NULL), 0));
        CUE_MUST(cue_system_stop(sys, soon()));
    }
    cr_assert(eq(int, test_descriptors(), before));
    CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = pool_name, .actors = 3 }, &sys));
    cue_ref who;
    for (int i = 0; i < 3; i++)
        spawn_counter(NULL);
    cr_assert(eq(int, cue_spawn(sys, &counting, &who), CUE_ELIMIT));
}

static int fork_child(cue_ref who)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(cue_tell(who, &(cue_msg){ .type = ADD }) != CUE_EFORK ? 1 : cue_spawn(sys, &counting, NULL) != CUE_EFORK ? 2 : 0);
    int status = -1;
    waitpid(pid, &status, 0);
    return status;
}

Test(actors, a_forked_child_has_no_system)
{
    cue_ref who = spawn_counter(NULL);
    cr_assert(eq(int, fork_child(who), 0));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = GET }));
    cue_msg m = receive();
    cr_assert(eq(u32, m.type, GET));
    cue_msg_release(&m);
}

#ifndef __SANITIZE_THREAD__ /* which starts no threads after a fork */
/* Its own, on the same pool. */
static int child_starts(cue_ref who)
{
    cue_system *mine;
    cue_msg m;
    alarm(20);
    if (cue_system_start(&(cue_system_opts){ .pool = pool_name }, &mine))
        return 1;
    if (!cue_ref_same(cue_self(), (cue_ref){ 0 }) || cue_adopt(mine, NULL, NULL))
        return 2;
    if (cue_tell(who, &(cue_msg){ .type = GET }) || cue_receive(&m, CUE_SEC(15)) || m.type != GET)
        return 3;
    cue_msg_release(&m);
    return cue_system_stop(mine, CUE_SEC(30)) ? 4 : 0;
}

Test(actors, a_forked_child_may_start_its_own)
{
    cue_ref who = spawn_counter(NULL);
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = GET }));
    cue_msg m = receive();
    cue_msg_release(&m);
    pid_t pid = fork();
    if (pid == 0)
        _exit(child_starts(who));
    int status = -1;
    waitpid(pid, &status, 0);
    cr_assert(eq(int, status, 0));
    CUE_MUST(cue_tell(who, &(cue_msg){ .type = GET }));
    m = receive();
    cue_msg_release(&m);
}
#endif

/* A CUE_DOWN for which there is no room comes when there is. */
Test(actors, an_end_is_told_even_if_the_pool_is_full)
{
    uint64_t tags[40];
    cue_ref all[40];
    cue_block hogs[4096];
    size_t n = 0;
    cue_pool *pool = cue_system_pool(sys);
    for (int i = 0; i < 40; i++) {
        all[i] = spawn_counter(NULL);
        CUE_MUST(cue_watch(all[i], &tags[i]));
    }
    for (int i = 0; i < 40; i++)
        CUE_MUST(cue_tell(all[i], &(cue_msg){ .type = GET }));
    for (int i = 0; i < 40; i++) {
        cue_msg m = receive();
        cue_msg_release(&m);
    }
    for (size_t size = 4 << 20; size >= 64; size /= 2)
        while (n < 4096 && cue_block_alloc(pool, size, NULL, &hogs[n]) == 0)
            n++;
    for (int i = 0; i < 40; i++)
        cue_exit(all[i], -9); /* some find no room either: they go on */
    for (size_t i = 0; i < n; i++)
        CUE_MUST(cue_block_release(&hogs[i]));
    for (int i = 0; i < 40; i++)
        (void)!cue_exit(all[i], -9);
    for (int i = 0; i < 40; i++) {
        cue_msg m = receive();
        cr_assert(eq(u32, m.type, CUE_DOWN));
        cue_msg_release(&m);
    }
    nothing_more();
}
