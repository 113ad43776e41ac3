"""party.toml and run.toml: what they accept, and each fault as one line: what, where, what to do."""

from pathlib import Path
from typing import get_args

import pytest

from parties.address import Address
from parties.config import load
from parties.errors import ConfigError
from parties.label_keys import CALIBRATED
from parties.party_toml import OwnEvaluation

RUN = f"""
version = 1
name = "conversion"
label_holder = "platform"
seed = 7
[parties.platform]
key = "sha256:{"a" * 64}"
[parties.logistics]
key = "sha256:{"b" * 64}"
[parties.advertiser]
key = "sha256:{"c" * 64}"
[ids]
type = "email"
"""

LABEL_HOLDER = """
party = "platform"
[data]
file = "own.csv"
id = "email"
label = "converted"
positive = [1, "yes", true]
[tls]
ca = "ca.pem"
certificate = "own.pem"
key = "own.key"
[link]
listen = "0.0.0.0:50051"
"""

FEATURE_HOLDER = (
    LABEL_HOLDER.replace('party = "platform"', 'party = "logistics"')
    .replace('label = "converted"\npositive = [1, "yes", true]\n', "")
    .replace("listen", "hub")
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("own.csv", "ca.pem", "own.pem", "own.key"):
        (tmp_path / name).touch()
    (tmp_path / "run.toml").write_text(RUN)
    (tmp_path / "party.toml").write_text(LABEL_HOLDER)
    return tmp_path


def faults(folder: Path, party: str = LABEL_HOLDER, run: str = RUN) -> list[str]:
    """The lines of the ConfigError, without the folder's name."""
    (folder / "party.toml").write_text(party)
    (folder / "run.toml").write_text(run)
    with pytest.raises(ConfigError) as caught:
        load(folder / "party.toml")
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_label_holder(folder: Path) -> None:
    config = load(folder / "party.toml")
    assert config.name == "platform"
    assert config.role == "label holder"
    assert config.feature_holders == ["advertiser", "logistics"]
    assert config.party.link.listen == Address("0.0.0.0", 50051)
    assert config.party.data.positive == (1, "yes", True)
    assert [type(value) for value in config.party.data.positive] == [int, str, bool]


def test_feature_holder(folder: Path) -> None:
    (folder / "party.toml").write_text(FEATURE_HOLDER)
    config = load(folder / "party.toml")
    assert config.role == "feature holder"
    assert config.party.data.label == ()
    assert config.party.link.hub == Address("0.0.0.0", 50051)


def test_what_the_label_holder_weighs_by(folder: Path) -> None:
    for written, read in (('"balanced"', "balanced"), ("{ yes = 20, no = 0.5 }", {"yes": 20.0, "no": 0.5})):
        text = LABEL_HOLDER.replace("label =", f'weight = "w"\nclass_weights = {written}\nlabel =')
        (folder / "party.toml").write_text(text)
        data = load(folder / "party.toml").party.data
        assert (data.label, data.weight, data.class_weights) == (("converted",), "w", read)


@pytest.mark.parametrize(
    ("task", "keys", "lines"),
    [
        ("multiclass", 'label = "a"\npositive = [1]', ["positive: not for", "remove it"]),
        ("regression", 'label = "a"\npositive = [1]', ["positive: not for", "remove it"]),
        ("regression", 'label = "a"\nclass_weights = "balanced"', ["class_weights: not for", "remove it"]),
        ("regression", 'label = "a"\nrank_within = "session"', ["rank_within: not for", "remove it"]),
        ("multiclass", 'label = "a"\nndcg_at = 3', ["ndcg_at: not for", "remove it"]),
        ("multilabel", 'label = "a"', ["label: ", "is for several columns; list them"]),
        ("multilabel", 'label = ["a"]', ["label: ", "is for several columns; list them"]),
        ("binary", 'label = ["a", "b"]', ["label: several columns are for ", "name one"]),
    ],
)
def test_keys_of_another_task(folder: Path, task: str, keys: str, lines: list[str]) -> None:
    party = LABEL_HOLDER.replace('label = "converted"\npositive = [1, "yes", true]', keys)
    [line] = faults(folder, party, RUN + f'[model]\ntask = "{task}"\n')
    assert line.startswith(f"party.toml: data.{lines[0]}")
    assert line.endswith(lines[1])


@pytest.mark.parametrize(
    ("task", "method", "fits"),
    [
        ("binary", "isotonic", True),
        ("multiclass", "temperature", True),
        ("multiclass", "isotonic", False),
        ("multilabel", "isotonic", True),
        ("regression", "temperature", False),
        ("regression", "none", True),
    ],
)
def test_a_calibration_fits_the_task(folder: Path, task: str, method: str, fits: bool) -> None:
    label = 'label = ["a", "b"]' if task == "multilabel" else 'label = "a"'
    party = LABEL_HOLDER.replace('label = "converted"\npositive = [1, "yes", true]', label)
    party += f'[evaluation]\ncalibration = "{method}"\n'
    run = RUN + f'[model]\ntask = "{task}"\n'
    if fits:
        (folder / "run.toml").write_text(run)
        (folder / "party.toml").write_text(party)
        assert load(folder / "party.toml").party.evaluation.calibration == method
    else:
        [line] = faults(folder, party, run)
        assert line.startswith(f'party.toml: evaluation.calibration: "{method}" is for model.task = binary')
        assert line.endswith('of run.toml; set it to "none"')


@pytest.mark.parametrize("key", ['weight = "w"', 'class_weights = "balanced"'])
def test_weights_may_tell_labels_that_lie(folder: Path, key: str) -> None:
    party = LABEL_HOLDER.replace("positive", f"{key}\npositive")
    [line] = faults(folder, party, RUN + "[privacy]\nlabel_epsilon = 1.0\n")
    assert line.startswith(
        f"party.toml: data.{key.partition(' ')[0]}: may tell the label, which privacy.label_"
    )
    assert line.endswith("_epsilon of run.toml hides; remove it")


def test_a_calibration_at_a_feature_holder(folder: Path) -> None:
    [line] = faults(folder, FEATURE_HOLDER + '[evaluation]\ncalibration = "none"\n')
    assert line == (
        "party.toml: evaluation.calibration: not for a feature holder; the label is held by platform; "
        "remove it"
    )


def test_of_a_sum_no_activation_is_kept(folder: Path) -> None:
    run = RUN + '[model]\nfusion = "secure-sum"\n[evaluation]\nimportance = "none"\n'
    [line] = faults(folder, LABEL_HOLDER + "[evaluation]\nkeep_activations = true\n", run)
    assert line.startswith("party.toml: evaluation.keep_activations: with model.fusion = 'secure-sum' none")


def test_the_methods_are_those_of_splitnn() -> None:
    """parties.label_keys spells them out, so that reading a file need not import torch."""
    from splitnn.calibration import CALIBRATIONS

    for method, tasks in CALIBRATED.items():
        assert [task for task in CALIBRATIONS if method in CALIBRATIONS[task]] == [*tasks]
    assert get_args(OwnEvaluation.model_fields["calibration"].annotation) == ("none", *CALIBRATED)


@pytest.mark.parametrize(
    "keys", ['weight = "w"', 'class_weights = "balanced"', 'rank_within = "session"', "ndcg_at = 5"]
)
def test_a_weight_at_a_feature_holder(folder: Path, keys: str) -> None:
    [line] = faults(folder, FEATURE_HOLDER.replace("[data]", f"[data]\n{keys}"))
    assert "not for a feature holder; the label is held by platform; remove it" in line


def test_paths_begin_at_the_folder_of_their_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (folder / "run.toml").rename(elsewhere / "agreed.toml")
    text = f'contract = "{elsewhere}/agreed.toml"\nstorage = "out"\n{LABEL_HOLDER}'
    (folder / "party.toml").write_text(text)
    monkeypatch.chdir(folder)
    party = load("party.toml").party
    assert party.data.file == folder / "own.csv"
    assert party.tls.key == folder / "own.key"
    assert party.storage == folder / "out"
    assert party.contract == elsewhere / "agreed.toml"


def test_a_config_cannot_be_changed(folder: Path) -> None:
    config = load(folder / "party.toml")
    for section in (config, config.party, config.party.data, config.contract, config.contract.training):
        with pytest.raises((ValueError, AttributeError)):
            section.party = "other"  # type: ignore[misc]


BAD_PARTY = {
    "unknown key": (
        ("label =", "lable ="),
        [
            "party.toml: data.lable: unknown key; did you mean data.label?",
            "party.toml: data.label: missing; this party is the label holder, so name the label's column",
        ],
    ),
    "unknown table": (
        ("[tls]", "[tsl]"),
        ["party.toml: tls: missing; please add it", "party.toml: tsl: unknown key; did you mean tls?"],
    ),
    "key of another table": (
        ('party = "platform"', 'party = "platform"\nlisten = "0.0.0.0:1"'),
        ["party.toml: listen: unknown key; did you mean link.listen?"],
    ),
    "unlike any key": (
        ("[link]", "[link]\nzzzz = 1"),
        [
            "party.toml: link.zzzz: unknown key; the keys here are "
            "away, hub, listen, plaintext, progress, silence, wait"
        ],
    ),
    "wrong type": (
        ('id = "email"', "id = 3"),
        [
            "party.toml: data.id: must be a column, or a table of columns by kind of id: "
            '{ email = "e-mail" }, not 3'
        ],
    ),
    "no kind of id": (
        ('id = "email"', "id = {}"),
        ['party.toml: data.id: must be a column, or a table of columns by kind of id: { email = "e-mail" }'],
    ),
    "kind of id without column": (
        ('id = "email"', "id.email = []"),
        ["party.toml: data.id: email must be a column, or a list of columns for a composite id"],
    ),
    "id column twice": (
        ('id = "email"', 'id.email = ["email", "email"]'),
        ["party.toml: data.id: email names a column twice"],
    ),
    "unknown kind of id": (
        ('id = "email"', 'id = { email = "email", phone = "tel" }'),
        ["party.toml: data.id.phone: run.toml has no such kind of id; it has email"],
    ),
    "two columns for one": (
        ('id = "email"', 'id.email = ["email", "tel"]'),
        ["party.toml: data.id.email: one column, run.toml says (email)"],
    ),
    "id as a feature": (
        ('id = "email"', 'id.email = "mail"\nnumeric = ["mail"]'),
        ["party.toml: data.numeric: column 'mail' is already named by data.id"],
    ),
    "choice": (
        ('id = "email"', 'id = "email"\nnulls = "keep"'),
        ["party.toml: data.nulls: must be 'drop' or 'refuse', not 'keep'"],
    ),
    "missing files": (
        ('"own.csv"', '"gone.csv"'),
        ["party.toml: data.file: no such file: gone.csv"],
    ),
    "missing certificate": (
        ('"own.pem"', '"gone.pem"'),
        ["party.toml: tls.certificate: no such file: gone.pem"],
    ),
    "NUL in a path": (
        ('"own.csv"', r'"own\u0000.csv"'),
        ["party.toml: data.file: must not contain a NUL character, not 'own\\x00.csv'"],
    ),
    "missing table": (
        ('[tls]\nca = "ca.pem"\ncertificate = "own.pem"\nkey = "own.key"\n', ""),
        ["party.toml: tls: missing; please add it"],
    ),
    "stranger": (
        ('"platform"', '"bank"'),
        ["party.toml: party: 'bank' is not in the contract, which names advertiser, logistics, platform"],
    ),
    "label missing": (
        ('label = "converted"\n', ""),
        ["party.toml: data.label: missing; this party is the label holder, so name the label's column"],
    ),
    "positive a table": (
        ('[1, "yes", true]', "[[1]]"),
        ["party.toml: data.positive[0]: must be a string, a number or true / false"],
    ),
    "label no column": (
        ('label = "converted"', "label = [1]"),
        ["party.toml: data.label: must be a column, or a list of columns"],
    ),
    "several labels of one task": (
        ('label = "converted"', 'label = ["converted", "clicked"]'),
        ['party.toml: data.label: several columns are for model.task = "multilabel" of run.toml; name one'],
    ),
    "label twice": (
        ('label = "converted"', 'label = ["converted", "converted"]'),
        [
            "party.toml: data.label: column 'converted' stands here twice",
            'party.toml: data.label: several columns are for model.task = "multilabel" of run.toml; name one',
        ],
    ),
    "weight as a feature": (
        ('id = "email"', 'id = "email"\nweight = "w"\nnumeric = ["w"]'),
        ["party.toml: data.numeric: column 'w' is already named by data.weight"],
    ),
    "weight as a list": (
        ('id = "email"', 'id = "email"\nweight = "w"\nrank_within = "w"'),
        ["party.toml: data.rank_within: column 'w' is already named by data.weight"],
    ),
    "label as a weight": (
        ('id = "email"', 'id = "email"\nweight = "converted"'),
        ["party.toml: data.weight: column 'converted' is already named by data.label"],
    ),
    "class weights": (
        ('id = "email"', 'id = "email"\nclass_weights = { yes = 0 }'),
        ['party.toml: data.class_weights: must be "balanced", or a table with a number above 0 for a class'],
    ),
    "a class weight beyond floats": (
        ('id = "email"', 'id = "email"\nclass_weights = { yes = 1e308 }'),
        ["party.toml: data.class_weights: holds a weight that is not from 1e-09 to 1e+09"],
    ),
    "column named twice": (
        ('id = "email"', 'id = "email"\nnumeric = ["age", "age"]'),
        ["party.toml: data.numeric: column 'age' stands here twice"],
    ),
    "column of two kinds": (
        ('id = "email"', 'id = "email"\nnumeric = ["age"]\ncategorical = ["age"]'),
        ["party.toml: data.categorical: column 'age' is already named by data.numeric"],
    ),
    "column of two kinds, one of them lists": (
        ('id = "email"', 'id = "email"\nnumeric = ["age"]\nbags = { age = " " }\nexclude = ["age"]'),
        [
            "party.toml: data.bags: column 'age' is already named by data.numeric",
            "party.toml: data.exclude: column 'age' is already named by data.numeric",
        ],
    ),
    "lists left out": (
        ('id = "email"', 'id = "email"\nbags = ["pages"]\nexclude = ["pages"]'),
        ["party.toml: data.exclude: column 'pages' is already named by data.bags"],
    ),
    "lists twice": (
        ('id = "email"', 'id = "email"\nbags = ["pages", "pages"]'),
        ["party.toml: data.bags: names a column twice"],
    ),
    "kind of a column that has one": (
        ('id = "email"', 'id = "email"\ncategorical = ["shop"]\ntypes = { shop = "number", email = "text" }'),
        ["party.toml: data.types: column 'shop' is already named by data.categorical"],
    ),
    "kind of the id": (
        ('id = "email"', 'id = "email"\ntypes = { email = "text" }'),
        ["party.toml: data.types: column 'email' is already named by data.id"],
    ),
    "unknown kind": (
        ('id = "email"', 'id = "email"\ntypes = { shop = "code" }'),
        [
            "party.toml: data.types.shop: must be 'number', 'category', 'boolean', 'date', 'bag', 'text' or "
            "'key', not 'code'"
        ],
    ),
    "kind of what is left out": (
        ('id = "email"', 'id = "email"\ntypes = { shop = "category" }\nexclude = ["shop"]'),
        ["party.toml: data.exclude: column 'shop' is already named by data.types"],
    ),
    "scale of what is no number": (
        (
            'id = "email"',
            'id = "email"\ntypes = { shop = "category", age = "number" }\nscale = { shop = "log" }',
        ),
        ["party.toml: data.scale: column 'shop' is no number: data.types names it"],
    ),
    "scale of what is left out": (
        ('id = "email"', 'id = "email"\nexclude = ["shop"]\nscale = { shop = "log" }'),
        ["party.toml: data.scale: column 'shop' is no number: data.exclude names it"],
    ),
    "unknown scale": (
        ('id = "email"', 'id = "email"\nscale = { age = "minmax" }'),
        ["party.toml: data.scale.age: must be 'standard', 'quantile' or 'log', not 'minmax'"],
    ),
    "separator of no character": (
        ('id = "email"', 'id = "email"\nbags = { pages = "" }'),
        ['party.toml: data.bags: must be a list of columns, or a table of separators: { history = " " }'],
    ),
    "label as a feature": (
        ('id = "email"', 'id = "email"\nnumeric = ["converted"]'),
        ["party.toml: data.numeric: column 'converted' is already named by data.label"],
    ),
    "hub at the label holder": (
        ("[link]", '[link]\nhub = "h:1"'),
        ["party.toml: link.hub: not for the label holder, which is the hub itself; remove it"],
    ),
    "no address": (
        ('listen = "0.0.0.0:50051"', ""),
        [
            "party.toml: link.listen: missing; the label holder is the hub: "
            'give its address, such as "0.0.0.0:50051"'
        ],
    ),
    "home of nobody": (
        ('"own.csv"', '"~nobody-here/own.csv"'),
        ["party.toml: data.file: the home folder of that user is not known; write the path out"],
    ),
    "path too long": (
        ("own.csv", "x" * 5000),
        ["party.toml: data.file: cannot be looked at: File name too long"],
    ),
    "contract in the home of nobody": (
        ('party = "platform"', 'party = "platform"\ncontract = "~nobody-here/run.toml"'),
        ["party.toml: contract: the home folder of that user is not known; write the path out"],
    ),
    "port": (("50051", "0"), ["party.toml: link.listen: the port must be 1 to 65535"]),
    "wait": (("[link]", "[link]\nwait = 0"), ["party.toml: link.wait: must be greater than 0, not 0"]),
    "own bottom": (
        ("[data]", 'model.bottom = "resnet"\n[data]'),
        ["party.toml: model.bottom: must be 'mlp', or a class such as my_lab.models:MyBottom, not 'resnet'"],
    ),
    "own top": (
        ("[data]", 'model.top = "mlp"\n[data]'),
        ["party.toml: model.top: unknown key; the keys here are bottom"],
    ),
    "own optimiser": (
        ("[data]", 'training.optimizer = "lion"\n[data]'),
        ["party.toml: training.optimizer: must be 'adam' or 'sgd', not 'lion'"],
    ),
    "own learning rate": (
        ("[data]", "training.learning_rate = 0\n[data]"),
        ["party.toml: training.learning_rate: must be greater than 0, not 0"],
    ),
    "own device": (
        ("[data]", 'training.device = "tpu"\n[data]'),
        ["party.toml: training.device: must be 'cpu' or 'cuda', not 'tpu'"],
    ),
    "own precision": (
        ("[data]", 'training.precision = "fp8"\n[data]'),
        ["party.toml: training.precision: must be 'float32' or 'bf16', not 'fp8'"],
    ),
    "a column in two groups": (
        ("[data]", '[groups]\na = ["x", "y"]\nb = ["y"]\n[data]'),
        ["party.toml: groups: column 'y' stands here twice"],
    ),
    "an empty group": (
        ("[data]", "[groups]\na = []\n[data]"),
        ["party.toml: groups.a: Tuple should have at least 1 item after validation, not 0"],
    ),
    "what all agree on": (
        ("[data]", "training.batch = 9\n[data]"),
        [
            "party.toml: training.batch: unknown key; "
            "the keys here are device, learning_rate, optimizer, precision"
        ],
    ),
    "plaintext beyond loopback": (
        ("[link]", "[link]\nplaintext = true"),
        ["party.toml: link.listen: plaintext is for loopback only; use 127.0.0.1, or remove link.plaintext"],
    ),
}


@pytest.mark.parametrize(("change", "lines"), BAD_PARTY.values(), ids=BAD_PARTY)
def test_bad_party(folder: Path, change: tuple[str, str], lines: list[str]) -> None:
    old, new = change
    assert old in LABEL_HOLDER
    found = faults(folder, party=LABEL_HOLDER.replace(old, new))
    assert found[: len(lines)] == lines


def test_rows_of_one_id_cannot_be_refused_where_they_are_examples(folder: Path) -> None:
    several = RUN + '[examples]\nper_entity = "several"\n'
    refusing = LABEL_HOLDER.replace('id = "email"', 'id = "email"\nduplicates = "refuse"')
    [line] = faults(folder, party=refusing, run=several)
    assert line.startswith("party.toml: data.duplicates: with examples.per_entity")
    (folder / "party.toml").write_text(LABEL_HOLDER)
    assert load(folder / "party.toml").contract.several


KINDS = RUN.replace(
    '[ids]\ntype = "email"',
    '[[ids]]\ntype = "email"\n[[ids]]\nname = "person"\ntypes = ["string", "integer"]\n'
    '[[ids]]\ntype = "phone"',
)


def test_columns_of_each_kind_in_the_order_of_the_contract(folder: Path) -> None:
    (folder / "run.toml").write_text(KINDS)
    held = 'id = { phone = "tel", person = ["name", "born"] }'
    (folder / "party.toml").write_text(LABEL_HOLDER.replace('id = "email"', held))
    columns = load(folder / "party.toml").id_columns
    assert [*columns.items()] == [("person", ("name", "born")), ("phone", ("tel",))]


def test_one_column_of_the_only_kind(folder: Path) -> None:
    assert load(folder / "party.toml").id_columns == {"email": ("email",)}


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ('"email"', "data.id: run.toml has several kinds of id; say which it is: { email = ... }"),
        (
            '{ person = "name" }',
            "data.id.person: run.toml makes person of 2 columns (string, integer); list them: "
            "{ person = [...] }",
        ),
        ('{ fax = "fax" }', "data.id.fax: run.toml has no such kind of id; it has email, person, phone"),
    ],
)
def test_columns_that_are_not_those_of_the_kinds(folder: Path, held: str, says: str) -> None:
    party = LABEL_HOLDER.replace('id = "email"', f"id = {held}").replace("key =", "kee =")
    assert faults(folder, party, KINDS)[-1] == f"party.toml: {says}"  # beside the faults of each file alone


