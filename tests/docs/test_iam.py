"""docs/iam.md: the policies are well-formed and sufficient, tested on a server that enforces them."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import urlsplit

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.errors import AccessDenied, NodeNotFound, Unsupported
from zarr_s3_async.stores.s3.errors import error_of
from zarr_s3_async.stores.s3.request import Operation, Request
from zarr_s3_async.stores.s3.service import S3Service
from zarr_s3_async.testing import MotoS3

PAGE = (Path(__file__).parents[2] / "docs" / "iam.md").read_text()
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
POLICIES: dict[str, Any] = {
    title: json.loads(block) for title, text in _SECTION.findall(PAGE) for block in _BLOCK.findall(text)
}
READ, NO_LISTING, WRITE = "Read", "Read without listing", "Read and write"

# The resources of each action: service authorization reference, pages of S3, S3 Express and KMS.
_PREFIX = r"(?:/[\w.!*'()-]+)*/\*"
RESOURCES = {
    "s3:ListBucket": r"arn:aws:s3:::[a-z0-9.-]{3,63}|arn:aws:s3:[a-z0-9-]+:\d{12}:accesspoint/[a-z0-9-]{3,50}",
    "kms": r"arn:aws:kms:[a-z0-9-]+:\d{12}:key/[0-9a-f-]{36}",
    "s3express": r"arn:aws:s3express:[a-z0-9-]+:\d{12}:bucket/[a-z0-9-]+--[a-z0-9-]+--x-s3",
    "s3": rf"arn:aws:s3:::[a-z0-9.-]{{3,63}}{_PREFIX}"
    rf"|arn:aws:s3:[a-z0-9-]+:\d{{12}}:accesspoint/[a-z0-9-]{{3,50}}/object{_PREFIX}",
}


def statements(policy: Any) -> list[Any]:
    return list(policy["Statement"])


def actions(policy: Any) -> set[str]:
    return {action for statement in statements(policy) for action in statement["Action"]}


def test_the_page_has_all_policies() -> None:
    assert {READ, NO_LISTING, WRITE, "Keys of KMS: read", "Keys of KMS: read and write"} <= POLICIES.keys()
    assert len(POLICIES) == PAGE.count("```json") == 7


@pytest.mark.parametrize("title", POLICIES)
def test_every_policy_is_well_formed(title: str) -> None:
    policy = POLICIES[title]
    assert list(policy) == ["Version", "Statement"]
    assert policy["Version"] == "2012-10-17"
    names = [statement["Sid"] for statement in statements(policy)]
    assert len(set(names)) == len(names)
    for statement in statements(policy):
        assert list(statement) == ["Sid", "Effect", "Action", "Resource"], "no condition may restrict it without notice"
        assert re.fullmatch(r"[A-Za-z0-9]+", statement["Sid"])
        assert statement["Effect"] == "Allow"
        assert statement["Action"] == sorted(set(statement["Action"]))


@pytest.mark.parametrize("title", POLICIES)
def test_every_action_is_listed_with_the_right_resources(title: str) -> None:
    """A statement with an action on a resource of another kind allows nothing, without an error."""
    for statement in statements(POLICIES[title]):
        for action in statement["Action"]:
            pattern = RESOURCES.get(action) or RESOURCES[action.partition(":")[0]]
            assert re.fullmatch(pattern, statement["Resource"]), (action, statement["Resource"])


def test_all_actions_exist() -> None:
    """moto contains the policies that Amazon manages: an action that occurs there exists."""
    if find_spec("moto") is None:
        pytest.skip("moto is not installed here")
    import moto.iam

    text = (Path(moto.iam.__path__[0]) / "aws_managed_policies.py").read_text()
    known = set(re.findall(r'"((?:s3|kms|s3express):\w+)"', text))
    express = {"s3express:CreateSession"}  # Amazon's own policies say s3express:*
    assert {action for policy in POLICIES.values() for action in actions(policy)} <= known | express


def rows() -> dict[str, set[str]]:
    """The actions that each request needs; the table has one row for each."""
    needed: dict[str, set[str]] = {}
    where = "objects|the bucket|the object that is copied"
    for operation, action in re.findall(rf"^\| (\w+) \| `(s3:\w+)` \| (?:{where}) \|$", PAGE, re.MULTILINE):
        needed.setdefault(operation, set()).add(action)
    return needed


def test_every_request_that_can_be_made_is_in_the_table() -> None:
    assert set(rows()) == set(get_args(Operation))


def test_the_policies_allow_exactly_the_actions_of_the_table() -> None:
    assert actions(POLICIES[WRITE]) == set().union(*rows().values())
    reads = set().union(*(rows()[operation] for operation in ("GetObject", "HeadObject", "ListObjectsV2")))
    assert rows()["CopyObject"] == {"s3:GetObject", "s3:PutObject"}
    assert actions(POLICIES[READ]) == reads
    assert actions(POLICIES[NO_LISTING]) == reads - {"s3:ListBucket"}


# A server that enforces the actions


class Users(NamedTuple):
    server: MotoS3
    configs: dict[str, zs.S3Config]


@pytest.fixture(scope="module")
def users() -> Iterator[Users]:
    """moto, with a user for each policy; it checks actions and resources."""
    if find_spec("moto") is None:
        pytest.skip("moto is not installed here")
    with MotoS3("my-bucket") as server:
        titles = (READ, NO_LISTING, WRITE)
        configs = {title: _user(server, number, POLICIES[title]) for number, title in enumerate(titles)}
        configs["everything"] = _user(server, 9, _allowing("s3:*"))
        _post(server, "/moto-api/reset-auth", "0")  # from now on, moto enforces the policies
        yield Users(server, configs)


def _allowing(action: str) -> Any:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}


def _for_moto(policy: Any) -> Any:
    """moto requires `s3:DeleteObject` on the bucket for a bulk delete; S3 requires it on each object."""
    policy = json.loads(json.dumps(policy))
    for statement in policy["Statement"]:
        if "s3:DeleteObject" in statement["Action"]:
            statement["Resource"] = [statement["Resource"], "arn:aws:s3:::my-bucket"]
    return policy


def _post(server: MotoS3, path: str, body: str, **headers: str) -> str:
    url = urlsplit(server.endpoint_url)
    connection = HTTPConnection(url.hostname or "", url.port, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        return text
    finally:
        connection.close()


def _user(server: MotoS3, number: int, policy: Any) -> zs.S3Config:
    from urllib.parse import urlencode

    def iam(action: str, **parameters: str) -> str:
        body = urlencode({"Action": action, "Version": "2010-05-08", "UserName": f"user{number}", **parameters})
        scope = "Credential=AK/20260101/us-east-1/iam/aws4_request"
        return _post(
            server,
            "/",
            body,
            Host="iam.amazonaws.com",
            Authorization=f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0",
            **{"Content-Type": "application/x-www-form-urlencoded"},
        )

    iam("CreateUser")
    iam("PutUserPolicy", PolicyName="p", PolicyDocument=json.dumps(_for_moto(policy)))
    message = iam("CreateAccessKey")
    key, secret = (re.findall(f"<{name}>(.*?)</{name}>", message)[0] for name in ("AccessKeyId", "SecretAccessKey"))
    return server.s3_config(access_key_id=key, secret_access_key=secret, conditional_writes="require")


URL = "s3://my-bucket/experiments"
DATA = np.arange(16, dtype="int32").reshape(4, 4)


async def make(users: Users, name: str) -> str:
    """Create an array of which one chunk is not stored."""
    url = f"{URL}/{name}"
    async with zs.Session(s3=users.configs["everything"]) as session:
        await session.store("s3://my-bucket/elsewhere").put("k", b"1")
        array = await session.create_array(url, shape=(4, 8), chunks=(4, 4), dtype="int32", fill_value=7)
        await array.set_slice(DATA, start=(0, 0))
    return url


@pytest.mark.integration
async def test_the_policy_for_reading_allows_reads_and_no_writes(users: Users) -> None:
    url = await make(users, "read")
    async with zs.Session(s3=users.configs[READ]) as session:
        array = await session.open_array(url)
        assert (await array.get_slice((0, 0), (4, 4)) == DATA).all()
        assert (await array.get_slice((0, 4), (4, 8)) == 7).all()
        assert [entry.key async for entry in session.store(url).list_prefix()]
        assert not await session.exists(f"{URL}/never-there")
        with pytest.raises(AccessDenied):
            await session.store(url).put("k", b"1")
        with pytest.raises(AccessDenied):
            await session.delete(url)
        with pytest.raises(AccessDenied):
            await session.store("s3://my-bucket/elsewhere").get("k")


@pytest.mark.integration
async def test_the_policy_without_listing_allows_reads_of_existing_objects(users: Users) -> None:
    """moto answers 404 for absent keys; test_answers_by_operation.py tests the 403 with which S3 answers here."""
    url = await make(users, "no-listing")
    async with zs.Session(s3=users.configs[NO_LISTING], missing_on_403=True) as session:
        array = await session.open_array(url, zarr_format=3)
        assert (await array.get_slice((0, 0), (4, 4)) == DATA).all()
        with pytest.raises(AccessDenied):
            await session.store(url).list_dir("")
        with pytest.raises(AccessDenied):
            await array.set_slice(DATA, start=(0, 0))


@pytest.mark.integration
async def test_the_policy_for_writing_allows_every_request(users: Users) -> None:
    await make_every_request(users.configs[WRITE], "write")


async def make_every_request(config: zs.S3Config, name: str) -> None:
    """Make every request of the table by the public API, and the requests of multipart uploads one by one."""
    made: set[str] = set()

    def hook(event: Any) -> None:
        made.add(getattr(event, "operation", ""))

    url = f"{URL}/{name}"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with zs.Session(s3=config, hooks=(hook,)) as session:
            array = await session.create_array(url, shape=(4, 8), chunks=(4, 4), dtype="int32")
            await array.set_slice(DATA, start=(0, 0))
            await array.set_slice(9, start=(0, 0), stop=(1, 1))
            await array.resize((4, 4))
            assert (await array.get_slice((0, 0), (1, 2))).tolist() == [[9, 1]]
            await zs.copy(array, f"{url}-copy")
            await in_parts(session)
            await session.delete(url)
            await session.delete(f"{url}-copy")
            with pytest.raises(NodeNotFound):
                await session.open_array(url)
    assert made >= set(rows()) - {"HeadObject"}  # made only after a lost response; IAM treats it as a GET


async def in_parts(session: zs.Session) -> None:
    """Make a multipart upload that is completed, and one that is aborted."""
    (service,) = (shared for shared in session._context.shared.values() if isinstance(shared, S3Service))
    transport = service._way(session._config).transport
    key = "experiments/parts"
    ends: tuple[Operation, ...] = ("CompleteMultipartUpload", "AbortMultipartUpload")
    for wanted in ends:
        begun, _ = await transport.send(Request("CreateMultipartUpload", "my-bucket", key))
        upload = {"uploadId": str((begun.document or {})["UploadId"])}
        part = Request("UploadPart", "my-bucket", key, {}, {**upload, "partNumber": "1"}, payload=b"part")
        sent, _ = await transport.send(part)
        parts = {"Parts": [{"PartNumber": 1, "ETag": sent.headers["etag"]}]}
        document = parts if wanted == "CompleteMultipartUpload" else None
        end = Request(wanted, "my-bucket", key, {}, upload, document=document)
        ended, _ = await transport.send(end)
        if not ended.ok:
            raise error_of(end, ended)


@pytest.mark.integration
@pytest.mark.parametrize("lacking", sorted(actions(POLICIES[WRITE])))
async def test_every_action_of_the_policy_for_writing_is_needed(users: Users, lacking: str) -> None:
    """Without any one of them, one of the requests above is refused."""
    policy = json.loads(json.dumps(POLICIES[WRITE]))
    for statement in policy["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action != lacking] or ["s3:GetBucketTagging"]
    _post(users.server, "/moto-api/reset-auth", "inf")
    config = _user(users.server, 20 + sorted(actions(POLICIES[WRITE])).index(lacking), policy)
    _post(users.server, "/moto-api/reset-auth", "0")
    with pytest.raises(Unsupported if lacking == "s3:PutObject" else AccessDenied):  # where the probe cannot write
        await make_every_request(config, "without-" + lacking.partition(":")[2])
