"""Sockets: the same calls between processes of one host, and to another host, which gets copies in a pool of its own."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

import cuelight as cue

SENDER = """
import sys
import numpy as np
import cuelight as cue
url, name = sys.argv[1:]
with cue.Pool(name, create=True) as pool, cue.open(url, "w", pool=pool, linger=20) as out:
    for i in range(20):
        frame = pool.empty((300, 400), "u2", type=7)
        frame[:] = i
        out.send(block=frame)
        out.send(b"after %d" % i)
"""


@pytest.fixture(params=["ipc", "tcp", "ws"])
def url(request, tmp_path):
    if request.param == "ipc":
        return f"ipc://{tmp_path}/lane"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return f"{request.param}://127.0.0.1:{port}" + ("/lane" if request.param == "ws" else "")


@pytest.mark.parametrize("host", ["here", "another-host"])
def test_arrays_and_bytes_from_another_process(name, url, host):
    here = {} if host == "here" else {"CUE_HOST_ID": host}
    with cue.Pool(name, create=True) as pool, cue.open(url, "r", pool=pool) as lane:
        with subprocess.Popen([sys.executable, "-c", SENDER, url, name + "-theirs"], env={**os.environ, **here}) as sender:
            for i in range(20):
                with lane.recv(timeout=20) as m:
                    assert m.type == 7
                    array = m.block.array("u2", (300, 400))
                    assert np.all(array == i)
                    del array
                with lane.recv(timeout=20) as m:
                    assert bytes(m) == b"after %d" % i
            while sender.poll() is None:  # its last acknowledgement may have to be asked for
                with pytest.raises(cue.Empty):
                    lane.recv(timeout=0.02)
            assert sender.returncode == 0
        copied = lane.stats()["copied"]
        assert (copied > 20 * 240_000) == (host != "here")


def test_the_oldest_are_dropped(name, url):
    with cue.Pool(name, create=True) as pool, cue.open(url, "w", pool=pool, full="drop-old", depth=4) as out:
        for i in range(10):
            out.send(b"%d" % i, timeout=0)
        assert out.stats()["dropped"] == 6
        with cue.open(url, "r", pool=pool) as lane:
            for i in range(6, 10):
                with lane.recv(timeout=20) as m:
                    assert (bytes(m), m.gap) == (b"%d" % i, 6 if i == 6 else 0)
            assert out.drain(timeout=20)
            assert lane.stats()["gaps"] == 6


def test_what_tls_needs_is_said(name):
    with cue.Pool(name, create=True) as pool:
        with pytest.raises((cue.Invalid, cue.NotSupported), match=r"ca|TLS"):
            cue.open("tls+tcp://127.0.0.1:1", "w", pool=pool)
        with pytest.raises((cue.NotFound, cue.NotSupported)):
            cue.open("tls+tcp://127.0.0.1:1?ca=/nowhere&cert=/nowhere&key=/nowhere", "w", pool=pool)
