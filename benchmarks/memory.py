"""Peak memory of this process since a given moment, and its CPU time."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def cpu_seconds() -> float:
    """User and system time of all threads of this process, and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


class PeakMemory:
    """Peak resident bytes since its creation, relative to those at its creation."""

    def __init__(self) -> None:
        self._resets = _reset_peak()
        self._start = _resident() if self._resets else _highest()

    def above_start(self) -> int:
        """The peak in bytes; if the system cannot reset it, the growth of the overall peak, which may be too small."""
        return max(0, (_proc("VmHWM") if self._resets else _highest()) - self._start)


def _reset_peak() -> bool:
    """Reset the kernel's record of the peak resident size (Linux: write 5 to clear_refs)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def _resident() -> int:
    return _proc("VmRSS")


def _highest() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def _proc(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {name}")
