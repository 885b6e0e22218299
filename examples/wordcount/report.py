"""The report of the word count: merges the workers' tables, prints what came out, and draws a picture.

The tables are C structs (format.h). Over cuelight this program gets file numbers over an ``ipc://`` channel, finds each
table in the pool's manifest by type and number, views its entries as a numpy array where they lie, merges and frees it, and
acknowledges the number. A number that comes a second time, because its worker was killed and another did the work again, is
acknowledged and its table freed, but not counted. Over pipes the same structs come as bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import cuelight as cue

WC_TABLE, WC_SUMMARY, WC_READY, WC_ACKS = 2, 3, 6, 8  # format.h
LONG_WORD = 1 << 63
HEAD = struct.Struct("<IIQ")  # type, version, size
TABLE = struct.Struct("<IIQ 4Q 3q Q II 40x")
SUMMARY = struct.Struct("<IIQ 9Q 2q 2Q 4Q 104x")
ENTRY = np.dtype([("key", "<u8"), ("count", "<u8"), ("letters", "<u8")])


def _letters_at(table: memoryview, at: int) -> bytes:
    """Return the letters of a long word, which end with a 0."""
    for size in (64, 4096, len(table)):
        letters, end, _ = bytes(table[at : at + size]).partition(b"\0")
        if end:
            return letters
    raise ValueError("a word runs over the end of its table")


class Words:
    """All words so far and how often they came: a hash table in two numpy arrays, filled a batch of tables at a time."""

    def __init__(self) -> None:
        self._bits = 16
        self._keys = np.zeros(1 << self._bits, "u8")  # 0: empty
        self._counts = np.zeros(1 << self._bits, "u8")
        self._letters: dict[int, bytes] = {}  # of the long words
        self._filled = 0

    def add(self, tables: list[tuple[memoryview, np.ndarray]]) -> None:
        """Add the entries of some tables.

        Parameters
        ----------
        tables : list of (memoryview, ndarray of ENTRY)
            A whole table, for the letters of its long words, and the view of its entries; nothing of them is kept.
        """
        if not tables:
            return
        ends = np.cumsum([len(entries) for _, entries in tables])
        while 4 * (self._filled + int(ends[-1])) > len(self._keys):  # sparse: few keys are not where they belong
            self._grow()
        keys = np.concatenate([entries["key"] for _, entries in tables])
        counts = np.concatenate([entries["count"] for _, entries in tables])
        new = self._put(keys, counts)
        for i in new[keys[new] >= LONG_WORD].tolist():
            which = int(np.searchsorted(ends, i, "right"))
            data, entries = tables[which]
            letters = int(entries["letters"][i - int(ends[which])])  # counted from the end of the entries
            self._letters[int(keys[i])] = _letters_at(data, letters)

    def _put(self, keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """Add the counts; indexes of the keys that were not there before, one a key. Linear probing, all at a time."""
        slots = ((keys * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - self._bits)).astype("i8")
        found = self._keys[slots] == keys
        np.add.at(self._counts, slots[found], counts[found])
        left = np.flatnonzero(~found)
        new = []
        while len(left):
            key, slot = keys[left], slots[left]
            empty = self._keys[slot] == 0
            self._keys[slot[empty]] = key[empty]  # of several with one slot the last stays, the others go on
            found = self._keys[slot] == key
            np.add.at(self._counts, slot[found], counts[left[found]])
            new.append(left[found & empty])
            left = left[~found]
            slots[left] = (slots[left] + 1) & (len(self._keys) - 1)
        if not new:
            return left
        first = np.concatenate(new)
        first = first[np.unique(keys[first], return_index=True)[1]]
        self._filled += len(first)
        return first

    def _grow(self) -> None:
        used = self._keys != 0
        keys, counts = self._keys[used], self._counts[used]
        self._bits += 2
        self._filled = 0
        self._keys = np.zeros(1 << self._bits, "u8")
        self._counts = np.zeros(1 << self._bits, "u8")
        self._put(keys, counts)

    def _spell(self, key: int) -> str:
        if key >= LONG_WORD:
            return self._letters[key].decode("ascii")
        letters = []
        while key:
            letters.append(chr(ord("a") - 1 + (key & 31)))
            key >>= 5
        return "".join(reversed(letters))

    def top(self, n: int | None = None) -> list[tuple[str, int]]:
        """Return the `n` commonest words (None: all), the commonest first, ties in alphabetical order."""
        used = np.flatnonzero(self._keys)
        counts = self._counts[used]
        if n == 0:
            return []
        if n is not None and n < len(used):
            least = np.partition(counts, len(counts) - n)[len(counts) - n]
            used = used[counts >= least]
        pairs = [(self._spell(int(k)), int(c)) for k, c in zip(self._keys[used], self._counts[used], strict=True)]
        return sorted(pairs, key=lambda p: (-p[1], p[0]))[:n]

    @property
    def different(self) -> int:
        """How many different ones."""
        return self._filled


@dataclass
class Result:
    """What the tables said, beside the words."""

    words: Words = field(default_factory=Words)
    merged: set[int] = field(default_factory=set)
    handed: list[int] = field(default_factory=list)  # ns from reader to worker, a value a file
    idle: list[int] = field(default_factory=list)  # 1: that worker was waiting
    told: list[int] = field(default_factory=list)  # ns from worker to report
    copied: dict[int, int] = field(default_factory=dict)  # payload bytes that the library copied, by process
    bytes: int = 0
    total: int = 0  # words
    numbers: int = 0  # received, doubles included
    acks: int = 0  # messages that acknowledged them
    doubles: int = 0
    peak: int = 0  # of the pool

    def take(self, data: memoryview, entries: Callable[[int], np.ndarray], now: int) -> tuple[memoryview, np.ndarray] | None:
        """Note one table and what it says; the table for `Words.add`, or None if its number was merged before.

        Parameters
        ----------
        data : memoryview
            The table.
        entries : callable
            Makes the view of its entries, given how many there are.
        now : int
            When its number arrived, ns of the monotonic clock.

        Raises
        ------
        ValueError
            It is not a table, or longer than the bytes that are there.
        """
        kind, version, size, number, nbytes, words, n, handed, _counted, sent, copied, pid, idle = TABLE.unpack_from(data)
        if kind != WC_TABLE or version != 1 or size > len(data) or n > (size - TABLE.size) // ENTRY.itemsize:
            raise ValueError(f"not a table: type {kind}, version {version}, {size} bytes, {n} entries")
        self.copied[pid] = copied
        if number in self.merged:
            self.doubles += 1
            return None
        self.merged.add(number)
        self.bytes += nbytes
        self.total += words
        self.handed.append(handed)
        self.idle.append(idle)
        self.told.append(now - sent)
        return data, entries(n)


@dataclass
class Summary:
    """The reader's last word, field by field as in format.h."""

    files: int
    bytes: int
    compressed: int
    compressed_bytes: int
    unreadable: int
    too_large: int
    sent: int
    resent: int
    acknowledged: int
    elapsed_ns: int
    down_ns: int
    copied: int
    piped: int
    workers: dict[int, int]  # what each that ended in order has copied, by process

    @classmethod
    def of(cls, data: memoryview) -> Summary:
        *values, pid1, copied1, pid2, copied2 = SUMMARY.unpack_from(data)[3:]
        return cls(*values, {pid1: copied1, pid2: copied2})


