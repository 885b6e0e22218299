/* Bad input to channels and actors: see bad_input.h for what a row of the table is. */
#include "pool/pool_internal.h"

#include "tests/bad_input.h"

/* ---- cue_channel_open: the URL ---- */
static int open_url(const char *url, unsigned how, const cue_channel_opts *opts)
{
    errno = EXDEV;
    return cue_channel_open(url, how, opts, &out_channel);
}

/* A lane in the test's pool, with options. */
static const char *lane(const char *rest)
{
    static char url[1200];
    snprintf(url, sizeof url, "shm://%s/%s", name, rest);
    return url;
}

#define URL(url) open_url(url, CUE_SEND, NULL)
#define LANE(rest) open_url(lane(rest), CUE_SEND, NULL)
#define LANE_OPTS(...) open_url(lane("lane"), CUE_SEND, &(cue_channel_opts){ __VA_ARGS__ })

static const char *long_path(const char *scheme, int length)
{
    static char url[4000];
    int used = snprintf(url, sizeof url, "%s", scheme);
    memset(url + used, 'x', (size_t)length);
    url[used + length] = 0;
    return url;
}

BAD(channel_open, no_url, CUE_EINVAL, URL(NULL))
BAD(channel_open, empty_url, CUE_EINVAL, URL(""))
BAD(channel_open, word, CUE_EINVAL, URL("lane"))
BAD(channel_open, scheme_alone, CUE_EINVAL, URL("shm://"))
BAD(channel_open, scheme_without_slashes, CUE_EINVAL, URL("shm:pool/lane"))
BAD(channel_open, unknown_scheme, CUE_EINVAL, URL("http://pool/lane"))
BAD(channel_open, scheme_in_capitals, CUE_EINVAL, URL("SHM://pool/lane"))
BAD(channel_open, pool_without_a_lane, CUE_EINVAL, URL("shm://pool"))
BAD(channel_open, empty_lane, CUE_EINVAL, LANE(""))
BAD(channel_open, lane_with_a_slash, CUE_EINVAL, LANE("a/b"))
BAD(channel_open, lane_with_a_space, CUE_EINVAL, LANE("a b"))
BAD(channel_open, lane_of_64, CUE_EINVAL, LANE(too_long))
BAD(channel_open, pool_of_64, CUE_EINVAL, URL("shm://a234567890123456789012345678901234567890123456789012345678901234/x"))
BAD(channel_open, pool_that_climbs, CUE_EINVAL, URL("shm://../lane"))
BAD(channel_open, url_of_two_kilobytes, CUE_EINVAL, URL(long_path("shm://p/", 2000)))
BAD(channel_open, format_in_the_url, CUE_EINVAL, URL("shm://%s%n%s/%n"))
BAD(channel_open, option_without_a_value, CUE_EINVAL, LANE("lane?depth"))
BAD(channel_open, no_option_behind_the_mark, CUE_EINVAL, LANE("lane?"))
BAD(channel_open, unknown_option, CUE_EINVAL, LANE("lane?colour=red"))
BAD(channel_open, option_of_sockets_only, CUE_EINVAL, LANE("lane?linger=1s"))
BAD(channel_open, depth_zero, CUE_EINVAL, LANE("lane?depth=0"))
BAD(channel_open, depth_negative, CUE_EINVAL, LANE("lane?depth=-1"))
BAD(channel_open, depth_huge, CUE_EINVAL, LANE("lane?depth=99999999999999999999999"))
BAD(channel_open, depth_that_wraps_around, CUE_EINVAL, LANE("lane?depth=4294967296"))
BAD(channel_open, depth_of_words, CUE_EINVAL, LANE("lane?depth=many"))
BAD(channel_open, depth_empty, CUE_EINVAL, LANE("lane?depth="))
BAD(channel_open, time_without_a_unit, CUE_EINVAL, LANE("lane?spin=50"))
BAD(channel_open, time_huge, CUE_EINVAL, LANE("lane?spin=99999999999999999s"))
BAD(channel_open, unknown_kind, CUE_EINVAL, LANE("lane?kind=pipe"))
BAD(channel_open, unknown_word_for_full, CUE_EINVAL, LANE("lane?full=explode"))
BAD(channel_open, long_option, CUE_EINVAL, LANE("lane?depth=0000000000000000000000000000000000000000000000000000000000000000000000000001"))
BAD(channel_open, dead_letters_without_redeliver, CUE_EINVAL, LANE("lane?kind=queue&dead=letters"))
BAD(channel_open, dead_letters_into_a_bad_name, CUE_EINVAL, LANE("lane?kind=queue&redeliver=1&dead=a/b"))
BAD(channel_open, redeliver_on_a_mailbox, CUE_EINVAL, LANE("lane?redeliver=1"))
BAD(channel_open, redeliver_on_a_stream, CUE_EINVAL, LANE("lane?kind=stream&redeliver=1"))
BAD(channel_open, topic_of_the_library_that_is_not_there, CUE_ENOSYS, open_url(lane("@actors"), CUE_RECV, NULL))
BAD(channel_open, topic_of_the_library_to_send, CUE_EPERM, open_url(lane("@parties"), CUE_SEND, NULL))
BAD(channel_open, topic_of_the_library_as_a_mailbox, CUE_ETYPE, open_url(lane("@blocks?kind=mailbox"), CUE_RECV, NULL))
BAD(channel_open, topic_of_the_library_with_a_depth, CUE_EINVAL, open_url(lane("@blocks?depth=5"), CUE_RECV, NULL))
BAD(channel_open, parties_of_a_type, CUE_EINVAL, open_url(lane("@parties?type=5"), CUE_RECV, NULL))
BAD(channel_open, topic_without_a_name, CUE_EINVAL, open_url(lane("@"), CUE_RECV, NULL))
BAD(channel_open, topic_with_redelivery, CUE_EINVAL, LANE("lane?kind=topic&redeliver=3"))
BAD(channel_open, how_zero, CUE_EINVAL, open_url(lane("lane"), 0, NULL))
BAD(channel_open, how_unknown, CUE_EINVAL, open_url(lane("lane"), 8, NULL))
BAD(channel_open, tap_of_no_lane, CUE_ENOENT, open_url(lane("lane"), CUE_TAP, NULL))
BAD(channel_open, tap_of_no_pool, CUE_ENOENT, open_url("shm://no-such-pool/lane", CUE_TAP, NULL))
BAD(channel_open, tap_of_a_socket, CUE_ENOSYS, open_url("ipc://no-such-socket", CUE_TAP, NULL))
BAD(channel_open, tap_of_a_log, CUE_EINVAL, open_url(lane("@parties"), CUE_TAP, NULL))
BAD(channel_open, tap_that_waits, CUE_EINVAL, open_url(lane("lane?full=fail"), CUE_TAP, NULL))
BAD(channel_open, tap_with_a_history, CUE_EINVAL, open_url(lane("lane?history=5"), CUE_TAP, NULL))
BAD(channel_open, tap_of_a_type, CUE_EINVAL, open_url(lane("lane?type=5"), CUE_TAP, NULL))
BAD(channel_open, how_to_tap_and_receive, CUE_EINVAL, open_url(lane("lane"), CUE_TAP | CUE_RECV, NULL))
BAD(channel_open, no_place_for_the_result, CUE_EINVAL, cue_channel_open(lane("lane"), CUE_SEND, NULL, NULL))
BAD(channel_open, kind_in_the_struct, CUE_EINVAL, LANE_OPTS(.kind = 99))
BAD(channel_open, full_in_the_struct, CUE_EINVAL, LANE_OPTS(.full = 99))
BAD(channel_open, depth_in_the_struct, CUE_EINVAL, LANE_OPTS(.depth = UINT32_MAX))
BAD(channel_open, type_of_the_library, CUE_EINVAL, LANE_OPTS(.type = CUE_TYPE_SYSTEM))
BAD(channel_open, option_of_a_later_version, CUE_EVERSION, LANE_OPTS(.spare = { 1 }))
BAD(channel_open, pool_without_a_name_and_without_a_pool, CUE_EINVAL, URL("shm:///../lane"))
BAD(channel_open, socket_path_of_200, CUE_EINVAL, open_url(long_path("ipc:///tmp/", 200), CUE_RECV, &(cue_channel_opts){ .pool = pool }))
BAD(channel_open, socket_path_empty, CUE_EINVAL, open_url("ipc://", CUE_RECV, &(cue_channel_opts){ .pool = pool }))
BAD(channel_open, socket_in_a_folder_that_is_not_there, CUE_ENOENT,
    open_url("ipc:///nowhere/at/all/socket", CUE_RECV, &(cue_channel_opts){ .pool = pool }))
