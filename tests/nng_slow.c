/* Ends that are slow and not gone: a link that lets little through, a receiver that is stopped while it is asked. Their connections stay,
 * nothing is lost, nothing is sent twice.
 * budget: 90 s */
#include "tests/certificates.h"
#include "tests/questions.h"
#include "tests/two_hosts.h"

#include <nng/protocol/pair1/pair.h>
#include <pthread.h>

TestSuite(nng_slow, .init = set_up, .fini = tear_down, .timeout = 80);

/* ---- a link: what connects to its port goes on to another one, towards there so many bytes a tick ---- */

enum { WAYS = 8, TICK_MS = 10, TICK_BYTES = 1500, BUFFER = 4096 };

struct link {
    int listener, to;
    int ways, near[WAYS], far[WAYS]; /* descriptors; near < 0: ended */
    _Atomic int connections;
    _Atomic bool enough;
};

static int bind_to(int port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = BUFFER;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small); /* what it holds is not on its way */
    cr_assert(eq(int, bind(fd, (struct sockaddr *)&at, sizeof at), 0));
    cr_assert(eq(int, listen(fd, WAYS), 0));
    return fd;
}

static void way_open(struct link *link)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)link->to) };
    int near = accept4(link->listener, NULL, NULL, SOCK_CLOEXEC), far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    link->connections++;
    if (near < 0 || link->ways == WAYS || connect(far, (struct sockaddr *)&at, sizeof at) < 0) {
        close(near);
        close(far);
        return;
    }
    link->near[link->ways] = near;
    link->far[link->ways++] = far;
}

/* False: it has ended. */
static bool pass(int from, int to, size_t most)
{
    char bytes[BUFFER];
    if (poll(&(struct pollfd){ .fd = from, .events = POLLIN }, 1, 0) <= 0)
        return true;
    ssize_t got = read(from, bytes, most);
    return got > 0 && send(to, bytes, (size_t)got, MSG_NOSIGNAL) == got;
}

static void *carry(void *arg)
{
    struct link *link = arg;
    while (!link->enough) {
        if (poll(&(struct pollfd){ .fd = link->listener, .events = POLLIN }, 1, TICK_MS) > 0)
            way_open(link);
        for (int i = 0; i < link->ways; i++) {
            if (link->near[i] < 0 || (pass(link->near[i], link->far[i], TICK_BYTES) && pass(link->far[i], link->near[i], BUFFER)))
                continue;
            close(link->near[i]);
            close(link->far[i]);
            link->near[i] = -1;
        }
    }
    for (int i = 0; i < link->ways; i++)
        if (link->near[i] >= 0) {
            close(link->near[i]);
            close(link->far[i]);
        }
    close(link->listener);
    return NULL;
}

static cue_channel *open_in(cue_pool *of, const char *url, unsigned how)
{
    cue_channel *ch;
    cue_channel_opts opts = { .pool = of, .linger = CUE_MS(test_ms(20000)) };
    cr_assert(eq(int, cue_channel_open(url, how, &opts, &ch), 0), "%s: %s", url, cue_trail());
    return ch;
}

enum { BLOCKS = 10, SIZE = 40000, LANES = 3 };

struct lane {
    const char *scheme;
    struct link link;
    pthread_t thread;
    cue_channel *s;
    int came, connections; /* when the first came */
};

/* Its receiver. The certificates are the folder's. */
static cue_channel *lane_open(struct lane *lane)
{
    static const char tls[] = "?ca=%s/ca.pem&cert=%s/%s.pem&key=%s/%s.key%s";
    char url[4 * TEST_PATH + 100], rest[4 * TEST_PATH + 60] = "";
    int from = test_port();
    bool is_tls = strcmp(lane->scheme, "tls+tcp") == 0, is_ws = strcmp(lane->scheme, "ws") == 0;
    lane->link = (struct link){ .listener = bind_to(from), .to = test_port() };
    cr_assert(eq(int, pthread_create(&lane->thread, NULL, carry, &lane->link), 0));
    if (is_tls)
        snprintf(rest, sizeof rest, tls, folder, folder, "server", folder, "server", "");
    snprintf(url, sizeof url, "%s://127.0.0.1:%d%s", lane->scheme, lane->link.to, is_ws ? "/lane" : rest);
    cue_channel *r = open_in(pool, url, CUE_RECV);
    if (is_tls)
        snprintf(rest, sizeof rest, tls, folder, folder, "client", folder, "client", "&server=localhost");
    snprintf(url, sizeof url, "%s://127.0.0.1:%d%s", lane->scheme, from, is_ws ? "/lane" : rest);
    lane->s = open_in(far_pool, url, CUE_SEND);
    return r;
}

