"""Scoring rows that nobody trains on, at both ends: chunk by chunk, in evaluation mode."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from protos.rounds import Receive, Rounds, Send
from splitnn.crossing import Crossing, activations
from splitnn.features import Features
from splitnn.schedule import chunks


def score(
    crossings: Mapping[str, Crossing],
    kind: str,
    bottom: nn.Module,
    top: nn.Module,
    features: Features,
    part: Tensor,
    number: int,
    acknowledged: bool = True,
) -> Rounds[Tensor]:
    """At the label holder: the logits [len(part), outputs] of these entities; before these dimensions, those
    that `top` puts before them.

    kind: of the feature holders' messages. number: of the first chunk's exchange. acknowledged: each chunk,
    so that no party sends more than one ahead.
    """
    bottom.eval()
    top.eval()
    logits = []
    for place, entities in enumerate(chunks(part), number):
        with torch.no_grad():
            own = bottom(*features.batch(entities))
        _, cut = yield from activations(crossings, kind, own, place)
        with torch.no_grad():
            logits.append(top(cut))
        if acknowledged:
            for name in crossings:
                yield Send(name, "scored", b"")
    bottom.train()
    top.train()
    return torch.cat(logits, -2)


def be_scored(
    crossing: Crossing,
    hub: str,
    kind: str,
    bottom: nn.Module,
    features: Features,
    part: Tensor,
    number: int,
    acknowledged: bool = True,
) -> Rounds[None]:
    """The feature holder's end of `score`, with the label holder `hub`."""
    bottom.eval()
    for place, entities in enumerate(chunks(part), number):
        with torch.no_grad():
            activation = bottom(*features.batch(entities))
        _, payload = crossing.send_activation(activation, place, None)
        yield Send(hub, kind, payload)
        if acknowledged:
            yield Receive(hub, "scored", at_most=0)
    bottom.train()
