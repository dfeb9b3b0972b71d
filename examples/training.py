"""Train a small model on a stored landscape: from eight rows of heights, predict the next row.

    python examples/training.py s3://zarr-s3/landscape

Inputs and targets are two windows of one array, so each chunk is fetched once per epoch. With PyTorch installed, its
DataLoader reads the batches in two worker processes; without it, or with `--numpy`, a plain loop reads them.
"""

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async.cli.demo_data import COLUMNS, Landscape

ROWS, CONTEXT, REACH, HIDDEN = 512, 8, 4, 32
EPOCHS, BATCH, RATE = 5, 8, 2e-3
INPUTS = CONTEXT * (2 * REACH + 1)
CENTRES = np.arange(REACH, COLUMNS - REACH, 16)
Array = np.ndarray[Any, np.dtype[np.float32]]
Step = Callable[[Any, Any], float]
"""Takes inputs and targets, updates the model, and returns the mean squared error before the update."""


async def store(url: str) -> None:
    """Write the landscape, 8 MiB in 64 chunks."""
    landscape = Landscape(ROWS)
    async with zs.Session() as session:
        array = await session.create_array(
            url, shape=landscape.shape, chunks=(64, 512), dtype="float32", compressor="zstd", overwrite=True
        )
        await array[...].set(landscape.region((0, 0), landscape.shape))


def examples(x: Array, y: Array) -> tuple[Array, Array]:
    """Patches around some columns, (points, INPUTS), and the heights in the next row, relative to the last height."""
    patches = np.lib.stride_tricks.sliding_window_view(x, 2 * REACH + 1, axis=2)[:, :, CENTRES - REACH]
    level = x[:, -1:, CENTRES]
    patches = (patches - level[..., None]).transpose(0, 2, 1, 3).reshape(-1, INPUTS)
    return np.ascontiguousarray(patches / 10), ((y[:, :, CENTRES] - level) / 10).reshape(-1)


def numpy_model() -> Step:
    """A network of two layers with the Adam optimizer, in NumPy."""
    random = np.random.default_rng(0)
    weights = [
        (random.normal(size=(INPUTS, HIDDEN)) / np.sqrt(INPUTS)).astype("f4"),
        np.zeros(HIDDEN, "f4"),
        (random.normal(size=HIDDEN) / np.sqrt(HIDDEN)).astype("f4"),
        np.zeros((), "f4"),
    ]
    means, squares = ([np.zeros_like(w) for w in weights] for _ in range(2))
    steps = 0

    def step(inputs: Array, targets: Array) -> float:
        nonlocal steps
        steps += 1
        hidden = np.maximum(inputs @ weights[0] + weights[1], 0)
        error = hidden @ weights[2] + weights[3] - targets
        slope = 2 * error / len(error)
        back = np.outer(slope, weights[2]) * (hidden > 0)
        for n, gradient in enumerate((inputs.T @ back, back.sum(axis=0), hidden.T @ slope, slope.sum())):
            means[n] = 0.9 * means[n] + 0.1 * gradient
            squares[n] = 0.999 * squares[n] + 0.001 * gradient**2
            update = means[n] / (1 - 0.9**steps) / (np.sqrt(squares[n] / (1 - 0.999**steps)) + 1e-8)
            weights[n] = weights[n] - np.float32(RATE) * update
        return float(np.square(error).mean())

    return step


def torch_model() -> Step:
    """The same model in PyTorch."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # the layers are so small that synchronizing threads takes longer than computing
    layers = torch.nn.Sequential(torch.nn.Linear(INPUTS, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.Adam(layers.parameters(), lr=RATE)

    def step(inputs: Any, targets: Any) -> float:
        loss = torch.nn.functional.mse_loss(layers(inputs)[:, 0], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def to_examples(batch: dict[str, Array]) -> tuple[Array, Array]:
    """The transform of the loader; runs in its thread, or in a worker process."""
    return examples(batch["x"], batch["y"])


def train(batches: Any, step: Step) -> Iterator[tuple[float, float]]:
    """Per epoch: the loss of the model, and the loss of predicting the row above."""
    for _ in range(EPOCHS):
        losses, guesses = [], []
        for inputs, targets in batches:
            losses.append(step(inputs, targets))
            guesses.append(float((targets**2).mean()))
        yield float(np.mean(losses)), float(np.mean(guesses))


def main(url: str, *, with_torch: bool) -> list[float]:
    """Store the data, train, and print one line per epoch; returns the losses."""
    asyncio.run(store(url))
    windows = {"x": zs.Window(CONTEXT), "y": zs.Window(1, offset=CONTEXT)}
    loader = zs.BatchLoader(
        {"x": url, "y": url}, batch_size=BATCH, window=windows, shuffle="chunks", transform=to_examples
    )
    batches, step = loader, numpy_model
    if with_torch:
        from zarr_s3_async.adapters.torch import ZarrBatches

        batches, step = ZarrBatches(loader).data_loader(num_workers=2, persistent_workers=True), torch_model
    losses = []
    for epoch, (loss, guess) in enumerate(train(batches, step())):
        losses.append(loss)
        print(f"epoch {epoch}: squared error {100 * loss:.3f} m² (as the row above: {100 * guess:.3f} m²)")
    if not with_torch:
        print(loader.report())
    return losses


def has_torch() -> bool:
    """True if PyTorch is installed."""
    from importlib.util import find_spec

    return find_spec("torch") is not None


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--numpy"]
    try:
        url = arguments[0] if arguments else "s3://zarr-s3/landscape"
        main(url, with_torch="--numpy" not in sys.argv and has_torch())
    except zs.ZarrS3Error as error:
        sys.exit(f"{type(error).__name__}: {error}")
