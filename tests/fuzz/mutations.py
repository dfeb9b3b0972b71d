"""Mutations of seeds: bytes flipped, removed, repeated, spliced from another seed, and words with large numbers."""

from __future__ import annotations

import random

WORDS = [
    *(bytes([byte]) for byte in (0, 1, 0x7F, 0x80, 0xFF)),
    *((2**power - 1).to_bytes(size, order) for size, power in ((2, 16), (4, 31), (4, 32), (8, 63), (8, 64))
      for order in ("little", "big")),
]  # fmt: skip
TOKENS: dict[str, list[bytes]] = {
    "answers": [
        *(
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b" ",
            b"\t",
            b":",
            b";",
            b"~",
            b"^",
            b"!",
            b"\n----\n",
            b"\r\n\r\n",
            b"0\r\n\r\n",
        ),
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 C\r\n\r\n",
            b"HTTP/1.1 204 N\r\n",
            b"HTTP/1.1 304 N\r\n",
            b"HTTP/1.0 ",
        ),
        *(b"content-length: 0\r\n", b"content-length: {length}\r\n", b"transfer-encoding: chunked\r\n", b"chunked"),
        *(b"connection: close\r\n", b"etag: {etag}\r\n", b"{body}", b"{length}", b"{range}", b"{hex}\r\n", b"{tag}"),
    ],
    "sdk_answers": [
        *(b"\r\n", b"<Key>", b"</Key>", b"<Size>9</Size>", b"<Size>", b"<ETag>2</ETag>", b"<Key>root/k</Key>"),
        *(b"<IsTruncated>true</IsTruncated>", b"<NextContinuationToken>t</NextContinuationToken>", b"<UploadId/>"),
        *(b"<LastModified>99999-01-01T00:00:00Z</LastModified>", b"<CommonPrefixes/>", b"<Contents/>", b"<a><b/></a>"),
        *(b"<Prefix>root/b/</Prefix>", b"<Code>NoSuchKey</Code>", b"<Error>", b"</Error>", b"\xff", b"&#55296;"),
        *(b"transfer-encoding: chunked\r\n", b"etag: 1\r\n", b"content-length: 0\r\n", b"HTTP/1.1 204 N\r\n"),
        *(b"last-modified: never\r\n", b"x-amz-meta-a: \xe9\r\n", b"x-amz-expiration: x\r\n"),
    ],
    "documents": [
        *(b"null", b"true", b"NaN", b"-Infinity", b"1e400", b"0", b"-1", b"9" * 40, b'""', b"[]", b"{}", b"[" * 60),
        *(b'"zarr_format":3,', b'"node_type":"group",', b'"must_understand":false', b'"\\ud800"', b'"|O"', b'"r9"'),
        *(b'{"name":"sharding_indexed"}', b'{"name":"bytes"}', b'{"id":"pickle"}', b'"configuration":', b'"level":99'),
    ],
    "errors": [
        b"<Error>",
        b"</Error>",
        b"<Code>NoSuchKey</Code>",
        b"&a;",
        b"&#0;",
        b"<![CDATA[",
        b"]]>",
        b"9" * 30,
        b"/",
    ],
}


def mutated(seed: bytes, other: bytes, rng: random.Random, tokens: list[bytes]) -> bytes:
    """The seed after one to six changes; its first line, which names its kind, is kept."""
    name, newline, rest = seed.partition(b"\n") if b"\n" in seed[:40] else (b"", b"", seed)
    data = bytearray(rest)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        at = rng.randrange(min(len(data), rng.choice((8, 40, 10**9))) + 1)
        _change(data, at, other, rng, tokens)
    return name + newline + bytes(data)


def _change(data: bytearray, at: int, other: bytes, rng: random.Random, tokens: list[bytes]) -> None:
    match rng.randrange(8):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + 1] = rng.randbytes(1)
        case 2:
            word = rng.choice(WORDS)
            data[at : at + len(word)] = word
        case 3:
            del data[at:]
        case 4:
            del data[at : at + rng.randrange(1, 20)]
        case 5:
            data[at:at] = data[at : at + rng.randrange(1, 60)]
        case 6:
            start = rng.randrange(len(other) + 1)
            data[at : at + rng.randrange(20)] = other[start : start + rng.randrange(1, 80)]
        case _:
            data[at:at] = rng.choice(tokens) if tokens else rng.randbytes(rng.randrange(1, 9))
