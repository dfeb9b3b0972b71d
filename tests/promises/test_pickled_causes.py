"""Errors pickle with their causes, as in dask's workers, and the pickles contain no secrets."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# In a separate process: tblib changes how all exceptions of a process are pickled.
RUN = """
import sys
import aiohttp, botocore.exceptions, pytest
import zarr_s3_async as zs
import zarr_s3_async._http.errors, zarr_s3_async.stores.s3.service, zarr_s3_async.stores.s3.sdk.session
from copyreg import dispatch_table
from tblib import pickling_support
pickling_support.install()
assert zs.NetworkError in dispatch_table
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tblib") is None, reason="tblib, which dask.distributed depends on, is not installed")
def test_errors_pickle_with_their_causes_and_without_secrets() -> None:
    arguments = ["-q", "-n", "0", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    run = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "tests/promises/test_secrets.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]