def from_lane(pool_name: str, ids_url: str, done_url: str, result: Result) -> Summary:
    """Merge the tables of a pool, by the numbers that come over a channel, until the summary comes."""
    with (
        cue.Pool(pool_name, create=False, label="report") as pool,
        cue.open(ids_url, "r", pool=pool) as ids,
        cue.open(done_url, "w") as done,
    ):
        done.send(type=WC_READY)
        while True:
            messages = ids.recv_many(256)
            now = time.monotonic_ns()
            result.numbers += len(messages)
            numbers = [m.tag for m in messages if m.type == WC_TABLE]
            merge(pool, numbers, now, result)
            if numbers:
                acks = done.pool.empty(len(numbers), "u8", type=WC_ACKS, timeout=None)
                acks[:] = numbers
                done.send(type=WC_ACKS, block=acks)
                result.acks += 1
            for m in messages:
                if m.type == WC_SUMMARY:
                    with pool.find(type=WC_SUMMARY, id=m.tag, timeout=5) as block:
                        summary = Summary.of(block.data)
                    stats = pool.stats()
                    result.peak = stats["peak"]
                    result.copied[os.getpid()] = stats["copied"]
                    for pid, copied in summary.workers.items():
                        result.copied[pid] = max(copied, result.copied.get(pid, 0))
                    return summary


