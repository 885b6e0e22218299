"""What the modules under other libraries' names cost: the rows py.mpmetrics.*, py.npshm.* and py.shmutils.*.

    drop_in.py CASE

What is imported is cuelight where there is such a package, else the original, whose names are the same. A case is set up once and
says how often it works in a call; its figure is nanoseconds each, or MB a second.
"""

import importlib
import importlib.util
import mmap
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

from side import rounds, say, timed, together

OURS = importlib.util.find_spec("cuelight") is not None
ORIGINALS = {"npshm": "cdxcore", "npio": "cdxcore", "shmutils": "gridr.scaling", "primitives": "_mpmetrics"}
BATCH = 500
MIB = 1 << 20

Work = Callable[[], int]
CASES: dict[str, Callable[[], Work]] = {}


def load(name: str) -> object:
    if OURS:
        return importlib.import_module(f"cuelight.{name}")
    home = ORIGINALS.get(name, "mpmetrics")
    return importlib.import_module(home if name == "primitives" else f"{home}.{name}")


def case(function: Callable[[], Work]) -> Callable[[], Work]:
    CASES[function.__name__] = function
    return function


def repeated(code: str, names: dict[str, object], times: int = BATCH) -> Work:
    """A function that does `code` so often, as directly as it can be done in Python."""
    space = dict(names)
    exec(f"def work():\n for _ in range({times}):\n  {code}\n return {times}", space)  # noqa: S102
    return space["work"]


def of_primitives(code: str, processes: int = 1) -> Callable[[], Work]:
    def make() -> Work:
        p, memory = load("primitives"), memoryview(mmap.mmap(-1, mmap.PAGESIZE))
        names = {"number": p.AtomicInt64(memory[:8]), "real": p.AtomicDouble(memory[64:72]), "lock": p.Lock(memory[128:168])}
        names["locking"] = load("atomic").LockingInt64(memory[256:304])
        work = repeated(code, names)
        return work if processes == 1 else together([lambda: work] * processes)

    return make


def of_types(code: str, times: int = BATCH) -> Callable[[], Work]:
    def make() -> Work:
        import pickle

        p, t, heap = load("primitives"), load("types"), load("heap").Heap(MIB)
        pair = type("Pair", (t.Struct,), {"_fields_": {"a": t.Double, "b": t.Double}, "__module__": "__main__", "__qualname__": "Pair"})
        sys.modules["__main__"].Pair = pair
        names = {"heap": heap, "Heap": load("heap").Heap, "block": heap.malloc(64), "Box": t.Box, "Array": t.Array, "Double": t.Double}
        names |= {"BoxD": t.Box[t.Double], "BoxA": t.Box[p.AtomicInt64], "BoxS": t.Box[pair], "Box10": t.Box[t.Array[t.Double, 10]]}
        names |= {"pickle": pickle, "value": t.Box[t.Double](heap)}
        for size in (10, 1000):
            names[f"dict{size}"], names[f"list{size}"] = t.Box[t.Dict](heap), t.Box[t.List](heap)
            names[f"dict{size}"].update({str(i): i for i in range(size)})
            names[f"list{size}"].extend(range(size))
        return repeated(code, names, times)

    return make


@case
def append() -> Work:
    t, heap = load("types"), load("heap").Heap(MIB)

    def work() -> int:
        values = t.Box[t.List](heap)
        for i in range(1000):
            values.append(i)
        return 1000

    return work


CASES |= {
    "atomic.add": of_primitives("number.add(1)"),
    "atomic.add.2procs": of_primitives("number.add(1)", 2),
    "atomic.get": of_primitives("number.get()"),
    "atomic.set": of_primitives("number.set(5)"),
    "double.add": of_primitives("real.add(0.5)"),
    "double.add.2procs": of_primitives("real.add(0.5)", 2),
    "locking.add": of_primitives("locking.add(1)"),
    "lock": of_primitives("lock.acquire(); lock.release()"),
    "lock.2procs": of_primitives("lock.acquire(); lock.release()", 2),
    "lock.with": of_primitives("with lock: pass"),
    "heap": of_types("Heap()", 20),
    "malloc": of_types("heap.malloc(64)"),
    "malloc.deref": of_types("heap.malloc(64).deref()"),
    "deref": of_types("block.deref()"),
    "box.double": of_types("BoxD(heap)"),
    "box.atomic": of_types("BoxA(heap)"),
    "box.struct": of_types("BoxS(heap)"),
    "box.array": of_types("Box10(heap)"),
    "box.look-up": of_types("Box[Array[Double, 5]]"),
    "box.pickle": of_types("pickle.loads(pickle.dumps(value))", 20),
    "value": of_types("value.value += 1"),
    "dict10.get": of_types("dict10['5']"),
    "dict10.set": of_types("dict10['5'] = 3"),
    "dict1000.get": of_types("dict1000['500']", 50),
    "dict1000.set": of_types("dict1000['500'] = 3", 50),
    "list1000.get": of_types("list1000[500]", 50),
    "list1000.set": of_types("list1000[500] = 3", 50),
}


