# Pools.

@cython.final
@cython.no_gc
cdef class Keys:
    """Keys as C reads them, and what they find; views that nobody takes out are released."""
    cdef cue_key *keys
    cdef uint64_t *ids
    cdef cue_block *found
    cdef size_t n
    cdef list names  # which the keys point to

    def __cinit__(self, keys, bint views):
        cdef list wanted
        cdef size_t i
        if isinstance(keys, (str, bytes)):
            refuse(CUE_ETYPE, f"keys is {keys!r}, not several keys: a list of them is meant")
        wanted = list(keys)
        self.n = len(wanted)
        self.names = []
        self.keys = <cue_key *>calloc(self.n + 1, sizeof(cue_key))
        self.ids = <uint64_t *>calloc(self.n + 1, sizeof(uint64_t))
        self.found = <cue_block *>calloc(self.n + 1, sizeof(cue_block)) if views else NULL
        if self.keys == NULL or self.ids == NULL or (views and self.found == NULL):
            raise MemoryError
        for i in range(self.n):
            self.set(i, wanted[i])

    cdef int set(self, size_t i, object key) except -1:
        cdef cue_key *at = &self.keys[i]
        cdef bytes text
        if isinstance(key, str):
            text = name_of(key, "a key")
            self.names.append(text)
            at.name = chars(text)
        elif isinstance(key, tuple) and len(<tuple>key) == 2:
            at.type = <uint32_t>whole((<tuple>key)[0], "a key's type", UINT32_MAX)
            at.id = whole((<tuple>key)[1], "a key's id", UINT64_MAX)
        elif hasattr(key, "__index__"):
            at.id = whole(key, "a key", UINT64_MAX)
        else:
            refuse(CUE_ETYPE, f"keys[{i}] is {key!r}; a key is a name, a (type, id) or an automatic id")
        return 0

    cdef int look_up(self, PoolHandle handle) except -1:
        cdef int64_t status
        handle.get()
        handle.enter()
        try:
            with nogil:
                status = cue_block_find_many(handle.pool, self.keys, self.n, self.found, self.ids)
            handle.get()
            return check(<int>status if status < 0 else 0)
        finally:
            handle.leave()

    def __dealloc__(self):
        cdef size_t i
        if self.found != NULL:
            for i in range(self.n):
                cue_block_release(&self.found[i])
        free(self.keys)
        free(self.ids)
        free(self.found)


