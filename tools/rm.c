/* cuelight rm: removes a pool, or ends one named block of it. */
#include "tool.h"

#include "base/shm.h"
#include "pool/pool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct cue_pool_opts as_party = { .flags = CUE_ATTACH, .label = "cuelight rm", .mode = 0777 };

/* What was removed, for --json. */
static int removed(const char *block)
{
    struct rows *rows = rows_begin();
    row_text(rows, "pool", NULL, options.at.shown);
    row_text(rows, "name", NULL, block);
    row_flag(rows, "removed", true);
    row_end(rows);
    rows_end(rows);
    return EXIT_FINE;
}

static int living(cue_pool *pool, void *arg)
{
    unsigned parties, dead;
    count_parties(pool, &parties, &dead);
    *(unsigned *)arg = parties - dead;
    return EXIT_FINE;
}

static bool begins_as_pool(const char *path)
{
    uint64_t magic = 0;
    int fd;
    if (shm_open_path(path, false, &fd))
        return false;
    ssize_t got = pread(fd, &magic, sizeof magic, 0);
    close(fd);
    return got == sizeof magic && magic == POOL_MAGIC;
}

/* Something under our prefix that cannot be opened as a pool of this version, or a file that was one. */
static int remove_object(const struct place *place, int why)
{
    if (place->file && !begins_as_pool(place->path))
        return say(EXIT_CORRUPT, "%s is no pool: not removed", place->shown);
    if (anybody_holds(place) && !options.force)
        return say(EXIT_NOT_ALLOWED, "%s: %s, and a living process has it open; --force removes its name", place->shown,
                   cue_status_name(why));
    if (unlink(place->path))
        return say(errno == ENOENT ? EXIT_NO_SUCH : EXIT_NOT_ALLOWED, "%s: %s", place->path, strerror(errno));
    say(EXIT_FINE, "%s: was no pool of this version (%s); removed", place->shown, cue_status_name(why));
    return removed(NULL);
}

/* In /dev/shm, and in any folder that is /tmp's like, nobody else could take the name away: then the pool stays whole. */
static int check_owner(const struct place *place)
{
    struct stat info;
    char user[40];
    if (geteuid() == 0 || stat(place->path, &info) || info.st_uid == geteuid())
        return EXIT_FINE;
    show_user(user, info.st_uid);
    return say(EXIT_NOT_ALLOWED, "%s belongs to %s: only %s%s may remove it", place->shown, user, user, info.st_uid ? " or root" : "");
}

static int remove_pool(const struct place *place)
{
    unsigned users = 0;
    cue_pool *pool;
    int status, code;
    look_at(place, living, &users, &status);
    if (status == CUE_ECORRUPT || status == CUE_EVERSION)
        return remove_object(place, status);
    if (status && status != CUE_EBUSY) /* EBUSY: its last user was killed while it vanished */
        return say_unopened(status, place);
    if ((code = check_owner(place)))
        return code;
    if (users && !options.force)
        return say(EXIT_NOT_ALLOWED, "%s: %u living process%s it open; --force removes it nevertheless", place->shown, users,
                   users == 1 ? " has" : "es have");
    status = open_place(place, &as_party, &pool);
    if (status == CUE_ENOENT)
        return removed(NULL); /* only the dead were attached and nothing was kept: it went when we came */
    if (status)
        return say_unopened(status, place);
    status = cue_pool_destroy(pool);
    return status ? say_status(status, place->shown) : removed(NULL);
}

static int remove_block(const struct place *place, const char *key)
{
    cue_pool *pool;
    cue_block block;
    int status = open_place(place, &as_party, &pool);
    if (status)
        return say_unopened(status, place);
    status = cue_block_find(pool, (cue_key){ .name = key }, CUE_NOW, &block);
    if (!status && (status = cue_block_free(&block)))
        cue_block_release(&block);
    int code = EXIT_FINE;
    if (status == CUE_ENOENT)
        code = say(EXIT_NO_SUCH, "pool %s has no published block or lane %s: `cuelight blocks %s` shows those that there are", place->shown,
                   key, place->shown);
    else if (status)
        code = say_status(status, key);
    else
        removed(key);
    cue_pool_close(pool);
    return code;
}

int run_rm(void)
{
    return options.nargs > 1 ? remove_block(&options.at, options.args[1]) : remove_pool(&options.at);
}
