"""PGD: stays in the ball, and finds what raises the loss."""

from __future__ import annotations

import pytest
import torch
from tests.toys import F64, fit, task_spec
from torch import nn

from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.regularisation import FGSM, PGD


@pytest.fixture
def problem():
    g = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=g, dtype=F64))
    x = torch.randn(50, 6, generator=g, dtype=F64)
    y = torch.randint(0, 3, (50,), generator=g)
    return x, lambda xs: nn.functional.cross_entropy(net(xs[0]), y)


def generator():
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("steps", [1, 3, 20])
@pytest.mark.parametrize("norm", ["inf", "2"])
@pytest.mark.parametrize("random_start", [True, False])
def test_it_stays_in_the_ball_and_raises_the_loss(norm, steps, random_start, problem):
    x, loss = problem
    attack = PGD(0.3, steps, norm=norm, random_start=random_start)
    (moved,) = attack.perturb([x], loss, generator())
    lengths = torch.linalg.vector_norm(moved - x, ord=float(norm), dim=1)
    assert lengths.max().item() <= 0.3 * (1 + 1e-12)
    assert loss([moved]).item() > loss([x]).item()
    if steps == 20:
        assert lengths.min().item() > 0.29  # the greatest loss is at the edge


def test_more_steps_find_more_than_one(problem):
    x, loss = problem
    one = FGSM(0.3).perturb([x], loss, generator())
    many = PGD(0.3, 20).perturb([x], loss, generator())
    assert loss(many).item() > loss(one).item()


def test_one_whole_step_from_the_clean_input_is_fgsm(problem):
    x, loss = problem
    ours = PGD(0.3, 1, step_size=0.3, random_start=False).perturb([x], loss, generator())
    theirs = FGSM(0.3).perturb([x], loss, generator())
    torch.testing.assert_close(ours[0], theirs[0])


def test_a_step_in_the_euclidean_norm_has_the_length_that_was_asked_for(problem):
    x, loss = problem
    attack = PGD(1.0, 1, step_size=0.25, norm="2", random_start=False)
    (moved,) = attack.perturb([x], loss, generator())
    slope = torch.autograd.functional.jacobian(lambda t: loss([t]), x)
    expected = x + 0.25 * slope / slope.norm(dim=1, keepdim=True)
    torch.testing.assert_close(moved, expected)


def test_random_starts_fill_the_ball():
    x = torch.zeros(4000, 3, dtype=F64)
    (cube,) = PGD(0.5, 1, step_size=1e-12).perturb([x], lambda xs: xs[0].sum(), generator())
    (ball,) = PGD(0.5, 1, step_size=1e-12, norm="2").perturb([x], lambda xs: xs[0].sum(), generator())
    assert cube.abs().mean().item() == pytest.approx(0.25, abs=0.01)
    # a radius uniform in the ball of 3 dimensions: E r = 3/4 of the greatest
    assert ball.norm(dim=1).mean().item() == pytest.approx(0.375, abs=0.01)
    assert ball.mean().item() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_inputs_stay_in_their_range(norm):
    x = torch.rand(20, 3, 4, 4, generator=generator())
    attack = PGD(0.4, 5, norm=norm, within=(0.0, 1.0))
    (moved,) = attack.perturb([x], lambda xs: (xs[0] ** 2).sum(), generator())
    assert 0 <= moved.min() <= moved.max() <= 1


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_flat_losses_move_nothing_and_break_nothing(norm):
    x = torch.zeros(4, 3, dtype=F64)
    attack = PGD(0.4, 2, norm=norm, random_start=False)
    (moved,) = attack.perturb([x], lambda xs: (xs[0] * 0).sum(), generator())
    assert torch.equal(moved, x)


def test_inputs_may_be_numbers_one_a_sample():
    x = torch.tensor([1.0, -1.0], dtype=F64)
    (moved,) = PGD(0.5, 5, norm="2").perturb([x], lambda xs: (xs[0] ** 2).sum(), generator())
    assert moved.tolist() == pytest.approx([1.5, -1.5])


def test_it_trains_on_a_greater_loss_than_without():
    spec = task_spec(batch_size=None, rounds=4)
    clean, hard = fit(spec), fit(spec.replace(adversarial=PGD(0.3, 5)))
    assert sum(r.value for r in hard.history[:3]) > sum(r.value for r in clean.history[:3])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"eps": -1}, "eps of PGD=-1"),
        ({"eps": 1, "steps": 0}, "steps of PGD=0: must be a whole number"),
        ({"eps": 1, "step_size": 0}, "step_size of PGD=0: must be a positive"),
    ],
)
def test_numbers_out_of_range_are_refused(options, match):
    with pytest.raises(SpecError, match=match):
        PGD(**options)


def test_a_norm_that_is_none_is_refused():
    with pytest.raises(UnknownNameError, match="unknown norm of PGD 'l2': did you mean '2'"):
        PGD(1.0, norm="l2")
