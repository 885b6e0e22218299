"""Various small utilities, under `mpmetrics.util`'s names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["align", "align_down", "classproperty", "genmask"]


def _align_check(a: int) -> None:
    if a <= 0 or a & (a - 1):
        raise ValueError(f"{a} is not a power of 2")


def align(x: int, a: int) -> int:
    """Align x up.

    Parameters
    ----------
    x : int
        The value to align.
    a : int
        The alignment, a power of two.

    Returns
    -------
    int
        The smallest multiple of `a` that is not below `x`.

    Raises
    ------
    ValueError
        `a` is not a positive power of two.
    """
    _align_check(a)
    return (x + a - 1) & -a


def align_down(x: int, a: int) -> int:
    """Align x down: the largest multiple of `a` that is not above `x`. Parameters and errors as `align`."""
    _align_check(a)
    return x & -a


def genmask(hi: int, lo: int) -> int:
    """A number with the bits `lo` to `hi` set, both inclusive; bit 0 is the lowest. 0 if `hi` is below `lo`.

    Raises
    ------
    ValueError
        `lo` is below 0, or `hi` below -1.
    """
    return (-1 << lo) & ~(-1 << (hi + 1))


class classproperty(property):
    """Like `property`, but for classes: it is computed for the class, also when it is read from an instance.

    Parameters
    ----------
    fget, fset, fdel, doc
        As for `property`; the functions get the class.
    """

    def __init__(
        self,
        fget: Callable[[Any], Any] | None = None,
        fset: Callable[[Any, Any], None] | None = None,
        fdel: Callable[[Any], None] | None = None,
        doc: str | None = None,
    ) -> None:
        super().__init__(fget, fset, fdel, doc)
        self.__doc__ = doc if doc is not None else getattr(fget, "__doc__", None)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return super().__get__(owner if owner is not None else type(instance))
