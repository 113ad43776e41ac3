"""What a run is charged, before and after: of each side, over several runs, and where a budget ends it."""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from parties.charges import DELTA, Charge
from parties.contract import Contract
from parties.errors import AccountError, BudgetError, PartyError
from parties.ledger import path_of
from parties.phases import plan_of
from parties.spending import Spending, check_ledger, foreseen, kept_of, ledger_of
from parties.summary import _privacy
from protos.rounds import Rounds, Send
from splitnn.accountant import epsilon, rho
from splitnn.releases import Released
from splitnn.schedule import Split

NAMES = ("platform", "logistics", "advertiser")
NOISE = {"embedding_clip": 1.0, "embedding_sigma": 4.0}
ALIGNED = np.arange(30)
ROWS = Split(torch.arange(20), torch.arange(20, 25), torch.arange(25, 30))


def contract_of(privacy: dict[str, Any], **changes: Any) -> Contract:
    return Contract.model_validate(
        {
            "version": 1,
            "name": "private",
            "label_holder": "platform",
            "seed": 7,
            "parties": {name: {"key": f"sha256:{name[0].encode().hex() * 32}"} for name in NAMES},
            "ids": {"type": "email"},
            "training": {"epochs": 10},
            "privacy": privacy,
        }
        | changes
    )


def spending(
    storage: Path,
    name: str,
    run: int = 1,
    asked: tuple[str, ...] = ("email", "bought"),
    rows: Split = ROWS,
    groups: int = 0,
    aligned: NDArray[np.int64] = ALIGNED,
    secret: bytes = b"s" * 32,
    privacy: dict[str, Any] | None = None,
    **changes: Any,
) -> Spending:
    contract = contract_of(NOISE if privacy is None else privacy, **changes)
    config: Any = SimpleNamespace(name=name, contract=contract, party=SimpleNamespace(storage=storage))
    examples: Any = SimpleNamespace(split=rows, rows=aligned)
    return Spending.of(config, bytes([run] * 32), plan_of(contract), examples, groups, asked, secret)


def spent(storage: Path, name: str, epochs: int = 10, **changes: Any) -> dict[str, Any]:
    """A whole run of batches of all rows."""
    one = spending(storage, name, **changes)
    importance = ["importance"] if one.plan.importance == "columns" else []
    return one.settle(training(one, *["activation"] * epochs, "test", *importance))


class Ended(PartyError):
    """Training ends before its time."""


def sending(
    released: Released, *kinds: str, error: BaseException | None = None, resumed: int = 0, gradients: str = ""
) -> Rounds[None]:
    """A training that sends messages of these kinds, and ends, by that error or without. gradients: by other
    ones, the second and further messages have other noise. 20 rows in batches of 8 are three steps an epoch.
    """
    sent = Counter[str]()
    for kind in kinds:
        place = sent[kind] + (3 * resumed if kind == "activation" else 0)
        released.draw(f"{kind} {place} {gradients if sum(sent.values()) else ''}".encode())
        sent[kind] += 1
        yield Send("platform", kind, b"")
    if error is not None:
        raise error


def folder_of(one: Spending) -> Path:
    return Path(one.config.party.storage / f"unfinished {one.run.hex()}")


def training(one: Spending, *kinds: str, resumed: int = 0, **more: Any) -> Released:
    released = one.released(folder_of(one), resumed)
    with suppress(Ended):
        for _ in one.charged(sending(released, *kinds, resumed=resumed, **more), released):
            pass
    return released


COLUMNS = {"training": {"epochs": 10, "batch": 8}, "evaluation": {"importance": "columns"}}
STEP = ("activation",)


def in_ledger(one: Spending) -> int:
    """Releases of this run."""
    return {charge.run: charge.releases for charge in ledger_of(one.config).charges()}[one.run.hex()]


