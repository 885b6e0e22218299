/* The tool `cuelight`: what is in shared memory, who uses it, what is wrong with it.
 *
 *   cuelight COMMAND [POOL] [ARGUMENT...] [OPTION...]
 *
 * POOL is a name, or the path of a file that holds one.
 *
 * This file knows the options and the commands; ls.c, rm.c, blocks.c, doctor.c and tap.c each hold one.
 */
#include "tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#ifndef CUE_VERSION_TEXT
#define CUE_VERSION_TEXT "unknown"
#endif

struct options options;

const struct command commands[] = {
    { "ls", "ls [POOL]", "pools, or what is in one: parties, lanes",
      "Without POOL: a line a pool in /dev/shm: use, age, whose it is, who made it, who has it open; also of those that nobody has open\n"
      "any more. One that cannot be read is shown with its error. With POOL: its parties and its lanes.\n"
      "Exit: 0; 1 if there is no pool, or one is damaged or of another version; with POOL 3, 4 or 6 if it cannot be read.\n",
      0, 0, 1, run_ls, false },
    { "blocks", "blocks POOL [--type T] [--by owner|type] [--leaks]", "the blocks of a pool",
      "A line a block, with the process that owns it and when that started. --type T: only those of this type. --by owner, --by type:\n"
      "sums instead. --leaks: only blocks that nobody living will give back: owned by a dead party, or freed and looked at only by the\n"
      "dead.\n"
      "Exit: 0; 1 if no block matched; with --leaks: 1 if there is a leak.\n",
      OPT_TYPE | OPT_BY | OPT_LEAKS, 1, 1, run_blocks, false },
    { "cat", "cat POOL ID | cat POOL {--type T --id N | --name NAME} [--timeout TIME]", "writes a block's bytes to the standard output",
      "ID is what `cuelight blocks` shows, or the same as a number. A published block is preferred to one that is not published yet.\n"
      "--timeout TIME (5s, 200ms, 2m): waits so long until it is published. The bytes are copied and then checked to be still the\n"
      "block's: a block that goes meanwhile ends the output with exit code 3. --json: its row, and the bytes in base64.\n"
      "Exit: 0; 3 if there is no such block; 5 if it was not published in time.\n",
      OPT_TYPE | OPT_ID | OPT_NAME | OPT_TIMEOUT, 1, 2, run_cat, false },
    { "rm", "rm POOL [NAME] [--force]", "removes a pool, or one named block or lane",
      "Who still has the pool open gets CUE_EGONE from every call; views that they hold stay readable. A pool that is in use by living\n"
      "processes is only removed with --force. A damaged pool is removed as well if nobody living holds it; a file that is given by its\n"
      "path and is no pool is not. With NAME: ends the published block or lane of that name for everyone.\n"
      "Exit: 0; 3 no such pool or name; 4 not allowed, or in use; 6 a file that is no pool.\n",
      OPT_FORCE, 1, 2, run_rm, false },
    { "doctor", "doctor [POOL] [--fix]", "looks for what is wrong, here and in the pools",
      "Checks the machine (shared memory left, what the kernel offers) and every invariant of the pool or of all pools, and says who died\n"
      "without being cleaned up after. --fix: cleans up after the dead and removes pools that nobody uses and that hold nothing; those\n"
      "of other users only if POOL names them.\n"
      "Exit: 0 all is well (with --fix: now); 1 something is wrong; 6 a pool is damaged or of another version; with POOL also 3 and 4.\n",
      OPT_FIX, 0, 1, run_doctor, false },
    { "tap", "tap URL [--count N] [--timeout TIME]", "what passes through a lane, a line a message",
      "Looks on at shm://POOL/NAME, a lane or an actor that is there: time, sending process, type, size, tag, and the first bytes; how\n"
      "many were missed before. Nobody waits for it, and it takes nothing from the receivers. Ends at Ctrl-C, after N messages, or when\n"
      "none has come for TIME (5s, 200ms, 2m). ?depth=N keeps more back while they are printed.\n"
      "Exit: 0; 3 no such pool or lane; 4 not allowed; 5 nothing came in time.\n",
      OPT_COUNT | OPT_TIMEOUT, 1, 1, run_tap, true },
    { NULL, NULL, NULL, NULL, 0, 0, 0, NULL, false },
};

