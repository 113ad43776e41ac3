"""Small made-up federations: parties with columns, a label that depends on all of them, private seeds."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protos.memory import Together, together
from protos.rounds import Resume, Round, Rounds, Send, mapped
from splitnn.bags import Bag
from splitnn.exact import FeatureHolderResult, LabelHolderResult
from splitnn.features import Features
from splitnn.importance import Drop
from splitnn.local import DEFAULTS, Local
from splitnn.masks import Masks
from splitnn.models import bottom_model, top_model
from splitnn.plan import Plan
from splitnn.reference import ReferenceResult
from splitnn.schedule import Split, split_rows
from splitnn.schedules import SCHEDULES
from splitnn.secure_sum import SECURE_SUM
from splitnn.tasks import Labels, Objective

Result = LabelHolderResult | FeatureHolderResult


@dataclass(frozen=True)
class Federation:
    """The first party holds the labels."""

    features: dict[str, Features]
    rows: Split
    labels: Labels
    seeds: dict[str, bytes]

    def protocols(
        self,
        plan: Plan,
        saved: dict[str, Resume] | None = None,
        choices: dict[str, Local] | None = None,
        attempt: bytes = b"a" * 32,
    ) -> dict[str, Rounds[Result]]:
        """Every party's generator. saved: what each starts again from. choices: of those who make any.
        attempt: of masks, where the plan has any."""
        hub, *others = self.features
        schedule = SCHEDULES[plan.schedule]
        saved, choices = saved or {}, dict.fromkeys(self.features, DEFAULTS) | (choices or {})
        parties: dict[str, Rounds[Result]] = {
            hub: schedule.label_holder(
                plan,
                self.rows,
                self.features[hub],
                self.labels,
                others,
                self.seeds[hub],
                saved.get(hub),
                choices[hub],
            )
        }
        for name in others:
            parties[name] = schedule.feature_holder(
                plan,
                self.rows,
                self.features[name],
                hub,
                self.seeds[name],
                saved.get(name),
                choices[name],
                **({"masks": Make.masks(name, others, attempt)} if plan.fusion == SECURE_SUM else {}),
            )
        return parties

    def warm(self, plan: Plan, choices: dict[str, Local], seed: bytes = b"earlier") -> dict[str, Local]:
        """The same choices, with weights of other models of the same shapes to start from."""
        hub, outputs = next(iter(self.features)), Objective(plan.task, plan.loss, self.labels).outputs
        parties, found = 2 if plan.fusion == SECURE_SUM else len(self.features), {}
        for name, part in self.features.items():
            local = choices.get(name, DEFAULTS)
            shape = part.numeric.shape[1], part.levels, seed + name.encode(), local, part.bag_levels
            halves = {"bottom": bottom_model(plan, *shape)}
            if name == hub:
                halves["top"] = top_model(plan, parties, seed, outputs, local)
            found[name] = replace(local, warm=weights(halves))
        return found

    def split_training(self, plan: Plan) -> Together[Result]:
        return together(self.protocols(plan))

    def reference(self, plan: Plan, choices: dict[str, Local] | None = None) -> ReferenceResult:
        train = SCHEDULES[plan.schedule].reference
        return train(plan, self.rows, self.features, self.labels, self.seeds, choices or {})


def weights(halves: dict[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{half}.{name}": one for half, module in halves.items() for name, one in module.state_dict().items()
    }


class Make:
    """Builders that the tests share."""

    @staticmethod
    def features(
        n: int, numeric: int, levels: tuple[int, ...], seed: int = 0, bags: tuple[int, ...] = ()
    ) -> Features:
        random = torch.Generator().manual_seed(seed)
        codes = [torch.randint(0, count, (n,), generator=random) for count in levels]
        table = torch.stack(codes, 1) if codes else torch.zeros(n, 0, dtype=torch.int64)
        numbers = torch.randn(n, numeric, generator=random)
        return Features(numbers, table, levels, [Make.bag(n, count, random) for count in bags])

    @staticmethod
    def bag(n: int, levels: int, random: torch.Generator) -> Bag:
        """0 to 4 codes a row."""
        offsets = torch.cat(
            (torch.zeros(1, dtype=torch.int64), torch.randint(0, 5, (n,), generator=random).cumsum(0))
        )
        return Bag(torch.randint(0, levels, (int(offsets[-1]),), generator=random), offsets, levels)

    @staticmethod
    def federation(n: int, columns: Sequence[tuple[Any, ...]], public: bytes = b"public") -> Federation:
        """columns: (numeric columns, levels of the categorical ones[, levels of bags]) of each party."""
        features = {
            f"p{party}": Make.features(n, numeric, levels, party, *bags)
            for party, (numeric, levels, *bags) in enumerate(columns)
        }
        signal = torch.zeros(n)
        for part in features.values():
            signal += part.numeric.sum(1) + (part.categorical % 3 - 1).sum(1)
        rows = split_rows(n, 0.2, 0.2, public)
        labels = []
        for part in rows:
            truth = (
                signal[part] + torch.randn(len(part), generator=torch.Generator().manual_seed(1)) > 0
            ).float()
            truth[:2] = torch.tensor([0.0, 1.0])  # both classes in every part
            labels.append(truth)
        told = Labels(*labels, draws=Make.draws(*labels[:2]))
        return Federation(features, rows, told, {name: name.encode() for name in features})

    @staticmethod
    def draws(train: Tensor, validation: Tensor) -> tuple[Tensor, Tensor]:
        """Of randomised response, for labels that some plans want to lie."""
        random = torch.Generator().manual_seed(2)
        one, other = (
            torch.rand(len(part), 2, dtype=torch.float64, generator=random) for part in (train, validation)
        )
        return one, other

    @staticmethod
    def masks(me: str, holders: Sequence[str], attempt: bytes = b"a" * 32) -> Masks:
        """Each pair's secret is its names."""
        secrets = {name: "".join(sorted((me, name))).encode() for name in holders if name != me}
        return Masks(me, holders, secrets, b"r" * 32, attempt)

    @staticmethod
    def weights(results: dict[str, Result]) -> dict[str, Tensor]:
        """All parties' weights, by party and name, of a split training."""
        modules: dict[str, nn.Module] = {name: result.bottom for name, result in results.items()}
        modules["top"] = next(r.top for r in results.values() if isinstance(r, LabelHolderResult))
        return {f"{at} {k}": v for at, module in modules.items() for k, v in module.state_dict().items()}

    @staticmethod
    def reference_weights(result: ReferenceResult) -> dict[str, Tensor]:
        modules: dict[str, nn.Module] = {**result.bottoms, "top": result.top}
        return {f"{at} {k}": v for at, module in modules.items() for k, v in module.state_dict().items()}

    @staticmethod
    def assert_same(results: dict[str, Result], joined: ReferenceResult) -> None:
        """Split training ended as the reference did: weights, history, scores, counts."""
        hub = next(result for result in results.values() if isinstance(result, LabelHolderResult))
        ours, theirs = Make.weights(results), Make.reference_weights(joined)
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
        assert hub.history == joined.history
        assert repr(hub.importance) == repr(joined.importance)  # NaN where it cannot be judged
        groups = joined.importance.groups if joined.importance else ()
        for party, name in enumerate(joined.bottoms):
            if isinstance(result := results[name], FeatureHolderResult):
                known = [Drop.told(drop.payload) for drop in groups[party]] if groups else []
                assert repr([*result.importance]) == repr(known)
        assert torch.equal(hub.scores, joined.scores)
        assert torch.equal(hub.labels, joined.labels)
        assert torch.equal(hub.validation_logits, joined.validation_logits)
        assert hub.without.keys() == joined.without.keys()
        assert [
            name for name in joined.without if not torch.equal(hub.without[name], joined.without[name])
        ] == []
        for result in results.values():
            assert (result.steps, result.epochs, result.best_epoch) == (
                joined.steps,
                joined.epochs,
                joined.best_epoch,
            )

    @staticmethod
    def labelled(federation: Federation, task: str, loss: str = "", weighted: bool = False) -> Federation:
        """The federation with labels of this task that depend on all parties' columns."""
        signal = torch.stack([part.numeric.sum(1) for part in federation.features.values()]).sum(0)
        random = torch.Generator().manual_seed(1)
        signal = signal + 0.5 * torch.randn(len(signal), generator=random)
        names: tuple[str, ...] = ()
        every: Tensor
        if task == "multiclass":
            every, names = torch.bucketize(signal, torch.tensor([-2.0, 2.0])), ("low", "middle", "high")
        elif task == "multilabel":
            every, names = torch.stack((signal > 0, signal > 2), 1).float(), ("click", "conversion")
        elif task == "regression":
            every = torch.poisson((signal / 3).exp(), random) if loss == "poisson" else 50 + 1000 * signal
            every = every.double()
        else:
            every = (signal > 0).float()
        train, validation, test = (every[part] for part in federation.rows)
        weights = torch.rand(train.shape, generator=random).double() if weighted else None
        draws = Make.draws(train, validation)
        return replace(federation, labels=Labels(train, validation, test, names, weights, draws=draws))

    @staticmethod
    def repeated(federation: Federation, times: int) -> Federation:
        """With so many examples of each entity, alike in all."""
        rows = Split(*(part.repeat_interleave(times) for part in federation.rows))
        labels = {part: getattr(federation.labels, part) for part in (*Split._fields, "weights")}
        again = {
            part: of.repeat_interleave(times, 0) if of is not None else None for part, of in labels.items()
        }
        if federation.labels.draws is not None:
            again["draws"] = tuple(part.repeat_interleave(times, 0) for part in federation.labels.draws)
        return replace(federation, rows=rows, labels=replace(federation.labels, **again))

    @staticmethod
    def tampered(rounds: Rounds[Any], change: Callable[[Send], Send]) -> Rounds[Any]:
        """A party whose messages are changed before they leave."""

        def each(word: Round) -> Generator[Round, Any, Any]:
            return (yield change(word) if isinstance(word, Send) else word)

        return mapped(rounds, each)


@pytest.fixture(scope="session")
def make() -> Make:
    return Make()


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """The condition under which sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
