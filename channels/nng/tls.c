/* TLS: both ends show a certificate and check the other's.
 *
 * NNG's own defaults ask nobody: a listener starts without a certificate, and takes clients without one. So all three files are
 * required at both ends, the mode is REQUIRED, and no connection is used that NNG does not call verified (peer.c).
 *
 * NNG also says nothing about a dial that fails again and again. Therefore a sender that cannot connect asks, on a connection of
 * its own that ends with the handshake, what the matter is: tls_ask. NNG has one error for whatever fails in a handshake, so it asks
 * a second time without a look at the receiver's certificate: if that works, it was this that was wrong, else the receiver
 * does not like ours. Nothing but NNG's greeting goes through such a connection.
 *
 * A connection that just ends says nothing of that: a receiver that was killed or goes ends it so, however often in a row. Who refuses
 * says so, as TLS has it, but may close before we have read that, once in some hundred times; so a connection that just ended is asked for
 * again, and what then still is no word is none.
 */
#include "nng_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PEM_MAX = 1 << 20, GREETING = 8, ASK_AGAIN = 5, ASK_AGAIN_MS = 50 };

static int tls_missing(void)
{
    const char *engine = nng_tls_engine_name();
    return engine && *engine && strcmp(engine, "none") != 0
               ? 0
               : trail(CUE_ENOSYS, "NNG %s was built without TLS: tls+tcp:// needs one with it", nng_version());
}

/* The file as a text that the caller frees. */
static int read_pem(const char *url, const char *what, const char *path, char **out)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return trail(errno == ENOENT   ? CUE_ENOENT
                     : errno == EACCES ? CUE_EPERM
                                       : CUE_ESYS,
                     "%s: %s=%s: %s", url, what, path, strerror(errno));
    char *text = calloc(1, PEM_MAX + 1);
    size_t size = text ? fread(text, 1, PEM_MAX, file) : 0;
    fclose(file);
    *out = text;
    if (!text)
        return trail(CUE_ENOMEM, "%s: no memory", url);
    if (size > 0 && strstr(text, "-----BEGIN "))
        return 0;
    free(text);
    return trail(CUE_EINVAL, "%s: %s=%s is no PEM file", url, what, path);
}

/* How long a wrong key would otherwise stay unnoticed: until a peer connects. */
static int load_own(nng_tls_config *tls, const char *url, const cue_channel_opts *opts)
{
    char *cert, *key;
    int status = read_pem(url, "cert", opts->cert, &cert);
    if (status)
        return status;
    if (!(status = read_pem(url, "key", opts->key, &key))) {
        int failed = nng_tls_config_own_cert(tls, cert, key, NULL);
        status = failed ? nng_trail(failed, "%s: cert=%s with key=%s", url, opts->cert, opts->key) : 0;
        memset(key, 0, strlen(key));
        free(key);
    }
    free(cert);
    return status;
}

static int load_ca(nng_tls_config *tls, const char *url, const char *path)
{
    char *ca;
    int status = read_pem(url, "ca", path, &ca);
    if (status)
        return status;
    int failed = nng_tls_config_ca_chain(tls, ca, NULL);
    free(ca);
    return failed ? nng_trail(failed, "%s: ca=%s", url, path) : 0;
}

/* The URL's host, without the port and the brackets of an IPv6 address. */
static void host_of(const char *where, char *host, size_t room)
{
    const char *begin = *where == '[' ? where + 1 : where, *end = *where == '[' ? strchr(where, ']') : strrchr(where, ':');
    size_t length = end ? (size_t)(end - begin) : strlen(begin);
    snprintf(host, room, "%.*s", (int)length, begin);
}

/* On failure *out may be set, and is the caller's to free. */
static int config_make(const struct channel_url *url, const cue_channel_opts *opts, bool receiver, bool verify, nng_tls_config **out)
{
    char host[URL_WHERE_MAX];
    int failed = nng_tls_config_alloc(out, receiver ? NNG_TLS_MODE_SERVER : NNG_TLS_MODE_CLIENT);
    if (failed) {
        *out = NULL;
        return nng_trail(failed, "%s: TLS", url->plain);
    }
    if ((failed = nng_tls_config_auth_mode(*out, verify ? NNG_TLS_AUTH_MODE_REQUIRED : NNG_TLS_AUTH_MODE_NONE)))
        return nng_trail(failed, "%s: TLS", url->plain);
    host_of(url->where, host, sizeof host);
    const char *server = opts->server ? opts->server : host;
    if (!receiver && (failed = nng_tls_config_server_name(*out, server)))
        return nng_trail(failed, "%s: server=%s", url->plain, server);
    int status = load_ca(*out, url->plain, opts->ca);
    return status ? status : load_own(*out, url->plain, opts);
}

