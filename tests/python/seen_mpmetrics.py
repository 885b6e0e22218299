"""What a program sees of mpmetrics' internals, line by line; run as ``seen_mpmetrics.py PRIMITIVES PACKAGE``.

Where the original breaks its own documentation, nothing is asked: tests/python/test_types.py and its neighbours say what ours does.
"""

# ruff: noqa: B023, RUF012
import copy
import ctypes
import errno
import gc
import importlib
import inspect
import mmap
import multiprocessing
import os
import pickle
import sys
import threading
import weakref

from seen import show

primitives = importlib.import_module(sys.argv[1])
atomic, generics, heap, types, util = (
    importlib.import_module(f"{sys.argv[2]}.{part}") for part in ("atomic", "generics", "heap", "types", "util")
)
AtomicInt64, AtomicUInt64, AtomicDouble, Lock = (
    getattr(primitives, n) for n in ("AtomicInt64", "AtomicUInt64", "AtomicDouble", "Lock")
)
Heap, Struct, Array, Box = heap.Heap, types.Struct, types.Array, types.Box
WHOLE = ["AtomicInt32", "AtomicInt64", "AtomicUInt32", "AtomicUInt64"]
ATOMICS = [*WHOLE, "AtomicDouble"]


def said(call):
    """The exception's text, too, where there is one to be relied on."""
    try:
        return call()
    except Exception as error:
        return type(error).__name__, str(error) if "too large to fit" in str(error) or "too small" in str(error) else ""


def number(call):
    """The exception's number, too."""
    try:
        return call()
    except OSError as error:
        return type(error).__name__, errno.errorcode[error.errno]


def elsewhere(call):
    """In another thread."""
    seen = []
    thread = threading.Thread(target=lambda: seen.append(number(call)))
    thread.start()
    thread.join()
    return seen[0]


def arguments(function):
    return [(p.name, p.kind.name, str(p.default)) for p in inspect.signature(function).parameters.values() if p.name != "self"]


# ---- primitives ----
for name in [*ATOMICS, "Lock", "Buffer"]:
    kind = getattr(primitives, name)
    show(name, lambda: [getattr(kind, n, None) for n in ("size", "align", "min", "max")])
    show("kind", lambda: (issubclass(kind, primitives.Buffer), kind.__name__, kind.__module__ == primitives.__name__))
for name in [*ATOMICS, "Lock"]:
    kind = getattr(primitives, name)
    memory = bytearray(b"\xff" * 64)
    one = kind(memory)
    show(name, lambda: memory[: kind.size].hex() if kind is not Lock else None)
    show("beyond", lambda: memory[kind.size :] == b"\xff" * (64 - kind.size))
    show("of an instance", lambda: (one.size, one.align))
    show("grow", lambda: memory.append(1))
    show("released", lambda: memory.release())
    show("dict", lambda: one.__dict__)
    show("weak", lambda: weakref.ref(one))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        show(f"pickle {protocol}", lambda: pickle.dumps(one, protocol))
    show("copy", lambda: copy.copy(one))
    show("identity", lambda: (one == one, one == kind(bytearray(64)), len({one, kind(bytearray(64))}), one != one))
    show("order", lambda: one < one)
    show("set attribute", lambda: setattr(one, "anything", 1))
    for wrong in ((), (memory, memory), (bytes(64),), (None,), ("x" * 64,), (7,), (memoryview(bytes(64)),), ([0] * 64,)):
        show(f"made with {len(wrong)} {type(wrong[0]).__name__ if wrong else ''}", lambda: kind(*wrong))
    show("by name", lambda: kind(mem=bytearray(64)))
    show("heap", lambda: type(kind(bytearray(64), heap=None, other=5)).__name__)
    show("exactly", lambda: type(kind(bytearray(kind.size))).__name__)
    for short in (0, 1, kind.size - 1):
        show(f"short {short}", lambda: said(lambda: kind(bytearray(short))))
    show("wider items", lambda: type(kind((ctypes.c_uint64 * 8)())).__name__)
    show("map", lambda: type(kind(mmap.mmap(-1, 4096))).__name__)
    other = kind.__new__(kind)
    show("setstate", lambda: (other._setstate(memory), other._setstate(memory, heap=None)))
    show("setstate twice", lambda: other._setstate(bytearray(64)))
    show("setstate short", lambda: said(lambda: other._setstate(bytearray(1))))
    show("setstate of nothing", lambda: other._setstate())
    show("setstate of bytes", lambda: other._setstate(bytes(64)))

    class Mine(kind):
        pass

    mine = Mine(bytearray(64))
    mine.more = 1
    show("subclass", lambda: (mine.more, weakref.ref(mine)() is mine, isinstance(mine, kind), mine == mine))
    memory = bytearray(64)
    del one
    one = kind(memory)
    del one
    gc.collect()
    show("grows again", lambda: memory.append(1))