static const struct option long_options[] = {
    { "json", no_argument, NULL, 'j' },
    { "quiet", no_argument, NULL, 'q' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { "pool", required_argument, NULL, 'p' },
    { "type", required_argument, NULL, OPT_TYPE + 256 },
    { "by", required_argument, NULL, OPT_BY + 256 },
    { "leaks", no_argument, NULL, OPT_LEAKS + 256 },
    { "name", required_argument, NULL, OPT_NAME + 256 },
    { "id", required_argument, NULL, OPT_ID + 256 },
    { "fix", no_argument, NULL, OPT_FIX + 256 },
    { "force", no_argument, NULL, OPT_FORCE + 256 },
    { "timeout", required_argument, NULL, OPT_TIMEOUT + 256 },
    { "count", required_argument, NULL, OPT_COUNT + 256 },
    { NULL, 0, NULL, 0 },
};

static int help(const struct command *command)
{
    if (command) {
        printf("usage: cuelight %s\n\n%s\nEvery command takes --json (an object a line), -q (no output, only the exit code), --help.\n",
               command->synopsis, command->help);
        return EXIT_FINE;
    }
    printf("usage: cuelight COMMAND [POOL] [ARGUMENT...] [OPTION...]\n\nWhat is in cuelight's shared memory, who uses it, what is wrong "
           "with it.\n\n");
    for (const struct command *c = commands; c->name; c++)
        printf("  %-8s %s\n", c->name, c->summary);
    printf("\n  POOL       a name, or the path of a pool's file\n"
           "  --pool P   the same, instead of the first argument\n"
           "  --json     an object a line, with stable keys\n"
           "  -q         no output, only the exit code\n"
           "  --help     this, or what a command does: cuelight COMMAND --help\n"
           "  --version  which version this is\n\n"
           "Exit codes: 0 fine, 1 something wrong found or nothing matched, 2 usage, 3 no such pool, block or name, 4 not allowed,\n"
           "5 time-out, 6 corrupt or of another version, 70 a bug of ours, or no output possible.\n"
           "Pools lie in /dev/shm under the prefix $CUE_PREFIX (\"cuelight\" without it).\n"
           "Only `rm` and `doctor --fix` change anything; `tap` is a party of the pool while it runs.\n");
    return EXIT_FINE;
}

/* A number as C writes it; false: it is none, or larger than `most`. */
static bool number(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    return *text >= '0' && *text <= '9' && !*end && errno == 0 && *out <= most;
}

/* "5s", "200ms", "1.5m", or seconds; false: nothing of that. */
static bool duration(const char *text, cue_time *out)
{
    static const struct {
        const char *unit;
        double seconds;
    } units[] = { { "", 1 }, { "s", 1 }, { "ms", 1e-3 }, { "us", 1e-6 }, { "m", 60 }, { "h", 3600 } };
    char *end;
    double value = strtod(text, &end);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (*text >= '0' && *text <= '9' && strcmp(end, units[i].unit) == 0 && value * units[i].seconds < 1e9) {
            *out = CUE_SEC(value * units[i].seconds);
            return true;
        }
    return false;
}

/* The meaning of one option; false: it makes no sense (said). */
static bool option_value(int opt, const char *value)
{
    uint64_t parsed;
    switch (opt - 256) {
    case OPT_TYPE:
        if (!number(value, UINT32_MAX, &parsed))
            return say(false, "--type %s: a number is wanted", value);
        options.type = (uint32_t)parsed;
        break;
    case OPT_ID:
        if (!number(value, UINT64_MAX, &options.id))
            return say(false, "--id %s: a number is wanted", value);
        break;
    case OPT_BY:
        if (strcmp(value, "owner") != 0 && strcmp(value, "type") != 0)
            return say(false, "--by %s: only `owner` and `type` are known", value);
        options.by = value;
        break;
    case OPT_NAME:
        options.name = value;
        break;
    case OPT_TIMEOUT:
        if (!duration(value, &options.timeout))
            return say(false, "--timeout %s: a time is wanted, as in 5s, 200ms, 2m", value);
        break;
    case OPT_COUNT:
        if (!number(value, UINT64_MAX, &options.count))
            return say(false, "--count %s: a number is wanted", value);
        break;
    case OPT_LEAKS:
        options.leaks = true;
        break;
    case OPT_FIX:
        options.fix = true;
        break;
    default:
        options.force = true;
        break;
    }
    options.given |= (unsigned)(opt - 256);
    return true;
}

static int usage(const char *why, const char *what)
{
    options.quiet = false; /* a wrong command line is always told */
    return say(EXIT_USAGE, "%s%s; see cuelight --help", why, what);
}

static int unknown_command(const char *name)
{
    char known[200] = "";
    for (const struct command *c = commands; c->name; c++)
        snprintf(known + strlen(known), sizeof known - strlen(known), " %s", c->name);
    options.quiet = false;
    return say(EXIT_USAGE, "there is no command `%s`, but there are:%s; see cuelight --help", name, known);
}

/* Parses everything; -1: go on with *command. */
static int parse(int argc, char **argv, const struct command **command)
{
    bool wants_help = false;
    for (int opt; (opt = getopt_long(argc, argv, "qhV", long_options, NULL)) != -1;) {
        if (opt == 'j')
            options.json = true;
        else if (opt == 'q')
            options.quiet = true;
        else if (opt == 'h')
            wants_help = true;
        else if (opt == 'p')
            options.pool = optarg;
        else if (opt == 'V')
            return printf("cuelight " CUE_VERSION_TEXT "\n") > 0 ? EXIT_FINE : EXIT_BUG;
        else if (opt == '?' || !option_value(opt, optarg))
            return EXIT_USAGE;
    }
    if (optind < argc && strcmp(argv[optind], "help") == 0) {
        wants_help = true;
        optind++;
    }
    const char *name = optind < argc ? argv[optind++] : NULL;
    for (*command = commands; name && (*command)->name && strcmp((*command)->name, name) != 0;)
        ++*command;
    if (!name || wants_help) {
        if (name && !(*command)->name)
            return unknown_command(name);
        help(name ? *command : NULL);
        return wants_help ? EXIT_FINE : EXIT_USAGE;
    }
    if (!(*command)->name)
        return unknown_command(name);
    if (options.given & ~(*command)->takes)
        return usage("an option that is not for ", name);
    if (options.pool)
        options.args[options.nargs++] = options.pool;
    for (; optind < argc; optind++) {
        if (options.nargs >= (*command)->most)
            return usage("too many arguments: ", argv[optind]);
        options.args[options.nargs++] = argv[optind];
    }
    if (options.nargs < (*command)->least)
        return usage("which pool? usage: cuelight ", (*command)->synopsis);
    int code = options.nargs && !(*command)->url ? place_of(options.args[0], &options.at) : EXIT_FINE;
    return code ? code : -1;
}

int main(int argc, char **argv)
{
    const struct command *command;
    int done = parse(argc, argv, &command);
    if (done < 0)
        done = command->run();
    if (fflush(stdout) != 0)
        return say(EXIT_BUG, "cannot write: %s", strerror(errno));
    return done;
}