BAD(channel_open, socket_both_ways, CUE_EINVAL, open_url("ipc://both", CUE_RECV | CUE_SEND, &(cue_channel_opts){ .pool = pool }))
BAD(channel_open, socket_of_another_kind, CUE_ETYPE, open_url("ipc://kind?kind=mailbox", CUE_RECV, &(cue_channel_opts){ .pool = pool }))
BAD(channel_open, tls_without_certificates, CUE_EINVAL, open_url("tls+tcp://localhost:1", CUE_SEND, &(cue_channel_opts){ .pool = pool }))
BAD(channel_open, socket_with_a_huge_message, CUE_ETOOBIG, open_url("ipc://huge?max=900G", CUE_RECV, &(cue_channel_opts){ .pool = pool }))

static int lane_named_as_a_block(bool published)
{
    cue_block named;
    CUE_MUST(cue_block_alloc(pool, 8, &(cue_block_opts){ .name = "thing" }, &named));
    if (published)
        CUE_MUST(cue_block_publish(&named, 0));
    return LANE("thing");
}

static int lane_in_a_destroyed_pool(void)
{
    cue_pool *other;
    const char *gone = test_name("gone");
    char url[100];
    CUE_MUST(cue_pool_open(gone, &(cue_pool_opts){ .size = POOL_BYTES }, &other));
    cue_pool_destroy(other);
    snprintf(url, sizeof url, "shm://%s/lane", gone);
    return open_url(url, CUE_SEND, &(cue_channel_opts){ .pool = other });
}

