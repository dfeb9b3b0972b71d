"""Checks of put and delete with a single writer."""

# ruff: noqa: S101  # a check is a list of assertions

from __future__ import annotations

from ...stores.base import Store
from .common import MIB, conflicts, content, listed, same

ODD_KEYS = (
    "with space",
    "plus+plus",
    "til~de",
    "per%cent",
    "per%20cent",
    "equals=and&ampersand",
    "quote'\"quote",
    "par(en)[the]{ses}",
    "question?hash#",
    "comma,semi;colon:at@",
    "dollar$bang!star*",
    "ünï/çødé/日本語/🙂",
    "dots/..name/name../...",
    "-dash/_under/.hidden",
    "UPPER/lower",
)


async def _holds(store: Store, key: str, data: bytes) -> bool:
    blob = await store.get(key)
    return blob is not None and same(blob.data, data)


async def check_a_put_replaces(store: Store) -> None:
    """A put replaces all of the object, by longer, shorter and empty contents."""
    for size in (10, 5000, 3, 0, 700):
        await store.put("replaced", content(size, size))
        assert await _holds(store, "replaced", content(size, size))


async def check_versions_change_with_the_content(store: Store) -> None:
    """Every put of different bytes returns a version that the key never had, even if sizes are equal."""
    # Quickly one after the other: a version made of time and size would repeat.
    versions = [await store.put("versions", content(8, seed)) for seed in range(50)]
    assert len(set(versions)) == len(versions)
    blob = await store.get("versions")
    assert blob is not None
    assert blob.version == versions[-1]


async def check_versions_change_across_a_delete(store: Store) -> None:
    """A key that was deleted and stored again with different bytes has another version."""
    # A counter per key would begin again after the delete.
    old = await store.put("again", b"one")
    await store.delete("again")
    assert await store.put("again", b"two") != old


async def check_the_callers_buffer_is_its_own_again(store: Store) -> None:
    """Changing the buffer after the put does not change the object; bytearray and memoryview are accepted."""
    buffer = bytearray(content(3000))
    await store.put("buffer", buffer)
    await store.put("view", memoryview(buffer)[100:200])
    expected = bytes(buffer)
    buffer[:] = bytes(len(buffer))
    assert await _holds(store, "buffer", expected)
    assert await _holds(store, "view", expected[100:200])


async def check_put_absent(store: Store) -> None:
    """A put with `when="absent"` creates an object and never replaces one; after a delete it creates one again."""
    await store.put("absent-put", b"first", when="absent")
    assert await conflicts(store.put("absent-put", b"second", when="absent"))
    assert await _holds(store, "absent-put", b"first")
    await store.delete("absent-put")
    await store.put("absent-put", b"third", when="absent")
    assert await _holds(store, "absent-put", b"third")


async def check_put_match(store: Store) -> None:
    """A conditional put replaces exactly the given version and returns the new one."""
    first = await store.put("match", b"first")
    second = await store.put("match", b"second", when=first)
    assert second != first
    assert await conflicts(store.put("match", b"lost", when=first))
    assert await _holds(store, "match", b"second")
    await store.put("match", b"third", when=second)
    assert await _holds(store, "match", b"third")


async def check_the_version_of_a_read_can_be_named(store: Store) -> None:
    """The versions of a read and of a listing are valid as preconditions."""
    await store.put("named", b"0123456789")
    blob = await store.get("named")
    assert blob is not None
    await store.put("named", b"abcdefghij", when=blob.version)
    entries = await listed(store, "named")
    assert [(e.key, e.size) for e in entries] == [("named", 10)]
    await store.put("named", b"klmnopqrst", when=entries[0].version)
    await store.delete("named", when=(await listed(store, "named"))[0].version)
    assert await store.get("named") is None


async def check_put_match_of_an_absent_object_is_a_conflict(store: Store) -> None:
    """A conditional put of an absent object raises Conflict and creates nothing."""
    version = await store.put("gone", b"x")
    await store.delete("gone")
    assert await conflicts(store.put("gone", b"y", when=version))
    assert await store.get("gone") is None


async def check_delete(store: Store) -> None:
    """A delete removes the object; an absent one is accepted."""
    await store.put("deleted", b"x")
    await store.delete("deleted")
    assert await store.get("deleted") is None
    assert await listed(store, "deleted") == []
    await store.delete("deleted")
    await store.delete("no/such/folder/deleted")


async def check_conditional_delete(store: Store) -> None:
    """A conditional delete removes exactly the given version; otherwise it raises Conflict and changes nothing."""
    old = await store.put("cond", b"one")
    new = await store.put("cond", b"two")
    assert await conflicts(store.delete("cond", when=old))
    assert await _holds(store, "cond", b"two")
    await store.delete("cond", when=new)
    assert await store.get("cond") is None
    assert await conflicts(store.delete("cond", when=new))
    assert await conflicts(store.delete("no/such/folder/cond", when=new))


async def check_odd_keys(store: Store) -> None:
    """Characters that are special in URLs, XML or shells are valid in keys, and different keys stay different."""
    for number, key in enumerate(ODD_KEYS):
        version = await store.put(f"odd/{key}", content(40, number))
        # Replaced under its version: the two requests must name the same object.
        await store.put(f"odd/{key}", content(41, number), when=version)
    for number, key in enumerate(ODD_KEYS):
        assert await _holds(store, f"odd/{key}", content(41, number)), key
    assert [entry.key for entry in await listed(store, "odd/")] == sorted(f"odd/{key}" for key in ODD_KEYS)
    await store.delete_many(f"odd/{key}" for key in ODD_KEYS)
    assert await listed(store, "odd/") == []


async def check_a_big_put(store: Store) -> None:
    """8 MiB are replaced by 8 MiB, with a precondition."""
    first = await store.put("big-put", content(8 * MIB, 1))
    await store.put("big-put", content(8 * MIB, 2), when=first)
    assert await _holds(store, "big-put", content(8 * MIB, 2))
