# Dragon's managed memory on pools and blocks: the types of cuelight.managed_memory.
#
# A managed pool is a pool with a budget in it (cue_budget_make), which counts as Dragon's heap does; an allocation is a kept block
# under that budget, a MemoryAlloc is a Block that looks at it. So lifetimes, leases, stale handles and the dead are the C library's.
#
# A Managed is this process's opening of such a pool, shared by all MemoryPool and MemoryAlloc objects of it.
#
# As bytes: an allocation is the block's descriptor, in which the pool's uid is bytes 8-15 and the host 16-23; a pool is its uid, its
# host, and then its descriptor. Those words may be rewritten by others; what names another host is never touched, only handed on. A part of
# an allocation of another host is its bytes with offset and size appended: whoever has a checksum to keep cannot narrow it inside.

cdef uint32_t MANAGED_TYPE = 0x44520000  # "DR": blocks under the budget have types from here on
cdef const char *BUDGET_NAME = b"managed-memory"
cdef uint64_t MANAGED_MOST = <uint64_t>64 << 30  # a pool's size; the pool below is larger and at most 128 GiB
cdef object dragon = None  # cuelight.managed_memory, once it is imported
cdef dict managed_pools = {}  # uid -> weak reference to a Managed


def set_dragon(module):
    """Called once by cuelight.managed_memory: where the exceptions are. The types say that they are from there."""
    global dragon
    dragon = module
    (<PyTypeObject *>MemoryPool).tp_name = b"cuelight.managed_memory.MemoryPool"
    (<PyTypeObject *>MemoryAlloc).tp_name = b"cuelight.managed_memory.MemoryAlloc"
    (<PyTypeObject *>MemoryAllocations).tp_name = b"cuelight.managed_memory.MemoryAllocations"


cdef dict DRAGON_CODES = {
    CUE_ENOMEM: "DYNHEAP_REQUESTED_SIZE_NOT_AVAILABLE", CUE_ETOOBIG: "DYNHEAP_REQUESTED_SIZE_TOO_LARGE", CUE_ELIMIT: "MEMORY_POOL_FULL",
    CUE_EGONE: "OBJECT_DESTROYED", CUE_ESTALE: "OBJECT_DESTROYED", CUE_EMOVED: "OBJECT_DESTROYED", CUE_ENOENT: "OBJECT_DESTROYED",
    CUE_EREMOTE: "MEMORY_OPERATION_ATTEMPT_ON_NONLOCAL_POOL", CUE_EPERM: "MEMORY_ERRNO", CUE_EEXIST: "MEMORY_ERRNO",
    CUE_EINVAL: "INVALID_ARGUMENT", CUE_ECORRUPT: "INVALID_ARGUMENT", CUE_EVERSION: "INVALID_ARGUMENT", CUE_ETYPE: "INVALID_ARGUMENT",
}


cdef int refused(str cls, str message, int status, str where=None) except -1:
    """Raises one of Dragon's exceptions for a status of the call that this thread just made."""
    if where is None:
        where = (<bytes>(cue_status_text(status) if silent(status) else cue_trail())).decode("utf-8", "replace")
    raise getattr(dragon, cls)(message, dragon.DragonError[DRAGON_CODES.get(status, "FAILURE")], where)


cdef int gone(str cls, str message, str where) except -1:
    raise getattr(dragon, cls)(message, dragon.DragonError.OBJECT_DESTROYED, where)


cdef int elsewhere(str cls, str message) except -1:
    raise getattr(dragon, cls)(message, dragon.DragonError.MEMORY_OPERATION_ATTEMPT_ON_NONLOCAL_POOL, "the memory is on another host")


# ---- names and numbers ----

cdef bytes pool_name_of(str fname):
    """The name of the pool below: D, the name with what a pool's name cannot hold as _XX, M."""
    cdef list parts = []
    for byte in fname.encode("utf-8", "surrogateescape"):
        letter = chr(byte)
        parts.append(letter if byte < 128 and (letter.isalnum() or letter in ".-") else f"_{byte:02x}")
    return ("D" + "".join(parts) + "M").encode()


cdef str fname_of(bytes name):
    """The reverse. ValueError: it is no managed pool's."""
    text = name.decode("ascii")
    if len(text) < 2 or text[0] != "D" or text[len(text) - 1] != "M":
        raise ValueError(f"pool {text!r} is not one of managed memory")
    head, *rest = text[1:-1].split("_")
    return (head.encode() + b"".join([bytes.fromhex(part[:2]) + part[2:].encode() for part in rest])).decode("utf-8", "surrogateescape")


cdef uint64_t power_from(uint64_t n) noexcept:
    """The smallest power of two that is not less."""
    cdef uint64_t power = 1
    while power < n and power < <uint64_t>1 << 63:
        power <<= 1
    return power


cdef size_t request_of(object size, int least) except? 7:
    if not isinstance(size, int):
        raise TypeError(f"Allocation size must be int, got type {type(size)}")
    if size < least:
        raise RuntimeError(f"Size cannot be less than {least} for memory allocations")
    return size


cdef uint32_t subtype_of(object alloc_type) except? 7:
    if alloc_type is None:
        return 0
    value = getattr(alloc_type, "value", alloc_type)
    if not isinstance(value, int) or not 0 <= value < 256:
        raise TypeError(f"alloc_type is {alloc_type!r}, not an AllocType")
    return value


cdef object alloc_type_of(uint32_t subtype):
    return dragon.AllocType(subtype) if subtype < 4 else subtype


# ---- openings ----

@cython.final
@cython.no_gc  # no way leads back, and the dealloc needs `handle`
cdef class Managed:
    """A managed pool as this process has it open."""
    cdef PoolHandle handle
    cdef cue_block budget  # a view
    cdef uint64_t muid, uid, host
    cdef uint64_t size, least, max_allocations
    cdef bytes name        # of the pool below
    cdef str fname
    cdef bytes descriptor
    cdef object __weakref__

    def __dealloc__(self):
        cue_block_release(&self.budget)

    cdef bytes serialize(self):
        return (int(self.muid).to_bytes(8, "little") + int(self.host).to_bytes(8, "little") + self.descriptor)

    cdef cue_budget_info stat(self, str message) except *:
        cdef cue_budget_info info
        cdef int status = cue_budget_settle(&self.budget)
        if status >= 0:
            status = cue_budget_stat(&self.budget, &info)
        if status < 0:
            refused("DragonPoolError", message, status)
        return info


