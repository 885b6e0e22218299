"""Several processes: what one publishes the other sees; forks; ends of every kind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import traceback

import numpy as np
import pytest

import cuelight as cue
from conftest import objects


def test_two_processes_share_blocks(name, pool, child):
    pool.put(np.arange(100.0), type=1, id=1)
    other = child(
        """
        import sys
        import cuelight as cue
        with cue.Pool(sys.argv[1], create=False) as pool:
            a = pool.find(type=1, id=1).array()
            assert not a.flags.writeable
            pool.put(a * 2, type=1, id=2)
            block = pool.find(name="late", timeout=20)
            print(bytes(block).decode(), block.info().leases, pool.stats()["parties"])
            block.free()
        """,
        name,
    )
    doubled = pool.find(type=1, id=2, timeout=20).array()
    assert np.array_equal(doubled, np.arange(100.0) * 2)
    late = pool.put(b"late", name="late")
    assert other.end() == "late 2 2"
    with pytest.raises(cue.Stale):
        late.publish()
    assert bytes(late) == b"late"
    assert doubled.sum() == 9900
    late.release()


def test_what_a_killed_process_owned_comes_back(name, pool, child):
    other = child(
        """
        import sys, time
        import cuelight as cue
        pool = cue.Pool(sys.argv[1])
        owned = [pool.empty(10_000) for _ in range(20)]
        viewed = pool.find(name="kept").array()
        print("ready", flush=True)
        time.sleep(60)
        """,
        name,
    )
    kept = pool.put(b"kept", name="kept")
    assert other.line() == "ready"
    assert pool.stats()["blocks"] == 21
    assert kept.info().leases == 2
    other.process.kill()
    other.process.wait()
    assert pool.check(repair=True) == []
    assert pool.stats()["blocks"] == 1
    assert kept.info().leases == 1
    assert pool.stats()["parties"] == 1


def test_views_survive_a_free_by_another_process(name, pool, child):
    block = pool.alloc(5000)
    block.array()[:] = 7
    block.publish()
    other = child(
        """
        import sys
        import cuelight as cue
        pool = cue.Pool(sys.argv[1])
        a = pool.attach(bytes.fromhex(sys.argv[2])).array()
        pool.close()
        print("ready", flush=True)
        sys.stdin.readline()
        assert (a == 7).all()
        print("same")
        """,
        name,
        block.descriptor.hex(),
    )
    assert other.line() == "ready"
    block.free()
    for _ in range(200):
        pool.alloc(5000).array()[:] = 255
    other.go()
    assert other.end() == "same"
    assert pool.stats()["used"] == 0


EXITS = {
    "views alive, pool open": "pass",
    "views alive, pool closed": "pool.close()",
    "views alive, pool destroyed": "pool.destroy()",
    "in a cycle": "me = [a, view, block]; me.append(me); del a, view, block",
    "held by a module": "import sys; sys.held = (a, view, block, pool)",
    "an exception": "sys.excepthook = lambda *e: print(a[3]); raise SystemExit(0)",
    "at exit": "import atexit; atexit.register(lambda: print(a.sum(), bytes(view)[:1]))",
    "a daemon thread waits": (
        "import threading; threading.Thread(target=lambda: pool.find(name='never', timeout=None), daemon=True).start()"
    ),
    "weakly": "import weakref; weakref.finalize(block, print, 'finalized')",
}


@pytest.mark.parametrize("end", EXITS.values(), ids=EXITS)
def test_interpreter_exit_is_safe_and_silent(name, child, end):
    child(
        f"""
        import sys
        import numpy as np
        import cuelight as cue
        pool = cue.Pool(sys.argv[1], "1MiB")
        block = pool.alloc(800)
        a, view = block.array("f8"), memoryview(block)
        a[:] = 1
        b = pool.empty(100)
        c = pool.put(b"x")
        c.free()
        {end}
        """,
        name,
    ).end()
    assert objects() == []


@pytest.mark.parametrize("how", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "os.execv('/bin/true', ['true'])"])
def test_any_end_leaves_nothing_that_the_next_does_not_clean(name, child, how):
    one = child(
        f"""
        import os, signal, sys
        import cuelight as cue
        pool = cue.Pool(sys.argv[1], "1MiB")
        held = [pool.empty(100) for _ in range(10)]
        {how}
        """,
        name,
    )
    one.end(code=-9 if "KILL" in how else 0)
    with cue.Pool(name) as pool:
        assert pool.check(repair=True) == []
        assert pool.stats()["blocks"] == 0


# ---- fork ----


def forked(f) -> None:
    """Runs f in a forked child and wants it to end with 0. No assert may leave the child."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            f()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_forked_child_sees_and_owns_nothing_of_its_parents(pool):
    block = pool.alloc(800)
    a = block.array("f8")
    a[:] = 5

    def in_child():
        assert a.sum() == 500
        assert not block.owned
        assert block.data.readonly
        assert bytes(block)[:8] == np.float64(5).tobytes()
        assert pool.stats()["parties"] == 2
        block.release()
        assert a.sum() == 500
        mine = pool.empty(10)
        assert cue.block_of(mine).owned
        pool.put(b"from the child", name="child")

    forked(in_child)
    assert block.owned
    assert bytes(pool.find(name="child")) == b"from the child"
    a[:] = 6
    block.data[0] = 1
    assert pool.check(repair=True) == []
    assert pool.stats()["parties"] == 1


