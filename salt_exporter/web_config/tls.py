"""`tls_server_config`: what it may say, and the TLS context that does as it says."""

from __future__ import annotations

import os
import ssl
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from salt_exporter.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
# Go's names of the suites it offers up to TLS 1.2 (crypto/tls CipherSuites) → OpenSSL's. Those of TLS 1.3 are always
# on, in Go as in Python.
CIPHERS: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
CURVES: Final = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}

_CLIENT_AUTH: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED: Final = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The section of the file; raises ValueError where its keys do not fit together."""

    cert: str = ""  # PEM, as key and client_ca
    cert_file: Path | None = None
    key: str = ""
    key_file: Path | None = None
    client_ca: str = ""
    client_ca_file: Path | None = None
    client_auth_type: str = "NoClientCert"
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    cipher_suites: tuple[str, ...] = ()  # OpenSSL's names, as the curves
    prefer_server_cipher_suites: bool = True
    curve_preferences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what contradicts itself, and what Python cannot do."""
        for name in ("cert", "key", "client_ca"):
            given = bool(getattr(self, name)) + bool(getattr(self, f"{name}_file"))
            if given > 1 or (not given and name != "client_ca"):
                raise ValueError(f"expected one of {name} and {name}_file, there are {given}")
        self._check_client_auth()
        if self.max_version < self.min_version:
            raise ValueError("max_version is before min_version")
        if len(self.curve_preferences) > 1 and not hasattr(ssl.SSLContext, "set_groups"):
            raise ValueError("curve_preferences: this Python can use one curve only")

    def _check_client_auth(self) -> None:
        kind = self.client_auth_type
        if kind in _UNVERIFIED:
            raise ValueError(f"client_auth_type: Python verifies what it asks for, so {kind} is none of {_known()}")
        if kind not in _CLIENT_AUTH:
            raise ValueError(f"client_auth_type: {kind!r} is none of {_known()}")
        has_ca = bool(self.client_ca or self.client_ca_file)
        if has_ca is (kind == "NoClientCert"):
            raise ValueError(f"client_auth_type {kind} with{'out' * (not has_ca)} client_ca_file makes no sense")
        if self.client_allowed_sans is not None and kind != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans takes client_auth_type RequireAndVerifyClientCert")

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that the section names."""
        return tuple(path for path in (self.cert_file, self.key_file, self.client_ca_file) if path)


def _known() -> str:
    return ", ".join(_CLIENT_AUTH)


def context_of(settings: TlsSettings) -> ssl.SSLContext:
    """Return a server's TLS context; reads the files. Raises ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = settings.min_version, settings.max_version
    context.options |= ssl.OP_NO_RENEGOTIATION  # a client could make us work for nothing, as often as it likes
    if not settings.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        _choose(context, settings)
    except (OSError, ValueError) as error:
        raise ConfigError(f"tls_server_config: this OpenSSL cannot use these suites or curves: {error}") from error
    _load_certificate(context, settings)
    _load_client_ca(context, settings)
    return context


def _choose(context: Any, settings: TlsSettings) -> None:  # noqa: ANN401 - an SSLContext; set_groups is of Python 3.15
    if settings.cipher_suites:
        context.set_ciphers(":".join(settings.cipher_suites))
    if hasattr(context, "set_groups") and settings.curve_preferences:
        context.set_groups(":".join(settings.curve_preferences))
    elif settings.curve_preferences:
        context.set_ecdh_curve(*settings.curve_preferences)


def _load_certificate(context: ssl.SSLContext, settings: TlsSettings) -> None:
    def no_password() -> bytes:  # else OpenSSL would ask on the terminal
        raise ValueError("the key is encrypted, and there is nobody to ask for its password")

    try:
        with ExitStack() as stack:
            cert = settings.cert_file or stack.enter_context(_in_memory(settings.cert))
            key = settings.key_file or stack.enter_context(_in_memory(settings.key))
            context.load_cert_chain(cert, key, no_password)
    except (OSError, ValueError) as error:  # OSError: also ssl.SSLError
        names = settings.cert_file or "cert", settings.key_file or "key"
        raise ConfigError("tls_server_config: cannot use {} with {}: {}".format(*names, error)) from error


@contextmanager
def _in_memory(text: str) -> Iterator[Path]:
    """Yield a file with this text that is on no disk: Python takes certificates and keys from files only."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, text.encode())
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _load_client_ca(context: ssl.SSLContext, settings: TlsSettings) -> None:
    context.verify_mode = _CLIENT_AUTH[settings.client_auth_type]
    if context.verify_mode == ssl.CERT_NONE:
        return
    # As in Go, what is in the file is trusted itself, an intermediate authority without its root too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(settings.client_ca_file, cadata=settings.client_ca or None)
    except (OSError, ValueError) as error:
        where = settings.client_ca_file or "client_ca"
        raise ConfigError(f"tls_server_config: cannot use {where}: {error}") from error


def admits(allowed_sans: frozenset[str] | None, certificate: Mapping[str, Any] | None) -> bool:
    """Tell whether a verified client certificate, as `getpeercert()` gives it, has one of the allowed names."""
    if allowed_sans is None:
        return True
    names = (certificate or {}).get("subjectAltName", ())
    return any(_name(kind, value) in allowed_sans for kind, value in names)


def _name(kind: str, value: str) -> str:
    """Return a subject alternative name as Go writes it: OpenSSL does not shorten IPv6 addresses."""
    return str(ip_address(value.strip())) if kind == "IP Address" else value
