"""Compare copies with those of the peers, in MB per CPU second: `python benchmarks/copies.py [MiB]`.

It needs Python 3.12, the extra `bench` and dask. Each copy runs in a separate process, on the same array in a local
folder, after a small copy as warm-up; the best of three counts. `moved` changes only keys, `recoded` the codec, `cut`
makes smaller chunks, and `across` turns rows of chunks into columns, with the whole array in memory as the peers do.
`bounded` is the same with 64 MiB of memory, in two stages; of the peers, only rechunker supports a limit.

rechunker needs zarr below 3, so it runs in an environment of its own, on a second array in format 2:
`python -m venv OTHER && OTHER/bin/pip install 'zarr<3' 'numcodecs<0.16' rechunker dask`, then
`python benchmarks/copies.py 256 --rechunker OTHER/bin/python`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

CASES: dict[str, dict[str, Any]] = {
    "moved": {},
    "recoded": {"compressor": {"name": "zstd", "configuration": {"level": 3, "checksum": False}}},
    "cut": {"chunks": (512, 512)},
    "across": {"chunks": (8192, 128)},
    "bounded": {"chunks": (8192, 128), "max_bytes": 64 * 2**20},
}
SOURCE = (128, 8192)
SMALL = {"moved": {}, "recoded": CASES["recoded"], "cut": {"chunks": (64, 64)}, "across": {"chunks": (256, 16)}}
SMALL["bounded"] = SMALL["across"]
LIBRARIES = ("ours", "zarr", "dask", "tensorstore")
FORMAT_2 = "-v2"


def cpu_seconds() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def ours(source: str, target: str, options: dict[str, Any]) -> None:
    import zarr_s3_async as zs

    async with zs.Session() as session:
        await zs.copy(await session.open_array(Path(source)), Path(target), **{"max_bytes": 2**32, **options})


def zarr(source: str, target: str, options: dict[str, Any]) -> None:
    import zarr as library

    array = library.open_array(source, mode="r")
    more = {"compressors": options["compressor"]} if "compressor" in options else {}
    if "chunks" in options:
        more["chunks"] = options["chunks"]
    library.from_array(target, data=array, **more)


def dask(source: str, target: str, options: dict[str, Any]) -> None:
    import dask as library
    import dask.array as da
    import zarr as store

    array = da.from_zarr(source)
    chunks = options.get("chunks", array.chunksize)
    with library.config.set({"array.chunk-size": "64MiB"}):
        turned = array.rechunk(chunks)
    origin = store.open_array(source, mode="r")
    made = store.create_array(
        target,
        shape=origin.shape,
        chunks=chunks,
        dtype=origin.dtype,
        compressors=options.get("compressor", "auto"),
    )
    da.store(turned, made, lock=False)


def rechunker(source: str, target: str, options: dict[str, Any]) -> None:
    import zarr as store  # below 3
    from rechunker import rechunk  # type: ignore[import-not-found]  # in an environment of its own

    array = store.open_array(source, mode="r")
    chunks = [min(chunk, side) for chunk, side in zip(options["chunks"], array.shape, strict=True)]
    max_mem = f"{options.get('max_bytes', 2**32) // 2**20}MiB"
    codec = {"compressor": array.compressor}
    plan = rechunk(array, chunks, max_mem, target, target_options=codec, temp_store=f"{target}-temp")
    plan.execute()


def tensorstore(source: str, target: str, options: dict[str, Any]) -> None:
    import tensorstore as library

    def at(path: str) -> dict[str, Any]:
        return {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}

    origin = library.open(at(source), read=True).result()
    metadata = dict(json.loads((Path(source) / "zarr.json").read_text()))
    chunk = options.get("chunks", metadata["chunk_grid"]["configuration"]["chunk_shape"])
    codecs = metadata["codecs"][:1] + ([options["compressor"]] if "compressor" in options else metadata["codecs"][1:])
    made = library.open(
        {
            **at(target),
            "metadata": {
                "shape": list(origin.shape),
                "data_type": metadata["data_type"],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
                "codecs": codecs,
            },
        },
        create=True,
    ).result()
    made.write(origin).result()


def run(library: str, case: str, source: str, target: str) -> None:
    """In the child process: one copy of a small array, then the measured one."""
    fn = globals()[library]

    def call(*arguments: Any) -> None:
        result = fn(*arguments)
        if asyncio.iscoroutine(result):
            asyncio.run(result)

    small = source.replace("array", "array-small")
    call(small, f"{target}-small", SMALL[case])
    cpu, clock = cpu_seconds(), perf_counter()
    call(source, target, CASES[case])
    print(json.dumps([cpu_seconds() - cpu, perf_counter() - clock]))


async def prepare(folder: Path, mib: int, zarr_format: Literal[2, 3] = 3) -> None:
    """Smooth data with some noise: it compresses about twofold."""
    import zarr_s3_async as zs

    end = FORMAT_2 if zarr_format == 2 else ""
    async with zs.Session() as session:
        for name, rows, side, chunks in (("array-small", 256, 256, (16, 256)), ("array", mib * 32, 8192, SOURCE)):
            array = await session.create_array(
                folder / f"{name}{end}",
                shape=(rows, side),
                chunks=chunks,
                dtype="f4",
                zarr_format=zarr_format,
                compressor="zstd",
            )
            noise = np.random.default_rng(0)
            async with array.write_stream() as out:
                for at in range(0, rows, chunks[0]):
                    block = np.sin(np.arange(side) / 99) + noise.integers(0, 64, (chunks[0], side)) / 1024
                    await out.write(np.s_[at : at + chunks[0]], block)


def main(mib: int, rechunker_python: str | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(prepare(Path(folder), mib))
        print(f"{mib} MiB, MB per CPU second (MB per second by the clock)")
        print(f"{'':10}" + "".join(f"{name:>18}" for name in LIBRARIES))
        for case in CASES:
            libraries = LIBRARIES[:1] if case == "bounded" else LIBRARIES
            cells = [_best(folder, library, case, mib) for library in libraries]
            print(f"{case:10}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
        if rechunker_python is None:
            print("rechunker is left out: --rechunker names an interpreter with rechunker and zarr below 3")
            return
        asyncio.run(prepare(Path(folder), mib, 2))
        print(f"format 2  {'ours':>18}{'rechunker':>18}")
        for case in ("cut", "across", "bounded"):
            theirs = _best(folder, "rechunker", case, mib, rechunker_python, FORMAT_2)
            print(f"{case:10}{_best(folder, 'ours', case, mib, end=FORMAT_2):>18}{theirs:>18}", flush=True)


def _best(folder: str, library: str, case: str, mib: int, python: str = sys.executable, end: str = "") -> str:
    times = []
    for _ in range(3):
        target = f"{folder}/copy"
        words = [python, __file__, "--child", library, case, f"{folder}/array{end}", target]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        for path in Path(folder).glob("copy*"):
            shutil.rmtree(path)
        if done.returncode:
            return done.stderr.strip().splitlines()[-1][:16] or "failed"
        times.append(json.loads(done.stdout.splitlines()[-1]))
    size = mib * 2**20 / 1e6
    return f"{size / min(cpu for cpu, _ in times):,.0f} ({size / min(clock for _, clock in times):,.0f})"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run(*sys.argv[2:])
    else:
        parser = argparse.ArgumentParser(prog="python benchmarks/copies.py")
        parser.add_argument("mib", nargs="?", type=int, default=256)
        parser.add_argument("--rechunker", metavar="PYTHON", help="an interpreter with rechunker and zarr below 3")
        arguments = parser.parse_args()
        main(arguments.mib, arguments.rechunker)
