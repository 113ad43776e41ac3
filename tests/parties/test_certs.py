import os
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from parties.authority import key_pem, new_key, pem, sign_certificate
from parties.certificate import deniable, key_fingerprint, verify
from parties.certs import PARTY_NAME, Identity, issue, load
from parties.errors import IdentityError

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    issue(tmp_path, ["platform", "logistics"], host="vfl.example.com", days=100, now=NOW)
    return tmp_path


def load_from(folder: Path, party: str = "platform", now: datetime = NOW, **files: Path) -> Identity:
    given = {"ca": folder / "ca.pem", "certificate": folder / f"{party}.pem", "key": folder / f"{party}.key"}
    return load(**(given | files), party=party, now=now)


def test_an_issued_certificate_loads_signs_and_serves_both_ends_of_tls(folder: Path) -> None:
    own = load_from(folder)
    signature = own.sign(b"contract")
    assert verify(own.certificate_der, b"contract", signature)
    assert verify(own.certificate, b"contract", signature)
    assert not verify(own.certificate_der, b"another", signature)
    assert not verify(load_from(folder, "logistics").certificate_der, b"contract", signature)
    certificate = x509.load_der_x509_certificate(own.certificate_der)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["platform", "localhost", "vfl.example.com"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert own.warnings(NOW) == []


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00" * 70, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_garbage_from_a_peer_verifies_nothing_and_has_no_fingerprint(folder: Path, garbage: bytes) -> None:
    own = load_from(folder)
    assert not verify(garbage, b"data", own.sign(b"data"))
    assert not verify(own.certificate_der, b"data", garbage)
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words differ
        key_fingerprint(garbage)


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x49"),  # version 74
        (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", b"\x06\x07\x2a\x86\x48\xce\x10\x02\x01"),  # kind of key
    ],
)
def test_a_strange_certificate_of_a_peer_is_none(folder: Path, part: bytes, other: bytes) -> None:
    own = load_from(folder)
    strange = own.certificate_der.replace(part, other)
    assert strange != own.certificate_der
    assert not verify(strange, b"data", own.sign(b"data"))
    with pytest.raises(ValueError, match="not known here"):
        key_fingerprint(strange)


def test_the_fingerprint_is_of_the_key_alone() -> None:
    key, ca_key = new_key(), new_key()
    ca = sign_certificate("ca", ca_key, None, ca_key, [], NOW, 10)
    old, renewed = (sign_certificate("platform", key, ca, ca_key, ["platform"], NOW, days) for days in (1, 9))
    assert old != renewed
    assert key_fingerprint(pem(old)) == key_fingerprint(pem(renewed)) != key_fingerprint(pem(ca))
    assert key_fingerprint(pem(old)).startswith("sha256:")
    assert len(key_fingerprint(pem(old))) == 7 + 64


def test_keys_are_for_their_owner_only_and_show_in_no_repr(folder: Path) -> None:
    for name in ("ca", "platform", "logistics"):
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
    own = load_from(folder)
    assert repr(own) == "Identity('platform')"
    os.chmod(folder / "platform.key", 0o640)
    assert own.warnings(NOW) == [
        f"{folder / 'platform.key'}: other users may read the private key; chmod 600 it"
    ]


def test_nothing_is_overwritten_without_force_and_the_ca_never(folder: Path) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(IdentityError, match=r"platform.pem.*--force"):
        issue(folder, ["advertiser", "platform"], now=NOW)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
    written = issue(folder, ["platform"], force=True, now=NOW)
    assert written == [folder / "platform.pem", folder / "platform.key"]
    after = {file: file.read_bytes() for file in folder.iterdir()}
    assert {file.name for file in before if before[file] != after[file]} == {"platform.pem", "platform.key"}
    issue(folder, ["advertiser"], now=NOW)
    assert {load_from(folder, name).party for name in ("platform", "logistics", "advertiser")} == {
        "platform",
        "logistics",
        "advertiser",
    }


def test_half_a_ca_is_no_ca(folder: Path) -> None:
    (folder / "ca.key").unlink()
    with pytest.raises(IdentityError, match=r"ca.key: missing"):
        issue(folder, ["advertiser"])


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "", "Platform", "a" * 33, "1a", "a_b", "a\0b", "a\n", "-a"]
)
def test_a_name_that_could_escape_is_refused(tmp_path: Path, name: str) -> None:
    assert not PARTY_NAME.fullmatch(name)
    with pytest.raises(IdentityError, match="is no name for a party"):
        issue(tmp_path / "new", ["platform", name])
    assert not (tmp_path / "new").exists()


