"""Identities and contracts that tests of the deployable share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from parties import certs
from parties.contract import Contract

NAMES = ("advertiser", "logistics", "platform")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a development CA and one certificate and key for each of NAMES."""
    folder = tmp_path_factory.mktemp("certs")
    certs.issue(folder, NAMES, host="localhost")
    return folder


@pytest.fixture(scope="session")
def identities(certificates: Path) -> dict[str, certs.Identity]:
    return {
        name: certs.load(
            certificates / "ca.pem", certificates / f"{name}.pem", certificates / f"{name}.key", name
        )
        for name in NAMES
    }


@pytest.fixture(scope="session")
def contract_of(identities: dict[str, certs.Identity]) -> Callable[..., Contract]:
    """Make a contract between NAMES; keyword arguments replace sections or fields."""

    def make(**changes: object) -> Contract:
        content: dict[str, object] = {
            "version": 1,
            "name": "test",
            "seed": 7,
            "label_holder": "platform",
            "parties": {name: {"key": identity.fingerprint} for name, identity in identities.items()},
            "ids": {"type": "email"},
        }
        return Contract.model_validate(content | changes)

    return make
