"""`ZarrBatches`: the batches of a `BatchLoader` for PyTorch's `DataLoader`, in any number of worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

try:
    import torch
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
except ImportError as _error:
    raise ImportError("ZarrBatches needs PyTorch: pip install 'zarr-s3-async[torch]'") from _error

import zarr_s3_async as zs

from .._options import check_count

_MAX_WORKERS = 1024
_OWN = ("batch_size", "batch_sampler", "sampler", "shuffle", "drop_last")
"""Options of DataLoader that BatchLoader replaces."""


class ZarrBatches(IterableDataset[Any]):
    """The batches of a loader as a dataset: `DataLoader(ZarrBatches(loader), batch_size=None, num_workers=4)`.

    Workers share the batches of the loader's rank, with any start method. Each worker process opens its own session.
    Each iteration over the `DataLoader` is the next epoch, also with `persistent_workers=True`.

    Args:
        loader: Makes the batches. In a distributed job, create it with `rank` and `world_size`.

    Raises:
        ConfigError: It is not a `BatchLoader`, or it writes batches to buffers.
    """

    def __init__(self, loader: zs.BatchLoader) -> None:
        super().__init__()
        if not isinstance(loader, zs.BatchLoader):
            raise zs.ConfigError(f"ZarrBatches needs a zs.BatchLoader, not {type(loader).__name__}")
        if loader.fills_buffers:
            raise zs.ConfigError(
                'batches of a DataLoader come from other processes: create the loader with out="torch", and use '
                "pin_memory=True of DataLoader"
            )
        len(loader)  # makes the plan now, so that all workers have the same one even if arrays change
        self._loader = loader
        at = loader.next_state()
        # Tensors in shared memory, because workers with any start method must see and change them.
        self._epochs = torch.full((_MAX_WORKERS,), at["epoch"], dtype=torch.int64).share_memory_()
        """By worker: the epoch of its next iteration."""
        self._running = torch.tensor([at["epoch"]], dtype=torch.int64).share_memory_()
        """The current or last epoch; before the first iteration, its epoch."""
        self._resumed = torch.tensor([at["epoch"], at["batch"]], dtype=torch.int64).share_memory_()
        """An epoch, and the number of its batches that were taken in an earlier run."""
        self._workers = torch.tensor([at["workers"]], dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        number, workers = (0, 1) if info is None else (info.id, info.num_workers)
        epoch = int(self._epochs[number])
        taken = self._taken_before(epoch)
        if taken and workers != int(self._workers):
            raise zs.ConfigError(
                f"the restored state is in the middle of an epoch of {int(self._workers)} workers, which {workers} "
                f"cannot continue: use {int(self._workers)} workers, or start the next epoch (set_epoch)"
            )
        self._workers[0] = workers
        self._running[0] = epoch
        self._epochs[number] = epoch + 1
        # DataLoader takes the first batch from worker 0: it must make the batch at which the earlier run ended.
        turn = (number + taken) % workers
        self._loader.restore(self._loader.state_at(epoch, taken, workers=workers))
        return self._loader.batches(epoch, worker=turn, workers=workers)

    def data_loader(self, **options: Any) -> Any:
        """A `DataLoader` of this dataset, with these options of `torch.utils.data.DataLoader`."""
        own = [name for name in _OWN if name in options]
        if own:
            raise zs.ConfigError(f"{own[0]} is not an option here: zs.BatchLoader makes the batches; pass it to that")
        return DataLoader(self, batch_size=None, **options)

    def set_epoch(self, number: int) -> None:
        """Set the epoch of the next iteration; the iterations after it continue from there."""
        check_count("epoch", number, least=0)
        self._epochs.fill_(number)
        self._running[0] = number
        self._resumed.fill_(-1)

    def state(self, taken: int) -> dict[str, Any]:
        """The position of the `DataLoader`, like `BatchLoader.state`.

        The caller counts batches, since workers read ahead.

        Args:
            taken: Number of batches that the current iteration took from the `DataLoader`.
        """
        check_count("taken", taken, least=0)
        epoch = int(self._running)
        batch = taken + self._taken_before(epoch)
        if batch > len(self):
            raise zs.ConfigError(f"taken must be at most {len(self)}, the batches of an epoch, not {batch}")
        if batch == len(self):
            return self._loader.state_at(epoch + 1, 0)
        return self._loader.state_at(epoch, batch, workers=int(self._workers))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue at a state: the next iteration starts with the next batch. It needs the same number of workers.

        Raises:
            ConfigError: The state is of a loader with another order of samples.
        """
        self._loader.restore(state)
        self._epochs.fill_(state["epoch"])
        self._running[0] = state["epoch"]
        self._resumed[0], self._resumed[1] = state["epoch"], state["batch"]
        self._workers[0] = state["workers"]

    def _taken_before(self, epoch: int) -> int:
        return int(self._resumed[1]) if epoch == int(self._resumed[0]) else 0
