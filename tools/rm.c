/* cuelight rm: removes a pool, or ends one named block of it. */
#include "tool.h"

#include "base/shm.h"
#include "pool/pool_internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int living(cue_pool *pool, void *arg)
{
    unsigned parties, dead;
    count_parties(pool, &parties, &dead);
    *(unsigned *)arg = parties - dead;
    return EXIT_FINE;
}

/* Something under our prefix that cannot be opened as a pool of this version. */
static int remove_object(const char *name, int why)
{
    char path[SHM_PATH_MAX];
    shm_path(name, path);
    if (anybody_holds(name) && !options.force)
        return say(EXIT_NOT_ALLOWED, "%s: %s, and a living process has it open; --force removes its name", name, cue_status_name(why));
    if (unlink(path) == 0)
        return say(EXIT_FINE, "%s: was no pool of this version (%s); removed", name, cue_status_name(why));
    return say(errno == ENOENT ? EXIT_NO_SUCH : EXIT_NOT_ALLOWED, "%s: %s", path, strerror(errno));
}

static int remove_pool(const char *name)
{
    unsigned users = 0;
    cue_pool *pool;
    int status;
    look_at(name, living, &users, &status);
    if (status == CUE_ECORRUPT || status == CUE_EVERSION)
        return remove_object(name, status);
    if (status && status != CUE_EBUSY) /* EBUSY: its last user was killed while it vanished */
        return say_status(status, name);
    if (users && !options.force)
        return say(EXIT_NOT_ALLOWED, "%s: %u living process%s it open; --force removes it nevertheless", name, users,
                   users == 1 ? " has" : "es have");
    status = cue_pool_open(name, &(cue_pool_opts){ .flags = CUE_ATTACH, .label = "cuelight rm" }, &pool);
    if (status == CUE_ENOENT)
        return EXIT_FINE; /* only the dead were attached and nothing was kept: it went when we came */
    if (!status)
        status = cue_pool_destroy(pool);
    char path[SHM_PATH_MAX];
    shm_path(name, path);
    unlink(path); /* an object that was given another name than it was made with: destroy knows only that one */
    return status ? say_status(status, name) : EXIT_FINE;
}

static int remove_block(const char *name, const char *key)
{
    cue_pool *pool;
    cue_block block;
    int status = cue_pool_open(name, &(cue_pool_opts){ .flags = CUE_ATTACH, .label = "cuelight rm" }, &pool);
    if (status)
        return say_status(status, name);
    status = cue_block_find(pool, (cue_key){ .name = key }, CUE_NOW, &block);
    if (!status && (status = cue_block_free(&block)))
        cue_block_release(&block);
    int code = status ? say_status(status, key) : EXIT_FINE;
    cue_pool_close(pool);
    return code;
}

int run_rm(void)
{
    return options.nargs > 1 ? remove_block(options.args[0], options.args[1]) : remove_pool(options.args[0]);
}
