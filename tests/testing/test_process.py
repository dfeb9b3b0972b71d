"""ServerProcess and its guard: the server ends and its files are removed, whichever process ends first."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zarr_s3_async.testing._process import ServerProcess

from .processes import dies

_IGNORES_TERM = "trap '' TERM; echo up; while :; do sleep 0.05; done"
_ENDS_ON_TERM = "trap 'echo bye > left; exit 0' TERM; echo up; while :; do sleep 0.05; done"


def _start(folder: Path, shell: str, **options) -> ServerProcess:
    process = ServerProcess(
        ["sh", "-c", f"echo $$ > pid; {shell}"],
        folder=folder,
        environment={"PATH": os.environ["PATH"]},
        **{"grace": 0.0, **options},
    )
    while process.alive and not process.log():
        time.sleep(0.01)
    return process


def _server_pid(folder: Path) -> int:
    return int((folder / "pid").read_text())


def test_the_output_of_the_server_is_logged(tmp_path):
    process = _start(tmp_path, "echo out; echo err >&2; sleep 600")
    while "err" not in process.log():
        time.sleep(0.01)
    assert process.alive
    assert "out" in process.log()
    process.stop()


def test_stop_ends_the_server_and_may_be_repeated(tmp_path):
    process = _start(tmp_path, _IGNORES_TERM)
    pid = _server_pid(tmp_path)
    process.stop()
    assert not process.alive
    assert dies(pid)
    process.stop()


def test_with_a_grace_period_the_server_is_terminated_before_it_is_killed(tmp_path):
    process = _start(tmp_path, _ENDS_ON_TERM, grace=10.0)
    process.stop()
    assert (tmp_path / "left").read_text() == "bye\n"


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace_period(tmp_path):
    process = _start(tmp_path, _IGNORES_TERM, grace=0.1)
    pid = _server_pid(tmp_path)
    process.stop()
    assert dies(pid)


def test_a_server_that_ends_by_itself_is_detected_and_its_log_is_kept(tmp_path):
    process = _start(tmp_path, "echo no such flag; exit 3", is_temporary=True)
    while process.alive:
        time.sleep(0.01)
    assert process.log() == "no such flag"
    process.stop()


def test_stopping_removes_a_temporary_folder_and_files_elsewhere(tmp_path):
    folder, socket = tmp_path / "folder", tmp_path / "socket"
    folder.mkdir()
    socket.touch()
    _start(folder, _IGNORES_TERM, leaves=[socket], is_temporary=True).stop()
    assert list(tmp_path.iterdir()) == []


def test_stopping_keeps_a_folder_that_is_not_temporary(tmp_path):
    _start(tmp_path, _IGNORES_TERM).stop()
    assert (tmp_path / "server.log").exists()


_PARENT = """
import sys, time
from pathlib import Path
from tests.testing.test_process import _start, _server_pid, _IGNORES_TERM
folder = Path(sys.argv[1])
process = _start(folder, _IGNORES_TERM, is_temporary=True)
print(process.pid, _server_pid(folder), flush=True)
time.sleep(600) if sys.argv[2] != "exit" else None
"""


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, "exit"])
def test_a_parent_that_ends_leaves_no_server_running(tmp_path, ending):
    folder = tmp_path / "folder"
    folder.mkdir()
    command = [sys.executable, "-W", "ignore", "-c", _PARENT, str(folder), str(ending)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert parent.stdout is not None
    guard, server = map(int, parent.stdout.readline().split())
    if ending != "exit":
        parent.send_signal(ending)
    parent.communicate()
    assert dies(guard)
    assert dies(server)
    assert not folder.exists()
