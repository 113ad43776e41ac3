"""The files of a version that hold its model, read back. Each raises StorageError for what is damaged."""

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from parties.errors import DataError, StorageError
from parties.features import Pipeline


def weights(folder: Path) -> dict[str, Tensor]:
    """By half and name: `bottom.*`, and `top.*` at the label holder."""
    path = folder / "model.safetensors"
    try:
        return safetensors.torch.load_file(path)
    except (OSError, SafetensorError) as error:
        raise _damaged(path) from error


def pipeline(folder: Path) -> Pipeline:
    path = folder / "pipeline.json"
    try:
        return Pipeline.from_json(read(path).decode())
    except (DataError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: {error}") from error


def names(folder: Path) -> tuple[str, ...]:
    """Of the classes or targets, in the order of the top model's outputs; () where there is one output."""
    path = folder / "target.json"
    try:
        found: Any = json.loads(read(path))["names"]
        return tuple(map(str, found))
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(path) from error


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StorageError:
    return StorageError(f"{path}: damaged, or not all there; restore it from a copy")
