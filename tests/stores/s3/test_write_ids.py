"""Write ids: sixteen are kept with the object; other metadata under their header is not taken for an id."""

from __future__ import annotations

import pytest

from zarr_s3_async._types import Version
from zarr_s3_async.stores.s3.write_ids import (
    HEADER,
    WrittenVersion,
    history_including,
    new_id,
    version_of,
    version_with_history,
    writes_of,
)


def test_versions_are_compared_by_their_etags() -> None:
    version = version_with_history('"1"', ("a" * 16,))
    assert version == '"1"'
    assert hash(version) == hash('"1"')
    assert {version: 1}[Version('"1"')] == 1


def test_the_last_sixteen_ids_are_kept() -> None:
    base = version_with_history('"1"', tuple(new_id() for _ in range(16)))
    assert isinstance(base, WrittenVersion)
    mine = new_id()
    assert history_including(mine, base) == (mine, *base.writes[:15])
    assert history_including(mine, Version('"1"')) == (mine,)
    assert history_including(mine, "absent") == (mine,)


@pytest.mark.parametrize(
    ("header", "ids"),
    [
        ("", ()),
        ("nonsense", ()),
        ("0123456789abcdef", ("0123456789abcdef",)),
        ("0123456789abcdef,x,0123456789ABCDEF,fedcba9876543210", ("0123456789abcdef", "fedcba9876543210")),
        (",".join(["0123456789abcdef"] * 1000), ("0123456789abcdef",) * 16),
    ],
)
def test_other_metadata_under_the_header_is_not_taken_for_ids(header: str, ids: tuple[str, ...]) -> None:
    assert writes_of({HEADER: header}) == ids
    version = version_of({"etag": '"1"', HEADER: header})
    assert isinstance(version, WrittenVersion)
    assert version.writes == ids


def test_objects_without_ids_have_plain_versions() -> None:
    assert type(version_of({"etag": '"1"'})) is str
