"""What a plan is made of: one Part per chunk, and the parts of one object, made when they are looked at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, overload

import numpy as np

T = TypeVar("T")

Entry: TypeAlias = tuple[Any, tuple[Any, ...], tuple[Any, ...], bool]
"""One axis' share of one cell: where (a 1-tuple or a number), take, put, covered. Axes combine by `+`."""

_KEPT = 256
"""A run of at most this many entries is made once and kept, a longer one made again each time it is needed."""
_HUGE = 2**62


class Part(NamedTuple):
    """One chunk's share of a selection.

    A read does `result[put] = chunk[take]`, a write `chunk[take] = values[put]`. `chunk` has the full chunk
    shape, also where the array ends inside it; `result` and `values` have the plan's `buffer_shape`. Both
    sides have the same shape. What repeats inside a chunk comes in the order in which NumPy would assign it:
    the last one stays.
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
    """An iterable that can be run through many times."""

    __slots__ = ("_kept", "_make", "_n")

    def __init__(self, make: Callable[[], Iterator[T]], n: int) -> None:
        self._make = make
        self._n = n
        self._kept: list[T] | None = None

    def __iter__(self) -> Iterator[T]:
        if self._n > _KEPT:
            return self._make()
        if self._kept is None:
            self._kept = list(self._make())
        return iter(self._kept)


def combined(axes: Sequence[Iterable[Entry]]) -> Iterator[Entry]:
    """Every combination of one entry per axis, row-major. All but the first are run through repeatedly."""
    if len(axes) == 1:
        return iter(axes[0])
    return _nested(axes[:-1], axes[-1])


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
        # As a Replay does; one of a method of ours would be a cycle, for the garbage collector to find at every read.
        if self.n > _KEPT:
            return self._make()
        if self._kept is None:
            self._kept = list(self._make())
        return iter(self._kept)

    def __getitem__(self, cell: int) -> Entry:
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
            yield self._lone()  # one chunk of a shard: what is asked for most often
            return
        for slot, take, put, whole in combined(self._runs):
            if fancy:
                yield Part(slot, mesh(take), mesh(put), whole)
            else:
                yield new(Part, (slot, take, put, whole))

    def _lone(self) -> Part:
        slot, take, put, whole = self._runs[0][0]
        for run in self._runs[1:]:
            slot_, take_, put_, whole_ = run[0]
            slot, take, put, whole = slot + slot_, take + take_, put + put_, whole and whole_
        return Part(slot, take, put, whole)

    def _part(self, index: int) -> Part:
        slot, take, put, whole = 0, (), (), True
        for run in reversed(self._runs):
            index, cell = divmod(index, run.n)
            slot_, take_, put_, whole_ = run[cell]
            slot, take, put, whole = slot + slot_, take_ + take, put_ + put, whole and whole_
        return Part(slot, mesh(take), mesh(put), whole)


def mesh(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same selection, with every axis independent of the others and kept axes in their order.

    NumPy pairs several index arrays up and moves their axes to the front where a slice stands between them.
    So from the first to the last array or integer all become arrays that broadcast; slices around them stay.
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
    return index[:first] + _opened(index[first:last]) + index[last:]


def _opened(items: tuple[Any, ...]) -> tuple[Any, ...]:
    kept = sum(not isinstance(item, int) for item in items)
    opened: list[Any] = []
    for item in items:
        if isinstance(item, int):
            opened.append(item)
            continue
        kept -= 1
        values = np.arange(*item.indices(_HUGE)) if isinstance(item, slice) else item
        opened.append(values.reshape(-1, *(1,) * kept))
    return tuple(opened)
