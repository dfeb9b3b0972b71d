"""The examples as modules, and an environment in which they use the local server."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example() -> Callable[[str], ModuleType]:
    """Import an example by its name as a new module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def url(seaweed: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty prefix on the local server, which is configured in the environment."""
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{seaweed.bucket}/example-{uuid4().hex[:12]}"


@pytest.fixture
def script() -> Callable[..., list[str]]:
    """The command line that runs an example."""
    return lambda name, *arguments: [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
