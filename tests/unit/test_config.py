"""The configuration: where values come from, which win, and that nothing wrong gets through."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from salt_exporter import config
from salt_exporter.collectors import ALL
from salt_exporter.config import COLLECTORS, Config, ConfigError, changed, declared, environment_name, load

if TYPE_CHECKING:
    from collections.abc import Mapping

# name → what is written, what it means; another value than the default for each setting.
GIVEN: dict[str, tuple[str, object]] = {
    "web.listen-address": ("127.0.0.1:14800,[::1]:14800", (("127.0.0.1", 14800), ("::1", 14800))),
    "web.telemetry-path": ("/salt/metrics", "/salt/metrics"),
    "web.config.file": ("/srv/web.yml", Path("/srv/web.yml")),
    "web.max-connections": ("7", 7),
    "log.level": ("debug", "debug"),
    "log.format": ("json", "json"),
    "salt.config-dir": ("/srv/salt", Path("/srv/salt")),
    "state.directory": ("/srv/state", Path("/srv/state")),
    "sampler.interval": ("250ms", 0.25),
    "presence.refresh": ("1m", 60.0),
    "presence.recent": ("1h", 3600.0),
    "presence.max-series": ("12", 12),
    "presence.all-minions": ("true", True),
    "presence.last-seen-all": ("true", True),
    "jobs.deadline": ("2m", 120.0),
    "jobs.deadlines": ("x.*=2m, [a-c]?=1h", (("x.*", 120.0), ("[a-c]?", 3600.0))),
    "jobs.max-functions": ("3", 3),
    "jobs.max-in-flight": ("4", 4),
    "journal.max-age": ("7d", 7 * 86400.0),
    "journal.max-rows": ("10", 10),
    "probe.publish": ("false", False),
    "probe.request": ("no", False),
    "probe.request-interval": ("30s", 30.0),
    "probe.request-timeout": ("2s", 2.0),
    "probe.event-bus": ("true", True),
}
SETTINGS = {item.metadata["name"]: item for item in declared()}


@pytest.fixture(autouse=True)
def default_file(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Put the default file, which this machine may have, where a test can write it."""
    path = tmp_path_factory.mktemp("etc") / "config.yml"
    monkeypatch.setattr(config, "DEFAULT_FILE", path)
    return path


def flags(*arguments: str) -> dict[str, object]:
    """Return what the command line's parser makes of arguments."""
    parser = argparse.ArgumentParser()
    config.add_flags(parser)
    return vars(parser.parse_args(arguments))


def load_file(path: Path, content: str, environ: Mapping[str, str] | None = None) -> Config:
    """Return the configuration of a YAML file with this content."""
    path.write_text(content)
    return load({"config.file": str(path)}, environ or {})


def field_of(loaded: Config, name: str) -> object:
    """Return the value of a setting."""
    return getattr(loaded, SETTINGS[name].name)


def test_nothing_given_means_the_defaults() -> None:
    """Without flags, variables and file every setting has its default and every collector is on."""
    assert Config() == load({}, {})
    assert frozenset(COLLECTORS) == Config().collectors


def test_every_setting_is_tried() -> None:
    """The table above names every declared setting with a value other than its default."""
    assert SETTINGS.keys() == GIVEN.keys()
    assert [] == [name for name, (_text, value) in GIVEN.items() if SETTINGS[name].default == value]


