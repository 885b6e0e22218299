"""Atomic numbers and a lock in memory that processes share, under `_mpmetrics`' names.

Change ``from _mpmetrics import ...`` to ``from cuelight.primitives import ...``. All atomic operations are sequentially consistent.
A type is None where the architecture has no lock-free form of it: `cuelight.atomic` has one with a lock there.
"""

from ._memory import AtomicDouble, AtomicInt32, AtomicInt64, AtomicUInt32, AtomicUInt64, Buffer, Lock

__all__ = ["AtomicDouble", "AtomicInt32", "AtomicInt64", "AtomicUInt32", "AtomicUInt64", "Buffer", "Lock"]
