"""Meeting, settling and aligning, as every run begins: by whichever kinds of id, protocol and sizes."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import psi
from parties.alignment import Alignment, align, meet
from parties.certs import Identity
from parties.config import Config
from parties.contract import Contract
from parties.handshake import Brings, Meeting
from parties.id_kinds import digest_key
from protos.memory import Together, together
from protos.rounds import Rounds

NAMES = ("advertiser", "logistics", "platform")
PEOPLE = {
    name: [number for number in range(400) if number % 7 != absent] for absent, name in enumerate(NAMES)
}
COMMON = [number for number in range(400) if number % 7 > 2]
KINDS = [
    {"type": "phone"},
    {"name": "person", "types": ["string", "integer"]},
    {"type": "email"},
]


def columns(kind: str, people: list[int]) -> list[list[str]]:
    """What tells these people, as the parties have it."""
    if kind == "person":
        return [[f"name {number % 20}" for number in people], [str(number // 20) for number in people]]
    return [[f"+49 30 {number:07}" if kind == "phone" else f"{number}@x.org" for number in people]]


def aligned(
    contract: Contract,
    identities: dict[str, Identity],
    held: dict[str, list[str]],
) -> Together[Any]:
    """held: the kinds of id of each party."""

    def party(name: str) -> Rounds[Any]:
        config = Config(
            Path(), SimpleNamespace(party=name, link=SimpleNamespace(wait=9.0, progress=9.0)), contract
        )  # type: ignore[arg-type]
        draw = random.Random(name)
        people = PEOPLE[name][:]
        draw.shuffle(people)
        types = {kind.name: kind.columns for kind in contract.ids}
        ids = {
            kind: psi.normalise(
                [columns(kind, people)], types[kind], types[kind], digest_key(contract.digest, kind)
            )
            for kind in held[name]
        }
        protocols = {one: psi.load(one) for one in ("ecdh", "rr22")}

        def then(meeting: Meeting) -> Rounds[tuple[Alignment, list[int]]]:
            done = yield from align(
                config, ids, protocols, meeting, lambda: 0.0, draw.randbytes, Path("nowhere")
            )
            return done, [people[row] for row in done.rows]

        brings = Brings("run", [*protocols], held[name])
        return (yield from meet(config, identities[name], brings, draw.randbytes, lambda met: None, then))

    return together({name: party(name) for name in NAMES})


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        ({name: ["phone", "person", "email"] for name in NAMES}, "phone"),
        (
            {"advertiser": ["person", "email"], "logistics": ["phone", "person"], "platform": ["person"]},
            "person",
        ),
        (
            {"advertiser": ["phone", "email"], "logistics": ["person", "email"], "platform": ["email"]},
            "email",
        ),
    ],
    ids=["all", "composite", "last"],
)
def test_the_kind_that_all_have(
    contract_of: Callable[..., Contract],
    identities: dict[str, Identity],
    held: dict[str, list[str]],
    kind: str,
) -> None:
    results = aligned(contract_of(ids=KINDS), identities, held).results
    people = [found for _, found in results.values()]
    assert people[0] == people[1] == people[2]
    assert sorted(people[0]) == COMMON
    assert {done.terms.kind for done, _ in results.values()} == {kind}


@pytest.mark.parametrize("protocol", ["ecdh", "rr22", "auto"])
def test_hidden_sizes_align_the_same_people(
    contract_of: Callable[..., Contract], identities: dict[str, Identity], protocol: str
) -> None:
    """And no message is shorter where a set is smaller."""
    contract = contract_of(psi={"protocol": protocol, "at_most": 500, "hide_sizes": True})
    done = aligned(contract, identities, {name: ["email"] for name in NAMES})
    assert all(sorted(people) == COMMON for _, people in done.results.values())
    sent: dict[str, set[int]] = {}
    for said in done.transcript:
        if said.kind in ("count", "hint", "evaluated", "blinded"):
            sent.setdefault(said.kind, set()).add(len(said.payload))
    assert all(len(lengths) == 1 for lengths in sent.values()), sent
    counts = [int.from_bytes(said.payload, "big") for said in done.transcript if said.kind == "count"]
    assert set(counts) == {500}
