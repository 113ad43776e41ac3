"""`party align` within one process: which ids are aligned, and what is written."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from parties import align as aligning
from parties.align import alignment_only
from parties.alignment import Alignment
from parties.config import Config, load
from parties.errors import AlignmentError, StorageError
from parties.own import own_identity, own_ids, own_protocols
from parties.sources.source import read_batches
from parties.storage import check_writable
from protos.memory import together
from protos.rounds import Progress
from psi import buckets

NAMES = ("advertiser", "logistics", "platform")

Align = Callable[..., tuple[dict[str, Any], dict[str, Config]]]


@pytest.fixture
def align(tmp_path: Path, certificates: Path, identities: dict[str, Any]) -> Align:
    """Align tables between NAMES in lockstep: (each one's outcome, the configs)."""

    def run(
        tables: dict[str, pd.DataFrame], ids: str, columns: dict[str, str], psi: str = ""
    ) -> tuple[dict[str, Any], dict[str, Config]]:
        contract = f'version = 1\nname = "small"\nlabel_holder = "platform"\nseed = 1\n{ids}\n'
        contract += f"psi = {{ {psi} }}\n"
        contract += "".join(f'[parties.{name}]\nkey = "{identities[name].fingerprint}"\n' for name in NAMES)
        configs = {}
        for name in NAMES:
            home = tmp_path / name
            home.mkdir()
            tables[name].to_parquet(home / "table.parquet")
            (home / "run.toml").write_text(contract)
            link = 'listen = "127.0.0.1:1"' if name == "platform" else 'hub = "127.0.0.1:1"'
            (home / "party.toml").write_text(
                f'party = "{name}"\ndata = {{ file = "table.parquet", id = {columns[name]} }}\n'
                f'tls = {{ ca = "{certificates}/ca.pem", certificate = "{certificates}/{name}.pem", '
                f'key = "{certificates}/{name}.key" }}\nlink = {{ {link} }}\n'
            )
            configs[name] = load(home / "party.toml", for_training=False)
        parties = {name: alignment_only(*_brought(config)) for name, config in configs.items()}
        return together(parties).results, configs

    return run


def _brought(config: Config) -> tuple[Any, ...]:
    def cells(names: tuple[str, ...]) -> Any:
        return ([batch[name] for name in names] for batch in read_batches(config.source, names))

    return config, own_identity(config), own_ids(config, cells).by_kind, own_protocols(config)


def written(config: Config, aligned: Alignment, place: Path) -> pd.DataFrame:
    aligning.write_ids(config, aligned, place, lambda word: None)
    return pd.read_parquet(place)


def test_composite_ids_are_written_column_by_column(align: Align, tmp_path: Path) -> None:
    frames = {
        name: pd.DataFrame({"n": range(at, at + 8), "s": [f" s{k % 3}" for k in range(at, at + 8)]})
        for at, name in enumerate(NAMES)
    }
    ids = 'ids = { name = "pair", types = ["integer", "string"] }'
    outcomes, configs = align(frames, ids, dict.fromkeys(NAMES, '{ pair = ["n", "s"] }'))
    tables = {
        name: written(configs[name], aligned, tmp_path / f"{name}.out")
        for name, (_, aligned) in outcomes.items()
    }
    one = tables["platform"]
    assert list(one.columns) == ["row", "id_1", "id_2"]
    assert sorted(one["id_1"]) == list(range(2, 8))
    assert all(text == f" s{n % 3}" for n, text in zip(one["id_1"], one["id_2"], strict=True))
    for table in tables.values():
        assert table["id_1"].tolist() == one["id_1"].tolist()


def test_the_first_kind_that_all_have(align: Align) -> None:
    mails = [f"u{n}@mail.example" for n in range(9)]
    frames = {
        name: pd.DataFrame({"mail": mails, "tel": [f"+4917012345{n}" for n in range(9)]}) for name in NAMES
    }
    kinds = 'ids = [{ name = "tel", type = "phone" }, { name = "mail", type = "email" }]'
    both = '{ tel = "tel", mail = "mail" }'
    outcomes, _ = align(
        frames, kinds, {"platform": both, "logistics": both, "advertiser": '{ mail = "mail" }'}
    )
    for _, aligned in outcomes.values():
        assert aligned.terms.kind == "mail"
        assert len(aligned.rows) == 9


def test_hidden_sizes_and_nothing_in_common(align: Align, tmp_path: Path) -> None:
    frames = {name: pd.DataFrame({"k": range(100 * at, 100 * at + at + 3)}) for at, name in enumerate(NAMES)}
    outcomes, configs = align(
        frames,
        'ids.type = "integer"',
        dict.fromkeys(NAMES, '"k"'),
        "hide_sizes = true, at_most = 7, minimum = 1",
    )
    for name, (_, aligned) in outcomes.items():
        assert set(aligned.terms.sizes.values()) == {7}
        table = written(configs[name], aligned, tmp_path / f"{name}.out")
        assert list(table.columns) == ["row", "id"]
        assert len(table) == 0


def test_many_buckets(align: Align, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "LARGEST", 64)
    frames = {name: pd.DataFrame({"k": np.arange(at, at + 300)}) for at, name in enumerate(NAMES)}
    outcomes, _ = align(frames, 'ids.type = "integer"', dict.fromkeys(NAMES, '"k"'))
    common = {}
    for name, (_, aligned) in outcomes.items():
        assert aligned.terms.buckets > 4
        common[name] = frames[name]["k"].to_numpy()[aligned.rows].tolist()
    assert sorted(common["platform"]) == list(range(2, 300))
    assert common["platform"] == common["logistics"] == common["advertiser"]


def test_a_set_over_the_cap_is_a_result_at_every_party(align: Align) -> None:
    frames = {name: pd.DataFrame({"k": range(5 + (name == "logistics"))}) for name in NAMES}
    outcomes, _ = align(
        frames, 'ids.type = "integer"', dict.fromkeys(NAMES, '"k"'), "at_most = 5, minimum = 1"
    )
    for outcome in outcomes.values():
        assert isinstance(outcome, AlignmentError)
        assert "logistics" in str(outcome)


def test_writing_is_told_and_leaves_the_owners_file_only(align: Align, tmp_path: Path) -> None:
    frames = {name: pd.DataFrame({"k": range(4)}) for name in NAMES}
    outcomes, configs = align(frames, 'ids.type = "integer"', dict.fromkeys(NAMES, '"k"'))
    told: list[Progress] = []
    aligning.write_ids(configs["platform"], outcomes["platform"][1], tmp_path / "out", told.append)
    assert [(word.done, word.total) for word in told] == [(0, 4), (4, 4)]
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
    assert pq.read_schema(tmp_path / "out").field("id").type == "int64"  # in this party's own form


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="name a file"):
        check_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make"):
        check_writable(tmp_path / "file" / "out.parquet")
    check_writable(tmp_path / "new" / "out.parquet")
    assert os.listdir(tmp_path / "new") == []
