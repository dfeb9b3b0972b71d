"""The numbers that the command line prints."""

from __future__ import annotations

import pytest

from zarr_s3_async.cli import units


@pytest.mark.parametrize(
    ("nbytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_994, "9.99 kB"),
        (9_996, "10.0 kB"),
        (134_217_728, "134 MB"),
        (999_499_999, "999 MB"),
        (999_600_000, "1.00 GB"),
        (10**21, "1000 EB"),
    ],
)
def test_sizes_have_three_significant_digits_and_a_suitable_unit(nbytes: int, shown: str) -> None:
    assert units.size(nbytes) == shown


def test_a_rate_is_in_decimal_megabytes_per_second_and_empty_for_no_time() -> None:
    assert units.rate(5_000_000, 2.0) == "2.5"
    assert units.rate(5 * 10**9, 2.0) == "2,500"
    assert units.rate(11_000, 0.7) == "0.02"
    assert units.rate(1, 0.0) == "0.00"


def test_shapes_and_counts_are_printed_in_words() -> None:
    assert units.shape((1344, 403)) == "1,344 \N{MULTIPLICATION SIGN} 403"
    assert units.shape(()) == "scalar"
    assert [units.count(n, "chunk") for n in (0, 1, 2)] == ["0 chunks", "1 chunk", "2 chunks"]
