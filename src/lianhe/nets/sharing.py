"""What every sharing architecture gives: an encoder for all tasks, and a head for each."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from torch import nn

from lianhe.core.errors import SpecError, UnknownNameError

#: a module, or a function that makes one
Makes: TypeAlias = nn.Module | Callable[[], nn.Module]


class Sharing(ABC):
    """Interface: an architecture as a value, which makes an encoder and heads that fit each other.

    Parameters that several tasks' losses reach are the encoder's; those that only one task's loss reaches are
    in that task's head. Where they cannot be taken out of the encoder, the encoder says so: its `private()`
    gives them by task and by name, and a fit puts them into a block of that task alone.
    """

    @abstractmethod
    def encoder(self) -> nn.Module:
        """A new encoder: from inputs to what heads of this architecture read."""

    @abstractmethod
    def head(self, task: str, tower: Makes | None = None) -> nn.Module:
        """A head for a task.

        Args:
            task: its name.
            tower: from the task's own representation to its prediction; None gives the representation. What
                the task reads of other tasks is passed on to it.
        """

    def heads(self, towers: Mapping[str, Makes]) -> dict[str, nn.Module]:
        """Heads by task, from towers by task."""
        return {task: self.head(task, tower) for task, tower in towers.items()}


def made(what: Makes, copied: bool = False) -> nn.Module:
    """The module, or a copy of it, or what the function makes.

    Raises:
        SpecError: if the function makes something else.
    """
    if isinstance(what, nn.Module):
        return copy.deepcopy(what) if copied else what
    module = what()
    if not isinstance(module, nn.Module):
        raise SpecError(f"{what!r} gave a {type(module).__name__}: expected a torch module")
    return module


def as_tower(tower: Makes | None) -> nn.Module | None:
    """A tower, made if a function was given."""
    return None if tower is None else made(tower)


def as_tasks(tasks: Iterable[str], owner: str) -> tuple[str, ...]:
    """Names of tasks, in order.

    Raises:
        SpecError: if it is one text, is empty, or has a name twice.
    """
    names = () if isinstance(tasks, str) else tuple(tasks)
    if not names or len(set(names)) < len(names):
        raise SpecError(f"{owner}: tasks={tasks!r}: give different names of tasks, at least one")
    return names


def require_task(task: str, tasks: tuple[str, ...], owner: str) -> None:
    """Raise UnknownNameError if an architecture was not made for a task."""
    if task not in tasks:
        raise UnknownNameError(f"task of {owner}", task, tasks)
