"""cuelight.heap: what it hands out, who else sees it, and that nobody's death stops it."""

import copy
import ctypes
import gc
import itertools
import mmap
import multiprocessing
import os
import pickle
import resource
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROUNDS, descriptors
from cuelight import heap as module
from cuelight.heap import CACHELINESIZE, PAGESIZE, Heap
from cuelight.primitives import AtomicInt64, Lock
from cuelight.types import Box, Double, Size_t, Struct
from cuelight.util import align

METHODS = ["fork", "spawn", "forkserver"]


def memfds(pid="self"):
    count = 0
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            count += "cuelight.heap" in os.readlink(entry.path)
        except FileNotFoundError:
            pass
    return count


def test_what_a_heap_is():
    heap = Heap()
    assert isinstance(heap, Struct)
    assert heap.map_size == PAGESIZE == 4096
    assert CACHELINESIZE in (32, 64, 128, 256)
    assert (Heap.size, heap.size, Heap.align) == (48, 48, 8)
    assert list(Heap._fields_) == ["_shared_lock", "_base"]
    assert type(heap._shared_lock) is Lock
    assert type(heap._base) is Size_t
    assert Heap(map_size=1 << 16).map_size == 1 << 16
    assert "cuelight.heap.Heap" in repr(heap)


@pytest.mark.parametrize("size", [0, -4096, 1, 2048, 4097, 3 * 4096, 5 * 4096])
def test_map_sizes_that_are_none(size):
    with pytest.raises(ValueError, match=r"not a"):
        Heap(size)


def test_malloc_of_nonsense():
    heap = Heap()
    for size in (0, -1, -(1 << 70)):
        with pytest.raises(ValueError, match="strictly positive"):
            heap.malloc(size)
    for alignment in (0, -1, 3, 24):
        with pytest.raises(ValueError, match="power of 2"):
            heap.malloc(1, alignment=alignment)
    for wrong in (1.5, "1", None):
        with pytest.raises(TypeError):
            heap.malloc(wrong)
        if wrong is not None:
            with pytest.raises(TypeError):
                heap.malloc(1, wrong)
    for size in (1 << 47, 1 << 80):
        with pytest.raises(MemoryError):
            heap.malloc(size)
    assert heap.malloc(1).start == 64


def test_blocks():
    heap = Heap()
    block = heap.malloc(100)
    assert (block.heap, block.start, block.size) == (heap, 64, 100)
    assert type(block) is Heap.Block
    assert Heap.Block.__qualname__ == "Heap.Block"
    assert Heap.Block.__module__ == "cuelight.heap"
    memory = block.deref()
    assert (memory.format, memory.nbytes, memory.readonly, memory.ndim) == ("B", 100, False, 1)
    assert bytes(memory) == bytes(100)
    memory[:5] = b"hello"
    assert bytes(Heap.Block(heap, 64, 5).deref()) == b"hello"
    assert block.free() is None
    assert bytes(block.deref()[:5]) == b"hello"
    assert heap.malloc(1).start == 192
    assert "Heap.Block(" in repr(block)


@pytest.mark.parametrize(("start", "size"), [(0, 1 << 40), (1 << 40, 1), (1 << 63, 1 << 63), (64, (1 << 64) - 64)])
def test_a_block_beyond_the_heap_is_an_error(start, size):
    with pytest.raises((ValueError, OverflowError)):
        Heap.Block(Heap(), start, size).deref()
    with pytest.raises(TypeError, match="Heap"):
        Heap.Block(None, 0, 1).deref()


def model(base, size, alignment, page):
    """Where the next block lies, and its size."""
    if size > page:
        size = align(size, page)
        return align(align(base, page), alignment), size
    start = align(base, alignment)
    if start % page and start % page + size >= page:
        start = align(align(start, page), alignment)
    return start, size


@given(
    st.sampled_from([4096, 8192, 65536]),
    st.lists(
        st.tuples(st.integers(1, 9000) | st.sampled_from([4095, 4096, 8192, 20000]), st.sampled_from([1 << i for i in range(15)]))
    ),
)
def test_where_blocks_lie(page, wishes):
    heap, base = Heap(page), 64
    blocks = []
    for number, (size, alignment) in enumerate(wishes):
        block = heap.malloc(size, alignment)
        assert (block.start, block.size) == model(base, size, alignment, page)
        assert block.start % alignment == 0
        memory = block.deref()
        assert ctypes.addressof(ctypes.c_char.from_buffer(memory)) % min(alignment, mmap.PAGESIZE) == 0
        assert not any(memory)
        memory[:] = bytes([number % 255 + 1]) * block.size
        blocks.append(block)
        base = block.start + block.size
    for number, block in enumerate(blocks):
        assert bytes(block.deref()) == bytes([number % 255 + 1]) * block.size


def test_one_descriptor_whatever_it_holds():
    before = descriptors()
    heap = Heap()
    kept = [heap.malloc(4000).deref() for _ in range(3000)]
    big = heap.malloc(80 << 20).deref()
    big[-1] = 1
    assert descriptors() == before + 1
    del heap, kept, big
    gc.collect()
    assert descriptors() == before


