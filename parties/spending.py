"""What a run spends with each partner: charged to the ledger before anything is released, settled afterwards.

A feature holder is charged for its activations, which the label holder sees; the label holder for its labels,
which each feature holder's gradients tell of. Every run is charged, also one of which the contract asks no
privacy: it has no noise, so no bound.
"""

import hashlib
import hmac
import math
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from parties.charges import Budget, Charge, beside, larger, total_of, total_with
from parties.config import Config
from parties.errors import BudgetError, PartyError
from parties.examples import Examples
from parties.ledger import Ledger
from parties.released import Noted
from protos.rounds import Round, Rounds, Send, mapped
from splitnn.accountant import epsilon
from splitnn.embedding_dp import EmbeddingDP
from splitnn.plan import Plan
from splitnn.releases import Released, Times, releases

T = TypeVar("T")
EMBEDDING, LABELS = "embedding", "labels"


@dataclass(frozen=True)
class Spending:
    """Of one run. groups: of this party's columns, whose importance is measured. kept: as `Charge` has it, of
    the answers that labels which lie give in every run. without: of a further training of the run, who is
    left out: it is charged by itself."""

    config: Config
    run: bytes
    plan: Plan
    examples: Examples
    groups: int
    kept: str
    without: str = ""

    @classmethod
    def of(
        cls,
        config: Config,
        run: bytes,
        plan: Plan,
        examples: Examples,
        groups: int,
        asked: Sequence[str],
        secret: bytes,
    ) -> Self:
        """asked: the kind of id, and what each record is asked (`parties.label_draws`). secret: the party's
        own, from which the answers are drawn."""
        return cls(config, run, plan, examples, groups, kept_of(secret, asked))

    def released(self, folder: Path, resumed: int = 0) -> Released:
        """What this run has released so far. resumed: the epoch after which this attempt goes on. folder: of
        the unfinished run, where what leaves with noise is noted. Raises AccountError, StorageError."""
        rows = self.examples.split
        if self.config.name == self.config.contract.label_holder or not self.plan.embedding.sigma:
            return Released(self.plan, rows, resumed)
        charged = sum(one.releases for one in self._ledger().charges() if one.run == self.run.hex())
        placed = hashlib.sha256(self.run + self.examples.rows.tobytes())  # whose are the rows at each place
        for part in rows:
            placed.update(part.numpy().tobytes())
        noted = Noted.of(folder, placed.digest(), charged)
        return Released(self.plan, rows, resumed, noted.before, noted.keep, noted.lost)

    def charged(self, training: Rounds[T], released: Released) -> Rounds[T]:
        """The same rounds of a schedule. Before them the run is charged the most that it may spend; before
        rows leave again with other noise than in an earlier attempt, that; where they end by an error, what
        had left until then. What an earlier attempt was charged stays.

        Raises BudgetError, AccountError, StorageError, with nothing sent of what they are about.
        """
        ledger, sent = self._ledger(), False
        stood = {charge.of: charge for charge in ledger.charges()}

        def reserve(times: Times) -> None:
            for charge in self._charges(times, released.lost):
                ledger.reserve(charge, budget_of(self.config))

        def each(word: Round) -> Generator[Round, Any, Any]:
            nonlocal sent
            if isinstance(word, Send):
                release = released.next(word.kind)
                if release is not None and released.is_again(release):
                    try:
                        reserve(released.most(release))
                    except BudgetError as error:
                        hub = self.config.contract.label_holder
                        why = f"{hub} sent other gradients for what is done again: {error}"
                        raise BudgetError(why) from error
                if release is not None:
                    released.add(release)
                sent = True
            return (yield word)

        try:
            reserve(released.most())
            return (yield from mapped(training, each))
        except GeneratorExit:
            raise
        except BaseException:  # an interrupt, too
            with suppress(PartyError):  # the reason of the end is not to be hidden by it
                for charge in self._charges(released.left(), released.lost):
                    now = charge if sent else replace(charge, rows=0, releases=0, rho=0.0, pure=0.0, kept="")
                    before = stood.get(charge.of)
                    ledger.settle(now if before is None else larger(before, now))
            raise

    def settle(self, released: Released) -> dict[str, Any]:
        """Training is over: charge what was spent, and tell it, as JSON has it.

        By partner: `epsilon` of this run, null if it has no noise, so no bound; `total` of all `runs` but
        those `unbounded`, which have none.
        """
        return _settled(self.config, self._charges(released.left(), released.lost))

    def _charges(self, times: Times, lost: int) -> list[Charge]:
        contract, run, split = self.config.contract, self.run.hex(), self.examples.split
        further = f" without {self.without}" if self.without else ""
        if self.config.name != contract.label_holder:
            hub, often = contract.label_holder, lost + releases(split, times, self.groups)
            rho = self.plan.embedding.rho(often)
            rows = sum(len(set(part.tolist())) for part in split)
            key = contract.parties[hub].key
            return [Charge(key, hub, run, EMBEDDING + further, rows, often, rho if rho < math.inf else None)]
        rows, pure = len(split.train) + len(split.validation), contract.privacy.label_epsilon
        kept = self.kept if pure is not None else ""
        return [
            Charge(contract.parties[name].key, name, run, LABELS + further, rows, 1, pure=pure, kept=kept)
            for name in contract.feature_holders
            if name != self.without
        ]

    def _ledger(self) -> Ledger:
        return ledger_of(self.config)


