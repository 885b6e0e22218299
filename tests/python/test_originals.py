"""The drop-in modules beside the libraries whose names they have: each reads what the other wrote.

Each original is installed by pip into an environment of its own, build/originals/NAME; where that cannot be done its tests are
skipped.
"""

import os
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import numpy as np
import pytest

from cuelight import npio, npshm, shmutils

HOME = Path(__file__).resolve().parents[2] / "build/originals"
PINNED = {"cdxcore": "cdxcore==0.1.96", "gridr": "gridr==0.7.0"}

pytestmark = [pytest.mark.seconds(240), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def environment(package):
    python = HOME / package / "bin/python"
    ready = HOME / package / "ready"
    if not ready.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(HOME / package)], check=True, capture_output=True, timeout=60)
            install = [str(python), "-m", "pip", "install", "-q", PINNED[package]]
            subprocess.run(install, check=True, capture_output=True, timeout=150)
        except (subprocess.SubprocessError, OSError) as error:
            pytest.skip(f"{PINNED[package]} cannot be installed here: {type(error).__name__}")
        ready.touch()
    return python


def ask(package, code, *args):
    """Runs code with the original; what it prints. Its resource tracker is told to keep its hands off."""
    keep = """
    from multiprocessing import resource_tracker
    resource_tracker.register = lambda *args: None
    resource_tracker.unregister = lambda *args: None
    """
    ran = subprocess.run(
        [str(environment(package)), "-W", "ignore", "-c", textwrap.dedent(keep) + textwrap.dedent(code), *map(str, args)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.fixture
def name():
    chosen = f"cuelight-orig-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield chosen
    npshm.delete_shared_array(chosen)


def test_npshm_attaches_to_what_cdxcore_made(name):
    ask(
        "cdxcore",
        """
        import sys, numpy as np
        from cdxcore.npshm import create_shared_array
        a = create_shared_array(sys.argv[1], (3, 4), np.float64, full=1.5); a[2, 3] = 9
        """,
        name,
    )
    array = npshm.attach_shared_array(name, validate_shape=(3, 4), validate_dtype=np.float64)
    assert array.sum() == 1.5 * 11 + 9


@pytest.mark.parametrize("dtype", ["i2", "f8", "c16", "?"])
def test_cdxcore_attaches_to_what_npshm_made(name, dtype):
    array = npshm.create_shared_array(name, (2, 5), dtype, full=1)
    said = ask(
        "cdxcore",
        """
        import sys
        from cdxcore.npshm import attach_shared_array
        a = attach_shared_array(sys.argv[1]); print(a.shape, a.dtype, a.sum().real); a[0, 0] = 0
        """,
        name,
    )
    assert said == f"{array.shape} {array.dtype} {np.ones((2, 5), dtype).sum().real}"
    assert array[0, 0] == 0


def test_npio_and_cdxcore_read_each_others_files(tmp_path):
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    npio.to_file(ours, np.arange(24, dtype=np.int32).reshape(2, 3, 4))
    said = ask(
        "cdxcore",
        """
        import sys, numpy as np
        from cdxcore.npio import from_file, to_file
        print(from_file(sys.argv[1]).tolist())
        to_file(sys.argv[2], np.linspace(0, 1, 7))
        """,
        ours,
        theirs,
    )
    assert said == str(np.arange(24).reshape(2, 3, 4).tolist())
    assert np.array_equal(npio.from_file(theirs), np.linspace(0, 1, 7))


def test_shmutils_and_gridr_exchange_arrays(name):
    made = shmutils.SharedMemoryArray((4, 6), np.uint8, name)
    made.create()
    made.array[:] = 3
    ask(
        "gridr",
        """
        import sys, warnings, numpy as np
        import gridr.scaling.shmutils as shmutils
        shmutils.warnings = warnings  # which it forgets to import
        s = shmutils.SharedMemoryArray((4, 6), np.uint8, sys.argv[1], (slice(0, 2), slice(None)))
        s.load(); s.array += 1; s.close()
        t = shmutils.SharedMemoryArray((5,), np.float32, sys.argv[1] + "-t"); t.create(); t.array[:] = 2; t.close()
        """,
        name,
    )
    assert made.array.sum() == 12 * 4 + 12 * 3
    theirs = shmutils.SharedMemoryArray((5,), np.float32, name + "-t")
    theirs.load()
    assert theirs.array.tolist() == [2.0] * 5
    shmutils.SharedMemoryArray.clear_buffers([name + "-t"])
