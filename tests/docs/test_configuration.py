"""docs/configuration.md states which setting takes precedence; each row of its tables is tested against each other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import pytest

import zarr_s3_async as zs
from zarr_s3_async.stores.s3.sdk.clients import ClientPool
from zarr_s3_async.stores.s3.sdk.endpoint import Endpoint, resolve_endpoint
from zarr_s3_async.stores.s3.store import S3Store

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()


def rows(section: str) -> list[str]:
    """The first cells of the table in this section."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    found = re.findall(r"^\| (.*?) \|$", text, re.MULTILINE)
    assert found[0] == "from above, the first that is set counts"
    return found[1:]


@dataclass
class Settings:
    """The settings of one test case."""

    folder: Path
    patch: pytest.MonkeyPatch
    session: dict[str, str] = field(default_factory=dict)
    store: dict[str, str] = field(default_factory=dict)
    profile: list[str] = field(default_factory=list)
    services: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    async def endpoint(self) -> Endpoint:
        """The endpoint of requests for a bucket; no request is sent."""
        lines = ["[default]", *self.profile, *self.others]
        if self.services:
            lines += ["[services mine]", "s3 =", *self.services]
            lines.insert(1, "services = mine")
        (self.folder / "config").write_text("\n".join(lines) + "\n")
        pool = ClientPool(1)
        try:
            async with zs.Session(**self.session) as session:  # type: ignore[arg-type]  # strings all
                store = session.s3("bucket", **self.store)  # type: ignore[arg-type]  # strings all
                assert isinstance(store, S3Store)
                return await resolve_endpoint(await pool.client(store.config), "bucket")
        finally:
            await pool.aclose()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SK")
    return Settings(tmp_path, monkeypatch)


Setter = Callable[[Settings, str], None]

REGIONS: dict[str, Setter | None] = {
    "`region=` of `session.s3(...)`": lambda s, value: s.store.update(region=value),
    "`region=` of `Session(...)`, which is `S3Config.region`": lambda s, value: s.session.update(region=value),
    "the variable `AWS_REGION`": lambda s, value: s.patch.setenv("AWS_REGION", value),
    "the variable `AWS_DEFAULT_REGION`": lambda s, value: s.patch.setenv("AWS_DEFAULT_REGION", value),
    "`region` of the profile": lambda s, value: s.profile.append(f"region = {value}"),
    "`us-east-1`": None,
}
ENDPOINTS: dict[str, Setter | None] = {
    "`endpoint_url=` of `session.s3(...)`": lambda s, value: s.store.update(endpoint_url=value),
    "`endpoint_url=` of `Session(...)`, which is `S3Config.endpoint_url`": lambda s, value: s.session.update(
        endpoint_url=value
    ),
    "the variable `AWS_ENDPOINT_URL_S3`": lambda s, value: s.patch.setenv("AWS_ENDPOINT_URL_S3", value),
    "the variable `AWS_ENDPOINT_URL`": lambda s, value: s.patch.setenv("AWS_ENDPOINT_URL", value),
    "`endpoint_url` below `s3 =` in the `services` section of the profile": lambda s, value: s.services.append(
        f"  endpoint_url = {value}"
    ),
    "`endpoint_url` of the profile": lambda s, value: s.profile.append(f"endpoint_url = {value}"),
    "Amazon's for the region": None,
}


def profile_of(s: Settings, name: str) -> str:
    s.others += [f"[profile {name}]", f"region = {name}"]
    return name


PROFILES: dict[str, Setter | None] = {
    "`profile=` of `Session(...)`, which is `S3Config.profile`": lambda s, name: s.session.update(
        profile=profile_of(s, name)
    ),
    "the variable `AWS_DEFAULT_PROFILE`": lambda s, name: s.patch.setenv("AWS_DEFAULT_PROFILE", profile_of(s, name)),
    "the variable `AWS_PROFILE`": lambda s, name: s.patch.setenv("AWS_PROFILE", profile_of(s, name)),
    "`default`": lambda s, name: s.profile.append(f"region = {name}"),
}


