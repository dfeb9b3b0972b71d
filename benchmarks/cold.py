"""Startup costs: a new process to its first chunk, a new session, a loop per call, a request of a web server.

    python -m benchmarks.cold [--rounds 7] [--only TEXT] [--parts]

Figures are medians of CPU time (user and system, all threads) of a new process per row and round, with the libraries
in turn. All read one array with a single zstd chunk of 1 MiB from a stand-in server; its CPU time is not counted.
`--parts` prints instead what the imports, the read, the end of the process and garbage collection take, with NumPy's
threads switched off.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

import zarr_s3_async as zs
from tests.servers.stand_in import StandIn

_BUCKET = "benchmarks"
_SHAPE = (512, 512)

_ENDPOINT = 'endpoint_url=os.environ["URL"]'
_KEYS = "access_key_id=os.environ['AWS_ACCESS_KEY_ID'], secret_access_key=os.environ['AWS_SECRET_ACCESS_KEY']"
_SIGNED = f"{_ENDPOINT}, {_KEYS}"
_OURS = """
import asyncio, os
import zarr_s3_async as zs
async def main():
    array = await zs.open_array("s3://" + os.environ["ARRAY"], {options})
    return (await array[...]).size
assert asyncio.run(main()) > 0
"""
_BLOCKING = """
import zarr_s3_async as zs
assert zs.blocking.open_array("s3://" + os.environ["ARRAY"], {options})[...].size > 0
"""
_TENSORSTORE = """
import os
import tensorstore as ts
bucket, _, path = os.environ["ARRAY"].partition("/")
array = ts.open({{
    "driver": "zarr3",
    "kvstore": {{"driver": "s3", "bucket": bucket, "path": path + "/", "endpoint": os.environ["URL"],
                "aws_region": "us-east-1", "aws_credentials": {{"type": "{type}"}}}},
}}, open=True).result()
assert array.read().result().size > 0
"""
_OBSTORE = """
import asyncio, os
import zarr.api.asynchronous
from obstore.store import S3Store
from zarr.storage import ObjectStore
async def main():
    bucket, _, path = os.environ["ARRAY"].partition("/")
    store = S3Store(bucket, prefix=path, endpoint=os.environ["URL"], region="us-east-1",
                    virtual_hosted_style_request=False, client_options={{"allow_http": True}}, {options})
    array = await zarr.api.asynchronous.open_array(store=ObjectStore(store, read_only=True), mode="r")
    return (await array.getitem(...)).size
assert asyncio.run(main()) > 0
"""
_AGAIN = """
import asyncio, os, time
import zarr_s3_async as zs
import numpy as np
options = dict(endpoint_url=os.environ["URL"])
{body}
"""
_SESSION = """
async def once():
    async with zs.Session(**options) as session:
        array = await session.open_array("s3://" + os.environ["ARRAY"])
async def main():
    await once()
    started = time.process_time()
    for _ in range(20):
        await once()
    print((time.process_time() - started) / 20)
asyncio.run(main())
"""
_RUN = """
async def read():
    array = await zs.open_array("s3://" + os.environ["ARRAY"], **options)
    return await array[...]
asyncio.run(read())
started = time.process_time()
for _ in range(20):
    asyncio.run(read())
print((time.process_time() - started) / 20)
"""
_FLASK = """
from flask import Flask, Response
app = Flask("benchmark")
array = zs.blocking.open_array("s3://" + os.environ["ARRAY"], **options)
@app.get("/")
def tile():
    return Response(array[...].tobytes(), mimetype="application/octet-stream")
client = app.test_client()
assert len(client.get("/").data) == 2**20
started = time.process_time()
for _ in range(50):
    client.get("/").data
