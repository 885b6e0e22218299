"""Managed memory between processes and threads, for those who are killed, and for those who collect garbage in any order."""

import gc
import itertools
import multiprocessing
import os
import signal
import sys
import textwrap
import threading

import numpy as np
import pytest

from conftest import ROUNDS, descriptors, objects, resident, run_in_small_shm, wait_for
from cuelight.managed_memory import (
    AllocType,
    DragonMemoryError,
    DragonObjectDestroyed,
    DragonPoolAllocationNotAvailable,
    MemoryAlloc,
    MemoryPool,
)

HEAD = """
import os, signal, sys, time
from cuelight.managed_memory import *
pool = MemoryPool.attach(bytes.fromhex(sys.argv[1]))
"""


@pytest.fixture
def helper(child, managed):
    """Another process that has the pool attached as `pool`."""

    def start(code, *args):
        return child(HEAD + textwrap.dedent(code), managed.serialize().hex(), *args)

    return start


def waiters(pool) -> int:
    import cuelight as cue

    with cue.attach_pool(pool.serialize()[16:]) as below:
        return below.stats()["waiters"]


# ---- multiprocessing ----


def change(pool, alloc, queue):
    alloc.get_memview()[:5] = b"child"
    made = pool.alloc_from_bytes(b"made by the child")
    queue.put((made, made.id, pool.current_allocations))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_pools_and_allocations_are_arguments_of_processes(managed, method):
    context = multiprocessing.get_context(method)
    alloc, queue = managed.alloc(100), context.Queue()
    process = context.Process(target=change, args=(managed, alloc, queue))
    process.start()
    made, id, count = queue.get(timeout=30)
    process.join(30)
    assert process.exitcode == 0
    assert bytes(alloc.get_memview()[:5]) == b"child"
    assert bytes(made.get_memview()) == b"made by the child"
    assert (made.id, count) == (id, 2)
    made.free()
    assert managed.current_allocations == 1
    assert not any("cuelight" in str(x) for x in vars(sys.modules.get("multiprocessing.resource_tracker", object)).values())


def test_a_forked_child_uses_what_it_inherited(managed):
    alloc, view = managed.alloc_from_bytes(b"before"), None
    view = alloc.get_memview()
    kept = [managed.alloc(32) for _ in range(10)]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert bytes(view) == b"before"
            view[:] = b"inside"
            assert bytes(alloc.get_memview()) == b"inside"
            for one in kept:
                one.free()
            managed.alloc_from_bytes(b"by the child")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert bytes(view) == b"inside"
    assert managed.current_allocations == 2
    with pytest.raises(DragonMemoryError):
        kept[0].free()


def test_an_allocation_stays_when_its_maker_exits_or_is_killed(managed, helper):
    helper("pool.alloc_from_bytes(b'exited')").end()
    killed = helper("pool.alloc_from_bytes(b'killed'); print('r', flush=True); time.sleep(100)")
    assert killed.line() == "r"
    killed.process.kill()
    killed.process.wait()
    rows = managed.get_allocations()
    assert [bytes(managed.alloc_from_id(rows.alloc_id(i)).get_memview()) for i in range(2)] == [b"exited", b"killed"]
    for i in range(2):
        managed.alloc_from_id(rows.alloc_id(i)).free()
    assert managed.free_space == 32768


def test_a_pool_stays_when_its_maker_exits_without_destroy(name, child):
    code = "import sys; from cuelight.managed_memory import *; print(MemoryPool(32768, sys.argv[1], 5).serialize().hex())"
    text = bytes.fromhex(child(code, name).end())
    pool = MemoryPool.attach(text)
    assert pool.muid == 5
    pool.destroy()
    assert objects() == []


def test_anyone_who_holds_the_descriptor_or_the_id_may_free(managed, helper):
    one, two = managed.alloc_from_bytes(b"one"), managed.alloc_from_bytes(b"two")
    view = one.get_memview()
    code = """
    MemoryAlloc.attach(bytes.fromhex(sys.argv[2])).free()
    pool.alloc_from_id(int(sys.argv[3])).free()
    print(pool.current_allocations)
    """
    assert helper(code, one.serialize().hex(), two.id).end() == "0"
    assert bytes(view) == b"one", "a view stays valid"
    assert managed.get_allocations().num_allocs == 0
    assert managed.free_space == 32768
    with pytest.raises(DragonObjectDestroyed):
        MemoryAlloc.attach(one.serialize())
    with pytest.raises(DragonMemoryError):
        two.free()
    for _ in range(200):  # the bytes are used again when the last view is gone, not before
        managed.alloc_from_bytes(b"xxx").free()
    assert bytes(view) == b"one"


# ---- waiting ----


