"""Only `_concurrency/` starts tasks and threads: checked on syntax trees, since a linter cannot see methods."""

from __future__ import annotations

import ast
from pathlib import Path

import zarr_s3_async as zs

PACKAGE = Path(zs.__file__).parent
STARTERS = frozenset(
    {
        *("create_task", "ensure_future", "TaskGroup", "gather", "as_completed", "run_coroutine_threadsafe"),
        *("run_in_executor", "to_thread", "Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor"),
        *("start_new_thread", "create_task_group", "start_blocking_portal", "from_thread"),
    }
)
EXEMPT = {
    "cli": "an application on the public API",
    "testing": "runs in test processes, on the public API and the stores' protocol",
    "_concurrency": "the one place",
}


def starters_in(source: str) -> list[str]:
    """Names of functions that start tasks or threads, as called or imported in the source."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr=name)) if name in STARTERS:
                found.append(f"line {node.lineno}: {name}")
            case ast.ImportFrom(module="asyncio" | "threading" | "concurrent.futures", names=names):
                found += [f"line {node.lineno}: import {n.name}" for n in names if n.name in STARTERS]
    return found


def test_no_task_and_no_thread_is_started_elsewhere() -> None:
    found = {
        str(path.relative_to(PACKAGE)): starters
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in EXEMPT and (starters := starters_in(path.read_text()))
    }
    assert found == {}


def test_each_way_to_start_one_is_detected() -> None:
    source = "import asyncio\nasync def f(loop, g):\n    g.create_task(f())\n    await loop.run_in_executor(None, f)\n"
    assert starters_in(source) == ["line 3: create_task", "line 4: run_in_executor"]
    assert starters_in("from threading import Thread") == ["line 1: import Thread"]
