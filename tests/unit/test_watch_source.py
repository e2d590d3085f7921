"""What the terminal view asks of a master: losses of the last hour, from the daemon's journal or its own eyes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from salt_exporter.config import Config
from salt_exporter.errors import SourceError
from salt_exporter.journal import Journal, Loss
from salt_exporter.master.events import JobNew
from salt_exporter.watch.recent import HOUR
from salt_exporter.watch.source import Master
from tests.unit.daemons import config_dir

if TYPE_CHECKING:
    from pathlib import Path

    from salt_exporter.watch.source import Path as MessagePath

JID = "20261122221138095125"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Return the settings of an exporter beside a master that is down."""
    folder = tmp_path_factory.mktemp("source")
    return Config(salt_config_dir=config_dir(folder), state_directory=folder / "state")


def lost(path: MessagePath) -> dict[str, int]:
    """Return how many responses were lost at each hop, those where some were."""
    return {stop.key: stop.lost for stop in path.view.stops if stop.lost}


def note(folder: Path, *losses: tuple[str, float]) -> None:
    """Write a daemon's journal: cause and age in seconds of each loss."""
    journal = Journal(folder, max_age=1e9, max_rows=1000)
    now = time.time()
    journal.record(Loss(JID, "web1", "test.ping", cause, "", now - age, now - age) for cause, age in losses)
    journal.close()


def test_losses_are_those_of_the_daemons_journal(settings: Config) -> None:
    """Where a daemon keeps a journal, what went missing before the view began is on the path, for an hour."""
    before = asyncio.run(Master(settings).path())
    note(settings.state_directory, ("not_connected", 10), ("publisher_drop", 3000), ("publisher_drop", 4000))

    path = asyncio.run(Master(settings).path())

    assert ({}, {"publish": 1, "publisher": 1}) == (lost(before), lost(path))
    assert path.since == pytest.approx(path.taken - HOUR, abs=10)
    assert before.since == pytest.approx(before.taken, abs=30)
    assert path.view.master.startswith("here, Salt ")


def test_losses_that_no_journal_has_are_those_seen(settings: Config) -> None:
    """Where no daemon writes one any more, what the view has seen itself counts, since it began."""
    master = Master(settings)
    ledger = master._world.activity.jobs
    ledger.published(JobNew(JID, "test.ping", tuple(f"web{number}" for number in range(20)), ()), None, now=0.0)
    master._world.closer.tick(1e6, time.time(), ())

    path = asyncio.run(master.path())

    assert sum(lost(path).values()) == 20
    assert path.since == pytest.approx(path.taken, abs=30)


def test_events_come_as_the_bus_delivers_them(settings: Config) -> None:
    """What the bus's thread delivers is handed over in order, with the places where some are missing."""
    master = Master(settings)
    master._world.intake.deliver([b"my/tag\n\n\x80", b"none"])
    master._world.intake.missing()

    assert [b"my/tag\n\n\x80", b"none", None] == [item.body for item in master.take(10)]
    assert (master.shed, master.problem) == (0, "not connected to the event bus yet")


def test_master_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Without a configuration there is nothing to watch."""
    with pytest.raises(SourceError, match=r"set --salt\.config-dir"):
        Master(Config(salt_config_dir=tmp_path, state_directory=tmp_path)).start()
