"""What can be shown: single arrays, and the levels of multiscale groups, found from the attributes of the group."""

from __future__ import annotations

from asyncio import Event
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isclose
from time import monotonic
from typing import Any, Final

from .. import Array, Group, MetadataError, NodeNotFound, Session, Where
from ..config import CachePolicy

MAX_LEVELS: Final = 64
"""More levels of a pyramid are not looked at: each halves something."""
_MAX_KEPT: Final = 1000
_KEPT_SECONDS: Final = 5.0
"""How long it is believed which arrays are the levels of a pyramid. The arrays themselves follow the cache policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One resolution of a source."""

    path: str
    """Of its array, below the URL of the viewer."""
    factors: tuple[float, ...]
    """Elements of the first level per element of this one, for each dimension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What a multiscale group says of a dimension."""

    name: str | None = None
    unit: str | None = None
    scale: float | None = None
    """Coordinates per element of the first level."""
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Something to show: an array, or several of falling resolution."""

    levels: tuple[Level, ...]
    """Finest first; never empty."""
    axes: tuple[Axis, ...]
    """One per dimension, from what the group says; empty for a plain array."""
    attributes: Mapping[str, Any]
    """Those of the node that was asked for."""


class Sources:
    """The sources below one URL.

    Args:
        where: What the viewer was started on.
        cache: How old what a tile shows may be; see `Session.open_array`.
    """

    def __init__(self, where: Where, cache: CachePolicy | None) -> None:
        self._where = where
        self._cache = cache
        self._store: tuple[Session, Where] | None = None
        self._known: dict[tuple[str, str], tuple[float, Source]] = {}
        self._finding: dict[tuple[str, str], Event] = {}

    def _place(self, session: Session) -> Where:
        """The store of the URL, made once: what a URL and the options of S3 mean is looked up for each new one."""
        if self._store is None or self._store[0] is not session:
            where = session.store(self._where) if isinstance(self._where, str) else self._where
            self._store = session, where
        return self._store[1]

    async def array(self, session: Session, path: str) -> Array:
        """The array at a path, by the policy of the cache."""
        return await session.open_array(self._place(session), path=path, cache=self._cache)

    async def uncached(self, session: Session, path: str) -> Array:
        """The array at a path, whose large raw chunks are read by the ranges that are needed, and not kept."""
        return await session.open_array(self._place(session), path=path)

    async def node(self, session: Session, path: str) -> Array | Group:
        """The array or the group at a path, read now."""
        return await session.open(self._place(session), path=path)

    async def find(self, session: Session, path: str, variable: str = "") -> Source:
        """The source at a path.

        Args:
            session: Reads it.
            path: Of an array, or of a multiscale group.
            variable: The array that is meant, where the levels of the group are groups of arrays.

        Raises:
            NodeNotFound: Nothing is there, or a group that is no multiscale group.
            MetadataError: Its levels do not fit each other.
        """
        name = (path, variable)
        known = self._known.get(name)
        if known is None and name in self._finding:
            await self._finding[name].wait()  # of many who ask at once one looks; where it fails, each of them does
            known = self._known.get(name)
        # While one looks again the others use what is known: a loaded service would have all of them look.
        if known is not None and (monotonic() - known[0] < _KEPT_SECONDS or name in self._finding):
            return known[1]
        ended = Event()
        self._finding.setdefault(name, ended)
        try:
            source = await self._look(session, path, variable)
        finally:
            ended.set()
            if self._finding.get(name) is ended:
                del self._finding[name]
        if len(self._known) >= _MAX_KEPT:
            self._known.clear()
        self._known[name] = (monotonic(), source)
        return source

    async def _look(self, session: Session, path: str, variable: str) -> Source:
        node = await self.node(session, path)
        if not isinstance(node, Array):
            return await self._pyramid(session, node, path, variable)
        one = Level(path=path, factors=(1.0,) * node.ndim)
        return Source(levels=(one,), axes=(), attributes=node.attrs)

    async def _pyramid(self, session: Session, group: Group, path: str, variable: str) -> Source:
        described = multiscale(group.attrs)
        if described is None:
            raise NodeNotFound(
                f"{group.url} is a group without levels: choose an array in it", url=group.url, path=path
            )
        shapes: list[tuple[int, ...]] = []
        paths: list[str] = []
        for name in described.paths[:MAX_LEVELS]:
            parts = (path, name.strip("/"), variable)
            paths.append("/".join(part for part in parts if part))
            found = await self.node(session, paths[-1])
            if not isinstance(found, Array):
                raise NodeNotFound(
                    f"{found.url} is a level of several arrays: say which one by variable=", url=found.url, path=path
                )
            shapes.append(found.shape)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiscale:
    """What the attributes of a group say of its levels, unchecked."""

    paths: tuple[str, ...]
    """Of the levels, relative to the group, finest first."""
    scales: tuple[tuple[float, ...] | None, ...]
    """Of each level, coordinates per element and dimension."""
    axes: tuple[Axis, ...]

    def ratios(self, number: int, ndim: int) -> tuple[float, ...] | None:
        """Elements of the first level per element of this one, as the attributes say."""
        first, this = self.scales[0], self.scales[number]
        if first is None or this is None or not len(first) == len(this) == ndim or 0 in first:
            return None
        return tuple(abs(b / a) for a, b in zip(first, this, strict=True))


def multiscale(attributes: Mapping[str, Any]) -> Multiscale | None:
    """The levels of a group, or None where its attributes name none.

    Understood are OME-Zarr 0.4 (`multiscales`) and 0.5 (`ome`), pyramids of xarray datasets (as OME's, but levels are
    groups), and the convention of zarr-conventions (`multiscales` with a `layout`).
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
    """The numbers of the first transformation of a kind."""
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

    Shapes alone say it inexactly, since sizes are rounded: a whole number that explains the size is taken first, then
    what the attributes say if it agrees with the shapes, then the ratio of the shapes.
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
    """The dimensions that go down and across, unless the user says otherwise: (y, x), None where there is none."""
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
