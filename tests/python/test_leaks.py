"""Many rounds leave nothing: no block, no descriptor, no mapping, no object, no memory."""

import gc
import resource
import sys

import numpy as np
import pytest

import cuelight as cue
from conftest import ROUNDS, descriptors, objects


def mappings() -> int:
    with open("/proc/self/maps") as maps:
        return sum(1 for line in maps if "/dev/shm" in line)


def resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def round_alloc(pool, i):
    block = pool.alloc(1 + i % 5000)
    block.data[:1] = b"x"
    if i % 3 == 0:
        block.free()


def round_arrays(pool, i):
    a = pool.empty((1 + i % 40, 7), "f4")
    a[0, 0] = i
    view = a[:, 2:]
    assert a.base is not None
    assert view.shape[1] == 5


def round_put_find(pool, i):
    pool.put(b"value", type=5, id=1 + i)
    found = pool.find(type=5, id=1 + i)
    a = found.array()
    found.free()
    assert a[0] == ord("v")


def round_attach(pool, i):
    block = pool.put(np.arange(3))
    a = cue.attach(block.descriptor).array()
    block.free()
    assert a[2] == 2


def round_errors(pool, i):
    with pytest.raises(cue.NotFound):
        pool.find(name="nothing")
    with pytest.raises(cue.TooBig):
        pool.alloc(1 << 50)
    block = pool.alloc(10)
    block.release()
    with pytest.raises(cue.Moved):
        block.array()


def round_copy_publish(pool, i):
    block = pool.alloc(100).publish(mine=True)
    copy = block.copy()
    copy.resize(50)
    copy.publish().free()


@pytest.mark.seconds(max(40, ROUNDS // 50))
@pytest.mark.parametrize("one", [f for name, f in sorted(globals().items()) if name.startswith("round_")], ids=lambda f: f.__name__)
def test_rounds(pool, one):
    for i in range(200):
        one(pool, i)
    gc.collect()
    before = descriptors(), mappings(), objects()
    memory, python = resident(), sys.getallocatedblocks()
    for i in range(ROUNDS):
        one(pool, i)
    gc.collect()
    assert (descriptors(), mappings(), objects()) == before
    assert sys.getallocatedblocks() - python < 1000  # what is kept once
    assert pool.stats()["blocks"] == 0
    assert pool.stats()["used"] == 0
    assert pool.check() == []
    assert resident() - memory < 16 << 20  # the pool itself is 64 MiB at most


@pytest.mark.seconds(max(40, ROUNDS // 50))
@pytest.mark.parametrize("kind", ["mailbox", "queue", "stream", "topic"])
def test_messages(pool, kind):
    url = f"shm://{pool.name}/lane?kind={kind}"
    with cue.open(url, "r") as r, cue.open(url, "w") as w:

        def one(i):
            w.send(b"bytes" * (1 + i % 50))
            w.send(block=pool.empty(10))
            w.send(b"both", block=pool.alloc(100))
            a, b, c = r.recv(5), r.recv(5), r.recv(5)
            kept = a.array(), b.array(), c.data, c.block
            del a, b, c
            assert len(kept[0]) == 5 * (1 + i % 50)
            with pytest.raises(cue.Empty):
                r.recv(timeout=0)

        for i in range(200):
            one(i)
        gc.collect()
        before = descriptors(), mappings(), objects(), pool.stats()["blocks"]
        memory, python = resident(), sys.getallocatedblocks()
        for i in range(ROUNDS):
            one(i)
        gc.collect()
        assert (descriptors(), mappings(), objects(), pool.stats()["blocks"]) == before
        assert sys.getallocatedblocks() - python < 1000
        assert pool.stats()["in_flight"] == 0
        assert resident() - memory < 16 << 20


@pytest.mark.seconds(max(40, ROUNDS // 50))
@pytest.mark.parametrize("kind", ["mailbox", "queue", "stream", "topic"])
def test_opening_channels(pool, kind):
    url = f"shm://{pool.name}/lane?kind={kind}"

    def one():
        with cue.open(url, "r") as r, cue.open(url, "w") as w:
            w.send(b"both", block=w.pool.alloc(10))
            w.send(block=w.pool.alloc(20))
            w.send(b"bytes")
            m, n = r.recv_many(2, 5)
            r.recv(5)
        assert m.data == b"both"
        assert (m.block.size, n.block.size) == (10, 20)

    for _ in range(10):
        one()
    gc.collect()
    before = descriptors(), mappings()
    python = sys.getallocatedblocks()
    for _ in range(ROUNDS):
        one()
    gc.collect()
    assert (descriptors(), mappings()) == before
    assert sys.getallocatedblocks() - python < 1000
    assert pool.stats()["blocks"] == 0


@pytest.mark.seconds(max(40, ROUNDS // 50))
def test_opening_many_times(name):
    gc.collect()
    start = mappings()
    with cue.Pool(name, "1MiB"):
        before = descriptors(), mappings()
        for _ in range(ROUNDS):
            with cue.Pool(name) as again:
                again.alloc(10)
        assert (descriptors(), mappings()) == before
    for _ in range(ROUNDS // 5):
        with cue.Pool(name, "1MiB") as pool:
            a = pool.empty(10)
        a[:] = 1
        del a
    assert descriptors() <= before[0]
    assert mappings() == start
    assert objects() == []