@cython.final
cdef class Pool:
    """A pool of shared memory, opened, or made if there is none.

    A pool is found by its name; a process that has it open is a party of it. ``with`` closes it, as does its collection (a
    Block that came from it keeps it open). Closing the last opening of a process frees what the process still owns; arrays
    and memoryviews stay valid.

    Parameters
    ----------
    name : str, optional
        1–63 characters of ``A–Z a–z 0–9 . _ -``. None only with `memfd` or `fd`.
    size : int or str
        Room for blocks when the pool is made, bytes or ``"64k"``, ``"1GiB"``. Memory is taken as it is used. 0: what
        ``$CUE_POOL_SIZE`` says, else 1 GiB.
    create : bool, optional
        True: it must not exist yet. False: it must exist. None: either.
    persist : bool
        It stays when it is empty and nobody has it open.
    mode : int
        Permissions of a new pool.
    file : path, optional
        Back it with this file instead of shared memory: it stays until it is destroyed, also over a reboot.
    memfd : bool
        A new pool without a name: others get `fileno` by ``SCM_RIGHTS`` or inherit it, and open it with `fd`.
    fd : int, optional
        Attach the pool behind this descriptor, which stays the caller's.
    read_only : bool
        Observe: take no leases, be no party. Blocks can be listed and copied out (`read`), not found.
    huge : bool
        On pages of 2 MiB: with `memfd`, or a `file` on a hugetlbfs.
    numa : int, optional
        The NUMA node that a new pool takes its memory from.
    max_allocations : int
        Of a new pool: blocks that may live at a time, exactly. 0: as many as fit.
    quota : int or str
        Bytes that a process may own: of a new pool each one, else this one, if that is less. What was sent or published is owned
        no more; what is received counts, and is never refused. 0: no limit.
    max_blocks : int
        How many blocks may have a key that their maker chose. 0: one for each 8 of the smallest blocks, at least 1,024.
    max_parties : int
        Processes at a time, at most 127; 0: 127.
    uid : int
        The id that its descriptors carry; 0: random.
    label : str, optional
        What tools call this process; by default the program's name.

    Raises
    ------
    NotFound, Exists
        As `create` asks.
    NotAllowed
        The mode says no, or it is another user's.
    NoMemory
        No room for its tables.
    Limit
        All places for processes are taken.
    BadVersion, Corrupt
        Made by another version, or not a pool.
    NotSupported
        There are no huge pages here, or no NUMA nodes.
    Invalid
        The name or the size makes no sense, or there is no such node.
    """
    cdef PoolHandle handle
    cdef object __weakref__

    def __init__(self, name=None, size=0, *, create=None, persist=False, mode=0o600, file=None, memfd=False, fd=None,
                 read_only=False, huge=False, numa=None, max_blocks=0, max_parties=0, max_allocations=0, quota=0, uid=0,
                 label=None):
        cdef cue_pool_opts opts
        cdef cue_pool *pool = NULL
        cdef bytes text = name_of(name, "name")
        cdef bytes called = name_of(label, "label")
        cdef bytes path = None if file is None else os.fsencode(file)
        if text is None and not memfd and fd is None:
            refuse(CUE_EINVAL, "a pool needs a name; without one it is made by memfd=True, or is behind an fd")
        memset(&opts, 0, sizeof(opts))
        opts.size = size_of(size, "size")
        opts.max_blocks = whole(max_blocks, "max_blocks", UINT64_MAX)
        opts.max_parties = <uint32_t>whole(max_parties, "max_parties", UINT32_MAX)
        opts.uid = whole(uid, "uid", UINT64_MAX)
        opts.mode = <uint32_t>whole(mode, "mode", 0o7777)
        opts.flags = ((0 if create is None else CUE_CREATE if create else CUE_ATTACH) | (CUE_PERSIST if persist else 0)
                      | (CUE_READ_ONLY if read_only else 0) | (CUE_MEMFD if memfd else 0) | (CUE_HUGE if huge else 0))
        opts.numa = 0 if numa is None else 1 + <uint32_t>whole(numa, "numa", 0x7fffffff)
        opts.max_allocations = whole(max_allocations, "max_allocations", UINT64_MAX)
        opts.quota = size_of(quota, "quota")
        opts.file = chars(path)
        if fd is not None:
            opts.fd = <int32_t>whole(fd, "fd", 0x7fffffff)
            if opts.fd == 0:
                refuse(CUE_EINVAL, "descriptor 0 cannot be given: duplicate it")
        opts.label = chars(called)
        status = cue_pool_open(chars(text), &opts, &pool)
        if status == CUE_ENOENT:
            refuse(status, f"there is no pool {name!r}")
        if status == CUE_EEXIST:
            refuse(status, f"there is a pool {name!r} already")
        check(status)
        self.handle = handle_of(pool, read_only)

    # -- what it is --

    def __repr__(self):
        if self.closed:
            return f"<cuelight.Pool {self.handle.name!r}, closed>"
        return f"<cuelight.Pool {self.handle.name!r}>"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __reduce__(self):
        """A pickled Pool is its descriptor: it holds nothing."""
        return attach_pool, (self.descriptor,)

    @property
    def name(self):
        """str: The name that it is found by, "" if it has none."""
        return self.handle.name

    @property
    def uid(self):
        """int: The id that its descriptors carry."""
        return self.handle.uid

    @property
    def closed(self):
        """bool: Whether this object was closed."""
        return self.handle.pool == NULL or self.handle.closing

    @property
    def descriptor(self):
        """bytes: Names the pool to any process of this machine; at most 128 bytes. Holds nothing."""
        cdef char text[128]
        cdef int n = check(cue_pool_encode(self.handle.get(), text, CUE_DESC_MAX))
        return text[:n]

    def fileno(self):
        """The pool's file descriptor, for ``SCM_RIGHTS``. The pool keeps it."""
        return check(cue_pool_fd(self.handle.get()))

    # -- blocks --

    cdef cue_block allocate(self, size_t size, cue_block_opts *opts, object timeout) except *:
        cdef cue_block b
        cdef Wait wait
        cdef int64_t ns = wait_of(timeout)
        cdef PoolHandle handle = self.handle
        cdef int status = cue_block_alloc(handle.get(), size, opts, &b)
        if status == CUE_ENOMEM and ns > 0:
            wait_start(&wait, ns)
            handle.enter()
            try:
                while (status == CUE_ENOMEM or status == CUE_EINTR) and wait_more(&wait):
                    opts.wait = wait.slice
                    with nogil:
                        status = cue_block_alloc(handle.pool, size, opts, &b)
                    if status == 0 and handle.closing:
                        cue_block_release(&b)
                    handle.get()
            finally:
                handle.leave()
        if status == CUE_EEXIST:
            refuse(status, f"pool {handle.name} has a block with the key "
                   + (f"{opts.name.decode()!r}" if opts.name != NULL else f"(type {opts.type}, id {opts.id})"))
        check(CUE_ENOMEM if status == CUE_EINTR else status)
        return b

    def alloc(self, size, *, type=0, id=0, name=None, align=0, zero=False, keep=False, replace=False, timeout=0):
        """A new block, yours.

        Parameters
        ----------
        size : int or str
            Bytes; 0 is fine.
        type : int
            What the bytes are, 0: plain; below 0x7fff0000.
        id : int
            With a type: the key under which others find it, once it is published.
        name : str, optional
            Or a name as its key.
        align : int
            A power of two up to 2 MiB; 0: 64, and 4096 from 4 KiB on.
        zero : bool
            Fill it with zeros.
        keep : bool
            Born published: it belongs to the pool, and this is a (writable) view of it.
        replace : bool
            Publishing takes the key over from the published block that holds it, in one step; that one is freed if it is the
            pool's. Without it a key that is taken raises `Exists` here.
        timeout : float, optional
            Seconds to wait for room; None: for ever.

        Returns
        -------
        Block

        Raises
        ------
        NoMemory
            No room in the time given.
        TooBig
            It will never fit.
        Exists
            The key is taken.
        Limit
            All places for keys are taken.
        """
        cdef cue_block_opts opts
        cdef cue_block b
        cdef bytes text = name_of(name, "name")
        cdef size_t n = size_of(size, "size")
        options(&opts, type, id, text, align,
                (CUE_ZERO if zero else 0) | (CUE_KEEP if keep else 0) | (CUE_REPLACE if replace else 0))
        b = self.allocate(n, &opts, timeout)
        return new_block(&b, self.handle, not keep, keep)

    def empty(self, shape, dtype="f8", *, type=0, id=0, name=None, align=0, zero=False, replace=False, order="C",
              timeout=0):
        """A new array whose memory is a new block; `Channel.send` moves it without a copy.

        Its dtype and shape travel with it: whoever receives or finds the block has the same array from ``array()``. The array
        owns the block: it is freed with the array unless it was sent or published (``block_of(array).publish()``).

        Parameters
        ----------
        shape : int or tuple of int
        dtype : dtype-like
            Without Python objects.
        order : {"C", "F"}
        type, id, name, align, zero, replace, timeout
            As in `alloc`.

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        NoMemory, TooBig, Exists, Limit
            As in `alloc`.
        TypeMismatch
            The dtype cannot lie in shared memory.
        """
        cdef cue_block_opts opts
        cdef bytes text = name_of(name, "name")
        options(&opts, type, id, text, align, (CUE_ZERO if zero else 0) | (CUE_REPLACE if replace else 0))
        return (<Block>self.block_for(shape, dtype, order, &opts, timeout)).array()

    cdef Block block_for(self, object shape, object dtype, object order, cue_block_opts *opts, object timeout):
        """A block for an array, with its tag."""
        cdef cue_block b
        cdef Block block
        cdef size_t size
        cdef bytes description
        if order not in ("C", "F"):
            refuse(CUE_EINVAL, f"order {order!r} is not 'C' or 'F'")
        dtype = dtype_of(dtype)
        description = dtype_text(dtype)
        shape = shape_of(shape)
        if len(shape) > DIMS_MOST:
            refuse(CUE_EINVAL, f"an array of {len(shape)} dimensions")
        total = dtype.itemsize
        for n in shape:
            total *= whole(n, "a dimension", UINT64_MAX)
        size = whole(total, "the array's size", UINT64_MAX)
        b = self.allocate(tag_room(size, len(shape), description), opts, timeout)
        block = new_block(&b, self.handle, True, False)
        check(cue_block_resize(&block.b, size))
        if not tag_write(&block.b, description, shape, order == "F"):
            refuse(CUE_ECORRUPT, "a new block has less room than was asked for")
        return block

    def put(self, obj, *, type=0, id=0, name=None, align=0, replace=False, timeout=0):
        """Publishes a copy of a buffer or array.

        Arrays (also ``array.array`` and typed memoryviews) come back with their dtype and shape from ``Block.array()``. A
        reader in C sees exactly the array's bytes.

        Parameters
        ----------
        obj : buffer or numpy.ndarray
        type, id, name, align, replace, timeout
            As in `alloc`.

        Returns
        -------
        Block
            A view: the block belongs to the pool until somebody frees it.

        Raises
        ------
        NoMemory, TooBig, Exists, Limit
            As in `alloc`.
        TypeMismatch
            No buffer, or an array of Python objects.
        """
        cdef cue_block_opts opts
        cdef Block block
        cdef Py_buffer buffer
        cdef cue_block b
        cdef bytes text = name_of(name, "name")
        options(&opts, type, id, text, align, CUE_REPLACE if replace else 0)
        if sys.modules.get("numpy") is not None:
            need_numpy()
            if isinstance(obj, np_ndarray):
                return self.put_array(obj, &opts, timeout)
        if not PyObject_CheckBuffer(obj):
            refuse(CUE_ETYPE, f"neither a buffer nor an array, but of type {obj.__class__.__name__}"
                   + (": encode it" if isinstance(obj, str) else ""))
        PyObject_GetBuffer(obj, &buffer, PyBUF_FULL_RO)
        try:
            if buffer.ndim > 1 or (buffer.format != NULL and buffer.format != b"B"):
                need_numpy()
                return self.put_array(np.asarray(obj), &opts, timeout)
            b = self.allocate(buffer.len, &opts, timeout)
            block = new_block(&b, self.handle, True, False)
            if buffer.len:
                check_python(PyBuffer_ToContiguous(b.data, &buffer, buffer.len, b"C"))
            self.handle.tally.copied += buffer.len
        finally:
            PyBuffer_Release(&buffer)
        return block.publish()

    cdef Block put_array(self, object source, cue_block_opts *opts, object timeout):
        order = "F" if source.flags.f_contiguous and not source.flags.c_contiguous else "C"
        cdef Block block = self.block_for(source.shape, source.dtype, order, opts, timeout)
        block.array()[...] = source
        self.handle.tally.copied += block.b.size
        return block.publish()

    def find(self, *, type=0, id=0, name=None, timeout=0, writable=False):
        """A view of the published block with this key.

        Parameters
        ----------
        type, id : int
            As its maker chose them; or type 0 and its automatic id (`Block.id`).
        name : str, optional
            Or its name.
        timeout : float, optional
            Seconds to wait until there is one; None: for ever.
        writable : bool
            Whether its buffers may be written to; others may be looking.

        Returns
        -------
        Block

        Raises
        ------
        NotFound
            There is none, or not in time. Also a KeyError.
        """
        cdef cue_key key
        cdef cue_time now
        cdef cue_block b
        cdef Wait wait
        cdef bytes text = name_of(name, "name")
        cdef int64_t ns = wait_of(timeout)
        cdef PoolHandle handle = self.handle
        cdef int status
        key.type = <uint32_t>whole(type, "type", UINT32_MAX)
        key.id = whole(id, "id", UINT64_MAX)
        key.name = chars(text)
        now.ns = 0
        status = cue_block_find(handle.get(), key, now, &b)
        if status == CUE_ENOENT and ns > 0:
            wait_start(&wait, ns)
            handle.enter()
            try:
                while (status == CUE_ENOENT or status == CUE_EINTR) and wait_more(&wait):
                    with nogil:
                        status = cue_block_find(handle.pool, key, wait.slice, &b)
                    if status == 0 and handle.closing:
                        cue_block_release(&b)
                    handle.get()
            finally:
                handle.leave()
        if status == CUE_ENOENT or status == CUE_EINTR:
            what = f"named {name!r}" if name is not None else f"of type {type} with id {id:#x}"
            refuse(CUE_ENOENT, f"no block {what} in pool {handle.name}")
        check(status)
        return new_block(&b, handle, False, writable)

    def find_many(self, keys, *, writable=False):
        """Views of the published blocks with these keys, as they are now: many look-ups in one call, whose trips to memory overlap.

        Parameters
        ----------
        keys : iterable
            Each a name (str), a ``(type, id)`` as its maker chose them, or an automatic id (`Block.id`, int).
        writable : bool
            Whether their buffers may be written to; others may be looking.

        Returns
        -------
        list of Block or None
            As long as `keys`; None where there is none.

        Raises
        ------
        Invalid, TypeMismatch
            One of them is no key; then no block is held.
        NotAllowed
            The pool was opened read-only: see `find_ids`.
        """
        cdef Keys wanted = Keys(keys, True)
        cdef PoolHandle handle = self.handle
        cdef size_t i
        wanted.look_up(handle)
        result = []
        for i in range(wanted.n):
            if wanted.ids[i] == 0:
                result.append(None)
                continue
            result.append(new_block(&wanted.found[i], handle, False, writable))
            memset(&wanted.found[i], 0, sizeof(cue_block))
        return result

    def find_ids(self, keys):
        """The automatic ids of the published blocks with these keys, as they are now; it takes no leases.

        For an observer, who can take none and copies what he found (`read`), and for asking whether something is there.

        Parameters
        ----------
        keys : iterable
            As for `find_many`.

        Returns
        -------
        list of int or None
            As long as `keys`; None where there is none.

        Raises
        ------
        Invalid, TypeMismatch
            One of them is no key.
        """
        cdef Keys wanted = Keys(keys, False)
        cdef size_t i
        wanted.look_up(self.handle)
        return [wanted.ids[i] or None for i in range(wanted.n)]

    def attach(self, descriptor, *, writable=False):
        """A view of what a descriptor names, which must be in this pool.

        Parameters
        ----------
        descriptor : bytes
            `Block.descriptor` of any process of this machine.
        writable : bool
            Whether its buffers may be written to.

        Returns
        -------
        Block

        Raises
        ------
        Stale
            The block is gone.
        Corrupt, BadVersion
            The bytes are no descriptor, or of another format.
        Remote
            It was made on another machine.
        Invalid
            It names a block of another pool.
        """
        self.handle.get()
        return attach_in(descriptor, self.handle, writable)

    # -- the whole --

    def blocks(self, type=None, owner=None):
        """Looks at every live block in turn without stopping anyone.

        Parameters
        ----------
        type : int, optional
            Only blocks of this type.
        owner : int, optional
            Only blocks of the party with this number (`BlockInfo.owner`, `PartyInfo.party`), 0: of the pool itself.

        Yields
        ------
        BlockInfo
            Each is consistent, the whole is a moving picture.

        Raises
        ------
        Invalid
            The pool has no such number.
        """
        cdef cue_block_info info
        cdef uint64_t cursor = 0
        cdef uint32_t only = 0 if type is None else <uint32_t>whole(type, "type", UINT32_MAX)
        cdef uint32_t whose = CUE_ANY if owner is None else <uint32_t>whole(owner, "owner", UINT32_MAX - 1)
        while check(cue_block_next_of(self.handle.get(), whose, only, &cursor, &info)):
            if type is None or info.type == only:
                yield block_info(&info)

    def read(self, id, offset=0, size=None):
        """Copies a published block's bytes out without looking at it: for an observer, who can take no lease.

        Parameters
        ----------
        id : int
            Its automatic id, `BlockInfo.id`.
        offset : int
        size : int, optional
            At most so many bytes; by default all that follow.

        Returns
        -------
        bytes
            They were the block's while they were copied.

        Raises
        ------
        Stale
            The block is gone.
        NotAllowed
            It is neither published nor this process's.
        """
        cdef uint64_t number = whole(id, "id", UINT64_MAX)
        cdef uint64_t start = whole(offset, "offset", UINT64_MAX)
        cdef uint64_t most = UINT64_MAX if size is None else size_of(size, "size")
        cdef uint64_t part
        cdef int64_t got = 1
        cdef bytes text
        parts = []
        while got > 0 and most > 0:
            part = most if most < 1 << 20 else 1 << 20
            text = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>part)
            got = cue_block_read(self.handle.get(), number, start, <char *>text, part)
            if got < 0:
                fail(<int>got)
            parts.append(text[:got])
            start += <uint64_t>got
            most -= <uint64_t>got
        self.handle.tally.copied += sum(map(len, parts))
        return b"".join(parts)

    def parties(self):
        """The processes that have the pool open, and what each of them owns.

        Returns
        -------
        list of PartyInfo
        """
        cdef cue_party_info rows[127]
        cdef int n = check(cue_pool_parties(self.handle.get(), rows, 127))
        from cuelight.info import PartyInfo
        return [
            PartyInfo(rows[i].party, rows[i].pid, (<bytes>rows[i].label).decode("utf-8", "replace"), rows[i].uid, rows[i].blocks,
                      rows[i].bytes, rows[i].leases, rows[i].quota, rows[i].failed, rows[i].since_ns, bool(rows[i].dead))
            for i in range(n)
        ]

    def types(self):
        """Blocks by type.

        Returns
        -------
        dict of int to TypeInfo
            The library's own types, from 0x7fff0000 on, are among them.
        """
        cdef cue_type_info *rows = NULL
        cdef int n = check(cue_pool_types(self.handle.get(), NULL, 0))
        cdef int room = n + 16
        from cuelight.info import TypeInfo
        rows = <cue_type_info *>malloc(room * sizeof(cue_type_info))
        if rows == NULL:
            raise MemoryError
        try:
            n = check(cue_pool_types(self.handle.get(), rows, room))
            return {rows[i].type: TypeInfo(rows[i].blocks, rows[i].kept, rows[i].bytes) for i in range(min(n, room))}
        finally:
            free(rows)

    def hand(self, socket):
        """Hands the pool to whoever is at the other end of a connected Unix socket, who calls `take`.

        Parameters
        ----------
        socket : socket.socket or int

        Raises
        ------
        NotAllowed
            Another user is there, and the pool's mode gives others nothing.
        Invalid
            It is no connected Unix socket.
        """
        cdef int fd = <int>whole(socket if isinstance(socket, int) else socket.fileno(), "socket", 0x7fffffff)
        check(cue_pool_hand(self.handle.get(), fd))

    def stats(self):
        """Counts of the pool.

        Returns
        -------
        dict of str to int
            ``size`` (room for blocks), ``used``, ``taken`` (shared memory that it takes, tables included), ``peak`` (the most of
            that), ``free`` (in whole granules of 4 KiB), ``largest`` (the most of them in a row: ``1 - largest / free`` says how
            scattered they are), ``quota`` (what this process may own), ``copied`` (payload that this process copied, in messages
            sent as bytes, in copies, puts and ``bytes()``): bytes. ``blocks``, of which ``kept`` and ``in_flight``,
            ``max_allocations``; ``parties``, ``waiters``, ``failed`` (allocations refused), ``reaped`` (dead parties cleaned up
            after): counts. ``uid``.
        """
        cdef cue_pool_info info
        check(cue_pool_stat(self.handle.get(), &info))
        return {
            "uid": info.uid, "size": info.size, "used": info.used, "peak": info.peak, "blocks": info.blocks,
            "kept": info.kept, "in_flight": info.in_flight, "parties": info.parties, "waiters": info.waiters,
            "failed": info.failed, "reaped": info.reaped, "copied": info.copied + self.handle.tally.copied, "taken": info.taken,
            "free": info.free, "largest": info.largest, "max_allocations": info.max_allocations, "quota": info.quota,
        }

    def check(self, *, repair=False):
        """Checks every invariant of the pool.

        Parameters
        ----------
        repair : bool
            Clean up after dead processes first and free what nobody owns.

        Returns
        -------
        list of str
            The faults found.
        """
        faults = []
        check(cue_pool_check(self.handle.get(), repair, note_fault, <void *>faults))
        return faults

    def trim(self):
        """Gives memory of free blocks back to the system.

        Returns
        -------
        int
            Bytes given back.
        """
        cdef int64_t n = cue_pool_trim(self.handle.get())
        if n < 0:
            fail(<int>n)
        return n

    def destroy(self):
        """Ends the pool for everyone: its name goes at once, calls and waits everywhere raise `Gone`, and this object is closed.

        Arrays and memoryviews stay readable.

        Raises
        ------
        NotAllowed
        """
        cdef PoolHandle handle = self.handle
        keep_payloads(handle)
        check(cue_pool_destroy(handle.get()))
        handle.destroyed = True
        handle.close()

    def close(self):
        """Gives the pool back; the process's last close frees what it still owns. A second time does nothing."""
        self.handle.close()


