/* Taps: copies of what passes through a lane of any kind, which hold up nobody. */
#include "channels/tap_layout.h"
#include "pool/pool_internal.h"

#include "tests/cast/numbered.h"
#include "tests/one_lane.h"

#include <cuelight/actor.h>

static const char *const kinds[] = { "a", "b?kind=queue", "c?kind=stream", "d?kind=topic" };
enum { KINDS = 4, NOTHING = CUE_EEMPTY - 1000 };

static void setup(void)
{
    open_pool("tap");
}

TestSuite(tap, .init = setup, .fini = teardown, .timeout = 60);

static cue_channel *tap_with(const char *rest, const cue_channel_opts *opts)
{
    cue_channel *ch;
    CUE_MUST(cue_channel_open(lane(rest), CUE_TAP, opts, &ch));
    return ch;
}

static cue_channel *tap(const char *rest)
{
    return tap_with(rest, NULL);
}

static void close_both(void)
{
    cue_channel_close(in);
    cue_channel_close(out);
    in = out = NULL;
}

static const char *name_of(const char *rest)
{
    static char name[16];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(rest, "?"), rest);
    return name;
}

Test(tap, sees_what_is_sent_through_every_kind)
{
    for (int k = 0; k < KINDS; k++) {
        open_both(kinds[k]);
        cr_assert(eq(int, send_int(out, 1), 0));
        cue_channel *on = tap(name_of(kinds[k]));
        for (int value = 2; value < 100; value++)
            cr_assert(eq(int, send_int(out, value), 0));
        for (int value = 1; value < 100; value++)
            cr_assert(eq(int, recv_int(in), value), "%s", kinds[k]);
        for (int value = 2; value < 100; value++)
            cr_assert(eq(int, recv_int(on), value), "%s", kinds[k]);
        cr_expect(eq(int, recv_int(on), NOTHING));
        cr_expect(eq(u64, stat_of(on).gaps, 0));
        cr_expect(eq(u32, stat_of(on).kind, stat_of(in).kind));
        cue_channel_close(on);
        cr_assert(eq(int, send_int(out, 100), 0)); /* as if nothing had been */
        cr_assert(eq(int, recv_int(in), 100));
        close_both();
    }
}

Test(tap, says_all_of_a_message_and_who_sent_it)
{
    for (int k = 0; k < KINDS; k++) {
        open_both(kinds[k]);
        cue_channel *on = tap(name_of(kinds[k]));
        cue_ref from = { 1, 2, 3, 4 };
        int64_t before = cue_now().ns;
        cue_msg m;
        cue_tapped about;
        CUE_MUST(cue_channel_send(out, &(cue_msg){ .type = 7, .status = -5, .tag = 8, .key = 9, .from = from, .data = "hello", .size = 5 },
                                  CUE_NOW));
        CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
        cr_expect(eq(u32, m.type, 7));
        cr_expect(eq(int, m.status, -5));
        cr_expect(eq(u64, m.tag, 8));
        cr_expect(eq(u64, m.key, 9));
        cr_expect(cue_ref_same(m.from, from));
        cr_expect(eq(sz, m.size, 5));
        cr_expect(memcmp(m.data, "hello", 5) == 0);
        cr_expect(eq(u64, (uintptr_t)m.data % 16, 0));
        CUE_MUST(cue_msg_tapped(&m, &about));
        cr_expect(eq(u64, about.size, 5));
        cr_expect(eq(u64, about.block, 0));
        cr_expect(eq(u32, about.flags, 0));
        cr_expect(eq(int, about.pid, getpid()));
        cr_expect(gt(u32, about.party, 0));
        cr_expect(about.sent.ns >= before && about.sent.ns <= cue_now().ns);
        cue_msg_release(&m);
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cr_expect(eq(int, cue_msg_tapped(&m, &about), CUE_ENOSYS), "it is no copy");
        cue_msg_release(&m);
        cue_channel_close(on);
        close_both();
    }
}

