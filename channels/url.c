/* A channel's URL: scheme://where[?option=value&…].
 *
 * One table says which options there are, for which schemes, and how a value is read; a URL that makes no sense gets a trail
 * that names the part and what may stand there.
 */
#include "channel_internal.h"

#include "base/shm.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHM = 1, SOCKET = 2, OPTION_TEXT_MAX = URL_TEXT_MAX, OPTION_WORD_MAX = 72 };

static const struct {
    const char *name;
    enum scheme scheme;
} schemes[] = {
    { "shm", SCHEME_SHM },         { "ipc", SCHEME_IPC }, { "tcp", SCHEME_TCP },
    { "tls+tcp", SCHEME_TLS_TCP }, { "ws", SCHEME_WS },   { "inproc", SCHEME_INPROC },
};

enum reading { COUNT, SIZE, TIME, KIND, FULL, NAME, TEXT, LATER };

static const struct option {
    const char *name;
    int schemes;
    enum reading reading;
    size_t at; /* in cue_channel_opts */
    uint64_t most;
    const char *later; /* LATER: what it needs that is not there */
} options[] = {
    { "kind", SHM | SOCKET, KIND, offsetof(cue_channel_opts, kind), 0, NULL },
    { "full", SHM | SOCKET, FULL, offsetof(cue_channel_opts, full), 0, NULL },
    { "depth", SHM | SOCKET, COUNT, offsetof(cue_channel_opts, depth), 1 << 24, NULL },
    { "type", SHM | SOCKET, COUNT, offsetof(cue_channel_opts, type), CUE_TYPE_SYSTEM - 1, NULL },
    { "bytes", SHM | SOCKET, SIZE, offsetof(cue_channel_opts, bytes), UINT64_C(1) << 40, NULL },
    { "max", SHM | SOCKET, SIZE, offsetof(cue_channel_opts, max), UINT64_C(1) << 40, NULL },
    { "spin", SHM | SOCKET, TIME, offsetof(cue_channel_opts, spin), 0, NULL },
    { "role", SOCKET, COUNT, offsetof(cue_channel_opts, role), 2, NULL },
    { "flush", SOCKET, TIME, offsetof(cue_channel_opts, flush), 0, NULL },
    { "linger", SOCKET, TIME, offsetof(cue_channel_opts, linger), 0, NULL },
    { "redeliver", SHM, COUNT, offsetof(cue_channel_opts, redeliver), 1000, NULL },
    { "dead", SHM, NAME, offsetof(cue_channel_opts, dead), 0, NULL },
    { "history", SHM, COUNT, offsetof(cue_channel_opts, history), 1 << 20, NULL },
    { "ca", SOCKET, TEXT, offsetof(cue_channel_opts, ca), 0, NULL },
    { "cert", SOCKET, TEXT, offsetof(cue_channel_opts, cert), 0, NULL },
    { "key", SOCKET, TEXT, offsetof(cue_channel_opts, key), 0, NULL },
    { "server", SOCKET, TEXT, offsetof(cue_channel_opts, server), 0, NULL },
    { "users", SOCKET, TEXT, offsetof(cue_channel_opts, users), 0, NULL },
};
enum { OPTIONS = sizeof options / sizeof *options };

/* ---- values ---- */

/* Digits, then a rest that the caller looks at. */
static bool read_number(const char *text, uint64_t *value, const char **rest)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    bool hex = text[0] == '0' && (text[1] | 32) == 'x';
    uint64_t number = 0;
    if (hex) {
        number = strtoull(text, &end, 16);
    } else {
        for (end = (char *)(uintptr_t)text; isdigit((unsigned char)*end); end++) {
            if (number > (UINT64_MAX - 9) / 10)
                return false;
            number = number * 10 + (uint64_t)(*end - '0');
        }
    }
    *value = number;
    *rest = end;
    return true;
}

static bool read_size(const char *text, uint64_t *value)
{
    const char *unit;
    if (!read_number(text, value, &unit))
        return false;
    unsigned shift = *unit == 'k' || *unit == 'K' ? 10 : *unit == 'M' ? 20 : *unit == 'G' ? 30 : 0;
    if (*value > UINT64_MAX >> 1 >> shift || (shift ? unit[1] : unit[0]))
        return false;
    *value <<= shift;
    return true;
}

