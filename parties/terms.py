"""The terms of an alignment: how many ids each party brings, does the contract allow that, and how to align.

Right after the handshake, feature holders tell the hub how many ids they bring. The hub answers each with the
terms, and each checks all that it can know before it confirms; nobody begins before the hub has heard all of
them. A feature holder learns the hub's number of ids and no other; the number of buckets tells how large the
largest set is, in millions, and with `auto` the terms tell it to within a factor of two. Which kind of id is
used follows from the signed hellos, and with `auto` the protocol from those and the largest set, so every
party comes to the same by itself.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from parties.contract import AUTO, Contract
from parties.errors import AlignmentError
from parties.handshake import Meeting
from protos import party_pb2
from protos.rounds import Progress, Receive, RemoteProtocolError, Rounds, Send
from psi import Psi, buckets, choose

OFFER_AT_MOST = 16
"""Bytes: one number."""

TERMS_AT_MOST = 8 << 10
"""Bytes. The longest names of a protocol, a kind and twice sixteen parties are below 2 KiB."""


@dataclass(frozen=True)
class Terms:
    """What all parties have confirmed.

    sizes: ids announced by the parties of which this one may know it: at the hub all, at a feature holder
    itself and the hub. With `psi.hide_sizes` each is `psi.at_most`.
    """

    protocol: str
    kind: str
    buckets: int
    sizes: Mapping[str, int]


def settle(
    me: str, contract: Contract, meeting: Meeting, protocols: Mapping[str, Psi], ids: int
) -> Rounds[Terms]:
    """protocols: as `own_protocols` gives them. ids: how many this party has, of the meeting's kind.

    Raises AlignmentError for sets that the contract does not allow: at every party, by itself, with the
    same words. RemoteProtocolError for terms that do not follow from what is known here.
    """
    hub = contract.label_holder
    own = _announced(contract, ids)
    yield Progress("terms", 0, 0)
    if me != hub:
        yield Send(hub, "offer", party_pb2.Offer(ids=own).SerializeToString())
        payload: bytes = yield Receive(hub, "terms", TERMS_AT_MOST)
        terms = _terms(payload, me, contract, meeting, protocols, own)
        yield Send(hub, "confirm", hashlib.sha256(payload).digest())
        yield Receive(hub, "go", at_most=0)
        return terms

    counts = {hub: own}
    for name in contract.feature_holders:
        counts[name] = _offer((yield Receive(name, "offer", OFFER_AT_MOST)), name, contract)
    over = [name for name, count in counts.items() if count > contract.psi.at_most]
    uneven = _uneven(contract, counts)
    largest = max(counts.values())
    scale = _scale(contract, largest)
    protocol = _protocol(contract, meeting, protocols, scale)
    parted = 0 if over or uneven else buckets.count(largest)
    sent = {}
    for name in contract.feature_holders:
        told = {hub: own, name: counts[name]}
        sent[name] = party_pb2.Terms(
            protocol=protocol,
            kind=meeting.kind,
            buckets=parted,
            ids=told,
            over=over,
            uneven=uneven,
            scale=scale,
        ).SerializeToString(deterministic=True)
        yield Send(name, "terms", sent[name])
    _refuse(contract, over, uneven)
    for name in contract.feature_holders:
        confirmed = yield Receive(name, "confirm", hashlib.sha256().digest_size)
        if confirmed != hashlib.sha256(sent[name]).digest():
            raise RemoteProtocolError(f"{name} confirmed other terms than it was sent")
    for name in contract.feature_holders:
        yield Send(name, "go", b"")
    return Terms(protocol, meeting.kind, parted, counts)


def _announced(contract: Contract, ids: int) -> int:
    if ids > contract.psi.at_most:
        return contract.psi.at_most + 1  # how many more is nobody's business
    return contract.psi.at_most if contract.psi.hide_sizes else ids


def _offer(payload: bytes, sender: str, contract: Contract) -> int:
    try:
        ids = party_pb2.Offer.FromString(payload).ids
    except DecodeError as error:
        raise RemoteProtocolError(f"{sender} sent an offer that is none") from error
    at_most = contract.psi.at_most
    if ids > at_most + 1 or (contract.psi.hide_sizes and ids < at_most):
        raise RemoteProtocolError(f"{sender} offers {ids} ids, which psi.at_most = {at_most} rules out")
    return ids


def _uneven(contract: Contract, counts: Mapping[str, int]) -> list[str]:
    """Who brings too much beside the smallest of these sets."""
    ratio = contract.psi.largest_ratio
    if ratio is None:
        return []
    smallest = min(counts.values())
    return [name for name, count in counts.items() if count > ratio * smallest]


def _scale(contract: Contract, largest: int) -> int:
    """With `auto`: the largest set has fewer than 2^scale ids. Otherwise 0: there is no reason to tell."""
    return min(largest, contract.psi.at_most).bit_length() if contract.psi.protocol == AUTO else 0


def _protocol(contract: Contract, meeting: Meeting, protocols: Mapping[str, Psi], scale: int) -> str:
    """As if all parties had 2^scale ids: a large set anywhere is what makes a protocol slow."""
    if contract.psi.protocol != AUTO:
        return contract.psi.protocol
    shared = {name: protocols[name] for name in meeting.protocols}
    return choose([1 << scale] * len(contract.parties), shared)


def _refuse(contract: Contract, over: list[str], uneven: list[str]) -> None:
    if over:
        raise AlignmentError(
            f"{', '.join(over)}: more ids than psi.at_most = {contract.psi.at_most:,} allows; nothing was "
            "aligned: agree on a larger cap, or bring fewer"
        )
    if uneven:
        raise AlignmentError(
            f"{', '.join(uneven)}: more ids than psi.largest_ratio = {contract.psi.largest_ratio:g} times "
            "the smallest set allows; nothing was aligned: agree on a larger ratio, or bring fewer"
        )


def _terms(
    payload: bytes,
    me: str,
    contract: Contract,
    meeting: Meeting,
    protocols: Mapping[str, Psi],
    own: int,
) -> Terms:
    """What the hub says, held against all that a feature holder knows."""
    hub, at_most = contract.label_holder, contract.psi.at_most
    try:
        told = party_pb2.Terms.FromString(payload)
    except DecodeError as error:
        raise RemoteProtocolError(f"{hub} sent terms that are none") from error
    over, uneven, counts = [*told.over], [*told.uneven], dict(told.ids)
    if not all(_are_parties(names, contract) for names in (over, uneven)) or (own > at_most) != (me in over):
        raise RemoteProtocolError(f"{hub} misjudges who brings too many ids")
    if contract.psi.largest_ratio is None and uneven:
        raise RemoteProtocolError(f"{hub} refuses a ratio that the contract allows")
    _refuse(contract, over, uneven)
    if counts.keys() != {hub, me} or counts[me] != own:
        raise RemoteProtocolError(f"{hub} repeats our number of ids wrongly")
    leading = counts[hub]
    if leading > at_most or (contract.psi.hide_sizes and leading != at_most) or _uneven(contract, counts):
        raise RemoteProtocolError(f"{hub} brings {leading} ids and goes on, which the contract rules out")
    least = buckets.count(max(counts.values()))
    most = least if len(contract.parties) == 2 else buckets.count(at_most)
    if not least <= told.buckets <= most:
        raise RemoteProtocolError(f"{hub} wants {told.buckets} buckets, not {least} to {most}")
    if told.kind != meeting.kind:
        raise RemoteProtocolError(f"{hub} wants another kind of id than {meeting.kind}, which all have")
    lowest, highest = _scale(contract, max(counts.values())), _scale(contract, at_most)
    if not lowest <= told.scale <= (lowest if len(contract.parties) == 2 else highest):
        raise RemoteProtocolError(f"{hub} says that the largest set has 2^{told.scale} ids, which cannot be")
    chosen = _protocol(contract, meeting, protocols, told.scale)
    if told.protocol != chosen:
        raise RemoteProtocolError(
            f"{hub} wants another PSI protocol than {chosen}, which follows here; install the same release"
        )
    return Terms(chosen, meeting.kind, told.buckets, counts)


def _are_parties(names: list[str], contract: Contract) -> bool:
    return len(set(names)) == len(names) and set(names) <= set(contract.names)
