"""The signer: published test vectors, botocore's signer as the oracle, and no secrets in a repr."""

import calendar
import re
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zarr_s3_async.stores.s3.signer import EMPTY_SHA256, UNSIGNED_PAYLOAD, Signer, encode_path, encode_query

DOCUMENTED = SimpleNamespace(
    access_key="AKIAIOSFODNN7EXAMPLE", secret_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", token=None
)
DOCUMENTED_TIME = calendar.timegm((2013, 5, 24, 0, 0, 0))
HELLO_SHA256 = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"


def signed_lines(lines: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines.splitlines())


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "payload_hash", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {},
            {"range": "bytes=0-9"},
            EMPTY_SHA256,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test$file.text",
            {},
            {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"},
            HELLO_SHA256,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/",
            {"lifecycle": ""},
            {},
            EMPTY_SHA256,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/",
            {"prefix": "J", "max-keys": "2"},
            {},
            EMPTY_SHA256,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
    ids=["get-range", "put", "subresource", "list"],
)
def test_the_vectors_of_the_s3_documentation(method, path, query, headers, payload_hash, signature):
    """The four examples of "Authenticating Requests" in the S3 API reference."""
    lines = Signer(DOCUMENTED, "us-east-1").sign(
        method,
        "examplebucket.s3.amazonaws.com",
        encode_path(path),
        encode_query(query),
        headers,
        payload_hash,
        DOCUMENTED_TIME,
    )
    assert signed_lines(lines)["authorization"].endswith(f"Signature={signature}")


def botocore_authorization(method, url, headers, payload, credentials, region, moment, *, unsigned=False) -> str:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method=method, url=url, headers=headers, data=payload)
    if unsigned:
        request.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": False})
    signer = S3SigV4Auth(Credentials(credentials.access_key, credentials.secret_key, credentials.token), "s3", region)
    with patch("botocore.auth.get_current_datetime", return_value=moment):
        signer.add_auth(request)
    return request.headers["Authorization"]


FIRST, LAST = (datetime(year, 2, 28) for year in (2000, 2100))  # noqa: DTZ001  # hypothesis wants them without a zone

odd_text = st.text(
    st.one_of(st.sampled_from(" +~/%&=?#:;,'\"!$()*@[]{}|\\^`<>-_.é漢🧊\u202e"), st.characters(codec="utf-8")),
    min_size=1,
    max_size=30,
)
header_value = st.text(st.sampled_from('abcXYZ0189 -=/:;,"'), min_size=1, max_size=20)
headers = st.dictionaries(
    st.sampled_from(["range", "if-match", "if-none-match", "content-type", "x-amz-meta-writer", "x-amz-storage-class"]),
    header_value.filter(lambda value: value == value.strip()),
    max_size=4,
)
secrets = st.text(st.sampled_from("abcDEF019/+"), min_size=1, max_size=40)
credentials = st.builds(SimpleNamespace, access_key=st.just("AKIA"), secret_key=secrets, token=st.none() | secrets)


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "DELETE"]),
    key=odd_text,
    query=st.dictionaries(odd_text, odd_text, max_size=3),
    headers=headers,
    payload=st.binary(max_size=40),
    credentials=credentials,
    host=st.sampled_from(["bucket.s3.eu-west-1.amazonaws.com", "127.0.0.1:9000", "[::1]:9000"]),
    region=st.sampled_from(["us-east-1", "eu-west-1"]),
    moment=st.datetimes(FIRST, LAST),
)
@example("GET", "a//b/../%2F+ ~", {"a b": "c+d"}, {}, b"", DOCUMENTED, "h", "us-east-1", FIRST)
def test_the_signature_is_botocores(method, key, query, headers, payload, credentials, host, region, moment):
    """For any request at any moment, the whole Authorization header is the one that botocore computes."""
    from hashlib import sha256

    moment = moment.replace(tzinfo=UTC)
    path, encoded_query = "/bucket/" + encode_path(key), encode_query(query)
    url = f"http://{host}{path}" + (f"?{encoded_query}" if encoded_query else "")
    theirs = botocore_authorization(method, url, headers, payload, credentials, region, moment)
    ours = Signer(credentials, region).sign(
        method,
        host,
        path,
        encoded_query,
        headers,
        sha256(payload).hexdigest() if payload else EMPTY_SHA256,
        moment.timestamp(),
    )
    assert signed_lines(ours)["authorization"] == theirs


ODD = " +~/%&=?#:;,'\"!$()*@[]{}|\\^`<>-_.é漢🧊\u202eaZ09\x00\x7f"
NAMES = [
    "range",
    "if-match",
    "if-none-match",
    "content-type",
    "x-amz-meta-writer",
    "x-amz-storage-class",
    "content-md5",
]


