"""The master's options that decide about losses: which Salt line reads them, and with which default.

Read in the sources of Salt 3006.28, 3007.15 and 3008.3; a test searches those sources again for every row.
An option that a line does not read can be set there without any effect: the exporter says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

LINES: Final = (3006, 3007, 3008)
NEWEST: Final = LINES[-1]


@dataclass(frozen=True, slots=True)
class Option:
    """One option of the master; numbers and switches only."""

    name: str
    read_by: tuple[int, ...] = LINES
    # Defaults that live in the code that reads the option, where Salt's table of defaults has none.
    code_defaults: Mapping[int, float] = field(default_factory=dict)


def _everywhere(value: float) -> dict[int, float]:
    return dict.fromkeys(LINES, value)


OPTIONS: Final = (
    Option("pub_hwm"),
    # In no release of these lines is there a reader; both still stand in many masters' files.
    Option("salt_event_pub_hwm", read_by=()),
    Option("event_publisher_pub_hwm", read_by=()),
    Option("zmq_backlog"),
    Option("worker_threads"),
    # Set to nothing it is 0 (no limit): salt/config/__init__.py, apply_master_config.
    Option("ipc_write_buffer", read_by=(3006, 3008)),
    Option("publish_drain_timeout"),  # 3006: by the tcp transport only
    Option("pub_server_write_queue_size", read_by=(3008,), code_defaults={3008: 10000}),
    Option("zmq_heartbeat_ivl", read_by=(3006, 3008), code_defaults={3006: 10000, 3008: 10000}),
    Option("zmq_heartbeat_timeout", read_by=(3006, 3008), code_defaults={3006: 30000, 3008: 30000}),
    Option("reactor_worker_hwm"),
    Option("reactor_worker_threads"),
    Option("syndic_jid_forward_cache_hwm"),
    Option("event_return_queue"),
    Option("event_return_queue_max_seconds", code_defaults=_everywhere(0)),
    Option("max_open_files"),
    Option("max_event_size"),
    Option("timeout"),
    Option("gather_job_timeout"),
    Option("publish_timeout", code_defaults=_everywhere(30)),
    Option("loop_interval"),
    Option("publish_session"),
    Option("request_server_ttl"),
    Option("keep_jobs", read_by=(3006, 3007)),
    Option("keep_jobs_seconds"),
    Option("sock_pool_size", read_by=()),
    Option("job_cache"),
    Option("minion_data_cache"),
    Option("zmq_filtering"),
    Option("zmq_monitor"),
    Option("order_masters"),
    Option("presence_events", code_defaults=_everywhere(0)),
    Option("master_stats"),
    Option("auth_events"),
    Option("con_cache"),
)

OPTION: Final = {option.name: option for option in OPTIONS}


def line_of(version: tuple[int, ...]) -> int:
    """Return the line whose rows hold for a version: its own, or the nearest one we know."""
    return min(max(version[0] if version else NEWEST, LINES[0]), NEWEST)


def is_read(option: Option, version: tuple[int, ...]) -> bool:
    """Tell whether this Salt version reads the option at all."""
    return line_of(version) in option.read_by


def values(raw: Mapping[str, object], version: tuple[int, ...]) -> dict[str, float]:
    """Return the numbers in force: what is set or Salt's table gives, else the default in the code.

    Options that are neither set nor read have no value. Switches are 0 or 1.
    """
    line = line_of(version)
    found = {}
    for option in OPTIONS:
        value = raw.get(option.name)
        if isinstance(value, (bool, int, float)):
            found[option.name] = float(value)
        elif line in option.code_defaults:
            found[option.name] = float(option.code_defaults[line])
    return found
