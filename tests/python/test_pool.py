"""Pools: opening, allocating, finding, looking at the whole."""

import gc
import os
import pickle
import socket
import stat
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cuelight as cue
from conftest import objects


def test_a_pool_is_made_found_and_destroyed(name):
    with cue.Pool(name, "1MiB", create=True, label="maker") as pool:
        assert pool.name == name
        assert pool.stats()["size"] >= 1 << 20
        assert objects() == [f"{os.environ['CUE_PREFIX']}.{name}"]
        with pytest.raises(cue.Exists):
            cue.Pool(name, create=True)
        with cue.Pool(name, create=False) as again:
            assert again.uid == pool.uid
            assert repr(again) == f"<cuelight.Pool {name!r}>"
        assert again.closed
        again.close()
        assert "closed" in repr(again)
        assert not pool.closed
        pool.destroy()
        assert pool.closed
        with pytest.raises(cue.Gone):
            pool.alloc(1)
    assert objects() == []
    with pytest.raises(cue.NotFound):
        cue.Pool(name, create=False)


def test_an_empty_pool_vanishes_with_its_last_user(name):
    pool = cue.Pool(name)
    assert objects()
    del pool
    assert objects() == []


def test_a_persistent_pool_stays(name):
    cue.Pool(name, "1MiB", persist=True).close()
    with cue.Pool(name, create=False) as pool:
        pool.destroy()


def test_a_kept_block_keeps_its_pool(name):
    with cue.Pool(name, "1MiB") as pool:
        pool.put(b"stay", name="note")
    with cue.Pool(name, create=False) as pool:
        assert bytes(pool.find(name="note")) == b"stay"
        pool.find(name="note").free()
        with pytest.raises(cue.NotFound):
            pool.find(name="note")


def test_mode_uid_and_limits_are_taken(name):
    with cue.Pool(name, 1 << 20, mode=0o640, uid=0x1234, max_parties=3, max_blocks=2000) as pool:
        path = Path("/dev/shm", objects()[0])
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert pool.uid == 0x1234
        assert stat.S_IMODE(os.fstat(pool.fileno()).st_mode) == 0o640


@pytest.mark.parametrize(
    ("size", "room"), [("64k", 1 << 16), ("1MiB", 1 << 20), ("2 MB", 2 << 20), ("0.5m", 1 << 19), (100_000, 100_000)]
)
def test_sizes(name, size, room):
    with cue.Pool(name, size) as pool:
        assert room <= pool.stats()["size"] <= 2 * room + (4 << 20)


@pytest.mark.parametrize("size", ["", "many", "1X", "-1k", "nan", "inf", -1, "1e300"])
def test_bad_sizes(name, size):
    with pytest.raises(cue.Invalid):
        cue.Pool(name, size)


def test_a_size_is_a_number_or_a_text(name):
    with pytest.raises(TypeError):
        cue.Pool(name, 1.5)


@pytest.mark.parametrize("bad", ["", "a/b", "..", "a b", "x" * 64, "a\0b", "ü"])
def test_bad_names(bad):
    with pytest.raises(cue.Invalid):
        cue.Pool(bad)
    with pytest.raises(TypeError):
        cue.Pool(b"bytes")


def test_a_name_of_63_characters(name):
    cue.Pool(name.ljust(63, "x"), "1MiB").destroy()


def test_an_observer_takes_nothing(name, pool):
    pool.put(b"x", type=3, id=1)
    with cue.Pool(name, read_only=True) as watcher:
        assert [info.type for info in watcher.blocks()] == [3]
        with pytest.raises(cue.NotAllowed):
            watcher.alloc(1)
    assert pool.stats()["parties"] == 1