static int second_receiver(void)
{
    cue_channel *first;
    CUE_MUST(cue_channel_open(lane("lane"), CUE_RECV, NULL, &first));
    return open_url(lane("lane"), CUE_RECV, NULL);
}

BAD(channel_open, name_of_a_block, CUE_EEXIST, lane_named_as_a_block(true))
BAD(channel_open, destroyed_pool, CUE_EINVAL, lane_in_a_destroyed_pool())
BAD(channel_open, second_receiver, CUE_EBUSY, second_receiver())

/* ---- send and receive ---- */
static cue_channel *channel;

static cue_channel *ours(const char *rest)
{
    if (!channel)
        CUE_MUST(cue_channel_open(lane(rest), CUE_SEND | CUE_RECV, NULL, &channel));
    errno = EXDEV;
    return channel;
}

#define SEND(rest, ...) cue_channel_send(ours(rest), &(cue_msg){ __VA_ARGS__ }, CUE_NOW)
static char bytes[8192];

BAD(channel_send, no_channel, CUE_EINVAL, cue_channel_send(NULL, &(cue_msg){ .data = "x", .size = 1 }, CUE_NOW))
BAD(channel_send, no_message, CUE_EINVAL, cue_channel_send(ours("lane"), NULL, CUE_NOW))
BAD(channel_send, bytes_at_null, CUE_EINVAL, SEND("lane", .size = 5))
BAD(channel_send, size_negative, CUE_ETOOBIG, SEND("lane", .data = bytes, .size = (size_t)-1))
BAD(channel_send, size_beyond_the_pool, CUE_ETOOBIG, SEND("lane", .data = bytes, .size = 1 << 30))
BAD(channel_send, size_beyond_the_lane, CUE_ETOOBIG, SEND("lane?max=4k", .data = bytes, .size = sizeof bytes))
BAD(channel_send, type_of_the_library, CUE_ETYPE, SEND("lane", .type = CUE_TYPE_SYSTEM, .data = bytes, .size = 8))
BAD(channel_send, type_negative, CUE_ETYPE, SEND("lane", .type = (uint32_t)-1, .data = bytes, .size = 8))
BAD(channel_send, another_type_than_the_lanes, CUE_ETYPE, SEND("lane?type=5", .type = 6, .data = bytes, .size = 8))

