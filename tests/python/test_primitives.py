"""cuelight.primitives, atomic and util, sentence by sentence, against plain Python models, and between processes."""

import errno
import gc
import importlib
import math
import mmap
import os
import pickle
import signal
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cuelight import atomic, primitives, util
from cuelight.primitives import AtomicDouble, AtomicInt32, AtomicInt64, AtomicUInt32, AtomicUInt64, Buffer, Lock

WHOLE = {AtomicInt32: (32, True), AtomicInt64: (64, True), AtomicUInt32: (32, False), AtomicUInt64: (64, False)}
ATOMICS = [*WHOLE, AtomicDouble]
ALL = [*ATOMICS, Lock]
NAMES = {AtomicInt32: "int32_t", AtomicInt64: "int64_t", AtomicUInt32: "uint32_t", AtomicUInt64: "uint64_t"}
LOCKING = [atomic.LockingInt64, atomic.LockingUInt64, atomic.LockingDouble]


def make(kind):
    return kind(bytearray(64))


def shared(path):
    """A page of memory that other processes map as well."""
    with open(path, "w+b") as file:
        file.truncate(4096)
        return mmap.mmap(file.fileno(), 4096)


SHARED = """
import mmap, sys, time
from cuelight.primitives import *
with open(sys.argv[1], "r+b") as file:
    memory = memoryview(mmap.mmap(file.fileno(), 4096))
def at(kind, offset=0):
    one = kind.__new__(kind)
    assert one._setstate(memory[offset:offset + kind.size]) is None
    return one
"""

# ---- every type ----


@pytest.mark.parametrize(
    ("kind", "size"), list(zip(ALL, [4, 8, 4, 8, 8, 40], strict=True)), ids=lambda x: getattr(x, "__name__", x)
)
def test_what_every_type_is(kind, size):
    assert kind.size == size
    assert kind.align == (8 if kind is Lock else size)
    assert issubclass(kind, Buffer)
    one = make(kind)
    assert one.size == size
    assert not hasattr(one, "__dict__")
    with pytest.raises(TypeError):
        weakref.ref(one)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(one, protocol)
    assert one == one
    assert one != make(kind)
    assert len({one, make(kind)}) == 2
    assert kind.__module__ == "cuelight.primitives"
    assert getattr(importlib.import_module(kind.__module__), kind.__qualname__) is kind
    assert kind.__name__ in repr(one)


@pytest.mark.parametrize("kind", ALL)
def test_subclasses(kind):
    class Mine(kind):
        pass

    one = Mine(bytearray(64))
    one.anything = 1
    assert isinstance(one, kind)
    assert weakref.ref(one)() is one


@pytest.mark.parametrize("kind", ALL)
def test_the_memory_that_it_takes(kind):
    for wrong in ((), (bytearray(64), bytearray(64)), (b"x" * 64,), (memoryview(b"x" * 64),), (None,), ("x" * 64,), (7,)):
        with pytest.raises(TypeError):
            kind(*wrong)
    with pytest.raises(TypeError):
        kind(mem=bytearray(64))
    with pytest.raises(ValueError, match=rf"shared memory \({kind.size - 1} bytes\) too small; must be at least {kind.size} bytes"):
        kind(bytearray(kind.size - 1))
    memory = bytearray(b"\xff" * 64)
    one = kind(memory, heap=object(), anything=1)
    assert memory[kind.size :] == b"\xff" * (64 - kind.size)
    with pytest.raises(BufferError):
        memory.append(1)
    del one
    gc.collect()
    memory.append(1)


def test_buffer_has_no_size():
    with pytest.raises(AttributeError, match="size"):
        Buffer(bytearray(64))


@pytest.mark.parametrize("kind", ALL)
def test_without_memory_every_method_says_so(kind):
    one = kind.__new__(kind)
    names = ("acquire", "release") if kind is Lock else ("get",)
    for name in names:
        with pytest.raises(ValueError, match="no memory"):
            getattr(one, name)()
    if kind is not Lock:
        with pytest.raises(ValueError, match="no memory"):
            one.set(1)
        with pytest.raises(ValueError, match="no memory"):
            one.add(1)
    assert "None" in repr(one)


