"""Parse S3's error documents, and map responses to errors by two tables: by code, then by status.

Error bodies are untrusted input. Only an error document of S3 itself (one with a code) proves absence; a bare 404 may
come from any proxy.

Sources: S3 API reference, "REST error responses" and "Error responses".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..._http.body import MAX_SMALL_BODY
from ...errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumMismatch,
    Conflict,
    CredentialsExpired,
    DeadlineExceeded,
    NetworkError,
    ObjectTooLarge,
    StoreError,
    Throttled,
    UnexpectedResponse,
    Unsupported,
    WrongRegion,
)
from .request import ErrorDocument, Request, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..._types import Buffer


_WANTED = {"Code": "code", "Message": "message", "Region": "region", "Key": "key"}
# A byte order mark and an XML declaration may come before the root.
_may_be_error = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>)?\s*<Error[\s>/]").match


class _NotWanted(Exception):
    """The document is not one of S3's errors."""


def looks_like_error(body: Buffer) -> bool:
    """True if a body may be an `<Error>` document."""
    return _may_be_error(bytes(memoryview(body)[:512])) is not None


def parse_error(body: Buffer, headers: Mapping[str, str]) -> ErrorDocument:
    """Parse an error document; the code is empty if the body is not a well-formed `<Error>` document of S3."""
    region = headers.get("x-amz-bucket-region", "")
    # A cheap check first: most bodies of errors from proxies are HTML pages.
    if len(memoryview(body)) > MAX_SMALL_BODY or not looks_like_error(body):
        return ErrorDocument("", region=region)
    fields = _fields(bytes(body))
    code = fields.get("code", "")
    if not code:
        return ErrorDocument("", region=region)
    return ErrorDocument(code, fields.get("message", ""), fields.get("region") or region, fields.get("key", ""))


def _fields(body: bytes) -> dict[str, str]:
    from xml.parsers.expat import ExpatError, ParserCreate

    reader = _Reader()
    parser = ParserCreate("UTF-8")
    parser.StartDoctypeDeclHandler = reader.doctype  # no DTD, hence no entity to expand
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(body, True)  # positional-only: these are the last bytes
    except (ExpatError, _NotWanted):
        return {}
    return {name: "".join(parts).strip() for name, parts in reader.fields.items()}


