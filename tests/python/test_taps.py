"""Taps: copies of what passes through a lane, for whoever looks on."""

import os

import pytest

import cuelight as cue


def url(pool, rest):
    return f"shm://{pool.name}/{rest}"


@pytest.mark.parametrize("kind", ["mailbox", "queue", "stream", "topic"])
def test_a_tap_sees_what_passes(pool, kind):
    with (
        cue.open(url(pool, "lane"), "r", kind=kind) as lane,
        cue.open(url(pool, "lane"), "w") as out,
        cue.open(url(pool, "lane"), "tap") as tap,
    ):
        for n in range(3):
            out.send(b"%d" % n, type=5, tag=n + 1, key=7)
        assert [bytes(lane.recv(5)) for _ in range(3)] == [b"0", b"1", b"2"]
        for n in range(3):
            m = tap.recv(5)
            assert (bytes(m), m.type, m.tag, m.key) == (b"%d" % n, 5, n + 1, 7)
            assert (m.tapped.size, m.tapped.block, m.tapped.pid) == (1, 0, os.getpid())
            assert not (m.tapped.moved)
            assert not (m.tapped.asked)
            assert not (m.tapped.system)
        with pytest.raises(cue.Empty):
            tap.recv(0)
        with pytest.raises(cue.Invalid):
            tap.send(b"x")


def test_what_is_no_copy_says_so(pool):
    with cue.open(url(pool, "lane"), "rw") as lane:
        lane.send(b"x")
        assert lane.recv(5).tapped is None


def test_a_block_is_shown_and_moves(pool):
    with cue.open(url(pool, "lane"), "rw") as lane, cue.open(url(pool, "lane"), "tap", max=16) as tap:
        block = pool.alloc(1 << 20, type=7)
        block.data[:5] = b"hello"
        lane.send(block=block)
        assert lane.recv(5).block.owned
        m = tap.recv(5)
        assert (bytes(m)[:5], len(m), m.type, m.block) == (b"hello", 16, 7, None)
        assert m.tapped.moved
        assert m.tapped.block == 1 << 20


def test_what_is_missed_is_counted(pool):
    with cue.open(url(pool, "lane"), "rw") as lane, cue.open(url(pool, "lane"), "tap", depth=2) as tap:
        for n in range(10):
            lane.send(b"%d" % n)
        m = tap.recv(5)
        assert (bytes(m), m.gap) == (b"8", 8)
        assert tap.stats()["gaps"] == 8


def test_who_looks_on_does_not_answer(pool):
    with cue.open(url(pool, "lane"), "rw") as lane, cue.open(url(pool, "lane"), "tap") as tap:
        with pytest.raises(cue.Timeout):
            lane.ask(b"what", timeout=0)
        m = tap.recv(5)
        assert m.tapped.asked
        assert not m.answerable
        with pytest.raises(cue.NotAllowed):
            m.reply(b"this")


def test_what_cannot_be_tapped(pool):
    with pytest.raises(cue.NotFound):
        cue.open(url(pool, "nobody"), "tap")
    with pytest.raises(cue.NotSupported, match="socket"):
        cue.open("ipc://nobody", "tap")
    with cue.open(url(pool, "lane"), "rw"), pytest.raises(cue.Invalid, match="drop-old"):
        cue.open(url(pool, "lane"), "tap", full="fail")