/* The first bytes of what moves; the receiver gets it all the same. */
Test(tap, shows_the_beginning_of_what_is_long_or_moves)
{
    for (int k = 0; k < KINDS; k++) {
        open_both(kinds[k]);
        cue_channel *little = tap_with(name_of(kinds[k]), &(cue_channel_opts){ .max = 16 }), *on = tap(name_of(kinds[k]));
        cue_block block;
        cue_msg m;
        cue_tapped about;
        CUE_MUST(cue_block_alloc(pool, 100000, &(cue_block_opts){ .type = 9 }, &block));
        memset(block.data, 'x', block.size);
        void *data = block.data;
        CUE_MUST(cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW));
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cr_expect(m.data == data, "no copy for the receiver");
        if (strstr(kinds[k], "topic") == NULL)
            memset(m.block.data, 'y', m.block.size); /* it is the receiver's now */
        cue_msg_release(&m);
        for (int i = 0; i < 2; i++) {
            CUE_MUST(cue_channel_recv(i ? on : little, &m, CUE_NOW));
            cr_expect(eq(u32, m.type, 9));
            cr_assert(eq(sz, m.size, i ? 4096 : 16));
            const char *bytes = m.data;
            cr_expect(bytes[0] == 'x' && bytes[m.size - 1] == 'x');
            cr_expect(m.block.data == NULL);
            CUE_MUST(cue_msg_tapped(&m, &about));
            cr_expect(eq(u64, about.size, 0));
            cr_expect(eq(u64, about.block, 100000));
            cr_expect(eq(u32, about.flags, CUE_TAPPED_BLOCK));
            cue_msg_release(&m);
        }
        cue_channel_close(little);
        char many[10000];
        memset(many, 'z', sizeof many);
        CUE_MUST(cue_channel_send(out, &(cue_msg){ .type = 1, .data = many, .size = sizeof many }, CUE_NOW));
        CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
        cr_expect(eq(sz, m.size, 4096));
        CUE_MUST(cue_msg_tapped(&m, &about));
        cr_expect(eq(u64, about.size, sizeof many));
        cue_msg_release(&m);
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cue_msg_release(&m);
        cue_channel_close(on);
        close_both();
    }
}

Test(tap, view_that_goes_along_is_shown)
{
    open_both("a");
    cue_channel *on = tap("a");
    cue_block block, view;
    cue_msg m;
    cue_tapped about;
    CUE_MUST(cue_block_alloc(pool, 1000, &(cue_block_opts){ .type = 3, .id = 4 }, &block));
    memset(block.data, 'v', block.size);
    CUE_MUST(cue_block_publish(&block, CUE_MINE));
    CUE_MUST(cue_block_view(&block, 10, 100, &view));
    CUE_MUST(cue_channel_send(out, &(cue_msg){ .move = &view }, CUE_NOW));
    CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
    cr_expect(eq(sz, m.size, 100));
    CUE_MUST(cue_msg_tapped(&m, &about));
    cr_expect(eq(u32, about.flags, CUE_TAPPED_VIEW));
    cue_msg_release(&m);
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_expect(eq(int, m.status, 0));
    cue_msg_release(&m);
    cue_block_free(&block);
    cue_channel_close(on);
}

Test(tap, shows_batches_in_order)
{
    enum { MANY = 100 };
    static int values[MANY];
    static cue_msg batch[MANY];
    for (int i = 0; i < MANY; i++) {
        values[i] = i;
        batch[i] = (cue_msg){ .type = 1, .data = &values[i], .size = sizeof values[i] };
    }
    for (int k = 0; k < KINDS; k++) {
        open_both(kinds[k]);
        cue_channel *on = tap(name_of(kinds[k]));
        cr_assert(eq(int, cue_channel_send_many(out, batch, MANY, CUE_NOW), MANY), "%s", kinds[k]);
        for (int i = 0; i < MANY; i++) {
            cr_assert(eq(int, recv_int(on), i));
            cr_assert(eq(int, recv_int(in), i));
        }
        cue_channel_close(on);
        close_both();
    }
}

