"""cuelight.npio: the file format, and what it refuses."""

import io
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cuelight import npio

DTYPES = [np.dtype(t) for t in npio._CODE_TO_DTYPE.values()]


def written(array, **options):
    file = io.BytesIO()
    npio.to_file(file, array, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_with_a_code_comes_back(dtype):
    array = np.arange(24).astype("i8").view("i8").astype(dtype if dtype.kind not in "mM" else "i8").reshape(2, 3, 4)
    array = array.view(dtype) if dtype.kind in "mM" else array
    back = npio.from_file(written(array))
    assert back.dtype == dtype
    assert back.shape == array.shape
    assert np.array_equal(back, array)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=4), st.sampled_from([np.int16, np.float64, np.bool_]))
def test_every_shape_comes_back(shape, dtype):
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    back = npio.from_file(written(array))
    assert back.shape == array.shape
    assert np.array_equal(back, array)


def test_the_header_is_big_endian_and_several_arrays_follow_one_another():
    file = io.BytesIO()
    npio.to_file(file, np.array([[1, 2], [3, 4]], np.int32))
    npio.to_file(file, np.float64(7))
    assert file.getvalue()[:24] == struct.pack(">IB", 24, 3) + b"\0\0\2" + struct.pack(">QQ", 2, 2)
    file.seek(0)
    assert npio.from_file(file).tolist() == [[1, 2], [3, 4]]
    assert npio.from_file(file) == 7


@pytest.mark.parametrize("dtype", ["u1", ">i4", "U3", "O", "M8[ns]", [("a", "i4")]])
def test_what_has_no_code_is_refused(dtype):
    with pytest.raises(ValueError, match="no code"):
        npio.to_file(io.BytesIO(), np.zeros(3, dtype))


def test_fortran_order_is_written_and_read_right():
    array = np.asfortranarray(np.arange(12).reshape(3, 4))
    target = np.zeros((3, 4), array.dtype, order="F")
    assert npio.read_into(written(array), target) is target
    assert np.array_equal(target, array)


def test_a_strided_array_wants_a_block_size():
    column = np.arange(3000.0).reshape(1000, 3)[:, 1]
    for size in (None, 0, -1):
        with pytest.raises(RuntimeError, match="cont_block_size_mb"):
            npio.to_file(io.BytesIO(), column, cont_block_size_mb=size)
    assert np.array_equal(npio.from_file(written(column, cont_block_size_mb=1)), column)
    target = np.zeros((1000, 2))[:, 0]
    assert np.array_equal(npio.read_into(written(column.copy()), target, cont_block_size_mb=1), column)


def test_files_that_make_no_sense(tmp_path):
    name = str(tmp_path / "a")
    npio.to_file(name, np.arange(10))
    whole = (tmp_path / "a").read_bytes()
    for cut in (0, 3, 8, 15, 16, 50, len(whole) - 1):
        with pytest.raises(EOFError, match="file"):
            npio.from_file(io.BytesIO(whole[:cut]))
    with pytest.raises(ValueError, match="code"):
        npio.from_file(io.BytesIO(whole[:4] + b"\x63" + whole[5:]))
    with pytest.raises(ValueError, match="makes no sense"):
        npio.from_file(io.BytesIO(b"\0\0\0\x63" + whole[4:]))
    with pytest.raises(ValueError, match="makes no sense"):
        npio.from_file(io.BytesIO(whole[:8] + b"\xff" * 8 + whole[16:]))
    with pytest.raises(OSError, match="dtype"):
        npio.from_file(name, validate_dtype=np.float64)
    with pytest.raises(OSError, match="shape"):
        npio.read_into(name, np.zeros(11, np.int64))


def test_target_may_make_the_array_and_read_only_is_kept(tmp_path):
    name = str(tmp_path / "a")
    npio.to_file(name, np.arange(10))
    made = []
    array = npio.read_from_file(name, lambda shape, dtype: made.append(np.empty(shape, dtype)) or made[0], read_only=True)
    assert array is made[0]
    assert not array.flags.writeable
    assert npio.read_dtype_and_shape(name) == (np.int64, (10,))


class Sink:
    """A file that counts what it is given and looks at nothing."""

    def __init__(self, most=1 << 62):
        self.sizes, self.most = [], most

    def write(self, data):
        self.sizes.append(len(data))
        return min(len(data), self.most)


def test_writes_are_of_at_most_0x7ffff000_bytes():
    sink = Sink()
    npio.to_file(sink, np.zeros(0x7FFFF000 + 10, np.bool_))  # nobody touches it
    assert sink.sizes == [16, 0x7FFFF000, 10]


@pytest.mark.parametrize("most", [0, 15, 17, 79])
def test_a_short_write_is_an_oserror(most):
    with pytest.raises(OSError, match="bytes were written"):
        npio.to_file(Sink(most), np.zeros(10))


def test_a_write_that_would_have_to_wait_is_an_oserror():
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with open(reads, "rb"), open(writes, "wb", buffering=0) as file, pytest.raises(OSError, match="bytes were written"):
        for _ in range(10):
            npio.to_file(file, np.zeros(100_000))


