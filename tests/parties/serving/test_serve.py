"""What `party serve` refuses before it listens."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parties.certs import Identity
from parties.config import Config, load
from parties.errors import ConfigError, StorageError
from parties.model import Model
from parties.serving.serve import serve_party
from parties.storage import locked
from tests.parties.serving.conftest import HUB, PARTNER


def serve(config: Config) -> None:
    serve_party(config, None, lambda line: None, lambda again: None)


def with_keys(model: Model, **keys: Any) -> Config:
    config = model.config
    changed = config.party.serve.model_copy(update=keys)
    return replace(config, party=config.party.model_copy(update={"serve": changed}))


def test_what_is_missing_is_said_all_at_once(trained: dict[str, Model]) -> None:
    with pytest.raises(ConfigError) as caught:
        serve(trained[HUB].config)
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "serve.listen", "serve.applications", "serve.clients",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"serve\.hub: missing"):
        serve(trained[PARTNER].config)


def test_keys_of_the_other_role_are_refused(trained: dict[str, Model], tmp_path: Path) -> None:
    for name, table, fault in (
        (HUB, 'hub = "127.0.0.1:1"', "serve.hub: not for the label holder"),
        (PARTNER, "most_ids = 5", "serve.most_ids: not for a feature holder"),
        (HUB, 'clients = ["me"]', "serve.clients"),
        (PARTNER, "many = 5", "serve.many"),
    ):
        text = trained[name].config.path.read_text()
        home = trained[name].config.path.parent
        (home / "other.toml").write_text(f"{text}\n[serve]\n{table}\n")
        with pytest.raises(ConfigError, match=fault):
            load(home / "other.toml")


def test_a_key_of_a_party_is_no_application(
    trained: dict[str, Model], identities: dict[str, Identity]
) -> None:
    keys = {"listen": "x", "applications": "y", "clients": (identities[PARTNER].fingerprint,)}
    with pytest.raises(ConfigError, match="names the key of a party of"):
        serve(with_keys(trained[HUB], **keys))


def test_a_secure_sum_is_not_served(trained: dict[str, Model]) -> None:
    config = trained[HUB].config
    summed = config.contract.model.model_copy(update={"fusion": "secure-sum"})
    contract = config.contract.model_copy(update={"model": summed})
    with pytest.raises(ConfigError, match="'secure-sum' cannot be served online"):
        serve(replace(config, contract=contract))


def test_one_process_serves_from_a_storage(trained: dict[str, Model]) -> None:
    config = with_keys(trained[PARTNER], hub="127.0.0.1:1")
    other = pytest.raises(StorageError, match="another `party serve` of logistics runs")
    with locked(config.party.storage, f"{PARTNER}.serve"), other:
        serve(config)


def test_a_model_that_needs_all_is_not_served(
    trained: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parties.serving.serve.scores_alone", lambda top: False)
    keys: dict[str, Any] = {"listen": "x", "applications": "y", "clients": ("sha256:" + "0" * 64,)}
    with pytest.raises(ConfigError, match="train with model"):
        serve(with_keys(trained[HUB], **keys))
