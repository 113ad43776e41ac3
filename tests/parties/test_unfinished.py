"""What is kept of an unfinished run is used by the party and in the run that kept it."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parties.storage import write
from parties.unfinished import Unfinished, forget


def test_an_alignment_of_another_party_or_run_is_not_used(tmp_path: Path) -> None:
    run, described = b"r" * 32, {"reused": 0}
    ann = Unfinished(tmp_path, None, "ann", {})  # the contract matters to checkpoints only
    ann.keep_alignment(run, np.array([3, 1]), described)
    rows, told = ann.alignment(run)
    assert (rows.tolist(), told) == ([3, 1], described)
    assert replace(ann, party="bob").alignment(run) is None
    assert ann.alignment(b"s" * 32) is None


def test_who_is_killed_as_it_forgets_still_knows_which_run_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "unfinished" / "ann"
    kept = ["run.json", "alignment.parquet", "checkpoint-000012.safetensors", "zzz"]
    for name in kept:
        write(folder / name, b"{}")
    real, seen = os.unlink, list[set[str]]()

    def unlink(path: str, **named: object) -> None:
        seen.append({*os.listdir(folder)})
        real(path, **named)

    monkeypatch.setattr(os, "unlink", unlink)
    forget(folder)
    assert [len(names) for names in seen] == [4, 3, 2, 1]
    assert all("run.json" in names for names in seen)
    assert not folder.parent.exists()
