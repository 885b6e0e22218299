/* Bad input to pools, blocks and descriptors: see bad_input.h for what a row of the table is. */
#include "base/process.h"
#include "pool/pool_internal.h"
#include "serial/desc_layout.h"

#include "tests/bad_input.h"

#include <limits.h>
#include <sys/stat.h>

#define OPEN(name, ...) cue_pool_open(name, &(cue_pool_opts){ __VA_ARGS__ }, &out_pool)
#define FRESH "fresh-name"

/* ---- cue_pool_open: arguments ---- */
BAD(pool_open, missing_pool, CUE_ENOENT, OPEN("nowhere", .flags = CUE_ATTACH))
BAD(pool_open, missing_pool_to_observe, CUE_ENOENT, OPEN("nowhere", .flags = CUE_ATTACH | CUE_READ_ONLY))
BAD(pool_open, name_that_is_taken, CUE_EEXIST, OPEN(name, .flags = CUE_CREATE))
BAD(pool_open, no_name, CUE_EINVAL, OPEN(NULL, .size = POOL_BYTES))
BAD(pool_open, empty_name, CUE_EINVAL, OPEN("", .size = POOL_BYTES))
BAD(pool_open, name_with_a_slash, CUE_EINVAL, OPEN("a/b", .size = POOL_BYTES))
BAD(pool_open, name_that_climbs, CUE_EINVAL, OPEN("../../tmp/x", .size = POOL_BYTES))
BAD(pool_open, name_dotdot, CUE_EINVAL, OPEN("..", .size = POOL_BYTES))
BAD(pool_open, name_with_a_space, CUE_EINVAL, OPEN("a b", .size = POOL_BYTES))
BAD(pool_open, name_with_a_percent, CUE_EINVAL, OPEN("%s%n", .size = POOL_BYTES))
BAD(pool_open, name_that_is_not_ascii, CUE_EINVAL, OPEN("\xc3\xa4", .size = POOL_BYTES))
BAD(pool_open, name_of_64, CUE_EINVAL, OPEN(too_long, .size = POOL_BYTES))
BAD(pool_open, size_one, CUE_EINVAL, OPEN(FRESH, .size = 1))
BAD(pool_open, size_below_32k, CUE_EINVAL, OPEN(FRESH, .size = 32767))
BAD(pool_open, size_negative, CUE_ETOOBIG, OPEN(FRESH, .size = (uint64_t)-1))
BAD(pool_open, size_huge, CUE_ETOOBIG, OPEN(FRESH, .size = UINT64_C(1) << 60))
BAD(pool_open, unknown_flag, CUE_EINVAL, OPEN(FRESH, .size = POOL_BYTES, .flags = 1u << 30))
BAD(pool_open, contradicting_flags, CUE_EINVAL, OPEN(FRESH, .size = POOL_BYTES, .flags = CUE_CREATE | CUE_ATTACH))
BAD(pool_open, too_many_parties, CUE_EINVAL, OPEN(FRESH, .size = POOL_BYTES, .max_parties = 128))
BAD(pool_open, mode_with_more_than_permissions, CUE_EINVAL, OPEN(FRESH, .size = POOL_BYTES, .mode = 04777))
BAD(pool_open, option_of_a_later_version, CUE_EVERSION, OPEN(FRESH, .size = POOL_BYTES, .spare = { [3] = 1 }))
BAD(pool_open, no_place_for_the_result, CUE_EINVAL, cue_pool_open(FRESH, &(cue_pool_opts){ .size = POOL_BYTES }, NULL))

/* ---- cue_pool_open: what lies behind the name ---- */
static const char *fake_name(void) /* tests run side by side */
{
    static char text[64];
    snprintf(text, sizeof text, "fake-%d", (int)getpid());
    return text;
}

static int fake(const void *bytes, size_t size)
{
    char at[SHM_PATH_MAX];
    shm_path(fake_name(), at);
    int fd = open(at, O_CREAT | O_RDWR | O_TRUNC, 0600);
    ssize_t wrote = write(fd, bytes, size);
    close(fd);
    errno = EXDEV;
    int status = wrote == (ssize_t)size ? OPEN(fake_name(), .flags = CUE_ATTACH) : 0;
    unlink(at);
    return status;
}

static int fake_file_type(mode_t type)
{
    char at[SHM_PATH_MAX];
    shm_path(fake_name(), at);
    if (type == S_IFDIR)
        mkdir(at, 0700);
    else if (type == S_IFLNK)
        (void)!symlink(path, at);
    else
        mkfifo(at, 0600);
    errno = EXDEV;
    int status = OPEN(fake_name(), .flags = CUE_ATTACH);
    int error = errno;
    remove(at);
    errno = error;
    return status;
}