print((time.process_time() - started) / 50)
"""


@dataclass(frozen=True)
class Row:
    """One measurement, with several libraries."""

    name: str
    programs: dict[str, str]
    bar: str
    inside: bool = False
    """True if the program prints its own figure; otherwise the CPU time of the whole process counts."""


ROWS = (
    Row(
        "cold process to first chunk, signed",
        {
            "zarr-s3-async": _OURS.format(options=_SIGNED),
            "zarr-s3-async, keys of the environment": _OURS.format(options=_ENDPOINT),
            "zarr-s3-async, blocking": "import os" + _BLOCKING.format(options=_SIGNED),
            "tensorstore": _TENSORSTORE.format(type="environment"),
            "zarr-python + obstore": _OBSTORE.format(options=_KEYS),
        },
        "the best of the others",
    ),
    Row(
        "cold process to first chunk, anonymous",
        {
            "zarr-s3-async": _OURS.format(options=f"{_ENDPOINT}, anonymous=True"),
            "tensorstore": _TENSORSTORE.format(type="anonymous"),
            "zarr-python + obstore": _OBSTORE.format(options="skip_signature=True"),
        },
        "the best of the others",
    ),
    Row("new session and open, warm process", {"zarr-s3-async": _AGAIN.format(body=_SESSION)}, "5 ms", inside=True),
    Row("asyncio.run(read()) per call", {"zarr-s3-async": _AGAIN.format(body=_RUN)}, "10 ms", inside=True),
    Row("Flask request of one 1 MiB chunk", {"zarr-s3-async": _AGAIN.format(body=_FLASK)}, "10 ms", inside=True),
)


PARTS = {
    "import numpy, asyncio": "import numpy, asyncio",
    "import zarr_s3_async": "import zarr_s3_async",
    "zarr-s3-async, first chunk read": _OURS.format(options=_SIGNED),
    "tensorstore, first chunk read": _TENSORSTORE.format(type="environment"),
}
_WITHOUT = {
    "whole process": "{}",
    "without its end": "{}\nimport os\nos._exit(0)",
    "without garbage collection either": "import gc\ngc.disable()\n{}\nimport os\nos._exit(0)",
}


def main() -> None:
    """Run the measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--parts", action="store_true", help="what imports, reading and ending a process take")
    arguments = parser.parse_args()
    with StandIn(buckets=(_BUCKET,)) as server, tempfile.TemporaryDirectory() as bytecode:
        asyncio.run(_prepare(server))
        words = {
            **environment(server.endpoint_url, f"{_BUCKET}/cold", bytecode),
            "AWS_ACCESS_KEY_ID": server.access_key_id,
            "AWS_SECRET_ACCESS_KEY": server.secret_access_key,
        }
        if arguments.parts:
            _measure_parts({**words, "OPENBLAS_NUM_THREADS": "1"}, arguments.rounds)
            return
        print("| CPU, ms | " + "median | least | bar |\n|---|---|---|---|")
        for row in ROWS:
            if arguments.only in row.name:
                _measure(row, words, arguments.rounds)


def environment(url: str, array: str, bytecode: str) -> dict[str, str]:
    """Environment of a program, without keys. Bytecode is written to the given folder, which may be empty."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "URL": url,
        "ARRAY": array,
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": bytecode,
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "HOME": bytecode,
    }


async def _prepare(server: StandIn) -> None:
    async with zs.Session(
        endpoint_url=server.endpoint_url,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    ) as session:
        array = await session.create_array("s3://benchmarks/cold", shape=_SHAPE, chunks=_SHAPE, dtype="f4")
        await array[...].set(np.random.default_rng(0).normal(size=_SHAPE))


def _measure(row: Row, environment: dict[str, str], rounds: int) -> None:
    found: dict[str, list[float]] = {name: [] for name in row.programs}
    for number in range(rounds + 1):
        for name, program in row.programs.items():
            figure = _once(program, environment, inside=row.inside)
            if number:  # the first round writes the bytecode
                found[name].append(figure)
    for name, figures in found.items():
        print(
            f"| {row.name}: {name} | {1e3 * median(figures):.1f} | {1e3 * min(figures):.1f} | {row.bar} |", flush=True
        )


def _measure_parts(environment: dict[str, str], rounds: int) -> None:
    programs = {(name, how): _WITHOUT[how].format(PARTS[name]) for name in PARTS for how in _WITHOUT}
    found: dict[tuple[str, str], list[float]] = {key: [] for key in programs}
    for number in range(rounds + 1):
        for key, program in programs.items():
            figure = _once(program, environment, inside=False)
            if number:  # the first round writes the bytecode
                found[key].append(figure)
    print(f"| CPU, ms | {' | '.join(_WITHOUT)} |\n|---|{'---:|' * len(_WITHOUT)}")
    for name in PARTS:
        print(f"| {name} | {' | '.join(f'{1e3 * median(found[name, how]):.0f}' for how in _WITHOUT)} |")


def _once(program: str, environment: dict[str, str], *, inside: bool) -> float:
    with subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a program failed:\n{program}")
    return float(printed) if inside else usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
