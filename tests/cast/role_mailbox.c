/* Roles of the mailbox's tests. */
#include "tests/cast/mailbox_storm.h"
#include "tests/cast/roles.h"

#include <cuelight/channel.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct storm *storm_map(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct storm), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return map == MAP_FAILED ? NULL : map;
}

/* URL: opens to send, says r; sends one int a byte that it is told, says k; e: exits without close. */
int role_mailbox_sender(int argc, char **argv)
{
    static cue_channel *ch; /* not closed: that is no leak */
    int number = 0;
    if (argc < 2 || cue_channel_open(argv[1], CUE_SEND, NULL, &ch))
        return 1;
    role_say('r');
    for (int byte; (byte = role_hear()) > 0 && byte != 'e';) {
        number++;
        if (cue_channel_send(ch, CUE_MSG(1, number), CUE_SEC(30)))
            return 2;
        role_say('k');
    }
    return 0;
}

/* URL: opens to receive, says r (b: busy); receives one a byte that it is told, says its first byte, and holds it. */
int role_mailbox_receiver(int argc, char **argv)
{
    static cue_channel *ch; /* not closed: that is no leak */
    cue_msg m;
    if (argc < 2)
        return 1;
    int status = cue_channel_open(argv[1], CUE_RECV, NULL, &ch);
    role_say(status == 0 ? 'r' : status == CUE_EBUSY ? 'b' : 'x');
    if (status)
        return 2;
    for (int byte; (byte = role_hear()) > 0 && byte != 'e';) {
        if (cue_channel_recv(ch, &m, CUE_SEC(10)))
            return 3;
        role_say(m.size ? *(const char *)m.data : 0);
    }
    return 0;
}

/* URL: opens to receive, says s, and waits for one message: says its first byte and when it came, in ms after being asked. */
int role_mailbox_sleeper(int argc, char **argv)
{
    cue_channel *ch;
    cue_msg m;
    if (argc < 2 || cue_channel_open(argv[1], CUE_RECV, NULL, &ch))
        return 1;
    role_say('s');
    if (cue_channel_recv(ch, &m, CUE_SEC(20)))
        return 2;
    role_say(m.size ? *(const char *)m.data : 0);
    cue_msg_release(&m);
    cue_channel_close(ch);
    return 0;
}

/* URL: opens both ends and forks; the child sends through what it inherited and is refused at receiving. */
int role_mailbox_forker(int argc, char **argv)
{
    cue_channel *in, *out;
    cue_msg m;
    int value = 7, status;
    if (argc < 2 || cue_channel_open(argv[1], CUE_RECV, NULL, &in) || cue_channel_open(argv[1], CUE_SEND, NULL, &out))
        return 1;
    pid_t child = fork();
    if (child == 0) {
        if (cue_channel_recv(in, &m, CUE_NOW) != CUE_EFORK)
            _exit(2);
        if (cue_channel_send(out, CUE_MSG(1, value), CUE_SEC(30)))
            _exit(3);
        if (cue_channel_close(out) || cue_channel_close(in))
            _exit(4);
        exit(0);
    }
    if (cue_channel_recv(in, &m, CUE_SEC(10)) || m.size != sizeof value || *(const int *)m.data != 7)
        return 5;
    cue_msg_release(&m);
    if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status))
        return 10 + (WIFEXITED(status) ? WEXITSTATUS(status) : 9);
    if (cue_channel_send(out, CUE_MSG(1, value), CUE_NOW) || cue_channel_recv(in, &m, CUE_NOW)) /* both still ours */
        return 6;
    cue_msg_release(&m);
    cue_channel_close(out);
    cue_channel_close(in);
    return 0;
}

/* ---- the storm ---- */

enum { STORM_MORE = 300, STORM_BLOCK = 6000 };

/* What all have said to have sent so far. */
static void storm_before(const struct storm *storm, uint64_t before[STORM_SENDERS])
{
    for (unsigned sender = 0; sender < STORM_SENDERS; sender++)
        before[sender] = atomic_load(&storm->said[sender]);
}

static int storm_send(const struct storm *storm, cue_channel *ch, uint64_t number, uint64_t sender, cue_time wait)
{
    unsigned char bytes[sizeof(struct storm_bytes) + STORM_MORE];
    uint64_t before[STORM_SENDERS];
    cue_block block = { 0 };
    cue_msg m = { .type = 1 };
    unsigned kind = (unsigned)(rand() >> 4) % 8;
    size_t more = kind == 3 || kind == 4 ? (size_t)rand() % STORM_MORE : 0;
    storm_before(storm, before);
    if (kind >= 6) {
        size_t size = kind == 7 ? STORM_BLOCK : sizeof(struct storm_bytes);
        int status = cue_block_alloc(cue_channel_pool(ch), size, &(cue_block_opts){ .type = 2 }, &block);
        if (status)
            return status;
        storm_fill(block.data, size - sizeof(struct storm_bytes), number, sender, before);
        m.move = &block;
        m.type = 0;
    }
    if (kind < 6 || rand() % 2) {
        storm_fill(bytes, more, number, sender, before);
        m.type = 1;
        m.data = bytes;
        m.size = sizeof(struct storm_bytes) + more;
        m.tag = number;
    }
    if (kind == 5)
        m.key = number;
    int status = cue_channel_send(ch, &m, wait);
    if (status)
        cue_block_release(&block);
    return status;
}

