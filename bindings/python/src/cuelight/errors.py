"""Exceptions: one for each status of the C library, each also the built-in exception that a Python programmer expects.

The codes come from the table that C's ``cuelight/error.h`` is made of; a status without a class here fails the tests.
"""

from __future__ import annotations

import errno
import queue
from typing import Any, ClassVar

from . import _core

__all__ = [
    "BadVersion",
    "Busy",
    "Closed",
    "Corrupt",
    "Dead",
    "Empty",
    "Error",
    "Exists",
    "Failed",
    "Forked",
    "Full",
    "Gone",
    "Interrupted",
    "Invalid",
    "Killed",
    "Limit",
    "Moved",
    "NoMemory",
    "NotAllowed",
    "NotFound",
    "NotOwner",
    "NotSupported",
    "Remote",
    "Stale",
    "SystemFailed",
    "Timeout",
    "TooBig",
    "TypeMismatch",
    "Unreachable",
    "WrongContext",
]


class Error(Exception):
    """A call of the library failed.

    Parameters
    ----------
    code : int, optional
        The status, as in C. By default the class's own; codes below -1000 are an application's own reasons.
    trail : str, optional
        What was tried, with which values, and where it failed.

    Attributes
    ----------
    code : int
    trail : str
    """

    status: ClassVar[str] = ""
    code: int = 0
    trail: str = ""
    _errno: ClassVar[int | None] = None

    def __init__(self, code: int | None = None, trail: str = "") -> None:
        if code is not None:
            self.code = code
        self.trail = trail
        self.args = (self.code, trail)
        if self._errno is not None:
            system: Any = self  # those that have one are OSErrors
            system.errno = self._errno

    def __str__(self) -> str:
        text = f"{_core.status_name(self.code)}: {_core.status_text(self.code)}"
        return f"{text}: {self.trail}" if self.trail else text

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code}, {self.trail!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.trail)


class Invalid(Error, ValueError):
    """An argument makes no sense."""

    status = "EINVAL"


class Moved(Error, RuntimeError):
    """The handle is empty: its block was sent, released or freed."""

    status = "EMOVED"


class Stale(Error, ReferenceError):
    """What was meant is gone."""

    status = "ESTALE"


class Gone(Error, RuntimeError):
    """The pool was destroyed."""

    status = "EGONE"


class Closed(Error, EOFError):
    """The channel is closed and drained."""

    status = "ECLOSED"


class Dead(Error, ConnectionError):
    """The peer, actor or process is dead."""

    status = "EDEAD"


class Empty(Error, queue.Empty, TimeoutError):
    """Nothing to receive in the time given."""

    status = "EEMPTY"
    _errno = errno.ETIMEDOUT


class Full(Error, queue.Full, TimeoutError):
    """No room to send in the time given."""

    status = "EFULL"
    _errno = errno.ETIMEDOUT


class Timeout(Error, TimeoutError):
    """No answer in the time given."""

    status = "ETIMEDOUT"
    _errno = errno.ETIMEDOUT


class Interrupted(Error, InterruptedError):
    """A wait was woken. The package goes on waiting or raises what a signal handler raised, so nobody meets this one."""

    status = "EINTR"
    _errno = errno.EINTR


class NotFound(Error, KeyError, FileNotFoundError):
    """No such pool, block, name or actor."""

    status = "ENOENT"
    _errno = errno.ENOENT


class Exists(Error, FileExistsError):
    """The name or (type, id) is taken."""

    status = "EEXIST"
    _errno = errno.EEXIST


class NoMemory(Error, MemoryError):
    """No room now: pool, shared memory or heap."""

    status = "ENOMEM"


class TooBig(Error, ValueError):
    """Larger than the pool, the lane or the format can ever hold."""

    status = "ETOOBIG"


class Limit(Error, OSError):
    """A table is full: parties, lanes or names."""

    status = "ELIMIT"


class NotAllowed(Error, PermissionError):
    """Not allowed: mode, credentials or read-only."""

    status = "EPERM"
    _errno = errno.EPERM


class NotOwner(Error, RuntimeError):
    """Only the block's owner may do that."""

    status = "ENOTOWNER"


class Busy(Error, RuntimeError):
    """Someone else is receiving or using it."""

    status = "EBUSY"


class TypeMismatch(Error, TypeError):
    """Not the declared type, size or kind."""

    status = "ETYPE"


class Remote(Error, OSError):
    """It is on another machine, and no gateway runs."""

    status = "EREMOTE"


class Unreachable(Error, ConnectionError):
    """No connection to the peer or node."""

    status = "EUNREACH"


class BadVersion(Error, ValueError):
    """Made by an incompatible version."""

    status = "EVERSION"


class Corrupt(Error, ValueError):
    """The bytes make no sense: damaged or hostile."""

    status = "ECORRUPT"


class Forked(Error, RuntimeError):
    """The handle belongs to the parent process."""

    status = "EFORK"


class WrongContext(Error, RuntimeError):
    """An actor or callback may not wait here."""

    status = "ECONTEXT"


class Failed(Error, RuntimeError):
    """The behaviour failed."""

    status = "EFAILED"


class Killed(Error, ConnectionError):
    """Ended by a signal or by force."""

    status = "EKILLED"


class NotSupported(Error, NotImplementedError):
    """Not built in, or the kernel lacks it."""

    status = "ENOSYS"


class SystemFailed(Error, OSError):
    """A system call failed; the trail says which."""

    status = "ESYS"


_codes = {name: code for code, name, _ in _core.STATUS}
_classes: dict[int, type[Error]] = {}
for _cls in Error.__subclasses__():
    _cls.code = _codes[_cls.status]
    _classes[_cls.code] = _cls
_core.set_errors(Error, _classes)
