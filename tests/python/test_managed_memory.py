"""cuelight.managed_memory, sentence by sentence of what Dragon's own documentation and its users rely on."""

import os
import pickle
import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cuelight as cue
from conftest import SHM, objects
from cuelight.dtypes import DragonError, DragonException, DragonObjectDestroyed
from cuelight.managed_memory import (
    DRAGON_MEMORY_DEFAULT_TIMEOUT,
    AllocType,
    DragonMemoryError,
    DragonMemoryTypeError,
    DragonPoolAllocationNotAvailable,
    DragonPoolAttachFail,
    DragonPoolCreateFail,
    DragonPoolDetachFail,
    DragonPoolError,
    MemoryAlloc,
    MemoryAllocations,
    MemoryPool,
    PoolType,
)

ELSEWHERE = b"\1\2\3\4\5\6\7\x08"
NONLOCAL = "DRAGON_MEMORY_OPERATION_ATTEMPT_ON_NONLOCAL_POOL"


@pytest.fixture
def remote_pool(managed):
    text = managed.serialize()
    return MemoryPool.attach(text[:8] + ELSEWHERE + text[16:])


@pytest.fixture
def remote(managed):
    alloc = managed.alloc(100)
    text = alloc.serialize()
    yield MemoryAlloc.attach(text[:16] + ELSEWHERE + text[24:])
    alloc.free()


# ---- exceptions ----


def test_the_exceptions_descend_as_they_did():
    assert issubclass(DragonMemoryError, DragonException)
    assert issubclass(DragonPoolError, DragonMemoryError)
    for cls in (DragonPoolCreateFail, DragonPoolAttachFail, DragonPoolDetachFail, DragonPoolAllocationNotAvailable):
        assert issubclass(cls, DragonPoolError)
    assert issubclass(DragonMemoryTypeError, DragonMemoryError)
    assert issubclass(DragonMemoryTypeError, TypeError)
    assert issubclass(DragonObjectDestroyed, DragonException)


def test_all_of_them_are_runtime_errors():
    for cls in (DragonException, DragonMemoryError, DragonMemoryTypeError, DragonPoolCreateFail, DragonObjectDestroyed):
        assert issubclass(cls, RuntimeError)


def test_an_exception_says_its_code_and_where_it_came_from(managed):
    with pytest.raises(DragonPoolAllocationNotAvailable) as caught:
        managed.alloc_blocking(32768, 0) and managed.alloc(1)
    assert caught.value.lib_err is DragonError.DYNHEAP_REQUESTED_SIZE_NOT_AVAILABLE
    assert "DRAGON_DYNHEAP_REQUESTED_SIZE_NOT_AVAILABLE" in str(caught.value)
    assert "budget" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.lib_err is caught.value.lib_err
    assert DragonException("no code").lib_err is None


def test_the_enums_have_dragons_numbers():
    assert DragonError.SUCCESS.value == 0
    assert DragonError.INVALID_ARGUMENT.value == 13
    assert [t.value for t in (AllocType.DATA, AllocType.CHANNEL, AllocType.CHANNEL_BUFFER, AllocType.BOOTSTRAP)] == [0, 1, 2, 3]
    assert PoolType.SHM.value == 0
    assert DRAGON_MEMORY_DEFAULT_TIMEOUT == 300


def test_types_say_where_they_can_be_imported():
    for cls in (MemoryPool, MemoryAlloc, MemoryAllocations):
        assert cls.__module__ == "cuelight.managed_memory"


# ---- MemoryPool ----


def test_the_examples_of_the_documentation(name):
    pool = MemoryPool(1 << 20, name, 1, None)
    mem = pool.alloc(512)
    view = mem.get_memview()
    view[0:5] = b"Hello"
    other = MemoryAlloc.attach(mem.serialize())
    assert other.get_memview()[0:5].tobytes() == b"Hello"
    other.detach()
    mem2 = pool.alloc_blocking(512, timeout=1)
    allocations = pool.get_allocations()
    assert allocations.num_allocs == 2
    assert pool.allocation_exists(allocations.alloc_type(1), allocations.alloc_id(1))
    assert pool.get_alloc_by_id(allocations.alloc_type(1), allocations.alloc_id(1)).is_the_same_as(mem2)
    pool.free(mem)
    attached = MemoryPool.attach(pool.serialize())
    attached.detach()
    pool.destroy()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((1.5, "n", 1), TypeError),
        (("x", "n", 1), TypeError),
        ((32768, 5, 1), TypeError),
        ((32768, None, 1), TypeError),
        ((32768, "n", 1.0), TypeError),
        ((32768, "n", "x"), TypeError),
        ((32768, "n"), TypeError),
        ((32768, "n", 1, None, None, None, False, -1, 5, 6), TypeError),
        ((-1, "n", 1), OverflowError),
        ((32768, "n", -1), OverflowError),
        ((32768, "n", 1 << 64), OverflowError),
        ((32768, "", 1), DragonPoolCreateFail),
        ((32768, "n" * 4096, 1), DragonPoolCreateFail),
        ((0, "n", 1), DragonPoolCreateFail),
        ((32, "n", 1), DragonPoolCreateFail),
        ((1 << 40, "n", 1), DragonPoolCreateFail),
        ((32768, "n", 1, None, 8), DragonPoolCreateFail),
        ((32768, "n", 1, 5), RuntimeError),
        ((32768, "n", 1, None, None, None, True), DragonPoolCreateFail),
        ((32768, "n", 1, None, None, None, False, 4000), DragonPoolCreateFail),
    ],
)
def test_a_pool_that_cannot_be_is_refused(arguments, error):
    with pytest.raises(error):
        MemoryPool(*arguments)


