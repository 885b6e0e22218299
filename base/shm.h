/* Shared memory objects: made without a name, mapped, given a name when they are complete, made present before use.
 *
 * Objects lie in /dev/shm as PREFIX.NAME. They are made with O_TMPFILE and linked once complete, so nobody ever opens half a
 * pool and a creator that is killed leaves nothing.
 *
 * PRESENCE. Even reading a hole of a tmpfs file takes a page, and is SIGBUS when the file system is full. So every range is
 * made present before its first use: MADV_POPULATE_WRITE allocates, zeroes and maps the pages and, when there is no room,
 * says EFAULT instead of killing. It costs what fallocate and the first touch cost together (measured: 2.1 us a page against
 * 0.9 + 0.9), works on the mapping and so also after closefrom(), and needs Linux 5.14; before that fallocate does the same.
 */
#ifndef BASE_SHM_H
#define BASE_SHM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SHM_NAME_MAX = 63, SHM_PATH_MAX = 160 };

/* Whether `name` is 1–63 of A–Z a–z 0–9 . _ - and neither "." nor "..". */
bool shm_name_valid(const char *name);

/* The path of an object: /dev/shm/PREFIX.NAME with $CUE_PREFIX, "cuelight" without. */
void shm_path(const char *name, char path[SHM_PATH_MAX]);
/* Where objects lie, and what their file names begin with ("PREFIX."); for those who list them. */
const char *shm_directory(void);
const char *shm_prefix(void);

int shm_make(uint64_t bytes, unsigned mode, int *fd);                           /* unnamed, `bytes` long, all holes */
int shm_make_in(const char *directory, uint64_t bytes, unsigned mode, int *fd); /* the same on another file system */
/* One that never has a name, and whose size nobody can change. CUE_ENOSYS: no huge pages here. */
int shm_make_memfd(const char *label, uint64_t bytes, unsigned mode, bool huge, int *fd);
bool shm_huge(int fd);                                    /* does it lie on a hugetlbfs? */
int shm_link(int fd, const char *path);                   /* gives it its name, CUE_EEXIST without a trail */
int shm_open_path(const char *path, bool write, int *fd); /* CUE_ENOENT without a trail */
int shm_reopen(int fd);                                   /* a file description of its own for the same object, or -1 */
bool shm_same(int fd, const char *path);                  /* does the path still name this object? */

/* Maps it at an address aligned to 2 MiB; left out of core dumps. */
int shm_map(int fd, uint64_t bytes, bool write, void **base);
void shm_unmap(void *base, uint64_t bytes);

/* Its pages, as they are taken, come from this NUMA node; for all who map it. CUE_EINVAL: no such node; CUE_ENOSYS: no NUMA here. */
enum { SHM_NODES_MAX = 1024 };
int shm_bind(void *base, uint64_t bytes, unsigned node);

/* Makes [base + offset, + bytes) present. After CUE_ENOMEM some of it may be: the caller punches what it knows to be new. */
int shm_populate(int fd, void *base, uint64_t offset, uint64_t bytes);
/* Gives whole pages back; they read as zero when they come again. */
int shm_punch(void *base, uint64_t offset, uint64_t bytes);

/* Private memory that reads as zero, is taken as touched, and is zero again in a forked child. */
void *private_zero(uint64_t bytes);
void private_release(void *base, uint64_t bytes);

#endif