def test_nothing_in_shm_and_no_name():
    before = set(os.listdir("/dev/shm"))
    heap = Heap()
    heap.malloc(1 << 20)
    assert not [name for name in set(os.listdir("/dev/shm")) - before if "heap" in name]
    assert "memfd:cuelight.heap" in os.readlink(f"/proc/self/fd/{heap.fileno()}")
    with pytest.raises(PermissionError):
        os.ftruncate(heap.fileno(), 0)  # so nobody can make an access a SIGBUS


def test_views_outlive_everything():
    heap = Heap()
    view = heap.malloc(100).deref()
    box = Box[Double](heap)
    del heap
    gc.collect()
    view[99] = 7
    assert view[99] == 7
    box.value = 3
    assert pickle.loads(pickle.dumps(box)).value == 3


def test_no_memory_is_an_exception(child):
    code = """
    import resource
    from cuelight.heap import Heap
    heap = Heap()
    heap.malloc(10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    for size in (2 << 20, 30 << 20):
        try:
            heap.malloc(size)
        except OSError as error:
            assert error.errno == 27, error
        else:
            raise SystemExit("there was room")
    blocks = 0
    try:
        while True:
            heap.malloc(4000).deref()[:] = bytes(4000)
            blocks += 1
    except OSError:
        pass
    assert 200 < blocks < 300, blocks
    assert heap.malloc(16).size == 16
    """
    child(code).end()
    with pytest.raises(MemoryError):
        Heap().malloc(1 << 46)


def test_without_descriptors_it_is_an_oserror():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="open files"):
            Heap()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- pickles ----


def test_pickles_in_one_process_are_the_same_heap():
    heap = Heap()
    before, threads = descriptors(), threading.active_count()
    for _ in range(50):
        assert pickle.loads(pickle.dumps(heap)) is heap
        pickle.dumps(heap)  # and is never loaded
    again, block = pickle.loads(pickle.dumps([heap, heap.malloc(10)]))
    assert block.heap is again is heap
    assert copy.copy(heap) is copy.deepcopy(heap) is heap
    assert descriptors() == before
    assert threading.active_count() <= threads


OPEN = """
import pickle, sys
heap, box = pickle.loads(bytes.fromhex(sys.argv[1]))
"""


def test_another_process_opens_it_as_often_as_it_likes(child):
    heap = Heap()
    box = Box[AtomicInt64](heap)
    text = pickle.dumps((heap, box)).hex()
    code = OPEN + (
        "assert pickle.loads(bytes.fromhex(sys.argv[1]))[0] is heap\n"
        "assert box._block.heap is heap\n"
        "for i in range(1000): box.add(1)\n"
        "b = heap.malloc(100); b.deref()[:3] = b'abc'; print(b.start)"
    )
    starts = [int(child(code, text).end()) for _ in range(3)]
    assert box.get() == 3000
    assert [bytes(Heap.Block(heap, start, 3).deref()) for start in starts] == [b"abc"] * 3
    assert heap.malloc(1).start > max(starts)


def test_a_heap_that_is_gone(child):
    maker = child(
        """
        import pickle
        from cuelight.heap import Heap
        heap = Heap()
        print(pickle.dumps(heap).hex(), flush=True)
        input()
        del heap
        print("gone", flush=True)
        input()
        """
    )
    text = bytes.fromhex(maker.line())
    before = memfds()
    assert pickle.loads(text).malloc(1).start == 64
    gc.collect()
    maker.go()
    assert maker.line() == "gone"
    with pytest.raises(OSError, match="heap of process"):
        pickle.loads(text)
    maker.go()
    maker.end()
    with pytest.raises(OSError, match="has it ended"):
        pickle.loads(text)
    assert memfds() == before


def use(heap, box, number):
    """In another process."""
    block = heap.malloc(100)
    block.deref()[:] = bytes([number]) * 100
    box.add(number)
    return block.start


def work(heap, box, number, queue):
    queue.put(use(heap, box, number))


@pytest.mark.seconds(90)
@pytest.mark.parametrize("method", METHODS)
def test_as_argument_and_through_queues(method):
    context = multiprocessing.get_context(method)
    heap = Heap()
    box = Box[AtomicInt64](heap)
    before = heap.malloc(8).deref()
    queue = context.Queue()
    processes = [context.Process(target=work, args=(heap, box, n, queue)) for n in (1, 2)]
    for process in processes:
        process.start()
    starts = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert box.get() == 3
    assert {Heap.Block(heap, start, 100).deref()[99] for start in starts} == {1, 2}
    assert before[0] == 0
    if method == "fork":
        ours, theirs = context.Pipe()
        process = context.Process(target=lambda: theirs.send((theirs.recv(), use(theirs.recv(), box, 5))[1]))
        process.start()
        ours.send(box)
        ours.send(heap)
        assert ours.poll(60)
        assert Heap.Block(heap, ours.recv(), 100).deref()[0] == 5
        process.join()
        assert box.get() == 8