static int send_block(cue_block *given, const char *rest)
{
    ours(rest);
    cue_block before = *given;
    errno = EXDEV;
    int status = cue_channel_send(channel, &(cue_msg){ .move = given }, CUE_NOW);
    int error = errno;
    cr_expect(eq(int, memcmp(&before, given, sizeof before), 0), "a failing send changes the block");
    errno = error;
    return status;
}

static int send_empty(void)
{
    cue_block none = { 0 };
    return send_block(&none, "lane");
}

static int send_stale(void)
{
    cue_block alias = block;
    CUE_MUST(cue_block_free(&block));
    return send_block(&alias, "lane");
}

static int send_twice(void)
{
    cue_block alias = block;
    ours("lane");
    CUE_MUST(cue_channel_send(channel, &(cue_msg){ .move = &block }, CUE_NOW));
    return send_block(&alias, "lane");
}

static int send_of_another_pool(void)
{
    cue_pool *other;
    cue_block there;
    CUE_MUST(cue_pool_open(test_name("other"), &(cue_pool_opts){ .size = POOL_BYTES }, &other));
    CUE_MUST(cue_block_alloc(other, 10, NULL, &there));
    int status = send_block(&there, "lane"), error = errno;
    cr_expect(eq(int, cue_block_release(&there), 0), "%s", cue_trail());
    cue_pool_close(other);
    errno = error;
    return status;
}

BAD(channel_send, empty_block, CUE_EMOVED, send_empty())
BAD(channel_send, stale_block, CUE_ESTALE, send_stale())
BAD(channel_send, block_that_was_sent, CUE_ENOTOWNER, send_twice())
BAD(channel_send, block_of_another_pool, CUE_ENOTOWNER, send_of_another_pool())
BAD(channel_send, block_of_another_type_than_the_lanes, CUE_ETYPE, send_block(&block, "lane?type=5"))

static int send_until_full(cue_time wait)
{
    ours("lane?depth=4");
    for (int i = 0; i < 10; i++) {
        errno = EXDEV;
        int status = cue_channel_send(channel, &(cue_msg){ .data = "x", .size = 1 }, wait);
        if (status)
            return i == 4 ? status : CUE_ESYS;
    }
    return 0;
}

static int send_into_a_full_pool(void)
{
    cue_block all;
    while (cue_block_alloc(pool, 16384, NULL, &all) == 0)
        ;
    ours("lane?depth=1000");
    for (int i = 0; i < 1000; i++) {
        errno = EXDEV;
        int status = cue_channel_send(channel, &(cue_msg){ .data = bytes, .size = sizeof bytes }, CUE_NOW);
        if (status)
            return status;
    }
    return 0;
}

static int use_receiver_to_send(void)
{
    CUE_MUST(cue_channel_open(lane("lane"), CUE_RECV, NULL, &channel));
    errno = EXDEV;
    return cue_channel_send(channel, &(cue_msg){ .data = "x", .size = 1 }, CUE_NOW);
}

