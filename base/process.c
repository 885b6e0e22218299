#include "process.h"

#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static size_t read_file(const char *path, char *text, size_t bytes)
{
    int saved = errno, fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, text, bytes - 1);
    if (fd >= 0)
        close(fd);
    errno = saved;
    text[got > 0 ? got : 0] = 0;
    return got > 0 ? (size_t)got : 0;
}

uint64_t process_pid_namespace(void)
{
    struct stat info;
    return stat("/proc/self/ns/pid", &info) == 0 ? (uint64_t)info.st_ino : 0;
}

uint64_t process_start_time(pid_t pid)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_file(path, text, sizeof text))
        return 0;
    char *field = strrchr(text, ')'); /* the name before it may contain anything */
    for (int i = 0; field && i < 20; i++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) : 0;
}

void process_label(char *label, size_t bytes)
{
    if (!read_file("/proc/self/comm", label, bytes))
        snprintf(label, bytes, "?");
    label[strcspn(label, "\n")] = 0;
}

/* It stays the same as long as a process lives. */
static char boot_id[40];
static void boot_read(void)
{
    read_file("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
}
static const char *boot_text(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, boot_read);
    return boot_id;
}

uint64_t process_boot(void)
{
    const char *chosen = secure_getenv("CUE_BOOT_ID");
    const char *boot = chosen && *chosen ? chosen : boot_text();
    uint64_t id = hash_bytes(boot, strnlen(boot, 63), 2);
    return id ? id : 1;
}

uint64_t process_host(void)
{
    const char *chosen = secure_getenv("CUE_HOST_ID");
    if (chosen && *chosen) {
        char *end;
        uint64_t id = strtoull(chosen, &end, 0);
        if (*end)
            id = hash_bytes(chosen, strlen(chosen), 1);
        return id ? id : 1;
    }
    struct {
        char boot[40];
        uint64_t device;
    } what = { "", 0 };
    struct stat info;
    memcpy(what.boot, boot_text(), sizeof what.boot);
    if (stat(shm_directory(), &info) == 0)
        what.device = (uint64_t)info.st_dev;
    uint64_t id = hash_bytes(&what, sizeof what, 0);
    return id ? id : 1;
}

int process_pidfd(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

uint64_t random_u64(void)
{
    uint64_t value = 0;
    while (getrandom(&value, sizeof value, 0) < 0 && errno == EINTR)
        ;
    return value ? value : 1;
}

/* MurmurHash64A's mixing (A. Appleby, public domain). */
uint64_t hash_bytes(const void *bytes, size_t size, uint64_t seed)
{
    const uint64_t m = 0xc6a4a7935bd1e995;
    const unsigned char *at = bytes;
    uint64_t hash = seed ^ (size * m);
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        word *= m;
        hash = (hash ^ ((word ^ (word >> 47)) * m)) * m;
    }
    if (size) {
        uint64_t word = 0;
        memcpy(&word, at, size);
        hash = (hash ^ word) * m;
    }
    hash = (hash ^ (hash >> 47)) * m;
    return hash ^ (hash >> 47);
}