def test_blocks_of_one_owner(pool):
    mine = [pool.alloc(8), pool.alloc(16)]
    kept = pool.put(b"kept", type=5)
    me = pool.parties()[0].party
    assert sorted(info.size for info in pool.blocks(owner=me)) == [8, 16]
    assert [info.type for info in pool.blocks(owner=0)] == [5]
    assert list(pool.blocks(type=5, owner=me)) == []
    assert len(list(pool.blocks())) == 3
    with pytest.raises(cue.Invalid):
        list(pool.blocks(owner=100_000))
    with pytest.raises(cue.Invalid):
        list(pool.blocks(owner=-1))
    for block in [*mine, kept]:
        block.free()


def test_stats_count(pool):
    before = pool.stats()
    assert before["blocks"] == 0
    assert before["parties"] == 1
    block = pool.alloc(5000)
    kept = pool.put(b"1234")
    with pytest.raises(cue.TooBig):
        pool.alloc("1T")
    after = pool.stats()
    assert after["blocks"] == 2
    assert after["kept"] == 1
    assert after["used"] >= 5004
    assert after["peak"] >= after["used"]
    assert after["copied"] - before["copied"] == 4
    bytes(block)
    assert pool.stats()["copied"] - before["copied"] == 5004
    copy = kept.copy()
    assert pool.stats()["copied"] - before["copied"] == 5008
    assert bytes(copy.data) == b"1234"  # the memoryview's own copy is Python's
    assert pool.stats()["copied"] - before["copied"] == 5008
    copy.release()
    block.release()
    kept.free()
    assert pool.stats()["blocks"] == 0


def test_copied_is_counted_once_for_all_openings(name, pool):
    before = pool.stats()["copied"]
    with cue.Pool(name) as again:
        again.put(b"12345678")
        assert again.stats()["copied"] == pool.stats()["copied"] == before + 8


def test_alloc(pool):
    block = pool.alloc(1000, type=5, zero=True)
    assert (block.size, len(block), block.type, block.owned, block.name, block.key_id) == (1000, 1000, 5, True, None, 0)
    assert bytes(block) == bytes(1000)
    assert pool.alloc(0).size == 0
    assert pool.alloc("4k").size == 4096
    for align in (64, 4096, 1 << 21):
        assert pool.alloc(10, align=align).array().ctypes.data % align == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": -1}, cue.Invalid),
        ({"size": 1 << 64}, cue.TooBig),
        ({"size": 1 << 62}, cue.TooBig),
        ({"size": (1 << 64) - 1}, cue.TooBig),
        ({"size": 8, "type": -1}, cue.Invalid),
        ({"size": 8, "type": 1 << 32}, cue.Invalid),
        ({"size": 8, "type": 0x7FFF0000}, cue.Invalid),
        ({"size": 8, "id": -1}, cue.Invalid),
        ({"size": 8, "id": 3}, cue.Invalid),
        ({"size": 8, "align": 3}, cue.Invalid),
        ({"size": 8, "align": 1 << 22}, cue.Invalid),
        ({"size": 8, "name": "a/b"}, cue.Invalid),
        ({"size": 8, "name": "x" * 64}, cue.Invalid),
        ({"size": 8, "name": "a\0b"}, cue.Invalid),
        ({"size": 8, "name": 3}, cue.TypeMismatch),
        ({"size": 8, "timeout": float("nan")}, cue.Invalid),
        ({"size": 8, "timeout": "soon"}, TypeError),
        ({"size": 1.5}, TypeError),
        ({"size": None}, TypeError),
    ],
    ids=str,
)
def test_bad_allocations(pool, options, expected):
    with pytest.raises(expected):
        pool.alloc(**options)
    assert pool.stats()["blocks"] == 0


def test_a_full_pool_waits_for_room(name):
    with cue.Pool(name, "1MiB") as pool:
        blocks = []
        with pytest.raises(cue.NoMemory):
            while True:
                blocks.append(pool.alloc(100_000))
        assert len(blocks) >= 5
        start = time.monotonic()
        with pytest.raises(MemoryError):
            pool.alloc(100_000, timeout=0.12)
        assert 0.12 <= time.monotonic() - start < 5
        threading.Timer(0.1, lambda: blocks.pop().release()).start()
        pool.alloc(100_000, timeout=None).release()
        blocks.clear()


