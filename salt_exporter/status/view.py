"""What the page says, as plain values: a function of the situation and the query, without I/O.

Whatever came over the network goes through `shown`, so that no letter of it steers a terminal, turns the direction of
the text around or cannot be encoded; the template escapes what HTML takes for its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from salt_exporter.analysis.causes import EXPLANATIONS, Cause
from salt_exporter.analysis.presence import NOT_PRESENT, STATES, UNCERTAIN
from salt_exporter.collectors import settings
from salt_exporter.commands.losses import shown
from salt_exporter.commands.path import Values
from salt_exporter.scrape import Scrape
from salt_exporter.status.hops import HOPS, Hop, Queue
from salt_exporter.status.query import ROWS, Query
from salt_exporter.status.words import ago, instant, machine_instant, several

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from salt_exporter.analysis.presence import Presence
    from salt_exporter.status.gather import Situation

_JOBS: Final = 25  # incomplete jobs shown
_PORTS: Final = {"request": 4506, "publish": 4505}  # of a master that does not say otherwise
_PARTS: Final = {
    "master": "the master's settings",
    "scrape": "the queues on the path",
    "report": "the findings",
    "presence": "the minions",
    "recent": "the losses of the last hour",
    "jobs": "the jobs",
    "losses": "the missing responses",
}


class When(NamedTuple):
    """An instant: how long ago, as a clock shows it, and as a machine reads it."""

    ago: str
    clock: str
    machine: str


class Share(NamedTuple):
    """So many losses of one cause, and where they are listed."""

    cause: str
    number: str
    link: str
    means: str


class Stop(NamedTuple):
    """One hop as drawn; `state` is lost, alarm, blind or fine, and `says` has it in words."""

    key: str
    title: str
    role: str
    state: str
    says: str
    lost: int  # in the last hour
    queues: list[Queue]
    shares: list[Share]
    blind: list[str]


class MinionRow(NamedTuple):
    """A minion that may not be there."""

    minion: str
    link: str
    state: str
    seen: When | None
    evidence: str


class JobRow(NamedTuple):
    """A job whose responses are not all there."""

    jid: str
    link: str
    function: str
    published: When | None
    missing: str
    expected: str
    shares: list[Share]


class LossRow(NamedTuple):
    """A missing response."""

    closed: When | None
    minion: str
    minion_link: str
    function: str
    jid: str
    jid_link: str
    cause: str
    hop: str
    evidence: str
    recovered: When | None


class SettingRow(NamedTuple):
    """An option of the master, and what to do about it."""

    option: str
    value: str
    advised: str
    advice: str
    alarming: bool


class Pages(NamedTuple):
    """Where in a long list the rows shown stand; a link is "" where there is no such page."""

    says: str
    before: str
    after: str


class CauseRow(NamedTuple):
    """What a cause means, for those who do not know it by heart."""

    cause: str
    hop: str
    means: str
    advice: str


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the page; a part that is None could not be asked, `problems` says why."""

    query: Query
    taken: When | None
    master: str
    headline: str
    lost: bool
    foremost: Share | None  # the most frequent cause of the last hour
    minions_said: str
    problems: list[str]
    findings: list[str]
    stops: list[Stop]
    minions: list[MinionRow] | None
    minion_pages: Pages
    jobs: list[JobRow] | None
    losses: list[LossRow] | None
    loss_shares: list[Share]
    loss_pages: Pages
    settings: list[SettingRow]  # that there is something to say about
    other_settings: list[SettingRow]
    causes: list[CauseRow]
    state_choices: list[tuple[str, str]]  # value, words


def view(situation: Situation, query: Query) -> View:
    """Put the situation into words."""
    now = situation.taken
    ports = _ports(situation)
    titles = {cause.value: _title(hop, ports) for hop in HOPS for cause in hop.causes}
    stops = _stops(situation, query, ports)
    minions, minion_pages = _minions(situation.presence, query, now)
    losses, loss_pages = _losses(situation.losses, query, titles, now)
    rows = _settings(situation.scrape)
    return View(
        query=query,
        taken=_when(now, now),
        master=_master(situation),
        headline=_headline(situation.recent, stops),
        lost=bool(situation.recent),
        foremost=next(iter(_shares(situation.recent or {}, query)), None),
        minions_said=_said(situation.presence),
        problems=_problems(situation),
        findings=_findings(situation),
        stops=stops,
        minions=minions,
        minion_pages=minion_pages,
        jobs=None if situation.jobs is None else _jobs(situation.jobs["jobs"], query, now),
        losses=losses,
        loss_shares=_shares((situation.losses or {}).get("counts", {}), query),
        loss_pages=loss_pages,
        settings=[row for row in rows if row.advice],
        other_settings=[row for row in rows if not row.advice],
        causes=[
            CauseRow(cause.value, titles[cause.value], explanation.means, explanation.advice)
            for cause, explanation in EXPLANATIONS.items()
        ],
        state_choices=[
            ("", "not present or uncertain"),
            *((state, state.replace("_", " ")) for state in (NOT_PRESENT, UNCERTAIN, *STATES[:1])),
        ],
    )


