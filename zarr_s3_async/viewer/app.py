"""The viewer's HTTP interface, and its page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from importlib.util import find_spec
from inspect import signature
from math import inf, isfinite, prod
from time import monotonic
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, Unpack, cast, get_args

import numpy as np
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .. import Array, ArrayRef, ConfigError, Group, GroupRef, Session, SessionOptions, Where, ZarrS3Error
from .. import fastapi as kit
from .._concurrency.turns import FewPerTurn
from .._options import check_choice, check_count, check_flag, check_names, check_options, check_timeout, max_age_of
from .._types import strict_json
from .._where import check_where
from ..config import CachePolicy
from . import painting, planes
from .painting import COLOR_MAPS, Painter, Part, Statistics, Stretch
from .planes import TILE, Plane
from .sources import Source, Sources, default_plane, keep, multiscale

MAX_MEMBERS: Final = 2000
"""Maximum number of members of a group that are listed."""
_MAX_JSON_ELEMENTS: Final = 10_000
_SAMPLE_PIXELS: Final = 512
"""Maximum pixels along each side of the sample for statistics."""
_KEPT_STATISTICS: Final = 256
_TILES_PER_TURN: Final = 8
"""Tiles that are begun in one iteration of the loop; each takes half a millisecond and more of CPU time."""
_KEPT_COORDINATES: Final = 1000
_KEPT_SECONDS: Final = 60.0
"""How long statistics, and the paths of coordinates, are kept."""
_PAGE: Final = {"page.js": "text/javascript", "page.css": "text/css"}
_POLICY: Final = "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'"
_FLAGS: Final = {
    "0": False,
    "false": False,
    "no": False,
    "off": False,
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
}
_PLANE_QUERY: Final = frozenset({"path", "variable", "y", "x", "at", "part", "hide"})
_TILE_QUERY: Final = _PLANE_QUERY | {"colors", "reverse", "low", "high", "thin"}
Hide: TypeAlias = Literal["auto", "fill", "none"]


def create_app(
    where: Where,
    *,
    cache_policy: CachePolicy | None = 10.0,
    max_tile_bytes: int = 2**26,
    max_slice_bytes: int = 2**28,
    timeout: float | None = 30.0,
    details: bool = False,
    hosts: Sequence[str] | None = None,
    **options: Unpack[SessionOptions],
) -> FastAPI:
    """An application that shows an array, or the arrays of a group: its page is at `/`, its metrics are at `/metrics`
    where `prometheus-client` is installed.

    Args:
        where: A URL, a store or a ref.
        cache_policy: Maximum age of the data in a tile, for the session's cache and for browsers; see
            `Session.open_array`. None: nothing is cached.
        max_tile_bytes: Maximum decoded bytes of the chunks that are read for one tile.
        max_slice_bytes: Maximum bytes of one slice.
        timeout: Maximum seconds until a tile, a value or the first elements of a slice are read.
        details: Send all error messages to the client, also those that name buckets and servers: for an application
            that only its own user can reach.
        hosts: The accepted values of the Host header, as a protection against DNS rebinding; None: any.
        options: Options of `Session`.

    Returns:
        The application. Its session is opened when it starts, and closed when it stops.

    Raises:
        ConfigError: An option has an invalid value.
    """
    check_count("max_tile_bytes", max_tile_bytes)
    check_count("max_slice_bytes", max_slice_bytes)
    check_timeout(timeout)
    check_flag("details", details)
    if not isinstance(where, ArrayRef | GroupRef):
        check_where(where)
    if isinstance(hosts, str):
        raise ConfigError(f"hosts is a list of names: write hosts=[{hosts!r}]")
    check_options(options, create_app, SessionOptions.__annotations__)
    registry = None
    if find_spec("prometheus_client") is not None:
        from prometheus_client import CollectorRegistry

        from ..metrics.prometheus import PrometheusHook

        registry = CollectorRegistry()
        options = {**options, "hooks": [*(options.get("hooks") or ()), PrometheusHook(registry)]}
    app = FastAPI(
        title="Zarr viewer",
        docs_url=None,  # FastAPI's documentation pages load scripts from other hosts
        redoc_url=None,
        lifespan=kit.lifespan(**options),
        exception_handlers={
            ZarrS3Error: partial(_problem, details=details),
            RequestValidationError: _invalid,
            HTTPException: _http_problem,
            Exception: _unexpected,
        },
        middleware=[
            *([Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))] if hosts is not None else []),
            *kit.middleware,
        ],
    )
    viewer = _Viewer(
        where, cache=cache_policy, max_tile_bytes=max_tile_bytes, max_slice_bytes=max_slice_bytes, timeout=timeout
    )
    # The first route, and without FastAPI's parameters: their validation would double the time of a tile.
    app.add_route("/api/tile/{zoom}/{row}/{column}.png", viewer.tile, methods=["GET"])
    app.add_api_route("/api/statistics", viewer.statistics, methods=["GET"], response_model=None)
    routes: tuple[tuple[str, *tuple[Callable[..., Any], ...]], ...] = (
        ("/api/nodes", viewer.nodes),
        ("/api/array", viewer.describe),
        ("/api/value", viewer.value),
        ("/api/slice", viewer.slice, kit.region),
        ("/api/session", viewer.figures),
        ("/api/colors", _colors),
        ("/health", _health),
    )
    for path, *readers in routes:
        app.add_api_route(path, readers[0], methods=["GET"], response_model=None, dependencies=[_check_query(*readers)])
    if registry is not None:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        async def metrics() -> Response:
            return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

        app.add_api_route("/metrics", metrics, methods=["GET"], include_in_schema=False)
    _serve_page(app)
    return app


def _serve_page(app: FastAPI) -> None:
    folder = files(__package__) / "page"
    for route, name, kind in (("/", "index.html", "text/html"), *((f"/{n}", n, k) for n, k in _PAGE.items())):
        body = (folder / name).read_bytes()
        etag = f'"{painting.digest(body)}"'

        # The defaults bind the values of this iteration; a closure would see those of the last one.
        async def serve(request: Request, body: bytes = body, kind: str = kind, etag: str = etag) -> Response:
            # `no-cache`: after an update, a browser must not combine the old page with the new interface.
            headers = {"ETag": etag, "Cache-Control": "no-cache", "Content-Security-Policy": _POLICY}
            if _is_known(request, etag):
                return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
            return Response(body, media_type=kind, headers=headers)

        app.add_route(route, serve, methods=["GET"], include_in_schema=False)


# Errors


async def _problem(request: Request, error: Exception, *, details: bool) -> Response:
    assert isinstance(error, ZarrS3Error)  # noqa: S101  # registered for this class only
    return kit.problem(error, request.url.path, details=details)


def _other_problem(request: Request, status: int, name: str, detail: str) -> Response:
    return kit.problem_response(status, name, HTTPStatus(status).phrase, detail, request.url.path)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class only
    detail = "; ".join(f"{'.'.join(map(str, found['loc'][1:]))}: {found['msg']}" for found in error.errors())
    return _other_problem(request, 422, "invalid-request", detail)


async def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class only
    return _other_problem(request, error.status_code, "http", str(error.detail))


async def _unexpected(request: Request, error: Exception) -> Response:
    return _other_problem(request, 500, "internal", f"an error of the viewer: {type(error).__name__}; see its log")


# Query parameters: which plane, and how it is drawn


class _View(NamedTuple):
    path: str
    variable: str
    plane: Plane | None
    """None: the default plane."""
    part: Part
    hide: Hide


def _check_query(*readers: Callable[..., Any]) -> Any:
    """A dependency that refuses query parameters which none of the `readers` has.

    FastAPI ignores unknown ones, so that a misspelt parameter would have its default.
    """
    known = {name for reader in readers for name in signature(reader).parameters} - {"session", "region"}

    async def check(request: Request) -> None:
        check_names(request.query_params, known, "this address")

    return Depends(check)


def _flag(query: Mapping[str, str], name: str) -> bool:
    """Parse a parameter that is true or false; the default is False."""
    text = query.get(name, "0")
    check_choice(name, text, tuple(_FLAGS))
    return _FLAGS[text]


def _view(query: Mapping[str, str], known: Collection[str]) -> _View:
    """Parse the parameters of a plane.

    Args:
        query: All parameters of the request.
        known: Names that the request may have.

    Raises:
        ConfigError: A parameter is unknown or invalid.
    """
    check_names(query, known, "this address")
    part, hide = query.get("part", "abs"), query.get("hide", "auto")
    check_choice("part", part, get_args(Part))
    check_choice("hide", hide, get_args(Hide))
    plane = None
    if "y" in query or "x" in query or "at" in query:
        plane = Plane(_axis("y", query.get("y")), _axis("x", query.get("x")), kit.integers("at", query.get("at", "")))
    return _View(query.get("path", ""), query.get("variable", ""), plane, cast("Part", part), cast("Hide", hide))


class _TileQuery(NamedTuple):
    """The parameters of a tile request."""

    view: _View
    zoom: tuple[int, int]
    row: int
    column: int
    colors: str
    is_reversed: bool
    stretch: Stretch | None
    """None: the limits are percentiles of the plane."""
    thin: bool
    """Omit chunks if the tile covers too many, instead of failing."""


def _tile_query(request: Request) -> _TileQuery:
    """Parse the parameters of a tile request.

    Raises:
        ConfigError: A parameter is invalid.
    """
    query, places = request.query_params, request.path_params
    colors = query.get("colors", "viridis")
    check_choice("colors", colors, COLOR_MAPS)
    zooms = kit.integers("zoom", places["zoom"])
    if len(zooms) not in {1, 2} or not all(0 <= z <= planes.MAX_ZOOM for z in zooms):
        raise ConfigError(f"zoom must be one or two integers from 0 to {planes.MAX_ZOOM}, not {places['zoom'][:80]!r}")
    tile = [kit.integers(name, places[name]) for name in ("row", "column")]
    if not all(len(numbers) == 1 for numbers in tile):
        raise ConfigError("row and column must be one integer each")
    return _TileQuery(
        _view(query, _TILE_QUERY),
        (zooms[0], zooms[-1]),
        tile[0][0],
        tile[1][0],
        colors,
        _flag(query, "reverse"),
        _stretch(query.get("low"), query.get("high")),
        _flag(query, "thin"),
    )


def _axis(name: str, text: str | None) -> int | None:
    if text is None or text in {"", "none"}:
        return None
    found = kit.integers(name, text)
    if len(found) != 1:
        raise ConfigError(f"{name} must be the number of a dimension or `none`, not {text[:80]!r}")
    return found[0]


_Session = Annotated[Session, Depends(kit.session)]


class _Viewer:
    """The request handlers, and their state between requests."""

    def __init__(
        self,
        where: Where,
        *,
        cache: CachePolicy | None,
        max_tile_bytes: int,
        max_slice_bytes: int,
        timeout: float | None,
    ) -> None:
        self._where = where
        self._max_tile_bytes = max_tile_bytes
        self._max_slice_bytes = max_slice_bytes
        self._timeout = timeout
        self._sources = Sources(where, cache)
        self._painter = Painter()
        self._statistics: dict[Any, tuple[float, Statistics]] = {}
        self._coordinates: dict[tuple[str, str], tuple[float, tuple[str | None, ...]]] = {}
        self._starts = FewPerTurn(_TILES_PER_TURN)
        self._tiles = 0
        self._unchanged = 0
        age = max_age_of(cache)
        if not age:
            self._cache_control = "no-cache"
        else:
            self._cache_control = "public, max-age=31536000, immutable" if age == inf else f"max-age={int(age)}"

    # Nodes

    async def nodes(self, session: _Session, path: str = "") -> Response:
        """The members of a group. For an array, the list is empty."""
        node = await self._sources.node(session, path)
        if isinstance(node, Array):
            return JSONResponse({"path": path, "url": node.url, "kind": "array", "members": [], "complete": True})
        members: list[dict[str, Any]] = []
        complete = True
        async for name, member in node.members():
            if len(members) == MAX_MEMBERS:
                complete = False
                break
            members.append({"name": name, **_member(member)})
        kind = "group" if multiscale(node.attrs) is None else "multiscale"
        found = {"path": path, "url": node.url, "kind": kind, "members": members, "complete": complete}
        return JSONResponse(found | {"attributes": strict_json(node.attrs)})

    async def describe(self, session: _Session, path: str = "", variable: str = "") -> Response:
        """An array or a multiscale group: metadata, levels, and default plane."""
        source, array = await self._first(session, path, variable)
        names = _names(source, array)
        y, x = default_plane(array.shape, names)
        meta = array.metadata
        reason = None
        try:
            painting.check_dtype(array.dtype)
        except ZarrS3Error as error:
            reason = str(error)
        described = {
            "url": array.url,
            "path": path,
            "variable": variable,
            "shape": array.shape,
            "dtype": str(array.dtype),
            "kind": "f" if array.dtype.kind == "V" and reason is None else array.dtype.kind,
            "chunks": meta.chunks,
            "shards": meta.shards,
            "order": array.order,
            "fill_value": str(array.fill_value),
            "zarr_format": meta.zarr_format,
            "nbytes": array.nbytes,
            "names": names,
            "units": [axis.unit for axis in source.axes] or [None] * array.ndim,
            "levels": [
                {"path": level.path, "factors": level.factors, "shape": (await self._array(session, level.path)).shape}
                for level in source.levels
            ],
            "attributes": strict_json(source.attributes),
            "plane": {"y": y, "x": x, "at": [0] * array.ndim},
            "tile": TILE,
            "cannot_draw": reason,
        }
        return JSONResponse(described)

    async def _array(self, session: Session, path: str) -> Array:
        return await self._sources.array(session, path)

    async def _first(self, session: Session, path: str, variable: str) -> tuple[Source, Array]:
        """The source, and the array of its finest level."""
        source = await self._sources.find(session, path, variable)
        return source, await self._array(session, source.levels[0].path)

    # Tiles

    async def tile(self, request: Request) -> Response:
        """A tile of up to 256 by 256 pixels, each of which shows one of 2**zoom by 2**zoom elements.

        `zoom` is one number, or two numbers (vertical and horizontal), as in `3,10`.
        """
        await self._starts.wait()
        session = await kit.session(request)
        asked = _tile_query(request)
        view, stretch, colors, row, column = asked.view, asked.stretch, asked.colors, asked.row, asked.column
        source, first = await self._first(session, view.path, view.variable)
        painting.check_dtype(first.dtype)
        plane = _plane_of(view, source, first)
        if stretch is None:
            found = await self._statistics_of(session, view, source, first, plane)
            stretch = Stretch(found.low, found.high)
        box = (row * TILE, (row + 1) * TILE, column * TILE, (column + 1) * TILE)
        max_bytes = max(1, self._max_tile_bytes // 4) if asked.thin else self._max_tile_bytes
        reading = await self._read(session, source, first, plane, asked.zoom, box, max_bytes=max_bytes, thin=asked.thin)
        values, mask = painting.numbers(reading.data, part=view.part, hidden=_hidden(first, view.hide))
        painted = painting.paint(values, mask, stretch)
        name = Painter.name(painted, colors, is_reversed=asked.is_reversed)
        etag = f'"{name}"'
        headers = {"ETag": etag, "Cache-Control": self._cache_control}
        if reading.skipped:
            headers["X-Skipped-Chunks"] = f"{reading.skipped}/{reading.skipped + reading.chunks}"
        self._tiles += 1
        # Compared before the PNG is made: drawing is most of a tile's CPU time.
        if _is_known(request, etag):
            self._unchanged += 1
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        body = self._painter.png(painted, colors, is_reversed=asked.is_reversed, name=name)
        return Response(body, media_type="image/png", headers=headers)

    async def _read(
        self,
        session: Session,
        source: Source,
        first: Array,
        plane: Plane,
        zoom: tuple[int, int],
        box: Sequence[int],
        *,
        max_bytes: int,
        thin: bool,
    ) -> planes.Reading:
        level = source.levels[planes.choose_level(source.levels, plane, zoom)]
        array = first if level is source.levels[0] else await self._array(session, level.path)
        # A chunk that is larger than a tile's budget would be fetched whole for the cache.
        if planes.chunk_nbytes(array) > max_bytes:
            array = await self._sources.uncached(session, level.path)
        grid = planes.grid_of(level, array.shape, plane, zoom, box, first.shape)
        return await planes.read(array, plane, grid, max_bytes=max_bytes, thin=thin, timeout=self._timeout)

    async def statistics(self, request: Request, session: _Session) -> Response:
        """Percentiles and a histogram of a plane, computed from a sample."""
        view = _view(request.query_params, _PLANE_QUERY)
        source, first = await self._first(session, view.path, view.variable)
        found = await self._statistics_of(session, view, source, first, _plane_of(view, source, first))
        return JSONResponse(strict_json(found._asdict()), headers={"Cache-Control": self._cache_control})

    async def _statistics_of(
        self, session: Session, view: _View, source: Source, first: Array, plane: Plane
    ) -> Statistics:
        # With the shape, because the array may have grown since.
        name = (view.path, view.variable, plane, first.shape, view.part, view.hide)
        known = self._statistics.get(name)
        if known is not None and monotonic() - known[0] < _KEPT_SECONDS:
            return known[1]
        painting.check_dtype(first.dtype)
        height, width = (1 if axis is None else first.shape[axis] for axis in (plane.y, plane.x))
        if not height or not width:
            return painting.statistics(np.empty(0), None)
        # The first zoom at which neither side has more than `_SAMPLE_PIXELS` pixels.
        down, across = ((-(-n // _SAMPLE_PIXELS) - 1).bit_length() for n in (height, width))
        box = (0, planes.pixels(height, down), 0, planes.pixels(width, across))
        max_bytes = max(1, self._max_tile_bytes // 2)
        reading = await self._read(session, source, first, plane, (down, across), box, max_bytes=max_bytes, thin=True)
        found = painting.statistics(*painting.numbers(reading.data, part=view.part, hidden=_hidden(first, view.hide)))
        keep(self._statistics, name, (monotonic(), found), _KEPT_STATISTICS)
        return found

    # Elements

    async def value(self, session: _Session, path: str = "", variable: str = "", at: str = "") -> Response:
        """One element of the first level, with its coordinates if they are stored."""
        source, array = await self._first(session, path, variable)
        index = kit.integers("at", at)
        element = await array.get_slice(index, tuple(i + 1 for i in index), timeout=self._timeout)
        found = element.reshape(())[()]
        names = _names(source, array)
        coordinates = []
        places = await self._coordinates_of(session, path, variable, names, array.shape)
        for number, (i, place) in enumerate(zip(index, places, strict=True)):
            coordinates.append(await self._coordinate(session, source, number, i, place))
        document = {"at": index, "value": strict_json(found), "text": _text(found), "coordinates": coordinates}
        return JSONResponse(document, headers={"Cache-Control": self._cache_control})

    async def _coordinates_of(
        self, session: Session, path: str, variable: str, names: Sequence[str | None], shape: Sequence[int]
    ) -> tuple[str | None, ...]:
        """Paths of the coordinate arrays: arrays in the same group with the names of the dimensions, as xarray does."""
        known = self._coordinates.get((path, variable))
        # An array that replaced the known one may have another number of dimensions.
        if known is not None and monotonic() - known[0] < _KEPT_SECONDS and len(known[1]) == len(shape):
            return known[1]
        places: list[str | None] = [None] * len(shape)
        parent, sep, own = path.rpartition("/")
        if path and not variable:
            for number, (name, n) in enumerate(zip(names, shape, strict=True)):
                if name and "/" not in name and name != own:
                    with suppress(ZarrS3Error):  # without coordinates, the page shows the index
                        beside = await self._array(session, f"{parent}{sep}{name}")
                        if beside.shape == (n,):
                            places[number] = f"{parent}{sep}{name}"
        found = tuple(places)
        keep(self._coordinates, (path, variable), (monotonic(), found), _KEPT_COORDINATES)
        return found

    async def _coordinate(
        self, session: Session, source: Source, axis: int, index: int, place: str | None
    ) -> str | None:
        if place is not None:
            with suppress(ZarrS3Error):
                array = await self._array(session, place)
                element = await array.get_slice(index, index + 1, timeout=self._timeout)
                unit = array.attrs.get("units")
                return _text(element[0]) + (f" {unit}" if isinstance(unit, str) and len(unit) < 40 else "")
        if source.axes and (scale := source.axes[axis].scale) is not None:
            return f"{index * scale + source.axes[axis].offset:.7g} {source.axes[axis].unit or ''}".strip()
        return None

    async def slice(
        self,
        session: _Session,
        region: Annotated[kit.Region, Depends(kit.region)],
        path: str = "",
        variable: str = "",
        format: Literal["bytes", "npy", "json"] = "npy",  # noqa: A002  # the name in the query
    ) -> Response:
        """A region of the first level, as `.npy`, as bytes, or as JSON if it is small."""
        _, array = await self._first(session, path, variable)
        if format != "json":
            return kit.SliceResponse(
                array, *region, format=format, max_bytes=self._max_slice_bytes, timeout=self._timeout
            )
        lengths = zip(region.start, region.stop, region.step or (1,) * len(region.start), strict=False)
        if prod(max(0, -(-(b - a) // max(n, 1))) for a, b, n in lengths) > _MAX_JSON_ELEMENTS:
            raise kit.ResponseTooLarge(f"JSON is limited to {_MAX_JSON_ELEMENTS:,} elements: request npy or bytes")
        data = await array.get_slice(*region, timeout=self._timeout)
        return JSONResponse({"shape": data.shape, "dtype": str(data.dtype), "values": strict_json(data)})

    # Metrics

    async def figures(self, session: _Session) -> Response:
        """Metrics of the session since the viewer was started, and its current usage."""
        metrics, usage = session.metrics, session.usage
        return JSONResponse(
            {
                "requests": metrics.requests.total(),
                "bytes_received": metrics.bytes_received,
                # Absent chunks and clients that disconnect are normal.
                "errors": metrics.errors.total() - metrics.errors["NoSuchKey"] - metrics.errors["CancelledError"],
                "cancelled": metrics.errors["CancelledError"],
                "retries": metrics.retries,
                "shared_reads": metrics.shared_reads,
                "cache_hits": metrics.cache_hits["chunks"],
                "cache_misses": metrics.cache_misses["chunks"],
                "in_flight": usage.requests,
                "waiting": usage.requests_waiting,
                "requests_limit": usage.requests_limit,
                "cached_bytes": usage.cached_chunk_bytes,
                "tiles": self._tiles,
                "unchanged_tiles": self._unchanged,
            },
            headers={"Cache-Control": "no-store"},
        )


async def _colors() -> Response:
    """The colour maps, with 255 colours each, from low to high."""
    tables = {name: painting.color_table(name).tobytes().hex() for name in COLOR_MAPS}
    return JSONResponse(tables, headers={"Cache-Control": "max-age=86400"})


async def _health(session: _Session) -> Response:
    """A health check of the application. It sends no request to the store."""
    return JSONResponse({"status": "closed" if session.closed else "ok"}, 503 if session.closed else 200)


def _is_known(request: Request, etag: str) -> bool:
    asked = request.headers.get("if-none-match", "")
    return any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in asked.split(",")) if asked else False


def _stretch(low: str | None, high: str | None) -> Stretch | None:
    if low is None and high is None:
        return None
    try:
        found = Stretch(float(low or ""), float(high or ""))
    except ValueError:
        found = Stretch(inf, -inf)
    if not (isfinite(found.low) and isfinite(found.high)) or found.low > found.high:
        raise ConfigError(f"low and high must be finite numbers with low <= high, or both absent, not {low} and {high}")
    return found


def _plane_of(view: _View, source: Source, array: Array) -> Plane:
    """The plane of a request, or the default plane.

    Raises:
        SelectionError: The plane does not exist in the array.
    """
    if view.plane is None:
        return Plane(*default_plane(array.shape, _names(source, array)), (0,) * array.ndim)
    planes.check_plane(view.plane, array.shape)
    return view.plane


def _names(source: Source, array: Array) -> tuple[str | None, ...]:
    if source.axes:
        return tuple(axis.name for axis in source.axes)
    return array.dimension_names or (None,) * array.ndim


def _hidden(array: Array, hide: Hide) -> Any:
    """The element that, like NaN, is not drawn; None for no such element.

    `auto` is the missing value in the attributes, or else the fill value, unless that is zero: in pictures zero is
    black.
    """
    if hide == "none":
        return None
    declared = array.attrs.get("_FillValue", array.attrs.get("missing_value"))
    if isinstance(declared, int | float) and not isinstance(declared, bool):
        return declared
    fill = array.fill_value
    if hide == "auto" and (fill is None or array.dtype.kind == "b" or not np.any(np.asarray(fill))):
        return None
    return fill


def _member(member: Any) -> dict[str, Any]:
    if isinstance(member, Array):
        return {"kind": "array", "shape": member.shape, "dtype": str(member.dtype)}
    if isinstance(member, Group):
        return {"kind": "group" if multiscale(member.attrs) is None else "multiscale"}
    return {"kind": "unreadable", "error": str(member.error)}


def _text(value: Any) -> str:
    """An element as text, with a readable number of digits."""
    if isinstance(value, np.datetime64 | np.timedelta64):
        return str(value)
    if isinstance(value, np.floating):
        return f"{value:.7g}" if value.dtype.itemsize <= np.dtype(np.float32).itemsize else f"{value:.10g}"
    if isinstance(value, np.complexfloating):
        return f"{value:.7g}"
    text = str(value)
    return text if len(text) <= 200 else text[:199] + "…"  # one line of the page
