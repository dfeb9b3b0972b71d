"""Nothing here is collected unless `python -m tests.interop` asks for it."""

from __future__ import annotations

import os

INTEROP = "ZARR_S3_INTEROP"

if INTEROP not in os.environ:
    collect_ignore_glob = ["suite_*.py"]
