/* Questions through sockets to who cannot map the asker's pool: each gets its own answer, whole and once, over every transport;
 * what ends a wait besides; answers that lie, questions that lie.
 * budget: 90 s */
#include "tests/certificates.h"
#include "tests/questions.h"
#include "tests/two_hosts.h"

#include "channels/ask.h"

#include <nng/protocol/pair1/pair.h>
#include <pthread.h>

enum { QUESTION = 7, THREADS = 4, ROUNDS = 50, LARGE = 3 << 20 };

static char url[500], theirs[64];

TestSuite(nng_ask, .init = set_up, .fini = tear_down, .timeout = 80);

static cue_channel *in, *out; /* the replier's, the asker's */

static cue_channel *open_in(cue_pool *of, unsigned how)
{
    cue_channel *ch;
    cue_channel_opts opts = { .pool = of, .linger = how == CUE_RECV ? CUE_SEC(10) : CUE_SEC(2) };
    cr_assert(eq(int, cue_channel_open(url, how, &opts, &ch), 0), "%s: %s", url, cue_trail());
    return ch;
}

static void open_both(const char *scheme)
{
    url_of(scheme, url, sizeof url);
    in = open_in(pool, CUE_RECV);
    out = open_in(far_pool, CUE_SEND);
}

static void close_both(void)
{
    cr_assert(eq(int, cue_channel_close(in), 0), "%s", cue_trail());
    int status = cue_channel_close(out); /* its last acknowledgement may have gone with the receiver */
    cr_assert(status == 0 || status == CUE_ETIMEDOUT, "%s", cue_trail());
}

static int ask(int number, cue_time wait, cue_msg *answer)
{
    return cue_channel_ask(out, &(cue_msg){ .type = QUESTION, .tag = 99, .data = &number, .size = sizeof number }, wait, answer);
}

/* Answers so many questions, each with its number plus one; then receives on until it is told to stop. */
static _Atomic int answered, enough;

static void *answer_some(void *arg)
{
    cue_msg m;
    while (answered < (int)(intptr_t)arg || !enough) {
        int status = cue_channel_recv(in, &m, CUE_MS(20));
        if (status == CUE_EEMPTY)
            continue;
        CUE_MUST(status);
        int number = number_of(&m) + 1;
        CUE_MUST(cue_reply(&m, CUE_MSG(QUESTION, number)));
        cue_msg_release(&m);
        answered++;
    }
    return NULL;
}

static pthread_t answering(int count)
{
    pthread_t thread;
    answered = enough = 0;
    cr_assert(eq(int, pthread_create(&thread, NULL, answer_some, (void *)(intptr_t)count), 0));
    return thread;
}

static void stop(pthread_t thread)
{
    enough = 1;
    pthread_join(thread, NULL);
}

static void *ask_many(void *arg)
{
    for (int i = 0; i < ROUNDS; i++) {
        cue_msg answer;
        int number = (int)(intptr_t)arg * ROUNDS + i;
        if (ask(number, CUE_SEC(60), &answer) || number_of(&answer) != number + 1 || answer.tag != 99 || answer.type != QUESTION)
            return (void *)1;
        cue_msg_release(&answer);
    }
    return NULL;
}

static void each_gets_its_own(const char *scheme)
{
    pthread_t askers[THREADS];
    open_both(scheme);
    pthread_t thread = answering(THREADS * ROUNDS);
    for (long i = 0; i < THREADS; i++)
        cr_assert(eq(int, pthread_create(&askers[i], NULL, ask_many, (void *)(intptr_t)i), 0));
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;
        pthread_join(askers[i], &wrong);
        cr_expect(wrong == NULL);
    }
    stop(thread);
    cr_expect(eq(u64, late(out), 0));
    close_both();
}

Test(nng_ask, each_gets_its_own_answer_over_ipc)
{
    each_gets_its_own("ipc");
}
Test(nng_ask, each_gets_its_own_answer_over_tcp)
{
    each_gets_its_own("tcp");
}
Test(nng_ask, each_gets_its_own_answer_over_ws)
{
    each_gets_its_own("ws");
}

