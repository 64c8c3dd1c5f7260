"""Cross-stitch networks, against a loop over columns."""

from __future__ import annotations

import pytest
import torch
from tests.nets.cases import IMAGES, TASKS, VECTORS, built, images, make_stages, pooled, spec
from tests.toys import LOSS, assert_close, seeded, table, weights_of
from torch import nn

from lianhe.core.errors import SpecError
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import MLP, ConvNet, CrossStitch
from lianhe.participants import Task


def _expected(encoder: nn.Module, head: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """x_t ← Σ_u A_tu x_u after every stage, entry by entry."""
    outputs = [x] * len(TASKS)
    for number in range(2):
        outputs = [encoder.columns[t][number](outputs[t]) for t in range(len(TASKS))]
        if number == 0:
            a = encoder.stitches[0].weight
            outputs = [sum(_entry(a[t, u], outputs[u]) for u in range(len(TASKS))) for t in range(len(TASKS))]
    return head.tower(sum(_entry(head.stitch.weight[0, u], outputs[u]) for u in range(len(TASKS))))


def _entry(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A number, or one a channel."""
    return weight * x if weight.ndim == 0 else weight.view(1, -1, *[1] * (x.ndim - 2)) * x


@pytest.mark.parametrize("name", ["crossstitch", "crossstitch by channel"])
def test_columns_equal_the_loop(name) -> None:
    encoder, heads = built(VECTORS[name])
    x, _ = table(6)
    for head in heads.values():
        torch.testing.assert_close(head(encoder(x)), _expected(encoder, head, x))


@pytest.mark.parametrize("channels", [None, (3, 5)])
def test_columns_equal_the_loop_on_images(channels) -> None:
    sharing = CrossStitch(IMAGES["crossstitch"].make_stages, TASKS, channels=channels)
    encoder, heads = built(sharing, wrap=pooled)
    x, _ = images(4)
    for head in heads.values():
        torch.testing.assert_close(head(encoder(x)), _expected(encoder, head, x))


def test_columns_that_keep_everything_are_separate_networks() -> None:
    sharing = CrossStitch(make_stages, TASKS, keep=1.0)
    encoder = seeded(sharing.encoder, 0)
    x, _ = table(10)
    for number, task in enumerate(TASKS):
        head = seeded(lambda t=task: sharing.head(t), 1)
        alone = encoder.columns[number][1](encoder.columns[number][0](x))
        torch.testing.assert_close(head(encoder(x)), alone, rtol=0, atol=0)


def test_separate_columns_that_stay_so_learn_what_a_task_learns_alone() -> None:
    sharing = CrossStitch(make_stages, TASKS, keep=1.0)
    encoder, head = seeded(sharing.encoder, 0), seeded(lambda: sharing.head("flag", nn.Linear(5, 1)), 1)
    for stitch in (encoder.stitches, head.stitch):
        stitch.requires_grad_(False)
    given = spec(sharing, table(), rounds=5)
    joint = given.replace(participants=[Task("flag", head, LOSS["flag"])], encoder=encoder)
    column = nn.Sequential(*encoder.columns[2])
    alone = joint.replace(participants=[Task("flag", head.tower, LOSS["flag"])], encoder=column)
    ours, theirs = (weights_of(fit(s, engine=SharedEngine())) for s in (joint, alone))
    ours = {n.replace("columns.2.", "").replace("tower.", ""): t for n, t in ours.items()}
    assert_close({n: ours[n] for n in theirs}, theirs)


def test_rows_sum_to_one_to_begin_with() -> None:
    encoder = CrossStitch(make_stages, TASKS, keep=0.8, channels=[6, 5]).encoder()
    weight = encoder.stitches[0].weight
    torch.testing.assert_close(weight.sum(1), torch.ones(3, 6))
    torch.testing.assert_close(weight.diagonal().mT, torch.full((3, 6), 0.8))


def test_a_single_task_has_nothing_to_stitch() -> None:
    sharing = CrossStitch(make_stages, ["a"])
    encoder, head = sharing.encoder(), sharing.head("a")
    x = torch.randn(3, 4)
    torch.testing.assert_close(head(encoder(x)), encoder.columns[0][1](encoder.columns[0][0](x)))


def test_a_sequence_is_cut_into_stages() -> None:
    assert len(CrossStitch(lambda: MLP(4, [6, 5, 3]), TASKS).encoder().stitches) == 2
    assert len(CrossStitch(lambda: ConvNet(1, [3, 4, 5]), TASKS).encoder().stitches) == 2


def test_wrong_options_are_refused() -> None:
    with pytest.raises(SpecError, match="keep=1.5"):
        CrossStitch(make_stages, TASKS, keep=1.5)
    with pytest.raises(SpecError, match="1 channels for 2 stages"):
        CrossStitch(make_stages, TASKS, channels=[6]).encoder()
