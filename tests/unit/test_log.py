"""Log lines: one each whatever a message holds, readable by machines, and counted."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salt_exporter import log

if TYPE_CHECKING:
    from collections.abc import Iterator

# Half of it what ends lines, moves cursors, needs quotes or is no text (`st.text` would all but leave that out).
ANY_TEXT = st.lists(st.characters() | st.sampled_from('\n\r\t\0\x1b\x7f\x85\x9b\u2028\u200e\udc80\\"= ')).map("".join)


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, *arguments: object, name: str = "salt_exporter.master.bus") -> logging.LogRecord:
    """Return a record as a logger makes it."""
    return logging.LogRecord(name, logging.WARNING, __file__, 1, message, arguments, None)


def logfmt(line: str) -> dict[str, str]:
    """Read a logfmt line; a value is bare or a JSON string."""
    pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^" ]*)(?: |$)', line)
    assert line == " ".join(f"{key}={value}" for key, value in pairs)
    return {key: json.loads(value) if value.startswith('"') else value for key, value in pairs}


def test_logfmt_line() -> None:
    """A line has time, level, component and message; only what needs quotes has them."""
    fields = logfmt(log.LogfmtFormatter().format(record("not %s", "connected")))

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", fields.pop("ts"))
    assert fields == {"level": "warning", "component": "master.bus", "msg": "not connected"}
    assert log.LogfmtFormatter().format(record("gone")).endswith(" level=warning component=master.bus msg=gone")


def test_json_line() -> None:
    """A line is a JSON object with the same fields."""
    fields = json.loads(log.JsonFormatter().format(record("not connected", name="tornado.access")))

    assert fields.keys() == {"ts", "level", "component", "msg"}
    assert (fields["component"], fields["msg"]) == ("tornado.access", "not connected")


@given(ANY_TEXT)
def test_any_message_is_one_logfmt_line(message: str) -> None:
    """Whatever a message holds, its line stays one, shows no control character, and gives it back."""
    line = log.LogfmtFormatter().format(record("%s", message))

    assert line.isprintable()
    assert message == logfmt(line)["msg"]


@given(ANY_TEXT)
def test_any_message_is_one_json_line(message: str) -> None:
    """The same for JSON."""
    line = log.JsonFormatter().format(record("%s", message))

    assert line.isprintable()
    assert message == json.loads(line)["msg"]


@pytest.mark.parametrize("formatter", [log.LogfmtFormatter(), log.JsonFormatter()])
def test_fields_stand_beside_the_message(formatter: logging.Formatter) -> None:
    """What a caller gives beside the message may be selected by; values are text, quoted where they must be."""
    entry = record("a response is missing")
    entry.__dict__["fields"] = {"jid": "1", "minion": 'we"b 1\n', "number": 5}
    line = formatter.format(entry)
    fields = json.loads(line) if line.startswith("{") else logfmt(line)

    assert {"jid": "1", "minion": 'we"b 1\n', "number": "5"} == {
        key: fields[key] for key in ("jid", "minion", "number")
    }
    assert "a response is missing" == fields["msg"]
    assert line.isprintable()


@pytest.mark.parametrize("formatter", [log.LogfmtFormatter(), log.JsonFormatter()])
def test_letters_of_other_languages_are_kept(formatter: logging.Formatter) -> None:
    """What can be read is not escaped."""
    assert "Größe 規模" in formatter.format(record("Größe 規模"))


@pytest.mark.parametrize("formatter", [log.LogfmtFormatter(), log.JsonFormatter()])
def test_traceback_is_on_the_same_line(formatter: logging.Formatter) -> None:
    """An exception's traceback is a field of the line, not lines below it."""
    try:
        raise KeyError("x")  # noqa: TRY301 - a traceback is needed
    except KeyError:
        failed = logging.LogRecord("a", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    line = formatter.format(failed)

    assert line.isprintable()
    assert "Traceback (most recent call last):" in line


def printed(monkeypatch: pytest.MonkeyPatch, level: str, log_format: str = "logfmt") -> io.StringIO:
    """Set logging up and return what it prints to."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    log.set_up(level, log_format)
    return stream


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_warnings_are_counted_at_every_level(level: str, shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The level decides what is printed; warnings and errors are counted also where it hides them."""
    stream = printed(monkeypatch, level)
    before = log.counted.counts.copy()

    logger = logging.getLogger("salt_exporter.test")
    for name in ("debug", "info", "warning", "error"):
        logger.log(logging.getLevelName(name.upper()), "a %s", name)

    assert shown == [logfmt(line)["level"] for line in stream.getvalue().splitlines()]
    assert log.counted.counts - before == {"warning": 1, "error": 1}


def test_critical_counts_as_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is worse than an error is counted with the errors: there are two counters."""
    printed(monkeypatch, "error")
    before = log.counted.counts.copy()
    logging.getLogger("asyncio").critical("the worst")

    assert log.counted.counts - before == {"error": 1}
    assert {*log.LEVELS} == {"warning", "error"}


def test_set_up_again_replaces_level_and_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reload every message is printed once, in the new format, and counted once."""
    printed(monkeypatch, "error")
    stream = printed(monkeypatch, "info", "json")
    before = log.counted.counts.copy()
    logging.getLogger("salt_exporter.test").warning("once")

    assert [json.loads(line)["msg"] for line in stream.getvalue().splitlines()] == ["once"]
    assert log.counted.counts - before == {"warning": 1}
