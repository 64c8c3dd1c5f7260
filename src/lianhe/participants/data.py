"""Data as participants see it: batches in an order that a stream decides."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lianhe.core.errors import DataError
from lianhe.core.streams import Stream

#: inputs: a tensor whose first dimension is the sample, or a mapping or tuple of such
Inputs: TypeAlias = Any

#: the mark of a missing class label; a missing number is NaN
MISSING = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples with their labels.

    Args:
        x: inputs, on the device.
        y: labels by task, on the device; missing ones are NaN (numbers) or -100 (classes).
        labelled: how many of the labels are there, by task.
    """

    x: Inputs
    y: Mapping[str, Tensor]
    labelled: Mapping[str, int]

    def part(self, i: int, k: int) -> Batch:
        """Every k-th sample, from the i-th on: k disjoint parts that differ by at most one sample."""
        if k == 1:
            return self
        y = {task: labels[i::k] for task, labels in self.y.items()}
        counts = {task: int(observed(labels).sum()) for task, labels in y.items()}
        return Batch(map_inputs(lambda t: t[i::k], self.x), y, counts)


class Source(ABC):
    """Interface: rows that can be read in batches, epoch by epoch.

    Attributes:
        rows: number of samples.
        batches: number of batches in an epoch.
        tasks: names of the tasks that have labels.
    """

    rows: int
    batches: int
    tasks: tuple[str, ...]

    @abstractmethod
    def epoch(self, stream: Stream | None, skip: int = 0) -> Iterator[Batch]:
        """Batches of one epoch from batch `skip` on, in an order drawn from the stream or as the data lie."""

    @abstractmethod
    def few(self) -> Batch:
        """Give the first samples, to check shapes by."""

    @abstractmethod
    def labelled(self, task: str) -> int:
        """How many labels of a task there are."""

    @abstractmethod
    def check_labels(self, task: str, highest: int) -> None:
        """Raise DataError if a label that is there is not in 0 .. highest."""


def as_source(data: Any, batch_size: int | None, device: torch.device, owner: str) -> Source:
    """Make a source of tensors, a Dataset or a DataLoader.

    Args:
        data: `(x, {task: y})`, or an object with attributes x and y; a torch Dataset whose items are
            `(x, {task: y})`; or a DataLoader of such batches.
        batch_size: samples a batch; None for all. A DataLoader keeps its own.
        device: where batches are sent.
        owner: whose data these are, for messages.

    Raises:
        DataError: if the data have another form, no row, or lengths that differ.
    """
    if isinstance(data, DataLoader):
        return StreamSource(data, device, owner)
    if isinstance(data, Dataset):  # whatever attributes it has, what it gives is what counts
        return StreamSource(_Loaders(data, batch_size, owner), device, owner)
    if hasattr(data, "x") and hasattr(data, "y"):
        data = (data.x, data.y)
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[1], Mapping):
        return TensorSource(data[0], data[1], batch_size, device, owner)
    raise DataError(
        f"data of {owner} is {_describe(data)}: expected (x, {{task: y}}), a torch Dataset of such items, or "
        "a DataLoader"
    )


