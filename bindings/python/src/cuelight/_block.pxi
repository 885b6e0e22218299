# Blocks and leases.
#
# A Block is a handle. A Lease is a second claim on the same bytes, shared by all arrays and memoryviews of the Block: they
# refer to the Lease, the Lease to the Block, the Block to its pool's handle. The Block knows its Lease only by an address
# that the Lease clears when it goes, so there is no cycle and everything ends with the last view.
#
# After a fork the leases are still the parent's: Lease objects form a list, and the child renews each at once (see
# renew_leases), for an array does not call us before it looks.

cdef struct LeaseList:
    PyObject *first  # the newest; neighbours do not count as references

cdef LeaseList leases
leases.first = NULL


@cython.final
@cython.no_gc  # no way leads back from a Block; and the dealloc needs `block`
@cython.freelist(64)
cdef class Lease:
    """A claim on a block's bytes, held by the arrays and memoryviews that look at them. Made by Block, not by callers."""
    cdef cue_block view
    cdef readonly Block block
    cdef PyObject *newer
    cdef PyObject *older
    cdef Py_ssize_t shape
    cdef bint lost              # gone in a fork

    def __dealloc__(self):
        self.unlink()
        if self.block is not None and self.block.lease == <PyObject *>self:
            self.block.lease = NULL
        cue_block_release(&self.view)

    cdef void link(self) noexcept:
        self.older = leases.first
        if self.older != NULL:
            (<Lease>self.older).newer = <PyObject *>self
        leases.first = <PyObject *>self

    cdef void unlink(self) noexcept:
        if self.newer != NULL:
            (<Lease>self.newer).older = self.older
        elif leases.first == <PyObject *>self:
            leases.first = self.older
        if self.older != NULL:
            (<Lease>self.older).newer = self.newer
        self.newer = self.older = NULL

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.fill(buffer, flags)

    cdef int fill(self, Py_buffer *buffer, int flags) except -1:
        cdef bint writable = self.block.writes()
        if self.lost:
            refuse(CUE_ESTALE, "the block was freed when this process was forked")
        self.shape = <Py_ssize_t>self.view.size
        return fill_buffer(buffer, flags, self, self.view.data, &self.shape, writable)


cdef Py_ssize_t one = 1


cdef int fill_buffer(Py_buffer *buffer, int flags, object exporter, void *data, Py_ssize_t *size, bint writable) except -1:
    """Plain bytes of an exporter in which `size` lies."""
    if flags & PyBUF_WRITABLE and not writable:
        raise BufferError("read-only: a view, a message's bytes, or a block that was sent or published")
    buffer.obj = exporter
    buffer.buf = data
    buffer.len = size[0]
    buffer.readonly = not writable
    buffer.itemsize = 1
    buffer.format = NULL
    if flags & PyBUF_FORMAT:
        buffer.format = b"B"
    buffer.ndim = 1
    buffer.shape = size if flags & PyBUF_ND else NULL
    buffer.strides = &one if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
    buffer.suboffsets = NULL
    buffer.internal = NULL
    return 0


def renew_leases():
    """Runs in a forked child: what it can still see, it leases itself."""
    cdef PyObject *at = leases.first
    cdef cue_block_info info
    while at != NULL:
        if cue_block_stat(&(<Lease>at).view, &info) < 0:  # the handle is the parent's: its first use makes it ours
            (<Lease>at).lost = True
        at = (<Lease>at).older


os.register_at_fork(after_in_child=renew_leases)


