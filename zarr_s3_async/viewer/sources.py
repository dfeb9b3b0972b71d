"""The sources that the viewer shows: single arrays, and multiscale groups, which list their levels in attributes."""

from __future__ import annotations

from asyncio import Event
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isclose
from time import monotonic
from typing import Any, Final, TypeVar

from .. import Array, Group, MetadataError, NodeNotFound, SelectionError, Session, Where
from ..config import CachePolicy

K = TypeVar("K")
V = TypeVar("V")

MAX_LEVELS: Final = 64
"""Maximum number of levels of a pyramid; further ones are ignored. Since levels halve dimensions, none has so many."""
_MAX_KEPT: Final = 1000
_KEPT_SECONDS: Final = 5.0
"""How long the list of a pyramid's levels is cached. The arrays themselves follow the cache policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution of a source."""

    path: str
    """Path of its array, below the URL of the viewer."""
    factors: tuple[float, ...]
    """Elements of the first level per element of this one, for each dimension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """The description of a dimension in a multiscale group."""

    name: str | None = None
    unit: str | None = None
    scale: float | None = None
    """Coordinates per element of the first level."""
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An array, or several arrays of decreasing resolution."""

    levels: tuple[Level, ...]
    """Finest first; never empty."""
    axes: tuple[Axis, ...]
    """One per dimension, from the group's attributes; empty for a plain array."""
    attributes: Mapping[str, Any]
    """Attributes of the requested node."""


class Sources:
    """The sources below one URL.

    Args:
        where: The location that the viewer shows.
        cache: Maximum age of the data in a tile; see `Session.open_array`.
    """

    def __init__(self, where: Where, cache: CachePolicy | None) -> None:
        self._where = where
        self._cache = cache
        self._store: tuple[Session, Where] | None = None
        self._known: dict[tuple[str, str], tuple[float, Source]] = {}
        self._finding: dict[tuple[str, str], Event] = {}

    def _place(self, session: Session) -> Where:
        """The store of the URL, created once, because parsing the URL and the S3 options takes time."""
        if self._store is None or self._store[0] is not session:
            where = session.store(self._where) if isinstance(self._where, str) else self._where
            self._store = session, where
        return self._store[1]

    async def array(self, session: Session, path: str) -> Array:
        """Open the array at a path, with the cache policy."""
        return await session.open_array(self._place(session), path=path, cache=self._cache)

    async def uncached(self, session: Session, path: str) -> Array:
        """Open the array at a path without caching chunks: of large raw chunks only the needed ranges are read."""
        return await session.open_array(self._place(session), path=path)

    async def node(self, session: Session, path: str) -> Array | Group:
        """Open the array or group at a path, without a cache policy."""
        return await session.open(self._place(session), path=path)

    async def find(self, session: Session, path: str, variable: str = "") -> Source:
        """Find the source at a path.

        Args:
            session: The session to read with.
            path: Path of an array or of a multiscale group.
            variable: The name of the array in each level, if the levels of the group are groups of arrays.

        Raises:
            NodeNotFound: There is no node, or a group that is not a multiscale group.
            MetadataError: The levels are inconsistent.
        """
        path, variable = _plain(path), _plain(variable)
        name = (path, variable)
        known = self._known.get(name)
        if known is None and name in self._finding:
            # One of several concurrent requests reads the metadata; if it fails, each of the others does.
            await self._finding[name].wait()
            known = self._known.get(name)
        # While one request refreshes an entry, the others use the old one: otherwise all of them would wait or refresh.
        if known is not None and (monotonic() - known[0] < _KEPT_SECONDS or name in self._finding):
            return known[1]
        ended = Event()
        self._finding.setdefault(name, ended)
        try:
            source = await self._read_source(session, path, variable)
        finally:
            ended.set()
            if self._finding.get(name) is ended:
                del self._finding[name]
        # Bounded, because the path is part of the request, and a client may send any.
        keep(self._known, name, (monotonic(), source), _MAX_KEPT)
        return source

    async def _read_source(self, session: Session, path: str, variable: str) -> Source:
        node = await self.node(session, path)
        if not isinstance(node, Array):
            return await self._pyramid(session, node, path, variable)
        if variable:
            raise SelectionError(f"variable= names an array in each level of a group, and {node.url} is an array")
        one = Level(path=path, factors=(1.0,) * node.ndim)
        return Source(levels=(one,), axes=(), attributes=node.attrs)

    async def _pyramid(self, session: Session, group: Group, path: str, variable: str) -> Source:
        described = multiscale(group.attrs)
        if described is None:
            raise NodeNotFound(
                f"{group.url} is not a multiscale group: choose an array in it", url=group.url, path=path
            )
        shapes: list[tuple[int, ...]] = []
        paths: list[str] = []
        # Attributes are not trusted: each path is a request.
        for name in described.paths[:MAX_LEVELS]:
            parts = (path, name.strip("/"), variable)
            paths.append("/".join(part for part in parts if part))
            found = await self.node(session, paths[-1])
            if not isinstance(found, Array):
                raise NodeNotFound(
                    f"{found.url} is a level with several arrays: choose one with variable=", url=found.url, path=path
                )
            shapes.append(found.shape)
        # A position in the finest level could not be converted to the others.
        if len({len(shape) for shape in shapes}) != 1:
            raise MetadataError(f"the levels of {group.url} differ in their number of dimensions: {shapes}")
        levels = [
            Level(path=place, factors=factors_of(shapes[0], shape, described.ratios(number, len(shape))))
            for number, (place, shape) in enumerate(zip(paths, shapes, strict=True))
        ]
        axes = described.axes if len(described.axes) == len(shapes[0]) else ()
        return Source(
            levels=tuple(sorted(levels, key=lambda level: sum(level.factors))), axes=axes, attributes=group.attrs
        )


