"""Classes that are made for a value, and can be pickled; under `mpmetrics.generics`' names.

A generic `G` makes the class `G[x]` by calling ``cls(__name__, x)`` once for each `x`. Pickle finds a class by its module and its
qualified name, so `__name__` is a path of attributes that leads to the class: `G.5`, `G.<.builtins.int.>`. Another process
walks that path, and each step makes what is not there yet.
"""

from __future__ import annotations

import functools
import importlib
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["FloatType", "IntType", "ListType", "ObjectType", "ProductType", "saveattr"]


def saveattr(get: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """Save the result of `__getattr__`.

    Parameters
    ----------
    get : callable
        A `__getattr__`.

    Returns
    -------
    callable
        The same, but it stores what it found with `setattr`, so it is called once a name.
    """

    @functools.wraps(get)
    def wrapper(self: Any, name: str) -> Any:
        value = get(self, name)
        setattr(self, name, value)
        return value

    return wrapper


def _reject_special(generic: Any, name: str) -> None:
    """copy, pickle, inspect and doctest ask for special attributes; those lead nowhere."""
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(f"{type(generic).__name__!r} object has no attribute {name!r}")


class _Generic:
    """What the generics have in common: they are found by their name in the module of `cls`."""

    _owner: Any = None  # of a part of another generic: that one, which has the name

    def __init__(self, name: str, cls: Callable[..., Any]) -> None:
        self.__qualname__ = self.name = name
        self.__doc__ = cls.__doc__
        self.__module__ = getattr(cls, "__module__", type(self).__module__)
        self.cls = cls

    def __reduce__(self) -> str | tuple[Any, ...]:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__module__}.{self.__qualname__}>"


class IntType(_Generic):
    """Helper for classes polymorphic over integers.

    Parameters
    ----------
    name : str
        The name under which this object can be imported from the module of `cls`.
    cls : callable
        Called as ``cls(__name__, x)``, once for each `x`.

    Examples
    --------
    >>> def MyClass(__name__, x):
    ...     return type(__name__, (), locals())
    >>> MyClass = IntType('MyClass', MyClass)
    >>> MyClass[5].x
    5
    """

    @saveattr
    def __getattr__(self, attr: str) -> Any:
        _reject_special(self, attr)
        return self.cls(f"{self.__qualname__}.{attr}", int(attr))

    def __getitem__(self, x: int) -> Any:
        return getattr(self, repr(x))


class FloatType(_Generic):
    """Helper for classes polymorphic over floats. `name` and `cls` as for `IntType`."""

    @saveattr
    def __getattr__(self, attr: str) -> Any:
        _reject_special(self, attr)
        return self.cls(f"{self.__qualname__}.{attr}", float(attr.replace("_", ".")))

    def __getitem__(self, x: float) -> Any:
        return getattr(self, repr(x).replace(".", "_"))


def _locate(parts: Sequence[str], import_first: bool) -> Any:
    """What a path of names leads to, from a module on."""
    found: Any = importlib.import_module(parts[0])
    for number, part in enumerate(parts[1:], 2):
        if isinstance(found, types.ModuleType) and (import_first or not hasattr(found, part)) and part not in ("<", ">"):
            try:
                found = importlib.import_module(".".join(parts[:number]))
                continue
            except ModuleNotFoundError as error:
                if error.name != ".".join(parts[:number]) and not import_first:
                    raise
        found = getattr(found, part)
    return found


