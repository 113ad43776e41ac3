"""What a party chose for its own half is tried before anybody is met."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from parties.config import Config, load
from parties.errors import ConfigError
from parties.own import own_data
from parties.own_model import check_models, local_of
from parties.phases import plan_of
from splitnn.local import DEFAULTS, Local

HERE = __name__
Make = Callable[..., Config]


class Bottom(nn.Module):
    """As it should be."""

    def __init__(self, numeric: int, levels: tuple[int, ...], cut: int) -> None:
        super().__init__()
        assert levels == (4,), "missing, other, and two cities"
        self.out = nn.Linear(numeric + 1, cut)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        assert not numeric.any()
        assert not categorical.any()
        return self.out(torch.cat((numeric, categorical.float()), 1))


class OfBags(Bottom):
    """Takes a list of kinds too."""

    def __init__(self, numeric: int, levels: tuple[int, ...], cut: int, bags: tuple[int, ...]) -> None:
        super().__init__(numeric, levels, cut)
        assert bags == (5,), "one that is not used, other, and three kinds"

    def forward(self, numeric: Tensor, categorical: Tensor, *bags: tuple[Tensor, Tensor]) -> Tensor:
        assert [[part.tolist() for part in bag] for bag in bags] == [[[0, 0], [0, 1, 2]]]
        return super().forward(numeric, categorical)


class BatchBottom(nn.Module):
    """Has batch norm."""

    def __init__(self, numeric: int, levels: tuple[int, ...], cut: int) -> None:
        super().__init__()
        self.out, self.norm = nn.Linear(numeric, cut), nn.BatchNorm1d(cut)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return self.norm(self.out(numeric))


class NarrowBottom(Bottom):
    """Its activation is one short of what was agreed."""

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return super().forward(numeric, categorical)[:, 1:]


class FirstAlone(nn.Module):
    """Has no use for what the other parties send."""

    def __init__(self, parties: int, cut: int, outputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(cut, outputs)

    def forward(self, activations: list[Tensor]) -> Tensor:
        return self.out(activations[0])


class Top(nn.Module):
    """As it should be."""

    def __init__(self, parties: int, cut: int, outputs: int) -> None:
        super().__init__()
        self.out = nn.Linear(parties * cut, outputs)

    def forward(self, activations: list[Tensor]) -> Tensor:
        return self.out(torch.cat(activations, 1))


class OneLogit(Top):
    """Whatever it is asked for."""

    def forward(self, activations: list[Tensor]) -> Tensor:
        return super().forward(activations)[:, :1]


class Pair(Top):
    """Needs somebody to pair with."""

    def forward(self, activations: list[Tensor]) -> Tensor:
        assert len(activations) > 1
        return super().forward(activations)


@pytest.fixture
def config_of(tmp_path: Path) -> Make:
    """own: lines of party.toml. agreed: of run.toml. left: what a feature holder makes of the labels.
    Two cities and three kinds of label, 40 rows."""

    def make(
        name: str = "platform", own: str = "", agreed: str = "", left: str = 'exclude = ["kind"]'
    ) -> Config:
        for file in ("ca.pem", "own.pem", "own.key"):
            (tmp_path / file).touch()
        rows = (f"u{i},{i % 7},{'Oslo' if i % 2 else 'Rome'},{'abc'[i % 3]}" for i in range(40))
        (tmp_path / "own.csv").write_text("\n".join(["user,age,city,kind", *rows]))
        (tmp_path / "run.toml").write_text(
            'version = 1\nname = "test"\nseed = 7\nlabel_holder = "platform"\nids.type = "string"\n'
            'model.task = "multiclass"\n'
            + agreed
            + "".join(f'\n[parties.{n}]\nkey = "sha256:{n[0] * 64}"' for n in ("bank", "delivery"))
            + f'\n[parties.platform]\nkey = "sha256:{"a" * 64}"'
        )
        label, where = ('label = "kind"', "listen") if name == "platform" else (left, "hub")
        (tmp_path / "party.toml").write_text(
            f'party = "{name}"\n{own}\n[data]\nfile = "own.csv"\nid = "user"\n{label}\n'
            '[tls]\nca = "ca.pem"\ncertificate = "own.pem"\nkey = "own.key"\n'
            f'[link]\n{where} = "127.0.0.1:1"\n'
        )
        return load(tmp_path / "party.toml")

    return make


def tried(config: Config) -> None:
    check_models(config, plan_of(config.contract), own_data(config))


def test_what_party_toml_says_is_what_trains(config_of: Make) -> None:
    assert local_of(config_of()) == DEFAULTS
    own = (
        'model.bottom = "m:B"\n'
        'training = { optimizer = "sgd", learning_rate = 0.5, device = "cuda", precision = "bf16" }'
    )
    assert local_of(config_of("bank", own)) == Local("m:B", "sgd", 0.5, "cuda", "bf16")


def test_what_is_well_is_said_nothing_of(config_of: Make) -> None:
    tried(config_of())
    tried(config_of(own=f'model.bottom = "{HERE}:Bottom"', agreed=f'model.top = "{HERE}:Top"'))
    tried(config_of("bank", own=f'model.bottom = "{HERE}:Bottom"\ntraining.precision = "bf16"'))
    tried(config_of("bank", own=f'model.bottom = "{HERE}:OfBags"', left='bags = { kind = "/" }'))


@pytest.mark.parametrize("name", ["platform", "bank"])
def test_a_bottom_of_another_shape_is_said_with_its_key(config_of: Make, name: str) -> None:
    config = config_of(name, f'model.bottom = "{HERE}:NarrowBottom"')
    with pytest.raises(ConfigError) as refusal:
        tried(config)
    assert str(refusal.value) == (
        f"{config.path}: model.bottom: bottom model {HERE}:NarrowBottom returns [2, 31] instead of [2, 32]"
    )


def test_a_top_of_another_shape_is_said_where_it_runs(config_of: Make) -> None:
    """A logit a class: three of them, at the label holder, which alone knows how many."""
    config = config_of(agreed=f'model.top = "{HERE}:OneLogit"')
    with pytest.raises(ConfigError) as refusal:
        tried(config)
    assert str(refusal.value) == (
        f"{config.party.contract}: model.top: top model {HERE}:OneLogit returns [2, 1] instead of [2, 3]"
    )
    tried(config_of("bank", agreed=f'model.top = "{HERE}:OneLogit"'))


def test_a_top_must_use_what_every_party_sends(config_of: Make) -> None:
    """Otherwise a feature holder's gradient would be missing at the first step."""
    with pytest.raises(ConfigError, match=r"model\.top: .*FirstAlone does not use activation 2 of 3"):
        tried(config_of(agreed=f'model.top = "{HERE}:FirstAlone"'))