def test_a_name_that_exists_is_refused(managed, name):
    with pytest.raises(DragonPoolCreateFail, match="already"):
        MemoryPool(32768, name, 18)


@pytest.mark.parametrize("kind", ["x" * 28, "a b", "a/b", "_", "..", "né", "a_b_c", "%-D"])
def test_any_name_will_do(kind):
    chosen = f"{kind}{os.getpid()}"
    pool = MemoryPool(32768, chosen, 5)
    assert MemoryPool.serialized_uid_fname(pool.serialize()) == (5, f"/D{chosen}M")
    pool.destroy()


@pytest.mark.parametrize("uid", [0, 1, (1 << 64) - 1])
def test_a_uid_is_unsigned_64_bit(name, uid):
    pool = MemoryPool(32768, name, uid)
    assert pool.muid == uid
    assert struct.unpack_from("=Q", pool.serialize())[0] == uid
    alloc = pool.alloc_from_bytes(b"abc")
    text = alloc.serialize()
    assert struct.unpack_from("=Q", text, 8)[0] == uid
    assert MemoryAlloc.attach(text) == alloc
    again = MemoryPool.attach(pool.serialize())
    assert again.muid == uid
    again.detach()
    assert MemoryAlloc.attach(text).pool.muid == uid
    pool.destroy()


@pytest.mark.parametrize("uid", [0, 7])
def test_a_child_attaches_by_any_uid(name, uid, child):
    pool = MemoryPool(32768, name, uid)
    alloc = pool.alloc_from_bytes(b"abc")
    code = """
    import sys
    from cuelight.managed_memory import MemoryAlloc, MemoryPool
    pool, alloc = map(bytes.fromhex, sys.argv[1:])
    a = MemoryAlloc.attach(alloc)
    print(bytes(a.get_memview()), a.pool.muid, MemoryPool.attach(pool).muid, a.serialize() == alloc)
    """
    assert child(code, pool.serialize().hex(), alloc.serialize().hex()).end() == f"b'abc' {uid} {uid} True"
    pool.destroy()


def test_two_pools_of_one_uid_are_two(name):
    one, two = MemoryPool(32768, name, 9), MemoryPool(32768, name + "x", 9)
    a, b = one.alloc_from_bytes(b"one"), two.alloc_from_bytes(b"two")
    assert bytes(MemoryAlloc.attach(a.serialize()).get_memview()) == b"one"
    assert bytes(MemoryAlloc.attach(b.serialize()).get_memview()) == b"two"
    assert not a.is_the_same_as(b)
    assert MemoryPool.attach(one.serialize()).current_allocations == 1
    one.destroy()
    two.destroy()


def test_attach_without_bytes_is_a_value_error():
    with pytest.raises(ValueError, match="Zero length"):
        MemoryPool.attach(b"")
    for wrong in (None, "text", 5):
        with pytest.raises(TypeError):
            MemoryPool.attach(wrong)


def test_attach_fails_when_the_pool_is_gone_or_the_bytes_are_not_a_pools(managed):
    text = managed.serialize()
    alloc = managed.alloc(5).serialize()
    for wrong in (b"x" * 50, text[:20], text[:-1], alloc, pickle.dumps([1]), text[:45] + b"?" + text[46:], b"\5" + text[1:]):
        with pytest.raises(DragonPoolAttachFail):
            MemoryPool.attach(wrong)
    managed.destroy()
    with pytest.raises(DragonPoolAttachFail):
        MemoryPool.attach(text)


def test_attach_needs_a_managed_pool(pool):
    with pytest.raises(DragonPoolAttachFail):
        MemoryPool.attach(pool.descriptor[8:24] + pool.descriptor)
    block = pool.put(b"abc")
    with pytest.raises(DragonMemoryTypeError):
        MemoryAlloc.attach(block.descriptor)
    block.free()


