"""codecs/filters.py and codecs/stdlib.py: shuffle and base64."""

from __future__ import annotations

import numcodecs
import numpy as np
import pytest

from zarr_s3_async.errors import ChunkDecodeError, ChunkError, MetadataError

from .chains import LITTLE, numbers, pipeline, same


@pytest.mark.parametrize("element", [0, 1, 2, 4, 8, 12])
def test_shuffle_writes_the_bytes_of_numcodecs(element):
    chunk = numbers((6, 10), "<i4")
    line = pipeline(LITTLE, ("numcodecs.shuffle", {"elementsize": element}), shape=(6, 10), dtype="<i4")
    data = line.encode(chunk)
    assert bytes(data) == numcodecs.Shuffle(element).encode(chunk).tobytes()
    out = np.empty_like(chunk)
    assert line.decode(data, out) is out
    assert same(out, chunk)
    assert same(line.decode(data), chunk)


def test_shuffle_uses_the_size_of_the_arrays_elements_by_default():
    chunk = numbers((6, 10), "<f8")
    line = pipeline(LITTLE, "numcodecs.shuffle", shape=(6, 10), dtype="<f8")
    assert bytes(line.encode(chunk)) == numcodecs.Shuffle(8).encode(chunk).tobytes()


def test_shuffle_refuses_incomplete_elements():
    with pytest.raises(ChunkError, match=r"'numcodecs.shuffle'.*multiple of the element size"):
        pipeline("bytes", ("numcodecs.shuffle", {"elementsize": 4}), shape=(5,), dtype="u1").encode(np.zeros(5, "u1"))


def test_shuffled_strings_of_variable_length_are_decoded():
    chunk = np.array(["a", "bcd"], object)
    line = pipeline("vlen-utf8", ("numcodecs.shuffle", {"elementsize": 2}), "gzip", shape=(2,), dtype=object)
    assert line.decode(line.encode(chunk)).tolist() == ["a", "bcd"]


@pytest.mark.parametrize("length", [1, 2, 3, 100])
def test_base64_writes_the_bytes_of_numcodecs(length):
    chunk = numbers((length,), "u1")
    line = pipeline("bytes", "numcodecs.base64", shape=(length,), dtype="u1")
    data = line.encode(chunk)
    assert data == numcodecs.base64.Base64().encode(chunk)
    assert line.encoded_nbytes == len(data)
    assert same(line.decode(data), chunk)


@pytest.mark.parametrize("data", [b"", b"AAA", b"AA=A", b"A A=", b"AAAA", b"AA==" * 100])
def test_invalid_base64_is_refused(data):
    with pytest.raises(ChunkDecodeError, match=r"'numcodecs.base64'"):
        pipeline("bytes", "numcodecs.base64", shape=(1,), dtype="u1").decode(data)


@pytest.mark.parametrize("size", [-1, 2**17, True, 4.0])
def test_shuffle_refuses_an_invalid_size(size):
    with pytest.raises(MetadataError, match=r"'numcodecs.shuffle'.*'elementsize'"):
        pipeline(LITTLE, ("numcodecs.shuffle", {"elementsize": size}))
