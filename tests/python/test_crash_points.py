"""Killed at any instruction: what a writer of a Dict or List, or an allocator, leaves behind at each of them.

All that these operations change is in the heap's memory, so its content after each instruction is what a SIGKILL there leaves. The
operation runs in single steps (`stepper.c`) in another process, and each state of the memory is taken up by somebody new: the items
are the old ones or the new ones, from one point on the new ones, all operations go on, and no memory is lost but perhaps the very
first space of a container.
"""

import os
import pickle
import platform
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from cuelight.heap import CACHELINESIZE, Heap
from cuelight.types import Box, Dict, List, Struct

HERE = Path(__file__).resolve().parent
PAGE = 1 << 16
LOG = 256 << 20  # a hole, where nothing is written

VICTIM = """
import ctypes, mmap, pickle, sys
from cuelight.types import Box, Dict
Boxed = Box[Dict]
heap, one = pickle.loads(bytes.fromhex(sys.argv[1]))
action = compile(sys.argv[2], "action", "exec")
if hasattr(one, "_store"):
    one.get(0) if hasattr(one, "get") else one[:0]  # it has looked at its memory before
stepper = ctypes.CDLL(sys.argv[3])
stepper.begin.argtypes = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
with open(sys.argv[4], "r+b") as file:
    log = mmap.mmap(file.fileno(), 0)
memory = (ctypes.c_char * 48).from_buffer(heap._header_view())
space = (ctypes.c_char * len(log)).from_buffer(log)
arguments = ctypes.addressof(memory), ctypes.addressof(space), len(log)
begin, end = stepper.begin, stepper.end
begin(*arguments)
exec(action)
print(end())
"""


@pytest.fixture(scope="session")
def stepper(tmp_path_factory):
    """The library that steps."""
    gcc = shutil.which("gcc")
    if platform.machine() != "x86_64" or not gcc:
        pytest.skip("stepping needs an x86-64 and gcc")
    library = tmp_path_factory.mktemp("stepper") / "stepper.so"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-mno-red-zone", "-fPIC", "-shared"]
    subprocess.run([gcc, *flags, HERE / "stepper.c", "-o", library], check=True)
    return library


@pytest.fixture
def states(stepper, tmp_path, child):
    """Called with a heap, something in it and what to do to `one`: the contents of the heap before and after it and between."""

    def run(heap, one, action):
        path = tmp_path / "log"
        with open(path, "wb") as log:
            log.truncate(LOG)
        arguments = pickle.dumps((heap, one)).hex(), action, stepper, path
        steps = int(child(VICTIM, *arguments, env=os.environ | {"PYTHONPATH": str(HERE)}).end())
        found = []
        with open(path, "rb") as log:
            while size := struct.unpack("=Q", log.read(8))[0]:
                found.append(log.read(size))
        path.unlink()
        assert steps > len(found) > 1
        return found

    return run


