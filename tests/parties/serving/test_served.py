"""Versions that are promoted and rolled back while we serve: each end switches by itself, and nobody dies."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from parties.errors import ConfigError
from parties.model import Model
from parties.own import own_identity
from parties.promoted import promote, promoted_run, rollback
from parties.serving.served import Follow, Served
from parties.versions import find
from tests.parties.serving.conftest import HUB, PARTNER, Serving, until, who

BOTH = [[HUB, PARTNER]]
OTHER = bytes(range(32))


@pytest.fixture(scope="module")
def second(trained: dict[str, Model]) -> Iterator[dict[str, Path]]:
    """Another version of each party: the same weights under another run."""
    made = {}
    for name, one in trained.items():
        runs = one.folder.parent.parent
        made[name] = runs / f"small-{OTHER.hex()[:12]}" / name
        shutil.copytree(one.folder, made[name])
        for file in made[name].glob("*.json"):
            file.write_text(file.read_text().replace(one.run.hex(), OTHER.hex()))
    yield made
    for name, one in trained.items():
        shutil.rmtree(made[name].parent)
        (one.config.party.storage / f"{name}.promoted.json").unlink(missing_ok=True)


def test_what_is_promoted_is_served_and_rolled_back(
    trained: dict[str, Model], second: dict[str, Path]
) -> None:
    config = trained[HUB].config
    first = Served.read(config, own_identity(config), trained[HUB].folder)
    put, said = list[Served](), list[str]()
    follow = Follow(first, True, put.append, said.append)
    follow.look()
    promote(config, find(config, trained[HUB].run.hex()))
    follow.look()
    assert put == said == []
    promote(config, find(config, OTHER.hex()))
    Follow(first, False, put.append, said.append).look()  # told which run to serve
    assert put == []
    follow.look()
    follow.look()
    assert [one.trained.folder for one in put] == [second[HUB]]
    assert put[0].host.model != first.host.model
    assert said == [f"serves {put[0]} from here on, with 240 users"]
    rollback(config)
    follow.look()
    assert [one.trained.run for one in put] == [OTHER, trained[HUB].run]


def test_what_cannot_be_served_is_said_once_and_looked_at_again_when_asked(
    trained: dict[str, Model], second: dict[str, Path]
) -> None:
    config = trained[PARTNER].config
    first = Served.read(config, own_identity(config), trained[PARTNER].folder)
    tried, said = list[Served](), list[str]()

    def put(served: Served) -> None:
        tried.append(served)
        if len(tried) < 3:
            raise ConfigError("it needs all parties")

    follow = Follow(first, True, put, said.append)
    promote(config, find(config, OTHER.hex()))
    for _ in range(3):
        follow.look()
    assert len(tried) == 1
    follow.look(asked=True)
    assert said == ["it needs all parties; the version before goes on serving"]
    follow.look(asked=True)
    assert said[1:] == [f"serves {tried[2]} from here on, with 240 users"]
    promoted = config.party.storage / f"{PARTNER}.promoted.json"
    promoted.write_text("{")
    follow.look()
    follow.look()
    assert len(said) == 3
    assert "damaged" in said[2]
    promoted.write_text(json.dumps({}))
    assert promoted_run(config) is None
    follow.look()
    assert len(tried) == 3  # nothing is promoted: it goes on


def test_users_who_are_added_are_served(trained: dict[str, Model], tmp_path: Path) -> None:
    config = trained[PARTNER].config
    first = Served.read(config, own_identity(config), trained[PARTNER].folder)
    put, said = list[Served](), list[str]()
    follow = Follow(first, True, put.append, said.append)
    bad = trained[PARTNER].folder / "people-0001.parquet"
    bad.write_bytes(b"half a file")
    try:
        follow.look()
        follow.look()
    finally:
        bad.unlink()
    assert put == []
    assert len(said) == 1
    assert said[0].endswith("; the version before goes on serving")
    follow.look()
    assert put == []


def test_while_versions_differ_scores_go_on_alone(
    serving: Callable[..., Serving], trained: dict[str, Model], second: dict[str, Path]
) -> None:
    served = serving()
    one = served.answer()
    old, before = served.hub.serves, one.serves
    assert who(served.ask([1])) == BOTH
    ours, theirs = (
        Served.read(trained[name].config, own_identity(trained[name].config), second[name])
        for name in (HUB, PARTNER)
    )
    served.hub.serve(ours.host, ours.trained, old.partners)  # the label holder first
    until(lambda: not served.partner.there)
    until(lambda: any("serves another version of the model" in line for line in served.said))
    assert who(served.ask([1])) == [[HUB]]
    one.switch(theirs.host, theirs.trained, before.answers)
    until(lambda: served.partner.there)
    assert who(served.ask([1])) == BOTH
    one.switch(*before)  # back again, the feature holder first
    until(lambda: not served.partner.there)
    assert who(served.ask([1])) == [[HUB]]
    served.hub.serve(*old)
    until(lambda: served.partner.there, within=20.0)
    assert who(served.ask([1])) == BOTH
    assert one.there
