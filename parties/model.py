"""One party's part of a trained model, read again from the folder of its run."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from parties import version_files
from parties.config import Config
from parties.difference import first_difference
from parties.errors import ConfigError, StorageError
from parties.features import Pipeline
from parties.own_model import local_of
from parties.phases import plan_of
from parties.promoted import promoted_run
from parties.target import Target
from parties.versions import Version, find, folders, version_digest
from splitnn.models import bottom_model, top_model
from splitnn.plan import Plan


@dataclass(frozen=True)
class Model:
    """run: its id. kind: of id by which it was aligned. pipeline, weights: as trained; the weights by
    `<module>.<parameter>`."""

    config: Config
    folder: Path
    run: bytes
    kind: str
    plan: Plan
    pipeline: Pipeline
    weights: Mapping[str, Tensor]

    @property
    def digest(self) -> bytes:
        """Of the version, the same at all parties: 32 bytes."""
        return version_digest(self.run, self.config.contract.digest)

    def bottom(self, seed: bytes, trained: bool = True) -> nn.Module:
        """The bottom model; not trained: with initial weights from this seed. Raises ConfigError where it is
        not the one of the run."""
        shape = self.pipeline.width, self.pipeline.levels, seed, local_of(self.config)
        module = bottom_model(self.plan, *shape, self.pipeline.bag_levels)
        return self._with_weights(module, "bottom") if trained else module

    def top(self, seed: bytes) -> nn.Module:
        """The top model, at the label holder. Errors as of `bottom`."""
        parties, outputs = 1 + len(self.config.feature_holders), self.target().outputs
        return self._with_weights(top_model(self.plan, parties, seed, outputs, local_of(self.config)), "top")

    def target(self) -> Target:
        """What the top model's outputs mean, at the label holder. Raises StorageError, DataError."""
        return Target.from_dict(_json(self.folder, "target.json"))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """A file of the folder. Raises StorageError for one that is damaged or not there."""
        try:
            return safetensors.torch.load_file(self.folder / name)
        except (OSError, SafetensorError) as error:
            raise damaged(self.folder / name) from error

    def half(self, half: str) -> dict[str, Tensor]:
        """Weights of `bottom` or `top`, by parameter."""
        prefix = f"{half}."
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.weights.items()
            if name.startswith(prefix)
        }

    def _with_weights(self, module: nn.Module, half: str) -> nn.Module:
        try:
            module.load_state_dict(self.half(half))
        except RuntimeError:
            file = self.config.path if half == "bottom" else self.config.party.contract
            raise ConfigError(
                f"{file}: model.{half} is not what {self.folder} was trained with; put it back"
            ) from None
        return module


def model(config: Config, folder: Path) -> Model:
    """Read this party's part of a finished run.

    Raises ConfigError where the folder holds no finished run of it, or one of another contract, and
    StorageError for damaged files.
    """
    if not (folder / "summary.json").is_file():
        raise ConfigError(
            f"{folder}: holds no finished run; give a run's folder, the one of its summary.json"
        )
    read = partial(_json, folder)
    summary, agreed = read("summary.json"), read("agreement.json")
    if summary.get("party") != config.name:
        raise ConfigError(f"{folder}: is not a run of {config.name}; give the folder of its own")
    if agreed.get("contract") != json.loads(config.contract.canonical):
        theirs = json.dumps(agreed.get("contract")).encode()
        difference = first_difference(config.contract.canonical, theirs, "the run")
        raise ConfigError(f"{config.party.contract}: {difference}; give the run.toml of the run in {folder}")
    try:
        run, kind = bytes.fromhex(agreed["run"]), summary["psi"]["kind"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder) from error
    plan, pipeline = plan_of(config.contract), version_files.pipeline(folder)
    return Model(config, folder, run, kind, plan, pipeline, version_files.weights(folder))


def chosen(config: Config, run: str | None) -> Path:
    """The folder of a run. run: that folder, or the beginning of the run's id; None: of the promoted run, and
    where there is none of the newest under this contract. Raises ConfigError, StorageError."""
    if run is not None:
        return Path(run) if Path(run).is_dir() else find(config, run).folder
    if (serves := promoted_run(config)) is not None:
        return find(config, serves.hex()).folder
    versions = [Version.read(folder) for folder in folders(config)]
    own = [one for one in versions if one.summary["contract"] == config.contract.digest.hex()]
    if not own:
        raise ConfigError(
            f"{config.party.storage}: holds no finished run under this contract; train one with `party run`, "
            "or name one with --run"
        )
    return max(own, key=lambda version: version.created).folder


def damaged(path: Path) -> StorageError:
    return StorageError(f"{path}: damaged, or not all there; restore it from a copy, or run again")


def _json(folder: Path, name: str) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / name).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise damaged(folder) from error
