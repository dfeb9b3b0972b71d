"""Drawing of elements: numbers are scaled between two limits, mapped to colours, and encoded as a palette PNG."""

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
"""The part of complex numbers that is shown."""

COLORS: Final = 255
"""Number of colours of a palette; one more entry is transparent."""
_CUSTOM: Final = 2
"""`dtype.isbuiltin` of types that are registered with NumPy, such as bfloat16."""
_BINS: Final = 128
_TABLE_BYTES: Final = 2
"""Maximum bytes of integers that are looked up in a table, which takes a third of the time of computing each."""
_LARGE: Final = 1e30
"""Numbers are scaled in double precision if a limit exceeds this."""

# Equally spaced colours from low to high, between which colours are interpolated. The first five maps are 17 samples
# each of matplotlib's maps of the same names, which are in the public domain (CC0).
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
    """The numbers that have the first and the last colour."""

    low: float
    high: float


class Statistics(NamedTuple):
    """Statistics of a sample."""

    low: float
    """2nd percentile; if all numbers are equal, a little less."""
    high: float
    """98th percentile; if all numbers are equal, a little more."""
    min: float | None
    """Minimum of the finite numbers; None if there are none."""
    max: float | None
    """Maximum of the finite numbers; None if there are none."""
    first: float
    """Lower end of the histogram."""
    last: float
    """Upper end of the histogram."""
    counts: tuple[int, ...]
    """Count of each bin of the histogram; numbers outside the histogram are counted in the outer bins."""
    total: int
    """Number of elements of the sample."""
    hidden: int
    """Number of elements that are not drawn: NaN, NaT, and the fill value if it is hidden."""


def color_table(name: str, *, is_reversed: bool = False) -> Data:
    """A colour map: `COLORS` rows of red, green, blue."""
    stops = np.frombuffer(bytes.fromhex(_STOPS[name]), np.uint8).reshape(-1, 3).astype(float)
    at = np.linspace(0, len(stops) - 1, COLORS)
    table = np.stack([np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=1)
    rounded: Data = np.rint(table[::-1] if is_reversed else table).astype(np.uint8)
    return rounded


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Check that elements of a type can be drawn.

    Raises:
        UnsupportedFeature: Elements of this type are not numbers: text, bytes, structures.
    """
    if dtype.isbuiltin != _CUSTOM and dtype.kind not in "biufcmM":
        raise UnsupportedFeature(f"elements of type {dtype} cannot be drawn: only numbers, times and booleans can")


def numbers(data: Data, *, part: Part = "abs", hidden: Any = None) -> tuple[Data, Data | None]:
    """Convert elements to real numbers.

    Args:
        data: Elements of a type that `check_dtype` accepts.
        part: The part of complex numbers to show.
        hidden: An element that is not drawn; None: all elements are drawn.

    Returns:
        Integers or floats of the same shape; and a mask of the elements that are not drawn, in addition to NaN, or
        None.
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
            with np.errstate(over="ignore"):  # an overflow gives infinity, which can be drawn
                return np.abs(data)


def statistics(values: Data, mask: Data | None) -> Statistics:
    """Percentiles and a histogram of a sample that `numbers` returned."""
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
    # Halved, because the difference of two doubles may overflow.
    place = (np.clip(finite, first, last) / 2 - first / 2) / (last / 2 - first / 2) * _BINS
    counts = np.bincount(np.minimum(place.astype(np.int64), _BINS - 1), minlength=_BINS)
    return Statistics(low, high, least, most, first, last, tuple(counts.tolist()), int(values.size), hidden)


def _around(value: float) -> Stretch:
    width = max(abs(value) * 0.01, 1e-3) if value % 1 else 0.5
    return Stretch(float(np.nextafter(value - width, -np.inf)), float(np.nextafter(value + width, np.inf)))


def paint(values: Data, mask: Data | None, stretch: Stretch) -> Data:
    """The palette entry of each number.

    Args:
        values: Numbers that `numbers` returned.
        mask: Mask of the elements that are not drawn.
        stretch: The limits. Numbers at and beyond them have the outer colours. If the limits are equal, smaller numbers
            have the first colour and larger ones the last.

    Returns:
        uint8 of the same shape; `COLORS` for elements that are not drawn.
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
    """The palette entries of all integers of a small type, indexed by their bits."""
    every = np.arange(256**width, dtype=f"u{width}").view(f"{kind}{width}")
    return _scaled(every.astype(np.float64), low, high)


def _scaled(numbers: Data, low: float, high: float) -> Data:
    """Palette entries of floats. Overwrites `numbers`."""
    width = high / 2 - low / 2
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        if width > 0:
            if max(abs(low), abs(high)) < _LARGE:
                numbers -= low
                numbers *= (COLORS - 1) / width / 2
            else:  # halved, because the difference of two doubles may overflow
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
    """A short name that depends on all of the content."""
    return sha256(content, usedforsecurity=False).hexdigest()[:32]  # fastest on processors with SHA instructions


class Painter:
    """Encodes palette entries as PNG, with a cache: equal tiles are compressed once.

    Args:
        max_bytes: Maximum bytes of cached PNGs.
    """

    def __init__(self, max_bytes: int = 2**25) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    @staticmethod
    def name(painted: Data, colors: str, *, is_reversed: bool) -> str:
        """A name that is the same for equal pictures only, for ETags."""
        return digest(f"{painted.shape} {colors} {is_reversed} ".encode() + painted.tobytes())

    def png(self, painted: Data, colors: str, *, is_reversed: bool, name: str) -> bytes:
        """Encode a picture as PNG. The argument `name` is the result of the method `name` for this picture."""
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
def _palette(colors: str, is_reversed: bool) -> bytes:
    return color_table(colors, is_reversed=is_reversed).tobytes() + bytes(3)  # the last entry is transparent


def encode_png(painted: Data, colors: str, *, is_reversed: bool = False) -> bytes:
    """Encode palette entries as PNG."""
    height, width = painted.shape
    image = Image.frombytes("P", (width, height), painted.tobytes())
    image.putpalette(_palette(colors, is_reversed))
    out = BytesIO()
    image.save(out, "PNG", compress_level=1, transparency=COLORS)
    return out.getvalue()
