"""Scalars for TensorBoard, read back from the event file."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from parties import simulate
from parties.errors import ConfigError, StorageError
from parties.tensorboard import TensorBoard, recorded
from protos.rounds import Progress, Traffic
from splitnn.epoch import Epoch
from tests.parties import small
from tests.parties.test_api import CONTRACT, OWN

AT_ALL = {
    "speed/steps a second",
    "speed/rows a second",
    "traffic/bytes sent",
    "traffic/bytes received",
}


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def epoch(number: int, metrics: dict[str, float]) -> Epoch:
    return Epoch("training", 4 * number, 40, number, True, True, stops=False, rows=100, metrics=metrics)


def test_a_run_at_the_label_holder(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    found = simulate(small.tables(), "platform", "bought", "k", CONTRACT, OWN, callbacks=[board])
    board.close()
    told = scalars(tmp_path)
    history = found.parties["platform"].summary["history"]
    assert [step for step, _ in told["training/loss"]] == [*range(1, len(history) + 1)]
    for tag, key in (("training/loss", "train_loss"), ("validation/auc", "auc")):
        assert [value for _, value in told[tag]] == pytest.approx([entry[key] for entry in history], abs=1e-5)
    assert told.keys() > AT_ALL
    assert "leak/norm_leak" in told
    assert all(value > 0 for tag in AT_ALL for _, value in told[tag] if "bytes" not in tag)


def test_a_feature_holder_tells_nothing_of_labels(tmp_path: Path) -> None:
    seen: list[Progress] = []
    config: Any = SimpleNamespace(name="shop", contract=SimpleNamespace(name="trial"))
    with recorded(tmp_path, config, lambda progress, traffic: seen.append(progress)) as on_progress:
        on_progress(Progress("training", 0, 40), Traffic(10, 20))
        on_progress(epoch(1, {}), Traffic(10, 20))
    [folder] = tmp_path.iterdir()
    assert folder.name.startswith("trial-shop-")
    told = scalars(folder)
    assert told.keys() == AT_ALL
    assert (told["traffic/bytes sent"], told["traffic/bytes received"]) == ([(1, 10.0)], [(1, 20.0)])
    assert len(seen) == 2


def test_no_folder_no_scalars(tmp_path: Path) -> None:
    def shown(progress: Progress, traffic: Traffic) -> None: ...

    with recorded(None, SimpleNamespace(), shown) as on_progress:  # type: ignore[arg-type]
        assert on_progress is shown


def test_what_cannot_be_written_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="choose another folder"):
        TensorBoard(tmp_path / "file" / "folder")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install 'vertical-parties\[tensorboard\]'"):
        TensorBoard(tmp_path)


def test_a_full_disk_ends_the_curves_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = TensorBoard(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(board._writer, "add_scalar", full)
    board.epoch(epoch(1, {"train_loss": 0.5}))
    board.epoch(epoch(2, {"train_loss": 0.5}))
    board._writer.close()
    board.close()
