"""`party models export`: this party's part of a version as files that run without this program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from parties.config import Config
from parties.errors import ConfigError
from parties.phases import plan_of
from parties.storage import check_writable, write
from parties.summary import as_json
from parties.version_files import names, read, weights
from parties.version_files import pipeline as pipeline_of
from parties.versions import Version
from splitnn.errors import TrainingError
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
    for name in [f"{half}.{suffix}" for half in ("bottom", "top") for suffix in formats]:
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
        write(written[-1], read(version.folder / name))
    about = {"version": version.run.hex(), "digest": version.digest.hex(), "party": config.name, **described}
    write(folder / "export.json", as_json(about))
    return [*written, folder / "export.json"]


def parts(config: Config, version: Version) -> dict[str, Part]:
    """bottom and, at the label holder, top, with the version's weights. Errors as of `export`."""
    contract, folder = version.contract, version.folder
    plan, pipeline = plan_of(contract), pipeline_of(folder)
    local = Local(config.party.model.bottom, warm=weights(folder))
    shape = pipeline.width, pipeline.levels, b"export", local, pipeline.bag_levels
    try:
        bottom = bottom_model(plan, *shape).eval()
        found = {
            "bottom": bottom_part(bottom, pipeline.width, len(pipeline.levels), len(pipeline.bag_levels))
        }
        if config.name == contract.label_holder:
            top = top_model(plan, len(contract.parties), b"export", max(1, len(names(folder))), local)
            others = [SUM] if contract.is_summed else contract.feature_holders
            found["top"] = top_part(top.eval(), [config.name, *others], plan.cut)
    except TrainingError as error:
        raise ConfigError(
            f"{config.path}: model.bottom, or the class of model.top, is not what {folder} was trained with: "
            f"{error}; put it back"
        ) from error
    return found


def _refuse_without_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ONNX needs {error.name}, which is not installed here: pip install 'vertical-parties[export]', "
            "or choose --format pt2"
        ) from error
