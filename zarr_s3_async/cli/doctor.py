"""`zarr-s3 doctor URL`: diagnose credentials, endpoint, connection and permissions."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import Call, Url
from .terminal import NO, err, in_flags, print_line

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}


async def doctor(
    call: Call,
    url: Url,
    write: Annotated[
        bool, typer.Option("--write", help="Probe conditional writes too: writes temporary objects, and deletes them.")
    ] = False,
) -> None:
    """Show the credentials and their source, the endpoint, the clock, the server's capabilities, and all versions.

    Secrets are masked. Ends with 1 if a check fails.
    """
    import zarr_s3_async as zs

    with err.status("checking …"):
        async with call.session() as session:
            found = await zs.doctor(url, write=write, session=session)
    call.show(found.as_dict(), lambda: _show(found))
    if not found.ok:
        raise typer.Exit(NO)


def _show(found: object) -> None:
    from .._doctor import Diagnosis

    assert isinstance(found, Diagnosis)  # noqa: S101  # the result of zs.doctor
    for check in found.checks:
        print_line(f"{check.outcome:<8} {check.name}: {in_flags(check.detail)}", _STYLES[check.outcome])
        if check.advice:
            print_line(f"{'':<8} {in_flags(check.advice)}")
