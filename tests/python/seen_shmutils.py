"""What a program sees of shmutils, line by line; run as ``seen_shmutils.py MODULE NAME``."""

# ruff: noqa: B023
import asyncio
import copy
import importlib
import inspect
import os
import pickle
import re
import sys
import warnings

import numpy as np

from seen import show, show_signature

shmutils = importlib.import_module(sys.argv[1])
shmutils.warnings = warnings  # which the original forgets to import
S = shmutils.SharedMemoryArray
deprecated = shmutils.deprecated
for function in (
    S,
    S.create,
    S.load,
    S.close,
    S.clone,
    S.build_sma_name,
    S.clear_buffers,
    shmutils.create_and_register_sma,
    shmutils.shmarray_wrap,
):
    show_signature(function)
name = sys.argv[2]
a = S((3, 4), np.float32, name)
show("vars", lambda: vars(a))
show("class", lambda: sorted(n for n in vars(S) if n[:1] != "_" and n != "COUNTER"))
show("deprecated", lambda: S.__deprecated__)
show("create", a.create)
show("array", lambda: a.array)
show("smh", lambda: (a.smh.name.lstrip("/"), a.smh.size, len(a.smh.buf)))
show("size", lambda: (os.stat("/dev/shm/" + name).st_size, os.stat("/dev/shm/" + name).st_mode & 0o777))
show("create again", a.create)
a.array[:] = np.arange(12).reshape(3, 4)
b = S.clone(a, array_slice=(slice(1, 3), slice(None)))
show("clone", lambda: vars(b))
show("load", b.load)
show("part", lambda: b.array)
show("close", b.close)
show("closed", lambda: (b.smh, b.array))
show("close again", b.close)
show("clone bad", lambda: S.clone(a, colour=1))
show("clone positional", lambda: S.clone(a, "x"))
c = S((4, 4), np.float32, name)
show("too small", c.load)
d = S((2, 2), np.float32, name)
show("smaller", lambda: (d.load(), d.array.tolist(), d.close()))
show("absent", S((2,), "i4", name + "absent").load)
show("zero", S((0,), "i4", name + "zero").create)
show("left", lambda: os.path.exists("/dev/shm/" + name + "zero"))
for t in (np.uint8, "u1", np.dtype("M8[ns]"), "i4,f8", ">i4", "S3"):
    e = S((2,), t, name + "t")
    show(f"dtype {t}", lambda: (e.create(), e.array.dtype.str, e.close()))
    show("gone", lambda: S.clear_buffers([name + "t"]))
first = S.build_sma_name("pre")
show("form", lambda: bool(re.fullmatch(r"\d+-pre-\d{6}-\d{4}-\d{4}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", first)))
show(
    "no prefix",
    lambda: bool(re.fullmatch(r"\d+--\d{6}-\d{4}-\d{4}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", S.build_sma_name(None))),
)
show("missing prefix", S.build_sma_name)


class Mine(S):
    pass


at = S.COUNTER
Mine.build_sma_name("x")
show("counter", lambda: (S.COUNTER - at, Mine.COUNTER - at))
show("clone of a class", lambda: type(Mine.clone(a)).__name__)
names = []
show("register", lambda: type(shmutils.create_and_register_sma((2,), "i4", names, prefix="p")).__name__)
show("registered", lambda: (len(names), names[0].split("-")[1]))
show("register fails", lambda: shmutils.create_and_register_sma((0,), "i4", names))
show("registered", lambda: len(names))
show("clear", lambda: S.clear_buffers(names))
show("kept", lambda: len(names))
show("clear again", lambda: S.clear_buffers(names))
show("clear none", lambda: S.clear_buffers([]))


@shmutils.shmarray_wrap
def work(x, scale=1, *more, **named):
    "text"
    return type(x).__name__, type(scale).__name__, [type(m).__name__ for m in more], {k: type(v).__name__ for k, v in named.items()}


show("wrap name", lambda: (work.__name__, work.__doc__, work.__wrapped__ is not None))
w = S((3, 4), np.float32, name)
show("wrap", lambda: work(w, 2, S.clone(w), [S.clone(w)], named=S.clone(w), other=5))
show("closed", lambda: (w.smh, w.array))


@shmutils.shmarray_wrap
def fails(x):
    raise KeyError("no")


show("wrap fails", lambda: fails(w))
show("closed", lambda: (w.smh, w.array))
o = S((3, 4), np.float32, name)
o.load()
show("wrap open", lambda: work(o)[0])
show("closed too", lambda: (o.smh, o.array))
show("wrap absent", lambda: work(S((1,), "i4", name + "absent")))
p = pickle.loads(pickle.dumps(w))
show("pickle", lambda: (type(p).__name__, vars(p)))
show("copy", lambda: vars(copy.copy(w)))
a.close()
S.clear_buffers([name])


# ---- deprecated ----
def warned(call):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = call()
        except Exception as error:
            result = type(error).__name__
    return repr(result)[:20], [
        (w.category.__name__, str(w.message), os.path.basename(w.filename) == os.path.basename(__file__)) for w in seen
    ]


@deprecated("old f")
def f(x):
    return x


show("function", lambda: warned(lambda: f(5)))


@deprecated("old g", category=FutureWarning)
def g():
    return 1


show("category", lambda: warned(g))


@deprecated("old h", category=None)
def h():
    return 1


show("none", lambda: (warned(h), h.__deprecated__))


@deprecated("old s", stacklevel=2)
def s():
    return 1


show("stacklevel", lambda: warned(lambda: s()))


@deprecated("old C")
class C:
    def __init__(self, x=1):
        self.x = x


show("class", lambda: warned(lambda: C(3).x))


class D(C):
    pass


show("subclass", lambda: warned(lambda: D(3).x))


class E(C):
    def __init__(self):
        super().__init__(7)


show("subclass with init", lambda: warned(lambda: E().x))


@deprecated("old empty")
class Empty:
    pass


show("empty class", lambda: warned(lambda: type(Empty()).__name__))
show("mark", lambda: (f.__deprecated__, C.__deprecated__, f.__name__))
show("not str", lambda: deprecated(5))
show("not callable", lambda: deprecated("x")(5))
show("not callable none", lambda: deprecated("x", category=None)(5))


@deprecated("old co")
async def co():
    return 3


show("coroutine", lambda: (inspect.iscoroutinefunction(co) or asyncio.iscoroutinefunction(co), warned(lambda: asyncio.run(co()))))


class M:
    @deprecated("old m")
    def m(self):
        return 1

    @staticmethod
    @deprecated("old st")
    def st():
        return 2

    @classmethod
    @deprecated("old cm")
    def cm(cls):
        return 3


show("method", lambda: (warned(M().m), warned(M.st), warned(M.cm)))