cdef Managed managed_of(cue_pool *pool, uint64_t muid):
    """Takes over an opening; None, with the status in C's trail, if it is no managed pool."""
    cdef Managed m = Managed.__new__(Managed)
    cdef cue_budget_info info
    cdef cue_desc desc
    cdef cue_key key
    cdef cue_time now
    cdef char text[128]
    cdef int n
    m.handle = handle_of(pool, False)
    key.type, key.id, key.name, now.ns = 0, 0, BUDGET_NAME, 0
    if cue_block_find(pool, key, now, &m.budget) < 0 or cue_budget_stat(&m.budget, &info) < 0:
        return None
    n = check(cue_pool_encode(pool, text, CUE_DESC_MAX))
    check(cue_desc_decode(text, n, &desc))
    m.descriptor = text[:n]
    m.uid, m.host, m.muid, m.name = desc.pool_uid, desc.host, muid, desc.pool
    m.fname = fname_of(m.name)
    m.size, m.least, m.max_allocations = info.bytes, info.least, info.max_blocks
    managed_pools[m.uid] = PyWeakref_NewRef(m, None)
    return m


cdef Managed managed_open(const cue_desc *desc):
    """What this process has open already, or None."""
    cdef Managed m
    reference = managed_pools.get(desc.pool_uid)
    m = None if reference is None else reference()
    if m is None or m.host != desc.host or m.handle.pool == NULL or strcmp(desc.pool, PyBytes_AS_STRING(m.name)) != 0:
        return None
    return m


cdef int find_uid(char *bytes_, size_t size, cue_desc *desc) except -1:
    """A pool made with uid 0 has another one below: a copy of a descriptor with 0 gets that. Opens nothing for longer."""
    cdef cue_pool *pool = NULL
    cdef cue_pool_opts opts
    cdef cue_pool_info info
    memset(&opts, 0, sizeof(opts))
    opts.flags = CUE_ATTACH
    if cue_pool_open(desc.pool, &opts, &pool) == 0:
        if cue_pool_stat(pool, &info) == 0:
            memcpy(bytes_ + 8, &info.uid, 8)
            desc.pool_uid = info.uid
        cue_pool_close(pool)
    return 0


# ---- allocations ----

