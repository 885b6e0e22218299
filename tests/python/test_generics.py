"""cuelight.generics: names, identity, pickles, also in a process that has made none of the classes."""

import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import generic_classes as g
from cuelight.generics import FloatType, IntType, ListType, ObjectType, ProductType, saveattr
from cuelight.heap import Heap
from cuelight.types import Array, Box, Double

PATHS = [
    (g.I[5], "I.5"),
    (g.I[-3], "I.-3"),
    (g.F[2.7], "F.2_7"),
    (g.F[1e-7], "F.1e-07"),
    (g.O[int], "O.<.builtins.int.>"),
    (g.O[Heap.Block], "O.<.cuelight.heap.Heap.Block.>"),
    (g.P[int, 5], "P.<.builtins.int.>.5"),
    (g.L[1, 2, 3], "L.3.1.2.3"),
    (g.L[7], "L.1.7"),
    (Box[Array[Double, 5]], "Box.<.cuelight.types.Array.<.cuelight.types.Double.>.5.>"),
]


@pytest.mark.parametrize(("made", "path"), PATHS, ids=lambda x: x if isinstance(x, str) else "")
def test_paths(made, path):
    assert made.__qualname__ == made.__name__ == path
    assert made.__module__ in ("generic_classes", "cuelight.types")


@pytest.mark.parametrize("made", g.EVERY, ids=lambda made: made.__qualname__)
def test_pickles_of_classes_and_instances(made):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(made, protocol)) is made
        assert type(pickle.loads(pickle.dumps(made(), protocol))) is made
    assert copy.deepcopy(made) is made


def test_another_process_makes_them_on_demand(child):
    for made in g.EVERY:
        first = child(
            """
            import pickle, sys
            sys.path.insert(0, sys.argv[1])
            print(pickle.loads(bytes.fromhex(sys.argv[2])).__qualname__)
            """,
            Path(__file__).parent,
            pickle.dumps(made).hex(),
        ) if made in g.EVERY[::4] else None  # fmt: skip
        if first:
            assert first.end() == made.__qualname__


def test_generics_are_pickled_by_name():
    for generic in (g.I, g.F, g.O, g.P, g.L, g.P[int], g.T[1], g.T[1, 2.5]):
        assert pickle.loads(pickle.dumps(generic)) is generic


def test_values_and_calls():
    before = len(g.calls)
    one = g.I[123456]
    assert g.I[123456] is one
    assert getattr(g.I, "123456") is one
    assert (one.x, g.calls[before:]) == (123456, ["I.123456"])
    assert g.F[2.7].x == 2.7
    assert g.O[int].x is int
    assert (g.P[int, 5].cls, g.P[int, 5].x) == (int, 5)
    assert g.T[1, 2.5, int].abc == (1, 2.5, int)
    assert (g.L[1, 2, 3].xs, g.L[7].xs, g.L[()].xs) == ((1, 2, 3), (7,), ())
    assert g.LO[int, str].xs == (int, str)


@pytest.mark.parametrize("generic", [g.I, g.F, g.O, g.P, g.L])
def test_names_and_texts(generic):
    assert generic.__qualname__ in "IFOPL"
    assert generic.__doc__ == generic.cls.__doc__
    assert generic.__module__ == "generic_classes"


def test_partial_products():
    assert isinstance(g.P[int], ProductType)
    assert g.P[int][5] is g.P[int, 5]
    assert g.T[1][2.5][int] is g.T[1, 2.5][int] is g.T[1][2.5, int] is g.T[1, 2.5, int]
    assert g.T[1, 2.5].args == (1, 2.5)
    assert g.P[int].__qualname__ == "P.<.builtins.int.>"
    ready = ProductType("P", g.product, (IntType,), (int,))
    assert ready[4].cls is int
    with pytest.raises(TypeError):
        g.P[int, 5, 6]
    with pytest.raises(TypeError):
        g.P[()]


@given(st.integers())
def test_every_int(x):
    assert g.I[x].x == x
    assert g.I[x] is pickle.loads(pickle.dumps(g.I[x]))


@given(st.floats(allow_nan=False))
def test_every_float(x):
    assert g.F[x].x == x
    assert g.F[x] is pickle.loads(pickle.dumps(g.F[x]))


@given(st.lists(st.integers()))
def test_every_list(xs):
    assert g.L[tuple(xs)].xs == tuple(xs)
    assert g.L[tuple(xs)] is pickle.loads(pickle.dumps(g.L[tuple(xs)]))


def test_what_is_no_value():
    for generic, wrong in ((g.I, "x"), (g.I, 2.5), (g.F, "x"), (g.L, 2.5)):
        with pytest.raises(ValueError):  # noqa: PT011
            generic[wrong]
    with pytest.raises(ValueError):  # noqa: PT011
        _ = g.I.abc
    for wrong in (5, "int"):
        with pytest.raises(AttributeError):
            g.O[wrong]
    for path in (["<", "builtins", "nothing", ">"], ["<", "no_such_module", "a", ">"]):
        with pytest.raises(AttributeError):
            step = g.O
            for part in path:
                step = getattr(step, part)


def test_local_classes_cannot_be_found():
    class Local:
        pass

    with pytest.raises(AttributeError, match="local"):
        g.O[Local]


def test_a_name_that_leads_elsewhere():
    before = g.Outer.Inner
    g.Outer.Inner = type("Inner", (), {"__module__": g.__name__, "__qualname__": "Outer.Inner"})
    try:
        assert g.O[g.Outer.Inner].x is not before
        assert g.O[before].x is before
    finally:
        g.Outer.Inner = before
    lost = type("Inner", (), {"__module__": g.__name__, "__qualname__": "Outer.Inner"})
    with pytest.raises(AttributeError, match="not the same"):
        g.O[lost]


def test_special_attributes_make_nothing():
    for generic in (g.I, g.F, g.O, g.P, g.L):
        assert not hasattr(generic, "__wrapped__")
        assert type(generic).__name__ in repr(generic)


def test_saveattr_calls_once():
    asked = []

    class One:
        @saveattr
        def __getattr__(self, name):
            """A text."""
            asked.append(name)
            return name * 2

    one = One()
    assert (one.ab, one.ab, one.c) == ("abab", "abab", "cc")
    assert asked == ["ab", "c"]
    assert One.__getattr__.__doc__ == "A text."


def test_classes_of_main(child):
    code = """
    import pickle
    from cuelight.heap import Heap
    from cuelight.types import Box, Double, Struct
    class Mine(Struct):
        _fields_ = {"a": Double}
    one = Box[Mine](Heap())
    one.a.value = 3
    assert Box[Mine].__qualname__ == "Box.<.__main__.Mine.>"
    assert pickle.loads(pickle.dumps(one)).a.value == 3
    """
    child(code).end()


def test_texts():
    for one in (IntType, FloatType, ObjectType, ProductType, ListType, saveattr):
        assert one.__doc__