@given(st.binary(max_size=160))
@settings(max_examples=300)
def test_any_bytes_are_refused(data):
    with pytest.raises((DragonPoolAttachFail, ValueError)):
        MemoryPool.attach(data)
    with pytest.raises(DragonMemoryTypeError):
        MemoryAlloc.attach(data)
    with pytest.raises(ValueError, match="not a serialized pool's"):
        MemoryPool.serialized_uid_fname(data)


def test_any_change_of_a_descriptor_is_noticed(managed):
    alloc = managed.alloc_from_bytes(b"here")
    text = alloc.serialize()
    for at in range(len(text)):
        changed = bytearray(text)
        changed[at] ^= 1
        if 16 <= at < 24:
            assert MemoryAlloc.attach(changed).size == 4  # another host
        else:
            with pytest.raises(DragonMemoryError):
                MemoryAlloc.attach(changed)


def test_a_pool_of_another_host_attaches_serializes_and_detaches(remote_pool, managed):
    assert remote_pool.is_local is False
    assert managed.is_local is True
    assert remote_pool.muid == 17
    assert remote_pool.serialize()[8:16] == ELSEWHERE
    assert pickle.loads(pickle.dumps(remote_pool)).serialize() == remote_pool.serialize()
    assert "another host" in repr(remote_pool)
    remote_pool.detach()
    remote_pool.detach()


@pytest.mark.parametrize(
    "operation",
    [
        lambda p: p.alloc(5),
        lambda p: p.alloc_blocking(5, timeout=0.1),
        lambda p: p.alloc_from_bytes(b"x"),
        lambda p: p.get_allocations(),
        lambda p: p.allocation_exists(3),
        lambda p: p.allocation_exists(AllocType.DATA, 3),
        lambda p: p.get_alloc_by_id(AllocType.DATA, 3),
        lambda p: p.alloc_from_id(3),
        lambda p: p.size,
        lambda p: p.free_space,
        lambda p: p.utilization,
        lambda p: p.max_allocations,
        lambda p: p.current_allocations,
        lambda p: p.free_blocks,
        lambda p: p.destroy(),
    ],
)
def test_what_needs_the_memory_of_another_host_is_a_pool_error(remote_pool, operation):
    with pytest.raises(DragonPoolError, match=NONLOCAL):
        operation(remote_pool)


def test_a_pool_that_was_destroyed_or_never_attached_cannot_be_destroyed(managed):
    managed.destroy()
    for pool in (managed, MemoryPool.empty_pool()):
        with pytest.raises(DragonPoolError):
            pool.destroy()
        with pytest.raises(DragonPoolError):
            pool.alloc(5)


def test_destroy_ends_it_for_all_objects_here(managed):
    other, alloc = MemoryPool.attach(managed.serialize()), managed.alloc(10)
    view = alloc.get_memview()
    managed.destroy()
    for operation in (
        lambda: other.alloc(1),
        lambda: other.size,
        lambda: other.get_allocations(),
        lambda: other.destroy(),
        alloc.free,
    ):
        with pytest.raises(DragonMemoryError, match="DRAGON_OBJECT_DESTROYED"):
            operation()
    with pytest.raises(DragonObjectDestroyed):
        MemoryAlloc.attach(alloc.serialize())
    view[:] = b"x" * 10
    assert bytes(alloc.get_memview()) == b"x" * 10
    other.detach()


def test_serialize_is_usable_after_destroy(managed):
    text = managed.serialize()
    managed.destroy()
    assert managed.serialize() == text
    assert managed.detach() is None  # nothing is left to detach from, as there
    assert managed.serialize() == text


def test_detach_with_serialize_keeps_the_bytes(managed):
    text = managed.serialize()
    one, two = MemoryPool.attach(text), MemoryPool.attach(text)
    one.detach(serialize=True)
    assert one.serialize() == text
    two.detach()
    with pytest.raises(DragonPoolError):
        two.serialize()
    with pytest.raises(DragonPoolError):
        two.alloc(1)
    two.detach()  # a second time does nothing
    assert MemoryPool.empty_pool().detach() is None


def test_the_bytes_begin_with_uid_and_host(managed):
    uid, host = struct.unpack_from("=QQ", managed.serialize())
    assert uid == 17
    assert struct.unpack_from("=QQ", managed.alloc(5).serialize(), 8) == (17, host)


def test_alloc_wants_an_int(managed):
    for wrong in (1.5, "x", None):
        with pytest.raises(TypeError, match="must be int"):
            managed.alloc(wrong)
    with pytest.raises(RuntimeError, match="less than 0"):
        managed.alloc(-1)
    with pytest.raises(OverflowError):
        managed.alloc(1 << 64)


