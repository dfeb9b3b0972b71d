"""The options that say how to reach a store, shared by every command that takes a URL."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from .._session import Session

Url: TypeAlias = Annotated[str, typer.Argument(metavar="URL", help="s3://bucket/prefix or file:///folder")]
Endpoint: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url",
        metavar="URL",
        help="Address of an S3-compatible server. Default: AWS_ENDPOINT_URL, then AWS.",
    ),
]
Profile: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Profile of the AWS configuration files. Default: AWS_PROFILE."),
]
Region: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Region of the bucket. Default: AWS_REGION, then the profile's."),
]
Anonymous: TypeAlias = Annotated[bool, typer.Option("--anonymous", help="Send unsigned requests, for public buckets.")]


def session(
    endpoint_url: str | None, profile: str | None, region: str | None, anonymous: bool, **others: Any
) -> Session:
    """A session with these options, and `others` that no user chooses."""
    return Session(endpoint_url=endpoint_url, profile=profile, region=region, anonymous=anonymous, **others)
