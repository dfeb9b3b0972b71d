"""`python -m tests.fuzz.make_corpus` writes the seeds of every target; inputs that fuzzing found (`found-*`) stay."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ..model.documents import stored
from ..model.test_fuzz import CORPUS as DOCUMENTS
from . import arguments, chunks, shards
from .targets import CORPUS

GOOD = "HTTP/1.1 200 OK\r\netag: {etag}\r\ncontent-length: {length}\r\n\r\n{body}"
PARTIAL = "HTTP/1.1 206 P\r\netag: {etag}\r\ncontent-range: {range}\r\ncontent-length: {length}\r\n\r\n{body}"
CHUNKED = (
    "HTTP/1.1 200 OK\r\netag: {etag}\r\ntransfer-encoding: chunked\r\n\r\n{hex};x=y\r\n{body}\r\n0\r\nt: 1\r\n\r\n"
)
ERROR = "<Error><Code>NoSuchKey</Code><Key>{tag}</Key></Error>"
MISSING = f"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n{len(ERROR):x}\r\n{ERROR}\r\n0\r\n\r\n"
ANSWERS = {
    "plain": ("GGG", [GOOD, GOOD, GOOD]),
    "split": ("GGR", ["~".join(GOOD), CHUNKED.replace("\r\n", "~\r~\n"), PARTIAL.replace(":", "~:~")]),
    "chunked": ("GSG", [CHUNKED, CHUNKED, CHUNKED.replace("{hex}", "1").replace("{body}", "<")]),
    "ranges": ("RRRR", [PARTIAL, GOOD, PARTIAL.replace("206 P", "200 OK"), PARTIAL.replace("{range}", "bytes 3-9/99")]),
    "sinks": ("SSSS", [GOOD, PARTIAL, MISSING, GOOD.replace("{length}", "999999")]),
    "glued": ("GGG", [GOOD + GOOD, GOOD + "~" + GOOD, GOOD]),
    "glued later": ("GHG", [GOOD + "~~~" + GOOD, GOOD, GOOD]),
    "glued just before": ("GGSG", [GOOD + "^" + GOOD, GOOD + "^" + GOOD, GOOD + "^" + MISSING, GOOD]),
    "head with a body": ("HGHG", [GOOD, GOOD, GOOD.replace("{body}", ""), GOOD]),
    "no content": ("DGDG", ["HTTP/1.1 204 N\r\ncontent-length: 3\r\n\r\n", GOOD, "HTTP/1.1 204 N\r\n\r\n~abc", GOOD]),
    "not modified": ("GGGG", ["HTTP/1.1 304 N\r\netag: 1\r\ncontent-length: 9\r\n\r\n", GOOD, MISSING, GOOD]),
    "interim": (
        "GPG",
        ["HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nlink: x\r\n\r\n" + GOOD, "HTTP/1.1 102 P\r\n\r\n" * 20, GOOD],
    ),
    "two lengths": (
        "GGGG",
        [
            GOOD.replace("etag", "content-length: 2\r\netag"),
            CHUNKED.replace("etag", "content-length: 2\r\netag"),
            GOOD,
            GOOD,
        ],
    ),
    "two ETags": ("GGGG", [GOOD.replace("etag", "etag: 1\r\netag"), GOOD, GOOD.replace("etag: {etag}\r\n", ""), GOOD]),
    "old": ("GGG", [GOOD.replace("1.1", "1.0"), GOOD.replace("etag", "connection: close\r\netag"), GOOD]),
    "hung up": ("GGGG", [GOOD[:-3] + "!", "!", CHUNKED[:-5] + "!", "HTTP/1.1 200!"]),
    "no length": (
        "GPGG",
        [
            GOOD.replace("content-length: {length}\r\n", "") + "!",
            GOOD.replace("{length}", "0").replace("{body}", ""),
            "HTTP/1.1 500 X\r\n\r\noops!",
            GOOD,
        ],
    ),
    "garbage": (
        "GGGG",
        ["\x15\x03\x01\x00\x02\x02\x50", "\r\n\r\n", "HTTP/1.1 101 S\r\nupgrade: x\r\n\r\n", "SSH-2.0\r\n"],
    ),
    "line ends": (
        "GGGG",
        [
            GOOD.replace("\r\n", "\n"),
            GOOD.replace("\r\n", "\r"),
            GOOD.replace(": ", " :"),
            GOOD.replace("etag", " etag"),
        ],
    ),
    "smuggled": (
        "GGGG",
        [
            CHUNKED.replace("chunked", "xchunked"),
            CHUNKED.replace("chunked", "gzip, chunked"),
            GOOD.replace("{length}", "+5"),
            GOOD.replace("{length}", "0x5"),
        ],
    ),
    "broken chunks": (
        "GGGG",
        [
            CHUNKED.replace("{hex}", "-1"),
            CHUNKED.replace("{hex}", "fffffffffffff"),
            CHUNKED.replace("t: 1", "no trailer"),
            CHUNKED.replace("0\r\n", "00000\r\n"),
        ],
    ),
    "short and long": (
        "GRSG",
        [GOOD.replace("{length}", "3"), PARTIAL.replace("{length}", "3"), GOOD.replace("{length}", "3"), GOOD],
    ),
    "puts": (
        "PPPP",
        [
            GOOD.replace("{length}", "0").replace("{body}", ""),
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<html>{tag}",
            MISSING,
            GOOD,
        ],
    ),
}

ERRORS = [
    b"<Error><Code>NoSuchKey</Code><Message>m</Message><Region>eu-west-1</Region></Error>",
    b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-8"?>\n<Error xmlns="x"><Code> NoSuchKey </Code><a><b/></a></Error>',
    b"<!DOCTYPE Error [<!ENTITY a 'NoSuchKey'>]><Error><Code>&a;</Code></Error>",
    b"<Error><Code>NoSuch<![CDATA[Key]]></Code><Code>Other</Code><!-- c --></Error>",
    b"<a><Error><Code>NoSuchKey</Code></Error></a>",
    b"bytes 0-9/10",
    b"bytes 18446744073709551615-0/*",
    b"120",
    b"Wed, 21 Oct 2015 07:28:00 GMT",
    b"Wednesday, 21-Oct-15 07:28:00 +9999",
]


HEAD = "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n{more}\r\n{body}"
LISTED = (
    "<Contents><Key>root/k</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>1</ETag><Size>6</Size>"
    "</Contents>"
)
SDK_ANSWERS = {
    "get": ("GetObject", "200 OK", 'etag: "1"\r\n', "stored"),
    "range": ("GetObject", "206 Partial", 'etag: "1"\r\ncontent-range: bytes 1-2/6\r\n', "to"),
    "missing": ("GetObject", "404 Not Found", "", "<Error><Code>NoSuchKey</Code><Key>root/k</Key></Error>"),
    "twice": ("GetObject", "403 Forbidden", "", "<Error><Code>AccessDenied</Code><Code>NoSuchKey</Code></Error>"),
    "put": ("PutObject", "200 OK", 'etag: "1"\r\n', ""),
    "put page": ("PutObject", "200 OK", 'etag: "1"\r\n', "<html>hello</html>"),
    "delete": ("DeleteObject", "204 No Content", "", ""),
    "deletes": (
        "DeleteObjects",
        "200 OK",
        "",
        "<R><Deleted><Key>root/k</Key></Deleted><Error><Key>root/l</Key><Code>AccessDenied</Code></Error></R>",
    ),
    "page": (
        "ListObjectsV2",
        "200 OK",
        "",
        f"<R><IsTruncated>false</IsTruncated>{LISTED}<CommonPrefixes><Prefix>root/a/</Prefix></CommonPrefixes></R>",
    ),
    "first page": (
        "ListObjectsV2",
        "200 OK",
        "",
        f"<R><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>{LISTED}</R>",
    ),
    "begun": ("CreateMultipartUpload", "200 OK", "", "<R><Bucket>data</Bucket><UploadId>1</UploadId></R>"),
    "part": ("UploadPart", "200 OK", 'etag: "1"\r\n', ""),
    "completed": ("CompleteMultipartUpload", "200 OK", "", "<R><ETag>1</ETag></R>"),
    "refused": ("CompleteMultipartUpload", "200 OK", "", "<Error><Code>InternalError</Code></Error>"),
    "aborted": ("AbortMultipartUpload", "204 No Content", "", ""),
}


def _sdk_answers() -> Iterator[tuple[str, bytes]]:
    for name, (operation, status, more, body) in SDK_ANSWERS.items():
        answer = HEAD.format(status=status, length=len(body), more=more, body=body)
        yield name, f"{operation}\n{answer}".encode()


def _script(kinds: str, answers: list[str]) -> bytes:
    return f"{kinds}\n".encode() + b"\n----\n".join(answer.encode("latin-1") for answer in answers)


def _chunks() -> Iterator[tuple[str, bytes]]:
    for name in chunks.CHAINS:
        yield name, f"{name}\n".encode() + bytes(chunks.line_of(name).encode(chunks.chunk_of(name)))


def _shards() -> Iterator[tuple[str, bytes]]:
    for name, codec in shards.CODECS.items():
        sparse = shards.VALUES.copy()
        sparse[:2, :3] = shards.FILL
        yield name, f"{name}\n".encode() + bytes(codec.encode(sparse))
    row = b"".join(number.to_bytes(4, "little") for number in range(6))
    for name, spans in {
        "shared": [(0, 24), (4, 24)] * 4,
        "disordered": [(48, 24), (24, 24), (0, 24), (0, 0)] * 2,
        "absent": [(2**64 - 1, 2**64 - 1)] * 8,
        "beyond": [(2**64 - 8, 24), (0, 2**63), (2**63, 2**63), (0, 24)] * 2,
    }.items():
        index = b"".join(word.to_bytes(8, "little") for span in spans for word in span)
        yield name, b"bare\n" + 3 * row + index


def _documents() -> Iterator[tuple[str, bytes]]:
    for number, files in enumerate(DOCUMENTS):
        for name, document in files.items():
            yield f"{number}{name}", f"{name}\n".encode() + _compact(stored(document))


def _compact(document: bytes) -> bytes:
    return json.dumps(json.loads(document), separators=(",", ":")).encode()


def main() -> None:
    """Write the seeds of all targets."""
    made = {
        "answers": [(name, _script(kinds, answers)) for name, (kinds, answers) in ANSWERS.items()],
        "chunks": list(_chunks()),
        "shards": list(_shards()),
        "documents": list(_documents()),
        "errors": [(f"{number}", body) for number, body in enumerate(ERRORS)],
        "sdk_answers": list(_sdk_answers()),
        "arguments": [(name, f"{name}\n".encode() + bytes(range(24))) for name in arguments.METHODS],
    }
    for target, seeds in made.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed-*"):
            old.unlink()
        for name, data in seeds:
            (folder / f"seed-{name.replace(' ', '-').replace('/', '-')}").write_bytes(data)


if __name__ == "__main__":
    main()