/* What did not go is not shown: refused, dropped as new, made no sense. */
Test(tap, shows_only_what_was_sent)
{
    static const char *const full[] = { "a?depth=2", "b?kind=queue&depth=2", "c?kind=stream&depth=2", "d?kind=topic&depth=2" };
    static const char *const dropping[] = { "e?depth=2&full=drop-new", "f?kind=queue&depth=2&full=drop-new",
                                            "g?kind=stream&depth=2&full=drop-new" };
    for (int k = 0; k < KINDS; k++) {
        open_both(full[k]);
        cue_channel *on = tap(name_of(full[k]));
        for (int value = 1; value <= 4; value++)
            cr_assert(eq(int, send_int(out, value), value <= 2 ? 0 : CUE_EFULL), "%s", full[k]);
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .type = CUE_DOWN }, CUE_NOW), CUE_ETYPE));
        cr_expect(eq(int, recv_int(on), 1));
        cr_expect(eq(int, recv_int(on), 2));
        cr_expect(eq(int, recv_int(on), NOTHING));
        cr_expect(eq(int, recv_int(in), 1));
        cr_expect(eq(int, recv_int(in), 2));
        cue_channel_close(on);
        close_both();
    }
    for (int k = 0; k < 3; k++) {
        open_both(dropping[k]);
        cue_channel *on = tap(name_of(dropping[k]));
        for (int value = 1; value <= 4; value++)
            cr_assert(eq(int, send_int(out, value), 0));
        cr_expect(eq(int, recv_int(on), 1));
        cr_expect(eq(int, recv_int(on), 2));
        cr_expect(eq(int, recv_int(on), NOTHING), "%s", dropping[k]);
        cr_expect(eq(int, recv_int(in), 1));
        cr_expect(eq(int, recv_int(in), 2));
        cue_channel_close(on);
        close_both();
    }
}

Test(tap, that_does_not_read_holds_nobody_and_counts_what_it_missed)
{
    for (int k = 0; k < KINDS; k++) {
        open_both(kinds[k]);
        cue_channel *on = tap_with(name_of(kinds[k]), &(cue_channel_opts){ .depth = 4 });
        cue_msg m;
        int value;
        for (int i = 0; i < 100; i++) {
            cr_assert(eq(int, send_int(out, i), 0));
            cr_assert(eq(int, recv_int(in), i));
        }
        CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
        memcpy(&value, m.data, sizeof value);
        cr_expect(eq(int, value, 96));
        cr_expect(eq(u32, m.gap, 96));
        cue_msg_release(&m);
        cr_expect(eq(u64, stat_of(on).gaps, 96));
        cr_expect(eq(u64, stat_of(out).dropped, 0), "the lane dropped nothing");
        cue_channel_close(on);
        close_both();
    }
}

Test(tap, several_see_the_same_and_one_leaves)
{
    enum { TAPS = 5 };
    open_both("a");
    cue_channel *on[TAPS];
    for (int i = 0; i < TAPS; i++)
        on[i] = tap("a");
    cr_assert(eq(int, send_int(out, 1), 0));
    for (int i = 0; i < TAPS; i++)
        cr_expect(eq(int, recv_int(on[i]), 1));
    for (int i = TAPS; i-- > 0;) {
        cue_channel_close(on[i]);
        cr_assert(eq(int, send_int(out, i), 0));
        for (int j = 0; j < i; j++)
            cr_expect(eq(int, recv_int(on[j]), i));
    }
    cr_expect(eq(u64, blocks(), 1 + 1 + TAPS), "the lane and what is in it");
}

Test(tap, waits_for_what_passes)
{
    open_both("a");
    cue_channel *on = tap("a");
    struct waiting w = { .ch = on, .wait = CUE_SEC(30) };
    pthread_t thread = wait_begin(&w);
    until_sleeping(on);
    cr_assert(eq(int, send_int(out, 1), 0));
    pthread_join(thread, NULL);
    cr_expect(eq(int, w.result, 0));
    cue_channel_close(on);
}

