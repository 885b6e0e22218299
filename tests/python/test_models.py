"""Things in shared memory beside plain Python objects, while several processes take turns at them, step by step in any order."""

import errno
import itertools
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor import Pair, do
from cuelight.atomic import LockingDouble, LockingInt64, LockingUInt64
from cuelight.heap import Heap
from cuelight.primitives import AtomicDouble, AtomicInt32, AtomicInt64, AtomicUInt32, AtomicUInt64, Lock
from cuelight.types import Array, Box, Dict, Int64, List

HERE = Path(__file__).parent
WHO = st.integers(0, 2)  # two others, and this process


class Actors:
    def __init__(self, child):
        run = "import sys; sys.path.insert(0, sys.argv[1]); import actor; actor.main()"
        self.others = [child(run, HERE) for _ in range(2)]
        self.thing = None

    def ask(self, other, step):
        other.go(pickle.dumps(step).hex())
        return pickle.loads(bytes.fromhex(other.line()))

    def give(self, thing):
        """What the steps that follow are about."""
        self.thing = thing
        for other in self.others:
            self.ask(other, [thing])

    def do(self, who, *step):
        return do(self.thing, step) if who == 2 else self.ask(self.others[who], step)


@pytest.fixture
def actors(child):
    return Actors(child)


def check(actors, new, model_of, steps):
    """Whoever does a step, the same comes of it as of the model."""

    @settings(max_examples=20)
    @given(st.lists(st.tuples(WHO, steps), max_size=30))
    def run(steps):
        model = model_of()
        actors.give(new())
        for who, step in steps:
            assert actors.do(who, *step) == do(model, step), (who, step)

    run()


def step(method, *arguments, path=""):
    return st.tuples(st.just(path), st.just(method), *arguments)


class Number:
    """An atomic number, in plain Python."""

    def __init__(self, kind):
        self.real, self.locking = "Double" in kind.__name__, "Locking" in kind.__name__
        self.value = 0.0 if self.real else 0
        self.kind = kind

    def fits(self, value):
        return self.real or self.kind.min <= value <= self.kind.max

    def get(self):
        return self.value

    def set(self, value, error=True):
        """One with a lock wraps silently."""
        if error and not self.locking and not self.fits(value):
            raise OverflowError
        low, high = (0, 0) if self.real else (self.kind.min, self.kind.max)
        self.value = float(value) if self.real else (value - low) % (high - low + 1) + low

    def add(self, amount, error):
        if not self.locking and not self.fits(amount):
            raise OverflowError
        before, after = self.value, self.value + amount
        self.set(after, False)
        if error and not self.fits(after):
            raise OverflowError
        return before


@pytest.mark.parametrize(
    "kind",
    [AtomicInt32, AtomicInt64, AtomicUInt32, AtomicUInt64, AtomicDouble, LockingInt64, LockingUInt64, LockingDouble],
    ids=lambda kind: kind.__name__,
)
def test_atomics(actors, kind):
    if "Double" in kind.__name__:
        values = st.floats(-1e9, 1e9)
    else:
        ends = [end + by for end in (kind.min, 0, kind.max) for by in (-1, 0, 1)]
        values = st.sampled_from(ends) | st.integers(-(1 << 64), 1 << 65)
    steps = step("get") | step("set", values) | step("add", values, st.booleans())
    check(actors, lambda: Box[kind](Heap()), lambda: Number(kind), steps)


def test_lock(actors):
    """The owner may do what others may not."""
    calls = st.sampled_from([("release",), *(("acquire", *how) for how in ((), (False,), (True, 0), (True, -1), (False, 5)))])

    @settings(max_examples=30)
    @given(st.lists(st.tuples(WHO, calls), max_size=30))
    def run(steps):
        actors.give(Box[Lock](Heap()))
        owner = None
        for who, (method, *arguments) in steps:
            if method == "release":
                expected = None if owner == who else ("PermissionError", errno.EPERM)
                owner = None if owner == who else owner
            elif owner == who:
                expected = "OSError", errno.EDEADLK
            elif owner is not None:
                arguments = arguments or (True, 0.001)  # not for ever
                expected = False
            else:
                expected, owner = True, who
            assert actors.do(who, "", method, *arguments) == expected
        if owner is not None:
            actors.do(owner, "", "release")

    run()


