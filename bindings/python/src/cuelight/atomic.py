"""Atomic numbers for every architecture, under `mpmetrics.atomic`'s names.

`AtomicInt64`, `AtomicUInt64` and `AtomicDouble` are those of `cuelight.primitives`, or `LockingInt64`, `LockingUInt64` and
`LockingDouble` where the architecture has none. The value of these is one word that is stored at once, so it is whole also after
the death of a process that was just changing it: nobody has to be told of that, as who takes a `Lock` has.
"""

from __future__ import annotations

import errno
from typing import Any

from . import primitives
from .types import Double, Int64, Struct, UInt64

__all__ = ["AtomicDouble", "AtomicInt64", "AtomicUInt64", "LockingDouble", "LockingInt64", "LockingUInt64"]


class _Locking(Struct):
    """What the three have in common: a value and the lock that guards it."""

    def _take(self) -> None:
        while True:
            try:
                self._lock.acquire()
            except OSError as error:
                if error.errno != errno.EOWNERDEAD:
                    raise
            else:
                return

    def get(self) -> Any:
        """The current value."""
        self._take()
        try:
            return self._value.value
        finally:
            self._lock.release()

    def set(self, value: Any) -> None:
        """Set the value. A whole number out of range wraps around."""
        self._take()
        try:
            self._value.value = value
        finally:
            self._lock.release()

    def add(self, amount: Any, raise_on_overflow: bool = True) -> Any:
        """Add `amount`.

        Parameters
        ----------
        amount : int or float
            May be negative.
        raise_on_overflow : bool
            Whether to raise when the sum does not fit. The value has wrapped around then.

        Returns
        -------
        int or float
            The value before.

        Raises
        ------
        OverflowError
            The sum does not fit and `raise_on_overflow`.
        """
        self._take()
        try:
            value = self._value
            before = value.value
            after = before + amount
            value.value = after
            if raise_on_overflow and value.value != after and after == after:
                raise OverflowError(f"{before} + {amount} too large to fit")
            return before
        finally:
            self._lock.release()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__}: {self._value.value!r}>"


class LockingDouble(_Locking):
    """An atomic double implemented using a lock, in 48 bytes of `mem`, set to 0; `heap` is not needed."""

    _fields_ = {"_lock": primitives.Lock, "_value": Double}  # noqa: RUF012


class LockingInt64(_Locking):
    """An atomic 64-bit signed integer implemented using a lock, in 48 bytes of `mem`, set to 0; `heap` is not needed."""

    _fields_ = {"_lock": primitives.Lock, "_value": Int64}  # noqa: RUF012
    min = -(1 << 63)
    max = (1 << 63) - 1


class LockingUInt64(_Locking):
    """An atomic 64-bit unsigned integer implemented using a lock, in 48 bytes of `mem`, set to 0; `heap` is not needed."""

    _fields_ = {"_lock": primitives.Lock, "_value": UInt64}  # noqa: RUF012
    min = 0
    max = (1 << 64) - 1


AtomicDouble = primitives.AtomicDouble if primitives.AtomicDouble is not None else LockingDouble
AtomicInt64 = primitives.AtomicInt64 if primitives.AtomicInt64 is not None else LockingInt64
AtomicUInt64 = primitives.AtomicUInt64 if primitives.AtomicUInt64 is not None else LockingUInt64
