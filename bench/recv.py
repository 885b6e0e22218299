"""What receiving a block into numpy costs in Python: the row py.recv.numpy. The C beside it is recv.view of lane.c.

Blocks of 1,000 doubles wait in a mailbox; timed is: receive, make the array, look at its first and last element, let go.
"""

import os
import time

import cuelight as cue

from side import rounds, say

DRAIN, DOUBLES = 512, 1000


def drain(channel: cue.Channel) -> None:
    for _ in range(DRAIN):
        view = channel.recv(timeout=20).array("f8")
        view[0] + view[DOUBLES - 1]


def main() -> None:
    with cue.open(f"shm://bench-{os.getpid()}/view", "rw") as channel:
        pool = channel.pool
        for seconds in rounds("cuelight for Python", cue.__version__):
            spent = received = 0
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                for i in range(DRAIN):
                    array = pool.empty(DOUBLES, "f8")
                    array[0] = array[DOUBLES - 1] = i
                    channel.send(block=array)
                begin = time.perf_counter_ns()
                drain(channel)
                spent += time.perf_counter_ns() - begin
                received += DRAIN
            say(value=spent / received)


if __name__ == "__main__":
    main()
