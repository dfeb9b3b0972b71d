"""Part sizes of multipart uploads."""

from __future__ import annotations

from typing import Any

import pytest

from zarr_s3_async.config import S3Config
from zarr_s3_async.errors import ConfigError
from zarr_s3_async.stores.s3.multipart import part_length


@pytest.mark.parametrize(
    ("size", "part", "expected"),
    [
        (100, 10, 10),
        (8 * 2**20 * 10_000, 8 * 2**20, 8 * 2**20),
        (8 * 2**20 * 10_000 + 1, 8 * 2**20, 9 * 2**20),
        (5 * 2**40, 8 * 2**20, 525 * 2**20),
    ],
)
def test_there_are_never_more_than_10000_parts(size: int, part: int, expected: int) -> None:
    assert part_length(size, part) == expected
    assert -(-size // expected) <= 10_000


@pytest.mark.parametrize("wrong", [{"part_bytes": 2**20}, {"part_bytes": 6e6}, {"multipart_bytes": 0}])
def test_invalid_part_sizes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        S3Config(**wrong)
