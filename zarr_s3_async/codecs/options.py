"""Strict reading of one codec's configuration: what is missing, unknown or wrong is a MetadataError."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any, Final

from .._types import JSON
from ..errors import MetadataError

_REQUIRED: Final = object()


class Options:
    """The configuration of one codec. Reading a key takes it; `finish` refuses what nobody has taken."""

    __slots__ = ("_left", "codec")

    def __init__(self, codec: str, configuration: Mapping[str, JSON]) -> None:
        self.codec = codec
        self._left: dict[str, JSON] = dict(configuration)

    def __contains__(self, key: str) -> bool:
        return self._left.get(key) is not None

    def fail(self, key: str, problem: str) -> MetadataError:
        """The error for this key; the caller raises it."""
        return MetadataError(f"codec {self.codec!r}: {key!r} {problem}")

    def take(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value as it stands. JSON null counts as absent where there is a default."""
        value = self._left.pop(key, _REQUIRED)
        if default is not _REQUIRED and (value is _REQUIRED or value is None):
            return default
        if value is _REQUIRED:
            raise self.fail(key, "is missing")
        return value

    def integer(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        """A whole number within bounds, both inclusive; JSON true, false and 1.0 are not whole numbers."""
        value = self.take(key, default)
        if value is default:
            return value  # type: ignore[no-any-return]  # the caller's own default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.fail(key, f"must be a whole number from {low} to {high}, not {short(value)}")
        return value

    def number(self, key: str) -> int | float:
        """A finite number."""
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise self.fail(key, f"must be a number, not {short(value)}")
        return value

    def boolean(self, key: str, default: bool) -> bool:
        """JSON true or false."""
        value = self.take(key, default)
        if not isinstance(value, bool):
            raise self.fail(key, f"must be true or false, not {short(value)}")
        return value

    def choice(self, key: str, choices: tuple[Any, ...], default: Any = _REQUIRED) -> Any:
        """One of these."""
        value = self.take(key, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, str | int) or value not in choices:
            raise self.fail(key, f"must be one of {', '.join(map(repr, choices))}, not {short(value)}")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers that are not negative."""
        value = self.take(key)
        if not isinstance(value, list | tuple):
            raise self.fail(key, f"must be a list of whole numbers, not {short(value)}")
        if any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in value):
            raise self.fail(key, f"must hold whole numbers that are not negative, not {short(value)}")
        return tuple(value)

    def rest(self) -> dict[str, JSON]:
        """All that is left, taken at once."""
        left, self._left = self._left, {}
        return left

    def finish(self) -> None:
        """Refuse keys that nobody has taken."""
        if self._left:
            raise self.fail(min(self._left, key=str), "is not an option of this codec")