def test_a_column_alone_for_a_composite_id(folder: Path) -> None:
    run = RUN.replace('type = "email"', 'name = "person"\ntypes = ["string", "integer"]')
    assert faults(folder, run=run) == [
        "party.toml: data.id: run.toml makes person of 2 columns (string, integer); list them: "
        "{ person = [...] }"
    ]


def test_a_label_at_a_feature_holder(folder: Path) -> None:
    party = FEATURE_HOLDER.replace('id = "email"', 'id = "email"\nlabel = "converted"')
    assert faults(folder, party=party) == [
        "party.toml: data.label: not for a feature holder; the label is held by platform; remove it"
    ]


def test_listen_at_a_feature_holder(folder: Path) -> None:
    assert faults(folder, party=FEATURE_HOLDER.replace("hub", "listen")) == [
        'party.toml: link.hub: missing; give the address of platform, such as "platform:50051"',
        "party.toml: link.listen: not for a feature holder, which only dials out; remove it",
    ]


def test_all_faults_of_both_files_come_at_once(folder: Path) -> None:
    party = FEATURE_HOLDER.replace("own.csv", "gone.csv").replace("key =", "kee =") + "wait = -1\n"
    party = party.replace('id = "email"', 'id = "email"\nlabel = "converted"')
    run = RUN.replace('type = "email"', 'type = "mail"') + '[training]\nbatch = 0\nbach = 1\nepochs = "3"\n'
    assert faults(folder, party, run) == [
        "party.toml: data.file: no such file: gone.csv",
        "party.toml: tls.key: missing; please add it",
        "party.toml: tls.kee: unknown key; did you mean tls.key?",
        "party.toml: link.wait: must be greater than 0, not -1",
        "run.toml: ids.type: must be 'string', 'integer', 'email' or 'phone', not 'mail'",
        "run.toml: training.batch: must be greater than or equal to 1, not 0",
        "run.toml: training.epochs: must be a whole number, not '3'",
        "run.toml: training.bach: unknown key; did you mean training.batch?",
        "party.toml: data.label: not for a feature holder; the label is held by platform; remove it",
    ]


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "run.toml").unlink()
    with pytest.raises(
        ConfigError, match=r"run\.toml: no such file; name yours with -c, or `party init NAME` writes one$"
    ):
        load(folder / "party.toml")
    with pytest.raises(
        ConfigError,
        match=r"nowhere\.toml: no such file; name yours with -c, or `party init NAME` writes one$",
    ):
        load(folder / "nowhere.toml")


