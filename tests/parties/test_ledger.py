"""The privacy ledger: what runs spend adds up, a budget refuses, and no change is missed."""

import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parties.chain import FIRST, link
from parties.charges import Budget, Charge, text, total_of
from parties.errors import AccountError, BudgetError, StorageError, exit_code
from parties.ledger import CHAIN, Ledger
from splitnn.accountant import epsilon, rho

CHARGE = Charge("sha256:aa", "platform", "1" * 64, "embedding", 1000, 10, rho(2, 10))


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path, "logistics", "sha256:own", lambda: 5.0)


def run(number: int, **changes: Any) -> Charge:
    return replace(CHARGE, run=f"{number:064x}", **changes)


def test_runs_add_up_as_one_gaussian(ledger: Ledger) -> None:
    for number in range(3):
        total = ledger.reserve(run(number))
    assert total == ledger.totals()["sha256:aa"]
    assert (total.name, total.runs, total.rows, total.releases) == ("platform", 3, 1000, 30)
    assert total.epsilon == epsilon(rho(2, 30), 1e-5)
    assert total.epsilon < 3 * epsilon(rho(2, 10), 1e-5)


def test_a_run_that_goes_on_is_charged_once(ledger: Ledger) -> None:
    ledger.reserve(CHARGE)
    head = ledger.head
    ledger.reserve(CHARGE)
    assert ledger.head == head
    ledger.reserve(replace(CHARGE, releases=12, rho=rho(2, 12)))
    ledger.reserve(CHARGE)
    assert ledger.charges() == [replace(CHARGE, releases=12, rho=rho(2, 12))]


def test_a_run_that_is_over_is_charged_what_it_spent(ledger: Ledger) -> None:
    ledger.reserve(CHARGE)
    less = replace(CHARGE, releases=4, rho=rho(2, 4))
    ledger.settle(less)
    ledger.settle(less)
    assert ledger.totals()["sha256:aa"].epsilon == epsilon(rho(2, 4), 1e-5)
    with pytest.raises(AccountError, match="without having begun"):
        ledger.settle(run(9))


def test_partners_are_apart(ledger: Ledger) -> None:
    ledger.reserve(CHARGE)
    ledger.reserve(replace(CHARGE, partner="sha256:bb", name="bank", rho=rho(8, 10)))
    totals = ledger.totals()
    assert totals["sha256:aa"].epsilon == epsilon(rho(2, 10), 1e-5)
    assert totals["sha256:bb"].epsilon == epsilon(rho(8, 10), 1e-5)
    assert [line.split()[0] for line in text(totals, 1e-5).splitlines()[1:]] == ["platform", "bank"]
    totals["sha256:bb"] = totals["sha256:bb"]._replace(name="platform")  # of an earlier key
    assert [line[:14] for line in text(totals, 1e-5).splitlines()[1:]] == ["platform (aa) ", "platform (bb) "]
    assert text({}, 1e-5) == "nothing was charged yet"


def test_the_budget_refuses_and_nothing_is_charged(ledger: Ledger) -> None:
    budget = Budget(epsilon=12.0)
    ledger.reserve(run(1), budget)
    head = ledger.head
    with pytest.raises(BudgetError, match=r"with platform from 8\.079 to 12\.\d+, over the budget") as raised:
        ledger.reserve(run(2), budget)
    assert exit_code(raised.value) == 16
    assert ledger.head == head
    ledger.reserve(run(2, partner="sha256:bb"), budget)
    ledger.settle(run(1, releases=5, rho=rho(2, 5)))
    ledger.reserve(run(2), budget)  # what was not used is free again


def test_a_run_without_noise_is_told_of_and_bars_no_other(ledger: Ledger) -> None:
    bare = replace(CHARGE, rho=None)
    with pytest.raises(BudgetError, match="has no noise, and no budget with platform holds without"):
        ledger.reserve(bare, Budget(1e6))
    assert (ledger.reserve(bare).epsilon, ledger.totals()["sha256:aa"].unbounded) == (0, 1)
    total = ledger.reserve(run(2), Budget(9.0))
    assert (total.runs, total.unbounded, total.epsilon) == (2, 1, epsilon(rho(2, 10), 1e-5))
    assert "8.079 and 1 run(s) without noise, which no epsilon bounds" in text(ledger.totals(), 1e-5)
    assert "without noise" not in text({"sha256:aa": total._replace(unbounded=0)}, 1e-5)


