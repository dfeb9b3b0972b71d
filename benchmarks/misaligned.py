"""Errors in a dask array that is stored without a lock in chunks to which its blocks are not aligned.

    python -m benchmarks.misaligned [--rounds 3]

Every library is given the same blocks through `dask.array.store(lock=False)`, on SeaweedFS, in threads and in two
processes. Elements that are wrong afterwards are counted; no library raises an error. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np

from zarr_s3_async import blocking
from zarr_s3_async.testing import LocalS3

_SHAPE, _BLOCKS, _CHUNKS, _SHARDS = (600, 500), (70, 90), (50, 50), (200, 250)
_BUCKET = "misaligned"
_DATA = np.arange(_SHAPE[0] * _SHAPE[1], dtype="i4").reshape(_SHAPE) + 1


def _ours(path: str, shards: tuple[int, ...] | None) -> Any:
    return blocking.create_array(
        f"s3://{_BUCKET}/{path}", shape=_SHAPE, dtype="i4", chunks=_CHUNKS, shards=shards, overwrite=True
    )


def _zarr(store: Any, shards: tuple[int, ...] | None) -> Any:
    import zarr

    return zarr.create_array(store, shape=_SHAPE, dtype="i4", chunks=_CHUNKS, shards=shards, overwrite=True)


def _obstore(path: str, shards: tuple[int, ...] | None) -> Any:
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    store = S3Store(
        _BUCKET,
        prefix=path,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region=os.environ["AWS_REGION"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return _zarr(ObjectStore(store), shards)


def _s3fs(path: str, shards: tuple[int, ...] | None) -> Any:
    from zarr.storage import FsspecStore

    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    return _zarr(FsspecStore.from_url(f"s3://{_BUCKET}/{path}", storage_options=options), shards)


class _TensorStore:
    """A tensorstore array with NumPy's assignment; it pickles as its specification."""

    def __init__(self, spec: dict[str, Any]) -> None:
        import tensorstore

        self._spec = spec
        self._array = tensorstore.open(spec, open=True, create=True).result()

    def __reduce__(self) -> tuple[Any, ...]:
        return _TensorStore, (self._spec,)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._array.shape)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[key].write(value).result()

    def __getitem__(self, key: Any) -> Any:
        return self._array[key].read().result()


def _tensorstore(path: str, shards: tuple[int, ...] | None) -> Any:
    layout = {"shape": list(shards or _CHUNKS)}
    codecs: list[dict[str, Any]] = []
    if shards is not None:
        codecs = [{"name": "sharding_indexed", "configuration": {"chunk_shape": list(_CHUNKS)}}]
    metadata: dict[str, Any] = {
        "shape": list(_SHAPE),
        "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": layout["shape"]}},
    }
    if codecs:
        metadata["codecs"] = codecs
    kvstore = {
        "driver": "s3",
        "bucket": _BUCKET,
        "path": path + "/",
        "endpoint": os.environ["AWS_ENDPOINT_URL"],
        "aws_region": os.environ["AWS_REGION"],
        "aws_credentials": {"type": "environment"},
    }
    return _TensorStore({"driver": "zarr3", "kvstore": kvstore, "metadata": metadata})


_LIBRARIES: dict[str, Callable[[str, tuple[int, ...] | None], Any]] = {
    "zarr-s3-async": _ours,
    "tensorstore": _tensorstore,
    "zarr-python + obstore": _obstore,
    "zarr-python + s3fs": _s3fs,
}


def _wrong(library: Callable[..., Any], path: str, shards: tuple[int, ...] | None) -> float:
    """Share of elements that are wrong, 0 to 1."""
    target = library(path, shards)
    da.store(da.from_array(_DATA, chunks=_BLOCKS), target, lock=False)
    return float((np.asarray(target[...]) != _DATA).mean())


def _row(name: str, rounds: int, ways: list[Any], number: int) -> str:
    cells = []
    for way, place in enumerate(ways):
        for shards in (None, _SHARDS):
            paths = [f"{number}-{way}-{shards is not None}-{turn}" for turn in range(rounds)]
            with place():
                shares = [_wrong(_LIBRARIES[name], path, shards) for path in paths]
            low, high = min(shares), max(shares)
            cells.append("0" if high == 0 else f"{100 * low:.0f} to {100 * high:.0f} %")
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with LocalS3(bucket=_BUCKET) as server:
        os.environ.update(
            AWS_ENDPOINT_URL=server.endpoint_url,
            AWS_ACCESS_KEY_ID=server.access_key_id,
            AWS_SECRET_ACCESS_KEY=server.secret_access_key,
            AWS_REGION=server.region,
            AWS_DEFAULT_REGION=server.region,
        )
        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=":0", memory_limit=None, silence_logs=50
        )
        with cluster, distributed.Client(cluster, set_as_default=False) as client:
            ways = [
                lambda: dask.config.set(scheduler="threads", num_workers=4),
                lambda: dask.config.set(scheduler=client),
            ]
            print("| wrong elements | threads, chunks | threads, shards | 2 processes, chunks | 2 processes, shards |")
            print("|---|---|---|---|---|")
            for number, name in enumerate(_LIBRARIES):
                print(_row(name, rounds, ways, number), flush=True)
    blocking.close()


if __name__ == "__main__":
    main()