/* Blocks for longer than a sender waits that is not answered, each full of its number; over three transports at a time. */
Test(nng_slow, a_slow_link_is_not_deaf)
{
    struct lane lanes[LANES] = { { .scheme = "tcp" }, { .scheme = "ws" }, { .scheme = "tls+tcp" } };
    cue_channel *r[LANES];
    char command[TEST_PATH + 40];
    need_tls(folder);
    for (int i = 0; i < LANES; i++) {
        r[i] = lane_open(&lanes[i]);
        for (int n = 0; n < BLOCKS; n++) {
            cue_block b;
            CUE_MUST(cue_block_alloc(far_pool, SIZE, NULL, &b));
            memset(b.data, n + 1, SIZE);
            CUE_MUST(cue_channel_send(lanes[i].s, &(cue_msg){ .tag = (uint64_t)n, .move = &b }, CUE_NOW));
        }
    }
    for (int n = 0; n < LANES * BLOCKS; n++) {
        cue_msg m;
        int i = cue_channel_recv_any(r, LANES, &m, CUE_SEC(60));
        cr_assert(ge(int, i, 0), "%s", cue_trail());
        cr_assert(eq(int, (int)m.tag, lanes[i].came), "%s", lanes[i].scheme);
        cr_assert(eq(sz, m.size, SIZE));
        for (size_t at = 0; at < SIZE; at++)
            cr_assert(eq(int, ((const char *)m.data)[at], lanes[i].came + 1));
        cue_msg_release(&m);
        if (!lanes[i].came++)
            lanes[i].connections = lanes[i].link.connections;
    }
    for (int i = 0; i < LANES; i++) {
        struct lane *lane = &lanes[i];
        cr_expect(eq(int, cue_channel_shut(lane->s, CUE_DRAIN, CUE_SEC(60)), 0), "%s: %s", lane->scheme, cue_trail());
        cr_expect(eq(int, lane->link.connections, lane->connections), "%s", lane->scheme);
        cr_expect(eq(u64, stat_of(lane->s).resent, 0), "%s", lane->scheme);
        cr_expect(eq(u64, stat_of(r[i]).gaps, 0), "%s", lane->scheme);
        cr_expect(eq(int, cue_channel_close(lane->s), 0), "%s: %s", lane->scheme, cue_trail());
        cr_expect(eq(int, cue_channel_close(r[i]), 0));
        lane->link.enough = true;
        pthread_join(lane->thread, NULL);
    }
    snprintf(command, sizeof command, "find %s -mindepth 1 -delete", folder);
    cr_assert(eq(int, system(command), 0));
}

/* ---- a replier that is stopped ---- */

struct asker {
    cue_channel *ch;
    int number, status;
    pthread_t thread;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    cue_msg answer;
    a->status = cue_channel_ask(a->ch, CUE_MSG(7, a->number), CUE_SEC(120), &answer);
    if (!a->status && number_of(&answer) != a->number + 1)
        a->status = 1;
    cue_msg_release(&answer);
    return NULL;
}

static void until_queued(cue_channel *ch, uint64_t wanted)
{
    for (int64_t end = test_now_ms() + test_ms(60000); stat_of(ch).queued != wanted && test_now_ms() < end;)
        poll(NULL, 0, 1);
    cr_assert(eq(u64, stat_of(ch).queued, wanted));
}

/* Longer than any sender waits for a word: with a question under way to it, which it answers when it goes on. */
Test(nng_slow, a_replier_that_is_stopped_answers_when_it_goes_on)
{
    static const char *const schemes[] = { "ipc", "tcp", "ws", "tcp" };
    enum { REPLIERS = sizeof schemes / sizeof *schemes, NEAR = REPLIERS - 1 };
    struct cast repliers[REPLIERS];
    struct asker askers[REPLIERS];
    char url[200];
    setenv("CUE_POOL", name, 1);
    for (int i = 0; i < REPLIERS; i++) {
        url_of(schemes[i], url, sizeof url);
        repliers[i] = cast_start("answerer", url);
        cr_assert(eq(int, cast_hear(&repliers[i], 20000), 'r'));
        askers[i] = (struct asker){ .ch = open_in(i == NEAR ? pool : far_pool, url, CUE_SEND), .number = 10 * i };
        cast_say(&repliers[i], 'a');
        cr_assert(eq(int, pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0));
        pthread_join(askers[i].thread, NULL);
        cr_assert(eq(int, askers[i].status, 0), "%s: %s", url, cue_status_name(askers[i].status));
        cr_assert(eq(int, cast_hear(&repliers[i], 20000), 'a'));
        cast_say(&repliers[i], 'a'); /* waits for the next question */
        cr_assert(cast_stop(&repliers[i]));
    }
    for (int i = 0; i < REPLIERS; i++)
        cr_assert(eq(int, pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0));
    for (int64_t end = test_now_ms() + 3500; test_now_ms() < end;)
        poll(NULL, 0, 100);
    for (int i = 0; i < REPLIERS; i++)
        until_queued(askers[i].ch, 1);
    for (int i = 0; i < REPLIERS; i++)
        cr_assert(cast_continue(&repliers[i]));
    for (int i = 0; i < REPLIERS; i++) {
        pthread_join(askers[i].thread, NULL);
        cr_expect(eq(int, askers[i].status, 0), "%s: %s", schemes[i], cue_status_name(askers[i].status));
        cr_expect(eq(u64, stat_of(askers[i].ch).resent, 0), "%s", schemes[i]);
        cr_expect(eq(int, cast_hear(&repliers[i], 20000), 'a'));
    }
    for (int i = 0; i < REPLIERS; i++) {
        cast_say(&repliers[i], 'e');
        cr_expect(eq(int, cast_wait(&repliers[i], 20000), 0));
        (void)!cue_channel_close(askers[i].ch); /* its last acknowledgement may have gone with the receiver */
    }
    snprintf(url, sizeof url, "%s/lane", folder);
    unlink(url);
}

