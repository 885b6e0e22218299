"""Queues and streams through cue.open: the same calls as on a mailbox."""

import numpy as np
import pytest

import cuelight as cue


@pytest.mark.parametrize("kind", ["queue", "stream"])
def test_messages_and_blocks_in_order(pool, kind):
    url = f"shm://{pool.name}/lane"
    with cue.open(url, "r", kind=kind, depth=50) as r, cue.open(url, "w", kind=kind) as w:
        for i in range(20):
            w.send(str(i).encode(), type=3, tag=i)
        frame = pool.empty(1000, "f8")
        frame[:] = np.arange(1000.0)
        w.send(block=frame)
        for i in range(20):
            m = r.recv(timeout=5)
            assert (bytes(m), m.type, m.tag) == (str(i).encode(), 3, i)
        assert r.recv(timeout=5).array("f8").tolist() == list(range(1000))
        with pytest.raises(cue.Empty):
            r.recv(timeout=0)
        stats = r.stats()
        assert (stats["kind"], stats["depth"], stats["sent"], stats["received"]) == (kind, 50, 21, 21)


def test_a_queue_has_many_receivers(pool):
    url = f"shm://{pool.name}/jobs?kind=queue&redeliver=3"
    with cue.open(url, "r") as a, cue.open(url, "r") as b, cue.open(url, "w") as w:
        for i in range(10):
            w.send(str(i).encode())
        assert [int(bytes((a, b)[i % 2].recv(timeout=5))) for i in range(10)] == list(range(10))


def test_a_stream_has_one_receiver(pool):
    url = f"shm://{pool.name}/lane?kind=stream"
    with cue.open(url, "r"), pytest.raises(cue.Busy):
        cue.open(url, "r")
    with cue.open(url, "w"), pytest.raises(cue.Busy):
        cue.open(url, "w")


def test_a_kind_is_kept(pool):
    url = f"shm://{pool.name}/lane"
    with cue.open(url, "r", kind="queue"), pytest.raises(cue.TypeMismatch):
        cue.open(url, "w", kind="stream")
