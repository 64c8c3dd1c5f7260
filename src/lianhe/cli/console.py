"""What commands print: results to standard output; progress to standard error, in a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from lianhe.core.ledger import Observer
from lianhe.core.result import Record
from lianhe.experiment.run_page import final_table
from lianhe.experiment.tuning import Tried

#: where nobody looks at a terminal, no line is folded
_WIDE = 200


def output() -> Console:
    """For results."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDE)


@contextmanager
def progress(title: str) -> Iterator[Observer]:
    """A bar of rounds, moved by the observer that is given."""
    with _bar() as bar:
        rounds = bar.add_task(title, total=None)

        def observe(done: int, total: int, _: Sequence[Record]) -> None:
            bar.update(rounds, completed=done, total=total)

        yield observe


@contextmanager
def comparing(title: str, trainings: int) -> Iterator[Callable[[int, str], None]]:
    """A bar of trainings, moved when the next one begins; it says which one."""
    with _bar() as bar:
        task = bar.add_task(title, total=trainings, completed=-1)

        def observe(seed: int, alternative: str) -> None:
            bar.update(task, advance=1, description=f"{title}: {alternative}, seed {seed}")

        yield observe


@contextmanager
def tuning_progress(title: str) -> Iterator[Callable[[int, int, Tried], None]]:
    """A bar of trials, moved when one has ended; it says which one."""
    with _bar() as bar:
        task = bar.add_task(title, total=None)

        def observe(done: int, total: int, tried: Tried) -> None:
            bar.update(task, completed=done, total=total, description=f"{title}: {tried.name}, {tried.state}")

        yield observe


def _bar() -> Progress:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def measures_table(title: str, measures: Sequence[Record]) -> Table:
    """Final measures, for a terminal."""
    columns, rows = final_table(measures)
    table = Table(title=Text(title), title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(cell if isinstance(cell, str) else f"{cell:.4g}") for cell in row))
    return table
