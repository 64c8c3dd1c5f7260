"""What a step costs, and which of the exact methods is the fastest here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Protocol

import torch
from torch import Tensor

from lianhe.engines.heads import Asked
from lianhe.engines.trunk import Chunked, FillRows, one_by_one

#: chunks that "auto" and "vmapped" try
_CHUNKS = (4, 8, 16, 64)

#: each candidate is timed so many times, and the median counts
_TRIALS = 3

#: entries of J below which no choice is worth the time it takes
_LARGE = 200_000


class Timed(Protocol):
    """What a pace asks of a stack."""

    names: tuple[str, ...]
    parameters: Mapping[str, Tensor]

    def plain(self) -> None:
        """Take one plain backward pass."""


class Pace:
    """Times the exact methods in the first steps, and keeps the fastest.

    Args:
        method: "sequential", "vmapped" or "auto".
        chunk: tasks at a time; None tries several.
    """

    def __init__(self, method: str, chunk: int | None) -> None:
        self._method, self._chunk = method, chunk
        self._seconds: dict[str, list[float]] = {}
        self._plain: list[float] = []
        self._last_forward, self._forward = 0.0, 0.0
        self._chosen: str | None = "sequential" if method == "sequential" else None
        self._refused: dict[str, str] = {}
        self._tasks = 0

    @contextmanager
    def forward(self, parameters: Mapping[str, Tensor]) -> Iterator[None]:
        """Time a forward pass, as long as there is something to choose."""
        device = next((p.device for p in parameters.values()), None)
        if self._chosen is not None or device is None:
            yield
            return
        _wait(device)
        start = time.perf_counter()
        yield
        _wait(device)
        self._last_forward = time.perf_counter() - start

    def filler(self, stack: Timed, together: int) -> FillRows:
        """The way to compute the rows of this stack.

        Args:
            stack: whose rows.
            together: most tasks that ask for the same tensors: others have nothing to share.
        """
        tasks, entries = len(stack.names), sum(p.numel() for p in stack.parameters.values())
        tried = together == tasks and _worth_it(tasks, entries)
        if self._chosen is None and self._method == "auto" and not tried:
            return one_by_one
        if self._chosen is None:
            return _Trial(self, stack)
        return _filler(self._chosen)

    def candidates(self, tasks: int) -> list[str]:
        """Names of the methods that are tried, for so many tasks."""
        chunks = (self._chunk,) if self._chunk is not None else _CHUNKS
        several = [f"vmapped {min(chunk, tasks)}" for chunk in chunks]
        names = several if self._method == "vmapped" else ["sequential", *several]
        return [name for name in dict.fromkeys(names) if name not in self._refused]

    def attempt(self, stack: Timed, asked: Asked, parameters: Sequence[Tensor], into: Tensor) -> None:
        """Compute rows by the candidate that was timed least, and take note of its time."""
        whole = len(into) == len(stack.names)
        if whole and len(self._plain) < _TRIALS:
            self._plain.append(_timed(stack.plain, into.device))
            self._forward = self._last_forward
        names = self.candidates(len(into)) or ["sequential"]
        name = min(names, key=lambda candidate: len(self._seconds.get(candidate, [])))
        try:
            spent = _timed(lambda: _filler(name)(asked, parameters, into), into.device)
        except (RuntimeError, NotImplementedError) as error:
            if name == "sequential":
                raise
            self._refused[name] = str(error).splitlines()[0]
            self.attempt(stack, asked, parameters, into)
            return
        self._seconds.setdefault(name, []).append(spent)
        self._tasks = len(into)
        if all(len(self._seconds.get(candidate, [])) >= _TRIALS for candidate in names):
            self._chosen = min(names, key=lambda candidate: median(self._seconds[candidate]))

    def findings(self) -> tuple[str, ...]:
        """What was measured."""
        refused = tuple(f"{name} is not possible here: {why}" for name, why in sorted(self._refused.items()))
        if not self._seconds or not self._plain:
            return refused
        plain = self._forward + median(self._plain)
        ratio = {
            name: (self._forward + median(times)) / plain for name, times in sorted(self._seconds.items())
        }
        told = ", ".join(f"{name} {r:.1f}x" for name, r in ratio.items())
        chosen = f"; {self._chosen} was chosen" if self._chosen else ""
        least = min(ratio.values())
        sentence = f"exact gradients of {self._tasks} tasks cost {least:.1f}x a plain step here, forward and "
        return (sentence + f"backward passes together ({told}{chosen})", *refused)

    @property
    def _among(self) -> str:
        return f"{self._method} {self._chunk}"

    def state_dict(self) -> dict[str, Any]:
        """The choice, and what it rests on."""
        return {
            "among": self._among,
            "chosen": self._chosen or "",
            "seconds": dict(self._seconds),
            "plain": list(self._plain),
            "forward": self._forward,
            "tasks": self._tasks,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a choice, if it was one among the same methods."""
        if state.get("among") != self._among:
            return
        self._chosen = state.get("chosen") or None
        self._seconds = {name: list(times) for name, times in state.get("seconds", {}).items()}
        self._plain = list(state.get("plain", []))
        self._forward, self._tasks = float(state.get("forward", 0.0)), int(state.get("tasks", 0))


class _Trial:
    """Rows by a candidate that is being timed."""

    def __init__(self, pace: Pace, stack: Timed) -> None:
        self._pace, self._stack = pace, stack

    def __call__(self, asked: Asked, parameters: Sequence[Tensor], into: Tensor) -> None:
        self._pace.attempt(self._stack, asked, parameters, into)


def _worth_it(tasks: int, parameters: int) -> bool:
    large = tasks >= 3 and tasks * parameters >= _LARGE
    return large and not torch.are_deterministic_algorithms_enabled()


def _filler(name: str) -> FillRows:
    return one_by_one if name == "sequential" else Chunked(int(name.split()[1]))


def _timed(work: Any, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
