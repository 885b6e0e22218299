"""The package as it is shipped: stubs and texts that say what is there, style."""

import ast
import enum
import importlib
import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cuelight as cue
from cuelight import _core, _heap, _memory

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SOURCE = ROOT / "bindings" / "python"


def stub() -> dict[str, ast.AST]:
    text = Path(cue.__file__).with_name("_core.pyi").read_text()
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


PUBLIC = [getattr(cue, name) for name in cue.__all__ if getattr(getattr(cue, name), "__module__", "") == "cuelight._core"]


def parameters(node: ast.FunctionDef) -> list[str]:
    a = node.args
    return [x.arg for x in (*a.posonlyargs, *a.args, *([a.vararg] if a.vararg else []), *a.kwonlyargs)]


@pytest.mark.parametrize("thing", PUBLIC, ids=lambda t: t.__name__)
def test_stubs_say_what_is_there(thing):
    node = stub()[thing.__name__]
    if inspect.isclass(thing):
        members = {n.name: n for n in node.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
        there = {n for n in vars(thing) if not n.startswith("_")}
        assert there == {n for n in members if not n.startswith("_")}
        for special in ("__enter__", "__exit__", "__len__", "__bool__", "__bytes__", "__iter__", "__next__"):
            assert (special in vars(thing)) == (special in members), special
        for method, member in members.items():
            actual = vars(thing).get(method)
            if inspect.isroutine(actual) and not method.startswith("_"):
                assert parameters(member) == list(inspect.signature(actual).parameters), method
    elif thing is not cue.open:  # it hands its options on
        assert parameters(node) == list(inspect.signature(thing).parameters)


@pytest.mark.parametrize("thing", [getattr(cue, name) for name in cue.__all__], ids=lambda t: t.__name__)
def test_everything_public_has_a_text(thing):
    assert thing.__doc__
    if inspect.isclass(thing):
        for name, member in vars(thing).items():
            if not name.startswith("_") and (inspect.isroutine(member) or inspect.isdatadescriptor(member)):
                assert member.__doc__ or f"{name} : " in thing.__doc__ or f"{name}, " in thing.__doc__, name


@pytest.mark.parametrize("module", [_memory, _heap], ids=lambda m: m.__name__)
def test_stubs_of_the_memory_modules(module):
    nodes = ast.parse((Path(cue.__file__).parent / f"{module.__name__.rpartition('.')[2]}.pyi").read_text()).body
    stubs = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[:1] != "_"}
    private = {"Region", "Span"}  # made in C only
    there = {
        name for name, thing in vars(module).items() if getattr(thing, "__module__", "").startswith("cuelight.") and name[:1] != "_"
    }
    functions = {name for name, thing in vars(module).items() if inspect.isbuiltin(thing) and name[:1] != "_"}
    assert {name for name in there | functions if inspect.isclass(getattr(module, name)) or name in functions} - private == set(
        stubs
    )
    for name, node in stubs.items():
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    assert hasattr(getattr(module, name), member.name) or member.name == "__getattr__", f"{name}.{member.name}"


def test_typed_marker_and_version():
    from importlib.metadata import PackageNotFoundError, version

    assert Path(cue.__file__).with_name("py.typed").exists()
    try:
        assert version("cuelight") == cue.__version__
    except PackageNotFoundError:
        pytest.skip("the package is used without being installed")


def test_the_library_inside_is_nobody_elses():
    if not shutil.which("nm"):
        pytest.skip("no nm here")
    names = subprocess.run(["nm", "-D", "--defined-only", _core.__file__], capture_output=True, text=True, check=True).stdout
    assert [line.split()[-1] for line in names.splitlines() if " T " in line] == ["PyInit__core"]


