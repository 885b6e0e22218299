"""The drop-in modules beside the libraries whose names they have: each reads what the other wrote.

Each original is installed by pip into an environment of its own, build/originals/NAME; where that cannot be done its tests are
skipped.
"""

import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import numpy as np
import pytest

from cuelight import npio, npshm, shmutils

HERE = Path(__file__).resolve().parent
HOME = HERE.parents[1] / "build/originals"
PINNED = {"cdxcore": "cdxcore==0.1.96", "gridr": "gridr==0.7.0", "mpmetrics": "mpmetrics==0.1.0", "dragonhpc": "dragonhpc==0.15.0"}
ABSENT: dict[str, str] = {}

pytestmark = [pytest.mark.seconds(240), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def environment(package):
    python = HOME / package / "bin/python"
    ready = HOME / package / "ready"
    if package in ABSENT:  # one try is enough
        pytest.skip(ABSENT[package])
    if not ready.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(HOME / package)], check=True, capture_output=True, timeout=60)
            install = [str(python), "-m", "pip", "install", "-q", PINNED[package]]
            subprocess.run(install, check=True, capture_output=True, timeout=150)
        except (subprocess.SubprocessError, OSError) as error:
            ABSENT[package] = f"{PINNED[package]} cannot be installed here: {type(error).__name__}"
            pytest.skip(ABSENT[package])
        ready.touch()
    return python