def test_a_folder_is_no_file(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"party = \n", "party.toml: line 1, column 9: not valid TOML: Invalid value"),
        (b'a = 1\n[data\nfile = "x"\n', "party.toml: line 2, column 6: not valid TOML: "),
        (b"a = 1\na = 2\n", "party.toml: line 2, column 6: not valid TOML: Cannot overwrite a value"),
        (b"a = 1\nb = '\xff'\n", "party.toml: line 2: not UTF-8 text; save the file as UTF-8"),
        (b"a = " + b"[" * 50_000, "party.toml: not valid TOML: nested too deeply"),
        (b"a = " + b"9" * 5_000, "party.toml: not valid TOML: "),
        (b"#" * (1 << 20) + b"##", "party.toml: larger than 1 MiB; is this the right file?"),
    ],
    ids=["syntax", "bracket", "twice", "encoding", "nested", "digits", "large"],
)
def test_what_is_not_toml(folder: Path, text: bytes, says: str) -> None:
    (folder / "party.toml").write_bytes(text)
    with pytest.raises(ConfigError) as caught:
        load(folder / "party.toml")
    assert str(caught.value).replace(f"{folder}/", "").startswith(says)
    assert len(str(caught.value).splitlines()) == 1


def test_a_byte_order_mark_is_no_fault(folder: Path) -> None:
    (folder / "party.toml").write_bytes(b"\xef\xbb\xbf" + LABEL_HOLDER.encode())
    assert load(folder / "party.toml").name == "platform"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("hub.example.com:1", Address("hub.example.com", 1)),
        ("[::1]:65535", Address("::1", 65535)),
        ("127.0.0.1:50051", Address("127.0.0.1", 50051)),
    ],
)
def test_addresses(folder: Path, text: str, address: Address) -> None:
    (folder / "party.toml").write_text(LABEL_HOLDER.replace("0.0.0.0:50051", text))
    found = load(folder / "party.toml").party.link.listen
    assert found == address
    assert str(found) == text


@pytest.mark.parametrize(
    "text", ["", "host", ":1", "host:", "host:x", "::1:1", "[::1]", "a:1:2", "h:-1", "h:٣", "h:70000"]
)
def test_what_is_no_address(folder: Path, text: str) -> None:
    [line] = faults(folder, party=LABEL_HOLDER.replace("0.0.0.0:50051", text))
    assert line.startswith("party.toml: link.listen: must be host:port, such as ")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost", "[::1]"])
def test_plaintext_on_loopback(folder: Path, host: str) -> None:
    party = LABEL_HOLDER.replace("0.0.0.0", host) + "plaintext = true\n"
    (folder / "party.toml").write_text(party)
    assert load(folder / "party.toml").party.link.plaintext
