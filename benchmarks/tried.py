"""Attempted improvements of rows in which a peer is faster: maintained by hand, printed with the figures of a run."""

from __future__ import annotations

_SMALL = (
    "About 90 Python calls per request, of which the kernel takes a third of the time: fewer coroutines, known header "
    "lines looked up, hash states copied (5 %). Compiling with mypyc gained nothing; uvloop is worth 5 to 12 %."
)
_HASH = (
    "SHA-256 of the payload, which plain http needs, is half of it; the first slice of 256 KiB instead of 64 and "
    "reused memory gained nothing (docs/speed.md)."
)
_TRIED: tuple[tuple[str, str], ...] = (
    ("503 above", "The limit follows what the server serves (docs/throttling.md); what is left is the small requests."),
    ("write 16 KiB", _SMALL),
    ("write 1,024 chunks", _SMALL),
    ("write 256 KiB raw", _HASH),
    ("write 4 MiB raw", _HASH),
    ("write 256 KiB zstd", "Compression is nine tenths; the rest is the small requests."),
    (
        "partial write",
        "A read, a merge and a conditional write: two requests per chunk.",
    ),
    (
        "TLS",
        "Decryption is a third. Threads that receive bodies and other buffers gained nothing (docs/speed.md).",
    ),
    ("256 KiB zstd", "Decompression is more than half, whichever library does it (docs/speed.md)."),
    ("256 KiB blosc", "Chunks are decoded on the loop, which spares a thread's turn."),
    ("shards", "One request per shard already; what is left is decoding, in whichever library."),
    ("handlers", "Reads of the same chunk share its request and its decoding where they start in one turn."),
    ("process to first chunk", "NumPy, asyncio and the interpreter are half of it (docs/speed.md)."),
    ("epoch", "An epoch reads in fills and permutes rows; the chunk-wise loop by hand has neither seeds nor state."),
    ("copy of", "Compression is nine tenths of it; all sides use the same library."),
    ("read 1,024 chunks", _SMALL),
    ("read 16 KiB", _SMALL),
    ("chunks", _SMALL),
)
"""Part of a workload's name, and attempted improvements; the first match is used."""


def tried(name: str) -> str:
    """Attempted improvements of a workload, as text of a table cell."""
    return next((text for part, text in _TRIED if part in name), "")