def test_a_forked_childs_arrays_are_its_own_leases(pool):
    held = [pool.empty(1000)]
    held[0][:] = 3
    to_child, to_parent = os.pipe(), os.pipe()

    def in_child():
        os.write(to_parent[1], b"x")
        os.read(to_child[0], 1)  # by now the parent has freed it and filled all that is free
        assert (held[0] == 3).all()

    pid = os.fork()
    if pid == 0:
        try:
            in_child()
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.read(to_parent[0], 1)
    held.clear()
    for _ in range(100):
        pool.empty(1000)[:] = 9
    os.write(to_child[1], b"x")
    _, status = os.waitpid(pid, 0)
    for fd in (*to_child, *to_parent):
        os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 0
    assert pool.check(repair=True) == []
    assert pool.stats()["blocks"] == 0


def test_a_child_that_never_calls_is_no_party(pool):
    block = pool.alloc(10)
    forked(lambda: None)
    assert pool.stats()["parties"] == 1
    assert block.owned


def test_a_child_of_a_child(pool):
    a = pool.empty(10)
    a[:] = 2
    forked(lambda: forked(lambda: pool.put(a, name="grandchild")))
    assert pool.find(name="grandchild").array().sum() == 20


def test_a_childs_exit_handlers_are_safe(name, child):
    one = child(
        """
        import os, sys
        import cuelight as cue
        pool = cue.Pool(sys.argv[1], "1MiB")
        a = pool.empty(10)
        a[:] = 1
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            assert a.sum() == 10
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert cue.block_of(a).owned
        assert a.sum() == 10
        print("parent")
        """,
        name,
    )
    assert one.end() == "parent"
    assert objects() == []


def double(name, descriptor):
    """Runs in another process, however it was started."""
    with cue.Pool(name, create=False) as pool:
        a = pool.attach(descriptor).array()
        return cue.block_of(pool.put(a * 2).array()).descriptor


def send_pickled(queue, block):
    queue.put(float(block.array().sum()))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(name, pool, method):
    context = multiprocessing.get_context(method)
    block = pool.put(np.arange(1000.0))
    with context.Pool(2) as workers:
        results = workers.starmap(double, [(name, block.descriptor)] * 4)
    for descriptor in results:
        assert np.array_equal(pool.attach(descriptor).array(), np.arange(1000.0) * 2)
    queue = context.Queue()
    process = context.Process(target=send_pickled, args=(queue, block))
    process.start()
    assert queue.get(timeout=30) == 499500
    process.join(30)
    assert process.exitcode == 0


def test_nothing_registers_with_the_resource_tracker(name, child):
    one = child(
        """
        import sys
        from multiprocessing import resource_tracker
        import cuelight as cue
        pool = cue.Pool(sys.argv[1], "1MiB")
        pool.put(b"x", name="x").free()
        assert resource_tracker._resource_tracker._fd is None
        """,
        name,
    )
    one.end()


def test_import_is_quick_and_does_not_import_numpy():
    code = """
        import sys, time
        start = time.process_time()
        import cuelight
        took = time.process_time() - start
        assert "numpy" not in sys.modules
        assert "multiprocessing" not in sys.modules
        print(took)
        """
    best = min(
        float(subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    )
    assert best <= 0.05


def test_pools_work_without_numpy(name, child):
    child(
        """
        import sys

        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name == "numpy":
                    raise ModuleNotFoundError("no numpy here")

        sys.meta_path.insert(0, Absent())
        import cuelight as cue
        pool = cue.Pool(sys.argv[1], "1MiB")
        block = pool.put(b"plain")
        assert bytes(pool.find(id=block.id).data) == b"plain"
        try:
            block.array()
        except ImportError:
            pass
        else:
            raise AssertionError
        block.free()
        """,
        name,
    ).end()


@pytest.mark.parametrize("call", ["pool.find(name='never', timeout=None)", "pool.alloc(1 << 19, timeout=30)"])
def test_ctrl_c_ends_a_wait(name, child, call):
    one = child(
        f"""
        import sys
        import cuelight as cue
        pool = cue.Pool(sys.argv[1], "1MiB")
        held = []
        try:
            while True:
                held.append(pool.alloc(1 << 16))
        except cue.NoMemory:
            pass
        try:
            print("ready", flush=True)
            {call}
        except KeyboardInterrupt:
            print("interrupted")
        """,
        name,
    )
    assert one.line() == "ready"
    time.sleep(0.1)  # most likely it waits by now
    one.process.send_signal(signal.SIGINT)
    assert one.end() == "interrupted"


def test_other_signals_do_not_end_a_wait(name, child, pool):
    one = child(
        """
        import os, signal, sys
        import cuelight as cue
        hits = []
        signal.signal(signal.SIGUSR1, lambda *a: (hits.append(1), os.write(1, b"hit\\n")))
        pool = cue.Pool(sys.argv[1])
        print("ready", flush=True)
        block = pool.find(name="late", timeout=30)
        print(len(hits), bytes(block).decode())
        """,
        name,
    )
    assert one.line() == "ready"
    for _ in range(3):
        time.sleep(0.08)
        one.process.send_signal(signal.SIGUSR1)
        assert one.line() == "hit"
    pool.put(b"late", name="late")
    assert one.end() == "3 late"
