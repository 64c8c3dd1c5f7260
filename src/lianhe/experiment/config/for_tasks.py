"""Specifications of several tasks on one data set."""

from __future__ import annotations

from torch import Tensor

from lianhe.core.spec import Spec
from lianhe.datasets import Dataset
from lianhe.experiment.balancing import ROW_AGGREGATORS
from lianhe.experiment.config.built import Built
from lianhe.experiment.config.common import (
    asked,
    general,
    lr_schedule,
    make_model,
    make_task,
    precision,
    seeded,
    size,
    with_classes,
)
from lianhe.experiment.config.kinds import TasksFile
from lianhe.experiment.config.named import make
from lianhe.experiment.config.prepare import Prepare
from lianhe.experiment.config.regularising import ADVERSARIES, make_augmentations, make_penalties
from lianhe.experiment.config.rows import read_rows
from lianhe.experiment.config.split import hold_out, prepared
from lianhe.experiment.config.training import TasksTraining


def build_tasks(file: TasksFile) -> Built:
    """Make a specification of tasks."""
    rows = read_rows(file.data, *asked(file.tasks)).together()
    file = file.model_copy(update={"tasks": with_classes(file, [rows])})
    return _built(file, rows, Prepare.of(rows) if file.data.standardize else None)


def _built(file: TasksFile, rows: Dataset, prepare: Prepare | None) -> Built:
    split = prepared({"": hold_out(rows, file.data, file.training.seed)}, prepare)[""]
    spec = _spec(file, split.train).replace(validation=split.validation)
    return Built(file, spec, split.test, lambda seed: _built(seeded(file, seed), rows, prepare))


def _spec(file: TasksFile, data: Dataset) -> Spec:
    training = file.training
    assert isinstance(data.x, Tensor)
    model = make_model(file, data.x, data.y)
    adversary = training.adversarial
    return Spec(
        [make_task(task, model.heads[task.name]) for task in file.tasks],
        encoder=model.encoder,
        data=data,
        aggregator=make("aggregator", ROW_AGGREGATORS, training.aggregator),
        rounds=training.rounds,
        epochs=training.epochs,
        batch_size=size(training.batch_size),
        optimizer=training.optimizer,
        lr=training.lr,
        lr_schedule=lr_schedule(training.lr_schedule, _rounds(training, len(data))),
        clip_norm=training.clip_norm,
        weight_decay=training.weight_decay,
        penalties=[*make_penalties(training.penalties), *model.penalties],
        augment=make_augmentations(training.augment, data.x),
        adversarial=None if adversary is None else make("adversary", ADVERSARIES, adversary),
        stopping=None if training.stopping is None else training.stopping.made(),
        autocast=precision(training.autocast),
        **general(training, [task.name for task in file.tasks]),
    )


def _rounds(training: TasksTraining, rows: int) -> int:
    batch = min(size(training.batch_size) or rows, rows)
    return training.rounds or (training.epochs or 1) * -(-rows // batch)
