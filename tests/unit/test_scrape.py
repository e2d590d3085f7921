"""The scraper: what a collector does wrong stays with that collector."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from salt_exporter.collectors import exporter
from salt_exporter.errors import SourceError
from salt_exporter.metric import Metric, Sample, gauge
from salt_exporter.scrape import Outcome, Scrape, Scraper, SingleFlight
from tests.unit.tools import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.unit.conftest import MakeCollector

SOON = 0.05  # seconds a scrape may take that is to fail
PLENTY = 10.0  # and one that is not


class Hanging:
    """A collector's work that hangs until it is let go, and counts how often it was begun."""

    def __init__(self, sample: Sample) -> None:
        self.begun = 0
        self.released = threading.Event()
        self._sample = sample

    def __call__(self) -> list[Sample]:
        """Hang, then answer with the number of the run."""
        self.begun += 1
        run = self.begun
        self.released.wait(PLENTY)
        return [Sample(self._sample.metric, (), float(run))]


@pytest.fixture
def hanging(number: Metric) -> Iterator[Hanging]:
    """Return work that hangs; it is let go when the test ends."""
    work = Hanging(number(0))
    yield work
    work.released.set()


def scrape_once(scraper: Scraper, timeout: float = PLENTY) -> Scrape:
    """Scrape in an event loop of its own."""
    return asyncio.run(scraper.scrape(timeout))


def values(scrape: Scrape, metric: Metric) -> dict[tuple[str, ...], object]:
    """Return the values of one family by label values."""
    return {sample.labels: sample.value for sample in scrape.samples() if sample.metric is metric}


def success(scrape: Scrape) -> dict[str, object]:
    """Return the success of each collector."""
    return {labels[0]: value for labels, value in values(scrape, exporter.COLLECTOR_SUCCESS).items()}


def outcome(scrape: Scrape, collector: str) -> Outcome:
    """Return what one collector gave."""
    return next(outcome for outcome in scrape.outcomes if outcome.collector == collector)


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return level and text of what was logged."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def raising(error: BaseException) -> Callable[[], NoReturn]:
    """Return work that raises."""

    def collect() -> NoReturn:
        raise error

    return collect


