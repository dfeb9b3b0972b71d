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
"""The targets for `python -m tests.fuzz`; `nox -s fuzz` runs all of them."""


def seeds_of(name: str) -> dict[str, bytes]:
    """The corpus of a target by file name: seeds of `make_corpus.py`, and inputs that once broke a promise."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}
