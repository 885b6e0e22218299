/* What strangers do to a listener over bare connections, on each transport: they say nothing, begin to greet and stop, throw
 * garbage, go while they shake hands, cut packets short, claim to send what is huge, come by the hundred and vanish. Beside them honest
 * senders of this host and of another send all the time: their messages come complete, in order, each once; afterwards the process has as
 * many descriptors as before. STRANGERS=n in the environment: how many vanish, 300 if it is not said.
 * budget: 120 s */
#include "tests/cast/nng_storm.h"
#include "tests/certificates.h"
#include "tests/harness.h"
#include "tests/stat_of.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight.h>
#include <nng/nng.h>
#include <signal.h>
#include <spawn.h>

enum { SILENT = 30, EACH = 9 /* of a kind of strangers */, RESTARTS = 12, FAR = 300, FAR_SIZE = 20000, LIE_MAX = 60 };

struct transport {
    const char *scheme;
    const char *greeting;
    size_t greeting_size;
};

#define TEXT(literal) literal, sizeof literal - 1
#define SP_GREETING TEXT("\0SP\0\0\x11\0\0") /* of pair1 */
static const struct transport transports[] = {
    { "ipc", SP_GREETING },
    { "tcp", SP_GREETING },
    { "tls+tcp", SP_GREETING },
    { "ws", TEXT("GET /lane HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: "
                 "dGhlIHNhbXBsZSBub25jZQ==\r\n"
                 "Sec-WebSocket-Protocol: pair1.sp.nanomsg.org\r\nSec-WebSocket-Version: 13\r\n\r\n") },
};

static const struct transport *transport;
static char folder[TEST_PATH], name[64], url[700], sender_url[700];
static int port;
static cue_pool *pool;
static cue_channel *receiver;
static uint64_t near_next, far_next, seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

static bool is(const char *scheme)
{
    return strcmp(transport->scheme, scheme) == 0;
}

/* ---- the lane ---- */

static void begin(const char *scheme)
{
    for (size_t i = 0; i < sizeof transports / sizeof *transports; i++)
        if (strcmp(transports[i].scheme, scheme) == 0)
            transport = &transports[i];
    cr_assert(test_folder(folder));
    strcpy(name, test_name("strangers"));
    near_next = 1;
    far_next = 0;
    seed = 4242;
    port = test_port();
    if (is("ipc")) {
        snprintf(url, sizeof url, "ipc://%s/lane", folder);
        strcpy(sender_url, url);
    } else if (is("tls+tcp")) {
        need_tls(folder);
        static const char form[] = "tls+tcp://127.0.0.1:%d?ca=%s/ca.pem&cert=%s/%s.pem&key=%s/%s.key%s";
        snprintf(url, sizeof url, form, port, folder, folder, "server", folder, "server", "");
        snprintf(sender_url, sizeof sender_url, form, port, folder, folder, "client", folder, "client", "&server=localhost");
    } else {
        snprintf(url, sizeof url, "%s://127.0.0.1:%d%s", scheme, port, is("ws") ? "/lane" : "");
        strcpy(sender_url, url);
    }
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 32 << 20, .flags = CUE_CREATE }, &pool));
    CUE_MUST(cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool, .max = 1 << 20 }, &receiver));
}

static void end(void)
{
    char command[200];
    cue_pool_info info;
    cr_assert(eq(int, cue_channel_close(receiver), 0));
    cr_assert(eq(int, cue_pool_check(pool, true, NULL, NULL), 0));
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.blocks, 0), "%lu blocks", info.blocks);
    cue_pool_close(pool);
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert(eq(int, system(command), 0));
    cr_assert(eq(int, test_leftovers(name), 0));
}

/* ---- honest senders ---- */

static void check_near(const cue_msg *m)
{
    struct numbered n;
    cr_assert(eq(sz, m->size, sizeof n));
    memcpy(&n, m->data, sizeof n);
    cr_assert(numbered_good(&n));
    cr_assert(eq(u64, n.sender, 1));
    cr_assert(eq(u64, n.number, near_next));
    near_next++;
}

