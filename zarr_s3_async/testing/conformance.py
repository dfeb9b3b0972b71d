"""The store conformance suite: a store that passes these checks can store arrays.

With pytest, one test per promise:

    @pytest.mark.parametrize("check", CHECKS, ids=check_name)
    async def test_my_store(check, my_store):
        await check(my_store)

Without pytest: `report = await run_conformance(my_store)`. Each check uses its own keys, so one store can be used for
all of them; it expects that none of its keys exists before.
"""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TypeAlias

from ..stores.base import Store
from ._checks import composed, listing, racing, reading, writing

Check: TypeAlias = Callable[[Store], Awaitable[None]]


def _checks_of(module: ModuleType) -> list[Check]:
    return [value for name, value in vars(module).items() if name.startswith("check_")]


CHECKS: tuple[Check, ...] = tuple(
    check for module in (reading, writing, racing, listing, composed) for check in _checks_of(module)
)
"""One check per promise of `stores/base.py`; it raises AssertionError if the store breaks the promise."""


DEVIATIONS: Mapping[str, frozenset[str]] = {
    # Keys are files in folders: a folder sorts by its name, and is removed some time after its last file.
    "seaweedfs": frozenset({"listing_order_is_that_of_the_whole_keys", "folders_that_hold_nothing_are_not_listed"}),
    # It checks a condition and stores afterwards, without a lock between: in its threads, two writers may both pass.
    "moto": frozenset(
        {
            "one_of_many_absent_puts_wins",
            "one_of_many_matching_puts_wins",
            "one_of_many_deletes_wins",
            "no_increment_is_lost",
        }
    ),
    "juicefs": frozenset(
        {
            # It accepts preconditions and ignores them; it is tested for this behaviour.
            "put_absent",
            "put_match",
            "put_match_of_an_absent_object_is_a_conflict",
            "the_version_of_a_read_can_be_named",
            "conditional_delete",
            "one_of_many_absent_puts_wins",
            "one_of_many_matching_puts_wins",
            "one_of_many_deletes_wins",
            "no_increment_is_lost",
            # The response to a range of an empty object has a Content-Range without a size.
            "an_empty_object_is_present",
            # Keys are files in folders. A folder remains after its last file, or goes while a file is put into it.
            "deletes_do_not_disturb_puts_beside_them",
            "a_cancelled_delete_is_old_or_gone",
            "odd_keys",
            "many_keys_are_listed_and_deleted",
        }
    ),
}
"""Checks, by name (`check_name`), that no S3 store can pass on a kind of server."""


def check_name(check: Check) -> str:
    """Name of a check, as a test id.

    Args:
        check: One of `CHECKS`.

    Returns:
        The function's name without `check_`, such as `a_sink_receives_a_range`.
    """
    return str(getattr(check, "__name__", check)).removeprefix("check_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of `run_conformance`."""

    passed: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    """Name and traceback of each failed check."""

    @property
    def ok(self) -> bool:
        """True if every check passed."""
        return not self.failed

    def __str__(self) -> str:
        lines = [f"{len(self.passed)} checks passed, {len(self.failed)} failed"]
        return "\n".join([*lines, *(f"\n--- {name}\n{reason}" for name, reason in self.failed)])


async def run_conformance(store: Store, checks: Iterable[Check] = CHECKS) -> Report:
    """Run the checks one after the other on an empty store. A failed check does not stop the others.

    Args:
        store: An empty store. The checks leave objects in it.
        checks: The checks to run; default: all.

    Returns:
        The report, with the traceback of each failed check.

    Raises:
        RuntimeError: Python runs without assertions (`-O`).
    """
    if not __debug__:
        raise RuntimeError("python -O removes the assertions of the checks")
    passed: list[str] = []
    failed: list[tuple[str, str]] = []
    for check in checks:
        try:
            await check(store)
        except Exception:  # noqa: BLE001  # a store under test may raise anything; the report contains it
            failed.append((check_name(check), traceback.format_exc()))
        else:
            passed.append(check_name(check))
    return Report(passed=tuple(passed), failed=tuple(failed))