@pytest.mark.parametrize(
    "error",
    [
        SourceError("no master"),
        ValueError("odd"),
        TimeoutError("timed out"),
        StopIteration(),
        asyncio.CancelledError(),
        SystemExit(3),
        KeyboardInterrupt(),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.filterwarnings("error")
def test_raising_collector_takes_no_other_down(
    error: BaseException, make_collector: MakeCollector, number: Metric
) -> None:
    """Whatever a collector raises, the others are whole, and its own success is 0."""
    collectors = [make_collector("bad", raising(error)), make_collector("good", lambda: [number(7)])]

    scrape = scrape_once(Scraper(collectors))

    assert success(scrape) == {"bad": 0, "good": 1}
    assert values(scrape, number) == {(): 7}
    assert str(error) in outcome(scrape, "bad").problem
    assert "in time" not in outcome(scrape, "bad").problem


def test_half_an_answer_is_none(make_collector: MakeCollector, number: Metric) -> None:
    """A collector that yields some samples and then raises contributes nothing, not even its HELP and TYPE."""

    def collect() -> Iterator[Sample]:
        yield number(1)
        raise ValueError("odd")

    scrape = scrape_once(Scraper([make_collector("half", collect)]))

    assert values(scrape, number) == {}
    assert [exporter.COLLECTOR_SUCCESS, exporter.COLLECTOR_DURATION] == scrape.metrics()


def test_undeclared_sample_fails_its_collector(make_collector: MakeCollector, number: Metric) -> None:
    """A sample of a family that its collector does not announce cannot spoil the page for the others."""
    stray = gauge("salt_test_stray", "Belongs to nobody here.")
    collectors = [make_collector("bad", lambda: [stray(1)]), make_collector("good", lambda: [number(7)])]

    scrape = scrape_once(Scraper(collectors))

    assert success(scrape) == {"bad": 0, "good": 1}
    assert outcome(scrape, "bad").problem == "failed with ValueError: salt_test_stray is none of its metrics"


def test_hanging_collector_takes_no_other_down(make_collector: MakeCollector, number: Metric, hanging: Hanging) -> None:
    """A collector that hangs costs the scrape its timeout and no more; the others are whole."""
    scraper = Scraper([make_collector("bad", hanging), make_collector("good", lambda: [number(7)])])

    began = time.monotonic()
    scrape = scrape_once(scraper, 1.0)

    assert 1.0 <= time.monotonic() - began < PLENTY / 2
    assert success(scrape) == {"bad": 0, "good": 1}
    assert outcome(scrape, "bad").problem == "did not answer in time"


def test_slow_collector_answers_within_the_timeout(make_collector: MakeCollector, number: Metric) -> None:
    """A collector that is slow but in time is whole, does not hold up the others, and shows its duration."""
    together = threading.Barrier(3)

    def slow() -> list[Sample]:
        together.wait(PLENTY)  # nobody gets past here unless all three work at once
        time.sleep(0.1)
        return [number(1)]

    scrape = scrape_once(Scraper([make_collector(name, slow) for name in "abc"]))

    assert success(scrape) == {"a": 1, "b": 1, "c": 1}
    assert all(0.1 <= item.seconds < PLENTY for item in scrape.outcomes)


@pytest.mark.parametrize(("collect", "succeeds"), [(list, 1), (raising(SourceError("no")), 0)])
def test_success_and_duration_are_always_there(
    collect: Callable[[], list[Sample]], succeeds: int, make_collector: MakeCollector
) -> None:
    """Both are reported for every collector, also when the collector that declares them has failed itself."""
    own = make_collector("exporter", collect, exporter.ExporterCollector.metrics)
    scrape = scrape_once(Scraper([make_collector("keys", raising(SourceError("no"))), own]))

    assert success(scrape) == {"keys": 0, "exporter": succeeds}
    assert values(scrape, exporter.COLLECTOR_DURATION).keys() == {("keys",), ("exporter",)}
    for metric in (exporter.COLLECTOR_SUCCESS, exporter.COLLECTOR_DURATION):
        assert scrape.metrics().count(metric) == 1


def test_without_collectors_there_is_an_empty_scrape() -> None:
    """A scraper that has nothing to ask answers at once."""
    assert ([], ()) == (scrape_once(Scraper([])).samples(), scrape_once(Scraper([])).outcomes)


def test_overlapping_scrapes_share_one_run(make_collector: MakeCollector, number: Metric, hanging: Hanging) -> None:
    """Scrapes that come while a collector works wait for that run and all get its answer."""

    async def overlap() -> list[Scrape]:
        scraper = Scraper([make_collector("shared", hanging)])
        together = [asyncio.create_task(scraper.scrape(PLENTY)) for _ in range(3)]
        await asyncio.sleep(0.01)
        hanging.released.set()
        return [*await asyncio.gather(*together), await scraper.scrape(PLENTY)]

    shared = [values(scrape, number)[()] for scrape in asyncio.run(overlap())]

    assert shared == [1, 1, 1, 2]
    assert hanging.begun == 2


def test_impatient_scrape_does_not_take_the_answer_of_a_patient_one(
    make_collector: MakeCollector, number: Metric, hanging: Hanging
) -> None:
    """Of two scrapes that share a run, one may give up; the other still gets the answer."""

    async def overlap() -> tuple[Scrape, Scrape]:
        scraper = Scraper([make_collector("shared", hanging)])
        patient = asyncio.create_task(scraper.scrape(PLENTY))
        await asyncio.sleep(0)
        impatient = await scraper.scrape(SOON)
        hanging.released.set()
        return impatient, await patient

    impatient, patient = asyncio.run(overlap())

    assert (success(impatient), success(patient)) == ({"shared": 0}, {"shared": 1})
    assert (values(patient, number), hanging.begun) == ({(): 1}, 1)


def test_late_answer_is_discarded(make_collector: MakeCollector, number: Metric, hanging: Hanging) -> None:
    """A run that outlived its scrape is not started again, its answer never served; once it is back all is well."""

    async def story() -> list[Scrape]:
        scraper = Scraper([make_collector("slow", hanging)])
        scrapes = [await scraper.scrape(SOON)]
        began = time.monotonic()
        scrapes.append(await scraper.scrape(PLENTY))  # is told at once, and begins nothing
        assert time.monotonic() - began < PLENTY / 2
        await asyncio.to_thread(wait_until, lambda: hanging.begun)  # its thread may be slower than the scrape
        assert hanging.begun == 1
        hanging.released.set()
        while outcome(scrapes[-1], "slow").problem:
            await asyncio.sleep(0.01)
            scrapes.append(await scraper.scrape(PLENTY))
        return scrapes

    scrapes = asyncio.run(story())

    assert [{(): 2}] == [values(scrape, number) for scrape in scrapes if values(scrape, number)]
    assert hanging.begun == 2


def test_no_thread_left_is_a_failure_of_that_collector(
    make_collector: MakeCollector, number: Metric, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system refuses a thread, the collector fails, the scrape does not, and the next one tries again."""
    scraper = Scraper([make_collector("keys", lambda: [number(1)])])
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "collect-keys":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        failed = scrape_once(scraper)

    assert outcome(failed, "keys").problem == "failed with RuntimeError: can't start new thread"
    assert success(scrape_once(scraper)) == {"keys": 1}


def test_problem_is_logged_once_and_so_is_its_end(
    make_collector: MakeCollector, number: Metric, caplog: pytest.LogCaptureFixture
) -> None:
    """A problem is one line when it comes, none while it lasts, one when it changes, and one when it goes."""
    problems = ["no master", "no master", "no master", "no keys", "", ""]

    def collect() -> list[Sample]:
        problem = problems.pop(0)
        if problem:
            raise SourceError(problem)
        return [number(1)]

    scraper = Scraper([make_collector("keys", collect)])
    with caplog.at_level(logging.INFO):
        for _ in range(len(problems)):
            scrape_once(scraper)

    assert messages(caplog) == [
        ("WARNING", "collector keys: no master"),
        ("WARNING", "collector keys: no keys"),
        ("INFO", "collector keys works again"),
    ]


def test_one_cause_is_one_line(make_collector: MakeCollector, caplog: pytest.LogCaptureFixture) -> None:
    """A problem that several collectors have at once is logged once, with their names."""
    collectors = [make_collector(name, raising(SourceError("no master"))) for name in ("keys", "presence")]
    scraper = Scraper([*collectors, make_collector("jobs", raising(SourceError("no bus")))])
    for _ in range(2):
        scrape_once(scraper)

    assert messages(caplog) == [
        ("WARNING", "collector keys, presence: no master"),
        ("WARNING", "collector jobs: no bus"),
    ]


def test_hanging_is_logged_once(
    make_collector: MakeCollector, hanging: Hanging, caplog: pytest.LogCaptureFixture
) -> None:
    """That a collector does not answer, and at the next scrape still has not, is one and the same problem."""

    async def story() -> None:
        scraper = Scraper([make_collector("keys", hanging)])
        for _ in range(3):
            await scraper.scrape(SOON)

    asyncio.run(story())

    assert messages(caplog) == [("WARNING", "collector keys: did not answer in time")]


def test_only_what_nobody_expected_has_a_traceback(
    make_collector: MakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    """A source's own sentence says it all; any other exception is a bug and is logged with its traceback."""
    scrape_once(Scraper([make_collector("a", raising(SourceError("no"))), make_collector("b", raising(KeyError("x")))]))

    assert [bool(record.exc_info) for record in caplog.records] == [False, True]
    assert "in collect" in caplog.text


def test_failed_scrapes_leave_nothing_behind(make_collector: MakeCollector) -> None:
    """Scrapes that fail do not pile up threads or unhandled errors in the event loop."""
    unhandled: list[dict[str, object]] = []

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
        scraper = Scraper([make_collector("bad", raising(ValueError("odd")))])
        for _ in range(20):
            await scraper.scrape(PLENTY)

    before = threading.active_count()
    asyncio.run(story())
    gc.collect()

    assert threading.active_count() <= before + 1
    assert unhandled == []


def test_hanging_collector_does_not_delay_the_exit() -> None:
    """A process whose collector hangs for ever ends at once when it is done."""
    program = """
        import asyncio, threading
        from types import SimpleNamespace
        from salt_exporter.scrape import Scraper
        hanging = SimpleNamespace(name="keys", metrics=(), collect=lambda: threading.Event().wait())
        print([outcome.problem for outcome in asyncio.run(Scraper([hanging]).scrape(0.1)).outcomes])
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=20, check=True
    )

    assert "['did not answer in time']\n" == done.stdout


def test_single_flight_gives_everybody_the_value() -> None:
    """The call shared by scrapes is one for anything that may hang: it has a value, an error, and a duration."""

    async def story() -> None:
        flight = SingleFlight("test", lambda: 7)
        answers = await asyncio.gather(flight.ask(PLENTY), flight.ask(PLENTY))
        assert [(7, None)] * 2 == [(answer.value, answer.error) for answer in answers]

    asyncio.run(story())
