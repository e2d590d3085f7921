"""The web configuration file: its text → what it asks for, checked. Reads no certificate.

The format is that of prometheus/exporter-toolkit (docs/web-configuration.md), so that one file serves all exporters of
a host. What Python cannot do is refused with the place of the key, never left out in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from salt_exporter.config import ConfigError
from salt_exporter.web_config.tls import CIPHERS, CURVES, VERSIONS, TlsSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

# The response headers that the format allows; None means any value.
_HEADERS: Final[dict[str, tuple[str, ...] | None]] = {
    "Content-Security-Policy": None,
    "Strict-Transport-Security": None,
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": None,
}
# Their cost is 4 to 31; one more doubles the time.
_BCRYPT: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")


@dataclass(frozen=True, slots=True)
class WebConfig:
    """What a file asks for."""

    tls: TlsSettings | None = None
    headers: Mapping[str, str] = field(default_factory=dict)  # "" takes a header away
    users: Mapping[str, str] = field(default_factory=dict)  # name → bcrypt hash


def read(file: Path) -> WebConfig:
    """Return what a file asks for; relative paths in it start at its folder. Raises ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    try:
        return parse(text, file.parent)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def parse(text: str, folder: Path) -> WebConfig:
    """Return what the text asks for, relative paths starting at `folder`. Raises ConfigError."""
    from salt_exporter.web_config import strict_yaml  # noqa: PLC0415 - see there

    try:
        content = strict_yaml.load(text)
    except ValueError as error:
        raise ConfigError(f"no YAML: {error}") from error
    sections = _section(
        content,
        "",
        {
            "tls_server_config": partial(_tls, folder=folder),
            "http_server_config": _http,
            "basic_auth_users": _users,
        },
    )
    return WebConfig(
        tls=sections.get("tls_server_config"),
        headers=sections.get("http_server_config", {}),
        users=sections.get("basic_auth_users", {}),
    )


def _section(value: object, place: str, keys: Mapping[str, Callable[[object], Any]]) -> dict[str, Any]:
    """Return the values of a section by key, each as its parser reads it."""
    found = {}
    for key, item in _mapping(value, place).items():
        where = f"{place}.{key}" if place else str(key)
        if key not in keys:
            raise ConfigError(f"{where} is unknown here; there are {', '.join(keys)}")
        found[key] = _at(where, keys[key], item)
    return found


def _at(where: str, parse: Callable[[object], Any], value: object) -> Any:  # noqa: ANN401 - whatever the key holds
    try:
        return parse(value)
    except ConfigError:
        raise  # names its place
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _mapping(value: object, place: str) -> dict[Any, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{place or 'the file'} must hold keys and values")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("expected a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("expected a list")  # noqa: TRY004 - the caller knows of ValueErrors
    return tuple(_text(item) for item in value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")  # noqa: TRY004 - as above
    return value


def _one_of(value: object, names: Mapping[str, Any]) -> Any:  # noqa: ANN401 - what the name stands for
    if not isinstance(value, str) or value not in names:
        raise ValueError(f"{value!r} is none of {', '.join(names)}")
    return names[value]


def _all_of(value: object, names: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(_one_of(item, names) for item in _texts(value))


def _tls(value: object, folder: Path) -> TlsSettings | None:
    def path(text: object) -> Path:
        return folder / _text(text)

    place = "tls_server_config"
    given = _section(
        value,
        place,
        {
            "cert": _text,
            "cert_file": path,
            "key": _text,
            "key_file": path,
            "client_ca": _text,
            "client_ca_file": path,
            "client_auth_type": _text,
            "client_allowed_sans": _texts,
            "min_version": partial(_one_of, names=VERSIONS),
            "max_version": partial(_one_of, names=VERSIONS),
            "cipher_suites": partial(_all_of, names=CIPHERS),
            "prefer_server_cipher_suites": _switch,
            "curve_preferences": partial(_all_of, names=CURVES),
        },
    )
    return _at(place, lambda _value: TlsSettings(**given), value) if given else None


def _http(value: object) -> dict[str, str]:
    """Return the headers. `http2` says nothing to a server that speaks HTTP/1.1: clients then speak that, too."""
    place = "http_server_config"
    given = _section(value, place, {"http2": _switch, "headers": lambda headers: headers})
    names = {name: partial(_header, allowed=allowed) for name, allowed in _HEADERS.items()}
    return _section(given.get("headers"), f"{place}.headers", names)


def _header(value: object, allowed: tuple[str, ...] | None) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[ -~]*", value):
        raise ValueError("expected printable ASCII")
    if value and allowed and value not in allowed:
        raise ValueError(f"expected {' or '.join(allowed)}")
    return value


def _users(value: object) -> dict[str, str]:
    place = "basic_auth_users"
    users = _mapping(value, place)
    for name, secret in users.items():
        if not isinstance(name, str) or not name or ":" in name:
            raise ConfigError(
                f"{place}: {name!r} can be no user's name (a number needs quotes, a colon cannot be in it)"
            )
        if not isinstance(secret, str) or not _BCRYPT.fullmatch(secret):
            raise ConfigError(f"{place}.{name}: expected a bcrypt hash, as `htpasswd -nBC 10 {name}` prints it")
    return users
