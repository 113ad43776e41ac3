"""`party models export`: this party's part of a version as files that run without this program."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from parties.config import Config
from parties.errors import ConfigError, DataError, StorageError
from parties.features import Pipeline
from parties.phases import plan_of
from parties.storage import check_writable, write
from parties.summary import as_json
from parties.versions import Version
from splitnn.export import Part, as_onnx, as_pt2, bottom_part, program, top_part
from splitnn.local import Local
from splitnn.models import bottom_model, top_model

FORMATS: Final = ("pt2", "onnx")
SUM: Final = "sum of the others"
"""The second term of a secure sum: no party's activation."""


def export(config: Config, version: Version, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write bottom and, at the label holder, top in each format, what they take (export.json), how columns
    become their inputs and outputs a score (pipeline.json, target.json). Returns the files.

    Raises ConfigError where ONNX is not installed or the bottom model is another than the version's;
    StorageError; TrainingError for a class of the user's that cannot be exported.
    """
    names = [f"{half}.{suffix}" for half in ("bottom", "top") for suffix in formats]
    for name in names:
        check_writable(folder / name)
    if "onnx" in formats:
        _refuse_without_onnx()
    written, described = [], dict[str, Any]()
    for half, part in parts(config, version).items():
        exported = program(part)
        described[half] = part.described()
        for suffix in formats:
            content = as_pt2(exported) if suffix == "pt2" else as_onnx(exported, part)
            written.append(folder / f"{half}.{suffix}")
            write(written[-1], content)
    for name in ("pipeline.json", *(["target.json"] if "top" in described else [])):
        written.append(folder / name)
        write(written[-1], _read(version.folder / name))
    about = {"version": version.run.hex(), "digest": version.digest.hex(), "party": config.name, **described}
    write(folder / "export.json", as_json(about))
    return [*written, folder / "export.json"]


def parts(config: Config, version: Version) -> dict[str, Part]:
    """bottom and, at the label holder, top, with the version's weights. Errors as of `export`."""
    contract, local, folder = version.contract, Local(config.party.model.bottom), version.folder
    plan, held = plan_of(contract), weights(folder)
    try:
        pipeline = Pipeline.from_json(_read(folder / "pipeline.json").decode())
    except (DataError, UnicodeDecodeError) as error:
        raise StorageError(f"{folder / 'pipeline.json'}: {error}") from error
    bottom = bottom_model(plan, pipeline.width, pipeline.levels, b"export", local, pipeline.bag_levels)
    _load(
        bottom,
        held,
        "bottom",
        f"{config.path}: model.bottom is not what {folder} was trained with; put it back",
    )
    shape = pipeline.width, len(pipeline.levels), len(pipeline.bag_levels)
    found = {"bottom": bottom_part(bottom.eval(), *shape)}
    if config.name == contract.label_holder:
        try:
            outputs = max(1, len(json.loads(_read(folder / "target.json"))["names"]))
        except (ValueError, LookupError, TypeError) as error:
            raise _damaged(folder / "target.json") from error
        top = top_model(plan, len(contract.parties), b"export", outputs, local)
        _load(top, held, "top", f"{config.path}: the class {plan.top} is not what {folder} was trained with")
        others = [SUM] if contract.is_summed else contract.feature_holders
        found["top"] = top_part(top.eval(), [config.name, *others], plan.cut)
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    """Of a version, by half and name. Raises StorageError."""
    try:
        return safetensors.torch.load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise _damaged(folder / "model.safetensors") from error


def _load(module: nn.Module, held: dict[str, Tensor], half: str, otherwise: str) -> None:
    mine = {name.removeprefix(f"{half}."): one for name, one in held.items() if name.startswith(f"{half}.")}
    try:
        module.load_state_dict(mine)
    except RuntimeError:
        raise ConfigError(otherwise) from None


def _refuse_without_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs {error.name}, which is not installed here: pip install 'vertical-parties[export]', "
            "or choose --format pt2"
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> StorageError:
    return StorageError(f"{path}: damaged, or not all there; restore it from a copy")
