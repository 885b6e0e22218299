"""cuelight.npshm and cuelight.shmutils: named arrays in plain POSIX shared memory."""

import asyncio
import gc
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
import uuid
import warnings

import numpy as np
import pytest

from cuelight import npio, npshm, shmutils


@pytest.fixture
def name():
    chosen = f"cuelight-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield chosen
    npshm.delete_shared_array(chosen)
    assert not [left for left in os.listdir("/dev/shm") if left.startswith(chosen)]


def python(code, *args):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *args], capture_output=True, text=True, timeout=60)


class TestArrays:
    def test_two_attach_to_one(self, name):
        made = npshm.create_shared_array(name, (10, 3), np.int32, full=5)
        assert type(made) is np.ndarray
        assert made.flags.writeable
        seen = npshm.attach_shared_array("/" + name, validate_shape=(10, 3), validate_dtype=np.int32)
        assert np.all(seen == 5)
        made[2, 1] = 7
        assert seen[2, 1] == 7
        assert os.stat(f"/dev/shm/{name}").st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), [2, 2], (5,)])
    def test_every_shape(self, name, shape):
        assert npshm.create_shared_array(name, shape, "f8").shape == tuple(shape)
        assert not npshm.attach_shared_array(name).any()

    def test_an_array_fills_it(self, name):
        npshm.create_shared_array(name, (2, 3), "i8", full=np.arange(3))
        assert npshm.attach_shared_array(name).tolist() == [[0, 1, 2]] * 2

    def test_a_taken_name(self, name):
        old = npshm.create_shared_array(name, (2,), "i8", full=1)
        with pytest.raises(FileExistsError):
            npshm.create_shared_array(name, (2,), "i8")
        assert npshm.create_shared_array(name, (2,), "i8", raise_on_error=False) is None
        new = npshm.create_shared_array(name, (3,), "i8", force=True, full=2)
        assert (old.tolist(), new.tolist()) == ([1, 1], [2, 2, 2])
        assert npshm.attach_shared_array(name).tolist() == [2, 2, 2]

    def test_an_absent_name(self, name):
        with pytest.raises(FileNotFoundError):
            npshm.attach_shared_array(name)
        assert npshm.attach_shared_array(name, raise_on_error=False) is None
        assert npshm.delete_shared_array(name) is True

    def test_another_geometry(self, name):
        npshm.create_shared_array(name, (2, 2), "i8")
        for wrong in ({"validate_shape": (4,)}, {"validate_shape": [2, 2]}, {"validate_dtype": "f8"}):
            with pytest.raises(ValueError, match=name):
                npshm.attach_shared_array(name, raise_on_error=False, **wrong)

    @pytest.mark.parametrize("bad", ["", "a/b", "x" * 300, ".."])
    def test_a_bad_name(self, bad):
        with pytest.raises(OSError, match=r"name"):
            npshm.create_shared_array(bad, (1,), "i8")

    def test_bad_shapes_and_dtypes(self, name):
        with pytest.raises(TypeError):
            npshm.create_shared_array(name, 5, "i8")
        with pytest.raises(OverflowError):
            npshm.create_shared_array(name, (-1,), "i8")
        for dtype in ("u1", "O", ">i4"):
            with pytest.raises(ValueError, match="no code"):
                npshm.create_shared_array(name, (1,), dtype)

    def test_what_is_no_array(self, name):
        path = f"/dev/shm/{name}"
        for content, error in ((b"", ValueError), (b"abc", ValueError), (b"\xff" * 100, ValueError)):
            with open(path, "wb") as file:
                file.write(content)
            with pytest.raises(error):
                npshm.attach_shared_array(name)
        npshm.create_shared_array(name, (100,), "i8", force=True)
        os.truncate(path, 200)
        with pytest.raises(TypeError):
            npshm.attach_shared_array(name)

    def test_read_only_cannot_be_written(self, name):
        npshm.create_shared_array(name, (3,), "i8")
        array = npshm.attach_shared_array(name, read_only=True)
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True

    def test_it_stays_when_its_maker_and_its_viewers_end_and_nobody_says_a_word(self, name):
        make = python("import sys; from cuelight import npshm; npshm.create_shared_array(sys.argv[1], (4,), 'i8', full=3)", name)
        look = python("import sys; from cuelight import npshm; print(npshm.attach_shared_array(sys.argv[1]).sum())", name)
        assert (make.returncode, make.stderr) == (0, "")
        assert (look.stdout.strip(), look.stderr) == ("12", "")
        assert npshm.attach_shared_array(name).sum() == 12

    def test_a_view_keeps_the_memory_and_collecting_closes(self, name):
        descriptors = len(os.listdir("/proc/self/fd"))
        view = npshm.create_shared_array(name, (1000,), "i8", full=9)[10:20]
        gc.collect()
        assert view.sum() == 90
        assert npshm.is_shared_array(view)
        assert not npshm.is_shared_array(np.zeros(3))
        del view
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert os.path.exists(f"/dev/shm/{name}")

    def test_no_room_is_an_error_and_leaves_nothing(self, name):
        with pytest.raises(OSError, match=r"space|large|memory"):
            npshm.create_shared_array(name, (1 << 50,), "i8")


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path):
        path = str(tmp_path / "array")
        npio.to_file(path, np.arange(12.0).reshape(3, 4))
        return path

    def test_read_then_attach(self, name, file):
        array, attached = npshm.read_shared_array(file, name, return_status=True)
        assert (array.sum(), attached) == (66, False)
        array, attached = npshm.read_shared_array(file, name, return_status=True, read_only=True)
        assert (array.sum(), attached, array.flags.writeable) == (66, True, False)
        known = {"validate_shape": (3, 4), "validate_dtype": "f8"}
        assert npshm.read_shared_array("/not/there", name, return_status=True, **known)[1]
        with pytest.raises(FileExistsError):
            npshm.read_shared_array(file, name, accept_existing=False)
        assert npshm.read_shared_array(file, name, accept_existing=False, raise_on_error=False) is None

    def test_an_open_file(self, name, file):
        with open(file, "rb") as handle:
            assert npshm.read_shared_array(handle, name).sum() == 66

    def test_another_geometry_than_the_files(self, name, file):
        for wrong in ({"validate_shape": (12,)}, {"validate_dtype": "i8"}, {"validate_shape": (12,), "validate_dtype": "f8"}):
            with pytest.raises(ValueError, match=r"shape|dtype"):
                npshm.read_shared_array(file, name, **wrong)
        npshm.create_shared_array(name, (2,), "f8")
        with pytest.raises(ValueError, match="shape"):
            npshm.read_shared_array(file, name)

    def test_a_cut_file_leaves_nothing(self, name, file):
        os.truncate(file, 60)
        with pytest.raises(EOFError):
            npshm.read_shared_array(file, name)
        assert npshm.attach_shared_array(name, raise_on_error=False) is None

    def test_an_absent_file(self, name):
        with pytest.raises(FileNotFoundError):
            npshm.read_shared_array("/not/there", name)
        assert npshm.read_shared_array("/not/there", name, raise_on_error=False) is None


