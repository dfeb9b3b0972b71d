"""Codecs, which turn stored bytes into elements and back: their registry, and pipelines built from them."""

from .base import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, ChunkSpec, Codec, Cost
from .pipeline import Pipeline, build_pipeline
from .registry import list_codecs, register_codec, unregister_codec
from .shard_format import ShardFormat, ShardLayout

__all__ = [
    "ArrayArrayCodec",
    "ArrayBytesCodec",
    "BytesBytesCodec",
    "ChunkSpec",
    "Codec",
    "Cost",
    "Pipeline",
    "ShardFormat",
    "ShardLayout",
    "build_pipeline",
    "list_codecs",
    "register_codec",
    "unregister_codec",
]
