"""`lianhe demo`: the question and its answer, on data that come with lianhe."""

# ruff: noqa: PLC0415  what is imported here is imported when the command runs

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    to: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where the report is written.")
    ] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="Fewer seeds: to see whether it works.")] = False,
) -> None:
    """See what training together gains, and where it does not; needs no network.

    [bold]Examples[/bold]

    lianhe demo
    lianhe demo --quick --output /tmp/demo
    """
    from lianhe.cli.console import output
    from lianhe.experiment.demo import demo as run_demo

    typer.echo(run_demo(to, output(), quick=quick))
