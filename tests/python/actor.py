"""What test_models.py does to things in shared memory, here or in another process, step by step.

A step is a path from the thing on (`row.1`), the name of a method, and its arguments; what came of it is a value, or the name of an
error. A plain object of Python that has the same methods gives the same.
"""

import pickle
import sys

from cuelight.heap import Heap
from cuelight.types import Array, Double, Int64, Struct


class Pair(Struct):
    _fields_ = {"a": Double, "row": Array[Int64, 3]}  # noqa: RUF012


def act(thing, path, method, *arguments):
    for part in path.split(".") if path else ():
        thing = thing[int(part)] if part.isdigit() else getattr(thing, part)
    try:
        return getattr(thing, method)(*arguments)
    except Exception as error:
        return type(error).__name__, getattr(error, "errno", None)


def on_heap(heap, start, size, value=None):
    """What a block holds, after all of it was set to `value`."""
    memory = Heap.Block(heap, start, size).deref()
    if value is not None:
        memory[:] = bytes([value]) * size
    return bytes(memory)


def do(thing, step):
    return on_heap(thing, *step[1:]) if step[0] == "block" else act(thing, *step)


def main():
    thing = None
    for line in sys.stdin:
        step = pickle.loads(bytes.fromhex(line))
        if isinstance(step, list):
            (thing,), said = step, None
        else:
            said = do(thing, step)
        print(pickle.dumps(said).hex(), flush=True)
