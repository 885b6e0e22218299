/* tls+tcp://: both ends show a certificate, and whoever has none that the other trusts is refused, and told so. Certificates are
 * made by tests/tls/make.
 * budget: 90 s
 * not under tsan: NNG takes the dialer that asks why it was refused down on a thread of its own, and it is not instrumented */
#include "tests/certificates.h"
#include "tests/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <cuelight.h>
#include <nng/nng.h>
#include <nng/supplemental/tls/tls.h>
#include <pthread.h>

static char name[64], folder[TEST_PATH];
static cue_pool *pool;
static int port;

static void set_up(void)
{
    cr_assert(test_folder(folder));
    strcpy(name, test_name("tls"));
    port = test_port();
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = 32 << 20, .flags = CUE_CREATE }, &pool));
    make_certificates(folder);
}

static void tear_down(void)
{
    char command[100];
    cue_pool_info info;
    CUE_MUST(cue_pool_stat(pool, &info));
    cr_assert(eq(u64, info.blocks, 0));
    cue_pool_close(pool);
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert(eq(int, system(command), 0));
    cr_assert(eq(int, test_leftovers(name), 0));
}

TestSuite(nng_tls, .init = set_up, .fini = tear_down);

/* Opens with the certificate and key `who` and the authority `ca`, by the URL. */
static int open_as(const char *who, const char *ca, unsigned how, const char *more, cue_pool *of, cue_channel **out)
{
    char url[600];
    snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%d?ca=%s/%s.pem&cert=%s/%s.pem&key=%s/%s.key%s", port, folder, ca, folder, who, folder,
             who, more);
    return cue_channel_open(url, how, &(cue_channel_opts){ .pool = of, .linger = CUE_MS(test_ms(10000)) }, out);
}

static cue_channel *must_open(const char *who, unsigned how, cue_pool *of)
{
    cue_channel *ch;
    CUE_MUST(open_as(who, "ca", how, how == CUE_SEND ? "&server=localhost" : "", of, &ch));
    return ch;
}

static void send_number(cue_channel *ch, uint64_t value)
{
    CUE_MUST(cue_channel_send(ch, &(cue_msg){ .type = 1, .data = &value, .size = sizeof value }, CUE_SEC(10)));
}

static uint64_t receive_number(cue_channel *ch)
{
    cue_msg m;
    uint64_t value = UINT64_MAX;
    CUE_MUST(cue_channel_recv(ch, &m, CUE_SEC(10)));
    if (m.size == sizeof value)
        memcpy(&value, m.data, sizeof value);
    cue_msg_release(&m);
    return value;
}

Test(nng_tls, this_nng_has_it_or_says_so)
{
    cue_channel *ch;
    int status = open_as("server", "ca", CUE_RECV, "", pool, &ch);
    cr_assert(eq(int, status, has_tls() ? 0 : CUE_ENOSYS), "%s", cue_trail());
    if (status)
        cr_assert(strstr(cue_trail(), "without TLS") != NULL, "%s", cue_trail());
    cue_channel_close(ch);
}

#define NEEDS_TLS                                                                                                                          \
    if (!has_tls())                                                                                                                        \
    cr_skip_test("this NNG was built without TLS")

