"""Errors for handles that are used like data, which show where an `await` is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

_OPERATORS = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"),
    *("radd", "rsub", "rmul", "rmatmul", "rtruediv", "rfloordiv", "rmod", "rpow", "rand", "ror", "rxor"),
    *("iadd", "isub", "imul", "itruediv", "neg", "pos", "abs", "invert", "lt", "le", "gt", "ge"),
    *("float", "int", "complex", "index", "round"),
)
_OF_DATA = frozenset(
    {"T", "all", "any", "argmax", "argmin", "argsort", "astype", "byteswap", "clip", "conj", "copy", "cumsum", "data"}
    | {"diagonal", "dot", "dump", "fill", "flat", "flatten", "flags", "imag", "item", "itemsize", "max", "mean", "min"}
    | {"nonzero", "prod", "ravel", "real", "repeat", "reshape", "round", "sort", "squeeze", "std", "strides", "sum"}
    | {
        "swapaxes",
        "take",
        "tobytes",
        "tolist",
        "trace",
        "transpose",
        "values",
        "var",
        "view",
        "compute",
        "load",
        "read",
    }
)
"""Attribute names of NumPy arrays, and of arrays in libraries that read synchronously."""


def no_attribute(handle: object, name: str, how_to_read: str) -> AttributeError:
    """The error for a missing attribute, which says how to read if the attribute is one of the data.

    Args:
        handle: The object without the attribute.
        name: The attribute.
        how_to_read: The expression that reads the data.
    """
    what = f"{type(handle).__name__!r} object has no attribute {name!r}"
    if name in _OF_DATA:
        what += f": {how_to_read} first, as in ({how_to_read}).{name}"
    return AttributeError(what)


def _with_article(handle: object) -> str:
    name = type(handle).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"


class Unread:
    """Base class of handles whose data is read by awaiting. Type checkers do not see its methods.

    Subclasses define `_how_to_read`, the expression that reads the data.
    """

    __slots__ = ()

    _how_to_read = ""

    def _mark_used(self) -> None:
        """Called before an error is raised, so that no warning follows it."""

    if TYPE_CHECKING:
        __iter__: None  # without it, pyright treats a class with `__getitem__` as iterable
    else:

        def __getattr__(self, name: str) -> NoReturn:
            self._mark_used()
            raise no_attribute(self, name, self._how_to_read)

        def __array__(self, *_: Any, **__: Any) -> NoReturn:
            self._mark_used()
            raise TypeError(f"{_with_article(self)} is not read yet: np.asarray({self._how_to_read})")

        def __len__(self) -> NoReturn:
            self._mark_used()
            raise TypeError(
                f"{_with_article(self)} is not read yet and has no len(): take .shape[0], which needs no request"
            )

        def __iter__(self) -> NoReturn:
            self._mark_used()
            # NumPy would read an iterable array element by element, one request each.
            raise TypeError(f"{_with_article(self)} is not iterable: iterate over {self._how_to_read}")

        def __contains__(self, _: object) -> NoReturn:
            self._mark_used()
            raise TypeError(f"{_with_article(self)} is not read yet: value in ({self._how_to_read})")


def _refusing(operator: str) -> Callable[..., NoReturn]:
    def refuse(self: Unread, *_: object) -> NoReturn:
        self._mark_used()
        how = self._how_to_read
        raise TypeError(f"{_with_article(self)} is not read yet: {how} first (in parentheses, before you compute)")

    refuse.__name__ = operator
    return refuse


def refuse_operators(kind: type[Unread], *operators: str) -> None:
    """Make these operators of a class raise an error that shows how to read the data."""
    for name in operators:
        setattr(kind, f"__{name}__", _refusing(f"__{name}__"))


refuse_operators(Unread, *_OPERATORS)