@pytest.mark.parametrize("kind", ATOMICS)
def test_setstate_attaches_without_initialising(kind):
    memory = bytearray(64)
    one = kind(memory)
    one.set(7)
    other = kind.__new__(kind)
    assert other._setstate(memory, heap=object()) is None
    assert other._setstate(mem=memory) is None
    assert other.get() == 7
    other.add(1)
    assert one.get() == 8
    with pytest.raises(ValueError, match="too small"):
        other._setstate(bytearray(1))
    assert other.get() == 8
    assert kind(memory).get() == 0


# ---- atomics ----


def wrapped(value, bits, signed):
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >> (bits - 1) else value


@pytest.mark.parametrize("kind", WHOLE)
def test_min_and_max(kind):
    bits, signed = WHOLE[kind]
    assert (kind.min, kind.max) == ((-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1))


@pytest.mark.parametrize("kind", WHOLE)
@given(data=st.data())
def test_whole_atomics_are_like_numbers_that_wrap(kind, data):
    bits, signed = WHOLE[kind]
    one, model = make(kind), 0
    near = st.one_of(st.integers(kind.min, kind.max), st.sampled_from([kind.min, kind.max, 0, 1]), st.integers(-(1 << 66), 1 << 66))
    for operation, value, raising in data.draw(
        st.lists(st.tuples(st.sampled_from(["set", "add"]), near, st.booleans()), max_size=12)
    ):
        if not kind.min <= value <= kind.max:
            with pytest.raises(OverflowError):
                getattr(one, operation)(value)
        elif operation == "set":
            assert one.set(value) is None
            model = value
        else:
            total = model + value
            if kind.min <= total <= kind.max or not raising:
                assert one.add(value, raising) == model
            else:
                with pytest.raises(OverflowError) as caught:
                    one.add(value, raise_on_overflow=raising)
                assert str(caught.value) == f"{value} + {model} too large to fit in {NAMES[kind]}"
            model = wrapped(total, bits, signed)
        assert one.get() == model


def test_the_text_of_an_overflow():
    one = make(AtomicInt64)
    one.set(AtomicInt64.max)
    with pytest.raises(OverflowError, match=r"^1 \+ 9223372036854775807 too large to fit in int64_t$"):
        one.add(True)
    assert one.get() == AtomicInt64.min


@pytest.mark.parametrize("kind", WHOLE)
def test_arguments_of_whole_atomics(kind):
    one = make(kind)
    assert one.set(value=5) is None
    assert one.add(amount=True) == 5
    assert one.add(amount=1, raise_on_overflow=False) == 6
    for wrong in (1.0, "1", None, b"1", 1j):
        with pytest.raises(TypeError):
            one.set(wrong)
        with pytest.raises(TypeError):
            one.add(wrong)
    for call in (
        one.set,
        one.add,
        lambda: one.set(1, 2),
        lambda: one.add(1, True, 3),
        lambda: one.set(other=1),
        lambda: one.get(1),
    ):
        with pytest.raises(TypeError):
            call()
    with pytest.raises(TypeError):
        one.add(1, amount=1)
    assert one.get() == 7


@given(st.lists(st.floats() | st.integers(-(10**300), 10**300)))
def test_atomic_double_is_like_float(values):
    one, model = make(AtomicDouble), 0.0
    for value in values:
        before = one.add(value, raise_on_overflow=True)
        assert before == model or math.isnan(model)
        model += value
    assert one.get() == model or math.isnan(model)


def test_arguments_of_atomic_double():
    one = make(AtomicDouble)
    one.set(1e308)
    assert one.add(1e308, True) == 1e308
    assert one.get() == math.inf
    one.set(value=3)
    assert type(one.get()) is float
    for wrong in ("1", None):
        with pytest.raises(TypeError):
            one.set(wrong)
        with pytest.raises(TypeError):
            one.add(wrong)
    assert not hasattr(AtomicDouble, "min")


