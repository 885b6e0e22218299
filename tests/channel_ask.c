/* Questions and answers: who gets which, what becomes of those that come too late, and what ends a wait. */
#include "tests/questions.h"

#include <cuelight/actor.h>
#include <cuelight/channel.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>

enum { QUESTION = 1, THREADS = 4, ROUNDS = 200 };

static char url[128];
static const char *pool_name;
static cue_pool *pool;
static cue_channel *in, *out;

static const char *lane(const char *rest)
{
    snprintf(url, sizeof url, "shm://%s/%s", pool_name, rest);
    return url;
}

static void setup(void)
{
    pool_name = test_name("ask");
    CUE_MUST(cue_pool_open(pool_name, &(cue_pool_opts){ .size = 16 << 20 }, &pool));
    in = out = NULL;
}

static void open_out(const char *rest)
{
    CUE_MUST(cue_channel_open(lane(rest), CUE_SEND, NULL, &out));
}
static void open_both(const char *rest)
{
    CUE_MUST(cue_channel_open(lane(rest), CUE_RECV, NULL, &in));
    open_out(rest);
}

static void say_fault(void *arg, const char *fault)
{
    (void)arg;
    fprintf(stderr, "fault: %s\n", fault);
}

/* Nothing may be left: no question, no answer, no box, no lane. */
static void teardown(void)
{
    cue_msg m;
    cue_pool_info info;
    while (in && cue_channel_recv(in, &m, CUE_NOW) == 0)
        cue_msg_release(&m);
    cue_channel_close(out);
    cue_channel_close(in);
    cr_expect(eq(int, cue_pool_check(pool, true, say_fault, NULL), 0));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_expect(eq(u64, info.blocks, 0));
    cue_pool_close(pool);
    cr_expect(eq(int, test_leftovers(pool_name), 0));
}

TestSuite(channel_ask, .init = setup, .fini = teardown);

/* Answers `count` questions, each with its number plus one and the same tag's half. */
static void *answer_some(void *arg)
{
    cue_msg m;
    for (long count = (long)(intptr_t)arg; count > 0; count--) {
        CUE_MUST(cue_channel_recv(in, &m, CUE_FOREVER));
        int number = number_of(&m) + 1;
        CUE_MUST(cue_reply(&m, CUE_MSG(QUESTION, number)));
        cue_msg_release(&m);
    }
    return NULL;
}

static pthread_t answering(long count)
{
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, answer_some, (void *)(intptr_t)count), 0));
    return thread;
}

Test(channel_ask, answer_comes_back_with_its_tag)
{
    cue_msg answer;
    int seven = 7;
    open_both("lane");
    pthread_t thread = answering(1);
    cr_assert(
        eq(int, cue_channel_ask(out, &(cue_msg){ .type = QUESTION, .tag = 99, .data = &seven, .size = sizeof seven }, CUE_SEC(20), &answer),
           0));
    cr_assert(eq(int, number_of(&answer), 8));
    cr_assert(eq(u64, answer.tag, 99));
    cr_assert(eq(u32, answer.type, QUESTION));
    cue_msg_release(&answer);
    pthread_join(thread, NULL);
    cr_assert(eq(u64, late(out), 0));
}

static void *ask_many(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        cue_msg answer;
        int number = (int)(intptr_t)arg * ROUNDS + i;
        CUE_MUST(cue_channel_ask(out, CUE_MSG(QUESTION, number), CUE_SEC(60), &answer));
        if (number_of(&answer) != number + 1)
            return (void *)1;
        cue_msg_release(&answer);
    }
    return NULL;
}

Test(channel_ask, each_thread_gets_the_answer_to_its_own_question)
{
    pthread_t askers[THREADS];
    open_both("lane");
    pthread_t thread = answering(THREADS * ROUNDS);
    for (long i = 0; i < THREADS; i++)
        cr_assert(eq(int, pthread_create(&askers[i], NULL, ask_many, (void *)(intptr_t)i), 0));
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;
        pthread_join(askers[i], &wrong);
        cr_expect(wrong == NULL);
    }
    pthread_join(thread, NULL);
}

