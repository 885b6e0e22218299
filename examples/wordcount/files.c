/* Which files there are, and how one is opened: see files.h. */
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool file_is_compressed_name(const char *path)
{
    static const char *const suffixes[] = { ".gz", ".bz2", ".xz", ".zst", ".Z", ".zip" };
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        size_t n = strlen(suffixes[i]);
        if (length > n && strcmp(name + length - n, suffixes[i]) == 0)
            return true;
    }
    return false;
}

bool file_is_compressed_text(const unsigned char *text, uint64_t bytes)
{
    static const struct {
        unsigned size;
        unsigned char first[6];
    } magics[] = {
        { 2, { 0x1f, 0x8b } },                  /* gzip */
        { 3, { 'B', 'Z', 'h' } },               /* bzip2 */
        { 6, { 0xfd, '7', 'z', 'X', 'Z', 0 } }, /* xz */
        { 4, { 0x28, 0xb5, 0x2f, 0xfd } },      /* zstd */
        { 2, { 0x1f, 0x9d } },                  /* compress */
        { 4, { 'P', 'K', 3, 4 } },              /* zip */
    };
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++)
        if (bytes >= magics[i].size && memcmp(text, magics[i].first, magics[i].size) == 0)
            return true;
    return false;
}

static int list_add(struct file_list *list, const char *path)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 1024;
        char **paths = realloc(list->paths, room * sizeof *paths);
        if (!paths)
            return -1;
        list->paths = paths;
        list->room = room;
    }
    char *copy = strdup(path);
    if (!copy)
        return -1;
    list->paths[list->count++] = copy;
    return 0;
}

static void list_free(struct file_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
    free(list->paths);
}

/* A regular file. It is looked at later, when it is opened; only what is skipped for its name tells its size here. */
static int visit_file(struct file_list *list, const char *path)
{
    struct stat stat;
    if (!file_is_compressed_name(path))
        return list_add(list, path);
    list->compressed++;
    if (lstat(path, &stat) == 0)
        list->compressed_bytes += (uint64_t)stat.st_size;
    return 0;
}

static int visit(struct file_list *list, struct file_list *folders, const char *path, unsigned char kind)
{
    struct stat stat;
    if (kind == DT_UNKNOWN) { /* a file system that does not tell it with the name */
        if (lstat(path, &stat) != 0)
            list->unreadable++;
        else
            kind = S_ISREG(stat.st_mode) ? DT_REG : S_ISDIR(stat.st_mode) ? DT_DIR : DT_UNKNOWN;
    }
    if (kind == DT_REG)
        return visit_file(list, path);
    return kind == DT_DIR ? list_add(folders, path) : 0; /* links, sockets, devices: nothing */
}

static int walk_folder(struct file_list *list, struct file_list *folders, const char *path)
{
    char *inside = NULL;
    const struct dirent *entry;
    int status = 0;
    DIR *folder = opendir(path);
    if (!folder) {
        list->unreadable++;
        return 0;
    }
    while (status == 0 && (entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        free(inside);
        status = asprintf(&inside, "%s/%s", path, entry->d_name);
        if (status < 0)
            inside = NULL;
        else
            status = visit(list, folders, inside, entry->d_type);
    }
    free(inside);
    closedir(folder);
    return status;
}

static int walk_root(struct file_list *list, const char *root)
{
    struct file_list folders = { 0 };
    DIR *readable = opendir(root);
    if (!readable && errno != ENOTDIR)
        return -1;
    if (readable)
        closedir(readable);
    int status = visit(list, &folders, root, DT_UNKNOWN);
    while (status == 0 && folders.count > 0) {
        char *path = folders.paths[--folders.count];
        status = walk_folder(list, &folders, path);
        free(path);
    }
    list_free(&folders);
    return status;
}

int files_walk(struct file_list *list, char *const *roots)
{
    memset(list, 0, sizeof *list);
    for (; *roots; roots++) {
        char *root = realpath(*roots, NULL); /* a root may be a link */
        int status = root ? walk_root(list, root) : -1;
        int why = errno;
        free(root);
        errno = why;
        if (status != 0) {
            files_free(list);
            errno = why;
            return -1;
        }
    }
    return 0;
}

void files_free(struct file_list *list)
{
    list_free(list);
    memset(list, 0, sizeof *list);
}

int file_open(const char *path, uint64_t *bytes)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    struct stat stat;
    if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode)) {
        *bytes = (uint64_t)stat.st_size;
        return fd;
    }
    close(fd);
    errno = EINVAL;
    return -1;
}

int64_t file_read(int fd, unsigned char *to, uint64_t bytes)
{
    uint64_t done = 0;
    while (done < bytes) {
        ssize_t n = read(fd, to + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (uint64_t)n;
    }
    return (int64_t)done;
}
