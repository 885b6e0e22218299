"""What the library tells about blocks."""

from __future__ import annotations

from typing import NamedTuple


class BlockInfo(NamedTuple):
    """A block's entry in the manifest.

    Attributes
    ----------
    id : int
        Automatic: ``pool.find(id=info.id)`` finds the block.
    key_id : int
        The id that its maker chose, 0: none.
    size, capacity : int
        Bytes in use, and bytes that it could have (`Block.resize`).
    made_ns : int
        Nanoseconds of CLOCK_MONOTONIC when it was published, 0 before.
    type : int
        What the bytes are, as their maker said.
    state : str
        ``"owned"``, ``"kept"`` (published, the pool's), ``"sent"``, ``"doomed"`` (freed while looked at).
    leases : int
        Processes that look at it.
    owner : int
        Its owner's number in the pool, 0 if it is the pool's.
    owner_pid : int
    name : str or None
    """

    id: int
    key_id: int
    size: int
    capacity: int
    made_ns: int
    type: int
    state: str
    leases: int
    owner: int
    owner_pid: int
    name: str | None