class TensorSource(Source):
    """Tensors that are on the device already; a batch is one index_select."""

    def __init__(
        self, x: Inputs, y: Mapping[str, Any], batch_size: int | None, device: torch.device, owner: str
    ) -> None:
        x, y = as_inputs(x, owner), {task: as_labels(labels, task, owner) for task, labels in y.items()}
        self._owner = owner
        self.rows = _common_length(x, y, owner)
        require_finite_inputs(x, owner)
        # Which labels are there is counted on the CPU: on an accelerator it would make every step wait.
        there = {task: observed(labels.cpu()) for task, labels in y.items()}
        self._rows_labelled = {
            task: None if bool(mask.all()) else _by_row(mask) for task, mask in there.items()
        }
        self._counts = {task: int(mask.sum()) for task, mask in there.items()}
        self.x = map_inputs(lambda t: t.to(device), x)
        self.y = {task: labels.to(device) for task, labels in y.items()}
        self.tasks = tuple(y)
        self._size = min(batch_size or self.rows, self.rows)
        self._device = device
        self.batches = -(-self.rows // self._size)

    def epoch(self, stream: Stream | None, skip: int = 0) -> Iterator[Batch]:
        if self.batches == 1:
            yield Batch(self.x, self.y, self._counts)
            return
        order = _order(self.rows, stream)
        on_device = order.to(self._device)
        for start in range(skip * self._size, self.rows, self._size):
            at = slice(start, start + self._size)
            yield self._take(order[at], on_device[at])

    def _take(self, rows: Tensor, on_device: Tensor) -> Batch:
        x = (
            self.x.index_select(0, on_device)
            if isinstance(self.x, Tensor)
            else map_inputs(lambda t: t[on_device], self.x)
        )
        y = {task: labels.index_select(0, on_device) for task, labels in self.y.items()}
        counts = {
            task: len(rows) * (labels.numel() // self.rows)
            if (there := self._rows_labelled[task]) is None
            else int(there[rows].sum())
            for task, labels in self.y.items()
        }
        return Batch(x, y, counts)

    def few(self) -> Batch:
        rows = torch.arange(min(_FEW, self.rows))
        return self._take(rows, rows.to(self._device))

    def labelled(self, task: str) -> int:
        return self._counts[task]

    def check_labels(self, task: str, highest: int) -> None:
        require_labels_in_range(self.y[task], task, highest, self._owner)


class StreamSource(Source):
    """Batches from a DataLoader: streamed, never copied whole."""

    def __init__(self, loader: DataLoader[Any] | _Loaders, device: torch.device, owner: str) -> None:
        self._loader, self._device, self._owner = loader, device, owner
        try:
            self.batches, self.rows = len(loader), len(loader.dataset)  # type: ignore[arg-type]
        except TypeError as error:
            raise DataError(_NO_LENGTH.format(owner=owner)) from error
        if self.rows == 0 or self.batches == 0:
            raise DataError(f"data of {owner} has no rows")
        self.tasks: tuple[str, ...] = ()
        self._highest: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        self._few = self._first()
        self.tasks = tuple(self._few.y)

    def epoch(self, stream: Stream | None, skip: int = 0) -> Iterator[Batch]:
        loader: Any = self._loader
        first = skip if isinstance(loader, _Loaders) else 0
        if stream is not None:
            _seed(stream, loader)
        batches = iter(loader.epoch(stream, skip) if isinstance(loader, _Loaders) else loader)
        for number in range(first, self.batches):
            if stream is not None:
                # What a data set draws when a sample is read, for augmentation, depends on the batch alone.
                replace(stream, step=f"{stream.step} {number}").seed_global(_CPU)
            try:
                batch = next(batches)
            except StopIteration:
                raise DataError(
                    f"data of {self._owner} ended after {number} batches, but its length is {self.batches}"
                ) from None
            if number >= skip:
                yield self._batch(batch)

    def _batch(self, batch: Any) -> Batch:
        owner = self._owner
        if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[1], Mapping)):
            raise DataError(f"data of {owner} gives {_describe(batch)}: expected batches (x, {{task: y}})")
        if lacking := [task for task in self.tasks if task not in batch[1]]:
            raise DataError(
                f"data of {owner} gave a batch without labels of task {lacking[0]!r}: give all tasks in "
                f"every batch, with NaN or {MISSING} where a label is missing"
            )
        x, y = as_inputs(batch[0], owner), {t: as_labels(labels, t, owner) for t, labels in batch[1].items()}
        _common_length(x, y, owner)
        for task, highest in self._highest.items():
            require_labels_in_range(y[task], task, highest, owner)
        return Batch(
            map_inputs(lambda t: t.to(self._device, non_blocking=True), x),
            {task: labels.to(self._device, non_blocking=True) for task, labels in y.items()},
            {task: int(observed(labels).sum()) for task, labels in y.items()},
        )

    def _first(self) -> Batch:
        with torch.random.fork_rng(devices=[]):
            batch = next(self.epoch(None))
        few = {task: labels[:_FEW].clone() for task, labels in batch.y.items()}
        counts = {task: int(observed(labels).sum()) for task, labels in few.items()}
        return Batch(map_inputs(lambda t: t[:_FEW].clone(), batch.x), few, counts)

    def few(self) -> Batch:
        return self._few

    def labelled(self, task: str) -> int:
        if not self._counts:
            for batch in self.epoch(None):
                for name, count in batch.labelled.items():
                    self._counts[name] = self._counts.get(name, 0) + count
        return self._counts.get(task, 0)

    def check_labels(self, task: str, highest: int) -> None:
        self._highest[task] = highest  # checked batch by batch, as they come


