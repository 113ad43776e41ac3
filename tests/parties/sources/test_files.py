"""CSV in any encoding, Parquet in folders, tables in memory: the same rows; and one line for all else."""

import os
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties.errors import DataError
from parties.sources import source
from parties.sources.csv_file import CsvFile
from parties.sources.files import source_of
from parties.sources.memory import InMemory
from parties.sources.source import Source, read_batches, read_columns

DAY, MOMENT = date(2026, 1, 1), datetime(2026, 1, 1, 8, 30)
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=5)


def cells(of: Source, *named: str) -> dict[str, list[object]]:
    return {name: column.to_pylist() for name, column in read_columns(of, named, not named).items()}


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_any_separator_and_encoding_holds_the_same_cells(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], separator: str, encoding: str
) -> None:
    file = tmp_path_factory.mktemp("csv") / "t.any"
    frame = pd.DataFrame(rows, columns=["id", "x"])
    frame.to_csv(file, index=False, sep=separator, encoding=encoding, quoting=1)
    told = CsvFile(file, encoding if encoding != "utf-8-sig" else "utf-8", separator)
    assert cells(told, "id", "x") == {name: [cell or None for cell in frame[name]] for name in frame}
    assert told.schema().names == ["id", "x"]


@pytest.mark.parametrize(
    ("content", "encoding", "wanted"),
    [
        ("id,a\n1,2\n3,ä\n".encode("latin-1"), "utf-8", "line 3: not UTF-8 text; save the file as UTF-8, or"),
        (b"id,a\n1,2\n3,4\n5,\x81\n", "cp1252", "line 4: not CP1252 text"),
        ("id,a\n1,2\n3,ä\n".encode("utf-16")[:-1], "utf-16", "line 4: not UTF-16|the last line"),
    ],
)
def test_a_byte_that_is_no_text_is_named_with_its_line(
    tmp_path: Path, content: bytes, encoding: str, wanted: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=wanted):
        cells(CsvFile(tmp_path / "t.csv", encoding))


def folder_of(folder: Path, **files: pa.Table) -> Path:
    for name, table in files.items():
        file = folder / (name.replace("__", "/") + ".parquet")
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file)
    return folder


def test_a_folder_is_its_files_in_the_order_of_their_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "BLOCK", 2)
    one, two = pa.table({"id": [1, 2, 3], "x": ["a", "b", None]}), pa.table({"x": ["c"], "id": [4]})
    folder = folder_of(tmp_path / "t", b=two, a=one)
    folder_of(folder, _temporary__c=two, **{".hidden": two})
    (folder / "_SUCCESS").touch()
    whole = source_of(folder)
    assert cells(whole) == {"id": [1, 2, 3, 4], "x": ["a", "b", None, "c"]}
    assert max(len(batch["id"]) for batch in read_batches(whole, ["id"])) == 2
    before = whole.fingerprint(), whole.state()
    assert before == (source_of(folder).fingerprint(), source_of(folder).state())
    os.rename(folder / "b.parquet", folder / "c.parquet")
    assert whole.fingerprint() != before[0]
    assert whole.state() != before[1]


