"""Numpy arrays in files, under `cdxcore.npio`'s names and in its format.

A file is a big-endian header (length of the header u32, code of the dtype u8, number of dimensions u24, each dimension u64) and
the data in C order, native byte order, without padding. What follows the data is left alone, so several arrays can follow one
another in an open file. uint8 has no code in the format.
"""

from __future__ import annotations

import errno
import io
import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

__all__ = ["from_file", "read_dtype_and_shape", "read_from_file", "read_into", "to_file"]

_MAX_BLOCK = 0x7FFFF000
_COPY_BLOCK = 16 << 20
_CODE_TO_DTYPE: dict[int, Any] = {
    0: np.bool_, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.int64, 5: np.uint16, 6: np.uint32, 7: np.uint64, 8: np.float16,
    9: np.float32, 10: np.float64, 11: np.complex64, 12: np.complex128, 13: np.datetime64, 14: np.timedelta64,
}  # fmt: skip
_DTYPE_TO_CODE: dict[str, np.int8] = {np.dtype(t).name: np.int8(code) for code, t in _CODE_TO_DTYPE.items()}


def _code_of(dtype: np.dtype) -> int:
    code = _DTYPE_TO_CODE.get(dtype.name)
    if code is None or not dtype.isnative:
        raise ValueError(f"the format has no code for dtype {dtype!r}")
    return int(code)