def links(depth, queue, method):
    """Makes a heap here, hands it to a child, which does the same."""
    heap = Heap()
    box = Box[AtomicInt64](heap)
    if depth:
        context = multiprocessing.get_context(method)
        process = context.Process(target=link, args=(heap, box, depth - 1, queue, method))
        process.start()
        process.join()
    queue.put((depth, box.get()))


def link(heap, box, depth, queue, method):
    use(heap, box, depth + 1)
    links(depth, queue, method)


@pytest.mark.seconds(90)
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_may_be_the_creators(method):
    queue = multiprocessing.get_context(method).Queue()
    links(2, queue, method)
    assert sorted(queue.get(timeout=60) for _ in range(3)) == [(0, 0), (1, 1), (2, 2)]


# ---- deaths ----

WORKER = OPEN + "print(1, flush=True)\nwhile True: heap.malloc(64).deref()[0] = 1"


def test_killed_in_malloc_again_and_again(child):
    heap = Heap()
    text = pickle.dumps((heap, None)).hex()
    for i in range(12):
        workers = [child(WORKER, text) for _ in range(2)] if i == 0 else [child(WORKER, text)]
        for worker in workers:
            assert worker.line() == "1"
        time.sleep(0.001 * i)
        for worker in workers:
            worker.process.kill()
            worker.process.wait()
        blocks = [heap.malloc(100) for _ in range(50)]
        assert len({block.start for block in blocks}) == 50
        assert all(not any(block.deref()) for block in blocks)


def test_who_is_killed_with_the_shared_lock_stops_nobody(child):
    heap = Heap()
    holder = child(OPEN + "heap._shared_lock.acquire(); print(1, flush=True); input()", pickle.dumps((heap, None)).hex())
    assert holder.line() == "1"
    assert heap.malloc(10).size == 10
    holder.process.kill()
    holder.process.wait()
    assert heap.malloc(10).size == 10
    with pytest.raises(OSError, match="died"):
        heap._shared_lock.acquire()
    with heap._shared_lock:
        pass


def test_who_is_stopped_stops_nobody(child):
    heap = Heap()
    worker = child(WORKER, pickle.dumps((heap, None)).hex())
    assert worker.line() == "1"
    for _ in range(20):
        worker.process.send_signal(signal.SIGSTOP)
        assert heap.malloc(10).size == 10
        worker.process.send_signal(signal.SIGCONT)
    worker.process.kill()


def test_threads_and_processes_never_get_the_same_block(child):
    heap = Heap()
    text = pickle.dumps((heap, None)).hex()
    code = OPEN + "print(*(heap.malloc(24, 8).start for _ in range(3000)))"
    children = [child(code, text) for _ in range(2)]
    starts = []

    def allocate():
        starts.extend(heap.malloc(24, 8).start for _ in range(3000))

    threads = [threading.Thread(target=allocate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in children:
        starts.extend(map(int, each.end().split()))
    assert len(set(starts)) == len(starts) == 12_000
    starts.sort()
    assert all(b - a >= 24 for a, b in itertools.pairwise(starts))


def test_a_forked_child_shares_it():
    heap = Heap()
    box = Box[AtomicInt64](heap)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            box.set(heap.malloc(1 << 20).start)
            Heap.Block(heap, box.get(), 10).deref()[:] = b"0123456789"
            code = 0 if pickle.loads(pickle.dumps(heap)) is heap else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert bytes(Heap.Block(heap, box.get(), 10).deref()) == b"0123456789"


def test_ends_without_a_word_and_without_the_resource_tracker(child):
    code = """
    import sys
    from multiprocessing import resource_tracker
    from cuelight.heap import Heap
    from cuelight.types import *
    from cuelight.primitives import Lock
    heap = Heap()
    kept = Box[Dict](heap), Box[List](heap), Box[Array[Double, 5]](heap), heap.malloc(10).deref(), Box[Lock](heap)
    kept[0]["a"] = kept[1]
    kept[4].acquire()
    assert resource_tracker._resource_tracker._fd is None
    assert "numpy" not in sys.modules
    """
    child(code).end()


@pytest.mark.seconds(600)
def test_rounds_leave_nothing():
    def one(i):
        heap = Heap()
        box = Box[Double](heap)
        view = heap.malloc(5000).deref()
        pickle.loads(pickle.dumps(box)).value = i
        view[0] = 1
        assert box.value == i

    def maps():
        with open("/proc/self/maps") as lines:
            return sum("cuelight.heap" in line for line in lines)

    for i in range(50):
        one(i)
    gc.collect()
    before = descriptors(), maps()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(ROUNDS):
        one(i)
    gc.collect()
    assert (descriptors(), maps()) == before
    assert len(module._heaps) <= 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 16 << 10


def test_collected_in_every_order():
    for order in itertools.permutations(range(5)):
        heap = Heap()
        block = heap.malloc(64)
        parts = [heap, block, block.deref(), Box[Lock](heap), Box[Double](heap)]
        parts[3].acquire()
        del heap, block
        for i in order:
            if i == 3:
                parts[3].release()
            if i == 2:
                parts[2][0] = 1
            parts[i] = None
            gc.collect(0)
