"""FGSM: the step, and what a round makes of it."""

from __future__ import annotations

import pytest
import torch
from tests.toys import F64, fit, head, net, table, task_spec, tasks, weights_of
from torch import nn

from lianhe.aggregation import Mean
from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.schedule import Alternating
from lianhe.engines import SharedEngine
from lianhe.participants import Task
from lianhe.regularisation import FGSM

X, Y = table()


def cubes(xs):
    return sum((x**3).sum() for x in xs)


def test_a_step_along_the_sign_of_the_slope():
    x = [torch.tensor([[1.0, -2.0], [0.0, 3.0]], dtype=F64), torch.tensor([2.0, 0.0], dtype=F64)]
    moved = FGSM(0.1).perturb(x, lambda xs: -cubes(xs), torch.Generator())
    assert moved[0].tolist() == [[0.9, -2.1], [0.0, 2.9]]  # at 0 the slope is 0
    assert moved[1].tolist() == [1.9, 0.0]
    assert not any(tensor.requires_grad for tensor in (*moved, *x))


def test_inputs_stay_in_their_range_and_are_not_pulled_into_it():
    x = torch.tensor([[0.05, 0.95, 1.5]], dtype=F64)
    (moved,) = FGSM(0.1, within=(0.0, 1.0)).perturb([x], lambda xs: xs[0].sum(), torch.Generator())
    assert moved[0].tolist() == pytest.approx([0.15, 1.0, 1.5])


def test_a_share_of_the_samples_is_moved_all_tensors_of_one_together():
    x = [torch.ones(2000, 2, dtype=F64), torch.ones(2000, 3, 1, dtype=F64)]
    left, right = FGSM(0.1, share=0.3).perturb(x, cubes, torch.Generator().manual_seed(0))
    moved = (left != 1).any(1)
    assert 0.25 < moved.double().mean().item() < 0.35
    assert bool(((right != 1).flatten(1).all(1) == moved).all())


def by_hand(encoder, heads, x, y, eps):
    """Inputs that raise the weighted mean loss of two tasks."""
    x = x.clone().requires_grad_()
    z = encoder(x)
    loss = (
        3 * nn.functional.mse_loss(heads[0](z).squeeze(1), y["size"])
        + nn.functional.cross_entropy(heads[1](z), y["kind"])
    ) / 4
    (slope,) = torch.autograd.grad(loss, x)
    return x.detach() + eps * slope.sign()


def test_a_round_is_a_step_on_inputs_moved_by_hand():
    pair = [Task("size", head(1, seed=10), "mse", weight=3.0), Task("kind", head(3, seed=11))]
    spec = task_spec(participants=pair, batch_size=None, rounds=1, adversarial=FGSM(0.3))
    x = by_hand(net(), [task.head for task in pair], X, Y, 0.3)
    ours, clean = fit(spec), fit(spec.replace(adversarial=None, data=(x, Y)))
    for name, tensor in weights_of(ours).items():
        torch.testing.assert_close(tensor, weights_of(clean)[name], rtol=1e-12, atol=1e-14)
    assert ours.history[0].value > fit(spec.replace(adversarial=None)).history[0].value


def test_only_the_tasks_that_are_present_attack():
    """In its turn, a task is attacked by its own loss; without labels it is nobody's attacker."""
    spec = task_spec(names=("size", "kind"), batch_size=None, rounds=1, adversarial=FGSM(0.3))
    alone = fit(spec.replace(participants=tasks(("size",))))
    turn = fit(spec.replace(schedule=Alternating()))
    gone = fit(spec.replace(data=(X, {**Y, "kind": torch.full((40,), -100)})))
    for name, tensor in weights_of(alone).items():
        assert torch.equal(tensor, weights_of(turn)[name])
        assert torch.equal(tensor, weights_of(gone)[name])


def test_running_statistics_do_not_see_the_attack():
    """With clean inputs (a budget of almost nothing), they are those of a fit without an attack."""
    norm = nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 1)).double()
    spec = task_spec(
        participants=[Task("size", norm, "mse"), *tasks(("kind",))], encoder=net(norm=True), rounds=3
    )
    clean, attacked = fit(spec), fit(spec.replace(adversarial=FGSM(1e-13)))
    for name, tensor in weights_of(attacked).items():
        torch.testing.assert_close(tensor, weights_of(clean)[name], rtol=1e-9, atol=1e-9)
        if "num_batches" in name:
            assert tensor.item() == 3


@pytest.mark.parametrize("engine", [LoopEngine, SharedEngine])
def test_the_batch_is_attacked_once_a_round(engine):
    calls = []

    class Counting(FGSM):
        def perturb(self, inputs, loss, generator):
            calls.append(len(inputs[0]))
            return super().perturb(inputs, loss, generator)

    fit(task_spec(rounds=5, adversarial=Counting(0.1), aggregator=Mean()), engine=engine())
    assert calls == [16, 16, 8, 16, 16]


def test_inputs_in_a_mapping_are_moved_together():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(2, 5).double(), nn.Linear(2, 5).double()

        def forward(self, x):
            return torch.tanh(self.left(x["left"]) + self.right(x["right"][0]))

    data = ({"left": X[:, :2], "right": (X[:, 2:],)}, Y)
    spec = task_spec(data, encoder=Both(), adversarial=FGSM(0.2), rounds=3)
    first = fit(spec, engine=LoopEngine()).history[0].value
    assert first > fit(spec.replace(adversarial=None)).history[0].value


def test_whole_numbers_cannot_be_moved():
    words = torch.randint(0, 9, (40, 4), generator=torch.Generator().manual_seed(0))
    encoder = nn.Sequential(nn.EmbeddingBag(9, 5).double())
    spec = task_spec((words, Y), encoder=encoder, adversarial=FGSM(0.1))
    with pytest.raises(
        SpecError, match=r"adversarial=FGSM\(eps=0.1.* inputs of torch.int64, such as numbers"
    ):
        fit(spec)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"eps": 0}, "eps of FGSM=0: must be a positive"),
        ({"eps": float("inf")}, "eps of FGSM=inf"),
        ({"eps": 0.1, "share": 0}, "share of FGSM=0: must be a positive"),
        ({"eps": 0.1, "share": 1.1}, "share of FGSM=1.1: must be at most 1"),
        ({"eps": 0.1, "within": (1.0, 0.0)}, r"within of FGSM=\(1.0, 0.0\): must be \(least, greatest\)"),
        ({"eps": 0.1, "within": 3}, "within of FGSM=3"),
        ({"eps": 0.1, "within": ("a", 1)}, "within of FGSM"),
    ],
)
def test_budgets_that_are_none_are_refused(options, match):
    with pytest.raises(SpecError, match=match):
        FGSM(**options)
