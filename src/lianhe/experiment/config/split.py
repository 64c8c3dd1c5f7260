"""Which rows train, which are measured on the way, and which are held out until the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lianhe.core.errors import DataError
from lianhe.datasets import Dataset, Fitted
from lianhe.experiment.config.prepare import Prepare
from lianhe.experiment.config.tables import Data


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the data, divided.

    Args:
        train: rows to train on.
        validation: rows to measure on the way, if any.
        test: rows held out until the end, if any.
    """

    train: Dataset
    validation: Dataset | None
    test: Dataset | None

    def by(self, fitted: Fitted) -> Split:
        """The same rows with prepared inputs."""
        held_out = (part if part is None else fitted.apply(part) for part in (self.validation, self.test))
        return Split(fitted.apply(self.train), *held_out)


def hold_out(part: Dataset, data: Data, seed: int, owner: str = "") -> Split:
    """Divide rows as [data] says.

    Args:
        part: the rows.
        data: shares, and by which task they are stratified.
        seed: of the draw.
        owner: whose rows they are, for messages.

    Raises:
        DataError: if a share leaves one side without rows.
    """
    # A site need not hold the task that the others are stratified by.
    stratify = data.stratify if data.stratify in part.y else None
    try:
        train, test = part.split(data.test, seed, stratify) if data.test else (part, None)
        train, validation = train.split(data.validation, seed, stratify) if data.validation else (train, None)
    except DataError as error:
        raise DataError(f"{owner}: {error}" if owner else str(error)) from error
    return Split(train, validation, test)


def prepared(splits: Mapping[str, Split], prepare: Prepare | None) -> dict[str, Split]:
    """Prepare several parts by what is measured on the training rows of all."""
    if prepare is None:
        return dict(splits)
    fitted = prepare.fit(*(split.train.x for split in splits.values()))
    return {name: split.by(fitted) for name, split in splits.items()}
