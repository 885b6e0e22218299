from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from typing import Any, Final, Literal, Protocol, SupportsIndex, TypedDict

from numpy.typing import DTypeLike, NDArray
from typing_extensions import Buffer, Self

from .info import BlockInfo, PartyInfo, TypeInfo

class _Socket(Protocol):
    def fileno(self) -> int: ...

_Shape = SupportsIndex | tuple[SupportsIndex, ...] | list[int]

STATUS: Final[tuple[tuple[int, str, str], ...]]

def set_errors(base: type[Exception], classes: Mapping[int, type[Exception]]) -> None: ...
def status_name(status: int) -> str: ...
def status_text(status: int) -> str: ...
def renew_leases() -> None: ...
def attach(descriptor: Buffer, *, writable: bool = False) -> Block: ...
def attach_pool(descriptor: Buffer) -> Pool: ...
def take(
    socket: _Socket | int,
    *,
    timeout: float | None = None,
    read_only: bool = False,
    others: bool = False,
    quota: SupportsIndex | str = 0,
    label: str | None = None,
) -> Pool: ...
def open(
    url: str,
    how: Literal["r", "w", "rw"],
    *,
    kind: Literal["mailbox", "queue", "stream", "topic"] | None = None,
    full: Literal["fail", "drop-new", "drop-old"] | None = None,
    depth: int = 0,
    type: int = 0,
    role: Literal["listen", "dial"] | None = None,
    bytes: SupportsIndex | str = 0,
    max: SupportsIndex | str = 0,
    spin: float | None = None,
    flush: float | None = None,
    linger: float | None = None,
    redeliver: int = 0,
    dead: str | None = None,
    history: int = 0,
    pool: Pool | None = None,
) -> Channel: ...
def block_of(array: NDArray[Any] | memoryview | Block | Message) -> Block: ...

class Lease:
    @property
    def block(self) -> Block: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Block:
    @property
    def data(self) -> memoryview: ...
    @property
    def size(self) -> int: ...
    @property
    def id(self) -> int: ...
    @property
    def key_id(self) -> int: ...
    @property
    def type(self) -> int: ...
    @property
    def name(self) -> str | None: ...
    @property
    def descriptor(self) -> bytes: ...
    @property
    def owned(self) -> bool: ...
    def info(self) -> BlockInfo: ...
    def array(
        self,
        dtype: DTypeLike | None = None,
        shape: _Shape | None = None,
        offset: SupportsIndex = 0,
        *,
        writable: bool | None = None,
    ) -> NDArray[Any]: ...
    def view(self, offset: SupportsIndex = 0, size: SupportsIndex | None = None, *, writable: bool = False) -> Block: ...
    def publish(self, *, mine: bool = False) -> Self: ...
    def resize(self, size: SupportsIndex | str) -> None: ...
    def copy(
        self,
        pool: Pool | None = None,
        *,
        type: int = 0,
        id: int = 0,
        name: str | None = None,
        align: int = 0,
        timeout: float | None = 0,
    ) -> Block: ...
    def release(self) -> None: ...
    def free(self) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __bytes__(self) -> bytes: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def __reduce__(self) -> tuple[Callable[..., Block], tuple[bytes]]: ...