def kept_of(secret: bytes, asked: Sequence[str]) -> str:
    """As `Charge` has it, of all answers to what is asked: `Spending.of` says what that is."""
    question = b"vertical labels in the ledger v1\0" + "\0".join(asked).encode()
    return hmac.digest(secret, question, hashlib.sha256).hex()


def budget_of(config: Config) -> Budget | None:
    """This party's with each partner."""
    privacy, of_labels = config.contract.privacy, config.name == config.contract.label_holder
    most = privacy.label_budget if of_labels else privacy.embedding_budget
    return Budget(most, privacy.delta) if most is not None else None


def charged_prediction(
    config: Config, run: bytes, plan: Plan, rows: int, scoring: Rounds[None]
) -> Rounds[dict[str, Any]]:
    """A feature holder's rounds of a prediction, each of `rows` released once: charged before them, and
    nothing if they end before any message. Gives what `Spending.settle` tells.

    run: of the prediction; one that goes on releases the same bits again, and is charged once.
    Raises BudgetError, AccountError, StorageError, with nothing sent.
    """
    contract, ledger = config.contract, ledger_of(config)
    hub, rho = contract.label_holder, plan.embedding.rho(1)
    bound = rho if rho < math.inf else None
    charge = Charge(contract.parties[hub].key, hub, run.hex(), EMBEDDING, rows, 1, bound)
    stood, sent = {one.of: one for one in ledger.charges()}.get(charge.of), False

    def each(word: Round) -> Generator[Round, Any, Any]:
        nonlocal sent
        sent = sent or isinstance(word, Send)
        return (yield word)

    ledger.reserve(charge, budget_of(config))
    try:
        yield from mapped(scoring, each)
    except GeneratorExit:
        raise
    except BaseException:
        if not sent:
            with suppress(PartyError):  # the reason of the end is not to be hidden by it
                ledger.settle(stood or replace(charge, rows=0, releases=0, rho=0.0))
        raise
    return _settled(config, [charge])


def _settled(config: Config, charges: Sequence[Charge]) -> dict[str, Any]:
    """Charge what was spent, and tell it, as JSON has it."""
    ledger, delta, budget = ledger_of(config), config.contract.privacy.delta, budget_of(config)
    told = {}
    for charge in charges:
        ledger.settle(charge)
        total = ledger.totals(delta)[charge.partner]
        told[charge.name] = {
            "mechanism": charge.mechanism,
            "rows": charge.rows,
            "releases": charge.releases,
            "epsilon": _epsilon(charge, delta),
            "total": total.epsilon,
            "runs": total.runs,
            "unbounded": total.unbounded,
        }
    return {"delta": delta, "budget": budget.epsilon if budget else None, "partners": told}


def ledger_of(config: Config) -> Ledger:
    """This party's. Raises AccountError, StorageError."""
    return Ledger(config.party.storage, config.name, config.contract.parties[config.name].key)


def check_ledger(config: Config) -> None:
    """Is it whole, and this party's own, if there is one? Raises AccountError, StorageError."""
    ledger_of(config)


def foreseen(config: Config, run: bytes, answers: Sequence[str]) -> str:
    """What the next run may spend with each partner, in words; nothing without noise.

    run: the unfinished one that it would go on with, or nothing. A row of a feature holder is taken to leave
    once an epoch. answers: of a label holder, `kept_of` for each kind of id of which the parties may choose;
    that is taken which adds least. Raises BudgetError where even that is over the budget, AccountError,
    StorageError.
    """
    contract, privacy, budget = config.contract, config.contract.privacy, budget_of(config)
    hub, epochs = contract.label_holder, contract.training.epochs
    pure, rho, ways, partners = 0.0, 0.0, answers, contract.feature_holders
    if config.name == hub:
        pure, mechanism, releases = privacy.label_epsilon or 0.0, LABELS, 1
    else:
        if privacy.embedding_clip is not None and privacy.embedding_sigma:
            rho = EmbeddingDP(privacy.embedding_clip, privacy.embedding_sigma).rho(epochs)
        mechanism, releases, ways, partners = EMBEDDING, epochs, [""], [hub]
    if not (pure or rho) or not ways:
        return ""
    charges = ledger_of(config).charges()
    more = " or more" if rho and (contract.several or contract.evaluation.importance == "columns") else ""
    said: dict[str, list[str]] = {}
    for name in partners:
        key = contract.parties[name].key
        now = [Charge(key, name, run.hex(), mechanism, 0, releases, rho, pure, way) for way in ways]
        least = min(now, key=lambda one: total_with(charges, one, None).epsilon)
        for stood in (one for one in charges if one.of == least.of):
            least = larger(stood, least)
        total_with(charges, least, budget)
        before = total_of(charges, key, privacy.delta)
        after = total_of([*(one for one in charges if one.of != least.of), least], key, privacy.delta)
        words = (
            f"a run may spend epsilon {_epsilon(least, privacy.delta):.2f}{more} at delta {privacy.delta:g}; "
            f"spent so far {before.epsilon:.2f}{beside(before.unbounded)}, with it {after.epsilon:.2f}"
            f"{more}; " + (f"budget {budget.epsilon:g}" if budget else "no budget")
        )
        said.setdefault(words, []).append(name)
    return "; ".join(f"with {' and with '.join(names)} {words}" for words, names in said.items())


def _epsilon(charge: Charge, delta: float) -> float | None:
    if charge.rho is None or charge.pure is None:
        return None
    return charge.pure + epsilon(charge.rho, delta)