def test_keys(pool):
    pool.put(b"by key", type=7, id=42)
    pool.put(b"by name", name="frame-1")
    kept = pool.put(b"by automatic id")
    assert bytes(pool.find(type=7, id=42)) == b"by key"
    assert bytes(pool.find(name="frame-1")) == b"by name"
    assert bytes(pool.find(id=kept.id)) == b"by automatic id"
    assert pool.find(type=7, id=42).key_id == 42
    assert pool.find(name="frame-1").name == "frame-1"
    with pytest.raises(cue.Exists):
        pool.put(b"", type=7, id=42)
    with pytest.raises(cue.Exists):
        pool.alloc(1, name="frame-1")
    for missing in ({"type": 7, "id": 43}, {"name": "frame-2"}, {"type": 8, "id": 42}):
        with pytest.raises(KeyError):
            pool.find(**missing)
    assert pool.stats()["blocks"] == 3


def test_many_keys_at_once(pool):
    made = [pool.put(bytes([n % 251]), type=7, id=n + 1) for n in range(0, 1000, 2)]
    named = pool.put(b"by name", name="one")
    keys = [(7, n + 1) for n in range(1000)]
    found = pool.find_many(keys)
    assert [None if block is None else (block.key_id, bytes(block)) for block in found] == [
        None if n % 2 else (n + 1, bytes([n % 251])) for n in range(1000)
    ]
    assert not any(block.owned for block in found[::2])
    assert pool.find_ids(iter(keys)) == [None if n % 2 else made[n // 2].id for n in range(1000)]
    mixed = ["one", made[3].id, (7, 1), "nobody", (0, made[4].id), (8, 1), np.int64(made[5].id)]
    assert pool.find_ids(mixed) == [named.id, made[3].id, made[0].id, None, made[4].id, None, made[5].id]
    assert [block and bytes(block) for block in pool.find_many(mixed)] == [
        b"by name", b"\6", b"\0", None, b"\x08", None, b"\n"
    ]  # fmt: skip
    assert pool.find_many([]) == pool.find_ids(()) == []
    assert pool.find_many(["one"])[0].data.readonly
    pool.find_many(["one"], writable=True)[0].data[:2] = b"BY"
    assert bytes(named) == b"BY name"


def test_views_found_together_end_one_by_one(pool):
    made = [pool.put(b"x", type=7, id=n) for n in (1, 2, 3)]
    arrays = [block.array() for block in pool.find_many([(7, n) for n in (1, 2, 3)])]
    for block in made:
        block.free()
    assert pool.find_many([(7, n) for n in (1, 2, 3)]) == [None] * 3
    assert [array.tobytes() for array in arrays] == [b"x"] * 3
    assert pool.stats()["blocks"] == 3
    del arrays[1]
    assert pool.stats()["blocks"] == 2
    del arrays, block, made
    assert pool.stats()["blocks"] == 0


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (1.5, cue.TypeMismatch),
        (None, cue.TypeMismatch),
        ((7,), cue.TypeMismatch),
        ([7, 1], cue.TypeMismatch),
        ((7, -1), cue.Invalid),
        ((1 << 32, 1), cue.Invalid),
        (-1, cue.Invalid),
        ("x" * 64, cue.Invalid),
        ("a\0b", cue.Invalid),
        ((7, 1.5), TypeError),
    ],
    ids=str,
)
def test_one_key_that_is_none_and_nothing_is_held(pool, wrong, expected):
    kept = pool.put(b"x", type=7, id=1)
    for call in (pool.find_many, pool.find_ids):
        with pytest.raises(expected):
            call([(7, 1), wrong, (7, 1)])
    with pytest.raises(TypeError):
        pool.find_many(5)
    info = next(pool.blocks())
    kept.free()
    assert info.leases <= 1
    assert pool.stats()["blocks"] == 0


