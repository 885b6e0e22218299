"""What the documents of the four libraries name is here, with the arguments that they name; and our pages for their users run.

Their own examples run in `test_mpmetrics.py` (mpmetrics, cdxcore's two processes); Dragon's document and gridr's have none but the
form of a name, which is in `test_npshm.py`.
"""

import importlib
import inspect
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

# module: what the document calls, with its arguments; a name alone is a value or a property
DOCUMENTED = {
    "managed_memory": """
        MemoryAlloc.attach(serialized_bytes=) MemoryAlloc.get_memview() MemoryAlloc.serialize() MemoryAlloc.detach()
        MemoryAllocations.alloc_type(idx=) MemoryAllocations.alloc_id(idx=)
        MemoryPool(size,fname,uid,mattr) MemoryPool.attach(pool_serialized=) MemoryPool.destroy() MemoryPool.detach(serialize=)
        MemoryPool.serialize() MemoryPool.alloc(size=) MemoryPool.alloc_blocking(size=,timeout=) MemoryPool.free(mem_obj=)
        MemoryPool.get_allocations()
        MemoryPool.allocation_exists(alloc_type=,alloc_id=) MemoryPool.get_alloc_by_id(alloc_type=,alloc_id=)
    """,
    "npshm": """
        create_shared_array(name,shape,dtype,raise_on_error=,full=,force=)
        attach_shared_array(name,validate_shape=,validate_dtype=,raise_on_error=,read_only=)
        read_shared_array(file,name,validate_shape=,validate_dtype=,raise_on_error=,read_only=)
        read_shared_array(file,name,accept_existing=,buffering=,return_status=)
        read_shared_array(file,name,return_status=)
        delete_shared_array(name,raise_on_error) is_shared_array(x)
    """,
    "npio": """
        to_file(file,array,buffering=,cont_block_size_mb=) read_into(file,array,read_only=,buffering=,cont_block_size_mb=)
        create_shared_array(name,shape=,dtype=) attach_shared_array(name) read_shared_array(file,name)
    """,
    "shmutils": """
        SharedMemoryArray(shape,dtype,name,array_slice=) SharedMemoryArray.COUNTER SharedMemoryArray.build_sma_name(prefix=)
        SharedMemoryArray.clear_buffers(buffer_names=) SharedMemoryArray.clone(sma,name=,shape=) SharedMemoryArray.close()
        SharedMemoryArray.create() SharedMemoryArray.load() create_and_register_sma(shape,dtype,register,prefix=)
        deprecated(message,category=,stacklevel=) shmarray_wrap(func)
    """,
    "primitives": """
        AtomicDouble(mem) AtomicDouble.add(amount=,raise_on_overflow=) AtomicDouble.get() AtomicDouble.set(value=)
        AtomicInt32(mem) AtomicInt32.add(amount=,raise_on_overflow=) AtomicInt32.get() AtomicInt32.set(value=)
        AtomicInt64(mem) AtomicInt64.add(amount=,raise_on_overflow=) AtomicInt64.get() AtomicInt64.set(value=)
        AtomicUInt32(mem) AtomicUInt32.add(amount=,raise_on_overflow=) AtomicUInt32.get() AtomicUInt32.set(value=)
        AtomicUInt64(mem) AtomicUInt64.add(amount=,raise_on_overflow=) AtomicUInt64.get() AtomicUInt64.set(value=)
        Buffer(mem) Lock(mem) Lock.acquire(block=,timeout=) Lock.release()
    """,
    "atomic": """
        AtomicDouble AtomicInt64 AtomicUInt64
        LockingDouble(mem,heap=) LockingDouble.add(amount=,raise_on_overflow=) LockingDouble.get() LockingDouble.set(value=)
        LockingInt64(mem,heap=) LockingInt64.add(amount=,raise_on_overflow=) LockingInt64.get() LockingInt64.set(value=)
        LockingUInt64(mem,heap=) LockingUInt64.add(amount=,raise_on_overflow=) LockingUInt64.get() LockingUInt64.set(value=)
    """,
    "generics": """
        FloatType(name=,cls=) IntType(name=,cls=) ListType(name=,cls=,elemtype=) ObjectType(name=,cls=)
        ProductType(name=,cls=,argtypes=,args=) saveattr(get=)
    """,
    "heap": "Heap(map_size=) Heap.Block(heap=,start=,size=) Heap.Block.deref() Heap.Block.free() Heap.malloc(size,alignment=)",
    "types": """
        Array Box Dict(mem=,heap=) List(mem=,heap=) Object(mem=,heap=) Struct(mem=,heap=) Struct.size Struct.align
        Double(mem=,heap=) Double.size Double.align Double.value Int64(mem=,heap=) Int64.size Int64.align Int64.value
        Size_t(mem=,heap=) Size_t.size Size_t.align Size_t.value UInt64(mem=,heap=) UInt64.size UInt64.align UInt64.value
    """,
    "util": "align(x=,a=) align_down(x=,a=) classproperty(fget=,fset=,fdel=,doc=) genmask(hi=,lo=)",
}
ROWS = [(module, row) for module, rows in DOCUMENTED.items() for row in rows.split()]