Test(channel_ask, answer_carries_a_block)
{
    cue_msg m;
    open_both("lane");
    struct cast asker = cast_start("asker", lane("lane"));
    cr_assert(eq(int, cast_hear(&asker, 10000), 'r'));
    cast_say(&asker, 'q');
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_SEC(20)), 0));
    cue_block block;
    CUE_MUST(cue_block_alloc(pool, sizeof(int), &(cue_block_opts){ .type = QUESTION }, &block));
    *(int *)block.data = number_of(&m) + 1;
    cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .move = &block }), 0));
    cr_assert(block.data == NULL); /* it has moved */
    cr_assert(eq(int, cast_hear(&asker, 20000), 'a'));
    cue_msg_release(&m);
    cast_say(&asker, 'e');
    cr_assert(eq(int, cast_wait(&asker, 10000), 0));
}

Test(channel_ask, what_was_told_cannot_be_answered)
{
    cue_msg m;
    int one = 1;
    open_both("lane");
    CUE_MUST(cue_channel_send(out, CUE_MSG(QUESTION, one), CUE_NOW));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_assert(eq(int, cue_reply(&m, CUE_MSG(QUESTION, one)), CUE_EINVAL));
    cue_msg_release(&m);
}

static void *refuse_one(void *arg)
{
    cue_msg m;
    (void)arg;
    CUE_MUST(cue_channel_recv(in, &m, CUE_FOREVER));
    CUE_MUST(cue_reply(&m, &(cue_msg){ .status = -1234 }));
    cue_msg_release(&m);
    return NULL;
}

Test(channel_ask, a_negative_status_is_what_ask_returns)
{
    cue_msg answer;
    pthread_t thread;
    int one = 1;
    open_both("lane");
    cr_assert(eq(int, pthread_create(&thread, NULL, refuse_one, NULL), 0));
    cr_assert(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_SEC(20), &answer), -1234));
    cue_msg_release(&answer);
    pthread_join(thread, NULL);
}

static void by_kind(const char *rest)
{
    cue_msg answer, question;
    int five = 5;
    open_both(rest);
    pthread_t thread = answering(100);
    for (int i = 0; i < 100; i++) {
        cr_assert(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, i), CUE_SEC(20), &answer), 0));
        cr_assert(eq(int, number_of(&answer), i + 1));
        cue_msg_release(&answer);
    }
    pthread_join(thread, NULL);
    cr_assert(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, five), CUE_MS(1), &answer), CUE_ETIMEDOUT));
    CUE_MUST(cue_channel_recv(in, &question, CUE_NOW));
    cr_assert(eq(int, cue_reply(&question, CUE_MSG(QUESTION, five)), 0));
    cue_msg_release(&question);
    cr_assert(eq(u64, late(in), 1));
}

Test(channel_ask, through_a_queue)
{
    by_kind("jobs?kind=queue");
}
Test(channel_ask, through_a_queue_that_redelivers)
{
    by_kind("jobs?kind=queue&redeliver=2");
}
Test(channel_ask, through_a_stream)
{
    by_kind("pipe?kind=stream");
}

Test(channel_ask, a_topic_has_no_answers)
{
    cue_msg answer, m = { .type = QUESTION };
    CUE_MUST(cue_channel_open(lane("news?kind=topic"), CUE_SEND, NULL, &out));
    cr_assert(eq(int, cue_channel_ask(out, &m, CUE_NOW, &answer), CUE_ENOSYS));
}

/* ---- too late ---- */

Test(channel_ask, late_answer_is_freed_and_counted_and_never_meets_another_question)
{
    cue_msg question, answer;
    cue_block block;
    int one = 1, two = 2;
    open_both("lane");
    cr_assert(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_MS(1), &answer), CUE_ETIMEDOUT));
    cr_assert(answer.data == NULL);
    CUE_MUST(cue_channel_recv(in, &question, CUE_NOW));
    cr_assert(eq(int, number_of(&question), 1));
    CUE_MUST(cue_block_alloc(pool, 100000, NULL, &block));
    cr_assert(eq(int, cue_reply(&question, &(cue_msg){ .move = &block }), 0)); /* nobody waits: no failure */
    cr_assert(block.data == NULL);                                             /* and it is freed, see teardown */
    cue_msg_release(&question);
    cr_assert(eq(u64, late(in), 1));
    pthread_t thread = answering(1);
    cr_assert(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, two), CUE_SEC(20), &answer), 0));
    cr_assert(eq(int, number_of(&answer), 3));
    cue_msg_release(&answer);
    pthread_join(thread, NULL);
}

