"""Validation of options at the public API: their names, types and values.

Every function raises a ConfigError that names the option and the accepted values, and suggests a correction if there is
a near match. A value that may be a secret is never shown; the message names its type instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from math import inf, isnan
from operator import index
from typing import Any

from .errors import ConfigError

FORMATS = (2, 3)
_FLOAT_LIMIT = 2**1023
"""An int of this size or more may be too large for a float."""
MISSING = ("fill", "raise")
CACHE_POLICIES = ("immutable", "revalidate")

_OTHERS_NAMES = {
    # boto3 and botocore
    "region_name": "region",
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
    "profile_name": "profile",
    "verify": "ca_bundle",
    # s3fs and fsspec
    "key": "access_key_id",
    "secret": "secret_access_key",
    "token": "session_token",
    "anon": "anonymous",
    "endpoint": "endpoint_url",
    "requester": "requester_pays",
    # obstore and object_store
    "skip_signature": "anonymous",
    "aws_region": "region",
    "aws_endpoint": "endpoint_url",
    "aws_endpoint_url": "endpoint_url",
    # of this library, one level up
    "requests": "limits=zs.Limits(requests=...)",
    "max_concurrency": "limits=zs.Limits(requests=...)",
    "concurrency": "limits=zs.Limits(requests=...)",
    "attempts": "retry=zs.RetryPolicy(attempts=...)",
    "retries": "retry=zs.RetryPolicy(attempts=...)",
    # zarr-python
    "compressors": "compressor",
    "chunk": "chunks",
    "chunk_shape": "chunks",
    "shard": "shards",
    "fill": "fill_value",
    "dims": "dimension_names",
    "attrs": "attributes",
    "zarr_version": "zarr_format",
    "format": "zarr_format",
    "mode": "overwrite",
}
"""Option names of other libraries, and their names here. Suggested only if the call has that option."""


def unknown_option(name: str, known: Collection[str], of: str) -> ConfigError:
    """The error for an option that a call does not have; it names the nearest one that it has.

    Args:
        name: The unknown name.
        known: The names that the call accepts.
        of: The function or class, such as `Session`.
    """
    meant = _OTHERS_NAMES.get(name)
    # Names of other libraries are only a hint if this call has the option.
    if meant is not None and meant.partition("=")[0] not in known:
        meant = None
    if meant is None:
        meant = _nearest(name, known)
    if meant is None:
        return ConfigError(f"unknown option {name!r}; {of} takes: {', '.join(sorted(known))}")
    return ConfigError(f"unknown option {name!r} of {of}: write {meant if '=' in meant else meant + '='}")


def check_names(given: Iterable[str], known: Collection[str], of: str) -> None:
    """Raise for the first unknown name; see `unknown_option`."""
    for name in given:
        if name not in known:
            raise unknown_option(str(name), known, of)


def check_options(given: Iterable[str], of: Callable[..., object], more: Collection[str]) -> None:
    """Like `check_names`, for the `**options` of a function: near matches are looked for in its own arguments, too.

    Args:
        given: Names of the options.
        of: The function.
        more: Names that it accepts as `**options`.
    """
    check_names(given, {*more, *(of.__kwdefaults__ or ())}, of.__name__)


def check_choice(name: str, value: Any, choices: Sequence[str | int]) -> None:
    """`value` must be one of the words (or numbers)."""
    # The types too: True equals 1, and 2.0 equals 2.
    if any(type(value) is type(choice) and value == choice for choice in choices):
        return
    if isinstance(value, str) and value in choices:
        return  # a subclass of str, such as a member of an enumeration
    near = _nearest(value, [c for c in choices if isinstance(c, str)]) if isinstance(value, str) else None
    hint = "" if near is None else f": did you mean {near!r}?"
    raise ConfigError(f"{name} must be one of {', '.join(map(str, choices))}, not {_short(value)}{hint}")


def check_flag(name: str, value: Any) -> None:
    """`value` must be True or False: text such as "false" would be truthy."""
    if value is not True and value is not False:
        raise ConfigError(f"{name} must be True or False, not {_short(value)}")


def check_text(name: str, value: Any) -> None:
    """`value` must be a str. It is not shown, since it may be a secret of another type."""
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text (str), not {type(value).__name__}")
    if not is_unicode(value):
        raise ConfigError(f"{name} contains a lone surrogate, which cannot be encoded as UTF-8")


def is_unicode(text: str) -> bool:
    """False for text with a lone surrogate, which UTF-8 cannot encode."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def check_line(name: str, value: Any) -> None:
    """`value` must be valid in an HTTP header: a line end would start another header. It is not shown."""
    check_text(name, value)
    if not value:  # as of an environment variable that is set to nothing
        raise ConfigError(f"{name} is empty: give a value, or leave it out (None)")
    if any(letter < " " or letter == "\x7f" for letter in value):
        raise ConfigError(f"{name} contains a line end or another control character")


