"""A program as users write it, for mypy --strict; it also runs."""

import os
import pickle
import sys
from typing import Any

import numpy as np

import cuelight as cue
from cuelight import atomic, generics, heap, info, managed_memory, npio, npshm, primitives, shmutils, types, util
from cuelight.dtypes import DragonError
from cuelight.managed_memory import AllocType, MemoryAlloc, MemoryPool


def channels(name: str) -> int:
    with cue.Pool(name, "4MiB") as pool:
        block = pool.put(b"some bytes", name="it")
        found: cue.Block = pool.find(name="it")
        many: list[cue.Block | None] = pool.find_many(["it", (7, 1), found.id])
        assert many[1] is None
        ids: list[int | None] = pool.find_ids(["it"])
        assert ids == [found.id]
        size: int = found.size
        array = pool.empty((3, 4), np.float64)
        array[0, 0] = 1
        with cue.open(f"shm://{name}/lane", "r") as r, cue.open(f"shm://{name}/lane", "w") as w:
            w.send(b"hello", tag=5)
            message: cue.Message = r.recv(timeout=5)
            tag: int = message.tag
            text = bytes(message)
        try:
            pool.find(name="absent")
        except cue.NotFound as error:
            code: int | None = error.errno
            assert code is None or code > 0
        found.release()
        block.free()
        pool.destroy()
        return size + tag + len(text)


def managed(name: str) -> bytes:
    pool = MemoryPool(1 << 16, name, 5)
    alloc: MemoryAlloc = pool.alloc(100, AllocType.DATA)
    view: memoryview = alloc.get_memview()
    view[:2] = b"ok"
    again = MemoryAlloc.attach(alloc.serialize())
    rows = pool.get_allocations()
    assert rows.alloc_id(0) == again.id
    found = bytes(again.get_memview()[:2])
    try:
        pool.alloc_blocking(1 << 20, timeout=0.01)
    except (managed_memory.DragonMemoryError, TimeoutError):
        pass
    pool.destroy()
    assert DragonError.SUCCESS.value == 0
    return found


class Pair(types.Struct):
    _fields_ = {"a": types.Double, "lock": primitives.Lock}  # noqa: RUF012


def shared() -> float:
    memory = heap.Heap(1 << 16)
    block: heap.Heap.Block = memory.malloc(64)
    number: int = block.size
    counter = primitives.AtomicInt64(block.deref())
    number += counter.add(1)
    pair: Any = types.Box[Pair](memory)
    with pair.lock:
        pair.a.value += 2.5
    table: types.Dict = types.Box[types.Dict](memory)
    table["a"] = [1, 2]
    names: types.List = types.Box[types.List](memory)
    names.append("x")
    assert pickle.loads(pickle.dumps(table))["a"] == [1, 2]
    total = atomic.AtomicDouble(bytearray(8))
    total.set(util.align(3, 4))
    assert isinstance(generics.IntType("G", lambda name, x: x).name, str)
    return total.get() + len(names) + float(pair.a.value)


def arrays(name: str, folder: str) -> float:
    made = npshm.create_shared_array(name, (2, 3), np.float32, full=1)
    assert made is not None
    path = os.path.join(folder, "typed")
    npio.to_file(path, made)
    back = npio.from_file(path, validate_shape=(2, 3))
    assert npshm.delete_shared_array(name)
    one = shmutils.SharedMemoryArray((3,), np.uint8, name)
    one.create()
    assert one.array is not None
    one.array[:] = 1

    @shmutils.shmarray_wrap
    def total(array: Any) -> float:
        return float(array.sum())

    found = total(shmutils.SharedMemoryArray.clone(one))
    one.close()
    shmutils.SharedMemoryArray.clear_buffers([name])
    os.unlink(path)
    return found + float(back.sum())


if __name__ == "__main__":
    base = f"typed-{os.getpid()}"
    assert (channels(base), managed(base + "m"), shared(), arrays(base + "a", sys.argv[1])) == (20, b"ok", 7.5, 9.0)
    assert info is not None
