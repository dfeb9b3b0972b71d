"""Whole terminal sessions, recorded as text: each command at 40, 80 and 120 columns, in ASCII, without colour.

After an intended change, `WRITE_DOCS=1 pytest tests/cli/test_sessions.py` records them again; check the difference.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import zarr_s3_async as zs

ROOT = Path(__file__).parents[2]

RECORDED = Path(__file__).with_name("sessions")
SESSION = """
info sample://survey
info sample://survey/elevation
info sample://survey/readings
info sample://survey/names
info sample://survey/elevation --count 2
info sample://survey/elevation --json
ls sample://survey
ls sample://survey/elevation
tree sample://survey
get sample://survey/elevation 0:2,0:4
get sample://survey/elevation 0:2,0:4 --out - --format csv
get sample://survey/elevation 0:2,0:2 --json
explain sample://survey/elevation 0:3
explain sample://survey/readings 0:3 --json
plot sample://survey/elevation
plot sample://survey/elevation --grid
verify sample://survey
attrs sample://survey/elevation
attrs sample://survey/elevation units=cm scale=2.5 --remove title
create sample://made/grid --shape 4,6 --dtype int16 --chunks 2,3 --fill-value -1
create sample://made/run --group --attribute operator=ada --json
put plane.npy sample://made/plane --chunks 10,10
put plane.npy sample://made/plane --at 0:20,0:30
append plane.npy sample://made/plane
copy sample://survey/elevation sample://made/copy --plan
copy sample://survey/elevation sample://made/copy
rechunk sample://survey/elevation sample://made/tall --chunks 20,5 --verify
rechunk sample://survey/elevation sample://made/tall
rm sample://made/copy
rm sample://made/copy --yes
rm sample://made/copy --yes
tree sample://made
tree sample://made/plane
consolidate sample://survey
info sample://survey/nothing
get sample://survey/elevation 0:99,1:x
get sample://survey/elevation 7
get sample://survey/elevation 99
put plane.npy sample://survey/elevation
put gaps.csv sample://made/grid --at 0,0:3
create sample://made/odd --shape 5,x --dtype int16
info nowhere
inof sample://survey
info sample://survey --jsn
--version
"""


async def _fill() -> None:
    async with zs.Session() as session:
        group = await session.create_group("sample://survey", attributes={"operator": "ada"})
        plane = np.add.outer(np.arange(20), np.arange(30)).astype("int16")
        array = await group.create_array(
            "elevation", shape=(20, 30), chunks=(10, 10), dtype="int16", dimension_names=("y", "x"),
            attributes={"units": "m", "title": "heights above the sea"},
        )  # fmt: skip
        await array.set_slice(plane[:, :20], start=(0, 0), stop=(20, 20))
        sharded = await group.create_array(
            "readings", shape=64, chunks=8, shards=32, dtype="float64", fill_value=np.nan
        )
        await sharded.set_slice(np.arange(32.0), start=0, stop=32)
        names = await group.create_array("names", shape=3, chunks=3, dtype=str)
        await names.set_slice(np.array(["ada", "grace", "mary"], dtype=object), start=0)


def main() -> None:
    """Run the session in a new folder. Print each command with its output, and its status unless that is 0.

    `sample://` is a store in memory that outlives its sessions, so that every URL is the same on every machine.
    """
    from zarr_s3_async.cli.app import app

    root = zs.MemoryStore("sample")
    zs.register_store("sample", lambda url, _context: root.below(url.removeprefix("sample://")))
    np.save("plane.npy", np.arange(600, dtype="int16").reshape(20, 30))
    Path("gaps.csv").write_text("1,,3")
    asyncio.run(_fill())
    runner = CliRunner(charset="ascii")
    for line in SESSION.strip().splitlines():
        result = runner.invoke(app, line.split())
        assert result.exception is None or isinstance(result.exception, SystemExit), (line, result.exception)
        status = f"[status {result.exit_code}]\n" if result.exit_code else ""
        text = "\n".join(one.rstrip() for one in result.output.splitlines())
        text = re.sub(
            r"in \d+\.\d+ s", "in 0.0 s", text
        )  # the duration that verify prints, the only one in the session
        print(f"$ zarr-s3 {line}\n{text}\n{status}")


def recorded(width: int, folder: Path) -> str:
    """The output of the session in a separate process with a terminal of this width."""
    program = "from tests.cli.test_sessions import main; main()"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "ascii",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "COLUMNS": str(width),
        "TERMINAL_WIDTH": str(width),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=folder, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Older releases print usage and the hint for a mistyped option differently.
@pytest.mark.skipif(tuple(map(int, version("typer").split(".")[:2])) < (0, 29), reason="recorded with a newer typer")
@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_output_of_a_session_is_as_recorded(width: int, tmp_path: Path) -> None:
    now = recorded(width, tmp_path)
    assert now.isascii()
    assert "\x1b" not in now
    file = RECORDED / f"{width}.txt"
    if os.environ.get("WRITE_DOCS"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(now)
    assert now == file.read_text()


def test_no_value_is_truncated_in_a_narrow_terminal() -> None:
    """With 40 columns, every name and number of the output with 120 columns is there if line ends are ignored."""
    narrow = re.sub(r"\s+", "", (RECORDED / "40.txt").read_text())
    for word in (
        "elevation/",
        "readings/",
        "heightsabovethesea",
        "sharding_indexed",
        "memory://sample/survey/elevation",
    ):
        assert word in narrow, word
