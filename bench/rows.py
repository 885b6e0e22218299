"""The rows of the bench: what each is, which program measures it, and what stands beside it.

Names, units and targets are explained in docs/bench.md. A side is a title, a program and what to tell it; programs speak as
bench.h says. Nothing here is a figure.
"""

from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Side:
    title: str
    program: str  # one of BUILD/bench/, or python:FILE in bench/, or original:NAME:FILE by build/originals/NAME's python, or iceoryx2
    case: str


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    unit: str
    ours: Side
    limit: Side | None = None
    peers: list[Side] = field(default_factory=list)
    target: str | None = None  # limit<=X peer>=X value<=X row:NAME<=X …
    also: tuple[str, ...] = ()  # more of them; besides PEER<=X, the ratio to the peer of that title
    pinned: bool = True

    @property
    def better(self) -> str:
        return "higher" if self.unit in ("1/s", "MB/s") else "lower"


def ours(program: str, case: str) -> Side:
    return Side("cuelight", program, case)


def limit(title: str, case: str) -> Side:
    return Side(title, "limits", case)


def iceoryx2(case: str) -> Side:
    return Side("iceoryx2", "iceoryx2", case)


def with_free_twin(row: Row) -> list[Row]:
    """A latency row and the same without pinning: a wake across CPUs costs many times one on the same CPU."""
    free = replace(row, name=row.name + ".free", what=row.what + ", not pinned", pinned=False)
    if row.target and row.target.startswith("row:"):
        free = replace(free, target=row.target.replace("<", ".free<").replace(">", ".free>"))
    return [row, free]


CACHE_LINE = limit("cache line", "line")
FUTEX = limit("futex wake", "futex")
SLOTS = limit("ring of slots", "slots.rate")
UNIX = limit("Unix socket", "unix")
UNIX_RATE = limit("Unix socket", "unix.rate")
PIPE = limit("pipe", "pipe")
NNG = Side("NNG", "nng-alone", "oneway")
NNG_RATE = Side("NNG", "nng-alone", "rate")
BOOST_RATE = Side("Boost.Interprocess", "boost", "rate")
ZEROMQ = Side("ZeroMQ", "zeromq", "oneway")
ZEROMQ_RATE = Side("ZeroMQ", "zeromq", "rate")


