"""cuelight.npio: the file format, and what it refuses."""

import io
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
