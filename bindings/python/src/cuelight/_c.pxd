# The C interface as cuelight/*.h declares it; only what the package uses. No logic here.
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef extern from "cuelight/error.h" nogil:
    """
    /* Rows of the status table, from the same X-macro that makes the C enum. */
    struct cue_py_status { int code; const char *name; const char *text; };
    #define CUE_PY_STATUS_ROW(name, code, text) { code, #name, text },
    static const struct cue_py_status cue_py_statuses[] = { CUE_STATUS(CUE_PY_STATUS_ROW) };
    enum { CUE_PY_STATUS_COUNT = sizeof cue_py_statuses / sizeof cue_py_statuses[0] };
    """
    struct cue_py_status:
        int code
        const char *name
        const char *text
    const cue_py_status cue_py_statuses[]
    int CUE_PY_STATUS_COUNT

    int CUE_EINVAL, CUE_ENOSYS, CUE_EMOVED, CUE_ESTALE, CUE_EGONE, CUE_ECLOSED, CUE_EEMPTY, CUE_EFULL, CUE_ETIMEDOUT, CUE_EINTR
    int CUE_ELIMIT, CUE_EREMOTE, CUE_EVERSION
    int CUE_ENOENT, CUE_EEXIST, CUE_ENOMEM, CUE_ETOOBIG, CUE_EPERM, CUE_ENOTOWNER, CUE_EBUSY, CUE_ETYPE, CUE_ECORRUPT, CUE_EFORK

    struct cue_time:
        int64_t ns

    const char *cue_status_name(int status)
    const char *cue_status_text(int status)
    const char *cue_trail()
    cue_time cue_now()

cdef extern from "cuelight/pool.h" nogil:
    ctypedef struct cue_pool:
        pass

    enum:
        CUE_CREATE, CUE_ATTACH, CUE_PERSIST, CUE_READ_ONLY, CUE_MEMFD, CUE_HUGE
        CUE_KEEP, CUE_ZERO, CUE_REPLACE, CUE_MINE
        CUE_BLOCK_OWNED, CUE_BLOCK_KEPT, CUE_BLOCK_SENT, CUE_BLOCK_DOOMED

    struct cue_pool_opts:
        uint64_t size, max_blocks, uid
        uint32_t flags, mode, max_parties, numa
        const char *file
        const char *label
        int32_t fd
        uint64_t max_allocations, quota

    struct cue_pool_info:
        const char *name
        uint64_t uid, size, used, peak, blocks, kept, in_flight, parties, waiters, failed, reaped, copied
        uint64_t taken, free, largest, max_allocations, quota

    struct cue_party_info:
        uint32_t party, uid, gid, dead
        int32_t pid
        uint64_t blocks, bytes, leases, quota, failed, since_ns
        char label[64]

    struct cue_type_info:
        uint32_t type
        uint64_t blocks, kept, bytes

    int cue_pool_open(const char *name, const cue_pool_opts *opts, cue_pool **out)
    void cue_pool_close(cue_pool *pool)
    int cue_pool_destroy(cue_pool *pool)
    int cue_pool_fd(cue_pool *pool)
    int64_t cue_pool_trim(cue_pool *pool)
    int cue_pool_check(cue_pool *pool, bint repair, void (*line)(void *arg, const char *fault) noexcept nogil, void *arg)
    int cue_pool_stat(cue_pool *pool, cue_pool_info *out)
    int cue_pool_parties(cue_pool *pool, cue_party_info *rows, size_t n)
    int cue_pool_types(cue_pool *pool, cue_type_info *rows, size_t n)
    int cue_pool_hand(cue_pool *pool, int socket)
    int cue_pool_take(int socket, const cue_pool_opts *opts, cue_time wait, cue_pool **out)
    int64_t cue_block_read(cue_pool *pool, uint64_t id, uint64_t offset, void *to, size_t size)

    struct cue_block:
        void *data
        size_t size

    struct cue_key:
        uint32_t type
        uint64_t id
        const char *name

    struct cue_block_opts:
        uint32_t type, flags
        uint64_t id
        const char *name
        size_t align
        cue_time wait

    struct cue_block_info:
        uint64_t id, key_id, size, capacity, made_ns
        uint32_t type, state, leases, owner
        int32_t owner_pid
        char name[64]

    int cue_block_alloc(cue_pool *pool, size_t size, const cue_block_opts *opts, cue_block *out)
    int cue_block_publish(cue_block *b, unsigned flags)
    int cue_block_find(cue_pool *pool, cue_key key, cue_time wait, cue_block *out)
    int64_t cue_block_find_many(cue_pool *pool, const cue_key *keys, size_t n, cue_block *out, uint64_t *ids)
    int cue_block_view(const cue_block *b, size_t offset, size_t size, cue_block *out)
    int cue_block_resize(cue_block *b, size_t size)
    int cue_block_copy(const cue_block *src, cue_pool *to, const cue_block_opts *opts, cue_block *out)
    int cue_block_release(cue_block *b)
    int cue_block_free(cue_block *b)
    int cue_block_stat(const cue_block *b, cue_block_info *out)
    int cue_block_next(cue_pool *pool, uint32_t type, uint64_t *cursor, cue_block_info *out)
    int cue_block_next_of(cue_pool *pool, uint32_t owner, uint32_t type, uint64_t *cursor, cue_block_info *out)
    uint32_t CUE_ANY
    cue_block cue_move(cue_block *b)

    struct cue_budget_opts:
        uint64_t bytes, least, max_blocks
        uint32_t type

    struct cue_budget_want:
        uint32_t subtype
        cue_time wait
        int (*stop)(void *arg) noexcept nogil
        void *arg

    struct cue_budget_info:
        uint64_t bytes, least, max_blocks, used, blocks, peak_blocks
        uint32_t type

    int cue_budget_make(cue_pool *pool, const char *name, const cue_budget_opts *opts, cue_block *out)
    int cue_budget_alloc(const cue_block *budget, size_t size, const cue_budget_want *want, cue_block *out)
    int cue_budget_free(const cue_block *budget, cue_block *b)
    int cue_budget_stat(const cue_block *budget, cue_budget_info *out)
    int cue_budget_settle(const cue_block *budget)

