"""The elements of a plan: one Part per chunk, and sequences of the parts of one object, which are made on access."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, overload

import numpy as np

T = TypeVar("T")

Entry: TypeAlias = tuple[Any, tuple[Any, ...], tuple[Any, ...], bool]
"""One axis of one cell: coordinate (a 1-tuple, or a number of slots), take, put, covered. Axes combine by `+`."""

_KEPT = 256
"""Runs of at most this many entries are kept after the first iteration; longer ones are computed each time, so that a
plan's memory does not grow with the selection."""
_HUGE = 2**62
"""A size beyond any chunk's: slices of a `take` have explicit ends, which no size then cuts."""


class Part(NamedTuple):
    """One chunk's share of a selection.

    A read does `result[put] = chunk[take]`, a write `chunk[take] = values[put]`. `chunk` has the full chunk
    shape, also where the array ends inside it; `result` and `values` have the plan's `buffer_shape`. Both
    sides have the same shape. Repeated elements of a chunk keep NumPy's order of assignment: the last one wins.
    """

    slot: int
    """Index of the chunk in its object, row-major over the inner grid; 0 where an object is one chunk."""
    take: Any
    """NumPy index into the chunk."""
    put: Any
    """NumPy index into the result."""
    whole: bool
    """True where the part covers every element of the chunk that lies inside the array."""


