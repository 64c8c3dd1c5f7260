"""`lianhe report`: the page of a run, written anew."""

# ruff: noqa: PLC0415  what is imported here is imported when the command runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of the run.", show_default=False)],
    to: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Instead of report.html in the run.", show_default=False
        ),
    ] = None,
) -> None:
    """Write the report of a run, finished or not, as one self-contained HTML file.

    [bold]Examples[/bold]

    lianhe report runs/adult_tasks
    lianhe report runs/adult_tasks --output adult.html
    """
    from lianhe.experiment.run import write_report

    typer.echo(write_report(run, to))