@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class MemoryAlloc:
    """An allocation in a `MemoryPool`, made there or attached by `attach`.

    The object holds a claim on the bytes, as do all memoryviews of it: they stay what they are until the last of them is gone,
    whoever frees the allocation or destroys the pool meanwhile. The allocation itself belongs to its pool and stays until somebody
    frees it. Two are equal if their bytes are.
    """
    cdef Managed managed   # None: of another host
    cdef Block block       # None: detached or freed
    cdef size_t bytes_     # its size
    cdef uint64_t id_      # 0: not looked up yet
    cdef bytes remote      # of another host: its descriptor, and which part of it is meant
    cdef uint64_t offset
    cdef str ended_        # why there is no block

    def __init__(self):
        raise TypeError("a MemoryAlloc comes from MemoryPool.alloc or MemoryAlloc.attach")

    cdef Block need(self, str message, str cls="DragonMemoryError"):
        if self.block is None:
            if self.remote is not None and self.ended_ is None:
                elsewhere(cls, message)
            gone(cls, message, f"the allocation was {self.ended_}")
        return self.block

    cdef Lease lease(self, str message):
        cdef Block block = self.need(message)
        try:
            return block.leased()
        except Error as error:
            raise dragon.DragonMemoryError(message, dragon.DragonError.OBJECT_DESTROYED, str(error)) from None

    @staticmethod
    def attach(serialized=None, *, serialized_bytes=None, ser_bytes=None):
        """The allocation that a descriptor names. Opens its pool if this process has not done so.

        Parameters
        ----------
        serialized, serialized_bytes, ser_bytes : bytes-like
            What `serialize` gave in any process, by any of these names.

        Returns
        -------
        MemoryAlloc
            If it was made on another host it can be cloned and serialized; looking at its memory raises DragonMemoryError.

        Raises
        ------
        DragonMemoryTypeError
            The bytes are no descriptor of an allocation. Also a TypeError.
        DragonObjectDestroyed
            It was freed, or its pool was destroyed. Also a DragonMemoryError.
        TypeError
            Not bytes-like.
        """
        if serialized is None:
            serialized = ser_bytes if serialized_bytes is None else serialized_bytes
        return alloc_attach(serialized)

    def get_memview(self):
        """The bytes, writable, without a copy.

        Returns
        -------
        memoryview
            Of `size` bytes, format ``B``. It stays valid whatever becomes of this object, the allocation and the pool.

        Raises
        ------
        DragonMemoryError
            It was detached or freed here, or is of another host.
        """
        return memoryview(self.lease("Could not get memory pointer"))

    def serialize(self):
        """What names the allocation to any process of this host: at most 144 bytes; it holds nothing.

        Returns
        -------
        bytes
            Bytes 8–15 are the pool's uid, 16–23 its host, native endian.

        Raises
        ------
        DragonMemoryError
            It was detached or freed.
        """
        cdef char text[128]
        cdef int n
        if self.remote is not None and self.ended_ is None:
            return self.remote
        n = cue_block_encode(&self.need("Could not serialize memory").b, text, CUE_DESC_MAX)
        if n < 0:
            refused("DragonMemoryError", "Could not serialize memory", n)
        if self.managed.muid == 0:
            memset(text + 8, 0, 8)
        return text[:n]

    def __reduce__(self):
        return MemoryAlloc.attach, (self.serialize(),)

    def detach(self):
        """Gives the claim on the memory back. The allocation stays, as do memoryviews.

        Raises
        ------
        DragonMemoryError
            It was detached or freed before. A RuntimeError.
        """
        if self.remote is None:
            self.need("cannot detach from memory not attached to").release()
            self.block = None
        elif self.ended_ is not None:
            gone("DragonMemoryError", "cannot detach from memory not attached to", f"the allocation was {self.ended_}")
        self.ended_ = "detached"

    def free(self):
        """Ends the allocation for everyone. Its room in the pool is free at once; its bytes go with their last view.

        Raises
        ------
        DragonMemoryError
            It was freed before, by anyone; detached; or is of another host.
        """
        cdef Block block = self.need("could not free allocation")
        cdef int status
        if self.managed.handle.pool == NULL:
            gone("DragonMemoryError", "could not free allocation", f"pool {self.managed.fname!r} was destroyed")
        status = cue_budget_free(&self.managed.budget, block.get())
        if status < 0 and status != CUE_ESTALE:
            refused("DragonMemoryError", "could not free allocation", status)
        block.held = False
        self.block = None
        self.ended_ = "freed"
        if status < 0:
            refused("DragonMemoryError", "could not free allocation", status)

    def clone(self, offset=0, length=None):
        """A part of the allocation as an object of its own, with a claim of its own.

        Freeing it frees the whole; serialized, it keeps its offset and length.

        Parameters
        ----------
        offset : int
            Where it begins, bytes.
        length : int, optional
            Its bytes; by default up to the end.

        Returns
        -------
        MemoryAlloc

        Raises
        ------
        DragonPoolError
            It would reach beyond the allocation; or that was detached or freed.
        RuntimeError
            Negative.
        """
        cdef uint64_t start, n
        cdef cue_block b
        cdef int status
        if not isinstance(offset, int) or not isinstance(length, int | None):
            raise TypeError("offset and length must be int")
        if offset < 0:
            raise RuntimeError("Offset cannot be less than 0 for memory allocations")
        if length is not None and length < 0:
            raise RuntimeError("Length cannot be less than 0 for memory allocations")
        if self.block is None and (self.remote is None or self.ended_ is not None):
            self.need("Could not clone allocation", "DragonPoolError")
        if offset > self.bytes_ or (length is not None and length > self.bytes_ - offset):
            refused("DragonPoolError", "Could not clone allocation", CUE_EINVAL,
                    f"{length} bytes from {offset} on of an allocation of {self.bytes_}")
        start = offset
        n = self.bytes_ - start if length is None else length
        if self.remote is not None:
            return remote_alloc(self.remote[:len(self.remote) - 16], self.offset + start, n, self.id_)
        status = cue_block_view(&self.block.b, start, n, &b)
        if status < 0:
            refused("DragonPoolError", "Could not clone allocation", status)
        return new_alloc(&b, self.managed)

    def copy(self, MemoryPool pool not None, timeout=None):
        """A new allocation with the same bytes.

        Parameters
        ----------
        pool : MemoryPool
            Where it is made.
        timeout : float, optional
            Seconds to wait for room there; None: for ever.

        Returns
        -------
        MemoryAlloc

        Raises
        ------
        DragonMemoryError
        TimeoutError
        """
        cdef Lease lease = self.lease("Could not copy memory")
        cdef MemoryAlloc other
        if lease.view.size == 0:
            return pool.alloc(0)
        other = pool.alloc_blocking(lease.view.size, timeout)
        memcpy(other.block.b.data, lease.view.data, lease.view.size)
        return other

    def clear(self, start=0, stop=None):
        """Fills bytes with zeros.

        Parameters
        ----------
        start, stop : int
            The first byte, and the one after the last; by default all. What lies beyond the end is left out.

        Raises
        ------
        DragonMemoryError
            It was detached or freed, or is of another host.
        """
        cdef Lease lease = self.lease("Could not clear memory")
        cdef size_t begin = start
        cdef size_t end = lease.view.size if stop is None else stop
        if end > lease.view.size:
            end = lease.view.size
        if begin < end:
            memset(<char *>lease.view.data + begin, 0, end - begin)

    def is_the_same_as(self, MemoryAlloc other not None):
        """Whether this and `other` are the same allocation of the same pool (or parts of it).

        Returns
        -------
        bool

        Raises
        ------
        DragonMemoryError
            One of them was detached or freed, or is of another host.
        """
        self.need("Could not check memory allocations")
        other.need("Could not check memory allocations")
        return self.managed.uid == other.managed.uid and self.managed.name == other.managed.name and self.get_id() == other.get_id()

    def get_int_ptr(self):
        """The address of the bytes in this process.

        Returns
        -------
        int
        """
        return <size_t>self.lease("Could not get memory pointer").view.data

    cdef uint64_t get_id(self) except? 0:
        cdef cue_block_info info
        cdef int status
        if self.id_ == 0 or self.ended_ is not None:
            status = cue_block_stat(&self.need("Could not retrieve the id of the memory allocation.").b, &info)
            if status < 0:
                refused("DragonMemoryError", "Could not retrieve the id of the memory allocation.", status)
            self.id_ = info.id
        return self.id_

    @property
    def id(self):
        """int: Finds it in its pool: ``pool.alloc_from_id(alloc.id)``."""
        return self.get_id()

    @property
    def size(self):
        """int: Bytes, as they were asked for."""
        return self.bytes_

    @property
    def pool(self):
        """MemoryPool: Where it lies."""
        cdef MemoryPool pool
        if self.remote is not None and self.ended_ is None:
            pool = MemoryPool.__new__(MemoryPool)
            pool.remote = self.remote[8:24] + self.remote[:len(self.remote) - 16]
            return pool
        self.need("Could not retrieve the pool for the memory allocation.")
        return pool_over(self.managed)

    def __eq__(self, other):
        cdef Lease mine, theirs
        if not isinstance(other, MemoryAlloc):
            return NotImplemented
        mine = self.lease("Could not compare memory allocations")
        theirs = (<MemoryAlloc>other).lease("Could not compare memory allocations")
        return mine.view.size == theirs.view.size and memcmp(mine.view.data, theirs.view.data, mine.view.size) == 0

    def __hash__(self):
        cdef Lease lease = self.lease("Could not get memory hash")
        return <Py_ssize_t>(hash_of(<const unsigned char *>lease.view.data, lease.view.size) >> 2)

    def __repr__(self):
        if self.ended_ is not None:
            return f"<cuelight.managed_memory.MemoryAlloc of {self.bytes_} bytes, {self.ended_}>"
        if self.remote is not None:
            return f"<cuelight.managed_memory.MemoryAlloc of {self.bytes_} bytes, on another host>"
        try:
            return f"<cuelight.managed_memory.MemoryAlloc {self.get_id():#x} of {self.bytes_} bytes in pool {self.managed.fname!r}>"
        except RuntimeError:
            return f"<cuelight.managed_memory.MemoryAlloc of {self.bytes_} bytes, gone>"


