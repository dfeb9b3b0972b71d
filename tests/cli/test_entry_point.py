"""`zarr_s3_async.cli:main` without its extra, and its help."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import zarr_s3_async.cli
from zarr_s3_async.cli.app import app

COMMANDS = [command.name for command in app.registered_commands]


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_a_missing_extra_is_reported_in_one_line(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("zarr_s3_async.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as ended:
        zarr_s3_async.cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"zarr-s3: {missing} is not installed: pip install 'zarr-s3-async[cli]'\n"


def test_a_demo_without_matplotlib_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 2
    assert result.stderr == "zarr-s3: matplotlib is not installed: pip install 'zarr-s3-async[demo]'\n"


def test_a_picture_in_a_missing_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--picture", str(tmp_path / "no" / "picture.png")])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
    assert result.stdout == ""


def test_importing_the_cli_package_imports_no_extra() -> None:
    import subprocess

    extras = "('typer', 'rich', 'matplotlib')"
    code = f"import sys, zarr_s3_async.cli; print([name for name in {extras} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert command in result.stdout


def test_ctrl_c_during_the_import_of_commands_is_reported_as_later(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "zarr_s3_async.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "zarr_s3_async.cli.app")
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        zarr_s3_async.cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "zarr-s3: interrupted\n"
