"""What is wrong between tasks, and what regularisation says of them."""

from __future__ import annotations

from collections.abc import Iterator

from lianhe.core.errors import SpecError
from lianhe.experiment.config.faults import Fault, unknown
from lianhe.experiment.config.kinds import SitesFile, TasksFile
from lianhe.experiment.config.named import make
from lianhe.experiment.config.regularising import PENALTIES
from lianhe.participants.task import reading_order


def reading_faults(file: TasksFile | SitesFile) -> Iterator[Fault]:
    """What is wrong with tasks that read others."""
    losses = {task.name: task.loss for task in file.tasks}
    reads = {task.name: [other for other in task.reads if other in losses] for task in file.tasks}
    for i, task in enumerate(file.tasks):
        at = ("tasks", i, "reads")
        if task.reads and isinstance(file, SitesFile):
            yield Fault(at, "tasks of sites do not read each other: leave it out")
        for j, other in enumerate(task.reads):
            if other not in losses:
                yield Fault((*at, j), unknown("task", other, losses))
            elif task.reader == "esmm" and losses[other] != "binary_cross_entropy":
                yield Fault((*at, j), f"its loss is {losses[other]}: esmm reads binary_cross_entropy")
        try:
            reading_order(task.name, reads)
        except SpecError as error:
            yield Fault(at, str(error))


def stopping_faults(file: TasksFile | SitesFile) -> Iterator[Fault]:
    """What is wrong with training.stopping."""
    stopping, at = file.training.stopping, ("training", "stopping")
    if stopping is None:
        return
    if not file.data.validation:
        yield Fault(at, "there are no validation rows to judge by: set data.validation = 0.1")
    if not file.training.evaluate_every:
        yield Fault(at, "judges by measurements on the way: set training.evaluate_every = 50")
    measures = [f"{task.name}.{name}" for task in file.tasks for name in ("loss", *task.metrics)]
    if stopping.on not in ("loss", "delta_m", *measures):
        yield Fault((*at, "on"), unknown("measure", stopping.on, ["loss", "delta_m", *measures]))
    for name in stopping.reference or ():
        if name not in measures:
            yield Fault((*at, "reference", name), unknown("measure", name, measures))


def penalty_faults(file: TasksFile | SitesFile) -> Iterator[Fault]:
    """Penalties of blocks or tasks that are not there."""
    tasks = [task.name for task in file.tasks]
    blocks = [*(["encoder"] if file.encoder else []), *(f"head.{task}" for task in tasks)]
    for i, named in enumerate(file.training.penalties):
        at, penalty = ("training", "penalties", i), make("penalty", PENALTIES, named)
        for j, block in enumerate(getattr(penalty, "blocks", None) or ()):
            if block not in blocks:
                yield Fault((*at, "blocks", j), unknown("block", block, blocks))
        for j, pair in enumerate(getattr(penalty, "graph", None) or ()):
            for k, task in enumerate(pair):
                if task not in tasks:
                    yield Fault((*at, "graph", j, k), unknown("task", task, tasks))