def test_nothing_of_a_folder_is_left_out_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path / "t", a=pa.table({"id": [1]}), x__b=pa.table({"id": [2]}))
    elsewhere = folder_of(tmp_path / "elsewhere", y__c=pa.table({"id": [3]}))
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (folder / "z.parquet").symlink_to(elsewhere / "y" / "c.parquet")
    (folder / "_gone").symlink_to(tmp_path / "nowhere")
    assert cells(source_of(folder))["id"] == [1, 3, 2, 3]

    def refused(path: Path, wanted: str) -> None:
        for read in (source_of(folder).fingerprint, source_of(folder).schema):
            with pytest.raises(DataError, match=f"^{path}: {wanted}"):
                read()
        assert source_of(folder).state() is None
        path.unlink()

    (folder / "x" / "gone").symlink_to(tmp_path / "nowhere")
    refused(folder / "x" / "gone", "a link to what is not there")
    (folder / "x" / "self").symlink_to("self")
    refused(folder / "x" / "self", "a link to what is not there")
    os.mkfifo(folder / "x" / "pipe.parquet")
    refused(folder / "x" / "pipe.parquet", "is no file, though")
    (folder / "x" / "up").symlink_to(folder, target_is_directory=True)
    refused(folder / "x" / "up", "leads back, by a link")
    (elsewhere / "y" / "back").symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(DataError, match=f"^{folder}/linked/y/back: leads back, by a link"):
        source_of(folder).fingerprint()
    (elsewhere / "y" / "back").unlink()

    listed = Path.iterdir
    for barred in (folder / "x", elsewhere / "y"):

        def closed(path: Path, barred: Path = barred) -> Iterator[Path]:
            if path.resolve() == barred:
                raise PermissionError(13, "Permission denied", str(path))
            return listed(path)

        monkeypatch.setattr(Path, "iterdir", closed)
        with pytest.raises(DataError, match=r"/(x|linked/y): cannot be read: Permission denied"):
            source_of(folder).fingerprint()


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"t\xff")
    try:
        os.rename(folder_of(tmp_path / "plain", a=pa.table({"id": [1]})), folder)
    except OSError:
        pytest.skip("this file system has no such names")
    os.rename(folder / "a.parquet", folder / os.fsdecode(b"\xe4.parquet"))
    assert (cells(source_of(folder))["id"], str(source_of(folder))) == ([1], rf"{tmp_path}/t\xff")
    before = source_of(folder).fingerprint()
    os.rename(folder / os.fsdecode(b"\xe4.parquet"), folder / os.fsdecode(b"\xe5.parquet"))
    assert source_of(folder).fingerprint() != before
    (folder / os.fsdecode(b"b\xff=2.parquet")).symlink_to("nowhere")
    with pytest.raises(DataError, match=r"/t\\xff/b\\xff=2\.parquet: a link to"):
        cells(source_of(folder))
    hive = folder_of(tmp_path / "hive", x__a=pa.table({"id": [1]}))
    os.rename(hive / "x", hive / os.fsdecode(b"x=\xff"))
    with pytest.raises(DataError, match=r"/x=\\xff/a\.parquet: lies in a folder whose name is not UTF-8"):
        cells(source_of(hive))
    (folder / "t.csv").write_bytes(b"id\n\xff\n")
    for wrong in (folder / "t.csv", folder / "not.csv"):
        with pytest.raises(DataError, match=r"/t\\xff/"):
            cells(source_of(wrong))


class Keys(encryption.KmsClient):
    """Of no secret at all."""

    def __init__(self, _: object) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> str:
        return key.hex()

    def unwrap_key(self, key: str, _: str) -> bytes:
        return bytes.fromhex(key)


