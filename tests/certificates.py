"""A certificate authority of a test's own: a root, one below it, and a leaf for the names of a server."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
import ssl
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct

_DAY: Final = datetime.timedelta(days=1)


class _Issuer(Struct):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Authority:
    """Signs leaves through an intermediate authority; `root_file` is what a client trusts."""

    def __init__(self, directory: pathlib.Path, name: str = "test") -> None:
        self._directory = directory
        root = _signed(f"{name} root", None)
        self._middle = _signed(f"{name} intermediate", root)
        self.root_file = directory / f"{name}-root.pem"
        self.root_file.write_bytes(_pem(root.certificate))

    def server(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """The TLS context of a server with these names; `days` before now it has expired, where negative."""
        leaf = _signed(names[0], self._middle, names=names, days=days)
        file = self._directory / f"{len(list(self._directory.iterdir()))}-leaf.pem"
        key = leaf.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(key + _pem(leaf.certificate) + _pem(self._middle.certificate))
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(file)
        return context


def _signed(name: str, issuer: _Issuer | None, *, names: tuple[str, ...] = (), days: int = 30) -> _Issuer:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer is not None else key
    signed_by = issuer.certificate.subject if issuer is not None else subject
    now = datetime.datetime.now(datetime.UTC)
    is_authority = not names
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 40 * _DAY)
        .not_valid_after(now + days * _DAY)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(_usage(is_authority=is_authority), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_general(each) for each in names]), critical=False
        )
    return _Issuer(builder.sign(signer, hashes.SHA256()), key)


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
