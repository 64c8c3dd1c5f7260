from __future__ import annotations

import pytest
import torch
from tests.linalg.cases import rows

from lianhe.aggregation import Confident
from lianhe.core.contribution import Contribution, Joint
from lianhe.core.errors import AggregationError
from lianhe.core.stack import Collected
from lianhe.core.streams import Stream

NONE = -100


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def predictions(views: int, n: int, classes: int, seed: int = 0) -> torch.Tensor:
    return (3 * rows(views, n * classes, seed)).view(views, n, classes).softmax(2)


def unlabelled(n: int) -> torch.Tensor:
    return torch.full((n,), NONE)


def brute(probabilities, target, *, threshold=None, quota=None, conflict="drop"):
    """The rules, example by example."""
    new_target, teacher = target.tolist(), [-1] * len(target)
    votes = {}
    for v, view in enumerate(probabilities.tolist()):
        taken = dict.fromkeys(range(len(view[0])), 0)
        for x in sorted(range(len(view)), key=lambda x: -max(view[x])):
            label, confidence = view[x].index(max(view[x])), max(view[x])
            if new_target[x] != NONE:
                continue
            if threshold is not None and confidence >= threshold:
                votes.setdefault(x, []).append((confidence, v, label))
            if quota is not None and taken[label] < quota[label]:
                taken[label] += 1
                votes.setdefault(x, []).append((confidence, v, label))
    for x, cast in votes.items():
        if conflict == "drop" and len({label for *_, label in cast}) > 1:
            continue
        _, teacher[x], new_target[x] = max(cast)
    return new_target, teacher


CASES = [(2, 30, 2), (3, 50, 4), (2, 7, 10), (1, 20, 3)]


@pytest.mark.parametrize(("views", "n", "classes"), CASES)
@pytest.mark.parametrize("conflict", ["drop", "confident"])
@pytest.mark.parametrize("options", [{"threshold": 0.7}, {"per_class": 1}, {"per_class": 4}])
def test_the_rules_example_by_example(views, n, classes, conflict, options):
    p = predictions(views, n, classes, seed=n)
    target = torch.where(torch.arange(n) % 5 == 0, 1, NONE)
    quota = None if "threshold" in options else [options["per_class"]] * classes
    expected = brute(p, target, threshold=options.get("threshold"), quota=quota, conflict=conflict)
    chosen = Confident(**options, conflict=conflict).choose(p, target, generator())
    assert (chosen.target.tolist(), chosen.teacher.tolist()) == expected
    assert (chosen.teacher >= 0).any()


def test_the_positional_argument_is_the_threshold():
    assert Confident(0.95).threshold == 0.95
    p = torch.tensor([[[0.95, 0.05], [0.94, 0.06]]], dtype=torch.float64)
    assert Confident(0.95).choose(p, unlabelled(2), generator()).target.tolist() == [0, NONE]


def test_a_conflict_is_dropped_or_won_by_the_surer():
    p = torch.tensor([[[0.9, 0.1], [0.9, 0.1]], [[0.01, 0.99], [0.8, 0.2]]])
    assert Confident(0.7).choose(p, unlabelled(2), generator()).target.tolist() == [NONE, 0]
    chosen = Confident(0.7, conflict="confident").choose(p, unlabelled(2), generator())
    assert (chosen.target.tolist(), chosen.teacher.tolist()) == ([1, 0], [1, 0])
    # no conflict where the other view is not sure enough to choose
    assert Confident(0.95).choose(p, unlabelled(2), generator()).target.tolist() == [1, NONE]


def test_labels_are_never_changed():
    target = torch.tensor([1, NONE, 0, NONE])
    p = torch.tensor([[[0.99, 0.01]] * 4, [[0.99, 0.01]] * 4])
    chosen = Confident(0.9).choose(p, target, generator())
    assert chosen.target.tolist() == [1, 0, 0, 0]
    assert chosen.teacher.tolist() == [-1, 0, -1, 0]
    assert target.tolist() == [1, NONE, 0, NONE]


def test_numbers_by_class_and_by_prior():
    p = predictions(1, 400, 3)
    assert Confident(per_class={0: 1, 2: 5}).choose(p, unlabelled(400), generator()).target[:].unique(
        return_counts=True
    )[1].tolist() == [394, 1, 5]
    labels, counts = (
        Confident(per_class=2, prior=[1, 3, 8])
        .choose(p, unlabelled(400), generator())
        .target.unique(return_counts=True)
    )
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True)) == {NONE: 393, 0: 1, 1: 2, 2: 4}
    assert Confident(per_class={"0": 1, "1": 3}).per_class == {0: 1, 1: 3}  # as a file gives it


