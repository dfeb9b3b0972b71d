"""The FastAPI module: regions as bodies, errors as problem documents, and clients that disconnect."""

from __future__ import annotations

import ast
import asyncio
import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import httpx
import numpy as np
import pytest
from fastapi import Depends, FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async import fastapi as kit
from zarr_s3_async._concurrency.interruptible import run_until

from .promises.virtual_time import JumpingLoop

SHAPE = (30, 17, 5)
DATA = np.arange(np.prod(SHAPE), dtype=">i4").reshape(SHAPE)


def application(store: zs.Store, handler: Callable[..., Any] | None = None, **options: Any) -> FastAPI:
    app = FastAPI(lifespan=kit.lifespan(), exception_handlers=kit.exception_handlers, middleware=kit.middleware)

    async def slices(
        path: str,
        where: Annotated[kit.Region, Depends(kit.region)],
        session: Annotated[zs.Session, Depends(kit.session)],
    ) -> kit.SliceResponse:
        return kit.SliceResponse(await session.open_array(store, path=path), *where, **options)

    app.add_api_route("/slices/{path:path}", handler or slices, methods=["GET", "HEAD", "POST"], response_model=None)
    return app


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        yield client


class Scripted(zs.MemoryStore):
    """A store with methods that a test may replace."""


async def stored(data: np.ndarray[Any, Any] = DATA, **options: Any) -> Scripted:
    store = Scripted()
    async with zs.Session() as session:
        array = await session.create_array(
            store, path="array", shape=data.shape, chunks=(7,) * data.ndim, **{"dtype": data.dtype, **options}
        )
        await array.set_slice(data, start=(0,) * data.ndim)
    return store


def spelled(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


# Bodies


@given(data=st.data(), block_bytes=st.sampled_from([1, 100, 3000, 2**22]), form=st.sampled_from(["bytes", "npy"]))
async def test_a_body_equals_the_region_in_numpy(data: st.DataObject, block_bytes: int, form: Any) -> None:
    start = tuple(data.draw(st.integers(0, n)) for n in SHAPE)
    stop = tuple(data.draw(st.integers(a, n)) for a, n in zip(start, SHAPE, strict=True))
    step = data.draw(st.none() | st.tuples(*[st.integers(1, 4)] * 3))
    query = {"start": spelled(start), "stop": spelled(stop)} | ({} if step is None else {"step": spelled(step)})
    async with client_of(application(await stored(), block_bytes=block_bytes, format=form)) as client:
        answer = await client.get("/slices/array", params=query)
    expected = DATA[tuple(map(slice, start, stop, step or (None,) * 3))]
    if form == "npy":
        block = np.load(io.BytesIO(answer.content))
    else:
        shape = tuple(map(int, answer.headers["x-shape"].split(",")))
        block = np.frombuffer(answer.content, answer.headers["x-dtype"]).reshape(shape)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == {"bytes": "application/octet-stream", "npy": "application/x-npy"}[form]
    assert block.shape == expected.shape
    assert block.dtype == "<i4"
    assert np.array_equal(block, expected)
    assert int(answer.headers["content-length"]) == len(answer.content)


async def test_structured_elements_keep_their_fields() -> None:
    data = np.array([(1, 2.5), (3, 4.5)], dtype=[("x", ">i2"), ("y", "f8")])
    store = await stored(data, zarr_format=2)
    async with client_of(application(store)) as client:
        answer = await client.get("/slices/array?start=0&stop=2")
    dtype = np.dtype(ast.literal_eval(answer.headers["x-dtype"]))
    assert np.frombuffer(answer.content, dtype).tolist() == data.tolist()


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">M8[s]"])
async def test_elements_are_always_sent_in_little_endian(dtype: str) -> None:
    data = np.arange(5).astype(dtype)
    async with client_of(application(await stored(data, zarr_format=2))) as client:
        answer = await client.get("/slices/array?start=0&stop=5")
    assert answer.headers["x-dtype"] == np.dtype(dtype).newbyteorder("<").str
    assert answer.content == data.astype(answer.headers["x-dtype"]).tobytes()