class Pool:
    def __init__(
        self,
        name: str | None = None,
        size: SupportsIndex | str = 0,
        *,
        create: bool | None = None,
        persist: bool = False,
        mode: int = 0o600,
        file: str | bytes | PathLike[str] | None = None,
        memfd: bool = False,
        fd: int | None = None,
        read_only: bool = False,
        huge: bool = False,
        numa: int | None = None,
        max_blocks: int = 0,
        max_parties: int = 0,
        max_allocations: int = 0,
        quota: SupportsIndex | str = 0,
        uid: int = 0,
        label: str | None = None,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def descriptor(self) -> bytes: ...
    def fileno(self) -> int: ...
    def alloc(
        self,
        size: SupportsIndex | str,
        *,
        type: int = 0,
        id: int = 0,
        name: str | None = None,
        align: int = 0,
        zero: bool = False,
        keep: bool = False,
        replace: bool = False,
        timeout: float | None = 0,
    ) -> Block: ...
    def empty(
        self,
        shape: _Shape,
        dtype: DTypeLike = "f8",
        *,
        type: int = 0,
        id: int = 0,
        name: str | None = None,
        align: int = 0,
        zero: bool = False,
        replace: bool = False,
        order: str = "C",
        timeout: float | None = 0,
    ) -> NDArray[Any]: ...
    def put(
        self,
        obj: Buffer | NDArray[Any],
        *,
        type: int = 0,
        id: int = 0,
        name: str | None = None,
        align: int = 0,
        replace: bool = False,
        timeout: float | None = 0,
    ) -> Block: ...
    def find(
        self,
        *,
        type: int = 0,
        id: int = 0,
        name: str | None = None,
        timeout: float | None = 0,
        writable: bool = False,
    ) -> Block: ...
    def attach(self, descriptor: Buffer, *, writable: bool = False) -> Block: ...
    def blocks(self, type: int | None = None) -> Iterator[BlockInfo]: ...
    def read(self, id: int, offset: int = 0, size: SupportsIndex | str | None = None) -> bytes: ...
    def parties(self) -> list[PartyInfo]: ...
    def types(self) -> dict[int, TypeInfo]: ...
    def hand(self, socket: _Socket | int) -> None: ...
    def stats(self) -> dict[str, int]: ...
    def check(self, *, repair: bool = False) -> list[str]: ...
    def trim(self) -> int: ...
    def destroy(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...
    def __reduce__(self) -> tuple[Callable[..., Pool], tuple[bytes]]: ...

class _ChannelStats(TypedDict):
    kind: str | None
    depth: int
    users: int
    sleeping: int
    receiver: int
    shut: int
    queued: int
    peak: int
    sent: int
    received: int
    bytes: int
    copied: int
    dropped: int
    refused: int
    wakes: int
    batches: int
    resent: int
    returned: int
    gaps: int
    late: int

class Payload:
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Message:
    @property
    def type(self) -> int: ...
    @property
    def status(self) -> int: ...
    @property
    def tag(self) -> int: ...
    @property
    def key(self) -> int: ...
    @property
    def redelivered(self) -> int: ...
    @property
    def gap(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def data(self) -> memoryview: ...
    @property
    def block(self) -> Block | None: ...
    def array(self, dtype: DTypeLike | None = None, shape: _Shape | None = None, offset: SupportsIndex = 0) -> NDArray[Any]: ...
    @property
    def answerable(self) -> bool: ...
    def reply(
        self,
        data: Buffer = b"",
        *,
        type: int = 0,
        status: int = 0,
        block: Block | NDArray[Any] | None = None,
    ) -> None: ...
    def release(self) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __bytes__(self) -> bytes: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

class Channel:
    def __init__(
        self,
        url: str,
        how: Literal["r", "w", "rw"],
        *,
        kind: Literal["mailbox", "queue", "stream", "topic"] | None = None,
        full: Literal["fail", "drop-new", "drop-old"] | None = None,
        depth: int = 0,
        type: int = 0,
        role: Literal["listen", "dial"] | None = None,
        bytes: SupportsIndex | str = 0,
        max: SupportsIndex | str = 0,
        spin: float | None = None,
        flush: float | None = None,
        linger: float | None = None,
        redeliver: int = 0,
        dead: str | None = None,
        history: int = 0,
        pool: Pool | None = None,
    ) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def pool(self) -> Pool: ...
    def send(
        self,
        data: Buffer = b"",
        *,
        type: int = 0,
        block: Block | NDArray[Any] | None = None,
        tag: int = 0,
        key: int = 0,
        timeout: float | None = None,
    ) -> None: ...
    def send_many(
        self, messages: Iterable[Buffer | Block | NDArray[Any]], *, type: int = 0, timeout: float | None = None
    ) -> int: ...
    def recv(self, timeout: float | None = None) -> Message: ...
    def recv_many(self, n: int = 64, timeout: float | None = None) -> list[Message]: ...
    def ask(
        self,
        data: Buffer = b"",
        *,
        type: int = 0,
        block: Block | NDArray[Any] | None = None,
        tag: int = 0,
        key: int = 0,
        timeout: float | None = None,
    ) -> Message: ...
    def fileno(self) -> int: ...
    async def arecv(self) -> Message: ...
    async def asend(
        self,
        data: Buffer = b"",
        *,
        type: int = 0,
        block: Block | NDArray[Any] | None = None,
        tag: int = 0,
        key: int = 0,
    ) -> None: ...
    async def aask(
        self,
        data: Buffer = b"",
        *,
        type: int = 0,
        block: Block | NDArray[Any] | None = None,
        tag: int = 0,
        key: int = 0,
        timeout: float | None = None,
    ) -> Message: ...
    def __aiter__(self) -> Self: ...
    async def __anext__(self) -> Message: ...
    def wake(self) -> None: ...
    def stats(self) -> _ChannelStats: ...
    def drain(self, timeout: float | None = 0) -> bool: ...
    def discard(self) -> int: ...
    def close(self, how: Literal["keep", "drain", "discard"] = "keep", timeout: float | None = None) -> None: ...
    def __iter__(self) -> Iterator[Message]: ...
    def __next__(self) -> Message: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *exc: object) -> None: ...

def recv_any(channels: Iterable[Channel], timeout: float | None = None) -> tuple[Channel, Message]: ...
