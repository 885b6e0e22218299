/* What lies in the memory of a heap (cuelight.heap) and of a container in it (cuelight.types.Dict, List), and the few steps that
 * are C's: atomic words, the file, hashing. All words are of the machine's own order: a heap never leaves its machine.
 */
#ifndef HEAP_LAYOUT_H
#define HEAP_LAYOUT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* From byte 40 of a heap on, behind the lock. */
struct heap_header {
    uint64_t base;   /* where the next block may begin; moved by compare-and-swap, by everybody */
    uint8_t uid[16]; /* random; tells this heap from others. Never changes */
};
_Static_assert(sizeof(struct heap_header) == 24, "lock, base and uid fill 64 bytes");
enum { HEAP_FIRST = 64 };

/* A space: the block in which a container's items are. Written by the one process that has the container's lock.
 *
 *   Dict   header, uint32_t index[slots], struct dict_entry entries[entries], records
 *   List   header, uint64_t entries[2][entries], records
 *
 * A record is a word, tag << 56 | length, and the bytes. An entry holds offsets of records from the beginning of the space. Whoever
 * is killed half-way has changed nothing: records and entries are written where nobody looks yet, then one word is stored. Those
 * words are: `counts` (a new item, a removed last one; for a list also which of its two arrays of entries is in use), the value of
 * an entry (a replaced item), and in the container itself `_start` (a new space). Removing an item from the middle of a dict takes
 * two words; `intent` says so, and who finds it set does it again.
 *
 * When a space is full its live items are copied to another, twice as large as they need; the two take turns, since a heap takes
 * nothing back. Where the other is too small its room is lost, so a fresh one is at least twice as large as that. A fresh one is
 * noted as `other` of the old space before it is used, so that it is not lost with its maker: only the very first space of a container
 * may be. */
struct space_header {
    uint64_t magic; /* SPACE_DICT or SPACE_LIST */
    uint64_t size;  /* of the space, bytes */
    uint64_t other; /* offset in the heap of the space to use next, 0: none */
    uint64_t other_size;
    uint64_t counts;  /* dict: entries in use | live ones << 32; list: items | which array << 63 */
    uint64_t top;     /* offset of the first free byte for records */
    uint64_t intent;  /* dict: number of the entry that is being removed, plus 1 */
    uint64_t slots;   /* dict: of the index, a power of two */
    uint64_t entries; /* how many there is room for */
    uint64_t filled;  /* dict: slots that are not 0, at most */
    uint64_t strange; /* dict: not 0: there are keys whose hash is good in one process only; all of them have hash 0 */
};
_Static_assert(sizeof(struct space_header) == 88, "");
struct dict_entry {
    uint64_t hash, key, value; /* key 0: removed */
};
#define SPACE_DICT 0x31746369642d6571u /* "qe-dict1" */
#define SPACE_LIST 0x3174736c2d657571u

static inline uint64_t load(uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
static inline void store(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
static inline bool swap(uint64_t *word, uint64_t *expected, uint64_t desired)
{
    return __atomic_compare_exchange_n(word, expected, desired, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Bytes that could be had, swap included; UINT64_MAX if nobody says. */
static inline uint64_t memory_available(void)
{
    char line[128];
    unsigned long long kib, sum = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file)
        return UINT64_MAX;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1 || sscanf(line, "SwapFree: %llu", &kib) == 1)
            sum += kib;
    }
    fclose(file);
    return (uint64_t)sum << 10;
}

/* 0, or -1 with errno. The kernel would end somebody rather than refuse pages of a memfd, so large wishes are looked at before. */
static inline int heap_grow(int fd, uint64_t before, uint64_t after)
{
    if (after - before > (64u << 20) && after - before > memory_available()) {
        errno = ENOMEM;
        return -1;
    }
    return fallocate(fd, 0, (off_t)before, (off_t)(after - before));
}

/* A memfd that nobody can make shorter, or -1 with errno. */
static inline int heap_make(uint64_t bytes)
{
    int fd = memfd_create("cuelight.heap", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && (heap_grow(fd, 0, bytes) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0)) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

/* Bytes of the file, negative if it is none of the kind. */
static inline int64_t heap_length(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? (int64_t)info.st_size : -1;
}

/* May be longer than the file, which grows; only what has been reserved is touched. NULL with errno. */
static inline void *heap_map(int fd, uint64_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return NULL;
    madvise(base, bytes, MADV_DONTDUMP);
    return base;
}
static inline void heap_unmap(void *base, uint64_t bytes)
{
    munmap(base, bytes);
}

/* Maps all of a file that others made. NULL with errno; errno 0: it is empty, or no file. */
static inline void *object_map(const char *path, bool write, int64_t *bytes)
{
    int fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return NULL;
    void *base = NULL;
    *bytes = heap_length(fd);
    errno = 0;
    if (*bytes > 0) {
        base = mmap(NULL, (size_t)*bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
        base = base == MAP_FAILED ? NULL : base;
    }
    int error = errno;
    close(fd);
    errno = error;
    return base;
}

/* A good hash of a word, the same in every process. */
static inline uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}
static inline uint64_t mix_bytes(const char *bytes, size_t size, uint64_t seed)
{
    uint64_t hash = mix(seed + size), part;
    for (; size >= 8; bytes += 8, size -= 8) {
        memcpy(&part, bytes, 8);
        hash = mix(hash ^ part) + 0x9e3779b97f4a7c15u;
    }
    part = 0;
    memcpy(&part, bytes, size);
    return mix(hash ^ part);
}

#endif
