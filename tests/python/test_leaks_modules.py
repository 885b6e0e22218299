"""Many rounds of each module under other libraries' names leave nothing: no descriptor, no mapping, no object, no memory."""

import contextlib
import gc
import io
import os
import pickle
import sys
import warnings

import numpy as np
import pytest

import generic_classes as g
from conftest import ROUNDS, resident
from cuelight import npio, npshm, primitives, shmutils
from cuelight.atomic import LockingDouble, LockingInt64, LockingUInt64
from cuelight.heap import Heap
from cuelight.types import Array, Box, Dict, Double, Int64, List, Size_t, Struct, UInt64
from cuelight.util import align, classproperty, genmask

NAME = f"cuelight-leaks-{os.getpid()}"
ATOMICS = [
    primitives.AtomicInt32,
    primitives.AtomicInt64,
    primitives.AtomicUInt32,
    primitives.AtomicUInt64,
    primitives.AtomicDouble,
]


class Pair(Struct):
    _fields_ = {"a": Double, "lock": primitives.Lock}  # noqa: RUF012


def raises(*kinds):
    return pytest.raises(kinds)


class Rounds:
    """What a round works with, made once."""

    def __init__(self, folder):
        self.heap = Heap(1 << 16)
        self.dict, self.list = Box[Dict](self.heap), Box[List](self.heap)
        self.pair = Box[Pair](self.heap)
        self.memory = memoryview(bytearray(1024))
        self.path = str(folder / "array")
        npio.to_file(self.path, np.arange(20.0))

    def atomics(self, i):
        for kind in ATOMICS:
            one = kind(self.memory[64:], heap=self.heap)
            one.set(i)
            assert one.add(1) == i
            again = kind.__new__(kind)
            again._setstate(self.memory[64:])
            assert again.get() == i + 1
        with raises(OverflowError):
            primitives.AtomicInt32(self.memory).add(1 << 40)
        with raises(TypeError):
            primitives.AtomicInt64("x")
        with raises(ValueError):
            primitives.AtomicInt64(self.memory[:3])

    def lock(self, i):
        lock = primitives.Lock(bytearray(40))
        with lock:
            assert not i or lock is not None
            with raises(OSError):
                lock.acquire()
        assert lock.acquire(timeout=0)
        lock.release()
        with raises(PermissionError):
            lock.release()

    def locking(self, i):
        for kind in (LockingInt64, LockingUInt64, LockingDouble):
            one = kind(self.memory)
            one.set(i)
            assert one.add(1) == i
        with raises(OverflowError):
            LockingInt64(self.memory).add(1 << 63)

    def heaps(self, i):
        heap = Heap(4096 << i % 3)
        block = heap.malloc(1 + i % 9000)
        view = block.deref()
        again = pickle.loads(pickle.dumps(block))
        assert again.heap is heap
        again.deref()[0] = 7
        assert view[0] == 7
        with raises(ValueError):
            heap.malloc(0)

    def values(self, i):
        for kind in (Double, Int64, UInt64, Size_t):
            one = kind(self.memory)
            one.value += i
            assert one.value == i

    def boxes(self, i):
        heap = Heap()
        one, row, pair = Box[Double](heap), Box[Array[Double, 3]](heap), Box[Pair](heap)
        one.value = row[1].value = i
        with pickle.loads(pickle.dumps(pair)).lock:
            assert pickle.loads(pickle.dumps(row))[1].value == i
        with raises(ValueError):
            Array[Double, 0]
        assert row[:2][0].value == 0

    def dicts(self, i):
        one = self.dict
        one[i % 50] = [i] * (i % 9)
        one["pair"] = self.pair
        assert one["pair"].a.value == 0
        one.pop((i * 7) % 50, None)
        one.setdefault(str(i), i)
        del one[str(i)]
        if i % 100 == 0:
            one.clear()
        with raises(KeyError):
            one["absent"]
        with raises(TypeError, pickle.PicklingError, AttributeError):
            one["x"] = lambda: 0
        assert len(one.copy()) == len(one)

    def lists(self, i):
        one = self.list
        one.append([i] * (i % 9))
        one.insert(0, "x" * (i % 100))
        one[len(one) // 2] = None
        if len(one) > 40:
            del one[3:30]
            one.reverse()
        if i % 100 == 0:
            one.clear()
        with raises(IndexError):
            one[1000]

    def generics(self, i):
        for made in (g.I[i % 50], g.F[i % 50 + 0.5], g.O[int], g.P[int, i % 50], g.L[1, i % 50, 3], g.P[str]):
            assert pickle.loads(pickle.dumps(made)) is made
        with raises(ValueError):
            getattr(g.I, "x")  # noqa: B009
        with raises(AttributeError):
            g.O[lambda: 0]

    def utilities(self, i):
        assert align(i, 8) % 8 == 0
        assert genmask(i % 60, 0)
        assert classproperty(len).fget is len
        with raises(ValueError):
            align(1, 3)

    def named_arrays(self, i):
        made = npshm.create_shared_array(NAME, (1 + i % 50, 3), np.float64, full=i)
        seen = npshm.attach_shared_array(NAME, validate_dtype=np.float64, read_only=bool(i % 2))
        part = seen[:, 1]
        del made, seen
        assert part[0] == i
        with raises(FileExistsError):
            npshm.create_shared_array(NAME, (1,), np.int8)
        with raises(ValueError):
            npshm.attach_shared_array(NAME, validate_shape=(7,))
        npshm.create_shared_array(NAME, (2,), np.int8, force=True)
        assert npshm.delete_shared_array(NAME)
        with raises(FileNotFoundError):
            npshm.attach_shared_array(NAME)
        with raises(ValueError):
            npshm.create_shared_array(NAME, (1,), "u1")

    def arrays_read(self, i):
        array, attached = npshm.read_shared_array(self.path, NAME, return_status=True)
        again = npshm.read_shared_array(self.path, NAME, read_only=True)
        assert array.sum() == again.sum()
        assert not attached
        with raises(ValueError):
            npshm.read_shared_array(self.path, NAME, validate_shape=(3,))
        npshm.delete_shared_array(NAME)
        with raises(FileNotFoundError):
            npshm.read_shared_array(self.path + "x", NAME)

    def files(self, i):
        array = npio.from_file(self.path)
        npio.read_into(self.path, array)
        assert npio.read_dtype_and_shape(self.path)[1] == (20,)
        file = io.BytesIO()
        npio.to_file(file, np.zeros((i % 7, 3), order="F"))
        file.seek(0)
        assert npio.from_file(file).shape == (i % 7, 3)
        with raises(EOFError):
            npio.from_file(file)
        with raises(OSError):
            npio.from_file(self.path, validate_shape=(3,))
        with raises(RuntimeError):
            npio.to_file(self.path + "x", np.zeros((9, 2))[:, 0])
        if i % 50 == 0:
            npio.to_file(self.path, np.arange(20.0))

    def wrapped_arrays(self, i):
        names = []
        made = shmutils.create_and_register_sma((3, 1 + i % 40), np.uint8, names, prefix="leak")
        made.array[:] = 1
        kept = made.array
        total = shmutils.shmarray_wrap(lambda a, b=None: int(a.sum()))
        assert total(shmutils.SharedMemoryArray.clone(made), b=5) == kept.size
        with raises(FileNotFoundError):
            total(shmutils.SharedMemoryArray.clone(made), b=shmutils.SharedMemoryArray.clone(made, name=NAME))
        with raises(FileExistsError):
            shmutils.SharedMemoryArray.clone(made).create()
        with raises(TypeError):
            shmutils.SharedMemoryArray.clone(made, shape=(1 << 14,)).load()
        pickle.loads(pickle.dumps(made)).load()
        made.close()
        shmutils.SharedMemoryArray.clear_buffers(names)
        with raises(FileNotFoundError):
            shmutils.SharedMemoryArray.clear_buffers(names)


def taken() -> tuple:
    """Descriptors, mappings of shared memory, entries of /dev/shm."""
    with open("/proc/self/maps") as maps:
        mapped = sum("/dev/shm" in line or "memfd" in line or "(deleted)" in line for line in maps)
    ours = sorted(name for name in os.listdir("/dev/shm") if NAME in name or "-leak-" in name)
    return len(os.listdir("/proc/self/fd")), mapped, ours


@pytest.mark.seconds(max(60, ROUNDS // 20))
@pytest.mark.parametrize("what", [name for name, value in vars(Rounds).items() if name[0] != "_"])
def test_rounds(what, tmp_path):
    rounds = Rounds(tmp_path)
    one = getattr(rounds, what)
    with warnings.catch_warnings(), contextlib.ExitStack() as end:
        end.callback(npshm.delete_shared_array, NAME)
        warnings.simplefilter("ignore", DeprecationWarning)
        for i in range(300):
            one(i)
        gc.collect()
        before, objects, memory, base = taken(), sys.getallocatedblocks(), resident(), rounds.heap._base.value
        for i in range(ROUNDS):
            one(i)
        gc.collect()
        assert taken() == before
        assert sys.getallocatedblocks() - objects < 1000  # what is kept once
        if "libasan" not in os.environ.get("LD_PRELOAD", ""):  # which gives nothing back at once
            assert resident() - memory < (2 << 20) + 20 * ROUNDS
        assert rounds.heap._base.value - base < 1 << 17
