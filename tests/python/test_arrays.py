"""Arrays in blocks: without a copy, with their dtype and shape, never beyond the block."""

import array
import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import cuelight as cue


def address(x) -> int:
    return x.__array_interface__["data"][0]


def test_array_is_the_blocks_memory(pool):
    block = pool.alloc(800)
    a = block.array("f8")
    b = block.array("f8", (10, 10))
    a[:] = np.arange(100)
    assert b[3, 4] == 34
    assert address(a) == address(b) == address(np.frombuffer(block, "u1"))
    assert a.flags.writeable
    assert not a.flags.owndata
    block.data[:8] = np.float64(7).tobytes()
    assert a[0] == 7


@pytest.mark.parametrize(
    ("dtype", "shape", "offset", "expected"),
    [
        ("f8", None, 0, (12,)),
        ("f8", None, 8, (11,)),
        ("f4", (4, 6), 0, (4, 6)),
        ("f4", (4, -1), 0, (4, 6)),
        ("f4", -1, 0, (24,)),
        ("u1", 5, 91, (5,)),
        ("u1", (), 95, ()),
        ("u2", (0, 7), 96, (0, 7)),
        ("f4", [2, 3], 1, (2, 3)),
        ([("a", "u1"), ("b", "f4")], 19, 1, (19,)),
    ],
)
def test_shapes(pool, dtype, shape, offset, expected):
    block = pool.alloc(96)
    a = block.array(dtype, shape, offset)
    assert a.shape == expected
    assert a.dtype == np.dtype(dtype)
    assert address(a) == address(block.array()) + offset


@pytest.mark.parametrize(
    ("dtype", "shape", "offset"),
    [
        ("f8", 13, 0),
        ("f8", 12, 1),
        ("f8", None, 1),
        ("f8", (5, -1), 0),
        ("f8", (-1, -1), 0),
        ("f8", (0, -1), 0),
        ("f8", -2, 0),
        ("f8", (1 << 62, 8), 0),
        ("u1", (1 << 40, 1 << 40), 0),
        ("u1", None, 97),
        ("u1", None, -1),
        ("u1", 1 << 70, 0),
    ],
)
def test_an_array_never_leaves_its_block(pool, dtype, shape, offset):
    block = pool.alloc(96)
    with pytest.raises(cue.Invalid):
        block.array(dtype, shape, offset)


def test_objects_do_not_lie_in_shared_memory(pool):
    block = pool.alloc(64)
    for dtype in ("O", [("a", "O")], "no such type"):
        with pytest.raises(cue.TypeMismatch):
            block.array(dtype)
        with pytest.raises(TypeError):
            pool.empty(3, dtype)
    with pytest.raises(cue.TypeMismatch):
        pool.put(np.array([1, "x", None], dtype=object))
    with pytest.raises(cue.TypeMismatch):
        pool.put({"a": 1})
    assert pool.stats()["blocks"] == 1


def test_empty_is_an_array_in_a_new_block(pool):
    a = pool.empty((3, 4), "i2", type=9)
    a[:] = 5
    block = cue.block_of(a)
    assert (block.size, block.type, block.owned) == (24, 9, True)
    assert bytes(block) == np.full(12, 5, "i2").tobytes()
    assert cue.block_of(a[1:, ::2]) is block
    assert cue.block_of(memoryview(a)) is block
    assert cue.block_of(block) is block
    assert pool.empty(7).dtype == np.float64
    assert pool.empty((), zero=True) == 0
    assert pool.empty((2, 3), order="F").flags.f_contiguous
    with pytest.raises(cue.Invalid):
        pool.empty(3, order="K")
    with pytest.raises(cue.Invalid):
        pool.empty(-1)
    with pytest.raises(cue.TooBig):
        pool.empty((1 << 40, 1 << 40))
    with pytest.raises(cue.TypeMismatch):
        cue.block_of(np.zeros(3))


