"""After a long mix of reads, writes and cancellations under faults, no data is lost and nothing leaks.

`SOAK_SECONDS=600 pytest -n 0 -s --timeout 1200 tests/promises/test_soak.py` soaks for ten minutes and prints figures.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from ..servers.faulty_proxy import FaultyProxy
from .conftest import Place

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SECONDS = float(os.environ.get("SOAK_SECONDS", "6"))
PROGRAM = Path(__file__).with_name("soak.py")
MIB = 2**20


async def test_memory_connections_and_tasks_do_not_grow_under_faults(place: Place) -> None:
    assert place.config.endpoint_url is not None
    with FaultyProxy(place.config.endpoint_url, lost=0.02, refused=0.02, reset=0.01, conflict=0.01, seed=1) as proxy:
        options = {
            "endpoint_url": proxy.endpoint_url,
            "access_key_id": place.config.access_key_id,
            "secret_access_key": place.config.secret_access_key,
            "region": place.config.region,
        }
        job = json.dumps([place.url, options, SECONDS, 1])
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", PROGRAM, job, stdout=pipe, stderr=pipe
        )
        out, warnings_printed = await process.communicate()
        assert warnings_printed == b"", (
            "no warning about a coroutine that was never awaited or a resource that was never closed"
        )
        report = json.loads(out)
        assert proxy.count() - proxy.count("passed") > 0
        faults = {name: proxy.count(name) for name in ("passed", "lost", "refused", "reset", "conflict")}
        sys.stdout.write(f"{faults} {report}\n")
    assert report["operations"] > 16
    assert report["cancelled"] > 0
    assert report["equal"], "the arrays hold what their writers wrote"
    assert report["held"] == [0, 0, 0], "no lease, no request slot and no lock is held after the work"
    assert report["end"] == report["start"], "descriptors, threads and tasks are back where they were"
    assert report["peaks"][-1] - report["peaks"][0] < 24 * MIB
    assert report["objects"][-1] < 1.1 * report["objects"][0]