def ask(package, code, *args):
    """Runs code with the original; what it prints. Its resource tracker is told to keep its hands off."""
    keep = """
    from multiprocessing import resource_tracker
    resource_tracker.register = lambda *args: None
    resource_tracker.unregister = lambda *args: None
    """
    ran = subprocess.run(
        [str(environment(package)), "-W", "ignore", "-c", textwrap.dedent(keep) + textwrap.dedent(code), *map(str, args)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.fixture
def name():
    chosen = f"cuelight-orig-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield chosen
    npshm.delete_shared_array(chosen)


def test_npshm_attaches_to_what_cdxcore_made(name):
    ask(
        "cdxcore",
        """
        import sys, numpy as np
        from cdxcore.npshm import create_shared_array
        a = create_shared_array(sys.argv[1], (3, 4), np.float64, full=1.5); a[2, 3] = 9
        """,
        name,
    )
    array = npshm.attach_shared_array(name, validate_shape=(3, 4), validate_dtype=np.float64)
    assert array.sum() == 1.5 * 11 + 9


@pytest.mark.parametrize("dtype", ["i2", "f8", "c16", "?"])
def test_cdxcore_attaches_to_what_npshm_made(name, dtype):
    array = npshm.create_shared_array(name, (2, 5), dtype, full=1)
    said = ask(
        "cdxcore",
        """
        import sys
        from cdxcore.npshm import attach_shared_array
        a = attach_shared_array(sys.argv[1]); print(a.shape, a.dtype, a.sum().real); a[0, 0] = 0
        """,
        name,
    )
    assert said == f"{array.shape} {array.dtype} {np.ones((2, 5), dtype).sum().real}"
    assert array[0, 0] == 0


def test_npio_and_cdxcore_read_each_others_files(tmp_path):
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    npio.to_file(ours, np.arange(24, dtype=np.int32).reshape(2, 3, 4))
    said = ask(
        "cdxcore",
        """
        import sys, numpy as np
        from cdxcore.npio import from_file, to_file
        print(from_file(sys.argv[1]).tolist())
        to_file(sys.argv[2], np.linspace(0, 1, 7))
        """,
        ours,
        theirs,
    )
    assert said == str(np.arange(24).reshape(2, 3, 4).tolist())
    assert np.array_equal(npio.from_file(theirs), np.linspace(0, 1, 7))


def test_shmutils_and_gridr_exchange_arrays(name):
    made = shmutils.SharedMemoryArray((4, 6), np.uint8, name)
    made.create()
    made.array[:] = 3
    ask(
        "gridr",
        """
        import sys, warnings, numpy as np
        import gridr.scaling.shmutils as shmutils
        shmutils.warnings = warnings  # which it forgets to import
        s = shmutils.SharedMemoryArray((4, 6), np.uint8, sys.argv[1], (slice(0, 2), slice(None)))
        s.load(); s.array += 1; s.close()
        t = shmutils.SharedMemoryArray((5,), np.float32, sys.argv[1] + "-t"); t.create(); t.array[:] = 2; t.close()
        """,
        name,
    )
    assert made.array.sum() == 12 * 4 + 12 * 3
    theirs = shmutils.SharedMemoryArray((5,), np.float32, name + "-t")
    theirs.load()
    assert theirs.array.tolist() == [2.0] * 5
    shmutils.SharedMemoryArray.clear_buffers([name + "-t"])


RUN = """
import os, runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def seen(python, program, *args):
    """What one of the programs seen_*.py prints."""
    command = [str(python), "-W", "ignore", "-B", str(HERE / program), *map(str, args)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout.splitlines()


def test_programs_see_the_same_of_npio_and_npshm_as_with_cdxcore(name, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "ours").mkdir()
    theirs = ask("cdxcore", RUN, HERE / "seen_npshm.py", "cdxcore.npio", "cdxcore.npshm", name, tmp_path / "theirs").splitlines()
    ours = seen(sys.executable, "seen_npshm.py", "cuelight.npio", "cuelight.npshm", name, tmp_path / "ours")
    assert ours == theirs
    assert len(ours) > 170


def test_programs_see_the_same_of_shmutils_as_with_gridr(name):
    theirs = ask("gridr", RUN, HERE / "seen_shmutils.py", "gridr.scaling.shmutils", name).splitlines()
    ours = seen(sys.executable, "seen_shmutils.py", "cuelight.shmutils", name)
    assert ours == theirs
    assert len(ours) > 75


def test_programs_see_the_same_of_the_building_blocks_as_with_mpmetrics():
    theirs = ask("mpmetrics", RUN, HERE / "seen_mpmetrics.py", "_mpmetrics", "mpmetrics").splitlines()
    ours = seen(sys.executable, "seen_mpmetrics.py", "cuelight.primitives", "cuelight")
    assert ours == theirs
    assert len(ours) > 2300


# What a program sees of managed memory, line by line; run with Dragon (without its runtime) and with ours.
TRANSCRIPT = """
import pickle, sys
from PACKAGE.managed_memory import *
from PACKAGE.managed_memory import AllocType, DRAGON_MEMORY_DEFAULT_TIMEOUT

def show(label, call):
    try:
        print(label, call())
    except Exception as error:
        expected = [c.__name__ for c in type(error).__mro__ if c.__name__.startswith("Dragon") or c.__module__ == "builtins"]
        dragon = [c for c in expected if c.startswith("Dragon") and c not in ("DragonAllocationDestroyed", "DragonObjectDestroyed")]
        print(label, "raises", dragon or expected[0])

pool = MemoryPool(32768, sys.argv[1], 17)
show("size", lambda: (pool.size, pool.free_blocks, pool.num_block_sizes, pool.max_allocations))
show("ids", lambda: (pool.muid, pool.rt_uid, pool.is_local))
a = pool.alloc(10000)
show("used", lambda: (pool.free_space, pool.utilization, pool.current_allocations, pool.max_used_allocations, pool.free_blocks))
b = pool.alloc(5, AllocType.CHANNEL)
rows = pool.get_allocations()
show("rows", lambda: (rows.num_allocs, rows.alloc_type(0), rows.alloc_id(0) == a.id, rows.alloc_type(1).name))
show("index", lambda: rows.alloc_type(99))
show("exists", lambda: pool.allocation_exists(a.id))
show("by id", lambda: pool.alloc_from_id(a.id).size)
show("no such id", lambda: pool.alloc_from_id(12345))
for size in (-1, 1.5, "x", 1 << 62, 1 << 64, 32768):
    show(f"alloc {size}", lambda: pool.alloc(size))
for size, timeout in ((0, None), (10, -1), (10, "x"), (30000, 0), (30000, 0.05), (70000, 0.05), (5.5, None)):
    show(f"blocking {size} {timeout}", lambda: pool.alloc_blocking(size, timeout=timeout))
show("nothing", lambda: pool.alloc(0).size)
text = pool.serialize()
show("bytes", lambda: (type(text), int.from_bytes(text[:8], "little"), MemoryPool.serialized_uid_fname(text)))
show("attach nothing", lambda: MemoryPool.attach(b""))
show("attach junk", lambda: MemoryPool.attach(b"x" * 50))
show("attach str", lambda: MemoryPool.attach("x"))
a.get_memview()[:5] = b"hello"
c = MemoryAlloc.attach(a.serialize())
show("uid", lambda: int.from_bytes(a.serialize()[8:16], "little"))
show("same", lambda: (c.is_the_same_as(a), c == a, c == 5, hash(c) == hash(a), c.is_the_same_as(b)))
view = a.get_memview()
show("view", lambda: (len(view), view.format, view.readonly, bytes(view[:5])))
show("clone", lambda: [(k.size, bytes(k.get_memview()[:3]), k.id == a.id) for k in (a.clone(2), a.clone(2, 2), a.clone(offset=1))])
show("clone far", lambda: a.clone(20000))
show("clone below", lambda: a.clone(-1))
show("clear", lambda: (a.clear(1, 3), bytes(a.get_memview()[:6])))
show("pickle", lambda: (pickle.loads(pickle.dumps(a)).size, pickle.loads(pickle.dumps(pool)).size))
show("from bytes", lambda: pool.alloc_from_bytes(b"abc").size)
show("from str", lambda: pool.alloc_from_bytes("x"))
show("detach", lambda: c.detach())
for call in ("get_memview", "serialize", "free", "clone"):
    show(f"after detach {call}", lambda: getattr(c, call)())
show("size after", lambda: c.size)
freed = a.serialize()
show("free", lambda: a.free())
for call in ("free", "get_memview", "serialize"):
    show(f"after free {call}", lambda: getattr(a, call)())
show("attach freed", lambda: MemoryAlloc.attach(freed))
for wrong in (pickle.dumps([1]), b"x" * 40, "x", 5, None):
    show(f"attach {wrong}", lambda: MemoryAlloc.attach(wrong))
again = MemoryPool.attach(text)
show("detach", lambda: (again.detach(serialize=True), again.serialize() == text, again.detach()))
show("exists already", lambda: MemoryPool(32768, sys.argv[1], 18))
show("destroy", lambda: (pool.destroy(), pool.serialize() == text))
show("destroyed", lambda: pool.alloc(5))
show("destroyed twice", lambda: pool.destroy())
show("attach destroyed", lambda: MemoryPool.attach(text))
for arguments in ((-1, "n", 1), (1.5, "n", 1), (32768, 5, 1), (32768, "n", 1.0), (32768, "n", 1 << 64), (32768, "n", -1),
                  (32768, "n"), (32768, "", 1), (32768, "n" * 4096, 1), (0, "n", 1), (32, "n", 1), (32768, "n", 1, None, 8),
                  (32768, "n", 1, 5)):
    show(f"pool {str(arguments)[:40]}", lambda: MemoryPool(*arguments))
for arguments in ((1000, 0, None), (40000, (1 << 64) - 1, None), (4096, 1, 100)):
    other = MemoryPool(arguments[0], sys.argv[1], arguments[1], None, arguments[2])
    show("other", lambda: (other.size, other.muid, other.max_allocations, other.num_block_sizes, other.free_blocks))
    other.destroy()
def made(**options):
    other = MemoryPool(32768, sys.argv[1], 5, **options)
    seen = other.size, other.num_block_sizes, other.max_allocations
    other.destroy()
    return seen

for options in ({"numa_node": -1}, {"gpu_memory": False}, {"pre_alloc_blocks": [1, 2]}, {"pre_alloc_blocks": "x"},
                {"min_block_size": 64}, {"min_block_size": -1}, {"min_block_size": 3}, {"max_allocations": 5},
                {"max_allocations": 0}, {"max_allocations": -1}, {"colour": 1}):
    show(f"made {options}", lambda: made(**options))
pool = MemoryPool(32768, sys.argv[1], 21)
a, b = pool.alloc(10), pool.alloc(10)
one, two = a.get_memview(), b.get_memview()
one[:] = two[:] = b"0123456789"
show("equal", lambda: (a == b, a != b, hash(a) == hash(b), hash(a) >= 0))
two[0] = 1
show("unequal", lambda: (a == b, a != b))
show("by type", lambda: [pool.get_allocations(t).num_allocs for t in (None, AllocType.DATA, AllocType.CHANNEL)])
show("used", lambda: (pool.free_space, round(pool.utilization, 3), pool.current_allocations))
for wrong in (bytearray(b"abc"), memoryview(b"abc"), "x", 5, None):
    show(f"from {type(wrong).__name__}", lambda: bytes(pool.alloc_from_bytes(wrong).get_memview()))
show("copy", lambda: (a.copy(pool).size, bytes(a.copy(pool).get_memview()), a.copy(pool).id == a.id))
show("address", lambda: type(a.get_int_ptr()).__name__)
show("pool", lambda: (type(a.pool).__name__, a.pool.muid))
for area in ((0, 4), (8, 100), (-1,), (3, 3), ("x",), (6,)):
    show(f"clear {area}", lambda: (a.clear(*area), bytes(one)))
for kind in (bytes, bytearray, memoryview):
    show(f"attach {kind.__name__}", lambda: MemoryAlloc.attach(kind(a.serialize())).size)
    show("pool", lambda: MemoryPool.attach(kind(pool.serialize())).size)
text = pool.serialize()
other = MemoryPool.attach(text)
del one, two
pool.destroy()
for call in ("alloc(1)", "alloc_blocking(1, 0)", "get_allocations()", "allocation_exists(5)", "alloc_from_id(5)", "free_space",
             "destroy()"):
    show(f"destroyed {call}", lambda: eval("pool." + call))
show("detach", lambda: (pool.detach(), pool.detach(), pool.detach(serialize=True), other.detach(), other.detach()))
show("serialize", lambda: pool.serialize() == text)
show("nothing", lambda: MemoryPool.empty_pool().detach())
for call in ("destroy()", "alloc(1)", "get_allocations()", "free_space", "size"):
    show(f"nothing {call}", lambda: eval("MemoryPool.empty_pool()." + call))
show("default", lambda: DRAGON_MEMORY_DEFAULT_TIMEOUT)
"""


def test_programs_see_the_same_of_managed_memory_as_with_dragon():
    name = f"cueorig{os.getpid()}"
    theirs = ask("dragonhpc", TRANSCRIPT.replace("PACKAGE", "dragon"), name).splitlines()
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", TRANSCRIPT.replace("PACKAGE", "cuelight"), name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == theirs
    assert len(theirs) > 110