def test_an_array_that_goes_frees_its_block(pool):
    a = pool.empty(1000)
    assert pool.stats()["blocks"] == 1
    b = a[10:20]
    del a
    assert pool.stats()["blocks"] == 1
    b[:] = 1
    del b
    assert pool.stats()["blocks"] == 0


def test_publishing_makes_arrays_read_only(pool):
    a = pool.empty(10, name="result")
    others = [cue.block_of(a).array() for _ in range(20)]
    a[:] = 1
    cue.block_of(a).publish()
    for x in [a, *others]:
        assert not x.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 2
    with pytest.raises(ValueError, match="WRITEABLE"):
        a.flags.writeable = True
    found = pool.find(name="result")
    assert np.array_equal(found.array(), np.ones(10))
    assert found.array().dtype == np.float64


def test_views_are_read_only_unless_asked(pool):
    pool.put(np.zeros(4), name="x")
    found = pool.find(name="x")
    assert found.data.readonly
    assert not found.array().flags.writeable
    with pytest.raises(TypeError, match="not writable"):
        ctypes.c_char.from_buffer(found)
    with pytest.raises(ValueError, match="WRITEABLE"):
        found.array().flags.writeable = True
    writer = pool.find(name="x", writable=True)
    writer.array()[0] = 5
    writer.data[8:16] = np.float64(6).tobytes()
    assert list(found.array()) == [5, 6, 0, 0]
    found.array(writable=True)[2] = 7
    assert not writer.array(writable=False).flags.writeable
    assert list(found.array()) == [5, 6, 7, 0]
    assert list(found.view(16, writable=True).array("f8")) == [7, 0]
    found.view(16, writable=True).array("f8")[1] = 8
    assert list(found.array()) == [5, 6, 7, 8]


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12.0).reshape(3, 4),
        np.arange(12.0).reshape(3, 4).T,
        np.arange(100, dtype="u2")[::3],
        np.arange(24).reshape(2, 3, 4)[:, ::2, 1:],
        np.zeros((0, 3), "i4"),
        np.array(3.5),
        np.array([True, False]),
        np.array(["abc", "d"]),
        np.array([b"xy", b""]),
        np.array(["2026-01-01", "2030-12-31"], "M8[D]"),
        np.array([(1, 2.5, [1, 2])], [("a", "u1"), ("b", ">f8"), ("c", "i2", (2,))]),
        np.arange(5, dtype=">i4"),
        np.arange(5, dtype="c16"),
        np.arange(7, dtype="f2"),
    ],
    ids=lambda a: f"{a.dtype.str}{a.shape}",
)
def test_put_brings_dtype_and_shape(pool, value):
    block = pool.put(value, type=1)
    assert block.size == value.nbytes  # nothing but the array's bytes, for a reader in C
    again = pool.attach(block.descriptor).array()
    assert again.dtype == value.dtype
    assert again.shape == value.shape
    assert np.array_equal(again, value)
    assert bytes(block) == (value.T if value.flags.f_contiguous else np.ascontiguousarray(value)).tobytes()
    block.free()


