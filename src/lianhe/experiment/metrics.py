"""`metrics.jsonl`: every number of a run, one a line, in the order in which it became known."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lianhe.core.checkpoint import write_atomically
from lianhe.core.errors import CheckpointError
from lianhe.core.result import Record


class MetricsWriter:
    """An observer of a fit that appends to a file.

    Args:
        path: of the file.
        sync_every: after so many rounds the lines are forced to the disk; where this is how often checkpoints
            are written, there is no checkpoint whose numbers are missing, not even after a power cut.
    """

    def __init__(self, path: Path, sync_every: int) -> None:
        self._file = path.open("ab")
        self._sync_every = sync_every

    def __enter__(self) -> Self:
        """Nothing to do: the file is open."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()

    def __call__(self, done: int, total: int, records: Sequence[Record]) -> None:
        """Take down new records."""
        self._file.writelines(line(record) for record in records)
        self._file.flush()
        if done % self._sync_every == 0 or done == total:
            os.fsync(self._file.fileno())


def line(record: Record) -> bytes:
    """A record as a line of JSON; what is not finite has no number there, and becomes null.

    Example:
        >>> line(Record(3, "va", "", "loss", float("nan"), 20))[:60]
        b'{"round": 3, "participant": "va", "task": "", "name": "loss"'
    """
    return json.dumps(as_json(record), ensure_ascii=False).encode() + b"\n"


def as_json(record: Record) -> dict[str, Any]:
    """A record as plain values."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.as_dict().items()
    }


def from_json(values: dict[str, Any]) -> Record:
    """The record that `as_json` gave; null becomes NaN."""
    return Record(**(values | {"value": math.nan if values["value"] is None else values["value"]}))


def read_metrics(path: Path) -> tuple[Record, ...]:
    """All records of a file; of a missing one, none.

    Raises:
        CheckpointError: naming the first line that cannot be read. A last line without an end does not count:
            it was being written when the run was interrupted.
    """
    return tuple(_records(path))


def cut_back(path: Path, rounds: int) -> None:
    """Leave the numbers of the first `rounds` rounds; none of the held-out rows, which are measured last.

    Raises:
        CheckpointError: naming the first line that cannot be read.
    """
    kept = [record for record in _records(path) if record.round < rounds and record.split != "test"]
    write_atomically(path, b"".join(line(record) for record in kept))


def _records(path: Path) -> Iterator[Record]:
    content = path.read_bytes() if path.exists() else b""
    *whole, _ = content.split(b"\n")
    for number, text in enumerate(whole, 1):
        try:
            yield from_json(json.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{path}:{number}: the line is damaged ({error}): delete it, or start a new run"
            ) from error