def pool_rows() -> list[Row]:
    rows = []
    for case, size in (("64", "64 B"), ("512", "512 B"), ("4k", "4 KiB"), ("64k", "64 KiB"), ("1m", "1 MiB")):
        peers = [Side("glibc malloc", "glibc", f"pair.{case}")]
        if case in ("64", "1m"):
            peers.append(iceoryx2(f"loan.{case}"))
        rows.append(
            Row(
                f"pool.pair.{case}",
                f"alloc, write a byte and free {size}, one thread",
                "ns",
                ours("pool", f"pair.{case}"),
                Side("mimalloc", "mimalloc", f"pair.{case}"),
                peers,
                "limit<=3",
            )
        )
    rows += [
        Row(
            "pool.pair.64.1proc",
            "the same, 64 B, as a rate",
            "1/s",
            ours("pool", "pair.64.1proc"),
        ),
        Row(
            "pool.pair.64.2procs",
            "two processes in one pool, their sum",
            "1/s",
            ours("pool", "pair.64.2procs"),
            Side("mimalloc", "mimalloc", "pair.64.2procs"),
            [Side("glibc malloc", "glibc", "pair.64.2procs")],
            "row:pool.pair.64.1proc>=1.7",
        ),
        Row(
            "pool.pair.64.4procs",
            "four processes on two CPUs in one pool, their sum",
            "1/s",
            ours("pool", "pair.64.4procs"),
            Side("mimalloc", "mimalloc", "pair.64.4procs"),
            [Side("glibc malloc", "glibc", "pair.64.4procs")],
            "row:pool.pair.64.2procs>=0.95",
        ),
        Row(
            "pool.pair.dragon",
            "alloc, write a byte and free 64 B, against Dragon's managed memory in C",
            "ns",
            ours("pool", "pair.64"),
            peers=[Side("Dragon", "dragon", "pair.64")],
            target="peer<=0.02",
        ),
        Row(
            "pool.pair.dragon.4k",
            "the same, 4 KiB",
            "ns",
            ours("pool", "pair.4k"),
            peers=[Side("Dragon", "dragon", "pair.4k")],
            target="peer<=0.02",
        ),
        Row(
            "pool.pair.dragon.2procs",
            "the same, 64 B, two processes in one pool, their sum",
            "1/s",
            ours("pool", "pair.64.2procs"),
            peers=[Side("Dragon", "dragon", "pair.64.2procs")],
            target="peer>=50",
        ),
        Row("pool.free.own", "free 64 B that the same thread allocated", "ns", ours("pool", "free.own")),
        Row(
            "pool.free.remote",
            "free 64 B that a thread on another CPU allocated",
            "ns",
            ours("pool", "free.remote"),
            Side("two own frees and a line", "pool", "free.bound"),
            target="limit<=1",
        ),
        Row(
            "pool.free.remote.process",
            "free 64 B that a process on another CPU allocated, sent, and has just looked at",
            "ns",
            ours("pool", "free.process"),
            Side("two own frees and a line", "pool", "free.bound"),
            target="limit<=1",
        ),
        Row(
            "pool.pair.remote",
            "the same, 64 B, freed by another thread",
            "ns",
            ours("pool", "pair.remote"),
            Side("mimalloc", "mimalloc", "pair.remote"),
            [Side("glibc malloc", "glibc", "pair.remote")],
        ),
        Row(
            "pool.lease",
            "attach to a published block by its id, and detach; any of 1000, warm",
            "ns",
            ours("pool", "lease"),
            target="value<=60",
        ),
        Row(
            "pool.find.id.warm",
            "is the block with this automatic id there? any of 1000",
            "ns",
            ours("pool", "find.id.warm"),
            target="value<=20",
        ),
        Row(
            "pool.find.id",
            "the same, any of 10^6",
            "ns",
            ours("pool", "find.id"),
            limit("load of any of 10^6 lines", "random.1m"),
            target="limit<=1",
        ),
        Row(
            "pool.find.type_id.warm",
            "is the block with this type and id there? any of 1000",
            "ns",
            ours("pool", "find.type_id.warm"),
            target="value<=100",
        ),
        Row(
            "pool.find.type_id",
            "the same, any of 10^6",
            "ns",
            ours("pool", "find.type_id"),
            limit("load of any of 10^6 lines", "random.1m"),
            target="value<=100",
        ),
        Row(
            "pool.find.type_id.mixed",
            "the same, made in another order than that of their ids",
            "ns",
            ours("pool", "find.type_id.mixed"),
            limit("load of any of 10^6 lines", "random.1m"),
        ),
        Row(
            "pool.find.many",
            "the same, 64 look-ups a call; each",
            "ns",
            ours("pool", "find.many"),
            limit("load of any of 10^6 lines", "random.1m"),
            target="value<=100",
        ),
        Row("pool.find.name", "is the block with this name there? any of 10^5", "ns", ours("pool", "find.name")),
        Row(
            "pool.iterate.100k",
            "look at all of 10^5 blocks",
            "us",
            ours("pool", "iterate.100k"),
            limit("load of 10^5 lines", "walk.100k"),
            target="value<=5000",
        ),
        Row(
            "pool.open",
            "attach to a pool that another process has open, and leave it",
            "us",
            ours("pool", "open"),
            limit("shm_open, mmap, munmap, close", "map"),
            target="value<=100",
        ),
        Row(
            "pool.recover.100k",
            "clean up after a killed process that owned 10^5 blocks",
            "ms",
            ours("pool", "recover.100k"),
            target="value<=20",
        ),
        Row(
            "pool.empty.1g.bytes",
            "memory that a new pool of 1 GiB takes",
            "bytes",
            ours("pool", "empty.1g"),
            target="value<=1048576",
        ),
        Row(
            "pool.overhead.4k.percent",
            "memory beyond the payload, 32768 blocks of 4 KiB",
            "percent",
            ours("pool", "overhead.4k"),
            target="value<=3",
        ),
        Row(
            "pool.overhead.64.each",
            "memory beyond the payload for each of 10^5 blocks of 64 B",
            "B",
            ours("pool", "overhead.64"),
            target="value<=64",
        ),
    ]
    return rows


