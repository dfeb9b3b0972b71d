"""The store conformance suite: a store that passes these checks can store arrays.

With pytest, one test per promise:

    @pytest.mark.parametrize("check", CHECKS, ids=check_name)
    async def test_my_store(check, my_store):
        await check(my_store)

Without: `report = await run_conformance(my_store)`. The checks use keys of their own, so that one store may
serve them all, but each expects the store to hold nothing of its keys before.
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
"""Every promise of `stores/base.py`. Each raises AssertionError where it is broken."""


DEVIATIONS: Mapping[str, frozenset[str]] = {
    # Its keys are files in folders: a folder sorts by its name, and goes some time after its last file.
    "seaweedfs": frozenset({"listing_order_is_that_of_the_whole_keys", "folders_that_hold_nothing_are_not_listed"}),
    "moto": frozenset(),
    "juicefs": frozenset(
        {
            # It takes preconditions and ignores them, which is what it is here for.
            "put_absent",
            "put_match",
            "put_match_of_an_absent_object_is_a_conflict",
            "the_version_of_a_read_can_be_named",
            "conditional_delete",
            "one_of_many_absent_puts_wins",
            "one_of_many_matching_puts_wins",
            "one_of_many_deletes_wins",
            "no_increment_is_lost",
            # A range of an empty object is answered with a Content-Range that says nothing.
            "an_empty_object_is_present",
            # Keys are files in folders. A folder stays when its last file goes, or goes while a file is put into it.
            "deletes_do_not_disturb_puts_beside_them",
            "a_cancelled_delete_is_old_or_gone",
            "odd_keys",
            "many_keys_are_listed_and_deleted",
        }
    ),
}
"""Checks that an S3 store cannot pass on a kind of server, whatever it does; named as `check_name` does."""


def check_name(check: Check) -> str:
    """`a_sink_receives_a_range` for `check_a_sink_receives_a_range`; it serves as a test's id."""
    return str(getattr(check, "__name__", check)).removeprefix("check_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `run_conformance` found."""

    passed: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    """Name of the check, and the traceback of what it met."""

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return not self.failed

    def __str__(self) -> str:
        lines = [f"{len(self.passed)} checks passed, {len(self.failed)} failed"]
        return "\n".join([*lines, *(f"\n--- {name}\n{reason}" for name, reason in self.failed)])


async def run_conformance(store: Store, checks: Iterable[Check] = CHECKS) -> Report:
    """Run the checks one after the other on an empty store; a failed one does not stop the others."""
    if not __debug__:
        raise RuntimeError("python -O removes the assertions that the checks consist of")
    passed: list[str] = []
    failed: list[tuple[str, str]] = []
    for check in checks:
        try:
            await check(store)
        except Exception:  # noqa: BLE001  # a store under test may raise anything, and the report says what
            failed.append((check_name(check), traceback.format_exc()))
        else:
            passed.append(check_name(check))
    return Report(passed=tuple(passed), failed=tuple(failed))
