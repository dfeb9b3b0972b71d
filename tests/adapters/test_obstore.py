"""Stores over obstore pass the conformance suite, except for the checks that the page excludes for a backend."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

import zarr_s3_async as zs
from zarr_s3_async.byte_range import Span, Suffix
from zarr_s3_async.testing import CHECKS, check_name

backends = pytest.importorskip("obstore.store")
from obstore.exceptions import UnknownConfigurationKeyError  # noqa: E402  # behind the skip

from zarr_s3_async.adapters.obstore import ObstoreStore  # noqa: E402  # behind the skip

PAGE = Path(__file__).parents[2] / "docs/obstore.md"


def missing(kind: str) -> Mapping[str, str]:
    """Checks that a backend cannot pass according to the page, each with its reason."""
    section = PAGE.read_text().partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))


def made(kind: str, request: pytest.FixtureRequest) -> ObstoreStore:
    if kind == "memory":
        return ObstoreStore(backends.MemoryStore())
    if kind == "local":
        folder = request.getfixturevalue("tmp_path") / "store"
        return ObstoreStore(backends.LocalStore(str(folder), mkdir=True))
    server = request.getfixturevalue("seaweed")
    config = server.s3_config()
    return ObstoreStore(
        backends.S3Store(
            server.bucket,
            prefix=f"obstore/{token_hex(6)}",
            endpoint=config.endpoint_url,
            region="us-east-1",
            access_key_id=config.access_key_id,
            secret_access_key=config.secret_access_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
    )


@pytest.mark.integration
@pytest.mark.parametrize("check", CHECKS, ids=check_name)
@pytest.mark.parametrize("kind", ["memory", "local", "s3"])
async def test_a_backend_passes_exactly_the_checks_not_excluded(
    kind: str, check: Any, request: pytest.FixtureRequest
) -> None:
    """A check that the page excludes must fail; otherwise the page is wrong."""
    store = made(kind, request)
    if check_name(check) not in missing(kind):
        await check(store)
        return
    with pytest.raises((AssertionError, zs.ZarrS3Error, ExceptionGroup)):
        await check(store)


async def test_different_stores_of_the_same_name_share_nothing() -> None:
    """Each MemoryStore is a location of its own; so is a bucket at another endpoint. Another key is another reader."""
    keep = [backends.MemoryStore() for _ in range(2)]
    async with zs.Session(cache=zs.CacheSize(chunks=2**20)) as session:
        arrays = [await session.create_array(ObstoreStore(store), path="a", shape=4, dtype="i4") for store in keep]
        for value, array in enumerate(arrays):
            await array[...].set(value)
        for value, array in enumerate((*arrays, *arrays)):
            assert (await array[...]).tolist() == [value % 2] * 4
        # A second wrapper of a store is the same location: writes through it are seen through the first.
        again = await session.open_array(ObstoreStore(keep[0], url="other://name"), path="a")
        await again[...].set(7)
        assert (await arrays[0][...]).tolist() == [7] * 4

    def s3(endpoint: str, key: str) -> ObstoreStore:
        config = {"endpoint": endpoint, "region": "us-east-1", "access_key_id": key, "secret_access_key": "hidden"}
        return ObstoreStore(backends.S3Store("b", config=config))

    kept = s3("http://one:1", "k"), s3("http://two:1", "k"), s3("http://one:1", "l"), s3("http://one:1", "k")
    assert kept[0].place != kept[1].place
    assert kept[0].place == kept[2].place == kept[3].place
    assert kept[0].owner != kept[2].owner
    assert kept[0].owner == kept[3].owner
    assert "hidden" not in kept[0].place
    azure = [backends.AzureStore("b", account_name="a", use_emulator=emulated) for emulated in (True, False)]
    assert len({ObstoreStore(store).place for store in azure}) == 2
    web = [ObstoreStore(backends.HTTPStore.from_url(f"http://{host}/p")) for host in ("one", "two")]
    assert [store.url for store in web] == ["obstore+http://one/p", "obstore+http://two/p"]


def test_another_name_of_the_option_endpoint_is_another_place() -> None:
    try:
        stores = [backends.S3Store("b", config={"aws_endpoint_url_s3": f"http://{host}:1"}) for host in "ab"]
    except UnknownConfigurationKeyError:
        pytest.skip("this obstore has no option endpoint_url_s3")
    assert len({ObstoreStore(store).place for store in stores}) == 2


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AWS_ENDPOINT_URL_S3"])
def test_stores_made_under_different_environments_share_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore shows no option that it takes from the environment: its stores are equal."""

    def made(value: str, endpoint: str | None = None) -> ObstoreStore:
        monkeypatch.setenv(name, value)
        return ObstoreStore(backends.S3Store("b", region="r", **({} if endpoint is None else {"endpoint": endpoint})))

    one, two, again = made("http://one:1"), made("http://two:1"), made("http://one:1")
    assert one._store == two._store
    assert one.place != two.place
    assert one.owner != two.owner
    assert one != two
    assert (one.place, one.owner) == (again.place, again.owner)
    assert one == again
    # The same store has its first identity under any environment.
    monkeypatch.setenv(name, "http://three:1")
    assert ObstoreStore(one._store) == one
    assert ObstoreStore(one._store).place == one.place
    # An option that is given comes before the environment.
    given = [made(f"http://{host}:1", "http://given:1") for host in "ab"]
    assert given[0].place == given[1].place


