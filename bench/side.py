"""The side of a Python program that talks to bench/run, as bench.h is for C: says who it is, then answers round after round."""

import json
import os
import sys
from collections.abc import Iterator


def say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def rounds(name: str, version: str) -> Iterator[float]:
    """The length of each round in seconds; between two of them the program must say its figure."""
    if "--cpus" in sys.argv:
        os.sched_setaffinity(0, {int(sys.argv[sys.argv.index("--cpus") + 1].split(",")[0])})
    say(name=name, version=version)
    for line in sys.stdin:
        yield float(line)