def made_up(random: Random) -> SimpleNamespace:
    """A random request with random credentials."""

    def text(longest: int, alphabet: str = ODD) -> str:
        return "".join(random.choices(alphabet, k=random.randint(1, longest)))

    secret = "abcDEF019/+"
    return SimpleNamespace(
        method=random.choice(["GET", "HEAD", "PUT", "DELETE", "POST"]),
        path=encode_path("/bucket/" + text(40)),
        query=encode_query({text(9): text(9) for _ in range(random.randint(0, 3))}),
        headers={name: text(20, "abcXYZ019-=/:;,") for name in random.sample(NAMES, random.randint(0, 4))},
        payload=random.randbytes(random.randint(0, 40)),
        credentials=SimpleNamespace(
            access_key=text(20, "AKI029"),
            secret_key=text(40, secret),
            token=text(200, secret + "=") if random.random() < 0.5 else None,
        ),
        host=random.choice(["bucket.s3.eu-west-1.amazonaws.com", "127.0.0.1:9000", "[::1]:9000"]),
        region=random.choice(["us-east-1", "eu-west-1", "cn-north-1", "us-gov-west-1", "garage"]),
        moment=datetime(2000, 1, 1, tzinfo=UTC) + timedelta(seconds=random.randrange(3 * 10**9)),
        unsigned=random.random() < 0.5,
    )


@pytest.mark.parametrize("seed", range(5))
def test_thousands_of_signatures_are_botocores(seed):
    """A thousand random requests for each seed, with signed and unsigned payloads."""
    from hashlib import sha256

    random = Random(seed)
    for number in range(1000):
        made = made_up(random)
        scheme = "https" if made.unsigned else "http"
        url = f"{scheme}://{made.host}{made.path}" + (f"?{made.query}" if made.query else "")
        theirs = botocore_authorization(
            made.method,
            url,
            made.headers,
            made.payload,
            made.credentials,
            made.region,
            made.moment,
            unsigned=made.unsigned,
        )
        digest = UNSIGNED_PAYLOAD if made.unsigned else sha256(made.payload).hexdigest()
        ours = Signer(made.credentials, made.region).sign(
            made.method, made.host, made.path, made.query, made.headers, digest, made.moment.timestamp()
        )
        assert signed_lines(ours)["authorization"] == theirs, (seed, number, made)


@settings(max_examples=300)
@given(odd_text)
def test_a_path_is_encoded_as_botocore_encodes_it_and_only_once(key):
    """Spaces, plus, tilde, percent signs, double slashes and unicode survive one decoding."""
    from urllib.parse import unquote

    from botocore.utils import percent_encode

    assert encode_path(key) == percent_encode(key, safe="/~")
    assert unquote(encode_path(key)) == key


def test_a_session_token_is_signed_and_sent():
    """Temporary credentials carry their token, and the token is among the signed headers."""
    lines = signed_lines(
        Signer(SimpleNamespace(access_key="A", secret_key="S", token="T0KEN"), "us-east-1").sign(
            "GET", "h", "/k", "", {}, EMPTY_SHA256, 0.0
        )
    )
    assert lines["x-amz-security-token"] == "T0KEN"
    assert "x-amz-security-token" in lines["authorization"]


def test_the_given_payload_hash_is_signed():
    """Over TLS the payload is not signed: both header and signature contain UNSIGNED-PAYLOAD."""
    lines = signed_lines(Signer(DOCUMENTED, "us-east-1").sign("PUT", "h", "/k", "", {}, UNSIGNED_PAYLOAD, 0.0))
    assert lines["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"


def test_a_signer_used_past_midnight_signs_like_a_new_one():
    """What is cached per second and per day is renewed, also when the clock goes back."""
    lasting = Signer(DOCUMENTED, "us-east-1")
    midnight = calendar.timegm((2024, 3, 1, 0, 0, 0))
    for now in (midnight - 1.0, midnight - 0.5, midnight, midnight + 86_400 * 3, midnight - 1.0):
        arguments = ("GET", "h", "/k", "", {}, EMPTY_SHA256, now)
        assert lasting.sign(*arguments) == Signer(DOCUMENTED, "us-east-1").sign(*arguments)


def test_the_repr_of_a_signer_shows_no_secret():
    """Neither repr nor str of a signer shows the secret key."""
    signer = Signer(DOCUMENTED, "us-east-1")
    assert not re.search("wJalrXUtnFEMI", f"{signer!r} {signer}")
