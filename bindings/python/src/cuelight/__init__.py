"""Message passing for actors and services over shared memory.

    import cuelight as cue

    for m in cue.open("shm://demo/hello", "r"):          # one process
        print("hello,", bytes(m).decode())

    cue.open("shm://demo/hello", "w").send(b"world")     # another

    pool = cue.Pool("model", "1GiB")                     # blocks by name, or by (type, id)
    pool.put(weights, name="weights")                    # an array or a buffer
    weights = pool.find(name="weights", timeout=10).array()

`open` gives a `Channel`, `Pool` shared memory; a `Block` is bytes in it, a `Message` what was received. Time-outs are seconds
(float), ``None`` waits for ever, 0 does not wait. What must be given back is a context manager, is given back when it is collected,
and may be closed twice. Each failing call raises `Error` or a subclass of it that is also the built-in exception one would expect.

For users of Dragon: `cuelight.managed_memory`, `cuelight.dtypes`; of cdxcore: `cuelight.npshm`, `cuelight.npio`; of gridr:
`cuelight.shmutils`; of mpmetrics: `cuelight.primitives`, `cuelight.atomic`, `cuelight.generics`, `cuelight.heap`, `cuelight.types`,
`cuelight.util`. They keep the names that are known there.
"""

from . import _core, errors
from ._core import Block, Channel, Message, Pool, attach, attach_pool, block_of, open, recv_any, take
from .errors import *  # noqa: F403
from .info import BlockInfo, PartyInfo, Tapped, TypeInfo

__all__ = [
    "Block",
    "BlockInfo",
    "Channel",
    "Message",
    "PartyInfo",
    "Pool",
    "Tapped",
    "TypeInfo",
    "attach",
    "attach_pool",
    "block_of",
    "open",
    "recv_any",
    "take",
]
__all__ += errors.__all__
__version__ = "0.1.0"
del _core
