/* Socket lanes in a process in which NNG takes no connection down any more, as NNG before 1.7 does after a fault (channels/nng/closer.c):
 * every close returns, what is left behind is said, descriptors do not leak while a receiver is away, exit ends, also while a name server
 * does not answer. How
 * senders find their next receiver then is in nng_storm.c.
 * budget: 60 s */
#include "tests/certificates.h"
#include "tests/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight.h>

static const char *const schemes[] = { "ipc", "tcp", "tls+tcp", "ws", "inproc" };
enum { SCHEMES = sizeof schemes / sizeof *schemes };

static char folder[TEST_PATH], name[64];
static cue_pool *pool;
static bool tls;

static void set_up(void)
{
    cr_assert(test_folder(folder));
    strcpy(name, test_name("hang"));
    tls = has_tls() && system("openssl version >/dev/null 2>&1") == 0;
    if (tls)
        make_certificates(folder);
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 16 << 20, .flags = CUE_CREATE }, &pool));
}

static void tear_down(void)
{
    cue_pool_close(pool);
    char command[100];
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert(eq(int, system(command), 0));
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(nng_hang, .init = set_up, .fini = tear_down);

/* Of a lane of that scheme, for its receiver and for its sender. */
static void lane_urls(const char *scheme, char *url, char *sender_url, size_t room)
{
    static const char form[] = "tls+tcp://127.0.0.1:%d?ca=%s/ca.pem&cert=%s/%s.pem&key=%s/%s.key%s";
    int port = test_port();
    if (strcmp(scheme, "ipc") == 0)
        snprintf(url, room, "ipc://%s/lane", folder);
    else if (strcmp(scheme, "inproc") == 0)
        snprintf(url, room, "inproc://hang");
    else
        snprintf(url, room, "%s://127.0.0.1:%d%s", scheme, port, strcmp(scheme, "ws") == 0 ? "/lane" : "");
    strcpy(sender_url, url);
    if (strcmp(scheme, "tls+tcp"))
        return;
    snprintf(url, room, form, port, folder, folder, "server", folder, "server", "");
    snprintf(sender_url, room, form, port, folder, folder, "client", folder, "client", "&server=localhost");
}

Test(nng_hang, channels_close_and_open_again)
{
    enum { TEXT = 4 * TEST_PATH + 80 };
    static char urls[2 * SCHEMES][TEXT];
    const char *arg[2 * SCHEMES] = { NULL };
    int n = 0;
    for (int i = 0; i < SCHEMES; i++) {
        if (strcmp(schemes[i], "tls+tcp") == 0 && !tls)
            continue;
        lane_urls(schemes[i], urls[n], urls[n + 1], TEXT);
        arg[n] = urls[n], arg[n + 1] = urls[n + 1];
        n += 2;
    }
    struct cast closes = cast_start("nng_closes", name, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5], arg[6], arg[7], arg[8], arg[9]);
    cr_assert(eq(int, cast_wait(&closes, 40000), 0));
}

/* Nothing that a sender opens stays open as long as nobody listens. */
Test(nng_hang, a_receiver_that_is_away_costs_no_descriptors)
{
    char url[4 * TEST_PATH + 80], sender_url[4 * TEST_PATH + 80];
    lane_urls(tls ? "tls+tcp" : "tcp", url, sender_url, sizeof url);
    struct cast waits = cast_start("nng_away", name, url, sender_url);
    cr_assert(eq(int, cast_wait(&waits, 40000), 0));
}

/* Neither NNG's look-up of a name nor ours, which comes when NNG hangs, keeps close or exit. */
Test(nng_hang, close_waits_for_no_name_server)
{
    struct cast well = cast_start("nng_names", name, "tcp://silent.test:9", "1"),
                hung = cast_start("nng_names", name, "tcp://silent.test:9", "2", "h");
    cr_assert(eq(int, cast_hear(&well, 20000), 'a'));
    cr_assert(eq(int, cast_wait(&well, 20000), 0));
    cr_assert(eq(int, cast_hear(&hung, 20000), 'a'));
    cr_assert(eq(int, cast_wait(&hung, 20000), 0));
}

Test(nng_hang, exit_without_closing_ends)
{
    char url[4 * TEST_PATH + 80], sender_url[4 * TEST_PATH + 80];
    cue_channel *r;
    cue_msg m;
    lane_urls("tcp", url, sender_url, sizeof url);
    CUE_MUST(cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool }, &r));
    struct cast quitter = cast_start("nng_hung", "nng_quit", sender_url, name);
    while (cue_channel_recv(r, &m, CUE_MS(200)) == 0)
        cue_msg_release(&m);
    cr_assert(eq(int, cast_wait(&quitter, 30000), 0));
    while (cue_channel_recv(r, &m, CUE_MS(20)) == 0)
        cue_msg_release(&m);
    cr_assert(eq(int, cue_channel_close(r), 0));
}