class _Loaders:
    """A DataLoader per epoch over one Dataset, its order drawn from our stream."""

    def __init__(self, dataset: Dataset[Any], batch_size: int | None, owner: str) -> None:
        self.dataset = dataset
        try:
            self._rows = len(dataset)  # type: ignore[arg-type]
        except TypeError as error:
            raise DataError(_NO_LENGTH.format(owner=owner)) from error
        self._size = max(min(batch_size or self._rows, self._rows), 1)

    def __len__(self) -> int:
        return math.ceil(self._rows / self._size)

    def epoch(self, stream: Stream | None, skip: int) -> DataLoader[Any]:
        chunks = [chunk.tolist() for chunk in _order(self._rows, stream).split(self._size)][skip:]
        return DataLoader(self.dataset, batch_sampler=chunks)


class Feed:
    """One batch a round, epoch after epoch, for all tasks that read one source.

    Args:
        source: whose batches.
        seed: of the fit.
        name: of the data set; tasks that share it see the same batches.
        augment: what is done to the inputs of a batch, one after the other.

    Attributes:
        attack: moves the inputs of a batch once it is drawn, given the round; None where nobody does.
    """

    def __init__(
        self, source: Source, seed: int, name: str, augment: Sequence[Callable[[Inputs], Inputs]] = ()
    ) -> None:
        self.source, self.name, self._seed, self._augment = source, name, seed, augment
        self.attack: Callable[[Feed, int, Batch], Batch] | None = None
        self._iterator: Iterator[Batch] = iter(())
        self._next = -1
        self._last: tuple[int, Batch] | None = None
        self._parts: dict[tuple[int, int], Batch] = {}

    def batch(self, round_: int, part: tuple[int, int] = (0, 1)) -> Batch:
        """The batch of a round, or the i-th of k parts of it; asked for again, the same one."""
        if self._last is None or self._last[0] != round_:
            batch = self._draw(round_)
            if self._augment:
                batch = self._augmented(batch, round_)
            self._last = (round_, batch if self.attack is None else self.attack(self, round_, batch))
            self._parts = {(0, 1): self._last[1]}
        if part not in self._parts:
            self._parts[part] = self._last[1].part(*part)
        return self._parts[part]

    def _draw(self, round_: int) -> Batch:
        epoch, position = divmod(round_, self.source.batches)
        if position == 0 or round_ != self._next:
            self._iterator = self.source.epoch(Stream(self._seed, epoch, self.name, "batches"), skip=position)
        self._next = round_ + 1
        return next(self._iterator)

    @torch.no_grad()
    def _augmented(self, batch: Batch, round_: int) -> Batch:
        """What is drawn depends on the round alone, as in dropout."""
        first = input_tensors(batch.x)[0]
        Stream(self._seed, round_, self.name, "augment").seed_global(first.device)
        # A copy: a full batch is the data themselves, and whoever augments may write into what is given.
        x = map_inputs(torch.clone, batch.x)
        for augment in self._augment:
            x = augment(x)
        if {len(tensor) for tensor in input_tensors(x)} != {len(first)}:
            raise DataError(f"augment must give as many samples as it gets, here {len(first)}")
        return replace(batch, x=x)


def map_inputs(function: Callable[[Any], Any], x: Inputs) -> Inputs:
    """Apply a function to every tensor of inputs."""
    if isinstance(x, Mapping):
        return {key: map_inputs(function, item) for key, item in x.items()}
    if isinstance(x, (tuple, list)):
        return tuple(map_inputs(function, item) for item in x)
    return function(x)


def input_tensors(x: Inputs) -> list[Tensor]:
    """All tensors of inputs."""
    return list(_named_tensors(x).values())


