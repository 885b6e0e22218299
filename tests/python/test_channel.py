"""Channels: what is sent arrives as it was held, once and in order; waits end as asked."""

import array
import gc
import queue
import threading
import time

import numpy as np
import pytest

import cuelight as cue
from conftest import objects


@pytest.fixture
def lane(pool):
    """Both ends of a mailbox in the pool."""
    with cue.open(f"shm://{pool.name}/lane", "r") as r, cue.open(f"shm://{pool.name}/lane", "w") as w:
        yield r, w


def test_bytes(lane, pool):
    r, w = lane
    w.send(b"hello", type=3, tag=4, key=5)
    m = r.recv(timeout=5)
    assert bytes(m) == b"hello"
    assert (m.type, m.tag, m.key, m.status, m.size, len(m), bool(m)) == (3, 4, 5, 0, 5, 5, True)
    assert m.block is None
    assert m.data.readonly
    assert m.data == b"hello"
    assert m.array().tolist() == list(b"hello")
    assert "type 3, 5 bytes" in repr(m)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", bytes(100_000), bytearray(b"abc"), memoryview(b"abcdef")[2:4], array.array("d", [1, 2]), np.arange(10.0)],
    ids=lambda d: type(d).__name__,
)
def test_any_buffer(lane, data):
    r, w = lane
    w.send(data)
    assert bytes(r.recv(5)) == bytes(memoryview(data).cast("B"))


@pytest.mark.parametrize("bad", ["text", 5, None, [1, 2], memoryview(b"abcd")[::2]], ids=repr)
def test_no_buffer(lane, bad):
    r, w = lane
    with pytest.raises((TypeError, BufferError)):
        w.send(bad)
    with pytest.raises(cue.Empty):
        r.recv(0)


def test_an_empty_message(lane):
    r, w = lane
    w.send()
    m = r.recv(5)
    assert (bytes(m), m.size, m.data.nbytes, m.array().size, m.block) == (b"", 0, 0, 0, None)


def test_an_owner_moves(lane, pool):
    r, w = lane
    block = pool.alloc(1000, type=9)
    block.data[:] = b"m" * 1000
    where = block.array().__array_interface__["data"][0]
    w.send(block=block)
    assert not block
    assert not block.owned
    with pytest.raises(cue.Moved):
        block.array()
    m = r.recv(5)
    assert m.block.owned
    assert (m.type, m.size, bytes(m)[:3]) == (9, 1000, b"mmm")
    a = m.array()
    assert a.flags.writeable
    assert a.__array_interface__["data"][0] == where
    a[0] = 1
    assert r.stats()["copied"] == 0
    kept = m.block
    m.release()
    assert kept.owned
    assert bytes(kept)[0] == 1


def test_bytes_and_a_block(lane, pool):
    r, w = lane
    block = pool.alloc(10)
    block.data[:] = b"0123456789"
    w.send(b"about it", block=block, type=2)
    m = r.recv(5)
    assert (bytes(m), m.type) == (b"about it", 2)
    assert bytes(m.block) == b"0123456789"
    block = m.block
    data = m.data
    del m
    assert bytes(block) == b"0123456789"
    assert data == b"about it"


def test_an_array_moves_with_dtype_and_shape(lane, pool):
    r, w = lane
    frame = w.pool.empty((12, 20, 3), "u1")
    frame[:] = np.arange(720, dtype="u2").astype("u1").reshape(12, 20, 3)
    expected = frame.copy()
    w.send(block=frame)
    assert not frame.flags.writeable
    assert np.array_equal(frame, expected)  # still readable here
    image = r.recv(5).array()
    assert image.shape == (12, 20, 3)
    assert np.array_equal(image, expected)
    image[0] = 255  # and it is the receiver's now: the same memory
    assert frame[0, 0, 0] == 255
    w.send(block=image)  # an array that was received goes on
    again = r.recv(5).array()
    assert again.shape == (12, 20, 3)
    w.send(block=again.reshape(720))  # another shape of the same memory
    assert r.recv(5).array().shape == (720,)


