"""Advice on constructed cases: help is found, harm is avoided, and nothing is claimed that was not shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import lianhe as lh
from lianhe.core.errors import SpecError
from lianhe.experiment.difference import Difference
from lianhe.experiment.evidence import Advice, Affinity, advise
from lianhe.experiment.evidence.advise import _candidates
from lianhe.experiment.evidence.decide import choose
from lianhe.experiment.trial import Part, Trial

TEST_ROWS = 200
Labels = dict[str, Tensor]


def trials(
    make: Callable[[Tensor], Labels], rows: int, columns: int, encoder: Callable[[], nn.Module], **options
) -> Callable[[int], Trial]:
    """New rows at every seed: seeds are independent. `head` makes heads, `hide` takes labels away."""
    head = options.pop("head", lambda: nn.Linear(6, 1))
    hide = options.pop("hide", lambda labels: labels)

    def of(seed: int) -> Trial:
        x = torch.randn(rows + TEST_ROWS, columns, generator=torch.Generator().manual_seed(seed))
        y = make(x)
        train = (x[:rows], hide({t: labels[:rows] for t, labels in y.items()}))
        test = (x[rows:], {t: labels[rows:] for t, labels in y.items()})
        tasks = [lh.Task(t, head, "mse") for t in y]
        spec = lh.Spec(tasks, encoder=encoder, data=train, batch_size=None, **options)
        return Trial(Part(spec, test), {}, 0.0)

    return of


def every_third(labels: Labels) -> Labels:
    """Each row has the label of one task only."""
    names = list(labels)
    return {
        name: torch.where(torch.arange(len(y)) % len(names) == i, y, torch.nan)
        for i, (name, y) in enumerate(labels.items())
    }


def same_task(names: str = "abc") -> Callable[[int], Trial]:
    """One function under several names, with so few labels each that alone it cannot be learnt."""
    return trials(
        lambda x: {name: x.sum(1) / 3 for name in names},
        rows=90,
        columns=40,
        encoder=lambda: nn.Linear(40, 6),
        hide=every_third,
        rounds=60,
        lr=0.03,
    )


def opposed() -> Callable[[int], Trial]:
    """A shared prediction that has to be both x and -x."""
    return trials(
        lambda x: {"up": x[:, 0], "down": -x[:, 0]},
        rows=60,
        columns=2,
        encoder=lambda: nn.Linear(2, 1),
        head=nn.Identity,
        rounds=60,
        lr=0.1,
    )


def test_the_same_task_with_few_labels_each_is_trained_together() -> None:
    advice = advise(same_task(), seeds=range(5), methods=[], candidates=0)
    assert advice.choice == "together"
    assert advice.grouping.label == "a + b + c"
    rows = [advice.effect(task) for task in advice.tasks]
    assert {row.verdict for row in rows if row is not None} >= {"help"}
    assert "Train all 3 tasks together." in advice.answer()
    assert advice.comparison.delta_m[0].mean < -30


def test_constructed_negative_transfer_is_trained_apart() -> None:
    advice = advise(opposed(), seeds=range(4), methods=["upgrad"])
    assert advice.choice == "apart"
    assert advice.grouping.apart
    assert advice.answer().startswith("Train them apart: no network")
    assert advice.method == "mean"
    assert "nothing to balance" in advice.answer()
    assert all(row.verdict == "hurt" for row in advice.networks[0].effects)


def test_tasks_that_help_are_grouped_and_the_one_that_hurts_stays_alone() -> None:
    """Two names of one function, with half of the labels each, and one that wants the opposite."""

    def halved(labels: Labels) -> Labels:
        rows = torch.arange(len(labels["a"]))
        half = {t: torch.where(rows % 2 == i, labels[t], torch.nan) for i, t in enumerate("ab")}
        return {**half, "c": labels["c"]}

    mixed = trials(
        lambda x: {"a": x.sum(1) / 6, "b": x.sum(1) / 6, "c": x.sum(1) / -6},
        rows=80,
        columns=40,
        encoder=lambda: nn.Linear(40, 1),
        head=nn.Identity,
        hide=halved,
        rounds=80,
        lr=0.02,
    )
    advice = advise(mixed, seeds=range(5), methods=[], candidates=1)
    assert advice.choice == "in groups"
    assert {network.trains for network in advice.grouping.networks} == {("a", "b"), ("c",)}
    assert "Train 2 networks" in advice.answer()
    assert advice.affinity.look_ahead["a"]["b"] > 0 > advice.affinity.look_ahead["a"]["c"]


def test_with_a_budget_of_one_harm_is_said_and_not_hidden() -> None:
    advice = advise(opposed(), seeds=range(3), methods=[], budget=1)
    assert len(advice.grouping.networks) == 1
    assert "It hurts up, down, but a budget of 1" in advice.answer()


def test_independent_tasks_are_undecided_and_the_cheaper_option_is_named() -> None:
    independent = trials(
        lambda x: {"a": x[:, 0] + x[:, 2] ** 2, "b": x[:, 1] + x[:, 3] ** 2},
        rows=80,
        columns=4,
        encoder=lambda: nn.Linear(4, 6),
        rounds=80,
        lr=0.03,
    )
    advice = advise(independent, seeds=range(3), methods=[])
    assert advice.choice == "undecided"
    assert "Undecided" in advice.answer()
    assert "take ten or more" in advice.answer()


@pytest.fixture(scope="module")
def advice() -> Advice:
    return advise(same_task(), seeds=range(2), methods=["sum", lh.PCGrad()], candidates=2)


def test_price_and_methods_are_in_the_report(advice: Advice, tmp_path: Path) -> None:
    assert [m.name for m in advice.methods] == ["mean", "sum", "pcgrad"]
    assert [m.needs for m in advice.methods] == ["losses", "losses", "gramian"]
    assert advice.networks[0].tasks == ("a", "b", "c")
    assert all(1 < len(network.tasks) < 3 for network in advice.networks[1:])
    html = advice.to_html(tmp_path / "a.html").read_text()
    for words in (
        "The advice",
        "Balancing",
        "Affinity",
        "Conflicts between tasks",
        "pcgrad",
    ):
        assert words in html
    read = json.loads(advice.to_json(tmp_path / "a.json").read_text())
    assert read["choice"] == advice.choice
    assert read["comparison"]["delta_m"]
    assert read["affinity"]["look_ahead"]["a"]["b"] == advice.affinity.look_ahead["a"]["b"]
    assert advice.table().row_count == 3
    seconds = {network.tasks: network.seconds for network in advice.networks}
    alone = advice.solo_seconds / 3
    assert advice.seconds == pytest.approx(
        sum(seconds.get(n.trains, alone) for n in advice.grouping.networks)
    )
    assert 0 < advice.networks[0].seconds < advice.solo_seconds


def test_the_specification_s_own_method_is_compared_with_the_mean() -> None:
    def with_upgrad(seed: int) -> Trial:
        this = opposed()(seed)
        return Trial(Part(this.joint.spec.replace(aggregator=lh.UPGrad()), this.joint.test), {}, 0.0)

    found = advise(with_upgrad, seeds=range(2), methods=[])
    assert [m.name for m in found.methods] == ["mean", "UPGrad, as specified"]


def test_what_advice_cannot_be_given_on_is_refused() -> None:
    with pytest.raises(SpecError, match="two tasks or more"):
        advise(same_task("a"), seeds=range(2))
    with pytest.raises(SpecError, match="seeds"):
        advise(same_task(), seeds=[])
    with pytest.raises(SpecError, match="budget"):
        advise(same_task(), seeds=range(2), budget=0)


# ---------------------------------------------------------------------------------------------- the decision


def row(task: str, verdict: str, mean: float = 0.0, high: float = 1.0) -> Difference:
    return Difference(
        "solo", task, task, "auroc", 0.8, 0.8, mean, -1.0, high, 0.5, 0.5, 1, 1, 0, 2, verdict, 0.5
    )  # type: ignore[arg-type]


def tried(**verdicts: str) -> dict[frozenset[str], dict[str, Difference]]:
    """By tasks joined, "abc": "h.-" for helped, undecided and hurt."""
    words = {"h": "help", ".": "undecided", "-": "hurt"}
    return {
        frozenset(tasks): {t: row(t, words[v]) for t, v in zip(tasks, of, strict=True)}
        for tasks, of in verdicts.items()
    }


@pytest.mark.parametrize(
    ("networks", "budget", "choice", "label"),
    [
        ({"abc": "hhh"}, 3, "together", "a + b + c"),
        ({"abc": "h.."}, 3, "together", "a + b + c"),
        ({"abc": "..."}, 3, "undecided", "a + b + c"),
        ({"abc": ".-."}, 3, "apart", "a | b | c"),
        ({"abc": "h-."}, 3, "in groups", "b | a + c (+ b)"),
        ({"abc": "..-", "ab": "hh"}, 3, "in groups", "c | a + b"),
        ({"abc": "h.-", "ab": ".h"}, 3, "in groups", "c | b (+ a) | a (+ b + c)"),
        ({"abc": "h.-", "ab": ".h"}, 2, "in groups", "c | a + b (+ c)"),
        ({"abc": "---"}, 1, "together", "a + b + c"),
    ],
)
def test_decisions(networks: dict[str, str], budget: int, choice: str, label: str) -> None:
    found = choose(tried(**networks), list("abc"), budget)
    assert found[0] == choice
    assert set(found[1].label.split(" | ")) == set(label.split(" | "))


def test_what_seems_to_hurt_is_not_joined_for_want_of_proof() -> None:
    networks = {frozenset("ab"): {"a": row("a", "undecided", -0.5, high=-0.1), "b": row("b", "undecided")}}
    choice, grouping = choose(networks, ["a", "b"], 2)
    assert (choice, grouping.apart) == ("undecided", True)


def test_between_equal_verdicts_the_better_mean_decides() -> None:
    networks = {frozenset(s): {t: row(t, "help", mean) for t in s} for s, mean in (("ab", 0.1), ("ac", 0.2))}
    networks |= tried(abc="...")
    _, grouping = choose(networks, list("abc"), 2)
    assert next(n.trains for n in grouping.networks if "a" in n.serves) == ("a", "c")


def affinities(tasks: str, groups: Sequence[str]) -> Affinity:
    """Tasks of one group help one another, and hurt all others."""
    together = {frozenset((a, b)) for group in groups for a in group for b in group if a != b}
    effects = {a: {b: 0.1 if frozenset((a, b)) in together else -0.1 for b in tasks} for a in tasks}
    return Affinity(tuple(tasks), effects, effects, looks=1)


@pytest.mark.parametrize("groups", [("abc", "de"), ("ab", "cde"), ("ad", "bce")])
def test_candidates_are_the_groups_that_affinity_shows(groups: tuple[str, str]) -> None:
    found = _candidates(affinities("abcde", groups), list("abcde"), budget=2, most=3)
    assert set(found) == {frozenset(group) for group in groups}


def test_no_candidate_is_beyond_the_budget_and_many_tasks_are_paired() -> None:
    assert _candidates(affinities("abc", ["ab"]), list("abc"), budget=1, most=3) == []
    assert _candidates(affinities("abc", ["ab"]), list("abc"), budget=3, most=0) == []
    names = "abcdefghijklmn"
    pairs = [names[i : i + 2] for i in range(0, 14, 2)]
    found = _candidates(affinities(names, pairs), list(names), budget=14, most=3)
    assert len(found) == 3
    assert set(found) <= {frozenset(pair) for pair in pairs}