def as_inputs(x: Inputs, owner: str) -> Inputs:
    """Turn arrays into tensors, wherever they stand in the inputs."""
    return map_inputs(lambda item: _as_tensor(item, "x", owner), x)


def as_labels(labels: Any, task: str, owner: str) -> Tensor:
    """Turn labels into a tensor [n, ...]: of floating point, or of int64 where they are classes."""
    tensor = _as_tensor(labels, f"y[{task!r}]", owner)
    return tensor if tensor.is_floating_point() else tensor.long()


def observed(labels: Tensor) -> Tensor:
    """Which labels are there, [same shape] bool: not NaN (numbers), not -100 (classes)."""
    return ~labels.isnan() if labels.is_floating_point() else labels != MISSING


def require_labels_in_range(labels: Tensor, task: str, highest: int, owner: str) -> None:
    """Raise DataError if a label that is there is not in 0 .. highest."""
    there = labels[observed(labels)]
    wrong = there[(there < 0) | (there > highest)]
    if len(wrong):
        raise DataError(
            f"label {wrong[0].item()} of task {task!r} in {owner} is out of range: head and loss allow "
            f"0 .. {highest}, and NaN (numbers) or {MISSING} (whole numbers) where a label is missing"
        )


def require_finite_inputs(x: Inputs, owner: str) -> None:
    """Raise DataError if an input is NaN or infinite, naming its columns."""
    for name, tensor in _named_tensors(x).items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            columns = (~tensor.isfinite()).reshape(len(tensor), -1).any(0).nonzero().flatten().tolist()
            raise DataError(
                f"{name} of {owner} holds NaN or infinite values, in columns {columns[:8]}: fill them in "
                "first, for example by lianhe.datasets.Standardize"
            )


_CPU = torch.device("cpu")

#: samples that shapes are checked by
_FEW = 2

_NO_LENGTH = "data of {owner} has no length: give a Dataset with __len__, not an iterable one"


def _order(rows: int, stream: Stream | None) -> Tensor:
    return torch.arange(rows) if stream is None else torch.randperm(rows, generator=stream.generator())


def _seed(stream: Stream, loader: Any) -> None:
    """Seed what a loader of the user's own draws its order from: a generator of its own, or torch's."""
    stream.seed_global(_CPU)
    for holder in (loader, getattr(loader, "sampler", None)):
        if isinstance(generator := getattr(holder, "generator", None), torch.Generator):
            generator.manual_seed(stream.key())


def _by_row(mask: Tensor) -> Tensor:
    return mask.reshape(len(mask), -1).sum(1)


def _as_tensor(value: Any, what: str, owner: str) -> Tensor:
    if not isinstance(value, Tensor) and hasattr(value, "__array__"):
        # torch takes neither reversed arrays nor, without a warning, those that must not be written to.
        value = np.require(value, requirements=["C", "W"])
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{what} of {owner} is {_describe(value)}, not a tensor or an array of numbers: {error}"
        ) from error
    if tensor.ndim == 0:
        raise DataError(f"{what} of {owner} holds single numbers: give tensors or arrays, samples first")
    return tensor


def _named_tensors(x: Inputs, name: str = "x") -> dict[str, Tensor]:
    if isinstance(x, (Mapping, tuple, list)):
        items = x.items() if isinstance(x, Mapping) else enumerate(x)
        return {n: t for key, item in items for n, t in _named_tensors(item, f"{name}[{key!r}]").items()}
    return {name: x}


def _common_length(x: Inputs, y: Mapping[str, Tensor], owner: str) -> int:
    tensors = _named_tensors(x) | {f"y[{task!r}]": labels for task, labels in y.items()}
    lengths = {name: len(tensor) for name, tensor in tensors.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"data of {owner} has tensors of different lengths: {lengths}")
    if not input_tensors(x) or not next(iter(lengths.values())):
        raise DataError(f"data of {owner} has no rows")
    return next(iter(lengths.values()))


def _describe(data: Any) -> str:
    inside = f" of {len(data)}" if isinstance(data, Sequence) and not isinstance(data, str) else ""
    return f"a {type(data).__name__}{inside}"
