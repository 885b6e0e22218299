"""Managed memory: what programs written for ``dragon.managed_memory`` find after they have changed that import.

Pools and allocations are pools and blocks of this package (see `cuelight.Pool`), counted as Dragon counts. There is no launcher
and no runtime; docs/migrate-dragon.md says what else differs.
"""

from __future__ import annotations

import enum
import sys

from ._core import MemoryAlloc, MemoryAllocations, MemoryPool, set_dragon
from .dtypes import DragonError, DragonException, DragonObjectDestroyed

__all__ = [
    "DRAGON_MEMORY_DEFAULT_TIMEOUT",
    "AllocType",
    "DragonError",
    "DragonException",
    "DragonMemoryError",
    "DragonMemoryTypeError",
    "DragonObjectDestroyed",
    "DragonPoolAllocationNotAvailable",
    "DragonPoolAttachFail",
    "DragonPoolCreateFail",
    "DragonPoolDetachFail",
    "DragonPoolError",
    "MemoryAlloc",
    "MemoryAllocations",
    "MemoryPool",
    "PoolType",
]

DRAGON_MEMORY_DEFAULT_TIMEOUT = 300


class AllocType(enum.IntEnum):
    """What an allocation is for."""

    DATA = 0
    CHANNEL = 1
    CHANNEL_BUFFER = 2
    BOOTSTRAP = 3


class PoolType(enum.IntEnum):
    """What a pool's memory is."""

    SHM = 0
    HUGEPAGE = 1
    GPU = 2
    FILE = 3
    PRIVATE = 4


class DragonMemoryError(DragonException):
    """Something about memory could not be done."""


class DragonMemoryTypeError(DragonMemoryError, TypeError):
    """The bytes are no descriptor of an allocation."""


class DragonAllocationDestroyed(DragonObjectDestroyed, DragonMemoryTypeError):
    """The descriptor's allocation was freed, or its pool destroyed. What newer Dragons raise then is a type error, too."""


class DragonPoolError(DragonMemoryError):
    """Something about a pool could not be done."""


class DragonPoolCreateFail(DragonPoolError):
    """The pool could not be made."""


class DragonPoolAttachFail(DragonPoolError):
    """There is no such pool."""


class DragonPoolDetachFail(DragonPoolError):
    """The pool was not attached."""


class DragonPoolAllocationNotAvailable(DragonPoolError):
    """The pool has no room now."""


set_dragon(sys.modules[__name__])
