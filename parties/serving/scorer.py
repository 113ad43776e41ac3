"""One request, from ids to scores: look up, ask whom the cache does not answer for, and score with whoever
is there by the deadline.

An id that is not among the common users is scored by the label holder alone, and nobody is asked: a question
about it would tell a partner that it is asked about, and the answer whether the partner knows it. Only a
contract that `reveals_membership` has partners asked about it, by its digest.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import psi
from parties.config import Config
from parties.id_kinds import digest_key
from parties.model import Model
from parties.serving.partner import Asked, Partner, People
from parties.serving.store import DigestIndex, Store
from splitnn.errors import TrainingError
from splitnn.scoring import score_present


class BadRequest(Exception):
    """What the application can do something about. One line; never an id."""


class Among(NamedTuple):
    """parties: that took part, the label holder first. calibrated: was a calibration fitted for these?"""

    parties: tuple[str, ...]
    calibrated: bool


class Scores(NamedTuple):
    """scores: [n, outputs], float64. among: the distinct sets of parties that took part; of: [n], which."""

    scores: NDArray[np.float64]
    among: list[Among]
    of: NDArray[np.int64]


MOST_CONTEXT: Final = 256
"""Columns that a request overrides."""


class Scorer:
    """The label holder's half of serving. users: `users_of` the model. most: ids of a request. patience:
    seconds that a request waits for partners, where it has so much time. clock: seconds."""

    def __init__(
        self,
        config: Config,
        model: Model,
        store: Store,
        users: NDArray[np.uint8],
        partners: Sequence[Partner],
        most: int,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        kind = next(one for one in config.contract.ids if one.name == model.kind)
        self._types, self._key = kind.columns, digest_key(config.contract.digest, kind.name)
        self.store, self.partners = store, partners
        self._me, self._users, self._clock = config.name, DigestIndex(users), clock
        self._target = model.target()
        self.model, self.names = model.digest, self._target.names
        self._reveals = config.contract.reveals_membership
        self._most, self._patience, self._cut = most, patience, model.plan.cut
        self._bottom: nn.Module = model.bottom(model.run).eval()
        self._top: nn.Module = model.top(model.run).eval()

    def score(
        self, ids: Sequence[Sequence[str]], context: Mapping[str, str], within: float | None = None
    ) -> Scores:
        """ids: each of so many parts as the contract's. context: as `Store.override` takes it. within:
        seconds until the answer must be there.

        Raises BadRequest for no ids, too many, and what is none; DataError as `Store.override`;
        TrainingError where the model gives no number.
        """
        patience = self._patience if within is None else min(self._patience, within / 2)
        until = self._clock() + max(0.0, patience)
        store, digests = self.store, self._digests(ids)
        if len(context) > MOST_CONTEXT:
            raise BadRequest(f"context: {len(context)} columns, more than {MOST_CONTEXT}")
        if len(withdrawn := np.flatnonzero(store.silent.find(digests) >= 0)):
            raise BadRequest(
                f"id {withdrawn[0] + 1} is not scored: it is among data.exclude_ids; leave it out"
            )
        override = store.override(context)
        users = self._users.find(digests)
        common = np.flatnonzero(users >= 0)
        others, named = np.flatnonzero((users < 0) & self._reveals), digests.view("V16").reshape(-1)
        present = np.zeros((len(ids), len(self.partners)), np.bool_)
        theirs = [np.zeros((len(ids), self._cut), np.float32) for _ in self.partners]
        asked: list[tuple[int, NDArray[np.int64], People, Asked]] = []  # of whom, about which rows
        for place, partner in enumerate(self.partners):
            found, there = partner.cache.get(users[common])
            theirs[place][common], present[common, place] = found, there
            partner.counts.cached += int(there.sum())
            for rows, people in ((common[~there], users), (others, named)):
                if len(rows) and (part := partner.ask(np.unique(people[rows]))) is not None:
                    asked.append((place, rows, people[rows], part))
        ours = store.rows_of(digests)
        with torch.inference_mode():
            if override is None:
                own = torch.from_numpy(store.embeddings[ours])
            else:
                own = self._bottom(*store.columns(ours, override))
        for *_, part in asked:
            part.leave()
        for place, rows, people, part in asked:
            came = part.wait(until)
            if came is not None:
                came = came[np.searchsorted(part.users, people)]
                known = ~np.isnan(came).any(axis=1)
                theirs[place][rows[known]] = came[known]
                present[rows, place] = known
        with torch.inference_mode():
            cut = [torch.from_numpy(one) for one in theirs]
            try:
                return self._scores(own, cut, present)
            except TrainingError:
                self._leave_out(own, cut, present, users)
                return self._scores(own, cut, present)

    def _leave_out(
        self, own: torch.Tensor, cut: list[torch.Tensor], present: NDArray[np.bool_], users: NDArray[np.int64]
    ) -> None:
        """Of `present`, who by finite embeddings makes a score that is no number: it is not to fail the rows
        of others, nor these for as long as it would be in the cache. present: changed."""

        def bad(present: NDArray[np.bool_]) -> NDArray[np.bool_]:
            logits = score_present(self._top, own, cut, torch.from_numpy(present))
            found: NDArray[np.bool_] = ~torch.isfinite(logits).all(dim=1).numpy()
            return found

        ours = bad(np.zeros_like(present))  # nobody else's fault
        for place, partner in enumerate(self.partners):
            only = np.zeros_like(present)
            only[:, place] = present[:, place]
            if (theirs := bad(only) & ~ours).any():
                present[theirs, place] = False
                partner.distrust(users[theirs & (users >= 0)])
        present[bad(present) & ~ours] = False  # what only several do together

    def _scores(self, own: torch.Tensor, cut: list[torch.Tensor], present: NDArray[np.bool_]) -> Scores:
        """Raises TrainingError for a logit that is not finite."""
        logits = score_present(self._top, own, cut, torch.from_numpy(present))
        if (present == present[0]).all():  # as a rule
            whole, of = present[:1], np.zeros(len(present), np.int64)
        else:
            whole, of = np.unique(present, axis=0, return_inverse=True)
            of = of.reshape(-1)
        sets, scores = [], np.empty((len(present), self._target.outputs))
        for number, there in enumerate(whole):
            names = [one.name for one, is_there in zip(self.partners, there, strict=True) if is_there]
            key = None if there.all() else ",".join(names)
            rows = of == number
            some = self._target.scores(logits[torch.from_numpy(rows)], key)
            scores[rows] = some.reshape(len(some), -1).numpy()
            sets.append(Among((self._me, *names), self._target.fitted(key) is not None))
        return Scores(scores, sets, of)

    def check(self, count: int) -> None:
        """Of ids: before each is looked at. Raises BadRequest."""
        if not count:
            raise BadRequest("no ids; give at least one")
        if count > self._most:
            raise BadRequest(f"{count:,} ids, more than the {self._most:,} of serve.most_ids; ask in parts")

    def _digests(self, ids: Sequence[Sequence[str]]) -> NDArray[np.uint8]:
        self.check(len(ids))
        digests = []
        for place, parts in enumerate(ids, 1):
            if len(parts) != len(self._types):
                raise BadRequest(f"id {place} has {len(parts)} parts, not {len(self._types)}")
            digest = psi.digest_of(parts, self._types, self._key)
            if digest is None:
                raise BadRequest(f"id {place} is blank, or none of type {', '.join(self._types)}")
            digests.append(digest)
        return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)