def _path(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


class _Walk:
    """A step on the path between the `<` and the `>` of an object's name."""

    def __init__(self, generic: ObjectType, parts: tuple[str, ...], depth: int) -> None:
        self._generic, self._parts, self._depth = generic, parts, depth

    @saveattr
    def __getattr__(self, attr: str) -> Any:
        if attr == "<locals>":
            raise AttributeError(f"Can't get local object {'.'.join(self._parts)!r}")
        if attr not in sys.modules:  # __main__ is one
            _reject_special(self, attr)
        depth = self._depth + (attr == "<") - (attr == ">")
        if depth:
            return _Walk(self._generic, (*self._parts, attr), depth)
        try:
            return self._generic._make(self._find(), ".".join(self._parts))
        except ImportError as error:
            raise AttributeError(f"there is no {'.'.join(self._parts)!r}: {error}") from error

    def _find(self) -> Any:
        found = _locate(self._parts, False)
        path = ".".join(self._parts)
        if getattr(found, "__qualname__", None) and _path(found) != path:
            other = _locate(self._parts, True)  # a module and an attribute may have one name
            if getattr(other, "__qualname__", None) and _path(other) == path:
                return other
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._parts:
            return getattr, (self._generic._owner or self._generic, "<")
        return getattr, (_Walk(self._generic, self._parts[:-1], self._depth), self._parts[-1])


class ObjectType(_Generic):
    """Helper for classes polymorphic over classes, which must be importable. `name` and `cls` as for `IntType`.

    Raises
    ------
    AttributeError
        By indexing: the class is local to a function, or is not what its name leads to.
    """

    def __init__(self, name: str, cls: Callable[..., Any]) -> None:
        super().__init__(name, cls)
        self._made: dict[int, tuple[Any, Any]] = {}

    def __getattr__(self, attr: str) -> Any:
        if attr == "<":
            return _Walk(self, (), 1)
        raise AttributeError(f"{self!r} has no attribute {attr!r}")

    def _make(self, thing: Any, path: str) -> Any:
        known = self._made.get(id(thing))
        if known is None:  # the thing is kept, or another might get its id
            known = self._made[id(thing)] = thing, self.cls(f"{self.__qualname__}.<.{path}.>", thing)
        return known[1]

    def __getitem__(self, thing: Any) -> Any:
        known = self._made.get(id(thing))
        if known is not None:
            return known[1]
        if not isinstance(getattr(thing, "__qualname__", None), str) or not isinstance(getattr(thing, "__module__", None), str):
            raise AttributeError(f"{thing!r} has no name by which it could be found: it is no class")
        path = _path(thing)
        walk = self.__getattr__("<")
        for part in path.split("."):
            walk = getattr(walk, part)
        if walk._find() is not thing:
            raise AttributeError(f"{path} is not the same object as {thing!r}")
        return self._make(thing, path)


class ProductType(_Generic):
    """Helper to combine other types.

    Parameters
    ----------
    name : str
        The name under which this object can be imported from the module of `cls`.
    cls : callable
        Called as ``cls(__name__, *values)``, once for each combination.
    argtypes : sequence of type
        The generic type of each value: `IntType`, `FloatType`, `ObjectType`.
    args : tuple
        Values that are given already.

    Notes
    -----
    Fewer values than types give another `ProductType`: ``P[int, 5] is P[int][5]``.
    """

    def __init__(self, name: str, cls: Callable[..., Any], argtypes: Sequence[type], args: tuple[Any, ...] = ()) -> None:
        super().__init__(name, cls)
        self.argtypes, self.args = tuple(argtypes), tuple(args)
        self._made: dict[Any, Any] = {}
        self._step = self.argtypes[0](name, self._chosen)
        self._step._owner = self

    def _chosen(self, __name__: str, value: Any) -> Any:
        if len(self.argtypes) == 1:
            return self.cls(__name__, *self.args, value)
        rest = ProductType(__name__, self.cls, self.argtypes[1:], (*self.args, value))
        rest.__module__ = self.__module__
        return rest

    def __getattr__(self, attr: str) -> Any:
        _reject_special(self, attr)
        if attr == "_step":
            raise AttributeError(attr)
        return getattr(self._step, attr)

    def __getitem__(self, values: Any) -> Any:
        if not isinstance(values, tuple):
            return self._step[values]
        key = tuple((id(value), type(value)) if isinstance(value, type) else (repr(value), type(value)) for value in values)
        found = self._made.get(key)
        if found is None:
            found = self
            for value in values:
                if found is not self and not isinstance(found, ProductType):
                    raise TypeError(f"type {found.__qualname__!r} is not subscriptable")
                found = found._step[value]
            if not values:
                raise TypeError(f"{self!r} needs at least one value")
            self._made[key] = found
        return found


class ListType(_Generic):
    """Helper for classes polymorphic over any number of values of one kind.

    Parameters
    ----------
    name : str
        The name under which this object can be imported from the module of `cls`.
    cls : callable
        Called as ``cls(__name__, values)`` with one tuple, once for each.
    elemtype : type
        `IntType`, `FloatType` or `ObjectType`.
    """

    def __init__(self, name: str, cls: Callable[..., Any], elemtype: type) -> None:
        super().__init__(name, cls)
        self.elemtype = elemtype

    @saveattr
    def __getattr__(self, attr: str) -> Any:
        _reject_special(self, attr)
        length = int(attr)
        name = f"{self.__qualname__}.{length}"
        if length == 0:
            return self.cls(name, ())
        if length < 0:
            raise AttributeError(f"{self!r} has no attribute {attr!r}")

        def together(__name__: str, *values: Any) -> Any:
            return self.cls(__name__, values)

        product = ProductType(name, together, (self.elemtype,) * length)
        product.__module__ = self.__module__
        return product

    def __getitem__(self, values: Any) -> Any:
        values = values if isinstance(values, tuple) else (values,)
        found = getattr(self, str(len(values)))
        return found[values] if values else found