/* The pool of the test with a header that was changed on disk; opened as another process would: this one has it open. */
static int with_header(void (*change)(struct pool_header *header), bool checksum)
{
    union {
        struct pool_header header;
        unsigned char page[4096];
    } first;
    int fd = open(path, O_RDWR);
    if (pread(fd, &first, sizeof first, 0) != sizeof first)
        return 0;
    change(&first.header);
    if (checksum)
        first.header.checksum = hash_bytes(&first, offsetof(struct pool_header, checksum), POOL_VERSION);
    char at[SHM_PATH_MAX];
    struct stat info;
    fstat(fd, &info);
    close(fd);
    shm_path(fake_name(), at);
    fd = open(at, O_CREAT | O_RDWR | O_TRUNC, 0600);
    bool made = pwrite(fd, &first, sizeof first, 0) == sizeof first && ftruncate(fd, info.st_size) == 0;
    close(fd);
    errno = EXDEV;
    int status = made ? OPEN(fake_name(), .flags = CUE_ATTACH) : 0;
    int error = errno;
    unlink(at);
    errno = error;
    return status;
}

static void next_version(struct pool_header *h)
{
    h->version = POOL_VERSION + 1;
}
static void more_features(struct pool_header *h)
{
    h->features = 1;
}
static void other_magic(struct pool_header *h)
{
    h->magic ^= 1;
}
static void huge_extents(struct pool_header *h)
{
    h->extents = UINT32_MAX;
}
static void far_data(struct pool_header *h)
{
    h->data_at = UINT64_MAX - 4095;
}
static void wrapped_tables(struct pool_header *h)
{
    h->meta_at = -(uint64_t)h->extents * h->meta_stride;
}
static void unaligned_data(struct pool_header *h)
{
    h->data_at += 64;
    h->object_bytes += 64;
}
static void no_parties(struct pool_header *h)
{
    h->max_parties = 0;
}
static void many_parties(struct pool_header *h)
{
    h->max_parties = 4000000000;
}
static void wide_shift(struct pool_header *h)
{
    h->extent_shift = 77;
}
static void many_slots(struct pool_header *h)
{
    h->dir_slots = UINT64_MAX / 8;
}
static void large_object(struct pool_header *h)
{
    h->object_bytes *= 2;
}
static void no_data(struct pool_header *h)
{
    h->data_bytes = 0;
}

BAD(pool_object, empty_file, CUE_ECORRUPT, fake("", 0))
BAD(pool_object, short_text, CUE_ECORRUPT, fake("hello\n", 6))
BAD(pool_object, zeros_of_a_page, CUE_ECORRUPT, fake((char[8192]){ 0 }, 8192))
BAD(pool_object, folder, CUE_ESYS, fake_file_type(S_IFDIR))
BAD(pool_object, symbolic_link, CUE_ESYS, fake_file_type(S_IFLNK))
BAD(pool_object, fifo, CUE_ECORRUPT, fake_file_type(S_IFIFO))
BAD(pool_object, another_version, CUE_EVERSION, with_header(next_version, true))
BAD(pool_object, another_version_without_its_checksum, CUE_EVERSION, with_header(next_version, false))
BAD(pool_object, unknown_features, CUE_EVERSION, with_header(more_features, true))
BAD(pool_object, another_magic, CUE_ECORRUPT, with_header(other_magic, true))
BAD(pool_object, damaged_extents, CUE_ECORRUPT, with_header(huge_extents, false))
BAD(pool_object, forged_extents, CUE_ECORRUPT, with_header(huge_extents, true))
BAD(pool_object, forged_offset_of_the_data, CUE_ECORRUPT, with_header(far_data, true))
BAD(pool_object, forged_offset_that_wraps_around, CUE_ECORRUPT, with_header(wrapped_tables, true))
BAD(pool_object, forged_offset_beyond_the_object, CUE_ECORRUPT, with_header(unaligned_data, true))
BAD(pool_object, forged_party_count_of_zero, CUE_ECORRUPT, with_header(no_parties, true))
BAD(pool_object, forged_party_count, CUE_ECORRUPT, with_header(many_parties, true))
BAD(pool_object, forged_shift, CUE_ECORRUPT, with_header(wide_shift, true))
BAD(pool_object, forged_directory, CUE_ECORRUPT, with_header(many_slots, true))
BAD(pool_object, forged_size_beyond_its_file, CUE_ECORRUPT, with_header(large_object, true))
BAD(pool_object, forged_size_of_zero, CUE_ECORRUPT, with_header(no_data, true))

