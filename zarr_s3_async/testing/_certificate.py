"""A certificate authority for one server on this machine, and its certificate. Needs `cryptography`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_AUTHORITY = "zarr_s3_async local authority"
_PEM = serialization.Encoding.PEM
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Certificate(NamedTuple):
    """Paths of PEM files."""

    authority: Path
    """Certificate of the authority, which clients must trust."""
    chain: Path
    key: Path


def make_certificate(folder: Path, hosts: Sequence[str] = ("localhost",)) -> Certificate:
    """Write a new certificate authority, and a certificate for 127.0.0.1 and these names, valid for one day."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    issued_by = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1")), *map(x509.DNSName, hosts)])
    authority = (
        _begun(_AUTHORITY, authority_key, "key_cert_sign")
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    server = (
        _begun("localhost", server_key, "digital_signature")
        .add_extension(issued_by, critical=False)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return _written(folder, authority, server, server_key)


def _begun(subject: str, key: ec.EllipticCurvePrivateKey, usage: str) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    usages = {name: name == usage for name in _USAGES}
    return (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(_AUTHORITY))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(subject == _AUTHORITY, None), critical=True)
        .add_extension(x509.KeyUsage(**usages), critical=True)
    )


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _written(
    folder: Path, authority: x509.Certificate, server: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> Certificate:
    paths = Certificate(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    paths.authority.write_bytes(authority.public_bytes(_PEM))
    paths.chain.write_bytes(server.public_bytes(_PEM))
    paths.key.touch(mode=0o600)
    paths.key.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return paths
