"""`await zs.doctor(url)`: checks whether and how a URL can be reached. Secrets are masked."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias, Unpack

from ._options import check_flag, check_instance
from ._session import Session, SessionOptions
from .errors import ConfigError, ZarrS3Error
from .stores.s3 import S3Store
from .stores.s3.diagnosis import diagnose

Outcome: TypeAlias = Literal["ok", "warning", "failed", "skipped"]
_PACKAGES = ("zarr-s3-async", "aiobotocore", "botocore", "aiohttp", "anyio", "numcodecs", "numpy", "zstandard")
_SIGNS = {"ok": "ok      ", "warning": "warning ", "failed": "FAILED  ", "skipped": "skipped "}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of `doctor` and its outcome."""

    name: str
    """`versions`, `credentials`, `endpoint`, `connection`, `clock`, `bucket`, `conditional writes` or `node`."""
    outcome: Outcome
    detail: str
    """The result. Keys are masked."""
    advice: str = ""
    """What to do if the outcome is not `ok`."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of `await zs.doctor(url)`; `print` shows it as text."""

    url: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """True if no check failed; warnings are not failures."""
        return all(check.outcome != "failed" for check in self.checks)

    def as_dict(self) -> dict[str, object]:
        """As a dict that `json.dumps` accepts."""
        return {"url": self.url, "ok": self.ok, "checks": [asdict(check) for check in self.checks]}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for check in self.checks:
            yield f"{_SIGNS[check.outcome]} {check.name}: {check.detail}"
            if check.advice:
                yield f"{' ' * 9} {check.advice}"


async def doctor(
    url: str, *, write: bool = False, session: Session | None = None, **options: Unpack[SessionOptions]
) -> Diagnosis:
    """Check whether a URL can be reached, with which credentials and endpoint, the server's clock and its capabilities.

    Args:
        url: The URL of a store or a node.
        write: Also test conditional writes, which puts temporary objects below the URL and removes them.
        session: The session to use; None: a separate one, with `options`.
        options: Options of `Session`.

    Returns:
        The checks in order. Failures are reported in it, not raised.

    Raises:
        ConfigError: The URL or an option is invalid.
    """
    check_flag("write", write)
    if session is not None:
        check_instance("session", session, Session, "zs.Session()")
    if session is not None and options:
        raise ConfigError("give either session= or options of a session, not both")
    async with AsyncExitStack() as stack:
        if session is None:
            session = await stack.enter_async_context(Session(**options))
        store = session.store(url)
        checks = [_versions()]
        if isinstance(store, S3Store):
            checks += [Check(**found._asdict()) async for found in diagnose(store, write=write)]
        # Otherwise opening fails for the same reason, after all its attempts.
        if all(check.outcome != "failed" for check in checks):
            checks.append(await _node(session, url))
        return Diagnosis(url, tuple(checks))


async def _node(session: Session, url: str) -> Check:
    try:
        node = await session.open(url)
    except ZarrS3Error as error:
        text = f"{' '.join(str(error).split())} ({type(error).__name__})"
        # A warning: the store can be reached, and a node may be created there.
        return Check(name="node", outcome="warning", detail=text)
    return Check(name="node", outcome="ok", detail=" ".join(repr(node).split()))


def _versions() -> Check:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check(name="versions", outcome="ok", detail=", ".join([python, *found]))
