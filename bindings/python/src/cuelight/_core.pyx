# cython: language_level=3, binding=True, embedsignature=False, freethreading_compatible=False
"""The C part of the package: it converts, it owns lifetimes, it releases the GIL. Logic lives in the C library.

Three ideas carry it.

* A ``Block`` holds a handle of the C library: an owner or a view.
* Whatever lets somebody look at a block's bytes (an array, a memoryview, any buffer) holds a ``Lease``: a claim of its own
  on the block, which ends with the last such view. So a Block may be released, freed, sent, and its pool closed or
  destroyed, while arrays of it live on: nothing raises BufferError, nothing points to memory that is gone.
* A wait gives the GIL back and is cut into slices of 50 ms, between which signal handlers run: Ctrl-C works everywhere.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS, PyBUF_CONTIG_RO, PyBUF_FORMAT, PyBUF_FULL_RO, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE,
    PyBuffer_Release, PyBuffer_ToContiguous, PyObject_CheckBuffer, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.weakref cimport PyWeakref_NewRef
from libc.stdint cimport INT64_MAX, UINT32_MAX, UINT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memset, strcmp

from posix.unistd cimport getpid

from cuelight._c cimport *

cdef extern from *:
    """
    #include <pthread.h>
    /* Grows in each forked child: what a handle was in the parent, it no longer is here. */
    static unsigned cue_py_forks;
    static void cue_py_forked(void) { cue_py_forks++; }
    static int cue_py_watch_forks(void) { return pthread_atfork(0, 0, cue_py_forked); }
    """
    const unsigned cue_py_forks
    int cue_py_watch_forks()

import os
import sys

cue_py_watch_forks()

# ---- statuses ----

STATUS = tuple([
    (cue_py_statuses[i].code, cue_py_statuses[i].name.decode(), cue_py_statuses[i].text.decode())
    for i in range(CUE_PY_STATUS_COUNT)
])

cdef object Error = RuntimeError
cdef dict error_classes = {}


def set_errors(base, dict classes):
    """Called once by cuelight.errors: the exception for each code."""
    global Error, error_classes
    Error, error_classes = base, classes


def status_name(int status):
    """The C name of a status: ``"CUE_ENOMEM"``."""
    return cue_status_name(status).decode()


def status_text(int status):
    """What a status means."""
    return cue_status_text(status).decode()


cdef object error(int status, str trail):
    cls = error_classes.get(status)
    return Error(status, trail) if cls is None else cls(status, trail)


cdef int fail(int status) except -1:
    """Raises the exception for a status of the call that this thread just made."""
    cdef bytes trail = b"" if silent(status) else <bytes>cue_trail()
    raise error(status, trail.decode("utf-8", "replace"))


cdef bint silent(int status) noexcept:
    # These leave no trail in C; what stands there is of an earlier call.
    return (status == CUE_EEMPTY or status == CUE_EFULL or status == CUE_ENOENT or status == CUE_EEXIST
            or status == CUE_ETIMEDOUT or status == CUE_EINTR)


cdef int check(int status) except -1:
    if status < 0:
        fail(status)
    return status


cdef int refuse(int status, str trail) except -1:
    raise error(status, trail)


# ---- arguments ----

cdef uint64_t whole(object value, str what, uint64_t most) except? 7:
    """A whole number of 0 … most."""
    cdef int overflow = 0
    cdef long long small
    if type(value) is not int:
        value = PyNumber_Index(value)
    small = PyLong_AsLongLongAndOverflow(value, &overflow)
    if not overflow and 0 <= small and <uint64_t>small <= most:
        return <uint64_t>small
    if value < 0:
        refuse(CUE_EINVAL, f"{what} is {value}")
    if value > most:
        refuse(CUE_ETOOBIG if most == UINT64_MAX else CUE_EINVAL, f"{what} is {value}, more than {most}")
    return value


cdef dict SUFFIX = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


cdef uint64_t size_of(object size, str what) except? 7:
    """Bytes: a number, or "64k", "1GiB", "1.5 GB" (k, M, G and T are powers of 1024 here, as in URLs)."""
    if not isinstance(size, str):
        return whole(size, what, UINT64_MAX)
    text = size.strip().lower().removesuffix("b").removesuffix("i")
    unit = text[-1:] if text[-1:] in SUFFIX else ""
    try:
        number = float(text.removesuffix(unit)) * SUFFIX[unit]
        if not 0 <= number < 1 << 63:
            raise ValueError
    except ValueError:
        refuse(CUE_EINVAL, f"{what} is {size!r}; a size looks like 65536, '64k' or '1GiB'")
    return int(number)


cdef bytes name_of(object name, str what):
    """A name as C reads it, None as it is."""
    if name is None:
        return None
    if not isinstance(name, str):
        raise error(CUE_ETYPE, f"{what} is {name!r}, not a str")
    if "\0" in name:
        refuse(CUE_EINVAL, f"{what} {name!r} holds a NUL")
    return name.encode()


cdef inline const char *chars(bytes text) noexcept:
    return NULL if text is None else PyBytes_AS_STRING(text)


# ---- waiting ----

cdef int64_t SLICE = 50_000_000  # between two looks at signals, ns


cdef int64_t wait_of(object timeout) except? -1:
    """Nanoseconds of a time-out in seconds: INT64_MAX for None, 0 for what is over already."""
    cdef double seconds
    if timeout is None:
        return INT64_MAX
    seconds = timeout
    if seconds != seconds:
        refuse(CUE_EINVAL, "timeout is not a number")
    if seconds <= 0:
        return 0
    return INT64_MAX if seconds >= 9e9 else <int64_t>(seconds * 1e9)


cdef struct Wait:
    int64_t end    # on the monotonic clock, INT64_MAX: never
    cue_time slice # of the next call


cdef inline void wait_start(Wait *w, int64_t ns) noexcept:
    cdef int64_t now = cue_now().ns
    w.end = INT64_MAX if ns > INT64_MAX - now else now + ns
    w.slice.ns = ns if ns < SLICE else SLICE


cdef int wait_more(Wait *w) except -1:
    """Lets signal handlers run; 0 when the time is over, else 1 with the next slice."""
    PyErr_CheckSignals()
    cdef int64_t left = INT64_MAX if w.end == INT64_MAX else w.end - cue_now().ns
    if left <= 0:
        return 0
    w.slice.ns = left if left < SLICE else SLICE
    return 1


@cython.final
cdef class Tally:
    """What this process knows of a pool, however often it has opened it."""
    cdef uint64_t copied    # payload bytes copied for callers by this package; the C library counts its own
    cdef uint64_t payloads  # live Payload objects
    cdef cue_block anchor   # keeps the mapping for them when the pool is destroyed


cdef dict tallies = {}  # uid -> Tally

include "_numpy.pxi"
include "_pool_handle.pxi"
include "_block.pxi"
include "_pool.pxi"
include "_channel.pxi"
include "_managed.pxi"
