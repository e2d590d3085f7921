"""`salt-exporter check`: one look at everything, as a report for a terminal."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from salt_exporter.analysis.presence import NOT_PRESENT, UNCERTAIN
from salt_exporter.analysis.sizing import recommended
from salt_exporter.commands.once import scrape_once
from salt_exporter.commands.path import Finding, path
from salt_exporter.errors import SourceError
from salt_exporter.journal import reader
from salt_exporter.master.options import OPTIONS, is_read
from salt_exporter.sampler import CHANNELS, PUBLISH, REQUEST
from salt_exporter.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.config import Config
    from salt_exporter.scrape import Scrape

_SHOWN: Final = 20  # minions listed before "and so many more"
_RECENT: Final = 3600.0  # seconds
_FINE, _FINDINGS, _BLIND = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` prints."""

    facts: dict[str, dict[str, Any]]  # section → name → value
    findings: list[Finding]
    blind: dict[str, str]  # collector → why it could not look


def check(config: Config, *, as_json: bool) -> int:
    """Print the report; return 0 if all is well, 1 with findings, 2 if something could not be looked at."""
    world = World(config)
    scrape = scrape_once(world)
    report = look(world, scrape)
    print(json.dumps(asdict(report), indent=2) if as_json else as_text(report))
    if report.blind:
        return _BLIND
    return _FINDINGS if report.findings else _FINE


def look(world: World, scrape: Scrape) -> Report:
    """Put together what the world shows now."""
    blind = {outcome.collector: outcome.problem for outcome in scrape.outcomes if outcome.samples is None}
    facts: dict[str, dict[str, Any]] = {}
    findings: list[Finding] = []
    for section in (_master, _minions, _settings, _losses):
        try:
            facts[section.__name__.strip("_")], found = section(world)
            findings += found
        except SourceError:
            continue  # the collector of the same name has said so; losses have none
    facts["path"], found = path(scrape)
    return Report(facts, findings + found, blind)


Section = tuple[dict[str, Any], list[Finding]]


def _master(world: World) -> Section:
    settings = world.settings.current()
    listeners = world.sampler.snapshot().listeners
    ports = {PUBLISH: settings.publish_port, REQUEST: settings.request_port}
    findings = [
        Finding("master", f"nothing listens on the {channel} port {ports[channel]}: is the salt-master running here?")
        for channel in CHANNELS
        if not listeners[channel]
    ]
    if settings.changed_since_start:
        findings.append(
            Finding(
                "master",
                "its configuration has changed since it was started: what is shown here is in force after a restart",
            )
        )
    facts = {
        "id": settings.id,
        "Salt": settings.version,
        "transport": settings.transport,
        "options resolved by": "its own Python" if settings.source == "master" else "the exporter's own Salt",
        "workers": ", ".join(f"{pool}: {workers}" for pool, workers in settings.pools.items()),
    }
    return facts, findings


def _minions(world: World) -> Section:
    keys = world.keys()
    presence = world.presence()
    now = time.time()
    facts: dict[str, Any] = {"accepted": len(keys.accepted), "pending": len(keys.pending)} | presence.counts()
    findings = []
    for state, word in ((NOT_PRESENT, "not present"), (UNCERTAIN, "uncertain")):
        minions = presence.minions(state)
        findings += [
            Finding("minions", f"{minion} is {word}: {presence.verdicts[minion].sentence(now)}")
            for minion in minions[:_SHOWN]
        ]
        if len(minions) > _SHOWN:
            findings.append(Finding("minions", f"{len(minions) - _SHOWN} more are {word} (salt-exporter minions)"))
    return facts, findings


def _settings(world: World) -> Section:
    settings = world.settings.current()
    minions = len(world.keys().accepted)
    advice = recommended(minions)
    facts = {}
    findings = []
    for option in OPTIONS:
        value = settings.options.get(option.name)
        if value is None:
            continue
        if option.name in advice:
            facts[option.name] = f"{value:.0f} (advised for {minions} minions: {advice[option.name]})"
            if value < advice[option.name]:
                findings.append(
                    Finding(
                        "settings", f"{option.name} is {value:.0f}: for {minions} minions set {advice[option.name]}"
                    )
                )
        if option.name in ("salt_event_pub_hwm", "event_publisher_pub_hwm") and not is_read(
            option, settings.version_info
        ):
            findings.append(
                Finding("settings", f"{option.name} is set but no part of Salt {settings.version} reads it: remove it")
            )
    findings += _accept_queue_limit(world)
    return facts, findings


def _losses(world: World) -> Section:
    """Tell about the last hour; where no daemon has kept a journal there is nothing to tell."""
    with reader(world.config.state_directory) as journal:
        counts = journal.counts(since=time.time() - _RECENT)
    causes = ", ".join(f"{number} {cause}" for cause, number in counts.items())
    facts: dict[str, Any] = {"responses missing in the last hour": sum(counts.values())} | counts
    said = f"{sum(counts.values())} responses missing in the last hour: {causes} (salt-exporter losses --since 1h)"
    return facts, [Finding("losses", said)] if counts else []


def _accept_queue_limit(world: World) -> Iterator[Finding]:
    wanted = int(world.settings.current().options["zmq_backlog"])
    limits = [item.accept_limit for listeners in world.sampler.snapshot().listeners.values() for item in listeners]
    if limits and min(limits) < wanted and world.settings.current().transport == "zeromq":
        yield Finding(
            "settings",
            f"zmq_backlog is {wanted} but the kernel holds only {min(limits)}: raise net.core.somaxconn, then restart "
            "the salt-master",
        )


def as_text(report: Report) -> str:
    """Write the report for a terminal."""
    lines = []
    for section, facts in report.facts.items():
        lines.append(section.upper())
        width = max(map(len, facts), default=0)
        lines += [f"  {name.replace('_', ' '):<{width}}  {_word(value)}" for name, value in facts.items()]
    lines.append("FINDINGS" if report.findings or report.blind else "FINDINGS: none")
    for why in dict.fromkeys(report.blind.values()):  # one cause often blinds several
        collectors = ", ".join(collector for collector, reason in report.blind.items() if reason == why)
        lines.append(f"  could not look at {collectors}: {why}")
    lines += [f"  {finding.about}: {finding.says}" for finding in report.findings]
    return "\n".join(lines)


def _word(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
