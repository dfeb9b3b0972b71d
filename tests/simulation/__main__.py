"""`python -m tests.simulation 701` prints the history of a seed; `python -m tests.simulation 0 5000` runs many."""

from __future__ import annotations

import logging
import os
import sys
from time import process_time

from .scenario import run


def main(first: int, stop: int | None = None) -> int:
    """Run seeds; the exit status is 1 if one violated a promise."""
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    logging.getLogger("zarr_s3_async").setLevel(logging.CRITICAL)
    if stop is None:
        report = run(first)
        print(report)
        return bool(report.violations)
    began, failed = process_time(), 0
    for seed in range(first, stop):
        report = run(seed)
        if report.violations:
            failed += 1
            print(f"seed {seed}: {report.violations[0].splitlines()[0]}", flush=True)
    print(f"{stop - first} seeds in {process_time() - began:.0f} s of CPU time; {failed} of them broke a promise")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
