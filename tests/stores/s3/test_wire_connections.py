"""The connection pool: the number of connections, which are reused, and that none outlives the wire."""

import asyncio
import socket
import threading
import time
from dataclasses import replace

import pytest

from zarr_s3_async.errors import DeadlineExceeded, NetworkError, SessionClosed
from zarr_s3_async.stores.s3.errors import STALE
from zarr_s3_async.stores.s3.request import Request, Response
from zarr_s3_async.stores.s3.resume import BrokenBody

from .wire_server import ScriptedServer, answering, response

GET = Request("GetObject", "bucket", "key")
ONCE = Request("PutObject", "bucket", "key", {"if-none-match": "*"}, payload=b"x")


def pooled(wire):
    return wire._connections


def test_connections_are_bounded_and_all_requests_are_served(run):
    """50 concurrent requests use 4 connections, and each gets its own response."""
    in_flight, peak, lock = 0, 0, threading.Lock()

    def script(peer):
        nonlocal in_flight, peak
        while True:
            head, _ = peer.request()
            with lock:
                in_flight += 1
                peak = max(peak, in_flight)
            time.sleep(0.002)
            with lock:
                in_flight -= 1
            peer.send(response(head.split(" ")[1].encode()))

    async def main(server):
        wire = server.wire(max_connections=4)
        answers = await asyncio.gather(*[wire.send(Request("GetObject", "bucket", f"k{n}")) for n in range(50)])
        await wire.aclose()
        return answers

    with ScriptedServer(script) as server:
        answers = run(main(server))
    assert [bytes(a.body) for a in answers] == [b"/bucket/k%d" % n for n in range(50)]
    assert server.connections == peak == 4


def test_a_stale_connection_is_detected_before_it_is_used(run):
    """The server closed the idle connection: no attempt is spent on it, even if a request may be sent only once."""

    def script(peer):
        peer.request()
        peer.send(response(b"a"))

    async def main(server):
        wire = server.wire()
        for _ in range(4):
            await wire.send(ONCE)
            await asyncio.sleep(0.03)
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))
    assert (server.connections, len(server.requests)) == (4, 4)


def test_a_stale_connection_is_detected_even_if_the_loop_was_blocked(run):
    """The socket has the FIN but the loop has not seen it: the socket is checked right before the request is sent."""
    hung_up = threading.Event()

    def script(peer):
        peer.request()
        peer.send(response(b"a"))
        peer.sock.shutdown(socket.SHUT_RDWR)
        hung_up.set()

    async def main(server):
        wire = server.wire()
        for _ in range(3):
            await wire.send(ONCE)
            hung_up.wait(5)  # blocks the loop intentionally
            hung_up.clear()
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))
    assert (server.connections, len(server.requests)) == (3, 3)


def hanging_up_on_the_second_request(peer):
    peer.request()
    peer.send(response(b"a"))
    peer.request()


@pytest.mark.parametrize("request_", [GET, ONCE], ids=["read", "write"])
def test_a_request_on_a_stale_connection_is_sent_once_and_reported(run, request_):
    """No byte of a response arrived: the retry layer sends it again on a new connection, and counts it."""

    async def main(server):
        wire = server.wire()
        await wire.send(GET)
        with pytest.raises(NetworkError) as caught:
            await wire.send(request_)
        assert caught.value.code == STALE
        assert (await wire.send(replace(request_, fresh=True))).status == 200
        await wire.aclose()

    with ScriptedServer(hanging_up_on_the_second_request) as server:
        run(main(server))
    assert (server.connections, len(server.requests)) == (2, 3)


def test_a_new_connection_that_breaks_is_not_stale(run):
    def script(peer):
        peer.request()

    async def main(server):
        wire = server.wire()
        with pytest.raises(NetworkError) as caught:
            await wire.send(GET)
        assert caught.value.code != STALE
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))
    assert len(server.requests) == 1


def test_a_request_is_not_repeated_after_the_start_of_its_response(run):
    """One byte of a head arrived: the server has taken the request, and only the retry layer may repeat it."""

    def script(peer):
        peer.request()
        peer.send(response(b"a"))
        peer.request()
        peer.send(b"H")

    async def main(server):
        wire = server.wire()
        await wire.send(GET)
        with pytest.raises(NetworkError):
            await wire.send(GET)
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))
    assert len(server.requests) == 2