def test_what_is_drawn_once_counts_once() -> None:
    def total(*charges: Charge) -> float | None:
        return total_of(charges, "sha256:aa", 1e-5).epsilon

    label = {"mechanism": "label", "rho": 0.0, "pure": 2.0}
    assert total(run(1, **label), run(2, **label)) == 4
    assert total(run(1, kept="labels", **label), run(2, kept="labels", **label)) == 2
    weaker = label | {"pure": 1.0}
    assert total(run(1, kept="labels", **label), run(2, kept="labels", **weaker)) == 3
    assert total(run(1, kept="labels", **label), run(1)) == 2 + epsilon(rho(2, 10), 1e-5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 50), st.integers(0, 20)), min_size=1, max_size=6))
def test_the_order_of_runs_does_not_matter(spent: list[tuple[float, int]]) -> None:
    charges = [run(place, releases=n, rho=rho(z, n)) for place, (z, n) in enumerate(spent)]
    forwards, backwards = (total_of(part, "sha256:aa", 1e-6).epsilon for part in (charges, charges[::-1]))
    assert math.isclose(forwards, backwards, abs_tol=1e-9)
    assert forwards >= max(epsilon(rho(z, n), 1e-6) for z, n in spent) - 1e-9


def tampering(path: Path, *statements: str, triggers: bool = True) -> None:
    """By somebody with a text editor for databases: the triggers are gone."""
    database = sqlite3.connect(path)
    if triggers:
        database.executescript("DROP TRIGGER no_update; DROP TRIGGER no_delete;")
    for statement in statements:
        database.execute(statement)
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET entry = replace(entry, '\"releases\":10', '\"releases\":11') WHERE number = 2",
        "UPDATE ledger SET link = '00' WHERE number = 3",
        "UPDATE ledger SET number = 9 WHERE number = 3",
        "DELETE FROM ledger WHERE number = 2",
        "DELETE FROM ledger WHERE number = 1",
        "INSERT INTO ledger (entry, link) SELECT entry, link FROM ledger WHERE number = 2",
    ],
)
def test_changes_are_noticed(ledger: Ledger, tmp_path: Path, statement: str) -> None:
    for number in range(3):
        ledger.reserve(run(number))
    tampering(ledger.path, statement)
    with pytest.raises(AccountError, match="changed from here on") as raised:
        Ledger(tmp_path, "logistics", "sha256:own")
    assert exit_code(raised.value) == 15
    with pytest.raises(AccountError):
        ledger.reserve(run(4))


