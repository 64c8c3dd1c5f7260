"""How the joint moves."""

from __future__ import annotations

import pytest
import torch
from tests.toys import F64
from torch import nn

from lianhe.core.contribution import Joint
from lianhe.core.errors import SpecError, UnknownNameError
from lianhe.core.step import OPTIMIZERS, Add, Descend, Replace, make_optimizer

MOMENTUM = lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9)  # noqa: E731


def joint():
    blocks = {b: {"w": nn.Parameter(torch.ones(3, dtype=F64))} for b in ("encoder", "head")}
    return Joint({**blocks, "s/statistics": {"mean": torch.zeros(2, dtype=F64)}}, frozenset(["s/statistics"]))


def gradient(scale=1.0):
    return {"w": scale * torch.tensor([1.0, -2.0, 0.5], dtype=F64)}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", MOMENTUM])
def test_descend_is_the_torch_optimizer(optimizer):
    ours, theirs = joint(), nn.Parameter(torch.ones(3, dtype=F64))
    step = Descend(ours, optimizer, 0.1)
    reference = make_optimizer(optimizer, [theirs], 0.1)
    for k in range(4):
        assert step.apply(ours, {"encoder": gradient(k + 1)}) is ours
        theirs.grad = gradient(k + 1)["w"]
        reference.step()
    assert torch.equal(ours.blocks["encoder"]["w"], theirs)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", MOMENTUM])
def test_an_absent_block_keeps_value_and_state(optimizer):
    ours = joint()
    step = Descend(ours, optimizer, 0.1)
    step.apply(ours, {"encoder": gradient(), "head": gradient()})
    head = ours.blocks["head"]["w"]
    value, state = (
        head.clone(),
        {k: torch.as_tensor(v).clone() for k, v in step.optimizer.state[head].items() if v is not None},
    )
    for _ in range(3):
        step.apply(ours, {"encoder": gradient()})
    assert torch.equal(head, value)
    for key, tensor in state.items():
        assert torch.equal(torch.as_tensor(step.optimizer.state[head][key]), tensor)
    if optimizer in ("adam", "adamw"):
        assert step.optimizer.state[head]["step"] == 1
        assert step.optimizer.state[ours.blocks["encoder"]["w"]]["step"] == 4


def test_a_step_clips_the_whole_update_and_only_where_it_is_too_long():
    for largest, factor in ((1.0, 1.0 / (10.5**0.5 + 1e-6)), (100.0, 1.0)):
        ours = joint()
        Descend(ours, "sgd", 1.0, clip_norm=largest).apply(ours, {"encoder": gradient(), "head": gradient()})
        for block in ("encoder", "head"):
            torch.testing.assert_close(ours.blocks[block]["w"].detach(), 1 - factor * gradient()["w"])


def test_clipping_measures_the_blocks_that_are_there():
    ours = joint()
    Descend(ours, "sgd", 1.0, clip_norm=1.0).apply(ours, {"head": gradient()})
    moved = 1 - ours.blocks["head"]["w"].detach()
    torch.testing.assert_close(moved.norm(), torch.tensor(1.0, dtype=F64), rtol=1e-6, atol=0)
    assert torch.equal(ours.blocks["encoder"]["w"].detach(), torch.ones(3, dtype=F64))


def test_running_statistics_are_added_and_not_optimised():
    ours = joint()
    step = Descend(ours, "adam", 0.1, clip_norm=1e-3)
    step.apply(ours, {"encoder": gradient(), "s/statistics": {"mean": torch.tensor([2.0, 3.0], dtype=F64)}})
    assert ours.blocks["s/statistics"]["mean"].tolist() == [2, 3]
    assert len(step.optimizer.param_groups[0]["params"]) == 2


def test_the_schedule_is_stepped_every_time():
    ours = joint()
    step = Descend(ours, "sgd", 1.0, schedule=lambda o: torch.optim.lr_scheduler.ExponentialLR(o, 0.5))
    for _ in range(3):
        step.apply(ours, {"encoder": {"w": torch.ones(3, dtype=F64)}})
    assert ours.blocks["encoder"]["w"].tolist() == [1 - 1.75] * 3