static int storm_send_many(const struct storm *storm, cue_channel *ch, uint64_t number, uint64_t sender, cue_time wait)
{
    struct storm_bytes bytes[STORM_BATCH];
    uint64_t before[STORM_SENDERS];
    cue_msg m[STORM_BATCH];
    storm_before(storm, before);
    for (unsigned i = 0; i < STORM_BATCH; i++) {
        storm_fill(&bytes[i], 0, number + i, sender, before);
        m[i] = (cue_msg){ .type = 1, .tag = number + i, .data = &bytes[i], .size = sizeof bytes[i] };
    }
    return cue_channel_send_many(ch, m, STORM_BATCH, wait);
}

/* URL FILE SENDER LIFE WAIT: sends until it is killed; waits for room so many us. */
int role_storm_sender(int argc, char **argv)
{
    struct storm *storm;
    cue_channel *ch;
    if (argc < 6 || !(storm = storm_map(argv[2])) || cue_channel_open(argv[1], CUE_SEND, NULL, &ch))
        return 1;
    unsigned sender = (unsigned)atoi(argv[3]), life = (unsigned)atoi(argv[4]);
    cue_time wait = CUE_US(atoi(argv[5]));
    srand(sender * 7919 + life);
    for (uint64_t n = 0;;) {
        uint64_t next = (uint64_t)life << 32 | (n + 1);
        int sent = rand() % 4 ? storm_send(storm, ch, next, sender, wait) : storm_send_many(storm, ch, next, sender, wait);
        if (sent < 0 && sent != CUE_EFULL && sent != CUE_ENOMEM && sent != CUE_ECLOSED)
            return 2;
        if (sent == CUE_ECLOSED)
            role_rest(50);
        if (sent >= 0)
            n += sent ? (uint64_t)sent : 1;
        atomic_store(&storm->committed[sender][life], n);
        atomic_store(&storm->said[sender], (uint64_t)life << 32 | n);
        if (rand() % 64 == 0)
            role_rest((unsigned)rand() % (rand() % 8 ? 100 : 3000)); /* so that the receiver sleeps now and then */
    }
}

static int storm_look(struct storm *storm, cue_msg *m)
{
    struct storm_bytes bytes, along;
    bool damaged = m->status != 0 || !storm_read(m->data, m->size, &bytes) || (m->tag && m->tag != bytes.number) ||
                   (m->key && m->key != bytes.number) ||
                   (m->block.data &&
                    (!storm_read(m->block.data, m->block.size, &along) || along.number != bytes.number || along.sender != bytes.sender));
    if (damaged) {
        atomic_fetch_add(&storm->damaged, 1);
        return 1;
    }
    atomic_fetch_add(&storm->kinds[m->key ? 3 : !m->block.data ? 0 : m->tag ? 2 : 1], 1);
    atomic_fetch_add(&storm->gaps, m->gap);
    storm_take(storm, &bytes);
    return 0;
}

static int storm_open(const char *url, cue_channel **ch)
{
    int status = CUE_EBUSY;
    for (int tries = 0; tries < 2000 && status == CUE_EBUSY; tries++) {
        status = cue_channel_open(url, CUE_RECV, &(cue_channel_opts){ .spin = CUE_US(rand() % 3 * 20 + 1) }, ch);
        if (status == CUE_EBUSY)
            role_rest(1000);
    }
    return status;
}

/* URL FILE HANDS SEED: receives up to HANDS at a time until it is killed. Now and then it shuts the lane, empties it and begins anew. */
int role_storm_receiver(int argc, char **argv)
{
    struct storm *storm;
    cue_channel *ch;
    cue_msg m[STORM_HANDS];
    if (argc < 5 || !(storm = storm_map(argv[2])))
        return 1;
    size_t hands = (size_t)atoi(argv[3]);
    unsigned batches = 0;
    srand((unsigned)atoi(argv[4]));
    if (storm_open(argv[1], &ch))
        return 2;
    for (;;) {
        int got = cue_channel_recv_many(ch, m, hands, CUE_SEC(30));
        if (got == CUE_ECLOSED) {
            atomic_fetch_add(&storm->drained, 1);
            if (cue_channel_close(ch) || storm_open(argv[1], &ch))
                return 2;
            continue;
        }
        if (got <= 0)
            return got == CUE_EEMPTY ? 3 : 4;
        for (int i = 0; i < got; i++) {
            if (storm_look(storm, &m[i]))
                return 5;
            cue_msg_release(&m[i]);
        }
        if (rand() % 256 == 0)
            role_rest((unsigned)rand() % 100);
        if (++batches == 3 || rand() % 128 == 0) /* also in a short life */
            cue_channel_shut(ch, CUE_DRAIN, CUE_NOW);
    }
}

/* POOL: cleans up after the dead, again and again. */
int role_storm_reaper(int argc, char **argv)
{
    cue_pool *pool;
    if (argc < 2 || cue_pool_open(argv[1], NULL, &pool))
        return 1;
    for (;;) {
        cue_pool_check(pool, true, NULL, NULL);
        role_rest(200);
    }
}