class Dribble:
    """A file that gives a few bytes at a time, and knows no readinto."""

    def __init__(self, data):
        self.file = io.BytesIO(data)

    def read(self, size):
        return self.file.read(min(size, 7))


def test_short_reads_go_on():
    data = written(np.arange(100)).getvalue()
    assert npio.from_file(Dribble(data)).tolist() == list(range(100))
    with pytest.raises(EOFError, match="data"):
        npio.from_file(Dribble(data[:-1]))


def test_the_tables_that_others_import():
    names = "bool int8 int16 int32 int64 uint16 uint32 uint64 float16 float32 float64 complex64 complex128 datetime64 timedelta64"
    assert {name: int(code) for name, code in npio._DTYPE_TO_CODE.items()} == {n: i for i, n in enumerate(names.split())}
    assert {type(code) for code in npio._DTYPE_TO_CODE.values()} == {np.int8}
    assert {code: np.dtype(kind).name for code, kind in npio._CODE_TO_DTYPE.items()} == dict(enumerate(names.split()))


def test_an_open_file_stands_behind_what_was_read(tmp_path):
    with open(tmp_path / "a", "w+b") as file:
        npio.to_file(file, np.arange(3))
        npio.to_file(file, np.ones((2, 2), np.int16))
        file.seek(0)
        assert npio.read_dtype_and_shape(file) == (np.dtype(np.int64), (3,))
        assert file.tell() == 16
        assert isinstance(npio.read_dtype_and_shape(str(tmp_path / "a"))[0], np.dtype)
        file.seek(0)
        assert npio.from_file(file).tolist() == [0, 1, 2]
        assert npio.from_file(file, buffering=0).sum() == 4


def test_a_descriptor_is_an_open_file(tmp_path):
    descriptor = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    try:
        npio.to_file(descriptor, np.arange(3))
        npio.to_file(descriptor, np.ones((2, 2), np.int16))
        os.lseek(descriptor, 0, os.SEEK_SET)
        assert npio.from_file(descriptor).tolist() == [0, 1, 2]
        assert npio.read_dtype_and_shape(descriptor) == (np.dtype(np.int16), (2, 2))
        assert os.read(descriptor, 100) == np.ones(4, np.int16).tobytes()
        with pytest.raises(EOFError, match=f"descriptor {descriptor}"):
            npio.from_file(descriptor)
    finally:
        os.close(descriptor)
    assert npio.from_file(tmp_path / "a").tolist() == [0, 1, 2]


def test_errors_name_the_file(tmp_path):
    name = str(tmp_path / "some name")
    npio.to_file(name, np.arange(10), buffering=0)
    whole = (tmp_path / "some name").read_bytes()
    for call in (
        lambda: npio.from_file(name, validate_shape=(3,)),
        lambda: npio.from_file(name, validate_dtype="f8"),
        lambda: npio.read_into(name, np.zeros(3, np.int64)),
        lambda: npio.read_from_file(name, np.zeros(10)),
    ):
        with pytest.raises(OSError, match="some name"):
            call()
    for text, error in ((whole[:90], EOFError), (whole[:5], EOFError), (b"\xff" * 16, ValueError)):
        (tmp_path / "some name").write_bytes(text)
        with pytest.raises(error, match="some name"):
            npio.from_file(name)
    with pytest.raises(FileNotFoundError, match="no such"):
        npio.from_file(str(tmp_path / "no such"))


def test_a_function_as_target_gets_shape_and_dtype_by_name():
    seen = {}

    def target(**given):
        seen.update(given)
        return np.zeros(**given)

    assert npio.read_from_file(written(np.ones((2, 3), np.float32)), target).sum() == 6
    assert seen == {"shape": (2, 3), "dtype": np.dtype(np.float32)}
    with pytest.raises(OSError, match="shape"):
        npio.read_from_file(written(np.ones(3)), lambda shape, dtype: np.zeros(4))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.permutations(range(3)),
    st.sampled_from([np.int8, np.complex64]),
    st.booleans(),
)
def test_any_order_of_axes_is_written_and_read_in_c_order(shape, axes, dtype, backwards):
    array = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
    array = array.transpose([axis for axis in axes if axis < array.ndim])
    array = array[::-1] if backwards and array.ndim > 1 else array
    back = npio.from_file(written(array, cont_block_size_mb=1))
    assert np.array_equal(back, array)
    target = np.zeros_like(array)  # in the same order of axes
    assert npio.read_into(written(array, cont_block_size_mb=1), target, cont_block_size_mb=1) is target
    assert np.array_equal(target, array)


def test_the_names_of_npshm_are_here_too_as_the_documentation_says():
    from cuelight import npshm
    from cuelight.npio import attach_shared_array, create_shared_array, read_shared_array

    assert (attach_shared_array, create_shared_array) == (npshm.attach_shared_array, npshm.create_shared_array)
    assert read_shared_array is npshm.read_shared_array
    with pytest.raises(AttributeError, match="no attribute"):
        npio.nothing  # noqa: B018