def _is_number(value: Any) -> bool:
    """True for a float, or an int that can be converted to one; an int may be too large."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < _FLOAT_LIMIT


def check_seconds(name: str, value: Any) -> None:
    """`value` must be a number above zero."""
    if not _is_number(value) or not value > 0:
        raise ConfigError(f"{name} must be a number above zero, not {_short(value)}")


def check_share(name: str, value: Any) -> None:
    """`value` must be a number between 0 and 1, both exclusive."""
    if not _is_number(value) or not 0 < value < 1:
        raise ConfigError(f"{name} must be a number between 0 and 1 (exclusive), not {_short(value)}")


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """`value` must be an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {_short(value)}")


def check_integer(name: str, value: Any) -> int:
    """`value` as an int: Python's or NumPy's, and no boolean."""
    if not isinstance(value, bool):
        try:
            return index(value)
        except TypeError:
            pass
    raise ConfigError(f"{name} must be a whole number, not {_short(value)}")


def check_integers(name: str, value: Any) -> tuple[int, ...]:
    """`value` as a tuple of ints: one integer, or a sequence of them."""
    try:
        return (index(value),) if not isinstance(value, Iterable) else tuple(check_integer(name, v) for v in value)
    except TypeError as error:
        raise ConfigError(f"{name} must be integers, one for each dimension, not {_short(value)}") from error


def check_mapping(name: str, value: Any) -> None:
    """`value` must be a mapping, such as a dict."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a mapping, such as a dict, not {_short(value)}")


def check_callable(name: str, value: Any) -> None:
    """`value` must be a function, or None."""
    if value is not None and not callable(value):
        raise ConfigError(f"{name} must be a function or None, not {_short(value)}")


def check_timeout(value: Any, name: str = "timeout") -> None:
    """`timeout=` of a call, or an option like it: None, or seconds."""
    if value is None:
        return
    if not _is_number(value) or isnan(value) or value < 0:
        raise ConfigError(f"{name} must be a number of seconds or None, not {_short(value)}")


def max_age_of(policy: Any) -> float | None:
    """`cache=` of a call that opens, as seconds: `immutable` is infinity, `revalidate` is 0; None is None."""
    if policy is None:
        return None
    if isinstance(policy, int | float) and not isinstance(policy, bool):
        check_seconds("cache", policy)
        return float(policy)
    if not isinstance(policy, str):
        raise ConfigError(f"cache must be 'immutable', 'revalidate', seconds or None, not {_short(policy)}")
    check_choice("cache", policy, CACHE_POLICIES)
    return inf if policy == "immutable" else 0.0


def check_missing(value: Any) -> None:
    """`missing=` of a call."""
    if not isinstance(value, str) or value != "fill":  # the common case, kept fast
        check_choice("missing", value, MISSING)


def check_format(value: Any) -> None:
    """`zarr_format=` of a call that opens: None, 2 or 3."""
    if value is not None:
        check_choice("zarr_format", value, FORMATS)


def check_instance(name: str, value: Any, kind: type, example: str) -> None:
    """`value` must be an instance of an option class of this library.

    Args:
        name: The option.
        value: What was given.
        kind: The class.
        example: A correct value, as source code.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{name} takes a {kind.__name__}, not {_short(value)}: write {name}={example}")


def optional(check: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    """The same check, but None is accepted."""

    def checked(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return checked


def _nearest(name: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches  # imported only when an error is raised

    return next(iter(get_close_matches(name, list(known), n=1)), None)


def _short(value: Any) -> str:
    """A value as text for an error message: simple values as their repr, others as the name of their type."""
    if isinstance(value, int) and abs(value) >= _FLOAT_LIMIT:
        return f"an int of {value.bit_length():,} bits"  # Python limits the conversion of long ints to text
    if value is None or isinstance(value, bool | int | float | str):
        text = repr(value)
        return text if len(text) <= 80 else f"{text[:77]}..."  # keeps the message on one line
    return f"a {type(value).__name__}"
