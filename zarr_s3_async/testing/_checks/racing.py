"""Checks of preconditions with concurrent writers, and of cancelled calls."""

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
    """16 writers create one object at once: one succeeds and its bytes are stored, the others conflict."""

    async def write(number: int) -> bool:
        return not await conflicts(store.put("race/absent", content(64, number), when="absent"))

    won = await at_once([partial(write, n) for n in range(_WRITERS)])
    assert won.count(True) == 1, f"{won.count(True)} writers won"
    assert same((await _read(store, "race/absent")).data, content(64, won.index(True)))


async def check_one_of_many_matching_puts_wins(store: Store) -> None:
    """16 writers replace one version at once: exactly one succeeds."""
    version = await store.put("race/match", b"start")

    async def write(number: int) -> bool:
        return not await conflicts(store.put("race/match", content(64, number), when=version))

    won = await at_once([partial(write, n) for n in range(_WRITERS)])
    assert won.count(True) == 1, f"{won.count(True)} writers won"
    assert same((await _read(store, "race/match")).data, content(64, won.index(True)))


async def check_one_of_many_deletes_wins(store: Store) -> None:
    """16 deletes of one version at once: exactly one succeeds."""
    version = await store.put("race/delete", b"x")

    async def delete() -> bool:
        return not await conflicts(store.delete("race/delete", when=version))

    won = await at_once([delete] * _WRITERS)
    assert won.count(True) == 1, f"{won.count(True)} deletes won"


async def check_no_increment_is_lost(store: Store) -> None:
    """16 writers increment one counter by compare-and-swap, 5 times each; no increment is lost."""
    await store.put("race/counter", b"0000")

    async def increment() -> None:
        while True:
            blob = await _read(store, "race/counter")
            try:
                # Equal sizes, so that versions cannot be derived from the size.
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
    """While one writer repeatedly replaces 256 KiB, every read returns one complete state."""
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
            assert data in states, "a read returned a mixture of states"

    await at_once([write, read, read, read])


async def check_deletes_do_not_disturb_puts_beside_them(store: Store) -> None:
    """While objects of one folder are put and deleted concurrently, a completed put is always readable."""

    async def churn(number: int) -> None:
        for _ in range(10):
            await store.put(f"race/folder/deep/{number}", content(100, number))
            assert same((await _read(store, f"race/folder/deep/{number}")).data, content(100, number))
            await store.delete(f"race/folder/deep/{number}")

    await at_once([partial(churn, n) for n in range(8)])


async def check_a_cancelled_get_leaves_the_store_usable(store: Store) -> None:
    """A get is cancelled once or twice at each of its first steps; the next read is correct."""
    data = content(MIB, 1)
    await store.put("cancel/get", data)
    for cycles in range(12):
        for times in (1, 2):
            await cancelled_after(cycles, lambda: store.get("cancel/get"), times=times)
    assert same((await _read(store, "cancel/get")).data, data)


async def check_a_get_cancelled_in_its_body_writes_no_more(store: Store) -> None:
    """After a cancelled get has returned, the store no longer writes to the sink's memory."""
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
    assert memory.count(0) == len(memory), "the store wrote into the sink's memory after the call had returned"


async def check_a_scope_cancels_a_get(store: Store) -> None:
    """anyio's cancel scopes and `asyncio.timeout` end a get with their own error; the next read is correct."""
    data = content(MIB, 3)
    await store.put("cancel/scope", data)
    for cycles in range(6):
        with anyio.CancelScope() as scope:
            _call_later(cycles, scope.cancel)
            await store.get("cancel/scope")
        try:
            async with asyncio.timeout(0 if cycles % 2 else 1e-4):
                await store.get("cancel/scope")
        except TimeoutError:
            pass
    assert same((await _read(store, "cancel/scope")).data, data)


async def check_a_cancelled_put_is_old_or_new(store: Store) -> None:
    """After a cancelled put, the object is completely old or completely new, and can be written again."""
    old, new = content(MIB, 4), content(MIB, 5)
    for cycles in range(10):
        await store.put("cancel/put", old)
        was_cancelled = await cancelled_after(cycles, lambda: store.put("cancel/put", new))
        data = bytes((await _read(store, "cancel/put")).data)
        assert data in (old, new)
        assert was_cancelled or data == new


async def check_a_cancelled_delete_is_old_or_gone(store: Store) -> None:
    """After a cancelled delete, the object is unchanged or absent, and others in its folder are unchanged."""
    await store.put("cancel/beside", b"stays")
    for cycles in range(6):
        await store.put("cancel/delete", b"x")
        await cancelled_after(cycles, lambda: store.delete("cancel/delete"), times=2)
        blob = await store.get("cancel/delete")
        assert blob is None or same(blob.data, b"x")
    assert same((await _read(store, "cancel/beside")).data, b"stays")


def _call_later(cycles: int, call: Callable[[], None]) -> None:
    """Call `call` after this many further iterations of the event loop."""
    loop = asyncio.get_running_loop()
    if cycles:
        loop.call_soon(_call_later, cycles - 1, call)
    else:
        loop.call_soon(call)
