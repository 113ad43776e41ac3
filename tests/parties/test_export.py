"""A version exported by a party: the files, read again, give the run's own scores on its real rows."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from parties import export as exporting
from parties.config import load
from parties.errors import ConfigError, StorageError
from parties.export import export
from parties.finished import finished
from parties.versions import find
from tests.parties import small


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, Any]
) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Of each party its home, and the summary of its run."""
    homes = small.write(tmp_path_factory.mktemp("companies"), certificates, identities)
    ended = small.run(homes)
    return {name: (homes[name], ended[name]) for name in homes}


def flat(batch: Any) -> list[torch.Tensor]:
    return [one for entry in batch for one in (entry if isinstance(entry, tuple) else (entry,))]


@pytest.mark.parametrize("suffix", ["pt2", "onnx"])
def test_the_files_give_the_scores_of_the_run(
    made: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path, suffix: str
) -> None:
    if suffix == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra `export`")
        pytest.importorskip("onnxscript", reason="needs the extra `export`")
    cut, asked = {}, {}
    for name, (home, summary) in made.items():
        config = load(home / "party.toml")
        written = export(config, find(config, summary["run"][:12]), tmp_path / name, [suffix])
        assert {path.name for path in written} >= {f"bottom.{suffix}", "pipeline.json", "export.json"}
        asked[name] = json.loads((tmp_path / name / "export.json").read_bytes())
        assert asked[name]["version"] == summary["run"]
        ended = finished(config, small.folder_of(home, summary))
        inputs = flat(ended.features(ended.rows).batch(torch.arange(len(ended.rows))))
        cut[name] = _run(tmp_path / name / f"bottom.{suffix}", asked[name]["bottom"], inputs)
        own = ended.bottom(b"any").eval()(*ended.features(ended.rows).batch(torch.arange(len(ended.rows))))
        torch.testing.assert_close(cut[name], own.detach(), rtol=0, atol=1e-6)
    assert asked["platform"]["digest"] == asked["logistics"]["digest"]
    logits = _run(
        tmp_path / "platform" / f"top.{suffix}",
        asked["platform"]["top"],
        [cut[name] for name in asked["platform"]["top"]["inputs"]],
    )
    home, summary = made["platform"]
    folder = small.folder_of(home, summary)
    aligned, tested = (pd.read_parquet(folder / f"{name}.parquet") for name in ("alignment", "test_scores"))
    place = {row: at for at, row in enumerate(aligned["row"])}
    scores = torch.sigmoid(logits[:, 0]).numpy()[[place[row] for row in tested["row"]]]
    np.testing.assert_allclose(scores, tested["score"], rtol=0, atol=1e-6)


def _run(path: Path, asked: dict[str, Any], inputs: list[torch.Tensor]) -> torch.Tensor:
    for tensor, told in zip(inputs, asked["inputs"].values(), strict=True):
        assert str(tensor.dtype) == f"torch.{told['dtype']}"
        assert told["columns"] == (tensor.shape[1] if tensor.ndim == 2 else None)
    if path.suffix == ".pt2":
        output: torch.Tensor = torch.export.load(path).module()(*inputs)
        return output.detach()
    from onnxruntime import InferenceSession

    session = InferenceSession(path)
    named = dict(zip(asked["inputs"], (one.numpy() for one in inputs), strict=True))
    taken = {one.name: named[one.name] for one in session.get_inputs()}
    return torch.from_numpy(session.run([asked["output"]], taken)[0])


def test_without_the_packages_onnx_is_refused_in_a_line_and_nothing_written(
    made: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    home, summary = made["logistics"]
    config = load(home / "party.toml")
    with pytest.raises(
        ConfigError, match=r"pip install 'vertical-parties\[export\]', or choose --format pt2"
    ):
        export(config, find(config, summary["run"]), tmp_path / "out")
    assert not [*(tmp_path / "out").glob("*")]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot make"):
        export(config, find(config, summary["run"]), tmp_path / "file" / "x", ["pt2"])


@pytest.mark.parametrize("file", ["model.safetensors", "pipeline.json", "target.json"])
def test_a_damaged_version_is_refused(
    made: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    home, summary = made["platform"]
    path = small.folder_of(home, summary) / file
    whole, config = path.read_bytes(), load(home / "party.toml")
    version = find(config, summary["run"])
    try:
        path.write_bytes(whole[:20])
        with pytest.raises(StorageError, match="damaged"):
            exporting.parts(config, version)
    finally:
        path.write_bytes(whole)


def test_another_bottom_model_than_the_versions_is_refused(
    made: dict[str, tuple[Path, dict[str, Any]]],
) -> None:
    home, summary = made["logistics"]
    config = load(home / "party.toml")
    other = config.party.model_copy(
        update={"model": config.party.model.model_copy(update={"bottom": "tests.splitnn.test_export:Own"})}
    )
    with pytest.raises(ConfigError, match=r"model\.bottom, or .*, is not what .* was trained with"):
        exporting.parts(type(config)(config.path, other, config.contract), find(config, summary["run"]))