cdef Block new_block(cue_block *b, PoolHandle handle, bint owner, bint asked):
    """Takes over a handle of the C library."""
    cdef Block block = Block.__new__(Block)
    block.b = b[0]
    block.held = True
    block.owner = owner
    block.asked = asked
    block.handle = handle
    block.forks = cue_py_forks
    return block


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Block:
    """Bytes in a pool: an owner (you allocated or received it) or a view (you found or attached it).

    A Block comes from `Pool.alloc`, `Pool.put`, `Pool.find`, `Pool.attach`, `Pool.empty` (see `block_of`) or a received
    `Message`. It has the buffer protocol: writable while you own it and have not published it, read-only for a view unless
    ``writable=True`` was asked for. ``with block:`` releases it, as does its collection.

    Arrays and memoryviews of it keep the bytes, whatever becomes of the Block, its pool and other processes.
    """
    cdef cue_block b
    cdef PoolHandle handle
    cdef PyObject *lease       # borrowed: cleared by the Lease when it goes
    cdef bint held             # b is not empty
    cdef bint owner, asked     # as we got it; asked: writable=True
    cdef bint unsure           # received: whether it is an owner is still to be looked up
    cdef bint part             # a view that does not begin where the block does
    cdef bint sending          # a thread is sending it and has put b elsewhere
    cdef unsigned forks
    cdef object array_made     # weak references to the arrays that are writable because we own it: the newest …
    cdef list arrays_made      # … and older ones
    cdef object __weakref__

    def __init__(self):
        raise TypeError("a Block comes from Pool.alloc, put, find or attach, or from a message")

    def __dealloc__(self):
        if self.held:
            cue_block_release(&self.b)

    # -- inside --

    cdef cue_block *get(self) except NULL:
        if not self.held:
            if self.sending:
                refuse(CUE_EBUSY, "another thread is sending the block")
            refuse(CUE_EMOVED, "the block was sent, released or freed")
        return &self.b

    cdef inline bint owns(self) noexcept:
        cdef cue_block_info info
        if self.unsure and self.held:
            self.unsure = False
            self.owner = (cue_block_stat(&self.b, &info) == 0 and info.state == CUE_BLOCK_OWNED
                          and info.owner_pid == getpid())
        return self.owner and self.held and self.forks == cue_py_forks

    cdef inline bint writes(self) noexcept:
        return not self.handle.read_only and (self.asked or self.owns())

    cdef Lease leased(self):
        """The claim that all views of this handle share."""
        cdef Lease lease
        if self.lease != NULL:
            lease = <Lease>self.lease
            if self.held and not lease.lost:
                return lease
        lease = Lease.__new__(Lease)
        check(cue_block_view(self.get(), 0, UINT64_MAX, &lease.view))
        lease.block = self
        lease.link()
        self.lease = <PyObject *>lease
        return lease

    cdef int ended(self) except -1:
        """No owner any more: arrays become read-only (slices that numpy made of them do not)."""
        self.owner = self.unsure = False
        if self.array_made is not None and not self.writes():
            for reference in [self.array_made, *(self.arrays_made or ())]:
                array = reference()
                if array is not None:
                    make_read_only(array)
            self.array_made = self.arrays_made = None
        return 0

    # While a thread waits to send the block, its handle lies with that thread; a release meanwhile is honoured when it fails.

    cdef int moved(self) except -1:
        self.held = False
        return self.ended()

    cdef int lend(self, cue_block *to) except -1:
        to[0] = self.get()[0]
        memset(&self.b, 0, sizeof(self.b))
        self.held = False
        self.sending = True
        return 0

    cdef int settle(self, cue_block *back) except -1:
        """After the send: `back` is empty if it went."""
        if back.data == NULL:
            self.sending = False
            return self.ended()
        if self.sending:
            self.b = back[0]
            self.held = True
            self.sending = False
        else:
            cue_block_release(back)
        return 0

    cdef int watch(self, array) except -1:
        if self.array_made is not None and self.array_made() is not None:
            if self.arrays_made is None:
                self.arrays_made = []
            elif len(self.arrays_made) >= 16:
                self.arrays_made = [reference for reference in self.arrays_made if reference() is not None]
            self.arrays_made.append(self.array_made)
        self.array_made = PyWeakref_NewRef(array, None)
        return 0

    cdef cue_block_info stat(self) except *:
        cdef cue_block_info info
        check(cue_block_stat(self.get(), &info))
        return info

    cdef object make_array(self, object dtype, object shape, object offset, object writable):
        cdef Lease lease = self.leased()
        cdef bint writes = self.writes() if writable is None else writable
        cdef tuple tag = None
        need_numpy()
        if writes and self.handle.read_only:
            refuse(CUE_EPERM, f"pool {self.handle.name} was opened read-only")
        if dtype is None and shape is None and not self.part and not offset:
            tag = tag_read(self.get())
        if lease.lost:
            refuse(CUE_ESTALE, "the block was freed when this process was forked")
        if tag is not None:
            array = array_over(lease, lease.view.data, tag[0], tag[1], tag[2] == "F", writes)
        else:
            dtype = np_uint8 if dtype is None else dtype_of(dtype)
            shape = fit(lease.view.size, dtype, shape, offset)
            array = array_over(lease, <char *>lease.view.data + <size_t>offset, dtype, shape, False, writes)
        if writes and writable is None and not self.asked:
            self.watch(array)
        return array

    # -- what it is --

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.leased().fill(buffer, flags)

    def __len__(self):
        return self.get().size

    def __bool__(self):
        return self.held

    def __bytes__(self):
        """A copy of the bytes (counted in ``Pool.stats()["copied"]``)."""
        cdef cue_block *b = self.get()
        cdef Lease lease = self.leased()
        self.handle.tally.copied += b.size
        return PyBytes_FromStringAndSize(<char *>lease.view.data, <Py_ssize_t>lease.view.size)

    def __repr__(self):
        cdef cue_block_info info
        if not self.held:
            return "<cuelight.Block, empty>"
        if cue_block_stat(&self.b, &info) < 0:
            return "<cuelight.Block, gone>"
        return f"<cuelight.Block {info.id:#x}, type {info.type}, {self.b.size} bytes, {STATES.get(info.state, '?')}>"

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.release()

    def __reduce__(self):
        """A pickled Block is its descriptor and holds nothing: publish or keep what you pickle."""
        return attach, (self.descriptor,)

    @property
    def data(self):
        """memoryview: The bytes, without a copy."""
        return memoryview(self)

    @property
    def size(self):
        """int: Bytes in use."""
        return self.get().size

    @property
    def id(self):
        """int: The automatic id; ``pool.find(id=block.id)`` finds the block once it is published."""
        return self.stat().id

    @property
    def key_id(self):
        """int: The id that its maker chose, 0 if none: ``pool.find(type=block.type, id=block.key_id)``."""
        return self.stat().key_id

    @property
    def type(self):
        """int: What the bytes are, as their maker said; 0: plain."""
        return self.stat().type

    @property
    def name(self):
        """str or None: The name that it is found by."""
        cdef cue_block_info info = self.stat()
        return (<bytes>info.name).decode() or None

    @property
    def descriptor(self):
        """bytes: Names the block to any process of this machine (see `attach`); at most 128 bytes. Holds nothing."""
        cdef char text[128]
        cdef int n = check(cue_block_encode(self.get(), text, CUE_DESC_MAX))
        return text[:n]

    @property
    def owned(self):
        """bool: Whether this process owns the block: released here, it is freed."""
        cdef cue_block_info info
        return self.owns() and cue_block_stat(&self.b, &info) == 0 and info.state == CUE_BLOCK_OWNED

    def info(self):
        """What the manifest says of the block.

        Returns
        -------
        BlockInfo

        Raises
        ------
        Stale
            The block is gone.
        """
        cdef cue_block_info info = self.stat()
        return block_info(&info)

    # -- looking --

    def array(self, dtype=None, shape=None, offset=0, *, writable=None):
        """The bytes as a numpy array, without a copy. The array keeps them, not this object.

        Parameters
        ----------
        dtype : dtype-like, optional
            What the bytes are. By default what `Pool.put` or `Pool.empty` noted, with its shape; else bytes.
        shape : int or tuple of int, optional
            By default one dimension up to the block's end. One extent may be -1.
        offset : int
            Where the array begins, bytes.
        writable : bool, optional
            By default whether the block is; True insists (others may be looking), False gives a read-only array.

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        Invalid
            The array would not lie within the block.
        TypeMismatch
            The dtype holds Python objects.
        Moved, Stale
            The block was sent or released here, or is gone.
        """
        return self.make_array(dtype, shape, offset, writable)

    def view(self, offset=0, size=None, *, writable=False):
        """One more claim on the block, or on a part of it.

        Parameters
        ----------
        offset : int
            Where the part begins, bytes.
        size : int, optional
            Its bytes, by default up to the end.
        writable : bool
            Whether its buffers may be written to.

        Returns
        -------
        Block
        """
        cdef cue_block b
        cdef Block block
        cdef size_t start = whole(offset, "offset", UINT64_MAX)
        cdef size_t n = UINT64_MAX if size is None else whole(size, "size", UINT64_MAX - 1)
        check(cue_block_view(self.get(), start, n, &b))
        block = new_block(&b, self.handle, False, writable)
        block.part = self.part or start != 0
        return block

    # -- changing --

    def publish(self, *, mine=False):
        """From now on others find the block under its key.

        It belongs to the pool, and this Block becomes a view of it; arrays of it become read-only.

        Parameters
        ----------
        mine : bool
            Stay the owner: the block can be found, and goes with you.

        Returns
        -------
        Block
            This one.

        Raises
        ------
        NotOwner
        Busy
            It shall replace a block that is not published yet.
        """
        check(cue_block_publish(self.get(), CUE_MINE if mine else 0))
        if not mine:
            self.ended()
        return self

    def resize(self, size):
        """Changes how many of its bytes are in use, within its capacity (``block.info().capacity``).

        Views that were made before keep their size.

        Raises
        ------
        NotOwner
        TooBig
            More than the capacity.
        """
        check(cue_block_resize(self.get(), size_of(size, "size")))
        self.lease = NULL  # the next view is a claim of the new size

    def copy(self, Pool pool=None, *, type=0, id=0, name=None, align=0, timeout=0):
        """An owner of a copy, in any pool.

        Parameters
        ----------
        pool : Pool, optional
            By default the block's own.
        type, id, name, align, timeout
            As in `Pool.alloc`.

        Returns
        -------
        Block
        """
        cdef PoolHandle to = self.handle if pool is None else pool.handle
        cdef bytes text = name_of(name, "name")
        cdef cue_block_opts opts
        cdef cue_block b
        cdef Lease lease = self.leased()  # the original stays while we wait for room
        cdef Wait wait
        cdef int status
        cdef int64_t ns = wait_of(timeout)
        options(&opts, type, id, text, align, 0)
        status = cue_block_copy(&lease.view, to.get(), &opts, &b)
        if status == CUE_ENOMEM and ns > 0:
            wait_start(&wait, ns)
            to.enter()
            try:
                while (status == CUE_ENOMEM or status == CUE_EINTR) and wait_more(&wait):
                    opts.wait = wait.slice
                    with nogil:
                        status = cue_block_copy(&lease.view, to.pool, &opts, &b)
                    to.get()
            finally:
                to.leave()
        check(CUE_ENOMEM if status == CUE_EINTR else status)
        return new_block(&b, to, True, False)

    def release(self):
        """Done with it: frees what you own, ends a view. Arrays of it stay valid. A second time does nothing."""
        cdef int status
        if self.held:
            self.held = False
            self.ended()
            status = cue_block_release(&self.b)
            memset(&self.b, 0, sizeof(self.b))
            if status == CUE_ECORRUPT:
                fail(status)
        self.sending = False  # what a failed send would give back is released by it

    def free(self):
        """Ends the block for everyone: its keys at once, its bytes when the last view of them ends.

        Raises
        ------
        Stale
            It was freed before.
        NotOwner
            Another process owns it and has not published it.
        Moved
            This handle is empty.
        """
        cdef int status = cue_block_free(self.get())
        if status == 0 or status == CUE_ESTALE:
            self.held = False
            self.ended()
            memset(&self.b, 0, sizeof(self.b))
        check(status)


