"""`lianhe tune`: task weights, learning rate and balancing method, by search."""

# ruff: noqa: PLC0415  what is imported here is imported when the command runs

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from lianhe.core.errors import MissingExtraError, SpecError


def tune(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.toml", help="What to train.", show_default=False)],
    trials: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many, instead of the file's tune.trials.", show_default=False),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep the search here, and go on from it.", show_default=False),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all trials.", show_default=False)
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="BEST.toml", help="Write the file with the best setting.", show_default=False),
    ] = None,
) -> None:
    """Search task weights, learning rate and balancing method on validation rows.

    The validation rows are those of data.validation, or else a fifth of the
    training rows; test rows are never looked at. Trials begin with the plain
    sum, which gains are relative to, with weights by size and by difficulty,
    and with every method once. With --study, a search that was interrupted,
    in whatever way, goes on to the same end as if it had not been, and one
    that is finished can be given more trials.

    [bold]Examples[/bold]

    lianhe tune examples/adult_tasks.toml --trials 20
    lianhe tune examples/adult_tasks.toml --study adult.jsonl --write best.toml
    lianhe run best.toml
    """
    import tomli_w

    from lianhe.cli.console import output, tuning_progress
    from lianhe.core.checkpoint import write_atomically
    from lianhe.experiment.config import load_spec

    if find_spec("optuna") is None:
        raise MissingExtraError("optuna", "tune", "lianhe tune")
    if write is not None and write.resolve() == spec.resolve():
        raise SpecError(
            f"--write {write}: is the file itself, whose comments would be lost; give another name"
        )
    loaded = load_spec(spec, trials=trials)
    try:
        with tuning_progress(loaded.title) as observer:
            tuning = loaded.tune(study, observer)
    except KeyboardInterrupt:
        if study is not None:
            typer.echo(f"lianhe: go on with: lianhe tune {spec} --study {study}", err=True)
        raise
    output().print(tuning.table())
    typer.echo(tuning.answer())
    if json is not None:
        typer.echo(tuning.to_json(json))
    if write is not None:
        write_atomically(write, tomli_w.dumps(loaded.tuned(tuning)).encode())
        typer.echo(write)
