"""`party demo`: three companies on this machine, each its own process and folder, over mutual TLS.

What only the demo can do, because it alone sees all folders: check the alignment against the truth, train the
same network on the pooled columns, and compare the weights bit by bit.
"""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import nn

from parties import certs
from parties.config import Config, load
from parties.demo_data import DemoData, PartyData, generate, read_real, split_real
from parties.errors import ConfigError, DemoFailed
from parties.examples import own_examples
from parties.features import Pipeline
from parties.label_draws import lying
from parties.own import own_data, pin_of
from parties.own_model import local_of
from parties.phases import features_of, plan_of
from parties.results import weights
from parties.storage import own_secret, private_seed, run_folder
from psi.canonical import canonical
from splitnn.schedule import repeated, split_rows
from splitnn.schedules import SCHEDULES

Say = Callable[[str], None]


def demo(
    folder: Path,
    data: Path | None = None,
    seed: int = 7,
    people: int = 100_000,
    label_holder: str = "platform",
    say: Say = print,
) -> dict[str, Any]:
    """Run the whole demo in `folder`. Arguments and errors as of `tables`, and DemoFailed.

    Returns the label holder's summary and the comparison.
    """
    made = tables(folder, data, seed, people, label_holder, say)
    say(f"Writing certificates and configuration under {folder}")
    _configure(folder, made, seed)
    summaries = _run_parties(folder, made, say)
    summary = summaries[made.label_holder]
    say("Training the same network in one process on all columns, to compare")
    configs = {party.name: load(folder / party.name / "party.toml") for party in made.parties}
    summary["metrics"]["pooled"], summary["weights_equal_pooled"] = pooled(configs, summary["run"])
    truth = json.loads(made.truth.read_text())
    summary["alignment_exact"] = all(
        _aligned(config, summary["run"]) == set(pd.read_parquet(made.truth.with_suffix(".parquet"))["id"])
        for config in configs.values()
    )
    if "bayes_auc" in truth:
        summary["bayes_auc"] = truth["bayes_auc"]
    return summary


def tables(
    folder: Path,
    data: Path | None = None,
    seed: int = 7,
    people: int = 100_000,
    label_holder: str = "platform",
    say: Say = print,
) -> DemoData:
    """The companies' tables and the truth about them, in `folder`, where an earlier demo is replaced.

    data: a folder with split.json and the CSV it describes; None generates three companies' tables. Raises
    ConfigError.
    """
    if data is not None:
        read_real(data)  # before the last demo goes
    _clear(folder)
    if data is None:
        say(f"Making the tables of three companies that share some of {people:,} people (seed {seed})")
        return generate(folder, seed, people, label_holder)
    say(f"Cutting {data.resolve().name} into a table for each company (seed {seed})")
    return split_real(data, folder, seed)


def table(summary: dict[str, Any]) -> str:
    """What the demo shows at its end."""
    metrics = summary["metrics"]
    rows = [
        (f"{summary['party']} alone, the same users", metrics["alone"]),
        (f"{summary['party']} alone, all its users", metrics["alone_all_rows"]),
        ("the federation", metrics["test"]),
        ("all columns pooled in one process", metrics["pooled"]),
    ]
    lines = [
        f"{summary['aligned']:,} common users; alignment exact: {_yes(summary['alignment_exact'])}; "
        f"weights bit-identical to pooled training: {_yes(summary['weights_equal_pooled'])}",
        "",
        f"{'on the test users':<36}{'AUC':>8}{'log loss':>10}",
        *(f"{name:<36}{value['auc']:>8.4f}{value['log_loss']:>10.4f}" for name, value in rows),
    ]
    if "bayes_auc" in summary:
        lines.append(f"{'best possible (true probabilities)':<36}{summary['bayes_auc']:>8.4f}")
    return "\n".join(lines)


