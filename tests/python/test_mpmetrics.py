"""cuelight's modules under mpmetrics' names beside mpmetrics itself, from pip in an environment of its own.

Memory of atomics, values and locks is the same: both use it at once. A heap is not shared between the two, but its blocks lie
alike. And the examples of mpmetrics' documentation run as they are, but for the import.
"""

import collections.abc
import errno
import importlib
import json
import mmap
import textwrap

import numpy as np
import pytest

from cuelight import npshm
from cuelight.atomic import LockingInt64
from cuelight.heap import Heap
from cuelight.primitives import AtomicDouble, AtomicInt64, AtomicUInt32, Lock
from cuelight.types import Array, Double, Struct
from test_originals import ask

pytestmark = pytest.mark.seconds(240)

THEIRS = """
import json, mmap, sys
import _mpmetrics
from mpmetrics import atomic, heap, types
with open(sys.argv[1], "r+b") as file:
    memory = memoryview(mmap.mmap(file.fileno(), 4096))
def at(kind, offset):
    one = kind.__new__(kind)
    one._setstate(memory[offset:offset + kind.size])
    return one
"""


@pytest.fixture
def memory(tmp_path):
    with open(tmp_path / "memory", "w+b") as file:
        file.truncate(4096)
        return memoryview(mmap.mmap(file.fileno(), 4096))


class Mixed(Struct):
    _fields_ = {"small": AtomicUInt32, "lock": Lock, "values": Array[Double, 3], "last": AtomicUInt32}  # noqa: RUF012


def test_atomics_are_the_same_memory(memory, tmp_path):
    whole, real, locking = AtomicInt64(memory[:8]), AtomicDouble(memory[8:16]), LockingInt64(memory[64:112])
    whole.set(-5)
    real.set(0.5)
    locking.set(7)
    code = """
    one, two, three = at(_mpmetrics.AtomicInt64, 0), at(_mpmetrics.AtomicDouble, 8), at(atomic.LockingInt64, 64)
    print(one.add(2), two.add(1), three.add(3))
    """
    assert ask("mpmetrics", THEIRS + textwrap.dedent(code), tmp_path / "memory") == "-5 0.5 7"
    assert (whole.get(), real.get(), locking.get()) == (-3, 1.5, 10)


def test_structs_are_the_same_memory(memory, tmp_path):
    ours = Mixed(memory)
    ours.values[2].value = 2.5
    ours.last.set(9)
    code = """
    class Mixed(types.Struct):
        _fields_ = {"small": _mpmetrics.AtomicUInt32, "lock": _mpmetrics.Lock, "values": types.Array[types.Double, 3],
                    "last": _mpmetrics.AtomicUInt32}
    print(Mixed.size, Mixed.align, memory.cast("d")[8], at(_mpmetrics.AtomicUInt32, 72).get())
    """
    assert ask("mpmetrics", THEIRS + textwrap.dedent(code), tmp_path / "memory") == f"{Mixed.size} {Mixed.align} 2.5 9"


def test_the_lock_is_the_same_memory(memory, tmp_path):
    lock = Lock(memory[:40])
    code = THEIRS + "lock = at(_mpmetrics.Lock, 0); print(lock.acquire(False), end=' '); lock.release()"
    assert ask("mpmetrics", code, tmp_path / "memory") == "True"
    with lock:
        waits = THEIRS + "lock = at(_mpmetrics.Lock, 0); print(lock.acquire(False), lock.acquire(timeout=0.01))"
        assert ask("mpmetrics", waits, tmp_path / "memory") == "False False"
    ask("mpmetrics", THEIRS + "_mpmetrics.Lock(memory[64:104])", tmp_path / "memory")
    theirs = Lock.__new__(Lock)
    theirs._setstate(memory[64:104])
    with theirs, pytest.raises(OSError, match="deadlock"):
        theirs.acquire()