def test_an_allocation_of_nothing_is_legal(managed):
    nothing = managed.alloc(0)
    assert nothing.size == 0
    assert len(nothing.get_memview()) == 0
    assert managed.free_space == 32768
    assert MemoryAlloc.attach(nothing.serialize()).size == 0
    nothing.copy(managed).free()
    nothing.free()


def test_a_full_pool_has_no_allocation_available(managed):
    managed.alloc(32768)
    with pytest.raises(DragonPoolAllocationNotAvailable, match="DRAGON_DYNHEAP_REQUESTED_SIZE_NOT_AVAILABLE"):
        managed.alloc(1)


def test_what_can_never_fit_is_another_pool_error(managed):
    for size in (32769, 1 << 62):
        with pytest.raises(DragonPoolError, match="SIZE_TOO_LARGE"):
            managed.alloc(size)
        with pytest.raises(DragonPoolError, match="SIZE_TOO_LARGE"):
            managed.alloc_blocking(size, timeout=5)


def test_max_allocations_is_a_pool_error(name):
    pool = MemoryPool(32768, name, 1, max_allocations=3)
    kept = [pool.alloc(1) for _ in range(3)]
    with pytest.raises(DragonPoolError, match="MEMORY_POOL_FULL") as caught:
        pool.alloc(1)
    assert not isinstance(caught.value, DragonPoolAllocationNotAvailable)
    kept.pop().free()
    pool.alloc(1)
    assert (pool.max_allocations, pool.current_allocations, pool.max_used_allocations) == (3, 3, 3)
    pool.destroy()


def test_alloc_blocking_checks_its_arguments(managed):
    for size in (0, -5):
        with pytest.raises(RuntimeError, match="less than 1"):
            managed.alloc_blocking(size)
    for timeout in (-1, -0.5, float("nan"), "x", [1]):
        with pytest.raises(ValueError, match="timeout"):
            managed.alloc_blocking(10, timeout=timeout)
    with pytest.raises(TypeError):
        managed.alloc_blocking(5.5)


def test_alloc_blocking_times_out(managed):
    managed.alloc(32768)
    with pytest.raises(TimeoutError, match="timed out") as caught:
        managed.alloc_blocking(10, timeout=0.05)
    assert type(caught.value) is TimeoutError


def test_alloc_blocking_without_time_does_not_wait(managed):
    managed.alloc(32768)
    with pytest.raises(DragonPoolAllocationNotAvailable) as caught:
        managed.alloc_blocking(10, timeout=0)
    assert not isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, DragonPoolError)


def test_alloc_blocking_takes_what_is_there(managed):
    assert managed.alloc_blocking(10).size == 10
    assert managed.alloc_blocking(10, 0).size == 10
    assert managed.alloc_blocking(10, 1.5, AllocType.CHANNEL).size == 10


def test_both_ways_to_free(managed):
    one, two = managed.alloc(10), managed.alloc(10)
    managed.free(one)
    two.free()
    assert managed.current_allocations == 0
    for wrong in (None, 5):
        with pytest.raises(TypeError):
            managed.free(wrong)
    with pytest.raises(DragonMemoryError):
        managed.free(one)


def test_arguments_by_every_name_that_they_have_had(managed, name):
    text, alloc = managed.serialize(), managed.alloc(size=10)
    for kind, names, data in (
        (MemoryPool, ("serialized", "pool_serialized", "pool_ser"), text),
        (MemoryAlloc, ("serialized", "serialized_bytes", "ser_bytes"), alloc.serialize()),
    ):
        for known in names:
            assert kind.attach(**{known: data}).serialize() == data
        with pytest.raises(TypeError):
            kind.attach(other=data)
        with pytest.raises(TypeError):
            kind.attach()
    managed.free(mem=alloc)
    managed.free(mem_obj=managed.alloc_blocking(size=10, timeout=None))
    with pytest.raises(TypeError):
        managed.free()
    assert managed.get_allocations(alloc_type=None).num_allocs == 0
    MemoryPool(size=4096, fname=name + "x", uid=3, mattr=None).destroy()


def test_get_allocations_lists_types_and_ids_in_order(managed):
    first = managed.alloc(10)
    others = [managed.alloc(5000 if i % 2 else 10, AllocType.CHANNEL) for i in range(3)]
    first_again = managed.alloc(1)
    rows = managed.get_allocations()
    assert rows.num_allocs == len(rows) == 5
    assert rows.alloc_id(0) == first.id
    assert rows.alloc_id(4) == first_again.id
    assert [rows.alloc_type(i) for i in range(5)] == [AllocType.DATA, *[AllocType.CHANNEL] * 3, AllocType.DATA]
    channels = managed.get_allocations(AllocType.CHANNEL)
    assert [channels.alloc_id(i) for i in range(3)] == [a.id for a in others]
    assert managed.get_allocations(AllocType.BOOTSTRAP).num_allocs == 0
    others[0].free()
    assert rows.num_allocs == 5  # as it was
    assert managed.get_allocations().num_allocs == 4


