"""`python benchmarks/shuffles.py docs/loader/shuffles.png`: how far samples move in each shuffle; a table and a plot.

Computed only from the order of an epoch: 4,096 samples in chunks of 16, and a buffer that holds an eighth of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from zarr_s3_async.loader.feeds import Geometry, Shuffle, Window, plan_feeds
from zarr_s3_async.loader.order import Order, Part, share_of

SAMPLES, CHUNK, BATCH, ROW = 4096, 16, 32, 1024
BUFFER = SAMPLES * ROW // 8
SHUFFLES: tuple[Shuffle | None, ...] = (None, "buffer", "chunks", "global")


def order(shuffle: Shuffle | None, epoch: int = 0, window: int = 1) -> np.ndarray:
    """The samples of an epoch."""
    geometry = Geometry((SAMPLES + window - 1, ROW), (CHUNK, ROW), None, np.dtype("u1"))
    feeds = plan_feeds({None: 0}, [geometry], {None: Window(window)}, axis=0, shuffle=shuffle, buffer_bytes=BUFFER)
    share = share_of(SAMPLES, BATCH, Part(), drop_last=False)
    return np.concatenate([fill.samples for fill in Order(feeds, shuffle, 0, epoch).fills(share)])


def travel(samples: np.ndarray) -> float:
    """Mean distance between stored position and position in the epoch, relative to that of a random permutation, which
    is a third of the number of samples."""
    return float(np.abs(samples - np.arange(SAMPLES)).mean() / (SAMPLES / 3))


def chunks_in_a_batch(samples: np.ndarray) -> float:
    """Mean number of different chunks in a batch."""
    return float(np.mean([np.unique(batch // CHUNK).size for batch in samples.reshape(-1, BATCH)]))


def spread_of_batches(samples: np.ndarray) -> float:
    """Standard deviation of the batches' means, relative to that of random batches: 1 is a true shuffle."""
    means = samples.reshape(-1, BATCH).mean(axis=1)
    return float(means.std() / (SAMPLES / np.sqrt(12 * BATCH)))


def table() -> str:
    """Markdown."""
    lines = [
        "| shuffle | distance | chunks in a batch of 32 | spread of batch means |",
        "|---|---:|---:|---:|",
    ]
    for shuffle, window in [*((shuffle, 1) for shuffle in SHUFFLES), ("chunks", 8)]:
        epochs = [order(shuffle, epoch, window) for epoch in range(20)]
        figures = [
            np.mean([measure(one) for one in epochs]) for measure in (travel, chunks_in_a_batch, spread_of_batches)
        ]
        name = "none" if shuffle is None else f"`{shuffle}`"
        name += f", windows of {window}" if window > 1 else ""
        lines.append(f"| {name} | {figures[0]:.2f} | {figures[1]:.1f} | {figures[2]:.1f} |")
    return "\n".join(lines)


def draw(path: Path) -> None:
    """Plot the position in the epoch of each stored sample."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), sharey=True, layout="constrained")
    for axis, shuffle in zip(axes, SHUFFLES, strict=True):
        axis.plot(order(shuffle), ",", color="#1f5f8b")
        axis.set(title="shuffle=None" if shuffle is None else f'shuffle="{shuffle}"', xlabel="place in the epoch")
    axes[0].set_ylabel("stored place")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
    if sys.argv[1:]:
        draw(Path(sys.argv[1]))