/* Every bit of the header that the maker wrote. */
Test(bad_pool_object, any_flipped_bit_of_the_header, .init = set_up, .fini = tear_down)
{
    char at[SHM_PATH_MAX];
    unsigned char page[4096];
    int from = open(path, O_RDONLY);
    struct stat info;
    cr_assert(eq(int, fstat(from, &info), 0));
    cr_assert(eq(sz, (size_t)pread(from, page, sizeof page, 0), sizeof page));
    shm_path(fake_name(), at);
    int fd = open(at, O_CREAT | O_RDWR | O_TRUNC, 0600);
    cr_assert(eq(int, ftruncate(fd, info.st_size), 0));
    for (size_t bit = 0; bit < 8 * (offsetof(struct pool_header, checksum) + 8); bit++) {
        page[bit / 8] ^= (unsigned char)(1u << bit % 8);
        cr_assert(eq(sz, (size_t)pwrite(fd, page, sizeof page, 0), sizeof page));
        page[bit / 8] ^= (unsigned char)(1u << bit % 8);
        int status = OPEN(fake_name(), .flags = CUE_ATTACH);
        bool version = bit / 8 >= offsetof(struct pool_header, version) && bit / 8 < offsetof(struct pool_header, uid);
        cr_expect(eq(int, status, version ? CUE_EVERSION : CUE_ECORRUPT), "bit %zu: %s", bit, cue_trail());
        cr_expect(eq(ptr, out_pool, NULL));
    }
    unlink(at);
}

/* Another process has it cut behind our back: only the header is read before its length is known. */
Test(bad_pool_object, cut_in_any_place, .init = set_up, .fini = tear_down)
{
    char at[SHM_PATH_MAX];
    unsigned char page[4096];
    int from = open(path, O_RDONLY);
    struct stat info;
    cr_assert(eq(int, fstat(from, &info), 0));
    cr_assert(eq(sz, (size_t)pread(from, page, sizeof page, 0), sizeof page));
    shm_path(fake_name(), at);
    int fd = open(at, O_CREAT | O_RDWR | O_TRUNC, 0600);
    cr_assert(eq(sz, (size_t)pwrite(fd, page, sizeof page, 0), sizeof page));
    for (off_t size = info.st_size - 1; size > 0; size = size / 3 * 2) {
        cr_assert(eq(int, ftruncate(fd, size), 0));
        cr_expect(eq(int, OPEN(fake_name(), .flags = CUE_ATTACH), CUE_ECORRUPT), "%lld bytes: %s", (long long)size, cue_trail());
    }
    unlink(at);
}

/* ---- cue_pool_open: not allowed ---- */
static int as_nobody(mode_t mode)
{
    if (chmod(path, mode) || (geteuid() == 0 && seteuid(65534)))
        return 0;
    cue_pool_close(pool);
    errno = EXDEV;
    int status = OPEN(name, .flags = CUE_ATTACH);
    int error = errno;
    (void)!seteuid(getuid());
    unlink(path);
    errno = error;
    return status;
}
BAD(pool_open, no_permission, CUE_EPERM, as_nobody(0))
BAD(pool_open, no_permission_to_write, CUE_EPERM, as_nobody(0444))

Test(bad_pool_open, object_of_another_user, .init = set_up, .fini = tear_down)
{
    if (geteuid() != 0)
        cr_skip_test("needs root: an object of another user");
    errno = EXDEV;
    expect(as_nobody(0666), CUE_EPERM, "cue_pool_open");
}

Test(bad_pool_open, full_shared_memory)
{
    if (!test_small_shm(64 << 10))
        cr_skip_test("no mount namespace to be had");
    fill_results();
    char filler[SHM_PATH_MAX];
    shm_path("filler", filler);
    int fd = open(filler, O_CREAT | O_RDWR, 0600);
    static char page[4096];
    while (write(fd, page, sizeof page) > 0)
        ;
    errno = EXDEV;
    expect(OPEN(FRESH, .size = POOL_BYTES), CUE_ENOMEM, "cue_pool_open");
    cr_assert(eq(int, test_leftovers(FRESH), 0));
}

Test(bad_block_alloc, full_shared_memory)
{
    if (!test_small_shm(4 << 20))
        cr_skip_test("no mount namespace to be had");
    cue_pool *big;
    cue_block blocks[64];
    int status = 0, got = 0;
    cr_assert(eq(int, cue_pool_open(FRESH, &(cue_pool_opts){ .size = 64 << 20 }, &big), 0), "%s", cue_trail());
    fill_results();
    for (; got < 64; got++) {
        errno = EXDEV;
        status = cue_block_alloc(big, 256 << 10, NULL, &blocks[got]);
        if (status)
            break;
        memset(blocks[got].data, got + 1, blocks[got].size);
    }
    cr_expect(ge(int, got, 8));
    cr_expect(lt(int, got, 16));
    expect(status, CUE_ENOMEM, "cue_block_alloc");
    cr_expect(ne(ptr, strstr(cue_trail(), "/dev/shm"), NULL), "%s", cue_trail());
    for (int i = 0; i < got; i++)
        for (size_t at = 0; at < blocks[i].size; at += 4096)
            cr_assert(eq(int, ((unsigned char *)blocks[i].data)[at], i + 1));
    cr_expect(eq(int, cue_block_release(&blocks[0]), 0));
    cr_expect(eq(int, cue_block_alloc(big, 256 << 10, NULL, &blocks[0]), 0), "%s", cue_trail());
    cue_pool_destroy(big);
}

/* ---- cue_block_alloc ---- */
#define ALLOC(size, ...) cue_block_alloc(pool, size, &(cue_block_opts){ __VA_ARGS__ }, &out)