def test_they_die_with_the_lock_and_so_do_we(memory, tmp_path, child):
    lock = Lock(memory[:40])
    ask(
        "mpmetrics",
        THEIRS + "import os\nat(_mpmetrics.Lock, 0).acquire(); print('held', flush=True); os._exit(0)",
        tmp_path / "memory",
    )
    with pytest.raises(OSError, match="died") as caught:
        lock.acquire()
    assert caught.value.errno == errno.EOWNERDEAD
    with lock:
        pass
    child(
        """
        import mmap, os, sys
        from cuelight.primitives import Lock
        with open(sys.argv[1], "r+b") as file:
            memory = mmap.mmap(file.fileno(), 4096)
        lock = Lock.__new__(Lock)
        lock._setstate(memory)
        lock.acquire()
        os._exit(0)
        """,
        tmp_path / "memory",
    ).end()
    said = ask(
        "mpmetrics",
        THEIRS + "try: at(_mpmetrics.Lock, 0).acquire()\nexcept OSError as error: print(error.errno)",
        tmp_path / "memory",
    )
    assert said == str(errno.EOWNERDEAD)


@pytest.mark.parametrize("page", [4096, 16384])
def test_blocks_lie_where_theirs_do(page):
    rng = np.random.default_rng(page)
    sizes = [16, *rng.integers(1, 300, 60).tolist(), *rng.integers(1, 9000, 30).tolist(), 4096, 4095, 8192, 1, page, page - 1]
    wishes = [(size, 1 << int(bits)) for size, bits in zip(sizes, rng.integers(0, 12, len(sizes)), strict=True)]
    wishes[0] = 16, 16  # theirs begins at 48; from 64 on they are alike
    heap = Heap(page)
    ours = [(b.start, b.size) for b in (heap.malloc(*wish) for wish in wishes[1:])]
    code = """
    import json, sys
    from mpmetrics.heap import Heap
    heap = Heap(int(sys.argv[1]))
    print(json.dumps([(b.start, b.size) for b in (heap.malloc(*wish) for wish in json.loads(sys.argv[2]))][1:]))
    """
    theirs = [tuple(pair) for pair in json.loads(ask("mpmetrics", code, page, json.dumps(wishes)))]
    assert ours == theirs


# ---- the examples of the documents, as they are but for the import ----

