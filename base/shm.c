#include "shm.h"

#include "trail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum { PAGE = 4096 };
static const uint64_t MAP_ALIGN = 2u << 20;

static bool fit_for_a_name(char c)
{
    return (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '.' || c == '_' || c == '-';
}

bool shm_name_valid(const char *name)
{
    size_t length = 0;
    while (name && length <= SHM_NAME_MAX && fit_for_a_name(name[length]))
        length++;
    return length > 0 && length <= SHM_NAME_MAX && !name[length] && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

const char *shm_directory(void)
{
    return "/dev/shm";
}

const char *shm_prefix(void)
{
    static _Thread_local char prefix[SHM_NAME_MAX + 2];
    const char *chosen = secure_getenv("CUE_PREFIX");
    snprintf(prefix, sizeof prefix, "%s.", shm_name_valid(chosen) ? chosen : "cuelight");
    return prefix;
}

void shm_path(const char *name, char path[SHM_PATH_MAX])
{
    snprintf(path, SHM_PATH_MAX, "%s/%s%s", shm_directory(), shm_prefix(), name);
}

int shm_make_in(const char *directory, uint64_t bytes, unsigned mode, int *fd)
{
    *fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
    if (*fd < 0)
        return trail_errno("cannot make a shared memory object in %s", directory);
    /* fchmod, not the umask, decides who may open it */
    if (fchmod(*fd, mode) == 0 && ftruncate(*fd, (off_t)bytes) == 0)
        return 0;
    int status = trail_errno("cannot make a shared memory object of %llu bytes", (unsigned long long)bytes);
    close(*fd);
    *fd = -1;
    return status;
}

int shm_make(uint64_t bytes, unsigned mode, int *fd)
{
    return shm_make_in(shm_directory(), bytes, mode, fd);
}

int shm_make_memfd(const char *label, uint64_t bytes, unsigned mode, bool huge, int *fd)
{
    *fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | MFD_HUGE_2MB : 0));
    if (*fd < 0 && huge)
        return trail(CUE_ENOSYS, "this kernel has no huge pages of 2 MiB for a memfd (%s)", strerror(errno));
    if (*fd >= 0 && fchmod(*fd, mode) == 0 && ftruncate(*fd, (off_t)bytes) == 0 &&
        fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        return 0;
    int status = trail_errno("cannot make a memfd of %llu bytes", (unsigned long long)bytes);
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return status;
}

bool shm_huge(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC;
}

int shm_bind(void *base, uint64_t bytes, unsigned node)
{
    enum { BIND = 2, WORD = 8 * sizeof(unsigned long) }; /* MPOL_BIND */
    unsigned long nodes[SHM_NODES_MAX / WORD] = { 0 };
    nodes[node / WORD] |= 1ul << node % WORD;
    if (syscall(SYS_mbind, base, bytes, BIND, nodes, (unsigned long)SHM_NODES_MAX, 0) == 0)
        return 0;
    if (errno == EINVAL)
        return trail(CUE_EINVAL, "this machine has no NUMA node %u, or no memory there (see /sys/devices/system/node)", node);
    return errno == ENOSYS ? trail(CUE_ENOSYS, "this kernel knows no NUMA nodes")
                           : trail_errno("cannot take memory from NUMA node %u", node);
}

int shm_link(int fd, const char *path)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    return errno == EEXIST ? CUE_EEXIST : trail_errno("cannot name the shared memory object %s", path);
}

int shm_open_path(const char *path, bool write, int *fd)
{
    /* not to wait for the other end of a FIFO that somebody put there; files know no waiting */
    *fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (*fd >= 0)
        return 0;
    return errno == ENOENT ? CUE_ENOENT : trail_errno("cannot open %s", path);
}

int shm_reopen(int fd)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return open(self, O_RDWR | O_CLOEXEC);
}

bool shm_same(int fd, const char *path)
{
    struct stat ours, theirs;
    return fstat(fd, &ours) == 0 && lstat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

int shm_map(int fd, uint64_t bytes, bool write, void **base)
{
    /* reserve more, then map over the aligned part of it */
    uint64_t room = bytes + MAP_ALIGN;
    char *reserved = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED)
        return trail_errno("cannot reserve %llu bytes of address space", (unsigned long long)room);
    char *aligned = (char *)(((uintptr_t)reserved + MAP_ALIGN - 1) & ~(uintptr_t)(MAP_ALIGN - 1));
    uint64_t pages = (bytes + PAGE - 1) / PAGE * PAGE;
    if (aligned > reserved)
        munmap(reserved, (size_t)(aligned - reserved));
    if (reserved + room > aligned + pages)
        munmap(aligned + pages, (size_t)(reserved + room - (aligned + pages)));
    *base = mmap(aligned, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
    if (*base == MAP_FAILED) {
        *base = NULL;
        int status = trail_errno("cannot map %llu bytes of shared memory", (unsigned long long)bytes);
        munmap(aligned, pages);
        return status;
    }
    madvise(*base, bytes, MADV_DONTDUMP);
    return 0;
}

void shm_unmap(void *base, uint64_t bytes)
{
    if (base)
        munmap(base, (bytes + PAGE - 1) / PAGE * PAGE);
}

int shm_populate(int fd, void *base, uint64_t offset, uint64_t bytes)
{
    uint64_t from = offset / PAGE * PAGE, to = (offset + bytes + PAGE - 1) / PAGE * PAGE;
    int saved = errno, done;
    do
        done = madvise((char *)base + from, to - from, MADV_POPULATE_WRITE);
    while (done < 0 && (errno == EINTR || errno == EAGAIN));
    if (done < 0 && errno == EINVAL) /* before Linux 5.14 */
        done = fallocate(fd, 0, (off_t)from, (off_t)(to - from));
    if (done == 0) {
        errno = saved;
        return 0;
    }
    if (errno == EFAULT)
        errno = ENOSPC;
    int status = trail_errno("no room for %llu more bytes of shared memory (see df /dev/shm)", (unsigned long long)(to - from));
    errno = saved;
    return status;
}

int shm_punch(void *base, uint64_t offset, uint64_t bytes)
{
    uint64_t from = (offset + PAGE - 1) / PAGE * PAGE, to = (offset + bytes) / PAGE * PAGE;
    if (from >= to || madvise((char *)base + from, to - from, MADV_REMOVE) == 0)
        return 0;
    return trail_errno("cannot give %llu bytes of shared memory back", (unsigned long long)(to - from));
}

void *private_zero(uint64_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    madvise(base, bytes, MADV_WIPEONFORK);
    madvise(base, bytes, MADV_DONTDUMP);
    return base;
}

void private_release(void *base, uint64_t bytes)
{
    if (base)
        munmap(base, bytes);
}
