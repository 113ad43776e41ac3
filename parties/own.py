"""What a party can try by itself, before it meets anybody: its identity, its protocol, its data."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from parties import certs
from parties.config import Config
from parties.contract import AUTO
from parties.errors import ConfigError, DataError, IdentityError, NotInstalled
from parties.id_kinds import digest_key
from parties.limits import Limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from parties.table import Table
    from psi import Psi
    from psi.ids import Ids


class OwnData(NamedTuple):
    """`labels` (label holder only, float32) and `table` have the file's rows.

    ids: by kind, in the contract's order of preference; the `rows` of each are the usable ones.
    """

    table: "Table"
    ids: "dict[str, Ids]"
    labels: "NDArray[np.float32] | None"


def pin_of(certificate: Path) -> str:
    """What run.toml pins for the holder of this certificate, `sha256:<hex>`. Raises IdentityError."""
    try:
        return certs.key_fingerprint(certificate.read_bytes())
    except OSError as error:
        raise IdentityError(f"{certificate}: cannot be read: {error.strerror}") from error
    except ValueError:
        raise IdentityError(
            f"{certificate}: is no certificate in PEM or DER form; give the right file"
        ) from None


def own_identity(config: Config) -> certs.Identity:
    """The party's certificate and key, and they are those that run.toml pins. Raises IdentityError."""
    tls, pinned = config.party.tls, config.contract.parties[config.name].key
    identity = certs.load(tls.ca, tls.certificate, tls.key, config.name)
    if identity.fingerprint != pinned:
        raise IdentityError(
            f"{tls.certificate}: its pin is {identity.fingerprint}, but run.toml says {pinned} for "
            f"{config.name}; correct it at all parties (is it pasted under another name?)"
        )
    return identity


def own_protocols(config: Config) -> "dict[str, Psi]":
    """The PSI protocols by which this party can align under the contract, by name.

    The one that run.toml names, or with "auto" all that are installed here and fit. Raises ConfigError where
    none does; NotInstalled where that may be so at this party alone.
    """
    import psi

    name = config.contract.psi.protocol
    if name != AUTO:
        return {name: _fitting(config, name)}
    fitting, faults = {}, []
    for one in psi.installed():
        try:
            fitting[one] = _fitting(config, one)
        except ConfigError as fault:
            faults.append(str(fault))
    secure = {one: protocol for one, protocol in fitting.items() if protocol.secure}
    if not secure:
        raise ConfigError("\n".join(faults))
    return secure


def _fitting(config: Config, name: str) -> "Psi":
    import psi
    from psi.buckets import LARGEST

    contract, where = config.contract, f"{config.party.contract}: psi"
    try:
        protocol = psi.load(name)
    except (psi.UnknownProtocol, psi.DuplicateProtocol) as error:
        raise NotInstalled(f"{where}.protocol: {error}") from error
    if not (protocol.secure or contract.psi.allow_insecure):
        raise ConfigError(
            f"{where}.allow_insecure: {name} hides nothing from a party that guesses ids; choose another "
            "psi.protocol, or set this to true where that is wanted"
        )
    if len(contract.parties) not in protocol.parties:
        raise ConfigError(
            f"{where}.protocol: {name} is for {protocol.parties.start} to {protocol.parties.stop - 1} "
            f"parties, and the contract has {len(contract.parties)}"
        )
    unread, room = protocol.unread(min(contract.psi.at_most, LARGEST)), Limits().inbox
    if unread > room:
        raise ConfigError(
            f"{where}.at_most: a peer may then send {unread:,} bytes of {name} unasked, and {room:,} may "
            "wait; lower it"
        )
    return protocol


def own_data(config: Config) -> OwnData:
    """The party's table, ids and labels, read whole and checked. Raises DataError, IdError."""
    import psi
    from parties.table import label_values, read_table

    data, columns = config.party.data, config.id_columns
    named = list(dict.fromkeys(name for of_kind in columns.values() for name in of_kind))
    table = read_table(data.file, named, data.numeric, data.categorical, data.label, data.exclude)
    kinds = {kind.name: kind for kind in config.contract.ids}
    try:
        ids = {
            kind: psi.normalise(
                [[table.ids[name] for name in names]],
                names,
                kinds[kind].columns,
                digest_key(config.contract.digest, kind),
                data.nulls,
                data.duplicates,
            )
            for kind, names in columns.items()
        }
        labels = None if table.label is None else label_values(table.label, data.positive)
    except (psi.IdError, DataError) as error:
        raise type(error)(f"{data.file}: {error}") from error
    return OwnData(table, ids, labels)
