"""The picture shows the data that was read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zarr_s3_async.cli.demo import Frame, draw

FRAME = Frame(west=-1.0, east=1.0, south=40.0, north=42.0, row_cuts=(10,), column_cuts=(20,))


def pixels(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)


def test_the_picture_is_a_png_of_the_heights(tmp_path: Path) -> None:
    slope = np.add.outer(np.arange(40), np.arange(50)).astype(np.int16)
    draw(slope, FRAME, title="a slope", note="a note", path=tmp_path / "slope.png")
    draw(slope[::-1, ::-1].copy(), FRAME, title="a slope", note="a note", path=tmp_path / "other.png")
    there, back = pixels(tmp_path / "slope.png"), pixels(tmp_path / "other.png")
    assert there.shape == back.shape
    assert min(there.shape[:2]) > 600
    assert np.abs(there - back).mean() > 0.02


def test_drawing_does_not_change_the_global_state_of_matplotlib(tmp_path: Path) -> None:
    import sys

    before = "matplotlib.pyplot" in sys.modules
    draw(np.eye(20) * 100, FRAME, title="t", note="n", path=tmp_path / "eye.png")
    assert ("matplotlib.pyplot" in sys.modules) == before
