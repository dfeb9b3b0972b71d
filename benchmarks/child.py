"""A process that runs one library on one workload. The driver starts each pass; only the pass is measured.

It exchanges lines of JSON on standard input and output. Output of libraries is redirected to standard error.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import json
import os
import pstats
import sys
import time
import traceback
import warnings
from typing import IO, Any

from .actions import Work
from .libraries import CONTENDERS
from .libraries.base import CannotDo, Place, Task
from .memory import PeakMemory, cpu_seconds
from .workload import Workload

PROFILE = "profile"
"""The input line that requests a pass under the profiler."""
_SHOWN = 8


class Child:
    """The conversation with the driver."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers

    def _say(self, **answer: Any) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    async def serve(self, order: dict[str, Any]) -> None:
        """Open the array, run one checked pass, then one measured pass per input line until the input ends."""
        contender = CONTENDERS[order["library"]]
        try:
            library = contender.load(_task(order))
            await library.open()
            work = Work(Workload.from_json(order["workload"]), library)
            peak = await _first_pass(work)
            package = sys.modules.get("zarr_s3_async")
            self._say(ready=True, peak=max(peak, library.peak_of_children), package=getattr(package, "__file__", None))
            # The loop must run while we wait; otherwise closed connections are not noticed.
            while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
                self._say(**(await _profiled(work) if line.strip() == PROFILE else await _measured(work)))
            await library.close()
        except CannotDo as reason:
            self._say(cannot=str(reason))
        except Exception:
            self._say(failed=traceback.format_exc(limit=-3))


def _task(order: dict[str, Any]) -> Task:
    return Task(
        workload=Workload.from_json(order["workload"]),
        place=Place(**order["place"]),
        path=order["path"],
        in_flight=order["in_flight"],
        library=order["library"],
    )


async def _first_pass(work: Work) -> int:
    """Warm up and check the values; returns the peak memory of the pass in bytes."""
    gc.collect()
    memory = PeakMemory()
    await work.once(check=True)
    peak = memory.above_start()
    await work.check_written()
    return peak


async def _measured(work: Work) -> dict[str, float]:
    gc.collect()
    cpu, wall = cpu_seconds(), time.perf_counter()
    await work.once()
    return {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}


async def _profiled(work: Work) -> dict[str, Any]:
    """The functions in which the event loop's thread spends most time, with their shares."""
    profile = cProfile.Profile()
    profile.enable()
    await work.once()
    profile.disable()
    stats: dict[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    waiting = ("select", "poll")
    own = {_function(*where): spent[2] for where, spent in stats.items() if not any(w in where[2] for w in waiting)}
    total = sum(own.values())
    top = sorted(own.items(), key=lambda item: -item[1])[:_SHOWN]
    return {"profile": [[name, round(seconds / total, 3)] for name, seconds in top]}


def _function(file: str, _: int, name: str) -> str:
    """`folder/file.py:name`, or the name of a builtin, without paths of this machine."""
    return name.strip("<>") if file == "~" else "/".join(file.split("/")[-2:]) + f":{name}"


def main() -> None:
    """Read the order, then serve."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.readline())
    work = Child(answers).serve(order)
    if order["library"].endswith("uvloop"):
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)
    answers.flush()
    os._exit(0)  # some native libraries take seconds to end their threads


if __name__ == "__main__":
    main()
