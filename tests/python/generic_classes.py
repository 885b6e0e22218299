"""Generic classes for test_generics.py, where other processes can import them."""

from cuelight.generics import FloatType, IntType, ListType, ObjectType, ProductType
from cuelight.heap import Heap
from cuelight.types import Double, Size_t, Struct

calls = []


def plain(__name__, x):
    """A text."""
    calls.append(__name__)
    return type(__name__, (), {"x": x})


def product(__name__, cls, x):
    return type(__name__, (), {"cls": cls, "x": x})


def listed(__name__, xs):
    calls.append(__name__)
    return type(__name__, (), {"xs": xs})


def triple(__name__, a, b, c):
    return type(__name__, (), {"abc": (a, b, c)})


class Outer:
    class Inner:
        pass


class Pair(Struct):
    _fields_ = {"left": Double, "right": Size_t}  # noqa: RUF012


I = IntType("I", plain)  # noqa: E741
F = FloatType("F", plain)
O = ObjectType("O", plain)  # noqa: E741
P = ProductType("P", product, (ObjectType, IntType))
T = ProductType("T", triple, (IntType, FloatType, ObjectType))
L = ListType("L", listed, IntType)
LO = ListType("LO", listed, ObjectType)

EVERY = [
    I[5], I[-3], F[2.7], F[1e-7], F[-0.5], O[int], O[Heap.Block], O[Outer.Inner], O[I[7]], O[P[int, 5]], P[int, 5],
    P[Outer.Inner, -1], T[1, 2.5, int], L[1, 2, 3], L[7], L[()], LO[int, Outer.Inner], LO[Heap.Block, P[Pair, 3]],
]  # fmt: skip
