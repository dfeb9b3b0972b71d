"""Opening and creating under each fault of the fault table: only S3's NoSuchKey means absent; nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

import zarr_s3_async as zs

from ..servers import faults
from ..servers.faults import Fault
from .fault_arrays import BUCKET, FOREVER, STORED, Bench, Options, bench_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["wire", "sdk"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench_of(Options(request.param)) as made:
        yield made


async def create(session: zs.Session, url: str) -> Any:
    return await session.create_array(url, shape=(1,), chunks=(1,), dtype="u1")


Act = Callable[[zs.Session, str], Awaitable[Any]]
ACTS: dict[str, Act] = {
    "open_array": lambda session, url: session.open_array(url),
    "open": lambda session, url: session.open(url),
    "exists": lambda session, url: session.exists(url),
    "create_array": create,
}
ERRORS: dict[str, tuple[Fault, type[zs.ZarrS3Error]]] = {
    "no bucket": (faults.no_such_bucket, zs.BucketNotFound),
    "html 404": (faults.html_404, zs.UnexpectedResponse),
    "bare 404": (faults.bare_404, zs.UnexpectedResponse),
    "an error in a page": (
        faults.refuse(404, body=b"<a><Error><Code>NoSuchKey</Code></Error></a>"),
        zs.UnexpectedResponse,
    ),
    "denied": (faults.access_denied, zs.AccessDenied),
    "bare 403": (faults.bare_403, zs.AccessDenied),
    "expired": (faults.expired_token, zs.CredentialsExpired),
    "another region": (faults.refuse(301, "PermanentRedirect"), zs.WrongRegion),
    "500": (faults.internal_error, zs.UnexpectedResponse),
    "throttled": (faults.slow_down, zs.Throttled),
    "page in 200": (faults.page_in_200, zs.UnexpectedResponse),
    "204": (faults.changed("204 Nothing", content_length=None), zs.UnexpectedResponse),
    "reset": (faults.reset_before_head, zs.NetworkError),
    "reset mid-body": (faults.reset_mid_body, zs.NetworkError),
    "garbage": (faults.garbage, zs.NetworkError),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
@pytest.mark.parametrize(("fault", "error"), ERRORS.values(), ids=ERRORS)
async def test_no_error_response_is_read_as_a_missing_array(
    bench: Bench, fault: Fault, error: type[zs.ZarrS3Error], act: Act
) -> None:
    array = await bench.array("zstd")
    bench.server.cue("GetObject", fault, key=f"{bench.prefix}/zarr.json", times=FOREVER)
    with pytest.raises(zs.ZarrS3Error) as caught:
        await act(bench.session, array.url)
    assert type(caught.value) is error
    assert bench.server.count("PutObject") == 0, "nothing is created where the existing objects could not be read"
    assert await bench.values() == STORED.tolist()


@pytest.mark.parametrize("act", [name for name in ACTS if name != "create_array"])
async def test_no_such_key_is_read_as_a_missing_array(bench: Bench, act: str) -> None:
    url = f"s3://{BUCKET}/nowhere"
    if act == "exists":
        assert await bench.session.exists(url) is False
    else:
        with pytest.raises(zs.NodeNotFound):
            await ACTS[act](bench.session, url)
    assert bench.server.count("HeadObject") == 0, "a response to HEAD has no body, so no error code"


async def test_creating_overwrites_nothing_that_an_outdated_response_reports_as_absent(bench: Bench) -> None:
    """The document is put with the condition that it does not exist."""
    array = await bench.array("zstd")
    bench.server.cue("GetObject", faults.no_such_key, key=f"{bench.prefix}/zarr.json")
    with pytest.raises(zs.NodeExists):
        await create(bench.session, array.url)
    assert await bench.values() == STORED.tolist()


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_no_option_lets_refused_metadata_be_read_as_absent(transport: str) -> None:
    async with bench_of(Options(transport), missing_on_403=True) as lenient:
        array = await lenient.array("zstd")
        lenient.server.cue("GetObject", faults.access_denied, key="zarr.json", times=FOREVER)
        for act in ACTS.values():
            with pytest.raises(zs.AccessDenied):
                await act(lenient.session, array.url)


async def test_an_edit_of_attributes_that_loses_a_race_is_merged_again(bench: Bench) -> None:
    array = await bench.array("zstd")
    bench.server.cue("PutObject", faults.precondition_failed, key=f"{bench.prefix}/zarr.json")
    bench.server.cue("PutObject", faults.lost_answer, key=f"{bench.prefix}/zarr.json", nth=2)
    await array.update_attributes({"a": 1})
    again = await bench.session.open_array(array.url)
    assert dict(again.attrs) == {"a": 1}
