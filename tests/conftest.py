"""Fixtures of all tests: S3 servers, one of each kind per worker, and separate buckets."""

import os
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

import zarr_s3_async as zs
from zarr_s3_async.testing.local_s3 import LocalS3, MotoS3

# Examples are limited by number, not by time, since machines differ. HYPOTHESIS_PROFILE=long runs more of them.
_quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("default", max_examples=50, **_quiet)
settings.register_profile("long", max_examples=2000, **_quiet)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_MOST_WORKERS = 4  # each worker starts its own servers
_FEW_FILES = 10  # so few files are done before workers have started


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """One worker per core for the suite and its big folders, none for a file or a small folder.

    `-n 3` sets another number, `-n 0` none; so does PYTEST_XDIST_AUTO_NUM_WORKERS.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    folders = [config.invocation_params.dir / argument for argument in config.args]
    files = sum(
        1 for folder in folders for _ in folder.rglob("test_*.py")
    )  # arguments that are not folders are not counted
    if config.option.keyword or files <= _FEW_FILES:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_WORKERS) if cores > 1 else 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check the names of tests: workers find tests by name, so names must be equal in each process."""
    unstable = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unstable:
        raise pytest.UsageError(f"give the parameters ids; an address differs in every process: {unstable[0]}")


@pytest.fixture(autouse=True, scope="session")
def _no_credentials_of_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the user's AWS settings or queries a metadata service."""
    nothing = tmp_path_factory.mktemp("aws") / "none"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", str(nothing))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nothing))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


@pytest.fixture
def interrupts_raise() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt even if a shell has started the suite in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
async def session() -> AsyncIterator[zs.Session]:
    """A session with the default options; modules and folders that need others have a fixture of this name."""
    async with zs.Session() as opened:
        yield opened


@pytest.fixture(scope="session")
def seaweed() -> Iterator[LocalS3]:
    """A real S3 server, or moto's if the wheel is missing; `seaweed.kind` is its name."""
    with LocalS3() as server:
        yield server


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[MotoS3]:
    """moto's server in a separate process."""
    with MotoS3() as server:
        yield server


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """`bucket()` creates a bucket on SeaweedFS, `bucket(server)` on that server; they are deleted after the test.

    SeaweedFS takes 0.2 s for the first object of a bucket. If an own prefix is enough, use `s3_url`.
    """
    made: list[tuple[LocalS3 | MotoS3, str]] = []

    def make(server: LocalS3 | MotoS3 | None = None) -> str:
        where = server or request.getfixturevalue("seaweed")
        name = f"test-{secrets.token_hex(6)}"
        where.create_bucket(name)
        made.append((where, name))
        return name

    yield make
    for server, name in made:
        if server.kind == "seaweedfs":  # the other servers delete only empty buckets, and end with the run anyway
            server.delete_bucket(name)


@pytest.fixture
def s3_url(seaweed: LocalS3) -> str:
    """A prefix for this test only, in the bucket of the run's S3 server."""
    return f"s3://{seaweed.bucket}/{secrets.token_hex(6)}"