Test(nng_tls, messages_and_blocks_go_through_and_the_peer_is_verified)
{
    NEEDS_TLS;
    cue_channel *r = must_open("server", CUE_RECV, pool), *s = must_open("client", CUE_SEND, pool);
    cue_peer who;
    cue_msg m;
    for (uint64_t i = 0; i < 500; i++)
        send_number(s, i);
    CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(10)));
    cr_assert(eq(int, cue_msg_peer(&m, &who), 0), "%s", cue_trail());
    cr_assert(who.verified);
    cr_assert(eq(int, strncmp(who.label, "127.0.0.1:", 10), 0));
    cue_msg_release(&m);
    for (uint64_t i = 1; i < 500; i++)
        cr_assert(eq(u64, receive_number(r), i));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_tls, payload_to_another_host_goes_in_chunks)
{
    NEEDS_TLS;
    char far_name[64];
    cue_pool *far_pool;
    cue_block b;
    cue_msg m;
    strcpy(far_name, test_name("tlsfar"));
    setenv("CUE_HOST_ID", "another-host", 1);
    CUE_MUST(cue_pool_open(far_name, &(cue_pool_opts){ .size = 32 << 20, .flags = CUE_CREATE }, &far_pool));
    unsetenv("CUE_HOST_ID");
    cue_channel *r = must_open("server", CUE_RECV, pool), *s = must_open("client", CUE_SEND, far_pool);
    for (int i = 0; i < 5; i++) {
        CUE_MUST(cue_block_alloc(far_pool, 3 << 20, NULL, &b));
        memset(b.data, 'a' + i, b.size);
        CUE_MUST(cue_channel_send(s, &(cue_msg){ .move = &b }, CUE_SEC(20)));
    }
    for (int i = 0; i < 5; i++) {
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        cr_assert(eq(sz, m.size, 3 << 20));
        for (size_t at = 0; at < m.size; at += 1000)
            cr_assert(eq(int, ((const char *)m.data)[at], 'a' + i));
        cue_msg_release(&m);
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
    cue_pool_close(far_pool);
}

/* Who opens to send like this, to a receiver with that certificate, is refused. */
static void refused(const char *receiver, const char *who, const char *ca, const char *more, const char *trail)
{
    cue_channel *r = must_open(receiver, CUE_RECV, pool), *s = (cue_channel *)1;
    cue_msg m;
    int status = open_as(who, ca, CUE_SEND, more, pool, &s);
    cr_assert(eq(int, status, CUE_EPERM), "%s to %s: %s %s", who, receiver, cue_status_name(status), cue_trail());
    cr_assert(strstr(cue_trail(), trail) != NULL, "%s", cue_trail());
    cr_assert(eq(ptr, s, NULL));
    cr_assert(eq(int, cue_channel_recv(r, &m, CUE_MS(50)), CUE_EEMPTY));
    /* it harms nobody */
    s = must_open("client", CUE_SEND, pool);
    send_number(s, 5);
    cr_assert(eq(u64, receive_number(r), 5));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_tls, a_sender_whose_certificate_nobody_vouches_for_is_refused)
{
    NEEDS_TLS;
    refused("server", "stranger", "ca", "&server=localhost", "refused our certificate");
}

Test(nng_tls, a_sender_whose_certificate_has_expired_is_refused)
{
    NEEDS_TLS;
    refused("server", "expired", "ca", "&server=localhost", "refused our certificate");
}

Test(nng_tls, a_receiver_that_our_authority_does_not_vouch_for_is_refused)
{
    NEEDS_TLS;
    refused("server", "client", "other", "&server=localhost", "refused its certificate");
}

Test(nng_tls, a_receiver_of_another_name_is_refused)
{
    NEEDS_TLS;
    refused("server", "client", "ca", "&server=elsewhere.example", "refused its certificate");
    port = test_port();
    refused("server", "client", "ca", "", "refused its certificate"); /* without `server` the URL's host counts, 127.0.0.1 */
}

Test(nng_tls, a_receiver_whose_certificate_has_expired_is_refused)
{
    NEEDS_TLS;
    cue_channel *r = must_open("expired", CUE_RECV, pool), *s;
    cr_assert(eq(int, open_as("client", "ca", CUE_SEND, "&server=localhost", pool, &s), CUE_EPERM), "%s", cue_trail());
    cr_assert(strstr(cue_trail(), "refused its certificate") != NULL, "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_tls, who_sends_learns_of_a_refusal_that_comes_later)
{
    NEEDS_TLS;
    cue_channel *s = must_open("client", CUE_SEND, pool); /* nobody is there yet */
    send_number(s, 1);
    cue_channel *r = must_open("expired", CUE_RECV, pool);
    int status = 0;
    for (int i = 0; i < 2000 && !status; i++) {
        poll(NULL, 0, 10);
        status = cue_channel_send(s, &(cue_msg){ .data = "x", .size = 1 }, CUE_NOW);
        status = status == CUE_EFULL ? 0 : status;
    }
    cr_assert(eq(int, status, CUE_EPERM), "%s", cue_status_name(status));
    cr_assert(strstr(cue_trail(), "refused its certificate") != NULL, "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
    r = must_open("server", CUE_RECV, pool); /* and it is over when the receiver has a good one */
    cr_assert(eq(u64, receive_number(r), 1));
    for (int i = 0; i < 2000 && cue_channel_send(s, &(cue_msg){ .data = "y", .size = 1 }, CUE_NOW); i++)
        poll(NULL, 0, 10);
    for (char got = 0; got != 'y';) {
        cue_msg m;
        CUE_MUST(cue_channel_recv(r, &m, CUE_SEC(20)));
        got = *(const char *)m.data;
        cue_msg_release(&m);
    }
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

/* Accepts so many connections, one after the other, and ends each at once; then nobody listens there. */
static void *end_each(void *arg)
{
    int *listener = arg;
    for (int i = 0; i < 7; i++) {
        int fd = accept(*listener, NULL, NULL);
        if (fd < 0)
            break;
        close(fd);
    }
    close(*listener);
    return NULL;
}

/* An end of a connection is no word on a certificate. */
Test(nng_tls, a_connection_that_ends_is_no_refusal)
{
    NEEDS_TLS;
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port) };
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pthread_t thread;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)); /* for who listens there next */
    cr_assert(eq(int, bind(listener, (struct sockaddr *)&at, sizeof at), 0));
    cr_assert(eq(int, listen(listener, 20), 0));
    cr_assert(eq(int, pthread_create(&thread, NULL, end_each, &listener), 0));
    cue_channel *s = must_open("client", CUE_SEND, pool);
    pthread_join(thread, NULL); /* it dials, too */
    send_number(s, 3);
    cue_channel *r = must_open("server", CUE_RECV, pool);
    cr_assert(eq(u64, receive_number(r), 3));
    cr_assert(eq(int, cue_channel_close(s), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

Test(nng_tls, a_receiver_without_tls_is_said)
{
    NEEDS_TLS;
    char url[100];
    cue_channel *r, *s;
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", port);
    CUE_MUST(cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .pool = pool }, &r));
    cr_assert(eq(int, open_as("client", "ca", CUE_SEND, "&server=localhost", pool, &s), CUE_EPERM));
    cr_assert(strstr(cue_trail(), "does not speak TLS") != NULL, "%s", cue_trail());
    cr_assert(eq(int, cue_channel_close(r), 0));
}

struct restarts {
    char url[600];
    _Atomic int enough, count;
};

/* A receiver that is killed at any moment of its first dozen milliseconds, and comes again. */
static void *restart(void *arg)
{
    struct restarts *to = arg;
    for (; !to->enough; to->count++) {
        struct cast receiver = cast_start("nng_listen", to->url, name);
        if (to->count % 2)
            cast_hear(&receiver, 20000);
        usleep((useconds_t)(to->count * 737 % 12000));
        cast_kill(&receiver);
    }
    return NULL;
}

Test(nng_tls, a_receiver_that_restarts_again_and_again_refuses_nobody)
{
    NEEDS_TLS;
    struct restarts restarts = { .count = 0 };
    pthread_t thread;
    snprintf(restarts.url, sizeof restarts.url, "tls+tcp://127.0.0.1:%d?ca=%s/ca.pem&cert=%s/server.pem&key=%s/server.key", port, folder,
             folder, folder);
    cr_assert(eq(int, pthread_create(&thread, NULL, restart, &restarts), 0));
    int opened = 0;
    for (int64_t end = test_now_ms() + 2000; test_now_ms() < end || restarts.count < 20; opened++) {
        cue_channel *s = NULL;
        int status = open_as("client", "ca", CUE_SEND, "&server=localhost", pool, &s);
        cr_assert(eq(int, status, 0), "open %d, after %d restarts: %s", opened, restarts.count, cue_trail());
        cr_assert(eq(int, cue_channel_close(s), 0));
    }
    restarts.enough = 1;
    pthread_join(thread, NULL);
    printf("%d opened, %d restarts\n", opened, restarts.count);
}

Test(nng_tls, certificates_that_are_missing_or_wrong_are_said_at_open)
{
    NEEDS_TLS;
    static const struct {
        const char *options;
        int status;
    } rows[] = {
        { "", CUE_EINVAL },
        { "?ca=%s/ca.pem", CUE_EINVAL },
        { "?ca=%s/ca.pem&cert=%s/client.pem", CUE_EINVAL },
        { "?ca=%s/nowhere.pem&cert=%s/client.pem&key=%s/client.key", CUE_ENOENT },
        { "?ca=%s/ca.pem&cert=%s/nowhere.pem&key=%s/client.key", CUE_ENOENT },
        { "?ca=%s/make.log&cert=%s/client.pem&key=%s/client.key", CUE_EINVAL },
        { "?ca=%s/ca.pem&cert=%s/client.key&key=%s/client.key", CUE_EPERM },
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (unsigned how = CUE_RECV; how <= CUE_SEND; how++) {
            char options[400], url[600];
            cue_channel *ch = (cue_channel *)1;
            snprintf(options, sizeof options, rows[i].options, folder, folder, folder);
            snprintf(url, sizeof url, "tls+tcp://127.0.0.1:%d%s", port, options);
            cr_expect(eq(int, cue_channel_open(url, how, &(cue_channel_opts){ .pool = pool }, &ch), rows[i].status), "%s: %s", url,
                      cue_trail());
            cr_expect(eq(ptr, ch, NULL));
            cr_expect(gt(sz, strlen(cue_trail()), 10));
        }
}

Test(nng_tls, a_plain_client_gets_nothing_through)
{
    NEEDS_TLS;
    char url[100];
    cue_msg m;
    cue_channel *r = must_open("server", CUE_RECV, pool), *s;
    snprintf(url, sizeof url, "tcp://127.0.0.1:%d", port);
    CUE_MUST(cue_channel_open(url, CUE_SEND, &(cue_channel_opts){ .pool = pool, .linger = CUE_MS(100) }, &s));
    send_number(s, 1);
    cr_assert(eq(int, cue_channel_recv(r, &m, CUE_MS(300)), CUE_EEMPTY));
    cr_assert(eq(int, cue_channel_close(s), CUE_ETIMEDOUT));
    cr_assert(eq(int, cue_channel_close(r), 0));
}