def merge(pool: cue.Pool, numbers: list[int], now: int, result: Result) -> None:
    """Find the tables of these files, view their entries where they lie, merge and free them."""
    blocks, tables = [], []
    for number in numbers:
        block = find(pool, number, result)
        if block is None:
            continue
        blocks.append(block)
        table = result.take(block.data, lambda n, block=block: block.array(ENTRY, (n,), offset=TABLE.size), now)
        if table is not None:
            tables.append(table)
    result.words.add(tables)
    tables.clear()
    for block in blocks:
        with contextlib.suppress(cue.Stale):  # made twice, and the reader has freed the second one
            block.free()


def find(pool: cue.Pool, number: int, result: Result) -> cue.Block | None:
    """Look a table up by type and number; None if it was merged before and there is no second one."""
    try:
        return pool.find(type=WC_TABLE, id=number, timeout=0 if number in result.merged else 5)
    except cue.NotFound:
        if number not in result.merged:
            raise
        result.doubles += 1  # told twice, by the worker that was killed and by the one that took over; published once
        return None


def from_pipes(frames: list[int], done: int, result: Result) -> Summary:
    """Merge the tables that come as bytes through pipes, until the summary comes."""
    os.write(done, struct.pack("<Q", 0))
    with selectors.DefaultSelector() as ready:
        for fd in frames:
            ready.register(fd, selectors.EVENT_READ)
        tables, numbers, summary = [], [], None
        while ready.get_map():
            come = ready.select(0 if numbers else None)
            for key, _ in come:
                data = read_frame(key.fd)
                if data is None:
                    ready.unregister(key.fd)
                    continue
                now = time.monotonic_ns()
                result.numbers += 1
                if HEAD.unpack_from(data)[0] == WC_SUMMARY:
                    summary = Summary.of(data)
                    continue
                table = result.take(data, lambda n, data=data: np.frombuffer(data, ENTRY, count=n, offset=TABLE.size), now)
                numbers.append(TABLE.unpack_from(data)[3])
                if table is not None:
                    tables.append(table)
            if len(numbers) >= 256 or not come or summary is not None:
                result.words.add(tables)
                os.write(done, struct.pack(f"<{len(numbers)}Q", *numbers))
                result.acks += 1
                tables.clear()
                numbers.clear()
            if summary is not None:
                return summary
    raise EOFError("the reader and all workers have gone")


def read_frame(fd: int) -> memoryview | None:
    """Read one struct of format.h; None where the pipe ends, also in the middle of one."""
    head = read_exactly(fd, HEAD.size)
    if head is None:
        return None
    size = HEAD.unpack(head)[2]
    rest = read_exactly(fd, size - HEAD.size)
    return None if rest is None else memoryview(head + rest)


def read_exactly(fd: int, size: int) -> bytearray | None:
    """Read so many bytes, or None if the pipe ends before."""
    data = bytearray(size)
    at = 0
    with memoryview(data) as view:
        while at < size:
            n = os.readv(fd, [view[at:]])
            if n == 0:
                return None
            at += n
    return data


def micros(ns: np.ndarray) -> str:
    """Format median and 99th percentile in microseconds."""
    if not len(ns):
        return "none"
    median, p99 = np.percentile(ns, [50, 99]) / 1e3
    return f"median {median:8.1f} us   99 % {p99:9.1f} us"


