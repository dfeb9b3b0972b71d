"""Establish connections: look up the host, connect over TCP, do the TLS handshake."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from .._concurrency.blocking import SharedCall
from ..errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from .connection import Connection

_ADDRESS_SECONDS = 5.0
"""How long the addresses of a name are used: S3 gives others at every lookup, to spread its load."""
_TRIES = 4
"""Addresses that one connection tries before it gives up."""


def tls_context(ca_bundle: str | None = None) -> ssl.SSLContext:
    """Trust in the system's authorities, or in those of a PEM file or folder alone. Blocking: reads files."""
    import ssl

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
    # From Python 3.13 on the default also asks of private authorities what many lack, such as a keyUsage extension;
    # the SDK does not, nor does the default of older Pythons.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    return context


class Dialer:
    """Connects to one host, over its addresses in turn."""

    __slots__ = ("_addresses", "_tls", "_turn", "host", "port", "seconds")

    def __init__(self, host: str, port: int, *, seconds: float, tls: Callable[[], ssl.SSLContext] | None) -> None:
        """
        Args:
            host: Name or address.
            port: TCP port.
            seconds: Time that one `dial` is given, which its addresses share.
            tls: Makes the context, in a thread; None speaks plain HTTP.
        """
        self.host = host
        self.port = port
        self.seconds = seconds
        self._tls = None if tls is None else SharedCall(tls)
        self._addresses = SharedCall(self._look_up)
        self._turn = 0

    def _look_up(self) -> list[str]:
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # of the codec for names of other scripts, such as one with an empty label
            raise OSError(f"{self.host!r} is no name of a host: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if not addresses:
            raise OSError(f"no address is known of {self.host!r}")
        random.shuffle(addresses)
        return addresses

    async def dial(self, make: Callable[[], Connection]) -> Connection:
        """A new connection, its TLS handshake done.

        Raises:
            OSError: No address took the connection; the last failure. TimeoutError: none did in time.
            ConfigError: The CA bundle cannot be used.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self.seconds
        tls = None if self._tls is None else await self._tls.get()
        addresses = self._in_turn(await self._addresses.get(_ADDRESS_SECONDS))
        while True:
            address, *others = addresses
            try:
                async with asyncio.timeout((end - loop.time()) / len(addresses)):
                    return await self._connect(address, make, tls)
            except OSError:
                if not others:
                    raise
                addresses = others

    def _in_turn(self, addresses: list[str]) -> list[str]:
        first = self._turn % len(addresses)
        self._turn += 1
        return (addresses[first:] + addresses[:first])[:_TRIES]

    async def _connect(self, address: str, make: Callable[[], Connection], tls: ssl.SSLContext | None) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            make, address, self.port, ssl=tls, server_hostname=None if tls is None else self.host
        )
        return connection