def test_what_had_left_when_training_ended_is_charged(tmp_path: Path) -> None:
    def releases(*kinds: str, run: int, killed: bool = False, **more: Any) -> int:
        one = spending(tmp_path, "logistics", run=run, groups=3, **COLUMNS)
        if killed:
            released = one.released(folder_of(one))
            rounds = one.charged(sending(released, *kinds), released)
            next(rounds)
            rounds.close()
        else:
            training(one, *kinds, error=Ended(), **more)
        return in_ledger(one)

    assert releases(run=1) == 0
    assert releases(*STEP, run=2) == 1
    assert releases(*STEP * 4, run=3) == 2
    assert releases(*STEP * 4, run=3, resumed=1) == 3  # it has gone on
    assert releases(run=3, resumed=1) == 3
    assert releases(*STEP * 30, "test", run=4) == 10
    assert releases(*STEP * 30, "test", "groups", "importance", run=5) == 31
    assert releases(*STEP, run=6, killed=True) == 31
    assert releases(*STEP, run=6) == 31


def noisy(storage: Path, **changes: Any) -> Spending:
    one = spending(storage, "logistics", **{"training": {"epochs": 10, "batch": 8}} | changes)
    return one


def test_what_is_done_again_by_other_gradients_is_charged_again(tmp_path: Path) -> None:
    one = noisy(tmp_path)
    training(one, *STEP * 10, error=Ended())  # three epochs, and a step of the fourth
    assert in_ledger(one) == 4
    training(one, *STEP * 10, error=Ended())
    assert in_ledger(one) == 4  # to the bit as before
    training(one, *STEP * 4, resumed=2, error=Ended())
    assert in_ledger(one) == 4
    training(one, *STEP * 4, resumed=2, error=Ended(), gradients="other")
    assert in_ledger(one) == 4 + 2  # epochs 3 and 4
    released = training(one, *STEP * 24, "test", resumed=2, gradients="third")
    assert one.settle(released)["partners"]["platform"]["releases"] == 10 + 2 + 2


def test_other_gradients_that_the_budget_does_not_allow_get_nothing(tmp_path: Path) -> None:
    one = noisy(tmp_path, privacy=NOISE | {"embedding_budget": 8.5})
    training(one, *STEP * 6, error=Ended())
    before = ledger_of(one.config).charges()
    training(one, *STEP * 6, error=Ended())
    with pytest.raises(
        BudgetError, match=r"^platform sent other gradients for what is done again: .*over the"
    ):
        training(one, *STEP * 6, gradients="other")
    released = one.released(folder_of(one))
    assert released.left().train == 2  # the step of other noise did not leave
    assert ledger_of(one.config).charges() == before


def test_what_is_noted_no_more_is_charged_in_full_again(tmp_path: Path) -> None:
    one = noisy(tmp_path)
    training(one, *STEP * 6, error=Ended())
    [path] = tmp_path.glob("unfinished */released.jsonl")
    path.unlink()
    training(one, *STEP * 3, resumed=1, error=Ended())
    assert in_ledger(one) == 2 + 1
    training(one, *STEP * 3, resumed=1, error=Ended())
    assert in_ledger(one) == 3
    other = noisy(tmp_path, aligned=ALIGNED[::-1])  # the others brought other users when all aligned again
    training(other, *STEP * 3, error=Ended())
    assert in_ledger(one) == 4


def test_a_feature_holder_is_charged_for_each_release_of_a_row(tmp_path: Path) -> None:
    told = spent(tmp_path, "logistics")
    assert (told["delta"], told["budget"]) == (DELTA, None)
    assert told["partners"]["platform"] == {
        "mechanism": "embedding",
        "rows": 30,
        "releases": 10,
        "epsilon": epsilon(rho(2.0, 10), DELTA),
        "total": epsilon(rho(2.0, 10), DELTA),
        "runs": 1,
        "unbounded": 0,
    }
    assert told["partners"]["platform"]["epsilon"] == pytest.approx(8.079, abs=0.001)