static cue_pool *closed_pool(void)
{
    cue_pool *other;
    CUE_MUST(cue_pool_open(test_name("closed"), &(cue_pool_opts){ .size = POOL_BYTES }, &other));
    cue_pool_close(other);
    errno = EXDEV;
    return other;
}

/* This process has it open; another one destroys it. */
static cue_pool *gone_pool(void)
{
    atomic_store(&pool->header->life, LIFE_GONE);
    return pool;
}

static cue_pool *observed_pool(void)
{
    cue_pool *other;
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .flags = CUE_ATTACH | CUE_READ_ONLY }, &other));
    errno = EXDEV;
    return other;
}

BAD(block_alloc, no_pool, CUE_EINVAL, cue_block_alloc(NULL, 8, NULL, &out))
BAD(block_alloc, closed_pool, CUE_EINVAL, cue_block_alloc(closed_pool(), 8, NULL, &out))
BAD(block_alloc, destroyed_pool, CUE_EGONE, cue_block_alloc(gone_pool(), 8, NULL, &out))
BAD(block_alloc, read_only_pool, CUE_EPERM, cue_block_alloc(observed_pool(), 8, NULL, &out))
BAD(block_alloc, no_place_for_the_result, CUE_EINVAL, cue_block_alloc(pool, 8, NULL, NULL))
BAD(block_alloc, size_negative, CUE_ETOOBIG, ALLOC((size_t)-1, .type = 1))
BAD(block_alloc, size_minus_4096, CUE_ETOOBIG, ALLOC((size_t)-4096, .type = 1))
BAD(block_alloc, size_huge, CUE_ETOOBIG, ALLOC((size_t)1 << 62, .type = 1))
BAD(block_alloc, size_beyond_the_pool, CUE_ETOOBIG, ALLOC(POOL_BYTES + 1, .type = 1))
BAD(block_alloc, size_huge_with_a_name, CUE_ETOOBIG, ALLOC((size_t)-1, .name = "huge"))
BAD(block_alloc, align_three, CUE_EINVAL, ALLOC(8, .align = 3))
BAD(block_alloc, align_beyond_2m, CUE_EINVAL, ALLOC(8, .align = 4 << 20))
BAD(block_alloc, align_negative, CUE_EINVAL, ALLOC(8, .align = (size_t)-1))
BAD(block_alloc, unknown_flag, CUE_EINVAL, ALLOC(8, .flags = 1u << 31))
BAD(block_alloc, type_of_the_library, CUE_EINVAL, ALLOC(8, .type = 0x7fff0000))
BAD(block_alloc, type_negative, CUE_EINVAL, ALLOC(8, .type = (uint32_t)-1))
BAD(block_alloc, id_without_a_type, CUE_EINVAL, ALLOC(8, .id = 5))
BAD(block_alloc, two_keys, CUE_EINVAL, ALLOC(8, .type = 7, .id = 5, .name = "both"))
BAD(block_alloc, key_that_is_reserved, CUE_EEXIST, ALLOC(8, .type = 7, .id = 42))
BAD(block_alloc, empty_name, CUE_EINVAL, ALLOC(8, .name = ""))
BAD(block_alloc, name_with_a_slash, CUE_EINVAL, ALLOC(8, .name = "a/b"))
BAD(block_alloc, name_of_64, CUE_EINVAL, ALLOC(8, .name = too_long))
BAD(block_alloc, option_of_a_later_version, CUE_EVERSION, ALLOC(8, .spare = { 1 }))

static int alloc_until_full(cue_time wait)
{
    cue_block more;
    for (int i = 0; i < POOL_BYTES / 4096 + 1; i++) {
        int status = cue_block_alloc(pool, 32768, &(cue_block_opts){ .wait = wait }, &more);
        if (status)
            return status;
    }
    return 0;
}
BAD(block_alloc, full_pool, CUE_ENOMEM, alloc_until_full(CUE_NOW))
BAD(block_alloc, full_pool_after_a_wait, CUE_ENOMEM, alloc_until_full(CUE_MS(20)))

Test(bad_block_alloc, size_zero_is_fine, .init = set_up, .fini = tear_down)
{
    cr_assert(eq(int, cue_block_alloc(pool, 0, NULL, &out), 0), "%s", cue_trail());
    cr_assert(eq(sz, out.size, 0));
    cr_assert(eq(int, cue_block_release(&out), 0), "%s", cue_trail());
}