static void check_far(const cue_msg *m)
{
    const unsigned char *bytes = m->data;
    cr_assert(eq(u64, m->tag, far_next), "%lu came instead of %lu", m->tag, far_next);
    cr_assert(eq(sz, m->size, FAR_SIZE));
    for (size_t i = 0; i < m->size; i++)
        if (bytes[i] != (unsigned char)(far_next * 31 + i + (i >> 8)))
            cr_fatal("byte %zu of block %lu", i, far_next);
    far_next++;
}

/* Receives what there is, of it at most so much; waits for the first. */
static void pump(int most, cue_time wait)
{
    cue_msg m;
    for (int i = 0; i < most; i++) {
        int status = cue_channel_recv(receiver, &m, i ? CUE_NOW : wait);
        if (status == CUE_EEMPTY)
            return;
        cr_assert(eq(int, status, 0), "%s", cue_trail());
        cr_assert(eq(int, m.status, 0));
        m.type == 9 ? check_far(&m) : check_near(&m);
        cue_msg_release(&m);
    }
}

static void pump_until(struct cast *sender)
{
    char byte;
    int64_t limit = test_now_ms() + test_ms(60000);
    while (recv(sender->talk, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0 && test_now_ms() < limit) { /* it has not ended */
        if (byte == 'd' || byte == 'r')
            (void)!recv(sender->talk, &byte, 1, MSG_DONTWAIT);
        byte = 0;
        pump(1000, CUE_MS(2));
    }
    cr_assert(eq(int, cast_wait(sender, 20000), 0), "%s", sender_url);
}

static struct cast start_near(void)
{
    return cast_start("nng_send", sender_url, name, "1", "1", "1000000000", "64");
}

static struct cast start_far(void)
{
    static char far_name[64], count[24], size[24];
    strcpy(far_name, test_name("far"));
    snprintf(count, sizeof count, "%d", FAR);
    snprintf(size, sizeof size, "%d", FAR_SIZE);
    return cast_start("nng_far", sender_url, far_name, count, size);
}

/* ---- connections ---- */

/* Strangers are no NNG, and none of its threads are theirs. */
struct line {
    int fd;
    pid_t tls; /* over TLS: the process that `fd` speaks through */
};

static int bare(void)
{
    struct sockaddr_un here = { .sun_family = AF_UNIX };
    struct sockaddr_in there = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port) };
    int fd = socket(is("ipc") ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(here.sun_path, sizeof here.sun_path, "%s/lane", folder);
    struct sockaddr *to = is("ipc") ? (struct sockaddr *)&here : (struct sockaddr *)&there;
    if (connect(fd, to, is("ipc") ? sizeof here : sizeof there) < 0) {
        close(fd); /* the listener is just made anew */
        return -1;
    }
    return fd;
}

static bool open_tls(struct line *line)
{
    char to[30], ca[TEST_PATH + 20], cert[TEST_PATH + 20], key[TEST_PATH + 20];
    int ends[2];
    posix_spawn_file_actions_t files;
    snprintf(to, sizeof to, "127.0.0.1:%d", port);
    snprintf(ca, sizeof ca, "%s/ca.pem", folder);
    snprintf(cert, sizeof cert, "%s/client.pem", folder);
    snprintf(key, sizeof key, "%s/client.key", folder);
    char *const command[] = { "openssl", "s_client", "-quiet", "-connect", to, "-CAfile", ca, "-cert", cert, "-key", key, NULL };
    cr_assert(eq(int, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0));
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, ends[1], 0);
    posix_spawn_file_actions_adddup2(&files, ends[1], 1);
    posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    cr_assert(eq(int, posix_spawnp(&line->tls, command[0], &files, NULL, command, environ), 0));
    posix_spawn_file_actions_destroy(&files);
    close(ends[1]);
    line->fd = ends[0];
    return true;
}