def test_it_is_append_only(ledger: Ledger) -> None:
    ledger.reserve(CHARGE)
    database = sqlite3.connect(ledger.path)
    for statement in ("UPDATE ledger SET entry = '{}'", "DELETE FROM ledger"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            database.execute(statement)
    database.close()
    assert ledger.path.stat().st_mode & 0o077 == 0


def test_of_another_owner_it_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    ledger.reserve(CHARGE)
    with pytest.raises(AccountError, match="is the ledger of 'logistics' with another key"):
        Ledger(tmp_path, "logistics", "sha256:other")
    ledger.path.rename(tmp_path / "platform.privacy.sqlite")
    with pytest.raises(AccountError, match="is the ledger of 'logistics'"):
        Ledger(tmp_path, "platform", "sha256:own")


def test_a_file_that_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "logistics.privacy.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(AccountError, match="is damaged"):
        Ledger(tmp_path, "logistics", "sha256:own")
    with pytest.raises(StorageError, match="cannot write"):
        Ledger(tmp_path / "logistics.privacy.sqlite", "logistics", "sha256:own").reserve(CHARGE)


def test_no_file_is_a_new_account_and_an_empty_one_is_none(ledger: Ledger) -> None:
    assert (ledger.charges(), ledger.totals(), ledger.head) == ([], {}, bytes(32))
    assert not ledger.path.exists()
    ledger.path.write_bytes(b"")
    for _ in range(2):
        with pytest.raises(AccountError, match="is empty, and an account never is: restore it"):
            ledger.reserve(CHARGE)
    ledger.path.unlink()
    ledger.reserve(CHARGE)
    tampering(ledger.path, "DELETE FROM ledger")
    with pytest.raises(AccountError, match="is empty"):
        ledger.charges()
    tampering(ledger.path, "DROP TABLE ledger", "CREATE TABLE ledger (number)", triggers=False)
    with pytest.raises(AccountError, match="is damaged"):
        ledger.charges()


ENTRIES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.just("[" * 100_000),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*asdict(CHARGE), "x"]), inner),
    ).map(json.dumps),
    st.fixed_dictionaries(
        {
            name: st.just(value) | st.sampled_from([None, True, "1", 1, 1.5, [], {}])
            for name, value in asdict(CHARGE).items()
        }
    ).map(json.dumps),
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENTRIES, st.booleans())
def test_whatever_is_written_and_chained_anew_is_a_charge_or_one_error(
    tmp_path: Path, entry: str, first: bool
) -> None:
    """By somebody who knows how the chain is made."""
    path = tmp_path / "logistics.privacy.sqlite"
    path.unlink(missing_ok=True)
    ledger = Ledger(tmp_path, "logistics", "sha256:own")
    ledger.reserve(CHARGE)
    number = 1 if first else 2
    database = sqlite3.connect(path)
    database.executescript("DROP TRIGGER no_update; DROP TRIGGER no_delete;")
    [(begun,)] = database.execute("SELECT link FROM ledger WHERE number = 1").fetchall()
    head = link(CHAIN, FIRST if first else bytes.fromhex(begun), entry.encode()).hex()
    database.execute("UPDATE ledger SET entry = ?, link = ? WHERE number = ?", (entry, head, number))
    if first:
        database.execute("DELETE FROM ledger WHERE number = 2")
    database.commit()
    database.close()
    refused = ""
    try:
        text(ledger.totals(), 1e-5)
    except AccountError as error:
        refused = str(error)
    if refused:
        assert "\n" not in refused
        assert "move the file away" in refused or "restore it from a copy" in refused
    else:
        assert isinstance(json.loads(entry), dict)
        assert not first


KILLED = """
import os, sys
from pathlib import Path
from parties.charges import Charge
from parties.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), "logistics", "sha256:own")
for number in range(1000):
    ledger.reserve(Charge("sha256:aa", "platform", f"{number:064x}", "embedding", 1, 1, 0.125))
    print(number, flush=True)
"""


def test_killed_at_any_moment_what_was_charged_is_there(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 7:
                process.kill()
                break
    charged = Ledger(tmp_path, "logistics", "sha256:own").totals()["sha256:aa"].runs
    assert 8 <= charged < 1000


@settings(deadline=None, max_examples=30)
@given(st.floats(), st.floats())
def test_budgets_that_are_none_are_refused(limit: float, delta: float) -> None:
    if 0 < limit < math.inf and 0 < delta < 1:
        Budget(limit, delta)
    else:
        with pytest.raises(ValueError, match="a budget's"):
            Budget(limit, delta)


@pytest.mark.parametrize(
    "wrong", [{"rows": -1}, {"releases": -1}, {"rho": -0.1}, {"rho": math.nan}, {"pure": math.inf}]
)
def test_charges_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        replace(CHARGE, **wrong)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contract_of: Callable[..., Any]
) -> None:
    from types import SimpleNamespace

    from typer.testing import CliRunner

    from parties.cli import app

    contract = contract_of()
    config = SimpleNamespace(name="logistics", contract=contract, party=SimpleNamespace(storage=tmp_path))
    monkeypatch.setattr("parties.config.load", lambda path, for_training: config)
    Ledger(tmp_path, "logistics", contract.parties["logistics"].key).reserve(CHARGE)
    assert "8.079" in CliRunner().invoke(app, ["ledger"]).output
    found = json.loads(CliRunner().invoke(app, ["ledger", "--json", "--delta", "1e-6"]).output)
    assert found["partners"][0]["epsilon"] == epsilon(rho(2, 10), 1e-6)
    assert found["charges"][0]["run"] == "1" * 64
