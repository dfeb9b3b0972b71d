"""Find ports that are currently free."""

from __future__ import annotations

import random
import socket

TWIN = 10_000
"""SeaweedFS adds this to a port for its gRPC port; in one place it cannot be configured."""
_LOWEST, _HIGHEST = 10_240, 22_000
"""Port and gRPC port are below the range of outgoing connections (32,768 and up)."""


def free_ports(count: int) -> list[int]:
    """Distinct ports of 127.0.0.1 that are free, together with their gRPC ports (`TWIN` higher).

    Drawn at random, so that servers which start at the same time rarely collide; after a collision the caller retries.
    """
    candidates = random.sample(range(_LOWEST, _HIGHEST), _HIGHEST - _LOWEST)
    ports = []
    for port in candidates:
        # Both now: SeaweedFS derives the second one itself.
        if is_free(port) and is_free(port + TWIN):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError(f"no {count} free ports between {_LOWEST} and {_HIGHEST} on 127.0.0.1")


def is_free(port: int) -> bool:
    """True if a server can currently listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT counts as free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