def lane_rows() -> list[Row]:
    rows = with_free_twin(
        Row(
            "lane.mailbox.oneway.spin",
            "mailbox, 64 B, two processes, both spinning, half a round trip",
            "us",
            ours("lane", "oneway.spin"),
            CACHE_LINE,
            [iceoryx2("oneway.spin"), Side("Boost.Interprocess", "boost", "oneway.spin")],
            "limit<=2.2",
            ("iceoryx2<=0.6",),
        )
    )
    rows += with_free_twin(
        Row(
            "lane.mailbox.oneway.asleep",
            "mailbox, 64 B, two processes, both asleep, half a round trip",
            "us",
            ours("lane", "oneway.asleep"),
            FUTEX,
            [
                iceoryx2("oneway.asleep"),
                UNIX,
                PIPE,
                Side("POSIX mq", "limits", "mq"),
                Side("Boost.Interprocess", "boost", "oneway.asleep"),
            ],
            "limit<=1.2",
        )
    )
    rows += with_free_twin(
        Row(
            "lane.mailbox.oneway.1m",
            "mailbox, 1 MiB allocated, handed over, first byte looked at, freed",
            "us",
            ours("lane", "oneway.1m"),
            CACHE_LINE,
            [iceoryx2("oneway.1m"), limit("1 MiB copied in and out", "memcpy.1m")],
            "row:lane.mailbox.oneway.spin<=1.1",
        )
    )
    rows += with_free_twin(
        Row(
            "lane.mailbox.oneway.64m",
            "mailbox, 64 MiB allocated, handed over, first byte looked at, freed",
            "us",
            ours("lane", "oneway.64m"),
            CACHE_LINE,
            [iceoryx2("oneway.64m")],
        )
    )
    streams = [BOOST_RATE, ZEROMQ_RATE, Side("pipe", "limits", "pipe.rate"), Side("Unix socket", "limits", "unix.rate")]
    rows += [
        Row(
            "lane.mailbox.rate",
            "mailbox, 64 B blocks, one sender",
            "1/s",
            ours("lane", "rate"),
            SLOTS,
            [iceoryx2("rate"), *streams],
        ),
        Row(
            "lane.mailbox.rate.batch32",
            "the same, 32 a call on both sides",
            "1/s",
            ours("lane", "rate.batch32"),
            SLOTS,
            [iceoryx2("rate"), *streams],
        ),
        Row(
            "lane.mailbox.rate.tapped",
            "mailbox, 64 B blocks, one sender, and a tap that nobody reads",
            "1/s",
            ours("lane", "rate.tapped"),
            SLOTS,
            [],
            "row:lane.mailbox.rate>=0.2",
        ),
        Row(
            "lane.mailbox.fanin.2",
            "mailbox, 64 B blocks, two senders",
            "1/s",
            ours("lane", "fanin.2"),
            SLOTS,
            [iceoryx2("fanin.2")],
        ),
        Row(
            "lane.mailbox.fanin.4",
            "mailbox, 64 B blocks, four senders",
            "1/s",
            ours("lane", "fanin.4"),
            SLOTS,
            [iceoryx2("fanin.4")],
            "peer>=5",
            ("value>=12000000",),
        ),
        Row(
            "lane.mailbox.fanin.8",
            "mailbox, 64 B blocks, eight senders",
            "1/s",
            ours("lane", "fanin.8"),
            SLOTS,
            [iceoryx2("fanin.8")],
        ),
    ]
    rows += with_free_twin(
        Row(
            "lane.topic.oneway.spin",
            "topic with one subscriber, 64 B, two processes, both spinning, half a round trip",
            "us",
            ours("lane", "topic.oneway"),
            CACHE_LINE,
            [iceoryx2("oneway.spin")],
            "row:lane.mailbox.oneway.spin<=1.5",
        )
    )
    rows += [
        Row(
            f"lane.topic.fanout.{readers}",
            f"topic, 64 B blocks, one publisher, {readers} processes that get all and are waited for",
            "1/s",
            ours("lane", f"fanout.{readers}"),
            peers=[iceoryx2(f"fanout.{readers}")],
        )
        for readers in (1, 2, 4, 8)
    ]
    rows += with_free_twin(
        Row(
            "lane.stream.oneway.spin",
            "stream, 64 B sent as bytes, two processes, both spinning, half a round trip",
            "us",
            ours("lane", "stream.oneway"),
            CACHE_LINE,
            [iceoryx2("oneway.spin")],
            "limit<=1.3",
        )
    )
    rows += with_free_twin(
        Row(
            "lane.stream.oneway.block",
            "the same of a block of 64 B that is moved",
            "us",
            ours("lane", "stream.oneway.block"),
            CACHE_LINE,
            [iceoryx2("oneway.spin")],
        )
    )
    rows += [
        Row(
            "lane.stream.rate",
            "stream, 64 B sent as bytes, 32 a call on both sides",
            "1/s",
            ours("lane", "stream.rate"),
            SLOTS,
            [iceoryx2("rate"), *streams],
            "peer>=5",
        ),
        Row(
            "lane.stream.rate.blocks",
            "the same of 64 B blocks that are moved",
            "1/s",
            ours("lane", "stream.rate.blocks"),
            SLOTS,
            [iceoryx2("rate")],
            "peer>=5",
        ),
        Row(
            "lane.queue.rate.2x2",
            "queue, 64 B blocks, two senders one at a time, two receivers",
            "1/s",
            ours("lane", "queue.2x2"),
            SLOTS,
            target="value>=3000000",
        ),
    ]
    rows += with_free_twin(
        Row(
            "lane.queue.oneway.spin",
            "queue, 64 B, two processes, both spinning, half a round trip",
            "us",
            ours("lane", "queue.oneway"),
            CACHE_LINE,
            [iceoryx2("oneway.spin"), Side("Boost.Interprocess", "boost", "oneway.spin")],
        )
    )
    rows += with_free_twin(
        Row(
            "lane.request.roundtrip",
            "a question of 64 B and its answer, two processes, both spinning; half of it",
            "us",
            ours("wait", "ask"),
            CACHE_LINE,
            [iceoryx2("request")],
        )
    )
    rows.append(
        Row(
            "lane.idle.cpu",
            "of a CPU, of 1,000 open channels with descriptors while nothing happens",
            "percent",
            ours("wait", "idle.cpu"),
            target="value<=0.1",
            pinned=False,
        )
    )
    rows.append(
        Row(
            "lane.idle.bytes",
            "of the pool, of an idle mailbox",
            "bytes",
            ours("wait", "idle.memory"),
            target="value<=2048",
            pinned=False,
        )
    )
    rows += with_free_twin(
        Row(
            "lane.nng.oneway",
            "ipc lane, descriptor of a 64 B block, half a round trip",
            "us",
            ours("nng", "oneway"),
            UNIX,
            [NNG, ZEROMQ],
        )
    )
    rows += [
        Row(
            "lane.nng.rate",
            "ipc lane, descriptors of 64 B blocks, each sent by itself",
            "1/s",
            ours("nng", "rate"),
            UNIX_RATE,
            [NNG_RATE, ZEROMQ_RATE],
        ),
        Row(
            "lane.nng.rate.batch",
            "ipc lane, the same in batches",
            "1/s",
            ours("nng", "rate.batch"),
            UNIX_RATE,
            [NNG_RATE, ZEROMQ_RATE],
            "row:lane.nng.rate>=20",
        ),
        Row(
            "lane.nng.tcp.oneway",
            "tcp lane over the loopback, descriptor of a 64 B block, half a round trip",
            "us",
            ours("nng", "tcp.oneway"),
            None,
            [Side("NNG", "nng-alone", "tcp.oneway")],
        ),
        Row(
            "lane.nng.tcp.rate.batch",
            "tcp lane over the loopback, descriptors of 64 B blocks in batches",
            "1/s",
            ours("nng", "tcp.rate.batch"),
            None,
            [Side("NNG", "nng-alone", "tcp.rate")],
        ),
        Row(
            "lane.nng.far",
            "blocks of 1 MiB in chunks over the loopback, to a receiver that cannot map their pool",
            "1/s",
            ours("nng", "tcp.far"),
            None,
            [Side("NNG", "nng-alone", "tcp.large")],
        ),
    ]
    return rows


