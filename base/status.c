/* Statuses and the trail.
 *
 * The table in cuelight/error.h is the only place where a code, its name and its text stand; everything here is made from it.
 * The trail is 1 KiB of thread-local text. The place that fails starts it, callers that know more add to it, the next
 * failing call starts it anew. Nothing here allocates, so it also works when memory is short.
 */
#include "trail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIL_BYTES = 1024 };

static _Thread_local char trail_text[TRAIL_BYTES];

const char *cue_status_name(int status)
{
#define NAME(name, code, text)                                                                                                             \
    case code:                                                                                                                             \
        return "CUE_" #name;
    switch (status) {
    case 0:
        return "CUE_OK";
        CUE_STATUS(NAME)
    default:
        return status > 0 ? "CUE_OK" : "CUE_E?";
    }
#undef NAME
}

const char *cue_status_text(int status)
{
#define TEXT(name, code, text)                                                                                                             \
    case code:                                                                                                                             \
        return text;
    switch (status) {
    case 0:
        return "it worked";
        CUE_STATUS(TEXT)
    default:
        return status > 0 ? "it worked" : status <= -1000 ? "the application's own reason" : "no such status";
    }
#undef TEXT
}

const char *cue_trail(void)
{
    return trail_text;
}

int trail(int status, const char *format, ...)
{
    int saved = errno;
    va_list args;
    va_start(args, format);
    vsnprintf(trail_text, sizeof trail_text, format, args);
    va_end(args);
    errno = saved;
    return status;
}

static int status_of_errno(int error)
{
    switch (error) {
    case ENOSPC:
    case ENOMEM:
    case EDQUOT:
        return CUE_ENOMEM;
    case EMFILE:
    case ENFILE:
    case ENOLCK:
        return CUE_ELIMIT;
    case EACCES:
    case EPERM:
    case EROFS:
        return CUE_EPERM;
    case ENOENT:
        return CUE_ENOENT;
    case EEXIST:
        return CUE_EEXIST;
    case ENOSYS:
    case EOPNOTSUPP:
        return CUE_ENOSYS;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return CUE_EUNREACH;
    default:
        return CUE_ESYS;
    }
}

int trail_errno(const char *format, ...)
{
    int error = errno;
    va_list args;
    va_start(args, format);
    vsnprintf(trail_text, sizeof trail_text, format, args);
    va_end(args);
    size_t used = strlen(trail_text);
    char text[128];
    snprintf(trail_text + used, sizeof trail_text - used, ": %s", strerror_r(error, text, sizeof text));
    errno = error;
    return status_of_errno(error);
}

int trail_in(int status, const char *format, ...)
{
    int saved = errno;
    size_t used = strlen(trail_text);
    if (used + 8 < sizeof trail_text) {
        used += (size_t)snprintf(trail_text + used, sizeof trail_text - used, "%s", used ? "; in " : "in ");
        va_list args;
        va_start(args, format);
        vsnprintf(trail_text + used, sizeof trail_text - used, format, args);
        va_end(args);
    }
    errno = saved;
    return status;
}

int cue_must(int status, const char *call, const char *file, int line)
{
    if (status >= 0)
        return status;
    fprintf(stderr, "%s:%d: %s: %s (%s)%s%s\n", file, line, call, cue_status_name(status), cue_status_text(status),
            trail_text[0] ? ": " : "", trail_text);
    abort();
}
