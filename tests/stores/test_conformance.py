"""The built-in stores that need no server pass the conformance suite of the Store protocol."""

import inspect

import pytest

from zarr_s3_async.stores.base import Listable, Readable, Store, Writable
from zarr_s3_async.stores.local import LocalStore
from zarr_s3_async.stores.memory import MemoryStore
from zarr_s3_async.testing import CHECKS, FaultyStore, check_name


@pytest.fixture(params=["memory", "memory below a folder", "local", "faulty without faults"])
def store(request, tmp_path) -> Store:
    return {
        "memory": MemoryStore,
        "memory below a folder": lambda: MemoryStore().below("some/folder"),
        "local": lambda: LocalStore(tmp_path / "not made yet"),
        "faulty without faults": lambda: FaultyStore(MemoryStore()),
    }[request.param]()


@pytest.mark.parametrize("check", CHECKS, ids=check_name)
async def test_the_store_passes_the_conformance_check(check, store):
    await check(store)


@pytest.mark.parametrize("cls", [MemoryStore, LocalStore, FaultyStore])
def test_every_verb_has_the_signature_of_the_protocol(cls):
    """Parameters have the same names, kinds and defaults, so calls work with every store."""
    for protocol in (Readable, Writable, Listable):
        for name, verb in vars(protocol).items():
            if not name.startswith("_"):
                wanted, found = inspect.signature(verb), inspect.signature(getattr(cls, name))
                assert list(found.parameters.values()) == list(wanted.parameters.values()), name


@pytest.mark.parametrize("cls", [MemoryStore, LocalStore, FaultyStore])
def test_the_class_satisfies_the_store_protocol(cls, tmp_path):
    store = {MemoryStore: MemoryStore, LocalStore: lambda: LocalStore(tmp_path)}.get(
        cls, lambda: FaultyStore(MemoryStore())
    )()
    assert isinstance(store, Store)
    assert not store.url.endswith("/")
