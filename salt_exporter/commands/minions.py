"""`salt-exporter minions`: presence by minion with its evidence, in the time of one look at files and sockets."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from salt_exporter.analysis.presence import NOT_PRESENT, STATES, address_text
from salt_exporter.errors import SourceError
from salt_exporter.kernel.sock_diag import tcp_sockets
from salt_exporter.master.ask import Memory
from salt_exporter.master.settings import SettingsSource
from salt_exporter.rollcall import RollCall
from salt_exporter.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from salt_exporter.analysis.presence import Presence, Verdict
    from salt_exporter.config import Config


def minions(config: Config, *, only_absent: bool, as_json: bool) -> int:
    """Print who is present; return 0, or 2 if it could not be found out."""
    try:
        presence = _presence(config)
    except SourceError as error:
        print(f"salt-exporter: {error}", file=sys.stderr)
        return 2
    chosen = presence.minions(*((NOT_PRESENT,) if only_absent else STATES))
    now = time.time()
    if as_json:
        print(json.dumps(plain(presence, chosen, now), indent=2))
        return 0
    width = max(map(len, chosen), default=0)
    for minion in chosen:
        verdict = presence.verdicts[minion]
        state = verdict.state.replace("_", " ")
        print(f"{minion:<{width}}  {state:<11}  {verdict.sentence(now)}")
    counts = presence.counts()
    print(
        f"{counts['present']} present, {counts['not_present']} not present, {counts['uncertain']} uncertain "
        f"of {len(presence.verdicts)} accepted minions",
        file=sys.stderr,
    )
    return 0


def _presence(config: Config) -> Presence:
    """Ask nothing but this: no bus has been read, so there are no signs of life. Raises SourceError."""
    settings = SettingsSource(config.salt_config_dir, Memory(config.state_directory / "settings.json"))
    sampler = Sampler(tcp_sockets, settings.ports, config.sampler_interval)
    return RollCall(settings, sampler, dict, config.presence_recent).presence()


def plain(presence: Presence, chosen: Iterable[str], now: float) -> dict[str, dict[str, Any]]:
    """Return these minions with state and evidence, as JSON shows them; `now` in Unix seconds."""
    return {minion: _plain(presence.verdicts[minion], now) for minion in chosen}


def _plain(verdict: Verdict, now: float) -> dict[str, Any]:
    return {
        "state": verdict.state,
        "evidence": verdict.sentence(now),
        "address": address_text(verdict.address) or None,
        "last_seen": verdict.last_seen,
    }
