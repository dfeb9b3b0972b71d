"""The single entry to every check: `nox -l` lists the sessions. CI calls `tests` and `lint`, nothing else."""

import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

NEWEST = "3.13"
_LINTERS = ("ruff>=0.9", "mypy>=1.14", "import-linter>=2.1", "cryptography>=42", "hypothesis>=6.115")
_TYPED_EXTRAS = "cli,dask,demo,fastapi,interop,otel,prometheus,view"
"""What mypy reads beside the package."""


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy strict and the import directions."""
    session.install(*_LINTERS, "-e", f".[{_TYPED_EXTRAS}]")
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """What mypy and pyright find in a user's program, and that every public name has a type."""
    session.install("mypy>=1.14", "pyright>=1.1.390", "-e", ".[test]")
    session.run("pytest", "-n", "0", "tests/types", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite, on the Python that runs nox."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def torch(session: nox.Session) -> None:
    """What needs PyTorch, whose wheels weigh gigabytes: its adapter and the training example."""
    session.install("-e", ".[test,torch]")
    needing = ("tests/adapters/test_torch.py", "tests/docs/test_loader_page.py", "tests/examples/test_training.py")
    session.run("pytest", *needing, *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """The viewer's page in a headless Chromium; `-- --screenshots` makes the pictures of docs/view.md again."""
    session.install("-e", ".[test]", "selenium>=4.20")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        session.run("apt-get", "install", "-y", "chromium", "chromium-driver", external=True)
    if "--screenshots" in session.posargs:
        session.run("python", "-m", "tests.viewer.screenshots")
    else:
        session.run("pytest", "-n", "0", "tests/viewer/test_page.py", *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"])
def matrix(session: nox.Session) -> None:
    """The whole suite on every Python that is installed."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def lowest(session: nox.Session) -> None:
    """The suite without slow tests and the lowest version that each range admits, on every Python that is installed."""
    session.install("uv")
    # Wheels only: what a new Python came after has no wheel for it, and its sources often do not build there.
    lowest_wheels = ("--resolution", "lowest-direct", "--only-binary", ":all:")
    session.run("uv", "pip", "install", *lowest_wheels, "-r", "pyproject.toml", "--extra", "test")
    session.run("uv", "pip", "install", "--no-deps", "-e", ".")
    session.run("pytest", "-m", "not slow", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """The suite with branch coverage."""
    session.install("-e", ".[test]")
    session.run("coverage", "run", "-m", "pytest", "-n", "0", *session.posargs)
    session.run("coverage", "report", "--show-missing", "--skip-covered")


@nox.session
def stall(session: nox.Session) -> None:
    """Prints the import time and the longest stall of the loop while a session opens."""
    session.install("-e", ".")
    session.run(
        "python",
        "benchmarks/stall.py",
        *session.posargs,
        env={"PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "0")},
    )


@nox.session(python="3.11")  # atheris follows new Pythons late
def fuzz(session: nox.Session) -> None:
    """Fuzzers guided by coverage: `-- TARGET --seconds 600`; without a target all of them for a minute each."""
    session.install("-e", ".[test]", "atheris>=2.3")
    asked = [session.posargs] if session.posargs else [[name] for name in _FUZZED]
    for arguments in asked:
        session.run("python", "-m", "tests.fuzz", *arguments)


_FUZZED = ("answers", "arguments", "chunks", "documents", "errors", "sdk_answers", "shards")


@nox.session
def memory(session: nox.Session) -> None:
    """Memory of streams, write streams and a crosswise rechunking of 4 GiB; takes a minute and 12 GiB of disk."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "0", "-s", "--timeout", "0", "tests/streams/test_memory.py", env={"STREAM_MIB": "4096"})


@nox.session
def artefact(session: nox.Session) -> None:
    """The wheel and the sdist: built, or those in the named folder; installed into empty environments and tried."""
    # Not a folder of nox's own: ruff passes over whatever lies below `.nox`.
    dist = Path(session.posargs[0] if session.posargs else tempfile.mkdtemp(prefix="artefact-")).absolute()
    if not session.posargs:
        session.install("build")
        session.run("python", "-m", "build", "--outdir", str(dist))
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    session.install("twine")
    session.run("twine", "check", "--strict", str(wheel), str(sdist))

    session.run("python", "-m", "venv", "--clear", str(dist / "bare"))
    bare = str(dist / "bare" / "bin" / "python")
    session.run(bare, "-m", "pip", "install", "--quiet", str(wheel), external=True)
    session.cd(dist)  # away from the sources
    session.run(
        bare, "-W", "error", "-c", "import zarr_s3_async as zs; print(zs.__version__, zs.__file__)", external=True
    )
    session.run(bare, "-m", "pip", "install", "--quiet", f"{wheel}[demo]", external=True)
    session.run(bare, "-c", _NEITHER_MOTO_NOR_FLASK, external=True)
    session.run(str(dist / "bare" / "bin" / "zarr-s3"), "demo", "--size", "8", external=True)

    with tarfile.open(sdist) as archive:
        archive.extractall(dist, filter="data")
    session.cd(dist / sdist.name.removesuffix(".tar.gz"))
    session.install(*_LINTERS, f".[{_TYPED_EXTRAS}]")
    for command in (("ruff", "format", "--check", "."), ("ruff", "check", "."), ("mypy",), ("lint-imports",)):
        session.run(*command)


_NEITHER_MOTO_NOR_FLASK = """if True:
    import importlib.util, sys
    brought = [name for name in ("moto", "flask") if importlib.util.find_spec(name)]
    sys.exit(f"the demo brings {brought}" if brought and sys.platform in ("linux", "darwin") else 0)
"""


@nox.session
def docs(session: nox.Session) -> None:
    """The site, into build/site: warnings are errors, and every link within it leads somewhere."""
    session.install("-e", ".[docs]")
    session.run("python", "docs/site.py", *session.posargs)


# zarr-python 3.4 and some of the peers need 3.12.
@nox.session(python=None if sys.version_info >= (3, 12) else NEWEST)
def bench(session: nox.Session) -> None:
    """This library beside its peers: `-- --quick` in three minutes, without it under 30; `-- --list` tells the rows."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)


# zarr-python 3.4 needs 3.12.
@nox.session(python=None if sys.version_info >= (3, 12) else NEWEST)
def interop(session: nox.Session) -> None:
    """The tests that zarr-python and xarray ship, over our stores and over theirs; writes docs/peers.md."""
    session.install("-e", ".[test]", "zarr>=3.4", "dask", "distributed")
    session.run("python", "-m", "tests.interop", *session.posargs)


# Its extra, `bench`, needs 3.12.
@nox.session(python=None if sys.version_info >= (3, 12) else NEWEST)
def profile(session: nox.Session) -> None:
    """The microseconds of one chunk's read, room by room."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks.profile_chunk", *session.posargs)
