"""Identities and contracts that tests of the deployable share."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from parties import certs
from parties.authority import pem, sign_certificate
from parties.certificate import der
from parties.certs import read
from parties.contract import Contract

NAMES = ("advertiser", "logistics", "platform")
Reissue = Callable[..., certs.Identity]


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


@pytest.fixture
def reissue(certificates: Path, identities: dict[str, certs.Identity], tmp_path: Path) -> Reissue:
    """Another certificate for the same key, by the same CA; it ends when the test says."""

    def make(name: str, ends: datetime, own: certs.Identity | None = None) -> certs.Identity:
        own, ca = (
            own or identities[name],
            x509.load_pem_x509_certificate((certificates / "ca.pem").read_bytes()),
        )
        ca_key, key = (load_pem_private_key(data, None) for data in (read(certificates / "ca.key"), own.key))
        made = sign_certificate(name, key, ca, ca_key, [name], ends - timedelta(days=1), 1)
        (tmp_path / f"{name}.pem").write_bytes(pem(made))
        (tmp_path / f"{name}.key").write_bytes(own.key)
        return replace(
            own,
            certificate=pem(made),
            certificate_der=der(made),
            certificate_file=tmp_path / f"{name}.pem",
            key_file=tmp_path / f"{name}.key",
            not_after=ends,
        )

    return make


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
