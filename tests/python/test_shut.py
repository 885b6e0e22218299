"""What ends a lane before its channel is closed, and what a receiver sees of messages that were dropped."""

import threading

import pytest

import cuelight as cue

KINDS = ["mailbox", "queue", "stream", "topic"]


@pytest.fixture(params=KINDS)
def lane(pool, request):
    """Both ends of a lane of each kind."""
    url = f"shm://{pool.name}/lane?kind={request.param}"
    with cue.open(url, "r") as r, cue.open(url, "w") as w:
        yield r, w


def test_a_loop_ends_when_its_lane_is_drained(lane):
    r, w = lane
    w.send_many([b"a", b"b", b"c"])
    assert r.drain() is False
    assert r.stats()["shut"] == 1
    assert [bytes(m) for m in r] == [b"a", b"b", b"c"]
    assert r.drain() is True
    with pytest.raises(cue.Closed):
        r.recv(timeout=5)


def test_senders_are_refused_until_the_next_receiver(pool):
    url = f"shm://{pool.name}/lane"
    with cue.open(url, "w") as w:
        with cue.open(url, "r") as r:
            r.drain()
            block = pool.alloc(100)
            with pytest.raises(cue.Closed, match="shut"):
                w.send(b"x", block=block, timeout=5)
            assert block.owned
            block.release()
        with cue.open(url, "r") as r:
            w.send(b"y")
            assert bytes(r.recv(5)) == b"y"


def test_drain_ends_another_threads_receive(lane):
    r, _ = lane
    got = []
    thread = threading.Thread(target=lambda: got.extend(r))
    thread.start()
    assert r.drain(timeout=30)
    thread.join()
    assert got == []


def test_a_sender_drains(lane):
    r, w = lane
    w.send_many([b"x"] * 50)
    assert w.drain(timeout=0.01) is False
    thread = threading.Thread(target=lambda: [r.recv(30) for _ in range(50)])
    thread.start()
    assert w.drain(timeout=30) is True
    thread.join()
    w.send(b"it goes on")
    assert bytes(r.recv(5)) == b"it goes on"


def test_discard(lane, pool):
    r, w = lane
    before = pool.stats()["blocks"]
    for _ in range(5):
        w.send(b"with", block=pool.alloc(5000))
    assert r.discard() == 5
    assert r.stats()["dropped"] == 5
    assert pool.stats()["blocks"] == before
    with pytest.raises(cue.Closed):
        r.recv(0)


def test_close_drains_or_discards(pool):
    url = f"shm://{pool.name}/lane"
    w = cue.open(url, "w")
    w.send_many([b"a", b"b"])
    with pytest.raises(cue.Timeout):
        w.close("drain", timeout=0)
    assert w.closed
    with pytest.raises(cue.Invalid, match="how"):
        w.close("somehow")
    r = cue.open(url, "r")
    r.close("discard")
    with cue.open(url, "r") as r, pytest.raises(cue.Empty):
        r.recv(0)
    w = cue.open(url, "w")
    with pytest.raises(cue.NotAllowed):
        w.close("discard")
    assert w.closed
    w.close("drain")  # a second time does nothing
    assert pool.stats()["blocks"] == 0


def test_a_sockets_receiver_leaves_to_the_next_what_had_not_arrived(pool, tmp_path):
    url = f"ipc://{tmp_path}/lane"
    with cue.open(url, "w", pool=pool, linger=20) as w:
        with cue.open(url, "r", pool=pool) as r:
            w.send_many([b"a", b"b", b"c"])
            assert bytes(r.recv(30)) == b"a"
            assert r.drain() is False
            w.send(b"d")
            assert [bytes(m) for m in r] == [b"b", b"c"]
            assert r.drain() is True
        with cue.open(url, "r", pool=pool) as r:
            assert bytes(r.recv(30)) == b"d"
            w.send_many([b"e", b"f"])
            assert bytes(r.recv(30)) == b"e"
            assert r.discard() == 1


def test_gaps(pool):
    url = f"shm://{pool.name}/lane?depth=2&full=drop-old"
    with cue.open(url, "r") as r, cue.open(url, "w") as w:
        w.send_many([b"a", b"b", b"c", b"d"])
        m = r.recv(5)
        assert (bytes(m), m.gap) == (b"c", 2)
        assert r.recv(5).gap == 0
        assert r.stats()["gaps"] == 2