/* A pool that has room for the message only: it goes, and the copy does not. */
Test(tap, copy_takes_no_room_from_the_message)
{
    const char *name = test_name("taproom");
    char where[100];
    cue_pool *little;
    cue_channel *to, *from, *on;
    cue_block held[1000];
    int n = 0, value = 7;
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 1 << 20 }, &little));
    snprintf(where, sizeof where, "shm://%s/a", name);
    CUE_MUST(cue_channel_open(where, CUE_RECV, NULL, &from));
    CUE_MUST(cue_channel_open(where, CUE_SEND, NULL, &to));
    CUE_MUST(cue_channel_open(where, CUE_TAP, &(cue_channel_opts){ .depth = 8, .max = 4096 }, &on));
    char *bytes = calloc(1, 4000);
    while (n < 1000 && cue_block_alloc(little, 4000, NULL, &held[n]) == 0)
        n++;
    cue_block_release(&held[--n]); /* one of that size */
    cr_assert(eq(int, cue_channel_send(to, &(cue_msg){ .type = 1, .data = bytes, .size = 4000 }, CUE_NOW), 0));
    while (n > 0)
        cue_block_release(&held[--n]);
    cue_msg m;
    CUE_MUST(cue_channel_recv(from, &m, CUE_NOW));
    cue_msg_release(&m);
    for (int64_t limit = test_now_ms() + test_ms(20000); test_now_ms() < limit;) { /* for some ms no room is looked for */
        cr_assert(eq(int, cue_channel_send(to, CUE_MSG(1, value), CUE_NOW), 0));
        CUE_MUST(cue_channel_recv(from, &m, CUE_NOW));
        cue_msg_release(&m);
        if (cue_channel_recv(on, &m, CUE_NOW) == 0)
            break;
    }
    if (m.size == sizeof value)
        cr_expect(m.gap >= 1, "the first one was missed, and is counted");
    cr_expect(eq(u64, stat_of(on).gaps, m.gap));
    cue_msg_release(&m);
    free(bytes);
    cue_channel_close(on);
    cue_channel_close(to);
    cue_channel_close(from);
    cue_pool_close(little);
    cr_expect(eq(int, test_leftovers(name), 0));
}

Test(tap, holds_a_share_of_the_pool_at_most)
{
    open_both("a");
    cue_channel *on = tap_with("a", &(cue_channel_opts){ .depth = 4096, .max = 64 << 10 }), *none;
    char many[4096] = { 0 };
    cue_msg m;
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .type = 1, .data = many, .size = sizeof many }, CUE_NOW), 0));
    CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
    cr_expect(m.size >= 64 && m.size <= (16 << 20) / 8 / 4096, "%zu", m.size);
    cue_msg_release(&m);
    cr_expect(eq(int, cue_channel_open(lane("a"), CUE_TAP, &(cue_channel_opts){ .depth = 1 << 20 }, &none), CUE_ETOOBIG));
    cue_channel_close(on);
}

/* Another tap that wants more of each message, for a moment, makes no difference to that. */
Test(tap, forgotten_by_its_reader_fills_no_pool)
{
    open_both("a?depth=16000");
    cue_channel *forgotten = tap_with("a", &(cue_channel_opts){ .depth = 4096, .max = 64 }), *wide = tap("a");
    static char many[4096];
    cue_channel_close(wide);
    for (int i = 0; i < 8000; i++) {
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .data = many, .size = sizeof many / 2 }, CUE_NOW), 0));
        cue_msg m;
        CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
        cue_msg_release(&m);
    }
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_expect(lt(u64, info.used, (16 << 20) / 6), "%lu bytes are used", info.used);
    cue_channel_close(forgotten);
}

