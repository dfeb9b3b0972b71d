"""Elements as colours: numbers stretched between two limits, a colour map, a PNG with a palette."""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from .. import UnsupportedFeature

try:
    from PIL import Image
except ImportError as _error:  # pragma: no cover  # the extra is there in the tests
    raise ImportError("zarr_s3_async.viewer needs Pillow: pip install 'zarr-s3-async[view]'") from _error

Data: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Part: TypeAlias = Literal["abs", "real", "imag", "phase"]
"""What is shown of complex numbers."""

COLORS: Final = 255
"""Of a palette; the last entry is transparent."""
_CUSTOM: Final = 2
"""`dtype.isbuiltin` of types that NumPy does not know, such as bfloat16."""
_BINS: Final = 128
_TABLE_BYTES: Final = 2
"""Integers up to this size are looked up in a table, which takes a third of the time of computing each."""
_LARGE: Final = 1e30
"""Limits beyond are stretched in double precision."""

# Colours from low to high, the same distance apart; between them it is interpolated. The first five are 17 samples each
# of matplotlib's maps of these names, which are in the public domain (CC0).
_STOPS: Final = {
    "viridis": "44015448186a472d7b4240863b528b33638d2c728e26828e21918c1fa08828ae803fbc735ec96284d44baddc30d8e219fde725",
    "magma": "0000040a08221d114736106b51127c6a1c818326819c2e7fb73779d0416fe75263f56b5cfc8961fea772fec488fde2a3fcfdbf",
    "inferno": "0000040b0724210c4a3d096557106e71196e8a226aa32c61bc3754d24644e45a31f1731df98e09fcac11f9cb35f2ea69fcffa4",
    "plasma": "0d08873105974c02a16600a77e03a89511a1aa2395bc3587cc4778da5a6ae66c5cf0804ef89540fdac33fdc527f8df25f0f921",
    "cividis": "00224e002e6a1a386f32436d434e6c535a6d61656f6f70737d7c788c88789b9476aba072bcae6ccdbb63dec958f0d846fee838",
    "gray": "000000ffffff",
    "diverging": "1d3f725b8dbfb4cfe4f4f4f2f0c0a4cf6a4d7a1a2a",
    "cyclic": "2b1e3e35569e7db3c8ece6e3d39a7d9a3d4a2b1e3e",
}
COLOR_MAPS: Final = tuple(_STOPS)


class Stretch(NamedTuple):
    """What of a range of numbers becomes the first and the last colour."""

    low: float
    high: float


class Statistics(NamedTuple):
    """Of the numbers of a sample."""

    low: float
    """2nd percentile; a little below the only number there is."""
    high: float
    """98th percentile."""
    min: float | None
    """Of the finite numbers; None without any."""
    max: float | None
    first: float
    """Where the histogram begins."""
    last: float
    counts: tuple[int, ...]
    """Numbers in each bin of the histogram; those outside of it are in the outer bins."""
    total: int
    """Elements of the sample."""
    hidden: int
    """Of these, those that are not drawn: NaN, NaT, and the fill value where it is hidden."""


