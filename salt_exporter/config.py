"""The exporter's configuration: one declaration per setting, one frozen object at the end.

Each field of `Config` is at once a flag (`--web.listen-address`), an environment variable
(`SALT_EXPORTER_WEB_LISTEN_ADDRESS`), a key of the YAML file (`web: {listen-address: …}`) and a row in
docs/configuration.md. A flag wins over the environment, that over the file, that over the default.
Nothing else in the package reads `argv` or the environment.
"""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from dataclasses import Field

ENVIRONMENT_PREFIX: Final = "SALT_EXPORTER_"
DEFAULT_FILE: Final = Path("/etc/salt-exporter/config.yml")
COLLECTORS: Final = (
    "master",
    "keys",
    "presence",
    "connections",
    "publish",
    "request",
    "settings",
    "jobs",
    "eventbus",
    "processes",
    "workers",
    "probe",
    "exporter",
)

_LONG: Final = (("state.*", 3600.0), ("pkg.*", 3600.0), ("cmd.*", 600.0), ("test.ping", 30.0))
_LONGEST: Final = 365 * 86400.0  # seconds; the system's timers overflow some centuries later


class ConfigError(ValueError):
    """A setting that cannot be used; the message names it."""


def duration(text: object) -> float:
    """Read `5s`, `500ms`, `2m`, `1h` or a number of seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)", str(text))
    if not match:
        raise ValueError("expected a duration such as 5s, 500ms, 2m or 1h")
    seconds = float(match[1]) * {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    if not 0 < seconds <= _LONGEST:
        raise ValueError("must be longer than 0 and at most 365d")
    return seconds


def _deadlines(value: object) -> tuple[tuple[str, float], ...]:
    """Read `pattern=duration` pairs, a list or separated by commas; an empty text is none."""
    if value == []:
        raise ValueError("expected at least one pattern=duration, or an empty text")
    items = value if isinstance(value, (list, tuple)) else str(value).split(",")
    pairs = (str(item).strip().partition("=") for item in items if str(item).strip())
    return tuple((_pattern(pattern), duration(text)) for pattern, _, text in pairs)


def _pattern(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.*?\[\]!-]+", text):
        raise ValueError("expected pattern=duration such as state.*=1h")
    return text


def _count(text: object, least: int = 0) -> int:
    if isinstance(text, bool) or not re.fullmatch(r"\d+", str(text)) or int(str(text)) < least:
        raise ValueError(f"expected a whole number, {least} or more")
    return int(str(text))


def _switch(text: object) -> bool:
    if isinstance(text, bool):
        return text
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(text).lower() not in known:
        raise ValueError("expected true or false")
    return known[str(text).lower()]


@dataclass(frozen=True)
class Choice:
    """Reads one of a few words."""

    allowed: tuple[str, ...]

    def __call__(self, text: object) -> str:
        """Return the word. Raises ValueError."""
        if text not in self.allowed:
            raise ValueError(f"expected one of {', '.join(self.allowed)}")
        return str(text)


def _path(text: object) -> Path:
    if not isinstance(text, (str, os.PathLike)) or not str(text):
        raise ValueError("expected a path")
    return Path(text).absolute()  # the master's Python, which is asked about it, runs in another directory


def _optional_path(text: object) -> Path | None:
    return None if text == "none" else _path(text)


def _url_path(text: object) -> str:
    if not re.fullmatch(r"/[A-Za-z0-9_./-]+", str(text)) or str(text).startswith("/-/"):
        raise ValueError("expected a path such as /metrics")
    return str(text)


def _addresses(value: object) -> tuple[tuple[str, int], ...]:
    """Read one `host:port`, or several: a list, or separated by commas. An empty host means all interfaces."""
    items = value if isinstance(value, (list, tuple)) else str(value).split(",")
    if not items:
        raise ValueError("expected at least one address")
    return tuple(_address(str(item)) for item in items)


def _address(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^:\[\]]*)):(\d{1,5})", text.strip())
    if not match or int(match[3]) > 65535:
        raise ValueError(f"expected host:port, [IPv6]:port or :port, not {text!r}")
    return match[1] or match[2] or "", int(match[3])


def setting(name: str, default: Any, parse: Callable[[Any], Any], help: str, shown: str = "") -> Any:  # noqa: A002, ANN401
    """Declare a setting; `shown` is how the default is written where `str()` does not say it."""
    return field(default=default, metadata={"name": name, "parse": parse, "help": help, "shown": shown or str(default)})


@dataclass(frozen=True)
class Config:
    """Every setting, validated."""

    web_listen_address: tuple[tuple[str, int], ...] = setting(
        "web.listen-address",
        (("", 4507),),
        _addresses,
        "Addresses to serve HTTP on, separated by commas; `:4507` is every interface.",
        shown=":4507",
    )
    web_telemetry_path: str = setting("web.telemetry-path", "/metrics", _url_path, "Path of the metrics.")
    web_config_file: Path | None = setting(
        "web.config.file",
        None,
        _optional_path,
        "Web configuration file in the format that Prometheus exporters share (exporter-toolkit): TLS, client "
        "certificates, users, headers. It is followed while running.",
        shown="none",
    )
    web_max_connections: int = setting(
        "web.max-connections",
        128,
        partial(_count, least=2),
        "HTTP connections open at once; one address may hold half of them.",
    )
    log_level: str = setting(
        "log.level", "info", Choice(("debug", "info", "warning", "error")), "Least severe messages to log."
    )
    log_format: str = setting(
        "log.format", "logfmt", Choice(("logfmt", "json")), "Format of log lines on standard error."
    )
    salt_config_dir: Path = setting(
        "salt.config-dir", Path("/etc/salt"), _path, "Config dir of the salt-master, as in `salt-master -c`."
    )
    state_directory: Path = setting(
        "state.directory",
        Path("/var/lib/salt-exporter"),
        _path,
        "Where the exporter keeps the loss journal, and what makes its next start faster; made if it can be. If not, "
        "the journal is kept in memory.",
    )
    sampler_interval: float = setting(
        "sampler.interval", 5.0, duration, "How often the kernel is asked for the connections of 4505 and 4506.", "5s"
    )
    presence_refresh: float = setting(
        "presence.refresh",
        10.0,
        duration,
        "How often keys, cached grains and the master's configuration are looked at for changes.",
        "10s",
    )
    presence_recent: float = setting(
        "presence.recent",
        300.0,
        duration,
        "How long a sign of life on the event bus proves a minion present whose address cannot (NAT, shared address).",
        "5m",
    )
    presence_max_series: int = setting(
        "presence.max-series",
        1000,
        _count,
        "Absent minions exported with a series of their own; the rest is only counted.",
    )
    presence_all_minions: bool = setting(
        "presence.all-minions",
        default=False,
        parse=_switch,
        help="Export whether it is absent for every accepted minion, 0 for those that are not: one series each, "
        "without bound. Of use where several masters do not know the same minions.",
        shown="false",
    )
    presence_last_seen_all: bool = setting(
        "presence.last-seen-all",
        default=False,
        parse=_switch,
        help="Export the last sign of life of every minion, not only of absent ones.",
        shown="false",
    )
    jobs_deadline: float = setting(
        "jobs.deadline",
        60.0,
        duration,
        "How long after its publication a job is closed with what has returned; a find_job answer that says it still "
        "runs prolongs it.",
        "1m",
    )
    jobs_deadlines: tuple[tuple[str, float], ...] = setting(
        "jobs.deadlines",
        _LONG,
        _deadlines,
        "The same for functions that take longer or shorter, `pattern=duration` separated by commas; the first pattern "
        "of the shell that matches decides.",
        shown="state.*=1h,pkg.*=1h,cmd.*=10m,test.ping=30s",
    )
    jobs_max_functions: int = setting(
        "jobs.max-functions", 50, _count, "Functions with label values of their own; later ones are counted as `other`."
    )
    jobs_max_in_flight: int = setting(
        "jobs.max-in-flight", 10_000, _count, "Jobs followed at once; beyond it the oldest are closed as unknown."
    )
    journal_max_age: float = setting(
        "journal.max-age", 30 * 86400.0, duration, "How long the loss journal keeps a missing response.", "30d"
    )
    journal_max_rows: int = setting(
        "journal.max-rows",
        200_000,
        partial(_count, least=1),
        "Missing responses that the loss journal keeps, about 360 bytes each; beyond it the oldest are dropped.",
    )
    probe_publish: bool = setting(
        "probe.publish",
        default=True,
        parse=_switch,
        help="Subscribe to the publish port to count and size what the master publishes; without it nothing is known "
        "about its queues and drops.",
        shown="true",
    )
    probe_request: bool = setting(
        "probe.request",
        default=True,
        parse=_switch,
        help="Send the master a harmless request (the clear `ping`) now and then, to time router, queue and workers.",
        shown="true",
    )
    probe_request_interval: float = setting(
        "probe.request-interval",
        15.0,
        duration,
        "How often; after a request that was not answered in time the pause doubles up to 2 minutes.",
        "15s",
    )
    probe_request_timeout: float = setting(
        "probe.request-timeout",
        5.0,
        duration,
        "How long an answer may take until the request probe has failed.",
        "5s",
    )
    probe_event_bus: bool = setting(
        "probe.event-bus",
        default=False,
        parse=_switch,
        help="Every 15 seconds put an event of the exporter's own (`salt-exporter/probe/…`) on the master's event bus "
        "and time its way to all readers; reactors and event returners see it too.",
        shown="false",
    )
    collectors: frozenset[str] = frozenset(COLLECTORS)
    file: Path | None = None


def declared() -> Iterator[Field[Any]]:
    """Yield the fields that are settings, in order; `metadata` holds name, parse, help and shown."""
    yield from (item for item in fields(Config) if "name" in item.metadata)


def environment_name(name: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + re.sub(r"[.-]", "_", name).upper()


def add_flags(parser: argparse._ActionsContainer) -> None:
    """Declare a flag for each setting. Unset flags stay out of the namespace."""
    parser.add_argument(
        "--config.file",
        dest="config.file",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help=f"YAML file with settings (default: {DEFAULT_FILE} if it is there)",
    )
    for item in declared():
        name = item.metadata["name"]
        help_text = f"{item.metadata['help']} (default: {item.metadata['shown']})".replace("%", "%%")
        if isinstance(item.default, bool):
            parser.add_argument(
                f"--{name}", dest=name, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=help_text
            )
        else:
            metavar = name.rpartition(".")[2].rpartition("-")[2].upper()
            parser.add_argument(f"--{name}", dest=name, metavar=metavar, default=argparse.SUPPRESS, help=help_text)
    for collector in COLLECTORS:
        parser.add_argument(
            f"--collector.{collector}",
            dest=f"collector.{collector}",
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
            help=f"Enable the {collector} collector (default: true)",
        )


def load(flags: Mapping[str, object], environ: Mapping[str, str]) -> Config:
    """Merge defaults, file, environment and flags (by setting name). Raises ConfigError."""
    file = _file(flags, environ)
    try:
        given = _flatten(_read(file)) if file else {}
    except RecursionError:  # an alias may stand within what it names
        raise ConfigError(f"{file} is nested without end") from None
    known = {item.metadata["name"]: item for item in declared()}
    switches = {f"collector.{name}": name for name in COLLECTORS}
    for name in sorted(given.keys() - known.keys() - switches.keys()):
        raise ConfigError(f"{file}: unknown setting {name}")
    origins = {name: f"{file}: {name}" for name in given}
    for name in (*known, *switches):
        variable = environment_name(name)
        if variable in environ:
            given[name], origins[name] = environ[variable], f"environment variable {variable}"
        if name in flags:
            given[name], origins[name] = flags[name], f"--{name}"
    _refuse_unknown_variables(environ, (*known, *switches, "config.file"))
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name in given:
            values[item.name] = _parse(item.metadata["parse"], given[name], origins[name])
    values["collectors"] = frozenset(
        collector
        for name, collector in switches.items()
        if name not in given or _parse(_switch, given[name], origins[name])
    )
    return Config(**values, file=file)


def changed(before: Config, after: Config) -> list[str]:
    """Return the names of the settings that differ."""
    names = [item.metadata["name"] for item in declared() if getattr(before, item.name) != getattr(after, item.name)]
    return names + [f"collector.{name}" for name in sorted(before.collectors ^ after.collectors)]


def _file(flags: Mapping[str, object], environ: Mapping[str, str]) -> Path | None:
    named = flags.get("config.file") or environ.get(environment_name("config.file"))
    if named:
        return Path(str(named))
    try:
        DEFAULT_FILE.stat()
    except FileNotFoundError:
        return None
    except OSError:  # it may be there: reading it says why it cannot be used
        pass
    return DEFAULT_FILE


def _read(file: Path) -> dict[str, Any]:
    import yaml  # noqa: PLC0415 - most commands have no file, and all are to be quick

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the latter two: odd dates, deep nesting
        raise ConfigError(f"{file} is no YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{file} must hold settings such as `web: {{listen-address: ':4507'}}`")
    return content


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn {web: {listen-address: x}} and {web.listen-address: x} into the latter."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _parse(parse: Callable[[object], Any], value: object, origin: str) -> Any:  # noqa: ANN401 - the type of the setting
    try:
        return parse(value)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{origin}: {error}, got {value!r}") from error


def _refuse_unknown_variables(environ: Mapping[str, str], names: Sequence[str]) -> None:
    allowed = {environment_name(name) for name in names}
    for variable in sorted(environ):
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in allowed:
            raise ConfigError(f"environment variable {variable} is no setting")
