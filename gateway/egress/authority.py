"""The certificate authority by which workers trust the gateway's end of a connection to a host that a
credential is added for.

Its key is made when it is first needed, and kept in memory only: workers never outlive their gateway, so
nothing is gained by keeping it, and what is on no disk is in no backup. Its certificates are for the listed
hosts and the names below them, by critical name constraints: a thief of the key could read no connection to
any other.

Guarantees: a worker trusts it only if a credential is added for it, and only for the hosts of its own
credentials; after a reload, processes that run keep their certificate, which the same key stands behind.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import ipaddress
import os
import pathlib
import secrets
import ssl
from typing import TYPE_CHECKING, Final

from gateway.telemetry.heavy import lazily

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import oid
else:
    x509 = lazily("cryptography.x509")
    hashes = lazily("cryptography.hazmat.primitives.hashes")
    serialization = lazily("cryptography.hazmat.primitives.serialization")
    ec = lazily("cryptography.hazmat.primitives.asymmetric.ec")
    oid = lazily("cryptography.x509.oid")

DIRECTORY: Final = "trust"
"""In the data directory: the files that workers read."""
VARIABLES: Final = (
    *("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"),
    *("REQUESTS_CA_BUNDLE", "PIP_CERT", "npm_config_cafile", "CARGO_HTTP_CAINFO"),
)
"""By which programs find the certificates to trust: OpenSSL (Python, Ruby, Go, uv), curl, git, Node,
requests, pip, npm (whose own setting holds before Node's), cargo.
"""
SYSTEM_FILES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_DAY: Final = datetime.timedelta(days=1)
AUTHORITY_DAYS: Final = 5 * 365
LEAF_DAYS: Final = 90
RENEW_DAYS: Final = 30
"""A leaf is made anew after so many days."""


class Authority:
    """Makes certificates: of itself for workers to trust, and of hosts for the gateway to show."""

    def __init__(self, directory: pathlib.Path) -> None:
        """`directory`: where files for workers are kept; nothing is written before `bundle`."""
        self._directory = directory
        self._is_cleared = False
        self._bundles: dict[tuple[str, ...], pathlib.Path] = {}
        self._servers: dict[str, tuple[datetime.datetime, ssl.SSLContext]] = {}

    @functools.cached_property
    def _key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @functools.cached_property
    def _leaf_key(self) -> ec.EllipticCurvePrivateKey:
        return ec.generate_private_key(ec.SECP256R1())

    @functools.cached_property
    def _name(self) -> x509.Name:
        common = f"agent-gateway credentials for hosts {secrets.token_hex(4)}"
        return x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, common)])

    def _clear(self) -> None:
        """Removes the files of earlier gateways: their key is gone."""
        if self._is_cleared:
            return
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path in self._directory.glob("*.pem"):
            path.unlink(missing_ok=True)
        self._is_cleared = True

    def bundle(self, hosts: tuple[str, ...]) -> pathlib.Path:
        """A file with the system's authorities and this one, for exactly these hosts. Raises OSError."""
        path = self._bundles.get(hosts)
        if path is None:
            self._clear()
            path = self._directory / f"{hashlib.sha256(repr(hosts).encode()).hexdigest()[:16]}.pem"
            partial = path.with_suffix(".partial")
            partial.write_bytes(system_authorities() + self.certificate(hosts))
            partial.chmod(0o644)
            partial.replace(path)
            self._bundles[hosts] = path
        return path

    def certificate(self, hosts: tuple[str, ...]) -> bytes:
        """Its own certificate, PEM, good for these hosts only."""
        now = datetime.datetime.now(datetime.UTC)
        constraints = x509.NameConstraints(
            permitted_subtrees=[x509.DNSName(host) for host in hosts],
            excluded_subtrees=[
                x509.IPAddress(ipaddress.ip_network(every)) for every in ("0.0.0.0/0", "::/0")
            ],
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + AUTHORITY_DAYS * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(constraints, critical=True)
            .add_extension(_usage(is_authority=True), critical=True)
            .add_extension(self._identifier, critical=False)
        )
        return _pem(builder.sign(self._key, hashes.SHA256()))

    def server(self, host: str) -> ssl.SSLContext:
        """The gateway's end of a connection to this host."""
        now = datetime.datetime.now(datetime.UTC)
        made_at, context = self._servers.get(host, (now, None))
        if context is None or now - made_at > RENEW_DAYS * _DAY:
            context = self._new_server(host)
            self._servers[host] = (now, context)
        return context

    def _new_server(self, host: str) -> ssl.SSLContext:
        key = self._leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        file = os.memfd_create("leaf")  # `load_cert_chain` wants a path; this one is memory
        try:
            os.write(file, key + self.leaf(host))
            context.load_cert_chain(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        return context

    def leaf(self, host: str) -> bytes:
        """The certificate of a host, PEM."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._name)
            .public_key(self._leaf_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + LEAF_DAYS * _DAY)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier),
                critical=False,
            )
        )
        return _pem(builder.sign(self._key, hashes.SHA256()))

    @property
    def _identifier(self) -> x509.SubjectKeyIdentifier:
        return x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())


def system_authorities() -> bytes:
    """The authorities that this machine trusts, PEM; those that `SSL_CERT_FILE` names go before."""
    default = ssl.get_default_verify_paths()
    for path in filter(None, (default.cafile, *SYSTEM_FILES)):
        try:
            return pathlib.Path(path).read_bytes().rstrip() + b"\n"
        except OSError:
            continue
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)
    return b"".join(ssl.DER_cert_to_PEM_cert(each).encode() for each in loaded)


def variables(bundle: pathlib.Path) -> dict[str, str]:
    """What tells a worker's programs to trust a bundle."""
    return dict.fromkeys(VARIABLES, str(bundle))


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


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
