"""What a page is made of, read back."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.audit import read as read_log
from parties.egress import Egress, Totals
from parties.errors import StorageError
from parties.report.kept import Kept

SUMMARY = {"run": "ab" * 32, "party": "shop", "role": "feature holder", "rows": 9, "aligned": 9}


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run-abababababab" / "shop"
    made.mkdir(parents=True, exist_ok=True)
    (made / "summary.json").write_text(json.dumps(SUMMARY | {"psi": {}, "training": {}}))
    return made


messages = st.lists(
    st.tuples(st.sampled_from(["bank", "hub"]), st.sampled_from(["activation", "kept"]), st.integers(0, 99))
)


@settings(deadline=None, max_examples=30)
@given(attempts=st.lists(st.tuples(messages, st.booleans()), min_size=1, max_size=3), torn=st.booleans())
def test_what_left_is_what_the_log_says(
    tmp_path_factory: pytest.TempPathFactory, attempts: list, torn: bool
) -> None:
    made = folder(tmp_path_factory.mktemp("kept"))
    for number, (sent, ends) in enumerate(attempts):
        egress = Egress("shop", clock=lambda: 1.0)
        egress.open(made / "audit.jsonl", b"r" * 32, bytes([number]) * 32)
        for to, kind, size in sent:
            egress.leaves(to, kind, size, "0" * 64)
        if ends:
            egress.end("done")
        egress.close()
    expected: Totals = {}
    for attempt in read_log(made / "audit.jsonl").attempts.values():
        for peer, kinds in attempt.sent.items():
            for kind, (count, size) in kinds.items():
                pair = expected.setdefault(peer, {}).setdefault(kind, [0, 0])
                pair[0], pair[1] = pair[0] + count, pair[1] + size
    if torn:
        with (made / "audit.jsonl").open("ab") as file:
            file.write(b'{"bytes":7,"kind":"act')
    assert Kept.read(made).sent == (len(attempts), expected)


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    kept = Kept.read(folder(tmp_path))
    assert (kept.name, kept.contract, kept.sent, kept.scores) == ("run", {}, None, None)
    for name in ("audit.jsonl", "test_scores.parquet", "agreement.json"):
        (kept.folder / name).write_bytes(b'{"attempt":\n{"end":3}\n')
    kept = Kept.read(kept.folder)
    assert (kept.contract, kept.sent, kept.scores) == ({}, None, None)


@pytest.mark.parametrize("content", [None, b"", b"[1]", b'{"run": "ab"}', b"{"])
def test_what_is_no_summary_is_told(tmp_path: Path, content: bytes | None) -> None:
    made = folder(tmp_path)
    (made / "summary.json").unlink()
    if content is not None:
        (made / "summary.json").write_bytes(content)
    with pytest.raises(StorageError, match=r"summary\.json: is no summary of a training"):
        Kept.read(made)