static void *answer_twice(void *arg)
{
    cue_msg m;
    (void)arg;
    for (int i = 0; i < 3; i++) {
        CUE_MUST(cue_channel_recv(in, &m, CUE_FOREVER));
        int number = number_of(&m) + 1;
        for (int times = 0; times < 8; times++) /* more than its box holds */
            CUE_MUST(cue_reply(&m, CUE_MSG(QUESTION, number)));
        cue_msg_release(&m);
    }
    return NULL;
}

Test(channel_ask, second_answer_is_not_the_answer_to_the_next_question)
{
    cue_msg answer;
    pthread_t thread;
    open_both("lane");
    cr_assert(eq(int, pthread_create(&thread, NULL, answer_twice, NULL), 0));
    for (int i = 10; i < 13; i++) {
        cr_assert(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, i), CUE_SEC(20), &answer), 0));
        cr_expect(eq(int, number_of(&answer), i + 1));
        cue_msg_release(&answer);
    }
    pthread_join(thread, NULL);
    cr_expect(ge(u64, late(out), 1));
}

/* ---- deaths ---- */

/* The answerer does `what` with a question that waits for ever. */
static int ask_one_who(const char *rest, char what)
{
    cue_msg answer;
    int one = 1;
    struct cast server = cast_start("answerer", lane(rest));
    cr_assert(eq(int, cast_hear(&server, 10000), 'r'));
    open_out(rest);
    cast_say(&server, what);
    int status = cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_FOREVER, &answer);
    cue_msg_release(&answer);
    cast_kill(&server);
    return status;
}

/* Each of them is killed with it; the queue gives it out twice. The last one finds that it was given out too often. */
static int ask_many_who_die(void)
{
    cue_msg answer;
    int one = 1;
    struct cast workers[3];
    for (int i = 0; i < 3; i++) {
        workers[i] = cast_start("answerer", lane("jobs?kind=queue&redeliver=1"));
        cr_assert(eq(int, cast_hear(&workers[i], 10000), 'r'));
        cast_say(&workers[i], 'k');
    }
    open_out("jobs");
    int status = cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_FOREVER, &answer);
    cue_msg_release(&answer);
    for (int i = 0; i < 3; i++)
        cast_kill(&workers[i]);
    CUE_MUST(cue_channel_open(lane("jobs"), CUE_RECV, NULL, &in)); /* teardown finds it empty */
    return status;
}

Test(channel_ask, replier_killed_with_the_question_in_hand_ends_the_wait)
{
    cr_assert(eq(int, ask_one_who("lane", 'k'), CUE_EDEAD));
}
Test(channel_ask, worker_of_a_queue_killed_with_the_question_in_hand_ends_the_wait)
{
    cr_assert(eq(int, ask_one_who("jobs?kind=queue", 'k'), CUE_EDEAD));
}
Test(channel_ask, question_that_nobody_survives_ends_the_wait)
{
    cr_assert(eq(int, ask_many_who_die(), CUE_EDEAD));
}

Test(channel_ask, question_given_out_again_is_answered_by_the_next_worker)
{
    struct cast first = cast_start("answerer", lane("jobs?kind=queue&redeliver=1"));
    cr_assert(eq(int, cast_hear(&first, 10000), 'r'));
    struct cast asker = cast_start("asker", lane("jobs"));
    cr_assert(eq(int, cast_hear(&asker, 10000), 'r'));
    cast_say(&first, 'k');
    cast_say(&asker, 'q');
    cr_assert(eq(int, cast_wait(&first, 20000), CAST_SIGNALLED + SIGKILL));
    struct cast second = cast_start("answerer", lane("jobs"));
    cr_assert(eq(int, cast_hear(&second, 10000), 'r'));
    cast_say(&second, 'a');
    cr_assert(eq(int, cast_hear(&asker, 20000), 'a'));
    cast_say(&asker, 'e');
    cast_say(&second, 'e');
    cr_assert(eq(int, cast_wait(&asker, 10000), 0));
    cr_assert(eq(int, cast_wait(&second, 10000), 0));
    open_both("jobs"); /* teardown finds it empty */
}

