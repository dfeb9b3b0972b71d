"""`zarr-s3 verify URL`: is what is stored what its metadata says? The exit status tells, and the report says more."""

from __future__ import annotations

from rich.text import Text
from typer import Exit

from .._session import Session
from .._verify import VerifyProgress, VerifyReport
from . import units
from .terminal import err, out, say_line

FINDINGS = 1
COULD_NOT = 2

_STYLES = {
    "metadata": "red",
    "corrupt": "red",
    "unreadable": "red",
    "missing": "yellow",
    "extra": "yellow",
    "foreign": "yellow",
    "leftover": "dim",
}


async def verify(session: Session, url: str, *, strict: bool, max_findings: int, as_json: bool) -> None:
    """Verify, print the report, and end with the status that it means."""
    ticker = Ticker()
    async with session:
        with err.status(ticker):
            report = await session.verify(url, strict=strict, max_findings=max_findings, progress=ticker)
    if as_json:
        out.out(report.to_json(), highlight=False)
    else:
        _print(report)
    if not report.ok:
        raise Exit(FINDINGS)


class Ticker:
    """How far it has come, in one line; rich asks for it as often as it redraws."""

    def __init__(self) -> None:
        self._progress = VerifyProgress(listed=0, objects=0, nbytes=0, findings=0)

    def __call__(self, progress: VerifyProgress) -> None:
        """See `Session.verify`."""
        self._progress = progress

    def __rich__(self) -> Text:
        now = self._progress
        read = f"{units.count(now.objects, 'object')}, {units.size(now.nbytes)} read"
        return Text(f"verifying: {read}, {now.listed:,} listed, {units.count(now.findings, 'finding')} …")


def _print(report: VerifyReport) -> None:
    *lines, verdict = str(report).splitlines()
    for line in lines:
        kind = line.split(maxsplit=1)[0] if line.startswith("  ") else ""
        say_line(line, _STYLES.get(kind, ""))
    say_line(verdict, "bold green" if report.ok else "bold red")
