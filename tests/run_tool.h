/* Running the tool `cuelight` as people run it. */
#ifndef TESTS_RUN_TOOL_H
#define TESTS_RUN_TOOL_H

#include "tests/harness.h"

#include "base/shm.h"

#include <libgen.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SAID = 1 << 16 };

static char said[SAID];      /* by the last run, both streams */
static char tool_path[512];  /* "": the one that was built with this program */
static char tool_before[80]; /* what the shell runs it by */

/* Starts `cuelight ARGS`, a line for the shell. */
static FILE *tool_start(const char *args)
{
    char self[512] = "", line[1700];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    if (!tool_path[0])
        snprintf(tool_path, sizeof tool_path, "%.400s/../bin/cuelight", dirname(self));
    snprintf(line, sizeof line, "timeout %d %s %s %s 2>&1", test_ms(20000) / 1000, tool_before, tool_path, args);
    return popen(line, "r");
}

/* Its exit code, or 256 + the signal that ended it. */
static int tool_end(FILE *out)
{
    size_t got = out ? fread(said, 1, sizeof said - 1, out) : 0;
    said[got] = 0;
    int status = out ? pclose(out) : -1;
    if (WIFEXITED(status) && WEXITSTATUS(status) > 128) /* the shell's word for a signal */
        return 256 + WEXITSTATUS(status) - 128;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
}

static __attribute__((format(printf, 1, 2))) int tool(const char *format, ...)
{
    char args[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(args, sizeof args, format, list);
    va_end(list);
    return tool_end(tool_start(args));
}

static bool says(const char *text)
{
    if (strstr(said, text))
        return true;
    fprintf(stderr, "\"%s\" is not in:\n%s\n", text, said);
    return false;
}

#endif
