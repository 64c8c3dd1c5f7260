"""An advice in sentences, which claim no more than was shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lianhe.experiment.difference import Difference
from lianhe.report.numbers import decimals, interval

if TYPE_CHECKING:
    from lianhe.experiment.evidence.advice import Advice

FEW_SEEDS = 10


def sentences(advice: Advice) -> Iterator[str]:
    """What to train together; what it does to whom; how to balance; what it costs; how sure that is."""
    yield _what(advice)
    yield from _whom(advice)
    yield _balancing(advice)
    yield _price(advice)
    yield _confidence(advice)


def _what(advice: Advice) -> str:
    label, count = advice.grouping.label, len(advice.tasks)
    if advice.choice == "undecided":
        cheaper = "The cheaper option" if len(advice.grouping.networks) == 1 else "The least risk"
        return (
            "Undecided: no network was shown to help or to hurt a task. "
            f"{cheaper} is {_networks(advice)}: {label}."
        )
    if advice.choice == "apart":
        return f"Train them apart: no network of several tasks was shown to help any of the {count}."
    if advice.choice == "together":
        return f"Train {'both' if count == 2 else f'all {count}'} tasks together."
    return f"Train {_networks(advice)}: {label}."


def _networks(advice: Advice) -> str:
    count = len(advice.grouping.networks)
    return "one network for all" if count == 1 else f"{count} networks"


def _whom(advice: Advice) -> Iterator[str]:
    """Verdicts of the networks proposed; and of joining all, where that is not proposed."""
    rows = [row for task in advice.tasks if (row := advice.effect(task)) is not None]
    if rows:
        yield f"Against training each task alone, this {_verdicts(rows)}."
    joined = advice.networks[0]
    if advice.grouping.apart or len(advice.grouping.networks) > 1:
        yield f"Training all together {_verdicts(joined.effects)}."
    hurt = [row.unit.label for row in rows if row.verdict == "hurt"]
    if hurt:
        yield (
            f"It hurts {', '.join(hurt)}, but a budget of {advice.budget} for {len(advice.tasks)} tasks "
            "leaves no other choice."
        )


def _verdicts(rows: Iterator[Difference] | tuple[Difference, ...] | list[Difference]) -> str:
    found = list(rows)
    count = Counter(row.verdict for row in found)
    worst = min((row for row in found if row.measured), key=_relative, default=None)
    said = f"helps {count['help']} of {len(found)}, hurts {count['hurt']}, undecided {count['undecided']}"
    if worst is None:
        return said
    digits = decimals([(worst.high - worst.low) / 2])
    numbers = interval(worst.mean, worst.low, worst.high, digits)
    return f"{said}; least good for {worst.unit.label}: {worst.metric} {numbers}"


def _relative(row: Difference) -> float:
    return row.mean / abs(row.other_mean) if row.other_mean else row.mean


def _balancing(advice: Advice) -> str:
    if advice.choice == "apart" or advice.grouping.apart:
        return "There is nothing to balance."
    chosen = next(method for method in advice.methods if method.name == advice.method)
    tried = (
        ", ".join(method.name for method in advice.methods if method.name != advice.method) or "nothing else"
    )
    where = "" if len(advice.grouping.networks) == 1 else ", on all tasks in one network"
    if not chosen.effects:
        return f"Balance by the plain mean: no other method was shown to be better (tried: {tried}{where})."
    return (
        f"Balance by {chosen.name}: against the plain mean it helps {chosen.count('help')} of "
        f"{len(chosen.effects)} tasks and hurts none (tried, too: {tried}{where})."
    )


def _price(advice: Advice) -> str:
    share = advice.seconds / advice.solo_seconds if advice.solo_seconds else float("nan")
    mean = advice.methods[0].seconds
    steps = ", ".join(
        f"{method.name} {method.seconds / mean:.2f} times" for method in advice.methods[1:] if mean > 0
    )
    tail = f" In time of the plain mean: {steps}." if steps else ""
    return (
        f"Training took {advice.seconds:.3g} s a seed, {share:.2f} times that of all tasks alone "
        f"({advice.solo_seconds:.3g} s).{tail}"
    )


def _confidence(advice: Advice) -> str:
    rows = [row for network in advice.networks for row in network.effects]
    few = (
        f" With {advice.seeds} seeds only large differences can be shown: take ten or more."
        if advice.seeds < FEW_SEEDS
        else ""
    )
    return (
        f"Verdicts rest on {advice.seeds} splits, with at most 5 % false alarms over all {len(rows)} "
        f"questions (Holm).{few}"
    )
