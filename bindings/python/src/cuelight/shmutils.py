"""Shared memory arrays under `gridr.scaling.shmutils`' names.

Change ``from gridr.scaling.shmutils import ...`` to ``from cuelight.shmutils import ...``. Segments are the same (raw data without
a header, `/dev/shm/NAME`), so programs with either module exchange them. Better than the original: a view that is kept after
`close` stays valid; nothing is unlinked behind your back by the resource tracker; a full /dev/shm raises `OSError` when the array
is made; when one of several arguments cannot be loaded, or one of several buffers is already gone, the others are still closed
and cleared.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import sys
import uuid
import warnings
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from ._segment import Segment, unlink

__all__ = ["SharedMemoryArray", "create_and_register_sma", "deprecated", "shmarray_wrap"]

T = TypeVar("T", bound=Callable[..., Any])

if sys.version_info >= (3, 13):
    from warnings import deprecated
else:

    def _wrapped(wrapper: Any, what: Any, message: str) -> Any:
        what.__deprecated__ = wrapper.__deprecated__ = message
        return wrapper

    class deprecated:
        """Mark a callable or a class as deprecated, as `warnings.deprecated` of Python 3.13 does (PEP 702).

        Parameters
        ----------
        message : str
            What the warning says.
        category : type of Warning or None, default DeprecationWarning
            None: no warning at run time, only the mark `__deprecated__`.
        stacklevel : int, default 1
            1: the warning points at the caller.
        """

        def __init__(self, message: str, *, category: type[Warning] | None = DeprecationWarning, stacklevel: int = 1) -> None:
            if not isinstance(message, str):
                raise TypeError(f"Expected an object of type str for 'message', not {type(message).__name__!r}")
            self.message, self.category, self.stacklevel = message, category, stacklevel

        def _warn(self) -> None:
            warnings.warn(self.message, category=self.category, stacklevel=self.stacklevel + 2)

        def __call__(self, what: Any, /) -> Any:
            if not callable(what):
                raise TypeError(f"@deprecated must be applied to a class or callable, not {what!r}")
            if self.category is None:
                what.__deprecated__ = self.message
                return what
            if isinstance(what, type):
                return self._mark_class(what)

            @functools.wraps(what)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                self._warn()
                return what(*args, **kwargs)

            if not inspect.iscoroutinefunction(what):
                return _wrapped(wrapper, what, self.message)
            return _wrapped(_coroutine(what, self), what, self.message)

        def _mark_class(self, what: Any) -> Any:
            plain = what.__init__

            @functools.wraps(plain)
            def __init__(instance: Any, *args: Any, **kwargs: Any) -> None:
                self._warn()
                plain(instance, *args, **kwargs)

            what.__init__ = __init__
            what.__deprecated__ = self.message
            return what

    def _coroutine(what: Any, mark: deprecated) -> Any:
        @functools.wraps(what)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            mark._warn()
            return await what(*args, **kwargs)

        return wrapper


@deprecated("Use shared_array.SharedArray instead")
class SharedMemoryArray:
    """A numpy array in shared memory, found by name.

    Parameters
    ----------
    shape : tuple of int, or int
        Shape of the array. `()` is one element.
    dtype : numpy.dtype
        Any dtype without references to objects.
    name : str
        Name of the segment; see `build_sma_name`.
    array_slice : tuple of slice, optional
        Applied by `load`, not by `create`.

    Attributes
    ----------
    smh : object or None
        The segment (`name`, `size`, `buf`, `close`, `unlink`), between `create` or `load` and `close`.
    array : numpy.ndarray or None
        The view of it. It stays valid after `close` for who keeps it.
    """

    COUNTER = 0

    def __init__(self, shape: tuple[int, ...], dtype: Any, name: str, array_slice: tuple[slice, ...] | None = None) -> None:
        self.shape = shape
        self.dtype = dtype
        self.name = name
        self.array_slice = array_slice
        self.smh: Segment | None = None
        self.array: np.ndarray | None = None

    def __repr__(self) -> str:
        state = "open" if self.smh is not None else "not open"
        dtype = getattr(self.dtype, "__name__", self.dtype)
        return f"<{type(self).__qualname__} {self.name!r}: shape {self.shape}, {dtype}, {state}>"

    def _bytes(self) -> int:
        dtype = np.dtype(self.dtype)
        if dtype.hasobject:
            raise ValueError(f"an array of {dtype} holds references: they mean nothing to another process")
        dims = tuple(self.shape) if isinstance(self.shape, Iterable) else (self.shape,)
        size = int(dtype.itemsize) * math.prod(operator.index(n) for n in dims)
        if size <= 0 or min(dims, default=1) < 0:
            raise ValueError("'size' must be a positive number different from zero")
        return size

    def create(self) -> None:
        """Make the segment, filled with zeros, and the view of all of it (`array_slice` is not applied).

        Raises
        ------
        FileExistsError
            The name is taken.
        ValueError
            No bytes, or a dtype with references.
        OSError
            No room in /dev/shm.
        """
        segment = Segment.create(self.name, self._bytes())
        self.array = np.ndarray(self.shape, dtype=self.dtype, buffer=segment.buf)
        self.smh = segment

    def load(self) -> None:
        """Attach to a segment that somebody made, and apply `array_slice`.

        Raises
        ------
        FileNotFoundError
            There is none of this name.
        TypeError
            It is smaller than shape and dtype need.
        """
        segment = Segment.attach(self.name)
        array = np.ndarray(self.shape, dtype=self.dtype, buffer=segment.buf)
        self.array = array[self.array_slice] if self.array_slice is not None else array
        self.smh = segment

    def close(self) -> None:
        """Let go of the segment; never unlinks. AttributeError if it is not open."""
        if self.smh is None:
            raise AttributeError(f"shared memory array {self.name!r} is not open")
        self.smh.close()
        self.smh = self.array = None

    def __getstate__(self) -> dict[str, Any]:
        # what travels is how to load it, not the data
        return {**vars(self), "smh": None, "array": None}

    @classmethod
    def clone(cls, sma: SharedMemoryArray, **override: Any) -> SharedMemoryArray:
        """A new, unopened object with the shape, dtype, name and array_slice of `sma`, but for those in `override`."""
        own = {"shape": sma.shape, "dtype": sma.dtype, "name": sma.name, "array_slice": sma.array_slice}
        return cls(**{**own, **override})

    @classmethod
    def build_sma_name(cls, prefix: str | None) -> str:
        """A name that nobody else has: counter, `prefix` (None: nothing), time and a UUID."""
        cls.COUNTER += 1
        return f"{cls.COUNTER}-{'' if prefix is None else prefix}-{datetime.now().strftime('%Y%m-%d%H-%M%S')}-{uuid.uuid4()}"

    @classmethod
    def clear_buffers(cls, buffer_names: Iterable[str]) -> None:
        """Unlink all segments of `buffer_names`. FileNotFoundError names the first that was absent, when all others are gone."""
        absent: FileNotFoundError | None = None
        for name in buffer_names:
            try:
                unlink(name)
            except FileNotFoundError as error:
                absent = absent or error
        if absent is not None:
            raise absent


def create_and_register_sma(
    shape: tuple[int, ...], dtype: Any, register: list[str], prefix: str | None = None
) -> SharedMemoryArray:
    """Make a shared memory array under a new name and append the name to `register`, for `clear_buffers` later.

    Parameters
    ----------
    shape, dtype
        As for `SharedMemoryArray`.
    register : list of str
        Gets the name.
    prefix : str, optional
        Of the name, as for `SharedMemoryArray.build_sma_name`.

    Returns
    -------
    SharedMemoryArray
        Open.

    Raises
    ------
    ValueError, OSError
        As `SharedMemoryArray.create`; then nothing is appended.
    """
    sma = SharedMemoryArray(shape, dtype, SharedMemoryArray.build_sma_name(prefix))
    sma.create()
    register.append(sma.name)
    return sma


def shmarray_wrap(func: T) -> T:
    """Load each `SharedMemoryArray` argument, call `func` with the arrays instead, and close them all, also on an exception."""

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        opened: list[SharedMemoryArray] = []

        def array_of(argument: Any) -> Any:
            if not isinstance(argument, SharedMemoryArray):
                return argument
            argument.load()
            opened.append(argument)
            return argument.array

        try:
            arrays = [array_of(a) for a in args]
            named = {key: array_of(a) for key, a in kwargs.items()}
            return func(*arrays, **named)
        finally:
            for sma in opened:
                if sma.smh is not None:  # the same object may have been given twice
                    sma.close()

    return wrapper  # type: ignore[return-value]
