"""What a program sees of npio and npshm, line by line; run as ``seen_npshm.py MODULE-OF-NPIO MODULE-OF-NPSHM NAME FOLDER``."""

# ruff: noqa: B023
import gc
import importlib
import io
import os
import sys

import numpy as np

from seen import show, show_signature

npio, npshm = (importlib.import_module(name) for name in sys.argv[1:3])
for function in (
    npio.to_file,
    npio.read_into,
    npio.from_file,
    npio.read_from_file,
    npio.read_dtype_and_shape,
    npshm.create_shared_array,
    npshm.attach_shared_array,
    npshm.read_shared_array,
    npshm.delete_shared_array,
    npshm.is_shared_array,
):
    show_signature(function)

# ---- npio ----
show("codes", lambda: sorted((k, int(v), type(v).__name__) for k, v in npio._DTYPE_TO_CODE.items()))
show("types", lambda: sorted((int(k), np.dtype(v).name) for k, v in npio._CODE_TO_DTYPE.items()))
os.chdir(sys.argv[4])


def written(array, **kw):
    npio.to_file("w", array, **kw)
    return open("w", "rb").read()


def read(data):
    with open("r", "wb") as f:
        f.write(data)
    return npio.from_file("r")


for t in npio._DTYPE_TO_CODE:
    if t[0] not in "dt":
        show(t, lambda: written(np.arange(6).reshape(2, 3).astype(t)).hex())
for shape in ((), (0,), (3, 0, 2), (5,)):
    show(f"shape {shape}", lambda: written(np.ones(shape)).hex())
for t in ("u1", ">i4", "U3", "O", "M8[ns]", "i4,i4", "S3", "f16"):
    show(f"write {t}", lambda: written(np.zeros(3, t)))
show("fortran", lambda: written(np.asfortranarray(np.arange(6).reshape(2, 3))).hex())
show("transposed", lambda: written(np.arange(6).reshape(2, 3).T).hex())
show("part", lambda: written(np.arange(12).reshape(3, 4)[:, 1:3]).hex())
show("steps", lambda: written(np.arange(6)[::2]))
for size in (None, 0, -1):
    show(f"strided {size}", lambda: written(np.arange(12.0).reshape(4, 3)[:, 1], cont_block_size_mb=size))
show("strided 1", lambda: written(np.arange(12.0).reshape(4, 3)[:, 1], cont_block_size_mb=1).hex())
whole = written(np.arange(10))
for cut in (0, 3, 8, 12, 16, 50, len(whole) - 1):
    show(f"cut {cut}", lambda: read(whole[:cut]))
show("code", lambda: read(whole[:4] + b"\x63" + whole[5:]))
show("more", lambda: read(whole + b"more"))
two = io.BytesIO(whole + written(np.ones((2, 2))))
show("one", lambda: npio.from_file(two))
show("two", lambda: npio.from_file(two))
npio.to_file("a", np.arange(10))
show("dtype and shape", lambda: npio.read_dtype_and_shape("a"))
show("absent", lambda: npio.from_file("absent"))
show("no folder", lambda: npio.to_file("no/where", np.arange(3)))
show("from", lambda: npio.from_file("a"))
show("read only", lambda: npio.from_file("a", read_only=True))
show("validated", lambda: npio.from_file("a", validate_dtype=np.int64, validate_shape=(10,)))
show("other dtype", lambda: npio.from_file("a", validate_dtype=np.float64))
show("other shape", lambda: npio.from_file("a", validate_shape=(11,)))
target = np.zeros(10, np.int64)
show("into", lambda: npio.read_into("a", target) is target)
show("into ro", lambda: npio.read_into("a", target, read_only=True))
show("into wrong shape", lambda: npio.read_into("a", np.zeros(11, np.int64)))
show("into wrong dtype", lambda: npio.read_into("a", np.zeros(10)))
show("target", lambda: npio.read_from_file("a", np.zeros(10, np.int64)))
show("target called", lambda: npio.read_from_file("a", lambda shape, dtype: np.zeros(shape, dtype)))
show("target validated", lambda: npio.read_from_file("a", np.zeros(10, np.int64), validate_shape=(3,)))
show("strided target", lambda: npio.read_into("a", np.zeros((10, 2), np.int64)[:, 0]))
show("strided target 1", lambda: npio.read_into("a", np.zeros((10, 2), np.int64)[:, 0], cont_block_size_mb=1))
show("not a file", lambda: npio.from_file(5.5))
show("buffering", lambda: npio.from_file("a", buffering=0))


def forced(name, shape, dtype, full):
    npshm.delete_shared_array(name)
    return npshm.create_shared_array(name, shape, dtype, full=full)


# ---- npshm ----
name = sys.argv[3]


def content():
    with open("/dev/shm/" + name, "rb") as f:
        return os.fstat(f.fileno()).st_mode & 0o777, len(x := f.read()), x[:80].hex()