def print_report(result: Result, s: Summary, top: list[tuple[str, int]], pipes: bool) -> None:
    """Print what came out."""
    seconds = s.elapsed_ns / 1e9
    messages = s.sent + result.numbers + result.acks
    handed, idle = np.array(result.handed), np.array(result.idle, bool)
    print(f"the {len(top)} commonest of {result.total:,} words ({result.words.different:,} different)")
    width = len(f"{top[0][1]:,}") if top else 0
    for word, count in top:
        print(f"  {count:>{width},}  {word}")
    skipped = f"{s.compressed:,} compressed, {s.unreadable:,} unreadable, {s.too_large:,} too large for the pool"
    print(f"files             {len(result.merged):,}   skipped: {skipped}")
    print(f"bytes             {result.bytes:,}")
    print(f"seconds           {seconds:.3f}   {s.bytes / 1e6 / seconds:,.1f} MB/s   {messages / seconds:,.0f} messages/s")
    print(f"hand-over         reader to worker        {micros(handed)}   (waiting in the queue included)")
    print(f"                  to a waiting worker     {micros(handed[idle])}   ({idle.sum():,} of {len(handed):,})")
    print(f"                  worker to report        {micros(np.array(result.told))}")
    if pipes:
        print(f"payload copied    {2 * s.piped:,} bytes into pipes and out of them, tables not counted")
    else:
        print(f"payload copied    {s.copied + sum(result.copied.values()):,} bytes, counted by the library in each process")
        print(f"pool's peak use   {result.peak / 2**20:.1f} MiB")
    if s.down_ns >= 0:
        print(f"worker killed     DOWN came after {s.down_ns / 1e6:.3f} ms")
    if s.resent or result.doubles:
        print(f"after a death     {s.resent:,} files were sent again, {result.doubles:,} numbers came twice and counted once")


def draw(path: Path, result: Result, top: list[tuple[str, int]]) -> None:
    """Draw the commonest words, and the histogram of the hand-over times."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (words, times) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    words.barh([w for w, _ in top][::-1], [n for _, n in top][::-1], color="#356")
    words.set_title(f"the {len(top)} commonest words")
    words.set_xlabel("times")

    handed, idle = np.array(result.handed) / 1e3, np.array(result.idle, bool)
    series = {
        "reader to worker, in a queue": handed[~idle],
        "reader to a waiting worker": handed[idle],
        "worker to report": np.array(result.told) / 1e3,
    }
    everything = np.concatenate([v for v in series.values() if len(v)] or [np.array([1.0])])
    bins = np.geomspace(max(everything.min(), 0.1), max(everything.max(), 1.0) * 1.01, 60)
    for label, values in series.items():
        times.hist(np.maximum(values, bins[0]), bins=bins, histtype="step", label=label, linewidth=1.5)
    times.set_xscale("log")
    times.set_xlabel("microseconds from send to first look")
    times.set_ylabel("files")
    times.set_title("hand-over times")
    times.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write_words(path: Path, words: Words) -> None:
    """Write all words, the commonest first, a line each: count, space, word."""
    with path.open("w", encoding="ascii") as f:
        f.writelines(f"{count} {word}\n" for word, count in words.top())


def main() -> int:
    """Run the report until the reader's summary has come."""
    parser = argparse.ArgumentParser(description="The report of the word count; started by the program wordcount.")
    parser.add_argument("--picture", type=Path, help="write a picture to this file")
    parser.add_argument("--words", type=Path, help="write all words and their counts to this file")
    parser.add_argument("--top", type=int, default=20, help="how many words to print")
    by_reader = parser.add_argument_group("added by the reader")
    by_reader.add_argument("--pool")
    by_reader.add_argument("--ids", help="URL of the channel with the numbers")
    by_reader.add_argument("--done", help="URL of the channel for acknowledgements")
    by_reader.add_argument("--frames", help="descriptors of the pipes")
    by_reader.add_argument("--done-fd", type=int)
    args = parser.parse_args()

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches everybody; the reader decides, and sends SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    result = Result()
    if args.frames:
        summary = from_pipes([int(fd) for fd in args.frames.split(",")], args.done_fd, result)
    elif args.pool and args.ids and args.done:
        summary = from_lane(args.pool, args.ids, args.done, result)
    else:
        parser.error("it is started by wordcount: wordcount FOLDER -- python report.py")

    if len(result.merged) != summary.files or result.bytes != summary.bytes:
        print(f"report: merged {len(result.merged)} files, the reader says {summary.files}", file=sys.stderr)
        return 1
    top = result.words.top(args.top)
    print_report(result, summary, top, pipes=bool(args.frames))
    if args.words:
        write_words(args.words, result.words)
    if args.picture:
        try:
            draw(args.picture, result, top)
            print(f"picture           {args.picture}")
        except ImportError as missing:
            print(f"picture           none: {missing}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
