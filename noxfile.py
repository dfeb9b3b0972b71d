"""The single entry to every check: `nox -l` lists the sessions. CI calls `tests` and `lint`, nothing else."""

import os
import sys

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False

NEWEST = "3.13"


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, mypy strict and the import directions."""
    session.install(
        "ruff>=0.9", "mypy>=1.14", "import-linter>=2.1", "-e", ".[cli,demo,fastapi,interop]", "hypothesis>=6.115"
    )
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """What mypy and pyright find in a user's program, and how much of the public interface has types."""
    session.install("mypy>=1.14", "pyright>=1.1.390", "-e", ".[test]")
    session.run("pytest", "-n", "0", "tests/types", *session.posargs)
    session.run("pyright", "--verifytypes", "zarr_s3_async", "--ignoreexternal", success_codes=[0, 1])


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


@nox.session(python=["3.11", "3.12", "3.13"])
def matrix(session: nox.Session) -> None:
    """The whole suite on every Python that is installed."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


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


# zarr-python 3.4 and some of the peers need 3.12.
@nox.session(python=None if sys.version_info >= (3, 12) else NEWEST)
def bench(session: nox.Session) -> None:
    """This library beside its peers: `-- --quick` in three minutes, without it 25; `-- --list` tells the rows."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *session.posargs)


# zarr-python 3.4 needs 3.12.
@nox.session(python=None if sys.version_info >= (3, 12) else NEWEST)
def interop(session: nox.Session) -> None:
    """The tests that zarr-python and xarray ship, over our stores and over theirs; writes docs/peers.md."""
    session.install("-e", ".[test]", "zarr>=3.4", "dask", "distributed")
    session.run("python", "-m", "tests.interop", *session.posargs)


@nox.session
def profile(session: nox.Session) -> None:
    """The microseconds of one chunk's read, room by room."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks.profile_chunk", *session.posargs)
