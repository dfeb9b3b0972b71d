"""Facts that need no server: whether an endpoint is Amazon's, what a region is, and the clock offset from a date."""

from __future__ import annotations

import pytest

from zarr_s3_async.config import S3Config
from zarr_s3_async.stores.s3.answer_checks import answer_error
from zarr_s3_async.stores.s3.capabilities import Capabilities, Capability
from zarr_s3_async.stores.s3.recovery import Clock, Regions
from zarr_s3_async.stores.s3.request import Request, Response
from zarr_s3_async.stores.s3.sdk.endpoint import is_amazon

from .scripted import ScriptedRetries


@pytest.mark.parametrize(
    ("url", "amazon"),
    [
        ("https://s3.amazonaws.com", True),
        ("https://s3.eu-west-3.amazonaws.com", True),
        ("https://s3.dualstack.us-east-1.amazonaws.com:443/", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("https://bucket.vpce-1a2b-3c4d.s3.us-east-1.vpce.amazonaws.com", True),
        ("https://s3.us-iso-east-1.c2s.ic.gov", True),
        ("http://127.0.0.1:9000", False),
        ("https://amazonaws.com.evil.example", False),
        ("https://notamazonaws.com", False),
        ("https://storage.googleapis.com", False),
        ("http://[::1]:8333", False),
        ("nonsense", False),
    ],
)
def test_endpoints_of_amazon_are_recognised(url: str, amazon: bool) -> None:
    assert is_amazon(url) is amazon


async def test_amazons_capabilities_are_known_without_probes() -> None:
    async def endpoint_url() -> str:
        return "https://s3.us-east-1.amazonaws.com"

    capabilities = Capabilities(endpoint_url, ScriptedRetries().retrying)
    every: tuple[Capability, ...] = ("put-absent", "put-match", "delete-match", "multipart-complete")
    for capability in every:
        assert await capabilities.have(capability, Request("PutObject", "b", "k"))


@pytest.mark.parametrize(
    ("date", "accepted", "offset"),
    [
        ("Wed, 21 Oct 2015 07:28:10 GMT", True, 10.0),
        ("Wed, 21 Oct 2015 07:27:50 GMT", True, -10.0),
        ("nonsense", False, 0.0),
        (None, False, 0.0),
    ],
)
def test_the_clock_offset_is_computed_from_a_date_header(date: str | None, accepted: bool, offset: float) -> None:
    clock = Clock(lambda: 1445412480.0)
    assert clock.learn(date) is accepted
    assert clock.offset == offset
    assert clock() == 1445412480.0 + offset


@pytest.mark.parametrize("region", ["eu-west-3", "us-gov-east-1", "cn-north-1", "us-iso-east-1"])
def test_valid_names_of_regions_are_recognised(region: str) -> None:
    regions = Regions(S3Config())
    assert regions.learn("b", region)
    assert regions.config_for("b").region == region
    assert regions.config_for("c").region is None


def _deleted(*deleted: dict[str, str]) -> Response:
    return Response(200, {}, document={"Deleted": list(deleted)})


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (_deleted({"Key": "a"}, {"Key": "b"}), False),
        (_deleted({}, {}), False),  # JuiceFS's gateway confirms each key without its name
        (_deleted({"Key": "a"}, {}), False),
        (_deleted({"Key": "a"}), True),
        (_deleted({}), True),
        (_deleted(), True),
    ],
)
def test_a_bulk_delete_confirms_every_key(answer: Response, fault: bool) -> None:
    requested = Request("DeleteObjects", "b", "", document={"Objects": [{"Key": "a"}, {"Key": "b"}]})
    assert (answer_error(requested, answer) is not None) is fault
