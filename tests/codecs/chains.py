"""Short names for codecs, and helpers that the tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np

from zarr_s3_async._types import CodecSpec
from zarr_s3_async.codecs import ChunkSpec, Pipeline, build_pipeline

Step = tuple[str, dict[str, Any]]

LITTLE: Step = ("bytes", {"endian": "little"})
BIG: Step = ("bytes", {"endian": "big"})


def specs(*steps: Step | str) -> list[CodecSpec]:
    """Codec specs of (name, configuration) pairs, or of names alone."""
    return [CodecSpec(step) if isinstance(step, str) else CodecSpec(*step) for step in steps]


def pipeline(
    *steps: Step | str, shape: tuple[int, ...] = (4, 6), dtype: Any = "<f4", fill: Any = 0, **options: Any
) -> Pipeline:
    """A pipeline of these steps."""
    return build_pipeline(specs(*steps), ChunkSpec(shape, np.dtype(dtype), fill), **options)


def encodable(line: Pipeline) -> Pipeline:
    """The pipeline; raises the error that forbids it to encode."""
    if line.encode_error is not None:
        raise line.encode_error
    return line


def numbers(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    """Reproducible values of any fixed-size dtype: integers, so that a cast loses nothing."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.names is not None:
        chunk = np.empty(shape, dtype)
        for name in dtype.names:
            chunk[name] = numbers(chunk[name].shape, chunk[name].dtype, seed)
        return chunk
    values = rng.integers(0, 100, shape)
    if dtype.kind in "SU":
        return values.astype(str).astype(dtype)
    if dtype.kind == "V" and dtype.isbuiltin != 2:
        return rng.integers(0, 256, (*shape, dtype.itemsize), dtype=np.uint8).view(dtype)[..., 0]
    if dtype.kind in "mM":
        return values.astype("i8").astype(dtype)
    if dtype.kind == "c":
        return (values + 1j * values[::-1]).astype(dtype)
    return values.astype(dtype)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether both are equal in shape, dtype and every bit."""
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()