@pytest.mark.parametrize(("section", "known"), [("Region", REGIONS), ("Endpoint", ENDPOINTS), ("Profile", PROFILES)])
def test_every_row_of_the_page_is_tested(section: str, known: dict[str, Setter | None]) -> None:
    """The rows are in the page's order, and there are no others."""
    assert rows(section) == list(known)


def pairs(section: str) -> list[tuple[str, str]]:
    return list(combinations(rows(section), 2))


async def settle(settings: Settings, known: dict[str, Setter | None], *values: tuple[str, str]) -> Endpoint:
    for row, value in values:
        setter = known[row]
        if setter is not None:
            setter(settings, value)
    return await settings.endpoint()


@pytest.mark.parametrize(("upper", "lower"), pairs("Region"))
async def test_the_upper_setting_of_the_region_is_used(settings: Settings, upper: str, lower: str) -> None:
    """The region is used for the signature and for the host."""
    endpoint = await settle(settings, REGIONS, (lower, "ap-southeast-2"), (upper, "eu-west-1"))
    assert (endpoint.host, endpoint.region) == ("bucket.s3.eu-west-1.amazonaws.com", "eu-west-1")


async def test_a_missing_region_has_a_default(settings: Settings) -> None:
    endpoint = await settings.endpoint()
    assert (endpoint.host, endpoint.region) == ("bucket.s3.amazonaws.com", "us-east-1")


@pytest.mark.parametrize(("upper", "lower"), pairs("Endpoint"))
async def test_the_upper_setting_of_the_endpoint_is_used(settings: Settings, upper: str, lower: str) -> None:
    endpoint = await settle(settings, ENDPOINTS, (lower, "http://lower.example"), (upper, "http://upper.example"))
    assert (endpoint.scheme, endpoint.host, endpoint.path_prefix) == ("http", "upper.example", "/bucket")


@pytest.mark.parametrize("row", rows("Endpoint")[:-1])
@pytest.mark.parametrize("by", ["variable", "profile"])
async def test_configured_endpoints_are_ignored_on_request(settings: Settings, row: str, by: str) -> None:
    """Endpoints given as arguments are not ignored."""
    if by == "variable":
        settings.patch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    else:
        settings.profile.append("ignore_configured_endpoint_urls = true")
    endpoint = await settle(settings, ENDPOINTS, (row, "http://set.example"))
    assert endpoint.host == ("set.example" if row.startswith("`endpoint_url=`") else "bucket.s3.amazonaws.com")


@pytest.mark.parametrize(("upper", "lower"), pairs("Profile"))
async def test_the_upper_setting_of_the_profile_is_used(settings: Settings, upper: str, lower: str) -> None:
    """It is recognised by its region; `tests/stores/s3/sdk/credentials` tests the credentials of a profile."""
    settings.others += ["[profile unused]", "region = us-west-1"]
    if upper == rows("Profile")[0]:  # a profile given by name must have keys of its own
        settings.folder.joinpath("none").write_text("[eu-west-1]\naws_access_key_id = AK\naws_secret_access_key = SK\n")
    endpoint = await settle(settings, PROFILES, (lower, "ap-southeast-2"), (upper, "eu-west-1"))
    assert endpoint.region == "eu-west-1"


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
async def test_an_empty_variable_is_ignored(settings: Settings, name: str) -> None:
    settings.patch.setenv(name, "")
    settings.profile.append("region = eu-west-1")
    assert (await settings.endpoint()).region == "eu-west-1"


@pytest.mark.parametrize(
    ("lines", "host", "prefix"),
    [
        (["s3 =", "  addressing_style = path"], "s3.amazonaws.com", "/bucket"),
        (["s3 =", "  use_accelerate_endpoint = true"], "bucket.s3-accelerate.amazonaws.com", ""),
        (["use_dualstack_endpoint = true"], "bucket.s3.dualstack.us-east-1.amazonaws.com", ""),
        (["use_fips_endpoint = true"], "bucket.s3-fips.us-east-1.amazonaws.com", ""),
    ],
)
async def test_the_profile_sets_the_addressing_style(
    settings: Settings, lines: list[str], host: str, prefix: str
) -> None:
    settings.profile += lines
    endpoint = await settings.endpoint()
    assert (endpoint.host, endpoint.path_prefix) == (host, prefix)
