"""ZarrBatches under PyTorch's DataLoader. Skipped where PyTorch is missing: `nox -s torch` installs it."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

torch = pytest.importorskip("torch", reason="PyTorch is missing; nox -s torch installs it")

from torch.utils.data import DataLoader  # noqa: E402  # behind the skip

from zarr_s3_async.adapters.torch import ZarrBatches  # noqa: E402  # likewise

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # more workers than there are cores
]
ROWS = 203


@pytest.fixture
def url(tmp_path: Path) -> str:
    async def write() -> None:
        async with zs.Session() as session:
            array = await session.create_array(f"file://{tmp_path}/a", shape=(ROWS, 3), chunks=(7, 3), dtype="i8")
            await array[...].set(np.arange(ROWS * 3).reshape(ROWS, 3))

    asyncio.run(write())
    return f"file://{tmp_path}/a"


def loader(url: str, **options: Any) -> zs.BatchLoader:
    return zs.BatchLoader(url, **{"batch_size": 8, "shuffle": "chunks", "out": "torch", **options})


def order(batches: Any) -> list[int]:
    return [int(row) // 3 for batch in batches for row in batch[:, 0]]


def data_loader(batches: ZarrBatches, workers: int = 0, context: str | None = None, **options: Any) -> Any:
    more = {"multiprocessing_context": context} if workers else {}
    return DataLoader(batches, batch_size=None, num_workers=workers, **more, **options)


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("persistent", [False, True])
def test_each_iteration_is_a_new_epoch_of_all_samples(url: str, workers: int, persistent: bool) -> None:
    batches = ZarrBatches(loader(url))
    source = data_loader(batches, workers, "fork", persistent_workers=persistent and workers > 0)
    assert len(source) == len(batches) == 26
    orders = [order(source) for _ in range(3)]
    assert all(sorted(one) == list(range(ROWS)) for one in orders)
    assert len({tuple(one) for one in orders}) == 3
    again = data_loader(ZarrBatches(loader(url)), workers, "fork")
    assert [order(again) for _ in range(3)] == orders  # independent of the workers' speed
    batches.set_epoch(1)
    assert order(source) == orders[1]


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_workers_of_every_start_method_read_the_same_samples(url: str, context: str) -> None:
    source = data_loader(ZarrBatches(loader(url)), 2, context, persistent_workers=True)
    wanted = data_loader(ZarrBatches(loader(url)), 2, "fork")
    assert [order(source) for _ in range(2)] == [order(wanted) for _ in range(2)]


def test_more_workers_than_chunks_lose_no_sample(url: str) -> None:
    source = data_loader(ZarrBatches(loader(url, batch_size=100)), 4, "fork")
    assert sorted(order(source)) == list(range(ROWS))


def test_ranks_together_have_all_samples(url: str) -> None:
    found: list[int] = []
    for rank in range(3):
        found += order(data_loader(ZarrBatches(loader(url, rank=rank, world_size=3)), 2, "fork"))
    assert sorted(found) == list(range(ROWS))


@pytest.mark.parametrize("workers", [0, 3])
def test_an_epoch_resumes_after_any_batch(url: str, workers: int) -> None:
    def new() -> tuple[ZarrBatches, Any]:
        batches = ZarrBatches(loader(url, batch_size=40))
        return batches, data_loader(batches, workers, "fork")

    batches, source = new()
    whole = [[order([batch]) for batch in source] for _ in range(2)]
    batches, source = new()
    list(source)
    for taken in range(1, 7):
        state = json.loads(json.dumps(batches.state(taken) if taken < 6 else batches.state(len(batches))))
        resumed, rest = new()
        resumed.restore(state)
        found = [order([batch]) for batch in rest]
        assert found == (whole[0][taken:] or whole[1])
        resumed.restore(state)
        assert resumed.state(0) == state


def test_a_resumed_epoch_can_be_interrupted_again(url: str) -> None:
    batches = ZarrBatches(loader(url, batch_size=20))
    whole = [order([batch]) for batch in data_loader(batches, 3, "fork")]
    state, found = None, []
    while len(found) < len(whole):
        batches = ZarrBatches(loader(url, batch_size=20))
        if state is not None:
            batches.restore(state)
        for taken, batch in enumerate(data_loader(batches, 3, "fork"), 1):
            found.append(order([batch]))
            if taken == 4:
                break
        state = batches.state(taken)
    assert found == whole


def test_a_used_loader_starts_its_next_epoch_and_a_restored_one_continues(url: str) -> None:
    used = loader(url)
    next(iter(used))
    wanted = [order(loader(url).batches(number)) for number in range(2)]
    assert order(data_loader(ZarrBatches(used))) == wanted[1]
    restored = loader(url)
    restored.restore(used.state_at(0, 3))
    assert order(data_loader(ZarrBatches(restored))) == wanted[0][3 * 8 :]


def test_an_epoch_cannot_be_resumed_with_another_number_of_workers(url: str) -> None:
    batches = ZarrBatches(loader(url))
    list(data_loader(batches, 2, "fork"))
    state = batches.state(5)
    other = ZarrBatches(loader(url))
    other.restore(state)
    with pytest.raises(zs.ConfigError, match="of 2 workers"):
        list(data_loader(other))
    other.set_epoch(1)
    assert sorted(order(data_loader(other))) == list(range(ROWS))


def test_dictionaries_windows_and_transforms_give_tensors(url: str) -> None:
    both = zs.BatchLoader(
        {"x": url, "y": url}, batch_size=8, window={"x": zs.Window(4), "y": zs.Window(1, offset=4)}, transform=doubled
    )
    for batch in ZarrBatches(both).data_loader(num_workers=1, multiprocessing_context="fork"):
        assert isinstance(batch["x"], torch.Tensor)
        assert batch["x"].shape[1:] == (4, 3)
        assert torch.equal(batch["x"][:, -1] + 2 * 3, batch["y"][:, 0])


def doubled(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: 2 * one for name, one in batch.items()}


def test_workers_can_be_forked_after_the_main_process_has_read(url: str) -> None:
    async def main() -> list[int]:
        async with zs.Session() as session:
            own = zs.BatchLoader(await session.open_array(url), batch_size=8, out="torch")
            first = order([batch async for batch in own.epoch()])
            batches = await asyncio.to_thread(lambda: order(data_loader(ZarrBatches(own), 2, "fork")))
            assert sorted(batches) == first
            return order([batch async for batch in own.epoch(0)])

    assert asyncio.run(main()) == list(range(ROWS))


def test_each_worker_process_has_its_own_session(url: str) -> None:
    pids = {int(batch[0]) for batch in data_loader(ZarrBatches(loader(url, transform=with_pid)), 2, "fork")}
    assert len(pids) == 2
    assert os.getpid() not in pids


def with_pid(batch: Any) -> Any:
    return torch.tensor([os.getpid()])


def test_the_error_of_a_worker_is_shown(url: str) -> None:
    Path(url.removeprefix("file://"), "c", "12", "0").write_bytes(b"no chunk")
    with pytest.raises(Exception, match=r"chunk.*12"):
        list(data_loader(ZarrBatches(loader(url)), 1, "fork"))


def test_batches_fill_pinned_buffers(url: str) -> None:
    if not torch.cuda.is_available():  # ordinary memory, but the same code
        ring = [torch.zeros((8, 3), dtype=torch.int64) for _ in range(3)]
    else:
        ring = [torch.zeros((8, 3), dtype=torch.int64, pin_memory=True) for _ in range(3)]
    plain = loader(url).batches(0)
    for number, batch in enumerate(loader(url, out=ring).batches(0)):
        assert batch.data_ptr() == ring[number % 3].data_ptr()
        assert torch.equal(batch, next(plain))


def test_memory_of_tensors_is_reused_only_when_no_view_of_it_exists(tmp_path: Path) -> None:
    data = np.repeat(np.arange(640), 4096).reshape(80, 8, 4096)

    async def write() -> None:
        async with zs.Session() as session:
            array = await session.create_array(f"file://{tmp_path}/b", shape=(640, 4096), chunks=(16, 4096), dtype="i8")
            await array[...].set(data.reshape(640, 4096))

    asyncio.run(write())
    places, views = set(), []
    ways = (lambda part: part, torch.Tensor.numpy, torch.Tensor.untyped_storage, np.from_dlpack)
    batches = loader(f"file://{tmp_path}/b", shuffle=None, prefetch_bytes=2 * data[0].nbytes).batches(0)
    for number, batch in enumerate(batches):
        places.add(batch.data_ptr())
        if number % 10 == 0:  # the batch is deleted, and a view of it is kept
            views.append((number, ways[number // 10 % len(ways)](batch[3:5, ::2])))
        del batch
    assert len(places) < 40
    for number, view in views:
        if isinstance(view, torch.UntypedStorage):
            kept = torch.tensor([], dtype=torch.int64).set_(view).reshape(8, 4096)
            assert np.array_equal(kept, data[number])
        else:
            assert np.array_equal(view, data[number, 3:5, ::2])


def test_invalid_arguments_of_zarr_batches_are_refused(url: str) -> None:
    ring = [torch.zeros((8, 3), dtype=torch.int64) for _ in range(2)]
    for wrong in (url, loader(url, out=ring)):
        with pytest.raises(zs.ConfigError):
            ZarrBatches(wrong)  # type: ignore[arg-type]  # on purpose
    batches = ZarrBatches(loader(url))
    for option in ("batch_size", "shuffle", "sampler"):
        with pytest.raises(zs.ConfigError, match=option):
            batches.data_loader(**{option: 1})
    for wrong in (-1, "0", 27):
        with pytest.raises(zs.ConfigError):
            batches.state(wrong)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(zs.ConfigError):
        batches.set_epoch(-1)
    with pytest.raises(zs.ConfigError, match="made with seed"):
        batches.restore(ZarrBatches(loader(url, seed=5)).state(0))


def test_a_copy_is_an_independent_dataset(url: str) -> None:
    batches = ZarrBatches(loader(url))
    copy = pickle.loads(pickle.dumps(batches))
    copy.set_epoch(4)
    assert order(data_loader(batches)) != order(data_loader(copy))
