"""codecs/optional.py: codecs of packages that may be missing."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from zarr_s3_async.errors import ChunkDecodeError, MetadataError, UnsupportedFeature

from .chains import encodable, numbers, pipeline, same


@pytest.mark.parametrize(("name", "package"), [("numcodecs.pcodec", "pcodec"), ("numcodecs.zfpy", "zfpy")])
def test_the_error_of_a_missing_package_names_it(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "numcodecs.pcodec", raising=False)
    with pytest.raises(UnsupportedFeature, match=f"'{name}'.*pip install {package}"):
        pipeline(name, dtype="<f4")


class TestPCodec:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("pcodec")

    @pytest.mark.parametrize("dtype", ["<u2", "<i4", "<i8", "<f2", "<f4", "<f8"])
    def test_the_codec_writes_the_bytes_of_numcodecs(self, dtype):
        from numcodecs.pcodec import PCodec

        chunk = numbers((5, 8), dtype)
        line = pipeline(("numcodecs.pcodec", {"level": 5}), shape=(5, 8), dtype=dtype)
        data = line.encode(chunk)
        assert data == PCodec(level=5).encode(chunk)
        assert same(line.decode(data), chunk)
        out = np.empty_like(chunk)
        assert line.decode(data, out) is out
        assert same(out, chunk)

    def test_pcodec_in_v2_follows_the_elements(self):
        chunk = numbers((5, 8), "<f4")
        line = pipeline(("bytes", {"endian": "little"}), "numcodecs.pcodec", shape=(5, 8))
        assert line.encode(chunk) == pipeline("numcodecs.pcodec", shape=(5, 8)).encode(chunk)

    def test_pcodec_keeps_elements_of_the_other_byte_order(self):
        chunk = numbers((5, 8), ">f4")
        line = pipeline("numcodecs.pcodec", shape=(5, 8), dtype=">f4")
        assert same(line.decode(line.encode(chunk), np.empty_like(chunk)), chunk)

    @pytest.mark.parametrize("length", [39, 41, 1, 4000])
    def test_another_number_of_elements_is_refused(self, length):
        data = pipeline("numcodecs.pcodec", shape=(length,)).encode(numbers((length,), "<f4"))
        with pytest.raises(ChunkDecodeError, match=r"'numcodecs.pcodec'"):
            pipeline("numcodecs.pcodec", shape=(5, 8)).decode(data)

    def test_another_type_is_refused(self):
        data = pipeline("numcodecs.pcodec", shape=(5, 8), dtype="<i4").encode(numbers((5, 8), "<i4"))
        with pytest.raises(ChunkDecodeError, match=r"'numcodecs.pcodec'"):
            pipeline("numcodecs.pcodec", shape=(5, 8), dtype="<f4").decode(data)

    def test_a_panic_of_the_library_is_a_decode_error(self, monkeypatch):
        panic = type("PanicException", (BaseException,), {})

        def panics(*_args):
            raise panic("index out of bounds")

        monkeypatch.setattr("pcodec.standalone.simple_decompress_into", panics)
        with pytest.raises(ChunkDecodeError, match="index out of bounds"):
            pipeline("numcodecs.pcodec").decode(b"pco!")

    @pytest.mark.parametrize("options", [{"level": 13}, {"delta_spec": "all"}, {"equal_pages_up_to": 0}, {"x": 1}])
    def test_a_wrong_option_is_named(self, options):
        with pytest.raises(MetadataError, match=f"'{next(iter(options))}'"):
            encodable(pipeline(("numcodecs.pcodec", options)))

    @pytest.mark.parametrize("dtype", ["<M8[ns]", ">M8[D]", "<m8[s]"])
    def test_times_are_stored_as_the_integers_that_count_them(self, dtype):
        chunk = numbers((4, 6), dtype)
        chunk[0, 0] = np.array("NaT", dtype)
        line = pipeline("numcodecs.pcodec", dtype=dtype)
        integers = pipeline("numcodecs.pcodec", dtype="<i8")
        assert bytes(line.encode(chunk)) == bytes(
            integers.encode(chunk.astype(chunk.dtype.newbyteorder("=")).view("i8"))
        )
        assert same(line.decode(line.encode(chunk)), chunk)
        assert same(line.decode(line.encode(chunk), np.empty((4, 6), dtype)), chunk)

    def test_pcodec_refuses_single_bytes(self):
        with pytest.raises(MetadataError, match="16 to 64 bits"):
            pipeline("numcodecs.pcodec", dtype="u1")


class TestZFP:
    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("zfpy")

    @pytest.mark.parametrize("shape", [(9,), (5, 8), (3, 4, 5), (2, 3, 4, 5)])
    @pytest.mark.parametrize(
        "options", [{"mode": 4, "tolerance": 1e-3}, {"mode": 3, "precision": 20}, {"mode": 2, "rate": 20}]
    )
    def test_the_codec_writes_the_bytes_of_numcodecs(self, shape, options):
        from numcodecs.zfpy import ZFPY

        chunk = numbers(shape, "<f8")
        reference = ZFPY(**options)
        line = pipeline(("numcodecs.zfpy", options), shape=shape, dtype="<f8")
        data = line.encode(chunk)
        assert data == reference.encode(chunk)
        assert same(line.decode(data), reference.decode(data).reshape(shape))

    def test_the_header_of_zfp_is_checked(self):
        for shape, dtype in (((8, 5), "<f8"), ((40,), "<f8"), ((5, 8), "<f4"), ((50, 8), "<f8")):
            data = pipeline("numcodecs.zfpy", shape=shape, dtype=dtype).encode(numbers(shape, dtype))
            with pytest.raises(ChunkDecodeError, match=r"'numcodecs.zfpy'.*claims"):
                pipeline("numcodecs.zfpy", shape=(5, 8), dtype="<f8").decode(data)

    def test_truncated_zfp_data_is_not_read_beyond_its_end(self):
        chunk = numbers((64, 64), "<f8")
        line = pipeline(("numcodecs.zfpy", {"tolerance": 1e-9}), shape=(64, 64), dtype="<f8")
        data = line.encode(chunk)
        for length in range(0, len(data), 997):
            try:
                assert line.decode(data[:length]).shape == (64, 64)
            except ChunkDecodeError:
                continue

    @pytest.mark.parametrize(("shape", "dtype"), [((), "<f4"), ((1,) * 5, "<f4"), ((4,), "<f2"), ((4,), "u1")])
    def test_shapes_and_types_without_zfp_support_are_refused(self, shape, dtype):
        with pytest.raises(MetadataError, match=r"'numcodecs.zfpy'"):
            pipeline("numcodecs.zfpy", shape=shape, dtype=dtype)
