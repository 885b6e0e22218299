"""Values, structs, arrays, boxes, dicts and lists in shared memory, under `mpmetrics.types`' names.

A type here says how many bytes it needs (`size`, `align`); an instance stands on a piece of memory. `Box` allocates that memory
from a heap and can be pickled, so another process gets the same object. A `Dict` or `List` keeps each item by itself: getting or
setting one costs the same however many there are, and a process that is killed at it leaves the old items or the new ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, MutableMapping, MutableSequence
from typing import TYPE_CHECKING, Any

from ._heap import Store
from ._memory import Double, Int64, Size_t, UInt64, members
from .generics import IntType, ObjectType, ProductType
from .util import align as _align
from .util import classproperty

__all__ = ["Array", "Box", "Dict", "Double", "Int64", "List", "Object", "Size_t", "Struct", "UInt64"]


def _bytes(mem: Any) -> memoryview:
    """The memory as bytes; slices of it are views."""
    if type(mem) is memoryview and mem.itemsize == 1 and mem.ndim == 1:
        return mem
    return memoryview(mem).cast("B")


class Struct:
    """A structured group of fields backed by (shared) memory, to be subclassed.

    Parameters
    ----------
    mem : writable bytes-like
        At least `size` bytes. Each field is made with its part of it, and set as an attribute.
    heap : Heap, optional
        The heap that `mem` is of; handed on to the fields.

    Attributes
    ----------
    _fields_ : dict of str to type
        The fields, in order. To be set by subclasses. Padding is added as their alignments need.
    size, align : int
        Bytes up to the end of the last field, and the largest alignment; of the class and of instances.
    """

    _fields_: dict[str, Any]
    _made_layout: Any

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # the fields

    @classmethod
    def _layout(cls) -> tuple[int, int, tuple[tuple[str, Any, int, int], ...]]:
        """Size, alignment, and (name, type, from, to) of each field; worked out once a class."""
        made = cls.__dict__.get("_made_layout")
        fields = cls._fields_
        if made is None or made[0] is not fields:
            end, most, places = 0, 1, []
            for name, kind in fields.items():
                start = _align(end, kind.align)
                end = start + kind.size
                most = max(most, kind.align)
                places.append((name, kind, start, end))
            made = fields, (end, most, tuple(places))
            cls._made_layout = made
        return made[1]

    @classproperty
    def size(cls) -> int:
        """Bytes of the struct, up to the end of the last field."""
        return cls._layout()[0]

    @classproperty
    def align(cls) -> int:
        """Alignment of the struct, bytes."""
        return cls._layout()[1]

    def __init__(self, mem: Any, heap: Any = None) -> None:
        self._mem = mem = _bytes(mem)
        for name, kind, start, end in self._layout()[2]:
            setattr(self, name, kind(mem[start:end], heap=heap))

    def _getstate(self) -> dict[str, Any]:
        return {name: getattr(self, name)._getstate() for name, kind, _, _ in self._layout()[2] if hasattr(kind, "_getstate")}

    def _setstate(self, mem: Any, heap: Any = None, **kwargs: Any) -> None:
        self._mem = mem = _bytes(mem)
        for name, kind, start, end in self._layout()[2]:
            field = kind.__new__(kind)
            field._setstate(mem[start:end], heap=heap, **kwargs.get(name) or {})
            setattr(self, name, field)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name, None)!r}" for name in self._fields_)
        return f"<{type(self).__module__}.{type(self).__qualname__}: {fields}>"


class _Array:
    """What the arrays of all types and lengths have in common."""

    _cls: Any
    _length: int
    _stride: int
    size: int

    def __init__(self, mem: Any, heap: Any = None) -> None:
        self._mem = mem = _bytes(mem)
        if len(mem) < self.size:
            raise ValueError(f"shared memory ({len(mem)} bytes) too small; must be at least {self.size} bytes")
        self._vals = members(self._cls, mem, self._stride, self._length, heap)

    def _getstate(self) -> dict[str, Any]:
        return {"members": [member._getstate() for member in self._vals]} if hasattr(self._cls, "_getstate") else {}

    def _setstate(self, mem: Any, heap: Any = None, members: Any = None) -> None:
        self._mem = mem = _bytes(mem)
        if len(mem) < self.size:
            raise ValueError(f"shared memory ({len(mem)} bytes) too small; must be at least {self.size} bytes")
        cls, stride = self._cls, self._stride
        self._vals = [cls.__new__(cls) for _ in range(self._length)]
        for i, member in enumerate(self._vals):
            member._setstate(mem[i * stride : (i + 1) * stride], heap=heap, **(members[i] or {} if members else {}))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, i: Any) -> Any:
        return self._vals[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._vals)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__}: {self._vals!r}>"


def _array(__name__: str, cls: Any, n: int) -> Any:
    """An array of values backed by (shared) memory.

    ``Array[cls, n]`` is the type of arrays with `n` members, each `cls.size` bytes rounded up to a multiple of `cls.align`. Its
    instances have a length and are read like a list: index, slice, iteration.

    Raises
    ------
    ValueError
        `n` is below 1.

    Examples
    --------
    >>> from cuelight.heap import Heap
    >>> a = Box[Array[Double, 5]](Heap())
    >>> a[4].value = 6.28
    """
    if n < 1:
        raise ValueError("n must be strictly positive")
    stride = _align(cls.size, cls.align)
    if stride < 1:
        raise ValueError(f"{cls!r} has no size: there is no array of it")
    own = {"_cls": cls, "_length": n, "_stride": stride, "size": stride * n, "align": cls.align, "__doc__": _array.__doc__}
    return type(__name__, (_Array,), own)


Array = ProductType("Array", _array, (ObjectType, IntType))


def _new(cls: Any) -> Any:
    return cls.__new__(cls)


class _Box:
    """What all boxes have in common.

    Parameters
    ----------
    heap : Heap
        Where to allocate.
    *args, **kwargs
        For the boxed class, which is called with the memory, `args`, `heap=heap` and `kwargs`.
    """

    _boxed: Any
    _bytes: int | None  # the size of `_boxed`, looked up once

    def __init__(self, heap: Any, *args: Any, **kwargs: Any) -> None:
        boxed = self._boxed
        self._block = block = heap.malloc(self._bytes or boxed.size or 1)
        boxed.__init__(self, block.deref(), *args, heap=heap, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        get = getattr(self._boxed, "_getstate", None)
        return _new, (type(self),), (self._block, (get(self) if get else None) or {})

    def __setstate__(self, state: tuple[Any, dict[str, Any]]) -> None:
        self._block, own = state
        self._boxed._setstate(self, self._block.deref(), heap=self._block.heap, **own)

    def __copy__(self) -> Any:
        return self._again()

    def __deepcopy__(self, memo: Any) -> Any:
        return self._again()

    def _again(self) -> Any:
        """Another object on the same memory."""
        make, args, state = self.__reduce__()
        other = make(*args)
        other.__setstate__(state)
        return other


def _box(__name__: str, cls: Any) -> Any:
    """A heap-allocated box to put values in.

    ``Box[cls](heap, *args, **kwargs)`` allocates `cls.size` bytes and makes a `cls` there; it is an instance of `cls`, can be
    pickled, and what is loaded from the pickle, or copied, is the same memory. `cls` has `size`,
    `__init__(mem, *args, heap=heap, **kwargs)` and `_setstate(mem, heap=heap, **state)`; `_getstate()`, which returns `state`, is
    optional.

    Examples
    --------
    >>> from cuelight.heap import Heap
    >>> d = Box[Double](Heap())
    >>> d.value
    0.0
    """
    return type(__name__, (_Box, cls), {"_boxed": cls, "_bytes": getattr(cls, "size", None), "__doc__": cls.__doc__})


Box = ObjectType("Box", _box)


class _Showing(threading.local):
    """The containers whose repr is being made: one may hold itself."""

    def __init__(self) -> None:
        self.addresses: set[Any] = set()


_showing = _Showing()


class Object(Struct):
    """The base of what keeps pickled values in shared memory: `Dict`, `List`.

    Parameters
    ----------
    mem : writable bytes-like
        24 bytes; where the items are. The items are in blocks of the heap.
    heap : Heap
        Where they are allocated.

    Raises
    ------
    ValueError
        There is no heap.

    Notes
    -----
    There is no lock: callers that share an object bring one. A value that is got out is a copy; a box of the same heap is stored
    as a reference that every process can follow. A box of another heap can be followed while the process that stored it lives.
    """

    _fields_ = {"_start": Size_t, "_size": Size_t, "_len": Size_t}  # noqa: RUF012
    _ordered = True

    def __init__(self, mem: Any, heap: Any) -> None:
        if heap is None:
            raise ValueError("a heap is needed: heap is None")
        super().__init__(mem, heap)
        self._heap = heap
        self._store = Store(heap, self._mem, self._ordered)

    def _getstate(self) -> dict[str, Any]:
        return {}

    def _setstate(self, mem: Any, heap: Any = None, **kwargs: Any) -> None:
        if heap is None:
            raise ValueError("a heap is needed: heap is None")
        super()._setstate(mem, heap)
        self._heap = heap
        self._store = Store(heap, self._mem, self._ordered)

    @property
    def _object(self) -> Any:
        """All of it, as a plain object."""
        return self._store.snapshot()

    def __repr__(self) -> str:
        place = (self._heap._uid, self._start.value)
        if place[1] and place in _showing.addresses:
            return f"{type(self).__qualname__}(...)"
        _showing.addresses.add(place)
        try:
            return f"{type(self).__qualname__}({self._object!r})"
        finally:
            _showing.addresses.discard(place)


def _plain(other: Any) -> Any:
    return other._object if isinstance(other, Object) else other


_absent: Any = object()


class Dict(Object):
    """A dict backed by (shared) memory.

    Parameters
    ----------
    mem : writable bytes-like
        24 bytes.
    heap : Heap
        Where items are allocated.

    Notes
    -----
    All methods of `dict`, in the same order; keys(), items(), values() and iterators are of a snapshot. Getting or setting an item
    does not depend on the size while keys are numbers, str, bytes, None, or tuples and frozensets of these; other keys are searched
    for among all others of that kind.
    """

    _ordered = False

    def __getitem__(self, key: Any) -> Any:
        value = self._store.get(key, _absent)
        if value is _absent:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._store.put(key, value)

    def __delitem__(self, key: Any) -> None:
        if not self._store.delete(key):
            raise KeyError(key)

    def __len__(self) -> int:
        return len(self._store)

    def __contains__(self, key: Any) -> bool:
        return self._store.contains(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._store.keys())

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._store.keys())

    def keys(self) -> Any:
        """The keys, of a snapshot."""
        return self._object.keys()

    def items(self) -> Any:
        """The items, of a snapshot."""
        return self._object.items()

    def values(self) -> Any:
        """The values, of a snapshot."""
        return self._object.values()

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of `key`, or `default` without one."""
        return self._store.get(key, default)

    def pop(self, key: Any, default: Any = _absent) -> Any:
        """Remove `key` and return its value; without one, `default`, else KeyError."""
        value = self._store.get(key, _absent)
        if value is not _absent:
            self._store.delete(key)
            return value
        if default is _absent:
            raise KeyError(key)
        return default

    def popitem(self) -> tuple[Any, Any]:
        """Remove the item that was added last and return it. KeyError without any."""
        pair = self._store.take_last()
        if pair is None:
            raise KeyError("popitem(): dictionary is empty")
        return pair

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of `key`, which is set to `default` if there is none."""
        value = self._store.get(key, _absent)
        if value is _absent:
            self._store.put(key, default)
            return default
        return value

    def update(self, other: Any = (), /, **kwargs: Any) -> None:
        """Set all items of `other`, a mapping or pairs, and those given by name; if one cannot be stored, none."""
        self._store.put_all(dict(_plain(other), **kwargs))

    def clear(self) -> None:
        """Remove all items."""
        self._store.clear()

    def copy(self) -> dict[Any, Any]:
        """A plain dict of all items."""
        return self._object

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], value: Any = None) -> dict[Any, Any]:
        """A plain dict with the keys in `iterable`, all with `value`."""
        return dict.fromkeys(iterable, value)

    def __or__(self, other: Any) -> Any:
        other = _plain(other)
        return self._object | other if isinstance(other, dict) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        other = _plain(other)
        return other | self._object if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Dict:
        self.update(other)
        return self

    def __eq__(self, other: Any) -> Any:
        other = _plain(other)
        return self._object == other if isinstance(other, dict) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


class List(Object):
    """A list backed by (shared) memory.

    Parameters
    ----------
    mem : writable bytes-like
        24 bytes.
    heap : Heap
        Where items are allocated.

    Notes
    -----
    All methods of `list`; iterators are of a snapshot. Getting or setting an item and appending do not depend on the length.
    """

    def __getitem__(self, i: Any) -> Any:
        if type(i) is not slice:
            return self._store.item(i)
        if i.step is not None and i.step != 1:
            return [self._store.item(k) for k in range(len(self))[i]]
        return self._object[i]

    def __setitem__(self, i: Any, value: Any) -> None:
        if type(i) is not slice:
            self._store.set_item(i, value)
            return
        values = list(value)
        places = range(len(self))[i]
        if places.step == 1:
            self._store.splice(places.start, max(places.start, places.stop), values)
            return
        if len(places) != len(values):
            raise ValueError(f"attempt to assign sequence of size {len(values)} to extended slice of size {len(places)}")
        whole = self._object
        whole[i] = values
        self._store.splice(0, len(whole), whole)

    def __delitem__(self, i: Any) -> None:
        places = range(len(self))[i]
        if not isinstance(i, slice):
            self._store.splice(places, places + 1, ())
        elif places.step == 1:
            self._store.splice(places.start, max(places.start, places.stop), ())
        else:
            gone = set(places)
            self._store.arrange([k for k in range(len(self)) if k not in gone])

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._object)

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self._object)

    def __contains__(self, value: Any) -> bool:
        return value in self._object

    def append(self, value: Any) -> None:
        """Add a value at the end."""
        self._store.append(value)

    def extend(self, values: Iterable[Any]) -> None:
        """Add all values at the end, in one step."""
        values = list(values)
        end = len(self)
        self._store.splice(end, end, values)

    def insert(self, i: int, value: Any) -> None:
        """Put a value before item `i`."""
        place = range(len(self))[i:].start
        self._store.splice(place, place, (value,))

    def pop(self, i: int = -1) -> Any:
        """Remove item `i` and return it. IndexError if there is none."""
        n = len(self)
        if not n:
            raise IndexError("pop from empty list")
        try:
            place = range(n)[i]
        except IndexError:
            raise IndexError("pop index out of range") from None
        value = self._store.item(place)
        self._store.splice(place, place + 1, ())
        return value

    def remove(self, value: Any) -> None:
        """Remove the first item that equals `value`. ValueError if there is none."""
        try:
            place = self._object.index(value)
        except ValueError:
            raise ValueError("list.remove(x): x not in list") from None
        self._store.splice(place, place + 1, ())

    def index(self, value: Any, *range_: int) -> int:
        """The place of the first item that equals `value`, between start and stop. ValueError if there is none."""
        return self._object.index(value, *range_)

    def count(self, value: Any) -> int:
        """How many items equal `value`."""
        return self._object.count(value)

    def reverse(self) -> None:
        """Turn the order round."""
        self._store.arrange(range(len(self) - 1, -1, -1))

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Sort the items by `key`, and `reverse`, as `list.sort`. An exception by the comparison changes nothing."""
        items = self._object
        keys = items if key is None else [key(item) for item in items]
        self._store.arrange(sorted(range(len(items)), key=keys.__getitem__, reverse=reverse))

    def clear(self) -> None:
        """Remove all items."""
        self._store.clear()

    def copy(self) -> list[Any]:
        """A plain list of all items."""
        return self._object

    def __add__(self, other: Any) -> Any:
        other = _plain(other)
        return self._object + other if isinstance(other, list) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return other + self._object if isinstance(other, list) else NotImplemented

    def __iadd__(self, other: Iterable[Any]) -> List:  # type: ignore[misc]
        self.extend(other)
        return self

    def __mul__(self, times: Any) -> Any:
        return self._object * times

    __rmul__ = __mul__

    def __imul__(self, times: Any) -> List:
        whole = self._object * times
        self._store.splice(0, len(self), whole)
        return self

    def __eq__(self, other: Any) -> Any:
        other = _plain(other)
        return self._object == other if isinstance(other, list) else NotImplemented

    def __lt__(self, other: Any) -> Any:
        other = _plain(other)
        return self._object < other if isinstance(other, list) else NotImplemented

    def __le__(self, other: Any) -> Any:
        other = _plain(other)
        return self._object <= other if isinstance(other, list) else NotImplemented

    def __gt__(self, other: Any) -> Any:
        other = _plain(other)
        return self._object > other if isinstance(other, list) else NotImplemented

    def __ge__(self, other: Any) -> Any:
        other = _plain(other)
        return self._object >= other if isinstance(other, list) else NotImplemented

    __hash__ = None  # type: ignore[assignment]


MutableMapping.register(Dict)
MutableSequence.register(List)
