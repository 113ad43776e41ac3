"""What a party can try by itself, before it meets anybody: its identity, its protocol, its data."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from parties import certs
from parties.config import Config
from parties.errors import ConfigError, DataError, IdentityError
from parties.limits import Limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from parties.table import Table
    from psi import Psi
    from psi.ids import Ids


class OwnData(NamedTuple):
    """`labels` (label holder only, float32) and `table` have the file's rows, `ids.rows` the usable ones."""

    table: "Table"
    ids: "Ids"
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


def own_protocol(config: Config) -> "Psi":
    """The PSI protocol that run.toml names. Raises ConfigError."""
    import psi

    name, count = config.contract.psi.protocol, len(config.contract.parties)
    try:
        protocol = psi.load(name)
    except (psi.UnknownProtocol, psi.DuplicateProtocol) as error:
        raise ConfigError(f"{config.party.contract}: psi.protocol: {error}") from error
    if count not in protocol.parties:
        raise ConfigError(
            f"{config.party.contract}: psi.protocol: {name} is for {protocol.parties.start} to "
            f"{protocol.parties.stop - 1} parties, and the contract has {count}"
        )
    unread, room = protocol.unread(config.contract.psi.at_most), Limits().inbox
    if unread > room:
        raise ConfigError(
            f"{config.party.contract}: psi.at_most: a peer may then send {unread:,} bytes of {name} unasked, "
            f"and {room:,} may wait; lower it"
        )
    return protocol


def own_data(config: Config) -> OwnData:
    """The party's table, ids and labels, read whole and checked. Raises DataError, IdError."""
    import psi
    from parties.table import label_values, read_table

    data = config.party.data
    table = read_table(data.file, data.id, data.numeric, data.categorical, data.label, data.exclude)
    try:
        ids = psi.normalise(table.ids, config.contract.ids.type, data.nulls, data.duplicates)
        labels = None if table.label is None else label_values(table.label, data.positive)
    except (psi.IdError, DataError) as error:
        raise type(error)(f"{data.file}: {error}") from error
    if len(ids.rows) > config.contract.psi.at_most:
        raise DataError(
            f"{data.file}: {len(ids.rows):,} usable ids, and the contract allows psi.at_most = "
            f"{config.contract.psi.at_most:,}; agree on a larger one, or bring fewer"
        )
    return OwnData(table, ids, labels)