static int use_sender_to_receive(void)
{
    cue_msg m;
    CUE_MUST(cue_channel_open(lane("lane"), CUE_SEND, NULL, &channel));
    errno = EXDEV;
    return cue_channel_recv(channel, &m, CUE_NOW);
}

static int send_after_destroy(void)
{
    cue_pool *again;
    ours("lane");
    CUE_MUST(cue_pool_open(name, NULL, &again));
    CUE_MUST(cue_pool_destroy(again));
    errno = EXDEV;
    int status = cue_channel_send(channel, &(cue_msg){ .data = "x", .size = 1 }, CUE_NOW);
    return status == CUE_EGONE || status == CUE_EINVAL ? CUE_EGONE : status; /* this process closed it, or saw it go */
}

BAD(channel_send, full_lane, CUE_EFULL, send_until_full(CUE_NOW))
BAD(channel_send, full_lane_after_a_wait, CUE_EFULL, send_until_full(CUE_MS(20)))
BAD(channel_send, full_pool, CUE_ENOMEM, send_into_a_full_pool())
BAD(channel_send, channel_to_receive, CUE_EINVAL, use_receiver_to_send())
BAD(channel_send, destroyed_pool, CUE_EGONE, send_after_destroy())
BAD(channel_recv, channel_to_send, CUE_EINVAL, use_sender_to_receive())
BAD(channel_recv, no_channel, CUE_EINVAL, cue_channel_recv(NULL, &(cue_msg){ 0 }, CUE_NOW))
BAD(channel_recv, no_place_for_the_message, CUE_EINVAL, cue_channel_recv(ours("lane"), NULL, CUE_NOW))
BAD(channel_recv, nothing_there, CUE_EEMPTY, cue_channel_recv(ours("lane"), &(cue_msg){ 0 }, CUE_NOW))
BAD(channel_recv, nothing_comes, CUE_EEMPTY, cue_channel_recv(ours("lane"), &(cue_msg){ 0 }, CUE_MS(20)))
BAD(channel_stat, no_channel, CUE_EINVAL, cue_channel_stat(NULL, &(cue_channel_info){ 0 }))
BAD(channel_stat, no_place_for_the_result, CUE_EINVAL, cue_channel_stat(ours("lane"), NULL))
BAD(channel_close, no_channel_is_fine, 0, cue_channel_close(NULL))

static int tapped(const cue_msg *m, cue_tapped *about)
{
    errno = EXDEV;
    return cue_msg_tapped(m, about);
}

BAD(msg_tapped, no_message, CUE_EINVAL, tapped(NULL, &(cue_tapped){ 0 }))
BAD(msg_tapped, no_place_for_the_result, CUE_EINVAL, tapped(&(cue_msg){ 0 }, NULL))
BAD(msg_tapped, no_copy, CUE_ENOSYS, tapped(&(cue_msg){ 0 }, &(cue_tapped){ 0 }))

Test(bad_channel_recv, receiving_in_a_forked_child, .init = set_up, .fini = tear_down)
{
    ours("lane");
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(cue_channel_recv(channel, &(cue_msg){ 0 }, CUE_NOW) == CUE_EFORK && strlen(cue_trail()) > 8 ? 0 : 1);
    waitpid(child, &status, 0);
    cr_expect(eq(int, status, 0));
}

Test(bad_channel_send, an_empty_message_is_fine, .init = set_up, .fini = tear_down)
{
    cue_msg m;
    cr_assert(eq(int, cue_channel_send(ours("lane"), &(cue_msg){ .tag = 5 }, CUE_NOW), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_recv(channel, &m, CUE_NOW), 0), "%s", cue_trail());
    cr_assert(eq(sz, m.size, 0));
    cr_assert(eq(u64, m.tag, 5));
    cue_msg_release(&m);
}

/* ---- actors ---- */
static cue_system *sys;

static int ignore(void *state, cue_msg *m)
{
    (void)state, (void)m;
    return 0;
}

