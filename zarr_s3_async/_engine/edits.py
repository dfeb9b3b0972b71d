"""When this session changed which nodes: handles do not use metadata of a node that they read before its last edit."""

from __future__ import annotations

from collections import OrderedDict
from itertools import takewhile

_KEPT = 4096
"""Maximum number of nodes whose last edit is recorded. A handle older than a dropped record uses no earlier
metadata."""


class Edits:
    """Logical times of the last edits, by the name of the node (`Runtime.name_of`)."""

    __slots__ = ("_dropped", "_last", "_now")

    def __init__(self) -> None:
        self._now = 0
        self._dropped = 0
        self._last: OrderedDict[str, int] = OrderedDict()

    def now(self) -> int:
        """Logical time of the latest edit."""
        return self._now

    def note(self, name: str) -> None:
        """Record that the node was created, edited or removed."""
        self._now += 1
        self._last[name] = self._now
        self._last.move_to_end(name)
        if len(self._last) > _KEPT:
            self._dropped = self._last.popitem(last=False)[1]

    def touched(self, name: str, since: int) -> bool:
        """True if the node, or a node above it, may have been edited after `since`."""
        if self._now == since:
            return False
        return self._dropped > since or any(self._last.get(above, 0) > since for above in _upwards(name))

    def touched_below(self, name: str, since: int) -> bool:
        """True if the node, or a node below it, may have been edited after `since`."""
        if self._now == since:
            return False
        if self._dropped > since:
            return True
        prefix = name + "/"
        later = takewhile(lambda edit: edit[1] > since, reversed(self._last.items()))
        return any(edited == name or edited.startswith(prefix) for edited, _ in later)


def _upwards(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
