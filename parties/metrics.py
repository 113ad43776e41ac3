"""What `parties.watch` sees, for Prometheus: on loopback, where party.toml asks for it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from parties.address import Address
from parties.config import Config
from parties.errors import NetworkError
from parties.probe import look_at_port
from parties.seen import Seen

if TYPE_CHECKING:
    from parties.watch import Watch

OF_PEERS: dict[
    str, tuple[type[CounterMetricFamily] | type[GaugeMetricFamily], str, Callable[[Seen], float]]
] = {
    "party_connected": (GaugeMetricFamily, "1 while there is a line to this peer", lambda seen: seen.there),
    "party_seconds_since_heard": (
        GaugeMetricFamily,
        "Since any frame of this peer came, heartbeats included",
        lambda seen: seen.quiet,
    ),
    "party_sent_bytes": (CounterMetricFamily, "Frames put on this line", lambda seen: seen.sent),
    "party_received_bytes": (CounterMetricFamily, "Frames that came on it", lambda seen: seen.received),
    "party_messages_sent": (
        CounterMetricFamily,
        "Chunks of messages put on this line, without heartbeats",
        lambda seen: seen.posted,
    ),
    "party_messages_received": (
        CounterMetricFamily,
        "Chunks of messages taken from it, each once",
        lambda seen: seen.taken,
    ),
    "party_reconnects": (
        CounterMetricFamily,
        "Streams after the line's first",
        lambda seen: seen.reconnects,
    ),
    "party_resent": (CounterMetricFamily, "Frames sent once more after a cut", lambda seen: seen.resent),
}


class _Watched(Collector):
    """Looks at the time of each scrape."""

    def __init__(self, watch: "Watch", config: Config) -> None:
        self._watch, self._config = watch, config

    def collect(self) -> Iterator[Metric]:
        now, config = self._watch.now(), self._config
        about = {
            "party": config.name,
            "role": config.role,
            "run": config.contract.name,
            "contract": config.contract.digest.hex(),
        }
        yield InfoMetricFamily("party", "Who this is, and under which contract", about)
        phase = GaugeMetricFamily("party_phase", "1, labelled with the phase", labels=["phase"])
        phase.add_metric([now.phase], 1)
        yield phase
        yield GaugeMetricFamily("party_phase_began", "Unix time", now.phase_began)
        yield GaugeMetricFamily("party_step", "Done of this phase; of training, optimiser steps", now.step)
        yield GaugeMetricFamily("party_steps", "At most to do of this phase; 0 if not known", now.of)
        yield CounterMetricFamily("party_checkpoints", "Written", now.checkpoints)
        yield CounterMetricFamily("party_checkpoint_seconds", "Spent on writing them", now.checkpoint_seconds)
        for name, (kind, what, of) in OF_PEERS.items():
            family = kind(name, what, labels=["peer"])
            for peer, seen in now.peers.items():
                family.add_metric([peer], of(seen))
            yield family


def serving(watch: "Watch", config: Config) -> AbstractContextManager[None]:
    """Answer scrapes until the block ends. Raises NetworkError where the port is taken."""
    place = config.party.metrics.listen
    assert place is not None
    return scraped(place, _Watched(watch, config))


@contextmanager
def scraped(place: Address, collector: Collector) -> Iterator[None]:
    """Answer scrapes of what it collects until the block ends. Raises NetworkError."""
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(place.port, place.host, registry)
    except OSError:
        look_at_port(place, "metrics.listen")  # knows why
        raise NetworkError(f"cannot listen on {place}; change metrics.listen") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(1.0)
