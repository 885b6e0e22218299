"""Dragon's exceptions and error codes, as far as managed memory raises them."""

from __future__ import annotations

import enum

__all__ = ["DragonError", "DragonException", "DragonObjectDestroyed"]


class DragonError(enum.Enum):
    """Error codes, with Dragon's names (without ``DRAGON_``) and numbers; those that are raised here."""

    SUCCESS = 0
    FAILURE = 1
    TIMEOUT = 11
    INVALID_ARGUMENT = 13
    DYNHEAP_REQUESTED_SIZE_TOO_LARGE = 63
    DYNHEAP_REQUESTED_SIZE_NOT_AVAILABLE = 64
    DYNHEAP_MIN_BLOCK_SIZE_TOO_SMALL = 66
    GPU_BE_NOT_FOUND = 75
    MEMORY_OPERATION_ATTEMPT_ON_NONLOCAL_POOL = 95
    MEMORY_ERRNO = 96
    MEMORY_POOL_FULL = 98
    OBJECT_DESTROYED = 120


class DragonException(RuntimeError):
    """What Dragon's calls raise; a RuntimeError, as its first documentation has it.

    Parameters
    ----------
    msg : str
        What could not be done.
    lib_err : DragonError, optional
        The code.
    where : str, optional
        What was wrong, with which values, as the C library says it.

    Attributes
    ----------
    lib_err : DragonError or None
    """

    def __init__(self, msg: str = "", lib_err: DragonError | None = None, where: str | None = None) -> None:
        super().__init__(msg, lib_err, where)
        self.msg = msg
        self.lib_err = lib_err
        self.where = where

    def __str__(self) -> str:
        code = getattr(self.lib_err, "name", self.lib_err)
        text = f"Dragon Message: {self.msg}" + (f" | Return Code: DRAGON_{code}" if code is not None else "")
        return f"{text}\n  {self.where}" if self.where else text


class DragonObjectDestroyed(DragonException):
    """What was meant was freed or destroyed."""
