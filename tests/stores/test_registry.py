"""The registry of stores: how URLs are resolved, which factories may register, and what is rejected."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async.config import HedgePolicy, Limits, RetryPolicy, S3Config
from zarr_s3_async.errors import ConfigError
from zarr_s3_async.events import Emit
from zarr_s3_async.stores import registry
from zarr_s3_async.stores.base import Store, StoreContext
from zarr_s3_async.stores.local import LocalStore
from zarr_s3_async.stores.memory import MemoryStore
from zarr_s3_async.stores.registry import (
    get_store,
    list_stores,
    open_store,
    register_store,
    split_url,
    unregister_store,
)


@dataclass
class Context:
    s3: S3Config = field(default_factory=S3Config)
    limits: Limits = field(default_factory=Limits)
    requests: Limiter = field(default_factory=lambda: Limiter(8))
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    hedge: HedgePolicy | None = None
    emit: Emit = print
    shared: dict[object, Any] = field(default_factory=dict)
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)


@pytest.fixture
def context() -> Context:
    return Context()


def _factory(url: str, context: StoreContext) -> Store:
    return MemoryStore("of-" + split_url(url)[1])


@pytest.fixture
def registered():
    register_store("test+x", _factory)
    yield "test+x"
    if "test+x" in list_stores():
        unregister_store("test+x")


@pytest.fixture
def installed(monkeypatch):
    """Simulates installed packages with these entry points."""
    monkeypatch.setattr(registry, "_installed", {})

    def install(**values: str | tuple[str, ...]) -> None:
        points = [
            EntryPoint(name, value, registry.ENTRY_POINT_GROUP)
            for name, given in values.items()
            for value in ([given] if isinstance(given, str) else given)
        ]
        monkeypatch.setattr(
            registry, "_entry_points", lambda: EntryPoints(points).select(group=registry.ENTRY_POINT_GROUP)
        )

    return install


# URLs


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://bucket/prefix/x", ("s3", "bucket/prefix/x")),
        ("s3://bucket", ("s3", "bucket")),
        ("file:///a/b c", ("file", "/a/b c")),
        ("memory://name/a%20b?c#d", ("memory", "name/a%20b?c#d")),
    ],
)
def test_a_url_is_split_and_not_decoded(url, parts):
    assert split_url(url) == parts


@pytest.mark.parametrize("where", ["data/array", "/data/array", "", "s3:/bucket", "bucket"])
def test_a_bare_path_is_refused_with_advice(where):
    with pytest.raises(ConfigError, match="write s3://bucket/prefix, or file://"):
        split_url(where)


@pytest.mark.parametrize("where", [Path("/data"), None, 3, b"s3://x"])
def test_a_location_that_is_not_text_is_refused(where):
    with pytest.raises(ConfigError, match="a place is a URL"):
        split_url(where)


@pytest.mark.parametrize("where", ["S3://bucket", "://x", "1a://x", "a b://x"])
def test_a_url_without_a_scheme_is_refused(where):
    with pytest.raises(ConfigError):
        split_url(where)


# Built-ins


def test_the_built_in_schemes_are_listed():
    assert {"s3", "file", "memory"} <= set(list_stores())
    assert list(list_stores()) == sorted(list_stores())


@pytest.mark.parametrize("scheme", ["s3", "file", "memory"])
def test_a_built_in_scheme_cannot_be_replaced(scheme):
    before = get_store(scheme)
    with pytest.raises(ConfigError, match="built in"):
        register_store(scheme, _factory)
    with pytest.raises(ConfigError, match="built in"):
        unregister_store(scheme)
    assert get_store(scheme) is before


def test_an_entry_point_cannot_replace_a_built_in_scheme(installed):
    before = get_store("memory")
    installed(memory="json:loads")
    assert get_store("memory") is before


async def test_memory_urls_of_one_session_share_one_store_per_name(context):
    one = open_store("memory://data/a", context)
    await one.put("b/c", b"x")
    assert await open_store("memory://data", context).get("a/b/c") is not None
    assert await open_store("memory://data/a/b/", context).get("c") is not None
    assert await open_store("memory://other", context).get("a/b/c") is None


async def test_memory_urls_of_two_sessions_are_different_stores(context):
    await open_store("memory://data", context).put("x", b"1")
    assert await open_store("memory://data", Context()).get("x") is None


def test_a_memory_url_needs_a_name(context):
    with pytest.raises(ConfigError, match="names no store"):
        open_store("memory:///a", context)


@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_file_url_opens_a_folder(context, tmp_path, host):
    store = open_store(f"file://{host}{tmp_path}/a%20b", context)
    assert isinstance(store, LocalStore)
    assert store.root == tmp_path / "a b"
    assert open_store(store.url, context).url == store.url


def test_a_file_url_of_another_host_is_refused_with_advice(context):
    with pytest.raises(ConfigError, match="file:///data/array"):
        open_store("file://data/array", context)


def test_an_s3_url_opens_an_s3_store_that_the_session_closes(context):
    store = open_store("s3://some-bucket/a/b/", context)
    assert store.url == "s3://some-bucket/a/b"
    assert isinstance(store, Store)


# Third-party stores


def test_a_registered_factory_opens_its_urls(context, registered):
    assert get_store(registered) is _factory
    assert registered in list_stores()
    assert open_store("test+x://place", context).url == "memory://of-place"


def test_a_scheme_is_unknown_after_it_was_unregistered(registered):
    unregister_store(registered)
    assert registered not in list_stores()
    with pytest.raises(ConfigError, match=r"no store for test\+x://; known: file, http, https, memory, s3"):
        get_store(registered)
    with pytest.raises(ConfigError, match="not registered"):
        unregister_store(registered)


@pytest.mark.parametrize("again", [_factory, lambda url, context: MemoryStore()])
def test_a_scheme_cannot_be_registered_twice(registered, again):
    with pytest.raises(ConfigError, match="registered already"):
        register_store(registered, again)
    assert get_store(registered) is _factory


@pytest.mark.parametrize("scheme", ["", "S3", "a b", "9p", "a://", "a/b", None, 7, Path("x"), "é"])
def test_an_invalid_scheme_is_refused(scheme):
    with pytest.raises(ConfigError, match="a URL scheme is"):
        register_store(scheme, _factory)


@pytest.mark.parametrize("factory", [None, "module:name", MemoryStore("x")])
def test_a_factory_that_cannot_be_called_is_refused(factory):
    with pytest.raises(ConfigError, match="cannot be called"):
        register_store("test+y", factory)
    assert "test+y" not in list_stores()


def test_the_error_of_a_factory_that_returns_no_store_names_it(context, registered):
    unregister_store(registered)
    register_store(registered, lambda url, context: {"not": "a store"})
    with pytest.raises(ConfigError, match=r"the factory of test\+x://"):
        open_store("test+x://place", context)


# Entry points


def test_an_entry_point_is_loaded_on_first_use(installed, context):
    installed(pointed=f"{__name__}:_factory")
    assert "pointed" in list_stores()
    assert registry._installed == {}
    assert open_store("pointed://place", context).url == "memory://of-place"
    assert registry._installed == {"pointed": _factory}


def test_a_registered_store_takes_precedence_over_an_entry_point(installed, registered):
    installed(**{registered: "json:loads"})
    assert get_store(registered) is _factory


def test_a_store_of_an_entry_point_is_not_unregistered(installed):
    installed(pointed=f"{__name__}:_factory")
    get_store("pointed")
    with pytest.raises(ConfigError, match="not registered"):
        unregister_store("pointed")


@pytest.mark.parametrize("value", ["no_such_module_here:x", f"{__name__}:no_such_name", f"{__name__}:Path.nothing"])
def test_the_error_of_a_broken_entry_point_names_it(installed, value):
    installed(broken=value)
    with pytest.raises(ConfigError, match=value) as caught:
        get_store("broken")
    assert caught.value.__cause__ is not None


def test_the_error_of_an_entry_point_that_is_not_callable_names_it(installed):
    installed(broken=f"{__name__}:__doc__")
    with pytest.raises(ConfigError, match="not callable"):
        get_store("broken")


def test_the_error_of_two_packages_with_one_scheme_names_both(installed):
    installed(twice=("json:loads", "json:dumps"))
    with pytest.raises(ConfigError, match=r"json:loads .*json:dumps"):
        get_store("twice")
