"""Certificates of an authority that a test has made up."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

if TYPE_CHECKING:
    from pathlib import Path

NAMES = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))


class Authority:
    """Signs certificates and writes them, with their keys, to files below its folder."""

    def __init__(self, folder: Path, name: str = "Test CA", parent: Authority | None = None) -> None:
        """Make one that signs itself, or is signed by `parent`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        own = self._builder(self._name, 10, parent).public_key(self._key.public_key())
        own = own.add_extension(constraints, critical=True)
        self.file = folder / "ca.pem"
        self.file.write_bytes(own.sign((parent or self)._key, SHA256()).public_bytes(Encoding.PEM))

    def _builder(self, subject: x509.Name, days: float, issuer: Authority | None = None) -> x509.CertificateBuilder:
        end = datetime.now(timezone.utc) + timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name((issuer or self)._name)
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - timedelta(days=20))
            .not_valid_after(end)
        )

    def issue(self, name: str, *sans: x509.GeneralName, days: float = 10, password: bytes = b"") -> tuple[Path, Path]:
        """Write certificate and key of a name, valid for so many days from now; return their files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, days).public_key(key.public_key())
        builder = builder.add_extension(x509.SubjectAlternativeName(sans or NAMES), critical=False)
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_file.write_bytes(builder.sign(self._key, SHA256()).public_bytes(Encoding.PEM))
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return cert_file, key_file