cdef uint64_t hash_of(const unsigned char *data, size_t size) noexcept nogil:
    """The same in every process, of bytes and length."""
    cdef uint64_t sum = <uint64_t>0x9e3779b97f4a7c15 ^ <uint64_t>size
    cdef uint64_t word
    cdef size_t i = 0
    while i + 8 <= size:
        memcpy(&word, data + i, 8)
        sum = (sum ^ word) * <uint64_t>0xff51afd7ed558ccd
        sum ^= sum >> 32
        i += 8
    while i < size:
        sum = (sum ^ data[i]) * <uint64_t>0x100000001b3
        i += 1
    return sum ^ sum >> 29


cdef MemoryAlloc new_alloc(cue_block *b, Managed m):
    """Takes over a view."""
    cdef MemoryAlloc alloc = MemoryAlloc.__new__(MemoryAlloc)
    alloc.bytes_ = b.size
    alloc.block = new_block(b, m.handle, False, True)
    alloc.managed = m
    return alloc


cdef MemoryAlloc remote_alloc(bytes descriptor, uint64_t offset, uint64_t size, uint64_t id):
    cdef MemoryAlloc alloc = MemoryAlloc.__new__(MemoryAlloc)
    alloc.remote = descriptor + int(offset).to_bytes(8, "little") + int(size).to_bytes(8, "little")
    alloc.offset, alloc.bytes_, alloc.id_ = offset, size, id
    return alloc


cdef bint attach_whole(Managed m, const cue_desc *desc, cue_block *out) noexcept:
    """The usual case, in a pool that is open: an id is enough."""
    cdef cue_key key
    cdef cue_time now
    key.type, key.id, key.name, now.ns = 0, desc.id, NULL, 0
    if desc.offset or cue_block_find(m.handle.pool, key, now, out) < 0:
        return False
    if out.size == desc.size:
        return True
    cue_block_release(out)
    return False


cdef MemoryAlloc alloc_attach(object serialized):
    cdef Py_buffer buffer
    cdef cue_desc desc
    cdef cue_block b
    cdef cue_time now
    cdef cue_pool *pool = NULL
    cdef Managed m
    cdef char text[128]
    cdef int n, status
    cdef uint64_t part[2]
    cdef bint is_part
    PyObject_GetBuffer(serialized, &buffer, PyBUF_CONTIG_RO)
    try:
        n = cue_desc_decode(buffer.buf, buffer.len, &desc)
        if n < 0:
            refused("DragonMemoryTypeError", "Could not attach to memory", n)
        is_part = buffer.len == n + 16
        if is_part:
            memcpy(part, <char *>buffer.buf + n, 16)
        memcpy(text, buffer.buf, n)
    finally:
        PyBuffer_Release(&buffer)
    if desc.type - MANAGED_TYPE >= 256 or desc.kind != CUE_DESC_BLOCK:
        refused("DragonMemoryTypeError", "Could not attach to memory", CUE_ETYPE, "the descriptor names no allocation of managed memory")
    m = managed_open(&desc)
    now.ns = 0
    if m is None:
        muid = desc.pool_uid
        if muid == 0:
            find_uid(text, n, &desc)
            m = managed_open(&desc)
    if m is None:
        status = cue_pool_attach(text, n, &pool)
        if status == CUE_EREMOTE:
            return remote_alloc(text[:n], part[0] if is_part else desc.offset, part[1] if is_part else desc.size, desc.id)
        if status < 0:
            refused("DragonAllocationDestroyed" if status in (CUE_ENOENT, CUE_EGONE) else "DragonMemoryTypeError",
                    "Could not attach to memory", status)
        m = managed_of(pool, muid)
        if m is None:
            refused("DragonMemoryTypeError", "Could not attach to memory", CUE_ETYPE)
    status = 0 if attach_whole(m, &desc, &b) else cue_block_attach(text, n, now, &b)
    if status < 0:
        refused("DragonAllocationDestroyed" if status in (CUE_ESTALE, CUE_EGONE, CUE_ENOENT) else "DragonMemoryTypeError",
                "Could not attach to memory", status)
    cdef MemoryAlloc alloc = new_alloc(&b, m)
    alloc.id_ = desc.id
    if is_part:
        if part[0] < desc.offset or part[0] - desc.offset > desc.size or part[1] > desc.size - (part[0] - desc.offset):
            refused("DragonMemoryTypeError", "Could not attach to memory", CUE_ECORRUPT, "a part beyond the allocation")
        return alloc.clone(part[0] - desc.offset, part[1])
    return alloc


# ---- lists ----

cdef struct ManagedRow:
    uint64_t made, id
    uint32_t type


cdef int rows_order(const void *a, const void *b) noexcept nogil:
    cdef const ManagedRow *x = <const ManagedRow *>a
    cdef const ManagedRow *y = <const ManagedRow *>b
    if x.made != y.made:
        return -1 if x.made < y.made else 1
    return (x.id > y.id) - (x.id < y.id)


