# Channels and messages.
#
# A received block becomes a Block at once. Bytes that came along lie in shared memory; a Payload holds them until nobody
# looks at them any more, whatever becomes of the Message, the Channel and the pool. (No lease protects them: the Payload keeps
# its pool open, and Pool.destroy leaves an anchor, see keep_payloads.)

@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Payload:
    """The bytes of a received message, held by the arrays and memoryviews that look at them."""
    cdef cue_msg m
    cdef PoolHandle handle
    cdef Py_ssize_t shape
    cdef unsigned forks

    def __dealloc__(self):
        cdef Tally tally = self.handle.tally
        if self.forks != cue_py_forks:
            return  # the parent's
        cue_msg_release(&self.m)
        tally.payloads -= 1
        if tally.payloads == 0:
            cue_block_release(&tally.anchor)

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.fill(buffer, flags)

    cdef int fill(self, Py_buffer *buffer, int flags) except -1:
        self.shape = <Py_ssize_t>self.m.size
        return fill_buffer(buffer, flags, self, <void *>self.m.data, &self.shape, False)


cdef Py_ssize_t no_bytes = 0


cdef int keep_payloads(PoolHandle handle) except -1:
    """Before a pool is destroyed here: a lease of nothing keeps its mapping while there are Payloads."""
    cdef cue_block b
    if handle.tally.payloads == 0:
        return 0
    check(cue_block_alloc(handle.get(), 0, NULL, &b))
    cue_block_release(&handle.tally.anchor)
    status = cue_block_view(&b, 0, UINT64_MAX, &handle.tally.anchor)
    cue_block_release(&b)
    return check(status)