@case
def multiprocessing_lock() -> Work:
    import multiprocessing

    return repeated("lock.acquire(); lock.release()", {"lock": multiprocessing.Lock()})


def named(code: str, before: str = "", after: str = "") -> Callable[[], Work]:
    """A case of named segments: only `code` is timed; `name` is one of this process's own."""

    def make() -> Work:
        import numpy as np

        npshm, shmutils = (load(n) if n in sys.argv[1] else None for n in ("npshm", "shmutils"))
        space = {"np": np, "npshm": npshm, "shmutils": shmutils, "name": f"bench-{os.getpid()}", "clock": time.perf_counter_ns}
        lines = [before or "pass", "begin = clock()", code, "spent += clock() - begin", after or "pass"]
        text = "\n  ".join(line.replace("\n", "\n  ") for line in lines)
        exec(f"def work():\n spent = 0\n for _ in range(10):\n  {text}\n return spent, 10", space)  # noqa: S102
        return space["work"]

    return make


CREATE, DELETE = "a = npshm.create_shared_array(name, (1 << 17,), np.float64)", "npshm.delete_shared_array(name)"
SMA = "s = shmutils.SharedMemoryArray((1 << 20,), np.uint8, name)"
GONE = "shmutils.SharedMemoryArray.clear_buffers([name])"
CASES |= {
    "npshm.create": named(CREATE, after=f"a = None\n{DELETE}"),
    "npshm.create_filled": named(f"{CREATE}; a[:] = 1", after=f"a = None\n{DELETE}"),
    "npshm.attach": named("b = npshm.attach_shared_array(name)", CREATE, f"a = b = None\n{DELETE}"),
    "npshm.delete": named(DELETE, f"{CREATE}\na[:] = 1\na = None"),
    "shmutils.create": named("s.create()", SMA, f"s.close()\n{GONE}"),
    "shmutils.create_filled": named("s.create(); s.array[:] = 1", SMA, f"s.close()\n{GONE}"),
    "shmutils.load": named("t.load(); t.close()", f"{SMA}; s.create(); t = shmutils.SharedMemoryArray.clone(s)", f"s.close()\n{GONE}"),
}


def files(reading: Callable[[object, object, str, object], None]) -> Callable[[], Work]:
    def make() -> Work:
        import numpy as np

        npio, npshm = load("npio"), load("npshm")
        folder = tempfile.mkdtemp(dir=os.environ["RESULTS"])
        path = os.path.join(folder, "array")
        array = np.ones(64 * MIB // 8)
        npio.to_file(path, array)

        def work() -> tuple[int, int]:
            begin = time.perf_counter_ns()
            kept = reading(npio, npshm, path, array)
            spent = time.perf_counter_ns() - begin
            if kept is not None and "read_shared" in sys.argv[1]:
                del kept
                npshm.delete_shared_array(f"bench-{os.getpid()}")
            return spent, array.nbytes

        work.clean = lambda: (os.unlink(path), os.rmdir(folder))
        return work

    return make


CASES |= {
    "npshm.read_shared": files(lambda npio, npshm, path, array: npshm.read_shared_array(path, f"bench-{os.getpid()}")),
    "npio.from_file": files(lambda npio, npshm, path, array: npio.from_file(path)),
    "npio.to_file": files(lambda npio, npshm, path, array: npio.to_file(path, array)),
}


def main() -> None:
    warnings.simplefilter("ignore")
    if not OURS:
        from multiprocessing import resource_tracker

        resource_tracker.register = resource_tracker.unregister = lambda *args: None  # or it warns of what others deleted
        if sys.argv[1].startswith("shmutils"):
            load("shmutils").warnings = warnings  # which it forgets to import
    work = CASES[sys.argv[1]]()
    package = "cuelight" if OURS else {"np": "cdxcore", "sh": "gridr"}.get(sys.argv[1][:2], "mpmetrics")
    rate = sys.argv[1].startswith("npio") or sys.argv[1] == "npshm.read_shared"
    try:
        for seconds in rounds(f"{package} for Python" if OURS else package, version(package)):
            spent, done = timed(work, seconds)
            say(value=done / spent * 1e3 if rate else spent / done)
    finally:
        if hasattr(work, "clean"):
            work.clean()


if __name__ == "__main__":
    main()
