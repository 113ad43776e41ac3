"""What an alignment will cost, before anybody pays: choosing a protocol, seconds and bytes in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psi.interface import Psi
from psi.registry import UnknownProtocol


def choose(counts: Sequence[int], protocols: Mapping[str, Psi]) -> str:
    """The protocol for `protocol = "auto"`: of those that fit, the one with the fewest bytes on all wires.

    counts: ids that each party announced, the leader's first. protocols: those installed at every party,
    by name. A pure function of what all parties know, so that each can verify the choice; which is why it
    weighs bytes (`Psi.traffic`, the smallest set taken as common to all), and not a time that every
    machine would measure differently. A protocol that is not `secure` is never chosen; maturity is not
    weighed. Equal bytes: the first name. Raises UnknownProtocol where none fits.
    """
    fit = {
        name: psi.traffic(counts, min(counts))
        for name, psi in protocols.items()
        if psi.secure and len(counts) in psi.parties
    }
    if not fit:
        raise UnknownProtocol(
            f"no protocol fits: none that all {len(counts)} parties have installed "
            f"({', '.join(sorted(protocols)) or 'none'}) is secure and takes so many parties"
        )
    return min(fit, key=lambda name: (fit[name], name))