Test(nng_ask, each_gets_its_own_answer_over_tls)
{
    char command[TEST_PATH + 40];
    need_tls(folder);
    int port = test_port();
    static const char format[] = "tls+tcp://127.0.0.1:%d?ca=%s/ca.pem&cert=%s/%s.pem&key=%s/%s.key%s";
    snprintf(url, sizeof url, format, port, folder, folder, "server", folder, "server", "");
    in = open_in(pool, CUE_RECV);
    snprintf(url, sizeof url, format, port, folder, folder, "client", folder, "client", "&server=localhost");
    out = open_in(far_pool, CUE_SEND);
    pthread_t thread = answering(ROUNDS);
    cr_assert(ask_many(NULL) == NULL);
    stop(thread);
    close_both();
    snprintf(command, sizeof command, "find %s -mindepth 1 -delete", folder);
    cr_assert(eq(int, system(command), 0));
}

/* ---- what an answer can be ---- */

static cue_msg answers[6];

static void *answer_all(void *arg)
{
    cue_msg m;
    cue_block b = { 0 };
    (void)arg;
    for (unsigned i = 0; i < 6; i++) {
        while (cue_channel_recv(in, &m, CUE_SEC(5)))
            ;
        if (i == 2 || i == 3 || i == 5) {
            CUE_MUST(cue_block_alloc(pool, i == 5 ? 0 : LARGE, &(cue_block_opts){ .type = 40 }, &b));
            memset(b.data, 'a' + (int)i, b.size);
            answers[i].move = &b;
        }
        CUE_MUST(cue_reply(&m, &answers[i]));
        if (answers[i].move && b.data)
            abort(); /* it has not moved */
        cue_msg_release(&m);
    }
    while (!enough)
        if (cue_channel_recv(in, &m, CUE_MS(10)) == 0)
            abort();
    return NULL;
}

Test(nng_ask, an_answer_has_bytes_or_a_block_or_both_or_nothing)
{
    pthread_t thread;
    cue_msg m;
    struct block_ref ref;
    static const uint32_t types[] = { 3, 4, 40, 6, 0, 40 };
    static const size_t lengths[] = { 5, 0, LARGE, 4, 0, 0 };
    answers[0] = (cue_msg){ .type = 3, .data = "small", .size = 5, .key = 12 };
    answers[1] = (cue_msg){ .type = 4 };
    answers[2] = (cue_msg){ .type = 0 };
    answers[3] = (cue_msg){ .type = 6, .data = "with", .size = 4 };
    answers[4] = (cue_msg){ .status = -1234 };
    open_both("tcp");
    enough = 0;
    cr_assert(eq(int, pthread_create(&thread, NULL, answer_all, NULL), 0));
    for (int i = 0; i < 6; i++) {
        int status = ask(i, CUE_SEC(40), &m);
        cr_assert(eq(int, status, i == 4 ? -1234 : 0), "%d: %s", i, cue_trail());
        cr_assert(eq(u32, m.type, types[i]));
        cr_assert(eq(u64, m.key, i == 0 ? 12 : 0));
        cr_assert(eq(sz, m.size, lengths[i]));
        if (i == 0 || i == 3)
            cr_assert(eq(int, memcmp(m.data, i ? "with" : "small", m.size), 0));
        if (i == 2 || i == 3) {
            cr_assert(eq(sz, m.block.size, LARGE));
            cr_assert(eq(int, ((char *)m.block.data)[LARGE - 1], 'a' + i));
            CUE_MUST(handle_open(&m.block, &ref));
            cr_assert(eq(ptr, ref.pool, far_pool));
            cr_assert(ref.owner);
        }
        cue_msg_release(&m);
    }
    enough = 1;
    pthread_join(thread, NULL);
    close_both();
}

/* One question, received and not answered yet; its asker waits in a thread. */
static int asked_status;
static cue_msg asked_answer;
static _Atomic bool asked_over;

