"""Specifications: one clear error for each thing that cannot be."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.toys import fit, head, net, table, task_spec, tasks
from torch import nn

from lianhe.aggregation import Confident, Mean
from lianhe.core.errors import DataError, LianheError, SpecError, UnknownNameError
from lianhe.core.schedule import Alternating, Sampled, Together
from lianhe.core.spec import Spec
from lianhe.core.step import Add
from lianhe.participants import Expert, Local, Site, Task, View

X, Y = table()
VIEW = View("v", nn.Linear(4, 3).double(), (X[:9], Y["kind"][:9]), X[9:])
SITE = Site("s", (X, Y))
EXPERT = Expert("e", nn.Linear(4, 3))

WRONG = {
    # participants
    "nobody": ({"participants": ()}, "participants is empty: give at least one Task, View, Site or Expert"),
    "not a sequence": ({"participants": 5}, "participants is 5: give a sequence"),
    "one task alone": ({"participants": tasks()[0]}, "participants is a Task: give a sequence"),
    "a text": ({"participants": "size"}, "participants is 'size': give a sequence"),
    "no participants": ({"participants": ["a", 3]}, r"participants holds \['int', 'str'\]: expected Task"),
    "a task among texts": ({"participants": [*tasks(), "a"]}, r"participants holds \['Task', 'str'\]"),
    "mixed kinds": (
        {"participants": [*tasks(), SITE]},
        r"participants mixes \['Site', 'Task'\]: .* one kind",
    ),
    "two of one name": (
        {"participants": [*tasks(), *tasks(("kind",))]},
        "participants: two are named 'kind'",
    ),
    "empty name": ({"participants": [Task("", head(1), "mse")]}, "name '' must be a text that is not empty"),
    "slash in a name": ({"participants": [Task("a/b", head(1), "mse")]}, "name 'a/b' .* holds no '/'"),
    "name that is no text": ({"participants": [Task(5, head(1), "mse")]}, "name 5 must be a text"),
    "no data": ({"data": None}, "task 'size' has no data: give Task"),
    # rounds and epochs
    "neither rounds nor epochs": ({"rounds": None}, "rounds=None, epochs=None: give exactly one"),
    "both": ({"epochs": 2}, "rounds=12, epochs=2: give exactly one"),
    # names
    "unknown optimizer": ({"optimizer": "adamm"}, "unknown optimizer 'adamm': did you mean 'adam'"),
    "optimizer of another type": ({"optimizer": 3}, "optimizer is 3: expected a name or a callable"),
    "no device": ({"device": "gpu0"}, "device='gpu0': not 'cpu', 'cuda', 'mps' or the like"),
    "device of another type": ({"device": 1.5}, "device=1.5"),
    "autocast by name": (
        {"autocast": "bf16"},
        "autocast='bf16': must be torch.bfloat16, torch.float16 or None",
    ),
    "autocast to double": ({"autocast": torch.float64}, "autocast=torch.float64"),
    # types
    "aggregator by name": (
        {"aggregator": "mean"},
        "aggregator is 'mean', expected an object of kind Aggregator",
    ),
    "class of an aggregator": ({"aggregator": Mean}, r"kind Aggregator: write Mean\(…\), an object of it"),
    "class across sites": (
        {"across_sites": Mean},
        "across_sites is .* expected an object of kind Aggregator",
    ),
    "class of a schedule": (
        {"schedule": Together},
        r"expected an object of kind Schedule: write Together\(…\)",
    ),
    "step that is none": ({"step": "add"}, "step is 'add', expected an object of kind Step"),
    "encoder by name": ({"encoder": "mlp"}, "encoder is 'mlp': expected a function that makes one"),
    "schedule of the rate": ({"lr_schedule": 0.9}, "lr_schedule is 0.9: expected a function"),
    "personal as text": ({"personal": "head.size"}, "personal is 'head.size': give a sequence"),
    # of another family
    "local for tasks": ({"local": Local()}, "local, across_sites, personal and tasks are for sites"),
    "across sites for tasks": ({"across_sites": Mean()}, "are for sites: leave them out for tasks"),
    "tasks for tasks": ({"tasks": tasks()}, "are for sites"),
    "personal for tasks": ({"personal": ["encoder"]}, "are for sites"),
    "pseudo-labels for tasks": ({"aggregator": Confident(0.9)}, "is for views: it chooses pseudo-labels"),
    "pseudo-labels for sites": (
        {
            "participants": [SITE],
            "data": None,
            "tasks": tasks(),
            "local": Local(),
            "aggregator": Confident(0.9),
        },
        "is for views: it chooses pseudo-labels",
    ),
    "tasks that are none": ({"tasks": ["a"]}, r"tasks holds \['str'\]"),
    # schedules
    "sample too large": ({"schedule": Sampled(4)}, r"Sampled\(4\) asks for more than the 3 participants"),
}
NUMBERS = {
    "rounds": [0, -3, 1.5, True, "10", float("nan"), float("inf")],
    "batch_size": [0, -1, 2.0, False, "all"],
    "evaluate_every": [-1, 0.5, True, None, "never"],
    "lr": [0, -1e-3, float("nan"), float("inf"), "0.1", True, None],
    "clip_norm": [0, -1.0, float("inf"), float("nan"), "1", False],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_run_is_refused_when_it_is_written_down(wrong):
    options, match = WRONG[wrong]
    given = {"participants": tasks(), "encoder": net(), "data": (X, Y), "rounds": 12, **options}
    with pytest.raises(SpecError, match=match):
        Spec(**given)


@pytest.mark.parametrize(("argument", "value"), [(a, v) for a, vs in NUMBERS.items() for v in vs])
def test_numbers_out_of_range_are_refused_by_name(argument, value):
    with pytest.raises(SpecError, match=f"{argument}={value!r}: must be a "):
        task_spec(**{argument: value})


@pytest.mark.parametrize("epochs", [0, -1, 2.5, True, "3"])
def test_epochs_are_a_whole_number(epochs):
    with pytest.raises(SpecError, match=f"epochs={epochs!r}: must be a whole number of at least 1"):
        task_spec(rounds=None, epochs=epochs)


def test_numbers_of_numpy_are_numbers():
    spec = task_spec(rounds=np.int64(3), batch_size=np.int32(8), lr=np.float64(0.01), clip_norm=np.float32(1))
    assert fit(spec).rounds == 3


BAD_TASKS = {
    "unknown loss": (
        {"loss": "crossentropy"},
        UnknownNameError,
        "unknown loss of task 't' 'crossentropy': did you mean 'cross_entropy'",
    ),
    "unknown metric": (
        {"metrics": ["acuracy"]},
        UnknownNameError,
        "unknown metric of task 't' 'acuracy': did you mean 'accuracy'",
    ),
    "metric that does not fit": (
        {"loss": "mse", "metrics": ["auroc"]},
        SpecError,
        r"metric 'auroc' does not fit the loss 'mse' of task 't': use one of \['mae', 'mse', 'r2'\]",
    ),
    "r2 of classes": ({"metrics": ["r2"]}, SpecError, "does not fit the loss 'cross_entropy'"),
    "mae of bits": ({"loss": "binary_cross_entropy", "metrics": ["mae"]}, SpecError, "does not fit the loss"),
    "metric that is none": (
        {"metrics": [len]},
        SpecError,
        "metric of task 't' is a builtin_function_or_method",
    ),
    "loss that is none": ({"loss": 3}, SpecError, "loss of task 't' is 3: expected a name or a callable"),
    "weight zero": ({"weight": 0}, SpecError, "weight of task 't'=0: must be a positive finite number"),
    "weight negative": ({"weight": -1.0}, SpecError, "weight of task 't'=-1.0"),
    "weight NaN": ({"weight": float("nan")}, SpecError, "weight of task 't'=nan"),
    "weight text": ({"weight": "1"}, SpecError, "weight of task 't'='1'"),
    "weight true": ({"weight": True}, SpecError, "weight of task 't'=True"),
}


@pytest.mark.parametrize("bad", BAD_TASKS)
def test_a_task_that_cannot_be_is_refused_when_it_is_made(bad):
    options, error, match = BAD_TASKS[bad]
    with pytest.raises(error, match=match):
        Task("t", head(1), **options)


def test_a_specification_is_a_value():
    spec = task_spec()
    assert spec.names == ("size", "kind", "flag")
    other = spec.replace(rounds=3, aggregator=Mean())
    assert (spec.rounds, other.rounds) == (12, 3)
    assert other.encoder is spec.encoder
    assert isinstance(spec.participants, tuple)
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.rounds = 5
    with pytest.raises(SpecError, match="give exactly one"):
        spec.replace(epochs=3)


def test_what_is_allowed_is_allowed():
    task_spec(schedule=Alternating(3), step=Add(), aggregator=Mean(), device=torch.device("cpu"))
    task_spec(encoder=net, optimizer=torch.optim.SGD, lr_schedule=lambda o: None, batch_size=None)
    task_spec(encoder=nn.Identity, autocast=torch.bfloat16, device="cuda:1", personal=())
    Spec([EXPERT], data=X, rounds=1)
    assert isinstance(DataError("x"), LianheError)
