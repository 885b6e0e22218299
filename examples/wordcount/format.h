/* What the three services of the word count hand to each other.
 *
 * A file travels as one block: this header, then its bytes, read(2) straight behind it. A worker answers with a table, a block
 * of its own, published under (WC_TABLE, number of the file): header, entries, letters of the long words. The reader's last word
 * is a summary. The same structs go through pipes when the job is run over pipes, so each begins with its type and size.
 *
 * A WORD IS A KEY. Up to 12 letters fit into one: five bits a letter, a is 1, the first letter highest. Such a key spells its
 * word and never collides. A longer word has bit 63 set and 63 bits of hash below it, and its letters stand in the table; two
 * of them that share a key are kept apart within a file, but would be merged as one in the report (a million different
 * long words: 5e-8). report.py views the entries as a numpy array, see there.
 */
#ifndef WORDCOUNT_FORMAT_H
#define WORDCOUNT_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* Blocks, and the messages that say where they are; the last: numbers of files that the report has finished with, eight bytes each … */
enum { WC_FILE = 1, WC_TABLE = 2, WC_SUMMARY = 3, WC_ACKS = 8 };
/* … and messages without payload, to the reader: a file's number in the tag, finished with or given up · the sender's pid · a worker's
 * last word: its pid as the key, what its process has copied as the tag. */
enum { WC_DONE = 4, WC_GIVEN_UP = 5, WC_READY = 6, WC_COPIED = 7 };

enum { WC_WORKERS = 2, WC_PACKED_LETTERS = 12 };
#define WC_LONG_WORD (UINT64_C(1) << 63)

struct wc_head {
    uint32_t type;    /* WC_FILE … */
    uint32_t version; /* of this page: 1 */
    uint64_t size;    /* of all of it, header included, bytes */
};

struct wc_file {
    struct wc_head head;
    uint64_t number; /* counts from 1 */
    uint64_t bytes;  /* of text */
    int64_t sent_ns; /* CLOCK_MONOTONIC, just before it is handed over; the same for all times here */
    uint32_t count;  /* 0: hand it over, but do not look at it */
    uint32_t spare[5];
    unsigned char text[];
};
static_assert(sizeof(struct wc_file) == 64, "the text starts on a line of its own");

struct wc_entry {
    uint64_t key, count;
    uint64_t letters; /* of a long word: where in the table they stand, ended by a 0; else 0 */
};

struct wc_table {
    struct wc_head head;
    uint64_t number, bytes, words;
    uint64_t entries;
    int64_t handed_ns;  /* from the reader's send to this worker's first look, waiting in the queue included */
    int64_t counted_ns; /* how long counting took */
    int64_t sent_ns;    /* just before the table was published and its number sent on */
    uint64_t copied;    /* payload bytes that this worker's process has copied, by the library's count; up to some tables ago */
    uint32_t pid;
    uint32_t idle; /* 1: the worker was waiting when the file was sent, so handed_ns is the lane alone */
    uint64_t spare[5];
    struct wc_entry entry[];
};
static_assert(sizeof(struct wc_table) == 128 && sizeof(struct wc_entry) == 24, "report.py knows these sizes");

struct wc_summary {
    struct wc_head head;
    uint64_t files, bytes;                                        /* counted */
    uint64_t compressed, compressed_bytes, unreadable, too_large; /* skipped, each for its reason */
    uint64_t sent, resent;                                        /* hand-overs to workers, and those of them after a death */
    uint64_t acknowledged;                                        /* messages from the report */
    int64_t elapsed_ns;                                           /* from the walk to the last acknowledgement */
    int64_t down_ns;                                              /* from SIGKILL to DOWN; -1: nobody was killed */
    uint64_t copied;                                              /* payload bytes that the reader's process has copied */
    uint64_t piped;                                               /* bytes that went through pipes, counted at the writing end */
    struct {
        uint64_t pid, copied; /* the same of each worker that ended in order, exactly */
    } worker[WC_WORKERS];
    uint64_t spare[13];
};
static_assert(sizeof(struct wc_summary) == 256, "report.py knows this size");

#endif
