"""Waiting elsewhere than in recv: descriptors, asyncio, several channels at once; questions and answers."""

import asyncio
import contextlib
import select
import threading
import time

import numpy as np
import pytest

import cuelight as cue


@pytest.fixture
def lane(pool):
    """Both ends of a mailbox in the pool."""
    with cue.open(f"shm://{pool.name}/lane", "r") as r, cue.open(f"shm://{pool.name}/lane", "w") as w:
        yield r, w


def readable(channel, timeout=0.0):
    return bool(select.select([channel], [], [], timeout)[0])


# ---- descriptors ----


def test_fileno_is_readable_while_messages_wait(lane):
    r, w = lane
    with pytest.raises(cue.Empty):
        r.recv(0)
    assert r.fileno() == r.fileno()
    readable(r)
    with pytest.raises(cue.Empty):
        r.recv(0)
    for i in range(20):
        assert not readable(r)
        w.send(bytes([i]))
        assert readable(r, 10)
        assert bytes(r.recv(0)) == bytes([i])
        with pytest.raises(cue.Empty):
            r.recv(0)


def test_fileno_of_a_sender_is_readable_while_there_is_room(pool):
    with cue.open(f"shm://{pool.name}/lane?depth=2", "r") as r, cue.open(f"shm://{pool.name}/lane", "w") as w:
        assert readable(w, 10)
        with pytest.raises(cue.Full):
            for _ in range(3):
                w.send(b"x", timeout=0)
        assert not readable(w)
        r.recv(0), r.recv(0)
        assert readable(w, 10)


def test_fileno_of_a_closed_channel(lane):
    r, _ = lane
    r.close()
    with pytest.raises(cue.Closed):
        r.fileno()


# ---- asyncio ----


def test_arecv_awaits_the_next_message(lane):
    r, w = lane

    async def main():
        loop = asyncio.get_running_loop()
        for i in range(50):
            loop.call_later(0.001, w.send, bytes([i]))
            assert bytes(await r.arecv()) == bytes([i])

    asyncio.run(main())
    asyncio.run(main())  # another loop


def test_async_for_ends_when_the_channel_is_closed(lane):
    r, w = lane

    async def main():
        got = []
        asyncio.get_running_loop().call_later(0.05, r.close)
        w.send(b"a")
        w.send(b"b")
        async for m in r:
            got.append(bytes(m))
        return got

    assert asyncio.run(main()) == [b"a", b"b"]


def test_close_by_another_thread_ends_an_await(lane):
    r, _ = lane

    async def main():
        threading.Timer(0.05, r.close).start()
        with pytest.raises(cue.Closed):
            await r.arecv()

    asyncio.run(main())


def test_cancelled_arecv_loses_nothing(lane):
    r, w = lane

    async def main():
        got = []
        for i in range(100):
            task = asyncio.create_task(r.arecv())
            await asyncio.sleep(0)
            w.send(i.to_bytes(2))
            if i % 2:
                await asyncio.sleep(0.001)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got.append(await task)
        with contextlib.suppress(cue.Empty):
            while True:
                got.append(r.recv(0))
        return [int.from_bytes(bytes(m)) for m in got]

    assert asyncio.run(main()) == list(range(100))


def test_several_tasks_await_one_channel(lane):
    r, w = lane

    async def main():
        tasks = [asyncio.create_task(r.arecv()) for _ in range(5)]
        await asyncio.sleep(0.01)
        w.send_many([bytes([i]) for i in range(5)])
        return sorted([bytes(await task)[0] for task in tasks])

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("how", ["w", "rw"])
def test_asend_awaits_room(pool, how):
    with cue.open(f"shm://{pool.name}/lane?depth=2", "r" if how == "w" else "rw") as r:
        w = cue.open(f"shm://{pool.name}/lane", "w") if how == "w" else r

        async def main():
            async def produce():
                for i in range(50):
                    await w.asend(bytes([i]))

            task = asyncio.create_task(produce())
            got = [bytes(await r.arecv())[0] for _ in range(50)]
            await task
            return got

        assert asyncio.run(main()) == list(range(50))
        w.close()