def job_rows() -> list[Row]:
    def job(kind: str, transport: str, title: str, source: str = "files") -> Side:
        return Side(title, "python:job.py", f"{kind} {transport} {source}")

    def against_pipes(name: str, what: str, kind: str, target: str, source: str = "files") -> Row:
        return Row(
            name,
            what,
            "MB/s",
            job(kind, "block", "cuelight", source),
            job("read", "alone", "reading alone", source),
            [job(kind, "pipe", "the same over pipes", source)],
            target,
            pinned=False,
        )

    return [
        Row(
            "py.recv.numpy",
            "receive a block in Python, view it with numpy, look, release",
            "us",
            Side("cuelight", "python:recv.py", "numpy"),
            Side("the same in C", "lane", "recv.view"),
        ),
        against_pipes("job.wordcount", "the demo's job: read, hand over, count words, hand on", "wordcount", "peer>=1.0"),
        against_pipes("job.handover", "the same without counting", "handover", "peer>=3"),
        against_pipes("job.handover.1m", "the same input in files of 1 MiB, without counting", "handover", "peer>=3", "1m"),
        Row(
            "demo.down",
            "from the SIGKILL of a worker to its DOWN",
            "ms",
            job("down", "kill", "cuelight"),
            target="value<=50",
            pinned=False,
        ),
    ]