def test_what_was_not_run_is_given_back_and_runs_add_up(tmp_path: Path) -> None:
    spent(tmp_path, "logistics", epochs=4)
    [total] = ledger_of(config_of(tmp_path, "logistics")).totals().values()
    assert (total.releases, total.epsilon) == (4, epsilon(rho(2.0, 4), DELTA))
    told = spent(tmp_path, "logistics", epochs=4)["partners"]["platform"]  # started again: the same run
    assert (told["runs"], told["total"]) == (1, told["epsilon"])
    told = spent(tmp_path, "logistics", epochs=6, run=2)["partners"]["platform"]
    assert (told["runs"], told["total"]) == (2, epsilon(rho(2.0, 10), DELTA))
    assert told["total"] < 2 * told["epsilon"]


def test_rows_of_several_examples_and_shuffled_columns_count(tmp_path: Path) -> None:
    thrice = Split(torch.arange(20).repeat(3), *ROWS[1:])
    assert spent(tmp_path, "logistics", rows=thrice)["partners"]["platform"]["releases"] == 30
    columns = {"evaluation": {"importance": "columns"}}
    told = spent(tmp_path, "logistics", run=2, groups=3, **columns)["partners"]["platform"]
    assert told["releases"] == 1 + 2 * 5 * 3


def test_the_label_holder_is_charged_once_for_answers_that_stay(tmp_path: Path) -> None:
    lies = {"label_epsilon": 2.0, "label_budget": 4.5}
    for run in (1, 2, 3):
        told = spent(tmp_path, "platform", run=run, privacy=lies)
        assert told["budget"] == 4.5
        assert [(name, one["total"]) for name, one in told["partners"].items()] == [
            ("advertiser", 2.0),
            ("logistics", 2.0),
        ]
    other = spent(tmp_path, "platform", run=4, privacy=lies, asked=("email", "returned"))
    assert other["partners"]["logistics"]["total"] == 4.0
    with pytest.raises(BudgetError, match=r"with advertiser from 4\.000 to 6\.000, over the budget of"):
        spent(tmp_path, "platform", run=5, privacy=lies, secret=b"other" * 8)


def test_what_labels_may_spend_is_foreseen(tmp_path: Path) -> None:
    """To each partner. Answers that it has count once; a kind of id by which it has them may be chosen."""
    lies = {"label_epsilon": 2.0, "label_budget": 3.0, "delta": 1e-6}
    config = config_of(tmp_path, "platform", privacy=lies)
    bought, again = kept_of(b"s" * 32, ("email", "bought")), kept_of(b"s" * 32, ("email", "returned"))
    said = "with advertiser and with logistics a run may spend epsilon 2.00 at delta 1e-06; spent so far "
    assert foreseen(config, b"", [bought]) == f"{said}0.00, with it 2.00; budget 3"
    assert foreseen(config, b"", []) == ""  # nobody knows the label
    told = spent(tmp_path, "platform", privacy=lies)["partners"]
    for ways in ([bought], [again, bought]):
        assert foreseen(config, b"", ways) == f"{said}2.00, with it 2.00; budget 3"
    with pytest.raises(BudgetError, match=r"with advertiser from 2\.000 to 4\.000, over the budget of"):
        foreseen(config, b"", [again])
    assert told == spent(tmp_path, "platform", run=1, privacy=lies)["partners"]
    more = config_of(tmp_path, "platform", privacy={"label_epsilon": 2.0})
    assert foreseen(more, b"", [again]).endswith("spent so far 2.00, with it 4.00; no budget")
    other = Charge(key_of(config, "logistics"), "logistics", "f" * 64, "labels", 9, 1, pure=0.5)
    ledger_of(config).reserve(other)
    assert "with advertiser a run may" in foreseen(config, b"", [bought])
    assert "; with logistics a run may spend epsilon 2.00" in foreseen(config, b"", [bought])


def key_of(config: Any, name: str) -> str:
    return str(config.contract.parties[name].key)


