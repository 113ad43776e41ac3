"""Which version serves: a stack of promotions for each contract name, in one small file of the storage.

storage/<party>.promoted.json    {"<contract name>": [{"version": "<run id>", "at": "<UTC>"}, ...], ...}

The last of a list serves; `rollback` takes it off. No run is touched by either.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parties.config import Config
from parties.errors import ConfigError, StorageError
from parties.storage import write
from parties.versions import Version, find


def promoted_run(config: Config, name: str | None = None) -> bytes | None:
    """The id of the run that serves under contracts of this name, the configured one's where none is given;
    None where none was promoted. Raises StorageError for a damaged file."""
    stack = _read(_path(config)).get(name or config.contract.name, [])
    return bytes.fromhex(stack[-1]["version"]) if stack else None


def promoted(config: Config) -> Version:
    """The version that serves. Raises ConfigError where none was promoted, or it is gone; StorageError."""
    run = promoted_run(config)
    if run is None:
        raise ConfigError(
            f"no version of {config.contract.name} serves; see `party models list`, then `party models "
            "promote VERSION`"
        )
    return find(config, run.hex())


def promote(
    config: Config, version: Version, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """From here on this version serves. Raises ConfigError where it does already; StorageError."""
    content = _read(_path(config))
    stack = content.setdefault(version.name, [])
    if stack and stack[-1]["version"] == version.run.hex():
        raise ConfigError(f"{version.run.hex()[:12]} serves already; nothing was changed")
    stack.append({"version": version.run.hex(), "at": now().isoformat(timespec="seconds")})
    _write(config, content)


def rollback(config: Config) -> Version:
    """The version before serves again; returns it. Raises ConfigError where there is none, or it is gone, and
    StorageError; nothing is changed then."""
    content = _read(_path(config))
    stack = content.get(config.contract.name, [])
    if len(stack) < 2:
        raise ConfigError(
            f"no version of {config.contract.name} served before this one; promote another, by `party models "
            "promote VERSION`"
        )
    before = find(config, stack[-2]["version"])
    stack.pop()
    _write(config, content)
    return before


def _path(config: Config) -> Path:
    return config.party.storage / f"{config.name}.promoted.json"


def _read(path: Path) -> dict[str, list[dict[str, str]]]:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        runs = [bytes.fromhex(one["version"]) for stack in content.values() for one in stack]
        whole = all(len(run) == 32 for run in runs) and all(isinstance(one, list) for one in content.values())
    except FileNotFoundError:
        return {}
    except (AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        whole = False
    if not whole:
        raise StorageError(f"{path}: damaged; remove it, and promote the version that is to serve once more")
    return content


def _write(config: Config, content: dict[str, Any]) -> None:
    write(_path(config), json.dumps(content, indent=2).encode() + b"\n")
