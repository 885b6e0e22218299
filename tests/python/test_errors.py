"""Statuses become exceptions: one class for each, which is also the built-in that one expects."""

import copy
import os
import pickle
import queue

import numpy as np
import pytest

import cuelight as cue
from cuelight import _core

BUILTINS = {
    "EINVAL": (cue.Invalid, [ValueError]),
    "EMOVED": (cue.Moved, [RuntimeError]),
    "ESTALE": (cue.Stale, [ReferenceError]),
    "EGONE": (cue.Gone, [RuntimeError]),
    "ECLOSED": (cue.Closed, [EOFError]),
    "EDEAD": (cue.Dead, [ConnectionError]),
    "EEMPTY": (cue.Empty, [queue.Empty, TimeoutError]),
    "EFULL": (cue.Full, [queue.Full, TimeoutError]),
    "ETIMEDOUT": (cue.Timeout, [TimeoutError]),
    "EINTR": (cue.Interrupted, [InterruptedError]),
    "ENOENT": (cue.NotFound, [KeyError, FileNotFoundError]),
    "EEXIST": (cue.Exists, [FileExistsError]),
    "ENOMEM": (cue.NoMemory, [MemoryError]),
    "ETOOBIG": (cue.TooBig, [ValueError]),
    "ELIMIT": (cue.Limit, [OSError]),
    "EPERM": (cue.NotAllowed, [PermissionError]),
    "ENOTOWNER": (cue.NotOwner, [RuntimeError]),
    "EBUSY": (cue.Busy, [RuntimeError]),
    "ETYPE": (cue.TypeMismatch, [TypeError]),
    "EREMOTE": (cue.Remote, [OSError]),
    "EUNREACH": (cue.Unreachable, [ConnectionError]),
    "EVERSION": (cue.BadVersion, [ValueError]),
    "ECORRUPT": (cue.Corrupt, [ValueError]),
    "EFORK": (cue.Forked, [RuntimeError]),
    "ECONTEXT": (cue.WrongContext, [RuntimeError]),
    "EFAILED": (cue.Failed, [RuntimeError]),
    "EKILLED": (cue.Killed, [ConnectionError]),
    "ENOSYS": (cue.NotSupported, [NotImplementedError]),
    "ESYS": (cue.SystemFailed, [OSError]),
}


def test_every_status_of_the_library_has_a_class():
    assert {name for _, name, _ in _core.STATUS} == set(BUILTINS)
    assert len(_core.STATUS) == 29


@pytest.mark.parametrize(("code", "status", "text"), _core.STATUS, ids=[row[1] for row in _core.STATUS])
def test_status(code, status, text):
    cls, mixins = BUILTINS[status]
    assert cls.code == code
    assert issubclass(cls, cue.Error)
    for builtin in mixins:
        assert issubclass(cls, builtin)
    assert getattr(cue, cls.__name__) is cls
    assert cls.__name__ in cue.__all__
    e = cls(code, "while testing")
    assert str(e) == f"CUE_{status}: {text}: while testing"
    assert (e.code, e.trail) == (code, "while testing")
    assert _core.status_name(code) == f"CUE_{status}"
    assert _core.status_text(code) == text
    again = pickle.loads(pickle.dumps(e))
    assert type(again) is cls
    assert again.args == e.args
    assert str(cls()) == f"CUE_{status}: {text}"


def test_an_applications_own_code():
    e = cue.Error(-1001, "my reason")
    assert e.code == -1001
    assert str(e) == "CUE_E?: the application's own reason: my reason"


def test_codes_of_the_system_are_set_where_there_is_one():
    import errno

    assert cue.NotFound().errno == errno.ENOENT
    assert cue.Exists().errno == errno.EEXIST
    assert cue.Limit().errno is None


def test_a_failing_call_tells_what_was_tried(name):
    with pytest.raises(cue.NotFound):
        cue.Pool(name, create=False)
    with pytest.raises(cue.Invalid, match=r"a/b.*is no name"):
        cue.Pool("a/b")
    with pytest.raises(FileNotFoundError) as caught:
        cue.Pool(name, create=False)
    assert name in str(caught.value)


def test_common_mistakes_are_told_what_to_do_instead(pool):
    url = f"shm://{pool.name}/lane"
    with cue.open(url, "r") as r, cue.open(url, "w") as w:
        w.send(b"x")
        message = r.recv(5)
        mistakes = [
            (lambda: cue.Pool(), cue.Invalid, "a pool needs a name"),
            (lambda: cue.Pool(5), cue.TypeMismatch, "name is 5, not a str"),
            (lambda: cue.open("demo/hello", "r"), cue.Invalid, "a URL begins with one of shm://"),
            (lambda: cue.open(url, "x"), cue.Invalid, "none of 'r', 'w', 'rw'"),
            (lambda: w.recv(0), cue.Invalid, "'r'"),
            (lambda: w.recv_many(3, 1), cue.Invalid, "'r'"),
            (lambda: r.send(b"x"), cue.Invalid, "'w'"),
            (lambda: r.send_many([b"x"]), cue.Invalid, "'w'"),
            (lambda: r.ask(b"x", timeout=1), cue.Invalid, "'w'"),
            (lambda: w.send("text"), TypeError, "bytes-like"),
            (lambda: w.send(block=np.zeros(3)), cue.TypeMismatch, "Pool.empty"),
            (lambda: pool.put("text"), cue.TypeMismatch, "encode"),
            (lambda: pool.put([1, 2]), cue.TypeMismatch, "neither a buffer nor an array, but of type list"),
            (lambda: pool.find_many("name"), cue.TypeMismatch, "a list"),
            (lambda: pool.alloc("1 gigabyte"), cue.Invalid, "a size looks like"),
            (lambda: pickle.dumps(r), TypeError, f"open '{url}' where it is needed"),
            (lambda: pickle.dumps(message), TypeError, "bytes"),
            (lambda: copy.copy(message), TypeError, "bytes"),
        ]
        for call, expected, text in mistakes:
            with pytest.raises(expected) as caught:
                call()
            assert text in str(caught.value)
        assert repr(r) == f"<cuelight.Channel {url}, opened to receive>"
        assert repr(w) == f"<cuelight.Channel {url}, opened to send>"
    assert repr(w) == f"<cuelight.Channel {url}, closed>"
    with cue.open(url, "rw") as both:
        assert "receive and send" in repr(both)
        if (pid := os.fork()) == 0:
            os._exit(0 if "by the parent process" in repr(both) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
