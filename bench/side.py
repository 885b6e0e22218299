"""The side of a Python program that talks to bench/run, as bench.h is for C: says who it is, then answers round after round."""

import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterator

TOGETHER_SECONDS = 0.02


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def cpus() -> list[int]:
    """Those that the row may use."""
    if "--cpus" in sys.argv:
        return list(map(int, sys.argv[sys.argv.index("--cpus") + 1].split(",")))
    return sorted(os.sched_getaffinity(0))


def together(makes: list[Callable[[], Callable[[], int]]]) -> Callable[[], tuple[int, int]]:
    """Processes that work at the same time, on the CPUs in turn, each with what its `make` has made there.

    A call lets them work for a moment: nanoseconds, and how often they did it, all in all.
    """
    shared = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")  # whether to go on, and what each has done
    starts, (ended, end) = [os.pipe() for _ in makes], os.pipe()

    def take_turns(number: int, work: Callable[[], int]) -> None:
        while os.read(starts[number][0], 1):  # nothing: the parent has gone
            done = work()
            while shared[0]:
                done += work()
            shared[1 + number] = done
            os.write(end, b".")

    for number, make in enumerate(makes):
        if os.fork() == 0:
            try:
                for _, write in starts:
                    os.close(write)
                os.sched_setaffinity(0, {cpus()[number % len(cpus())]})
                take_turns(number, make())
            finally:
                os._exit(0)
    os.close(end)

    def all_of_them() -> tuple[int, int]:
        begin, shared[0] = time.perf_counter_ns(), 1
        for _, write in starts:
            os.write(write, b".")
        time.sleep(TOGETHER_SECONDS)
        shared[0] = 0
        for _ in makes:
            if not os.read(ended, 1):
                raise RuntimeError("they have all ended")
        return time.perf_counter_ns() - begin, sum(shared[1 : 1 + len(makes)])

    return all_of_them


def rounds(name: str, version: str) -> Iterator[float]:
    """The length of each round in seconds; between two of them the program must say its figure."""
    if "--cpus" in sys.argv:
        os.sched_setaffinity(0, {cpus()[0]})
    say(name=name, version=version)
    for line in sys.stdin:
        yield float(line)


def timed(work: Callable[[], int | tuple[int, int]], seconds: float) -> tuple[int, int]:
    """Nanoseconds, and how often it was done, of the calls that fit. A call says how often, or both, where not all of it counts."""
    spent = done = 0
    end = time.perf_counter() + seconds
    while not done or time.perf_counter() < end:
        begin = time.perf_counter_ns()
        result = work()
        took, count = result if isinstance(result, tuple) else (time.perf_counter_ns() - begin, result)
        spent += took
        done += count
    return spent, done
