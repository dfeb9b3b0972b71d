"""One server process under a guard process: start it, check that it is alive, stop it reliably."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_GUARD = Path(__file__).with_name("_guard.py")
_LOG_TAIL = 2000


class ServerProcess:
    """A server process. All methods block; the caller chooses the thread.

    Args:
        command: The command to run.
        folder: Working directory; the output of the server is written to `server.log` in it.
        environment: The complete environment of the process.
        grace: Seconds between SIGTERM and SIGKILL; 0 kills the server at once, if its data is not kept.
        leaves: Files outside the folder to remove when the server has ended.
        is_temporary: Remove the folder when the server was stopped or this process has ended.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        folder: Path,
        environment: Mapping[str, str],
        grace: float,
        leaves: Sequence[Path] = (),
        is_temporary: bool = False,
    ) -> None:
        self.log_path = folder / "server.log"
        self._grace = grace
        plan = {
            "command": list(command),
            "grace": grace,
            "leaves": [str(path) for path in leaves],
            "folder": str(folder) if is_temporary else None,
        }
        with self.log_path.open("wb") as log:
            # A new session: Ctrl-C in a terminal must reach this process, not the server.
            self._process = subprocess.Popen(  # noqa: S603  # our own guard
                # `-I -S`: the guard needs no packages, and starts in a few milliseconds without them.
                [sys.executable, "-I", "-S", str(_GUARD), json.dumps(plan)],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the guard; the server is in the same process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True while the server runs."""
        return self._process.poll() is None

    def log(self) -> str:
        """The last part of the server's output."""
        try:
            text = self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return text[-_LOG_TAIL:].strip()

    def stop(self) -> None:
        """Stop the server and wait until it has ended. Idempotent."""
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        with suppress(BrokenPipeError):
            # The guard reads from this pipe: its end means stop, also when this process dies without calling `stop`.
            self._process.stdin.close()
        try:
            self._process.wait(self._grace + 10)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                # The whole group, since the guard cannot end the server any more.
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
