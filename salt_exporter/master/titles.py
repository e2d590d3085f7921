"""What the command line of a process says it is: Salt's titles, its programs, any other program. Pure.

Salt names its processes with `setproctitle` if that is installed: `<python> …/salt-master <arguments> <name>…`, where a
child keeps its parent's names in front (`appendproctitle`, salt/utils/process.py); EventPublisher of 3007 and 3008
drops all but its own (salt/channel/server.py). A process that was restarted may have another name than at first.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MAIN: Final = "main"
EVENT_PUBLISHER: Final = "event_publisher"
PUBLISHER: Final = "publisher"
REQUEST_MANAGER: Final = "request_manager"
REQUEST_ROUTER: Final = "request_router"
REQUEST_WORKER: Final = "request_worker"
JOB: Final = "job"
OTHER: Final = "other"

# What a title of Salt 3006, 3007 or 3008 ends in, at first or after a restart, and the role it tells.
_ENDINGS: Final = {
    MAIN: r"MainProcess",
    EVENT_PUBLISHER: r"EventPublisher",
    PUBLISHER: r"\S+\._publish_daemon",
    REQUEST_MANAGER: r"(?:ReqServer|RequestServer)(?:_ProcessManager)?",
    REQUEST_ROUTER: r"MWorkerQueue|PoolRouter|\S+\.zmq_device(?:_pooled)?",
    REQUEST_WORKER: r"MWorker(?:-\S+)?",
    "maintenance": r"Maintenance",
    "event_monitor": r"EventMonitor",
    "batch_manager": r"BatchManager",
    "fileserver_update": r"FileserverUpdate",
    "reactor": r"Reactor(?:-\S+)?|Engine\(salt\.loaded\.int\.engines\.reactor\)",
    "engine": r"Engine(?:\(.*\))?",
    "event_return": r"EventReturn",
    "connected_cache": r"ConnectedCache|CacheWorker(?:-\S+)?",
    JOB: r"(?:ProcessFunc|Schedule)\(.*\)",
}
ROLES: Final = (*_ENDINGS, OTHER)
_TITLE: Final = re.compile("(?:^|.* )(?:{})".format("|".join(f"(?P<{role}>{end})" for role, end in _ENDINGS.items())))

# `Engine(salt.loaded.int.engines.test)` is told from other engines, `ProcessFunc(state.orchestrate, …)` is not from
# other functions, whose number is not bounded.
_ENGINE: Final = re.compile(r"Engine\((?:\S*\.)?(\w+)\)")
_LAST_NAME: Final = re.compile(r"(?:^|.* )([A-Z][\w.]*?(?:-[A-Za-z][\w-]*?)?)(?:-[\d:]+|\(.*\))?")


def role_of(words: Sequence[str]) -> str:
    """Return the role that a command line tells, `other` if it tells none."""
    match = _TITLE.fullmatch(" ".join(words).strip())
    return match.lastgroup or OTHER if match else OTHER


def name_of(words: Sequence[str]) -> str:
    """Return a readable name for a command line, "" if it is empty: kernel threads and processes that have ended.

    The last name of a Salt master's title without its number, the program that a Python runs, else the program.
    """
    title = " ".join(words).strip()
    words = title.split()
    if not words:
        return ""
    if not PurePath(words[0]).name.startswith("python"):
        return PurePath(words[0]).name.rstrip(":")
    program = _python_program(words)
    return (_last_name(title) or program) if program == "salt-master" else program


def _python_program(words: Sequence[str]) -> str:
    for position, word in enumerate(words[1:], 1):
        if word == "-m" and position + 1 < len(words):
            return words[position + 1]
        if word == "-c":
            break
        if not word.startswith("-"):
            return PurePath(word).name
    return PurePath(words[0]).name


def _last_name(title: str) -> str:
    engine = _ENGINE.search(title)
    if engine and title.endswith(engine[0]):
        return f"Engine({engine[1]})"
    match = _LAST_NAME.fullmatch(title)
    return match[1] if match else ""