async def messages_of(
    app: FastAPI, query: str, send: Callable[[Any], Any] | None = None, seconds: float = 30
) -> list[Any]:
    """The messages of a response to a client that takes each immediately, or by `send`."""
    messages: list[Any] = []
    incoming = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        for message in incoming:
            return message
        return await asyncio.sleep(7200)

    async def take(message: Any) -> None:
        messages.append(message)
        if send is not None:
            await send(message)

    async with app.router.lifespan_context(app):
        await asyncio.wait_for(app(scope_of("/slices/array", query), receive, take), seconds)
    return messages


@pytest.mark.parametrize("query", ["start=0,0,0&stop=1,30,17", "start=0,0,0&stop=1,30,17&step=1,1,1"])
async def test_a_region_is_sent_in_pieces_along_its_first_axis_of_several_elements(query: str) -> None:
    data = np.arange(30 * 17, dtype="i4").reshape(1, 30, 17)
    messages = await messages_of(application(await stored(data), block_bytes=data.nbytes // 5), query)
    bodies = [message["body"] for message in messages[1:]]
    assert b"".join(bodies) == data.tobytes()
    assert max(map(len, bodies)) <= data.nbytes // 5


async def test_at_most_four_blocks_are_read_ahead_for_a_slow_client() -> None:
    data = np.arange(70 * 7, dtype="i4").reshape(70, 7)
    store, block = await stored(data), data[:7].nbytes
    reads: list[str] = []
    get = store.get

    async def counted(key: str, **options: Any) -> Any:
        if "/c/" in key:
            reads.append(key)
        return await get(key, **options)

    store.get = counted
    ahead: list[int] = []

    async def slowly(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(0.01)
            ahead.append(len(reads))

    messages = await messages_of(application(store, block_bytes=block), "start=0,0&stop=70,7", slowly)
    assert b"".join(message.get("body", b"") for message in messages) == data.tobytes()
    assert len(reads) == 10
    assert all(n <= sent + 1 + 4 + 1 for sent, n in enumerate(ahead)), ahead


@pytest.mark.parametrize("stops", ["in a block", "before the end"])
def test_a_client_that_stops_reading_ends_its_response_after_the_send_timeout(stops: str) -> None:
    data = np.arange(210_000, dtype="i8").reshape(2_100, 100)
    progress: list[Any] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        store = Scripted()
        async with zs.Session() as session:
            array = await session.create_array(
                store, path="array", shape=data.shape, chunks=(700, 100), dtype="i8", compressor=None
            )
            await array.set_slice(data, start=(0, 0))

        async def take(message: Any) -> None:
            if message["type"] != "http.response.body":
                return
            await asyncio.sleep(59)  # slow, but within the timeout
            if len(progress) == 1 if stops == "in a block" else not message["more_body"]:
                progress.append(loop.time())
                await asyncio.Event().wait()
            progress.append(message["body"])

        app = application(store, block_bytes=data[:700].nbytes, send_timeout=60)
        with pytest.raises(RuntimeError) as caught:  # by Starlette, since the response has begun
            await messages_of(app, "start=0,0&stop=2100,100", take, seconds=3600)
        assert isinstance(caught.value.__cause__, zs.DeadlineExceeded)
        assert "send_timeout=60" in str(caught.value.__cause__)
        assert loop.time() == progress[-1] + 1  # 59 s of the minute were over
        assert len(asyncio.all_tasks()) == 1

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(scenario())
    taken = b"".join(progress[:-1])
    assert max(map(len, progress[:-1])) == 2**18
    assert data.tobytes().startswith(taken)
    assert len(taken) == (2**18 if stops == "in a block" else data.nbytes)


@pytest.mark.parametrize("name", ["größe", "大きさ", "a\nb", "x" * 66_000], ids=["latin", "kanji", "line", "long"])
async def test_fields_may_have_any_name(name: str) -> None:
    data = np.array([(1, 2.5), (3, 4.5)], dtype=[(name, ">i2"), ("y", "f8")])
    store = await stored(data, zarr_format=2)
    async with client_of(application(store)) as client:
        answer = await client.get("/slices/array?start=0&stop=2")
    dtype = np.dtype(ast.literal_eval(answer.headers["x-dtype"]))
    assert dtype.names == (name, "y")
    assert np.frombuffer(answer.content, dtype).tolist() == data.tolist()
    async with client_of(application(store, format="npy")) as client:
        answer = await client.get("/slices/array?start=0&stop=2")
    block = np.load(io.BytesIO(answer.content), max_header_size=100_000)
    assert block.dtype.names == (name, "y")
    assert block.tolist() == data.tolist()
    assert (len(answer.content) - data.nbytes) % 64 == 0  # NumPy aligns the data like this


async def test_an_array_without_dimensions_is_one_element() -> None:
    async with client_of(application(await stored(np.array(7, "u2")))) as client:
        answer = await client.get("/slices/array?start=&stop=")
    assert (answer.headers["x-shape"], answer.content) == ("", b"\x07\x00")


async def test_a_head_request_gives_the_size_and_reads_no_chunk() -> None:
    store = await stored()
    reads: list[str] = []
    get = store.get

    async def counted(key: str, **options: Any) -> Any:
        reads.append(key)
        return await get(key, **options)

    store.get = counted
    async with client_of(application(store)) as client:
        answer = await client.head("/slices/array?start=0,0,0&stop=30,17,5")
    assert (int(answer.headers["content-length"]), answer.content) == (DATA.nbytes, b"")
    assert not [key for key in reads if "/c/" in key]


async def test_elements_without_a_fixed_size_are_refused() -> None:
    strings = np.array(["a", "bcd"], dtype=object)
    async with client_of(application(await stored(strings, dtype=str))) as client:
        answer = await client.get("/slices/array?start=0&stop=2")
    assert answer.status_code == 501


def test_a_type_without_an_npy_name_is_sent_only_as_raw_bytes() -> None:
    import ml_dtypes

    class Of:
        url, shape, ndim, dtype = "memory://x", (3,), 1, np.dtype(ml_dtypes.bfloat16)

    assert kit.SliceResponse(Of(), 0, 3).headers["x-dtype"] == "bfloat16"
    with pytest.raises(zs.UnsupportedFeature, match="bytes"):
        kit.SliceResponse(Of(), 0, 3, format="npy")


# Errors


@pytest.mark.parametrize(
    ("path", "query", "status", "kind"),
    [
        ("absent", "start=0,0,0&stop=1,1,1", 404, "node-not-found"),
        ("array", "start=0,0,0&stop=1,1,99", 416, "selection-error"),
        ("array", "start=0,0,0&stop=1,1,1&step=1,1,0", 416, "selection-error"),
        ("array", "start=-1,0,0&stop=1,1,1", 416, "selection-error"),
        ("array", "start=0&stop=1", 416, "selection-error"),
        ("array", "start=0,zero,0&stop=1,1,1", 422, "config-error"),
        ("array", "start=0,,0&stop=1,1,1", 422, "config-error"),
        ("array", "start=0,0,0&stop=30,17,5", 413, "response-too-large"),
        ("../array", "start=0,0,0&stop=1,1,1", 422, "config-error"),
    ],
)
async def test_an_invalid_request_gets_a_problem_document_from_fastapi(
    path: str, query: str, status: int, kind: str
) -> None:
    async with client_of(application(await stored(), max_bytes=DATA.nbytes - 1)) as client:
        answer = await client.get(f"/slices/{path.replace('.', '%2e')}?{query}")
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, document["status"], document["type"]) == (status, status, f"urn:zarr-s3-async:{kind}")
    assert document["instance"].startswith("/slices/")
    assert document["title"]
    assert len(document["detail"]) > 20


@pytest.mark.parametrize(
    ("start", "stop", "step"),
    [
        (0, 1, None),
        ((0, 0, 0), (1, 1, 1), 0),
        ("0,0,0", (1, 1, 1), None),
        ((0.0, 0, 0), (1, 1, 1), None),
        (None, None, None),
    ],
)
async def test_a_region_that_is_not_integers_is_a_selection_error(start: Any, stop: Any, step: Any) -> None:
    async with zs.Session() as session:
        array = await session.open_array(await stored(), path="array")
        with pytest.raises(zs.SelectionError):
            kit.SliceResponse(array, start, stop, step)
        for stop in (np.array(array.shape), None):  # as get_slice accepts it
            whole = kit.SliceResponse(array, np.zeros(3, int), stop)
            assert int(whole.headers["content-length"]) == DATA.nbytes


@pytest.mark.parametrize(("start", "stop"), [((-1, 0, 0), (1, 1, 1)), ((0, 0, 0), (1, 1, 6)), ((0, 2, 0), (1, 1, 1))])
async def test_a_region_outside_the_array_is_refused_before_the_response(start: Any, stop: Any) -> None:
    async with zs.Session() as session:
        array = await session.open_array(await stored(), path="array")
        with pytest.raises(zs.SelectionError):
            kit.SliceResponse(array, start, stop)


def test_every_error_of_the_library_has_the_status_of_its_kind() -> None:
    expected = {
        zs.NodeNotFound: 404,
        zs.BucketNotFound: 404,
        zs.ChunkNotFound: 404,
        kit.ResponseTooLarge: 413,
        zs.SelectionError: 416,
        zs.ConfigError: 422,
        zs.DataOverflowError: 422,
        zs.NodeExists: 409,
        zs.ConcurrentModification: 409,
        zs.AccessDenied: 403,
        zs.CredentialsExpired: 502,
        zs.CredentialsNotFound: 502,
        zs.Throttled: 503,
        zs.SessionClosed: 503,
        zs.DeadlineExceeded: 504,
        zs.NetworkError: 502,
        zs.UnexpectedResponse: 502,
        zs.ChunkDecodeError: 502,
        zs.MetadataError: 502,
        zs.Unsupported: 501,
        zs.UnsupportedFeature: 501,
    }
    assert {kind: kit.status_of(kind("x")) for kind in expected} == expected


def test_internal_errors_are_logged_and_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "zarr_s3_async.fastapi"):
        answer = kit.problem(zs.AccessDenied("s3://hidden-bucket/key is forbidden"), "/slices/x")
    assert b"hidden-bucket" not in bytes(answer.body)
    assert "hidden-bucket" in caplog.text


@pytest.mark.parametrize("error", [zs.UnsupportedFeature("a codec of s3://hidden"), zs.NetworkError("s3://hidden")])
def test_a_service_with_details_sends_every_message(error: zs.ZarrS3Error) -> None:
    assert b"hidden" not in bytes(kit.problem(error).body)
    assert b"hidden" in bytes(kit.problem(error, details=True).body)


def test_the_title_is_the_kind_of_error_in_one_line() -> None:
    document = json.loads(bytes(kit.problem(zs.NodeNotFound("no array"), "/x").body))
    assert document == {
        "type": "urn:zarr-s3-async:node-not-found",
        "title": "No array or group exists at this path",
        "status": 404,
        "detail": "no array",
        "instance": "/x",
    }
    assert "instance" not in json.loads(bytes(kit.problem_response(418, "teapot", "A teapot", "short").body))


def test_a_busy_service_sends_retry_after() -> None:
    assert kit.problem(zs.Throttled("slow down")).headers["retry-after"] == "1"
    assert "retry-after" not in kit.problem(zs.NodeNotFound("no array")).headers


@pytest.mark.parametrize(
    "make",
    [
        lambda: kit.lifespan(limit=zs.Limits()),
        lambda: kit.lifespan(anonymus=True),
        lambda: kit.SliceResponse(None, 0, 1, format="numpy"),
        lambda: kit.SliceResponse(None, 0, 1, max_bytes=0),
        lambda: kit.SliceResponse(None, 0, 1, block_bytes="4M"),
        lambda: kit.SliceResponse(None, 0, 1, timeout=-1),
        lambda: kit.SliceResponse(None, 0, 1, send_timeout=-1),
    ],
    ids=["limit", "anonymus", "format", "max_bytes", "block_bytes", "timeout", "send_timeout"],
)
def test_an_invalid_option_is_refused_immediately(make: Callable[[], Any]) -> None:
    with pytest.raises(zs.ConfigError):
        make()


async def test_an_error_before_the_first_element_has_a_status() -> None:
    store = await stored()
    store.get = slow_chunks(store)
    async with client_of(application(store, timeout=0.01)) as client:
        answer = await client.get("/slices/array?start=0,0,0&stop=1,1,1")
    assert answer.status_code == 504


async def test_an_error_in_the_middle_breaks_the_body() -> None:
    store = await stored()
    get = store.get

    async def broken(key: str, **options: Any) -> Any:
        if "/c/4/" in key:
            raise zs.NetworkError("the line is cut")
        return await get(key, **options)

    store.get = broken
    sent: list[bytes] = []

    async def receive_all(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/slices/array?start=0,0,0&stop=30,17,5") as answer:
            sent.extend([piece async for piece in answer.aiter_raw()])

    async with client_of(application(store, block_bytes=DATA[:7].nbytes)) as client:
        with pytest.raises((RuntimeError, zs.NetworkError)):
            await receive_all(client)


# The session


async def test_all_handlers_share_one_session_which_ends_with_the_application() -> None:
    seen: list[zs.Session] = []

    async def handler(session: Annotated[zs.Session, Depends(kit.session)]) -> str:
        seen.append(session)
        return repr(session)

    app = application(zs.MemoryStore(), handler)
    async with client_of(app) as client:
        for _ in range(3):
            assert (await client.get("/slices/x")).status_code == 200
        assert len(set(map(id, seen))) == 1
        assert not seen[0].closed
    assert seen[0].closed


async def test_an_application_without_the_lifespan_gives_a_warning() -> None:
    app = FastAPI(exception_handlers=kit.exception_handlers)

    async def handler(session: Annotated[zs.Session, Depends(kit.session)]) -> None: ...

    app.add_api_route("/", handler)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        assert (await client.get("/")).status_code == 503
    with pytest.raises(zs.StateError, match="lifespan"):
        await kit.session(Request({"type": "http", "app": app}))


# Clients that disconnect


async def test_a_handler_that_waits_for_its_body_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, event_type = 0, type(anyio.Event())
    wait = event_type.wait

    async def counted(event: Any) -> None:
        nonlocal waits
        waits += 1
        await wait(event)

    messages = iter([{"type": "http.request", "body": b"a", "more_body": True}])

    async def one() -> Any:
        for message in messages:
            return message
        return await asyncio.sleep(3600)

    incoming = kit._Incoming(one)
    watching = asyncio.ensure_future(incoming.disconnected())
    assert (await incoming.receive())["body"] == b"a"
    monkeypatch.setattr(event_type, "wait", counted)
    waiting = asyncio.ensure_future(incoming.receive())
    for _ in range(50):
        await asyncio.sleep(0)
    assert waits <= 2
    for task in (waiting, watching):
        task.cancel()
    await asyncio.wait([waiting, watching])


async def test_an_uncancellable_handler_can_detect_that_its_client_disconnected() -> None:
    seen: list[str] = []

    async def handler(request: Request) -> None:
        with anyio.CancelScope(shield=True):
            seen.extend([(await request.receive())["type"] for _ in range(3)])

    app = application(zs.MemoryStore(), handler)
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        await asyncio.sleep(0)
        return next(messages)

    async def send(message: Any) -> None: ...

    async with app.router.lifespan_context(app):
        await asyncio.wait_for(app(scope_of("/slices/array"), receive, send), 30)
    assert seen == ["http.request", "http.disconnect", "http.disconnect"]


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
async def test_only_http_requests_are_watched(kind: str) -> None:
    given: list[Any] = []

    async def inner(*arguments: Any) -> None:
        given.extend(arguments)

    async def receive() -> Any: ...

    async def send(message: Any) -> None: ...

    await kit.CancelOnDisconnect(inner)({"type": kind}, receive, send)
    assert given == [{"type": kind}, receive, send]


async def test_a_response_has_the_attributes_that_frameworks_need() -> None:
    class Of:
        url, shape, ndim, dtype = "memory://x", (3,), 1, np.dtype("f4")

    answer = kit.SliceResponse(Of(), 0, 3)
    assert (answer.status_code, answer.background, answer.media_type) == (200, None, "application/octet-stream")


def slow_chunks(store: zs.Store, started: list[str] | None = None, ended: list[str] | None = None) -> Any:
    get = store.get

    async def slow(key: str, **options: Any) -> Any:
        if "/c/" in key:
            if started is not None:
                started.append(key)
            try:
                await asyncio.sleep(3600)
            finally:
                if ended is not None:
                    ended.append(key)
        return await get(key, **options)

    return slow


def scope_of(path: str, query: str = "", method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
        "root_path": "",
        "scheme": "http",
        "http_version": "1.1",
    }


@pytest.mark.parametrize("with_middleware", [True, False])
async def test_a_client_that_disconnects_cancels_its_reads(with_middleware: bool) -> None:
    store = await stored()
    started: list[str] = []
    ended: list[str] = []
    store.get = slow_chunks(store, started, ended)
    app = application(store)
    if not with_middleware:
        app.user_middleware.clear()
    gone = asyncio.Event()
    messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        for message in messages:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async with app.router.lifespan_context(app):
        serving = asyncio.ensure_future(app(scope_of("/slices/array", "start=0,0,0&stop=30,17,5"), receive, send))
        while len(started) < 15:  # 5 * 3 * 1 chunks
            await asyncio.sleep(0)
        gone.set()
        await asyncio.wait_for(serving, 30)
    assert sorted(ended) == sorted(started)
    assert sent == []


async def test_a_handler_that_has_not_started_to_read_is_cancelled_too() -> None:
    ended = asyncio.Event()

    async def handler() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    app = application(zs.MemoryStore(), handler)
    sent: list[Any] = []

    messages = iter([{"type": "http.request", "body": b"", "more_body": False}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    async with app.router.lifespan_context(app):
        await asyncio.wait_for(app(scope_of("/slices/array"), receive, send), 30)
    assert ended.is_set()


@pytest.mark.parametrize("form", ["bytes", "arrow"])
@pytest.mark.parametrize("ends", ["client", "session"])
async def test_nothing_is_left_whenever_the_client_disconnects_or_the_session_closes(ends: str, form: Any) -> None:
    store = await stored()
    get = store.get

    async def turning(key: str, **options: Any) -> Any:
        await asyncio.sleep(0)
        found = await get(key, **options)
        await asyncio.sleep(0)
        return found

    store.get = turning
    app = application(store, format=form, block_bytes=DATA[:7].nbytes)
    messages: list[str] = []

    async def send(message: Any) -> None:
        await asyncio.sleep(0)
        messages.append(message["type"] + str(message.get("status", "")) + str(message.get("more_body", "")))

    begun, whole = 0, 0
    for turns in range(400):
        messages.clear()
        gone = asyncio.Event()
        incoming = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive(incoming: Any = incoming, gone: asyncio.Event = gone) -> Any:
            for message in incoming:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async with app.router.lifespan_context(app):
            session = app.state.zarr_s3_async_session
            before = asyncio.all_tasks()
            serving = asyncio.ensure_future(app(scope_of("/slices/array", "start=0,0,0&stop=30,17,5"), receive, send))
            for _ in range(turns):
                await asyncio.sleep(0)
            if ends == "client":
                gone.set()
            else:
                await session.aclose()
            (result,) = await asyncio.wait_for(asyncio.gather(serving, return_exceptions=True), 30)
            # In the middle of a body, only an error shows the client that the body is incomplete.
            assert result is None or (ends == "session" and isinstance(result, zs.SessionClosed | RuntimeError)), result
            assert asyncio.all_tasks() == before
            assert (session.usage.requests, session.usage.bytes, session.usage.bytes_waiting) == (0, 0, 0)
        if ends == "session" and messages and not messages[0].endswith("200"):
            assert messages[0].endswith("503"), messages
        begun += bool(messages)
        whole = whole + 1 if messages and messages[-1].endswith("False") and "200" in messages[0] else 0
        if whole == 3:
            break
    assert begun
    assert whole == 3


async def test_a_request_body_reaches_its_handler_complete_and_with_backpressure() -> None:
    pieces = [bytes([n]) * 10 for n in range(5)]
    pulled = 0
    seen: list[int] = []

    async def handler(request: Request) -> int:
        size = 0
        async for piece in request.stream():
            size += len(piece)
            seen.append(pulled)
            await asyncio.sleep(0.001)
        return size

    async def receive() -> Any:
        nonlocal pulled
        if pulled == len(pieces):
            await asyncio.sleep(3600)
        pulled += 1
        return {"type": "http.request", "body": pieces[pulled - 1], "more_body": pulled < len(pieces)}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    app = application(zs.MemoryStore(), handler)
    async with app.router.lifespan_context(app):
        await asyncio.wait_for(app(scope_of("/slices/array", method="POST"), receive, send), 30)
    assert sent[1]["body"] == b"50"
    assert all(ahead <= taken + 2 for taken, ahead in enumerate(seen)), seen


async def test_the_error_of_the_work_is_raised_unchanged_and_its_end_ends_the_watch() -> None:
    async def fails() -> None:
        raise zs.NetworkError("cut")

    async def never() -> None:
        await asyncio.sleep(3600)

    async def at_once() -> None: ...

    with pytest.raises(zs.NetworkError):
        await run_until(fails, never)
    assert await run_until(at_once, never)
    assert not await run_until(never, at_once)


async def test_a_shielded_part_of_the_work_is_completed_after_the_stop() -> None:
    stopped, steps = asyncio.Event(), []

    async def work() -> None:
        with anyio.CancelScope(shield=True):
            stopped.set()
            for step in range(5):
                await asyncio.sleep(0)
                steps.append(step)
        await asyncio.sleep(3600)

    assert not await run_until(work, stopped.wait)
    assert steps == [0, 1, 2, 3, 4]


async def test_an_error_of_the_watch_ends_the_work_and_is_raised() -> None:
    async def fails() -> None:
        raise zs.NetworkError("the server is broken")

    with pytest.raises(zs.NetworkError, match="the server is broken"):
        await run_until(lambda: asyncio.sleep(3600), fails)


async def test_a_cancelled_caller_cancels_work_and_watch() -> None:
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(name)

    running = asyncio.ensure_future(run_until(lambda: work("work"), lambda: work("stop")))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sorted(ended) == ["stop", "work"]


# Arrow


@pytest.mark.parametrize("block_bytes", [20, 2**22])
@pytest.mark.parametrize("dtype", ["?", "i1", ">u2", "<i8", "f2", ">f4", "f8", "<M8[D]", "<M8[ms]", "<m8[ns]"])
async def test_arrow_streams_are_read_by_pyarrow(dtype: str, block_bytes: int) -> None:
    ipc = pytest.importorskip("pyarrow.ipc")
    data = (np.arange(120) % 127).astype("i1").astype(dtype).reshape(10, 4, 3)
    async with client_of(application(await stored(data), format="arrow", block_bytes=block_bytes)) as client:
        answer = await client.get("/slices/array?start=1,0,0&stop=9,4,2")
    table = ipc.open_stream(answer.content).read_all()
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    assert "content-length" not in answer.headers
    assert table.column_names == ["data"]
    assert (table.column(0).num_chunks > 1) == (block_bytes < 2**22)
    shape = json.loads(table.schema.metadata[b"shape"])
    assert table.schema.metadata[b"dtype"] == np.dtype(dtype).newbyteorder("<").str.encode()
    expected = data[1:9, :, :2]
    assert np.array_equal(table.column("data").to_numpy().reshape(shape), expected)
    assert answer.headers["x-shape"] == "8,4,2"


async def test_nat_is_null_in_arrow() -> None:
    ipc = pytest.importorskip("pyarrow.ipc")
    data = np.array(["2020-01-01", "NaT"], "M8[s]")
    async with client_of(application(await stored(data), format="arrow")) as client:
        answer = await client.get("/slices/array?start=0&stop=2")
    table = ipc.open_stream(answer.content).read_all()
    assert table.column("data").null_count == 1
    assert table.schema.field("data").nullable


@pytest.mark.parametrize("query", ["start=0&stop=0", "start=3&stop=3"])
async def test_an_empty_region_is_an_arrow_stream_without_batches(query: str) -> None:
    ipc = pytest.importorskip("pyarrow.ipc")
    async with client_of(application(await stored(np.arange(5.0)), format="arrow")) as client:
        answer = await client.get(f"/slices/array?{query}")
    table = ipc.open_stream(answer.content).read_all()
    assert (table.num_rows, json.loads(table.schema.metadata[b"shape"])) == (0, [0])


@pytest.mark.parametrize("dtype", ["c16", "S4", "U4", [("x", "i2")], "M8[h]"])
async def test_types_without_an_arrow_type_are_refused(dtype: Any) -> None:
    pytest.importorskip("pyarrow")
    async with client_of(application(await stored(np.zeros(3, dtype), zarr_format=2), format="arrow")) as client:
        answer = await client.get("/slices/array?start=0&stop=3")
    assert answer.status_code == 501
    assert answer.json()["type"] == "urn:zarr-s3-async:unsupported-feature"


def test_without_pyarrow_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    class Of:
        url, shape, ndim, dtype = "memory://x", (3,), 1, np.dtype("f4")

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"zarr-s3-async\[arrow\]"):
        kit.SliceResponse(Of(), 0, 3, format="arrow")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "bytes"),
        ("*/*", "bytes"),
        ("application/x-npy", "npy"),
        ("application/vnd.apache.arrow.stream", "arrow"),
        ("Application/X-NPY;q=0.5, application/vnd.apache.arrow.stream;q=0.8", "arrow"),
        ("application/*;q=0.2, application/x-npy", "npy"),
        ("application/octet-stream;q=0, */*", "npy"),
        ("application/octet-stream; q=0, application/x-npy; q=0, */*; q=0.1", "arrow"),
        ("text/html, application/*;q=0.1", "bytes"),
        ("application/x-npy;q=2, application/octet-stream;q=0.1", "bytes"),
        ("application/octet-stream;q=1, application/x-npy", "bytes"),
        ("text/html", 406),
        ("application/x-npy;q=0", 406),
        ("", "bytes"),
        ("application/x-npy;q=0.9;v=1,application/vnd.apache.arrow.stream;v=1;q=0.95", "arrow"),
    ],
)
async def test_the_format_is_chosen_by_the_accept_header(accept: str | None, expected: Any) -> None:
    async def handler(accepted: Annotated[kit.Format, Depends(kit.accepted_format)]) -> str:
        return accepted

    async with client_of(application(zs.MemoryStore(), handler)) as client:
        if accept is None:
            del client.headers["accept"]
        answer = await client.get("/slices/x", headers={} if accept is None else {"accept": accept})
    assert (answer.status_code if expected == 406 else answer.json()) == expected
    if expected == 406:
        assert answer.json()["type"] == "urn:zarr-s3-async:not-acceptable"