cdef Message new_message(cue_msg *m, PoolHandle handle):
    """Takes over a received message."""
    cdef Message message = Message.__new__(Message)
    cdef void *block_data = m.block.data
    cdef Payload payload
    cdef cue_block b
    message.type = m.type
    message.status = m.status
    message.tag = m.tag
    message.key = m.key
    message.redelivered = m.redelivered
    message.gap = m.gap
    message.sender = m.from_
    message.handle = handle
    if m.block.data != NULL:
        b = cue_move(&m.block)
        message.held = new_block(&b, handle, False, False)
        message.held.unsure = True
    cdef bint shown = m.data != NULL and m.data != block_data
    if shown or message.answerable:  # to answer it one needs what it came in
        payload = Payload.__new__(Payload)
        payload.m = m[0]
        payload.handle = handle
        payload.forks = cue_py_forks
        handle.tally.payloads += 1
        message.came = payload
        if shown:
            message.payload = payload
    else:
        cue_msg_release(m)
    return message


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Message:
    """A received message: small bytes, a block, or both. Made by `Channel.recv`.

    ``bytes(message)`` copies its bytes; ``message.data``, ``message.array()`` and any buffer of it look at them where they
    lie and keep them, whatever becomes of the Message, its channel and its pool. A message that is only a block shows the
    block's bytes.

    Attributes
    ----------
    type : int
        As its sender said.
    status : int
        0, or why what was sent along is missing.
    tag, key : int
        The sender's.
    redelivered : int
        Queues with ``redeliver``: how many receivers have died with it in hand.
    gap : int
        How many messages were dropped right before it, by ``full="drop-old"`` or ``"drop-new"``; not of queues.
    """
    cdef readonly uint32_t type, redelivered, gap
    cdef readonly int status
    cdef readonly uint64_t tag, key
    cdef PoolHandle handle
    cdef cue_ref sender
    cdef Payload came     # what it came in, if there are bytes or it can be answered
    cdef Payload payload  # the same, if there are bytes
    cdef Block held       # a block that came along
    cdef bint empty

    def __init__(self):
        raise TypeError("a Message comes from Channel.recv")

    cdef object exporter(self):
        if self.empty:
            refuse(CUE_EMOVED, "the message was released")
        if self.payload is not None:
            return self.payload
        return self.held

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.exporter()
        if self.payload is not None:
            self.payload.fill(buffer, flags)
        elif self.held is not None:
            self.held.leased().fill(buffer, flags)
        else:
            fill_buffer(buffer, flags, self, &no_bytes, &no_bytes, False)

    def __len__(self):
        return self.size

    def __bool__(self):
        return not self.empty

    def __bytes__(self):
        """A copy of the bytes (counted in ``Pool.stats()["copied"]``)."""
        if self.exporter() is None:
            return b""
        if self.payload is None:
            return bytes(self.held)
        self.handle.tally.copied += self.payload.m.size
        return PyBytes_FromStringAndSize(<const char *>self.payload.m.data, <Py_ssize_t>self.payload.m.size)

    def __repr__(self):
        if self.empty:
            return "<cuelight.Message, released>"
        return f"<cuelight.Message, type {self.type}, {self.size if self.held is None or self.held.held else 0} bytes>"

    def __reduce__(self):
        raise TypeError("a Message cannot be pickled: take bytes(m), or pickle m.block")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.release()

    @property
    def size(self):
        """int: Bytes of the message, else of its block."""
        if self.exporter() is None:
            return 0
        return len(self.held) if self.payload is None else self.payload.m.size

    @property
    def data(self):
        """memoryview: The bytes where they lie."""
        return memoryview(self)

    @property
    def block(self):
        """Block or None: What came along. It stays yours when the Message goes.

        Raises
        ------
        Stale
            It was sent as a view, and its owner has freed it meanwhile.
        """
        if self.status < 0:
            refuse(self.status, "the block that came along was freed meanwhile")
        if self.empty:
            refuse(CUE_EMOVED, "the message was released")
        return self.held

    def array(self, dtype=None, shape=None, offset=0):
        """The bytes as a numpy array, without a copy: writable if they are a block that you now own.

        Parameters
        ----------
        dtype : dtype-like, optional
            By default what the sender's array was (`Pool.empty`), with its shape; else bytes.
        shape : int or tuple of int, optional
        offset : int

        Returns
        -------
        numpy.ndarray

        Raises
        ------
        Invalid
            The array would not lie within the message.
        TypeMismatch
            The dtype holds Python objects.
        Stale
            The block that came along was freed meanwhile.
        """
        exporter = self.exporter()
        if self.payload is None and self.held is not None:
            return self.held.make_array(dtype, shape, offset, None)
        if self.payload is None and self.status < 0:
            self.block
        need_numpy()
        dtype = np_uint8 if dtype is None else dtype_of(dtype)
        shape = fit(self.size, dtype, shape, offset)
        if exporter is None:
            return np_ndarray(shape, dtype, b"", offset)
        return array_over(self.payload, <char *>self.payload.m.data + <size_t>offset, dtype, shape, False, False)

    @property
    def answerable(self):
        """bool: Whether it was asked (`Channel.ask`), or told by an actor, so that `reply` reaches somebody."""
        cdef cue_ref nobody
        memset(&nobody, 0, sizeof(nobody))
        return not cue_ref_same(self.sender, nobody) and self.tapped is None

    @property
    def tapped(self):
        """Tapped or None: What it is a copy of, if it came from a channel that was opened with ``"tap"``."""
        cdef cue_tapped about
        cdef int status = CUE_ENOSYS if self.came is None else cue_msg_tapped(&self.came.m, &about)
        if status == CUE_ENOSYS:
            return None
        check(status)
        from cuelight.info import Tapped
        flags = about.flags
        return Tapped(about.size, about.block, about.sent.ns, about.pid, about.party, flags & CUE_TAPPED_BLOCK != 0,
                      flags & CUE_TAPPED_VIEW != 0, flags & CUE_TAPPED_ASK != 0, flags & CUE_TAPPED_SYSTEM != 0)

    def reply(self, data=b"", *, type=0, status=0, block=None):
        """Answers it. If nobody waits for the answer any more it is freed and counted, which is no error. Does not wait.

        Parameters
        ----------
        data : buffer
        type : int
        status : int
            Negative: why there is no answer; `Channel.ask` raises it.
        block : Block or numpy.ndarray, optional
            Moves, as in `Channel.send`; of the pool that the question came from.

        Raises
        ------
        Invalid
            It was not asked.
        Moved
            It was released.
        Remote
            It came from a pool that is not open here.
        NoMemory, TypeMismatch, NotOwner
            As `Channel.send`.
        """
        cdef cue_msg request, m
        cdef Py_buffer buffer
        cdef Block moving = None
        cdef int code
        if self.empty:
            refuse(CUE_EMOVED, "the message was released")
        memset(&request, 0, sizeof(request))
        if self.came is not None:
            request = self.came.m
        memset(&m, 0, sizeof(m))
        m.type = <uint32_t>whole(type, "type", UINT32_MAX)
        m.status = status
        if block is not None:
            moving = whole_block(block)
            m.move = moving.get()
        PyObject_GetBuffer(data, &buffer, PyBUF_CONTIG_RO)
        try:
            m.data = buffer.buf if buffer.len else NULL
            m.size = buffer.len
            code = cue_reply(&request, &m)
        finally:
            PyBuffer_Release(&buffer)
        if code == 0 and moving is not None:
            moving.moved()
            if not isinstance(block, Block):
                freeze(block)
        check(code)

    def release(self):
        """Done with it: gives bytes and block back. A Block or array taken from it stays. A second time does nothing."""
        self.empty = True
        self.came = None
        self.payload = None
        self.held = None


cdef dict KINDS = {None: 0, "mailbox": CUE_MAILBOX, "queue": CUE_QUEUE, "stream": CUE_STREAM, "topic": CUE_TOPIC}
cdef dict KIND_NAMES = {code: name for name, code in KINDS.items()}
cdef dict FULL = {None: 0, "fail": CUE_FAIL, "drop-new": CUE_DROP_NEW, "drop-old": CUE_DROP_OLD}
cdef dict ROLES = {None: 0, "listen": 1, "dial": 2}
cdef dict HOW = {"r": CUE_RECV, "w": CUE_SEND, "rw": CUE_RECV | CUE_SEND, "tap": CUE_TAP}
cdef dict ENDS = {"keep": 0, "drain": CUE_DRAIN, "discard": CUE_DISCARD}