def test_style():
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("no ruff in this environment")
    paths = [SOURCE, HERE, ROOT / "examples" / "hello.py"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [ruff, *command, "--no-cache", "--config", HERE / "ruff.toml", *paths],
            cwd=HERE,  # what is ours is found from here
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_pure_python_parts_are_typed():
    for path in (SOURCE / "src" / "cuelight").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.returns is not None, f"{path.name}: {node.name}"


@pytest.mark.seconds(240)
def test_types_that_users_see(tmp_path):
    """A program of a user's is checked strictly, and runs; and so is the package."""
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("no mypy in this environment")
    import numpy

    if tuple(map(int, numpy.__version__.split(".")[:2])) < (2, 3):
        pytest.skip("the types of older numpy want arguments where those of today have defaults")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path)]
    for what in ([HERE / "typed_user.py"], ["--no-warn-return-any", "-p", "cuelight"]):
        done = subprocess.run([*mypy, *what], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    quiet = ["-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run([sys.executable, *quiet, HERE / "typed_user.py", tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


MODULES = [
    "managed_memory",
    "dtypes",
    "npshm",
    "npio",
    "shmutils",
    "primitives",
    "atomic",
    "generics",
    "heap",
    "types",
    "util",
    "info",
]


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_text_and_a_home(name):
    module = importlib.import_module(f"cuelight.{name}")
    assert module.__doc__
    for public in getattr(module, "__all__", [n for n in vars(module) if n[0] != "_"]):
        thing = getattr(module, public)
        if not (inspect.isclass(thing) or callable(thing)) or thing.__module__.split(".")[0] != "cuelight":
            continue
        assert thing.__doc__, public
        home = sys.modules[thing.__module__]
        assert getattr(home, public, None) is thing, f"{public} cannot be imported from {thing.__module__}"
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            if not member.startswith("_") and inspect.isroutine(value):
                assert value.__doc__, f"{public}.{member}"


@pytest.mark.parametrize("name", MODULES)
def test_every_argument_is_explained(name):
    """By its name in the text of the function, or of the class."""
    module = importlib.import_module(f"cuelight.{name}")
    unexplained = []
    for public in getattr(module, "__all__", [n for n in vars(module) if n[0] != "_"]):
        thing = getattr(module, public)
        if not callable(thing) or getattr(thing, "__module__", "").split(".")[0] != "cuelight":
            continue
        if inspect.isclass(thing) and issubclass(thing, (Exception, enum.Enum)):
            continue
        methods = (
            [n for n, member in vars(thing).items() if n[0] != "_" and inspect.isroutine(member)] if inspect.isclass(thing) else []
        )
        for function in (thing, *(getattr(thing, n) for n in methods)):
            try:
                parameters = inspect.signature(function).parameters.values()
            except ValueError:  # a type of C that says no more
                continue
            named = [
                p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in ("self", "cls")
            ]
            unexplained += [(public, function.__name__, n) for n in named if not re.search(rf"\b{n}\b", function.__doc__ or "")]
    assert unexplained == []


def test_what_has_a_state_has_a_repr_that_says_it(name):
    from cuelight import atomic, heap, managed_memory, primitives, shmutils, types

    memory = heap.Heap()
    pool = managed_memory.MemoryPool(4096, name, 7)
    alloc = pool.alloc(100)
    with pytest.warns(DeprecationWarning, match="SharedArray"):
        array = shmutils.SharedMemoryArray((2, 3), "f4", "some-name")
    number = types.Box[types.Double](memory)
    number.value = 2.5
    shown = {
        repr(memory): "map_size 4096",
        repr(memory.malloc(100)): "100",
        repr(pool): name,
        repr(alloc): "100",
        repr(array): "some-name",
        repr(number): "2.5",
        repr(primitives.AtomicInt64(bytearray(8))): "0",
        repr(primitives.Lock(bytearray(40))): "Lock",
        repr(atomic.LockingInt64(bytearray(48))): "0",
        repr(types.Box[types.List](memory)): "[]",
        repr(types.Box[types.Dict](memory)): "{}",
        repr(types.Array[types.Double, 2](bytearray(16))): "0.0",
        repr(types.Array): "cuelight.types.Array",
    }
    pool.destroy()
    for text, what in shown.items():
        assert what in text
        assert " object at 0x" not in text, text