static cue_system *started(void)
{
    if (!sys)
        CUE_MUST(cue_system_start(&(cue_system_opts){ .pool = name }, &sys));
    errno = EXDEV;
    return sys;
}

static void stop(void)
{
    if (sys)
        cue_system_stop(sys, CUE_SEC(10));
    tear_down();
}

#define BAD_ACTOR(call, input, code, ...)                                                                                                  \
    Test(bad_##call, input, .init = set_up, .fini = stop)                                                                                  \
    {                                                                                                                                      \
        errno = EXDEV;                                                                                                                     \
        expect((__VA_ARGS__), code, #call);                                                                                                \
    }

static cue_ref ended(void)
{
    cue_ref who;
    CUE_MUST(cue_spawn(started(), &(cue_actor_spec){ .run = ignore }, &who));
    CUE_MUST(cue_exit(who, CUE_EKILLED));
    int64_t end = test_now_ms() + test_ms(30000);
    while (cue_tell(who, &(cue_msg){ .data = "x", .size = 1 }) != CUE_EDEAD && test_now_ms() < end)
        sched_yield();
    errno = EXDEV;
    return who;
}

static int taken_name(void)
{
    CUE_MUST(cue_spawn(started(), &(cue_actor_spec){ .run = ignore, .name = "taken" }, NULL));
    errno = EXDEV;
    return cue_spawn(sys, &(cue_actor_spec){ .run = ignore, .name = "taken" }, &out_ref);
}

#define SPAWN(...) cue_spawn(started(), &(cue_actor_spec){ __VA_ARGS__ }, &out_ref)
#define TELL(to, ...) cue_tell(to, &(cue_msg){ __VA_ARGS__ })

BAD_ACTOR(spawn, no_system, CUE_EINVAL, cue_spawn(NULL, &(cue_actor_spec){ .run = ignore }, &out_ref))
BAD_ACTOR(spawn, no_spec, CUE_EINVAL, cue_spawn(started(), NULL, &out_ref))
BAD_ACTOR(spawn, no_behaviour, CUE_EINVAL, SPAWN(.name = "x"))
BAD_ACTOR(spawn, name_with_a_slash, CUE_EINVAL, SPAWN(.run = ignore, .name = "a/b"))
BAD_ACTOR(spawn, name_of_64, CUE_EINVAL, SPAWN(.run = ignore, .name = too_long))
BAD_ACTOR(spawn, name_that_is_taken, CUE_EEXIST, taken_name())
BAD_ACTOR(spawn, unknown_place, CUE_EINVAL, SPAWN(.run = ignore, .where = 77))
BAD_ACTOR(spawn, process_without_a_kind, CUE_EINVAL, SPAWN(.where = CUE_PROCESS))
BAD_ACTOR(spawn, state_of_negative_size, CUE_ENOMEM, SPAWN(.run = ignore, .state_size = (size_t)-64))
BAD_ACTOR(spawn, option_of_a_later_version, CUE_EVERSION, SPAWN(.run = ignore, .spare = { 1 }))
BAD_ACTOR(spawn, program_that_is_not_there, CUE_ENOENT,
          SPAWN(.kind = "x", .where = CUE_PROCESS, .argv = (const char *const[]){ "/nowhere/program", NULL }))
BAD_ACTOR(spawn, program_that_is_none_of_ours, CUE_EDEAD,
          SPAWN(.kind = "x", .where = CUE_PROCESS, .argv = (const char *const[]){ "/bin/true", NULL }))
BAD_ACTOR(system_start, a_second_one, CUE_EBUSY, (started(), cue_system_start(&(cue_system_opts){ .pool = name }, &(cue_system *){ NULL })))
BAD_ACTOR(system_start, pool_with_a_slash, CUE_EINVAL, cue_system_start(&(cue_system_opts){ .pool = "a/b" }, &(cue_system *){ NULL }))
BAD_ACTOR(system_start, no_place_for_the_result, CUE_EINVAL, cue_system_start(&(cue_system_opts){ .pool = name }, NULL))
BAD_ACTOR(tell, nobody, CUE_EDEAD, (started(), TELL((cue_ref){ 0 }, .data = "x", .size = 1)))
BAD_ACTOR(tell, another_machine, CUE_EREMOTE, (started(), TELL(((cue_ref){ 9, 9, 9, 9 }), .data = "x", .size = 1)))
BAD_ACTOR(tell, forged_address, CUE_EDEAD, (started(), TELL(((cue_ref){ 0, 1, UINT32_MAX, 77 }), .data = "x", .size = 1)))
BAD_ACTOR(tell, somebody_who_has_ended, CUE_EDEAD, TELL(ended(), .data = "x", .size = 1))
BAD_ACTOR(tell, no_system, CUE_EINVAL, TELL(((cue_ref){ 0, 1, 1, 1 }), .data = "x", .size = 1))
BAD_ACTOR(whereis, name_that_nobody_has, CUE_ENOENT, cue_whereis(started(), "nobody", CUE_NOW, &out_ref))
BAD_ACTOR(whereis, name_with_a_slash, CUE_EINVAL, cue_whereis(started(), "a/b", CUE_NOW, &out_ref))
BAD_ACTOR(whereis, no_name, CUE_EINVAL, cue_whereis(started(), NULL, CUE_NOW, &out_ref))
BAD_ACTOR(receive, thread_that_is_no_actor, CUE_ECONTEXT, (started(), cue_receive(&(cue_msg){ 0 }, CUE_NOW)))
BAD_ACTOR(watch, thread_that_is_no_actor, CUE_ECONTEXT, (started(), cue_watch((cue_ref){ 0, 1, 1, 1 }, NULL)))
BAD_ACTOR(exit, somebody_who_has_ended, CUE_EDEAD, cue_exit(ended(), 0))

/* A slab's head says that there are more records than there can be: a receiver that has met the slab finds those of others all the same. */
static void meet_a_damaged_slab(const char *rest)
{
    enum { LONG = 100 };
    cue_channel *from, *to;
    cue_block little, blocks[LONG];
    cue_msg m;
    CUE_MUST(cue_channel_open(lane(rest), CUE_RECV, NULL, &from));
    CUE_MUST(cue_channel_open(lane(rest), CUE_SEND, NULL, &to));
    CUE_MUST(cue_block_alloc(pool, 64, NULL, &little));
    struct slab *head = slab_head(pool, slab_of_index(pool, (uint32_t)little.priv[0]));
    uint32_t lines = atomic_exchange(&head->lines, UINT32_MAX);
    cr_assert(eq(int, cue_channel_send(to, &(cue_msg){ .move = &little }, CUE_NOW), 0));
    cr_assert(eq(int, cue_channel_recv(from, &m, CUE_NOW), 0));
    cue_msg_release(&m);
    int n = 0;
    for (; n < LONG && cue_block_alloc(pool, 8 << 10, NULL, &blocks[n]) == 0; n++) {
        cr_assert(eq(int, cue_channel_send(to, &(cue_msg){ .move = &blocks[n] }, CUE_NOW), 0));
        cr_assert(eq(int, cue_channel_recv(from, &m, CUE_NOW), 0));
        cr_expect(eq(sz, m.size, 8 << 10));
        blocks[n] = m.block; /* kept, so that the next one is elsewhere */
    }
    cr_expect(n > 3);
    for (int i = 0; i < n; i++)
        cue_block_release(&blocks[i]);
    atomic_store(&head->lines, lines);
    cue_channel_close(from);
    cue_channel_close(to);
}

Test(bad_channel_recv, head_of_a_slab_that_says_too_much, .init = set_up, .fini = tear_down)
{
    meet_a_damaged_slab("met");
    meet_a_damaged_slab("met2?kind=stream");
    meet_a_damaged_slab("met3?kind=queue");
}
