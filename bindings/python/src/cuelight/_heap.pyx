# cython: language_level=3, binding=False, boundscheck=False, wraparound=False, freethreading_compatible=False
"""Memory that processes share, handed out piece by piece, and how containers lie in it: the core of cuelight.heap and cuelight.types.

One memfd is a heap: nothing in /dev/shm, nothing left after a crash. Its first 64 bytes are the header of heap_layout.h. An
allocation is one compare-and-swap of `base`, after the file has been made long enough (fallocate, so memory that is promised
exists), so a process may be killed at any instruction and the others go on. A process maps more of the file than there is and
maps anew, twice as much, when it must; older mappings live as long as what points into them.
"""
import threading

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.memoryview cimport PyMemoryView_FromObject
from cpython.number cimport PyNumber_Index
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.errno cimport EINTR, ENOMEM, ENOSPC, errno
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset, strerror

cimport cython

cdef extern from "heap_layout.h" nogil:
    struct heap_header:
        uint64_t base
        unsigned char uid[16]
    struct space_header:
        uint64_t magic
        uint64_t size
        uint64_t other
        uint64_t other_size
        uint64_t counts
        uint64_t top
        uint64_t intent
        uint64_t slots
        uint64_t entries
        uint64_t filled
        uint64_t strange
    struct dict_entry:
        uint64_t hash
        uint64_t key
        uint64_t value
    enum:
        HEAP_FIRST
    const uint64_t SPACE_DICT
    const uint64_t SPACE_LIST
    uint64_t load(uint64_t *word)
    void store(uint64_t *word, uint64_t value)
    bint swap(uint64_t *word, uint64_t *expected, uint64_t desired)
    int heap_make(uint64_t bytes)
    int heap_grow(int fd, uint64_t before, uint64_t after)
    int64_t heap_length(int fd)
    void *heap_map(int fd, uint64_t bytes)
    void heap_unmap(void *base, uint64_t bytes)
    void *object_map(const char *path, bint write, int64_t *bytes)
    uint64_t mix(uint64_t value)
    uint64_t mix_bytes(const char *bytes, size_t size, uint64_t seed)

cdef extern from "Python.h":
    ctypedef Py_hash_t (*hashfunc)(object)
    ctypedef struct PyTypeObject:
        hashfunc tp_hash
        void *tp_richcompare
    PyTypeObject *Py_TYPE(object)
    PyTypeObject PyLong_Type, PyFloat_Type, PyComplex_Type, PyUnicode_Type, PyBytes_Type, PyTuple_Type, PyFrozenSet_Type, PyBaseObject_Type
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1
    int Py_EQ
    bint PyObject_RichCompareBool(object a, object b, int op) except -1


# ---- the mapping ----

@cython.final
cdef class Region:
    """A mapping of a heap's file from its beginning; it goes with the last that points into it."""
    cdef char *base
    cdef uint64_t length

    def __dealloc__(self):
        if self.base != NULL:
            heap_unmap(self.base, self.length)


cdef Region map_region(int fd, uint64_t least, uint64_t wanted):
    cdef Region region = Region.__new__(Region)
    region.base = <char *>heap_map(fd, wanted)
    region.length = wanted
    if region.base == NULL and wanted > least: # no room for so much address space
        region.base = <char *>heap_map(fd, least)
        region.length = least
    if region.base == NULL:
        PyErr_SetFromErrno(OSError)
    return region


@cython.final
cdef class Span:
    """Some bytes of a mapping, as an exporter of a buffer."""
    cdef Region region
    cdef char *at
    cdef Py_ssize_t size
    cdef bint readonly

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.readonly and flags & PyBUF_WRITABLE:
            raise BufferError("the memory is mapped read-only")
        export(view, self.region, self.at, self.size, flags)
        view.readonly = self.readonly


def map_object(str path, bint write):
    """All of a file of shared memory as a memoryview, which keeps the mapping; no descriptor stays open.

    OSError as `open` raises it; ValueError if it is empty or no file.
    """
    cdef bytes name = path.encode("utf-8", "surrogateescape")
    cdef Span span = Span.__new__(Span)
    cdef int64_t length = 0
    span.region = Region.__new__(Region)
    span.region.base = <char *>object_map(PyBytes_AS_STRING(name), write, &length)
    if span.region.base == NULL:
        if length <= 0 and errno == 0:
            raise ValueError(f"shared memory {path!r} is empty, or no file")
        raise OSError(errno, strerror(errno).decode(), path)
    span.region.length = length
    span.at, span.size, span.readonly = span.region.base, length, not write
    return PyMemoryView_FromObject(span)


