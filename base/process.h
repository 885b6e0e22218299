/* What the kernel says about processes. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

uint64_t process_pid_namespace(void);          /* inode number of our pid namespace, 0 if unknown */
uint64_t process_start_time(pid_t pid);        /* clock ticks after boot, 0 if unknown */
void process_label(char *label, size_t bytes); /* the name of our program */
uint64_t process_boot(void);                   /* $CUE_BOOT_ID (tests), else the kernel's boot id, hashed; never 0 */
uint64_t process_host(void);                   /* $CUE_HOST_ID, else boot id and device of the shm mount, hashed; never 0 */
int process_pidfd(pid_t pid);                  /* readable once the process has ended; -1 */
uint64_t random_u64(void);                     /* from getrandom; never 0 */
uint64_t hash_bytes(const void *bytes, size_t size, uint64_t seed); /* 64 bits, good in all of them, not secret */

#endif
