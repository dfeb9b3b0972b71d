"""The memory of batches, and the objects that the user gets: NumPy arrays, tensors, or the user's own buffers."""

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
"""The user's buffers. Each holds one batch: an array or a tensor, or a mapping of them."""
Targets: TypeAlias = Sequence[Block]
"""NumPy views of a batch, one per field."""

KINDS = ("numpy", "torch", "dlpack")
_SHORT_ROW, _LONG_WINDOW = 16, 16
"""Permuted windows of at least so many rows, of at most so many bytes each, are copied in one piece. They are copied
twice, since NumPy has no `out=` for this, so windows of longer rows would gain nothing."""
_PORTABLE = "biufc"
"""Kinds of dtype that tensors and DLPack support."""


def check_out(out: Any) -> None:
    """Raise ConfigError if this is not a valid value of `out=`."""
    if isinstance(out, str):
        check_choice("out", out, KINDS)
    elif not isinstance(out, list | tuple) or len(out) < 2:  # the user has one, and the loader fills another
        raise ConfigError(
            'out must be "numpy", "torch", "dlpack", or a list of two or more buffers, each an array of a whole batch '
            f"or a dict of them, not {type(out).__name__}"
        )


class BatchMaker:
    """Makes batches of one shape.

    Args:
        fields: The fields of a batch.
        shapes: Shape of one sample, by field.
        dtypes: Dtypes by field.
        batch_size: Samples of a full batch.
        out: `numpy`, `torch`, `dlpack`, or the user's buffers.
        kept_bytes: Maximum bytes of memory that is kept for reuse after the user has dropped a batch.
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
        """Number of the user's buffers; 0 if each batch has its own memory."""
        return len(self._ring)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of a batch."""
        pairs = zip(self._shapes, self.dtypes, strict=True)
        return sum(int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for shape, dtype in pairs)

    def targets(self, number: int, samples: int) -> Targets:
        """Memory for batch `number`, uninitialized."""
        if self._ring:
            return [view[:samples] for view in self._views[number % len(self._views)]]
        pairs = zip(self._shapes, self.dtypes, strict=True)
        return [self._memory.new((samples, *shape), dtype) for shape, dtype in pairs]

    def present(self, number: int, samples: int, targets: Targets) -> Any:
        """The batch as the user gets it: an array or tensor, or a dict of them."""
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
            raise ConfigError(f"{_named(field)} has dtype {dtype}, which out={self._kind!r} does not support")
        return dtype.newbyteorder("=")

    # The user's buffers

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
                raise ConfigError("the buffers of out share memory; give each buffer its own memory")


def _as_numpy(buffer: Any) -> Block:
    """A NumPy view of a buffer, without a copy."""
    if isinstance(buffer, np.ndarray):
        return buffer
    numpy = getattr(buffer, "numpy", None)
    if callable(numpy):  # a tensor in host memory, pinned or not
        try:
            return cast("Block", numpy())
        except (RuntimeError, TypeError) as error:
            raise ConfigError(f"NumPy cannot access a buffer of out: {error}") from error
    raise ConfigError(f"a buffer of out must be a NumPy array or a tensor, not {type(buffer).__name__}")


def _named(field: Field) -> str:
    return "the array" if field.name is None else f"array {field.name!r}"


def import_torch() -> Any:
    """Import PyTorch.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise ConfigError("out='torch' needs PyTorch: pip install 'zarr-s3-async[torch]'") from error
    return torch


def gather(target: Block, block: Block, places: np.ndarray[Any, np.dtype[np.int64]], length: int | None) -> None:
    """Copy rows of a block into a batch: from each position one row, or `length` consecutive rows.

    Args:
        target: The samples of the batch.
        block: Contiguous rows.
        places: The first row of each sample.
        length: Rows of a sample; None: one row, without an axis in the batch.
    """
    if length is None:
        if _consecutive(places):
            target[:] = block[places[0] : places[0] + places.size]
        else:
            # With the default mode, NumPy copies to a buffer first, in case an index is out of bounds.
            block.take(places, axis=0, out=target, mode="clip")
        return
    step = block.strides[0]
    # NumPy makes no array of objects in existing memory, and no view with an offset into an empty one.
    if not block.dtype.hasobject and block.size:
        # Windows that overlap are views of the same rows, so that each is copied as one piece: `take` copies row by
        # row. Not `sliding_window_view`, whose overhead per batch exceeds the gain.
        if _consecutive(places):
            first = int(places[0]) * step
            target[:] = np.ndarray(target.shape, block.dtype, block, first, (step, *block.strides))
            return
        if step <= _SHORT_ROW and length >= _LONG_WINDOW:
            shape = (len(block) - length + 1, length, *block.shape[1:])
            target[:] = np.ndarray(shape, block.dtype, block, 0, (step, *block.strides))[places]
            return
    block.take(places[:, None] + np.arange(length), axis=0, out=target, mode="clip")


def _consecutive(places: np.ndarray[Any, np.dtype[np.int64]]) -> bool:
    return bool(places[-1] - places[0] == places.size - 1 and (places[1:] - places[:-1] == 1).all())