cdef object choice(dict names, object value, str what):
    try:
        return names[value]
    except (KeyError, TypeError):
        raise error(CUE_EINVAL, f"{what} {value!r} is none of {', '.join([repr(n) for n in names if n])}") from None


cdef int64_t moment(object seconds, str what) except? -2:
    """Seconds of an option: None is C's default (0), 0 is none (-1)."""
    if seconds is None:
        return 0
    if not 0 <= seconds < 1e9:
        refuse(CUE_EINVAL, f"{what} is {seconds} s")
    return <int64_t>(seconds * 1e9) or -1


cdef enum:
    BATCH = 64

cdef object aio = None  # cuelight._aio and asyncio, imported by the first that awaits: they take longer than all of the rest


cdef object awaiting_class():
    global aio
    if aio is None:
        import cuelight._aio as module
        aio = module
    return aio.Awaiting


cdef object asyncio_sleep(double seconds):
    import asyncio
    return asyncio.sleep(seconds)


cdef object asyncio_to_thread(object call, object data, dict how):
    import asyncio
    return asyncio.to_thread(call, data, **how)


@cython.final
cdef class Channel:
    """This process's end of a lane. Made by `cuelight.open`.

    Any number of threads may send, one at a time may receive (else `Busy`). ``with`` closes it, as does its collection.
    Iterating receives until the channel is closed.
    """
    cdef cue_channel *ch
    cdef PoolHandle handle
    cdef Pool shown      # .pool
    cdef str url
    cdef int users       # threads that wait in it without the GIL
    cdef bint closing
    cdef bint receives, sends
    cdef unsigned forks
    cdef object awaiting  # aio.Awaiting of the loop that awaits it
    cdef object __weakref__

    def __init__(self, url, how, *, kind=None, full=None, depth=0, type=0, role=None, bytes=0, max=0, spin=None, flush=None,
                 linger=None, redeliver=0, dead=None, history=0, Pool pool=None):
        cdef cue_channel_opts opts
        cdef object text = name_of(url, "url"), letters = name_of(dead, "dead")
        cdef unsigned mode = choice(HOW, how, "how")
        cdef cue_channel *ch = NULL
        cdef const char *chosen
        memset(&opts, 0, sizeof(opts))
        opts.kind = choice(KINDS, kind, "kind")
        opts.full = choice(FULL, full, "full")
        opts.role = choice(ROLES, role, "role")
        opts.depth = <uint32_t>whole(depth, "depth", UINT32_MAX)
        opts.type = <uint32_t>whole(type, "type", UINT32_MAX)
        opts.bytes = size_of(bytes, "bytes")
        opts.max = size_of(max, "max")
        opts.spin.ns = moment(spin, "spin")
        opts.flush.ns = moment(flush, "flush")
        opts.linger.ns = moment(linger, "linger")
        opts.redeliver = <uint32_t>whole(redeliver, "redeliver", UINT32_MAX)
        opts.history = <uint32_t>whole(history, "history", UINT32_MAX)
        opts.dead = chars(letters)
        opts.pool = NULL if pool is None else pool.handle.get()
        if text is None:
            refuse(CUE_EINVAL, "no url")
        chosen = chars(text)
        with nogil:
            status = cue_channel_open(chosen, mode, &opts, &ch)
        check(status)
        self.ch = ch
        self.url = url
        self.receives = mode & (CUE_RECV | CUE_TAP) != 0
        self.sends = mode & CUE_SEND != 0
        self.forks = cue_py_forks
        self.handle = handle_again(cue_channel_pool(ch))

    def __dealloc__(self):
        if self.ch != NULL and self.forks == cue_py_forks:  # an inherited one is the parent's
            cue_channel_close(self.ch)

    # -- inside --

    cdef cue_channel *get(self) except NULL:
        if self.ch == NULL or self.closing:
            refuse(CUE_ECLOSED, f"channel {self.url} was closed here")
        return self.ch

    cdef cue_channel *receiver(self) except NULL:
        if not self.receives:
            refuse(CUE_EINVAL, f"channel {self.url} was opened to send: open(url, 'r') receives")
        return self.get()

    cdef cue_channel *sender(self) except NULL:
        if not self.sends:
            refuse(CUE_EINVAL, f"channel {self.url} was opened to receive: open(url, 'w') sends")
        return self.get()

    cdef void leave(self) noexcept:
        self.users -= 1
        if self.closing and self.users == 0:
            self.finish()

    cdef int finish(self) noexcept:
        cdef cue_channel *ch = self.ch
        cdef int status
        self.ch = NULL
        with nogil:
            status = cue_channel_close(ch)
        self.shown = None
        self.handle = None  # what was received holds it
        return status

    cdef int wait_send(self, const cue_msg *m, size_t n, int64_t ns) except? -1000000:
        """As cue_channel_send_many; between slices of the wait signal handlers run."""
        cdef Wait wait
        cdef int status
        self.sender()
        self.users += 1
        try:
            wait_start(&wait, ns)
            while True:
                with nogil:
                    status = cue_channel_send_many(self.ch, m, n, wait.slice)
                if status != CUE_EFULL and status != CUE_EINTR:
                    return status
                if not wait_more(&wait):
                    return CUE_EFULL
                self.get()
        finally:
            self.leave()

    cdef int wait_recv(self, cue_msg *m, size_t n, int64_t ns) except? -1000000:
        cdef Wait wait
        cdef int status
        self.receiver()
        self.users += 1
        try:
            wait_start(&wait, ns)
            while True:
                with nogil:
                    status = cue_channel_recv_many(self.ch, m, n, wait.slice)
                if status != CUE_EEMPTY and status != CUE_EINTR:
                    return status
                if not wait_more(&wait):
                    return CUE_EEMPTY
                self.get()
        finally:
            self.leave()

    # -- what it is --

    def __repr__(self):
        how = "closed" if self.closed else "opened to " + ("receive and send" if self.receives and self.sends
                                                           else "receive" if self.receives else "send")
        return f"<cuelight.Channel {self.url}, {how}{' by the parent process' if self.forks != cue_py_forks else ''}>"

    def __reduce__(self):
        raise TypeError(f"a Channel cannot be pickled: open {self.url!r} where it is needed")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return self.recv()
        except error_classes[CUE_ECLOSED]:
            raise StopIteration from None

    @property
    def closed(self):
        """bool: Whether this object was closed."""
        return self.ch == NULL or self.closing

    @property
    def pool(self):
        """Pool: Where its payloads lie: allocate here what it shall carry without a copy."""
        self.get()
        if self.shown is None or self.shown.closed:
            self.shown = Pool.__new__(Pool)
            self.shown.handle = handle_again(cue_channel_pool(self.ch))
        return self.shown

    def stats(self):
        """Counts of the lane, since it was made; of a socket: of this end.

        Returns
        -------
        dict
            ``kind`` (str), ``depth``, ``users``, ``sleeping``, ``receiver`` (pid, 0: none), ``queued``, ``peak``, ``sent``,
            ``received``, ``dropped``, ``refused`` (sends that ended with `Full`), ``wakes``: counts; ``bytes`` of payload
            received, and ``copied``, those of them that were copied on their way. Sockets: ``batches`` (packets), ``resent``,
            ``returned`` (blocks taken back from a connection and freed), ``stuck`` (those of this process that NNG could not
            take down: restart it when convenient). ``gaps``: messages that were sent and never came.
            ``shut``: 1 after `drain` or `discard` by a receiver. ``late``: answers that came when nobody waited any more. Queues: ``redelivered``, messages that were given out again, and
            ``dead``, those that were given out too often.
        """
        cdef cue_channel_info info
        memset(&info, 0, sizeof(info))
        check(cue_channel_stat(self.get(), &info))
        return {
            "kind": KIND_NAMES.get(info.kind), "depth": info.depth, "users": info.users, "sleeping": info.sleeping,
            "receiver": info.receiver, "shut": info.shut, "queued": info.queued, "peak": info.peak, "sent": info.sent,
            "received": info.received, "bytes": info.bytes, "copied": info.copied, "dropped": info.dropped,
            "refused": info.refused, "wakes": info.wakes, "batches": info.batches, "resent": info.resent,
            "returned": info.returned, "gaps": info.gaps, "late": info.late, "redelivered": info.redelivered, "dead": info.dead, "stuck": info.stuck,
        }

    # -- sending --

    def send(self, data=b"", *, type=0, block=None, tag=0, key=0, timeout=None):
        """Sends small bytes, which are copied, and at most one block, which is not.

        Parameters
        ----------
        data : buffer
        type : int
            The application's, below 0x7fff0000.
        block : Block or numpy.ndarray, optional
            Moves: what you hold is what they get, an owner or a view. An array must be a whole block of the channel's pool
            (`Pool.empty`, ``Block.array()``); it arrives with dtype and shape if it came from `Pool.empty`. Arrays of it
            become read-only here.
        tag, key : int
            Yours; they arrive with the message.
        timeout : float, optional
            Seconds to wait for room; None: for ever.

        Raises
        ------
        Full
            No room in the time given. Then, as after any failure, the block is still yours.
        NoMemory
            No room in the pool.
        TypeMismatch
            Not the lane's type, or a type of the library.
        TooBig
            Larger than the lane's ``max``.
        NotOwner
            The block is of another pool.
        Unreachable, Dead
            Sockets: nobody there.
        Closed
            Another thread has closed the channel.
        """
        cdef cue_msg m
        cdef Py_buffer buffer
        cdef Block moving = None
        cdef int64_t ns = wait_of(timeout)
        memset(&m, 0, sizeof(m))
        self.sender()
        m.type = <uint32_t>whole(type, "type", UINT32_MAX)
        m.tag = whole(tag, "tag", UINT64_MAX)
        m.key = whole(key, "key", UINT64_MAX)
        if block is not None:
            moving = whole_block(block)
        PyObject_GetBuffer(data, &buffer, PyBUF_CONTIG_RO)
        try:
            m.data = buffer.buf if buffer.len else NULL
            m.size = buffer.len
            check(self.send_now(&m, moving, ns))
        finally:
            PyBuffer_Release(&buffer)
        if moving is not None and not isinstance(block, Block):
            freeze(block)

    cdef int send_now(self, cue_msg *m, Block moving, int64_t ns) except? -1000000:
        """One message; at first without giving the GIL back, so that nobody can touch the block meanwhile."""
        cdef cue_time now
        cdef cue_block b
        cdef int status
        now.ns = 0
        if moving is not None:
            m.move = moving.get()
        status = cue_channel_send(self.ch, m, now)
        if status == 0:
            if moving is not None:
                moving.moved()
        elif (status == CUE_EFULL or status == CUE_ENOMEM or status == CUE_EINTR) and ns > 0:
            if moving is not None:
                moving.lend(&b)
                m.move = &b
            try:
                status = self.wait_send(m, 1, ns)
            finally:
                if moving is not None:
                    moving.settle(&b)
        return status

    def send_many(self, messages, *, type=0, timeout=None):
        """Sends messages in order with few wake-ups.

        Parameters
        ----------
        messages : iterable of buffer, Block or numpy.ndarray
            Blocks, and arrays that are blocks (`Pool.empty`), move; other buffers are copied.
        type : int
        timeout : float, optional
            Seconds to wait for room, for all together; None: for ever.

        Returns
        -------
        int
            How many went; fewer than were given if the time was over.

        Raises
        ------
        Full
            None went.
        TypeMismatch, TooBig, NotOwner, NoMemory, Closed
            As `send`, for the first message that did not go; if others went before, their number is returned and the next
            call raises.
        """
        cdef Wait total
        cdef int64_t ns = wait_of(timeout)
        cdef uint32_t kind = <uint32_t>whole(type, "type", UINT32_MAX)
        cdef list batch
        cdef int went, done = 0
        messages = list(messages)
        wait_start(&total, ns)
        for start in range(0, len(messages), BATCH):
            batch = messages[start:start + BATCH]
            while batch:
                went = self.send_batch(batch, kind, ns)
                if went <= 0:
                    return done or check(went)
                done += went
                batch = batch[went:]
                if ns != INT64_MAX:
                    ns = total.end - cue_now().ns
        return done

    cdef int send_batch(self, list batch, uint32_t type, int64_t ns) except? -1000000:
        """Up to BATCH messages: how many went, or the status."""
        cdef cue_msg m[BATCH]
        cdef cue_block b[BATCH]
        cdef Py_buffer buffers[BATCH]
        cdef Py_ssize_t i, nbuffers = 0, n = len(batch), lent = 0
        cdef list blocks = []
        cdef Block block
        cdef int status = 0
        memset(m, 0, sizeof(m))
        memset(b, 0, sizeof(b))
        try:
            for item in batch:
                if isinstance(item, Block) or lease_of(item) is not None:
                    blocks.append(whole_block(item))
                else:
                    blocks.append(None)
            for i in range(n):
                m[i].type = type
                block = blocks[i]
                if block is None:
                    PyObject_GetBuffer(batch[i], &buffers[nbuffers], PyBUF_CONTIG_RO)
                    nbuffers += 1
                    m[i].data = buffers[nbuffers - 1].buf if buffers[nbuffers - 1].len else NULL
                    m[i].size = buffers[nbuffers - 1].len
                else:
                    block.lend(&b[i])
                    m[i].move = &b[i]
                lent = i + 1
            status = self.wait_send(m, n, ns)
        finally:
            for i in range(lent):
                block = blocks[i]
                if block is not None:
                    block.settle(&b[i])
                    if not block.held and not isinstance(batch[i], Block):
                        freeze(batch[i])
            for i in range(nbuffers):
                PyBuffer_Release(&buffers[i])
        return status

    # -- receiving --

    def recv(self, timeout=None):
        """The oldest message.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait for one; None: for ever, 0: not.

        Returns
        -------
        Message

        Raises
        ------
        Empty
            None in the time given. Also a queue.Empty and a TimeoutError.
        Closed
            The channel was closed.
        Busy
            Another thread is receiving.
        Forked
            The channel is the parent process's.
        """
        cdef cue_msg m
        cdef cue_time now
        cdef int64_t ns = 0
        cdef int status
        cdef PoolHandle handle = self.handle  # another thread may close the channel while we wait
        now.ns = 0
        status = cue_channel_recv(self.receiver(), &m, now)
        if status == CUE_EEMPTY or status == CUE_EINTR:
            ns = wait_of(timeout)
            if ns > 0:
                status = self.wait_recv(&m, 1, ns)
            elif status == CUE_EINTR:
                PyErr_CheckSignals()
                status = cue_channel_recv(self.receiver(), &m, now)
        check(status)
        return new_message(&m, handle)

    def recv_many(self, n=BATCH, timeout=None):
        """Waits for one message and takes up to n that are there.

        Parameters
        ----------
        n : int
        timeout : float, optional
            Seconds to wait for the first; None: for ever, 0: not.

        Returns
        -------
        list of Message

        Raises
        ------
        Empty, Closed, Busy, Forked
            As `recv`.
        """
        cdef cue_msg m[BATCH]
        cdef int got, i
        cdef uint64_t most = whole(n, "n", UINT32_MAX)
        cdef int64_t ns = wait_of(timeout)
        if most == 0:
            return []
        cdef PoolHandle handle = self.handle
        messages = []
        while most:
            got = self.wait_recv(m, most if most < BATCH else BATCH, ns)
            if got <= 0:
                if messages:
                    break
                fail(got)
            for i in range(got):
                messages.append(new_message(&m[i], handle))
            most -= got
            ns = 0
            if got < BATCH:
                break
        return messages

    # -- asking --

    def ask(self, data=b"", *, type=0, block=None, tag=0, key=0, timeout=None):
        """Sends a question and waits for its answer (`Message.reply`). Any number of threads may at a time.

        Parameters
        ----------
        data, type, block, tag, key
            As for `send`.
        timeout : float, optional
            Seconds to wait, for room and for the answer; None: for ever.

        Returns
        -------
        Message
            The answer.

        Raises
        ------
        Timeout
            No answer in time. One that comes later is freed and counted, and never meets another question.
        Dead
            Who received the question is dead, or left, without an answer.
        Error
            With the answer's status, if that is negative. With ``CUE_EINTR`` if a signal handler ran: the answer will not
            come any more.
        Full, NoMemory, TypeMismatch, TooBig, NotOwner, NotSupported, Closed
            As `send`.
        """
        cdef cue_msg m, answer
        cdef cue_time wait
        cdef cue_block b
        cdef Py_buffer buffer
        cdef Block moving = None
        cdef int status
        cdef PoolHandle handle = self.handle
        wait.ns = wait_of(timeout)
        memset(&m, 0, sizeof(m))
        memset(&answer, 0, sizeof(answer))
        self.sender()
        m.type = <uint32_t>whole(type, "type", UINT32_MAX)
        m.tag = whole(tag, "tag", UINT64_MAX)
        m.key = whole(key, "key", UINT64_MAX)
        if block is not None:
            moving = whole_block(block)
        PyObject_GetBuffer(data, &buffer, PyBUF_CONTIG_RO)
        self.users += 1
        try:
            m.data = buffer.buf if buffer.len else NULL
            m.size = buffer.len
            if moving is not None:
                moving.lend(&b)
                m.move = &b
            try:
                with nogil:
                    status = cue_channel_ask(self.ch, &m, wait, &answer)
            finally:
                if moving is not None:
                    moving.settle(&b)
                    if not moving.held and not isinstance(block, Block):
                        freeze(block)
            if status == CUE_EINTR:
                PyErr_CheckSignals()
                self.get()
        finally:
            self.leave()
            PyBuffer_Release(&buffer)
        if status < 0:
            trail = b"" if silent(status) else <bytes>cue_trail()
            cue_msg_release(&answer)
            raise error(status, trail.decode("utf-8", "replace"))
        return new_message(&answer, handle)

    # -- waiting elsewhere --

    def fileno(self):
        """A descriptor for select, poll, epoll and event loops.

        Readable while messages wait; of a channel that only sends, while there may be room. It may be readable when there
        is nothing: call ``recv(0)`` until `Empty` (``send(timeout=0)`` until `Full`), then wait again. Do not read or close it.

        Returns
        -------
        int

        Raises
        ------
        NotSupported
            Channels of this kind have none.
        Limit, NoMemory
        """
        return check(cue_channel_fd(self.get()))

    async def arecv(self):
        """`recv` for asyncio: awaits the oldest message. Cancelled, it has taken none. Several tasks may await at a time.

        Returns
        -------
        Message

        Raises
        ------
        Closed, Busy, Forked
            As `recv`.
        """
        while True:
            try:
                return self.recv(0)
            except error_classes[CUE_EEMPTY]:
                pass
            await self.ready()

    async def asend(self, data=b"", *, type=0, block=None, tag=0, key=0):
        """`send` for asyncio: awaits room. A channel that is open to receive as well looks for room every few milliseconds.

        Parameters
        ----------
        data, type, block, tag, key
            As for `send`.

        Raises
        ------
        NoMemory, TypeMismatch, TooBig, NotOwner, Closed
            As `send`.
        """
        while True:
            try:
                return self.send(data, type=type, block=block, tag=tag, key=key, timeout=0)
            except error_classes[CUE_EFULL]:
                pass
            if self.receives:
                await asyncio_sleep(0.005)
            else:
                await self.ready()

    async def aask(self, data=b"", *, type=0, block=None, tag=0, key=0, timeout=None):
        """`ask` for asyncio, in a thread of the loop's executor. Cancelled, it lets the answer come too late.

        Parameters
        ----------
        data, type, block, tag, key, timeout
            As for `ask`.

        Returns
        -------
        Message

        Raises
        ------
        Timeout, Dead, Error, Full, NoMemory, TypeMismatch, TooBig, NotOwner, NotSupported, Closed
            As `ask`.
        """
        how = {"type": type, "block": block, "tag": tag, "key": key, "timeout": timeout}
        return await asyncio_to_thread(self.ask, data, how)

    def __aiter__(self):
        return self

    async def __anext__(self):
        try:
            return await self.arecv()
        except error_classes[CUE_ECLOSED]:
            raise StopAsyncIteration from None

    cdef object ready(self):
        """A future that is done when there may be something; the loop's one reader of this channel sets all of them."""
        if self.awaiting is None or not self.awaiting.of_this_loop():
            self.awaiting = awaiting_class()(self.fileno())
        return self.awaiting.future()

    # -- the end --

    def drain(self, timeout=0):
        """A receiver: nothing more goes into the lane, what is in it comes out. A sender: waits until what it sent was taken.

        A receiver's lane refuses all its senders with `Closed`, until somebody opens it to receive again; `recv` gives out what is there
        and then raises `Closed`, so a loop over the channel ends. Of a topic it is this subscription that ends. A sender's end stays as
        it is.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait until everything was taken, by other threads or processes; None: for ever, 0: not.

        Returns
        -------
        bool
            Whether everything was.

        Raises
        ------
        NotSupported
            A receiver's socket: close gives what was not handed out back to its senders.
        Closed
            Another thread has closed the channel.
        """
        cdef Wait wait
        cdef int status
        cdef int64_t ns = wait_of(timeout)
        self.get()
        self.users += 1
        try:
            wait_start(&wait, ns)
            while True:
                with nogil:
                    status = cue_channel_shut(self.ch, CUE_DRAIN, wait.slice)
                if status != CUE_ETIMEDOUT and status != CUE_EINTR:
                    return check(status) == 0
                if not wait_more(&wait):
                    return False
                self.get()
        finally:
            self.leave()

    def discard(self):
        """A receiver: nothing more goes into the lane, as after `drain`, and what is in it is freed, or goes to the lane ``dead`` of its queue.

        Returns
        -------
        int
            How many messages; ``stats()["dropped"]``, or ``["dead"]``, counts them.

        Raises
        ------
        NotAllowed
            A sender: what was sent is its receiver's. (A sender's socket: `close` will not linger.)
        NotSupported
            A receiver's socket.
        Closed
            Another thread has closed the channel.
        """
        cdef int status
        cdef cue_time now
        now.ns = 0
        self.get()
        self.users += 1
        try:
            with nogil:
                status = cue_channel_shut(self.ch, CUE_DISCARD, now)
            return check(status)
        finally:
            self.leave()

    def wake(self):
        """This process's present wait on the channel looks around, or else its next one: it goes on unless it is closed."""
        cue_channel_wake(self.get())

    def close(self, how="keep", timeout=None):
        """Gives this end back. Threads that wait on it raise `Closed`. A second time does nothing.

        An shm lane stays while it holds messages or others have it open. Received messages stay valid.

        Parameters
        ----------
        how : {"keep", "drain", "discard"}
            What was sent and not received stays for the next receiver; or `drain` or `discard` comes first. (A receiver that
            takes the rest itself: ``drain()``, receive until `Closed`, ``close()``.)
        timeout : float, optional
            Of ``drain``; None: for ever. It closes in any case.

        Raises
        ------
        Timeout
            Not everything was taken in time. Sockets: not all was sent within ``linger``.
        NotAllowed, NotSupported
            As `drain` and `discard`; it is closed then, too.
        """
        cdef unsigned end = choice(ENDS, how, "how")
        drained = True
        if self.ch == NULL or self.closing:
            return
        try:
            if end == CUE_DRAIN:
                drained = self.drain(timeout)
            elif end == CUE_DISCARD:
                self.discard()
        finally:
            self.let_go()
        if not drained:
            fail(CUE_ETIMEDOUT)

    cdef int let_go(self) except -1:
        if self.ch == NULL or self.closing:
            return 0
        self.closing = True
        if self.awaiting is not None:
            self.awaiting.end()
        if self.users:
            cue_channel_wake(self.ch)  # the last of them finishes it
            return 0
        return check(self.finish())