# ---- several channels ----


def test_recv_any_serves_in_turn(pool):
    ends = [(cue.open(f"shm://{pool.name}/lane{i}", "r"), cue.open(f"shm://{pool.name}/lane{i}", "w")) for i in range(4)]
    receivers = [r for r, _ in ends]
    for i in (1, 3):
        ends[i][1].send_many([b"x"] * 5)
    order = [receivers.index(cue.recv_any(receivers, 5)[0]) for _ in range(10)]
    assert order[:2] * 5 == order
    assert sorted(order[:2]) == [1, 3]
    with pytest.raises(cue.Empty):
        cue.recv_any(receivers, 0.12)
    threading.Timer(0.05, ends[2][1].send, [b"late"]).start()
    channel, m = cue.recv_any(receivers, 10)
    assert channel is receivers[2]
    assert bytes(m) == b"late"
    m.release()
    for r, w in ends:
        r.close()
        w.close()


def test_recv_any_of_what_makes_no_sense(lane):
    r, w = lane
    for bad, error in [([], cue.Invalid), ([r, r], cue.Busy), ([r, w], cue.Invalid), ([r] * 129, cue.Invalid), ([r, 5], TypeError)]:
        with pytest.raises(error):
            cue.recv_any(bad, 0)
    r.close()
    with pytest.raises(cue.Closed):
        cue.recv_any([r], 0)


def test_close_ends_recv_any(lane):
    r, _ = lane
    threading.Timer(0.05, r.close).start()
    with pytest.raises(cue.Closed):
        cue.recv_any([r])


# ---- questions and answers ----


@contextlib.contextmanager
def serving(r, serve, count=1):
    """A thread that serves `count` questions."""

    def run():
        for _ in range(count):
            with r.recv(30) as m:
                serve(m)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    thread.join()


def test_ask_and_reply(lane):
    r, w = lane
    with serving(r, lambda m: m.reply(bytes(m) + b"!", type=7), 3):
        for i in range(3):
            answer = w.ask(b"hello %d" % i, tag=11, timeout=30)
            assert (bytes(answer), answer.type, answer.tag) == (b"hello %d!" % i, 7, 11)


def test_blocks_are_asked_and_answered_with(lane, pool):
    r, w = lane

    def double(m):
        assert m.answerable
        result = pool.empty(1000)
        result[:] = m.array() * 2
        m.reply(block=result)

    with serving(r, double):
        question = pool.empty(1000)
        question[:] = np.arange(1000)
        answer = w.ask(block=question, timeout=30)
        assert not question.flags.writeable
        assert answer.array().sum() == 999_000


def test_no_answer_in_time(lane):
    r, w = lane
    with pytest.raises(cue.Timeout):
        w.ask(b"?", timeout=0.01)
    with r.recv(5) as m:
        m.reply(b"too late")
    assert r.stats()["late"] == 1
    with serving(r, lambda m: m.reply(bytes(m))):
        assert bytes(w.ask(b"next", timeout=30)) == b"next"


def test_negative_status_is_raised(lane):
    r, w = lane
    with serving(r, lambda m: m.reply(status=-1234)), pytest.raises(cue.Error) as caught:
        w.ask(b"?", timeout=30)
    assert caught.value.code == -1234


def test_what_was_sent_cannot_be_answered(lane):
    r, w = lane
    w.send(b"x")
    m = r.recv(5)
    assert not m.answerable
    with pytest.raises(cue.Invalid):
        m.reply(b"y")
    m.release()
    with pytest.raises(cue.Moved):
        m.reply(b"y")


def test_close_ends_an_ask(lane):
    _, w = lane
    threading.Timer(0.05, w.close).start()
    with pytest.raises(cue.Closed):
        w.ask(b"?")


def test_aask(lane):
    r, w = lane

    async def main():
        return [bytes(m) for m in await asyncio.gather(*(w.aask(bytes([i]), timeout=30) for i in range(8)))]

    with serving(r, lambda m: (time.sleep(0.001), m.reply(bytes(m))), 8):
        assert asyncio.run(main()) == [bytes([i]) for i in range(8)]