@cython.final
cdef class MemoryAllocations:
    """What was in a pool when `MemoryPool.get_allocations` looked, in the order of allocation."""
    cdef ManagedRow *rows
    cdef size_t count, room

    def __init__(self):
        raise TypeError("MemoryAllocations come from MemoryPool.get_allocations")

    def __dealloc__(self):
        free(self.rows)

    cdef int add(self, const cue_block_info *info) except -1:
        cdef ManagedRow *rows
        if self.count == self.room:
            rows = <ManagedRow *>realloc(self.rows, (2 * self.room + 64) * sizeof(ManagedRow))
            if rows == NULL:
                raise MemoryError
            self.rows = rows
            self.room = 2 * self.room + 64
        self.rows[self.count].made = info.made_ns
        self.rows[self.count].id = info.id
        self.rows[self.count].type = info.type - MANAGED_TYPE
        self.count += 1
        return 0

    cdef void sort(self) noexcept:
        cdef size_t i
        for i in range(1, self.count):
            if rows_order(&self.rows[i - 1], &self.rows[i]) > 0:
                qsort(self.rows, self.count, sizeof(ManagedRow), rows_order)
                return

    cdef ManagedRow *row(self, object idx) except NULL:
        if not isinstance(idx, int):
            raise TypeError(f"an index must be int, not {type(idx).__name__}")
        if not 0 <= idx < self.count:
            raise RuntimeError("Index out of bounds")
        return &self.rows[<size_t>idx]

    @property
    def num_allocs(self):
        """int: How many they are."""
        return self.count

    def __len__(self):
        return self.count

    def alloc_type(self, idx):
        """The type of one of them.

        Parameters
        ----------
        idx : int
            0 … ``num_allocs - 1``; the first allocation is 0.

        Returns
        -------
        AllocType

        Raises
        ------
        RuntimeError
            Index out of bounds.
        """
        return alloc_type_of(self.row(idx).type)

    def alloc_id(self, idx):
        """The id of one of them, for `MemoryPool.alloc_from_id`.

        Parameters
        ----------
        idx : int
            0 … ``num_allocs - 1``; the first allocation is 0.

        Returns
        -------
        int

        Raises
        ------
        RuntimeError
            Index out of bounds.
        """
        return self.row(idx).id

    def __repr__(self):
        return f"<cuelight.managed_memory.MemoryAllocations, {self.count} of them>"


# ---- pools ----

cdef int ask_signals(void *arg) noexcept nogil:
    with gil:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            (<list>arg).append(error)
            return 1
        return 0


