"""A run directory is a model version: which there are here, what each is, and how two differ."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from parties.config import Config
from parties.contract import Contract
from parties.errors import ConfigError, StorageError
from parties.summary import HEADLINES

SHORTEST: Final = 4
"""Hex digits of a run id that may stand for the whole."""


@dataclass(frozen=True)
class Version:
    """A finished training of this party. summary: as in docs/summary.md. agreed: the contract it ran under,
    canonical. created: when its results were whole."""

    folder: Path
    summary: Mapping[str, Any]
    agreed: Mapping[str, Any]
    created: datetime

    @classmethod
    def read(cls, folder: Path) -> "Version":
        """Raises StorageError for what is damaged, and for files of several runs."""
        try:
            written = (folder / "summary.json").stat().st_mtime
            summary, agreement = (json.loads((folder / f"{name}.json").read_bytes()) for name in NEEDED)
            version = cls(folder, summary, agreement["contract"], datetime.fromtimestamp(written, UTC))
            canonical = json.dumps(version.agreed, sort_keys=True, separators=(",", ":")).encode()
            whole = agreement["run"] == summary["run"] and len(version.run) == 32
            whole = whole and hashlib.sha256(canonical).hexdigest() == summary["contract"]
            whole = whole and folder.parent.name == f"{version.name}-{version.run.hex()[:12]}"
            whole = whole and bool(version.facts(promoted=False))
        except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
            whole = False
        if not whole:
            raise StorageError(f"{folder}: damaged, or not all there; restore it from a copy, or remove it")
        return version

    @property
    def run(self) -> bytes:
        return bytes.fromhex(self.summary["run"])

    @property
    def name(self) -> str:
        """Of the contract."""
        return str(self.agreed["name"])

    @property
    def contract(self) -> Contract:
        content = dict(self.agreed)
        if expires := content.get("privacy", {}).get("expires"):  # JSON has no dates
            content["privacy"] = content["privacy"] | {"expires": date.fromisoformat(expires)}
        return Contract.model_validate(content)

    @property
    def digest(self) -> bytes:
        return version_digest(self.run, bytes.fromhex(self.summary["contract"]))

    @property
    def headline(self) -> tuple[str, float | None]:
        """The first metric of the task, and its value on the test rows; None where it is not known: at a
        feature holder."""
        metric = next(iter(HEADLINES[self.summary["training"]["task"]]))
        found = self.summary.get("metrics", {}).get("test", {}).get(metric)
        return metric, None if found is None else float(found)

    def facts(self, promoted: bool) -> dict[str, Any]:
        """Of a list. promoted: does it serve?"""
        metric, value = self.headline
        return {
            "version": self.run.hex(),
            "digest": self.digest.hex(),
            "name": self.name,
            "created": self.created.isoformat(timespec="seconds"),
            "metric": metric,
            "value": value,
            "rows": self.summary["rows"],
            "examples": self.summary["examples"],
            "promoted": promoted,
            "folder": str(self.folder),
        }


NEEDED: Final = ("summary", "agreement")


def version_digest(run: bytes, contract: bytes) -> bytes:
    """What parties compare to know that they hold parts of one model: 32 bytes, from the run id and the
    contract's digest, which are the same at all of them; their weights are not, and stay at home."""
    return hashlib.sha256(b"vertical model version v1\0" + run + contract).digest()


def folders(config: Config) -> list[Path]:
    """Of this party's finished trainings, of contracts of any name. An alignment alone is none, as it leaves
    no model."""
    return sorted(
        path.parent
        for path in config.party.storage.glob(f"*-{'[0-9a-f]' * 12}/{config.name}/summary.json")
        if (path.parent / "model.safetensors").is_file()
    )


def find(config: Config, version: str) -> Version:
    """version: the beginning of a run id. Raises ConfigError for one that is of no run here, or of several,
    and StorageError for a damaged one."""
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},64}}", version):
        raise ConfigError(
            f"{ascii(version)[:80]}: no version; give the first {SHORTEST} or more hex digits of a run id, "
            "as `party models list` shows them"
        )
    there = [
        folder
        for folder in folders(config)
        if folder.parent.name[-12:].startswith(version[:12])  # a folder's name has so much of the run id
    ]
    found = [one for one in map(Version.read, there) if one.run.hex().startswith(version)]
    if len(found) != 1:
        several = ", ".join(one.run.hex()[:16] for one in found)
        why = f"are {several}: give more digits" if several else "is none; see `party models list`"
        raise ConfigError(f"of the versions in {config.party.storage} that begin with {version} there {why}")
    return found[0]


def compare(a: Version, b: Version) -> dict[str, Any]:
    """metrics, contract, columns and importance: each by its dotted name with the values of both, None where
    one has none. Of metrics and importance all that one of them has; of contract and columns what differs."""
    metrics = _both(*(dict(_flat(one.summary.get("metrics", {}))) for one in (a, b)))
    drops = _both(*(dict(_flat(one.summary.get("importance", {}))) for one in (a, b)))
    return {
        "versions": [one.run.hex() for one in (a, b)],
        "metrics": metrics,
        "contract": _differing(_both(*(dict(_flat(one.agreed)) for one in (a, b)))),
        "columns": _differing(_both(_columns(a), _columns(b))),
        "importance": {key: values for key, values in drops.items() if key.endswith(".mean")},
    }


def _columns(version: Version) -> dict[str, Any]:
    """How each column of this party became features: its kind. Raises StorageError."""
    path = version.folder / "pipeline.json"
    try:
        pipeline = json.loads(path.read_bytes())
        return {
            column["name"]: kind
            for kind in ("numeric", "categorical", "bags", "dates")
            for column in pipeline.get(kind, ())  # an earlier release knew no dates
        }
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: damaged, or not there; restore it from a copy") from error


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _both(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {key: [a.get(key), b.get(key)] for key in sorted(a.keys() | b.keys())}


def _differing(values: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {key: [one, other] for key, (one, other) in values.items() if one != other}