def color_table(name: str, *, is_reversed: bool = False) -> Data:
    """A colour map: `COLORS` rows of red, green, blue."""
    stops = np.frombuffer(bytes.fromhex(_STOPS[name]), np.uint8).reshape(-1, 3).astype(float)
    at = np.linspace(0, len(stops) - 1, COLORS)
    table = np.stack([np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=1)
    rounded: Data = np.rint(table[::-1] if is_reversed else table).astype(np.uint8)
    return rounded


def check_dtype(dtype: np.dtype[Any]) -> None:
    """
    Raises:
        UnsupportedFeature: Elements of this type are no numbers: text, bytes, structures.
    """
    if dtype.isbuiltin != _CUSTOM and dtype.kind not in "biufcmM":
        raise UnsupportedFeature(f"elements of type {dtype} have no colours: numbers, times and booleans have")


def numbers(data: Data, *, part: Part = "abs", hidden: Any = None) -> tuple[Data, Data | None]:
    """Elements as numbers that can be stretched.

    Args:
        data: Elements of a type that `check_dtype` takes.
        part: What is shown of complex numbers.
        hidden: An element that is not drawn; None: every one is.

    Returns:
        Integers or floats of the same shape, and which of them are not drawn beside NaN; None for no others.
    """
    dtype = data.dtype
    mask = None if hidden is None else np.asarray(data == hidden)
    if dtype.isbuiltin == _CUSTOM:
        return data.astype(np.float32), mask
    match dtype.kind:
        case "b":
            return data.view(np.uint8), mask
        case "c":
            return _real(data, part), mask
        case "m" | "M":
            absent = np.isnat(data)
            return data.view(data.dtype.str.replace(dtype.kind, "i", 1).partition("[")[0]), (
                absent if mask is None else mask | absent
            )
        case _:
            return data, mask


def _real(data: Data, part: Part) -> Data:
    match part:
        case "real":
            return data.real
        case "imag":
            return data.imag
        case "phase":
            return np.angle(data)
        case _:
            with np.errstate(over="ignore"):  # infinite then, which is a number that can be drawn
                return np.abs(data)


def statistics(values: Data, mask: Data | None) -> Statistics:
    """Percentiles and a histogram of a sample, as `numbers` gives it."""
    flat = values.astype(np.float64).ravel()
    if mask is not None:
        flat = flat[~mask.ravel()]
    shown = flat[~np.isnan(flat)]
    finite = shown[np.isfinite(shown)]
    hidden = int(values.size - shown.size)
    if not finite.size:
        return Statistics(0.0, 1.0, None, None, 0.0, 1.0, (0,) * _BINS, int(values.size), hidden)
    least, low, high, most = (float(v) for v in np.percentile(finite, [0, 2, 98, 100], method="nearest"))
    if low == high:
        low, high = least, most
    if low == high:
        low, high = _around(low)
    margin = (high / 2 - low / 2) / 2
    first, last = max(least, low - margin), min(most, high + margin)
    if not first < last:
        first, last = low, high
    # Halved: the width of all doubles is no double.
    place = (np.clip(finite, first, last) / 2 - first / 2) / (last / 2 - first / 2) * _BINS
    counts = np.bincount(np.minimum(place.astype(np.int64), _BINS - 1), minlength=_BINS)
    return Statistics(low, high, least, most, first, last, tuple(counts.tolist()), int(values.size), hidden)


def _around(value: float) -> Stretch:
    width = max(abs(value) * 0.01, 1e-3) if value % 1 else 0.5
    return Stretch(float(np.nextafter(value - width, -np.inf)), float(np.nextafter(value + width, np.inf)))


def paint(values: Data, mask: Data | None, stretch: Stretch) -> Data:
    """The palette entry of each number.

    Args:
        values: As `numbers` gives them.
        mask: Which of them are not drawn.
        stretch: Numbers at and beyond the limits have the outer colours. Equal limits divide the numbers there.

    Returns:
        uint8 of the same shape; `COLORS` where nothing is drawn.
    """
    low, high = stretch
    width = values.dtype.itemsize
    if values.dtype.kind in "iu" and width <= _TABLE_BYTES:
        native = values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))
        painted: Data = _table(native.dtype.kind, width, low, high).take(native.view(f"u{width}"))
    else:
        single = (
            values.dtype.kind == "f" and width <= np.dtype(np.float32).itemsize and max(abs(low), abs(high)) < _LARGE
        )
        painted = _scaled(values.astype(np.float32 if single else np.float64), low, high)
    if mask is not None:
        painted[mask] = COLORS
    return painted


@lru_cache(maxsize=64)
def _table(kind: str, width: int, low: float, high: float) -> Data:
    """The palette entry of every integer of a small type, by its bits."""
    every = np.arange(256**width, dtype=f"u{width}").view(f"{kind}{width}")
    return _scaled(every.astype(np.float64), low, high)


def _scaled(numbers: Data, low: float, high: float) -> Data:
    """Overwrites `numbers`, which are floats."""
    width = high / 2 - low / 2
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if width > 0:
            if max(abs(low), abs(high)) < _LARGE:
                numbers -= low
                numbers *= (COLORS - 1) / width / 2
            else:  # the difference of two doubles may be no double
                numbers /= 2
                numbers -= low / 2
                numbers *= (COLORS - 1) / width
        else:
            numbers = np.where(np.isnan(numbers), numbers, np.sign(numbers - low) * COLORS + COLORS // 2)
        np.clip(numbers, 0, COLORS - 1, out=numbers)
    numbers += 0.5
    np.copyto(numbers, COLORS, where=np.isnan(numbers))
    return numbers.astype(np.uint8)


def digest(content: bytes) -> str:
    """A short name that no other content has."""
    return sha256(content, usedforsecurity=False).hexdigest()[:32]  # the fastest where the processor knows it


class Painter:
    """PNGs of palette entries; equal ones are compressed once.

    Args:
        max_bytes: Of PNGs that are kept.
    """

    def __init__(self, max_bytes: int = 2**25) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    @staticmethod
    def name(painted: Data, colors: str, *, is_reversed: bool) -> str:
        """The same for equal pictures, and for no others: what an ETag is made of."""
        return digest(f"{painted.shape} {colors} {is_reversed} ".encode() + painted.tobytes())

    def png(self, painted: Data, colors: str, *, is_reversed: bool, name: str) -> bytes:
        """A picture as PNG; `name` is what `name` gave for it."""
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
            return found
        encoded = encode_png(painted, colors, is_reversed=is_reversed)
        self._kept[name] = encoded
        self._bytes += len(encoded)
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._kept.popitem(last=False)[1])
        return encoded


@lru_cache(maxsize=32)
def _palette(colors: str, is_reversed: bool) -> bytes:  # cached by position
    return color_table(colors, is_reversed=is_reversed).tobytes() + bytes(3)  # the last one is transparent


def encode_png(painted: Data, colors: str, *, is_reversed: bool = False) -> bytes:
    """Palette entries as PNG."""
    height, width = painted.shape
    image = Image.frombytes("P", (width, height), painted.tobytes())
    image.putpalette(_palette(colors, is_reversed))
    out = BytesIO()
    image.save(out, "PNG", compress_level=1, transparency=COLORS)
    return out.getvalue()