/* Several at once into a lane with less room: as without a tap. */
Test(tap, drops_nothing_that_would_not_be_dropped_without)
{
    static const char *const lanes[] = { "a?depth=2&full=drop-new", "b?kind=queue&depth=2&full=drop-old",
                                         "c?kind=stream&depth=2&full=drop-old", "d?kind=queue&depth=2" };
    for (int k = 0; k < 4; k++) {
        open_both(lanes[k]);
        cue_channel *on = tap(name_of(lanes[k]));
        int values[4] = { 1, 2, 3, 4 };
        cue_msg m[4];
        for (int i = 0; i < 4; i++)
            m[i] = (cue_msg){ .data = &values[i], .size = sizeof values[i] };
        cr_expect(eq(int, cue_channel_send_many(out, m, 4, CUE_NOW), 2), "%s", lanes[k]);
        cr_expect(eq(int, recv_int(in), 1), "%s", lanes[k]);
        cr_expect(eq(int, recv_int(in), 2), "%s", lanes[k]);
        cr_expect(eq(int, recv_int(in), NOTHING), "%s", lanes[k]);
        cr_expect(eq(u64, stat_of(in).dropped, 0), "%s", lanes[k]);
        cue_channel_close(on);
        close_both();
    }
}

/* What the sender's handle says of its block's bytes is not believed. */
Test(tap, handle_that_lies_about_its_bytes_harms_nobody)
{
    open_both("a");
    cue_channel *on = tap("a");
    cue_block block;
    cue_msg m;
    CUE_MUST(cue_block_alloc(pool, 100, NULL, &block));
    memset(block.data, 'x', 100);
    block.data = (char *)block.data + (15 << 20);
    block.size = 1 << 30;
    cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .move = &block }, CUE_NOW), 0));
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cr_expect(eq(sz, m.size, 100));
    cue_msg_release(&m);
    CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
    cr_expect(eq(sz, m.size, 100));
    cr_expect(eq(int, *(const char *)m.data, 'x'));
    cue_msg_release(&m);
    cue_channel_close(on);
}

Test(tap, question_is_shown_and_its_answer_goes_to_the_asker)
{
    open_both("a");
    cue_channel *on = tap("a");
    cue_msg answer, m;
    cue_tapped about;
    cr_expect(eq(int, cue_channel_ask(out, &(cue_msg){ .type = 5, .data = "what", .size = 4 }, CUE_NOW, &answer), CUE_ETIMEDOUT));
    CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
    CUE_MUST(cue_msg_tapped(&m, &about));
    cr_expect(eq(u32, about.flags, CUE_TAPPED_ASK));
    cr_expect(eq(u32, m.type, 5));
    cr_expect(eq(int, cue_reply(&m, &(cue_msg){ .type = 6 }), CUE_EPERM));
    cue_msg_release(&m);
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    CUE_MUST(cue_reply(&m, &(cue_msg){ .type = 6 }));
    cue_msg_release(&m);
    cr_expect(eq(int, recv_int(on), NOTHING));
    cue_channel_close(on);
}

Test(tap, what_cannot_be_tapped_says_why)
{
    cue_channel *none;
    open_both("a");
    cr_expect(eq(int, cue_channel_open(lane("nobody"), CUE_TAP, NULL, &none), CUE_ENOENT));
    cr_expect(strstr(cue_trail(), "no lane nobody") != NULL, "%s", cue_trail());
    cr_expect(eq(int, cue_channel_open("shm://tap-no-pool/a", CUE_TAP, NULL, &none), CUE_ENOENT));
    cr_expect(eq(int, cue_channel_open(lane("a?kind=queue"), CUE_TAP, NULL, &none), CUE_ETYPE));
    cr_expect(eq(int, cue_channel_open(lane("a"), CUE_TAP | CUE_RECV, NULL, &none), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_open(lane("a?full=fail"), CUE_TAP, NULL, &none), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_open(lane("a?history=3"), CUE_TAP, NULL, &none), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_open(lane("@blocks"), CUE_TAP, NULL, &none), CUE_EINVAL));
    cr_expect(eq(int, cue_channel_open("ipc://tap-test", CUE_TAP, NULL, &none), CUE_ENOSYS));
    cr_expect(strstr(cue_trail(), "socket") != NULL, "%s", cue_trail());
    cue_channel *on = tap("a");
    cr_expect(eq(int, send_int(on, 1), CUE_EINVAL), "it only looks on");
    cue_channel_close(on);
    cr_expect(eq(u64, blocks(), 1), "the lane");
}

