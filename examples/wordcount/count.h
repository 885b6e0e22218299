/* Counting words in place.
 *
 * A word is what `LC_ALL=C tr -cs A-Za-z '\n'` makes: a longest run of ASCII letters, here lower-cased. Every byte may occur.
 */
#ifndef WORDCOUNT_COUNT_H
#define WORDCOUNT_COUNT_H

#include "format.h"

/* What has been counted of one text. Kept from text to text, so that counting allocates only when a text has more different
 * words than any before it. */
struct counter {
    struct counter_slot *slots; /* open addressing; key 0: empty */
    uint32_t *used;             /* the filled ones, in order of first sight */
    uint64_t mask, filled;
    uint64_t words;   /* all, not only the different ones */
    uint64_t letters; /* bytes that the long words take in the table */
};

/* 0, or -1: no memory. */
int counter_init(struct counter *c);
void counter_free(struct counter *c);

/* Starts anew with this text; it must stay until counter_write. 0, or -1: no memory. */
int counter_count(struct counter *c, const unsigned char *text, size_t bytes);

/* Bytes of the table that counter_write makes of what was counted. */
size_t counter_table_size(const struct counter *c);

/* Writes the table's head, words, entries and letters. The caller fills in the rest of the header. */
void counter_write(const struct counter *c, const unsigned char *text, struct wc_table *table);

#endif