def sma(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return shmutils.SharedMemoryArray(*args, **kwargs)


class TestSharedMemoryArray:
    def test_create_load_close(self, name):
        made = sma((4, 5), np.uint8, name)
        assert vars(made) == {"shape": (4, 5), "dtype": np.uint8, "name": name, "array_slice": None, "smh": None, "array": None}
        assert made.create() is None
        assert not made.array.any()
        assert made.smh.size == 20
        made.array[1:3, 2] = 8
        part = shmutils.SharedMemoryArray.clone(made, array_slice=(slice(1, 3), slice(None)))
        assert part.smh is None
        part.load()
        kept = part.array
        assert kept.shape == (2, 5)
        part.close()
        made.close()
        assert (part.array, part.smh) == (None, None)
        assert kept.sum() == 16, "a view that was kept stays valid"
        with pytest.raises(AttributeError):
            made.close()
        with pytest.raises(TypeError):
            shmutils.SharedMemoryArray.clone(made, colour=1)
        shmutils.SharedMemoryArray.clear_buffers([name])

    def test_errors(self, name):
        one = sma((3,), "f8", name)
        with pytest.raises(FileNotFoundError):
            one.load()
        one.create()
        with pytest.raises(FileExistsError):
            one.create()
        with pytest.raises(TypeError):
            sma((4,), "f8", name).load()
        sma((2,), "f8", name).load()
        with pytest.raises(ValueError, match="positive"):
            sma((0,), "f8", name + "x").create()
        with pytest.raises(ValueError, match="references"):
            sma((2,), "O", name + "x").create()
        sma((), "f8", name + "x").create()
        with pytest.raises(FileNotFoundError):
            shmutils.SharedMemoryArray.clear_buffers([name + "y", name + "x"])
        assert not os.path.exists(f"/dev/shm/{name}x"), "those after the absent one are cleared too"

    def test_names_and_register(self):
        register = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            first = shmutils.create_and_register_sma((2,), "i4", register, prefix="pre")
            with pytest.raises(ValueError, match="positive"):
                shmutils.create_and_register_sma((0,), "i4", register)
        assert register == [first.name]
        counter, prefix = first.name.split("-")[:2]
        assert (int(counter) <= shmutils.SharedMemoryArray.COUNTER, prefix) == (True, "pre")
        shmutils.SharedMemoryArray.clear_buffers(register)
        with pytest.raises(TypeError):
            shmutils.SharedMemoryArray.build_sma_name()

    def test_wrap_loads_and_always_closes(self, name):
        one = sma((3,), "i8", name)
        one.create()
        one.array[:] = 2
        one.close()

        @shmutils.shmarray_wrap
        def total(a, scale, b=None, *, fail=False):
            if fail:
                raise KeyError("no")
            return (a * scale + b).sum()

        assert total(one, 10, b=one) == 66
        assert total.__name__ == "total"
        for call in (lambda: total(one, 1, b=one, fail=True), lambda: total(one, 1, b=sma((1,), "i8", name + "absent"))):
            with pytest.raises((KeyError, FileNotFoundError)):
                call()
            assert one.smh is None

    def test_pickle_carries_no_data(self, name):
        one = sma((1000000,), "i8", name)
        one.create()
        data = pickle.dumps(one)
        assert len(data) < 1000
        again = pickle.loads(data)
        again.load()
        assert again.array.shape == (1000000,)

    def test_another_process_keeps_out_of_it(self, name):
        one = sma((3,), "i8", name)
        one.create()
        ran = python(
            """
            import sys, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from cuelight.shmutils import SharedMemoryArray
            s = SharedMemoryArray((3,), "i8", sys.argv[1]); s.load(); s.array[:] = 4
            """,
            name,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert one.array.tolist() == [4, 4, 4]


class TestDeprecated:
    def test_a_class_warns_at_the_callers_line(self):
        line = inspect.currentframe().f_lineno + 2
        with pytest.warns(DeprecationWarning, match="Use shared_array") as seen:
            shmutils.SharedMemoryArray((1,), "i8", "x")
        assert (seen[0].filename, seen[0].lineno) == (__file__, line)

    def test_functions_and_coroutines(self):
        @shmutils.deprecated("old", category=FutureWarning)
        def plain(x):
            return x

        @shmutils.deprecated("old")
        async def later(x):
            return x

        with pytest.warns(FutureWarning, match="old"):
            assert plain(3) == 3
        assert plain.__deprecated__ == "old"
        assert inspect.iscoroutinefunction(later)
        with pytest.warns(DeprecationWarning, match="old"):
            assert asyncio.run(later(4)) == 4

    def test_without_a_category_nothing_is_said(self):
        @shmutils.deprecated("old", category=None)
        def plain():
            return 1

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert plain() == 1
        assert plain.__deprecated__ == "old"

    def test_what_makes_no_sense(self):
        with pytest.raises(TypeError):
            shmutils.deprecated(5)
        with pytest.raises(TypeError):
            shmutils.deprecated("old")(5)
