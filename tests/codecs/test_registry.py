"""codecs/registry.py: the allow-list of codecs, and codecs that users add."""

from __future__ import annotations

import numpy as np
import pytest

from zarr_s3_async.codecs import list_codecs, register_codec, registry, unregister_codec
from zarr_s3_async.errors import ConfigError, MetadataError, UnsupportedFeature

from .chains import LITTLE, numbers, pipeline, same

NAME = "example.xor"


class Xor:
    """A third-party codec for bytes."""

    kind = "bytes->bytes"
    cost = "blocking"

    def __init__(self, configuration, spec):
        self._key = np.uint8(configuration["key"])

    def encoded_size(self, size):
        return size

    def encode(self, data):
        return (np.frombuffer(data, np.uint8) ^ self._key).tobytes()

    def decode(self, data, size, limit, out=None):
        return self.encode(data)


class Negative:
    """A third-party codec for arrays."""

    kind = "array->array"
    cost = "parallel"

    def __init__(self, configuration, spec):
        pass

    def encoded(self, spec):
        return spec

    def encode(self, chunk):
        return -chunk

    def decode(self, chunk):
        return -chunk


class Text:
    """A third-party codec from an array to bytes."""

    kind = "array->bytes"
    cost = "blocking"

    def __init__(self, configuration, spec):
        self.spec = spec

    def encoded_size(self):
        return None

    def encode(self, chunk):
        return " ".join(map(str, chunk.reshape(-1).tolist())).encode()

    def decode(self, data, out=None):
        return np.array(bytes(data).split()).astype(self.spec.dtype).reshape(self.spec.shape)


@pytest.fixture
def registered():
    """A function that registers codecs until the end of the test."""
    names = []

    def add(name, cls):
        register_codec(name, cls)
        names.append(name)

    yield add
    for name in names:
        if name in registry._added:
            unregister_codec(name)


def test_registered_codecs_of_all_three_kinds_work_in_a_chain(registered):
    registered(NAME, Xor)
    registered("example.negative", Negative)
    registered("example.text", Text)
    chunk = numbers((4, 6), "<i4")
    line = pipeline("example.negative", "example.text", (NAME, {"key": 3}), "gzip", dtype="<i4")
    assert same(line.decode(line.encode(chunk)), chunk)
    assert line.cost == "blocking"
    assert pipeline(LITTLE, (NAME, {"key": 3})).encoded_nbytes == 96


def test_a_registered_codec_is_listed_until_it_is_unregistered(registered):
    registered(NAME, Xor)
    assert NAME in list_codecs()
    unregister_codec(NAME)
    assert NAME not in list_codecs()
    with pytest.raises(UnsupportedFeature, match=NAME):
        pipeline(LITTLE, NAME)


def test_names_are_listed_in_order_and_built_in_ones_are_among_them():
    names = list_codecs()
    assert names == tuple(sorted(names))
    assert {"bytes", "zstd", "sharding_indexed", "vlen-utf8", "numcodecs.delta"} <= set(names)


@pytest.mark.parametrize("name", ["zstd", "bytes", "numcodecs.delta"])
def test_built_in_codecs_can_be_neither_replaced_nor_removed(name):
    with pytest.raises(ConfigError, match="exists already"):
        register_codec(name, Xor)
    with pytest.raises(ConfigError, match="built in"):
        unregister_codec(name)


def test_a_codec_name_cannot_be_registered_twice(registered):
    registered(NAME, Xor)
    with pytest.raises(ConfigError, match="exists already"):
        register_codec(NAME, Xor)


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "-a", "a\n", "é", "x" * 129, None, 3, "pickle", "my.Pickle", "numcodecs.pickle2"]
)
def test_invalid_codec_names_are_refused(name):
    with pytest.raises(ConfigError, match="cannot be the name"):
        register_codec(name, Xor)


class NoKind:
    pass


class WrongKind:
    kind = "bytes to bytes"


@pytest.mark.parametrize("cls", [NoKind, WrongKind, Xor({"key": 1}, None), "zstd", None, lambda: None])
def test_a_class_that_is_not_a_codec_is_refused(cls):
    with pytest.raises(ConfigError, match="`kind`"):
        register_codec(NAME, cls)


def test_unregistering_an_unknown_codec_is_an_error():
    with pytest.raises(ConfigError, match="no codec"):
        unregister_codec("example.nothing")


@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle", "Pickle", "numcodecs.PICKLE", "x.pickles", "pickle5"])
def test_pickle_is_refused_in_any_spelling(name):
    with pytest.raises(UnsupportedFeature, match="unpickling"):
        pipeline(LITTLE, name)


@pytest.mark.parametrize("name", ["brotli", "numcodecs.msgpack2", "numcodecs.json2", "ZSTD", "", "numcodecs.vlen-utf8"])
def test_the_error_of_an_unknown_codec_names_it(name):
    with pytest.raises(UnsupportedFeature, match=repr(name)):
        pipeline(LITTLE, name)


def test_a_configuration_refused_by_a_registered_codec_is_a_metadata_error(registered):
    registered(NAME, Xor)
    with pytest.raises(MetadataError, match=f"'{NAME}'") as caught:
        pipeline(LITTLE, NAME)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(MetadataError, match=NAME):
        pipeline(LITTLE, (NAME, {"key": 300}))


def test_a_codec_with_an_invalid_cost_is_refused(registered):
    registered(NAME, type("Dear", (Xor,), {"cost": "much"}))
    with pytest.raises(ConfigError, match="'much'"):
        pipeline(LITTLE, (NAME, {"key": 1}))


class Point:
    """Imitates an entry point of an installed package."""

    def __init__(self, name, load):
        self.name, self.value, self.load = name, f"package:{name}", load


@pytest.fixture
def installed(monkeypatch):
    """A function that makes installed packages offer codecs."""

    def offer(*points):
        monkeypatch.setattr(registry, "_entry_points", lambda: points)

    yield offer
    registry._added.pop(NAME, None)


def test_a_codec_of_an_installed_package_is_loaded_on_first_use(installed):
    loads = []

    def load():
        loads.append(1)
        return Xor

    installed(Point(NAME, load))
    assert NAME in list_codecs()
    assert not loads
    for _ in range(2):
        pipeline(LITTLE, (NAME, {"key": 1}))
    assert len(loads) == 1


def test_a_package_cannot_replace_a_built_in_codec(installed):
    installed(Point("zstd", lambda: pytest.fail("loaded")))
    pipeline(LITTLE, "zstd")


def test_the_error_of_a_package_that_does_not_load_names_it_and_the_cause(installed):
    def load():
        raise ImportError("no such thing")

    installed(Point(NAME, load))
    with pytest.raises(UnsupportedFeature, match=f"{NAME}.*package:.*no such thing") as caught:
        pipeline(LITTLE, NAME)
    assert isinstance(caught.value.__cause__, ImportError)


def test_a_package_that_offers_no_codec_class_is_refused(installed):
    installed(Point(NAME, lambda: NoKind))
    with pytest.raises(UnsupportedFeature, match="`kind`"):
        pipeline(LITTLE, NAME)


def test_entry_points_of_the_documented_group_are_used(monkeypatch):
    groups = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: groups.append(group) or ())
    list_codecs()
    assert groups == ["zarr_s3_async.codecs"]


def test_the_error_of_an_unknown_codec_names_the_nearest_one():
    with pytest.raises(UnsupportedFeature, match="'zstdd' is not known; did you mean 'zstd'"):
        registry.kind_of_codec("zstdd")