class ObjectParts(Sequence[Part]):
    """The parts of one object that holds many chunks."""

    __slots__ = ()

    @property
    @abstractmethod
    def whole(self) -> bool:
        """True where the parts cover every element of the object that lies inside the array."""

    @abstractmethod
    def _part(self, index: int) -> Part: ...

    @overload
    def __getitem__(self, index: int) -> Part: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Part]: ...
    def __getitem__(self, index: int | slice) -> Part | Sequence[Part]:
        if isinstance(index, slice):
            return tuple(self._part(i) for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"part {index} of {len(self)}")
        return self._part(index % len(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} chunks{', whole' * self.whole}>"


def covers_object(parts: Sequence[Part]) -> bool:
    """True where the parts of an object, as `Plan.objects` gives them, leave no element of it to read."""
    return parts.whole if isinstance(parts, ObjectParts) else parts[0].whole


class Replay(Generic[T]):
    """An iterable that can be iterated many times, made by calling `make` again or kept where it is short."""

    __slots__ = ("_kept", "_make", "_n")

    def __init__(self, make: Callable[[], Iterator[T]], n: int) -> None:
        self._make = make
        self._n = n
        self._kept: list[T] | None = None

    def __iter__(self) -> Iterator[T]:
        # Computed again rather than kept: the memory of a plan must not depend on the length of an axis.
        if self._n > _KEPT:
            return self._make()
        if self._kept is None:
            self._kept = list(self._make())
        return iter(self._kept)


def combined(axes: Sequence[Iterable[Entry]]) -> Iterator[Entry]:
    """Every combination of one entry per axis, row-major. All axes but the first are iterated repeatedly."""
    # Not a generator itself: with one axis, its own iterator is returned, without a frame per entry.
    return iter(axes[0]) if len(axes) == 1 else _nested(axes[:-1], axes[-1])


def _nested(outer: Sequence[Iterable[Entry]], last: Iterable[Entry]) -> Iterator[Entry]:
    for where, take, put, whole in combined(outer):
        for where_, take_, put_, whole_ in last:
            yield where + where_, take + take_, put + put_, whole and whole_


class ChunkAxis(Protocol):
    """What a Run needs of an axis."""

    def entry(self, cell: int, /) -> Entry: ...

    def entries(self, start: int, stop: int, /) -> Iterator[Entry]: ...


class Run:
    """The touched chunks of one axis inside one object. Entries carry the axis' share of the slot."""

    __slots__ = ("_axis", "_kept", "_origin", "_start", "_stride", "n")

    def __init__(self, axis: ChunkAxis, start: int, stop: int, origin: int, stride: int) -> None:
        self._axis = axis
        self._start = start
        self._origin = origin
        self._stride = stride
        self.n = stop - start
        self._kept: list[Entry] | None = None

    def __iter__(self) -> Iterator[Entry]:
        # Like Replay. A Replay of our own `_make` would be a reference cycle, which every read would leave to the
        # garbage collector.
        if self.n > _KEPT:
            return self._make()
        if self._kept is None:
            self._kept = list(self._make())
        return iter(self._kept)

    def __getitem__(self, cell: int) -> Entry:
        # Made from the axis, not from `__iter__`: one part of a long run needs no list of all.
        (number,), take, put, whole = self._axis.entry(self._start + cell)
        return (number - self._origin) * self._stride, take, put, whole

    def _make(self) -> Iterator[Entry]:
        origin, stride = self._origin, self._stride
        for (number,), take, put, whole in self._axis.entries(self._start, self._start + self.n):
            yield (number - origin) * stride, take, put, whole


class GridParts(ObjectParts):
    """All combinations of one run per axis. Holds O(ndim) and the short runs."""

    __slots__ = ("_fancy", "_runs", "_whole")

    def __init__(self, runs: tuple[Run, ...], whole: bool, fancy: bool) -> None:
        self._runs = runs
        self._whole = whole
        self._fancy = fancy

    @property
    def whole(self) -> bool:
        """True where the parts cover every element of the object that lies inside the array."""
        return self._whole

    def __len__(self) -> int:
        n = 1
        for run in self._runs:
            n *= run.n
        return n

    def __iter__(self) -> Iterator[Part]:
        new, fancy = tuple.__new__, self._fancy
        if not fancy and all(run.n == 1 for run in self._runs):
            yield self._single()  # one chunk of a shard is the most frequent case; no generators per axis
            return
        for slot, take, put, whole in combined(self._runs):
            if fancy:
                yield Part(slot, mesh(take), mesh(put), whole)
            else:
                yield new(Part, (slot, take, put, whole))

    def _single(self) -> Part:
        slot, take, put, whole = self._runs[0][0]
        for run in self._runs[1:]:
            slot_, take_, put_, whole_ = run[0]
            slot, take, put, whole = slot + slot_, take + take_, put + put_, whole and whole_
        return Part(slot, take, put, whole)

    def _part(self, index: int) -> Part:
        # Row-major: the last axis varies fastest, so the index is taken apart from the back.
        slot, take, put, whole = 0, (), (), True
        for run in reversed(self._runs):
            index, cell = divmod(index, run.n)
            slot_, take_, put_, whole_ = run[cell]
            slot, take, put, whole = slot + slot_, take_ + take, put_ + put, whole and whole_
        return Part(slot, mesh(take), mesh(put), whole)


def mesh(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same selection as an index that NumPy applies to each axis independently, with the kept axes in order.

    NumPy broadcasts several index arrays together, and moves their axes to the front where a slice stands between
    them. So all items from the first array or integer to the last become arrays that broadcast against each other;
    slices before and after them stay.
    """
    if all(isinstance(item, int) for item in index):
        # An ellipsis keeps a single element an array: a view, and no unpacking of what an object array holds.
        return (*index, Ellipsis)
    if not any(isinstance(item, np.ndarray) for item in index):
        return index
    advanced = [axis for axis, item in enumerate(index) if not isinstance(item, slice)]
    if len(advanced) == 1:
        return index
    first, last = advanced[0], advanced[-1] + 1
    # As np.ix_ does it: array number k of n gets n - 1 - k trailing axes of length 1.
    kept = sum(not isinstance(item, int) for item in index[first:last])
    opened: list[Any] = []
    for item in index[first:last]:
        if isinstance(item, int):
            opened.append(item)
            continue
        kept -= 1
        values = np.arange(*item.indices(_HUGE)) if isinstance(item, slice) else item
        opened.append(values.reshape(-1, *(1,) * kept))
    return (*index[:first], *opened, *index[last:])
