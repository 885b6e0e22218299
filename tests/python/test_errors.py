"""Statuses become exceptions: one class for each, which is also the built-in that one expects."""

import pickle
import queue

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