Test(channel_ask, replier_killed_after_it_let_the_question_go_ends_the_wait)
{
    cr_assert(eq(int, ask_one_who("lane", 'd'), CUE_EDEAD));
}

Test(channel_ask, replier_that_exits_without_an_answer_ends_the_wait)
{
    struct cast server = cast_start("answerer", lane("lane"));
    cue_msg answer;
    int one = 1;
    cr_assert(eq(int, cast_hear(&server, 10000), 'r'));
    open_out("lane");
    cast_say(&server, 'h');
    cast_say(&server, 'e');
    cr_assert(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_FOREVER, &answer), CUE_EDEAD));
    cr_assert(eq(int, cast_wait(&server, 10000), 0));
}

Test(channel_ask, question_that_nobody_received_waits_for_the_next_receiver)
{
    struct cast server = cast_start("answerer", lane("lane"));
    cr_assert(eq(int, cast_hear(&server, 10000), 'r'));
    struct cast asker = cast_start("asker", lane("lane"));
    cr_assert(eq(int, cast_hear(&asker, 10000), 'r'));
    open_out("lane");
    cast_say(&asker, 'q');
    for (cue_channel_info info = { 0 }; info.queued == 0; sched_yield())
        CUE_MUST(cue_channel_stat(out, &info));
    cr_assert(eq(int, cast_kill(&server), CAST_SIGNALLED + SIGKILL)); /* it never took it */
    struct cast next = cast_start("answerer", lane("lane"));
    cr_assert(eq(int, cast_hear(&next, 10000), 'r'));
    cast_say(&next, 'a');
    cr_assert(eq(int, cast_hear(&asker, 20000), 'a'));
    cast_say(&asker, 'e');
    cast_say(&next, 'e');
    cr_assert(eq(int, cast_wait(&asker, 10000), 0));
    cr_assert(eq(int, cast_wait(&next, 10000), 0));
}

Test(channel_ask, asker_killed_its_answer_is_a_dead_letter)
{
    cue_msg m;
    int two = 2;
    open_both("lane");
    struct cast asker = cast_start("asker", lane("lane"));
    cr_assert(eq(int, cast_hear(&asker, 10000), 'r'));
    cast_say(&asker, 'q');
    CUE_MUST(cue_channel_recv(in, &m, CUE_SEC(20)));
    cr_assert(eq(int, cast_kill(&asker), CAST_SIGNALLED + SIGKILL));
    cr_assert(eq(int, cue_reply(&m, CUE_MSG(QUESTION, two)), 0));
    cue_msg_release(&m); /* the rest: see teardown */
}

/* ---- wake, close, full lanes ---- */

static void *ask_for_ever(void *arg)
{
    cue_msg answer;
    int one = 1;
    (void)arg;
    int status = cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_FOREVER, &answer);
    return (void *)(intptr_t)status;
}

static pthread_t asking_for_ever(void)
{
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, ask_for_ever, NULL), 0));
    for (cue_channel_info info = { 0 }; info.queued == 0; sched_yield())
        CUE_MUST(cue_channel_stat(in, &info));
    return thread;
}

static int result_of(pthread_t thread)
{
    void *result = NULL;
    pthread_join(thread, &result);
    return (int)(intptr_t)result;
}

Test(channel_ask, wake_ends_it)
{
    open_both("lane");
    pthread_t thread = asking_for_ever();
    cue_channel_wake(out);
    cr_assert(eq(int, result_of(thread), CUE_EINTR));
}

Test(channel_ask, close_ends_it)
{
    open_both("lane");
    pthread_t thread = asking_for_ever();
    cue_channel *closing = out;
    out = NULL;
    cr_assert(eq(int, cue_channel_close(closing), 0));
    cr_assert(eq(int, result_of(thread), CUE_ECLOSED));
}

