"""Which columns this party's table has, as run.toml may pin it: one with a renamed column is refused.

Names of columns are a party's own. What is pinned is an HMAC of them under the secret of its storage: others
can tell that it is the same, and guess nothing. What it was made of, the party keeps beside the secret.
"""

import hmac
import json
from pathlib import Path
from typing import Any

from parties.config import Config
from parties.errors import DataError, StorageError
from parties.sources.source import nearest
from parties.sources.types import kind_of_type
from parties.storage import own_secret, private_seed, write

Schema = dict[str, str]
"""Kind (number, text, boolean, date, list, other; of a CSV all is text) by column."""

LISTED = 8


def own_schema(config: Config) -> Schema:
    """Of the columns that party.toml names; where all others take part, of these too. A named column that is
    not there is left to who reads the table. Raises DataError."""
    data = config.party.data
    named = {name for of_kind in config.id_columns.values() for name in of_kind}
    named |= {*data.label, *data.numeric, *data.categorical, *data.bags, *data.types}
    named |= {name for name in (data.weight, data.rank_within, data.event_time, data.label_time) if name}
    others = not data.numeric and not data.categorical
    return {
        field.name: kind_of_type(field.type)
        for field in config.source.schema()
        if field.name in named or (others and field.name not in data.exclude)
    }


def pin_of(config: Config, schema: Schema) -> str:
    """As run.toml has it. Raises StorageError."""
    key = private_seed(own_secret(config.party.storage), b"", "schema of the table")
    content = json.dumps(schema, sort_keys=True).encode()
    return f"hmac-sha256:{hmac.digest(key, content, 'sha256').hex()}"


def remembered_pin(config: Config) -> str:
    """The table's pin now; and from here on, which columns it stands for. Raises DataError, StorageError."""
    schema = own_schema(config)
    pin = pin_of(config, schema)
    held = _held(config)
    if held.get(pin) != schema:
        write(_path(config), json.dumps(held | {pin: schema}, indent=1).encode())
    return pin


def check_columns(config: Config) -> str:
    """The table's pin, where run.toml pins one; else nothing. Raises DataError that names the columns which
    are other ones than those that it pins, StorageError."""
    pinned = config.contract.parties[config.name].columns
    if pinned is None:
        return ""
    schema = own_schema(config)
    pin = pin_of(config, schema)
    if pin != pinned:
        raise DataError(
            f"{config.source}: has other columns than parties.{config.name}.columns of run.toml pins"
            f"{_difference(schema, _held(config).get(pinned))}; mend the table, or agree "
            "on a run.toml without the pin, and on the one that `party check` then prints"
        )
    return pin


def _difference(now: Schema, then: Any) -> str:
    if not isinstance(then, dict):
        return " (which ones is not known in this storage: did `party check` print it in another?)"
    gone, new = sorted(then.keys() - now.keys()), sorted(now.keys() - then.keys())
    changed = sorted(name for name in now.keys() & then.keys() if now[name] != then[name])
    said = [f"{name!r} is gone{nearest(name, new)}" for name in gone]
    said += [f"{name!r} is new" for name in new]
    said += [f"{name!r} is {now[name]}, not {then[name]}" for name in changed]
    return f": {', '.join(said[:LISTED])}{', ...' * (len(said) > LISTED)}"


def _held(config: Config) -> dict[str, Any]:
    """What pins stand for; nothing where that is damaged, as it only says more in an error."""
    try:
        held = json.loads(_path(config).read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"cannot read {_path(config)}: {error.strerror}") from error
    except (ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def _path(config: Config) -> Path:
    return config.party.storage / f"{config.name}.columns.json"
