"""Response bodies: S3's error documents, bodies that only look like one, and malicious XML."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async._http.body import MAX_SMALL_BODY
from zarr_s3_async.stores.s3 import errors as error_document
from zarr_s3_async.stores.s3.errors import looks_like_error, parse_error
from zarr_s3_async.stores.s3.request import ErrorDocument, Request

from .wire_server import ScriptedServer, answering, error, response, run_on

WRONG_REGION = b"""\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>

<Error xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Code>AuthorizationHeaderMalformed</Code>
<Message>The region 'us-east-1' is wrong; expecting &apos;eu-west-1&apos; &amp; so on</Message>
<Region>eu-west-1</Region><Detail><Code>Inner</Code></Detail><RequestId>1</RequestId><HostId/></Error>"""


def test_an_error_document_gives_code_message_and_region():
    """XML's predefined entities are decoded; nested elements are ignored."""
    assert parse_error(WRONG_REGION, {}) == ErrorDocument(
        "AuthorizationHeaderMalformed",
        "The region 'us-east-1' is wrong; expecting 'eu-west-1' & so on",
        "eu-west-1",
    )


def test_the_region_is_also_read_from_a_header():
    """A redirect names the region in a header, with or without a body."""
    headers = {"x-amz-bucket-region": "eu-west-1"}
    moved = b"<Error><Code>PermanentRedirect</Code></Error>"
    assert parse_error(moved, headers) == ErrorDocument("PermanentRedirect", "", "eu-west-1")
    assert parse_error(b"", headers) == ErrorDocument("", "", "eu-west-1")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Not Found",
        b"<html><body>404</body></html>",
        b"<?xml version='1.0'?><html/>",
        b"<Error/>",
        b"<Error><Message>no code</Message></Error>",
        b"<Error><Code> </Code></Error>",
        b"<Error><Code>NoSuchKey</Code>",
        b"<Error><Code>NoSuchKey</Code></Error><more/>",
        b"<ErrorReport><Code>NoSuchKey</Code></ErrorReport>",
        b"<x><Error><Code>NoSuchKey</Code></Error></x>",
        b"<Error><x><Code>NoSuchKey</Code></x></Error>",
        b"\xff\xfe<\x00E\x00",
        b"<Error><Code>\xff</Code></Error>",
        b'{"Code": "NoSuchKey"}',
        b"<!DOCTYPE Error [<!ENTITY a 'NoSuchKey'>]><Error><Code>&a;</Code></Error>",
        b"<?xml version='1.0'?><!DOCTYPE Error SYSTEM 'file:///etc/passwd'><Error><Code>NoSuchKey</Code></Error>",
        b"<Error><Code>NoSuchKey&undefined;</Code></Error>",
        b"<Error><Code>NoSuchKey</Code></Error>" + b" " * MAX_SMALL_BODY,
    ],
)
def test_a_body_that_is_not_an_error_document_of_s3_has_no_code(body):
    """Such a response is not from S3 itself, so the object must not be taken for absent."""
    assert parse_error(body, {}) == ErrorDocument("")


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_without_an_exception(tail):
    """Arbitrary bytes follow a valid start of a document."""
    for body in (tail, b"<Error>" + tail, b"<?xml version='1.0'?><Error><Code>" + tail):
        assert isinstance(parse_error(body, {}), ErrorDocument)


def test_a_document_type_is_refused_at_any_position():
    """The parser itself rejects one, too: no entity is expanded."""
    assert error_document._fields(b"<!DOCTYPE Error [<!ENTITY a 'b'>]><Error><Code>x</Code></Error>") == {}


def test_a_deeply_nested_document_is_parsed():
    """20,000 levels, as deep as the size cap allows."""
    assert parse_error(b"<Error>" + b"<a>" * 20_000, {}) == ErrorDocument("")


@pytest.mark.parametrize(
    ("body", "looks"),
    [
        (b"<Error><Code>x", True),
        (b' \n<?xml version="1.0"?>\n<Error>', True),
        (b"\xef\xbb\xbf<Error xmlns='a'>", True),
        (memoryview(b"<Error/>"), True),
        (b"<Errors>", False),
        (b"data <Error>", False),
        (b"", False),
    ],
)
def test_an_error_document_is_recognised_by_its_start(body, looks):
    """Only the start of the body decides."""
    assert looks_like_error(body) is looks


# ---- over the wire


def answer_over_wire(answer, request=None):
    async def main(server):
        wire = server.wire()
        try:
            return await wire.send(request or Request("GetObject", "bucket", "k"))
        finally:
            await wire.aclose()

    with ScriptedServer(answering(answer)) as server:
        return run_on("asyncio", main(server))


@pytest.mark.parametrize("status", ["301 Moved", "304 Not Modified", "404 Not Found", "412 No", "500 Oops"])
def test_every_status_from_300_has_an_error(status):
    """With a code if S3 sent one."""
    bodiless = status.startswith("304")
    answer = answer_over_wire(response(b"", status) if bodiless else error("TheCode", status, x_amz_request_id="r1"))
    assert answer.status == int(status[:3])
    assert answer.error.code == ("" if bodiless else "TheCode")
    assert bodiless or answer.headers["x-amz-request-id"] == "r1"


def test_the_error_of_a_head_request_has_no_code():
    """The error code of a HEAD is empty."""
    head = Request("HeadObject", "bucket", "k")
    answer = answer_over_wire(b"HTTP/1.1 404 Not Found\r\ncontent-length: 300\r\n\r\n", head)
    assert (answer.status, answer.error) == (404, ErrorDocument(""))


ERROR_BODY = b"<Error><Code>InternalError</Code><Message>m</Message></Error>"


@pytest.mark.parametrize("operation", ["GetObject", "PutObject", "UploadPart", "DeleteObject"])
def test_a_200_with_an_error_document_and_no_etag_is_an_error(operation):
    """S3 sends this if the operation fails after it has sent the head."""
    answer = answer_over_wire(response(ERROR_BODY, etag=""), Request(operation, "bucket", "k"))
    assert (answer.status, answer.error.code) == (200, "InternalError")


def test_an_object_that_looks_like_an_error_document_is_data():
    """With an ETag it is data."""
    answer = answer_over_wire(response(ERROR_BODY))
    assert answer.error is None
    assert answer.body == ERROR_BODY
