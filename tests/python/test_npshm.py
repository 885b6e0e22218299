"""cuelight.npshm and cuelight.shmutils: named arrays in plain POSIX shared memory."""

import asyncio
import gc
import gzip
import inspect
import io
import itertools
import os
import pickle
import re
import signal
import struct
import sys
import uuid
import warnings
from datetime import datetime

import numpy as np
import pytest

from conftest import run_in_small_shm, run_processes
from cuelight import npio, npshm, shmutils


@pytest.fixture
def name():
    chosen = f"cuelight-test-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    yield chosen
    npshm.delete_shared_array(chosen)
    assert not [left for left in os.listdir("/dev/shm") if left.startswith(chosen)]


def set_one(name, i):
    npshm.attach_shared_array(name)[i] = i + 1


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

    @pytest.mark.parametrize("bad", ["", "a/b", "x" * 300, "..", "a\0b", "/"])
    def test_a_bad_name(self, bad):
        with pytest.raises(OSError, match=r"name"):
            npshm.create_shared_array(bad, (1,), "i8")
        with pytest.raises(OSError, match=r"name"):
            npshm.attach_shared_array(bad)

    @pytest.mark.parametrize("bad", [None, 5, ["a"]])
    def test_what_is_no_name(self, bad):
        with pytest.raises(TypeError, match="expected str"):
            npshm.create_shared_array(bad, (1,), "i8")

    @pytest.mark.parametrize("full", ["x", [1, 2, 3]])
    def test_what_it_cannot_be_filled_with_leaves_nothing(self, name, full):
        with pytest.raises(ValueError, match=r"convert|broadcast"):
            npshm.create_shared_array(name, (2,), "f8", full=full)
        assert not os.path.exists(f"/dev/shm/{name}")

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

    def test_it_stays_when_its_maker_and_its_viewers_end_and_nobody_says_a_word(self, name, child):
        child("import sys; from cuelight import npshm; npshm.create_shared_array(sys.argv[1], (4,), 'i8', full=3)", name).end()
        look = child("import sys; from cuelight import npshm; print(npshm.attach_shared_array(sys.argv[1]).sum())", name)
        assert look.end() == "12"
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

    def test_what_lies_in_the_segment(self, name):
        npshm.create_shared_array(name, (2, 3), np.int32, full=[[1, 2, 3], [4, 5, 6]])
        with open(f"/dev/shm/{name}", "rb") as file:
            content = file.read()
        file = io.BytesIO()
        npio.to_file(file, np.zeros((2, 3), np.int32))
        assert content[:24] == file.getvalue()[:24]
        assert content[24:64] == bytes(40)
        assert content[64:] == struct.pack("=6i", 1, 2, 3, 4, 5, 6)
        npshm.create_shared_array(name, (1,) * 8, np.int8, force=True)
        assert os.stat(f"/dev/shm/{name}").st_size == 128 + 1  # a header of 72 bytes

    @pytest.mark.parametrize("end", [" a b", "é", "日本", "-" * 200, "%s", "\n", "."])
    def test_any_name_of_a_file(self, name, end):
        npshm.create_shared_array("/" + name + end, (2,), "i8", full=4)
        try:
            assert os.path.exists(f"/dev/shm/{name}{end}")
            assert npshm.attach_shared_array(name + end).tolist() == [4, 4]
        finally:
            assert npshm.delete_shared_array(name + end) is True
        assert not os.path.exists(f"/dev/shm/{name}{end}")

    def test_delete_says_whether_the_name_is_free(self, name):
        old = npshm.create_shared_array(name, (2,), "i8", full=4)
        assert [npshm.delete_shared_array(name) for _ in range(2)] == [True, True]
        assert npshm.create_shared_array(name, (2,), "i8").sum() == 0
        assert old.sum() == 8
        assert npshm.delete_shared_array("a/b", False) is False
        with pytest.raises(OSError, match="name"):
            npshm.delete_shared_array("a/b")

    @pytest.mark.parametrize("dtype", [np.float64, "f8", "float64", float, np.dtype("f8"), "=f8"])
    def test_the_dtype_may_be_given_in_any_way(self, name, dtype):
        npshm.create_shared_array(name, (2,), dtype)
        assert npshm.attach_shared_array(name, validate_dtype=dtype).dtype == np.float64

    def test_the_options_of_newer_releases(self, name):
        array = npshm.create_shared_array(name, (2,), "i8", full=1, track=False, unlink=True)
        view, other = array[:1], npshm.attach_shared_array(name)
        del array
        gc.collect()
        assert os.path.exists(f"/dev/shm/{name}")
        del view
        gc.collect()
        assert not os.path.exists(f"/dev/shm/{name}")
        assert other.sum() == 2
        npshm.create_shared_array(name, (2,), "i8")
        array = npshm.attach_shared_array(name, unlink=True)
        newer = npshm.create_shared_array(name, (2,), "i8", force=True)
        del array
        gc.collect()
        assert os.path.exists(f"/dev/shm/{name}"), "the name leads to another by now"
        del newer
        for call in (npshm.create_shared_array, npshm.attach_shared_array):
            with pytest.raises(ValueError, match="tracker"):
                call(*(name, (1,), "i8")[: 3 if call is npshm.create_shared_array else 1], track=True)

    def test_unlink_at_the_end_of_the_process_but_not_of_its_children(self, name, child):
        maker = child(
            """
            import os, sys
            from cuelight import npshm
            a = npshm.create_shared_array(sys.argv[1], (4,), "i8", full=3, unlink=True)
            if os.fork() == 0:
                sys.exit()  # runs what is to be run at an end
            os.wait()
            print(os.path.exists("/dev/shm/" + sys.argv[1]))
            """,
            name,
        )
        assert maker.end() == "True"
        assert not os.path.exists(f"/dev/shm/{name}")

    def test_nothing_is_printed(self, name, capfd, tmp_path):
        npshm.create_shared_array(name, (2,), "i8")
        npshm.attach_shared_array(name)
        npshm.delete_shared_array(name)
        npio.to_file(str(tmp_path / "a"), np.ones(3))
        npshm.read_shared_array(str(tmp_path / "a"), name)
        gc.collect()
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_children_of_every_kind(self, name, method):
        array = npshm.create_shared_array(name, (3,), "i8")
        run_processes(method, set_one, *((name, i) for i in range(3)))
        assert array.tolist() == [1, 2, 3]
        assert os.path.exists(f"/dev/shm/{name}")

    def test_collected_in_every_order(self, name):
        for order in itertools.permutations(range(4)):
            made = npshm.create_shared_array(name, (100,), "i8", full=2)
            parts = [made, npshm.attach_shared_array(name), made[3:50], memoryview(npshm.attach_shared_array(name, read_only=True))]
            del made
            npshm.delete_shared_array(name)
            for i in order:
                assert all(sum(part) % 2 == 0 for part in parts if part is not None)
                parts[i] = None
                gc.collect(0)

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

    def test_a_descriptor(self, name, file):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            assert npshm.read_shared_array(descriptor, name, return_status=True)[1] is False
            assert os.read(descriptor, 1) == b""
            os.lseek(descriptor, 0, os.SEEK_SET)
            array, attached = npshm.read_shared_array(descriptor, name, return_status=True)
            assert (array.sum(), attached) == (66, True)
        finally:
            os.close(descriptor)

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

    def test_it_has_no_name_until_it_is_complete(self, name, file):
        class Watched(io.BytesIO):
            there = []  # noqa: RUF012

            def readinto(self, data):
                self.there.append(os.path.exists(f"/dev/shm/{name}"))
                return super().readinto(data[:10])

        with open(file, "rb") as plain:
            content = plain.read()
        assert npshm.read_shared_array(Watched(content), name).sum() == 66
        assert Watched.there == [False] * 10
        assert os.path.exists(f"/dev/shm/{name}")

    def test_who_is_killed_while_it_reads_leaves_nothing(self, name, file, child):
        code = f"""
        import io, os, sys
        from cuelight import npshm
        class Deadly(io.BytesIO):
            def readinto(self, data):
                super().readinto(data[:10])
                os.kill(os.getpid(), 9)
        with open({file!r}, "rb") as plain:
            deadly = Deadly(plain.read())
        npshm.read_shared_array(deadly, sys.argv[1])
        """
        child(code, name).end(-signal.SIGKILL)
        assert not os.path.exists(f"/dev/shm/{name}")
        assert npshm.read_shared_array(file, name, return_status=True)[1] is False

    def test_of_two_that_read_at_once_one_attaches(self, name, file):
        class Late(io.BytesIO):
            def readinto(self, data):
                if not os.path.exists(f"/dev/shm/{name}"):
                    npshm.read_shared_array(file, name)[0] = 9  # somebody else was quicker
                return super().readinto(data)

        with open(file, "rb") as plain:
            late = Late(plain.read())
        array, attached = npshm.read_shared_array(late, name, return_status=True)
        assert (attached, array[0, 0], array.sum()) == (True, 9, 66 - 6 + 4 * 9)
        npshm.delete_shared_array(name)
        late.seek(0)
        with pytest.raises(FileExistsError):
            npshm.read_shared_array(late, name, accept_existing=False)
        assert late.tell() == 0

    @pytest.mark.parametrize("kind", ["plain", "unbuffered", "gzip", "memory", "pipe", "in the middle"])
    def test_every_kind_of_file(self, name, file, kind, tmp_path):
        with open(file, "rb") as plain:
            content = plain.read()
        if kind == "gzip":
            with gzip.open(tmp_path / "packed", "wb") as packed:
                packed.write(content)
            opened = gzip.open(tmp_path / "packed", "rb")  # noqa: SIM115
        elif kind == "memory":
            opened = io.BytesIO(content)
        elif kind == "pipe":
            reads, writes = os.pipe()
            os.write(writes, content)
            os.close(writes)
            opened = open(reads, "rb")  # noqa: SIM115
        else:
            (tmp_path / "more").write_bytes((content if kind == "in the middle" else b"") + content + b"rest")
            opened = open(tmp_path / "more", "rb", buffering=0 if kind == "unbuffered" else -1)  # noqa: SIM115
            if kind == "in the middle":
                npio.from_file(opened)
        with opened:
            known = {"validate_shape": (3, 4), "validate_dtype": np.float64}
            array = npshm.read_shared_array(opened, name, **known)
            assert array.tolist() == np.arange(12.0).reshape(3, 4).tolist()
            assert npshm.attach_shared_array(name, **known).sum() == 66
            assert opened.read() == (b"rest" if kind in ("plain", "unbuffered", "in the middle") else b"")

    @pytest.mark.parametrize("size", [0, 1, 511, 512, 1 << 20, (1 << 20) + 3])
    def test_every_byte_arrives(self, name, tmp_path, size):
        array = np.random.default_rng(size).integers(-100, 100, size, np.int8)
        npio.to_file(str(tmp_path / "a"), array)
        assert np.array_equal(npshm.read_shared_array(str(tmp_path / "a"), name), array)
        assert os.stat(f"/dev/shm/{name}").st_size == 64 + size

    def test_an_absent_file(self, name):
        with pytest.raises(FileNotFoundError):
            npshm.read_shared_array("/not/there", name)
        assert npshm.read_shared_array("/not/there", name, raise_on_error=False) is None


