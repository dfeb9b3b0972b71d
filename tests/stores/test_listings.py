"""LocalStore and MemoryStore list the same keys: every prefix, every level, for any keys."""

import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_s3_async.stores.local import LocalStore
from zarr_s3_async.stores.memory import MemoryStore

# Characters that sort before and after the slash, so that folders and names interleave.
_parts = st.text("a0-.~é", min_size=1, max_size=3).filter(lambda part: part.strip("."))
_keys = st.lists(_parts, min_size=1, max_size=4).map("/".join)


def _files_only(keys: set[str]) -> list[str]:
    """Keys that can all be files: none is a folder of another."""
    return [key for key in sorted(keys) if not any(other.startswith(key + "/") for other in keys)]


async def _listings(store, keys: list[str], prefixes: set[str]) -> dict:
    for key in keys:
        await store.put(key, key.encode())
    found = {}
    for prefix in prefixes:
        entries = [(entry.key, entry.size) async for entry in store.list_prefix(prefix)]
        level = await store.list_dir(prefix)
        found[prefix] = (entries, level.dirs, [(entry.key, entry.size) for entry in level.entries])
    return found


@settings(max_examples=30)
@given(keys=st.sets(_keys, max_size=12).map(_files_only), other=_keys)
async def test_local_lists_as_memory_does(keys, other):
    prefixes = {key[:at] for key in keys for at in range(len(key) + 1)} | {other, other + "/", ""}
    with tempfile.TemporaryDirectory() as folder:
        assert await _listings(LocalStore(folder), keys, prefixes) == await _listings(MemoryStore(), keys, prefixes)