/* ---- cue_block_find ---- */
#define FIND(wait, ...) cue_block_find(pool, (cue_key){ __VA_ARGS__ }, wait, &out)
BAD(block_find, key_that_nobody_has, CUE_ENOENT, FIND(CUE_NOW, .type = 7, .id = 43))
BAD(block_find, key_that_is_not_published, CUE_ENOENT, FIND(CUE_NOW, .type = 7, .id = 42))
BAD(block_find, key_that_nobody_publishes_in_time, CUE_ENOENT, FIND(CUE_MS(20), .type = 7, .id = 43))
BAD(block_find, name_that_nobody_has, CUE_ENOENT, FIND(CUE_NOW, .name = "nobody"))
BAD(block_find, id_that_nobody_has, CUE_ENOENT, FIND(CUE_NOW, .id = UINT64_MAX))
BAD(block_find, id_one, CUE_ENOENT, FIND(CUE_NOW, .id = 1))
BAD(block_find, empty_key, CUE_EINVAL, FIND(CUE_NOW, .type = 0))
BAD(block_find, two_keys, CUE_EINVAL, FIND(CUE_NOW, .type = 7, .id = 42, .name = "both"))
BAD(block_find, name_with_a_slash, CUE_EINVAL, FIND(CUE_NOW, .name = "a/b"))
BAD(block_find, name_of_64, CUE_EINVAL, FIND(CUE_NOW, .name = too_long))
BAD(block_find, no_pool, CUE_EINVAL, cue_block_find(NULL, (cue_key){ .id = 1 }, CUE_NOW, &out))
BAD(block_find, destroyed_pool, CUE_EGONE, cue_block_find(gone_pool(), (cue_key){ .type = 7, .id = 43 }, CUE_FOREVER, &out))
BAD(block_find, read_only_pool, CUE_EPERM, cue_block_find(observed_pool(), (cue_key){ .type = 7, .id = 42 }, CUE_NOW, &out))

/* ---- handles ---- */
static cue_block empty;

static cue_block *stale(void) /* an alias of what was released */
{
    static cue_block alias;
    CUE_MUST(cue_block_alloc(pool, 50, NULL, &alias));
    cue_block copy = alias;
    CUE_MUST(cue_block_release(&copy));
    errno = EXDEV;
    return &alias;
}

static cue_block *reused(void) /* its memory is another block by now */
{
    static cue_block alias, other;
    CUE_MUST(cue_block_alloc(pool, 50, NULL, &alias));
    cue_block copy = alias;
    CUE_MUST(cue_block_release(&copy));
    for (int i = 0; i < 1000; i++) {
        CUE_MUST(cue_block_alloc(pool, 50, NULL, &other));
        if (other.data == alias.data)
            break;
    }
    errno = EXDEV;
    return &alias;
}

static cue_block *view(void)
{
    static cue_block v;
    CUE_MUST(cue_block_view(&block, 0, SIZE_MAX, &v));
    errno = EXDEV;
    return &v;
}

static cue_block *anothers(void) /* a view of what another process owns */
{
    static cue_block v;
    struct cast owner = cast_start("own_published", name, "9", "90");
    cr_assert(eq(int, cast_hear(&owner, 10000), 'r'));
    CUE_MUST(cue_block_find(pool, (cue_key){ .type = 9, .id = 90 }, CUE_NOW, &v));
    errno = EXDEV;
    return &v;
}