def test_adds_of_several_processes_and_threads_sum_up(tmp_path, child):
    memory = memoryview(shared(tmp_path / "memory"))
    one, real = AtomicInt64(memory[:8]), AtomicDouble(memory[8:16])
    code = SHARED + "a, d = at(AtomicInt64), at(AtomicDouble, 8)\nfor _ in range(100_000): a.add(1); d.add(0.5)"
    children = [child(code, tmp_path / "memory") for _ in range(2)]
    threads = [threading.Thread(target=lambda: [one.add(2) for _ in range(20_000)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in children:
        each.end()
    assert one.get() == 2 * 100_000 + 2 * 2 * 20_000
    assert real.get() == 100_000.0


# ---- the lock ----


def test_acquire_and_release():
    lock = make(Lock)
    assert lock.acquire() is True
    assert "held by thread" in repr(lock)
    assert lock.release() is None
    assert "free" in repr(lock)
    assert lock.acquire(block=False) is True
    lock.release()
    assert lock.acquire(True, 0.5) is True
    lock.release()
    assert lock.acquire(timeout=-3) is True
    lock.release()
    with lock as entered:
        assert entered is True
    assert lock.__enter__() is True
    assert lock.__exit__(None, None, None) is None
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert lock.acquire(False) is True
    lock.release()


def test_arguments_of_the_lock():
    lock = make(Lock)
    for wrong in ("1", [], object()):
        with pytest.raises(TypeError):
            lock.acquire(timeout=wrong)
    with pytest.raises(ValueError, match="not a number"):
        lock.acquire(True, math.nan)
    with pytest.raises(TypeError):
        lock.acquire(True, 1, 2)
    with pytest.raises(TypeError):
        lock.acquire(blocking=True)
    assert lock.acquire(False, timeout=1e300) is True
    lock.release()


@pytest.mark.parametrize("how", [(), (False,), (True, 0), (True, 0.01), (True, 1e12)])
def test_the_owner_may_not_take_it_again(how):
    lock = make(Lock)
    with lock:
        with pytest.raises(OSError, match="deadlock") as caught:
            lock.acquire(*how)
        assert caught.value.errno == errno.EDEADLK
    lock.acquire()
    lock.release()


def test_who_does_not_own_it_may_not_release():
    lock = make(Lock)
    with pytest.raises(PermissionError):
        lock.release()
    lock.acquire()
    seen = []

    def other():
        try:
            lock.release()
        except PermissionError as error:
            seen.append(error.errno)
        seen.append(lock.acquire(False))
        start = time.monotonic()
        seen.append(lock.acquire(timeout=0.05))
        seen.append(time.monotonic() - start >= 0.05)
        seen.append(lock.acquire(timeout=-1))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    lock.release()
    assert seen == [errno.EPERM, False, False, True, False]


def test_waiting_gives_the_gil_back_and_hears_signals():
    lock = make(Lock)
    got, hold = threading.Event(), threading.Event()

    def holder():
        with lock:
            got.set()
            hold.wait(30)

    thread = threading.Thread(target=holder)
    thread.start()
    got.wait(30)

    def handler(*_):
        raise InterruptedError("signal")

    before = signal.signal(signal.SIGUSR1, handler)
    killer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    killer.start()
    try:
        with pytest.raises(InterruptedError):
            lock.acquire()
    finally:
        killer.join()
        signal.signal(signal.SIGUSR1, before)
        threading.Timer(0.05, hold.set).start()
    assert lock.acquire() is True  # the holder could only let go because this wait gave the GIL back
    lock.release()
    thread.join()


def test_memory_without_a_lock_is_refused():
    for content in (bytes(40), os.urandom(16) + b"\x07\x07\x07\x07" + os.urandom(20)):
        lock = Lock.__new__(Lock)
        lock._setstate(bytearray(content))
        for call in (lock.acquire, lock.release, lock.__enter__):
            with pytest.raises(OSError, match="no lock") as caught:
                call()
            assert caught.value.errno == errno.EINVAL
    odd = memoryview(bytearray(64))[1:]
    with pytest.raises(ValueError, match="odd address"):
        Lock(odd)


def test_a_held_lock_keeps_its_memory():
    memory = bytearray(64)
    lock = Lock(memory)
    lock.acquire()
    del lock
    gc.collect()
    with pytest.raises(BufferError):
        memory.append(1)
    again = Lock.__new__(Lock)
    again._setstate(memory)
    again.release()
    with make(Lock), make(Lock):  # the thread's list of locks is in order
        pass


def test_a_lock_between_processes(tmp_path, child):
    memory = memoryview(shared(tmp_path / "memory"))
    lock, count = Lock(memory[:40]), AtomicInt64(memory[64:72])
    code = (
        SHARED
        + """
lock, count = at(Lock), at(AtomicInt64, 64)
for i in range(20_000):
    with lock:
        count.set(count.get() + 1)
"""
    )
    children = [child(code, tmp_path / "memory") for _ in range(2)]
    for _ in range(5_000):
        with lock:
            count.set(count.get() + 1)
    for each in children:
        each.end()
    assert count.get() == 2 * 20_000 + 5_000


HOLDER = SHARED + "lock = at(Lock); print(lock.acquire(), flush=True); time.sleep(60)"


def test_a_killed_holder_is_told_once(tmp_path, child):
    lock = Lock(memoryview(shared(tmp_path / "memory"))[:40])
    for wait in ({}, {"block": False}, {"timeout": 20}):
        holder = child(HOLDER, tmp_path / "memory")
        assert holder.line() == "True"
        with pytest.raises(PermissionError):
            lock.release()
        assert lock.acquire(False) is False
        holder.process.kill()
        holder.process.wait()
        with pytest.raises(OSError, match="died") as caught:
            lock.acquire(**wait)
        assert caught.value.errno == errno.EOWNERDEAD
        for _ in range(3):
            assert lock.acquire() is True
            lock.release()


def test_a_waiter_learns_that_the_holder_was_killed(tmp_path, child):
    lock = Lock(memoryview(shared(tmp_path / "memory"))[:40])
    holder = child(HOLDER, tmp_path / "memory")
    assert holder.line() == "True"
    killer = threading.Timer(0.2, holder.process.kill)
    killer.start()
    with pytest.raises(OSError, match="died"):
        lock.acquire()
    killer.join()
    with lock:
        pass


def test_killed_again_and_again_in_the_middle_of_it(tmp_path, child):
    lock = Lock(memoryview(shared(tmp_path / "memory"))[:40])
    deaths = 0
    for i in range(12):
        worker = child(SHARED + "lock = at(Lock); print(1, flush=True)\nwhile True:\n  with lock: pass", tmp_path / "memory")
        assert worker.line() == "1"
        time.sleep(0.002 * i)
        worker.process.kill()
        worker.process.wait()
        try:
            assert lock.acquire(timeout=20) is True
        except OSError as error:
            assert error.errno == errno.EOWNERDEAD
            deaths += 1
            assert lock.acquire(timeout=20) is True
        lock.release()
    assert deaths <= 12


def test_a_thread_that_ends_with_the_lock():
    lock = make(Lock)
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    for _ in range(1000):  # join() comes back before the kernel has ended the thread
        try:
            if lock.acquire(False):
                break
        except OSError as error:
            assert error.errno == errno.EOWNERDEAD
            break
        time.sleep(0.01)
    else:
        pytest.fail("the lock stayed held")
    lock.acquire(False) if "free" in repr(lock) else None
    lock.release()


def test_a_forked_child_does_not_own_its_parents_lock():
    lock = Lock(mmap.mmap(-1, 4096))
    lock.acquire()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            lock.release()
        except PermissionError:
            code = 0 if lock.acquire(False) is False and lock.acquire() is True else 2
        finally:
            os._exit(code)
    time.sleep(0.05)
    lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(OSError, match="died"):
        lock.acquire()


# ---- cuelight.atomic ----


def test_atomic_has_the_native_types_here():
    assert (atomic.AtomicInt64, atomic.AtomicUInt64, atomic.AtomicDouble) == (AtomicInt64, AtomicUInt64, AtomicDouble)


@pytest.mark.parametrize("kind", LOCKING)
def test_locking_types(kind):
    assert (kind.size, kind.align) == (48, 8)
    assert list(kind._fields_) == ["_lock", "_value"]
    one = kind(memoryview(bytearray(48)), heap=None)
    assert one.get() == 0
    assert one.set(5) is None
    assert one.add(amount=2, raise_on_overflow=True) == 5
    assert one.get() == 7
    assert "7" in repr(one)
    with pytest.raises(TypeError):
        one.add("1")
    with one._lock:
        pass


def test_locking_types_wrap():
    whole, unsigned = atomic.LockingInt64(bytearray(48)), atomic.LockingUInt64(bytearray(48))
    whole.set(whole.max)
    with pytest.raises(OverflowError, match=r"^9223372036854775807 \+ 1 too large to fit$"):
        whole.add(1)
    assert whole.get() == whole.min
    assert whole.add(-1, False) == whole.min
    assert whole.get() == whole.max
    with pytest.raises(OverflowError, match=r"^0 \+ -1 too large to fit$"):
        unsigned.add(-1)
    assert unsigned.get() == unsigned.max
    unsigned.set(-5)
    assert unsigned.get() == unsigned.max - 4
    assert unsigned.add(-1) == unsigned.max - 4
    real = atomic.LockingDouble(bytearray(48))
    real.set(math.nan)
    real.add(1)
    with whole._lock:
        pass


def test_locking_adds_of_threads_sum_up():
    one = atomic.LockingInt64(bytearray(48))
    threads = [threading.Thread(target=lambda: [one.add(1) for _ in range(5_000)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert one.get() == 15_000


def test_a_killed_process_leaves_locking_types_as_they_are(tmp_path, child):
    memory = memoryview(shared(tmp_path / "memory"))
    kinds = {"LockingInt64": 0, "LockingUInt64": 64, "LockingDouble": 128}
    ours = [getattr(atomic, kind)(memory[offset : offset + 48]) for kind, offset in kinds.items()]
    for one in ours:
        one.set(7)
    code = "".join(f"at({kind}, {offset})._lock.acquire()\n" for kind, offset in kinds.items())
    holder = child(SHARED + f"from cuelight.atomic import *\n{code}print(1, flush=True); time.sleep(60)", tmp_path / "memory")
    assert holder.line() == "1"
    holder.process.kill()
    holder.process.wait()
    assert (ours[0].add(1), ours[1].get(), ours[2].set(2.5)) == (7, 7, None)
    assert [one.get() for one in ours] == [8, 7, 2.5]


def test_without_lock_free_forms_they_have_a_lock(child):
    code = """
    from cuelight import _memory
    _memory.AtomicInt64 = _memory.AtomicUInt64 = _memory.AtomicDouble = None
    from cuelight import atomic, primitives
    from cuelight.heap import Heap
    from cuelight.types import Box
    assert primitives.AtomicInt64 is primitives.AtomicUInt64 is primitives.AtomicDouble is None
    kinds = atomic.AtomicInt64, atomic.AtomicUInt64, atomic.AtomicDouble
    assert kinds == (atomic.LockingInt64, atomic.LockingUInt64, atomic.LockingDouble)
    assert [Box[kind](Heap()).add(1) for kind in kinds] == [0, 0, 0.0]
    """
    child(code).end()


# ---- cuelight.util ----


@given(st.integers(), st.integers(0, 70))
def test_align(x, bits):
    a = 1 << bits
    up, down = util.align(x, a), util.align_down(x, a)
    assert up % a == down % a == 0
    assert up - a < x <= up
    assert down <= x < down + a


@pytest.mark.parametrize("a", [0, -1, -2, 3, 12])
def test_align_wants_a_power_of_two(a):
    for function in (util.align, util.align_down):
        with pytest.raises(ValueError, match="power of 2"):
            function(1, a)


@given(st.integers(0, 90), st.integers(0, 90))
def test_genmask(hi, lo):
    mask = 0
    for n in range(lo, hi + 1):
        mask |= 1 << n
    assert util.genmask(hi, lo) == mask


@pytest.mark.parametrize(("hi", "lo"), [(3, -1), (-2, 0), (-5, -5)])
def test_genmask_of_negative_bits(hi, lo):
    with pytest.raises(ValueError, match="negative"):
        util.genmask(hi, lo)


def test_classproperty():
    class One:
        n = 3

        @util.classproperty
        def double(cls):
            """A text."""
            return cls.n * 2

    class Two(One):
        n = 5

    assert (One.double, One().double, Two.double, Two().double) == (6, 6, 10, 10)
    assert isinstance(vars(One)["double"], property)
    assert vars(One)["double"].__doc__ == "A text."
    assert util.classproperty(fget=lambda c: 1, fset=None, fdel=None, doc="D").__doc__ == "D"


def test_modules_export_what_they_name():
    for module in (primitives, atomic, util):
        for name in module.__all__:
            assert getattr(module, name).__doc__