cdef extern from "cuelight/serial.h" nogil:
    enum:
        CUE_DESC_MAX, CUE_DESC_BLOCK

    struct cue_desc:
        uint64_t pool_uid, host, id, key_id, offset, size
        uint32_t type, kind
        char pool[64]

    int cue_desc_decode(const void *bytes, size_t size, cue_desc *out)
    int cue_block_encode(const cue_block *b, void *buf, size_t cap)
    int cue_pool_encode(const cue_pool *pool, void *buf, size_t cap)
    int cue_block_attach(const void *bytes, size_t size, cue_time wait, cue_block *out)
    int cue_pool_attach(const void *bytes, size_t size, cue_pool **out)

cdef extern from "cuelight/channel.h" nogil:
    ctypedef struct cue_channel:
        pass

    struct cue_ref:
        uint32_t node, process, index, generation

    bint cue_ref_same(cue_ref a, cue_ref b)

    enum:
        CUE_RECV, CUE_SEND, CUE_TAP
        CUE_TAPPED_BLOCK, CUE_TAPPED_VIEW, CUE_TAPPED_ASK, CUE_TAPPED_SYSTEM
        CUE_MAILBOX, CUE_QUEUE, CUE_STREAM, CUE_TOPIC
        CUE_FAIL, CUE_DROP_NEW, CUE_DROP_OLD
        CUE_DRAIN, CUE_DISCARD
        CUE_TYPE_SYSTEM, CUE_DOWN

    struct cue_channel_opts:
        uint32_t kind, full, depth, type, role, redeliver, history
        uint64_t bytes, max
        cue_time spin, flush, linger
        cue_pool *pool
        const char *dead

    struct cue_msg:
        uint32_t type
        int32_t status
        uint64_t tag, key
        cue_ref from_ "from"
        const void *data
        size_t size
        cue_block *move
        cue_block block
        uint32_t redelivered, gap

    struct cue_channel_info:
        uint32_t kind, depth, users, sleeping
        int32_t receiver
        uint32_t shut
        uint64_t queued, peak, sent, received, bytes, copied, dropped, refused, wakes
        uint64_t batches, resent, returned, gaps, late, redelivered, dead, stuck

    int cue_channel_open(const char *url, unsigned how, const cue_channel_opts *opts, cue_channel **out)
    int cue_channel_close(cue_channel *ch)
    int cue_channel_shut(cue_channel *ch, unsigned how, cue_time wait)
    cue_pool *cue_channel_pool(cue_channel *ch)
    int cue_channel_send(cue_channel *ch, const cue_msg *m, cue_time wait)
    int cue_channel_send_many(cue_channel *ch, const cue_msg *m, size_t n, cue_time wait)
    int cue_channel_recv(cue_channel *ch, cue_msg *out, cue_time wait)
    int cue_channel_recv_many(cue_channel *ch, cue_msg *out, size_t n, cue_time wait)
    struct cue_tapped:
        uint64_t size, block
        cue_time sent
        int32_t pid
        uint32_t party, flags

    int cue_msg_tapped(const cue_msg *m, cue_tapped *out)
    void cue_msg_release(cue_msg *m)
    void cue_channel_wake(cue_channel *ch)
    int cue_channel_stat(cue_channel *ch, cue_channel_info *out)
    int cue_channel_recv_any(cue_channel **channels, size_t n, cue_msg *out, cue_time wait)
    int cue_channel_ask(cue_channel *ch, const cue_msg *m, cue_time wait, cue_msg *answer)
    int cue_reply(const cue_msg *request, const cue_msg *answer)
    int cue_channel_fd(cue_channel *ch)