@pytest.mark.parametrize("plain_footer", [False, True])
def test_an_encrypted_file_is_said_to_be_one(tmp_path: Path, plain_footer: bool) -> None:
    asked = encryption.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["id"]}, plaintext_footer=plain_footer
    )
    properties = encryption.CryptoFactory(Keys).file_encryption_properties(
        encryption.KmsConnectionConfig(), asked
    )
    table = pa.table({"id": [1], "x": [2]})
    with pq.ParquetWriter(tmp_path / "t.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    with pytest.raises(DataError, match=r"t\.parquet: cannot be read: it is damaged, or encrypted; write"):
        cells(source_of(tmp_path / "t.parquet"), "id")


def test_a_sparse_column_is_a_column() -> None:
    sparse = pd.DataFrame(
        {"a": pd.arrays.SparseArray([0.0, 0.5, None]), "b": pd.arrays.SparseArray([0, 1, 0])}
    )
    assert cells(InMemory(sparse)) == {"a": [0.0, 0.5, None], "b": [0, 1, 0]}


def test_hive_partitions_are_columns_of_text(tmp_path: Path) -> None:
    folder = tmp_path / "t"
    for place, ids in (
        ("country=DE/day=01", [1]),
        ("country=S%C3%A3o/day=02", [2]),
        ("country=__HIVE_DEFAULT_PARTITION__/day=02", [3, 4]),
    ):
        folder_of(folder / place, part=pa.table({"id": ids}))
    whole = source_of(folder)
    assert cells(whole) == {
        "country": ["DE", "São", None, None],
        "day": ["01", "02", "02", "02"],
        "id": [1, 2, 3, 4],
    } or cells(whole)["country"] == ["DE", None, None, "São"]
    assert len(cells(whole, "day")["day"]) == 4
    assert whole.schema().names == ["country", "day", "id"]
    pq.write_table(pa.table({"id": [9]}), folder / "stray.parquet")
    with pytest.raises(DataError, match=r"lies in other folders than"):
        cells(whole)
    folder_of(tmp_path / "twice" / "a=1" / "a=2", part=pa.table({"id": [1]}))
    with pytest.raises(DataError, match=r"column 'a' stands in the header twice"):
        cells(source_of(tmp_path / "twice"))


def test_the_type_of_a_column_may_not_change_between_files(tmp_path: Path) -> None:
    numbers, texts = pa.table({"id": [1], "x": [1]}), pa.table({"id": [2], "x": ["1"]})
    with pytest.raises(
        DataError, match=r"types: column 'x': is of type int64 in a\.parquet, but of type str"
    ):
        cells(source_of(folder_of(tmp_path / "types", a=numbers, b=texts)))
    with pytest.raises(DataError, match=r"b\.parquet: no column 'x'"):
        cells(source_of(folder_of(tmp_path / "gone", a=numbers, b=pa.table({"id": [2]}))))
    with pytest.raises(DataError, match=r"a\.parquet: no column 'new'"):
        cells(source_of(folder_of(tmp_path / "new", a=numbers, b=numbers.append_column("new", [[1]]))))
    huge = pa.table({"id": [2], "x": [2**53 + 1]})
    with pytest.raises(DataError, match="not exact as double"):
        cells(source_of(folder_of(tmp_path / "huge", a=pa.table({"id": [1], "x": [0.5]}), b=huge)))


def test_numbers_of_other_sizes_and_nothing_at_all_are_one_type(tmp_path: Path) -> None:
    pieces = [pa.array([None, None]), pa.array([1], pa.int8()), pa.array([2**40]), pa.array([0.5])]
    parts = {f"p{at}": pa.table({"x": piece}) for at, piece in enumerate(pieces)}
    assert cells(source_of(folder_of(tmp_path / "t", **parts)))["x"] == [None, None, 1, 2**40, 0.5]


def test_days_and_times_of_a_frame_stay_what_they_are() -> None:
    for moment in (DAY, MOMENT):
        for gap in (None, pd.NaT):
            assert cells(InMemory(pd.DataFrame({"a": [moment, gap]}, dtype=object)))["a"] == [moment, None]


def test_a_frame_holds_what_its_file_does(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["a", None, "c"], "x": [1.5, None, 2], "k": pd.Categorical(["u", "v", "u"])})
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    held = InMemory(frame.set_index(pd.Index([7, 7, 8])))
    assert cells(held) == cells(source_of(tmp_path / "t.parquet")) == cells(InMemory(pa.table(frame)))
    assert held.fingerprint() == InMemory(frame).fingerprint() != InMemory(frame[::-1]).fingerprint()
    table = pa.table(frame)
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert InMemory(chunked).fingerprint() == InMemory(table).fingerprint()


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column 'a' stands in the header twice"),
        (pd.DataFrame([[1, 2]], columns=["a", 7]), "the name of column 2 is no text"),
        (pd.DataFrame({"a": [1, "x"]}), "column 'a': holds cells of several types"),
        (pd.DataFrame({"a": [object()]}), "column 'a': holds cells of several types, or of none"),
        (pd.DataFrame({"a": [DAY, MOMENT]}, dtype=object), "column 'a': holds cells of several types"),
        (pd.DataFrame({"a": [None, MOMENT, DAY]}, dtype=object), "column 'a': holds cells of several"),
        (
            pd.DataFrame({"a": [DAY, pd.Timestamp(MOMENT)]}, dtype=object),
            "column 'a': holds cells of several",
        ),
        (pd.DataFrame({"a": []}), "a header, but no rows"),
        (pa.table([[1], [2]], ["a", "a"]), "column 'a' stands in the header twice"),
    ],
)
def test_a_frame_that_cannot_be_used(frame: "pd.DataFrame | pa.Table", wanted: str) -> None:
    with pytest.raises(DataError, match=f"the table in memory: {wanted}"):
        cells(InMemory(frame), "a")