cdef char *BYTES = b"B"


cdef int export(Py_buffer *view, Region region, char *at, Py_ssize_t size, int flags) except -1:
    # the view keeps the mapping and nothing else: neither block nor heap
    view.obj = region
    view.buf = at
    view.len = size
    view.itemsize = 1
    view.readonly = 0
    view.ndim = 1
    view.format = BYTES if flags & PyBUF_FORMAT else NULL
    view.shape = &view.len if flags & PyBUF_ND else NULL
    view.strides = &view.itemsize if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
    view.suboffsets = NULL
    view.internal = NULL
    return 0


cdef uint64_t FIRST_MAPPING = 1 << 26 # address space, not memory
cdef uint64_t MOST = 1 << 46          # bytes of a heap
cdef object block_type = None
cdef object context = threading.local() # .heap: whose container a value is being put into, or got from


def set_block_type(cls):
    global block_type
    block_type = cls


def heap_in_use():
    """The heap of the container that this thread is putting something into, or getting it from."""
    return getattr(context, "heap", None)


cdef int refuse_value(str text) except -1:
    raise ValueError(text)


cdef inline bint power_of_two(uint64_t n) noexcept:
    return n != 0 and n & (n - 1) == 0


cdef class Arena:
    """The file of a heap, and this process's mapping of it."""
    cdef readonly Py_ssize_t map_size
    cdef readonly Py_ssize_t cache_line
    cdef int fd
    cdef uint64_t reserved # length of the file, as far as known here
    cdef Region region     # the newest, longest mapping
    cdef Region first      # holds the header
    cdef object __weakref__

    def __cinit__(self):
        self.fd = -1
        self.cache_line = 64

    def __dealloc__(self):
        if self.fd >= 0:
            close_fd(self.fd)

    cdef heap_header *header(self) except NULL:
        if self.first is None:
            raise ValueError("this heap was not made: Heap.__init__ has not run")
        return <heap_header *>(self.first.base + 40)

    def _create(self, Py_ssize_t map_size, Py_ssize_t cache_line, bytes uid):
        self.fd = heap_make(map_size)
        if self.fd < 0:
            PyErr_SetFromErrno(OSError)
        self._adopt(map_size, cache_line)
        memcpy(self.header().uid, PyBytes_AS_STRING(uid), 16)

    def _attach(self, int fd, Py_ssize_t map_size, Py_ssize_t cache_line, bytes uid):
        """Takes `fd` over, or raises ValueError if there is another heap behind it; then the caller still has it."""
        if heap_length(fd) < map_size:
            refuse_value("no heap behind this descriptor")
        self.fd = fd
        try:
            self._adopt(map_size, cache_line)
            if memcmp(self.header().uid, PyBytes_AS_STRING(uid), 16) != 0:
                refuse_value("another heap behind this descriptor")
        except BaseException:
            self.fd = -1
            raise

    cdef int _adopt(self, Py_ssize_t map_size, Py_ssize_t cache_line) except -1:
        self.map_size = map_size
        self.cache_line = cache_line
        self.reserved = <uint64_t>heap_length(self.fd)
        self.first = self.region = map_region(self.fd, self.reserved, max(self.reserved, FIRST_MAPPING))
        return 0

    def _start_at_first(self):
        store(&self.header().base, HEAP_FIRST)

    @property
    def _uid(self):
        return PyBytes_FromStringAndSize(<char *>self.header().uid, 16)

    def fileno(self):
        """The descriptor of the heap's memory."""
        return self.fd

    def _header_view(self):
        cdef Span span = Span.__new__(Span)
        span.region, span.at, span.size = self.first, self.first.base, 48
        return PyMemoryView_FromObject(span)

    cdef int reserve(self, uint64_t end) except -1:
        """Makes the file at least `end` bytes long; its memory exists then."""
        cdef int64_t length = heap_length(self.fd)
        cdef uint64_t before, target
        cdef int done
        if length > 0:
            self.reserved = max(self.reserved, <uint64_t>length)
        if end <= self.reserved:
            return 0
        if end > MOST:
            raise MemoryError(f"a heap of {end} bytes is more than there can be")
        before = self.reserved # other threads change it meanwhile
        target = before + min(max(before, 1 << 16), 1 << 20)
        target = align_to(max(end, target), max(self.map_size, 4096))
        while True:
            with nogil:
                done = heap_grow(self.fd, before, target)
            if done == 0:
                break
            if errno == EINTR:
                PyErr_CheckSignals()
            elif target > align_to(end, 4096):
                target = align_to(end, 4096)
            elif errno == ENOMEM or errno == ENOSPC:
                raise MemoryError(f"no memory for {end - before} more bytes of a heap")
            else:
                PyErr_SetFromErrno(OSError)
        self.reserved = max(self.reserved, target)
        return 0

    cdef Region mapped(self, uint64_t start, uint64_t size):
        """A mapping that shows these bytes; ValueError if they are not there."""
        cdef uint64_t end = start + size
        if end < start or end > self.reserved:
            self.reserved = <uint64_t>max(heap_length(self.fd), 0)
            if end < start or end > self.reserved:
                raise ValueError(f"bytes {start} to {end} are beyond the heap's {self.reserved}")
        if end > self.region.length:
            self.region = map_region(self.fd, align_to(end, 4096), align_to(max(end, 2 * self.region.length), 4096))
        return self.region

    cdef uint64_t take(self, uint64_t *size, uint64_t alignment) except 0:
        """Offset of `size` fresh bytes; the size is rounded up where a block has pages of its own."""
        cdef uint64_t page = self.map_size
        cdef uint64_t *base = &self.header().base
        cdef uint64_t before = load(base), start
        if size[0] > page:
            size[0] = align_to(size[0], page)
        while True:
            if size[0] > page:
                start = align_to(align_to(before, page), alignment)
            else:
                start = align_to(before, alignment)
                if start & (page - 1) and (start & (page - 1)) + size[0] >= page: # a page's last byte stays free, as ever here
                    start = align_to((start & ~(page - 1)) + page, alignment)
            if start + size[0] > self.reserved:
                self.reserve(start + size[0])
            if swap(base, &before, start + size[0]):
                return start

    def malloc(self, size, alignment=None):
        """Allocate shared memory.

        Parameters
        ----------
        size : int
            Bytes, at least 1. More than `map_size` is rounded up to a multiple of it.
        alignment : int
            A power of two, the size of a cache line without.

        Returns
        -------
        Heap.Block
            Fresh zeros.

        Raises
        ------
        ValueError
            A size below 1, or an alignment that is no power of two.
        MemoryError
            There is no more memory.
        """
        cdef Block block
        cdef object wanted = PyNumber_Index(size)
        cdef object aligned = self.cache_line if alignment is None else PyNumber_Index(alignment)
        if wanted <= 0:
            raise ValueError(f"size must be strictly positive, not {wanted}")
        if aligned <= 0 or aligned & (aligned - 1):
            raise ValueError(f"alignment {aligned} is not a power of 2")
        if wanted > MOST or aligned > MOST:
            raise MemoryError(f"no memory for a block of {wanted} bytes at a multiple of {aligned}")
        cdef uint64_t bytes_ = wanted
        cdef uint64_t start = self.take(&bytes_, aligned)
        block = block_type.__new__(block_type)
        block.heap, block.start, block.size = self, start, bytes_
        return block