Test(tap, read_only_party_is_told)
{
    open_both("a");
    struct cast observer = cast_start("tap_observer", pool_name);
    cr_assert(eq(int, cast_wait(&observer, 10000), 0));
}

/* The lane is the tap's as long as it looks on, also when its ends are closed. */
Test(tap, stays_when_the_ends_come_and_go)
{
    open_both("a");
    cue_channel *on = tap("a");
    for (int round = 0; round < 3; round++) {
        close_both();
        open_both("a");
        cr_assert(eq(int, send_int(out, round), 0));
        cr_assert(eq(int, recv_int(in), round));
        cr_expect(eq(int, recv_int(on), round));
    }
    close_both();
    cue_channel_close(on);
    cr_expect(eq(u64, blocks(), 0));
}

Test(tap, killed_one_is_forgotten)
{
    for (int k = 0; k < KINDS; k++) {
        open_both(kinds[k]);
        struct cast one = cast_start("tapper", lane(name_of(kinds[k])));
        cr_assert(eq(int, cast_hear(&one, 10000), 'r'));
        cue_channel *on = tap(name_of(kinds[k]));
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .type = 1, .data = "p", .size = 1 }, CUE_NOW), 0));
        cast_say(&one, 't');
        cr_assert(eq(int, cast_hear(&one, 10000), 'p'));
        cast_kill(&one);
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .type = 1, .data = "q", .size = 1 }, CUE_NOW), 0));
        cue_pool_check(pool, true, NULL, NULL); /* cleans up after the dead */
        cr_assert(eq(int, cue_channel_send(out, &(cue_msg){ .type = 1, .data = "r", .size = 1 }, CUE_NOW), 0));
        cue_msg m;
        for (const char *c = "pqr"; *c; c++) { /* the other one has missed nothing */
            CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
            cr_assert(eq(chr, *(const char *)m.data, *c));
            cue_msg_release(&m);
            CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
            cue_msg_release(&m);
        }
        cue_channel_close(on);
        cr_expect(eq(u64, blocks(), k == 3 ? 2 : 1), "the lane, of a topic the receiver's ring; nothing of either tap");
        close_both();
    }
}

Test(tap, stopped_one_holds_nobody)
{
    open_both("a?depth=16");
    struct cast one = cast_start("tapper", lane("a?depth=8"));
    cr_assert(eq(int, cast_hear(&one, 10000), 'r'));
    cr_assert(cast_stop(&one));
    for (int value = 0; value < 1000; value++) {
        cr_assert(eq(int, send_int(out, value), 0));
        cr_assert(eq(int, recv_int(in), value));
    }
    cr_expect(lt(u64, blocks(), 20));
    cast_continue(&one);
    cast_say(&one, 'c');
    cr_expect(eq(int, cast_hear(&one, 10000), 'k'));
    cr_expect(eq(u64, blocks(), 1));
    cast_kill(&one);
}

/* Opened and closed beside those who send: none that stays is left blind. */
static void *taps_come_and_go(void *arg)
{
    char where[160];
    snprintf(where, sizeof where, "shm://%s/a", pool_name);
    for (int i = 0; i < 300; i++) {
        cue_channel *on;
        CUE_MUST(cue_channel_open(where, CUE_TAP, NULL, &on));
        cue_channel_close(on);
    }
    atomic_fetch_add((_Atomic int *)arg, 1);
    return NULL;
}

Test(tap, none_is_blind_while_others_come_and_go)
{
    open_both("a");
    _Atomic int ended = 0;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, taps_come_and_go, &ended);
    char where[160];
    snprintf(where, sizeof where, "shm://%s/a", pool_name);
    for (int value = 0; atomic_load(&ended) < 2; value++) {
        cue_channel *on;
        CUE_MUST(cue_channel_open(where, CUE_TAP, NULL, &on));
        cr_assert(eq(int, send_int(out, value), 0));
        cr_assert(eq(int, recv_int(on), value));
        cr_assert(eq(int, recv_int(in), value));
        cue_channel_close(on);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    cr_expect(eq(u64, blocks(), 1));
}

