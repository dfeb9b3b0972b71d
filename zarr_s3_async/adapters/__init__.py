"""Adapters to other libraries. Each module is imported on first use; the extra has the module's name."""

from importlib import import_module as _import_module

_MODULES = ("dask", "obspec", "obstore", "torch", "xarray", "zarr")


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return _import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_MODULES)}")
