"""A View is a selection that was checked and not yet read: await it, read it into memory of yours, or set it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NoReturn

import numpy as np

from ._engine import operations
from ._engine.explain import Explanation, explain
from ._engine.runtime import Layout, Runtime
from ._options import check_missing, check_timeout
from ._plan.selection import Selection
from ._types import Missing, Shape


class View:
    """What `array[selection]` gives. No request is made until it is awaited, read or set."""

    __slots__ = ("_layout", "_missing", "_runtime", "_selection", "_write_empty")

    def __init__(
        self, runtime: Runtime, layout: Layout, selection: Selection, *, missing: Missing, write_empty: bool
    ) -> None:
        self._runtime = runtime
        self._layout = layout
        self._selection = selection
        self._missing: Missing = missing
        self._write_empty = write_empty

    @property
    def shape(self) -> Shape:
        """Shape of the result."""
        return self._selection.out_shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the result."""
        return self._layout.dtype

    def __repr__(self) -> str:
        return f"<View of {self._layout.url}, shape {self.shape}, {self.dtype}: await it to read>"

    def __await__(self) -> Generator[Any, None, Any]:
        return self.get().__await__()

    async def get(
        self,
        *,
        out: np.ndarray[Any, Any] | None = None,
        missing: Missing | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Read it: an array of the view's shape, or a NumPy scalar where every dimension was indexed by an integer.

        Args:
            out: A writable array of the view's shape to read into; it is what is returned.
            missing: `fill` or `raise` for absent chunks; default: as the array was opened.
            timeout: Seconds until `DeadlineExceeded`.
        """
        check_timeout(timeout)
        if missing is not None:
            check_missing(missing)
        result = await operations.get(
            self._runtime,
            self._layout,
            self._selection,
            out=out,
            missing=missing or self._missing,
            timeout=timeout,
        )
        return result[()] if out is None else result

    def explain(self) -> Explanation:
        """What reading or writing this would cost, with no request: objects, requests, bytes, memory."""
        return explain(self._runtime, self._layout, self._selection)

    async def set(self, data: Any, *, timeout: float | None = None) -> None:
        """Write `data`, broadcast to the view's shape. A failure carries `.outcome`, a cancellation too."""
        check_timeout(timeout)
        await operations.put(
            self._runtime, self._layout, self._selection, data, write_empty=self._write_empty, timeout=timeout
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a View does not pickle: send array.ref, and open it in a session over there")

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a View is read by awaiting it: np.asarray(await array[...])")


class Indexer:
    """Something to subscript: `array.oindex[…]`, `array.vindex[…]`, `array.blocks[…]`."""

    __slots__ = ("_select",)

    def __init__(self, select: Callable[[Any], View]) -> None:
        self._select = select

    def __getitem__(self, key: Any) -> View:
        return self._select(key)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise TypeError("assignment cannot be awaited; write: await array.oindex[selection].set(data)")

    __iter__ = None
    __contains__ = None
    __len__ = None
