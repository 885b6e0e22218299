"""The package as it is shipped: stubs and texts that say what is there, style, sanitizers."""

import ast
import importlib
import importlib.util
import inspect
import os
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


# ---- under the address sanitizer ----

ASAN_TESTS = ["test_lifetimes.py", "test_arrays.py", "test_channel.py"]


@pytest.mark.seconds(400)
def test_under_the_address_sanitizer(tmp_path):
    """The extension and the library in it, built with -fsanitize=address, run the tests of lifetimes, arrays and channels."""
    gcc, cython = shutil.which("gcc"), Path(sys.executable).with_name("cython")
    if not gcc or not cython.exists():
        pytest.skip("needs gcc and cython")
    asan = subprocess.run([gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(asan):
        pytest.skip("no libasan here")
    package = tmp_path / "cuelight"
    shutil.copytree(Path(cue.__file__).parent, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    subprocess.run(
        [cython, "-3", "--module-name", "cuelight._core", SOURCE / "src/cuelight/_core.pyx", "-o", tmp_path / "_core.c"]
        + ["-I", SOURCE / "src"],
        check=True,
    )
    layers = [f for layer in ("base", "pool", "serial", "channels", "channels/nng", "runtime") for f in (ROOT / layer).glob("*.c")]
    subprocess.run(
        [gcc, "-std=c11", "-D_GNU_SOURCE", "-O0", "-g1", "-fPIC", "-shared", "-fsanitize=address", "-fno-omit-frame-pointer"]
        + ["-fvisibility=hidden", "-w", f"-I{ROOT}", f"-I{ROOT / 'include'}", f"-I{sysconfig_include()}"]
        + [tmp_path / "_core.c", *layers, "-o", package / Path(_core.__file__).name, "-lmsgpackc", "-lnng", "-pthread"],
        check=True,
    )
    done = subprocess.run(
        [
            sys.executable,
            "-B",
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            "not any_array",
            *(HERE / name for name in ASAN_TESTS),
        ],
        env=os.environ
        | {
            "LD_PRELOAD": asan,
            "ASAN_OPTIONS": "detect_leaks=0:handle_segv=1:abort_on_error=0:exitcode=99",
            "PYTHONPATH": str(tmp_path),
            "PYTHONMALLOC": "malloc",
            "CUE_ASAN": "1",
            "CUE_PREFIX": os.environ["CUE_PREFIX"] + "-asan",
        },
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    assert "AddressSanitizer" not in done.stdout + done.stderr


@pytest.mark.seconds(400)
def test_heaps_and_locks_under_the_address_sanitizer(tmp_path):
    """The same for the extensions of primitives, heap and types, which need nothing of the library."""
    gcc, cython = shutil.which("gcc"), Path(sys.executable).with_name("cython")
    if not gcc or not cython.exists():
        pytest.skip("needs gcc and cython")
    asan = subprocess.run([gcc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(asan):
        pytest.skip("no libasan here")
    package, memory = tmp_path / "cuelight", SOURCE / "memory"
    shutil.copytree(Path(cue.__file__).parent, package, ignore=shutil.ignore_patterns("_heap.*.so", "_memory.*.so", "__pycache__"))
    subprocess.run(
        [cython, "-3", "--module-name", "cuelight._heap", SOURCE / "src/cuelight/_heap.pyx", "-o", tmp_path / "_heap.c"], check=True
    )
    flags = [
        "-std=c11",
        "-D_GNU_SOURCE",
        "-O1",
        "-g1",
        "-fPIC",
        "-shared",
        "-fsanitize=address,undefined",
        "-fvisibility=hidden",
        "-w",
    ]
    flags += ["-fno-sanitize=alignment", f"-I{memory}", f"-I{sysconfig_include()}"]  # atomics may lie at any address here
    for module, sources in ((_memory, sorted(memory.glob("*.c"))), (_heap, [tmp_path / "_heap.c"])):
        subprocess.run([gcc, *flags, *sources, "-o", package / Path(module.__file__).name, "-pthread"], check=True)
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k"]
        + [
            "noise or is_like_dict or damaged or collected or views or callback or unfinished or where_blocks or held_lock"
            " or every_shape or every_byte or test_rounds"
        ]
        + [
            HERE / name
            for name in ("test_types.py", "test_heap.py", "test_primitives.py", "test_npshm.py", "test_leaks_modules.py")
        ],
        env=os.environ
        | {
            "LD_PRELOAD": asan,
            "ASAN_OPTIONS": "detect_leaks=0:handle_segv=1:abort_on_error=0:exitcode=99",
            "UBSAN_OPTIONS": "halt_on_error=1",
            "PYTHONPATH": str(tmp_path),
            "PYTHONMALLOC": "malloc",
            "CUE_LEAK_ROUNDS": "50",
            "CUE_PREFIX": os.environ["CUE_PREFIX"] + "-asan",
        },
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
    assert "Sanitizer" not in done.stdout + done.stderr
    assert "runtime error" not in done.stdout + done.stderr


def sysconfig_include() -> str:
    import sysconfig

    return sysconfig.get_path("include")
