"""Extras that contain others: pyproject.toml repeats every requirement with its condition."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement

from .conftest import ROOT

EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
CONTAINS = {
    "bench": ("local",),
    "demo": ("cli", "local"),
    "interop": ("obstore", "zarr"),
    "test": ("cli", "dask", "fastapi", "interop", "moto", "view"),
    "view": ("cli", "fastapi"),
}


def test_no_extra_refers_to_another_one() -> None:
    """hatchling replaces such a reference by its requirements and loses their conditions."""
    named = {extra for extra, needs in EXTRAS.items() for need in needs if need.startswith("zarr-s3-async")}
    assert named == set()


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_an_extra_is_sorted_and_has_no_duplicates(extra: str) -> None:
    names = [need.partition(";")[0].partition(">")[0].partition("[")[0] for need in EXTRAS[extra]]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("extra", sorted(CONTAINS))
def test_an_extra_has_all_requirements_of_those_it_contains(extra: str) -> None:
    for part in CONTAINS[extra]:
        assert set(EXTRAS[part]) <= set(EXTRAS[extra]), part


def test_the_test_extra_has_the_requirements_of_the_demo() -> None:
    real = {need for need in EXTRAS["demo"] if "!=" not in need}
    assert real <= set(EXTRAS["test"])
    assert {need for need in EXTRAS["demo"] if need not in real} == {
        f"{need}; sys_platform != 'linux' and sys_platform != 'darwin'" for need in EXTRAS["moto"]
    }


def test_numpy_releases_that_wrap_numbers_are_excluded() -> None:
    """300 as uint8 is 44 in NumPy 1, and in 2.1.0 and 2.1.1 in all threads but the first."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (numpy,) = (found for found in map(Requirement, needs) if found.name == "numpy")
    refused = [
        one for one in ("1.26.4", "2.0.0", "2.0.2", "2.1.0", "2.1.1", "2.1.2", "2.5.0") if one not in numpy.specifier
    ]
    assert refused == ["1.26.4", "2.1.0", "2.1.1"]
