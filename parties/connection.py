"""This party's link to the others, open: the hub with everybody there, or the line to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeAlias

from parties.certs import Identity
from parties.config import Config
from parties.dial import Spoke
from parties.hub import Hub
from parties.limits import Limits
from parties.link import Link
from protos.rounds import Progress, Traffic

OnProgress: TypeAlias = Callable[[Progress, Traffic], None]


@contextmanager
def connected(
    config: Config,
    identity: Identity,
    room: int,
    on_progress: OnProgress,
    say: Callable[[str], None],
    linked: Callable[[Link], None] = lambda link: None,
) -> Iterator[Link]:
    """room: as `parties.room` says. linked: told of the link before anybody is there.

    Raises NetworkError, PeerTimeout.
    """
    place, contract = config.party.link, config.contract
    limits = replace(place.limits, inbox=room)
    if config.role == "label holder":
        with _hub(config, identity, limits, say) as hub:
            hub.open()
            linked(hub)
            total = len(contract.feature_holders)

            def tell(missing: list[str]) -> None:
                phase = f"waiting for {', '.join(missing)}" if missing else "all parties are here"
                on_progress(Progress(phase, total - len(missing), total), hub.traffic)

            hub.wait_for_peers(place.wait, on_wait=tell)
            yield hub
    else:
        others = [name for name in contract.feature_holders if name != config.name]
        hub_name, address = contract.label_holder, str(place.hub)
        with Spoke(identity, hub_name, address, others, limits, place.plaintext, say) as spoke:
            say(f"calling {hub_name} at {address}, for up to {place.wait:g} s")
            linked(spoke)
            spoke.open(place.wait)
            yield spoke


def tell_finished(config: Config, identity: Identity, say: Callable[[str], None]) -> None:
    """At the label holder, whose run has ended: tell feature holders that were cut off or died before they
    heard it, for as long as one may be away. Raises NetworkError."""
    limits = config.party.link.limits
    with _hub(config, identity, limits, say) as hub:
        hub.tell_finished(limits.away)


def _hub(config: Config, identity: Identity, limits: Limits, say: Callable[[str], None]) -> Hub:
    place, contract = config.party.link, config.contract
    pins = {name: contract.parties[name].key for name in contract.feature_holders}
    return Hub(identity, str(place.listen), pins, limits, place.plaintext, say)
