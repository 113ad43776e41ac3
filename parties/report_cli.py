"""The command line of pages: `party report`."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="This party's party.toml.")]
TrainedRun = Annotated[
    str | None,
    typer.Option(
        "--run", help="A run's folder, or the beginning of its id; default: what serves, or the newest."
    ),
]


def report(
    config: ConfigFile = Path("party.toml"),
    run: TrainedRun = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default report.html in the run's folder.")
    ] = None,
) -> None:
    """Make a run's report.html again, from the run's folder."""
    from parties.config import load
    from parties.model import chosen
    from parties.report.page import write_page

    loaded = load(config, for_training=False)
    typer.echo(f"wrote {write_page(chosen(loaded, run), out)}")
