"""What a ping and its answer say, whatever carries them, and where it goes. Pure."""

from __future__ import annotations

import logging
from typing import NamedTuple

_log = logging.getLogger(__name__)


class Router(NamedTuple):
    """Where the master takes requests, and how."""

    transport: str  # zeromq or tcp
    host: str
    port: int


def message(asked: float) -> dict[str, object]:
    """Return a ping (salt/master.py, `ClearFuncs.ping`) whose load, which the master sends back, carries `asked`."""
    # Without its version the master calls the load a bad one.
    return {"enc": "clear", "load": {"cmd": "ping", "asked": asked}, "version": 3}


def asked_of(load: object) -> float | None:
    """Return what the ping carried whose answer this is, None if it is something else, such as a refusal."""
    asked = load.get("asked") if isinstance(load, dict) else None
    if isinstance(asked, float):
        return asked
    _log.debug("the master answered a ping with %.80r", load)
    return None
