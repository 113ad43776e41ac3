"""What ends a run, or must not, before any training: contracts, strangers, absence, too few in common."""

import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pytest

from parties import certs
from parties.certificate import key_fingerprint
from parties.hub import SERVICE

Federate = Callable[..., Any]


def all_end(made: Any, code: int, ends: dict[str, Any]) -> dict[str, str]:
    """Every party ends with this code, one line, and no file but the log of what it said; the lines."""
    lines = {name: end.error for name, end in ends.items()}
    assert {name: end.code for name, end in ends.items()} == dict.fromkeys(ends, code), lines
    for name in ends:
        assert {Path(path).name for path in made.left(name) if "." in path} <= {"audit.jsonl"}
    return lines


def trained(made: Any, ends: dict[str, Any]) -> bool:
    return any("training" in made.stderr(name) for name in ends)


@pytest.mark.parametrize("common", [20, pytest.param(0, marks=pytest.mark.slow)], ids=["too few", "empty"])
def test_too_few_in_common(federation: Federate, common: int) -> None:
    made = federation(people=35)
    assert len(made.common) == 20
    made.agree("psi.minimum = 20", "psi.minimum = 21")
    if not common:
        made.edit("logistics", "people.csv", "@MAIL", "@OTHER")
    ends = made.run()
    lines = all_end(made, 10, ends)
    assert set(lines.values()) == {
        f"{common} users in common, fewer than psi.minimum = 21: does every party's file hold email ids "
        "of the same people, written the same way?"
    }
    assert not trained(made, ends)


def test_contracts_that_differ(federation: Federate) -> None:
    """Everybody is told the first field that differs, also who holds the same as the hub."""
    made = federation()
    made.edit("logistics", "run.toml", "batch = 32", "batch = 64")
    made.edit("logistics", "run.toml", "patience = 3", "patience = 5")
    ends = made.run()
    lines = all_end(made, 5, ends)
    tail = "All parties need the same run.toml"
    assert lines["platform"] == f"the contracts differ: training.batch: 32 here, 64 at logistics. {tail}"
    assert lines["advertiser"] == lines["platform"]
    assert lines["logistics"] in (
        f"the contracts differ: training.batch: 64 here, 32 at {other}. {tail}"
        for other in ("platform", "advertiser")
    )
    assert not any("psi" in made.stderr(name) for name in ends)


def first_rows(made: Any, name: str, count: int) -> None:
    file = made.home(name) / "people.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[: count + 1]))


@pytest.mark.parametrize(
    ("bound", "says", "what"),
    [
        ("at_most = 200", "logistics: more ids than psi.at_most = 200 allows", "cap"),
        (
            "largest_ratio = 2.5",
            "logistics: more ids than psi.largest_ratio = 2.5 times the smallest set allows",
            "ratio",
        ),
    ],
    ids=["cap", "ratio"],
)
def test_a_set_that_the_contract_does_not_allow(
    federation: Federate, bound: str, says: str, what: str
) -> None:
    """All parties are told which bound, and whose set it is; no message of the intersection is sent."""
    made = federation()
    made.agree("psi.minimum = 20", f"psi.minimum = 20\npsi.{bound}")
    for name in ("platform", "advertiser"):
        first_rows(made, name, 100)
    ends = made.run()
    lines = all_end(made, 10, ends)
    assert set(lines.values()) == {f"{says}; nothing was aligned: agree on a larger {what}, or bring fewer"}
    assert not any("psi" in phase for name in ends for phase in phases(made, name))


def phases(made: Any, name: str) -> list[str]:
    return [line.partition(":")[0] for line in made.stderr(name).splitlines()]


def test_different_commands(federation: Federate) -> None:
    made = federation()
    made.start("logistics", command=("align", "--json"))
    made.start("platform", "advertiser")
    [line] = set(all_end(made, 5, made.ends()).values())
    assert line == (
        "the parties started different commands: `party run` at advertiser, `party align` at logistics, "
        "`party run` at platform; start the same everywhere"
    )


def test_a_protocol_unknown_at_one_party(federation: Federate) -> None:
    """Everybody is told where, with what is installed there."""
    made = federation()
    made.agree("psi.minimum = 20", 'psi.minimum = 20\npsi.protocol = "my_lab:Fast"')
    for name in ("platform", "advertiser"):
        (made.home(name) / "my_lab.py").write_text("from psi.protocols import EcdhPsi as Fast\n")
    lines = all_end(made, 5, made.run())
    [line] = set(lines.values())
    assert line.startswith(
        "psi.protocol: my_lab:Fast is not installed at logistics (logistics has dh, ecdh, "
    )
    assert line.endswith("); install it there, or agree on another")


def test_no_kind_of_id_that_all_have(federation: Federate) -> None:
    made = federation()
    made.agree('ids.type = "email"', 'ids = [{ type = "email" }, { type = "integer" }]')
    for name, held in zip(made.names, ("email", "email", "integer"), strict=True):
        made.edit(name, "party.toml", 'id = "email"', f'id.{held} = "email"')
    made.edit("advertiser", "party.toml", 'numeric = ["amount"]\n', "")
    pd.DataFrame({"email": range(100), "kind": ["a", "b"] * 50}).to_csv(
        made.home("advertiser") / "people.csv", index=False
    )
    [line] = set(all_end(made, 5, made.run()).values())
    assert line == (
        "ids: no kind of id that all parties have: advertiser has integer; logistics has email; platform has "
        "email; name one more column in data.id"
    )