def test_fortran_order_travels(lane, pool):
    r, w = lane
    a = pool.empty((3, 4), "f8", order="F")
    a[:] = np.arange(12).reshape(3, 4)
    w.send(block=a)
    got = r.recv(5).array()
    assert got.flags.f_contiguous
    assert np.array_equal(got, np.arange(12).reshape(3, 4))
    w.send(block=got.T)
    assert r.recv(5).array().shape == (4, 3)


def test_only_whole_blocks_move(lane, pool):
    r, w = lane
    a = pool.empty((10, 10))
    for part in (a[1:], a[:, 1:], a[::-1]):
        with pytest.raises(cue.Invalid):
            w.send(block=part)
    with pytest.raises(cue.TypeMismatch):
        w.send(block=np.zeros(3))
    with pytest.raises(cue.TypeMismatch):
        w.send(block=b"bytes")
    a[:] = 1
    assert a.flags.writeable
    w.send(block=a)
    with pytest.raises(cue.Moved):
        w.send(block=a)
    assert r.recv(5).array().sum() == 100


def test_a_block_of_another_pool_does_not_move(lane, name):
    _, w = lane
    with cue.Pool(name + ".other", "1MiB") as other:
        block = other.alloc(10)
        with pytest.raises(cue.NotOwner):
            w.send(block=block)
        assert block.owned


def test_a_view_moves_as_a_view(lane, pool):
    r, w = lane
    kept = pool.put(np.arange(10.0), name="kept")
    w.send(block=pool.find(name="kept"))
    m = r.recv(5)
    assert not m.block.owned
    assert not m.array().flags.writeable
    assert m.array().sum() == 45
    w.send(block=pool.find(name="kept"))
    del m
    kept.free()
    m = r.recv(5)
    assert m.status == cue.Stale.code
    with pytest.raises(cue.Stale):
        print(m.block)
    with pytest.raises(cue.Stale):
        m.array()


def test_order_and_many(lane, pool):
    r, w = lane
    blocks = [pool.alloc(8) for _ in range(3)]
    array = pool.empty(2)
    went = w.send_many([b"a", *blocks, b"b", array, b"c" * 5000] + [b"%d" % i for i in range(200)], type=0, timeout=5)
    assert went == 207
    assert not any(blocks)
    assert not array.flags.writeable
    got = []
    while len(got) < 207:
        got += r.recv_many(100, timeout=5)
    assert [bytes(m) for m in got[7:]] == [b"%d" % i for i in range(200)]
    assert bytes(got[0]) == b"a"
    assert [m.size for m in got[1:4]] == [8, 8, 8]
    assert got[5].array().shape == (2,)
    assert got[6].size == 5000
    assert r.recv_many(0) == []
    with pytest.raises(cue.Empty):
        r.recv_many(5, timeout=0)
    assert w.send_many([]) == 0


def test_send_many_gives_back_what_did_not_go(pool):
    url = f"shm://{pool.name}/small"
    with cue.open(url, "r", depth=4) as r, cue.open(url, "w") as w:
        blocks = [pool.alloc(8) for _ in range(10)]
        went = w.send_many(blocks, timeout=0)
        assert 4 <= went < 10
        assert [bool(b) for b in blocks] == [False] * went + [True] * (10 - went)
        assert all(b.owned for b in blocks[went:])
        with pytest.raises(cue.Full):
            w.send_many(blocks[went:], timeout=0)
        with pytest.raises(cue.Moved):
            w.send_many(blocks, timeout=0)
        twice = pool.alloc(1)
        with pytest.raises(cue.Busy):
            w.send_many([twice, twice], timeout=0)
        assert twice.owned
        assert len(r.recv_many(20, timeout=5)) == went
        taken = []
        taker = threading.Thread(target=lambda: taken.extend(r.recv_many(1, 5)[0] for _ in range(10 - went)))
        taker.start()
        assert w.send_many(blocks[went:], timeout=5) == 10 - went
        taker.join(10)
        assert len(taken) == 10 - went


