"""Who awaits a channel in an event loop: one reader of the loop for all of them."""

import asyncio


class Awaiting:
    """The tasks of one event loop that await one channel."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.loop = asyncio.get_running_loop()
        self.futures: list[asyncio.Future[None]] = []

    def of_this_loop(self) -> bool:
        """Whether the running loop is the one that reads."""
        return self.loop is asyncio.get_running_loop()

    def future(self) -> "asyncio.Future[None]":
        """Done when the channel may have something, or was closed."""
        if not self.futures:
            self.loop.add_reader(self.fd, self.ready)
        future = self.loop.create_future()
        future.add_done_callback(self.forget)
        self.futures.append(future)
        return future

    def ready(self) -> None:
        """All look again; who finds nothing comes back."""
        for future in list(self.futures):
            if not future.done():
                future.set_result(None)

    def forget(self, future: "asyncio.Future[None]") -> None:
        """It is done, or cancelled: the loop reads on only while somebody awaits."""
        self.futures.remove(future)
        if not self.futures and self.fd >= 0:
            self.loop.remove_reader(self.fd)

    def end(self) -> None:
        """The channel is being closed, in this thread or another."""
        if self.loop.is_closed():
            return
        try:
            here = asyncio.get_running_loop() is self.loop
        except RuntimeError:
            here = False
        if not here:
            self.loop.call_soon_threadsafe(self.end)
            return
        if self.futures:
            self.loop.remove_reader(self.fd)
        self.fd = -1
        self.ready()
