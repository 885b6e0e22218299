/* The parts of the word count that need no pool: counting, tables, the walk. The whole job is tested in tests/demo. */
#include "examples/wordcount/count.h"
#include "examples/wordcount/files.h"
#include "tests/harness.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct wc_table *count(struct counter *c, const char *text, size_t bytes)
{
    cr_assert(eq(int, counter_count(c, (const unsigned char *)text, bytes), 0));
    size_t size = counter_table_size(c);
    struct wc_table *table = malloc(size);
    counter_write(c, (const unsigned char *)text, table);
    cr_assert(eq(u64, table->head.size, size));
    return table;
}

/* The word of an entry, as report.py spells it. */
static const char *spell(const struct wc_table *table, uint64_t i, char word[16])
{
    if (table->entry[i].key & WC_LONG_WORD)
        return (const char *)table + table->entry[i].letters;
    char *p = word + 15;
    *p = 0;
    for (uint64_t key = table->entry[i].key; key; key >>= 5)
        *--p = (char)('a' - 1 + (key & 31));
    return p;
}

static uint64_t times(const struct wc_table *table, const char *word)
{
    char buf[16];
    for (uint64_t i = 0; i < table->entries; i++)
        if (strcmp(spell(table, i, buf), word) == 0)
            return table->entry[i].count;
    return 0;
}

Test(wordcount, words_are_runs_of_letters_lowered)
{
    struct counter c;
    cr_assert(eq(int, counter_init(&c), 0));
    static const char text[] = "The cue, the CUE_light; don't\0the\xc3\xa9"
                               "end";
    struct wc_table *t = count(&c, text, sizeof text - 1);
    cr_assert(eq(u64, t->words, 9));
    cr_assert(eq(u64, t->entries, 6));
    cr_assert(eq(u64, times(t, "the"), 3));
    cr_assert(eq(u64, times(t, "cue"), 2));
    cr_assert(eq(u64, times(t, "don"), 1));
    cr_assert(eq(u64, times(t, "t"), 1));
    cr_assert(eq(u64, times(t, "light"), 1));
    cr_assert(eq(u64, times(t, "end"), 1));
    free(t);
    counter_free(&c);
}

Test(wordcount, nothing_and_separators_only_have_no_words)
{
    struct counter c;
    cr_assert(eq(int, counter_init(&c), 0));
    struct wc_table *t = count(&c, "", 0);
    cr_assert(eq(u64, t->entries, 0));
    free(t);
    t = count(&c, "12 \n-- [`{@", 11);
    cr_assert(eq(u64, t->words, 0));
    cr_assert(eq(u64, t->head.size, sizeof *t));
    free(t);
    counter_free(&c);
}

Test(wordcount, twelve_letters_fit_a_key_and_thirteen_do_not)
{
    struct counter c;
    cr_assert(eq(int, counter_init(&c), 0));
    static const char text[] = "zzzzzzzzzzzz zzzzzzzzzzzzz Acknowledgement acknowledgement";
    struct wc_table *t = count(&c, text, sizeof text - 1);
    cr_assert(eq(u64, t->entries, 3));
    cr_assert(eq(u64, t->entry[0].letters, 0));
    cr_assert(ne(u64, t->entry[1].letters, 0));
    cr_assert(eq(u64, times(t, "zzzzzzzzzzzz"), 1));
    cr_assert(eq(u64, times(t, "zzzzzzzzzzzzz"), 1));
    cr_assert(eq(u64, times(t, "acknowledgement"), 2));
    free(t);
    counter_free(&c);
}

Test(wordcount, a_counter_forgets_the_text_before)
{
    struct counter c;
    cr_assert(eq(int, counter_init(&c), 0));
    free(count(&c, "one two three", 13));
    struct wc_table *t = count(&c, "two", 3);
    cr_assert(eq(u64, t->entries, 1));
    cr_assert(eq(u64, times(t, "two"), 1));
    free(t);
    counter_free(&c);
}