static void *ask_in_thread(void *arg)
{
    asked_status = ask(1, arg ? *(cue_time *)arg : CUE_SEC(60), &asked_answer);
    asked_over = true;
    return NULL;
}

static pthread_t asked(cue_time *wait, cue_msg *question)
{
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, ask_in_thread, wait), 0));
    cr_assert(eq(int, cue_channel_recv(in, question, CUE_SEC(40)), 0), "%s", cue_trail());
    return thread;
}

Test(nng_ask, an_answer_that_is_too_large_is_refused_and_another_one_goes)
{
    cue_msg m;
    cue_block b;
    url_of("tcp", url, sizeof url);
    strcat(url, "?max=200000");
    in = open_in(pool, CUE_RECV);
    out = open_in(far_pool, CUE_SEND);
    pthread_t thread = asked(NULL, &m);
    CUE_MUST(cue_block_alloc(pool, 200001, NULL, &b));
    cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .move = &b }), CUE_ETOOBIG));
    cr_assert(b.data != NULL);
    cue_block_release(&b);
    cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .type = CUE_TYPE_SYSTEM }), CUE_ETYPE));
    cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .status = CUE_ETOOBIG }), 0));
    cue_msg_release(&m);
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, CUE_ETOOBIG));
    close_both();
}

Test(nng_ask, a_replier_that_closes_at_once_has_answered)
{
    for (int i = 0; i < 5; i++) {
        cue_msg m;
        int two = 2;
        open_both(i % 2 ? "tcp" : "ipc");
        pthread_t thread = asked(NULL, &m);
        CUE_MUST(cue_reply(&m, CUE_MSG(QUESTION, two)));
        cue_msg_release(&m);
        cr_assert(eq(int, cue_channel_close(in), 0));
        pthread_join(thread, NULL);
        cr_assert(eq(int, asked_status, 0), "%s", cue_status_name(asked_status));
        cr_assert(eq(int, number_of(&asked_answer), 2));
        cue_msg_release(&asked_answer);
        (void)!cue_channel_close(out);
    }
}

/* ---- too late ---- */

Test(nng_ask, an_answer_that_comes_too_late_is_freed_and_counted)
{
    cue_msg m;
    cue_block b;
    open_both("tcp");
    pthread_t thread = asked(&(cue_time){ CUE_MS(20).ns }, &m);
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, CUE_ETIMEDOUT));
    CUE_MUST(cue_block_alloc(pool, 100000, NULL, &b));
    cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .move = &b }), 0));
    cr_assert(b.data == NULL);
    cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .type = 1 }), 0)); /* a second one */
    cue_msg_release(&m);
    thread = answering(1);
    cr_assert(eq(int, ask(20, CUE_SEC(40), &m), 0));
    cr_assert(eq(int, number_of(&m), 21));
    cue_msg_release(&m);
    stop(thread);
    cr_assert(eq(u64, late(out), 2));
    close_both();
}

Test(nng_ask, wake_and_close_end_it)
{
    cue_msg m;
    open_both("tcp");
    pthread_t thread = asked(NULL, &m);
    cue_channel_wake(out);
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, CUE_EINTR));
    cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .type = 1 }), 0));
    cue_msg_release(&m);
    close_both();
    open_both("tcp");
    thread = asked(NULL, &m);
    (void)!cue_channel_close(out);
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, CUE_ECLOSED), "%s", cue_status_name(asked_status));
    cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .type = 1 }), 0)); /* nobody is there: no failure */
    cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_close(in), 0));
}

/* ---- deaths ---- */

/* A process on another host, with a pool of its own. */
static struct cast start_far(const char *role)
{
    strcpy(theirs, test_name("theirs"));
    setenv("CUE_POOL", theirs, 1);
    setenv("CUE_HOST_ID", "another-host", 1);
    struct cast c = cast_start(role, url);
    unsetenv("CUE_POOL");
    unsetenv("CUE_HOST_ID");
    cr_assert(eq(int, cast_hear(&c, 20000), 'r'));
    return c;
}