cdef int check_python(int status) except -1:
    """For calls of Python's own C interface, which have set their exception."""
    return status


cdef void note_fault(void *arg, const char *fault) noexcept nogil:
    with gil:
        (<list>arg).append(fault.decode("utf-8", "replace"))


cdef Block attach_in(object descriptor, PoolHandle handle, bint writable):
    cdef cue_block b
    cdef cue_time now
    cdef cue_desc desc
    cdef Py_buffer buffer
    cdef Block block
    now.ns = 0
    PyObject_GetBuffer(descriptor, &buffer, PyBUF_CONTIG_RO)
    try:
        check(cue_desc_decode(buffer.buf, buffer.len, &desc))
        if handle is None:
            handle = handle_from(buffer.buf, buffer.len)
        elif desc.pool_uid != handle.uid:
            refuse(CUE_EINVAL, f"the descriptor names a block of pool {(<bytes>desc.pool).decode()!r}, not of {handle.name!r}")
        check(cue_block_attach(buffer.buf, buffer.len, now, &b))
    finally:
        PyBuffer_Release(&buffer)
    block = new_block(&b, handle, False, writable)
    block.part = desc.offset != 0
    return block


def attach(descriptor, *, writable=False):
    """A view of what a descriptor names; finds and opens the pool itself.

    The pool stays open as long as the block: who attaches often opens the pool first.

    Parameters
    ----------
    descriptor : bytes
        `Block.descriptor` of any process of this machine.
    writable : bool
        Whether its buffers may be written to.

    Returns
    -------
    Block

    Raises
    ------
    Stale
        The block is gone.
    NotFound
        The pool is gone, or it has no name.
    Corrupt, BadVersion
        The bytes are no descriptor, or of another format.
    Remote
        It was made on another machine.
    """
    return attach_in(descriptor, None, writable)