Test(tap, forked_child_is_seen_and_cannot_look_on)
{
    open_both("a");
    cue_channel *on = tap("a");
    pid_t child = fork();
    if (child == 0) {
        cue_msg m;
        int wrong = cue_channel_recv(on, &m, CUE_NOW) != CUE_EFORK;
        _exit(wrong ? 1 : send_int(out, 5) ? 2 : 0);
    }
    int status;
    waitpid(child, &status, 0);
    cr_assert(eq(int, WEXITSTATUS(status), 0));
    cr_expect(eq(int, recv_int(on), 5));
    cr_expect(eq(int, recv_int(in), 5));
    cue_channel_close(on);
}

/* ---- damage ---- */

/* The lane whose name begins so, as it lies in the pool. */
static struct lane_head *head_of(const char *begins)
{
    cue_block_info info;
    for (uint64_t cursor = 0; cue_block_next(pool, POOL_TYPE_LANE, &cursor, &info) > 0;) {
        cue_block view;
        if (strncmp(info.name, begins, strlen(begins)) == 0) {
            CUE_MUST(cue_block_find(pool, (cue_key){ .id = info.id }, CUE_NOW, &view));
            struct lane_head *head = view.data;
            cue_block_release(&view); /* who has the lane open holds it */
            return head;
        }
    }
    return NULL;
}

Test(tap, bit_that_nobody_set_goes_with_the_next_send)
{
    for (int k = 0; k < KINDS; k++) {
        open_both(kinds[k]);
        struct lane_head *head = head_of(name_of(kinds[k]));
        atomic_fetch_or(&head->gate, GATE_TAPPED);
        cr_assert(eq(int, send_int(out, 1), 0));
        cr_assert(eq(int, recv_int(in), 1));
        cr_expect(eq(u64, atomic_load(&head->gate) & GATE_TAPPED, 0));
        close_both();
    }
}

Test(tap, damaged_topic_harms_no_sender)
{
    char many[8192] = { 0 };
    cue_msg m;
    open_both("a");
    cue_channel *on = tap("a"), *none;
    struct lane_head *taps = head_of("@tap-");
    cr_assert(taps != NULL);
    atomic_store(&taps->tap_bytes, tap_word(1, UINT32_MAX)); /* the message bounds the copy, and the tap what it hands out */
    CUE_MUST(cue_channel_send(out, &(cue_msg){ .data = many, .size = sizeof many }, CUE_NOW));
    CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
    cr_expect(eq(sz, m.size, 4096));
    cue_msg_release(&m);
    CUE_MUST(cue_channel_recv(in, &m, CUE_NOW));
    cue_msg_release(&m);
    taps->magic = 0;
    cr_assert(eq(int, send_int(out, 1), 0));
    cr_assert(eq(int, recv_int(in), 1));
    cr_expect(eq(int, recv_int(on), NOTHING));
    cr_expect(eq(int, cue_channel_open(lane("a"), CUE_TAP, NULL, &none), CUE_ECORRUPT));
    taps->magic = LANE_MAGIC;
    cue_channel_close(on);
}

/* ---- a storm: senders and those who look on are killed at random; the receiver gets everything, once, in order ---- */

enum { SENDERS = 2, ONLOOKERS = 3, ALL = SENDERS + ONLOOKERS, LIVES = 1024, STRIKES = 40 };
static struct counted lives[LIVES];
static int nlives;

static void look_at(cue_msg *m)
{
    struct counted said;
    cr_assert(eq(sz, m->size, sizeof said));
    memcpy(&said, m->data, sizeof said);
    cr_assert(eq(u32, said.sum, counted_sum(&said)));
    int i = nlives;
    while (i > 0 && lives[i - 1].publisher != said.publisher)
        i--;
    cr_assert(eq(u32, said.number, i ? lives[i - 1].number + 1 : 0), "nothing is lost, doubled or out of order");
    if (!i)
        cr_assert(lt(int, i = ++nlives, LIVES));
    lives[i - 1] = said;
    cue_msg_release(m);
}