/* Who opens a pool that only a dead one had finds it empty. */
static void their_pool_goes(void)
{
    cue_pool *orphan;
    CUE_MUST(cue_pool_open(theirs, NULL, &orphan));
    nothing_is_left(orphan);
    cue_pool_close(orphan);
}

/* The answerer does `what` with a question that waits for ever. */
static void replier_who(const char *scheme, char what, int wanted)
{
    url_of(scheme, url, sizeof url);
    struct cast replier = start_far("answerer");
    cue_msg answer;
    cast_say(&replier, what);
    if (what != 'a')
        cast_say(&replier, 'e');
    out = open_in(pool, CUE_SEND);
    cr_assert(eq(int, ask(5, CUE_FOREVER, &answer), wanted), "%s, %c", scheme, what);
    if (!wanted)
        cr_assert(eq(int, number_of(&answer), 6));
    cue_msg_release(&answer);
    cast_kill(&replier);
    (void)!cue_channel_close(out);
    unlink(url + strlen("ipc://"));
    their_pool_goes();
}

Test(nng_ask, another_host_answers)
{
    replier_who("tcp", 'a', 0);
    replier_who("ipc", 'a', 0);
}
Test(nng_ask, a_replier_killed_with_the_question_in_hand_ends_the_wait)
{
    replier_who("tcp", 'k', CUE_EDEAD);
    replier_who("ipc", 'k', CUE_EDEAD);
}
Test(nng_ask, a_replier_killed_or_gone_without_an_answer_ends_the_wait)
{
    replier_who("tcp", 'd', CUE_EDEAD);
    replier_who("tcp", 'l', CUE_EDEAD);
}

Test(nng_ask, the_next_receiver_has_nothing_to_do_with_the_question_of_the_last)
{
    cue_msg m;
    open_both("tcp");
    pthread_t thread = asked(&(cue_time){ CUE_FOREVER.ns }, &m);
    cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_close(in), 0)); /* another one has the address at once */
    in = open_in(pool, CUE_RECV);
    pthread_t answers_now = answering(0);
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, CUE_EDEAD));
    cr_assert(eq(int, ask(8, CUE_SEC(40), &m), 0), "%s", cue_trail());
    cr_assert(eq(int, number_of(&m), 9));
    cue_msg_release(&m);
    stop(answers_now);
    close_both();
}

Test(nng_ask, a_question_that_nobody_received_waits_for_a_receiver)
{
    pthread_t thread;
    cue_time wait = CUE_FOREVER;
    url_of("tcp", url, sizeof url);
    out = open_in(far_pool, CUE_SEND);
    cr_assert(eq(int, pthread_create(&thread, NULL, ask_in_thread, &wait), 0));
    poll(NULL, 0, 300); /* longer than it looks away */
    in = open_in(pool, CUE_RECV);
    pthread_t answers_now = answering(1);
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, 0), "%s", cue_status_name(asked_status));
    cue_msg_release(&asked_answer);
    stop(answers_now);
    close_both();
}

Test(nng_ask, an_asker_that_is_killed_harms_nobody)
{
    cue_msg m;
    int two = 2;
    open_both("tcp");
    struct cast asker = start_far("asker");
    cast_say(&asker, 'q');
    cr_assert(eq(int, cue_channel_recv(in, &m, CUE_SEC(40)), 0));
    cr_assert(eq(int, cast_kill(&asker), CAST_SIGNALLED + SIGKILL));
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, cue_reply(&m, CUE_MSG(QUESTION, two)), 0));
    cue_msg_release(&m);
    pthread_t thread = answering(1);
    cr_assert(eq(int, ask(1, CUE_SEC(40), &m), 0));
    cue_msg_release(&m);
    stop(thread);
    close_both(); /* does not wait for the dead one */
    their_pool_goes();
}

/* ---- lies ---- */