Test(wordcount, many_different_words_grow_the_counter)
{
    enum { WORDS = 40000 };
    char *text = malloc(WORDS * 32), *p = text;
    for (unsigned i = 0; i < WORDS; i++) { /* base 26, then the same behind a prefix that makes it long */
        char word[8] = { (char)('a' + i % 26), (char)('a' + i / 26 % 26), (char)('a' + i / 676 % 26), (char)('a' + i / 17576), 0 };
        p += sprintf(p, "%s longprefixword%s ", word, word);
    }
    struct counter c;
    cr_assert(eq(int, counter_init(&c), 0));
    struct wc_table *t = count(&c, text, (size_t)(p - text));
    cr_assert(eq(u64, t->words, 2 * WORDS));
    cr_assert(eq(u64, t->entries, 2 * WORDS));
    cr_assert(eq(u64, times(t, "baaa"), 1));
    cr_assert(eq(u64, times(t, "longprefixwordbaaa"), 1));
    free(t);
    free(text);
    counter_free(&c);
}

Test(wordcount, compressed_files_are_known_by_name_and_by_first_bytes)
{
    cr_assert(file_is_compressed_name("/a/b.gz"));
    cr_assert(file_is_compressed_name("b.zst"));
    cr_assert(file_is_compressed_name("core.Z"));
    cr_assert(not(file_is_compressed_name("/a.gz/b")));
    cr_assert(not(file_is_compressed_name("/a/.gz")), "a name, not a suffix");
    cr_assert(not(file_is_compressed_name("/a/core.z")));
    cr_assert(file_is_compressed_text((const unsigned char *)"\x1f\x8b\x08", 3));
    cr_assert(file_is_compressed_text((const unsigned char *)"PK\3\4", 4));
    cr_assert(not(file_is_compressed_text((const unsigned char *)"\x1f", 1)));
    cr_assert(not(file_is_compressed_text((const unsigned char *)"PK is", 5)));
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    cr_assert(ne(ptr, f, NULL));
    fputs(text, f);
    fclose(f);
}

Test(wordcount, the_walk_takes_regular_files_and_follows_no_links)
{
    char dir[TEST_PATH], path[256], link[256];
    cr_assert(test_folder(dir));
    write_file(dir, "text", "words");
    write_file(dir, "empty", "");
    write_file(dir, "packed.xz", "123");
    snprintf(path, sizeof path, "%s/text", dir);
    snprintf(link, sizeof link, "%s/link", dir);
    cr_assert(eq(int, symlink(path, link), 0));
    snprintf(path, sizeof path, "%s/fifo", dir);
    cr_assert(eq(int, mkfifo(path, 0600), 0));

    char *roots[] = { dir, NULL };
    struct file_list list;
    cr_assert(eq(int, files_walk(&list, roots), 0));
    cr_assert(eq(sz, list.count, 2));
    cr_assert(eq(u64, list.compressed, 1));
    cr_assert(eq(u64, list.compressed_bytes, 3));
    uint64_t bytes, sum = 0;
    for (size_t i = 0; i < list.count; i++) {
        int fd = file_open(list.paths[i], &bytes);
        cr_assert(ge(int, fd, 0));
        close(fd);
        sum += bytes;
    }
    cr_assert(eq(u64, sum, 5));
    cr_assert(lt(int, file_open(link, &bytes), 0));
    cr_assert(lt(int, file_open(path, &bytes), 0), "a fifo is refused, and nobody waits for its writer");
    files_free(&list);

    const char *names[] = { "text", "empty", "packed.xz", "link", "fifo" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

Test(wordcount, a_missing_root_is_an_error)
{
    char *roots[] = { "/nonexistent/folder", NULL };
    struct file_list list;
    cr_assert(eq(int, files_walk(&list, roots), -1));
    cr_assert(eq(sz, list.count, 0));
}