static void receive_for(int ms)
{
    cue_msg m;
    for (int64_t end = test_now_ms() + ms; test_now_ms() < end;)
        if (cue_channel_recv(in, &m, CUE_MS(1)) == 0)
            look_at(&m);
}

static void storm_on(const char *rest)
{
    struct cast casts[ALL];
    unsigned seed = 3;
    nlives = 0;
    open_both(rest);
    const char *name = name_of(rest);
    for (int i = 0; i < ALL; i++)
        casts[i] = i < SENDERS ? cast_start("topic_storm_publisher", lane(name)) : cast_start("tap_storm", lane(name), i % 2 ? "5" : "7");
    for (int strike = 0; strike < STRIKES; strike++) {
        int i = rand_r(&seed) % ALL;
        receive_for(5);
        cr_assert(eq(int, cast_kill(&casts[i]), CAST_SIGNALLED + SIGKILL), "it found something wrong");
        casts[i] = i < SENDERS ? cast_start("topic_storm_publisher", lane(name)) : cast_start("tap_storm", lane(name), i % 2 ? "5" : "7");
    }
    for (int i = 0; i < ALL; i++) {
        if (i >= SENDERS)
            cr_assert(cast_stop(&casts[i]));
        receive_for(5);
        cast_kill(&casts[i]);
    }
    cue_pool_check(pool, true, NULL, NULL); /* cleans up after the dead */
    receive_for(5);
    cue_channel *on = tap(name); /* and all is as before */
    cr_assert(eq(int, send_int(out, 1), 0));
    cr_expect(eq(int, recv_int(on), 1));
    cr_expect(eq(int, recv_int(in), 1));
    cue_channel_close(on);
    close_both();
}

Test(tap, storm_of_kills)
{
    storm_on("a");
    storm_on("b?kind=queue");
}

/* ---- actors ---- */

static int behave(void *state, cue_msg *m)
{
    (void)state;
    return m->type == 2 ? CUE_STOP : 0;
}

/* From a thread, from a channel, from another actor, and what the library itself says to it. */
Test(tap, actor_is_tapped_by_its_url)
{
    cue_system *sys;
    cue_ref who, me;
    cue_msg m;
    cue_tapped about;
    int value = 5;
    CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = pool_name }, &sys));
    CUE_MUST(cue_spawn(sys, &(cue_actor_spec){ .name = "one", .run = behave }, &who));
    CUE_MUST(cue_adopt(sys, "me", &me));
    cue_channel *on = tap("one");
    CUE_MUST(cue_tell(who, CUE_MSG(1, value)));
    CUE_MUST(cue_channel_open(lane("one"), CUE_SEND, NULL, &out));
    cr_assert(eq(int, send_int(out, 6), 0));
    CUE_MUST(cue_watch(who, NULL)); /* a message of the library's */
    CUE_MUST(cue_tell(who, CUE_MSG(2, value)));
    CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
    cr_expect(eq(u32, m.type, 1));
    cr_expect(cue_ref_same(m.from, me));
    cue_msg_release(&m);
    cr_expect(eq(int, recv_int(on), 6));
    CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
    CUE_MUST(cue_msg_tapped(&m, &about));
    cr_expect(eq(u32, about.flags, CUE_TAPPED_SYSTEM));
    cr_expect(ge(u32, m.type, CUE_TYPE_SYSTEM));
    cue_msg_release(&m);
    CUE_MUST(cue_channel_recv(on, &m, CUE_NOW));
    cr_expect(eq(u32, m.type, 2));
    cue_msg_release(&m);
    CUE_MUST(cue_receive(&m, CUE_MS(test_guard_ms(5000)))); /* it has ended */
    cr_expect(eq(u32, m.type, CUE_DOWN));
    cue_msg_release(&m);
    cr_expect(eq(int, recv_int(on), NOTHING));
    cue_channel_close(on);
    cr_expect(eq(int, cue_system_stop(sys, CUE_SEC(10)), 0));
}
