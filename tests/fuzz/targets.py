"""The targets by name, each a context manager around a function of bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from . import answers, arguments, chunks, documents, errors, sdk_answers, shards
from .oracles import Run

CORPUS = Path(__file__).parent / "corpus"
TARGETS: dict[str, Callable[[], AbstractContextManager[Run]]] = {
    "answers": answers.target,
    "arguments": arguments.target,
    "chunks": chunks.target,
    "documents": documents.target,
    "errors": errors.target,
    "sdk_answers": sdk_answers.target,
    "shards": shards.target,
}
"""What `python -m tests.fuzz` takes, and `nox -s fuzz` runs."""


def seeds_of(name: str) -> dict[str, bytes]:
    """The kept inputs of a target by file name: made by `make_corpus.py`, and found to break a promise once."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}