BAD(block_view, no_block, CUE_EINVAL, cue_block_view(NULL, 0, 1, &out))
BAD(block_view, empty_handle, CUE_EMOVED, cue_block_view(&empty, 0, 1, &out))
BAD(block_view, stale_handle, CUE_ESTALE, cue_block_view(stale(), 0, SIZE_MAX, &out))
BAD(block_view, handle_whose_memory_is_another_block, CUE_ESTALE, cue_block_view(reused(), 0, SIZE_MAX, &out))
BAD(block_view, offset_beyond_the_end, CUE_EINVAL, cue_block_view(&block, 101, 0, &out))
BAD(block_view, size_beyond_the_end, CUE_EINVAL, cue_block_view(&block, 50, 51, &out))
BAD(block_view, offset_negative, CUE_EINVAL, cue_block_view(&block, (size_t)-8, 8, &out))
BAD(block_view, size_negative, CUE_EINVAL, cue_block_view(&block, 8, (size_t)-8, &out))
BAD(block_view, no_place_for_the_result, CUE_EINVAL, cue_block_view(&block, 0, 1, NULL))
BAD(block_resize, no_block, CUE_EINVAL, cue_block_resize(NULL, 1))
BAD(block_resize, empty_handle, CUE_EMOVED, cue_block_resize(&empty, 1))
BAD(block_resize, stale_handle, CUE_ESTALE, cue_block_resize(stale(), 1))
BAD(block_resize, a_view, CUE_ENOTOWNER, cue_block_resize(view(), 1))
BAD(block_resize, beyond_its_capacity, CUE_ETOOBIG, cue_block_resize(&block, 100000))
BAD(block_resize, size_negative, CUE_ETOOBIG, cue_block_resize(&block, (size_t)-1))
BAD(block_publish, no_block, CUE_EINVAL, cue_block_publish(NULL, 0))
BAD(block_publish, empty_handle, CUE_EMOVED, cue_block_publish(&empty, 0))
BAD(block_publish, stale_handle, CUE_ESTALE, cue_block_publish(stale(), 0))
BAD(block_publish, a_view, CUE_ENOTOWNER, cue_block_publish(view(), 0))
BAD(block_publish, unknown_flag, CUE_EINVAL, cue_block_publish(&block, 1u << 31))
BAD(block_release, no_block, CUE_EINVAL, cue_block_release(NULL))
BAD(block_release, empty_handle_is_fine, 0, cue_block_release(&empty))
BAD(block_release, stale_handle, CUE_ESTALE, cue_block_release(stale()))
BAD(block_release, handle_whose_memory_is_another_block, CUE_ESTALE, cue_block_release(reused()))
BAD(block_free, no_block, CUE_EINVAL, cue_block_free(NULL))
BAD(block_free, empty_handle, CUE_EMOVED, cue_block_free(&empty))
BAD(block_free, stale_handle, CUE_ESTALE, cue_block_free(stale()))
BAD(block_free, handle_whose_memory_is_another_block, CUE_ESTALE, cue_block_free(reused()))
BAD(block_free, view_of_what_another_owns, CUE_ENOTOWNER, cue_block_free(anothers()))
BAD(block_publish, view_of_what_another_owns, CUE_ENOTOWNER, cue_block_publish(anothers(), 0))
BAD(block_copy, empty_handle, CUE_EMOVED, cue_block_copy(&empty, pool, NULL, &out))
BAD(block_copy, stale_handle, CUE_ESTALE, cue_block_copy(stale(), pool, NULL, &out))
BAD(block_copy, no_pool, CUE_EINVAL, cue_block_copy(&block, NULL, NULL, &out))
BAD(block_copy, closed_pool, CUE_EINVAL, cue_block_copy(&block, closed_pool(), NULL, &out))
BAD(block_copy, key_that_is_reserved, CUE_EEXIST, cue_block_copy(&block, pool, &(cue_block_opts){ .type = 7, .id = 42 }, &out))
BAD(block_stat, empty_handle, CUE_EMOVED, cue_block_stat(&empty, &(cue_block_info){ 0 }))
BAD(block_stat, stale_handle, CUE_ESTALE, cue_block_stat(stale(), &(cue_block_info){ 0 }))
BAD(block_stat, no_place_for_the_result, CUE_EINVAL, cue_block_stat(&block, NULL))
BAD(block_next, no_pool, CUE_EINVAL, cue_block_next(NULL, 0, &(uint64_t){ 0 }, &(cue_block_info){ 0 }))
BAD(block_next, no_cursor, CUE_EINVAL, cue_block_next(pool, 0, NULL, &(cue_block_info){ 0 }))
BAD(block_next_of, no_pool, CUE_EINVAL, cue_block_next_of(NULL, 0, 0, &(uint64_t){ 0 }, &(cue_block_info){ 0 }))
BAD(block_next_of, no_place, CUE_EINVAL, cue_block_next_of(pool, 0, 0, &(uint64_t){ 0 }, NULL))
BAD(block_next_of, owner_that_cannot_be, CUE_EINVAL, cue_block_next_of(pool, 128, 0, &(uint64_t){ 0 }, &(cue_block_info){ 0 }))
BAD(block_next, cursor_that_nobody_gave, 0, cue_block_next(pool, 0, &(uint64_t){ UINT64_MAX }, &(cue_block_info){ 0 }))
BAD(pool_stat, no_pool, CUE_EINVAL, cue_pool_stat(NULL, &(cue_pool_info){ 0 }))
BAD(pool_stat, no_place_for_the_result, CUE_EINVAL, cue_pool_stat(pool, NULL))
BAD(pool_stat, closed_pool, CUE_EINVAL, cue_pool_stat(closed_pool(), &(cue_pool_info){ 0 }))
BAD(pool_trim, no_pool, CUE_EINVAL, cue_pool_trim(NULL))
BAD(pool_trim, read_only_pool, CUE_EPERM, cue_pool_trim(observed_pool()))
BAD(pool_check, no_pool, CUE_EINVAL, cue_pool_check(NULL, false, NULL, NULL))
BAD(pool_destroy, no_pool, CUE_EINVAL, cue_pool_destroy(NULL))
BAD(pool_destroy, read_only_pool, CUE_EPERM, cue_pool_destroy(observed_pool()))
BAD(pool_fd, no_pool, CUE_EINVAL, cue_pool_fd(NULL))

/* What says in a handle which pool it is of, how it was got, and which life of the record it means: an error, never another
 * block's bytes. (The index in it is trusted: it is this process's own memory and was valid when it was given out.) */
Test(bad_handle, any_flipped_bit, .init = set_up, .fini = tear_down)
{
    for (unsigned bit = 32; bit < 3 * 64; bit++) {
        cue_block given = block;
        cue_block_info info;
        given.priv[bit / 64] ^= UINT64_C(1) << bit % 64;
        if (memcmp(&given, &block, sizeof given) == 0)
            continue;
        int status = cue_block_stat(&given, &info);
        cr_expect(le(int, status, 0));
        if (status == 0) /* a bit that says how it was got, or that is unused */
            cr_expect(eq(u64, info.key_id, 42), "bit %u names another block", bit);
        status = cue_block_view(&given, 0, SIZE_MAX, &out);
        cr_expect(le(int, status, 0));
        if (status == 0) {
            cr_expect(eq(ptr, out.data, block.data), "bit %u", bit);
            cr_expect(eq(int, cue_block_release(&out), 0));
        }
    }
}