static bool read_time(const char *text, cue_time *value)
{
    const char *unit;
    uint64_t number, scale;
    if (!read_number(text, &number, &unit))
        return false;
    if (strcmp(unit, "us") == 0)
        scale = 1000;
    else if (strcmp(unit, "ms") == 0)
        scale = 1000000;
    else if (strcmp(unit, "s") == 0)
        scale = 1000000000;
    else if (number == 0 && *unit == 0)
        scale = 1;
    else
        return false;
    if (number > INT64_MAX / scale)
        return false;
    value->ns = number ? (int64_t)(number * scale) : -1; /* in the struct zero is the default, in the URL it means none */
    return true;
}

static bool read_word(const char *text, const char *const words[], uint32_t *value)
{
    for (uint32_t i = 0; words[i]; i++)
        if (strcmp(text, words[i]) == 0) {
            *value = i + 1;
            return true;
        }
    return false;
}

static int option_set(const char *url, const struct option *option, const char *text, struct channel_url *out, cue_channel_opts *opts)
{
    static const char *const kinds[] = { "mailbox", "queue", "stream", "topic", NULL };
    static const char *const fulls[] = { "fail", "drop-new", "drop-old", NULL };
    char *field = (char *)opts + option->at;
    uint64_t number = 0;
    switch (option->reading) {
    case COUNT:
        if (!read_size(text, &number) || number == 0 || number > option->most)
            return trail(CUE_EINVAL, "%s: %s=%s is not a number from 1 to %llu (k, M, G may follow)", url, option->name, text,
                         (unsigned long long)option->most);
        *(uint32_t *)(void *)field = (uint32_t)number;
        return 0;
    case SIZE:
        if (!read_size(text, &number) || number == 0 || number > option->most)
            return trail(CUE_EINVAL, "%s: %s=%s is not a number of bytes from 1 to %llu (k, M, G may follow)", url, option->name, text,
                         (unsigned long long)option->most);
        *(uint64_t *)(void *)field = number;
        return 0;
    case TIME:
        if (!read_time(text, (cue_time *)(void *)field))
            return trail(CUE_EINVAL, "%s: %s=%s is not a time: a number followed by us, ms or s, or 0", url, option->name, text);
        return 0;
    case KIND:
        if (!read_word(text, kinds, &opts->kind))
            return trail(CUE_EINVAL, "%s: kind=%s is none of mailbox queue stream topic", url, text);
        return 0;
    case FULL:
        if (!read_word(text, fulls, &opts->full))
            return trail(CUE_EINVAL, "%s: full=%s is none of fail drop-new drop-old", url, text);
        return 0;
    case NAME:
        if (!shm_name_valid(text))
            return trail(CUE_EINVAL, "%s: %s=%s is no name of a lane: 1 to 63 characters of A-Z a-z 0-9 . _ -", url, option->name, text);
        snprintf(out->dead, sizeof out->dead, "%s", text);
        *(const char **)(void *)field = out->dead;
        return 0;
    case TEXT:
        if (!*text)
            return trail(CUE_EINVAL, "%s: %s= says nothing", url, option->name);
        number = (option->at - offsetof(cue_channel_opts, ca)) / sizeof(char *); /* they stand side by side, from `ca` on */
        snprintf(out->text[number], URL_TEXT_MAX, "%s", text);
        *(const char **)(void *)field = out->text[number];
        return 0;
    case LATER:
        break;
    }
    return trail(CUE_ENOSYS, "%s: option %s is for %s, which are not built in", url, option->name, option->later);
}

/* "kind full depth …": what may stand there. */
static void names_of_options(int scheme, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (unsigned i = 0; i < OPTIONS; i++) {
        size_t length = strlen(options[i].name);
        if (!(options[i].schemes & scheme) || options[i].reading == LATER || used + length + 2 > bytes)
            continue;
        memcpy(text + used, options[i].name, length);
        used += length;
        text[used++] = ' ';
        text[used] = 0;
    }
}

