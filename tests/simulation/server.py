"""A simulated S3 server: objects that survive restarts, and the credentials that it accepts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..servers.s3_messages import Request
from ..servers.s3_objects import Objects

BUCKET = "data"


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A complete response."""
    lines = [f"HTTP/1.1 {status} Simulated", *(f"{name.replace('_', '-')}: {text}" for name, text in headers.items())]
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def refusal(status: int, code: str, key: str = "") -> bytes:
    """A response with S3's `<Error>` document."""
    named = f"<Key>{key}</Key>" if key else ""
    text = f"<Error><Code>{code}</Code><Message>simulated</Message>{named}</Error>"
    return answer(status, text.encode(), content_type="application/xml")


@dataclass(eq=False)
class Server:
    """One simulated endpoint."""

    name: str
    host: str
    keys: frozenset[str]
    """Access key ids with all permissions; others may only read metadata."""
    port: int = 9000
    up: bool = True
    objects: Objects = field(default_factory=lambda: Objects((BUCKET,)))

    @property
    def url(self) -> str:
        """URL of the endpoint."""
        return f"http://{self.host}:{self.port}"

    def put(self, key: str, body: bytes) -> None:
        """Store an object directly, not through the network."""
        self.objects.answer(Request("PUT", BUCKET, key, {}, {}, body))

    def carry_out(self, request: Request, key_id: str) -> tuple[int, bytes]:
        """Carry the request out. Returns the status and the complete response."""
        if key_id not in self.keys and not (request.method == "GET" and request.key.endswith(".json")):
            return 403, refusal(403, "AccessDenied")
        response = self.objects.answer(request)
        return response.status, response.head + bytes(response.body)