KEYS = st.integers(0, 9) | st.sampled_from(["a", "b", "", b"a", None, 1.5, (1, "a"), frozenset([2])])
VALUES = st.none() | st.integers() | st.text(max_size=20) | st.lists(st.integers(0, 9), max_size=3)


def test_dict(actors):
    steps = (
        step("__setitem__", KEYS, VALUES)
        | step("update", st.dictionaries(KEYS, VALUES, max_size=4))
        | step("setdefault", KEYS, VALUES)
        | st.one_of(step(name, KEYS) for name in ("__getitem__", "__delitem__", "__contains__", "get", "pop"))
        | step("pop", KEYS, VALUES)
        | st.one_of(step(name) for name in ("popitem", "copy", "__len__", "copy", "clear"))
    )
    check(actors, lambda: Box[Dict](Heap()), dict, steps)


def test_list(actors):
    places, values = st.integers(-9, 9), st.integers(0, 9)
    steps = (
        step("append", VALUES)
        | step("append", values)
        | step("extend", st.lists(values, max_size=4))
        | step("insert", places, values)
        | step("__setitem__", places, VALUES)
        | step("__setitem__", st.slices(6), st.lists(values, max_size=4))
        | st.one_of(step(name, places | st.slices(6)) for name in ("__getitem__", "__delitem__"))
        | st.one_of(step(name, values) for name in ("index", "count", "remove", "__contains__"))
        | step("pop", places)
        | st.one_of(step(name) for name in ("pop", "copy", "__len__", "reverse", "sort", "copy", "clear"))
    )
    check(actors, lambda: Box[List](Heap()), list, steps)


def numbers(count):
    return [SimpleNamespace(value=0) for _ in range(count)]


def fields(paths):
    value = st.just("value")
    whole, real = st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False)
    return st.one_of(
        step("__setattr__", value, real if path == "a" else whole, path=path) | step("__getattribute__", value, path=path)
        for path in paths
    )


def test_struct_and_array(actors):
    check(
        actors,
        lambda: Box[Pair](Heap()),
        lambda: SimpleNamespace(a=SimpleNamespace(value=0.0), row=numbers(3)),
        fields(["a", "row.0", "row.1", "row.2"]),
    )
    check(actors, lambda: Box[Array[Int64, 5]](Heap()), lambda: numbers(5), fields("01234"))


def test_heap(actors):
    """Blocks do not overlap, whoever allocates them, are zeros, and hold what anybody wrote last."""

    @settings(max_examples=20)
    @given(st.data())
    def run(data):
        heap, blocks, contents = Heap(), [], {}
        actors.give(heap)
        for _ in range(data.draw(st.integers(1, 25))):
            who = data.draw(WHO)
            if not blocks or data.draw(st.booleans()):
                size, alignment = data.draw(st.integers(1, 9000)), 1 << data.draw(st.integers(0, 13))
                block = actors.do(who, "", "malloc", size, alignment)
                assert block.size >= size
                assert block.start % alignment == 0
                blocks.append((block.start, block.size))
                contents[block.start] = 0
            else:
                start, size = data.draw(st.sampled_from(blocks))
                contents[start] = data.draw(st.integers(0, 255))
                actors.do(who, "block", start, size, contents[start])
            start, size = data.draw(st.sampled_from(blocks))
            assert actors.do(data.draw(WHO), "block", start, size) == bytes([contents[start]]) * size
        blocks.sort()
        assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(blocks))

    run()
