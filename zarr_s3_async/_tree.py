"""The tree view of a hierarchy: as text, and as HTML in notebooks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ._engine.hierarchy import Member, UnreadableNode
from ._model.metadata import ArrayMeta


@dataclass(slots=True)
class _Node:
    label: str
    below: dict[str, _Node] = field(default_factory=dict)


class Tree:
    """The result of `await group.tree()`: print it, or display it in a notebook."""

    __slots__ = ("_root",)

    def __init__(self, name: str, nodes: Iterable[tuple[str, Member]]) -> None:
        self._root = _Node(name)
        for path, meta in nodes:
            *above, last = path.split("/")
            at = self._root
            for part in above:
                at = at.below[part]
            at.below[last] = _Node(_label(last, meta))

    def __str__(self) -> str:
        return "\n".join([self._root.label, *_lines(self._root, "")])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<div class="zarr-tree">{_html(self._root)}</div>'


def _label(name: str, meta: Member) -> str:
    if isinstance(meta, UnreadableNode):
        return f"{name} (unreadable: {meta.error})"
    return f"{name} {meta.shape} {meta.dtype}" if isinstance(meta, ArrayMeta) else name


def _lines(node: _Node, indent: str) -> Iterator[str]:
    last = len(node.below) - 1
    for number, child in enumerate(node.below.values()):
        yield f"{indent}{'└── ' if number == last else '├── '}{child.label}"
        yield from _lines(child, indent + ("    " if number == last else "│   "))


def _html(node: _Node) -> str:
    from html import escape  # only needed in notebooks

    if not node.below:
        return escape(node.label)
    below = "".join(f"<li>{_html(child)}</li>" for child in node.below.values())
    return f"<details open><summary>{escape(node.label)}</summary><ul>{below}</ul></details>"
