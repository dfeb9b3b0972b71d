"""The data that the demo stores."""

from __future__ import annotations

import numpy as np
import pytest

from zarr_s3_async.cli.demo_data import Landscape, jacksboro
from zarr_s3_async.cli.demo_steps import WINDOW_START, WINDOW_STOP, random_spans


def test_the_elevation_model_is_the_real_one_with_north_up() -> None:
    model = jacksboro()
    assert model.heights.shape == (344, 403)
    assert model.heights.dtype == np.int16
    assert (model.heights.min(), model.heights.max()) == (236, 1076)
    assert model.south < model.north
    assert model.west < model.east
    assert model.step == pytest.approx((1 / 1200, 1 / 1200))  # 3 arc seconds
    assert all(0 <= a < b <= n for a, b, n in zip(WINDOW_START, WINDOW_STOP, model.heights.shape, strict=True))


def test_the_values_of_the_landscape_do_not_depend_on_the_region_read() -> None:
    landscape = Landscape(640)
    whole = landscape.region((0, 0), landscape.shape)
    assert whole.dtype == np.float32
    assert whole.std() > 10
    for start, stop in [((0, 0), (1, 1)), ((513, 37), (600, 4096)), ((639, 4095), (640, 4096))]:
        cut = landscape.region(start, stop)
        assert np.array_equal(cut, whole[start[0] : stop[0], start[1] : stop[1]])


@pytest.mark.parametrize("shape", [(64, 4096), (8192, 4096)])
def test_the_regions_to_read_are_inside_the_array_and_the_same_in_every_run(shape: tuple[int, int]) -> None:
    spans = list(random_spans(shape, 20, 700))
    assert spans == list(random_spans(shape, 20, 700))
    for start, stop in spans:
        assert all(0 <= a < b <= n for a, b, n in zip(start, stop, shape, strict=True))
