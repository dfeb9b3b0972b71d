"""The machine and the software versions of a run, without paths of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from .libraries import CONTENDERS


def machine() -> dict[str, Any]:
    """Cores, processor, memory, system, Python."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _cpu_model(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Versions of all installed contenders and of the server."""
    found: dict[str, str] = {}
    for contender in CONTENDERS.values():
        if contender.missing() is None:
            found |= contender.versions()
    found |= {} if (seaweed := _seaweed_version()) is None else {"SeaweedFS": seaweed}
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _memory_gib() -> float | None:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    return round(size / 2**30, 1)


def _seaweed_version() -> str | None:
    from zarr_s3_async.testing._launch import seaweed_launch

    found = seaweed_launch()
    if found is None:
        return None
    said = subprocess.run([found._binary, "version"], capture_output=True, text=True, check=False).stdout
    words = said.split()
    return words[2] if words[:1] == ["version"] and len(words) > 2 else None