show("buffer", lambda: primitives.Buffer(bytearray(64)))

LIMITS = [1 << 31, 1 << 32, 1 << 63, 1 << 64]
NEAR = sorted({s * (n + d) for n in [0, *LIMITS] for d in (-1, 0, 1) for s in (1, -1)})
for name in ATOMICS:
    kind = getattr(primitives, name)
    one = kind(bytearray(8))
    for value in NEAR:
        show(f"{name} set {value}", lambda: (said(lambda: one.set(value)), one.get()))
        for amount in (1, -1, value):
            show(f"add {amount}", lambda: (said(lambda: one.add(amount)), one.get()))
            show("quietly", lambda: (said(lambda: one.add(amount, False)), one.get()))
    one.set(5)
    for value in (True, 1.0, 1.5, "1", None, b"1", 1j, [], float("nan"), float("inf"), 1 << 2000):
        show(f"set {str(value)[:9]!r}", lambda: (one.set(value), one.get()))
        show("add", lambda: (one.add(value), one.get()))
        one.set(5)

    class Index:
        def __index__(self):
            return 3

    if not name.startswith("AtomicUInt"):
        show("index", lambda: (one.set(Index()), one.add(Index()), one.get()))
    show("names", lambda: (one.set(1), one.add(amount=2), one.add(amount=2, raise_on_overflow=False), one.get()))
    show("positions", lambda: (one.add(1, True), one.add(1, 0), one.add(1, "yes")))
    show("type", lambda: (type(one.get()).__name__, type(one.add(1)).__name__))
    for call in (
        "one.set()",
        "one.add()",
        "one.get(1)",
        "one.set(1, 2)",
        "one.add(1, True, 3)",
        "one.add(1, amount=1)",
        "one.set(other=1)",
    ):
        show(call, lambda: eval(call))
    show("after", one.get)
real = AtomicDouble(bytearray(8))
show("inf", lambda: (real.set(1e308), real.add(1e308, True), real.get(), real.add(float("-inf")), str(real.get())))

lock = Lock(bytearray(40))
show("acquire", lambda: (lock.acquire(), lock.release(), lock.acquire(True), lock.release()))
show("try", lambda: (lock.acquire(False), lock.release(), lock.acquire(block=False), lock.release()))
for timeout in (None, 0, 0.01, 5, -1, -1e9, True):
    show(f"timeout {timeout}", lambda: (lock.acquire(timeout=timeout), lock.release()))
    show("ignored", lambda: (lock.acquire(False, timeout), lock.release()))
for timeout in ("1", [], b"", 1j):
    show(f"timeout {timeout!r}", lambda: lock.acquire(timeout=timeout))
    show("free", lambda: (lock.acquire(False), lock.release()))
for call in ("lock.acquire(True, 1, 2)", "lock.acquire(blocking=True)", "lock.release(1)"):
    show(call, lambda: eval(call))
show("not held", lambda: number(lock.release))
show("with", lambda: (lock.__enter__(), number(lock.acquire), lock.__exit__(None, None, None)))
with lock as entered:
    show("entered", lambda: entered)
    for how in ((), (False,), (True, 0), (True, 0.01), (True, -1)):
        show(f"again {how}", lambda: number(lambda: lock.acquire(*how)))
    show("of another thread", lambda: elsewhere(lock.release))
    for how in ((False,), (True, 0), (True, 0.02), (True, -1), (False, 9)):
        show(f"busy {how}", lambda: elsewhere(lambda: lock.acquire(*how)))
    same = Lock.__new__(Lock)
    same._setstate(bytearray(40))
show("free", lambda: elsewhere(lambda: (lock.acquire(False), lock.release())))


def raises():
    with lock:
        raise KeyError("through")


show("exceptions pass", raises)
show("free after", lambda: elsewhere(lambda: (lock.acquire(False), lock.release())))
page = mmap.mmap(-1, 4096)
lock = Lock(page)
lock.acquire()
pid = os.fork()
if pid == 0:
    os._exit(10 * (number(lock.release) == ("PermissionError", "EPERM")) + (lock.acquire(False) is False))
