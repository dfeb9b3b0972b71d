"""numcodecs' codecs that move bytes about: shuffle and base64."""

from __future__ import annotations

from base64 import b64decode, standard_b64encode
from typing import Final

import numpy as np

from .base import Array, Bytes, ChunkSpec
from .options import Options


class Shuffle:
    """The first bytes of all elements, then the second bytes of all, and so on."""

    kind: Final = "bytes->bytes"
    cost: Final = "parallel"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        self._element = max(1, options.integer("elementsize", 0, 2**16, spec.dtype.itemsize))

    def encoded_size(self, size: int) -> int:
        return size

    def encode(self, data: Bytes) -> Bytes:
        shuffled = np.empty(self._elements(data) * self._element, np.uint8)
        np.copyto(shuffled.reshape(self._element, -1), np.frombuffer(data, np.uint8).reshape(-1, self._element).T)
        return shuffled

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        if len(data) != size and (size is not None or len(data) > limit):
            raise ValueError(f"{len(data)} bytes, and at most {limit} can be")
        memory = np.empty(self._elements(data) * self._element, np.uint8) if out is None else out
        elements = memory.reshape(-1).view(np.uint8).reshape(-1, self._element)
        np.copyto(elements, np.frombuffer(data, np.uint8).reshape(self._element, -1).T)
        return memory

    def _elements(self, data: Bytes) -> int:
        count, rest = divmod(len(data), self._element)
        if rest:
            raise ValueError(f"{len(data)} bytes are not whole elements of {self._element}")
        return count


class Base64:
    """The standard alphabet, with padding and without line breaks."""

    kind: Final = "bytes->bytes"
    cost: Final = "blocking"

    def __init__(self, _options: Options, _spec: ChunkSpec) -> None:
        pass

    def encoded_size(self, size: int) -> int:
        return -(-size // 3) * 4

    def encode(self, data: Bytes) -> bytes:
        return standard_b64encode(data)

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:  # noqa: ARG002  nothing to write into
        if len(data) > self.encoded_size(limit):
            raise ValueError(f"{len(data)} letters, and at most {self.encoded_size(limit)} can be")
        decoded = b64decode(data, validate=True)
        if size is not None and len(decoded) != size:
            raise ValueError(f"{len(decoded)} bytes, and a chunk has {size}")
        return decoded