/* A question whose address is that of a box in the replier's own pool. */
Test(nng_ask, a_question_that_lies_about_its_asker_reaches_nobody_else)
{
    cue_msg m;
    cue_block decoy;
    struct block_ref ref;
    open_both("tcp");
    CUE_MUST(cue_block_alloc(pool, 64, NULL, &decoy));
    CUE_MUST(handle_open(&decoy, &ref));
    const cue_ref lies[] = { { ASK_NODE, (uint32_t)pool->uid, ref.index, (uint32_t)ref.generation },
                             { ASK_NODE, (uint32_t)far_pool->uid, 0, 0 },
                             { ASK_NODE, 1, UINT32_MAX, UINT32_MAX } };
    for (unsigned i = 0; i < 3; i++) {
        CUE_MUST(cue_channel_send(out, &(cue_msg){ .type = QUESTION, .tag = 5, .from = lies[i] }, CUE_SEC(20)));
        cr_assert(eq(int, cue_channel_recv(in, &m, CUE_SEC(40)), 0));
        cr_assert(eq(int, cue_reply(&m, &(cue_msg){ .type = 1, .data = "x", .size = 1 }), 0));
        cue_msg_release(&m);
    }
    pthread_t thread = answering(0);
    for (int i = 0; i < test_ms(20000) && late(out) < 3; i++)
        poll(NULL, 0, 1);
    cr_assert(eq(u64, late(out), 3));
    stop(thread);
    cue_block_release(&decoy);
    close_both();
}

/* A replier that is a liar, by NNG itself: it has the question and where to answer. */
struct liar {
    nng_socket sock;
    nng_pipe back;
    struct wire_head hello;
    uint64_t tag;
    cue_ref box;
    uint64_t number;
};

static void throw_packet(const struct liar *liar, const struct wire_head *head, const void *more, size_t bytes)
{
    char at[WIRE_HEAD_MAX];
    size_t size = wire_write_head(head, at, sizeof at);
    nng_msg *m;
    cr_assert(eq(int, nng_msg_alloc(&m, size + bytes), 0));
    memcpy(nng_msg_body(m), at, size);
    if (bytes)
        memcpy((char *)nng_msg_body(m) + size, more, bytes);
    nng_msg_set_pipe(m, liar->back);
    cr_assert(eq(int, nng_sendmsg(liar->sock, m, 0), 0));
}

static void throw_answer(struct liar *liar, uint64_t session, const struct wire_item *item)
{
    char at[1000];
    struct wire_head head = {
        .kind = WIRE_ANSWER, .channel = liar->hello.channel, .number = ++liar->number, .session = session, .count = 1
    };
    throw_packet(liar, &head, at, wire_write_item(item, at, sizeof at));
    poll(NULL, 0, 3); /* one is kept at a time, who comes meanwhile is dropped: each shall be looked at */
}

/* Until it has the question. */
static void listen_to(struct liar *liar)
{
    while (!liar->tag) {
        nng_msg *m;
        struct wire_head head;
        struct wire_item item;
        cr_assert(eq(int, nng_recvmsg(liar->sock, &m, 0), 0));
        struct cursor at = cursor_over(nng_msg_body(m), nng_msg_len(m));
        cr_assert(wire_read_head(&at, &head));
        if (head.kind == WIRE_HELLO)
            liar->hello = head;
        if (head.kind == WIRE_BACK)
            liar->back = nng_msg_get_pipe(m);
        if (head.kind == WIRE_BATCH && wire_read_item(&at, &item)) {
            liar->tag = item.tag;
            liar->box = item.from;
        }
        nng_msg_free(m);
        if (liar->hello.channel && liar->back.id > 0) {
            struct wire_head ack = { .kind = WIRE_ACK,
                                     .channel = liar->hello.channel,
                                     .incarnation = liar->hello.incarnation,
                                     .number = liar->tag ? 1 : 0,
                                     .max = 1000000,
                                     .session = 4 };
            throw_packet(liar, &ack, NULL, 0);
        }
    }
}