cdef int freeze(object array) except -1:
    """An array that was sent is not ours to write any more."""
    if np is not None and isinstance(array, np_ndarray):
        make_read_only(array)
    return 0


cdef Block whole_block(object what):
    """The block that a Block or an array of all its bytes stands for. An array's own dtype and shape are noted in it."""
    cdef Block block
    cdef Py_buffer buffer
    if isinstance(what, Block):
        return what
    block = block_of(what)
    cdef cue_block *b = block.get()
    try:
        PyObject_GetBuffer(what, &buffer, PyBUF_ANY_CONTIGUOUS)
    except (BufferError, ValueError):
        raise error(CUE_EINVAL, "the array is not contiguous: only a whole block can be sent") from None
    cdef bint part = buffer.buf != b.data or <size_t>buffer.len != b.size
    PyBuffer_Release(&buffer)
    if part:
        refuse(CUE_EINVAL, "the array is a part of its block: only a whole block can be sent")
    if np is not None and isinstance(what, np_ndarray) and block.owns():
        tag_write(b, dtype_text(what.dtype), what.shape, what.flags.f_contiguous and not what.flags.c_contiguous)
    return block


def open(url, how, **options):
    """Opens the lane behind a URL.

    Parameters
    ----------
    url : str
        ``shm://POOL/NAME`` (pool and lane are made by whoever comes first), ``ipc://PATH``, ``tcp://HOST:PORT``; options may
        follow a ``?`` and win over those given here.
    how : {"r", "w", "rw", "tap"}
        To receive, to send, or both; ``"tap"``: to look on. Then it receives copies of what is sent into a lane of ``shm://`` from now
        on, of its first ``max`` bytes (4 KiB), which holds nobody up: what is not taken in time is dropped and counted in
        `Message.gap`. `Message.tapped` says what a copy is of.
    kind : {"mailbox", "queue", "stream", "topic"}, optional
        What the lane is, by default what it is already.
    full : {"fail", "drop-new", "drop-old"}, optional
        What a send does when its time is over.
    depth : int
        Messages that may wait; 0: 1024.
    bytes : int or str
        Payload that may wait; 0: a quarter of the pool.
    max : int or str
        The largest message.
    type : int
        Only messages of this type may pass; 0: any.
    role : {"listen", "dial"}, optional
        Sockets: by default receivers listen.
    spin, flush, linger : float, optional
        Seconds: how long a receiver spins before it sleeps, how long a socket gathers a batch, how long close waits for a
        socket to send. None: the library's default; 0: not at all.
    redeliver : int
        Queues: so often a message goes to another receiver when one dies before it has released it.
    dead : str, optional
        Queues: the lane of the same pool where what nobody survived goes; by default it is freed.
    history : int
        Topics: the last messages that are kept for subscribers that come late.
    pool : Pool, optional
        ``shm:///NAME``: the pool. Sockets: where payloads lie.

    Returns
    -------
    Channel

    Raises
    ------
    Invalid
        The URL or an option makes no sense.
    NotSupported
        A kind or scheme that is not built in.
    TypeMismatch
        The lane is of another kind.
    Busy
        Somebody who lives receives from it.
    Exists
        The name belongs to a block.
    NotFound
        ``"tap"``: there is no such pool or lane.
    Unreachable, NotAllowed, NoMemory, Limit
    """
    return Channel(url, how, **options)


