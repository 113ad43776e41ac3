"""What serving has done so far, and the same for Prometheus."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import accumulate
from typing import Final

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from parties import metrics
from parties.address import Address
from parties.serving.scorer import Scores

SECONDS: Final = (0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.05, 0.1, 0.25, 1.0)
"""Upper ends of the histogram of answers."""


class Tally:
    """What became of the requests since the process began."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self._buckets, self._sum = [0] * (len(SECONDS) + 1), 0.0

    def answered(self, seconds: float, found: Scores) -> None:
        with self._lock:
            self.requests["answered"] += 1
            self._buckets[bisect_left(SECONDS, seconds)] += 1
            self._sum += seconds
            for number, among in enumerate(found.among):
                self.ids[",".join(among.parties)] += int((found.of == number).sum())

    def refused(self) -> None:
        with self._lock:
            self.requests["refused"] += 1

    def failed(self) -> None:
        with self._lock:
            self.requests["failed"] += 1

    def families(self) -> Iterator[Metric]:
        with self._lock:
            requests, ids = dict(self.requests), dict(self.ids)
            buckets, total = [*accumulate(self._buckets)], self._sum
        family = CounterMetricFamily("party_score_requests", "By how they ended", labels=["end"])
        for end, count in requests.items():
            family.add_metric([end], count)
        yield family
        family = CounterMetricFamily("party_scored_ids", "By who took part", labels=["parties"])
        for names, count in ids.items():
            family.add_metric([names], count)
        yield family
        ends = [*map(str, SECONDS), "+Inf"]
        yield HistogramMetricFamily(
            "party_score_seconds", "From a request to its answer", [*zip(ends, buckets, strict=True)], total
        )


Look = Callable[[], tuple[Mapping[str, bool], Mapping[str, Mapping[str, int]]]]
"""Of each peer: is it there; what was counted."""


class _Seen(Collector):
    def __init__(self, about: Mapping[str, str], look: Look, tally: Tally | None) -> None:
        self._about, self._look, self._tally = about, look, tally

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("party", "Who this is, and what it serves", dict(self._about))
        there, counted = self._look()
        gauge = GaugeMetricFamily("party_connected", "1 while this peer answers", labels=["peer"])
        for peer, is_there in there.items():
            gauge.add_metric([peer], is_there)
        yield gauge
        family = CounterMetricFamily("party_embeddings", "Users, questions; by end", labels=["peer", "end"])
        for peer, counts in counted.items():
            for end, count in counts.items():
                family.add_metric([peer, end], count)
        yield family
        if self._tally is not None:
            yield from self._tally.families()


def scraped(
    place: Address | None, about: Mapping[str, str], look: Look, tally: Tally | None
) -> AbstractContextManager[None]:
    """Answer scrapes, where there is a place, until the block ends. Raises NetworkError."""
    return nullcontext() if place is None else metrics.scraped(place, _Seen(about, look, tally))
