"""A histogram that is cheap to feed: the library's own takes a lock and a walk over its buckets for each value."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from inhouse.telemetry.tally import Spread


class Times(Collector):
    """Seconds by model. Fed and read in one thread."""

    def __init__(self, name: str, sentence: str, buckets: tuple[float, ...]) -> None:
        self._name = f"{name}_seconds"
        self._sentence = sentence
        self._bounds = buckets
        self._labels = [*map(floatToGoString, buckets), "+Inf"]
        self._spreads: dict[str, Spread] = {}

    def of(self, model: str) -> Spread:
        """Where the values of a model are counted."""
        return self._spreads.setdefault(model, Spread(self._bounds))

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._sentence, labels=["model"])
        for model, spread in self._spreads.items():
            if not any(spread.counts):
                continue
            cumulative, buckets = 0, []
            for label, count in zip(self._labels, spread.counts, strict=True):
                cumulative += count
                buckets.append((label, float(cumulative)))
            family.add_metric([model], buckets, spread.total)
        return [family]
