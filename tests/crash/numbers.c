#include "numbers.h"

#include <stdlib.h>
#include <string.h>

int number_block(cue_pool *pool, uint64_t number, cue_block *b)
{
    int status = cue_block_alloc(pool, NUMBER_BLOCK, &(cue_block_opts){ .type = NOTE }, b);
    if (status)
        return status;
    fill(b, (unsigned)number);
    memcpy(b->data, &number, sizeof number);
    return 0;
}

int send_with(cue_channel *ch, uint64_t number, enum carried what, cue_block *b)
{
    cue_msg m = { .type = NOTE };
    if (what & BYTES) {
        m.data = &number;
        m.size = sizeof number;
    }
    if (what & MOVED)
        m.move = b;
    return cue_channel_send(ch, &m, CUE_NOW);
}

int send_number(cue_channel *ch, uint64_t number, enum carried what)
{
    cue_block b = { 0 };
    int status = what & MOVED ? number_block(cue_channel_pool(ch), number, &b) : 0;
    return status ? status : send_with(ch, number, what, &b);
}

static bool is_whole(const cue_msg *m, uint64_t number, enum carried what)
{
    const unsigned char *data = m->block.data;
    if (number == 0 || m->status || (what == BYTES && data) || ((what & MOVED) && m->block.size != NUMBER_BLOCK))
        return false;
    for (size_t i = sizeof number; data && i < m->block.size; i++)
        if (data[i] != (unsigned char)(i * 7 + (unsigned)number))
            return false;
    return true;
}

static uint64_t take(cue_channel *ch, enum carried what, uint32_t *redelivered)
{
    cue_msg m;
    uint64_t number = 0;
    int status = cue_channel_recv(ch, &m, CUE_NOW);
    if (status == CUE_EEMPTY)
        return 0;
    must_be(status, 0, "cue_channel_recv");
    if (status)
        return 0;
    if (m.data && m.size >= sizeof number)
        memcpy(&number, m.data, sizeof number);
    if (!is_whole(&m, number, what))
        wrong("message %llu of %zu bytes came with status %d and a block of %zu bytes", (unsigned long long)number, m.size, m.status,
              m.block.size);
    *redelivered = m.redelivered;
    cue_msg_release(&m);
    return number;
}

uint64_t take_number(cue_channel *ch, enum carried what)
{
    uint32_t redelivered;
    return take(ch, what, &redelivered);
}

uint64_t take_again(cue_channel *ch, uint32_t *redelivered)
{
    return take(ch, ANY, redelivered);
}

void take_to(cue_channel *ch, uint64_t last)
{
    for (uint64_t n = 1; n <= last; n++)
        if (take_number(ch, BYTES) != n)
            wrong("message %llu did not come", (unsigned long long)n);
}

void send_four(cue_channel *ch, enum carried odd, enum carried even)
{
    for (uint64_t n = 1; n <= 4; n++)
        MUST(send_number(ch, n, n % 2 ? odd : even));
}

int rest_of_four(cue_channel *ch, enum carried what)
{
    uint64_t first = take_number(ch, what), next = first;
    while (next && next < 4) {
        uint64_t got = take_number(ch, what);
        if (got != next + 1)
            wrong("message %llu came after %llu", (unsigned long long)got, (unsigned long long)next);
        next = got;
    }
    MUST(send_number(ch, LAST, what ? what : BYTES));
    if (take_number(ch, what) != LAST)
        wrong("the lane does not work any more");
    return first == 1 ? 0 : first ? 1 : -1;
}

void send_bytes(struct victim *me)
{
    CUE_MUST(send_number(me->other[0], 7, BYTES));
}

void send_block(struct victim *me)
{
    CUE_MUST(send_with(me->other[0], 7, MOVED, &me->block[0]));
}

void send_both(struct victim *me)
{
    CUE_MUST(send_with(me->other[0], 7, BOTH, &me->block[0]));
}

void send_three(struct victim *me)
{
    uint64_t number[3] = { 7, 8, 9 };
    cue_msg m[3];
    for (int i = 0; i < 3; i++)
        m[i] = (cue_msg){ .type = NOTE, .data = &number[i], .size = sizeof number[i] };
    if (cue_channel_send_many(me->other[0], m, 3, CUE_NOW) != 3)
        abort();
}

void reap_it(struct victim *me)
{
    if (pool_reap(me->pool) != 1)
        abort();
}

void receive_two(struct victim *me)
{
    cue_msg m;
    for (int i = 0; i < 2; i++) {
        if (cue_channel_recv(me->other[0], &m, CUE_NOW) < 0)
            abort();
        cue_msg_release(&m);
    }
}

void receive_batch(struct victim *me)
{
    cue_msg m[3];
    if (cue_channel_recv_many(me->other[0], m, 3, CUE_NOW) != 3)
        abort();
    for (int i = 0; i < 3; i++)
        cue_msg_release(&m[i]);
}
