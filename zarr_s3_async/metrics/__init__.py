"""Hooks that export a session's events and metrics: `prometheus` and `otel` (extras of these names), and `logs`.

Each module is imported on first use, and then imports its library.
"""

from importlib import import_module as _import_module

_MODULES = ("logs", "otel", "prometheus")


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return _import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_MODULES)}")