@pytest.mark.parametrize(
    ("backend", "options", "name", "values"),
    [
        ("S3Store", {"endpoint": "http://given:1", "region": "r"}, "AWS_BUCKET", ("one", "two")),
        (
            "AzureStore",
            {"container_name": "c", "account_name": "a"},
            "AZURE_STORAGE_ENDPOINT",
            ("http://one", "http://two"),
        ),
        ("AzureStore", {"container_name": "c", "account_name": "a"}, "AZURE_STORAGE_USE_EMULATOR", ("true", "false")),
        ("AzureStore", {"account_name": "a"}, "AZURE_CONTAINER_NAME", ("one", "two")),
    ],
    ids=["bucket", "endpoint", "emulator", "container"],
)
def test_one_option_that_is_given_does_not_hide_another_of_the_environment(
    backend: str, options: dict[str, str], name: str, values: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = []
    for value in values:
        monkeypatch.setenv(name, value)
        stores.append(ObstoreStore(getattr(backends, backend)(config=options)))
    assert stores[0].place != stores[1].place


@pytest.mark.parametrize(("backend", "name"), [("GCSStore", "SERVICE_ACCOUNT"), ("AzureStore", "IDENTITY_ENDPOINT")])
def test_variables_without_the_prefix_of_the_backend_are_credentials_too(
    backend: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = []
    for number in "12":
        account = tmp_path / f"{number}.json"
        account.write_text(
            json.dumps({"private_key": "", "private_key_id": "", "client_email": "", "disable_oauth": True})
        )
        monkeypatch.setenv(name, str(account))
        config = {"account_name": "a"} if backend == "AzureStore" else {}
        stores.append(ObstoreStore(getattr(backends, backend)("b", config=config)))
    assert stores[0].place == stores[1].place
    assert stores[0].owner != stores[1].owner


def test_threads_that_make_stores_get_the_identity_of_their_own() -> None:
    kept: list[tuple[object, ObstoreStore]] = []

    def make(number: int) -> None:
        for at in range(100):
            store = backends.S3Store(f"bucket-{number}-{at}", region="r")
            kept.append((store, ObstoreStore(store)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(make, range(8)))
    finally:
        sys.setswitchinterval(before)
    assert len({made.owner for _, made in kept}) == len(kept)
    assert all(ObstoreStore(store) == made for store, made in kept)


def test_stores_made_with_different_credentials_of_the_environment_have_different_owners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stores = []
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    for key in "kl":
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key * 9)
        stores.append(ObstoreStore(backends.S3Store("b", region="r")))
    assert stores[0].place == stores[1].place
    assert stores[0].owner != stores[1].owner
    assert "kkk" not in stores[0].place


@pytest_asyncio.fixture
async def session() -> AsyncIterator[zs.Session]:
    async with zs.Session() as session:
        yield session


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["memory", "local", "s3"])
async def test_arrays_can_be_written_and_read(kind: str, session: zs.Session, request: pytest.FixtureRequest) -> None:
    store = made(kind, request)
    data = np.arange(600, dtype="f4").reshape(20, 30)
    array = await session.create_array(store, path="a", shape=data.shape, chunks=(5, 5), shards=(10, 10), dtype="f4")
    await array.set_slice(data, (0, 0))
    again = await session.open_array(store, path="a")
    assert np.array_equal(await again[3:17, 4:29], data[3:17, 4:29])
    if kind != "local":  # it has no conditional put
        await again.set_slice(0, (1, 1), (2, 2))
        assert (await again[1, 1]) == 0


@pytest.mark.integration
async def test_a_missing_bucket_is_an_error_and_no_absent_object(seaweed: Any) -> None:
    config = seaweed.s3_config()
    store = ObstoreStore(
        backends.S3Store(
            "there-is-no-such-bucket",
            endpoint=config.endpoint_url,
            region="us-east-1",
            access_key_id=config.access_key_id,
            secret_access_key=config.secret_access_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
    )
    for wanted in (None, Span(0, 5), Suffix(3)):
        with pytest.raises(zs.BucketNotFound):
            await store.get("x", range=wanted)


@pytest.mark.parametrize(
    ("store", "options"), [("s3://bucket/x", {}), (None, {}), (backends.MemoryStore(), {"url": "x"})]
)
def test_an_object_that_is_not_an_obstore_store_is_refused(store: Any, options: dict[str, Any]) -> None:
    with pytest.raises(zs.ConfigError):
        ObstoreStore(store, **options)


def test_an_obstore_store_shows_its_url() -> None:
    store = backends.S3Store("bucket", prefix="some/path", region="us-east-1", access_key_id="A", secret_access_key="S")
    assert ObstoreStore(store).url == "obstore+s3://bucket/some/path"
    assert ObstoreStore(store, url="gs://other/").url == "gs://other"
    assert ObstoreStore(backends.MemoryStore()) != ObstoreStore(backends.MemoryStore())
    assert ObstoreStore(store) == ObstoreStore(store)


def test_a_blocking_handle_of_an_object_cannot_be_pickled() -> None:
    """Before, it was pickled, and failed where it was unpickled."""
    store = ObstoreStore(backends.MemoryStore())
    array = zs.blocking.create_array(store, path="a", shape=(2,), dtype="i4")
    group = zs.blocking.create_group(store, path="g")
    for handle in (array, group):
        with pytest.raises(TypeError, match="an object of this process"):
            pickle.dumps(handle)
