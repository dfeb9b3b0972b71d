"""One process for one library on one workload. The driver tells it when to run; only what it then does is measured.

Lines of JSON on standard input and output. Whatever a library prints goes to standard error.
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
"""A line that asks for a pass under the profiler."""
_SHOWN = 8


class Child:
    """The conversation with the driver."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers

    def _say(self, **answer: Any) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    async def serve(self, order: dict[str, Any]) -> None:
        """Open, one checked pass, and then a measured pass per line, until the input ends."""
        contender = CONTENDERS[order["library"]]
        try:
            library = contender.load(_task(order))
            await library.open()
            work = Work(Workload.from_json(order["workload"]), library)
            peak = await _first_pass(work)
            self._say(ready=True, peak=max(peak, library.peak_of_children))
            # The loop must run on while we wait, or connections age unseen.
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
    """Warm up and check the values; what the pass took of memory at most."""
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
    """Where the loop's thread spends its time: the functions with the most of it, and their shares."""
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
    """`folder/file.py:name`, or what a builtin is called: no path of the machine."""
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
    os._exit(0)  # some native libraries take seconds to tear their threads down


if __name__ == "__main__":
    main()
