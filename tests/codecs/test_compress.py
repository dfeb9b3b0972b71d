"""codecs/compress.py: zstd, lz4 and blosc."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import LZ4, Blosc, Zstd, blosc

from zarr_s3_async._types import CodecSpec
from zarr_s3_async.codecs import compress
from zarr_s3_async.codecs.base import ChunkSpec
from zarr_s3_async.codecs.registry import build_codec
from zarr_s3_async.errors import ChunkDecodeError, MetadataError

from .chains import LITTLE, encodable, numbers, pipeline, same

CHUNK = numbers((40, 60), "<f4")
DATA = CHUNK.tobytes()


def line(name, configuration=None, **options):
    return pipeline(LITTLE, (name, configuration or {}), shape=CHUNK.shape, **options)


@pytest.mark.parametrize("level", [-5, 0, 3, 22])
@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("name", ["zstd", "numcodecs.zstd"])
def test_zstd_writes_the_bytes_of_numcodecs(name, level, checksum):
    zstd = line(name, {"level": level, "checksum": checksum})
    data = zstd.encode(CHUNK)
    assert data == Zstd(level, checksum).encode(CHUNK)
    assert same(zstd.decode(data), CHUNK)


@pytest.mark.parametrize("acceleration", [0, 1, 9])
def test_lz4_writes_the_bytes_of_numcodecs(acceleration):
    lz4 = line("numcodecs.lz4", {"acceleration": acceleration})
    data = lz4.encode(CHUNK)
    assert data == LZ4(acceleration).encode(CHUNK)
    assert same(lz4.decode(data), CHUNK)


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<f8", "S3", "<M8[s]", "<U2", [("a", "i1"), ("b", "<f4")]], ids=str)
@pytest.mark.parametrize("shuffle", [-1, 0, 1, 2])
@pytest.mark.parametrize("cname", ["blosclz", "lz4", "lz4hc", "zlib", "zstd"])
def test_blosc_shuffles_by_the_size_of_an_element_as_numcodecs_does(cname, shuffle, dtype):
    blosc.use_threads = False
    chunk = numbers((40, 60), dtype)
    config = {"cname": cname, "clevel": 5, "shuffle": shuffle, "blocksize": 0}
    ours = pipeline(("bytes", {"endian": "little"}), ("numcodecs.blosc", config), shape=(40, 60), dtype=dtype)
    data = ours.encode(chunk)
    plain = chunk if chunk.dtype.kind != "M" else chunk.view("i8")
    assert data == Blosc(cname, 5, shuffle, 0).encode(plain)
    assert same(ours.decode(data), chunk)


def test_blosc_after_a_filter_of_bytes_gets_single_bytes():
    ours = pipeline(("numcodecs.shuffle", {"elementsize": 4}), LITTLE, "numcodecs.blosc", shape=CHUNK.shape)
    from numcodecs import Shuffle

    assert ours.encode(CHUNK) == Blosc().encode(Shuffle(4).encode(CHUNK))


@pytest.mark.parametrize(("name", "number"), [("noshuffle", 0), ("shuffle", 1), ("bitshuffle", 2)])
def test_v3_blosc_has_its_shuffle_and_typesize_in_the_document(name, number):
    config = {"cname": "zstd", "clevel": 7, "shuffle": name, "typesize": 2, "blocksize": 512}
    ours = line("blosc", config)
    data = ours.encode(CHUNK)
    assert data == Blosc("zstd", 7, number, 512, typesize=2).encode(CHUNK)
    assert same(ours.decode(data), CHUNK)


@pytest.mark.parametrize("name", ["zstd", "numcodecs.lz4", "blosc", "numcodecs.blosc"])
@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview, lambda data: memoryview(bytearray(data))])
def test_every_kind_of_buffer_is_decoded_into_the_callers_array(name, buffer):
    codec = line(name)
    out = np.empty_like(CHUNK)
    assert codec.decode(buffer(codec.encode(CHUNK)), out) is out
    assert same(out, CHUNK)


@pytest.mark.parametrize("dtype", ["?", "S5", "<U2", "<M8[D]", "<f2", "V3", [("a", "<M8[s]"), ("b", "<i2")]], ids=str)
@pytest.mark.parametrize("name", ["zstd", "numcodecs.lz4", "blosc", "numcodecs.shuffle"])
def test_every_dtype_is_decoded_into_the_callers_array(name, dtype):
    chunk = numbers((7, 5), dtype)
    codec = pipeline(LITTLE, name, shape=(7, 5), dtype=dtype)
    out = np.empty_like(chunk)
    assert codec.decode(codec.encode(chunk), out) is out
    assert same(out, chunk)


class TestZstdFrames:
    """Frames that numcodecs does not write."""

    @pytest.fixture(autouse=True, params=[False, True], ids=["at once", "in pieces"])
    def _way(self, request, monkeypatch):
        """Run each test with the usual way of decoding, and with that for the largest chunks."""
        if request.param:
            monkeypatch.setattr(compress, "_IN_PIECES", 0)
            monkeypatch.setattr(compress, "_PIECE", 100)
            monkeypatch.setattr(compress, "_SMALL", -1)

    @staticmethod
    def of_unknown_size(data: bytes) -> bytes:
        """A frame of raw blocks whose header does not state the length of its content."""
        blocks = [data[at : at + 1000] for at in range(0, len(data), 1000)]
        headers = [(len(block) << 3 | (at == len(blocks) - 1)).to_bytes(3, "little") for at, block in enumerate(blocks)]
        return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(map(bytes.__add__, headers, blocks))

    @staticmethod
    def skippable(payload: bytes) -> bytes:
        return b"\x53\x2a\x4d\x18" + len(payload).to_bytes(4, "little") + payload

    def frames(self, data):
        half = len(data) // 2
        first, second = Zstd().encode(data[:half]), Zstd().encode(data[half:])
        return {
            "unknown": self.of_unknown_size(data),
            "two": first + second,
            "two unknown": self.of_unknown_size(data[:half]) + self.of_unknown_size(data[half:]),
            "known, unknown": first + self.of_unknown_size(data[half:]),
            "unknown, known": self.of_unknown_size(data[:half]) + second,
            "skipped first": self.skippable(b"hello") + Zstd().encode(data),
            "skipped last": Zstd().encode(data) + self.skippable(b""),
            "empty last": Zstd().encode(data) + self.of_unknown_size(b" ")[:6] + b"\x01\x00\x00",
        }

    @pytest.mark.parametrize("into", [False, True])
    def test_frames_of_any_kind_and_number_are_one_chunk(self, into):
        for what, data in self.frames(DATA).items():
            out = np.full_like(CHUNK, -1) if into else None
            assert same(line("zstd").decode(data, out), CHUNK), what

    def test_fewer_or_more_bytes_than_a_chunk_are_refused_in_every_form(self):
        accepted = []
        for wrong in (DATA[:-4], DATA + b"more", DATA * 2):
            for what, data in self.frames(wrong).items():
                with suppress(ChunkDecodeError):
                    accepted.append((what, line("zstd").decode(data)))
        assert not accepted

    def test_frames_of_any_kind_are_decoded_if_only_a_limit_is_known(self):
        codec = pipeline(LITTLE, ("numcodecs.zlib", {}), ("zstd", {}), shape=CHUNK.shape)
        inner = pipeline(LITTLE, ("numcodecs.zlib", {}), shape=CHUNK.shape).encode(CHUNK)
        for what, data in self.frames(inner).items():
            assert same(codec.decode(data), CHUNK), what

    @pytest.mark.parametrize("claimed", [2**40, 2**63, 2**64 - 1])
    def test_a_frame_that_claims_too_much_is_refused_before_memory_is_allocated(self, claimed):
        header = b"\x28\xb5\x2f\xfd\xe0" + claimed.to_bytes(8, "little") + b"\x01\x00\x00"
        for codec in (line("zstd"), pipeline(LITTLE, "gzip", "zstd")):
            # The largest number is the C library's value for an unknown size.
            with pytest.raises(ChunkDecodeError, match="zstd" if claimed == 2**64 - 1 else "claims"):
                codec.decode(header)

    def test_the_size_that_a_frame_reports_is_read_from_all_four_forms_of_the_field(self):
        frames = compress.ZstdFrames()
        for size in (5, 255, 256, 65791, 65792, 2**20):
            assert frames.content_size(Zstd().encode(bytes(size))) == size
            assert frames.bound(Zstd().encode(bytes(size)) * 3, 2**24) == (3 * size, True)
        assert frames.content_size(self.of_unknown_size(b"x" * 10)) == compress.UNKNOWN
        assert frames.bound(self.of_unknown_size(b"x" * 10), 10) == (10, False)
        assert frames.content_size(b"") < compress.UNKNOWN


class TestClaims:
    """Sizes and lengths in untrusted headers."""

    @pytest.mark.parametrize("claimed", [0, 1, 9599, 9601, 2**31 - 1, 2**31, 2**32 - 1])
    def test_lz4_accepts_only_the_size_of_the_chunk(self, claimed):
        data = claimed.to_bytes(4, "little") + line("numcodecs.lz4").encode(CHUNK)[4:]
        with pytest.raises(ChunkDecodeError, match="claims"):
            line("numcodecs.lz4").decode(data)

    def test_lz4_of_unknown_size_accepts_only_sizes_that_its_length_allows(self):
        codec = pipeline("vlen-bytes", "numcodecs.lz4", shape=(1,), dtype=object)
        chunk = np.array([b"abc" * 1000], object)
        assert codec.decode(codec.encode(chunk))[0] == chunk[0]
        with pytest.raises(ChunkDecodeError, match="claims"):
            codec.decode((2**27).to_bytes(4, "little") + bytes(100))

    @pytest.mark.parametrize(("at", "value"), [(4, 0), (4, 9601), (4, 2**32 - 1), (12, 15), (12, 2**31), (12, 0)])
    def test_blosc_accepts_only_the_true_lengths(self, at, value):
        data = bytearray(line("blosc").encode(CHUNK))
        data[at : at + 4] = value.to_bytes(4, "little")
        with pytest.raises(ChunkDecodeError, match="claims"):
            line("blosc").decode(data)

    def test_blosc_blocks_that_do_not_split_evenly_are_refused(self):
        chunk = numbers((3000,), "<u4")
        codec = pipeline(LITTLE, ("blosc", {"cname": "blosclz", "shuffle": "noshuffle"}), shape=(3000,), dtype="<u4")
        data = bytearray(codec.encode(chunk))
        assert not data[2] & 0x12, "this test needs a chunk that blosc splits"
        data[8:12] = (6001).to_bytes(4, "little")
        with pytest.raises(ChunkDecodeError, match="do not split"):
            codec.decode(data)


@pytest.mark.parametrize(
    ("name", "configuration", "key"),
    [
        ("zstd", {"level": 23}, "level"),
        ("zstd", {"level": True}, "level"),
        ("zstd", {"level": 3.0}, "level"),
        ("zstd", {"checksum": 1}, "checksum"),
        ("zstd", {"levle": 1}, "levle"),
        ("blosc", {"cname": "lzo"}, "cname"),
        ("blosc", {"shuffle": 1}, "shuffle"),
        ("blosc", {"clevel": 10}, "clevel"),
        ("blosc", {"typesize": 0}, "typesize"),
        ("blosc", {"blocksize": -1}, "blocksize"),
        ("numcodecs.blosc", {"shuffle": "shuffle"}, "shuffle"),
        ("numcodecs.blosc", {"shuffle": 3}, "shuffle"),
        ("numcodecs.lz4", {"acceleration": "1"}, "acceleration"),
    ],
)
def test_a_wrong_option_is_named_with_its_codec(name, configuration, key):
    with pytest.raises(MetadataError, match=f"'{name}'.*'{key}'"):
        encodable(line(name, configuration))


def test_decoding_blosc_keeps_the_programs_setting_of_threads(monkeypatch):
    monkeypatch.setattr(blosc, "use_threads", True)
    line("blosc")
    assert blosc.use_threads is True
    monkeypatch.setattr(blosc, "use_threads", None)
    line("blosc")
    assert blosc.use_threads is False


def test_small_zstd_data_with_other_than_one_complete_frame_is_handled_like_large_data(monkeypatch):
    """The fast path leaves several frames, truncated ones, trailing bytes and wrong checksums to the general one."""
    codec = build_codec(CodecSpec("zstd", {"level": 1, "checksum": True}), ChunkSpec((64,), np.dtype("u1"), 0)).codec
    data = bytes(range(64))
    whole = codec.encode(data)
    two = codec.encode(data[:40]) + codec.encode(data[40:])
    wrong = [whole[:-1], whole + b"x", whole[:-1] + bytes([whole[-1] ^ 1]), whole[:20], whole + whole]
    assert bytes(codec.decode(whole, 64, 64)) == bytes(codec.decode(two, 64, 64)) == data

    def refused() -> list[bool]:
        accepted = []
        for bad in wrong:
            try:
                codec.decode(bad, 64, 64)
            except Exception:
                accepted.append(True)
            else:
                accepted.append(False)
        return accepted

    quick = refused()
    monkeypatch.setattr("zarr_s3_async.codecs.compress._SMALL", 0)
    assert quick == refused() == [True] * len(wrong)
    monkeypatch.setattr("zarr_s3_async.codecs.compress._IN_PIECES", 0)
    assert bytes(codec.decode(whole, 64, 64)) == data
    assert quick == refused()


def test_zstd_chunks_are_decoded_together_only_if_each_is_exactly_one_undamaged_frame():
    """What one call would not notice: bytes after a frame, and a truncated frame that the next one continues."""
    for after in ((), (("crc32c", {}),)):
        chain = pipeline(LITTLE, ("zstd", {"level": 1, "checksum": True}), *after, shape=CHUNK.shape)
        chunks = [CHUNK, CHUNK[::-1].copy(), np.zeros_like(CHUNK), CHUNK * 2]
        good = [memoryview(chain.encode(chunk)) for chunk in chunks]
        out = np.empty((len(chunks), *CHUNK.shape), CHUNK.dtype)
        assert chain.batch > 1
        assert chain.decode_many(good, out)
        assert same(out, np.stack(chunks))
        for at, whole in enumerate(map(bytes, good)):
            changed = [whole[:length] for length in (0, 1, 4, 5, 7, 8, 9, 12, len(whole) - 4, len(whole) - 1)]
            changed += [whole + b"x", whole + whole, whole[:-1] + bytes([whole[-1] ^ 1]), b"\xff" + whole[1:]]
            for data in changed:
                assert not chain.decode_many([*good[:at], data, *good[at + 1 :]], out), (at, data[:20], len(data))
        assert chain.decode_many(good, out), "no context is left in the middle of a frame"
        assert same(out, np.stack(chunks))


def test_zstd_frames_that_continue_each_other_are_not_decoded_together():
    """Bytes moved across the border of two frames: joined they are as before, but neither is a chunk."""
    chain = line("zstd")
    first, second = chain.encode(CHUNK), chain.encode(CHUNK + 1)
    out = np.empty((2, *CHUNK.shape), CHUNK.dtype)
    for moved in (1, 3, 100):
        assert not chain.decode_many([first[:-moved], first[-moved:] + second], out)
        assert not chain.decode_many([first + second[:moved], second[moved:]], out)


def test_zstd_frames_of_every_kind_give_the_same_together_as_one_by_one():
    chain, frames = line("zstd"), TestZstdFrames().frames(DATA)
    out = np.empty((2, *CHUNK.shape), CHUNK.dtype)
    for what, data in frames.items():
        if chain.decode_many([chain.encode(CHUNK), data], out):
            assert same(out[1], CHUNK), what


@given(st.integers(0, 20000), st.sampled_from([-5, 1, 3, 19]), st.booleans(), st.integers(0, 40), st.integers(0, 2**32))
def test_the_headers_of_zstd_blocks_give_the_end_of_a_frame(words, level, checksum, values, seed):
    data = np.random.default_rng(seed).integers(0, values, words, endpoint=True, dtype="i4").repeat(9).tobytes()
    frame, frames = Zstd(level, checksum).encode(data), compress.ZstdFrames()
    assert frames._is_one_frame(frame, len(data)) or not data
    assert not frames._is_one_frame(frame, len(data) + 1)
    assert not frames._is_one_frame(frame[:-1], len(data))
    assert not frames._is_one_frame(frame + b"\0", len(data))


def test_zstd_frames_of_thousands_of_empty_blocks_are_decoded_one_by_one():
    """Otherwise, whoever writes a shard determines how many headers are walked, on the event loop for small chunks."""
    chain = line("zstd")
    good = bytes(chain.encode(CHUNK))
    header = compress._HEADER_SIZES[good[4]]
    out = np.empty((2, *CHUNK.shape), CHUNK.dtype)
    for empty, together in ((3, True), (5000, False)):
        data = good[:header] + b"\0\0\0" * empty + good[header:]
        assert chain.decode_many([good, data], out) is together
        assert same(chain.decode(data), CHUNK)


def test_many_threads_share_the_contexts_of_a_zstd_codec():
    """No context may be used by two threads at the same time."""
    codec = build_codec(CodecSpec("zstd", {"level": 1}), ChunkSpec((4096,), np.dtype("u1"), 0)).codec
    encoded = [codec.encode(bytes([number]) * 2048 + bytes(range(256)) * 8) for number in range(8)]

    def decode(number: int) -> bool:
        return all(
            bytes(codec.decode(encoded[number], 4096, 4096))[:2048] == bytes([number]) * 2048 for _ in range(300)
        )

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(decode, range(8)))
    assert 1 <= len(codec._frames._idle) <= 8


def test_threads_share_zstd_compression_contexts_which_do_not_change_the_frames():
    compress._compressors._idle.clear()
    codecs = [
        build_codec(CodecSpec("zstd", {"level": level, "checksum": level == 3}), ChunkSpec((2**16,), np.dtype("u1"), 0))
        for level in (1, 3, 3, 5, -2, 0)
    ]
    chunks = [np.random.default_rng(seed).integers(0, 9 + seed, 2**16, "u1") for seed in range(4)]
    first = [[codec.codec.encode(chunk) for chunk in chunks] for codec in codecs]

    def encode(number: int) -> bool:
        order = np.random.default_rng(number).permutation(24)
        return all(codecs[at // 4].codec.encode(chunks[at % 4]) == first[at // 4][at % 4] for at in order)

    with ThreadPoolExecutor(8) as executor:
        assert all(executor.map(encode, range(64)))
    for codec, level, encoded in zip(codecs, (1, 3, 3, 5, -2, 0), first, strict=True):
        for chunk, frame in zip(chunks, encoded, strict=True):
            assert Zstd().decode(frame) == chunk.tobytes()
            assert bytes(codec.codec.decode(frame, 2**16, 2**16)) == chunk.tobytes()
            assert bool(frame[4] & 4) == (level == 3), "the flag of a checksum"
    assert 1 <= len(compress._compressors._idle) <= 4
    assert all(len(idle) <= 8 for idle in compress._compressors._idle.values())


def test_contexts_of_high_levels_and_for_large_chunks_are_not_kept():
    """They take up to 70 MiB."""
    compress._compressors._idle.clear()
    for level, size in ((6, 2**16), (22, 2**16), (3, 2**20 + 1)):
        codec = build_codec(CodecSpec("zstd", {"level": level}), ChunkSpec((size,), np.dtype("u1"), 0)).codec
        assert Zstd().decode(codec.encode(bytes(size))) == bytes(size)
    assert not compress._compressors._idle