@pytest.mark.slow
def test_who_never_comes_is_named(federation: Federate) -> None:
    """By the hub, and by a feature holder that came first of all."""
    made = federation()
    made.edit("platform", "party.toml", "wait = 60", "wait = 8")
    made.start("logistics")
    time.sleep(1)
    made.start("platform")
    ends = made.ends()
    lines = all_end(made, 7, ends)
    assert lines["platform"].startswith("advertiser failed during gathering: did not come within 8 s; is ")
    assert lines["logistics"].startswith("advertiser failed during ")
    assert lines["logistics"].endswith("it never came")


@pytest.mark.slow
def test_a_hub_among_strangers(federation: Federate, tmp_path: Path) -> None:
    """The hub waits for its parties. Whoever else comes is refused, and the run then is as if nobody had."""
    made = federation()
    made.edit("platform", "party.toml", "wait = 60", "wait = 600")  # all strangers come first
    made.start("platform")
    made.listens()

    # streams in plain text, and with every certificate but the right one
    other, past = tmp_path / "other", datetime.now(UTC) - timedelta(days=3)
    certs.issue(other, ["logistics"])
    for file in ("ca.pem", "ca.key"):
        for folder in ("stranger", "expired", "forged"):
            (tmp_path / folder).mkdir(exist_ok=True)
            shutil.copy(made.folder / "certs" / file, tmp_path / folder / file)
    certs.issue(tmp_path / "stranger", ["stranger"])
    certs.issue(tmp_path / "expired", ["logistics"], days=1, now=past)
    certs.issue(tmp_path / "forged", ["logistics"])
    ca = (made.folder / "certs" / "ca.pem").read_bytes()
    assert answer(made, None) is grpc.StatusCode.UNAVAILABLE
    assert answer(made, grpc.ssl_channel_credentials(ca)) is grpc.StatusCode.UNAVAILABLE
    for folder, name, code in (
        (other, "logistics", grpc.StatusCode.UNAVAILABLE),
        (tmp_path / "expired", "logistics", grpc.StatusCode.UNAVAILABLE),
        (tmp_path / "stranger", "stranger", grpc.StatusCode.PERMISSION_DENIED),
        (tmp_path / "forged", "logistics", grpc.StatusCode.PERMISSION_DENIED),
    ):
        key, certificate = ((folder / f"{name}.{kind}").read_bytes() for kind in ("key", "pem"))
        assert answer(made, grpc.ssl_channel_credentials(ca, key, certificate)) is code, folder

    # `party run` of a company that trusts another CA, of one whose key was not agreed, of a second hub
    strangers = federation()
    for name, listen in (("logistics", False), ("advertiser", False), ("platform", True)):
        mine = f'{"listen" if listen else "hub"} = "{strangers.address}"'
        strangers.edit(name, "party.toml", mine, mine.replace(strangers.address, made.address))
    renew(made, strangers, "advertiser")
    ends = strangers.run()
    lines = {name: end.error for name, end in ends.items()}
    assert {name: end.code for name, end in ends.items()} == {
        "platform": 6,
        "logistics": 4,
        "advertiser": 4,
    }, lines
    assert lines["platform"].startswith(f"cannot listen on {made.address} (Address already in use); free ")
    assert lines["logistics"].startswith("TLS refused: ")
    assert "check" in lines["logistics"]
    assert lines["advertiser"].startswith(f"permission denied by the hub at {made.address}: ")

    # a second process of the same party on the same storage
    again = federation()
    shutil.copytree(made.home("platform"), again.home("platform"), dirs_exist_ok=True)
    again.edit("platform", "party.toml", 'party = "platform"', 'party = "platform"\nstorage = "../shared"')
    (again.folder / "shared").symlink_to(made.home("platform") / "runs")
    end = again.run("platform")["platform"]
    assert end.code == 11
    assert end.error.startswith("another `party run` of platform holds ")

    assert made.processes["platform"].poll() is None
    made.start("logistics", "advertiser")
    assert {end.code for end in made.ends().values()} == {0}


def answer(made: Any, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """How the hub ends an `Exchange` of somebody who claims to be logistics; fails if it says anything."""
    options = [("grpc.ssl_target_name_override", "platform"), ("grpc.enable_http_proxy", 0)]
    if credentials is None:
        channel = grpc.insecure_channel(made.address, options)
    else:
        channel = grpc.secure_channel(made.address, credentials, options)
    with channel:
        exchange = channel.stream_stream(f"/{SERVICE}/Exchange", None, None)
        call = exchange(iter([]), metadata=(("party", "logistics"),), timeout=10)
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
        return refused.value.code()


def renew(made: Any, strangers: Any, name: str) -> None:
    """A new key for `name` by the CA of `made`, and pinned in its own run.toml only."""
    home = strangers.home(name)
    certs.issue(made.folder / "certs", [name], force=True)
    for file in ("ca.pem", f"{name}.pem", f"{name}.key"):
        shutil.copy(made.folder / "certs" / file, home / file)
    old = strangers.configs()[name].contract.parties[name].key
    strangers.edit(name, "run.toml", old, key_fingerprint((home / f"{name}.pem").read_bytes()))
