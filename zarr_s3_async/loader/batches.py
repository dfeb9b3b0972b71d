"""The memory of batches, and what the user sees of it: NumPy arrays, tensors, or buffers of the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from .._options import check_choice
from .._types import Shape
from ..errors import ConfigError
from .feeds import Field
from .memory import BatchMemory, Block

Ring: TypeAlias = Sequence[Any]
"""Buffers of the user's, each what one batch is: an array or a tensor, or a mapping of them."""
Targets: TypeAlias = Sequence[Block]
"""NumPy's view of a batch, one per field."""

KINDS = ("numpy", "torch", "dlpack")
_PORTABLE = "biufc"
"""Kinds of dtype that tensors and DLPack have."""


def check_out(out: Any) -> None:
    """Raise ConfigError for anything that `out=` does not take."""
    if isinstance(out, str):
        check_choice("out", out, KINDS)
    elif not isinstance(out, list | tuple) or len(out) < 2:  # one is with the user, one is filled
        raise ConfigError(
            'out takes "numpy", "torch", "dlpack", or a list of two buffers or more, each an array of a whole batch '
            f"or a dict of them, not {type(out).__name__}"
        )


class BatchMaker:
    """Makes batches of one shape.

    Args:
        fields: Of a batch.
        shapes: Of one sample, by field.
        dtypes: By field.
        batch_size: Samples of a whole batch.
        out: `numpy`, `torch`, `dlpack`, or the buffers.
        kept_bytes: Memory of batches that were dropped that is used again.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        shapes: Sequence[Shape],
        dtypes: Sequence[np.dtype[Any]],
        batch_size: int,
        out: str | Ring,
        kept_bytes: int,
    ) -> None:
        self.fields = fields
        self._shapes = shapes
        self.dtypes: Sequence[np.dtype[Any]] = dtypes
        self._size = batch_size
        self._kind = out if isinstance(out, str) else "ring"
        self._ring: list[list[Any]] = []
        self._views: list[list[Block]] = []
        self._memory = BatchMemory(kept_bytes)
        if self._kind in ("torch", "dlpack"):
            self.dtypes = [self._portable(field, dtype) for field, dtype in zip(fields, dtypes, strict=True)]
        if not isinstance(out, str):
            self._ring = [self._buffers(number, buffer) for number, buffer in enumerate(out)]
            self._views = [[_as_numpy(one) for one in buffers] for buffers in self._ring]
            self._check_ring()

    @property
    def buffers(self) -> int:
        """Buffers of the user's; 0 where each batch has memory of its own."""
        return len(self._ring)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of a batch."""
        pairs = zip(self._shapes, self.dtypes, strict=True)
        return sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in pairs)

    def targets(self, number: int, samples: int) -> Targets:
        """Memory for the batch of this number."""
        if self._ring:
            return [view[:samples] for view in self._views[number % len(self._views)]]
        pairs = zip(self._shapes, self.dtypes, strict=True)
        return [self._memory.new((samples, *shape), dtype) for shape, dtype in pairs]

    def present(self, number: int, samples: int, targets: Targets) -> Any:
        """What the user gets."""
        if self._ring:
            found: list[Any] = [buffer[:samples] for buffer in self._ring[number % len(self._ring)]]
        elif self._kind == "torch":
            torch = import_torch()
            found = [torch.from_numpy(target) for target in targets]
        else:
            found = list(targets)
        if len(found) == 1 and self.fields[0].name is None:
            return found[0]
        return {field.name: one for field, one in zip(self.fields, found, strict=True)}

    def _portable(self, field: Field, dtype: np.dtype[Any]) -> np.dtype[Any]:
        if dtype.kind not in _PORTABLE:
            raise ConfigError(f"{_named(field)} has dtype {dtype}, which out={self._kind!r} cannot hand over")
        return dtype.newbyteorder("=")

    # Buffers of the user's

    def _buffers(self, number: int, buffer: Any) -> list[Any]:
        if self.fields[0].name is None:
            return [buffer]
        names = [field.name for field in self.fields]
        if not isinstance(buffer, Mapping) or set(buffer) != set(names):
            raise ConfigError(f"out[{number}] must be a dict with the keys {', '.join(map(str, names))}")
        return [buffer[name] for name in names]

    def _check_ring(self) -> None:
        for number, views in enumerate(self._views):
            for field, shape, dtype, view in zip(self.fields, self._shapes, self.dtypes, views, strict=True):
                wanted = (self._size, *shape)
                if view.shape != wanted or view.dtype != dtype:
                    raise ConfigError(
                        f"out[{number}] of {_named(field)} must have shape {wanted} and dtype {dtype}, not "
                        f"{view.shape} and {view.dtype}"
                    )
                if not view.flags.writeable or not view.flags.c_contiguous:
                    raise ConfigError(f"out[{number}] of {_named(field)} must be writable and contiguous")
        flat = [view for views in self._views for view in views]
        for at, view in enumerate(flat):
            if any(np.may_share_memory(view, other) for other in flat[:at]):
                raise ConfigError("the buffers of out share memory; give each memory of its own")


def _as_numpy(buffer: Any) -> Block:
    """NumPy's view of a buffer, without a copy."""
    if isinstance(buffer, np.ndarray):
        return buffer
    numpy = getattr(buffer, "numpy", None)
    if callable(numpy):  # a tensor in the memory of this machine, pinned or not
        try:
            return cast("Block", numpy())
        except (RuntimeError, TypeError) as error:
            raise ConfigError(f"a buffer of out cannot be seen by NumPy: {error}") from error
    raise ConfigError(f"a buffer of out is a NumPy array or a tensor, not {type(buffer).__name__}")


def _named(field: Field) -> str:
    return "the array" if field.name is None else f"array {field.name!r}"


def import_torch() -> Any:
    """PyTorch, where it is installed."""
    try:
        import torch
    except ImportError as error:
        raise ConfigError("PyTorch is missing; install it: pip install 'zarr-s3-async[torch]'") from error
    return torch


def gather(target: Block, block: Block, places: np.ndarray[Any, np.dtype[np.int64]], length: int | None) -> None:
    """Copy rows of a block into a batch: from each place one, or `length` of them that follow one another."""
    if length is None:
        if _consecutive(places):
            target[:] = block[places[0] : places[0] + places.size]
        else:
            block.take(places, axis=0, out=target, mode="clip")
        return
    block.take(places[:, None] + np.arange(length), axis=0, out=target, mode="clip")


def _consecutive(places: np.ndarray[Any, np.dtype[np.int64]]) -> bool:
    return bool(places[-1] - places[0] == places.size - 1 and (places[1:] - places[:-1] == 1).all())