def test_an_observer_finds_ids_and_copies(name, pool):
    pool.put(b"watched", type=3, id=1)
    with cue.Pool(name, read_only=True) as watcher:
        ids = watcher.find_ids([(3, 1), (3, 2)])
        assert ids[1] is None
        assert watcher.read(ids[0]) == b"watched"
        with pytest.raises(cue.NotAllowed):
            watcher.find_many([(3, 1)])
    with pytest.raises(cue.Invalid, match="closed"):
        watcher.find_ids([(3, 1)])


def test_what_is_not_published_is_not_found(pool):
    block = pool.alloc(8, type=1, id=1)
    with pytest.raises(cue.NotFound):
        pool.find(type=1, id=1)
    with pytest.raises(cue.NotFound):
        pool.find(type=1, id=1, timeout=0.06)
    assert block.publish() is block
    assert not block.owned
    assert pool.find(type=1, id=1).info().state == "kept"


def test_find_waits_until_it_is_published(pool):
    block = pool.alloc(3, name="late")
    block.data[:] = b"now"
    threading.Timer(0.15, block.publish).start()
    assert bytes(pool.find(name="late", timeout=None)) == b"now"
    block.free()
    assert pool.stats()["blocks"] == 0


def test_publish_as_ones_own_goes_with_its_owner(pool):
    block = pool.alloc(3, name="mine").publish(mine=True)
    assert block.owned
    block.data[:] = b"abc"
    found = pool.find(name="mine")
    assert found.data.readonly
    assert bytes(found) == b"abc"
    block.release()
    assert bytes(found) == b"abc"
    with pytest.raises(cue.NotFound):
        pool.find(name="mine")


def test_keep_is_born_published_and_writable(pool):
    block = pool.alloc(4, keep=True, type=2, id=2)
    block.data[:] = b"kept"
    block.release()
    assert bytes(pool.find(type=2, id=2)) == b"kept"


def test_replacing_a_key(pool):
    old = pool.put(b"old", type=7, id=42)
    view = old.array()
    with pytest.raises(cue.Exists, match="type 7, id 42"):
        pool.put(b"new", type=7, id=42)
    block = pool.alloc(3, type=7, id=42, replace=True)
    assert bytes(pool.find(type=7, id=42)) == b"old"
    block.data[:] = b"new"
    block.publish()
    assert bytes(pool.find(type=7, id=42)) == b"new"
    assert bytes(view) == b"old"
    del view
    old.release()
    pool.put(b"newer", type=7, id=42, replace=True)
    assert bytes(pool.find(type=7, id=42)) == b"newer"
    a = pool.empty(5, "u1", type=7, id=42, replace=True)
    a[:] = 1
    cue.block_of(a).publish()
    assert pool.find(type=7, id=42).array().tolist() == [1] * 5
    del block, a
    assert pool.stats()["blocks"] == 1


def test_a_pool_without_a_name_is_handed_over(child):
    with cue.Pool(memfd=True, size="1MiB") as pool:
        assert pool.name == ""
        assert objects() == []
        pool.put(np.arange(5.0), type=1, id=1)
        other = child(
            """
            import sys
            import cuelight as cue
            with cue.Pool(fd=int(sys.argv[1])) as pool, cue.open("shm:///lane", "w", pool=pool) as w:
                a = w.pool.empty(5)
                a[:] = pool.find(type=1, id=1).array() * 2
                w.send(block=a)
            """,
            pool.fileno(),
            pass_fds=[pool.fileno()],
        )
        with cue.open("shm:///lane", "r", pool=pool) as r:
            assert r.recv(20).array().tolist() == [0, 2, 4, 6, 8]
        other.end()
        block = pool.find(type=1, id=1)
        assert pickle.loads(pickle.dumps(block)).array().sum() == 10
    with pytest.raises(cue.Invalid):
        cue.Pool(fd=0)
    with pytest.raises(cue.Invalid):
        cue.Pool()