def pooled(configs: dict[str, Config], run: str) -> tuple[dict[str, float], bool]:
    """Train the reference on all parties' columns; its test metrics, and: are all weights bit-identical?

    configs: of every party of the run; this reads all their files, so it is for demos and tests only.
    """
    contract = next(iter(configs.values())).contract
    order = [contract.label_holder, *contract.feature_holders]
    plan, features, seeds = replace(plan_of(contract), importance="none"), {}, {}
    torch.set_num_threads(1)
    for name in order:
        party, folder = configs[name].party, _folder(configs[name], run)
        data = own_data(configs[name])
        rows = pd.read_parquet(folder / "alignment.parquet")["row"].to_numpy()
        pipeline = Pipeline.from_json((folder / "pipeline.json").read_text())
        seeds[name] = private_seed(own_secret(party.storage), bytes.fromhex(run), f"model of {name}")
        if data.labels is not None:
            evaluation = contract.evaluation
            kind = json.loads((folder / "summary.json").read_text())["psi"]["kind"]
            split = split_rows(len(rows), evaluation.validation, evaluation.test, plan.seed)
            entities, of = None, np.arange(len(rows))  # of: each row of the joined table, its entity
            if contract.several:
                rows, counts = own_examples(data.ids[kind], rows, seeds[name])
                split, entities = repeated(split, torch.from_numpy(counts))
                of = np.repeat(np.arange(len(counts)), counts)
            labels = data.labels.of(rows, split, entities)
            secret = own_secret(party.storage)
            labels = lying(configs[name], data, kind, rows, split, labels, secret)
        else:
            rows = rows[of]
        features[name] = features_of(pipeline, data.table, rows)
    choices = {name: local_of(configs[name]) for name in order}
    result = SCHEDULES[plan.schedule].reference(plan, split, features, labels, seeds, choices)
    equal = True
    for name in order:
        modules: dict[str, nn.Module] = {"bottom": result.bottoms[name]}
        if name == contract.label_holder:
            modules["top"] = result.top
        ours, theirs = (
            weights(modules),
            safetensors.torch.load_file(_folder(configs[name], run) / "model.safetensors"),
        )
        equal &= ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    return result.objective.metrics(result.labels, result.scores, result.objective.lists.test), equal


def _folder(config: Config, run: str) -> Path:
    return run_folder(config.party.storage, config.contract.name, bytes.fromhex(run), config.name)


def _aligned(config: Config, run: str) -> set[str | None]:
    """The canonical ids of a party's alignment."""
    ids = pd.read_parquet(_folder(config, run) / "alignment.parquet")["id"]
    return {canonical(cell, "email") for cell in ids}


def _clear(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "truth.json").exists():
            raise ConfigError(f"{folder} is not empty and not an earlier demo: name another --folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def _configure(folder: Path, made: DemoData, seed: int) -> None:
    """Give each party a folder with its own key, the CA's certificate, run.toml and party.toml."""
    names = [party.name for party in made.parties]
    certs.issue(folder / "certs", names, host="localhost")
    pins = "".join(
        f'[parties.{name}]\nkey = "{pin_of(folder / "certs" / f"{name}.pem")}"\n\n' for name in names
    )
    contract = (
        f'version = 1\nname = "demo"\nlabel_holder = "{made.label_holder}"\nseed = {seed}\n\n'
        f'{pins}[ids]\ntype = "email"\n'
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for party in made.parties:
        own = folder / party.name
        for file in ("ca.pem", f"{party.name}.pem", f"{party.name}.key"):
            shutil.copy2(folder / "certs" / file, own / file)
        (own / "run.toml").write_text(contract)
        (own / "party.toml").write_text(_party_toml(party, made.label_holder, address))
    shutil.rmtree(folder / "certs")


def _party_toml(party: PartyData, label_holder: str, address: str) -> str:
    data: dict[str, object] = {
        "file": party.file.name,
        "id": party.id_column,
        "numeric": party.numeric,
        "categorical": party.categorical,
    }
    if party.label is not None:
        data |= {"label": party.label, "positive": party.positive}
    lines = [f"{key} = {json.dumps(value)}" for key, value in data.items()]
    where = "listen" if party.name == label_holder else "hub"
    return (
        f'party = "{party.name}"\n\n[data]\n' + "\n".join(lines) + "\n\n"
        f'[tls]\nca = "ca.pem"\ncertificate = "{party.name}.pem"\nkey = "{party.name}.key"\n\n'
        f'[link]\n{where} = "{address}"\nwait = 120\n'
    )


def _run_parties(folder: Path, made: DemoData, say: Say) -> dict[str, dict[str, Any]]:
    """`party run` once for each party, at the same time; each one's lines are shown with its name."""
    width = max(len(party.name) for party in made.parties)
    processes: dict[str, subprocess.Popen[str]] = {}

    def follow(name: str) -> dict[str, Any]:
        process = processes[name]
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            say(f"  {name:<{width}}  {line.rstrip()}")
        output = process.stdout.read()
        if process.wait() != 0:
            raise DemoFailed(
                f"demo: {name} stopped with exit code {process.returncode}; its own line says why"
            )
        return dict(json.loads(output))

    say(f"Starting a process each for {', '.join(party.name for party in made.parties)}")
    try:
        for party in made.parties:
            command = [sys.executable, "-m", "parties", "run", "--json", "-c", "party.toml"]
            processes[party.name] = subprocess.Popen(
                command, cwd=folder / party.name, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        with ThreadPoolExecutor(len(processes)) as threads:
            return dict(zip(processes, threads.map(follow, processes), strict=True))
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()


def _yes(value: bool) -> str:
    return "yes" if value else "NO"
