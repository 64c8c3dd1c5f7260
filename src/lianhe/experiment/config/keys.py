"""Which keys a specification file may have, and where one that is not valid probably belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from lianhe.experiment.config.faults import unknown
from lianhe.experiment.config.kinds import KINDS, AnyFile
from lianhe.experiment.config.locate import KeyPath
from lianhe.experiment.config.tables import Table

#: what to write where a key is missing
HINTS: Mapping[KeyPath, str] = {
    ("data",): 'add [data], with load = "adult" or path = "data.csv"',
    ("tasks",): "add [[tasks]], once for each task, with name and loss",
    ("tasks", "name"): "give the name of the task's labels in the data",
    ("training",): "add [training], with rounds = …",
    ("training", "rounds"): "say how many, such as rounds = 100",
    ("local",): "say how views are fitted: [local] with epochs, batch_size and lr",
}


def unknown_key(kind: type[AnyFile], at: KeyPath) -> str:
    """What to say of a key that its table does not have."""
    *above, name = at
    own = list(_table(kind, tuple(above)).model_fields)
    elsewhere = _elsewhere(kind, str(name), tuple(above))
    if elsewhere and not get_close_matches(str(name), own, cutoff=0.8):
        return f"unknown key here: it belongs {elsewhere}"
    return unknown("key", name, own)


def _elsewhere(kind: type[AnyFile], name: str, above: KeyPath) -> str:
    """The table that has this key, or the kind that has this table."""
    kinds = [other for other, model in KINDS.items() if not above and name in model.model_fields]
    if kinds:
        return "to a file of " + " or ".join(f'kind = "{other}"' for other in kinds)
    if above and name in kind.model_fields:
        return (
            "above the first [table]"
            if not list(_tables(kind.model_fields[name].annotation))
            else f"on its own, as [{name}]"
        )
    tables = {key: list(_tables(field.annotation)) for key, field in kind.model_fields.items()}
    having = [key for key, models in tables.items() if any(name in model.model_fields for model in models)]
    return f"to {' or '.join(f'[{key}]' for key in having)}" if having else ""


def _table(kind: type[Table], above: KeyPath) -> type[Table]:
    """The table at a path; list indices do not matter."""
    table: type[Table] = kind
    for name in above:
        if isinstance(name, str):
            table = next(_tables(table.model_fields[name].annotation))
    return table


def _tables(annotation: Any) -> Iterator[type[Table]]:
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    for argument in get_args(annotation):
        yield from _tables(argument)