def test_full_and_empty(pool):
    url = f"shm://{pool.name}/small"
    with cue.open(url, "r", depth=2) as r, cue.open(url, "w") as w:
        start = time.monotonic()
        with pytest.raises(queue.Empty):
            r.recv(timeout=0.12)
        assert 0.12 <= time.monotonic() - start < 5
        with pytest.raises(TimeoutError):
            r.recv(timeout=-1)
        block = pool.alloc(10)
        sent = 0
        with pytest.raises(queue.Full):
            while True:
                w.send(b"x", timeout=0)
                sent += 1
        start = time.monotonic()
        with pytest.raises(cue.Full):
            w.send(block=block, timeout=0.12)
        assert 0.12 <= time.monotonic() - start < 5
        assert block.owned
        assert r.stats()["refused"] >= 1
        other = threading.Timer(0.1, lambda: r.recv(5).release())
        other.start()
        w.send(block=block, timeout=None)
        other.join()  # only one thread at a time may receive
        assert not block
        for _ in range(sent - 1):
            r.recv(5).release()
        assert r.recv(5).size == 10


def test_release_while_sending_is_honoured(pool):
    url = f"shm://{pool.name}/small"
    with cue.open(url, "r", depth=1) as r, cue.open(url, "w") as w:
        with pytest.raises(cue.Full):
            while True:
                w.send(b"", timeout=0)
        block = pool.alloc(10, type=77)
        result = []

        def send():
            try:
                w.send(block=block, timeout=0.4)
            except cue.Full as e:
                result.append(e)

        thread = threading.Thread(target=send)
        thread.start()
        end = time.monotonic() + 5
        while block and time.monotonic() < end:
            time.sleep(0.002)
        with pytest.raises(cue.Busy):
            block.array()
        block.release()
        thread.join(10)
        assert len(result) == 1
        assert list(pool.blocks(type=77)) == []
        assert not block
        r.recv_many(10, 0)


@pytest.mark.parametrize("full", ["drop-new", "drop-old"])
def test_drops_are_counted(pool, full):
    url = f"shm://{pool.name}/{full}?full={full}&depth=4"
    with cue.open(url, "r") as r, cue.open(url, "w") as w:
        for i in range(8):  # a receiver trims to depth, senders go no further than twice that
            w.send(b"%d" % i, timeout=0)
        got = []
        with pytest.raises(cue.Empty):
            while True:
                got.append(int(bytes(r.recv(0))))
        assert got == ([0, 1, 2, 3] if full == "drop-new" else [4, 5, 6, 7])
        assert r.stats()["dropped"] == 4


def test_iterating(pool):
    url = f"shm://{pool.name}/lane"
    r, w = cue.open(url, "r"), cue.open(url, "w")
    for i in range(5):
        w.send(b"%d" % i)
    got = []
    for m in r:
        got.append(int(bytes(m)))
        if len(got) == 5:
            r.close()
    assert got == [0, 1, 2, 3, 4]
    w.close()


def test_closing(pool):
    url = f"shm://{pool.name}/lane"
    r, w = cue.open(url, "r"), cue.open(url, "w")
    assert repr(r) == f"<cuelight.Channel {url}, opened to receive>"
    w.send(b"before")
    m = r.recv(5)
    view, a = m.data, m.array()
    r.close()
    r.close()
    assert r.closed
    assert repr(r) == f"<cuelight.Channel {url}, closed>"
    for call in (r.recv, r.stats, lambda: r.pool, lambda: r.recv_many(1), r.wake, lambda: next(r)):
        with pytest.raises((cue.Closed, StopIteration)):
            call()
    assert bytes(m) == view == bytes(a) == b"before"
    w.close()
    with pytest.raises(EOFError):
        w.send(b"")
    with pytest.raises(EOFError):
        w.send_many([b""])


@pytest.mark.parametrize("what", ["recv", "send"])
def test_closing_ends_the_waits_of_other_threads(pool, what):
    url = f"shm://{pool.name}/lane"
    r, w = cue.open(url, "r", depth=1), cue.open(url, "w")
    if what == "send":
        with pytest.raises(cue.Full):
            while True:
                w.send(b"", timeout=0)
    result = []

    def wait():
        try:
            r.recv() if what == "recv" else w.send(b"")
        except cue.Error as e:
            result.append(type(e))

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.1)
    start = time.monotonic()
    (r if what == "recv" else w).close()
    thread.join(10)
    assert result == [cue.Closed]
    assert time.monotonic() - start < 9
    w.close()
    r.close()


