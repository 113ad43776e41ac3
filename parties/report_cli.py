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
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Two runs, as --run names them, side by side on one page.", metavar="A B"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; by default report.html in the run's folder, and compare-A-B.html here."
        ),
    ] = None,
) -> None:
    """Make a run's report.html again, from the run's folder; or compare two runs."""
    from parties.config import load
    from parties.errors import ConfigError
    from parties.model import chosen

    loaded = load(config, for_training=False)
    if compare is None:
        from parties.report.page import write_page

        typer.echo(f"wrote {write_page(chosen(loaded, run), out)}")
        return
    if run is not None:
        raise ConfigError("--run and --compare: give one of them; --compare names both its runs")
    from parties.report.compare import write_comparison

    a, b = (chosen(loaded, one) for one in compare)
    typer.echo(f"wrote {write_comparison(a, b, out)}")
