"""A shared memory allocator, under `mpmetrics.heap`'s names.

A heap is one memfd: it has no name, takes one descriptor a process, and goes with the last process that has it. Allocation only
ever goes forward, by one atomic step, so whoever is killed at it leaves the heap usable to the others.

A heap travels in a pickle: to a new process of multiprocessing with it, else as the number of a process that has it. The reader
opens that process's descriptor through /proc, so that process must live until then, and be of the same user and PID namespace.
"""

from __future__ import annotations

import mmap
import os
import threading
import weakref
from multiprocessing import context as _context
from multiprocessing import reduction as _reduction
from typing import TYPE_CHECKING, Any

from ._heap import Arena
from ._heap import Block as _Block
from ._heap import heap_in_use as _heap_in_use
from ._heap import set_block_type as _set_block_type
from .primitives import Lock
from .types import Size_t, Struct

__all__ = ["CACHELINESIZE", "PAGESIZE", "Heap"]

PAGESIZE = 4096
_LINE = "SC_LEVEL1_DCACHE_LINESIZE"
CACHELINESIZE = (os.sysconf(_LINE) if _LINE in os.sysconf_names else 0) or 64
if CACHELINESIZE < 0 or CACHELINESIZE & (CACHELINESIZE - 1):
    CACHELINESIZE = 64

_heaps: weakref.WeakValueDictionary[bytes, Heap] = weakref.WeakValueDictionary()
_opening = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_opening=threading.Lock()))


class Heap(Arena, Struct):
    """A shared memory allocator.

    Parameters
    ----------
    map_size : int
        Granularity of requests to the system, bytes: a power of two and a multiple of `mmap.ALLOCATIONGRANULARITY`.

    Attributes
    ----------
    map_size : int
        As given. A block crosses no multiple of it unless it is larger.

    Raises
    ------
    ValueError
        No such `map_size`.
    OSError, MemoryError
        No descriptor, or no memory.

    Notes
    -----
    There are no free lists, so `Heap.Block.free` does nothing: memory goes with the heap.
    """

    _fields_ = {"_shared_lock": Lock, "_base": Size_t}  # noqa: RUF012

    class Block(_Block):
        __doc__ = _Block.__doc__
        __slots__ = ()

        def __init__(self, heap: Heap, start: int, size: int) -> None:
            super().__init__(heap, start, size)

    if TYPE_CHECKING:

        def malloc(self, size: int, alignment: int | None = None) -> Heap.Block: ...

    def __init__(self, map_size: int = PAGESIZE) -> None:
        if map_size <= 0 or map_size % mmap.ALLOCATIONGRANULARITY:
            raise ValueError(f"{map_size} is not a multiple of {mmap.ALLOCATIONGRANULARITY}")
        if map_size & (map_size - 1):
            raise ValueError(f"{map_size} is not a power of 2")
        uid = os.urandom(16)
        self._create(map_size, CACHELINESIZE, uid)
        Struct.__init__(self, self._header_view())
        self._start_at_first()
        self._others: set[Heap] = set()
        _heaps[uid] = self

    def __reduce__(self) -> tuple[Any, ...]:
        using = _heap_in_use()
        if using is self:
            return _heap_in_use, ()
        if using is not None:
            using._others.add(self)  # what is stored in a container must live on somewhere
        travelling = _reduction.DupFd(self.fileno()) if _context.get_spawning_popen() is not None else None
        return _open, (self.map_size, self._uid, os.getpid(), self.fileno(), travelling)

    def __copy__(self) -> Heap:
        return self

    def __deepcopy__(self, memo: Any) -> Heap:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__}: {self._base.value} bytes, map_size {self.map_size}>"


_set_block_type(Heap.Block)


def _open(map_size: int, uid: bytes, pid: int, number: int, travelling: Any) -> Heap:
    """The heap of a pickle: the one this process has, or a new view of it."""
    fd = travelling.detach() if travelling is not None else None
    try:
        with _opening:
            heap = _heaps.get(uid)
            if heap is None:
                if fd is None:
                    fd = _descriptor(pid, number)
                os.set_inheritable(fd, False)
                heap = Heap.__new__(Heap)
                heap._attach(fd, map_size, CACHELINESIZE, uid)
                fd = None
                Struct._setstate(heap, heap._header_view())
                heap._others = set()
                _heaps[uid] = heap
            return heap
    except ValueError as error:
        raise OSError(f"the heap of process {pid} is gone: {error}") from error
    finally:
        if fd is not None:
            os.close(fd)


def _descriptor(pid: int, number: int) -> int:
    try:
        return os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        reason = f"the heap of process {pid} cannot be opened: has it ended, or is it another user's?"
        raise type(error)(error.errno, f"{reason} ({error.strerror})") from error