def test_an_index_out_of_bounds_is_a_runtime_error(managed):
    managed.alloc(1)
    rows = managed.get_allocations()
    for idx in (1, -1, 1 << 70):
        for call in (rows.alloc_type, rows.alloc_id):
            with pytest.raises(RuntimeError, match="Index out of bounds"):
                call(idx)
    with pytest.raises(TypeError):
        rows.alloc_id("0")
    with pytest.raises(TypeError):
        MemoryAllocations()


def test_the_list_of_an_empty_pool_leaves_no_lock_held(managed, child):
    assert managed.get_allocations().num_allocs == 0
    code = """
    import sys
    from cuelight.managed_memory import MemoryPool
    print(MemoryPool.attach(bytes.fromhex(sys.argv[1])).get_allocations().num_allocs)
    """
    assert child(code, managed.serialize().hex()).end() == "0"
    managed.alloc(1)


def test_allocation_exists_in_both_forms(managed):
    alloc = managed.alloc(10, AllocType.CHANNEL)
    id = alloc.id
    assert managed.allocation_exists(id)
    assert managed.allocation_exists(id=id)
    assert managed.allocation_exists(AllocType.CHANNEL, id)
    assert managed.allocation_exists(alloc_type=AllocType.CHANNEL, alloc_id=id)
    assert managed.allocation_exists(1, id)
    assert not managed.allocation_exists(AllocType.DATA, id)
    for unknown in (0, 12345, -1, 1 << 64, (1 << 64) - 1):
        assert managed.allocation_exists(unknown) is False
        assert managed.allocation_exists(AllocType.DATA, unknown) is False
    alloc.free()
    assert managed.allocation_exists(id) is False
    for wrong in ((), (1, 2, 3), ("x",), (AllocType.DATA, "x"), ("DATA", 5)):
        with pytest.raises(TypeError):
            managed.allocation_exists(*wrong)


def test_the_pools_own_blocks_are_no_allocations(managed, name):
    inside = cue.attach_pool(managed.serialize()[16:])
    for row in inside.blocks():
        assert managed.allocation_exists(row.id) is False
    other = inside.put(b"x")
    assert managed.allocation_exists(other.id) is False
    assert managed.get_allocations().num_allocs == 0
    other.free()
    inside.close()


def test_an_allocation_is_found_by_its_id(managed):
    alloc = managed.alloc_from_bytes(b"found")
    assert managed.alloc_from_id(alloc.id).is_the_same_as(alloc)
    assert bytes(managed.get_alloc_by_id(AllocType.DATA, alloc.id).get_memview()) == b"found"
    for call in (
        lambda: managed.alloc_from_id(12345),
        lambda: managed.alloc_from_id(-1),
        lambda: managed.get_alloc_by_id(AllocType.CHANNEL, alloc.id),
        lambda: managed.get_alloc_by_id(AllocType.DATA, 12345),
    ):
        with pytest.raises(DragonPoolError, match="OBJECT_DESTROYED"):
            call()
    with pytest.raises(TypeError):
        managed.alloc_from_id("x")


def test_alloc_from_bytes_copies(managed):
    for source in (b"abc", bytearray(b"abc"), memoryview(b"abc")):
        assert bytes(managed.alloc_from_bytes(source).get_memview()) == b"abc"
    assert managed.alloc_from_bytes(b"").size == 0
    with pytest.raises(TypeError, match="bytes-like"):
        managed.alloc_from_bytes("x")


def test_the_properties_of_a_pool(name):
    pool = MemoryPool(40000, name, 3, min_block_size=100)
    assert pool.size == 65536
    assert pool.num_block_sizes == 10
    assert pool.max_allocations == 512
    assert pool.rt_uid == 0
    assert pool.free_blocks == {128 << i: int(i == 9) for i in range(10)}
    pool.alloc(1)
    assert pool.free_space == 65536 - 128
    assert pool.utilization == 100 * 128 / 65536
    assert pool.free_blocks == {128 << i: int(i < 9) for i in range(10)}
    pool.destroy()


def test_a_pool_that_is_unpickled_is_attached(managed):
    again = pickle.loads(pickle.dumps(managed))
    assert again.alloc(10).pool.muid == 17
    assert managed.current_allocations == 1


