"""What was tried on rows in which a peer is ahead: kept by hand, printed beside the figures of a run."""

from __future__ import annotations

_TRIED: tuple[tuple[str, str], ...] = ()
"""Part of a workload's name, and what was tried; the first that fits."""


def tried(name: str) -> str:
    """For a cell of a table."""
    return next((text for part, text in _TRIED if part in name), "")
