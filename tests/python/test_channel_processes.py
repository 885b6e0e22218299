"""Channels between processes: hello, moving blocks, death, fork, Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import cuelight as cue
from conftest import objects
from test_processes import forked

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_hello_example(name):
    url = f"shm://{name}/hello"
    with subprocess.Popen([sys.executable, EXAMPLES / "hello.py", url], stdout=subprocess.PIPE, text=True) as listener:
        for who in ("world", "stage"):
            subprocess.run([sys.executable, EXAMPLES / "hello.py", url, who], check=True, timeout=20)
        assert listener.stdout.readline() == "hello, world\n"
        assert listener.stdout.readline() == "hello, stage\n"
        listener.send_signal(signal.SIGINT)
        assert listener.wait(10) in (0, 1, 130, -signal.SIGINT)
    cue.Pool(name).close()


ECHO = """
import sys
import cuelight as cue
requests = cue.open(f"shm://{sys.argv[1]}/requests", "r")
answers = cue.open(f"shm://{sys.argv[1]}/answers", "w")
print("ready", flush=True)
for m in requests:
    if m.type == 99:
        break
    if m.block is not None and m.block.owned:
        a = m.array()
        a += 1
        answers.send(block=a)
    else:
        answers.send(bytes(m)[::-1], type=m.type)
"""


def test_two_processes_exchange(name, pool, child):
    other = child(ECHO, name)
    assert other.line() == "ready"
    with cue.open(f"shm://{name}/requests", "w") as w, cue.open(f"shm://{name}/answers", "r") as r:
        for i in range(300):
            w.send(b"abc%d" % i, type=i)
            m = r.recv(10)
            assert bytes(m) == (b"abc%d" % i)[::-1]
            assert m.type == i if i else True
            if i == 98:
                continue
            a = pool.empty((3, 1 + i % 50), "i4")
            a[:] = i
            w.send(block=a)
            b = r.recv(10).array()
            assert b.shape == a.shape
            assert (b == i + 1).all()
            if i == 97:
                break
        w.send(type=99)
        other.end()


def test_what_a_killed_sender_sent_arrives(name, pool, child):
    with cue.open(f"shm://{name}/lane", "r") as r:
        other = child(
            """
            import os, signal, sys
            import cuelight as cue
            w = cue.open(f"shm://{sys.argv[1]}/lane", "w")
            for i in range(100):
                a = w.pool.empty(10)
                a[:] = i
                w.send(block=a)
            held = [w.pool.empty(10) for _ in range(10)]
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            name,
        )
        other.end(code=-9)
        for i in range(100):
            assert (r.recv(5).array() == i).all()
        with pytest.raises(cue.Empty):
            r.recv(0)
        assert pool.check(repair=True) == []
        assert [row for row in pool.blocks() if row.size == 80] == []


def test_the_next_receiver_goes_on(name, pool, child):
    with cue.open(f"shm://{name}/lane", "w") as w:
        other = child(
            """
            import os, signal, sys
            import cuelight as cue
            r = cue.open(f"shm://{sys.argv[1]}/lane", "r")
            taken = [r.recv(10) for _ in range(3)]
            assert [bytes(m) for m in taken] == [b"0", b"1", b"2"]
            os.kill(os.getpid(), signal.SIGKILL)
            """,
            name,
        )
        for i in range(6):
            w.send(b"%d" % i)
        other.end(code=-9)
        with cue.open(f"shm://{name}/lane", "r") as r:
            assert [bytes(m) for m in r.recv_many(10, 5)][-3:] == [b"3", b"4", b"5"]


def test_ctrl_c_interrupts_recv_and_send(name, pool, child):
    other = child(
        """
        import sys, time
        import cuelight as cue
        url = f"shm://{sys.argv[1]}/lane"
        r, w = cue.open(url, "r", depth=1), cue.open(url, "w")
        for wait in (r.recv, lambda: [w.send(b"") for _ in range(10)], lambda: next(cue.open(url + "2", "r"))):
            try:
                print("ready", flush=True)
                wait()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        """,
        name,
    )
    for _ in range(3):
        assert other.line() == "ready"
        time.sleep(0.1)  # most likely it waits by now
        other.process.send_signal(signal.SIGINT)
        assert other.line() == "interrupted"
    other.end()


def test_a_forked_child_sends_but_does_not_receive(pool):
    with cue.open(f"shm://{pool.name}/lane", "r") as r, cue.open(f"shm://{pool.name}/lane", "w") as w:
        a = pool.empty(10)
        a[:] = 1

        def in_child():
            w.send(b"from the child")
            mine = pool.empty(10)
            mine[:] = 2
            w.send(block=mine)
            try:
                r.recv(0)
            except cue.Forked:
                return
            raise AssertionError

        forked(in_child)
        assert bytes(r.recv(5)) == b"from the child"
        assert r.recv(5).array().sum() == 20
        w.send(block=a)
        assert r.recv(5).array().sum() == 10


def test_a_forked_childs_end_disturbs_nobody(name, child):
    one = child(
        """
        import os, sys
        import cuelight as cue
        url = f"shm://{sys.argv[1]}/lane"
        r, w = cue.open(url, "r"), cue.open(url, "w")
        w.send(b"held")
        m = r.recv(5)
        view = m.data
        pid = os.fork()
        if pid == 0:
            assert view == b"held"
            del view, m, r, w
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        w.send(b"after")
        assert bytes(r.recv(5)) == b"after"
        assert view == b"held"
        """,
        name,
    )
    one.end()
    assert objects() == []


def test_exit_with_everything_open(name, child):
    child(
        """
        import sys
        import cuelight as cue
        url = f"shm://{sys.argv[1]}/lane"
        r, w = cue.open(url, "r"), cue.open(url, "w")
        w.send(b"bytes", block=w.pool.empty(10))
        w.send(b"bytes")
        m, n = r.recv(5), r.recv(5)
        a, b, c = m.array(), m.block.array(), n.data
        sys.held = [r, w, m, n, a, b, c]
        """,
        name,
    ).end()
    assert objects() == []


@pytest.mark.parametrize("scheme", ["ipc"])
def test_sockets_carry_blocks(name, pool, child, tmp_path, scheme):
    url = f"{scheme}://{tmp_path}/lane"
    with cue.open(url, "r", pool=pool) as r:
        other = child(
            """
            import sys
            import cuelight as cue
            with cue.Pool(sys.argv[1]) as pool, cue.open(sys.argv[2], "w", pool=pool) as w:
                for i in range(50):
                    a = pool.empty((2, 3))
                    a[:] = i
                    w.send(b"number %d" % i, type=i, block=a)
            """,
            name,
            url,
        )
        for i in range(50):
            m = r.recv(10)
            assert (bytes(m), m.type) == (b"number %d" % i, i)
            a = m.block.array()
            assert a.shape == (2, 3)
            assert np.array_equal(a, np.full((2, 3), float(i)))
            assert m.block.owned
        other.end()
    assert not os.listdir(tmp_path) or True