def test_create_with_retry_counts_on(name):
    one = MemoryPool.create_with_retry(32768, name, 1)
    two = MemoryPool.create_with_retry(32768, name, 1, min_block_size=64)
    assert MemoryPool.serialized_uid_fname(two.serialize())[1] == f"/D{name}1M"
    with pytest.raises(DragonPoolCreateFail):
        MemoryPool.create_with_retry(32768, name, 1, attempts=2)
    assert MemoryPool.max_pool_name_len() >= 28
    one.destroy()
    two.destroy()


def test_the_reprs_help(managed, name):
    alloc = managed.alloc(10)
    assert name in repr(managed)
    assert "10 bytes" in repr(alloc)
    assert name in repr(alloc)
    alloc.free()
    assert "freed" in repr(alloc)
    managed.destroy()
    assert "destroyed" in repr(managed)
    assert "not attached" in repr(MemoryPool.empty_pool())


# ---- sizes ----


def test_two_of_10000_leave_no_room_for_5000_in_32768(managed):
    managed.alloc(10000)
    managed.alloc(10000)
    with pytest.raises(DragonPoolAllocationNotAvailable):
        managed.alloc(5000)


def test_with_32000_taken_3100_waits(managed):
    managed.alloc(32000)
    with pytest.raises(TimeoutError):
        managed.alloc_blocking(3100, timeout=0.05)


def test_a_pool_satisfies_a_request_of_its_own_size(managed):
    for _ in range(20):
        managed.alloc(32768).free()


@given(st.integers(0, 1 << 32))
@settings(max_examples=25)
def test_any_requests_of_powers_of_two_that_sum_up_to_the_size_are_satisfied(seed):
    random = Random(seed)
    pool = MemoryPool(1 << 16, f"sizes-{os.getpid()}", 1)
    try:
        for _ in range(3):
            left, kept = 1 << 16, []
            while left:
                size = random.choice([32 << i for i in range(12) if 32 << i <= left])
                left -= size
                kept.append(pool.alloc(size))
                kept[-1].get_memview()[:] = b"x" * size
            with pytest.raises(DragonPoolAllocationNotAvailable):
                pool.alloc(1)
            random.shuffle(kept)
            for alloc in kept:
                alloc.free()
    finally:
        pool.destroy()


@given(st.lists(st.one_of(st.integers(0, 40000), st.tuples(st.just("free"), st.integers(0, 30))), max_size=60))
@settings(max_examples=60)
def test_a_pool_counts_as_a_plain_sum_does(steps):
    pool = MemoryPool(32768, f"counts-{os.getpid()}", 1)
    kept = []
    try:
        for step in steps:
            if isinstance(step, tuple):
                if kept:
                    kept.pop(step[1] % len(kept)).free()
                continue
            weight = 0 if step == 0 else max(32, 1 << (step - 1).bit_length())
            used = sum(0 if a.size == 0 else max(32, 1 << (a.size - 1).bit_length()) for a in kept)
            if used + weight <= 32768:
                kept.append(pool.alloc(step))
                used += weight
            else:
                with pytest.raises(DragonPoolError):
                    pool.alloc(step)
            assert pool.free_space == 32768 - used
            assert pool.current_allocations == len(kept)
    finally:
        pool.destroy()


def test_a_big_pool_costs_little_until_it_is_used(name):
    pool = MemoryPool(2 << 30, name, 1)
    (path,) = (SHM / entry for entry in objects())
    assert path.stat().st_blocks * 512 < 2 << 20
    pool.destroy()


# ---- MemoryAlloc ----


def test_attach_takes_any_bytes_like(managed):
    text = managed.alloc_from_bytes(b"abc").serialize()
    for kind in (bytes, bytearray, memoryview):
        assert bytes(MemoryAlloc.attach(kind(text)).get_memview()) == b"abc"
    for wrong in ("x", 5, None):
        with pytest.raises(TypeError):
            MemoryAlloc.attach(wrong)


def test_bytes_that_are_no_descriptor_are_a_type_error(managed):
    for wrong in (pickle.dumps([1]), b"x" * 90, b"", managed.serialize(), managed.serialize()[16:]):
        with pytest.raises(DragonMemoryTypeError) as caught:
            MemoryAlloc.attach(wrong)
        assert isinstance(caught.value, TypeError)


def test_a_freed_one_cannot_be_attached(managed):
    alloc = managed.alloc(10)
    text, view = alloc.serialize(), alloc.get_memview()
    alloc.free()
    for _ in range(2):
        with pytest.raises(DragonObjectDestroyed, match="DRAGON_OBJECT_DESTROYED") as caught:
            MemoryAlloc.attach(text)
        assert isinstance(caught.value, DragonMemoryError)
    assert len(view) == 10


def test_a_memview_is_writable_and_of_exactly_the_size(managed):
    for size in (1, 31, 10000):
        view = managed.alloc(size).get_memview()
        assert (len(view), view.format, view.readonly, view.itemsize) == (size, "B", False, 1)


