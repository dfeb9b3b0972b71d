"""The operations of a store on which faults are tested: their results without a fault, and a check of their errors."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Span
from zarr_s3_async.errors import StoreError, ZarrS3Error
from zarr_s3_async.stores.s3.store import S3Store

from ...servers.faults import Fault
from .rig import SECRET, TOKEN, Rig

BODY = b"0123456789" * 100
FOREVER = 1000


class Verb(NamedTuple):
    """One operation of a store, and its result without a fault."""

    operation: str
    run: Callable[[S3Store, Version], Awaitable[Any]]
    right: Any


async def whole_get(store: S3Store, _: Version) -> Any:
    blob = await store.get("k")
    return None if blob is None else (bytes(blob.data), blob.size)


async def ranged_get(store: S3Store, _: Version) -> Any:
    blob = await store.get("k", range=Span(5, 50))
    return None if blob is None else (bytes(blob.data), blob.size)


async def put(store: S3Store, _: Version) -> Any:
    return bool(await store.put("k", BODY))


async def conditional_put(store: S3Store, version: Version) -> Any:
    return bool(await store.put("k", BODY, when=version))


async def delete(store: S3Store, _: Version) -> Any:
    return await store.delete("k")


async def conditional_delete(store: S3Store, version: Version) -> Any:
    return await store.delete("k", when=version)


async def delete_many(store: S3Store, _: Version) -> Any:
    return await store.delete_many(["k", "never"])


async def list_all(store: S3Store, _: Version) -> Any:
    return [entry.key for entry in (await store.list_dir("")).entries]


VERBS = {
    "whole get": Verb("GetObject", whole_get, (BODY, len(BODY))),
    "ranged get": Verb("GetObject", ranged_get, (BODY[5:50], len(BODY))),
    "put": Verb("PutObject", put, True),
    "conditional put": Verb("PutObject", conditional_put, True),
    "delete": Verb("DeleteObject", delete, None),
    "conditional delete": Verb("DeleteObject", conditional_delete, None),
    "delete many": Verb("DeleteObjects", delete_many, None),
    "list": Verb("ListObjectsV2", list_all, ["k"]),
}
READS = ("whole get", "ranged get")
WITH_BODY = (*READS, "list", "delete many")


def by_verb(*rows: tuple[str, Fault, Any], verbs: tuple[str, ...] = tuple(VERBS)) -> Any:
    """Each row with each of these operations."""
    cases = [
        pytest.param(fault, error, VERBS[verb], id=f"{name}-{verb}") for name, fault, error in rows for verb in verbs
    ]
    return pytest.mark.parametrize(("fault", "error", "verb"), cases)


async def version_of(rig: Rig) -> Version:
    blob = await rig.store().get("k")
    assert blob is not None
    rig.forget()
    return blob.version


async def failure(verb: Verb, store: S3Store, version: Version) -> StoreError:
    """The error that the operation raises; checks that it is one of ours, pickles, and contains no secrets."""
    with pytest.raises(ZarrS3Error) as caught:
        await verb.run(store, version)
    error = caught.value
    assert isinstance(error, StoreError)
    assert type(error).__module__ == "zarr_s3_async.errors"
    assert pickle.loads(pickle.dumps(error)).args == error.args
    texts = "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(store)
    assert SECRET not in texts
    assert TOKEN not in texts
    return error