for shape in ((), (0,), (3, 0, 2), (5,), [2, 2], (n for n in (2, 1)), np.array([2, 3]), 5, (-1,)):
    show(
        f"create {type(shape).__name__} {shape if not hasattr(shape, 'send') else ''}",
        lambda: npshm.create_shared_array(name, shape, np.float32),
    )
    if os.path.exists("/dev/shm/" + name):
        show("content", content)
        show("attach", lambda: npshm.attach_shared_array(name))
    show("delete", lambda: npshm.delete_shared_array(name))
for t in (np.int8, "i4", np.dtype("f8"), bool, int, float, complex, np.complex64, "u1", ">i4", "O", "f2", "M8"):
    show(f"dtype {t}", lambda: npshm.create_shared_array(name, (3,), t))
    if os.path.exists("/dev/shm/" + name):
        show("content", content)
    npshm.delete_shared_array(name)
for full in (1, 2.5, [1, 2, 3], np.arange(3), "x", [1, 2]):
    show(f"full {full}", lambda: npshm.create_shared_array(name, (2, 3), "f8", full=full))
    npshm.delete_shared_array(name)
for bad in ("", "a/b", "x" * 300):
    show(f"name {bad[:5]}", lambda: npshm.create_shared_array(bad, (1,), "i8"))
    show(f"attach {bad[:5]}", lambda: npshm.attach_shared_array(bad))
show("slash", lambda: npshm.create_shared_array("/" + name, (1,), "i8"))
show("there", lambda: os.path.exists("/dev/shm/" + name))
npshm.delete_shared_array(name)
spaced = name + " a b"
show("space", lambda: npshm.create_shared_array(spaced, (1,), "i8"))
show(
    "delete",
    lambda: (npshm.delete_shared_array(spaced), npshm.delete_shared_array(spaced), npshm.delete_shared_array(spaced, False)),
)
old = npshm.create_shared_array(name, (2, 3), "i4", full=7)
show("exists", lambda: npshm.create_shared_array(name, (2, 3), "i4"))
show("exists quiet", lambda: npshm.create_shared_array(name, (2, 3), "i4", raise_on_error=False))
for kw in (
    {"validate_shape": (2, 3)},
    {"validate_shape": (3, 2)},
    {"validate_shape": [2, 3]},
    {"validate_dtype": np.int32},
    {"validate_dtype": "i4"},
    {"validate_dtype": "f8"},
    {"validate_dtype": np.dtype("i8")},
    {"read_only": True},
    {"raise_on_error": False, "validate_shape": (1,)},
    {"raise_on_error": False},
    {"verbose": None},
):
    show(f"attach {kw}", lambda: npshm.attach_shared_array(name, **kw))
new = forced(name, (4,), "i4", 1)
show("forced", lambda: (old.tolist(), npshm.attach_shared_array(name).tolist()))
old = new = None
gc.collect()
show("stays", lambda: npshm.attach_shared_array(name))
npshm.delete_shared_array(name)
show("absent", lambda: npshm.attach_shared_array(name))
show("absent quiet", lambda: npshm.attach_shared_array(name, raise_on_error=False))
for junk in (b"", b"abc", b"\xff" * 100, whole, written(np.arange(10))[:16] + b"\0" * 100):
    with open("/dev/shm/" + name, "wb") as f:
        f.write(junk)
    show(f"junk {len(junk)}", lambda: npshm.attach_shared_array(name))
npshm.delete_shared_array(name)
npio.to_file("f", np.arange(12.0).reshape(3, 4))
show("read", lambda: npshm.read_shared_array("f", name))
show("read again", lambda: npshm.read_shared_array("f", name, return_status=True)[1])
show("read not accepted", lambda: npshm.read_shared_array("f", name, accept_existing=False))
show("read validated", lambda: npshm.read_shared_array("not/there", name, validate_shape=(3, 4), validate_dtype=np.float64))
show("read other", lambda: npshm.read_shared_array("f", name, validate_shape=(4, 4)))
show("read other dtype", lambda: npshm.read_shared_array("f", name, validate_dtype=np.int64))
show("read other both", lambda: npshm.read_shared_array("f", name, validate_dtype=np.int64, validate_shape=(4, 4)))
npshm.delete_shared_array(name)
show("read other file", lambda: npshm.read_shared_array("f", name, validate_shape=(4, 4)))
npshm.delete_shared_array(name)
show("read other file both", lambda: npshm.read_shared_array("f", name, validate_shape=(4, 4), validate_dtype=np.float64))
npshm.delete_shared_array(name)
show("read status", lambda: npshm.read_shared_array("f", name, return_status=True)[1])
npshm.delete_shared_array(name)
show("read only", lambda: npshm.read_shared_array("f", name, read_only=True))
npshm.delete_shared_array(name)
npshm.create_shared_array(name, (2,), "f8")
show("read onto another", lambda: npshm.read_shared_array("f", name))
npshm.delete_shared_array(name)
show("read absent", lambda: npshm.read_shared_array("absent", name))
npshm.delete_shared_array(name)