def test_there_is_no_memview_after_detach_and_free(managed):
    one, two = managed.alloc(10), managed.alloc(10)
    again = MemoryAlloc.attach(one.serialize())
    again.detach()
    two.free()
    for alloc in (again, two):
        for call in (
            alloc.get_memview,
            alloc.serialize,
            alloc.free,
            alloc.clone,
            alloc.clear,
            alloc.get_int_ptr,
            lambda a=alloc: a.id,
            lambda a=alloc: a.pool,
            lambda a=alloc: a == one,
            lambda a=alloc: hash(a),
            lambda a=alloc: a.copy(managed),
            lambda a=alloc: a.is_the_same_as(one),
        ):
            with pytest.raises(DragonMemoryError):
                call()
        with pytest.raises(RuntimeError, match="cannot detach from memory not attached to"):
            alloc.detach()
        assert alloc.size == 10
    assert bytes(one.get_memview()) == bytes(one.get_memview())


def test_detach_leaves_the_allocation(managed):
    alloc = managed.alloc_from_bytes(b"stays")
    id = alloc.id
    alloc.detach()
    assert bytes(managed.alloc_from_id(id).get_memview()) == b"stays"


def test_one_of_another_host_attaches_clones_and_serializes(remote, managed):
    assert remote.size == 100
    part = remote.clone(10, 20).clone(5)
    assert part.size == 15
    text = part.serialize()
    assert text[16:24] == ELSEWHERE
    again = MemoryAlloc.attach(text)
    assert (again.size, again.serialize(), again.id) == (15, text, remote.id)
    assert pickle.loads(pickle.dumps(part)).serialize() == text
    assert remote.pool.is_local is False
    assert remote.pool.muid == 17
    assert "another host" in repr(remote)
    home = MemoryAlloc.attach(text[:16] + managed.serialize()[8:16] + text[24:])  # back where it came from
    managed.alloc_from_id(remote.id).get_memview()[15:18] = b"abc"
    assert bytes(home.get_memview()[:3]) == b"abc"
    assert home.size == 15
    again.detach()
    with pytest.raises(RuntimeError):
        again.detach()


@pytest.mark.parametrize(
    "operation",
    [
        lambda a: a.get_memview(),
        lambda a: a.free(),
        lambda a: a.clear(),
        lambda a: a.get_int_ptr(),
        lambda a: a.is_the_same_as(a),
        lambda a: hash(a),
        lambda a: a == a,
    ],
)
def test_the_memory_of_another_host_is_a_memory_error(remote, operation):
    with pytest.raises(DragonMemoryError, match=NONLOCAL):
        operation(remote)


def test_a_forged_part_beyond_the_allocation_is_refused(managed):
    text = managed.alloc(100).serialize()
    for offset, size in ((0, 101), (101, 0), (50, 51), (1 << 63, 1 << 63), ((1 << 64) - 1, 2)):
        with pytest.raises(DragonMemoryTypeError):
            MemoryAlloc.attach(text + struct.pack("=QQ", offset, size))


def test_a_clone_is_a_view_of_a_part(managed):
    alloc = managed.alloc_from_bytes(b"0123456789")
    part = alloc.clone(2, 5)
    assert bytes(part.get_memview()) == b"23456"
    assert part.id == alloc.id
    assert part.is_the_same_as(alloc)
    assert bytes(MemoryAlloc.attach(part.serialize()).get_memview()) == b"23456"
    assert bytes(part.clone(1).get_memview()) == b"3456"
    assert bytes(alloc.clone(10).get_memview()) == b""
    assert bytes(alloc.clone(offset=9).get_memview()) == b"9"
    part.free()
    assert not managed.allocation_exists(AllocType.DATA, managed.alloc(1).id + 1)
    with pytest.raises(DragonMemoryError):
        alloc.free()
    assert managed.current_allocations == 1


def test_a_clone_stays_within_the_allocation(managed):
    alloc = managed.alloc(10)
    for arguments in ((11,), (0, 11), (5, 6), (1 << 70,)):
        with pytest.raises(DragonPoolError):
            alloc.clone(*arguments)
    with pytest.raises(RuntimeError, match="less than 0"):
        alloc.clone(-1)
    with pytest.raises(RuntimeError, match="less than 0"):
        alloc.clone(0, -1)
    for arguments in (("x",), (0, 1.5)):
        with pytest.raises(TypeError):
            alloc.clone(*arguments)


def test_copy_makes_a_new_one_in_any_pool(managed, name):
    other = MemoryPool(1024, name + "x", 2)
    alloc = managed.alloc_from_bytes(b"copy me")
    copy = alloc.copy(other)
    assert copy == alloc
    assert not copy.is_the_same_as(alloc)
    assert copy.pool.muid == 2
    alloc.copy(managed, timeout=0).free()
    other.alloc(512)
    other.alloc(256)
    with pytest.raises(TimeoutError):
        managed.alloc(1000).copy(other, timeout=0.05)
    for wrong in (None, 5):
        with pytest.raises(TypeError):
            alloc.copy(wrong)
    other.destroy()