def test_who_waits_is_served_in_order(managed, helper):
    big, small = managed.alloc(16384), managed.alloc(16384)
    code = "a = pool.alloc_blocking(int(sys.argv[2])); print('got', flush=True); sys.stdin.readline(); a.free()"
    first = helper(code, 32768)
    wait_for(lambda: waiters(managed) == 1)
    second = helper(code, 64)
    wait_for(lambda: waiters(managed) == 2)
    big.free()
    with pytest.raises(DragonPoolAllocationNotAvailable):
        managed.alloc(32768)
    small.free()
    assert first.line() == "got"
    assert waiters(managed) == 1
    first.go()
    first.end()
    assert second.line() == "got"
    second.go()
    second.end()


def test_a_blocked_allocator_that_is_killed_blocks_nobody(managed, helper):
    all_of_it = managed.alloc(32768)
    first = helper("pool.alloc_blocking(32768)")
    wait_for(lambda: waiters(managed) == 1)
    second = helper("pool.alloc_blocking(64).free(); print('got')")
    wait_for(lambda: waiters(managed) == 2)
    first.process.kill()
    first.process.wait()
    all_of_it.free()
    assert second.end() == "got"
    assert managed.free_space == 32768


@pytest.mark.seconds(120)
def test_the_killed_leave_the_pool_as_large_as_it_was(managed, helper):
    code = """
    print('r', flush=True)
    while True:
        pool.alloc_blocking(1000, 5).free()
    """
    for _ in range(12):
        workers = [helper(code) for _ in range(2)]
        for worker in workers:
            assert worker.line() == "r"
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
    rows = managed.get_allocations()
    for i in range(rows.num_allocs):
        managed.alloc_from_id(rows.alloc_id(i)).free()
    managed.alloc(32768).free()
    assert managed.free_space == 32768
    assert managed.current_allocations == 0


def test_a_signal_handler_ends_a_wait(managed, helper):
    managed.alloc(32768)
    other = helper(
        """
        class Stop(Exception): pass
        def stop(*_): raise Stop
        signal.signal(signal.SIGUSR1, stop)
        signal.signal(signal.SIGUSR2, lambda *_: print('heard', flush=True))
        try:
            pool.alloc_blocking(10)
        except Stop:
            print('stopped')
        """
    )
    wait_for(lambda: waiters(managed) == 1)
    other.process.send_signal(signal.SIGUSR2)
    assert other.line() == "heard"
    assert waiters(managed) == 1
    other.process.send_signal(signal.SIGUSR1)
    assert other.end() == "stopped"
    assert waiters(managed) == 0


def test_destroy_ends_all_waits(managed, helper):
    managed.alloc(32768)
    code = """
    try:
        pool.alloc_blocking(10)
    except DragonPoolError as error:
        print(error.lib_err.name)
    """
    other = helper(code)
    wait_for(lambda: waiters(managed) == 1)
    managed.destroy()
    assert other.end() == "OBJECT_DESTROYED"


def test_threads_wait_and_free(managed):
    done = []

    def work(n):
        for _ in range(200):
            alloc = managed.alloc_blocking(5000, 30)
            alloc.get_memview()[:] = bytes([n]) * 5000
            assert bytes(alloc.get_memview()) == bytes([n]) * 5000
            alloc.free()
        done.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(8))
    assert managed.free_space == 32768
    assert managed.max_used_allocations <= 4


def test_a_waiting_thread_lets_others_run(managed):
    alloc, got = managed.alloc(32768), []
    thread = threading.Thread(target=lambda: got.append(managed.alloc_blocking(32768, 30)))
    thread.start()
    wait_for(lambda: waiters(managed) == 1)
    alloc.free()
    thread.join(30)
    assert got[0].size == 32768


# ---- a full /dev/shm ----


@pytest.mark.seconds(60)
def test_a_full_shm_folder_is_an_exception_never_a_signal():
    code = """
    import os
    os.environ.pop("CUE_PREFIX", None)
    from cuelight.managed_memory import *
    pool = MemoryPool(64 << 20, "full", 1)
    kept = []
    try:
        while True:
            kept.append(pool.alloc(100_000))
            kept[-1].get_memview()[:] = b"x" * 100_000
    except DragonPoolAllocationNotAvailable as error:
        print(type(error).__name__, len(kept) > 5, len(kept) < 50)
    try:
        pool.alloc_blocking(100_000, 0.05)
    except TimeoutError:
        print("TimeoutError")
    kept.pop().free()
    pool.alloc(100_000).get_memview()[:] = b"y" * 100_000
    try:
        for i in range(1000):
            MemoryPool(1 << 20, f"more{i}", 2)
    except DragonPoolCreateFail as error:
        print(type(error).__name__)
    """
    said = " ".join(run_in_small_shm(code)).split()
    assert said == ["DragonPoolAllocationNotAvailable", "True", "True", "TimeoutError", "DragonPoolCreateFail"]


# ---- views keep their memory ----

ENDS = {
    "detach": lambda pool, alloc: alloc.detach(),
    "free": lambda pool, alloc: alloc.free(),
    "leave": lambda pool, alloc: pool.detach(),
    "destroy": lambda pool, alloc: pool.destroy(),
}