def test_a_top_must_do_for_the_label_holder_alone(config_of: Make) -> None:
    """Otherwise the baselines would fail when all is trained."""
    with pytest.raises(ConfigError, match=r"model\.top: .* AssertionError.*, with parties = 1, as"):
        tried(config_of(agreed=f'model.top = "{HERE}:Pair"'))


def test_classes_that_are_not_there(config_of: Make) -> None:
    with pytest.raises(ConfigError, match=r"party\.toml: model\.bottom: .*no_such_module"):
        tried(config_of("bank", 'model.bottom = "no_such_module:Bottom"'))
    with pytest.raises(ConfigError, match=rf"run\.toml: model\.top: .*{HERE}.*no_such_top"):
        tried(config_of(agreed=f'model.top = "{HERE}:no_such_top"'))


def test_a_bottom_waits_for_a_table_that_can_be_read(config_of: Make) -> None:
    config = config_of("bank", f'model.bottom = "{HERE}:NarrowBottom"')
    check_models(config, plan_of(config.contract), None)


def test_no_such_device(config_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r'party\.toml: training\.device: no CUDA device here; use "cpu"$'):
        tried(config_of("bank", 'training.device = "cuda"'))


def test_groups_of_columns(config_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tried(config_of("bank", 'groups.who = ["age", "city"]'))
    tried(config_of("bank", 'groups.age = ["age", "city"]'))
    for groups, fault in [
        (
            'groups.who = ["age", "town"]',
            "groups.who: no column 'town' takes part; correct it, or remove it here",
        ),
        ('groups.age = ["city"]', "groups.age: is the name of a column outside of it; choose another"),
    ]:
        config = config_of("bank", groups)
        with pytest.raises(ConfigError) as refusal:
            tried(config)
        assert str(refusal.value) == f"{config.path}: {fault}"
    monkeypatch.setattr("parties.own_model.MOST_GROUPS", 1)
    tried(config_of("bank"))
    tried(config_of("bank", 'groups.who = ["age", "city"]', 'evaluation.importance = "columns"\n'))
    with pytest.raises(ConfigError, match="put columns together in groups"):
        tried(config_of("bank", agreed='evaluation.importance = "columns"\n'))


def test_noise_on_embeddings_wants_each_row_by_itself(config_of: Make) -> None:
    own = f'model.bottom = "{HERE}:BatchBottom"'
    tried(config_of("bank", own))
    with pytest.raises(ConfigError, match=r"party.toml: model.bottom: .* depends on the other rows"):
        tried(config_of("bank", own, agreed="privacy = { embedding_clip = 1.0, embedding_sigma = 1.0 }\n"))