cdef enum:
    ANY_MAX = 128


def recv_any(channels, timeout=None):
    """The first message that is in any of up to 128 channels. They are served in turn.

    Parameters
    ----------
    channels : sequence of Channel
        No other thread may receive from one of them meanwhile.
    timeout : float, optional
        Seconds to wait for one; None: for ever, 0: not.

    Returns
    -------
    Channel
        The one that it came through.
    Message

    Raises
    ------
    Empty
        None in the time given.
    Busy
        Another thread is receiving, or a channel is there twice.
    Invalid
        No channels, more than 128, or one that does not receive.
    Closed, Forked
    """
    cdef cue_channel *chs[ANY_MAX]
    cdef Wait wait
    cdef cue_msg m
    cdef Channel channel
    cdef int status = 0
    cdef size_t n, i, entered = 0
    channels = list(channels)
    n = len(channels)
    if n == 0 or n > ANY_MAX:
        refuse(CUE_EINVAL, f"{n} channels: 1 to {ANY_MAX}")
    try:
        for i in range(n):
            channel = channels[i]
            chs[i] = channel.get()
            channel.users += 1
            entered += 1
        wait_start(&wait, wait_of(timeout))
        while True:
            with nogil:
                status = cue_channel_recv_any(chs, n, &m, wait.slice)
            if status != CUE_EEMPTY and status != CUE_EINTR:
                break
            if not wait_more(&wait):
                status = CUE_EEMPTY
                break
            for i in range(n):
                (<Channel>channels[i]).get()
        check(status)
        channel = channels[status]
        return channel, new_message(&m, channel.handle)
    finally:
        for i in range(entered):
            (<Channel>channels[i]).leave()
