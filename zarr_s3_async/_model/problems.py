"""Internal validation errors of the model, and their mapping to public errors."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import ConfigError, MetadataError, UnsupportedFeature


class Invalid(ValueError):
    """A value breaks the rules of the format."""


class Unknown(ValueError):
    """A value may be valid, but this library does not support it."""


class MissingPackage(Unknown):
    """A value is supported, but needs a package that is not installed."""


@contextmanager
def document_errors(url: str, name: str) -> Iterator[None]:
    """Map errors about the document `name` of the node at `url` to MetadataError or UnsupportedFeature."""
    try:
        yield
    except Invalid as problem:
        raise MetadataError(
            f"{url}/{name} is not valid: {problem}", url=url
        ) from None  # the cause has the same message
    except Unknown as problem:
        raise UnsupportedFeature(
            f"{url}/{name} cannot be used here: {problem}", url=url
        ) from None  # the cause has the same message


@contextmanager
def option_errors() -> Iterator[None]:
    """Map errors about options to ConfigError, or to UnsupportedFeature for a missing package."""
    try:
        yield
    except MissingPackage as problem:
        raise UnsupportedFeature(str(problem)) from problem
    except (Invalid, Unknown) as problem:
        raise ConfigError(str(problem)) from None  # the cause has the same message


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel = 2


def short_repr(value: object) -> str:
    """A shortened repr for messages: the value may be untrusted and long."""
    try:
        return _SHORT.repr(value)
    except ValueError:
        # Python refuses to convert integers of more than a few thousand digits to text.
        return f"a huge {type(value).__name__}"
