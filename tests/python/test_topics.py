"""Topics: each message to all who subscribe; and what happens in a pool, as messages."""

import struct
import subprocess
import sys

import pytest

import cuelight as cue

BLOCK_UP, BLOCK_GONE, PARTY_UP = 0x7FFF0003, 0x7FFF0004, 0x7FFF0007
BLOCK_INFO = struct.Struct("QQQQQIIII i 64s")  # id key_id size capacity made_ns type state leases owner owner_pid name


def url(pool, rest):
    return f"shm://{pool.name}/{rest}"


def test_each_message_goes_to_all(pool):
    with (
        cue.open(url(pool, "news?kind=topic"), "w") as out,
        cue.open(url(pool, "news?kind=topic"), "r") as a,
        cue.open(url(pool, "news?kind=topic&depth=2&full=drop-old"), "r") as b,
    ):
        for n in range(5):
            out.send(b"%d" % n, tag=n + 1)
        assert [bytes(a.recv(5)) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
        late = b.recv(5)
        assert (bytes(late), late.tag) == (b"3", 4)
        assert bytes(b.recv(5)) == b"4"
        with pytest.raises(cue.Empty):
            b.recv(0)


def test_a_block_is_shared(pool):
    with (
        cue.open(url(pool, "frames?kind=topic"), "w") as out,
        cue.open(url(pool, "frames?kind=topic"), "r") as a,
        cue.open(url(pool, "frames?kind=topic"), "r") as b,
    ):
        block = pool.alloc(1 << 20, type=7)
        block.data[:5] = b"hello"
        out.send(block=block)
        one, two = a.recv(5), b.recv(5)
        assert bytes(one.block.data[:5]) == bytes(two.block.data[:5]) == b"hello"
        assert not one.block.owned


def test_publications_of_a_type_can_be_watched(pool):
    with cue.open(url(pool, "@blocks?type=7"), "r") as watch:
        pool.put(b"other", type=6, id=1).free()
        block = pool.put(b"weights", type=7, id=42)
        up = watch.recv(5)
        assert up.type == BLOCK_UP
        identity, key, size, *_ = BLOCK_INFO.unpack_from(bytes(up))
        assert (key, size) == (42, 7)
        assert bytes(pool.find(id=identity).data) == b"weights"
        block.free()
        gone = watch.recv(5)
        assert gone.type == BLOCK_GONE
        assert BLOCK_INFO.unpack_from(bytes(gone))[0] == identity
        with pytest.raises(cue.Empty):
            watch.recv(0)


def test_who_comes_can_be_watched(pool):
    with cue.open(url(pool, "@parties"), "r") as watch:
        code = f"import cuelight as cue; cue.Pool({pool.name!r}).close()"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
        came = watch.recv(30)
        assert came.type == PARTY_UP
        assert struct.unpack_from("Ii", bytes(came))[0] > 0