Test(channel_ask, full_lane_refuses_also_where_it_drops)
{
    cue_msg answer;
    int one = 1;
    open_both("fail?depth=1&full=fail");
    CUE_MUST(cue_channel_send(out, CUE_MSG(QUESTION, one), CUE_NOW));
    cr_expect(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_MS(1), &answer), CUE_EFULL));
    cue_msg m;
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cue_msg_release(&m);
    cue_channel_close(in);
    cue_channel_close(out);
    open_both("new?depth=1&full=drop-new");
    CUE_MUST(cue_channel_send(out, CUE_MSG(QUESTION, one), CUE_NOW));
    cr_expect(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_MS(1), &answer), CUE_EFULL));
}

Test(channel_ask, question_dropped_as_the_oldest_is_told)
{
    cue_msg m;
    int two = 2;
    open_both("old?depth=1&full=drop-old");
    pthread_t thread = asking_for_ever();
    CUE_MUST(cue_channel_send(out, CUE_MSG(QUESTION, two), CUE_NOW));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW)); /* which drops what is before it */
    cr_expect(eq(int, number_of(&m), 2));
    cue_msg_release(&m);
    cr_assert(eq(int, result_of(thread), CUE_EFULL));
}

/* ---- actors ---- */

static int plus_one(void *state, cue_msg *m)
{
    int number = number_of(m) + 1;
    (void)state;
    return number == 101 ? -2000 : number == 201 ? CUE_STOP : cue_reply(m, CUE_MSG(QUESTION, number));
}

Test(channel_ask, an_actor_answers_those_who_know_its_url)
{
    cue_system *sys;
    cue_ref ref;
    cue_msg answer;
    int one = 1, failing = 100, stopping = 200;
    CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = pool_name }, &sys));
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .name = "adder", .run = plus_one }, &ref));
    open_out("adder");
    cr_expect(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_SEC(20), &answer), 0));
    cr_expect(eq(int, number_of(&answer), 2));
    cue_msg_release(&answer);
    cr_expect(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, failing), CUE_SEC(20), &answer), CUE_EFAILED));
    cue_msg_release(&answer);
    cr_expect(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_SEC(20), &answer), CUE_EDEAD)); /* it has ended */
    cue_channel_close(out);
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .name = "stopper", .run = plus_one }, &ref));
    open_out("stopper");
    cr_expect(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, stopping), CUE_MS(50), &answer), CUE_ETIMEDOUT));
    cue_channel_close(out);
    out = NULL;
    cr_expect(eq(int, cue_system_stop(sys, CUE_SEC(10)), 0));
}

/* ---- what makes no sense ---- */

Test(channel_ask, bad_arguments)
{
    cue_msg answer, m = { .type = QUESTION };
    int one = 1;
    open_both("lane");
    cr_expect(eq(int, cue_channel_ask(NULL, &m, CUE_NOW, &answer), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_ask(out, NULL, CUE_NOW, &answer), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_ask(out, &m, CUE_NOW, NULL), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_ask(in, &m, CUE_NOW, &answer), CUE_EINVAL));
    cr_expect(eq(int, cue_reply(NULL, &m), CUE_EINVAL));
    cr_expect(eq(int, cue_reply(&m, NULL), CUE_EINVAL));
    cr_expect(eq(int, cue_reply(&m, &m), CUE_EINVAL)); /* from nobody */
    m.from = (cue_ref){ UINT32_MAX, 12345, 1, 1 };
    cr_expect(eq(int, cue_reply(&m, CUE_MSG(QUESTION, one)), CUE_EREMOTE)); /* of a pool that is not open here */
    cue_msg question;
    cr_expect(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_NOW, &answer), CUE_ETIMEDOUT));
    CUE_MUST(cue_channel_recv(in, &question, CUE_NOW));
    cue_ref forged[] = { { UINT32_MAX, question.from.process, UINT32_MAX, 1 },
                         { UINT32_MAX, question.from.process, 1, 1 },
                         { UINT32_MAX, question.from.process, question.from.index, question.from.generation + 1 } };
    for (unsigned i = 0; i < sizeof forged / sizeof *forged; i++) {
        question.from = forged[i];
        cr_expect(eq(int, cue_reply(&question, CUE_MSG(QUESTION, one)), 0)); /* nobody there: a dead letter */
    }
    cue_msg_release(&question);
}