Test(bad_handle, noise, .init = set_up, .fini = tear_down)
{
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 300000; i++) {
        cue_block given = { .data = block.data, .size = 100 };
        for (int word = 0; word < 3; word++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            given.priv[word] = i % 3 == word ? state : (state & 0xff) < 64 ? block.priv[word] ^ (state >> 60) : block.priv[word];
            if (word == 0)
                given.priv[0] = (given.priv[0] & ~UINT64_C(0xffffffff)) | (uint32_t)block.priv[0];
        }
        cue_block_info info;
        if (memcmp(given.priv, block.priv, sizeof given.priv) == 0)
            continue;
        int status = cue_block_stat(&given, &info);
        cr_assert(le(int, status, 0));
        if (status == 0)
            cr_assert(eq(u64, info.key_id, 42));
    }
    cr_assert(eq(int, cue_block_release(&block), 0), "%s", cue_trail());
}

/* ---- descriptors ---- */
static unsigned char desc[CUE_DESC_MAX];

static int encoded(void)
{
    int size = CUE_MUST(cue_block_encode(&block, desc, sizeof desc));
    errno = EXDEV;
    return size;
}

static void sum(int size) /* as serial/desc.c does it */
{
    uint32_t all = DESC_VERSION;
    for (uint32_t i = 0; i < (uint32_t)size; i++)
        if (i < DESC_AT_SUM || i >= DESC_AT_INDEX)
            all += (i + 1) * desc[i];
    desc[DESC_AT_SUM] = (unsigned char)(all % 65521);
    desc[DESC_AT_SUM + 1] = (unsigned char)(all % 65521 >> 8);
}

/* A descriptor with `bytes` overwritten at `at`, with a right checksum. */
static int forge(int at, const void *bytes, size_t count)
{
    int size = encoded();
    memcpy(desc + at, bytes, count);
    sum(size);
    return cue_block_attach(desc, (size_t)size, CUE_NOW, &out);
}
#define FORGE(at, type, value) forge(at, &(type){ value }, sizeof(type))

static int attach_freed(void)
{
    int size = encoded();
    CUE_MUST(cue_block_free(&block));
    errno = EXDEV;
    return cue_block_attach(desc, (size_t)size, CUE_NOW, &out);
}

static int attach_destroyed(void)
{
    int size = encoded();
    CUE_MUST(cue_pool_destroy(pool));
    errno = EXDEV;
    return cue_block_attach(desc, (size_t)size, CUE_NOW, &out);
}

static int attach_renamed(void) /* another pool has its name now */
{
    int size = encoded();
    cue_pool *other;
    CUE_MUST(cue_pool_destroy(pool));
    CUE_MUST(cue_pool_open(name, &(cue_pool_opts){ .size = POOL_BYTES }, &other));
    errno = EXDEV;
    int status = cue_block_attach(desc, (size_t)size, CUE_NOW, &out);
    int error = errno;
    cue_pool_destroy(other);
    errno = error;
    return status;
}

static int attach_pool_descriptor(void)
{
    int size = CUE_MUST(cue_pool_encode(pool, desc, sizeof desc));
    errno = EXDEV;
    return cue_block_attach(desc, (size_t)size, CUE_NOW, &out);
}

static int decode_all_cuts(void)
{
    int size = encoded(), last = CUE_ECORRUPT;
    for (int cut = 0; cut < size; cut++) {
        unsigned char *exact = malloc((size_t)cut + !cut); /* the address sanitizer sees a read beyond it */
        memcpy(exact, desc, (size_t)cut);
        errno = EXDEV;
        last = cue_desc_decode(exact, (size_t)cut, &out_desc);
        cr_expect(eq(int, last, CUE_ECORRUPT), "cut after %d bytes", cut);
        last = cue_block_attach(exact, (size_t)cut, CUE_NOW, &out);
        cr_expect(eq(int, last, CUE_ECORRUPT), "cut after %d bytes", cut);
        free(exact);
    }
    return last;
}

