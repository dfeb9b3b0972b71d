"""The simulation detects the defects it exists for: with one protection of the package removed, some seed fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest

from zarr_s3_async._concurrency.interruptible import Interruptible
from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async._engine import operations
from zarr_s3_async._http.pool import ConnectionPool
from zarr_s3_async.stores.s3 import answer_checks, retry, store, write_ids
from zarr_s3_async.stores.s3.capabilities import Capabilities
from zarr_s3_async.stores.s3.conditional import ConditionalWrites
from zarr_s3_async.stores.s3.retry import RetryingTransport
from zarr_s3_async.stores.s3.sdk.session import NoRetrySession
from zarr_s3_async.stores.s3.sdk.transport import Attempt
from zarr_s3_async.stores.s3.store import S3Store
from zarr_s3_async.stores.s3.wire import Wire

from .scenario import Setting, run

ENOUGH = 60
"""Number of seeds within which each defect must be found; a few are usually enough."""

Patch = pytest.MonkeyPatch
MERGES = Setting(clients=3, chunks=1, whole=False, fill=False)
SERVED_ONCE = Setting(faults={"served_once": 1.0}, tasks=3, attempts=2, must_succeed=True)
CLOSING = Setting(faults={"throttled": 0.3}, clients=2, tasks=3, chunks=1, client_closings=3)


def refused_probes_are_remembered(patch: Patch) -> None:
    find_out = Capabilities._find_out

    async def and_remember(self: Capabilities, *requested: Any) -> bool | None:
        verdict = await find_out(self, *requested)
        self._known[requested[0]] = bool(verdict)
        return bool(verdict)

    patch.setattr(Capabilities, "_find_out", and_remember)


def conflicts_of_a_repeated_probe_decide(patch: Patch) -> None:
    accepts = Capabilities._accepts

    class Once:
        def __init__(self, transport: RetryingTransport) -> None:
            self.send_often = transport.send

        async def send(self, request: Any) -> Any:
            return (await self.send_often(request))[0], 1

    version_of_probe = Capabilities._version_of_probe
    versions: dict[str, Any] = {}

    async def first_version(self: Capabilities, put: Any) -> Any:
        # The version after a conflict is a second protection, which finds our own success as well.
        if put.key not in versions:
            versions[put.key] = await version_of_probe(self, put)
        return versions[put.key]

    async def as_if_sent_once(self: Capabilities, *requested: Any) -> bool | None:
        versions.clear()
        real = self._transport
        self._transport = Once(real)  # type: ignore[assignment]  # as far as it is used
        try:
            return await accepts(self, *requested)
        finally:
            self._transport = real

    patch.setattr(Capabilities, "_accepts", as_if_sent_once)
    patch.setattr(Capabilities, "_version_of_probe", first_version)


def merges_are_sent_without_conditions(patch: Patch) -> None:
    async def never(*_: Any) -> bool:
        return False

    patch.setattr(ConditionalWrites, "applies", never)


def a_lost_response_is_taken_for_a_lost_race(patch: Patch) -> None:
    async def not_mine(*_: Any) -> None:
        return None

    patch.setattr(ConditionalWrites, "read_back", not_mine)


def write_ids_are_not_kept(patch: Patch) -> None:
    patch.setattr(write_ids, "_KEPT", 1)


def any_success_status_is_taken_for_a_stored_put(patch: Patch) -> None:
    patch.setitem(answer_checks._FINDERS, "PutObject", answer_checks._object_fault)


def any_success_status_is_taken_for_a_deletion(patch: Patch) -> None:
    patch.delitem(answer_checks._FINDERS, "DeleteObject")


def no_such_key_about_another_key_is_accepted(patch: Patch) -> None:
    patch.setattr(answer_checks, "_misaddressed", lambda *_: None)


def waits_continue_after_closing(patch: Patch) -> None:
    async def sleep(_: Interruptible, seconds: float) -> None:
        await anyio.sleep(seconds)

    patch.setattr(Interruptible, "sleep", sleep)


def requests_start_after_closing(patch: Patch) -> None:
    waits_continue_after_closing(patch)
    patch.setattr(Limiter, "close", lambda _: None)


def sockets_stay_open_after_closing(patch: Patch) -> None:
    async def aclose(_: ConnectionPool) -> None:
        return

    patch.setattr(ConnectionPool, "close", lambda _: None)
    patch.setattr(ConnectionPool, "aclose", aclose)


def any_failure_is_taken_for_a_stale_connection(patch: Patch) -> None:
    patch.setattr(retry._Attempts, "_is_stale", lambda *_: False)


def a_request_after_a_stale_connection_may_reuse_another(patch: Patch) -> None:
    exchange = Wire._exchange

    async def not_fresh(self: Wire, head: bytes, request: Any, deadline: float) -> Any:
        return await exchange(self, head, replace(request, fresh=False), deadline)

    patch.setattr(Wire, "_exchange", not_fresh)


def cache_keys_lack_the_endpoint(patch: Patch) -> None:
    def bucket_alone(bucket: str, _: Any) -> str:
        return bucket

    patch.setattr(store, "place_of_bucket", bucket_alone)


def cached_chunks_are_returned_to_any_reader(patch: Patch) -> None:
    patch.setattr(S3Store, "owner", property(lambda _: None))


def a_timeout_cancels_in_every_iteration(patch: Patch) -> None:
    async def ends_in_time(work: Awaitable[object], timeout: float | None) -> bool:
        with anyio.move_on_after(timeout) as scope:
            await work
        return not scope.cancelled_caught

    patch.setattr(operations, "_ends_in_time", ends_in_time)


BROKEN: list[tuple[Callable[[Patch], None], Setting]] = [
    (refused_probes_are_remembered, replace(MERGES, faults={"refused_probe": 0.3})),
    (conflicts_of_a_repeated_probe_decide, replace(MERGES, faults={"failed_after": 0.2})),
    (merges_are_sent_without_conditions, replace(MERGES, faults={"late": 0.1})),
    (a_lost_response_is_taken_for_a_lost_race, replace(MERGES, faults={"lost_answer": 0.2})),
    (write_ids_are_not_kept, replace(MERGES, faults={"lost_answer": 0.3}, tasks=3)),
    (any_success_status_is_taken_for_a_stored_put, Setting(faults={"pretended": 0.2})),
    (any_success_status_is_taken_for_a_deletion, Setting(faults={"pretended": 0.2})),
    (no_such_key_about_another_key_is_accepted, Setting(faults={"pretended": 0.2}, fill=False)),
    (waits_continue_after_closing, CLOSING),
    (requests_start_after_closing, CLOSING),
    (sockets_stay_open_after_closing, CLOSING),
    (any_failure_is_taken_for_a_stale_connection, SERVED_ONCE),
    (a_request_after_a_stale_connection_may_reuse_another, SERVED_ONCE),
    (cache_keys_lack_the_endpoint, Setting(servers=2, cached=True)),
    (cached_chunks_are_returned_to_any_reader, Setting(denied_reads=True, cached=True)),
    (a_timeout_cancels_in_every_iteration, Setting(faults={"slow": 0.3}, time_limits=0.5, chunks=3)),
]


# Over the SDK


def the_sdk_retries_by_itself(patch: Patch) -> None:
    get_session = NoRetrySession._get_session

    async def as_aiohttp_does(self: NoRetrySession, proxy_url: str | None) -> Any:
        sender = await get_session(self, proxy_url)
        sender._session._retry_connection = True
        return sender

    patch.setattr(NoRetrySession, "_get_session", as_aiohttp_does)


def an_attempt_of_the_sdk_may_reuse_any_connection(patch: Patch) -> None:
    begin = Attempt.__init__
    patch.setattr(Attempt, "__init__", lambda self, *, fresh: begin(self, fresh=False))


_OF_THE_WIRE = (
    sockets_stay_open_after_closing,
    a_request_after_a_stale_connection_may_reuse_another,
    any_success_status_is_taken_for_a_deletion,
)
OVER_THE_SDK: list[tuple[Callable[[Patch], None], Setting]] = [
    *((patch, replace(setting, transport="sdk")) for patch, setting in BROKEN if patch not in _OF_THE_WIRE),
    (the_sdk_retries_by_itself, replace(MERGES, faults={"lost_answer": 0.2}, transport="sdk")),
    (an_attempt_of_the_sdk_may_reuse_any_connection, replace(SERVED_ONCE, transport="sdk")),
]
BROKEN += OVER_THE_SDK
IDS = [f"{patch.__name__} ({setting.transport})" for patch, setting in BROKEN]


@pytest.mark.parametrize(("remove_protection", "setting"), BROKEN, ids=IDS)
def test_the_simulation_detects_that_a_protection_is_removed(
    remove_protection: Callable[[Patch], None], setting: Setting, monkeypatch: Patch
) -> None:
    remove_protection(monkeypatch)
    assert any(run(seed, setting).violations for seed in range(ENOUGH))


@pytest.mark.parametrize("setting", [setting for _, setting in BROKEN], ids=IDS)
def test_the_simulation_passes_with_all_protections(setting: Setting) -> None:
    """The same settings with all protections pass, so the removed protection makes the difference."""
    for seed in range(5 if setting.transport == "wire" else 1):
        report = run(seed, setting)
        assert not report.violations, report


def test_the_documented_limitation_of_late_whole_writes_is_found_if_it_is_not_excused() -> None:
    """docs/writers.md states the limitation: if this test ever fails, the page may promise more."""
    setting = Setting(faults={"late": 0.15}, chunks=1, fill=False, strict=True)
    assert any(run(seed, setting).violations for seed in range(ENOUGH))
