/* Which files there are, and how one is opened. Symbolic links are not followed, but for the folders named by the user. */
#ifndef WORDCOUNT_FILES_H
#define WORDCOUNT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct file_list {
    char **paths;
    size_t count, room;
    uint64_t compressed, compressed_bytes; /* skipped for their names */
    uint64_t unreadable;                   /* folders and files that could not be looked at */
};

/* Walks the folders (or takes the files) and lists every regular file whose name is not that of a compressed one. 0, or -1
 * with errno: a root is not there, or no memory. */
int files_walk(struct file_list *list, char *const *roots);
void files_free(struct file_list *list);

bool file_is_compressed_name(const char *path);                          /* .gz .bz2 .xz .zst .Z .zip */
bool file_is_compressed_text(const unsigned char *text, uint64_t bytes); /* by the first bytes of these formats */

/* A descriptor and the size, or -1 with errno: unreadable, or no regular file any more. Never waits, follows no link. */
int file_open(const char *path, uint64_t *bytes);

/* Reads until `bytes` are there or the file ends; how many, or -1 with errno. */
int64_t file_read(int fd, unsigned char *to, uint64_t bytes);

#endif
