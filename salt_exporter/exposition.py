"""Samples to the text formats of Prometheus, rendered by prometheus_client."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Final

from prometheus_client import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.samples import Exemplar as _Exemplar
from prometheus_client.utils import floatToGoString

from salt_exporter.metric import HistogramValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from salt_exporter.metric import Exemplar, Metric, Sample

_EXEMPLAR_LENGTH: Final = 128
_ESCAPED: Final = frozenset('"\\')
# Level 1: a third of the time of the default level for a sixth more bytes.
_GZIP_LEVEL: Final = 1
# What a client wants is reduced to this before prometheus_client looks at it: it fails on versions that are none.
_OPENMETRICS: Final = "application/openmetrics-text"
_process = ProcessCollector(registry=None)


class _Families:
    """What prometheus_client's encoders want to see: something with `collect`."""

    def __init__(self, metrics: Iterable[Metric], samples: Iterable[Sample]) -> None:
        self._families = {
            metric.name: Family(metric.name.removesuffix("_total"), metric.help, metric.kind) for metric in metrics
        }
        for sample in samples:
            _add(self._families[sample.metric.name], sample)

    def collect(self) -> Iterator[Family]:
        yield from self._families.values()
        yield from _process.collect()  # process_*: as every Prometheus client says about its own process


def _add(family: Family, sample: Sample) -> None:
    name = sample.metric.name
    labels = dict(zip(sample.metric.labels, sample.labels, strict=True))
    if not isinstance(sample.value, HistogramValue):
        family.add_sample(name, labels, sample.value, exemplar=_exemplar(sample.exemplar))
        return
    count = 0
    for bound, count in sample.value.cumulative():
        family.add_sample(f"{name}_bucket", {**labels, "le": _bound(bound)}, count)
    family.add_sample(f"{name}_count", labels, count)
    family.add_sample(f"{name}_sum", labels, sample.value.sum)


def _exemplar(exemplar: Exemplar | None) -> _Exemplar | None:
    """Return it as prometheus_client writes it, None where it cannot be shown: it is only an example.

    OpenMetrics allows its labels _EXEMPLAR_LENGTH characters in all, and not every parser reads escaped ones in them.
    """
    if exemplar is None or sum(map(len, (*exemplar.labels, *exemplar.labels.values()))) > _EXEMPLAR_LENGTH:
        return None
    if not all(value.isprintable() and not _ESCAPED.intersection(value) for value in exemplar.labels.values()):
        return None
    return _Exemplar(dict(exemplar.labels), exemplar.value, exemplar.time)


def _bound(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


def render(metrics: Iterable[Metric], samples: Iterable[Sample], accept: str = "") -> tuple[bytes, str]:
    """Return (body, content type) in the format that the Accept header prefers: text 0.0.4 or OpenMetrics.

    Every sample's metric must be one of `metrics`; a family without samples keeps its HELP and TYPE.
    """
    encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
    return encode(_Families(metrics, samples)), content_type


def compress(body: bytes) -> bytes:
    """Return the body as gzip."""
    return gzip.compress(body, _GZIP_LEVEL)