def test_a_pool_in_a_file_stays(name, tmp_path):
    path = tmp_path / "pool"
    with cue.Pool(name, "1MiB", file=path) as pool:
        pool.put(b"durable", name="note")
    assert path.exists()
    assert objects() == []
    with cue.Pool(name, file=path, create=False) as pool:
        assert bytes(pool.find(name="note")) == b"durable"
        pool.destroy()
    assert not path.exists()


def test_blocks_lists_what_is_there(pool):
    made = [pool.put(b"x" * n, type=1 + n % 2) for n in range(1, 11)]
    mine = pool.alloc(77)
    rows = {row.id: row for row in pool.blocks()}
    assert {block.id for block in made} | {mine.id} == set(rows)
    row = rows[mine.id]
    assert isinstance(row, cue.BlockInfo)
    assert (row.size, row.state, row.owner_pid, row.made_ns, row.name) == (77, "owned", os.getpid(), 0, None)
    assert row.capacity >= 77
    assert rows[made[0].id].state == "kept"
    assert 0 < rows[made[0].id].made_ns <= time.monotonic_ns()
    assert sorted(row.size for row in pool.blocks(type=1)) == [2, 4, 6, 8, 10]
    assert sum(1 for _ in pool.blocks(type=0)) == 1
    assert list(pool.blocks(type=99)) == []


def test_check_and_trim(pool):
    blocks = [pool.alloc(1 << 20) for _ in range(10)]
    for block in blocks:
        block.data[:] = bytes(1 << 20)
    assert pool.check() == []
    assert pool.trim() >= 0
    blocks.clear()
    del block
    assert pool.trim() > 5 << 20
    assert pool.check(repair=True) == []


def test_descriptors(name, pool):
    block = pool.put(b"described", type=3)
    assert 16 <= len(block.descriptor) <= 128
    assert bytes(cue.attach(block.descriptor)) == b"described"
    assert bytes(pool.attach(bytearray(block.descriptor))) == b"described"
    part = block.view(2, 4)
    assert bytes(part) == b"scri"
    assert bytes(cue.attach(part.descriptor)) == b"scri"
    assert cue.attach_pool(pool.descriptor).uid == pool.uid
    with cue.Pool(name + ".b", "1MiB") as other, pytest.raises(cue.Invalid, match="not of"):
        other.attach(block.descriptor)
    with pytest.raises(cue.TypeMismatch):
        cue.attach(pool.descriptor)
    old = block.descriptor
    block.free()
    with pytest.raises(cue.Stale):
        pool.attach(old)
    for bad in (b"", b"x", old[:-1], bytes(128)):
        with pytest.raises(cue.Corrupt):
            cue.attach(bad)
    with pytest.raises(TypeError):
        cue.attach("text")


@given(st.binary(max_size=140))
def test_hostile_descriptors_are_refused(data):
    with pytest.raises((cue.Corrupt, cue.BadVersion)):
        cue.attach(data)


@given(st.integers(0, 127), st.integers(1, 255))
def test_a_changed_descriptor_never_gives_other_bytes(at, change):
    with cue.Pool(f"changed-{os.getpid()}", "1MiB") as pool:
        block = pool.put(b"these bytes")
        descriptor = bytearray(block.descriptor)
        descriptor[at % len(descriptor)] ^= change
        try:
            assert bytes(cue.attach(descriptor)) == b"these bytes"
        except (cue.Corrupt, cue.BadVersion, cue.Remote, cue.NotFound, cue.Stale):
            pass
        block.free()


def test_pickles_are_descriptors(pool):
    block = pool.put(np.arange(6.0).reshape(2, 3))
    again = pickle.loads(pickle.dumps(block))
    assert again is not block
    assert np.array_equal(again.array(), np.arange(6.0).reshape(2, 3))
    assert pickle.loads(pickle.dumps(pool)).uid == pool.uid
    text = pickle.dumps(block)
    again.free()
    with pytest.raises(cue.Stale):
        pickle.loads(text)


