"""What preconditions promise to many writers at once, and what a cancelled call leaves behind."""

# ruff: noqa: S101  # a check is a list of assertions

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import anyio

from ...errors import Conflict
from ...stores.base import Blob, Store
from .common import MIB, at_once, cancelled_after, conflicts, content, same

_WRITERS = 16
_INCREMENTS = 5


async def _read(store: Store, key: str) -> Blob:
    blob = await store.get(key)
    assert blob is not None
    return blob


async def check_one_of_many_absent_puts_wins(store: Store) -> None:
    """16 writers make one object at once: one succeeds, the others conflict, and its bytes are there."""

    async def write(number: int) -> bool:
        return not await conflicts(store.put("race/absent", content(64, number), when="absent"))

    won = await at_once([partial(write, n) for n in range(_WRITERS)])
    assert won.count(True) == 1, f"{won.count(True)} writers won"
    assert same((await _read(store, "race/absent")).data, content(64, won.index(True)))


async def check_one_of_many_matching_puts_wins(store: Store) -> None:
    """16 writers replace one version at once: one succeeds."""
    version = await store.put("race/match", b"start")

    async def write(number: int) -> bool:
        return not await conflicts(store.put("race/match", content(64, number), when=version))

    won = await at_once([partial(write, n) for n in range(_WRITERS)])
    assert won.count(True) == 1, f"{won.count(True)} writers won"
    assert same((await _read(store, "race/match")).data, content(64, won.index(True)))


async def check_one_of_many_deletes_wins(store: Store) -> None:
    """16 deletes of one version at once: one succeeds."""
    version = await store.put("race/delete", b"x")

    async def delete() -> bool:
        return not await conflicts(store.delete("race/delete", when=version))

    won = await at_once([delete] * _WRITERS)
    assert won.count(True) == 1, f"{won.count(True)} deletes won"


async def check_no_increment_is_lost(store: Store) -> None:
    """16 writers add to one counter by compare-and-swap, 5 times each, and it counts them all."""
    await store.put("race/counter", b"0000")

    async def increment() -> None:
        while True:
            blob = await _read(store, "race/counter")
            try:
                # Equal sizes, so that no version can tell states apart by size.
                await store.put("race/counter", f"{int(bytes(blob.data)) + 1:04}".encode(), when=blob.version)
            except Conflict:
                continue
            return

    async def write() -> None:
        for _ in range(_INCREMENTS):
            await increment()

    await at_once([write] * _WRITERS)
    assert int(bytes((await _read(store, "race/counter")).data)) == _WRITERS * _INCREMENTS


async def check_readers_see_old_or_new(store: Store) -> None:
    """While one writer replaces 256 KiB again and again, every read is one of its states, whole."""
    states = [content(MIB // 4, seed) for seed in range(4)]
    await store.put("race/torn", states[0])
    writing = True

    async def write() -> None:
        nonlocal writing
        for number in range(12):
            await store.put("race/torn", states[number % 4])
        writing = False

    async def read() -> None:
        while writing:
            data = bytes((await _read(store, "race/torn")).data)
            assert data in states, "a read gave a mixture"

    await at_once([write, read, read, read])


async def check_deletes_do_not_disturb_puts_beside_them(store: Store) -> None:
    """Objects of one folder come and go at once; a put that has returned is there."""

    async def churn(number: int) -> None:
        for _ in range(10):
            await store.put(f"race/folder/deep/{number}", content(100, number))
            assert same((await _read(store, f"race/folder/deep/{number}")).data, content(100, number))
            await store.delete(f"race/folder/deep/{number}")

    await at_once([partial(churn, n) for n in range(8)])


async def check_a_cancelled_get_leaves_the_store_usable(store: Store) -> None:
    """Cancelled once or twice at every early step, whole and ranged; the next read is right."""
    data = content(MIB, 1)
    await store.put("cancel/get", data)
    for cycles in range(12):
        for times in (1, 2):
            await cancelled_after(cycles, lambda: store.get("cancel/get"), times=times)
    assert same((await _read(store, "cancel/get")).data, data)


async def check_a_get_cancelled_in_its_body_writes_no_more(store: Store) -> None:
    """Once the call has left, the sink's memory is the caller's alone."""
    data = content(4 * MIB, 2)
    await store.put("cancel/body", data)
    task = asyncio.current_task()
    assert task is not None
    memory = bytearray(len(data))

    def sink(_length: int) -> memoryview:
        asyncio.get_running_loop().call_soon(task.cancel)
        return memoryview(memory)

    try:
        await store.get("cancel/body", sink=sink)
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        task.uncancel()
    memory[:] = bytes(len(data))
    await asyncio.sleep(0.05)  # time for background work that was left running to show
    assert same((await _read(store, "cancel/body")).data, data)
    assert memory.count(0) == len(memory), "the store wrote into the sink's memory after the call had left"


async def check_a_scope_cancels_a_get(store: Store) -> None:
    """The cancel scopes of anyio and `asyncio.timeout` end a call as themselves; the next read is right."""
    data = content(MIB, 3)
    await store.put("cancel/scope", data)
    for cycles in range(6):
        with anyio.CancelScope() as scope:
            _meanwhile(cycles, scope.cancel)
            await store.get("cancel/scope")
        try:
            async with asyncio.timeout(0 if cycles % 2 else 1e-4):
                await store.get("cancel/scope")
        except TimeoutError:
            pass
    assert same((await _read(store, "cancel/scope")).data, data)


async def check_a_cancelled_put_is_old_or_new(store: Store) -> None:
    """Whole in either case, and the key can be written again."""
    old, new = content(MIB, 4), content(MIB, 5)
    for cycles in range(10):
        await store.put("cancel/put", old)
        was_cancelled = await cancelled_after(cycles, lambda: store.put("cancel/put", new))
        data = bytes((await _read(store, "cancel/put")).data)
        assert data in (old, new)
        assert was_cancelled or data == new


async def check_a_cancelled_delete_is_old_or_gone(store: Store) -> None:
    """And nothing else of the folder is touched."""
    await store.put("cancel/beside", b"stays")
    for cycles in range(6):
        await store.put("cancel/delete", b"x")
        await cancelled_after(cycles, lambda: store.delete("cancel/delete"), times=2)
        blob = await store.get("cancel/delete")
        assert blob is None or same(blob.data, b"x")
    assert same((await _read(store, "cancel/beside")).data, b"stays")


def _meanwhile(cycles: int, strike: Callable[[], None]) -> None:
    """Call `strike` after so many further cycles of the loop."""
    loop = asyncio.get_running_loop()
    if cycles:
        loop.call_soon(_meanwhile, cycles - 1, strike)
    else:
        loop.call_soon(strike)
