"""The command line of model versions: `party models list | show | compare | promote | rollback | export`."""

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Finished runs as model versions: which serves, how they differ; to export.", rich_markup_mode=None
)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="This party's party.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable: one JSON document on stdout.")]
VersionId = Annotated[str, typer.Argument(metavar="VERSION", help="The beginning of a run id.")]
HERE = Path("party.toml")


@app.command("list")
def list_versions(config: ConfigFile = HERE, as_json: Json = False) -> None:
    """This party's versions, the newest first."""
    from parties.config import load
    from parties.errors import StorageError
    from parties.promoted import promoted_run
    from parties.versions import Version, folders

    loaded, found = load(config, for_training=False), []
    for folder in folders(loaded):
        try:
            found.append(Version.read(folder))
        except StorageError as error:  # the others are of use without it
            typer.echo(f"party: {error}", err=True)
    found.sort(key=lambda version: version.created, reverse=True)
    listed = [one.facts(promoted_run(loaded, one.name) == one.run) for one in found]
    typer.echo(json.dumps(listed, indent=2) if as_json else _table(listed))


@app.command()
def show(version: VersionId, config: ConfigFile = HERE, as_json: Json = False) -> None:
    """One version: its report, and what was agreed."""
    from parties.config import load
    from parties.promoted import promoted_run
    from parties.summary import report
    from parties.versions import find

    loaded = load(config, for_training=False)
    found = find(loaded, version)
    facts = found.facts(promoted_run(loaded, found.name) == found.run)
    if as_json:
        typer.echo(json.dumps(facts | {"summary": found.summary, "contract": found.agreed}, indent=2))
        return
    serves = ", serves" if facts["promoted"] else ""
    typer.echo(
        f"version    {facts['version']}{serves}\ndigest     {facts['digest']}\nfolder     {found.folder}"
    )
    typer.echo(f"created    {facts['created']}\n{report(found.summary)}", nl=False)


@app.command()
def compare(a: VersionId, b: VersionId, config: ConfigFile = HERE, as_json: Json = False) -> None:
    """Metrics and importance of two versions, and where contract and columns differ."""
    from parties.config import load
    from parties.versions import compare, find

    loaded = load(config, for_training=False)
    found = compare(find(loaded, a), find(loaded, b))
    typer.echo(json.dumps(found, indent=2) if as_json else _beside(found))


@app.command()
def promote(version: VersionId, config: ConfigFile = HERE) -> None:
    """Let this version serve."""
    from parties.config import load
    from parties.promoted import promote
    from parties.versions import find

    loaded = load(config, for_training=False)
    found = find(loaded, version)
    promote(loaded, found)
    typer.echo(
        f"{found.run.hex()[:12]} serves as {found.name}; its digest, the same at all: {found.digest.hex()}"
    )


@app.command()
def rollback(config: ConfigFile = HERE) -> None:
    """Let the version serve that did so before."""
    from parties.config import load
    from parties.promoted import rollback

    found = rollback(load(config, for_training=False))
    typer.echo(f"{found.run.hex()[:12]} serves as {found.name} again; digest {found.digest.hex()}")


class Format(Enum):
    """Of an export."""

    pt2 = "pt2"
    onnx = "onnx"


@app.command()
def export(
    version: VersionId,
    out: Annotated[Path | None, typer.Option(help="A folder; by default export-VERSION.")] = None,
    format: Annotated[list[Format] | None, typer.Option("--format", help="One of them; else both.")] = None,
    config: ConfigFile = HERE,
) -> None:
    """Write this party's part as torch.export and ONNX files."""
    from parties.config import load
    from parties.export import FORMATS, export
    from parties.versions import find

    loaded = load(config, for_training=False)
    found = find(loaded, version)
    formats = [one.value for one in format] if format else FORMATS
    for path in export(loaded, found, out or Path(f"export-{found.run.hex()[:12]}"), formats):
        typer.echo(f"wrote {path}")


def _table(listed: Sequence[Mapping[str, Any]]) -> str:
    if not listed:
        return "no finished run here yet"
    rows = [("VERSION", "NAME", "CREATED (UTC)", "ROWS", "TEST", "SERVES")]
    for one in listed:
        value = "-" if one["value"] is None else f"{one['metric']} {one['value']:.4f}"
        created, serves = one["created"][:19].replace("T", " "), "yes" if one["promoted"] else ""
        rows.append((one["version"][:12], one["name"], created, f"{one['rows']:,}", value, serves))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _beside(found: Mapping[str, Any]) -> str:
    lines = [f"{'':<40} {found['versions'][0][:12]:>20} {found['versions'][1][:12]:>20}"]
    for topic in ("metrics", "importance", "contract", "columns"):
        none = "not known here" if topic in ("metrics", "importance") else "no difference"
        lines.append(f"{topic}:" if found[topic] else f"{topic}: {none}")
        lines += [f"  {key:<38} {_cell(a):>20} {_cell(b):>20}" for key, (a, b) in found[topic].items()]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = (
        f"{value:.6g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
    )
    return text if len(text) <= 20 else f"{text[:17]}..."