static int option_read(const char *url, int scheme, const char *part, size_t length, struct channel_url *out, cue_channel_opts *opts)
{
    char text[OPTION_TEXT_MAX + 1], allowed[160];
    const char *equals = memchr(part, '=', length);
    if (length > OPTION_TEXT_MAX || !equals)
        return trail(CUE_EINVAL, "%s: \"%.*s\" is not option=value", url, (int)(length > 80 ? 80 : length), part);
    memcpy(text, part, length);
    text[length] = 0;
    text[equals - part] = 0;
    for (unsigned i = 0; i < OPTIONS; i++)
        if ((options[i].schemes & scheme) && strcmp(text, options[i].name) == 0 &&
            (options[i].reading == TEXT || length <= OPTION_WORD_MAX))
            return option_set(url, &options[i], text + (equals - part) + 1, out, opts);
    names_of_options(scheme, allowed, sizeof allowed);
    return trail(CUE_EINVAL, "%s: no option \"%s\" for this scheme; there are: %s", url, text, allowed);
}

static int options_read(const char *url, int scheme, const char *at, struct channel_url *out, cue_channel_opts *opts)
{
    while (*at) {
        size_t length = strcspn(at, "&");
        int status = option_read(url, scheme, at, length, out, opts);
        if (status)
            return status;
        at += length;
        if (*at == '&' && !*++at)
            return trail(CUE_EINVAL, "%s: ends with &", url);
    }
    return 0;
}

/* ---- where ---- */

static int shm_where(const char *url, const char *where, size_t length, struct channel_url *out)
{
    const char *slash = memchr(where, '/', length);
    size_t pool = slash ? (size_t)(slash - where) : 0, name = slash ? length - pool - 1 : 0;
    if (!slash)
        return trail(CUE_EINVAL, "%s: shm:// needs POOL/NAME", url);
    if (pool >= sizeof out->pool || name >= sizeof out->name)
        return trail(CUE_EINVAL, "%s: names have at most 63 characters", url);
    memcpy(out->pool, where, pool);
    memcpy(out->name, slash + 1, name);
    if (pool && !shm_name_valid(out->pool))
        return trail(CUE_EINVAL, "%s: \"%s\" is no name of a pool: 1 to 63 characters of A-Z a-z 0-9 . _ -", url, out->pool);
    if (!shm_name_valid(out->name + (out->name[0] == '@'))) /* @: the library's own, see pool_topics.c */
        return trail(CUE_EINVAL, "%s: \"%s\" is no name of a lane: 1 to 63 characters of A-Z a-z 0-9 . _ -", url, out->name);
    return 0;
}

int url_parse(const char *url, struct channel_url *out, cue_channel_opts *opts)
{
    memset(out, 0, sizeof *out);
    if (!url)
        return trail(CUE_EINVAL, "no URL given");
    if (strlen(url) > 1024)
        return trail(CUE_EINVAL, "a URL of %zu characters: at most 1024", strlen(url));
    const char *where = strstr(url, "://");
    size_t i = 0, scheme_length = where ? (size_t)(where - url) : 0, count = sizeof schemes / sizeof *schemes;
    while (i < count && (strlen(schemes[i].name) != scheme_length || memcmp(url, schemes[i].name, scheme_length) != 0))
        i++;
    if (!where || i == count)
        return trail(CUE_EINVAL, "%s: a URL begins with one of shm:// ipc:// tcp:// tls+tcp:// ws:// inproc://", url);
    out->scheme = schemes[i].scheme;
    where += 3;
    size_t length = strcspn(where, "?");
    int status = 0, mask = out->scheme == SCHEME_SHM ? SHM : SOCKET;
    if (out->scheme == SCHEME_SHM)
        status = shm_where(url, where, length, out);
    else if (length == 0 || length + scheme_length + 4 > sizeof out->plain)
        status = trail(CUE_EINVAL, "%s: an address of 1 to %zu characters must follow ://", url, sizeof out->plain - scheme_length - 4);
    if (status)
        return status;
    if (out->scheme != SCHEME_SHM) {
        memcpy(out->where, where, length);
        memcpy(out->plain, url, scheme_length + 3 + length);
    }
    if (where[length] == '?' && !where[length + 1])
        return trail(CUE_EINVAL, "%s: ends with ?", url);
    return where[length] ? options_read(url, mask, where + length + 1, out, opts) : 0;
}