def test_an_unsolicited_response_is_never_read_by_another_request(run):
    """It arrives in its own packet after the first response was complete: the connection is not reused."""
    came = threading.Event()

    def script(peer):
        peer.request()
        peer.send(response(b"asked for"))
        time.sleep(0.01)
        peer.send(response(b"smuggled"))
        came.set()
        answering(response(b"asked for"))(peer)

    async def main(server):
        wire = server.wire()
        for _ in range(4):
            assert (await wire.send(GET)).body == b"asked for"
            came.wait(5)  # blocks the loop: the bytes have arrived, and the loop has not seen them
            came.clear()
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))
    assert server.connections == 4


def test_idle_connections_are_closed_after_the_idle_timeout(run):
    """The next request opens a new connection."""
    hung_up = threading.Event()

    def script(peer):
        peer.request()
        peer.send(response())
        peer.wait_for_hang_up()
        hung_up.set()

    async def main(server):
        wire = server.wire(idle_timeout=0.05)
        await wire.send(GET)
        while not hung_up.is_set():
            await asyncio.sleep(0.01)
        assert not pooled(wire)._open
        await wire.send(GET)
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))
    assert server.connections == 2


def test_waiting_for_a_connection_ends_with_the_attempt_timeout(run):
    """The attempt timeout includes the wait; an expired waiter leaves no state."""

    async def main(server):
        wire = server.wire(max_connections=1, attempt_timeout=0.05)
        lent = await wire._connections.acquire()
        with pytest.raises(DeadlineExceeded):
            await wire.send(GET)
        wire._connections.release(lent)
        assert wire._connections.take() is lent, "no waiter is left"
        lent.abort()
        await wire.aclose()

    with ScriptedServer(lambda peer: peer.wait_for_hang_up()) as server:
        run(main(server))


def test_a_cancelled_waiter_passes_its_connection_to_the_next(run):
    """Any of the waiters for one connection may be cancelled at any moment; all others are served."""

    def script(peer):
        while True:
            peer.request()
            time.sleep(0.001)
            peer.send(response(b"a"))

    async def main(server):
        wire = server.wire(max_connections=1)
        tasks = [asyncio.ensure_future(wire.send(GET)) for _ in range(40)]
        for number, task in enumerate(tasks):
            if number % 3:
                await asyncio.sleep(0.0005)
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for number, result in enumerate(results):
            assert isinstance(result, asyncio.CancelledError) or result.body == b"a", number
        assert not any(isinstance(result, asyncio.CancelledError) for result in results[::3])
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))


@pytest.mark.parametrize("ending", [{"connection": "close"}, {"content_length": "9"}])
def test_a_closed_connection_frees_its_slot_for_the_next_waiter(run, ending):
    """Other requests wait while the response has `Connection: close` or the connection breaks."""

    def script(peer):
        peer.request()
        peer.send(response(b"a", **ending))

    async def main(server):
        wire = server.wire(max_connections=1)
        results = await asyncio.gather(*[wire.send(GET) for _ in range(5)], return_exceptions=True)
        await wire.aclose()
        return results

    with ScriptedServer(script) as server:
        results = run(main(server))
    assert {type(result) for result in results} == {Response if "connection" in ending else BrokenBody}
    assert server.connections == 5


def test_a_failed_connection_frees_its_slot_for_the_next_waiter(run):
    """A refused connection releases its slot in the pool."""
    with ScriptedServer(answering(response())) as gone:
        pass

    async def main():
        wire = gone.wire(max_connections=1)
        results = await asyncio.gather(*[wire.send(GET) for _ in range(5)], return_exceptions=True)
        assert [type(result) for result in results] == [NetworkError] * 5
        await wire.aclose()

    run(main())


def test_close_ends_running_requests_and_leaves_nothing_open(run):
    """Requests in flight, waiting and connecting end with SessionClosed; sockets, timers and tasks are gone."""
    hung_up = threading.Semaphore(0)

    def script(peer):
        peer.request()
        peer.send(response(b"0123456789")[:-5])
        peer.wait_for_hang_up()
        hung_up.release()

    async def main(server):
        wire = server.wire(max_connections=2)
        tasks = [asyncio.ensure_future(wire.send(GET)) for _ in range(4)]
        while len(server.requests) < 2:
            await asyncio.sleep(0.005)
        await asyncio.gather(wire.aclose(), wire.aclose())
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [SessionClosed] * 4
        assert not pooled(wire)._sockets
        assert pooled(wire)._sweeper is None
        with pytest.raises(SessionClosed):
            await wire.send(GET)
        await wire.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with ScriptedServer(script) as server:
        run(main(server))
        for _ in range(2):
            assert hung_up.acquire(timeout=5)


