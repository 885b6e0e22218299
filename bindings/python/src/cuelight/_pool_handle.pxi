# One counted opening of a pool, shared by the Pool (or Channel) that opened it and the blocks that came from it.
#
# It ends when all of them are gone, or at once when the Pool is closed; then blocks that are still owned are freed by the C
# library, and leases keep what somebody looks at. While a thread waits in the pool, closing is left to that thread.

@cython.final
@cython.no_gc
cdef class PoolHandle:
    cdef cue_pool *pool
    cdef Tally tally
    cdef str name
    cdef uint64_t uid
    cdef bint read_only
    cdef int users     # threads that wait in it without the GIL
    cdef bint closing, destroyed
    cdef unsigned forks

    def __dealloc__(self):
        if self.forks == cue_py_forks:  # in a forked child it ends with the process: a child that never calls costs nothing
            cue_pool_close(self.pool)

    cdef cue_pool *get(self) except NULL:
        if self.destroyed:
            refuse(CUE_EGONE, f"pool {self.name} was destroyed")
        if self.pool == NULL or self.closing:
            refuse(CUE_EINVAL, f"pool {self.name} is closed")
        return self.pool

    cdef void enter(self) noexcept:
        self.users += 1

    cdef void leave(self) noexcept:
        self.users -= 1
        if self.closing and self.users == 0:
            self.finish()

    cdef void finish(self) noexcept:
        cdef cue_pool *pool = self.pool
        self.pool = NULL
        if not self.destroyed:  # that closed it
            cue_pool_close(pool)

    cdef void close(self) noexcept:
        if self.pool != NULL:
            self.closing = True
            if self.users == 0:
                self.finish()


cdef PoolHandle handle_of(cue_pool *pool, bint read_only):
    """Takes over an opening."""
    cdef PoolHandle handle = PoolHandle.__new__(PoolHandle)
    cdef cue_pool_info info
    handle.pool = pool
    handle.read_only = read_only
    handle.forks = cue_py_forks
    handle.name = ""
    memset(&info, 0, sizeof(info))
    check(cue_pool_stat(pool, &info))
    handle.uid = info.uid
    handle.name = "" if info.name == NULL else info.name.decode()
    handle.tally = tallies.get(info.uid)
    if handle.tally is None:
        handle.tally = tallies[info.uid] = Tally()
    return handle


cdef PoolHandle handle_again(cue_pool *pool):
    """One more opening of a pool that is open."""
    cdef cue_pool_opts opts
    cdef cue_pool *again = NULL
    memset(&opts, 0, sizeof(opts))
    opts.flags = CUE_ATTACH
    opts.fd = check(cue_pool_fd(pool))
    check(cue_pool_open(NULL, &opts, &again))
    return handle_of(again, False)