cdef dict STATES = {CUE_BLOCK_OWNED: "owned", CUE_BLOCK_KEPT: "kept", CUE_BLOCK_SENT: "sent", CUE_BLOCK_DOOMED: "doomed"}


cdef object block_info(const cue_block_info *info):
    from cuelight.info import BlockInfo
    return BlockInfo(
        info.id, info.key_id, info.size, info.capacity, info.made_ns, info.type, STATES.get(info.state, str(info.state)),
        info.leases, info.owner, info.owner_pid, (<bytes>info.name).decode() or None)


def block_of(array):
    """The block whose memory an array is.

    Parameters
    ----------
    array : numpy.ndarray, memoryview, Block or Message
        Made by `Pool.empty`, `Block.array`, `Message.array`, or a view of such an array.

    Returns
    -------
    Block

    Raises
    ------
    TypeMismatch
        The array lies elsewhere.
    """
    cdef Lease lease = lease_of(array)
    if lease is None:
        refuse(CUE_ETYPE, "the array does not lie in a pool; make it with Pool.empty or Pool.put")
    return lease.block


cdef Lease lease_of(object array):
    base = array
    while base is not None:
        if isinstance(base, Lease):
            return base
        if isinstance(base, Block):
            return (<Block>base).leased()
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return None


cdef int options(cue_block_opts *opts, object type, object id, bytes name, object align, unsigned flags) except -1:
    memset(opts, 0, sizeof(opts[0]))
    opts.type = <uint32_t>whole(type, "type", UINT32_MAX)
    opts.id = whole(id, "id", UINT64_MAX)
    opts.name = chars(name)
    opts.align = whole(align, "align", UINT64_MAX)
    opts.flags = flags
    return 0
