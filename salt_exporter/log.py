"""Log lines as logfmt or JSON on standard error, and a count of them by level: every warning has a counter."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import Counter
from datetime import datetime, timezone
from typing import Final

LEVELS: Final = ("warning", "error")
_PLAIN: Final = re.compile(r"[^\s\"=\\]+")


def _fields(record: logging.LogRecord) -> dict[str, str]:
    found = {
        "ts": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "component": record.name.removeprefix("salt_exporter."),
        "msg": record.getMessage(),
    }
    # What a caller gives as `extra={"fields": {...}}`: values that whoever reads the log may want to select by.
    found |= {key: str(value) for key, value in getattr(record, "fields", {}).items()}
    if record.exc_info:
        found["traceback"] = logging.Formatter().formatException(record.exc_info)
    return found


def _json(value: str | dict[str, str]) -> str:
    """Write letters of all languages as they are; escape all where something could end a line or move a cursor."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value).replace("\x7f", "\\u007f")  # the one json leaves


class LogfmtFormatter(logging.Formatter):
    """`ts=… level=… component=… msg="…"`, one line each whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as one line."""
        return " ".join(
            f"{key}={value if value.isprintable() and _PLAIN.fullmatch(value) else _json(value)}"
            for key, value in _fields(record).items()
        )


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Write the record as one line."""
        return _json(_fields(record))


class CountingHandler(logging.Handler):
    """Counts the messages by level, also those below the level that is printed."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count one message."""
        self.counts["error" if record.levelno >= logging.ERROR else "warning"] += 1


# The log is the one thing that is global to a process, and so is its count.
counted: Final = CountingHandler()


def set_up(level: str, log_format: str) -> None:
    """Log to standard error from now on; may be called again after a reload."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else LogfmtFormatter())
    handler.setLevel(level.upper())
    logging.basicConfig(
        level=min(logging.WARNING, getattr(logging, level.upper())), handlers=[handler, counted], force=True
    )
