"""An xarray engine that reads arrays with this library: `xr.open_dataset(url, engine="zarr_s3")`.

xarray itself reads names, dimensions and attributes, through `ZarrStore` and zarr-python; only the elements of arrays
are read without zarr-python. Sharded arrays gain most: docs/xarray.md has the figures. To write, pass a `ZarrStore` to
`to_zarr`.
"""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Iterable, Mapping
from typing import Any

try:
    import xarray
    from xarray.backends import BackendArray
    from xarray.backends import ZarrStore as XarrayStore
    from xarray.backends.zarr import ZarrBackendEntrypoint
    from xarray.core import indexing
except ImportError as _error:
    raise ImportError("this engine needs xarray and zarr-python: pip install xarray 'zarr-s3-async[zarr]'") from _error

import numpy as np

import zarr_s3_async as zs

from .._concurrency.loop_thread import background_loop
from ._place import Place
from .zarr import ZarrStore

_KINDS = "biufcmM"
"""Kinds of dtypes that this library and zarr-python read alike: numbers and times. zarr-python reads the others."""


class Engine(ZarrBackendEntrypoint):
    """The engine `zarr_s3`: `xr.open_dataset("s3://bucket/prefix", engine="zarr_s3", options={"anonymous": True})`.

    It has the arguments of xarray's engine `zarr` except `mode`, `storage_options` and `store`. In addition it has
    `options`: options of a session, with a URL only. `xr.open_datatree` and `xr.open_groups` support it too.
    """

    description = "Open Zarr arrays on S3, in folders and on web servers with zarr-s3-async"
    url = "https://zarr.dev"
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Always False: for URLs that end in `.zarr`, xarray's own engine is the default."""
        del filename_or_obj
        return False

    def open_dataset(  # type: ignore[override]  # fewer arguments than xarray's engine has
        self,
        filename_or_obj: str | os.PathLike[Any] | zs.Store | ZarrStore,
        *,
        mask_and_scale: bool = True,
        decode_times: bool = True,
        concat_characters: bool = True,
        decode_coords: bool = True,
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: bool | None = None,
        decode_timedelta: bool | None = None,
        group: str | None = None,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> xarray.Dataset:
        """See `xr.open_dataset`.

        Raises:
            ConfigError: The URL or an option is invalid.
        """
        store = _store(filename_or_obj, options)
        opened = _Arrays.open_group(store, mode="r", group=group, consolidated=consolidated, zarr_format=zarr_format)
        return super().open_dataset(
            store.url,
            mask_and_scale=mask_and_scale,
            decode_times=decode_times,
            concat_characters=concat_characters,
            decode_coords=decode_coords,
            drop_variables=drop_variables,
            use_cftime=use_cftime,
            decode_timedelta=decode_timedelta,
            store=opened,
        )

    def open_groups_as_dict(  # type: ignore[override]  # as above
        self,
        filename_or_obj: str | os.PathLike[Any] | zs.Store | ZarrStore,
        *,
        group: str | None = None,
        consolidated: bool | None = None,
        zarr_format: int | None = None,
        options: Mapping[str, Any] | None = None,
        **decoding: Any,
    ) -> dict[str, xarray.Dataset]:
        """One dataset per group, by path below `group`; see `xr.open_groups`."""
        store, root = _store(filename_or_obj, options), f"/{(group or '').strip('/')}"
        opened = _Arrays.open_store(store, mode="r", group=root, consolidated=consolidated, zarr_format=zarr_format)
        return {
            f"/{path.removeprefix(root).strip('/')}": super(Engine, self).open_dataset(
                store.url, store=found, **decoding
            )
            for path, found in opened.items()
        }

    def open_datatree(  # type: ignore[override]  # as above
        self, filename_or_obj: str | os.PathLike[Any] | zs.Store | ZarrStore, **options: Any
    ) -> xarray.DataTree:
        """All groups as a tree; see `xr.open_datatree`. The arguments are those of `open_groups_as_dict`."""
        return xarray.DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))


def _store(where: str | os.PathLike[Any] | zs.Store | ZarrStore, options: Mapping[str, Any] | None) -> ZarrStore:
    if not isinstance(where, ZarrStore):
        return ZarrStore(where, read_only=True, **(options or {}))
    if options:
        raise zs.ConfigError("options= is only for URLs: a ZarrStore has options already")
    return where.with_read_only(read_only=True)


class _Arrays(XarrayStore):
    """xarray's view of a group, with variables that this library reads."""

    def open_store_variable(self, name: str) -> xarray.Variable:
        variable: xarray.Variable = super().open_store_variable(name)  # type: ignore[no-untyped-call]  # of xarray's
        array: Any = self.members[name]
        if array.dtype.kind not in _KINDS:
            return variable
        reader = _Reader(array.store.place, array.path, array.shape, array.dtype)
        data = indexing.LazilyIndexedArray(reader)
        return xarray.Variable(variable.dims, data, variable.attrs, variable.encoding, fastpath=True)


class _Reader(BackendArray):
    """A lazily opened array. It pickles as a reference."""

    __slots__ = ("_open", "_path", "_place", "dtype", "shape")

    def __init__(self, place: Place, path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._place = place
        self._path = path
        self.shape = shape
        self.dtype = dtype
        self._open: tuple[AbstractEventLoop, zs.Session, zs.Array] | None = None
        """The last event loop, with its session and array."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _Reader, (self._place, self._path, self.shape, self.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return background_loop().run(self.async_getitem(key))

    async def async_getitem(self, key: indexing.ExplicitIndexer) -> Any:
        """Read a selection. Called by `load_async`, and by `__getitem__` on the background loop."""
        support, read = indexing.IndexingSupport.VECTORIZED, self._read_outer
        if isinstance(key, indexing.VectorizedIndexer):
            if any(isinstance(part, slice) for part in key.tuple):
                support = indexing.IndexingSupport.OUTER  # `vindex` supports no slices
            else:
                read = self._read_points
        return await indexing.async_explicit_indexing_adapter(key, self.shape, support, read)

    async def _read_points(self, key: tuple[Any, ...]) -> Any:
        return await (await self._array()).vindex[key]

    async def _read_outer(self, key: tuple[Any, ...]) -> Any:
        return await (await self._array()).oindex[key]

    async def _array(self) -> zs.Array:
        loop, known = get_running_loop(), self._open
        if known is not None and known[0] is loop and not known[1].closed:
            return known[2]
        store = self._place.store()
        session = self._place.session()
        array = await session.open_array(store, path=self._path)
        if array.shape != self.shape or array.dtype != self.dtype:
            raise zs.ConcurrentModification(
                f"{array.url} has shape {array.shape} and dtype {array.dtype}, but had {self.shape} and {self.dtype} "
                "when the dataset was opened; open the dataset again"
            )
        self._open = (loop, session, array)
        return array
