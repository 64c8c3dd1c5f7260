"""The report of one run: its final measures and its learning curves, as a page."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from lianhe.core.errors import CheckpointError, MissingExtraError
from lianhe.core.result import Record
from lianhe.report import Curves, Page, Section, Series, Table, Text, write

#: points of a curve; longer ones are averaged down, neighbours together
_POINTS = 200
_LINES = 8
_WORDS = {
    "train": "training rows, as they were trained on",
    "validation": "validation rows",
    "test": "rows held out until the end",
}


@dataclass(frozen=True)
class RunFacts:
    """What a report says of a run beside its numbers.

    Args:
        title: of the report.
        subtitle: one line: kind of participants, aggregator, rounds, seed.
        findings: what the run has found out: sentences.
    """

    title: str
    subtitle: str
    findings: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, findings: Sequence[str] = ()) -> Self:
        """Read them off a run's resolved specification; its data are not touched.

        Args:
            path: of the specification.
            findings: what the run has found out.

        Raises:
            CheckpointError: if it is no longer what was written.
        """
        try:
            spec = tomllib.loads(path.read_text(encoding="utf-8"))
            return cls(spec.get("title") or path.parent.name, _subtitle(spec), tuple(findings))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from error


def _subtitle(spec: dict[str, Any]) -> str:
    training = spec["training"]
    aggregator = training["aggregator"]
    name = aggregator["name"] if isinstance(aggregator, dict) else aggregator
    length = f"{training['rounds']} rounds" if "rounds" in training else f"{training['epochs']} epochs"
    return f"joint training of {spec['kind']} · aggregator {name} · {length} · seed {training['seed']}"


def write_run_page(
    facts: RunFacts, records: Sequence[Record], measures: Sequence[Record], path: Path
) -> Path:
    """Write the page; without drawings where matplotlib is not installed.

    Args:
        facts: what it is about.
        records: all numbers of the run.
        measures: the final ones; empty for a run that is not finished.
        path: of the file.
    """
    try:
        return write(run_page(facts, records, measures), path)
    except MissingExtraError as error:
        tables = [
            section
            for section in run_page(facts, records, measures).sections
            if not isinstance(section, Curves)
        ]
        return write(Page(facts.title, facts.subtitle, (*tables, Text((str(error),)))), path)


def run_page(facts: RunFacts, records: Sequence[Record], measures: Sequence[Record]) -> Page:
    """The report of a run as values."""
    told = [Text(tuple(map(_sentence, facts.findings)), heading="Findings")] if facts.findings else []
    return Page(facts.title, facts.subtitle, (*_final(measures), *told, *_curves(records)))


def final_table(measures: Sequence[Record]) -> tuple[tuple[str, ...], tuple[tuple[str | float, ...], ...]]:
    """One row for each participant and task, one column for each metric: headings and rows.

    Example:
        >>> final_table(
        ...     [Record(9, "va", "sick", "auroc", 0.75, 20), Record(9, "va", "sick", "loss", 0.5, 20)]
        ... )
        (('', 'examples', 'auroc', 'loss'), (('va/sick', '20', 0.75, 0.5),))
    """
    names = tuple(sorted({record.name for record in measures}, key=lambda name: (name == "loss", name)))
    found: dict[str, dict[str, Record]] = defaultdict(dict)
    for record in measures:
        found[label(record)][record.name] = record
    rows = tuple(
        (
            unit,
            f"{max(r.weight for r in row.values()):g}",
            *(row[n].value if n in row else "–" for n in names),
        )
        for unit, row in found.items()
    )
    return ("", "examples", *names), rows


def label(record: Record) -> str:
    """Participant and task, each said once."""
    return "/".join(dict.fromkeys(filter(None, (record.participant, record.task)))) or "all"


def _sentence(finding: str) -> str:
    return f"{finding[:1].upper()}{finding[1:].rstrip('.')}."


def _final(measures: Sequence[Record]) -> Iterator[Section]:
    heading = "Final measures"
    if not measures:
        yield Text(("The run is not finished: there are no final measures yet.",), heading=heading)
        return
    columns, rows = final_table(measures)
    yield Table(columns, rows, caption=f"Measured on {_WORDS[measures[0].split]}", heading=heading)


def _curves(records: Sequence[Record]) -> Iterator[Section]:
    heading = "Learning curves"
    for (split, name, task), lines in _grouped(records).items():
        series = [_averaged(who, points) for who, points in lines.items() if len(points) > 1]
        if not series:
            continue
        left_out = f"; the first {_LINES} of {len(series)}" if len(series) > _LINES else ""
        of = f" of {task}" if task else ""
        caption = f"{name}{of} on {_WORDS[split]}{left_out}"
        yield Curves(tuple(series[:_LINES]), "round", name, caption, heading)
        heading = ""


Points = list[tuple[int, float]]


def _grouped(records: Sequence[Record]) -> dict[tuple[str, str, str], dict[str, Points]]:
    """Points by what is drawn together, (split, metric, task), and then by participant."""
    groups: dict[tuple[str, str, str], dict[str, Points]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.split != "test":
            task = "" if record.task == record.participant else record.task
            groups[record.split, record.name, task][record.participant or "all"].append(
                (record.round, record.value)
            )
    return groups


def _averaged(name: str, points: Points) -> Series:
    """A line of at most so many points, each the mean of neighbours."""
    together = -(-len(points) // _POINTS)
    chunks = [points[i : i + together] for i in range(0, len(points), together)]
    xs = tuple(fmean(x + 1 for x, _ in chunk) for chunk in chunks)
    return Series(name, xs, tuple(fmean(y for _, y in chunk) for chunk in chunks))