def attach_pool(descriptor):
    """The pool that a descriptor (`Pool.descriptor` or `Block.descriptor`) names.

    Returns
    -------
    Pool

    Raises
    ------
    NotFound, Corrupt, BadVersion, Remote
        As `attach`.
    """
    cdef Py_buffer buffer
    cdef Pool result = Pool.__new__(Pool)
    PyObject_GetBuffer(descriptor, &buffer, PyBUF_CONTIG_RO)
    try:
        result.handle = handle_from(buffer.buf, buffer.len)
    finally:
        PyBuffer_Release(&buffer)
    return result


def take(socket, *, timeout=None, read_only=False, others=False, quota=0, label=None):
    """The pool that comes through a Unix socket, from whoever calls `Pool.hand` at its other end.

    Parameters
    ----------
    socket : socket.socket or int
    timeout : float, optional
        Seconds to wait; None: for ever.
    read_only : bool
        Observe only.
    others : bool
        It may come from another user.
    quota, label
        As for `Pool`.

    Returns
    -------
    Pool

    Raises
    ------
    Empty
        None came in time.
    NotAllowed
        Another user is at the other end.
    Corrupt
        What came is no pool, or another one than was said.
    Closed
        The other end was closed.
    """
    cdef cue_pool_opts opts
    cdef cue_pool *pool = NULL
    cdef cue_time now
    cdef Wait wait
    cdef int64_t ns = wait_of(timeout)
    cdef int fd = <int>whole(socket if isinstance(socket, int) else socket.fileno(), "socket", 0x7fffffff)
    cdef bytes called = name_of(label, "label")
    cdef Pool result = Pool.__new__(Pool)
    cdef int status
    memset(&opts, 0, sizeof(opts))
    opts.flags = CUE_READ_ONLY if read_only else 0
    opts.mode = 0o666 if others else 0
    opts.quota = size_of(quota, "quota")
    opts.label = chars(called)
    now.ns = 0
    status = cue_pool_take(fd, &opts, now, &pool)
    if status == CUE_EEMPTY and ns > 0:
        wait_start(&wait, ns)
        while (status == CUE_EEMPTY or status == CUE_EINTR) and wait_more(&wait):
            with nogil:
                status = cue_pool_take(fd, &opts, wait.slice, &pool)
    check(CUE_EEMPTY if status == CUE_EINTR else status)
    result.handle = handle_of(pool, read_only)
    return result


cdef PoolHandle handle_from(const void *descriptor, size_t size):
    """An opening of the pool that a descriptor names."""
    cdef cue_desc desc
    cdef cue_pool *pool = NULL
    cdef int status
    check(cue_desc_decode(descriptor, size, &desc))
    status = cue_pool_attach(descriptor, size, &pool)
    if status == CUE_ENOENT:
        refuse(status, f"there is no pool {(<bytes>desc.pool).decode()!r} (uid {desc.pool_uid:#x}) any more")
    check(status)
    return handle_of(pool, False)
