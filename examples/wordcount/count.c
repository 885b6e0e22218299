/* Counting words in place: see count.h. One pass; each letter shifts five bits into the key, so most words need no second look. */
#include "count.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct counter_slot {
    uint64_t key, count;
    uint64_t at, length; /* where in the text it was first seen */
};

enum { FIRST_SLOTS = 1 << 12 };

/* 1–26 for a letter of either case, 0 for what separates words. */
static const unsigned char letter_of[256] = {
    ['a'] = 1,  ['b'] = 2,  ['c'] = 3,  ['d'] = 4,  ['e'] = 5,  ['f'] = 6,  ['g'] = 7,  ['h'] = 8,  ['i'] = 9,  ['j'] = 10, ['k'] = 11,
    ['l'] = 12, ['m'] = 13, ['n'] = 14, ['o'] = 15, ['p'] = 16, ['q'] = 17, ['r'] = 18, ['s'] = 19, ['t'] = 20, ['u'] = 21, ['v'] = 22,
    ['w'] = 23, ['x'] = 24, ['y'] = 25, ['z'] = 26, ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,
    ['H'] = 8,  ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16, ['Q'] = 17, ['R'] = 18,
    ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24, ['Y'] = 25, ['Z'] = 26,
};

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    return x;
}

static uint64_t long_key(const unsigned char *word, uint64_t length)
{
    uint64_t hash = length;
    for (uint64_t i = 0; i < length; i++)
        hash = mix(hash ^ letter_of[word[i]]);
    return hash | WC_LONG_WORD;
}

static bool same_letters(const unsigned char *a, const unsigned char *b, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++)
        if (letter_of[a[i]] != letter_of[b[i]])
            return false;
    return true;
}

int counter_init(struct counter *c)
{
    memset(c, 0, sizeof *c);
    c->slots = calloc(FIRST_SLOTS, sizeof *c->slots);
    c->used = malloc(FIRST_SLOTS / 2 * sizeof *c->used);
    c->mask = FIRST_SLOTS - 1;
    if (c->slots && c->used)
        return 0;
    counter_free(c);
    return -1;
}

void counter_free(struct counter *c)
{
    free(c->slots);
    free(c->used);
    memset(c, 0, sizeof *c);
}

static int grow(struct counter *c)
{
    uint64_t slots = 2 * (c->mask + 1);
    struct counter_slot *bigger = slots <= UINT32_MAX ? calloc(slots, sizeof *bigger) : NULL;
    uint32_t *used = realloc(c->used, slots / 2 * sizeof *used);
    if (used)
        c->used = used;
    if (!bigger || !used) {
        free(bigger);
        return -1;
    }
    for (uint64_t i = 0; i < c->filled; i++) {
        const struct counter_slot *old = &c->slots[c->used[i]];
        uint64_t at = mix(old->key) & (slots - 1);
        while (bigger[at].key != 0)
            at = (at + 1) & (slots - 1);
        bigger[at] = *old;
        c->used[i] = (uint32_t)at;
    }
    free(c->slots);
    c->slots = bigger;
    c->mask = slots - 1;
    return 0;
}

static int add(struct counter *c, const unsigned char *text, uint64_t key, uint64_t at, uint64_t length)
{
    uint64_t i = mix(key) & c->mask;
    for (; c->slots[i].key != 0; i = (i + 1) & c->mask) {
        struct counter_slot *s = &c->slots[i];
        if (s->key != key)
            continue;
        if (!(key & WC_LONG_WORD) || (s->length == length && same_letters(text + s->at, text + at, length))) {
            s->count++;
            return 0;
        }
    }
    c->slots[i] = (struct counter_slot){ .key = key, .count = 1, .at = at, .length = length };
    c->used[c->filled++] = (uint32_t)i;
    if (key & WC_LONG_WORD)
        c->letters += length + 1;
    return c->filled * 2 > c->mask ? grow(c) : 0;
}

int counter_count(struct counter *c, const unsigned char *text, size_t bytes)
{
    for (uint64_t i = 0; i < c->filled; i++)
        c->slots[c->used[i]].key = 0;
    c->filled = c->words = c->letters = 0;

    const unsigned char *p = text, *end = text + bytes;
    for (;;) {
        while (p < end && letter_of[*p] == 0)
            p++;
        if (p == end)
            return 0;
        const unsigned char *word = p;
        uint64_t key = 0;
        for (unsigned letter; p < end && (letter = letter_of[*p]) != 0; p++)
            key = key << 5 | letter;
        uint64_t length = (uint64_t)(p - word);
        if (length > WC_PACKED_LETTERS)
            key = long_key(word, length);
        c->words++;
        if (add(c, text, key, (uint64_t)(word - text), length) != 0)
            return -1;
    }
}

size_t counter_table_size(const struct counter *c)
{
    return sizeof(struct wc_table) + c->filled * sizeof(struct wc_entry) + c->letters;
}

void counter_write(const struct counter *c, const unsigned char *text, struct wc_table *table)
{
    uint64_t letters = sizeof *table + c->filled * sizeof table->entry[0];
    for (uint64_t i = 0; i < c->filled; i++) {
        const struct counter_slot *s = &c->slots[c->used[i]];
        table->entry[i] = (struct wc_entry){ .key = s->key, .count = s->count };
        if (!(s->key & WC_LONG_WORD))
            continue;
        table->entry[i].letters = letters;
        char *out = (char *)table + letters;
        for (uint64_t k = 0; k < s->length; k++)
            out[k] = (char)('a' - 1 + letter_of[text[s->at + k]]);
        out[s->length] = 0;
        letters += s->length + 1;
    }
    table->head = (struct wc_head){ .type = WC_TABLE, .version = 1, .size = letters };
    table->words = c->words;
    table->entries = c->filled;
}