def _plain(path: str) -> str:
    """The path without empty parts: clients can write one path in any number of ways, and each would be kept."""
    return "/".join(filter(None, path.split("/")))


def keep(known: dict[K, V], key: K, value: V, limit: int) -> None:
    """Set an entry as the newest one, and drop the oldest one if there would be more than `limit`."""
    known.pop(key, None)
    if len(known) >= limit:
        del known[next(iter(known))]
    known[key] = value


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiscale:
    """The description of a group's levels in its attributes. It is not checked against the arrays."""

    paths: tuple[str, ...]
    """Paths of the levels, relative to the group, finest first."""
    scales: tuple[tuple[float, ...] | None, ...]
    """Coordinate distance per element, for each level and dimension."""
    axes: tuple[Axis, ...]

    def ratios(self, number: int, ndim: int) -> tuple[float, ...] | None:
        """Elements of the first level per element of level `number`, for each dimension, from the scales."""
        first, this = self.scales[0], self.scales[number]
        if first is None or this is None or not len(first) == len(this) == ndim or 0 in first:
            return None
        return tuple(abs(b / a) for a, b in zip(first, this, strict=True))


def multiscale(attributes: Mapping[str, Any]) -> Multiscale | None:
    """The description of a group's levels, or None if its attributes have none.

    Supported are OME-Zarr 0.4 (`multiscales`) and 0.5 (`ome`), pyramids of xarray datasets (like OME's, with groups as
    levels), and the convention of zarr-conventions (`multiscales` with a `layout`).
    """
    ome = attributes.get("ome")
    entry: Any = (ome if isinstance(ome, Mapping) else attributes).get("multiscales")
    if isinstance(entry, Mapping):
        return _from_layout(entry)
    if isinstance(entry, Sequence) and not isinstance(entry, str) and entry and isinstance(entry[0], Mapping):
        return _from_datasets(entry[0])
    return None


def _from_layout(entry: Mapping[str, Any]) -> Multiscale | None:
    layout = [item for item in _sequence(entry.get("layout")) if isinstance(item, Mapping)]
    names = [item.get("asset", item.get("path", item.get("id"))) for item in layout]
    if not names or not all(isinstance(name, str) for name in names):
        return None
    return Multiscale(paths=tuple(map(str, names)), scales=(None,) * len(names), axes=())


def _from_datasets(entry: Mapping[str, Any]) -> Multiscale | None:
    datasets = [item for item in _sequence(entry.get("datasets")) if isinstance(item, Mapping)]
    paths = [item.get("path") for item in datasets]
    if not paths or not all(isinstance(path, str | int) for path in paths):
        return None
    scales = [_numbers(datasets_item, "scale") for datasets_item in datasets]
    offsets = _numbers(datasets[0], "translation") or ()
    axes = []
    for number, axis in enumerate(_sequence(entry.get("axes"))):
        name, unit = (axis.get("name"), axis.get("unit")) if isinstance(axis, Mapping) else (axis, None)
        first = scales[0]
        axes.append(
            Axis(
                name=name if isinstance(name, str) else None,
                unit=unit if isinstance(unit, str) else None,
                scale=first[number] if first is not None and number < len(first) else None,
                offset=offsets[number] if number < len(offsets) else 0.0,
            )
        )
    return Multiscale(paths=tuple(map(str, paths)), scales=tuple(scales), axes=tuple(axes))


def _numbers(dataset: Mapping[str, Any], kind: str) -> tuple[float, ...] | None:
    """The numbers of the first coordinate transformation of a kind."""
    for found in _sequence(dataset.get("coordinateTransformations")):
        if isinstance(found, Mapping) and found.get("type") == kind:
            numbers = _sequence(found.get(kind))
            if numbers and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers):
                return tuple(map(float, numbers))
    return None


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def factors_of(first: Sequence[int], shape: Sequence[int], ratios: Sequence[float] | None = None) -> tuple[float, ...]:
    """Elements of the first level per element of another one, for each dimension.

    Shapes alone are inexact, since sizes are rounded. The ratio in the attributes is used if it gives the size; then an
    integer that gives the size; then the ratio in the attributes if it is close to that of the shapes; else the latter.
    """
    claimed: Iterable[float | None] = ratios if ratios is not None else [None] * len(shape)
    return tuple(_factor(n, m, claim) for n, m, claim in zip(first, shape, claimed, strict=True))


def _factor(n: int, m: int, claim: float | None) -> float:
    if n == m or not n or not m:
        return 1.0
    ratio = n / m
    for guess in (claim, round(ratio)):
        if guess and (ceil(n / guess) == m or floor(n / guess) == m):
            return float(guess)
    return claim if claim and isclose(claim, ratio, rel_tol=0.1) else ratio


def default_plane(shape: Sequence[int], names: Sequence[str | None]) -> tuple[int | None, int | None]:
    """The default vertical and horizontal dimensions (y, x); None if there is none."""
    ndim = len(shape)
    if ndim == 0:
        return None, None
    lower = [(name or "").lower() for name in names]
    for pair in (("y", "x"), ("lat", "lon"), ("latitude", "longitude")):
        if all(lower.count(name) == 1 for name in pair):
            return lower.index(pair[0]), lower.index(pair[1])
    if ndim == 1:
        return None, 0
    few_channels = ndim > 2 and shape[-1] <= 4 and min(shape[-3:-1]) > 4  # height, width, red-green-blue
    return (ndim - 3, ndim - 2) if few_channels else (ndim - 2, ndim - 1)
