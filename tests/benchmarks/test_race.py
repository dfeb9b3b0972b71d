"""The race in the documentation counts exactly the lost writes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("zarr.storage")
pytest.importorskip("obstore")

from benchmarks import race


def test_lost_elements_are_counted() -> None:
    stored = np.arange(1, race.SIZE + 1)
    assert race.lost("elements of the same chunks", stored) == 0
    stored[[3, 7]] = 0
    assert race.lost("elements of the same chunks", stored) == 2


def test_lost_rows_are_counted_in_any_order_of_rows() -> None:
    rows = np.arange(race.WRITERS * race.APPENDS, 0, -1)
    assert race.lost("appended rows", rows) == 0
    assert race.lost("appended rows", rows[2:]) == 2
    assert race.lost("appended rows", np.append(rows[1:], rows[-1])) == 1, (
        "a row stored twice does not replace a lost one"
    )


def test_the_table_shows_the_lost_writes() -> None:
    clean, dirty = race.Outcome(conflicts=3), race.Outcome(errors=2)
    row = {race.LIBRARIES[0]: (5, dirty), race.LIBRARIES[1]: (0, clean)}
    text = race.table({"appended rows": row})
    assert "| 5 of 128 lost, 2 writes raised | 0 of 128 lost, 3 conflicts merged |" in text
