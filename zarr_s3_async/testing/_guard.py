"""Run one server and stop it when standard input ends, so that it never outlives its parent process.

Runs as a script in a separate interpreter (`python -I -S _guard.py PLAN`), so it imports only the standard library.
PLAN is JSON: `command`; `grace`, seconds between SIGTERM and SIGKILL; `leaves`, files to remove after the server has
ended; `folder`, a folder to remove if standard input has ended, or null.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path


def main(plan: str) -> int:
    """Run the plan and return the server's exit status."""
    settings = json.loads(plan)
    server = subprocess.Popen(settings["command"], stdin=subprocess.DEVNULL)  # noqa: S603  # the command comes from the parent process
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    input_ended = threading.Event()
    threading.Thread(target=_end_with_input, args=(server, settings["grace"], input_ended), daemon=True).start()
    code = server.wait()
    for name in settings["leaves"]:
        Path(name).unlink(missing_ok=True)
    if settings["folder"] and input_ended.is_set():
        shutil.rmtree(settings["folder"], ignore_errors=True)
    return code if code >= 0 else 128 - code  # the convention of shells


def _end_with_input(server: subprocess.Popen[bytes], grace: float, input_ended: threading.Event) -> None:
    while os.read(0, 1):  # not sys.stdin: this thread would hold its lock at exit, which crashes the interpreter
        pass
    input_ended.set()
    if grace:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(grace)
    server.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