def test_one_receiver_at_a_time(pool):
    url = f"shm://{pool.name}/lane"
    with cue.open(url, "r") as r:
        with pytest.raises(cue.Busy):
            cue.open(url, "r")

        def receive():
            while True:
                try:
                    return r.recv(10)
                except cue.Busy:
                    pass  # the other was quicker

        thread = threading.Thread(target=receive)
        thread.start()
        with pytest.raises(cue.Busy):
            while thread.is_alive():
                try:
                    r.recv(0)
                except cue.Empty:
                    time.sleep(0.001)
        with cue.open(url, "w") as w:
            w.send(b"")
            thread.join(10)
        assert not thread.is_alive()
        r.wake()
        with pytest.raises(cue.Empty):
            r.recv(0.06)


def test_directions(lane):
    r, w = lane
    with pytest.raises(cue.Invalid):
        r.send(b"")
    with pytest.raises(cue.Invalid):
        w.recv(0)


def test_a_lane_of_one_type(pool):
    url = f"shm://{pool.name}/typed"
    with cue.open(url, "r", type=7) as r, cue.open(url, "w") as w:
        w.send(b"right", type=7)
        for wrong in (8, 0):
            with pytest.raises(cue.TypeMismatch):
                w.send(b"wrong", type=wrong)
        with pytest.raises(cue.TypeMismatch):
            w.send(b"", type=0x7FFF0001)
        with pytest.raises(cue.Invalid):
            w.send(b"", type=-1)
        assert bytes(r.recv(5)) == b"right"


def test_the_largest_message(pool):
    url = f"shm://{pool.name}/max?max=1k"
    with cue.open(url, "r") as r, cue.open(url, "w") as w:
        w.send(bytes(1024))
        with pytest.raises(cue.TooBig):
            w.send(bytes(1025))
        assert r.recv(5).size == 1024


@pytest.mark.parametrize(
    ("url", "how", "options", "expected"),
    [
        ("", "r", {}, cue.Invalid),
        ("nonsense", "r", {}, cue.Invalid),
        ("shm://", "r", {}, cue.Invalid),
        ("shm://{pool}", "r", {}, cue.Invalid),
        ("shm://{pool}/", "r", {}, cue.Invalid),
        ("shm://{pool}/a/b", "r", {}, cue.Invalid),
        ("shm://{pool}/lane?depth=many", "r", {}, cue.Invalid),
        ("shm://{pool}/lane?unknown=1", "r", {}, cue.Invalid),
        ("shm://{pool}/lane?kind=heap", "r", {}, cue.Invalid),
        ("gopher://x", "r", {}, cue.Invalid),
        ("shm://{pool}/lane", "x", {}, cue.Invalid),
        ("shm://{pool}/lane", None, {}, cue.Invalid),
        ("shm://{pool}/lane", "r", {"kind": "heap"}, cue.Invalid),
        ("shm://{pool}/lane", "r", {"full": 3}, cue.Invalid),
        ("shm://{pool}/lane", "r", {"depth": -1}, cue.Invalid),
        ("shm://{pool}/lane", "r", {"spin": -1}, cue.Invalid),
        ("shm://{pool}/lane", "r", {"bytes": "lots"}, cue.Invalid),
        ("shm://{pool}/lane", "r", {"role": "host"}, cue.Invalid),
        ("shm://{pool}/lane", "r", {"colour": 1}, TypeError),
        (None, "r", {}, cue.Invalid),
        (3, "r", {}, TypeError),
    ],
    ids=str,
)
def test_bad_channels(pool, url, how, options, expected):
    if isinstance(url, str):
        url = url.format(pool=pool.name)
    with pytest.raises(expected):
        cue.open(url, how, **options)


def test_a_name_that_is_a_blocks(pool):
    pool.put(b"", name="taken")
    with pytest.raises(cue.Exists):
        cue.open(f"shm://{pool.name}/taken", "r")


def test_the_pool_of_a_channel(pool):
    with cue.open("shm:///lane", "rw", pool=pool) as ch:
        assert ch.pool.uid == pool.uid
        assert ch.pool is ch.pool
        a = ch.pool.empty(10)
        a[:] = 4
        ch.send(block=a)
        got = ch.recv(5).array()
        ch.pool.close()
        assert ch.pool.stats()["parties"] == 1
    assert got.sum() == 40