def test_faults_of_ones_own_files_name_the_file_and_the_remedy(folder: Path, tmp_path: Path) -> None:
    def fault(pattern: str, party: str = "platform", now: datetime = NOW, **files: Path) -> None:
        with pytest.raises(IdentityError, match=pattern) as caught:
            load_from(folder, party, now, **files)
        assert "\n" not in str(caught.value)

    text = tmp_path / "text"
    text.write_text("hello")
    fault(r"nowhere: cannot be read \(No such file or directory\)", key=folder / "nowhere")
    fault(r"text: is no certificate", certificate=text)
    fault(r"text: is no certificate", ca=text)
    fault(r"text: is no private key", key=text)
    fault(r"logistics.key: is not the key of .*platform.pem", key=folder / "logistics.key")
    files = {"certificate": folder / "platform.pem", "key": folder / "platform.key"}
    fault(r"platform.pem: names platform, localhost, vfl.example.com, not 'logistics'", "logistics", **files)
    fault(r"platform.pem: expired on 2026-09-09", now=NOW + timedelta(days=101))
    fault(r"platform.pem: not valid before 2026-05-31 23:55 UTC", now=NOW - timedelta(hours=1))
    issue(tmp_path / "other", ["platform"], now=NOW)
    fault(r"platform.pem: was not issued by .*other/ca.pem", ca=tmp_path / "other" / "ca.pem")


def test_keys_other_than_p256_and_encrypted_ones_are_refused(folder: Path) -> None:
    file = folder / "platform.key"
    for key in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(IdentityError, match="is no ECDSA P-256 key"):
            load_from(folder)
    secret = BestAvailableEncryption(b"secret")
    file.write_bytes(new_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    with pytest.raises(IdentityError, match="is encrypted"):
        load_from(folder)


def test_a_chain_through_an_intermediate_ca_is_followed(tmp_path: Path) -> None:
    root_key, middle_key, key = new_key(), new_key(), new_key()
    root = sign_certificate("root", root_key, None, root_key, [], NOW, 100)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "middle")]))
        .issuer_name(root.subject)
        .public_key(middle_key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=5))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    from cryptography.hazmat.primitives.hashes import SHA256

    middle = builder.sign(root_key, SHA256())
    own = sign_certificate("platform", key, middle, middle_key, ["platform"], NOW, 50)
    (tmp_path / "ca.pem").write_bytes(pem(root))
    (tmp_path / "platform.key").write_bytes(key_pem(key))
    (tmp_path / "platform.pem").write_bytes(pem(own) + pem(middle))
    identity = load_from(tmp_path)
    assert identity.certificate_der == own.public_bytes(Encoding.DER)
    with pytest.raises(IdentityError, match="expired"):
        load_from(tmp_path, now=NOW + timedelta(days=6))  # the middle one has
    (tmp_path / "platform.pem").write_bytes(pem(own))
    with pytest.raises(IdentityError, match="was not issued by"):
        load_from(tmp_path)


def test_a_renewed_ca_beside_the_old_one(tmp_path: Path) -> None:
    """Of the same key: while both stand in ca.pem, certificates by either are good until the later ends."""
    ca_key, key = new_key(), new_key()
    old, renewed = (sign_certificate("ca", ca_key, None, ca_key, [], NOW, days) for days in (5, 50))
    own = sign_certificate("platform", key, old, ca_key, ["platform"], NOW, 40)
    (tmp_path / "ca.pem").write_bytes(pem(old) + pem(renewed))
    (tmp_path / "platform.key").write_bytes(key_pem(key))
    (tmp_path / "platform.pem").write_bytes(pem(own))
    assert load_from(tmp_path, now=NOW + timedelta(days=6)).not_after == own.not_valid_after_utc
    (tmp_path / "ca.pem").write_bytes(pem(old))
    assert load_from(tmp_path).not_after == old.not_valid_after_utc  # what ends first is warned of
    with pytest.raises(IdentityError, match=r"ca\.pem: expired"):
        load_from(tmp_path, now=NOW + timedelta(days=6))


@given(number=st.integers(1, 2**159), key=st.binary(min_size=32, max_size=32))
def test_entries_of_a_deny_list_have_one_form(number: int, key: bytes) -> None:
    for written in (f"serial:{number:x}", f"serial:{number:X}", f"serial:{number:040X}"):
        assert deniable(written) == f"serial:{number:x}"
    assert deniable(f"sha256:{key.hex()}") == f"sha256:{key.hex()}"


@pytest.mark.parametrize("entry", ["", "sha256:ab", "serial:", "serial:xyz", "0a", "serial:" + "1" * 41])
def test_what_is_no_entry_of_a_deny_list(entry: str) -> None:
    with pytest.raises(ValueError, match="must be sha256: and 64 hex digits"):
        deniable(entry)


def test_ones_own_certificate_denied(folder: Path) -> None:
    own = load_from(folder)
    with pytest.raises(IdentityError, match=r"platform\.pem: your own tls\.denied names it"):
        load(folder / "ca.pem", own.certificate_file, own.key_file, "platform", NOW, [own.fingerprint])


def test_a_certificate_near_its_end_is_warned_of(folder: Path) -> None:
    own = load_from(folder)
    [warning] = own.warnings(NOW + timedelta(days=90))
    assert warning == (
        f"{folder / 'platform.pem'}: expires in 10 days; have a new one issued (for the same key, run.toml "
        "stays as it is)"
    )


def test_importing_certs_does_not_import_cryptography() -> None:
    code = "import sys, parties.certs; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