/* Of the transport's own: behind a handshake where there is one. False: not now. */
static bool line_open(struct line *line)
{
    *line = (struct line){ .fd = -1 };
    if (is("tls+tcp"))
        return open_tls(line);
    line->fd = bare();
    return line->fd >= 0;
}

static bool line_say(struct line *line, const void *bytes, size_t size)
{
    return send(line->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Some of what the other end says; 0: it has closed, -1: nothing came. */
static ssize_t line_hear(struct line *line)
{
    char bytes[500];
    struct pollfd p = { .fd = line->fd, .events = POLLIN };
    ssize_t got = poll(&p, 1, test_ms(5000)) > 0 ? recv(line->fd, bytes, sizeof bytes, 0) : -1;
    return got < 0 && errno == ECONNRESET ? 0 : got;
}

/* Whether the other end closes. */
static bool line_ends(struct line *line)
{
    ssize_t got;
    while ((got = line_hear(line)) > 0)
        ;
    return got == 0;
}

static void line_close(struct line *line, bool reset)
{
    if (line->fd >= 0 && reset)
        setsockopt(line->fd, SOL_SOCKET, SO_LINGER, &(struct linger){ .l_onoff = 1 }, sizeof(struct linger));
    if (line->fd >= 0)
        close(line->fd);
    if (line->tls) {
        kill(line->tls, SIGKILL);
        waitpid(line->tls, NULL, 0);
    }
}

/* ---- what strangers do ---- */

/* What stands before a message of that length. */
static size_t frame(char *out, uint64_t length)
{
    char *at = out;
    int bytes = !is("ws") ? 8 : length < 126 ? 0 : length < 65536 ? 2 : 8;
    if (is("ipc"))
        *at++ = 1;
    if (is("ws")) {
        *at++ = '\x82'; /* all of a message of bytes */
        *at++ = (char)(0x80 | (bytes == 0 ? length : bytes == 2 ? 126 : 127));
    }
    while (bytes)
        *at++ = (char)(length >> --bytes * 8);
    if (is("ws"))
        for (int i = 0; i < 4; i++)
            *at++ = 0; /* the mask */
    return (size_t)(at - out);
}

/* As far as a connection of ours gets. */
static bool greet(struct line *line)
{
    uint32_t before = stat_of(receiver).users;
    if (!line_open(line) || !line_say(line, transport->greeting, transport->greeting_size) || line_hear(line) <= 0)
        return false;
    for (int i = 0; line->tls && stat_of(receiver).users <= before && i < test_ms(100); i++) /* verified by then */
        pump(50, CUE_MS(1));
    return true;
}

/* They connect and stay; some begin with their greeting, or with what looks like a hello of TLS. */
static int silent[SILENT];

static void say_nothing(void)
{
    for (int i = 0; i < SILENT; i++) {
        if ((silent[i] = bare()) < 0)
            continue;
        if (i % 3 == 1)
            send(silent[i], transport->greeting, transport->greeting_size / 2, MSG_NOSIGNAL);
        if (i % 3 == 2)
            send(silent[i], "\x16\x03\x01\x02\x00\x01", 6, MSG_NOSIGNAL);
        pump(20, CUE_NOW);
    }
}

static void throw_garbage(void)
{
    char garbage[600];
    for (int i = 0; i < 3 * EACH; i++) {
        struct line line = { .fd = bare() };
        for (size_t at = 0; at < sizeof garbage; at++)
            garbage[at] = (char)draw(256);
        if (line.fd >= 0 && i % 3 == 1)
            memcpy(garbage, "\x16\x03\x01\x02\x00\x01", 6);
        if (line.fd >= 0)
            send(line.fd, garbage, draw(sizeof garbage), MSG_NOSIGNAL);
        line_close(&line, i % 2);
        pump(50, CUE_NOW);
    }
}

/* The kernel says EPIPE of those who close both directions and are gone before they are greeted. */
static void go_while_they_shake_hands(void)
{
    for (int i = 0; i < 3 * EACH; i++) {
        struct line line = { .fd = bare() };
        if (line.fd >= 0 && i % 3)
            send(line.fd, transport->greeting, transport->greeting_size / 2, MSG_NOSIGNAL);
        if (line.fd >= 0)
            shutdown(line.fd, SHUT_WR);
        line_close(&line, true);
        pump(50, CUE_NOW);
    }
}

/* Honest on the outside, and then it is no packet of ours. They stay until one was looked at; none is while the listener is stuck. */
static void send_what_makes_no_sense(void)
{
    char bytes[100] = { 0, 0, 0, 1 /* pair1's count of hops */ }, head[32];
    int looked_at = 0;
    for (int64_t limit = test_now_ms() + test_ms(30000); looked_at < EACH && test_now_ms() < limit;) {
        struct line line;
        uint64_t before = stat_of(receiver).refused;
        bool said = greet(&line); /* not while the listener is made anew */
        for (int j = 0; said && j < LIE_MAX; j++) {
            size_t size = 4 + draw(sizeof bytes - 4);
            for (size_t at = 4; at < size; at++)
                bytes[at] = (char)draw(256);
            said = line_say(&line, head, frame(head, size)) && line_say(&line, bytes, size);
            if (j % 16 == 0)
                pump(50, CUE_NOW);
        }
        for (int64_t patience = test_now_ms() + test_ms(1000); said && stat_of(receiver).refused <= before && test_now_ms() < patience;)
            pump(50, CUE_MS(1));
        looked_at += said && stat_of(receiver).refused > before;
        line_close(&line, false);
    }
    cr_assert(eq(int, looked_at, EACH), "%s", transport->scheme);
}

static void cut_packets_short(void)
{
    char bytes[1000] = { 0, 0, 0, 1 }, head[32];
    for (int i = 0; i < EACH; i++) {
        struct line line;
        if (greet(&line)) {
            size_t size = frame(head, sizeof bytes);
            if (i % 3 == 0)
                line_say(&line, head, 1 + draw((uint32_t)size - 1)); /* not even the length */
            else if (line_say(&line, head, size))
                line_say(&line, bytes, 1 + draw(sizeof bytes - 1));
        }
        line_close(&line, i % 2);
        pump(50, CUE_NOW);
    }
}

static void claim_to_be_huge(void)
{
    char head[32];
    int out = 0;
    for (int64_t limit = test_now_ms() + test_ms(30000); out < EACH / 3 && test_now_ms() < limit;) {
        struct line line;
        if (greet(&line) && line_say(&line, head, frame(head, UINT64_C(8) << 30)))
            out += line_ends(&line);
        line_close(&line, false);
        pump(200, CUE_MS(1)); /* the listener may be made anew just now */
    }
    cr_assert(eq(int, out, EACH / 3), "%s: they were not thrown out", transport->scheme);
}

static int crowd(void)
{
    const char *more = getenv("STRANGERS");
    return more ? atoi(more) : 300;
}

static void vanish(void)
{
    for (int i = 0; i < crowd(); i++) {
        struct line line = { .fd = bare() };
        if (line.fd >= 0 && i % 3)
            send(line.fd, transport->greeting, draw((uint32_t)transport->greeting_size + 1), MSG_NOSIGNAL);
        line_close(&line, i % 2);
        if (i % 4 == 0)
            pump(20, CUE_NOW);
    }
}

static const struct {
    const char *what;
    void (*act)(void);
} strangers[] = {
    { "say nothing", say_nothing },
    { "throw garbage", throw_garbage },
    { "go while they shake hands", go_while_they_shake_hands },
    { "send what makes no sense", send_what_makes_no_sense },
    { "cut packets short", cut_packets_short },
    { "claim to be huge", claim_to_be_huge },
    { "vanish", vanish },
};

/* What NNG before 1.6 keeps for good, at most one a stranger: the descriptor of who comes while its listener is stuck, and of who is
 * let in by a web socket and goes right behind its last bytes. */
static int kept_at_most(void)
{
    unsigned major = 0, minor = 0;
    bool old = sscanf(nng_version(), "%u.%u", &major, &minor) == 2 && major == 1 && minor < 6;
    return !old ? 0 : is("ws") ? 3 * EACH : SILENT + 9 * EACH + crowd();
}

static void strangers_leave_nothing(int before)
{
    for (int i = 0; i < SILENT; i++)
        if (silent[i] >= 0)
            close(silent[i]);
    int after = test_descriptors(), most = before + kept_at_most();
    for (int64_t limit = test_now_ms() + test_ms(30000); after > most && test_now_ms() < limit; after = test_descriptors())
        pump(1, CUE_MS(10));
    cr_assert(le(int, after, most), "%s: %d descriptors, %d before", transport->scheme, after, before);
}

static void all_came(uint64_t received)
{
    cue_channel_info info = stat_of(receiver);
    cr_assert(eq(u64, info.received, received));
    cr_assert(eq(u64, info.gaps, 0));
    cr_assert(eq(u64, info.dropped, 0));
    cr_assert(info.refused > 0);
}

static void honest_senders_lose_nothing(const char *scheme)
{
    begin(scheme);
    int before = test_descriptors();
    struct cast near = start_near(), far = start_far();
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        strangers[i].act();
        uint64_t enough = near_next + 200;
        for (int64_t limit = test_now_ms() + test_ms(30000); near_next < enough && test_now_ms() < limit;)
            pump(200, CUE_MS(20));
        cr_assert(ge(u64, near_next, enough), "%s: nothing came through when strangers %s", scheme, strangers[i].what);
    }
    pump_until(&far);
    cast_say(&near, 'q');
    pump_until(&near);
    cr_assert(eq(u64, far_next, FAR));
    all_came(near_next - 1 + far_next);
    strangers_leave_nothing(before);
    end();
}

/* The listener goes and comes back, while they send. */
static void senders_go_on(const char *scheme)
{
    begin(scheme);
    struct cast near = start_near(), far = start_far();
    cr_assert(eq(int, cast_hear(&near, 20000), 'r')); /* both have opened it */
    cr_assert(eq(int, cast_hear(&far, 20000), 'r'));
    for (int i = 0; i < RESTARTS; i++) {
        uint64_t enough = near_next + draw(500);
        for (int64_t limit = test_now_ms() + test_ms(30000); near_next < enough && test_now_ms() < limit;)
            pump(1 + (int)draw(100), CUE_MS(20));
        cr_assert(ge(u64, near_next, enough), "%s: nothing came after %d restarts", scheme, i);
        cr_assert(eq(int, cue_channel_close(receiver), 0));
        CUE_MUST(cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool, .max = 1 << 20 }, &receiver));
    }
    pump_until(&far);
    cast_say(&near, 'q');
    pump_until(&near);
    cr_assert(eq(u64, far_next, FAR));
    end();
}

#define ON(transport, scheme)                                                                                                              \
    Test(nng_strangers, harm_nobody_over_##transport)                                                                                      \
    {                                                                                                                                      \
        honest_senders_lose_nothing(scheme);                                                                                               \
    }
#define COMES_BACK(transport, scheme)                                                                                                      \
    Test(nng_strangers, a_listener_comes_back_over_##transport)                                                                            \
    {                                                                                                                                      \
        senders_go_on(scheme);                                                                                                             \
    }
ON(ipc, "ipc")
ON(tcp, "tcp")
ON(tls, "tls+tcp")
ON(ws, "ws")
COMES_BACK(ipc, "ipc")
COMES_BACK(tcp, "tcp")
COMES_BACK(tls, "tls+tcp")
COMES_BACK(ws, "ws")
