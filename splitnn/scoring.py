"""Scoring with a trained model, at both ends: activations go up, and only acknowledgements come back.

The entities of an alignment are scored in its order, chunk by chunk, by the same exchange as the rows of an
evaluation (`splitnn.evaluation`): a row's score is the one that it had there. The label holder may have
several rows of an entity. At the end of each block of chunks it yields a `Save` of the block's logits, so
that a later attempt begins with the first block that is not kept: that is all that it says, and a feature
holder keeps nothing.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from protos.rounds import Progress, Receive, RemoteProtocolError, Rounds, Save, Send
from splitnn.crossing import Crossing
from splitnn.evaluation import AHEAD, acknowledge, receive_chunk, send_chunks
from splitnn.party_dropout import PartyDropout
from splitnn.plan import Plan
from splitnn.schedule import EVALUATION_ROWS
from splitnn.secure_sum import LEAST, SECURE_SUM, Hidden

BLOCK: Final = 8 * EVALUATION_ROWS
"""Entities from one `Save` to the next."""

Columns: TypeAlias = tuple[Any, ...]
"""What a bottom model takes of some rows."""

_KEPT = struct.Struct("<I")


def most_bytes_unanswered(plan: Plan) -> int:
    """The most that a feature holder sends before it waits for an answer."""
    hidden = Hidden(plan.fixed_point, LEAST) if plan.fusion == SECURE_SUM else None  # any number: one size
    return AHEAD * Crossing(plan.codec, plan.cut, b"", "", hidden).activation_size(EVALUATION_ROWS)


class Rows(NamedTuple):
    """Some of the label holder's rows of a chunk. of: of each the place of its entity in it, int64."""

    columns: Columns
    of: Tensor


def blocks(entities: int) -> int:
    return -(-entities // BLOCK)


def score(
    crossings: Mapping[str, Crossing],
    bottom: nn.Module,
    top: nn.Module,
    entities: int,
    rows: Callable[[range], Iterable[Rows]],
    kept: int = 0,
) -> Rounds[None]:
    """At the label holder: a `Save` for each block from `kept` on, with what `logits_of` reads: of its rows,
    in the order in which `rows` gives them, chunk by chunk.

    rows: of these places in the alignment, all the label holder's rows, some at a time.
    Raises RemoteProtocolError for an activation of another shape, or that is not finite.
    """
    bottom.eval()
    top.eval()
    for name in crossings:
        yield Send(name, "kept blocks", _KEPT.pack(kept))
    yield Progress("scoring", min(kept * BLOCK, entities), entities)
    for block in range(kept, blocks(entities)):
        logits: list[Tensor] = []
        for chunk in _chunks(entities, block * BLOCK, (block + 1) * BLOCK):
            theirs = yield from receive_chunk(crossings, "prediction", len(chunk), _number(chunk))
            yield from acknowledge(crossings)
            with torch.no_grad():
                for columns, of in rows(chunk):
                    cut = [bottom(*columns), *(activation[of] for activation in theirs)]
                    logits.append(top(cut))
            yield Progress("scoring", chunk.stop, entities)
        yield Save(block + 1, partial(_written, logits))


def be_scored(
    crossing: Crossing,
    hub: str,
    bottom: nn.Module,
    entities: int,
    columns: Callable[[range], Columns],
) -> Rounds[None]:
    """The feature holder's end, with the label holder `hub`. columns: of these places in the alignment."""
    payload = yield Receive(hub, "kept blocks", at_most=_KEPT.size)
    kept = int.from_bytes(payload, "little")
    if len(payload) != _KEPT.size or kept > blocks(entities):
        raise RemoteProtocolError(f"{hub} has kept other blocks than some of {blocks(entities)}")
    first = min(kept * BLOCK, entities)
    yield Progress("scoring", first, entities)
    wanted = map(columns, _chunks(entities, first, entities))
    yield from send_chunks(
        crossing,
        hub,
        "prediction",
        bottom,
        wanted,
        first // EVALUATION_ROWS + 1,
        told=lambda number: Progress("scoring", min(number * EVALUATION_ROWS, entities), entities),
    )


def scores_alone(top: nn.Module) -> bool:
    """Has the top model learned to do without feature holders?"""
    return isinstance(top, PartyDropout)


def score_alone(bottom: nn.Module, top: nn.Module, columns: Columns, feature_holders: int) -> Tensor:
    """Logits of the label holder's rows by its own columns and what the top model has learned to put in the
    place of each feature holder; only where it `scores_alone`. Nobody is asked anything."""
    bottom.eval()
    top.eval()
    with torch.no_grad():
        logits: Tensor = top([bottom(*columns), *[None] * feature_holders])
    return logits


def score_present(top: nn.Module, own: Tensor, theirs: Sequence[Tensor], present: Tensor) -> Tensor:
    """Logits [n, outputs] of rows, by whoever is there for each.

    own: the label holder's activation [n, cut]; theirs: of each feature holder [n, cut], of no account where
    it is absent. present: bool [n, feature holders]. Where one is absent of a row, `top` must be one that
    `scores_alone`. A row's logits do not depend on who is there for the others, but for the last bits.
    """
    with torch.no_grad():
        if not present.numel() or bool(present.all()):
            whole: Tensor = top([own, *theirs])
            return whole
        sets, of = torch.unique(present, dim=0, return_inverse=True)
        if len(sets) == 1:
            return _of_set(top, own, theirs, sets[0])
        logits: Tensor | None = None
        for number, among in enumerate(sets):
            rows = torch.nonzero(of == number).squeeze(1)
            some = _of_set(top, own[rows], [one[rows] for one in theirs], among)
            if logits is None:
                logits = some.new_empty(len(own), some.shape[1])
            logits[rows] = some
        assert logits is not None
        return logits


def _of_set(top: nn.Module, own: Tensor, theirs: Sequence[Tensor], among: Tensor) -> Tensor:
    there = among.tolist()
    logits: Tensor = top(
        [own, *(one if is_there else None for one, is_there in zip(theirs, there, strict=True))]
    )
    return logits


def logits_of(state: bytes) -> Tensor:
    """Of a `Save` of `score`, float32 [rows of the block, outputs]. Raises ValueError for another state."""
    try:
        return safetensors.torch.load(state)["logits"]
    except (SafetensorError, LookupError) as error:
        raise ValueError("is no block of scores") from error


def _written(logits: list[Tensor]) -> bytes:
    return safetensors.torch.save({"logits": torch.cat(logits)})


def _chunks(entities: int, start: int, stop: int) -> Iterable[range]:
    stop = min(stop, entities)
    return (range(at, min(at + EVALUATION_ROWS, stop)) for at in range(start, stop, EVALUATION_ROWS))


def _number(chunk: range) -> int:
    """Of the exchange: one of another place cannot pass for this one's."""
    return chunk.start // EVALUATION_ROWS + 1
