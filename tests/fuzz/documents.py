"""Target: metadata. The first line names the document; a pipeline is built from the result, as for an opened array."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps

import numpy as np

from zarr_s3_async._model import formats
from zarr_s3_async._model.metadata import ArrayMeta
from zarr_s3_async.codecs import ChunkSpec, build_pipeline
from zarr_s3_async.codecs.shard_format import ShardFormat
from zarr_s3_async.errors import MetadataError, UnsupportedFeature, ZarrS3Error

from ..model.documents import URL
from .oracles import Run, bounded, named, watching_memory

_ARRAY = {
    "zarr_format": 2,
    "shape": [4],
    "chunks": [2],
    "dtype": "<i4",
    "fill_value": 0,
    "order": "C",
    "compressor": None,
    "filters": None,
}
BESIDE: dict[str, dict[str, bytes]] = {
    "zarr.json": {},
    ".zarray": {},
    ".zgroup": {},
    ".zmetadata": {},
    ".zattrs": {".zarray": dumps(_ARRAY).encode()},
}
"""Other documents that are stored beside each kind of document."""
_BIG_CHUNK = 2**20
_LONGEST_MESSAGE = 1000


@contextmanager
def target() -> Iterator[Run]:
    texts = {**_ARRAY, "dtype": "|O", "fill_value": "", "filters": [{"id": "vlen-utf8"}]}
    meta = _parsed({".zarray": dumps(texts).encode()})
    assert isinstance(meta, ArrayMeta)
    _build(meta)  # so that imports for arrays of strings do not count as memory of a document
    with watching_memory():
        yield _run


def _run(data: bytes) -> None:
    name, document = named(data)
    if name not in BESIDE:
        return
    with bounded(200 * len(document)):
        meta = _parsed({**BESIDE[name], name: document})
    if isinstance(meta, ArrayMeta):
        assert len(meta.chunks) == len(meta.grid_shape) == meta.ndim
        again = formats.parse_node(formats.dump(meta), url=URL)
        assert again is not None
        assert formats.dump(again) == formats.dump(meta)
        with bounded(200 * len(document)):
            _build(meta)


def _parsed(files: dict[str, bytes]) -> object:
    try:
        return formats.parse_node(files, url=URL)
    except (MetadataError, UnsupportedFeature) as error:
        said = str(error)
    assert URL in said
    assert len(said) < _LONGEST_MESSAGE
    return None


def _build(meta: ArrayMeta) -> None:
    """The codecs that an untrusted document names, with their options."""
    try:
        spec = ChunkSpec(meta.chunks, meta.dtype, meta.fill_value)
        if meta.shards is None:
            line = build_pipeline(meta.codecs, spec)
        else:
            line = ShardFormat.from_spec(meta.codecs[0], ChunkSpec(meta.shards, meta.dtype, meta.fill_value)).inner
    except (MetadataError, UnsupportedFeature):
        return
    if line.nbytes <= _BIG_CHUNK and not meta.dtype.hasobject:
        _decode_anything(line)


def _decode_anything(line: object) -> None:
    for data in (b"", b"\0" * 16, np.arange(64, dtype="u1").tobytes()):
        try:
            line.decode(data)  # type: ignore[attr-defined]  # a Pipeline
        except ZarrS3Error:
            continue