BAD(block_encode, small_buffer, CUE_ETOOBIG, cue_block_encode(&block, desc, 20))
BAD(block_encode, no_buffer, CUE_ETOOBIG, cue_block_encode(&block, NULL, 0))
BAD(block_encode, empty_handle, CUE_EMOVED, cue_block_encode(&empty, desc, sizeof desc))
BAD(block_encode, stale_handle, CUE_ESTALE, cue_block_encode(stale(), desc, sizeof desc))
BAD(pool_encode, no_pool, CUE_EINVAL, cue_pool_encode(NULL, desc, sizeof desc))
BAD(pool_encode, small_buffer, CUE_ETOOBIG, cue_pool_encode(pool, desc, 10))
BAD(desc, cut, CUE_ECORRUPT, decode_all_cuts())
BAD(desc, no_bytes, CUE_ECORRUPT, cue_desc_decode(NULL, 0, &out_desc))
BAD(desc, text, CUE_ECORRUPT, cue_desc_decode("hello, world", 12, &out_desc))
BAD(desc, no_place_for_the_result, CUE_EINVAL, cue_desc_decode(desc, (size_t)encoded(), NULL))
BAD(desc, later_format, CUE_EVERSION, FORGE(DESC_AT_VERSION, uint8_t, DESC_VERSION + 1))
BAD(desc, unknown_kind, CUE_EVERSION, FORGE(DESC_AT_KIND, uint8_t, 77))
BAD(desc, damaged, CUE_ECORRUPT, (encoded(), desc[DESC_AT_INDEX] ^= 1, cue_block_attach(desc, sizeof desc, CUE_NOW, &out)))
BAD(desc, forged_name_length, CUE_ECORRUPT, FORGE(DESC_AT_NAME_BYTES, uint8_t, 63))
BAD(desc, forged_name, CUE_ECORRUPT, FORGE(DESC_AT_NAME, char, '/'))
BAD(desc, forged_index, CUE_ESTALE, FORGE(DESC_AT_INDEX, uint32_t, 0x7fffffff))
BAD(desc, forged_index_of_a_small_block, CUE_ESTALE, FORGE(DESC_AT_INDEX, uint32_t, UINT32_MAX))
BAD(desc, forged_generation, CUE_ESTALE, FORGE(DESC_AT_GENERATION, uint64_t, 12345))
BAD(desc, forged_generation_beyond_44_bits, CUE_ECORRUPT, FORGE(DESC_AT_GENERATION, uint64_t, UINT64_MAX))
BAD(desc, forged_offset, CUE_ECORRUPT, FORGE(DESC_AT_OFFSET, uint64_t, 101))
BAD(desc, forged_offset_negative, CUE_ECORRUPT, FORGE(DESC_AT_OFFSET, uint64_t, (uint64_t)-8))
BAD(desc, forged_size, CUE_ECORRUPT, FORGE(DESC_AT_SIZE, uint64_t, 1 << 20))
BAD(desc, forged_size_negative, CUE_ECORRUPT, FORGE(DESC_AT_SIZE, uint64_t, (uint64_t)-1))
BAD(desc, of_a_block_of_another_type, CUE_ETYPE, FORGE(DESC_AT_BLOCK_TYPE, uint32_t, 8))
BAD(desc, of_another_host, CUE_EREMOTE, FORGE(DESC_AT_HOST, uint64_t, 1))
BAD(desc, of_another_pool, CUE_ENOENT, FORGE(DESC_AT_UID, uint64_t, 1))
BAD(desc, of_a_pool_instead_of_a_block, CUE_ETYPE, attach_pool_descriptor())
BAD(desc, stale, CUE_ESTALE, attach_freed())
BAD(desc, of_a_destroyed_pool, CUE_ENOENT, attach_destroyed())
BAD(desc, of_a_pool_whose_name_another_has, CUE_ENOENT, attach_renamed())
BAD(desc, no_place_for_the_block, CUE_EINVAL, cue_block_attach(desc, (size_t)encoded(), CUE_NOW, NULL))
BAD(pool_attach, cut, CUE_ECORRUPT, cue_pool_attach(desc, (size_t)encoded() - 1, &out_pool))
BAD(pool_attach, no_bytes, CUE_ECORRUPT, cue_pool_attach(NULL, 0, &out_pool))
BAD(pool_attach, no_place_for_the_result, CUE_EINVAL, cue_pool_attach(desc, (size_t)encoded(), NULL))
BAD(msgpack_scan, no_bytes, CUE_EINVAL, cue_msgpack_scan(NULL, 5))
BAD(msgpack_scan, eight_gigabytes_in_five_bytes, CUE_ECORRUPT, cue_msgpack_scan("\xdd\x10\x00\x00\x00", 5))

Test(bad_desc, any_flipped_bit, .init = set_up, .fini = tear_down)
{
    int size = encoded();
    for (unsigned bit = 0; bit < 8 * (unsigned)size; bit++) {
        if (bit / 8 >= DESC_AT_UID && bit / 8 < DESC_AT_INDEX)
            continue; /* a caller may write these */
        desc[bit / 8] ^= (unsigned char)(1u << bit % 8);
        int status = cue_block_attach(desc, (size_t)size, CUE_NOW, &out);
        cr_expect(eq(int, status, bit / 8 == DESC_AT_VERSION ? CUE_EVERSION : CUE_ECORRUPT), "bit %u: %s", bit, cue_trail());
        desc[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    cr_assert(eq(int, cue_block_attach(desc, (size_t)size, CUE_NOW, &out), 0), "%s", cue_trail());
    cr_assert(eq(int, cue_block_release(&out), 0));
}