/* ---- a receiver that answers nothing ---- */

/* Of two connections of a sender, one after the other. */
struct deaf {
    nng_socket sock;
    uint32_t data[2], back[2];
    _Atomic bool ended, hung_up; /* the first data connection; the first back connection, by us … */
    _Atomic bool early;          /* … or it ended before that */
};

static void on_end(nng_pipe pipe, nng_pipe_ev event, void *arg)
{
    struct deaf *d = arg;
    uint32_t id = (uint32_t)nng_pipe_id(pipe);
    (void)event;
    if (id == d->back[0])
        d->early = !d->hung_up;
    if (id == d->data[0])
        d->ended = true;
}

static void note(struct deaf *d, nng_msg *packet)
{
    struct wire_head head;
    struct cursor at = cursor_over(nng_msg_body(packet), nng_msg_len(packet));
    uint32_t pipe = (uint32_t)nng_pipe_id(nng_msg_get_pipe(packet));
    cr_assert(wire_read_head(&at, &head));
    uint32_t *of = head.kind == WIRE_BACK ? d->back : d->data;
    of[of[0] && of[0] != pipe] = pipe;
}

/* Takes what comes until the sender says hello on a second connection. Closes its back connection a while after its data connection has
 * ended, as a receiver does. */
static void listen_deaf(struct deaf *d)
{
    int64_t end = test_now_ms() + test_ms(60000), ended = 0;
    while (!d->data[1] && test_now_ms() < end) {
        nng_msg *packet;
        if (nng_recvmsg(d->sock, &packet, 0) == 0) {
            note(d, packet);
            nng_msg_free(packet);
        }
        ended = !ended && d->ended ? test_now_ms() : ended;
        if (ended && !d->hung_up && test_now_ms() > ended + 30) {
            d->hung_up = true;
            nng_pipe_close((nng_pipe){ .id = d->back[0] });
        }
    }
}

static void listen_with_tls(struct deaf *d, const char *url)
{
    char both[TEST_PATH + 20], command[4 * TEST_PATH];
    nng_listener listener;
    snprintf(both, sizeof both, "%s/both.pem", folder);
    snprintf(command, sizeof command, "cat %s/server.pem %s/server.key > %s", folder, folder, both);
    cr_assert(eq(int, system(command), 0));
    cr_assert(eq(int, nng_pair1_open_poly(&d->sock), 0));
    cr_assert(eq(int, nng_socket_set_ms(d->sock, NNG_OPT_RECVTIMEO, 5), 0));
    cr_assert(eq(int, nng_pipe_notify(d->sock, NNG_PIPE_EV_REM_POST, on_end, d), 0));
    cr_assert(eq(int, nng_listener_create(&listener, d->sock, url), 0));
    cr_assert(eq(int, nng_listener_set_string(listener, NNG_OPT_TLS_CERT_KEY_FILE, both), 0)); /* it asks nobody who he is */
    cr_assert(eq(int, nng_listener_start(listener, 0), 0));
}

/* A sender that gives up leaves its back connection when its receiver has hung up, and only then dials anew. It waits for that for a
 * quarter of a second, which may be over on a slow machine; not each time. */
Test(nng_slow, a_deaf_connection_is_parted_from_before_another_is_made)
{
    static const char form[] = "%s?ca=%s/ca.pem&cert=%s/client.pem&key=%s/client.key&server=localhost";
    char url[100], sender_url[4 * TEST_PATH + 200], command[TEST_PATH + 40];
    bool early = true;
    need_tls(folder);
    for (int round = 0; round < 4 && early; round++) {
        struct deaf d = { .early = false };
        cue_channel_opts opts = { .pool = far_pool, .linger = CUE_NS(-1) };
        cue_channel *s;
        url_of("tls+tcp", url, sizeof url);
        snprintf(sender_url, sizeof sender_url, form, url, folder, folder, folder);
        listen_with_tls(&d, url);
        cr_assert(eq(int, cue_channel_open(sender_url, CUE_SEND, &opts, &s), 0), "%s", cue_trail());
        CUE_MUST(cue_channel_send(s, &(cue_msg){ .data = "x", .size = 1 }, CUE_NOW));
        listen_deaf(&d);
        early = d.early;
        cr_expect(ne(u32, d.data[1], 0), "it dials anew");
        cr_expect(ne(u32, d.back[0], 0));
        cr_expect(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
        nng_close(d.sock);
    }
    cr_expect(eq(int, early, 0), "it leaves at once");
    snprintf(command, sizeof command, "find %s -mindepth 1 -delete", folder);
    cr_assert(eq(int, system(command), 0));
}
