/* Roles of the queue's storm. */
#include "tests/cast/queue_storm.h"
#include "tests/cast/roles.h"

#include <cuelight/channel.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static struct queue_storm *storm_map(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(struct queue_storm), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    return map == MAP_FAILED ? NULL : map;
}

static int storm_send(cue_channel *ch, const struct queue_bytes *bytes)
{
    cue_block block = { 0 };
    cue_msg m = { .type = 1, .data = bytes, .size = sizeof *bytes };
    unsigned kind = (unsigned)(rand() >> 4) % 4; /* bytes, bytes, bytes with a block, a block */
    if (kind >= 2) {
        int status = cue_block_alloc(cue_channel_pool(ch), kind == 2 ? 6000 : sizeof *bytes, &(cue_block_opts){ .type = 1 }, &block);
        if (status)
            return status;
        memcpy(block.data, bytes, sizeof *bytes);
        m.move = &block;
    }
    if (kind == 3) {
        m.data = NULL;
        m.size = 0;
    }
    int status = cue_channel_send(ch, &m, CUE_SEC(10));
    if (status)
        cue_block_release(&block);
    return status;
}

/* URL FILE SENDER LIFE: sends until it is killed. */
int role_queue_storm_sender(int argc, char **argv)
{
    struct queue_storm *storm;
    cue_channel *ch;
    if (argc < 5 || !(storm = storm_map(argv[2])) || cue_channel_open(argv[1], CUE_SEND, NULL, &ch))
        return 1;
    struct queue_bytes bytes = { .sender = (uint32_t)atoi(argv[3]), .life = (uint32_t)atoi(argv[4]), .number = 1 };
    srand(bytes.sender * 7919 + bytes.life);
    while (bytes.number < QUEUE_NUMBERS) {
        bytes.check = queue_check(&bytes);
        int status = storm_send(ch, &bytes);
        if (status == 0)
            atomic_store(&storm->committed[bytes.sender][bytes.life], bytes.number++);
        else if (status != CUE_EFULL && status != CUE_ENOMEM && status != CUE_ECLOSED)
            return 2;
        else
            role_rest(50);
        if (rand() % 64 == 0)
            role_rest((unsigned)rand() % (rand() % 8 ? 100 : 3000)); /* so that receivers sleep now and then */
    }
    for (;;)
        pause();
}

static int storm_look(struct queue_storm *storm, const cue_msg *m, uint64_t *last)
{
    struct queue_bytes bytes = { 0 }, along;
    if (m->size >= sizeof bytes)
        memcpy(&bytes, m->data, sizeof bytes);
    bool whole = m->status == 0 && queue_whole(&bytes);
    if (whole && m->block.data) {
        memcpy(&along, m->block.data, sizeof along);
        whole = memcmp(&along, &bytes, sizeof along) == 0;
        atomic_fetch_add(&storm->blocks, 1);
    }
    if (!whole) {
        atomic_fetch_add(&storm->damaged, 1);
        return 5;
    }
    uint64_t now = (uint64_t)bytes.life << 32 | bytes.number;
    if (!m->redelivered) { /* these come in the order of their sender */
        atomic_fetch_add(&storm->disordered, now <= last[bytes.sender]);
        last[bytes.sender] = now;
    }
    queue_note(storm, &bytes, m->redelivered > 0);
    return 0;
}

/* URL FILE HANDS SEED: receives up to HANDS at a time until it is killed. Now and then one shuts the queue; who finds it empty then begins
 * anew. */
int role_queue_storm_receiver(int argc, char **argv)
{
    struct queue_storm *storm;
    cue_channel *ch;
    cue_msg m[16];
    uint64_t last[QUEUE_SENDERS] = { 0 };
    cue_channel_opts opts = { .spin = CUE_US(atoi(argv[4]) % 3 * 20 + 1) };
    if (argc < 5 || !(storm = storm_map(argv[2])) || cue_channel_open(argv[1], CUE_RECV, &opts, &ch))
        return 1;
    size_t hands = (size_t)atoi(argv[3]) % 16 + 1;
    unsigned batches = 0;
    srand((unsigned)atoi(argv[4]));
    for (;;) {
        int got = cue_channel_recv_many(ch, m, hands, CUE_SEC(60));
        if (got == CUE_ECLOSED) {
            atomic_fetch_add(&storm->drained, 1);
            if (cue_channel_close(ch) || cue_channel_open(argv[1], CUE_RECV, &opts, &ch))
                return 1;
            continue;
        }
        if (got < 0)
            return got == CUE_EEMPTY ? 3 : 4;
        if (++batches == 3 || rand() % 128 == 0) /* also in a short life */
            cue_channel_shut(ch, CUE_DRAIN, CUE_NOW);
        for (int i = 0; i < got; i++) {
            int wrong = storm_look(storm, &m[i], last);
            if (wrong)
                return wrong;
            if (rand() % 32 == 0)
                role_rest((unsigned)rand() % 200);
            cue_msg_release(&m[i]);
        }
    }
}
