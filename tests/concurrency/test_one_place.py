"""Only `_concurrency/` starts tasks and threads: checked on syntax trees, since a linter cannot see methods."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import zarr_s3_async as zs

PACKAGE = Path(zs.__file__).parent
STARTERS = frozenset(
    {
        *("create_task", "ensure_future", "TaskGroup", "gather", "as_completed", "run_coroutine_threadsafe"),
        *("run_in_executor", "to_thread", "Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor"),
        *("start_new_thread", "create_task_group", "start_blocking_portal", "from_thread", "to_process"),
        *("Runner", "Process", "eager_task_factory"),
    }
)
LIBRARIES = frozenset({"asyncio", "threading", "_thread", "concurrent", "multiprocessing", "anyio"})
EXEMPT = {
    "cli": "an application on the public API",
    "testing": "runs in test processes, on the public API and the stores' protocol",
    "_concurrency": "the one place",
}


def starters_in(source: str) -> list[str]:
    """Names of functions that start tasks or threads: called, passed on (`partial(loop.create_task, …)`), imported."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(attr=name) if name in STARTERS:
                found.append(f"line {node.lineno}: {name}")
            case ast.Attribute(value=ast.Name(id="asyncio"), attr="Task" | "run" as name):
                found.append(f"line {node.lineno}: {name}")
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] in LIBRARIES:
                found += [f"line {node.lineno}: import {n.name}" for n in names if n.name in STARTERS]
    return found


def test_no_other_module_starts_a_task_or_a_thread() -> None:
    found = {
        str(path.relative_to(PACKAGE)): starters
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in EXEMPT and (starters := starters_in(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("g.create_task(f())", "create_task"),
        ("start = partial(loop.create_task, f())", "create_task"),
        ("loop.run_in_executor(None, f)", "run_in_executor"),
        ("asyncio.run(f())", "run"),
        ("asyncio.Task(f())", "Task"),
        ("from threading import Thread", "import Thread"),
        ("from concurrent.futures.thread import ThreadPoolExecutor as Pool", "import ThreadPoolExecutor"),
        ("from anyio import create_task_group", "import create_task_group"),
        ("anyio.to_thread.run_sync(f)", "to_thread"),
    ],
)
def test_every_way_to_start_a_task_or_thread_is_detected(line: str, found: str) -> None:
    assert starters_in(line) == [f"line 1: {found}"]


def test_other_methods_with_these_names_are_allowed() -> None:
    assert starters_in("self.run(work)\ntask: Task[None]\nfrom asyncio import sleep") == []
