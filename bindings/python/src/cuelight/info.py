"""What the library tells about blocks, processes and types."""

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


class PartyInfo(NamedTuple):
    """A process that has a pool open.

    Attributes
    ----------
    party : int
        Its number in the pool, from 1 on.
    pid : int
    label : str
        Its program's name, or what it called itself.
    uid : int
    blocks, bytes : int
        What it owns, sent and not yet received included; bytes as they were allocated.
    leases : int
        Blocks that it looks at.
    quota : int
        Bytes that it may own; 0: no limit.
    failed : int
        Allocations that it was refused.
    since_ns : int
        Nanoseconds of CLOCK_MONOTONIC when it came.
    dead : bool
        Nobody has cleaned up after it yet.
    """

    party: int
    pid: int
    label: str
    uid: int
    blocks: int
    bytes: int
    leases: int
    quota: int
    failed: int
    since_ns: int
    dead: bool


class Tapped(NamedTuple):
    """What a message that a tap received is a copy of.

    Attributes
    ----------
    size : int
        Bytes that were sent; the copy has the first ones.
    block : int
        Bytes of the block that went along; of a message without bytes of its own the copy has the first ones of these.
    sent_ns : int
        Nanoseconds of CLOCK_MONOTONIC, just before it was sent.
    pid : int
        Of the sending process.
    party : int
        Its number in the pool (`PartyInfo.party`).
    moved, view : bool
        A block was moved along; a view was.
    asked : bool
        It was sent by `Channel.ask`. Its answer goes to the asker and not through the lane.
    system : bool
        It is the library's own, to an actor.
    """

    size: int
    block: int
    sent_ns: int
    pid: int
    party: int
    moved: bool
    view: bool
    asked: bool
    system: bool


class TypeInfo(NamedTuple):
    """All live blocks of a type.

    Attributes
    ----------
    blocks, kept : int
        How many, and how many of them are published.
    bytes : int
        As they were allocated.
    """

    blocks: int
    kept: int
    bytes: int