int tls_load(struct socket_lane *lane, const struct channel_url *url, const cue_channel_opts *opts, bool receiver)
{
    if (lane->scheme != SCHEME_TLS_TCP)
        return opts->ca || opts->cert || opts->key || opts->server
                   ? trail(CUE_EINVAL, "%s: ca, cert, key and server are for tls+tcp://", url->plain)
                   : 0;
    int status = tls_missing();
    if (status)
        return status;
    if (!opts->ca || !opts->cert || !opts->key)
        return trail(CUE_EINVAL, "%s: ca, cert and key are required at both ends; %s is missing", url->plain,
                     !opts->ca     ? "ca"
                     : !opts->cert ? "cert"
                                   : "key");
    status = config_make(url, opts, receiver, true, &lane->tls);
    return status || receiver ? status : config_make(url, opts, false, false, &lane->blind);
}

void tls_unload(struct socket_lane *lane)
{
    if (lane->tls)
        nng_tls_config_free(lane->tls);
    if (lane->blind)
        nng_tls_config_free(lane->blind);
    lane->tls = lane->blind = NULL;
}

int tls_dialer(const struct socket_lane *lane, nng_dialer dialer)
{
    return lane->tls ? nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, lane->tls) : 0;
}

int tls_listener(const struct socket_lane *lane, nng_listener listener)
{
    return lane->tls ? nng_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, lane->tls) : 0;
}

/* ---- what is the matter? ---- */

/* Sends or receives the greeting of NNG's protocol; TLS shakes hands under it. An error of NNG's. */
static int greet(nng_stream *stream, nng_aio *aio, bool send)
{
    static unsigned char hello[GREETING] = { 0, 'S', 'P', 0, 0, 0x11, 0, 0 };
    unsigned char answer[GREETING];
    nng_iov iov = { .iov_buf = send ? hello : answer, .iov_len = GREETING };
    nng_aio_set_iov(aio, 1, &iov);
    (send ? nng_stream_send : nng_stream_recv)(stream, aio);
    nng_aio_wait(aio);
    return nng_aio_result(aio);
}

static int ask(nng_stream_dialer *dialer, nng_aio *aio)
{
    nng_stream_dialer_dial(dialer, aio);
    nng_aio_wait(aio);
    int failed = nng_aio_result(aio);
    if (failed)
        return failed;
    nng_stream *stream = nng_aio_get_output(aio, 0);
    failed = greet(stream, aio, true);
    if (!failed)
        failed = greet(stream, aio, false);
    nng_stream_close(stream);
    nng_stream_free(stream);
    return failed;
}

/* An error of NNG's. */
static int ask_with(const struct socket_lane *lane, nng_tls_config *tls, int ms)
{
    nng_stream_dialer *dialer;
    nng_aio *aio;
    int failed = nng_stream_dialer_alloc(&dialer, lane->url);
    if (failed)
        return failed;
    failed = nng_stream_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, tls);
    if (!failed && !(failed = nng_aio_alloc(&aio, NULL, NULL))) {
        nng_aio_set_timeout(aio, ms);
        failed = ask(dialer, aio);
        nng_aio_free(aio);
    }
    nng_stream_dialer_free(dialer);
    return failed;
}

static bool just_ended(int failed)
{
    return failed == NNG_ECLOSED || failed == NNG_ECONNSHUT || failed == NNG_ECONNRESET;
}

int tls_ask(const struct socket_lane *lane, int ms)
{
    int failed = ask_with(lane, lane->tls, ms);
    for (int i = 0; i < ASK_AGAIN && just_ended(failed); i++) {
        poll(NULL, 0, ASK_AGAIN_MS);
        failed = ask_with(lane, lane->tls, ms);
    }
    if (failed != NNG_EPEERAUTH && failed != NNG_ECRYPTO)
        return 0;
    return ask_with(lane, lane->blind, ms) == 0 ? NNG_EPEERAUTH : failed;
}

int tls_refused(const struct socket_lane *lane, int nng_error)
{
    return nng_error == NNG_EPEERAUTH
               ? trail(CUE_EPERM,
                       "%s: refused its certificate: `ca` does not vouch for it, or it has expired, or is for another name than `server`",
                       lane->url)
               : trail(CUE_EPERM, "%s: it refused our certificate, or does not speak TLS", lane->url);
}
