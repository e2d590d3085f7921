"""The master's options that decide about losses: value, whether it has any effect, advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from salt_exporter.analysis.sizing import recommended
from salt_exporter.errors import SourceError
from salt_exporter.master.options import OPTIONS, is_read
from salt_exporter.metric import Metric, Sample, gauge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from salt_exporter.world import World

VALUE = gauge(
    "salt_settings_value",
    "Value of a master option in Salt's own unit, from its configuration with drop-ins and includes, else the default "
    "of the master's Salt version; switches are 0 or 1, and an option that is neither set nor read has no value.",
    "option",
)
EFFECTIVE = gauge(
    "salt_settings_effective",
    "1 when the master's Salt version reads this option at all, 0 when setting it changes nothing.",
    "option",
)
RECOMMENDED = gauge(
    "salt_settings_recommended",
    "Advised value of a master option for the present number of accepted minions; docs/operating.md gives the rules.",
    "option",
)


class SettingsCollector:
    """Reports the resolved options; fails when the last look at them failed."""

    name: ClassVar[str] = "settings"
    metrics: ClassVar[tuple[Metric, ...]] = (VALUE, EFFECTIVE, RECOMMENDED)

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> Iterator[Sample]:
        """Yield the samples of now."""
        settings = self._world.settings.current()
        if self._world.settings.problem:
            raise SourceError(self._world.settings.problem)
        for option in OPTIONS:
            yield EFFECTIVE(is_read(option, settings.version_info), option=option.name)
            if option.name in settings.options:
                yield VALUE(settings.options[option.name], option=option.name)
        for name, value in recommended(len(self._world.keys().accepted)).items():
            yield RECOMMENDED(value, option=name)
