from __future__ import annotations

import math

import pytest
import torch
from tests.experiment.tuning.toys import planted
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lianhe as lh
from lianhe.experiment.tuning import by_difficulty, by_size
from lianhe.experiment.tuning.amounts import losses, sizes
from lianhe.experiment.tuning.heuristics import normalised

NAN = float("nan")


def counted() -> lh.Spec:
    y = {"often": torch.tensor([1.0, 2.0, 3.0, NAN]), "rare": torch.tensor([1.0, NAN, NAN, NAN])}
    tasks = [lh.Task(name, nn.Linear(2, 1), "mse") for name in y]
    return lh.Spec(tasks, data=(torch.rand(4, 2), y), rounds=1)


@pytest.mark.parametrize("power", [-1.0, -0.5, 0.0, 0.5])
def test_weights_by_size_are_a_power_of_the_labels_that_are_there(power):
    weights = by_size(counted(), power).weights
    assert weights["often"] / weights["rare"] == pytest.approx(3.0**power)
    assert sum(weights.values()) == pytest.approx(2)


def test_tasks_with_data_of_their_own_are_counted_there():
    own = [
        lh.Task(name, nn.Linear(2, 1), "mse", data=(torch.rand(n, 2), torch.rand(n)))
        for name, n in (("long", 9), ("short", 3))
    ]
    assert sizes(lh.Spec(own, rounds=1)) == {"long": 9, "short": 3}


def test_rows_of_a_loader_are_counted_too():
    x = torch.rand(7, 2)

    def collate(items):
        batch = torch.stack([item[0] for item in items])
        return batch, {
            "often": batch.sum(1),
            "rare": torch.full((len(batch),), NAN).index_fill(0, torch.tensor([0]), 1),
        }

    loader = DataLoader(TensorDataset(x), batch_size=3, collate_fn=collate)
    assert sizes(counted().replace(data=loader)) == {"often": 7, "rare": 3}


def test_losses_before_training_are_those_of_the_initial_weights():
    spec = planted(rounds=1)
    weights = by_difficulty(spec, seed=3).weights
    model = lh.fit(spec.replace(lr=1e-12), seed=3).model
    with torch.no_grad():
        by_hand = {
            t: float((model(spec.data[0])[t].squeeze(1) - y).square().mean()) for t, y in spec.data[1].items()
        }
    assert weights["clean"] / weights["noisy"] == pytest.approx(by_hand["noisy"] / by_hand["clean"], rel=1e-4)


def test_losses_after_the_sum_and_alone_are_those_of_fits_on_the_training_rows():
    spec = planted(rounds=20)
    trained = lh.fit(spec.replace(aggregator=lh.Sum()), seed=1).evaluate(spec.data)
    assert losses(spec, "sum", 1) == {r.task: r.value for r in trained}
    alone = losses(spec, "solo", 1)
    one = lh.fit(spec.replace(participants=[spec.participants[0]]), seed=1).evaluate(spec.data)
    assert alone["clean"] == pytest.approx(one[0].value, rel=1e-5)
    assert alone["clean"] < losses(spec, "sum", 1)["clean"]


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (lambda: by_size(counted(), math.inf), lh.SpecError, "power=inf"),
        (lambda: normalised({"a": 1.0, "b": 0.0}, -1.0, "labels"), lh.DataError, "task 'b' has labels 0"),
        (lambda: normalised({"a": 1.0, "b": NAN}, -1.0, "loss"), lh.DataError, "task 'b' has loss nan"),
        (lambda: by_difficulty(counted(), of="final"), lh.UnknownNameError, "difficulty 'final'"),
        (lambda: by_size(sites()), lh.SpecError, "kind Site"),
        (lambda: by_difficulty(sites()), lh.SpecError, "kind Site"),
    ],
)
def test_wrong_input_is_named(make, kind, says):
    with pytest.raises(kind, match=says):
        make()


def sites() -> lh.Spec:
    site = lh.Site("a", (torch.rand(4, 2), {"t": torch.rand(4)}))
    return lh.Spec([site], tasks=[lh.Task("t", nn.Linear(2, 1), "mse")], local=lh.Local(), rounds=1)