EXAMPLES = {
    "FloatType": """
import pickle
from mpmetrics.generics import FloatType

def MyClass(__name__, x):
    return type(__name__, (), locals())

MyClass = FloatType('MyClass', MyClass)
assert MyClass[2.7].x == 2.7
assert pickle.loads(pickle.dumps(MyClass[2.7]())).x == 2.7
""",
    "IntType": """
import pickle
from mpmetrics.generics import IntType

def MyClass(__name__, x):
    return type(__name__, (), locals())

MyClass = IntType('MyClass', MyClass)
assert MyClass[5].x == 5
assert pickle.loads(pickle.dumps(MyClass[5]())).x == 5
""",
    "ListType": """
import pickle
from mpmetrics.generics import IntType, ListType

def MyClass(__name__, xs):
    return type(__name__, (), locals())

MyClass = ListType('MyClass', MyClass, IntType)
assert MyClass[1, 2, 3].xs == (1, 2, 3)
assert pickle.loads(pickle.dumps(MyClass[1, 2, 3]())).xs == (1, 2, 3)
""",
    "ObjectType": """
import pickle
from mpmetrics.generics import ObjectType

def MyClass(__name__, cls):
    return type(__name__, (), locals())

MyClass = ObjectType('MyClass', MyClass)
assert MyClass[int].cls is int
assert pickle.loads(pickle.dumps(MyClass[int]())).cls is int
""",
    "ProductType": """
import pickle
from mpmetrics.generics import IntType, ObjectType, ProductType

def MyClass(__name__, cls, x):
    return type(__name__, (), locals())

MyClass = ProductType('MyClass', MyClass, (ObjectType, IntType))
assert MyClass[int, 5].cls is int
assert MyClass[int, 5].x == 5
assert pickle.loads(pickle.dumps(MyClass[int, 5]())).x == 5
""",
    "Array": """
from mpmetrics.heap import Heap
from mpmetrics.types import Array, Box, Double

assert Array[Double, 5].size == Double.size * 5
a = Box[Array[Double, 5]](Heap())
assert type(a[0]) == Double
a[4].value = 6.28
""",
    "Box by hand": """
from mpmetrics.heap import Heap
from mpmetrics.types import Double

block = Heap().malloc(Double.size)
d = Double(block.deref())
assert isinstance(d._mem, memoryview)
""",
    "Box": """
from mpmetrics.heap import Heap
from mpmetrics.types import Box, Double

d = Box[Double](Heap())
""",
    "Double": """
from mpmetrics.heap import Heap
from mpmetrics.types import Box, Double

var = Box[Double](Heap())
assert var.value == 0
var.value += 1
assert var.value == 1
""",
    "Int64": """
from mpmetrics.heap import Heap
from mpmetrics.types import Box, Int64

var = Box[Int64](Heap())
assert var.value == 0
var.value += 1
assert var.value == 1
""",
    "Size_t": """
from mpmetrics.heap import Heap
from mpmetrics.types import Box, Size_t

var = Box[Size_t](Heap())
assert var.value == 0
var.value += 1
assert var.value == 1
""",
    "UInt64": """
from mpmetrics.heap import Heap
from mpmetrics.types import Box, UInt64

var = Box[UInt64](Heap())
assert var.value == 0
var.value += 1
assert var.value == 1
""",
    "Struct": """
from mpmetrics.heap import Heap
from mpmetrics.types import Box, Double, Size_t, Struct
import mpmetrics

class MyStruct(mpmetrics.types.Struct):
    _fields_ = {
        'a': Double,
        'b': Size_t,
    }

assert MyStruct.size == Double.size + Size_t.size
s = Box[MyStruct](Heap())
assert type(s.a) == Double
assert type(s.b) == Size_t
""",
    "genmask": """
from mpmetrics.util import genmask
hi, lo = 9, 3
mask = 0
for n in range(lo, hi):
    mask |= 1 << n
assert mask | 1 << hi == genmask(hi, lo)  # both ends are inclusive
""",
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_of_mpmetrics(child, name):
    child(EXAMPLES[name].replace("mpmetrics", "cuelight").replace("import cuelight\n", "import cuelight.types\n")).end()


def test_the_example_of_npshm(child):
    first = child(
        """
        from cuelight.npshm import create_shared_array
        import numpy as np
        test_name = "Test 2121"
        test = create_shared_array( test_name, shape=(10,3), dtype=np.int32, force=True, full=0 )
        test[:,1] = 1
        print("made", flush=True); input()
        assert np.all( test[:,2] == 2)
        """
    )
    try:
        assert first.line() == "made"
        child(
            """
            from cuelight.npshm import attach_shared_array
            import numpy as np
            test_name = "Test 2121"
            test = attach_shared_array( test_name, validate_shape=(10,3), validate_dtype=np.int32 )
            assert np.all( test[:,1] == 1)
            test[:,2] = 2
            """
        ).end()
        first.go()
        first.end()
    finally:
        assert npshm.delete_shared_array("Test 2121") is True


def test_names_that_others_import():
    """What mpmetrics' modules hold and their users import."""
    names = json.loads(
        ask(
            "mpmetrics",
            """
            import importlib, json, types
            found = {}
            for name in ("_mpmetrics", *("mpmetrics." + part for part in ("atomic", "generics", "heap", "types", "util"))):
                module = vars(importlib.import_module(name))
                found[name] = [n for n, thing in module.items() if not n.startswith("_") and not isinstance(thing, types.ModuleType)
                               and getattr(thing, "__module__", None) == name]
            print(json.dumps(found))
            """,
        )
    )
    for name, members in names.items():
        ours = importlib.import_module(name.replace("_mpmetrics", "cuelight.primitives").replace("mpmetrics", "cuelight"))
        assert [n for n in members if not hasattr(ours, n) and not hasattr(collections.abc, n)] == [], name