show("of another process", lambda: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
lock.release()
pid = os.fork()
if pid == 0:
    lock.acquire()
    os._exit(0)
os.waitpid(pid, 0)
show("died", lambda: number(lock.acquire))

# ---- atomic, util ----
show("native", lambda: [getattr(atomic, n) is getattr(primitives, n) for n in ("AtomicInt64", "AtomicUInt64", "AtomicDouble")])
for name in ("LockingInt64", "LockingUInt64", "LockingDouble"):
    kind = getattr(atomic, name)
    show(name, lambda: (kind.size, kind.align, [(k, v.__name__) for k, v in kind._fields_.items()], issubclass(kind, Struct)))
    one = kind(bytearray(48), heap=None)
    show("names", lambda: (one.set(value=1), one.add(amount=2, raise_on_overflow=False), one.get()))
    for value in (v for v in NEAR if abs(v) < 1 << 63):
        show(f"set {value}", lambda: (one.set(value), one.get()))
        for amount in (1, -1, value):
            show(f"add {amount}", lambda: (said(lambda: one.add(amount)), one.get()))
            show("quietly", lambda: (one.add(amount, False), one.get()))
    for value in (1 << 64, -(1 << 63) - 1, (1 << 70) + 5):
        show(f"set {value}", lambda: (one.set(value), one.get()))
    show("wrong", lambda: one.set("1"))
    show("wrong", lambda: one.add("1"))
    show("free after", lambda: (one._lock.acquire(False), one._lock.release()))
    show("short", lambda: kind(bytearray(47)))
for x in (-(1 << 70), -65, -64, -1, 0, 1, 63, 64, 65, 1 << 70):
    for a in (1, 2, 64, 1 << 71, 0, -1, -64, 3, 65):
        show(f"align {x} {a}", lambda: util.align(x, a))
        show("down", lambda: util.align_down(x, a))
for hi in (0, 3, 9, 70, -1, -2):
    for lo in (0, 1, 3, 10, -1):
        show(f"genmask {hi} {lo}", lambda: util.genmask(hi, lo))
for function in (util.align, util.align_down, util.genmask, util.classproperty):
    show(function.__name__, lambda: arguments(function))


class Counted:
    n = 3

    @util.classproperty
    def twice(cls):
        "text"
        return cls.n * 2


class More(Counted):
    n = 5


show("classproperty", lambda: (Counted.twice, Counted().twice, More.twice, More().twice, issubclass(util.classproperty, property)))
show("its text", lambda: vars(Counted)["twice"].__doc__)


# ---- generics ----
def value(__name__, x):
    "of a value"
    return type(__name__, (), {"x": x, "__module__": "__main__"})


def pair(__name__, cls, x):
    "of two"
    return type(__name__, (), {"cls": cls, "x": x, "__module__": "__main__"})


Int, Float, Obj = generics.IntType("Int", value), generics.FloatType("Float", value), generics.ObjectType("Obj", value)
P = generics.ProductType("P", pair, (generics.ObjectType, generics.IntType))
Q = generics.ProductType("Q", pair, (generics.IntType,), (int,))
L, LO, LF = (
    generics.ListType(n, value, t) for n, t in (("L", generics.IntType), ("LO", generics.ObjectType), ("LF", generics.FloatType))
)
sys.modules["__main__"].__dict__.update({"Int": Int, "Float": Float, "Obj": Obj, "P": P, "Q": Q, "L": L, "LO": LO, "LF": LF})


class Outer:
    class Inner:
        pass


sys.modules["__main__"].__dict__["Outer"] = Outer
Outer.__module__ = Outer.Inner.__module__ = "__main__"
for text in (
    "Int[5]", "Int[-3]", "Int[0]", "Int[1 << 80]", "Float[2.7]", "Float[1e-7]", "Float[-0.5]", "Float[1e300]", "Float[2.0]",
    "Float[float('inf')]", "Obj[int]", "Obj[dict]", "Obj[Outer]", "Obj[Outer.Inner]", "Obj[threading.Thread]", "P[int, 5]",
    "P[int][5]", "P[int]", "P[Outer.Inner, -1]", "Q[4]", "L[1, 2, 3]", "L[7]", "L[7, -7]", "LO[int, str]", "LF[1.5, 2.5]",
    "Obj[Obj[int]]", "Obj[P[int, 5]]", "P[Obj[int], 3]",
):  # fmt: skip
    show(
        text,
        lambda: (eval(text).__qualname__, eval(text).__name__ if isinstance(eval(text), type) else None, eval(text) is eval(text)),
    )
    show("pickle", lambda: pickle.loads(pickle.dumps(eval(text))) is eval(text) if isinstance(eval(text), type) else 0)
    show(
        "instance", lambda: isinstance(pickle.loads(pickle.dumps(eval(text)())), eval(text)) if isinstance(eval(text), type) else 0
    )
    show("value", lambda: [str(getattr(eval(text), n, None)).rpartition(".")[2] for n in ("x", "cls")])
show("by attribute", lambda: (getattr(Int, "5") is Int[5], getattr(Float, "2_7") is Float[2.7], getattr(P[int], "5") is P[int, 5]))
for text in ("Int['x']", "Int.abc", "Int[2.5]", "Float['x']", "L['x']", "Obj[5]", "P[int, 'x']", "P[5, 5]"):
    show(text, lambda: eval(text))
for generic in (Int, Float, Obj, P, L):
    show("texts", lambda: (generic.__qualname__, generic.__doc__))
for kind in (generics.IntType, generics.FloatType, generics.ObjectType, generics.ProductType, generics.ListType, generics.saveattr):
    show(kind.__name__, lambda: arguments(kind))


def local():
    class Local:
        pass

    return Obj[Local]


show("local", local)
asked = []


class Saving:
    @generics.saveattr
    def __getattr__(self, name):
        asked.append(name)
        return name * 2


saving = Saving()
show("saveattr", lambda: (saving.ab, saving.ab, saving.c, asked, vars(saving)))

# ---- heap ----
show("constants", lambda: (heap.PAGESIZE, heap.CACHELINESIZE))
show("Heap", lambda: (arguments(Heap.__init__), Heap.size, Heap.align, issubclass(Heap, Struct), [*Heap._fields_]))
show("fields", lambda: [kind.__name__ for kind in Heap._fields_.values()])
for size in (4096, 8192, 1 << 20, 0, -4096, 1, 2048, 4097, 3 * 4096):
    show(f"map_size {size}", lambda: Heap(size).map_size)
one = Heap()
show("default", lambda: (one.map_size, Heap(map_size=8192).map_size))
for size in (0, -1, 1.5, "1", None):
    show(f"malloc {size}", lambda: one.malloc(size))
for alignment in (0, -1, 3, 24, "1"):
    show(f"alignment {alignment}", lambda: one.malloc(1, alignment=alignment))
show("first", lambda: (one.malloc(1).start, one.malloc(10).start, one.malloc(100).size, one.malloc(1, alignment=256).start))
show("by name", lambda: one.malloc(size=8, alignment=8).start)
block = one.malloc(100)
show("block", lambda: (block.heap is one, block.start, block.size, type(block).__qualname__, arguments(Heap.Block.__init__)))
memory = block.deref()
show(
    "memory", lambda: (type(memory).__name__, memory.format, len(memory), memory.nbytes, memory.readonly, memory.ndim, any(memory))
)
memory[:5] = b"hello"
show("other block", lambda: bytes(Heap.Block(one, block.start, 5).deref()))
show("free", lambda: (block.free(), bytes(block.deref()[:5])))
show("big", lambda: [(b.start % 4096, b.size, len(b.deref())) for b in (one.malloc(5000), one.malloc(4097), one.malloc(12288))])
show("rest", lambda: [(b.start, b.size) for b in (one.malloc(n) for n in (4000, 200, 4096, 1, 4095, 64))])
show("pickle", lambda: pickle.loads(pickle.dumps(block)).start)
again = pickle.loads(pickle.dumps([one, one, block]))
show("one stream", lambda: (again[0] is again[1] is again[2].heap, again[0].map_size, bytes(again[2].deref()[:5])))
show("one base", lambda: again[0].malloc(1).start < one.malloc(1).start < again[0].malloc(1).start)
show("nothing in shm", lambda: [n for n in os.listdir("/dev/shm") if "heap" in n])


# ---- types ----
for name in ("Double", "Size_t", "Int64", "UInt64"):
    kind = getattr(types, name)
    memory = bytearray(b"\xff" * 16)
    one = kind(memory, None)
    show(name, lambda: (kind.size, kind.align, one.size, one.value, type(one.value).__name__, memory.hex(), kind.__name__))
    for x in (1, -1, 1 << 63, (1 << 64) + 5, -(1 << 63) - 1, True, 1.5, "1", None, 1j):
        show(f"value {x}", lambda: (setattr(one, "value", x), one.value))
    show("plus", lambda: (setattr(one, "value", 1), setattr(one, "value", one.value + 1), one.value, memory.hex()))
    show("short", lambda: said(lambda: kind(bytearray(7)))[0])
    show("bytes", lambda: kind(bytes(8)))
    show("none", kind)
    show("names", lambda: kind(mem=bytearray(8), heap=None).value)
    show("setstate", lambda: (lambda k: (k._setstate(memory, heap=None), k.value))(kind.__new__(kind)))
    show("nothing", lambda: one.nothing)
    show("of ctypes", lambda: one._b_base_)
    show("mem", lambda: type(kind(memoryview(memory))._mem).__name__)


class Small(Struct):
    _fields_ = {"a": types.Double, "b": primitives.AtomicInt32}


class Pair(Struct):
    _fields_ = {"a": types.Double, "b": types.Size_t}


class Mixed(Struct):
    _fields_ = {
        "small": primitives.AtomicInt32,
        "lock": Lock,
        "pair": Pair,
        "last": primitives.AtomicInt32,
        "row": Array[types.Double, 3],
    }


class Tail(Struct):
    _fields_ = {"one": primitives.AtomicInt32, "two": primitives.AtomicInt32, "three": primitives.AtomicInt32}


class Holding(Struct):
    _fields_ = {"table": types.Dict, "names": types.List}


for kind in (Small, Pair, Mixed, Tail, Holding):
    sys.modules["__main__"].__dict__[kind.__name__] = kind
    kind.__module__ = "__main__"
    one = kind(bytearray(512), heap=Heap())
    show(kind.__name__, lambda: (kind.size, kind.align, one.size, one.align))
    show("fields", lambda: [isinstance(getattr(one, n), kind._fields_[n]) for n in kind._fields_])
    show("array", lambda: (Array[kind, 3].size, Array[kind, 3].align, len(Array[kind, 3](bytearray(1024), heap=Heap()))))
    show("box", lambda: (Box[kind].__qualname__.split(".")[-2:], Box[kind].__doc__ == kind.__doc__, Box[kind].__bases__[1] is kind))
    show("boxed", lambda: (lambda box: [isinstance(getattr(box, n), kind._fields_[n]) for n in kind._fields_])(Box[kind](Heap())))
show("short", lambda: Mixed(bytearray(Mixed.size - 1)))
memory = bytearray(256)
one = Mixed(memoryview(memory))
one.small.set(1)
one.pair.a.value, one.pair.b.value = 1.5, 2
one.last.set(3)
one.row[2].value = 0.5
show("bytes", lambda: (memory[:8].hex(), memory[48:].hex()))
other = Mixed.__new__(Mixed)
show(
    "setstate",
    lambda: (other._setstate(memoryview(memory)), other.pair.a.value, other.last.get(), other.row[2].value, other.small.get()),
)
row = Array[types.Double, 5](bytearray(40))
show(
    "Array",
    lambda: (len(row), Array[types.Double, 5].size, Array[types.Double, 5].align, Array[types.Double][5] is Array[types.Double, 5]),
)
row[4].value = 6.28
show(
    "items",
    lambda: (
        row[-1].value,
        row[4].value,
        [x.value for x in row],
        [x.value for x in row[3:]],
        type(row[1:2]).__name__,
        type(row[0]).__name__,
    ),
)
for text in (
    "row[5]", "row[-6]", "row.__setitem__(0, 1)", "row.__delitem__(0)", "row['a']", "Array[types.Double, 0]",
    "Array[types.Double, -1]",
):  # fmt: skip
    show(text, lambda: eval(text))
for kind in (types.Double, AtomicInt64, Pair, Mixed, Array[types.Double, 3], Array[Pair, 2]):
    box = Box[kind](Heap())
    others = pickle.loads(pickle.dumps(box)), copy.copy(box), copy.deepcopy(box)
    show("Box", lambda: (isinstance(box, kind), [type(o) is Box[kind] for o in others], Box[kind] is Box[kind]))
box = Box[Pair](Heap())
others = pickle.loads(pickle.dumps(box)), copy.copy(box)
box.a.value = 2.5
others[0].b.value = 7
show("shared", lambda: (others[0].a.value, others[1].a.value, box.b.value))


class Named:
    size, align = 16, 8

    def __init__(self, mem, name, *more, heap=None, extra=None):
        self.seen = len(mem), name, more, type(heap).__name__, extra
        self.name = name

    def _getstate(self):
        return {"name": self.name}

    def _setstate(self, mem, heap=None, **kw):
        self.seen, self.name = ("again", len(mem), type(heap).__name__, kw), kw["name"]


sys.modules["__main__"].__dict__["Named"] = Named
Named.__module__ = "__main__"
box = Box[Named](Heap(), "n", 1, 2, extra=3)
show("handed on", lambda: box.seen)
show("state", lambda: pickle.loads(pickle.dumps(box)).seen)

shared = Heap()
table, names = Box[types.Dict](shared), Box[types.List](shared)
show(
    "Object",
    lambda: (types.Object.size, types.Dict.size, types.List.align, [*types.Dict._fields_], issubclass(types.Dict, types.Object)),
)
for kind in (types.Dict, types.List):
    show("no heap", lambda: kind(bytearray(24), None))
    show("no heap", lambda: kind(bytearray(24)))
    show(
        "empty",
        lambda: (len(kind(bytearray(24), shared)), list(kind(bytearray(24), shared)), repr(kind(bytearray(24), heap=shared))),
    )
for text in (
    "table.__setitem__('a', 1)",
    "table.__setitem__(2, [1, 2])", "table.__setitem__((3, 4), None)", "table['a']", "table[2]", "table['no']", "len(table)",
    "list(table)", "list(reversed(table))", "'a' in table", "'no' in table", "list(table.keys())", "list(table.items())",
    "list(table.values())", "table.get('a')", "table.get('no')", "table.get('no', 7)", "table.pop('a')", "table.pop('no', 5)",
    "table.setdefault('s', [])", "table.setdefault('s', 9)", "table.update({'u': 1, 2: 'two'})", "table.update([('w', 2)])",
    "table.popitem()", "type(table.copy()).__name__", "table.copy()", "table | {'x': 1}", "type(table | {}).__name__",
    "table == {'s': []}", "table != {}", "table.__delitem__('s')", "table.__delitem__('s')", "hash(table)",
    "table.__setitem__([], 1)", "table.__setitem__(1, lambda: 1)", "repr(table).rpartition('>')[2]", "bool(table)",
    "table.clear()", "len(table)", "table.popitem()",
):  # fmt: skip
    show(text, lambda: eval(text))
kept = table
table |= {"k": 1}
show("or in place", lambda: (table is kept, table["k"]))
got = table.setdefault("list", [])
got.append(1)
show("a copy", lambda: table["list"])
for text in (
    "names.append(1)", "names.extend([2, 3, 4])", "names.insert(0, 'first')", "names[0]", "names[-1]", "names[1:3]",
    "names[::2]", "names[9]", "names.__setitem__(0, 'new')", "names.__setitem__(9, 1)",
    "names.__setitem__(slice(1, 3), 'abc')", "len(names)", "list(names)", "list(reversed(names))", "'a' in names",
    "names.index('b')", "names.index('no')", "names.count('a')", "names.pop()", "names.pop(0)", "names.pop(9)",
    "names.remove('a')", "names.remove('no')", "names.reverse()", "list(names)", "names.__delitem__(0)",
    "names.__delitem__(9)", "names.__delitem__(slice(0, 1))", "list(names)", "names.append(lambda: 1)", "list(names)",
    "names.append()", "names.extend(5)", "repr(names).rpartition('>')[2]", "bool(names)",
):  # fmt: skip
    show(text, lambda: eval(text))
table["box"] = names
table["number"] = Box[types.Double](shared)
table["number"].value = 4.5
show("boxes", lambda: (type(table["box"]).__name__ == type(names).__name__, table["number"].value))
table["box"].append("through")
show("one list", lambda: list(names)[-1])
show("before", lambda: (table._start.value > 0, table._size.value >= table._len.value))
queue = multiprocessing.get_context("fork").SimpleQueue()


def child(table, names, number):
    names.append("child")
    table["child"] = number.value
    number.value += 1
    queue.put(shared.malloc(1).start)


worker = multiprocessing.get_context("fork").Process(target=child, args=(table, names, table["number"]))
worker.start()
worker.join()
show(
    "a process",
    lambda: (worker.exitcode, table["child"], list(names)[-1], table["number"].value, queue.get() < shared.malloc(1).start),
)
