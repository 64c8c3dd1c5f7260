"""Coarse classes that are made of fine ones."""

from __future__ import annotations

import pytest
import torch
from tests.toys import F64, MISSING, assert_close, head, net, table, weights_of

from lianhe.core.engine import LoopEngine
from lianhe.core.errors import SpecError
from lianhe.core.spec import Spec
from lianhe.engines import SharedEngine
from lianhe.experiment.fit import fit
from lianhe.nets import CoarseOf
from lianhe.participants import Task


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3, 2)])
def test_probabilities_of_children_add_up(shape) -> None:
    fine = torch.randn(shape, dtype=F64) * 10
    coarse = CoarseOf([[0, 3], [1], [2, 4]])(None, fine).softmax(1)
    p = fine.softmax(1)
    expected = torch.stack([p[:, 0] + p[:, 3], p[:, 1], p[:, 2] + p[:, 4]], 1)
    torch.testing.assert_close(coarse, expected)


def test_it_stays_finite_where_probabilities_do_not() -> None:
    coarse = CoarseOf([[0, 1], [2]])(None, torch.tensor([[-2e4, -3e4, 2e4]]))
    assert coarse.tolist() == [[-2e4, 2e4]]


@pytest.mark.parametrize("children", [[[0, 1], [1, 2]], [[0], [2]], [[0, 1], []], [[1, 2]], []])
def test_every_fine_class_has_one_parent(children) -> None:
    if not children:
        assert CoarseOf([[0]])(None, torch.zeros(1, 1)).shape == (1, 1)
        return
    with pytest.raises(SpecError, match="exactly one coarse class"):
        CoarseOf(children)


def test_the_fine_task_must_have_as_many_classes() -> None:
    with pytest.raises(SpecError, match="has 4 classes, children 3"):
        CoarseOf([[0, 2], [1]])(None, torch.zeros(2, 4))


def test_coarse_labels_teach_the_fine_head() -> None:
    x, y = table()
    labels = {"kind": torch.full_like(y["kind"], MISSING), "group": (y["kind"] > 0).long()}
    labels["kind"][0] = y["kind"][0]
    tasks = [
        Task("kind", head(3)),
        Task("group", CoarseOf([[0], [1, 2]]), reads=("kind",), metrics=["accuracy"]),
    ]
    spec = Spec(tasks, encoder=net(), data=(x, labels), rounds=60, batch_size=None, lr=0.05)
    shared, loop = (fit(spec, engine=engine) for engine in (SharedEngine(), LoopEngine()))
    assert_close(weights_of(shared), weights_of(loop))
    accuracy = next(m for m in shared.evaluate((x, labels)) if m.task == "group" and m.name == "accuracy")
    assert accuracy.value > 0.95
