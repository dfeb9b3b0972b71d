"""Map every exception of botocore, aiobotocore and aiohttp to a response or to one of our errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....errors import ConfigError, CredentialsExpired, CredentialsNotFound, StoreError
from ..errors import network_error, unexpected, where
from ..request import ErrorDocument, Request, Response

_NO_SOURCE = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or anonymous=True"


def response_or_raise(request: Request, error: Exception) -> Response:
    """The Response of an HTTP error; any other exception is raised as one of our errors."""
    from botocore.exceptions import ClientError, HTTPClientError

    if isinstance(error, ClientError) and error.operation_name == request.operation:
        return error_response(error.response)
    if isinstance(error, HTTPClientError):
        # It becomes the cause of our error, which users may pickle; it contains a signed request and unpicklable parts.
        error.request = error.response = None
        error.kwargs = {name: str(value) for name, value in error.kwargs.items()}
    mapped = _no_source(request, error) or _no_request(request, error) or _no_answer(request, error)
    raise mapped or error from (error if mapped else error.__cause__)


def error_response(response: Mapping[str, Any]) -> Response:
    """Convert an error response that botocore has parsed."""
    meta, error = response["ResponseMetadata"], response.get("Error", {})
    status = meta["HTTPStatusCode"]
    code = str(error.get("Code") or "")
    message, region, key = (str(error.get(name) or "") for name in ("Message", "Region", "Key"))
    # botocore uses the status as the code if the body has none; such a code does not come from S3.
    document = ErrorDocument("" if code == str(status) else code, message, region, key)
    return Response(status, meta["HTTPHeaders"], error=document)


def is_disconnect(error: Exception) -> bool:
    """True if the connection was closed before a byte of the response arrived."""
    from aiohttp import ClientOSError, ServerDisconnectedError
    from botocore import exceptions as sdk

    if not isinstance(error, sdk.ConnectionClosedError | sdk.EndpointConnectionError):
        return False
    cause = error.kwargs.get("error")
    # If a part of the head had arrived, aiohttp passes that part in place of a text.
    return isinstance(cause, ClientOSError | ConnectionResetError) or (
        isinstance(cause, ServerDisconnectedError) and isinstance(cause.message, str)
    )


def _no_source(request: Request, error: Exception) -> StoreError | None:
    found = _no_credentials(error)
    return None if found is None else _error(found[0], request, found[1])


def credentials_error(error: BaseException) -> StoreError | None:
    """The error for a failing source of credentials; None for errors of other kinds."""
    found = _no_credentials(error)
    return None if found is None else found[0](f"no credentials: {found[1]}")


def source_error(error: BaseException) -> StoreError:
    """The error for any exception that a source of credentials raised."""
    message = f"no credentials: their source failed ({type(error).__name__}: {error}); check it"
    return credentials_error(error) or CredentialsNotFound(message)


def _no_credentials(error: BaseException) -> tuple[type[StoreError], str] | None:
    from botocore import exceptions as sdk

    match error:
        case sdk.NoCredentialsError() | sdk.PartialCredentialsError():
            return CredentialsNotFound, f"{error}; {_NO_SOURCE}"
        case sdk.ProfileNotFound():
            return CredentialsNotFound, f"{error}; check the profile name and AWS_CONFIG_FILE"
        case sdk.UnauthorizedSSOTokenError() | sdk.SSOTokenLoadError() | sdk.TokenRetrievalError():
            return CredentialsExpired, f"{error}; log in again"
        case sdk.CredentialRetrievalError() | sdk.SSOError() | sdk.MetadataRetrievalError():
            return CredentialsNotFound, f"{error}; check the source of credentials"
        case sdk.ClientError():
            # Not our operation: STS or SSO refused to issue credentials.
            code = error.response.get("Error", {}).get("Code")
            return CredentialsNotFound, f"{error.operation_name} answered {code}; check the role and the profile"
        case RuntimeError() if "refreshed credentials are still expired" in str(error):
            return CredentialsExpired, f"{error} renew them"
    return None


def _error(cls: type[StoreError], request: Request, what: str) -> StoreError:
    return cls(f"{where(request)}: {what}", bucket=request.bucket, key=request.key)


def _no_request(request: Request, error: Exception) -> ConfigError | None:
    from botocore import exceptions as sdk

    match error:
        case sdk.ParamValidationError() | sdk.UnsupportedSignatureVersionError() | sdk.MissingDependencyException():
            return ConfigError(f"{where(request)}: {error}")
    return None


def _no_answer(request: Request, error: Exception) -> StoreError | None:
    from botocore import exceptions as sdk
    from botocore.parsers import ResponseParserError

    match error:
        case ResponseParserError():
            return unexpected(request, Response(200, {}), "its body is not an S3 document")
        case sdk.HTTPClientError() | sdk.ConnectionError() | OSError():
            return network_error(request, error)
        case sdk.BotoCoreError():
            return _error(StoreError, request, str(error))
        case _ if type(error).__module__.partition(".")[0] == "aiohttp":
            return network_error(request, error)
    return None