Test(nng_ask, answers_that_lie_are_nobodys)
{
    struct liar liar = { 0 };
    pthread_t thread;
    url_of("tcp", url, sizeof url);
    cr_assert(eq(int, nng_pair1_open_poly(&liar.sock), 0));
    nng_socket_set_ms(liar.sock, NNG_OPT_RECVTIMEO, test_ms(20000));
    cr_assert(eq(int, nng_listen(liar.sock, url, NULL, 0), 0));
    out = open_in(far_pool, CUE_SEND);
    cr_assert(eq(int, pthread_create(&thread, NULL, ask_in_thread, NULL), 0));
    listen_to(&liar);
    const struct wire_item right = { .type = 1, .tag = liar.tag, .from = liar.box, .has_bytes = true, .bytes = "x", .nbytes = 1 };
    struct wire_item lies[12];
    for (unsigned i = 0; i < 12; i++)
        lies[i] = right;
    lies[0].tag++;
    lies[1].tag = 0;
    lies[2].from.index++;
    lies[3].from.generation++;
    lies[4].from.process++;
    lies[5].from.node = 1; /* an actor */
    lies[6].type = CUE_TYPE_SYSTEM + 1;
    lies[7].what = WIRE_MOVED;
    lies[8].what = WIRE_VIEWED;
    lies[9].what = WIRE_GONE;
    lies[10].what = WIRE_CARRIED; /* in chunks that never came */
    lies[10].size = 1 << 20;
    lies[11].what = WIRE_CARRIED;
    lies[11].payload = "y";
    lies[11].size = 1;
    lies[11].block_type = CUE_TYPE_SYSTEM + 5;
    for (unsigned i = 0; i < 12; i++)
        throw_answer(&liar, 4, &lies[i]);
    struct wire_head stranger = { .kind = WIRE_ANSWER, .channel = liar.hello.channel + 1, .number = 1, .session = 4, .count = 0 };
    throw_packet(&liar, &stranger, NULL, 0);
    struct wire_head empty = { .kind = WIRE_ANSWER, .channel = liar.hello.channel, .number = UINT64_MAX, .session = 9, .count = 0 };
    throw_packet(&liar, &empty, NULL, 0);
    throw_packet(&liar, &(struct wire_head){ .kind = WIRE_HEARD, .channel = liar.hello.channel, .number = 1 }, NULL, 0);
    cr_assert(ge(u64, late(out), 1)); /* some were looked at; and the asker still waits */
    for (int i = 0; i < 1000 && !asked_over; i++) {
        throw_answer(&liar, 5 + (uint64_t)i % 2, &right); /* once right, and again and again */
        poll(NULL, 0, 10);
    }
    pthread_join(thread, NULL);
    cr_assert(eq(int, asked_status, 0), "%s", cue_status_name(asked_status));
    cr_assert(eq(u32, asked_answer.type, 1));
    cr_assert(eq(u64, asked_answer.tag, 99));
    cr_assert(eq(int, *(const char *)asked_answer.data, 'x'));
    cue_msg_release(&asked_answer);
    nng_close(liar.sock);
    (void)!cue_channel_close(out);
}

/* Nobody is there, so the window stays full. */
Test(nng_ask, a_full_lane_refuses_a_question_also_where_it_drops)
{
    cue_msg answer;
    int one = 1;
    url_of("ipc", url, sizeof url);
    cue_channel_opts opts = { .pool = far_pool, .depth = 1, .full = CUE_DROP_NEW, .linger = CUE_NS(-1) };
    CUE_MUST(cue_channel_open(url, CUE_SEND, &opts, &out));
    CUE_MUST(cue_channel_send(out, CUE_MSG(QUESTION, one), CUE_NOW));
    CUE_MUST(cue_channel_send(out, CUE_MSG(QUESTION, one), CUE_NOW)); /* dropped */
    cr_assert(eq(int, cue_channel_ask(out, CUE_MSG(QUESTION, one), CUE_MS(1), &answer), CUE_EFULL));
    cr_assert(eq(int, cue_channel_close(out), CUE_ETIMEDOUT));
}
