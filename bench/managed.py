"""What managed memory costs in Python: the rows py.managed_memory.*, of cuelight and, run by its own interpreter, of dragonhpc.

    managed.py alloc|alloc.4procs|attach|list|import

What is imported is cuelight.managed_memory where there is a package cuelight, else dragon.managed_memory, whose interface is the
same. dragonhpc runs without its launcher here: its pools and allocations need none.
"""

import importlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

from side import rounds, say, timed, together

PACKAGE = "cuelight" if importlib.util.find_spec("cuelight") else "dragon"
TITLE, DISTRIBUTION = {"cuelight": ("cuelight for Python", "cuelight"), "dragon": ("dragonhpc", "dragonhpc")}[PACKAGE]
BATCH, LISTED = 200, 100_000


def alloc(memory: object, pool: object, batch: int = BATCH) -> Callable[[], int]:
    def work() -> int:
        for _ in range(batch):
            pool.alloc(64).free()
        return batch

    return work


def alloc_in_four(memory: object, pool: object) -> Callable[[], tuple[int, int]]:
    descriptor = pool.serialize()
    return together([lambda: alloc(memory, memory.MemoryPool.attach(descriptor), 1)] * 4)


def attach(memory: object, pool: object) -> Callable[[], int]:
    descriptor, attach_one = bytes(pool.alloc(64).serialize()), memory.MemoryAlloc.attach

    def work() -> int:
        for _ in range(BATCH):
            attach_one(descriptor).detach()
        return BATCH

    return work


def listing(memory: object, pool: object) -> Callable[[], int]:
    kept = [pool.alloc(64) for _ in range(LISTED)]

    def work() -> int:
        assert pool.get_allocations().num_allocs == len(kept)
        return 1

    return work


def measure(case: Callable, size: int) -> None:
    memory = importlib.import_module(f"{PACKAGE}.managed_memory")
    pool = memory.MemoryPool(size, f"bench{os.getpid()}", 1)
    try:
        work = case(memory, pool)
        for seconds in rounds(TITLE, version(DISTRIBUTION)):
            spent, done = timed(work, seconds)
            say(value=spent / done)
    finally:
        pool.destroy()


def importing() -> None:
    """Importing the package into an interpreter that has started, without numpy."""
    code = "import time; t = time.perf_counter_ns(); import cuelight; print(time.perf_counter_ns() - t)"
    for seconds in rounds(TITLE, version(DISTRIBUTION)):
        times, end = [], time.monotonic() + seconds
        while not times or time.monotonic() < end:
            times.append(int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout))
        say(value=sorted(times)[len(times) // 2])


if __name__ == "__main__":
    if sys.argv[1] == "import":
        importing()
    else:
        cases = {"alloc": alloc, "alloc.4procs": alloc_in_four, "attach": attach, "list": listing}
        measure(cases[sys.argv[1]], 16 << 20)
