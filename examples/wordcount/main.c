/* wordcount: counts the words of all files under some folders, with a reader, two workers and a report in processes of their own.
 *
 * This program is the reader; started again by itself it is a worker. See README.md beside this file.
 */
#include "job.h"
#include "lane.h"
#include "worker.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char usage[] =
    "usage: wordcount [OPTION]... FOLDER... [-- REPORT [ARGUMENT]...]\n"
    "Counts the words of all regular files, compressed ones aside, and leaves the totals to the program REPORT.\n"
    "  --transport=KIND  block: each file is a block that moves (default); bytes: it goes as the bytes of a message, which the\n"
    "                    library copies; pipe: through pipes, without cuelight\n"
    "  --no-count        hand the files over, but do not look at them; needs no REPORT\n"
    "  --pool=NAME       of the shared pool, default wordcount\n"
    "  --pool-size=N     bytes, with k, M or G; default 256M\n"
    "  --window=N        files in flight to a worker, default 32\n"
    "  --kill=SEED       kill a worker with SIGKILL at a moment chosen by this number\n"
    "  --stall=SECONDS   give up after so long without progress, default 60\n"
    "  --json            end with a line of JSON\n";

static atomic_int signalled;

static void on_signal(int number)
{
    atomic_store_explicit(&signalled, number, memory_order_relaxed); /* a lone flag: nothing is ordered by it */
}

bool interrupted(void)
{
    return atomic_load_explicit(&signalled, memory_order_relaxed) != 0; /* pairs with: nothing, a lone flag */
}

int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The number of an option; exits if it is none or out of bounds. */
static uint64_t number(const char *option, const char *text, uint64_t least, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    static const char suffixes[] = "kMG";
    const char *suffix = *end ? strchr(suffixes, *end) : NULL;
    unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;
    if (errno != 0 || end == text || *text == '-' || (*end && (!suffix || end[1])) || n > most >> shift || n << shift < least) {
        fprintf(stderr, "wordcount: --%s=%s: not a number from %llu to %llu\n", option, text, (unsigned long long)least,
                (unsigned long long)most);
        exit(2);
    }
    return n << shift;
}

static const struct transport *transport_of(struct options *options, const char *kind)
{
    options->bytes = strcmp(kind, "bytes") == 0;
    options->pipes = strcmp(kind, "pipe") == 0;
    if (options->bytes || strcmp(kind, "block") == 0)
        return &lane_transport;
    if (options->pipes)
        return &pipes_transport;
    fprintf(stderr, "wordcount: --transport=%s: block, bytes or pipe\n", kind);
    exit(2);
}

/* What stands behind "--" is the report's command line; the folders end before it. */
static char *const *split_report(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++)
        if (strcmp(argv[i], "--") == 0) {
            argv[i] = NULL;
            *argc = i;
            return argv[i + 1] ? argv + i + 1 : NULL;
        }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--pipes-worker") == 0)
        return pipes_worker(argv[2]);
    if (argc == 2 && strcmp(argv[1], "--worker") == 0)
        return lane_worker();

    static const struct option long_options[] = {
        { "transport", required_argument, NULL, 't' },
        { "no-count", no_argument, NULL, 'n' },
        { "pool", required_argument, NULL, 'p' },
        { "pool-size", required_argument, NULL, 's' },
        { "window", required_argument, NULL, 'w' },
        { "kill", required_argument, NULL, 'k' },
        { "stall", required_argument, NULL, 'l' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    struct options options = { .pool = "wordcount", .pool_bytes = 256 << 20, .window = 32, .count = true, .stall_s = 60 };
    const struct transport *transport = &lane_transport;
    options.report = split_report(&argc, argv);
    for (int o; (o = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (o) {
        case 't':
            transport = transport_of(&options, optarg);
            break;
        case 'n':
            options.count = false;
            break;
        case 'p':
            options.pool = optarg;
            break;
        case 's':
            options.pool_bytes = number("pool-size", optarg, 1 << 20, UINT64_C(1) << 38);
            break;
        case 'w':
            options.window = (unsigned)number("window", optarg, 1, 256);
            break;
        case 'k':
            options.kill = number("kill", optarg, 0, INT64_MAX);
            break;
        case 'l':
            options.stall_s = (int)number("stall", optarg, 1, 86400);
            break;
        case 'j':
            options.json = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return 0;
        default:
            fputs(usage, stderr);
            return 2;
        }
    }
    options.roots = argv + optind;
    if (optind == argc || options.count != (options.report != NULL)) {
        fprintf(stderr, "%s", optind == argc ? usage : "wordcount: counting needs a REPORT, and --no-count has none\n");
        return 2;
    }

    struct sigaction ending = { .sa_handler = on_signal };
    sigaction(SIGINT, &ending, NULL);
    sigaction(SIGTERM, &ending, NULL);
    sigaction(SIGHUP, &ending, NULL);
    signal(SIGPIPE, SIG_IGN);
    return job_run(&options, transport);
}
