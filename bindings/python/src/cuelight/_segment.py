"""Plain POSIX shared memory: named objects in /dev/shm, as other programs make and read them.

What `cuelight.npshm` and `cuelight.shmutils` stand on. Nothing here registers with multiprocessing's resource tracker. An object
is made without a name, its memory is reserved, it is filled, and only then linked to its name in one step: nobody ever attaches
to half an object, a maker that is killed leaves nothing, and a full /dev/shm is an `OSError` and not a SIGBUS. The mapping
belongs to the views of it and goes with the last one.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Callable

from ._heap import map_object

_FOLDER = "/dev/shm"
_NAME_BYTES = 255


def _path(name: str) -> str:
    name = name if isinstance(name, str) else os.fsdecode(name)
    plain = name[1:] if name.startswith("/") else name
    if not plain or plain in (".", "..") or "/" in plain or "\0" in plain:
        raise OSError(errno.EINVAL, "not a name of shared memory: one without '/', and not empty", name)
    if len(os.fsencode(plain)) > _NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"a name of shared memory has at most {_NAME_BYTES} bytes", name)
    return f"{_FOLDER}/{plain}"


class Segment:
    """A mapped object of shared memory.

    Attributes
    ----------
    name : str
        As it was given.
    size : int
        Bytes of the object.
    buf : mmap.mmap or memoryview or None
        The mapping; None after `close`. Arrays made on it keep it alive.
    """

    __slots__ = ("buf", "name", "size")

    def __init__(self, name: str, buf: mmap.mmap | memoryview, size: int) -> None:
        self.name = name
        self.buf: mmap.mmap | memoryview | None = buf
        self.size = size

    @classmethod
    def create(
        cls,
        name: str,
        size: int,
        fill: Callable[[mmap.mmap], None] | None = None,
        *,
        load: Callable[[int], int] | None = None,
        replace: bool = False,
        mode: int = 0o600,
    ) -> Segment:
        """Make `size` bytes of zeros, let `fill` write to them, and publish them as `name`.

        `load` comes first, writes the end of it through the descriptor, and says how many bytes: they need not be zeroed before.

        Raises
        ------
        FileExistsError
            The name is taken and `replace` is false.
        OSError
            No room (ENOSPC), or no name of shared memory.
        """
        path = _path(name)
        if not replace and os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        fd = os.open(_FOLDER, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)
        try:
            os.fchmod(fd, mode)
            loaded = load(fd) if load is not None else 0
            os.posix_fallocate(fd, 0, size - loaded)
            buf = mmap.mmap(fd, size)
            if fill is not None:
                fill(buf)
            _link(fd, path, name, replace)
        finally:
            os.close(fd)
        return cls(name, buf, size)

    @classmethod
    def attach(cls, name: str, *, read_only: bool = False) -> Segment:
        """Map the object called `name`, whoever made it.

        Raises
        ------
        FileNotFoundError
            There is none.
        ValueError
            It is empty or is not a file.
        """
        buf = map_object(_path(name), not read_only)
        return cls(name, buf, buf.nbytes)

    def close(self) -> None:
        """Let go of the mapping; it goes when the last array on it goes. May be called twice."""
        self.buf = None

    def unlink(self) -> None:
        """Take the name away; what is mapped stays. FileNotFoundError if it is gone."""
        unlink(self.name)


def _link(fd: int, path: str, name: str, replace: bool) -> None:
    while True:
        try:
            # a dir_fd, which these absolute paths do not need, makes Python call linkat: link() would not follow the symlink
            os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
        except FileExistsError:
            if not replace:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        else:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def unlink(name: str) -> None:
    """Take the name of an object away. FileNotFoundError if there is none."""
    os.unlink(_path(name))


def inode(name: str) -> tuple[int, int]:
    """Tells the object of this name from others that had the name before. FileNotFoundError if there is none."""
    found = os.stat(_path(name))
    return found.st_dev, found.st_ino