@pytest.mark.parametrize("name", GIVEN)
def test_setting_is_a_flag_a_variable_and_a_key(name: str, tmp_path: Path) -> None:
    """The same text gives the same value as flag, as environment variable, and as key of the file."""
    text, value = GIVEN[name]
    arguments = [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", text]

    assert value == field_of(load(flags(*arguments), {}), name)
    assert value == field_of(load({}, {environment_name(name): text}), name)
    assert value == field_of(load_file(tmp_path / "c.yml", json.dumps({name: text})), name)


def test_environment_variables_are_distinct() -> None:
    """No two settings share a variable, although dots and hyphens become the same letter."""
    names = [*SETTINGS, *(f"collector.{name}" for name in COLLECTORS), "config.file"]

    assert len(names) == len({environment_name(name) for name in names})
    assert environment_name("web.listen-address") == "SALT_EXPORTER_WEB_LISTEN_ADDRESS"


@pytest.mark.parametrize(
    ("flag", "variable", "key", "expected"),
    [
        (None, None, None, 1000),
        (None, None, 3, 3),
        (None, 2, 3, 2),
        (None, 2, None, 2),
        (1, 2, 3, 1),
        (1, None, 3, 1),
        (1, 2, None, 1),
    ],
)
def test_flag_wins_over_environment_over_file_over_default(
    flag: int | None, variable: int | None, key: int | None, expected: int, tmp_path: Path
) -> None:
    """Each source of a value hides those to its right, and only those."""
    arguments = [] if flag is None else ["--presence.max-series", str(flag)]
    environ = {} if variable is None else {"SALT_EXPORTER_PRESENCE_MAX_SERIES": str(variable)}
    file = tmp_path / "c.yml"
    file.write_text("" if key is None else f"presence.max-series: {key}")

    loaded = load(flags("--config.file", str(file), *arguments), environ)

    assert expected == loaded.presence_max_series


def test_config_is_frozen() -> None:
    """A configuration cannot be changed after it has been validated."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().log_level = "debug"  # type: ignore[misc] # that is the test


@pytest.mark.parametrize(
    "content",
    [
        "web: {telemetry-path: /m, max-connections: 9}",
        "web.telemetry-path: /m\nweb.max-connections: 9",
        "web: {telemetry-path: /m}\nweb.max-connections: 9",
    ],
)
def test_keys_nest_or_carry_dots(content: str, tmp_path: Path) -> None:
    """A key may be nested, written with dots, or both in one file."""
    loaded = load_file(tmp_path / "c.yml", content)

    assert ("/m", 9) == (loaded.web_telemetry_path, loaded.web_max_connections)


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n"])
def test_empty_file_means_the_defaults(content: str, tmp_path: Path) -> None:
    """A file without settings is fine, and the configuration knows where it came from."""
    path = tmp_path / "c.yml"

    assert dataclasses.replace(Config(), file=path) == load_file(path, content)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("web: {telemetry-paht: /m}", "web.telemetry-paht"),
        ("webb: {}\nlisten: 1", "listen"),
        ("log:", "log"),
        ("config: {file: x}", "config.file"),
        ("collector: {jobz: false}", "collector.jobz"),
        ("collector: false", "collector"),
        ("1: 2", "1"),
    ],
)
def test_unknown_key_is_an_error(content: str, named: str, tmp_path: Path) -> None:
    """A key that is no setting is refused by name, with the file it stands in."""
    with pytest.raises(ConfigError) as refusal:
        load_file(tmp_path / "c.yml", content)

    assert f"{tmp_path / 'c.yml'}: unknown setting {named}" == str(refusal.value)


def test_unknown_variable_is_an_error() -> None:
    """A variable with our prefix that is no setting is refused by name; other variables are not ours."""
    load({}, {"PATH": "/bin", "SALT_MASTER": "x"})
    with pytest.raises(ConfigError, match="SALT_EXPORTER_LOG_LEVLE is no setting"):
        load({}, {"SALT_EXPORTER_LOG_LEVLE": "debug"})


BAD = [
    ("web.listen-address", text)
    for text in ["", "4507", "localhost", "host:", "::1:4507", "[::1]", "a:65536", "a:-1", "a:1,", "[x]:1"]
]
BAD += [("web.telemetry-path", text) for text in ["", "/", "metrics", "/-/healthy", "/a b", "/é", "/a?b"]]
BAD += [("web.max-connections", text) for text in ["", "-1", "1.5", "many", "0", "1", "True"]]
BAD += [("log.level", text) for text in ["", "INFO", "warn", "trace"]]
BAD += [
    ("log.format", "text"),
    ("salt.config-dir", ""),
    ("presence.last-seen-all", "maybe"),
    ("jobs.max-functions", "x"),
    ("jobs.deadlines", "state.*"),
    ("jobs.deadlines", "state.*=soon"),
    ("jobs.deadlines", "=1m"),
    ("jobs.deadlines", "a b=1m"),
    ("journal.max-rows", "0"),
]
BAD += [
    ("sampler.interval", text) for text in ["", "0", "0s", "-1s", "5 s", "5x", "nan", "inf", "1e3", "400d", "9" * 400]
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_bad_value_is_an_error_that_names_its_origin(name: str, text: str, tmp_path: Path) -> None:
    """A value that makes no sense is refused, and the message says where it stands."""
    variable = environment_name(name)

    with pytest.raises(ConfigError, match=f"^environment variable {variable}: (expected|must)"):
        load({}, {variable: text})
    with pytest.raises(ConfigError, match=rf"^{tmp_path}/c\.yml: {name}: (expected|must)"):
        load_file(tmp_path / "c.yml", json.dumps({name: text}))
    with pytest.raises(ConfigError, match=f"^--{name}: (expected|must)"):
        load({name: text}, {})


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("value", ["null", "[]", "[[]]", "[1, 2]", "{}", "2026-11-22", ".nan", "!!binary aGk="])
def test_odd_yaml_value_is_refused(name: str, value: str, tmp_path: Path) -> None:
    """What YAML can hold but no setting can be is refused by name, or means that nothing is set."""
    content = f"{name}: {value}"
    if value == "{}":  # no key below it: nothing is set
        assert field_of(Config(), name) == field_of(load_file(tmp_path / "c.yml", content), name)
        return
    with pytest.raises(ConfigError, match=name):
        load_file(tmp_path / "c.yml", content)


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner, min_size=1),
    max_leaves=4,
)


@given(name=st.sampled_from(sorted(SETTINGS)), value=YAML_VALUES)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_is_taken_or_refused(name: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in the file ends in a valid configuration or in a ConfigError, never in another error."""
    monkeypatch.setattr(config, "_read", lambda _file: {name: value})
    try:
        loaded = load({"config.file": "c.yml"}, {})
    except ConfigError as refusal:
        assert name in str(refusal)  # noqa: PT017 - that there is an error is not the point
    else:
        kind = type(SETTINGS[name].default)
        assert type(field_of(loaded, name)) in ((kind, type(Path())) if kind is type(None) else (kind,))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("1d", 86400.0), ("1.5h", 5400.0), ("7", 7.0)],
)
def test_durations(text: str, seconds: float) -> None:
    """A duration has a unit, or is a number of seconds."""
    assert seconds == load({}, {"SALT_EXPORTER_JOBS_DEADLINE": text}).jobs_deadline