def _ports(situation: Situation) -> Mapping[str, int]:
    master = situation.master
    return {"request": master.request_port, "publish": master.publish_port} if master else _PORTS


def _title(hop: Hop, ports: Mapping[str, int]) -> str:
    return hop.title.format_map(ports)


def _master(situation: Situation) -> str:
    master = situation.master
    return f"{shown(master.id)}, Salt {shown(master.version)}" if master else ""


def _headline(recent: Mapping[str, int] | None, stops: Sequence[Stop]) -> str:
    if recent is None:
        return "Whether responses went missing in the last hour cannot be said."
    total = sum(recent.values())
    if not total:
        return "No response went missing in the last hour."
    worst = sorted((stop for stop in stops if stop.lost), key=lambda stop: -stop.lost)
    where = ", ".join(f"{'all' if stop.lost == total else f'{stop.lost:,}'} at {stop.title}" for stop in worst)
    return f"{several(total, 'response')} went missing in the last hour: {where}."


def _said(presence: Presence | None) -> str:
    if presence is None:
        return "Who is there cannot be said."
    counts = presence.counts()
    said = ", ".join(f"{counts[state]:,} {state.replace('_', ' ')}" for state in STATES)
    return f"Of {several(sum(counts.values()), 'accepted minion')} {said}."


def _problems(situation: Situation) -> list[str]:
    """Name what could not be asked, and why; one reason often blinds several."""
    blinded: dict[str, list[str]] = {}
    for name, why in situation.problems.items():
        blinded.setdefault(why, []).append(_PARTS[name])
    for collector, why in _blind(situation.scrape).items():
        blinded.setdefault(why, []).append(f"the collector “{collector}”")
    return [f"Could not ask for {', '.join(names)}: {shown(why)}" for why, names in blinded.items()]


def _blind(scrape: Scrape | None) -> dict[str, str]:
    """Return why collectors could not look, by collector."""
    outcomes = scrape.outcomes if scrape else ()
    return {outcome.collector: outcome.problem for outcome in outcomes if outcome.samples is None}


def _findings(situation: Situation) -> list[str]:
    """Return what should be looked at; minions and losses have sections of their own."""
    findings = situation.report.findings if situation.report else ()
    return [shown(finding.says) for finding in findings if finding.about not in ("minions", "losses")]


def _stops(situation: Situation, query: Query, ports: Mapping[str, int]) -> list[Stop]:
    scrape = situation.scrape
    values = Values(scrape or Scrape(()))
    blind = _blind(scrape)
    if scrape is None:
        blind = {name: situation.problems.get("scrape", "not asked") for hop in HOPS for name in hop.collectors}
    return [_stop(hop, values, blind, situation.recent, query, ports) for hop in HOPS]


def _stop(
    hop: Hop,
    values: Values,
    blind: Mapping[str, str],
    recent: Mapping[str, int] | None,
    query: Query,
    ports: Mapping[str, int],
) -> Stop:
    queues = [queue._replace(name=shown(queue.name)) for queue in hop.queues(values)]
    shares = _shares({cause.value: (recent or {}).get(cause.value, 0) for cause in hop.causes}, query)
    lost = sum((recent or {}).get(cause.value, 0) for cause in hop.causes)
    why = dict.fromkeys(shown(blind[name]) for name in hop.collectors if name in blind)
    alarming = [queue for queue in queues if queue.alarming]
    if lost:
        state, says = "lost", f"{lost:,} lost in the last hour"
    elif alarming:
        state, says = "alarm", f"{alarming[0].name}: {alarming[0].value}"
    elif why:
        state, says = "blind", "cannot be seen"
    elif hop.causes and recent is not None:
        state, says = "fine", "nothing lost"
    elif queues:
        state, says = "fine", "all well"
    else:  # its collectors may be switched off
        state, says = "blind", "not looked at"
    return Stop(hop.key, _title(hop, ports), hop.role, state, says, lost, queues, shares, list(why))


