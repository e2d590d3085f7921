"""The table of options: which Salt line reads them is searched again in the sources of every installed line."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

import pytest

from salt_exporter.master.options import LINES, OPTION, OPTIONS, Option, is_read, line_of, values
from tests.unit.salts import SALTS, every_salt

if TYPE_CHECKING:
    from pathlib import Path

# Options whose name stands in the sources of a line that does not read them all the same: in which files, and why.
NOT_READ = {
    # Only by IPCMessagePublisher and IPCMessageSubscriber, and nothing in 3007 makes one of them: the event bus and
    # its clients are PublishServer and PublishClient of transport/tcp.py.
    (3007, "ipc_write_buffer"): {"transport/ipc.py"},
}


@cache
def sources(folder: Path) -> dict[str, str]:
    """Return the text of every source file of a Salt, but for the table of its options."""
    (root,) = folder.parent.glob("lib/python3*/site-packages/salt")
    files = {str(path.relative_to(root)): path for path in root.rglob("*.py")}
    return {name: path.read_text(errors="replace") for name, path in files.items() if name != "config/__init__.py"}


@cache
def readers(folder: Path) -> dict[str, set[str]]:
    """Return the files that hold an option's name as a string, by option."""
    pattern = re.compile(r"([\"'])(" + "|".join(OPTION) + r")\1")
    found: dict[str, set[str]] = {name: set() for name in OPTION}
    for file, text in sources(folder).items():
        for match in pattern.finditer(text):
            found[match[2]].add(file)
    return found


@every_salt
def test_lines_that_read_an_option_name_it(line: int, folder: Path) -> None:
    """For each row: the line reads the option exactly if its sources name it, known exceptions aside."""
    found = readers(folder)
    for name, files in NOT_READ.items():
        if name[0] == line:
            assert files == found[name[1]], f"the reason why {name} counts as not read must be looked at again"
            found = found | {name[1]: set()}

    wrong = {name: files for name, files in found.items() if bool(files) is not (line in OPTION[name].read_by)}
    assert {} == wrong


@pytest.mark.skipif("3007" not in SALTS, reason="no Salt 3007")
def test_ipc_publisher_of_3007_is_dead() -> None:
    """The exception above holds: outside of its own file nobody in 3007 makes the classes that read the option."""
    folder = SALTS["3007"]
    made = re.compile(r"ipc\.IPCMessage(?:Publisher|Subscriber)\(|ipc\.IPCClient\(")
    users = {file for file, text in sources(folder).items() if made.search(text)}

    # Salt's own event classes still offer it, but nothing makes those either.
    assert users <= {"utils/event.py", "transport/ipc.py"}
    starts = re.compile(r"(?<!class )\b(?:event\.)?(?:Async)?EventPublisher\(")
    assert set() == {file for file, text in sources(folder).items() if starts.search(text)}


@every_salt
def test_defaults_in_the_code_are_those_of_the_sources(line: int, folder: Path) -> None:
    """A default that Salt's table lacks stands where the option is read."""
    for option in OPTIONS:
        if line in option.code_defaults:
            pattern = re.compile(rf"[\"']{option.name}[\"'],\s*([\w.]+)")
            places = [(match[1], text) for text in sources(folder).values() for match in pattern.finditer(text)]
            assert {option.code_defaults[line]} == {_number(value, text) for value, text in places}, option.name


def _number(value: str, text: str) -> float:
    """Return the value of a literal, or of a constant of the same file."""
    if value in ("True", "False"):
        return float(value == "True")
    if re.fullmatch(r"[\d.]+", value):
        return float(value)
    constant = re.search(rf"^\s*{re.escape(value.rpartition('.')[2])} = (\d+)", text, re.MULTILINE)
    assert constant is not None, value
    return float(constant[1])


def test_names_are_unique() -> None:
    """Each option is one row."""
    assert len(OPTIONS) == len(OPTION)
    assert all(option.read_by == tuple(sorted(set(option.read_by))) for option in OPTIONS)
    assert all(set(option.code_defaults) <= set(option.read_by) <= set(LINES) for option in OPTIONS)


@pytest.mark.parametrize(
    ("version", "line"),
    [((3006, 28), 3006), ((3007, 15), 3007), ((3008, 3), 3008), ((3005, 1), 3006), ((3009, 0), 3008), ((), 3008)],
)
def test_unknown_versions_are_like_the_nearest(version: tuple[int, ...], line: int) -> None:
    """Older ones are like the oldest line of the table, newer ones and unreadable ones like the newest."""
    assert line == line_of(version)


@pytest.mark.parametrize(
    ("version", "expected"), [((3006, 28), True), ((3007, 15), False), ((3008, 3), True), ((3010, 0), True)]
)
def test_option_is_read_by_the_line_of_a_version(version: tuple[int, ...], expected: object) -> None:
    """3007 alone ignores the heartbeats."""
    assert expected is is_read(OPTION["zmq_heartbeat_ivl"], version)


def test_values_are_what_is_set_else_the_default_in_the_code() -> None:
    """What Salt gives wins; where it gives nothing, the line's own default; and else there is no value."""
    raw = {"pub_hwm": 5, "zmq_monitor": True, "auth_events": False, "timeout": 2.5, "publish_timeout": None, "other": 7}
    found = values(raw, (3006, 28))

    assert {"pub_hwm": 5.0, "zmq_monitor": 1.0, "auth_events": 0.0, "timeout": 2.5} == {
        name: found[name] for name in ("pub_hwm", "zmq_monitor", "auth_events", "timeout")
    }
    assert (30.0, 10_000.0) == (found["publish_timeout"], found["zmq_heartbeat_ivl"])
    assert not {"other", "salt_event_pub_hwm", "pub_server_write_queue_size"} & found.keys()
    assert all(isinstance(value, float) for value in found.values())


def test_an_option_that_is_set_but_not_read_has_its_value() -> None:
    """What somebody has set in vain is shown, for that is what he will look for."""
    assert 128_000.0 == values({"salt_event_pub_hwm": 128_000}, (3008, 3))["salt_event_pub_hwm"]
    assert 1.0 == values({"zmq_heartbeat_ivl": 1}, (3007, 15))["zmq_heartbeat_ivl"]
    assert "zmq_heartbeat_ivl" not in values({}, (3007, 15))


@pytest.mark.parametrize("value", ["1000", [1000], {"a": 1}])
def test_what_is_no_number_is_no_value(value: object) -> None:
    """A gauge cannot show text: the option is left out, or has the default in the code."""
    assert "pub_hwm" not in values({"pub_hwm": value}, (3008, 3))


def test_row_of_an_option_is_read_by_all_lines_unless_it_says_otherwise() -> None:
    """Most options are read everywhere."""
    assert LINES == Option("anything").read_by
