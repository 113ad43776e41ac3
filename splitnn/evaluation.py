"""Scoring rows that nobody trains on, at both ends: chunk by chunk, in evaluation mode."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

import torch
from torch import Tensor, nn

from protos.rounds import Progress, Receive, Rounds, Send
from splitnn.crossing import Crossing, receive_each, received
from splitnn.features import Features
from splitnn.schedule import EVALUATION_ROWS, chunks

EXAMINED: Final = 32 * EVALUATION_ROWS
"""Most rows whose activations are kept for `splitnn.importance`: 32 MiB a party at cut 32."""

AHEAD = 2
"""Chunks that a feature holder sends before the first of them is scored: the label holder has one to go on
with while its acknowledgement travels, and no more than these to keep."""


def most_bytes_unscored(crossing: Crossing, part: Tensor) -> int:
    """Of the rows of a part that are acknowledged."""
    return sum(crossing.activation_size(len(chunk)) for chunk in islice(chunks(part), AHEAD))


def score(
    crossings: Mapping[str, Crossing],
    kind: str,
    bottom: nn.Module,
    top: nn.Module,
    features: Features,
    part: Tensor,
    number: int,
    acknowledged: bool = True,
    kept: list[list[Tensor]] | None = None,
) -> Rounds[Tensor]:
    """At the label holder: the logits [len(part), outputs] of these entities; before these dimensions, those
    that `top` puts before them.

    kind: of the feature holders' messages. number: of the first chunk's exchange. acknowledged: each chunk,
    so that no party sends more than AHEAD. kept: gets the activations of all parties, a list a chunk, of
    the first `EXAMINED` rows.
    """
    bottom.eval()
    top.eval()
    logits = []
    for place, entities in enumerate(chunks(part), number):
        with torch.no_grad():
            own = bottom(*features.batch(entities))
        cut = [own, *(yield from receive_chunk(crossings, kind, len(entities), place))]
        if kept is not None and sum(len(rows) for rows, *_ in kept) < EXAMINED:
            kept.append(cut)
        with torch.no_grad():
            logits.append(top(cut))
        if acknowledged:
            yield from acknowledge(crossings)
    bottom.train()
    top.train()
    return torch.cat(logits, -2)


def receive_chunk(
    crossings: Mapping[str, Crossing], kind: str, rows: int, number: int
) -> Rounds[list[Tensor]]:
    """Of each feature holder the activations [rows, cut] of a chunk; under secure sum only their sum."""
    messages = yield from receive_each(crossings, kind, rows)
    _, theirs = received(crossings, kind, messages, rows, number)
    return [activation.detach() for activation in theirs]


def acknowledge(crossings: Iterable[str]) -> Rounds[None]:
    for name in crossings:
        yield Send(name, "scored", b"")


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
    columns = map(features.batch, chunks(part))
    yield from send_chunks(crossing, hub, kind, bottom, columns, number, acknowledged)


def send_chunks(
    crossing: Crossing,
    hub: str,
    kind: str,
    bottom: nn.Module,
    columns: Iterable[tuple[Any, ...]],
    number: int,
    acknowledged: bool = True,
    told: Callable[[int], Progress] | None = None,
) -> Rounds[None]:
    """columns: of each chunk, what a bottom model takes. told: of a chunk that was sent, by its number."""
    bottom.eval()
    unscored = 0
    for place, chunk in enumerate(columns, number):
        with torch.no_grad():
            activation = bottom(*chunk)
        _, payload = crossing.send_activation(activation, place, None)
        if acknowledged and unscored == AHEAD:
            yield Receive(hub, "scored", at_most=0)
            unscored -= 1
        yield Send(hub, kind, payload)
        unscored += 1
        if told is not None:
            yield told(place)
    for _ in range(unscored if acknowledged else 0):
        yield Receive(hub, "scored", at_most=0)
    bottom.train()
