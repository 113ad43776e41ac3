"""What a run spends with each partner: charged to the ledger before anything is released, settled afterwards.

A feature holder is charged for its activations, which the label holder sees; the label holder for its labels,
which each feature holder's gradients tell of. Only where the contract has a `[privacy]`.
"""

import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from parties.config import Config
from parties.contract_privacy import Privacy
from parties.examples import Examples
from parties.ledger import Budget, Charge, Ledger, path_of
from splitnn.accountant import epsilon
from splitnn.plan import Plan
from splitnn.releases import releases

EMBEDDING, LABELS = "embedding", "labels"


@dataclass(frozen=True)
class Spending:
    """Of one run. groups: of this party's columns, whose importance is measured. kept: as `Charge` has it, of
    the answers that labels which lie give in every run."""

    config: Config
    run: bytes
    plan: Plan
    examples: Examples
    groups: int
    kept: str

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
    ) -> Self | None:
        """None where the contract asks for no privacy. asked: the kind of id, and what each record is asked
        (`parties.label_draws`). secret: the party's own, from which the answers are drawn."""
        if config.contract.privacy == Privacy():
            return None
        question = b"vertical labels in the ledger v1\0" + "\0".join(asked).encode()
        return cls(config, run, plan, examples, groups, hmac.digest(secret, question, hashlib.sha256).hex())

    def reserve(self) -> None:
        """Charge the most that the run may spend. Raises BudgetError, AccountError, StorageError."""
        ledger = self._ledger()
        for charge in self._charges(None):
            ledger.reserve(charge, self._budget())

    def settle(self, epochs: int) -> dict[str, Any]:
        """Training is over after so many epochs: charge what was spent, and tell it, as JSON has it.

        By partner: `epsilon` of this run, null if it has no noise, so no bound; `total` of all `runs` but
        those `unbounded`, which have none.
        """
        ledger, delta, budget = self._ledger(), self.config.contract.privacy.delta, self._budget()
        told = {}
        for charge in self._charges(epochs):
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

    def _charges(self, epochs: int | None) -> list[Charge]:
        contract, run, split = self.config.contract, self.run.hex(), self.examples.split
        if self.config.name != contract.label_holder:
            hub, often = contract.label_holder, releases(self.plan, split, epochs, self.groups)
            rho = self.plan.embedding.rho(often)
            rows = sum(len(set(part.tolist())) for part in split)
            key = contract.parties[hub].key
            return [Charge(key, hub, run, EMBEDDING, rows, often, rho if rho < math.inf else None)]
        rows, pure = len(split.train) + len(split.validation), contract.privacy.label_epsilon
        kept = self.kept if pure is not None else ""
        return [
            Charge(contract.parties[name].key, name, run, LABELS, rows, 1, pure=pure, kept=kept)
            for name in contract.feature_holders
        ]

    def _budget(self) -> Budget | None:
        privacy = self.config.contract.privacy
        of_labels = self.config.name == self.config.contract.label_holder
        most = privacy.label_budget if of_labels else privacy.embedding_budget
        return Budget(most, privacy.delta) if most is not None else None

    def _ledger(self) -> Ledger:
        return ledger_of(self.config)


def ledger_of(config: Config) -> Ledger:
    """This party's. Raises AccountError, StorageError."""
    return Ledger(config.party.storage, config.name, config.contract.parties[config.name].key)


def check_ledger(config: Config) -> None:
    """Is it whole, and this party's own, if there is one? Raises AccountError, StorageError."""
    if config.contract.privacy != Privacy() and path_of(config.party.storage, config.name).exists():
        ledger_of(config)


def _epsilon(charge: Charge, delta: float) -> float | None:
    if charge.rho is None or charge.pure is None:
        return None
    return charge.pure + epsilon(charge.rho, delta)