def test_a_retired_wire_lets_its_requests_end_and_keeps_no_connection(run):
    """Requests in flight and in the queue get their responses; then no connection is open."""
    answer_now = threading.Event()

    def script(peer):
        while True:
            peer.request()
            answer_now.wait(5)
            peer.send(response(b"a"))

    async def main(server):
        wire = server.wire(max_connections=2)
        tasks = [asyncio.ensure_future(wire.send(GET)) for _ in range(4)]
        while len(server.requests) < 2:
            await asyncio.sleep(0.005)
        wire.retire()
        answer_now.set()
        answers = await asyncio.gather(*tasks)
        assert [answer.body for answer in answers] == [b"a"] * 4
        assert not pooled(wire)._open
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))


def test_close_while_connecting_does_not_wait_for_the_connect_timeout(run):
    """A connection that hangs in its handshake is abandoned."""
    entered = threading.Event()

    def never_shaking_hands(peer):
        entered.set()
        peer.wait_for_hang_up()

    async def main(server):
        wire = server.wire(endpoint=server.endpoint(scheme="https"), connect_timeout=60.0, attempt_timeout=None)
        task = asyncio.ensure_future(wire.send(GET))
        while not entered.is_set():
            await asyncio.sleep(0.005)
        await wire.aclose()
        with pytest.raises(SessionClosed):
            await task

    with ScriptedServer(never_shaking_hands) as server:
        run(main(server))


def test_every_address_of_a_name_is_tried_and_used(run, monkeypatch):
    """The first refuses, the next serves; with two that serve, both get connections."""
    with ScriptedServer(answering(response(b"a"))) as server:
        port = server.port

        def addresses(*_, **__):
            return [(2, 1, 6, "", (address, port)) for address in ("127.0.0.3", "127.0.0.1")]

        monkeypatch.setattr("zarr_s3_async._http.dial.socket.getaddrinfo", addresses)

        async def main():
            wire = server.wire(endpoint=server.endpoint(host="many.example"), max_connections=8)
            answers = await asyncio.gather(*[wire.send(GET) for _ in range(8)])
            await wire.aclose()
            return answers

        assert [a.body for a in run(main())] == [b"a"] * 8


def test_connections_are_spread_over_all_addresses(run, monkeypatch):
    """S3 recommends it: of eight connections to two addresses, each gets four."""
    with ScriptedServer(answering(response()), host="0.0.0.0") as server:  # both loopback addresses

        def addresses(*_, **__):
            return [(2, 1, 6, "", (address, server.port)) for address in ("127.0.0.1", "127.0.0.2")]

        monkeypatch.setattr("zarr_s3_async._http.dial.socket.getaddrinfo", addresses)

        async def main():
            wire = server.wire(endpoint=server.endpoint(host="many.example"), max_connections=8)
            await asyncio.gather(*[wire.send(GET) for _ in range(8)])
            peers = [c._transport.get_extra_info("peername")[0] for c in pooled(wire)._open]
            await wire.aclose()
            return peers

        peers = run(main())
    assert sorted(peers) == ["127.0.0.1"] * 4 + ["127.0.0.2"] * 4


def test_concurrent_connections_resolve_their_host_name_once(run, monkeypatch):
    """Cancelling one of them does not cancel the others."""
    lookups, release = [], threading.Event()
    with ScriptedServer(answering(response())) as server:

        def slow(host, port, **_):
            lookups.append(host)
            release.wait(10)
            return [(2, 1, 6, "", ("127.0.0.1", server.port))]

        monkeypatch.setattr("zarr_s3_async._http.dial.socket.getaddrinfo", slow)

        async def main():
            wire = server.wire(endpoint=server.endpoint(host="slow.example"), max_connections=8)
            tasks = [asyncio.ensure_future(wire.send(GET)) for _ in range(8)]
            while not lookups:
                await asyncio.sleep(0.001)
            tasks[0].cancel()
            await asyncio.sleep(0)
            release.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await wire.aclose()
            return results

        results = run(main())
    assert isinstance(results[0], asyncio.CancelledError)
    assert [r.status for r in results[1:]] == [200] * 7
    assert lookups == [b"slow.example"]
