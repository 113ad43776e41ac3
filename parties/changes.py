"""What a run depends on at this party, beside the contract; and has it changed since it was interrupted?

Going on with another table, column or option would end in weights that are those of no run at all. So a
restart with something changed is refused before anybody is met, and the error names what changed.
"""

import importlib.util
import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from parties import checkpoints
from parties.config import Config
from parties.difference import first_difference
from parties.errors import ConfigError, DataError
from parties.sources.file_state import digest_of
from parties.storage import own_secret, private_seed
from parties.unfinished import ALIGNMENT, read, run_of, under_any_contract, unfinished
from parties.versions import find

SECTIONS = ("data", "model", "training", "evaluation", "groups")
"""Of party.toml. Certificates and addresses may change between two attempts."""
STARTS_FROM = ("model.safetensors", "pipeline.json")
"""Files of an earlier run."""


def described(config: Config) -> dict[str, Any]:
    """Each key of party.toml that the result depends on, the table's content by its fingerprint, the party's
    own secret by a hash that does not tell it, the release of torch, for its bits, the files of an earlier
    run that it starts from, and the file of a class of the party's own. Raises DataError, StorageError."""
    party = json.loads(config.party.model_dump_json(include={*SECTIONS}, warnings=False))
    own = {f"{section}.{key}": value for section in SECTIONS for key, value in party[section].items()}
    own["data.file"] = config.source.fingerprint()
    if config.party.data.exclude_ids is not None:
        own["data.exclude_ids"] = digest_of(config.party.data.exclude_ids)
    own["the file `secret` in storage"] = private_seed(own_secret(config.party.storage), b"", "which").hex()
    own["torch"] = version("torch")
    if run := config.contract.training.warm_start:
        with suppress(ConfigError):  # `prepare` will say that it is not there
            folder = find(config, run).folder
            own |= {f"{file} of the warm start": digest_of(folder / file) for file in STARTS_FROM}
    for name in (config.party.model.bottom, config.contract.model.top):
        if code := _code_of(name):
            own[f"the code of {name}"] = digest_of(code)
    return own


def refuse_change_while_read(config: Config, own: Mapping[str, Any]) -> None:
    """After the table has been read: is it the one that `own` tells of? Raises DataError."""
    if config.source.fingerprint() != own["data.file"]:
        raise DataError(f"{config.source}: has changed while it was read; start again")
    listed = config.party.data.exclude_ids
    if listed is not None and digest_of(listed) != own["data.exclude_ids"]:
        raise DataError(f"{listed}: has changed while it was read; start again")


def refuse_changes(config: Config, own: dict[str, Any]) -> None:
    """Raises ConfigError that names the first thing that differs from the unfinished run of this name.

    own: as `described` gives it. Nothing is refused where there is no more than finished buckets: those know
    by themselves which ids they are of, and `Unfinished.previous` brings none of the rest to the others.
    """
    for folder in under_any_contract(config):
        before = read(folder)
        if not before or not ((folder / ALIGNMENT).exists() or any(checkpoints.files(folder))):
            continue
        which = f"the unfinished run {run_of(before).hex()[:12]}"
        if folder != unfinished(config) and "contract" in before:
            agreed = json.dumps(before["contract"]).encode()
            difference = first_difference(config.contract.canonical, agreed, which)
            raise _refused(f"{config.party.contract}: {difference}")
        refuse_other(config, own, before.get("own", own), which, "party run")


def refuse_other(
    config: Config, own: Mapping[str, Any], theirs: Mapping[str, Any], which: str, command: str
) -> None:
    """own, theirs: as `described`, now and when `which` began. Raises ConfigError that names the first thing
    that differs."""
    for key in sorted(own.keys() | theirs.keys()):
        if own.get(key) != theirs.get(key):
            if key == "data.exclude_ids":
                raise ConfigError(
                    f"{config.path}: {key} lists other people than when {which} began; begin anew with "
                    f"`{command} --afresh`"
                )
            what = f"{config.source}: it" if key == "data.file" else f"{config.path}: {key}"
            raise _refused(f"{what} is not what it was when {which} began", command)


def _code_of(name: str) -> Path | None:
    """The file of `module:Class`; what that imports in turn is its author's care."""
    module, colon, _ = name.partition(":")
    with suppress(ImportError, ValueError):  # whoever needs the class will say that it is not there
        spec = importlib.util.find_spec(module) if colon else None
        if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
            return Path(spec.origin)
    return None


def _refused(why: str, command: str = "party run") -> ConfigError:
    return ConfigError(f"{why}; put it back to go on, or begin anew with `{command} --afresh`")
