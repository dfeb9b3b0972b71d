"""The contenders, by name. Nothing heavy is imported until one of them is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from .base import Library, Task

OURS = "zarr_s3_async"


@dataclass(frozen=True, slots=True)
class Contender:
    """A library, or a bare loop, that can be measured."""

    name: str
    where: str
    """`module:class` in this package."""
    needs: tuple[str, ...]
    """Modules that must be installed."""
    distributions: tuple[str, ...]
    """Distributions whose versions are reported."""
    bare: bool = False
    """Moves bytes only: a floor, not a competitor."""
    before: bool = False
    """Runs with this library as it was in the commit of `--against`."""

    def missing(self) -> str | None:
        """The first module that is not installed."""
        return next((name for name in self.needs if find_spec(name) is None), None)

    def load(self, task: Task) -> Library:
        """Import the class and create an instance."""
        module, _, name = _BY_ACTION.get(task.workload.action, self.where).partition(":")
        cls: type[Library] = getattr(import_module(f".{module}", __name__), name)
        return cls(task)

    def versions(self) -> dict[str, str]:
        """Versions of its installed distributions."""
        found = {}
        for name in self.distributions:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found


_BY_ACTION = {"epoch": "on_loaders:Epochs", "copy": "on_copies:Copies", "cold": "on_cold:Cold"}
"""Workloads for which one class runs all contenders, by their name."""
_AGAIN, _BEFORE = ", again", ", before"


def again(name: str) -> str:
    """The same contender in another process: the difference between the two is the noise of a run."""
    return name + _AGAIN


def before(name: str) -> str:
    """The same contender with this library as it was in the commit of `--against`."""
    return name + _BEFORE


def base_name(name: str) -> str:
    """The contender of which this is another process."""
    return name.removesuffix(_AGAIN).removesuffix(_BEFORE)


NULL = again(OURS)
ADAPTED = {"zarr + zarr_s3_async", "dask + zarr_s3_async"}
"""Other libraries over our stores: ours, in the rows of adapters."""

_ALL = (
    Contender(OURS, "ours:Ours", (), ("zarr-s3-async", "aiobotocore", "numcodecs", "numpy")),
    Contender(f"{OURS} + uvloop", "ours:OnUvloop", ("uvloop",), ("uvloop",)),
    Contender(f"{OURS}, sdk", "ours:OnSdk", (), ()),
    Contender(f"{OURS} + chunk cache", "ours:Remembering", (), ()),
    Contender("zarrista", "on_zarrista:Zarrista", ("zarrista", "obstore"), ("zarrista", "obstore")),
    Contender("tensorstore", "on_tensorstore:TensorStore", ("tensorstore",), ("tensorstore",)),
    Contender("zarr + obstore", "on_zarr:OverObstore", ("zarr", "obstore"), ("zarr", "obstore")),
    Contender("zarr + zarrs", "on_zarr:OverZarrs", ("zarr", "zarrs", "obstore"), ("zarrs",)),
    Contender("zarr + s3fs", "on_zarr:OverS3fs", ("zarr", "s3fs"), ("s3fs",)),
    Contender("icechunk", "on_icechunk:Icechunk", ("zarr", "icechunk"), ("icechunk",)),
    Contender("zarr + zarr_s3_async", "on_zarr:OverOurs", ("zarr",), ()),
    Contender("dask + zarr_s3_async", "on_dask:OverOurs", ("dask",), ("dask",)),
    Contender("dask + zarr + obstore", "on_dask:OverObstore", ("dask", "zarr", "obstore"), ("dask",)),
    Contender("zarr", "on_copies:Copies", ("zarr",), ("zarr",)),
    Contender("dask", "on_copies:Copies", ("dask", "zarr"), ("dask",)),
    Contender(f"{OURS}, global", "on_loaders:Epochs", (), ()),
    Contender("DataLoader, zarr + obstore", "on_loaders:Epochs", ("torch", "zarr", "obstore"), ("torch",)),
    Contender("bare read", "on_loaders:Epochs", (), (), bare=True),
    Contender("bare obstore", "bare:Obstore", ("obstore",), (), bare=True),
    Contender("bare aiobotocore", "bare:Aiobotocore", ("aiobotocore",), ("aiohttp",), bare=True),
    Contender("bare wire", "bare:OurWire", ("zarr_s3_async.stores.s3.wire",), (), bare=True),
)
_OVER_OURS = tuple(c for c in _ALL if c.name in {OURS, *ADAPTED})
CONTENDERS = {
    contender.name: contender
    for contender in (
        *_ALL,
        *(replace(c, name=again(c.name)) for c in _OVER_OURS),
        *(replace(c, name=before(c.name), before=True) for c in _OVER_OURS),
    )
}