def test_stats(lane, pool):
    r, w = lane
    before = pool.stats()["copied"]
    w.send(b"12345")
    w.send(block=pool.alloc(1000))
    stats = r.stats()
    assert (stats["kind"], stats["depth"], stats["sent"], stats["queued"], stats["received"]) == ("mailbox", 1024, 2, 2, 0)
    r.recv_many(2, 5)
    stats = w.stats()
    assert (stats["queued"], stats["received"], stats["bytes"], stats["copied"]) == (0, 2, 1005, 5)
    assert pool.stats()["copied"] == before + 5
    w.send(b"12345")
    bytes(r.recv(5))
    assert pool.stats()["copied"] == before + 15  # into the message, and out of it


def test_messages_outlive_everything(name):
    pool = cue.Pool(name, "1MiB")
    r, w = cue.open(f"shm://{name}/lane", "r"), cue.open(f"shm://{name}/lane", "w")
    w.send(b"small")
    w.send(b"large" * 5000)
    w.send(b"both", block=pool.put(b"block"))
    messages = r.recv_many(3, 5)
    views = [m.data for m in messages]
    arrays = [m.array("u1") for m in messages]
    block = messages[2].block
    data = block.data
    for end in (r.close, w.close, pool.destroy, pool.close, messages.clear, gc.collect):
        end()
        assert [bytes(v[:5]) for v in views] == [b"small", b"large", b"both"]
        assert [bytes(a[:5]) for a in arrays] == [b"small", b"large", b"both"]
        assert data == b"block"
    del block, data, views
    assert bytes(arrays[1][-5:]) == b"large"
    del arrays
    assert objects() == []


def test_a_released_message_says_so(lane, pool):
    r, w = lane
    w.send(b"x")
    with r.recv(5) as m:
        view = m.data
    assert view == b"x"
    assert not m
    assert "released" in repr(m)
    for call in (lambda: m.data, lambda: bytes(m), lambda: m.array(), lambda: m.block, lambda: len(m)):
        with pytest.raises(cue.Moved):
            call()
    m.release()


def test_message_arrays(lane):
    r, w = lane
    w.send(np.arange(6.0))
    m = r.recv(5)
    a = m.array("f8", (2, 3))
    assert np.array_equal(a, np.arange(6.0).reshape(2, 3))
    assert not a.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        a.flags.writeable = True
    assert m.array("f8", offset=8).tolist() == [1, 2, 3, 4, 5]
    with pytest.raises(cue.Invalid):
        m.array("f8", 7)
    with pytest.raises(cue.TypeMismatch):
        m.array("O")
    assert a.__array_interface__["data"][0] % 16 == 0


def test_unreceived_messages_wait_for_the_next_receiver(name):
    url = f"shm://{name}/lane"
    with cue.open(url, "w") as w:
        w.send(b"first")
        w.send(block=w.pool.alloc(5))
    with cue.open(url, "r") as r:
        assert bytes(r.recv(5)) == b"first"
        assert r.recv(5).size == 5
    assert objects() == []


def test_nothing_waits_for_the_collector(lane, pool):
    r, w = lane
    lanes = pool.stats()["blocks"]
    gc.disable()
    try:
        for _ in range(20):
            w.send(b"bytes", block=pool.alloc(100))
            w.send(block=pool.empty(10))
            m = r.recv(5)
            a, b = m.array(), m.block.array()
            c = r.recv(5).array()
            del m, a, b, c
        assert pool.stats()["blocks"] == lanes
    finally:
        gc.enable()


def test_many_threads_send(lane):
    r, w = lane
    each = 500

    def send(sender):
        for i in range(each):
            w.send(b"%d" % i, tag=sender)

    threads = [threading.Thread(target=send, args=(s,)) for s in range(4)]
    for t in threads:
        t.start()
    got = {s: [] for s in range(4)}
    for _ in range(4 * each):
        m = r.recv(20)
        got[m.tag].append(int(bytes(m)))
    for t in threads:
        t.join(10)
    assert all(numbers == list(range(each)) for numbers in got.values())
