"""Queues and streams through cue.open: the same calls as on a mailbox."""

import subprocess
import sys

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


def test_what_the_dead_had_in_hand_is_given_again_and_then_buried(pool, tmp_path):
    url = f"shm://{pool.name}/jobs"
    take_and_die = f"import os, cuelight; m = cuelight.open({url!r}, 'r').recv(timeout=20); os.kill(os.getpid(), 9)"
    with (
        cue.open(url, "w", kind="queue", redeliver=1, dead="letters") as w,
        cue.open(f"shm://{pool.name}/letters", "r") as letters,
    ):
        w.send(b"again", tag=7)
        assert subprocess.run([sys.executable, "-c", take_and_die], check=False).returncode == -9
        with cue.open(url, "r") as r:
            m = r.recv(timeout=20)
            assert (bytes(m), m.tag, m.redelivered) == (b"again", 7, 1)
            m.release()
        w.send(b"too often")
        for _ in range(2):
            assert subprocess.run([sys.executable, "-c", take_and_die], check=False).returncode == -9
        with cue.open(url, "r") as r, pytest.raises(cue.Empty):  # whoever looks next buries it
            r.recv(timeout=1)
        assert bytes(letters.recv(timeout=20)) == b"too often"
        assert (w.stats()["redelivered"], w.stats()["dead"]) == (2, 1)


def test_a_late_subscriber_begins_with_history(pool):
    url = f"shm://{pool.name}/news"
    with cue.open(url, "w", kind="topic", history=2) as w:
        for i in range(5):
            w.send(str(i).encode())
        with cue.open(url, "r", kind="topic", history=2) as r:
            assert [bytes(r.recv(timeout=5)) for _ in range(2)] == [b"3", b"4"]
