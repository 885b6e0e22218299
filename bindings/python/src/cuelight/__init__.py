"""cuelight: message passing for actors and services over shared memory.

Time-outs are seconds (float), ``None`` waits for ever, 0 does not wait. What must be given back is a context manager, is
given back when it is collected, and may be closed twice. Each failing call raises `Error` or a subclass of it that is also
the built-in exception one would expect.
"""

from . import _core, errors
from ._core import Block, Channel, Message, Pool, attach, attach_pool, block_of, open, recv_any, take
from .errors import *  # noqa: F403
from .info import BlockInfo, PartyInfo, TypeInfo

__all__ = [
    "Block",
    "BlockInfo",
    "Channel",
    "Message",
    "PartyInfo",
    "Pool",
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