def _header(dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    fixed = struct.pack(">IB", 8 + 8 * len(shape), _code_of(dtype)) + len(shape).to_bytes(3, "big")
    return fixed + struct.pack(f">{len(shape)}Q", *shape)


@contextmanager
def _opened(file: Any, mode: str, buffering: int) -> Iterator[tuple[Any, Any]]:
    if isinstance(file, int):
        with open(file, mode, buffering=0, closefd=False) as handle:  # what is read ahead would be lost
            yield handle, f"descriptor {file}"
    elif isinstance(file, (str, os.PathLike)):
        with open(file, mode, buffering=buffering) as handle:
            yield handle, os.fspath(file)
    else:
        yield file, getattr(file, "name", repr(file))


def _read_exactly(handle: BinaryIO, size: int, name: Any) -> bytes:
    data = b""
    while len(data) < size:
        more = handle.read(size - len(data))
        if not more:
            raise EOFError(f"file {name!r} ends within its header: {len(data)} of {size} bytes")
        data += more
    return data


def _read_header(handle: BinaryIO, name: Any) -> tuple[np.dtype, tuple[int, ...]]:
    fixed = _read_exactly(handle, 8, name)
    length, code = struct.unpack(">IB", fixed[:5])
    ndim = int.from_bytes(fixed[5:], "big")
    if code not in _CODE_TO_DTYPE:
        raise ValueError(f"file {name!r}: unknown dtype code {code}")
    if length != 8 + 8 * ndim or ndim > 64:
        raise ValueError(f"file {name!r}: a header of {length} bytes for {ndim} dimensions makes no sense")
    shape = struct.unpack(f">{ndim}Q", _read_exactly(handle, 8 * ndim, name))
    if math.prod(shape) * np.dtype(_CODE_TO_DTYPE[code]).itemsize >= 1 << 62:
        raise ValueError(f"file {name!r}: shape {shape} makes no sense")
    return np.dtype(_CODE_TO_DTYPE[code]), shape


def _block_elements(array: np.ndarray, cont_block_size_mb: int | None) -> int:
    """How many elements to copy at a time of an array that is not one piece of memory."""
    if cont_block_size_mb is None or cont_block_size_mb <= 0:
        raise RuntimeError(
            f"array of shape {array.shape} and strides {array.strides} is not contiguous; "
            "give a 'cont_block_size_mb' above 0 to copy it block by block"
        )
    return max(1, (int(cont_block_size_mb) << 20) // max(1, array.itemsize))


def _bytes_of(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8)) if array.nbytes else memoryview(b"")


def _write_all(handle: BinaryIO, data: memoryview, name: Any) -> None:
    for start in range(0, len(data), _MAX_BLOCK):
        part = data[start : start + _MAX_BLOCK]
        written = handle.write(part)
        if written is None and isinstance(handle, io.RawIOBase):  # it would have had to wait
            written = 0
        if written is not None and written != len(part):
            raise OSError(f"file {name!r}: {written} of {len(part)} bytes were written")


def to_file(file: Any, array: np.ndarray, *, buffering: int = -1, cont_block_size_mb: int | None = None) -> None:
    """Write an array.

    Parameters
    ----------
    file : str, int or binary file
        A name, or a descriptor or a file that is open for writing.
    array : numpy.ndarray
        Of a dtype that the format knows, in native byte order. Any order of axes; it is written in C order.
    buffering : int
        As for `open`.
    cont_block_size_mb : int, optional
        How much to copy at a time, MiB, of a strided array that is not one piece of memory.

    Raises
    ------
    ValueError
        A dtype without code.
    RuntimeError
        A strided array and no `cont_block_size_mb`.
    OSError
        Less was written than there is.
    """
    array = np.asanyarray(array)
    header = _header(array.dtype, array.shape)
    flat = array.reshape(-1)
    step = flat.size if flat.flags.c_contiguous else _block_elements(array, cont_block_size_mb)
    with _opened(file, "wb", buffering) as (handle, name):
        _write_all(handle, memoryview(header), name)
        for start in range(0, flat.size, max(1, step)):
            _write_all(handle, _bytes_of(np.ascontiguousarray(flat[start : start + step])), name)


def read_dtype_and_shape(file: Any, buffering: int = -1) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and the shape of the next array of a file; an open file stands behind the header then.

    Parameters
    ----------
    file : str, int or binary file
        A name, or a descriptor or a file that is open for reading.
    buffering : int
        As for `open`.

    Returns
    -------
    tuple of (numpy.dtype, tuple of int)

    Raises
    ------
    EOFError
        The file is cut short.
    ValueError
        Its header makes no sense.
    """
    with _opened(file, "rb", buffering) as (handle, name):
        return _read_header(handle, name)


def _fill(handle: BinaryIO, piece: np.ndarray, name: Any) -> None:
    data, at = _bytes_of(piece), 0
    while at < len(data):
        part = data[at : at + _MAX_BLOCK]
        got = handle.readinto(part) if hasattr(handle, "readinto") else None
        if got is None:
            more = handle.read(len(part))
            got = len(more)
            part[:got] = more
        if not got:
            raise EOFError(f"file {name!r} ends within its data: {at} of {len(data)} bytes")
        at += got


def _send(handle: Any, fd: int, start: int, size: int, name: Any) -> bool:
    """Copies the next `size` bytes of a plain file to offset `start` of another, within the kernel. False: cannot be done so."""
    raw: Any = handle if type(handle) is io.FileIO else getattr(handle, "raw", None)
    plain = type(handle) in (io.FileIO, io.BufferedReader, io.BufferedRandom) and type(raw) is io.FileIO
    if not plain or not raw.seekable():
        return False  # a pipe, or a file that unpacks or counts what it reads
    try:
        begin, at = handle.tell(), 0
        os.lseek(fd, start, os.SEEK_SET)
        while at < size:
            sent = os.sendfile(fd, raw.fileno(), begin + at, min(size - at, _MAX_BLOCK))
            if not sent:
                raise EOFError(f"file {name!r} ends within its data: {at} of {size} bytes")
            at += sent
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            return False
        raise
    handle.seek(begin + size)
    return True


def _read_data(handle: BinaryIO, array: np.ndarray, name: Any, cont_block_size_mb: int | None) -> None:
    if array.flags.c_contiguous:
        _fill(handle, array, name)
        return
    step = _block_elements(array, cont_block_size_mb) if array.ndim == 1 else max(1, _COPY_BLOCK // max(1, array.itemsize))
    for start in range(0, array.size, step):  # in C order, wherever the elements lie
        piece = np.empty(min(step, array.size - start), dtype=array.dtype)
        _fill(handle, piece, name)
        array.flat[start : start + piece.size] = piece


def _validate(dtype: np.dtype, shape: tuple[int, ...], want_dtype: Any, want_shape: Any, name: Any) -> None:
    if want_dtype is not None and np.dtype(want_dtype) != dtype:
        raise OSError(f"file {name!r} has dtype {dtype}, not {np.dtype(want_dtype)}")
    if want_shape is not None and tuple(want_shape) != shape:
        raise OSError(f"file {name!r} has shape {shape}, not {tuple(want_shape)}")


def read_from_file(
    file: Any,
    target: np.ndarray | Callable[..., np.ndarray],
    *,
    validate_dtype: Any = None,
    validate_shape: tuple[int, ...] | None = None,
    read_only: bool = False,
    buffering: int = -1,
    cont_block_size_mb: int | None = None,
) -> np.ndarray:
    """Read the next array of a file into an array that is there, or is made for it.

    Parameters
    ----------
    file : str, int or binary file
        A name, or a descriptor or a file that is open for reading.
    target : numpy.ndarray or callable
        An array of the file's dtype and shape, in any order of axes; or a function that makes one: ``target(shape=, dtype=)``.
    validate_dtype : dtype, optional
        Must be the file's dtype.
    validate_shape : tuple of int, optional
        Must be the file's shape.
    read_only : bool
        Forbid writing to the array by numpy's flag.
    buffering : int
        As for `open`.
    cont_block_size_mb : int, optional
        How much to copy at a time, MiB, into a strided target of one dimension.

    Returns
    -------
    numpy.ndarray
        The target, or what it made.

    Raises
    ------
    OSError
        The file's dtype or shape is not that of the target or of `validate_dtype`, `validate_shape`.
    EOFError
        The file is cut short.
    ValueError
        Its header makes no sense.
    RuntimeError
        A strided target and no `cont_block_size_mb`.
    """
    with _opened(file, "rb", buffering) as (handle, name):
        dtype, shape = _read_header(handle, name)
        _validate(dtype, shape, validate_dtype, validate_shape, name)
        array = target(shape=shape, dtype=dtype) if callable(target) else target
        _validate(dtype, shape, array.dtype, array.shape, name)
        _read_data(handle, array, name, cont_block_size_mb)
    if read_only:
        array.flags.writeable = False
    return array


def read_into(
    file: Any, array: np.ndarray, *, read_only: bool = False, buffering: int = -1, cont_block_size_mb: int | None = None
) -> np.ndarray:
    """Read the next array of a file into `array`, which is returned.

    `file`, `read_only`, `buffering`, `cont_block_size_mb` and errors are those of `read_from_file`.
    """
    return read_from_file(file, array, read_only=read_only, buffering=buffering, cont_block_size_mb=cont_block_size_mb)


def from_file(
    file: Any,
    *,
    validate_dtype: Any = None,
    validate_shape: tuple[int, ...] | None = None,
    read_only: bool = False,
    buffering: int = -1,
    cont_block_size_mb: int | None = None,
) -> np.ndarray:
    """The next array of a file, as a new array in C order.

    `file`, `validate_dtype`, `validate_shape`, `read_only`, `buffering`, `cont_block_size_mb` and errors are those of
    `read_from_file`.
    """
    return read_from_file(
        file, np.empty, validate_dtype=validate_dtype, validate_shape=validate_shape, read_only=read_only, buffering=buffering,
        cont_block_size_mb=cont_block_size_mb,
    )  # fmt: skip


def __getattr__(name: str) -> Any:
    # cdxcore's documentation says ``from cdxcore.npio import create_shared_array, ...``
    from . import npshm

    if name in npshm.__all__:
        return getattr(npshm, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