@pytest.mark.parametrize("order", list(itertools.permutations(ENDS, 2)) + list(itertools.permutations(ENDS, 3)), ids="-".join)
@pytest.mark.parametrize("attached", [False, True])
def test_views_outlive_everything(name, order, attached):
    pool = MemoryPool(1 << 20, name, 3)
    text = pool.serialize()
    alloc = pool.alloc_from_bytes(bytes(range(250)))
    if attached:
        alloc = MemoryAlloc.attach(alloc.serialize())
    view = alloc.get_memview()
    array = np.frombuffer(alloc.clone(10, 100).get_memview(), np.uint8)
    for end in order:
        try:
            ENDS[end](pool, alloc)
        except RuntimeError as error:
            assert order.index(end) > 0, error  # only after another end
        assert bytes(view) == bytes(range(250))
        array[0] = 10
    if objects():  # not destroyed, or not by one that had left
        again = MemoryPool.attach(text)
        for _ in range(50):  # its bytes are not given to another as long as we look
            again.alloc_from_bytes(b"\xff" * 250)
        again.destroy()
    del alloc, pool
    gc.collect()
    view[20] = 99
    assert array[10] == 99
    del view
    gc.collect()
    assert array.sum() == sum(range(10, 110)) - 20 + 99


KINDS = ("pool", "alloc", "clone", "view", "array")


@pytest.mark.parametrize("first", KINDS)
def test_garbage_goes_in_any_order(first):
    for order in itertools.permutations(set(KINDS) - {first}):
        collect_in((first, *order))


def collect_in(order):
    pool = MemoryPool(4096, f"garbage-{os.getpid()}", 3)
    alloc = pool.alloc(100)
    things = {"pool": pool, "alloc": alloc, "clone": alloc.clone(10), "view": alloc.get_memview()}
    things["array"] = np.frombuffer(things["clone"].get_memview(), np.uint8)
    text, ser = pool.serialize(), alloc.serialize()
    del pool, alloc
    for kind in order:
        del things[kind]
        if "array" in things:
            things["array"][0] = 5
        if "view" in things:
            things["view"][10] = 6
    again = MemoryAlloc.attach(ser)
    assert again.pool.current_allocations == 1
    again.free()
    MemoryPool.attach(text).destroy()


def test_cycles_are_collected(managed):
    class Holder:
        pass

    one = Holder()
    one.me, one.pool, one.alloc = one, MemoryPool.attach(managed.serialize()), managed.alloc(10)
    one.view = one.alloc.get_memview()
    del one
    gc.collect()
    rows = managed.get_allocations()
    managed.alloc_from_id(rows.alloc_id(0)).free()


@pytest.mark.parametrize("end", ["", "pool.destroy()", "pool.detach()", "alloc.free()", "os._exit(0)", "del alloc, pool"])
def test_exit_with_live_views_is_quiet(managed, helper, end):
    code = f"""
    import numpy as np
    alloc = pool.alloc(5000)
    view = alloc.get_memview()
    array = np.frombuffer(view, np.uint8)
    part = alloc.clone(100)
    class Late:
        def __del__(self): array[0] = 1; bytes(view[:10])
    late = Late()
    {end}
    """
    helper(code).end()


def test_nothing_is_registered_with_the_resource_tracker(managed, helper):
    code = """
    from multiprocessing import resource_tracker
    alloc = pool.alloc(10)
    print(resource_tracker._resource_tracker._fd, 'multiprocessing.shared_memory' in sys.modules)
    """
    assert helper(code).end() == "None False"


# ---- leaks ----


def leak_alloc(pool, text, i):
    pool.alloc(1 + i % 3000, AllocType.CHANNEL if i % 2 else None).free()


def leak_attach(pool, text, i):
    alloc = MemoryAlloc.attach(text)
    alloc.clone(1).get_memview()[0] = i & 255
    if i % 2:
        alloc.detach()


def leak_pool(pool, text, i):
    again = MemoryPool.attach(pool.serialize())
    again.get_allocations().alloc_id(0)
    again.allocation_exists(i)
    if i % 2:
        again.detach()


def leak_errors(pool, text, i):
    for wrong in (
        lambda: pool.alloc(1 << 40),
        lambda: pool.alloc_from_id(5),
        lambda: MemoryAlloc.attach(b"x"),
        lambda: pool.alloc("x"),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            wrong()


def leak_whole_pool(pool, text, i):
    if i % 50 == 0:
        other = MemoryPool(4096, f"leak-{os.getpid()}", i)
        view = other.alloc(100).get_memview()
        other.destroy()
        view[0] = 1


@pytest.mark.seconds(600)
@pytest.mark.parametrize("work", [leak_alloc, leak_attach, leak_pool, leak_errors, leak_whole_pool])
def test_many_rounds_leave_nothing(managed, work):
    text = managed.alloc(100).serialize()
    for i in range(500):
        work(managed, text, i)
    gc.collect()
    before = descriptors(), objects(), managed.current_allocations, resident()
    for i in range(ROUNDS):
        work(managed, text, i)
    gc.collect()
    assert (descriptors(), objects(), managed.current_allocations) == before[:3]
    assert resident() - before[3] < (3 << 20) + 20 * ROUNDS
