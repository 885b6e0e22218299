"""A service in asyncio: `asyncio_service.py` answers questions, many at a time, and counts seconds meanwhile;
`asyncio_service.py N...` asks it to sleep N milliseconds for each N, all at once, and prints the answers as they come.
"""

import asyncio
import sys

import cuelight as cue

URL = "shm://naps/questions"


async def nap(question: cue.Message) -> None:
    """One question: others are served while it sleeps."""
    ms = int(bytes(question))
    await asyncio.sleep(ms / 1000)
    question.reply(b"slept %d ms" % ms)
    question.release()


async def serve() -> None:
    naps: set[asyncio.Task[None]] = set()
    with cue.open(URL, "r") as questions:
        print("ready", flush=True)
        async for question in questions:
            task = asyncio.create_task(nap(question))
            naps.add(task)  # else nobody would hold it
            task.add_done_callback(naps.discard)


async def ask(naps: list[str]) -> None:
    with cue.open(URL, "w") as service:
        for answer in asyncio.as_completed([service.aask(ms.encode(), timeout=30) for ms in naps]):
            print(bytes(await answer).decode())


asyncio.run(ask(sys.argv[1:]) if sys.argv[1:] else serve())