def test_without_noise_there_is_no_bound(tmp_path: Path) -> None:
    asked = {"purpose": "scores"}
    bare = spent(tmp_path, "logistics", privacy=asked)["partners"]["platform"]
    assert (bare["epsilon"], bare["total"], bare["unbounded"]) == (None, 0, 1)
    assert spent(tmp_path, "platform", privacy=asked)["partners"]["logistics"]["epsilon"] is None
    [told] = _privacy({"privacy": spent(tmp_path, "logistics", run=2, privacy=NOISE)})
    assert "8.079, in 1 run(s) 8.079 and 1 run(s) without noise, which no epsilon bounds; delta" in told
    spent(tmp_path, "logistics", run=2, privacy=NOISE | {"embedding_budget": 9.0})  # nothing bars it
    clipped = {"embedding_clip": 1.0, "embedding_sigma": 0.0}
    assert spent(tmp_path, "advertiser", privacy=clipped)["partners"]["platform"]["epsilon"] is None


def test_a_run_of_which_the_contract_asks_nothing_is_in_the_ledger_too(tmp_path: Path) -> None:
    for name, partners in (("logistics", ["platform"]), ("platform", ["advertiser", "logistics"])):
        spent(tmp_path, name, privacy={})
        one = spending(tmp_path, name, privacy={})
        totals = ledger_of(one.config).totals().values()
        assert [(total.name, total.runs, total.unbounded, total.epsilon) for total in totals] == [
            (partner, 1, 1, 0.0) for partner in partners
        ]
        assert all(total.rows >= 25 for total in totals)
        assert foreseen(one.config, b"", ["any"]) == ""


def test_a_run_beyond_the_budget_is_refused_before_anything_is_released(tmp_path: Path) -> None:
    budget = NOISE | {"embedding_budget": 9.0}
    spent(tmp_path, "logistics", privacy=budget)
    one = spending(tmp_path, "logistics", run=2, privacy=budget)
    before = ledger_of(one.config).totals()
    with pytest.raises(
        BudgetError, match=r"over the budget of epsilon 9 at delta 1e-05: agree on more noise"
    ):
        training(one, "activation")
    assert ledger_of(one.config).totals() == before
    with pytest.raises(BudgetError, match=r"from 8\.079 to 12\.\d+, over the budget of epsilon 9"):
        foreseen(one.config, b"", [])
    assert foreseen(one.config, bytes([1] * 32), []) == (  # to go on with the first
        "with platform a run may spend epsilon 8.08 at delta 1e-05; spent so far 8.08, with it 8.08; budget 9"
    )
    again = spending(tmp_path, "logistics", privacy=budget)
    training(again)  # the first run itself may go on


def config_of(storage: Path, name: str, **changes: Any) -> Any:
    one = spending(storage, name, **changes)
    return one.config


def test_a_ledger_of_another_or_changed_is_refused_before_the_run(tmp_path: Path) -> None:
    config = config_of(tmp_path, "logistics")
    check_ledger(config)
    assert foreseen(config, b"", []).endswith("; spent so far 0.00, with it 8.08; no budget")
    assert foreseen(config_of(tmp_path, "platform"), b"", ["any"]) == ""
    assert not path_of(tmp_path, "logistics").exists()
    spent(tmp_path, "logistics")
    check_ledger(config)
    content = path_of(tmp_path, "logistics").read_bytes()
    path_of(tmp_path, "advertiser").write_bytes(content)
    with pytest.raises(AccountError, match="is the ledger of 'logistics'"):
        check_ledger(config_of(tmp_path, "advertiser"))
    place = content.index(b'"releases":10')
    path_of(tmp_path, "logistics").write_bytes(content[:place] + b'"releases":01' + content[place + 13 :])
    with pytest.raises(AccountError, match="was changed from here on"):
        check_ledger(config)
    with pytest.raises(AccountError, match="was changed from here on"):
        check_ledger(config_of(tmp_path, "logistics", privacy={}))
