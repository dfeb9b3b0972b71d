"""botocore's data files, parsed once per run of the tests: a client of the SDK takes a tenth of the time then."""

from __future__ import annotations

from functools import cache

import pytest


@cache
def _loader() -> object:
    from botocore.loaders import create_loader

    return create_loader()


def keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sessions of this test share them."""
    shared = _loader()
    monkeypatch.setattr("botocore.session.create_loader", lambda *_: shared)