def test_the_sure_ones_of_a_class_are_chosen_not_the_first():
    p = torch.tensor([[[0.6, 0.4], [0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]])
    chosen = Confident(per_class=1).choose(p, unlabelled(4), generator())
    assert chosen.target.tolist() == [NONE, 0, NONE, 1]


def test_candidates_are_drawn_anew_from_the_unlabelled():
    n = 1000
    target = torch.where(torch.arange(n) < 500, 0, NONE)
    p = torch.tensor([0.99, 0.01]).expand(1, n, 2)
    draws = [
        Confident(0.9, pool_size=75).choose(p, target, generator(seed)).teacher >= 0 for seed in range(40)
    ]
    assert all(int(draw.sum()) == 75 and not draw[:500].any() for draw in draws)
    assert not draws[0].equal(draws[1])
    assert draws[0].equal(Confident(0.9, pool_size=75).choose(p, target, generator(0)).teacher >= 0)
    often = torch.stack(draws).double().mean(0)[500:]
    assert often.max() < 0.5
    assert (often > 0).double().mean() > 0.95
    few = Confident(0.9, pool_size=600).choose(p, target, generator())
    assert int((few.teacher >= 0).sum()) == 500


def test_a_broken_view_chooses_nothing():
    p = torch.tensor([[[float("nan"), float("nan")], [0.9, 0.1]], [[0.05, 0.95], [0.4, 0.6]]])
    for rule in (Confident(0.7), Confident(per_class=1)):
        assert rule.choose(p, unlabelled(2), generator()).target.tolist() == [1, 0]
    assert Confident(per_class=2).choose(p, unlabelled(2), generator()).target.tolist() == [1, NONE]


def test_shapes_and_classes_must_fit():
    p = predictions(2, 5, 3)
    with pytest.raises(AggregationError, match=r"\[2, 5, 3\] must be \[views, examples, classes\] for \[4\]"):
        Confident(0.9).choose(p, unlabelled(4), generator())
    with pytest.raises(AggregationError, match="views know 3 classes"):
        Confident(per_class={3: 1}).choose(p, unlabelled(5), generator())
    with pytest.raises(AggregationError, match="prior has 2 classes, but views know 3"):
        Confident(per_class=1, prior=[1, 1]).choose(p, unlabelled(5), generator())


def stack(p, target, index, number=4):
    n = len(target)
    labels = {"target": target, "teacher": torch.full((n,), -1), "round": torch.full((n,), -1)}
    labels["teacher"][target != NONE], labels["round"][target != NONE] = 0, 2
    views = [
        Contribution(f"view{i}", {"pool": {"probabilities": probabilities, "index": torch.tensor(i)}})
        for i, probabilities in zip(index, p, strict=True)
    ]
    return Collected(views, Joint({"labels": labels}), Stream(seed=0, round=number))


def test_a_collected_stack_gives_the_new_labels():
    p = torch.tensor([[[0.5, 0.5], [0.99, 0.01], [0.6, 0.4]], [[0.5, 0.5], [0.6, 0.4], [0.01, 0.99]]])
    collected = stack(p, torch.tensor([1, NONE, NONE]), index=[2, 1])
    labels = Confident(0.9)(collected)["labels"]
    assert labels["target"].tolist() == [1, 0, 1]
    assert labels["teacher"].tolist() == [0, 2, 1]
    assert labels["round"].tolist() == [2, 4, 4]
    assert all(tensor.dtype == torch.int64 for tensor in labels.values())
    assert collected.joint.blocks["labels"]["target"].tolist() == [1, NONE, NONE]


def test_one_view_at_a_time_may_teach():
    p = torch.tensor([[[0.99, 0.01], [0.4, 0.6]]])
    labels = Confident(0.9)(stack(p, unlabelled(2), index=[3]))["labels"]
    assert (labels["target"].tolist(), labels["teacher"].tolist()) == ([0, NONE], [3, -1])


def test_the_pool_is_drawn_from_the_stream_of_the_round():
    p = torch.tensor([0.99, 0.01]).expand(1, 50, 2)
    once, again, later = (
        Confident(0.9, pool_size=5)(stack(p, unlabelled(50), [0], number))["labels"]["target"]
        for number in (1, 1, 2)
    )
    assert once.equal(again)
    assert not once.equal(later)


def test_other_stacks_are_refused_by_name():
    assert Confident.whole
    assert Confident.needs == "values"
    with pytest.raises(AggregationError, match="0, 1 sent no predictions of a pool"):
        Confident(0.9)(rows(2, 4))
    mixed = stack(predictions(2, 3, 2), unlabelled(3), index=[0, 1])
    stranger = Contribution("north", {"encoder": {"weight": torch.ones(3)}})
    with pytest.raises(AggregationError, match="but north sent no predictions"):
        Confident(0.9)(Collected([*mixed.contributions, stranger], mixed.joint))