class _Reader:
    """Collects the text of the wanted children of the root, the first of each name."""

    def __init__(self) -> None:
        self.fields: dict[str, list[str]] = {}
        self._depth = 0
        self._into: list[str] | None = None

    def doctype(self, *_: object) -> None:
        raise _NotWanted

    def start(self, name: str, _: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1 and name != "Error":
            raise _NotWanted
        # Only direct children of the root, which S3 itself fills in.
        field = _WANTED.get(name) if self._depth == 2 else None
        self._into = self.fields.setdefault(field, []) if field and field not in self.fields else None

    def end(self, _: str) -> None:
        self._depth -= 1
        self._into = None

    def text(self, data: str) -> None:
        if self._into is not None:
            self._into.append(data)


_BY_CODE: dict[str, tuple[type[StoreError], str]] = {
    "NoSuchBucket": (BucketNotFound, "create the bucket, or check its name and the endpoint"),
    "AccessDenied": (AccessDenied, "check the IAM policy and the bucket policy for this action and key"),
    "AllAccessDisabled": (AccessDenied, "the bucket's owner disabled all access"),
    "AccountProblem": (AccessDenied, "there is a problem with the AWS account"),
    "InvalidAccessKeyId": (AccessDenied, "check the access key id, and that it belongs to this endpoint"),
    "SignatureDoesNotMatch": (AccessDenied, "check the secret access key"),
    "InvalidToken": (AccessDenied, "check the session token"),
    "ExpiredToken": (CredentialsExpired, "renew the credentials"),
    "TokenRefreshRequired": (CredentialsExpired, "renew the credentials"),
    "RequestTimeTooSkewed": (AccessDenied, "set this machine's clock"),
    "PermanentRedirect": (WrongRegion, "set region to the bucket's region"),
    "TemporaryRedirect": (WrongRegion, "set region to the bucket's region"),
    "AuthorizationHeaderMalformed": (WrongRegion, "set region to the bucket's region"),
    "IllegalLocationConstraintException": (WrongRegion, "set region to the bucket's region"),
    "PreconditionFailed": (Conflict, "another writer was first; read again"),
    "ConditionalRequestConflict": (Conflict, "another writer is writing; read again"),
    "SlowDown": (Throttled, "lower Limits.requests, or spread keys over more prefixes"),
    "SlowDownRead": (Throttled, "lower Limits.requests, or spread keys over more prefixes"),
    "SlowDownWrite": (Throttled, "lower Limits.requests, or spread keys over more prefixes"),
    "RequestLimitExceeded": (Throttled, "lower Limits.requests"),
    "Throttling": (Throttled, "lower Limits.requests"),
    "ThrottlingException": (Throttled, "lower Limits.requests"),
    "BadDigest": (ChecksumMismatch, "the upload was damaged in transit"),
    "XAmzContentSHA256Mismatch": (ChecksumMismatch, "the upload was damaged in transit"),
    "NotImplemented": (Unsupported, "this server does not have this feature of S3"),
}

_BY_STATUS: dict[int, tuple[type[StoreError], str]] = {
    301: (WrongRegion, "set region to the bucket's region"),
    307: (WrongRegion, "set region to the bucket's region"),
    401: (AccessDenied, "check the credentials"),
    403: (AccessDenied, "check the credentials and the policy"),
    409: (Conflict, "another writer is writing; read again"),
    412: (Conflict, "another writer was first; read again"),
    429: (Throttled, "lower Limits.requests"),
    501: (Unsupported, "this server does not have this feature of S3"),
    503: (Throttled, "lower Limits.requests"),
}

_RETRIED_CODES = frozenset(
    {
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        # The upload was damaged on the way; a second one may arrive intact.
        "BadDigest",
    }
)
_LOST_RACES = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_UNSUPPORTED_CODES = frozenset({"NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedOperation"})
_RETRIED_STATUS = frozenset({429, 500, 502, 503, 504})


def is_missing_key(response: Response) -> bool:
    """True only if S3 itself reports that this key is absent."""
    return response.status == 404 and response.error is not None and response.error.code == "NoSuchKey"


def is_missing_upload(response: Response) -> bool:
    """True if the upload does not exist any more: it was completed, or aborted."""
    return _code(response) == "NoSuchUpload"


def must_restart_upload(response: Response) -> bool:
    """True if all parts of the object must be uploaded again."""
    return response.status == 409 or _code(response) in ("ConditionalRequestConflict", "NoSuchUpload")


def is_conflict(response: Response) -> bool:
    """True if a precondition failed: 412, 409, or, for If-Match on an absent key, 404 NoSuchKey."""
    return response.status in (409, 412) or _code(response) in _LOST_RACES or is_missing_key(response)


def is_precondition_failed(response: Response) -> bool:
    """True if the server evaluated a precondition; a 409 may also mean that the bucket is busy."""
    return response.status == 412 or _code(response) in _LOST_RACES


def is_unsupported(response: Response) -> bool:
    """True if the server itself reports that it never supports the requested operation."""
    # 400 too, because servers reject headers and operations that they do not know as invalid.
    return response.status in (405, 501) or (response.status == 400 and _code(response) in _UNSUPPORTED_CODES)


def is_bare_404(response: Response) -> bool:
    """True for a 404 without an S3 error document, which may come from a proxy."""
    return response.status == 404 and (response.error is None or not response.error.code)


def is_forbidden(response: Response) -> bool:
    """True if S3 itself denies access; without s3:ListBucket it does so for absent keys too."""
    return response.status == 403 and response.error is not None and response.error.code == "AccessDenied"


def is_wrong_region(response: Response) -> bool:
    """True if the bucket is in another region; the response to a HEAD reports it by a header only."""
    if _class_of(response)[0] is WrongRegion:
        return True
    bodiless = response.error is not None and not response.error.code
    return response.status == 400 and bodiless and "x-amz-bucket-region" in response.headers


def region_of(response: Response) -> str:
    """The region that the response names, or an empty string."""
    return (response.error.region if response.error else "") or response.headers.get("x-amz-bucket-region", "")


def is_throttle(response: Response) -> bool:
    """True if the server throttles."""
    return _class_of(response)[0] is Throttled


def is_transient_code(code: str) -> bool:
    """True for error codes of transient failures."""
    return code in _RETRIED_CODES or _BY_CODE.get(code, (None,))[0] is Throttled


def is_retried(response: Response) -> bool:
    """True if a retry of the request may succeed."""
    code = _code(response)
    if code in _LOST_RACES:
        return False  # whatever the status: a completion sends its status before its result
    return response.status in _RETRIED_STATUS or code in _RETRIED_CODES or is_throttle(response)


def _code(response: Response) -> str:
    return response.error.code if response.error else ""


def _class_of(response: Response) -> tuple[type[StoreError], str]:
    code = _code(response)
    # The code is more specific than the status: servers use one status for several causes.
    if code in _BY_CODE:
        return _BY_CODE[code]
    return _BY_STATUS.get(response.status, (UnexpectedResponse, "see the code and the message"))


def where(request: Request) -> str:
    """`GetObject s3://bucket/key`, the start of every message."""
    return f"{request.operation} s3://{request.bucket}/{request.key}"


def error_of(request: Request, response: Response, attempts: int = 1) -> StoreError:
    """The error for a response."""
    cls, advice = _class_of(response)
    error = response.error
    document = "no S3 error document"
    if error and error.code:
        # Some proxies include the request's headers, and so its signature, in their error pages.
        document = f"{error.code}: {re.sub(_HIDDEN, '(not shown)', error.message)[:_LONGEST_MESSAGE]}"
    tries = f" after {attempts} attempts" if attempts > 1 else ""
    region = region_of(response)
    if cls is WrongRegion and region:
        advice = f"set region={region!r}"
    return cls(
        f"{where(request)} answered {response.status} ({document}){tries}; {advice}",
        bucket=request.bucket,
        key=request.key,
        status=response.status,
        code=error.code if error and error.code else None,
        request_id=response.headers.get("x-amz-request-id"),
        attempts=attempts,
    )


def version_mismatch_error(request: Request, response: Response, attempts: int = 1) -> Conflict:
    """The error if the server ignored `If-Match` and sent another version than the requested one."""
    return Conflict(
        f"{where(request)} answered {response.status}, but it sent version {response.headers.get('etag')} instead of "
        f"{request.headers.get('if-match')}; another writer was first; read again",
        bucket=request.bucket,
        key=request.key,
        status=response.status,
        request_id=response.headers.get("x-amz-request-id"),
        attempts=attempts,
    )


_LONGEST_MESSAGE = 1000
_HIDDEN = (
    r"(?is)AWS4-HMAC-SHA256[\s,]+Credential=.*?Signature=[0-9a-f]+"
    r"|Signature=[0-9a-f]{16,}|x-amz-security-token\s*[:=]\s*\S+"
)


def too_long(request: Request, nbytes: int | None = None) -> ObjectTooLarge:
    """The error for an object larger than the request's `max_bytes`."""
    has = "more" if nbytes is None else f"{nbytes:,} bytes, more"
    return ObjectTooLarge(
        f"{where(request)}: it has {has} than the expected maximum of {request.max_bytes:,} bytes",
        bucket=request.bucket,
        key=request.key,
    )


def unexpected(request: Request, response: Response, what: str) -> UnexpectedResponse:
    """The error for a response with a success status that is invalid for the request."""
    return UnexpectedResponse(
        f"{where(request)} answered {response.status}, but {what}",
        bucket=request.bucket,
        key=request.key,
        status=response.status,
        request_id=response.headers.get("x-amz-request-id"),
    )


def network_error(request: Request, cause: BaseException) -> NetworkError:
    """The error for a request without a usable response. Raise it `from` the cause."""
    return NetworkError(
        f"{where(request)}: {type(cause).__name__}: {cause}; check the endpoint and the network",
        bucket=request.bucket,
        key=request.key,
        code=type(cause).__name__,
    )


STALE = "StaleConnection"
"""Code of a NetworkError after which the request is sent again immediately, over a new connection."""


def stale_connection(request: Request, cause: BaseException) -> NetworkError:
    """The error for a request on an idle connection that the server has closed. Raise it `from` the cause."""
    error = network_error(request, cause)
    error.code = STALE
    return error


def attempt_timed_out(request: Request, seconds: float) -> DeadlineExceeded:
    """The error for an attempt that exceeded its timeout."""
    return DeadlineExceeded(
        f"{where(request)} had no complete response within {seconds:g} s; "
        "check the network, or raise S3Config.attempt_timeout",
        bucket=request.bucket,
        key=request.key,
        code="AttemptTimeout",
    )
