"""`python -m benchmarks.streamed`: write an array larger than the intended memory, and print the cost.

Every library gets the same source, a view of one row, and an empty array in shards of 8 MiB. Afterwards it reads the
array slab by slab, and every value is compared. Memory is the peak of resident memory during the write, relative to
that before it.
"""

from __future__ import annotations

import argparse
import asyncio

from .driver import Driver, Measured
from .matrix import STREAMING, Row, streamed

_MINUTES = 15.0


def _line(result: Measured) -> str:
    if result.note is not None or result.peak_bytes is None:
        return f"{result.library:20} {result.note}"
    wall = f"{result.wall[0]:7.2f} s" if result.wall else "        ?"
    cpu = f"{result.cpu[0]:7.2f} s CPU" if result.cpu else ""
    return f"{result.library:20} {result.peak_bytes / 1e6:8.0f} MB peak  {wall}  {cpu}  {result.requests} requests"


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streamed", description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=2048)
    parser.add_argument("--libraries", default="", help="comma-separated names; default: all")
    options = parser.parse_args()
    named = {name.strip() for name in options.libraries.split(",") if name.strip()}
    entries = tuple(entry for entry in STREAMING if not named or entry.library in named)
    driver = Driver(rounds=1, seconds=60 * _MINUTES, say=lambda line: print(line, flush=True))
    results: list[Measured] = []
    asyncio.run(driver.run([Row(streamed(options.mebibytes), entries)], results.extend))
    print("\n".join(map(_line, results)))


if __name__ == "__main__":
    main()