@pytest.mark.parametrize("number", ["7", "7.0", "0.5"])
def test_duration_may_be_a_number_in_the_file(number: str, tmp_path: Path) -> None:
    """A number of YAML is a number of seconds."""
    assert float(number) == load_file(tmp_path / "c.yml", f"jobs.deadline: {number}").jobs_deadline


@pytest.mark.parametrize(
    ("written", "addresses"),
    [
        ("127.0.0.1:4507", (("127.0.0.1", 4507),)),
        ("localhost:0", (("localhost", 0),)),
        (":4507", (("", 4507),)),
        ("[::1]:4507", (("::1", 4507),)),
        ("[fe80::1%br-lan.2]:4507", (("fe80::1%br-lan.2", 4507),)),
        ("[::ffff:10.0.0.1]:65535", (("::ffff:10.0.0.1", 65535),)),
        ("10.0.0.1:1, [::1]:2", (("10.0.0.1", 1), ("::1", 2))),
    ],
)
def test_listen_addresses(written: str, addresses: tuple[tuple[str, int], ...], tmp_path: Path) -> None:
    """Addresses are IPv4, names, IPv6 in brackets, or only a port; separated by commas or a list of YAML."""
    assert addresses == load(flags("--web.listen-address", written), {}).web_listen_address
    several = json.dumps({"web": {"listen-address": written.split(",")}})
    assert addresses == load_file(tmp_path / "c.yml", several).web_listen_address


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A relative path is meant from where the exporter was started; who asks about it later may stand elsewhere."""
    monkeypatch.chdir(tmp_path)

    loaded = load(flags("--salt.config-dir", "etc/salt"), {})

    assert tmp_path / "etc/salt" == loaded.salt_config_dir


@pytest.mark.parametrize("name", COLLECTORS)
def test_collector_can_be_switched_off(name: str, tmp_path: Path) -> None:
    """Each collector has a flag, a variable and a key that turn off this one and no other."""
    rest = frozenset(COLLECTORS) - {name}

    assert rest == load(flags(f"--no-collector.{name}"), {}).collectors
    assert rest == load({}, {f"SALT_EXPORTER_COLLECTOR_{name.upper()}": "no"}).collectors
    assert rest == load_file(tmp_path / "c.yml", f"collector: {{{name}: false}}").collectors


def test_collector_flag_wins_over_the_file(tmp_path: Path) -> None:
    """`--collector.jobs` turns on what the file has turned off."""
    file = tmp_path / "c.yml"
    file.write_text("collector.jobs: false")

    assert "jobs" in load(flags("--config.file", str(file), "--collector.jobs"), {}).collectors


def test_collector_switch_must_be_a_switch() -> None:
    """Anything but yes or no for a collector is refused."""
    with pytest.raises(ConfigError, match="SALT_EXPORTER_COLLECTOR_JOBS: expected true or false, got 'off'"):
        load({}, {"SALT_EXPORTER_COLLECTOR_JOBS": "off"})


def test_switches_are_the_collectors_there_are() -> None:
    """The names that can be switched are those of all collectors, in the same order."""
    assert COLLECTORS == tuple(collector.name for collector in ALL)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    """A file that was named must be there."""
    with pytest.raises(ConfigError, match=r"cannot read .*/none\.yml: .*No such file"):
        load({"config.file": str(tmp_path / "none.yml")}, {})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"web: [", "is no YAML"),
        (b"\tweb: x", "is no YAML"),
        (b"web: \xff", "cannot read"),
        (b"- a list", "must hold settings"),
        (b"just words", "must hold settings"),
        (b"!!python/object:os.system {}", "is no YAML"),
    ],
)
def test_bad_file_is_an_error(content: bytes, says: str, tmp_path: Path) -> None:
    """A file that is no YAML, or no mapping, is refused by name."""
    path = tmp_path / "c.yml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=says) as refusal:
        load({"config.file": str(path)}, {})

    assert str(path) in str(refusal.value)


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    """A file that cannot be read, here because it is a directory, is refused by name."""
    with pytest.raises(ConfigError, match=f"cannot read {tmp_path}"):
        load({}, {"SALT_EXPORTER_CONFIG_FILE": str(tmp_path)})


def test_default_file_is_read_if_it_is_there(default_file: Path) -> None:
    """Without a name the default file is used, and a flag names another one instead."""
    default_file.write_text("log.level: error")
    other = default_file.with_name("other.yml")
    other.write_text("log.level: debug")

    assert ("error", default_file) == (load({}, {}).log_level, load({}, {}).file)
    assert load({"config.file": str(other)}, {}).log_level == "debug"


def test_default_file_that_cannot_be_looked_at_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the system forbids to look for the default file, we do not go on as if there were none."""
    (tmp_path / "etc").touch()  # "Not a directory" comes the same way as "Permission denied"
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "etc/config.yml")

    with pytest.raises(ConfigError, match="cannot read"):
        load({}, {})


def test_changed_names_what_differs() -> None:
    """A reload can tell which settings are others than before."""
    before = Config()
    after = dataclasses.replace(before, log_level="debug", collectors=frozenset(COLLECTORS) - {"jobs", "keys"})

    assert ["log.level", "collector.jobs", "collector.keys"] == changed(before, after)
    assert [] == changed(before, Config())


@pytest.mark.parametrize("name", SETTINGS)
def test_shown_default_is_the_default(name: str) -> None:
    """What help and documentation show as default gives the default when written down."""
    item: Any = SETTINGS[name]

    assert item.default == field_of(load({}, {environment_name(name): item.metadata["shown"]}), name)