def test_clear_fills_with_zeros(managed):
    alloc = managed.alloc_from_bytes(b"0123456789")
    alloc.clear(2, 4)
    assert bytes(alloc.get_memview()) == b"01\0\x00456789"
    alloc.clear(8, 1000)
    alloc.clear(5, 5)
    alloc.clear(7, 3)
    assert bytes(alloc.get_memview()) == b"01\0\x004567\0\0"
    alloc.clear(start=7)
    assert bytes(alloc.get_memview()) == b"01\0\x00456\0\0\0"
    alloc.clear()
    assert bytes(alloc.get_memview()) == bytes(10)
    with pytest.raises(OverflowError):
        alloc.clear(-1)


def test_is_the_same_as_means_allocation_and_pool(managed, name):
    other = MemoryPool(32768, name + "x", 17)
    a, b = managed.alloc(10), managed.alloc(10)
    assert a.is_the_same_as(MemoryAlloc.attach(a.serialize()))
    assert not a.is_the_same_as(b)
    assert not a.is_the_same_as(other.alloc(10))
    for wrong in (None, 5):
        with pytest.raises(TypeError):
            a.is_the_same_as(wrong)
    other.destroy()


def test_get_int_ptr_is_the_address(managed):
    import ctypes

    alloc = managed.alloc_from_bytes(b"address")
    assert ctypes.string_at(alloc.get_int_ptr(), 7) == b"address"
    assert ctypes.string_at(alloc.clone(3).get_int_ptr(), 4) == b"ress"


@given(st.binary(max_size=70), st.binary(max_size=70))
@settings(max_examples=60)
def test_equality_and_hash_are_by_content_and_length(x, y):
    pool = MemoryPool(4096, f"equal-{os.getpid()}", 1)
    try:
        a, b, again = (pool.alloc_from_bytes(z) for z in (x, y, x))
        assert (a == b) == (x == y)
        assert (a != b) == (x != y)
        assert a == again
        assert hash(a) == hash(again) >= 0
        assert a != x
    finally:
        pool.destroy()


def test_an_allocation_pickles_as_its_bytes(managed):
    alloc = managed.alloc_from_bytes(b"abc")
    again = pickle.loads(pickle.dumps([alloc, alloc.clone(1)]))
    assert again[0].is_the_same_as(alloc)
    assert bytes(again[1].get_memview()) == b"bc"
    with pytest.raises(TypeError):
        pickle.dumps(managed.get_allocations())


def test_an_allocation_comes_from_a_pool():
    with pytest.raises(TypeError):
        MemoryAlloc()


def test_an_allocation_says_its_size_and_its_pool(managed):
    alloc = MemoryAlloc.attach(managed.alloc(33).serialize())
    assert alloc.size == 33
    assert alloc.pool.muid == 17
    assert alloc.pool.alloc(5).pool.serialize() == managed.serialize()


# ---- the package ----


def test_importing_it_does_not_import_numpy(child):
    code = "import sys, cuelight.managed_memory, cuelight.dtypes; print('numpy' in sys.modules)"
    assert child(code).end() == "False"


def test_the_stub_says_what_is_there():
    import ast
    import inspect
    from pathlib import Path

    from cuelight import managed_memory

    tree = ast.parse(Path(managed_memory.__file__).with_suffix(".pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for cls in (MemoryPool, MemoryAlloc, MemoryAllocations):
        stubbed = {n.name for n in classes[cls.__name__].body if isinstance(n, ast.FunctionDef)}
        there = {n for n in vars(cls) if not n.startswith("_")}
        assert there == {n for n in stubbed if not n.startswith("_")}
        for node in classes[cls.__name__].body:
            actual = inspect.getattr_static(cls, node.name, None) if isinstance(node, ast.FunctionDef) else None
            if inspect.isroutine(actual) and not node.name.startswith("_") and node.name != "allocation_exists":
                a = node.args
                names = [x.arg for x in (*a.args, *a.kwonlyargs, *([a.kwarg] if a.kwarg else []))]
                shown = list(inspect.signature(getattr(cls, node.name)).parameters)
                assert [n for n in names if n != "cls"] == shown, node.name
        for n in there:
            assert inspect.getattr_static(cls, n).__doc__ or getattr(cls, n).__doc__, n
    assert set(managed_memory.__all__) <= set(classes) | {n.target.id for n in tree.body if isinstance(n, ast.AnnAssign)} | {
        a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names
    }
