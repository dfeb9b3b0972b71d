"""Conditional writes on S3: preconditions if the server supports them, and detection of our own write after a retry."""

from __future__ import annotations

from dataclasses import replace

from ..._types import Version, When
from ...config import S3Config
from ...errors import StoreError, Unsupported
from .capabilities import Capabilities, Capability
from .errors import error_of, is_bare_404, is_conflict, is_missing_key, is_unsupported, where
from .request import ErrorDocument, Request, Response
from .retry import RetryingTransport
from .write_ids import header_of, history_including, if_match, new_id, version_of, version_with_history, writes_of


class ConditionalWrites:
    """The conditional writes of one store."""

    __slots__ = ("_bare_404", "_capabilities", "_mode", "_transport")

    def __init__(self, transport: RetryingTransport, capabilities: Capabilities, config: S3Config) -> None:
        self._transport = transport
        self._capabilities = capabilities
        self._mode = config.conditional_writes
        self._bare_404 = config.accept_bare_404

    async def applies(self, capability: Capability, request: Request) -> bool:
        """True if the request is to be sent with its precondition, False if without.

        Raises:
            Unsupported: The server ignores preconditions, and the request must not be sent without: the option requires
                it, or it might delete what others have written.
        """
        if self._mode == "off":
            return False
        # "require" probes again in any case: it must not write while the answer is unknown.
        known = await self._capabilities.have(capability, request, now=self._mode == "require")
        if known:
            return True
        if self._mode == "require" or capability == "delete-match":
            raise self._unsupported(capability, request, known=known)
        if known is None:
            # Unknown, so send it: a server with conditional writes honours it, and others ignore it.
            self._capabilities.warn_refused(request.bucket)
            return True
        self._capabilities.warn_lacking(request.bucket)
        return False

    def _unsupported(self, capability: Capability, request: Request, *, known: bool | None) -> Unsupported:
        if known is None:
            refusal = self._capabilities.refusal
            why = f"it is not known whether this server has conditional writes ({capability}): {refusal}; "
            advice = "allow the probe, or set conditional_writes='off' and use a single writer"
        else:
            why = f"this server has no conditional writes ({capability}); "
            advice = "use a server that has them, or conditional_writes='off' and a single writer"
        return Unsupported(f"{where(request)}: {why}{advice}", bucket=request.bucket, key=request.key)

    async def has(self, capability: Capability, request: Request) -> bool:
        """True if the server has, or may have, the capability, and it is to be used."""
        return self._mode != "off" and await self._capabilities.have(capability, request) is not False

    async def completes_atomically(self) -> bool:
        """True if the precondition of a multipart upload is as reliable as that of a put, and is to be used."""
        return self._mode != "off" and await self._capabilities.completes_atomically()

    async def put(self, request: Request, when: When) -> Version:
        """Store with a precondition; if it fails, raise `Conflict`, and nothing has changed."""
        write = new_id()
        writes = history_including(write, when)
        condition = {"if-none-match": "*"} if when == "absent" else {"if-match": if_match(Version(when))}
        headers = {**request.headers, **condition, **header_of(writes)}
        conditional = replace(request, headers=headers)
        response, attempts = await self._transport.send(conditional)
        if response.ok:
            return version_with_history(response.headers["etag"], writes)
        if attempts > 1 and self.is_conflict(response):
            # An earlier attempt without a response may have been executed: then the conflict is with our own write.
            mine = await self.read_back(request, write)
            if mine is not None:
                return mine
        capability: Capability = "put-absent" if when == "absent" else "put-match"
        # Reached only after an inconclusive probe: the server itself now reports that it has no such precondition.
        if is_unsupported(response) and self._mode == "auto" and not self._capabilities.is_known(capability):
            return await self._put_without(request, capability)
        raise self.error(conditional, response, attempts)

    async def _put_without(self, request: Request, capability: Capability) -> Version:
        """Store without a precondition, which the server rejected, although the probe was inconclusive."""
        self._capabilities.lacks(capability)
        self._capabilities.warn_lacking(request.bucket)
        response, attempts = await self._transport.send(request)
        if not response.ok:
            raise error_of(request, response, attempts)
        return version_of(response.headers)

    async def delete(self, request: Request, version: Version) -> None:
        """Delete exactly this version; any other state raises `Conflict`."""
        conditional = replace(request, headers={**request.headers, "if-match": if_match(version)})
        response, attempts = await self._transport.send(conditional)
        if response.ok:
            return
        # An earlier attempt without a response may have deleted it; then the precondition fails now.
        if attempts > 1 and self.is_conflict(response) and await self._is_gone(request, response):
            return  # deleted, by an earlier attempt or by another writer
        raise self.error(conditional, response, attempts)

    async def read_back(self, request: Request, write: str) -> Version | None:
        """The version created by our write, if it was executed.

        Args:
            request: The write, with its payload.
            write: The id that it stored in the object's metadata.
        """
        head = Request("HeadObject", request.bucket, request.key, _payer(request))
        response, _ = await self._transport.send(head)
        if not response.ok:
            return None
        writes = writes_of(response.headers)
        if write in writes:
            # If others have written since, our version does not exist any more.
            return version_of(response.headers) if writes[0] == write else Version(f'"{write}"')
        return None if writes else await self._with_equal_bytes(request, response)

    async def _with_equal_bytes(self, request: Request, head: Response) -> Version | None:
        """If a proxy drops metadata, an object with equal bytes counts as our write."""
        mine = memoryview(request.payload or b"").cast("B")
        # Sizes first: most other objects are refused without a download.
        if int(head.headers["content-length"]) != len(mine):
            return None
        get = Request("GetObject", request.bucket, request.key, _payer(request))
        response, _ = await self._transport.send(get)
        if not response.ok or memoryview(response.body).cast("B") != mine:
            return None
        return version_of(response.headers)

    async def _is_gone(self, request: Request, response: Response) -> bool:
        # A 412 does not say whether the object is gone or another version; one byte of it does.
        if response.status != 404:
            headers = {**_payer(request), "range": "bytes=0-0"}
            response, _ = await self._transport.send(Request("GetObject", request.bucket, request.key, headers))
        return self._is_missing(response)

    def _is_missing(self, response: Response) -> bool:
        return is_missing_key(response) or (self._bare_404 and is_bare_404(response))

    def is_conflict(self, response: Response) -> bool:
        """True if a precondition failed, or may have failed."""
        return is_conflict(response) or self._is_missing(response)

    def error(self, request: Request, response: Response, attempts: int) -> StoreError:
        """The error for this response to a conditional request."""
        if self.is_conflict(response):
            return conflict_of(request, response, attempts)
        return error_of(request, response, attempts)


def conflict_of(request: Request, response: Response, attempts: int) -> StoreError:
    """The `Conflict` for this response to a conditional request."""
    # If-Match on an absent key is 404 on AWS and 412 elsewhere; both mean that the object was deleted.
    if response.status == 404:
        document = ErrorDocument("PreconditionFailed", "the key is absent")
        response = replace(response, status=412, error=document)
    return error_of(request, response, attempts)


def _payer(request: Request) -> dict[str, str]:
    payer = request.headers.get("x-amz-request-payer")
    return {} if payer is None else {"x-amz-request-payer": payer}