def sma(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return shmutils.SharedMemoryArray(*args, **kwargs)


def set_part(one, i):
    if one.array is None:  # unpickled
        one.load()
    one.array[i] = i + 1


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

    def test_names(self):
        prefix = shmutils.SharedMemoryArray.build_sma_name("my_prefix")
        unique_form = r"[0-9a-f]{{8}}-[0-9a-f]{{4}}-4[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}"
        form = rf"(\d+)-{{}}-(\d{{{{6}}}})-(\d{{{{4}}}})-(\d{{{{4}}}})-({unique_form})"
        counter, *when, unique = re.fullmatch(form.format("my_prefix"), prefix).groups()
        assert abs((datetime.now() - datetime.strptime("".join(when), "%Y%m%d%H%M%S")).total_seconds()) < 3600
        again = shmutils.SharedMemoryArray.build_sma_name(None)
        assert re.fullmatch(form.format(""), again)
        assert int(again.split("-")[0]) == int(counter) + 1 == shmutils.SharedMemoryArray.COUNTER
        assert unique not in again

        class Own(shmutils.SharedMemoryArray):
            pass

        Own.build_sma_name("x")
        assert (int(counter) + 2, int(counter) + 1) == (Own.COUNTER, shmutils.SharedMemoryArray.COUNTER)

    @pytest.mark.parametrize("shape", [5, (5,), [2, 3], (), (1, 2, 3)])
    @pytest.mark.parametrize("dtype", ["u1", "f8", "M8[ns]", "i4,f8", ">i4", "S3"])
    def test_every_shape_and_dtype(self, name, shape, dtype):
        one = sma(shape, dtype, name, (slice(0, 1),))
        assert one.create() is None
        assert one.array.shape == np.zeros(shape).shape, "the slice is not applied"
        assert one.array.tobytes() == bytes(one.array.nbytes)
        assert os.stat(f"/dev/shm/{name}").st_size == one.array.nbytes == one.smh.size
        assert one.close() is None

    @pytest.mark.parametrize("shape", [(-1,), (-1, -1), (0,), (2, 0), (2.5,), None, "ab"])
    def test_no_shape_and_nothing_left(self, name, shape):
        with pytest.raises((ValueError, TypeError)):
            sma(shape, "f4", name).create()
        assert not os.path.exists(f"/dev/shm/{name}")

    def test_wrap_replaces_what_is_given_itself(self, name):
        one = sma((3,), "i8", name)
        one.create()
        inside = shmutils.SharedMemoryArray.clone(one)

        @shmutils.shmarray_wrap
        def kinds(*args, **kwargs):
            "A text."
            return [type(a).__name__ for a in (*args, *kwargs.values())]

        assert kinds(one, [inside], 5, a=inside) == ["ndarray", "list", "int", "ndarray"]
        assert kinds.__doc__ == "A text."
        assert (one.smh, inside.smh) == (None, None), "one that was open is closed too"

    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    def test_children_of_every_kind(self, name, method):
        one = sma((3,), "i8", name)
        one.create()  # also open it is an argument
        run_processes(method, set_part, *((one, i) for i in range(3)))
        assert one.array.tolist() == [1, 2, 3]

    def test_collected_in_every_order(self, name):
        for order in itertools.permutations(range(4)):
            one = sma((100,), "i8", name)
            one.create()
            two = shmutils.SharedMemoryArray.clone(one, array_slice=(slice(3, 9),))
            two.load()
            parts = [one, two, one.array[5:], two.array]
            del one, two
            shmutils.SharedMemoryArray.clear_buffers([name])
            for i in order:
                if i < 2:
                    parts[i].close()
                parts[i] = None
                gc.collect(0)
                assert all(part.sum() == 0 for part in parts[2:] if part is not None)

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

    def test_another_process_keeps_out_of_it(self, name, child):
        one = sma((3,), "i8", name)
        one.create()
        child(
            """
            import sys, warnings
            warnings.simplefilter("ignore", DeprecationWarning)
            from cuelight.shmutils import SharedMemoryArray
            s = SharedMemoryArray((3,), "i8", sys.argv[1]); s.load(); s.array[:] = 4
            """,
            name,
        ).end()
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

    def test_subclasses_and_methods(self):
        @shmutils.deprecated("old")
        class Old:
            def __init__(self, x=0):
                self.x = x

            @shmutils.deprecated("old method", stacklevel=1)
            def method(self):
                return self.x

        class New(Old):
            def __init__(self):
                super().__init__(7)

        assert Old.__deprecated__ == "old"
        with pytest.warns(DeprecationWarning, match=r"^old$"):
            one = Old(3)
        with pytest.warns(DeprecationWarning, match="old method"):
            assert one.method() == 3
        if sys.version_info < (3, 13):  # warnings.deprecated warns of subclassing instead
            with pytest.warns(DeprecationWarning, match=r"^old$"):
                assert New().x == 7

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
        if sys.version_info < (3, 13):
            with pytest.raises(TypeError):
                shmutils.deprecated("old", category=None)(5)


@pytest.mark.seconds(60)
def test_a_full_shm_folder_is_an_exception_never_a_signal(tmp_path):
    """In a small /dev/shm of its own, where there is room for one array and not for the second."""
    npio.to_file(str(tmp_path / "a"), np.ones(3 << 17))
    code = """
    import errno, io, os, sys, warnings
    import numpy as np
    warnings.simplefilter("ignore")
    from cuelight import npshm, shmutils
    kept = npshm.create_shared_array("first", (1 << 17,), "f8", full=1)
    with open(sys.argv[1], "rb") as file:
        content = file.read()
    opened = open(sys.argv[1], "rb")
    for call in (
        lambda: npshm.create_shared_array("second", (3 << 17,), "f8"),
        lambda: npshm.create_shared_array("first", (3 << 17,), "f8", force=True),
        lambda: npshm.read_shared_array(sys.argv[1], "second"),
        lambda: npshm.read_shared_array(opened, "second"),
        lambda: npshm.read_shared_array(io.BytesIO(content), "second"),
        lambda: shmutils.SharedMemoryArray((3 << 17,), "f8", "second").create(),
    ):
        try:
            call()
        except OSError as error:
            print(errno.errorcode[error.errno], os.listdir("/dev/shm"))
    opened.close()
    kept[:] = 2
    npshm.create_shared_array("second", (1 << 17,), "f8")[:] = 3
    print(npshm.attach_shared_array("first").sum() == 2 << 17)
    """
    assert run_in_small_shm(code, tmp_path / "a") == ["ENOSPC ['first']"] * 6 + ["True"]