def test_blocks_keep_their_pool_open(name):
    block = cue.Pool(name, "1MiB").alloc(10)
    gc.collect()
    block.data[:] = b"0123456789"
    assert block.owned
    assert bytes(block) == b"0123456789"
    del block
    assert objects() == []


def test_allocations_are_limited_exactly(name):
    with cue.Pool(name, "4M", max_allocations=3) as pool:
        blocks = [pool.alloc(100) for _ in range(3)]
        with pytest.raises(cue.Limit):
            pool.alloc(1)
        with pytest.raises(cue.Limit):
            pool.alloc(1, timeout=0.01)
        blocks.pop().release()
        blocks.append(pool.alloc(5000))
        stats = pool.stats()
        assert (stats["max_allocations"], stats["blocks"], stats["failed"]) == (3, 3, 2)


def test_a_quota_limits_what_a_process_owns(name, child):
    with cue.Pool(name, "4M", quota="64k") as pool:
        block = pool.alloc("64k")
        with pytest.raises(cue.Limit):
            pool.alloc(1)
        with pytest.raises(cue.TooBig):
            pool.alloc("65k")
        assert [(p.pid, p.bytes, p.quota, p.dead) for p in pool.parties()] == [(os.getpid(), 65536, 65536, False)]
        block.publish()
        with pool.alloc("64k"):
            pass
        block.free()


def test_types_and_free_room_are_counted(pool):
    blocks = [pool.alloc(100, type=5 + n % 2, keep=n < 2) for n in range(5)]
    assert pool.types() == {5: cue.TypeInfo(3, 1, 384), 6: cue.TypeInfo(2, 1, 256)}
    stats = pool.stats()
    assert 0 < stats["largest"] <= stats["free"] < stats["size"]
    assert 0 < stats["taken"] <= stats["peak"]
    for block in blocks:
        block.free()


def test_an_observer_reads(name, pool):
    block = pool.put(b"x" * 3_000_000, type=3)
    with cue.Pool(name, read_only=True) as observer:
        (row,) = observer.blocks(3)
        assert observer.read(row.id) == b"x" * 3_000_000
        assert observer.read(row.id, 2_999_999) == b"x"
        assert observer.read(row.id, size=5) == b"xxxxx"
        assert observer.read(row.id, 5_000_000) == b""
        hidden = pool.alloc(10)
        with pytest.raises(cue.NotAllowed):
            observer.read(hidden.id)
        block.free()
        with pytest.raises(cue.Stale):
            observer.read(row.id)


def test_a_pool_goes_through_a_socket():
    ours, theirs = socket.socketpair()
    with cue.Pool(size="4M", memfd=True) as pool, ours, theirs:
        with pytest.raises(cue.Empty):
            cue.take(theirs, timeout=0.01)
        pool.put(b"here", name="what")
        pool.hand(ours)
        with cue.take(theirs, timeout=30, label="taker") as taken:
            assert taken.uid == pool.uid
            with taken.find(name="what") as block:
                assert bytes(block.data) == b"here"
        ours.send(b"no pool at all")
        with pytest.raises(cue.Corrupt):
            cue.take(theirs.fileno(), timeout=30)
        ours.close()
        with pytest.raises(cue.Closed):
            cue.take(theirs)
        pool.find(name="what").free()


def test_a_node_is_taken_or_refused(name):
    try:
        pool = cue.Pool(name, "1M", numa=0)
    except (cue.NotSupported, cue.NotAllowed) as why:
        pytest.skip(str(why))
    with pool:
        pool.alloc(5000).release()
    with pytest.raises(cue.Invalid):
        cue.Pool(name, "1M", numa=5000)


def test_huge_pages_or_a_word_why_not():
    try:
        pool = cue.Pool(size="2M", memfd=True, huge=True)
    except (cue.NotSupported, cue.NoMemory) as why:
        assert str(why)
        return
    with pool:
        pool.alloc("1M").release()