@pytest.mark.parametrize(("module", "row"), ROWS, ids=[f"{module}.{row}" for module, row in ROWS])
def test_what_is_documented_is_here(module, row):
    name, call, arguments = row.partition("(")
    thing = owner = importlib.import_module(f"cuelight.{module}")
    for part in name.split("."):
        owner, thing = thing, inspect.getattr_static(thing, part) if part in ("size", "align", "value") else getattr(thing, part)
    if not call:
        return
    try:
        signature = inspect.signature(thing)
    except ValueError:  # a type of C that says no more
        assert callable(thing)
        return
    positional = [object() for argument in arguments.rstrip(")").split(",") if argument and not argument.endswith("=")]
    named = {argument[:-1]: object() for argument in arguments.rstrip(")").split(",") if argument.endswith("=")}
    plain = inspect.getattr_static(owner, name.rpartition(".")[2], None)
    bound = isinstance(plain, staticmethod | classmethod) or type(plain).__name__ == "classmethod_descriptor"
    if inspect.isclass(owner) and not inspect.isclass(thing) and not bound:
        positional.insert(0, object())  # self
    signature.bind(*positional, **named)


# ---- the pages of docs/ for who comes from there: their code runs as it stands ----

PAGES = {  # what such a program has before, and what must hold after
    "cdxcore": (
        """
        import numpy as np
        from cuelight import npio
        npio.to_file("history.bin", np.arange(6.0))
        """,
        """
        assert a.shape == b.shape == (1000, 20) and c.tolist() == [0, 1, 2, 3, 4, 5] and not attached
        a[0, 0] = 5
        assert b[0, 0] == 5  # also after delete_shared_array
        delete_shared_array("history")
        """,
    ),
    "dragon": (
        """
        sent = []
        send, receive = sent.append, sent.pop
        """,
        """
        assert view == b"Hello"
        assert pool.get_allocations().num_allocs == 0
        pool.destroy()
        """,
    ),
    "gridr": ("", "assert row == (2.0, 1.0)"),
    "mpmetrics": (
        "",
        """
        assert hits.get() == 1 and names == {"last": "somebody"} and lock.acquire(False)
        """,
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_for_users_of_another_library_shows(page, tmp_path):
    text = (Path(__file__).resolve().parents[2] / f"docs/migrate-{page}.md").read_text()
    before, after = (inspect.cleandoc(part) for part in PAGES[page])
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))
    assert code.count("import") >= 1
    code = re.sub(r"^(sma.array\[.*\])( +#)", r"row = \1\2", code, flags=re.M)
    code = re.sub(r"^(mem.get_memview.*tobytes\(\))", r"view = \1", code, flags=re.M)
    own = f"cuelight-page-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    code = "\n".join([before, code, after]).replace('"prices"', f'"{own}-prices"').replace('"history"', f'"{own}-history"')
    (tmp_path / "page.py").write_text(code.replace('"frames"', f'"{own[-20:]}"'))
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "page.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    left = [path.unlink() or path.name for path in Path("/dev/shm").glob(f"{own}*")]
    assert (ran.returncode, ran.stderr, left) == (0, "", [])