def taken_up(state: bytes, map_size: int) -> Heap:
    """A heap of its own with these bytes, as whoever comes next finds it."""
    fd = os.memfd_create("state")
    os.write(fd, state)
    os.ftruncate(fd, -(-len(state) // map_size) * map_size)
    heap = Heap.__new__(Heap)
    heap._attach(fd, map_size, CACHELINESIZE, state[48:64])
    Struct._setstate(heap, heap._header_view())
    heap._others = set()
    return heap


def again(kind, heap: Heap, block: Heap.Block):
    one = Box[kind].__new__(Box[kind])
    one.__setstate__((Heap.Block(heap, block.start, block.size), {}))
    return one


def lost(heap: Heap, one) -> int:
    """Bytes at the heap's end that neither space of the container has; it is the only one to allocate."""
    start = one._start.value
    if start == 0:
        return 0
    header = struct.unpack("=11Q", Heap.Block(heap, start, 88).deref())
    return heap._base.value - max(start + header[1], header[2] + header[3] if header[2] else 0)


def go_on_dict(one):
    model = one.copy()
    for i in range(40):
        one["more", i] = model["more", i] = [i] * (i % 7)
    for key in [key for number, key in enumerate(model) if number % 3 == 0]:
        del one[key], model[key]
    one.update(dict.fromkeys(range(5), "again"))
    model.update(dict.fromkeys(range(5), "again"))
    assert one.popitem() == model.popitem()
    assert list(one.items()) == list(model.items())
    assert all(one[key] == value and key in one for key, value in model.items())
    assert len(one) == len(model)
    assert one.get("absent") is None


def go_on_list(one):
    model = one.copy()
    for i in range(40):
        one.append([i] * (i % 7))
        model.append([i] * (i % 7))
        one.insert(i // 2, i)
        model.insert(i // 2, i)
    del one[3:20:2], model[3:20:2]
    one.reverse()
    model.reverse()
    assert one.pop(5) == model.pop(5)
    assert one == model
    assert [one[i] for i in range(len(one))] == model


def many(n):
    return {i: [i] * 3 for i in range(n)}


def rebuilt(one):
    """Grown so often that the space before the last is of use again."""
    for _ in range(30):
        one[0] = "x" * 40


DICTS = {
    "the first item": ({}, "one['a'] = [1, 2]"),
    "a new item": (many(3), "one['a'] = [1, 2]"),
    "a new item, in more space": (many(8), "one['a'] = [1, 2]"),
    "a key whose hash is another in each process": (many(3), "one[len] = 1"),
    "another value": (many(5), "one[3] = 'other'"),
    "a bigger value": (many(5), "one[3] = 'other' * 300"),
    "a bigger value, in the space before": (rebuilt, "one[0] = 'y' * 300"),
    "del of the last": (many(5), "del one[4]"),
    "del in the middle": (many(5), "del one[2]"),
    "del of the only one": (many(1), "del one[0]"),
    "pop": (many(5), "one.pop(1)"),
    "popitem": (many(5), "one.popitem()"),
    "popitem behind a gap": ([*many(5).items(), 4], "one.popitem()"),
    "setdefault": (many(5), "one.setdefault('k', 7)"),
    "update": (many(5), "one.update(k=7)"),
    "clear": (many(5), "one.clear()"),
}


def made_of(one, content):
    if callable(content):
        content(one)
    elif isinstance(content, list):
        one.update(content[:-1])
        del one[content[-1]]
    else:
        one.update(content)


def check(kind, action, heap, one, go_on, states):
    """Takes up every state that the action goes through."""
    before, length = one.copy(), len(one)
    seen = states(heap, one, action)
    after = one.copy()
    done = unowned = 0
    for number, state in enumerate(seen):
        where = f"state {number} of {len(seen)}"
        other = taken_up(state, heap.map_size)
        left = again(kind, other, one._block)
        content = left.copy()
        assert content in (before, after), where
        assert len(left) == (len(after) if content == after else length), where
        unowned += lost(other, left) > 64  # a block begins where a cache line does
        if before != after:
            assert content == after or not done, f"{where}: the new items are gone again"
            done += content == after
        if content == before:
            exec(action, {"one": left})  # somebody else does it instead
            assert left == after, where
        go_on(left)
    assert (done > 0) == (before != after)
    assert unowned <= 2  # between taking a block and writing down whose it is


@pytest.mark.parametrize("name", DICTS)
def test_dict(name, states):
    content, action = DICTS[name]
    heap = Heap(PAGE)
    one = Box[Dict](heap)
    made_of(one, content)
    check(Dict, action, heap, one, go_on_dict, states)


@pytest.mark.parametrize("gap", [1, 2])
def test_a_removal_that_was_begun_by_who_was_killed(gap, states):
    """Finishing it may be interrupted as well."""
    heap = Heap(PAGE)
    one = Box[Dict](heap)
    one.update(many(4))
    begun = Heap.Block(heap, one._start.value, one._size.value).deref()
    begun[48:56] = struct.pack("=Q", gap + 1)
    gone = many(4)
    del gone[gap]
    seen = states(heap, one._block, "it = Boxed.__new__(Boxed); it.__setstate__((one, {})); it.copy()")
    assert len(seen) >= 3
    for state in seen:
        left = again(Dict, taken_up(state, PAGE), one._block)
        assert left == gone
        go_on_dict(left)


LISTS = {
    "the first item": (0, "one.append([1, 2])"),
    "append": (3, "one.append([1, 2])"),
    "append, in more space": (8, "one.append([1, 2])"),
    "extend": (3, "one.extend(['a', 'b', 'c'])"),
    "extend, in more space": (5, "one.extend(range(30))"),
    "an item": (5, "one[2] = 'other'"),
    "a bigger item": (5, "one[2] = 'other' * 300"),
    "a bigger item, in the space before": (rebuilt, "one[0] = 'y' * 300"),
    "insert": (5, "one.insert(0, 'x')"),
    "del in the middle": (5, "del one[2]"),
    "del of the last": (5, "del one[-1]"),
    "del of a slice": (7, "del one[1:4]"),
    "del of every other": (7, "del one[::2]"),
    "a slice": (7, "one[1:3] = 'abc'"),
    "every other": (6, "one[::2] = 'abc'"),
    "pop": (5, "one.pop(0)"),
    "remove": (5, "one.remove([1, 1])"),
    "reverse": (5, "one.reverse()"),
    "sort": (5, "one.sort(reverse=True)"),
    "clear": (5, "one.clear()"),
    "+=": (3, "one += ['a', 'b']"),
    "*=": (3, "one *= 2"),
}


@pytest.mark.parametrize("name", LISTS)
def test_list(name, states):
    content, action = LISTS[name]
    heap = Heap(PAGE)
    one = Box[List](heap)
    if callable(content):
        one.append(1)
        content(one)
    else:
        one.extend([i, i] for i in range(content))
    check(List, action, heap, one, go_on_list, states)


@pytest.mark.parametrize(("size", "alignment"), [(100, 64), (4000, 64), (9000, 64), (70000, 4096)])
def test_malloc(size, alignment, states):
    """Whoever is killed has a block or has none; nobody else gets it, and all others get theirs."""
    heap = Heap()
    heap.malloc(50)
    first = heap._base.value
    seen = states(heap, None, f"heap.malloc({size}, {alignment})")
    last = heap._base.value
    assert [struct.unpack("=Q", state[40:48])[0] for state in seen] == [first, last]
    for state in seen:
        left = taken_up(state, heap.map_size)
        floor = left._base.value
        for _ in range(20):
            block = left.malloc(size, alignment)
            assert block.start >= floor
            floor = block.start + block.size
            view = block.deref()
            assert not any(view[:16])
            view[:] = b"x" * len(view)