def managed_rows() -> list[Row]:
    def row(case: str, what: str, unit: str, limit: Side | None, target: str | None) -> Row:
        dragon = Side("dragonhpc", "original:dragonhpc:managed.py", case)
        return Row(f"py.managed_memory.{case}", what, unit, Side("cuelight", "python:managed.py", case), limit, [dragon], target)

    return [
        row("alloc", "allocate and free 64 B in Python, Dragon's interface", "us", Side("the same in C", "pool", "pair.64"), "peer<=0.2"),
        row("alloc.4procs", "the same, four processes in one pool, each of them all", "us", None, "peer<=1"),
        row("attach", "attach to an allocation by its bytes in Python, detach", "us", Side("a lease in C", "pool", "lease"), "peer<=0.333"),
        row("list", "list 100,000 allocations in Python", "ms", Side("walking them in C", "pool", "iterate.100k"), "peer<=1"),
        Row("py.import", "import cuelight", "ms", Side("cuelight", "python:managed.py", "import"), target="value<=50"),
    ]


def drop_in_rows() -> list[Row]:
    """Python modules under other libraries' names, and those libraries."""

    def row(family: str, case: str, what: str, unit: str, target: str, program_case: str = "") -> Row:
        package = {"mpmetrics": "mpmetrics", "npshm": "cdxcore", "npio": "cdxcore", "shmutils": "gridr"}[family]
        program_case = program_case or case
        original = Side(package, f"original:{package}:drop_in.py", program_case)
        name = f"py.{family}.{case.removeprefix(family + '.')}"
        return Row(name, what, unit, Side("cuelight", "python:drop_in.py", program_case), peers=[original], target=target)

    def m(case: str, what: str, target: str = "peer<=1", unit: str = "ns") -> Row:
        return row("mpmetrics", case, what, unit, target)

    lock = m("lock", "acquire and release a free Lock", "peer<=0.667")
    standard = Side("multiprocessing.Lock", "python:drop_in.py", "multiprocessing_lock")
    return [
        m("atomic.add", "AtomicInt64.add"),
        m("atomic.add.2procs", "the same, two processes, one word, each of both's"),
        m("atomic.get", "AtomicInt64.get"),
        m("atomic.set", "AtomicInt64.set"),
        m("double.add", "AtomicDouble.add"),
        m("double.add.2procs", "the same, two processes, one word, each of both's"),
        m("locking.add", "LockingInt64.add"),
        replace(lock, limit=standard, also=("limit<=1",)),
        m("lock.2procs", "the same, two processes, one lock, each of both's"),
        m("lock.with", "with lock: pass"),
        m("heap", "make a Heap", unit="us"),
        m("malloc", "Heap.malloc(64)", "peer<=0.2"),
        m("malloc.deref", "Heap.malloc(64).deref()", "peer<=0.2"),
        m("deref", "Block.deref()"),
        m("box.double", "Box[Double](heap)", "peer<=0.2"),
        m("box.atomic", "Box[AtomicInt64](heap)", "peer<=0.2"),
        m("box.struct", "Box of a Struct of two Doubles", "peer<=0.2"),
        m("box.array", "Box of an Array of ten Doubles", "peer<=0.2"),
        m("box.look-up", "Box[Array[Double, 5]]"),
        m("box.pickle", "pickle a box and load it, one process", unit="us"),
        m("value", "Double: value += 1"),
        m("dict10.get", "Dict of 10: get an item"),
        m("dict10.set", "Dict of 10: set an item"),
        m("dict1000.get", "Dict of 1000: get an item", "peer<=0.1"),
        m("dict1000.set", "Dict of 1000: set an item", "peer<=0.1"),
        m("list1000.get", "List of 1000: get an item", "peer<=0.1"),
        m("list1000.set", "List of 1000: set an item", "peer<=0.1"),
        m("append", "List.append, 0 to 1000"),
        row("npshm", "npshm.create", "create_shared_array, 1 MiB untouched", "us", "peer<=1"),
        row("npshm", "npshm.create_filled", "create_shared_array, 1 MiB, and fill it", "us", "peer<=1"),
        row("npshm", "npshm.attach", "attach_shared_array", "us", "peer<=1"),
        row("npshm", "npshm.delete", "delete_shared_array, 1 MiB that was filled", "us", "peer<=1"),
        row("npshm", "npshm.read_shared", "read_shared_array, 64 MiB", "MB/s", "peer>=1.5"),
        row("npio", "npio.from_file", "from_file, 64 MiB", "MB/s", "peer>=1"),
        row("npio", "npio.to_file", "to_file, 64 MiB", "MB/s", "peer>=1"),
        row("shmutils", "shmutils.create", "SharedMemoryArray.create, 1 MiB", "us", "peer<=1"),
        row("shmutils", "shmutils.create_filled", "SharedMemoryArray.create, 1 MiB, and fill it", "us", "peer<=1"),
        row("shmutils", "shmutils.load", "SharedMemoryArray.load and close", "us", "peer<=1"),
    ]


ROWS = pool_rows() + lane_rows() + job_rows() + managed_rows() + drop_in_rows()