def _shares(counts: Mapping[str, int], query: Query) -> list[Share]:
    # A cause of a later version's journal has no explanation here.
    known = {cause.value for cause in Cause}
    return [
        Share(
            shown(cause),
            f"{number:,}",
            Query(cause=cause, refresh=query.refresh).link("losses") if cause in known else "",
            EXPLANATIONS[Cause(cause)].means if cause in known else "",
        )
        for cause, number in counts.items()
    ]


def _minions(presence: Presence | None, query: Query, now: float) -> tuple[list[MinionRow] | None, Pages]:
    if presence is None:
        return None, Pages("", "", "")
    chosen = presence.minions(*((query.state,) if query.state else (NOT_PRESENT, UNCERTAIN)))
    part = query.search.casefold()
    found = [minion for minion in chosen if part in minion.casefold()]
    pages = _pages(len(found), query.page, lambda page: query.link("minions", page=page))
    rows = []
    for minion in found[(query.page - 1) * ROWS : query.page * ROWS]:
        verdict = presence.verdicts[minion]
        seen = None if verdict.last_seen is None else _when(verdict.last_seen, now)
        link = Query(minion=minion, refresh=query.refresh).link("losses")
        state = verdict.state.replace("_", " ")
        rows.append(MinionRow(shown(minion), link, state, seen, shown(verdict.sentence(now))))
    return rows, pages


def _pages(total: int, page: int, link: Callable[[int], str]) -> Pages:
    """Say which rows of `total` the page has; `link` gives the address of another page."""
    first, last = (page - 1) * ROWS + 1, min(page * ROWS, total)
    says = f"{first:,} to {last:,} of {total:,}" if first <= last else f"none of {total:,} on this page"
    before = min(page - 1, ceil(total / ROWS))
    return Pages(says if total else "none", link(before) if before else "", link(page + 1) if last < total else "")


def _jobs(jobs: Iterable[Mapping[str, Any]], query: Query, now: float) -> list[JobRow]:
    incomplete = sorted((job for job in jobs if job["causes"]), key=lambda job: -(job["published"] or 0.0))
    return [
        JobRow(
            shown(job["jid"]),
            Query(jid=job["jid"], refresh=query.refresh).link("losses"),
            shown(job["function"]),
            _when(job["published"], now),
            f"{job['missing']:,}",
            "unknown" if job["expected"] is None else f"{job['expected']:,}",
            _shares(job["causes"], query),
        )
        for job in incomplete[:_JOBS]
    ]


def _losses(
    losses: Mapping[str, Any] | None, query: Query, titles: Mapping[str, str], now: float
) -> tuple[list[LossRow] | None, Pages]:
    if losses is None:
        return None, Pages("", "", "")
    total = sum(losses["counts"].values())
    rows = [
        LossRow(
            _when(loss["closed"], now),
            shown(loss["minion"]),
            Query(minion=loss["minion"], refresh=query.refresh).link("losses"),
            shown(loss["function"]),
            shown(loss["jid"]),
            Query(jid=loss["jid"], refresh=query.refresh).link("losses"),
            shown(loss["cause"]),
            titles.get(loss["cause"], ""),
            shown(loss["evidence"]),
            _when(loss["recovered"], now),
        )
        for loss in losses["losses"][(query.losses - 1) * ROWS :]
    ]
    return rows, _pages(total, query.losses, lambda page: query.link("losses", losses=page))


def _settings(scrape: Scrape | None) -> list[SettingRow]:
    values = Values(scrape or Scrape(()))
    advised = values.by_label(settings.RECOMMENDED)
    effective = values.by_label(settings.EFFECTIVE)
    return [
        _setting(option, value, advised.get(option), read=bool(effective.get(option, 1)))
        for option, value in values.by_label(settings.VALUE).items()
    ]


def _setting(option: str, value: float, advised: float | None, *, read: bool) -> SettingRow:
    advice, alarming = "", False
    if not read:
        advice = "no effect: this Salt does not read it"
    elif advised is not None:
        alarming = value < advised
        advice = f"raise it to {advised:,.0f}" if alarming else "enough"
    shown_value = f"{value:,.0f}" if value == int(value) else f"{value:,}"
    return SettingRow(option, shown_value, "" if advised is None else f"{advised:,.0f}", advice, alarming)


def _when(seconds: float | None, now: float) -> When | None:
    clock = instant(seconds)
    return When(ago(now - seconds), clock, machine_instant(seconds)) if seconds is not None and clock else None
