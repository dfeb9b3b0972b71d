"""`View`: a validated selection that is not read yet. Await it, read it into an array, or write it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ._engine import operations
from ._engine.runtime import Layout, Runtime
from ._options import check_flag, check_missing, check_timeout
from ._plan.selection import Selection
from ._types import Missing, Shape
from ._unread import Unread, refuse_operators

if TYPE_CHECKING:
    from ._engine.explain import Explanation


class View(Unread):
    """The result of `array[selection]`. No request is sent until it is awaited, read or set.

    A view that is never used emits a warning with the line that created it, like a coroutine.
    """

    __slots__ = ("_layout", "_made_at", "_missing", "_runtime", "_selection", "_write_empty")

    _how_to_read = "await array[selection]"

    def __init__(
        self, runtime: Runtime, layout: Layout, selection: Selection, *, missing: Missing, write_empty: bool
    ) -> None:
        self._runtime = runtime
        self._layout = layout
        self._selection = selection
        self._missing: Missing = missing
        self._write_empty = write_empty
        self._made_at: tuple[str, int] | None = _line_of_caller()

    def __del__(self) -> None:
        if self._made_at is not None and not sys.is_finalizing():
            warnings.warn_explicit(
                f"{self._text()} was created and never read: write `await` before it, or call its get() or set()",
                RuntimeWarning,
                *self._made_at,
            )

    @property
    def shape(self) -> Shape:
        """Shape of the result. A field that contains arrays adds their dimensions at the end."""
        self._made_at = None
        return self._selection.out_shape + self._layout.dtype.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the result."""
        self._made_at = None
        return self._layout.dtype.base

    def __repr__(self) -> str:
        self._made_at = None  # the text already says that it must be awaited
        return f"<{self._text()}: await it to read>"

    def _text(self) -> str:
        dtype = self._layout.dtype
        return f"View of {self._layout.url}, shape {self._selection.out_shape + dtype.shape}, {dtype.base}"

    def __await__(self) -> Generator[Any, None, Any]:
        self._made_at = None
        return self.get().__await__()

    async def get(
        self,
        *,
        out: np.ndarray[Any, Any] | None = None,
        missing: Missing | None = None,
        consistent: bool = False,
        timeout: float | None = None,
    ) -> Any:
        """Read the selection.

        Args:
            out: A writable array of the view's shape to read into, which is returned.
            missing: `fill` or `raise` for absent chunks; default: as the array was opened.
            consistent: Return the data as it was at one moment; see `Array.get_slice`.
            timeout: Seconds until `DeadlineExceeded`.

        Returns:
            A new array of the view's shape and data type, which belongs to the caller; a NumPy scalar if the view has
            no dimensions; or `out`.

        Raises:
            ChunkNotFound: A chunk is absent, and `missing` is `raise`.
            ChunkDecodeError: The stored bytes are not a chunk of this array.
            StoreError: The store failed. A failed request never reads as the fill value.
        """
        self._made_at = None
        check_timeout(timeout)
        if consistent is not False:  # skips a call in the common case
            check_flag("consistent", consistent)
        if missing is not None:
            check_missing(missing)
        result = await operations.get(
            self._runtime,
            self._layout,
            self._selection,
            out=out,
            missing=missing or self._missing,
            consistent=consistent,
            timeout=timeout,
        )
        return result[()] if out is None else result

    def explain(self) -> Explanation:
        """Compute the cost of reading or writing the selection, without a request: objects, requests, bytes, memory.

        Returns:
            The requests, bytes and memory of a read and of a write.
        """
        from ._engine.explain import explain

        self._made_at = None
        return explain(self._runtime, self._layout, self._selection)

    async def set(self, data: Any, *, timeout: float | None = None) -> None:
        """Write `data`, broadcast to the view's shape. Errors and cancellations have an `.outcome`.

        Args:
            data: See `Array.set_slice`.
            timeout: Seconds until `DeadlineExceeded`.

        Raises:
            SelectionError: `data` does not broadcast to the view's shape.
            DataError, DataOverflowError: A Python value does not fit the data type.
            ConcurrentModification: Every attempt to merge conflicted with another writer.
            ZarrS3Error: Any failure; see `Array.set_slice`.
        """
        self._made_at = None
        check_timeout(timeout)
        await operations.put(
            self._runtime, self._layout, self._selection, data, write_empty=self._write_empty, timeout=timeout
        )

    def _mark_used(self) -> None:  # called by Unread before an error
        self._made_at = None

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self._made_at = None
        raise TypeError("a View cannot be pickled: send array.ref, and open it in a session of the other process")


# Without these, a forgotten await would pass silently: `view == 5` is False, and `if view` is true.
refuse_operators(View, "eq", "ne", "bool")
View.__hash__ = object.__hash__  # type: ignore[method-assign]  # by identity: refusing `eq` would otherwise make views unhashable


def _line_of_caller() -> tuple[str, int]:
    """File and line of the nearest caller outside this package."""
    frame = sys._getframe(2)  # noqa: SLF001  # as the warnings module does it
    while frame.f_globals.get("__name__", "").startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


_PACKAGE = __name__.partition(".")[0] + "."


class Indexer:
    """An object to subscript: `array.oindex[…]`, `array.vindex[…]`, `array.blocks[…]`."""

    __slots__ = ("_select",)

    def __init__(self, select: Callable[[Any], View]) -> None:
        self._select = select

    def __getitem__(self, key: Any) -> View:
        return self._select(key)

    if not TYPE_CHECKING:  # hidden from type checkers, so that they report such uses

        def __setitem__(self, key: Any, value: Any) -> NoReturn:
            raise TypeError("assignment cannot be awaited; write: await array.oindex[selection].set(data)")

        __iter__ = None
        __contains__ = None
        __len__ = None
