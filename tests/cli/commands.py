"""Commands run in this process, for the tests of what they write and print."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from zarr_s3_async.cli.app import app

DATA = np.arange(600, dtype="float32").reshape(20, 30)


def command(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"}, **options)


def done(*arguments: str) -> Any:
    result = command(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout, parse_constant=pytest.fail)
