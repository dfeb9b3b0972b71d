"""`zarr-s3 verify URL`: check stored objects against their metadata. The exit status is the result."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from .._verify import VerifyProgress, VerifyReport
from . import units
from .options import Call, Url
from .terminal import NO, err, out, print_line

_STYLES = {
    "metadata": "red",
    "corrupt": "red",
    "unreadable": "red",
    "missing": "yellow",
    "extra": "yellow",
    "foreign": "yellow",
    "leftover": "dim",
}


async def verify(
    call: Call,
    url: Url,
    strict: Annotated[bool, typer.Option("--strict", help="Count chunks that are not stored as findings.")] = False,
    max_findings: Annotated[
        int, typer.Option(metavar="N", help="Findings of each kind to list per node; all are counted.", min=0)
    ] = 1000,
) -> None:
    """Read every object of an array or a group, decode it, and compare it with its metadata.

    Exit status: 0 if there are no findings, 1 if there are some, 2 if it could not verify.
    """
    ticker = Ticker()
    async with call.session(checksums="on") as session:
        with err.status(ticker):
            report = await session.verify(url, strict=strict, max_findings=max_findings, progress=ticker)
    if call.as_json:
        out.out(report.to_json(), highlight=False)
    else:
        _print(report)
    if not report.ok:
        raise typer.Exit(NO)


class Ticker:
    """The progress in one line, which rich renders at each refresh."""

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
        print_line(line, _STYLES.get(kind, ""))
    print_line(verdict, "bold green" if report.ok else "bold red")
