"""Ports that are free just now."""

from __future__ import annotations

import random
import socket

TWIN = 10_000
"""What SeaweedFS adds to a port for its gRPC twin, and in one place cannot be told otherwise."""
_LOWEST, _HIGHEST = 10_240, 22_000
"""Such that port and twin lie below the range that systems give to outgoing connections (32,768 and up)."""


def free_ports(count: int) -> list[int]:
    """Distinct ports that can be listened on at 127.0.0.1, and whose twins can.

    Drawn at random, so that several servers that start at once rarely meet; the one that loses tries again.
    """
    candidates = random.sample(range(_LOWEST, _HIGHEST), _HIGHEST - _LOWEST)
    ports = []
    for port in candidates:
        if is_free(port) and is_free(port + TWIN):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise OSError(f"no {count} free ports between {_LOWEST} and {_HIGHEST} on 127.0.0.1")


def is_free(port: int) -> bool:
    """Whether it can be listened on at 127.0.0.1 just now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT can be listened on
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
