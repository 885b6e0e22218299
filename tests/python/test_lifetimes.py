"""Views keep their memory: whatever is released, freed, closed or destroyed meanwhile, in every order."""

import gc
import itertools
import threading
import weakref

import numpy as np
import pytest

import cuelight as cue
from conftest import objects

ENDS = {
    "release": lambda pool, block: block.release(),
    "free": lambda pool, block: block.free(),
    "close": lambda pool, block: pool.close(),
    "destroy": lambda pool, block: pool.destroy(),
}


@pytest.mark.parametrize("order", list(itertools.permutations(ENDS, 2)) + list(itertools.permutations(ENDS, 3)), ids="-".join)
@pytest.mark.parametrize("kind", ["owner", "view", "empty"])
def test_arrays_outlive_everything(name, order, kind):
    pool = cue.Pool(name, "1MiB")
    if kind == "view":
        pool.put(np.arange(1000), name="x")
        block = pool.find(name="x")
        a = block.array()
    elif kind == "owner":
        block = pool.alloc(8000)
        a = block.array("i8")
        a[:] = np.arange(1000)
    else:
        a = pool.empty(1000, "i8")
        a[:] = np.arange(1000)
        block = cue.block_of(a)
    view = memoryview(block)
    part = a[500:]
    for end in order:
        try:
            ENDS[end](pool, block)
        except (cue.Moved, cue.Stale, cue.Gone, cue.Invalid) as e:
            assert order.index(end) > 0, e  # only after another end
        assert np.array_equal(a, np.arange(1000))
    if not pool.closed:  # its room is not given to another as long as we look
        for _ in range(50):
            pool.alloc(8000).array()[:] = 255
    del block, a
    gc.collect()
    assert np.array_equal(part, np.arange(500, 1000))
    assert np.frombuffer(view, "i8")[7] == 7
    cue.Pool(name).destroy()  # what was published has stayed


def test_blocks_after_their_pool_say_so(name):
    pool = cue.Pool(name, "1MiB")
    block = pool.alloc(10)
    pool.close()
    for call in (lambda: block.array(), lambda: block.data, lambda: block.id, lambda: block.publish(), lambda: bytes(block)):
        with pytest.raises(cue.Error):
            call()
    assert not block.owned
    assert "gone" in repr(block)
    block.release()
    block.release()
    for call in (pool.stats, pool.check, pool.trim, lambda: pool.alloc(1), lambda: list(pool.blocks()), lambda: pool.descriptor):
        with pytest.raises(cue.Invalid, match="is closed"):
            call()


def test_an_empty_handle_says_so(pool):
    block = pool.alloc(10)
    with block as same:
        assert same is block
    assert not block
    assert repr(block) == "<cuelight.Block, empty>"
    for call in (
        lambda: block.size,
        lambda: len(block),
        lambda: block.array(),
        lambda: memoryview(block),
        lambda: block.view(),
        lambda: block.copy(),
        lambda: block.free(),
        lambda: block.publish(),
        lambda: block.resize(1),
        lambda: block.info(),
        lambda: block.descriptor,
    ):
        with pytest.raises(cue.Moved):
            call()
    block.release()


def test_free_twice(pool):
    block = pool.put(b"x")
    again = pool.find(id=block.id)
    block.free()
    with pytest.raises(cue.Moved):
        block.free()
    assert bytes(again) == b"x"
    with pytest.raises(cue.Stale):
        again.free()
    assert pool.stats()["blocks"] == 0


def test_a_freed_block_stays_while_it_is_looked_at(pool):
    block = pool.put(b"x" * 5000)
    found = pool.find(id=block.id)
    a = found.array()
    block.free()
    assert found.info().state == "doomed"
    assert found.array()[4999] == ord("x")
    assert pool.stats()["used"] > 0
    found.release()
    assert a[4999] == ord("x")
    del a
    assert pool.stats()["used"] == 0


def test_the_lease_ends_with_the_last_view(pool):
    block = pool.put(bytes(100))
    assert block.info().leases == 1
    a, b, c = block.array(), block.array("f4"), block.data
    other = block.view()
    block.release()
    del a, b
    assert other.info().leases == 1
    c.release()
    del c
    assert other.info().leases == 1
    info = next(pool.blocks())
    assert info.leases == 1
    other.release()
    assert next(pool.blocks()).leases == 0
    pool.find(id=info.id).free()


def test_released_memoryviews_release_the_lease(pool):
    block = pool.alloc(100)
    with memoryview(block) as view:
        assert block.info().leases == 1
        assert len(view) == 100
    assert block.info().leases == 0


def test_nothing_waits_for_the_collector(pool):
    """All goes by reference counts: no cycles are made."""
    gc.collect()
    gc.disable()
    try:
        block = pool.alloc(100)
        a = block.array()
        gone = weakref.ref(block)
        del a, block
        assert gone() is None
        pool.empty(10)
        pool.put(np.arange(3)).free()
        assert pool.stats()["blocks"] == 0
    finally:
        gc.enable()


def test_cycles_are_collected(pool):
    class Holder:
        pass

    holder = Holder()
    holder.me = holder
    holder.array = pool.empty(100)
    holder.view = memoryview(cue.block_of(holder.array))
    del holder
    gc.collect()
    assert pool.stats()["blocks"] == 0


def test_a_block_is_not_made_by_hand():
    for cls in (cue.Block, cue.Message):
        with pytest.raises(TypeError):
            cls()


def test_two_openings_are_one(name):
    one = cue.Pool(name, "1MiB")
    two = cue.Pool(name)
    block = one.alloc(100)
    a = block.array()
    one.close()
    block.data[0] = 7  # the process is still a party
    assert two.stats()["blocks"] == 1
    two.close()
    assert a[0] == 7
    assert not block.owned
    del a
    assert objects() == []


def test_destroy_through_another_opening(name):
    one = cue.Pool(name, "1MiB")
    two = cue.Pool(name)
    a = one.empty(10)
    a[:] = 3
    two.destroy()
    with pytest.raises(cue.Error):
        one.alloc(1)
    assert a.sum() == 30


def test_threads_share_a_pool(pool):
    errors = []

    def work(seed):
        try:
            rng = np.random.default_rng(seed)
            held = []
            for i in range(500):
                a = pool.empty(int(rng.integers(1, 5000)), "u1")
                a[:] = i % 256
                held.append((i % 256, a))
                if len(held) > 20:
                    value, old = held.pop(int(rng.integers(0, len(held))))
                    assert (old == value).all()
                if i % 50 == 0:
                    pool.put(b"x" * 100, type=seed + 1, id=i + 1)
                    assert pool.find(type=seed + 1, id=i + 1).size == 100
                    pool.find(type=seed + 1, id=i + 1).free()
        except BaseException as e:
            errors.append(e)
            raise

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert errors == []
    assert pool.stats()["blocks"] == 0


@pytest.mark.parametrize(("end", "error"), [("close", cue.Invalid), ("destroy", cue.Gone)])
def test_a_waiting_thread_survives(name, end, error):
    pool = cue.Pool(name, "1MiB")
    started = threading.Event()
    results = []

    def wait():
        started.set()
        try:
            pool.find(name="never", timeout=20)
        except cue.Error as e:
            results.append(e)

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait(5)
    getattr(pool, end)()
    thread.join(10)
    assert [type(e) for e in results] == [error]
    pool.close()
