/* cast: a process of a test, in one of the roles of roles.h. */
#include "tests/cast/roles.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define ROLE_DECLARE(name, what) int role_##name(int argc, char **argv);
ROLES(ROLE_DECLARE)

#define ROLE_ROW(name, what) { #name, what, role_##name },
static const struct role {
    const char *name, *what;
    int (*run)(int argc, char **argv);
} roles[] = { ROLES(ROLE_ROW) };

int role_say(char byte)
{
    return send(CAST_FD, &byte, 1, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int role_hear(void)
{
    unsigned char byte;
    return recv(CAST_FD, &byte, 1, 0) == 1 ? byte : -1;
}

void role_rest(unsigned us)
{
    nanosleep(&(struct timespec){ .tv_nsec = (long)us * 1000 }, NULL);
}

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof roles / sizeof *roles; i++)
        if (strcmp(argv[1], roles[i].name) == 0)
            return roles[i].run(argc - 1, argv + 1);
    fprintf(stderr, "usage: cast ROLE ARG...\n");
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        fprintf(stderr, "  %s %s\n", roles[i].name, roles[i].what);
    return 126;
}