SCHEDULERS = torch.optim.lr_scheduler
SCHEDULES = {
    "lambda": lambda o: SCHEDULERS.LambdaLR(o, lambda k: 1 / (k + 1)),
    "multiplicative": lambda o: SCHEDULERS.MultiplicativeLR(o, lambda k: 0.9),
    "steps": lambda o: SCHEDULERS.StepLR(o, 2),
    "milestones": lambda o: SCHEDULERS.MultiStepLR(o, [1, 1, 3], 0.5),
    "cosine": lambda o: SCHEDULERS.CosineAnnealingLR(o, 5),
    "restarts": lambda o: SCHEDULERS.CosineAnnealingWarmRestarts(o, 3),
    "cycle": lambda o: SCHEDULERS.CyclicLR(o, 0.01, 0.1, 2, cycle_momentum=False),
    "one cycle": lambda o: SCHEDULERS.OneCycleLR(o, 0.1, total_steps=9),
    "polynomial": lambda o: SCHEDULERS.PolynomialLR(o, 7),
    "sequential": lambda o: SCHEDULERS.SequentialLR(
        o, [SCHEDULERS.ConstantLR(o, 0.1, 2), SCHEDULERS.LambdaLR(o, lambda k: 0.8**k)], [2]
    ),
    "chained": lambda o: SCHEDULERS.ChainedScheduler(
        [SCHEDULERS.ConstantLR(o, 0.5, 2), SCHEDULERS.ExponentialLR(o, 0.9)]
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["adam", MOMENTUM])
def test_a_step_goes_on_from_its_state_as_if_nothing_had_happened(schedule, optimizer, tmp_path):
    """Through a real checkpoint: that is what states are for."""
    from lianhe.core.checkpoint import load_checkpoint, save_checkpoint

    def run(start, rounds, state=None):
        step = Descend(start, optimizer, 0.1, SCHEDULES[schedule])
        if state is not None:
            step.load_state_dict(state)
        rates = []
        for k in rounds:
            step.apply(start, {"encoder": gradient(k + 1)})
            rates.append(step.optimizer.param_groups[0]["lr"])
        return step, rates

    whole = joint()
    _, rates = run(whole, range(7))
    parts = joint()
    step, first = run(parts, range(3))
    save_checkpoint(tmp_path, step.state_dict())
    _, second = run(parts, range(3, 7), load_checkpoint(tmp_path))
    assert first + second == rates
    assert torch.equal(parts.blocks["encoder"]["w"], whole.blocks["encoder"]["w"])


def test_add_adds_and_replace_replaces():
    ours = joint()
    before = ours.blocks["head"]["w"]
    moved = Add(0.5).apply(ours, {"head": gradient(), "s/statistics": {"mean": torch.ones(2, dtype=F64)}})
    assert moved.blocks["head"]["w"] is before
    torch.testing.assert_close(before.detach(), 1 + 0.5 * gradient()["w"])
    assert moved.blocks["s/statistics"]["mean"].tolist() == [1, 1]
    replaced = Replace().apply(ours, {"head": gradient()})
    assert replaced.blocks["encoder"] is ours.blocks["encoder"]
    assert torch.equal(replaced.blocks["head"]["w"], gradient()["w"])
    assert replaced.statistics == ours.statistics
    assert ours.blocks["head"]["w"] is before
    assert Add().state_dict() == Replace().state_dict() == {}


@pytest.mark.parametrize("lr", [0, -1, float("nan"), "1", True])
def test_add_wants_a_positive_learning_rate(lr):
    with pytest.raises(SpecError, match="lr of Add"):
        Add(lr)


def test_optimizers_come_by_name_or_by_callable():
    p = [nn.Parameter(torch.zeros(1))]
    for name, kind in OPTIMIZERS.items():
        made = make_optimizer(name, iter(p), 0.25)
        assert type(made) is kind
        assert made.param_groups[0]["lr"] == 0.25
    assert isinstance(make_optimizer(torch.optim.RMSprop, p, 0.1), torch.optim.RMSprop)
    with pytest.raises(UnknownNameError, match="unknown optimizer 'sdg': did you mean 'sgd'"):
        make_optimizer("sdg", p, 0.1)


def test_nothing_to_optimise_is_refused():
    with pytest.raises(SpecError, match="no parameter to optimise"):
        Descend(Joint({"s/statistics": {"mean": torch.zeros(1)}}, frozenset(["s/statistics"])))
