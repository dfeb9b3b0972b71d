"""Establish connections: resolve the host name, connect over TCP, perform the TLS handshake."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from .._concurrency.blocking import SharedCall
from ..errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from .connection import Connection

_ADDRESS_SECONDS = 5.0
"""Seconds that resolved addresses are reused; short, since S3 rotates its addresses to spread load."""
_TRIES = 4
"""Maximum number of addresses that one connection tries."""


def tls_context(ca_bundle: str | None = None) -> ssl.SSLContext:
    """A TLS context that trusts the system's authorities, or only those of a PEM file or folder. Blocking."""
    import ssl
    from pathlib import Path

    if ca_bundle is None:
        context = ssl.create_default_context()
    else:
        folder = Path(ca_bundle).is_dir()
        try:
            context = ssl.create_default_context(
                cafile=None if folder else ca_bundle, capath=ca_bundle if folder else None
            )
        except OSError as error:
            raise ConfigError(f"the CA bundle {ca_bundle!r} cannot be used: {error}") from error
    # Since Python 3.13 the default is strict: it rejects certificates of many private authorities, for lack of a
    # keyUsage extension for example. Older Pythons and the SDK accept them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Connects to one host and rotates over its addresses."""

    __slots__ = ("_addresses", "_tls", "_turn", "host", "port", "seconds")

    def __init__(self, host: str, port: int, *, seconds: float, tls: Callable[[], ssl.SSLContext] | None) -> None:
        """
        Args:
            host: Name or address.
            port: TCP port.
            seconds: Timeout of one `dial`, over all addresses that it tries.
            tls: Makes the TLS context, in a thread; None for plain HTTP.
        """
        self.host = host
        self.port = port
        self.seconds = seconds
        self._tls = None if tls is None else SharedCall(tls)
        self._addresses = SharedCall(self._look_up)
        self._turn = 0

    def _look_up(self) -> list[str]:
        try:
            # As bytes, a plain name needs no codec of IDNA, whose import takes 1 ms.
            host = self.host.encode("ascii") if self.host.isascii() else self.host
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # raised by the IDNA codec, for an empty label for example
            raise OSError(f"{self.host!r} is not a host name: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not addresses:
            raise OSError(f"{self.host!r} has no address")
        if len(addresses) > 1:
            from random import shuffle

            # Resolvers often return the same order: without shuffling, all processes would start with the same server.
            shuffle(addresses)
        return addresses

    async def dial(self, make: Callable[[], Connection]) -> Connection:
        """Establish a new connection, TLS handshake included.

        Raises:
            OSError: No address accepted the connection; the last failure. TimeoutError: none did in time.
            ConfigError: The CA bundle cannot be used.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        tls = None if self._tls is None else await self._tls.get()
        addresses = self._in_turn(await self._addresses.get(_ADDRESS_SECONDS))
        while True:
            address, *others = addresses
            try:
                # An equal share of the remaining time for each address, so that one that drops packets cannot use all
                # of it.
                async with asyncio.timeout((end - loop.time()) / len(addresses)):
                    return await self._connect(address, make, tls)
            except OSError:
                if not others:
                    raise
                addresses = others

    def _in_turn(self, addresses: list[str]) -> list[str]:
        # Each connection starts with the next address, so that a pool spreads over all servers of an endpoint.
        first = self._turn % len(addresses)
        self._turn += 1
        return (addresses[first:] + addresses[:first])[:_TRIES]

    async def _connect(self, address: str, make: Callable[[], Connection], tls: ssl.SSLContext | None) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            make, address, self.port, ssl=tls, server_hostname=None if tls is None else self.host
        )
        return connection
