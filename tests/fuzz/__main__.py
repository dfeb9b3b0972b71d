"""`python -m tests.fuzz TARGET [--seconds N]`: guided by coverage if atheris is installed (`nox -s fuzz` installs it).

An input that breaks a promise is written to the target's corpus as `found-…`, and every later test run replays it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["zarr_s3_async"]):
    from .targets import CORPUS, TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args()
    with TARGETS[asked.target]() as run, tempfile.TemporaryDirectory() as grown:
        folder = CORPUS / asked.target
        options = [f"-max_total_time={asked.seconds}", f"-artifact_prefix={folder}/found-", "-rss_limit_mb=2048"]
        options += ["-timeout=30", "-max_len=8192", "-print_final_stats=1", grown, str(folder)]
        atheris.Setup([sys.argv[0], *options], run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
