"""What counts against a privacy budget: charges, what they add up to, and where they would be too much.

What counts is the worst row: one that is in every run, and is released as often as any. Charges of Gaussian
noise add up as rho, and become an epsilon together (`splitnn.accountant`); pure epsilons add up; what is
drawn once and kept, the same answers in every run (`kept`), counts once. A run without noise is counted, and
adds nothing to the epsilon: no epsilon bounds it, which is said in words beside what the others add up to.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from parties.errors import BudgetError
from splitnn.accountant import epsilon

DELTA: Final = 1e-5
"""At which epsilons are shown where no budget says otherwise."""


@dataclass(frozen=True)
class Budget:
    """With one partner, over all runs. Raises ValueError for one that is none."""

    epsilon: float
    delta: float = DELTA

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < float("inf"):
            raise ValueError(f"a budget's epsilon must be above 0 and finite, not {self.epsilon:g}")
        if not 0 < self.delta < 1:
            raise ValueError(f"a budget's delta must be above 0 and below 1, not {self.delta:g}")


@dataclass(frozen=True)
class Charge:
    """Of one run with one partner by one mechanism. Raises ValueError for negative numbers.

    partner: the fingerprint of its key; name: what run.toml calls it. run: hex. mechanism: `embedding`, ...
    rows: involved. releases: of each row, the most. rho: of Gaussian noise; pure: epsilon of any other;
    None, either: there is no bound. kept: names what was drawn once for all runs; empty: nothing was. One
    draw used at two strengths would tell what it hides: such charges add up, and the draws must differ.
    """

    partner: str
    name: str
    run: str
    mechanism: str
    rows: int
    releases: int
    rho: float | None = 0.0
    pure: float | None = 0.0
    kept: str = ""

    def __post_init__(self) -> None:
        words = (self.partner, self.name, self.run, self.mechanism, self.kept)
        counts, spent = (self.rows, self.releases), (self.rho, self.pure)
        if any(type(word) is not str for word in words) or any(type(count) is not int for count in counts):
            raise ValueError("a charge of something else than words and whole numbers")
        if any(number is not None and not 0 <= number < float("inf") for number in spent) or min(counts) < 0:
            raise ValueError("a charge of less than nothing, or of no number")

    @property
    def bounded(self) -> bool:
        """Does an epsilon say what it tells at most?"""
        return (self.rho is not None and self.pure is not None) or not self.releases

    @property
    def of(self) -> tuple[str, str, str]:
        return self.partner, self.run, self.mechanism


class Total(NamedTuple):
    """With one partner. rows, releases: the most of a run; of all runs. epsilon: of the runs with noise.
    unbounded: runs without it, which no epsilon bounds."""

    name: str
    runs: int
    rows: int
    releases: int
    epsilon: float
    unbounded: int


def larger(one: Charge, other: Charge) -> Charge:
    """Of two of the same run, partner and mechanism: what covers both."""

    def most(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else max(a, b)

    return Charge(
        other.partner,
        other.name,
        other.run,
        other.mechanism,
        max(one.rows, other.rows),
        max(one.releases, other.releases),
        most(one.rho, other.rho),
        most(one.pure, other.pure),
        other.kept,
    )


def total_of(charges: Iterable[Charge], partner: str, delta: float) -> Total:
    """Of all charges with the partner."""
    own = [charge for charge in charges if charge.partner == partner]
    rho, pure, kept = 0.0, 0.0, set[tuple[str, float]]()
    for charge in own:
        if charge.rho is None or charge.pure is None:
            continue
        rho += charge.rho
        if charge.kept:
            kept.add((charge.kept, charge.pure))
        else:
            pure += charge.pure
    spent = pure + sum(strength for _, strength in kept) + epsilon(rho, delta)
    return Total(
        own[-1].name if own else "",
        len({charge.run for charge in own}),
        max((charge.rows for charge in own), default=0),
        sum(charge.releases for charge in own),
        spent,
        len({charge.run for charge in own if not charge.bounded}),
    )


def total_with(charges: Iterable[Charge], now: Charge, budget: Budget | None) -> Total:
    """With its partner, with this charge in place of what its run was charged before. Raises BudgetError."""
    charges = [*charges]
    others = [one for one in charges if one.of != now.of]
    total = total_of([*others, now], now.partner, budget.delta if budget else DELTA)
    if budget is not None and not now.bounded:
        raise BudgetError(f"the run has no noise, and no budget with {now.name} holds without: agree on some")
    if budget is not None and total.epsilon > budget.epsilon:
        spent = total_of(charges, now.partner, budget.delta).epsilon
        raise BudgetError(
            f"the run would bring what is spent with {now.name} from {spent:.3f} to {total.epsilon:.3f}, "
            f"over the budget of epsilon {budget.epsilon:g} at delta {budget.delta:g}: agree on more noise "
            "or fewer epochs, or raise the budget, in run.toml, then `party run --afresh`"
        )
    return total


def text(totals: dict[str, Total], delta: float) -> str:
    """For people: a partner a line; its key's first digits where another key had the same name."""
    if not totals:
        return "nothing was charged yet"
    lines = [f"{'partner':<24}{'runs':>6}{'rows':>12}{'releases':>10}{'epsilon':>12}  (at delta {delta:g})"]
    names = Counter(total.name for total in totals.values())

    def shown(key: str, name: str) -> str:
        return name if names[name] == 1 else f"{name} ({key.removeprefix('sha256:')[:8]})"

    lines += [
        f"{shown(key, total.name):<24}{total.runs:>6}{total.rows:>12}{total.releases:>10}"
        f"{total.epsilon:>12.3f}" + beside(total.unbounded)
        for key, total in sorted(totals.items())
    ]
    return "\n".join(lines)


def beside(unbounded: int) -> str:
    """What is to be said beside an epsilon, of so many runs that are not in it."""
    return f" and {unbounded} run(s) without noise, which no epsilon bounds" if unbounded else ""