@cython.final
cdef class MemoryPool:
    """A new pool of shared memory that other processes can attach to. It stays until somebody destroys it.

    An allocation counts as the next power of two, at least `min_block_size`, and the pool's size is rounded up to one, too: a pool of
    size S satisfies any sequence of requests that sum up, so rounded, to S. The memory below is used as it is needed.

    Parameters
    ----------
    size : int
        Bytes.
    fname : str
        Its name on this host; up to 61 characters, those other than letters, digits, ``.`` and ``-`` count as three for each byte.
    uid : int
        An id of the caller's choice, unsigned 64-bit.
    pre_alloc_blocks : list of int, optional
        Accepted; nothing needs to be split beforehand. The older interface has `mattr` in this place.
    min_block_size : int, optional
        What the smallest allocation counts, bytes; at least 32, the default; rounded up to a power of two.
    max_allocations : int, optional
        How many may live at a time. By default as many as fit.
    gpu_memory : bool
        There is none here.
    numa_node : int
        The NUMA node to take memory from; -1: anywhere.
    mattr : object
        Not used, as in the older interface.

    Raises
    ------
    DragonPoolCreateFail
        The name is taken, empty or too long; the size is too small, or beyond 64 GiB; there is no memory for it.
    TypeError, OverflowError
        Not an int, not a str; negative, or beyond 64 bits.
    """
    cdef Managed managed   # None: detached, destroyed, never attached, or of another host
    cdef bytes remote      # of another host: its bytes
    cdef bytes kept        # its bytes, for after detach(serialize=True) and destroy
    cdef str ended_        # why there is no pool
    cdef uint64_t muid_
    cdef object __weakref__

    def __init__(self, size, str fname not None, uid, pre_alloc_blocks=None, min_block_size=None, max_allocations=None, gpu_memory=False,
                 numa_node=-1, *, mattr=None):
        cdef cue_pool_opts opts
        cdef cue_budget_opts budget
        cdef cue_pool *pool = NULL
        cdef cue_block b
        cdef uint64_t bytes_, muid, least, most
        cdef int status
        for value, what in ((size, "size"), (uid, "uid")):
            if not isinstance(value, int):
                raise TypeError(f"Pool {what} must be int, got type {type(value)}")
        if pre_alloc_blocks is not None and not (isinstance(pre_alloc_blocks, list) and all(isinstance(n, int) for n in pre_alloc_blocks)):
            raise RuntimeError("MemoryAttr Error: pre_alloc_blocks must be a list of ints")
        bytes_, muid = size, uid
        least = 32 if min_block_size is None else min_block_size
        most = 0 if max_allocations is None else max_allocations
        if gpu_memory:
            raise dragon.DragonPoolCreateFail("Could not create pool", dragon.DragonError.GPU_BE_NOT_FOUND, "no GPU memory here")
        if least < 32:
            raise dragon.DragonPoolCreateFail("Could not create pool", dragon.DragonError.DYNHEAP_MIN_BLOCK_SIZE_TOO_SMALL,
                                              f"min_block_size is {least}: at least 32")
        name = pool_name_of(fname)
        if not fname or len(name) > 63:
            refused("DragonPoolCreateFail", "Could not create pool", CUE_EINVAL,
                    f"a name of {len(name) - 2} characters, as they are counted: from 1 to 61")
        least = power_from(least)
        if bytes_ > MANAGED_MOST or power_from(bytes_) < 2 * least:
            refused("DragonPoolCreateFail", "Could not create pool", CUE_EINVAL,
                    f"a size of {bytes_} bytes: at least {2 * least}, at most {MANAGED_MOST}")
        bytes_ = power_from(bytes_)
        memset(&opts, 0, sizeof(opts))
        opts.size = min(4 * bytes_ + (64 << 20), 2 * MANAGED_MOST)  # so that within the budget rounding and fragments find room
        opts.flags = CUE_CREATE
        opts.uid = muid
        opts.numa = 0 if numa_node < 0 or (numa_node == 0 and not os.path.exists("/sys/devices/system/node/node1")) else numa_node + 1
        status = cue_pool_open(name, &opts, &pool)
        if status == CUE_EEXIST:
            refused("DragonPoolCreateFail", "Could not create pool", status, f"there is a pool {fname!r} already")
        if status < 0:
            refused("DragonPoolCreateFail", "Could not create pool", status)
        memset(&budget, 0, sizeof(budget))
        budget.bytes, budget.least, budget.type = bytes_, least, MANAGED_TYPE
        budget.max_blocks = most if most else bytes_ // least
        status = cue_budget_make(pool, BUDGET_NAME, &budget, &b)
        if status < 0:
            cue_pool_close(pool)  # nothing in it: it vanishes
            refused("DragonPoolCreateFail", "Could not create pool", status)
        cue_block_release(&b)
        self.muid_ = muid
        self.managed = managed_of(pool, muid)

    cdef Managed need(self, str message, str cls="DragonPoolError"):
        if self.managed is None:
            if self.remote is not None and self.ended_ is None:
                elsewhere(cls, message)
            gone(cls, message, f"the pool was {self.ended_ or 'never attached'}")
        if self.managed.handle.pool == NULL or self.managed.handle.closing:
            gone(cls, message, f"pool {self.managed.fname!r} was destroyed")
        return self.managed

    @classmethod
    def attach(cls, serialized=None, *, pool_serialized=None, pool_ser=None):
        """The pool that a descriptor names.

        Parameters
        ----------
        serialized, pool_serialized, pool_ser : bytes-like
            What `serialize` gave in any process, by any of these names.

        Returns
        -------
        MemoryPool
            If it was made on another host it can be serialized and detached; whatever needs its memory raises DragonPoolError.

        Raises
        ------
        DragonPoolAttachFail
            The pool is gone, or the bytes are not a pool's.
        ValueError
            No bytes.
        """
        if serialized is None:
            serialized = pool_ser if pool_serialized is None else pool_serialized
        return pool_attach_to(serialized)

    @classmethod
    def empty_pool(cls):
        """A pool object that is attached to nothing."""
        return MemoryPool.__new__(MemoryPool)

    @classmethod
    def max_pool_name_len(cls):
        """int: How long a name of letters and digits may be."""
        return 61

    @classmethod
    def create_with_retry(cls, size, base_name, uid, attempts=10, **kwargs):
        """A new pool whose name is `base_name` and a number that is not taken.

        Parameters
        ----------
        size, uid, **kwargs
            As for the class.
        base_name : str
        attempts : int
            How many numbers to try.

        Returns
        -------
        MemoryPool

        Raises
        ------
        DragonPoolCreateFail
        """
        for attempt in range(attempts):
            try:
                return MemoryPool(size, f"{base_name}{attempt}", uid, **kwargs)
            except dragon.DragonPoolCreateFail:
                if attempt == attempts - 1:
                    raise

    @staticmethod
    def serialized_uid_fname(serialized):
        """Uid and name of a serialized pool, without attaching to it.

        Returns
        -------
        tuple of (int, str)
            ``(uid, "/D<name>M")``

        Raises
        ------
        ValueError
            The bytes are not a pool's.
        """
        cdef cue_desc desc
        cdef bytes text = bytes(serialized)
        if len(text) < 16 or cue_desc_decode(PyBytes_AS_STRING(text) + 16, len(text) - 16, &desc) < 0:
            raise ValueError("these bytes are not a serialized pool's")
        return int.from_bytes(text[:8], "little"), f"/D{fname_of(desc.pool)}M"

    def serialize(self):
        """What names the pool to any process of this host; it holds nothing.

        Returns
        -------
        bytes
            Bytes 0–7 are its uid, 8–15 its host, native endian.

        Raises
        ------
        DragonPoolError
            It was detached without ``serialize=True``, or never attached.
        """
        if self.remote is not None:
            return self.remote
        if self.kept is None:
            if self.managed is None:
                self.need("Could not serialize pool")
            self.kept = self.managed.serialize()
        return self.kept

    def __reduce__(self):
        return MemoryPool.attach, (self.serialize(),)

    def detach(self, serialize=False):
        """Ends this object's use of the pool. Allocations, their objects and their views stay. A second time does nothing.

        Parameters
        ----------
        serialize : bool
            Keep the bytes for `serialize`.
        """
        if self.ended_ is None and (self.managed is not None or self.remote is not None):
            if serialize:
                self.serialize()
            elif self.remote is None:
                self.kept = None
            self.managed = None
            self.ended_ = "detached"

    def destroy(self):
        """Ends the pool for everyone: its name goes at once, whoever waits in it or uses it gets DragonPoolError. Views stay readable.

        Raises
        ------
        DragonPoolError
            It was destroyed before, or is of another host.
        """
        cdef PoolHandle handle = self.need("Could not destroy pool").handle
        cdef int status
        self.serialize()
        keep_payloads(handle)
        status = cue_pool_destroy(handle.pool)
        if status < 0 and status != CUE_EGONE:
            refused("DragonPoolError", "Could not destroy pool", status)
        if status == 0:
            handle.destroyed = True
            handle.close()
        self.managed = None
        self.ended_ = "destroyed"
        if status < 0:
            refused("DragonPoolError", "Could not destroy pool", status)

    # -- allocations --

    cdef MemoryAlloc allocate(self, Managed m, size_t size, object alloc_type, int64_t ns):
        cdef cue_budget_want want
        cdef cue_block b
        cdef int status
        cdef list raised
        memset(&want, 0, sizeof(want))
        want.subtype = 0 if alloc_type is None else subtype_of(alloc_type)
        status = cue_budget_alloc(&m.budget, size, &want, &b)
        if status == CUE_ENOMEM and ns > 0:
            raised = []
            want.wait.ns = ns
            want.stop = ask_signals
            want.arg = <void *>raised
            m.handle.enter()
            try:
                with nogil:
                    status = cue_budget_alloc(&m.budget, size, &want, &b)
            finally:
                m.handle.leave()
            if raised:
                if status == 0:
                    cue_budget_free(&m.budget, &b)
                raise raised[0]
            if status == CUE_ENOMEM:
                raise TimeoutError("The blocking allocation timed out")
        if status == CUE_ENOMEM:
            refused("DragonPoolAllocationNotAvailable", f"An allocation of size={size} is not available.", status)
        if status < 0:
            refused("DragonPoolError", "Could not perform allocation", status)
        return new_alloc(&b, m)

    def alloc(self, size, alloc_type=None):
        """A new allocation. It belongs to the pool.

        Parameters
        ----------
        size : int
            Bytes. 0 is legal.
        alloc_type : AllocType, optional
            What it is called in `get_allocations`; by default DATA.

        Returns
        -------
        MemoryAlloc

        Raises
        ------
        DragonPoolAllocationNotAvailable
            The pool has no room now.
        DragonPoolError
            The pool can never hold it; has `max_allocations`; was destroyed; is of another host.
        RuntimeError
            Negative.
        TypeError
            Not an int.
        """
        cdef size_t n = request_of(size, 0)
        return self.allocate(self.need("Could not perform allocation"), n, alloc_type, 0)

    def alloc_blocking(self, size, timeout=None, alloc_type=None):
        """A new allocation; waits for room. Those who wait are served in the order in which they came.

        Parameters
        ----------
        size : int
            Bytes, at least 1.
        timeout : float, optional
            Seconds; None: for ever.
        alloc_type : AllocType, optional

        Returns
        -------
        MemoryAlloc

        Raises
        ------
        TimeoutError
            No room in that time.
        DragonPoolAllocationNotAvailable
            No room, and `timeout` is 0.
        ValueError
            `timeout` is negative or no number.
        DragonPoolError, RuntimeError, TypeError
            As `alloc`.
        """
        cdef size_t n = request_of(size, 1)
        if timeout is not None:
            if not isinstance(timeout, int | float):
                raise ValueError("receive timeout must be a float or int")
            if not timeout >= 0:
                raise ValueError("Cannot provide timeout < 0 to alloc_blocking operation")
        return self.allocate(self.need("Could not perform allocation"), n, alloc_type, wait_of(timeout))

    def alloc_from_bytes(self, bytes_object, alloc_type=None):
        """A new allocation with a copy of these bytes.

        Parameters
        ----------
        bytes_object : bytes-like
        alloc_type : AllocType, optional

        Returns
        -------
        MemoryAlloc
        """
        cdef Py_buffer buffer
        cdef MemoryAlloc alloc
        PyObject_GetBuffer(bytes_object, &buffer, PyBUF_CONTIG_RO)
        try:
            alloc = self.allocate(self.need("Could not perform allocation"), buffer.len, alloc_type, 0)
            if buffer.len:
                memcpy(alloc.block.b.data, buffer.buf, buffer.len)
        finally:
            PyBuffer_Release(&buffer)
        return alloc

    def free(self, MemoryAlloc mem=None, *, MemoryAlloc mem_obj=None):
        """Ends an allocation, given as `mem` or `mem_obj`, as `MemoryAlloc.free`."""
        if mem is None:
            mem = mem_obj
        if mem is None:
            raise TypeError("free() needs a MemoryAlloc")
        mem.free()

    cdef bint find(self, Managed m, uint64_t id, int32_t subtype, cue_block *out, str message) except *:
        """A view of the allocation; subtype -1: any."""
        cdef cue_key key
        cdef cue_time now
        cdef cue_block_info info
        cdef int status
        key.type, key.id, key.name, now.ns = 0, id, NULL, 0
        status = cue_block_find(m.handle.pool, key, now, out) if id else CUE_ENOENT
        if status < 0:
            if status != CUE_ENOENT:
                refused("DragonPoolError", message, status)
            return False
        if (cue_block_stat(out, &info) == 0 and info.state == CUE_BLOCK_KEPT and info.type - MANAGED_TYPE < 256
                and (subtype < 0 or info.type - MANAGED_TYPE == <uint32_t>subtype)):
            return True
        cue_block_release(out)
        return False

    cdef tuple key_of(self, tuple args, dict named):
        """(subtype or -1, id) of (alloc_type, alloc_id) or (id)."""
        given = dict(zip(("alloc_type", "alloc_id") if len(args) == 2 else ("id",), args))
        given.update(named)
        if set(given) not in ({"id"}, {"alloc_id"}, {"alloc_type", "alloc_id"}) or len(given) != len(args) + len(named):
            raise TypeError("give (alloc_type, alloc_id) or (id)")
        number = given["id"] if "id" in given else given["alloc_id"]
        if not isinstance(number, int):
            raise TypeError(f"an id must be int, not {type(number).__name__}")
        number = number if 0 <= number <= UINT64_MAX else 0
        return (<int>subtype_of(given["alloc_type"]) if "alloc_type" in given else -1), number

    def allocation_exists(self, *args, **named):
        """Whether there is such an allocation: ``allocation_exists(alloc_type, alloc_id)`` or ``allocation_exists(id)``.

        Returns
        -------
        bool

        Raises
        ------
        DragonPoolError
            The pool was destroyed, or is of another host.
        """
        cdef cue_block b
        cdef Managed m = self.need("Error checking allocation existence")
        cdef uint64_t number
        cdef int32_t subtype
        subtype, number = self.key_of(args, named)
        if not self.find(m, number, subtype, &b, "Error checking allocation existence"):
            return False
        cue_block_release(&b)
        return True

    cdef MemoryAlloc found(self, int32_t subtype, uint64_t number):
        cdef cue_block b
        cdef Managed m = self.need("Could not get memory allocation from id.")
        if not self.find(m, number, subtype, &b, "Could not get memory allocation from id."):
            gone("DragonPoolError", "Could not get memory allocation from id.", f"pool {m.fname!r} has no allocation with id {number:#x}")
        return new_alloc(&b, m)

    def get_alloc_by_id(self, alloc_type, alloc_id):
        """The allocation with type `alloc_type` and id `alloc_id`.

        Returns
        -------
        MemoryAlloc

        Raises
        ------
        DragonPoolError
            There is none.
        """
        if not isinstance(alloc_id, int):
            raise TypeError(f"an id must be int, not {type(alloc_id).__name__}")
        return self.found(<int32_t>subtype_of(alloc_type), alloc_id if 0 <= alloc_id <= UINT64_MAX else 0)

    def alloc_from_id(self, id):
        """The allocation with this id.

        Returns
        -------
        MemoryAlloc

        Raises
        ------
        DragonPoolError
            There is none.
        """
        if not isinstance(id, int):
            raise TypeError(f"an id must be int, not {type(id).__name__}")
        return self.found(-1, id if 0 <= id <= UINT64_MAX else 0)

    def get_allocations(self, alloc_type=None):
        """What is in the pool now. Stops nobody.

        Parameters
        ----------
        alloc_type : AllocType, optional
            Only those of this type.

        Returns
        -------
        MemoryAllocations

        Raises
        ------
        DragonPoolError
            The pool was destroyed, or is of another host.
        """
        cdef Managed m = self.need("Could not retrieve allocation list from pool")
        cdef MemoryAllocations rows = MemoryAllocations.__new__(MemoryAllocations)
        cdef cue_block_info info
        cdef uint64_t cursor = 0
        cdef uint32_t only = 0 if alloc_type is None else MANAGED_TYPE + subtype_of(alloc_type)
        cdef int status
        while True:
            status = cue_block_next(m.handle.pool, only, &cursor, &info)
            if status <= 0:
                break
            if info.state == CUE_BLOCK_KEPT and info.type - MANAGED_TYPE < 256:
                rows.add(&info)
        if status < 0:
            refused("DragonPoolError", "Could not retrieve allocation list from pool", status)
        rows.sort()
        return rows

    # -- what it is --

    @property
    def is_local(self):
        """bool: Whether its memory is on this host."""
        if self.remote is None:
            self.need("Could not determine whether the pool is local")
        return self.remote is None

    @property
    def muid(self):
        """int: The uid that it was made with."""
        if self.managed is None and self.remote is None and self.ended_ is None:
            self.need("Could not retrieve the pool's muid.")
        return self.muid_ if self.remote is None else int.from_bytes(self.remote[:8], "little")

    @property
    def rt_uid(self):
        """int: The id of Dragon's runtime: 0, there is none."""
        return 0

    @property
    def size(self):
        """int: Bytes, as they are counted."""
        return self.need("Could not retrieve the pool's total size.").size

    @property
    def free_space(self):
        """int: Bytes that are not taken, as they are counted."""
        cdef Managed m = self.need("Could not retrieve the pool's free space.")
        return m.size - m.stat("Could not retrieve the pool's free space.").used

    @property
    def utilization(self):
        """float: Per cent of the size that are taken."""
        cdef Managed m = self.need("Could not retrieve the pool's percent utilized space.")
        return 100.0 * m.stat("Could not retrieve the pool's percent utilized space.").used / m.size

    @property
    def max_allocations(self):
        """int: How many allocations may live at a time."""
        return self.need("Could not retrieve the pool's attributes.").max_allocations

    @property
    def current_allocations(self):
        """int: How many live."""
        return self.need("Could not retrieve the pool's attributes.").stat("Could not retrieve the pool's attributes.").blocks

    @property
    def max_used_allocations(self):
        """int: The most that ever lived at a time."""
        return self.need("Could not retrieve the pool's attributes.").stat("Could not retrieve the pool's attributes.").peak_blocks

    @property
    def num_block_sizes(self):
        """int: How many sizes an allocation may count: the powers of two from the smallest to the whole pool."""
        cdef Managed m = self.need("Could not retrieve the pool's number of block sizes.")
        return (m.size // m.least).bit_length()

    @property
    def free_blocks(self):
        """dict of int to int: The free space as blocks of each size, the largest possible."""
        cdef Managed m = self.need("Could not retrieve the pool's free blocks.")
        cdef uint64_t left = m.size - m.stat("Could not retrieve the pool's free blocks.").used
        return {m.least << i: left // m.least >> i & 1 for i in range((m.size // m.least).bit_length())}

    def __repr__(self):
        if self.ended_ is not None:
            return f"<cuelight.managed_memory.MemoryPool, {self.ended_}>"
        if self.remote is not None:
            return f"<cuelight.managed_memory.MemoryPool, uid {self.muid}, on another host>"
        if self.managed is None:
            return "<cuelight.managed_memory.MemoryPool, not attached>"
        return f"<cuelight.managed_memory.MemoryPool {self.managed.fname!r}, uid {self.muid_}, {self.managed.size} bytes>"


cdef MemoryPool pool_over(Managed m):
    cdef MemoryPool pool = MemoryPool.__new__(MemoryPool)
    pool.managed = m
    pool.muid_ = m.muid
    return pool


cdef MemoryPool pool_attach_to(object serialized):
    cdef Py_buffer buffer
    cdef MemoryPool result
    cdef cue_desc desc
    cdef cue_pool *pool = NULL
    cdef Managed m
    cdef bytes text
    cdef bytearray given
    cdef cue_budget_info info
    cdef int status
    cdef uint64_t muid, host
    PyObject_GetBuffer(serialized, &buffer, PyBUF_CONTIG_RO)
    try:
        if buffer.len == 0:
            raise ValueError("Zero length serialized pool descriptor cannot be attached.")
        text = (<char *>buffer.buf)[:buffer.len]
    finally:
        PyBuffer_Release(&buffer)
    if len(text) < 16 or cue_desc_decode(PyBytes_AS_STRING(text) + 16, len(text) - 16, &desc) < 0:
        refused("DragonPoolAttachFail", "Could not attach to serialized pool", CUE_ECORRUPT, "the bytes are not a pool's")
    memcpy(&muid, PyBytes_AS_STRING(text), 8)
    memcpy(&host, PyBytes_AS_STRING(text) + 8, 8)
    given = bytearray(text[16:])
    given[16:24] = text[8:16]  # whoever rewrites them rewrites the first
    if muid:
        given[8:16] = text[:8]
    cue_desc_decode(<char *>given, len(given), &desc)
    m = managed_open(&desc)
    if m is not None and cue_budget_stat(&m.budget, &info) < 0:
        m = None  # destroyed by another process: there may be a new one
    if m is None:
        status = cue_pool_attach(<char *>given, len(given), &pool)
        if status == CUE_EREMOTE:
            result = MemoryPool.__new__(MemoryPool)
            result.remote = text
            return result
        if status < 0:
            refused("DragonPoolAttachFail", "Could not attach to serialized pool", status)
        m = managed_of(pool, muid)
        if m is None:
            refused("DragonPoolAttachFail", "Could not attach to serialized pool", CUE_ETYPE, "it has no managed memory")
    result = pool_over(m)
    return result
