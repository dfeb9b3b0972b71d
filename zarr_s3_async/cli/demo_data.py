"""The data of the demo: an elevation model that matplotlib contains, and a generated landscape of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Grid: TypeAlias = np.ndarray[Any, np.dtype[Any]]

COLUMNS = 4096
CHUNK = 512
_OCTAVES = 6
_SEED = 20240229


@dataclass(frozen=True, slots=True)
class Elevation:
    """Metres above sea level on a regular grid of degrees, the northernmost row first."""

    heights: Grid
    west: float
    east: float
    south: float
    north: float

    @property
    def step(self) -> tuple[float, float]:
        """Degrees between rows and between columns."""
        rows, columns = self.heights.shape
        return (self.north - self.south) / rows, (self.east - self.west) / columns


def jacksboro() -> Elevation:
    """The Jacksboro fault, Tennessee: matplotlib's sample file `jacksboro_fault_dem.npz`."""
    from matplotlib.cbook import get_sample_data

    with np.load(str(get_sample_data("jacksboro_fault_dem.npz", asfileobj=False))) as dem:
        south, north = sorted((float(dem["ymin"]), float(dem["ymax"])))
        return Elevation(dem["elevation"], float(dem["xmin"]), float(dem["xmax"]), south, north)


class Landscape:
    """Ridges of random waves, float32 metres, `COLUMNS` wide.

    The numbers of a region do not depend on how it is divided: per element, only products and sums of fixed tables are
    computed, whose rounding is the same everywhere in IEEE arithmetic.
    """

    def __init__(self, rows: int) -> None:
        self.shape: tuple[int, int] = (rows, COLUMNS)
        random = np.random.default_rng(_SEED)
        self._down: list[Grid] = []
        self._across: list[Grid] = []
        self._weights = [np.float32(400 / 2**octave) for octave in range(_OCTAVES)]
        for octave in range(_OCTAVES):
            angle, phase = random.uniform(0, 2 * np.pi, 2)
            wavelength = 3000 / 2.2**octave
            down = np.arange(rows) * (2 * np.pi * np.sin(angle) / wavelength)
            across = np.arange(COLUMNS) * (2 * np.pi * np.cos(angle) / wavelength) + phase
            self._down.append(_sine_and_cosine(down))
            self._across.append(_sine_and_cosine(across))

    @property
    def nbytes(self) -> int:
        """Bytes of all heights."""
        return self.shape[0] * self.shape[1] * 4

    def region(self, start: tuple[int, int], stop: tuple[int, int]) -> Grid:
        """The heights in this region."""
        rows, columns = slice(start[0], stop[0]), slice(start[1], stop[1])
        heights = np.zeros((stop[0] - start[0], stop[1] - start[1]), np.float32)
        for down, across, weight in zip(self._down, self._across, self._weights, strict=True):
            # sin(a + b), folded at zero into a ridge
            wave = down[0, rows, None] * across[1, columns]
            wave += down[1, rows, None] * across[0, columns]
            np.abs(wave, out=wave)
            heights += weight * (np.float32(1) - wave)
        rounded: Grid = np.rint(heights * np.float32(10)) / np.float32(10)
        return rounded


def _sine_and_cosine(angles: Grid) -> Grid:
    return np.stack((np.sin(angles), np.cos(angles))).astype(np.float32)
