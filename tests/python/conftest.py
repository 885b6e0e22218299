"""Each test makes pools of its own, under a prefix of this run's, and leaves none of them in /dev/shm."""

import faulthandler
import gc
import itertools
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

os.environ.setdefault("CUE_PREFIX", f"t-python-{os.getpid()}")  # before the library reads it

import pytest
from hypothesis import HealthCheck, settings

import cuelight as cue
from cuelight.managed_memory import DragonPoolError, MemoryPool

SHM = Path("/dev/shm")
ROUNDS = int(os.environ.get("CUE_LEAK_ROUNDS", "2000"))  # of whoever looks for leaks; 100000 in the long run
slow = [HealthCheck.too_slow]  # a machine that others use too
settings.register_profile("here", deadline=None, database=None, print_blob=True, suppress_health_check=slow)
settings.load_profile("here")


def pytest_configure(config):
    config.addinivalue_line("markers", "seconds(n): how long a test may take, 40 without")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and so would what is tested


_numbers = itertools.count()


def objects() -> list[str]:
    """The shared objects of this run."""
    return sorted(p.name for p in SHM.glob(os.environ["CUE_PREFIX"] + ".*"))


def descriptors() -> int:
    """How many this process has open."""
    gc.collect()  # other tests' leavings
    return len(os.listdir("/proc/self/fd"))


def resident() -> int:
    """Bytes of memory that this process has now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def run_processes(method, target, *arguments):
    """A process of multiprocessing for each tuple of arguments; all of them end well."""
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=target, args=own) for own in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def run_in_small_shm(code: str, *args: object) -> list[str]:
    """Runs a piece of code where /dev/shm is its own and has 4 MiB; the lines that it prints."""
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=4m none /dev/shm && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small /dev/shm here")
    command = [*mount, sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, args)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    gc.collect()
    left = objects()
    for name in left:
        (SHM / name).unlink(missing_ok=True)
    assert left == []


@pytest.fixture(autouse=True)
def bounded(request):
    """A test that hangs fails after thrice 40 s (or as its mark says); one that cannot even run a signal handler ends the run."""
    mark = request.node.get_closest_marker("seconds")
    seconds = 3 * (mark.args[0] if mark else 40)  # on a machine that others use too

    def late(*_):
        raise AssertionError("the test hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    faulthandler.dump_traceback_later(seconds + 20, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def name(request) -> str:
    """A pool's name, of this test alone."""
    test = re.sub(r"[^A-Za-z0-9_]", "_", request.node.name)[:30]
    return f"{test}-{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def pool(name):
    with cue.Pool(name, "64MiB") as pool:
        yield pool
        if not pool.closed:
            assert pool.check(repair=True) == []
            pool.destroy()


@pytest.fixture
def managed(name):
    pool = MemoryPool(32768, name, 17)
    yield pool
    try:
        pool.destroy()
    except DragonPoolError:  # the test did
        pass


class Child:
    """Another Python that runs a piece of code; its pool and arguments are in sys.argv[1:]."""

    def __init__(self, code: str, *args: object, **options) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def line(self) -> str:
        """The next line that it prints."""
        return self.process.stdout.readline().strip()

    def go(self, text: str = "go") -> None:
        """Gives it a line to read."""
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def end(self, code: int = 0, timeout: float = 90) -> str:
        """The rest of what it prints; it must end with this exit code and without a word on stderr."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"the child hangs\n{out}\n{err}") from None
        assert self.process.returncode == code, f"exit code {self.process.returncode}\n{out}\n{err}"
        assert err == "", err
        return out.strip()


@pytest.fixture
def child():
    children = []

    def start(code: str, *args: object, **options) -> Child:
        children.append(Child(code, *args, **options))
        return children[-1]

    yield start
    for one in children:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()
