/* reading FOLDER...: walks the folders and reads each regular file into one buffer, as the reader of examples/wordcount must at the
 * least, and says how long that took. The limit of the rows job.*: nothing is handed to anybody. */
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static unsigned long long read_file(const char *path, char **buffer, size_t *room)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat st;
    unsigned long long bytes = 0;
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        if ((size_t)st.st_size > *room && !(*buffer = realloc(*buffer, *room = (size_t)st.st_size)))
            exit(1);
        for (ssize_t n; bytes < (unsigned long long)st.st_size && (n = read(fd, *buffer + bytes, (size_t)st.st_size - bytes)) > 0;)
            bytes += (unsigned long long)n;
    }
    close(fd);
    return bytes;
}

int main(int argc, char **argv)
{
    struct timespec begin, end;
    char *buffer = NULL;
    size_t room = 0;
    unsigned long long bytes = 0;
    if (argc < 2)
        return 2;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    FTS *walk = fts_open(argv + 1, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    if (!walk)
        return 1;
    for (const FTSENT *entry; (entry = fts_read(walk));)
        if (entry->fts_info == FTS_F)
            bytes += read_file(entry->fts_path, &buffer, &room);
    fts_close(walk);
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", bytes,
           (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
    free(buffer);
    return 0;
}