@settings(max_examples=60, deadline=None)
@given(
    npst.arrays(
        st.one_of(npst.scalar_dtypes(), npst.array_dtypes(allow_subarrays=False, max_size=3)).filter(lambda d: d.itemsize > 0),
        npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_put_any_array(value):
    with cue.Pool("put_any_array", "1MiB") as pool:
        block = pool.put(value)
        again = block.array()
        assert again.dtype == value.dtype
        assert again.shape == value.shape
        assert again.tobytes() == value.tobytes()
        block.free()


def test_put_buffers(pool):
    assert bytes(pool.put(b"bytes")) == b"bytes"
    assert bytes(pool.put(bytearray(b"more"))) == b"more"
    assert pool.put(b"").size == 0
    assert bytes(pool.put(memoryview(b"abcdef")[::2])) == b"ace"
    assert pool.put(b"plain").array().dtype == np.uint8
    numbers = pool.put(array.array("d", [1, 2, 3])).array()
    assert numbers.dtype == np.float64
    assert list(numbers) == [1, 2, 3]
    grid = pool.put(memoryview(bytes(range(6))).cast("B", (2, 3))).array()
    assert grid.shape == (2, 3)
    assert pool.put((ctypes.c_int32 * 3)(1, 2, 3)).array("i4").tolist() == [1, 2, 3]
    assert bytes(pool.put(pool.put(b"a block"))) == b"a block"
    for block in pool.blocks():
        pool.find(id=block.id).free()


def test_an_old_tag_in_reused_memory_does_not_count(pool):
    a = pool.empty((4, 4), "f4")
    where = address(a)
    a[:] = 1
    del a
    for _ in range(200):  # the same place again, of the same size, without a tag
        block = pool.alloc(64 + 32 + 16 + 3)
        block.resize(64)
        if address(block.array()) == where:
            break
    assert address(block.array()) == where
    assert block.array().dtype == np.uint8


def test_a_forged_tag_is_refused(pool):
    block = cue.block_of(pool.empty((4, 4), "f4"))
    tag = (ctypes.c_char * 51).from_address(address(block.array()) + 64)
    assert tag[:8] == b"cuearray"
    good = tag[:]
    for at, value in [(32, 5), (32, 255), (40, 0), (48, ord("?")), (50, ord("8"))]:
        tag[:] = good
        tag[at] = value
        with pytest.raises(cue.Corrupt):
            block.array()
    for at, value in [(16, 65), (20, 255), (0, 0), (8, good[8] ^ 1)]:  # no tag at all
        tag[:] = good
        tag[at] = value
        if at in (16, 20):
            tag[at + 1] = 255
        assert block.array().dtype == np.uint8
    tag[:] = good
    assert block.array().shape == (4, 4)


def test_a_part_of_an_array_is_bytes(pool):
    block = pool.put(np.arange(8.0))
    part = block.view(0, 16)
    assert part.array().dtype == np.uint8
    assert block.view(8).array().dtype == np.uint8
    assert list(block.view(8, 16).array("f8")) == [1, 2]
    assert block.view().array().dtype == np.float64


def test_resize(pool):
    block = pool.alloc(1000)
    before = block.array()
    assert block.info().capacity >= 1000
    block.resize(10)
    assert (block.size, len(block.array()), len(before), len(block.data)) == (10, 10, 1000, 10)
    block.resize("1k" if block.info().capacity >= 1024 else 1000)
    with pytest.raises(cue.TooBig):
        block.resize(block.info().capacity + 1)
    with pytest.raises(cue.Invalid):
        block.resize(-1)
    found = pool.put(b"x")
    with pytest.raises(cue.NotOwner):
        found.resize(0)
    found.free()


def test_copy(name, pool):
    block = pool.put(np.arange(1000.0))
    with cue.Pool(name + ".other", "1MiB") as other:
        copy = block.copy(other, type=4, id=4)
        assert copy.owned
        assert bytes(copy) == bytes(block)
        copy.publish()
        assert other.find(type=4, id=4).size == 8000
        other.destroy()
    with pytest.raises(cue.NoMemory):
        while True:
            pool.put(bytes(1 << 20))
    big = next(info.id for info in pool.blocks() if info.size == 1 << 20)
    with pytest.raises(cue.NoMemory):
        pool.find(id=big).copy(timeout=0.06)


def test_numpy_protocols(pool):
    block = pool.alloc(16)
    assert np.asarray(block).shape == (16,)
    a = block.array("f4")
    assert np.shares_memory(np.from_dlpack(a), a)
    view = memoryview(block)
    assert (view.format, view.itemsize, view.ndim, view.shape, view.readonly) == ("B", 1, 1, (16,), False)
    view[0:4] = b"abcd"
    assert view[0:4] == b"abcd"
    with pytest.raises(ValueError):  # noqa: PT011 (numpy's)
        np.frombuffer(block, "f8", count=3)
