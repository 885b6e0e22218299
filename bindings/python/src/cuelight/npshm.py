"""Named shared numpy arrays under `cdxcore.npshm`'s names and in its layout.

Change ``from cdxcore.npshm import ...`` to ``from cuelight.npshm import ...``. A segment is `/dev/shm/NAME`, mode 0600: the header
of `cuelight.npio`, zeros up to a multiple of 64 bytes, the data in C order; programs with either module share them.

A segment stays until `delete_shared_array`, whoever ends: nothing registers with the resource tracker. It gets its name only when
it is complete, so nobody attaches to an array that is half read from a file. Collecting the array unmaps it, and unlinks only if
`unlink=True` asked for that.
"""

from __future__ import annotations

import contextlib
import io
import math
import mmap
import operator
import os
import struct
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from . import npio
from ._segment import Segment, inode, unlink

__all__ = ["attach_shared_array", "create_shared_array", "delete_shared_array", "is_shared_array", "read_shared_array"]


def _data_at(dtype: np.dtype, ndim: int) -> int:
    """Where the data begin: the header, padded to a multiple of 64 or of the dtype's alignment."""
    unit = max(64, dtype.alignment)
    return -(-(8 + 8 * ndim) // unit) * unit


def _shape(shape: Iterable[int]) -> tuple[int, ...]:
    dims = tuple(operator.index(n) for n in shape)
    if any(n < 0 for n in dims):
        raise OverflowError(f"shape {dims}: can't convert negative int to unsigned")
    return dims


def _make(name: str, dims: tuple[int, ...], dtype: np.dtype, fill: Any = None, force: bool = False, load: Any = None) -> np.ndarray:
    """A new segment. Before anybody can find it, `load` is called with descriptor, offset and bytes, then `fill` with the array."""
    header, start = npio._header(dtype, dims), _data_at(dtype, len(dims))
    size = start + math.prod(dims) * dtype.itemsize
    arrays: list[np.ndarray] = []

    def write(buf: mmap.mmap) -> None:
        buf[: len(header)] = header
        arrays.append(np.ndarray(dims, dtype=dtype, buffer=buf, offset=start))
        if fill is not None:
            fill(arrays[0])

    Segment.create(name, size, write, load=load and (lambda fd: load(fd, start, size - start)), replace=force)
    return arrays[0]


def _no_tracker(track: bool | None) -> None:
    if track:
        raise ValueError("there is no tracker that deletes shared arrays: use delete_shared_array, or unlink=True")


def _unlink_with(array: np.ndarray, name: str) -> None:
    """Takes the name away with this array, unless it leads to another segment by then. A forked child leaves it alone."""
    try:
        made, process = inode(name), os.getpid()
    except OSError:  # somebody else was quicker
        return

    def end() -> None:
        if os.getpid() == process:
            with contextlib.suppress(OSError):
                if inode(name) == made:
                    unlink(name)

    weakref.finalize(array, end)


def create_shared_array(
    name: str,
    shape: Iterable[int],
    dtype: Any,
    *,
    raise_on_error: bool = True,
    full: Any = None,
    force: bool = False,
    track: bool | None = None,
    unlink: bool = False,
    verbose: Any = None,
) -> np.ndarray | None:
    """Make a named shared array.

    Parameters
    ----------
    name : str
        Of the segment, without '/', at most 255 bytes. A leading '/' is dropped.
    shape : iterable of int
        `()` and zeros are fine.
    dtype : dtype
        One that `cuelight.npio` has a code for.
    raise_on_error : bool
        False: None instead of FileExistsError.
    full : scalar or array, optional
        What to fill it with, before others can find it; zeros without.
    force : bool
        Take the place of a segment of that name; arrays on the old one live on, unchanged.
    track : bool, optional
        Only None and False: no tracker ever deletes a segment here.
    unlink : bool
        Take the name away when this array and all views of it are gone, or at the end of this process. Other arrays on it live on.
    verbose : object
        Ignored: nothing is printed.

    Returns
    -------
    numpy.ndarray
        Writable, C order.

    Raises
    ------
    FileExistsError
        The name is taken.
    ValueError
        A dtype without code, or `track`.
    OSError
        A bad name, or no room.
    """
    _no_tracker(track)
    dims, kind = _shape(shape), np.dtype(dtype)

    def fill(array: np.ndarray) -> None:
        array[...] = full

    try:
        array = _make(name, dims, kind, fill if full is not None else None, force)
    except FileExistsError:
        if raise_on_error:
            raise
        return None
    if unlink:
        _unlink_with(array, name)
    return array


# what a sound header begins with -> dtype, where the data begin, and how to read the shape
_KNOWN = {
    struct.pack(">IB", 8 + 8 * ndim, code) + ndim.to_bytes(3, "big"): (
        np.dtype(kind),
        _data_at(np.dtype(kind), ndim),
        struct.Struct(f">{ndim}Q"),
    )
    for code, kind in npio._CODE_TO_DTYPE.items()
    for ndim in range(1, 5)
}


def _geometry(segment: Segment) -> tuple[np.dtype, tuple[int, ...]]:
    assert segment.buf is not None
    known = _KNOWN.get(bytes(segment.buf[:8]))
    if known is not None and segment.size >= known[1]:
        shape = known[2].unpack_from(segment.buf, 8)
        if math.prod(shape) <= segment.size:  # else the careful way says what is wrong
            return known[0], shape
    head = segment.buf[: min(segment.size, 8 + 8 * 64)]
    try:
        return npio._read_header(io.BytesIO(head), segment.name)
    except EOFError as error:
        raise ValueError(f"shared memory {segment.name!r} is no array: {error}") from None


def attach_shared_array(
    name: str,
    *,
    validate_shape: tuple[int, ...] | None = None,
    validate_dtype: Any = None,
    raise_on_error: bool = True,
    read_only: bool = False,
    track: bool | None = None,
    unlink: bool = False,
    verbose: Any = None,
) -> np.ndarray | None:
    """Attach to a named shared array.

    Parameters
    ----------
    name : str
        Of the segment.
    validate_shape : tuple, optional
        Must be its shape.
    validate_dtype : dtype, optional
        Must be its dtype.
    raise_on_error : bool
        False: None if there is none of this name. A mismatch is an error in any case.
    read_only : bool
        Map it without permission to write.
    track, unlink, verbose
        As for `create_shared_array`.

    Returns
    -------
    numpy.ndarray or None
        In C order, on the shared memory itself.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        Another shape or dtype, or not an array.
    TypeError
        The segment is shorter than its header says.
    """
    _no_tracker(track)
    try:
        segment = Segment.attach(name, read_only=read_only)
    except FileNotFoundError:
        if raise_on_error:
            raise FileNotFoundError(2, f"no shared array {name!r}", name) from None
        return None
    dtype, dims = _geometry(segment)
    if validate_shape is not None and validate_shape != dims:
        raise ValueError(f"shared array {name!r} has shape {dims}, not {validate_shape}")
    if validate_dtype is not None and dtype != validate_dtype:
        raise ValueError(f"shared array {name!r} has dtype {dtype}, not {validate_dtype}")
    array = np.ndarray(dims, dtype=dtype, buffer=segment.buf, offset=_data_at(dtype, len(dims)))
    if unlink:
        _unlink_with(array, name)
    return array


def _file_geometry(file: Any, buffering: int) -> tuple[np.dtype, tuple[int, ...]]:
    """Of the next array of a file; an open file stays where it is."""
    with npio._opened(file, "rb", buffering) as (handle, name):
        at = handle.tell()
        geometry = npio._read_header(handle, name)
        handle.seek(at)
    return geometry


def read_shared_array(
    file: Any,
    name: str,
    *,
    validate_shape: tuple[int, ...] | None = None,
    validate_dtype: Any = None,
    raise_on_error: bool = True,
    accept_existing: bool = True,
    buffering: int = -1,
    read_only: bool = False,
    return_status: bool = False,
    track: bool | None = None,
    unlink: bool = False,
    verbose: Any = None,
) -> Any:
    """Read an array that `cuelight.npio.to_file` wrote straight into a new shared array, or attach to one that is there.

    Parameters
    ----------
    file : str, int or binary file
        A name, or a descriptor or a file that is open for reading.
        Not read if an array is there and both `validate_shape` and `validate_dtype` are given.
    name : str
        Of the segment.
    validate_shape, validate_dtype : tuple and dtype, optional
        Must be the file's.
    accept_existing : bool
        Attach to an array of this name if there is one with the file's geometry.
    return_status : bool
        Return ``(array, attached)``.
    raise_on_error : bool
        False: None if the file does not exist, or the name is taken and may not be.
    buffering : int
        As for `open`.
    read_only : bool
        Map an existing array without permission to write; forbid writing to a new one by numpy's flag.
    track, unlink, verbose
        As for `create_shared_array`.

    Returns
    -------
    numpy.ndarray, or tuple of (numpy.ndarray, bool)
        With `return_status` also whether it was there already.

    Raises
    ------
    FileExistsError
        The name is taken and `accept_existing` is false.
    ValueError
        File or array have another geometry than asked.
    EOFError
        The file is cut short; nothing is left of the array then.
    """
    _no_tracker(track)
    try:
        array, attached = _read_or_attach(file, name, validate_shape, validate_dtype, accept_existing, buffering, read_only)
    except (FileNotFoundError, FileExistsError):
        if raise_on_error:
            raise
        return (None, False) if return_status else None
    if unlink:
        _unlink_with(array, name)
    return (array, attached) if return_status else array


def _read_or_attach(
    file: Any, name: str, want_shape: Any, want_dtype: Any, accept_existing: bool, buffering: int, read_only: bool
) -> tuple[np.ndarray, bool]:
    known = want_shape is not None and want_dtype is not None
    dtype, dims = (np.dtype(want_dtype), want_shape) if known else _file_geometry(file, buffering)
    if want_shape is not None and want_shape != dims:
        raise ValueError(f"file {file!r} has shape {dims}, not {want_shape}")
    if want_dtype is not None and dtype != want_dtype:
        raise ValueError(f"file {file!r} has dtype {dtype}, not {want_dtype}")
    while True:
        if accept_existing:
            array = attach_shared_array(name, validate_shape=dims, validate_dtype=dtype, raise_on_error=False, read_only=read_only)
            if array is not None:
                return array, True

        try:
            array = _read(file, name, _shape(dims), dtype, buffering)
        except FileExistsError:
            if not accept_existing:
                raise
            continue  # somebody was quicker: theirs is complete
        if read_only:
            array.flags.writeable = False
        return array, False


def _read(file: Any, name: str, dims: tuple[int, ...], dtype: np.dtype, buffering: int) -> np.ndarray:
    """A new shared array of what comes next in the file. FileExistsError leaves an open file where it was."""
    with npio._opened(file, "rb", buffering) as (handle, label):
        at = None
        with contextlib.suppress(OSError, AttributeError):  # a pipe
            at = handle.tell()
        found, shape = npio._read_header(handle, label)
        if (found, shape) != (dtype, dims):
            raise ValueError(f"file {label!r} has dtype {found} and shape {shape}, not {dtype} and {dims}")
        sent = False

        def load(fd: int, start: int, size: int) -> int:
            nonlocal sent
            sent = npio._send(handle, fd, start, size, label)
            return size if sent else 0

        def fill(array: np.ndarray) -> None:
            if not sent:
                npio._read_data(handle, array, label, None)

        try:
            return _make(name, dims, dtype, fill, load=load)
        except FileExistsError:
            if at is not None:
                handle.seek(at)
            raise


def delete_shared_array(name: str, raise_on_error: bool = True, *, verbose: Any = None) -> bool:
    """Take the name of a shared array away; arrays on it live on.

    Parameters
    ----------
    name : str
        Of the segment.
    raise_on_error : bool
        False: return False instead of raising.
    verbose : object
        Ignored.

    Returns
    -------
    bool
        Whether the name is free now; True also if there was none.

    Raises
    ------
    OSError
        The name is none, or may not be taken away.
    """
    try:
        unlink(name)
    except FileNotFoundError:
        return True
    except OSError:
        if raise_on_error:
            raise
        return False
    return True


def is_shared_array(x: Any) -> bool:
    """Whether the memory of `x`, or of what it is a view of, is a mapping of shared memory."""
    base = x
    while base is not None:
        if isinstance(base, mmap.mmap):
            return True
        base = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    return False
