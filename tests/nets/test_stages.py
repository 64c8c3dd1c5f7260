"""Tasks at different depths of one encoder."""

from __future__ import annotations

import pytest
import torch
from tests.toys import LOSS, assert_close, seeded, table, weights_of
from torch import nn

from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.spec import Spec
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import MLP, ConvNet, Pick, Stages, stages_of
from lianhe.participants import Task


def test_outputs_of_all_stages() -> None:
    layers = [nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(3, 2)]
    x = torch.randn(6, 4)
    first, second, third = Stages(layers)(x)
    torch.testing.assert_close(first, layers[0](x))
    torch.testing.assert_close(second, layers[1](first))
    torch.testing.assert_close(third, layers[2](second))


def test_a_stage_with_one_task_above_it_is_that_tasks() -> None:
    layers = [nn.Linear(4, 4) for _ in range(4)]
    encoder = Stages(layers, depths={"a": 0, "b": 2, "c": -1})
    own = {t: sorted({n.split(".")[1] for n in ps}) for t, ps in encoder.private().items()}
    assert own == {"c": ["3"]}
    assert Stages(layers, depths={"a": 0, "c": 3}).private()["c"].keys() == {
        f"stages.{i}.{n}" for i in (1, 2, 3) for n in ("weight", "bias")
    }
    assert Stages(layers).private() == {}


def test_a_task_on_a_lower_stage_does_not_teach_the_upper_ones() -> None:
    encoder = seeded(lambda: Stages(MLP(4, [6, 5])), 0)
    heads = {
        "size": Pick(0, seeded(lambda: nn.Linear(6, 1), 1)),
        "kind": Pick(-1, seeded(lambda: nn.Linear(5, 3), 2)),
    }
    given = Spec([Task(t, h, LOSS[t]) for t, h in heads.items()], encoder=encoder, data=table(), rounds=5)
    shared, loop = (weights_of(fit(given, engine=engine)) for engine in (SharedEngine(), LoopEngine()))
    assert_close(shared, loop)
    alone = given.replace(participants=[given.participants[0]])
    lower = weights_of(fit(alone, engine=SharedEngine()))
    for name, before in encoder.stages[1].named_parameters("encoder.stages.1"):
        assert torch.equal(lower[name], before)
        assert not torch.equal(shared[name], before)


@pytest.mark.parametrize(
    ("encoder", "sizes"),
    [
        (MLP(4, [6, 5], outputs=3, dropout=0.1), [3, 3, 1]),
        (ConvNet(1, [3, 4]), [1, 2]),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 3)), [4, 1]),
        (nn.Sequential(nn.ReLU()), [1]),
    ],
)
def test_a_sequence_is_cut_before_every_weight_matrix(encoder, sizes) -> None:
    stages = stages_of(encoder)
    whole = list(encoder)
    lengths = [len(s) if isinstance(s, nn.Sequential) and s not in whole else 1 for s in stages]
    assert lengths == sizes
    assert sum(p.numel() for s in stages for p in s.parameters()) == sum(
        p.numel() for p in encoder.parameters()
    )


def test_lists_and_other_modules_are_left_as_they_are() -> None:
    layers = [nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4)]
    assert stages_of(layers) == layers
    assert stages_of(nn.ModuleList(layers)) == layers
    assert stages_of(layers[1]) == [layers[1]]


def test_wrong_depths_are_refused() -> None:
    layers = [nn.Linear(4, 4), nn.Linear(4, 4)]
    with pytest.raises(SpecError, match=r"depths\['a'\]=2: there are 2 stages"):
        Stages(layers, depths={"a": 2})
    with pytest.raises(SpecError, match=r"depths\['a'\]=-1: must be"):
        Stages(layers, depths={"a": -3})
    with pytest.raises(SpecError, match="no task reaches the last of 2 stages"):
        Stages(layers, depths={"a": 0})
