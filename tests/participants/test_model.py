"""Encoder, heads, and their tensors as blocks; losses that leave missing labels out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tests.toys import CPU, F64, MISSING, assert_same, head, net, table
from torch import nn

from lianhe.core.errors import SpecError
from lianhe.core.streams import Stream, untouched_global_state
from lianhe.participants import LOSSES, HardSharing
from lianhe.participants.losses import mean_loss
from lianhe.participants.model import blocks_of, dry_run, fresh, joint_of


def model(**options):
    return HardSharing(
        net(**options), {"a.b": head(1), "statistics": nn.Sequential(nn.BatchNorm1d(5).double(), head(3))}
    )


def test_blocks_are_the_live_tensors_of_encoder_and_heads():
    made = model(norm=True)
    blocks = blocks_of(made)
    assert set(blocks) == {
        "encoder",
        "encoder/statistics",
        "head.a.b",
        "head.statistics",
        "head.statistics/statistics",
    }
    assert blocks["encoder"]["0.weight"] is made.encoder[0].weight
    assert blocks["encoder/statistics"]["1.running_mean"] is made.encoder[1].running_mean
    parameters = [t for b, ts in blocks.items() if "/" not in b for t in ts.values()]
    assert {id(t) for t in parameters} == {id(p) for p in made.parameters()}


def test_frozen_parameters_belong_to_no_block():
    made = model()
    made.encoder[0].requires_grad_(False)
    made.head("a.b").requires_grad_(False)
    blocks = blocks_of(made)
    assert set(blocks["encoder"]) == {"2.weight", "2.bias"}
    assert "head.a.b" not in blocks


def test_the_joint_knows_statistics_and_leaves_out_what_is_personal():
    joint = joint_of(model(norm=True))
    assert joint.statistics == {"encoder/statistics", "head.statistics/statistics"}
    without = joint_of(model(norm=True), ["encoder"])
    assert set(without.blocks) == {"head.a.b", "head.statistics", "head.statistics/statistics"}
    assert without.statistics == {"head.statistics/statistics"}


def test_heads_answer_by_task_under_any_name():
    made = model().eval()
    x = table(6)[0]
    found = made(x)
    assert list(found) == ["a.b", "statistics"]
    assert torch.equal(found["a.b"], made.head("a.b")(made.encoder(x)))
    plain = HardSharing(None, {"t": head(1, inputs=4)})
    assert plain(x)["t"].shape == (6, 1)


def test_a_copy_is_fresh_and_drawn_by_its_stream_alone():
    given = net()
    with untouched_global_state():
        copied = fresh(given, Stream(0), CPU, reinitialise=False)
        drawn = [fresh(given, Stream(s), CPU, reinitialise=True).double() for s in (0, 0, 1)]
        made = [fresh(net, Stream(s), CPU, reinitialise=False) for s in (0, 1)]
    assert_same(dict(copied.state_dict()), dict(given.state_dict()))
    assert copied[0].weight is not given[0].weight
    assert_same(dict(drawn[0].state_dict()), dict(drawn[1].state_dict()))
    assert not torch.equal(drawn[0][0].weight, drawn[2][0].weight)
    assert not torch.equal(drawn[0][0].weight, given[0].weight)
    assert_same(dict(made[0].state_dict()), dict(made[1].state_dict()))  # `net` has a seed of its own


def test_what_is_frozen_keeps_its_weights_when_the_rest_is_drawn_anew():
    given = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 2))
    drawn = fresh(given, Stream(0), CPU, reinitialise=True)
    assert torch.equal(drawn[0].weight, given[0].weight)
    assert not torch.equal(drawn[1].weight, given[1].weight)


def test_a_part_that_cannot_draw_new_weights_is_named():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

    with pytest.raises(
        SpecError, match="part '1' of the model, a Scaled, has parameters but no reset_parameters"
    ):
        fresh(nn.Sequential(nn.Linear(2, 2), Scaled()), Stream(0), CPU, reinitialise=True)
    with pytest.raises(SpecError, match="gave a int: expected a function that makes a torch module"):
        fresh(lambda: 5, Stream(0), CPU, reinitialise=False)


class Fails(nn.Module):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        raise self.error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), ValueError("x"), TypeError("x"), IndexError("x"), KeyError("x"), AttributeError("x")],
)
def test_a_dry_run_names_what_refuses_its_input_and_restores_modes(error):
    encoder, bad = net().train(), Fails(error)
    with pytest.raises(SpecError, match=r"the head of task 'bad' refuses its input of shape \(2, 5\)"):
        dry_run(encoder, {"bad": bad}, table(2)[0])
    assert encoder.training
    assert bad.training
    with pytest.raises(SpecError, match="the encoder refuses its input of shape dict"):
        dry_run(bad, {}, {"a": torch.zeros(2)})


# ------------------------------------------------------------------------ losses


def targets(loss, rows=17, missing=True):
    g = torch.Generator().manual_seed(1)
    gone = torch.rand(rows, generator=g) < (0.4 if missing else 0)
    if loss == "cross_entropy":
        prediction, target = (
            torch.randn(rows, 3, generator=g, dtype=F64),
            torch.randint(3, (rows,), generator=g),
        )
        target[gone] = MISSING
    else:
        prediction = torch.randn(rows, 1, generator=g, dtype=F64)
        target = torch.rand(rows, generator=g, dtype=F64)
        target[gone] = torch.nan
    return prediction.requires_grad_(), target, ~gone


PLAIN = {
    "cross_entropy": F.cross_entropy,
    "binary_cross_entropy": lambda p, y: F.binary_cross_entropy(p[:, 0].sigmoid(), y),
    "mse": lambda p, y: (p[:, 0] - y).square().mean(),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_missing_labels_count_nowhere(loss):
    prediction, target, there = targets(loss)
    ours, plain = (
        mean_loss(loss, "t")(prediction, target, False),
        PLAIN[loss](prediction[there], target[there]),
    )
    torch.testing.assert_close(ours, plain, rtol=1e-12, atol=0)
    ours_gradient, plain_gradient = (torch.autograd.grad(v, prediction)[0] for v in (ours, plain))
    torch.testing.assert_close(ours_gradient, plain_gradient, rtol=1e-12, atol=1e-15)
    assert not ours_gradient[~there].any()
    complete = targets(loss, missing=False)
    for told in (True, False):
        whole = mean_loss(loss, "t")(complete[0], complete[1], told)
        torch.testing.assert_close(whole, PLAIN[loss](complete[0], complete[1]), rtol=1e-12, atol=0)


def test_a_loss_of_the_users_own_sees_only_rows_with_a_label():
    seen = []

    def mine(prediction, target):
        seen.append(len(target))
        return (prediction[:, 0] - target).abs()

    prediction, target, there = targets("mse")
    ours = mean_loss(mine, "t")(prediction, target, False)
    assert seen == [int(there.sum())]
    torch.testing.assert_close(ours, (prediction[there, 0] - target[there]).abs().mean())