cdef extern from "unistd.h":
    int close_fd "close"(int fd)


cdef inline uint64_t align_to(uint64_t x, uint64_t a) noexcept:
    return (x + a - 1) & ~(a - 1)


cdef class Block:
    """A block of memory allocated from a heap.

    Parameters
    ----------
    heap : Heap
        The heap this block is from.
    start : int
        Its offset in the heap, bytes.
    size : int
        Its bytes.
    """
    cdef readonly object heap
    cdef readonly object start
    cdef readonly object size
    cdef Region region # once dereferenced

    def __init__(self, heap, start, size):
        self.heap, self.start, self.size = heap, start, size

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.region is None:
            if not isinstance(self.heap, Arena):
                raise TypeError(f"the heap of a block is a Heap, not {type(self.heap).__name__}")
            self.region = (<Arena>self.heap).mapped(self.start, self.size)
        export(view, self.region, self.region.base + <uint64_t>self.start, self.size, flags)

    def deref(self):
        """The memory referenced by this block: a writable memoryview of `size` bytes. It keeps the memory, whatever else goes."""
        return PyMemoryView_FromObject(self)

    def free(self):
        """Free this block: does nothing, a heap takes nothing back."""

    def __reduce__(self):
        return type(self), (self.heap, self.start, self.size)

    def __repr__(self):
        return f"{type(self).__qualname__}({self.heap!r}, {self.start}, {self.size})"


include "_store.pxi"
